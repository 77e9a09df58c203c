//! Who is taken out of rotation and who is not, when one comes back into it, and what one that is not there costs the others.
//!
//! `PGWEIR_LONG` measures at length, with the limits that are promised for a machine that does nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, eventually};
use pgweir::clock::{self, Instant};
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, Watch, cluster, configuration};
use crate::raw::Raw;
use crate::relay::{BlackHole, Relay};

const READ: &str = "SELECT count(*) FROM t";
/// A read of 10 ms.
const SLEEP: &str = "SELECT rests(0.01)";
const FUNCTION: &str =
    "CREATE FUNCTION rests(float8) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1 FROM pg_sleep($1)'";
const ROUTING: &str = "[routing]\nread_only_functions = [\"rests\", \"pg_sleep\"]";

async fn started() -> Cluster {
    let cluster = cluster().replicas(2).start().await.unwrap();
    let text = "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 10)";
    cluster.primary().sql(&format!("{text}; {FUNCTION}")).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    cluster
}

/// The times of `[monitor]` as they are unless set.
fn with_default_probes(servers: &[String], settings: &str) -> String {
    let text = configuration(servers, settings, ROUTING);
    text.replace("interval = \"200ms\"\ntimeout = \"1s\"\n", "")
}

async fn units(proxy: &Proxy, server: &str) -> f64 {
    proxy.sum("pgweir_server_units_total", &[&format!("server=\"{server}\"")]).await
}

/// Statements that run into their time limits, locks that are not to be had and a pool that is used up say nothing about a server.
#[tokio::test]
async fn what_clients_run_into_takes_no_server_out() {
    let cluster = started().await;
    let settings = "pool_size = 3\nquery_wait_timeout = \"100ms\"";
    let proxy = Proxy::with(&configuration(&cluster.servers(), settings, ROUTING));
    proxy.knows(3).await;
    proxy.reads_catalog("postgres").await;
    let holder = cluster.primary().connect("postgres").await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    let outages = proxy.sum("pgweir_server_outages_total", &[]).await;
    let stop = Arc::<AtomicBool>::default();
    let mut clients = JoinSet::new();
    for nth in 0..100 {
        let (stop, mut client) = (stop.clone(), proxy.client().await);
        clients.spawn(async move {
            let (set, text) = match nth % 3 {
                0 => ("SET lock_timeout = '20ms'", "UPDATE t SET id = id"),
                1 => ("SET statement_timeout = '20ms'", "SELECT rests(1)"),
                _ => ("SET statement_timeout = '20ms'", "SELECT rests(1), txid_current()"),
            };
            while !client.query(set).await.unwrap().errors.is_empty() {}
            let mut heard = std::collections::BTreeMap::<String, usize>::new();
            while !stop.load(Relaxed) {
                let answer = client.query(text).await.unwrap();
                *heard.entry(answer.code().to_owned()).or_default() += 1;
            }
            heard
        });
    }
    let from = clock::now();
    while from.elapsed() < Duration::from_secs(3) {
        assert_eq!(proxy.sum("pgweir_server_up", &[]).await as usize, 3);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Relaxed);
    let mut all = std::collections::BTreeMap::<String, usize>::new();
    while let Some(heard) = clients.join_next().await {
        for (code, count) in heard.unwrap() {
            *all.entry(code).or_default() += count;
        }
    }
    println!("{all:?}");
    assert!(["55P03", "57014", "53300"].iter().all(|code| all.contains_key(*code)), "{all:?}");
    assert_eq!(all.len(), 3, "{all:?}");
    let more = proxy.sum("pgweir_server_outages_total", &[]).await - outages;
    assert_eq!(more as usize, 0, "a server left rotation: {}", proxy.metrics().await);
    let closed = proxy.sum("pgweir_pool_closed_total", &[]).await;
    println!("{} server connections closed", closed as usize);
}

/// A server that is back takes clients before it was asked who it is: nobody is sent there until then, and soon after that.
#[tokio::test]
async fn one_that_is_back_is_asked_first() {
    let cluster = started().await;
    let relay = Relay::before(&cluster.replica(0).address()).await;
    let servers = [cluster.primary().address(), relay.address(), cluster.replica(1).address()];
    let proxy = Proxy::with(&with_default_probes(&servers, ""));
    proxy.knows(3).await;
    proxy.reads_catalog("postgres").await;
    let stop = Arc::<AtomicBool>::default();
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (stop, mut client) = (stop.clone(), proxy.client().await);
        clients.spawn(async move {
            while !stop.load(Relaxed) {
                client.ok(SLEEP).await;
            }
        });
    }
    let server = format!("server=\"{}\"", relay.address());
    for round in 1..3 {
        eventually(SOON, async || units(&proxy, &relay.address()).await > 20.0).await.unwrap();
        cluster.replica(0).kill().await.unwrap();
        proxy.becomes("pgweir_server_up", &[&server], 0.0).await;
        assert!(proxy.sum("pgweir_server_outages_total", &[&server]).await as usize >= round);
        relay.lets_probes_through(false);
        cluster.replica(0).start().await.unwrap();
        assert!(Raw::login(relay.address().parse().unwrap(), &[]).await.is_ok());
        let before = units(&proxy, &relay.address()).await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let after = units(&proxy, &relay.address()).await;
        assert_eq!(after as usize, before as usize, "it got reads before a probe had passed");
        relay.lets_probes_through(true);
        let open = clock::now();
        let gets = eventually(SOON, async || units(&proxy, &relay.address()).await > before).await;
        println!("reads {:?} after it could be asked", open.elapsed());
        // Two intervals, and a little for a busy machine.
        assert!(gets.is_ok() && open.elapsed() < Duration::from_millis(1500), "{:?}", open.elapsed());
    }
    stop.store(true, Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert_eq!(proxy.sum("pgweir_errors_total", &[]).await as usize, 0);
}

/// pgweir starts while servers are not there, and nobody says so: what is possible is possible within two seconds.
#[tokio::test]
async fn a_start_with_servers_that_swallow_everything() {
    let cluster = started().await;
    let hole = [BlackHole::open().await, BlackHole::open().await, BlackHole::open().await];
    let mut tests = JoinSet::new();
    for there in 1..7_u8 {
        let servers: Vec<String> = (0..3)
            .map(
                |nth| {
                    if there >> nth & 1 == 1 { cluster.servers()[nth].clone() } else { hole[nth].address() }
                },
            )
            .collect();
        tests.spawn(async move {
            let start = clock::now();
            let proxy = Proxy::with(&with_default_probes(&servers, ""));
            let mut client = Raw::login(proxy.address(), &[]).await.unwrap();
            let login = start.elapsed();
            assert_eq!(client.value(READ).await, "10", "{there:03b}");
            let read = start.elapsed();
            let write = if there & 1 == 1 {
                client.ok("DELETE FROM t WHERE id = 0").await;
                start.elapsed()
            } else {
                Duration::ZERO
            };
            println!("{there:03b} there: login after {login:?}, read {read:?}, write {write:?}");
            assert!(read.max(write) < Duration::from_secs(2), "{there:03b}: {read:?}, {write:?}");
            // And goes on so.
            let from = clock::now();
            for _ in 0..100 {
                client.ok(READ).await;
            }
            assert!(from.elapsed() < Duration::from_secs(1), "{there:03b}: {:?}", from.elapsed());
        });
    }
    while let Some(ended) = tests.join_next().await {
        ended.unwrap();
    }
}

/// Clients that read without a pause, and how long each read took since when.
async fn timed_reads(proxy: &Proxy, stop: &Arc<AtomicBool>) -> JoinSet<Vec<(Instant, Duration)>> {
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        let (stop, mut client) = (stop.clone(), proxy.client().await);
        clients.spawn(async move {
            let mut times = Vec::new();
            while !stop.load(Relaxed) {
                let start = clock::now();
                client.ok(SLEEP).await;
                times.push((start, start.elapsed()));
            }
            times
        });
    }
    clients
}

/// The 99th percentile of the reads that begin in a time from now on, after some of it.
async fn p99(proxy: &Proxy, skip: Duration, time: Duration) -> (f64, usize) {
    let stop = Arc::<AtomicBool>::default();
    let mut clients = timed_reads(proxy, &stop).await;
    let start = clock::now();
    tokio::time::sleep(skip + time).await;
    stop.store(true, Relaxed);
    let mut times = Vec::new();
    while let Some(more) = clients.join_next().await {
        times.extend(more.unwrap().into_iter().filter(|(at, _)| *at >= start + skip).map(|(_, took)| took));
    }
    times.sort_unstable();
    (times[times.len() * 99 / 100].as_secs_f64() * 1e3, times.len())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test]
async fn one_that_swallows_everything_makes_the_others_no_slower() {
    is_no_slower(false).await;
}

/// As a machine that has lost its power: whoever connects hears nothing either.
#[tokio::test]
async fn one_that_drops_syns_as_well_makes_the_others_no_slower() {
    is_no_slower(true).await;
}

/// Beside another pgweir that has one server less from the start.
async fn is_no_slower(vanishes: bool) {
    let strict = std::env::var_os("PGWEIR_LONG").is_some();
    let (rounds, limit) = if strict { (10, 1.1) } else { (3, 1.5) };
    let cluster = started().await;
    let relay = Relay::before(&cluster.replica(0).address()).await;
    let servers = [cluster.primary().address(), cluster.replica(1).address(), relay.address()];
    let (less, holed) = (
        Proxy::with(&with_default_probes(&servers[..2], "")),
        Proxy::with(&with_default_probes(&servers, "")),
    );
    less.knows(2).await;
    holed.knows(3).await;
    less.reads_catalog("postgres").await;
    holed.reads_catalog("postgres").await;
    let (second, time) = (Duration::from_secs(1), Duration::from_millis(1700));
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        without.push(p99(&less, second / 4, time).await.0);
        let units_before = units(&holed, &relay.address()).await;
        let (measured, ()) = tokio::join!(p99(&holed, second * 5 / 4, time), async {
            tokio::time::sleep(second / 4).await;
            if vanishes {
                relay.vanish().await;
            } else {
                relay.silence(true);
            }
        });
        assert_eq!(relay.drops_syns().await, vanishes);
        assert!(units(&holed, &relay.address()).await > units_before, "nobody reads there");
        with.push(measured.0);
        relay.reappear();
        holed.knows(3).await;
    }
    println!("{with:.1?} ms, {without:.1?} ms without that server");
    let (without, with) = (median(without), median(with));
    println!("p99 {with:.2} ms, {without:.2} ms without that server: {:.3}", with / without);
    assert!(with < without * limit, "{with} ms, {without} ms without it");
    assert_eq!(holed.sum("pgweir_errors_total", &[]).await as usize, 0);
    Watch::new(cluster.replica(0)).await.calms_down().await;
}

/// Reads in each twentieth of a second of some time.
async fn counted(done: &AtomicUsize, time: Duration) -> Vec<usize> {
    let (start, mut all, mut last) = (clock::now(), Vec::new(), done.load(Relaxed));
    let step = Duration::from_millis(50);
    for nth in 1.. {
        if step * nth > time {
            break;
        }
        tokio::time::sleep_until(start + step * nth).await;
        let now = done.load(Relaxed);
        all.push(now - last);
        last = now;
    }
    all
}

/// A second is any twenty of these that follow each other.
fn worst_second(counts: &[usize]) -> usize {
    counts.windows(20).map(|second| second.iter().sum()).min().unwrap()
}

/// Statements of 10 ms: what the machine gives to others hardly matters, and what a client waits for does.
#[tokio::test]
async fn no_second_is_much_worse_when_a_replica_is_killed() {
    let long = std::env::var_os("PGWEIR_LONG").is_some();
    let kills = if long { 20 } else { 8 };
    let cluster = started().await;
    let proxy = Proxy::with(&with_default_probes(&cluster.servers(), ""));
    proxy.knows(3).await;
    proxy.reads_catalog("postgres").await;
    let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        let (stop, done, mut client) = (stop.clone(), done.clone(), proxy.client().await);
        clients.spawn(async move {
            while !stop.load(Relaxed) {
                client.ok(SLEEP).await;
                done.fetch_add(1, Relaxed);
            }
        });
    }
    let mut shares = Vec::new();
    for round in 0..kills {
        counted(&done, Duration::from_millis(500)).await;
        let replica = cluster.replica(round % 2);
        let (counts, kill) = tokio::join!(counted(&done, Duration::from_millis(2500)), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            replica.kill().await
        });
        kill.unwrap();
        // One replica alone, in the same moments as the machine goes.
        let alone = counted(&done, Duration::from_millis(1500)).await;
        let usual = alone.iter().sum::<usize>() as f64 / alone.len() as f64 * 20.0;
        let share = worst_second(&counts) as f64 / usual;
        println!("{share:.3} of {usual:.0}: {counts:?}");
        shares.push(share);
        replica.start().await.unwrap();
        proxy.knows(3).await;
        // A machine that stands still for a moment, kill or not, is not what it is about: then it is tried again.
        if !long && shares.iter().filter(|share| **share > 0.8).count() == 2 {
            break;
        }
    }
    stop.store(true, Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert_eq!(proxy.sum("pgweir_errors_total", &[]).await as usize, 0);
    shares.sort_by(f64::total_cmp);
    println!("worst seconds: {shares:.3?}");
    let worst = if long { shares[0] } else { shares[shares.len() - 2] };
    assert!(worst > 0.8, "{shares:.3?}");
}

/// Whatever it was asked when it fell silent: one time limit later it is down, and what it owes runs elsewhere.
#[tokio::test]
async fn a_silent_replica_is_out_after_one_time_limit() {
    let cluster = started().await;
    let relay = Relay::before(&cluster.replica(0).address()).await;
    let servers = [cluster.primary().address(), cluster.replica(1).address(), relay.address()];
    // Limit and pause of the probe: clients ask for its position in between.
    let text = configuration(&servers, "", ROUTING)
        .replace("\"200ms\"\ntimeout = \"1s\"", "\"1s\"\ntimeout = \"2s\"");
    let proxy = Proxy::with(&text);
    proxy.knows(3).await;
    proxy.reads_catalog("postgres").await;
    let stop = Arc::<AtomicBool>::default();
    let mut clients = timed_reads(&proxy, &stop).await;
    eventually(SOON, async || units(&proxy, &relay.address()).await > 50.0).await.unwrap();
    relay.silence(true);
    tokio::time::sleep(Duration::from_millis(4500)).await;
    stop.store(true, Relaxed);
    let mut slowest = Duration::ZERO;
    while let Some(times) = clients.join_next().await {
        slowest = slowest.max(times.unwrap().into_iter().map(|(_, took)| took).max().unwrap());
    }
    println!("slowest {slowest:?}");
    assert!(slowest > Duration::from_secs(1), "nobody read there: {slowest:?}");
    assert!(slowest < Duration::from_millis(3500), "{slowest:?}");
    assert_eq!(proxy.sum("pgweir_errors_total", &[]).await as usize, 0);
}
