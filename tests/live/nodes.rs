//! Whatever is done to the nodes of a cluster while clients read and write, nobody has to tell pgweir more than a console's
//! command, and no statement fails but those that a primary took with it.

use pgweir::cli::demo::cluster::{Cluster, Postgres, eventually};
use tokio::sync::Mutex;

use crate::discovery::{by_replication, shown};
use crate::failover::{Crowd, written};
use crate::proxy::{Proxy, SOON, cluster};
use crate::raw::{Raw, query};
use crate::servers::{gets_reads, units};

const WRITERS: usize = 4;

/// A cluster at work, and what clients have been told so far.
struct Site {
    proxy: Proxy,
    console: Mutex<Raw>,
    readers: Crowd,
    writers: Crowd,
    /// Writes whose outcome is unknown, by now.
    unknown: usize,
}

impl Site {
    async fn open(servers: &[&Postgres], settings: &str) -> Self {
        let addresses: Vec<String> = servers.iter().map(|server| server.address()).collect();
        let proxy = Proxy::before(&addresses, settings);
        proxy.knows(3).await;
        proxy.reads_catalog("postgres").await;
        let console = Mutex::new(proxy.console().await);
        let (readers, writers) = (Crowd::reads(&proxy, 8).await, Crowd::writes(&proxy, WRITERS).await);
        Self { proxy, console, readers, writers, unknown: 0 }
    }

    async fn order(&self, command: &str, server: &Postgres) {
        self.console.lock().await.ok(&format!("{command} SERVER '{}'", server.address())).await;
    }

    /// Waits until a server is what it has become, and gets its part of the reads.
    async fn has(&self, server: &Postgres, role: &str) {
        let address = server.address();
        let is = eventually(SOON, async || {
            shown(&mut *self.console.lock().await).await.get(&address).is_some_and(|row| row[2] == role)
        });
        let all = shown(&mut *self.console.lock().await).await;
        assert!(is.await.is_ok(), "{} is not {role}: {all:?}", server.name());
        if role == "replica" {
            gets_reads(&self.proxy, &address).await;
        }
    }

    /// Nothing has failed since the last time, and all go on.
    async fn goes_on(&self) {
        self.readers.go_on(100).await;
        self.writers.go_on(20).await;
        assert_eq!(self.readers.errors(), []);
        assert_eq!(self.writers.errors().len(), self.unknown, "{:?}", self.writers.errors());
    }

    /// The primary was lost, and there is another: what has failed is one write of each writer at most.
    async fn failed_over(&mut self, what: &str) {
        self.writers.go_on(20).await;
        let errors = self.writers.errors();
        let new = &errors[self.unknown..];
        let mut who: Vec<usize> = new.iter().map(|(client, _)| *client).collect();
        who.sort_unstable();
        who.dedup();
        println!("{what}: {} writes of unknown outcome", new.len());
        assert!(who.len() == new.len(), "more than one for a writer: {new:?}");
        assert!(new.iter().all(|(_, error)| error.starts_with("08007")), "{new:?}");
        self.unknown = errors.len();
    }

    async fn gets_nothing(&self, server: &Postgres) {
        self.readers.go_on(50).await;
        let before = units(&self.proxy, &server.address()).await;
        self.readers.go_on(400).await;
        let more = units(&self.proxy, &server.address()).await - before;
        assert!(more < 0.5, "{} got {more}", server.name());
    }
}

/// Waits until SHOW SERVERS says that a server is of another system. One that was found may be given up before: it is not shown then.
async fn is_foreign(console: &Mutex<Raw>, server: &Postgres) {
    let (address, last) = (Some(server.address()), Mutex::new(Vec::new()));
    let so = eventually(SOON, async || {
        let rows = console.lock().await.query("SHOW SERVERS").await.unwrap().rows;
        let mut own = rows.iter().filter(|row| row[1] == address);
        let foreign = own.all(|row| row[4].as_deref() == Some("foreign"));
        *last.lock().await = rows;
        foreign
    });
    assert!(so.await.is_ok(), "{} is not foreign: {:?}", server.name(), last.lock().await);
}

/// Promotes the one that has most of what was acknowledged, and has the others follow.
async fn promote<'a>(standbys: &[&'a Postgres]) -> &'a Postgres {
    let (mut most, mut new) = (0, standbys[0]);
    for standby in standbys {
        let received =
            standby.value("SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')").await.unwrap();
        let received: u64 = received.parse().unwrap();
        if received > most {
            (most, new) = (received, standby);
        }
    }
    new.promote().await.unwrap();
    for standby in standbys.iter().filter(|standby| standby.name() != new.name()) {
        standby.follow(new).await.unwrap();
    }
    new
}

/// One more comes by itself; one is drained and back; one is taken out and put in; one gets a new copy of the data in its place.
async fn replicas_come_and_go(site: &Site, [primary, _, replica, later]: [&Postgres; 4]) {
    later.start().await.unwrap();
    site.has(later, "replica").await;
    site.order("DRAIN", replica).await;
    site.gets_nothing(replica).await;
    site.order("ENABLE", replica).await;
    site.has(replica, "replica").await;
    site.order("REMOVE", later).await;
    site.gets_nothing(later).await;
    site.order("ADD", later).await;
    site.has(later, "replica").await;
    site.goes_on().await;
    replica.stop().await.unwrap();
    replica.copy_from(primary).await.unwrap();
    replica.become_replica_of(primary).await.unwrap();
    site.has(replica, "replica").await;
    site.goes_on().await;
}

/// Once planned: the old one is stopped, and becomes a replica. Twice not: what is left of the old one is rewound, or made anew.
/// Returned is the last primary.
async fn primaries_change(site: &mut Site, nodes: [&Postgres; 4]) -> usize {
    let mut primary = 0;
    for way in ["planned", "rewound", "copied anew"] {
        let old = nodes[primary];
        match way {
            "planned" => old.stop().await.unwrap(),
            _ => old.kill().await.unwrap(),
        }
        site.readers.go_on(100).await;
        let rest: Vec<&Postgres> = nodes.into_iter().filter(|node| node.port() != old.port()).collect();
        let new = promote(&rest).await;
        primary = nodes.iter().position(|node| node.port() == new.port()).unwrap();
        site.failed_over(way).await;
        match way {
            "planned" => {}
            "rewound" => {
                new.sql("CHECKPOINT").await.unwrap();
                old.rewind_to(new).await.unwrap();
            }
            _ => old.copy_from(new).await.unwrap(),
        }
        old.become_replica_of(new).await.unwrap();
        for node in nodes {
            site.has(node, if node.port() == new.port() { "primary" } else { "replica" }).await;
        }
        site.goes_on().await;
    }
    primary
}

/// Somebody else's data at a known address, which has none of the tables: as a primary, and as a replica.
async fn another_system_comes(site: &Site, node: &Postgres, primary: &Postgres, foreign: &Cluster) {
    node.stop().await.unwrap();
    node.copy_from(foreign.primary()).await.unwrap();
    node.become_primary().await.unwrap();
    is_foreign(&site.console, node).await;
    site.gets_nothing(node).await;
    site.goes_on().await;
    node.stop().await.unwrap();
    node.become_replica_of(foreign.primary()).await.unwrap();
    is_foreign(&site.console, node).await;
    site.gets_nothing(node).await;
    site.goes_on().await;
    node.stop().await.unwrap();
    node.copy_from(primary).await.unwrap();
    node.become_replica_of(primary).await.unwrap();
    site.has(node, "replica").await;
    site.goes_on().await;
}

const TABLES: &str =
    "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 10); CREATE TABLE w (who int, n int)";

#[tokio::test]
async fn nodes_come_go_and_change_places_under_traffic() {
    let foreign = Cluster::builder().start();
    let started = cluster()
        .replicas(3)
        // Nothing acknowledged is lost with a primary.
        .setting("synchronous_standby_names", "ANY 1 (*)")
        // For pg_rewind.
        .setting("full_page_writes", "on")
        .setting("wal_log_hints", "on")
        .start();
    let (foreign, cluster) = tokio::join!(foreign, started);
    let (foreign, cluster) = (foreign.unwrap(), cluster.unwrap());
    let [a, b, c, d] = cluster.all() else { panic!("four servers were asked for") };
    let nodes = [a, b, c, d];
    a.sql(TABLES).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    d.stop().await.unwrap();
    let mut site = Site::open(&[a, b], &by_replication(&nodes)).await;
    for (server, role) in [(a, "primary"), (b, "replica"), (c, "replica")] {
        site.has(server, role).await;
    }
    replicas_come_and_go(&site, nodes).await;
    let primary = primaries_change(&mut site, nodes).await;
    another_system_comes(&site, nodes[(primary + 1) % 4], nodes[primary], &foreign).await;

    let (read, failed) = site.readers.end().await;
    assert_eq!(failed, [], "{read} were right");
    let (right, errors) = site.writers.end().await;
    let (rows, distinct) = written(nodes[primary]).await;
    println!("{read} reads, {right} writes, {} of unknown outcome", errors.len());
    assert_eq!(rows, distinct, "something was written twice");
    assert!(rows >= right && rows <= right + errors.len(), "{rows} rows, {right} acknowledged");
}

/// The primary of two dies, and in its place there is an empty one, made anew: its only replica is what is left of the cluster.
#[tokio::test]
async fn another_system_in_the_place_of_the_primary_gets_nothing() {
    let (foreign, cluster) = tokio::join!(Cluster::builder().start(), cluster().replicas(1).start());
    let (foreign, cluster) = (foreign.unwrap(), cluster.unwrap());
    let (old, new) = (cluster.primary(), cluster.replica(0));
    old.sql(TABLES).await.unwrap();
    foreign.primary().sql(TABLES).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, "").await;
    let console = Mutex::new(proxy.console().await);
    let readers = Crowd::reads(&proxy, 4).await;
    let mut writer = proxy.client().await;
    writer.ok("INSERT INTO w VALUES (0, 1)").await;
    cluster.wait_replayed(SOON).await.unwrap();
    old.kill().await.unwrap();
    old.copy_from(foreign.primary()).await.unwrap();
    old.become_primary().await.unwrap();
    is_foreign(&console, old).await;
    writer.send(&query("INSERT INTO w VALUES (0, 2)")).await.unwrap();
    readers.go_on(100).await;
    new.promote().await.unwrap();
    assert_eq!(writer.answer().await.unwrap().errors, []);
    assert_eq!((written(new).await, written(old).await), ((2, 2), (0, 0)));
    let (_, errors) = readers.end().await;
    assert_eq!(errors, []);
}
