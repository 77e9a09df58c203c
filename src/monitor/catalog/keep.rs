//! Keeps one database's catalog: reads it, looks for changes, reads it again.

use std::sync::Arc;

use tokio::time::timeout;
use tracing::{info, warn};

use super::super::link::LinkError;
use super::load::Reader;
use super::{Catalogs, Live};
use crate::clock::{self, Duration, Instant};
use crate::cluster::View;
use crate::ids::Node;
use crate::route::Catalog;
use crate::route::catalog::Rows;

/// First pause after a failure; it doubles up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Pause between questions for a database that the primary has not, as long as clients of it are there: each is an error in the
/// server's log. Whoever comes has it asked for at once.
const GONE: Duration = Duration::from_secs(60);

/// Longest that reading a catalog may take.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Least distance of two reads: a migration of a thousand steps is not read a thousand times.
const LEAST_DISTANCE: Duration = Duration::from_millis(50);

/// Rows above which a catalog is built beside the clients: it takes more than some milliseconds.
const MANY: usize = 3_000;

/// What was read last, and from whom.
struct Last {
    read: Option<Instant>,
    fingerprint: String,
    changes: u64,
    node: Option<Node>,
}

impl Catalogs {
    /// Keeps a catalog until nobody uses it.
    pub(super) async fn keep(&self, database: &str, live: &Arc<Live>) {
        let mut last = Last { read: None, fingerprint: String::new(), changes: 0, node: None };
        let mut used = clock::now();
        let mut retry = FIRST_RETRY;
        while !self.retire(database, live, &mut used) {
            match self.look(database, live, &mut last).await {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    tokio::time::sleep(LEAST_DISTANCE).await;
                    self.rest(live, &last).await;
                }
                Err(error) if error.code() == Some("3D000") && self.cluster.view().primary().is_some() => {
                    info!(database, "the database is gone: its catalog is read when a client asks for it");
                    live.is_gone_now();
                    if Arc::strong_count(live) > 2 {
                        let _ = timeout(GONE, live.wake.notified()).await;
                    }
                }
                Err(error) => {
                    if retry == FIRST_RETRY {
                        warn!(
                            database,
                            %error,
                            "the catalog could not be read; until it can, what it would tell sends reads to the primary"
                        );
                    }
                    self.metrics.failed();
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
        self.metrics.dropped(database);
    }

    /// Looks whether there is something new, and reads it if so. The connection is not kept: it would stand in the way of
    /// DROP DATABASE, and take a place that a client could have.
    async fn look(&self, database: &str, live: &Live, last: &mut Last) -> Result<(), LinkError> {
        let node = self.server().await;
        let address = self.cluster.address(node).ok_or(LinkError::Nonsense)?;
        let late = |limit| move |_| LinkError::TimedOut(limit);
        let limit = self.monitor.timeout;
        let open = Reader::open(address, &self.monitor.login, database);
        let mut open = timeout(limit, open).await.map_err(late(limit))??;
        let changes = live.changes();
        let start = clock::now();
        let fingerprint = timeout(READ_TIMEOUT, open.fingerprint()).await.map_err(late(READ_TIMEOUT))??;
        let fresh = last.read.is_some_and(|read| read.elapsed() < self.options.ttl);
        if fresh && last.node == Some(node) && last.changes == changes && last.fingerprint == fingerprint {
            return Ok(());
        }
        let rows = timeout(READ_TIMEOUT, open.rows()).await.map_err(late(READ_TIMEOUT))??;
        drop(open);
        let catalog = self.build(rows).await;
        let (bytes, objects) = (catalog.bytes(), catalog.objects());
        if live.publish(catalog, changes) {
            if last.read.is_none() {
                info!(database, objects, bytes, time = ?start.elapsed(), "the catalog was read");
            }
            *last = Last { read: Some(clock::now()), fingerprint, changes, node: Some(node) };
            self.metrics.read(database, start.elapsed(), bytes, objects);
        }
        Ok(())
    }

    /// Builds a large one on a thread of its own: clients are not held up.
    async fn build(&self, rows: Rows) -> Catalog {
        let (read_only, write) =
            (self.options.read_only_functions.clone(), self.options.write_functions.clone());
        if rows.functions.len() + rows.relations.len() < MANY + rows.builtins() {
            return Catalog::build(&rows, &read_only, &write);
        }
        let built = tokio::task::spawn_blocking(move || {
            let catalog = Catalog::build(&rows, &read_only, &write);
            (catalog, rows)
        });
        match built.await {
            Ok((catalog, _)) => catalog,
            // Only if it panicked: nothing is known then, so nothing leaves the primary.
            Err(_) => Catalog::default(),
        }
    }

    /// The primary; while there is none, a replica, which knows the same but later.
    async fn server(&self) -> Node {
        loop {
            let view = self.cluster.view();
            if let Some(node) = source(&view) {
                return node;
            }
            drop(view);
            let later = clock::now() + LAST_RETRY;
            self.cluster.wait_for(later, |view| source(view).is_some()).await;
        }
    }

    /// Pauses until it is time to look again: the pause is over, a change was told of, or there is another primary.
    async fn rest(&self, live: &Live, last: &Last) {
        if live.changes() != last.changes {
            return;
        }
        let until = clock::now() + self.options.check_interval;
        let other = self.cluster.wait_for(until, |view| {
            let now = source(view);
            now.is_some() && now != last.node
        });
        tokio::select! {
            _ = other => {}
            () = live.wake.notified() => {}
        }
    }
}

/// The server that a catalog is read from.
fn source(view: &View) -> Option<Node> {
    view.primary().or_else(|| view.replicas().next())
}
