//! From a configuration to what all clients share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::admin;
use crate::auth::Directory;
use crate::client::{Budget, Cancels, Database, Databases, Shared};
use crate::config::{self, Config};
use crate::counter::Counters;
use crate::metrics::Metrics;
use crate::monitor::{self, Catalogs, Cluster, Hubs};
use crate::net::{Address, Buffers};
use crate::pool::PoolSet;
use crate::route::Judge;
use crate::server;

/// Windows kept for reuse for each worker: as many clients can be active at once without asking for memory.
const WINDOWS_KEPT: usize = 64;

/// A cluster, and how it is probed.
pub(super) struct Probed {
    pub(super) cluster: Arc<Cluster>,
    pub(super) options: monitor::Options,
}

/// What all clients share, and the clusters to probe. Databases with the same servers, probed in the same way, are of one
/// cluster.
pub(super) fn build(config: &Config, workers: usize) -> (Arc<Shared>, Vec<Probed>) {
    let metrics = Metrics::new();
    let mut clusters: Vec<Probed> = Vec::new();
    let mut named = HashMap::new();
    for entry in &config.databases {
        let known = clusters.iter().position(|probed| {
            probed.cluster.addresses() == entry.servers && probed.options == entry.monitor
        });
        let cluster = match known.and_then(|at| clusters.get(at)) {
            Some(probed) => probed.cluster.clone(),
            None => {
                let cluster = Cluster::new(entry.servers.clone(), entry.balance, &metrics);
                clusters.push(Probed { cluster: cluster.clone(), options: entry.monitor.clone() });
                cluster
            }
        };
        let retries = Budget::new(&config.client.retry);
        let database = database(entry, cluster, &metrics, config, retries);
        named.insert(database.name.clone(), Arc::new(database));
    }
    let any = named.remove("*");
    let shared = Shared {
        databases: Databases { named, any },
        directory: Directory::new(config.auth.clone()),
        judge: Judge::new(config.judge.clone()),
        prepared: server::Registry::default(),
        pools: Arc::new(PoolSet::default()),
        cancels: Arc::new(Cancels::default()),
        buffers: Arc::new(Buffers::new(WINDOWS_KEPT * workers)),
        metrics,
        console: Arc::new(admin::Desk::new(config.admin.clone())),
        options: config.client.clone(),
        drain: crate::client::Drain::default(),
        clients: AtomicUsize::new(0),
    };
    (Arc::new(shared), clusters)
}

fn database(
    entry: &config::Database,
    cluster: Arc<Cluster>,
    metrics: &Metrics,
    config: &Config,
    retries: Budget,
) -> Database {
    let catalogs = Catalogs::new(
        config.catalog.clone(),
        entry.monitor.clone(),
        cluster.clone(),
        metrics.catalog(&entry.name),
    );
    let counters =
        entry.counters.iter().map(|rule| (rule.clone(), metrics.counter(&entry.name, &rule.table)));
    Database {
        counters: Arc::new(Counters::new(counters.collect())),
        hubs: Hubs::new(entry.monitor.clone(), cluster.clone()),
        catalogs,
        rules: entry.rules.clone(),
        name: entry.name.as_str().into(),
        server_database: entry.server_database.as_deref().map(Arc::from),
        addresses: entry.servers.iter().map(|address: &Address| Arc::new(address.clone())).collect(),
        pool: entry.pool.clone(),
        login: entry.login.clone(),
        metrics: metrics.database(&entry.name),
        retries,
        failover: crate::client::Failover::new(entry.failover.clone(), metrics.database(&entry.name)),
        greetings: crate::client::Greetings::default(),
        cluster,
    }
}
