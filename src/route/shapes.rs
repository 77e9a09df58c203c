//! What is counted for each shape of statement, for SHOW ROUTES: a table of so many shapes that were seen, and one row for
//! all others.
//!
//! A shape gets its row when a text is judged, under a lock; from then on its [`ShapeId`] travels with the facts, and a unit
//! that ends adds to atomics. When the table is full, [`Shapes::sweep`] takes the rows away that are used least, and their
//! counts go to the others. An id says which generation of its row it means: an old one counts for the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::facts::{Class, Facts};
use super::reason::Reason;
use super::{Route, Target};
use crate::sql::{Shape, fingerprint, normalise};

/// Most rows: an id has 16 bits for the row and 16 for its generation.
pub const MAX_SHAPES: usize = 60_000;

/// Names the row of a shape.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ShapeId(u32);

impl ShapeId {
    /// All shapes that have no row.
    pub const OTHER: ShapeId = ShapeId(0);

    fn new(row: usize, generation: u32) -> ShapeId {
        ShapeId(u32::try_from(row).unwrap_or(0) << 16 | generation & 0xffff)
    }

    fn row(self) -> usize {
        (self.0 >> 16) as usize
    }

    fn generation(self) -> u32 {
        self.0 & 0xffff
    }
}

/// What one row counts.
#[derive(Debug, Default)]
struct Counters {
    /// Of which the low 16 bits are in ids. That of the row of the others counts the sweeps that made room.
    generation: AtomicU32,
    /// Units by target.
    units: [AtomicU64; 2],
    /// Those that were answered, and how long that took in nanoseconds.
    answered: AtomicU64,
    nanoseconds: AtomicU64,
    /// Those whose age is known, and their ages in nanoseconds.
    aged: AtomicU64,
    age: AtomicU64,
    /// [`Reason::index`] of the last unit.
    reason: AtomicU8,
    /// How often it was short, up to [`PROVEN`]; above it: it was not, for so many sweeps.
    pace: AtomicU8,
    /// How often it was found long lately.
    strikes: AtomicU8,
    /// [`ASKED`] and [`OUTSIDE`], or neither.
    recalled: AtomicU8,
}

/// Clients ask what a unit of that shape has drawn from a sequence.
const ASKED: u8 = 1;

/// They do so outside its transaction.
const OUTSIDE: u8 = 2;

/// A unit is short that takes less. It is measured beside others: on a busy machine the shortest take some milliseconds.
const SHORT: Duration = Duration::from_millis(5);

/// A unit is long that takes more.
const TOO_LONG: Duration = Duration::from_millis(25);

/// A shape is taken for short after so many units that were.
const PROVEN: u8 = 4;

/// A shape that was found long so often in a row is taken for long for the most time, two to that power in sweeps; a
/// hiccup of the server is forgotten in a moment.
const MOST_STRIKES: u8 = 6;

/// Of so many sweeps one takes away a strike.
const FORGIVES: u32 = 64;

impl Counters {
    fn total(&self) -> u64 {
        self.units.iter().map(|units| units.load(Relaxed)).sum()
    }

    /// Gives all that was counted to another row.
    fn pour_into(&self, other: &Counters) {
        for (from, to) in self.units.iter().zip(&other.units) {
            to.fetch_add(from.swap(0, Relaxed), Relaxed);
        }
        other.answered.fetch_add(self.answered.swap(0, Relaxed), Relaxed);
        other.aged.fetch_add(self.aged.swap(0, Relaxed), Relaxed);
        other.age.fetch_add(self.age.swap(0, Relaxed), Relaxed);
        other.nanoseconds.fetch_add(self.nanoseconds.swap(0, Relaxed), Relaxed);
    }
}

/// What makes a row: statements of one shape that mean something else, as in another database, have one each.
type Key = (Shape, Class, Reason);

#[derive(Debug)]
struct Taken {
    key: Key,
    fingerprint: u64,
    text: Box<str>,
    /// Units lately: half of them count no more with each sweep.
    recent: u64,
    /// All units at the last sweep.
    seen: u64,
}

#[derive(Debug, Default)]
struct Index {
    rows: HashMap<Key, usize>,
    /// By row, from 1: what it is about; none: it is free.
    taken: Vec<Option<Taken>>,
    free: Vec<usize>,
}

/// The table.
#[derive(Debug)]
pub struct Shapes {
    /// By row; the first is that of the others.
    counters: Box<[Counters]>,
    sweeps: AtomicU32,
    index: Mutex<Index>,
}

/// A row of SHOW ROUTES.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShapeRow {
    /// The statement without its literals; none: all that have no row of their own.
    pub text: Option<Box<str>>,
    /// Its shape as rules name it: [`crate::sql::fingerprint`].
    pub fingerprint: u64,
    /// What it does; none for the others.
    pub class: Option<Class>,
    /// Where it would go by itself, and why, or where it could; none for the others.
    pub reason: Option<Reason>,
    /// Why the last unit of it went where it went.
    pub last: Reason,
    /// Units that went to the primary and to replicas.
    pub units: [u64; 2],
    /// Units that were answered.
    pub answered: u64,
    /// How long these took in all.
    pub time: Duration,
    /// How old the data was that replicas answered with, on the average; none: it is not known.
    pub age: Option<Duration>,
}

impl ShapeRow {
    /// All units.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.units.iter().sum()
    }

    /// How long a unit took, on the average; none: none was answered.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        (self.answered > 0).then(|| self.time.div_f64(self.answered as f64))
    }
}

impl Shapes {
    /// An empty table for so many shapes, at most [`MAX_SHAPES`].
    #[must_use]
    pub fn new(shapes: usize) -> Shapes {
        let shapes = shapes.min(MAX_SHAPES);
        let index = Index { rows: HashMap::new(), taken: Vec::new(), free: (1..=shapes).rev().collect() };
        Shapes {
            counters: (0..=shapes).map(|_| Counters::default()).collect(),
            sweeps: AtomicU32::new(1),
            index: Mutex::new(Index { taken: (0..=shapes).map(|_| None).collect(), ..index }),
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn others(&self) -> Option<&Counters> {
        self.counters.first()
    }

    /// Whether the row that the id names is still the one that was meant. For an id of the others: whether no row has
    /// become free since it was given.
    #[inline]
    #[must_use]
    pub fn is_current(&self, id: ShapeId) -> bool {
        let row = self.counters.get(id.row());
        row.is_some_and(|row| row.generation.load(Relaxed) & 0xffff == id.generation())
    }

    /// The row of a shape with those facts, taken if it has none and one is free. Takes a lock: for when a text is judged.
    #[must_use]
    pub fn register(&self, shape: Shape, text: &[u8], facts: &Facts) -> ShapeId {
        let key = (shape, facts.class, facts.reason);
        let mut index = self.index();
        let known = index.rows.get(&key).copied();
        let row = known.or_else(|| {
            let row = index.free.pop()?;
            index.rows.insert(key, row);
            if let (Some(taken), Some(counters), Some(others)) =
                (index.taken.get_mut(row), self.counters.get(row), self.others())
            {
                // Added by somebody who looked at the generation just before the row was freed.
                counters.pour_into(others);
                *taken = Some(Taken {
                    key,
                    text: normalise(text).into(),
                    fingerprint: fingerprint(text),
                    recent: 0,
                    seen: 0,
                });
            }
            Some(row)
        });
        let row = row.unwrap_or(0);
        let generation = self.counters.get(row).map_or(0, |row| row.generation.load(Relaxed));
        ShapeId::new(row, generation)
    }

    fn row(&self, id: ShapeId) -> Option<&Counters> {
        let row = self.counters.get(id.row());
        row.filter(|row| row.generation.load(Relaxed) & 0xffff == id.generation()).or_else(|| self.others())
    }

    /// A unit of that shape goes there.
    #[inline]
    pub fn goes(&self, id: ShapeId, route: Route) {
        let Some(row) = self.row(id) else { return };
        if let Some(units) = row.units.get(route.target.index()) {
            units.fetch_add(1, Relaxed);
        }
        row.reason.store(u8::try_from(route.reason.index()).unwrap_or(u8::MAX), Relaxed);
    }

    /// A unit of that shape was answered.
    #[inline]
    pub fn answered(&self, id: ShapeId, time: Duration) {
        let Some(row) = self.row(id) else { return };
        row.answered.fetch_add(1, Relaxed);
        row.nanoseconds.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// A unit of that shape, which had its connection to itself, was answered. Tells [`Shapes::is_short`].
    #[inline]
    pub fn took(&self, id: ShapeId, time: Duration) {
        let Some(row) = self.row(id).filter(|_| id.row() > 0) else { return };
        let pace = row.pace.load(Relaxed);
        if pace < PROVEN && time < SHORT {
            row.pace.store(pace + 1, Relaxed);
        } else if pace <= PROVEN && time > TOO_LONG {
            row.pace.store(0, Relaxed);
        }
    }

    /// Whether units of that shape are known to be short.
    #[inline]
    #[must_use]
    pub fn is_short(&self, id: ShapeId) -> bool {
        id.row() > 0
            && self.is_current(id)
            && self.row(id).is_some_and(|row| row.pace.load(Relaxed) == PROVEN)
    }

    /// A unit of that shape took long although it was taken for short, or its answer was.
    pub fn is_long(&self, id: ShapeId) {
        if let Some(row) = self.row(id) {
            let strikes = row.strikes.load(Relaxed).saturating_add(1).min(MOST_STRIKES);
            row.strikes.store(strikes, Relaxed);
            row.pace.store(PROVEN + (1 << strikes), Relaxed);
        }
    }

    /// Somebody has asked what a unit of that shape has drawn from a sequence; `outside` its transaction.
    pub fn recalled(&self, id: ShapeId, outside: bool) {
        if let Some(row) = self.row(id).filter(|_| id.row() > 0) {
            row.recalled.fetch_or(if outside { ASKED | OUTSIDE } else { ASKED }, Relaxed);
        }
    }

    /// Whether clients ask, after a unit of that shape, what it has drawn from a sequence; if `outside`, whether outside its
    /// transaction.
    #[inline]
    #[must_use]
    pub fn is_recalled(&self, id: ShapeId, outside: bool) -> bool {
        let wanted = if outside { OUTSIDE } else { ASKED };
        id.row() > 0
            && self.is_current(id)
            && self.row(id).is_some_and(|row| row.recalled.load(Relaxed) & wanted != 0)
    }

    /// Whether a unit of that shape is an INSERT.
    #[must_use]
    pub fn inserts(&self, id: ShapeId) -> bool {
        let begins =
            |taken: &Taken| taken.text.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("insert"));
        id.row() > 0
            && self.is_current(id)
            && self.index().taken.get(id.row()).and_then(Option::as_ref).is_some_and(begins)
    }

    /// A replica answered a unit of that shape with data of that age.
    #[inline]
    pub fn aged(&self, id: ShapeId, age: Duration) {
        let Some(row) = self.row(id) else { return };
        row.aged.fetch_add(1, Relaxed);
        row.age.fetch_add(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// If the table is full, makes room: of each ten rows the one that was used least lately goes. What was long may be short
    /// again. For once a second.
    pub fn sweep(&self) {
        let forgives = self.sweeps.fetch_add(1, Relaxed).is_multiple_of(FORGIVES);
        for row in &self.counters {
            match row.pace.load(Relaxed) {
                pace if pace == PROVEN + 1 => row.pace.store(0, Relaxed),
                pace if pace > PROVEN => row.pace.store(pace - 1, Relaxed),
                _ => {}
            }
            if forgives {
                let strikes = row.strikes.load(Relaxed);
                row.strikes.store(strikes.saturating_sub(1), Relaxed);
            }
        }
        let mut index = self.index();
        let Index { rows, taken, free } = &mut *index;
        if !free.is_empty() || rows.is_empty() {
            return;
        }
        let mut by_use = Vec::with_capacity(rows.len());
        for (row, (taken, counters)) in taken.iter_mut().zip(&self.counters).enumerate() {
            let Some(taken) = taken else { continue };
            let total = counters.total();
            taken.recent = taken.recent / 2 + total.saturating_sub(taken.seen);
            taken.seen = total;
            by_use.push((taken.recent, row));
        }
        by_use.sort_unstable();
        let Some(others) = self.others() else { return };
        for (_, row) in by_use.into_iter().take(rows.len().div_ceil(10)) {
            let Some(gone) = taken.get_mut(row).and_then(Option::take) else { continue };
            if let Some(counters) = self.counters.get(row) {
                counters.generation.fetch_add(1, Relaxed);
                counters.pour_into(others);
                counters.pace.store(0, Relaxed);
                counters.strikes.store(0, Relaxed);
                counters.recalled.store(0, Relaxed);
            }
            rows.remove(&gone.key);
            free.push(row);
        }
        // Texts that found the table full are judged once more, and find a row.
        others.generation.fetch_add(1, Relaxed);
    }

    /// What was counted, the most frequent first, at most so many rows; the others come last.
    #[must_use]
    pub fn rows(&self, most: usize) -> Vec<ShapeRow> {
        let index = self.index();
        let mut found: Vec<(u64, usize)> = (index.taken.iter().zip(&self.counters).enumerate())
            .filter(|(_, (taken, _))| taken.is_some())
            .map(|(row, (_, counters))| (counters.total(), row))
            .filter(|(total, _)| *total > 0)
            .collect();
        found.sort_unstable_by(|one, other| other.cmp(one));
        let shown = found.into_iter().map(|(_, row)| row).take(most);
        let others = self.others().is_some_and(|others| others.total() > 0).then_some(0);
        shown.chain(others).filter_map(|row| self.shown(row, index.taken.get(row)?.as_ref())).collect()
    }

    fn shown(&self, row: usize, taken: Option<&Taken>) -> Option<ShapeRow> {
        let counters = self.counters.get(row)?;
        let [primary, replica] = &counters.units;
        Some(ShapeRow {
            text: taken.map(|taken| taken.text.clone()),
            fingerprint: taken.map_or(0, |taken| taken.fingerprint),
            class: taken.map(|taken| taken.key.1),
            reason: taken.map(|taken| taken.key.2),
            last: Reason::ALL
                .get(usize::from(counters.reason.load(Relaxed)))
                .copied()
                .unwrap_or(Reason::Empty),
            units: [primary.load(Relaxed), replica.load(Relaxed)],
            answered: counters.answered.load(Relaxed),
            time: Duration::from_nanos(counters.nanoseconds.load(Relaxed)),
            age: counters
                .age
                .load(Relaxed)
                .checked_div(counters.aged.load(Relaxed))
                .map(Duration::from_nanos),
        })
    }
}

impl ShapeRow {
    /// Where a statement of this row goes when nothing but its facts counts; none for the others.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        match self.class? {
            Class::Read | Class::BeginReadOnly => Some(Target::Replica),
            _ => Some(Target::Primary),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_replica() -> Route {
        Route::to(Target::Replica, Reason::Read)
    }

    fn shape(nth: u64) -> Shape {
        Shape { high: nth, low: !nth }
    }

    fn read() -> Facts {
        Facts { class: Class::Read, reason: Reason::Read, ..Facts::EMPTY }
    }

    #[test]
    fn a_shape_is_short_that_was_so_some_times_and_long_for_a_while() {
        let shapes = Shapes::new(10);
        let id = shapes.register(shape(1), b"SELECT 1", &read());
        let (short, long) = (Duration::from_millis(1), Duration::from_millis(100));
        for _ in 0..PROVEN {
            assert!(!shapes.is_short(id));
            shapes.took(id, short);
        }
        assert!(shapes.is_short(id));
        shapes.took(id, long);
        assert!(!shapes.is_short(id), "one that was long alone has to prove itself again");
        (0..PROVEN).for_each(|_| shapes.took(id, short));
        // Each time it is found long among others, it is so for longer.
        for sweeps in [2, 4, 8] {
            shapes.is_long(id);
            for _ in 0..sweeps {
                (0..PROVEN).for_each(|_| shapes.took(id, short));
                assert!(!shapes.is_short(id));
                shapes.sweep();
            }
            (0..PROVEN).for_each(|_| shapes.took(id, short));
            assert!(shapes.is_short(id), "after {sweeps}");
        }
        (0..200).for_each(|_| shapes.sweep());
        shapes.is_long(id);
        (0..2).for_each(|_| shapes.sweep());
        (0..PROVEN).for_each(|_| shapes.took(id, short));
        assert!(shapes.is_short(id), "that is forgotten");
        (0..10).for_each(|_| shapes.took(ShapeId::OTHER, short));
        assert!(!shapes.is_short(ShapeId::OTHER), "nobody knows what it is");
    }

    fn total(shapes: &Shapes) -> u64 {
        shapes.rows(usize::MAX).iter().map(ShapeRow::total).sum()
    }

    #[test]
    fn a_shape_with_other_facts_is_another_row() {
        let shapes = Shapes::new(10);
        let read = shapes.register(shape(1), b"SELECT f(1)", &read());
        let facts = Facts { class: Class::Write, reason: Reason::UserFunction, ..Facts::EMPTY };
        let write = shapes.register(shape(1), b"SELECT f(2)", &facts);
        assert_ne!(read, write);
        shapes.goes(read, to_replica());
        shapes.goes(read, Route::to(Target::Primary, Reason::InTransaction));
        shapes.goes(write, Route::to(Target::Primary, Reason::UserFunction));
        shapes.answered(read, Duration::from_millis(3));
        shapes.answered(read, Duration::from_millis(1));
        let rows = shapes.rows(10);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].text.as_deref(), rows[0].units), (Some("SELECT f(?)"), [1, 1]));
        assert_eq!((rows[0].last, rows[0].mean()), (Reason::InTransaction, Some(Duration::from_millis(2))));
        assert_eq!(
            (rows[1].reason, rows[1].units, rows[1].mean()),
            (Some(Reason::UserFunction), [1, 0], None)
        );
        assert_eq!(shapes.rows(1).len(), 1);
    }

    #[test]
    fn a_full_table_keeps_what_is_used_and_loses_no_count() {
        let shapes = Shapes::new(20);
        let ids: Vec<_> = (0..20).map(|nth| shapes.register(shape(nth), b"", &read())).collect();
        for (nth, id) in ids.iter().enumerate() {
            for _ in 0..=nth {
                shapes.goes(*id, to_replica());
            }
        }
        let late = shapes.register(shape(99), b"SELECT 99", &read());
        assert!(late.row() == 0 && shapes.is_current(late));
        shapes.goes(late, to_replica());
        shapes.sweep();
        assert!(!shapes.is_current(late), "it may ask again");
        let current: Vec<_> = ids.iter().map(|id| shapes.is_current(*id)).collect();
        assert_eq!(current, (0..20).map(|nth| nth >= 2).collect::<Vec<_>>());
        let late = shapes.register(shape(99), b"SELECT 99", &read());
        assert!(late.row() > 0);
        assert_eq!(total(&shapes), 211);
        // An old id counts for the others, not for whoever has its row now.
        shapes.goes(ids[0], to_replica());
        shapes.goes(ids[1], to_replica());
        shapes.goes(late, to_replica());
        let rows = shapes.rows(usize::MAX);
        let found = rows.iter().find(|row| row.text.as_deref() == Some("SELECT ?")).unwrap();
        assert_eq!((found.units, rows.last().unwrap().units, total(&shapes)), ([0, 1], [0, 6], 214));
    }

    #[test]
    fn no_table_at_all_counts_together() {
        let shapes = Shapes::new(0);
        let id = shapes.register(shape(1), b"SELECT 1", &read());
        shapes.goes(id, to_replica());
        shapes.sweep();
        let rows = shapes.rows(10);
        assert_eq!((rows.len(), rows[0].text.as_deref(), rows[0].units), (1, None, [0, 1]));
    }
}
