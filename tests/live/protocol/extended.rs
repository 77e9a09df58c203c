//! The extended protocol: prepared statements and portals.

#![allow(clippy::too_many_lines, reason = "tables of scripts, a message a line")]

use super::{Script, Stage, script};
use crate::wire::{bind, bind_as, close, describe, execute, flush, parse, query, run, sync};

#[tokio::test]
async fn statements_and_portals_are_answered_alike() {
    let scripts = [orders(), unnamed(), named(), named_gone_wrong(), portals(), formats()];
    Stage::start().await.compare_all(&scripts.concat()).await;
}

/// A unit: messages and a Sync.
pub(super) fn unit(messages: &[Vec<u8>]) -> (usize, Vec<u8>) {
    (1, [messages.concat(), sync()].concat())
}

pub(super) const READ: &str = "SELECT id, name FROM items WHERE id = $1";

pub(super) const WRITE: &str = "INSERT INTO scratch (name) VALUES ($1) RETURNING id";

fn orders() -> Vec<Script> {
    vec![
        script(
            "one after the other",
            &[
                unit(&[run(READ, &["1"])]),
                unit(&[run(WRITE, &["a"])]),
                unit(&[run("SELECT", &[])]),
                unit(&[run("", &[])]),
                unit(&[run("-- nothing", &[])]),
            ],
        ),
        script(
            "reads alone",
            &[
                unit(&[run(READ, &["1"])]),
                unit(&[run(READ, &["2"])]),
                unit(&[run(READ, &["x"])]),
                unit(&[run("SELECT $1::int", &["5"])]),
                unit(&[run("SELECT 1/0", &[])]),
            ],
        )
        .alternates(),
        script("Sync alone", &[unit(&[]), (3, [sync(), sync(), sync()].concat()), unit(&[flush()])])
            .alternates(),
        script(
            "Parse alone",
            &[
                unit(&[parse("", READ)]),
                unit(&[describe('S', "")]),
                unit(&[parse("", "nonsense")]),
                unit(&[describe('S', "")]),
            ],
        )
        .alternates(),
        script(
            "all kinds of Describe",
            &[unit(&[
                parse("", READ),
                describe('S', ""),
                bind("", "", &["1"]),
                describe('P', ""),
                execute("", 0),
                describe('P', ""),
                close('P', ""),
                close('S', ""),
            ])],
        )
        .alternates(),
        script(
            "what is not there",
            &[
                unit(&[describe('S', "")]),
                unit(&[describe('S', "no")]),
                unit(&[describe('P', "")]),
                unit(&[describe('P', "no")]),
                unit(&[execute("", 0)]),
                unit(&[execute("no", 0)]),
                unit(&[bind("", "", &[])]),
                unit(&[bind("", "no", &[])]),
                unit(&[close('S', "no"), close('S', ""), close('P', "no"), close('P', "")]),
            ],
        )
        .alternates(),
        script(
            "wrong numbers of values",
            &[unit(&[run(READ, &[])]), unit(&[run(READ, &["1", "2"])]), unit(&[run("SELECT 1", &["1"])])],
        )
        .alternates(),
        script("several statements in a Parse", &[unit(&[run("SELECT 1; SELECT 2", &[])])]),
        script(
            "several statements in a unit",
            &[
                unit(&[run(READ, &["1"]), run(READ, &["2"]), run(READ, &["3"])]),
                unit(&[run(WRITE, &["a"]), run("SELECT count(*) FROM scratch", &[]), run(WRITE, &["b"])]),
                unit(&[run(WRITE, &["c"]), run("SELECT 1/0", &[]), run(WRITE, &["d"])]),
                unit(&[run(READ, &["1"]), run(WRITE, &["e"]), run(READ, &["2"])]),
            ],
        ),
    ]
}

fn unnamed() -> Vec<Script> {
    // Longer than what is kept.
    let long_insert =
        format!("INSERT INTO mine (name) VALUES ($1 || '{}') RETURNING id + 0", "x".repeat(9000));
    let again = |value| unit(&[bind("", "", &[value]), describe('P', ""), execute("", 0)]);
    vec![
        script(
            "unnamed, bound in later units",
            &[
                unit(&[parse("", READ)]),
                again("1"),
                again("2"),
                again("x"),
                again("3"),
                unit(&[describe('S', "")]),
            ],
        )
        .alternates(),
        script(
            "unnamed, ended by a query",
            &[unit(&[parse("", READ)]), again("1"), (1, query("SELECT 1")), again("2")],
        )
        .alternates(),
        script("unnamed, closed", &[unit(&[parse("", READ)]), unit(&[close('S', "")]), again("1")])
            .alternates(),
        script(
            "unnamed, behind what may have changed the session",
            &[
                (1, query("CREATE TEMP TABLE mine (id serial, name text)")),
                unit(&[parse("", "INSERT INTO mine (name) VALUES ($1) RETURNING id + 0")]),
                unit(&[describe('S', "")]),
                unit(&[bind("", "", &["a"]), execute("", 0)]),
                unit(&[parse("", &long_insert)]),
                unit(&[describe('S', "")]),
                unit(&[bind("", "", &["b"]), execute("", 0)]),
                unit(&[bind("", "", &["c"]), execute("", 0)]),
            ],
        ),
        script(
            "unnamed, replaced",
            &[unit(&[parse("", READ)]), unit(&[parse("", "SELECT $1 || 'x'")]), again("1")],
        )
        .alternates(),
        script(
            "unnamed, replaced by a bad one",
            &[unit(&[parse("", READ)]), unit(&[parse("", "nonsense")]), again("1"), again("2")],
        )
        .alternates(),
        script(
            "unnamed write, bound in later units",
            &[
                unit(&[parse("", WRITE)]),
                again("a"),
                again("b"),
                (1, query("BEGIN")),
                unit(&[parse("", READ)]),
                again("1"),
                again("2"),
                unit(&[parse("", WRITE)]),
                again("c"),
                (1, query("ROLLBACK")),
                unit(&[parse("", READ)]),
                again("1"),
            ],
        ),
        script(
            "unnamed, across a transaction",
            &[
                unit(&[run("BEGIN", &[])]),
                unit(&[parse("", READ)]),
                again("1"),
                unit(&[run("COMMIT", &[])]),
                again("2"),
                unit(&[parse("", READ)]),
                again("3"),
            ],
        ),
        script(
            "unnamed, in a pipeline with an error before it",
            &[
                (
                    3,
                    [
                        run("nonsense", &[]),
                        sync(),
                        parse("", READ),
                        sync(),
                        bind("", "", &["1"]),
                        execute("", 0),
                        sync(),
                    ]
                    .concat(),
                ),
                again("2"),
                again("3"),
            ],
        ),
        script(
            "unnamed, skipped over",
            &[
                unit(&[parse("", READ)]),
                (1, [parse("bad", "nonsense"), bind("", "", &["1"]), sync()].concat()),
                again("2"),
            ],
        ),
        script(
            "unnamed, of a long text",
            &[
                unit(&[parse("", &format!("SELECT $1::int + {}", vec!["1"; 5000].join(" + ")))]),
                again("1"),
                again("2"),
                (1, query("SELECT 1")),
                again("3"),
            ],
        ),
    ]
}

fn named() -> Vec<Script> {
    let with = |name, value| unit(&[bind("", name, &[value]), describe('P', ""), execute("", 0)]);
    vec![
        script(
            "named reads",
            &[
                unit(&[parse("r", READ), describe('S', "r")]),
                with("r", "1"),
                with("r", "2"),
                unit(&[describe('S', "r")]),
                (1, query("SELECT 1")),
                with("r", "3"),
                with("r", "x"),
                with("r", "1"),
            ],
        ),
        script(
            "named reads and writes in turns",
            &[
                unit(&[parse("r", READ)]),
                unit(&[parse("w", WRITE)]),
                with("r", "1"),
                with("w", "a"),
                with("r", "2"),
                with("w", "b"),
                (1, query("BEGIN")),
                with("r", "1"),
                with("w", "c"),
                with("r", "2"),
                (1, query("COMMIT")),
                with("r", "3"),
                with("w", "d"),
                (1, query("BEGIN READ ONLY")),
                with("r", "1"),
                unit(&[describe('S', "w")]),
                with("w", "e"),
                with("r", "1"),
                (1, query("ROLLBACK")),
                with("r", "1"),
            ],
        ),
        script(
            "named, made in a transaction",
            &[
                (1, query("BEGIN")),
                unit(&[parse("r", READ)]),
                with("r", "1"),
                (1, query("ROLLBACK")),
                with("r", "2"),
                (1, query("BEGIN")),
                with("r", "1"),
                (1, query("SELECT 1/0")),
                with("r", "1"),
                unit(&[parse("q", READ)]),
                unit(&[close('S', "r")]),
                (1, query("ROLLBACK")),
                with("r", "2"),
                unit(&[parse("q", READ)]),
                with("q", "1"),
            ],
        ),
        script(
            "named, used in one unit with others",
            &[
                unit(&[parse("r", READ), parse("w", WRITE)]),
                unit(&[bind("", "r", &["1"]), execute("", 0), bind("", "w", &["a"]), execute("", 0)]),
                with("r", "1"),
                with("w", "b"),
                unit(&[
                    bind("", "r", &["1"]),
                    execute("", 0),
                    run(READ, &["2"]),
                    bind("", "r", &["3"]),
                    execute("", 0),
                ]),
                unit(&[describe('S', "w"), describe('S', "r")]),
            ],
        ),
        script(
            "named, closed and made anew",
            &[
                unit(&[parse("s", READ)]),
                with("s", "1"),
                unit(&[close('S', "s")]),
                with("s", "1"),
                unit(&[parse("s", "SELECT $1 || '!'")]),
                with("s", "1"),
                (1, query("BEGIN")),
                with("s", "2"),
                unit(&[close('S', "s"), parse("s", WRITE)]),
                with("s", "a"),
                (1, query("COMMIT")),
                with("s", "b"),
                unit(&[close('S', "s"), parse("s", READ), bind("", "s", &["1"]), execute("", 0)]),
                with("s", "2"),
            ],
        ),
        script(
            "many names",
            &(0..40)
                .map(|n| {
                    unit(&[
                        parse(&format!("s{n}"), READ),
                        bind("", &format!("s{}", n / 2), &["1"]),
                        execute("", 0),
                    ])
                })
                .collect::<Vec<_>>(),
        ),
        script(
            "more than is kept",
            &(0..12)
                .map(|n| {
                    unit(&[parse(
                        &format!("s{n}"),
                        &format!("SELECT $1::int + {}", vec![n.to_string(); 4000].join(" + ")),
                    )])
                })
                .chain((0..12).map(|n| unit(&[bind("", ["s0", "s5", "s11"][n % 3], &["1"]), execute("", 0)])))
                .chain([
                    unit(&[parse("s11", READ)]),
                    unit(&[parse("s0", READ)]),
                    unit(&[close('S', "s11")]),
                    unit(&[parse("s11", READ)]),
                    unit(&[bind("", "s11", &["1"]), execute("", 0)]),
                ])
                .collect::<Vec<_>>(),
        ),
    ]
}

fn named_gone_wrong() -> Vec<Script> {
    let (define, drop) = ("CREATE FUNCTION changing", "DROP FUNCTION changing");
    let (sql, used) = ("RETURNS record LANGUAGE sql STABLE AS", "SELECT * FROM changing()");
    let with = |name, value| unit(&[bind("", name, &[value]), describe('P', ""), execute("", 0)]);
    vec![
        script(
            "definitions that change",
            &[
                (1, query(&format!("{define}(OUT a int) {sql} 'SELECT 1'"))),
                unit(&[parse("s1", used), describe('S', "s1"), bind("", "s1", &[]), execute("", 0)]),
                (1, query(&format!("{drop}; {define}(OUT a int, OUT b int) {sql} 'SELECT 1, 2'"))),
                unit(&[parse("s2", used), describe('S', "s2"), bind("", "s2", &[]), execute("", 0)]),
                (1, query("BEGIN; SELECT 1")),
                unit(&[bind("", "s1", &[]), execute("", 0)]),
                (1, query("ROLLBACK")),
                (1, query("BEGIN")),
                (
                    1,
                    query(&format!(
                        "{drop}; {define}(OUT a int, OUT b int, OUT c int) {sql} 'SELECT 1, 2, 3'"
                    )),
                ),
                unit(&[parse("s3", used), describe('S', "s3"), bind("", "s3", &[]), execute("", 0)]),
                (1, query("ROLLBACK")),
                unit(&[parse("s4", used), describe('S', "s4"), bind("", "s4", &[]), execute("", 0)]),
                (1, query(drop)),
            ],
        ),
        script(
            "a name that is taken",
            &[
                unit(&[parse("s", READ)]),
                unit(&[parse("s", WRITE)]),
                with("s", "1"),
                (1, query("BEGIN")),
                unit(&[parse("s", READ)]),
                with("s", "1"),
                (1, query("ROLLBACK")),
                with("s", "2"),
                unit(&[parse("t", WRITE), parse("t", READ)]),
                with("t", "a"),
            ],
        ),
        script(
            "a bad Parse, then Bind",
            &[
                unit(&[parse("s", "nonsense"), bind("", "s", &["1"]), execute("", 0)]),
                with("s", "1"),
                unit(&[parse("s", READ)]),
                with("s", "1"),
            ],
        ),
        script(
            "a Close that is undone",
            &[
                unit(&[parse("s", READ)]),
                unit(&[execute("no", 0), close('S', "s"), parse("s", WRITE)]),
                with("s", "1"),
                unit(&[close('S', "s"), execute("no", 0), parse("s", WRITE)]),
                with("s", "2"),
                unit(&[close('S', "s"), parse("s", "nonsense")]),
                with("s", "3"),
            ],
        ),
        script(
            "pipelined units with errors",
            &[
                (
                    6,
                    [
                        parse("a", READ),
                        sync(),
                        parse("b", "nonsense"),
                        parse("c", READ),
                        sync(),
                        parse("c", READ),
                        sync(),
                        parse("b", WRITE),
                        sync(),
                        parse("a", READ),
                        sync(),
                        bind("", "c", &["1"]),
                        execute("", 0),
                        sync(),
                    ]
                    .concat(),
                ),
                with("a", "1"),
                with("b", "x"),
                with("c", "2"),
                unit(&[close('S', "a"), close('S', "b")]),
                with("a", "1"),
                with("b", "y"),
            ],
        ),
        script(
            "closed in a pipeline, made anew behind it",
            &[
                unit(&[parse("s", READ)]),
                (
                    4,
                    [
                        close('S', "s"),
                        sync(),
                        parse("s", WRITE),
                        sync(),
                        bind("", "s", &["a"]),
                        execute("", 0),
                        sync(),
                        run("nonsense", &[]),
                        sync(),
                    ]
                    .concat(),
                ),
                with("s", "b"),
            ],
        ),
        script(
            "a query ends skipping",
            &[
                (1, [parse("s", "nonsense"), query("SELECT 1"), parse("t", READ), sync()].concat()),
                with("t", "1"),
                with("s", "1"),
                unit(&[parse("t", READ)]),
                with("t", "2"),
                unit(&[parse("u", READ)]),
                with("u", "3"),
            ],
        ),
    ]
}

fn portals() -> Vec<Script> {
    let rows = "SELECT id, name FROM items ORDER BY id";
    let series = "SELECT generate_series(1, 5)";
    vec![
        script(
            "a portal by pieces",
            &[
                unit(&[
                    parse("", rows),
                    bind("", "", &[]),
                    execute("", 1),
                    execute("", 1),
                    execute("", 5),
                    execute("", 1),
                ]),
                unit(&[execute("", 1)]),
            ],
        )
        .alternates(),
        script(
            "a suspended portal ends with its unit",
            &[unit(&[parse("", rows), bind("p", "", &[]), execute("p", 2)]), unit(&[execute("p", 2)])],
        )
        .alternates(),
        script(
            "a portal in a transaction",
            &[
                (1, query("BEGIN")),
                unit(&[parse("", rows), bind("p", "", &[])]),
                unit(&[execute("p", 2)]),
                unit(&[describe('P', "p")]),
                (1, query("SELECT 1")),
                unit(&[execute("p", 2)]),
                unit(&[close('P', "p")]),
                unit(&[execute("p", 2)]),
                (1, query("ROLLBACK")),
            ],
        ),
        script(
            "two portals in a transaction",
            &[
                (1, query("BEGIN")),
                unit(&[parse("s", series), bind("p", "s", &[]), bind("q", "s", &[])]),
                unit(&[execute("p", 2), execute("q", 3)]),
                unit(&[execute("q", 3), execute("p", 9)]),
                unit(&[bind("p", "s", &[])]),
                (1, query("COMMIT")),
                unit(&[execute("q", 1)]),
            ],
        ),
        script(
            "a portal in a read only transaction",
            &[
                (1, query("BEGIN READ ONLY")),
                unit(&[parse("", series), bind("p", "", &[])]),
                unit(&[execute("p", 2)]),
                unit(&[execute("p", 0)]),
                (1, query("END")),
            ],
        ),
        script(
            "a portal of a write",
            &[unit(&[
                parse("", "INSERT INTO scratch (name) VALUES ('a'), ('b') RETURNING id"),
                bind("", "", &[]),
                execute("", 1),
                execute("", 1),
                execute("", 1),
            ])],
        ),
        script(
            "a statement is closed before its portal",
            &[unit(&[
                parse("s", series),
                bind("p", "s", &[]),
                close('S', "s"),
                execute("p", 2),
                execute("p", 0),
            ])],
        ),
    ]
}

fn formats() -> Vec<Script> {
    let three = 3_i32.to_be_bytes();
    let values: [Option<&[u8]>; 2] = [Some(&three), None];
    let text = "SELECT $1::int, $2::text, 1.5::numeric, '{1,2}'::int[], true, 'x'::bytea, now() IS NULL";
    vec![
        script(
            "binary",
            &[
                unit(&[parse("", text), bind_as("", "", 1, &values, 1), describe('P', ""), execute("", 0)]),
                unit(&[parse("", text), bind_as("", "", 1, &values, 0), describe('P', ""), execute("", 0)]),
                unit(&[parse("", text), bind_as("", "", 1, &[Some(b"x"), None], 0), execute("", 0)]),
                unit(&[parse("", text), bind_as("", "", 7, &values, 0), execute("", 0)]),
                unit(&[
                    parse("", "SELECT * FROM items ORDER BY id"),
                    bind_as("", "", 0, &[], 1),
                    execute("", 0),
                ]),
            ],
        )
        .alternates(),
    ]
}
