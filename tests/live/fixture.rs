//! The fixture itself: it starts, it obeys, and it leaves nothing behind, whatever happens to this process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pgweir::cli::demo::cluster::{Builder, Cluster, Postgres, eventually};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const SOON: Duration = Duration::from_secs(10);

/// Set for a child of a test: see `child`.
const CHILD: &str = "PGWEIR_FIXTURE_CHILD";

fn cluster() -> Builder {
    Cluster::builder().cache(env!("CARGO_TARGET_TMPDIR"))
}

async fn count(server: &Postgres) -> String {
    server.value("SELECT count(*) FROM photos").await.unwrap()
}

#[tokio::test]
async fn replicas_replay_pause_and_lag() {
    let cluster = cluster().replicas(2).start().await.unwrap();
    let (primary, paused, late) = (cluster.primary(), cluster.replica(0), cluster.replica(1));
    primary.sql("CREATE TABLE photos (id int); INSERT INTO photos VALUES (1)").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    assert_eq!(count(paused).await, "1");
    assert_eq!(count(late).await, "1");
    assert!(paused.sql("INSERT INTO photos VALUES (2)").await.is_err(), "a replica took a write");

    paused.pause_replay().await.unwrap();
    late.delay_replay(Duration::from_secs(3600)).await.unwrap();
    primary.sql("INSERT INTO photos VALUES (2)").await.unwrap();
    assert!(cluster.wait_replayed(Duration::from_millis(200)).await.is_err());
    assert_eq!((count(paused).await, count(late).await), ("1".into(), "1".into()));

    paused.resume_replay().await.unwrap();
    late.delay_replay(Duration::ZERO).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    assert_eq!((count(paused).await, count(late).await), ("2".into(), "2".into()));
    assert_eq!(cluster.servers().len(), 3);
}

#[tokio::test]
async fn a_killed_primary_is_replaced_and_a_killed_replica_returns() {
    let cluster = cluster().replicas(2).start().await.unwrap();
    let (old, new, other) = (cluster.primary(), cluster.replica(0), cluster.replica(1));
    old.sql("CREATE TABLE photos (id int)").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();

    other.kill().await.unwrap();
    assert!(!other.is_running() && tokio::net::TcpStream::connect(other.address()).await.is_err());
    other.start().await.unwrap();

    old.kill().await.unwrap();
    new.promote().await.unwrap();
    other.follow(new).await.unwrap();
    new.sql("INSERT INTO photos VALUES (1)").await.unwrap();
    other.wait_value("SELECT count(*) FROM photos", "1", SOON).await.unwrap();

    old.start().await.unwrap();
    assert_eq!(old.value("SELECT pg_is_in_recovery()").await.unwrap(), "f", "two primaries, as asked for");
    other.restart().await.unwrap();
    assert_eq!(count(other).await, "1");
}

#[tokio::test]
async fn a_stopped_primary_comes_back_as_a_replica() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let (old, new) = (cluster.primary(), cluster.replica(0));
    old.stop().await.unwrap();
    new.promote().await.unwrap();
    old.become_replica_of(new).await.unwrap();
    new.sql("CREATE TABLE photos (id int)").await.unwrap();
    old.wait_value("SELECT count(*) FROM photos", "0", SOON).await.unwrap();
}

#[tokio::test]
async fn a_frozen_server_is_silent_and_can_be_killed_or_thawed() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let replica = cluster.replica(0);
    replica.sigstop().await.unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(200), replica.sql("SELECT 1")).await;
    assert!(answer.is_err(), "a frozen server answered");
    replica.sigcont().unwrap();
    replica.sql("SELECT 1").await.unwrap();
    replica.sigstop().await.unwrap();
    replica.kill().await.unwrap();
    replica.start().await.unwrap();
    replica.sigstop().await.unwrap(); // and is dropped like this
}

#[tokio::test]
async fn settings_and_hba_lines_hold() {
    let cluster = cluster()
        .setting("max_connections", "9")
        .setting("max_wal_senders", "4")
        .setting("superuser_reserved_connections", "1")
        .hba("host all scram_user 127.0.0.1/32 scram-sha-256")
        .replicas(1)
        .start()
        .await
        .unwrap();
    cluster.primary().sql("CREATE ROLE scram_user LOGIN PASSWORD 'secret'").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    for server in [cluster.primary(), cluster.replica(0)] {
        assert_eq!(server.value("SHOW max_connections").await.unwrap(), "9");
        let mut login = tokio_postgres::Config::new();
        login.host("127.0.0.1").port(server.port()).user("scram_user").dbname("postgres");
        assert!(login.clone().connect(tokio_postgres::NoTls).await.is_err(), "no password was asked for");
        login.password("secret").connect(tokio_postgres::NoTls).await.map(drop).unwrap();
    }
}

#[tokio::test]
async fn the_end_of_a_cluster_leaves_nothing() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let pids = [cluster.primary().pid().unwrap(), cluster.replica(0).pid().unwrap()];
    let folder = cluster.folder().to_owned();
    assert!(folder.exists() && pids.iter().all(|&pid| is_alive(pid)));
    drop(cluster);
    assert!(!folder.exists() && !pids.iter().any(|&pid| is_alive(pid)));
}

/// Killed with SIGKILL, one of its servers too: still nothing is left.
#[tokio::test]
async fn even_a_killed_process_leaves_nothing() {
    let (mut child, folder, pids) = start_child("running").await;
    assert!(folder.exists() && is_alive(pids[0]) && is_alive(pids[1]) && !is_alive(pids[2]));
    child.kill().await.unwrap();
    assert_nothing_left(&folder, &pids).await;
}

/// The same in the middle of the work: servers starting, or not yet started at all.
#[tokio::test]
async fn even_a_process_killed_while_starting_leaves_nothing() {
    let (mut child, folder, pids) = start_child("starting").await;
    assert!(folder.exists() && mentions(&folder));
    child.kill().await.unwrap();
    assert_nothing_left(&folder, &pids).await;
}

async fn assert_nothing_left(folder: &Path, pids: &[i32]) {
    const LATE: Duration = Duration::from_secs(30); // an initdb may have to end first
    eventually(LATE, || async { !folder.exists() && !pids.iter().any(|&pid| is_alive(pid)) }).await.unwrap();
    assert!(!mentions(folder), "a process still works in {}", folder.display());
}

/// Runs `child` below in a process of its own, until it has said where its folder is and which servers run.
async fn start_child(mode: &str) -> (Child, PathBuf, Vec<i32>) {
    let (child, told) = run_as_child("fixture::child", (CHILD, mode), "FOLDER ").await;
    let mut words = told.split(' ');
    let folder = PathBuf::from(words.next().unwrap());
    (child, folder, words.map(|pid| pid.parse().unwrap()).collect())
}

/// Runs a test that is ignored, in a process of its own with that in its environment, until it has said such a word; returned is what
/// follows in that line.
pub(crate) async fn run_as_child(test: &str, (key, value): (&str, &str), word: &str) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(key, value)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, told)) = line.split_once(word) {
            return (child, told.to_owned());
        }
    }
    panic!("the child said nothing");
}

/// Not a test: what the tests of sudden death run as their child.
#[tokio::test]
#[ignore = "run by other tests, as their child"]
async fn child() {
    let Ok(mode) = std::env::var(CHILD) else { return };
    if mode == "starting" {
        // Without a cache, so that initdb is at work for a while; the folder is known by its sweeper.
        let starting = tokio::spawn(Cluster::builder().replicas(2).start());
        eventually(SOON, || async { !swept_folders().is_empty() }).await.unwrap();
        println!("FOLDER {}", swept_folders()[0].display());
        let _cluster = starting.await;
        return std::future::pending().await;
    }
    let cluster = cluster().replicas(2).start().await.unwrap();
    let pids: Vec<String> = [cluster.primary(), cluster.replica(0), cluster.replica(1)]
        .map(|server| server.pid().unwrap().to_string())
        .to_vec();
    cluster.replica(1).kill().await.unwrap();
    println!("FOLDER {} {}", cluster.folder().display(), pids.join(" "));
    std::future::pending::<()>().await;
}

/// The folders of our own sweepers, by their command lines.
fn swept_folders() -> Vec<PathBuf> {
    processes()
        .filter(|(_, parent, line)| *parent == std::process::id() && line.contains("pgweir-sweeper"))
        .filter_map(|(_, _, line)| line.split('\0').rfind(|word| !word.is_empty()).map(PathBuf::from))
        .collect()
}

fn mentions(folder: &Path) -> bool {
    processes().any(|(_, _, line)| line.contains(folder.to_str().unwrap()))
}

/// Every process: its id, its parent's, and its command line with NULs between the words.
fn processes() -> impl Iterator<Item = (u32, u32, String)> {
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, parent, String::from_utf8_lossy(&line).into_owned()))
    })
}

fn is_alive(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z')
}
