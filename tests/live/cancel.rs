//! A cancel request ends the statement it was meant for, and never anything else.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use pgweir::clock;
use postgres_protocol::message::frontend;
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, Watch, cluster};
use crate::raw::{Answer, Raw, execute, extended, flush, query, sync};
use crate::wire::{Message, Until, Wire, packet, startup};

#[tokio::test]
async fn what_was_meant_and_nothing_else() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let address = proxy.address();
    let (primary, replica) = (Watch::new(cluster.primary()).await, Watch::new(cluster.replica(0)).await);
    let mut client = proxy.client().await;
    let texts = [
        (&primary, "SELECT pg_sleep(30), txid_current()"),
        (&replica, "SELECT count(*) FROM generate_series(1, 1000000000)"),
    ];
    for (watch, text) in texts {
        let start = clock::now();
        client.send(&query(text)).await.unwrap();
        watch.becomes("state = 'active'", 1, SOON).await;
        // A wrong secret, a wrong number: nothing.
        let (process, secret) = client.key;
        for wrong in [(process, secret ^ 1), (process ^ 1, secret), (0, 0)] {
            Raw::cancel(address, wrong).await.unwrap();
        }
        assert_eq!(watch.count("state = 'active'").await, 1, "a wrong key has cancelled");
        Raw::cancel(address, client.key).await.unwrap();
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.code(), answer.status), ("57014", 'I'));
        assert!(start.elapsed() < SOON);
        assert_eq!(client.value("SELECT 1").await, "1");
    }

    // From an idle client: nothing to it, and nothing to who uses the connection now.
    let mut other = proxy.client().await;
    other.send(&query("SELECT 7, pg_sleep(1), txid_current()")).await.unwrap();
    primary.becomes("state = 'active'", 1, SOON).await;
    for _ in 0..10 {
        Raw::cancel(address, client.key).await.unwrap();
    }
    assert_eq!(other.answer().await.unwrap().value(), "7");
    assert_eq!(client.value("SELECT 1").await, "1");

    // In a transaction it fails the transaction, as in PostgreSQL.
    client.ok("BEGIN; SELECT 1").await;
    client.send(&query("SELECT pg_sleep(30)")).await.unwrap();
    primary.becomes("wait_event = 'PgSleep'", 1, SOON).await;
    Raw::cancel(address, client.key).await.unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.code(), answer.status), ("57014", 'E'));
    client.ok("ROLLBACK").await;
    assert_eq!(other.value("SELECT 8, txid_current()").await, "8");
}

/// What a unit waits for when its cancel request comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    /// Its statement is prepared, and no more of it has come.
    Prepared,
    /// All but its Sync has come.
    Gathered,
}

/// Sends a unit in two parts, with a request between them.
async fn in_two_parts(client: &mut Raw, address: SocketAddr, held: Held) -> Answer {
    let text = "SELECT pg_sleep(30)";
    let rest = match held {
        Held::Prepared => {
            let mut parse = BytesMut::new();
            frontend::parse("", text, [], &mut parse).unwrap();
            client.send(&[parse, flush()].concat()).await.unwrap();
            assert_eq!(client.message().await.unwrap().0, b'1');
            [execute(""), sync()].concat()
        }
        Held::Gathered => {
            client.send(&extended("", text)).await.unwrap();
            sync().to_vec()
        }
    };
    Raw::cancel(address, client.key).await.unwrap();
    client.send(&rest).await.unwrap();
    client.answer().await.unwrap()
}

/// A request that comes while part of a unit is still here hits that unit, although its server has nothing to cancel yet.
#[tokio::test]
async fn what_its_server_has_not_got_yet() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let (address, mut client) = (proxy.address(), proxy.client().await);
    let start = clock::now();
    for held in [Held::Prepared, Held::Gathered] {
        let answer = in_two_parts(&mut client, address, held).await;
        assert_eq!((answer.code(), answer.status), ("57014", 'I'), "{held:?}");
        assert_eq!(client.value("SELECT 1").await, "1");
        // In a transaction it fails the transaction: one that its server knows, and one whose BEGIN was held back.
        for first in ["SELECT txid_current()", ""] {
            client.ok("BEGIN").await;
            if !first.is_empty() {
                client.ok(first).await;
            }
            let answer = in_two_parts(&mut client, address, held).await;
            assert_eq!((answer.code(), answer.status), ("57014", 'E'), "{held:?} {first}");
            assert_eq!(client.query("SELECT 1").await.unwrap().code(), "25P02");
            client.ok("ROLLBACK").await;
            assert_eq!(client.value("SELECT 1").await, "1");
        }
    }
    assert!(start.elapsed() < SOON);
    assert_eq!(proxy.sum("pgweir_pool_connects_total", &[]).await, 2.0, "a connection was closed for it");

    // Directly, what has all come but its Sync runs, and is cancelled, too; what was only prepared is not.
    let address = cluster.primary().address().parse().unwrap();
    let mut direct = Raw::login(address, &[]).await.unwrap();
    direct.send(&extended("", "SELECT pg_sleep(30)")).await.unwrap();
    Watch::new(cluster.primary()).await.becomes("wait_event = 'PgSleep'", 1, SOON).await;
    Raw::cancel(address, direct.key).await.unwrap();
    direct.send(&sync()).await.unwrap();
    let answer = direct.answer().await.unwrap();
    assert_eq!((answer.code(), answer.status), ("57014", 'I'));
}

/// One that comes between two units is for neither, in whatever state the client is.
#[tokio::test]
async fn nothing_between_units() {
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let mut client = proxy.client().await;
    let direct_address = cluster.primary().address().parse().unwrap();
    let mut direct = Raw::login(direct_address, &[]).await.unwrap();
    for (client, address) in [(&mut client, proxy.address()), (&mut direct, direct_address)] {
        let mut parse = BytesMut::new();
        frontend::parse("s", "SELECT pg_sleep(0.02), 7", [], &mut parse).unwrap();
        client.send(&[parse, sync()].concat()).await.unwrap();
        assert_eq!(client.answer().await.unwrap().code(), "");
        for around in ["", "BEGIN", "BEGIN; SELECT 1", "CREATE TEMP TABLE t (id int)"] {
            if !around.is_empty() {
                client.ok(around).await;
            }
            for _ in 0..5 {
                Raw::cancel(address, client.key).await.unwrap();
                client.send(&[execute("s"), sync()].concat()).await.unwrap();
                assert_eq!(client.answer().await.unwrap().code(), "", "{around}");
                Raw::cancel(address, client.key).await.unwrap();
                client.ok("SELECT pg_sleep(0.01)").await;
            }
            if around.starts_with("BEGIN") {
                Raw::cancel(address, client.key).await.unwrap();
                client.ok("COMMIT").await;
            }
        }
    }
}

/// What waits for anything is cancelled at once: for a connection, for a replica that is fresh enough, for an answer of pgweir's own.
#[tokio::test]
async fn what_waits() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    cluster.primary().sql("CREATE TABLE t AS SELECT 7 AS v").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1\nfreshness_wait = \"30s\"").await;
    proxy.reads_catalog("postgres").await;
    let address = proxy.address();
    let (mut client, mut other) = (proxy.client().await, proxy.client().await);
    let start = clock::now();
    cluster.replica(0).sql("SELECT pg_wal_replay_pause()").await.unwrap();
    client.ok("UPDATE t SET v = 7").await;
    client.send(&query("SELECT v FROM t")).await.unwrap();
    Raw::cancel(address, client.key).await.unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.code(), answer.status), ("57014", 'I'));
    cluster.replica(0).sql("SELECT pg_wal_replay_resume()").await.unwrap();
    assert_eq!(client.value("SELECT v FROM t").await, "7");

    other.ok("BEGIN").await;
    other.ok("SELECT txid_current()").await;
    client.send(&query("SELECT txid_current()")).await.unwrap();
    Raw::cancel(address, client.key).await.unwrap();
    assert_eq!(client.answer().await.unwrap().code(), "57014");
    other.ok("ROLLBACK").await;

    // The server prepares what the client has prepared elsewhere, and that takes long.
    let mut parse = BytesMut::new();
    frontend::parse("s", "SELECT v, txid_current() FROM t", [], &mut parse).unwrap();
    frontend::describe(b'S', "s", &mut parse).unwrap();
    client.send(&[parse, sync()].concat()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().code(), "");
    let watch = Watch::new(cluster.primary()).await;
    cluster
        .primary()
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres' \
        AND pid <> pg_backend_pid() AND application_name = '' AND backend_type = 'client backend'",
        )
        .await
        .unwrap();
    let mut locker = Raw::login(cluster.primary().address().parse().unwrap(), &[]).await.unwrap();
    locker.ok("BEGIN; LOCK TABLE t").await;
    client.send(&[execute("s"), sync()].concat()).await.unwrap();
    watch.becomes("wait_event_type = 'Lock'", 1, SOON).await;
    Raw::cancel(address, client.key).await.unwrap();
    assert_eq!(client.answer().await.unwrap().code(), "57014");
    locker.ok("ROLLBACK").await;
    client.send(&[execute("s"), sync()].concat()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().value(), "7");
    assert!(start.elapsed() < SOON);
}

/// A's cancels come at any moment while A and B take turns on one connection: B never hears of them.
#[tokio::test]
async fn races() {
    const ROUNDS: usize = 2000;
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let address = proxy.address();
    let (mut a, mut b) = (proxy.client().await, proxy.client().await);
    let (key, stop) = (a.key, clock::now() + Duration::from_secs(10));
    let mut others = JoinSet::new();
    let (done, ended) = tokio::sync::watch::channel(false);
    others.spawn(async move {
        let mut right = 0;
        while !*ended.borrow() {
            let answer = b.query("SELECT 2, pg_sleep(0.0001)").await.unwrap();
            assert_eq!((answer.code(), &*answer.tags), ("", "TDCZ"), "a stranger's cancel");
            right += 1;
        }
        right
    });
    let (mut rounds, mut cancelled) = (0, 0);
    while rounds < ROUNDS && clock::now() < stop {
        let parts = rounds % 2 == 0;
        if parts {
            a.send(&[&extended("", "SELECT 1, pg_sleep(0.001)")[..], &flush()].concat()).await.unwrap();
        } else {
            a.send(&query("SELECT 1, pg_sleep(0.003)")).await.unwrap();
        }
        let request = tokio::spawn(async move {
            // Not a wait for anything: a random moment is the point.
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..6000))).await;
            Raw::cancel(address, key).await
        });
        if parts {
            // Of a unit in two parts, the second comes at any moment, too.
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..3000))).await;
            a.send(&[execute(""), sync()].concat()).await.unwrap();
        }
        cancelled += usize::from(a.answer().await.unwrap().code() == "57014");
        // Half of the time the next statement does not wait for the cancel to be settled.
        if rand::random() {
            request.await.unwrap().unwrap();
        }
        rounds += 1;
    }
    done.send(true).unwrap();
    let right = others.join_next().await.unwrap().unwrap();
    let opened = proxy.sum("pgweir_pool_connects_total", &[]).await;
    println!("{rounds} rounds, {cancelled} cancelled, {right} of the other's, {opened} connections opened");
    assert!(rounds > 200 && right > 100, "too slow to show anything");
}

/// The long key of protocol 3.2: all of it counts, and it cancels.
#[tokio::test]
async fn by_a_long_key() {
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let address = proxy.address().to_string();
    let watch = Watch::new(cluster.primary()).await;
    let mut wire = Wire::connect(&address).await;
    let names = [("user", "postgres"), ("database", "postgres")];
    let heard = wire.exchange(&[&startup(0x0003_0002, &names)], Until::Tags(b'Z', 1)).await;
    let key = heard.into_iter().find(|message| message.tag == b'K').unwrap().body;
    assert_eq!(key.len(), 4 + 32);
    wire.exchange(&[&query("SELECT pg_sleep(30)")], Until::Sent).await;
    watch.becomes("wait_event = 'PgSleep'", 1, SOON).await;
    let ask = async |key: &[u8]| {
        let request = packet(80_877_102, key);
        Wire::connect(&address).await.exchange(&[&request], Until::Closed).await
    };
    let mut wrong = key.clone();
    *wrong.last_mut().unwrap() ^= 1;
    for wrong in
        [&wrong[..], &key[..8], &key[..35], &[&key[..], &[0]].concat(), &[&key[..], &[0; 224]].concat()]
    {
        assert_eq!(ask(wrong).await, [Message::CLOSED]);
    }
    assert_eq!(watch.count("wait_event = 'PgSleep'").await, 1, "a wrong key has cancelled");
    assert_eq!(ask(&key).await, [Message::CLOSED]);
    let heard = wire.exchange(&[], Until::Tags(b'Z', 1)).await;
    let codes: Vec<_> =
        heard.iter().filter(|message| message.tag == b'E').map(|error| error.field(b'C')).collect();
    assert_eq!(codes, [Some("57014".to_owned())]);
}

/// Many clients on few connections, some of which cancel what they run at any moment: the others never hear of it.
async fn race(races: usize, within: Duration) {
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 4").await;
    let address = proxy.address();
    let stop = clock::now() + within;
    let mut tasks = JoinSet::new();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for number in 0..200 {
        let mut client = proxy.client().await;
        let asked = asked.clone();
        tasks.spawn(async move {
            use std::sync::atomic::Ordering::Relaxed;
            let cancels = number % 10 == 0 || number % 20 == 5;
            let (mut cancelled, mut rounds) = (0, 0);
            while asked.load(Relaxed) < races && clock::now() < stop {
                let text = match number % 20 {
                    0 | 10 => "SELECT 1, pg_sleep(0.003), txid_current()",
                    // On connections that several share.
                    5..8 => "SELECT 3",
                    _ => "SELECT 2, txid_current()",
                };
                client.send(&query(text)).await.unwrap();
                let key = client.key;
                let answer = {
                    // One request behind the other until the answer is there: the last ones come too late.
                    let mut answer = std::pin::pin!(client.answer());
                    loop {
                        tokio::select! {
                            biased;
                            answer = &mut answer => break answer.unwrap(),
                            request = async {
                                // Half of them come at any moment, also while a server is at work; the others as soon as they can.
                                if rand::random() {
                                    tokio::time::sleep(Duration::from_micros(rand::random_range(0..20_000))).await;
                                }
                                // One that the answer overtakes may hit, too.
                                asked.fetch_add(1, Relaxed);
                                Raw::cancel(address, key).await
                            }, if cancels => request.unwrap(),
                        }
                    }
                };
                match answer.code() {
                    "" => assert_eq!(&*answer.tags, "TDCZ"),
                    "57014" if cancels => cancelled += 1,
                    code => panic!("client {number}: {code}"),
                }
                rounds += 1;
            }
            (cancelled, rounds)
        });
    }
    let (mut cancelled, mut rounds) = (0, 0);
    for (some, more) in tasks.join_all().await {
        (cancelled, rounds) = (cancelled + some, rounds + more);
    }
    let asked = asked.load(std::sync::atomic::Ordering::Relaxed);
    println!("{asked} cancel requests, {cancelled} hit, in {rounds} statements");
    assert!((asked >= races || asked > 1000) && cancelled > 10, "too slow to show anything");
    assert!(cancelled <= asked, "one request has hit several statements");
}

/// On two free cores 100,000 take about 25 seconds; a busy machine gets more time.
#[tokio::test]
async fn many_races() {
    race(100_000, Duration::from_secs(75)).await;
}

#[tokio::test]
#[ignore = "takes many minutes"]
async fn a_million_races() {
    race(1_000_000, Duration::from_secs(3600)).await;
}

/// Linux gives no process a number of 2^22 or more.
#[tokio::test]
async fn the_number_that_a_client_is_told_is_no_process() {
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "").await;
    for _ in 0..1000 {
        let client = proxy.client().await;
        assert!(client.key.0 >= 1 << 22, "{:?}", client.key);
    }
    let mut client = proxy.client().await;
    let ended = client.value(&format!("SELECT pg_terminate_backend({}), 1", client.key.0)).await;
    assert_eq!(ended, "f");
    assert_eq!(client.value("SELECT 1").await, "1");
}
