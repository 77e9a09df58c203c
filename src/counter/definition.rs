//! What an account of increments is: whose they are, and what they add to. Pure.
//!
//! It stands in the journal, so that what is left there can be carried out by a pgweir that knows nothing else of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::merge::Shape;
use super::statement::Names;
use super::{Guard, Rule};
use crate::server::Parameters;

/// Increments that one statement can carry out, and one row of the ledger accounts for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Definition {
    /// The entry of the configuration.
    pub entry: String,
    /// The database that the clients asked for.
    pub database: String,
    /// Their user.
    pub user: String,
    /// Their startup parameters.
    pub parameters: Vec<(String, String)>,
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The columns of its key.
    pub key: Vec<String>,
    /// The counters that are added to; and whether null counts as zero.
    pub columns: Vec<(String, bool)>,
    /// The columns that become the time of the flush.
    pub touch: Vec<String>,
    /// Rows that are not there are inserted.
    pub upsert: bool,
    /// The ledger, as SQL names it.
    pub ledger: String,
}

/// Whose increments they are.
#[derive(Debug)]
pub(super) struct Whose {
    /// The entry of the configuration.
    pub(super) entry: Box<str>,
    /// The database that the clients asked for.
    pub(super) database: Arc<str>,
    /// Their user.
    pub(super) user: Arc<str>,
    /// Their startup parameters.
    pub(super) parameters: Arc<Parameters>,
}

impl Definition {
    /// Of increments of that shape, of a table that is as its server has said.
    pub(super) fn new(whose: &Whose, rule: &Rule, names: &Names, shape: &Shape) -> Self {
        let own = |list: &[Box<str>]| list.iter().map(|name| name.to_string()).collect();
        let name = |names: &[Box<str>], place: usize| {
            names.get(place).map_or_else(String::new, |name| name.to_string())
        };
        let parameters = whose.parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            entry: whose.entry.to_string(),
            database: whose.database.to_string(),
            user: whose.user.to_string(),
            parameters: parameters.collect(),
            schema: names.schema.to_string(),
            table: rule.table.to_string(),
            key: own(&rule.key),
            columns: shape.columns.iter().map(|(place, zero)| (name(&rule.columns, *place), *zero)).collect(),
            touch: shape.touches.iter().map(|place| name(&rule.touch, *place)).collect(),
            upsert: shape.upsert,
            ledger: rule.ledger(&names.schema),
        }
    }

    /// The same for the same increments, in any pgweir.
    #[must_use]
    pub fn name(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let digest = Sha256::digest(&text);
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What it adds to, for the operator.
    pub(super) fn what(&self) -> String {
        let adds =
            self.columns.iter().map(|(name, zero)| if *zero { format!("{name}?") } else { name.clone() });
        let all: Vec<_> = adds.chain(self.touch.iter().map(|name| format!("{name} = now()"))).collect();
        let insert = if self.upsert { "insert: " } else { "" };
        format!("{insert}{}", all.join(", "))
    }

    /// Its columns as a rule: whatever is said of the table now, what was promised is carried out.
    pub(super) fn rule(&self) -> Rule {
        let list = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        Rule {
            schema: Some(self.schema.as_str().into()),
            table: self.table.as_str().into(),
            key: list(&self.key),
            columns: self.columns.iter().map(|(name, _)| name.as_str().into()).collect(),
            touch: list(&self.touch),
            allow: Guard::ALL.iter().map(|(guard, _)| *guard).collect(),
            ..Rule::default()
        }
    }

    /// Its shape, by the places of that rule.
    pub(super) fn shape(&self) -> Shape {
        Shape {
            upsert: self.upsert,
            columns: self.columns.iter().enumerate().map(|(place, (_, zero))| (place, *zero)).collect(),
            touches: (0..self.touch.len()).collect(),
        }
    }
}
