//! What a server tells of a database's own names: rows of its system catalogs, with object identifiers as the links.

/// A number that PostgreSQL gives to an object.
pub type Oid = u32;

/// The first number that an object made after `initdb` can have (`FirstNormalObjectId`).
pub const FIRST_OWN: Oid = 16_384;

/// A function, aggregate, window function or procedure.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FunctionRow {
    /// `oid`
    pub oid: Oid,
    /// `proname`
    pub name: String,
    /// `pronamespace`
    pub schema: Oid,
    /// `provolatile`: `i`, `s` or `v`.
    pub volatility: u8,
    /// `prokind`: `f`, `a`, `w` or `p`.
    pub kind: u8,
    /// What it is made of, where that can be read.
    pub body: Body,
    /// The `search_path` that it sets for itself.
    pub path: Option<String>,
    /// `proargtypes`
    pub arguments: Vec<Oid>,
    /// `pronargdefaults`: how many of the last arguments may be left out.
    pub optional: usize,
    /// `proargdefaults`: what they are then, as node trees.
    pub defaults: Option<String>,
    /// `provariadic`
    pub variadic: Oid,
    /// Its source has SET, `set_config` or their like.
    pub sets: bool,
    /// And it does not say which.
    pub hides: bool,
    /// `prorettype`, and the types of arguments that it gives back.
    pub results: Vec<Oid>,
}

/// The body of a function.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Body {
    /// In a language that is not looked into.
    #[default]
    Hidden,
    /// SQL, as text.
    Text(String),
    /// SQL that was parsed when the function was made (BEGIN ATOMIC, RETURN), as a node tree.
    Tree(String),
}

/// An operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperatorRow {
    /// `oid`
    pub oid: Oid,
    /// `oprname`
    pub name: String,
    /// `oprcode`
    pub function: Oid,
    /// `oprleft` and `oprright`
    pub operands: [Oid; 2],
}

/// A cast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CastRow {
    /// `castsource` and `casttarget`
    pub types: [Oid; 2],
    /// `castfunc`
    pub function: Oid,
}

/// A table, view, sequence or the like.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RelationRow {
    /// `oid`
    pub oid: Oid,
    /// `relname`
    pub name: String,
    /// `relnamespace`
    pub schema: Oid,
    /// `relkind`
    pub kind: u8,
    /// `relpersistence`
    pub persistence: u8,
    /// `relrowsecurity`
    pub row_security: bool,
    /// Writing to it runs what its owner made: triggers, rewrite rules, functions in defaults and checks.
    pub triggers: bool,
    /// Writing to it may write to other tables, by a foreign key with CASCADE, SET NULL or SET DEFAULT.
    pub cascades: bool,
}

/// A type of the database's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TypeRow {
    /// `oid`
    pub oid: Oid,
    /// `typname`
    pub name: String,
    /// What it is made of: `typbasetype`, `typelem`, `rngsubtype`; 0 for none.
    pub parts: [Oid; 3],
    /// `typrelid`: the relation whose columns are its own; 0 for none.
    pub relation: Oid,
    /// What makes its values, shows and compares them: `typinput` and its like, and the support functions of its indexes.
    pub functions: Vec<Oid>,
}

/// Something that holds node trees: a view's rule, a policy, the check of a domain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TreeRow {
    /// The relation or type that it belongs to.
    pub owner: Oid,
    /// The tree, as PostgreSQL prints it.
    pub tree: String,
}

impl Rows {
    /// How many of the functions are PostgreSQL's own.
    #[must_use]
    pub fn builtins(&self) -> usize {
        self.functions.iter().filter(|row| row.oid < FIRST_OWN).count()
    }
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rows {
    /// Custom settings that functions name where they set them.
    pub custom: Vec<String>,
    /// `pg_namespace`: number and name.
    pub schemas: Vec<(Oid, String)>,
    /// `pg_proc`
    pub functions: Vec<FunctionRow>,
    /// `pg_aggregate`: the aggregate, and the functions that it is made of.
    pub aggregates: Vec<(Oid, Vec<Oid>)>,
    /// `pg_operator`, the database's own.
    pub operators: Vec<OperatorRow>,
    /// `pg_cast`, the database's own.
    pub casts: Vec<CastRow>,
    /// `pg_class`, of what can be read, temporary ones left out.
    pub relations: Vec<RelationRow>,
    /// `pg_inherits`: child and parent.
    pub children: Vec<(Oid, Oid)>,
    /// `pg_rewrite`: the rules that make views.
    pub views: Vec<TreeRow>,
    /// `pg_policy`: what decides which rows are seen.
    pub policies: Vec<TreeRow>,
    /// `pg_type`, the database's own.
    pub types: Vec<TypeRow>,
    /// `pg_constraint`: the checks of domains.
    pub checks: Vec<TreeRow>,
    /// `pg_attribute`: relation and type, of columns whose type is the database's own.
    pub columns: Vec<(Oid, Oid)>,
}
