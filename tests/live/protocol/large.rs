//! Messages that are longer than a window, in every position.

use super::{Script, Stage, script, steps};
use crate::wire::{Until, bind, copy_data, copy_done, describe, execute, flush, parse, query, run, sync};

const MEGABYTE: usize = 1 << 20;

#[tokio::test]
async fn long_messages_are_answered_alike() {
    let scripts = [texts(), values(), replies(), copies(), edges()];
    Stage::start().await.compare_all(&scripts.concat()).await;
}

fn x(count: usize) -> String {
    "x".repeat(count)
}

fn unit(messages: &[Vec<u8>]) -> (usize, Vec<u8>) {
    (1, [messages.concat(), sync()].concat())
}

/// A read that is long for its comment.
fn long(text: &str) -> String {
    format!("/* {} */ {text}", x(MEGABYTE))
}

fn texts() -> Vec<Script> {
    let (read, write) = (long("SELECT $1::int"), long("INSERT INTO scratch (name) VALUES ($1) RETURNING id"));
    let again = |value| unit(&[bind("", "", &[value]), describe('P', ""), execute("", 0)]);
    let with = |value| unit(&[bind("", "s", &[value]), execute("", 0)]);
    vec![
        script(
            "a long query",
            &[
                (1, query(&long("SELECT 1"))),
                (3, [query("SELECT 0"), query(&long("SELECT 1; SELECT 1/0")), query("SELECT 2")].concat()),
                (1, query(&long("BEGIN"))),
                (1, query(&long("SELECT 1"))),
                (1, query("ROLLBACK")),
            ],
        ),
        script(
            "a long Parse",
            &[
                unit(&[run(&read, &["1"])]),
                again("2"),
                unit(&[run("SELECT 1", &[]), run(&read, &["1"]), run(&write, &["1"]), run("SELECT 2", &[])]),
                (2, [run(&read, &["1"]), sync(), run(&read, &["x"]), sync()].concat()),
            ],
        ),
        script(
            "a long Parse with a name",
            &[
                unit(&[parse("s", &read)]),
                with("1"),
                (1, query("SELECT 1")),
                with("2"),
                unit(&[parse("s", &read)]),
                unit(&[parse("t", &long("nonsense"))]),
                with("3"),
            ],
        ),
    ]
}

fn values() -> Vec<Script> {
    let value = x(5 * MEGABYTE);
    let read = "SELECT length($1)";
    let write = "INSERT INTO scratch (name) SELECT left($1, 5) RETURNING name";
    vec![script(
        "a long Bind",
        &[
            unit(&[run(read, &[&value])]),
            unit(&[parse("s", read), describe('S', "s")]),
            unit(&[bind("", "s", &[&value]), execute("", 0)]),
            unit(&[run(write, &[&value]), bind("", "s", &[&value]), execute("", 0), run(write, &[&value])]),
            unit(&[run("SELECT 1/0", &[]), run(write, &[&value]), run(read, &[&value])]),
            (3, [run(read, &[&value]), sync(), run(write, &[&value]), sync(), query("SELECT 1")].concat()),
            unit(&[bind("", "no", &[&value]), execute("", 0)]),
        ],
    )]
}

fn replies() -> Vec<Script> {
    vec![
        script(
            "long rows",
            &[
                (1, query("SELECT repeat('x', 3000000)")),
                (1, query("SELECT id, repeat('x', 100000) FROM items; SELECT 1/0; SELECT 1")),
                unit(&[run("SELECT repeat('x', 3000000)", &[]), run("SELECT 1", &[])]),
                (
                    3,
                    [
                        query("SELECT repeat('y', 65530)"),
                        query("SELECT repeat('y', 200000)"),
                        query("SELECT 1"),
                    ]
                    .concat(),
                ),
                (1, query("SELECT generate_series(1, 50000)")),
            ],
        )
        .alternates(),
        script(
            "long errors and notices",
            &[
                (1, query("DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 300000); END $$")),
                (1, query("DO $$ BEGIN RAISE NOTICE '%', repeat('x', 300000); END $$")),
                (1, query("SELECT loud(repeat('x', 300000))")),
                unit(&[run("DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 300000); END $$", &[])]),
                (1, query("SELECT 1")),
            ],
        ),
        script("long copied rows", &[(1, query("COPY (SELECT repeat('x', 2000000), 1) TO STDOUT"))]),
    ]
}

fn copies() -> Vec<Script> {
    let begin = query("COPY scratch (name) FROM STDIN");
    let started = Until::Tags(b'G', 1);
    let ready = |n| Until::Tags(b'Z', n);
    let data = [copy_data(format!("{}\n", x(2 * MEGABYTE)).as_bytes()), copy_done()].concat();
    let bad = copy_data(format!("1\t{}\n", x(2 * MEGABYTE)).as_bytes());
    let extended = [parse("", "COPY scratch (name) FROM STDIN"), bind("", "", &[]), execute("", 0)].concat();
    let count = (query("BEGIN; SELECT count(*), sum(length(name)) FROM scratch; END"), ready(1));
    vec![
        steps(
            "long data",
            vec![
                (begin.clone(), started),
                (data.clone(), ready(1)),
                ([begin.clone(), data.clone(), query("SELECT 1")].concat(), ready(2)),
                count.clone(),
            ],
        ),
        steps(
            "long data by Execute",
            vec![
                ([extended.clone(), flush()].concat(), started),
                ([data.clone(), sync()].concat(), ready(1)),
                ([extended.clone(), data.clone(), sync(), query("SELECT 1")].concat(), ready(2)),
                count,
            ],
        ),
        steps(
            "long data that is bad",
            vec![
                (begin.clone(), started),
                ([bad.clone(), data.clone(), query("SELECT 1")].concat(), ready(2)),
                ([extended, bad, data, sync(), query("SELECT 1")].concat(), ready(2)),
                (query("SELECT 1"), ready(1)),
            ],
        ),
    ]
}

/// Messages that just fit into a window, and just do not.
fn edges() -> Vec<Script> {
    let mut steps = Vec::new();
    for size in (65_536 - 16..65_536 + 4).step_by(3).chain([65_536]) {
        let text = format!("SELECT length('{}')", x(size - 5 - 1 - 18));
        steps.push((3, [query("SELECT 1"), query(&text), query("SELECT 2")].concat()));
        let with = run("SELECT length($1)", &[&x(size)]);
        steps.push((2, [with.clone(), sync(), run("SELECT 1", &[]), with, sync()].concat()));
        steps.push((1, query(&format!("SELECT repeat('x', {size}); SELECT 2"))));
    }
    vec![script("messages as long as a window", &steps).alternates()]
}
