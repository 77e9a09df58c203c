//! Tests against real PostgreSQL servers, one module per promise. Each test starts its own cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "these are tests, their helper functions too"
)]

mod cancel;
mod counting;
mod failures;
mod fixture;
mod leaving;
mod memory;
mod monitor;
mod pooling;
mod proxy;
mod raw;
