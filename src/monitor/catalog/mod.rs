//! The catalogs of the databases that clients use: each is read from the primary, watched for changes, and read again.

mod keep;
mod load;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::warn;

pub(super) use load::Reader;
pub use load::Seen;

use crate::clock::{self, Duration};
use crate::metrics::CatalogMetrics;
use crate::monitor::{Cluster, Options};
use crate::route::{Catalog, Known};

/// A catalog that nobody has used for this long is dropped.
const UNUSED: Duration = Duration::from_secs(600);

/// What the operator chooses about catalogs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogOptions {
    /// Whether they are read at all.
    pub enabled: bool,
    /// Pause between looks for changes that did not come through this pgweir.
    pub check_interval: Duration,
    /// Oldest that a catalog may grow before it is read again, whether or not a change was seen.
    pub ttl: Duration,
    /// Most databases of one entry whose catalogs are kept.
    pub max_databases: usize,
    /// Functions that only read, whatever the catalog says.
    pub read_only_functions: Vec<String>,
    /// Functions for the primary, whatever the catalog says.
    pub write_functions: Vec<String>,
}

/// The catalog of one database, as it is known now.
pub struct Live {
    /// Grows whenever `known` changes, and with each change of definitions.
    version: AtomicU64,
    known: ArcSwap<Known>,
    /// How often a change of definitions was seen: what was read before the last one does not count. Held while `known` is
    /// put in its place.
    changes: Mutex<u64>,
    /// The primary has no such database.
    gone: AtomicBool,
    wake: Notify,
    /// Tells those who wait for it that something is known.
    learned: Notify,
}

impl Live {
    fn new(known: Known) -> Arc<Self> {
        Arc::new(Self {
            version: AtomicU64::new(1),
            known: ArcSwap::from_pointee(known),
            changes: Mutex::new(0),
            gone: AtomicBool::new(false),
            wake: Notify::new(),
            learned: Notify::new(),
        })
    }

    /// Of a database without a catalog.
    #[must_use]
    pub fn unused() -> Arc<Self> {
        Self::new(Known::Unused)
    }

    /// Grows whenever [`Live::known`] changes, and with each change of definitions: through this pgweir at once, by others when
    /// it is seen.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What is known.
    #[must_use]
    pub fn known(&self) -> Known {
        Known::clone(&self.known.load())
    }

    /// Waits until it is known.
    pub async fn learned(&self) {
        loop {
            let mut learned = pin!(self.learned.notified());
            learned.as_mut().enable();
            if !matches!(**self.known.load(), Known::Loading) {
                return;
            }
            learned.await;
        }
    }

    /// Definitions were changed through this pgweir: what was known is not believed any more, and is read again at once.
    pub fn changed(&self) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        if matches!(**self.known.load(), Known::Loaded(_)) {
            self.put(Known::Loading);
        } else {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
        drop(changes);
        self.wake.notify_one();
    }

    /// The primary has no such database: what was known of it says nothing of another one of that name.
    fn is_gone_now(&self) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        self.gone.store(true, Ordering::Relaxed);
        if matches!(**self.known.load(), Known::Loaded(_)) {
            self.put(Known::Loading);
        }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn changes(&self) -> u64 {
        *self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a catalog in its place that was read when `changes` was what it says. False: it has changed since.
    fn publish(&self, catalog: Catalog, changes: u64) -> bool {
        let now = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != changes {
            return false;
        }
        self.gone.store(false, Ordering::Relaxed);
        let same = matches!(&**self.known.load(), Known::Loaded(old) if old.version() == catalog.version());
        if !same {
            self.put(Known::Loaded(Arc::new(catalog)));
        }
        true
    }

    /// With `changes` locked.
    fn put(&self, known: Known) {
        self.known.store(Arc::new(known));
        self.version.fetch_add(1, Ordering::AcqRel);
        self.learned.notify_waiters();
    }
}

/// The catalogs of the databases behind one entry of the configuration.
pub struct Catalogs {
    options: CatalogOptions,
    monitor: Options,
    cluster: Arc<Cluster>,
    metrics: Arc<CatalogMetrics>,
    live: Mutex<HashMap<String, Arc<Live>>>,
    /// A database was added to `live`.
    added: Notify,
    /// It was said that there are too many.
    full: AtomicBool,
}

impl Catalogs {
    /// Of databases of that cluster. Nothing is read until [`Catalogs::run`] runs.
    #[must_use]
    pub fn new(
        options: CatalogOptions,
        monitor: Options,
        cluster: Arc<Cluster>,
        metrics: Arc<CatalogMetrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            options,
            monitor,
            cluster,
            metrics,
            live: Mutex::default(),
            added: Notify::new(),
            full: AtomicBool::new(false),
        })
    }

    /// The catalog of a database, by its name on the servers. Until it was read, nothing is known; nor ever, where there are
    /// too many.
    #[must_use]
    pub fn get(&self, database: &str) -> Arc<Live> {
        if !self.options.enabled {
            return Live::unused();
        }
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = live.get(database) {
            if known.is_gone() {
                // It may be there again.
                known.wake.notify_one();
            }
            return known.clone();
        }
        let new = Live::new(Known::Loading);
        if live.values().filter(|known| !known.is_gone()).count() >= self.options.max_databases {
            self.metrics.failed();
            if self.full.swap(true, Ordering::Relaxed) {
                return new;
            }
            warn!(
                database,
                "too many databases: its catalog is not read, and all reads go to the primary; raise catalog.max_databases"
            );
            return new;
        }
        live.insert(database.to_owned(), new.clone());
        drop(live);
        self.added.notify_one();
        new
    }

    /// Which databases' catalogs are kept, by name, and what is known of each.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Known)> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = live.iter().map(|(name, live)| (name.clone(), live.known())).collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Reads and watches the catalogs, until dropped.
    pub async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        let mut kept: Vec<String> = Vec::new();
        loop {
            let new: Vec<(String, Arc<Live>)> = {
                let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
                live.iter()
                    .filter(|(name, _)| !kept.contains(name))
                    .map(|(name, live)| (name.clone(), live.clone()))
                    .collect()
            };
            for (name, live) in new {
                kept.push(name.clone());
                let this = self.clone();
                tasks.spawn(async move {
                    this.keep(&name, &live).await;
                    name
                });
            }
            tokio::select! {
                () = self.added.notified() => {}
                Some(ended) = tasks.join_next() => match ended {
                    Ok(name) => kept.retain(|known| *known != name),
                    Err(error) => tracing::error!(%error, "a catalog's task ended"),
                },
            }
        }
    }

    /// Takes a database out that nobody has used since `since`, or that nobody uses and the primary has not. True: it is out.
    fn retire(&self, database: &str, live: &Arc<Live>, since: &mut clock::Instant) -> bool {
        let mut all = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        // One is held here and one there.
        let used = Arc::strong_count(live) > 2;
        if used {
            *since = clock::now();
        }
        let out = since.elapsed() > UNUSED || live.is_gone() && !used;
        if out {
            all.remove(database);
        }
        out
    }
}
