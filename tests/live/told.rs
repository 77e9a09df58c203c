//! What a driver was told of a prepared statement holds on every server connection, for it sends and reads binary values by
//! that: parameters keep their types, and other columns are refused, as PostgreSQL itself does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pgweir::cli::demo::cluster::{Cluster, eventually};
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, cluster, configuration};
use crate::raw::{Raw, refusal};
use crate::wire::{bind_as, bind_each, close, describe, execute, flush, parse, sync};

const INT: u32 = 23;
const REAL: u32 = 700;
const TEXT: u32 = 25;

/// Two schemas with a table of the same name, and other types.
const SCHEMA: &str = "CREATE SCHEMA s1; CREATE SCHEMA s2; \
    CREATE TABLE s1.t AS SELECT 7::int4 AS v; CREATE TABLE s2.t AS SELECT 7::real AS v";

async fn start(settings: &str, workers: usize) -> (Cluster, Proxy) {
    let cluster = cluster().replicas(2).start().await.unwrap();
    cluster.primary().sql(SCHEMA).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let text = configuration(&cluster.servers(), settings, "");
    let proxy = Proxy::with(&text.replace("workers = 2", &format!("workers = {workers}")));
    proxy.knows(3).await;
    proxy.reads_catalog("postgres").await;
    (cluster, proxy)
}

/// The answer to a unit, with the types that it tells and values as they came.
#[derive(Debug, Default)]
struct Heard {
    tags: String,
    /// SQLSTATE, message and routine of the first error.
    error: String,
    parameters: Vec<u32>,
    columns: Vec<u32>,
    /// The first column of each row.
    rows: Vec<Vec<u8>>,
    status: char,
}

async fn hear(client: &mut Raw) -> Heard {
    let mut heard = Heard::default();
    loop {
        let (tag, body) = client.message().await.unwrap();
        heard.tags.push(char::from(tag));
        match tag {
            b't' => heard.parameters = oids(&body[2..]),
            b'T' => heard.columns = columns(&body),
            b'D' => {
                let size = i32::from_be_bytes(body[2..6].try_into().unwrap());
                heard.rows.push(body[6..6 + usize::try_from(size).unwrap()].to_vec());
            }
            b'E' => {
                let routine = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"R"));
                let routine = String::from_utf8_lossy(routine.unwrap_or_default());
                let said = refusal(&body);
                heard.error = format!("{} {} {routine}", said.code, said.message);
            }
            b'Z' => {
                heard.status = char::from(body[0]);
                return heard;
            }
            _ => {}
        }
    }
}

fn oids(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(|oid| u32::from_be_bytes(oid.try_into().unwrap())).collect()
}

fn columns(body: &[u8]) -> Vec<u32> {
    let mut rest = &body[2..];
    let mut types = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        types.extend(oids(&rest[end + 7..end + 11]));
        rest = &rest[end + 19..];
    }
    types
}

async fn unit(client: &mut Raw, messages: &[Vec<u8>]) -> Heard {
    client.send(&[messages.concat(), sync()].concat()).await.unwrap();
    hear(client).await
}

/// As drivers do: prepare, and ask once what it is.
async fn prepare(client: &mut Raw, name: &str, text: &str) -> Heard {
    let heard = unit(client, &[parse(name, text), describe('S', name)]).await;
    assert_eq!(heard.error, "", "{text}");
    heard
}

/// As drivers do after that: binary values of the types that they know, and nothing asked.
fn binary(name: &str, values: &[i32]) -> Vec<u8> {
    let values: Vec<_> = values.iter().map(|value| value.to_be_bytes()).collect();
    let values: Vec<_> = values.iter().map(|value| Some(value.as_slice())).collect();
    [bind_as("", name, 1, &values, 1), execute("", 0)].concat()
}

async fn run(client: &mut Raw, name: &str, values: &[i32]) -> Heard {
    unit(client, &[binary(name, values)]).await
}

/// Without a simple query, which would end the unnamed statement.
async fn does(client: &mut Raw, text: &str) {
    let heard = unit(client, &[parse("does", text), binary("does", &[]), close('S', "does")]).await;
    assert_eq!(heard.error, "", "{text}");
}

/// What the server of a direct connection says to the same.
const OUTLIVED: &str = "0A000 cached plan must not change result type RevalidateCachedQuery";

/// Ends all connections of clients to a server.
const OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
    AND application_name NOT LIKE 'pgweir%' AND backend_type = 'client backend'";

/// Seven, in binary form.
fn seven(of: u32) -> Vec<u8> {
    match of {
        INT => 7_i32.to_be_bytes().into(),
        REAL => 7_f32.to_be_bytes().into(),
        _ => b"7".into(),
    }
}

/// Others hold so many connections to the primary, with open transactions.
async fn occupy(proxy: &Proxy, count: usize) -> Vec<Raw> {
    let mut others = Vec::new();
    for _ in 0..count {
        let mut other = proxy.client().await;
        other.ok("BEGIN").await;
        other.ok("SELECT txid_current()").await;
        others.push(other);
    }
    others
}

#[tokio::test]
async fn parameters_keep_the_types_that_the_client_was_told() {
    let (cluster, proxy) = start("pool_size = 4", 2).await;
    for (case, name) in ["w", "", "w", ""].into_iter().enumerate() {
        let (mut one, mut other) = (proxy.client().await, proxy.client().await);
        let table = format!("w{case}");
        other.ok(&format!("CREATE TABLE {table} (id int, v int4)")).await;
        let text = format!("INSERT INTO {table} VALUES ($1, $2)");
        assert_eq!(prepare(&mut one, name, &text).await.parameters, [INT, INT]);
        assert_eq!(run(&mut one, name, &[1, 1]).await.tags, "2CZ");
        let alter = format!("ALTER TABLE {table} ALTER v TYPE real");
        match case {
            0 | 1 => drop(other.ok(&alter).await),
            _ => drop(cluster.primary().sql(&alter).await.unwrap()),
        }
        assert_eq!(run(&mut one, name, &[2, 2]).await.tags, "2CZ");
        // Whoever holds the connections on which it is prepared, it is another one then.
        let others = occupy(&proxy, 3).await;
        assert_eq!(run(&mut one, name, &[3, 3]).await.tags, "2CZ");
        does(&mut one, "BEGIN").await;
        assert_eq!(run(&mut one, name, &[4, 4]).await.tags, "2CZ");
        does(&mut one, "COMMIT").await;
        // A name in a text is the same statement.
        if name == "w" {
            one.ok("EXECUTE w (5, 5)").await;
        }
        let sum = format!("SELECT string_agg(v::text, ',' ORDER BY id) FROM {table}");
        let expected = if name == "w" { "1,2,3,4,5" } else { "1,2,3,4" };
        assert_eq!(cluster.primary().value(&sum).await.unwrap(), expected);
        // Who prepares it after a change that went through pgweir is told what it is now.
        if case < 2 {
            let mut new = proxy.client().await;
            assert_eq!(prepare(&mut new, name, &text).await.parameters, [INT, REAL]);
        }
        drop(others);
    }
}

/// PostgreSQL tells `text` of such a parameter, and does not take that for it.
#[tokio::test]
async fn a_parameter_cast_to_unknown_has_no_type_anywhere() {
    let (cluster, proxy) = start("pool_size = 4", 2).await;
    for name in ["u", ""] {
        for along in [true, false] {
            let table = format!("u{name}{along}");
            cluster.primary().sql(&format!("CREATE TABLE {table} AS SELECT 7 AS v")).await.unwrap();
            let mut one = proxy.client().await;
            let text = format!("/* pgweir: primary */ SELECT CAST($1 AS Unknown) FROM {table} WHERE v = $2");
            assert_eq!(prepare(&mut one, name, &text).await.parameters, [TEXT, INT]);
            let seven = seven(INT);
            let mut messages = vec![bind_as("", name, 1, &[Some(b"7"), Some(&seven)], 1), execute("", 0)];
            if along {
                messages.insert(1, describe('P', ""));
            }
            let others = occupy(&proxy, 3).await;
            for _ in 0..2 {
                let heard = unit(&mut one, &messages).await;
                assert_eq!((&*heard.error, &*heard.rows), ("", &[b"7".to_vec()][..]), "{name} {along}");
            }
            drop(others);
            // The other one is not read as another type.
            let alter = format!("ALTER TABLE {table} ALTER v TYPE real; {OTHERS}");
            cluster.primary().sql(&alter).await.unwrap();
            let mut error = unit(&mut one, &messages).await.error;
            for _ in 0..4 {
                if error.starts_with("08007") {
                    error = unit(&mut one, &messages).await.error;
                }
            }
            assert_eq!(error, OUTLIVED, "{name} {along}");
        }
    }
}

#[tokio::test]
async fn other_columns_are_refused_when_tables_have_changed() {
    let (cluster, proxy) = start("pool_size = 4", 2).await;
    for (case, name) in ["r", "", "r", ""].into_iter().enumerate() {
        let table = format!("r{case}");
        cluster.primary().sql(&format!("CREATE TABLE {table} AS SELECT 7 AS v")).await.unwrap();
        cluster.wait_replayed(SOON).await.unwrap();
        for (hint, before, after) in [("primary", INT, REAL), ("replica", REAL, TEXT)] {
            let mut one = proxy.client().await;
            let text = format!("/* pgweir: {hint} */ SELECT v FROM {table}");
            assert_eq!(prepare(&mut one, name, &text).await.columns, [before]);
            assert_eq!(run(&mut one, name, &[]).await.rows, [seven(before)]);
            let to = if after == REAL { "real" } else { "text" };
            let alter = format!("ALTER TABLE {table} ALTER v TYPE {to}");
            match case {
                0 | 1 => drop(proxy.client().await.ok(&alter).await),
                _ => drop(cluster.primary().sql(&alter).await.unwrap()),
            }
            cluster.wait_replayed(SOON).await.unwrap();
            let others = occupy(&proxy, 3).await;
            for _ in 0..4 {
                let heard = run(&mut one, name, &[]).await;
                assert_eq!((&*heard.error, &*heard.tags, heard.status), (OUTLIVED, "EZ", 'I'), "{heard:?}");
            }
            // In a transaction that fails, on whichever server; and what stands behind it in the unit is not done.
            for begin in ["BEGIN", "BEGIN READ ONLY"] {
                does(&mut one, begin).await;
                let heard = run(&mut one, name, &[]).await;
                assert_eq!((&*heard.error, &*heard.tags, heard.status), (OUTLIVED, "EZ", 'E'), "{heard:?}");
                assert!(run(&mut one, name, &[]).await.error.starts_with("25P02"));
                does(&mut one, "ROLLBACK").await;
            }
            // Who is told along with the rows reads them.
            let along = [bind_as("", name, 1, &[], 1), describe('P', ""), execute("", 0)];
            let heard = unit(&mut one, &along).await;
            assert_eq!((&*heard.columns, &*heard.rows), (&[after][..], &[seven(after)][..]), "{heard:?}");
            // As a driver does: drop it, and prepare the same again.
            unit(&mut one, &[close('S', name)]).await;
            assert_eq!(prepare(&mut one, name, &text).await.columns, [after]);
            assert_eq!(run(&mut one, name, &[]).await.rows, [seven(after)]);
            drop(others);
        }
    }
}

/// As pgx does: a form for each column that it was told, and told once more with the rows. It prepares anew after 0A000 alone.
#[tokio::test]
async fn who_names_a_form_for_each_column_is_refused_too() {
    let (_cluster, proxy) = start("pool_size = 2", 1).await;
    for name in ["n", ""] {
        for (nth, alter) in ["DROP COLUMN w", "ADD COLUMN x int DEFAULT 7"].into_iter().enumerate() {
            let table = format!("n{nth}{name}");
            proxy.client().await.ok(&format!("CREATE TABLE {table} AS SELECT 7 AS v, 7 AS w")).await;
            let mut one = proxy.client().await;
            let text = format!("/* pgweir: primary */ SELECT * FROM {table}");
            let along = [bind_each("", name, 1, &[], &[1, 1]), describe('P', ""), execute("", 0)];
            assert_eq!(prepare(&mut one, name, &text).await.columns, [INT, INT]);
            assert_eq!(unit(&mut one, &along).await.rows, [seven(INT)]);
            proxy.client().await.ok(&format!("ALTER TABLE {table} {alter}")).await;
            let others = occupy(&proxy, 1).await;
            for _ in 0..2 {
                let heard = unit(&mut one, &along).await;
                assert_eq!((&*heard.error, &*heard.tags, heard.status), (OUTLIVED, "EZ", 'I'), "{heard:?}");
            }
            unit(&mut one, &[close('S', name)]).await;
            let columns = prepare(&mut one, name, &text).await.columns.len();
            let forms = vec![1; columns];
            let along = [bind_each("", name, 1, &[], &forms), describe('P', ""), execute("", 0)];
            assert_eq!(unit(&mut one, &along).await.rows, [seven(INT)]);
            drop(others);
        }
    }
}

/// The connection that has it as it was refuses it, after another one has made the client's transaction fail for that.
#[tokio::test]
async fn who_is_told_along_hears_of_other_columns_behind_a_refusal() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let proxy = Proxy::with(&configuration(&cluster.servers(), "pool_size = 2", ""));
    proxy.knows(2).await;
    proxy.reads_catalog("postgres").await;
    for name in ["a", ""] {
        cluster.primary().sql("DROP TABLE IF EXISTS a; CREATE TABLE a AS SELECT 7 AS v").await.unwrap();
        cluster.wait_replayed(SOON).await.unwrap();
        let mut one = proxy.client().await;
        let text = "/* pgweir: replica */ SELECT v FROM a";
        assert_eq!(prepare(&mut one, name, text).await.columns, [INT]);
        assert_eq!(run(&mut one, name, &[]).await.rows, [seven(INT)]);
        cluster.primary().sql("ALTER TABLE a ALTER v TYPE real").await.unwrap();
        cluster.wait_replayed(SOON).await.unwrap();
        let mut holds = proxy.client().await;
        holds.ok("BEGIN READ ONLY; SELECT").await;
        does(&mut one, "BEGIN READ ONLY").await;
        assert_eq!(run(&mut one, name, &[]).await.error, OUTLIVED);
        does(&mut one, "ROLLBACK").await;
        let mut other = proxy.client().await;
        other.ok("BEGIN READ ONLY; SELECT").await;
        holds.ok("COMMIT").await;
        let along = [bind_as("", name, 1, &[], 1), describe('P', ""), execute("", 0)];
        let heard = unit(&mut one, &along).await;
        assert_eq!((&*heard.columns, &*heard.rows), (&[REAL][..], &[seven(REAL)][..]), "{heard:?}");
    }
}

#[tokio::test]
async fn other_columns_are_refused_when_names_mean_something_else() {
    let (_cluster, proxy) = start("pool_size = 2", 2).await;
    for name in ["s", ""] {
        for hint in ["primary", "replica"] {
            let mut one = proxy.client().await;
            let text = format!("/* pgweir: {hint} */ SELECT v FROM t");
            one.ok("SET search_path = s1").await;
            assert_eq!(prepare(&mut one, name, &text).await.columns, [INT]);
            assert_eq!(run(&mut one, name, &[]).await.rows, [seven(INT)]);
            one.ok("SET search_path = s2").await;
            if name.is_empty() {
                // A simple query ends it.
                assert_eq!(run(&mut one, name, &[]).await.error.split(' ').next(), Some("26000"));
            } else {
                for _ in 0..4 {
                    assert_eq!(run(&mut one, name, &[]).await.error, OUTLIVED);
                }
                // There it was before.
                one.ok("SET search_path = s1").await;
                for _ in 0..4 {
                    assert_eq!(run(&mut one, name, &[]).await.rows, [seven(INT)]);
                }
                one.ok("SET search_path = s2").await;
                unit(&mut one, &[close('S', name)]).await;
            }
            assert_eq!(prepare(&mut one, name, &text).await.columns, [REAL]);
            for _ in 0..4 {
                assert_eq!(run(&mut one, name, &[]).await.rows, [seven(REAL)]);
            }
        }
    }
}

/// A write that returns other columns than its client knows must not be done.
#[tokio::test]
async fn what_is_refused_is_not_done() {
    let (cluster, proxy) = start("pool_size = 4", 2).await;
    let mut one = proxy.client().await;
    one.ok("CREATE TABLE d (id int, v int4)").await;
    let text = "INSERT INTO d (id) VALUES ($1) RETURNING v";
    assert_eq!(prepare(&mut one, "d", text).await.columns, [INT]);
    prepare(&mut one, "plain", "INSERT INTO d (id) VALUES ($1)").await;
    cluster.primary().sql("ALTER TABLE d ALTER v TYPE real").await.unwrap();
    let others = occupy(&proxy, 3).await;
    // The unit is undone as a whole, and the next one in the pipeline is not part of it.
    let first = [binary("plain", &[1]), binary("d", &[2]), binary("plain", &[3]), sync()].concat();
    let second = [binary("plain", &[4]), sync()].concat();
    one.send(&[first, second].concat()).await.unwrap();
    let heard = hear(&mut one).await;
    assert_eq!((&*heard.error, &*heard.tags, heard.status), (OUTLIVED, "2CEZ", 'I'));
    assert_eq!(hear(&mut one).await.tags, "2CZ");
    // A Bind longer than a window, and one whose unit goes on behind a Flush.
    let long = bind_as("", "d", 0, &[Some(&[b'1'; 200_000])], 1);
    assert_eq!(unit(&mut one, &[long, execute("", 0)]).await.error, OUTLIVED);
    one.send(&[binary("plain", &[5]), binary("d", &[6]), flush()].concat()).await.unwrap();
    for tag in *b"2CE" {
        assert_eq!(one.message().await.unwrap().0, tag);
    }
    assert_eq!(unit(&mut one, &[binary("plain", &[7])]).await.tags, "Z");
    let ids = "SELECT string_agg(id::text, ',' ORDER BY id) FROM d";
    assert_eq!(cluster.primary().value(ids).await.unwrap(), "4");
    drop(others);
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await as usize, 0);
}

/// A description longer than a window: only one of its columns is another.
#[tokio::test]
async fn a_long_description_counts_to_its_end() {
    let (cluster, proxy) = start("pool_size = 4", 2).await;
    let names: Vec<_> = (0..1_500).map(|nth| format!("{:a<60} int", format!("c{nth}"))).collect();
    let mut one = proxy.client().await;
    one.ok(&format!("CREATE TABLE wide ({})", names.join(","))).await;
    one.ok("INSERT INTO wide DEFAULT VALUES").await;
    let text = "/* pgweir: primary */ SELECT 1 AS one, * FROM wide";
    assert_eq!(prepare(&mut one, "wide", text).await.columns, vec![INT; 1_501]);
    let others = occupy(&proxy, 1).await;
    assert_eq!(run(&mut one, "wide", &[]).await.rows.len(), 1);
    let last = names[1_499].replace(" int", " TYPE real");
    cluster.primary().sql(&format!("ALTER TABLE wide ALTER {last}")).await.unwrap();
    let more = occupy(&proxy, 2).await;
    for _ in 0..2 {
        assert_eq!(run(&mut one, "wide", &[]).await.error, OUTLIVED);
    }
    drop((others, more));
}

/// Once a server has said that it has a statement as it was told, nobody asks again.
#[tokio::test]
async fn what_is_known_is_not_asked_again() {
    let (_cluster, proxy) = start("pool_size = 1", 1).await;
    let asked =
        || async { proxy.sum("pgweir_prepared_statements_total", &["what=\"asked\""]).await as usize };
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = proxy.client().await;
        for name in ["r", "w"] {
            let text =
                ["SELECT v + $1 FROM s1.t", "UPDATE s1.t SET v = $1 RETURNING v"][usize::from(name == "w")];
            prepare(&mut client, name, text).await;
        }
        clients.push(client);
    }
    let mut after_first = 0;
    for round in 0..40 {
        for client in &mut clients {
            assert_eq!(run(client, "w", &[7]).await.rows, [seven(INT)]);
            assert_eq!(run(client, "r", &[0]).await.rows, [seven(INT)]);
            // As libpq does, which asks along.
            let along = [bind_as("", "r", 1, &[Some(&[0, 0, 0, 0])], 1), describe('P', ""), execute("", 0)];
            assert_eq!(unit(client, &along).await.tags, "2TDCZ");
        }
        if round == 9 {
            after_first = asked().await;
        }
    }
    assert!(after_first <= 3, "{after_first}");
    assert_eq!(asked().await, after_first);
}

/// Clients that read binary values by what they were told, many on few connections, while types change: each value is of the type
/// that its client knows, or there is an error, and the client prepares anew.
#[tokio::test]
async fn nobody_reads_a_value_as_another() {
    let (cluster, proxy) = start("pool_size = 3\nmax_prepared_statements = 4", 1).await;
    cluster.primary().sql("CREATE TABLE c AS SELECT 7 AS v, 1 AS id").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let [stop, refused, rounds] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for number in 0..30 {
        let mut client = proxy.client().await;
        let (stop, refused, rounds) = (stop.clone(), refused.clone(), rounds.clone());
        clients.spawn(async move {
            let text = match number % 5 {
                0 => "UPDATE c SET id = 1 WHERE id = 2 OR v::text = '8' RETURNING v".to_owned(),
                1 => "/* pgweir: primary */ SELECT v FROM c".to_owned(),
                other => format!("SELECT v FROM c WHERE id < {other}"),
            };
            while stop.load(Relaxed) == 0 {
                let told = unit(&mut client, &[parse("c", &text), describe('S', "c")]).await;
                while told.error.is_empty() && stop.load(Relaxed) == 0 {
                    rounds.fetch_add(1, Relaxed);
                    let heard = run(&mut client, "c", &[]).await;
                    if !heard.error.is_empty() {
                        assert_eq!(heard.error, OUTLIVED);
                        refused.fetch_add(1, Relaxed);
                        break;
                    }
                    assert!(
                        heard.rows.iter().all(|row| *row == seven(told.columns[0])),
                        "{told:?} {heard:?}"
                    );
                }
                unit(&mut client, &[close('S', "c")]).await;
            }
        });
    }
    for round in 0..12 {
        let before = (refused.load(Relaxed), rounds.load(Relaxed));
        let to = ["real USING v::text::real", "text", "int USING v::text::int"][round % 3];
        cluster.primary().sql(&format!("ALTER TABLE c ALTER v TYPE {to}")).await.unwrap();
        // What is lost meanwhile runs again elsewhere, whatever it waits for.
        cluster.replica(round % 2).sql(OTHERS).await.unwrap();
        eventually(SOON, || async {
            refused.load(Relaxed) > before.0 && rounds.load(Relaxed) > before.1 + 100
        })
        .await
        .unwrap();
    }
    stop.store(1, Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let shared = proxy.sum("pgweir_shared_reads_total", &["outcome=\"answered\""]).await;
    assert!(shared > 0.0, "none went on a shared connection");
}
