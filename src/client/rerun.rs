//! Runs reads again that a replica refused or lost, so that the client sees only the second result.
//!
//! A unit is sent to a replica outside a transaction, and a copy of it is kept (`retry`). Replies up to its first result,
//! and what comes in one read with that, are held at the front of the server's window. If it fails there and another server
//! may do better, the held replies are dropped, what the replica still owes is thrown away, and what was kept goes in front
//! of the client's window once more, to be cut and sent as if it had just come.
//!
//! Never a write, for only reads are kept; never inside a transaction; never after a result was shown; at most twice.

use super::failover;
use super::plan::label;
use super::retry::{self, Culprit, MOST_TRIES, Net, Rerun, cause};
use super::session::Session;
use super::unit::{Gather, Piece};
use crate::clock;
use crate::ids::Node;
use crate::metrics::{RerunCause, TargetLabel};
use crate::net::Window;
use crate::route::{Class, Reason, Refusal, Route, Target};
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::{Header, TransactionStatus, backend};

impl Session {
    /// Keeps the unit that begins, if it is one that may run again.
    pub(super) fn keep_unit(&mut self, piece: &Piece, tries: u8) {
        if piece.facts.roll {
            // What goes before it counts as it comes.
            return;
        }
        if self.active == Some(Target::Primary) {
            return self.keep_for_primary(piece, tries);
        }
        if self.active != Some(Target::Replica) || !Net::fits(piece) {
            return;
        }
        let first = self.net.is_empty();
        let Some(held) = self.held() else { return };
        let in_transaction = held.transaction || held.lease.owed.status() != TransactionStatus::Idle;
        if in_transaction || first && !held.running.is_one() {
            return;
        }
        if let Some(unit) = self.window.as_ref().and_then(|window| window.bytes().get(..piece.size)) {
            self.net.keep(unit, tries);
        }
    }

    /// The route of a unit that runs again; none: it runs for the first time.
    pub(super) fn route_again(&self, piece: &Piece) -> Option<Route> {
        let rerun = self.net.again().filter(|rerun| !rerun.anew)?;
        // It may have been learned meanwhile that it is no read.
        let reads = matches!(piece.facts.class, Class::Read | Class::Empty);
        let held = self.held.get(Target::Replica.index()).and_then(Option::as_ref);
        let taken = held.is_some_and(|held| held.node == rerun.avoid);
        let target = if reads && !taken { rerun.target } else { Target::Primary };
        Some(Route::to(target, Reason::Read))
    }

    /// A reply to the first unit came, whole or longer than a window. Before a result, nothing has happened that the client
    /// must see. A result waits until what has come with it is looked through: an error behind it comes in the same packet,
    /// for a server sends what it has only when its buffer is full or the unit is over.
    pub(super) fn hold_or_release(&mut self, tag: u8, whole: bool) {
        match tag {
            // Of a long statement on the primary, what it tells of its progress must not wait for its end.
            b'N' if self.net.at_primary.is_some() => self.release(),
            b'1' | b'2' | b'3' | b't' | b'T' | b'n' | b'N' | b'S' | b'A' if whole => {}
            b'D' | b'C' | b'I' | b's' if whole => self.net.has_result = true,
            _ => self.release(),
        }
    }

    /// The first unit is the client's to see: what was held of it may go.
    pub(super) fn release(&mut self) {
        self.net.release();
        for _ in 0..std::mem::take(&mut self.net.unconfirmed) {
            if let Some((statements, server)) = self.statements_on_server() {
                statements.confirmed(server);
            }
        }
    }

    /// An ErrorResponse to the first unit stands at `at` in the server's window, behind what is held. True: it is not for
    /// the client, and neither is what was held, which is gone; the error is at the front of the window now.
    pub(super) fn catch(&mut self, at: usize, head: Header, left: usize) -> bool {
        if self.net.failed.is_some() {
            return false;
        }
        let body = self.reply_body(at, head).to_vec();
        let fields = backend::fields(&body);
        if retry::is_outlived(&fields) {
            return self.catch_outlived(at);
        }
        if self.net.at_primary.is_some() {
            return failover::is_doubt(fields.code) && self.catch_demoted(at, &body);
        }
        let Some(cause) = cause(&fields) else { return false };
        if cause == RerunCause::Refused {
            self.learn(left, &body);
        }
        if !self.net.holds() {
            return false;
        }
        let Some(Some(held)) = self.held.get(Target::Replica.index()) else { return false };
        // Its statements are prepared on it alone.
        let kept = held.is_kept() || self.statements.needs(&held.lease);
        let node = held.node;
        let Some(rerun) = self.plan(cause, node, kept) else { return false };
        self.net.failed = Some(rerun);
        self.statements.make_void();
        self.release();
        self.drop_held(at);
        true
    }

    /// A statement was not run because it was prepared before its tables got other columns. It is prepared anew, and runs again,
    /// once on each server, if the client is told the columns along with the rows; who was told of them before has to hear the
    /// error.
    #[cold]
    fn catch_outlived(&mut self, at: usize) -> bool {
        self.statements.outlived();
        let Some(target) = self.active else { return false };
        let cause = RerunCause::Outlived;
        // A replica may have cancelled it before, for the sake of those very columns.
        let twice = self.net.again().is_some_and(|rerun| rerun.cause == cause);
        let tries = self.net.tries() + 1;
        if !self.net.holds() || twice || tries > MOST_TRIES + 1 || !retry::tells_columns(self.net.bytes()) {
            return false;
        }
        self.net.failed = Some(Rerun { cause, target, avoid: retry::NOWHERE, tries, anew: false });
        self.statements.make_void();
        self.release();
        self.drop_held(at);
        true
    }

    /// Where what failed on `node` runs again; none: nowhere. The connection stays the client's if it is `kept`.
    pub(super) fn plan(&self, cause: RerunCause, node: Node, kept: bool) -> Option<Rerun> {
        if self.net.at_primary.is_some() {
            return self.plan_for_primary(cause, node);
        }
        let tries = self.net.tries() + 1;
        if tries > MOST_TRIES {
            return None;
        }
        let database = &self.identity.database;
        let (primary, other) = {
            let view = database.cluster.view();
            (view.primary().is_some(), view.replicas().any(|replica| replica != node))
        };
        let costs = matches!(cause, RerunCause::Cancelled | RerunCause::Lost);
        // A lost read that can go nowhere now can wait: it is decided anew where it goes.
        let anew = cause == RerunCause::Lost && !primary;
        let target = if costs && other && !kept && (tries < MOST_TRIES || !primary) {
            Target::Replica
        } else if primary || anew {
            Target::Primary
        } else {
            return None;
        };
        if costs && !database.retries.take(database.metrics.units(TargetLabel::Replica), clock::now()) {
            database.metrics.rerun(cause, TargetLabel::None);
            return None;
        }
        Some(Rerun { cause, target, avoid: node, tries, anew })
    }

    /// Drops what was held, but for what is about the connection and not the unit.
    pub(super) fn drop_held(&mut self, held_bytes: usize) {
        self.back.hold = 0;
        let Some(target) = self.active else { return };
        let Some(Some(held)) = self.held.get_mut(target.index()) else { return };
        let Some(window) = held.lease.window.as_mut() else { return };
        let mut rest = window.bytes().get(..held_bytes).unwrap_or_default();
        while let Ok(Some(head)) = frame::header(rest, Side::Backend) {
            let Some((message, after)) = rest.split_at_checked(head.size) else { break };
            if matches!(head.tag, b'S' | b'A') {
                self.back.own.extend_from_slice(message);
            }
            rest = after;
        }
        window.consume(held_bytes);
    }

    /// The replica owes nothing more: what it failed to answer is to run again. True: there is such.
    pub(super) fn run_failed_again(&mut self) -> bool {
        let Some(rerun) = self.net.failed else { return false };
        self.run_again(rerun);
        if rerun.cause == RerunCause::Demoted {
            self.drop_doubted();
        }
        true
    }

    /// What is kept goes in front of the client's window.
    fn run_again(&mut self, rerun: Rerun) {
        self.statements.start_over();
        self.piece = None;
        self.gather = Gather::default();
        let window = self.window.get_or_insert_with(|| self.shared.buffers.take());
        window.prepend(self.net.bytes());
        self.net.start_over(rerun);
        self.back.hold = 0;
    }

    /// The connection to a replica broke. True: what it owed runs again. `node` is where it was, and of the client's
    /// window `unsent` bytes belong to what was kept.
    pub(super) fn rescue(&mut self, node: Node, unsent: usize) -> bool {
        let plan = match self.net.failed.take() {
            Some(rerun) => Some(rerun),
            None if self.net.holds() => self.plan(self.cause_of_loss(), node, false),
            None => None,
        };
        let Some(rerun) = plan else {
            self.net.clear();
            self.back.hold = 0;
            return false;
        };
        self.last_words = None;
        // The rest of a unit that was sent in part: the copy has all of it.
        if let Some(window) = &mut self.window {
            window.consume(unsent);
        }
        self.forth.own.clear();
        self.forth.run = 0;
        self.back.rest = 0;
        self.run_again(rerun);
        true
    }

    /// Replay ends connections, too, that are in its way for long.
    fn cause_of_loss(&self) -> RerunCause {
        let said = self.last_words.as_ref().and_then(|words| words.get(HEADER..)).unwrap_or_default();
        match cause(&backend::fields(said)) {
            Some(RerunCause::Cancelled) => RerunCause::Cancelled,
            _ => RerunCause::Lost,
        }
    }

    /// A unit that runs again begins on the active server.
    pub(super) fn count_rerun(&self, rerun: Rerun) {
        self.identity.database.metrics.rerun(rerun.cause, label(self.active));
    }

    /// A replica refused the first unit: statements like the one to blame go to the primary from now on.
    fn learn(&mut self, left: usize, body: &[u8]) {
        let sent_in_part = self.held().is_none_or(|held| held.lease.owed.is_open());
        if sent_in_part {
            return;
        }
        let fields = backend::fields(body);
        let refusal = Refusal { code: fields.code, message: fields.message, context: fields.context };
        let (judge, scope) = (&self.shared.judge, &self.identity.scope);
        let Some(Culprit { text, name }) = retry::culprit(self.net.first(), left, &self.statements) else {
            return;
        };
        let first = judge.learn(text, scope, &refusal, clock::now());
        self.identity.database.metrics.learned();
        if first {
            let begins = text.get(..text.len().min(200)).unwrap_or_default();
            tracing::warn!(
                sqlstate = %String::from_utf8_lossy(refusal.code),
                message = %String::from_utf8_lossy(refusal.message),
                text = %String::from_utf8_lossy(begins),
                "a replica refused what was taken for a read: it goes to the primary for a while"
            );
        }
        let renamed = name.map(|name| (name.to_vec(), judge.facts(text, scope)));
        if let Some((name, facts)) = renamed {
            self.statements.relearn(&name, facts);
        }
        self.gather.forget_memo();
    }

    /// So many bytes at the front of the server's window may go, and those behind them up to `judged` may not yet. A window
    /// that is full of these waits no longer.
    pub(super) fn show_and_hold(&mut self, shown: usize, judged: usize) -> bool {
        let full = || {
            let held = self.held.get(self.active?.index())?.as_ref()?;
            held.lease.window.as_ref().map(Window::is_full)
        };
        if judged > 0 && shown == 0 && full() == Some(true) {
            self.release();
            self.back.run = judged;
        } else {
            self.back.run = shown;
        }
        self.back.hold = judged - self.back.run;
        self.back.run > 0
    }

    /// A unit was answered that runs again.
    pub(super) fn saw_void_ready(&mut self, number: u32) {
        let Some(target) = self.active else { return };
        let Some(Some(held)) = self.held.get_mut(target.index()) else { return };
        held.running.end();
        self.statements.ended(number, &mut held.lease);
    }
}
