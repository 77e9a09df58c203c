//! Keeps one database's catalog: reads it, looks for changes, reads it again.

use std::sync::Arc;

use tokio::time::timeout;
use tracing::{info, warn};

use super::load::Reader;
use super::{CatalogError, Catalogs, Live};
use crate::clock::{self, Duration, Instant};
use crate::ids::Node;
use crate::route::Catalog;
use crate::route::catalog::Rows;

/// First pause after a failure; it doubles up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);

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
        let mut reader = None;
        let mut retry = FIRST_RETRY;
        while !self.retire(database, live, &mut used) {
            match self.look(database, live, &mut reader, &mut last).await {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    tokio::time::sleep(LEAST_DISTANCE).await;
                    self.rest(live, reader.as_mut(), &last).await;
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
                    reader = None;
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
        self.metrics.dropped(database);
    }

    /// Looks whether there is something new, and reads it if so.
    async fn look(
        &self,
        database: &str,
        live: &Live,
        reader: &mut Option<Reader>,
        last: &mut Last,
    ) -> Result<(), CatalogError> {
        let node = self.primary().await;
        if last.node != Some(node) {
            *reader = None;
        }
        let address = self.cluster.address(node).ok_or(CatalogError::Nonsense)?;
        let open = match reader.take() {
            Some(open) => open,
            None => timeout(self.monitor.timeout, Reader::open(address, &self.monitor.login, database))
                .await
                .map_err(|_| CatalogError::TimedOut(self.monitor.timeout))??,
        };
        let open = reader.insert(open);
        let changes = live.changes();
        let start = clock::now();
        let fingerprint = timeout(READ_TIMEOUT, open.fingerprint())
            .await
            .map_err(|_| CatalogError::TimedOut(READ_TIMEOUT))??;
        let fresh = last.read.is_some_and(|read| read.elapsed() < self.options.ttl);
        if fresh && last.node == Some(node) && last.changes == changes && last.fingerprint == fingerprint {
            return Ok(());
        }
        let rows =
            timeout(READ_TIMEOUT, open.rows()).await.map_err(|_| CatalogError::TimedOut(READ_TIMEOUT))??;
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

    /// The primary, once there is one.
    async fn primary(&self) -> Node {
        loop {
            if let Some(node) = self.cluster.view().primary() {
                return node;
            }
            let later = clock::now() + LAST_RETRY;
            self.cluster.wait_for(later, |view| view.primary().is_some()).await;
        }
    }

    /// Pauses until it is time to look again: the pause is over, a change was told of, or there is another primary.
    async fn rest(&self, live: &Live, reader: Option<&mut Reader>, last: &Last) {
        if live.changes() != last.changes {
            return;
        }
        let until = clock::now() + self.options.check_interval;
        let other = self.cluster.wait_for(until, |view| {
            let now = view.primary();
            now.is_some() && now != last.node
        });
        let broken = async {
            match reader {
                Some(reader) => reader.broken().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = other => {}
            () = live.wake.notified() => {}
            () = broken => {}
        }
    }
}
