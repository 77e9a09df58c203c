//! Texts that ask what their session has drawn from sequences.

use super::folded::Folded;
use super::lex::{Kind, Lexer};

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

#[cfg(test)]
mod tests {
    use super::*;

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
