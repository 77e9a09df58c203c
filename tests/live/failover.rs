//! Servers that die, fall silent or are replaced under load: who reads notices nothing, who writes waits, and nothing is
//! written twice or to the wrong server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, eventually};
use pgweir::clock;
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, Watch, cluster, configuration};
use crate::raw::{Raw, execute, query, sync};
use crate::relay::Relay;

/// Clients at work until they are told to stop.
pub(crate) struct Crowd {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
}

/// What they saw.
#[derive(Default)]
struct Seen {
    right: AtomicUsize,
    /// Of each client.
    each: std::sync::Mutex<Vec<usize>>,
    errors: std::sync::Mutex<Vec<(usize, String)>>,
    /// The longest that one waited, in milliseconds.
    slowest: AtomicU32,
}

const READ: &str = "SELECT count(*) FROM t";

impl Crowd {
    pub(crate) async fn reads(proxy: &Proxy, count: usize) -> Self {
        Self::reads_of(proxy, count, READ).await
    }

    /// Every second one prepares its statement.
    async fn reads_of(proxy: &Proxy, count: usize, text: &'static str) -> Self {
        let mut crowd = Self { tasks: JoinSet::new(), stop: Arc::default(), seen: Arc::default() };
        for nth in 0..count {
            let mut client = proxy.client().await;
            let prepared = nth % 2 == 1;
            if prepared {
                let mut parse = crate::raw::extended("s", text);
                parse.unsplit(sync());
                client.send(&parse).await.unwrap();
                assert_eq!(client.answer().await.unwrap().errors, []);
            }
            crowd.work(nth, client, move |_| {
                if prepared {
                    let mut run = execute("s");
                    run.unsplit(sync());
                    run
                } else {
                    query(text)
                }
            });
        }
        crowd
    }

    /// Each writes rows of its own, numbered from 1, one after the other.
    pub(crate) async fn writes(proxy: &Proxy, count: usize) -> Self {
        let mut crowd = Self { tasks: JoinSet::new(), stop: Arc::default(), seen: Arc::default() };
        for nth in 0..count {
            let client = proxy.client().await;
            crowd.work(nth, client, move |n| query(&format!("INSERT INTO w VALUES ({nth}, {n})")));
        }
        crowd
    }

    fn work(
        &mut self,
        nth: usize,
        mut client: Raw,
        unit: impl Fn(usize) -> bytes::BytesMut + Send + 'static,
    ) {
        let (stop, seen) = (self.stop.clone(), self.seen.clone());
        seen.each.lock().unwrap().push(0);
        self.tasks.spawn(async move {
            for n in 1.. {
                if stop.load(Relaxed) {
                    return;
                }
                let start = clock::now();
                client.send(&unit(n)).await.unwrap();
                // An answer that never comes, or a closed connection, fails the test here.
                let answer = client.answer().await.unwrap();
                seen.slowest.fetch_max(u32::try_from(start.elapsed().as_millis()).unwrap(), Relaxed);
                assert_eq!(answer.status, 'I', "{answer:?}");
                match answer.errors.first() {
                    None => {
                        seen.right.fetch_add(1, Relaxed);
                        seen.each.lock().unwrap()[nth] += 1;
                    }
                    Some(error) => {
                        seen.errors.lock().unwrap().push((nth, format!("{} {}", error.code, error.message)));
                    }
                }
            }
        });
    }

    pub(crate) fn right(&self) -> usize {
        self.seen.right.load(Relaxed)
    }

    /// The longest wait since the last time that somebody asked.
    fn slowest(&self) -> Duration {
        Duration::from_millis(self.seen.slowest.swap(0, Relaxed).into())
    }

    /// Waits until so many more answers have come, and some to each client.
    pub(crate) async fn go_on(&self, more: usize) {
        let goal = self.right() + more;
        let before = self.seen.each.lock().unwrap().clone();
        let all = || self.seen.each.lock().unwrap().iter().zip(&before).all(|(now, then)| *now > then + 1);
        eventually(SOON, || async { self.right() >= goal && all() }).await.unwrap();
    }

    pub(crate) fn errors(&self) -> Vec<(usize, String)> {
        self.seen.errors.lock().unwrap().clone()
    }

    pub(crate) async fn end(mut self) -> (usize, Vec<(usize, String)>) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        (self.right(), self.errors())
    }
}

async fn servers(replicas: usize) -> Cluster {
    let cluster = cluster().replicas(replicas).start().await.unwrap();
    let text = "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 10); CREATE TABLE w (who int, n int)";
    cluster.primary().sql(text).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    cluster
}

#[tokio::test]
async fn a_replica_killed_under_readers_costs_no_error() {
    let cluster = servers(2).await;
    let proxy = Proxy::start(&cluster, "").await;
    let readers = Crowd::reads(&proxy, 16).await;
    readers.go_on(200).await;
    for round in 0..6 {
        let replica = cluster.replica(round % 2);
        replica.kill().await.unwrap();
        readers.go_on(400).await;
        replica.start().await.unwrap();
        proxy.knows(3).await;
        readers.go_on(100).await;
    }
    let slowest = readers.slowest();
    let (right, errors) = readers.end().await;
    println!("{right} reads, slowest {slowest:?}");
    assert_eq!(errors, []);
}

/// Answers in each of so many seconds.
async fn by_second(readers: &Crowd, seconds: usize) -> Vec<usize> {
    let mut all = Vec::new();
    for _ in 0..seconds {
        let before = readers.right();
        tokio::time::sleep(Duration::from_secs(1)).await;
        all.push(readers.right() - before);
    }
    all
}

/// What the kills of replicas cost, second by second, beside what one replica alone gives: with a statement that takes its time, of which
/// the machine can do as many as there are clients, and with one that takes all of the machine.
#[tokio::test]
#[ignore = "it measures: alone on its machine, for two and a half minutes"]
async fn twenty_kills_and_what_they_cost() {
    let slow = "SELECT count(*), pg_sleep(0.01) FROM t";
    let (alone, killed) = kills(slow).await;
    let share = killed[0] as f64 / alone[alone.len() / 2] as f64;
    println!("{share:.2} in the worst second of {slow}; with one replica {alone:?}, with a kill {killed:?}");
    assert!(share > 0.8, "{share}");
    // How much the machine gives differs from second to second as much as anything here: its own worst is told beside.
    let (alone, killed) = kills(READ).await;
    let [share, without] = [killed[0], alone[0]].map(|worst| worst as f64 / alone[alone.len() / 2] as f64);
    println!("{share:.2} in the worst second of {READ}, {without:.2} without a kill; {alone:?}, {killed:?}");
}

/// Reads in each second with one replica, and in each while the other is killed and while it is down, the least first.
async fn kills(text: &'static str) -> (Vec<usize>, Vec<usize>) {
    let cluster = servers(2).await;
    let global = "[routing]\nread_only_functions = [\"pg_sleep\"]";
    let proxy = Proxy::with(&configuration(&cluster.servers(), "", global));
    proxy.knows(3).await;
    let readers = Crowd::reads_of(&proxy, 16, text).await;
    readers.go_on(200).await;
    let (mut alone, mut killed) = (Vec::new(), Vec::new());
    for round in 0..20 {
        let replica = cluster.replica(round % 2);
        let (seconds, kill) = tokio::join!(by_second(&readers, 2), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            replica.kill().await
        });
        kill.unwrap();
        killed.extend(seconds);
        alone.extend(by_second(&readers, 1).await);
        replica.start().await.unwrap();
        proxy.knows(3).await;
        readers.go_on(400).await;
    }
    let (_, errors) = readers.end().await;
    assert_eq!(errors, []);
    alone.sort_unstable();
    killed.sort_unstable();
    (alone, killed)
}

/// The probe finds out; what was asked there before that runs again elsewhere, and nobody connects there in vain.
#[tokio::test]
async fn a_silent_replica_costs_no_error_and_a_bounded_wait() {
    let cluster = servers(2).await;
    let relay = Relay::before(&cluster.replica(0).address()).await;
    let servers = [cluster.primary().address(), relay.address(), cluster.replica(1).address()];
    let proxy = Proxy::before(&servers, "");
    proxy.knows(3).await;
    proxy.reads_catalog("postgres").await;
    let readers = Crowd::reads(&proxy, 16).await;
    readers.go_on(400).await;
    let server = format!("server=\"{}\"", relay.address());
    assert!(proxy.sum("pgweir_server_units_total", &[&server]).await > 50.0, "nobody reads there");
    for _ in 0..2 {
        relay.silence(true);
        proxy.becomes("pgweir_server_up", &[&server], 0.0).await;
        // Interval and time limit of the probe, and a little for a busy machine.
        readers.go_on(400).await;
        let slowest = readers.slowest();
        assert!(slowest < Duration::from_millis(2500), "{slowest:?}");
        readers.go_on(400).await;
        let slowest = readers.slowest();
        assert!(slowest < Duration::from_millis(900), "it is known, and still {slowest:?}");
        relay.silence(false);
        proxy.knows(3).await;
    }
    let (right, errors) = readers.end().await;
    println!("{right} reads");
    assert_eq!(errors, []);
}

/// Of each writer: the rows that are there, by their numbers.
pub(crate) async fn written(server: &pgweir::cli::demo::cluster::Postgres) -> (usize, usize) {
    let one = |text: &'static str| async move { server.value(text).await.unwrap().parse().unwrap() };
    (one("SELECT count(*) FROM w").await, one("SELECT count(*) FROM (SELECT DISTINCT who, n FROM w) d").await)
}

#[tokio::test]
async fn a_primary_is_replaced_under_writers_and_readers() {
    let cluster = servers(2).await;
    let (old, new, other) = (cluster.primary(), cluster.replica(0), cluster.replica(1));
    // Nothing acknowledged is lost with the old primary.
    old.sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 2 (*)'").await.unwrap();
    old.sql("SELECT pg_reload_conf()").await.unwrap();
    let proxy = Proxy::start(&cluster, "").await;
    let readers = Crowd::reads(&proxy, 16).await;
    let writers = Crowd::writes(&proxy, 16).await;
    readers.go_on(200).await;
    writers.go_on(200).await;
    old.kill().await.unwrap();
    readers.go_on(200).await;
    new.promote().await.unwrap();
    new.sql("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    new.sql("SELECT pg_reload_conf()").await.unwrap();
    let promoted = clock::now();
    writers.go_on(1).await;
    let resumed = promoted.elapsed();
    println!("writes go on {resumed:?} after the promotion");
    assert!(resumed < Duration::from_secs(2), "{resumed:?}");
    writers.go_on(200).await;
    other.follow(new).await.unwrap();
    writers.go_on(200).await;
    let before = written(new).await.0;

    // The old one comes back, and does not know.
    old.start().await.unwrap();
    assert_eq!(old.value("SELECT pg_is_in_recovery()").await.unwrap(), "f");
    let left = written(old).await.0;
    let server = format!("server=\"{}\"", old.address());
    proxy.becomes("pgweir_server_fenced", &[&server], 1.0).await;
    writers.go_on(300).await;
    readers.go_on(300).await;
    assert_eq!(written(old).await.0, left, "the old primary was written to");

    let (read, failed) = readers.end().await;
    assert_eq!(failed, [], "{read} were right");
    let (right, errors) = writers.end().await;
    println!("{right} writes, {} of unknown outcome", errors.len());
    let mut clients: Vec<usize> = errors.iter().map(|(client, _)| *client).collect();
    clients.sort_unstable();
    clients.dedup();
    assert_eq!(clients.len(), errors.len(), "more than one error for one writer: {errors:?}");
    assert!(errors.iter().all(|(_, error)| error.starts_with("08007")), "{errors:?}");
    let (rows, distinct) = written(new).await;
    assert_eq!(rows, distinct, "something was written twice");
    assert!(rows >= right && rows <= right + errors.len(), "{rows} rows, {right} acknowledged");
    assert!(before < rows);
}

/// The connections to a primary that dies break one after the other: a client whose write was lost with the first does not lose
/// the next one with the second.
#[tokio::test]
async fn a_client_hears_once_that_the_primary_is_gone() {
    let cluster = servers(1).await;
    let (old, new) = (cluster.primary(), cluster.replica(0));
    let proxy = Proxy::start(&cluster, "").await;
    let (mut writer, mut other) = (proxy.client().await, proxy.client().await);
    let watch = Watch::new(old).await;
    writer.send(&query("INSERT INTO w SELECT 0, 0 FROM pg_sleep(30)")).await.unwrap();
    watch.becomes("state = 'active'", 1, SOON).await;
    other.ok("INSERT INTO w VALUES (1, 1)").await;
    assert_eq!(watch.pids().await.len(), 2);
    let pid = watch.column("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'").await.remove(0);
    cluster.wait_replayed(SOON).await.unwrap();
    old.sigstop().await.unwrap();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    assert_eq!(writer.answer().await.unwrap().code(), "08007");
    writer.send(&query("INSERT INTO w VALUES (0, 1)")).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), writer.message()).await;
    assert!(early.is_err(), "it is not answered while nobody knows: {early:?}");
    old.kill().await.unwrap();
    new.promote().await.unwrap();
    assert_eq!(writer.answer().await.unwrap().errors, []);
    assert_eq!(written(new).await, (2, 2));
}

/// The old primary returns in the moment between two heartbeats of the new one: it must not be believed before the others
/// were asked.
#[tokio::test]
async fn an_old_primary_that_returns_early_gets_no_write() {
    let cluster = servers(1).await;
    let (old, new) = (cluster.primary(), cluster.replica(0));
    let text = configuration(&cluster.servers(), "", "").replace("\"200ms\"", "\"60s\"");
    let proxy = Proxy::with(&text);
    proxy.knows(2).await;
    let mut writer = proxy.client().await;
    writer.ok("INSERT INTO w VALUES (0, 0)").await;
    cluster.wait_replayed(SOON).await.unwrap();
    old.kill().await.unwrap();
    let server = format!("server=\"{}\"", old.address());
    proxy.becomes("pgweir_server_up", &[&server], 0.0).await;
    new.promote().await.unwrap();
    old.start().await.unwrap();
    writer.ok("INSERT INTO w VALUES (0, 1)").await;
    assert_eq!(written(old).await.0, 1, "the old primary was written to");
    assert_eq!(written(new).await.0, 2);
}

/// What is taken for the primary has become a replica behind the same address, and probes over an open connection still
/// say otherwise.
#[tokio::test]
async fn a_write_refused_by_a_supposed_primary_goes_to_the_new_one() {
    refused(&query("INSERT INTO w VALUES (1, 1)")).await;
}

#[tokio::test]
async fn a_prepared_write_refused_by_a_supposed_primary_goes_to_the_new_one() {
    let mut unit = crate::raw::extended("s", "INSERT INTO w VALUES (2, 1)");
    unit.unsplit(sync());
    refused(&unit).await;
}

async fn refused(unit: &[u8]) {
    let cluster = servers(2).await;
    let relay = Relay::before(&cluster.primary().address()).await;
    let servers = [relay.address(), cluster.replica(0).address()];
    let text = configuration(&servers, "", "").replace("\"200ms\"", "\"60s\"");
    let proxy = Proxy::with(&text);
    proxy.knows(2).await;
    // A server that was asked before the primary was known is asked once more, 200 ms later, and must not have seen this.
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.replica(0).promote().await.unwrap();
    relay.lead_to(&cluster.replica(1).address());
    let mut client = proxy.client().await;
    client.send(unit).await.unwrap();
    assert_eq!(client.answer().await.unwrap().errors, []);
    // The old one behind the address was not asked at all.
    assert_eq!(written(cluster.primary()).await, (0, 0));
    assert_eq!(written(cluster.replica(0)).await, (1, 1));
    assert!(proxy.sum("pgweir_reruns_total", &["cause=\"demoted\""]).await >= 1.0);
}

/// A primary that refuses writes and is one all the same: the client has to know.
#[tokio::test]
async fn a_read_only_primary_says_so() {
    let cluster = servers(1).await;
    cluster.primary().sql("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    cluster.primary().sql("SELECT pg_reload_conf()").await.unwrap();
    let proxy = Proxy::start(&cluster, "").await;
    let mut client = proxy.client().await;
    for _ in 0..3 {
        let answer = client.query("INSERT INTO w VALUES (1, 1)").await.unwrap();
        assert_eq!((answer.code(), answer.status), ("25006", 'I'), "{answer:?}");
    }
    assert_eq!(client.value(READ).await, "10");
}

/// Bounds on time and number of those who wait for a primary, and in which order they go on.
#[tokio::test]
async fn writes_wait_within_bounds_and_in_order() {
    let cluster = servers(1).await;
    cluster.primary().sql("CREATE TABLE o (at serial, n int)").await.unwrap();
    let settings = "failover_wait = \"3s\"\nfailover_max_waiting = 4\npool_size = 1";
    let proxy = Proxy::start(&cluster, settings).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(proxy.client().await);
    }
    cluster.primary().kill().await.unwrap();
    let server = format!("server=\"{}\"", cluster.primary().address());
    proxy.becomes("pgweir_server_up", &[&server], 0.0).await;
    let start = clock::now();
    for (nth, client) in clients.iter_mut().enumerate() {
        client.send(&query(&format!("INSERT INTO w VALUES ({nth}, 0)"))).await.unwrap();
        let expected = (nth + 1).min(4) as f64;
        proxy.becomes("pgweir_failover_waiting", &[], expected).await;
    }
    let mut codes = Vec::new();
    for client in &mut clients {
        codes.push(client.answer().await.unwrap().code().to_owned());
    }
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    codes.sort();
    assert_eq!(codes, ["53300", "53300", "57P03", "57P03", "57P03", "57P03"]);
    proxy.becomes("pgweir_failover_waiting", &[], 0.0).await;
    assert_eq!(proxy.sum("pgweir_failover_waits_total", &["outcome=\"full\""]).await, 2.0);
    assert_eq!(proxy.sum("pgweir_failover_waits_total", &["outcome=\"timeout\""]).await, 4.0);

    for (nth, client) in clients.iter_mut().take(4).enumerate() {
        client.send(&query(&format!("INSERT INTO o (n) VALUES ({nth})"))).await.unwrap();
        proxy.becomes("pgweir_failover_waiting", &[], (nth + 1) as f64).await;
    }
    cluster.primary().start().await.unwrap();
    for client in clients.iter_mut().take(4) {
        assert_eq!(client.answer().await.unwrap().errors, []);
    }
    let order = "SELECT string_agg(n::text, '' ORDER BY at) FROM o";
    assert_eq!(cluster.primary().value(order).await.unwrap(), "0123");
}

/// Without a replica: what only reads runs again on the primary when that is back.
#[tokio::test]
async fn a_read_on_a_lost_primary_runs_again() {
    let cluster = servers(0).await;
    let proxy = Proxy::start(&cluster, "").await;
    let readers = Crowd::reads(&proxy, 8).await;
    for _ in 0..3 {
        readers.go_on(100).await;
        cluster.primary().kill().await.unwrap();
        cluster.primary().start().await.unwrap();
        readers.go_on(100).await;
    }
    let (right, errors) = readers.end().await;
    println!("{right} reads");
    assert_eq!(errors, []);
}

/// T33: what becomes of reads when there is no replica, as the operator wants it.
#[tokio::test]
async fn reads_without_a_replica_do_as_they_are_told() {
    let cluster = servers(1).await;
    let with = async |settings: &str| {
        let proxy = Proxy::start(&cluster, settings).await;
        proxy.knows(2).await;
        proxy
    };
    let capped = with("reads.replica_down_max = 2\npool_size = 8\nmax_shared_reads = 1").await;
    let waits = with("reads.replica_down = \"wait\"\nreads.replica_down_wait = \"3s\"").await;
    let fails = with("reads.replica_down = \"error\"").await;
    let mut failing = fails.client().await;
    failing.ok(READ).await;
    cluster.replica(0).kill().await.unwrap();
    for proxy in [&capped, &waits, &fails] {
        proxy.knows(1).await;
    }

    let refused = failing.query(READ).await.unwrap();
    assert_eq!((refused.code(), refused.status), ("57P03", 'I'));
    failing.ok("INSERT INTO w VALUES (0, 0)").await;
    failing.ok("BEGIN").await;
    failing.ok(READ).await;
    failing.ok("COMMIT").await;
    failing.ok("BEGIN READ ONLY").await;
    assert_eq!(failing.query(READ).await.unwrap().code(), "57P03");
    assert_eq!(failing.query(READ).await.unwrap().code(), "25P02");
    failing.ok("ROLLBACK").await;

    // Never more at once on the primary than may; writes are not counted.
    let watch = Watch::new(cluster.primary()).await;
    let slow = "SELECT count(*), pg_sleep(0.2) FROM t";
    let mut readers = JoinSet::new();
    for _ in 0..8 {
        let mut client = capped.client().await;
        readers.spawn(async move { client.ok(slow).await });
    }
    let mut most = 0;
    while !readers.is_empty() {
        let running = watch.count(&format!("state = 'active' AND query = '{slow}'")).await;
        most = most.max(running);
        if running == 2 {
            capped.client().await.ok("INSERT INTO w VALUES (0, 0)").await;
        }
        while let Some(ended) = readers.try_join_next() {
            ended.unwrap();
        }
    }
    assert_eq!(most, 2);
    capped.becomes("pgweir_fallback_reads", &[], 0.0).await;

    // One waits in vain, another until a replica is there; one that waits can be cancelled.
    let (mut vain, mut cancelled) = (waits.client().await, waits.client().await);
    vain.send(&query(READ)).await.unwrap();
    cancelled.send(&query(READ)).await.unwrap();
    waits.becomes("pgweir_fallback_waiting", &[], 2.0).await;
    Raw::cancel(waits.address(), cancelled.key).await.unwrap();
    assert_eq!(cancelled.answer().await.unwrap().code(), "57014");
    assert_eq!(vain.answer().await.unwrap().code(), "57P03");
    vain.send(&query("SELECT pg_is_in_recovery()")).await.unwrap();
    waits.becomes("pgweir_fallback_waiting", &[], 1.0).await;
    cluster.replica(0).start().await.unwrap();
    assert_eq!(vain.answer().await.unwrap().value(), "t");
    waits.becomes("pgweir_fallback_waiting", &[], 0.0).await;
    for (outcome, count) in [("served", 1.0), ("timeout", 1.0), ("gone", 1.0)] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(waits.sum("pgweir_fallback_waits_total", &[&label]).await, count, "{outcome}");
    }
    fails.knows(2).await;
    failing.ok(READ).await;
}

/// Two servers claim to be primary when pgweir starts; the old one answers first.
#[tokio::test]
async fn of_two_primaries_at_the_start_the_older_gets_no_write() {
    let cluster = servers(2).await;
    let (old, new, other) = (cluster.primary(), cluster.replica(0), cluster.replica(1));
    new.promote().await.unwrap();
    other.follow(new).await.unwrap();
    let before = written(old).await;
    for _ in 0..5 {
        let relay = Relay::before(&new.address()).await;
        relay.silence(true);
        let proxy = Proxy::before(&[old.address(), other.address(), relay.address()], "");
        proxy.knows(2).await;
        let mut writer = proxy.client().await;
        writer.send(&query("INSERT INTO w VALUES (1, 1)")).await.unwrap();
        // Before it has been given up, which takes a second.
        relay.silence(false);
        assert_eq!(writer.answer().await.unwrap().errors, []);
        assert_eq!(written(old).await, before, "the old primary was written to");
    }
    assert_eq!(written(new).await.0, before.0 + 5);
}
