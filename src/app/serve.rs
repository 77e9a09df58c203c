//! What a running pgweir does beside its clients: accept, probe, keep the pools, answer Prometheus.

use std::future::Future;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use super::build;
use super::operator::Operator;
use super::{Bound, Ending, StartError};
use crate::admin;
use crate::admin::http::{self, DatabaseHealth};
use crate::client::{self, Shared};
use crate::clock::{Duration, now};
use crate::config::Config;
use crate::counter::{Books, Journal};
use crate::metrics::Metrics;
use crate::net::{Listener, Stream};
use crate::pool::Keeper;

/// Pause after an accept that failed: out of descriptors, most likely, which passes when a client leaves.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest that clients wait at the start for what the journal has from before.
const RESUME: Duration = Duration::from_secs(10);

/// Pause between looks at that.
const RESUME_PAUSE: Duration = Duration::from_millis(10);

/// Least time that increments get to be flushed at the end, when clients have taken all of `shutdown_timeout`.
const LAST_FLUSH: Duration = Duration::from_secs(2);

/// Everything that listens, and what it serves.
pub(super) struct Service {
    shared: Arc<Shared>,
    operator: Arc<Operator>,
    listeners: Vec<Listener>,
    metrics: Option<TcpListener>,
    handles: Vec<Handle>,
    shutdown_timeout: Duration,
}

impl Service {
    /// Builds and listens.
    pub(super) async fn new(config: Config, handles: Vec<Handle>) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        for address in &config.listen {
            let bound = Listener::bind(address).await;
            listeners
                .extend(bound.map_err(|source| StartError::Listen { address: address.clone(), source })?);
        }
        let metrics = match config.metrics_listen {
            Some(address) => Some(
                TcpListener::bind(address).await.map_err(|source| StartError::Metrics { address, source })?,
            ),
            None => None,
        };
        let shutdown_timeout = config.shutdown_timeout;
        let desk = Arc::new(admin::Desk::new(config.admin.clone()));
        let registry = Metrics::new();
        let journal = config.journal.as_ref().map(|options| Journal::open(options, registry.journal()));
        let books = Arc::new(Books::new(journal.transpose()?));
        let shared = build::shared(&config, handles.len(), desk.clone(), registry, books);
        let operator = Operator::start(shared.clone(), config, Handle::current());
        let means: Arc<dyn admin::Means> = operator.clone();
        desk.employ(Arc::downgrade(&means));
        resume(&shared).await;
        Ok(Self { shared, operator, listeners, metrics, handles, shutdown_timeout })
    }

    /// Where it listens.
    pub(super) fn bound(&self) -> Bound {
        Bound {
            clients: self.listeners.iter().filter_map(Listener::local_address).collect(),
            metrics: self.metrics.as_ref().and_then(|listener| listener.local_addr().ok()),
        }
    }

    /// Serves until `stop` is ready, and for as long as that lets clients go on; then everything is dropped.
    pub(super) async fn run(self, stop: impl Future<Output = Ending>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.operator.clone().listen());
        tasks.spawn(Keeper::new(self.shared.pools.clone()).run());
        tasks.spawn(upkeep(self.shared.clone()));
        if let Some(listener) = self.metrics {
            let shared = self.shared.clone();
            let metrics = shared.metrics.clone();
            tasks.spawn(async move {
                let forever = std::future::pending();
                if let Err(error) = http::serve(listener, metrics, move || health(&shared), forever).await {
                    tracing::error!(%error, "the metrics listener broke");
                }
            });
        }
        let turn = Arc::new(AtomicUsize::new(0));
        let mut doors = JoinSet::new();
        for listener in self.listeners {
            let door =
                Door { handles: self.handles.clone(), turn: turn.clone(), shared: self.shared.clone() };
            doors.spawn(door.open(listener));
        }
        if let Ending::Gently(hurry) = stop.await {
            let began = now();
            doors.shutdown().await;
            let over = tokio::time::timeout(self.shutdown_timeout, self.shared.drain());
            let done = tokio::select! {
                over = over => over.is_ok(),
                () = hurry => false,
            };
            if !done {
                tracing::warn!(
                    clients = self.shared.sessions(),
                    "these were not done: their connections are closed"
                );
            }
            let books = &self.shared.books;
            let flushed = Books::flush(books.of(None));
            let left = self.shutdown_timeout.saturating_sub(began.elapsed()).max(LAST_FLUSH);
            if !matches!(tokio::time::timeout(left, flushed).await, Ok(Ok(()))) {
                let lost = books.only_here();
                tracing::error!(
                    lost,
                    "increments could not be flushed in time: those in the journal come at the next start, as many as this may be lost"
                );
            }
        }
    }
}

/// Carries out what the journal has from before, and waits a little for it.
async fn resume(shared: &Arc<Shared>) {
    shared.books.resume(|definition| {
        let metrics = shared.metrics.counter(&definition.entry, &definition.table);
        (client::Reach::of(shared, definition), metrics)
    });
    let deadline = now() + RESUME;
    while !shared.books.is_resumed() {
        if now() >= deadline {
            tracing::warn!(
                "what the journal has from before could not be carried out yet: clients are served meanwhile"
            );
            return;
        }
        sleep(RESUME_PAUSE).await;
    }
}

/// Lets clients in and deals them out to the workers, each in turn.
struct Door {
    handles: Vec<Handle>,
    turn: Arc<AtomicUsize>,
    shared: Arc<Shared>,
}

impl Door {
    async fn open(self, listener: Listener) {
        loop {
            match listener.accept().await {
                Ok(stream) => self.admit(stream),
                Err(error) => {
                    tracing::warn!(%error, "could not accept a client");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: Stream) {
        let shared = self.shared.clone();
        let at = self.turn.fetch_add(1, Ordering::Relaxed) % self.handles.len().max(1);
        let Some(handle) = self.handles.get(at) else { return };
        if at == 0 {
            // This worker's own: the stream is registered here already.
            handle.spawn(client::serve(stream, shared));
            return;
        }
        // A socket belongs to the runtime that it was registered with: it is taken out here and registered there.
        match stream.detach() {
            Ok(detached) => {
                handle.spawn(async move {
                    match detached.attach() {
                        Ok(stream) => client::serve(stream, shared).await,
                        Err(error) => tracing::warn!(%error, "a client could not be handed over"),
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "a client could not be handed over"),
        }
    }
}

/// What the metrics need once a second.
async fn upkeep(shared: Arc<Shared>) {
    let mut second = interval(Duration::from_secs(1));
    let mut disagreements = 0;
    loop {
        second.tick().await;
        shared.metrics.upkeep();
        shared.books.observe();
        shared.judge.expire(now());
        shared.judge.shapes().sweep();
        let seen = shared.judge.disagreements();
        for _ in disagreements..seen {
            shared.metrics.judge_disagreed();
        }
        disagreements = seen;
    }
}

/// Whether each database can be used now.
fn health(shared: &Shared) -> Vec<DatabaseHealth> {
    let databases = shared.databases.all();
    databases
        .iter()
        .map(|database| {
            let view = database.cluster.view();
            let (primary, replicas) = (view.primary(), view.replicas().count());
            DatabaseHealth {
                name: database.name.to_string(),
                usable: primary.is_some() || replicas > 0,
                detail: format!(
                    "primary: {}, replicas: {replicas}",
                    primary
                        .and_then(|node| view.server(node))
                        .map_or("none", |server| server.address.as_str())
                ),
            }
        })
        .collect()
}
