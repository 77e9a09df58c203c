//! What pgweir counts. One [`Metrics`] for one pgweir, made by `app` and passed down: nothing is global, so that two
//! pgweirs can live in one process.
//!
//! Handles are registered once and then kept: counting is an atomic add, without a lock and without an allocation.
//! Labels that clients choose (database, user) are bounded: beyond the limit they are counted as `other`.

mod catalog;
mod counter;
mod database;
mod discovery;
mod journal;
mod pool;
mod server;
mod spread;
pub mod table;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ::metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

pub use catalog::CatalogMetrics;
pub use counter::CounterMetrics;
pub use database::{DatabaseMetrics, Direction, Origin, PreparedWhat, RerunCause, SharedRead, TargetLabel};
pub use discovery::{DiscoveryMetrics, Undiscovered};
pub use journal::JournalMetrics;
pub use pool::{Occupancy, PoolMetrics};
pub use server::{RoleLabel, ServerMetrics};
use spread::Spread;
use table::{Kind, Row};

/// Upper bounds of the histograms' buckets, in seconds: from a cached page on a Unix socket to a report.
const BUCKETS: [f64; 18] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// Most databases with series of their own. Under `"*"` a client names the database, and series are never forgotten.
const MAX_DATABASES: usize = 256;

/// Most pools with series of their own; the same reason, with users and servers multiplied in.
const MAX_POOLS: usize = 2048;

/// The label of everything beyond the limits.
const OTHER: &str = "other";

const METADATA: Metadata<'static> = Metadata::new("pgweir", Level::INFO, None);

/// Everything that one pgweir counts.
pub struct Metrics {
    registry: Arc<Registry>,
    handle: PrometheusHandle,
    client_connections: Counter,
    judge_disagreements: Counter,
    reloads: [Counter; 2],
    databases: Mutex<HashMap<Arc<str>, Arc<DatabaseMetrics>>>,
    pools: Mutex<HashSet<PoolName>>,
    servers: Mutex<HashMap<Arc<str>, Arc<ServerMetrics>>>,
}

/// Database, user, server.
type PoolName = (Box<str>, Box<str>, Box<str>);

impl Metrics {
    /// An empty set.
    #[must_use]
    pub fn new() -> Arc<Self> {
        // `set_buckets` refuses only an empty list.
        let recorder = PrometheusBuilder::new()
            .set_buckets(&BUCKETS)
            .unwrap_or_else(|_| PrometheusBuilder::new())
            .build_recorder();
        let handle = recorder.handle();
        let registry = Arc::new(Registry { recorder, tallies: Mutex::default(), spreads: Mutex::default() });
        for row in table::ALL {
            registry.describe(row);
        }
        registry.gauge(&table::BUILD_INFO, &[env!("CARGO_PKG_VERSION")]).set(1.0);
        Arc::new(Self {
            client_connections: registry.counter(&table::CLIENT_CONNECTIONS, &[]),
            judge_disagreements: registry.counter(&table::JUDGE_DISAGREEMENTS, &[]),
            reloads: ["failed", "ok"].map(|outcome| registry.counter(&table::RELOADS, &[outcome])),
            registry,
            handle,
            databases: Mutex::default(),
            pools: Mutex::default(),
            servers: Mutex::default(),
        })
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.registry.settle();
        let mut text = self.handle.render();
        self.registry.spread_out(&mut text);
        text
    }

    /// Sorts the histograms' observations into buckets. To be called about once a second: until then each takes 16 bytes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The handles of a database. Look them up once per client, not once per unit.
    #[must_use]
    pub fn database(&self, name: &str) -> Arc<DatabaseMetrics> {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        let name = if databases.contains_key(name) || databases.len() < MAX_DATABASES { name } else { OTHER };
        if let Some(found) = databases.get(name) {
            return Arc::clone(found);
        }
        let made = Arc::new(DatabaseMetrics::new(Arc::clone(&self.registry), name));
        databases.insert(name.into(), Arc::clone(&made));
        made
    }

    /// The handles of the catalogs of one entry. To be called once for each: entries come from the configuration.
    #[must_use]
    pub fn catalog(&self, entry: &str) -> Arc<CatalogMetrics> {
        Arc::new(CatalogMetrics::new(Arc::clone(&self.registry), entry))
    }

    /// The handles of the journal.
    #[must_use]
    pub fn journal(&self) -> JournalMetrics {
        JournalMetrics::new(&self.registry)
    }

    /// The handles of the search for servers of one entry, which comes from the configuration.
    #[must_use]
    pub fn discovery(&self, entry: &str) -> DiscoveryMetrics {
        DiscoveryMetrics::new(&self.registry, entry)
    }

    /// The handles of a rule about counters: entry and table come from the configuration.
    #[must_use]
    pub fn counter(&self, entry: &str, table: &str) -> Arc<CounterMetrics> {
        Arc::new(CounterMetrics::new(&self.registry, entry, table))
    }

    /// The handles of a pool: a new set for each call, which takes its part of the gauges back when it is dropped.
    #[must_use]
    pub fn pool(&self, database: &str, user: &str, server: &str) -> Arc<PoolMetrics> {
        let name: PoolName = (database.into(), user.into(), server.into());
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pools.contains(&name) || (pools.len() < MAX_POOLS && pools.insert(name));
        drop(pools);
        let labels = if known { [database, user, server] } else { [OTHER, OTHER, server] };
        Arc::new(PoolMetrics::new(Arc::clone(&self.registry), labels))
    }

    /// The handles of a server, which is named as its address is printed. Servers come from the configuration: no bound.
    #[must_use]
    pub fn server(&self, server: &str) -> Arc<ServerMetrics> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let made = servers
            .entry(server.into())
            .or_insert_with_key(|server| Arc::new(ServerMetrics::new(&self.registry, server)));
        Arc::clone(made)
    }

    /// A client connection was accepted.
    pub fn client_connected(&self) {
        self.client_connections.increment(1);
    }

    /// A client connection was turned away. `why` is a short constant, such as `too_many` or `authentication`.
    pub fn client_rejected(&self, why: &'static str) {
        self.registry.counter(&table::CLIENT_REJECTED, &[why]).increment(1);
    }

    /// The configuration was read again, or could not be.
    pub fn reloaded(&self, ok: bool) {
        let [failed, done] = &self.reloads;
        if ok { done } else { failed }.increment(1);
    }

    /// The second opinion turned a read into "primary".
    pub fn judge_disagreed(&self) {
        self.judge_disagreements.increment(1);
    }
}

/// The recorder, which is never installed, with our table's rows in place of free text.
/// A counter of the data path: one atomic add. The exporter's own counters cost three times that; they take the sum over
/// when somebody looks.
#[derive(Clone, Default)]
struct Tally(Arc<AtomicU64>);

impl Tally {
    #[inline]
    fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn take(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }
}

/// What a tally is shown as.
enum Shown {
    Counter(Counter),
    Gauge(Gauge),
}

struct Registry {
    recorder: PrometheusRecorder,
    tallies: Mutex<Vec<(Tally, Shown)>>,
    spreads: Mutex<Vec<(&'static Row, Arc<Spread>)>>,
}

impl Registry {
    fn describe(&self, row: &Row) {
        let (name, unit, help) = (row.name.into(), Some(row.unit), row.help.into());
        match row.kind {
            Kind::Counter => self.recorder.describe_counter(name, unit, help),
            Kind::Gauge => self.recorder.describe_gauge(name, unit, help),
            Kind::Histogram => self.recorder.describe_histogram(name, unit, help),
        }
    }

    fn counter(&self, row: &Row, values: &[&str]) -> Counter {
        debug_assert_eq!(row.kind, Kind::Counter);
        self.recorder.register_counter(&key(row, values), &METADATA)
    }

    /// A counter that is added to on the data path.
    fn tally(&self, row: &Row, values: &[&str]) -> Tally {
        self.show(Shown::Counter(self.counter(row, values)))
    }

    /// A gauge that goes up and down on the data path, never below zero.
    fn level(&self, row: &Row, values: &[&str]) -> Tally {
        self.show(Shown::Gauge(self.gauge(row, values)))
    }

    fn show(&self, shown: Shown) -> Tally {
        let tally = Tally::default();
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).push((tally.clone(), shown));
        tally
    }

    /// A histogram that is added to on the data path.
    fn spread(&self, row: &'static Row, values: &[&str]) -> Arc<Spread> {
        let spread = Arc::new(Spread::new(row, values));
        let mut spreads = self.spreads.lock().unwrap_or_else(PoisonError::into_inner);
        spreads.push((row, spread.clone()));
        // Those of one name have to stand together.
        spreads.sort_by_key(|(row, _)| row.name);
        spread
    }

    /// Writes those histograms out.
    fn spread_out(&self, text: &mut String) {
        let mut last = "";
        for (row, spread) in self.spreads.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let name = row.name;
            if last != name {
                text.push_str(&format!("# HELP {name} {}\n# TYPE {name} histogram\n", row.help));
                last = name;
            }
            spread.render(name, text);
        }
    }

    /// Brings what is shown up to date.
    fn settle(&self) {
        for (tally, shown) in self.tallies.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let now = tally.0.load(Ordering::Relaxed);
            match shown {
                Shown::Counter(counter) => counter.absolute(now),
                Shown::Gauge(gauge) => gauge.set(now as f64),
            }
        }
    }

    fn gauge(&self, row: &Row, values: &[&str]) -> Gauge {
        debug_assert_eq!(row.kind, Kind::Gauge);
        self.recorder.register_gauge(&key(row, values), &METADATA)
    }

    fn histogram(&self, row: &Row, values: &[&str]) -> Histogram {
        debug_assert_eq!(row.kind, Kind::Histogram);
        self.recorder.register_histogram(&key(row, values), &METADATA)
    }
}

fn key(row: &Row, values: &[&str]) -> Key {
    debug_assert_eq!(row.labels.len(), values.len(), "{} has other labels", row.name);
    let label = |(name, value): (&&'static str, &&str)| Label::new(*name, (*value).to_owned());
    Key::from_parts(row.name, row.labels.iter().zip(values).map(label).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
