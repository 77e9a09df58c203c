//! Counters while everything dies that can, in turn: pgweir, the primary, the connection of a statement, and the primary for good. What
//! was acknowledged counts once, what was not at most once. `PGWEIR_KILLS=200` is the long form.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::signal::Signal;
use pgweir::cli::demo::cluster::{Cluster, Postgres, eventually};
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::kept::{rounds, run};
use crate::programs::signal;
use crate::proxy::{SOON, cluster, configuration};
use crate::raw::Raw;
use crate::relay::{CUT, Relay};

/// Everything comes back within that.
const PATIENCE: Duration = Duration::from_secs(30);

/// The long form may take so long.
const LONGEST: Duration = Duration::from_secs(15 * 60);

const CLIENTS: usize = 12;

/// What happens while clients vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accident {
    PgweirKilled,
    PrimaryKilled,
    /// The connection of a statement about the table, after so many bytes of the server's replies; and of others after some more.
    Cut(usize),
    /// The primary dies for good; the replica has confirmed each commit.
    Promotion,
    /// The same, and the replica has not got the last commits.
    Lossy,
}

/// What clients have been told.
#[derive(Debug, Default)]
struct Told {
    sure: AtomicUsize,
    unsure: AtomicUsize,
    /// Those of `sure` that were sent after the mark was set.
    marked: AtomicUsize,
    mark: AtomicBool,
    stop: AtomicBool,
}

struct Voters {
    told: Arc<Told>,
    clients: JoinSet<()>,
}

impl Voters {
    fn start(address: SocketAddr) -> Self {
        let mut voters = Self { told: Arc::default(), clients: JoinSet::new() };
        voters.join(address);
        voters
    }

    fn join(&mut self, address: SocketAddr) {
        for number in 0..CLIENTS {
            self.clients.spawn(vote(address, number, self.told.clone()));
        }
    }

    async fn reach(&self, more: usize) {
        let before = self.told.sure.load(Relaxed);
        let there = || async { self.told.sure.load(Relaxed) >= before + more };
        eventually(PATIENCE, there).await.unwrap();
    }

    /// All have ended, and heard their last answer. Returns what they were told.
    async fn end(mut self) -> Arc<Told> {
        self.told.stop.store(true, Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.told
    }
}

/// Votes until it is told to stop, or its pgweir is gone: for a few rows, some of which are made by it.
async fn vote(address: SocketAddr, number: usize, told: Arc<Told>) {
    let Ok(mut client) = Raw::login(address, &[]).await else { return };
    for round in 0.. {
        let id = 1 + (number + round) % 4;
        let text = match round % 4 {
            0 => format!(
                "INSERT INTO {CUT:?} AS t (id, n) VALUES ({}, 1) ON CONFLICT (id) DO UPDATE SET n = t.n + 1",
                10 + id
            ),
            _ => format!("UPDATE {CUT:?} SET n = n + 1 WHERE id = {id}"),
        };
        let mark = told.mark.load(Relaxed);
        match client.query(&text).await {
            Ok(answer) if answer.code().is_empty() => {
                assert_eq!(answer.tags, "CZ");
                told.sure.fetch_add(1, Relaxed);
                told.marked.fetch_add(usize::from(mark), Relaxed);
            }
            Ok(answer) => {
                assert!(["08007", "57P01", "08006"].contains(&answer.code()), "{}", answer.code());
                told.unsure.fetch_add(1, Relaxed);
            }
            Err(_) => {
                told.unsure.fetch_add(1, Relaxed);
                return;
            }
        }
        if told.stop.load(Relaxed) {
            return;
        }
    }
}

/// A primary and its replica, each behind a relay, and a pgweir in a process of its own.
struct Stage {
    cluster: Cluster,
    relays: Vec<Relay>,
    child: Child,
    address: SocketAddr,
    path: PathBuf,
    promoted: bool,
    /// Of the configuration and the journal.
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn set(durability: &str) -> Self {
        let cluster = cluster().replicas(1).start().await.unwrap();
        let table = format!(
            "CREATE TABLE {CUT:?} (id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO {CUT:?} SELECT generate_series(1, 4)"
        );
        cluster.primary().sql(&table).await.unwrap();
        cluster.wait_replayed(SOON).await.unwrap();
        let mut relays = Vec::new();
        for server in cluster.all() {
            let relay = Relay::before(&server.address()).await;
            relay.cuts_at_binds();
            relays.push(relay);
        }
        let pace = if durability == "commit" { "" } else { "flush_every = \"15ms\"\n" };
        let rule = format!(
            "server_login_retry = \"10ms\"\nserver_login_retry_max = \"50ms\"\n\
             [[databases.postgres.counters]]\ntable = {CUT:?}\nkey = [\"id\"]\ncolumns = [\"n\"]\ndurability = {durability:?}\n{pace}"
        );
        let servers: Vec<_> = relays.iter().map(Relay::address).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgweir.toml");
        let journal = "[journal]\nfolder = \"journal\"\n";
        std::fs::write(&path, configuration(&servers, &rule, journal)).unwrap();
        let (child, address) = run(&path).await;
        Self { cluster, relays, child, address, path, promoted: false, _folder: folder }
    }

    fn primary(&self) -> &Postgres {
        if self.promoted { self.cluster.replica(0) } else { self.cluster.primary() }
    }

    async fn there(&self) -> usize {
        self.primary().value(&format!("SELECT sum(n) FROM {CUT:?}")).await.unwrap().parse().unwrap()
    }

    /// Has it happen. Returns what the new primary had when it took over.
    async fn happens(&mut self, accident: Accident, voters: &mut Voters) -> usize {
        match accident {
            Accident::PgweirKilled => {
                signal(&self.child, Signal::SIGKILL);
                self.child.wait().await.unwrap();
                (self.child, self.address) = run(&self.path).await;
                voters.join(self.address);
            }
            Accident::PrimaryKilled => {
                self.primary().kill().await.unwrap();
                self.primary().start().await.unwrap();
            }
            Accident::Cut(bytes) => {
                let relay = &self.relays[usize::from(self.promoted)];
                for more in [0, 40, 80] {
                    let before = relay.cuts();
                    relay.cut_after(bytes + more);
                    eventually(PATIENCE, || async { relay.cuts() > before }).await.unwrap();
                }
                relay.cut_after(usize::MAX);
            }
            Accident::Promotion | Accident::Lossy => return self.promote(accident, voters).await,
        }
        0
    }

    async fn promote(&mut self, accident: Accident, voters: &Voters) -> usize {
        let (primary, replica) = (self.cluster.primary(), self.cluster.replica(0));
        replica.wait_streaming(primary).await.unwrap();
        if accident == Accident::Promotion {
            primary.alter("synchronous_standby_names", "*").await.unwrap();
            let confirms = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            primary.wait_value(confirms, "1", SOON).await.unwrap();
        } else {
            replica.alter("primary_conninfo", "").await.unwrap();
            replica.wait_value("SELECT count(*) FROM pg_stat_wal_receiver", "0", SOON).await.unwrap();
        }
        // Each client has several that were sent after that.
        voters.reach(20 * CLIENTS).await;
        primary.kill().await.unwrap();
        replica.promote().await.unwrap();
        self.promoted = true;
        let had = self.there().await;
        voters.told.mark.store(true, Relaxed);
        had
    }

    /// Nothing is on its way any more.
    async fn rest(&self) {
        let mut console = Raw::login(self.address, &[("database", "pgweir")]).await.unwrap();
        console.ok("FLUSH COUNTERS").await;
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle' \
                    AND application_name NOT IN ('pgweir-fixture', 'pgweir monitor')";
        self.primary().wait_value(busy, "0", SOON).await.unwrap();
    }
}

/// Rounds of a vote each, in which one thing happens. The last round of a stage is a promotion: where the replica has confirmed the
/// commits, and where it has not got the last ones, in turn.
async fn exact(durability: &str) {
    let (all, start) = (rounds(20), tokio::time::Instant::now());
    let (mut done, mut stages, mut votes, mut unknown, mut lost) = (0, 0, 0, 0, 0);
    while done < all {
        let mut stage = Stage::set(durability).await;
        let last = if stages % 2 == 0 { Accident::Promotion } else { Accident::Lossy };
        let (few, more) = (done * 7 % 120, done * 11 % 400);
        let accidents =
            [Accident::PgweirKilled, Accident::Cut(few), Accident::PrimaryKilled, Accident::Cut(more), last];
        let mut before = stage.there().await;
        for accident in accidents {
            let mut voters = Voters::start(stage.address);
            voters.reach(80 + 37 * (done % 5)).await;
            let had = stage.happens(accident, &mut voters).await;
            voters.reach(60).await;
            let told = voters.end().await;
            let (sure, unsure) = (told.sure.load(Relaxed), told.unsure.load(Relaxed));
            // What PostgreSQL has lost it has lost: `commit` promises no more than it. All that came later is there.
            let least = if durability == "commit" && accident == Accident::Lossy {
                had + told.marked.load(Relaxed)
            } else {
                before + sure
            };
            // What a primary has lost comes from the journal without anybody asking.
            let _ = eventually(PATIENCE, || async { stage.there().await >= least }).await;
            stage.rest().await;
            let there = stage.there().await;
            let most = before + sure + unsure;
            assert!(
                least <= there && there <= most,
                "{durability}, round {done}, {accident:?}: {least} <= {there} <= {most} ({sure} acknowledged, {unsure} unknown, {before} before, {had} had)"
            );
            lost += (before + sure).saturating_sub(there);
            (before, done, votes, unknown) = (there, done + 1, votes + sure, unknown + unsure);
        }
        stages += 1;
        assert!(start.elapsed() < LONGEST, "{done} rounds took {:?}", start.elapsed());
        signal(&stage.child, Signal::SIGTERM);
        stage.child.wait().await.unwrap();
    }
    println!(
        "{durability}: {done} rounds, {stages} promotions, {votes} acknowledged, {unknown} unknown, {lost} lost by PostgreSQL, {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn commit_through_accidents() {
    exact("commit").await;
}

#[tokio::test]
async fn journal_through_accidents() {
    exact("journal").await;
}
