//! From a configuration to what all clients share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;

use crate::admin;
use crate::auth::Directory;
use crate::client::{
    self, Budget, Cancels, Database, Databases, Failover, Fallback, Greetings, Named, Shared,
};
use crate::config::{self, Config};
use crate::counter::{Books, Counters};
use crate::ids::Node;
use crate::metrics::Metrics;
use crate::monitor::{self, Catalogs, Cluster, Hubs};
use crate::net::Buffers;
use crate::pool::PoolSet;
use crate::route::Judge;

/// Windows kept for reuse for each worker: as many clients can be active at once without asking for memory.
const WINDOWS_KEPT: usize = 64;

/// A cluster, how it is probed, and the servers that it is to have.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) cluster: Arc<Cluster>,
    pub(super) options: monitor::Options,
    pub(super) discover: monitor::Discover,
    pub(super) servers: Vec<config::Server>,
}

/// What all clients share, before it has any databases.
pub(super) fn shared(
    config: &Config,
    workers: usize,
    desk: Arc<admin::Desk>,
    metrics: Arc<Metrics>,
    books: Arc<Books>,
) -> Arc<Shared> {
    Arc::new(Shared {
        books,
        databases: Databases::default(),
        directory: ArcSwap::from_pointee(Directory::new(config.auth.clone())),
        judge: Judge::new(config.judge.clone()),
        prepared: Arc::default(),
        pools: Arc::new(PoolSet::default()),
        cancels: Arc::new(Cancels::default()),
        buffers: Arc::new(Buffers::new(WINDOWS_KEPT * workers)),
        metrics,
        console: desk,
        options: config.client.clone(),
        drain: client::Drain::default(),
        clients: AtomicUsize::new(0),
    })
}

/// The cluster of each database, in their order; `before` has those of the databases that are there. A database keeps its own;
/// databases with the same servers, probed in the same way, are of one. Where some of one get other servers, those that do not keep it.
pub(super) fn groups(config: &Config, before: &HashMap<String, Group>, metrics: &Metrics) -> Vec<Group> {
    let fits = |entry: &config::Database, group: &Group| {
        group.servers.iter().eq(entry.members())
            && group.options == entry.monitor
            && group.discover == entry.discover
    };
    let unchanged =
        |entry: &&config::Database| before.get(&entry.name).is_some_and(|group| fits(entry, group));
    let mut groups: HashMap<&str, Group> = HashMap::new();
    let (stay, change): (Vec<_>, Vec<_>) = config.databases.iter().partition(unchanged);
    for entry in stay.into_iter().chain(change) {
        let alike = |group: &Group| fits(entry, group);
        let taken = |own: &Group| {
            let other = groups.values().find(|group| Arc::ptr_eq(&group.cluster, &own.cluster));
            other.is_some_and(|other| !alike(other))
        };
        let own = before.get(&entry.name).filter(|own| own.options == entry.monitor && !taken(own));
        let known = own.or_else(|| groups.values().find(|group| alike(group)));
        let known = known.or_else(|| before.values().find(|group| alike(group) && !taken(group)));
        let cluster = known.map_or_else(|| Cluster::new(Vec::new(), metrics), |group| group.cluster.clone());
        let (options, discover) = (entry.monitor.clone(), entry.discover.clone());
        let servers = entry.members().cloned().collect();
        groups.insert(&entry.name, Group { cluster, options, discover, servers });
    }
    config.databases.iter().filter_map(|entry| groups.remove(entry.name.as_str())).collect()
}

/// The databases by name. What of those that are there can go on as it is goes on.
pub(super) fn databases(config: &Config, groups: &[Group], shared: &Shared) -> Named {
    let mut named = HashMap::new();
    for (entry, group) in config.databases.iter().zip(groups) {
        let before = shared.databases.entry(&entry.name);
        let database = database(entry, &group.cluster, shared, config, before.as_deref());
        named.insert(database.name.clone(), Arc::new(database));
    }
    let any = named.remove("*");
    Named { named, any }
}

fn database(
    entry: &config::Database,
    cluster: &Arc<Cluster>,
    shared: &Shared,
    config: &Config,
    before: Option<&Database>,
) -> Database {
    let metrics = &shared.metrics;
    // Another cluster is another world.
    let same = before.filter(|before| Arc::ptr_eq(&before.cluster, cluster));
    let catalogs = || {
        let options = config.catalog.clone();
        Catalogs::new(options, entry.monitor.clone(), cluster.clone(), metrics.catalog(&entry.name))
    };
    let counters = || {
        let rules = entry.counters.iter();
        Arc::new(Counters::new(
            &entry.name,
            shared.books.clone(),
            rules.map(|rule| (rule.clone(), metrics.counter(&entry.name, &rule.table))).collect(),
        ))
    };
    let failover = || Arc::new(Failover::new(entry.failover.clone(), metrics.database(&entry.name)));
    // Who speaks of a host name means all of its addresses.
    let bits = |places: u64| {
        let servers = (0..64).filter(|place| places >> place & 1 == 1).filter_map(|at| entry.servers.get(at));
        let servers = servers.flat_map(|server| std::iter::once(server).chain(entry.addresses_of(server)));
        let nodes = servers.filter_map(|server| cluster.node(&server.address));
        nodes.fold(0, |bits, node: Node| bits | node.bit())
    };
    let logs_in_alike = same.filter(|same| same.login == entry.login);
    Database {
        counters: same
            .filter(|same| same.counters.rules() == entry.counters)
            .map_or_else(counters, |same| same.counters.clone()),
        hubs: same.map_or_else(
            || Arc::new(Hubs::new(entry.monitor.clone(), cluster.clone())),
            |same| same.hubs.clone(),
        ),
        catalogs: same.map_or_else(catalogs, |same| same.catalogs.clone()),
        rules: Arc::new(entry.rules.on(bits)),
        name: entry.name.as_str().into(),
        server_database: entry.server_database.as_deref().map(Arc::from),
        spread: entry.spread.clone(),
        pool: entry.pool.clone(),
        login: entry.login.clone(),
        metrics: metrics.database(&entry.name),
        retries: same
            .map_or_else(|| Arc::new(Budget::new(&config.client.retry)), |same| same.retries.clone()),
        failover: same
            .filter(|same| *same.failover.options() == entry.failover)
            .map_or_else(failover, |same| same.failover.clone()),
        fallback: same.filter(|same| *same.fallback.options() == entry.fallback).map_or_else(
            || Arc::new(Fallback::new(entry.fallback.clone(), metrics.database(&entry.name))),
            |same| same.fallback.clone(),
        ),
        greetings: logs_in_alike
            .map_or_else(|| Arc::new(Greetings::default()), |same| same.greetings.clone()),
        cluster: cluster.clone(),
    }
}
