//! What is counted for the journal.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram};

use super::{Registry, table};

/// The handles of the journal.
pub struct JournalMetrics {
    bytes: Gauge,
    written: Counter,
    syncs: Histogram,
    failures: Counter,
}

impl JournalMetrics {
    pub(super) fn new(registry: &Arc<Registry>) -> Self {
        Self {
            bytes: registry.gauge(&table::JOURNAL_BYTES, &[]),
            written: registry.counter(&table::JOURNAL_WRITTEN, &[]),
            syncs: registry.histogram(&table::JOURNAL_SYNC, &[]),
            failures: registry.counter(&table::JOURNAL_FAILURES, &[]),
        }
    }

    /// So many bytes were written and synced in that time.
    pub fn synced(&self, bytes: usize, time: Duration) {
        self.written.increment(bytes as u64);
        self.syncs.record(time);
    }

    /// They could not be.
    pub fn failed(&self) {
        self.failures.increment(1);
    }

    /// It is as large now.
    pub fn size(&self, bytes: u64) {
        self.bytes.set(bytes as f64);
    }
}
