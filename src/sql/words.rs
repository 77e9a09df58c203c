//! The words that mean something to the scan, and which of them stand before a parenthesis without being a call.

use super::outline::Verb;

/// A word with a part to play. Words of other meaning are names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keyword {
    Insert,
    Update,
    Delete,
    Merge,
    Into,
    Local,
    Temporary,
    For,
    No,
    Key,
    Share,
    With,
    Recursive,
    As,
    Materialized,
    Distinct,
    On,
    /// ON directly after DISTINCT; made by the scan, not by [`keyword`].
    DistinctOn,
    Group,
    Order,
    Partition,
    By,
    Grouping,
    Sets,
    /// ROLLUP, CUBE.
    Rollup,
    /// OVER, FILTER, REPEATABLE: always after a closing parenthesis.
    Over,
    /// FROM.
    From,
    /// FROM of IS DISTINCT FROM, of EXTRACT and its like; made by the scan, not by [`keyword`].
    FromValue,
    /// JOIN: always after an operand.
    Join,
    /// LATERAL, ONLY.
    Lateral,
    /// DISTINCT that is not of a SELECT; made by the scan, not by [`keyword`].
    IsDistinct,
    /// ILIKE, COLUMNS: always after an operand.
    Infix,
    Operator,
    Not,
    /// SELECT, VALUES: what a WITH clause ends at.
    Query,
    /// TABLE, which stands for a query.
    Table,
    /// Ends a GROUP BY list.
    Clause,
    Time,
    Zone,
    /// CHARACTER, CHAR, BIT, NCHAR.
    Character,
    Varying,
    Tablesample,
    Ordinality,
    True,
    Hold,
    Commit,
    Copy,
    Drop,
    Begin,
    Atomic,
    /// Stands before a parenthesis, cannot be a function's name without quotes.
    Syntax,
}

/// The part that a word in lower case plays.
pub(super) fn keyword(word: &[u8]) -> Option<Keyword> {
    Some(match word {
        b"insert" => Keyword::Insert,
        b"update" => Keyword::Update,
        b"delete" => Keyword::Delete,
        b"merge" => Keyword::Merge,
        b"into" => Keyword::Into,
        b"local" | b"global" => Keyword::Local,
        b"temp" | b"temporary" => Keyword::Temporary,
        b"for" => Keyword::For,
        b"no" => Keyword::No,
        b"key" => Keyword::Key,
        b"share" => Keyword::Share,
        b"with" => Keyword::With,
        b"recursive" => Keyword::Recursive,
        b"as" => Keyword::As,
        b"materialized" => Keyword::Materialized,
        b"distinct" => Keyword::Distinct,
        b"on" => Keyword::On,
        b"group" => Keyword::Group,
        b"order" => Keyword::Order,
        b"partition" => Keyword::Partition,
        b"by" => Keyword::By,
        b"grouping" => Keyword::Grouping,
        b"sets" => Keyword::Sets,
        b"rollup" | b"cube" => Keyword::Rollup,
        b"over" | b"filter" | b"repeatable" => Keyword::Over,
        b"from" => Keyword::From,
        b"join" => Keyword::Join,
        b"lateral" | b"only" => Keyword::Lateral,
        b"ilike" | b"columns" => Keyword::Infix,
        b"operator" => Keyword::Operator,
        b"not" => Keyword::Not,
        b"select" | b"values" => Keyword::Query,
        b"table" => Keyword::Table,
        b"where" | b"having" | b"window" | b"limit" | b"offset" | b"fetch" | b"union" | b"except"
        | b"intersect" => Keyword::Clause,
        b"time" => Keyword::Time,
        b"zone" => Keyword::Zone,
        b"character" | b"char" | b"bit" | b"nchar" => Keyword::Character,
        b"varying" => Keyword::Varying,
        b"tablesample" => Keyword::Tablesample,
        b"ordinality" => Keyword::Ordinality,
        b"true" => Keyword::True,
        b"hold" => Keyword::Hold,
        b"commit" => Keyword::Commit,
        b"copy" => Keyword::Copy,
        b"drop" => Keyword::Drop,
        b"begin" => Keyword::Begin,
        b"atomic" => Keyword::Atomic,
        _ if syntax(word) => Keyword::Syntax,
        _ => return None,
    })
}

/// Words that can stand before a parenthesis and cannot be a function's name without quotes.
fn syntax(word: &[u8]) -> bool {
    is_reserved(word) || is_kept_from_functions(word)
}

/// Reserved words: no table has one of these as its name without quotes.
#[rustfmt::skip] // one word a line otherwise
pub(super) fn is_reserved(word: &[u8]) -> bool {
    matches!(
        word,
        b"all" | b"and" | b"any" | b"array" | b"asymmetric" | b"both" | b"case" | b"cast" | b"check"
        | b"collate" | b"default" | b"else" | b"from" | b"in" | b"lateral" | b"leading" | b"only" | b"or"
        | b"returning" | b"some" | b"symmetric" | b"then" | b"to" | b"trailing" | b"using" | b"variadic"
        | b"when" | b"where" | b"current_time" | b"current_timestamp" | b"localtime" | b"localtimestamp"
    )
}

/// Words that the grammar of the newest major keeps from being function names (`col_name_keyword` in PostgreSQL's
/// `src/include/parser/kwlist.h`).
#[rustfmt::skip] // one word a line otherwise
fn is_kept_from_functions(word: &[u8]) -> bool {
    matches!(
        word,
        b"between" | b"coalesce" | b"dec" | b"decimal" | b"exists" | b"extract" | b"float" | b"greatest"
        | b"int" | b"integer" | b"interval" | b"json" | b"json_array" | b"json_arrayagg" | b"json_exists"
        | b"json_object" | b"json_objectagg" | b"json_query" | b"json_scalar" | b"json_serialize"
        | b"json_table" | b"json_value" | b"least" | b"normalize" | b"nullif" | b"numeric" | b"overlay"
        | b"position" | b"precision" | b"real" | b"row" | b"substring" | b"timestamp" | b"treat" | b"trim"
        | b"varchar" | b"xmlattributes" | b"xmlconcat" | b"xmlelement" | b"xmlexists" | b"xmlforest"
        | b"xmlnamespaces" | b"xmlparse" | b"xmlpi" | b"xmlroot" | b"xmlserialize" | b"xmltable"
    )
}

/// Whether a call of this name, in lower case and without a schema, is a construct of the grammar for the full parser.
pub(super) fn is_construct(word: &[u8]) -> bool {
    syntax(word)
        || matches!(
            word,
            b"grouping"
                | b"rollup"
                | b"cube"
                | b"filter"
                | b"over"
                | b"char"
                | b"character"
                | b"bit"
                | b"values"
        )
}

/// What a statement that starts with this word, in lower case, may be. Where the next words decide, the answer is the
/// one that holds if they do not come.
pub(super) fn verb(word: &[u8]) -> Verb {
    match word {
        b"select" | b"values" | b"table" | b"with" => Verb::Query,
        b"insert" | b"update" | b"delete" | b"merge" | b"truncate" => Verb::Write,
        b"show" => Verb::Show,
        b"copy" => Verb::CopyServer,
        b"begin" | b"start" => Verb::Begin,
        b"commit" | b"end" | b"rollback" | b"abort" => Verb::End,
        b"savepoint" | b"release" => Verb::Savepoint,
        b"set" | b"reset" | b"discard" | b"load" => Verb::Set,
        b"prepare" => Verb::Prepare,
        b"deallocate" => Verb::Deallocate,
        b"execute" => Verb::Execute,
        b"declare" => Verb::Declare,
        b"fetch" | b"move" | b"close" => Verb::Cursor,
        b"listen" | b"unlisten" => Verb::Listen,
        b"notify" => Verb::Notify,
        b"lock" => Verb::Lock,
        b"do" => Verb::Do,
        b"call" => Verb::Call,
        b"create" | b"alter" | b"drop" | b"comment" | b"grant" | b"revoke" | b"security" | b"reassign"
        | b"import" => Verb::Define,
        b"vacuum" | b"analyze" | b"analyse" | b"reindex" | b"cluster" | b"refresh" | b"repack" => {
            Verb::Maintain
        }
        b"checkpoint" => Verb::System,
        _ => Verb::Unknown,
    }
}

/// Whether this name, in lower case, is a view of PostgreSQL's that each server answers for itself.
#[must_use]
pub fn is_server_view(name: &[u8]) -> bool {
    [&b"pg_stat_"[..], b"pg_statio_", b"pg_replication_", b"pg_shmem_", b"pg_buffercache", b"pg_dsm_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || matches!(
            name,
            b"pg_locks"
                | b"pg_cursors"
                | b"pg_prepared_statements"
                | b"pg_prepared_xacts"
                | b"pg_sequences"
                | b"pg_settings"
                | b"pg_backend_memory_contexts"
                | b"pg_file_settings"
                | b"pg_hba_file_rules"
                | b"pg_ident_file_mappings"
                | b"pg_aios"
        )
}

/// Whether this setting says which role the server has, or is ALL of SHOW ALL. PostgreSQL finds a setting in any case.
pub(super) fn is_server_setting(name: &[u8]) -> bool {
    [&b"transaction_read_only"[..], b"in_hot_standby", b"all"]
        .iter()
        .any(|setting| name.eq_ignore_ascii_case(setting))
}

/// `.._seq`, as SERIAL names its sequences; what is left of the closing quote may follow.
pub(super) fn is_sequence_name(name: &[u8]) -> bool {
    let name = name.strip_suffix(b"\"").unwrap_or(name);
    name.len()
        .checked_sub(4)
        .and_then(|at| name.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(b"_seq"))
}
