//! What is counted per catalog: whether it is known, how large it is, how long reading it takes.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Histogram};

use super::{Registry, table};

/// The handles of one entry's catalogs.
pub struct CatalogMetrics {
    registry: Arc<Registry>,
    entry: Box<str>,
    reads: Histogram,
    failures: Counter,
}

impl CatalogMetrics {
    pub(super) fn new(registry: Arc<Registry>, entry: &str) -> Self {
        Self {
            reads: registry.histogram(&table::CATALOG_READ_TIME, &[entry]),
            failures: registry.counter(&table::CATALOG_FAILURES, &[entry]),
            entry: entry.into(),
            registry,
        }
    }

    /// A catalog was read in this time, and has this size now. `database` is its name on the servers.
    pub fn read(&self, database: &str, time: Duration, bytes: usize, objects: usize) {
        self.reads.record(time);
        let labels = [&*self.entry, database];
        self.registry.gauge(&table::CATALOG_BYTES, &labels).set(bytes as f64);
        self.registry.gauge(&table::CATALOG_OBJECTS, &labels).set(objects as f64);
    }

    /// It could not be read.
    pub fn failed(&self) {
        self.failures.increment(1);
    }

    /// Nobody uses it any more.
    pub fn dropped(&self, database: &str) {
        let labels = [&*self.entry, database];
        self.registry.gauge(&table::CATALOG_BYTES, &labels).set(0.0);
        self.registry.gauge(&table::CATALOG_OBJECTS, &labels).set(0.0);
    }
}
