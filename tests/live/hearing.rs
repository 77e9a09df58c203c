//! When what is said has been heard: before its sender is told of the commit, by all who listen, so that each brings it along with its
//! next answer; and where nothing is heard, nobody waits for long.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, eventually};
use pgweir::clock;
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, Watch, cluster};
use crate::raw::{Raw, query};
use crate::wire::{bind, execute, parse, sync};

/// Longest that pgweir waits for what others are to hear.
const LONGEST: Duration = Duration::from_millis(100);

async fn start(settings: &str) -> (Cluster, Proxy) {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let proxy = Proxy::start(&cluster, settings).await;
    (cluster, proxy)
}

fn run(name: &str, text: &str, values: &[&str]) -> Vec<u8> {
    [parse(name, text), bind("", name, values), execute("", 0), sync()].concat()
}

/// The ways in which something is said, each in the units of one transaction.
fn ways(payload: &str) -> Vec<Vec<Vec<u8>>> {
    let unit = |text: &str| query(text).to_vec();
    let bound = || run("", "SELECT pg_notify($1, $2)", &["ch", payload]);
    let notify = format!("NOTIFY ch, '{payload}'");
    vec![
        vec![unit(&notify)],
        vec![bound()],
        vec![unit("BEGIN"), unit(&notify), unit("COMMIT")],
        vec![unit("BEGIN"), unit("SELECT txid_current()"), bound(), unit("COMMIT")],
        vec![unit("BEGIN"), unit("NOTIFY ch, 'undone'"), unit("ROLLBACK"), run("", &notify, &[])],
        // All at once.
        vec![[unit("BEGIN"), unit(&notify), unit("COMMIT")].concat()],
        vec![[unit("SELECT 1"), unit(&notify), unit("SELECT txid_current()")].concat()],
    ]
}

/// What the listener asks next, whoever answers that.
fn questions() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a read", query("SELECT 1").to_vec()),
        ("a read, bound", run("", "SELECT $1::text", &["x"])),
        ("on the primary", query("SELECT txid_current()").to_vec()),
        ("a setting of pgweir's own", query("SHOW pgweir.consistency").to_vec()),
        ("its channels", query("SELECT * FROM pg_listening_channels()").to_vec()),
        ("once more", query("LISTEN ch").to_vec()),
        ("an error", query("SELECT 1 / 0").to_vec()),
        ("an error, skipped up to its end", [parse("", "SELECT 1 FROM nowhere"), sync()].concat()),
        ("what it says elsewhere", query("NOTIFY nobody").to_vec()),
    ]
}

async fn answers(client: &mut Raw, unit: &[u8], units: usize) {
    client.send(unit).await.unwrap();
    for _ in 0..units {
        assert_eq!(client.answer().await.unwrap().errors, []);
    }
}

/// Says it, and waits for the end of all units.
async fn say(client: &mut Raw, units: &[Vec<u8>]) {
    for unit in units {
        answers(client, unit, ends(unit)).await;
    }
}

/// So many units end in what is sent.
fn ends(sent: &[u8]) -> usize {
    let ends = |part: &&[u8]| matches!(part[0], b'Q' | b'S') && part[1..4] == [0; 3];
    sent.windows(5).filter(ends).count()
}

/// Tasks that keep pgweir and its servers busy until they are told to end.
fn crowd(proxy: &Proxy, ends: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for number in 0..6 {
        let (address, ends) = (proxy.address(), ends.clone());
        tasks.spawn(async move {
            let mut client = Raw::login(address, &[]).await.unwrap();
            while !ends.load(Relaxed) {
                match number % 3 {
                    0 => client.ok("SELECT count(*) FROM generate_series(1, 100)").await,
                    1 => client.ok("SELECT txid_current()").await,
                    _ => client.ok("NOTIFY others, 'x'").await,
                };
            }
        });
    }
    tasks
}

/// Somebody says something, and when it is told that this is done, a listener asks something: it hears that before the end of its answer.
#[tokio::test]
async fn what_was_said_comes_with_the_next_answer() {
    // No read waits for the replica meanwhile, until the notification has come anyhow.
    let (_cluster, proxy) = start("pool_size = 10\nreads = { consistency = \"eventual\" }").await;
    let (mut ears, mut others) = (proxy.client().await, proxy.client().await);
    ears.ok("LISTEN ch").await;
    others.ok("LISTEN others").await;
    let ends = Arc::new(AtomicBool::new(false));
    let mut tasks = crowd(&proxy, &ends);
    // One who listens elsewhere, and one who does not.
    let mut mouths = [proxy.client().await, proxy.client().await];
    mouths[1].ok("LISTEN elsewhere").await;
    let (mut late, questions) = (Vec::new(), questions());
    let deaf = tokio::spawn(async move { while others.message().await.is_ok() {} });
    for round in 0..560 {
        let payload = round.to_string();
        let ways = ways(&payload);
        say(&mut mouths[round % 2], &ways[round / 2 % ways.len()]).await;
        let (what, question) = &questions[round % questions.len()];
        ears.send(question).await.unwrap();
        let (mut tags, mut heard) = (String::new(), false);
        while !tags.ends_with('Z') {
            let (tag, body) = ears.message().await.unwrap();
            tags.push(char::from(tag));
            heard |= tag == b'A' && body[4..] == *format!("ch\0{payload}\0").as_bytes();
        }
        if !heard {
            late.push(format!("{round}: {tags} to {what}"));
            assert_eq!(ears.message().await.unwrap().0, b'A');
        }
        // It was idle, or it asked already.
        assert!(!heard || tags.starts_with('A') || tags.ends_with("AZ"), "{tags} to {what}");
    }
    ends.store(true, Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    deaf.abort();
    assert!(late.is_empty(), "{} of 560 came late: {late:#?}", late.len());
    proxy.becomes("pgweir_listening_clients", &[], 2.0).await;
}

/// More than is told at once, and to who is in the middle of a transaction.
#[tokio::test]
async fn all_of_it_comes_before_the_end() {
    let (_cluster, proxy) = start("").await;
    let (mut ears, mut mouth) = (proxy.client().await, proxy.client().await);
    ears.ok("LISTEN ch").await;
    let long = "x".repeat(1_000);
    for (begin, question, end) in [
        ("BEGIN", "SELECT txid_current()", "COMMIT"),
        ("BEGIN", "SELECT 1", "ROLLBACK"),
        ("BEGIN", "SELECT 1 / 0", "COMMIT"),
        // No server hears of it.
        ("BEGIN", "", "COMMIT"),
    ] {
        ears.ok(begin).await;
        if !question.is_empty() {
            ears.query(question).await.unwrap();
        }
        mouth.ok("BEGIN").await;
        for number in 0..200 {
            mouth.ok(&format!("NOTIFY ch, '{number} {long}'")).await;
        }
        mouth.ok("COMMIT").await;
        let answer = ears.ok(end).await;
        assert_eq!(answer.tags, format!("C{}Z", "A".repeat(200)), "{begin} {question} {end}");
    }
}

/// The process of the connection that listens.
async fn hub(watch: &Watch) -> String {
    watch.column("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'").await.remove(0)
}

fn signal(name: &str, process: &str) {
    assert!(Command::new("kill").args(["-s", name, process]).status().unwrap().success());
}

/// How long a new client takes to say that.
async fn takes(proxy: &Proxy, texts: &[&str]) -> Duration {
    let mut client = proxy.client().await;
    let start = clock::now();
    for text in texts {
        client.ok(text).await;
    }
    start.elapsed()
}

/// While nothing is heard: who says nothing that anybody listens to waits for nothing, nor who rolls it back; and of the others only
/// the first few, whoever that is, until something is heard again.
#[tokio::test]
async fn nobody_waits_in_vain_for_long() {
    let (cluster, proxy) = start("").await;
    let mut ears = proxy.client().await;
    ears.ok("LISTEN ch").await;
    let watch = Watch::new(cluster.primary()).await;
    let hub = hub(&watch).await;
    let said = ["NOTIFY ch, 'late'"];
    for round in 0..2 {
        signal("STOP", &hub);
        for _ in 0..5 {
            takes(&proxy, &["NOTIFY nobody"]).await;
            takes(&proxy, &["BEGIN", "NOTIFY ch, 'undone'", "ROLLBACK"]).await;
            takes(&proxy, &["BEGIN", "SAVEPOINT s", "NOTIFY ch, 'undone'", "ROLLBACK TO s", "COMMIT"]).await;
        }
        // None of these has waited, or after so many it would not be waited for any of these.
        for nth in 0..3 {
            let took = takes(&proxy, &said).await;
            assert!(took >= LONGEST, "round {round}, {nth}: {took:?}");
        }
        let start = clock::now();
        for _ in 0..30 {
            takes(&proxy, &said).await;
        }
        let took = start.elapsed();
        assert!(took < LONGEST * 20, "round {round}: {took:?}");
        signal("CONT", &hub);
        for _ in 0..33 {
            assert_eq!(ears.message().await.unwrap().0, b'A');
        }
        takes(&proxy, &["NOTIFY ch, 'again'"]).await;
        assert!(["ATDCZ", "TDCAZ"].contains(&&*ears.ok("SELECT 1").await.tags));
    }
}

/// The connection that listens is lost while many speak: who listens is told, and who speaks goes on.
#[tokio::test]
async fn who_speaks_goes_on_when_nobody_hears_any_more() {
    let (cluster, proxy) = start("pool_size = 10").await;
    let watch = Watch::new(cluster.primary()).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let (address, over) = (proxy.address(), over.clone());
        tasks.spawn(async move {
            let mut client = Raw::login(address, &[]).await.unwrap();
            let (mut said, mut longest) = (0, Duration::ZERO);
            while !over.load(Relaxed) {
                let start = clock::now();
                client.ok(&format!("NOTIFY ch, '{number} {said}'")).await;
                longest = longest.max(start.elapsed());
                said += 1;
            }
            (said, longest)
        });
    }
    for _ in 0..10 {
        let mut ears = proxy.client().await;
        ears.ok("LISTEN ch").await;
        assert_eq!(ears.message().await.unwrap().0, b'A');
        watch.column(&format!("SELECT pg_terminate_backend({})", hub(&watch).await)).await;
        let mut tag = b'A';
        while tag != b'E' {
            tag = ears.message().await.unwrap().0;
        }
        let gone = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
        eventually(SOON, || async { watch.column(gone).await == ["0"] }).await.unwrap();
    }
    over.store(true, Relaxed);
    while let Some(ended) = tasks.join_next().await {
        let (said, longest) = ended.unwrap();
        assert!(said > 10 && longest < Duration::from_secs(2), "{said} {longest:?}");
    }
}

/// What a client tells itself comes before the end of the unit also where its text does not say that: as from the server itself.
#[tokio::test]
async fn what_its_text_does_not_say_comes_before_the_end_too() {
    let (cluster, proxy) = start("pool_size = 2").await;
    let schema = "CREATE TABLE told (id int); CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS \
        $$ BEGIN PERFORM pg_notify('ch', NEW.id::text); RETURN NEW; END $$; \
        CREATE TRIGGER tell AFTER INSERT ON told FOR EACH ROW EXECUTE FUNCTION tell(); \
        CREATE PROCEDURE tells() LANGUAGE plpgsql AS $$ BEGIN NOTIFY ch, 'called'; COMMIT; NOTIFY ch, 'again'; END $$";
    cluster.primary().sql(schema).await.unwrap();
    let direct = ([127, 0, 0, 1], cluster.primary().port()).into();
    let unit = |text: &str| query(text).to_vec();
    let ways = [
        unit("INSERT INTO told VALUES (1), (2)"),
        run("", "INSERT INTO told VALUES ($1)", &["3"]),
        unit("DO $$ BEGIN NOTIFY ch, 'done'; END $$"),
        unit("CALL tells()"),
        unit("NOTIFY ch, 'one'; NOTIFY ch, 'two'"),
        unit("SELECT 1; NOTIFY ch, 'one'; SELECT 2"),
        unit("BEGIN; NOTIFY ch, 'undone'; ROLLBACK"),
        unit("BEGIN; INSERT INTO told VALUES (4); COMMIT"),
        unit("SELECT pg_notify('ch', 'a' || n) FROM generate_series(1, 20) n"),
        run("", "SELECT pg_notify($1, $2 || 'b')", &["ch", "a"]),
        [unit("BEGIN"), unit("INSERT INTO told VALUES (5)"), unit("COMMIT"), unit("SELECT 1")].concat(),
        [unit("INSERT INTO told VALUES (6)"), unit("SELECT count(*) FROM told")].concat(),
        unit("INSERT INTO told SELECT 1 / 0"),
    ];
    let mut answers = [Vec::new(), Vec::new()];
    for (address, answers) in [direct, proxy.address()].into_iter().zip(&mut answers) {
        let mut client = Raw::login(address, &[]).await.unwrap();
        client.ok("LISTEN ch").await;
        for way in ways.iter().cycle().take(5 * ways.len()) {
            client.send(way).await.unwrap();
            for _ in 0..ends(way) {
                answers.push(client.answer().await.unwrap().tags);
            }
        }
    }
    assert_eq!(answers[1], answers[0]);
    assert!(answers[0].iter().any(|tags| tags.contains('A')));

    // When nobody can tell any more, nobody waits for that.
    let mut client = proxy.client().await;
    client.ok("LISTEN ch").await;
    cluster
        .primary()
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        .await
        .unwrap();
    let start = clock::now();
    client.send(&query("INSERT INTO told VALUES (7)")).await.unwrap();
    let _ = client.answer().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
