//! Cuts what a client sends into pieces: a simple Query, or the messages up to a Sync; less where a piece cannot be held
//! back whole. Each piece comes with the facts of all its statements. Pure but for the judge's caches.

use super::prepared::Statements;
use crate::fresh::Tables;
use crate::net::WINDOW;
use crate::route::{Class, Facts, Judge, Memo, Reason, Scope};
use crate::sql::lone_execute;
use crate::wire::frame::{HEADER, Side};
use crate::wire::frontend::{self, Named};
use crate::wire::{Header, ProtocolError, frame};

/// What a piece is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A Query, a FunctionCall, or messages of the extended protocol.
    Unit,
    /// Data of a COPY.
    Copy,
    /// The client's goodbye.
    Terminate,
}

/// What is left behind on a server connection that another client must not meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Residue {
    /// Nothing.
    None,
    /// Perhaps something, where nobody could see: the connection is reset before another client gets it.
    Unseen,
    /// Session state: the connection is the client's until the client leaves, and is reset then.
    State,
}

/// Messages at the front of the client's window that are given to a server together.
// Independent axes, each read alone.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// What it is made of.
    pub(super) kind: Kind,
    /// Its bytes in the window.
    pub(super) size: usize,
    /// Bytes of its last message that are still to come: it is longer than the window.
    pub(super) rest: usize,
    /// What its statements do.
    pub(super) facts: Facts,
    /// Its unit ends with it: a ReadyForQuery is due.
    pub(super) ends: bool,
    /// It ends with a Flush, or with a Query or a FunctionCall in the middle of a unit, which the server skips if what is before it fails.
    pub(super) flush: bool,
    /// It has an Execute.
    pub(super) executes: bool,
    /// What it leaves behind beyond what its facts say.
    pub(super) residue: Residue,
    /// What one of its names means depends on how a unit before it ends.
    pub(super) waits: bool,
    /// What had to be committed before it is, or never will be.
    pub(super) flushed: bool,
    /// Its connection has all of the client's prepared statements by now.
    pub(super) called: bool,
}

impl Piece {
    /// One of its statements does that.
    fn does(&mut self, facts: Facts) {
        self.facts = if self.facts == Facts::EMPTY { facts } else { self.facts.and(facts) };
    }
}

const NOTHING: Piece = Piece {
    kind: Kind::Unit,
    size: 0,
    rest: 0,
    facts: Facts::EMPTY,
    ends: false,
    flush: false,
    executes: false,
    residue: Residue::None,
    waits: false,
    flushed: false,
    called: false,
};

/// The facts of something that can only run on the primary.
pub(super) fn primary_only(reason: Reason) -> Facts {
    Facts { class: Class::Write, reason, silent: true, tables: Tables::ALL, ..Facts::EMPTY }
}

/// The facts of a FunctionCall. Those by which clients read large objects stay where their transaction is; the numbers are those of
/// `pg_proc`, which PostgreSQL never gives to others.
fn function_call(body: &[u8]) -> Facts {
    /// `lo_open`.
    const OPEN: u32 = 952;
    /// `lo_close`, `loread`, `lo_lseek`, `lo_tell`, `lo_lseek64`, `lo_tell64`.
    const READS: [u32; 6] = [953, 954, 956, 958, 3170, 3171];
    let reads = match frontend::called(body) {
        Some((OPEN, mode)) => mode.is_some_and(|mode| mode & INV_WRITE == 0),
        Some((function, _)) => READS.contains(&function),
        None => false,
    };
    if reads {
        Facts { class: Class::InTransaction, reason: Reason::FunctionCall, ..Facts::EMPTY }
    } else {
        primary_only(Reason::FunctionCall)
    }
}

/// A large object is opened to be written (`libpq/libpq-fs.h`).
const INV_WRITE: u32 = 0x2_0000;

/// Who says what a text does, and what its names mean to this client.
#[derive(Clone, Copy)]
pub(super) struct Judging<'a> {
    pub(super) judge: &'a Judge,
    pub(super) scope: &'a Scope,
}

impl Judging<'_> {
    fn facts(self, text: &[u8]) -> Facts {
        self.judge.facts(text, self.scope)
    }

    /// The facts of a Parse: of its text, and of the types that it gives its parameters, which the text does not show. To make
    /// a value of one may call functions, as the checks of a domain do.
    fn parse(self, body: &[u8], text: &[u8]) -> Facts {
        let facts = self.facts(text);
        match frontend::parameter_types(body).find_map(|of| self.scope.parameter(of)) {
            Some(reason) => facts.and(Facts { silent: false, ..primary_only(reason) }),
            None => facts,
        }
    }

    /// The facts of a text that names prepared statements: one EXECUTE alone does what was prepared, if that can run anywhere.
    #[cold]
    fn execute(self, text: &[u8], facts: Facts, statements: &mut Statements) -> Facts {
        let Some(one) = lone_execute(text) else { return facts };
        if statements.meant(&one.name).is_none_or(|known| known.shared().is_none()) {
            return facts;
        }
        let prepared = self.prepared(statements, &one.name);
        Facts {
            names: true,
            hint: facts.hint.or(prepared.hint),
            level: facts.level.or(prepared.level),
            ..prepared
        }
    }

    /// The facts of a prepared statement: judged again if names mean something else since. One that the client has not is
    /// for the primary to refuse, or for whichever server its transaction is on.
    fn prepared(self, statements: &mut Statements, name: &[u8]) -> Facts {
        let Some(statement) = statements.meant(name) else {
            return Facts { silent: false, ..primary_only(Reason::PreparedOnPrimary) };
        };
        let counted = statement.parse.is_none() || self.judge.is_current(statement.facts);
        if statement.scope == self.scope.key() && counted {
            return statement.facts;
        }
        let (id, old) = (statement.id, statement.facts);
        // What was not kept is for the primary, whatever its names mean.
        let message = statement.parse.as_deref().and_then(|message| message.get(HEADER..));
        let facts = message
            .and_then(frontend::parse)
            .map_or(old, |(_, text)| self.parse(message.unwrap_or_default(), text));
        statements.judged(id, facts, self.scope.key());
        facts
    }
}

/// The piece that is being cut.
#[derive(Debug)]
pub(super) struct Gather {
    piece: Piece,
    /// The statement that was parsed last in this piece and not bound yet, by its number, or 0: that it runs is counted
    /// already, and a BEGIN READ ONLY that is parsed and bound is not two of them.
    counted: u64,
    memo: Memo,
}

impl Default for Gather {
    fn default() -> Self {
        Self { piece: NOTHING, counted: 0, memo: Memo::default() }
    }
}

/// What a message means for the piece that is being cut.
enum Cut {
    /// It belongs to it, and more may follow.
    Goes,
    /// It is the last of it.
    Ends,
    /// It does not belong to it.
    Before,
}

impl Gather {
    /// Reads on in the client's window, of which `bytes` is all that is there. A piece is given out when it is complete,
    /// when no more fits, or, with `eager`, as soon as there is any of it: its server is already known.
    ///
    /// # Errors
    /// Bytes that are not the protocol.
    pub(super) fn next(
        &mut self,
        bytes: &[u8],
        eager: bool,
        statements: &mut Statements,
        judge: Judging<'_>,
    ) -> Result<Option<Piece>, ProtocolError> {
        loop {
            let message = bytes.get(self.piece.size..).unwrap_or_default();
            let head = frame::header(message, Side::Frontend)?;
            let Some(head) = head.filter(|head| head.size <= message.len()) else {
                return self.not_whole(head, message, bytes.len(), eager, statements, judge);
            };
            let whole = message.get(..head.size).unwrap_or_default();
            match self.take(head, whole, statements, judge)? {
                Cut::Before => return Ok(Some(self.cut())),
                Cut::Ends => {
                    self.piece.size += head.size;
                    return Ok(Some(self.cut()));
                }
                Cut::Goes => self.piece.size += head.size,
            }
        }
    }

    /// What was judged of the piece that is being cut was judged by names that mean something else now.
    pub(super) fn distrust(&mut self) {
        if self.piece.size > 0 {
            self.piece.facts = self.piece.facts.and(primary_only(Reason::SessionState));
        }
    }

    /// Whether a piece is being cut.
    pub(super) fn has_some(&self) -> bool {
        self.piece.size > 0
    }

    /// What a text does may have been learned anew.
    pub(super) fn forget_memo(&mut self) {
        self.memo = Memo::default();
    }

    fn cut(&mut self) -> Piece {
        self.counted = 0;
        std::mem::replace(&mut self.piece, NOTHING)
    }

    /// The next message is not whole: wait for it, unless there is no room or somebody is waiting for what there is.
    fn not_whole(
        &mut self,
        head: Option<Header>,
        message: &[u8],
        there: usize,
        eager: bool,
        statements: &mut Statements,
        judge: Judging<'_>,
    ) -> Result<Option<Piece>, ProtocolError> {
        let full = there >= WINDOW;
        if self.piece.size > 0 {
            return Ok((full || eager).then(|| self.cut()));
        }
        let Some(head) = head.filter(|head| full && head.size > WINDOW) else { return Ok(None) };
        self.long(head, message.get(HEADER..).unwrap_or_default(), statements, judge)?;
        self.piece.size = there;
        self.piece.rest = head.size - there;
        Ok(Some(self.cut()))
    }

    /// A message that is longer than the window: its text is for the primary, its names stand at the front.
    fn long(
        &mut self,
        head: Header,
        body: &[u8],
        statements: &mut Statements,
        judge: Judging<'_>,
    ) -> Result<(), ProtocolError> {
        let bad = ProtocolError::Body(head.tag);
        let facts = match head.tag {
            b'Q' => {
                statements.end(true);
                self.piece.ends = true;
                // Any statement may follow behind the window: a SET, too, which no other client must meet. What begins as
                // a statement on data is most likely just that, and long: the connection is reset before it goes on.
                let data = begins_on_data(body);
                self.piece.residue = if data { Residue::Unseen } else { Residue::None };
                Facts {
                    pins: !data,
                    unseen: !data,
                    transaction: true,
                    defines: !data,
                    ..primary_only(Reason::ParseBudget)
                }
            }
            b'P' => {
                let name = frontend::parse_name(body).ok_or(bad)?;
                // One statement: what is in the window says which.
                let pins = judge.facts(body.get(name.len() + 1..).unwrap_or_default()).pins;
                let facts = Facts { pins, ..primary_only(Reason::ParseBudget) };
                statements.parse(name, facts, judge.scope.key(), None);
                facts
            }
            b'B' => {
                let (_, name) = frontend::bind(body).ok_or(bad)?;
                judge.prepared(statements, name)
            }
            b'F' => {
                statements.end(false);
                self.piece.ends = true;
                function_call(body)
            }
            b'd' => {
                self.piece.kind = Kind::Copy;
                Facts::EMPTY
            }
            _ => return Err(bad),
        };
        self.piece.facts = facts;
        Ok(())
    }

    /// The piece has a message with that name. What the unnamed statement is, the server itself knows.
    fn wait_for(&mut self, name: Option<&[u8]>, statements: &Statements) {
        self.piece.waits |= name.is_some_and(|name| !name.is_empty() && statements.is_unsettled(name));
    }

    /// The facts of a prepared statement that a message of the piece uses.
    fn uses(&mut self, name: &[u8], counted: u64, statements: &mut Statements, judge: Judging<'_>) -> Facts {
        self.wait_for(Some(name), statements);
        uncounted(statements, name, counted, judge)
    }

    /// Takes a whole message into the piece.
    fn take(
        &mut self,
        head: Header,
        message: &[u8],
        statements: &mut Statements,
        judge: Judging<'_>,
    ) -> Result<Cut, ProtocolError> {
        let body = message.get(HEADER..).unwrap_or_default();
        let bad = ProtocolError::Body(head.tag);
        let first = self.piece.size == 0;
        if self.piece.kind == Kind::Copy && !matches!(head.tag, b'd' | b'c' | b'f') {
            return Ok(Cut::Before);
        }
        let facts = match head.tag {
            b'Q' => {
                let text = frontend::query(body).ok_or(bad)?;
                statements.end(true);
                (self.piece.ends, self.piece.flush) = (true, !first);
                let facts = self.memo.facts(text, judge.judge, judge.scope);
                Some(if facts.names { judge.execute(text, facts, statements) } else { facts })
            }
            b'P' => {
                self.wait_for(frontend::parse_name(body), statements);
                let facts = parse(body, message, statements, judge).ok_or(bad)?;
                self.counted = frontend::parse_name(body).and_then(|name| statements.id(name)).unwrap_or(0);
                Some(facts)
            }
            b'B' => {
                let name = frontend::bind(body).ok_or(bad)?.1;
                let counted = std::mem::take(&mut self.counted);
                Some(self.uses(name, counted, statements, judge))
            }
            b'D' => match frontend::named(body).ok_or(bad)? {
                Named::Statement(name) => Some(self.uses(name, self.counted, statements, judge)),
                Named::Portal(_) => None,
            },
            b'C' => {
                statements.close(match frontend::named(body).ok_or(bad)? {
                    Named::Statement(name) => Some(name),
                    Named::Portal(_) => None,
                });
                None
            }
            b'E' => {
                self.piece.executes = true;
                None
            }
            b'S' => {
                statements.end(false);
                self.piece.ends = true;
                None
            }
            b'H' => {
                self.piece.flush = true;
                None
            }
            b'F' => {
                statements.end(false);
                (self.piece.ends, self.piece.flush) = (true, !first);
                Some(function_call(body))
            }
            b'X' if first => {
                self.piece.kind = Kind::Terminate;
                self.piece.ends = true;
                None
            }
            b'X' => return Ok(Cut::Before),
            b'd' | b'c' | b'f' => {
                if first {
                    self.piece.kind = Kind::Copy;
                }
                None
            }
            tag => return Err(ProtocolError::Unexpected(tag)),
        };
        facts.into_iter().for_each(|facts| self.piece.does(facts));
        Ok(if self.piece.ends || self.piece.flush { Cut::Ends } else { Cut::Goes })
    }
}

/// Whether a text begins as a statement that reads or writes rows.
fn begins_on_data(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    let word = text.get(..end).unwrap_or_default();
    let words: [&[u8]; 7] = [b"insert", b"update", b"delete", b"merge", b"select", b"with", b"values"];
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// The facts of a prepared statement, unless they are counted already: then its number is `counted`, which is 0 for none.
fn uncounted(statements: &mut Statements, name: &[u8], counted: u64, judge: Judging<'_>) -> Facts {
    if counted != 0 && statements.id(name) == Some(counted) {
        return Facts::EMPTY;
    }
    judge.prepared(statements, name)
}

/// Judges a Parse and remembers its name. None: it is malformed.
fn parse(body: &[u8], message: &[u8], statements: &mut Statements, judge: Judging<'_>) -> Option<Facts> {
    let (name, text) = frontend::parse(body)?;
    let facts = judge.parse(body, text);
    // A name that is taken goes where its statement is, to be refused.
    let taken = if name.is_empty() { None } else { statements.facts(name) };
    if statements.parse(name, facts, judge.scope.key(), Some(message.len())) {
        return Some(taken.map_or(facts, |taken| facts.and(taken)));
    }
    let facts = facts.and(primary_only(Reason::PreparedOnPrimary));
    statements.amend(facts);
    Some(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::JudgeOptions;

    /// The piece of a message whose text goes on behind the window.
    fn long(tag: u8, front: &[u8]) -> Piece {
        let mut bytes = vec![tag];
        bytes.extend(100_000_u32.to_be_bytes());
        bytes.extend(front);
        bytes.resize(WINDOW, b' ');
        let (judge, scope) = (Judge::new(JudgeOptions::default()), Scope::without_catalog());
        let judge = Judging { judge: &judge, scope: &scope };
        Gather::default().next(&bytes, false, &mut Statements::default(), judge).unwrap().unwrap()
    }

    #[test]
    fn a_long_text_goes_to_the_primary_and_may_leave_state() {
        let query = long(b'Q', b"SET a = 1");
        assert_eq!((query.facts.reason, query.facts.pins, query.ends), (Reason::ParseBudget, true, true));
        let insert = long(b'Q', b" insert into t values (");
        assert_eq!((insert.facts.pins, insert.residue), (false, Residue::Unseen));
        assert_eq!(query.size + query.rest, 100_001);
        for (text, pins) in [("INSERT INTO t VALUES (1,", false), ("CREATE TEMP TABLE t AS SELECT", true)] {
            let parse = long(b'P', format!("name\0{text}").as_bytes());
            assert_eq!((parse.facts.reason, parse.facts.pins), (Reason::ParseBudget, pins), "{text}");
        }
    }

    /// A message of the extended protocol.
    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![tag];
        message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        message.extend(body);
        message
    }

    #[test]
    fn a_prepared_statement_is_judged_again_when_names_mean_something_else() {
        let judge = Judge::new(JudgeOptions::default());
        let (now, later) = (
            Scope::without_catalog(),
            Scope::new(crate::route::Known::Loading, None, std::sync::Arc::default()),
        );
        let mut statements = Statements::default();
        let mut cut = |bytes: &[u8], scope: &Scope| {
            let judge = Judging { judge: &judge, scope };
            let piece = Gather::default().next(bytes, true, &mut statements, judge).unwrap().unwrap();
            // Sent to a server, so that the text is kept.
            statements.send(Some(1), crate::client::prepared::Sent::Whole(bytes));
            piece.facts
        };
        let parse = message(b'P', b"name\0SELECT a FROM t\0\0\0");
        assert_eq!(cut(&parse, &now).class, Class::Read);
        let bind = message(b'B', b"\0name\0\0\0\0\0\0\0");
        assert_eq!(cut(&bind, &now).class, Class::Read);
        assert_eq!(cut(&bind, &later).reason, Reason::CatalogLoading);
        assert_eq!(cut(&bind, &now).class, Class::Read);
    }
}
