//! `pg_terminate_backend` and `pg_cancel_backend` of the process number that a client was told: it is the client that is meant.

use pgweir::cli::demo::cluster::Cluster;

use crate::proxy::{Proxy, SOON, Watch, cluster};
use crate::raw::{Answer, Raw, query, refusal};
use crate::wire::{bind, bind_as, describe, execute, parse, sync};

async fn start(settings: &str) -> (Cluster, Proxy, Watch) {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let text = "CREATE TABLE t (id int); CREATE ROLE other LOGIN; CREATE ROLE plain LOGIN";
    cluster.primary().sql(text).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, settings).await;
    let watch = Watch::new(cluster.primary()).await;
    (cluster, proxy, watch)
}

/// It is told why, and its connection is closed.
async fn is_ended(mut client: Raw) {
    let (tag, body) = client.message().await.unwrap();
    let words = refusal(&body);
    assert_eq!((tag, &*words.severity, &*words.code), (b'E', "FATAL", "57P01"), "{words:?}");
    assert_eq!(words.message, "terminating connection due to administrator command");
    client.closed().await.unwrap();
}

async fn exchange(client: &mut Raw, messages: &[Vec<u8>]) -> Answer {
    client.send(&messages.concat()).await.unwrap();
    client.answer().await.unwrap()
}

/// The ways to ask for it, each with what is asked of its statement before.
async fn ask(client: &mut Raw, way: usize, process: &str) -> Answer {
    let text = "SELECT pg_terminate_backend($1)";
    let binary = process.parse::<i32>().unwrap().to_be_bytes();
    match way {
        0 => client.query(&format!("SELECT pg_terminate_backend({process})")).await.unwrap(),
        1 => {
            client.query(&format!("select pg_catalog.pg_terminate_backend('{process}'::int);")).await.unwrap()
        }
        2 => {
            let unit = [parse("", text), bind("", "", &[process]), describe('P', ""), execute("", 0), sync()];
            exchange(client, &unit).await
        }
        3 => {
            let described = exchange(client, &[parse("s", text), describe('S', "s"), sync()]).await;
            assert_eq!(described.tags, "1tTZ");
            exchange(client, &[bind_as("", "s", 1, &[Some(&binary)], 1), execute("", 0), sync()]).await
        }
        _ => {
            let unit = [parse("", text), describe('S', ""), bind("", "", &[process]), execute("", 0), sync()];
            exchange(client, &unit).await
        }
    }
}

#[tokio::test]
async fn a_client_ends_another_of_its_user() {
    let (cluster, proxy, watch) = start("pool_size = 2").await;
    let mut client = proxy.client().await;
    let mut direct = Raw::login(cluster.primary().address().parse().unwrap(), &[]).await.unwrap();
    for way in 0..5 {
        let victim = proxy.client().await;
        let through = ask(&mut client, way, &victim.key.0.to_string()).await;
        assert_ne!(through.value(), "f", "way {way}: {through:?}");
        is_ended(victim).await;
        let backend = Raw::login(cluster.primary().address().parse().unwrap(), &[]).await.unwrap();
        let expected = ask(&mut direct, way, &backend.key.0.to_string()).await;
        assert_eq!(through, expected, "way {way}");
        // Its statements are its own, and go on.
        assert_eq!(client.value("SELECT 1").await, "1");
    }
    // In a transaction, begun or not, and what the victim has not committed is undone.
    for begin in ["BEGIN", "BEGIN; SELECT txid_current()"] {
        let mut victim = proxy.client().await;
        victim.ok("BEGIN").await;
        victim.ok("INSERT INTO t VALUES (1)").await;
        client.ok(begin).await;
        let answer = ask(&mut client, 2, &victim.key.0.to_string()).await;
        assert_eq!((answer.value(), answer.status), ("t", 'T'));
        is_ended(victim).await;
        client.ok("COMMIT").await;
        assert_eq!(watch.column("SELECT count(*) FROM t").await, ["0"]);
    }
    // It has no process; that it was ended, others do not notice.
    let gone = ask(&mut client, 0, "2147483646").await;
    assert_eq!((gone.value(), &*gone.tags), ("f", "TNDCZ"));
    // Itself.
    let process = client.key.0;
    client.send(&query(&format!("SELECT pg_terminate_backend({process})"))).await.unwrap();
    is_ended(client).await;
    let mut client = proxy.client().await;
    client.ok("BEGIN; INSERT INTO t VALUES (2)").await;
    client.send(&query("SELECT pg_terminate_backend(pg_backend_pid())")).await.unwrap();
    is_ended(client).await;
    assert_eq!(watch.column("SELECT count(*) FROM t").await, ["0"]);
    assert_eq!(proxy.sum("pgweir_clients", &[]).await, 0.0);
}

/// Whoever runs a statement, waits for a connection or for a read gets it, too; who is another user does not.
#[tokio::test]
async fn whatever_it_does_and_nobody_elses() {
    let (_cluster, proxy, watch) = start("pool_size = 1").await;
    let mut plain = Raw::login(proxy.address(), &[("user", "plain")]).await.unwrap();
    let mut client = Raw::login(proxy.address(), &[("user", "other")]).await.unwrap();
    let mut running = Raw::login(proxy.address(), &[("user", "other")]).await.unwrap();
    let mut waiting = Raw::login(proxy.address(), &[("user", "other")]).await.unwrap();
    running.send(&query("SELECT pg_sleep(60), txid_current()")).await.unwrap();
    watch.becomes("wait_event = 'PgSleep'", 1, SOON).await;
    waiting.send(&query("INSERT INTO t VALUES (1)")).await.unwrap();
    proxy.becomes("pgweir_pool_waiting_clients", &[], 1.0).await;
    for victim in [&waiting, &running] {
        let answer = ask(&mut plain, 0, &victim.key.0.to_string()).await;
        assert_eq!(answer.value(), "f", "another user's");
    }
    for victim in [waiting, running] {
        assert_eq!(ask(&mut client, 0, &victim.key.0.to_string()).await.value(), "t");
        is_ended(victim).await;
    }
    watch.becomes("wait_event = 'PgSleep'", 0, SOON).await;
    assert_eq!(client.value("SELECT 1, txid_current()").await, "1");
}

#[tokio::test]
async fn a_client_cancels_another() {
    let (_cluster, proxy, watch) = start("").await;
    let (mut client, mut other) = (proxy.client().await, proxy.client().await);
    let cancel = |process: i32| format!("SELECT pg_cancel_backend({process})");
    other.send(&query("SELECT pg_sleep(60), txid_current()")).await.unwrap();
    watch.becomes("wait_event = 'PgSleep'", 1, SOON).await;
    assert_eq!(client.value(&cancel(other.key.0)).await, "t");
    assert_eq!(other.answer().await.unwrap().code(), "57014");
    // Who does nothing does not notice.
    assert_eq!(client.value(&cancel(other.key.0)).await, "t");
    assert_eq!(other.value("SELECT 1, txid_current()").await, "1");
    assert_eq!(other.query(&cancel(other.key.0)).await.unwrap().code(), "57014");
    assert_eq!(other.value("SELECT 2").await, "2");
}

/// Outside transactions a client's process number is that which it was told: the one by which it is ended, or what it runs given up.
#[tokio::test]
async fn its_own_number_is_that_which_it_was_told() {
    let (cluster, proxy, _watch) = start("pool_size = 2").await;
    let mut client = proxy.client().await;
    let told = client.key.0.to_string();
    let text = "SELECT pg_backend_pid() AS \"Pid\"";
    for _ in 0..3 {
        assert_eq!(client.value("SELECT pg_backend_pid()").await, told);
        let unit = [parse("", text), bind("", "", &[]), describe('P', ""), execute("", 0), sync()];
        let answer = exchange(&mut client, &unit).await;
        assert_eq!((answer.value(), &*answer.tags), (&*told, "12TDCZ"));
    }
    // As many drivers do: described first, and the value in binary.
    let described = exchange(&mut client, &[parse("s", text), describe('S', "s"), sync()]).await;
    assert_eq!(described.tags, "1tTZ");
    client.send(&[bind_as("", "s", 1, &[], 1), execute("", 0), sync()].concat()).await.unwrap();
    let mut row = Vec::new();
    loop {
        match client.message().await.unwrap() {
            (b'D', body) => row = body[6..].to_vec(),
            (b'Z', _) => break,
            _ => {}
        }
    }
    assert_eq!(row, client.key.0.to_be_bytes());

    // In a transaction it is that of the process which carries it out, as others see it.
    client.ok("BEGIN").await;
    client.ok("INSERT INTO t VALUES (1)").await;
    let process = client.value("SELECT pg_backend_pid()").await;
    assert_ne!(process, told);
    let there = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {process} AND state = 'idle in transaction'"
    );
    assert_eq!(cluster.primary().value(&there).await.unwrap(), "1");
    client.ok("ROLLBACK").await;
    assert_eq!(client.value("SELECT pg_backend_pid()").await, told);
    client.ok("BEGIN").await;
    assert_ne!(client.value("SELECT pg_backend_pid()").await, told);
    client.ok("COMMIT").await;

    // By that number it is ended, too.
    let mut other = proxy.client().await;
    let process = client.value("SELECT pg_backend_pid()").await;
    assert_eq!(other.value(&format!("SELECT pg_terminate_backend({process})")).await, "t");
    is_ended(client).await;

    // Where a client has its connection for good, the server says.
    let proxy = Proxy::start(&cluster, "pool_mode = \"session\"").await;
    let mut client = proxy.client().await;
    assert_eq!(client.value("SELECT pg_backend_pid()").await, client.backend().await);
}
