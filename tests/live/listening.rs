//! LISTEN without a pin: one server connection hears for all clients, nothing is missed unsaid, and nothing is told out of its time.

use std::time::Duration;

use pgweir::cli::demo::cluster::{Cluster, eventually};
use pgweir::clock;
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, Watch, cluster, configuration};
use crate::raw::{Raw, query};
use crate::wire::{bind, close, describe, execute, flush, parse, sync};

async fn start(settings: &str) -> (Cluster, Proxy) {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let proxy = Proxy::start(&cluster, settings).await;
    (cluster, proxy)
}

/// The next notification: channel and payload.
async fn hear(client: &mut Raw) -> (String, String) {
    let (tag, body) = client.message().await.unwrap();
    assert_eq!(tag, b'A', "{}", body.escape_ascii());
    let mut parts = body[4..].split(|byte| *byte == 0).map(|part| String::from_utf8(part.to_vec()).unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

fn heard(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}

#[tokio::test]
async fn many_listen_on_one_connection() {
    let (cluster, proxy) = start("pool_size = 2").await;
    let watch = Watch::new(cluster.primary()).await;
    let mut clients = JoinSet::new();
    let ready = std::sync::Arc::new(tokio::sync::Barrier::new(201));
    for number in 0..200 {
        let (mut client, ready) = (proxy.client().await, ready.clone());
        clients.spawn(async move {
            let own = format!("own{number}");
            assert_eq!(client.ok("LISTEN everybody").await.tags, "CZ");
            assert_eq!(client.ok(&format!("LISTEN {own}")).await.tags, "CZ");
            ready.wait().await;
            // To everybody in order, and to itself.
            let mut numbers = Vec::new();
            let mut mine = 0;
            while numbers.len() < 50 || mine < 1 {
                let (channel, payload) = hear(&mut client).await;
                match channel.as_str() {
                    "everybody" => numbers.push(payload.parse::<usize>().unwrap()),
                    _ => {
                        assert_eq!((channel, payload), (own.clone(), "hello".to_owned()));
                        mine += 1;
                    }
                }
            }
            assert_eq!(numbers, (0..50).collect::<Vec<_>>());
            assert_eq!(client.value("SELECT 1").await, "1", "nothing else came");
        });
    }
    ready.wait().await;
    assert_eq!(proxy.sum("pgweir_listening_clients", &[]).await as usize, 200);
    let mut teller = proxy.client().await;
    for number in 0..50 {
        teller.ok(&format!("NOTIFY everybody, '{number}'")).await;
    }
    for number in 0..200 {
        teller.ok(&format!("SELECT pg_notify('own{number}', 'hello')")).await;
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await as usize, 0);
    // It has yet to see that they are gone.
    eventually(SOON, || async { proxy.sum("pgweir_listening_clients", &[]).await == 0.0 }).await.unwrap();
    assert!(watch.count("true").await <= 2, "{:?}", watch.pids().await);
}

#[tokio::test]
async fn who_has_just_drawn_a_key_listens_on_no_connection_of_its_own() {
    let (cluster, proxy) = start("pool_size = 2").await;
    cluster.primary().sql("CREATE TABLE drawn (id serial, who int)").await.unwrap();
    let (mut client, mut teller) = (proxy.client().await, proxy.client().await);
    let insert = "INSERT INTO drawn (who) VALUES (1)";
    client.ok(insert).await;
    assert_eq!(client.value("SELECT lastval()").await, "1");
    client.ok(insert).await;
    client.ok("LISTEN news").await;
    client.ok("LISTEN more").await;
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await as usize, 0);
    // What comes meanwhile is told.
    client.ok(insert).await;
    teller.ok("NOTIFY news, 'one'").await;
    assert_eq!(hear(&mut client).await, heard("news", "one"));
    client.ok(insert).await;
    client.ok("UNLISTEN news").await;
    teller.ok("NOTIFY news, 'two'").await;
    teller.ok("NOTIFY more, 'three'").await;
    assert_eq!(hear(&mut client).await, heard("more", "three"));
}

/// Units about channels, and what they are.
fn about_channels() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("simple", query("LISTEN \"Some Thing\"").to_vec()),
        ("twice", query(" listen \"Some Thing\";").to_vec()),
        (
            "unnamed",
            [parse("", "LISTEN x"), bind("", "", &[]), describe('P', ""), execute("", 0), sync()].concat(),
        ),
        ("prepared", [parse("s", "LISTEN y"), describe('S', "s"), sync()].concat()),
        ("and run", [bind("", "s", &[]), execute("", 0), sync()].concat()),
        ("and again", [bind("p", "s", &[]), describe('P', "p"), execute("p", 1), sync()].concat()),
        // As sqlx does.
        ("and its portal closed", [bind("", "s", &[]), execute("", 0), close('P', ""), sync()].concat()),
        ("closed", [close('S', "s"), sync()].concat()),
        ("gone", [bind("", "s", &[]), execute("", 0), sync()].concat()),
        ("several", query("LISTEN x; LISTEN \"a;b\" ; ; UNLISTEN \"a;b\"; -- ;").to_vec()),
        ("several prepared", [parse("", "LISTEN x; LISTEN z"), sync()].concat()),
        ("wrong", query("LISTEN").to_vec()),
        ("off", query("UNLISTEN x").to_vec()),
        ("never on", query("UNLISTEN nothing").to_vec()),
        ("read", query("SELECT 1").to_vec()),
        ("which", query("SELECT * FROM pg_listening_channels()").to_vec()),
        (
            "which, prepared",
            [parse("w", "SELECT pg_listening_channels()"), describe('S', "w"), sync()].concat(),
        ),
        ("which, run", [bind("", "w", &[]), describe('P', ""), execute("", 0), sync()].concat()),
        (
            "which, some",
            [bind("", "w", &[]), execute("", 1), execute("", 1), execute("", 0), sync()].concat(),
        ),
        ("begin", query("BEGIN").to_vec()),
        ("which, in a transaction", query("SELECT pg_catalog.pg_listening_channels();").to_vec()),
        ("which, and closed", [bind("", "w", &[]), execute("", 0), close('P', ""), sync()].concat()),
        ("failed", query("SELECT 1/0").to_vec()),
        ("which, in one that has failed", query("SELECT * FROM pg_listening_channels()").to_vec()),
        ("end", query("ROLLBACK").to_vec()),
    ]
}

/// In each way of saying it, what a client is told is the same as without pgweir.
#[tokio::test]
async fn as_without_pgweir() {
    let (cluster, proxy) = start("pool_size = 1").await;
    let mut direct = Raw::login(cluster.primary().address().parse().unwrap(), &[]).await.unwrap();
    let mut through = proxy.client().await;
    let mut teller = cluster.primary().connect("postgres").await.unwrap();
    for (what, unit) in &about_channels() {
        direct.send(unit).await.unwrap();
        through.send(unit).await.unwrap();
        let (expected, answer) = (direct.answer().await.unwrap(), through.answer().await.unwrap());
        let said = |answer: &crate::raw::Answer| {
            let mut rows = answer.rows.clone();
            rows.sort();
            (answer.tags.clone(), answer.code().to_owned(), rows, answer.status)
        };
        assert_eq!(said(&answer), said(&expected), "{what}");
    }
    for (channel, payload) in [("x", "off"), ("y", "1"), ("Some Thing", "2"), ("y", "3")] {
        teller.execute("SELECT pg_notify($1, $2)", &[&channel, &payload]).await.unwrap();
    }
    for expected in [heard("y", "1"), heard("Some Thing", "2"), heard("y", "3")] {
        assert_eq!(hear(&mut direct).await, expected);
        assert_eq!(hear(&mut through).await, expected);
    }
    // Not within a transaction, and not within a result.
    for client in [&mut direct, &mut through] {
        client.ok("BEGIN").await;
        client.ok("SELECT 1").await;
    }
    teller.batch_execute("NOTIFY y, 'later'").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for client in [&mut direct, &mut through] {
        assert_eq!(client.ok("SELECT 2").await.tags, "TDCZ");
        client.send(&query("COMMIT")).await.unwrap();
        let mut tags = String::new();
        while tags.len() < 3 {
            tags.push(char::from(client.message().await.unwrap().0));
        }
        assert!(["CZA", "CAZ"].contains(&&*tags), "{tags}");
        client.ok("UNLISTEN *").await;
    }
    let transaction = teller.transaction().await.unwrap();
    transaction.batch_execute("NOTIFY y, 'nobody'").await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(through.value("SELECT 3").await, "3");
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await as usize, 0);
}

/// What drivers like asyncpg do: they ask what a statement is, with a Flush, before they run it.
#[tokio::test]
async fn asked_first_with_a_flush() {
    let (cluster, proxy) = start("pool_size = 1").await;
    let mut direct = Raw::login(cluster.primary().address().parse().unwrap(), &[]).await.unwrap();
    let mut through = proxy.client().await;
    let mut teller = proxy.client().await;
    let ask = |name: &str, text: &str| [parse(name, text), describe('S', name), flush()].concat();
    let run = |name: &str| [bind("", name, &[]), execute("", 0), sync()].concat();
    let steps = [
        ("named", ask("s", "LISTEN x"), "1tn", run("s"), "2CZ"),
        ("unnamed", ask("", "LISTEN y"), "1tn", run(""), "2CZ"),
        ("only asked", ask("t", "LISTEN z"), "1tn", sync(), "Z"),
        ("asked again", [describe('S', "s"), flush()].concat(), "tn", run("s"), "2CZ"),
        ("something else", ask("u", "UNLISTEN x"), "1tn", [parse("", "SELECT 1"), run("")].concat(), "12DCZ"),
    ];
    for (what, first, answer, second, end) in steps {
        for client in [&mut direct, &mut through] {
            for (messages, expected) in [(&first, answer), (&second, end)] {
                client.send(messages).await.unwrap();
                let mut tags = String::new();
                while tags.len() < expected.len() {
                    tags.push(char::from(client.message().await.unwrap().0));
                }
                assert_eq!(tags, expected, "{what}");
            }
        }
    }
    for channel in ["z", "x", "y"] {
        teller.ok(&format!("NOTIFY {channel}, 'hello'")).await;
    }
    for client in [&mut direct, &mut through] {
        for channel in ["x", "y"] {
            assert_eq!(hear(client).await, heard(channel, "hello"));
        }
    }
    assert_eq!(proxy.sum("pgweir_pins_total", &[]).await as usize, 0);
}

/// Within one query a channel may be left first and then listened on.
#[tokio::test]
async fn left_and_listened_on_again() {
    let (cluster, proxy) = start("pool_size = 1").await;
    let mut client = proxy.client().await;
    for begin in ["LISTEN a", "UNLISTEN *; LISTEN a", "UNLISTEN a; LISTEN b; LISTEN a"] {
        assert!(client.ok(begin).await.tags.ends_with("CZ"), "{begin}");
        cluster.primary().sql("NOTIFY a, 'x'").await.unwrap();
        assert_eq!(hear(&mut client).await, heard("a", "x"), "{begin}");
    }
}

/// What drivers send when a connection goes back to their pool ends it; LISTEN within a transaction counts when that commits.
#[tokio::test]
async fn resets_and_transactions() {
    let (cluster, proxy) = start("pool_size = 3").await;
    let teller = cluster.primary().connect("postgres").await.unwrap();
    let mut client = proxy.client().await;
    for reset in
        ["UNLISTEN *", "DISCARD ALL", "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;"]
    {
        client.ok("LISTEN a").await;
        teller.batch_execute("NOTIFY a, 'x'").await.unwrap();
        assert_eq!(hear(&mut client).await, heard("a", "x"));
        client.ok(reset).await;
        teller.batch_execute("NOTIFY a, 'nobody'").await.unwrap();
        assert_eq!(client.value("SELECT 1").await, "1", "{reset}");
    }
    client.ok("BEGIN").await;
    client.ok("LISTEN b").await;
    client.ok("ROLLBACK").await;
    client.ok("BEGIN").await;
    client.ok("LISTEN c").await;
    client.ok("COMMIT").await;
    teller.batch_execute("NOTIFY b, 'nobody'; NOTIFY c, 'x'").await.unwrap();
    assert_eq!(hear(&mut client).await, heard("c", "x"));
}

/// The connection that listens is lost: who listened is told, who did not does not notice, and a new LISTEN works.
#[tokio::test]
async fn what_was_missed_is_said() {
    let (cluster, proxy) = start("").await;
    let (mut listener, mut other) = (proxy.client().await, proxy.client().await);
    listener.ok("LISTEN a").await;
    let watch = Watch::new(cluster.primary()).await;
    let hub = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    assert_eq!(watch.column(hub).await, ["1"]);
    let (tag, body) = listener.message().await.unwrap();
    assert!(tag == b'E' && body.windows(6).any(|part| part == b"C08006"), "{}", body.escape_ascii());
    listener.closed().await.unwrap();
    assert_eq!(other.value("SELECT 1").await, "1");
    other.ok("LISTEN a").await;
    watch.column("NOTIFY a, 'again'").await;
    assert_eq!(hear(&mut other).await, heard("a", "again"));
}

/// Who does not read is told so when there is too much, and holds nobody up.
#[tokio::test]
async fn who_does_not_read_is_not_waited_for() {
    let cluster = cluster().start().await.unwrap();
    let text = format!("max_notifications = 50\n{}", configuration(&cluster.servers(), "", ""));
    let proxy = Proxy::with(&text);
    proxy.knows(1).await;
    let (mut slow, mut quick) = (proxy.client().await, proxy.client().await);
    for client in [&mut slow, &mut quick] {
        client.ok("LISTEN a").await;
    }
    // Within a transaction it is told nothing.
    slow.ok("BEGIN").await;
    slow.ok("SELECT txid_current()").await;
    let teller = cluster.primary().connect("postgres").await.unwrap();
    for number in 0..60 {
        teller.batch_execute(&format!("NOTIFY a, '{number}'")).await.unwrap();
        assert_eq!(hear(&mut quick).await, heard("a", &number.to_string()));
    }
    slow.send(&query("COMMIT")).await.unwrap();
    let mut code = String::new();
    while let Ok((tag, body)) = slow.message().await {
        if tag == b'E' {
            code = body.escape_ascii().to_string();
        }
    }
    assert!(code.contains("C54000"), "{code}");
    eventually(SOON, || async { proxy.sum("pgweir_clients", &[]).await as usize == 1 }).await.unwrap();
}

/// Sends units, one after the other or all at once. Returns the tags of what comes, and the notifications.
async fn say(client: &mut Raw, units: &[Vec<u8>], at_once: bool) -> (String, Vec<String>) {
    let (mut tags, mut notifications) = (String::new(), Vec::new());
    let parts = if at_once { vec![units.concat()] } else { units.to_vec() };
    for part in &parts {
        client.send(part).await.unwrap();
        let ends = tags.matches('Z').count() + units.len() / parts.len();
        while tags.matches('Z').count() < ends {
            let (tag, body) = client.message().await.unwrap();
            tags.push(char::from(tag));
            if tag == b'A' {
                let (process, said) = body.split_first_chunk().unwrap();
                assert_eq!(i32::from_be_bytes(*process), client.key.0, "{tags} {}", said.escape_ascii());
                notifications.push(said.escape_ascii().to_string());
            }
        }
    }
    // What the server tells between units that it has not read yet is a matter of luck.
    (if at_once { tags.replace('A', "") } else { tags }, notifications)
}

fn queries(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| query(text).to_vec()).collect()
}

/// A client's own notification comes before the end of the unit that has committed it, as without pgweir, and nothing waits for
/// one that is rolled back.
#[tokio::test]
async fn what_it_says_itself_comes_before_the_end() {
    let (cluster, proxy) = start("pool_size = 2").await;
    // In a database of its own: neither hears the other.
    cluster.primary().sql("CREATE DATABASE direct").await.unwrap();
    let address = cluster.primary().address().parse().unwrap();
    let mut direct = Raw::login(address, &[("database", "direct")]).await.unwrap();
    let mut through = proxy.client().await;
    for client in [&mut direct, &mut through] {
        client.ok("LISTEN ch").await;
        client.ok("LISTEN \"Some Thing\"").await;
    }
    let bound = [parse("", "SELECT pg_notify($1, $2)"), bind("", "", &["ch", "b"]), execute("", 0), sync()];
    let named = [parse("n", "NOTIFY ch, 'n'"), bind("", "n", &[]), execute("", 0), sync()];
    let again = [bind("", "n", &[]), describe('P', ""), execute("", 0), sync()];
    let cases = [
        queries(&["NOTIFY ch"]),
        queries(&["NOTIFY ch, 'payload'"]),
        queries(&["notify \"Some Thing\", 'x'", "NOTIFY nobody"]),
        queries(&["SELECT pg_notify('ch', 'p')"]),
        vec![bound.concat(), named.concat(), again.concat(), [close('S', "n"), sync()].concat()],
        // The server merges what is said twice in one transaction.
        queries(&["BEGIN", "NOTIFY ch, 't'", "NOTIFY ch, 't'", "NOTIFY ch, 'u'", "COMMIT"]),
        queries(&["BEGIN", "NOTIFY ch, 't'", "ROLLBACK", "NOTIFY ch, 't'"]),
        queries(&["BEGIN", "NOTIFY ch, 't'", "SELECT 1/0", "COMMIT", "NOTIFY ch"]),
        queries(&["BEGIN", "SAVEPOINT s", "NOTIFY ch, 'v'", "ROLLBACK TO s", "COMMIT", "NOTIFY ch, 'v'"]),
        queries(&["NOTIFY ch, 'again'", "NOTIFY ch, 'again'", "SHOW work_mem"]),
    ];
    for own_connection in [false, true] {
        if own_connection {
            for client in [&mut direct, &mut through] {
                client.ok("CREATE TEMP TABLE own (id int)").await;
            }
        }
        for units in &cases {
            for at_once in [false, true] {
                let expected = say(&mut direct, units, at_once).await;
                let start = clock::now();
                let answer = say(&mut through, units, at_once).await;
                // As long as a unit waits for what does not come.
                let vain = start.elapsed() > Duration::from_secs(1);
                assert!(!vain, "{own_connection} {at_once} {}", units.concat().escape_ascii());
                assert_eq!(answer, expected, "{own_connection} {at_once} {}", units.concat().escape_ascii());
            }
        }
    }
}

/// Where it does not come, the unit ends all the same: late where it is late, at once where it is lost.
#[tokio::test]
async fn what_it_says_itself_may_not_come() {
    let (cluster, proxy) = start("").await;
    let mut client = proxy.client().await;
    client.ok("LISTEN ch").await;
    let watch = Watch::new(cluster.primary()).await;
    let hub = watch.column("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'").await.remove(0);
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args(["-s", name, &hub]).status().unwrap().success());
    };
    signal("STOP");
    client.send(&query("NOTIFY ch, 'late'")).await.unwrap();
    assert_eq!(client.answer().await.unwrap().tags, "CZ");
    signal("CONT");
    assert_eq!(hear(&mut client).await, heard("ch", "late"));
    signal("STOP");
    client.send(&query("NOTIFY ch, 'lost'")).await.unwrap();
    assert_eq!(client.message().await.unwrap().0, b'C');
    watch.column(&format!("SELECT pg_terminate_backend({hub})")).await;
    signal("CONT");
    // Lost with the connection, or told before its end; the unit has ended, and then the session.
    let mut tags = String::new();
    while !tags.ends_with('E') {
        tags.push(char::from(client.message().await.unwrap().0));
    }
    assert!(["ZE", "AZE"].contains(&&*tags), "{tags}");
}

/// Whoever says something is known by the number that it was told at its login, as without pgweir.
#[tokio::test]
async fn who_said_it() {
    let (_cluster, proxy) = start("pool_size = 2").await;
    let (mut ears, mut mouth) = (proxy.client().await, proxy.client().await);
    ears.ok("LISTEN ch").await;
    let mut units: Vec<(String, Vec<u8>)> = Vec::new();
    for (nth, text) in [
        "NOTIFY ch",
        "notify \"ch\", 'payload'",
        "SELECT pg_notify('ch', 'x')",
        "SELECT pg_catalog.pg_notify('ch'::text, '')",
    ]
    .iter()
    .enumerate()
    {
        units.push(((*text).to_owned(), query(text).to_vec()));
        let name = format!("s{nth}");
        units.push((
            format!("{text}, prepared"),
            [parse(&name, text), sync(), bind("", &name, &[]), execute("", 0), sync()].concat(),
        ));
    }
    units.push((
        "bound".to_owned(),
        [parse("", "SELECT pg_notify($1, $2)"), bind("", "", &["ch", "bound"]), execute("", 0), sync()]
            .concat(),
    ));
    let process = |body: &[u8]| i32::from_be_bytes(*body.first_chunk().unwrap());
    for (what, unit) in &units {
        let readies = unit.windows(5).filter(|bytes| *bytes == b"S\0\0\0\x04").count().max(1);
        mouth.send(unit).await.unwrap();
        for _ in 0..readies {
            assert_eq!(mouth.answer().await.unwrap().code(), "", "{what}");
        }
        let (tag, body) = ears.message().await.unwrap();
        assert_eq!((tag, process(&body)), (b'A', mouth.key.0), "{what}");
    }
    let mut other = proxy.client().await;
    for text in ["BEGIN", "NOTIFY ch", "ROLLBACK"] {
        other.ok(text).await;
    }
    mouth.ok("NOTIFY ch").await;
    let (tag, body) = ears.message().await.unwrap();
    assert_eq!((tag, process(&body)), (b'A', mouth.key.0));
    // On a connection of its own, too.
    mouth.ok("BEGIN").await;
    mouth.ok("LISTEN own").await;
    mouth.ok("COMMIT").await;
    mouth.send(&query("SELECT pg_notify('o' || 'wn', 'x')")).await.unwrap();
    let mut tags = String::new();
    while !tags.ends_with('Z') {
        let (tag, body) = mouth.message().await.unwrap();
        assert!(tag != b'A' || process(&body) == mouth.key.0);
        tags.push(char::from(tag));
    }
    assert_eq!(tags, "TDCAZ");
}

/// To whoever listens on a connection of its own, too.
#[tokio::test]
async fn who_said_it_to_a_connection_of_its_own() {
    for settings in ["pool_size = 4", "pool_size = 5\npool_mode = \"session\""] {
        let (_cluster, proxy) = start(settings).await;
        let [mut one, mut other, mut first, mut second] =
            [proxy.client().await, proxy.client().await, proxy.client().await, proxy.client().await];
        for ears in [&mut one, &mut other] {
            for text in ["BEGIN", "LISTEN ch", "LISTEN more", "COMMIT"] {
                ears.ok(text).await;
            }
        }
        let process = |body: &[u8]| i32::from_be_bytes(*body.first_chunk().unwrap());
        for (nth, text) in ["NOTIFY ch", "SELECT pg_notify('more', 'x')", "NOTIFY ch"].iter().enumerate() {
            // What is told at the end of a transaction, as well.
            if nth == 2 {
                other.ok("BEGIN").await;
            }
            first.ok(text).await;
            second.ok(text).await;
            if nth == 2 {
                other.send(&query("COMMIT")).await.unwrap();
                assert_eq!(other.message().await.unwrap().0, b'C');
            }
            for ears in [&mut one, &mut other] {
                for mouth in [&first, &second] {
                    let (tag, body) = ears.message().await.unwrap();
                    assert_eq!((tag, process(&body)), (b'A', mouth.key.0), "{settings} {text}");
                }
            }
        }
        assert_eq!(other.message().await.unwrap().0, b'Z');
        for end in ["ROLLBACK", "SELECT 1 / 0"] {
            let text = format!("BEGIN; NOTIFY ch; {end}; ROLLBACK");
            for text in text.split("; ") {
                first.send(&query(text)).await.unwrap();
                first.answer().await.unwrap();
            }
            second.ok("NOTIFY ch").await;
            for ears in [&mut one, &mut other] {
                let (tag, body) = ears.message().await.unwrap();
                assert_eq!((tag, process(&body)), (b'A', second.key.0), "{settings} {end}");
            }
        }
    }
}

/// A client that is listened for, and then listens on a connection of its own as well, hears each once.
#[tokio::test]
async fn what_two_connections_listen_on_is_heard_once() {
    let cluster = cluster().start().await.unwrap();
    let proxy = Proxy::start(&cluster, "").await;
    let (mut ears, mut mouth) = (proxy.client().await, proxy.client().await);
    ears.ok("LISTEN ch").await;
    ears.ok("LISTEN other").await;
    for text in ["BEGIN", "LISTEN ch", "COMMIT"] {
        ears.ok(text).await;
    }
    // Its connection was asked what it listens on before this.
    ears.ok("SELECT 1").await;
    let mut heard = 0;
    for nth in 0..10 {
        mouth.ok(&format!("NOTIFY ch, '{nth}'")).await;
        mouth.ok(&format!("NOTIFY other, '{nth}'")).await;
        // What is said on the connection of its own may come a moment later.
        while heard < 2 * (nth + 1) {
            let tags = ears.query("SELECT 1").await.unwrap().tags;
            heard += tags.matches('A').count();
        }
        assert_eq!(heard, 2 * (nth + 1));
    }
    assert_eq!(ears.query("SELECT 1").await.unwrap().tags, "TDCZ");
}

/// Without a primary, a LISTEN waits for the next one as other units do; of two on one connection, too.
#[tokio::test]
async fn without_a_primary_it_waits_for_one() {
    let (cluster, proxy) = start("failover_wait = \"60s\"").await;
    let (mut heard, mut one, mut two) = (proxy.client().await, proxy.client().await, proxy.client().await);
    heard.ok("LISTEN before").await;
    cluster.primary().kill().await.unwrap();
    // Nobody has told pgweir yet, when these come; or it has just heard of it.
    one.send(&query("LISTEN a; LISTEN b")).await.unwrap();
    two.send(&query("LISTEN a")).await.unwrap();
    assert_eq!(heard.message().await.unwrap().0, b'E');
    proxy.becomes("pgweir_failover_waiting", &[], 2.0).await;
    cluster.replica(0).promote().await.unwrap();
    assert_eq!(one.answer().await.unwrap().tags, "CCZ");
    assert_eq!(two.answer().await.unwrap().tags, "CZ");
    assert_eq!(proxy.sum("pgweir_failover_waits_total", &["outcome=\"served\""]).await, 2.0);
    let mut teller = proxy.client().await;
    teller.ok("NOTIFY a, 'x'").await;
    teller.ok("NOTIFY b, 'y'").await;
    assert_eq!(hear(&mut one).await, self::heard("a", "x"));
    assert_eq!(hear(&mut one).await, self::heard("b", "y"));
    assert_eq!(hear(&mut two).await, self::heard("a", "x"));

    // And no longer than it may.
    let (cluster, proxy) = start("failover_wait = \"300ms\"").await;
    let mut client = proxy.client().await;
    cluster.primary().kill().await.unwrap();
    assert_eq!(client.query("LISTEN a").await.unwrap().code(), "57P03");
    assert_eq!(proxy.sum("pgweir_failover_waits_total", &["outcome=\"timeout\""]).await, 1.0);
    cluster.replica(0).promote().await.unwrap();
    eventually(SOON, || async { proxy.client().await.query("LISTEN a").await.unwrap().tags == "CZ" })
        .await
        .unwrap();
}
