//! Names of databases: those of the configuration, those of the servers, and those that come and go meanwhile.

use pgweir::app::Pgweir;
use pgweir::cli::demo::cluster::{Cluster, eventually};

use crate::programs::{SOON, before, cluster, configured, port, psql, wait_for_replica};
use crate::speaker::Speaker;

async fn servers() -> Cluster {
    let cluster = cluster().replicas(1).start().await.unwrap();
    make(&cluster, "brief").await;
    cluster
}

/// A database with its own name in a table.
async fn make(cluster: &Cluster, name: &str) {
    cluster.primary().sql(&format!("CREATE DATABASE {name}")).await.unwrap();
    cluster.primary().sql_in(name, &format!("CREATE TABLE called AS SELECT '{name}' AS name")).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
}

async fn name_by(port: u16, database: &str) -> String {
    psql(port, database, &["-Atc", "SELECT current_database()"]).run().await.ok().trim().to_owned()
}

#[tokio::test]
async fn names_lead_where_the_configuration_says() {
    let cluster = servers().await;
    let rest =
        "[databases.shop]\nservers = SERVERS\ndbname = \"brief\"\n[databases.brief]\nservers = SERVERS\n";
    let named = configured(&cluster, "", rest).await;
    assert_eq!(name_by(port(&named), "shop").await, "brief");
    assert_eq!(name_by(port(&named), "brief").await, "brief");
    let unknown = Speaker::connect(port(&named), "postgres").await.unwrap_err();
    assert_eq!(unknown.codes(), ["3D000"]);
    assert!(
        unknown.closed && unknown.errors[0].2.contains("\"postgres\" is not configured in pgweir"),
        "{unknown:?}"
    );
    let told = psql(port(&named), "postgres", &["-c", "SELECT 1"]).run().await;
    assert!(told.code == Some(2) && told.err.contains("HINT:  Add [databases.NAME]"), "{told:?}");

    let rest =
        "[databases.shop]\nservers = SERVERS\ndbname = \"brief\"\n[databases.\"*\"]\nservers = SERVERS\n";
    let any = configured(&cluster, "", rest).await;
    for (asked, found) in
        [("shop", "brief"), ("brief", "brief"), ("postgres", "postgres"), ("template1", "template1")]
    {
        assert_eq!(name_by(port(&any), asked).await, found);
    }
    // A name that the servers do not have: their own words, and the same each time.
    for _ in 0..3 {
        let unknown = Speaker::connect(port(&any), "nowhere").await.unwrap_err();
        assert_eq!(
            unknown.errors,
            [("FATAL".into(), "3D000".into(), "database \"nowhere\" does not exist".into())]
        );
    }
}

/// What a client was in the middle of.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Doing {
    Nothing,
    Reading,
    Writing,
    SessionState,
    Transaction,
    ReadOnlyTransaction,
}

async fn client(port: u16, doing: Doing) -> Speaker {
    let mut client = Speaker::connect(port, "brief").await.unwrap();
    let first = client.simple("SELECT name FROM called").await;
    assert_eq!(first.rows, [["brief"]], "{first:?}");
    let text = match doing {
        Doing::Nothing => "SELECT 1",
        Doing::Reading | Doing::Writing => return client,
        Doing::SessionState => "CREATE TEMP TABLE mine (id int)",
        Doing::Transaction => "BEGIN; SELECT 1",
        Doing::ReadOnlyTransaction => "BEGIN READ ONLY",
    };
    let reply = client.simple(text).await;
    assert!(reply.errors.is_empty(), "{reply:?}");
    // No server knows of a transaction before its first statement.
    let reply = client.simple("SELECT 1").await;
    assert!(reply.errors.is_empty(), "{reply:?}");
    client
}

/// Clients in the middle of everything; two of them wait for an answer.
async fn crowd(cluster: &Cluster, port: u16) -> Vec<(Doing, Speaker)> {
    let mut clients = Vec::new();
    for doing in [
        Doing::Nothing,
        Doing::Nothing,
        Doing::Reading,
        Doing::Writing,
        Doing::SessionState,
        Doing::Transaction,
        Doing::ReadOnlyTransaction,
    ] {
        clients.push((doing, client(port, doing).await));
    }
    for (doing, client) in &mut clients {
        match doing {
            Doing::Reading => client.ask("SELECT pg_sleep(60)").await,
            Doing::Writing => client.ask("DO $$ BEGIN PERFORM pg_sleep(60); END $$").await,
            _ => {}
        }
    }
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()";
    for server in cluster.all() {
        server.wait_value(sleeps, "1", SOON).await.unwrap();
    }
    clients
}

/// The database is dropped under them: each hears of it once, and clearly.
async fn drop_under(cluster: &Cluster, clients: Vec<(Doing, Speaker)>) -> Vec<Speaker> {
    cluster.primary().sql("DROP DATABASE brief WITH (FORCE)").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let mut left = Vec::new();
    for (doing, mut client) in clients {
        let reply = match doing {
            Doing::Reading | Doing::Writing => client.listen().await,
            Doing::Nothing => client.simple("SELECT 1").await,
            // Their connection was lost with what they rely on: they are told without asking.
            _ => {
                client.wait().await;
                client.listen().await
            }
        };
        let known = ["57P01", "57P04", "40001", "3D000", "08006", "08007"];
        assert!(reply.errors.len() == 1 && known.contains(&reply.codes()[0]), "{doing:?}: {reply:?}");
        let relies = matches!(doing, Doing::SessionState | Doing::Transaction | Doing::ReadOnlyTransaction);
        assert_eq!(reply.closed, relies, "{doing:?}: {reply:?}");
        if !reply.closed {
            left.push(client);
        }
    }
    left
}

#[tokio::test]
async fn a_database_that_is_dropped_and_made_again_is_found_again() {
    let cluster = servers().await;
    // Each login that fails makes the next one wait, by default for 5 seconds in the end.
    let pgweir = configured(&cluster, "server_login_retry_max = \"200ms\"", "").await;
    let port = port(&pgweir);
    for _ in 0..2 {
        wait_for_replica(port, "brief").await;
        let clients = crowd(&cluster, port).await;
        let mut left = drop_under(&cluster, clients).await;
        // While it is gone: one error for each statement, read or write.
        for client in &mut left {
            for text in ["SELECT name FROM called", "INSERT INTO called VALUES ('x')"] {
                let reply = client.simple(text).await;
                assert_eq!((reply.codes(), reply.closed), (vec!["3D000"], false), "{reply:?}");
            }
        }
        // Other databases are served as ever.
        assert_eq!(name_by(port, "postgres").await, "postgres");
        make(&cluster, "brief").await;
        for client in &mut left {
            let reply = client.simple("SELECT name FROM called").await;
            assert_eq!((reply.rows, reply.errors), (vec![vec!["brief".to_owned()]], vec![]));
            let reply = client
                .simple("INSERT INTO called VALUES ('x') RETURNING name; DELETE FROM called WHERE name = 'x'")
                .await;
            assert_eq!((reply.rows, reply.errors), (vec![vec!["x".to_owned()]], vec![]));
        }
        assert_all_given_back(&cluster, &pgweir).await;
        cluster.wait_replayed(SOON).await.unwrap();
    }
}

/// No pool is stuck: more clients than a pool has room for are served at once.
async fn assert_all_given_back(cluster: &Cluster, pgweir: &Pgweir) {
    let port = port(pgweir);
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(Speaker::connect(port, "brief").await.unwrap());
    }
    for text in ["SELECT 1", "SELECT 1 FOR UPDATE"] {
        for client in &mut clients {
            client.ask(text).await;
        }
        for client in &mut clients {
            let reply = client.listen().await;
            assert_eq!((reply.rows.len(), reply.errors.len()), (1, 0));
        }
    }
    drop(clients);
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'brief' AND state <> 'idle'";
    for server in cluster.all() {
        server.wait_value(busy, "0", SOON).await.unwrap();
    }
}

#[tokio::test]
async fn a_database_is_renamed_dropped_and_copied_through_pgweir() {
    let cluster = servers().await;
    let pgweir = before(&cluster).await;
    let port = port(&pgweir);
    wait_for_replica(port, "brief").await;
    let mut operator = Speaker::connect(port, "postgres").await.unwrap();
    assert_eq!(name_by(port, "brief").await, "brief");
    for extended in [false, true] {
        for text in [
            "ALTER DATABASE brief RENAME TO renamed",
            "CREATE DATABASE brief TEMPLATE renamed",
            "DROP DATABASE renamed",
        ] {
            let done = async |operator: &mut Speaker| {
                let reply =
                    if extended { operator.extended(text, 0).await } else { operator.simple(text).await };
                reply.errors.is_empty() || {
                    println!("{text}: {reply:?}");
                    false
                }
            };
            assert!(done(&mut operator).await, "{text}");
            let found = if text.starts_with("ALTER") { "renamed" } else { "brief" };
            // A pool has connections again, which nobody uses.
            let served = async || {
                psql(port, found, &["-Atc", "SELECT name FROM called", "-c", "SELECT 1 FOR UPDATE"])
                    .run()
                    .await
                    .code
                    == Some(0)
            };
            eventually(SOON, &served).await.unwrap();
        }
    }
    // PostgreSQL's own guard stays: a client that uses the database is in the way of its end.
    let mut user = Speaker::connect(port, "brief").await.unwrap();
    assert!(
        user.simple("SELECT 1").await.errors.is_empty()
            && user.simple("SELECT 1 FOR UPDATE").await.errors.is_empty()
    );
    let refused = operator.simple("DROP DATABASE brief").await;
    assert_eq!(refused.codes(), ["55006"], "{refused:?}");
    drop(user);
}

/// Its last client has just left, and what that has set on its server connection is still being reset.
#[tokio::test]
async fn who_has_just_left_a_database_is_not_in_the_way_of_its_end() {
    let cluster = servers().await;
    let pgweir = before(&cluster).await;
    let port = port(&pgweir);
    let mut operator = Speaker::connect(port, "postgres").await.unwrap();
    for round in 0..5 {
        let name = format!("passing{round}");
        assert!(operator.simple(&format!("CREATE DATABASE {name}")).await.errors.is_empty());
        let mut last = Speaker::connect(port, &name).await.unwrap();
        let many = "CREATE TEMP TABLE t (n int); INSERT INTO t SELECT generate_series(1, 20000)";
        assert!(last.simple(many).await.errors.is_empty());
        drop(last);
        let dropped = operator.simple(&format!("DROP DATABASE {name}")).await;
        assert!(dropped.errors.is_empty(), "{dropped:?}");
    }
}
