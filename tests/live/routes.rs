//! `pgweir route` keeps its word: what it says of a statement is what then happens, seen in the servers' own logs; and what
//! runs on a replica is not refused there.
//!
//! Each server logs every statement. Each statement carries a comment of its own, which is looked for in all of the logs.

use std::fmt::Write as _;

use pgweir::app::Pgweir;
use pgweir::cli::demo::cluster::{Cluster, eventually};

use crate::programs::{Program, SOON, cluster, configured, port, wait_for_replica};
use crate::speaker::{Reply, Speaker};

/// What has been said to be a read, a write, or neither; reads first, for the writes spoil the tables.
const STATEMENTS: [&str; 8] = [
    include_str!("routes/statements.sql"),
    include_str!("../golden/route/reads.sql"),
    include_str!("../golden/route/functions.sql"),
    include_str!("../golden/route/held_back.sql"),
    include_str!("../golden/route/texts.sql"),
    include_str!("../golden/route/ambiguous.sql"),
    include_str!("../golden/route/session.sql"),
    include_str!("../golden/route/writes.sql"),
];

/// A product of three large catalogs: it would run for minutes.
const ENDLESS: &str = "FROM pg_type t, pg_attrdef d, pg_class c";

/// Tables and functions that the statements name, so that most of them do something.
const SCHEMA: &str = include_str!("routes/schema.sql");

/// Statements, each up to its line `--> ...`; remarks begin with three dashes.
fn statements(cluster: &Cluster) -> Vec<String> {
    let mut all = Vec::new();
    for file in STATEMENTS {
        let mut text = String::new();
        for line in file.lines().filter(|line| !line.starts_with("--- ")) {
            if line.starts_with("--> ") {
                // What the server would write, it writes into a folder that goes with the test.
                let scratch = cluster.primary().data_folder().join("scratch");
                all.push(std::mem::take(&mut text).replace("/tmp/x", scratch.to_str().unwrap()));
            } else if !line.is_empty() || !text.is_empty() {
                let separator = if text.is_empty() { "" } else { "\n" };
                write!(text, "{separator}{line}").unwrap();
            }
        }
    }
    all.retain(|text| !text.contains(ENDLESS));
    all
}

/// Target and reason of each text, as the command line has them with the primary's catalog.
async fn routes(cluster: &Cluster, texts: impl Iterator<Item = &str>) -> Vec<(String, String)> {
    let lines: Vec<String> = texts.map(|sql| serde_json::json!({ "sql": sql }).to_string()).collect();
    let connect = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", cluster.primary().port());
    let asked = Program::pgweir().args(["route", "--batch", "--connect", &connect]);
    let told = asked.input(lines.join("\n")).run().await.ok();
    let answer = |line: &str| {
        let answer: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
        (field("target"), field("reason"))
    };
    told.lines().map(answer).collect()
}

async fn reset(cluster: &Cluster, pgweir: &Pgweir) {
    // Through pgweir, which so learns of it at once.
    let mut client = Speaker::connect(port(pgweir), "postgres").await.unwrap();
    for text in ["DROP SCHEMA public CASCADE; CREATE SCHEMA public", SCHEMA] {
        let reply = client.simple(text).await;
        assert!(reply.errors.is_empty(), "{:?}", reply.errors);
    }
    cluster.wait_replayed(SOON).await.unwrap();
    wait_for_replica(port(pgweir), "postgres").await;
}

/// A statement that was run.
struct Ran {
    marked: String,
    marker: String,
    target: String,
    reply: Reply,
}

impl Ran {
    /// What a replica says to what it cannot do.
    fn refused_by_replica(&self) -> bool {
        let refusal = |(_, code, message): &(String, String, String)| {
            code == "25006"
                || ["0A000", "55000", "XX000"].contains(&code.as_str()) && message.contains("recovery")
        };
        self.target == "replica" && self.reply.errors.iter().any(refusal)
    }
}

/// Runs every statement on a session of its own.
async fn run_all(cluster: &Cluster, pgweir: &Pgweir, extended: bool) -> Vec<Ran> {
    let texts = statements(cluster);
    let marker = |at: usize| format!("/* {}{at} */", if extended { "extended" } else { "simple" });
    let marked: Vec<String> =
        texts.iter().enumerate().map(|(at, text)| format!("{text}\n{}", marker(at))).collect();
    let said = routes(cluster, texts.iter().map(String::as_str)).await;
    assert_eq!(said, routes(cluster, marked.iter().map(String::as_str)).await, "a comment changes a route");
    let mut all = Vec::new();
    let mut watcher = Speaker::connect(port(pgweir), "postgres").await.unwrap();
    for (at, (marked, (target, _))) in marked.into_iter().zip(said).enumerate() {
        watcher.knows_names().await;
        let mut client = Speaker::connect(port(pgweir), "postgres").await.unwrap();
        let parameters = (1..10).rev().find(|n| marked.contains(&format!("${n}"))).unwrap_or(0);
        let reply =
            if extended { client.extended(&marked, parameters).await } else { client.simple(&marked).await };
        if !extended && pgweir::sql::lone_begin(marked.as_bytes()).is_some() {
            // It goes with the first statement of its transaction.
            client.simple("SELECT 1").await;
        }
        all.push(Ran { marked, marker: marker(at), target, reply });
    }
    all
}

/// What a replica may say because it is behind: the primary is asked then.
const BEHIND: [&str; 6] = ["42P01", "42883", "42703", "3F000", "42704", "42501"];

/// Where the statement was logged: by the names of the servers' roles.
fn seen(logs: &[String], marker: &str) -> Vec<&'static str> {
    let found = logs.iter().enumerate().filter(|(_, log)| log.contains(marker));
    found.map(|(at, _)| if at == 0 { "primary" } else { "replica" }).collect()
}

/// Whether pgweir may have answered it itself: a session of its own has drawn nothing from sequences.
fn asks_for_drawn(ran: &Ran) -> bool {
    pgweir::sql::recalls(ran.marked.as_bytes()) && ran.reply.codes().contains(&"55000")
}

/// Whether pgweir may have answered it itself: the client's own number, as `pgweir route` says.
fn asks_for_own(ran: &Ran) -> bool {
    pgweir::sql::asks_own_process(ran.marked.as_bytes()).is_some()
}

async fn assert_where_said(cluster: &Cluster, all: &[Ran]) {
    let logs = || cluster.all().iter().map(pgweir::cli::demo::cluster::Postgres::log).collect::<Vec<_>>();
    let complete = || async {
        let logs = logs();
        let own = |ran: &Ran| ran.marked.contains("LISTEN") || asks_for_drawn(ran) || asks_for_own(ran);
        all.iter().all(|ran| own(ran) || !seen(&logs, &ran.marker).is_empty())
    };
    // The last ones may still be on their way into the log.
    let _ = eventually(std::time::Duration::from_secs(5), complete).await;
    let logs = logs();
    let mut wrong = String::new();
    for ran in all {
        let seen = seen(&logs, &ran.marker);
        let asked_twice = seen == ["primary", "replica"]
            && ran.target == "replica"
            && ran.reply.codes().iter().any(|code| BEHIND.contains(code));
        // The connection that listens for all carries that out, if need be, in words of its own.
        let listens = seen.is_empty() && ran.target == "primary" && ran.marked.contains("LISTEN");
        let answered = seen.is_empty() && (asks_for_drawn(ran) || asks_for_own(ran));
        if (!asked_twice && !listens && !answered && seen != [ran.target.as_str()])
            || ran.refused_by_replica()
            || ran.reply.codes().contains(&"55P03")
        {
            writeln!(wrong, "said {}, seen {seen:?}: {}\n    {:?}", ran.target, ran.marked, ran.reply.errors)
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
async fn statements_run_where_pgweir_route_says() {
    let cluster = cluster()
        .setting("log_min_duration_statement", "0")
        // A lock that a session left behind is seen.
        .setting("lock_timeout", "5s")
        .setting("max_prepared_transactions", "5")
        .replicas(2)
        .start()
        .await
        .unwrap();
    // What is fresh enough is not the question here, and replicas are a little behind.
    let reads = "[databases.\"*\"]\nservers = SERVERS\n[databases.\"*\".reads]\nconsistency = \"eventual\"";
    let pgweir = configured(&cluster, "auth_type = \"trust\"", reads).await;
    for extended in [false, true] {
        reset(&cluster, &pgweir).await;
        let all = run_all(&cluster, &pgweir, extended).await;
        assert_where_said(&cluster, &all).await;
        let on_replicas = all.iter().filter(|ran| ran.target == "replica");
        let (fine, failed): (Vec<_>, Vec<_>) = on_replicas.partition(|ran| ran.reply.errors.is_empty());
        println!("{} statements, {} reads that succeed, {} that fail", all.len(), fine.len(), failed.len());
        assert!(all.len() >= 500 && fine.len() >= 100, "too few of them show anything");
    }
}
