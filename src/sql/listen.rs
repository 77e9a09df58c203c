//! A text that is LISTEN or UNLISTEN and nothing else.

use super::folded::Folded;
use super::lex::{Kind, Lexer, Token};

/// What a client wants of the channels that it listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// `LISTEN channel`
    On(Box<str>),
    /// `UNLISTEN channel`
    Off(Box<str>),
    /// `UNLISTEN *`
    AllOff,
}

/// What a text wants that wants nothing else; none for names that PostgreSQL would cut short, and others than UTF-8.
#[must_use]
pub fn lone_listen(text: &[u8]) -> Option<Listen> {
    let mut tokens = Lexer::new(text).filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment));
    let verb = tokens.next().filter(|token| token.kind == Kind::Word)?;
    let name = tokens.next()?;
    if tokens.any(|token| token.kind != Kind::Semicolon) {
        return None;
    }
    let channel = |token: Token| {
        let known = matches!(token.kind, Kind::Word | Kind::Quoted);
        let name = Folded::new(text, token);
        let name = str::from_utf8(name.as_bytes()).ok().filter(|name| known && !name.is_empty())?;
        Some(Box::from(name))
    };
    match Folded::new(text, verb).as_bytes() {
        b"listen" => channel(name).map(Listen::On),
        b"unlisten" if text.get(name.start..name.end) == Some(b"*") => Some(Listen::AllOff),
        b"unlisten" => channel(name).map(Listen::Off),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listened_on() {
        let on = |name: &str| Some(Listen::On(name.into()));
        for (text, expected) in [
            ("LISTEN Votes", on("votes")),
            (" listen \"Votes \"\"x\"\"\" ; -- so", on("Votes \"x\"")),
            ("/* a */ UNLISTEN votes;", Some(Listen::Off("votes".into()))),
            ("unlisten *", Some(Listen::AllOff)),
            ("LISTEN", None),
            ("LISTEN a; LISTEN b", None),
            ("LISTEN a b", None),
            ("LISTEN 'a'", None),
            ("LISTEN U&\"a\"", None),
            ("\"listen\" a", None),
            ("LISTEN *", None),
            ("SELECT 1", None),
            ("", None),
        ] {
            assert_eq!(lone_listen(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(lone_listen(format!("LISTEN {}", "a".repeat(64)).as_bytes()), None);
        assert_eq!(lone_listen(b"LISTEN \"\xff\""), None);
    }
}
