//! Texts that ask about their session: what it has drawn from sequences, and which prepared statements it has.

use super::folded::Folded;
use super::lex::{Kind, Lexer};

/// What the names of the view and of its function have in common.
const PREPARED: &[u8] = b"prepared_statement";

/// Whether a text names `lastval` or `currval`, and nothing that draws before.
#[must_use]
pub fn recalls(text: &[u8]) -> bool {
    let mut asks = false;
    for token in Lexer::new(text).filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted)) {
        match Folded::new(text, token).as_bytes() {
            b"lastval" | b"currval" => asks = true,
            b"nextval" | b"setval" => return false,
            _ => {}
        }
    }
    asks
}

/// Whether a text names `pg_prepared_statements`, or the function that is behind it.
#[must_use]
pub fn asks_prepared(text: &[u8]) -> bool {
    let may = |at: usize| {
        let word = text.get(at + 1..at + 1 + PREPARED.len());
        word.is_some_and(|word| word.eq_ignore_ascii_case(PREPARED))
    };
    memchr::memchr_iter(b'_', text).any(may)
        && Lexer::new(text).filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted)).any(|token| {
            matches!(
                Folded::new(text, token).as_bytes(),
                b"pg_prepared_statements" | b"pg_prepared_statement"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_prepared_statements() {
        for text in ["TABLE PG_prepared_Statements", "SELECT * FROM pg_catalog.\"pg_prepared_statement\"() s"]
        {
            assert!(asks_prepared(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "SELECT 'pg_prepared_statements'",
            "TABLE pg_prepared_statements2",
            "SELECT 1 -- pg_prepared_statements",
        ] {
            assert!(!asks_prepared(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_asks_and_does_not_draw() {
        for text in ["SELECT LASTVAL()", "select pg_catalog.\"currval\"($1)", "SELECT currval('s') + 1"] {
            assert!(recalls(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "SELECT 'lastval()'",
            "SELECT nextval('s'), currval('s')",
            "SELECT setval('s', 1), lastval()",
        ] {
            assert!(!recalls(text.as_bytes()), "{text}");
        }
    }
}
