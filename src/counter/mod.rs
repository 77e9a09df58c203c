//! Increments of counters, merged: `UPDATE photos SET votes = votes + 1 WHERE id = 7` of many clients is one statement on the primary.
//!
//! Group commit: what comes while a statement runs is merged, and is the next one; nobody waits for a timer, and each client is answered
//! after the commit that has its increment. A statement that fails changes nothing: all in it run again, each by itself, as they
//! were sent. If its connection breaks nobody knows whether it was carried out: all in it are told so, and none runs again.
//!
//! Invariants: an increment is in one statement; one that is answered is committed; rows are locked in the order of their keys.

mod ask;
pub mod check;
mod group;
mod merge;
mod statement;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use group::{Form, Group, Place};
pub use merge::{Add, Given, Value};

use crate::metrics::CounterMetrics;
use crate::server::Parameters;
use crate::wire::write;

/// What the operator says of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
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
}

impl Rule {
    /// The table's name as SQL has it.
    #[must_use]
    pub fn quoted(&self) -> String {
        let schema =
            self.schema.as_ref().map(|schema| write::quote_identifier(schema) + ".").unwrap_or_default();
        schema + &write::quote_identifier(&self.table)
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
    rules: Vec<Rule>,
    metrics: Vec<Arc<CounterMetrics>>,
    groups: Mutex<HashMap<Who, Arc<Group>>>,
}

/// Most groups: roles and databases times rules.
const MOST_GROUPS: usize = 10_000;

impl Counters {
    /// Of those rules, each with what counts for it.
    #[must_use]
    pub fn new(rules: Vec<(Rule, Arc<CounterMetrics>)>) -> Self {
        let (rules, metrics) = rules.into_iter().unzip();
        Self { rules, metrics, groups: Mutex::default() }
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
        let group = Arc::new(Group::new(rule, metrics));
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
