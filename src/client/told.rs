//! What the client was told of its prepared statements, and whether the server that runs one has it so.
//!
//! A driver asks once (Describe) and then sends and reads binary values by what it was told. PostgreSQL stands by that: when
//! it plans anew, the types of parameters stay, and where columns would be others it refuses ("cached plan must not change
//! result type"). What pgweir prepares once more on another connection is new to that server, and would be what the tables are now.
//! So it is prepared with the parameters that the client knows; the server is asked for the columns before anything runs, and where
//! they are not those that the client knows, the client gets PostgreSQL's error, and its transaction fails as it would have.
//!
//! Once a server has said what it has, that holds as long as it has it: nothing is asked any more.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::fail::Failure;
use super::prepared::{Statements, There};
use super::session::Session;
use super::supply::Way;
use crate::metrics::PreparedWhat;
use crate::server::described::{self, Columns, Description, Fit};
use crate::server::owed::Show;
use crate::server::{Prepared, Server};
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::frontend::{self, Named};
use crate::wire::{Header, TransactionStatus, write};

/// The number of a client's unnamed statement among those that clients share, of which the first has number 1.
const UNNAMED: u64 = 0;

/// What PostgreSQL says to who runs a statement that has other columns now, with its length and in its words.
const OUTLIVED: &[u8] = b"E\0\0\0\0SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0\
    Fplancache.c\0RRevalidateCachedQuery\0\0";

/// What is described.
#[derive(Clone, Debug)]
struct About {
    /// None: the client's unnamed statement.
    prepared: Option<Arc<Prepared>>,
    /// Name and number of the client's statement, if it is the client that is told.
    client: Option<(Box<[u8]>, u64)>,
}

impl About {
    fn id(&self) -> u64 {
        self.prepared.as_ref().map_or(UNNAMED, |prepared| prepared.id())
    }
}

/// A Describe that is under way.
#[derive(Debug)]
struct Asked {
    number: u32,
    about: About,
    /// The server has not been told to drop it since.
    stays: bool,
    parameters: Option<Arc<[u32]>>,
    columns: Columns,
}

/// What was said of it, in a unit that has not ended.
#[derive(Debug)]
struct Heard {
    number: u32,
    about: About,
    stays: bool,
    description: Arc<Description>,
}

/// The server is asked for what a Bind needs, which waits for that.
#[derive(Clone, Copy, Debug)]
struct Check {
    id: u64,
    number: u32,
    /// It was prepared for that Bind: it is as it is now.
    anew: bool,
    waits: bool,
}

/// The descriptions that are under way.
#[derive(Debug, Default)]
pub(super) struct Told {
    asked: VecDeque<Asked>,
    heard: Vec<Heard>,
    /// The portal that was bound last, if it is described next, and somebody wants to know.
    bound: Option<(Box<[u8]>, About)>,
    check: Option<Check>,
    /// The rest of a RowDescription is to come.
    streams: bool,
}

/// Whether one message was sent before another.
fn is_before(number: u32, other: u32) -> bool {
    // Numbers begin anew at their end.
    number.wrapping_sub(other) > u32::MAX / 2
}

impl Told {
    /// Nothing of it counts.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The number of the Describe whose answer a Bind waits for.
    fn awaits(&self) -> Option<u32> {
        self.check.filter(|check| check.waits).map(|check| check.number)
    }

    /// What the server has said of one in this unit.
    fn known(&self, id: u64) -> Option<&Arc<Description>> {
        self.heard
            .iter()
            .rev()
            .find(|heard| heard.stays && heard.about.id() == id)
            .map(|heard| &heard.description)
    }

    /// Whether the unnamed statement was prepared for the Bind that comes next.
    pub(super) fn checks_unnamed(&self) -> bool {
        self.check.is_some_and(|check| check.id == UNNAMED)
    }

    fn ask(&mut self, number: u32, about: About) {
        let (parameters, columns) = (None, Columns::default());
        self.asked.push_back(Asked { number, about, stays: true, parameters, columns });
    }

    /// A statement that is shared is dropped: what was said of it is about another.
    pub(super) fn drops(&mut self, id: u64) {
        for heard in self.heard.iter_mut().filter(|heard| heard.about.id() == id) {
            heard.stays = false;
        }
        for asked in self.asked.iter_mut().filter(|asked| asked.about.id() == id) {
            asked.stays = false;
        }
    }

    /// A part of the answer to a Describe, of which `whole` says whether it is all of one message.
    fn hears(&mut self, number: u32, tag: u8, part: &[u8], whole: bool) {
        while self.asked.front().is_some_and(|asked| is_before(asked.number, number)) {
            self.asked.pop_front();
        }
        let Some(asked) = self.asked.front_mut().filter(|asked| asked.number == number) else { return };
        match tag {
            b't' if whole => asked.parameters = Some(described::parameters(part)),
            b't' => {}
            _ => {
                asked.columns.feed(part);
                self.streams = !whole;
                if whole {
                    self.heard_all();
                }
            }
        }
    }

    fn heard_all(&mut self) {
        self.streams = false;
        let Some(Asked { number, about, stays, parameters, columns }) = self.asked.pop_front() else {
            return;
        };
        let description = Description { parameters, columns: columns.hash() };
        let description = match &about.prepared {
            Some(prepared) => prepared.described(description),
            None => Arc::new(description),
        };
        self.heard.push(Heard { number, about, stays, description });
    }
}

impl Statements {
    /// A unit has ended: what was said in it holds.
    #[inline]
    pub(super) fn settle_told(&mut self, number: u32, server: &mut Server) {
        if self.told.check.is_some() || !self.told.heard.is_empty() || !self.told.asked.is_empty() {
            self.keep_told(number, server);
        }
    }

    fn keep_told(&mut self, number: u32, server: &mut Server) {
        self.told.check = self.told.check.filter(|check| !is_before(check.number, number));
        self.told.asked.retain(|asked| !is_before(asked.number, number));
        for Heard { about, stays, description, .. } in std::mem::take(&mut self.told.heard) {
            if let Some(prepared) = about.prepared.filter(|_| stays) {
                server.shared.describe(prepared.id(), description.clone());
            }
            if let Some((name, id)) = about.client {
                self.tell(&name, id, description);
            }
        }
    }
}

/// What becomes of a Bind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bound {
    /// It goes.
    Goes,
    /// The server is asked before.
    Waits,
    /// The client knows its statement as another: it is refused.
    Refused,
}

impl Way<'_> {
    fn about(&self, prepared: Option<&Arc<Prepared>>, name: &[u8]) -> About {
        let client = self.statements.find(name).map(|statement| (name.into(), statement.id));
        About { prepared: prepared.cloned(), client }
    }

    /// Sees to it that the server has a statement as the client was told of it. `bind` is the body of the Bind that needs it, and
    /// `rest` what follows that in the piece.
    pub(super) fn fit(
        &mut self,
        prepared: &Arc<Prepared>,
        told: Option<&Arc<Description>>,
        bind: &[u8],
        rest: &[u8],
    ) -> Bound {
        let id = prepared.id();
        let there = self.statements.there(&mut self.held.lease, id);
        if there == There::Yes
            && let Some(told) = told
            && let Some(known) = self.held.lease.shared.described(id)
            && self.statements.told.check.is_none()
            && (Arc::ptr_eq(told, known) || told.fit(Some(known), true) == Fit::Same)
        {
            return Bound::Goes;
        }
        self.see_to(prepared, told, there, bind, rest)
    }

    fn see_to(
        &mut self,
        prepared: &Arc<Prepared>,
        told: Option<&Arc<Description>>,
        there: There,
        bind: &[u8],
        rest: &[u8],
    ) -> Bound {
        let id = prepared.id();
        let check = self.statements.told.check.take().filter(|check| check.id == id);
        let Some((portal, name)) = frontend::bind(bind) else { return Bound::Goes };
        let along = is_described(portal, rest);
        if told.is_none() && there == There::Yes && !along {
            return Bound::Goes;
        }
        let heard = self.statements.told.known(id).cloned();
        // What the server has described, it has, however its unit ends.
        let there = if heard.is_some() { There::Yes } else { there };
        let known = heard.or_else(|| self.held.lease.shared.described(id).cloned());
        // What is prepared without the parameters that the client knows may have others.
        let columns = told.is_some() && (!along || prepared.is_untyped() || names_each_column(bind));
        let fit = match told {
            Some(told) if there == There::Yes => told.fit(known.as_deref(), columns),
            None if there == There::Yes => Fit::Same,
            _ => Fit::Other,
        };
        let failed = self.held.lease.owed.status() == TransactionStatus::Failed;
        match fit {
            Fit::Other if there == There::Yes && check.is_some_and(|check| check.anew) => {
                return Bound::Refused;
            }
            Fit::Other if there != There::Yes || !failed => {
                let there = if there == There::Yes { There::Perhaps } else { there };
                self.prepare(prepared, told, there);
            }
            Fit::Same | Fit::Other | Fit::Unknown => {}
        }
        if columns && fit != Fit::Same || fit == Fit::Unknown {
            return if failed { Bound::Goes } else { self.ask(prepared, fit == Fit::Other) };
        }
        if along {
            self.statements.told.bound = Some((portal.into(), self.about(Some(prepared), name)));
        }
        Bound::Goes
    }

    /// Asks the server what it has.
    fn ask(&mut self, prepared: &Arc<Prepared>, anew: bool) -> Bound {
        let about = About { prepared: Some(prepared.clone()), client: None };
        self.ask_about(about, prepared.name(), prepared.id(), anew)
    }

    fn ask_about(&mut self, about: About, name: &[u8], id: u64, anew: bool) -> Bound {
        let Some(number) = self.held.lease.owed.sent(b'D', Show::Swallow) else { return Bound::Goes };
        write::describe_statement(self.own, name);
        write::flush(self.own);
        self.metrics.prepared(PreparedWhat::Asked);
        self.statements.told.ask(number, about);
        self.statements.told.check = Some(Check { id, number, anew, waits: true });
        Bound::Waits
    }

    /// The server prepares a statement with the parameters that the client knows.
    pub(super) fn prepare(
        &mut self,
        prepared: &Arc<Prepared>,
        told: Option<&Arc<Description>>,
        there: There,
    ) {
        self.supply_shared(prepared, told.and_then(|told| told.parameters.as_deref()), there);
    }

    /// The client is going to be told of a statement that is shared.
    pub(super) fn tells(&mut self, prepared: &Arc<Prepared>, name: &[u8], number: u32) {
        let known = self.held.lease.shared.described(prepared.id());
        let told = self.statements.find(name).and_then(|statement| statement.told.as_ref());
        let same = told.is_some_and(|told| told.fit(known.map(|known| &**known), true) == Fit::Same);
        if !same || told.is_some_and(|told| told.parameters.is_none()) {
            let about = self.about(Some(prepared), name);
            self.statements.told.ask(number, about);
        }
    }

    /// A Describe of the client's goes as it is.
    pub(super) fn describes(&mut self, number: u32, body: &[u8]) {
        match frontend::named(body) {
            Some(Named::Statement(b"")) => {
                let about = self.about(None, b"");
                self.statements.told.ask(number, about);
            }
            Some(Named::Portal(portal)) => {
                if let Some((bound, about)) = self.statements.told.bound.take()
                    && *bound == *portal
                {
                    self.statements.told.ask(number, about);
                }
            }
            Some(Named::Statement(_)) | None => {}
        }
    }

    /// The server lacks the client's unnamed statement, and gets it before that message.
    pub(super) fn fit_unnamed(&mut self, head: Header, body: &[u8], rest: &[u8]) -> Bound {
        let told = self.supply_unnamed();
        let failed = self.held.lease.owed.status() == TransactionStatus::Failed;
        let Some((_, typed)) = told.filter(|_| head.tag == b'B' && !failed) else { return Bound::Goes };
        let along = frontend::bind(body).is_some_and(|(portal, _)| is_described(portal, rest));
        if typed && along && !names_each_column(body) {
            return Bound::Goes;
        }
        self.ask_about(About { prepared: None, client: None }, b"", UNNAMED, true)
    }

    /// The server has it now, and has said what it is.
    pub(super) fn checked_unnamed(&mut self) -> Bound {
        let Some(check) = self.statements.told.check.take() else { return Bound::Goes };
        let heard = self.statements.told.heard.iter().find(|heard| heard.number == check.number);
        let told = self.statements.find(b"").and_then(|statement| statement.told.as_ref());
        match (heard, told) {
            (Some(heard), Some(told)) if told.fit(Some(&heard.description), true) == Fit::Other => {
                // It is none that the client may run.
                self.close(b"");
                Bound::Refused
            }
            _ => Bound::Goes,
        }
    }

    /// Before a Bind that must not be carried out goes what fails: the server passes over the rest of the unit.
    pub(super) fn refuse(&mut self) {
        if self.held.lease.owed.sent_refusal().is_some() {
            write::execute(self.own, "pgweir: cached plan must not change result type");
        }
    }
}

/// Whether a portal is described right behind its Bind: the client hears the columns along with the rows.
fn is_described(portal: &[u8], rest: &[u8]) -> bool {
    let Ok(Some(head)) = frame::header(rest, Side::Frontend) else { return false };
    let body = rest.get(HEADER..head.size).unwrap_or_default();
    head.tag == b'D' && frontend::named(body) == Some(Named::Portal(portal))
}

/// Whether a Bind goes by the columns that the client was told, even if it hears of others along with the rows: with one more
/// or less, PostgreSQL would refuse the Bind itself, and drivers take that for a fault of theirs.
fn names_each_column(bind: &[u8]) -> bool {
    frontend::bind_columns(bind).is_some_and(|columns| columns > 1)
}

impl Session {
    /// Whether the Bind that waits for what the server says of its statement can go on, and does. None: no Bind waits.
    pub(super) fn awaits_description(&mut self) -> Option<bool> {
        let number = self.statements.told.awaits()?;
        if self.active.is_none() {
            self.statements.told.clear();
            return None;
        }
        let waits = self.held().is_some_and(|held| held.lease.owed.owes(number));
        if !waits && let Some(check) = &mut self.statements.told.check {
            check.waits = false;
            if let Some(piece) = self.piece {
                self.heed_within(&piece);
            }
            self.forward();
        }
        Some(!waits)
    }

    /// A statement or a portal is described by what stands in the server's window at `at`.
    pub(super) fn heard_description(&mut self, number: u32, at: usize, head: Header) {
        if self.statements.told.asked.is_empty() {
            return;
        }
        let held = self.active.and_then(|target| self.held.get(target.index())).and_then(Option::as_ref);
        let window = held.and_then(|held| held.lease.window.as_ref());
        let message = window.and_then(|window| window.bytes().get(at..)).unwrap_or_default();
        let body = message.get(HEADER..head.size.min(message.len())).unwrap_or_default();
        self.statements.told.hears(number, head.tag, body, head.size <= message.len());
    }

    /// More of a long one stands at the front of the server's window; `left`: so many bytes come after that.
    pub(super) fn heard_more(&mut self, part: usize, left: usize) {
        if !self.statements.told.streams {
            return;
        }
        let held = self.active.and_then(|target| self.held.get(target.index())).and_then(Option::as_ref);
        let window = held.and_then(|held| held.lease.window.as_ref());
        let bytes = window.and_then(|window| window.bytes().get(..part)).unwrap_or_default();
        if let Some(asked) = self.statements.told.asked.front_mut() {
            asked.columns.feed(bytes);
        }
        if left == 0 {
            self.statements.told.heard_all();
        }
    }

    /// So many bytes at the front of the server's window are not for the client.
    pub(super) fn drop_front(&mut self, part: usize) {
        if let Some(window) = self.held().and_then(|held| held.lease.window.as_mut()) {
            window.consume(part);
        }
    }

    /// What went before something that must not be carried out has failed: the error stands in the server's window at `at`, and the
    /// client is shown why. True: something is to show, or was taken out.
    pub(super) fn say_refused(&mut self, at: usize, there: usize) -> bool {
        let void = self.net.failed.is_some();
        if !void {
            self.release();
            let cancelled = self.identity.cancel.has_refused();
            let outlived = || Failure::ServerSaid(Bytes::from_static(OUTLIVED));
            self.say_error(&if cancelled { Failure::Cancelled } else { outlived() });
        }
        let Some(held) = self.held() else { return false };
        held.error_shown |= !void;
        if let Some(window) = &mut held.lease.window {
            window.cut_out(at, there);
        }
        self.back.run = if void { 0 } else { at };
        self.back.hold = at - self.back.run;
        true
    }
}
