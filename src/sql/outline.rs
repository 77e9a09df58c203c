//! What the text alone says of a statement: its verb, its marks, and what the functions it calls may do.

use std::marker::PhantomData;

/// What a statement starts with, and the few words that change what that means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// SELECT, VALUES, TABLE, WITH, in parentheses or not.
    Query,
    /// SHOW.
    Show,
    /// COPY .. TO STDOUT.
    CopyOut,
    /// COPY .. FROM.
    CopyIn,
    /// COPY from or to a file or program of the server.
    CopyServer,
    /// INSERT, UPDATE, DELETE, MERGE, TRUNCATE.
    Write,
    /// LOCK.
    Lock,
    /// CREATE, ALTER, DROP, GRANT and their like.
    Define,
    /// CREATE TEMPORARY.
    CreateTemporary,
    /// VACUUM, ANALYZE, REINDEX, CLUSTER, REFRESH.
    Maintain,
    /// CHECKPOINT, ALTER SYSTEM: about one server, and accepted by any.
    System,
    /// DO.
    Do,
    /// CALL.
    Call,
    /// EXECUTE.
    Execute,
    /// NOTIFY.
    Notify,
    /// LISTEN, UNLISTEN.
    Listen,
    /// SET, RESET, DISCARD, LOAD: the session changes.
    Set,
    /// SET LOCAL, SET TRANSACTION, SET CONSTRAINTS: the transaction changes.
    SetLocal,
    /// PREPARE of a statement.
    Prepare,
    /// DEALLOCATE.
    Deallocate,
    /// DECLARE.
    Declare,
    /// FETCH, MOVE, CLOSE.
    Cursor,
    /// BEGIN or START TRANSACTION, for a transaction that a replica could refuse.
    Begin,
    /// The same, READ ONLY, and nothing that a replica refuses.
    BeginReadOnly,
    /// COMMIT, END, ROLLBACK, ABORT.
    End,
    /// SAVEPOINT, RELEASE, ROLLBACK TO.
    Savepoint,
    /// PREPARE TRANSACTION, which ends the transaction for the session.
    PrepareTransaction,
    /// COMMIT PREPARED, ROLLBACK PREPARED.
    FinishPrepared,
    /// Anything else.
    Unknown,
}

/// Something seen in a statement that its verb does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// INSERT, UPDATE, DELETE or MERGE as a bare word.
    Write,
    /// INTO as a bare word, not after INSERT or MERGE.
    Into,
    /// INTO TEMPORARY.
    IntoTemporary,
    /// FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE, FOR KEY SHARE.
    Lock,
    /// Names a view or setting that each server answers for itself.
    Server,
    /// Names the session's own schema, `pg_temp`.
    Temporary,
    /// A name with Unicode escapes.
    Unicode,
    /// A string, quoted name, comment or parenthesis without its end, or an end without its beginning.
    Unterminated,
    /// A character that no statement has.
    Stray,
    /// EXPLAIN without ANALYZE: nothing runs.
    PlanOnly,
    /// WITH HOLD.
    Hold,
    /// ON COMMIT DROP.
    DropOnCommit,
    /// LOAD.
    Load,
}

/// What a call of a function may do. The names in lower case are the second column of `route/builtins.tsv`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// `safe`: a replica answers as well as the primary.
    Safe,
    /// `server`: it answers about one server or connection alone.
    Server,
    /// `primary`: only the primary answers, or answers rightly; a replica says so, or does no harm.
    Primary,
    /// `volatile`: it writes, locks or acts on the server, and a replica may accept that without a word.
    Volatile,
    /// `text`: it runs SQL given to it as text.
    Text,
    /// `session`: it leaves something behind in the session.
    Session,
    /// `config`: `set_config` for the session, or for what cannot be told.
    Config,
    /// The same, and the text does not show which setting.
    ConfigHidden,
    /// `set_config` whose third argument is `true`: for the transaction.
    ConfigLocal,
    /// `advisory`: advisory locks of the transaction, and giving back those of the session.
    Advisory,
    /// `advisory_session`: takes an advisory lock that the session keeps.
    AdvisorySession,
    /// Listed by the operator as one for the primary.
    Listed,
    /// A replica has refused a statement because of it.
    Learned,
    /// Not known.
    Unknown,
    /// A function of the database's own that is VOLATILE, or that calls what must run on the primary.
    User,
    /// The same, and its body has SET or `set_config`.
    UserSets,
    /// The same, and it does not say which settings.
    UserHides,
    /// A view, or a table with a policy, that calls what must run on the primary or reads what only the primary has.
    View,
    /// An unlogged table: replicas do not have its rows.
    Unlogged,
    /// A foreign table: what the server behind it does is not known.
    Foreign,
    /// A relation that the catalog does not have.
    NoRelation,
    /// The catalog is not known yet.
    Loading,
    /// The same, and what may be a function of the database's own is called.
    LoadingCall,
    /// An operator, a cast or a type that calls what must run on the primary.
    Operator,
}

/// One value of a small enum, as a bit.
pub trait Flag: Copy {
    /// The bit.
    fn bit(self) -> u32;
}

impl Flag for Mark {
    fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

impl Flag for Effect {
    fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

/// A set of marks or effects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Set<T> {
    bits: u32,
    of: PhantomData<T>,
}

impl<T: Flag> Set<T> {
    /// Nothing.
    pub const EMPTY: Set<T> = Set { bits: 0, of: PhantomData };

    /// Adds one.
    pub fn insert(&mut self, flag: T) {
        self.bits |= flag.bit();
    }

    /// Takes one out.
    pub fn remove(&mut self, flag: T) {
        self.bits &= !flag.bit();
    }

    /// Whether it holds that one.
    #[must_use]
    pub fn has(self, flag: T) -> bool {
        self.bits & flag.bit() != 0
    }

    /// Whether it holds any of these.
    #[must_use]
    pub fn has_any(self, flags: &[T]) -> bool {
        flags.iter().any(|&flag| self.has(flag))
    }
}

/// What the text says of one statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Statement {
    /// Its verb; of what EXPLAIN explains, if it is one.
    pub verb: Verb,
    /// What else was seen.
    pub marks: Set<Mark>,
    /// What the functions it calls may do.
    pub effects: Set<Effect>,
}

/// A statement with its literals and comments taken out, as 128 bits of a hash that only this process knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shape {
    /// The first half.
    pub high: u64,
    /// The second half.
    pub low: u64,
}

/// What the text says as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outline {
    /// Its shape.
    pub shape: Shape,
    /// How many statements it has, empty ones not counted.
    pub statements: usize,
    /// It has a string or a number in it.
    pub literals: bool,
    /// It has an EXPLAIN: what looks like a literal may be an option.
    pub explain: bool,
}

/// A function's name as it was written, folded to lower case unless quoted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name<'a> {
    /// The part before the last dot.
    pub schema: Option<&'a [u8]>,
    /// The last part.
    pub last: &'a [u8],
}

/// Who knows what names mean. [`Effect::Safe`] is the answer where nothing is wrong with a name.
pub trait Names {
    /// What a call of this function may do.
    fn function(&self, name: Name<'_>) -> Effect;

    /// What reading this table or view may do: a name where a statement can only name a relation.
    fn relation(&self, name: Name<'_>) -> Effect {
        let _ = name;
        Effect::Safe
    }

    /// Whether anything is known of the database's own names. Where it is not, any name and any operator may be one of them.
    fn is_known(&self) -> bool {
        true
    }

    /// Whether [`Names::word`] and [`Names::operator`] have anything to say: mostly not, and then they are not asked.
    fn watches_words(&self) -> bool {
        false
    }

    /// What this name, folded, may do wherever it stands: a type in a cast, a function in attribute notation (`row.name`).
    fn word(&self, name: &[u8]) -> Effect {
        let _ = name;
        Effect::Safe
    }

    /// What this run of operator characters may do.
    fn operator(&self, run: &[u8]) -> Effect {
        let _ = run;
        Effect::Safe
    }
}
