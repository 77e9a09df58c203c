//! Prepared statements without pins: each client has its own names, and any server connection runs them.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pgweir::cli::demo::cluster::{Cluster, eventually};
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, cluster};
use crate::raw::Raw;
use crate::wire::{bind, close, describe, execute, parse, sync};

/// What a server connection has of clients' statements, asked on the primary, and by a view: a text that names
/// `pg_prepared_statements` would be told of the client's own.
const THERE: &str = "SELECT count(*), txid_current() FROM there WHERE NOT from_sql";

async fn start(settings: &str) -> (Cluster, Proxy) {
    let cluster = cluster().replicas(2).start().await.unwrap();
    let sql =
        "CREATE TABLE t (id int PRIMARY KEY, what text); CREATE VIEW there AS TABLE pg_prepared_statements";
    cluster.primary().sql(sql).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, settings).await;
    (cluster, proxy)
}

async fn prepare(client: &mut Raw, name: &str, text: &str) -> String {
    client.send(&[parse(name, text), sync()].concat()).await.unwrap();
    client.answer().await.unwrap().code().to_owned()
}

/// The value, or the SQLSTATE of the error.
async fn run(client: &mut Raw, name: &str, values: &[&str]) -> String {
    client.send(&[bind("", name, values), execute("", 0), sync()].concat()).await.unwrap();
    let answer = client.answer().await.unwrap();
    if answer.errors.is_empty() { answer.value().to_owned() } else { answer.code().to_owned() }
}

/// Each client means something else by the names that all of them use, and some of it is the same.
#[tokio::test]
async fn fifty_clients_on_two_connections() {
    let (_cluster, proxy) = start("pool_size = 2\nmax_prepared_statements = 20").await;
    let done = std::sync::Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for number in 0..50usize {
        let mut client = proxy.client().await;
        let done = done.clone();
        clients.spawn(async move {
            // Reads go to the replicas, the others to the primary; what stands in the text tells whose it is.
            let text = |nth: usize| match nth % 3 {
                0 => format!("SELECT '{number}:{nth}:' || $1::text"),
                1 => format!("SELECT '{number}:{nth}:' || $1::text FROM (SELECT txid_current()) t"),
                _ => format!("SELECT 'all:{nth}:' || $1::text"),
            };
            for nth in 0..6 {
                assert_eq!(prepare(&mut client, &format!("s{nth}"), &text(nth)).await, "");
            }
            for round in 0..40 {
                let nth = (round * 7 + number) % 6;
                let whose = if nth % 3 == 2 { "all".to_owned() } else { number.to_string() };
                let value = run(&mut client, &format!("s{nth}"), &[&round.to_string()]).await;
                assert_eq!(value, format!("{whose}:{nth}:{round}"));
                if round % 10 == 9 {
                    client.send(&[close('S', &format!("s{nth}")), sync()].concat()).await.unwrap();
                    client.answer().await.unwrap();
                    assert_eq!(run(&mut client, &format!("s{nth}"), &["x"]).await, "26000");
                    assert_eq!(prepare(&mut client, &format!("s{nth}"), &text(nth)).await, "");
                }
                done.fetch_add(1, Relaxed);
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert_eq!(done.load(Relaxed), 50 * 40);
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await, 0.0);
    let there: usize = proxy.client().await.value(THERE).await.parse().unwrap();
    assert!((1..=20).contains(&there), "{there} statements on a connection");
    let connected = proxy.sum("pgweir_pool_connects_total", &[]).await;
    assert!(connected <= 6.0, "{connected} server connections");
}

#[tokio::test]
async fn the_least_recently_used_makes_room() {
    let (_cluster, proxy) = start("pool_size = 1\nmax_prepared_statements = 3").await;
    let mut client = proxy.client().await;
    for nth in 0..10 {
        let text = format!("SELECT {nth} FROM (SELECT txid_current()) t");
        assert_eq!(prepare(&mut client, &format!("s{nth}"), &text).await, "");
    }
    for nth in [0, 9, 0, 5, 0, 4, 4, 0] {
        assert_eq!(run(&mut client, &format!("s{nth}"), &[]).await, nth.to_string());
    }
    assert_eq!(client.value(THERE).await, "3");
    // All in one unit: each Bind finds its own.
    let units: Vec<_> =
        (0..10).map(|nth| [bind("", &format!("s{nth}"), &[]), execute("", 0)].concat()).collect();
    client.send(&[units.concat(), sync()].concat()).await.unwrap();
    let answer = client.answer().await.unwrap();
    let values: Vec<_> = answer.rows.iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(values, (0..10).map(|nth| nth.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_name_is_nobody_elses() {
    let (_cluster, proxy) = start("pool_size = 1").await;
    let (mut one, mut other) = (proxy.client().await, proxy.client().await);
    let text = "SELECT count(*) FROM t, (SELECT txid_current()) x";
    assert_eq!(prepare(&mut one, "s", text).await, "");
    assert_eq!(run(&mut other, "s", &[]).await, "26000");
    assert_eq!(other.query("EXECUTE s").await.unwrap().code(), "26000");
    assert_eq!(prepare(&mut other, "s", "SELECT 'other'").await, "");
    assert_eq!(
        (run(&mut one, "s", &[]).await, run(&mut other, "s", &[]).await),
        ("0".into(), "other".into())
    );
    // The same statement by another name is one on the server.
    assert_eq!(prepare(&mut other, "same", text).await, "");
    assert_eq!(run(&mut other, "same", &[]).await, "0");
    assert_eq!(one.value(THERE).await, "1");
    // One drops it, by whatever means; the other has it still.
    for drops in ["DEALLOCATE same", "DEALLOCATE ALL"] {
        other.ok(drops).await;
        assert_eq!(run(&mut other, "same", &[]).await, "26000", "{drops}");
        assert_eq!(run(&mut one, "s", &[]).await, "0", "{drops}");
        assert_eq!(one.value("EXECUTE s").await, "0", "{drops}");
        assert_eq!(prepare(&mut other, "same", text).await, "");
    }
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await, 0.0);
}

/// What a text drops within a function or a block nobody sees; others have theirs still.
#[tokio::test]
async fn what_is_dropped_unseen_is_nobody_elses() {
    let (_cluster, proxy) = start("pool_size = 1").await;
    let (mut one, mut other) = (proxy.client().await, proxy.client().await);
    let text = "SELECT count(*) FROM t, (SELECT txid_current()) x";
    assert_eq!(prepare(&mut one, "s", text).await, "");
    assert_eq!(run(&mut one, "s", &[]).await, "0");
    let one_of_them = "SELECT name FROM pg_prepared_statements WHERE NOT from_sql LIMIT 1";
    let drops = format!("EXECUTE 'DEALLOCATE ' || quote_ident(({one_of_them}))");
    let function =
        format!("CREATE FUNCTION d() RETURNS int LANGUAGE plpgsql AS $$ BEGIN {drops}; RETURN 1; END $$");
    other.ok(&function).await;
    for sent in [
        "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$",
        &format!("DO $$ BEGIN {drops}; END $$"),
        "SELECT d()",
        "BEGIN; SELECT d(); COMMIT",
    ] {
        // So that either may be the one that goes.
        assert_eq!(prepare(&mut other, sent, "SELECT txid_current() > 0").await, "");
        assert_eq!(run(&mut other, sent, &[]).await, "t");
        assert!(other.query(sent).await.unwrap().errors.is_empty(), "{sent}");
        assert_eq!(run(&mut one, "s", &[]).await, "0", "{sent}");
        assert_eq!(run(&mut other, sent, &[]).await, "t", "{sent}");
    }
}

/// Waits until a text has another value than that.
async fn leaves(client: &mut Raw, text: &str, value: &str) {
    let other = async { while client.value(text).await == value {} };
    tokio::time::timeout(SOON, other).await.expect("it stays where it is");
}

/// EXECUTE in SQL does what was prepared: it goes where that goes.
#[tokio::test]
async fn execute_goes_where_its_statement_goes() {
    let (cluster, proxy) = start("").await;
    let mut client = proxy.client().await;
    let port = "current_setting('port') /* of this server */";
    assert_eq!(prepare(&mut client, "r", &format!("SELECT {port} || $1::text")).await, "");
    assert_eq!(
        prepare(&mut client, "w", &format!("INSERT INTO t VALUES ($1::int) RETURNING {port}")).await,
        ""
    );
    let primary = cluster.primary().port().to_string();
    for round in 1..20 {
        let read = client.value("EXECUTE r('')").await;
        assert_ne!(read, primary);
        assert_eq!(client.value(&format!("EXECUTE w({round})")).await, primary);
        // What is computed for a parameter may be anything.
        assert_eq!(client.value("EXECUTE r(lower(''))").await, primary);
        assert_eq!(client.value("/* pgweir: primary */ EXECUTE r('')").await, primary);
    }
    client.ok("BEGIN").await;
    assert_eq!(client.value("EXECUTE r('')").await, primary);
    client.ok("COMMIT").await;
    // So does what SQL has prepared.
    client.ok(&format!("PREPARE p AS SELECT {port}")).await;
    leaves(&mut client, "EXECUTE p", &primary).await;
    client.ok("DEALLOCATE p").await;
    assert_eq!(client.query("EXECUTE p").await.unwrap().code(), "26000");
    client.ok("BEGIN").await;
    client.ok(&format!("PREPARE p AS SELECT {port}")).await;
    assert_eq!(client.value("EXECUTE p").await, primary);
    client.ok("COMMIT").await;
    leaves(&mut client, "EXECUTE p", &primary).await;
    // One of several statements stays where it was.
    client.ok(&format!("BEGIN; PREPARE q AS SELECT {port}; COMMIT")).await;
    assert_eq!(client.value("EXECUTE q").await, primary);
    client.ok("DEALLOCATE q").await;
    leaves(&mut client, "EXECUTE p", &primary).await;
    client.ok("DEALLOCATE p").await;
    assert_eq!(client.query("EXECUTE p").await.unwrap().code(), "26000");
    // One that only the primary knows of yet runs there, unseen.
    client.ok("CREATE TABLE late AS SELECT 5 AS n").await;
    assert_eq!(prepare(&mut client, "late", "SELECT n FROM late").await, "");
    assert_eq!(client.value("EXECUTE late").await, "5");
    assert_eq!(proxy.sum("pgweir_errors_total", &[]).await as usize, 2);
}

/// Units of messages about statements: `make NAME TEXT`, `run NAME`, `close NAME`; `-` is the unnamed one.
const NAMING: [&[&str]; 9] = [
    &["make - EXECUTE s ('a') | run -", "make e EXECUTE s ('a') | run e | close e"],
    // In several units.
    &["make - EXECUTE s ('b')", "run -", "run -", "make e EXECUTE s ('b')", "run e", "run e", "close e"],
    // What its name means when it runs.
    &[
        "make e EXECUTE n",
        "make n SELECT 1",
        "run e",
        "close n | make n SELECT 2",
        "run e",
        "close n",
        "run e",
    ],
    &[
        "make d DEALLOCATE n",
        "make n SELECT 1",
        "run n",
        "run d",
        "run n",
        "run d",
        "make n SELECT 2",
        "run n",
    ],
    &["make - DEALLOCATE n | run -", "run n", "close d", "run d", "close e", "run e"],
    &["make m PREPARE made (int) AS SELECT $1 + 1", "run m", "make e EXECUTE made (6)", "run e", "run m"],
    &["make - DEALLOCATE made | run -", "run e", "close m | close e"],
    &[
        "make - EXECUTE nobody",
        "run -",
        "make e EXECUTE s (",
        "make e EXECUTE s ('a', 'b')",
        "run e",
        "close e",
    ],
    &[
        "make b BEGIN",
        "run b",
        "make e EXECUTE s ('c')",
        "run e",
        "make - SELECT 1/0 | run -",
        "run e",
        "make - ROLLBACK | run -",
        "run e",
        "close e | close b",
    ],
];

fn naming(unit: &str) -> Vec<u8> {
    let message = |text: &str| {
        let (what, rest) = text.split_once(' ').unwrap();
        let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let name = if name == "-" { "" } else { name };
        match what {
            "make" => [parse(name, text), describe('S', name)].concat(),
            "run" => [bind("", name, &[]), describe('P', ""), execute("", 0)].concat(),
            _ => close('S', name),
        }
    };
    unit.split(" | ").flat_map(message).chain(sync()).collect()
}

/// EXECUTE, DEALLOCATE and PREPARE as statements of the protocol name the same statements as its messages do, when they run, and
/// not when they are parsed. All is as without pgweir, on whatever connection.
#[tokio::test]
async fn texts_that_name_statements_by_the_protocol() {
    let (cluster, proxy) = start("pool_size = 2").await;
    let mut direct = Raw::login(cluster.primary().address().parse().unwrap(), &[]).await.unwrap();
    let (mut through, mut other) = (proxy.client().await, proxy.client().await);
    for client in [&mut direct, &mut through] {
        assert_eq!(prepare(client, "s", "SELECT $1::text || '!', txid_current() > 0").await, "");
    }
    for round in 0..2 {
        for unit in NAMING.iter().flat_map(|units| units.iter()) {
            let mut answers = Vec::new();
            for client in [&mut direct, &mut through] {
                client.send(&naming(unit)).await.unwrap();
                let answer = client.answer().await.unwrap();
                let code = answer.code().to_owned();
                answers.push((answer.tags, code, answer.rows, answer.status));
            }
            assert_eq!(answers[1], answers[0], "{round} {unit}");
        }
        // The connection that has all this is somebody else's then.
        if round == 0 {
            other.ok("BEGIN").await;
            other.ok("SELECT txid_current()").await;
        }
    }
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await, 0.0);
}

/// PREPARE in SQL: each client has its own names, two connections are enough for all, and a lookup path is that of the
/// PREPARE.
#[tokio::test]
async fn fifty_clients_prepare_by_sql() {
    let (_cluster, proxy) = start("pool_size = 2\nmax_prepared_statements = 20").await;
    let mut clients = JoinSet::new();
    for number in 0..50usize {
        let mut client = proxy.client().await;
        clients.spawn(async move {
            let types = ["(text)", "(varchar)", ""][number % 3];
            client.ok(&format!("PREPARE r {types} AS SELECT '{number}:' || $1::text")).await;
            client.ok(&format!("PREPARE \"Own {number}\" (int, int) AS INSERT INTO t VALUES ({number} * 1000 + $1 + $2) RETURNING id;")).await;
            for round in 0..20 {
                assert_eq!(client.value(&format!("EXECUTE r ('{round}')")).await, format!("{number}:{round}"));
                let id = client.value(&format!("EXECUTE \"Own {number}\" ({round}, 1)")).await;
                assert_eq!(id, (number * 1000 + round + 1).to_string());
                // By the protocol it is the same one.
                assert_eq!(run(&mut client, "r", &["x"]).await, format!("{number}:x"));
            }
            assert_eq!(client.query("PREPARE r AS SELECT 1").await.unwrap().code(), "42P05");
            client.ok("DEALLOCATE r").await;
            assert_eq!(client.query("EXECUTE r ('1')").await.unwrap().code(), "26000");
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await, 0.0);
    let connected = proxy.sum("pgweir_pool_connects_total", &[]).await;
    assert!(connected <= 6.0, "{connected} server connections");
    let left = "SELECT count(*), txid_current() FROM there WHERE from_sql";
    assert_eq!(proxy.client().await.value(left).await, "0");
}

/// Tables get other columns while a hundred clients run what they have prepared: who is told the columns with the rows does
/// not notice.
#[tokio::test]
async fn a_migration_under_prepared_statements() {
    let (cluster, proxy) = start("pool_size = 4").await;
    cluster.primary().sql("INSERT INTO t SELECT n, 'what' FROM generate_series(1, 100) n").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let stop = std::sync::Arc::new(AtomicUsize::new(0));
    let rounds = std::sync::Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for number in 1..=100 {
        let (mut client, stop) = (proxy.client().await, stop.clone());
        let rounds = rounds.clone();
        clients.spawn(async move {
            assert_eq!(prepare(&mut client, "r", "SELECT id, what FROM t WHERE id = $1").await, "");
            assert_eq!(
                prepare(&mut client, "w", "UPDATE t SET what = 'what' WHERE id = $1 RETURNING what").await,
                ""
            );
            while stop.load(Relaxed) == 0 {
                for name in ["r", "w", "r", "r"] {
                    let unit =
                        [bind("", name, &[&number.to_string()]), describe('P', ""), execute("", 0), sync()]
                            .concat();
                    client.send(&unit).await.unwrap();
                    let answer = client.answer().await.unwrap();
                    assert_eq!((answer.errors.len(), answer.rows.len()), (0, 1), "{name}: {answer:?}");
                    assert_eq!(answer.tags, "2TDCZ");
                }
                rounds.fetch_add(1, Relaxed);
            }
        });
    }
    let outlived = || async { proxy.sum("pgweir_reruns_total", &["cause=\"outlived\""]).await };
    let (start, mut changes) = (outlived().await, 0);
    // Where a statement is prepared anew for one change just when the next has been made, nobody notices that one.
    while outlived().await < start + 4.0 {
        assert!(changes < 50, "{} {}", rounds.load(Relaxed), proxy.metrics().await);
        let change = ["TYPE varchar(100)", "TYPE text"][changes % 2];
        let text =
            format!("ALTER TABLE t ADD COLUMN more{changes} int; ALTER TABLE t ALTER COLUMN what {change}");
        let (noticed, done) = (outlived().await, rounds.load(Relaxed));
        cluster.primary().sql(&text).await.unwrap();
        changes += 1;
        let goes_on = async || outlived().await > noticed || rounds.load(Relaxed) > done + 300;
        eventually(SOON, goes_on).await.unwrap();
    }
    stop.store(1, Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert_eq!(proxy.sum("pgweir_errors_total", &[]).await as usize, 0, "{}", proxy.metrics().await);
}

/// Who was told the columns before hears what PostgreSQL says, once, and can prepare it again.
#[tokio::test]
async fn a_migration_under_who_knows_the_columns() {
    let (cluster, proxy) = start("pool_size = 1").await;
    let mut client = proxy.client().await;
    client.ok("INSERT INTO t VALUES (1, 'one')").await;
    // On the primary, for the text says so.
    let text = "/* pgweir: primary */ SELECT * FROM t";
    assert_eq!(prepare(&mut client, "s", text).await, "");
    assert_eq!(run(&mut client, "s", &[]).await, "1");
    cluster.primary().sql("ALTER TABLE t ADD COLUMN more int DEFAULT 7").await.unwrap();
    assert_eq!(run(&mut client, "s", &[]).await, "0A000");
    // As a driver does: drop it, and prepare the same again.
    client.send(&[close('S', "s"), sync()].concat()).await.unwrap();
    client.answer().await.unwrap();
    assert_eq!(prepare(&mut client, "s", text).await, "");
    client.send(&[bind("", "s", &[]), execute("", 0), sync()].concat()).await.unwrap();
    assert_eq!(
        client.answer().await.unwrap().rows,
        [[Some("1".into()), Some("one".into()), Some("7".into())]]
    );
    // In a transaction it fails that, and works after it.
    cluster.primary().sql("ALTER TABLE t DROP COLUMN more").await.unwrap();
    client.ok("BEGIN").await;
    assert_eq!(run(&mut client, "s", &[]).await, "0A000");
    client.ok("ROLLBACK").await;
    assert_eq!(run(&mut client, "s", &[]).await, "1");
}

#[tokio::test]
async fn a_parse_that_fails_is_not_remembered() {
    let (_cluster, proxy) = start("pool_size = 1").await;
    let mut client = proxy.client().await;
    let text = "SELECT count(*) FROM late";
    for _ in 0..2 {
        assert_eq!(prepare(&mut client, "s", text).await, "42P01");
        assert_eq!(run(&mut client, "s", &[]).await, "26000");
    }
    client.ok("CREATE TABLE late AS SELECT generate_series(1, 3)").await;
    assert_eq!(prepare(&mut client, "s", text).await, "");
    assert_eq!(run(&mut client, "s", &[]).await, "3");
}

/// What makes a table of it names it as well, and runs on the primary.
#[tokio::test]
async fn tables_are_made_of_what_was_prepared() {
    let (cluster, proxy) = start("pool_size = 1").await;
    let mut client = proxy.client().await;
    client.ok("PREPARE s (int) AS SELECT $1 AS n").await;
    let explain = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)";
    for (nth, text) in ["CREATE TABLE", "CREATE UNLOGGED TABLE", "CREATE TEMP TABLE"].into_iter().enumerate()
    {
        client.ok(&format!("{text} a{nth} AS EXECUTE s ({nth})")).await;
        assert_eq!(client.value(&format!("SELECT n FROM a{nth}")).await, nth.to_string());
        client.ok(&format!("{explain} {text} b{nth} (m) AS EXECUTE s ({nth}) WITH DATA")).await;
        assert_eq!(client.value(&format!("SELECT m FROM b{nth}")).await, nth.to_string());
    }
    // A server that lacks it, and refuses it, is heard once.
    let mut other = proxy.client().await;
    client.ok("DISCARD ALL").await;
    client.ok("CREATE TABLE gone (n int)").await;
    client.ok("PREPARE g AS SELECT n FROM gone").await;
    assert_eq!(client.ok("EXECUTE g").await.tags, "TCZ");
    other.ok("DROP TABLE gone").await;
    for text in ["EXECUTE g", "CREATE TABLE c AS EXECUTE g"] {
        cluster.primary().sql(OTHERS).await.unwrap();
        // What only reads runs again where its connection is lost.
        other.ok("/* pgweir: primary */ SELECT").await;
        let answer = client.query(text).await.unwrap();
        assert_eq!((answer.errors.len(), answer.code()), (1, "42P01"), "{text}: {answer:?}");
    }
}

/// Ends all connections of clients to a server.
const OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
    AND application_name NOT LIKE 'pgweir%' AND backend_type = 'client backend'";

/// One that is prepared goes wherever its route allows, also when the server that it was prepared on is gone.
#[tokio::test]
async fn a_statement_outlives_its_connection() {
    let (cluster, proxy) = start("").await;
    let mut client = proxy.client().await;
    assert_eq!(prepare(&mut client, "w", "INSERT INTO t VALUES ($1::int) RETURNING id").await, "");
    assert_eq!(prepare(&mut client, "r", "SELECT count(*) FROM pg_stat_activity WHERE $1 = 'x'").await, "");
    for round in 1..5 {
        assert_eq!(run(&mut client, "w", &[&round.to_string()]).await, round.to_string());
        assert_ne!(run(&mut client, "r", &["x"]).await, "0");
        for server in cluster.all() {
            server.sql(OTHERS).await.unwrap();
        }
    }
}
