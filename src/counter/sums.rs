//! What waits to be flushed: one sum for each row. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::merge::{Addition, Key, Shape};

/// What a row gets, and of how many increments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Sum {
    pub(super) amounts: Vec<i64>,
    pub(super) count: u64,
}

/// The increments of one account from one number to another, without the first and with the last.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Sums {
    rows: HashMap<Vec<Key>, Sum>,
    count: u64,
    pub(super) from: u64,
    /// Some numbers before it may be nobody's.
    pub(super) to: u64,
}

impl Sums {
    /// None, behind that one.
    pub(super) fn after(number: u64) -> Self {
        Self { from: number, to: number, ..Self::default() }
    }

    /// The same; the numbers from there up to that one are nobody's.
    pub(super) fn up_to(self, number: u64) -> Self {
        Self { to: number, ..self }
    }

    /// How many rows they are.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// How many they are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds the next one. False: the sum would be too large for it.
    pub(super) fn add(&mut self, key: &[Key], amounts: &[i64]) -> bool {
        let added = self.put(key, amounts, 1);
        self.to += u64::from(added);
        self.count += u64::from(added);
        added
    }

    fn put(&mut self, key: &[Key], amounts: &[i64], count: u64) -> bool {
        let Some(sum) = self.rows.get_mut(key) else {
            self.rows.insert(key.to_vec(), Sum { amounts: amounts.to_vec(), count });
            return true;
        };
        let more = sum.amounts.iter().zip(amounts).map(|(sum, more)| sum.checked_add(*more)).collect();
        let Some(more) = more else { return false };
        *sum = Sum { amounts: more, count: sum.count + count };
        true
    }

    /// Adds what comes behind it. What does not fit any more is returned: it is for another statement.
    pub(super) fn join(&mut self, other: Self) {
        for (key, sum) in other.rows {
            // Whole sums are within 2^63 each; if two are not together, the counter could not take them either.
            if !self.put(&key, &sum.amounts, sum.count)
                && let Some(mine) = self.rows.get_mut(&key)
            {
                for (mine, more) in mine.amounts.iter_mut().zip(&sum.amounts) {
                    *mine = mine.saturating_add(*more);
                }
                mine.count += sum.count;
            }
        }
        self.count += other.count;
        self.to = self.to.max(other.to);
    }

    /// As additions of that shape; with each, how many increments it is.
    pub(super) fn additions(&self, shape: &Arc<Shape>) -> Vec<(Addition, u64)> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|one, other| one.0.cmp(other.0));
        rows.into_iter()
            .map(|(key, sum)| {
                let addition =
                    Addition { shape: shape.clone(), key: key.clone(), amounts: sum.amounts.clone() };
                (addition, sum.count)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sum_for_each_row() {
        let key = |number: i64| [Key::Number(number)];
        let mut sums = Sums::after(10);
        assert!(sums.is_empty());
        for (number, amount) in [(7, 1), (9, 5), (7, 2)] {
            assert!(sums.add(&key(number), &[amount]));
        }
        assert!(!sums.add(&key(9), &[i64::MAX]));
        assert_eq!((sums.from, sums.to, sums.count(), sums.rows()), (10, 13, 3, 2));
        let mut more = Sums::after(13);
        assert!(more.add(&key(7), &[-1]));
        sums.join(more);
        let shape = Arc::new(Shape::default());
        let all: Vec<_> =
            sums.additions(&shape).into_iter().map(|(one, count)| (one.key, one.amounts, count)).collect();
        assert_eq!(all, [(key(7).to_vec(), vec![2], 3), (key(9).to_vec(), vec![5], 1)]);
        assert_eq!(sums.to, 14);
    }
}
