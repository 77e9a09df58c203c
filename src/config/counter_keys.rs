//! The settings of counters, one row each.

use super::key::{Key, count, row};
use super::kind::Kind;

/// Those of `[[databases.NAME.counters]]`.
pub(super) static KEYS: &[Key] = &[
    row(
        "databases.NAME.counters.table",
        Kind::Text,
        "required",
        "The table, spelled as the application's statements spell it: with its schema if they do.",
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
];
