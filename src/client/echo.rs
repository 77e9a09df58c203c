//! What is heard before the end of a unit: PostgreSQL has told all who listen of a notification before its sender hears of the commit, and
//! a client that listens hears what has come before the ReadyForQuery of its unit.
//!
//! Notifications come by another connection than that ReadyForQuery, which waits for them: for the client's own until they have come, to
//! itself or to all others who listen, where their text says what they are and they were not rolled back; and for others' that are there.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tokio::time::{Sleep, sleep};

use super::session::Session;
use crate::clock::Duration;
use crate::monitor::Ticket;
use crate::wire::frame::HEADER;
use crate::wire::{TransactionStatus, write};

/// Longest that the end of a unit waits for what the client hears itself. The server tells its listeners at the commit, so it is a
/// matter of a millisecond or, on a busy machine, of some more; what comes later than this comes after the end of the unit.
const LONGEST: Duration = Duration::from_secs(1);

/// The same for what others hear, and not the client.
const LONGEST_FOR_OTHERS: Duration = Duration::from_millis(100);

/// After so many of a client's own in a row that did not come in time, nothing waits for them any more: something between pgweir and the
/// server changes its process numbers, and they cannot be told from others.
const MOST_LATE: u8 = 3;

/// Most that are waited for at once, as in one transaction.
const MOST: usize = 1_000;

struct Expected {
    ticket: Ticket,
    /// Channel and payload, as in a NotificationResponse.
    said: Box<[u8]>,
    /// So many units before its own are not answered.
    behind: usize,
    /// The client listens there itself.
    own: bool,
}

/// The end of a unit that waits.
struct Kept {
    status: TransactionStatus,
    /// The client is told all up to that number in its inbox before.
    mail: u64,
    /// None: for nothing else.
    late: Option<Pin<Box<Sleep>>>,
}

/// What a client has said where it or others listen.
#[derive(Default)]
pub(super) struct Echo {
    last: Ticket,
    expected: Vec<Expected>,
    kept: Option<Kept>,
    late: u8,
}

impl Echo {
    /// The client is about to say that, behind so many units that are not answered; `own`: it listens there itself. None: nothing
    /// waits for it.
    pub(super) fn foresee(
        &mut self,
        (channel, payload): (&str, &str),
        behind: usize,
        own: bool,
    ) -> Option<Ticket> {
        let said: Box<[u8]> = [channel.as_bytes(), b"\0", payload.as_bytes(), b"\0"].concat().into();
        // What a transaction says twice comes once.
        if let Some(known) = self.expected.iter().find(|known| known.behind == behind && known.said == said) {
            return Some(known.ticket);
        }
        if own && self.late >= MOST_LATE || self.expected.len() >= MOST {
            return None;
        }
        self.last += 1;
        self.expected.push(Expected { ticket: self.last, said, behind, own });
        Some(self.last)
    }

    /// The unit that has ended may have said more than its text tells. Returns the number of what the client is to wait for, which
    /// comes behind all that; none: it waits for what it has said itself, or not any more.
    pub(super) fn mark(&mut self) -> Option<Ticket> {
        let known = self.expected.iter().any(|known| known.own && known.behind == 0);
        let number = self.last + 1;
        if known { None } else { self.foresee(("", &number.to_string()), 0, true) }
    }

    /// One of the client's own was heard, as that message. Which of several that are the same is all one.
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

    /// Whether nothing is expected and nothing waits.
    pub(super) fn is_over(&self) -> bool {
        self.expected.is_empty() && self.kept.is_none()
    }

    /// A unit has ended. Whether its end waits; `mail`: the last that has come before it.
    pub(super) fn keeps(&mut self, status: TransactionStatus, mail: Option<u64>) -> bool {
        debug_assert!(self.kept.is_none(), "nothing moves while the end of a unit waits");
        let complete = self.is_complete();
        let keeps = status == TransactionStatus::Idle && (mail.is_some() || !complete);
        self.kept = keeps.then(|| {
            let own = self.expected.iter().any(|known| known.own && known.behind == 0);
            let longest = if own { LONGEST } else { LONGEST_FOR_OTHERS };
            let late = (!complete).then(|| Box::pin(sleep(longest)));
            Kept { status, mail: mail.unwrap_or(0), late }
        });
        keeps
    }

    /// Whether what the end of a unit waits for is late.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let late = self.kept.as_mut().and_then(|kept| kept.late.as_mut());
        late.is_some_and(|late| late.as_mut().poll(cx).is_ready())
    }

    /// What is expected is late. Returns whether some of that is for others.
    fn gives_up(&mut self) -> bool {
        let late = || self.expected.iter().filter(|known| known.behind == 0);
        let (own, others) = (late().any(|known| known.own), late().any(|known| !known.own));
        self.late = self.late.saturating_add(u8::from(own));
        others
    }

    /// The end of a unit is told. Returns what is not waited for: a transaction that goes on has said it before.
    pub(super) fn next(&mut self) -> Vec<Ticket> {
        let mut again = Vec::new();
        for mut known in std::mem::take(&mut self.expected) {
            let was_behind = known.behind > 0;
            known.behind = known.behind.saturating_sub(1);
            if was_behind && known.behind == 0 && self.expected.iter().any(|old| old.said == known.said) {
                again.push(known.ticket);
            } else {
                self.expected.push(known);
            }
        }
        again
    }
}

impl Session {
    /// Whether the end of a unit waits for what is to be heard before it.
    #[inline]
    pub(super) fn holds_ready(&self) -> bool {
        self.ears.as_ref().is_some_and(|ears| ears.echo.kept.is_some())
    }

    /// A unit has ended.
    #[inline]
    pub(super) fn awaits_own(&mut self, status: TransactionStatus, failed: bool) {
        let committed = std::mem::take(&mut self.fresh.committed);
        if self.said.is_some() {
            self.settle_said(status, failed);
        }
        if let Some(ears) = &mut self.ears {
            if failed || status == TransactionStatus::Failed {
                ears.take_back();
            } else if committed {
                ears.marks();
            }
            if !ears.keeps(status) {
                ears.next();
                self.drop_ears();
            }
        }
    }

    /// The ReadyForQuery of a unit that no server connection of the client's own has answered.
    pub(super) fn tell_ready(&mut self, status: TransactionStatus) {
        if !self.ears.as_mut().is_some_and(|ears| ears.keeps(status)) {
            write::ready_for_query(&mut self.back.own, status);
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

    /// Tells the client of the end of its unit, if all that this waits for was told or heard, or that is missed or late. True: it is told.
    pub(super) fn may_end_unit(&mut self, cx: &mut Context<'_>, missed: bool) -> bool {
        let Some(ears) = &mut self.ears else { return false };
        let Some(kept) = &ears.echo.kept else { return false };
        if !missed && !ears.has_told(kept.mail) {
            return false;
        }
        let late = !missed && !ears.echo.is_complete() && ears.echo.is_late(cx);
        if late && ears.echo.gives_up() {
            ears.others_are_late();
        }
        let ends = missed || late || ears.echo.is_complete();
        if ends {
            self.end_unit();
        }
        ends
    }

    fn end_unit(&mut self) {
        let Some(ears) = &mut self.ears else { return };
        if let Some(Kept { status, .. }) = ears.echo.kept.take() {
            ears.take_back();
            ears.next();
            write::ready_for_query(&mut self.back.own, status);
        }
        self.drop_ears();
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
        self.drop_ears();
    }
}
