//! What the operator chooses about probing.

use std::time::Duration;

use crate::server::Login;

/// How servers are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// As whom.
    pub login: Login,
    /// The database to connect to; any one that exists on every server will do.
    pub database: String,
    /// Pause between probes of a server that is up.
    pub interval: Duration,
    /// Longest that a probe, connecting included, may take before the server counts as down.
    pub timeout: Duration,
}
