//! A primary that is gone, silent or primary no more: who waits for the next one, and what becomes of what was sent.
//!
//! Nothing that may have been carried out is sent twice. What was not sent yet waits in a queue with bounds and goes on in
//! order. What was sent runs again only if it reads, or if its server cannot have done it: one that has refused it as a
//! replica does, and is one.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

use super::fail::Failure;
use super::options::FailoverOptions;
use super::plan::note_outage;
use super::retry::{AtPrimary, MOST_TRIES, Net, Rerun};
use super::search::Search;
use super::session::{Leave, Session};
use super::shared::{Database, Shared};
use super::unit::Piece;
use crate::clock::{self, Instant};
use crate::cluster::{Health, Standing, View};
use crate::ids::Node;
use crate::metrics::{DatabaseMetrics, RerunCause, TargetLabel};
use crate::monitor::{Cluster, Hub, Inbox, Unheard};
use crate::pool::{Lease, LeaseError};
use crate::route::{Class, Target};
use crate::server::owed::Show;
use crate::wire::TransactionStatus;
use crate::wire::write::{self, Severity};

/// The queue of those who wait for a primary, of one database.
pub struct Failover {
    options: FailoverOptions,
    metrics: Arc<DatabaseMetrics>,
    line: Mutex<Line>,
    /// How many wait, for those who look in passing.
    waiting: AtomicUsize,
    /// Whose turn it is; a fair one.
    turn: Semaphore,
}

#[derive(Default)]
struct Line {
    units: usize,
    bytes: usize,
}

/// A place in the queue; given up when dropped.
pub(super) struct Place<'a> {
    failover: &'a Failover,
    bytes: usize,
    outcome: &'static str,
}

impl Failover {
    /// An empty one.
    #[must_use]
    pub fn new(options: FailoverOptions, metrics: Arc<DatabaseMetrics>) -> Self {
        metrics.failover_waiting(0, 0);
        Self {
            options,
            metrics,
            line: Mutex::default(),
            waiting: AtomicUsize::new(0),
            turn: Semaphore::new(1),
        }
    }

    /// Its bounds.
    #[must_use]
    pub fn options(&self) -> &FailoverOptions {
        &self.options
    }

    /// Whether anybody waits: nobody may overtake them.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more, with a unit of so many bytes.
    fn enter(&self, bytes: usize) -> Result<Place<'_>, Failure> {
        let mut line = self.line();
        if line.units >= self.options.waiting || line.bytes + bytes > self.options.bytes {
            let units = line.units;
            drop(line);
            self.metrics.failover_waited("full");
            return Err(Failure::FailoverFull(units));
        }
        line.units += 1;
        line.bytes += bytes;
        self.show(&line);
        Ok(Place { failover: self, bytes, outcome: "gone" })
    }

    fn show(&self, line: &Line) {
        self.waiting.store(line.units, Ordering::Relaxed);
        self.metrics.failover_waiting(line.units, line.bytes);
    }
}

impl Place<'_> {
    fn leave(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut line = self.failover.line();
        line.units -= 1;
        line.bytes -= self.bytes;
        self.failover.show(&line);
        drop(line);
        self.failover.metrics.failover_waited(self.outcome);
    }
}

/// A write that a supposed primary refused: by whom, in which of its terms, and in which words.
#[derive(Debug)]
pub(super) struct Doubt {
    node: Node,
    term: u64,
    said: Bytes,
}

/// How a wait for the primary goes.
pub(super) struct Wait<'a> {
    deadline: Instant,
    place: Option<(Place<'a>, Option<SemaphorePermit<'a>>)>,
    last: Option<LeaseError>,
}

impl Wait<'_> {
    /// There is no need to wait any more.
    pub(super) fn leave(mut self) {
        if let Some((place, _)) = self.place.take() {
            place.leave("served");
        }
    }
}

impl Database {
    /// As [`Hub::listen`]; while there is no primary, the unit, of so many bytes, waits in the queue for one.
    pub(super) async fn listen(
        &self,
        hub: &Arc<Hub>,
        channel: &str,
        inbox: &Arc<Inbox>,
        bytes: usize,
    ) -> Result<(), Unheard> {
        let deadline = clock::now() + self.failover.options.wait;
        let mut place = None;
        loop {
            let epoch = self.cluster.epoch();
            let end = hub.listen(channel, inbox).await;
            let late = clock::now() >= deadline;
            match end {
                Err(unheard) if unheard.outage && !late => {
                    if place.is_none() {
                        place = Some(self.failover.enter(bytes).map_err(|_| unheard)?);
                    }
                    let _ = timeout_at(deadline, self.cluster.changed(epoch)).await;
                }
                end => {
                    if let Some(place) = place {
                        place.leave(if end.is_ok() { "served" } else { "timeout" });
                    }
                    return end;
                }
            }
        }
    }
}

impl Search {
    pub(super) fn wait(&self) -> Wait<'_> {
        let deadline = clock::now() + self.database.failover.options.wait;
        Wait { deadline, place: None, last: None }
    }

    /// A connection to the primary. While there is none, or it cannot be reached, the unit waits in the queue. None: there
    /// is a replica now, and that will do.
    pub(super) async fn primary<'a>(
        &'a self,
        wait: &mut Wait<'a>,
        or_replica: impl Fn(&View) -> bool,
    ) -> Result<Option<(Node, Lease)>, Failure> {
        let (cluster, failover) = (&self.database.cluster, &self.database.failover);
        if let Some(lost) = self.lost {
            cluster.asked(lost, wait.deadline).await;
        }
        loop {
            let epoch = cluster.epoch();
            let primary = self.believed()?;
            if wait.place.is_none() && (primary.is_none() || failover.is_busy()) {
                let place = failover.enter(self.bytes)?;
                wait.place = Some((place, None));
                let turn = timeout_at(wait.deadline, failover.turn.acquire()).await;
                if let (Ok(Ok(turn)), Some((_, mine))) = (turn, &mut wait.place) {
                    *mine = Some(turn);
                }
                continue;
            }
            if let Some(node) = primary {
                match self.lease_from(node, wait).await {
                    Some(Ok(lease)) => return Ok(Some((node, lease))),
                    Some(Err(error)) if note_outage(&self.database, node, &error) => {
                        wait.last = Some(error);
                        // Its probe is on its way: what that says decides.
                        cluster.asked(node, wait.deadline).await;
                    }
                    Some(Err(error)) => return Err(Failure::Lease(error)),
                    // Another server has become primary.
                    None => {}
                }
            } else if or_replica(&cluster.view()) {
                if let Some((place, _)) = wait.place.take() {
                    place.leave("served");
                }
                return Ok(None);
            } else {
                let _ = timeout_at(wait.deadline, cluster.changed(epoch)).await;
            }
            if clock::now() >= wait.deadline {
                if let Some((place, _)) = wait.place.take() {
                    place.leave("timeout");
                }
                let last = wait.last.take().filter(|_| cluster.view().primary().is_some());
                return Err(last.map_or(Failure::NoPrimary, Failure::Lease));
            }
        }
    }

    /// The primary, unless it is doubted and was not asked since.
    fn believed(&self) -> Result<Option<Node>, Failure> {
        let view = self.database.cluster.view();
        let Some(primary) = view.primary() else { return Ok(None) };
        let Some(doubt) = self.doubt.as_ref().filter(|doubt| doubt.node == primary) else {
            return Ok(Some(primary));
        };
        if view.is_suspect(primary) {
            return Ok(None);
        }
        if self.database.cluster.term(primary).load(Ordering::Acquire) != doubt.term {
            return Ok(Some(primary));
        }
        // It is what it was, and refuses: the client has to know.
        Err(Failure::ServerSaid(doubt.said.clone()))
    }

    /// A connection to `node` while it is the primary; none: it is so no more. With a place in the queue of its pool, the
    /// unit has no need of one here.
    async fn lease_from(&self, node: Node, wait: &mut Wait<'_>) -> Option<Result<Lease, LeaseError>> {
        let mut lease = pin!(self.lease(node));
        let first = poll_fn(|cx| Poll::Ready(lease.as_mut().poll(cx))).await;
        if let Some((place, _)) = wait.place.take() {
            place.leave("served");
        }
        if let Poll::Ready(lease) = first {
            return Some(lease);
        }
        self.while_it(lease, |view| view.primary() == Some(node)).await
    }

    /// A connection to the replica `node`, unless it is found down meanwhile; none then.
    pub(super) async fn lease_replica(&self, node: Node) -> Option<Result<Lease, LeaseError>> {
        let usable = |view: &View| view.server(node).is_some_and(|server| server.health != Health::Down);
        self.while_it(pin!(self.lease(node)), usable).await
    }

    async fn while_it(
        &self,
        lease: impl Future<Output = Result<Lease, LeaseError>>,
        holds: impl Fn(&View) -> bool,
    ) -> Option<Result<Lease, LeaseError>> {
        let cluster = &self.database.cluster;
        let over = async {
            loop {
                let epoch = cluster.epoch();
                if !holds(&cluster.view()) {
                    return;
                }
                cluster.changed(epoch).await;
            }
        };
        tokio::select! {
            biased;
            lease = lease => Some(lease),
            () = over => None,
        }
    }
}

/// Wakes those who wait for an answer of a server that was found down or is not what it was, until dropped.
pub async fn watch(shared: Arc<Shared>, cluster: Arc<Cluster>) {
    let mut before = cluster.view().clone();
    loop {
        let epoch = cluster.epoch();
        let after = cluster.view().clone();
        let down = |view: &View, node| view.server(node).is_some_and(|server| server.health == Health::Down);
        let gone = |node| !down(&before, node) && down(&after, node) || before.is_over(&after, node);
        if cluster.nodes().any(gone) {
            shared.cancels.wake();
        }
        before = after;
        cluster.changed(epoch).await;
    }
}

impl Session {
    /// Something has changed in the cluster: what is held of servers that are not what they were is given up, and reads that
    /// wait for a replica that is down run again.
    #[cold]
    pub(super) fn look_around(&mut self, cx: &mut Context<'_>) -> Result<(), Leave> {
        self.epoch = self.identity.database.cluster.epoch();
        self.identity.cancel.wake_by(cx.waker());
        for target in [Target::Primary, Target::Replica] {
            let Some(Some(held)) = self.held.get(target.index()) else { continue };
            let (node, over) = (held.node, held.lease.pool().is_over(&held.lease));
            let (down, shut) = {
                let view = self.identity.database.cluster.view();
                let Some(server) = view.server(node) else { continue };
                let shut = matches!(server.standing, Standing::Fenced | Standing::Foreign);
                (server.health == Health::Down, shut)
            };
            if self.active != Some(target) {
                if over {
                    self.give_up(target)?;
                }
            } else if target == Target::Primary && over && (shut || down) {
                // What it still does is lost with it: nobody should rely on its answer. One that is a replica now may
                // answer: it does nothing.
                self.server_lost(Failure::ServerLost)?;
            } else if target == Target::Replica && down {
                self.leave_silent(node)?;
            }
        }
        Ok(())
    }

    /// Whether what would go to the primary has to wait until that was asked: it has refused a unit of this session, or lost one and
    /// may be gone. One error for a client is enough.
    pub(super) fn is_wary(&self) -> bool {
        let may_be_gone = |node| self.identity.database.cluster.view().is_suspect(node);
        self.net.doubt.is_some() || self.net.lost.is_some_and(may_be_gone)
    }

    /// What a server says before it closes the connection is kept for whoever has to hear it.
    #[cold]
    pub(super) fn hear_last_words(&mut self, at: usize, size: usize) {
        self.back.hold = at;
        let Some(window) = self.held().and_then(|held| held.lease.window.as_mut()) else { return };
        let words = window.bytes().get(at..).and_then(|bytes| bytes.get(..size)).map(Bytes::copy_from_slice);
        window.cut_out(at, size);
        self.last_words = words;
    }

    /// The active connection is gone. What was not answered gets an error; what depended on it ends the session.
    pub(super) fn server_lost(&mut self, failure: Failure) -> Result<(), Leave> {
        let Some(target) = self.active.take() else { return Ok(()) };
        self.identity.cancel.rest();
        self.expects_nothing();
        let Some(held) = self.held.get_mut(target.index()).and_then(Option::take) else { return Ok(()) };
        if !held.lease.pool().is_over(&held.lease) {
            self.identity.database.cluster.lost(held.node, "a connection in use was lost");
            // The others to a primary that has died break one after the other.
            if target == Target::Primary {
                self.net.lost = Some(held.node);
            }
        }
        // What was sent to it may have been carried out.
        self.note_primary(true);
        let owed = &held.lease.owed;
        if std::mem::take(&mut self.defines) {
            self.identity.catalog.changed();
        }
        if !self.net.is_empty() {
            // The rest of a unit that was sent in part stands behind what was about to go.
            let rest = self.piece.filter(|_| owed.is_open()).map_or(0, |piece| piece.size);
            if self.rescue(held.node, self.forth.run + rest) {
                held.lease.close("lost");
                return Ok(());
            }
        }
        let said = self.last_words.take();
        let in_transaction = held.transaction || owed.status() != TransactionStatus::Idle;
        let uncertain = held.uncertain && !owed.is_empty();
        let cut = self.back.rest > 0 && self.back.rest_show == Show::Forward;
        let words = said.as_deref().map(Failure::said).unwrap_or_default();
        if held.is_missed() || in_transaction || owed.is_copy_in() || cut {
            // Half a message is on its way to the client, or what it relies on is lost.
            held.lease.close("lost");
            let lost = match said {
                _ if uncertain => Failure::SessionUnknown(words),
                Some(said) => Failure::ServerSaid(said),
                None => Failure::SessionLost,
            };
            return Err(if cut { Leave::Gone } else { Leave::Told(lost) });
        }
        self.pinned &= target != Target::Primary;
        let failure = match said {
            _ if uncertain => Failure::OutcomeUnknown(words),
            Some(said) => Failure::ServerSaid(said),
            None => failure,
        };
        let moving = std::mem::take(&mut self.moving);
        let (readies, open, shown) = (owed.readies(), owed.is_open() || moving, held.error_shown);
        held.lease.close("lost");
        self.back.rest = 0;
        self.drop_forth();
        self.names.clear();
        self.statements.abandon();
        for nth in 0..readies {
            if nth > 0 || !shown {
                self.say_error(&failure);
            }
            write::ready_for_query(&mut self.back.own, TransactionStatus::Idle);
        }
        self.identity.cancel.settle();
        if open {
            if readies > 0 || !shown {
                self.say_error(&failure);
            }
            self.skip_unit();
        }
        Ok(())
    }

    /// A connection that does not work goes.
    fn give_up(&mut self, target: Target) -> Result<(), Leave> {
        let Some(held) = self.held.get_mut(target.index()).and_then(Option::take) else { return Ok(()) };
        let state = held.is_missed();
        held.lease.close("role_changed");
        self.pinned &= target != Target::Primary;
        if state { Err(Leave::Told(Failure::SessionLost)) } else { Ok(()) }
    }

    /// The reads that a silent replica owes run again elsewhere, if that can be; else they wait.
    fn leave_silent(&mut self, node: Node) -> Result<(), Leave> {
        if self.net.failed.is_none() {
            if !self.net.holds() || self.back.rest > 0 {
                return Ok(());
            }
            let Some(rerun) = self.plan(RerunCause::Lost, node, false) else { return Ok(()) };
            self.net.failed = Some(rerun);
        }
        self.server_lost(Failure::ServerLost)
    }

    /// Keeps a unit for the primary that may run again: one that reads, or one that changes nothing unless it succeeds.
    pub(super) fn keep_for_primary(&mut self, piece: &Piece, tries: u8) {
        let reads = matches!(piece.facts.class, Class::Read | Class::Empty);
        let fits = Net::is_whole(piece) && (reads || piece.facts.class == Class::Write && !piece.facts.pins);
        let Some(held) = self.held() else { return };
        let in_transaction = held.transaction || held.lease.owed.status() != TransactionStatus::Idle;
        let alone = held.running.is_one() && !in_transaction && !held.has_state();
        if !self.net.is_empty() {
            // What stands behind another may rely on it.
            self.release();
            self.net.clear();
        } else if fits
            && alone
            && let Some(unit) = self.window.as_ref().and_then(|window| window.bytes().get(..piece.size))
        {
            self.net.keep(unit, tries);
            self.net.at_primary = Some(if reads { AtPrimary::Reads } else { AtPrimary::Writes });
        }
    }

    /// What was kept for the primary runs again because the connection broke; none: it may have been carried out.
    pub(super) fn plan_for_primary(&self, cause: RerunCause, node: Node) -> Option<Rerun> {
        let tries = self.net.tries() + 1;
        let harmless = self.net.at_primary != Some(AtPrimary::Writes) || cause == RerunCause::Demoted;
        if tries > MOST_TRIES || !harmless {
            return None;
        }
        let database = &self.identity.database;
        if !database.retries.take(database.metrics.units(TargetLabel::Replica), clock::now()) {
            database.metrics.rerun(cause, TargetLabel::None);
            return None;
        }
        Some(Rerun { cause, target: Target::Primary, avoid: node, tries, anew: true })
    }

    /// The supposed primary refused a write, as a replica does. True: it runs again, on whichever is the primary now.
    pub(super) fn catch_demoted(&mut self, at: usize, error: &[u8]) -> bool {
        let Some(Some(held)) = self.held.get(Target::Primary.index()) else { return false };
        if !self.net.holds() || held.lease.owed.is_open() {
            return false;
        }
        let (node, term) = (held.node, held.lease.term);
        let Some(rerun) = self.plan_for_primary(RerunCause::Demoted, node) else { return false };
        let mut said = bytes::BytesMut::new();
        write::error_repeated(&mut said, Severity::Error, error);
        self.net.doubt = Some(Doubt { node, term, said: said.freeze() });
        self.doubt_primary();
        self.net.failed = Some(rerun);
        self.statements.make_void();
        self.release();
        self.drop_held(at);
        true
    }

    /// The active connection's server said that it does not write.
    #[cold]
    pub(super) fn doubt_primary(&mut self) {
        let believed = self.held().filter(|held| !held.lease.pool().is_over(&held.lease));
        let Some(node) = believed.map(|held| held.node) else { return };
        self.identity.database.cluster.doubted(node, "it refused a write as a replica does");
    }

    /// The connection that the refused unit ran on is not used again.
    pub(super) fn drop_doubted(&mut self) {
        let Some(target) = self.active.take() else { return };
        self.identity.cancel.rest();
        if let Some(held) = self.held.get_mut(target.index()).and_then(Option::take) {
            held.lease.close("role_changed");
        }
    }
}

/// What an error says of a server that should be the primary: it may be one no more.
pub(super) fn is_doubt(code: &[u8]) -> bool {
    code == b"25006"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn the_queue_has_bounds() {
        let metrics = Metrics::new();
        let options = FailoverOptions { waiting: 2, bytes: 100, ..FailoverOptions::default() };
        let failover = Failover::new(options, metrics.database("app"));
        let first = failover.enter(60).unwrap();
        assert!(matches!(failover.enter(41), Err(Failure::FailoverFull(1))), "too many bytes");
        let second = failover.enter(40).unwrap();
        assert!(matches!(failover.enter(0), Err(Failure::FailoverFull(2))), "too many units");
        first.leave("served");
        assert!(failover.is_busy());
        drop(second);
        assert!(!failover.is_busy() && failover.enter(100).is_ok());
        let text = metrics.render();
        for (outcome, count) in [("full", 2), ("served", 1), ("gone", 2)] {
            let line =
                format!("pgweir_failover_waits_total{{database=\"app\",outcome=\"{outcome}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
