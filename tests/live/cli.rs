//! The command line as people type it: check, route, run, and what `--help` says.

use nix::sys::signal::Signal;
use pgweir::cli::demo::cluster::eventually;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::programs::{Output, Program, SOON, cluster, psql, signal, text, wait_for_replica};
use crate::raw::{Raw, query};

async fn pgweir(args: &[&str]) -> Output {
    Program::pgweir().args(args).run().await
}

#[tokio::test]
async fn check_accepts_what_is_shipped_and_names_every_mistake() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    let mut shipped = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            shipped += 1;
            let path = path.to_str().unwrap();
            let told = Program::pgweir().env("POOL_PASSWORD", "secret").args(["check", path]).run().await;
            assert!(told.code == Some(0) && told.out.starts_with(&format!("{path}: ok: ")), "{told:?}");
        }
    }
    assert!(shipped >= 4, "{shipped}");

    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.toml");
    std::fs::write(
        &bad,
        "lisen = \"127.0.0.1:6432\"\npool_size = \"many\"\n[databases.app]\nservers = [\"h:99999\"]\n",
    )
    .unwrap();
    let bad = bad.to_str().unwrap();
    for args in [&["check", bad][..], &["run", "--config", bad], &["route", "--config", bad, "SELECT 1"]] {
        let told = pgweir(args).await;
        assert!(told.code == Some(1) && told.out.is_empty(), "{told:?}");
        for said in ["1:1: lisen", "`listen`", "2:13: pool_size", "4:12: databases.app.servers"] {
            assert!(told.err.contains(said), "{said}: {}", told.err);
        }
    }
    for args in [&["check", "/not/there.toml"][..], &["run", "--config", "/not/there.toml"]] {
        let told = pgweir(args).await;
        assert!(told.code == Some(1) && told.err.contains("/not/there.toml: cannot be read"), "{told:?}");
    }
}

#[tokio::test]
async fn route_answers_as_text_as_json_and_line_by_line() {
    assert_eq!(
        pgweir(&["route", "SELECT 1"]).await.ok(),
        "replica  read\nOnly reads, as far as its text and PostgreSQL's own functions tell.\n\
         No catalog was asked (--connect): functions of your own are not known, and views are taken for tables.\n"
    );
    let told = pgweir(&["route", "--json", "UPDATE t SET a = 'ü'"]).await.ok();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((told["target"].as_str(), told["reason"].as_str()), (Some("primary"), Some("write")));
    assert_eq!(told["sql"], "UPDATE t SET a = 'ü'");
    assert!(told["sentence"].as_str().is_some_and(|sentence| sentence.ends_with('.')));

    let lines = "{\"sql\": \"SELECT 1\"}\nnot json\n{\"sql\": \"VACUUM\"}\n{\"sql\": \"SELECT E'a\\nb'\"}\n";
    let told = Program::pgweir().args(["route", "--batch"]).input(lines).run().await;
    let answers: Vec<serde_json::Value> =
        told.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let targets: Vec<_> = answers.iter().map(|answer| answer["target"].as_str().unwrap_or("error")).collect();
    assert_eq!(targets, ["replica", "error", "primary", "replica"]);
    assert!(answers[1]["error"].is_string() && told.code == Some(1), "{told:?}");

    // A function of one's own is a read when the configuration says so.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgweir.toml");
    std::fs::write(&path, "[routing]\nread_only_functions = [\"mine\"]\n[databases.a]\nservers = [\"h\"]\n")
        .unwrap();
    let path = path.to_str().unwrap();
    assert!(pgweir(&["route", "SELECT mine(1)"]).await.ok().starts_with("primary  unknown_function\n"));
    assert!(pgweir(&["route", "-c", path, "SELECT mine(1)"]).await.ok().starts_with("replica  read\n"));

    // An increment says whose counters it is.
    let counters = "[[databases.a.counters]]\ntable = \"photos\"\nkey = [\"id\"]\ncolumns = [\"votes\"]\n";
    std::fs::write(path, format!("[databases.a]\nservers = [\"h\"]\n{counters}")).unwrap();
    let vote = "UPDATE shop.photos SET votes = votes + 1 WHERE id = 7";
    let merged =
        "\nIt is merged with others by the rule for the counters of \"photos\", outside a transaction";
    assert!(pgweir(&["route", "-c", path, vote]).await.ok().contains(merged));
    let told: serde_json::Value =
        serde_json::from_str(&pgweir(&["route", "-c", path, "--json", vote]).await.ok()).unwrap();
    assert_eq!(told["counter"], "\"photos\"");
    for other in
        ["UPDATE photos SET votes = 1 WHERE id = 7", "UPDATE photos SET likes = likes + 1 WHERE id = 7"]
    {
        assert!(!pgweir(&["route", "-c", path, other]).await.ok().contains("merged"));
    }

    // A statement may begin with a comment, which is no option.
    assert!(pgweir(&["route", "-- pgweir: primary\nSELECT 1"]).await.ok().starts_with("primary  hint\n"));
    assert!(pgweir(&["route", "--json", "-- x\nSELECT 1"]).await.ok().starts_with('{'));

    // The entry of the name counts, though `*` stands before it.
    let (any, one) = ("[databases.\"*\"]\nservers = [\"h\"]\n", "[databases.a]\nservers = [\"h\"]\n");
    std::fs::write(path, format!("{any}[databases.\"*\".reads]\nmode = \"observe\"\n{one}")).unwrap();
    for (name, reason) in [("a", "replica  read\n"), ("b", "primary  observe\n")] {
        let told = pgweir(&["route", "-c", path, "--database", name, "SELECT 1"]).await.ok();
        assert!(told.starts_with(reason), "{name}: {told}");
    }
}

#[tokio::test]
async fn run_serves_psql_and_ends_with_sigterm() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgweir.toml");
    std::fs::write(&path, text(&cluster, "", "")).unwrap();
    for end in [Signal::SIGTERM, Signal::SIGINT] {
        let mut child = Program::pgweir().args(["run", "--config"]).args([&path]).spawn();
        // The log says where.
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = loop {
            let line = log.next_line().await.unwrap().expect("it ended before it listened");
            if let Some((_, address)) = line.split_once("listening address=127.0.0.1:") {
                break address.parse().unwrap();
            }
        };
        let read_and_write = ["-Atc", "SELECT 1", "-c", "CREATE TEMP TABLE t AS SELECT 1"];
        assert_eq!(psql(port, "postgres", &read_and_write).run().await.ok(), "1\nSELECT 1\n");
        wait_for_replica(port, "postgres").await;
        // One client sits idle: it is told at once. One is in a transaction, and may end it. One works for longer than anybody
        // wants to wait: a second signal is the end of it.
        let (mut idle, mut busy) = (client(port).await, client(port).await);
        busy.ok("BEGIN").await;
        busy.ok("CREATE TEMP TABLE u AS SELECT 5 AS n").await;
        signal(&child, end);
        let (tag, body) = idle.message().await.unwrap();
        assert!(tag == b'E' && body.windows(6).any(|part| part == b"C57P01"), "{}", body.escape_ascii());
        idle.closed().await.unwrap();
        assert!(
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err(),
            "it still lets clients in"
        );
        assert_eq!(busy.value("SELECT n FROM u").await, "5");
        if end == Signal::SIGTERM {
            busy.send(&query("COMMIT")).await.unwrap();
            assert_eq!(busy.message().await.unwrap().0, b'C');
            assert_eq!(busy.message().await.unwrap().0, b'Z');
        } else {
            busy.send(&query("SELECT pg_sleep(60)")).await.unwrap();
            let sleeps = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'";
            cluster.primary().wait_value(sleeps, "t", SOON).await.unwrap();
            signal(&child, end);
        }
        let status = tokio::time::timeout(SOON, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(0), "{end}");
    }
}

/// SIGHUP: the file is read again, and its clients notice nothing.
#[tokio::test]
async fn run_reads_its_file_again_with_sighup() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgweir.toml");
    let write = |servers: &[String]| {
        let text = format!(
            "listen = \"127.0.0.1:0\"\nauth_type = \"trust\"\n[metrics]\nlisten = \"off\"\n[monitor]\nuser = \"postgres\"\n\
             [databases.postgres]\nservers = {servers:?}\n"
        );
        std::fs::write(&path, text).unwrap();
    };
    let servers = cluster.servers();
    write(&servers[..1]);
    let mut process = Program::pgweir().args(["run", "--config", path.to_str().unwrap()]).spawn();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let port = loop {
        let line = log.next_line().await.unwrap().expect("it ended");
        if let Some((_, rest)) = line.split_once("listening address=127.0.0.1:") {
            break rest.trim().parse().unwrap();
        }
    };
    let reader = tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    let mut client = client(port).await;
    assert_eq!(client.value("SELECT pg_is_in_recovery()").await, "f");
    write(&servers);
    signal(&process, Signal::SIGHUP);
    let moved = async { while client.value("SELECT pg_is_in_recovery()").await == "f" {} };
    tokio::time::timeout(SOON, moved).await.expect("no read goes to the new server");
    // One with a mistake changes nothing.
    std::fs::write(&path, "nonsense = 1").unwrap();
    signal(&process, Signal::SIGHUP);
    let mut console = Raw::login(([127, 0, 0, 1], port).into(), &[("database", "pgweir")]).await.unwrap();
    assert!(console.query("RELOAD").await.unwrap().errors[0].message.contains("nonsense"));
    assert_eq!(client.value("SELECT pg_is_in_recovery()").await, "t");
    signal(&process, Signal::SIGTERM);
    assert!(process.wait().await.unwrap().success());
    reader.await.unwrap();
}

async fn client(port: u16) -> Raw {
    Raw::login(([127, 0, 0, 1], port).into(), &[]).await.unwrap()
}

/// `pgweir run --server A --server B`: its defaults are port 6432 and 9432, which another test, or a developer's own pgweir,
/// may hold: then that is what it must say.
#[tokio::test]
async fn run_needs_no_file() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let args = cluster.servers().into_iter().flat_map(|server| ["--server".to_owned(), server]);
    let mut child = Program::pgweir().args(["run"]).args(args).spawn();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = log.next_line().await.unwrap().expect("it said nothing");
        if line.contains("could not listen on 127.0.0.1:") {
            println!("SKIPPED: port 6432 or 9432 is taken on this machine: {line}");
            assert_eq!(child.wait().await.unwrap().code(), Some(1));
            return;
        }
        if line.contains("metrics at") {
            break;
        }
    }
    let ask =
        async || psql(6432, "postgres", &["-Atc", "SELECT pg_is_in_recovery()"]).run().await.out == "t\n";
    eventually(SOON, ask).await.unwrap();
    let write = psql(6432, "postgres", &["-Atc", "CREATE TABLE t AS SELECT 1"]).run().await;
    assert_eq!(write.ok(), "SELECT 1\n");
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

/// The demo: what its clients were told, what pgweir has merged and what the primary has agree to the last vote.
#[tokio::test]
async fn demo_loses_no_vote() {
    let told = pgweir(&["demo", "--json", "--seconds", "4", "--replicas", "1"]).await;
    let report: serde_json::Value =
        serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {told:?}"));
    let number = |pointer: &str| report.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap();
    assert_eq!(number("/load/errors"), 0, "{report:#}");
    let votes = number("/load/votes");
    assert!(votes > 0 && votes == number("/votes_in_table"), "{report:#}");
    assert_eq!(report["writes_agree"], true, "{report:#}");
    let (merged, updates) = (number("/merged/votes"), number("/merged/row_updates"));
    assert!(updates > 0 && updates < merged && merged <= votes, "{report:#}");
    assert!(number("/merged/statements") <= updates, "{report:#}");
}

#[tokio::test]
async fn help_says_what_each_command_does() {
    for (args, said) in [
        (
            &["--help"][..],
            &["read/write-splitting proxy for PostgreSQL", "run", "check", "route", "advise", "demo"][..],
        ),
        (&["run", "--help"], &["Run the proxy until SIGINT or SIGTERM", "--config", "--server"]),
        (&["check", "--help"], &["Check a configuration: every mistake at once", "<FILE>", "--connect"]),
        (&["route", "--help"], &["Say where a statement would go, and why", "--json", "--batch", "--config"]),
        (&["advise", "--help"], &["Say what pgweir would do for a database", "--connect", "--top", "--json"]),
        (&["demo", "--help"], &["Start a primary and replicas in a temporary folder"]),
        (&["--version"], &["pgweir ", env!("CARGO_PKG_VERSION")]),
    ] {
        let told = pgweir(args).await.ok();
        for said in said {
            assert!(told.contains(said), "{args:?} does not say {said:?}:\n{told}");
        }
    }
    for args in
        [&[][..], &["run"], &["route"], &["check"], &["nonsense"], &["run", "--config", "x", "--server", "y"]]
    {
        let told = pgweir(args).await;
        assert!(told.code == Some(2) && told.err.contains("Usage: pgweir"), "{args:?}: {told:?}");
    }
}
