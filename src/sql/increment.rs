//! A text that adds constants to columns of the row with a key, and does nothing else:
//! `UPDATE photos SET votes = votes + 1 WHERE id = 7`.

use std::ops::{Deref, DerefMut};

use super::lex::Kind;
use super::reader::Reader;

/// More tokens than this no such text has.
const MOST_TOKENS: usize = 128;

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
    /// It is taken away.
    pub minus: bool,
    /// How much.
    pub amount: Operand,
}

/// What such a text does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Increment {
    /// The schema, if the text names one.
    pub schema: Option<Box<str>>,
    /// The table.
    pub table: Box<str>,
    /// What is added, in the order of the text; each column once.
    pub adds: Vec<Add>,
    /// Columns and what they must be equal to; each column once.
    pub keys: Vec<(Box<str>, Operand)>,
}

/// What a text does that is an increment and nothing else; none: it is something else, or not spelled simply.
#[must_use]
pub fn increment(text: &[u8]) -> Option<Increment> {
    let reader = Reader::new(text, MOST_TOKENS)?;
    let mut speller = Speller { reader, target: None, alias: None };
    let increment = speller.update()?;
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

impl Speller<'_> {
    fn update(&mut self) -> Option<Increment> {
        if !self.word(b"update") {
            return None;
        }
        self.word(b"only");
        let (mut schema, mut table) = (None, self.name()?);
        if self.kind(Kind::Dot) {
            schema = Some(std::mem::replace(&mut table, self.name()?));
        }
        if !self.word(b"set") {
            self.word(b"as");
            self.alias = Some(self.name()?);
            if !self.word(b"set") {
                return None;
            }
        }
        self.target = Some(table.clone());
        let mut adds: Vec<Add> = Vec::new();
        loop {
            let add = self.add()?;
            if adds.iter().any(|known| known.column == add.column) {
                return None;
            }
            adds.push(add);
            if !self.kind(Kind::Comma) {
                break;
            }
        }
        if !self.word(b"where") {
            return None;
        }
        let mut keys: Vec<(Box<str>, Operand)> = Vec::new();
        loop {
            let open = self.kind(Kind::Open);
            let key = self.key()?;
            if open && !self.kind(Kind::Close) || keys.iter().any(|(known, _)| *known == key.0) {
                return None;
            }
            keys.push(key);
            if !self.word(b"and") {
                break;
            }
        }
        Some(Increment { schema, table, adds, keys })
    }

    /// A column, by itself or behind the table's name or alias.
    fn column(&mut self) -> Option<Box<str>> {
        let name = self.name()?;
        if !self.kind(Kind::Dot) {
            return Some(name);
        }
        let known = self.alias.as_ref().or(self.target.as_ref());
        if known != Some(&name) {
            return None;
        }
        self.name()
    }

    /// `votes = votes + 1`, or the other way round.
    fn add(&mut self) -> Option<Add> {
        let column = self.name()?;
        if !self.operator(b"=") {
            return None;
        }
        let open = self.kind(Kind::Open);
        let begins = self.peek()?;
        let (minus, amount) = if matches!(begins.kind, Kind::Word | Kind::Quoted) {
            let same = self.column()? == column;
            let minus = self.operator(b"-");
            if !same || !minus && !self.operator(b"+") {
                return None;
            }
            (minus, self.operand()?)
        } else {
            let amount = self.operand()?;
            if !self.operator(b"+") || self.column()? != column {
                return None;
            }
            (false, amount)
        };
        if open && !self.kind(Kind::Close) || matches!(amount, Operand::Text(_)) {
            return None;
        }
        Some(Add { column, minus, amount })
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
            .map(|add| format!("{}{}{}", add.column, if add.minus { "-" } else { "+" }, operand(&add.amount)))
            .collect();
        let keys: Vec<_> =
            increment.keys.iter().map(|(name, key)| format!("{name}={}", operand(key))).collect();
        let schema = increment.schema.map(|schema| format!("{schema}.")).unwrap_or_default();
        Some(format!("{schema}{} {} {}", increment.table, adds.join(","), keys.join(",")))
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
            ("/* so */ UPDATE t SET a = a + 1 -- and\n WHERE x = 'seven'", "t a+1 x='seven'"),
        ] {
            assert_eq!(said(text).as_deref(), Some(expected), "{text}");
        }
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
        ] {
            assert_eq!(said(text), None, "{text}");
        }
    }
}
