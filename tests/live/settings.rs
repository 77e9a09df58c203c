//! Settings of a session follow their client over server connections that it shares with others; what cannot follow keeps
//! its connection for as long as it is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pgweir::cli::demo::cluster::{Cluster, eventually};
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, cluster};
use crate::raw::Raw;
use crate::wire::{self, bind, close, describe, execute, flush, parse, query, sync};

/// Whatever the steps below may change.
const LOOK: &str = "SELECT concat_ws('|', current_setting('work_mem'), current_setting('search_path'), \
    current_setting('DateStyle'), current_setting('TimeZone'), current_setting('application_name'), \
    coalesce(nullif(current_setting('app.a', true), ''), '-'), \
    coalesce(nullif(current_setting('app.b', true), ''), '-'), \
    coalesce(nullif(current_setting('app.c', true), ''), '-'), current_user, session_user)";

async fn start(settings: &str) -> (Cluster, Proxy) {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let primary = cluster.primary();
    for text in [
        "CREATE ROLE reader; CREATE ROLE other LOGIN; GRANT reader TO other",
        "CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO public; CREATE TABLE s.t AS SELECT 's'::text AS what",
        "CREATE TABLE public.t AS SELECT 'public'::text AS what; GRANT SELECT ON s.t, public.t TO public",
        "CREATE FUNCTION sets(value text) RETURNS int LANGUAGE plpgsql AS \
         $$BEGIN PERFORM set_config('app.c', value, false); PERFORM set_config('work_mem', '7MB', false); RETURN 1; END$$",
        "CREATE FUNCTION inside(value text) RETURNS int LANGUAGE plpgsql AS $$BEGIN RETURN sets(value); END$$",
        "CREATE FUNCTION hides(name text, value text) RETURNS int LANGUAGE plpgsql AS \
         $$BEGIN PERFORM set_config(name, value, false); RETURN 1; END$$",
    ] {
        primary.sql(text).await.unwrap();
    }
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, settings).await;
    (cluster, proxy)
}

/// Numbers without end from one seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// A step: a text, and values for its parameters; with some, it is sent as messages.
fn step(chance: &mut Chance) -> (String, Vec<String>) {
    let value = format!("v{}", chance.below(5));
    let text = match chance.below(20) {
        0 => format!("SET work_mem = '{}MB'", 1 + chance.below(9)),
        1 => format!("SET app.a = '{value}'"),
        2 => format!("SET LOCAL app.a = '{value}'"),
        3 => format!("SELECT set_config('app.b', '{value}', false)"),
        4 => format!("WITH x AS (SELECT set_config('app.b', '{value}', false)) SELECT * FROM x"),
        5 => format!("SELECT {}('{value}')", if chance.below(2) == 0 { "sets" } else { "inside" }),
        6 => "RESET work_mem".to_owned(),
        7 => "RESET app.a".to_owned(),
        8 => "RESET ALL".to_owned(),
        9 => "SET search_path = s, public".to_owned(),
        10 => "SET search_path TO DEFAULT".to_owned(),
        11 => format!("SET application_name = '{value}'"),
        12 => "SET DateStyle = 'German, DMY'".to_owned(),
        13 => "SET TimeZone = 'Asia/Tokyo'".to_owned(),
        14 => "SET ROLE reader".to_owned(),
        15 => "RESET ROLE".to_owned(),
        16 => "SET SESSION AUTHORIZATION other".to_owned(),
        17 => "RESET SESSION AUTHORIZATION".to_owned(),
        18 => {
            let name = if chance.below(2) == 0 { "app.a" } else { "app.c" };
            return ("SELECT set_config($1, $2, false)".to_owned(), vec![name.to_owned(), value]);
        }
        _ => format!("DO $$BEGIN SET app.b = '{value}'; END$$"),
    };
    (text, Vec::new())
}

async fn run(client: &mut Raw, text: &str, values: &[String]) -> String {
    if values.is_empty() {
        client.send(&crate::raw::query(text)).await.unwrap();
    } else {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        client
            .send(&[parse("", text), bind("", "", &values), execute("", 0), sync()].concat())
            .await
            .unwrap();
    }
    let answer = client.answer().await.unwrap();
    format!("{}{:?}{}", answer.status, answer.rows, answer.errors.first().map_or("", |error| &error.code))
}

/// Both do the same, and are told the same.
async fn both(pair: &mut (Raw, Raw), text: &str, values: &[String], history: &mut Vec<String>) {
    history.push(format!("{text} {values:?}"));
    let (through, direct) = (run(&mut pair.0, text, values).await, run(&mut pair.1, text, values).await);
    let steps: Vec<_> = history.iter().filter(|step| !step.starts_with("SELECT concat_ws")).collect();
    let from = steps.len().saturating_sub(20);
    assert_eq!(through, direct, "through pgweir, and direct; {}, after {:#?}", history[0], &steps[from..]);
}

/// Clients with one server connection between them, each beside a direct connection that does the same.
async fn interleave(seed: u64, steps: u64) {
    let (cluster, proxy) = start("pool_size = 1").await;
    let mut pairs = Vec::new();
    for name in ["one", "two"] {
        let login = [("application_name", name)];
        let direct = Raw::login(cluster.primary().address().parse().unwrap(), &login).await.unwrap();
        pairs.push((Raw::login(proxy.address(), &login).await.unwrap(), direct));
    }
    let (mut chance, mut history) = (Chance(seed), vec![format!("seed {seed}")]);
    for _ in 0..steps {
        let who = usize::try_from(chance.below(2)).unwrap();
        history.push(format!("client {who}"));
        let pair = &mut pairs[who];
        match chance.below(4) {
            0 => {
                both(pair, "BEGIN", &[], &mut history).await;
                for _ in 0..1 + chance.below(4) {
                    let (text, values) = match chance.below(6) {
                        0 => ("SAVEPOINT p".to_owned(), Vec::new()),
                        1 => ("ROLLBACK TO p".to_owned(), Vec::new()),
                        _ => step(&mut chance),
                    };
                    both(pair, &text, &values, &mut history).await;
                    // RESET gives the name back that the connection was opened with, until the transaction is over.
                    both(pair, &LOOK.replace("current_setting('application_name'), ", ""), &[], &mut history)
                        .await;
                }
                let end = if chance.below(2) == 0 { "COMMIT" } else { "ROLLBACK" };
                both(pair, end, &[], &mut history).await;
            }
            1 => both(pair, "SELECT what FROM t", &[], &mut history).await,
            _ => {
                let (text, values) = step(&mut chance);
                both(pair, &text, &values, &mut history).await;
            }
        }
        both(pair, LOOK, &[], &mut history).await;
    }
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await, 0.0);
    assert!(
        proxy.sum("pgweir_units_total", &["target=\"replica\""]).await > 10.0,
        "nothing was read on a replica"
    );
}

/// T7.
#[tokio::test]
async fn each_client_reads_its_own_settings() {
    interleave(0x9e37_79b9_7f4a_7c15, 400).await;
}

#[tokio::test]
#[ignore = "the long form: minutes"]
async fn each_client_reads_its_own_settings_for_long() {
    for seed in 1..=10 {
        interleave(seed * 7919, 1000).await;
    }
}

/// T28: what ends, ends its pin.
#[tokio::test]
async fn a_pin_lasts_as_long_as_what_needs_it() {
    let (_cluster, proxy) = start("pool_size = 1\nquery_wait_timeout = \"1s\"").await;
    let (mut one, mut two) = (proxy.client().await, proxy.client().await);
    let write = "SELECT txid_current()";
    for (makes, ends) in [
        ("CREATE TEMP TABLE x (a int)", "DROP TABLE x"),
        ("CREATE TEMP TABLE x (a int)", "DISCARD TEMP"),
        ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"),
        ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c"),
        ("BEGIN; LISTEN n; COMMIT", "UNLISTEN *"),
        ("BEGIN; PREPARE p AS SELECT 1; COMMIT", "DEALLOCATE p"),
        ("BEGIN; PREPARE p AS SELECT 1; COMMIT", "DISCARD ALL"),
    ] {
        one.ok(makes).await;
        assert_eq!(two.query(write).await.unwrap().code(), "53300", "{makes} does not keep its connection");
        one.ok(ends).await;
        let answer = two.query(write).await.unwrap();
        assert!(answer.errors.is_empty(), "{ends} does not end {makes}: {answer:?}");
    }
    let reset = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL";
    let pins = proxy.sum("pgweir_pins_total", &[]).await;
    one.ok(reset).await;
    two.ok(write).await;
    assert!((proxy.sum("pgweir_pins_total", &[]).await - pins).abs() < 0.5);
    // What nobody can be asked for stays with its client.
    one.ok("SELECT hides('app.hidden', 'mine')").await;
    assert_eq!(two.query(write).await.unwrap().code(), "53300");
    assert_eq!(one.value("SELECT current_setting('app.hidden')").await, "mine");
}

/// T38: whatever a client sets at its login holds on every server connection that it gets.
#[tokio::test]
async fn settings_of_the_login_hold_everywhere() {
    let (_cluster, proxy) = start("pool_size = 2").await;
    let options = [
        ("options", "-c work_mem=3MB --app.x=mine -c search_path=s"),
        ("extra_float_digits", "2"),
        ("DateStyle", "German"),
    ];
    let mut one = Raw::login(proxy.address(), &options).await.unwrap();
    let mut two = proxy.client().await;
    let look = "SELECT concat_ws('|', current_setting('work_mem'), current_setting('app.x', true), \
                current_setting('search_path'), current_setting('extra_float_digits'), current_setting('DateStyle'))";
    for _ in 0..5 {
        for more in ["", ", txid_current()"] {
            let text = format!("{look}{more}");
            assert_eq!(one.value(&text).await, "3MB|mine|s|2|German, DMY");
            assert_eq!(two.value(&text).await, "4MB|\"$user\", public|1|ISO, MDY");
        }
        one.ok("SET work_mem = '5MB'").await;
        assert_eq!(one.value("SELECT current_setting('work_mem')").await, "5MB");
        one.ok("RESET work_mem").await;
        two.ok("SET work_mem = '6MB'; RESET work_mem").await;
    }
}

/// Settings that a connection does not take: nothing that was sent with them happens.
#[tokio::test]
async fn settings_that_are_refused_stop_what_follows() {
    let (cluster, proxy) = start("pool_size = 1").await;
    cluster.primary().sql("CREATE ROLE gone; GRANT INSERT, SELECT ON t TO gone").await.unwrap();
    let (mut one, mut two) = (proxy.client().await, proxy.client().await);
    one.ok("SET ROLE gone").await;
    two.ok("SELECT txid_current()").await;
    cluster.primary().sql("DROP OWNED BY gone; DROP ROLE gone").await.unwrap();
    let refused = one.query("INSERT INTO t VALUES ('must not be')").await.unwrap();
    assert_eq!(refused.code(), "22023", "{refused:?}");
    assert_eq!(two.value("SELECT count(*), txid_current() FROM t").await, "1");
}

/// The same, however the unit comes, and whatever comes right behind it: what ends a transaction that has failed, too.
#[tokio::test]
async fn nothing_happens_without_its_settings() {
    let (cluster, proxy) = start("pool_size = 1").await;
    let write = |value: &str| format!("INSERT INTO t VALUES ('{value}')");
    let unit = |value: &str| [wire::run(&write(value), &[]), sync()].concat();
    for (name, sent, readies) in [
        ("an extended unit", unit("a"), 1),
        ("a pipeline", [unit("b"), unit("c"), unit("d")].concat(), 3),
        ("queries", [query(&write("e")), query(&write("f"))].concat(), 2),
        ("a rollback", [query("ROLLBACK"), query(&write("g"))].concat(), 2),
        ("a rollback and more", query(&format!("ROLLBACK; {}", write("h"))), 1),
        ("an extended rollback", [wire::run("ROLLBACK", &[]), sync(), unit("i")].concat(), 2),
        ("a transaction", [query("BEGIN"), query(&write("j")), query("COMMIT")].concat(), 3),
        ("a prepared statement", query("EXECUTE s"), 1),
        (
            "a rollback in a later part of a unit",
            [close('S', "no"), flush(), query(&format!("ROLLBACK; {}", write("k"))), sync()].concat(),
            1,
        ),
        ("the same, extended", [parse("", ""), flush(), wire::run("ROLLBACK", &[]), unit("l")].concat(), 1),
        (
            "one that is longer than a window",
            [
                (0..80).flat_map(|nth| close('S', &format!("{nth}{}", "x".repeat(1_000)))).collect(),
                wire::run("ROLLBACK", &[]),
                unit("m"),
            ]
            .concat(),
            1,
        ),
        ("a question", query("SELECT 1 / count(*) FROM pg_prepared_statements WHERE txid_current() > 0"), 1),
    ] {
        cluster.primary().sql("CREATE ROLE gone; GRANT INSERT, SELECT ON t TO gone").await.unwrap();
        let (mut one, mut two) = (proxy.client().await, proxy.client().await);
        one.ok(&format!("PREPARE s AS {}", write("s"))).await;
        one.ok("SET ROLE gone").await;
        two.ok("SELECT txid_current()").await;
        cluster.primary().sql("DROP OWNED BY gone; DROP ROLE gone").await.unwrap();
        one.send(&sent).await.unwrap();
        let mut codes = Vec::new();
        for _ in 0..readies {
            codes.push(one.answer().await.unwrap().code().to_owned());
        }
        assert!(codes.contains(&"22023".to_owned()), "{name}: {codes:?}");
        assert_eq!(two.value("SELECT count(*), txid_current() FROM t").await, "1", "{name}: {codes:?}");
    }
}

/// The replica's part of a unit fails: the rest is not carried out on the primary, whatever settings went before it.
#[tokio::test]
async fn a_unit_that_moves_fails_as_a_whole() {
    let (cluster, proxy) = start("pool_size = 1").await;
    let (mut one, mut two) = (proxy.client().await, proxy.client().await);
    one.ok("SET work_mem = '5MB'").await;
    for _ in 0..3 {
        two.ok("SELECT what FROM t").await;
        let parts = [parse("", "SELECT nocol FROM t"), describe('S', ""), flush()].concat();
        let rest = [wire::run("INSERT INTO t VALUES ('must not be')", &[]), sync()].concat();
        one.send(&[parts, rest].concat()).await.unwrap();
        assert_eq!(one.answer().await.unwrap().code(), "42703");
    }
    assert_eq!(cluster.primary().value("SELECT count(*) FROM t").await.unwrap(), "1");
}

/// A replica that has not heard of a role yet does not keep a read from running on the primary, and stays up.
#[tokio::test]
async fn a_role_that_a_replica_does_not_know_yet() {
    let (cluster, proxy) = start("pool_size = 1").await;
    cluster.replica(0).pause_replay().await.unwrap();
    cluster.primary().sql("CREATE ROLE young; GRANT SELECT ON t TO young").await.unwrap();
    let mut client = proxy.client().await;
    client.ok("SET pgweir.consistency = 'eventual'").await;
    client.ok("SET ROLE young").await;
    let outages = proxy.sum("pgweir_server_outages_total", &[]).await;
    for _ in 0..3 {
        assert_eq!(client.value("SELECT current_user || what FROM t").await, "youngpublic");
    }
    assert_eq!(proxy.sum("pgweir_server_outages_total", &[]).await as usize, outages as usize);
    assert!(proxy.sum("pgweir_reruns_total", &[]).await > 0.0, "it was tried on the replica");
}

/// What a client sets holds on servers that have another default; what it takes back does not.
#[tokio::test]
async fn a_limit_that_is_taken_back_is_the_servers_own() {
    let (cluster, proxy) = start("pool_size = 1").await;
    cluster.replica(0).alter("statement_timeout", "7000").await.unwrap();
    let mut client = proxy.client().await;
    let shown = "SELECT concat_ws(' ', current_setting('statement_timeout'), pg_is_in_recovery()) FROM t";
    for (text, expected) in [
        ("SET statement_timeout = '900ms'", "900ms t"),
        ("SET statement_timeout = 0", "0 t"),
        ("SET statement_timeout = '900ms'", "900ms t"),
        ("RESET statement_timeout", "7s t"),
    ] {
        client.ok(text).await;
        let on_the_replica = async { while client.value(shown).await != expected {} };
        assert!(tokio::time::timeout(SOON, on_the_replica).await.is_ok(), "{text}");
    }
}

/// A client's limits on the time of its statements end none of another's: neither what it sends, nor what makes the connection its own.
#[tokio::test]
async fn limits_are_those_of_one_client() {
    let (cluster, proxy) = start("pool_size = 2").await;
    cluster.primary().sql("CREATE ROLE writer; GRANT INSERT, SELECT ON t TO writer").await.unwrap();
    let stop = Arc::<AtomicBool>::default();
    let mut clients = JoinSet::new();
    for nth in 0..12 {
        let (mut client, stop) = (proxy.client().await, stop.clone());
        clients.spawn(async move {
            let hurries = nth % 2 == 0;
            let set = if hurries { "SET statement_timeout = '1ms'" } else { "SET ROLE writer" };
            while client.query(set).await.unwrap().code() == "57014" {}
            let mut heard = 0;
            while !stop.load(Relaxed) {
                let text = "INSERT INTO t SELECT current_user FROM generate_series(1, 20)";
                let answer = client.query(text).await.unwrap();
                assert!(matches!((answer.code(), hurries), ("", _) | ("57014", true)), "{answer:?}");
                heard += usize::from(answer.code() == "");
            }
            (hurries, heard)
        });
    }
    let busy = std::thread::spawn({
        let stop = stop.clone();
        move || while !stop.load(Relaxed) {}
    });
    let enough = async || cluster.primary().value("SELECT count(*) > 2000 FROM t").await.unwrap() == "t";
    eventually(SOON, enough).await.unwrap();
    stop.store(true, Relaxed);
    busy.join().unwrap();
    let mut told = [0, 0];
    while let Some(ended) = clients.join_next().await {
        let (hurries, heard) = ended.unwrap();
        told[usize::from(hurries)] += heard;
    }
    let rows = "SELECT count(*) FILTER (WHERE what = 'writer') / 20 || ' ' || count(*) / 20 FROM t WHERE what <> 'public'";
    assert_eq!(cluster.primary().value(rows).await.unwrap(), format!("{} {}", told[0], told[0] + told[1]));
    assert_eq!(proxy.sum("pgweir_server_outages_total", &[]).await as usize, 0);
}

/// Where a connection cannot be cleaned because its client has set a limit, nobody else gets it.
#[tokio::test]
async fn what_could_not_be_reset_is_closed() {
    let (cluster, proxy) = start("pool_size = 1").await;
    let mut client = proxy.client().await;
    client.ok("SET statement_timeout = '50ms'").await;
    client.ok("CREATE TEMP TABLE mine (id int)").await;
    client.ok("SELECT pg_advisory_lock(7)").await;
    let holder = cluster.primary().connect("postgres").await.unwrap();
    // What drops the table waits for this.
    holder.batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_depend IN ACCESS EXCLUSIVE MODE").await.unwrap();
    drop(client);
    let closed = async || proxy.sum("pgweir_pool_closed_total", &["why=\"client_gone\""]).await > 0.0;
    let gone = eventually(SOON, closed).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    gone.unwrap();
    let mut next = proxy.client().await;
    let left = "SELECT current_setting('statement_timeout'), to_regclass('mine'), txid_current() > 0";
    let row = next.ok(left).await.rows[0].clone();
    assert_eq!(row[..2], [Some("0".to_owned()), None]);
}

/// What says whether transactions are read only is said by the primary, however it is asked for: a replica would say that they
/// all are.
#[tokio::test]
async fn a_session_is_not_told_that_it_may_only_read() {
    let (cluster, proxy) = start("").await;
    let mut client = proxy.client().await;
    let primary = cluster.primary().port().to_string();
    assert_ne!(client.value("SELECT current_setting('port')").await, primary);
    for setting in ["transaction_read_only", "in_hot_standby"] {
        for text in [
            format!("SHOW {setting}"),
            format!("SELECT current_setting('{setting}')"),
            format!("SELECT pg_catalog.current_setting('{}'::text, true)", setting.to_uppercase()),
            format!("SELECT current_setting('{setting}'), current_setting('default_transaction_read_only')"),
            format!("SELECT current_setting(name) FROM (SELECT '{setting}' AS name) t"),
            format!("SELECT setting FROM pg_settings WHERE name = '{setting}'"),
            format!("SELECT setting FROM pg_show_all_settings() WHERE name = '{setting}'"),
        ] {
            assert_eq!(client.value(&text).await, "off", "{text}");
        }
        let unit =
            [parse("", "SELECT current_setting($1)"), bind("", "", &[setting]), execute("", 0), sync()]
                .concat();
        client.send(&unit).await.unwrap();
        assert_eq!(client.answer().await.unwrap().value(), "off", "{setting}");
    }
    // In a transaction that runs on a replica it is true.
    client.ok("BEGIN READ ONLY").await;
    assert_eq!(client.value("SELECT current_setting('transaction_read_only')").await, "on");
    client.ok("COMMIT").await;
}
