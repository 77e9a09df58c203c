//! Tests against real PostgreSQL servers, one module per promise. Each test starts its own cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "these are tests, their helper functions too"
)]

mod fixture;
mod monitor;
mod protocol;
mod wire;
