//! The net under routing: what a replica refuses, does not know yet, cancels or loses runs again, and the client sees only
//! the second result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, Postgres, eventually};
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, Watch, cluster};
use crate::raw::{Raw, query as raw_query};
use crate::wire::{
    Message, Until, Wire, bind, close, describe, execute, parse, query, run, startup, sync, terminate,
};

/// Functions that write; `next_one` and `note` do so out of sight.
const SCHEMA: &str = "
    CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 10);
    CREATE TABLE notes (id serial);
    CREATE SEQUENCE s;
    CREATE FUNCTION next_one(step int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('s'); RETURN step; END $$;
    CREATE FUNCTION note() RETURNS int LANGUAGE sql AS $$ INSERT INTO notes DEFAULT VALUES RETURNING 7 $$;
    CREATE FUNCTION late(step int) RETURNS SETOF int LANGUAGE plpgsql AS
        $$ BEGIN RAISE NOTICE 'begun'; RETURN NEXT step; PERFORM nextval('s'); END $$;
";

/// What a person said wrongly of them.
const LIST: &str = "[routing]\nread_only_functions = [\"next_one\", \"note\", \"late\"]";

async fn stage(replicas: usize) -> Cluster {
    let cluster = cluster()
        .setting("log_min_duration_statement", "0")
        .setting("hot_standby_feedback", "off")
        .setting("max_standby_streaming_delay", "0")
        .replicas(replicas)
        .start()
        .await
        .unwrap();
    cluster.primary().sql(SCHEMA).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    cluster
}

async fn start(replicas: usize, more: &str) -> (Cluster, Proxy) {
    let cluster = stage(replicas).await;
    let proxy = Proxy::start(&cluster, more).await;
    (cluster, proxy)
}

/// How often the server's log has that text.
fn logged(server: &Postgres, text: &str) -> usize {
    server.log().matches(text).count()
}

async fn log_in(address: &str) -> Wire {
    let mut wire = Wire::connect(address).await;
    let hello = startup(196_608, &[("user", "postgres"), ("database", "postgres")]);
    let heard = wire.exchange(&[&hello], Until::Tags(b'Z', 1)).await;
    assert!(heard.iter().any(|message| message.tag == b'Z'), "{heard:?}");
    wire
}

/// What one client hears of these steps, each with how many ReadyForQuery it waits for.
async fn play(address: &str, steps: &[(usize, Vec<u8>)]) -> Vec<Message> {
    let mut wire = log_in(address).await;
    let mut heard = Vec::new();
    for (readies, bytes) in steps {
        heard.extend(wire.exchange(&[bytes], Until::Tags(b'Z', *readies)).await);
    }
    wire.exchange(&[&terminate()], Until::Closed).await;
    heard
}

/// A conversation: its name, and its steps.
type Form = (&'static str, Vec<(usize, Vec<u8>)>);

/// Parse, Bind, Describe, Execute and Sync of a statement that a replica refuses.
fn refused(name: &str) -> Vec<u8> {
    let text = "SELECT next_one(1)";
    [parse(name, text), bind("", name, &[]), describe('P', ""), execute("", 0), sync()].concat()
}

/// The same of one that it does not refuse.
fn read(text: &str) -> Vec<u8> {
    [run(text, &[]), sync()].concat()
}

fn prepare(name: &str, text: &str) -> Vec<u8> {
    [parse(name, text), sync()].concat()
}

fn again(name: &str) -> Vec<u8> {
    [bind("", name, &[]), describe('P', ""), execute("", 0), sync()].concat()
}

/// Every way to ask for what a replica refuses, once a conversation or more often.
fn forms() -> Vec<Form> {
    let piped = vec![(
        5,
        [
            read("SELECT count(*) FROM t"),
            [parse("p", "SELECT 3"), bind("", "p", &[]), execute("", 0), sync()].concat(),
            refused(""),
            [parse("q", "SELECT 4"), bind("", "q", &[]), execute("", 0), sync()].concat(),
            query("SELECT 5"),
        ]
        .concat(),
    )];
    let two = [run("SELECT next_one(1)", &[]), run("SELECT 2", &[]), sync()].concat();
    let closes = [close('S', "n"), prepare("n", "SELECT 1"), bind("", "n", &[]), execute("", 0), sync()];
    vec![
        ("simple", vec![(1, query("SELECT next_one(1)"))]),
        ("simple, of several", vec![(1, query("SELECT next_one(1), 0; SELECT 2"))]),
        ("an insert out of sight", vec![(1, query("SELECT note()"))]),
        ("after a notice", vec![(1, query("SELECT late(4)"))]),
        ("unnamed", vec![(1, refused(""))]),
        ("named, and the name taken", vec![(1, refused("a")), (1, refused("a")), (1, again("a"))]),
        (
            "prepared before",
            vec![
                (1, prepare("n", "SELECT next_one(1)")),
                (1, again("n")),
                (1, again("n")),
                (2, closes.concat()),
            ],
        ),
        ("first in a pipeline", vec![(3, [refused("c"), read("SELECT 1"), query("SELECT 2")].concat())]),
        ("in the middle of a pipeline", [piped, vec![(2, [again("p"), again("q")].concat())]].concat()),
        ("an error behind it", vec![(3, [refused(""), read("SELECT 1/0"), query("SELECT 1")].concat())]),
        ("two statements in a unit", vec![(1, two)]),
    ]
}

/// Whatever the form, what the client hears is what the primary says, byte for byte: before a pgweir that has learned
/// nothing yet, and again when it has.
#[tokio::test]
async fn what_a_replica_refuses_runs_on_the_primary() {
    let cluster = stage(1).await;
    for (name, form) in forms() {
        let direct = play(&cluster.primary().address(), &form).await;
        let proxy = Proxy::start(&cluster, LIST).await;
        let reruns =
            async || proxy.sum("pgweir_reruns_total", &["cause=\"refused\"", "target=\"primary\""]).await;
        for nth in 0..3 {
            let heard = play(&proxy.address().to_string(), &form).await;
            assert_eq!(heard, direct, "{name}, time {nth}");
            assert!(reruns().await > 0.0, "{name}: nothing was refused");
            assert_eq!(proxy.sum("pgweir_learned_total", &[]).await, 1.0, "{name}, time {nth}");
        }
        assert!(proxy.sum("pgweir_units_total", &["target=\"primary\""]).await > 0.0, "{name}");
    }
}

/// What was learned of one statement spares the replica all that call the same function.
#[tokio::test]
async fn a_function_is_learned() {
    let (cluster, proxy) = start(1, LIST).await;
    let mut client = proxy.client().await;
    for text in
        ["SELECT next_one(1)", "SELECT id FROM t WHERE id = next_one(3)", "SELECT next_one(2) + 1 AS more"]
    {
        client.ok(text).await;
    }
    assert_eq!(logged(cluster.replica(0), "ERROR:  cannot execute nextval() in a read-only transaction"), 1);
    // What is prepared on two roles goes on working.
    client.send(&prepare("x", "SELECT 1")).await.unwrap();
    assert!(client.answer().await.unwrap().errors.is_empty());
}

/// A row was passed on: what comes then is the client's to see. It is learned all the same.
#[tokio::test]
async fn after_a_result_nothing_runs_again() {
    let (_cluster, proxy) = start(1, LIST).await;
    let mut client = proxy.client().await;
    // The first result is longer than a window: some of it is shown before the second statement is refused.
    let text = "SELECT repeat('x', 100000); SELECT next_one(2)";
    let answer = client.query(text).await.unwrap();
    assert_eq!((answer.code(), answer.rows.len()), ("25006", 1));
    assert_eq!(proxy.sum("pgweir_reruns_total", &[]).await, 0.0);
    assert_eq!(client.query(text).await.unwrap().code(), "");
    // In a transaction it is not run again either.
    client.ok("BEGIN READ ONLY").await;
    assert_eq!(client.query("SELECT count(*) FROM nothing_here").await.unwrap().code(), "42P01");
    client.ok("ROLLBACK").await;
    assert_eq!(proxy.sum("pgweir_reruns_total", &[]).await, 0.0);
}

#[tokio::test]
async fn a_replica_behind_a_definition() {
    // Whoever waits for what was written does not meet this; and a client that has read on the primary once, not again.
    let (cluster, proxy) = start(1, "reads = { consistency = \"eventual\" }").await;
    cluster.replica(0).pause_replay().await.unwrap();
    let objects = || async { proxy.sum("pgweir_catalog_objects", &[]).await };
    let before = objects().await;
    cluster.primary().sql("CREATE TABLE fresh (id int); INSERT INTO fresh VALUES (42)").await.unwrap();
    eventually(SOON, || async { objects().await > before }).await.unwrap();
    let mut client = proxy.client().await;
    assert_eq!(client.value("SELECT id FROM fresh").await, "42");
    let prepared = [run("SELECT id FROM fresh", &[]), sync()].concat();
    let mut client = proxy.client().await;
    client.send(&prepared).await.unwrap();
    assert_eq!(client.answer().await.unwrap().value(), "42");
    let mut client = proxy.client().await;
    assert_eq!(client.query("SELECT nothing_here").await.unwrap().code(), "42703");
    assert_eq!(proxy.sum("pgweir_reruns_total", &["cause=\"behind\"", "target=\"primary\""]).await, 3.0);
    assert_eq!(proxy.sum("pgweir_learned_total", &[]).await, 0.0);
    cluster.replica(0).resume_replay().await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let before = proxy.sum("pgweir_reruns_total", &[]).await;
    assert_eq!(client.value("SELECT id FROM fresh").await, "42");
    assert_eq!(proxy.sum("pgweir_reruns_total", &[]).await, before);
}

/// Clients that read, one statement after the other.
struct Readers {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    errors: Arc<AtomicUsize>,
}

impl Readers {
    async fn start(proxy: &Proxy, count: usize, text: &'static str) -> Self {
        let mut readers = Self {
            tasks: JoinSet::new(),
            stop: Arc::default(),
            done: Arc::default(),
            errors: Arc::default(),
        };
        for nth in 0..count {
            let mut client = proxy.client().await;
            let (stop, done, errors) = (readers.stop.clone(), readers.done.clone(), readers.errors.clone());
            readers.tasks.spawn(async move {
                while !stop.load(Relaxed) {
                    let bytes = if nth % 2 == 0 {
                        raw_query(text).to_vec()
                    } else {
                        [run(text, &[]), sync()].concat()
                    };
                    client.send(&bytes).await.unwrap();
                    let answer = client.answer().await.unwrap();
                    if let Some(error) = answer.errors.first() {
                        println!("{error:?}");
                        errors.fetch_add(1, Relaxed);
                    }
                    done.fetch_add(1, Relaxed);
                }
            });
        }
        readers
    }

    async fn read_on(&self, more: usize) {
        let goal = self.done.load(Relaxed) + more;
        eventually(Duration::from_secs(60), || async { self.done.load(Relaxed) >= goal }).await.unwrap();
    }

    async fn end(mut self) -> (usize, usize) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        (self.done.load(Relaxed), self.errors.load(Relaxed))
    }
}

/// Rows die under reads that last long enough to be in the way of their removal.
async fn vacuum_until(cluster: &Cluster, readers: &Readers, conflicts: f64, proxy: &Proxy) {
    let watch = cluster.primary().connect("postgres").await.unwrap();
    let seen = async || proxy.sum("pgweir_reruns_total", &["cause=\"cancelled\""]).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while seen().await < conflicts {
        assert!(tokio::time::Instant::now() < deadline, "only {} conflicts", seen().await);
        watch.batch_execute("UPDATE t SET id = id").await.unwrap();
        watch.batch_execute("VACUUM t").await.unwrap();
        readers.read_on(4).await;
    }
}

const SLOW_READ: &str = "SELECT count(*) FROM t, pg_sleep(0.02)";

#[tokio::test]
async fn reads_that_replay_cancels_run_again() {
    let (cluster, proxy) = start(2, "").await;
    let readers = Readers::start(&proxy, 8, SLOW_READ).await;
    vacuum_until(&cluster, &readers, 20.0, &proxy).await;
    let (done, errors) = readers.end().await;
    let reruns = proxy.sum("pgweir_reruns_total", &["cause=\"cancelled\""]).await;
    println!("{done} reads, {errors} errors, {reruns} runs again");
    assert_eq!(errors, 0, "of {done}");
    // As each of them is logged: done, in either protocol, or failed; both, if it was done and then failed before its Sync.
    let count = |what: &str| -> usize {
        cluster.all().iter().map(|server| logged(server, &format!("{what}{SLOW_READ}"))).sum()
    };
    let completed = count("  statement: ") + count("  execute <unnamed>: ");
    let failed = count("STATEMENT:  ");
    assert_eq!(failed, reruns as usize, "each failure was made good once");
    assert!((done..=done + failed).contains(&completed), "{completed} executions of {done} reads");
    assert!(proxy.sum("pgweir_reruns_total", &["target=\"replica\""]).await > 0.0);
}

#[tokio::test]
async fn the_budget_is_kept() {
    let (cluster, proxy) = start(1, "[retry]\nbudget = 0\nfloor = 0").await;
    let readers = Readers::start(&proxy, 4, SLOW_READ).await;
    vacuum_until(&cluster, &readers, 3.0, &proxy).await;
    let (_, errors) = readers.end().await;
    assert!(errors >= 3);
    assert_eq!(proxy.sum("pgweir_reruns_total", &["target=\"primary\""]).await, 0.0);
    assert!(proxy.sum("pgweir_reruns_total", &["target=\"none\""]).await >= 3.0);
}

#[tokio::test]
async fn a_backend_is_terminated() {
    let (cluster, proxy) = start(2, "").await;
    let mut client = proxy.client().await;
    client.send(&raw_query("SELECT 5 FROM pg_sleep(1)")).await.unwrap();
    let sleeping =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let [one, other] = [Watch::new(cluster.replica(0)).await, Watch::new(cluster.replica(1)).await];
    eventually(SOON, || async {
        let ended = [one.column(sleeping).await, other.column(sleeping).await].concat();
        ended.contains(&"1".to_owned())
    })
    .await
    .unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.value(), &*answer.tags), ("5", "TDCZ"));
    assert_eq!(proxy.sum("pgweir_reruns_total", &["cause=\"lost\"", "target=\"replica\""]).await, 1.0);
}

/// Reads whose replica dies: nobody sees an error, pipelines included.
#[tokio::test]
async fn a_replica_is_killed_under_load() {
    let (cluster, proxy) = start(2, "").await;
    let readers = Readers::start(&proxy, 8, "SELECT count(*) FROM t").await;
    let mut piped = proxy.client().await;
    let pipeline: Vec<u8> =
        (0..50).flat_map(|nth| [run(&format!("SELECT {nth}"), &[]), sync()].concat()).collect();
    readers.read_on(200).await;
    let stop = Arc::new(AtomicBool::new(false));
    let done = stop.clone();
    let pipelines = tokio::spawn(async move {
        while !done.load(Relaxed) {
            piped.send(&pipeline).await.unwrap();
            for nth in 0..50 {
                assert_eq!(piped.answer().await.unwrap().value(), nth.to_string());
            }
        }
    });
    cluster.replica(1).kill().await.unwrap();
    readers.read_on(200).await;
    cluster.replica(0).kill().await.unwrap();
    readers.read_on(200).await;
    stop.store(true, Relaxed);
    pipelines.await.unwrap();
    let (done, errors) = readers.end().await;
    println!("{done} reads, {} runs again", proxy.sum("pgweir_reruns_total", &[]).await);
    assert_eq!(errors, 0);
}

/// A pipeline larger than what is kept goes on, a read larger than that goes to the primary.
#[tokio::test]
async fn what_is_kept_is_bounded() {
    let (_cluster, proxy) = start(1, "[retry]\nbuffer = 1024").await;
    let mut client: Raw = proxy.client().await;
    let pipeline: Vec<u8> =
        (0..300).flat_map(|nth| [run(&format!("SELECT {nth}"), &[]), sync()].concat()).collect();
    client.send(&pipeline).await.unwrap();
    for nth in 0..300 {
        assert_eq!(client.answer().await.unwrap().value(), nth.to_string());
    }
    let long = format!("SELECT 7 -- {}", "x".repeat(2000));
    assert_eq!(client.value(&long).await, "7");
    assert_eq!(
        proxy.sum("pgweir_units_total", &["reason=\"unit_too_long\"", "target=\"primary\""]).await,
        1.0
    );
}
