//! What one client said last: a client that says the same again, with other numbers in it, is not judged again.

use super::catalog::Scope;
use super::facts::{Class, Facts};
use super::judge::Judge;
use super::reason::Reason;

/// Longest text that is remembered: the memory is each client's own.
const LIMIT: usize = 256;

/// Most numbers in it.
const NUMBERS: usize = 8;

/// The last text of a client and its facts.
#[derive(Debug)]
pub struct Memo {
    text: Vec<u8>,
    /// Where in the text numbers stand alone: the first `count` of these, each from and to.
    numbers: [(u16, u16); NUMBERS],
    count: usize,
    /// [`Scope::key`] of the scope that it was judged in.
    scope: u64,
    facts: Facts,
}

impl Default for Memo {
    fn default() -> Self {
        Memo { text: Vec::new(), numbers: [(0, 0); NUMBERS], count: 0, scope: 0, facts: Facts::EMPTY }
    }
}

impl Memo {
    /// The facts of a text: those of the last one if the two differ only in numbers, else the judge's.
    pub fn facts(&mut self, text: &[u8], judge: &Judge, scope: &Scope) -> Facts {
        if !self.text.is_empty()
            && self.scope == scope.key()
            && self.is_like(text)
            && judge.is_current(self.facts)
        {
            return self.facts;
        }
        let facts = judge.facts(text, scope);
        self.text.clear();
        if may_vary(text, facts) && !scope.rules().minds_literals() && self.find_numbers(text) {
            self.text.extend_from_slice(text);
            self.facts = facts;
            self.scope = scope.key();
        }
        facts
    }

    /// Whether a text is the last one but for whole numbers that stand alone. Up to such a number both were read alike, so it
    /// is a number, or text in a string, in both.
    fn is_like(&self, text: &[u8]) -> bool {
        let mut rest = text;
        let mut from = 0;
        for (start, end) in self.numbers.iter().take(self.count).copied() {
            let same = self.text.get(from..usize::from(start)).unwrap_or_default();
            let Some(after) = rest.strip_prefix(same) else { return false };
            let digits = digits(after);
            if digits == 0 {
                return false;
            }
            rest = after.get(digits..).unwrap_or_default();
            from = usize::from(end);
        }
        self.text.get(from..).unwrap_or_default() == rest
    }

    /// Notes where numbers stand alone: between spaces, commas, operators, parentheses or single quotes. False: there are too
    /// many.
    fn find_numbers(&mut self, text: &[u8]) -> bool {
        self.count = 0;
        let mut before = b' ';
        let mut at = 0;
        while let Some(byte) = text.get(at).copied() {
            let rest = text.get(at..).unwrap_or_default();
            let length = digits(rest);
            if length > 0 && may_precede(before) && may_follow(rest.get(length)) {
                let (Some(slot), Ok(start), Ok(end)) =
                    (self.numbers.get_mut(self.count), u16::try_from(at), u16::try_from(at + length))
                else {
                    return false;
                };
                *slot = (start, end);
                self.count += 1;
            }
            before = byte;
            at += length.max(1);
        }
        true
    }
}

/// Whether other numbers in this text cannot mean anything else to the judge. Not in EXPLAIN and session statements, where
/// a number can be the value of an option, nor where one could follow another statement; not where a number could be part of a
/// quoted name, a dollar quote or an escape.
fn may_vary(text: &[u8], facts: Facts) -> bool {
    text.len() <= LIMIT
        && matches!(facts.class, Class::Read | Class::Write)
        && !facts.pins
        // What was learned is forgotten again.
        && facts.reason != Reason::Learned
        && !text.trim_ascii_start().first().is_some_and(|first| matches!(first, b'e' | b'E' | b'/' | b'-'))
        && !text.iter().any(|byte| matches!(byte, b'"' | b'$' | b'\\'))
        && !text.trim_ascii_end().split_last().is_some_and(|(_, before)| before.contains(&b';'))
}

/// How many digits a text begins with.
fn digits(text: &[u8]) -> usize {
    text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len())
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
    use crate::sql::{Kind, Lexer};

    #[test]
    fn numbers_alone_may_differ() {
        let same = |one: &str, other: &str| {
            let mut memo = Memo { text: one.into(), ..Memo::default() };
            assert!(memo.find_numbers(one.as_bytes()));
            memo.is_like(other.as_bytes())
        };
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
        let facts = |memo: &mut Memo, text: &str| {
            memo.facts(text.as_bytes(), &judge, &Scope::without_catalog()).class
        };
        let hidden = "DROP TABLE t; EXPLAIN (ANALYZE 0) SELECT pg_advisory_lock(1)";
        for text in ["EXPLAIN (ANALYZE 0) SELECT 1", hidden, "SELECT \"f 1\"()", "SET a = 1", "BEGIN"] {
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
            memo.facts(text.as_bytes(), &judge, &Scope::without_catalog());
            let other = other.join(" ");
            let scope = Scope::without_catalog();
            let (told, judged) = (memo.facts(other.as_bytes(), &judge, &scope), judge.facts(other.as_bytes(), &scope));
            let open = Lexer::new(other.as_bytes()).any(|token| token.kind == Kind::Unterminated);
            // A number in what is not closed is part of the shape; nothing else in which the two may differ is.
            let same = told.shape == judged.shape || open;
            prop_assert!(same && told == Facts { shape: told.shape, ..judged }, "{:?} {:?}", told, judged);
        }
    }
}
