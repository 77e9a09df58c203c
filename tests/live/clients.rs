//! PostgreSQL's own clients through pgweir: psql says what it says directly, pgbench has no failed transaction, pg_dump and
//! pg_restore give and take the same, and the small programs work.

use std::time::Duration;

use pgweir::app::Pgweir;
use pgweir::cli::demo::cluster::{Cluster, eventually};
use pgweir::clock;

use crate::programs::{self, Output, SOON, before, cluster, port, psql, signal};
use crate::speaker::Speaker;

/// One of everything that psql lists. (`\dconfig` is tried by name only: each server has settings of its own.)
const SCHEMA: &str = include_str!("clients/schema.sql");

/// psql's commands that list things, all of which must say the same through pgweir; each is also tried with a `+`.
const LISTS: &str = r"\d \dS \da \dA \dAc \dAf \dAo \dAp \db \dc \dcS \dC \dd \dD \ddp \dE \de \det \des \deu \dew \df \dfa
    \dfn \dft \dfw \dFp \dFd \dFt \dF \dg \di \dl \dL \dLS \dm \dn \dnS \do \dO \dOS \dp \dP \dPt \dPi \drds \dRp \dRs \ds \dt
    \dtS \dT \dTS \du \dv \dvS \dx \dX \dy \l \z \lo_list";

/// The same with patterns, and those that take a name.
const NAMED: &str = r"\d photos
\d+ photos
\d photos_pkey
\d+ recent
\d+ tally
\d+ parts
\d+ parts_1
\d photos_id_seq
\d public.*
\d+ pg_catalog.pg_class
\dt public.*
\dt+ public.p*
\di+ public.*
\dS pg_stat*
\df+ touch
\df public.*
\dfS lower
\df lower text
\do + integer integer
\dT+ public.*
\dp public.*
\z photos
\dAc btree int4
\dAf btree int4
\dconfig *mem*
\dconfig+ search_path
\dd photos
\dD+ positive
\du+ reader
\l+ postgres
\l shop
\drds * *
\sf touch
\sf+ touch
\sv recent
\sv+ recent
\encoding
\echo :SERVER_VERSION_NUM :DBNAME :USER :ENCODING
\? commands
\h SELECT
\errverbose
\crosstabview
\dt nothing_like_this
\d nothing_like_this
SELECT count(*) FROM photos \gx
SELECT id % 2 AS a, id % 3 AS b, count(*) FROM photos GROUP BY 1, 2 ORDER BY 1, 2 \crosstabview a b
SELECT id, title FROM photos ORDER BY id LIMIT 3 \gdesc
TABLE nowhere;
\errverbose
";

/// Primary and two replicas, a database `shop` with one of everything, and a pgweir before them.
async fn shop() -> (Cluster, Pgweir) {
    let cluster = cluster().replicas(2).start().await.unwrap();
    cluster.primary().sql("CREATE DATABASE shop").await.unwrap();
    psql(cluster.primary().port(), "shop", &["-q", "-v", "ON_ERROR_STOP=1"]).input(SCHEMA).run().await.ok();
    cluster.wait_replayed(SOON).await.unwrap();
    let pgweir = before(&cluster).await;
    programs::wait_for_replica(port(&pgweir), "shop").await;
    (cluster, pgweir)
}

/// Sizes of whole databases differ between servers: each has temporary and cache files of its own.
fn without_sizes(text: &str) -> String {
    let units = ["bytes", "kB", "MB", "GB"];
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let unit = |at: usize| words.get(at).is_some_and(|word| units.contains(word));
        let stays = |at: usize| !unit(at) && !unit(at + 1) && !words[at].starts_with("---");
        (0..words.len()).filter(|&at| stays(at)).map(|at| words[at]).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_same(direct: &str, through: &str) {
    let mut command = "";
    for (here, there) in direct.lines().zip(through.lines()) {
        command = here.strip_prefix("## ").unwrap_or(command);
        assert_eq!(here, there, "in the answer to {command:?}");
    }
    assert_eq!(direct.lines().count(), through.lines().count());
}

async fn both(cluster: &Cluster, pgweir: &Pgweir, args: &[&str], script: &str) -> (Output, Output) {
    let direct = psql(cluster.primary().port(), "shop", args).input(script).run().await;
    cluster.wait_replayed(SOON).await.unwrap();
    (direct, psql(port(pgweir), "shop", args).input(script).run().await)
}

#[tokio::test]
async fn psql_lists_the_same() {
    let (cluster, pgweir) = shop().await;
    let mut script = String::new();
    for command in LISTS.split_whitespace().flat_map(|name| [name.to_owned(), format!("{name}+")]) {
        script.push_str(&format!("\\echo '## {}'\n{command}\n", command.replace('\\', "\\\\")));
    }
    for command in NAMED.lines() {
        script.push_str(&format!("\\echo '## {}'\n{command}\n", command.replace('\\', "\\\\")));
    }
    let (direct, through) = both(&cluster, &pgweir, &["-a"], &script).await;
    assert_eq!((direct.code, through.code), (Some(0), Some(0)));
    assert!(direct.out.lines().count() > 3000, "{}", direct.out);
    assert_same(&without_sizes(&direct.out), &without_sizes(&through.out));
    assert_same(&direct.err, &through.err);
    let conninfo = psql(port(&pgweir), "shop", &["-c", "\\conninfo"]).run().await.ok();
    assert!(
        conninfo.contains(&format!(
            "database \"shop\" as user \"postgres\" on host \"127.0.0.1\" at port \"{}\"",
            port(&pgweir)
        )),
        "{conninfo}"
    );
}

#[tokio::test]
async fn psql_runs_scripts_the_same() {
    let (cluster, pgweir) = shop().await;
    let folder = tempfile::tempdir().unwrap();
    let included = folder.path().join("included.sql");
    std::fs::write(&included, include_str!("clients/included.sql")).unwrap();
    let script = include_str!("clients/script.sql").replace("INCLUDED", included.to_str().unwrap());
    let (direct, through) = both(&cluster, &pgweir, &["-a"], &script).await;
    assert_eq!((direct.code, through.code), (Some(0), Some(0)), "{}", through.err);
    assert_same(&direct.out, &through.out);
    assert_same(&direct.err, &through.err);

    let failing = "SELECT 1 AS before;\nINSERT INTO notes VALUES (99, 'kept unless -1');\nSELECT 1/0;\nSELECT 2 AS after;\n";
    for args in
        [&["-v", "ON_ERROR_STOP=1"][..], &["-1", "-f", "-"], &["-1", "-v", "ON_ERROR_STOP=1", "-f", "-"], &[]]
    {
        let (direct, through) = both(&cluster, &pgweir, args, failing).await;
        assert_eq!(direct.code, through.code, "{args:?}");
        assert_eq!((direct.out, direct.err), (through.out, through.err), "{args:?}");
    }
    // Each of the four ran directly and through pgweir; only the first and the last of them commit.
    assert_eq!(shop_value(&cluster, "SELECT count(*) FROM notes WHERE id = 99").await, "4");
}

async fn shop_value(cluster: &Cluster, text: &str) -> String {
    cluster.primary().sql_in("shop", text).await.unwrap()[0][0].clone().unwrap()
}

#[tokio::test]
async fn psql_copies_both_ways() {
    let (cluster, pgweir) = shop().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut rows = String::new();
    for id in 0..100_000 {
        rows.push_str(&format!("{id}\trow \\\\ number {id}\t{}\n", id * 7 % 1000));
    }
    std::fs::write(path("in"), &rows).unwrap();
    let run = async |command: String| {
        psql(port(&pgweir), "shop", &["-v", "ON_ERROR_STOP=1", "-c", &command]).run().await
    };
    run("CREATE TABLE bulk (id int, title text, votes int)".into()).await.ok();
    assert_eq!(run(format!("\\copy bulk FROM '{}'", path("in"))).await.ok(), "COPY 100000\n");
    cluster.wait_replayed(SOON).await.unwrap();
    let out = run(format!("\\copy (SELECT * FROM bulk ORDER BY id) TO '{}'", path("out"))).await.ok();
    assert_eq!(out, "COPY 100000\n");
    assert!(std::fs::read_to_string(path("out")).unwrap() == rows, "what came back is not what went in");
    // Binary, through a pipe, and back again in a transaction.
    run(format!("\\copy bulk TO '{}' (FORMAT binary)", path("binary"))).await.ok();
    let again =
        format!("BEGIN;\nTRUNCATE bulk;\n\\copy bulk FROM '{}' (FORMAT binary)\nCOMMIT;\n", path("binary"));
    psql(port(&pgweir), "shop", &["-v", "ON_ERROR_STOP=1"]).input(again).run().await.ok();
    assert_eq!(
        shop_value(&cluster, "SELECT count(*) || ' ' || sum(votes) FROM bulk").await,
        "100000 49950000"
    );
    // A row that is wrong near the end: nothing of it stays, and the session goes on.
    std::fs::write(path("bad"), format!("{rows}not a number\tx\t1\n{rows}")).unwrap();
    let script = format!("\\copy bulk FROM '{}'\nSELECT 'on';\n", path("bad"));
    let out = psql(port(&pgweir), "shop", &["-At"]).input(script).run().await;
    assert!(out.err.contains("invalid input syntax for type integer: \"not a number\""), "{}", out.err);
    assert_eq!(out.out, "on\n");
    assert_eq!(shop_value(&cluster, "SELECT count(*) FROM bulk").await, "100000");
}

/// Waits until a statement with that text runs on some server.
async fn runs_somewhere(cluster: &Cluster, text: &str) {
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{text}%' AND pid <> pg_backend_pid()"
    );
    let seen = || async {
        for server in cluster.all() {
            if server.value(&count).await.unwrap() != "0" {
                return true;
            }
        }
        false
    };
    eventually(SOON, seen).await.unwrap_or_else(|_| panic!("{text} does not run"));
}

#[tokio::test]
async fn ctrl_c_ends_the_statement_and_not_the_session() {
    let (cluster, pgweir) = shop().await;
    let sleepers = [
        "SELECT pg_sleep(60)",
        "UPDATE photos SET votes = votes WHERE pg_sleep(60) IS NULL",
        "DO $$ BEGIN PERFORM pg_sleep(60); END $$",
        "SELECT count(*) FROM generate_series(1, 10000000000)",
        "COPY (SELECT pg_sleep(60)) TO STDOUT",
    ];
    let mut round = 0;
    for sleeper in sleepers {
        for begin in ["SELECT 'plain'", "BEGIN", "BEGIN READ ONLY"] {
            if begin == "BEGIN READ ONLY" && !sleeper.starts_with("SELECT") {
                continue;
            }
            round += 1;
            let marked = format!("{sleeper} -- round {round}.");
            let args = [
                "-At",
                "-c",
                begin,
                "-c",
                &marked,
                "-c",
                "ROLLBACK",
                "-c",
                "CREATE TEMP TABLE mine AS SELECT 'on' AS t",
            ];
            let child = psql(port(&pgweir), "shop", &args).spawn();
            runs_somewhere(&cluster, &format!("round {round}.")).await;
            let start = clock::now();
            signal(&child, nix::sys::signal::Signal::SIGINT);
            let ended = tokio::time::timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
            let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
            assert!(err.contains("canceling statement due to user request"), "{marked}: {err}");
            assert!(start.elapsed() < Duration::from_secs(5), "{marked}: {:?}", start.elapsed());
            // psql prints no more rows once it was interrupted, but the tags of commands.
            assert!(ended.status.code() != Some(2) && out.ends_with("SELECT 1\n"), "{marked}: {out}\n{err}");
        }
    }
}

#[tokio::test]
async fn watch_goes_on_until_it_fails_or_is_interrupted() {
    let (cluster, pgweir) = shop().await;
    // The third round divides by zero.
    let script = "CREATE SEQUENCE rounds;\nSELECT 100 / (3 - nextval('rounds')) AS quotient \\watch 0.05\nSELECT 'on' AS still;\n";
    let out = psql(port(&pgweir), "shop", &["-At"]).input(script).run().await;
    assert!(out.out.contains("50\n") && out.out.contains("100\n") && out.out.ends_with("on\n"), "{out:?}");
    assert!(out.err.contains("division by zero"), "{out:?}");

    let mut child = psql(port(&pgweir), "shop", &["-At"]).spawn();
    let mut stdin = child.stdin.take().unwrap();
    let script = "SELECT 'round' AS watched, count(*) FROM photos \\watch 0.05\n";
    tokio::io::AsyncWriteExt::write_all(&mut stdin, script.as_bytes()).await.unwrap();
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stdout.take().unwrap()));
    for _ in 0..3 {
        while !lines.next_line().await.unwrap().unwrap().starts_with("round") {}
    }
    signal(&child, nix::sys::signal::Signal::SIGINT);
    drop(stdin);
    tokio::time::timeout(SOON, child.wait()).await.unwrap().unwrap();
    drop(cluster);
}

#[tokio::test]
async fn a_listener_that_sits_idle_is_notified() {
    let (cluster, pgweir) = shop().await;
    let mut listener = Speaker::connect(port(&pgweir), "shop").await.unwrap();
    for text in ["SELECT 1", "LISTEN votes", "SELECT 2"] {
        assert!(listener.simple(text).await.errors.is_empty());
    }
    for payload in ["first", "second"] {
        cluster.primary().sql_in("shop", &format!("NOTIFY votes, '{payload}'")).await.unwrap();
        assert_eq!(listener.notification().await, format!("votes {payload}"));
    }
    assert_eq!(listener.simple("SELECT 3").await.rows, [["3"]]);
}
