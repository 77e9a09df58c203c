//! Servers that nobody has named: found by who replicates from whom, and by the addresses of a host name.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use pgweir::cli::demo::cluster::{Cluster, Postgres, eventually};
use pgweir::config;
use pgweir::net::Resolver;

use crate::proxy::{Proxy, SOON, Watch, cluster, configuration};
use crate::raw::Raw;
use crate::relay::Relay;
use crate::servers::{File, Load, gets_reads};

/// All servers of a cluster that is tested have one address: where each listens has to be said.
pub(crate) fn by_replication(servers: &[&Postgres]) -> String {
    let ports: Vec<u16> = servers.iter().map(|server| server.port()).collect();
    format!("discover = \"replication\"\ndiscover_every = \"200ms\"\ndiscover_port = {ports:?}")
}

async fn started(replicas: usize) -> Cluster {
    let cluster = cluster().replicas(replicas).start().await.unwrap();
    let table = "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)";
    cluster.primary().sql(table).await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    cluster
}

/// What SHOW SERVERS says, by address: its origin, its duty and its role.
pub(crate) async fn shown(console: &mut Raw) -> HashMap<String, [String; 3]> {
    let answer = console.query("SHOW SERVERS").await.unwrap();
    let row = |row: Vec<Option<String>>| {
        let column = |at: usize| row[at].clone().unwrap_or_default();
        (column(1), [column(8), column(5), column(2)])
    };
    answer.rows.into_iter().map(row).collect()
}

/// Waits until the servers are these.
async fn becomes(console: &mut Raw, servers: &[(&str, &str)]) {
    let (console, last) = (tokio::sync::Mutex::new(console), Mutex::new(HashMap::new()));
    let so = eventually(SOON, || async {
        let found = shown(*console.lock().await).await;
        let right = |(address, origin): &(&str, &str)| found.get(*address).is_some_and(|is| is[0] == *origin);
        let all = found.len() == servers.len() && servers.iter().all(right);
        *last.lock().unwrap() = found;
        all
    });
    assert!(so.await.is_ok(), "{servers:?} became {last:?}");
}

async fn no_errors(proxy: &Proxy) {
    assert_eq!(proxy.sum("pgweir_errors_total", &[]).await as usize, 0, "{}", proxy.metrics().await);
}

#[tokio::test]
async fn the_primary_leads_to_its_standbys_also_to_later_ones() {
    let cluster = started(3).await;
    let servers = cluster.servers();
    cluster.replica(2).stop().await.unwrap();
    let standbys: Vec<_> = cluster.replicas().iter().collect();
    let proxy = Proxy::before(&servers[..1], &by_replication(&standbys));
    proxy.knows(3).await;
    proxy.reads_catalog("postgres").await;
    let mut console = proxy.console().await;
    let first = [(servers[0].as_str(), "file"), (&servers[1], "replication"), (&servers[2], "replication")];
    becomes(&mut console, &first).await;
    let load = Load::start(&proxy).await;
    gets_reads(&proxy, &servers[1]).await;
    gets_reads(&proxy, &servers[2]).await;

    // One that comes later.
    cluster.replica(2).start().await.unwrap();
    gets_reads(&proxy, &servers[3]).await;
    proxy.becomes("pgweir_discovered_servers", &["origin=\"replication\""], 3.0).await;
    // One that goes, and is forgotten.
    cluster.replica(0).kill().await.unwrap();
    let rest = [(servers[0].as_str(), "file"), (&servers[2], "replication"), (&servers[3], "replication")];
    becomes(&mut console, &rest).await;
    load.goes_on(100).await;
    // And comes back.
    cluster.replica(0).start().await.unwrap();
    gets_reads(&proxy, &servers[1]).await;
    load.end().await;
    no_errors(&proxy).await;
}

#[tokio::test]
async fn a_replica_leads_to_its_primary_and_that_to_the_others() {
    let cluster = started(2).await;
    let servers = cluster.servers();
    let proxy = Proxy::before(&servers[1..2], &by_replication(&[cluster.replica(1)]));
    let mut console = proxy.console().await;
    let all = [(servers[0].as_str(), "replication"), (&servers[1], "file"), (&servers[2], "replication")];
    becomes(&mut console, &all).await;
    proxy.knows(3).await;
    proxy.reads_catalog("postgres").await;
    let load = Load::start(&proxy).await;
    gets_reads(&proxy, &servers[2]).await;
    // The primary dies, and one that was found takes over: writes go there.
    load.end().await;
    cluster.primary().kill().await.unwrap();
    cluster.replica(1).promote().await.unwrap();
    let mut client = proxy.client().await;
    client.ok("UPDATE t SET n = -1").await;
    assert_eq!(cluster.replica(1).value("SELECT n FROM t").await.unwrap(), "-1");
    // The old one is given up: the new primary does not speak of it.
    becomes(&mut console, &all[1..]).await;
}

#[tokio::test]
async fn a_replica_of_a_replica_is_found() {
    let cluster = started(2).await;
    let servers = cluster.servers();
    cluster.replica(1).follow(cluster.replica(0)).await.unwrap();
    let settings = by_replication(&[cluster.replica(0), cluster.replica(1)]);
    let proxy = Proxy::before(&servers[..1], &settings);
    let mut console = proxy.console().await;
    let all = [(servers[0].as_str(), "file"), (&servers[1], "replication"), (&servers[2], "replication")];
    becomes(&mut console, &all).await;
}

#[tokio::test]
async fn what_is_no_copy_is_never_taken() {
    // Clusters from the cache have one system identifier, as copies have that went ways of their own; the third has another.
    let foreign = Cluster::builder().replicas(1).start();
    let (own, stray, foreign) = (started(2).await, started(1).await, foreign.await.unwrap());
    own.replica(0).stop().await.unwrap();
    // Where a standby of ours may be, there are some of theirs.
    let servers = own.servers();
    for other in [&stray, &foreign] {
        let settings = by_replication(&[other.replica(0), other.primary()]);
        let proxy = Proxy::before(&servers[..1], &settings);
        let refused =
            || async { proxy.sum("pgweir_discovery_failures_total", &["why=\"foreign\""]).await > 1.5 };
        eventually(SOON, refused).await.unwrap();
        assert_eq!(shown(&mut proxy.console().await).await.len(), 1);
    }
    let settings = by_replication(&[foreign.replica(0), stray.replica(0), own.replica(1), own.replica(0)]);
    let proxy = Proxy::before(&servers[..1], &settings);
    let mut console = proxy.console().await;
    becomes(&mut console, &[(&servers[0], "file"), (&servers[2], "replication")]).await;
    own.replica(0).start().await.unwrap();
    let all = [(servers[0].as_str(), "file"), (&servers[1], "replication"), (&servers[2], "replication")];
    becomes(&mut console, &all).await;
}

#[tokio::test]
async fn the_operator_has_the_last_word() {
    let cluster = started(2).await;
    let servers = cluster.servers();
    let standbys: Vec<_> = cluster.replicas().iter().collect();
    let file = File::new(&configuration(&servers[..1], &by_replication(&standbys), ""));
    let proxy = Proxy::of_file(&file.path);
    let mut console = proxy.console().await;
    let all = [(servers[0].as_str(), "file"), (&servers[1], "replication"), (&servers[2], "replication")];
    becomes(&mut console, &all).await;
    proxy.knows(3).await;
    proxy.reads_catalog("postgres").await;
    let mut client = proxy.client().await;

    // Removed, it stays so, whatever is found meanwhile.
    console.ok(&format!("REMOVE SERVER '{}'", servers[1])).await;
    console.ok(&format!("DRAIN SERVER '{}'", servers[2])).await;
    cluster.replica(1).kill().await.unwrap();
    becomes(&mut console, &all[..1]).await;
    // One that was drained does not come back by itself.
    cluster.replica(1).start().await.unwrap();
    cluster.replica(1).wait_streaming(cluster.primary()).await.unwrap();
    let rounds = Watch::new(cluster.primary()).await;
    looked(&rounds).await;
    becomes(&mut console, &all[..1]).await;
    console.ok(&format!("ENABLE SERVER '{}'", servers[2])).await;
    becomes(&mut console, &[all[0], all[2]]).await;
    assert_eq!(shown(&mut console).await[&servers[2]][1], "serving");
    // Read again, the file lets everything be found, and what was found stays.
    console.ok("RELOAD").await;
    assert!(shown(&mut console).await.contains_key(&servers[2]));
    becomes(&mut console, &all).await;
    client.ok("SELECT n FROM t").await;

    // Named by the operator, one is given up by nobody else.
    console.ok(&format!("REMOVE SERVER '{}'", servers[1])).await;
    console.ok(&format!("ADD SERVER '{}'", servers[1])).await;
    becomes(&mut console, &[all[0], (&servers[1], "console"), all[2]]).await;
    // Without `discover`, nothing is found, and what was found goes.
    file.write(&configuration(&servers[..1], "", ""));
    console.ok("RELOAD").await;
    becomes(&mut console, &all[..1]).await;
    client.ok("SELECT n FROM t").await;
    no_errors(&proxy).await;
}

/// Waits until the primary was asked twice more.
async fn looked(primary: &Watch) {
    let asked = "SELECT max(query_start)::text FROM pg_stat_activity WHERE application_name = 'pgweir monitor' \
                 AND query LIKE '%pg_stat_replication%'";
    let mut last = primary.column(asked).await;
    for _ in 0..2 {
        let now = Mutex::new(last.clone());
        let again = || async {
            let found = primary.column(asked).await;
            // Another question may be the last one.
            let other = found != last && found != [""];
            *now.lock().unwrap() = found;
            other
        };
        eventually(SOON, again).await.unwrap();
        last = now.into_inner().unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_lost_has_the_others_looked_for_at_once() {
    let cluster = started(2).await;
    let servers = cluster.servers();
    cluster.replica(1).stop().await.unwrap();
    let standbys: Vec<_> = cluster.replicas().iter().collect();
    let proxy = Proxy::before(&servers[..1], &by_replication(&standbys).replace("200ms", "1h"));
    let mut console = proxy.console().await;
    becomes(&mut console, &[(&servers[0], "file"), (&servers[1], "replication")]).await;
    proxy.knows(2).await;
    cluster.replica(1).start().await.unwrap();
    cluster.replica(1).wait_streaming(cluster.primary()).await.unwrap();
    cluster.replica(0).kill().await.unwrap();
    let all = [(servers[0].as_str(), "file"), (&servers[1], "replication"), (&servers[2], "replication")];
    becomes(&mut console, &all).await;
}

#[tokio::test]
async fn a_monitor_that_may_not_see_who_replicates_says_so() {
    let cluster = started(1).await;
    cluster.primary().sql("CREATE ROLE humble LOGIN").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let text = configuration(&cluster.servers()[..1], &by_replication(&[cluster.replica(0)]), "");
    let proxy = Proxy::with(&text.replace("user = \"postgres\"\ninterval", "user = \"humble\"\ninterval"));
    let denied = || async { proxy.sum("pgweir_discovery_failures_total", &["why=\"denied\""]).await > 0.5 };
    eventually(SOON, denied).await.unwrap();
    let mut console = proxy.console().await;
    let answer = console.query("SHOW DATABASES").await.unwrap();
    let note = answer.rows[0].last().unwrap().clone().unwrap();
    assert!(note.contains("GRANT pg_monitor"), "{note}");
    assert_eq!(shown(&mut console).await.len(), 1);

    cluster.primary().sql("GRANT pg_monitor TO humble").await.unwrap();
    let servers = cluster.servers();
    becomes(&mut console, &[(&servers[0], "file"), (&servers[1], "replication")]).await;
    let said = || async {
        let answer = proxy.console().await.query("SHOW DATABASES").await.unwrap();
        answer.rows[0].last().unwrap().as_deref() == Some("ok")
    };
    eventually(SOON, said).await.unwrap();
}

#[tokio::test]
async fn there_are_bounds() {
    let cluster = started(2).await;
    let standbys: Vec<_> = cluster.replicas().iter().collect();
    let settings = format!("{}\ndiscover_max = 1", by_replication(&standbys));
    let proxy = Proxy::before(&cluster.servers()[..1], &settings);
    let full = || async { proxy.sum("pgweir_discovery_failures_total", &["why=\"full\""]).await > 0.5 };
    eventually(SOON, full).await.unwrap();
    assert_eq!(shown(&mut proxy.console().await).await.len(), 2);
}

/// A resolver that says what it is told to, and counts how often it was asked.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<(Option<Vec<IpAddr>>, usize)>>);

impl Names {
    /// From now on the name has those addresses; with none, it cannot be resolved.
    fn say(&self, addresses: &[&str]) {
        let addresses: Vec<_> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.0.lock().unwrap().0 = Some(addresses).filter(|addresses| !addresses.is_empty());
    }

    /// Waits until it was asked often enough for that to have had its effect.
    async fn are_asked(&self) {
        let asked = || self.0.lock().unwrap().1;
        let before = asked();
        eventually(SOON, || async { asked() > before + 3 }).await.unwrap();
    }

    fn resolver(&self) -> Resolver {
        let said = self.0.clone();
        Resolver::new(move |name| {
            assert!(["db.test", "localhost"].contains(&name));
            let mut names = said.lock().unwrap();
            names.1 += 1;
            let said = names.0.clone();
            Box::pin(async move { said.ok_or_else(|| std::io::Error::other("no such name")) })
        })
    }
}

/// The servers of a cluster on addresses of their own and one port, as behind one name.
async fn on_one_port(cluster: &Cluster) -> (u16, Vec<Relay>) {
    let servers = cluster.servers();
    let mut relays = vec![Relay::at("127.0.0.2:0", &servers[0]).await];
    let port: u16 = relays[0].address().rsplit_once(':').unwrap().1.parse().unwrap();
    for (ip, server) in ["127.0.0.3", "127.0.0.4"].iter().zip(&servers[1..]) {
        relays.push(Relay::at(&format!("{ip}:{port}"), server).await);
    }
    (port, relays)
}

#[tokio::test]
async fn a_name_with_several_addresses_is_several_servers() {
    let cluster = started(2).await;
    let (port, relays) = on_one_port(&cluster).await;
    let [primary, one, other] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let names = Names::default();
    names.say(&[primary, one]);
    let settings = "discover = [\"dns\"]\ndiscover_every = \"200ms\"";
    let text = configuration(&[format!("db.test:{port}")], settings, "");
    let mut config = config::parse(&text, "test").unwrap();
    config.resolver = names.resolver();
    let proxy = Proxy::of(config);
    let mut console = proxy.console().await;
    let at = |ip: &str| format!("{ip}:{port}");
    becomes(&mut console, &[(&at(primary), "dns"), (&at(one), "dns")]).await;
    for ip in [primary, one] {
        proxy.becomes("pgweir_server_up", &[&format!("server=\"{}\"", at(ip))], 1.0).await;
    }
    proxy.reads_catalog("postgres").await;
    let load = Load::start(&proxy).await;
    gets_reads(&proxy, &at(one)).await;

    // One appears; then nobody can be asked, which changes nothing; then one vanishes.
    names.say(&[other, primary, one]);
    gets_reads(&proxy, &at(other)).await;
    names.say(&[]);
    let failed = || async { proxy.sum("pgweir_discovery_failures_total", &["why=\"dns\""]).await > 3.5 };
    eventually(SOON, failed).await.unwrap();
    let note = console.query("SHOW DATABASES").await.unwrap().rows[0].last().unwrap().clone().unwrap();
    assert_eq!(note, "db.test could not be resolved: no such name");
    assert_eq!(shown(&mut console).await.len(), 3);
    names.say(&[primary, other]);
    becomes(&mut console, &[(&at(primary), "dns"), (&at(other), "dns")]).await;
    load.goes_on(100).await;
    // The primary stays as long as it is one.
    names.say(&[other]);
    names.are_asked().await;
    becomes(&mut console, &[(&at(primary), "dns"), (&at(other), "dns")]).await;
    names.say(&[primary, one, other]);
    gets_reads(&proxy, &at(one)).await;

    // What is said of the name is said of all its addresses.
    console.ok(&format!("DRAIN SERVER 'db.test:{port}'")).await;
    assert!(shown(&mut console).await.values().all(|[_, duty, _]| duty == "draining"));
    console.ok(&format!("ENABLE SERVER 'db.test:{port}'")).await;
    console.ok(&format!("REMOVE SERVER '{}'", at(one))).await;
    names.say(&[primary, other]);
    names.are_asked().await;
    names.say(&[primary, one, other]);
    names.are_asked().await;
    becomes(&mut console, &[(&at(primary), "dns"), (&at(other), "dns")]).await;
    load.end().await;
    no_errors(&proxy).await;
    drop(relays);
}

#[tokio::test]
async fn a_name_with_one_address_stays_a_name_until_it_has_more() {
    let cluster = started(1).await;
    let servers = cluster.servers();
    let relay = Relay::at("127.0.0.1:0", &servers[0]).await;
    let port: u16 = relay.address().rsplit_once(':').unwrap().1.parse().unwrap();
    let other = Relay::at(&format!("127.0.0.2:{port}"), &servers[1]).await;
    let names = Names::default();
    names.say(&["127.0.0.1"]);
    let settings = "discover = \"dns\"\ndiscover_every = \"200ms\"";
    // A name with one address is left to the system.
    let name = format!("localhost:{port}");
    let mut config =
        config::parse(&configuration(std::slice::from_ref(&name), settings, ""), "test").unwrap();
    config.resolver = names.resolver();
    let proxy = Proxy::of(config);
    proxy.knows(1).await;
    proxy.reads_catalog("postgres").await;
    let mut console = proxy.console().await;
    names.are_asked().await;
    becomes(&mut console, &[(&name, "file")]).await;
    let load = Load::start(&proxy).await;
    load.goes_on(50).await;
    // The primary is the same, and yet another server: what is under way ends, what comes waits for it.
    names.say(&["127.0.0.2", "127.0.0.1"]);
    gets_reads(&proxy, &other.address()).await;
    becomes(&mut console, &[(&relay.address(), "dns"), (&other.address(), "dns")]).await;
    load.goes_on(50).await;
    // And it does not become a name again.
    names.say(&["127.0.0.1"]);
    becomes(&mut console, &[(&relay.address(), "dns")]).await;
    load.end().await;
    no_errors(&proxy).await;
}
