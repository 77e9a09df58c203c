//! A statement that its client does not want any more, and that its server has not got yet: it waits for a connection, for a replica, for
//! an answer of pgweir's own, or for the rest of its unit.
//!
//! A cancel request is for the unit that is under way when it comes. With the unit's end, by whomever, it is settled; one that
//! comes when nothing is under way, at once: as in PostgreSQL, a later statement does not hear of it. Until then what of the unit is
//! not sent, and would do something, is refused with the error that PostgreSQL has for it. So nothing has to be sent again, nor
//! after the statement.

use super::fail::Failure;
use super::plan::Place;
use super::session::Session;
use super::unit::{Kind, Piece};
use crate::route::Class;
use crate::wire::{TransactionStatus, write};

impl Session {
    /// Nothing moves: whoever waits for an answer to a cancel request gets it.
    #[inline]
    pub(super) fn heed(&mut self) {
        if !self.identity.cancel.is_looked_at() {
            let has_unit = self.has_unit();
            // What the client sent before its request, this worker may not have heard of yet; it is woken for that.
            if has_unit || !self.stream.has_bytes() {
                self.identity.cancel.look(has_unit);
            }
        }
    }

    /// Whether a unit of the client's is under way.
    fn has_unit(&mut self) -> bool {
        let here = self.piece.is_some() || self.gather.has_some() || self.sharing.ride.is_some();
        here || self.held().is_some_and(|held| {
            let owed = &held.lease.owed;
            owed.readies() > 0 || owed.is_open() || owed.is_copy_in()
        })
    }

    /// Whether a request has come for the unit of a piece that is not sent, and would do something. What ends a transaction is left
    /// alone: to refuse it helps nobody.
    #[inline]
    pub(super) fn is_unwanted(&self, piece: &Piece) -> bool {
        self.identity.cancel.is_asked() && self.does_something(piece)
    }

    #[cold]
    fn does_something(&self, piece: &Piece) -> bool {
        let whole = matches!(self.first(), Some(b'Q' | b'F'));
        let class = piece.facts.class;
        let harmless = [Class::Empty, Class::Own, Class::Begin, Class::BeginReadOnly, Class::End];
        piece.kind == Kind::Unit && (whole || piece.executes) && !harmless.contains(&class)
    }

    /// The tag of the message at the front of the client's window.
    pub(super) fn first(&self) -> Option<u8> {
        self.window.as_ref().and_then(|window| window.bytes().first()).copied()
    }

    /// A unit of which nothing was sent is not carried out. In a transaction its server fails.
    #[cold]
    pub(super) fn refuse_unwanted(&mut self, piece: Piece) -> Place {
        let reason = piece.facts.reason;
        let status = self.held().map(|held| held.lease.owed.status());
        let open = self.begun.is_none() && status.is_some_and(|status| status != TransactionStatus::Idle);
        if !open {
            self.give_up_unit(piece, reason, &Failure::Cancelled);
            return Place::Done;
        }
        if let Some(held) = self.held() {
            held.running.begin(piece.facts.shape, None);
        }
        if matches!(self.first(), Some(b'Q' | b'F')) {
            self.raise(piece, &Failure::Cancelled);
            self.discard.rest = piece.rest;
            return Place::Done;
        }
        self.fail_unit();
        Place::Forward
    }

    /// A part of a unit that its server has begun is about to be sent: if a request has come meanwhile, the unit fails before that.
    #[inline]
    pub(super) fn heed_within(&mut self, piece: &Piece) {
        // One that others stand before, which are not answered, is not the one that was meant.
        if self.is_unwanted(piece) && self.held().is_some_and(|held| held.lease.owed.readies() == 0) {
            self.fail_unit();
        }
    }

    /// Before what comes goes what fails: the server passes over the rest of the unit.
    #[cold]
    fn fail_unit(&mut self) {
        let Some(held) = self.held() else { return };
        if held.lease.owed.sent_refusal().is_some() {
            write::execute(&mut self.forth.own, "pgweir: canceling statement due to user request");
            self.identity.cancel.refuses();
        }
    }
}
