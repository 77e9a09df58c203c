//! A client that vanishes harms nobody: what it ran is cancelled and rolled back, its server connection serves the next.

use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, eventually};

use crate::proxy::{A_MOMENT, Proxy, SOON, Watch, cluster};
use crate::raw::{Raw, copy_data, copy_done, execute, extended, flush, query, sync};

/// A cluster with one replica and the table `t` of 1000 rows, and a pgweir with pools of one.
async fn start() -> (Cluster, Proxy, Watch) {
    let cluster = cluster().replicas(1).start().await.unwrap();
    cluster
        .primary()
        .sql(
            "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 1000) g; \
             CREATE VIEW there AS TABLE pg_prepared_statements",
        )
        .await
        .unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let watch = Watch::new(cluster.primary()).await;
    (cluster, proxy, watch)
}

/// The next client gets the same backend, and right answers.
async fn next_is_well(proxy: &Proxy, watch: &Watch, backend: &str) {
    watch.calms_down().await;
    let mut next = proxy.client().await;
    assert_eq!(next.backend().await, backend, "the connection was not used again");
    assert_eq!(next.value("SELECT count(*) FROM t").await, "1000");
    assert_eq!(next.ok("UPDATE t SET n = 0 WHERE n <> 0").await.tags, "CZ");
}

#[tokio::test]
async fn in_a_transaction_and_during_statements() {
    let (cluster, proxy, watch) = start().await;
    let backend = proxy.client().await.backend().await;

    let mut client = proxy.client().await;
    client.ok("BEGIN; SELECT 1").await;
    client.ok("UPDATE t SET n = 1").await;
    client.vanish();
    next_is_well(&proxy, &watch, &backend).await;
    assert_eq!(watch.column("SELECT count(*) FROM t WHERE n = 1").await, ["0"], "not rolled back");

    // A failed transaction, and one that was left with a savepoint and a lock.
    for script in
        [&["BEGIN", "SELECT 1/0"][..], &["BEGIN", "SAVEPOINT a", "LOCK t", "SELECT pg_advisory_xact_lock(1)"]]
    {
        let mut client = proxy.client().await;
        for text in script {
            client.query(text).await.unwrap();
        }
        client.vanish();
        next_is_well(&proxy, &watch, &backend).await;
    }

    // A long write on the primary.
    let mut client = proxy.client().await;
    client.send(&query("UPDATE t SET n = 1 WHERE pg_sleep(30) IS NOT NULL")).await.unwrap();
    watch.becomes("state = 'active'", 1, SOON).await;
    client.vanish();
    next_is_well(&proxy, &watch, &backend).await;

    // A long read on the replica.
    let replica = Watch::new(cluster.replica(0)).await;
    let read = "SELECT count(*) FROM generate_series(1, 1000000000)";
    proxy.client().await.ok("SELECT 1").await;
    let pids = replica.pids().await;
    for _ in 0..2 {
        let mut client = proxy.client().await;
        client.send(&query(read)).await.unwrap();
        replica.becomes("state = 'active'", 1, SOON).await;
        client.vanish();
        replica.becomes("state <> 'idle'", 0, A_MOMENT).await;
        assert_eq!(proxy.client().await.value("SELECT count(*) FROM t").await, "1000");
        assert_eq!(replica.pids().await, pids, "the replica's connection was not used again");
    }

    // Several at once: the first is cancelled, and so are those behind it.
    let mut client = proxy.client().await;
    for _ in 0..3 {
        client.send(&query("SELECT pg_sleep(30), txid_current()")).await.unwrap();
    }
    watch.becomes("state = 'active'", 1, SOON).await;
    client.vanish();
    watch.becomes("state <> 'idle'", 0, A_MOMENT).await;
    assert_eq!(proxy.client().await.value("SELECT count(*) FROM t").await, "1000");
}

#[tokio::test]
async fn during_copy() {
    let (_cluster, proxy, watch) = start().await;
    let backend = proxy.client().await.backend().await;

    let mut client = proxy.client().await;
    assert_eq!(client.query("COPY t FROM STDIN").await.unwrap().tags, "G");
    client.send(&copy_data(b"2001\t1\n")).await.unwrap();
    client.vanish();
    next_is_well(&proxy, &watch, &backend).await;

    // The same with the extended protocol.
    let mut client = proxy.client().await;
    client.send(&extended("", "COPY t FROM STDIN")).await.unwrap();
    client.send(&copy_data(b"2001\t1\n")).await.unwrap();
    client.send(&flush()).await.unwrap();
    while client.message().await.unwrap().0 != b'G' {}
    client.vanish();
    next_is_well(&proxy, &watch, &backend).await;

    // A COPY that waits for a lock.
    let mut other = Raw::login(proxy.address(), &[]).await.unwrap();
    let locker = Watch::new(_cluster.primary()).await;
    locker.column("BEGIN; LOCK t").await;
    other.send(&query("COPY t FROM STDIN")).await.unwrap();
    watch.becomes("wait_event_type = 'Lock'", 1, SOON).await;
    other.vanish();
    watch.becomes("state <> 'idle'", 0, A_MOMENT).await;
    locker.column("COMMIT").await;
    next_is_well(&proxy, &watch, &backend).await;

    // Big results to a reader that has stopped reading.
    for text in [
        "COPY (SELECT repeat('x', 1000), txid_current() FROM generate_series(1, 100000)) TO STDOUT",
        "SELECT repeat('x', 1000), txid_current() FROM generate_series(1, 100000)",
        "SELECT repeat('x', 10000000), txid_current() FROM generate_series(1, 10)",
    ] {
        let mut client = proxy.client().await;
        client.reads_little();
        client.send(&query(text)).await.unwrap();
        watch.becomes("wait_event = 'ClientWrite'", 1, SOON).await;
        client.message().await.unwrap();
        client.vanish();
        next_is_well(&proxy, &watch, &backend).await;
    }
}

#[tokio::test]
async fn in_an_open_unit() {
    let (_cluster, proxy, watch) = start().await;
    let backend = proxy.client().await.backend().await;

    // Nothing but messages that wait for their Sync.
    let mut client = proxy.client().await;
    client.send(&extended("", "UPDATE t SET n = 1")).await.unwrap();
    client.vanish();
    next_is_well(&proxy, &watch, &backend).await;

    // Executed, and shown because of a Flush: without its Sync it did not happen.
    let mut client = proxy.client().await;
    client.send(&extended("", "UPDATE t SET n = 1")).await.unwrap();
    client.send(&flush()).await.unwrap();
    while client.message().await.unwrap().0 != b'C' {}
    client.vanish();
    watch.calms_down().await;
    assert_eq!(watch.column("SELECT count(*) FROM t WHERE n = 1").await, ["0"], "committed without a Sync");
    next_is_well(&proxy, &watch, &backend).await;

    // A named statement goes with its client.
    let mut client = proxy.client().await;
    client.send(&extended("mine", "SELECT txid_current()")).await.unwrap();
    client.send(&sync()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().tags, "12TDCZ");
    client.send(&execute("mine")).await.unwrap();
    client.send(&flush()).await.unwrap();
    while client.message().await.unwrap().0 != b'C' {}
    client.vanish();
    next_is_well(&proxy, &watch, &backend).await;
    assert_eq!(proxy.client().await.value("SELECT count(*), txid_current() FROM there").await, "0");
}

#[tokio::test]
async fn in_the_middle_of_a_long_message() {
    let (_cluster, proxy, watch) = start().await;
    let text = format!("UPDATE t SET n = 1 WHERE id > 0 /* {} */", "x".repeat(1_000_000));
    let long = query(&text);
    // Behind a running statement: it must not go on for nobody.
    for before in ["", "SELECT pg_sleep(30), txid_current()"] {
        let mut client = proxy.client().await;
        let backend = client.backend().await;
        if !before.is_empty() {
            client.send(&query(before)).await.unwrap();
        }
        client.send(&long[..200_000]).await.unwrap();
        watch.becomes("state = 'active'", usize::from(!before.is_empty()), SOON).await;
        client.vanish();
        let gone = async || watch.column("SELECT pid FROM pg_stat_activity").await;
        eventually(A_MOMENT, || async { !gone().await.contains(&backend) }).await.unwrap();
        watch.calms_down().await;
        assert_eq!(proxy.client().await.value("SELECT count(*) FROM t WHERE n = 1").await, "0");
    }
}

#[tokio::test]
async fn in_the_queue_and_during_login() {
    let (_cluster, proxy, watch) = start().await;
    let mut holder = proxy.client().await;
    holder.ok("BEGIN; SELECT 1").await;
    let backend = holder.backend().await;

    // Two wait; the first goes, and the second is served as soon as the connection is free.
    let (mut first, mut second) = (proxy.client().await, proxy.client().await);
    first.send(&query("UPDATE t SET n = 1")).await.unwrap();
    proxy.becomes("pgweir_pool_waiting_clients", &[], 1.0).await;
    second.send(&query("SELECT txid_current() - txid_current()")).await.unwrap();
    proxy.becomes("pgweir_pool_waiting_clients", &[], 2.0).await;
    first.vanish();
    proxy.becomes("pgweir_pool_waiting_clients", &[], 1.0).await;
    holder.ok("COMMIT").await;
    assert_eq!(second.answer().await.unwrap().value(), "0");
    assert_eq!(
        watch.column("SELECT count(*) FROM t WHERE n = 1").await,
        ["0"],
        "a dead client's write was run"
    );

    // A login with other parameters needs a connection of its own, and has to wait for it.
    holder.ok("BEGIN; SELECT 1").await;
    let mut guest = Raw::connect(proxy.address()).await.unwrap();
    let packet = b"\0\0\0\x31\0\x03\0\0user\0postgres\0client_encoding\0LATIN1\0\0";
    let mut packet = packet.to_vec();
    packet[3] = u8::try_from(packet.len()).unwrap();
    guest.send(&packet).await.unwrap();
    proxy.becomes("pgweir_pool_waiting_clients", &[], 1.0).await;
    guest.vanish();
    proxy.becomes("pgweir_pool_waiting_clients", &[], 0.0).await;
    // Half a startup packet.
    let mut guest = Raw::connect(proxy.address()).await.unwrap();
    guest.send(&packet[..20]).await.unwrap();
    guest.vanish();
    holder.ok("COMMIT").await;
    next_is_well(&proxy, &watch, &backend).await;
}

/// A real psql, killed with SIGKILL.
#[tokio::test]
async fn psql_killed() {
    let (_cluster, proxy, watch) = start().await;
    let backend = proxy.client().await.backend().await;
    for text in ["UPDATE t SET n = 1 WHERE pg_sleep(30) IS NOT NULL", "BEGIN; LOCK t; SELECT pg_sleep(30)"] {
        let mut psql = tokio::process::Command::new("psql")
            .args(["-X", "-h", "127.0.0.1", "-U", "postgres", "-p", &proxy.address().port().to_string()])
            .args(["-c", text])
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        watch.becomes("state = 'active' AND wait_event = 'PgSleep'", 1, SOON).await;
        psql.kill().await.unwrap();
        next_is_well(&proxy, &watch, &backend).await;
    }
}

/// A session with everything in it: transaction, COPY, pipeline, error, named statement.
pub(crate) fn script() -> Vec<u8> {
    let mut all = Vec::new();
    let parts = [
        query("BEGIN"),
        extended("s", "SELECT n FROM t WHERE id = 1 FOR UPDATE"),
        sync(),
        query("ROLLBACK"),
        query("COPY c FROM STDIN"),
        copy_data(b"1\n"),
        copy_data(b"2\n"),
        copy_done(),
        extended("", "INSERT INTO c VALUES (3)"),
        extended("", "INSERT INTO c VALUES (4)"),
        sync(),
        extended("", "SELECT 1/0"),
        execute("s"),
        sync(),
        execute("s"),
        flush(),
        sync(),
        query("SELECT count(*) FROM t"),
        query("DELETE FROM c"),
    ];
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all
}

/// The answers to [`script`]: the tags of their messages.
pub(crate) const ANSWERS: &str = "CZ12TDCZCZGCZ12nC12nCZ1EZ2TDCZTDCZCZ";

/// What [`script`] finds.
pub(crate) const TABLES: &str =
    "CREATE TABLE t (id int, n int); INSERT INTO t VALUES (1, 7); CREATE TABLE c (id int)";

/// The client is killed after every byte of that session: nothing stays on the server, and the next are served well.
#[tokio::test]
async fn at_every_byte() {
    let cluster = cluster().start().await.unwrap();
    cluster.primary().sql(TABLES).await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 2").await;
    let watch = Watch::new(cluster.primary()).await;
    let script = script();
    let mut whole = proxy.client().await;
    whole.send(&script).await.unwrap();
    let mut tags = String::new();
    while tags.matches('Z').count() < 9 {
        tags.push(char::from(whole.message().await.unwrap().0));
    }
    assert_eq!(tags, ANSWERS);

    let mut next = proxy.client().await;
    for end in 0..script.len() {
        let start = std::time::Instant::now();
        let mut client = proxy.client().await;
        client.send(&script[..end]).await.unwrap();
        // Every other one is killed with answers unread, the others after some were read.
        if end % 2 == 0 && end > 32 {
            client.message().await.unwrap();
        }
        client.vanish();
        let answer = next.ok("SELECT n, txid_current() FROM t WHERE id = 1").await;
        assert_eq!((answer.value(), &*answer.tags), ("7", "TDCZ"), "after {end} bytes");
        assert!(watch.count("true").await <= 2, "after {end} bytes");
        assert!(start.elapsed() < A_MOMENT, "{:?} after {end} bytes", start.elapsed());
    }
    watch.calms_down().await;
    // COPY, the pipeline: each happened whole or not at all.
    let counts = "SELECT count(*) FROM c GROUP BY id ORDER BY id";
    let counts = watch.column(counts).await;
    assert!(counts.len() == 4 && counts[0] == counts[1] && counts[2] == counts[3], "{counts:?}");
    let opened = proxy.sum("pgweir_pool_connects_total", &[]).await;
    println!("{} clients killed, {opened} server connections opened", script.len());
    assert!(opened < 10.0 + script.len() as f64 / 20.0, "{opened} connections for {} clients", script.len());
    let quiet = Duration::from_secs(1);
    assert!(eventually(quiet, || async { watch.count("state <> 'idle'").await > 0 }).await.is_err());
}
