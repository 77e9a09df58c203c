//! What a database's own functions and views do is known, with no configuration at all, and stays known when it changes.

use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, eventually};
use pgweir::monitor;
use pgweir::route::Catalog;

use crate::proxy::{Proxy, SOON, cluster, configuration, sum};
use crate::raw::{Raw, execute, extended, sync};

const SCHEMA: &str = include_str!("catalog/schema.sql");

/// Ways by which something unsafe is reached without being named.
const MORE: &str = include_str!("catalog/more.sql");

/// Like [`CASES`], with [`MORE`].
const MORE_CASES: &[(&str, &str, &str)] = &[
    // Inside the text of an SQL function.
    ("SELECT sql_operator()", "primary", "user_function"),
    ("SELECT sql_domain()", "primary", "user_function"),
    ("SELECT sql_attribute()", "primary", "user_function"),
    ("SELECT sql_defaults()", "primary", "user_function"),
    ("SELECT 1 @!@ 2", "primary", "volatile_operator"),
    // In the default of an argument.
    ("SELECT defaults()", "primary", "user_function"),
    ("SELECT good_default()", "replica", "read"),
    // Views over what each server answers for itself.
    ("SELECT count(*) FROM activity", "primary", "view"),
    ("SELECT count(*) FROM tables_there", "replica", "read"),
    // A function called like a column.
    ("SELECT t.row_and_more FROM t", "primary", "volatile_operator"),
    ("SELECT (t).of_any_row FROM t", "primary", "volatile_operator"),
    ("SELECT (SELECT x FROM t x).of_any_row", "primary", "volatile_operator"),
    // Operators that keywords stand for.
    ("SELECT point '(1,1)' LIKE point '(1,1)'", "primary", "volatile_operator"),
    ("SELECT point '(1,1)' BETWEEN point '(1,1)' AND point '(1,1)'", "primary", "volatile_operator"),
    ("SELECT json '1' IN (json '1')", "primary", "volatile_operator"),
    ("SELECT nullif(json '1', json '1')", "primary", "volatile_operator"),
    ("SELECT CASE json '1' WHEN json '1' THEN 1 END", "primary", "volatile_operator"),
    ("SELECT json '1' IS DISTINCT FROM json '1'", "primary", "volatile_operator"),
    (
        "SELECT 1 FROM (SELECT json '1' a) x JOIN (SELECT json '1' a) y USING (a)",
        "primary",
        "volatile_operator",
    ),
    (
        "SELECT 1 FROM (SELECT json '1' a) x NATURAL JOIN (SELECT json '1' a) y",
        "primary",
        "volatile_operator",
    ),
    // Where a table can stand.
    ("SELECT 1 FROM t, (quick q JOIN t u ON true)", "primary", "unlogged"),
    ("SELECT 1 FROM ONLY (quick)", "primary", "unlogged"),
    ("SELECT 1 FROM t TABLESAMPLE system (1), quick", "primary", "unlogged"),
    ("SELECT 1 FROM reads(1) AS x (a), \"quick\"", "primary", "unlogged"),
    ("SELECT 1 FROM ROWS FROM (reads(1)) AS x (a), quick", "primary", "unlogged"),
    ("SELECT 1 WHERE EXISTS (TABLE quick)", "primary", "unlogged"),
    ("SELECT extract(year FROM now()) FROM quick", "primary", "unlogged"),
    ("WITH quick AS (SELECT * FROM quick) SELECT * FROM quick", "primary", "unlogged"),
    ("SELECT (WITH quick AS (SELECT 1) SELECT 1), id FROM quick", "primary", "unlogged"),
    ("WITH x AS (SELECT * FROM quick), quick AS (SELECT 1) SELECT 1 FROM x", "primary", "unlogged"),
    ("SELECT id FROM t UNION ALL TABLE public.quick", "primary", "unlogged"),
    ("SELECT quick.id FROM t AS quick", "replica", "read"),
];

/// Text, target, reason: for the role `app`, whose search path is `app, public`.
const CASES: &[(&str, &str, &str)] = &[
    ("SELECT * FROM t", "replica", "read"),
    ("SELECT reads(1)", "replica", "read"),
    ("SELECT DISTINCT id FROM t ORDER BY id", "replica", "read"),
    ("SELECT id FROM t WHERE id IN (1) AND name LIKE 'o%'", "replica", "read"),
    ("SELECT writes(1)", "primary", "user_function"),
    ("SELECT overloaded(1)", "primary", "user_function"),
    ("SELECT by_path()", "primary", "user_function"),
    ("SELECT public.by_path()", "replica", "read"),
    ("SELECT app.by_path()", "primary", "user_function"),
    ("SELECT not_there()", "primary", "unknown_function"),
    ("SELECT * FROM plain_view", "replica", "read"),
    ("SELECT * FROM writing_view", "primary", "view"),
    ("SELECT * FROM view_of_view", "primary", "view"),
    ("SELECT * FROM sequence_view", "primary", "view"),
    ("SELECT * FROM lock_view", "primary", "view"),
    ("WITH writing_view AS (SELECT 1) SELECT * FROM writing_view", "replica", "read"),
    ("SELECT (SELECT count(*) FROM writing_view)", "primary", "view"),
    ("SELECT good_agg(id) FROM t", "replica", "read"),
    ("SELECT bad_agg(id) FROM t", "primary", "user_function"),
    ("SELECT sql_reads()", "replica", "read"),
    ("SELECT sql_lies()", "primary", "user_function"),
    ("SELECT atomic_lies()", "primary", "user_function"),
    ("SELECT 1 === 2", "primary", "volatile_operator"),
    ("SELECT 1 + 2", "replica", "read"),
    ("SELECT 'x'::guarded", "primary", "volatile_operator"),
    ("SELECT CAST('x' AS guarded)", "primary", "volatile_operator"),
    ("SELECT * FROM with_guarded", "primary", "volatile_operator"),
    ("SELECT 'a'::plain_domain", "replica", "read"),
    ("SELECT t.of_a_row FROM t", "primary", "volatile_operator"),
    ("SELECT t.stable_of_a_row FROM t", "replica", "read"),
    ("SELECT * FROM secret", "primary", "view"),
    ("SELECT * FROM open_secret", "replica", "read"),
    ("SELECT * FROM quick", "primary", "unlogged"),
    ("SELECT * FROM parts", "primary", "unlogged"),
    ("SELECT * FROM part_1", "replica", "read"),
    ("SELECT * FROM ONLY t", "replica", "read"),
    ("SELECT * FROM ONLY (quick)", "primary", "unlogged"),
    ("TABLE quick", "primary", "unlogged"),
    ("COPY quick TO STDOUT", "primary", "unlogged"),
    ("SELECT * FROM numbers", "primary", "server_state"),
    ("SELECT * FROM not_there", "primary", "unknown_relation"),
    ("SELECT * FROM pg_class LIMIT 1", "replica", "read"),
    ("SELECT table_name FROM information_schema.tables LIMIT 1", "replica", "read"),
    ("EXPLAIN SELECT * FROM writing_view", "primary", "view"),
];

async fn start() -> (Cluster, Proxy) {
    start_with(SCHEMA).await
}

async fn start_with(schema: &str) -> (Cluster, Proxy) {
    let cluster = cluster().replicas(2).start().await.unwrap();
    cluster.primary().sql(schema).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, "").await;
    (cluster, proxy)
}

async fn app(proxy: &Proxy) -> Raw {
    Raw::login(proxy.address(), &[("user", "app")]).await.unwrap()
}

/// Target and reason of the unit that is run meanwhile.
async fn routed(proxy: &Proxy, unit: impl Future<Output = ()>) -> (String, String) {
    let before = proxy.metrics().await;
    unit.await;
    let after = proxy.metrics().await;
    let grown: Vec<&str> = after
        .lines()
        .filter(|line| line.starts_with("pgweir_units_total{"))
        .filter(|line| {
            let series = line.rsplit_once(' ').unwrap().0;
            sum(line, series, &[])
                > before.lines().find(|old| old.starts_with(series)).map_or(0.0, |old| sum(old, series, &[]))
        })
        .collect();
    let [line] = grown.as_slice() else { panic!("{grown:?}") };
    let label = |name: &str| {
        let rest = line.split_once(&format!("{name}=\"")).unwrap().1;
        rest.split_once('"').unwrap().0.to_owned()
    };
    (label("target"), label("reason"))
}

async fn goes(proxy: &Proxy, client: &mut Raw, text: &str) -> (String, String) {
    routed(proxy, async {
        let answer = client.query(text).await.unwrap();
        assert!(!answer.errors.iter().any(|error| is_refusal(&error.code)), "{text}: {answer:?}");
    })
    .await
}

/// What a replica says to what it cannot do.
fn is_refusal(code: &str) -> bool {
    matches!(code, "25006" | "0A000" | "55000")
}

#[tokio::test]
async fn names_are_looked_through_with_no_configuration() {
    let (_cluster, proxy) = start().await;
    all_go(&proxy, CASES).await;
}

#[tokio::test]
async fn what_is_reached_without_being_named_is_seen() {
    let (cluster, proxy) = start_with(&[SCHEMA, MORE].concat()).await;
    all_go(&proxy, MORE_CASES).await;
    // A temporary table of another session changes nothing for this one.
    let mut client = app(&proxy).await;
    let session = cluster.primary().connect("postgres").await.unwrap();
    session.batch_execute("CREATE TEMP TABLE hidden () INHERITS (parents)").await.unwrap();
    client.ok("CREATE VIEW app.newer AS SELECT 1").await;
    let seen =
        || async { goes(&proxy, &mut app(&proxy).await, "SELECT * FROM parents").await.0 == "replica" };
    eventually(SOON, seen).await.unwrap();
}

async fn all_go(proxy: &Proxy, cases: &[(&str, &str, &str)]) {
    let mut client = app(proxy).await;
    let mut wrong = Vec::new();
    for (text, target, reason) in cases {
        let mut errors = Vec::new();
        let run = async { errors = client.query(text).await.unwrap().errors };
        let (to, why) = routed(proxy, run).await;
        let refused = errors.iter().find(|error| is_refusal(&error.code));
        if (&*to, &*why) != (*target, *reason) || refused.is_some() {
            wrong.push(format!("{text}: {to} {why} {refused:?}, not {target} {reason}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn definitions_that_change_through_pgweir_count_from_then_on() {
    let (cluster, proxy) = start().await;
    let (mut client, mut other) = (app(&proxy).await, proxy.client().await);
    // A prepared statement is no exception.
    client.send(&[&extended("s", "SELECT reads(1)")[..], &sync()].concat()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().errors, []);
    let writes = "BEGIN INSERT INTO public.log VALUES (1); RETURN 1; END";
    let body = |volatility: &str, body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION reads(int) RETURNS int LANGUAGE plpgsql {volatility} AS $$ {body} $$"
        )
    };
    for _ in 0..10 {
        other.ok(&body("VOLATILE", writes)).await;
        let (to, _) = goes(&proxy, &mut client, "SELECT reads(1)").await;
        assert_eq!(to, "primary");
        let prepared = routed(&proxy, async {
            client.send(&[&execute("s")[..], &sync()].concat()).await.unwrap();
            assert_eq!(client.answer().await.unwrap().errors, []);
        });
        assert_eq!(prepared.await.0, "primary");
        // In a transaction: from its end on.
        other.ok("BEGIN; SELECT 1").await;
        other.ok(&body("STABLE", "BEGIN RETURN 1; END")).await;
        other.ok("COMMIT").await;
        cluster.wait_replayed(SOON).await.unwrap();
        let again = || async { goes(&proxy, &mut app(&proxy).await, "SELECT reads(1)").await.0 == "replica" };
        eventually(SOON, again).await.unwrap();
    }
}

#[tokio::test]
async fn definitions_that_change_behind_pgweirs_back_are_found_out() {
    let (cluster, proxy) = start().await;
    let mut client = app(&proxy).await;
    let primary = cluster.primary();
    for (change, text, reason) in [
        ("ALTER FUNCTION reads(int) VOLATILE", "SELECT reads(1)", "user_function"),
        (
            "CREATE OR REPLACE VIEW plain_view AS SELECT writes(1)::int AS id",
            "SELECT * FROM plain_view",
            "view",
        ),
        ("ALTER TABLE open_secret SET UNLOGGED", "SELECT * FROM open_secret", "unlogged"),
        ("DROP TABLE part_1", "SELECT * FROM part_1", "unknown_relation"),
    ] {
        assert_eq!(goes(&proxy, &mut client, text).await.0, "replica", "{text}");
        primary.sql(change).await.unwrap();
        // Until it is found out, the replica may refuse.
        let run = || async { drop(app(&proxy).await.query(text).await.unwrap()) };
        let seen = || async { routed(&proxy, run()).await.1 == reason };
        eventually(Duration::from_secs(3), seen).await.unwrap_or_else(|_| panic!("{change}"));
    }
}

/// Kinds of tables under one name, prepared before and after: never an error, never an empty answer.
#[tokio::test]
async fn a_table_may_change_its_kind_under_its_name() {
    let (_cluster, proxy) = start().await;
    let (mut client, mut reader) = (proxy.client().await, proxy.client().await);
    for kind in ["", "UNLOGGED", "", "UNLOGGED", "UNLOGGED", ""] {
        client.ok("DROP TABLE IF EXISTS changing").await;
        client.ok(&format!("CREATE {kind} TABLE changing (id int)")).await;
        client.ok("INSERT INTO changing VALUES (1)").await;
        for _ in 0..5 {
            let answer = reader.query("SELECT count(*) FROM changing").await.unwrap();
            assert_eq!(answer.errors, [], "{kind}");
        }
        assert_eq!(client.value("SELECT count(*) FROM changing").await, "1", "{kind}");
    }
    client.ok("CREATE TEMP TABLE changing (id int)").await;
    assert_eq!(client.value("SELECT count(*) FROM changing").await, "0");
    client.ok("DROP TABLE pg_temp.changing").await;
    assert_eq!(client.value("SELECT count(*) FROM changing").await, "1");
}

#[tokio::test]
async fn ten_thousand_tables_and_functions_are_read_quickly() {
    let cluster = cluster().setting("max_locks_per_transaction", "2000").start().await.unwrap();
    let primary = cluster.primary();
    let make = "DO $$ BEGIN FOR n IN 1..10000 LOOP \
        EXECUTE format('CREATE TABLE table_number_%s (id int, name text)', n); \
        EXECUTE format('CREATE FUNCTION function_number_%s(int) RETURNS int LANGUAGE sql STABLE AS ''SELECT 1''', n); \
        END LOOP; \
        FOR n IN 1..500 LOOP EXECUTE format('CREATE VIEW view_number_%s AS SELECT * FROM table_number_%s', n, n); END LOOP; \
        END $$";
    primary.sql(make).await.unwrap();
    let connection = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", primary.port());
    let start = pgweir::clock::now();
    let seen = monitor::read_once(&connection).await.unwrap();
    let catalog = Catalog::build(&seen.rows, &[], &[]);
    let time = start.elapsed();
    println!("{} objects, {} bytes, {time:?}", catalog.objects(), catalog.bytes());
    assert!(catalog.objects() > 20_000);
    assert!(catalog.bytes() < 20 << 20, "{}", catalog.bytes());
    // In a debug build, beside other tests.
    assert!(time < Duration::from_secs(8), "{time:?}");
}

/// A database that is gone is asked for no more, and takes nobody's place; when it is there again, it is known again.
#[tokio::test]
async fn a_database_that_is_gone_is_left_alone() {
    let cluster = cluster().start().await.unwrap();
    let primary = cluster.primary();
    let text = configuration(&cluster.servers(), "", "")
        .replace("[databases.postgres]", "[databases.\"*\"]")
        .replace("[catalog]", "[catalog]\nmax_databases = 2");
    let proxy = Proxy::with(&text);
    proxy.knows(1).await;
    let asked = |name: &str| primary.log().matches(&format!("database \"{name}\" does not exist")).count();
    let objects = |name: &str| {
        let label = format!("dbname=\"{name}\"");
        let proxy = &proxy;
        async move { proxy.sum("pgweir_catalog_objects", &[&label]).await as usize }
    };
    for name in ["stays", "used", "unused"] {
        primary.sql(&format!("CREATE DATABASE {name}")).await.unwrap();
    }
    proxy.reads_catalog("unused").await;
    proxy.reads_catalog("used").await;
    let mut client = Raw::login(proxy.address(), &[("database", "used")]).await.unwrap();
    client.ok("CREATE TABLE before AS SELECT 1 AS n").await;
    for name in ["used", "unused"] {
        primary.sql(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
        eventually(SOON, || async { asked(name) > 0 }).await.unwrap();
    }
    eventually(SOON, || async { objects("unused").await == 0 }).await.unwrap();
    // There is room for another one, although two were known; and as often as that is looked at, these are not.
    proxy.reads_catalog("stays").await;
    for nth in 0..8 {
        let before = objects("stays").await;
        primary.sql_in("stays", &format!("CREATE TABLE t{nth} (id int)")).await.unwrap();
        eventually(SOON, || async { objects("stays").await > before }).await.unwrap();
    }
    for name in ["used", "unused"] {
        assert!(asked(name) <= 2, "{name}: {}", primary.log());
    }
    for name in ["used", "unused"] {
        primary.sql(&format!("CREATE DATABASE {name}")).await.unwrap();
    }
    primary.sql_in("used", "CREATE TABLE after AS SELECT 2 AS n").await.unwrap();
    let mut other = Raw::login(proxy.address(), &[("database", "used")]).await.unwrap();
    assert_eq!(other.value("SELECT n FROM after").await, "2");
    assert_eq!(client.value("SELECT n FROM after").await, "2");
    let before = objects("used").await;
    primary.sql_in("used", "CREATE TABLE more (id int)").await.unwrap();
    eventually(SOON, || async { objects("used").await > before }).await.unwrap();
}
