//! Reads see the writes before them, on whichever connection, and still run on replicas where these have replayed.

use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, eventually};
use pgweir::clock;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::proxy::{Proxy, SOON, Watch, cluster, configuration};
use crate::raw::{Raw, execute, extended, query, sync};

const SCHEMA: &str = "CREATE TABLE t (id serial PRIMARY KEY); CREATE TABLE other (id int); CREATE TABLE log (id int); \
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN INSERT INTO log VALUES (NEW.id); RETURN NEW; END $$; \
    CREATE TABLE watched (id int); CREATE TRIGGER note AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION note(); \
    CREATE FUNCTION add(n int) RETURNS void LANGUAGE sql VOLATILE AS $$ INSERT INTO other VALUES (n) $$";

/// A pgweir that waits as long as it does by default, unless told otherwise.
async fn started(cluster: &Cluster, settings: &str) -> Proxy {
    let wait = if settings.contains("freshness_wait") { "" } else { "freshness_wait = \"5ms\"" };
    Proxy::start(cluster, &format!("{wait}\n{settings}")).await
}

async fn start(replicas: usize) -> Cluster {
    let cluster = cluster().replicas(replicas).start().await.unwrap();
    cluster.primary().sql(SCHEMA).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    cluster
}

async fn units(proxy: &Proxy, target: &str) -> f64 {
    proxy.sum("pgweir_units_total", &[&format!("target=\"{target}\"")]).await
}

/// Inserts and looks for it, so many times; how many were missed.
async fn misses(writer: &mut Raw, reader: Option<&mut Raw>, loops: usize) -> usize {
    let mut reader = reader;
    let mut missed = 0;
    for _ in 0..loops {
        let id = writer.query("INSERT INTO t DEFAULT VALUES RETURNING id").await.unwrap().value().to_owned();
        let text = format!("SELECT count(*) FROM t WHERE id = {id}");
        let answer = match &mut reader {
            Some(reader) => reader.query(&text).await.unwrap(),
            None => writer.query(&text).await.unwrap(),
        };
        missed += usize::from(answer.value() == "0");
    }
    missed
}

/// The same with the two behind different pgweirs, by token.
async fn misses_by_token(writer: &mut Raw, reader: &mut Raw, loops: usize) -> usize {
    let mut missed = 0;
    for _ in 0..loops {
        let id = writer.query("INSERT INTO t DEFAULT VALUES RETURNING id").await.unwrap().value().to_owned();
        let token = writer.query("SHOW pgweir.position").await.unwrap().value().to_owned();
        assert_eq!(reader.query(&format!("SET pgweir.min_position = '{token}'")).await.unwrap().errors, []);
        let found = reader.query(&format!("SELECT count(*) FROM t WHERE id = {id}")).await.unwrap();
        missed += usize::from(found.value() == "0");
    }
    missed
}

/// T1, with replicas in that state.
async fn no_miss(cluster: &Cluster, loops: usize) {
    let (proxy, second) = (started(cluster, "").await, started(cluster, "").await);
    let (mut one, mut other) = (proxy.client().await, proxy.client().await);
    let mut far = second.client().await;
    assert_eq!(misses(&mut one, None, loops).await, 0, "on the same connection");
    assert_eq!(misses(&mut one, Some(&mut other), loops).await, 0, "on another connection");
    assert_eq!(misses_by_token(&mut one, &mut far, loops).await, 0, "through another pgweir");
}

/// And that the same finds misses where nothing is promised.
async fn misses_without(cluster: &Cluster) {
    let proxy = started(cluster, "reads = { consistency = \"eventual\" }").await;
    let (mut one, mut other) = (proxy.client().await, proxy.client().await);
    assert!(misses(&mut one, Some(&mut other), 20).await > 10, "the test cannot fail");
}

#[tokio::test]
async fn writes_are_read_from_delayed_replicas() {
    let cluster = start(2).await;
    for replica in cluster.replicas() {
        replica.delay_replay(Duration::from_millis(500)).await.unwrap();
    }
    no_miss(&cluster, 100).await;
    misses_without(&cluster).await;
}

#[tokio::test]
#[ignore = "ten thousand times: takes minutes"]
async fn writes_are_read_from_delayed_replicas_at_length() {
    let cluster = start(2).await;
    for replica in cluster.replicas() {
        replica.delay_replay(Duration::from_millis(500)).await.unwrap();
    }
    no_miss(&cluster, 10_000).await;
}

/// T11: a primary that writes nothing has no replica behind it, however long that lasts.
async fn idle_for(time: Duration) {
    let cluster = start(2).await;
    let proxy = started(&cluster, "reads.max_lag = \"1s\"").await;
    let mut client = proxy.client().await;
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let lag = proxy.sum("pgweir_server_lag_seconds", &[]).await;
        assert!(lag < 0.5, "{lag} s behind an idle primary");
        let on_replicas = units(&proxy, "replica").await;
        client.query("SELECT count(*) FROM other").await.unwrap();
        assert_eq!(units(&proxy, "replica").await, on_replicas + 1.0, "a read on the primary");
    }
}

#[tokio::test]
async fn an_idle_primary_has_no_lag() {
    idle_for(Duration::from_secs(5)).await;
}

#[tokio::test]
#[ignore = "ten minutes of nothing"]
async fn an_idle_primary_has_no_lag_for_ten_minutes() {
    idle_for(Duration::from_secs(600)).await;
}

#[tokio::test]
async fn writes_are_read_while_replay_is_paused() {
    let cluster = start(2).await;
    cluster.replica(0).pause_replay().await.unwrap();
    no_miss(&cluster, 100).await;
    cluster.replica(1).pause_replay().await.unwrap();
    no_miss(&cluster, 50).await;
    misses_without(&cluster).await;
}

/// A write that was acknowledged since a replica has it, and that this has not replayed yet when the primary is gone.
#[tokio::test]
async fn without_a_primary_reads_wait_for_what_was_received() {
    let cluster = start(1).await;
    let (primary, replica) = (cluster.primary(), cluster.replica(0));
    primary.alter("synchronous_standby_names", "*").await.unwrap();
    primary
        .wait_value("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", "1", SOON)
        .await
        .unwrap();
    let proxy = started(&cluster, "").await;
    let mut client = proxy.client().await;
    client.ok("INSERT INTO other VALUES (1)").await;
    cluster.wait_replayed(SOON).await.unwrap();
    replica.pause_replay().await.unwrap();
    client.ok("INSERT INTO other VALUES (2)").await;
    primary.kill().await.unwrap();
    let last = "SELECT max(id) FROM other";
    let start = clock::now();
    assert_eq!(client.value(last).await, "1", "for ever it does not wait");
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    replica.sql("SELECT pg_wal_replay_resume()").await.unwrap();
    assert_eq!(client.value(last).await, "2");
}

/// With synchronous replication a replica shows a commit before the primary does: whoever has seen it there sees it on the primary,
/// and waits for nothing else that runs there.
#[tokio::test]
async fn what_a_replica_has_shown_the_primary_shows_too() {
    let cluster = start(2).await;
    let primary = cluster.primary();
    // Nobody confirms.
    primary.alter("synchronous_standby_names", "nobody").await.unwrap();
    let proxy = started(&cluster, "").await;
    let (mut writer, mut reader) = (proxy.client().await, proxy.client().await);
    reader.ok("SET pgweir.consistency = 'session'").await;
    let idle = primary.connect("postgres").await.unwrap();
    idle.batch_execute("BEGIN; INSERT INTO log VALUES (1)").await.unwrap();
    let (there, here) = ("SELECT count(*) FROM other", "SELECT count(*), txid_current() FROM other");
    assert_eq!((reader.value(there).await, reader.value(here).await), ("0".to_owned(), "0".to_owned()));
    for (round, kills) in [("1", false), ("2", true)] {
        writer.send(&query("INSERT INTO other VALUES (1)")).await.unwrap();
        for replica in cluster.replicas() {
            replica.wait_value(there, round, SOON).await.unwrap();
        }
        assert_eq!(primary.value(there).await.unwrap(), (round.parse::<u32>().unwrap() - 1).to_string());
        let on_a_replica = async { while reader.value(there).await != round {} };
        timeout(SOON, on_a_replica).await.unwrap();
        if kills {
            // Then the primary alone says what waits.
            for replica in cluster.replicas() {
                replica.kill().await.unwrap();
            }
            proxy.becomes("pgweir_server_up", &[], 1.0).await;
        }
        reader.send(&query(here)).await.unwrap();
        for cancels in [true, false] {
            assert!(
                timeout(Duration::from_millis(200), reader.message()).await.is_err(),
                "it is not shown yet"
            );
            if cancels {
                Raw::cancel(proxy.address(), reader.key).await.unwrap();
                assert_eq!(reader.answer().await.unwrap().code(), "57014");
                reader.send(&query(here)).await.unwrap();
            }
        }
        primary.alter("synchronous_standby_names", "").await.unwrap();
        assert_eq!(reader.answer().await.unwrap().value(), round);
        writer.answer().await.unwrap();
        primary.alter("synchronous_standby_names", "nobody").await.unwrap();
        // Until pgweir knows of that.
        let probes = proxy.sum("pgweir_probe_seconds_count", &[]).await;
        let more = async || proxy.sum("pgweir_probe_seconds_count", &[]).await > probes + 8.0;
        eventually(SOON, more).await.unwrap();
    }
    drop(idle);
    let waits = proxy.sum("pgweir_fresh_wait_seconds_count", &[]).await;
    assert!(waits >= 3.0, "{waits}");
}

/// So it is for a transaction of more parts than a replica tells at once, for one that was prepared, and when the primary stands still
/// while a session waits.
#[tokio::test]
async fn what_a_replica_has_shown_of_any_kind_the_primary_shows_too() {
    let cluster = cluster().setting("max_prepared_transactions", "5").replicas(2).start().await.unwrap();
    let primary = cluster.primary();
    primary.sql(SCHEMA).await.unwrap();
    primary.alter("synchronous_standby_names", "nobody").await.unwrap();
    let proxy = started(&cluster, "failover_wait = \"60s\"").await;
    let mut parts = "BEGIN; INSERT INTO other VALUES (1);".to_owned();
    (0..1_200).for_each(|n| parts += &format!("SAVEPOINT s{n}; INSERT INTO log VALUES ({n}); RELEASE s{n};"));
    let (there, here) = ("SELECT count(*) FROM other", "SELECT count(*), txid_current() FROM other");
    let prepared = "BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'p'";
    let ways = [
        ("COMMIT", parts + "COMMIT", false),
        ("COMMIT PREPARED", "COMMIT PREPARED 'p'".to_owned(), false),
        ("a hiccup", "INSERT INTO other VALUES (1)".to_owned(), true),
    ];
    for (round, (name, text, hiccup)) in ways.iter().enumerate() {
        primary.alter("synchronous_standby_names", "").await.unwrap();
        let (mut writer, mut reader) = (proxy.client().await, proxy.client().await);
        if *name == "COMMIT PREPARED" {
            writer.ok(prepared).await;
        }
        primary.alter("synchronous_standby_names", "nobody").await.unwrap();
        let probes = proxy.sum("pgweir_probe_seconds_count", &[]).await;
        let more = async || proxy.sum("pgweir_probe_seconds_count", &[]).await > probes + 8.0;
        eventually(SOON, more).await.unwrap();
        reader.ok("SET pgweir.consistency = 'session'").await;
        writer.send(&query(text)).await.unwrap();
        let shown = (round + 1).to_string();
        for replica in cluster.replicas() {
            replica.wait_value(there, &shown, SOON).await.unwrap();
        }
        timeout(SOON, async { while reader.value(there).await != shown {} }).await.unwrap();
        if *hiccup {
            primary.sigstop().await.unwrap();
        }
        reader.send(&query(here)).await.unwrap();
        if *hiccup {
            proxy.becomes("pgweir_server_up", &[], 2.0).await;
            primary.sigcont().unwrap();
            proxy.becomes("pgweir_server_up", &[], 3.0).await;
        }
        assert!(
            timeout(Duration::from_millis(300), reader.message()).await.is_err(),
            "{name}: it is not shown yet"
        );
        primary.alter("synchronous_standby_names", "").await.unwrap();
        assert_eq!(reader.answer().await.unwrap().value(), shown, "{name}");
    }
}

/// Without it, too, if the commit is one that pgweir has sent and is not answered.
#[tokio::test]
async fn what_is_not_answered_yet_the_primary_shows_too() {
    let cluster = start(1).await;
    let primary = cluster.primary();
    let text = configuration(&cluster.servers(), "", "").replacen("200ms", "60s", 1);
    let proxy = Proxy::with(&text);
    proxy.knows(2).await;
    proxy.reads_catalog("postgres").await;
    // Until then the primary is asked anew.
    let mut console = proxy.console().await;
    let proven = async {
        let unproven = Some("unproven".to_owned());
        while console.query("SHOW SERVERS").await.unwrap().rows.iter().any(|row| row.contains(&unproven)) {}
    };
    timeout(SOON, proven).await.unwrap();
    // The commit stops where it is on disk and not shown, and pgweir is not to hear why.
    primary.alter("synchronous_standby_names", "nobody").await.unwrap();
    let (mut writer, mut reader) = (proxy.client().await, proxy.client().await);
    reader.ok("SET pgweir.consistency = 'session'").await;
    let (there, here) = ("SELECT count(*) FROM other", "SELECT count(*), txid_current() FROM other");
    writer.send(&query("INSERT INTO other VALUES (1)")).await.unwrap();
    cluster.replica(0).wait_value(there, "1", SOON).await.unwrap();
    assert_eq!(primary.value(there).await.unwrap(), "0");
    let on_the_replica = async { while reader.value(there).await != "1" {} };
    timeout(SOON, on_the_replica).await.unwrap();
    let mut teller = proxy.client().await;
    teller.ok("SET pgweir.consistency = 'session'").await;
    assert_eq!(teller.value(there).await, "1");
    reader.send(&query(here)).await.unwrap();
    teller.send(&query("SHOW pgweir.position")).await.unwrap();
    for client in [&mut reader, &mut teller] {
        let early = timeout(Duration::from_millis(200), client.message()).await;
        assert!(early.is_err(), "it is not shown yet");
    }
    primary.alter("synchronous_standby_names", "").await.unwrap();
    assert_eq!(reader.answer().await.unwrap().value(), "1");
    assert!(teller.answer().await.unwrap().value().starts_with("1:"));
    writer.answer().await.unwrap();

    // What runs for long holds nobody up.
    writer.send(&query("SELECT pg_sleep(60), txid_current()")).await.unwrap();
    Watch::new(primary).await.becomes("query LIKE '%pg_sleep(60)%' AND state = 'active'", 1, SOON).await;
    let asked = proxy.sum("pgweir_fresh_wait_seconds_count", &[]).await;
    for _ in 0..3 {
        assert_eq!(reader.value(there).await, "1");
        assert_eq!(reader.value(here).await, "1");
    }
    assert!(proxy.sum("pgweir_fresh_wait_seconds_count", &[]).await > asked, "nobody asked");

    // Nor does a replica that does not answer any more, before anybody has found that out.
    assert_eq!(reader.value(there).await, "1");
    cluster.replica(0).sigstop().await.unwrap();
    let start = clock::now();
    assert_eq!(reader.value(here).await, "1");
    assert!(start.elapsed() < Duration::from_millis(700), "{:?}", start.elapsed());
    assert_eq!(proxy.sum("pgweir_server_up", &[]).await as usize, 2);
}

/// Reads what `WRITERS` count up all the time, on a replica and then on the primary, again and again. How often that was, and how often
/// the primary had less.
async fn goes_back(time: Duration) -> (usize, usize) {
    const WRITERS: usize = 12;
    let cluster = start(1).await;
    let fill = format!("INSERT INTO counted SELECT n, 0 FROM generate_series(1, {WRITERS}) n");
    cluster
        .primary()
        .sql(&format!("CREATE TABLE counted (id int PRIMARY KEY, n int); {fill}"))
        .await
        .unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = started(&cluster, "pool_size = 20").await;
    let until = clock::now() + time;
    let mut writers = JoinSet::new();
    for id in 1..=WRITERS {
        let mut client = proxy.client().await;
        writers.spawn(async move {
            while clock::now() < until {
                client.ok(&format!("UPDATE counted SET n = n + 1 WHERE id = {id}")).await;
            }
        });
    }
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let mut client = proxy.client().await;
        client.ok("SET pgweir.consistency = 'session'").await;
        readers.spawn(async move {
            let (mut looks, mut back) = (0, 0);
            while clock::now() < until {
                let on_a_replica = client.query("SELECT n FROM counted ORDER BY id").await.unwrap();
                let on_the_primary =
                    client.query("SELECT n, txid_current() FROM counted ORDER BY id").await.unwrap();
                let number = |row: &Vec<Option<String>>| row[0].as_ref().unwrap().parse::<u32>().unwrap();
                let both = on_a_replica.rows.iter().zip(&on_the_primary.rows);
                back += usize::from(both.into_iter().any(|(before, after)| number(before) > number(after)));
                looks += 1;
            }
            (looks, back)
        });
    }
    writers.join_all().await;
    readers.join_all().await.into_iter().fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1))
}

async fn nobody_goes_back(time: Duration, least: usize) {
    let (looks, back) = goes_back(time).await;
    println!("{back} of {looks}");
    assert!(looks > least, "{looks}");
    assert_eq!(back, 0);
}

#[tokio::test]
async fn nobody_goes_back_from_a_replica_to_the_primary() {
    nobody_goes_back(Duration::from_secs(2), 10).await;
}

#[tokio::test]
#[ignore = "a minute, on two cores"]
async fn nobody_goes_back_from_a_replica_to_the_primary_at_length() {
    nobody_goes_back(Duration::from_secs(60), 1000).await;
}

/// All else, only where that is asked for.
#[tokio::test]
async fn the_primary_is_asked_what_it_shows_where_that_is_wanted() {
    let cluster = start(1).await;
    for (setting, waits) in [("", false), ("reads.strictly_monotonic = true", true)] {
        let proxy = started(&cluster, setting).await;
        let mut client = proxy.client().await;
        let before = units(&proxy, "replica").await;
        while units(&proxy, "replica").await == before {
            client.ok("SELECT count(*) FROM other").await;
        }
        let asked = proxy.sum("pgweir_fresh_wait_seconds_count", &[]).await;
        client.ok("SELECT count(*), txid_current() FROM other").await;
        let more = proxy.sum("pgweir_fresh_wait_seconds_count", &[]).await - asked;
        assert_eq!(more as usize, usize::from(waits), "{setting}");
    }
}

/// A read that stands in line for the primary, since no replica is fresh enough, does not wait for another one when that is gone.
#[tokio::test]
async fn a_read_in_line_for_a_primary_that_dies_goes_to_a_replica() {
    let cluster = start(1).await;
    let proxy = started(&cluster, "pool_size = 1\nfailover_wait = \"60s\"").await;
    let (mut client, mut busy) = (proxy.client().await, proxy.client().await);
    client.ok("INSERT INTO other VALUES (1)").await;
    cluster.wait_replayed(SOON).await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    client.ok("INSERT INTO other VALUES (2)").await;
    busy.ok("BEGIN; INSERT INTO log VALUES (1)").await;
    client.send(&query("SELECT max(id) FROM other")).await.unwrap();
    proxy.becomes("pgweir_pool_waiting_clients", &[], 1.0).await;
    cluster.primary().kill().await.unwrap();
    assert_eq!(client.answer().await.unwrap().value(), "1");
}

/// Writes, one after the other, until one fails, and reads after each, and then some more. How often it did not see the last that was
/// acknowledged, and how often it looked after the failure.
async fn writes_until_it_fails(mut client: Raw, number: usize) -> (usize, usize) {
    let (first, mut last, mut missed) = (number * 1_000_000, 0, 0);
    let read = format!("SELECT max(id) FROM other WHERE id / 1000000 = {number}");
    for next in first + 1.. {
        let Ok(answer) = client.query(&format!("INSERT INTO other VALUES ({next})")).await else { break };
        if !answer.errors.is_empty() {
            break;
        }
        last = next;
        if next % 10 == number % 10 {
            missed += usize::from(client.value(&read).await != last.to_string());
        }
    }
    let mut seen = 0;
    for _ in 0..20 {
        let Ok(answer) = client.query(&read).await else { break };
        let newest: usize = answer.value().parse().unwrap_or_default();
        missed += usize::from(newest < last);
        seen += 1;
    }
    (missed, seen)
}

/// Of a primary that is killed every acknowledged write is read, with synchronous replication, while nobody has its place.
async fn last_writes(rounds: usize) {
    const CLIENTS: usize = 12;
    let (mut all_missed, mut all_seen) = (0, 0);
    for _ in 0..rounds {
        let cluster = start(2).await;
        let primary = cluster.primary();
        primary.alter("synchronous_standby_names", "ANY 1 (*)").await.unwrap();
        let confirms = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'";
        primary.wait_value(confirms, "2", SOON).await.unwrap();
        let proxy = started(&cluster, "failover_wait = \"100ms\"").await;
        let mut clients = JoinSet::new();
        for number in 1..=CLIENTS {
            clients.spawn(writes_until_it_fails(proxy.client().await, number));
        }
        primary.wait_value("SELECT count(*) > 1000 FROM other", "t", SOON).await.unwrap();
        primary.kill().await.unwrap();
        for (missed, seen) in clients.join_all().await {
            all_missed += missed;
            all_seen += seen;
        }
    }
    println!("{all_missed} missed of {all_seen}");
    assert!(all_seen >= rounds * CLIENTS * 10, "{all_seen}");
    assert_eq!(all_missed, 0);
}

#[tokio::test]
async fn the_last_writes_of_a_killed_primary_are_read() {
    last_writes(2).await;
}

#[tokio::test]
#[ignore = "a cluster for each of fifty rounds: takes minutes"]
async fn the_last_writes_of_a_killed_primary_are_read_at_length() {
    last_writes(50).await;
}

/// T1b. A generous wait, for the machine may be busy.
#[tokio::test]
async fn most_reads_after_writes_run_on_replicas() {
    let cluster = start(2).await;
    let proxy = started(&cluster, "freshness_wait = \"50ms\"").await;
    let mut client = proxy.client().await;
    // A machine that is busy with something else delays the replicas: that is not what it is about.
    let mut shares = Vec::new();
    while shares.last().is_none_or(|share| *share <= 0.9) {
        assert!(shares.len() < 5, "{shares:?}: {}", proxy.metrics().await);
        let before = units(&proxy, "replica").await;
        assert_eq!(misses(&mut client, None, 300).await, 0);
        shares.push((units(&proxy, "replica").await - before) / 300.0);
    }
    println!("{shares:?} on replicas");
    assert!(proxy.sum("pgweir_read_age_seconds_count", &[]).await > 200.0);
}

#[tokio::test]
async fn every_way_to_write_counts() {
    let cluster = start(1).await;
    cluster.replica(0).pause_replay().await.unwrap();
    let proxy = started(&cluster, "").await;
    let (mut one, mut other) = (proxy.client().await, proxy.client().await);
    let rows = |table: &str| format!("SELECT count(*) FROM {table}");
    // A table that nobody has written to may be read anywhere.
    assert_eq!(other.query(&rows("other")).await.unwrap().value(), "0");
    one.query("INSERT INTO t DEFAULT VALUES").await.unwrap();
    let before = units(&proxy, "replica").await;
    assert_eq!(other.query(&rows("other")).await.unwrap().value(), "0");
    assert_eq!(units(&proxy, "replica").await, before + 1.0);

    for text in ["BEGIN", "INSERT INTO other VALUES (1)", "COMMIT"] {
        assert_eq!(one.query(text).await.unwrap().errors, []);
    }
    assert_eq!(other.query(&rows("other")).await.unwrap().value(), "1", "a transaction");
    one.send(&[&extended("", "INSERT INTO other VALUES (2)")[..], &sync()].concat()).await.unwrap();
    assert_eq!(one.answer().await.unwrap().errors, []);
    assert_eq!(other.query(&rows("other")).await.unwrap().value(), "2", "extended");
    assert_eq!(one.query("SELECT add(3)").await.unwrap().errors, []);
    assert_eq!(other.query(&rows("other")).await.unwrap().value(), "3", "a function");
    one.query("INSERT INTO watched VALUES (1)").await.unwrap();
    assert_eq!(other.query(&rows("log")).await.unwrap().value(), "1", "a trigger");
    // Held back by pgweir, or told to a server at once.
    for begin in ["BEGIN READ ONLY", "BEGIN READ ONLY; SELECT 1"] {
        assert_eq!(other.query(begin).await.unwrap().errors, []);
        assert_eq!(other.query(&rows("log")).await.unwrap().value(), "1", "{begin}");
        assert_eq!(other.query("COMMIT").await.unwrap().errors, []);
    }
    let mut third = proxy.client().await;
    third.query("BEGIN READ ONLY").await.unwrap();
    assert_eq!(third.query(&rows("log")).await.unwrap().value(), "1", "a session that has seen nothing");
    third.query("COMMIT").await.unwrap();
    assert_eq!(one.query("CREATE TABLE late AS SELECT 1 AS id").await.unwrap().errors, []);
    let made = other.query("SELECT to_regclass('late') IS NOT NULL").await.unwrap();
    assert_eq!(made.value(), "t", "a definition");
}

#[tokio::test]
async fn copy_counts() {
    let cluster = start(1).await;
    cluster.replica(0).pause_replay().await.unwrap();
    let proxy = started(&cluster, "").await;
    let (mut one, mut other) = (proxy.client().await, proxy.client().await);
    assert!(one.query("COPY other FROM STDIN").await.unwrap().tags.ends_with('G'));
    one.send(b"d\0\0\0\x067\nc\0\0\0\x04").await.unwrap();
    assert_eq!(one.answer().await.unwrap().errors, []);
    assert_eq!(other.query("SELECT count(*) FROM other").await.unwrap().value(), "1");
}

#[tokio::test]
async fn a_session_does_not_go_back_in_time() {
    let cluster = start(2).await;
    let proxy = started(&cluster, "reads = { consistency = \"eventual\", balance = \"round_robin\" }").await;
    let mut client = proxy.client().await;
    cluster.replica(0).pause_replay().await.unwrap();
    let mut seen = 0;
    for _ in 0..60 {
        cluster.primary().sql("INSERT INTO other VALUES (1)").await.unwrap();
        let now: i64 = client.query("SELECT count(*) FROM other").await.unwrap().value().parse().unwrap();
        assert!(now >= seen, "{now} after {seen}");
        seen = now;
    }
    // What was read on the primary is not unseen, either.
    client.query("BEGIN").await.unwrap();
    let on_primary = client.query("SELECT count(*) FROM other").await.unwrap();
    client.query("COMMIT").await.unwrap();
    let after = client.query("SELECT count(*) FROM other").await.unwrap();
    assert!(after.value().parse::<i64>().unwrap() >= on_primary.value().parse().unwrap());
}

#[tokio::test]
async fn lag_is_told_and_limited() {
    let cluster = start(1).await;
    let proxy = started(&cluster, "reads = { consistency = \"eventual\", max_lag = \"1s\" }").await;
    // T11: an idle primary.
    let replica = cluster.replica(0).port().to_string();
    proxy.becomes("pgweir_server_lag_bytes", &[&replica], 0.0).await;
    proxy.becomes("pgweir_probe_seconds_count", &[&replica], 10.0).await;
    assert_eq!(proxy.sum("pgweir_server_lag", &[&replica]).await.to_string(), "0");
    cluster.replica(0).pause_replay().await.unwrap();
    cluster.primary().sql("INSERT INTO other VALUES (1)").await.unwrap();
    let out = eventually(SOON, || async {
        let mut client = proxy.client().await;
        client.query("SELECT count(*) FROM other").await.unwrap().value() == "1"
    });
    out.await.unwrap();
    assert!(proxy.sum("pgweir_units_total", &["reason=\"not_fresh\""]).await > 0.0);
    cluster.replica(0).resume_replay().await.unwrap();
    let back = eventually(SOON, || async {
        let before = units(&proxy, "replica").await;
        proxy.client().await.query("SELECT count(*) FROM other").await.unwrap();
        units(&proxy, "replica").await > before
    });
    back.await.unwrap();
}

/// Behind a switch of segments the primary's insert position is one that no replica comes to by itself.
#[tokio::test]
async fn a_switch_of_segments_is_no_lag() {
    let cluster = start(1).await;
    let proxy = Proxy::start(&cluster, "").await;
    let mut client = proxy.client().await;
    for _ in 0..3 {
        client.query("INSERT INTO t DEFAULT VALUES").await.unwrap();
        cluster.primary().sql("SELECT pg_switch_wal()").await.unwrap();
        let before = units(&proxy, "replica").await;
        assert_ne!(client.query("SELECT count(*) FROM t").await.unwrap().value(), "0");
        assert_eq!(units(&proxy, "replica").await, before + 1.0);
    }
}

#[tokio::test]
async fn settings_say_what_reads_see() {
    let cluster = start(1).await;
    cluster.replica(0).pause_replay().await.unwrap();
    let proxy = started(&cluster, "").await;
    let (mut one, mut other) = (proxy.client().await, proxy.client().await);
    one.query("INSERT INTO other VALUES (1)").await.unwrap();
    let count = "SELECT count(*) FROM other";
    assert_eq!(other.query(&format!("{count} -- pgweir: consistency=eventual")).await.unwrap().value(), "0");
    assert_eq!(other.query(count).await.unwrap().value(), "1");
    let mut third = proxy.client().await;
    third.query("SET pgweir.consistency = session").await.unwrap();
    assert_eq!(third.query(count).await.unwrap().value(), "0");
    third.query("SET pgweir.consistency = primary").await.unwrap();
    assert_eq!(third.query(count).await.unwrap().value(), "1");
    assert_eq!(third.query("SHOW pgweir.consistency").await.unwrap().value(), "primary");
    assert_eq!(third.query("SET pgweir.min_position = 'x'").await.unwrap().code(), "22023");
    assert_eq!(third.query("SET pgweir.position = '1:0/0'").await.unwrap().code(), "22023");
    // On a timeline that there is not, nothing is reached.
    third.query("SET pgweir.consistency = eventual").await.unwrap();
    third.query("SET pgweir.min_position = '9:0/1'").await.unwrap();
    assert_eq!(third.query(count).await.unwrap().value(), "1");
}

/// What the primary has written and nobody has committed stays off its disk, and off replicas, for many seconds: reads do not wait for it.
#[tokio::test]
async fn what_nobody_waits_for_holds_up_no_read() {
    let cluster = start(1).await;
    let proxy = started(&cluster, "").await;
    let mut client = proxy.client().await;
    let direct = cluster.primary().connect("postgres").await.unwrap();
    let on_disk = "SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()";
    for round in 0..5 {
        // The log is written by pages: what is on disk would end within the message if that began on one and ended on the next.
        let near_the_end = "SELECT (pg_current_wal_insert_lsn() - '0/0') % 8192 > 7000";
        while cluster.primary().value(near_the_end).await.unwrap() == "t" {
            direct
                .batch_execute("SELECT pg_logical_emit_message(true, 'test', repeat('x', 500))")
                .await
                .unwrap();
        }
        client.ok(&format!("INSERT INTO t VALUES (100 + {round})")).await;
        // Not transactional, and rolled back: no commit has it written to disk.
        let message = "BEGIN; SELECT pg_logical_emit_message(false, 'test', repeat('x', 50)); ROLLBACK";
        direct.batch_execute(message).await.unwrap();
        let read = format!("SELECT pg_is_in_recovery() FROM t WHERE id = 100 + {round}");
        let deadline = tokio::time::Instant::now() + SOON / 2;
        while client.value(&read).await != "t" {
            assert!(tokio::time::Instant::now() < deadline, "its own write keeps it on the primary");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("on disk: {}", cluster.primary().value(on_disk).await.unwrap());
    }
    assert_eq!(
        cluster.primary().value(on_disk).await.unwrap(),
        "f",
        "somebody has written it to disk meanwhile"
    );
}

/// A position is found out anew with each answer, also where the statement was prepared before and its text does not come again.
#[tokio::test]
async fn a_prepared_position_moves_on() {
    let cluster = start(0).await;
    let proxy = started(&cluster, "").await;
    let mut client = proxy.client().await;
    let mut show = extended("where", "SHOW pgweir.position");
    let mut last = None;
    for _ in 0..5 {
        client.ok("INSERT INTO t DEFAULT VALUES").await;
        show.unsplit(sync());
        client.send(&show).await.unwrap();
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.errors, []);
        let position: pgweir::position::Position = answer.value().parse().unwrap();
        assert!(last.is_none_or(|last| position.lsn > last), "{position} after {last:?}");
        last = Some(position.lsn);
        show = execute("where");
    }
}
