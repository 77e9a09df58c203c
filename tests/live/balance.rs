//! The share of each reader: of one that is added under load, one that warms up, and one that is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pgweir::cli::demo::cluster::Cluster;
use pgweir::clock;
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, cluster, configuration};

/// Where it runs, after 20 ms, or ten times as long where [`SLOW`] is set.
const READ: &str = "SELECT where_slowly()";
const FUNCTION: &str = "CREATE FUNCTION where_slowly() RETURNS text STABLE LANGUAGE sql AS $$ SELECT current_setting('port') \
                        FROM pg_sleep(CASE WHEN current_setting('vacuum_cost_limit') = '217' THEN 0.2 ELSE 0.02 END) $$";
const SLOW: &str = "217";
const WARM_UP: Duration = Duration::from_secs(3);

/// Clients that read without a pause, each over one connection for as long as the test lasts.
///
/// They are many: one that reads without a pause stays where it has read for 200 ms, until others are known to be as far.
struct Readers {
    stop: Arc<AtomicBool>,
    /// Answers of each replica.
    count: Arc<Vec<AtomicUsize>>,
    clients: JoinSet<()>,
}

impl Readers {
    async fn start(proxy: &Proxy, cluster: &Cluster) -> Self {
        let ports: Vec<String> = cluster.replicas().iter().map(|one| one.port().to_string()).collect();
        let count: Arc<Vec<AtomicUsize>> = Arc::new(ports.iter().map(|_| AtomicUsize::new(0)).collect());
        let (stop, mut clients) = (Arc::<AtomicBool>::default(), JoinSet::new());
        for _ in 0..40 {
            let mut client = proxy.client().await;
            let (ports, count, stop) = (ports.clone(), count.clone(), stop.clone());
            clients.spawn(async move {
                while !stop.load(Relaxed) {
                    let port = client.value(READ).await;
                    let at = ports.iter().position(|own| *own == port);
                    count[at.unwrap_or_else(|| panic!("a read on {port}"))].fetch_add(1, Relaxed);
                }
            });
        }
        Self { stop, count, clients }
    }

    /// The part of all reads that each replica has answered, of those of some time.
    async fn shares(&self, time: Duration) -> Vec<f64> {
        let counts = || self.count.iter().map(|one| one.load(Relaxed)).collect::<Vec<_>>();
        let before = counts();
        tokio::time::sleep(time).await;
        let more: Vec<usize> = counts().iter().zip(&before).map(|(now, then)| now - then).collect();
        let all: usize = more.iter().sum();
        assert!(all > 100, "only {all} reads");
        more.iter().map(|one| *one as f64 / all as f64).collect()
    }

    async fn end(mut self) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
    }
}

async fn a_reader_more_and_a_slow_one(balance: &str) {
    let cluster = cluster().replicas(5).start().await.unwrap();
    cluster.primary().sql(FUNCTION).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let servers = cluster.servers();
    let settings = format!("reads.balance = \"{balance}\"\nreads.slow_start = \"{}ms\"", WARM_UP.as_millis());
    let global = "[routing]\nread_only_functions = [\"where_slowly\", \"pg_sleep\"]";
    let proxy = Proxy::with(&configuration(&servers[..5], &settings, global));
    proxy.knows(5).await;
    proxy.reads_catalog("postgres").await;
    let readers = Readers::start(&proxy, &cluster).await;
    let four = readers.shares(WARM_UP).await;
    println!("{balance}: four readers {four:.3?}");

    proxy.console().await.ok(&format!("ADD SERVER '{}'", servers[5])).await;
    proxy.knows(6).await;
    let added = clock::now();
    let mut ramp = Vec::new();
    while added.elapsed() < WARM_UP {
        let share = readers.shares(WARM_UP / 4).await[4];
        // What it may have by the end of these.
        let most = (added.elapsed().as_secs_f64() / WARM_UP.as_secs_f64()).min(1.0) / 5.0;
        ramp.push((share, most));
    }
    println!("{balance}: the fifth got, of at most {ramp:.3?}");
    assert!(ramp.iter().all(|(share, most)| *share < most + 0.05), "more than its part: {ramp:.3?}");
    assert!(ramp.iter().any(|(share, _)| *share > 0.02), "it gets nothing: {ramp:.3?}");
    let mut share = 0.0;
    while !(0.18..=0.22).contains(&share) {
        assert!(added.elapsed() < Duration::from_secs(30), "its share is {share:.3}");
        share = readers.shares(Duration::from_secs(1)).await[4];
    }
    println!("{balance}: {share:.3} after {:?}", added.elapsed());

    cluster.replica(0).alter("vacuum_cost_limit", SLOW).await.unwrap();
    readers.shares(Duration::from_secs(1)).await;
    let slow = readers.shares(Duration::from_secs(2)).await;
    println!("{balance}: one ten times as slow {slow:.3?}");
    assert!(slow[0] < 0.25 / 5.0, "{slow:.3?}");
    // It is as fast as before, and that is noticed.
    cluster.replica(0).alter("vacuum_cost_limit", "200").await.unwrap();
    let fast = clock::now();
    while readers.shares(Duration::from_secs(1)).await[0] < 0.15 {
        assert!(fast.elapsed() < Duration::from_secs(30), "one peak keeps it without reads");
    }
    println!("{balance}: back after {:?}", fast.elapsed());
    readers.end().await;
    assert_eq!(proxy.sum("pgweir_errors_total", &[]).await as usize, 0);
}

#[tokio::test]
async fn a_reader_more_and_a_slow_one_by_load() {
    a_reader_more_and_a_slow_one("least_loaded").await;
}

#[tokio::test]
async fn a_reader_more_and_a_slow_one_by_latency() {
    a_reader_more_and_a_slow_one("least_latency").await;
}
