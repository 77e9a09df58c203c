//! A thousand clients that die at once, and a server that is restarted under thousands: neither becomes a storm of logins.
//!
//! `PGWEIR_LONG` has them be as many as that; else they are fewer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, Postgres};
use pgweir::clock;
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::fixture::run_as_child;
use crate::proxy::{Proxy, SOON, Watch, cluster, configuration};
use crate::raw::Raw;

/// Set for a child of a test: where it connects to, and how many clients it is.
const CHILD: &str = "PGWEIR_STORM_CHILD";

const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(0, 999) g; \
                     CREATE FUNCTION rests(float8) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1 FROM pg_sleep($1)'";
const ROUTING: &str = "[routing]\nread_only_functions = [\"rests\", \"pg_sleep\"]";

fn is_long() -> bool {
    std::env::var_os("PGWEIR_LONG").is_some()
}

async fn started(replicas: usize, connections: &str) -> Cluster {
    let cluster = cluster().replicas(replicas).setting("max_connections", connections).start().await.unwrap();
    cluster.primary().sql(SETUP).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    cluster
}

/// Not a test: clients that read and write until their process is killed.
#[tokio::test]
#[ignore = "run by another test, as its child"]
async fn child() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (address, count) = told.split_once(' ').unwrap();
    let (address, count): (SocketAddr, usize) = (address.parse().unwrap(), count.parse().unwrap());
    let mut clients = JoinSet::new();
    for nth in 0..count {
        let mut client = Raw::login(address, &[]).await.unwrap();
        clients.spawn(async move {
            let texts: &[String] = &match nth % 4 {
                0 => vec!["SELECT rests(0.2)".to_owned()],
                1 => vec!["SELECT pg_sleep(0.2), txid_current()".to_owned()],
                2 => vec![
                    "BEGIN".to_owned(),
                    format!("UPDATE t SET n = n + 1 WHERE id = {nth}"),
                    "SELECT rests(0.1)".to_owned(),
                    "COMMIT".to_owned(),
                ],
                _ => vec![format!("SELECT n FROM t WHERE id = {nth}")],
            };
            loop {
                for text in texts {
                    client.ok(text).await;
                }
            }
        });
    }
    println!("\nAT WORK");
    while clients.join_next().await.is_some() {}
}

async fn start_child(address: SocketAddr, count: usize) -> Child {
    run_as_child("storms::child", (CHILD, &format!("{address} {count}")), "AT WORK").await.0
}

#[tokio::test]
async fn clients_killed_in_the_middle_cost_few_server_connections() {
    const POOL: usize = 40;
    let clients = if is_long() { 1000 } else { 200 };
    let cluster = started(1, "100").await;
    let settings = format!("pool_size = {POOL}");
    let proxy = Proxy::with(&configuration(&cluster.servers(), &settings, ROUTING));
    proxy.knows(2).await;
    proxy.reads_catalog("postgres").await;
    let watches = [Watch::new(cluster.primary()).await, Watch::new(cluster.replica(0)).await];
    let pids = async || [watches[0].pids().await, watches[1].pids().await].concat();
    let mut child = start_child(proxy.address(), clients).await;
    watches[0].becomes("true", POOL, SOON).await;
    let (before, connects) = (pids().await, proxy.sum("pgweir_pool_connects_total", &[]).await);
    child.kill().await.unwrap();
    let killed = clock::now();
    for watch in &watches {
        watch.calms_down().await;
    }
    println!("{clients} clients killed, all is quiet after {:?}", killed.elapsed());
    proxy.becomes("pgweir_clients", &[], 0.0).await;
    let after = pids().await;
    let gone = before.iter().filter(|pid| !after.contains(pid)).count();
    let opened = proxy.sum("pgweir_pool_connects_total", &[]).await - connects;
    println!("{gone} of {} server connections closed, {opened} opened", before.len());
    assert!(gone * 20 <= before.len(), "{}", proxy.metrics().await);
    assert!(opened as usize * 20 <= before.len());
    // What is left serves the next.
    let mut next = JoinSet::new();
    for nth in 0..100 {
        let mut client = proxy.client().await;
        next.spawn(async move {
            client.ok(&format!("UPDATE t SET n = {nth} WHERE id = {nth}")).await;
            assert_eq!(client.value(&format!("SELECT n FROM t WHERE id = {nth}")).await, nth.to_string());
        });
    }
    while let Some(ended) = next.join_next().await {
        ended.unwrap();
    }
}

/// Clients of several users that read without a pause, whatever they hear.
struct Crowd {
    stop: Arc<AtomicBool>,
    right: Arc<AtomicUsize>,
    wrong: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Crowd {
    async fn start(proxy: &Proxy, clients: usize, users: usize) -> Self {
        let mut crowd = Self {
            stop: Arc::default(),
            right: Arc::default(),
            wrong: Arc::default(),
            tasks: JoinSet::new(),
        };
        for nth in 0..clients {
            let user = format!("u{}", nth % users);
            let mut client = Raw::login(proxy.address(), &[("user", &user)]).await.unwrap();
            let (stop, right, wrong) = (crowd.stop.clone(), crowd.right.clone(), crowd.wrong.clone());
            crowd.tasks.spawn(async move {
                while !stop.load(Relaxed) {
                    let answer = tokio::time::timeout(Duration::from_secs(60), async {
                        client.send(&crate::raw::query("SELECT rests(0.1)")).await.unwrap();
                        client.answer().await.unwrap()
                    });
                    let answer = answer.await.unwrap();
                    let count = if answer.errors.is_empty() { &right } else { &wrong };
                    count.fetch_add(1, Relaxed);
                }
            });
        }
        crowd
    }

    /// Answers in a second, measured over some time.
    async fn pace(&self, time: Duration) -> f64 {
        let before = self.right.load(Relaxed);
        tokio::time::sleep(time).await;
        (self.right.load(Relaxed) - before) as f64 / time.as_secs_f64()
    }
}

/// How many of pgweir's clients' logins the server has seen by its log, and the most of them within a second.
fn logins(server: &Postgres) -> (usize, usize) {
    let log = server.log();
    let time = |line: &str| {
        let clock = line.split_whitespace().find(|word| word.len() == 12 && word.as_bytes()[8] == b'.')?;
        let parts: Vec<f64> = clock.split(':').map(|part| part.parse().unwrap()).collect();
        Some((parts[0] * 60.0 + parts[1]) * 60.0 + parts[2])
    };
    let authorized = log.lines().filter(|line| line.contains("connection authorized: user=u"));
    let times: Vec<f64> = authorized.filter_map(time).collect();
    let within = |at: f64| times.iter().filter(|one| (at..at + 1.0).contains(*one)).count();
    (times.len(), times.iter().map(|at| within(*at)).max().unwrap_or(0))
}

#[tokio::test]
async fn a_restart_under_a_crowd_is_no_storm() {
    const USERS: usize = 10;
    const POOL: usize = 20;
    const RATE: usize = 150;
    let clients = if is_long() { 5000 } else { 500 };
    let cluster = started(0, "250").await;
    let server = cluster.primary();
    server.alter("log_connections", "on").await.unwrap();
    server.alter("log_line_prefix", "%m [%p] ").await.unwrap();
    for user in 0..USERS {
        server.sql(&format!("CREATE ROLE u{user} LOGIN")).await.unwrap();
    }
    let settings = format!("pool_size = {POOL}\nserver_login_rate = {RATE}");
    let proxy = Proxy::with(&configuration(&cluster.servers(), &settings, ROUTING));
    proxy.knows(1).await;
    proxy.reads_catalog("postgres").await;
    let mut crowd = Crowd::start(&proxy, clients, USERS).await;
    let watch = Watch::new(server).await;
    watch.becomes("usename LIKE 'u%'", USERS * POOL, SOON).await;
    let usual = crowd.pace(Duration::from_secs(1)).await;
    let (first, most) = logins(server);
    println!("{first} logins at the start, at most {most} in a second; {usual} reads a second");
    assert!(first >= USERS * POOL && most <= RATE, "{first} logins, {most} in a second");
    assert!(proxy.sum("pgweir_pool_login_waits_total", &[]).await > 50.0);

    server.restart().await.unwrap();
    let accepts = clock::now();
    let mut paces = Vec::new();
    while accepts.elapsed() < Duration::from_secs(3) {
        paces.push(crowd.pace(Duration::from_millis(500)).await.round());
    }
    let wrong = crowd.wrong.load(Relaxed);
    let (all, most) = logins(server);
    println!(
        "{wrong} errors; {} logins more, at most {most} in a second; reads a second: {paces:?}",
        all - first
    );
    assert!(most <= RATE, "{most} logins in a second");
    assert!(all - first >= USERS * POOL * 9 / 10 && all - first <= USERS * POOL * 12 / 10, "{}", all - first);
    // The pace of the last half second.
    assert!(paces.last().unwrap() > &(usual * 0.9), "{usual} before, {paces:?} after");
    crowd.stop.store(true, Relaxed);
    while let Some(ended) = crowd.tasks.join_next().await {
        ended.unwrap();
    }
}
