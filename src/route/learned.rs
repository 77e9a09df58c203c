//! What replicas have refused: shapes and functions that count as writes for a while, whatever their text says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ahash::RandomState;

use crate::clock::{Duration, Instant};
use crate::sql::{Name, Shape};

/// Most bytes of a text that are kept to show it.
const TEXT: usize = 200;

/// What a replica said when it refused a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal<'a> {
    /// The SQLSTATE.
    pub code: &'a [u8],
    /// The message.
    pub message: &'a [u8],
    /// Where in functions it happened, outermost last; empty if in none.
    pub context: &'a [u8],
}

/// A shape that was learned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Learned {
    /// How the first text of that shape begins.
    pub text: String,
    /// The SQLSTATE that a replica gave.
    pub code: String,
    /// How often one was refused.
    pub count: u64,
    /// When the first one was.
    pub since: Instant,
}

#[derive(Debug, Default)]
struct Memory {
    shapes: HashMap<Shape, Learned, RandomState>,
    /// Functions by the last part of their names, and when each was learned.
    functions: HashMap<Box<[u8]>, Instant, RandomState>,
}

/// See the module. Shared by all clients; empty, it costs one load of a number to ask.
#[derive(Debug)]
pub(super) struct Lessons {
    memory: Mutex<Memory>,
    shapes: AtomicUsize,
    functions: AtomicUsize,
    most: usize,
    ttl: Duration,
}

impl Lessons {
    /// Room for that many shapes, and for as many functions, each for so long.
    pub(super) fn new(most: usize, ttl: Duration) -> Lessons {
        Lessons {
            memory: Mutex::default(),
            shapes: AtomicUsize::new(0),
            functions: AtomicUsize::new(0),
            most,
            ttl,
        }
    }

    /// Whether that shape was refused.
    pub(super) fn has_shape(&self, shape: Shape) -> bool {
        self.shapes.load(Ordering::Relaxed) > 0 && self.locked(|memory| memory.shapes.contains_key(&shape))
    }

    /// Whether a function of that name was why.
    pub(super) fn has_function(&self, name: Name<'_>) -> bool {
        self.functions.load(Ordering::Relaxed) > 0
            && self.locked(|memory| memory.functions.contains_key(name.last))
    }

    /// A text of that shape was refused. True: it is the first one.
    pub(super) fn add(&self, shape: Shape, text: &[u8], refusal: &Refusal<'_>, now: Instant) -> bool {
        if self.most == 0 {
            return false;
        }
        self.locked(|memory| {
            if let Some(name) = function(refusal) {
                if memory.functions.len() >= self.most && !memory.functions.contains_key(&name) {
                    drop_oldest(&mut memory.functions, |since| *since);
                }
                memory.functions.entry(name).or_insert(now);
            }
            if let Some(known) = memory.shapes.get_mut(&shape) {
                known.count += 1;
                return false;
            }
            if memory.shapes.len() >= self.most {
                drop_oldest(&mut memory.shapes, |learned| learned.since);
            }
            let begins = text.get(..text.len().min(TEXT)).unwrap_or_default();
            let learned = Learned {
                text: String::from_utf8_lossy(begins).into_owned(),
                code: String::from_utf8_lossy(refusal.code).into_owned(),
                count: 1,
                since: now,
            };
            memory.shapes.insert(shape, learned);
            true
        })
    }

    /// Forgets what was learned too long ago. What holds only for a while may hold no longer: a function was changed.
    pub(super) fn expire(&self, now: Instant) {
        if self.shapes.load(Ordering::Relaxed) + self.functions.load(Ordering::Relaxed) > 0 {
            self.locked(|memory| {
                let fresh = |since: Instant| now.saturating_duration_since(since) < self.ttl;
                memory.shapes.retain(|_, learned| fresh(learned.since));
                memory.functions.retain(|_, since| fresh(*since));
            });
        }
    }

    /// All shapes, those refused most often first.
    pub(super) fn all(&self) -> Vec<Learned> {
        let mut all: Vec<_> = self.locked(|memory| memory.shapes.values().cloned().collect());
        all.sort_by_key(|learned| std::cmp::Reverse(learned.count));
        all
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut memory);
        self.shapes.store(memory.shapes.len(), Ordering::Relaxed);
        self.functions.store(memory.functions.len(), Ordering::Relaxed);
        done
    }
}

fn drop_oldest<K: Clone + Eq + std::hash::Hash, V>(
    map: &mut HashMap<K, V, RandomState>,
    since: impl Fn(&V) -> Instant,
) {
    if let Some(oldest) = map.iter().min_by_key(|(_, value)| since(value)).map(|(key, _)| key.clone()) {
        map.remove(&oldest);
    }
}

/// The function that the statement called, if the refusal names one in English: the outermost of its context, or the one
/// in the message. Any schema: where it was found is not said.
fn function(refusal: &Refusal<'_>) -> Option<Box<[u8]>> {
    let outermost = str::from_utf8(refusal.context).ok()?.lines().rev().find_map(|line| {
        let rest = line.strip_prefix("PL/pgSQL function ").or_else(|| line.strip_prefix("SQL function "))?;
        match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').map(|(name, _)| name),
            None => rest.split_once('(').map(|(name, _)| name),
        }
    });
    let name = outermost.or_else(|| {
        let message = str::from_utf8(refusal.message).ok()?;
        message.strip_prefix("cannot execute ")?.split_once("()").map(|(name, _)| name)
    })?;
    let last = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
    (!last.is_empty() && !last.contains(' ')).then(|| last.as_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<'a>(message: &'a str, context: &'a str) -> Refusal<'a> {
        Refusal { code: b"25006", message: message.as_bytes(), context: context.as_bytes() }
    }

    #[test]
    fn the_outermost_function_is_named() {
        let named = |message, context| {
            function(&refusal(message, context)).map(|name| String::from_utf8(name.to_vec()).unwrap())
        };
        let message = "cannot execute nextval() in a read-only transaction";
        assert_eq!(named(message, "").unwrap(), "nextval");
        assert_eq!(named("cannot execute INSERT in a read-only transaction", ""), None);
        assert_eq!(named("kann nextval() nicht", ""), None);
        let context = "SQL statement \"INSERT INTO t VALUES (1)\"\nPL/pgSQL function inner(integer) line 1 at SQL statement\n\
                       PL/pgSQL function app.outer_one(integer,text) line 3 at RETURN";
        assert_eq!(named(message, context).unwrap(), "outer_one");
        assert_eq!(named(message, "SQL function \"My F\" statement 1"), None);
        assert_eq!(named(message, "SQL function \"f\" statement 1").unwrap(), "f");
    }

    #[test]
    fn lessons_are_bounded_and_expire() {
        let lessons = Lessons::new(2, Duration::from_secs(10));
        let start = crate::clock::now();
        let shape = |number| Shape { high: number, low: 0 };
        let said = refusal("cannot execute f() in a read-only transaction", "");
        let name = Name { schema: None, last: b"f" };
        assert!(!lessons.has_shape(shape(1)) && !lessons.has_function(name));
        for (number, first) in [(1, true), (1, false), (2, true), (3, true)] {
            let now = start + Duration::from_secs(number);
            assert_eq!(lessons.add(shape(number), b"SELECT f()", &said, now), first, "{number}");
        }
        assert!(!lessons.has_shape(shape(1)), "the oldest made room");
        assert!(lessons.has_shape(shape(2)) && lessons.has_shape(shape(3)) && lessons.has_function(name));
        lessons.expire(start + Duration::from_secs(12));
        assert!(!lessons.has_shape(shape(2)) && lessons.has_shape(shape(3)) && !lessons.has_function(name));
        assert_eq!(lessons.all().len(), 1);
    }
}
