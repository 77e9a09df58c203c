//! A client that listens to itself: PostgreSQL tells it of its own notifications before the end of the unit that has committed them.
//!
//! They come by another connection than that unit's ReadyForQuery, which waits for them. That is so for a notification whose text says
//! what it is; there is nothing to wait for where it was rolled back.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tokio::time::{Sleep, sleep};

use super::session::Session;
use crate::clock::Duration;
use crate::monitor::Ticket;
use crate::wire::frame::HEADER;
use crate::wire::{TransactionStatus, write};

/// Longest that the end of a unit waits. The server tells its listeners at the commit, so it is a matter of a millisecond or, on a busy
/// machine, of some more; what comes later than this comes after the end of the unit, as anybody else's.
const LONGEST: Duration = Duration::from_secs(1);

/// After so many in a row that did not come in time, nothing waits any more: something between pgweir and the server changes its
/// process numbers, and they cannot be told from others.
const MOST_LATE: u8 = 3;

/// Most that are waited for at once, as in one transaction.
const MOST: usize = 1_000;

struct Expected {
    ticket: Ticket,
    /// Channel and payload, as in a NotificationResponse.
    said: Box<[u8]>,
    /// So many units before its own are not answered.
    behind: usize,
}

/// The end of a unit that waits.
struct Kept {
    status: TransactionStatus,
    late: Pin<Box<Sleep>>,
}

/// What a client has said to itself.
#[derive(Default)]
pub(super) struct Echo {
    last: Ticket,
    expected: Vec<Expected>,
    kept: Option<Kept>,
    late: u8,
}

impl Echo {
    /// The client is about to say that, behind so many units that are not answered. None: nothing waits for it.
    pub(super) fn foresee(&mut self, channel: &str, payload: &str, behind: usize) -> Option<Ticket> {
        let said: Box<[u8]> = [channel.as_bytes(), b"\0", payload.as_bytes(), b"\0"].concat().into();
        // What a transaction says twice comes once.
        if let Some(known) = self.expected.iter().find(|known| known.behind == behind && known.said == said) {
            return Some(known.ticket);
        }
        if self.late >= MOST_LATE || self.expected.len() >= MOST {
            return None;
        }
        self.last += 1;
        self.expected.push(Expected { ticket: self.last, said, behind });
        Some(self.last)
    }

    /// The client is told of one of its own, by that message. Which of several that are the same is all one.
    pub(super) fn told(&mut self, message: &[u8]) {
        let said = message.get(HEADER + size_of::<u32>()..).unwrap_or_default();
        let mut found = false;
        self.expected.retain(|known| {
            let first = !found && *known.said == *said;
            found |= first;
            !first
        });
        if found {
            self.late = 0;
        }
    }

    /// What the unit that is being answered, and its transaction, have said is not waited for. Returns which that was.
    pub(super) fn take_back(&mut self) -> Vec<Ticket> {
        self.expected.extract_if(.., |known| known.behind == 0).map(|known| known.ticket).collect()
    }

    fn is_complete(&self) -> bool {
        self.expected.iter().all(|known| known.behind > 0)
    }

    /// A unit has ended, and not failed. Whether its end waits.
    pub(super) fn keeps(&mut self, status: TransactionStatus) -> bool {
        let keeps = status == TransactionStatus::Idle && !self.is_complete();
        self.kept = keeps.then(|| Kept { status, late: Box::pin(sleep(LONGEST)) });
        keeps
    }

    /// The end of a unit is told. Returns what is not waited for: a transaction that goes on has said it before.
    pub(super) fn next(&mut self) -> Vec<Ticket> {
        let mut again = Vec::new();
        for mut known in std::mem::take(&mut self.expected) {
            known.behind = known.behind.saturating_sub(1);
            if known.behind == 0 && self.expected.iter().any(|old| old.said == known.said) {
                again.push(known.ticket);
            } else {
                self.expected.push(known);
            }
        }
        again
    }
}

impl Session {
    /// Whether the end of a unit waits for what its client has said to itself.
    #[inline]
    pub(super) fn holds_ready(&self) -> bool {
        self.ears.as_ref().is_some_and(|ears| ears.echo.kept.is_some())
    }

    /// A unit has ended.
    #[inline]
    pub(super) fn awaits_own(&mut self, status: TransactionStatus, failed: bool) {
        if self.said.is_some() {
            self.settle_said(status, failed);
        }
        if let Some(ears) = &mut self.ears {
            if failed || status == TransactionStatus::Failed {
                ears.take_back();
            }
            if !ears.echo.keeps(status) {
                ears.next();
            }
        }
    }

    /// The ReadyForQuery in the server's window at `at` is kept until then; what stands before it is shown.
    #[cold]
    pub(super) fn keep_ready(&mut self, at: usize, there: usize) -> bool {
        if let Some(window) = self.held().and_then(|held| held.lease.window.as_mut()) {
            window.cut_out(at, there);
        }
        self.back.run = at;
        self.back.hold = 0;
        true
    }

    /// Tells the client of the end of its unit, if it has been told all that it waits for, or that is missed or late. True: it is told.
    pub(super) fn may_end_unit(&mut self, cx: &mut Context<'_>, missed: bool) -> bool {
        let Some(ears) = &mut self.ears else { return false };
        let echo = &mut ears.echo;
        let Some(kept) = &mut echo.kept else { return false };
        let late = !missed && kept.late.as_mut().poll(cx).is_ready();
        let complete = echo.is_complete();
        if complete || missed || late {
            echo.late += u8::from(!complete && late);
            self.end_unit();
        }
        complete || missed || late
    }

    fn end_unit(&mut self) {
        let Some(ears) = &mut self.ears else { return };
        if let Some(Kept { status, .. }) = ears.echo.kept.take() {
            ears.take_back();
            ears.next();
            write::ready_for_query(&mut self.back.own, status);
        }
    }

    #[cold]
    fn settle_said(&mut self, status: TransactionStatus, failed: bool) {
        if failed || status == TransactionStatus::Failed {
            self.doubts_said();
        }
        self.said.take_if(|_| status == TransactionStatus::Idle);
    }

    fn doubts_said(&self) {
        if let Some((hub, since)) = &self.said {
            hub.doubts(self.identity.cancel.key.process, *since);
        }
    }

    /// A transaction, or the last part of it, was rolled back.
    pub(super) fn takes_back(&mut self) {
        self.doubts_said();
        if let Some(ears) = &mut self.ears {
            ears.take_back();
        }
    }

    /// What was said is lost, as its connection is.
    pub(super) fn expects_nothing(&mut self) {
        self.end_unit();
        if let Some(ears) = &mut self.ears {
            ears.echo.expected.clear();
        }
    }
}
