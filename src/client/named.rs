//! PREPARE, EXECUTE and DEALLOCATE in SQL: the names in their texts are the client's, as those in messages are.
//!
//! What the protocol has prepared stands in a text under the name that servers know. A statement that DEALLOCATE drops is
//! others' too: in its place the server drops one that is nothing. What PREPARE makes has the client's name, on a connection
//! that the client keeps.

use super::prepared::{NOBODY, Sent};
use super::session::Session;
use super::supply::{NOTHING, Way};
use super::unit::primary_only;
use crate::route::Reason;
use crate::server::owed::Show;
use crate::sql::{Use, named};
use crate::wire::frame::HEADER;
use crate::wire::{TransactionStatus, frontend, write};

impl Way<'_> {
    /// Writes a Query, or a Parse without a name, with the names that the server knows, and before it what the server lacks.
    /// Returns how much of the message that was.
    #[cold]
    pub(super) fn rewrite(&mut self, tag: u8, message: &[u8]) -> usize {
        let body = message.get(HEADER..).unwrap_or_default();
        let (text, tail) = match tag {
            b'Q' => (frontend::query(body), &b""[..]),
            _ => {
                (frontend::parse(body).map(|(_, text)| text), frontend::parse_tail(body).unwrap_or_default())
            }
        };
        let opens = !self.held.lease.owed.is_open();
        let before = self.own.len();
        let text = self.with_names(text.unwrap_or_default());
        if tag == b'Q' && opens && self.own.len() > before {
            // A Query ends what was begun by these, as a Sync does, but it would be carried out if one of them failed.
            self.held.lease.owed.sent(b'S', Show::Swallow);
            write::sync(self.own);
        }
        let number = self.held.lease.owed.sent(tag, Show::Forward);
        self.statements.send(number, Sent::Whole(message));
        if number.is_none() {
            return 0;
        }
        match tag {
            b'Q' => write::query_bytes(self.own, &text),
            _ => write::parse_bytes(self.own, &text, tail),
        }
        message.len()
    }

    /// The text with the names that the server knows.
    fn with_names(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + 64);
        let mut at = 0;
        let mut dropped = 0usize;
        for one in named(text) {
            let shared = self.statements.find(&one.name).and_then(|statement| statement.shared()).cloned();
            let other = match (one.how, shared) {
                (Use::Execute, Some(prepared)) => {
                    // In a transaction that has failed the server refuses it before it looks for the name.
                    if self.held.lease.owed.status() != TransactionStatus::Failed {
                        self.share(&prepared);
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
                out.extend_from_slice(text.get(at..one.start).unwrap_or_default());
                out.extend_from_slice(&other);
                at = one.end;
            }
            if one.how != Use::Execute {
                self.names.push_back(one);
            }
        }
        out.extend_from_slice(text.get(at..).unwrap_or_default());
        out
    }
}

impl Session {
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
