//! From rows to a catalog: what each function, view, type and operator comes down to.
//!
//! A function counts as safe if it says so itself (STABLE, IMMUTABLE) and nothing that can be seen in it speaks against it;
//! a view if all that it calls and reads is. Each is settled once; what is defined by itself is not safe.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ahash::RandomState;

use super::rows::{Body, FIRST_OWN, FunctionRow, Oid, RelationRow, Rows, TreeRow};
use super::scope::SearchPath;
use super::tree::{Named, named};
use super::{Catalog, Relation, Sets};
use crate::fresh::Tables;
use crate::route::builtins::{Builtins, Listed};
use crate::route::facts::{Class, Facts};
use crate::sql::{Effect, Name, Names, Seeds, is_server_view, scan};

/// How deep definitions may go before they count as unsafe.
const MAX_DEPTH: usize = 64;

/// Most tables that are remembered of what a view reads; one that reads more may read anything.
const MAX_READS: usize = 256;

/// The type that trigger functions give back.
const TRIGGER: Oid = 2279;

/// Most custom settings that functions name; with more, none of these functions says which it sets.
const MAX_CUSTOM: usize = 64;

/// Types that a function with one argument may have to be called as `row.name` for a row of any table: `record` and the
/// polymorphic ones.
const ANY_ROW: [Oid; 6] = [2249, 2276, 2283, 2776, 5077, 5079];

impl Catalog {
    /// What the rows come to. `read_only` and `write` are the operator's lists, which outweigh what a function says of itself.
    #[must_use]
    pub fn build(rows: &Rows, read_only: &[String], write: &[String]) -> Catalog {
        let builtins = Builtins::new(read_only, write);
        let build = Build::new(rows, &builtins);
        build.catalog()
    }
}

/// An index over the rows, and what was settled so far.
struct Build<'a> {
    rows: &'a Rows,
    builtins: &'a Builtins,
    schemas: HashMap<Oid, &'a str>,
    functions: HashMap<Oid, &'a FunctionRow>,
    by_name: HashMap<&'a str, Vec<&'a FunctionRow>>,
    relations: HashMap<Oid, &'a RelationRow>,
    relations_by_name: HashMap<&'a str, Vec<&'a RelationRow>>,
    aggregates: HashMap<Oid, &'a [Oid]>,
    operators: HashMap<Oid, Oid>,
    views: HashMap<Oid, Vec<&'a TreeRow>>,
    policies: HashMap<Oid, Vec<&'a TreeRow>>,
    children: HashMap<Oid, Vec<Oid>>,
    /// What was settled; none: it is being settled.
    function_effects: RefCell<HashMap<Oid, Option<Effect>>>,
    relation_effects: RefCell<HashMap<Oid, Option<Effect>>>,
    depth: RefCell<usize>,
    /// The types of relations' rows.
    rows_of_tables: HashSet<Oid>,
    seeds: Seeds,
    taint: Taint<'a>,
}

fn grouped<'a, T>(rows: &'a [T], key: impl Fn(&'a T) -> Oid) -> HashMap<Oid, Vec<&'a T>> {
    let mut groups: HashMap<Oid, Vec<&T>> = HashMap::new();
    for row in rows {
        groups.entry(key(row)).or_default().push(row);
    }
    groups
}

impl<'a> Build<'a> {
    fn new(rows: &'a Rows, builtins: &'a Builtins) -> Build<'a> {
        let mut by_name: HashMap<&str, Vec<&FunctionRow>> = HashMap::new();
        for function in &rows.functions {
            by_name.entry(&function.name).or_default().push(function);
        }
        let mut relations_by_name: HashMap<&str, Vec<&RelationRow>> = HashMap::new();
        for relation in &rows.relations {
            relations_by_name.entry(&relation.name).or_default().push(relation);
        }
        let mut children: HashMap<Oid, Vec<Oid>> = HashMap::new();
        for (child, parent) in &rows.children {
            children.entry(*parent).or_default().push(*child);
        }
        Build {
            rows,
            builtins,
            schemas: rows.schemas.iter().map(|(oid, name)| (*oid, name.as_str())).collect(),
            functions: rows.functions.iter().map(|function| (function.oid, function)).collect(),
            by_name,
            relations: rows.relations.iter().map(|relation| (relation.oid, relation)).collect(),
            relations_by_name,
            aggregates: rows.aggregates.iter().map(|(oid, parts)| (*oid, parts.as_slice())).collect(),
            operators: rows.operators.iter().map(|operator| (operator.oid, operator.function)).collect(),
            views: grouped(&rows.views, |view| view.owner),
            policies: grouped(&rows.policies, |policy| policy.owner),
            children,
            function_effects: RefCell::default(),
            relation_effects: RefCell::default(),
            depth: RefCell::new(0),
            rows_of_tables: rows.types.iter().filter(|row| row.relation != 0).map(|row| row.oid).collect(),
            seeds: Seeds { high: RandomState::with_seed(1), low: RandomState::with_seed(2) },
            taint: Taint::default(),
        }
    }

    fn schema(&self, oid: Oid) -> &'a str {
        self.schemas.get(&oid).copied().unwrap_or_default()
    }

    /// Settles one thing, once, and no deeper than is reasonable.
    fn settle(
        &self,
        settled: &RefCell<HashMap<Oid, Option<Effect>>>,
        oid: Oid,
        otherwise: Effect,
        work: impl FnOnce() -> Effect,
    ) -> Effect {
        if let Some(effect) = settled.borrow().get(&oid) {
            return effect.unwrap_or(otherwise);
        }
        if *self.depth.borrow() >= MAX_DEPTH {
            return otherwise;
        }
        *self.depth.borrow_mut() += 1;
        settled.borrow_mut().insert(oid, None);
        let effect = work();
        settled.borrow_mut().insert(oid, Some(effect));
        *self.depth.borrow_mut() -= 1;
        effect
    }

    /// What calling a function does. One that is not there any more is not safe.
    fn function(&self, oid: Oid) -> Effect {
        let Some(row) = self.functions.get(&oid) else { return Effect::User };
        let schema = self.schema(row.schema);
        let name = Name { schema: Some(schema.as_bytes()), last: row.name.as_bytes() };
        match self.builtins.listed(name) {
            Some(Listed::Write) => return Effect::Listed,
            Some(Listed::ReadOnly) if oid >= FIRST_OWN => return Effect::Safe,
            _ => {}
        }
        if oid < FIRST_OWN && schema == "pg_catalog" {
            return self.builtins.builtin(name).unwrap_or(Effect::Unknown);
        }
        self.settle(&self.function_effects, oid, Effect::User, || self.own_function(row))
    }

    fn own_function(&self, row: &FunctionRow) -> Effect {
        let safe = |safe: bool| if safe { Effect::Safe } else { Effect::User };
        // A call that leaves an argument out runs its default.
        if row.defaults.as_ref().is_some_and(|defaults| !self.reads_only(&named(defaults), None)) {
            return Effect::User;
        }
        if row.hides || row.sets && self.rows.custom.len() > MAX_CUSTOM {
            return Effect::UserHides;
        }
        if row.sets {
            return Effect::UserSets;
        }
        if row.kind == b'a' {
            let parts = self.aggregates.get(&row.oid);
            return safe(
                parts.is_some_and(|parts| parts.iter().all(|part| self.function(*part) == Effect::Safe)),
            );
        }
        if row.kind == b'p' || !matches!(row.volatility, b'i' | b's') {
            return Effect::User;
        }
        match &row.body {
            Body::Hidden => Effect::Safe,
            Body::Tree(tree) => safe(self.reads_only(&named(tree), None)),
            Body::Text(text) => {
                // Who calls it is not known here.
                let path = row.path.as_deref().filter(|path| !path.contains("$user"));
                let path = path.and_then(|path| SearchPath::parse(path, ""));
                let inside = Inside { build: self, path };
                let mut facts = Facts::EMPTY;
                scan(text.as_bytes(), &inside, &self.seeds, |statement| {
                    facts = facts.and(Facts::of(statement));
                });
                safe(matches!(facts.class, Class::Read | Class::Empty))
            }
        }
    }

    /// Whether all that a tree names may run on a replica; what it says of `owner` itself does not count.
    fn reads_only(&self, named: &Named, owner: Option<Oid>) -> bool {
        let operator =
            |oid: &Oid| self.operators.get(oid).is_none_or(|code| self.function(*code) == Effect::Safe);
        !named.acts
            && named.functions.iter().all(|oid| self.function(*oid) == Effect::Safe)
            && named.operators.iter().all(operator)
            && named.types.iter().all(|oid| !self.taint.types.contains(oid))
            && named.relations.iter().all(|oid| Some(*oid) == owner || self.relation(*oid) == Effect::Safe)
    }

    /// What reading a relation does.
    fn relation(&self, oid: Oid) -> Effect {
        let Some(row) = self.relations.get(&oid) else { return Effect::NoRelation };
        if matches!(self.schema(row.schema), "pg_catalog" | "information_schema") && oid < FIRST_OWN {
            let server = is_server_view(row.name.as_bytes());
            return if server { Effect::Server } else { Effect::Safe };
        }
        self.settle(&self.relation_effects, oid, Effect::View, || self.own_relation(row))
    }

    fn own_relation(&self, row: &RelationRow) -> Effect {
        match (row.kind, row.persistence) {
            (b'S', _) => return Effect::Server,
            (b'f', _) => return Effect::Foreign,
            (_, b'u') => return Effect::Unlogged,
            (_, b't') => return Effect::NoRelation,
            _ => {}
        }
        let trees = |trees: &HashMap<Oid, Vec<&TreeRow>>| {
            trees.get(&row.oid).is_none_or(|trees| {
                trees.iter().all(|tree| self.reads_only(&named(&tree.tree), Some(row.oid)))
            })
        };
        if row.kind == b'v' && !(self.views.contains_key(&row.oid) && trees(&self.views)) {
            return Effect::View;
        }
        if row.row_security && !trees(&self.policies) {
            return Effect::View;
        }
        let children = self.children.get(&row.oid).into_iter().flatten();
        children.map(|child| self.relation(*child)).fold(Effect::Safe, worse)
    }

    /// What a call by name does, where it is not known which operators and casts its arguments and results meet.
    fn called(&self, row: &FunctionRow) -> Effect {
        let uses_tainted =
            || row.arguments.iter().chain(&row.results).any(|of| self.taint.types.contains(of));
        match self.function(row.oid) {
            Effect::Safe if uses_tainted() => Effect::Operator,
            effect => effect,
        }
    }

    /// What reading a relation by name does, where it is not known what is done with its columns.
    fn named(&self, oid: Oid) -> Effect {
        match self.relation(oid) {
            Effect::Safe if self.taint.relations.contains(&oid) => Effect::Operator,
            effect => effect,
        }
    }

    /// Whether a function may be called as `row.name`: with one argument that may be a row, and others at most by default.
    fn is_attribute(&self, row: &FunctionRow) -> bool {
        let first = match row.arguments.as_slice() {
            [_] if row.variadic != 0 => Some(row.variadic),
            [first, others @ ..] if others.len() <= row.optional => Some(*first),
            _ => None,
        };
        first.is_some_and(|first| self.rows_of_tables.contains(&first) || ANY_ROW.contains(&first))
    }

    /// The tables that reading a relation reads; none: it may be any.
    fn reads(&self, oid: Oid) -> Option<Vec<Oid>> {
        let mut tables = BTreeSet::new();
        let (mut seen, mut todo) = (BTreeSet::from([oid]), vec![oid]);
        while let Some(oid) = todo.pop() {
            let row = self.relations.get(&oid)?;
            let mut more: Vec<Oid> = self.children.get(&oid).cloned().unwrap_or_default();
            let trees = self.views.get(&oid).filter(|_| row.kind == b'v');
            let policies = self.policies.get(&oid).filter(|_| row.row_security);
            for tree in trees.into_iter().chain(policies).flatten() {
                more.extend(named(&tree.tree).relations);
            }
            if row.kind != b'v' {
                tables.insert(oid);
            }
            todo.extend(more.into_iter().filter(|next| seen.insert(*next)));
            if tables.len() > MAX_READS {
                return None;
            }
        }
        Some(tables.into_iter().collect())
    }
}

/// The names inside a function's body.
struct Inside<'b, 'a> {
    build: &'b Build<'a>,
    path: Option<SearchPath>,
}

impl Inside<'_, '_> {
    /// Whether a name with that schema, or without one, can mean something in `schema`.
    fn may_mean(&self, written: Option<&[u8]>, schema: &str) -> bool {
        match (written, &self.path) {
            (Some(written), _) => written == schema.as_bytes(),
            (None, Some(path)) => path.has(schema.as_bytes()),
            (None, None) => true,
        }
    }
}

impl Names for Inside<'_, '_> {
    fn function(&self, name: Name<'_>) -> Effect {
        let last = std::str::from_utf8(name.last).unwrap_or_default();
        let overloads = self.build.by_name.get(last).into_iter().flatten();
        let meant = overloads.filter(|row| self.may_mean(name.schema, self.build.schema(row.schema)));
        meant.map(|row| self.build.called(row)).reduce(worse).unwrap_or(Effect::Unknown)
    }

    fn relation(&self, name: Name<'_>) -> Effect {
        let last = std::str::from_utf8(name.last).unwrap_or_default();
        let all = self.build.relations_by_name.get(last).into_iter().flatten();
        let meant = all.filter(|row| self.may_mean(name.schema, self.build.schema(row.schema)));
        meant.map(|row| self.build.named(row.oid)).reduce(worse).unwrap_or(Effect::NoRelation)
    }

    fn watches_words(&self) -> bool {
        let taint = &self.build.taint;
        taint.everything || !taint.words.is_empty() || !taint.operators.is_empty()
    }

    fn word(&self, name: &[u8]) -> Effect {
        let taint = &self.build.taint;
        let found = taint.everything || taint.words.iter().any(|word| word.as_bytes() == name);
        if found { Effect::Operator } else { Effect::Safe }
    }

    fn operator(&self, run: &[u8]) -> Effect {
        if has_operator(run, self.build.taint.operators.iter().map(|name| name.as_bytes())) {
            Effect::Operator
        } else {
            Effect::Safe
        }
    }
}

/// Whether one of the names is in a run of operator characters. PostgreSQL may cut a run into several operators.
pub(super) fn has_operator<'n>(run: &[u8], mut names: impl Iterator<Item = &'n [u8]>) -> bool {
    names.any(|name| memchr::memmem::find(run, name).is_some())
}

/// The one of two effects that is not safe; of two, the one that leaves something behind.
pub(super) fn worse(one: Effect, other: Effect) -> Effect {
    let leaves = |effect| matches!(effect, Effect::UserSets | Effect::UserHides);
    match (one, other) {
        (Effect::Safe, other) => other,
        (one, Effect::UserHides) if one != Effect::Listed => other,
        (one, other) if leaves(other) && !leaves(one) => other,
        (one, _) => one,
    }
}

/// Operators that keywords stand for (PostgreSQL's `gram.y` and `parse_expr.c`).
const SPOKEN: [(&str, &[&str]); 12] = [
    ("=", &["in", "case", "nullif", "distinct", "using", "natural"]),
    ("<>", &["in"]),
    ("<", &["between"]),
    (">", &["between"]),
    ("<=", &["between"]),
    (">=", &["between"]),
    ("~~", &["like"]),
    ("!~~", &["like"]),
    ("~~*", &["ilike"]),
    ("!~~*", &["ilike"]),
    ("~", &["similar"]),
    ("!~", &["similar"]),
];

/// How often it is looked for what is tainted by what was found to be; then everything counts as tainted.
const ROUNDS: usize = 32;

/// What is wrong with operators, casts and types.
#[derive(Default, PartialEq, Eq)]
struct Taint<'a> {
    /// Types whose values cannot be made, cast or compared without a function that is unsafe.
    types: HashSet<Oid>,
    /// Relations with a column of such a type.
    relations: HashSet<Oid>,
    /// Names that are unsafe wherever they stand.
    words: BTreeSet<&'a str>,
    operators: BTreeSet<&'a str>,
    /// A cast between types that every statement may use.
    everything: bool,
}

impl<'a> Build<'a> {
    /// Finds what is tainted, until nothing more is found: an operator may be unsafe for the text of its function using
    /// another one that is.
    fn settle_taint(&mut self) {
        for _ in 0..ROUNDS {
            let found = self.look_for_taint();
            if found == self.taint {
                return;
            }
            self.taint = found;
            // What was settled did not know of it.
            self.function_effects.borrow_mut().clear();
            self.relation_effects.borrow_mut().clear();
        }
        self.taint.everything = true;
    }

    /// What is tainted, as far as what was found before tells.
    fn look_for_taint(&self) -> Taint<'a> {
        let mut taint = Taint::default();
        let own = |types: &[Oid]| types.iter().copied().filter(|oid| *oid >= FIRST_OWN).collect::<Vec<_>>();
        let is_unsafe = |function: Oid| self.function(function) != Effect::Safe;
        for operator in self.rows.operators.iter().filter(|row| is_unsafe(row.function)) {
            let types = own(&operator.operands);
            if types.is_empty() {
                taint.operators.insert(&operator.name);
                let spoken = SPOKEN.iter().filter(|(name, _)| *name == operator.name);
                taint.words.extend(spoken.flat_map(|(_, words)| words.iter().copied()));
            }
            taint.types.extend(types);
        }
        for cast in self.rows.casts.iter().filter(|row| row.function != 0 && is_unsafe(row.function)) {
            let types = own(&cast.types);
            taint.everything |= types.is_empty();
            taint.types.extend(types);
        }
        for row in &self.rows.types {
            if own(&row.functions).into_iter().any(is_unsafe) {
                taint.types.insert(row.oid);
            }
        }
        let unsafe_check = |row: &&TreeRow| !self.reads_only(&named(&row.tree), None);
        taint.types.extend(self.rows.checks.iter().filter(unsafe_check).map(|row| row.owner));
        self.spread(&mut taint.types);
        let columns = self.rows.columns.iter().filter(|(_, of)| taint.types.contains(of));
        taint.relations = columns.map(|(relation, _)| *relation).collect();
        let types = self.rows.types.iter().filter(|row| taint.types.contains(&row.oid));
        taint.words.extend(types.map(|row| row.name.as_str()));
        let attributes =
            self.rows.functions.iter().filter(|row| row.oid >= FIRST_OWN && self.is_attribute(row));
        taint
            .words
            .extend(attributes.filter(|row| self.called(row) != Effect::Safe).map(|row| row.name.as_str()));
        taint
    }

    /// A type made of tainted ones is tainted.
    fn spread(&self, tainted: &mut HashSet<Oid>) {
        loop {
            let relations: HashSet<Oid> = self
                .rows
                .columns
                .iter()
                .filter(|(_, of)| tainted.contains(of))
                .map(|(relation, _)| *relation)
                .collect();
            let before = tainted.len();
            for row in &self.rows.types {
                if row.parts.iter().any(|part| tainted.contains(part)) || relations.contains(&row.relation) {
                    tainted.insert(row.oid);
                }
            }
            if tainted.len() == before {
                return;
            }
        }
    }

    fn catalog(mut self) -> Catalog {
        self.settle_taint();
        let mut catalog = Catalog { everything: self.taint.everything, ..Catalog::default() };
        let names: BTreeSet<&str> = self.schemas.values().copied().collect();
        // What is in a schema without a number is not known, which is safe.
        let schemas: BTreeMap<&str, u16> = names.into_iter().zip(0..=u16::MAX).collect();
        let number = |oid: Oid| schemas.get(self.schema(oid)).copied();

        let mut functions: BTreeMap<&str, BTreeMap<u16, Effect>> = BTreeMap::new();
        for row in &self.rows.functions {
            let Some(schema) = number(row.schema) else { continue };
            if row.oid < FIRST_OWN && self.schema(row.schema) == "pg_catalog" {
                continue;
            }
            let effect = self.called(row);
            let entry = functions.entry(&row.name).or_default().entry(schema).or_insert(Effect::Safe);
            *entry = worse(*entry, effect);
        }
        let mut relations: BTreeMap<&str, BTreeMap<u16, u32>> = BTreeMap::new();
        let mut order: Vec<&RelationRow> = self.rows.relations.iter().collect();
        order.sort_by_key(|row| row.oid);
        let ids: HashMap<Oid, u32> = order.iter().zip(0u32..).map(|(row, id)| (row.oid, id)).collect();
        for (row, id) in order.iter().zip(0u32..) {
            let effect = self.named(row.oid);
            let reads = self.reads(row.oid);
            let reads = reads.map(|tables| tables.iter().filter_map(|oid| ids.get(oid)).copied().collect());
            let (triggers, cascades) = (row.triggers, row.cascades);
            catalog.relations.push(Relation {
                name: Tables::named(row.name.as_bytes()),
                effect,
                reads,
                triggers,
                cascades,
            });
            if let Some(schema) = number(row.schema) {
                relations.entry(&row.name).or_default().insert(schema, id);
            }
        }
        catalog.types = self.taint.types.iter().copied().collect();
        let set = |row: &&FunctionRow| row.sets || row.hides;
        catalog.sets =
            match self.rows.functions.iter().filter(set).map(|row| row.results.contains(&TRIGGER)).max() {
                None => Sets::Nothing,
                Some(false) => Sets::Calls,
                Some(true) => Sets::Writes,
            };
        catalog.custom = self.rows.custom.iter().take(MAX_CUSTOM).map(|name| name.as_str().into()).collect();
        catalog.fill(&schemas, &functions, &relations, &self.taint.words, &self.taint.operators);
        catalog
    }
}
