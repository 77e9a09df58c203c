//! Increments of counters, merged: `UPDATE photos SET votes = votes + 1 WHERE id = 7` of many clients is one statement on the primary.
//!
//! Group commit: what comes while a statement about its row runs is merged, and is in the next one; nobody waits for a timer, and each client is
//! answered after the commit that has its increment. Statements about other rows run beside it, a few at a time. A statement that fails changes nothing: all in it run again, each by itself, as they
//! were sent. If its connection breaks nobody knows whether it was carried out: all in it are told so, and none runs again.
//!
//! Where a rule says so, increments are answered before they are committed (`account`): once they are on disk (`journal`), or at once.
//! Then they are summed up, and flushed now and then, in one transaction with a ledger, so that each counts once.
//!
//! Invariants: an increment is in one statement; one that is answered is committed, or will be; rows are locked in the order of their keys.

mod account;
mod ask;
mod books;
pub mod check;
mod definition;
mod desk;
mod flight;
mod flush;
mod group;
mod journal;
mod journal_error;
mod ledger;
mod merge;
mod own;
mod record;
mod reply;
mod segment;
mod statement;
mod sums;
mod task;
mod writer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use account::{Account, Means};
pub use books::{Books, Kept};
pub use definition::Definition;
pub use group::{Form, Group, Place, Taken};
pub use journal::{Journal, JournalOptions};
pub use journal_error::JournalError;
pub use merge::{Add, Given, Value};
pub use own::is_own;

use crate::clock::Duration;
use crate::fresh::Tables;
use crate::metrics::CounterMetrics;
use crate::server::Parameters;
use crate::sql::{Increment, increment};
use crate::wire::write;

/// What the operator says of a table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    /// Its schema, if it is said.
    pub schema: Option<Box<str>>,
    /// Its name.
    pub table: Box<str>,
    /// The columns of a unique index.
    pub key: Vec<Box<str>>,
    /// The counters.
    pub columns: Vec<Box<str>>,
    /// Columns that may become the time of the statement.
    pub touch: Vec<Box<str>>,
    /// What the operator has looked at, and finds to be no reason against it.
    pub allow: Vec<Guard>,
    /// Most increments that wait; more go by themselves.
    pub most: usize,
    /// When a client is answered.
    pub durability: Durability,
    /// How long increments wait that were answered before; and how many rows they may be.
    pub every: Duration,
    /// See `every`.
    pub rows: usize,
    /// A session reads what it has counted, whether or not it is committed yet.
    pub stale: bool,
    /// Whether a row is there.
    pub verify: Verify,
    /// The ledger: its schema, or that of the table, and its name.
    pub ledger: (Option<Box<str>>, Box<str>),
}

/// When the client of an increment is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// When it is committed.
    #[default]
    Commit,
    /// When it is on this machine's disk.
    Journal,
    /// At once.
    Memory,
}

/// Which increments go through by themselves, so that their row count is real.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verify {
    /// The first one of each row.
    #[default]
    First,
    /// The first one of each row after each flush.
    Always,
    /// None: the row is said to be there.
    Never,
}

impl Rule {
    /// The place of the rule for an increment: one that names its table as it does comes before one that leaves open which schema is meant.
    #[must_use]
    pub fn for_increment(rules: &[Self], increment: &Increment) -> Option<usize> {
        let exact = |rule: &Self| rule.schema == increment.schema && rule.is_about(increment);
        rules.iter().position(exact).or_else(|| rules.iter().position(|rule| rule.is_about(increment)))
    }

    /// The rule for a text that is an increment and nothing else.
    #[must_use]
    pub fn for_text<'a>(rules: &'a [Self], text: &[u8]) -> Option<&'a Self> {
        rules.get(Self::for_increment(rules, &increment(text)?)?)
    }

    /// Whether it is about that table, key and columns. Which schema is meant, where only one of them says it, the server knows.
    #[must_use]
    pub fn is_about(&self, increment: &Increment) -> bool {
        let schema = self.schema.as_ref().zip(increment.schema.as_ref());
        self.table == increment.table
            && schema.is_none_or(|(one, other)| one == other)
            && self.key.len() == increment.keys.len()
            && increment.keys.iter().all(|(name, _)| self.key.contains(name))
            && increment.adds.iter().all(|add| self.columns.contains(&add.column))
            && increment.touches.iter().all(|name| self.touch.contains(name))
    }

    /// The table's name as SQL has it.
    #[must_use]
    pub fn quoted(&self) -> String {
        let schema =
            self.schema.as_ref().map(|schema| write::quote_identifier(schema) + ".").unwrap_or_default();
        schema + &write::quote_identifier(&self.table)
    }

    /// The ledger for a table in that schema, as SQL has it.
    fn ledger(&self, schema: &str) -> String {
        let (own, name) = &self.ledger;
        let schema = own.as_deref().unwrap_or(schema);
        format!("{}.{}", write::quote_identifier(schema), write::quote_identifier(name))
    }
}

/// Why increments of a table are not merged, unless its rule allows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guard {
    /// Triggers: they run once for many increments.
    Triggers,
    /// Row security.
    RowSecurity,
    /// Generated columns: they are computed once for many increments.
    Generated,
    /// A constraint or a unique index about a counter: it sees sums.
    Constraints,
    /// A floating-point counter: another order of additions gives other sums.
    Float,
}

impl Guard {
    /// Each with its word in the configuration.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Triggers, "triggers"),
        (Self::RowSecurity, "row_security"),
        (Self::Generated, "generated"),
        (Self::Constraints, "constraints"),
        (Self::Float, "float"),
    ];
}

/// Who: database, user, startup parameters, and the place of the rule. Of these a connection is made, and by these it finds a table.
type Who = (Arc<str>, Arc<str>, Arc<Parameters>, usize);

/// All groups of one entry of the configuration.
#[derive(Debug)]
pub struct Counters {
    entry: Box<str>,
    books: Arc<Books>,
    rules: Vec<Rule>,
    metrics: Vec<Arc<CounterMetrics>>,
    /// Some are answered before they are committed.
    keeps: bool,
    groups: Mutex<HashMap<Who, Arc<Group>>>,
}

/// Most groups: roles and databases times rules.
const MOST_GROUPS: usize = 10_000;

impl Counters {
    /// Of those rules, each with what counts for it.
    #[must_use]
    pub fn new(entry: &str, books: Arc<Books>, rules: Vec<(Rule, Arc<CounterMetrics>)>) -> Self {
        let (rules, metrics): (Vec<Rule>, _) = rules.into_iter().unzip();
        let keeps = rules.iter().any(|rule| rule.durability != Durability::Commit);
        Self { entry: entry.into(), books, rules, metrics, keeps, groups: Mutex::default() }
    }

    /// Whether some are answered before they are committed.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// The accounts of that database that are not committed and have to do with one of these tables.
    #[must_use]
    pub fn uncommitted(&self, database: &str, tables: Tables) -> Vec<Arc<Account>> {
        let mut all = self.books.of(Some(database));
        all.retain(|account| account.tables().meets(tables) && account.is_waited_for());
        all
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The group of that rule, by its place. None: there are too many.
    #[must_use]
    pub fn group(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        parameters: &Arc<Parameters>,
        rule: usize,
    ) -> Option<Arc<Group>> {
        let key = (database.clone(), user.clone(), parameters.clone(), rule);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.get(&key) {
            return Some(group.clone());
        }
        if groups.len() >= MOST_GROUPS {
            return None;
        }
        let (rule, metrics) = (self.rules.get(rule)?.clone(), self.metrics.get(rule)?.clone());
        let books = self.books.clone();
        let whose = definition::Whose {
            entry: self.entry.clone(),
            database: database.clone(),
            user: user.clone(),
            parameters: parameters.clone(),
        };
        let group = Arc::new(Group::new(rule, metrics, books, whose));
        groups.insert(key, group.clone());
        Some(group)
    }
}

/// A group as it is now.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The database that its clients asked for.
    pub database: Arc<str>,
    /// Their user.
    pub user: Arc<str>,
    /// The table as the rule names it.
    pub table: String,
    /// Increments that wait.
    pub waiting: usize,
    /// Why they are not merged; none: they are, or none has come yet.
    pub refused: Option<String>,
}

impl Counters {
    /// Every group that has had an increment.
    #[must_use]
    pub fn all(&self) -> Vec<Shown> {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = groups.iter().map(|((database, user, ..), group)| {
            let inner = group.inner();
            let schema = group.rule.schema.as_ref().map(|schema| format!("{schema}.")).unwrap_or_default();
            Shown {
                database: database.clone(),
                user: user.clone(),
                table: format!("{schema}{}", group.rule.table),
                waiting: inner.waiting.len(),
                refused: inner.refused.and(inner.warned.clone()),
            }
        });
        let mut all: Vec<_> = shown.collect();
        all.sort_by(|one, other| {
            (&one.database, &one.table, &one.user).cmp(&(&other.database, &other.table, &other.user))
        });
        all
    }
}
