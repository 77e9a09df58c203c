//! What splitters get wrong, statement by statement: each is tried eight times on new connections, by simple and by extended query,
//! with the default configuration before a primary and two replicas. No client sees an error, every answer is right, and the
//! servers' own logs show where each statement ran.
//!
//! A read right after a write outside a transaction is not in the table: nothing is promised of it yet.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::BytesMut;
use pgweir::app::Pgweir;
use pgweir::cli::demo::cluster::{Cluster, Postgres, eventually};

use crate::programs::{SOON, before, cluster, port, wait_for_replica};
use crate::raw::{self, Answer, Raw};
use crate::speaker::Speaker;

const TRIES: usize = 8;

const SCHEMA: &str = "
    CREATE TABLE t (id serial PRIMARY KEY, a int);
    INSERT INTO t (a) SELECT 7 FROM generate_series(1, 3);
    CREATE TABLE log (n int);
    CREATE UNLOGGED TABLE quick AS SELECT 7 AS a;
    CREATE SEQUENCE s;
    CREATE FUNCTION f_write() RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN INSERT INTO public.log VALUES (1); RETURN 7; END';
    CREATE FUNCTION f_read() RETURNS int LANGUAGE sql STABLE AS 'SELECT max(a) FROM t';
    CREATE SCHEMA app;
    CREATE FUNCTION app.f() RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN INSERT INTO public.log VALUES (2); RETURN 7; END';
    CREATE FUNCTION app.f_app() RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN INSERT INTO public.log VALUES (3); RETURN 7; END';
    CREATE VIEW v_write AS SELECT f_write() AS a;
    CREATE VIEW v_read AS SELECT id, a FROM t;";

/// Where a statement must run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Primary,
    Replica,
    /// Wherever the statements before it ran.
    Same,
}
use At::{Primary, Replica, Same};

/// A statement, where it must run, and the first column of its first row; empty: not looked at.
type Step = (&'static str, At, &'static str);

/// What one client does, one after the other.
type Row = (&'static str, &'static [Step]);

const TABLE: &[Row] = &[
    ("plain SELECT", &[("SELECT a FROM t", Replica, "7")]),
    ("nextval", &[("SELECT nextval('s') > 0", Primary, "t")]),
    ("volatile function that inserts", &[("SELECT f_write()", Primary, "7")]),
    ("the same, with its schema", &[("SELECT app.f()", Primary, "7")]),
    (
        "search_path, then a writer in it",
        &[("SET search_path = app", Primary, ""), ("SELECT f_app()", Primary, "7")],
    ),
    ("txid_current", &[("SELECT txid_current() > 0", Primary, "t")]),
    ("FOR UPDATE", &[("SELECT a FROM t WHERE id = 1 FOR UPDATE", Primary, "7")]),
    (
        "INSERT in WITH",
        &[("WITH x AS (INSERT INTO log VALUES (4) RETURNING n) SELECT n FROM x", Primary, "4")],
    ),
    (
        "SELECT INTO",
        &[
            ("BEGIN", Primary, ""),
            ("SELECT a INTO made FROM t", Same, ""),
            ("SELECT a FROM made", Same, "7"),
            ("ROLLBACK", Same, ""),
        ],
    ),
    ("EXPLAIN ANALYZE INSERT", &[("EXPLAIN ANALYZE INSERT INTO log VALUES (5)", Primary, "")]),
    (
        "advisory lock, then unlock",
        &[
            ("SELECT pg_advisory_lock(count(*)) FROM log WHERE n = -1", Primary, ""),
            ("SELECT pg_advisory_unlock(0)", Primary, "t"),
        ],
    ),
    (
        "SELECT in BEGIN READ ONLY",
        &[("BEGIN READ ONLY", Replica, ""), ("SELECT a FROM t", Same, "7"), ("COMMIT", Same, "")],
    ),
    (
        "SELECT, then UPDATE in one transaction",
        &[
            ("BEGIN", Primary, ""),
            ("SELECT a FROM t", Same, "7"),
            ("UPDATE t SET a = 7", Same, ""),
            ("COMMIT", Same, ""),
        ],
    ),
    (
        "temporary table",
        &[("CREATE TEMP TABLE mine AS SELECT 9 AS a", Primary, ""), ("SELECT a FROM mine", Primary, "9")],
    ),
    (
        "SET, then reads",
        &[
            ("SET statement_timeout = '1234ms'", Primary, ""),
            ("SHOW statement_timeout", Replica, "1234ms"),
            ("SELECT a FROM t", Replica, "7"),
            ("SHOW statement_timeout", Replica, "1234ms"),
        ],
    ),
    ("COPY TO STDOUT", &[("COPY t TO STDOUT", Replica, "")]),
    ("COPY FROM STDIN", &[("COPY log FROM STDIN", Primary, "")]),
    ("SHOW transaction_read_only", &[("SHOW transaction_read_only", Primary, "off")]),
    (
        "cursor",
        &[
            ("BEGIN", Primary, ""),
            ("DECLARE c CURSOR FOR SELECT a FROM t", Same, ""),
            ("FETCH c", Same, "7"),
            ("COMMIT", Same, ""),
        ],
    ),
    ("view that only reads", &[("SELECT a FROM v_read", Replica, "7")]),
];

/// Only a simple Query can hold several statements, and only in one EXECUTE does what was prepared.
const SIMPLE: &[Row] = &[
    ("SELECT, then INSERT in one Query", &[("SELECT 8; INSERT INTO log VALUES (6)", Primary, "8")]),
    (
        "PREPARE, then EXECUTE",
        &[
            ("PREPARE p AS SELECT a FROM t", Primary, ""),
            ("EXECUTE p", Replica, "7"),
            ("DEALLOCATE p", Primary, ""),
        ],
    ),
];

/// What cannot be known without the catalog of the database.
const NEEDS_CATALOG: &[Row] = &[
    ("view that calls a writer", &[("SELECT a FROM v_write", Primary, "7")]),
    ("stable function", &[("SELECT f_read()", Replica, "7")]),
    ("unlogged table", &[("SELECT a FROM quick", Primary, "7")]),
];

async fn start() -> (Cluster, Pgweir) {
    let cluster = cluster().setting("log_min_duration_statement", "0").replicas(2).start().await.unwrap();
    cluster.primary().sql(SCHEMA).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let pgweir = before(&cluster).await;
    wait_for_replica(port(&pgweir), "postgres").await;
    (cluster, pgweir)
}

async fn client(pgweir: &Pgweir) -> Raw {
    Raw::login(pgweir.addresses()[0], &[]).await.unwrap()
}

/// One statement; an empty COPY, if it asks for data.
async fn run(client: &mut Raw, text: &str, extended: bool) -> anyhow::Result<Answer> {
    if extended {
        client.send(&joined([raw::extended("", text), raw::sync()])).await?;
    } else {
        client.send(&raw::query(text)).await?;
    }
    let answer = client.answer().await?;
    if !answer.tags.ends_with('G') {
        return Ok(answer);
    }
    // A Sync that came while data was awaited counts for nothing.
    let end = if extended { raw::sync() } else { BytesMut::new() };
    client.send(&joined([raw::copy_data(b"1\n"), raw::copy_done(), end])).await?;
    client.answer().await
}

fn joined<const N: usize>(parts: [BytesMut; N]) -> BytesMut {
    parts.into_iter().fold(BytesMut::new(), |mut all, part| {
        all.unsplit(part);
        all
    })
}

/// A statement that was run: its mark in the logs, and where it should have run.
struct Ran {
    mark: String,
    at: At,
    /// The mark of the statement before it on the same connection, if it must be at the same place.
    with: String,
}

/// Tries every row; says what clients saw that they should not.
async fn try_all(pgweir: &Pgweir, rows: &[Row], extended: bool, wrong: &mut String) -> Vec<Ran> {
    let mut all: Vec<Ran> = Vec::new();
    let mut watcher = Speaker::connect(port(pgweir), "postgres").await.unwrap();
    for (number, (name, steps)) in rows.iter().enumerate() {
        for round in 0..TRIES {
            watcher.knows_names().await;
            let mut client = client(pgweir).await;
            for (at, (text, place, expected)) in steps.iter().enumerate() {
                let mark = format!("/* {}{number}.{round}.{at} */", if extended { "x" } else { "s" });
                let answer = run(&mut client, &format!("{text} {mark}"), extended).await.unwrap();
                let value = answer.rows.first().and_then(|row| row[0].clone()).unwrap_or_default();
                if !answer.errors.is_empty() || !expected.is_empty() && value != *expected {
                    writeln!(
                        wrong,
                        "{name}: {text}\n    expected {expected:?}\n    got {value:?} {:?}",
                        answer.errors
                    )
                    .unwrap();
                }
                let with = if *place == Same { all.last().unwrap().mark.clone() } else { String::new() };
                all.push(Ran { mark, at: *place, with });
            }
        }
    }
    all
}

/// The servers whose logs have the mark.
fn seen(logs: &[String], mark: &str) -> Vec<usize> {
    (0..logs.len()).filter(|&server| logs[server].contains(mark)).collect()
}

async fn compare_logs(cluster: &Cluster, all: &[Ran], wrong: &mut String) {
    let logs = || cluster.all().iter().map(Postgres::log).collect::<Vec<_>>();
    // The last ones may still be on their way into the log.
    let complete = || async {
        let logs = logs();
        all.iter().all(|ran| !seen(&logs, &ran.mark).is_empty())
    };
    let _ = eventually(Duration::from_secs(10), complete).await;
    let logs = logs();
    let mut replicas = [0, 0, 0];
    for Ran { mark, at, with } in all {
        let found = seen(&logs, mark);
        let fine = match at {
            Primary => found == [0],
            Replica => found.len() == 1 && found[0] > 0,
            Same => found.len() == 1 && found == seen(&logs, with),
        };
        for &server in &found {
            replicas[server] += 1;
        }
        if !fine {
            let line =
                logs.iter().flat_map(|log| log.lines()).find(|line| line.contains(mark)).unwrap_or(mark);
            writeln!(wrong, "{line}\n    expected {at:?}, got servers {found:?} (0: the primary)").unwrap();
        }
    }
    println!("{} statements; by server: {replicas:?}", all.len());
}

async fn check(simple_only: &[Row], both: &[Row]) {
    let (cluster, pgweir) = start().await;
    let mut wrong = String::new();
    let rows: Vec<Row> = both.iter().chain(simple_only).copied().collect();
    for (extended, rows) in [(false, &rows[..]), (true, both)] {
        let all = try_all(&pgweir, rows, extended, &mut wrong).await;
        compare_logs(&cluster, &all, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn every_statement_runs_where_it_must() {
    check(SIMPLE, TABLE).await;
}

#[tokio::test]
async fn statements_whose_names_must_be_known_run_where_they_must() {
    check(&[], NEEDS_CATALOG).await;
}

/// Prepares by name what it is given, runs each so many times in turn, and looks at the first value of each.
async fn prepared(pgweir: &Pgweir, statements: &[(&str, &str)], rounds: usize) {
    let mut client = client(pgweir).await;
    for (at, (text, _)) in statements.iter().enumerate() {
        client.send(&joined([raw::extended(&format!("p{at}"), text), raw::sync()])).await.unwrap();
        assert_eq!(client.answer().await.unwrap().errors, [], "{text}");
    }
    for _ in 0..rounds {
        for (at, (text, expected)) in statements.iter().enumerate() {
            client.send(&joined([raw::execute(&format!("p{at}")), raw::sync()])).await.unwrap();
            let answer = client.answer().await.unwrap();
            assert_eq!(answer.errors, [], "{text}");
            assert_eq!(
                answer.rows.first().and_then(|row| row[0].as_deref()).unwrap_or_default(),
                *expected,
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn what_takes_more_than_one_statement() {
    let (cluster, pgweir) = start().await;
    let in_recovery = "SELECT pg_is_in_recovery()::text";
    for _ in 0..TRIES {
        prepared(&pgweir, &[(in_recovery, "true")], 4).await;
        prepared(
            &pgweir,
            &[
                (in_recovery, "true"),
                ("UPDATE t SET a = 7 WHERE id = 1 RETURNING pg_is_in_recovery()::text", "false"),
            ],
            4,
        )
        .await;

        let mut listener = Speaker::connect(port(&pgweir), "postgres").await.unwrap();
        assert_eq!(listener.simple("LISTEN news").await.codes(), [""; 0]);
        let mut speaker = client(&pgweir).await;
        speaker.ok("SELECT a FROM t").await;
        speaker.ok("NOTIFY news, 'hello'").await;
        assert_eq!(listener.notification().await, "news hello");

        let mut sleeper = client(&pgweir).await;
        sleeper.send(&raw::query("SELECT pg_sleep(60)")).await.unwrap();
        let asleep = || async {
            let mut busy = 0;
            for server in cluster.all() {
                let text = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(60)'";
                busy += server.value(text).await.unwrap().parse::<usize>().unwrap();
            }
            busy == 1
        };
        eventually(SOON, asleep).await.unwrap();
        Raw::cancel(pgweir.addresses()[0], sleeper.key).await.unwrap();
        assert_eq!(sleeper.answer().await.unwrap().code(), "57014");
    }
}

#[tokio::test]
async fn a_transaction_reads_what_it_wrote_though_no_replica_replays() {
    let (cluster, pgweir) = start().await;
    for replica in cluster.replicas() {
        replica.pause_replay().await.unwrap();
    }
    for extended in [false, true] {
        for round in 0..TRIES {
            let mut client = client(&pgweir).await;
            let value = format!("{}{round}", u8::from(extended));
            for text in ["BEGIN", &format!("UPDATE t SET a = {value} WHERE id = 2")] {
                assert_eq!(run(&mut client, text, extended).await.unwrap().errors, [], "{text}");
            }
            let read = run(&mut client, "SELECT a::int FROM t WHERE id = 2", extended).await.unwrap();
            assert_eq!(read.value().parse::<i32>().unwrap(), value.parse::<i32>().unwrap());
            assert_eq!(run(&mut client, "COMMIT", extended).await.unwrap().errors, []);
        }
    }
    for replica in cluster.replicas() {
        replica.resume_replay().await.unwrap();
    }
}
