//! A histogram of the data path: three atomic adds. The exporter's own keeps each observation until somebody looks, which
//! costs several times that and memory besides.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::BUCKETS;
use super::table::Row;

/// How many observations fell between which bounds.
pub(super) struct Spread {
    /// One for each bound, and one for what is above the last.
    counts: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
    /// The label pairs, as they stand between the braces.
    labels: String,
}

impl Spread {
    /// An empty one. Values of labels are escaped as the text format wants it.
    pub(super) fn new(row: &Row, values: &[&str]) -> Self {
        debug_assert_eq!(row.labels.len(), values.len(), "{} has other labels", row.name);
        let mut labels = String::new();
        for (name, value) in row.labels.iter().zip(values) {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(labels, "{name}=\"{value}\",");
        }
        Self { counts: Default::default(), nanoseconds: AtomicU64::new(0), labels }
    }

    /// One observation.
    pub(super) fn record(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let seconds = time.as_secs_f64();
        let at = BUCKETS.partition_point(|bound| seconds > *bound);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// The lines of the text format, without help and type.
    pub(super) fn render(&self, name: &str, out: &mut String) {
        let labels = &self.labels;
        let mut total = 0;
        let bounds = BUCKETS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (count, bound) in self.counts.iter().zip(bounds) {
            total += count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels}le=\"{bound}\"}} {total}");
        }
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        let labels = labels.trim_end_matches(',');
        let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}");
    }
}
