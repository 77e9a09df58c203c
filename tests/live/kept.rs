//! Increments that are answered before they are committed: on disk (`durability = "journal"`) or in memory. What was acknowledged
//! counts once, whoever dies.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgweir::cli::demo::cluster::{Cluster, Postgres, eventually};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::counters::told;
use crate::programs::{Program, signal};
use crate::proxy::{Proxy, SOON, cluster, configuration};
use crate::raw::{Raw, extended, query, sync};

const VOTE: &str = "UPDATE photos SET votes = votes + 1 WHERE id = 1";

async fn servers(replicas: usize) -> Cluster {
    let cluster = cluster().replicas(replicas).start().await.unwrap();
    let tables = "CREATE TABLE photos (id int PRIMARY KEY, votes int DEFAULT 0, title text); \
        INSERT INTO photos (id) SELECT generate_series(1, 100); \
        CREATE TABLE pages (path text PRIMARY KEY, views bigint NOT NULL DEFAULT 0)";
    cluster.primary().sql(tables).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    cluster
}

/// A configuration in a folder of its own, with a journal there.
fn write(cluster: &Cluster, folder: &Path, rule: &str) -> PathBuf {
    let rules = |table: &str, key: &str, column: &str| {
        format!(
            "[[databases.postgres.counters]]\ntable = {table:?}\nkey = [{key:?}]\ncolumns = [{column:?}]\n{rule}\n"
        )
    };
    let settings = format!("{}{}", rules("photos", "id", "votes"), rules("pages", "path", "views"));
    let more = "[journal]\nfolder = \"journal\"\n";
    let text = configuration(
        &cluster.servers(),
        &format!("server_login_retry = \"10ms\"\nserver_login_retry_max = \"50ms\"\n{settings}"),
        more,
    );
    let path = folder.join("pgweir.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// A pgweir in a process of its own, and where it listens.
pub(crate) async fn run(path: &Path) -> (Child, std::net::SocketAddr) {
    let (child, address, _) = run_and_hear(path).await;
    (child, address)
}

/// The same, with what it logs.
async fn run_and_hear(path: &Path) -> (Child, std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut child = Program::pgweir().args(["run", "--config"]).args([path]).spawn();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = log.next_line().await.unwrap().expect("it ended before it listened");
        heard.lock().unwrap().push(line.clone());
        if let Some((_, address)) = line.split_once("listening address=127.0.0.1:") {
            break ([127, 0, 0, 1], address.trim().parse().unwrap()).into();
        }
    };
    let hears = heard.clone();
    tokio::spawn(async move {
        while let Ok(Some(line)) = log.next_line().await {
            println!("{line}");
            hears.lock().unwrap().push(line);
        }
    });
    (child, address, heard)
}

/// Clients that vote until they are told to stop, or their pgweir is gone.
struct Voters {
    sure: Arc<AtomicUsize>,
    unsure: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Voters {
    fn new() -> Self {
        Self { sure: Arc::default(), unsure: Arc::default(), stop: Arc::default(), clients: JoinSet::new() }
    }

    fn start(&mut self, address: std::net::SocketAddr, count: usize) {
        self.stop.store(false, Relaxed);
        for _ in 0..count {
            let (sure, unsure, stop) = (self.sure.clone(), self.unsure.clone(), self.stop.clone());
            self.clients.spawn(async move {
                let Ok(mut client) = Raw::login(address, &[]).await else { return };
                while !stop.load(Relaxed) {
                    match client.query(VOTE).await {
                        Ok(answer) if answer.code().is_empty() => sure.fetch_add(1, Relaxed),
                        Ok(answer) => {
                            assert!(
                                ["08007", "57P01", "08006"].contains(&answer.code()),
                                "{}",
                                answer.code()
                            );
                            unsure.fetch_add(1, Relaxed)
                        }
                        Err(_) => {
                            unsure.fetch_add(1, Relaxed);
                            return;
                        }
                    };
                }
            });
        }
    }

    async fn reach(&self, more: usize) {
        let before = self.sure.load(Relaxed);
        eventually(SOON, || async { self.sure.load(Relaxed) > before + more }).await.unwrap();
    }

    async fn end(&mut self) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
    }

    /// The table has what was acknowledged, and at most what was not.
    async fn check(&self, primary: &Postgres) {
        let (sure, unsure) = (self.sure.load(Relaxed), self.unsure.load(Relaxed));
        let there = || async {
            let there = primary.value("SELECT votes FROM photos WHERE id = 1").await;
            there.unwrap().parse::<usize>().unwrap()
        };
        let outcome = eventually(SOON, || async { there().await >= sure }).await;
        let there = there().await;
        println!("{sure} acknowledged, {unsure} unknown, {there} there");
        assert!(outcome.is_ok() && there <= sure + unsure, "{sure} <= {there} <= {}", sure + unsure);
    }
}

/// Answered at once, read at once, and few row updates.
#[tokio::test]
async fn a_session_reads_what_it_has_counted() {
    let cluster = servers(1).await;
    for durability in ["journal", "memory"] {
        let folder = tempfile::tempdir().unwrap();
        let path =
            write(&cluster, folder.path(), &format!("durability = {durability:?}\nflush_every = \"1h\""));
        let proxy = Proxy::of_file(&path);
        proxy.knows(2).await;
        proxy.reads_catalog("postgres").await;
        let mut client = proxy.client().await;
        let accepted = async || proxy.sum("pgweir_counter_accepted_total", &[]).await as usize;
        // The first ones go through; what comes then is kept.
        let mut sent: usize =
            cluster.primary().value("SELECT votes FROM photos WHERE id = 1").await.unwrap().parse().unwrap();
        let before = sent;
        while accepted().await < 3 {
            assert_eq!(client.ok(VOTE).await.tags, "CZ");
            sent += 1;
            assert!(sent < before + 10_000);
        }
        for _ in 0..200 {
            client.ok(VOTE).await;
            sent += 1;
        }
        let flushes = async || proxy.sum("pgweir_counter_flushes_total", &[]).await as usize;
        let (there, flushed) = (accepted().await, flushes().await);
        assert!(there > 100, "{there}");
        // Others' tables wait for nothing.
        assert_eq!(client.value("SELECT count(*) FROM pages").await, "0");
        assert_eq!(flushes().await, flushed);
        let seen = async |client: &mut Raw| client.value("SELECT votes FROM photos WHERE id = 1").await;
        assert_eq!(seen(&mut client).await, sent.to_string(), "{durability}");
        assert_eq!(flushes().await, flushed + 1);
        // By hand.
        sent += until_kept(&proxy, &mut client, VOTE, 1).await;
        let mut console = proxy.console().await;
        let shown = async |console: &mut Raw| {
            let rows = console.ok("SHOW COUNTERS").await.rows;
            let kept = rows.iter().find(|row| row[3].as_deref() == Some(durability)).unwrap();
            (kept[1].clone().unwrap(), kept[4].clone().unwrap())
        };
        assert_eq!(shown(&mut console).await, ("public.photos".to_owned(), "1".to_owned()));
        proxy.becomes("pgweir_counter_waiting", &["table=\"photos\""], 1.0).await;
        for (text, left) in
            [("FLUSH COUNTERS pages", "1"), ("flush counters public.photos;", "0"), ("FLUSH COUNTERS", "0")]
        {
            assert_eq!(told(&mut console, &query(text)).await, "FLUSH COUNTERS");
            assert_eq!(shown(&mut console).await.1, left, "{text}");
        }
        assert_eq!(seen(&mut client).await, sent.to_string(), "{durability}");
        // What others do to the table comes behind it.
        client.ok(VOTE).await;
        let mut other = proxy.client().await;
        other.ok("UPDATE photos SET votes = 0 WHERE id = 1").await;
        assert_eq!(seen(&mut client).await, "0");
        // Within a transaction, too.
        client.ok(VOTE).await;
        client.ok("BEGIN").await;
        assert_eq!(seen(&mut client).await, "1");
        client.ok("COMMIT").await;
        // By another session of the same pgweir once it is committed; there is no row for this one.
        assert_eq!(
            told(&mut client, &query("UPDATE photos SET votes = votes + 1 WHERE id = 5000")).await,
            "UPDATE 0"
        );
        let upsert = "INSERT INTO pages AS p (path, views) VALUES ('/', 2) ON CONFLICT (path) DO UPDATE SET views = p.views + 2";
        for _ in 0..5 {
            assert_eq!(told(&mut client, &query(upsert)).await, "INSERT 0 1");
        }
        assert_eq!(client.value("SELECT views FROM pages WHERE path = '/'").await, "10");
        assert_eq!(proxy.sum("pgweir_counter_lost_total", &[]).await as usize, 0);
        cluster.primary().sql("UPDATE photos SET votes = 0; DELETE FROM pages").await.unwrap();
    }
}

/// Many clients, two pgweirs, one row.
#[tokio::test]
async fn exact_under_load() {
    for durability in ["journal", "memory"] {
        let cluster = servers(0).await;
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let rule = format!("durability = {durability:?}\nflush_every = \"20ms\"");
        let proxies = [&one, &other].map(|folder| Proxy::of_file(&write(&cluster, folder.path(), &rule)));
        let mut voters = Voters::new();
        for proxy in &proxies {
            proxy.knows(1).await;
            proxy.reads_catalog("postgres").await;
            voters.start(proxy.address(), 32);
        }
        voters.reach(5_000).await;
        voters.end().await;
        voters.check(cluster.primary()).await;
        assert_eq!(voters.unsure.load(Relaxed), 0);
        for proxy in &proxies {
            let accepted = proxy.sum("pgweir_counter_accepted_total", &[]).await;
            println!("{durability}: {accepted} accepted");
            assert!(accepted > 500.0);
            assert_eq!(proxy.sum("pgweir_counter_failures_total", &[]).await as usize, 0);
        }
        let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'";
        assert_eq!(cluster.primary().value(deadlocks).await.unwrap(), "0");
    }
}

/// Two pgweirs flush the same many rows, each in one statement: no row is missed for good.
#[tokio::test]
async fn many_rows_under_load() {
    for durability in ["journal", "memory"] {
        let cluster = servers(0).await;
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let rule = format!("durability = {durability:?}\nflush_every = \"2ms\"");
        let proxies = [&one, &other].map(|folder| Proxy::of_file(&write(&cluster, folder.path(), &rule)));
        let mut clients = JoinSet::new();
        for number in 0..32 {
            let proxy = &proxies[number % 2];
            proxy.knows(1).await;
            proxy.reads_catalog("postgres").await;
            let mut client = proxy.client().await;
            clients.spawn(async move {
                for nth in 0..400 {
                    let id = 1 + (nth * 7 + number) % 20;
                    let text = match nth % 8 {
                        0 => format!("INSERT INTO pages AS p (path, views) VALUES ('{id}', 1) ON CONFLICT (path) DO UPDATE SET views = p.views + 1"),
                        _ => format!("UPDATE photos SET votes = votes + 1 WHERE id = {id}"),
                    };
                    assert_eq!(client.ok(&text).await.tags, "CZ");
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        for proxy in &proxies {
            proxy.console().await.ok("FLUSH COUNTERS").await;
            for name in ["pgweir_counter_lost_total", "pgweir_counter_unmatched_total"] {
                assert_eq!(proxy.sum(name, &[]).await as usize, 0, "{durability}: {name}");
            }
        }
        let there = "SELECT (SELECT sum(votes) FROM photos) || ' ' || (SELECT sum(views) FROM pages)";
        assert_eq!(cluster.primary().value(there).await.unwrap(), "11200 1600", "{durability}");
        let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'";
        println!("{durability}: {} deadlocks", cluster.primary().value(deadlocks).await.unwrap());
    }
}

/// pgweir is killed while clients vote: its journal has what it has acknowledged.
#[tokio::test]
async fn a_killed_pgweir_finds_its_journal() {
    let cluster = servers(0).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(&cluster, folder.path(), "durability = \"journal\"\nflush_every = \"100ms\"");
    let mut voters = Voters::new();
    for round in 0..rounds(6) {
        let (mut child, address) = run(&path).await;
        if round > 0 {
            // What is left is there before clients are.
            voters.check(cluster.primary()).await;
        }
        voters.start(address, 16);
        voters.reach(300 + 97 * (round % 7)).await;
        signal(&child, Signal::SIGKILL);
        child.wait().await.unwrap();
        voters.end().await;
    }
    let (mut child, _) = run(&path).await;
    voters.check(cluster.primary()).await;
    signal(&child, Signal::SIGTERM);
    assert!(child.wait().await.unwrap().success());
}

/// The long form has more of them.
pub(crate) fn rounds(short: usize) -> usize {
    std::env::var("PGWEIR_KILLS").map_or(short, |rounds| rounds.parse().unwrap())
}

/// The primary is killed while clients vote, and flushes are under way.
#[tokio::test]
async fn a_killed_primary_gets_each_once() {
    for durability in ["journal", "memory"] {
        let cluster = servers(0).await;
        let folder = tempfile::tempdir().unwrap();
        let rule = format!("durability = {durability:?}\nflush_every = \"5ms\"");
        let proxy = Proxy::of_file(&write(&cluster, folder.path(), &rule));
        proxy.knows(1).await;
        let mut voters = Voters::new();
        voters.start(proxy.address(), 16);
        for round in 0..rounds(4) {
            voters.reach(300 + 97 * (round % 7)).await;
            cluster.primary().kill().await.unwrap();
            cluster.primary().start().await.unwrap();
        }
        voters.reach(300).await;
        voters.end().await;
        voters.check(cluster.primary()).await;
        assert!(proxy.sum("pgweir_counter_accepted_total", &[]).await > 300.0);
        assert_eq!(proxy.sum("pgweir_counter_lost_total", &[]).await as usize, 0);
    }
}

/// A replica takes over that has not got the last flushes, and no one confirms commits: the journal has them.
#[tokio::test]
async fn what_a_promotion_has_lost_comes_again() {
    let cluster = servers(1).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(&cluster, folder.path(), "durability = \"journal\"\nflush_every = \"20ms\"");
    let proxy = Proxy::of_file(&path);
    proxy.knows(2).await;
    let mut voters = Voters::new();
    voters.start(proxy.address(), 16);
    voters.reach(500).await;
    // The stream has begun on the replica, too; then it hears no more.
    cluster.wait_replayed(SOON).await.unwrap();
    let replica = cluster.replica(0);
    replica.alter("primary_conninfo", "").await.unwrap();
    replica.wait_value("SELECT count(*) FROM pg_stat_wal_receiver", "0", SOON).await.unwrap();
    let had: usize = replica.value("SELECT votes FROM photos WHERE id = 1").await.unwrap().parse().unwrap();
    voters.reach(2_000).await;
    voters.end().await;
    let all = voters.sure.load(Relaxed);
    let flushed = async || {
        let there = cluster.primary().value("SELECT votes FROM photos WHERE id = 1").await.unwrap();
        there.parse::<usize>().unwrap() == all
    };
    eventually(SOON, flushed).await.unwrap();
    cluster.primary().kill().await.unwrap();
    replica.promote().await.unwrap();
    println!("{had} of {all} were there");
    // Without anybody asking.
    voters.check(replica).await;
    let mut client = proxy.client().await;
    assert_eq!(told(&mut client, &query(VOTE)).await, "UPDATE 1");
    assert_eq!(client.value("SELECT votes FROM photos WHERE id = 1").await, (all + 1).to_string());
    assert_eq!(proxy.sum("pgweir_counter_lost_total", &[]).await as usize, 0);
}

/// SIGTERM leaves nothing behind.
#[tokio::test]
async fn the_end_flushes_what_is_in_memory() {
    let cluster = servers(0).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(&cluster, folder.path(), "durability = \"memory\"\nflush_every = \"1h\"");
    let (mut child, address) = run(&path).await;
    let mut voters = Voters::new();
    voters.start(address, 4);
    voters.reach(3_000).await;
    voters.end().await;
    let sure = voters.sure.load(Relaxed);
    let there = cluster.primary().value("SELECT votes FROM photos WHERE id = 1").await.unwrap();
    assert!(there.parse::<usize>().unwrap() < sure, "nothing was kept");
    signal(&child, Signal::SIGTERM);
    assert!(tokio::time::timeout(SOON, child.wait()).await.unwrap().unwrap().success());
    let there = cluster.primary().value("SELECT votes FROM photos WHERE id = 1").await.unwrap();
    assert_eq!(there, sure.to_string());
}

/// A journal is one pgweir's, and its files are what they are.
#[tokio::test]
async fn a_journal_that_cannot_be_used_says_why() {
    let cluster = servers(0).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(&cluster, folder.path(), "durability = \"journal\"");
    let journal = folder.path().join("journal");
    let (mut child, address) = run(&path).await;
    let refused = async || Program::pgweir().args(["run", "--config"]).args([&path]).run().await;
    let second = refused().await;
    assert!(second.code == Some(1) && second.err.contains("belongs to another pgweir"), "{second:?}");
    let mut client = Raw::login(address, &[]).await.unwrap();
    for _ in 0..500 {
        client.send(&query(VOTE)).await.unwrap();
        assert_eq!(client.answer().await.unwrap().code(), "");
    }
    signal(&child, Signal::SIGKILL);
    child.wait().await.unwrap();
    let mut files: Vec<_> = std::fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "journal"));
    files.sort();
    let last = files.last().unwrap().clone();
    let whole = std::fs::read(&last).unwrap();
    // Damage before what was synced later.
    let mut bytes = whole.clone();
    // The last record ends in a number of eight bytes that is 1; room behind it is zeros.
    let end = bytes.iter().rposition(|byte| *byte > 0).unwrap() + 8;
    assert!(end < bytes.len(), "no room was made");
    bytes[end / 2] ^= 1;
    std::fs::write(&last, &bytes).unwrap();
    let damaged = refused().await;
    assert!(damaged.code == Some(1) && damaged.err.contains("is damaged at byte"), "{damaged:?}");
    std::fs::write(&last, b"something else, and long enough to be a header of it").unwrap();
    let foreign = refused().await;
    assert!(foreign.code == Some(1) && foreign.err.contains("is no file of this journal"), "{foreign:?}");
    // A torn end is nobody's loss.
    std::fs::write(&last, [&whole[..end], b"\x20\0\0\0torn", &whole[end + 8..]].concat()).unwrap();
    let (mut child, _) = run(&path).await;
    let votes =
        || async { cluster.primary().value("SELECT votes FROM photos WHERE id = 1").await.unwrap() == "500" };
    eventually(SOON, votes).await.unwrap();
    signal(&child, Signal::SIGTERM);
    assert!(tokio::time::timeout(Duration::from_secs(30), child.wait()).await.unwrap().unwrap().success());
}

/// It is no reason to be without the database, nor to fill a log; and what was acknowledged before is carried out.
#[tokio::test]
async fn a_full_disk_keeps_nobody_out() {
    let cluster = servers(0).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(&cluster, folder.path(), "durability = \"journal\"\nflush_every = \"10s\"");
    let (mut child, address) = run(&path).await;
    let mut client = Raw::login(address, &[]).await.unwrap();
    for _ in 0..30 {
        client.ok(VOTE).await;
    }
    signal(&child, Signal::SIGKILL);
    child.wait().await.unwrap();
    // No segment can be begun without it.
    let head = folder.path().join("journal/head.new");
    std::fs::remove_file(&head).unwrap();
    std::os::unix::fs::symlink("/dev/full", &head).unwrap();
    let (mut child, address, heard) = run_and_hear(&path).await;
    let mut client = Raw::login(address, &[]).await.unwrap();
    let votes = async || cluster.primary().value("SELECT votes FROM photos WHERE id = 1").await.unwrap();
    eventually(SOON, || async { votes().await == "30" }).await.unwrap();
    let count = |word: &str| heard.lock().unwrap().iter().filter(|line| line.contains(word)).count();
    // So long that it is tried again, and fails again.
    let (mut sent, mut others) = (30, Vec::new());
    for _ in 0..4 {
        others.push(Raw::login(address, &[]).await.unwrap());
    }
    let deadline = Instant::now() + 3 * SOON;
    while count("still fails") < 2 || sent < 130 {
        assert!(Instant::now() < deadline, "it is not tried again");
        for other in &mut others {
            assert_eq!(other.ok(VOTE).await.tags, "CZ");
            sent += 1;
        }
        // It is committed when it is answered.
        assert_eq!(votes().await, sent.to_string());
    }
    assert!(count("ERROR") + count("WARN") < 10, "{:?}", heard.lock().unwrap());
    std::fs::remove_file(&head).unwrap();
    eventually(SOON, || async { count("can be written again") == 1 }).await.unwrap();
    for _ in 0..10 {
        client.ok(VOTE).await;
    }
    signal(&child, Signal::SIGTERM);
    assert!(tokio::time::timeout(SOON, child.wait()).await.unwrap().unwrap().success());
    assert_eq!(votes().await, (sent + 10).to_string());
}

/// Votes until so many are kept. Returns how many were sent.
pub(crate) async fn until_kept(proxy: &Proxy, client: &mut Raw, vote: &str, more: usize) -> usize {
    let accepted = async || proxy.sum("pgweir_counter_accepted_total", &[]).await as usize;
    let (before, mut sent) = (accepted().await, 0);
    while accepted().await < before + more {
        assert_eq!(client.ok(vote).await.tags, "CZ");
        sent += 1;
        assert!(sent < 10_000, "nothing is kept");
    }
    sent
}

/// The ledger is the role's own matter: without it increments are answered after their commit, and an operator reads what to do.
#[tokio::test]
async fn a_role_that_may_not_make_the_ledger() {
    let cluster = servers(0).await;
    let grant = "CREATE ROLE web LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT SELECT, UPDATE ON photos TO web";
    cluster.primary().sql(grant).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = write(&cluster, folder.path(), "durability = \"journal\"\nflush_every = \"50ms\"");
    let proxy = Proxy::of_file(&path);
    proxy.knows(1).await;
    proxy.reads_catalog("postgres").await;
    let mut client = Raw::login(proxy.address(), &[("user", "web")]).await.unwrap();
    let mut console = proxy.console().await;
    let why = async |console: &mut Raw| {
        let rows = console.ok("SHOW COUNTERS").await.rows;
        rows.iter().find_map(|row| row[5].clone())
    };
    for sent in 1..=20 {
        assert_eq!(client.ok(VOTE).await.tags, "CZ");
        let there = cluster.primary().value("SELECT votes FROM photos WHERE id = 1").await.unwrap();
        assert_eq!(there, sent.to_string());
    }
    let said = why(&mut console).await.unwrap();
    let (_, statement) = said.split_once("can make it: ").unwrap_or_else(|| panic!("{said}"));
    cluster.primary().sql(statement).await.unwrap();
    let sent = 20 + until_kept(&proxy, &mut client, VOTE, 5).await;
    assert_eq!(client.value("SELECT votes FROM photos WHERE id = 1").await, sent.to_string());
    assert_eq!(why(&mut console).await, None);
}

/// What the rule says of rows, and of reads.
#[tokio::test]
async fn rows_and_reads_as_the_rule_says() {
    let cluster = servers(0).await;
    let folder = tempfile::tempdir().unwrap();
    let nobody = query("UPDATE photos SET votes = votes + 1 WHERE id = 5000");
    for (verify, first, later) in [("first", 0, 0), ("always", 0, 0), ("never", 1, 1)] {
        cluster.primary().sql("UPDATE photos SET votes = 0").await.unwrap();
        let rule =
            format!("durability = \"memory\"\nflush_every = \"1h\"\nverify = {verify:?}\nreads = \"stale\"");
        let proxy = Proxy::of_file(&write(&cluster, folder.path(), &rule));
        proxy.knows(1).await;
        proxy.reads_catalog("postgres").await;
        let mut client = proxy.client().await;
        let sent = until_kept(&proxy, &mut client, VOTE, 3).await;
        let unmatched = async || proxy.sum("pgweir_counter_unmatched_total", &[]).await as usize;
        for expected in [first, later] {
            // The table is looked at again once a second, and one increment waits for that.
            let mut answers = Vec::new();
            for _ in 0..3 {
                answers.push(told(&mut client, &nobody).await);
            }
            assert!(answers.contains(&format!("UPDATE {expected}")), "{verify}: {answers:?}");
        }
        // A session that has counted reads what is committed.
        let sent = sent + until_kept(&proxy, &mut client, VOTE, 1).await;
        let seen: usize = client.value("SELECT votes FROM photos WHERE id = 1").await.parse().unwrap();
        assert!(seen < sent, "{seen} of {sent}");
        let mut console = proxy.console().await;
        console.ok("FLUSH COUNTERS").await;
        assert_eq!(client.value("SELECT votes FROM photos WHERE id = 1").await, sent.to_string());
        assert!(unmatched().await > 0);
        let flushes = async || proxy.sum("pgweir_counter_flushes_total", &[]).await as usize;
        let before = flushes().await;
        client.ok(VOTE).await;
        if verify == "always" {
            assert_eq!(flushes().await, before + 1, "after a flush the first one waits for its commit");
        }
    }
}

/// What the server refuses does not hold up the rest; whoever still waits gets the error.
#[tokio::test]
async fn a_row_that_is_refused_is_left_out() {
    let cluster = servers(0).await;
    cluster.primary().sql("UPDATE photos SET votes = 2147483600 WHERE id = 2").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = write(&cluster, folder.path(), "durability = \"journal\"\nflush_every = \"1h\"");
    let proxy = Proxy::of_file(&path);
    proxy.knows(1).await;
    proxy.reads_catalog("postgres").await;
    let mut client = proxy.client().await;
    let other = "UPDATE photos SET votes = votes + 10 WHERE id = 2";
    until_kept(&proxy, &mut client, other, 1).await;
    let sent = until_kept(&proxy, &mut client, VOTE, 5).await;
    for _ in 0..10 {
        client.ok(other).await;
    }
    assert_eq!(client.value("SELECT votes FROM photos WHERE id = 1").await, sent.to_string());
    let full: i64 = client.value("SELECT votes FROM photos WHERE id = 2").await.parse().unwrap();
    assert!((2_147_483_600..=2_147_483_647).contains(&full));
    assert!(proxy.sum("pgweir_counter_lost_total", &[]).await > 0.0);
    // Not kept yet: the error is its client's.
    let huge = "UPDATE photos SET votes = votes + 2147483647 WHERE id = 3";
    assert_eq!(told(&mut client, &query(huge)).await, "UPDATE 1");
    let mut fresh = proxy.client().await;
    let full = "UPDATE photos SET votes = votes + 1 WHERE id = 4";
    cluster.primary().sql("UPDATE photos SET votes = 2147483647 WHERE id = 4").await.unwrap();
    assert_eq!(told(&mut fresh, &query(full)).await, "22003");
}

/// The first statement of a transaction waits for what others have counted in its table; later ones wait for nobody, and nobody for them.
#[tokio::test]
async fn a_transaction_begins_behind_what_is_kept() {
    let cluster = servers(0).await;
    cluster.primary().sql("CREATE TABLE archive (id int, votes int)").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = write(&cluster, folder.path(), "durability = \"journal\"\nflush_every = \"1h\"");
    let proxy = Proxy::of_file(&path);
    proxy.knows(1).await;
    proxy.reads_catalog("postgres").await;
    let (mut client, mut other, mut console) =
        (proxy.client().await, proxy.client().await, proxy.console().await);
    let there = async || {
        let there = cluster.primary().value("SELECT votes FROM photos WHERE id = 1").await.unwrap();
        there.parse::<usize>().unwrap()
    };
    // Moved away, and set back.
    let mut sent = until_kept(&proxy, &mut client, VOTE, 5).await;
    other.ok("BEGIN").await;
    other.ok("INSERT INTO archive SELECT id, votes FROM photos WHERE id = 1").await;
    other.ok("UPDATE photos SET votes = 0 WHERE id = 1").await;
    other.ok("COMMIT").await;
    assert_eq!(other.value("SELECT votes FROM archive").await, sent.to_string());
    // Locked, whatever is read.
    sent = until_kept(&proxy, &mut client, VOTE, 5).await;
    other.ok("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    assert_eq!(other.value("SELECT votes FROM photos WHERE id = 1 FOR UPDATE").await, sent.to_string());
    // The row is locked. What is counted meanwhile may be kept, or wait for its commit: later statements wait for neither.
    client.send(&query(VOTE)).await.unwrap();
    sent += 1;
    proxy.becomes("pgweir_counter_waiting", &["table=\"photos\""], 1.0).await;
    let start = tokio::time::Instant::now();
    other.ok("UPDATE photos SET title = 'x' WHERE id IN (1, 2)").await;
    other.ok("UPDATE photos SET votes = votes + 10 WHERE id = 1").await;
    other.ok("COMMIT").await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(client.answer().await.unwrap().tags, "CZ");
    console.ok("FLUSH COUNTERS").await;
    assert_eq!(there().await, sent + 10);
    assert_eq!(proxy.sum("pgweir_counter_lost_total", &[]).await as usize, 0);
}

/// A configuration that is loaded again finds what the one before has kept.
#[tokio::test]
async fn a_reload_loses_nothing() {
    let cluster = servers(0).await;
    let folder = tempfile::tempdir().unwrap();
    let path = write(&cluster, folder.path(), "durability = \"journal\"\nflush_every = \"1h\"");
    let proxy = Proxy::of_file(&path);
    proxy.knows(1).await;
    proxy.reads_catalog("postgres").await;
    let (mut client, mut console) = (proxy.client().await, proxy.console().await);
    let mut sent = until_kept(&proxy, &mut client, VOTE, 5).await;
    for rule in [
        "durability = \"journal\"\nflush_every = \"20m\"",
        "durability = \"memory\"\nflush_every = \"30m\"",
        "max_waiting = 50",
    ] {
        write(&cluster, folder.path(), rule);
        console.ok("RELOAD").await;
        for _ in 0..200 {
            client.ok(VOTE).await;
            sent += 1;
        }
    }
    console.ok("FLUSH COUNTERS").await;
    assert_eq!(client.value("SELECT votes FROM photos WHERE id = 1").await, sent.to_string());
}

/// A right that is missing is its client's error, at once; and nobody else waits for what cannot be flushed.
#[tokio::test]
async fn what_the_server_refuses_holds_up_nobody() {
    let cluster = servers(0).await;
    let role = "CREATE ROLE web LOGIN; GRANT CREATE ON SCHEMA public TO web; GRANT SELECT, UPDATE ON photos TO web; CREATE TABLE other (id int)";
    cluster.primary().sql(role).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = write(&cluster, folder.path(), "durability = \"journal\"\nflush_every = \"1h\"");
    let proxy = Proxy::of_file(&path);
    proxy.knows(1).await;
    proxy.reads_catalog("postgres").await;
    let mut web = Raw::login(proxy.address(), &[("user", "web")]).await.unwrap();
    let (mut owner, mut console) = (proxy.client().await, proxy.console().await);
    let mut sent = until_kept(&proxy, &mut web, VOTE, 1).await;
    console.ok("FLUSH COUNTERS").await;
    // Nothing is kept: the error is the client's own.
    cluster.primary().sql("REVOKE UPDATE ON photos FROM web").await.unwrap();
    let another = query("UPDATE photos SET votes = votes + 1 WHERE id = 2");
    assert_eq!(told(&mut web, &another).await, "42501");
    assert_eq!(told(&mut web, &query(VOTE)).await, "42501");
    cluster.primary().sql("GRANT UPDATE ON photos TO web").await.unwrap();
    sent += until_kept(&proxy, &mut web, VOTE, 1).await;
    // Something is: others' statements go on, its own session hears that its reads are not complete.
    cluster.primary().sql("REVOKE UPDATE ON photos FROM web").await.unwrap();
    let refused =
        async |client: &mut Raw| told(client, &query("SELECT votes FROM photos WHERE id = 1")).await;
    assert_eq!(refused(&mut web).await, "55P03");
    for text in
        ["CREATE TABLE zzz (i int)", "DO $$ BEGIN END $$", "UPDATE photos SET title = 'x' WHERE id = 3"]
    {
        let start = tokio::time::Instant::now();
        owner.ok(text).await;
        assert!(start.elapsed() < Duration::from_secs(3), "{text}: {:?}", start.elapsed());
    }
    let why = async |console: &mut Raw| {
        let rows = console.ok("SHOW COUNTERS").await.rows;
        rows.iter().filter(|row| row[2].as_deref() == Some("web")).find_map(|row| row[5].clone())
    };
    assert!(why(&mut console).await.unwrap().contains("permission denied"), "{:?}", why(&mut console).await);
    // So does who asks for the flush, and the console goes on, whichever protocol it is asked by.
    let unit = [extended("", "FLUSH COUNTERS photos"), sync()].concat();
    for text in [&query("FLUSH COUNTERS photos")[..], &unit] {
        console.send(text).await.unwrap();
        let answer = console.answer().await.unwrap();
        let [refusal] = &answer.errors[..] else { panic!("{answer:?}") };
        assert_eq!((&*refusal.severity, &*refusal.code), ("ERROR", "55000"));
        let words =
            "increments of public.photos could not be committed: the server refuses them: permission denied";
        assert!(refusal.message.starts_with(words), "{}", refusal.message);
        assert!(!answer.tags.contains('C') && answer.tags.ends_with("EZ"), "{}", answer.tags);
        assert_eq!(told(&mut console, &query("SHOW VERSION")).await, "SHOW");
    }
    cluster.primary().sql("GRANT UPDATE ON photos TO web").await.unwrap();
    let seen = || async {
        cluster.primary().value("SELECT votes FROM photos WHERE id = 1").await.unwrap() == sent.to_string()
    };
    eventually(SOON, seen).await.unwrap();
    assert_eq!(web.value("SELECT votes FROM photos WHERE id = 1").await, sent.to_string());
    // A table that is gone: an operator says that nobody wants its counters any more.
    sent += until_kept(&proxy, &mut web, VOTE, 1).await - 1;
    cluster.primary().sql("ALTER TABLE photos RENAME TO gone").await.unwrap();
    assert_eq!(told(&mut console, &query("DISCARD COUNTERS photos")).await, "DISCARD COUNTERS");
    assert!(proxy.sum("pgweir_counter_lost_total", &[]).await > 0.0);
    owner.ok("CREATE TABLE photos (id int PRIMARY KEY, votes int DEFAULT 0)").await;
    assert_eq!(told(&mut console, &query("FLUSH COUNTERS nothing")).await, "42704");
    cluster.primary().sql("DROP TABLE photos; ALTER TABLE gone RENAME TO photos").await.unwrap();
    let more = until_kept(&proxy, &mut web, VOTE, 1).await;
    assert_eq!(web.value("SELECT votes FROM photos WHERE id = 1").await, (sent + more).to_string());
}

/// While there is no primary, votes for rows that are known are taken; others wait for one.
#[tokio::test]
async fn votes_are_taken_without_a_primary() {
    let cluster = servers(0).await;
    let folder = tempfile::tempdir().unwrap();
    let rule = "durability = \"journal\"\nflush_every = \"20ms\"";
    let proxy = Proxy::of_file(&write(&cluster, folder.path(), rule));
    proxy.knows(1).await;
    proxy.reads_catalog("postgres").await;
    let (mut client, mut other) = (proxy.client().await, proxy.client().await);
    let mut sent = until_kept(&proxy, &mut client, VOTE, 5).await;
    client.ok("UPDATE photos SET title = 'x' WHERE id = 2").await;
    cluster.primary().kill().await.unwrap();
    proxy.knows(0).await;
    other.send(&query("UPDATE photos SET votes = votes + 1 WHERE id = 2")).await.unwrap();
    for _ in 0..20 {
        client.ok(VOTE).await;
        sent += 1;
    }
    cluster.primary().start().await.unwrap();
    assert_eq!(other.answer().await.unwrap().code(), "");
    assert_eq!(client.value("SELECT votes FROM photos WHERE id = 1").await, sent.to_string());
    assert_eq!(client.value("SELECT votes FROM photos WHERE id = 2").await, "1");
}
