//! A text that is LISTEN, UNLISTEN or NOTIFY and nothing else.

use super::folded::Folded;
use super::increment::Operand;
use super::lex::{Kind, Lexer, Token};
use super::reader::Reader;

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

/// The statements of a text, each by itself, without what is empty between semicolons; a text of none is its own only one.
#[must_use]
pub fn apart(text: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut start, mut empty) = (Vec::new(), 0, true);
    for token in Lexer::new(text) {
        match token.kind {
            Kind::Semicolon => {
                parts.extend(text.get(start..token.start).filter(|_| !empty));
                (start, empty) = (token.end, true);
            }
            Kind::Space | Kind::Comment => {}
            _ => empty = false,
        }
    }
    parts.extend(text.get(start..).filter(|_| !empty || parts.is_empty()));
    parts
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

/// More tokens than this no text has that only notifies.
const MOST_TOKENS: usize = 24;

/// Channel and payload of a text that is a NOTIFY, or a SELECT of one call of `pg_notify`, and nothing else.
#[must_use]
pub fn lone_notify(text: &[u8]) -> Option<(Operand, Operand)> {
    let mut reader = Reader::new(text, MOST_TOKENS)?;
    if reader.word(b"notify") {
        let channel = Operand::Text(reader.name()?);
        let payload =
            if reader.kind(Kind::Comma) { reader.operand()? } else { Operand::Text(Box::default()) };
        return (reader.is_over() && matches!(payload, Operand::Text(_))).then_some((channel, payload));
    }
    if !reader.word(b"select") {
        return None;
    }
    if reader.word(b"pg_catalog") && !reader.kind(Kind::Dot) {
        return None;
    }
    if !reader.word(b"pg_notify") || !reader.kind(Kind::Open) {
        return None;
    }
    let channel = argument(&mut reader)?;
    let comma = reader.kind(Kind::Comma);
    let payload = argument(&mut reader)?;
    (comma && reader.kind(Kind::Close) && reader.is_over()).then_some((channel, payload))
}

/// Whether a text asks for the channels that its session listens on, and for nothing else.
#[must_use]
pub fn asks_channels(text: &[u8]) -> bool {
    let Some(mut reader) = Reader::new(text, MOST_TOKENS) else { return false };
    let selects = reader.word(b"select") && (!reader.operator(b"*") || reader.word(b"from"));
    let qualified = reader.word(b"pg_catalog");
    selects
        && qualified == reader.kind(Kind::Dot)
        && reader.calls(b"pg_listening_channels")
        && reader.kind(Kind::Close)
        && reader.is_over()
}

/// A text or a parameter, which may be cast to `text`.
fn argument(reader: &mut Reader<'_>) -> Option<Operand> {
    let operand = reader.operand().filter(|operand| !matches!(operand, Operand::Number(_)))?;
    if reader.kind(Kind::Cast) && !reader.word(b"text") && !reader.word(b"varchar") {
        return None;
    }
    Some(operand)
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

    #[test]
    fn statements_apart() {
        for (text, expected) in [
            ("LISTEN a", vec!["LISTEN a"]),
            ("LISTEN a;", vec!["LISTEN a"]),
            ("LISTEN \"a;b\"; ; LISTEN b -- ;", vec!["LISTEN \"a;b\"", " LISTEN b -- ;"]),
            ("; LISTEN a; /* ; */", vec![" LISTEN a"]),
            ("", vec![""]),
            (";", vec![""]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(str::as_bytes).collect();
            assert_eq!(apart(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn who_asks_what_it_listens_on() {
        for text in [
            "SELECT * FROM pg_listening_channels()",
            "select pg_catalog.pg_listening_channels();",
            "SELECT pg_listening_channels ( ) -- so",
        ] {
            assert!(asks_channels(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "SELECT pg_listening_channels",
            "SELECT x.pg_listening_channels()",
            "SELECT .pg_listening_channels()",
            "SELECT * pg_listening_channels()",
            "SELECT FROM pg_listening_channels()",
            "SELECT pg_listening_channels(), 1",
            "SELECT * FROM pg_listening_channels() x",
            "SELECT count(*) FROM pg_listening_channels()",
            "SELECT pg_listening_channels(); SELECT 1",
        ] {
            assert!(!asks_channels(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_notified() {
        let text = |text: &str| Operand::Text(text.into());
        for (sql, expected) in [
            ("NOTIFY Votes", Some((text("votes"), text("")))),
            ("notify \"Votes\", 'seven' ;", Some((text("Votes"), text("seven")))),
            ("SELECT pg_notify('a', 'b')", Some((text("a"), text("b")))),
            ("select pg_catalog.pg_notify($1::text, $2)", Some((Operand::Param(1), Operand::Param(2)))),
            ("NOTIFY votes, 'it''s'", None),
            ("NOTIFY votes, $1", None),
            ("NOTIFY a; NOTIFY b", None),
            ("SELECT pg_notify('a', 'b'), 1", None),
            ("SELECT pg_notify('a', 'b') FROM t", None),
            ("SELECT pg_notify('a', x)", None),
            ("SELECT app.pg_notify('a', 'b')", None),
            ("SELECT pg_notify('a', 1)", None),
            ("LISTEN a", None),
        ] {
            assert_eq!(lone_notify(sql.as_bytes()), expected, "{sql}");
        }
    }
}
