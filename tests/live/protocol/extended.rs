//! The extended protocol: prepared statements and portals, pipelines, clients that Flush.

use super::{Script, Stage, script, steps};
use crate::wire::{
    Until, bind, bind_as, close, copy_data, copy_done, copy_fail, describe, execute, flush, parse, query,
    run, sync,
};

#[tokio::test]
async fn the_extended_protocol_is_answered_alike() {
    let scripts = [
        orders(),
        unnamed(),
        named(),
        named_gone_wrong(),
        portals(),
        formats(),
        copies(),
        flushes(),
        mixtures(),
        pipelines(),
        long_pipelines(),
        sql_and_protocol(),
    ];
    Stage::start().await.compare_all(&scripts.concat()).await;
}

/// A unit: messages and a Sync.
fn unit(messages: &[Vec<u8>]) -> (usize, Vec<u8>) {
    (1, [messages.concat(), sync()].concat())
}

const READ: &str = "SELECT id, name FROM items WHERE id = $1";
const WRITE: &str = "INSERT INTO scratch (name) VALUES ($1) RETURNING id";

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
    let with = |name, value| unit(&[bind("", name, &[value]), describe('P', ""), execute("", 0)]);
    vec![
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

fn copies() -> Vec<Script> {
    let begun = || [parse("", "COPY scratch FROM STDIN"), bind("", "", &[]), execute("", 0)].concat();
    let (good, bad) = (copy_data(b"1\tx\n"), copy_data(b"x\n"));
    let started = Until::Tags(b'G', 1);
    let ready = |n| Until::Tags(b'Z', n);
    let after = || {
        [
            (unit(&[parse("n", READ)]).1, ready(1)),
            (unit(&[bind("", "n", &["1"]), execute("", 0)]).1, ready(1)),
            (query("SELECT 1"), ready(1)),
            (unit(&[bind("", "n", &["2"]), execute("", 0)]).1, ready(1)),
        ]
    };
    let copy = |name, list: Vec<_>| steps(name, list.into_iter().chain(after()).collect());
    vec![
        script(
            "copy out",
            &[
                unit(&[run("COPY items TO STDOUT", &[])]),
                unit(&[run("COPY items TO STDOUT", &[]), run(READ, &["1"])]),
                unit(&[run("COPY (SELECT 1/(3-id) FROM items) TO STDOUT", &[]), run(READ, &["1"])]),
            ],
        ),
        copy(
            "copy in, Sync behind Execute",
            vec![
                ([begun(), sync()].concat(), started),
                ([good.clone(), copy_done(), sync()].concat(), ready(1)),
            ],
        ),
        copy(
            "copy in, Flush behind Execute",
            vec![
                ([begun(), flush()].concat(), started),
                ([good.clone(), copy_done(), sync()].concat(), ready(1)),
            ],
        ),
        copy(
            "copy in, in pieces",
            vec![
                ([begun(), flush()].concat(), started),
                (good.clone(), Until::Sent),
                (copy_done(), Until::Sent),
                (flush(), Until::Tags(b'C', 1)),
                (sync(), ready(1)),
            ],
        ),
        copy(
            "copy in without waiting",
            vec![
                ([begun(), good.clone(), copy_done(), sync()].concat(), ready(1)),
                (
                    [begun(), sync(), copy_data(b"2\tx\n"), copy_done(), sync(), run(READ, &["1"]), sync()]
                        .concat(),
                    ready(2),
                ),
            ],
        ),
        copy(
            "copy in given up",
            vec![
                ([begun(), sync()].concat(), started),
                ([good.clone(), copy_fail("no"), sync()].concat(), ready(1)),
            ],
        ),
        copy(
            "copy in of a bad row",
            vec![
                ([begun(), sync()].concat(), started),
                (bad.clone(), Until::Tags(b'E', 1)),
                ([good.clone(), copy_done(), sync()].concat(), ready(1)),
                ([begun(), bad, copy_done(), sync()].concat(), ready(1)),
            ],
        ),
        copy(
            "copy in that never starts",
            vec![
                ([run("COPY nowhere FROM STDIN", &[]), good.clone(), copy_done(), sync()].concat(), ready(1)),
                ([run("COPY nowhere FROM STDIN", &[]), sync(), good, copy_done(), sync()].concat(), ready(2)),
            ],
        ),
    ]
}

fn flushes() -> Vec<Script> {
    let tag = |tag, n| Until::Tags(tag, n);
    let asked = |text: &str| ([parse("s", text), describe('S', "s"), flush()].concat(), tag(b'T', 1));
    let used = |value: &str| ([bind("", "s", &[value]), execute("", 0), sync()].concat(), tag(b'Z', 1));
    let closed = || ([close('S', "s"), flush()].concat(), tag(b'3', 1));
    vec![
        steps(
            "as asyncpg does: reads",
            vec![
                asked(READ),
                used("1"),
                used("2"),
                (sync(), tag(b'Z', 1)),
                used("3"),
                ([close('S', "s"), sync()].concat(), tag(b'Z', 1)),
                used("3"),
            ],
        ),
        steps(
            "as asyncpg does: writes",
            vec![
                asked(WRITE),
                used("a"),
                used("b"),
                (query("BEGIN"), tag(b'Z', 1)),
                used("c"),
                (query("ROLLBACK"), tag(b'Z', 1)),
                closed(),
                used("d"),
            ],
        ),
        steps(
            "message by message",
            vec![
                (parse("", READ), Until::Sent),
                (flush(), tag(b'1', 1)),
                ([bind("", "", &["1"]), flush()].concat(), tag(b'2', 1)),
                ([describe('P', ""), flush()].concat(), tag(b'T', 1)),
                ([execute("", 0), flush()].concat(), tag(b'C', 1)),
                ([flush(), sync()].concat(), tag(b'Z', 1)),
            ],
        ),
        steps(
            "an error before the Sync",
            vec![
                ([parse("s", "nonsense"), flush()].concat(), tag(b'E', 1)),
                ([bind("", "s", &[]), flush()].concat(), Until::Sent),
                (sync(), tag(b'Z', 1)),
                asked(READ),
                ([bind("", "s", &["x"]), flush()].concat(), tag(b'E', 1)),
                (query("SELECT 1"), Until::Sent),
                (sync(), tag(b'Z', 1)),
                used("1"),
                (query("SELECT 1"), tag(b'Z', 1)),
            ],
        ),
        steps(
            "a portal by pieces",
            vec![
                (
                    [parse("", "SELECT generate_series(1, 5)"), bind("", "", &[]), execute("", 2), flush()]
                        .concat(),
                    tag(b's', 1),
                ),
                ([execute("", 2), flush()].concat(), tag(b's', 1)),
                ([execute("", 2), sync()].concat(), tag(b'Z', 1)),
            ],
        ),
        steps(
            "reads, then a write, in one unit",
            vec![
                ([parse("", READ), describe('S', ""), flush()].concat(), tag(b'T', 1)),
                ([run(WRITE, &["a"]), sync()].concat(), tag(b'Z', 1)),
                (query("SELECT 1"), tag(b'Z', 1)),
            ],
        ),
    ]
}

fn mixtures() -> Vec<Script> {
    let ready = |n| Until::Tags(b'Z', n);
    vec![
        script(
            "a query in the middle of a unit",
            &[
                (1, [run(READ, &["1"]), query("SELECT 1")].concat()),
                (2, [run(WRITE, &["a"]), query("SELECT 1"), sync()].concat()),
                (1, [parse("", READ), query("SELECT 1")].concat()),
                unit(&[bind("", "", &["1"])]),
                (2, [parse("s", READ), query("SELECT 1/0"), sync()].concat()),
                unit(&[bind("", "s", &["1"]), execute("", 0)]),
            ],
        ),
        steps(
            "a query in the middle of a unit, after a Flush",
            vec![
                ([run(READ, &["1"]), flush()].concat(), Until::Tags(b'C', 1)),
                (query("SELECT 1"), ready(1)),
                ([parse("s", READ), flush()].concat(), Until::Tags(b'1', 1)),
                ([query("SELECT 1"), bind("", "s", &["1"]), execute("", 0), sync()].concat(), ready(2)),
            ],
        ),
        script(
            "a function call in the middle of a unit",
            &[(1, [run(READ, &["1"]), crate::wire::function(177, &[&[0, 0, 0, 1], &[0, 0, 0, 2]])].concat())],
        ),
        script(
            "transactions by the extended protocol",
            &[
                unit(&[run("BEGIN", &[])]),
                unit(&[run(READ, &["1"])]),
                unit(&[run(WRITE, &["a"])]),
                unit(&[run("SELECT 1/0", &[])]),
                unit(&[run(READ, &["1"])]),
                unit(&[run("ROLLBACK", &[])]),
                unit(&[run("BEGIN", &[]), run(WRITE, &["a"]), run("COMMIT", &[])]),
                unit(&[run("BEGIN", &[]), run("SELECT 1/0", &[]), run("COMMIT", &[])]),
                unit(&[run("COMMIT", &[])]),
                unit(&[run("BEGIN READ ONLY", &[])]),
                unit(&[run(READ, &["2"])]),
                unit(&[run("COMMIT", &[])]),
            ],
        ),
        steps(
            "data in the middle of a unit",
            vec![
                (
                    [
                        parse("", READ),
                        copy_data(b"x"),
                        bind("", "", &["1"]),
                        copy_done(),
                        execute("", 0),
                        copy_fail("y"),
                        sync(),
                    ]
                    .concat(),
                    ready(1),
                ),
                ([copy_done(), run(READ, &["1"]), sync()].concat(), ready(1)),
                (query("SELECT 1"), ready(1)),
            ],
        ),
    ]
}

fn pipelines() -> Vec<Script> {
    let r = || [run(READ, &["1"]), sync()].concat();
    let w = || [run(WRITE, &["a"]), sync()].concat();
    let q = query;
    vec![
        script("many Syncs: reads", &[(20, (0..20).flat_map(|_| r()).collect())]).alternates(),
        script("many Syncs: reads and writes", &[(20, (0..10).flat_map(|_| [r(), w()].concat()).collect())]),
        script(
            "many Syncs: transactions",
            &[
                (
                    14,
                    [
                        q("BEGIN"),
                        w(),
                        r(),
                        q("COMMIT"),
                        r(),
                        r(),
                        q("BEGIN READ ONLY"),
                        r(),
                        q("COMMIT"),
                        w(),
                        r(),
                        q("BEGIN"),
                        w(),
                        q("ROLLBACK"),
                    ]
                    .concat(),
                ),
                (1, r()),
            ],
        ),
        script(
            "many Syncs: failed transactions",
            &[
                (
                    9,
                    [q("BEGIN"), w(), q("SELECT 1/0"), r(), w(), q("COMMIT"), r(), q("SELECT 1/0"), w()]
                        .concat(),
                ),
                (1, r()),
            ],
        ),
        script(
            "many Syncs: named",
            &[
                (
                    9,
                    [
                        parse("r", READ),
                        parse("w", WRITE),
                        sync(),
                        bind("", "r", &["1"]),
                        execute("", 0),
                        sync(),
                        bind("", "w", &["a"]),
                        execute("", 0),
                        sync(),
                        q("BEGIN"),
                        bind("", "r", &["2"]),
                        execute("", 0),
                        sync(),
                        q("COMMIT"),
                        bind("", "r", &["3"]),
                        execute("", 0),
                        sync(),
                        bind("", "no", &[]),
                        sync(),
                        close('S', "w"),
                        sync(),
                    ]
                    .concat(),
                ),
                (1, [bind("", "w", &["a"]), sync()].concat()),
                (1, [bind("", "r", &["1"]), execute("", 0), sync()].concat()),
            ],
        ),
    ]
}

/// So many statements before one Sync, one of them bad.
fn long_pipelines() -> Vec<Script> {
    let units = |text: &str, bad: &str, count: usize| -> Vec<(usize, Vec<u8>)> {
        let with =
            |at: usize| (0..count).map(|n| run(if n == at { bad } else { text }, &["1"])).collect::<Vec<_>>();
        [count, 0, count / 2, count - 1].map(|at| unit(&with(at))).to_vec()
    };
    let mut scripts = Vec::new();
    for (count, name) in [(1, "of 1"), (10, "of 10"), (100, "of 100"), (1000, "of 1000")] {
        scripts.push(script(["reads ", name].concat().leak(), &units(READ, "SELECT 1/($1::int-1)", count)));
        scripts.push(script(["writes ", name].concat().leak(), &units(WRITE, "nonsense", count)));
    }
    scripts
}

fn sql_and_protocol() -> Vec<Script> {
    let with = |name, value| unit(&[bind("", name, &[value]), execute("", 0)]);
    vec![
        script(
            "PREPARE, then Bind",
            &[
                (1, query("PREPARE s AS SELECT $1::int")),
                with("s", "1"),
                unit(&[parse("s", READ)]),
                unit(&[close('S', "s")]),
                (1, query("EXECUTE s (1)")),
            ],
        ),
        script(
            "Parse, then EXECUTE and DEALLOCATE",
            &[
                unit(&[parse("s", READ)]),
                (1, query("EXECUTE s (1)")),
                (1, query("DEALLOCATE s")),
                with("s", "1"),
                unit(&[parse("s", "SELECT $1 || 'x'")]),
                with("s", "1"),
            ],
        ),
        script(
            "Parse, then DISCARD ALL",
            &[
                unit(&[parse("s", READ)]),
                with("s", "1"),
                (1, query("DISCARD ALL")),
                with("s", "1"),
                unit(&[parse("s", WRITE)]),
                with("s", "1"),
            ],
        ),
    ]
}
