//! Tests that need no PostgreSQL: the law of the house, its dependencies, and peers that do not behave.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "these are tests, their helper functions too"
)]

mod dependencies;
mod fake;
mod fuzz;
mod hostile;
mod naive;
mod orm;
mod preface;
mod retries;
mod tidy;

use std::path::{Path, PathBuf};

/// The folder of the crate.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
