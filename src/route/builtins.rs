//! What functions do: PostgreSQL's own by a generated table, the operator's by two lists, all others unknown.

use std::cell::Cell;
use std::collections::HashMap;

use ahash::RandomState;

use super::catalog::{Known, Scope};
use super::learned::Lessons;
use crate::sql::{Effect, Name, Names};

/// Written by `gen_builtins.sh` from `pg_proc` of each supported major.
const TABLE: &str = include_str!("builtins.tsv");

/// Functions by name.
#[derive(Debug)]
pub(super) struct Builtins {
    builtins: HashMap<&'static [u8], Effect, RandomState>,
    /// `name` or `schema.name`, as listed.
    listed: HashMap<Vec<u8>, Listed, RandomState>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Listed {
    ReadOnly,
    Write,
}

impl Builtins {
    /// The built-in functions, and what the operator lists. Who stands on both lists is for the primary.
    pub(super) fn new(read_only: &[String], write: &[String]) -> Builtins {
        let builtins = TABLE.lines().filter_map(row).collect();
        let read_only = read_only.iter().map(|name| (name.clone().into_bytes(), Listed::ReadOnly));
        let write = write.iter().map(|name| (name.clone().into_bytes(), Listed::Write));
        Builtins { builtins, listed: read_only.chain(write).collect() }
    }

    /// What the operator says: of `schema.name` if listed so, else of `name` in any schema.
    pub(super) fn listed(&self, name: Name<'_>) -> Option<Listed> {
        if self.listed.is_empty() {
            return None;
        }
        let whole = name.schema.map(|schema| [schema, b".", name.last].concat());
        let whole = whole.and_then(|whole| self.listed.get(&whole));
        whole.or_else(|| self.listed.get(name.last)).copied()
    }

    /// PostgreSQL's own function of that name; none: there is none.
    pub(super) fn builtin(&self, name: Name<'_>) -> Option<Effect> {
        match name.schema {
            None | Some(b"pg_catalog") => self.builtins.get(name.last).copied(),
            Some(_) => None,
        }
    }
}

/// What all that is known says of a name: PostgreSQL's own functions, the database's catalog, the operator's lists, and
/// what replicas have refused.
pub(super) struct View<'a> {
    pub(super) builtins: &'a Builtins,
    pub(super) scope: &'a Scope,
    pub(super) lessons: Option<&'a Lessons>,
    /// Set when a function is called that may be the database's own.
    pub(super) calls: Option<&'a Cell<bool>>,
}

impl View<'_> {
    fn is_learned(&self, name: Name<'_>) -> bool {
        self.lessons.is_some_and(|lessons| lessons.has_function(name))
    }
}

impl Names for View<'_> {
    /// A list can make an unknown function readable, one of the database's own, and one that answers about a server; it
    /// cannot do that for one of PostgreSQL's that is known to need the primary.
    fn function(&self, name: Name<'_>) -> Effect {
        let listed = self.builtins.listed(name);
        if listed == Some(Listed::Write) {
            return Effect::Listed;
        }
        let builtin = self.builtins.builtin(name);
        let own = match self.scope.known() {
            Known::Loaded(catalog) => catalog.function(name, self.scope.path()),
            Known::Loading => Some(Effect::Loading),
            Known::Unused => None,
        };
        if own.is_some() || builtin.is_none() {
            self.calls.inspect(|calls| calls.set(true));
        }
        // Overloads of one name: the one that is called is not known here, so the worst of them counts.
        let effect = match (builtin, own) {
            (Some(Effect::Safe), Some(Effect::Loading)) | (None, None) => builtin.unwrap_or(Effect::Unknown),
            (Some(Effect::Safe) | None, Some(own)) => own,
            (Some(builtin), _) => builtin,
        };
        match (listed, effect) {
            (_, Effect::Safe) | (Some(Listed::ReadOnly), _) if self.is_learned(name) => Effect::Learned,
            (
                Some(Listed::ReadOnly),
                Effect::Unknown
                | Effect::Server
                | Effect::User
                | Effect::UserSets
                | Effect::UserHides
                | Effect::View
                | Effect::Operator
                | Effect::Loading,
            ) => Effect::Safe,
            (_, effect) => effect,
        }
    }

    fn relation(&self, name: Name<'_>) -> Effect {
        match self.scope.known() {
            Known::Loaded(catalog) => catalog.relation(name, self.scope.path()),
            Known::Loading => Effect::Loading,
            Known::Unused => Effect::Safe,
        }
    }

    fn is_known(&self) -> bool {
        !matches!(self.scope.known(), Known::Loading)
    }

    fn watches_words(&self) -> bool {
        matches!(self.scope.known(), Known::Loaded(catalog) if catalog.watches_words())
    }

    fn word(&self, name: &[u8]) -> Effect {
        match self.scope.known() {
            Known::Loaded(catalog) => catalog.word(name),
            Known::Loading | Known::Unused => Effect::Safe,
        }
    }

    fn operator(&self, run: &[u8]) -> Effect {
        match self.scope.known() {
            Known::Loaded(catalog) => catalog.operator(run),
            Known::Loading | Known::Unused => Effect::Safe,
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
