//! Texts that ask for a signal to a session, `pg_terminate_backend` and `pg_cancel_backend`, or for the number by which that is meant.

use super::increment::Operand;
use super::lex::Kind;
use super::reader::Reader;

/// More tokens than this no text has that only signals.
const MOST_TOKENS: usize = 16;

/// What a session is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// End.
    Terminate,
    /// Give up its statement.
    Cancel,
}

impl Signal {
    /// The name of the function, and of the column that it makes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "pg_terminate_backend",
            Self::Cancel => "pg_cancel_backend",
        }
    }
}

/// What a text asks for, and of which process, that is a SELECT of one such call and nothing else; none: of its own,
/// `pg_backend_pid()`.
#[must_use]
pub fn lone_signal(text: &[u8]) -> Option<(Signal, Option<Operand>)> {
    let mut reader = Reader::new(text, MOST_TOKENS)?;
    if !reader.word(b"select") || reader.word(b"pg_catalog") && !reader.kind(Kind::Dot) {
        return None;
    }
    let signal = [Signal::Terminate, Signal::Cancel]
        .into_iter()
        .find(|signal| reader.calls(signal.name().as_bytes()))?;
    if reader.calls(b"pg_backend_pid") {
        let own = reader.kind(Kind::Close) && reader.kind(Kind::Close) && reader.is_over();
        return own.then_some((signal, None));
    }
    let process = reader.operand()?;
    if reader.kind(Kind::Cast) && ![&b"int"[..], b"int4", b"integer"].iter().any(|of| reader.word(of)) {
        return None;
    }
    (reader.kind(Kind::Close) && reader.is_over()).then_some((signal, Some(process)))
}

/// What the column is called of a text that asks for the number of its own process, and for nothing else.
#[must_use]
pub fn asks_own_process(text: &[u8]) -> Option<Box<str>> {
    const NAME: &str = "pg_backend_pid";
    let mut reader = Reader::new(text, MOST_TOKENS)?;
    if !reader.word(b"select") || reader.word(b"pg_catalog") && !reader.kind(Kind::Dot) {
        return None;
    }
    if !(reader.calls(NAME.as_bytes()) && reader.kind(Kind::Close)) {
        return None;
    }
    let column = if reader.word(b"as") { reader.name()? } else { NAME.into() };
    reader.is_over().then_some(column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_its_own_process() {
        for (text, expected) in [
            ("SELECT pg_backend_pid()", Some("pg_backend_pid")),
            ("select pg_catalog.pg_backend_pid() AS \"Pid\";", Some("Pid")),
            ("SELECT pg_backend_pid() as PID", Some("pid")),
            ("SELECT pg_backend_pid() + 0", None),
            ("SELECT pg_backend_pid() FROM t", None),
            ("SELECT mine.pg_backend_pid()", None),
            ("SELECT pg_backend_pid(), 1", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(asks_own_process(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn who_is_asked_for_what() {
        for (text, expected) in [
            ("SELECT pg_terminate_backend(7)", Some((Signal::Terminate, Some(Operand::Number(7))))),
            (
                "select pg_catalog.pg_cancel_backend ( $1::int4 );",
                Some((Signal::Cancel, Some(Operand::Param(1)))),
            ),
            ("SELECT pg_terminate_backend('7')", Some((Signal::Terminate, Some(Operand::Text("7".into()))))),
            ("SELECT pg_terminate_backend(pg_backend_pid())", Some((Signal::Terminate, None))),
            ("SELECT pg_terminate_backend(pg_backend_pid() + 1)", None),
            ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity", None),
            ("SELECT pg_terminate_backend(7), 1", None),
            ("SELECT pg_terminate_backend(7, 100)", None),
            ("SELECT mine.pg_terminate_backend(7)", None),
            ("SELECT pg_terminate_backend($1::int8)", None),
            ("", None),
        ] {
            assert_eq!(lone_signal(text.as_bytes()), expected, "{text}");
        }
    }
}
