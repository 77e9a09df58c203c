//! A histogram of durations: eight steps to each doubling, so a percentile is right within about 9 %.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const STEPS: f64 = 8.0;

/// From a microsecond to 2^26 (67 s); longer counts as that.
const BUCKETS: usize = 26 * 8 + 1;

/// Counts of durations.
#[derive(Debug)]
pub(super) struct Latency {
    buckets: Vec<AtomicU64>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

/// A reading of a [`Latency`].
#[derive(Clone, Debug, Default)]
pub(super) struct Reading(Vec<u64>);

impl Latency {
    /// Counts one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the logarithm of a number of at least one is small and not negative"
    )]
    pub(super) fn record(&self, time: Duration) {
        let micros = (time.as_secs_f64() * 1e6).max(1.0);
        let index = (micros.log2() * STEPS) as usize;
        if let Some(bucket) = self.buckets.get(index.min(BUCKETS - 1)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All counts so far.
    pub(super) fn reading(&self) -> Reading {
        Reading(self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect())
    }
}

impl Reading {
    /// What came after `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = earlier.0.iter().copied().chain(std::iter::repeat(0));
        Self(self.0.iter().zip(before).map(|(now, then)| now.saturating_sub(then)).collect())
    }

    /// The duration that this share of all did not exceed, in milliseconds; `None` without any.
    #[expect(clippy::cast_precision_loss, reason = "counts of a demo")]
    pub(super) fn percentile_ms(&self, share: f64) -> Option<f64> {
        let all: u64 = self.0.iter().sum();
        let mut below = 0;
        let index = self.0.iter().position(|&count| {
            below += count;
            below > 0 && below as f64 >= all as f64 * share
        })?;
        Some(((index + 1) as f64 / STEPS).exp2() / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_near() {
        let latency = Latency::default();
        assert_eq!(latency.reading().percentile_ms(0.5), None);
        (1..=100).for_each(|ms| latency.record(Duration::from_millis(ms)));
        let half = latency.reading();
        assert!((45.0..60.0).contains(&half.percentile_ms(0.5).unwrap()));
        assert!((90.0..115.0).contains(&half.percentile_ms(0.99).unwrap()));
        latency.record(Duration::from_secs(1_000_000));
        assert!(latency.reading().since(&half).percentile_ms(0.5).unwrap() > 60_000.0);
    }
}
