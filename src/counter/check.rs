//! Whether a table is one whose increments can be merged: what the server says of it, and what is wrong with it. Pure.

use super::merge::Kind;
use super::statement::Names;
use super::{Guard, Rule};
use crate::wire::write::{quote_identifier, quote_literal};

/// Types whose addition is exact, in any order (the numbers), and those of which two values are equal only if their texts are (all
/// but numeric); with their names as SQL has them.
const TYPES: [(&str, &str, Kind); 8] = [
    ("int2", "pg_catalog.int2", Kind::Integer(2)),
    ("int4", "pg_catalog.int4", Kind::Integer(4)),
    ("int8", "pg_catalog.int8", Kind::Integer(8)),
    ("text", "pg_catalog.text", Kind::Text),
    ("varchar", "pg_catalog.varchar", Kind::Text),
    ("numeric", "pg_catalog.numeric", Kind::Numeric),
    ("float4", "pg_catalog.float4", Kind::Float),
    ("float8", "pg_catalog.float8", Kind::Float),
];

fn known(of: &str) -> Option<(&'static str, Kind)> {
    TYPES.into_iter().find(|(name, ..)| *name == of).map(|(_, cast, kind)| (cast, kind))
}

/// What the server is asked: one row, or none if there is no such table.
#[must_use]
pub fn question(rule: &Rule) -> String {
    let list = |names: &[Box<str>]| {
        let names: Vec<_> = names.iter().map(|name| quote_literal(name)).collect();
        format!("ARRAY[{}]::pg_catalog.text[]", names.join(","))
    };
    let (keys, columns, touch) = (list(&rule.key), list(&rule.columns), list(&rule.touch));
    let bare = quote_literal(&quote_identifier(&rule.table));
    // A name with its schema is looked up by hand: `to_regclass` fails for who may not look into that schema, as the monitor's role.
    let oid = match &rule.schema {
        None => format!("pg_catalog.to_regclass({bare})"),
        Some(schema) => format!(
            "(SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = {} AND c.relname = {})",
            quote_literal(schema),
            quote_literal(&rule.table)
        ),
    };
    format!(
        "WITH c AS (SELECT c.*, n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = {oid}), \
         a AS (SELECT a.*, t.typname, t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace AS own, \
               coalesce((SELECT collisdeterministic FROM pg_catalog.pg_collation o WHERE o.oid = a.attcollation), true) AS exact \
               FROM pg_catalog.pg_attribute a JOIN c ON c.oid = a.attrelid JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
               WHERE a.attnum > 0 AND NOT a.attisdropped), \
         s AS (SELECT pg_catalog.array_agg(attnum) AS s FROM a WHERE attname = ANY ({columns})) \
         SELECT c.relkind, \
         EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE c.oid IN (inhrelid, inhparent)), \
         c.relrowsecurity, EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_class = c.oid), c.relpersistence = 't', \
         EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal), \
         EXISTS (SELECT FROM a WHERE attgenerated <> ''), \
         EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = c.oid AND contype <> 'n' \
            AND conkey && (SELECT s FROM s)) \
         OR EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = c.oid AND indisunique \
                    AND indkey::pg_catalog.int2[] && (SELECT s FROM s)), \
         EXISTS (SELECT FROM pg_catalog.pg_index i WHERE indrelid = c.oid AND indisunique AND indisvalid AND indimmediate \
                 AND indpred IS NULL AND indexprs IS NULL AND indnkeyatts = {count} \
                 AND (SELECT pg_catalog.count(*) FROM a WHERE attname = ANY ({keys}) \
                      AND attnum = ANY ((indkey::pg_catalog.int2[])[0:{last}])) = {count}), \
         c.nspname, c.relname, \
         (SELECT pg_catalog.string_agg(coalesce((SELECT CASE WHEN own AND exact THEN typname END FROM a WHERE attname = k), '-'), ',' ORDER BY o) \
          FROM pg_catalog.unnest({keys}) WITH ORDINALITY u(k, o)), \
         (SELECT pg_catalog.string_agg(coalesce((SELECT CASE WHEN own THEN typname END FROM a WHERE attname = k), '-'), ',' ORDER BY o) \
          FROM pg_catalog.unnest({columns}) WITH ORDINALITY u(k, o)), \
         (SELECT pg_catalog.string_agg(coalesce((SELECT CASE WHEN own THEN typname END FROM a WHERE attname = k), '-'), ',' ORDER BY o) \
          FROM pg_catalog.unnest({touch}) WITH ORDINALITY u(k, o)), \
         c.oid = pg_catalog.to_regclass({bare}) \
         FROM c",
        count = rule.key.len(),
        last = rule.key.len().saturating_sub(1),
    )
}

/// Why the increments of that table are not merged, by the answer to [`question`]; none: they are.
#[must_use]
pub fn refusal(rule: &Rule, rows: &[Vec<Option<String>>]) -> Option<String> {
    verdict(rule, rows).err()
}

/// What statements on it are made of, or why its increments are not merged.
///
/// # Errors
/// The reason, for the operator.
pub(super) fn verdict(rule: &Rule, rows: &[Vec<Option<String>>]) -> Result<Names, String> {
    let Some(row) = rows.first() else { return Err("there is no such table".to_owned()) };
    let text = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
    let flags = [
        (text(0) != "r", "it is no plain table", None),
        (text(1) == "t", "it has partitions, or inherits", None),
        (text(2) == "t", "it has row security", Some(Guard::RowSecurity)),
        (text(3) == "t", "it has rules", None),
        (text(4) == "t", "it is temporary", None),
        (text(5) == "t", "it has triggers: they would run once for many increments", Some(Guard::Triggers)),
        (text(6) == "t", "it has generated columns", Some(Guard::Generated)),
        (text(7) == "t", "a constraint or a unique index is about a counter", Some(Guard::Constraints)),
        (text(8) != "t", "its key has no unique index of just these columns", None),
    ];
    let allowed = |guard: Option<Guard>| guard.is_some_and(|guard| rule.allow.contains(&guard));
    if let Some((_, why, _)) = flags.into_iter().find(|(is, _, guard)| *is && !allowed(*guard)) {
        return Err(why.to_owned());
    }
    let (mut keys, mut key_kinds, mut column_kinds) = (Vec::new(), Vec::new(), Vec::new());
    for (name, of) in rule.key.iter().zip(text(11).split(',')) {
        let Some((cast, kind)) = known(of).filter(|(_, kind)| matches!(kind, Kind::Integer(_) | Kind::Text))
        else {
            return Err(format!("the key column {name} is missing, or neither an integer nor a plain text"));
        };
        keys.push((quote_identifier(name), cast));
        key_kinds.push(kind);
    }
    for (name, of) in rule.columns.iter().zip(text(12).split(',')) {
        let Some((_, kind)) = known(of).filter(|(_, kind)| *kind != Kind::Text) else {
            return Err(format!("the counter {name} is missing, or neither an integer nor numeric"));
        };
        if kind == Kind::Float && !allowed(Some(Guard::Float)) {
            return Err(format!(
                "the counter {name} is a floating-point number: another order gives another sum"
            ));
        }
        column_kinds.push(kind);
    }
    for (name, of) in rule.touch.iter().zip(text(13).split(',')) {
        if !matches!(of, "timestamptz" | "timestamp") {
            return Err(format!("the column {name} is missing, or no timestamp"));
        }
    }
    let quoted = |names: &[Box<str>]| names.iter().map(|name| quote_identifier(name)).collect();
    Ok(Names {
        schema: text(9).into(),
        bare: text(14) == "t",
        table: format!("{}.{}", quote_identifier(text(9)), quote_identifier(text(10))),
        keys,
        key_kinds,
        column_kinds,
        columns: quoted(&rule.columns),
        touches: quoted(&rule.touch),
    })
}
