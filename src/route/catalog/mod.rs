//! What a database's own names mean: its functions, operators, views and tables, as far as that decides where a statement
//! may run. A snapshot that never changes; `monitor` reads it from the primary and puts a new one in its place.

mod scope;

pub use scope::{Known, Scope, SearchPath};

use crate::sql::{Effect, Name};

/// A database's own names. PostgreSQL's functions are not in it: see `builtins.rs`.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Different for catalogs that differ, so that what was judged with one is not believed with another.
    version: u64,
}

impl Catalog {
    /// See the field.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What a call of a function by that name may do: the worst of all overloads that it could mean. `path` is the schemas in
    /// which a name without one is looked for; none: all there are. None: there is no such function in them.
    #[must_use]
    pub fn function(&self, name: Name<'_>, path: Option<&SearchPath>) -> Option<Effect> {
        let _ = (name, path);
        None
    }

    /// What reading that table or view may do.
    #[must_use]
    pub fn relation(&self, name: Name<'_>, path: Option<&SearchPath>) -> Effect {
        let _ = (name, path);
        Effect::Safe
    }

    /// Whether there is any name or operator that [`Catalog::word`] and [`Catalog::operator`] object to.
    #[must_use]
    pub fn watches_words(&self) -> bool {
        false
    }

    /// What a name may do wherever it stands.
    #[must_use]
    pub fn word(&self, name: &[u8]) -> Effect {
        let _ = name;
        Effect::Safe
    }

    /// What a run of operator characters may do.
    #[must_use]
    pub fn operator(&self, run: &[u8]) -> Effect {
        let _ = run;
        Effect::Safe
    }
}
