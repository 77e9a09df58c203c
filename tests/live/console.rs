//! Why: the console, what SHOW ROUTES counts, notices that explain, and pgweir's own settings.

use std::collections::HashMap;

use pgweir::cli::demo::cluster::{Cluster, Postgres, eventually};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::programs::psql;
use crate::proxy::{Proxy, SOON, cluster, configuration};
use crate::raw::{self, Raw};

/// A client of tokio-postgres, which speaks the extended protocol with named statements.
async fn driver(proxy: &Proxy, parameters: &str) -> tokio_postgres::Client {
    let address = proxy.address();
    let config = format!("host={} port={} user=postgres {parameters}", address.ip(), address.port());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The rows of a simple query.
async fn rows(client: &tokio_postgres::Client, text: &str) -> Vec<Vec<String>> {
    let messages = client.simple_query(text).await.unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect())
        }
        _ => None,
    });
    rows.collect()
}

async fn started(replicas: usize) -> (Cluster, Proxy) {
    let cluster =
        cluster().setting("log_min_duration_statement", "0").replicas(replicas).start().await.unwrap();
    cluster.primary().sql("CREATE TABLE photos (id int, votes int)").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, "").await;
    (cluster, proxy)
}

#[tokio::test]
async fn the_console_answers_psql_and_drivers_without_any_server() {
    let nobody = ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
    let proxy = Proxy::before(&nobody, "");
    let port = proxy.address().port();
    let show = async |command: &str| psql(port, "pgweir", &["-At", "-c", command]).run().await.ok();
    let help = show("SHOW HELP").await;
    assert!(help.contains("SHOW ROUTES|"), "{help}");
    let shows =
        help.lines().filter_map(|line| line.split('|').next()).filter(|command| command.starts_with("SHOW"));
    for command in shows {
        let command = command.replace("SHOW ROUTE FOR", "SHOW ROUTE FOR 'SELECT 1'");
        show(&command).await;
    }
    assert_eq!(show("SHOW VERSION;").await.trim(), format!("pgweir {}", env!("CARGO_PKG_VERSION")));
    let servers = show("SHOW SERVERS").await;
    assert!(servers.lines().count() == 2 && servers.starts_with("postgres|127.0.0.1:1|"), "{servers}");
    // What it is not.
    for text in ["\\d", "SELECT 1", "SHOW ROUTS"] {
        let out = psql(port, "pgweir", &["-c", text]).run().await;
        assert_eq!(out.code, Some(1), "{out:?}");
        assert!(out.err.contains("HINT:") && out.err.contains("SHOW HELP"), "{out:?}");
    }
    let client = driver(&proxy, "dbname=pgweir").await;
    let reasons = client.query("SHOW REASONS", &[]).await.unwrap();
    assert!(reasons.iter().any(|row| row.get::<_, &str>("reason") == "own_setting"));
    let statement = client.prepare("SHOW ROUTE FOR 'DELETE FROM t'").await.unwrap();
    for _ in 0..2 {
        let row = client.query_one(&statement, &[]).await.unwrap();
        assert_eq!((row.get::<_, &str>("target"), row.get::<_, &str>("reason")), ("primary", "write"));
    }
    let error = client.query("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42601");
    assert_eq!(rows(&client, "SHOW VERSION").await.len(), 1, "the session goes on");
}

#[tokio::test]
async fn only_those_who_are_named_come_in() {
    let text = configuration(&["127.0.0.1:1".to_owned()], "", "");
    let text = format!("admin_users = [\"ann\"]\nstats_users = [\"bob\"]\n{text}");
    let config = pgweir::config::parse(&text, "test").unwrap();
    let pgweir = pgweir::app::Pgweir::start(config).unwrap();
    let address = pgweir.addresses()[0];
    let login = async |user: &str| Raw::login(address, &[("user", user), ("database", "pgweir")]).await;
    assert!(!login("ann").await.unwrap().ok("SHOW HELP").await.rows.is_empty());
    assert!(!login("bob").await.unwrap().ok("SHOW HELP").await.rows.is_empty());
    assert!(login("postgres").await.unwrap_err().to_string().contains("42501"));
}

/// Statements of every kind that can run anywhere, and what makes each easy to find in a log.
const STATEMENTS: [&str; 10] = [
    "SELECT id FROM photos WHERE id = 1",
    "SELECT count(*) FROM photos WHERE votes > 'x'::text::int",
    "SELECT id FROM photos WHERE id = 1 FOR UPDATE",
    "UPDATE photos SET votes = votes + 1 WHERE id = 7",
    "WITH gone AS (DELETE FROM photos WHERE id = 3 RETURNING id) SELECT * FROM gone",
    "SELECT nextval('nowhere')",
    "SELECT txid_current()",
    "SELECT lower('A')",
    "EXPLAIN ANALYZE DELETE FROM photos WHERE id = 2",
    "SHOW work_mem",
];

/// The role of the one server that has logged a text.
async fn seen(cluster: &Cluster, marker: &str) -> &'static str {
    let found = || {
        let logged = |server: &&Postgres| server.log().contains(marker);
        cluster.all().iter().position(|server| logged(&server))
    };
    eventually(SOON, || async { found().is_some() }).await.unwrap();
    if found() == Some(0) { "primary" } else { "replica" }
}

#[tokio::test]
async fn what_show_route_says_is_what_then_happens() {
    let (cluster, proxy) = started(1).await;
    let console = driver(&proxy, "dbname=pgweir").await;
    let client = driver(&proxy, "dbname=postgres").await;
    let mut targets = HashMap::new();
    for (at, statement) in STATEMENTS.iter().enumerate() {
        let quoted = statement.replace('\'', "''");
        let said = rows(&console, &format!("SHOW ROUTE FOR '{quoted}'")).await;
        let marker = format!("/* statement {at} */");
        // Some fail, where they run.
        let _ = client.simple_query(&format!("{statement} {marker}")).await;
        assert_eq!(said[0][0], seen(&cluster, &marker).await, "{statement}: {said:?}");
        *targets.entry(said[0][0].clone()).or_insert(0) += 1;
    }
    assert_eq!(targets, HashMap::from([("primary".to_owned(), 6), ("replica".to_owned(), 4)]));
    // The definitions of the database count.
    cluster
        .primary()
        .sql("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT txid_current()::int'")
        .await
        .unwrap();
    let reason = async || rows(&console, "SHOW ROUTE FOR 'SELECT f()' DATABASE postgres").await[0][1].clone();
    eventually(SOON, || async { reason().await == "user_function" }).await.unwrap();
}

#[tokio::test]
async fn show_routes_counts_what_was_sent() {
    let (_cluster, proxy) = started(1).await;
    let console = driver(&proxy, "dbname=pgweir").await;
    let client = driver(&proxy, "dbname=postgres").await;
    for id in 0..7 {
        client.simple_query(&format!("SELECT votes FROM photos WHERE id = {id} -- {id}")).await.unwrap();
    }
    let statement = client.prepare("UPDATE photos SET votes = $1").await.unwrap();
    for votes in 0..5 {
        client.execute(&statement, &[&votes]).await.unwrap();
    }
    client.batch_execute("BEGIN").await.unwrap();
    client.simple_query("SELECT votes FROM photos WHERE id = 8 --").await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    let found = rows(&console, "SHOW ROUTES").await;
    let row = |text: &str| {
        let row = found.iter().find(|row| row[9] == text).unwrap_or_else(|| panic!("{text}: {found:#?}"));
        row[..7].iter().map(String::as_str).collect::<Vec<_>>()
    };
    let read = row("SELECT votes FROM photos WHERE id = ?");
    assert_eq!([read[0], read[1], read[2]], ["8", "1", "7"]);
    assert_eq!(read[4..], ["replica", "read", "in_transaction"]);
    assert!(read[3].parse::<f64>().unwrap() > 0.0);
    let write = row("UPDATE photos SET votes = $1");
    assert_eq!([write[0], write[1], write[2]], ["6", "6", "0"], "prepared once, run five times");
    assert_eq!(write[4..], ["primary", "write", "write"]);
    assert_eq!(row("BEGIN")[0], "1");
    // Under the name by which rules know it.
    let name = format!("{:016x}", pgweir::sql::fingerprint(b"SELECT votes FROM photos WHERE id = 1"));
    assert!(found.iter().any(|row| row[8] == name && row[9] == "SELECT votes FROM photos WHERE id = ?"));
    // All of it, as the metrics have it.
    let counted: f64 = found.iter().map(|row| row[0].parse::<f64>().unwrap()).sum();
    let units = proxy.sum("pgweir_units_total", &[]).await;
    assert!((counted - units).abs() < 0.5, "{counted} of {units}: {found:#?}");
    assert_eq!(rows(&console, "SHOW ROUTES LIMIT 1").await[0][0], "8");
}

/// Messages up to so many ReadyForQuery: tags, and for a notice its words.
async fn heard(client: &mut Raw, readies: usize) -> (String, Vec<String>) {
    let (mut tags, mut notices, mut left) = (String::new(), Vec::new(), readies);
    while left > 0 {
        let (tag, body) = client.message().await.unwrap();
        tags.push(char::from(tag));
        left -= usize::from(tag == b'Z');
        if tag == b'N' {
            let text = String::from_utf8(body).unwrap();
            let field =
                |kind: char| text.split('\0').find_map(|field| field.strip_prefix(kind)).unwrap().to_owned();
            assert_eq!((field('S'), field('C')), ("NOTICE".to_owned(), "00000".to_owned()));
            assert!(field('D').ends_with('.'));
            notices.push(field('M'));
        }
    }
    (tags, notices)
}

#[tokio::test]
async fn a_session_that_asks_is_told_why() {
    let (cluster, proxy) = started(1).await;
    let (primary, replica) = (cluster.primary().address(), cluster.replica(0).address());
    let script = "SET pgweir.explain = on;\nSELECT 1;\nUPDATE photos SET votes = 1;\n\
                  SET pgweir.explain = off;\nSELECT 2;\n";
    let out = psql(proxy.address().port(), "postgres", &["-At"]).input(script).run().await;
    let expected = format!(
        "NOTICE:  pgweir: replica {replica} (read)\nDETAIL:  Only reads, as far as its text and PostgreSQL's own functions \
         tell.\nNOTICE:  pgweir: primary {primary} (write)\n"
    );
    assert!(out.err.starts_with(&expected) && out.err.matches("NOTICE").count() == 2, "{out:?}");
    assert_eq!(out.out, "SET\n1\nUPDATE 0\nSET\n2\n");

    let mut client = Raw::login(proxy.address(), &[("pgweir.explain", "on")]).await.unwrap();
    let mut pipeline = raw::extended("", "SELECT 1");
    for part in
        [raw::sync(), raw::extended("", "UPDATE photos SET votes = 2"), raw::sync(), raw::query("SELECT 3")]
    {
        pipeline.unsplit(part);
    }
    client.send(&pipeline).await.unwrap();
    let (tags, notices) = heard(&mut client, 3).await;
    assert_eq!(tags, "N12TDCZN12nCZNTDCZ");
    let read = format!("pgweir: replica {replica} (read)");
    assert_eq!(notices, [read.clone(), format!("pgweir: primary {primary} (write)"), read]);
    // Where the session wishes.
    client.send(&raw::query("SET pgweir.route = primary")).await.unwrap();
    assert_eq!(heard(&mut client, 1).await.0, "CZ");
    client.send(&raw::query("SELECT 1")).await.unwrap();
    assert_eq!(heard(&mut client, 1).await.1, [format!("pgweir: primary {primary} (hint)")]);
    client.send(&raw::query("RESET pgweir.route")).await.unwrap();
    assert_eq!(heard(&mut client, 1).await.0, "CZ");
    // An open transaction says so.
    client.send(&raw::query("BEGIN; SELECT 1")).await.unwrap();
    assert_eq!(heard(&mut client, 1).await.1, [format!("pgweir: primary {primary} (begin)")]);
    client.send(&raw::query("SELECT 1")).await.unwrap();
    assert_eq!(heard(&mut client, 1).await.1, [format!("pgweir: primary {primary} (in_transaction)")]);
}

#[tokio::test]
async fn own_settings_are_answered_in_order_and_stay_with_their_client() {
    let cluster = cluster().replicas(0).start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let (mut one, mut other) = (proxy.client().await, proxy.client().await);
    assert_eq!(one.ok("SET pgweir.route = primary").await.tags, "CZ");
    assert_eq!(other.value("SHOW pgweir.route").await, "auto");
    assert_eq!(one.value("SHOW pgweir.route").await, "primary");
    // A pinned client would keep the only connection.
    assert_eq!(one.backend().await, other.backend().await);
    assert_eq!(one.ok("RESET pgweir.route").await.tags, "CZ");
    assert_eq!(one.value("show \"pgweir\".Route ;").await, "auto");
    // Behind answers that are still owed, and before others.
    let mut pipeline = raw::query("SELECT 'a'");
    for text in ["SET pgweir.route TO 'REPLICA'", "SELECT 'b'", "SHOW pgweir.route"] {
        pipeline.unsplit(raw::query(text));
    }
    one.send(&pipeline).await.unwrap();
    for expected in ["a", "", "b", "replica"] {
        let answer = one.answer().await.unwrap();
        assert_eq!(answer.rows.first().map_or("", |row| row[0].as_deref().unwrap()), expected);
    }
    // In a transaction, which it neither ends nor joins.
    one.ok("BEGIN; SELECT 1").await;
    let set = one.ok("SET pgweir.route = primary").await;
    assert_eq!((set.tags.as_str(), set.status), ("CZ", 'T'));
    let refused = one.query("SET pgweir.rout = primary").await.unwrap();
    assert_eq!((refused.code(), refused.status), ("42704", 'T'));
    let mixed = one.query("SELECT 1; SET pgweir.route = primary").await.unwrap();
    assert_eq!((mixed.code(), mixed.status), ("0A000", 'E'));
    one.ok("ROLLBACK").await;
    assert_eq!(one.value("SHOW pgweir.route").await, "primary");
    for (text, code) in [
        ("SET pgweir.route = nowhere", "22023"),
        ("SET LOCAL pgweir.route = primary", "0A000"),
        ("SHOW pgweir.exlain", "42704"),
        ("SET pgweir.route = primary; SELECT 1", "0A000"),
    ] {
        let answer = one.query(text).await.unwrap();
        assert_eq!((answer.code(), answer.tags.as_str()), (code, "EZ"), "{text}");
    }
    // What resets a session resets these.
    for text in ["RESET ALL", "DISCARD ALL"] {
        one.ok("SET pgweir.route = primary").await;
        one.ok(text).await;
        assert_eq!(one.value("SHOW pgweir.route").await, "auto", "{text}");
    }
}

#[tokio::test]
async fn own_settings_by_the_extended_protocol() {
    let cluster = cluster().replicas(0).start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let mut client = driver(&proxy, "dbname=postgres").await;
    assert_eq!(client.execute("SET pgweir.route = 'primary'", &[]).await.unwrap(), 0);
    let show = client.prepare("SHOW pgweir.route").await.unwrap();
    assert_eq!(show.columns()[0].name(), "pgweir.route");
    assert_eq!(client.query_one(&show, &[]).await.unwrap().get::<_, &str>(0), "primary");
    let transaction = client.transaction().await.unwrap();
    transaction.execute("SET pgweir.route = replica", &[]).await.unwrap();
    assert_eq!(transaction.query_one(&show, &[]).await.unwrap().get::<_, &str>(0), "replica");
    assert_eq!(transaction.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    transaction.rollback().await.unwrap();
    let error = client.execute("SET pgweir.route = 'elsewhere'", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "22023");
    assert_eq!(client.query_one(&show, &[]).await.unwrap().get::<_, &str>(0), "replica");

    let mut raw = proxy.client().await;
    // A unit with two of them, one with a Flush before its end, and units that are mixed.
    let mut unit = raw::extended("", "SET pgweir.route = primary");
    unit.unsplit(raw::extended("", "SHOW pgweir.route"));
    unit.unsplit(raw::sync());
    raw.send(&unit).await.unwrap();
    let answer = raw.answer().await.unwrap();
    assert_eq!((answer.tags.as_str(), answer.value()), ("12nC12TDCZ", "primary"));
    let mut unit = raw::extended("show", "SHOW pgweir.route");
    unit.unsplit(raw::flush());
    raw.send(&unit).await.unwrap();
    for tag in *b"12TDC" {
        assert_eq!(raw.message().await.unwrap().0, tag);
    }
    raw.send(&raw::sync()).await.unwrap();
    assert_eq!(raw.answer().await.unwrap().tags, "Z");
    for texts in [["SELECT 1", "SHOW pgweir.route"], ["SHOW pgweir.route", "SELECT 1"]] {
        let mut unit = raw::extended("", texts[0]);
        unit.unsplit(raw::extended("", texts[1]));
        unit.unsplit(raw::sync());
        raw.send(&unit).await.unwrap();
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.code(), answer.tags.as_str()), ("0A000", "EZ"), "{texts:?}");
    }
    let mut unit = raw::execute("show");
    unit.unsplit(raw::sync());
    raw.send(&unit).await.unwrap();
    assert_eq!(raw.answer().await.unwrap().tags, "2TDCZ", "a statement lives on");
    assert_eq!(raw.value("SELECT 2").await, "2");
}

#[tokio::test]
async fn own_settings_when_connecting() {
    let cluster = cluster().replicas(0).start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let options = "-c pgweir.route=primary -c work_mem=3MB --pgweir.explain=on";
    let client = driver(&proxy, &format!("dbname=postgres options='{options}'")).await;
    assert_eq!(rows(&client, "SHOW pgweir.route").await, [["primary"]]);
    assert_eq!(rows(&client, "SHOW pgweir.explain").await, [["on"]]);
    assert_eq!(rows(&client, "SHOW work_mem").await, [["3MB"]]);
    drop(client);
    let mut client = Raw::login(proxy.address(), &[("pgweir.route", "replica")]).await.unwrap();
    assert_eq!(client.value("SHOW pgweir.route").await, "replica");
    for (name, value, code) in [("pgweir.route", "x", "22023"), ("pgweir.x", "1", "42704")] {
        let error = Raw::login(proxy.address(), &[(name, value)]).await.unwrap_err();
        assert!(error.to_string().contains(&format!("FATAL {code}")), "{error}");
    }
}

#[tokio::test]
async fn a_unit_that_runs_again_says_where_its_result_is_from() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let liar = "CREATE SEQUENCE hidden; CREATE FUNCTION liar() RETURNS bigint LANGUAGE plpgsql STABLE AS \
                $$BEGIN RETURN nextval('hidden'); END$$";
    cluster.primary().sql(liar).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, "").await;
    let (primary, replica) = (cluster.primary().address(), cluster.replica(0).address());
    let mut client = Raw::login(proxy.address(), &[("pgweir.explain", "on")]).await.unwrap();
    client.send(&raw::query("SELECT liar()")).await.unwrap();
    let (tags, notices) = heard(&mut client, 1).await;
    assert_eq!(tags, "NNTDCZ");
    assert_eq!(
        notices,
        [format!("pgweir: replica {replica} (read)"), format!("pgweir: primary {primary} (read)")]
    );
    let console = driver(&proxy, "dbname=pgweir").await;
    let learned = rows(&console, "SHOW LEARNED").await;
    assert_eq!(learned[0][..2], ["SELECT liar()", "25006"]);
}

/// What stands beside a setting of pgweir's own is not carried out: the transaction that it belongs to must not commit.
#[tokio::test]
async fn a_setting_beside_other_statements_fails_the_transaction() {
    let (cluster, proxy) = started(1).await;
    let mut client = proxy.client().await;
    client.ok("BEGIN; SELECT 1").await;
    client.ok("INSERT INTO photos VALUES (100)").await;
    let refused = client.query("INSERT INTO photos VALUES (101); SET pgweir.route = primary").await.unwrap();
    assert_eq!((refused.code(), refused.status), ("0A000", 'E'));
    client.ok("COMMIT").await;
    let left = "SELECT count(*) FROM photos WHERE id >= 100";
    assert_eq!(cluster.primary().value(left).await.unwrap(), "0");
    // Outside a transaction it is an error and no more.
    let refused = client.query("SELECT 1; SET pgweir.route = primary").await.unwrap();
    assert_eq!((refused.code(), refused.status), ("0A000", 'I'));
    assert_eq!(client.value("SELECT 1").await, "1");
}

/// Who is there, and who keeps a connection to itself.
#[tokio::test]
async fn clients_and_pins() {
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "").await;
    let mut console = Raw::login(proxy.address(), &[("database", "pgweir")]).await.unwrap();
    let mut one = Raw::login(proxy.address(), &[("application_name", "one")]).await.unwrap();
    let mut two = Raw::login(proxy.address(), &[("application_name", "two")]).await.unwrap();
    let _idle = Raw::login(proxy.address(), &[("application_name", "three")]).await.unwrap();
    one.ok("CREATE TEMP TABLE mine (n int)").await;
    two.ok("BEGIN").await;
    two.ok("SELECT txid_current()").await;
    let mut shown = async |what: &str, columns: [usize; 3]| {
        let rows = console.ok(what).await.rows;
        let cell = |row: &Vec<Option<String>>, at: usize| row[at].clone().unwrap_or_default();
        let mut rows: Vec<_> = rows.iter().map(|row| columns.map(|at| cell(row, at))).collect();
        // Clients of different workers come in any order.
        rows.sort();
        rows
    };
    let server = cluster.primary().address();
    // The server is asked what is left a moment after the client has its answer.
    let deadline = tokio::time::Instant::now() + SOON;
    let there = [["one", "idle", ""], ["three", "idle", ""], ["two", "active", &server]];
    // Application, state, server.
    while shown("SHOW CLIENTS", [2, 4, 5]).await != there
        || shown("SHOW PINS", [0, 2, 4]).await != [["postgres", "one", "temporary"]]
    {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", shown("SHOW CLIENTS", [2, 4, 6]).await);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    one.ok("DROP TABLE mine").await;
    two.ok("COMMIT").await;
    drop(two);
    while !shown("SHOW PINS", [0, 2, 4]).await.is_empty() || shown("SHOW CLIENTS", [2, 4, 5]).await.len() > 2
    {
        assert!(tokio::time::Instant::now() < deadline, "what has gone is still shown");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
