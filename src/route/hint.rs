//! What a client says itself of where its reads should go: by a comment, by `SET pgweir.route`, or when it connects.

use crate::fresh::Level;
use crate::sql::{Kind, Lexer};

/// Where reads should go. It can only narrow: what is not proven to read stays on the primary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wish {
    /// To the primary.
    Primary,
    /// To a replica: moves a read where `mode = "opt_in"`, and changes nothing where reads go to replicas anyway.
    Replica,
}

impl Wish {
    /// From its word, in any case; none: there is no such wish.
    #[must_use]
    pub fn parse(word: &str) -> Option<Wish> {
        match word.to_ascii_lowercase().as_str() {
            "primary" => Some(Wish::Primary),
            "replica" => Some(Wish::Replica),
            _ => None,
        }
    }

    /// From a comment at the very beginning or end of a text: `/* pgweir: primary */` or `-- pgweir: primary`. The first counts.
    #[must_use]
    pub fn in_comments(text: &[u8]) -> Option<Wish> {
        in_comments(text, Wish::parse)
    }

    /// Of two wishes for one unit: the primary, if either says so.
    pub(super) fn stronger(one: Option<Wish>, other: Option<Wish>) -> Option<Wish> {
        match (one, other) {
            (Some(Wish::Primary), _) | (_, Some(Wish::Primary)) => Some(Wish::Primary),
            (one, other) => one.or(other),
        }
    }
}

/// What the reads of a text are to see, from such a comment: `/* pgweir: consistency=session */`. The first counts.
pub(super) fn level_in_comments(text: &[u8]) -> Option<Level> {
    in_comments(text, |hint| {
        let (name, level) = hint.split_once('=')?;
        name.trim().eq_ignore_ascii_case("consistency").then(|| Level::parse(level.trim())).flatten()
    })
}

/// The first of the comments at the very beginning or end of a text that has something to say.
fn in_comments<T: Copy>(text: &[u8], parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    // Almost no text has the word.
    memchr::memmem::find(text, b"pgweir")?;
    let (mut first, mut last) = (None, None);
    let mut begun = false;
    for token in Lexer::new(text) {
        match token.kind {
            Kind::Space | Kind::Semicolon => {}
            Kind::Comment => {
                let hint = hint(text.get(token.start..token.end).unwrap_or_default()).and_then(&parse);
                last = hint.or(last);
                if !begun {
                    first = first.or(hint);
                }
            }
            _ => {
                begun = true;
                last = None;
            }
        }
    }
    first.or(last)
}

/// What a comment says to pgweir.
fn hint(comment: &[u8]) -> Option<&str> {
    let inside = match comment.strip_prefix(b"--") {
        Some(rest) => rest,
        None => comment.strip_prefix(b"/*")?.strip_suffix(b"*/")?,
    };
    Some(std::str::from_utf8(inside).ok()?.trim().strip_prefix("pgweir:")?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_stand_at_the_beginning_or_the_end() {
        let hint = |text: &str| Wish::in_comments(text.as_bytes());
        for text in [
            "/* pgweir: primary */ SELECT 1",
            "SELECT 1 /*pgweir:PRIMARY*/ ; ",
            "-- pgweir: primary\nSELECT 1",
            "SELECT 1; -- pgweir: primary",
            "/* trace */ /* pgweir: primary */ SELECT 1 /* pgweir: replica */",
        ] {
            assert_eq!(hint(text), Some(Wish::Primary), "{text}");
        }
        assert_eq!(hint("SELECT 1 /* pgweir: replica */ /* trace */"), Some(Wish::Replica));
        for text in [
            "SELECT /* pgweir: primary */ 1",
            "SELECT '/* pgweir: primary */'",
            "SELECT 1 /* pgweir: elsewhere */",
            "SELECT 1 /* pgweir primary */",
            "SELECT 1",
        ] {
            assert_eq!(hint(text), None, "{text}");
        }
    }
}
