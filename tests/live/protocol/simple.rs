//! Simple queries: results, errors of all kinds, notices, COPY, function calls, transactions.

#![allow(clippy::too_many_lines, reason = "tables of scripts, a message a line")]

use super::{Script, Stage, queries, script, steps};
use crate::wire::{Until, copy_data, copy_done, copy_fail, flush, function, query, sync};

#[tokio::test]
async fn simple_queries_are_answered_alike() {
    let scripts =
        [statements(), errors(), sessions(), copies(), copies_gone_wrong(), transactions(), calls()];
    Stage::start().await.compare_all(&scripts.concat()).await;
}

fn statements() -> Vec<Script> {
    vec![
        queries("one read", &["SELECT * FROM items ORDER BY id"]).alternates(),
        queries("reads", &["SELECT 1", "SELECT 'x' AS y", "SELECT NULL", "SELECT FROM items"]).alternates(),
        queries("several statements", &["SELECT 1; SELECT 2, 'b'; SELECT 3", "SELECT 1;;;"]).alternates(),
        queries("nothing", &["", " ", ";", "-- nothing", "/* no /* thing */ */", "\n;\n;"]).alternates(),
        queries(
            "writes",
            &[
                "INSERT INTO scratch (name) VALUES ('a'), ('b') RETURNING *",
                "UPDATE scratch SET name = name || id RETURNING name",
                "DELETE FROM scratch WHERE id = 1",
                "TRUNCATE scratch",
                "CREATE TEMP TABLE t (a int)",
                "DROP TABLE t",
            ],
        ),
        queries(
            "statements of both kinds in one text",
            &[
                "INSERT INTO scratch (name) VALUES ('a'); SELECT count(*) FROM scratch; DELETE FROM scratch; SELECT 4",
            ],
        ),
        queries(
            "show and explain",
            &[
                "SHOW DateStyle",
                "EXPLAIN (COSTS OFF) SELECT * FROM items",
                "EXPLAIN (COSTS OFF) DELETE FROM scratch",
                "VALUES (1, 2), (3, 4)",
                "TABLE items",
            ],
        )
        .alternates(),
        script(
            "a pipeline of queries",
            &[(
                6,
                [
                    query("SELECT 1"),
                    query("INSERT INTO scratch (name) VALUES ('a')"),
                    query("SELECT * FROM items"),
                    query("BEGIN; SELECT count(*) FROM scratch"),
                    query("nonsense"),
                    query("ROLLBACK"),
                ]
                .concat(),
            )],
        ),
    ]
}

fn errors() -> Vec<Script> {
    vec![
        queries(
            "errors of reads",
            &[
                "SELECT",
                "SELECT nothing",
                "SELEC 1",
                "SELECT 1/0",
                "SELECT * FROM nowhere",
                "SELECT 1 FROM items WHERE id = 'x'",
                "SELECT 'unterminated",
                "SELECT 1/(id - 2) FROM items ORDER BY id",
                "SELECT 1; SELECT 1/0; SELECT 2",
                "SELECT 1",
            ],
        )
        .alternates(),
        queries(
            "errors of writes",
            &[
                "INSERT INTO scratch (name) VALUES (NULL)",
                "INSERT INTO scratch VALUES (1, 'a'), (1, 'b')",
                "INSERT INTO scratch (name) VALUES ('a'); SELECT 1/0",
                "SELECT count(*) FROM items",
                "DROP TABLE nowhere",
                "CREATE TABLE items (a int)",
            ],
        ),
        queries(
            "raised",
            &[
                "DO $$ BEGIN RAISE DEBUG 'd'; RAISE LOG 'l'; RAISE INFO 'i'; RAISE NOTICE 'n'; END $$",
                "DO $$ BEGIN RAISE WARNING 'w' USING DETAIL = 'd', HINT = 'h', ERRCODE = '01234'; END $$",
                "DO $$ BEGIN RAISE EXCEPTION 'e' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'ABCDE', TABLE = 't'; END $$",
                "SELECT loud('a'), loud('bc')",
                "SET client_min_messages = debug5",
                "DO $$ BEGIN RAISE DEBUG 'd'; END $$",
                "COMMIT",
                "ROLLBACK",
                "BEGIN",
                "BEGIN",
                "END",
            ],
        ),
    ]
}

fn sessions() -> Vec<Script> {
    vec![
        queries(
            "settings",
            &[
                "SET DateStyle = 'German'",
                "SELECT '2001-02-03'::date",
                "SET TimeZone = 'Asia/Tokyo'",
                "SET application_name = 'somebody'",
                "SHOW application_name",
                "SET nonsense = 1",
                "RESET ALL",
                "SHOW DateStyle",
                "BEGIN; SET LOCAL TimeZone = 'UTC'; SHOW TimeZone",
                "ROLLBACK",
                "SHOW TimeZone",
                "SET client_encoding = 'LATIN1'",
                "SELECT 'x'",
                "SET client_encoding = 'SJIS'",
                "SELECT 'y'",
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                "SELECT 1",
            ],
        ),
        queries(
            "notifications",
            &[
                // In a transaction: on a connection of the client's own, which tells it of its own notifications at once.
                "BEGIN; LISTEN here; COMMIT",
                "NOTIFY here, 'a'",
                "SELECT pg_notify('here', 'b')",
                "BEGIN; NOTIFY here, 'c'; NOTIFY there, 'd'",
                "SELECT 1",
                "COMMIT",
                "UNLISTEN *",
                "NOTIFY here, 'e'",
            ],
        ),
        queries(
            "prepared by SQL",
            &[
                "PREPARE s (int) AS SELECT $1 + 1",
                "EXECUTE s (1)",
                "EXECUTE s ('x')",
                "PREPARE s AS SELECT 1",
                "DEALLOCATE s",
                "EXECUTE s (1)",
            ],
        ),
        queries(
            "cursors",
            &[
                "BEGIN",
                "DECLARE c CURSOR FOR SELECT * FROM items ORDER BY id",
                "FETCH 2 FROM c",
                "FETCH ALL FROM c",
                "CLOSE c",
                "COMMIT",
                "DECLARE d CURSOR FOR SELECT 1",
                "DECLARE e CURSOR WITH HOLD FOR SELECT 1",
                "FETCH e",
                "CLOSE e",
            ],
        ),
        queries(
            "temporary tables",
            &[
                "CREATE TEMP TABLE t AS SELECT 1 AS a",
                "INSERT INTO t VALUES (2)",
                "SELECT count(*), sum(a) FROM t",
                "DISCARD ALL",
                "SELECT count(*) FROM t",
            ],
        ),
        queries(
            "locks",
            &[
                "SELECT pg_advisory_lock(7)",
                "SELECT pg_advisory_unlock(7)",
                "SELECT pg_advisory_unlock(7)",
                "SELECT id FROM items WHERE id = 1 FOR UPDATE",
            ],
        ),
    ]
}

fn copies() -> Vec<Script> {
    let (one, two) = (query("COPY scratch FROM STDIN"), query("COPY scratch (name) FROM STDIN"));
    let started = Until::Tags(b'G', 1);
    let ready = |n| Until::Tags(b'Z', n);
    let done = || [copy_data(b"7\tx\n8\t"), copy_data(b"y\n"), copy_done()].concat();
    vec![
        queries(
            "copy out",
            &[
                "COPY items TO STDOUT",
                "COPY (SELECT * FROM items WHERE id = 2) TO STDOUT CSV HEADER",
                "COPY items TO STDOUT BINARY",
                "COPY nowhere TO STDOUT",
                "COPY (SELECT 1/(3-id) FROM items) TO STDOUT",
                "COPY items TO STDOUT; SELECT 1; COPY items (id) TO STDOUT",
            ],
        ),
        steps(
            "copy in",
            vec![
                (one.clone(), started),
                (done(), ready(1)),
                (query("BEGIN; COPY scratch TO STDOUT; END"), ready(1)),
                (query("BEGIN"), ready(1)),
                (two.clone(), started),
                (copy_data(b"in\n"), Until::Sent),
                (copy_done(), ready(1)),
                (query("ROLLBACK; SELECT count(*) FROM items"), ready(1)),
            ],
        ),
        steps(
            "copy in of nothing",
            vec![(one.clone(), started), (copy_done(), ready(1)), (query("SELECT 1"), ready(1))],
        ),
        steps(
            "copy in with Sync and Flush inside",
            vec![
                (one.clone(), started),
                (
                    [sync(), copy_data(b"1\tx\n"), flush(), sync(), copy_data(b"2\ty\n"), copy_done()]
                        .concat(),
                    ready(1),
                ),
                (query("SELECT 1"), ready(1)),
                (sync(), ready(1)),
            ],
        ),
        steps(
            "copy in without waiting",
            vec![
                ([one.clone(), done(), query("SELECT 2")].concat(), ready(2)),
                (
                    [one.clone(), sync(), copy_data(b"9\tx\n"), sync(), copy_done(), query("SELECT 3")]
                        .concat(),
                    ready(2),
                ),
            ],
        ),
        steps(
            "copy in, and more in one text",
            vec![
                (query("COPY scratch FROM STDIN; SELECT 1"), started),
                (done(), ready(1)),
                (query("SELECT 0; COPY scratch FROM STDIN; COPY scratch (name) FROM STDIN"), started),
                ([copy_data(b"9\tz\n"), copy_done()].concat(), started),
                ([copy_data(b"name\n"), copy_done()].concat(), ready(1)),
                (query("SELECT 1"), ready(1)),
            ],
        ),
    ]
}

fn copies_gone_wrong() -> Vec<Script> {
    let one = query("COPY scratch FROM STDIN");
    let started = Until::Tags(b'G', 1);
    let ready = |n| Until::Tags(b'Z', n);
    let bad = || copy_data(b"1\tx\n2\tx\ttoo much\n");
    vec![
        steps(
            "copy in of a bad row",
            vec![
                (one.clone(), started),
                ([bad(), copy_done()].concat(), ready(1)),
                (query("SELECT 1"), ready(1)),
                (one.clone(), started),
                (bad(), ready(1)),
                ([copy_data(b"3\tz\n"), copy_done(), query("SELECT count(*) FROM items")].concat(), ready(1)),
            ],
        ),
        steps(
            "copy in that the client gives up",
            vec![
                (one.clone(), started),
                ([copy_data(b"1\tx\n"), copy_fail("no more")].concat(), ready(1)),
                (query("SELECT 1"), ready(1)),
                (query("COPY scratch FROM STDIN; SELECT 1"), started),
                (copy_fail(""), ready(1)),
                (sync(), ready(1)),
            ],
        ),
        steps(
            "copy in that never starts",
            vec![
                ([query("COPY nowhere FROM STDIN"), copy_data(b"1\n"), copy_done()].concat(), ready(1)),
                (query("SELECT 1"), ready(1)),
                (
                    [query("COPY nowhere FROM STDIN"), copy_data(b"1\n"), copy_fail("x"), query("SELECT 2")]
                        .concat(),
                    ready(2),
                ),
            ],
        ),
        steps(
            "copy in of a bad row in a transaction",
            vec![
                (query("BEGIN"), ready(1)),
                (one.clone(), started),
                ([bad(), copy_done()].concat(), ready(1)),
                (query("SELECT 1"), ready(1)),
                (query("ROLLBACK"), ready(1)),
            ],
        ),
        steps(
            "data that nobody asked for",
            vec![
                ([copy_data(b"x"), copy_done(), copy_fail("y"), query("SELECT 1")].concat(), ready(1)),
                (copy_done(), Until::Sent),
                ([query("SELECT * FROM items"), copy_data(b"")].concat(), ready(1)),
                ([copy_fail("z"), sync()].concat(), ready(1)),
            ],
        )
        .alternates(),
    ]
}

fn transactions() -> Vec<Script> {
    vec![
        queries(
            "a transaction",
            &[
                "BEGIN",
                "SELECT 1",
                "INSERT INTO scratch (name) VALUES ('a') RETURNING id",
                "SELECT count(*) FROM scratch",
                "COMMIT",
                "BEGIN",
                "SELECT 1",
                "ROLLBACK",
                "SELECT 2",
            ],
        ),
        queries(
            "a failed transaction",
            &[
                "BEGIN",
                "SELECT 1/0",
                "SELECT 1",
                "INSERT INTO scratch (name) VALUES ('a')",
                "COMMIT",
                "SELECT 1",
                "BEGIN; SELECT 1/0; SELECT 1",
                "",
                "ROLLBACK",
            ],
        ),
        queries(
            "savepoints",
            &[
                "BEGIN",
                "SAVEPOINT a",
                "SELECT 1/0",
                "ROLLBACK TO SAVEPOINT a",
                "SELECT 1",
                "SAVEPOINT b",
                "RELEASE a",
                "ROLLBACK TO b",
                "SELECT 1",
                "ROLLBACK",
                "SAVEPOINT c",
                "SELECT 1",
            ],
        ),
        queries(
            "read only",
            &[
                "BEGIN READ ONLY",
                "SELECT * FROM items ORDER BY id",
                "SELECT 1/0",
                "SELECT 1",
                "ROLLBACK",
                "START TRANSACTION READ ONLY",
                "SELECT 1",
                "COMMIT",
                "BEGIN READ ONLY",
                "SAVEPOINT a",
                "SELECT 1/0",
                "ROLLBACK TO a",
                "SELECT 1",
                "COMMIT",
                "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
                "SELECT 1",
                "END",
            ],
        ),
        queries(
            "writes in read only",
            &["BEGIN READ ONLY", "INSERT INTO scratch (name) VALUES ('a')", "SELECT 1", "ROLLBACK"],
        ),
        queries(
            "several transactions in one text",
            &[
                "BEGIN; SELECT 1; COMMIT; SELECT 2; BEGIN; SELECT 3",
                "COMMIT; SELECT 4",
                "BEGIN; INSERT INTO scratch (name) VALUES ('a'); COMMIT; SELECT 1/0; SELECT 2",
            ],
        ),
        queries(
            "chains",
            &["BEGIN", "SELECT 1", "COMMIT AND CHAIN", "SELECT 2", "ROLLBACK AND CHAIN", "COMMIT"],
        ),
    ]
}

fn calls() -> Vec<Script> {
    let (add, one, two) = (177, 1_i32.to_be_bytes(), 2_i32.to_be_bytes());
    vec![
        script(
            "function calls",
            &[
                (1, function(add, &[&one, &two])),
                (1, function(add, &[&one])),
                (1, function(1, &[])),
                (1, function(add, &[&one, b"x"])),
                (1, query("BEGIN")),
                (1, function(add, &[&one, &two])),
                (1, function(1, &[])),
                (1, function(add, &[&one, &two])),
                (1, query("ROLLBACK")),
            ],
        ),
        script(
            "function calls in a pipeline",
            &[(
                4,
                [function(add, &[&one, &two]), query("SELECT 1"), function(1, &[]), query("SELECT 2")]
                    .concat(),
            )],
        ),
    ]
}
