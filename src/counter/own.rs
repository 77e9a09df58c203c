//! Which statements are this module's own, by their texts as a server counts them: with or without their constants. Pure.

use crate::sql::{Kind, Lexer};

/// How the statements begin that merge increments of many rows, and those about the ledger; `?` is a name.
const BEGINNINGS: [&str; 4] = [
    "with v as materialized ( select * from rows from ( pg_catalog . unnest",
    "with w as ( update ? . ? set applied =",
    "select applied from ? . ? where journal =",
    "insert into ? . ? ( journal , account , applied , about )",
];

/// Whether a text is one that pgweir sends to carry out increments, or to ask or move the ledger.
#[must_use]
pub fn is_own(text: &str) -> bool {
    let tokens: Vec<(Kind, String)> = Lexer::new(text.as_bytes())
        .filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment))
        .map(|token| (token.kind, text.get(token.start..token.end).unwrap_or_default().to_ascii_lowercase()))
        .collect();
    let words: Vec<&str> = tokens.iter().map(|(_, word)| word.as_str()).collect();
    let begins = |form: &str| {
        let mut words = words.iter();
        form.split(' ').all(|part| words.next().is_some_and(|word| part == "?" || part == *word))
    };
    let has = |form: &str| {
        let form: Vec<&str> = form.split(' ').collect();
        words.windows(form.len()).any(|window| window == form)
    };
    BEGINNINGS.into_iter().any(begins)
        || begins("insert into ? . ? as t (") && has("on conflict (") && has(":: pg_catalog . int8")
        || begins("update ? . ? as t set") && has(":: pg_catalog . int8")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::ledger::Line;
    use super::super::merge::{self, Addition, Key, Shape};
    use super::super::statement::{Names, gather, single};
    use super::*;

    /// The statement about so many rows; about none: the one about each.
    fn merged(upsert: bool, rows: i64) -> String {
        let shape = Shape { upsert, columns: vec![(0, false)], touches: vec![0] };
        let names = Names {
            table: "\"Shop\".photos".to_owned(),
            keys: vec![("id".to_owned(), "pg_catalog.int4")],
            key_kinds: vec![merge::Kind::Integer(4)],
            columns: vec!["votes".to_owned()],
            column_kinds: vec![merge::Kind::Integer(4)],
            touches: vec!["seen".to_owned()],
            ..Names::default()
        };
        let one =
            |key| Addition { shape: Arc::new(shape.clone()), key: vec![Key::Number(key)], amounts: vec![1] };
        match rows {
            0 => single(&names, &shape),
            _ => gather(&(0..rows).map(one).collect::<Vec<_>>(), usize::MAX).text(&names),
        }
    }

    /// As the server counts it: each constant is a parameter.
    fn counted(text: &str) -> String {
        let (mut out, mut constants) = (String::new(), 0);
        for token in Lexer::new(text.as_bytes()) {
            if matches!(token.kind, Kind::String | Kind::Number) {
                constants += 1;
                out.push_str(&format!("${constants}"));
            } else {
                out.push_str(&text[token.start..token.end]);
            }
        }
        out
    }

    #[test]
    fn whatever_is_sent_is_known() {
        let line = Line { ledger: "shop.mine".into(), journal: "j".into(), account: "a".into() };
        let all = [
            merged(false, 0),
            merged(false, 1),
            merged(false, 9),
            merged(true, 0),
            merged(true, 1),
            merged(true, 9),
            line.advance(3, 9),
            line.read(),
            line.open("web photos"),
        ];
        for text in all {
            assert!(is_own(&text), "{text}");
            assert!(is_own(&counted(&text)), "{}", counted(&text));
        }
    }

    #[test]
    fn others_statements_are_theirs() {
        for text in [
            "UPDATE public.photos AS t SET votes = t.votes + $1 WHERE t.id = $2 RETURNING votes",
            "UPDATE photos SET votes = votes + $1 WHERE id = $2",
            "INSERT INTO shop.photos AS t (id) VALUES ($1)",
            "SELECT applied FROM jobs WHERE id = $1",
            "WITH v AS (SELECT $1) SELECT * FROM v",
            "",
            "'open",
        ] {
            assert!(!is_own(text), "{text}");
        }
    }
}
