//! A cancel request ends the statement it was meant for, and never anything else.

use std::time::Duration;

use pgweir::clock;
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, Watch, cluster};
use crate::raw::{Raw, query};
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
        a.send(&query("SELECT 1, pg_sleep(0.003)")).await.unwrap();
        let request = tokio::spawn(async move {
            // Not a wait for anything: a random moment is the point.
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..6000))).await;
            Raw::cancel(address, key).await
        });
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
                            request = Raw::cancel(address, key), if cancels => {
                                request.unwrap();
                                asked.fetch_add(1, Relaxed);
                            }
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
