//! What a session has written and seen, and which replicas are fresh enough for what it reads.
//!
//! The pure part is `crate::fresh`. Here it meets the session: a write is noted before its client hears of it, a read is placed on a
//! replica that has replayed what it must see, and one that finds none waits a little.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::time::{sleep, sleep_until};

use super::session::{Leave, Next, Session};
use super::unit::Piece;
use crate::clock::{self, Duration, Instant};
use crate::fresh::{Choice, Level, Need, Tables, Ticket, Track, best, choose, complete};
use crate::ids::Node;
use crate::monitor::{Cluster, Reading};
use crate::position::{Lsn, Position};
use crate::route::{Class, Facts, Reason, Route, ShapeId, Target};
use crate::wire::frame::{HEADER, Side};
use crate::wire::{TransactionStatus, frame, frontend};

/// Longest that SHOW pgweir.position waits for the primary to say where it is.
const POSITION_WAIT: Duration = Duration::from_secs(2);

/// Longest that a read waits, while there is no primary, for a replica that has replayed all that it has received.
const COMPLETE_WAIT: Duration = Duration::from_secs(1);

/// Between two questions of one that waits so for long: many may wait, and each answer wakes them all.
const PAUSE: Duration = Duration::from_millis(10);

/// Something that happened on the primary by a moment, and its position as soon as that is known.
#[derive(Default)]
struct Bound {
    by: Option<Ticket>,
    known: Lsn,
}

impl Bound {
    /// Adds it to what is needed.
    fn add_to(&mut self, need: &mut Need, primary: &Track) {
        if let Some(by) = self.by {
            match primary.bound(by) {
                Some((position, true)) => *self = Self { by: None, known: self.known.max(position) },
                Some((position, false)) => need.least = need.least.max(position),
                None => need.pending = true,
            }
        }
        need.least = need.least.max(self.known);
    }
}

/// What a session has read may not be shown on the primary yet.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    replica: Node,
    /// It was read then, or before.
    seen: Instant,
    /// Also if nothing that was sent through this pgweir can be what the primary lacks.
    always: bool,
}

/// What one session has to see.
// Independent axes, each read alone.
#[allow(clippy::struct_excessive_bools)]
#[derive(Default)]
pub(super) struct Freshness {
    /// What it wrote.
    wrote: Bound,
    /// What it read on the primary.
    saw: Bound,
    /// Where and when it last read from a replica, if that was after `saw`.
    last: Option<Reading>,
    /// What it last read on a replica, if that may be more than the primary shows.
    ahead: Option<Ahead>,
    /// What is written by units that are not known to have ended.
    writing: Tables,
    /// One of these also reads.
    reads: bool,
    /// One of these may end a transaction, and begin another: COMMIT AND CHAIN.
    ends: bool,
    /// The unit that was answered last has committed what was written.
    pub(super) committed: bool,
    /// `own.position` was found out for the unit that is being answered.
    pub(super) told: bool,
    /// The piece that is being placed waits until then.
    deadline: Option<Instant>,
    /// It was first looked at without a primary.
    orphaned: Option<Instant>,
    /// When it has last asked how far other replicas are, only to be free to read from them.
    looked: Option<Instant>,
    /// The piece that is being placed waits for nothing else.
    looks: bool,
}

/// A session that reads without a pause does not know of any other replica that it is as far as the last read: it asks at
/// most this often, or it would stay with its own for ever.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Freshness {
    /// Whether it is time to look for other replicas than that of the last read.
    fn is_due(&mut self) -> bool {
        let now = clock::now();
        let due = self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK_EVERY);
        if due {
            // The first time nothing is asked: most sessions are short.
            self.looks = self.looked.is_some();
            self.looked = Some(now);
        }
        due && self.looks
    }

    /// The piece that waited is placed, or never will be.
    pub(super) fn ends_wait(&mut self) {
        (self.deadline, self.orphaned) = (None, None);
    }

    /// Whether there has been no primary for so long that what was received is not replayed at once.
    fn is_stuck(&self) -> bool {
        self.orphaned.is_some_and(|since| since.elapsed() > PAUSE)
    }

    /// The replica that was read from last.
    pub(super) fn last_read(&self) -> Option<Node> {
        self.last.map(|reading| reading.node)
    }

    /// What the session has counted before is committed.
    pub(super) fn counted(&mut self, cluster: &Cluster) {
        self.wrote.by = Some(cluster.positions().primary().now());
    }

    /// A unit goes to the primary.
    #[inline]
    pub(super) fn sends(&mut self, facts: &Facts) {
        self.ends |= facts.transaction;
        match facts.class {
            Class::Write | Class::Session => self.writing = self.writing.and(facts.tables),
            Class::Begin | Class::Empty | Class::Own => {}
            Class::Read | Class::BeginReadOnly | Class::InTransaction | Class::End => self.reads = true,
        }
    }
}

impl Session {
    /// A unit was answered, and the client is about to hear of it. It began in that life of the server: if that is over, nobody
    /// will know what a replica had replayed.
    #[inline]
    pub(super) fn note_answer(
        &mut self,
        target: Target,
        node: Node,
        life: u32,
        status: TransactionStatus,
        shape: ShapeId,
    ) {
        match target {
            Target::Primary if self.fresh.reads || !self.fresh.writing.is_none() => {
                self.note_primary(status == TransactionStatus::Idle);
            }
            Target::Primary => {}
            Target::Replica => {
                let database = &self.identity.database;
                let positions = database.cluster.positions();
                self.fresh.last = positions.reading(node, life);
                let always = database.cluster.is_synchronous() || database.spread.strictly_monotonic;
                if always || database.cluster.may_commit() {
                    self.fresh.ahead = Some(Ahead { replica: node, seen: clock::now(), always });
                }
                if let Some(age) = positions.lag(node) {
                    database.metrics.read_age(age);
                    self.shared.judge.shapes().aged(shape, age);
                }
            }
        }
    }

    /// Something was read or written on the primary. What an open transaction writes nobody can see yet; what is not certain
    /// to be undone counts as written.
    pub(super) fn note_primary(&mut self, ended: bool) {
        let more = self.held().is_some_and(|held| !held.lease.owed.is_empty());
        let cluster = &self.identity.database.cluster;
        let by = cluster.positions().primary().now();
        let fresh = &mut self.fresh;
        if (ended || fresh.ends) && !fresh.writing.is_none() {
            cluster.writes().note(fresh.writing, by);
            fresh.wrote.by = Some(by);
            fresh.committed = true;
        }
        if fresh.reads {
            fresh.saw.by = Some(by);
            fresh.last = None;
        }
        if ended && !more {
            fresh.writing = Tables::NONE;
            fresh.reads = false;
            fresh.ends = false;
        }
    }

    /// The route of a read, narrowed to the replicas that are fresh enough for it. None: it waits for one.
    pub(super) fn freshen(&mut self, facts: &Facts, route: Route) -> Option<Route> {
        let fresh = self.narrow(facts, route)?;
        self.fresh.ends_wait();
        Some(fresh)
    }

    /// The same for one that goes on to wait.
    fn narrow(&mut self, facts: &Facts, route: Route) -> Option<Route> {
        let begins = self.begun.is_some();
        if route.target == Target::Primary || route.reason == Reason::InReadOnlyTransaction && !begins {
            return Some(route);
        }
        let need = self.need(facts, &route);
        if need.is_nothing() {
            return Some(route);
        }
        let database = &self.identity.database;
        let (cluster, patience) = (&database.cluster, database.pool.freshness_wait);
        let view = cluster.view();
        let replicas = view.replicas().filter(|node| route.takes(*node));
        let all = replicas.clone().fold(0, |all, node| all | node.bit());
        let progress = replicas.clone().map(|node| cluster.positions().progress(node));
        let waits = !patience.is_zero() && self.fresh.deadline.is_none_or(|deadline| clock::now() < deadline);
        let unknown = matches!(need.last, Some((_, None))) && !database.spread.sticky;
        Some(match choose(progress, &need, patience) {
            Choice::Among(nodes) if nodes == all => route,
            Choice::Among(_) if unknown && waits && self.fresh.is_due() => return None,
            Choice::Among(nodes) => Route { servers: Some(nodes), ..route },
            Choice::Wait | Choice::Primary if view.primary().is_none() => {
                let nodes = self.orphaned(&need, replicas)?;
                Route { servers: Some(nodes).filter(|nodes| *nodes != 0).or(route.servers), ..route }
            }
            // One that has waited without a primary has waited for long enough.
            Choice::Wait if waits && self.fresh.orphaned.is_none() => return None,
            Choice::Wait | Choice::Primary => {
                // For those that come after it.
                let servers = view.primary().into_iter().chain(view.replicas()).chain(self.fresh.last_read());
                servers.for_each(|node| cluster.positions().ask_again(node));
                Route { rule: route.rule, ..Route::to(Target::Primary, Reason::NotFresh) }
            }
        })
    }

    /// Who serves a read while there is no primary to say what it has to see. None: it waits for one that has replayed what it has
    /// received.
    #[cold]
    fn orphaned(&mut self, need: &Need, replicas: impl Iterator<Item = Node> + Clone) -> Option<u64> {
        let cluster = &self.identity.database.cluster;
        let positions = cluster.positions();
        let since = *self.fresh.orphaned.get_or_insert_with(clock::now);
        let progress = replicas.clone().map(|node| positions.progress(node));
        let only_young = Need { max_lag: None, ..*need }.is_nothing();
        let unknown = only_young || cluster.view().is_unsettled();
        let there = if unknown { 0 } else { complete(progress.clone(), since) };
        if there != 0 {
            return Some(there);
        }
        replicas.for_each(|node| positions.ask_again(node));
        if !only_young && since.elapsed() < COMPLETE_WAIT {
            self.fresh.deadline = Some(since + COMPLETE_WAIT);
            return None;
        }
        Some(best(progress, need))
    }

    /// What a read with that route must see.
    fn need(&mut self, facts: &Facts, route: &Route) -> Need {
        let cluster = &self.identity.database.cluster;
        let (positions, fresh) = (cluster.positions(), &mut self.fresh);
        let primary = positions.primary();
        // What will be read in a transaction that begins is not known yet.
        let begins = self.begun.is_some();
        let tables = if begins { Tables::ALL } else { facts.tables.and(Tables::DEFINITIONS) };
        let mut need = Need { max_lag: route.max_lag, ..Need::default() };
        if let Some(last) = fresh.last {
            // Nobody asks a server any more that was removed.
            let member = cluster.view().server(last.node).is_some_and(|server| server.is_member());
            match positions.most(last).filter(|_| member) {
                Some(most) => need.last = Some((last.node, most)),
                // It may have started again with less than it had. The primary had all of it.
                None => {
                    fresh.last = None;
                    fresh.saw.by = Some(primary.now());
                }
            }
        }
        fresh.saw.add_to(&mut need, primary);
        if route.level >= Level::Session {
            fresh.wrote.add_to(&mut need, primary);
        }
        if route.level >= Level::Database
            && let Some(by) = cluster.writes().last(tables)
        {
            Bound { by: Some(by), known: Lsn(0) }.add_to(&mut need, primary);
        }
        if let Some(least) = self.own.min_position {
            // On a timeline that the cluster has not come to, its numbers mean something else here.
            need.pending |= least.timeline > timeline(cluster).unwrap_or(0);
            need.least = need.least.max(least.lsn);
        }
        need
    }

    /// Whether the replica that works is fresh enough for one more read.
    pub(super) fn is_fresh_here(&mut self, facts: &Facts, route: Route) -> bool {
        let node = self.held().map(|held| held.node);
        let fresh = self.freshen(facts, route);
        // Who is placed later, waits from then on.
        self.fresh.orphaned = None;
        let takes = |route: Route| node.map_or(route.servers.is_none(), |node| route.takes(node));
        fresh.is_some_and(|route| route.target == Target::Replica && takes(route))
    }

    /// Waits until a replica is fresh enough for the piece that was cut, or until it is too late for that.
    pub(super) async fn wait_fresh(&mut self, route: Route) -> Result<(), Leave> {
        let start = clock::now();
        let database = self.identity.database.clone();
        let (cluster, positions) = (&database.cluster, database.cluster.positions());
        // Of all waits for one unit.
        let deadline = *self.fresh.deadline.get_or_insert(start + database.pool.freshness_wait);
        let mut late = pin!(sleep_until(deadline));
        loop {
            let mut changed = pin!(positions.changed());
            changed.as_mut().enable();
            let Some(facts) = self.piece.map(|piece| piece.facts) else { break };
            if self.need(&facts, &route).pending
                && let Some(primary) = cluster.view().primary()
            {
                positions.ask(primary);
            }
            let fresh = self.narrow(&facts, route);
            let looks = self.fresh.looks && matches!(self.need(&facts, &route).last, Some((_, None)));
            if fresh.is_some() && !looks {
                break;
            }
            // The one that it has read from may be drained meanwhile.
            let last = self.fresh.last_read();
            cluster.view().replicas().chain(last).for_each(|node| positions.ask(node));
            let on_time = poll_fn(|cx| self.poll_wait(cx, &mut changed, &mut late)).await?;
            if on_time.is_none() {
                break;
            }
            if self.fresh.is_stuck() {
                let mut pause = pin!(sleep(PAUSE));
                poll_fn(|cx| self.poll_wait(cx, &mut pause, &mut late)).await?;
            }
        }
        self.fresh.looks = false;
        // It is looked at once more, and what is late then is late.
        self.fresh.deadline = Some(deadline);
        database.metrics.fresh_wait(start.elapsed());
        Ok(())
    }

    /// Ready(Some): what was waited for is there; Ready(None): it is late, or the client does not want it any more; an error: the
    /// client has gone.
    pub(super) fn poll_wait<T>(
        &mut self,
        cx: &mut Context<'_>,
        wanted: &mut (impl Future<Output = T> + Unpin),
        late: &mut (impl Future<Output = ()> + Unpin),
    ) -> Poll<Result<Option<T>, Leave>> {
        if let Poll::Ready(there) = pin!(wanted).poll(cx) {
            return Poll::Ready(Ok(Some(there)));
        }
        if pin!(late).poll(cx).is_ready() {
            return Poll::Ready(Ok(None));
        }
        if let Some(leave) = self.leaves(cx) {
            return Poll::Ready(Err(leave));
        }
        let unwanted = self.piece.is_some_and(|piece| self.is_unwanted(&piece));
        if unwanted { Poll::Ready(Ok(None)) } else { Poll::Pending }
    }

    /// What a piece that goes to the primary waits for: that this shows what the session has seen. Without a primary it waits for that
    /// first.
    pub(super) fn lacks_shown(&mut self, target: Target) -> Option<Next> {
        let ahead = self.fresh.ahead.filter(|_| target == Target::Primary)?;
        let cluster = &self.identity.database.cluster;
        cluster.view().primary()?;
        let may_lack = ahead.always || cluster.may_commit();
        if may_lack && !cluster.has_shown(ahead.replica, ahead.seen) {
            return Some(Next::Shown(ahead));
        }
        self.fresh.ahead = None;
        None
    }

    /// Waits for that, as long as a unit waits for a primary.
    pub(super) async fn wait_shown(&mut self, ahead: Ahead) -> Result<(), Leave> {
        let start = clock::now();
        let limit = self.identity.database.failover.options().wait;
        self.poll_shown(ahead, limit).await?;
        // Who does not want the answer any more may want the next.
        if start.elapsed() >= limit {
            self.fresh.ahead = None;
        }
        self.identity.database.metrics.fresh_wait(start.elapsed());
        Ok(())
    }

    /// Waits so long for that. True: it is shown.
    async fn poll_shown(&mut self, ahead: Ahead, limit: Duration) -> Result<bool, Leave> {
        let database = self.identity.database.clone();
        let mut late = pin!(sleep_until(clock::now() + limit));
        let mut shown = pin!(database.cluster.shows_all_of(ahead.replica, ahead.seen));
        let is_shown = poll_fn(|cx| self.poll_wait(cx, &mut shown, &mut late)).await? == Some(true);
        if is_shown {
            self.fresh.ahead = None;
        }
        Ok(is_shown)
    }

    /// Whether the piece asks for the position of the session, which is still to be found out: in its own text, or in that of a
    /// statement or a portal that it runs.
    #[cold]
    pub(super) fn lacks_position(&self, piece: &Piece) -> bool {
        if self.fresh.told {
            return false;
        }
        let window = self.window.as_ref().map(|window| window.bytes()).unwrap_or_default();
        let piece = window.get(..piece.size).unwrap_or_default();
        names_position(piece) || messages(piece).any(|(tag, body)| self.runs_position(tag, body))
    }

    /// Whether a message runs a text that came before its piece and asks for the position.
    fn runs_position(&self, tag: u8, body: &[u8]) -> bool {
        match tag {
            b'B' => frontend::bind(body).is_some_and(|(_, name)| {
                let statement = self.statements.find(name);
                statement.and_then(|statement| statement.parse.as_deref()).is_some_and(names_position)
            }),
            b'E' => frontend::execute(body).is_some_and(|(portal, _)| {
                let text = self.desk.as_ref().and_then(|desk| desk.bound(portal));
                text.is_some_and(|text| names_position(text.as_bytes()))
            }),
            _ => false,
        }
    }

    /// Finds out a position at or past all that the session has written and seen.
    pub(super) async fn find_position(&mut self) -> Result<(), Leave> {
        let database = self.identity.database.clone();
        let (cluster, positions) = (&database.cluster, database.cluster.positions());
        let moment = positions.primary().now();
        let mut late = pin!(sleep_until(clock::now() + POSITION_WAIT));
        self.own.position = None;
        self.fresh.told = true;
        // Who reads on the primary by that is to see it, too.
        if let Some(Next::Shown(ahead)) = self.lacks_shown(Target::Primary)
            && !self.poll_shown(ahead, POSITION_WAIT).await?
        {
            return Ok(());
        }
        loop {
            let mut changed = pin!(positions.changed());
            changed.as_mut().enable();
            if let (Some(lsn), Some(timeline)) = (positions.primary().after(moment), timeline(cluster)) {
                self.own.position = Some(Position { timeline, lsn });
                return Ok(());
            }
            if let Some(primary) = cluster.view().primary() {
                positions.ask(primary);
            }
            if poll_fn(|cx| self.poll_wait(cx, &mut changed, &mut late)).await?.is_none() {
                return Ok(());
            }
        }
    }
}

/// The messages of a piece: the tag and the body of each.
fn messages(mut piece: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let head = frame::header(piece, Side::Frontend).ok()??;
        let (message, rest) = piece.split_at_checked(head.size)?;
        piece = rest;
        Some((head.tag, message.get(HEADER..)?))
    })
}

/// Whether a text may be about `pgweir.position`; what only sets `pgweir.min_position` is not.
fn names_position(text: &[u8]) -> bool {
    const WORD: &[u8] = b"position";
    let asks = |word: &[u8]| {
        word.split_first().is_some_and(|(before, word)| *before != b'_' && word.eq_ignore_ascii_case(WORD))
    };
    text.windows(WORD.len() + 1).any(asks)
}

/// The timeline of the primary; none: there is no primary, or it does not say.
fn timeline(cluster: &Cluster) -> Option<u32> {
    let view = cluster.view();
    let primary = view.server(view.primary()?)?;
    (primary.timeline > 0).then_some(primary.timeline)
}
