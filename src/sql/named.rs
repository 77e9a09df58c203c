//! The prepared statements that a text names: in PREPARE, EXECUTE and DEALLOCATE.

use super::folded::Folded;
use super::lex::{Kind, Lexer, Token};

/// What is done with a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// PREPARE.
    Prepare,
    /// EXECUTE, alone or in EXPLAIN or CREATE TABLE AS.
    Execute,
    /// DEALLOCATE.
    Deallocate,
}

/// A name in a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedStatement {
    /// What is done with it.
    pub how: Use,
    /// The name, folded or taken out of its quotes.
    pub name: Box<[u8]>,
    /// The first byte of it in the text.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

/// The names in a text, in order. For texts that are known to have such a statement: it allocates.
#[must_use]
pub fn named(text: &[u8]) -> Vec<NamedStatement> {
    let mut found = Vec::new();
    let mut tokens = Lexer::new(text).filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment));
    let mut depth = 0usize;
    let (mut starts, mut explains, mut behind_as) = (true, false, false);
    while let Some(token) = tokens.next() {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Semicolon if depth == 0 => {
                (starts, explains, behind_as) = (true, false, false);
                continue;
            }
            _ => {}
        }
        let word = folded(text, token);
        let how = match word.as_bytes() {
            b"prepare" if starts => Some(Use::Prepare),
            b"deallocate" if starts => Some(Use::Deallocate),
            b"execute" if starts || depth == 0 && (explains || behind_as) => Some(Use::Execute),
            _ => None,
        };
        explains |= starts && word.as_bytes() == b"explain";
        behind_as = word.as_bytes() == b"as";
        starts = false;
        if let Some(how) = how {
            let mut name = tokens.next();
            if how == Use::Deallocate && name.is_some_and(|name| folded(text, name).as_bytes() == b"prepare")
            {
                name = tokens.next().or(name);
            }
            found.extend(name.and_then(|name| one(text, how, name)));
        }
    }
    found
}

/// Longest text of a PREPARE that is taken apart.
pub const LONGEST_PREPARE: usize = 8 * 1024;

/// What a text prepares that is one PREPARE and nothing else: the name, and the statement, which reads or writes rows.
///
/// None also where a comment before the statement is meant for pgweir: it would be lost.
#[must_use]
pub fn lone_prepare(text: &[u8]) -> Option<(Box<[u8]>, &[u8])> {
    let head = |token: &Token| match token.kind {
        Kind::Comment => text.get(token.start..token.end).is_some_and(is_hint),
        kind => kind != Kind::Space,
    };
    let mut tokens = Lexer::new(text).filter(head);
    if folded(text, tokens.next()?).as_bytes() != b"prepare" {
        return None;
    }
    let named = one(text, Use::Prepare, tokens.next()?)?;
    let mut depth = 0usize;
    let first = loop {
        let token = tokens.next()?;
        match token.kind {
            Kind::Comment => return None,
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.checked_sub(1)?,
            Kind::Word if depth == 0 && folded(text, token).as_bytes() == b"as" => break tokens.next()?,
            _ if depth == 0 => return None,
            _ => {}
        }
    };
    let word = folded(text, first);
    let on_rows = matches!(
        word.as_bytes(),
        b"select" | b"with" | b"values" | b"insert" | b"update" | b"delete" | b"merge"
    );
    let mut end = first.end;
    let mut alone = true;
    let mut closed = false;
    for token in tokens {
        closed |= token.kind == Kind::Semicolon;
        alone &= !closed || token.kind == Kind::Semicolon;
        if !closed {
            end = token.end;
        }
    }
    let statement = text.get(first.start..end)?;
    (on_rows && alone).then_some((named.name, statement))
}

/// Whether a comment says something to pgweir.
fn is_hint(comment: &[u8]) -> bool {
    comment.windows(6).any(|bytes| bytes.eq_ignore_ascii_case(b"pgweir"))
}

/// The name in a text that is one EXECUTE and nothing else, with constants for its parameters: it does what was prepared.
#[must_use]
pub fn lone_execute(text: &[u8]) -> Option<NamedStatement> {
    let mut tokens = Lexer::new(text).filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment));
    let first = tokens.next()?;
    if folded(text, first).as_bytes() != b"execute" {
        return None;
    }
    let named = one(text, Use::Execute, tokens.next()?)?;
    let mut token = tokens.next();
    if token.is_some_and(|token| token.kind == Kind::Open) {
        loop {
            token = tokens.next();
            if token.is_some_and(|token| matches!(text.get(token.start..token.end), Some(b"-" | b"+"))) {
                token = tokens.next();
            }
            let value = token?;
            let constant = match value.kind {
                Kind::String | Kind::Number => true,
                Kind::Word => matches!(folded(text, value).as_bytes(), b"null" | b"true" | b"false"),
                _ => false,
            };
            match tokens.next()?.kind {
                Kind::Comma if constant => {}
                Kind::Close if constant => break,
                _ => return None,
            }
        }
        token = tokens.next();
    }
    let ends = token.is_none_or(|token| token.kind == Kind::Semicolon);
    (ends && tokens.all(|token| token.kind == Kind::Semicolon)).then_some(named)
}

fn folded(text: &[u8], token: Token) -> Folded {
    // A keyword is no keyword in quotes.
    let token = if token.kind == Kind::Word { token } else { Token { kind: Kind::Other, ..token } };
    Folded::new(text, token)
}

fn one(text: &[u8], how: Use, token: Token) -> Option<NamedStatement> {
    let other = match how {
        Use::Prepare => b"transaction".as_slice(),
        Use::Deallocate => b"all",
        Use::Execute => b"",
    };
    if !other.is_empty() && folded(text, token).as_bytes() == other {
        return None;
    }
    let name = Folded::new(text, token);
    let name: Box<[u8]> = name.as_bytes().into();
    (!name.is_empty()).then_some(NamedStatement { how, name, start: token.start, end: token.end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execute_that_is_all_there_is() {
        let name =
            |text: &str| lone_execute(text.as_bytes()).map(|one| String::from_utf8(one.name.into()).unwrap());
        for text in [
            "EXECUTE s",
            " /* so */ execute S ;;",
            "EXECUTE \"s\" (1, -2.5, 'x', NULL, true, E'a\\n') -- end",
            "EXECUTE s($$text$$);",
        ] {
            assert_eq!(name(text).as_deref(), Some("s"), "{text}");
        }
        for text in [
            "",
            "EXECUTE",
            "EXECUTE s; SELECT f()",
            "EXECUTE s(f())",
            "EXECUTE s(1 + 2)",
            "EXECUTE s('a'::d)",
            "EXECUTE s($1)",
            "EXECUTE s(1",
            "EXECUTE s()",
            "EXECUTE s(1,)",
            "EXECUTE s(1) x",
            "EXECUTE s(now)",
            "EXPLAIN EXECUTE s",
            "CREATE TABLE t AS EXECUTE s",
            "\"execute\" s",
        ] {
            assert_eq!(name(text), None, "{text}");
        }
    }

    #[test]
    fn a_prepare_that_is_all_there_is() {
        let prepared = |text: &'static str| {
            let (name, statement) = lone_prepare(text.as_bytes())?;
            Some((String::from_utf8(name.into()).unwrap(), str::from_utf8(statement).unwrap()))
        };
        for (text, name, statement) in [
            ("PREPARE S AS SELECT 1", "s", "SELECT 1"),
            (" /* a */ prepare \"S\" (int, numeric(3, 1)) as\n values ($1) ; ", "S", "values ($1)"),
            (
                "PREPARE s AS /* b */ WITH a AS (SELECT ';') TABLE a -- end",
                "s",
                "WITH a AS (SELECT ';') TABLE a",
            ),
            (
                "PREPARE s AS UPDATE t SET a = $1 /* pgweir: primary */",
                "s",
                "UPDATE t SET a = $1 /* pgweir: primary */",
            ),
        ] {
            assert_eq!(prepared(text), Some((name.to_owned(), statement)), "{text}");
        }
        for text in [
            "",
            "PREPARE",
            "PREPARE s",
            "PREPARE s AS",
            "PREPARE s AS SELECT 1; SELECT 2",
            "SELECT 1; PREPARE s AS SELECT 1",
            "PREPARE TRANSACTION 's'",
            "PREPARE s x AS SELECT 1",
            "PREPARE s (int",
            "PREPARE s AS TABLE t",
            "PREPARE s AS (SELECT 1)",
            "/* pgweir: primary */ PREPARE s AS SELECT 1",
            "PREPARE s /* pgweir: primary */ AS SELECT 1",
            "PREPARE s AS /* pgweir: primary */ SELECT 1",
            "EXECUTE s",
        ] {
            assert_eq!(prepared(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_found_where_they_stand() {
        let text =
            b"PREPARE One (int) AS SELECT 'execute x'; execute \"Two\"(1) ; DEALLOCATE PREPARE three; \
            EXPLAIN (ANALYZE) EXECUTE four; CREATE TABLE t AS /* so */ EXECUTE five; DEALLOCATE ALL; \
            PREPARE TRANSACTION 'g'; SELECT execute FROM deallocate; GRANT EXECUTE ON FUNCTION f() TO x";
        let found: Vec<_> = named(text)
            .into_iter()
            .map(|found| {
                (found.how, String::from_utf8(found.name.into()).unwrap(), &text[found.start..found.end])
            })
            .collect();
        let expected: [(Use, &str, &[u8]); 5] = [
            (Use::Prepare, "one", b"One"),
            (Use::Execute, "Two", b"\"Two\""),
            (Use::Deallocate, "three", b"three"),
            (Use::Execute, "four", b"four"),
            (Use::Execute, "five", b"five"),
        ];
        assert_eq!(found, expected.map(|(how, name, raw)| (how, name.to_owned(), raw)));
    }
}
