//! PREPARE, EXECUTE and DEALLOCATE in SQL: the names in their texts are the client's, as those in messages are.
//!
//! What the protocol has prepared stands in a text under the name that servers know. A statement that DEALLOCATE drops is
//! others' too: in its place the server drops one that is nothing. What PREPARE makes has the client's name, on a connection
//! that the client keeps.
//!
//! A text that the protocol has prepared is looked through again with each Bind, for it means what its names mean then: the server
//! gets it anew, under a name that no statement has for long.

use std::sync::Arc;

use super::prepared::{NOBODY, Sent};
use super::session::Session;
use super::supply::{NOTHING, Way, rename};
use super::unit::primary_only;
use crate::route::Reason;
use crate::server::Prepared;
use crate::server::owed::Show;
use crate::sql::{Use, named};
use crate::wire::frame::HEADER;
use crate::wire::{Header, TransactionStatus, backend, frontend, write};

/// The name under which a server gets a text of a client's that names others.
pub(super) const RUNS: &[u8] = b"pgweir execute";

/// A text under way in which a name has grown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grown {
    /// Characters up to the name.
    start: usize,
    /// As many characters longer.
    by: usize,
    /// Others are under way with it: an error may be about any of them.
    several: bool,
}

impl Way<'_> {
    /// Writes a Query, or a Parse without a name, with the names that the server knows, and before it what the server lacks.
    /// `calls`: the server gets all that the client has. Returns how much of the message that was.
    #[cold]
    pub(super) fn rewrite(&mut self, tag: u8, message: &[u8], calls: bool) -> usize {
        let body = message.get(HEADER..).unwrap_or_default();
        let (text, tail) = match tag {
            b'Q' => (frontend::query(body), &b""[..]),
            _ => {
                (frontend::parse(body).map(|(_, text)| text), frontend::parse_tail(body).unwrap_or_default())
            }
        };
        let opens = !self.held.lease.owed.is_open();
        let alone = opens && self.held.lease.owed.readies() == 0;
        let mut before = self.own.len();
        if calls && self.call_roll() {
            before = self.own.len();
        }
        let text = self.with_names(text.unwrap_or_default(), tag == b'Q', calls);
        if tag == b'Q' && opens && self.own.len() > before {
            // A Query ends what was begun by these, as a Sync does, but it would be carried out if one of them failed.
            self.held.lease.owed.sent(b'S', Show::Swallow);
            write::sync(self.own);
        }
        if let Some(grown) = self.grown.as_mut().filter(|_| !alone) {
            grown.several = true;
        }
        let number = self.held.lease.owed.sent(tag, Show::Forward);
        self.statements.send(number, Sent::Whole(message));
        if number.is_none() {
            return 0;
        }
        match tag {
            b'Q' => write::query_bytes(self.own, &text),
            _ => write::parse_bytes(self.own, b"", &text, tail),
        }
        message.len()
    }

    /// A Parse with a name, of a text that names others: the server looks at it, and the client alone keeps it. Returns how much of
    /// the message went.
    #[cold]
    pub(super) fn make_naming(&mut self, prepared: Arc<Prepared>, message: &[u8]) -> usize {
        let number = self.send_naming(message.get(HEADER..).unwrap_or_default(), Show::Forward, false);
        self.statements.send(number, Sent::Known(prepared));
        if number.is_some() { message.len() } else { 0 }
    }

    /// A Bind or a Describe of a statement whose text names others. Returns how much of the message went.
    #[cold]
    pub(super) fn run_naming(&mut self, parse: &[u8], head: Header, body: &[u8]) -> usize {
        let parse = parse.get(HEADER..).unwrap_or_default();
        if self.send_naming(parse, Show::Swallow, head.tag == b'B').is_some() {
            self.statements.send_own(RUNS, NOBODY);
        }
        match self.held.lease.owed.sent(head.tag, Show::Forward) {
            Some(_) => rename(self.own, head, body, RUNS),
            None => 0,
        }
    }

    /// Sends such a text, by the body of its Parse. Returns the number of what is owed for it.
    fn send_naming(&mut self, parse: &[u8], show: Show, runs: bool) -> Option<u32> {
        let (_, text) = frontend::parse(parse)?;
        let tail = frontend::parse_tail(parse).unwrap_or_default();
        self.close(RUNS);
        let text = self.with_names(text, runs, false);
        let number = self.held.lease.owed.sent(b'P', show)?;
        write::parse_bytes(self.own, RUNS, &text, tail);
        Some(number)
    }

    /// The text with the names that the server knows; `runs`: it is going to be carried out; `calls`: the server has all that the client
    /// has, under its names.
    fn with_names(&mut self, text: &[u8], runs: bool, calls: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + 64);
        let mut at = 0;
        let mut dropped = 0usize;
        for one in named(text) {
            let known = self.statements.find(&one.name);
            let told = known.and_then(|statement| statement.told.clone());
            let shared = known.and_then(|statement| statement.shared()).cloned();
            let other = match (one.how, shared) {
                // As it is, where the server has all under the client's names.
                (Use::Execute, Some(_)) if calls => None,
                (Use::Deallocate, Some(_)) if calls => {
                    self.held.made.retain(|made| made.as_bytes() != &*one.name);
                    None
                }
                (Use::Execute, Some(prepared)) => {
                    // In a transaction that has failed the server refuses it before it looks for the name.
                    if self.held.lease.owed.status() != TransactionStatus::Failed {
                        self.share(&prepared, told.as_ref());
                    }
                    Some(prepared.name().to_vec())
                }
                (Use::Deallocate, Some(_)) => {
                    dropped += 1;
                    let nothing = [NOTHING, dropped.to_string().as_bytes()].concat();
                    self.supply_nothing(&nothing, 0);
                    Some(nothing)
                }
                (Use::Prepare, Some(_)) => {
                    self.supply_taken(&one.name);
                    None
                }
                (_, None) => {
                    let left = self.statements.on_server(&self.held.lease, &one.name) == Some(NOBODY);
                    if left {
                        self.close(&one.name);
                    }
                    None
                }
            };
            if let Some(other) = other {
                let start =
                    String::from_utf8_lossy(text.get(..one.start).unwrap_or_default()).chars().count();
                let by = other.len().saturating_sub(one.end - one.start);
                let other_one = |grown: Grown| (grown.start, grown.by) != (start, by);
                *self.grown = Some(Grown { start, by, several: self.grown.is_some_and(other_one) });
                out.extend_from_slice(text.get(at..one.start).unwrap_or_default());
                out.extend_from_slice(&other);
                at = one.end;
            }
            if runs && one.how != Use::Execute {
                self.names.push_back(one);
            }
        }
        out.extend_from_slice(text.get(at..).unwrap_or_default());
        out
    }
}

impl Session {
    /// An error of a server stands at `at` in its window. The place in the text that it tells becomes that in the text that the
    /// client knows.
    #[cold]
    pub(super) fn place_error(&mut self, at: usize, head: Header) {
        let Some(Grown { start, by, several: false }) = self.grown.take() else { return };
        let Some((place, position)) = backend::position(self.reply_body(at, head)) else { return };
        if position <= start {
            return;
        }
        let known = position.saturating_sub(by).max(start + 1);
        let digits = format!("{known:0width$}", width = place.len());
        let window = self.held().and_then(|held| held.lease.window.as_mut());
        if let Some(window) = window.filter(|_| digits.len() == place.len()) {
            let places = (at + HEADER + place.start)..;
            places.zip(digits.bytes()).for_each(|(place, byte)| window.replace(place, byte));
        }
    }

    /// PREPARE or DEALLOCATE succeeded: the next of those under way.
    #[cold]
    pub(super) fn saw_name(&mut self, how: Use) {
        let Some(one) = self.names.pop_front().filter(|one| one.how == how) else { return };
        let Some((statements, server)) = self.statements_on_server() else { return };
        match how {
            Use::Prepare => statements.made(&one.name, primary_only(Reason::PreparedOnPrimary), server),
            Use::Deallocate => statements.dropped(&one.name, server),
            Use::Execute => {}
        }
    }
}
