//! `lastval()` and `currval()`: what a session has drawn from sequences lives on its server connection, and no server can be
//! asked for it.
//!
//! A connection knows which client may have drawn on it last. Who asks outside the transaction that drew gets that one if it is free,
//! and an error rather than what another client has drawn: the server's own, if the client has drawn nothing anywhere. After what shapes of statements clients ask is remembered: who sends such a
//! one keeps its connection for a moment, and asks in that.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tokio::time::{Sleep, sleep};

use super::fail::Failure;
use super::plan::Place;
use super::session::{Held, Leave, Session};
use super::unit::Piece;
use crate::clock::{self, Duration};
use crate::route::{Class, Reason, Route, ShapeId, Target};
use crate::wire::TransactionStatus;

/// Forgets what was drawn on a connection.
const DISCARD: &str = "DISCARD SEQUENCES";

/// How long a connection stays with the client that may ask what it has drawn on it.
const DRAWN: Duration = Duration::from_millis(100);

/// How long with one that has asked: it may do so again.
const ASKED: Duration = Duration::from_millis(10);

/// What a session has drawn from sequences.
#[derive(Default)]
pub(super) struct Recall {
    /// By a unit of what shape it may have drawn last.
    drew: Option<ShapeId>,
    /// On how many connections it has drawn so far.
    turn: u32,
    /// Something has failed since.
    pub(super) failed: bool,
    /// In the same turn an INSERT has drawn before: whatever came after it, what the connection knows is the client's own.
    inserted: bool,
    /// For how long its connection stays once it has nothing to do.
    stays: Option<Duration>,
    /// Ends then.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Whether a piece may draw from a sequence.
fn draws(piece: &Piece) -> bool {
    let class = matches!(piece.facts.class, Class::Write | Class::Session | Class::InTransaction);
    class && !piece.facts.recalls && !is_between(piece)
}

/// Whether a piece is one of those that drivers send between what draws and the question: a COMMIT, a DEALLOCATE, a Close.
fn is_between(piece: &Piece) -> bool {
    match piece.facts.class {
        Class::Empty | Class::End => true,
        Class::Session => piece.facts.reason == Reason::Prepare,
        _ => false,
    }
}

impl Session {
    /// A unit for the connection that works, with nothing before it.
    pub(super) fn begin_unit(&mut self, piece: Piece, route: Route) -> Result<Place, Leave> {
        match () {
            () if self.is_unwanted(&piece) => Ok(self.refuse_unwanted(piece)),
            () if piece.facts.recalls && !self.may_recall() => {
                // What only prepares asks nothing yet. What else a text calls may draw by itself.
                let asks = self.answers(&piece);
                let alone = piece.facts.reason == Reason::PrimaryFunction;
                if asks && alone && self.recall.drew.is_some() {
                    return self.refuse_recall(piece, route.reason);
                }
                if asks {
                    self.forget_all();
                }
                self.start_unit(piece, route)
            }
            () => {
                if self.active == Some(Target::Primary) && draws(&piece) {
                    self.forget_others(&piece);
                }
                self.start_unit(piece, route)
            }
        }
    }

    /// A piece after whose like clients ask what it has drawn: if it draws nothing, the answer is not what another client has.
    fn forget_others(&mut self, piece: &Piece) {
        let turn = self.turn();
        let others =
            |held: &mut Held| held.lease.drawn != turn && (held.lease.drawn != 0 || !held.lease.drawn_alone);
        if !self.held().is_some_and(others)
            || !self.shared.judge.shapes().is_recalled(piece.facts.shape, false)
        {
            return;
        }
        self.forget_all();
    }

    /// The connection to the primary forgets what has been drawn on it, whoever did: the server itself says then that nothing was
    /// drawn, or that there is no such sequence, or no right to ask.
    fn forget_all(&mut self) {
        self.dress();
        let turn = self.next_turn();
        let Some(held) = self.held.get_mut(Target::Primary.index()).and_then(Option::as_mut) else { return };
        match held.lease.owed.status() {
            TransactionStatus::Failed => return,
            TransactionStatus::Open => held.lease.query(&mut self.forth.own, DISCARD),
            // In a transaction of its own: what follows may begin another.
            TransactionStatus::Idle => {
                held.lease.preface_transaction(&mut self.forth.own, &["BEGIN", DISCARD, "COMMIT"]);
            }
        }
        (held.lease.drawn, held.lease.drawn_alone) = (turn, true);
    }

    /// Whether a piece may follow others that are not answered yet, on their connection.
    pub(super) fn may_follow(&mut self, piece: &Piece) -> bool {
        !piece.facts.recalls || self.held().is_some_and(|held| held.lease.drawn_alone) && self.may_recall()
    }

    /// In which turn the client has drawn last: what it drew before on another connection is not that.
    fn turn(&self) -> u64 {
        u64::from(self.identity.cancel.key.process) << 32 | u64::from(self.recall.turn)
    }

    fn next_turn(&mut self) -> u64 {
        self.recall.turn = self.recall.turn.wrapping_add(1);
        self.turn()
    }

    /// The turn on whose connection that piece should run.
    pub(super) fn drawer(&self, piece: &Piece) -> Option<u64> {
        piece.facts.recalls.then(|| self.turn())
    }

    /// A piece is about to be sent to the primary.
    pub(super) fn note_drawn(&mut self, piece: &Piece) {
        let timer = self.recall.timer.take();
        if draws(piece) {
            let (mut turn, shape) = (self.turn(), piece.facts.shape);
            let stays = self.held().is_some_and(|held| held.lease.drawn == turn);
            self.recall.inserted = stays && self.has_inserted();
            if !stays {
                turn = self.next_turn();
            }
            if let Some(held) = self.held() {
                held.lease.draws(turn);
            }
            (self.recall.drew, self.recall.failed) = (Some(shape), false);
            self.recall.stays = self.shared.judge.shapes().is_recalled(shape, true).then_some(DRAWN);
        } else if !is_between(piece) {
            self.recall.stays = piece.facts.recalls.then_some(ASKED);
        } else if let Some(timer) = timer {
            self.recall.stays = Some(timer.deadline() - clock::now());
        }
    }

    /// Whether the connection that works stays for a question, and has nothing to do.
    pub(super) fn is_lingering(&self) -> bool {
        self.recall.timer.is_some() && self.active == Some(Target::Primary)
    }

    /// Who goes on with something else than a question does so as if the connection had not stayed: those who wait for one come
    /// first. True: wait for its reset.
    #[inline]
    pub(super) fn lingers_no_more(&mut self, piece: &Piece) -> bool {
        if self.is_lingering() && !piece.facts.recalls && !is_between(piece) {
            (self.recall.stays, self.recall.timer) = (None, None);
            self.settle();
        }
        self.next.is_some()
    }

    /// Whether the connection that works, and has nothing to do, stays for a question; the task is woken when it stays no longer.
    #[inline]
    pub(super) fn lingers(&mut self, cx: &mut Context<'_>) -> bool {
        self.recall.stays.is_some() && self.waits_for_question(cx)
    }

    #[cold]
    fn waits_for_question(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(stays) = self.recall.stays.filter(|_| self.active == Some(Target::Primary)) else {
            return false;
        };
        let timer = self.recall.timer.get_or_insert_with(|| Box::pin(sleep(stays)));
        if timer.as_mut().poll(cx).is_pending() {
            return true;
        }
        (self.recall.stays, self.recall.timer) = (None, None);
        false
    }

    /// Whether the connection knows what the client has drawn. A replica says itself that it does not.
    fn may_recall(&mut self) -> bool {
        let (turn, begun) = (self.turn(), self.begun.is_some());
        let (drew, inserted) = (self.recall.drew, self.has_inserted());
        let primary = self.active == Some(Target::Primary);
        let Some(held) = self.held() else { return true };
        let (own, alone) = (held.lease.drawn == turn, held.lease.drawn_alone);
        let outside = begun || held.lease.owed.status() == TransactionStatus::Idle;
        let Some(shape) = drew.filter(|_| primary) else { return !primary || own && alone };
        let shapes = self.shared.judge.shapes();
        shapes.recalled(shape, outside);
        // What no INSERT is may have drawn nothing, on a connection that remembers what another client has drawn.
        own && (alone || !outside || inserted)
    }

    /// Whether an INSERT has drawn in this turn, as far as is known.
    fn has_inserted(&self) -> bool {
        let last = self.recall.drew.filter(|_| !self.recall.failed);
        self.recall.inserted || last.is_some_and(|shape| self.shared.judge.shapes().inserts(shape))
    }

    /// It is not carried out. In a transaction its server fails.
    #[cold]
    fn refuse_recall(&mut self, piece: Piece, reason: Reason) -> Result<Place, Leave> {
        let status = self.held().map(|held| held.lease.owed.status());
        if self.begun.is_some() || status.is_none_or(|status| status == TransactionStatus::Idle) {
            self.give_up_unit(piece, reason, &Failure::Recall);
            return Ok(Place::Done);
        }
        if !piece.ends || piece.rest > 0 {
            return Err(Leave::Told(Failure::Recall));
        }
        if let Some(held) = self.held() {
            held.running.begin(piece.facts.shape, None);
        }
        self.raise(piece, &Failure::Recall);
        Ok(Place::Done)
    }
}
