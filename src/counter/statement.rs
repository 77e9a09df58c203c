//! Increments of many clients as one statement. Pure.
//!
//! One row for each key, with the sum of what is added; rows are locked in the order of their keys, so that two flushes, of
//! one pgweir or of two, never wait for each other in a circle.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::BytesMut;

use super::merge::{Addition, Key, Kind, Shape};
use crate::wire::write::{self, quote_literal};

/// So many rows or fewer are updated one by one.
pub(super) const FEW: usize = 4;

/// So many rows or fewer cost less one by one, by a statement that is planned once, than by one about all of them: that is planned each time.
const SINGLES: usize = 64;

/// Most bytes of one statement, about.
pub(super) const MOST_BYTES: usize = 256 * 1024;

/// The names that a statement is made of, quoted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Names {
    /// The schema's name, as it is.
    pub schema: Box<str>,
    /// The table is found by its name alone.
    pub bare: bool,
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
    /// The columns that become the time of the statement.
    pub touches: Vec<String>,
}

/// One statement for many additions.
#[derive(Debug)]
pub(super) struct Batch {
    /// What its additions have in common.
    pub(super) shape: Arc<Shape>,
    /// The keys of its rows.
    keys: Vec<Vec<Key>>,
    /// What is added to each of these.
    sums: Vec<Vec<i64>>,
    /// For each of its rows, whose additions it has: their places among those that were given.
    pub(super) rows: Vec<Vec<usize>>,
    /// How many of the additions it has; those behind them are for the next.
    pub(super) taken: usize,
}

impl Batch {
    /// Which of its rows were there, by what the server has returned.
    pub(super) fn found(&self, returned: &[Vec<Option<String>>]) -> Vec<bool> {
        let mut found = vec![false; self.rows.len()];
        let places: Option<HashMap<&[Key], usize>> = self
            .shape
            .upsert
            .then(|| self.keys.iter().enumerate().map(|(place, key)| (&**key, place)).collect());
        for row in returned {
            let place = match &places {
                Some(places) => {
                    let texts = row.iter().zip(self.keys.first().into_iter().flatten());
                    let key: Option<Vec<Key>> =
                        texts.map(|(text, like)| like.alike(text.as_deref()?)).collect();
                    key.and_then(|key| places.get(&*key).copied())
                }
                None => row.first().and_then(|place| place.as_ref()?.parse::<usize>().ok()?.checked_sub(1)),
            };
            if let Some(there) = place.and_then(|place| found.get_mut(place)) {
                *there = true;
            }
        }
        found
    }

    /// The statement. It returns the rows that were there: see [`Batch::found`].
    pub(super) fn text(&self, names: &Names) -> String {
        let sums: Vec<Sum<'_>> =
            self.keys.iter().map(Vec::as_slice).zip(self.sums.iter().map(Vec::as_slice)).collect();
        statement(names, &self.shape, &sums)
    }

    /// Whether its rows had better go one by one.
    pub(super) fn is_small(&self) -> bool {
        self.rows.len() <= SINGLES
    }

    /// Its rows in the order in which they have to be locked.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.keys.len()).collect();
        order.sort_unstable_by_key(|place| self.keys.get(*place));
        order
    }

    /// Writes a Bind of [`single`] for one of its rows.
    pub(super) fn bind(&self, row: usize, names: &Names, statement: &[u8], out: &mut BytesMut) {
        let (sums, key) = (self.sums.get(row), self.keys.get(row));
        let (sums, key) = (sums.map_or(&[][..], Vec::as_slice), key.map_or(&[][..], Vec::as_slice));
        write::bind_binary(out, statement, sums.len() + key.len(), |values| {
            sums.iter().for_each(|sum| values.push(&sum.to_be_bytes()));
            for (value, kind) in key.iter().zip(&names.key_kinds) {
                match (value, kind) {
                    (Key::Number(number), Kind::Integer(size)) => {
                        let bytes = number.to_be_bytes();
                        values.push(bytes.get(8_usize.saturating_sub((*size).into())..).unwrap_or_default());
                    }
                    (Key::Number(number), _) => values.push(&number.to_be_bytes()),
                    (Key::Text(text), _) => values.push(text.as_bytes()),
                }
            }
        });
    }
}

impl Key {
    /// The value of the same type that the server writes so.
    fn alike(&self, text: &str) -> Option<Self> {
        Some(match self {
            Self::Number(_) => Self::Number(text.parse().ok()?),
            Self::Text(_) => Self::Text(text.into()),
        })
    }
}

/// As many of the additions as one statement of so many bytes, about, may have: those at the front that are of one shape.
#[must_use]
pub(super) fn gather(additions: &[Addition], most: usize) -> Batch {
    let shape = additions.first().map(|first| first.shape.clone()).unwrap_or_default();
    let mut places: HashMap<&[Key], usize> = HashMap::new();
    let (mut keys, mut sums): (Vec<Vec<Key>>, Vec<Vec<i64>>) = (Vec::new(), Vec::new());
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let (mut taken, mut bytes) = (0, 0);
    for addition in additions {
        if addition.shape != shape || bytes > most {
            break;
        }
        let Some(place) = places.get(&*addition.key).copied() else {
            places.insert(&addition.key, rows.len());
            bytes += 40 + addition.key.iter().map(size).sum::<usize>();
            keys.push(addition.key.clone());
            sums.push(addition.amounts.clone());
            rows.push(vec![taken]);
            taken += 1;
            continue;
        };
        let Some(sum) = sums.get_mut(place) else { break };
        let amounts = addition.amounts.iter();
        let Some(more) = sum.iter().zip(amounts).map(|(sum, more)| sum.checked_add(*more)).collect() else {
            break;
        };
        *sum = more;
        if let Some(row) = rows.get_mut(place) {
            row.push(taken);
        }
        taken += 1;
    }
    Batch { shape, keys, sums, rows, taken }
}

/// What one row gets: its key, and for each column of the shape how much.
type Sum<'a> = (&'a [Key], &'a [i64]);

/// The statement about one row of that shape. Its parameters are what is added, then the key.
#[must_use]
pub(super) fn single(names: &Names, shape: &Shape) -> String {
    let count = shape.columns.len();
    let amount = |nth: usize| format!("${}::pg_catalog.int8", nth + 1);
    let keys: Vec<_> =
        names.keys.iter().enumerate().map(|(nth, (_, of))| format!("${}::{of}", count + nth + 1)).collect();
    if shape.upsert {
        let amounts = (0..count).map(amount);
        let values: Vec<_> = keys.iter().cloned().chain(amounts).collect();
        let times = ", pg_catalog.now()".repeat(touched(names, shape).count());
        return upsert(names, shape, &format!("VALUES ({}{times})", values.join(", ")));
    }
    let same = names.keys.iter().zip(&keys).map(|((name, _), key)| format!("t.{name} = {key}"));
    let (sets, same) = (sets(names, shape, amount), same.collect::<Vec<_>>().join(" AND "));
    format!("UPDATE {} AS t SET {sets} WHERE {same}", names.table)
}

fn size(key: &Key) -> usize {
    match key {
        Key::Number(_) => 20,
        Key::Text(text) => text.len() * 2,
    }
}

/// What the columns of a shape become: `SET`, with what is added as `amount` says for the place of the column in the shape.
fn sets(names: &Names, shape: &Shape, amount: impl Fn(usize) -> String) -> String {
    let of = |place: &usize| names.columns.get(*place).map_or("", String::as_str);
    let adds = shape.columns.iter().enumerate().map(|(nth, (place, zero))| {
        let (name, amount) = (of(place), amount(nth));
        let old = if *zero { format!("coalesce(t.{name}, 0)") } else { format!("t.{name}") };
        format!("{name} = {old} + {amount}")
    });
    let touches = touched(names, shape).map(|name| format!("{name} = pg_catalog.now()"));
    adds.chain(touches).collect::<Vec<_>>().join(", ")
}

fn touched<'n>(names: &'n Names, shape: &'n Shape) -> impl Iterator<Item = &'n str> {
    shape.touches.iter().filter_map(|place| names.touches.get(*place)).map(String::as_str)
}

fn statement(names: &Names, shape: &Shape, sums: &[Sum<'_>]) -> String {
    let table = &names.table;
    if sums.len() <= FEW && !shape.upsert {
        return few(names, shape, sums);
    }
    let mut arrays = Vec::new();
    for (nth, (_, of)) in names.keys.iter().enumerate() {
        let values = sums.iter().filter_map(|(key, _)| key.get(nth)).map(element);
        arrays.push(format!("pg_catalog.unnest({}::{of}[])", quote_literal(&array(values))));
    }
    for nth in 0..shape.columns.len() {
        let amounts = sums.iter().filter_map(|(_, amounts)| amounts.get(nth)).map(i64::to_string);
        arrays.push(format!("pg_catalog.unnest('{}'::pg_catalog.int8[])", array(amounts)));
    }
    let list = |letter: char, count: usize| (0..count).map(move |nth| format!("{letter}{nth}"));
    let names_of: Vec<_> = list('k', names.keys.len()).chain(list('a', shape.columns.len())).collect();
    // In the order of [`Key`], whatever the collation of the database.
    let order = list('k', names.keys.len()).zip(&names.key_kinds).map(|(key, kind)| match kind {
        Kind::Text => format!("v.{key} COLLATE \"C\""),
        _ => format!("v.{key}"),
    });
    let order: Vec<_> = order.collect();
    let (rows, columns, order) = (arrays.join(", "), names_of.join(", "), order.join(", "));
    if shape.upsert {
        let times = ", pg_catalog.now()".repeat(touched(names, shape).count());
        let from =
            format!("SELECT {columns}{times} FROM ROWS FROM ({rows}) AS v ({columns}) ORDER BY {order}");
        let back: Vec<_> = names.keys.iter().map(|(name, _)| format!("t.{name}")).collect();
        return format!("{} RETURNING {}", upsert(names, shape, &from), back.join(", "));
    }
    let same: Vec<_> =
        names.keys.iter().enumerate().map(|(nth, (name, _))| format!("t.{name} = v.k{nth}")).collect();
    let (same, sets) = (same.join(" AND "), sets(names, shape, |nth| format!("v.a{nth}")));
    format!(
        "WITH v AS MATERIALIZED (SELECT * FROM ROWS FROM ({rows}) WITH ORDINALITY AS v ({columns}, i)), \
         l AS MATERIALIZED (SELECT v.i FROM v JOIN {table} AS t ON {same} ORDER BY {order} FOR NO KEY UPDATE OF t) \
         UPDATE {table} AS t SET {sets} FROM v JOIN l ON l.i = v.i WHERE {same} RETURNING v.i"
    )
}

/// So few rows cost less by themselves, in one transaction: each is planned at once.
fn few(names: &Names, shape: &Shape, sums: &[Sum<'_>]) -> String {
    let mut rows: Vec<(usize, &Sum<'_>)> = sums.iter().enumerate().collect();
    rows.sort_by_key(|(_, (key, _))| *key);
    let one = |(place, (key, amounts)): (usize, &Sum<'_>)| {
        let amount = |nth: usize| format!("'{}'::pg_catalog.int8", amounts.get(nth).unwrap_or(&0));
        let same =
            names.keys.iter().zip(*key).map(|((name, of), key)| format!("t.{name} = {}::{of}", literal(key)));
        let (sets, same) = (sets(names, shape, amount), same.collect::<Vec<_>>().join(" AND "));
        format!("UPDATE {} AS t SET {sets} WHERE {same} RETURNING {}", names.table, place + 1)
    };
    rows.into_iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Rows that may not be there yet, from there. They are inserted, or locked, in the order of their keys, too.
fn upsert(names: &Names, shape: &Shape, from: &str) -> String {
    let key: Vec<_> = names.keys.iter().map(|(name, _)| name.as_str()).collect();
    let counters = shape.columns.iter().filter_map(|(place, _)| names.columns.get(*place));
    let counters: Vec<_> = counters.map(String::as_str).collect();
    let into: Vec<_> = key.iter().chain(&counters).copied().chain(touched(names, shape)).collect();
    let sets = sets(names, shape, |nth| format!("excluded.{}", counters.get(nth).unwrap_or(&"")));
    format!(
        "INSERT INTO {table} AS t ({into}) {from} ON CONFLICT ({key}) DO UPDATE SET {sets}",
        table = names.table,
        into = into.join(", "),
        key = key.join(", "),
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
    use std::sync::Arc;

    use super::*;

    fn shaped(shape: Shape, key: i64, amounts: &[i64]) -> Addition {
        Addition { shape: Arc::new(shape), key: vec![Key::Number(key)], amounts: amounts.to_vec() }
    }

    fn addition(key: i64, adds: &[(usize, i64)]) -> Addition {
        let columns = adds.iter().map(|(place, _)| (*place, false)).collect();
        let amounts: Vec<_> = adds.iter().map(|(_, amount)| *amount).collect();
        shaped(Shape { columns, ..Shape::default() }, key, &amounts)
    }

    fn names() -> Names {
        Names {
            schema: "public".into(),
            bare: true,
            table: "public.photos".into(),
            keys: vec![("id".into(), "pg_catalog.int4")],
            columns: vec!["votes".into(), "score".into()],
            key_kinds: vec![Kind::Integer(4)],
            column_kinds: vec![Kind::Integer(4), Kind::Numeric],
            touches: vec!["seen".into()],
        }
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
        let merged = gather(&given, MOST_BYTES);
        let (text, Batch { rows, taken, .. }) = (merged.text(&names()), merged);
        assert_eq!(
            (rows, taken),
            (vec![vec![0, 2], vec![1]], 3),
            "what adds to other columns is for the next"
        );
        assert_eq!(
            text,
            "UPDATE public.photos AS t SET votes = t.votes + '3'::pg_catalog.int8 WHERE t.id = '7'::pg_catalog.int4 RETURNING 1; \
             UPDATE public.photos AS t SET votes = t.votes + '5'::pg_catalog.int8 WHERE t.id = '9'::pg_catalog.int4 RETURNING 2"
        );
        let many: Vec<_> = [9, 8, 7, 6, 5].map(|key| addition(key, &[(0, 1)])).to_vec();
        assert_eq!(
            gather(&many, MOST_BYTES).text(&names()),
            "WITH v AS MATERIALIZED (SELECT * FROM ROWS FROM (pg_catalog.unnest('{9,8,7,6,5}'::pg_catalog.int4[]), pg_catalog.unnest('{1,1,1,1,1}'::pg_catalog.int8[])) \
             WITH ORDINALITY AS v (k0, a0, i)), \
             l AS MATERIALIZED (SELECT v.i FROM v JOIN public.photos AS t ON t.id = v.k0 ORDER BY v.k0 FOR NO KEY UPDATE OF t) \
             UPDATE public.photos AS t SET votes = t.votes + v.a0 FROM v JOIN l ON l.i = v.i WHERE t.id = v.k0 RETURNING v.i"
        );
        let next = gather(given.get(taken..).unwrap(), MOST_BYTES);
        assert_eq!((next.taken, &*next.rows), (1, &[vec![0]][..]));
        assert_eq!(
            next.text(&names()),
            "UPDATE public.photos AS t SET score = t.score + '3'::pg_catalog.int8 WHERE t.id = '7'::pg_catalog.int4 RETURNING 1"
        );
    }

    #[test]
    fn a_sum_that_is_too_large_is_for_the_next() {
        let additions = [addition(7, &[(0, i64::MAX)]), addition(7, &[(0, 1)])];
        let Batch { taken, .. } = gather(&additions, MOST_BYTES);
        assert_eq!(taken, 1);
    }

    #[test]
    fn a_statement_has_bounds() {
        let additions: Vec<_> = (0..100_000).map(|key| addition(key, &[(0, 1)])).collect();
        let given = additions.to_vec();
        let merged = gather(&given, MOST_BYTES);
        let (text, taken) = (merged.text(&names()), merged.taken);
        assert!(taken > 1000 && taken < 100_000 && text.len() < 2 * MOST_BYTES, "{taken} {}", text.len());
    }

    #[test]
    fn keys_are_quoted() {
        let names = Names {
            keys: vec![("\"Name\"".into(), "pg_catalog.text")],
            key_kinds: vec![Kind::Text],
            ..names()
        };
        let addition = |text: &str| Addition { key: vec![Key::Text(text.into())], ..addition(0, &[(0, 1)]) };
        let alone = gather(&[addition("it's \\ so")], MOST_BYTES).text(&names);
        assert!(alone.contains("t.\"Name\" =  E'it''s \\\\ so'::pg_catalog.text"), "{alone}");
        let both = gather(&["it's \\ \"so\"", "{,}", "c", "b", "a"].map(addition), MOST_BYTES).text(&names);
        let array = r#" E'{"it''s \\\\ \\"so\\"","{,}","c","b","a"}'::pg_catalog.text[]"#;
        assert!(both.contains(array), "{both}");
        assert!(both.contains("t.\"Name\" = v.k0 ORDER BY v.k0 COLLATE \"C\" FOR"), "{both}");
        let few = gather(&["b", "a"].map(addition), MOST_BYTES).text(&names);
        assert!(few.find("'a'") < few.find("'b'") && few.contains("RETURNING 2;"), "{few}");
    }

    #[test]
    fn rows_that_go_one_by_one() {
        let all: Vec<_> = (0..65).rev().map(|key| addition(key, &[(0, key)])).collect();
        assert!(!gather(&all, MOST_BYTES).is_small());
        let few = gather(all.get(..64).unwrap(), MOST_BYTES);
        assert!(few.is_small());
        let order = few.order();
        assert_eq!((order.len(), order.first(), order.last()), (64, Some(&63), Some(&0)));
        let text = "UPDATE public.photos AS t SET votes = t.votes + $1::pg_catalog.int8 WHERE t.id = $2::pg_catalog.int4";
        assert_eq!(single(&names(), &few.shape), text);
        let mut out = BytesMut::new();
        few.bind(0, &names(), b"s", &mut out);
        let values = b"\0\x02\0\0\0\x08\0\0\0\0\0\0\0\x40\0\0\0\x04\0\0\0\x40\0\0";
        assert_eq!(out, [b"B\0\0\0\x23\0s\0\0\x01\0\x01".as_slice(), values].concat());

        let upsert = Shape { upsert: true, columns: vec![(0, false), (1, true)], touches: vec![0] };
        assert_eq!(
            single(&names(), &upsert),
            "INSERT INTO public.photos AS t (id, votes, score, seen) \
             VALUES ($3::pg_catalog.int4, $1::pg_catalog.int8, $2::pg_catalog.int8, pg_catalog.now()) \
             ON CONFLICT (id) DO UPDATE SET votes = t.votes + excluded.votes, score = coalesce(t.score, 0) + excluded.score, \
             seen = pg_catalog.now()"
        );
    }

    #[test]
    fn other_shapes() {
        let zero = Shape { columns: vec![(0, true)], touches: vec![0], ..Shape::default() };
        let alone = gather(&[shaped(zero, 7, &[3])], MOST_BYTES).text(&names());
        assert_eq!(
            alone,
            "UPDATE public.photos AS t SET votes = coalesce(t.votes, 0) + '3'::pg_catalog.int8, seen = pg_catalog.now() \
             WHERE t.id = '7'::pg_catalog.int4 RETURNING 1"
        );
        let upsert = Shape { upsert: true, columns: vec![(0, false), (1, true)], touches: vec![0] };
        let all = [7, 9, 7].map(|key| shaped(upsert.clone(), key, &[1, 2]));
        let merged = gather(&all, MOST_BYTES);
        assert_eq!(
            merged.text(&names()),
            "INSERT INTO public.photos AS t (id, votes, score, seen) SELECT k0, a0, a1, pg_catalog.now() FROM ROWS FROM \
             (pg_catalog.unnest('{7,9}'::pg_catalog.int4[]), pg_catalog.unnest('{2,1}'::pg_catalog.int8[]), \
             pg_catalog.unnest('{4,2}'::pg_catalog.int8[])) AS v (k0, a0, a1) ORDER BY v.k0 \
             ON CONFLICT (id) DO UPDATE SET votes = t.votes + excluded.votes, score = coalesce(t.score, 0) + excluded.score, \
             seen = pg_catalog.now() RETURNING t.id"
        );
        assert_eq!(merged.found(&[vec![Some("9".to_owned())]]), [false, true]);
    }
}
