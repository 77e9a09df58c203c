//! What a database's own names mean: its functions, operators, views and tables, as far as that decides where a statement
//! may run. A snapshot that never changes; `monitor` reads the rows from the primary and puts a new one in its place.

mod build;
pub mod rows;
mod scope;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::size_of;

use ahash::RandomState;

pub use rows::Rows;
pub use scope::{Known, Scope, SearchPath};

use crate::fresh::Tables;
use crate::sql::{Effect, Name};

/// By name: for each schema that has it, by its number, what it is.
type ByName<T> = HashMap<Box<[u8]>, Box<[(u16, T)]>, RandomState>;

/// A database's own names. PostgreSQL's functions are not in it: those stand in a table of their own.
#[derive(Debug, Default)]
pub struct Catalog {
    /// See [`Catalog::sets`].
    sets: Sets,
    /// See [`Catalog::custom`].
    custom: Vec<Box<str>>,
    version: u64,
    schemas: HashMap<Box<[u8]>, u16, RandomState>,
    /// Functions, with the worst of their overloads.
    functions: ByName<Effect>,
    /// Relations, with their places in `relations`.
    names: ByName<u32>,
    relations: Vec<Relation>,
    words: HashSet<Box<[u8]>, RandomState>,
    operators: Vec<Box<[u8]>>,
    /// Types whose values cannot be made without a function that must run on the primary.
    types: BTreeSet<rows::Oid>,
    /// Every statement may use a cast that must run on the primary.
    everything: bool,
}

/// What is known of a table, view or the like.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Relation {
    /// Its name, as one of a set of tables.
    pub name: Tables,
    /// What reading it may do.
    pub effect: Effect,
    /// The tables that reading it reads, by their places in the catalog; none: too many to tell, or not known.
    pub reads: Option<Box<[u32]>>,
    /// Writing to it runs what its owner made: triggers, rewrite rules, functions in defaults and checks.
    pub triggers: bool,
    /// Writing to it may write to other tables, by a foreign key with CASCADE, SET NULL or SET DEFAULT.
    pub cascades: bool,
}

/// Which statements may change settings inside of what they call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Sets {
    /// None.
    #[default]
    Nothing,
    /// Those that call functions of the database's own.
    Calls,
    /// Those that write, too: triggers do so.
    Writes,
}

impl Catalog {
    /// Equal for catalogs with equal content, so that what was judged with one holds with the other; different otherwise.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What a call of a function by that name may do: the worst of all overloads that it could mean. `path` is the schemas in
    /// which a name without one is looked for; none: all there are. None: there is no such function in them.
    #[must_use]
    pub fn function(&self, name: Name<'_>, path: Option<&SearchPath>) -> Option<Effect> {
        let all = self.functions.get(name.last)?;
        let meant = all.iter().filter(|(schema, _)| self.may_mean(name.schema, path, *schema));
        meant.map(|(_, effect)| *effect).reduce(build::worse)
    }

    /// What reading that table or view may do.
    #[must_use]
    pub fn relation(&self, name: Name<'_>, path: Option<&SearchPath>) -> Effect {
        if self.everything {
            return Effect::Operator;
        }
        let Some(all) = self.names.get(name.last) else { return Effect::NoRelation };
        let effect = |id: u32| self.get(id).map_or(Effect::NoRelation, |relation| relation.effect);
        if name.schema.is_none() && path.is_none() {
            return all.iter().map(|(_, id)| effect(*id)).reduce(build::worse).unwrap_or(Effect::NoRelation);
        }
        self.lookup(name, path).map_or(Effect::NoRelation, effect)
    }

    /// The place of the relation that a name means; none: there is no such, or the search path is not known.
    #[must_use]
    pub fn lookup(&self, name: Name<'_>, path: Option<&SearchPath>) -> Option<u32> {
        let all = self.names.get(name.last)?;
        let inside = |schema: &[u8]| {
            let schema = self.schemas.get(schema)?;
            all.iter().find(|(of, _)| of == schema).map(|(_, id)| *id)
        };
        match name.schema {
            Some(schema) => inside(schema),
            None => path?.schemas().find_map(inside),
        }
    }

    /// What stands at a place.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&Relation> {
        self.relations.get(usize::try_from(id).ok()?)
    }

    /// Whether a name with that schema, or without one, can mean something in the schema with that number.
    fn may_mean(&self, written: Option<&[u8]>, path: Option<&SearchPath>, schema: u16) -> bool {
        let number = |name: &[u8]| self.schemas.get(name).copied();
        match (written, path) {
            (Some(written), _) => number(written) == Some(schema),
            (None, Some(path)) => path.schemas().any(|name| number(name) == Some(schema)),
            (None, None) => true,
        }
    }

    /// Whether there is any name or operator that [`Catalog::word`] and [`Catalog::operator`] object to.
    #[must_use]
    pub fn watches_words(&self) -> bool {
        !self.words.is_empty() || !self.operators.is_empty()
    }

    /// What a name may do wherever it stands.
    #[must_use]
    pub fn word(&self, name: &[u8]) -> Effect {
        if self.words.contains(name) { Effect::Operator } else { Effect::Safe }
    }

    /// What a run of operator characters may do.
    #[must_use]
    pub fn operator(&self, run: &[u8]) -> Effect {
        if build::has_operator(run, self.operators.iter().map(|name| &**name)) {
            Effect::Operator
        } else {
            Effect::Safe
        }
    }

    /// Whether a parameter of that type may run on a replica.
    #[must_use]
    pub fn takes(&self, of: rows::Oid) -> bool {
        !self.everything && !self.types.contains(&of)
    }

    /// Which statements may run a function that changes settings, though they do not show it.
    #[must_use]
    pub fn sets(&self) -> Sets {
        self.sets
    }

    /// Custom settings that functions set.
    pub fn custom(&self) -> impl Iterator<Item = &str> {
        self.custom.iter().map(|name| &**name)
    }

    /// How many functions (by name and schema) and relations it knows.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.functions.values().map(|all| all.len()).sum::<usize>() + self.relations.len()
    }

    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // A place in a hash map is a bit more than its entry; an allocation has a header.
        const PLACE: usize = 16;
        let functions: usize = self
            .functions
            .iter()
            .map(|(name, all)| name.len() + all.len() * size_of::<(u16, Effect)>() + 3 * PLACE + 32)
            .sum();
        let names: usize = self
            .names
            .iter()
            .map(|(name, all)| name.len() + all.len() * size_of::<(u16, u32)>() + 3 * PLACE + 32)
            .sum();
        let reads = |relation: &Relation| relation.reads.as_ref().map_or(0, |reads| reads.len() * 4 + PLACE);
        let relations: usize =
            self.relations.iter().map(|relation| size_of::<Relation>() + reads(relation)).sum();
        let words: usize = self.words.iter().map(|word| word.len() + 2 * PLACE).sum();
        let schemas: usize = self.schemas.keys().map(|schema| schema.len() + 3 * PLACE).sum();
        let types = self.types.len() * 2 * size_of::<rows::Oid>();
        size_of::<Catalog>() + functions + names + relations + words + schemas + types
    }

    /// Takes over what was built, and takes its fingerprint.
    fn fill(
        &mut self,
        schemas: &BTreeMap<&str, u16>,
        functions: &BTreeMap<&str, BTreeMap<u16, Effect>>,
        relations: &BTreeMap<&str, BTreeMap<u16, u32>>,
        words: &BTreeSet<&str>,
        operators: &BTreeSet<&str>,
    ) {
        // Not a secret, and the same in each process.
        let mut hasher = DefaultHasher::new();
        (schemas, functions, relations, words, operators).hash(&mut hasher);
        (&self.relations, &self.types, &self.custom, self.sets, self.everything).hash(&mut hasher);
        self.version = hasher.finish();
        let boxed = |name: &str| Box::<[u8]>::from(name.as_bytes());
        self.schemas = schemas.iter().map(|(name, number)| (boxed(name), *number)).collect();
        self.functions = functions
            .iter()
            .map(|(name, all)| (boxed(name), all.iter().map(|(a, b)| (*a, *b)).collect()))
            .collect();
        self.names = relations
            .iter()
            .map(|(name, all)| (boxed(name), all.iter().map(|(a, b)| (*a, *b)).collect()))
            .collect();
        self.words = words.iter().map(|word| boxed(word)).collect();
        self.operators = operators.iter().map(|name| boxed(name)).collect();
        self.relations.shrink_to_fit();
    }
}
