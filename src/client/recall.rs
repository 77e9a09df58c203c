//! `lastval()` and `currval()`: what a session has drawn from sequences lives on its server connection, and no server can be
//! asked for it.
//!
//! A connection knows which client may have drawn on it last. Who asks outside the transaction that drew gets that one if it is free,
//! and an error rather than what another client has drawn. Who has asked so once keeps the connection on which it draws from then on.

use super::fail::Failure;
use super::plan::Place;
use super::session::{Leave, Session};
use super::unit::Piece;
use crate::route::{Class, Reason, Route, Target};
use crate::wire::TransactionStatus;

/// Whether a piece may draw from a sequence.
fn draws(piece: &Piece) -> bool {
    matches!(piece.facts.class, Class::Write | Class::Session | Class::InTransaction) && !piece.facts.recalls
}

impl Session {
    /// A unit for the connection that works, with nothing before it.
    pub(super) fn begin_unit(&mut self, piece: Piece, route: Route) -> Result<Place, Leave> {
        match () {
            () if self.is_unwanted(&piece) => Ok(self.refuse_unwanted(piece)),
            () if piece.facts.recalls && !self.may_recall() => self.refuse_recall(piece, route.reason),
            () => self.start_unit(piece, route),
        }
    }

    /// The client on whose connection that piece should run.
    pub(super) fn drawer(&self, piece: &Piece) -> Option<u32> {
        piece.facts.recalls.then_some(self.identity.cancel.key.process)
    }

    /// A piece is about to be sent to the primary.
    pub(super) fn note_drawn(&mut self, piece: &Piece) {
        let client = self.identity.cancel.key.process;
        if draws(piece)
            && let Some(held) = self.held()
        {
            held.lease.drawn = client;
        }
    }

    /// Whether the connection of a piece is to be kept for what it draws.
    pub(super) fn keeps_drawn(&self, piece: &Piece) -> bool {
        self.recalled && draws(piece) && self.active == Some(Target::Primary)
    }

    /// Whether the connection knows what the client has drawn. A replica says itself that it does not.
    pub(super) fn may_recall(&mut self) -> bool {
        let (client, begun) = (self.identity.cancel.key.process, self.begun.is_some());
        let primary = self.active == Some(Target::Primary);
        let Some(held) = self.held() else { return true };
        let knows = !primary || held.lease.drawn == client;
        let alone = begun || held.lease.owed.status() == TransactionStatus::Idle;
        self.recalled |= alone && primary;
        knows
    }

    /// It is not carried out. In a transaction its server fails.
    #[cold]
    pub(super) fn refuse_recall(&mut self, piece: Piece, reason: Reason) -> Result<Place, Leave> {
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
