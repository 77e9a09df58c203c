//! What one client said last: a client that says the same again, with other numbers in it, is not judged again.

use super::facts::{Class, Facts};
use super::judge::Judge;

/// Longest text that is remembered: the memory is each client's own.
const LIMIT: usize = 256;

/// The last text of a client and its facts.
#[derive(Debug)]
pub struct Memo {
    text: Vec<u8>,
    facts: Facts,
}

impl Default for Memo {
    fn default() -> Self {
        Memo { text: Vec::new(), facts: Facts::EMPTY }
    }
}

impl Memo {
    /// The facts of a text: those of the last one if the two differ only in numbers, else the judge's.
    pub fn facts(&mut self, text: &[u8], judge: &Judge) -> Facts {
        if !self.text.is_empty() && differ_in_numbers_only(&self.text, text) {
            return self.facts;
        }
        let facts = judge.facts(text);
        self.text.clear();
        if may_vary(text, facts) {
            self.text.extend_from_slice(text);
            self.facts = facts;
        }
        facts
    }
}

/// Whether other numbers in this text cannot mean anything else to the judge. Not in EXPLAIN and session statements, where
/// a number can be the value of an option; not where a number could be part of a quoted name, a dollar quote or an escape.
fn may_vary(text: &[u8], facts: Facts) -> bool {
    text.len() <= LIMIT
        && matches!(facts.class, Class::Read | Class::Write)
        && !facts.pins
        && !text.trim_ascii_start().first().is_some_and(|first| matches!(first, b'e' | b'E' | b'/' | b'-'))
        && !text.iter().any(|byte| matches!(byte, b'"' | b'$' | b'\\'))
}

/// Whether two texts are the same but for whole numbers that stand alone: between spaces, commas, operators or single
/// quotes. Up to such a number both were read alike, so it is a number, or text in a string, in both.
fn differ_in_numbers_only(one: &[u8], other: &[u8]) -> bool {
    let (mut left, mut right) = (one, other);
    let mut before = b' ';
    loop {
        match (left, right) {
            ([], []) => return true,
            ([a, ..], [b, ..]) if a.is_ascii_digit() && b.is_ascii_digit() && may_precede(before) => {
                left = skip_digits(left);
                right = skip_digits(right);
                if !may_follow(left.first()) || !may_follow(right.first()) {
                    return false;
                }
                before = b'0';
            }
            ([a, rest_left @ ..], [b, rest_right @ ..]) if a == b => {
                before = *a;
                left = rest_left;
                right = rest_right;
            }
            _ => return false,
        }
    }
}

fn skip_digits(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

fn may_precede(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'=' | b'<' | b'>' | b'(' | b',' | b'+' | b'-' | b'*' | b'\'')
}

fn may_follow(byte: Option<&u8>) -> bool {
    let apart = |byte: &u8| {
        matches!(byte, b' ' | b'\n' | b';' | b')' | b',' | b'=' | b'<' | b'>' | b'+' | b'-' | b'*' | b'\'')
    };
    byte.is_none_or(apart)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::judge::JudgeOptions;
    use super::*;

    #[test]
    fn numbers_alone_may_differ() {
        let same = |one: &str, other: &str| differ_in_numbers_only(one.as_bytes(), other.as_bytes());
        assert!(same("SELECT a FROM t WHERE id = 1;", "SELECT a FROM t WHERE id = 20417;"));
        assert!(same("SELECT a FROM t WHERE id IN (1, 2)", "SELECT a FROM t WHERE id IN (3, 45)"));
        assert!(!same("SELECT f1(2)", "SELECT f2(2)"));
        assert!(!same("SELECT a FROM t WHERE id = 1", "SELECT a FROM t WHERE id = 1 FOR UPDATE"));
        assert!(!same("SELECT 0x1F", "SELECT 1x1F"));
        assert!(!same("SELECT 1.5", "SELECT 2.5"));
        assert!(!same("SELECT 1", "SELECT a"));
        assert!(!same("SELECT 1", "SELECT "));
    }

    #[test]
    fn what_may_mean_more_is_judged_anew() {
        let judge = Judge::new(JudgeOptions::default());
        let mut memo = Memo::default();
        let facts = |memo: &mut Memo, text: &str| memo.facts(text.as_bytes(), &judge).class;
        for text in ["EXPLAIN (ANALYZE 0) SELECT 1", "SELECT \"f 1\"()", "SET a = 1", "BEGIN"] {
            facts(&mut memo, text);
            assert!(memo.text.is_empty(), "{text}");
        }
        assert_eq!(facts(&mut memo, "SELECT a FROM t WHERE id = 1"), Class::Read);
        assert_eq!(facts(&mut memo, "SELECT a FROM t WHERE id = 2"), Class::Read);
        assert!(!memo.text.is_empty());
    }

    proptest! {
        /// Whatever the numbers, the memory says what the judge says.
        #[test]
        fn memory_and_judge_agree(
            parts in prop::collection::vec(prop::sample::select(vec![
                "SELECT", "FROM t", "WHERE", "id =", "(", ")", ",", "'", "1", "22", "--", "/*", "*/", "\n", ";", "DELETE", "f", "FOR",
                "UPDATE", "lower(", "nextval(", "INTO", "x", "-", "*", " ", "=", "LIMIT", "E'", "$$", "\"",
            ]), 1..14),
            numbers in prop::collection::vec(0u32..1000, 14),
        ) {
            let judge = Judge::new(JudgeOptions::default());
            let text = parts.join(" ");
            let mut numbers = numbers.iter();
            let other: Vec<_> = parts
                .iter()
                .map(|part| if part.starts_with(|c: char| c.is_ascii_digit()) {
                    numbers.next().map_or_else(|| (*part).to_owned(), ToString::to_string)
                } else {
                    (*part).to_owned()
                })
                .collect();
            let mut memo = Memo::default();
            memo.facts(text.as_bytes(), &judge);
            let other = other.join(" ");
            prop_assert_eq!(memo.facts(other.as_bytes(), &judge), judge.facts(other.as_bytes()));
        }
    }
}
