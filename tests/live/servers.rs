//! Servers that come and go while clients are connected, and what is said of them: by the console, and by a configuration that
//! is read again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use pgweir::cli::demo::cluster::{Cluster, eventually};
use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, Watch, cluster, configuration};
use crate::raw::Raw;

/// Which server answers.
const WHERE: &str = "SELECT current_setting('port')";

async fn started() -> Cluster {
    let cluster = cluster().replicas(2).start().await.unwrap();
    cluster
        .primary()
        .sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)")
        .await
        .unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    cluster
}

/// Clients that read and write without a pause, each over one connection, and hear no error.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: JoinSet<()>,
}

impl Load {
    pub(crate) async fn start(proxy: &Proxy) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut clients = JoinSet::new();
        for number in 0..8 {
            let mut client = proxy.client().await;
            let (stop, done) = (stop.clone(), done.clone());
            clients.spawn(async move {
                while !stop.load(Relaxed) {
                    client.ok("SELECT n FROM t WHERE id = 1").await;
                    let text = match number {
                        0 => "UPDATE t SET n = n + 1 WHERE id = 1",
                        1 => "BEGIN READ ONLY; SELECT n FROM t; COMMIT",
                        _ => WHERE,
                    };
                    client.ok(text).await;
                    done.fetch_add(1, Relaxed);
                }
            });
        }
        Self { stop, done, clients }
    }

    /// Waits until so many more rounds are done.
    pub(crate) async fn goes_on(&self, rounds: usize) {
        let from = self.done.load(Relaxed);
        eventually(SOON, async || self.done.load(Relaxed) > from + rounds).await.unwrap();
    }

    pub(crate) async fn end(mut self) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
    }
}

pub(crate) async fn units(proxy: &Proxy, server: &str) -> f64 {
    proxy.sum("pgweir_server_units_total", &[&format!("server=\"{server}\"")]).await
}

pub(crate) async fn gets_reads(proxy: &Proxy, server: &str) {
    let before = units(proxy, server).await;
    let more = eventually(SOON, async || units(proxy, server).await > before + 20.0).await;
    assert!(more.is_ok(), "{server} gets no reads: {}", proxy.metrics().await);
}

/// Those that were under way when this is called aside.
async fn gets_nothing(proxy: &Proxy, load: &Load, server: &str) {
    load.goes_on(40).await;
    let before = units(proxy, server).await;
    load.goes_on(400).await;
    let after = units(proxy, server).await;
    assert!((after - before).abs() < 0.5, "{server} got {}", after - before);
}

#[tokio::test]
async fn come_and_go_under_load() {
    let cluster = started().await;
    let servers = cluster.servers();
    let proxy = Proxy::before(&servers[..2], "");
    proxy.knows(2).await;
    proxy.reads_catalog("postgres").await;
    let load = Load::start(&proxy).await;
    let mut console = proxy.console().await;
    gets_reads(&proxy, &servers[1]).await;

    console.ok(&format!("ADD SERVER '{}'", servers[2])).await;
    gets_reads(&proxy, &servers[2]).await;
    gets_reads(&proxy, &servers[1]).await;

    console.ok(&format!("DRAIN SERVER '{}'", servers[1])).await;
    gets_nothing(&proxy, &load, &servers[1]).await;
    gets_reads(&proxy, &servers[2]).await;
    console.ok(&format!("ENABLE SERVER '{}'", servers[1])).await;
    gets_reads(&proxy, &servers[1]).await;

    // A transaction that is open there ends there.
    let mut reader = proxy.client().await;
    reader.ok("BEGIN READ ONLY").await;
    let port = reader.value(WHERE).await;
    let (index, other) = if servers[1].ends_with(&format!(":{port}")) { (0, 2) } else { (1, 1) };
    let held = servers[index + 1].clone();
    console.ok(&format!("REMOVE SERVER '{held}'")).await;
    gets_nothing(&proxy, &load, &held).await;
    assert_eq!(reader.value(WHERE).await, port);
    reader.ok("COMMIT").await;
    assert_ne!(reader.value(WHERE).await, port);
    Watch::new(cluster.replica(index)).await.becomes("true", 0, SOON).await;
    let shown = console.query("SHOW SERVERS").await.unwrap();
    assert_eq!(shown.rows.len(), 2, "{shown:?}");
    // Nobody is told that it is not up.
    assert!(!proxy.metrics().await.contains(&format!("pgweir_server_up{{server=\"{held}\"}} 0")));

    // All reads have one server now; it dies, and they go to the primary.
    cluster.replica(other - 1).kill().await.unwrap();
    load.goes_on(100).await;
    console.ok(&format!("ADD SERVER '{held}' WEIGHT 2")).await;
    gets_reads(&proxy, &held).await;
    load.end().await;
    assert_eq!(proxy.sum("pgweir_errors_total", &[]).await as usize, 0, "{}", proxy.metrics().await);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let cluster = started().await;
    let servers = cluster.servers();
    let proxy = Proxy::start(&cluster, "").await;
    let mut console = proxy.console().await;
    for (command, says) in [
        (format!("REMOVE SERVER '{}'", servers[0]), "is the primary"),
        (format!("ADD SERVER '{}'", servers[1]), "is there already"),
        ("DRAIN SERVER '10.9.9.9:1'".to_owned(), "no database has a server 10.9.9.9:1"),
        (format!("DRAIN SERVER '{}' DATABASE nobody", servers[1]), "is not configured"),
        ("RELOAD".to_owned(), "without a configuration file"),
    ] {
        let answer = console.query(&command).await.unwrap();
        assert!(answer.errors.len() == 1 && answer.errors[0].message.contains(says), "{command}: {answer:?}");
    }
    // One that cannot be reached harms nobody.
    console.ok("ADD SERVER '127.0.0.1:1'").await;
    let mut client = proxy.client().await;
    for _ in 0..50 {
        client.ok("UPDATE t SET n = n + 1").await;
        client.ok("SELECT n FROM t").await;
    }
    console.ok("REMOVE SERVER '127.0.0.1:1'").await;
    // Removed again and again, it takes no more room.
    for _ in 0..100 {
        console.ok("ADD SERVER '127.0.0.1:1'").await;
        console.ok("REMOVE SERVER '127.0.0.1:1'").await;
    }
    for port in 2..62 {
        console.ok(&format!("ADD SERVER '127.0.0.1:{port}'")).await;
        console.ok(&format!("REMOVE SERVER '127.0.0.1:{port}'")).await;
    }
    let answer = console.query("ADD SERVER '127.0.0.1:62'").await.unwrap();
    assert!(answer.errors[0].message.contains("more than 64"), "{answer:?}");
    client.ok("SELECT n FROM t").await;
}

/// How many of 160 reads each replica gets. Each is of a client that has not read before: a session may have to stay where it
/// has read, until it is known how far the others are.
async fn shares(proxy: &Proxy, cluster: &Cluster) -> [usize; 2] {
    let mut count = [0, 0];
    for _ in 0..160 {
        let port = proxy.client().await.value(WHERE).await;
        let at = (0..2).find(|at| cluster.replica(*at).port().to_string() == port);
        count[at.unwrap_or_else(|| panic!("a read on {port}"))] += 1;
    }
    count
}

#[tokio::test]
async fn a_weight_is_a_share() {
    let cluster = started().await;
    let proxy = Proxy::start(&cluster, "").await;
    let mut console = proxy.console().await;
    let even = shares(&proxy, &cluster).await;
    assert!(even.iter().all(|count| *count > 70), "{even:?}");
    console.ok(&format!("WEIGH SERVER '{}' 3", cluster.servers()[1])).await;
    let [heavy, light] = shares(&proxy, &cluster).await;
    assert!((30..=50).contains(&light), "{heavy} and {light}");
}

#[tokio::test]
async fn a_rule_means_the_same_server_when_another_is_removed() {
    let cluster = started().await;
    let servers = cluster.servers();
    let rule = format!(
        "[[databases.postgres.rules]]\nmatch.application_name = \"reports\"\nroute.servers = [\"{}\"]",
        servers[2]
    );
    let proxy = Proxy::start(&cluster, &rule).await;
    proxy.console().await.ok(&format!("REMOVE SERVER '{}'", servers[1])).await;
    let mut reports = Raw::login(proxy.address(), &[("application_name", "reports")]).await.unwrap();
    for _ in 0..10 {
        assert_eq!(reports.value(WHERE).await, cluster.replica(1).port().to_string());
    }
}

#[tokio::test]
async fn a_zone_comes_first_and_is_not_all() {
    let cluster = started().await;
    let [primary, here, there] = cluster.servers().try_into().unwrap();
    let text = configuration(&["x".to_owned()], "", "").replace(
        "servers = [\"x\"]",
        &format!(
            "reads.zone = \"a\"\nservers = [\"{primary}\", {{ address = \"{here}\", zone = \"a\" }}, \
             {{ address = \"{there}\", zone = \"b\", weight = 100 }}]"
        ),
    );
    let proxy = Proxy::with(&text);
    proxy.knows(3).await;
    proxy.reads_catalog("postgres").await;
    assert_eq!(shares(&proxy, &cluster).await, [160, 0]);
    proxy.console().await.ok(&format!("DRAIN SERVER '{here}'")).await;
    assert_eq!(shares(&proxy, &cluster).await, [0, 160]);
}

#[tokio::test]
async fn a_session_may_stick_to_its_replica() {
    let cluster = started().await;
    let proxy = Proxy::start(&cluster, "reads.sticky = true").await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(proxy.client().await);
    }
    let mut own = Vec::new();
    for client in &mut clients {
        own.push(client.value(WHERE).await);
    }
    assert!((0..2).all(|at| own.contains(&cluster.replica(at).port().to_string())), "{own:?}");
    for _ in 0..30 {
        for (client, own) in clients.iter_mut().zip(&own) {
            assert_eq!(client.value(WHERE).await, *own);
        }
    }
    // Its server dies: the session goes on elsewhere, and stays there.
    cluster.replica(0).kill().await.unwrap();
    let other = cluster.replica(1).port().to_string();
    for _ in 0..30 {
        for client in &mut clients {
            let port = client.value(WHERE).await;
            assert!(port == other || port == cluster.primary().port().to_string(), "{port}");
        }
    }
    assert_eq!(clients[0].value(WHERE).await, other);
    assert_eq!(proxy.sum("pgweir_errors_total", &[]).await as usize, 0);
}

/// One replica is slow: by latency it gets next to nothing.
#[tokio::test]
async fn reads_go_where_answers_come_fast() {
    let cluster = started().await;
    cluster
        .primary()
        .sql(
            "CREATE FUNCTION waits() RETURNS text STABLE LANGUAGE sql AS $$ SELECT current_setting('port') \
             FROM pg_sleep(CASE WHEN current_setting('vacuum_cost_limit') = '217' THEN 0.05 ELSE 0.002 END) $$",
        )
        .await
        .unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    cluster.replica(0).alter("vacuum_cost_limit", "217").await.unwrap();
    let settings = "reads.balance = \"least_latency\"\nread_only_functions = [\"waits\", \"pg_sleep\"]";
    let (per_database, global) = settings.split_once('\n').unwrap();
    let text = configuration(&cluster.servers(), per_database, &format!("[routing]\n{global}"));
    let proxy = Proxy::with(&text);
    proxy.knows(3).await;
    proxy.reads_catalog("postgres").await;
    let mut client = proxy.client().await;
    let mut slow = 0;
    for _ in 0..200 {
        slow += usize::from(client.value("SELECT waits()").await == cluster.replica(0).port().to_string());
    }
    assert!(slow < 20, "{slow} of 200 went to the slow one");
}

/// All that a client still hears before its connection is closed.
async fn last_words(client: &mut Raw) -> String {
    let words = async {
        let mut words = String::new();
        while let Ok((_, body)) = client.message().await {
            words += &String::from_utf8_lossy(&body);
        }
        words
    };
    tokio::time::timeout(SOON, words).await.expect("its connection stays open")
}

/// A configuration file, written anew at will.
pub(crate) struct File {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl File {
    pub(crate) fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgweir.toml");
        std::fs::write(&path, text).unwrap();
        Self { _folder: folder, path }
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_read_again_changes_what_it_says_and_nothing_else() {
    let cluster = started().await;
    let servers = cluster.servers();
    let file = File::new(&configuration(&servers[..2], "pool_size = 3", ""));
    let proxy = Proxy::of_file(&file.path);
    proxy.knows(2).await;
    proxy.reads_catalog("postgres").await;
    let load = Load::start(&proxy).await;
    let mut console = proxy.console().await;
    let mut client = proxy.client().await;
    client.ok("SET application_name = 'kept'; SET work_mem = '7MB'").await;
    client.ok("PREPARE p AS SELECT current_setting('work_mem')").await;
    let kept = async |client: &mut Raw| {
        assert_eq!(client.value("EXECUTE p").await, "7MB");
    };

    // Another server, and smaller pools.
    file.write(&configuration(&servers, "pool_size = 2", ""));
    console.ok("RELOAD").await;
    gets_reads(&proxy, &servers[2]).await;
    let small = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kept'";
    kept(&mut client).await;
    assert_ne!(client.value(small).await, "");
    for server in cluster.all() {
        let watch = Watch::new(server).await;
        let few = eventually(SOON, async || watch.count("true").await <= 2).await;
        let text = "SELECT concat_ws(' | ', application_name, state, query) FROM pg_stat_activity WHERE backend_type = 'client backend'";
        assert!(few.is_ok(), "{}: {:#?}", server.name(), watch.column(text).await);
    }

    // A rule, which speaks of a server by its place in another order of them.
    let order = [servers[2].clone(), servers[0].clone(), servers[1].clone()];
    let rule = format!(
        "[[databases.postgres.rules]]\nname = \"here\"\nmatch.application_name = \"reports\"\nroute.servers = [\"{}\"]\n\
         [[databases.postgres.rules]]\nname = \"never\"\nmatch.shape = []\nmatch.kind = \"truncate\"\nroute.reject = \"no\"",
        servers[1]
    );
    let rule = rule.replace("match.shape = []\n", "");
    file.write(
        &configuration(&order, "pool_size = 2", "")
            .replace("pool_size = 2\n", &format!("pool_size = 2\n{rule}\n")),
    );
    console.ok("RELOAD").await;
    assert_eq!(client.query("TRUNCATE t").await.unwrap().errors[0].message, "no");
    let mut reports = Raw::login(proxy.address(), &[("application_name", "reports")]).await.unwrap();
    for _ in 0..20 {
        assert_eq!(reports.value(WHERE).await, cluster.replica(0).port().to_string());
    }
    kept(&mut client).await;

    // One with a mistake changes nothing, and says what it is.
    file.write(&configuration(&servers[..1], "pool_sizes = 2", ""));
    let answer = console.query("RELOAD").await.unwrap();
    assert!(answer.errors[0].message.contains("pool_sizes"), "{answer:?}");
    gets_reads(&proxy, &servers[1]).await;
    // What needs a restart is told, and the rest is done.
    file.write(&configuration(&servers[..2], "pool_size = 2", "").replace("workers = 2", "workers = 1"));
    let answer = console.query("RELOAD").await.unwrap();
    assert_eq!(answer.rows, [[Some("workers".to_owned())]], "{answer:?}");
    gets_nothing(&proxy, &load, &servers[2]).await;
    client.ok("TRUNCATE t").await;
    client.ok("INSERT INTO t VALUES (1, 0)").await;
    kept(&mut client).await;
    load.end().await;
    let errors = proxy.sum("pgweir_errors_total", &["origin=\"server\""]).await;
    assert_eq!(errors as usize, 0, "{}", proxy.metrics().await);
    assert_eq!(proxy.sum("pgweir_reloads_total", &["outcome=\"ok\""]).await as usize, 3);
    assert_eq!(proxy.sum("pgweir_reloads_total", &["outcome=\"failed\""]).await as usize, 1);
}

#[tokio::test]
async fn databases_and_users_come_and_go() {
    let cluster = started().await;
    cluster.primary().sql("CREATE DATABASE other").await.unwrap();
    let servers = cluster.servers();
    let more = |name: &str, dbname: &str| {
        format!("[databases.{name}]\nservers = {servers:?}\ndbname = \"{dbname}\"")
    };
    let file = File::new(&configuration(&servers, "", &more("first", "postgres")));
    let proxy = Proxy::of_file(&file.path);
    proxy.knows(3).await;
    let mut console = proxy.console().await;
    let login = async |name: &str| Raw::login(proxy.address(), &[("database", name)]).await;
    let (mut first, mut stays) = (login("first").await.unwrap(), proxy.client().await);
    first.ok("SELECT n FROM t").await;
    first.ok("BEGIN").await;
    first.ok("UPDATE t SET n = 7").await;
    assert!(login("second").await.is_err());

    file.write(&configuration(&servers, "", &more("second", "other")));
    console.ok("RELOAD").await;
    // A transaction that is open ends well.
    first.ok("UPDATE t SET n = 8").await;
    first.send(&crate::raw::query("COMMIT")).await.unwrap();
    let end = last_words(&mut first).await;
    assert!(end.contains("C57P01") && end.contains("taken out of pgweir's configuration"), "{end:?}");
    assert!(login("first").await.is_err());
    assert_eq!(stays.value("SELECT n FROM t").await, "8");
    let mut second = login("second").await.unwrap();
    assert_eq!(second.value("SELECT current_database()").await, "other");

    // To another database on the servers: its clients connect anew.
    file.write(&configuration(&servers, "", &more("second", "postgres")));
    console.ok("RELOAD").await;
    let end = last_words(&mut second).await;
    assert!(end.contains("C57P01") && end.contains("Connect again"), "{end:?}");
    assert_eq!(login("second").await.unwrap().value("SELECT current_database()").await, "postgres");
    assert_eq!(stays.value("SELECT n FROM t").await, "8");
}

/// Of two databases with the same servers, the one whose servers stay as they are notices nothing.
#[tokio::test]
async fn another_databases_servers_are_its_own_matter() {
    let cluster = started().await;
    let servers = cluster.servers();
    for changes in ["aaa", "zzz"] {
        let also = |servers: &[String]| {
            format!("[databases.{changes}]\nservers = {servers:?}\ndbname = \"postgres\"")
        };
        let file = File::new(&configuration(&servers, "", &also(&servers)));
        let proxy = Proxy::of_file(&file.path);
        proxy.knows(3).await;
        let mut console = proxy.console().await;
        let mut stays = proxy.client().await;
        stays.ok("CREATE TEMP TABLE mine (id int)").await;
        let mut free = proxy.client().await;
        free.ok("SELECT n FROM t").await;
        let mut moves = Raw::login(proxy.address(), &[("database", changes)]).await.unwrap();
        moves.ok("SELECT n FROM t").await;
        // Without its first replica, and then with it again.
        for left in [[&servers[..1], &servers[2..]].concat(), servers.clone()] {
            file.write(&configuration(&servers, "", &also(&left)));
            console.ok("RELOAD").await;
            for client in [&mut stays, &mut free] {
                client.ok("UPDATE t SET n = n").await;
                client.ok("SELECT n FROM t").await;
            }
            stays.ok("SELECT * FROM mine").await;
            let mut new = Raw::login(proxy.address(), &[("database", changes)]).await.unwrap();
            new.ok("UPDATE t SET n = n").await;
        }
        assert_eq!(proxy.sum("pgweir_errors_total", &["origin=\"server\""]).await as usize, 0);
    }
}
