//! The extended protocol: COPY, clients that Flush, units broken off by a query, pipelines.

#![allow(clippy::too_many_lines, reason = "tables of scripts, a message a line")]

use super::extended::{READ, WRITE, unit};
use super::{Script, Stage, script, steps};
use crate::wire::{
    Until, bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, function, parse, query,
    run, sync,
};

#[tokio::test]
async fn copies_and_pipelines_are_answered_alike() {
    let scripts = [copies(), flushes(), mixtures(), pipelines(), long_pipelines(), sql_and_protocol()];
    Stage::start().await.compare_all(&scripts.concat()).await;
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
        )
        // PostgreSQL 18 says that a transaction is open behind such a query: one that only a Sync ends, on the server that has it.
        .before_version(180_000),
        steps(
            "a query in the middle of a unit, after a Flush",
            vec![
                ([run(READ, &["1"]), flush()].concat(), Until::Tags(b'C', 1)),
                (query("SELECT 1"), ready(1)),
                ([parse("s", READ), flush()].concat(), Until::Tags(b'1', 1)),
                ([query("SELECT 1"), bind("", "s", &["1"]), execute("", 0), sync()].concat(), ready(2)),
            ],
        ),
        steps(
            "a query in the middle of a unit that has failed, and the rest later",
            vec![
                ([run("SELECT nowhere", &[]), query("SELECT 1")].concat(), Until::Tags(b'E', 1)),
                (run(READ, &["1"]), Until::Sent),
                (sync(), ready(1)),
                (
                    [bind("", "missing", &[]), execute("", 0), query("SELECT 1")].concat(),
                    Until::Tags(b'E', 1),
                ),
                (
                    [parse("later", READ), bind("", "later", &["1"]), execute("", 0), sync()].concat(),
                    ready(1),
                ),
                (
                    [parse("later", READ), bind("", "later", &["1"]), execute("", 0), sync()].concat(),
                    ready(1),
                ),
                (query("SELECT 1"), ready(1)),
            ],
        ),
        script(
            "a function call in the middle of a unit",
            &[(1, [run(READ, &["1"]), function(177, &[&[0, 0, 0, 1], &[0, 0, 0, 2]])].concat())],
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

/// So many statements before one Sync, one of them bad: in short ones each in its turn, in long ones some.
fn long_pipelines() -> Vec<Script> {
    let units = |text: &str, bad: &str, count: usize| -> Vec<(usize, Vec<u8>)> {
        let with =
            |at: usize| (0..count).map(|n| run(if n == at { bad } else { text }, &["1"])).collect::<Vec<_>>();
        let step = if count <= 100 { 1 } else { count / 4 };
        (0..count).step_by(step).chain([count - 1, count]).map(|at| unit(&with(at))).collect()
    };
    let mut scripts = Vec::new();
    for count in [1, 2, 3, 10, 33, 100, 333, 1000] {
        let name = |what: &str| format!("{what} of {count}").leak();
        scripts.push(script(name("reads"), &units(READ, "SELECT 1/($1::int-1)", count)));
        scripts.push(script(name("writes"), &units(WRITE, "nonsense", count)));
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
                unit(&[parse("s", READ), parse("Two \"2\"", WRITE)]),
                (1, query("EXECUTE s (1)")),
                (1, query("EXPLAIN (COSTS OFF) EXECUTE s (2)")),
                (1, query("EXECUTE \"Two \"\"2\"\"\" ('x'); EXECUTE s (3); SELECT 1/0")),
                (1, query("PREPARE s AS SELECT 1")),
                unit(&[run("EXECUTE s (2)", &[])]),
                (1, query("DEALLOCATE s; DEALLOCATE PREPARE \"Two \"\"2\"\"\"")),
                with("s", "1"),
                (1, query("EXECUTE s (1)")),
                (1, query("DEALLOCATE s")),
                unit(&[parse("s", WRITE)]),
                with("s", "y"),
                unit(&[run("DEALLOCATE s", &[])]),
                with("s", "z"),
                (1, query("PREPARE s AS SELECT 5")),
                unit(&[parse("s", READ)]),
                (1, query("EXECUTE s")),
                (1, query("DEALLOCATE s")),
                unit(&[parse("s", READ)]),
                with("s", "2"),
            ],
        ),
        script(
            "names in a failed transaction",
            &[
                unit(&[parse("s", READ), parse("end", "ROLLBACK")]),
                (1, query("BEGIN")),
                with("s", "1"),
                (1, query("SELECT 1/0")),
                with("s", "1"),
                unit(&[parse("t", READ)]),
                unit(&[parse("t", "ROLLBACK")]),
                (1, query("EXECUTE s (1)")),
                (1, query("DEALLOCATE s")),
                unit(&[bind("", "end", &[]), execute("", 0)]),
                with("s", "2"),
            ],
        ),
        script(
            "savepoints by name",
            &[
                unit(&[parse("to", "ROLLBACK TO SAVEPOINT a"), parse("s", READ)]),
                (1, query("BEGIN; SAVEPOINT a")),
                (1, query("SELECT 1/0")),
                unit(&[bind("", "to", &[]), execute("", 0)]),
                with("s", "1"),
                (1, query("SELECT 1/0")),
                unit(&[parse("again", "ROLLBACK TO SAVEPOINT a"), bind("", "again", &[]), execute("", 0)]),
                (1, query("SELECT 1/0")),
                unit(&[parse("same", READ)]),
                unit(&[parse("third", "ROLLBACK TO SAVEPOINT a"), bind("", "third", &[]), execute("", 0)]),
                unit(&[parse("same", READ), bind("", "same", &["2"]), execute("", 0)]),
                (1, query("COMMIT")),
                with("same", "3"),
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
