//! Texts that hold one statement of transaction control and nothing else, in a form that PostgreSQL cannot refuse.

use super::folded::Folded;
use super::lex::{Kind, Lexer};

/// What the CommandComplete of a lone BEGIN or START TRANSACTION says; none: the text is something else, or more, or has a
/// mode that is not known.
#[must_use]
pub fn lone_begin(text: &[u8]) -> Option<&'static str> {
    let words = words(text)?;
    let mut rest = words.iter().map(|word| word.as_bytes());
    let (tag, rest) = match rest.next()? {
        b"begin" => {
            let mut behind = rest.clone();
            let noise = matches!(behind.next(), Some(b"work" | b"transaction"));
            ("BEGIN", if noise { behind } else { rest })
        }
        b"start" => {
            (rest.next()? == b"transaction").then_some(())?;
            ("START TRANSACTION", rest)
        }
        _ => return None,
    };
    modes(rest).then_some(tag)
}

/// What the CommandComplete of a lone COMMIT, END, ROLLBACK or ABORT of an open transaction says.
#[must_use]
pub fn lone_end(text: &[u8]) -> Option<&'static str> {
    let words = words(text)?;
    let mut rest = words.iter().map(|word| word.as_bytes());
    let tag = match rest.next()? {
        b"commit" | b"end" => "COMMIT",
        b"rollback" | b"abort" => "ROLLBACK",
        _ => return None,
    };
    match (rest.next(), rest.next()) {
        (None | Some(b"work" | b"transaction"), None) => Some(tag),
        _ => None,
    }
}

/// Most words in such a text.
const MOST: usize = 24;

/// The words, a comma for each comma; none: there is anything else, or a second statement.
fn words(text: &[u8]) -> Option<Vec<Folded>> {
    let mut words = Vec::new();
    let mut over = false;
    for token in Lexer::new(text) {
        match token.kind {
            Kind::Space | Kind::Comment => {}
            Kind::Semicolon => over = true,
            Kind::Word if !over && words.len() < MOST => words.push(Folded::new(text, token)),
            // It has no letters: no word is like it.
            Kind::Comma if !over && words.len() < MOST => words.push(Folded::comma()),
            _ => return None,
        }
    }
    Some(words)
}

/// Whether that is a list of transaction modes, commas between them or not.
fn modes<'a>(mut rest: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut comma = true;
    let mut first = true;
    while let Some(word) = rest.next() {
        if word == b"," {
            if first || comma {
                return false;
            }
            comma = true;
            continue;
        }
        let known = match word {
            b"isolation" => rest.next() == Some(b"level".as_slice()) && level(&mut rest),
            b"read" => matches!(rest.next(), Some(b"only" | b"write")),
            b"not" => rest.next() == Some(b"deferrable".as_slice()),
            b"deferrable" => true,
            _ => false,
        };
        if !known {
            return false;
        }
        (comma, first) = (false, false);
    }
    first || !comma
}

fn level<'a>(rest: &mut impl Iterator<Item = &'a [u8]>) -> bool {
    match rest.next() {
        Some(b"serializable") => true,
        Some(b"repeatable") => rest.next() == Some(b"read".as_slice()),
        Some(b"read") => matches!(rest.next(), Some(b"committed" | b"uncommitted")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_postgresql_accepts_and_nothing_else() {
        for text in [
            "BEGIN",
            " begin work ;",
            "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;",
            "/* hint */ begin isolation level read committed read write not deferrable",
            "BEGIN;;",
        ] {
            assert_eq!(lone_begin(text.as_bytes()), Some("BEGIN"), "{text}");
        }
        assert_eq!(lone_begin(b"START TRANSACTION READ ONLY"), Some("START TRANSACTION"));
        for text in [
            "",
            "START",
            "START WORK",
            "BEGIN; SELECT 1",
            "BEGIN;BEGIN",
            "BEGIN READ",
            "BEGIN ISOLATION LEVEL SNAPSHOT",
            "BEGIN , READ ONLY",
            "BEGIN READ ONLY,",
            "BEGIN READ ONLY,,READ ONLY",
            "BEGIN \"x\"",
            "BEGIN ATOMIC",
            "BEGIN 'x",
        ] {
            assert_eq!(lone_begin(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ends() {
        for (text, tag) in [
            ("COMMIT", "COMMIT"),
            ("end work;", "COMMIT"),
            ("abort", "ROLLBACK"),
            ("rollback transaction", "ROLLBACK"),
        ] {
            assert_eq!(lone_end(text.as_bytes()), Some(tag), "{text}");
        }
        for text in [
            "COMMIT AND CHAIN",
            "ROLLBACK TO s",
            "COMMIT PREPARED 'x'",
            "COMMIT; SELECT 1",
            "commit work work",
        ] {
            assert_eq!(lone_end(text.as_bytes()), None, "{text}");
        }
    }
}
