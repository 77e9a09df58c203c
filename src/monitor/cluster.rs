//! The live handle of a cluster: the snapshot that everybody reads, the loads, and the way to tell it what happened.
//!
//! Reading takes no lock. Events are applied one at a time, under a lock that is never held across an await; what an
//! event changed is logged once, after the new snapshot is in place.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, watch};
use tokio::time::timeout_at;
use tracing::{info, warn};

use crate::clock::{self, Instant};
use crate::cluster::{Balance, Event, Health, Role, ServerView, Standing, View};
use crate::fresh::Writes;
use crate::ids::Node;
use crate::metrics::{Metrics, RoleLabel, ServerMetrics};
use crate::net::Address;

use super::Positions;

/// A primary and its replicas, as they are now.
pub struct Cluster {
    view: ArcSwap<View>,
    /// Counts snapshots, for those who wait for a change.
    version: watch::Sender<u64>,
    /// The same number, for those who look in passing.
    epoch: AtomicU64,
    /// Held while an event is applied: no event is lost to another.
    applying: Mutex<()>,
    balance: Balance,
    turn: AtomicU64,
    servers: Vec<Server>,
    addresses: Vec<Address>,
    positions: Positions,
    writes: Writes,
}

struct Server {
    running: AtomicU32,
    /// Asks the probe to come at once.
    wake: Notify,
    /// Counts what ends the use of its connections: see [`View::is_over`].
    term: Arc<AtomicU64>,
    metrics: Arc<ServerMetrics>,
}

impl Cluster {
    /// A cluster of which nothing is known yet. Nothing is probed until [`Cluster::probe`] runs for each node.
    #[must_use]
    pub fn new(servers: Vec<Address>, balance: Balance, metrics: &Metrics) -> Arc<Self> {
        let server = |address: &Address| Server {
            running: AtomicU32::new(0),
            wake: Notify::new(),
            term: Arc::default(),
            metrics: metrics.server(&address.to_string()),
        };
        Arc::new(Self {
            view: ArcSwap::from_pointee(View::new(servers.iter().map(Address::to_string))),
            version: watch::Sender::new(0),
            epoch: AtomicU64::new(0),
            applying: Mutex::new(()),
            balance,
            turn: AtomicU64::new(0),
            writes: Writes::default(),
            positions: Positions::new(servers.len()),
            servers: servers.iter().map(server).collect(),
            addresses: servers,
        })
    }

    /// The snapshot. Cheap; not to be kept across an await.
    #[must_use]
    pub fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// Another number for each snapshot.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Grows when open connections to a server must not be used any more: its role has changed, or it was fenced.
    #[must_use]
    pub fn term(&self, node: Node) -> Arc<AtomicU64> {
        self.server(node).map_or_else(Arc::default, |server| server.term.clone())
    }

    /// The servers' addresses, each at its node's index.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// How far the servers have come.
    #[inline]
    #[must_use]
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// When tables were written last. For the whole cluster: two databases of the configuration may be one on the servers.
    #[inline]
    #[must_use]
    pub fn writes(&self) -> &Writes {
        &self.writes
    }

    /// One server's address; none for a node of another cluster.
    #[must_use]
    pub fn address(&self, node: Node) -> Option<&Address> {
        self.addresses.get(node.index())
    }

    /// The nodes, in the order of the configuration.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        // As many as `View::new` numbered.
        (0..u16::try_from(self.servers.len()).unwrap_or(u16::MAX)).map(Node)
    }

    /// The replica that the next read should go to: any, or one of these, a bit for each.
    #[must_use]
    pub fn pick_replica(&self, among: Option<u64>, avoid: Option<Node>) -> Option<Node> {
        let turn = match self.balance {
            Balance::LeastLoaded | Balance::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed),
            Balance::Random => rand::random(),
        };
        let view = self.view();
        let among = |node: &Node| among.is_none_or(|nodes| nodes & node.bit() != 0);
        let replicas = view.replicas().filter(among).filter(|node| Some(*node) != avoid);
        self.balance.pick(replicas, |node| self.load(node), turn)
    }

    /// Units running on a server through this pgweir.
    #[must_use]
    pub fn load(&self, node: Node) -> u32 {
        self.server(node).map_or(0, |server| server.running.load(Ordering::Relaxed))
    }

    /// A unit starts on a server. Each call is answered by one of [`Cluster::end`].
    pub fn begin(&self, node: Node) {
        if let Some(server) = self.server(node) {
            server.running.fetch_add(1, Ordering::Relaxed);
            server.metrics.unit_began();
        }
    }

    /// A unit has ended, well or not.
    pub fn end(&self, node: Node) {
        if let Some(server) = self.server(node) {
            let before = server.running.fetch_sub(1, Ordering::Relaxed);
            debug_assert!(before > 0, "end without begin");
            server.metrics.unit_ended();
        }
    }

    /// A connection for clients could not be opened. Only for what tells about the server (refused, unreachable, timed
    /// out, starting up, shutting down), not about the client: a wrong password must not take a server out of rotation.
    pub fn connect_failed(&self, node: Node, why: impl Into<String>) {
        self.apply(node, Event::ConnectFailed(why.into()));
    }

    /// An open connection broke, and pgweir did not break it.
    pub fn lost(&self, node: Node, why: impl Into<String>) {
        self.apply(node, Event::Lost(why.into()));
    }

    /// A server that should be the primary has refused a write, or throws its connections out.
    pub fn doubted(&self, node: Node, why: impl Into<String>) {
        self.apply(node, Event::Doubted(why.into()));
    }

    /// Waits for another snapshot than that of `epoch`.
    pub async fn changed(&self, epoch: u64) {
        let mut version = self.version.subscribe();
        while self.epoch() == epoch {
            // The sender is ours: it lives as long as we do.
            if version.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the snapshot is as `pred` wants it. False if it was not so by `deadline`.
    pub async fn wait_for(&self, deadline: Instant, pred: impl Fn(&View) -> bool) -> bool {
        let mut version = self.version.subscribe();
        loop {
            if pred(&self.view()) {
                return true;
            }
            match timeout_at(deadline, version.changed()).await {
                Ok(Ok(())) => {}
                // The sender is ours: it lives as long as we do.
                Ok(Err(_)) | Err(_) => return pred(&self.view()),
            }
        }
    }

    /// Asks a server who and how it is, again and again, until dropped. One task for each node.
    pub async fn probe(self: Arc<Self>, node: Node, options: super::Options) {
        super::probe::run(&self, node, &options).await;
    }

    /// Makes the next probe of a server come at once.
    pub(super) async fn woken(&self, node: Node) {
        match self.server(node) {
            Some(server) => server.wake.notified().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn metrics(&self, node: Node) -> Option<&ServerMetrics> {
        self.server(node).map(|server| &*server.metrics)
    }

    pub(super) fn apply(&self, node: Node, event: Event) {
        let Some(server) = self.server(node) else { return };
        if !matches!(event, Event::Probed(_)) {
            self.positions.forget(node);
        }
        let (before, after) = {
            let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
            let before = self.view.load_full();
            let after = Arc::new(before.apply(node, event, clock::now()));
            if after == before {
                return;
            }
            for (number, server) in (0..).zip(&self.servers) {
                if before.is_over(&after, Node(number)) {
                    server.term.fetch_add(1, Ordering::AcqRel);
                }
            }
            self.view.store(Arc::clone(&after));
            self.epoch.fetch_add(1, Ordering::AcqRel);
            (before, after)
        };
        self.ask(node, server, &before, &after);
        for ((was, is), server) in before.servers.iter().zip(&after.servers).zip(&self.servers) {
            report(was, is);
            record(was, is, &server.metrics);
        }
        self.version.send_modify(|version| *version += 1);
    }

    /// Has those asked at once whose answer matters now: a server that smells; if it is the primary, the others too, for one
    /// of them may have taken over; and all who have to confirm one that came back.
    fn ask(&self, node: Node, server: &Server, before: &View, after: &View) {
        let is = |view: &View, health| view.server(node).is_some_and(|server| server.health == health);
        let becomes = |health| is(after, health) && !is(before, health);
        let smells = becomes(Health::Suspect);
        if smells {
            server.wake.notify_one();
        }
        let unconfirmed = after.server(node).map_or(0, |server| server.unconfirmed);
        let primary = before.primary() == Some(node);
        let all = primary && (smells || becomes(Health::Down));
        for (number, other) in (0..).zip(&self.servers).filter(|(number, _)| *number != node.0) {
            if all || unconfirmed & Node(number).bit() != 0 {
                other.wake.notify_one();
            }
        }
    }

    fn server(&self, node: Node) -> Option<&Server> {
        self.servers.get(node.index())
    }
}

/// Says what changed about a server, once.
fn report(was: &ServerView, is: &ServerView) {
    let (server, role, why) = (&is.address, is.role, &is.why);
    if was.health != is.health {
        match is.health {
            Health::Up => {
                info!(%server, %role, standing = %is.standing, timeline = is.timeline, version = is.version, "server is up");
            }
            Health::Suspect => warn!(%server, %role, why, "server lost or refused a connection: asking it"),
            Health::Down => warn!(%server, %role, why, "server is down"),
            Health::Unknown => {}
        }
    } else if was.role != is.role {
        info!(%server, was = %was.role, %role, timeline = is.timeline, "server changed its role");
    }
    if was.standing != is.standing {
        match is.standing {
            Standing::Fenced => {
                warn!(%server, timeline = is.timeline, "server called itself primary, but the cluster has moved on: fenced");
            }
            Standing::Foreign => warn!(
                %server,
                system_identifier = is.system_identifier,
                "server belongs to another database system than the others: not used"
            ),
            Standing::Behind => {
                warn!(%server, timeline = is.timeline, "replica has not followed the primary to its timeline: no reads");
            }
            Standing::Member if was.standing != Standing::Unproven => {
                info!(%server, %role, "server may be used again");
            }
            Standing::Member | Standing::Unproven => {}
        }
    }
}

fn record(was: &ServerView, is: &ServerView, metrics: &ServerMetrics) {
    if was.health != is.health {
        metrics.up(is.health == Health::Up);
    }
    if was.standing != is.standing {
        metrics.fenced(is.standing == Standing::Fenced);
    }
    if was.role != is.role {
        if was.role != Role::Unknown {
            metrics.role_changed();
        }
        metrics.role(match is.role {
            Role::Unknown => RoleLabel::Unknown,
            Role::Primary => RoleLabel::Primary,
            Role::Replica => RoleLabel::Replica,
        });
    }
}
