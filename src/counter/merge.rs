//! Increments of many clients as one statement. Pure.
//!
//! One row for each key, with the sum of what is added; rows are locked in the order of their keys, so that two flushes, of
//! one pgweir or of two, never wait for each other in a circle.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::wire::write::quote_literal;

/// Most bytes of one statement, about.
const MOST_BYTES: usize = 256 * 1024;

/// A value as its client gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A whole number.
    Number(i64),
    /// A text that is said to be one.
    Text(Box<str>),
    /// A text of what the column has.
    Loose(Box<str>),
    /// The binary form of what the column has.
    Binary(Box<[u8]>),
}

/// What a client adds to one row: the values of the key, and for some columns, by their places in the rule, how much, or how much is
/// taken away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// In the order of the rule's key.
    pub key: Vec<Value>,
    /// Each column once.
    pub adds: Vec<(usize, bool, Value)>,
}

/// The type of a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// An integer of so many bytes.
    Integer(u8),
    /// `text` or `varchar`.
    Text,
    /// `numeric`
    Numeric,
}

impl Kind {
    fn number(self, value: &Value) -> Option<i64> {
        let plain = |text: &str| {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { text.parse().ok() } else { None }
        };
        match (self, value) {
            (_, Value::Number(number)) => Some(*number),
            (_, Value::Loose(text)) => plain(text),
            (Self::Integer(bytes), Value::Binary(value)) if value.len() == usize::from(bytes) => {
                let sign = value.first()? >> 7;
                let mut all = [if sign == 1 { 0xff } else { 0 }; 8];
                all.get_mut(8 - value.len()..)?.copy_from_slice(value);
                Some(i64::from_be_bytes(all))
            }
            (_, Value::Text(_) | Value::Binary(_)) => None,
        }
    }

    /// The value of a key column, in the one form that equal values have.
    fn key(self, value: &Value) -> Option<Key> {
        match (self, value) {
            (Self::Integer(bytes), value) => {
                let number = self.number(value)?;
                let bits = 8 * u32::from(bytes) - 1;
                (number >> bits == 0 || number >> bits == -1).then_some(Key::Number(number))
            }
            (Self::Text, Value::Text(text) | Value::Loose(text)) => Some(Key::Text(text.clone())),
            (Self::Text, Value::Binary(value)) => Some(Key::Text(str::from_utf8(value).ok()?.into())),
            (Self::Text | Self::Numeric, _) => None,
        }
    }
}

/// The value of a key column. Two are equal if and only if the server takes them for equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Key {
    /// Of an integer.
    Number(i64),
    /// Of a text.
    Text(Box<str>),
}

impl Given {
    /// The same for columns of those types; none: it cannot be merged.
    #[must_use]
    pub(super) fn fit(&self, names: &Names) -> Option<Addition> {
        let key = self
            .key
            .iter()
            .zip(&names.key_kinds)
            .map(|(value, kind)| kind.key(value))
            .collect::<Option<_>>()?;
        let mut adds = Vec::with_capacity(self.adds.len());
        for (place, minus, value) in &self.adds {
            let amount = names.column_kinds.get(*place)?.number(value)?;
            adds.push((*place, if *minus { amount.checked_neg()? } else { amount }));
        }
        adds.sort_unstable();
        Some(Addition { key, adds })
    }
}

/// What is added to one row, column by column: the place of the column in its rule, and how much.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Addition {
    /// In the order of the rule's key.
    pub key: Vec<Key>,
    /// Ordered by place, each once.
    pub adds: Vec<(usize, i64)>,
}

/// The names that a statement is made of, quoted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Names {
    /// Schema and table.
    pub table: String,
    /// The columns of the key, and their types.
    pub keys: Vec<(String, &'static str)>,
    /// What their values are.
    pub key_kinds: Vec<Kind>,
    /// The columns that are added to.
    pub columns: Vec<String>,
    /// What theirs are.
    pub column_kinds: Vec<Kind>,
}

/// One statement for many additions.
#[derive(Debug)]
pub(super) struct Batch {
    /// The statement. It returns the places of the rows that were there, from 1.
    pub(super) text: String,
    /// For each of its rows, whose additions it has: their places among those that were given.
    pub(super) rows: Vec<Vec<usize>>,
    /// How many of the additions it has; those behind them are for the next.
    pub(super) taken: usize,
}

/// As many of the additions as one statement may have: those at the front that add to the same columns.
#[must_use]
pub(super) fn batch(names: &Names, additions: &[Addition]) -> Batch {
    let columns: Vec<usize> = additions
        .first()
        .map(|first| first.adds.iter().map(|(place, _)| *place).collect())
        .unwrap_or_default();
    let mut places: HashMap<&[Key], usize> = HashMap::new();
    let mut sums: Vec<(&[Key], Vec<i64>)> = Vec::new();
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let (mut taken, mut bytes) = (0, 0);
    for addition in additions {
        let same = addition.adds.iter().map(|(place, _)| *place).eq(columns.iter().copied());
        if !same || bytes > MOST_BYTES {
            break;
        }
        let amounts = addition.adds.iter().map(|(_, amount)| *amount);
        let Some(place) = places.get(&*addition.key).copied() else {
            places.insert(&addition.key, rows.len());
            bytes += 40 + addition.key.iter().map(size).sum::<usize>();
            sums.push((&addition.key, amounts.collect()));
            rows.push(vec![taken]);
            taken += 1;
            continue;
        };
        let Some((_, sum)) = sums.get_mut(place) else { break };
        let Some(more) = sum.iter().zip(amounts).map(|(sum, more)| sum.checked_add(more)).collect() else {
            break;
        };
        *sum = more;
        if let Some(row) = rows.get_mut(place) {
            row.push(taken);
        }
        taken += 1;
    }
    Batch { text: statement(names, &columns, &sums), rows, taken }
}

fn size(key: &Key) -> usize {
    match key {
        Key::Number(_) => 20,
        Key::Text(text) => text.len() * 2,
    }
}

fn statement(names: &Names, columns: &[usize], sums: &[(&[Key], Vec<i64>)]) -> String {
    let of = |place: &usize| names.columns.get(*place).map_or("", String::as_str);
    let table = &names.table;
    if let [(key, amounts)] = sums {
        // By itself it costs what it costs a client by itself.
        let sets = columns.iter().zip(amounts).map(|(place, amount)| {
            format!("{name} = t.{name} + '{amount}'::pg_catalog.int8", name = of(place))
        });
        let same =
            names.keys.iter().zip(*key).map(|((name, of), key)| format!("t.{name} = {}::{of}", literal(key)));
        let (sets, same) = (sets.collect::<Vec<_>>().join(", "), same.collect::<Vec<_>>().join(" AND "));
        return format!("UPDATE {table} AS t SET {sets} WHERE {same} RETURNING 1");
    }
    let mut arrays = Vec::new();
    for (nth, (_, of)) in names.keys.iter().enumerate() {
        let values = sums.iter().filter_map(|(key, _)| key.get(nth)).map(element);
        arrays.push(format!("pg_catalog.unnest({}::{of}[])", quote_literal(&array(values))));
    }
    for nth in 0..columns.len() {
        let amounts = sums.iter().filter_map(|(_, amounts)| amounts.get(nth)).map(i64::to_string);
        arrays.push(format!("pg_catalog.unnest('{}'::pg_catalog.int8[])", array(amounts)));
    }
    let list = |letter: char, count: usize| (0..count).map(move |nth| format!("{letter}{nth}"));
    let names_of: Vec<_> = list('k', names.keys.len()).chain(list('a', columns.len())).collect();
    let same: Vec<_> =
        names.keys.iter().enumerate().map(|(nth, (name, _))| format!("t.{name} = v.k{nth}")).collect();
    let order: Vec<_> = list('k', names.keys.len()).map(|key| format!("v.{key}")).collect();
    let sets: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(nth, place)| format!("{name} = t.{name} + v.a{nth}", name = of(place)))
        .collect();
    let (same, order, sets) = (same.join(" AND "), order.join(", "), sets.join(", "));
    format!(
        "WITH v AS MATERIALIZED (SELECT * FROM ROWS FROM ({}) WITH ORDINALITY AS v ({}, i)), \
         l AS MATERIALIZED (SELECT v.i FROM v JOIN {table} AS t ON {same} ORDER BY {order} FOR NO KEY UPDATE OF t) \
         UPDATE {table} AS t SET {sets} FROM v JOIN l ON l.i = v.i WHERE {same} RETURNING v.i",
        arrays.join(", "),
        names_of.join(", ")
    )
}

fn literal(key: &Key) -> String {
    match key {
        Key::Number(number) => format!("'{number}'"),
        Key::Text(text) => quote_literal(text),
    }
}

/// An element of an array.
fn element(key: &Key) -> String {
    match key {
        Key::Number(number) => number.to_string(),
        Key::Text(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

fn array(elements: impl Iterator<Item = String>) -> String {
    let mut text = String::from("{");
    for (nth, element) in elements.enumerate() {
        let _ = write!(text, "{}{element}", if nth > 0 { "," } else { "" });
    }
    text + "}"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addition(key: i64, adds: &[(usize, i64)]) -> Addition {
        Addition { key: vec![Key::Number(key)], adds: adds.to_vec() }
    }

    fn names() -> Names {
        Names {
            table: "public.photos".into(),
            keys: vec![("id".into(), "pg_catalog.int4")],
            columns: vec!["votes".into(), "score".into()],
            key_kinds: vec![Kind::Integer(4)],
            column_kinds: vec![Kind::Integer(4), Kind::Numeric],
        }
    }

    #[test]
    fn values_have_one_form() {
        let key = |kind: Kind, value: Value| kind.key(&value);
        let seven = Some(Key::Number(7));
        for value in [Value::Number(7), Value::Loose("7".into()), Value::Binary(Box::new([0, 0, 0, 7]))] {
            assert_eq!(key(Kind::Integer(4), value), seven);
        }
        assert_eq!(key(Kind::Integer(4), Value::Loose("007".into())), seven);
        assert_eq!(key(Kind::Integer(8), Value::Binary(Box::new([0xff; 8]))), Some(Key::Number(-1)));
        assert_eq!(key(Kind::Integer(2), Value::Number(32_767)), Some(Key::Number(32_767)));
        for (kind, value) in [
            (Kind::Integer(2), Value::Number(32_768)),
            (Kind::Integer(2), Value::Number(-32_769)),
            (Kind::Integer(4), Value::Binary(Box::new([0, 7]))),
            (Kind::Integer(4), Value::Text("7".into())),
            (Kind::Integer(4), Value::Loose(" 7".into())),
            (Kind::Integer(4), Value::Loose("+7".into())),
            (Kind::Text, Value::Number(7)),
            (Kind::Text, Value::Binary(Box::new([0xff]))),
            (Kind::Numeric, Value::Number(7)),
        ] {
            assert_eq!(key(kind, value.clone()), None, "{kind:?} {value:?}");
        }
        let given = Given {
            key: vec![Value::Loose("7".into())],
            adds: vec![(1, true, Value::Number(5)), (0, false, Value::Binary(Box::new([0, 0, 1, 0])))],
        };
        assert_eq!(given.fit(&names()), Some(addition(7, &[(0, 256), (1, -5)])));
    }

    #[test]
    fn one_row_for_each_key() {
        let additions = [
            addition(7, &[(0, 1)]),
            addition(9, &[(0, 5)]),
            addition(7, &[(0, 2)]),
            addition(7, &[(1, 3)]),
            addition(7, &[(0, 4)]),
        ];
        let given = additions.to_vec();
        let Batch { text, rows, taken } = batch(&names(), &given);
        assert_eq!(
            (rows, taken),
            (vec![vec![0, 2], vec![1]], 3),
            "what adds to other columns is for the next"
        );
        assert_eq!(
            text,
            "WITH v AS MATERIALIZED (SELECT * FROM ROWS FROM (pg_catalog.unnest('{7,9}'::pg_catalog.int4[]), pg_catalog.unnest('{3,5}'::pg_catalog.int8[])) \
             WITH ORDINALITY AS v (k0, a0, i)), \
             l AS MATERIALIZED (SELECT v.i FROM v JOIN public.photos AS t ON t.id = v.k0 ORDER BY v.k0 FOR NO KEY UPDATE OF t) \
             UPDATE public.photos AS t SET votes = t.votes + v.a0 FROM v JOIN l ON l.i = v.i WHERE t.id = v.k0 RETURNING v.i"
        );
        let next = batch(&names(), given.get(taken..).unwrap());
        assert_eq!((next.taken, next.rows), (1, vec![vec![0]]));
        assert_eq!(
            next.text,
            "UPDATE public.photos AS t SET score = t.score + '3'::pg_catalog.int8 WHERE t.id = '7'::pg_catalog.int4 RETURNING 1"
        );
    }

    #[test]
    fn a_sum_that_is_too_large_is_for_the_next() {
        let additions = [addition(7, &[(0, i64::MAX)]), addition(7, &[(0, 1)])];
        let Batch { taken, .. } = batch(&names(), &additions);
        assert_eq!(taken, 1);
    }

    #[test]
    fn a_statement_has_bounds() {
        let additions: Vec<_> = (0..100_000).map(|key| addition(key, &[(0, 1)])).collect();
        let given = additions.to_vec();
        let Batch { taken, text, .. } = batch(&names(), &given);
        assert!(taken > 1000 && taken < 100_000 && text.len() < 2 * MOST_BYTES, "{taken} {}", text.len());
    }

    #[test]
    fn keys_are_quoted() {
        let names = Names {
            keys: vec![("\"Name\"".into(), "pg_catalog.text")],
            key_kinds: vec![Kind::Text],
            ..names()
        };
        let addition = |text: &str| Addition { key: vec![Key::Text(text.into())], adds: vec![(0, 1)] };
        let alone = batch(&names, &[addition("it's \\ so")]).text;
        assert!(alone.contains("t.\"Name\" =  E'it''s \\\\ so'::pg_catalog.text"), "{alone}");
        let both = batch(&names, &[addition("it's \\ \"so\""), addition("{,}")]).text;
        let array = r#" E'{"it''s \\\\ \\"so\\"","{,}"}'::pg_catalog.text[]"#;
        assert!(both.contains(array), "{both}");
        assert!(both.contains("t.\"Name\" = v.k0"), "{both}");
    }
}
