//! Rules, modes and hints move reads, and nothing but reads.

use std::collections::BTreeMap;

use pgweir::cli::demo::cluster::Cluster;

use crate::proxy::{Proxy, SOON, cluster};
use crate::raw::{Raw, extended, query, sync};

async fn started(settings: impl Fn(&Cluster) -> String) -> (Cluster, Proxy) {
    let cluster = cluster().replicas(2).start().await.unwrap();
    let schema = "CREATE TABLE photos (id int PRIMARY KEY, votes int); INSERT INTO photos VALUES (1, 0); \
        CREATE TABLE secret (id int); CREATE FUNCTION report() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'; \
        CREATE FUNCTION votes() RETURNS int LANGUAGE plpgsql AS 'BEGIN UPDATE photos SET votes = votes + 1; RETURN 1; END'; \
        CREATE ROLE reports LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO reports";
    cluster.primary().sql(schema).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, &settings(&cluster)).await;
    (cluster, proxy)
}

/// The port that a statement runs on.
const PORT: &str = "SELECT current_setting('port') /* of this server */";

async fn port(client: &mut Raw, text: &str) -> u16 {
    client.value(text).await.parse().unwrap()
}

#[tokio::test]
async fn reports_go_to_their_server_and_hints_narrow() {
    let (cluster, proxy) = started(|cluster| {
        format!(
            "[[databases.postgres.rules]]\nname = \"reports\"\nmatch = {{ user = \"reports\" }}\n\
             route = {{ servers = [\"{}\"] }}\n\
             [[databases.postgres.rules]]\nname = \"no secrets\"\nmatch = {{ tables = \"secret\" }}\n\
             route = {{ reject = \"nobody reads this\" }}\n\
             [[databases.postgres.rules]]\nmatch = {{ functions = \"report\" }}\nroute = {{ to = \"primary\" }}\n",
            cluster.replica(1).address()
        )
    })
    .await;
    let [primary, last] = [cluster.primary().port(), cluster.replica(1).port()];
    let mut reports = Raw::login(proxy.address(), &[("user", "reports")]).await.unwrap();
    let mut other = proxy.client().await;
    for _ in 0..20 {
        assert_eq!(port(&mut reports, PORT).await, last);
        assert_ne!(port(&mut other, PORT).await, primary);
        assert_eq!(port(&mut other, &format!("/* pgweir: primary */ {PORT}")).await, primary);
        assert_eq!(port(&mut other, &format!("{PORT}; -- pgweir: primary")).await, primary);
        assert_eq!(port(&mut other, "SELECT current_setting('port') WHERE report() = 1").await, primary);
    }
    // A hint moves no write, and nor does a rule.
    let answer = other.query("/* pgweir: replica */ UPDATE photos SET votes = votes + 1").await.unwrap();
    assert_eq!(answer.errors, []);
    assert_eq!(other.query("/* pgweir: replica */ SELECT votes()").await.unwrap().errors, []);
    assert_eq!(reports.query("UPDATE photos SET votes = votes + 1").await.unwrap().errors, []);
    assert_eq!(cluster.primary().value("SELECT votes FROM photos").await.unwrap(), "3");
    // Refused: reads, writes, behind others, and in a transaction, which fails.
    for text in ["SELECT * FROM secret", "DELETE FROM secret"] {
        let refused = other.query(text).await.unwrap();
        assert_eq!((refused.code(), refused.status), ("42501", 'I'));
        assert_eq!(refused.errors[0].message, "nobody reads this");
    }
    other
        .send(&[&query("SELECT 1")[..], &query("SELECT * FROM secret"), &query("SELECT 2")].concat())
        .await
        .unwrap();
    let codes = [other.answer().await.unwrap(), other.answer().await.unwrap(), other.answer().await.unwrap()];
    assert_eq!(codes.map(|answer| answer.code().to_owned()), ["", "42501", ""]);
    other.ok("BEGIN; SELECT 1").await;
    let refused = other.query("SELECT * FROM secret").await.unwrap();
    assert_eq!((refused.code(), refused.status), ("42501", 'E'));
    other.ok("ROLLBACK").await;
    // Its server is away: the primary.
    cluster.replica(1).kill().await.unwrap();
    proxy.knows(2).await;
    assert_eq!(port(&mut reports, PORT).await, primary);
}

#[tokio::test]
async fn opt_in_moves_what_asks_for_it() {
    let (cluster, proxy) = started(|_| {
        "[[databases.postgres.rules]]\nmatch = { tables = \"photos\" }\nroute = { to = \"replica\" }\n\
         [databases.postgres.reads]\nmode = \"opt_in\"\n"
            .to_owned()
    })
    .await;
    let primary = cluster.primary().port();
    let mut client = proxy.client().await;
    assert_eq!(port(&mut client, PORT).await, primary);
    assert_ne!(port(&mut client, &format!("/* pgweir: replica */ {PORT}")).await, primary);
    assert_ne!(port(&mut client, "SELECT current_setting('port') FROM photos").await, primary);
    assert_eq!(proxy.sum("pgweir_rule_hits_total", &[]).await as u32, 1);
    assert_eq!(proxy.sum("pgweir_units_total", &["reason=\"not_opted_in\""]).await as u32, 1);
}

/// The counts of a metric by reason, of those that go to replicas.
async fn by_reason(proxy: &Proxy, name: &str, label: &str) -> BTreeMap<String, u64> {
    let text = proxy.metrics().await;
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    lines
        .map(|line| {
            let reason = line.split_once("reason=\"").unwrap().1.split_once('"').unwrap().0;
            (reason.to_owned(), line.rsplit_once(' ').unwrap().1.parse().unwrap())
        })
        .collect()
}

/// A few hundred statements as applications send them, run one after the other.
async fn trace(proxy: &Proxy) {
    let mut client = proxy.client().await;
    for n in 0..40 {
        for text in [
            format!("SELECT votes FROM photos WHERE id = {n}"),
            "UPDATE photos SET votes = votes + 1 WHERE id = 1".to_owned(),
            "SELECT report()".to_owned(),
            "SELECT votes()".to_owned(),
            "SELECT * FROM photos FOR UPDATE".to_owned(),
            "/* pgweir: primary */ SELECT 1".to_owned(),
            "BEGIN READ ONLY".to_owned(),
            "SELECT count(*) FROM photos".to_owned(),
            "COMMIT".to_owned(),
            "BEGIN".to_owned(),
            "SELECT count(*) FROM photos".to_owned(),
            "COMMIT".to_owned(),
            "COPY photos TO STDOUT".to_owned(),
            "SHOW server_version".to_owned(),
            "SELECT 1; SELECT 2".to_owned(),
            "SELECT nonsense".to_owned(),
        ] {
            client.query(&text).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_observing_reports_is_what_then_happens() {
    let mode = |mode: &str| format!("[databases.postgres.reads]\nmode = \"{mode}\"\n");
    let (cluster, observing) = started(|_| mode("observe")).await;
    trace(&observing).await;
    let would = by_reason(&observing, "pgweir_would_move_total", "").await;
    assert_eq!(observing.sum("pgweir_units_total", &["target=\"replica\""]).await as u64, 0);
    drop(observing);
    let auto = Proxy::start(&cluster, &mode("auto")).await;
    trace(&auto).await;
    let moved = by_reason(&auto, "pgweir_units_total", "target=\"replica\"").await;
    assert_eq!(would, moved);
    assert!(moved.values().sum::<u64>() >= 40 * 8, "{moved:?}");
}

#[tokio::test]
async fn a_rule_says_how_long_a_unit_may_run() {
    let (cluster, proxy) = started(|_| {
        "[[databases.postgres.rules]]\nname = \"quick\"\nmatch = { query = \"be quick\" }\n\
         route = { timeout = \"300ms\" }\n"
            .to_owned()
    })
    .await;
    let mut client = proxy.client().await;
    let slow = "SELECT pg_sleep(30) /* be quick */";
    for _ in 0..3 {
        let answer = client.query(slow).await.unwrap();
        assert_eq!((answer.code(), answer.status), ("57014", 'I'), "{answer:?}");
        assert!(answer.tags.starts_with('N'), "a notice says why: {answer:?}");
        assert_eq!(client.value("SELECT 1 /* be quick */").await, "1");
    }
    let timed_out = || async { proxy.sum("pgweir_rule_timeouts_total", &["rule=\"quick\""]).await as usize };
    assert_eq!(timed_out().await, 3);
    // Each unit of a pipeline has its own time, from when the one before it is answered. (What stands behind a cancelled one may be
    // hit as well, as without pgweir: PostgreSQL signals the backend twice, as a process and as a group.)
    for last in [query(slow), [extended("", slow), sync()].concat()[..].into()] {
        client.send(&[&query("SELECT pg_sleep(0.5)")[..], &query("SELECT 7"), &last].concat()).await.unwrap();
        for code in ["", "", "57014"] {
            assert_eq!(client.answer().await.unwrap().code(), code);
        }
    }
    assert_eq!(timed_out().await, 5);
    // In a transaction it fails that.
    client.ok("BEGIN").await;
    client.ok("INSERT INTO photos VALUES (2, 0)").await;
    let answer = client.query(slow).await.unwrap();
    assert_eq!((answer.code(), answer.status), ("57014", 'E'));
    assert_eq!(client.query("SELECT 1").await.unwrap().code(), "25P02");
    client.ok("ROLLBACK").await;
    assert_eq!(cluster.primary().value("SELECT count(*) FROM photos").await.unwrap(), "1");
    assert_eq!(timed_out().await, 6);
}
