//! Which tables a text reads or writes, for the sake of freshness. Where that cannot be told, all of them.

use super::catalog::{Known, Scope};
use super::facts::{Class, Facts};
use super::reason::Reason;
use crate::fresh::Tables;
use crate::sql::{self, Effect, Mark, Name, Statement, Verb};

/// Whether a statement may reach tables that its text does not name.
pub(super) fn is_hidden(statement: Statement) -> bool {
    let plain =
        matches!(statement.verb, Verb::Query | Verb::Show | Verb::Write | Verb::CopyIn | Verb::CopyOut);
    let marks = [Mark::Into, Mark::IntoTemporary, Mark::Unicode, Mark::Unterminated, Mark::Stray];
    let effects = [
        Effect::Text,
        Effect::Listed,
        Effect::Learned,
        Effect::Unknown,
        Effect::User,
        Effect::View,
        Effect::Foreign,
        Effect::NoRelation,
        Effect::Loading,
        Effect::Operator,
    ];
    !plain || statement.marks.has_any(&marks) || statement.effects.has_any(&effects)
}

/// Whether what a unit with these facts does to tables is settled without looking at its names.
pub(super) fn without_names(facts: &Facts) -> Option<Tables> {
    match (facts.class, facts.reason) {
        (Class::Empty | Class::Own | Class::InTransaction | Class::End | Class::Begin, _)
        | (Class::Session, Reason::Session | Reason::Listen | Reason::Prepare) => Some(Tables::NONE),
        // What will be read in it is not known yet.
        (Class::BeginReadOnly | Class::Session, _) => Some(Tables::ALL),
        (
            Class::Write,
            Reason::Write | Reason::CopyIn | Reason::MultiStatementWrite | Reason::Lock | Reason::ServerState,
        )
        | (Class::Read, _) => None,
        (Class::Write, _) => Some(Tables::ALL),
    }
}

/// The tables behind the names in a text. `writes`: what is named may be written.
pub(super) fn tables(text: &[u8], scope: &Scope, writes: bool) -> Tables {
    let Some(names) = sql::tables(text) else { return Tables::ALL };
    let says = |what: &[u8]| text.windows(what.len()).any(|word| word.eq_ignore_ascii_case(what));
    // The name of a CTE can be that of a table, which is read inside of it or written beside it. TRUNCATE .. CASCADE reaches
    // further than its names.
    if says(b"with") || writes && (says(b"truncate") || names.is_empty()) {
        return Tables::ALL;
    }
    names.iter().map(|name| of_name(name, scope, writes)).fold(Tables::NONE, Tables::and)
}

fn of_name(name: &[String], scope: &Scope, writes: bool) -> Tables {
    let name = match name {
        [last] => Name { schema: None, last: last.as_bytes() },
        [schema, last] => Name { schema: Some(schema.as_bytes()), last: last.as_bytes() },
        _ => return Tables::ALL,
    };
    let catalog = match scope.known() {
        Known::Loaded(catalog) => catalog,
        Known::Unused | Known::Loading => return Tables::ALL,
    };
    let Some(relation) = catalog.lookup(name, scope.path()).and_then(|place| catalog.get(place)) else {
        return Tables::ALL;
    };
    let Some(reads) = &relation.reads else { return Tables::ALL };
    let all = reads.iter().map(|place| catalog.get(*place)).chain([Some(relation)]);
    all.map(|relation| match relation {
        Some(relation) if writes && (relation.triggers || relation.cascades) => Tables::ALL,
        Some(relation) => relation.name,
        None => Tables::ALL,
    })
    .fold(Tables::NONE, Tables::and)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the parser does not show of a write would not be noted.
    #[test]
    fn every_table_of_a_write_is_seen() {
        for (text, expected) in [
            ("INSERT INTO a SELECT * FROM b", vec!["a", "b"]),
            ("INSERT INTO a AS x VALUES (1) ON CONFLICT (id) DO UPDATE SET n = x.n + 1", vec!["a"]),
            ("UPDATE a SET n = 1 FROM b WHERE b.id = a.id", vec!["a", "b"]),
            ("UPDATE ONLY a SET n = 1", vec!["a"]),
            ("DELETE FROM a USING b WHERE b.id = a.id", vec!["a", "b"]),
            ("DELETE FROM ONLY a", vec!["a"]),
            ("WITH gone AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM gone", vec!["a", "b"]),
            ("WITH new AS (INSERT INTO a VALUES (1) RETURNING *) SELECT * FROM new", vec!["a"]),
            ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE", vec!["a", "b"]),
            ("COPY a FROM STDIN", vec!["a"]),
            ("COPY a (id) FROM STDIN WITH (FORMAT csv)", vec!["a"]),
            ("EXPLAIN ANALYZE UPDATE a SET n = 1", vec!["a"]),
            ("INSERT INTO a VALUES (1); UPDATE b SET n = 2", vec!["a", "b"]),
        ] {
            let Some(mut names) = sql::tables(text.as_bytes()) else { continue };
            names.sort();
            // A text that is not understood counts for all.
            assert_eq!(names.concat(), expected, "{text}");
        }
    }
}
