//! What functions do: PostgreSQL's own by a generated table, the operator's by two lists, all others unknown.

use std::collections::HashMap;

use ahash::RandomState;

use crate::sql::{Effect, Functions, Name};

/// Written by `gen_builtins.sh` from `pg_proc` of each supported major.
const TABLE: &str = include_str!("builtins.tsv");

/// Functions by name.
#[derive(Debug)]
pub(super) struct Catalog {
    builtins: HashMap<&'static [u8], Effect, RandomState>,
    /// `name` or `schema.name`, as listed.
    listed: HashMap<Vec<u8>, Listed, RandomState>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listed {
    ReadOnly,
    Write,
}

impl Catalog {
    /// The built-in functions, and what the operator lists. Who stands on both lists is for the primary.
    pub(super) fn new(read_only: &[String], write: &[String]) -> Catalog {
        let builtins = TABLE.lines().filter_map(row).collect();
        let read_only = read_only.iter().map(|name| (name.clone().into_bytes(), Listed::ReadOnly));
        let write = write.iter().map(|name| (name.clone().into_bytes(), Listed::Write));
        Catalog { builtins, listed: read_only.chain(write).collect() }
    }

    /// What the operator says: of `schema.name` if listed so, else of `name` in any schema.
    fn listed(&self, name: Name<'_>) -> Option<Listed> {
        if self.listed.is_empty() {
            return None;
        }
        let whole = name.schema.map(|schema| [schema, b".", name.last].concat());
        let whole = whole.and_then(|whole| self.listed.get(&whole));
        whole.or_else(|| self.listed.get(name.last)).copied()
    }
}

impl Functions for Catalog {
    /// A list can make an unknown function readable, and one that answers about a server; it cannot do that for one of
    /// PostgreSQL's that is known to need the primary.
    fn effect(&self, name: Name<'_>) -> Effect {
        let builtin = match name.schema {
            None | Some(b"pg_catalog") => self.builtins.get(name.last).copied().unwrap_or(Effect::Unknown),
            Some(_) => Effect::Unknown,
        };
        match (self.listed(name), builtin) {
            (Some(Listed::Write), _) => Effect::Listed,
            (Some(Listed::ReadOnly), Effect::Unknown | Effect::Server) => Effect::Safe,
            (Some(Listed::ReadOnly) | None, effect) => effect,
        }
    }
}

/// A row of the table. One that cannot be read is left out, which makes its function an unknown one.
fn row(line: &'static str) -> Option<(&'static [u8], Effect)> {
    let (name, effect) = line.split_once('\t')?;
    let effect = match effect {
        "safe" => Effect::Safe,
        "server" => Effect::Server,
        "primary" => Effect::Primary,
        "volatile" => Effect::Volatile,
        "text" => Effect::Text,
        "session" => Effect::Session,
        "config" => Effect::Config,
        "advisory" => Effect::Advisory,
        "advisory_session" => Effect::AdvisorySession,
        _ => return None,
    };
    Some((name.as_bytes(), effect))
}
