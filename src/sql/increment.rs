//! A text that adds constants to columns of the row with a key, and does nothing else:
//! `UPDATE photos SET votes = votes + 1 WHERE id = 7`, or
//! `INSERT INTO photos (id, votes) VALUES (7, 1) ON CONFLICT (id) DO UPDATE SET votes = photos.votes + excluded.votes`.

use std::ops::{Deref, DerefMut};

use super::lex::Kind;
use super::reader::Reader;

/// More tokens than this no such text has.
const MOST_TOKENS: usize = 192;

/// A constant of the text, or a parameter of its statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operand {
    /// A whole number.
    Number(i64),
    /// A string without escapes.
    Text(Box<str>),
    /// `$1` is 1.
    Param(u16),
}

/// What is added to a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Add {
    /// The column.
    pub column: Box<str>,
    /// `coalesce(column, 0)`: null counts as zero.
    pub zero: bool,
    /// It is taken away.
    pub minus: bool,
    /// How much.
    pub amount: Operand,
}

/// What such a text does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Increment {
    /// The schema, if the text names one.
    pub schema: Option<Box<str>>,
    /// The table.
    pub table: Box<str>,
    /// A row that is not there is inserted, with what is added as its values.
    pub upsert: bool,
    /// What is added, in the order of the text; each column once.
    pub adds: Vec<Add>,
    /// Columns that become the time of the statement.
    pub touches: Vec<Box<str>>,
    /// Columns and what they must be equal to; each column once.
    pub keys: Vec<(Box<str>, Operand)>,
}

/// What a text does that is an increment and nothing else; none: it is something else, or not spelled simply.
#[must_use]
pub fn increment(text: &[u8]) -> Option<Increment> {
    let reader = Reader::new(text, MOST_TOKENS)?;
    let mut speller = Speller { reader, target: None, alias: None };
    let increment = if speller.word(b"insert") { speller.upsert()? } else { speller.update()? };
    speller.is_over().then_some(increment)
}

/// Reads an increment.
struct Speller<'a> {
    reader: Reader<'a>,
    /// What a column may be prefixed with.
    target: Option<Box<str>>,
    alias: Option<Box<str>>,
}

impl<'a> Deref for Speller<'a> {
    type Target = Reader<'a>;

    fn deref(&self) -> &Reader<'a> {
        &self.reader
    }
}

impl DerefMut for Speller<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.reader
    }
}

/// What an assignment gives to a column.
enum Set {
    Add(Add),
    /// What the row that was to be inserted has: `t.votes + excluded.votes`.
    Excluded {
        column: Box<str>,
        zero: bool,
    },
    /// The time of the statement.
    Now(Box<str>),
}

impl Set {
    fn column(&self) -> &str {
        match self {
            Self::Add(Add { column, .. }) | Self::Excluded { column, .. } | Self::Now(column) => column,
        }
    }
}

/// What is to be inserted into a column.
#[derive(PartialEq)]
enum Given {
    Value(Operand),
    Now,
}

impl Speller<'_> {
    fn update(&mut self) -> Option<Increment> {
        if !self.word(b"update") {
            return None;
        }
        self.word(b"only");
        let (schema, table) = self.table()?;
        if !self.word(b"set") {
            self.word(b"as");
            self.alias = Some(self.name()?);
            if !self.word(b"set") {
                return None;
            }
        }
        let mut increment = Increment { schema, table, ..Increment::default() };
        for set in self.sets(false)? {
            match set {
                Set::Add(add) => increment.adds.push(add),
                Set::Now(column) => increment.touches.push(column),
                Set::Excluded { .. } => return None,
            }
        }
        if !self.word(b"where") {
            return None;
        }
        loop {
            let open = self.kind(Kind::Open);
            let key = self.key()?;
            if open && !self.kind(Kind::Close) || increment.keys.iter().any(|(known, _)| *known == key.0) {
                return None;
            }
            increment.keys.push(key);
            if !self.word(b"and") {
                break;
            }
        }
        (!increment.adds.is_empty()).then_some(increment)
    }

    /// Behind INSERT. What is inserted has to be what is added: then it is all the same who comes first.
    fn upsert(&mut self) -> Option<Increment> {
        if !self.word(b"into") {
            return None;
        }
        let (schema, table) = self.table()?;
        if self.word(b"as") {
            self.alias = Some(self.name()?);
        }
        let columns = self.list(|this| this.name())?;
        let values = if self.word(b"values") { self.list(Self::given)? } else { return None };
        let twice =
            columns.iter().enumerate().any(|(nth, name)| columns.iter().take(nth).any(|known| known == name));
        if twice || values.len() != columns.len() || !self.all(&[b"on", b"conflict"]) {
            return None;
        }
        let arbiter = self.list(|this| this.name())?;
        if !self.all(&[b"do", b"update", b"set"]) {
            return None;
        }
        let mut rows: Vec<(Box<str>, Given)> = columns.into_iter().zip(values).collect();
        let mut take = |column: &str| {
            let place = rows.iter().position(|(known, _)| **known == *column)?;
            Some(rows.swap_remove(place).1)
        };
        let mut increment = Increment { schema, table, upsert: true, ..Increment::default() };
        for column in arbiter {
            let Given::Value(value) = take(&column)? else { return None };
            increment.keys.push((column, value));
        }
        for set in self.sets(true)? {
            match (take(set.column())?, set) {
                (Given::Value(value), Set::Add(add)) if value == add.amount && !add.minus => {
                    increment.adds.push(add);
                }
                (Given::Value(amount), Set::Excluded { column, zero })
                    if !matches!(amount, Operand::Text(_)) =>
                {
                    increment.adds.push(Add { column, zero, minus: false, amount });
                }
                (Given::Now, Set::Now(column)) => increment.touches.push(column),
                _ => return None,
            }
        }
        (rows.is_empty() && !increment.adds.is_empty()).then_some(increment)
    }

    fn table(&mut self) -> Option<(Option<Box<str>>, Box<str>)> {
        let (mut schema, mut table) = (None, self.name()?);
        if self.kind(Kind::Dot) {
            schema = Some(std::mem::replace(&mut table, self.name()?));
        }
        self.target = Some(table.clone());
        Some((schema, table))
    }

    /// Takes all of these keywords.
    fn all(&mut self, words: &[&[u8]]) -> bool {
        words.iter().all(|word| self.word(word))
    }

    /// `(one, other)`
    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        if !self.kind(Kind::Open) {
            return None;
        }
        let mut all = vec![one(self)?];
        while self.kind(Kind::Comma) {
            all.push(one(self)?);
        }
        self.kind(Kind::Close).then_some(all)
    }

    fn given(&mut self) -> Option<Given> {
        if self.now() { Some(Given::Now) } else { Some(Given::Value(self.operand()?)) }
    }

    /// The time of the statement, in one of its spellings.
    fn now(&mut self) -> bool {
        self.word(b"current_timestamp")
            || self.word(b"now") && self.kind(Kind::Open) && self.kind(Kind::Close)
    }

    /// A column, by itself or behind the table's name or alias.
    fn column(&mut self) -> Option<Box<str>> {
        let name = self.name()?;
        if !self.kind(Kind::Dot) {
            return Some(name);
        }
        if self.known() != Some(&*name) {
            return None;
        }
        self.name()
    }

    fn known(&self) -> Option<&str> {
        self.alias.as_deref().or(self.target.as_deref())
    }

    /// Assignments, each to another column. `prefixed`: a column by itself could be that of either row.
    fn sets(&mut self, prefixed: bool) -> Option<Vec<Set>> {
        let mut sets: Vec<Set> = Vec::new();
        loop {
            let set = self.set(prefixed)?;
            if sets.iter().any(|known| known.column() == set.column()) {
                return None;
            }
            sets.push(set);
            if !self.kind(Kind::Comma) {
                return Some(sets);
            }
        }
    }

    /// `votes = votes + 1`, or the other way round; `seen = now()`.
    fn set(&mut self, prefixed: bool) -> Option<Set> {
        let column = self.name()?;
        if !self.operator(b"=") {
            return None;
        }
        if self.now() {
            return Some(Set::Now(column));
        }
        let open = self.kind(Kind::Open);
        let begins = self.peek()?;
        let set = if matches!(begins.kind, Kind::Word | Kind::Quoted) {
            self.behind(column, prefixed)?
        } else {
            let amount = self.operand()?;
            if !self.operator(b"+") {
                return None;
            }
            let zero = self.old(&column, prefixed)?;
            Set::Add(Add { column, zero, minus: false, amount })
        };
        let text = matches!(set, Set::Add(Add { amount: Operand::Text(_), .. }));
        (!text && (!open || self.kind(Kind::Close))).then_some(set)
    }

    /// `votes + 1`, `votes + excluded.votes`, `excluded.votes + votes`
    fn behind(&mut self, column: Box<str>, prefixed: bool) -> Option<Set> {
        if prefixed && self.excluded(&column)? {
            let plus = self.operator(b"+");
            let zero = self.old(&column, prefixed)?;
            return plus.then_some(Set::Excluded { column, zero });
        }
        let zero = self.old(&column, prefixed)?;
        let minus = self.operator(b"-");
        if !minus && !self.operator(b"+") {
            return None;
        }
        let begins = self.peek()?;
        if prefixed && !minus && matches!(begins.kind, Kind::Word | Kind::Quoted) {
            return self.excluded(&column)?.then_some(Set::Excluded { column, zero });
        }
        Some(Set::Add(Add { column, zero, minus, amount: self.operand()? }))
    }

    /// Takes `excluded.column`, if `excluded` comes next. None: it is of another column.
    fn excluded(&mut self, column: &str) -> Option<bool> {
        if self.known() == Some("excluded") || !self.word(b"excluded") {
            return Some(false);
        }
        (self.kind(Kind::Dot) && *self.name()? == *column).then_some(true)
    }

    /// What the column had, or with `coalesce(column, 0)`. Returns whether null counts as zero.
    fn old(&mut self, column: &str, prefixed: bool) -> Option<bool> {
        let zero = self.calls(b"coalesce");
        let bare = !self.is_prefixed();
        if bare && prefixed || *self.column()? != *column {
            return None;
        }
        let rest = !zero
            || self.kind(Kind::Comma) && self.operand() == Some(Operand::Number(0)) && self.kind(Kind::Close);
        rest.then_some(zero)
    }

    /// `id = 7`, or the other way round.
    fn key(&mut self) -> Option<(Box<str>, Operand)> {
        let begins = self.peek()?;
        if matches!(begins.kind, Kind::Word | Kind::Quoted) {
            let column = self.column()?;
            return if self.operator(b"=") { Some((column, self.operand()?)) } else { None };
        }
        let operand = self.operand()?;
        if self.operator(b"=") { Some((self.column()?, operand)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Option<String> {
        let increment = increment(text.as_bytes())?;
        let operand = |operand: &Operand| match operand {
            Operand::Number(number) => number.to_string(),
            Operand::Text(text) => format!("'{text}'"),
            Operand::Param(number) => format!("${number}"),
        };
        let adds: Vec<_> = (increment.adds.iter())
            .map(|add| {
                let null = if add.zero { "?" } else { "" };
                format!("{}{null}{}{}", add.column, if add.minus { "-" } else { "+" }, operand(&add.amount))
            })
            .chain(increment.touches.iter().map(|column| format!("{column}!")))
            .collect();
        let keys: Vec<_> =
            increment.keys.iter().map(|(name, key)| format!("{name}={}", operand(key))).collect();
        let schema = increment.schema.map(|schema| format!("{schema}.")).unwrap_or_default();
        let or = if increment.upsert { "or " } else { "" };
        Some(format!("{or}{schema}{} {} {}", increment.table, adds.join(","), keys.join(",")))
    }

    #[test]
    fn what_is_an_increment() {
        for (text, expected) in [
            ("UPDATE photos SET votes = votes + 1 WHERE id = 7", "photos votes+1 id=7"),
            ("update Photos set Votes=votes+1 where ID=7;", "photos votes+1 id=7"),
            ("UPDATE photos SET votes = votes - 2 WHERE id = -7", "photos votes-2 id=-7"),
            ("UPDATE photos SET votes = 3 + votes WHERE 7 = id", "photos votes+3 id=7"),
            ("UPDATE photos SET votes = (votes + 1) WHERE (id = 7)", "photos votes+1 id=7"),
            ("UPDATE photos SET votes = votes + $1 WHERE id = $2", "photos votes+$1 id=$2"),
            ("UPDATE photos SET votes = votes + -1 WHERE id = 7", "photos votes+-1 id=7"),
            (
                "UPDATE public.photos SET votes = photos.votes + 1 WHERE photos.id = 7",
                "public.photos votes+1 id=7",
            ),
            ("UPDATE photos p SET votes = p.votes + 1 WHERE p.id = 7", "photos votes+1 id=7"),
            ("UPDATE ONLY photos AS p SET votes = votes + 1 WHERE id = 7", "photos votes+1 id=7"),
            ("UPDATE \"photos\" SET \"votes\" = \"votes\" + 1 WHERE \"id\" = 7", "photos votes+1 id=7"),
            ("UPDATE t SET a = a + 1, b = b - 2 WHERE x = 1 AND y = 'k'", "t a+1,b-2 x=1,y='k'"),
            ("UPDATE t SET a = coalesce(a, 0) + 1 WHERE x = 1", "t a?+1 x=1"),
            (
                "UPDATE t SET a = 1 + COALESCE(t.a,0), b = (coalesce(b, 0) - $1) WHERE x = $2",
                "t a?+1,b?-$1 x=$2",
            ),
            ("UPDATE t SET a = a + 1, seen = now() WHERE x = 1", "t a+1,seen! x=1"),
            ("UPDATE t SET seen = CURRENT_TIMESTAMP, a = a + 1 WHERE x = 1", "t a+1,seen! x=1"),
            (
                "INSERT INTO t (x, a) VALUES (1, 2) ON CONFLICT (x) DO UPDATE SET a = t.a + excluded.a",
                "or t a+2 x=1",
            ),
            (
                "INSERT INTO s.t AS u (a, x, y) VALUES ($1, $2, 'k') ON CONFLICT (y, x) DO UPDATE SET a = EXCLUDED.a + u.a;",
                "or s.t a+$1 y='k',x=$2",
            ),
            (
                "INSERT INTO t (x, a, seen) VALUES (1, 1, now()) ON CONFLICT (x) DO UPDATE SET a = coalesce(t.a, 0) + 1, seen = now()",
                "or t a?+1,seen! x=1",
            ),
            (
                "INSERT INTO t (x, a) VALUES ($1, $2) ON CONFLICT (x) DO UPDATE SET a = t.a + $2",
                "or t a+$2 x=$1",
            ),
            ("/* so */ UPDATE t SET a = a + 1 -- and\n WHERE x = 'seven'", "t a+1 x='seven'"),
        ] {
            assert_eq!(said(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "SELECT 1",
            "UPDATE photos SET votes = votes + 1",
            "UPDATE photos SET votes = 1 WHERE id = 7",
            "UPDATE photos SET votes = votes + 1 WHERE id = 7 AND votes < 10",
            "UPDATE photos SET votes = votes + 1 WHERE id = 7 OR id = 8",
            "UPDATE photos SET votes = votes + 1 WHERE id = 7 RETURNING votes",
            "UPDATE photos SET votes = votes + 1 WHERE id IN (7)",
            "UPDATE photos SET votes = votes + 1 WHERE id > 7",
            "UPDATE photos SET votes = score + 1 WHERE id = 7",
            "UPDATE photos SET votes = votes + score WHERE id = 7",
            "UPDATE photos SET votes = votes + random() WHERE id = 7",
            "UPDATE photos SET votes = votes * 2 WHERE id = 7",
            "UPDATE photos SET votes = 1 - votes WHERE id = 7",
            "UPDATE photos SET votes = votes + 1.5 WHERE id = 7",
            "UPDATE photos SET votes = votes + 1e3 WHERE id = 7",
            "UPDATE photos SET votes = votes + '1' WHERE id = 7",
            "UPDATE photos SET votes = votes + NULL WHERE id = 7",
            "UPDATE photos SET votes = votes + 1 + 1 WHERE id = 7",
            "UPDATE photos SET votes = votes + 1, votes = votes + 1 WHERE id = 7",
            "UPDATE photos SET votes = votes + 1 WHERE id = 7 AND id = 8",
            "UPDATE photos SET votes = other.votes + 1 WHERE id = 7",
            "UPDATE photos p SET votes = photos.votes + 1 WHERE id = 7",
            "UPDATE photos SET votes = votes + 1 FROM users WHERE id = 7",
            "UPDATE photos SET (votes) = (votes + 1) WHERE id = 7",
            "UPDATE photos SET votes = votes + 1 WHERE id = E'7'",
            "UPDATE photos SET votes = votes + 1 WHERE id = 'a''b'",
            "UPDATE photos SET votes = votes + 1 WHERE id = 7; SELECT 1",
            "WITH x AS (SELECT 1) UPDATE photos SET votes = votes + 1 WHERE id = 7",
            "UPDATE photos SET votes = votes + 99999999999999999999 WHERE id = 7",
            "UPDATE photos SET votes = votes + 1 WHERE (id = 7",
            "UPDATE photos SET votes = votes + 1 WHERE id = (SELECT 7)",
            "UPDATE photos SET votes = votes + 1 WHERE id = 7::int",
            "UPDATE photos SET votes = votes + 1 WHERE CURRENT OF c",
            "UPDATE a.b.photos SET votes = votes + 1 WHERE id = 7",
            "UPDATE photos * SET votes = votes + 1 WHERE id = 7",
            "UPDATE t SET a = coalesce(a, 1) + 1 WHERE x = 1",
            "UPDATE t SET a = coalesce(b, 0) + 1 WHERE x = 1",
            "UPDATE t SET a = coalesce(a, 0, 0) + 1 WHERE x = 1",
            "UPDATE t SET a = coalesce(a + 1, 0) WHERE x = 1",
            "UPDATE t SET seen = now() WHERE x = 1",
            "UPDATE t SET a = a + 1, seen = now() - '1 day' WHERE x = 1",
            "UPDATE t SET a = a + excluded.a WHERE x = 1",
            "INSERT INTO t (x, a) VALUES (1, 1)",
            "INSERT INTO t (x, a) VALUES (1, 1) ON CONFLICT DO NOTHING",
            "INSERT INTO t (x, a) VALUES (1, 1) ON CONFLICT (x) DO UPDATE SET a = a + 1",
            "INSERT INTO t (x, a) VALUES (1, 0) ON CONFLICT (x) DO UPDATE SET a = t.a + 1",
            "INSERT INTO t (x, a) VALUES (1, -1) ON CONFLICT (x) DO UPDATE SET a = t.a - 1",
            "INSERT INTO t (x, a) VALUES (1, 1) ON CONFLICT (x) DO UPDATE SET a = excluded.a",
            "INSERT INTO t (x, a) VALUES (1, 1) ON CONFLICT (x) DO UPDATE SET a = excluded.a + 1",
            "INSERT INTO t (x, a, b) VALUES (1, 1, 1) ON CONFLICT (x) DO UPDATE SET a = t.a + 1",
            "INSERT INTO t (x) VALUES (1) ON CONFLICT (x) DO UPDATE SET a = t.a + 1",
            "INSERT INTO t (x, a) VALUES (1, 1), (2, 1) ON CONFLICT (x) DO UPDATE SET a = t.a + 1",
            "INSERT INTO t (x, a) VALUES (1, 1) ON CONFLICT (x) DO UPDATE SET a = t.a + 1 WHERE t.a < 5",
            "INSERT INTO t (x, a) VALUES (1, 1) ON CONFLICT (x) DO UPDATE SET a = t.a + 1 RETURNING a",
            "INSERT INTO t (x, a) VALUES (1, 1) ON CONFLICT ON CONSTRAINT k DO UPDATE SET a = t.a + 1",
            "INSERT INTO t (x, a) VALUES (1, DEFAULT) ON CONFLICT (x) DO UPDATE SET a = t.a + 1",
            "INSERT INTO t (x, a, seen) VALUES (1, 1, now()) ON CONFLICT (x) DO UPDATE SET a = t.a + 1",
            "INSERT INTO t (x, x) VALUES (1, 1) ON CONFLICT (x) DO UPDATE SET x = t.x + 1",
        ] {
            assert_eq!(said(text), None, "{text}");
        }
    }
}
