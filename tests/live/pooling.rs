//! Server connections, shared: never more than the pool's size, first come first served, nothing of one client for the next.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use pgweir::cli::demo::cluster::{Cluster, eventually};
use pgweir::clock;
use postgres_protocol::message::frontend;
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, Watch, cluster};
use crate::raw::{Raw, execute, extended, query, sync};

#[tokio::test]
async fn fifty_clients_on_two_connections() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 2").await;
    let address = proxy.address();
    let mut clients = JoinSet::new();
    for nth in 0..50 {
        clients.spawn(async move {
            let mut client = Raw::login(address, &[]).await.unwrap();
            for round in 0..20 {
                let expected = format!("{}", nth * 1000 + round);
                let source = if round % 2 == 0 { "" } else { ", txid_current()" };
                let answer = client.ok(&format!("SELECT {expected}{source}, pg_sleep(0.001)")).await;
                assert_eq!(answer.value(), expected);
            }
        });
    }
    let watches = [Watch::new(cluster.primary()).await, Watch::new(cluster.replica(0)).await];
    let (mut most, mut looks) = (0, 0);
    while !clients.is_empty() {
        while let Some(ended) = clients.try_join_next() {
            ended.unwrap();
        }
        for watch in &watches {
            most = most.max(watch.count("true").await);
        }
        looks += 1;
    }
    assert_eq!(most, 2, "in {looks} looks");
    proxy.becomes("pgweir_pool_servers", &["state=\"idle\""], 4.0).await;
    assert!(proxy.sum("pgweir_pool_connects_total", &[]).await < 4.5);
}

/// Statements that leave something on a connection, and how to see whether it is there.
const STATE: [(&str, &str, &str); 7] = [
    ("SET work_mem = '7MB'", "SELECT current_setting('work_mem')", "7MB"),
    ("SELECT set_config('work_mem', '7MB', false)", "SELECT current_setting('work_mem')", "7MB"),
    ("CREATE TEMP TABLE mine (id int)", "SELECT count(*) FROM pg_class WHERE relname = 'mine'", "1"),
    ("SELECT pg_advisory_lock(42)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "1"),
    ("BEGIN; LISTEN news; COMMIT", "SELECT count(*) FROM pg_listening_channels()", "1"),
    ("BEGIN; PREPARE mine AS SELECT 1; COMMIT", "SELECT count(*) FROM pg_prepared_statements", "1"),
    (
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
        "SELECT count(*) FROM pg_cursors WHERE name = 'c'",
        "1",
    ),
];

/// In either mode, state stays while its client does, and is gone for the next, who gets the same connection.
async fn state_is_kept_and_then_gone(mode: &str) {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let proxy = Proxy::start(&cluster, &format!("pool_mode = \"{mode}\"\npool_size = 1")).await;
    let backend = proxy.client().await.backend().await;
    for (text, look, expected) in STATE {
        let mut client = proxy.client().await;
        let look = format!("{look} WHERE txid_current() > 0")
            .replace(" WHERE txid", if look.contains(" WHERE") { " AND txid" } else { " WHERE txid" });
        let before = client.value(&look).await;
        assert_ne!(before, expected, "{text}");
        client.ok(text).await;
        for _ in 0..3 {
            assert_eq!(client.value(&look).await, expected, "{text} did not last");
        }
        assert_eq!(client.backend().await, backend);
        // Another waits until the first has left. Settings follow their client: nobody waits for them.
        let mut next = proxy.client().await;
        next.send(&query(&look)).await.unwrap();
        if mode == "session" || !look.contains("work_mem") {
            proxy.becomes("pgweir_pool_waiting_clients", &[], 1.0).await;
            drop(client);
        }
        assert_eq!(next.answer().await.unwrap().value(), before, "{text} was left for the next");
        assert_eq!(next.backend().await, backend);
    }
}

#[tokio::test]
async fn transaction_mode_keeps_state_for_its_client() {
    state_is_kept_and_then_gone("transaction").await;
}

#[tokio::test]
async fn session_mode_keeps_state_for_its_client() {
    state_is_kept_and_then_gone("session").await;
}

/// What a connection that nobody is talking to says on its own goes to the client that holds it.
#[tokio::test]
async fn notifications_reach_an_idle_client() {
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "").await;
    let (mut listener, mut other) = (proxy.client().await, proxy.client().await);
    listener.ok("LISTEN news").await;
    for nth in 0..3 {
        other.ok(&format!("NOTIFY news, 'number {nth}'")).await;
        let (tag, body) = listener.message().await.unwrap();
        assert!(tag == b'A' && String::from_utf8_lossy(&body).contains(&format!("number {nth}")));
    }
    assert_eq!(listener.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn session_and_statement_mode() {
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_mode = \"session\"\npool_size = 2").await;
    let watch = Watch::new(cluster.primary()).await;
    let (mut a, mut b) = (proxy.client().await, proxy.client().await);
    let backends = [a.backend().await, b.backend().await];
    assert_ne!(backends[0], backends[1]);
    for _ in 0..3 {
        assert_eq!([a.backend().await, b.backend().await], backends, "not its own connection");
    }
    let mut c = proxy.client().await;
    c.send(&query("SELECT pg_backend_pid()")).await.unwrap();
    proxy.becomes("pgweir_pool_waiting_clients", &[], 1.0).await;
    a.send(b"X\0\0\0\x04").await.unwrap();
    assert_eq!(c.answer().await.unwrap().value(), backends[0]);
    assert_eq!(watch.count("true").await, 2);

    let proxy = Proxy::start(&cluster, "pool_mode = \"statement\"").await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let refused = client.query("BEGIN").await.unwrap();
        assert_eq!((refused.code(), &*refused.tags, refused.status), ("0A000", "EZ", 'I'));
        assert!(refused.errors[0].message.contains("statement pooling mode"), "{refused:?}");
        client.send(&extended("", "START TRANSACTION READ ONLY")).await.unwrap();
        client.send(&sync()).await.unwrap();
        assert_eq!(client.answer().await.unwrap().code(), "0A000");
        assert_eq!(client.value("SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn first_come_first_served_and_limits() {
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1\nmax_waiting_clients = 5").await;
    cluster.primary().sql("CREATE TABLE turns (at serial, who int)").await.unwrap();
    let mut holder = proxy.client().await;
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(proxy.client().await);
    }
    holder.ok("BEGIN; SELECT 1").await;
    for (nth, client) in waiting.iter_mut().enumerate().take(5) {
        client.send(&query(&format!("INSERT INTO turns (who) VALUES ({nth})"))).await.unwrap();
        proxy.becomes("pgweir_pool_waiting_clients", &[], nth as f64 + 1.0).await;
    }
    // The sixth is one too many; its session goes on.
    let refused = waiting[5].query("SELECT 1").await.unwrap();
    assert_eq!((refused.code(), &*refused.tags), ("53300", "EZ"));
    assert_eq!(refused.errors[0].severity, "ERROR");
    holder.ok("COMMIT").await;
    for client in &mut waiting[..5] {
        assert_eq!(client.answer().await.unwrap().tags, "CZ");
    }
    assert_eq!(waiting[5].value("SELECT string_agg(who::text, '' ORDER BY at) FROM turns").await, "01234");

    let proxy = Proxy::start(&cluster, "pool_size = 1\nquery_wait_timeout = \"700ms\"").await;
    let (mut holder, mut client) = (proxy.client().await, proxy.client().await);
    holder.ok("BEGIN; SELECT 1").await;
    let start = clock::now();
    let refused = client.query("SELECT 1").await.unwrap();
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(690) && waited < Duration::from_millis(1500), "{waited:?}");
    assert_eq!((refused.code(), &*refused.errors[0].severity), ("53300", "ERROR"));
    assert!(refused.errors[0].detail.contains("1 of 1"), "{refused:?}");
    holder.ok("COMMIT").await;
    assert_eq!(client.value("SELECT 1").await, "1");
    assert!(proxy.sum("pgweir_errors_total", &["class=\"53\"", "origin=\"pgweir\""]).await > 0.5);
}

#[tokio::test]
async fn kept_open_and_closed_in_time() {
    let cluster = cluster().start().await.unwrap();
    let watch = Watch::new(cluster.primary()).await;
    let kept = Proxy::start(&cluster, "min_pool_size = 3\nserver_idle_timeout = \"1s\"").await;
    kept.client().await.ok("SELECT 1").await;
    watch.becomes("true", 3, SOON).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = kept.client().await;
        client.ok("BEGIN; SELECT 1").await;
        clients.push(client);
    }
    watch.becomes("true", 5, SOON).await;
    for client in &mut clients {
        client.ok("COMMIT").await;
    }
    watch.becomes("true", 3, SOON).await;
    drop(kept);
    watch.becomes("true", 0, SOON).await;

    // Old connections are replaced: idle ones by the keeper, busy ones when they are free.
    let aging = Proxy::start(&cluster, "server_lifetime = \"1s\"\npool_size = 2").await;
    let (mut busy, mut idle) = (aging.client().await, aging.client().await);
    busy.ok("BEGIN; SELECT 1").await;
    let old = busy.backend().await;
    let other = idle.backend().await;
    watch.becomes(&format!("pid = {other}"), 0, SOON).await;
    assert_eq!(busy.backend().await, old, "closed in a transaction");
    busy.ok("COMMIT").await;
    watch.becomes(&format!("pid = {old}"), 0, SOON).await;
    assert_eq!(busy.value("SELECT 1").await, "1");
}

/// How often a login has failed, as the server's log tells.
fn failed_logins(cluster: &Cluster, words: &str) -> usize {
    cluster.primary().log().matches(words).count()
}

#[tokio::test]
async fn failed_logins_are_spaced_and_forgiven() {
    let cluster = cluster().start().await.unwrap();
    let settings = "dbname = \"later\"\npool_size = 20\nquery_wait_timeout = \"300ms\"\n\
                    server_login_retry = \"100ms\"\nserver_login_retry_max = \"800ms\"";
    let proxy = Proxy::before(&cluster.servers(), settings);
    proxy.knows(1).await;
    let address = proxy.address();
    let mut clients = JoinSet::new();
    let stop = clock::now() + Duration::from_secs(3);
    for _ in 0..20 {
        clients.spawn(async move {
            let mut failures = 0;
            while clock::now() < stop {
                let error = Raw::login(address, &[]).await.unwrap_err().to_string();
                assert!(error.contains("3D000"), "{error}");
                failures += 1;
            }
            failures
        });
    }
    let failures: usize = clients.join_all().await.into_iter().sum();
    let attempts = failed_logins(&cluster, "database \"later\" does not exist");
    println!("{failures} clients refused, {attempts} attempts");
    // A first volley of twenty is possible: nothing is known yet. Then 100, 200, 400, 800, 800 ms with jitter.
    assert!((2..=36).contains(&attempts), "{attempts} attempts in 3 s");
    let counted = proxy.sum("pgweir_pool_connect_failures_total", &[]).await as usize;
    assert_eq!(counted, attempts);

    cluster.primary().sql("CREATE DATABASE later").await.unwrap();
    let start = clock::now();
    eventually(SOON, || async { Raw::login(address, &[]).await.is_ok() }).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let mut all = JoinSet::new();
    for _ in 0..20 {
        all.spawn(
            async move { Raw::login(address, &[]).await.unwrap().value("SELECT current_database()").await },
        );
    }
    assert!(all.join_all().await.iter().all(|name| name == "later"));
}

#[tokio::test]
async fn a_server_that_is_full() {
    let cluster = cluster()
        .setting("max_connections", "7")
        .setting("max_wal_senders", "2")
        .setting("superuser_reserved_connections", "3")
        .start()
        .await
        .unwrap();
    cluster.primary().sql("CREATE ROLE app LOGIN").await.unwrap();
    let settings = "server_login_retry_max = \"200ms\"\nquery_wait_timeout = \"2s\"";
    let proxy = Proxy::before(&cluster.servers(), settings);
    proxy.knows(1).await;
    let login = || Raw::login(proxy.address(), &[("user", "app")]);
    let (mut a, mut b, mut c, mut d) =
        (login().await.unwrap(), login().await.unwrap(), login().await.unwrap(), login().await.unwrap());
    for client in [&mut a, &mut b] {
        client.ok("BEGIN; SELECT 1").await;
    }
    let third = c.query("BEGIN; SELECT 1").await.unwrap();
    let refused = d.query("SELECT 1").await.unwrap();
    let refused = if third.errors.is_empty() { refused } else { third };
    assert_eq!((refused.code(), &*refused.tags), ("53300", "EZ"));
    assert_eq!(refused.errors[0].severity, "ERROR", "the session goes on: {refused:?}");
    a.ok("COMMIT").await;
    // The connection is back in the pool a moment after the client has seen its answer.
    eventually_served(&mut c, "ROLLBACK").await;
    eventually_served(&mut d, "SELECT 1").await;
}

async fn eventually_served(client: &mut Raw, text: &str) {
    let deadline = clock::now() + SOON;
    while !client.query(text).await.unwrap().errors.is_empty() {
        assert!(clock::now() < deadline, "{text} is never served");
    }
}

#[tokio::test]
async fn settings_of_clients_do_not_mix() {
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 2").await;
    let address = proxy.address();
    let mut clients = JoinSet::new();
    for nth in 0..12 {
        clients.spawn(async move {
            let (zone, path) = (["UTC", "Asia/Tokyo", "Europe/Paris"][nth % 3], format!("path{}", nth % 2));
            let (name, options) = (format!("client{nth}"), format!("-c search_path={path}"));
            let parameters = [("TimeZone", zone), ("options", &options), ("application_name", &name)];
            let mut client = Raw::login(address, &parameters).await.unwrap();
            assert!(client.parameters.contains(&("TimeZone".into(), zone.into())));
            for _ in 0..8 {
                let look = "SELECT concat_ws(' ', current_setting('TimeZone'), current_setting('search_path'), \
                            current_setting('application_name'), \
                            (SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()))";
                assert_eq!(client.value(look).await, format!("{zone} {path} {name} {name}"));
            }
            // What a client sets itself stays as well.
            client.ok("SET application_name = 'changed'").await;
            assert_eq!(client.value("SHOW application_name").await, "changed");
        });
    }
    clients.join_all().await;
}

/// A client that leaves its transaction open is told so and undone, and its server connection serves the next at once.
#[tokio::test]
async fn an_idle_transaction_ends() {
    let cluster = cluster().start().await.unwrap();
    cluster.primary().sql("CREATE TABLE t (n int)").await.unwrap();
    let text = crate::proxy::configuration(&cluster.servers(), "pool_size = 1", "");
    let text = format!("idle_in_transaction_timeout = \"300ms\"\n{text}");
    let pgweir = pgweir::app::Pgweir::start(pgweir::config::parse(&text, "test").unwrap()).unwrap();
    let address = pgweir.addresses()[0];
    let (mut idler, mut other) =
        (Raw::login(address, &[]).await.unwrap(), Raw::login(address, &[]).await.unwrap());
    idler.ok("BEGIN").await;
    idler.ok("INSERT INTO t VALUES (1)").await;
    // A statement that takes longer than that is not idle, and neither is who goes on in time.
    idler.ok("SELECT pg_sleep(0.5)").await;
    idler.ok("INSERT INTO t VALUES (2)").await;
    // Waits for the only connection.
    assert_eq!(other.value("SELECT count(*) FROM t").await, "0");
    let insert = query("INSERT INTO t VALUES (3)");
    idler.send(&[&insert[..], &insert].concat()).await.unwrap();
    for code in ["25P03", "25P02"] {
        let answer = idler.answer().await.unwrap();
        assert_eq!((answer.code(), answer.status), (code, 'E'));
    }
    assert_eq!(idler.ok("ROLLBACK").await.status, 'I');
    assert_eq!(other.value("SELECT count(*) FROM t").await, "0");
    // Who commits must not take it for done; who rolls back has nothing to hear; a BEGIN alone is a transaction, too.
    for (first, last, codes, status) in [
        ("INSERT INTO t VALUES (4)", "COMMIT", vec!["25P03"], 'I'),
        ("INSERT INTO t VALUES (4)", "ROLLBACK", vec![], 'I'),
        ("INSERT INTO t VALUES (4)", "INSERT INTO t VALUES (5); COMMIT", vec!["25P03"], 'E'),
        ("", "SELECT 1", vec!["25P03"], 'E'),
    ] {
        idler.ok("BEGIN").await;
        if !first.is_empty() {
            idler.ok(first).await;
        }
        tokio::time::sleep(Duration::from_millis(600)).await;
        let answer = idler.query(last).await.unwrap();
        let said: Vec<_> = answer.errors.iter().map(|error| &*error.code).collect();
        assert_eq!((said, answer.status), (codes, status), "{first}; {last}");
        if status == 'E' {
            idler.ok("ROLLBACK").await;
        }
    }
    assert_eq!(other.value("SELECT count(*) FROM t").await, "0");
    // A session whose connection is its own has nowhere to go on.
    let mut owner = Raw::login(address, &[]).await.unwrap();
    owner.ok("CREATE TEMP TABLE mine (n int)").await;
    owner.ok("BEGIN").await;
    owner.ok("INSERT INTO mine VALUES (1)").await;
    let (tag, body) = owner.message().await.unwrap();
    assert!(tag == b'E' && body.windows(6).any(|part| part == b"C25P03"), "{}", body.escape_ascii());
    assert!(owner.message().await.is_err(), "it is still there");
    // Outside a transaction it may be idle for ever.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(other.value("SELECT 1").await, "1");
}

/// What a session has drawn from sequences is never what another one has: it is known, or there is an error.
#[tokio::test]
async fn lastval_is_nobody_elses() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    cluster.primary().sql("CREATE TABLE drawn (id serial, who text)").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let (mut one, mut two) = (proxy.client().await, proxy.client().await);
    let ask = "SELECT currval('drawn_id_seq')";
    let code = async |client: &mut Raw, text: &str| client.query(text).await.unwrap().code().to_owned();
    one.ok("INSERT INTO drawn (who) VALUES ('one')").await;
    assert_eq!(one.value("SELECT lastval()").await, "1");
    two.ok("INSERT INTO drawn (who) VALUES ('two')").await;
    assert_eq!(two.value(ask).await, "2");
    assert_eq!(
        (code(&mut one, "SELECT lastval()").await, code(&mut one, ask).await),
        ("55000".into(), "55000".into())
    );
    one.ok("BEGIN").await;
    one.ok("SELECT 1").await;
    assert_eq!(code(&mut one, ask).await, "55000");
    assert_eq!(code(&mut one, "SELECT 1").await, "25P02");
    one.ok("ROLLBACK").await;
    // What makes a connection forget goes before a BEGIN that must come first.
    for begin in ["BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN READ WRITE", "START TRANSACTION"] {
        for _ in 0..3 {
            one.ok(begin).await;
            one.ok("INSERT INTO drawn (who) VALUES ('one')").await;
            let mine = one.value("SELECT lastval()").await;
            one.ok("COMMIT").await;
            let whose = format!("SELECT who FROM drawn WHERE id = {mine}");
            assert_eq!(cluster.primary().value(&whose).await.unwrap(), "one");
            two.ok("INSERT INTO drawn (who) VALUES ('two')").await;
        }
    }
    // What is asked after that INSERT is known by now: its connection waits a moment for the question, also in a transaction's wake.
    for (inserts, then) in [
        (&["INSERT INTO drawn (who) VALUES ('one')"][..], &[][..]),
        (&["BEGIN", "INSERT INTO drawn (who) VALUES ('one')", "COMMIT"], &[]),
        // As drivers do whose statement goes out of scope before the question.
        (&["PREPARE s# AS INSERT INTO drawn (who) VALUES ('one')", "EXECUTE s#"], &["DEALLOCATE s#"]),
    ] {
        // Where the machine stands still for longer than it waits, there is an error.
        let mut tries = 0..20;
        loop {
            let number = tries.next().expect("it never waits").to_string();
            for text in inserts {
                one.ok(&text.replace('#', &number)).await;
            }
            two.send(&query("INSERT INTO drawn (who) VALUES ('two')")).await.unwrap();
            for text in then {
                one.ok(&text.replace('#', &number)).await;
            }
            let mine = one.query("SELECT lastval()").await.unwrap();
            assert_eq!(two.answer().await.unwrap().code(), "");
            if mine.code() == "55000" {
                continue;
            }
            let whose = format!("SELECT who FROM drawn WHERE id = {}", mine.value());
            assert_eq!(cluster.primary().value(&whose).await.unwrap(), "one");
            break;
        }
    }
    // Who does not ask holds up nobody for long.
    one.ok("INSERT INTO drawn (who) VALUES ('one')").await;
    two.ok("INSERT INTO drawn (who) VALUES ('two')").await;
    assert_eq!(code(&mut one, "SELECT lastval()").await, "55000");
    assert_eq!(code(&mut proxy.client().await, "SELECT lastval()").await, "55000");
}

/// As ORMs ask for the keys that they have been given, on fewer connections than there are clients.
#[tokio::test]
async fn lastval_is_what_was_drawn_last() {
    let cluster = cluster().start().await.unwrap();
    cluster.primary().sql("CREATE TABLE drawn (id serial, who text)").await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let (mut one, mut two) = (proxy.client().await, proxy.client().await);
    let code = async |client: &mut Raw, text: &str| client.query(text).await.unwrap().code().to_owned();
    let (insert, ask) = ("INSERT INTO drawn (who) VALUES ('x')", "SELECT lastval()");
    // A write that draws nothing: what the connection knows is another client's, also where clients are known to ask after it.
    for _ in 0..2 {
        one.ok(insert).await;
        two.ok("UPDATE drawn SET who = 'y' WHERE id = 0").await;
        assert_eq!(code(&mut two, ask).await, "55000");
    }
    one.ok(insert).await;
    assert_eq!(code(&mut two, "INSERT INTO drawn (nothing) VALUES (1)").await, "42703");
    assert_eq!(code(&mut two, ask).await, "55000");
    // What comes after an INSERT on the same connection, and may draw or not, leaves there what is the client's own.
    one.ok(insert).await;
    let last = two.value("INSERT INTO drawn (who) VALUES ('y') RETURNING id").await;
    for text in
        ["UPDATE drawn SET who = 'z' WHERE id = 0", "CREATE TABLE beside (id int)", "SELECT * FROM nothing"]
    {
        two.query(text).await.unwrap();
        assert_eq!(two.value(ask).await, last, "{text}");
    }
    assert_eq!(code(&mut two, "SELECT currval('nothing')").await, "42P01");
    // What else the client has drawn before.
    let proxy = Proxy::start(&cluster, "pool_size = 2").await;
    let (mut one, mut two) = (proxy.client().await, proxy.client().await);
    one.ok(insert).await;
    two.ok("BEGIN").await;
    two.ok("SELECT 1").await;
    let last = one.value(&format!("{insert} RETURNING id")).await;
    two.ok("COMMIT").await;
    assert_eq!(one.value(ask).await, last);
}

/// A session that has drawn nothing hears from the server what it would hear directly, and never what another one has drawn.
#[tokio::test]
async fn who_has_drawn_nothing_hears_the_server() {
    let cluster = cluster().start().await.unwrap();
    cluster.primary().sql("CREATE TABLE drawn (id serial, who text); CREATE SEQUENCE other").await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let mut drawer = proxy.client().await;
    let address = SocketAddr::from(([127, 0, 0, 1], cluster.primary().port()));
    let (mut direct, mut client) = (Raw::login(address, &[]).await.unwrap(), proxy.client().await);
    let asks = ["SELECT lastval()", "SELECT currval('other')", "SELECT currval('nothing')", "SELECT 1"];
    for begin in ["", "BEGIN"] {
        for ask in asks {
            drawer.ok("INSERT INTO drawn (who) VALUES ('another')").await;
            for text in [begin, ask, "ROLLBACK"] {
                let (there, here) = (direct.query(text).await.unwrap(), client.query(text).await.unwrap());
                assert_eq!((here.errors, here.status), (there.errors, there.status), "{begin} {text}");
            }
        }
    }
    // Also while what names mean is read anew, and beside functions of whatever kind.
    cluster
        .primary()
        .sql("CREATE FUNCTION same(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT $1'")
        .await
        .unwrap();
    for ask in ["SELECT lastval()", "SELECT same(lastval())"] {
        client.ok("CREATE TEMP TABLE later (id int) ON COMMIT DROP").await;
        drawer.ok("INSERT INTO drawn (who) VALUES ('another')").await;
        assert_eq!(client.query(ask).await.unwrap().code(), "55000", "{ask}");
    }
    client.ok("CREATE FUNCTION draw() RETURNS bigint LANGUAGE sql AS $$SELECT nextval('other')$$").await;
    drawer.ok("INSERT INTO drawn (who) VALUES ('another')").await;
    assert_eq!(client.value("SELECT currval('other') = n FROM (SELECT draw() AS n OFFSET 0) t").await, "t");
    // What is prepared before anything was drawn asks nothing yet.
    let mut client = proxy.client().await;
    drawer.ok("INSERT INTO drawn (who) VALUES ('another')").await;
    let mut prepares = BytesMut::new();
    frontend::parse("ask", "SELECT lastval() = max(id) FROM drawn", [], &mut prepares).unwrap();
    prepares.unsplit(sync());
    client.send(&prepares).await.unwrap();
    assert_eq!(client.answer().await.unwrap().errors, []);
    client.ok("INSERT INTO drawn (who) VALUES ('client')").await;
    client.send(&[execute("ask"), sync()].concat()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().value(), "t");
}

#[tokio::test]
async fn who_asks_for_one_key_after_the_other_waits_in_the_queue() {
    let cluster = cluster().start().await.unwrap();
    cluster.primary().sql("CREATE TABLE drawn (id serial, who int)").await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 1").await;
    let (mut one, mut two) = (proxy.client().await, proxy.client().await);
    one.ok("INSERT INTO drawn (who) VALUES (1)").await;
    assert_eq!(one.value("SELECT lastval()").await, "1");
    one.ok("INSERT INTO drawn (who) VALUES (1)").await;
    let other = tokio::spawn(async move { two.ok("UPDATE drawn SET who = 3 WHERE who = 2").await });
    let mut rounds = 0..50;
    while !other.is_finished() {
        rounds.next().expect("it keeps the connection");
        one.query("SELECT lastval()").await.unwrap();
        one.ok("INSERT INTO drawn (who) VALUES (1)").await;
    }
    other.await.unwrap();
}

#[tokio::test]
async fn who_asks_for_keys_needs_no_connection_of_its_own() {
    const CLIENTS: usize = 20;
    let cluster = cluster().start().await.unwrap();
    cluster.primary().sql("CREATE TABLE drawn (id serial, who int)").await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 2").await;
    let mut first = proxy.client().await;
    first.ok("INSERT INTO drawn (who) VALUES (0)").await;
    assert_eq!(first.value("SELECT lastval()").await, "1");
    let mut clients = JoinSet::new();
    for number in 1..=CLIENTS {
        let mut client = proxy.client().await;
        clients.spawn(async move {
            let (mut right, mut wrong) = (0, 0);
            for _ in 0..20 {
                let insert = format!("INSERT INTO drawn (who) VALUES ({number}) RETURNING id");
                let id = client.value(&insert).await;
                client.ok(&format!("INSERT INTO drawn (who) VALUES ({number})")).await;
                let answer = client.query("SELECT lastval()").await.unwrap();
                if answer.code() == "55000" {
                    continue;
                }
                let given: i64 = answer.value().parse().unwrap();
                let own = client.value(&format!("SELECT who FROM drawn WHERE id = {given}")).await;
                let is_right = own == number.to_string() && given > id.parse().unwrap();
                right += usize::from(is_right);
                wrong += usize::from(!is_right);
            }
            (right, wrong)
        });
    }
    let (mut right, mut wrong) = (0, 0);
    for (so, not) in clients.join_all().await {
        right += so;
        wrong += not;
    }
    println!("{right} right, {wrong} wrong");
    assert_eq!(wrong, 0);
    // Where the machine stands still for longer than a connection waits, there is an error.
    assert!(right >= CLIENTS * 20 * 9 / 10, "{right}");
}
