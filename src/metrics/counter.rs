//! What is counted for each rule about counters.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram};

use super::{Registry, table};

/// The handles of one rule.
pub struct CounterMetrics {
    increments: Counter,
    passed: Counter,
    flushes: Counter,
    rows: Counter,
    failures: Counter,
    unmatched: Counter,
    accepted: Counter,
    lost: Counter,
    waiting: Gauge,
    oldest: Gauge,
    refused: Gauge,
    flush_time: Histogram,
}

impl std::fmt::Debug for CounterMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CounterMetrics").finish_non_exhaustive()
    }
}

impl CounterMetrics {
    pub(super) fn new(registry: &Arc<Registry>, database: &str, table: &str) -> Self {
        let labels = [database, table];
        Self {
            increments: registry.counter(&table::COUNTER_INCREMENTS, &labels),
            passed: registry.counter(&table::COUNTER_PASSED, &labels),
            flushes: registry.counter(&table::COUNTER_FLUSHES, &labels),
            rows: registry.counter(&table::COUNTER_ROWS, &labels),
            failures: registry.counter(&table::COUNTER_FAILURES, &labels),
            unmatched: registry.counter(&table::COUNTER_UNMATCHED, &labels),
            accepted: registry.counter(&table::COUNTER_ACCEPTED, &labels),
            lost: registry.counter(&table::COUNTER_LOST, &labels),
            waiting: registry.gauge(&table::COUNTER_WAITING, &labels),
            oldest: registry.gauge(&table::COUNTER_AGE, &labels),
            refused: registry.gauge(&table::COUNTER_REFUSED, &labels),
            flush_time: registry.histogram(&table::COUNTER_FLUSH_TIME, &labels),
        }
    }

    /// So many increments were committed as so many row updates, in one statement that took so long.
    pub fn flushed(&self, increments: usize, rows: usize, time: Duration) {
        self.increments.increment(increments as u64);
        self.rows.increment(rows as u64);
        self.flushes.increment(1);
        self.flush_time.record(time);
    }

    /// An increment goes by itself.
    pub fn passed(&self) {
        self.passed.increment(1);
    }

    /// An increment is answered before it is committed.
    pub fn accepted(&self) {
        self.accepted.increment(1);
    }

    /// So many of these are not committed yet; the first has waited for so long.
    pub fn waits(&self, increments: u64, oldest: Duration) {
        self.waiting.set(increments as f64);
        self.oldest.set(oldest.as_secs_f64());
    }

    /// So many of these are lost.
    pub fn lost(&self, increments: u64) {
        self.lost.increment(increments);
    }

    /// A statement failed.
    pub fn failed(&self) {
        self.failures.increment(1);
    }

    /// There was no row with the key of an increment.
    pub fn unmatched(&self) {
        self.unmatched.increment(1);
    }

    /// Whether the table's increments cannot be merged.
    pub fn refused(&self, refused: bool) {
        self.refused.set(if refused { 1.0 } else { 0.0 });
    }
}
