//! A cancel request ends the statement it was meant for, and never anything else.

use std::time::Duration;

use pgweir::clock;
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, Watch, cluster};
use crate::raw::{Raw, query};

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
