//! Servers that die, freeze, come late or throw clients out: reads go on, errors are clear, sessions go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, eventually};
use pgweir::clock;
use tokio::task::JoinSet;

use crate::leaving;
use crate::proxy::{A_MOMENT, Proxy, SOON, Watch, cluster};
use crate::raw::{Raw, query, refusal};
use crate::relay::{CUT, Relay};

/// Clients that read, one autocommit statement after the other.
struct Readers {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    right: Arc<AtomicUsize>,
    errors: Arc<AtomicUsize>,
}

impl Readers {
    async fn start(proxy: &Proxy, count: usize) -> Self {
        let mut readers = Self {
            tasks: JoinSet::new(),
            stop: Arc::default(),
            right: Arc::default(),
            errors: Arc::default(),
        };
        for _ in 0..count {
            let mut client = proxy.client().await;
            let (stop, right, errors) = (readers.stop.clone(), readers.right.clone(), readers.errors.clone());
            readers.tasks.spawn(async move {
                while !stop.load(Relaxed) {
                    // An answer that never comes, or a closed connection, fails the test here.
                    let answer = client.query("SELECT count(*) FROM t").await.unwrap();
                    if answer.errors.is_empty() {
                        assert_eq!(answer.value(), "10");
                        right.fetch_add(1, Relaxed);
                    } else {
                        assert_eq!(answer.errors.len(), 1, "{answer:?}");
                        assert_eq!(
                            (&*answer.errors[0].severity, answer.status),
                            ("ERROR", 'I'),
                            "{answer:?}"
                        );
                        errors.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        readers
    }

    /// Waits until so many more answers have come.
    async fn read_on(&self, more: usize) {
        let goal = self.right.load(Relaxed) + more;
        eventually(SOON, || async { self.right.load(Relaxed) >= goal }).await.unwrap();
    }

    async fn end(mut self) -> (usize, usize) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        (self.right.load(Relaxed), self.errors.load(Relaxed))
    }
}

async fn start(settings: &str) -> (Cluster, Proxy) {
    let cluster = cluster().replicas(2).start().await.unwrap();
    let text = "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 10)";
    cluster.primary().sql(text).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, settings).await;
    (cluster, proxy)
}

#[tokio::test]
async fn replicas_die_and_return() {
    let (cluster, proxy) = start("").await;
    let readers = Readers::start(&proxy, 8).await;
    readers.read_on(200).await;
    cluster.replica(1).kill().await.unwrap();
    readers.read_on(200).await;
    println!("{} errors for 8 clients when one replica of two was killed", readers.errors.load(Relaxed));
    assert!(readers.errors.load(Relaxed) <= 16);
    // All replicas are gone: the primary takes the reads.
    cluster.replica(0).kill().await.unwrap();
    readers.read_on(200).await;
    assert!(proxy.sum("pgweir_units_total", &["reason=\"no_replica\"", "target=\"primary\""]).await > 100.0);
    let start = clock::now();
    cluster.replica(0).start().await.unwrap();
    let began = clock::now();
    let units = async || proxy.sum("pgweir_units_total", &["target=\"replica\""]).await;
    let before = units().await;
    eventually(SOON, || async { units().await > before + 10.0 }).await.unwrap();
    println!(
        "reads on the replica {:?} after it was up, {:?} with its start",
        began.elapsed(),
        start.elapsed()
    );
    assert!(began.elapsed() < Duration::from_secs(3));
    let (right, errors) = readers.end().await;
    println!("{right} reads, {errors} errors");
    assert!(errors <= 32);
}

#[tokio::test]
async fn the_primary_dies_and_returns() {
    let (cluster, proxy) = start("failover_wait = \"1s\"\nserver_login_retry_max = \"1s\"").await;
    let mut writer = proxy.client().await;
    writer.ok("INSERT INTO t VALUES (11)").await;
    cluster.primary().sql("DELETE FROM t WHERE id = 11").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let readers = Readers::start(&proxy, 4).await;
    readers.read_on(50).await;
    cluster.primary().kill().await.unwrap();
    for _ in 0..3 {
        let start = clock::now();
        let answer = writer.query("INSERT INTO t SELECT 1 WHERE false").await.unwrap();
        println!("{:?} after {:?}", answer.errors, start.elapsed());
        assert!(answer.code().starts_with("08") || answer.code() == "57P03", "{answer:?}");
        assert_eq!((answer.status, &*answer.errors[0].severity), ('I', "ERROR"));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
    readers.read_on(100).await;
    cluster.primary().start().await.unwrap();
    let up = clock::now();
    while !writer.query("INSERT INTO t SELECT 1 WHERE false").await.unwrap().errors.is_empty() {
        assert!(up.elapsed() < Duration::from_secs(4), "writes do not come back");
    }
    println!("writes came back after {:?}", up.elapsed());
    let (right, errors) = readers.end().await;
    println!("{right} reads, {errors} errors");
    assert_eq!(errors, 0, "reads do not need the primary");
}

#[tokio::test]
async fn clients_are_thrown_out() {
    let (cluster, proxy) = start("pool_size = 2").await;
    let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' \
               AND application_name NOT IN ('pgweir-fixture', 'pgweir monitor')";
    let watch = Watch::new(cluster.primary()).await;
    let throw_out = async || {
        watch.column(all).await;
        watch.becomes("true", 0, SOON).await;
    };
    // Idle in the pool: nobody sees anything.
    let mut client = proxy.client().await;
    for nth in 0..5 {
        client.ok("SELECT txid_current()").await;
        throw_out().await;
        proxy
            .becomes("pgweir_pool_servers", &[&format!("{}\"", cluster.primary().port()), "idle"], 0.0)
            .await;
        assert_eq!(client.value(&format!("SELECT {nth}, txid_current()")).await, nth.to_string());
    }
    // At work: one error, and the session goes on.
    client.send(&query("SELECT pg_sleep(30), txid_current()")).await.unwrap();
    watch.becomes("wait_event = 'PgSleep'", 1, SOON).await;
    throw_out().await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.code(), &*answer.errors[0].severity, &*answer.tags), ("08007", "ERROR", "EZ"));
    assert_eq!(client.value("SELECT 1, txid_current()").await, "1");
    // In a transaction, or with state on the connection: FATAL, once, and the end.
    for texts in [&["BEGIN; SELECT 1"][..], &["BEGIN", "SELECT 1/0"], &["CREATE TEMP TABLE a ()"]] {
        for active in [false, true] {
            let mut client = proxy.client().await;
            for text in texts {
                client.query(text).await.unwrap();
            }
            if active && texts.len() == 1 {
                client.send(&query("SELECT pg_sleep(30)")).await.unwrap();
                watch.becomes("wait_event = 'PgSleep'", 1, SOON).await;
            }
            throw_out().await;
            let (mut tag, mut body) = client.message().await.unwrap();
            if tag == b'T' {
                (tag, body) = client.message().await.unwrap();
            }
            let text = String::from_utf8_lossy(&body).into_owned();
            assert!(tag == b'E' && text.contains("FATAL") && text.contains("57P01"), "{texts:?}: {text}");
            client.closed().await.unwrap();
        }
    }
}

/// Whatever servers are up when it starts, it does what they can do; the others may come later.
#[tokio::test]
async fn any_servers_may_be_up_at_the_start() {
    let (cluster, _) = start("").await;
    let settings =
        "server_connect_timeout = \"300ms\"\nquery_wait_timeout = \"1s\"\nfailover_wait = \"300ms\"";
    for up in [0b000, 0b001, 0b010, 0b011, 0b100, 0b101, 0b110] {
        for (nth, server) in cluster.all().iter().enumerate() {
            match (up >> nth & 1 == 1, server.is_running()) {
                (true, false) => server.start().await.unwrap(),
                (false, true) => server.kill().await.unwrap(),
                _ => {}
            }
        }
        let proxy = Proxy::before(&cluster.servers(), settings);
        let start = clock::now();
        let login = Raw::login(proxy.address(), &[]).await;
        assert!(start.elapsed() < Duration::from_secs(4), "{up:03b}: {:?}", start.elapsed());
        let Ok(mut client) = login else {
            let error = login.unwrap_err().to_string();
            assert!(up == 0 && error.contains("57P03"), "{up:03b}: {error}");
            cluster.primary().start().await.unwrap();
            eventually(SOON, || async { Raw::login(proxy.address(), &[]).await.is_ok() }).await.unwrap();
            continue;
        };
        proxy.knows(usize::try_from(u32::count_ones(up)).unwrap()).await;
        proxy.reads_catalog("postgres").await;
        assert_eq!(client.value("SELECT count(*) FROM t").await, "10", "{up:03b}");
        let write = client.query("DELETE FROM t WHERE id = 0").await.unwrap();
        let expected = if up & 1 == 1 { "" } else { "57P03" };
        assert_eq!(write.code(), expected, "{up:03b}: {write:?}");
        assert_eq!(client.value("SELECT count(*) FROM t").await, "10", "{up:03b}");
    }
}

/// A server that takes connections and never answers: once a probe has found out, no read goes there.
#[tokio::test]
async fn a_frozen_replica() {
    let (cluster, proxy) = start("server_connect_timeout = \"1s\"").await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(proxy.client().await);
    }
    for client in &mut clients {
        client.ok("SELECT count(*) FROM t").await;
    }
    cluster.replica(0).sigstop().await.unwrap();
    let server = format!("server=\"{}\"", cluster.replica(0).address());
    proxy.becomes("pgweir_server_up", &[&server], 0.0).await;
    for client in &mut clients {
        for _ in 0..10 {
            assert_eq!(client.value("SELECT count(*) FROM t").await, "10");
        }
    }
    cluster.replica(0).sigcont().unwrap();
    proxy.knows(3).await;
    for client in &mut clients {
        for _ in 0..10 {
            assert_eq!(client.value("SELECT count(*) FROM t").await, "10");
        }
    }
}

/// The server's replies to a session with everything in it break off after every byte: for each unit that was under way the
/// client gets one error, at once, or its connection ends; nothing stays on the server, and the next are served well.
#[tokio::test]
async fn replies_cut_at_every_byte() {
    let cluster = cluster().start().await.unwrap();
    cluster.primary().sql(leaving::TABLES).await.unwrap();
    let relay = Relay::before(&cluster.primary().address()).await;
    let proxy = Proxy::before(&[relay.address()], "pool_size = 2\nserver_login_retry = \"10ms\"");
    proxy.knows(1).await;
    let watch = Watch::new(cluster.primary()).await;
    let marked = format!("SELECT txid_current() IS NOT NULL AS \"{CUT}\"");
    let script = [&query(&marked)[..], &leaving::script()].concat();
    let expected = format!("TDCZ{}", leaving::ANSWERS);
    let mut next = proxy.client().await;
    for cut in 0.. {
        relay.cut_after(cut);
        let mut client = proxy.client().await;
        let start = clock::now();
        client.send(&script).await.unwrap();
        let mut heard = Heard::default();
        while heard.readies < 10
            && let Ok((tag, body)) = client.message().await
        {
            heard.take(tag, &body);
        }
        assert!(start.elapsed() < A_MOMENT, "{:?} after {cut} bytes: {heard:?}", start.elapsed());
        assert!(!heard.tags.contains("EE"), "after {cut} bytes: {heard:?}");
        let answer = next.ok("SELECT n, txid_current() FROM t WHERE id = 1").await;
        assert_eq!((answer.value(), &*answer.tags), ("7", "TDCZ"), "after {cut} bytes");
        watch.becomes("state LIKE 'idle in%'", 0, A_MOMENT).await;
        // A backend whose connection was cut takes a moment to end.
        let settled = eventually(A_MOMENT, || async { watch.count("true").await <= 2 }).await;
        assert!(settled.is_ok(), "after {cut} bytes");
        if heard.codes == ["22012"] {
            assert_eq!(heard.tags, expected, "after {cut} bytes");
            println!("{cut} bytes are the whole answer");
            break;
        }
    }
    relay.cut_after(usize::MAX);
    watch.calms_down().await;
    for _ in 0..1000 {
        let mut client = proxy.client().await;
        assert_eq!(client.value("SELECT n, txid_current() FROM t WHERE id = 1").await, "7");
    }
}

/// What a client heard.
#[derive(Debug, Default)]
struct Heard {
    tags: String,
    readies: usize,
    /// The SQLSTATEs of errors.
    codes: Vec<String>,
}

impl Heard {
    fn take(&mut self, tag: u8, body: &[u8]) {
        self.tags.push(char::from(tag));
        self.readies += usize::from(tag == b'Z');
        if tag == b'E' {
            self.codes.push(refusal(body).code);
        }
    }
}
