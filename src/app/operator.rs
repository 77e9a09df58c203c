//! What changes while pgweir runs: which databases and servers there are, and what is said of them.
//!
//! There is one way for all of it: a whole configuration is put in place of the one that holds. It is read from the file again, or
//! is the one that holds with one server changed. What it does not change goes on: clusters, catalogs, open connections, clients.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::build::{self, Group};
use crate::admin::{Change, Means, What};
use crate::client::{self, Shared};
use crate::cluster::{Duty, Orders};
use crate::config::{self, Config};
use crate::ids::{MOST_NODES, Node};
use crate::monitor::Cluster;
use crate::net::Address;

/// Puts configurations in place.
pub(super) struct Operator {
    shared: Arc<Shared>,
    /// Where what runs for clusters and databases runs.
    worker: Handle,
    file: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    config: Config,
    groups: HashMap<String, Group>,
    running: Vec<Running>,
}

/// What runs for a cluster; ends when dropped.
struct Running {
    cluster: Arc<Cluster>,
    probes: HashMap<Node, JoinSet<()>>,
    #[expect(dead_code, reason = "held for its drop: it ends them")]
    others: JoinSet<()>,
    /// By database.
    catalogs: HashMap<String, JoinSet<()>>,
}

impl Operator {
    /// Puts the first one in place.
    pub(super) fn start(shared: Arc<Shared>, config: Config, worker: Handle) -> Arc<Self> {
        let file = config.file.clone();
        let state = State { config: config.clone(), groups: HashMap::new(), running: Vec::new() };
        let operator = Self { shared, worker, file, state: Mutex::new(state) };
        operator.put(&mut operator.state(), config);
        Arc::new(operator)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again, and puts what it says in place. Returns what it says and only a restart applies.
    ///
    /// # Errors
    /// What is wrong with it; nothing has changed then.
    pub(super) fn reload(&self) -> Result<Vec<String>, String> {
        let outcome = self.load().and_then(|config| {
            let mut state = self.state();
            let fixed = config.differs(&state.config);
            // What only a restart applies stays as it is, all of it.
            let databases = monitored(config.databases, &state.config);
            let mut whole = state.config.clone();
            (whole.auth, whole.databases) = (config.auth, databases);
            let config = whole;
            check(&state, &config)?;
            self.put(&mut state, config);
            Ok(fixed)
        });
        self.shared.metrics.reloaded(outcome.is_ok());
        match &outcome {
            Ok(fixed) if fixed.is_empty() => tracing::info!("the configuration was read again"),
            Ok(fixed) => {
                let settings = fixed.join(", ");
                tracing::warn!(settings, "the configuration was read again; these need a restart");
            }
            Err(error) => tracing::error!(%error, "the configuration was not read again: the old one holds"),
        }
        outcome
    }

    /// Reads the file again whenever SIGHUP comes.
    pub(super) async fn listen(self: Arc<Self>) {
        match signal(SignalKind::hangup()) {
            Ok(mut hangup) => {
                while hangup.recv().await.is_some() {
                    // What it says stands in the log.
                    drop(self.reload());
                }
            }
            Err(error) => {
                tracing::warn!(%error, "SIGHUP cannot be listened to: RELOAD in the console does the same")
            }
        }
    }

    fn load(&self) -> Result<Config, String> {
        let file = self.file.as_ref().ok_or("pgweir was started without a configuration file")?;
        config::load(file).map_err(|complaints| complaints.to_string())
    }

    /// Puts a configuration in place.
    fn put(&self, state: &mut State, config: Config) {
        let shared = &self.shared;
        let groups = build::groups(&config, &state.groups, &shared.metrics);
        let mut running = Vec::new();
        for group in &groups {
            if running.iter().any(|one: &Running| Arc::ptr_eq(&one.cluster, &group.cluster)) {
                continue;
            }
            let at = state.running.iter().position(|one| Arc::ptr_eq(&one.cluster, &group.cluster));
            let mut one = at.map_or_else(|| self.run(&group.cluster), |at| state.running.swap_remove(at));
            self.order(&mut one, group);
            running.push(one);
        }
        if config.auth != state.config.auth {
            shared.directory.store(Arc::new(shared.directory.load().renewed(config.auth.clone())));
        }
        let databases = build::databases(&config, &groups, shared);
        for (entry, group) in config.databases.iter().zip(&groups) {
            let one = running.iter_mut().find(|one| Arc::ptr_eq(&one.cluster, &group.cluster));
            let database = databases.entry(&entry.name);
            if let (Some(one), Some(database)) = (one, database) {
                let catalogs = one.catalogs.entry(entry.name.clone());
                let run = || self.spawned([database.catalogs.clone().run()]);
                catalogs.or_insert_with(run);
            }
        }
        for one in &mut running {
            let cluster = &one.cluster;
            let own = |group: &Group| Arc::ptr_eq(&group.cluster, cluster);
            one.catalogs.retain(|name, _| {
                config.databases.iter().zip(&groups).any(|(entry, group)| entry.name == *name && own(group))
            });
        }
        // In this order: a pool that is made from here on is made by what holds now.
        shared.databases.replace(databases);
        self.retire_pools(state, &config, &groups);
        // Those of servers and databases that are gone end with what ran for them.
        state.running = running;
        state.groups =
            config.databases.iter().map(|entry| entry.name.clone()).zip(groups.iter().cloned()).collect();
        state.config = config;
        groups.iter().for_each(|group| group.cluster.touch());
        shared.cancels.wake_all();
    }

    fn spawned<F: Future<Output = ()> + Send + 'static>(
        &self,
        tasks: impl IntoIterator<Item = F>,
    ) -> JoinSet<()> {
        let mut set = JoinSet::new();
        for task in tasks {
            set.spawn_on(task, &self.worker);
        }
        set
    }

    fn run(&self, cluster: &Arc<Cluster>) -> Running {
        let others = self.spawned([client::watch(self.shared.clone(), cluster.clone())]);
        Running { cluster: cluster.clone(), probes: HashMap::new(), others, catalogs: HashMap::new() }
    }

    /// Tells a cluster which servers it is to have, and has them probed.
    fn order(&self, running: &mut Running, group: &Group) {
        let (cluster, metrics) = (&group.cluster, &self.shared.metrics);
        for server in &group.servers {
            let Some(node) = cluster.order(&server.address, server.orders.clone(), metrics) else { continue };
            let probe = || self.spawned([cluster.clone().probe(node, group.options.clone())]);
            running.probes.entry(node).or_insert_with(probe);
        }
        for node in cluster.nodes() {
            let Some(address) = cluster.address(node) else { continue };
            if !group.servers.iter().any(|server| server.address == **address) {
                cluster.order(address, Orders { duty: Duty::Removed, ..Orders::default() }, metrics);
                running.probes.remove(&node);
            }
        }
    }

    /// Takes out the pools that are not what they would be now.
    fn retire_pools(&self, state: &State, config: &Config, groups: &[Group]) {
        let now = |name: &str| config.databases.iter().zip(groups).find(|(entry, _)| entry.name == name);
        self.shared.pools.retire(|key| {
            let before = state.config.databases.iter().find(|entry| *entry.name == *key.entry);
            let (Some(before), Some((entry, group))) = (before, now(&key.entry)) else { return true };
            let same =
                state.groups.get(&*key.entry).is_some_and(|old| Arc::ptr_eq(&old.cluster, &group.cluster));
            let member = group.cluster.view().server(key.node).is_some_and(|server| server.is_member());
            let secret = entry.login.is_some()
                || state.config.auth.users.get(&key.user) == config.auth.users.get(&key.user);
            let alike = before.pool == entry.pool
                && before.login == entry.login
                && before.server_database == entry.server_database;
            !(same && member && secret && alike)
        });
    }
}

/// A configuration's databases, with their servers probed as until now.
fn monitored(databases: Vec<config::Database>, before: &Config) -> Vec<config::Database> {
    // All are probed in one way.
    let options = before.databases.first().map(|database| database.monitor.clone());
    let monitored = |database: config::Database| config::Database {
        monitor: options.clone().unwrap_or_else(|| database.monitor.clone()),
        ..database
    };
    databases.into_iter().map(monitored).collect()
}

/// Whether the clusters have room for the servers of a configuration.
fn check(state: &State, config: &Config) -> Result<(), String> {
    for entry in &config.databases {
        let Some(group) = state.groups.get(&entry.name) else { continue };
        let known = |address: &Address| {
            group
                .cluster
                .nodes()
                .any(|node| group.cluster.address(node).is_some_and(|known| **known == *address))
        };
        let new = entry.servers.iter().filter(|server| !known(&server.address)).count();
        if group.cluster.nodes().count() + new > MOST_NODES {
            return Err(format!(
                "database \"{}\" would have had more than {MOST_NODES} different servers since pgweir started: \
                 it has to be restarted",
                entry.name
            ));
        }
    }
    Ok(())
}

impl Means for Operator {
    fn reload(&self) -> Result<Vec<String>, String> {
        Self::reload(self)
    }

    fn change(&self, change: &Change) -> Result<Vec<String>, String> {
        let mut state = self.state();
        let mut config = state.config.clone();
        let address = &change.address;
        let adds = matches!(change.what, What::Add(_));
        let named: Vec<String> = match &change.database {
            Some(name) if state.groups.contains_key(name) => vec![name.clone()],
            Some(name) => return Err(format!("database \"{name}\" is not configured in pgweir")),
            None if adds && state.running.len() > 1 => {
                return Err(format!(
                    "there are several clusters: say DATABASE name, one of those that {address} belongs to"
                ));
            }
            None => state.groups.keys().cloned().collect(),
        };
        // Databases of one cluster have the same servers.
        let meant = |name: &String| {
            let own = state.groups.get(name);
            named.iter().any(|other| {
                let other = state.groups.get(other);
                own.zip(other).is_some_and(|(own, other)| Arc::ptr_eq(&own.cluster, &other.cluster))
            })
        };
        let mut changed = Vec::new();
        for entry in config.databases.iter_mut().filter(|entry| meant(&entry.name)) {
            let at = entry.servers.iter().position(|server| server.address == *address);
            let server = at.and_then(|at| entry.servers.get_mut(at));
            match (&change.what, server, at) {
                (What::Add(orders), None, _) => {
                    entry.servers.push(config::Server { address: address.clone(), orders: orders.clone() });
                }
                (What::Add(_), Some(_), _) => return Err(format!("{address} is there already")),
                (_, None, _) | (_, _, None) => continue,
                (What::Remove, Some(_), Some(at)) => {
                    let cluster = state.groups.get(&entry.name).map(|group| &group.cluster);
                    let primary = cluster.and_then(|cluster| {
                        cluster.view().primary().and_then(|node| cluster.address(node).cloned())
                    });
                    if primary.is_some_and(|primary| *primary == *address) {
                        return Err(format!(
                            "{address} is the primary: writes would have nowhere to go; switch over to another server first"
                        ));
                    }
                    if entry.servers.len() == 1 {
                        return Err(format!("{address} is the only server of database \"{}\"", entry.name));
                    }
                    entry.servers.remove(at);
                }
                (What::Drain, Some(server), _) => server.orders.duty = Duty::Draining,
                (What::Enable, Some(server), _) => server.orders.duty = Duty::Serving,
                (What::Weigh(weight), Some(server), _) => server.orders.weight = *weight,
            }
            changed.push(entry.name.clone());
        }
        if changed.is_empty() {
            return Err(format!("no database has a server {address}"));
        }
        check(&state, &config)?;
        self.put(&mut state, config);
        Ok(changed)
    }
}
