//! The replies that a server owes: the only judge of "is this server free". Pure.
//!
//! Each message that is sent enters the queue; each reply takes from its front what it answers. An entry says whether
//! the client is to see the reply ([`Show::Forward`]) or not ([`Show::Swallow`]: pgweir asked on its own account). The
//! rules are PostgreSQL's (docs, chapters 53.2.3 and 53.2.6; `PostgresMain` in backend/tcop/postgres.c):
//! - an error in the extended protocol skips everything up to the next Sync, which alone is answered;
//! - while a COPY from the client runs, a Sync or Flush before CopyDone is ignored;
//! - a NoticeResponse, ParameterStatus or NotificationResponse can come at any time and answers nothing.
//!
//! Invariant: a server is free only if the queue is empty, no unit is open, no COPY runs, and the last ReadyForQuery
//! said `I`.

use std::collections::VecDeque;

use crate::wire::{ProtocolError, TransactionStatus, backend};

/// Most replies owed at once by one server; beyond it the client is not read until some have come.
pub const MAX_OWED: usize = 16 * 1024;

/// The tag of a ParseComplete, which has no body, as a CloseComplete has none.
pub const PARSE_COMPLETE: u8 = b'1';

/// Who sees the replies to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Show {
    /// The client.
    Forward,
    /// Nobody: the message was pgweir's own.
    Swallow,
}

/// A message that was sent, by what answers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    /// Query: anything, up to ReadyForQuery.
    Query,
    /// FunctionCall: its result or an error, then ReadyForQuery.
    Function,
    /// Parse: ParseComplete.
    Parse,
    /// A Close of nothing in place of a Parse: a CloseComplete that the client is shown as a ParseComplete.
    Known,
    /// Bind: BindComplete.
    Bind,
    /// Describe: RowDescription or NoData, perhaps after a ParameterDescription.
    Describe,
    /// An Execute of nothing before a Bind that is not to be carried out: an error.
    Refusal,
    /// Execute: rows or copied data, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// Close: CloseComplete.
    Close,
    /// Sync: ReadyForQuery.
    Sync,
    /// CopyDone or CopyFail: nothing of its own; marks where Syncs begin to count again.
    CopyEnd,
}

/// What a reply means for whoever relays it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Who sees it.
    pub show: Show,
    /// What else happened.
    pub event: Event,
}

/// What a reply tells beyond its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Nothing special.
    None,
    /// A Parse succeeded.
    Parsed,
    /// What stands for a Parse succeeded: the client is to see [`PARSE_COMPLETE`] in place of the reply's tag.
    Known,
    /// A Close succeeded.
    Closed,
    /// A statement or a portal is described, in part or to the end.
    Described {
        /// The number of the Describe: see [`Owed::sent`].
        number: u32,
    },
    /// What was sent so that a Bind is not carried out has failed: the client is to see why.
    Refused,
    /// A Query failed, and the client was shown why: what went before it on pgweir's account had failed already.
    Said,
    /// An ErrorResponse; `parse`: to a Parse.
    Error {
        /// It refuses a Parse.
        parse: bool,
    },
    /// A unit ended: ReadyForQuery.
    Ready {
        /// What it announces.
        status: TransactionStatus,
        /// The number of the message that it answers: see [`Owed::sent`].
        number: u32,
    },
    /// The server has dropped all prepared statements: DEALLOCATE ALL or DISCARD ALL.
    Forgotten,
    /// PREPARE succeeded.
    Prepared,
    /// DEALLOCATE of one statement succeeded.
    Deallocated,
    /// ROLLBACK, to a savepoint perhaps, or a COMMIT of what had failed.
    RolledBack,
    /// A parameter changed: ParameterStatus.
    Parameter,
    /// The preface went well: what is behind it is carried out.
    Prefaced,
}

/// The queue.
#[derive(Debug)]
pub struct Owed {
    /// With a number each, which only has to differ from that of every other entry.
    queue: VecDeque<(Sent, Show, u32)>,
    last: u32,
    /// Since the last Sync, extended messages were sent: the unit is open although nothing may be owed.
    open: bool,
    /// An error came while no Sync was in the queue: what is sent until the next one is ignored by the server.
    skipping: bool,
    /// A COPY from the client runs, and its CopyDone has not been sent.
    copy_in: bool,
    /// The number of a Query before which something of pgweir's own has failed, with an error that the client was shown.
    said: Option<u32>,
    /// The numbers, from and to, of units of pgweir's own that may fail.
    trial: Option<(u32, u32)>,
    /// The numbers, from and to, of the preface of the unit that is being answered.
    preface: Option<(u32, u32)>,
    status: TransactionStatus,
}

impl Default for Owed {
    fn default() -> Self {
        Self::new()
    }
}

impl Owed {
    /// The queue of a server that has just said that it is ready.
    #[must_use]
    pub fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            last: 0,
            open: false,
            skipping: false,
            copy_in: false,
            said: None,
            trial: None,
            preface: None,
            status: TransactionStatus::Idle,
        }
    }

    /// Notes a message that goes to the server, by its tag. Data of a COPY, Flush and Terminate owe nothing. Returns the
    /// number of what is owed; none if the server will ignore the message.
    pub fn sent(&mut self, tag: u8, show: Show) -> Option<u32> {
        let sent = match tag {
            b'Q' => Sent::Query,
            b'F' => Sent::Function,
            b'S' => Sent::Sync,
            b'P' => Sent::Parse,
            b'B' => Sent::Bind,
            b'D' => Sent::Describe,
            b'E' => Sent::Execute,
            b'C' => Sent::Close,
            b'c' | b'f' => Sent::CopyEnd,
            _ => return None,
        };
        match sent {
            Sent::CopyEnd => {
                if self.copy_in {
                    self.copy_in = false;
                } else if !self.queue.is_empty() {
                    self.queue.push_back((sent, show, self.last));
                }
                return None;
            }
            Sent::Sync if self.copy_in => return None,
            Sent::Sync => {
                self.open = false;
                self.skipping = false;
            }
            Sent::Query | Sent::Function if self.skipping => return None,
            // It ends with a ReadyForQuery of its own, which closes the unit as a Sync would.
            Sent::Query | Sent::Function => self.open = false,
            Sent::Parse
            | Sent::Bind
            | Sent::Describe
            | Sent::Execute
            | Sent::Close
            | Sent::Known
            | Sent::Refusal => {
                self.open = true;
                if self.skipping {
                    return None;
                }
            }
        }
        self.last = self.last.wrapping_add(1);
        self.queue.push_back((sent, show, self.last));
        Some(self.last)
    }

    /// As [`Owed::sent`], for a Close of nothing that goes to the server in place of the client's Parse, of a statement that
    /// the server has.
    pub fn sent_known(&mut self) -> Option<u32> {
        let number = self.sent(b'C', Show::Forward)?;
        if let Some((sent, ..)) = self.queue.back_mut() {
            *sent = Sent::Known;
        }
        Some(number)
    }

    /// As [`Owed::sent`], for an Execute of nothing that goes to the server before a Bind that it must not carry out: its
    /// transaction fails as it would have failed by that.
    pub fn sent_refusal(&mut self) -> Option<u32> {
        let number = self.sent(b'E', Show::Forward)?;
        if let Some((sent, ..)) = self.queue.back_mut() {
            *sent = Sent::Refusal;
        }
        Some(number)
    }

    /// What is owed from the one to the other of these numbers is for units of pgweir's own, each with its Sync: where one fails nobody
    /// hears of it. So it is for the last of such only.
    pub fn may_fail(&mut self, from: u32, to: u32) {
        self.trial = Some((from, to));
    }

    fn is_trial(&self) -> bool {
        self.is_in(self.trial)
    }

    fn is_in(&self, range: Option<(u32, u32)>) -> bool {
        range
            .zip(self.queue.front())
            .is_some_and(|((from, to), (.., number))| number.wrapping_sub(from) <= to.wrapping_sub(from))
    }

    /// Notes a statement of pgweir's own that goes before a unit of the client's as Parse, Bind and Execute, and without a Sync: the
    /// preface of that unit, with others like it. Where one fails, the server skips the rest and all of the unit.
    pub fn sent_preface(&mut self) {
        let open = self.open;
        let sent = [b'P', b'B', b'E'].map(|tag| self.sent(tag, Show::Swallow));
        self.open = open;
        if let [Some(first), _, Some(last)] = sent {
            self.grow_preface(first, last);
        }
    }

    /// As [`Owed::sent_preface`], for a Query behind a BEGIN that it commits: where it fails, its transaction has failed.
    pub fn sent_preface_query(&mut self) {
        if let Some(number) = self.sent(b'Q', Show::Swallow) {
            self.grow_preface(number, number);
        }
    }

    /// Whether settings of a preface are not answered yet.
    #[must_use]
    pub fn is_dressing(&self) -> bool {
        let query = |(sent, show, _): &(Sent, Show, u32)| (*sent, *show) == (Sent::Query, Show::Swallow);
        self.preface.is_some() && self.queue.iter().any(query)
    }

    fn grow_preface(&mut self, first: u32, last: u32) {
        self.preface = Some((self.preface.map_or(first, |(first, _)| first), last));
    }

    /// Whether a preface is not answered yet. A Sync behind it would end what is skipped: no other unit may be sent.
    #[must_use]
    pub fn is_prefaced(&self) -> bool {
        self.preface.is_some()
    }

    /// Whether the reply with that number is still to come.
    #[must_use]
    pub fn owes(&self, number: u32) -> bool {
        self.queue.iter().any(|(.., owed)| *owed == number)
    }

    /// Takes a reply: who sees it and what it means. `body` may be cut short but for `Z`.
    ///
    /// # Errors
    /// A reply that answers nothing that was sent: the state of the connection is in doubt.
    pub fn reply(&mut self, tag: u8, body: &[u8]) -> Result<Verdict, ProtocolError> {
        self.drop_copy_ends();
        let front = self.queue.front().copied();
        let show = front.map_or(Show::Forward, |(_, show, _)| show);
        let verdict = |event| Ok(Verdict { show, event });
        let unexpected = Err(ProtocolError::Unexpected(tag));
        match (tag, front.map(|(sent, ..)| sent)) {
            (b'N', _) => verdict(Event::None),
            (b'A', _) => Ok(Verdict { show: Show::Forward, event: Event::None }),
            (b'S', _) => verdict(Event::Parameter),
            (b'E', Some(Sent::Query)) if self.is_said() => {
                self.error();
                Ok(Verdict { show: Show::Swallow, event: Event::Said })
            }
            (b'E', sent) => Ok(self.failed(sent, show)),
            (b'Z', Some(Sent::Query | Sent::Function | Sent::Sync)) => {
                // Read before it counts: one that says nothing is still owed.
                self.status = backend::ready_for_query(body)?;
                self.queue.pop_front();
                self.drop_copy_ends();
                self.copy_in = false;
                let number = front.map_or(0, |(.., number)| number);
                self.trial.take_if(|(_, to)| *to == number);
                // Of one that has failed nothing is skipped from here on.
                self.preface.take_if(|(_, to)| number.wrapping_sub(*to) < u32::MAX / 2);
                verdict(Event::Ready { status: self.status, number })
            }
            (b'C', Some(Sent::Query)) => verdict(completed(body)),
            (b'D' | b'T' | b'I' | b'H' | b'd' | b'c', Some(Sent::Query))
            | (b'D' | b'H' | b'd' | b'c', Some(Sent::Execute))
            | (b'V', Some(Sent::Function)) => verdict(Event::None),
            (b't' | b'T' | b'n', Some(Sent::Describe)) => {
                if tag != b't' {
                    self.queue.pop_front();
                }
                verdict(Event::Described { number: front.map_or(0, |(.., number)| number) })
            }
            (b'C' | b'I' | b's', Some(Sent::Execute)) | (b'2', Some(Sent::Bind)) => {
                let number = self.queue.pop_front().map(|(.., number)| number);
                self.copy_in = false;
                if self.preface.take_if(|(_, to)| number == Some(*to)).is_some() {
                    return verdict(Event::Prefaced);
                }
                verdict(if tag == b'C' { completed(body) } else { Event::None })
            }
            (b'1', Some(Sent::Parse)) => {
                let prefaces = self.is_in(self.preface);
                self.queue.pop_front();
                verdict(if prefaces { Event::None } else { Event::Parsed })
            }
            (b'3', Some(Sent::Close)) => {
                self.queue.pop_front();
                verdict(Event::Closed)
            }
            (b'3', Some(Sent::Known)) => {
                self.queue.pop_front();
                verdict(Event::Known)
            }
            (b'G', Some(Sent::Query | Sent::Execute)) => {
                self.start_copy_in();
                verdict(Event::None)
            }
            _ => unexpected,
        }
    }

    /// Takes the error that answers what is at the front.
    fn failed(&mut self, sent: Option<Sent>, show: Show) -> Verdict {
        // By its own Sync, all that pgweir asked for has been done; it is cancelled, perhaps, and what comes behind it is not.
        let done = sent == Some(Sent::Sync) && show == Show::Swallow;
        let prefaces = self.is_in(self.preface);
        let alone = done || prefaces || self.is_trial();
        let open = self.open;
        self.error();
        if prefaces {
            // The client waits for a ReadyForQuery if it has sent all of its unit.
            self.open = open;
        }
        let parse = sent == Some(Sent::Parse);
        if alone {
            return Verdict { show: Show::Swallow, event: Event::Error { parse } };
        }
        self.said = self.query_behind().filter(|_| show == Show::Swallow);
        // Where pgweir's own Parse fails, so does the client's Bind behind it: the client sees why.
        let own = sent == Some(Sent::Query);
        Verdict {
            show: if own { show } else { Show::Forward },
            event: match sent {
                Some(Sent::Refusal) => Event::Refused,
                _ => Event::Error { parse },
            },
        }
    }

    /// Whether the client was shown what a Query at the front lacks.
    fn is_said(&self) -> bool {
        self.said.is_some() && self.said == self.queue.front().map(|(.., number)| *number)
    }

    /// The client's Query behind a Sync of pgweir's own at the front.
    fn query_behind(&self) -> Option<u32> {
        match (self.queue.front()?, self.queue.get(1)?) {
            ((Sent::Sync, Show::Swallow, _), (Sent::Query, Show::Forward, number)) => Some(*number),
            _ => None,
        }
    }

    /// CopyDone markers at the front belong to a COPY that is over.
    fn drop_copy_ends(&mut self) {
        while matches!(self.queue.front(), Some((Sent::CopyEnd, ..))) {
            self.queue.pop_front();
        }
    }

    fn error(&mut self) {
        self.copy_in = false;
        match self.queue.front() {
            None | Some((Sent::Query | Sent::Function, ..)) => {}
            Some(_) => {
                while self.queue.front().is_some_and(|(sent, ..)| *sent != Sent::Sync) {
                    self.queue.pop_front();
                }
                self.skipping = self.queue.is_empty();
                // A Query behind what failed is skipped as well: it does not close the unit.
                self.open |= self.skipping;
            }
        }
        // An error on an open unit whose messages were all answered (a Flush, then a timeout): the server skips too.
        if self.queue.is_empty() && self.open {
            self.skipping = true;
        }
    }

    /// The server now takes data: Syncs that it will ignore are taken out, up to the first CopyDone.
    fn start_copy_in(&mut self) {
        let front = self.queue.pop_front();
        let mut ignored = false;
        self.copy_in = loop {
            match self.queue.front() {
                Some((Sent::Sync, ..)) => ignored = true,
                Some((Sent::CopyEnd, ..)) => {
                    self.queue.pop_front();
                    break false;
                }
                // Anything else makes the server give the COPY up with an error, if its data has not done so before.
                Some(_) => break false,
                None => break true,
            }
            self.queue.pop_front();
        };
        let unit = matches!(front, Some((Sent::Execute, ..)));
        if unit && ignored && !self.queue.iter().any(|(sent, ..)| *sent == Sent::Sync) {
            self.open = true;
        }
        if let Some(front) = front {
            self.queue.push_front(front);
        }
    }

    /// Whether the connection could serve somebody else: nothing owed, nothing open, no transaction, no preface that has failed.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.is_settled() && self.status == TransactionStatus::Idle && self.preface.is_none()
    }

    /// Whether nothing is owed and no unit is open; a transaction may be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.queue.is_empty() && !self.open && !self.copy_in && !self.skipping
    }

    /// Who sees what comes next.
    #[must_use]
    pub fn next_show(&self) -> Show {
        if self.is_said() {
            return Show::Swallow;
        }
        self.queue.front().map_or(Show::Forward, |(_, show, _)| *show)
    }

    /// How many replies are owed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no reply is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a unit of the extended protocol is open: no Sync since its last message.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the server waits for data of a COPY.
    #[must_use]
    pub fn is_copy_in(&self) -> bool {
        self.copy_in
    }

    /// The transaction status that the server announced last.
    #[must_use]
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// How many of the client's messages are not answered yet of the unit that is being answered, its end included.
    #[must_use]
    pub fn left_in_unit(&self) -> usize {
        let ends = |sent: &Sent| matches!(sent, Sent::Query | Sent::Function | Sent::Sync);
        let mut left = 0;
        for (sent, show, _) in &self.queue {
            left += usize::from(*show == Show::Forward);
            if *show == Show::Forward && ends(sent) {
                break;
            }
        }
        left
    }

    /// How many more ReadyForQuery messages the client waits for.
    #[must_use]
    pub fn readies(&self) -> usize {
        let ends = |(sent, show, _): &&(Sent, Show, u32)| {
            *show == Show::Forward && matches!(sent, Sent::Query | Sent::Function | Sent::Sync)
        };
        self.queue.iter().filter(ends).count()
    }
}

/// What a CommandComplete tells.
fn completed(body: &[u8]) -> Event {
    match body {
        b"DEALLOCATE ALL\0" | b"DISCARD ALL\0" => Event::Forgotten,
        b"PREPARE\0" => Event::Prepared,
        b"DEALLOCATE\0" => Event::Deallocated,
        b"ROLLBACK\0" => Event::RolledBack,
        _ => Event::None,
    }
}

#[cfg(test)]
mod tests;
