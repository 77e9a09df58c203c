//! A BEGIN that is held back: it holds no server connection, and goes with the first statement of its transaction.

use crate::proxy::{Proxy, SOON, cluster};
use crate::raw::Raw;
use crate::wire::{bind, execute, function, parse, run, sync};

const WHERE: &str = "SELECT pg_is_in_recovery()";

async fn start(settings: &str) -> (pgweir::cli::demo::cluster::Cluster, Proxy) {
    let cluster = cluster().setting("log_min_duration_statement", "0").replicas(1).start().await.unwrap();
    cluster.primary().sql("CREATE TABLE t (id int)").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, settings).await;
    (cluster, proxy)
}

#[tokio::test]
async fn a_thousand_that_only_begin_hold_nothing() {
    let (_cluster, proxy) = start("pool_size = 1").await;
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let mut client = proxy.client().await;
        assert_eq!(client.ok("BEGIN").await.status, 'T');
        clients.push(client);
    }
    assert_eq!(proxy.sum("pgweir_server_units_total", &[]).await, 0.0);
    // Somebody else is served, and each of them has a transaction of its own in turn.
    assert_eq!(proxy.client().await.value("SELECT txid_current() > 0").await, "t");
    for client in clients.iter_mut().take(20) {
        client.ok("INSERT INTO t VALUES (1)").await;
        assert_eq!(client.ok("COMMIT").await.status, 'I');
    }
    assert_eq!(proxy.client().await.value("SELECT count(*) FROM t WHERE txid_current() > 0").await, "20");
}

#[tokio::test]
async fn the_first_statement_brings_it_along() {
    let (cluster, proxy) = start("").await;
    let mut client = proxy.client().await;
    // Whatever the protocol of the first statement, and whether it succeeds.
    for first in [
        crate::wire::query("INSERT INTO t VALUES (1)"),
        [run("INSERT INTO t VALUES (2)", &[]), sync()].concat(),
        [parse("s", "INSERT INTO t VALUES ($1::int)"), bind("", "s", &["3"]), execute("", 0), sync()]
            .concat(),
    ] {
        client.ok("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
        client.send(&first).await.unwrap();
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.code(), answer.status), ("", 'T'));
        assert_eq!(client.value("SHOW transaction_isolation").await, "repeatable read");
        client.ok("ROLLBACK").await;
        assert_eq!(client.value("SELECT count(*) FROM t WHERE txid_current() > 0").await, "0");
    }
    client.ok("START TRANSACTION").await;
    assert_eq!(client.query("SELECT 1/0").await.unwrap().status, 'E');
    assert_eq!(client.query("SELECT 1").await.unwrap().code(), "25P02");
    client.ok("ROLLBACK").await;
    // Both go in one simple query's time: pipelined, and in order.
    let piped = ["BEGIN", "INSERT INTO t VALUES (4)", "COMMIT", WHERE].map(crate::wire::query).concat();
    client.send(&piped).await.unwrap();
    let statuses =
        [client.answer().await, client.answer().await, client.answer().await, client.answer().await];
    assert_eq!(statuses.map(|answer| answer.unwrap().status), ['T', 'T', 'I', 'I']);
    assert_eq!(client.value("SELECT count(*) FROM t WHERE txid_current() > 0").await, "1");
    // READ ONLY runs on the replica.
    client.ok("BEGIN READ ONLY").await;
    assert_eq!(client.value(WHERE).await, "t");
    assert_eq!(client.query("INSERT INTO t VALUES (5)").await.unwrap().code(), "25006");
    client.ok("COMMIT").await;
    assert!(cluster.primary().log().contains("BEGIN ISOLATION LEVEL REPEATABLE READ"));
}

#[tokio::test]
async fn one_in_which_nothing_happens_reaches_no_server() {
    let (cluster, proxy) = start("").await;
    let mut client = proxy.client().await;
    for (begin, end, tag) in [
        ("BEGIN", "COMMIT", "CZ"),
        ("START TRANSACTION", "ROLLBACK WORK;", "CZ"),
        ("begin work; -- now", "/* so */ END", "CZ"),
    ] {
        assert_eq!(client.ok(begin).await.status, 'T');
        let answer = client.ok(end).await;
        assert_eq!((answer.status, &*answer.tags), ('I', tag));
    }
    // pgweir's own settings are answered inside as outside.
    client.ok("BEGIN").await;
    assert_eq!(client.ok("SHOW pgweir.route").await.status, 'T');
    client.ok("COMMIT").await;
    assert!(!cluster.all().iter().any(|server| server.log().contains("begin work")));
}

/// No server can be had for it: the transaction has failed, and its later statements do not run outside of it.
#[tokio::test]
async fn one_that_finds_no_server_has_failed() {
    let (_cluster, proxy) = start("pool_size = 1\nquery_wait_timeout = \"300ms\"").await;
    let mut holder: Raw = proxy.client().await;
    holder.ok("BEGIN; SELECT 1").await;
    let mut client = proxy.client().await;
    client.ok("BEGIN").await;
    let answer = client.query("INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!((answer.code(), answer.status), ("53300", 'E'));
    holder.ok("COMMIT").await;
    for text in ["INSERT INTO t VALUES (2)", "SELECT 1"] {
        let answer = client.query(text).await.unwrap();
        assert_eq!((answer.code(), answer.status), ("25P02", 'E'));
    }
    client.send(&[run("INSERT INTO t VALUES (3)", &[]), sync()].concat()).await.unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.code(), &*answer.tags, answer.status), ("25P02", "EZ", 'E'));
    let end = client.ok("COMMIT").await;
    assert_eq!(end.status, 'I');
    assert_eq!(client.value("SELECT count(*) FROM t WHERE txid_current() > 0").await, "0");
    client.ok("INSERT INTO t VALUES (4)").await;
}

/// libpq calls the functions of large objects by their numbers: those that read go where the transaction is.
#[tokio::test]
async fn large_objects_are_read_on_a_replica() {
    const OPEN: u32 = 952;
    const CLOSE: u32 = 953;
    const READ: u32 = 954;
    const TELL: u32 = 3171;
    const READS: u32 = 0x4_0000;
    const WRITES: u32 = 0x2_0000;
    async fn call(client: &mut Raw, oid: u32, arguments: &[u32]) -> Result<Vec<u8>, String> {
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_be_bytes()).collect();
        let arguments: Vec<_> = arguments.iter().map(<[u8; 4]>::as_slice).collect();
        client.send(&function(oid, &arguments)).await.unwrap();
        let mut outcome = Err("nothing".to_owned());
        loop {
            match client.message().await.unwrap() {
                (b'V', body) => outcome = Ok(body[4..].to_vec()),
                (b'E', body) => outcome = Err(crate::raw::refusal(&body).code),
                (b'Z', _) => return outcome,
                _ => {}
            }
        }
    }
    let (_cluster, proxy) = start("").await;
    let mut client = proxy.client().await;
    for round in 0..20 {
        let made = client.value(&format!("SELECT lo_from_bytea(0, 'round {round}')")).await;
        let made: u32 = made.parse().unwrap();
        client.ok("BEGIN READ ONLY").await;
        // In every other round a query is first: the transaction is on the replica by then.
        let on_replica = round % 2 == 0 && client.value(WHERE).await == "t";
        let opened = call(&mut client, OPEN, &[made, READS]).await.unwrap();
        assert_eq!(opened, 0_u32.to_be_bytes());
        let expected = format!("round {round}");
        assert_eq!(call(&mut client, READ, &[0, 100]).await.unwrap(), expected.as_bytes());
        assert_eq!(call(&mut client, TELL, &[0]).await.unwrap(), (expected.len() as u64).to_be_bytes());
        assert_eq!(call(&mut client, CLOSE, &[0]).await.unwrap(), 0_u32.to_be_bytes());
        if on_replica {
            let code = call(&mut client, OPEN, &[made, READS | WRITES]).await.unwrap_err();
            assert_eq!(code, "0A000");
        }
        client.ok("ROLLBACK").await;
    }
    client.ok("BEGIN READ ONLY").await;
    assert_eq!(client.value(WHERE).await, "t");
}

/// Who has set a limit for it is ended where nothing follows the BEGIN, as directly: that one goes to the server at once.
#[tokio::test]
async fn a_limit_on_idle_transactions_counts_from_the_begin() {
    let (cluster, proxy) = start("pool_size = 1").await;
    let limit = "idle_in_transaction_session_timeout";
    for address in [cluster.primary().address().parse().unwrap(), proxy.address()] {
        let set = Raw::login(address, &[]).await.unwrap();
        let given = Raw::login(address, &[(limit, "100")]).await.unwrap();
        let option = Raw::login(address, &[("options", &format!("-c {limit}=100"))]).await.unwrap();
        for (mut client, sets) in [(set, true), (given, false), (option, false)] {
            if sets {
                client.ok(&format!("SET {limit} = 100")).await;
            }
            client.ok("BEGIN").await;
            let (tag, body) = client.message().await.unwrap();
            assert_eq!((tag, &*crate::raw::refusal(&body).code), (b'E', "25P03"));
            client.closed().await.unwrap();
        }
    }
}
