//! Short reads of several clients on one server connection: each gets its own answer, errors and cancels included, and nobody
//! waits for another's lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, eventually};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::proxy::{Proxy, SOON, Watch, cluster, configuration};
use crate::raw::{Raw, query};
use crate::wire::{bind, describe, execute, parse, sync};

/// Servers with two tables, and a pgweir with one worker: all its clients can share.
async fn start(replicas: usize, settings: &str) -> (Cluster, Proxy) {
    let cluster = cluster().replicas(replicas).start().await.unwrap();
    let tables = "CREATE TABLE a AS SELECT n, 'a' || n AS what FROM generate_series(1, 100) n; \
                  CREATE TABLE b AS SELECT n, 'b' || n AS what FROM generate_series(1, 100) n";
    cluster.primary().sql(tables).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let text = configuration(&cluster.servers(), settings, "").replace("workers = 2", "workers = 1");
    let proxy = Proxy::with(&text);
    proxy.knows(cluster.servers().len()).await;
    proxy.reads_catalog("postgres").await;
    (cluster, proxy)
}

async fn shared(proxy: &Proxy, outcome: &str) -> usize {
    proxy.sum("pgweir_shared_reads_total", &[&format!("outcome=\"{outcome}\"")]).await as usize
}

/// What a client says, in one of the ways of saying it: by itself, unnamed, or prepared under a name that all others use, too.
async fn ask(client: &mut Raw, way: usize, text: &str, value: &str) -> crate::raw::Answer {
    let unit = match way {
        0 => query(&text.replace("$1::int", value).replace("$1::text", &format!("'{value}'"))),
        1 => {
            [parse("", text), bind("", "", &[value]), describe('P', ""), execute("", 0), sync()].concat()[..]
                .into()
        }
        _ => [bind("", "s", &[value]), describe('P', ""), execute("", 0), sync()].concat()[..].into(),
    };
    client.send(&unit).await.unwrap();
    client.answer().await.unwrap()
}

async fn prepare(client: &mut Raw, name: &str, text: &str) {
    client.send(&[parse(name, text), sync()].concat()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().errors, []);
}

#[tokio::test]
async fn each_gets_its_own_answer() {
    let (_cluster, proxy) = start(2, "pool_size = 2\nmax_prepared_statements = 10").await;
    let before = proxy.sum("pgweir_units_total", &[]).await;
    let mut clients = JoinSet::new();
    for number in 0..40_usize {
        let mut client = proxy.client().await;
        clients.spawn(async move {
            // Twenty statements under one name, on connections that may have ten.
            let prepared = format!("SELECT '{}:' || $1::text", number % 20);
            prepare(&mut client, "s", &prepared).await;
            for round in 0..120 {
                let value = format!("{number}.{round}");
                let answer = ask(&mut client, round % 3, &prepared, &value).await;
                assert_eq!(answer.value(), format!("{}:{value}", number % 20), "{answer:?}");
                let tags = ["TDCZ", "12TDCZ", "2TDCZ"][round % 3];
                assert_eq!(answer.tags, tags);
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let answered = shared(&proxy, "answered").await;
    assert!(answered > 40 * 120 / 4, "only {answered} were shared:\n{}", proxy.metrics().await);
    let grown = proxy.sum("pgweir_units_total", &[]).await - before;
    assert_eq!(grown as usize, 40 * 121);
    assert_eq!(proxy.sum("pgweir_server_running", &[]).await as usize, 0);
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await as usize, 0);
    let connected = proxy.sum("pgweir_pool_connects_total", &[]).await;
    assert!(connected <= 6.0, "{connected} server connections");
}

/// An error is its client's alone, in the words that it would hear by itself, and those beside it do not notice.
#[tokio::test]
async fn an_error_is_whose_it_is() {
    let (cluster, proxy) = start(1, "pool_size = 1").await;
    let text = "SELECT 100 / $1::int";
    let mut direct = Raw::login(cluster.primary().address().parse().unwrap(), &[]).await.unwrap();
    prepare(&mut direct, "s", text).await;
    let mut expected = Vec::new();
    for way in 0..3 {
        expected.push(ask(&mut direct, way, text, "0").await);
    }
    let expected = Arc::new(expected);
    let mut clients = JoinSet::new();
    for number in 0..20 {
        let (mut client, expected) = (proxy.client().await, expected.clone());
        clients.spawn(async move {
            prepare(&mut client, "s", text).await;
            for round in 0..90 {
                let way = round % 3;
                if (round + number) % 15 == 14 {
                    let answer = ask(&mut client, way, text, "0").await;
                    assert_eq!(answer.errors, expected[way].errors);
                    // Whether planning or execution finds it depends on how often a prepared statement has run.
                    assert!(way == 2 || answer.tags == expected[way].tags, "{answer:?}");
                } else {
                    assert_eq!(ask(&mut client, way, text, "10").await.value(), "10");
                }
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert!(shared(&proxy, "error").await > 0, "{}", proxy.metrics().await);
    assert!(shared(&proxy, "answered").await > 20 * 90 / 4);
    assert_eq!(proxy.sum("pgweir_errors_total", &["class=\"22\""]).await as usize, 20 * 6);
}

/// A table is locked: who reads it waits, and can be cancelled; who reads another one does not wait.
#[tokio::test]
async fn a_lock_holds_up_only_who_reads_behind_it() {
    let (cluster, proxy) = start(0, "pool_size = 12").await;
    let read = |table: &str, n: usize| format!("SELECT what FROM {table} WHERE n = {n}");
    let mut warm = proxy.client().await;
    for round in 0..20 {
        for table in ["a", "b"] {
            assert_eq!(warm.value(&read(table, round + 1)).await, format!("{table}{}", round + 1));
        }
    }
    let owner = cluster.primary().connect("postgres").await.unwrap();
    owner.batch_execute("BEGIN; LOCK TABLE a").await.unwrap();
    let (of_a, of_b) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    let mut keys = Vec::new();
    for number in 1..=8_usize {
        let (mut client, done) = (proxy.client().await, of_a.clone());
        keys.push(client.key);
        clients.spawn(async move {
            let answer = client.query(&read("a", number)).await.unwrap();
            done.fetch_add(1, Relaxed);
            let (code, value) = (answer.code().to_owned(), answer.rows.first().map(|row| row[0].clone()));
            assert_eq!(client.value(&read("b", number)).await, format!("b{number}"));
            (number, code, value.flatten().unwrap_or_default())
        });
    }
    let mut readers = JoinSet::new();
    for number in 1..=8_usize {
        let (mut client, done) = (proxy.client().await, of_b.clone());
        readers.spawn(async move {
            for _ in 0..100 {
                let value =
                    timeout(SOON, client.value(&read("b", number))).await.expect("it waits for others");
                assert_eq!(value, format!("b{number}"));
                done.fetch_add(1, Relaxed);
            }
        });
    }
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
    assert_eq!((of_a.load(Relaxed), of_b.load(Relaxed)), (0, 800));
    let watch = Watch::new(cluster.primary()).await;
    watch.becomes("wait_event_type = 'Lock'", 8, SOON).await;
    Raw::cancel(proxy.address(), keys[0]).await.unwrap();
    eventually(SOON, || async { of_a.load(Relaxed) == 1 }).await.unwrap();
    owner.batch_execute("COMMIT").await.unwrap();
    while let Some(ended) = clients.join_next().await {
        let (number, code, value) = ended.unwrap();
        match number {
            1 => assert_eq!((&*code, &*value), ("57014", "")),
            _ => assert_eq!((code, value), (String::new(), format!("a{number}"))),
        }
    }
    watch.calms_down().await;
}

/// A cancel that comes while the statement is on a connection that others use, too.
#[tokio::test]
async fn a_cancel_ends_its_own_statement_alone() {
    let (cluster, proxy) = start(0, "pool_size = 1").await;
    let mut warm = proxy.client().await;
    let text = "SELECT what FROM a WHERE n = 7";
    for _ in 0..20 {
        assert_eq!(warm.value(text).await, "a7");
    }
    let owner = cluster.primary().connect("postgres").await.unwrap();
    let mut cancelled = 0;
    for round in 0..40 {
        owner.batch_execute("BEGIN; LOCK TABLE a").await.unwrap();
        let (mut one, mut other) = (proxy.client().await, proxy.client().await);
        one.send(&query(text)).await.unwrap();
        other.send(&query(text)).await.unwrap();
        // Now and then it comes while both are on their way together, now and then later.
        tokio::time::sleep(Duration::from_millis(round % 4 * 12)).await;
        Raw::cancel(proxy.address(), one.key).await.unwrap();
        let early = timeout(Duration::from_millis(200), one.message()).await;
        owner.batch_execute("COMMIT").await.unwrap();
        let tag = match early {
            Ok(message) => message.unwrap().0,
            Err(_) => one.message().await.unwrap().0,
        };
        cancelled += usize::from(tag == b'E');
        assert_eq!(other.answer().await.unwrap().value(), "a7");
    }
    assert!(cancelled > 20, "{cancelled} of 40 cancels had an effect");
}

#[tokio::test]
async fn connections_break_unseen() {
    let (cluster, proxy) = start(2, "pool_size = 3").await;
    let (stop, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for number in 1..=20_usize {
        let (mut client, stop, done) = (proxy.client().await, stop.clone(), done.clone());
        clients.spawn(async move {
            while stop.load(Relaxed) == 0 {
                let value = client.value(&format!("SELECT what FROM b WHERE n = {number}")).await;
                assert_eq!(value, format!("b{number}"));
                done.fetch_add(1, Relaxed);
            }
        });
    }
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
        AND application_name NOT LIKE 'pgweir%' AND backend_type = 'client backend'";
    // Many go together; not always, for on a busy machine no read is short.
    eventually(SOON, || async { shared(&proxy, "answered").await > 200 }).await.unwrap();
    for _ in 0..10 {
        let seen = done.load(Relaxed);
        eventually(SOON, || async { done.load(Relaxed) > seen + 200 }).await.unwrap();
        for replica in 0..2 {
            cluster.replica(replica).sql(others).await.unwrap();
        }
    }
    stop.store(1, Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert_eq!(proxy.sum("pgweir_errors_total", &[]).await as usize, 0);
}

/// A shape that was short turns out to be long, in bytes.
#[tokio::test]
async fn a_long_answer_comes_whole() {
    let (_cluster, proxy) = start(1, "pool_size = 1").await;
    let mut clients = JoinSet::new();
    for number in 0..10_usize {
        let mut client = proxy.client().await;
        clients.spawn(async move {
            for round in 0..60 {
                // Up to several windows.
                let length = if (round + number) % 20 == 19 { 10_000 << (number % 5) } else { 10 };
                let value = client.value(&format!("SELECT repeat('{number}', {length})")).await;
                assert!(value == number.to_string().repeat(length), "{} of {length}", value.len());
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert!(shared(&proxy, "answered").await > 20);
    assert!(shared(&proxy, "large").await > 0);
}

/// Who has set something shares with nobody who has not.
#[tokio::test]
async fn settings_are_not_shared() {
    let (_cluster, proxy) = start(1, "pool_size = 2").await;
    let zones = ["UTC", "Asia/Tokyo", "America/Lima"];
    let stop = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for number in 0..18_usize {
        let zone = zones[number % 3];
        let name = format!("app{}", number % 2);
        let mut client = Raw::login(proxy.address(), &[("application_name", &name)]).await.unwrap();
        if number % 3 > 0 {
            client.ok(&format!("SET TimeZone = '{zone}'")).await;
        }
        let stop = stop.clone();
        clients.spawn(async move {
            let text = "SELECT current_setting('application_name') || extract(timezone FROM timestamptz '2020-01-01')::int";
            let hours = [0, 9, -5][number % 3];
            while stop.load(Relaxed) == 0 {
                assert_eq!(client.value(text).await, format!("{name}{}", hours * 3600));
            }
        });
    }
    // On a busy machine it takes a while until a read is short.
    let enough = eventually(SOON, || async { shared(&proxy, "answered").await > 500 }).await;
    assert!(enough.is_ok(), "{}", proxy.metrics().await);
    stop.store(1, Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    // Each gets its settings put on, and no connection is lost by that.
    assert!(shared(&proxy, "behind").await < 100, "{}", proxy.metrics().await);
    let connected = proxy.sum("pgweir_pool_connects_total", &[]).await;
    assert!(connected <= 6.0, "{connected} server connections");
}
