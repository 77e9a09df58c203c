//! What a client adds to a row, and the one form in which equal values are equal. Pure.

use std::sync::Arc;

use super::statement::Names;

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

/// What a client adds to a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Add {
    /// The column's place in the rule.
    pub column: usize,
    /// Null counts as zero.
    pub zero: bool,
    /// It is taken away.
    pub minus: bool,
    /// How much.
    pub amount: Value,
}

/// What a client adds to one row.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Given {
    /// A row that is not there is inserted.
    pub upsert: bool,
    /// The schema, if the statement names one that the rule does not.
    pub schema: Option<Box<str>>,
    /// The rule names a schema that the statement does not.
    pub bare: bool,
    /// In the order of the rule's key.
    pub key: Vec<Value>,
    /// Each column once.
    pub adds: Vec<Add>,
    /// The columns that become the time of the statement, by their places in the rule.
    pub touches: Vec<usize>,
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
    /// `real` or `double precision`, where the rule allows it.
    Float,
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
            (Self::Text | Self::Numeric | Self::Float, _) => None,
        }
    }
}

/// The value of a key column. Two are equal if and only if the server takes them for equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
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
        let elsewhere = self.schema.as_ref().is_some_and(|schema| *schema != names.schema);
        if elsewhere || self.bare && !names.bare {
            return None;
        }
        let key = self
            .key
            .iter()
            .zip(&names.key_kinds)
            .map(|(value, kind)| kind.key(value))
            .collect::<Option<_>>()?;
        let mut adds = Vec::with_capacity(self.adds.len());
        for Add { column, zero, minus, amount } in &self.adds {
            let amount = names.column_kinds.get(*column)?.number(amount)?;
            adds.push((*column, *zero, if *minus { amount.checked_neg()? } else { amount }));
        }
        adds.sort_unstable();
        let mut touches = self.touches.clone();
        touches.sort_unstable();
        let amounts = adds.iter().map(|(.., amount)| *amount).collect();
        let columns = adds.into_iter().map(|(column, zero, _)| (column, zero)).collect();
        Some(Addition { shape: Arc::new(Shape { upsert: self.upsert, columns, touches }), key, amounts })
    }
}

/// What additions have in common that one statement can carry out.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub(super) struct Shape {
    /// A row that is not there is inserted.
    pub upsert: bool,
    /// The columns, by their places in the rule, in order; and whether null counts as zero.
    pub columns: Vec<(usize, bool)>,
    /// The columns that become the time of the statement, in order.
    pub touches: Vec<usize>,
}

/// What is added to one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Addition {
    pub shape: Arc<Shape>,
    /// In the order of the rule's key.
    pub key: Vec<Key>,
    /// For each column of the shape.
    pub amounts: Vec<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

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
            adds: vec![
                Add { column: 1, zero: true, minus: true, amount: Value::Number(5) },
                Add { column: 0, zero: false, minus: false, amount: Value::Binary(Box::new([0, 0, 1, 0])) },
            ],
            ..Given::default()
        };
        let names = Names {
            key_kinds: vec![Kind::Integer(4)],
            column_kinds: vec![Kind::Integer(4), Kind::Numeric],
            ..Names::default()
        };
        let shape = Shape { columns: vec![(0, false), (1, true)], ..Shape::default() };
        let fits = Addition { shape: Arc::new(shape), key: vec![Key::Number(7)], amounts: vec![256, -5] };
        assert_eq!(given.fit(&names), Some(fits));
        assert_eq!(Given { schema: Some("other".into()), ..given }.fit(&names), None);
    }
}
