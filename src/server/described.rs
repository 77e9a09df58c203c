//! What a server says of a prepared statement when it is asked (Describe): the types of its parameters, and its columns.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;

use ahash::{AHasher, RandomState};

/// Longest name of a column that counts; PostgreSQL's are shorter.
const MOST_NAME: usize = 1024;

/// Of what stands behind a column's name, the bytes of its type, its size and its type modifier: what PostgreSQL itself compares
/// when a plan is made anew (`RevalidateCachedQuery` in backend/utils/cache/plancache.c). The table that a column comes from and the format
/// that it is sent in may differ.
const COUNTS: std::ops::Range<usize> = 6..16;

/// How many bytes stand there.
const FIELDS: usize = 18;

/// What a server has said of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// The types of its parameters; none: of its columns alone was spoken, as when a portal is described.
    pub parameters: Option<Arc<[u32]>>,
    /// A hash of its columns, see [`Columns`].
    pub columns: u64,
}

/// Whether a server has a statement as its client was told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// It has.
    Same,
    /// It has another.
    Other,
    /// It has not said.
    Unknown,
}

impl Description {
    /// Whether what a server has, as far as it has said, is what was told. `columns`: whether these count.
    #[must_use]
    pub fn fit(&self, there: Option<&Self>, columns: bool) -> Fit {
        let of = there.and_then(|there| there.parameters.as_ref());
        match (self.parameters.as_ref(), of) {
            (Some(told), Some(of)) if told != of => return Fit::Other,
            _ => {}
        }
        match there {
            Some(there) if columns && there.columns != self.columns => Fit::Other,
            Some(_) if self.parameters.is_some() && of.is_none() => Fit::Unknown,
            None if columns || self.parameters.is_some() => Fit::Unknown,
            _ => Fit::Same,
        }
    }
}

/// The types in a ParameterDescription, which is all there.
#[must_use]
pub fn parameters(body: &[u8]) -> Arc<[u32]> {
    let types = body.get(2..).unwrap_or_default().as_chunks().0;
    types.iter().map(|of| u32::from_be_bytes(*of)).collect()
}

/// Hashes the columns of a RowDescription, of which one part after the other is at hand.
#[derive(Clone, Debug)]
pub struct Columns {
    hasher: AHasher,
    /// Of the number of columns, which comes first, so many bytes are to come.
    count: usize,
    column: Vec<u8>,
    /// How far behind its name; none: the name has not ended.
    field: Option<usize>,
}

impl Default for Columns {
    fn default() -> Self {
        // The same for all of them, so that they can be compared.
        Self {
            hasher: RandomState::with_seeds(1, 2, 3, 4).build_hasher(),
            count: 2,
            column: Vec::new(),
            field: None,
        }
    }
}

impl Columns {
    /// Takes more of it.
    pub fn feed(&mut self, part: &[u8]) {
        for byte in part {
            match self.field {
                _ if self.count > 0 => self.count -= 1,
                None if *byte == 0 => {
                    self.column.push(0);
                    self.field = Some(0);
                }
                None if self.column.len() < MOST_NAME => self.column.push(*byte),
                None => {}
                Some(at) => {
                    if COUNTS.contains(&at) {
                        self.column.push(*byte);
                    }
                    self.field = Some(at + 1);
                    if at + 1 == FIELDS {
                        self.hasher.write(&self.column);
                        self.column.clear();
                        self.field = None;
                    }
                }
            }
        }
    }

    /// The hash of what was taken; of a statement without columns (NoData) nothing was.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, table: u8, of: u8, modifier: u8, format: u8) -> Vec<u8> {
        let fields = [0, 0, 0, table, 0, table, 0, 0, 0, of, 0, 4, 0, 0, 0, modifier, 0, format];
        [name.as_bytes(), b"\0", &fields].concat()
    }

    fn hash(columns: &[Vec<u8>]) -> u64 {
        let body = [&[0, u8::try_from(columns.len()).unwrap()], &*columns.concat()].concat();
        let mut whole = Columns::default();
        whole.feed(&body);
        for cut in 0..body.len() {
            let mut parts = Columns::default();
            parts.feed(&body[..cut]);
            parts.feed(&body[cut..]);
            assert_eq!(parts.hash(), whole.hash(), "cut at {cut}");
        }
        whole.hash()
    }

    #[test]
    fn names_types_and_modifiers_count() {
        let one = hash(&[column("a", 1, 23, 0, 0), column("b", 1, 25, 0, 0)]);
        assert_eq!(one, hash(&[column("a", 9, 23, 0, 1), column("b", 9, 25, 0, 1)]));
        for other in [
            vec![],
            vec![column("a", 1, 23, 0, 0)],
            vec![column("b", 1, 25, 0, 0), column("a", 1, 23, 0, 0)],
            vec![column("a", 1, 24, 0, 0), column("b", 1, 25, 0, 0)],
            vec![column("a", 1, 23, 1, 0), column("b", 1, 25, 0, 0)],
            vec![column("A", 1, 23, 0, 0), column("b", 1, 25, 0, 0)],
        ] {
            assert_ne!(one, hash(&other), "{other:?}");
        }
        assert_eq!(hash(&[]), Columns::default().hash());
    }

    #[test]
    fn what_was_not_said_is_asked_for() {
        let of = |parameters: Option<&[u32]>, columns| Description {
            parameters: parameters.map(Into::into),
            columns,
        };
        let told = of(Some(&[23]), 1);
        for (there, columns, fit) in [
            (Some(of(Some(&[23]), 1)), true, Fit::Same),
            (Some(of(Some(&[23]), 2)), true, Fit::Other),
            (Some(of(Some(&[23]), 2)), false, Fit::Same),
            (Some(of(Some(&[25]), 1)), false, Fit::Other),
            (Some(of(None, 1)), true, Fit::Unknown),
            (Some(of(None, 2)), true, Fit::Other),
            (None, false, Fit::Unknown),
        ] {
            assert_eq!(told.fit(there.as_ref(), columns), fit, "{there:?}");
        }
        let portal = of(None, 1);
        assert_eq!((portal.fit(None, true), portal.fit(None, false)), (Fit::Unknown, Fit::Same));
        assert_eq!(portal.fit(Some(&told), true), Fit::Same);
        assert_eq!(&*parameters(b"\0\x02\0\0\0\x17\0\0\0\x19"), [23, 25]);
    }
}
