//! The search for a server connection, for a piece that cannot have one at once.

use std::sync::Arc;

use super::clean;
use super::fail::Failure;
use super::failover::{Doubt, Wait};
use super::plan::note_outage;
use super::preface::{is_apart, is_cancelled};
use super::session::Session;
use super::shared::{Database, Shared};
use super::unit::Piece;
use crate::cluster::View;
use crate::ids::Node;
use crate::monitor::Live;
use crate::pool::{Lease, LeaseError, Pool};
use crate::route::{Reason, Route, Target};
use crate::server::settings::{Settings, are_same, is_hurried};

/// It goes on apart from the session that waits for it.
pub(super) struct Search {
    pub(super) shared: Arc<Shared>,
    pub(super) database: Arc<Database>,
    /// The database as the client calls it.
    pub(super) name: Arc<str>,
    pub(super) user: Arc<str>,
    pub(super) wants: crate::server::Wants,
    /// A replica that is not asked.
    pub(super) avoid: Option<Node>,
    /// What the unit keeps in memory while it waits.
    pub(super) bytes: usize,
    /// What became of it before.
    pub(super) doubt: Option<Doubt>,
    /// A primary that has to be asked first, if it may be gone.
    pub(super) lost: Option<Node>,
    /// By which it was judged.
    pub(super) catalog: Arc<Live>,
    /// The client's settings.
    pub(super) settings: Option<Arc<Settings>>,
    /// The unit cannot have a preface.
    pub(super) apart: bool,
}

/// How often a connection may break, or a limit strike, while settings are put on.
const MOST_TRIES: u32 = 3;

/// Whether a connection gets the settings of its client in a round trip of their own.
fn dresses_first(lease: &Lease, settings: Option<&Arc<Settings>>, apart: bool) -> bool {
    let worn = lease.settings.as_ref();
    apart && !are_same(worn, settings) || is_hurried(worn, settings)
}

impl Search {
    /// A connection for that target. A replica that cannot be reached costs a try elsewhere, in the end on the primary:
    /// nothing has been sent yet. None: there is no replica any more, and the operator has said what becomes of reads then.
    /// Or the unit is to be judged again. `picked` is whose turn it is; to pick anew would pass it over.
    pub(super) async fn run(
        &self,
        route: Route,
        picked: Option<Node>,
    ) -> Result<Option<(Target, Node, Lease)>, Failure> {
        let mut wait = self.wait();
        let found = tokio::select! {
            biased;
            found = self.find(route, picked, &mut wait) => Some(found),
            () = self.outdates(route) => None,
        };
        found.unwrap_or_else(|| {
            wait.leave();
            Ok(None)
        })
    }

    /// As [`Search::run`]. What the client before has left on the connection that may end what comes after it is taken back.
    pub(super) async fn run_dressed(
        &self,
        route: Route,
        mut picked: Option<Node>,
    ) -> Result<Option<(Target, Node, Lease)>, Failure> {
        let mut tries = 0;
        loop {
            let Some((target, node, mut lease)) = self.run(route, picked.take()).await? else {
                return Ok(None);
            };
            if !dresses_first(&lease, self.settings.as_ref(), self.apart) {
                return Ok(Some((target, node, lease)));
            }
            let dressed =
                clean::dress(&mut lease, &self.wants, self.settings.as_ref(), &self.shared.buffers).await;
            tries += 1;
            match dressed {
                Some(Ok(())) => return Ok(Some((target, node, lease))),
                Some(Err(words)) if tries > MOST_TRIES || !is_cancelled(&words) => {
                    lease.close("settings");
                    return Err(Failure::ServerSaid(words));
                }
                Some(Err(_)) => lease.close("settings"),
                None => {
                    if !lease.pool().is_over(&lease) {
                        self.database.cluster.lost(node, "it did not take the settings of a client in time");
                    }
                    lease.close("lost");
                    if tries > MOST_TRIES {
                        return Err(Failure::ServerLost);
                    }
                }
            }
        }
    }

    /// Ends when there is no primary, and the unit went there for a reason that does not hold any more: it is known what it is about,
    /// where nobody could say that when it was judged; or replicas are not fresh enough, which are better than nobody.
    async fn outdates(&self, route: Route) {
        let cluster = &self.database.cluster;
        loop {
            match route.reason {
                Reason::CatalogLoading => self.catalog.learned().await,
                Reason::NotFresh => {}
                _ => return std::future::pending().await,
            }
            let epoch = cluster.epoch();
            let view = cluster.view().clone();
            let some = route.reason == Reason::CatalogLoading || view.replicas().next().is_some();
            if view.primary().is_none() && some {
                return;
            }
            cluster.changed(epoch).await;
        }
    }

    async fn find<'a>(
        &'a self,
        route: Route,
        mut picked: Option<Node>,
        wait: &mut Wait<'a>,
    ) -> Result<Option<(Target, Node, Lease)>, Failure> {
        // Where there is no replica now, there may be one before there is a primary.
        let reads = route.target == Target::Replica || route.reason == Reason::NoReplica;
        let mut first = true;
        loop {
            if route.target == Target::Replica || reads && !std::mem::take(&mut first) {
                for _ in self.database.cluster.nodes() {
                    let pick = || {
                        let database = &self.database;
                        database.cluster.pick_replica(&database.spread, route.servers, self.avoid, None)
                    };
                    let Some(node) = picked.take().or_else(pick) else { break };
                    if self.pool(node).is_some_and(|pool| pool.backs_off()) {
                        break;
                    }
                    match self.lease_replica(node).await {
                        Some(Ok(lease)) => return Ok(Some((Target::Replica, node, lease))),
                        None => {}
                        Some(Err(error)) if note_outage(&self.database, node, &error) => {}
                        // A replica that has not replayed yet refuses a database or a role that the primary has.
                        Some(Err(LeaseError::Connect(_))) => break,
                        Some(Err(error)) => return Err(Failure::Lease(error)),
                    }
                }
            }
            let some = |view: &View| view.replicas().any(|node| route.takes(node));
            let gone = || !some(&self.database.cluster.view());
            if route.target == Target::Replica && self.database.fallback.is_set() && gone() {
                return Ok(None);
            }
            let or_replica = |view: &View| reads && some(view);
            if let Some((node, lease)) = self.primary(wait, or_replica).await? {
                return Ok(Some((Target::Primary, node, lease)));
            }
        }
    }

    pub(super) async fn lease(&self, node: Node) -> Result<Lease, LeaseError> {
        match self.pool(node) {
            Some(pool) => pool.lease(&self.wants).await,
            // There is none for a node of another cluster only.
            None => Err(LeaseError::Queue { waiting: 0 }),
        }
    }

    /// The pool of a node; asked for when it is needed, for servers may have come since the search began.
    fn pool(&self, node: Node) -> Option<Arc<Pool>> {
        self.shared.pool(&self.database, &self.name, &self.user, node)
    }
}

impl Session {
    /// A connection for that target, if there is one without waiting; else the server that was picked.
    pub(super) fn try_acquire(
        &mut self,
        piece: &Piece,
        route: Route,
        node: Option<Node>,
    ) -> Result<(), Option<Node>> {
        let target = route.target;
        if self.held.get(target.index()).is_some_and(Option::is_some) {
            self.activate(target);
            return Ok(());
        }
        let Some(node) = node else { return Err(None) };
        if self.pool(node).is_none() {
            return Err(None);
        }
        let of = self.drawer(piece);
        let Some(Some(pool)) = self.pools.get(node.index()) else { return Err(None) };
        let Some(lease) = pool.try_lease_of(&self.identity.wants.parameters, of) else {
            return Err(Some(node));
        };
        if dresses_first(&lease, self.settings.as_ref(), is_apart(piece, true)) {
            let since = lease.idle_since;
            lease.put_back(since);
            return Err(Some(node));
        }
        self.hold(target, node, lease);
        Ok(())
    }
}
