//! Time: one clock for the whole process, tokio's, so that a test can pause it. Pure code is given `now` as a value.

pub use std::time::Duration;

pub use tokio::time::Instant;

/// The present instant. The only place that asks for it.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}
