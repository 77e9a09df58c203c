//! Where pgweir answers statements itself: what its console and its own settings have in common. Speaks both protocols, the
//! simple and the extended, and knows nothing of what is asked.

use std::collections::HashMap;

use bytes::BytesMut;

use crate::wire::frontend::{self, Named};
use crate::wire::write::{self, Severity};
use crate::wire::{ProtocolError, SqlState, TransactionStatus, answer};

/// Most prepared statements, and most portals, of one desk.
const MOST: usize = 100;

/// What a statement is answered with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// The names of the columns; none: there is no result, as of SET.
    pub columns: Vec<&'static str>,
    /// The rows; a value that is none is null.
    pub rows: Vec<Vec<Option<String>>>,
    /// What CommandComplete says; with SELECT, the number of rows, too.
    pub tag: &'static str,
}

/// Why a statement is not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The SQLSTATE.
    pub code: SqlState,
    /// What is wrong.
    pub message: String,
    /// What would be right; may be empty.
    pub hint: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(code: SqlState, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), hint: hint.into() }
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        write::error_response(out, Severity::Error, self.code, &self.message, "", &self.hint);
    }
}

/// Who answers: `run` is false while only the columns are asked for, and nothing may happen then.
pub(super) trait Answers {
    fn answer(&mut self, text: &str, run: bool) -> Result<Table, Refusal>;

    /// What a simple query is made of; each part is answered by itself, up to the first that is refused.
    fn parts<'a>(&self, text: &'a str) -> Vec<&'a str> {
        vec![text]
    }
}

/// A statement that was bound.
#[derive(Debug)]
struct Portal {
    text: Box<str>,
    /// Its answer, once it has run, and how many of its rows were given out.
    table: Option<(Table, usize)>,
}

/// What one client has prepared and bound here.
#[derive(Debug, Default)]
pub(super) struct Desk {
    statements: HashMap<Box<[u8]>, Box<str>>,
    portals: HashMap<Box<[u8]>, Portal>,
    /// An error came: all up to the next Sync is passed over.
    failed: bool,
    /// Something was carried out.
    ran: bool,
}

impl Desk {
    /// That name stands for that text, whoever prepared it.
    pub(super) fn know(&mut self, name: &[u8], text: &[u8]) {
        self.statements.insert(name.into(), String::from_utf8_lossy(text).into());
    }

    /// What was answered to the last message is taken back from `at` on: it is refused after all.
    pub(super) fn refuse_after_all(
        &mut self,
        (tag, at): (u8, usize),
        status: TransactionStatus,
        refusal: &Refusal,
        out: &mut BytesMut,
    ) {
        out.truncate(at);
        refusal.write(out);
        if tag == b'Q' {
            write::ready_for_query(out, status);
        } else {
            self.failed = true;
        }
    }

    /// Whether an error came, and the next Sync has not.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether all that came so far was prepared and described: what follows in the unit may be carried out anywhere.
    pub(super) fn only_prepares(&self) -> bool {
        !self.failed && !self.ran && self.portals.is_empty()
    }

    /// The text of a portal that was bound before.
    pub(super) fn bound(&self, portal: &[u8]) -> Option<&str> {
        self.portals.get(portal).map(|portal| &*portal.text)
    }

    /// Answers a message; `status` is what ReadyForQuery says. Returns the refusal, if it was one.
    ///
    /// # Errors
    /// A message that no client sends here, or that is malformed.
    pub(super) fn take(
        &mut self,
        tag: u8,
        body: &[u8],
        status: TransactionStatus,
        answers: &mut impl Answers,
        out: &mut BytesMut,
    ) -> Result<Option<Refusal>, ProtocolError> {
        let bad = ProtocolError::Body(tag);
        if self.failed && !matches!(tag, b'S' | b'Q') {
            return Ok(None);
        }
        let outcome = match tag {
            b'Q' => {
                (self.failed, self.ran) = (false, true);
                let text = text(frontend::query(body).ok_or(bad)?);
                let outcome = if is_empty(&text) {
                    answer::empty_query(out);
                    Ok(())
                } else {
                    let mut parts = answers.parts(&text).into_iter();
                    parts.try_for_each(|part| answers.answer(part, true).map(|table| simple(&table, out)))
                };
                if let Err(refusal) = &outcome {
                    refusal.write(out);
                }
                write::ready_for_query(out, status);
                return Ok(outcome.err());
            }
            b'S' => {
                self.failed = false;
                self.portals.clear();
                write::ready_for_query(out, status);
                Ok(())
            }
            b'H' => Ok(()),
            b'P' => frontend::parse(body).map(|(name, text)| self.parse(name, text, out)).ok_or(bad)?,
            b'B' => {
                let (portal, statement) = frontend::bind(body).ok_or(bad)?;
                self.bind(portal, statement, out)
            }
            b'D' => self.describe(frontend::named(body).ok_or(bad)?, answers, out),
            b'E' => {
                let (portal, most) = frontend::execute(body).ok_or(bad)?;
                self.execute(portal, most, answers, out)
            }
            b'C' => {
                match frontend::named(body).ok_or(bad)? {
                    Named::Statement(name) => drop(self.statements.remove(name)),
                    Named::Portal(name) => drop(self.portals.remove(name)),
                }
                answer::close_complete(out);
                Ok(())
            }
            _ => return Err(ProtocolError::Unexpected(tag)),
        };
        if let Err(refusal) = &outcome {
            self.failed = true;
            refusal.write(out);
        }
        Ok(outcome.err())
    }

    fn parse(&mut self, name: &[u8], text: &[u8], out: &mut BytesMut) -> Result<(), Refusal> {
        if self.statements.len() >= MOST && !self.statements.contains_key(name) {
            return Err(too_many("prepared statements"));
        }
        self.know(name, text);
        answer::parse_complete(out);
        Ok(())
    }

    fn bind(&mut self, portal: &[u8], statement: &[u8], out: &mut BytesMut) -> Result<(), Refusal> {
        if self.portals.len() >= MOST && !self.portals.contains_key(portal) {
            return Err(too_many("portals"));
        }
        let text = self.statement(statement)?.into();
        self.portals.insert(portal.into(), Portal { text, table: None });
        answer::bind_complete(out);
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<&str, Refusal> {
        self.statements.get(name).map(|text| &**text).ok_or_else(|| {
            let message = format!("prepared statement \"{}\" does not exist", text(name));
            Refusal::new(SqlState::INVALID_STATEMENT_NAME, message, "")
        })
    }

    fn describe(
        &mut self,
        named: Named<'_>,
        answers: &mut impl Answers,
        out: &mut BytesMut,
    ) -> Result<(), Refusal> {
        let (text, statement) = match named {
            Named::Statement(name) => (self.statement(name)?, true),
            Named::Portal(name) => (&*self.portals.get(name).ok_or_else(|| no_portal(name))?.text, false),
        };
        let table = if is_empty(text) { Table::default() } else { answers.answer(text, false)? };
        if statement {
            answer::no_parameters(out);
        }
        if table.columns.is_empty() {
            answer::no_data(out);
        } else {
            answer::row_description(out, &table.columns);
        }
        Ok(())
    }

    fn execute(
        &mut self,
        name: &[u8],
        most: u32,
        answers: &mut impl Answers,
        out: &mut BytesMut,
    ) -> Result<(), Refusal> {
        self.ran = true;
        let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
        if is_empty(&portal.text) {
            answer::empty_query(out);
            return Ok(());
        }
        let (table, shown) = match &mut portal.table {
            Some((table, shown)) => (&*table, shown),
            None => {
                let (table, shown) = portal.table.insert((answers.answer(&portal.text, true)?, 0));
                (&*table, shown)
            }
        };
        let most = if most == 0 { usize::MAX } else { most as usize };
        let before = *shown;
        for row in table.rows.iter().skip(before).take(most) {
            answer::data_row(out, row);
            *shown += 1;
        }
        if *shown - before == most {
            // As PostgreSQL, which has not looked whether there are more.
            answer::portal_suspended(out);
        } else {
            complete(table, *shown - before, out);
        }
        Ok(())
    }
}

/// The answer to a simple Query, but for its end.
fn simple(table: &Table, out: &mut BytesMut) {
    if !table.columns.is_empty() {
        answer::row_description(out, &table.columns);
    }
    for row in &table.rows {
        answer::data_row(out, row);
    }
    complete(table, table.rows.len(), out);
}

fn complete(table: &Table, rows: usize, out: &mut BytesMut) {
    match table.tag {
        "SELECT" => answer::command_complete(out, &format!("SELECT {rows}")),
        tag => answer::command_complete(out, tag),
    }
}

/// Whether a text holds no statement.
pub(super) fn is_empty(text: &str) -> bool {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == ';').is_empty()
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn no_portal(name: &[u8]) -> Refusal {
    Refusal::new(SqlState::INVALID_CURSOR_NAME, format!("portal \"{}\" does not exist", text(name)), "")
}

fn too_many(what: &str) -> Refusal {
    Refusal::new(SqlState::FEATURE_NOT_SUPPORTED, format!("more than {MOST} {what} here"), "Close some.")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo(Vec<String>);

    impl Answers for Echo {
        fn answer(&mut self, text: &str, run: bool) -> Result<Table, Refusal> {
            if run {
                self.0.push(text.to_owned());
            }
            match text {
                "two" => Ok(Table {
                    columns: vec!["a"],
                    rows: vec![vec![Some("1".to_owned())], vec![None]],
                    tag: "SHOW",
                }),
                "none" | "" => Ok(Table { tag: "SET", ..Table::default() }),
                _ => Err(Refusal::new(SqlState::SYNTAX_ERROR, "what?", "")),
            }
        }
    }

    /// The tags of the answers to messages.
    fn tags(desk: &mut Desk, echo: &mut Echo, messages: &[(u8, &[u8])]) -> String {
        let mut out = BytesMut::new();
        for (tag, body) in messages {
            desk.take(*tag, body, TransactionStatus::Idle, echo, &mut out).unwrap();
        }
        let mut tags = String::new();
        while let Some(head) = crate::wire::frame::header(&out, crate::wire::frame::Side::Backend).unwrap() {
            tags.push(char::from(head.tag));
            drop(out.split_to(head.size));
        }
        tags
    }

    #[test]
    fn both_protocols() {
        let (mut desk, mut echo) = (Desk::default(), Echo(Vec::new()));
        assert_eq!(tags(&mut desk, &mut echo, &[(b'Q', b"two\0")]), "TDDCZ");
        assert_eq!(tags(&mut desk, &mut echo, &[(b'Q', b"none\0"), (b'Q', b" ;\0")]), "CZIZ");
        assert_eq!(tags(&mut desk, &mut echo, &[(b'Q', b"\0")]), "IZ");
        echo.0.clear();
        let unit: [(u8, &[u8]); 6] = [
            (b'P', b"s\0two\0\0\0"),
            (b'D', b"Ss\0"),
            (b'B', b"p\0s\0\0\0\0\0\0\0"),
            (b'D', b"Pp\0"),
            (b'E', b"p\0\0\0\0\x01"),
            (b'E', b"p\0\0\0\0\0"),
        ];
        assert_eq!(tags(&mut desk, &mut echo, &unit), "1tT2TDsDC");
        assert_eq!(echo.0, ["two"], "described, and run once");
        let rest: [(u8, &[u8]); 4] =
            [(b'S', b""), (b'E', b"p\0\0\0\0\0"), (b'B', b"\0s\0\0\0\0\0\0\0"), (b'S', b"")];
        assert_eq!(
            tags(&mut desk, &mut echo, &rest),
            "ZEZ",
            "a Sync ends portals; an error skips up to the next"
        );
        assert_eq!(tags(&mut desk, &mut echo, &[(b'C', b"Ss\0"), (b'B', b"\0s\0"), (b'S', b"")]), "3EZ");
    }

    #[test]
    fn what_is_not_the_protocol_is_an_error() {
        let (mut desk, mut out) = (Desk::default(), BytesMut::new());
        for (tag, body) in
            [(b'd', &b""[..]), (b'p', b""), (b'Q', b"no end"), (b'E', b"p\0\0"), (b'D', b"x\0")]
        {
            let taken = desk.take(tag, body, TransactionStatus::Idle, &mut Echo(Vec::new()), &mut out);
            assert!(taken.is_err(), "{tag}");
        }
    }

    #[test]
    fn it_is_bounded() {
        let (mut desk, mut echo) = (Desk::default(), Echo(Vec::new()));
        for nth in 0..MOST {
            let body = format!("s{nth}\0two\0\0\0");
            assert_eq!(tags(&mut desk, &mut echo, &[(b'P', body.as_bytes())]), "1");
        }
        assert_eq!(tags(&mut desk, &mut echo, &[(b'P', b"s0\0two\0\0\0"), (b'P', b"more\0two\0\0\0")]), "1E");
    }
}
