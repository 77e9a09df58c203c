//! `pg_prepared_statements` through pgweir: what the client has prepared, whoever else uses the connection.

use pgweir::cli::demo::cluster::Cluster;

use crate::proxy::{Proxy, SOON, cluster};
use crate::raw::{Answer, Raw};
use crate::wire::{bind, close, execute, parse, sync};

/// All but the times, which differ from a direct connection's.
const ALL: &str =
    "SELECT name, statement, parameter_types, from_sql FROM pg_prepared_statements ORDER BY prepare_time";

async fn start(settings: &str) -> (Cluster, Proxy) {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let text = "CREATE TABLE t (id int PRIMARY KEY, what text); INSERT INTO t VALUES (1, 'one'); \
                CREATE TABLE u (id int, what text); CREATE VIEW there AS TABLE pg_prepared_statements";
    cluster.primary().sql(text).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, settings).await;
    (cluster, proxy)
}

async fn exchange(client: &mut Raw, messages: &[Vec<u8>]) -> Answer {
    client.send(&messages.concat()).await.unwrap();
    client.answer().await.unwrap()
}

async fn run(client: &mut Raw, name: &str, values: &[&str]) -> Answer {
    exchange(client, &[bind("", name, values), execute("", 0), sync()]).await
}

async fn prepare(client: &mut Raw, name: &str, text: &str) {
    let answer = exchange(client, &[parse(name, text), sync()]).await;
    assert_eq!(answer.errors, [], "{text}");
}

/// What a client does between two looks. Each is one exchange.
enum Step {
    Sql(&'static str),
    Parse(&'static str, &'static str),
    Close(&'static str),
    /// A named statement with these values.
    Run(&'static str, &'static [&'static str]),
    /// A statement without a name, in one unit.
    Unnamed(&'static str),
    /// A statement is prepared and run in one unit.
    AtOnce(&'static str, &'static str),
}

impl Step {
    async fn go(&self, client: &mut Raw) -> Answer {
        match *self {
            Self::Sql(text) => client.query(text).await.unwrap(),
            Self::Parse(name, text) => exchange(client, &[parse(name, text), sync()]).await,
            Self::Close(name) => exchange(client, &[close('S', name), sync()]).await,
            Self::Run(name, values) => run(client, name, values).await,
            Self::Unnamed(text) => {
                exchange(client, &[parse("", text), bind("", "", &[]), execute("", 0), sync()]).await
            }
            Self::AtOnce(name, text) => {
                exchange(client, &[parse(name, text), bind("", name, &[]), execute("", 0), sync()]).await
            }
        }
    }
}

/// Rows, tags and errors as a direct connection has them, step by step; another client works on the same server connection.
async fn same_as_direct(settings: &str, steps: &[Step]) {
    let (cluster, proxy) = start(settings).await;
    let (mut one, mut other) = (proxy.client().await, proxy.client().await);
    let mut direct = Raw::login(cluster.primary().address().parse().unwrap(), &[]).await.unwrap();
    prepare(&mut other, "a", "SELECT 'the other''s', txid_current() > 0").await;
    for (nth, step) in steps.iter().enumerate() {
        let (through, expected) = (step.go(&mut one).await, step.go(&mut direct).await);
        let what = |answer: &Answer| {
            (answer.rows.clone(), answer.tags.clone(), answer.code().to_owned(), answer.status)
        };
        assert_eq!(what(&through), what(&expected), "step {nth}: {through:?}");
        // Between transactions it may come to the same connection.
        if expected.status == 'I' && !settings.contains("session") {
            assert_eq!(run(&mut other, "a", &[]).await.value(), "the other's", "after step {nth}");
        }
    }
    drop(one);
    let left =
        other.query("SELECT count(*), txid_current() FROM there WHERE name IN ('b', 'c', 'q', 'Long Name')");
    assert_eq!(left.await.unwrap().value(), "0", "it was left on the connection");
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await, 0.0);
}

#[tokio::test]
async fn a_client_has_its_own_in_order() {
    use Step::*;
    let steps = [
        Sql(ALL),
        Parse("b", "SELECT what FROM t WHERE id = $1"),
        Sql("PREPARE a (int, text) AS UPDATE t SET what = $2 WHERE id = $1"),
        Sql("PREPARE \"Long Name\" AS SELECT id + 1, $1::text FROM t;"),
        Parse("c", "INSERT INTO u VALUES ($1, $2)"),
        Sql(ALL),
        Unnamed(ALL),
        Run("b", &["1"]),
        Sql("EXECUTE a (1, 'two')"),
        Sql("EXECUTE \"Long Name\" ('x')"),
        Parse("q", ALL),
        Run("q", &[]),
        Run("q", &[]),
        AtOnce("r", ALL),
        Close("c"),
        Sql("DEALLOCATE a"),
        Run("q", &[]),
        Sql("SELECT count(*) FROM pg_prepared_statement()"),
        Sql("PREPARE a AS SELECT 1"),
        Sql("SELECT 1; SELECT count(*) FROM pg_prepared_statements; EXECUTE a"),
        Parse("b", "SELECT 1"),
        Sql("PREPARE b AS SELECT 1"),
        Sql("DEALLOCATE ALL"),
        Run("q", &[]),
        Sql(ALL),
        Sql("EXECUTE a"),
    ];
    same_as_direct("pool_size = 1", &steps).await;
}

#[tokio::test]
async fn in_transactions_as_well() {
    use Step::*;
    let steps = [
        Sql("PREPARE a (int) AS SELECT what FROM t WHERE id = $1"),
        Parse("b", "SELECT what FROM t WHERE id = $1"),
        Sql("BEGIN"),
        Sql(ALL),
        Run("b", &["1"]),
        Sql("EXECUTE a (1)"),
        Parse("c", "INSERT INTO u VALUES ($1, $2)"),
        Unnamed(ALL),
        Run("c", &["2", "two"]),
        Sql("DEALLOCATE b"),
        Parse("q", ALL),
        Run("q", &[]),
        // What SQL makes in a transaction stands before what is made again for the question.
        Sql("PREPARE d AS SELECT 1"),
        Sql("SELECT name, statement, from_sql FROM pg_prepared_statements ORDER BY name"),
        Sql("EXECUTE d"),
        Sql("COMMIT"),
        Sql(ALL),
        Sql("BEGIN"),
        Sql("SELECT 1 / 0"),
        Sql(ALL),
        Run("q", &[]),
        Sql("ROLLBACK"),
        Sql("BEGIN READ ONLY"),
        Sql(ALL),
        Run("b", &["1"]),
        Run("q", &[]),
        Sql("COMMIT"),
        Run("q", &[]),
    ];
    same_as_direct("pool_size = 1", &steps).await;
}

#[tokio::test]
async fn with_a_connection_of_its_own() {
    use Step::*;
    let steps = [
        Parse("b", "SELECT what FROM t WHERE id = $1"),
        // Where it is one of several it stays where it was made.
        Sql("BEGIN; PREPARE e AS SELECT 2; COMMIT"),
        Sql("PREPARE a AS SELECT 1"),
        Sql("SELECT count(*) FROM pg_prepared_statements"),
        Sql("SELECT name FROM pg_prepared_statements ORDER BY name"),
        Run("b", &["1"]),
        Sql("EXECUTE a"),
        Sql("EXECUTE e"),
        Close("b"),
        Sql("DEALLOCATE e"),
        Unnamed(ALL),
        Sql("DEALLOCATE a"),
        Sql(ALL),
    ];
    for mode in ["session", "transaction"] {
        let (cluster, proxy) = start(&format!("pool_mode = \"{mode}\"")).await;
        let mut one = proxy.client().await;
        let mut direct = Raw::login(cluster.primary().address().parse().unwrap(), &[]).await.unwrap();
        for (nth, step) in steps.iter().enumerate() {
            let (through, expected) = (step.go(&mut one).await, step.go(&mut direct).await);
            assert_eq!((through.rows, through.tags), (expected.rows, expected.tags), "{mode}, step {nth}");
        }
    }
}

/// PostgreSQL shows what it can plan no longer. Outside a transaction that is left out; the others are there.
#[tokio::test]
async fn one_that_has_lost_its_table_costs_the_others_nothing() {
    let (cluster, proxy) = start("pool_size = 1").await;
    cluster.primary().sql("CREATE TABLE gone (id int)").await.unwrap();
    let mut client = proxy.client().await;
    prepare(&mut client, "a", "SELECT 1, txid_current()").await;
    prepare(&mut client, "b", "SELECT id FROM gone").await;
    client.ok("PREPARE c AS SELECT id FROM gone").await;
    client.ok("PREPARE d AS SELECT 2").await;
    client.ok("DROP TABLE gone").await;
    let names = "SELECT string_agg(name, ' ' ORDER BY prepare_time) FROM pg_prepared_statements";
    for _ in 0..2 {
        assert_eq!(client.value(names).await, "a d");
        let unit = [parse("", names), bind("", "", &[]), execute("", 0), sync()];
        let answer = exchange(&mut client, &unit).await;
        assert_eq!((answer.value(), answer.tags.as_str()), ("a d", "12DCZ"));
        assert_eq!(run(&mut client, "a", &[]).await.value(), "1");
        assert_eq!(client.value("EXECUTE d").await, "2");
    }
    assert_eq!(run(&mut client, "b", &[]).await.code(), "42P01");
}

/// What stands in a unit beside the question, pipelines of questions, and what another client's EXECUTE has left.
#[tokio::test]
async fn nothing_else_of_the_unit_counts_for_it() {
    let (cluster, proxy) = start("pool_size = 1").await;
    let mut client = proxy.client().await;
    for name in ["a", "b", "c"] {
        prepare(&mut client, name, &format!("SELECT '{name}', txid_current() > 0")).await;
    }
    let names = "SELECT string_agg(name, ' ' ORDER BY prepare_time) FROM pg_prepared_statements";
    let ask = || [parse("", names), bind("", "", &[]), execute("", 0)].concat();
    // A Parse that is refused behind it.
    let refused = exchange(&mut client, &[ask(), parse("z", "SELECT nope"), sync()]).await;
    assert_eq!((refused.rows[0][0].as_deref(), refused.code()), (Some("a b c"), "42703"));
    prepare(&mut client, "z", "SELECT 'z'").await;
    assert_eq!(run(&mut client, "z", &[]).await.value(), "z");
    // A Close and a Parse that are skipped.
    let fails = [parse("", "SELECT 1 / 0"), bind("", "", &[]), execute("", 0)].concat();
    let skipped = [ask(), fails, close('S', "b"), parse("y", "SELECT 'y'"), sync()];
    assert_eq!(exchange(&mut client, &skipped).await.code(), "22012");
    assert_eq!(run(&mut client, "b", &[]).await.value(), "b");
    assert_eq!(run(&mut client, "y", &[]).await.code(), "26000");
    assert_eq!(client.value(names).await, "a b c z");

    // Two of which one has lost its table, one behind the other.
    cluster.primary().sql("CREATE TABLE gone (id int)").await.unwrap();
    prepare(&mut client, "g", "SELECT id FROM gone").await;
    client.ok("DROP TABLE gone").await;
    let question = crate::wire::query(names);
    client.send(&[question.clone(), crate::wire::query("SELECT 1"), question].concat()).await.unwrap();
    for expected in ["a b c z", "1", "a b c z"] {
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.value(), &*answer.tags), (expected, "TDCZ"));
    }

    // Others see nothing of that, also where a text that names one was prepared.
    prepare(&mut client, "e", "EXECUTE c").await;
    assert_eq!(run(&mut client, "e", &[]).await.value(), "c");
    let mut other = proxy.client().await;
    assert_eq!(other.value(&names.replace("string_agg", "count(*), string_agg")).await, "0");
    client.ok("DEALLOCATE e").await;
    let both = client.ok(&format!("DEALLOCATE a; {names}")).await;
    assert_eq!(both.rows, [[Some("b c z".to_owned())]]);
    assert_eq!(run(&mut client, "a", &[]).await.code(), "26000");
    assert_eq!(client.value(names).await, "b c z");
}

/// A request to cancel the question hits it, also while its connection gets what the client has.
#[tokio::test]
async fn a_question_that_waits_can_be_cancelled() {
    let (cluster, proxy) = start("pool_size = 1").await;
    let mut client = proxy.client().await;
    for nth in 0..3 {
        prepare(&mut client, &format!("s{nth}"), "SELECT what FROM t WHERE id = $1").await;
    }
    let mut owner = Raw::login(cluster.primary().address().parse().unwrap(), &[]).await.unwrap();
    owner.ok("BEGIN; LOCK TABLE t").await;
    let watch = crate::proxy::Watch::new(cluster.primary()).await;
    client
        .send(&crate::wire::query("SELECT pg_sleep(60), count(*) FROM pg_prepared_statements"))
        .await
        .unwrap();
    watch.becomes("wait_event_type = 'Lock'", 1, SOON).await;
    Raw::cancel(proxy.address(), client.key).await.unwrap();
    assert_eq!(client.answer().await.unwrap().code(), "57014");
    owner.ok("COMMIT").await;
    assert_eq!(client.value("SELECT count(*) FROM pg_prepared_statements").await, "3");
}
