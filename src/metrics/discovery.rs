//! What is counted of the search for servers.

use ::metrics::{Counter, Gauge};

use super::{Registry, table};

/// Why something was not found, or was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undiscovered {
    /// A host name could not be resolved.
    Dns,
    /// The monitor's role may not see who replicates.
    Denied,
    /// A standby was reported, and nobody answered there.
    Unreachable,
    /// Who answered is no copy of the cluster, or would not tell.
    Foreign,
    /// There are as many as there may be.
    Full,
}

const WHY: [(Undiscovered, &str); 5] = [
    (Undiscovered::Dns, "dns"),
    (Undiscovered::Denied, "denied"),
    (Undiscovered::Unreachable, "unreachable"),
    (Undiscovered::Foreign, "foreign"),
    (Undiscovered::Full, "full"),
];

/// The handles of one database.
pub struct DiscoveryMetrics {
    found: [Gauge; 2],
    failures: [(Undiscovered, Counter); 5],
}

impl DiscoveryMetrics {
    pub(super) fn new(registry: &Registry, database: &str) -> Self {
        let counter = |why| registry.counter(&table::DISCOVERY_FAILURES, &[database, why]);
        Self {
            found: ["dns", "replication"]
                .map(|origin| registry.gauge(&table::DISCOVERED, &[database, origin])),
            failures: WHY.map(|(which, why)| (which, counter(why))),
        }
    }

    /// So many of its servers were found.
    pub fn found(&self, by_dns: usize, by_replication: usize) {
        let [dns, replication] = &self.found;
        dns.set(by_dns as f64);
        replication.set(by_replication as f64);
    }

    /// Something was not.
    pub fn failed(&self, why: Undiscovered) {
        self.failures.iter().filter(|(which, _)| *which == why).for_each(|(_, counter)| counter.increment(1));
    }
}
