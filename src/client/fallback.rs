//! Reads while no replica may take them: to the primary, no more at once than it bears; or they wait for one; or they fail.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::fail::Failure;
use super::options::{FallbackOptions, ReplicaDown};
use super::plan::Place;
use super::session::{Leave, Next, Session};
use super::unit::Piece;
use crate::clock::{self, Instant};
use crate::metrics::{DatabaseMetrics, RerunCause};
use crate::pool::LeaseError;
use crate::route::rules::Mode;
use crate::route::{Class, Reason, Route, Target};

/// What becomes of them in one database.
pub struct Fallback {
    options: FallbackOptions,
    metrics: Arc<DatabaseMetrics>,
    /// Those that run on the primary for want of a replica.
    running: AtomicUsize,
    waiting: AtomicUsize,
    freed: Notify,
}

/// The right to read on the primary for want of a replica; given up when dropped.
pub(super) struct Permit(Arc<Fallback>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_waiters();
        self.0.metrics.fallback_runs(-1.0);
    }
}

/// One that waits; no more when dropped.
struct Waiting(Arc<Fallback>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.fallback_waits(-1.0);
    }
}

impl Fallback {
    /// With nobody in it.
    #[must_use]
    pub fn new(options: FallbackOptions, metrics: Arc<DatabaseMetrics>) -> Self {
        Self {
            options,
            metrics,
            running: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    /// What the operator chose.
    #[must_use]
    pub fn options(&self) -> &FallbackOptions {
        &self.options
    }

    /// Whether anything but "to the primary, all of them" was chosen.
    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.options.mode != ReplicaDown::Primary || self.options.most > 0
    }

    fn has_room(&self) -> bool {
        self.options.mode == ReplicaDown::Primary && self.running.load(Ordering::Acquire) < self.options.most
    }

    /// The right to go to the primary; none: as many as may do so already.
    fn enter(self: &Arc<Self>) -> Option<Permit> {
        if self.options.mode != ReplicaDown::Primary {
            return None;
        }
        let more = |running| (running < self.options.most).then_some(running + 1);
        self.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        self.metrics.fallback_runs(1.0);
        Some(Permit(self.clone()))
    }
}

impl Session {
    /// What becomes of a piece that goes to the primary because no replica may take it. None: it goes there, or is no such.
    pub(super) fn falls_back(&mut self, piece: &Piece, route: Route) -> Option<Place> {
        let fallback = &self.identity.database.fallback;
        if !fallback.is_set() || self.permit.is_some() {
            return None;
        }
        if !self.lacks_replica(piece, route) {
            self.fallback_until = None;
            return None;
        }
        if let Some(permit) = fallback.enter() {
            self.permit = Some(permit);
            self.fallback_until = None;
            return None;
        }
        let until = *self.fallback_until.get_or_insert_with(|| clock::now() + fallback.options.wait);
        let failure = if fallback.options.mode == ReplicaDown::Error {
            fallback.metrics.fallback_ended("refused");
            Failure::NoReplica
        } else if clock::now() >= until {
            fallback.metrics.fallback_ended("timeout");
            Failure::NoReplica
        } else if fallback.waiting.load(Ordering::Relaxed) >= self.identity.database.pool.max_waiting {
            fallback.metrics.fallback_ended("full");
            let waiting = fallback.waiting.load(Ordering::Relaxed);
            Failure::Lease(LeaseError::Queue { waiting })
        } else {
            self.next = Some(Next::Replica(route));
            return Some(Place::Wait);
        };
        self.give_up_unit(*piece, Reason::NoReplica, &failure);
        Some(Place::Done)
    }

    /// Whether it would read on a replica if there were one.
    fn lacks_replica(&self, piece: &Piece, route: Route) -> bool {
        let database = &self.identity.database;
        let reads = matches!(piece.facts.class, Class::Read | Class::BeginReadOnly);
        let none = || database.cluster.view().replicas().next().is_none();
        let again = self
            .net
            .again()
            .is_some_and(|rerun| matches!(rerun.cause, RerunCause::Cancelled | RerunCause::Lost));
        route.target == Target::Primary
            && database.rules.mode != Mode::Observe
            && (route.reason == Reason::NoReplica || reads && again && none())
    }

    /// Waits until a replica is there, or room on the primary, or it is too late.
    pub(super) async fn wait_replica(&mut self, route: Route) -> Result<(), Leave> {
        let database = self.identity.database.clone();
        let (cluster, fallback) = (&database.cluster, &database.fallback);
        let fits = || cluster.view().replicas().any(|node| route.takes(node));
        let until: Instant = self.fallback_until.unwrap_or_else(clock::now);
        fallback.waiting.fetch_add(1, Ordering::AcqRel);
        let waiting = Waiting(fallback.clone());
        fallback.metrics.fallback_waits(1.0);
        self.identity.cancel.waits(true);
        let over = async {
            loop {
                let (epoch, freed) = (cluster.epoch(), fallback.freed.notified());
                let mut freed = pin!(freed);
                freed.as_mut().enable();
                if fits() || fallback.has_room() {
                    return;
                }
                tokio::select! {
                    () = freed => {}
                    () = cluster.changed(epoch) => {}
                    () = sleep_until(until) => return,
                }
            }
        };
        let mut over = pin!(over);
        let outcome = poll_fn(|cx| match over.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(true)),
            Poll::Pending => match self.leaves(cx) {
                Some(leave) => Poll::Ready(Err(leave)),
                None if self.identity.cancel.is_asked() => Poll::Ready(Ok(false)),
                None => Poll::Pending,
            },
        });
        let goes_on = outcome.await;
        drop(waiting);
        self.identity.cancel.waits(false);
        let outcome = match &goes_on {
            Ok(true) if clock::now() < until => Some("served"),
            Ok(true) => None,
            Ok(false) | Err(_) => Some("gone"),
        };
        outcome.into_iter().for_each(|outcome| fallback.metrics.fallback_ended(outcome));
        if !goes_on? && let Some(piece) = self.piece {
            self.give_up_unit(piece, Reason::NoReplica, &Failure::Cancelled);
        }
        Ok(())
    }
}
