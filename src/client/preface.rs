//! What goes before a unit on its way to a server: the client's settings, and a BEGIN that was held back.
//!
//! It travels in front of the unit. A BEGIN goes in the extended protocol and without a Sync, so that the server skips the unit
//! where it fails; settings are a transaction, which stays failed. Until all has succeeded nothing follows that unit. Limits on
//! the time of statements that a client has left behind must not end another client's: such settings are replaced in a round
//! trip of their own.

use super::begin::Begun;
use super::fail::Failure;
use super::session::{Leave, Session};
use super::unit::Piece;
use crate::route::{Route, Target};
use crate::server::owed::Show;
use crate::wire::frame::HEADER;
use crate::wire::write::{self, Severity};
use crate::wire::{Header, backend};

/// Whether a preface has to be answered before a piece is sent: Syncs of pgweir's own may go with it, behind which the server would not
/// skip it; or, behind settings, it may end a transaction that has failed.
pub(super) fn is_apart(piece: &Piece, settings: bool) -> bool {
    piece.facts.names || piece.facts.roll || settings && piece.facts.transaction
}

/// Whether an ErrorResponse says that a statement was cancelled.
pub(super) fn is_cancelled(words: &[u8]) -> bool {
    backend::fields(words.get(HEADER..).unwrap_or_default()).code == b"57014"
}

impl Session {
    /// Sends what goes before a piece. True: the piece is to be placed again, when that was answered.
    pub(super) fn send_preface(&mut self, piece: &Piece, route: Route) -> bool {
        self.dress();
        if self.ends_preface(piece, true) {
            return true;
        }
        self.send_begin(route);
        self.ends_preface(piece, false)
    }

    /// Ends the preface of a piece that is about to be sent, if it must be answered before that.
    fn ends_preface(&mut self, piece: &Piece, settings: bool) -> bool {
        if !is_apart(piece, settings) {
            return false;
        }
        let Some(Some(held)) = self.active.and_then(|target| self.held.get_mut(target.index())) else {
            return false;
        };
        let prefaced = held.lease.owed.is_prefaced();
        if prefaced {
            write::sync(&mut self.forth.own);
            held.lease.owed.sent(b'S', Show::Swallow);
        }
        prefaced
    }

    /// An error of what goes before the unit that was sent last, of which nothing has happened.
    #[cold]
    pub(super) fn hear_refusal(&mut self, at: usize, head: Header) {
        let mut words = bytes::BytesMut::new();
        write::error_repeated(&mut words, Severity::Error, self.reply_body(at, head));
        self.refused = Some(words.freeze());
    }

    /// What goes before a unit has failed: the connection goes, and the client hears why.
    #[cold]
    pub(super) fn refuse_prefaced(&mut self) -> Result<bool, Leave> {
        let Some(words) = self.refused.take() else { return Ok(false) };
        let Some(target) = self.active.take() else { return Ok(false) };
        self.identity.cancel.rest();
        self.expects_nothing();
        let Some(held) = self.held.get_mut(target.index()).and_then(Option::take) else { return Ok(false) };
        self.note_primary(true);
        let (begins, kept) = (held.begins, held.pin_counted || held.counted);
        let owed = &held.lease.owed;
        let open = owed.is_open();
        // Its own Sync is still to be answered.
        let unsent = !open && owed.readies() == 0 && !owed.is_empty();
        let node = held.node;
        held.lease.close("settings");
        if target == Target::Replica && !is_cancelled(&words) && !self.net.is_empty() {
            // It may not have heard of a role yet.
            let rest = self.piece.filter(|_| open).map_or(0, |piece| piece.size);
            if self.rescue(node, self.forth.run + rest) {
                return Ok(true);
            }
        }
        self.defines = false;
        self.net.clear();
        (self.back.hold, self.back.rest) = (0, 0);
        self.recall.failed = true;
        self.pinned &= target != Target::Primary;
        self.moving = false;
        self.drop_forth();
        self.names.clear();
        self.statements.abandon();
        let failure = Failure::ServerSaid(words);
        if kept {
            return Err(Leave::Told(failure));
        }
        if begins {
            self.begun = Some(Begun::Failed);
        }
        if let Some(piece) = self.piece.take_if(|_| unsent) {
            self.give_up_unit(piece, piece.facts.reason, &failure);
            return Ok(true);
        }
        self.say_error(&failure);
        if open {
            self.skip_unit();
        } else {
            let status = self.status();
            self.tell_ready(status);
            self.identity.cancel.settle();
        }
        Ok(true)
    }
}
