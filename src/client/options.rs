//! What the operator chooses about clients.

use std::time::Duration;

/// Limits for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most clients at once; the next one gets 53300.
    pub max_connections: usize,
    /// Longest from connecting to being logged in.
    pub login_timeout: Duration,
    /// A client that sends nothing for this long outside a transaction is closed; zero: never.
    pub idle_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_connections: 10_000, login_timeout: Duration::from_secs(60), idle_timeout: Duration::ZERO }
    }
}
