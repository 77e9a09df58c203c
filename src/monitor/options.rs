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

/// How servers of a cluster are found beside those that the operator has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    /// Servers are asked who replicates from whom.
    pub replication: bool,
    /// Host names are asked for all of their addresses.
    pub dns: bool,
    /// Pause between looks.
    pub every: Duration,
    /// Where standbys are looked for beside the ports of servers that are known: what PostgreSQL tells of them lacks it.
    pub ports: Vec<u16>,
    /// Most servers that are found.
    pub most: usize,
}

impl Default for Discover {
    fn default() -> Self {
        let every = Duration::from_secs(30);
        Self { replication: false, dns: false, every, ports: Vec::new(), most: 16 }
    }
}

impl Discover {
    /// Whether anything is looked for.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.replication || self.dns
    }

    /// How long a server that nobody reports any more has to be down until it is given up.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.every * 3
    }
}
