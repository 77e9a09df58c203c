//! The live handle of a cluster: the snapshot that everybody reads, the loads, and the way to tell it what happened.
//!
//! Reading takes no lock. Events are applied one at a time, under a lock that is never held across an await; what an
//! event changed is logged once, after the new snapshot is in place.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, watch};
use tokio::time::timeout_at;
use tracing::{info, warn};

use crate::clock::{self, Duration, Instant};
use crate::cluster::{
    Balance, Duty, Event, Health, Load, Orders, Role, ServerView, Spread, Standing, View, latency_after,
    latency_since,
};
use crate::fresh::Writes;
use crate::ids::{MOST_NODES, Node};
use crate::metrics::{Metrics, RoleLabel, ServerMetrics};
use crate::net::Address;
use crate::pool::Common;

use super::Positions;
use super::report::Errand;
use super::shown::Shown;

/// Most servers that stand at one node one after the other.
const MOST_LIVES: usize = 16;

/// How long a node is empty until another server may stand there: long enough for who has known the one before to hear of it.
const REST: Duration = Duration::from_secs(60);

/// A primary and its replicas, as they are now.
pub struct Cluster {
    view: ArcSwap<View>,
    /// Counts snapshots, for those who wait for a change.
    version: watch::Sender<u64>,
    /// The same number, for those who look in passing.
    epoch: AtomicU64,
    /// Held while an event is applied: no event is lost to another.
    applying: Mutex<()>,
    turn: AtomicU64,
    /// Filled from the front; what is there stays.
    servers: Box<[OnceLock<Server>]>,
    count: AtomicUsize,
    base: Instant,
    positions: Positions,
    writes: Writes,
    /// Commits on the primary wait for replicas.
    synchronous: AtomicBool,
    shown: Shown,
    /// What there is to say of the search for more servers.
    discovery: Mutex<Option<String>>,
}

struct Server {
    address: Arc<Address>,
    running: AtomicU32,
    /// How long its units take, in nanoseconds; 0: not known. And when that was worked out, in microseconds since `base`.
    latency: AtomicU64,
    measured: AtomicU64,
    /// Asks the probe to come at once.
    wake: Notify,
    errand: Errand,
    /// If it is the primary, its commits wait for replicas.
    synchronous: AtomicBool,
    /// Its `term` counts what ends the use of its connections: see [`View::is_over`].
    common: Common,
    metrics: Arc<ServerMetrics>,
    /// When it was removed.
    gone: Mutex<Option<Instant>>,
    /// Who stands at its node now, if that is another.
    next: OnceLock<Box<Server>>,
}

impl Server {
    fn new(address: &Address, metrics: &Metrics) -> Self {
        Self {
            address: Arc::new(address.clone()),
            running: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            wake: Notify::new(),
            errand: Errand::default(),
            synchronous: AtomicBool::new(false),
            common: Common::default(),
            metrics: metrics.server(&address.to_string()),
            gone: Mutex::default(),
            next: OnceLock::new(),
        }
    }

    /// How long its units take, as is believed so many microseconds after `base`.
    fn latency(&self, micros: u64) -> u64 {
        let since = micros.saturating_sub(self.measured.load(Ordering::Relaxed));
        latency_since(self.latency.load(Ordering::Relaxed), Duration::from_micros(since))
    }

    fn gone(&self) -> MutexGuard<'_, Option<Instant>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// A cluster of which nothing is known yet. Nothing is probed until [`Cluster::probe`] runs for each node. Servers beyond
    /// [`MOST_NODES`] are left out.
    #[must_use]
    pub fn new(servers: Vec<Address>, metrics: &Metrics) -> Arc<Self> {
        let cluster = Self {
            view: ArcSwap::default(),
            version: watch::Sender::new(0),
            epoch: AtomicU64::new(0),
            applying: Mutex::new(()),
            turn: AtomicU64::new(0),
            writes: Writes::default(),
            positions: Positions::new(MOST_NODES),
            servers: (0..MOST_NODES).map(|_| OnceLock::new()).collect(),
            count: AtomicUsize::new(0),
            base: clock::now(),
            synchronous: AtomicBool::new(false),
            shown: Shown::default(),
            discovery: Mutex::default(),
        };
        for address in servers {
            cluster.order(&address, Orders::default(), metrics);
        }
        Arc::new(cluster)
    }

    /// The operator says that of a server, which may be new. Returns its node; none: there are too many already.
    pub fn order(&self, address: &Address, orders: Orders, metrics: &Metrics) -> Option<Node> {
        self.order_at(clock::now(), address, orders, metrics)
    }

    pub(super) fn order_at(
        &self,
        now: Instant,
        address: &Address,
        orders: Orders,
        metrics: &Metrics,
    ) -> Option<Node> {
        let applying = self.applying();
        let removed = orders.duty == Duty::Removed;
        let node = match self.node(address) {
            Some(node) => {
                let renamed = self.address(node).is_some_and(|known| known.name() != address.name());
                // As a member it goes on under the name that it came with.
                if renamed && !removed && !self.is_member(node) {
                    self.succeed(node, Server::new(address, metrics));
                }
                node
            }
            None => self.place(now, Server::new(address, metrics))?,
        };
        if removed {
            self.positions.forget(node);
        }
        if let Some(server) = self.server(node) {
            let mut gone = server.gone();
            *gone = removed.then(|| gone.unwrap_or(now));
        }
        let before = self.view.load_full();
        let after = before.order(node, &address.to_string(), orders);
        self.publish(before, after, applying);
        Some(node)
    }

    /// Finds a place for a server: a new one, else that of the server that was removed longest ago.
    fn place(&self, now: Instant, server: Server) -> Option<Node> {
        let count = self.count.load(Ordering::Acquire);
        if let Some(slot) = self.servers.get(count) {
            drop(slot.set(server));
            self.count.store(count + 1, Ordering::Release);
            return Some(Node(u16::try_from(count).ok()?));
        }
        let (_, node) = self.empty(now).min()?;
        self.succeed(node, server);
        Some(node)
    }

    /// The nodes at which another server may stand, and since when they are empty.
    fn empty(&self, now: Instant) -> impl Iterator<Item = (Instant, Node)> {
        self.nodes().filter_map(move |node| {
            let server = self.server(node)?;
            let since = (*server.gone())?;
            let rested = now.saturating_duration_since(since) >= REST;
            let free = server.running.load(Ordering::Relaxed) == 0 && self.lives(node).count() < MOST_LIVES;
            (rested && free).then_some((since, node))
        })
    }

    /// Has a server stand at a node from now on.
    fn succeed(&self, node: Node, server: Server) {
        self.positions.forget(node);
        if let Some(last) = self.server(node).filter(|_| self.lives(node).count() < MOST_LIVES) {
            drop(last.next.set(Box::new(server)));
        }
    }

    /// How many servers more there may be that were never in this cluster, or have lost their place.
    #[must_use]
    pub fn room(&self) -> usize {
        MOST_NODES.saturating_sub(self.nodes().count()) + self.empty(clock::now()).count()
    }

    /// Whether a server stands at a node now.
    fn is_member(&self, node: Node) -> bool {
        self.view.load().server(node).is_some_and(ServerView::is_member)
    }

    fn applying(&self) -> MutexGuard<'_, ()> {
        self.applying.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.server(node).map_or_else(Arc::default, |server| server.common.term.clone())
    }

    /// What all pools of a server have in common; a place of its own for one of another cluster.
    #[must_use]
    pub fn common(&self, node: Node) -> Common {
        self.server(node).map_or_else(Common::default, |server| server.common.clone())
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
    pub fn address(&self, node: Node) -> Option<&Arc<Address>> {
        self.server(node).map(|server| &server.address)
    }

    /// The node of a server, also of one that was removed; none: it has never been one.
    #[must_use]
    pub fn node(&self, address: &Address) -> Option<Node> {
        self.nodes().find(|node| self.address(*node).is_some_and(|known| **known == *address))
    }

    /// The nodes, in the order in which they came; also of servers that were removed.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        // As many as there are slots at most.
        (0..u16::try_from(self.count.load(Ordering::Acquire)).unwrap_or(u16::MAX)).map(Node)
    }

    /// The replica that the next read should go to: see [`View::pick`].
    #[must_use]
    pub fn pick_replica(
        &self,
        spread: &Spread,
        among: Option<u64>,
        avoid: Option<Node>,
        prefers: Option<Node>,
    ) -> Option<Node> {
        let turn = match spread.balance.is_by_chance() {
            false => self.turn.fetch_add(1, Ordering::Relaxed),
            true => rand::random(),
        };
        let measures = spread.balance == Balance::LeastLatency;
        let micros = if measures { self.micros(clock::now()) } else { 0 };
        let load = |node| {
            self.server(node).map_or_else(Load::default, |server| Load {
                running: server.running.load(Ordering::Relaxed),
                latency: if measures { server.latency(micros) } else { 0 },
            })
        };
        self.view().pick(spread, (among, avoid, prefers), load, turn, clock::now)
    }

    /// Microseconds since `base`.
    pub(super) fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.base).as_micros()).unwrap_or(u64::MAX)
    }

    /// A unit has taken so long on a server, until `now`.
    pub fn took(&self, node: Node, time: Duration, now: Instant) {
        let Some(server) = self.server(node) else { return };
        let micros = self.micros(now);
        let since = micros.saturating_sub(server.measured.swap(micros, Ordering::Relaxed));
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let before = server.latency.load(Ordering::Relaxed);
        // Of two at the same time one may be lost: both say about the same.
        server.latency.store(latency_after(before, time, Duration::from_micros(since)), Ordering::Relaxed);
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

    /// Waits until a server that has lost or refused a connection was asked, but not longer than that.
    pub async fn asked(&self, node: Node, deadline: Instant) {
        self.wait_for(deadline, |view| !view.is_suspect(node)).await;
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

    /// Whether commits on the primary wait for replicas, as it said last.
    #[must_use]
    pub fn is_synchronous(&self) -> bool {
        self.synchronous.load(Ordering::Relaxed)
    }

    pub(super) fn shown(&self) -> &Shown {
        &self.shown
    }

    pub(super) fn errand(&self, node: Node) -> Option<&Errand> {
        self.server(node).map(|server| &server.errand)
    }

    /// What there is to say of the search for more servers; none: there is no search.
    #[must_use]
    pub fn discovery(&self) -> Option<String> {
        self.discovery.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says it. True: that is news.
    pub fn note_discovery(&self, note: Option<String>) -> bool {
        let mut known = self.discovery.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *known != note;
        *known = note;
        news
    }

    pub(super) fn metrics(&self, node: Node) -> Option<&ServerMetrics> {
        self.server(node).map(|server| &*server.metrics)
    }

    pub(super) fn apply(&self, node: Node, event: Event) {
        let Some(server) = self.server(node) else { return };
        if !matches!(event, Event::Probed(_)) {
            self.positions.forget(node);
        }
        let applying = self.applying();
        let before = self.view.load_full();
        if before.server(node).is_some_and(|server| !server.is_member()) {
            return;
        }
        if let Event::Probed(result) = &event {
            server.synchronous.store(result.synchronous, Ordering::Relaxed);
        }
        let after = before.apply(node, event, clock::now());
        // While there is none, what was true of the last one is.
        if let Some(primary) = after.primary().and_then(|primary| self.server(primary)) {
            self.synchronous.store(primary.synchronous.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        if let Some((before, after)) = self.publish(before, after, applying) {
            self.ask(node, server, &before, &after);
        }
    }

    /// Puts another snapshot in place, if it is another, and says what has changed.
    fn publish(
        &self,
        before: Arc<View>,
        after: View,
        applying: MutexGuard<'_, ()>,
    ) -> Option<(Arc<View>, Arc<View>)> {
        if after == *before {
            return None;
        }
        let after = Arc::new(after);
        for node in self.nodes().filter(|node| before.is_over(&after, *node)) {
            if let Some(server) = self.server(node) {
                server.common.term.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.view.store(Arc::clone(&after));
        self.epoch.fetch_add(1, Ordering::AcqRel);
        drop(applying);
        for is in &after.servers {
            let Some(server) = self.server(is.node) else { continue };
            let down = is.health == Health::Down;
            server.common.down.send_if_modified(|known| std::mem::replace(known, down) != down);
            match before.server(is.node) {
                Some(was) => {
                    report(was, is);
                    record(was, is, &server.metrics);
                }
                None => record(&ServerView::new(is.node, String::new()), is, &server.metrics),
            }
        }
        self.version.send_modify(|version| *version += 1);
        Some((before, after))
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
        for other in self.nodes().filter(|other| *other != node) {
            // One that nobody has asked yet is being asked.
            let asked = after.server(other).is_some_and(|server| server.health != Health::Unknown);
            if asked && (all || unconfirmed & other.bit() != 0) {
                self.server(other).iter().for_each(|other| other.wake.notify_one());
            }
        }
    }

    #[inline]
    fn server(&self, node: Node) -> Option<&Server> {
        let mut server = self.servers.get(node.index())?.get()?;
        while let Some(next) = server.next.get() {
            server = next;
        }
        Some(server)
    }

    /// Who has stood at a node.
    fn lives(&self, node: Node) -> impl Iterator<Item = &Server> {
        let first = self.servers.get(node.index()).and_then(OnceLock::get);
        std::iter::successors(first, |server| server.next.get().map(|next| &**next))
    }
}

/// Says what changed about a server, once.
fn report(was: &ServerView, is: &ServerView) {
    let (server, role, why) = (&is.address, is.role, &is.why);
    if was.orders != is.orders {
        info!(%server, %role, duty = %is.orders.duty, weight = is.orders.weight, "server has new orders");
    }
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
    if was.orders.duty != is.orders.duty || was.health != is.health {
        metrics.up(is.is_member().then_some(is.health == Health::Up));
    }
    if was.health == Health::Up && is.health != Health::Up && is.is_member() {
        metrics.went_out();
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
