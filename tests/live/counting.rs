//! What the metrics say after a known sequence is what happened.

use crate::proxy::{Proxy, SOON, cluster, sum};
use crate::raw::{Raw, extended, flush, query, sync};

/// Statements, where they go and why.
const TEXTS: [(&str, &str, &str); 10] = [
    ("SELECT 1", "replica", "read"),
    ("SELECT count(*) FROM t", "replica", "read"),
    ("INSERT INTO t VALUES (1)", "primary", "write"),
    ("SELECT * FROM t FOR UPDATE", "primary", "lock"),
    ("SELECT 1/0", "replica", "read"),
    ("no statement", "primary", "unknown_statement"),
    ("BEGIN", "primary", "begin"),
    ("SELECT 2", "primary", "in_transaction"),
    ("COMMIT", "primary", "in_transaction"),
    ("SELECT repeat('x', 200000)", "replica", "read"),
];

#[tokio::test]
async fn units_errors_and_bytes() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    cluster.primary().sql("CREATE TABLE t (id int)").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 2").await;
    let mut client = Raw::login(proxy.address(), &[]).await.unwrap();
    let before = proxy.metrics().await;
    let (mut sent, mut received) = (0, 0);
    let mut units: Vec<(&str, &str)> = Vec::new();
    let mut bytes = Vec::new();
    for (text, target, reason) in TEXTS {
        bytes.push((query(text), 1));
        units.push((target, reason));
    }
    bytes.push(([extended("", "SELECT 3"), sync()].concat()[..].into(), 1));
    units.push(("replica", "read"));
    bytes.push(([extended("", "SELECT 4"), flush(), sync()].concat()[..].into(), 1));
    units.push(("primary", "flush"));
    bytes.push(([query("SELECT 5"), query("SELECT 6")].concat()[..].into(), 2));
    units.extend([("replica", "read"), ("replica", "pipelined")]);
    for (part, readies) in &bytes {
        client.send(part).await.unwrap();
        sent += part.len();
        let mut left = *readies;
        while left > 0 {
            let (tag, body) = client.message().await.unwrap();
            received += body.len() + 5;
            left -= usize::from(tag == b'Z');
        }
    }
    // What is written is counted a moment after the client may have read it.
    let out = "direction=\"client_out\"";
    let counted = sum(&before, "pgweir_bytes_total", &[out]) + received as f64;
    proxy.becomes("pgweir_bytes_total", &[out], counted).await;
    let after = proxy.metrics().await;
    let grown = |name: &str, labels: &[&str]| sum(&after, name, labels) - sum(&before, name, labels);
    for &(target, reason) in &units {
        let expected = units.iter().filter(|unit| **unit == (target, reason)).count();
        let labels = [&*format!("target=\"{target}\""), &*format!("reason=\"{reason}\"")];
        assert_eq!(grown("pgweir_units_total", &labels) as usize, expected, "{labels:?}\n{after}");
    }
    assert_eq!(grown("pgweir_units_total", &[]) as usize, units.len());
    // The BEGIN travels with the unit behind it.
    assert_eq!(grown("pgweir_query_seconds_count", &[]) as usize, units.len() - 1);
    assert_eq!(grown("pgweir_server_units_total", &[]) as usize, units.len() - 1);
    assert_eq!(sum(&after, "pgweir_server_running", &[]) as usize, 0);
    assert_eq!(grown("pgweir_errors_total", &["class=\"22\"", "origin=\"server\""]) as usize, 1);
    assert_eq!(grown("pgweir_errors_total", &["class=\"42\"", "origin=\"server\""]) as usize, 1);
    assert_eq!(grown("pgweir_errors_total", &[]) as usize, 2);
    // It goes as Parse, Bind and Execute, and no ReadyForQuery answers it.
    let (asks, answers) = (sent + 26, received + 4);
    for (direction, expected) in
        [("client_in", sent), ("client_out", received), ("server_out", asks), ("server_in", answers)]
    {
        let label = format!("direction=\"{direction}\"");
        assert_eq!(grown("pgweir_bytes_total", &[&label]) as usize, expected, "{direction}");
    }
}

/// Two work, one waits; then nobody.
#[tokio::test]
async fn pools_and_clients() {
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 2").await;
    let (mut a, mut b, mut c) = (proxy.client().await, proxy.client().await, proxy.client().await);
    a.ok("BEGIN; SELECT 1").await;
    b.ok("BEGIN; SELECT 1").await;
    let before = sent_and_received(&proxy).await;
    c.send(&query("COMMIT")).await.unwrap();
    proxy.becomes("pgweir_pool_waiting_clients", &[], 1.0).await;
    proxy.becomes("pgweir_pool_servers", &["state=\"active\""], 2.0).await;
    proxy.becomes("pgweir_clients", &[], 3.0).await;
    c.send(&query("SELECT 1")).await.unwrap();
    a.ok("COMMIT").await;
    assert_eq!(c.answer().await.unwrap().tags, "NCZ");
    assert_eq!(c.answer().await.unwrap().value(), "1");
    b.ok("COMMIT").await;
    let after = sent_and_received(&proxy).await;
    let expected = query("COMMIT").len() * 3 + query("SELECT 1").len();
    assert_eq!((after.0 - before.0) as usize, expected, "bytes that came while the client waited");
    proxy.becomes("pgweir_pool_servers", &["state=\"active\""], 0.0).await;
    proxy.becomes("pgweir_pool_waiting_clients", &[], 0.0).await;
    let primary = format!("server=\"{}\"", cluster.primary().address());
    proxy.becomes("pgweir_pool_servers", &["state=\"idle\"", &primary], 2.0).await;
    drop((a, b, c));
    proxy.becomes("pgweir_clients", &[], 0.0).await;
}

async fn sent_and_received(proxy: &Proxy) -> (f64, f64) {
    let text = proxy.metrics().await;
    let bytes = |direction: &str| sum(&text, "pgweir_bytes_total", &[&format!("direction=\"{direction}\"")]);
    (bytes("client_in"), bytes("client_out"))
}
