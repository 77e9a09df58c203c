//! Why a unit goes where it goes: one row per reason, with its code for metrics and its sentence for people.

/// Writes the enum and its tables from one list, so that a code without a sentence cannot exist.
macro_rules! reasons {
    ($($name:ident $code:literal $sentence:literal,)+) => {
        /// Why a unit goes where it goes. `docs/routing.md` lists the same codes and sentences; a test compares them.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Reason {
            $(#[doc = $sentence] $name,)+
        }

        impl Reason {
            /// Every reason, in the order of [`Reason::index`].
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// The name in metrics, logs and the console: `snake_case`, never changed once released.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)+ }
            }

            /// The reason in plain words.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Reason::$name => $sentence,)+ }
            }
        }
    };
}

reasons! {
    // What may leave the primary.
    Read "read" "Only reads, as far as its text and PostgreSQL's own functions tell.",
    BeginReadOnly "begin_read_only" "Opens a transaction declared READ ONLY: all of it runs on one replica.",
    // Circumstances that outweigh the statement.
    NoReplica "no_replica" "A read, but no replica may take it now.",
    NotFresh "not_fresh" "A read, but no replica has replayed yet what it has to see, or is as young as it asks for.",
    Consistency "consistency" "A read that is to see everything: the level of consistency is primary.",
    InTransaction "in_transaction" "A transaction is open on the primary: everything in it stays there.",
    InReadOnlyTransaction "in_read_only_transaction" "A read-only transaction is open on a replica: everything in it stays there.",
    SessionState "session_state" "Earlier statements left state on a connection to the primary, and this one may depend on it.",
    UnsafeText "unsafe_text" "standard_conforming_strings is off, or the encoding may hold a backslash inside a character: the text cannot be judged.",
    Observe "observe" "Would have gone to a replica: this database is only being observed.",
    NotOptedIn "not_opted_in" "A read, but mode is opt_in, and neither a rule nor a hint sends it to a replica.",
    Rule "rule" "A rule of the configuration sends it to the primary.",
    Hint "hint" "A comment, pgweir.route or the login asks for the primary.",
    Rejected "rejected" "A rule of the configuration refuses it.",
    // Statements that write.
    Write "write" "Has INSERT, UPDATE, DELETE, MERGE or TRUNCATE somewhere, even if only in a CTE.",
    Into "into" "Has INTO somewhere: SELECT INTO makes a table.",
    Lock "lock" "Locks rows (FOR UPDATE, FOR SHARE and their like) or tables (LOCK).",
    Ddl "ddl" "Changes definitions or rights: CREATE, ALTER, DROP, GRANT and their like.",
    Maintenance "maintenance" "Maintains storage: VACUUM, ANALYZE, REINDEX, CLUSTER, REFRESH, CHECKPOINT.",
    Do "do" "A DO block: what it does cannot be seen.",
    Call "call" "Calls a procedure: what it does cannot be seen.",
    Notify "notify" "NOTIFY reaches its listeners only from the primary.",
    TwoPhase "two_phase" "Two-phase commit: PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.",
    CopyIn "copy_in" "COPY FROM writes.",
    CopyServer "copy_server" "COPY to or from a file or program of the server.",
    MultiStatementWrite "multi_statement_write" "Several statements in one text, and at least one of them is not a read.",
    // Functions.
    VolatileFunction "volatile_function" "Calls a built-in function that writes, locks or acts on the server.",
    PrimaryFunction "primary_function" "Calls a built-in function that only the primary answers, or answers rightly.",
    AdvisoryLock "advisory_lock" "Uses advisory locks: a replica would grant them without protecting anything.",
    QueryText "query_text" "Calls a built-in function that runs SQL given to it as text.",
    UnknownFunction "unknown_function" "Calls a function that is not built in and not listed in read_only_functions.",
    ListedFunction "listed_function" "Calls a function listed in write_functions.",
    Learned "learned" "A replica has refused a statement like this one, or one with a function that it calls.",
    UserFunction "user_function" "Calls a function of the database's own that is VOLATILE, or that calls what must run on the primary.",
    View "view" "Reads a view, or a table with a policy, that calls what must run on the primary or reads what only the primary has.",
    Unlogged "unlogged" "Reads an unlogged table: replicas do not have its rows.",
    ForeignTable "foreign_table" "Reads a foreign table: what the server behind it does is not known.",
    UnknownRelation "unknown_relation" "Reads a table or view that the catalog does not have: it may be new.",
    CatalogLoading "catalog_loading" "The catalog of the database is not known yet, or cannot be read: what the names mean is not known.",
    VolatileOperator "volatile_operator" "Uses an operator, a cast or a type that calls what must run on the primary.",
    ServerState "server_state" "Asks for what one server alone knows (activity, locks, slots, sequences): the primary answers.",
    // The session and its transactions.
    Session "session" "Changes the session: SET, RESET, DISCARD, LOAD, set_config and their like.",
    Listen "listen" "LISTEN or UNLISTEN: alone, a connection to the primary that listens for all clients carries it out; else the client's own connection does.",
    Prepare "prepare" "PREPARE or DEALLOCATE in SQL.",
    Execute "execute" "EXECUTE runs a statement that this text does not show.",
    Cursor "cursor" "A cursor: DECLARE, FETCH, MOVE, CLOSE stay where the cursor lives.",
    Temporary "temporary" "Makes or names temporary objects: they live on one connection to the primary.",
    Begin "begin" "Opens a transaction that may write.",
    End "end" "Ends a transaction.",
    TransactionControl "transaction_control" "Belongs to the open transaction: SAVEPOINT, RELEASE, ROLLBACK TO, SET LOCAL, SET TRANSACTION.",
    // Texts that were not understood.
    Empty "empty" "Holds no statement.",
    Unterminated "unterminated" "A string, a quoted name, a comment or a parenthesis is not closed, or closed twice.",
    StrayCharacter "stray_character" "Has a character that no statement has.",
    UnicodeName "unicode_name" "Has a name written with Unicode escapes: it could be any function.",
    UnknownStatement "unknown_statement" "Does not start like any statement known to be a read.",
    ParseBudget "parse_budget" "The text is over the budget for judging: too long.",
    SecondOpinion "second_opinion" "The token scan saw a read, the full parser saw something else: the scan has a hole, please report it.",
    // Settings of pgweir's own.
    OwnSetting "own_setting" "A setting of pgweir's own, pgweir.NAME: pgweir answers it itself.",
    OwnMixed "own_mixed" "Refused: a setting of pgweir's own beside other statements.",
    // Raised by callers, from what the protocol shows.
    UnitTooLong "unit_too_long" "The messages before Sync are too many or too long to be held back until they are judged.",
    Flush "flush" "Asks for answers before Sync (Flush, or a Query in the middle of a unit): what follows cannot be known yet.",
    FunctionCall "function_call" "The protocol's FunctionCall message: it names a function only by its number.",
    Pipelined "pipelined" "Sent before the answers to earlier units came: it follows them, so that the order holds.",
    PreparedOnPrimary "prepared_on_primary" "Runs a prepared statement that exists only on a connection to the primary.",
    Unflushed "unflushed" "Refused: it must see increments that were answered before they are committed, and that took too long.",
    ReplicaTransactionRefused "replica_transaction_refused" "Refused: in a read-only transaction on a replica it would be accepted there without its effect.",
}

impl Reason {
    /// The place in [`Reason::ALL`], for arrays of counters.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}
