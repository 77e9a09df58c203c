//! The settings of counters, one row each.

use super::key::{HOUR, Key, count, millis, row};
use super::kind::Kind;

/// Those of `[[databases.NAME.counters]]` and `[journal]`.
pub(super) const KEYS: &[Key] = &[
    row(
        "databases.NAME.counters.table",
        Kind::Text,
        "required",
        "The table, as the catalog has its name: `Photos` for \"Photos\". Without its schema: in any.",
    )
    .example("\"photos\""),
    row("databases.NAME.counters.key", Kind::Texts, "required", "The columns of a unique index.").example("[\"id\"]"),
    row("databases.NAME.counters.columns", Kind::Texts, "required", "The counters.").example("[\"votes\"]"),
    row(
        "databases.NAME.counters.touch",
        Kind::Texts,
        "none",
        "Columns that a statement may set to `now()` or `CURRENT_TIMESTAMP` beside the counters.",
    )
    .example("[\"voted_at\"]"),
    row(
        "databases.NAME.counters.allow",
        Kind::Texts,
        "none",
        "Reasons against merging that do not count here: triggers, row_security, generated, constraints, float.",
    )
    .example("[\"triggers\"]"),
    row(
        "databases.NAME.counters.max_waiting",
        count(1, 10_000_000),
        "100000",
        "Increments that wait for the statement before theirs; more go by themselves.",
    )
    .example("100000"),
    row(
        "databases.NAME.counters.durability",
        Kind::Choice(&["commit", "journal", "memory"]),
        "\"commit\"",
        "When a client is answered: when its increment is committed; when it is in the journal on this machine's disk; or at once, \
         and a crash loses what is not flushed yet.",
    )
    .example("\"journal\""),
    row(
        "databases.NAME.counters.flush_every",
        millis(1, HOUR),
        "\"1s\"",
        "How long increments wait at most that were answered before they are committed (journal and memory).",
    )
    .example("\"1s\""),
    row(
        "databases.NAME.counters.flush_rows",
        count(1, 1_000_000),
        "10000",
        "When they are of so many rows, they wait no longer.",
    )
    .example("10000"),
    row(
        "databases.NAME.counters.reads",
        Kind::Choice(&["flush", "stale"]),
        "\"flush\"",
        "What a session reads that has counted: `flush` waits for the commit of its own increments first, `stale` does not.",
    )
    .example("\"flush\""),
    row(
        "databases.NAME.counters.verify",
        Kind::Choice(&["first", "always", "never"]),
        "\"first\"",
        "Which increments wait for their commit, so that the client hears whether there is such a row: the first one of each row, \
         the first one of each row after each flush, or none.",
    )
    .example("\"first\""),
    row(
        "databases.NAME.counters.ledger",
        Kind::Text,
        "`pgweir_ledger` in the schema of the table",
        "The table that says which flushes are committed (journal and memory); made where the role may.",
    )
    .example("\"pgweir_ledger\""),
    row(
        "journal.folder",
        Kind::Text,
        "none",
        "Where the journal is, relative to the folder of the configuration; each running pgweir needs one of its own.",
    )
    .example("\"/var/lib/pgweir\""),
    row(
        "journal.keep",
        millis(1_000, 31 * 24 * HOUR),
        "\"1h\"",
        "How long increments stay there after their commit: a replica that takes over without it gets them again.",
    )
    .example("\"1h\""),
];
