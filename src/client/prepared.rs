//! The client's prepared statements: what each name stands for, what is under way, and what a server connection lacks.
//!
//! A name is the client's own. What it stands for is shared on servers with all clients that prepare the same
//! ([`Prepared`]), under a name of pgweir's own that takes the client's place in every message. A connection that lacks the
//! statement gets it before the first message that names it, and its reply is swallowed. The unnamed statement is the
//! client's alone and travels as it is. A statement whose text is not kept has the client's name on the one connection that
//! it went to, which it keeps.
//!
//! What is known for certain is what servers have confirmed; every change that they have not is an [`Op`] in a list, in the
//! order of the client's messages: those sent, and behind them those of the piece that is being cut. What a name stands for
//! at a point in the stream is what the last of the ops before that point says, or else what is certain. An op that is
//! refused or skipped is dropped with its unit, and nothing has to be undone.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Deref;
use std::sync::Arc;

use ahash::RandomState;

use super::options::StatementLimits;
use super::told::Told;
use crate::route::Facts;
use crate::server::described::Description;
use crate::server::settings::SqlPrepared;
use crate::server::{Prepared, Server};
use crate::wire::frame::HEADER;

/// Longest unnamed Parse message that is kept for a later unit; a longer one keeps its server connection.
const KEEP_UNNAMED: usize = 8 * 1024;

/// The number of a statement on a server that is not the client's, although it has a name of the client's.
pub(super) const NOBODY: u64 = 0;

/// The Parse message of a statement, kept.
#[derive(Debug)]
pub(super) enum Text {
    /// As the client sent it.
    Own(Vec<u8>),
    /// Under the name that servers know it by.
    Shared(Arc<Prepared>),
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(message) => message,
            Self::Shared(prepared) => prepared.message(),
        }
    }
}

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Statement {
    /// The client's number for it, from 1: a name that is used again gets another.
    pub(super) id: u64,
    /// What it does.
    pub(super) facts: Facts,
    /// [`crate::route::Scope::key`] of the scope that it was judged in.
    pub(super) scope: u64,
    /// The whole Parse message, if it was kept; filled in when it is sent.
    pub(super) parse: Option<Text>,
    /// What the client was told of it.
    pub(super) told: Option<Arc<Description>>,
    /// The PREPARE that has made it, if SQL has.
    sql: Option<Box<str>>,
}

/// A statement that the client has by name, and any server can have.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) name: Box<[u8]>,
    pub(super) prepared: Arc<Prepared>,
    /// The PREPARE that has made it, if SQL has.
    pub(super) sql: Option<Box<str>>,
}

impl Statement {
    /// What servers have it as, if clients share it.
    pub(super) fn shared(&self) -> Option<&Arc<Prepared>> {
        match &self.parse {
            Some(Text::Shared(prepared)) => Some(prepared),
            Some(Text::Own(_)) | None => None,
        }
    }

    /// As what it counts against the limits.
    fn size(&self) -> usize {
        let types =
            self.told.as_ref().and_then(|told| told.parameters.as_ref()).map_or(0, |types| types.len());
        let sql = self.sql.as_ref().map_or(0, |text| text.len());
        self.parse.as_deref().map_or(0, <[u8]>::len) + sql + size_of::<u32>() * types
    }
}

/// How a Parse of the client's goes to a server.
#[derive(Debug)]
pub(super) enum Sent<'a> {
    /// As it is: this is the whole message.
    Whole(&'a [u8]),
    /// Under the name that servers know it by.
    Shared(Arc<Prepared>),
    /// Not at all: the server has it under that name.
    Known(Arc<Prepared>),
}

/// A message that changes what names stand for.
#[derive(Debug)]
enum Op {
    /// A Parse of the client's. `keep`: its message is to be kept. `share`: what the server gets by it, if that is shared.
    Parse { name: Box<[u8]>, statement: Statement, keep: bool, share: bool },
    /// A Parse of pgweir's own, under the client's name: the server lacked the statement.
    Own { name: Box<[u8]>, id: u64 },
    /// A Parse of pgweir's own of what clients share.
    Share(Arc<Prepared>),
    /// A Close of pgweir's own of such a one.
    Unshare(Arc<Prepared>),
    /// A Close of a statement: the client's or, with `own`, pgweir's.
    Close { name: Box<[u8]>, own: bool },
    /// A Close of something else.
    Portal,
    /// The end of a unit, by the number of what is owed for it. A simple query also ends the unnamed statement.
    End { number: u32, query: bool },
}

/// Whether a server connection has a shared statement, when the next message reaches it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum There {
    /// It has it.
    Yes,
    /// It has it not.
    No,
    /// It depends on how an earlier unit ends, or it has one that it has outlived.
    Perhaps,
}

/// The client's statements.
#[derive(Debug)]
pub(super) struct Statements {
    limits: StatementLimits,
    /// Confirmed, by name; the unnamed one has the empty name.
    certain: HashMap<Box<[u8]>, Statement, RandomState>,
    ops: VecDeque<Op>,
    /// How many of `ops` were sent; the others were only read.
    sent: usize,
    /// Bytes of Parse messages with a name in `certain` and `ops`.
    kept: usize,
    last: u64,
    /// The buffer of an unnamed Parse message that is no longer needed.
    spare: Vec<u8>,
    /// What is answered now is going to be sent again, elsewhere: it says what that server has, and nothing else.
    void: bool,
    /// What is being described.
    pub(super) told: Told,
}

impl Statements {
    /// None yet. What is beyond the limits stays usable on the primary alone.
    pub(super) fn new(limits: StatementLimits) -> Self {
        Self {
            limits,
            certain: HashMap::default(),
            ops: VecDeque::new(),
            sent: 0,
            kept: 0,
            last: 0,
            spare: Vec::new(),
            void: false,
            told: Told::default(),
        }
    }
}

#[cfg(test)]
impl Default for Statements {
    fn default() -> Self {
        Self::new(StatementLimits::default())
    }
}

/// What is read: called while a piece is cut.
impl Statements {
    /// A Parse was read: its message has so many bytes, or is longer than a window. False: it is not kept, so that it can
    /// be used only on the connection that it goes to.
    pub(super) fn parse(&mut self, name: &[u8], facts: Facts, scope: u64, size: Option<usize>) -> bool {
        self.last += 1;
        let keep = match size {
            None => false,
            Some(size) if name.is_empty() => size <= KEEP_UNNAMED,
            Some(size) => {
                self.kept + size <= self.limits.bytes
                    && self.certain.len() + self.ops.len() < self.limits.count
            }
        };
        if keep && !name.is_empty() {
            self.kept += size.unwrap_or(0);
        }
        let statement = Statement { id: self.last, facts, scope, parse: None, told: None, sql: None };
        self.ops.push_back(Op::Parse { name: name.into(), statement, keep, share: false });
        keep
    }

    /// The facts of the statement just read turn out to be others: it cannot be moved.
    pub(super) fn amend(&mut self, facts: Facts) {
        if let Some(Op::Parse { statement, .. }) = self.ops.back_mut() {
            statement.facts = facts;
        }
    }

    /// A Close was read; `name` is that of a statement.
    pub(super) fn close(&mut self, name: Option<&[u8]>) {
        self.ops.push_back(match name {
            Some(name) => Op::Close { name: name.into(), own: false },
            None => Op::Portal,
        });
    }

    /// The end of a unit was read.
    pub(super) fn end(&mut self, query: bool) {
        self.ops.push_back(Op::End { number: 0, query });
    }

    /// The facts of the statement that the next message would mean by that name; none if the client has no such.
    pub(super) fn facts(&self, name: &[u8]) -> Option<Facts> {
        self.meant(name).map(|statement| statement.facts)
    }

    /// The statement that the next message would mean by that name.
    pub(super) fn meant(&self, name: &[u8]) -> Option<&Statement> {
        self.find_before(self.ops.len(), name)
    }

    /// The statement with that number was judged again.
    pub(super) fn judged(&mut self, id: u64, facts: Facts, scope: u64) {
        let under_way = self.ops.iter_mut().filter_map(|op| match op {
            Op::Parse { statement, .. } => Some(statement),
            Op::Own { .. }
            | Op::Share(_)
            | Op::Unshare(_)
            | Op::Close { .. }
            | Op::Portal
            | Op::End { .. } => None,
        });
        for statement in under_way.chain(self.certain.values_mut()).filter(|statement| statement.id == id) {
            (statement.facts, statement.scope) = (facts, scope);
        }
    }

    /// The number, from 1, of the statement that the next message would mean by that name.
    pub(super) fn id(&self, name: &[u8]) -> Option<u64> {
        self.meant(name).map(|statement| statement.id)
    }

    /// What was read and not sent is not going to be.
    pub(super) fn forget_read(&mut self) {
        self.ops.truncate(self.sent);
        self.count_kept();
    }
}

/// What is sent, in the order of the messages.
impl Statements {
    /// The statement that the next message to be sent means by that name.
    pub(super) fn find(&self, name: &[u8]) -> Option<&Statement> {
        self.find_before(self.sent, name)
    }

    fn find_before(&self, end: usize, name: &[u8]) -> Option<&Statement> {
        for op in self.ops.range(..end).rev() {
            match op {
                // Refused where the name is taken: what it stands for is what it stood for.
                Op::Parse { name: new, statement, .. } if **new == *name => {
                    return if name.is_empty() {
                        Some(statement)
                    } else {
                        self.first_of(end, name).or(Some(statement))
                    };
                }
                Op::Close { name: gone, own: false } if **gone == *name => return None,
                Op::End { query: true, .. } if name.is_empty() => return None,
                _ => {}
            }
        }
        self.certain.get(name)
    }

    /// Of several Parses of a name without a Close between them, the first counts: the others are refused.
    fn first_of(&self, end: usize, name: &[u8]) -> Option<&Statement> {
        let mut first = self.certain.get(name);
        for op in self.ops.range(..end) {
            match op {
                Op::Parse { name: new, statement, .. } if **new == *name && first.is_none() => {
                    first = Some(statement)
                }
                Op::Close { name: gone, own: false } if **gone == *name => first = None,
                _ => {}
            }
        }
        first
    }

    /// The number of the statement that the server will have under that name when the next message reaches it.
    pub(super) fn on_server(&self, server: &Server, name: &[u8]) -> Option<u64> {
        for op in self.ops.range(..self.sent).rev() {
            match op {
                Op::Parse { share: true, .. } | Op::Share(_) | Op::Unshare(_) => {}
                Op::Parse { name: new, .. } | Op::Own { name: new, .. } if **new != *name => {}
                Op::Parse { statement, .. } if name.is_empty() => return Some(statement.id),
                Op::Parse { .. } => return self.find(name).map(|statement| statement.id),
                Op::Own { id, .. } => return Some(*id),
                Op::Close { name: gone, .. } if **gone == *name => return None,
                Op::End { query: true, .. } if name.is_empty() => return None,
                Op::Close { .. } | Op::Portal | Op::End { .. } => {}
            }
        }
        if name.is_empty() {
            Some(server.unnamed).filter(|id| *id > 0)
        } else {
            server.prepared.get(name).copied()
        }
    }

    /// Whether the server will have that shared statement when the next message reaches it.
    pub(super) fn there(&self, server: &mut Server, id: u64) -> There {
        let mut same_unit = true;
        for op in self.ops.range(..self.sent).rev() {
            let there = match op {
                Op::Parse { share: true, statement, .. } => {
                    statement.shared().is_some_and(|shared| shared.id() == id).then_some(There::Yes)
                }
                Op::Share(prepared) => (prepared.id() == id).then_some(There::Yes),
                Op::Unshare(prepared) => (prepared.id() == id).then_some(There::No),
                Op::End { .. } => {
                    same_unit = false;
                    None
                }
                Op::Parse { .. } | Op::Own { .. } | Op::Close { .. } | Op::Portal => None,
            };
            if let Some(there) = there {
                return if same_unit { there } else { There::Perhaps };
            }
        }
        match server.shared.has(id) {
            true => There::Yes,
            false if server.shared.has_any(id) => There::Perhaps,
            false => There::No,
        }
    }

    /// Each change to the shared statements that a server has, of those under way; true: it gets it.
    pub(super) fn shared_under_way(&self, mut see: impl FnMut(&Arc<Prepared>, bool)) {
        for op in self.ops.range(..self.sent) {
            match op {
                Op::Parse { share: true, statement, .. } => {
                    statement.shared().into_iter().for_each(|prepared| see(prepared, true));
                }
                Op::Share(prepared) => see(prepared, true),
                Op::Unshare(prepared) => see(prepared, false),
                Op::Parse { .. } | Op::Own { .. } | Op::Close { .. } | Op::Portal | Op::End { .. } => {}
            }
        }
    }

    /// The names that a server may have when the next message reaches it for something that is not the client's.
    pub(super) fn in_the_way(&self, server: &Server) -> Vec<Box<[u8]>> {
        let certain = server.prepared.iter().filter(|(_, id)| **id == NOBODY).map(|(name, _)| name);
        let under_way = self.ops.range(..self.sent).filter_map(|op| match op {
            Op::Own { name, id: NOBODY } => Some(name),
            _ => None,
        });
        certain.chain(under_way).filter(|name| !name.is_empty()).cloned().collect()
    }

    /// What the client has by name where the next message is sent, and any server can have, in the order in which it was made.
    pub(super) fn roll(&self) -> Vec<Called> {
        let under_way = self.ops.range(..self.sent).filter_map(|op| match op {
            Op::Parse { name, .. } => Some(name),
            _ => None,
        });
        let names: BTreeSet<_> =
            self.certain.keys().chain(under_way).filter(|name| !name.is_empty()).collect();
        let mut all: Vec<_> = names
            .into_iter()
            .filter_map(|name| {
                let statement = self.find(name)?;
                let prepared = statement.shared()?.clone();
                Some((statement.id, Called { name: name.clone(), prepared, sql: statement.sql.clone() }))
            })
            .collect();
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, called)| called).collect()
    }

    /// Whether the next of the messages that were read is a Parse that clients may share.
    pub(super) fn shares(&self) -> bool {
        matches!(self.ops.get(self.sent), Some(Op::Parse { name, keep: true, .. }) if !name.is_empty())
    }

    /// Whether the next of the messages that were read is a Parse of a text that names statements.
    pub(super) fn makes_naming(&self) -> bool {
        matches!(self.ops.get(self.sent), Some(Op::Parse { statement, .. }) if statement.facts.names)
    }

    /// Whether the next of the messages that were read is a Parse of a text that asks which statements there are.
    pub(super) fn makes_asking(&self) -> bool {
        matches!(self.ops.get(self.sent), Some(Op::Parse { statement, .. }) if statement.facts.roll)
    }

    /// The next of the messages that were read goes to a server, which owes `number` for it, or will ignore it.
    pub(super) fn send(&mut self, number: Option<u32>, how: Sent<'_>) {
        let Some(op) = self.ops.get_mut(self.sent) else { return };
        let Some(owed) = number else {
            self.ops.remove(self.sent);
            return self.count_kept();
        };
        match op {
            Op::Parse { name, statement, keep: true, share } => {
                statement.parse = Some(match how {
                    Sent::Whole(message) => {
                        let mut parse =
                            if name.is_empty() { std::mem::take(&mut self.spare) } else { Vec::new() };
                        parse.clear();
                        parse.extend_from_slice(message);
                        Text::Own(parse)
                    }
                    Sent::Shared(prepared) => {
                        *share = true;
                        Text::Shared(prepared)
                    }
                    Sent::Known(prepared) => Text::Shared(prepared),
                });
            }
            Op::End { number, .. } => *number = owed,
            Op::Parse { .. }
            | Op::Own { .. }
            | Op::Share(_)
            | Op::Unshare(_)
            | Op::Close { .. }
            | Op::Portal => {}
        }
        self.sent += 1;
    }

    /// The next of the messages that were read was answered by pgweir itself, and `message` is all of it; none: it was passed
    /// over, or refused, or nothing of it is kept.
    pub(super) fn answered(&mut self, message: Option<&[u8]>) {
        let Some(op) = self.ops.remove(self.sent) else { return };
        match (op, message) {
            (Op::Parse { name, mut statement, .. }, Some(message)) => {
                statement.parse = Some(Text::Own(message.to_vec()));
                self.certain.insert(name, statement);
            }
            (Op::Close { name, .. }, Some(_)) => drop(self.certain.remove(&name)),
            (Op::End { query: true, .. }, _) => drop(self.certain.remove(&b""[..])),
            _ => {}
        }
        self.count_kept();
    }

    /// Nothing that was sent is unanswered.
    pub(super) fn is_quiet(&self) -> bool {
        self.sent == 0 && !self.void
    }

    /// The next of the messages that were read went to a connection that others use, too, and was answered: a Query, a Sync,
    /// or a Parse without a name.
    pub(super) fn rode(&mut self, message: &[u8]) {
        match self.ops.remove(self.sent) {
            Some(Op::Parse { name, mut statement, keep, .. }) => {
                let mut parse = std::mem::take(&mut self.spare);
                parse.clear();
                parse.extend_from_slice(message);
                statement.parse = keep.then_some(Text::Own(parse));
                if let Some(old) = self.certain.insert(name, statement) {
                    self.drop_statement(false, old);
                }
            }
            Some(Op::End { query: true, .. }) => {
                if let Some(old) = self.certain.remove(&b""[..]) {
                    self.drop_statement(false, old);
                }
            }
            _ => {}
        }
    }

    /// A Parse of pgweir's own goes to a server.
    pub(super) fn send_own(&mut self, name: &[u8], id: u64) {
        self.insert(Op::Own { name: name.into(), id });
    }

    /// Whether it depends on how an earlier unit ends what the next message that is read would mean by that name.
    pub(super) fn is_unsettled(&self, name: &[u8]) -> bool {
        let mut same_unit = true;
        for op in self.ops.iter().rev() {
            match op {
                Op::End { .. } => same_unit = false,
                Op::Parse { name: this, .. } | Op::Close { name: this, own: false } if **this == *name => {
                    return !same_unit;
                }
                _ => {}
            }
        }
        false
    }

    /// A Parse of pgweir's own of a shared statement goes to a server.
    pub(super) fn send_share(&mut self, prepared: Arc<Prepared>) {
        self.insert(Op::Share(prepared));
    }

    /// A Close of pgweir's own of a shared statement goes to a server.
    pub(super) fn send_unshare(&mut self, prepared: Arc<Prepared>) {
        self.insert(Op::Unshare(prepared));
    }

    /// A Close of pgweir's own goes to a server.
    pub(super) fn send_own_close(&mut self, name: &[u8]) {
        self.insert(Op::Close { name: name.into(), own: true });
    }

    /// The end of a unit of pgweir's own goes to a server.
    pub(super) fn send_own_end(&mut self, number: u32) {
        self.insert(Op::End { number, query: false });
    }

    /// A simple query of pgweir's goes to a server in place of the client's.
    pub(super) fn send_query(&mut self, number: u32) {
        self.insert(Op::End { number, query: true });
    }

    fn insert(&mut self, op: Op) {
        self.ops.insert(self.sent, op);
        self.sent += 1;
    }
}

/// What is answered.
impl Statements {
    /// A server confirmed the next Parse or Close.
    pub(super) fn confirmed(&mut self, server: &mut Server) {
        match self.next() {
            Some(Op::Parse { name, statement, share, .. }) => {
                match statement.shared() {
                    Some(prepared) if share => server.shared.insert(prepared.clone()),
                    Some(_) => {}
                    None => set(server, &name, statement.id),
                }
                if self.void {
                    return;
                }
                let named = !name.is_empty();
                if let Some(old) = self.certain.insert(name, statement) {
                    self.drop_statement(named, old);
                }
            }
            Some(Op::Own { name, id }) => set(server, &name, id),
            Some(Op::Share(prepared)) => server.shared.insert(prepared),
            Some(Op::Unshare(prepared)) => server.shared.remove(prepared.id()),
            Some(Op::Close { name, own }) => {
                unset(server, &name);
                if !own
                    && !self.void
                    && let Some(old) = self.certain.remove(&name)
                {
                    self.drop_statement(!name.is_empty(), old);
                }
            }
            Some(Op::Portal | Op::End { .. }) | None => {}
        }
    }

    /// A server refused the next Parse: one without a name has ended the unnamed statement all the same.
    pub(super) fn refused(&mut self, server: &mut Server) {
        while matches!(self.ops.front(), Some(Op::End { .. })) && self.sent > 0 {
            self.pop();
        }
        match self.ops.front() {
            Some(Op::Parse { name, .. }) if name.is_empty() => {
                server.unnamed = 0;
                if !self.void {
                    self.certain.remove(&b""[..]);
                }
            }
            Some(Op::Own { name, .. }) if name.is_empty() => server.unnamed = 0,
            Some(_) | None => {}
        }
    }

    /// The next op that has an answer of its own. The end of a unit before it was ignored by the server: a Sync in a COPY.
    fn next(&mut self) -> Option<Op> {
        loop {
            match self.pop()? {
                Op::End { .. } => {}
                op @ (Op::Parse { .. }
                | Op::Own { .. }
                | Op::Share(_)
                | Op::Unshare(_)
                | Op::Close { .. }
                | Op::Portal) => return Some(op),
            }
        }
    }

    fn pop(&mut self) -> Option<Op> {
        self.sent = self.sent.checked_sub(1)?;
        self.ops.pop_front()
    }

    /// The client has made a statement by SQL: it has the client's name on that server alone.
    pub(super) fn made(&mut self, name: &[u8], facts: Facts, server: &mut Server) {
        self.last += 1;
        let statement = Statement { id: self.last, facts, scope: 0, parse: None, told: None, sql: None };
        set(server, name, statement.id);
        self.certain.insert(name.into(), statement);
    }

    /// What the client has made by SQL can be made on every server: the one that has it under the client's name is going to
    /// drop that. False: no more is kept for this client.
    pub(super) fn made_shared(
        &mut self,
        made: &SqlPrepared,
        server: &mut Server,
        make: impl FnOnce() -> Arc<Prepared>,
    ) -> bool {
        let fits = self.kept + made.tail.len() + made.text.len() <= self.limits.bytes
            && self.certain.len() <= self.limits.count;
        let name = made.name.as_bytes();
        let Some(statement) =
            self.certain.get_mut(name).filter(|statement| fits && statement.parse.is_none())
        else {
            return false;
        };
        let prepared = make();
        self.kept += prepared.message().len() + made.text.len();
        statement.parse = Some(Text::Shared(prepared));
        statement.sql = Some(made.text.as_str().into());
        server.prepared.insert(name.into(), NOBODY);
        true
    }

    /// The client has dropped a statement by SQL.
    pub(super) fn dropped(&mut self, name: &[u8], server: &mut Server) {
        match self.certain.remove(name) {
            Some(old) if old.shared().is_some() => self.drop_statement(true, old),
            _ => unset(server, name),
        }
    }

    /// The client has dropped all its statements by SQL. Other servers lose theirs when they get in the way.
    pub(super) fn forgotten(&mut self, server: &mut Server) {
        server.forget_client();
        server.shared.clear();
        self.certain.clear();
        self.count_kept();
    }

    /// The unit with that number was answered to its end: what was not confirmed did not happen.
    pub(super) fn ended(&mut self, number: u32, server: &mut Server) {
        let known = |op: &Op| matches!(op, Op::End { number: this, .. } if *this == number);
        if !self.ops.range(..self.sent).any(known) {
            return;
        }
        let mut failed = false;
        while let Some(op) = self.pop() {
            match op {
                Op::End { number: this, query } if this == number => {
                    if query {
                        server.unnamed = 0;
                        if !self.void {
                            self.certain.remove(&b""[..]);
                        }
                    }
                    break;
                }
                Op::Parse { .. } => failed = true,
                Op::Own { .. }
                | Op::Share(_)
                | Op::Unshare(_)
                | Op::Close { .. }
                | Op::Portal
                | Op::End { .. } => {}
            }
        }
        if failed {
            self.count_kept();
        }
    }

    /// The server connection is gone: nothing that was sent and not confirmed happened.
    pub(super) fn abandon(&mut self) {
        self.ops.drain(..self.sent);
        self.sent = 0;
        self.told.clear();
        self.count_kept();
    }

    /// The answers from here on do not count: see [`Statements::start_over`].
    pub(super) fn make_void(&mut self) {
        self.void = true;
    }

    /// All that was sent and not confirmed, and all that was only read, is going to be read and sent again.
    pub(super) fn start_over(&mut self) {
        self.void = false;
        self.told.clear();
        self.ops.clear();
        self.sent = 0;
        self.count_kept();
    }

    /// A statement that servers have confirmed.
    pub(super) fn known(&self, name: &[u8]) -> Option<&Statement> {
        self.certain.get(name)
    }

    /// A confirmed statement that pgweir itself has answered can be made on servers, too.
    pub(super) fn share(&mut self, name: &[u8], make: impl FnOnce(&[u8]) -> Arc<Prepared>) {
        let Some(statement) = self.certain.get_mut(name) else { return };
        if let Some(Text::Own(message)) = &statement.parse
            && let Some(tail) = message.get(HEADER + name.len() + 1..)
        {
            statement.parse = Some(Text::Shared(make(tail)));
        }
        self.count_kept();
    }

    /// The name of a confirmed statement that can run anywhere, where it is kept.
    pub(super) fn known_name(&self, name: &[u8]) -> Option<&[u8]> {
        let (kept, statement) = self.certain.get_key_value(name)?;
        statement.shared().map(|_| &**kept)
    }

    /// A server has refused to run one as it was prepared: tables have other columns now.
    #[cold]
    pub(super) fn outlived(&self) {
        self.certain.values().filter_map(Statement::shared).for_each(|prepared| prepared.outlived());
    }

    /// The client was told of the confirmed statement with that name and number.
    pub(super) fn tell(&mut self, name: &[u8], id: u64, description: Arc<Description>) {
        let Some(statement) = self.certain.get_mut(name).filter(|known| known.id == id && !self.void) else {
            return;
        };
        let before = statement.size();
        let parameters = statement.told.as_ref().and_then(|told| told.parameters.clone());
        statement.told = Some(match parameters.filter(|_| description.parameters.is_none()) {
            // Of its columns alone: what it was told of its parameters before holds.
            Some(parameters) => {
                let both = Description { parameters: Some(parameters), columns: description.columns };
                match statement.shared() {
                    Some(prepared) => prepared.described(both),
                    None => Arc::new(both),
                }
            }
            None => description,
        });
        if !name.is_empty() {
            self.kept = (self.kept + statement.size()).saturating_sub(before);
        }
    }

    /// The facts of a confirmed statement turn out to be others.
    pub(super) fn relearn(&mut self, name: &[u8], facts: Facts) {
        if let Some(statement) = self.certain.get_mut(name) {
            statement.facts = facts;
        }
    }

    /// Whether later units may need that connection, because it alone has the unnamed statement.
    pub(super) fn needs(&self, server: &Server) -> bool {
        let alone = |unnamed: &Statement| unnamed.parse.is_none() && unnamed.id == server.unnamed;
        server.unnamed > 0 && self.certain.get(&b""[..]).is_some_and(alone)
    }

    fn drop_statement(&mut self, named: bool, old: Statement) {
        if named {
            self.kept = self.kept.saturating_sub(old.size());
        } else if let Some(Text::Own(parse)) = old.parse {
            self.spare = parse;
        }
    }

    /// Counts anew: statements went.
    fn count_kept(&mut self) {
        let certain = self.certain.iter().filter(|(name, _)| !name.is_empty());
        let certain = certain.map(|(_, statement)| statement.size());
        let under_way = self.ops.iter().filter_map(|op| match op {
            Op::Parse { name, statement, .. } if !name.is_empty() => Some(statement.size()),
            _ => None,
        });
        self.kept = certain.chain(under_way).sum();
    }
}

fn set(server: &mut Server, name: &[u8], id: u64) {
    if name.is_empty() {
        server.unnamed = id;
    } else {
        server.prepared.insert(name.into(), id);
    }
}

fn unset(server: &mut Server, name: &[u8]) {
    if name.is_empty() {
        server.unnamed = 0;
    } else {
        server.prepared.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::unit::primary_only;
    use crate::route::Reason;

    const KEEP: usize = 64 * 1024;
    const READ: Facts = Facts::EMPTY;

    fn statements() -> Statements {
        Statements::new(StatementLimits { count: 10, bytes: KEEP })
    }

    fn write() -> Facts {
        primary_only(Reason::FunctionCall)
    }

    fn id(statement: Option<&Statement>) -> Option<u64> {
        statement.map(|statement| statement.id)
    }

    #[test]
    fn a_name_means_what_it_means_at_that_point_of_the_stream() {
        let mut statements = statements();
        for (name, facts) in [(b"s", READ), (b"t", READ)] {
            assert!(statements.parse(name, facts, 0, Some(3)));
        }
        statements.close(Some(b"s"));
        statements.parse(b"s", write(), 0, Some(3));
        // Read to the end, and nothing of it sent.
        assert_eq!((statements.facts(b"s"), id(statements.find(b"s"))), (Some(write()), None));
        for (nth, expected) in [Some(1), Some(1), None, Some(3)].into_iter().enumerate() {
            statements.send(Some(u32::try_from(nth).unwrap()), Sent::Whole(b"abc"));
            assert_eq!(id(statements.find(b"s")), expected, "behind message {nth}");
        }
        assert_eq!(statements.kept, 9);
        statements.abandon();
        assert_eq!((id(statements.find(b"s")), statements.kept), (None, 0));
    }

    #[test]
    fn the_first_of_two_with_one_name_counts_and_the_last_without() {
        let mut statements = statements();
        for name in [&b"s"[..], b"s", b"", b""] {
            statements.parse(name, READ, 0, Some(1));
            statements.send(Some(1), Sent::Whole(b"x"));
        }
        assert_eq!((id(statements.find(b"s")), id(statements.find(b""))), (Some(1), Some(4)));
        statements.end(true);
        assert_eq!((statements.facts(b""), id(statements.find(b""))), (None, Some(4)));
        statements.send(Some(5), Sent::Whole(b""));
        assert_eq!(id(statements.find(b"")), None);
    }

    #[test]
    fn what_the_server_ignores_or_is_refused_unsent_leaves_nothing() {
        let mut statements = statements();
        statements.parse(b"s", READ, 0, Some(5));
        statements.send(None, Sent::Whole(b"12345"));
        statements.parse(b"t", READ, 0, Some(5));
        statements.forget_read();
        assert!(statements.facts(b"s").is_none() && statements.facts(b"t").is_none());
        assert_eq!((statements.sent, statements.ops.len(), statements.kept), (0, 0, 0));
    }

    #[test]
    fn more_than_is_kept_stays_where_it_goes() {
        let mut statements = statements();
        assert!(statements.parse(b"s", READ, 0, Some(KEEP)));
        assert!(!statements.parse(b"t", READ, 0, Some(1)));
        assert!(!statements.parse(b"", READ, 0, Some(KEEP_UNNAMED + 1)));
        assert!(!statements.parse(b"u", READ, 0, None));
    }
}
