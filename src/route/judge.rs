//! The judge: text in, facts out, remembering what it has judged before.
//!
//! Three layers, each asked only when the one above does not know: the text as it is, the token scan, and the full
//! parser's second opinion, which is remembered by shape so that ever new literals do not cost a parse each.

use std::cell::Cell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use quick_cache::{UnitWeighter, sync::Cache, sync::DefaultLifecycle};

use crate::clock::{Duration, Instant};
use crate::fresh::Tables;
use crate::sql::{
    Opinion, PARSE_LIMIT, SCAN_LIMIT, Seeds, Shape, Verb, asks_own_process, asks_prepared, lone_signal,
    named, opinion, recalls, scan,
};

use super::builtins::{Builtins, View};
use super::catalog::Scope;
use super::facts::{Class, Facts};
use super::hint::{self, Wish};
use super::learned::{Learned, Lessons, Refusal};
use super::own::{OwnText, own_text, resets_all};
use super::reach;
use super::reason::Reason;
use super::shapes::{ShapeId, Shapes};

/// Texts above this are not remembered as they are: hashing them costs more than it saves.
const EXACT_LIMIT: usize = 8 << 10;

/// A text with literals is remembered as it is only from this length on: short ones come with ever new literals, and
/// would push out those that come again.
const EXACT_WITH_LITERALS: usize = 256;

/// How the judge judges.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeOptions {
    /// Let the full parser look at what the token scan takes for a read; it may only turn a read to the primary.
    pub second_opinion: bool,
    /// How many texts, and how many shapes, are remembered.
    pub cache_entries: usize,
    /// How many shapes are counted apart.
    pub route_shapes: usize,
    /// Functions of yours that only read: `name` or `schema.name`, in lower case unless created otherwise.
    pub read_only_functions: Vec<String>,
    /// Functions that must run on the primary, whatever else is known of them.
    pub write_functions: Vec<String>,
    /// How many shapes that a replica refused are remembered, and as many functions; 0: none.
    pub learned_entries: usize,
    /// How long each of them is.
    pub learned_ttl: Duration,
}

impl Default for JudgeOptions {
    fn default() -> Self {
        JudgeOptions {
            second_opinion: true,
            cache_entries: 10_000,
            route_shapes: 1_000,
            read_only_functions: Vec::new(),
            write_functions: Vec::new(),
            learned_entries: 1_000,
            learned_ttl: Duration::from_secs(3600),
        }
    }
}

/// 128 bits of keyed hash: nobody who does not know the keys can make two texts collide.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    high: u64,
    low: u64,
    length: usize,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.high);
    }
}

type Remembered<V> = Cache<Key, V, UnitWeighter, Already, DefaultLifecycle<Key, V>>;

/// The keys are hashes already: the cache need not hash them again.
#[derive(Clone, Copy, Default)]
struct Already(u64);

impl BuildHasher for Already {
    type Hasher = Already;

    fn build_hasher(&self) -> Already {
        Already(0)
    }
}

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Never called by `Key`; still a hash if it were.
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Judges texts. One is shared by all clients.
pub struct Judge {
    second_opinion: bool,
    builtins: Builtins,
    seeds: Seeds,
    texts: Remembered<Facts>,
    /// Of shapes that the scan takes for reads: whether the parser lets them pass.
    shapes: Remembered<bool>,
    lessons: Lessons,
    /// Of shapes whose reach their names tell: the tables.
    reaches: Remembered<Tables>,
    /// Of shapes with their facts: where they are counted.
    ids: Remembered<ShapeId>,
    counted: Shapes,
    disagreements: AtomicU64,
}

impl Judge {
    /// A judge with empty memory.
    #[must_use]
    pub fn new(options: JudgeOptions) -> Judge {
        Judge {
            second_opinion: options.second_opinion,
            builtins: Builtins::new(&options.read_only_functions, &options.write_functions),
            seeds: Seeds { high: RandomState::new(), low: RandomState::new() },
            texts: memory(options.cache_entries),
            shapes: memory(options.cache_entries),
            reaches: memory(options.cache_entries),
            lessons: Lessons::new(options.learned_entries, options.learned_ttl),
            ids: memory(options.cache_entries),
            counted: Shapes::new(options.route_shapes),
            disagreements: AtomicU64::new(0),
        }
    }

    /// What a text says to a session with that scope. Assumes `standard_conforming_strings` on: see [`super::Session::text_safe`].
    #[must_use]
    pub fn facts(&self, text: &[u8], scope: &Scope) -> Facts {
        if text.len() > EXACT_LIMIT {
            return self.judge(text, scope).0;
        }
        let key = self.key(text, scope);
        if let Some(facts) = self.texts.get(&key)
            && self.is_current(facts)
        {
            return facts;
        }
        let (facts, literals) = self.judge(text, scope);
        // What was learned is forgotten again: it is looked up each time.
        if facts.reason != Reason::Learned && (!literals || text.len() > EXACT_WITH_LITERALS) {
            self.texts.insert(key, facts);
        }
        facts
    }

    fn key(&self, text: &[u8], scope: &Scope) -> Key {
        Key {
            high: self.seeds.high.hash_one(text) ^ scope.key(),
            low: self.seeds.low.hash_one(text),
            length: text.len(),
        }
    }

    /// A replica refused that text, which was taken for a read: its shape, and the function that the refusal names, go to the
    /// primary from now on, for [`JudgeOptions::learned_ttl`]. True: the shape was not known yet.
    pub fn learn(&self, text: &[u8], scope: &Scope, refusal: &Refusal<'_>, now: Instant) -> bool {
        let shape = scan(text, &self.names(scope), &self.seeds, |_| {}).shape;
        let first = self.lessons.add(shape, text, refusal, now);
        self.texts.remove(&self.key(text, scope));
        first
    }

    /// The shapes that replicas have refused, those refused most often first.
    #[must_use]
    pub fn learned(&self) -> Vec<Learned> {
        self.lessons.all()
    }

    /// Forgets what was learned too long before `now`. To be called now and then.
    pub fn expire(&self, now: Instant) {
        self.lessons.expire(now);
    }

    /// Whether facts are still counted where they say: else the text has to be judged again.
    #[inline]
    #[must_use]
    pub fn is_current(&self, facts: Facts) -> bool {
        self.counted.is_current(facts.shape)
    }

    /// What is counted by shape.
    #[must_use]
    pub fn shapes(&self) -> &Shapes {
        &self.counted
    }

    /// How often the full parser has overruled the scan. Each is a hole in the scan worth a report.
    #[must_use]
    pub fn disagreements(&self) -> u64 {
        self.disagreements.load(Ordering::Relaxed)
    }

    /// What it knows of names, but for what it has learned.
    pub(super) fn names<'a>(&'a self, scope: &'a Scope) -> View<'a> {
        View { builtins: &self.builtins, scope, lessons: None, calls: None }
    }

    pub(super) fn seeds(&self) -> &Seeds {
        &self.seeds
    }

    /// The facts, and whether the text has literals.
    fn judge(&self, text: &[u8], scope: &Scope) -> (Facts, bool) {
        if text.len() > SCAN_LIMIT {
            return (Facts::TOO_LONG, true);
        }
        let mut facts = Facts::EMPTY;
        let mut settings = false;
        let (mut hidden, mut makes) = (false, false);
        let calls = Cell::new(false);
        let names =
            View { builtins: &self.builtins, scope, lessons: Some(&self.lessons), calls: Some(&calls) };
        let outline = scan(text, &names, &self.seeds, |statement| {
            hidden |= reach::is_hidden(statement);
            makes |= matches!(statement.verb, Verb::Define | Verb::CreateTemporary | Verb::Unknown);
            settings |= matches!(statement.verb, Verb::Set | Verb::SetLocal | Verb::Show);
            facts = facts.and(Facts::of(statement));
        });
        if settings {
            match own_text(text) {
                OwnText::None => facts.resets = resets_all(text),
                own => return (Facts::own(own == OwnText::Mixed), outline.literals),
            }
        }
        // CREATE TABLE AS EXECUTE, explained perhaps.
        facts.names |= makes && !named(text).is_empty();
        facts.roll = facts.class > Class::Read && asks_prepared(text);
        facts.signals = match facts.reason {
            Reason::VolatileFunction => lone_signal(text).is_some(),
            Reason::ServerState => asks_own_process(text).is_some(),
            _ => false,
        };
        facts.recalls = may_ask(facts.reason) && recalls(text);
        facts.any = scope.rules().text(text);
        facts.all = facts.any;
        facts.hint = Wish::in_comments(text);
        facts.level = hint::level_in_comments(text);
        if outline.statements > 1 && facts.class == Class::Write {
            facts.reason = Reason::MultiStatementWrite;
        }
        if matches!(facts.class, Class::Read | Class::BeginReadOnly) && self.lessons.has_shape(outline.shape)
        {
            facts.class = Class::Write;
            facts.reason = Reason::Learned;
        }
        let asks = self.second_opinion && facts.class == Class::Read && text.len() <= PARSE_LIMIT;
        if asks && !self.passes(text, &names, outline.shape, outline.explain) {
            facts.class = Class::Write;
            facts.reason = Reason::SecondOpinion;
            facts.silent = true;
        }
        facts.tables = reach::without_names(&facts).unwrap_or_else(|| {
            if hidden || calls.get() {
                return Tables::ALL;
            }
            self.tables(text, scope, outline.shape, facts.class == Class::Write)
        });
        facts.shape = self.counted(text, outline.shape, facts);
        (facts, outline.literals)
    }

    /// The tables that a text names: from memory, for they stand in its shape, if it can be.
    fn tables(&self, text: &[u8], scope: &Scope, shape: Shape, writes: bool) -> Tables {
        let key = Key { high: shape.high ^ scope.key(), low: shape.low, length: 2 + usize::from(writes) };
        if let Some(tables) = self.reaches.get(&key) {
            return tables;
        }
        let tables = reach::tables(text, scope, writes);
        self.reaches.insert(key, tables);
        tables
    }

    /// Where such a text is counted: from memory if it can be.
    fn counted(&self, text: &[u8], shape: Shape, facts: Facts) -> ShapeId {
        let kind = (facts.class as u64) << 8 | facts.reason as u64;
        let key =
            Key { high: shape.high ^ kind.wrapping_mul(0x9e37_79b9_7f4a_7c15), low: shape.low, length: 1 };
        if let Some(id) = self.ids.get(&key)
            && self.counted.is_current(id)
        {
            return id;
        }
        let id = self.counted.register(shape, text, &facts);
        self.ids.insert(key, id);
        id
    }

    /// The second opinion, from memory if it can be. What looks like a literal in EXPLAIN may be an option, so its
    /// shape says too little.
    fn passes(&self, text: &[u8], names: &View<'_>, shape: Shape, explain: bool) -> bool {
        let key = Key { high: shape.high ^ names.scope.key(), low: shape.low, length: 0 };
        if !explain && let Some(passes) = self.shapes.get(&key) {
            return passes;
        }
        let passes = opinion(text, names) != Opinion::Objection;
        if !passes {
            self.disagreements.fetch_add(1, Ordering::Relaxed);
        }
        if !explain {
            self.shapes.insert(key, passes);
        }
        passes
    }
}

fn memory<V: Clone>(entries: usize) -> Remembered<V> {
    Cache::with(entries, entries as u64, UnitWeighter, Already(0), DefaultLifecycle::default())
}

/// Whether a text may be no more than a question: a SELECT that writes nothing itself. What its functions do is not known.
fn may_ask(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::PrimaryFunction
            | Reason::ServerState
            | Reason::VolatileFunction
            | Reason::ListedFunction
            | Reason::UnknownFunction
            | Reason::UserFunction
            | Reason::QueryText
            | Reason::Learned
            | Reason::CatalogLoading
            | Reason::UnknownRelation
            | Reason::View
            | Reason::VolatileOperator
            | Reason::Unlogged
            | Reason::ForeignTable
    )
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge")
            .field("second_opinion", &self.second_opinion)
            .field("texts", &self.texts.len())
            .field("shapes", &self.shapes.len())
            .field("disagreements", &self.disagreements)
            .finish_non_exhaustive()
    }
}
