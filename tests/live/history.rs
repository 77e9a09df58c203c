//! A history of what clients wrote and read while servers are hurt in every way, and what must be true of it:
//!
//! - a read sees every write that was acknowledged before it began, and nothing that nobody has sent;
//! - a session does not go back in time;
//! - what was acknowledged is there in the end, once; what was not, at most once;
//! - a primary that was replaced gets no write.
//!
//! Each writer has a register of its own, whose value only grows, and a list of its own, to which it only appends: so what a
//! read must see is two numbers. The checker is shown to find what it looks for, where nothing is promised.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, Postgres, eventually};
use proptest::test_runner::{RngAlgorithm, TestRng};
use rand::Rng as _;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::proxy::{Proxy, SOON, cluster};
use crate::raw::Raw;
use crate::relay::Relay;

const WRITERS: usize = 4;
const READERS: usize = 6;

/// What is known of one writer's register and list.
#[derive(Default)]
struct Key {
    /// The highest that was sent, and that was acknowledged.
    sent: AtomicU64,
    acknowledged: AtomicU64,
    /// Appended and acknowledged, in order.
    appended: std::sync::Mutex<Vec<u64>>,
    append_sent: AtomicU64,
}

#[derive(Default)]
struct History {
    keys: [Key; WRITERS],
    reads: AtomicUsize,
    writes: AtomicUsize,
    read_errors: AtomicUsize,
    unknown: AtomicUsize,
    violations: std::sync::Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl History {
    fn violated(&self, what: String) {
        self.violations.lock().unwrap().push(what);
    }

    fn found(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }
}

/// A client that connects again when it is thrown out: a session that goes on is the same.
struct Client {
    address: std::net::SocketAddr,
    raw: Option<Raw>,
}

impl Client {
    /// The first value; none: it was not carried out, or nobody knows.
    async fn ask(&mut self, text: &str) -> Result<Vec<u64>, String> {
        if self.raw.is_none() {
            self.raw = Some(Raw::login(self.address, &[]).await.map_err(|error| format!("login: {error}"))?);
        }
        let Some(raw) = &mut self.raw else { return Err("no connection".to_owned()) };
        match raw.query(text).await {
            Ok(answer) if answer.errors.is_empty() => {
                let row = answer.rows.first().cloned().unwrap_or_default();
                Ok(row.iter().map(|value| value.as_deref().unwrap_or("0").parse().unwrap()).collect())
            }
            Ok(answer) => Err(format!("{} {}", answer.errors[0].code, answer.errors[0].message)),
            Err(error) => {
                self.raw = None;
                Err(error.to_string())
            }
        }
    }

    fn is_new(&self) -> bool {
        self.raw.is_none()
    }
}

async fn write(history: Arc<History>, mut client: Client, own: usize) {
    let key = &history.keys[own];
    for n in 1.. {
        if history.stop.load(SeqCst) {
            return;
        }
        key.sent.store(n, SeqCst);
        match client.ask(&format!("UPDATE registers SET value = {n} WHERE id = {own}")).await {
            Ok(_) => key.acknowledged.store(n, SeqCst),
            Err(_) => drop(history.unknown.fetch_add(1, SeqCst)),
        }
        key.append_sent.store(n, SeqCst);
        match client.ask(&format!("INSERT INTO lists VALUES ({own}, {n})")).await {
            Ok(_) => key.appended.lock().unwrap().push(n),
            Err(_) => drop(history.unknown.fetch_add(1, SeqCst)),
        }
        history.writes.fetch_add(2, SeqCst);
        // Its own writes, at once: the same session.
        let (register, list) = (key.acknowledged.load(SeqCst), key.appended.lock().unwrap().len() as u64);
        let text = format!(
            "SELECT value, (SELECT count(*) FROM lists WHERE id = {own}) FROM registers WHERE id = {own}"
        );
        if let Ok(seen) = client.ask(&text).await {
            history.reads.fetch_add(1, SeqCst);
            if seen[0] < register || seen[1] < list {
                history.violated(format!("writer {own} wrote {register} and {list} rows, and read {seen:?}"));
            }
        }
    }
}

async fn read(history: Arc<History>, mut client: Client, seed: usize) {
    let mut before = [(0u64, 0u64); WRITERS];
    let mut turn = seed;
    // Ports, and behind them whether it was a replica.
    let mut places = [0; WRITERS];
    while !history.stop.load(SeqCst) {
        turn += 1;
        let own = turn % WRITERS;
        let key = &history.keys[own];
        let (register, list) = (key.acknowledged.load(SeqCst), key.appended.lock().unwrap().len() as u64);
        let new = client.is_new();
        let text = format!(
            "SELECT value, (SELECT count(*) FROM lists WHERE id = {own}), \
             current_setting('port')::int * 10 + pg_is_in_recovery()::int FROM registers WHERE id = {own}"
        );
        let (seen, at) = match client.ask(&text).await {
            Ok(seen) => ((seen[0], seen[1]), seen[2]),
            Err(_) => {
                history.read_errors.fetch_add(1, SeqCst);
                continue;
            }
        };
        history.reads.fetch_add(1, SeqCst);
        if new {
            before = Default::default();
        }
        let (most, appended) = (key.sent.load(SeqCst), key.append_sent.load(SeqCst));
        if seen.0 < register || seen.1 < list {
            history
                .violated(format!("{own} was at ({register}, {list}) when a read began that saw {seen:?}"));
        }
        if seen.0 < before[own].0 || seen.1 < before[own].1 {
            history.violated(format!(
                "a session saw {:?} of {own} at {}, and then {seen:?} at {at}",
                before[own], places[own]
            ));
        }
        if seen.0 > most || seen.1 > appended {
            history.violated(format!("{seen:?} of {own} was never written"));
        }
        before[own] = seen;
        places[own] = at;
    }
}

/// Three servers, each behind a relay, with synchronous replication to one of the others.
struct World {
    cluster: Cluster,
    relays: Vec<Relay>,
    proxy: Proxy,
    primary: usize,
    gone: Option<usize>,
}

impl World {
    async fn new(settings: &str) -> Self {
        let cluster =
            cluster().replicas(2).setting("synchronous_standby_names", "ANY 1 (*)").start().await.unwrap();
        let text = format!(
            "CREATE TABLE registers (id int PRIMARY KEY, value bigint); CREATE TABLE lists (id int, n bigint);\
             INSERT INTO registers SELECT n, 0 FROM generate_series(0, {}) n",
            WRITERS - 1
        );
        cluster.primary().sql(&text).await.unwrap();
        cluster.wait_replayed(SOON).await.unwrap();
        let mut relays = Vec::new();
        for server in cluster.all() {
            relays.push(Relay::before(&server.address()).await);
        }
        let servers: Vec<String> = relays.iter().map(Relay::address).collect();
        let proxy = Proxy::before(&servers, settings);
        proxy.knows(3).await;
        proxy.reads_catalog("postgres").await;
        Self { cluster, relays, proxy, primary: 0, gone: None }
    }

    fn server(&self, at: usize) -> &Postgres {
        &self.cluster.all()[at]
    }

    fn replicas(&self) -> Vec<usize> {
        (0..3).filter(|at| *at != self.primary && Some(*at) != self.gone).collect()
    }

    /// The replica that has received most.
    async fn best(&self) -> usize {
        let mut best = (0, self.replicas()[0]);
        for at in self.replicas() {
            let text = "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')::bigint";
            let received: u64 = self.server(at).value(text).await.unwrap().parse().unwrap();
            best = best.max((received, at));
        }
        best.1
    }

    /// `new` becomes the primary, and the others follow it.
    async fn promote(&mut self, new: usize) {
        self.server(new).promote().await.unwrap();
        self.primary = new;
        for at in self.replicas() {
            self.server(at).follow(self.server(new)).await.unwrap();
        }
    }

    async fn hurt(&mut self, how: usize, which: usize) {
        let replicas = self.replicas();
        let replica = replicas[which % replicas.len()];
        match how {
            0 => {
                self.server(replica).pause_replay().await.unwrap();
                sleep(Duration::from_millis(700)).await;
                self.server(replica).resume_replay().await.unwrap();
            }
            1 if replicas.len() > 1 => {
                self.server(replica).kill().await.unwrap();
                sleep(Duration::from_millis(700)).await;
                self.server(replica).start().await.unwrap();
            }
            2 => {
                self.server(replica).delay_replay(Duration::from_millis(250)).await.unwrap();
                sleep(Duration::from_millis(900)).await;
                self.server(replica).delay_replay(Duration::ZERO).await.unwrap();
            }
            3 => {
                self.relays[replica].silence(true);
                sleep(Duration::from_millis(1800)).await;
                self.relays[replica].silence(false);
            }
            4 if replicas.len() > 1 => {
                // All that it has goes to the replicas before it ends.
                let old = self.primary;
                self.server(old).stop().await.unwrap();
                let new = self.best().await;
                self.gone = Some(old);
                self.promote(new).await;
                self.server(old).become_replica_of(self.server(new)).await.unwrap();
                self.gone = None;
            }
            5 => {
                // The primary cannot be reached by pgweir; nobody takes over, and it comes back.
                self.relays[self.primary].silence(true);
                sleep(Duration::from_millis(1800)).await;
                self.relays[self.primary].silence(false);
            }
            _ => sleep(Duration::from_millis(300)).await,
        }
    }

    /// The last act: the primary dies, the best replica takes over, and the old one comes back and does not know.
    async fn lose(&mut self, history: &History) {
        let old = self.primary;
        self.server(old).kill().await.unwrap();
        self.gone = Some(old);
        let new = self.best().await;
        self.promote(new).await;
        goes_on(history).await;
        self.server(old).start().await.unwrap();
        assert_eq!(self.server(old).value("SELECT pg_is_in_recovery()").await.unwrap(), "f");
        let text = "SELECT (SELECT sum(value) FROM registers) + (SELECT count(*) FROM lists)";
        // It waits for replicas that it has not any more: what it is asked to write would hang there, and be seen.
        let left = self.server(old).value(text).await.unwrap();
        let server = format!("server=\"{}\"", self.relays[old].address());
        self.proxy.becomes("pgweir_server_fenced", &[&server], 1.0).await;
        goes_on(history).await;
        if self.server(old).value(text).await.unwrap() != left {
            history.violated("a primary that was replaced was written to".to_owned());
        }
        let busy =
            "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query ~ '^(UPDATE|INSERT)'";
        if self.server(old).value(busy).await.unwrap() != "0" {
            history.violated("a primary that was replaced is being written to".to_owned());
        }
    }
}

/// Waits until every writer has had something acknowledged since.
async fn goes_on(history: &History) {
    let now = || history.keys.iter().map(|key| key.acknowledged.load(SeqCst)).collect::<Vec<_>>();
    let before = now();
    let all = async || now().iter().zip(&before).all(|(now, before)| *now > before + 3);
    eventually(3 * SOON, all).await.expect("writes do not go on");
}

/// Hurts the servers so many times, in ways that follow from the seed; then loses the primary for good. Returns what was
/// violated.
async fn history(
    settings: &str,
    seed: u64,
    ways: impl IntoIterator<Item = usize>,
    lose: bool,
) -> Vec<String> {
    let mut world = World::new(settings).await;
    let history = Arc::new(History::default());
    let mut clients = JoinSet::new();
    let client = || Client { address: world.proxy.address(), raw: None };
    for own in 0..WRITERS {
        clients.spawn(write(history.clone(), client(), own));
    }
    for seed in 0..READERS {
        clients.spawn(read(history.clone(), client(), seed));
    }
    goes_on(&history).await;
    let mut random =
        TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_le_bytes(), [7; 8], [1; 8], [3; 8]].concat());
    for how in ways {
        world.hurt(how, random.next_u32() as usize).await;
        goes_on(&history).await;
    }
    if lose {
        world.lose(&history).await;
    }
    history.stop.store(true, SeqCst);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    // What was acknowledged is there, once.
    for (own, key) in history.keys.iter().enumerate() {
        let primary = world.server(world.primary);
        let text = format!("SELECT n, count(*) FROM lists WHERE id = {own} GROUP BY n ORDER BY n");
        let rows = primary.sql(&text).await.unwrap();
        let there: Vec<(u64, u64)> = rows
            .iter()
            .map(|row| (row[0].clone().unwrap().parse().unwrap(), row[1].clone().unwrap().parse().unwrap()))
            .collect();
        for (n, count) in &there {
            if *count != 1 || *n > key.append_sent.load(SeqCst) {
                history.violated(format!("{own}: {n} is there {count} times"));
            }
        }
        for n in key.appended.lock().unwrap().iter() {
            if there.binary_search_by_key(n, |(n, _)| *n).is_err() {
                history.violated(format!("{own}: {n} was acknowledged, and is not there"));
            }
        }
        let value: u64 = primary
            .value(&format!("SELECT value FROM registers WHERE id = {own}"))
            .await
            .unwrap()
            .parse()
            .unwrap();
        if value < key.acknowledged.load(SeqCst) || value > key.sent.load(SeqCst) {
            history.violated(format!("{own}: the register says {value}"));
        }
    }
    let on_replicas = world.proxy.sum("pgweir_units_total", &["target=\"replica\""]).await;
    println!(
        "{} reads ({on_replicas} units on replicas, {} errors), {} writes ({} not acknowledged), {} violations",
        history.reads.load(SeqCst),
        history.read_errors.load(SeqCst),
        history.writes.load(SeqCst),
        history.unknown.load(SeqCst),
        history.found().len(),
    );
    assert!(on_replicas > 100.0, "nothing was read on replicas");
    history.found()
}

#[tokio::test]
async fn nothing_is_missed_lost_or_seen_twice() {
    let violations = history("freshness_wait = \"50ms\"", 1, [0, 1, 2, 3, 4, 5], true).await;
    assert_eq!(violations, [""; 0]);
}

/// The checker finds what it looks for: where only `max_lag` is promised, reads miss what was written before them.
#[tokio::test]
async fn what_is_not_promised_is_missed() {
    let violations = history("reads.consistency = \"eventual\"", 2, [2, 0], false).await;
    assert!(violations.len() > 10, "the test cannot fail: {violations:?}");
}

/// The long form: `PGWEIR_ROUNDS` (50) wounds in each of `PGWEIR_SEEDS` (3) histories.
#[tokio::test]
#[ignore = "the long form: many minutes"]
async fn nothing_is_missed_lost_or_seen_twice_for_long() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    for seed in 0..number("PGWEIR_SEEDS", 3u64) {
        let mut random =
            TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_le_bytes(), [9; 8], [1; 8], [3; 8]].concat());
        let ways: Vec<usize> =
            (0..number("PGWEIR_ROUNDS", 50u64)).map(|_| random.next_u32() as usize % 6).collect();
        let violations = history("freshness_wait = \"50ms\"", seed, ways, true).await;
        assert_eq!(violations, [""; 0], "seed {seed}");
    }
}
