//! What changes while pgweir runs: which databases and servers there are, and what is said of them.
//!
//! There is one way for all of it: a whole configuration is put in place of the one that holds. It is read from the file again, or
//! is the one that holds with one server changed. What it does not change goes on: clusters, catalogs, open connections, clients.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::build::{self, Group};
use super::discovery::{Discovery, Found};
use crate::admin::{Change, Means, What};
use crate::client::{self, Shared};
use crate::cluster::{Duty, Orders, Origin};
use crate::config::{self, Config};
use crate::ids::{MOST_NODES, Node};
use crate::monitor::{Cluster, Discover};
use crate::net::Address;

/// Puts configurations in place.
pub(super) struct Operator {
    own: Weak<Self>,
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
    #[expect(dead_code, reason = "held for its drop: it ends it")]
    watch: JoinSet<()>,
    /// By database.
    catalogs: HashMap<String, JoinSet<()>>,
    /// The search for more servers, and how that is done.
    discovery: Option<(Discover, JoinSet<()>)>,
}

impl Operator {
    /// Puts the first one in place.
    pub(super) fn start(shared: Arc<Shared>, config: Config, worker: Handle) -> Arc<Self> {
        let file = config.file.clone();
        let state = State { config: config.clone(), groups: HashMap::new(), running: Vec::new() };
        let operator =
            Arc::new_cyclic(|own| Self { own: own.clone(), shared, worker, file, state: Mutex::new(state) });
        operator.put(&mut operator.state(), config);
        operator
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
            let mut whole = state.config.clone();
            (whole.auth, whole.databases) = (config.auth, config.databases);
            // All are probed in one way.
            if let Some(before) = state.config.databases.first() {
                whole.databases.iter_mut().for_each(|entry| entry.monitor.clone_from(&before.monitor));
            }
            super::found::carry_over(&state.config, &mut whole);
            let config = whole;
            check(&state, &config)?;
            // What was refused before may be looked at again.
            state.running.iter_mut().for_each(|one| one.discovery = None);
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
                let run = || self.spawned(database.catalogs.clone().run());
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
        for one in &mut running {
            self.search(one, &config, &groups);
        }
        // In this order: a pool that is made from here on is made by what holds now.
        shared.databases.replace(databases);
        self.retire_pools(state, &config, &groups);
        // Those of servers and databases that are gone end with what ran for them.
        state.running = running;
        state.groups =
            config.databases.iter().map(|entry| entry.name.clone()).zip(groups.iter().cloned()).collect();
        state.config = config;
        shared.cancels.wake_all();
    }

    /// Runs a task until what is returned is dropped.
    fn spawned(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinSet<()> {
        let mut set = JoinSet::new();
        set.spawn_on(task, &self.worker);
        set
    }

    fn run(&self, cluster: &Arc<Cluster>) -> Running {
        let watch = self.spawned(client::watch(self.shared.clone(), cluster.clone()));
        let (probes, catalogs) = (HashMap::new(), HashMap::new());
        Running { cluster: cluster.clone(), probes, watch, catalogs, discovery: None }
    }

    /// Has a cluster's servers searched for as the configuration says.
    fn search(&self, running: &mut Running, config: &Config, groups: &[Group]) {
        let cluster = running.cluster.clone();
        let own =
            config.databases.iter().zip(groups).filter(|(_, group)| Arc::ptr_eq(&group.cluster, &cluster));
        let own: Vec<_> = own.collect();
        for (entry, _) in &own {
            let count = |origin| entry.members().filter(|server| server.orders.origin == origin).count();
            if entry.discover.is_on() || running.discovery.is_some() {
                let metrics = self.shared.metrics.discovery(&entry.name);
                metrics.found(count(Origin::Dns), count(Origin::Replication));
            }
        }
        let Some((_, group)) = own.first().filter(|(entry, _)| entry.discover.is_on()) else {
            running.discovery = None;
            cluster.note_discovery(None);
            return;
        };
        if running.discovery.as_ref().is_some_and(|(options, _)| *options == group.discover) {
            return;
        }
        let discovery = Discovery {
            operator: self.own.clone(),
            cluster,
            options: group.discover.clone(),
            monitor: group.options.clone(),
            resolver: config.resolver.clone(),
            metrics: own.iter().map(|(entry, _)| self.shared.metrics.discovery(&entry.name)).collect(),
        };
        running.discovery = Some((group.discover.clone(), self.spawned(discovery.run())));
    }

    /// The servers of a cluster as the configuration that holds has them, also those that were taken out.
    pub(super) fn servers(&self, cluster: &Arc<Cluster>) -> Vec<config::Server> {
        let state = self.state();
        let own = |entry: &&config::Database| is_of(&state, entry, cluster);
        state.config.databases.iter().find(own).map_or_else(Vec::new, |entry| entry.servers.clone())
    }

    /// Takes in the servers that were found, and takes out those that have gone. True: there was not room for all.
    pub(super) fn found(&self, cluster: &Arc<Cluster>, found: &Found) -> bool {
        let mut state = self.state();
        let mut config = state.config.clone();
        let (mut changed, mut full) = (false, false);
        for entry in config.databases.iter_mut().filter(|entry| is_of(&state, entry, cluster)) {
            changed |= super::found::forget(entry, &found.gone);
            let was_there = |address: &Address| cluster.node(address).is_some();
            let (added, left) = super::found::add(entry, &found.new, cluster.room(), was_there);
            changed |= added;
            full |= left;
        }
        if changed {
            self.put(&mut state, config);
        }
        full
    }

    /// Tells a cluster which servers it is to have, and has them probed.
    fn order(&self, running: &mut Running, group: &Group) {
        let (cluster, metrics) = (&group.cluster, &self.shared.metrics);
        for server in &group.servers {
            let origin = server.orders.origin;
            let known = cluster.node(&server.address).filter(|node| running.probes.contains_key(node));
            if origin.is_found() && known.is_none() {
                tracing::info!(server = %server.address, origin = origin.as_str(), "a server was found");
            }
            let Some(node) = cluster.order(&server.address, server.orders.clone(), metrics) else { continue };
            let probe = || self.spawned(cluster.clone().probe(node, group.options.clone()));
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

/// Whether the clusters have room for the servers of a configuration.
fn check(state: &State, config: &Config) -> Result<(), String> {
    for entry in &config.databases {
        let Some(group) = state.groups.get(&entry.name) else { continue };
        let new = entry.members().filter(|server| group.cluster.node(&server.address).is_none()).count();
        if new > group.cluster.room() {
            return Err(format!(
                "database \"{}\" would have more than {MOST_NODES} different servers, those that were removed a moment ago counted",
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

    fn change(&self, change: &Change) -> Result<(), String> {
        let mut state = self.state();
        let mut config = state.config.clone();
        let address = &change.address;
        let cluster_of = |name: &str| state.groups.get(name).map(|group| &group.cluster);
        let cluster = match &change.database {
            Some(name) => {
                let missing = || format!("database \"{name}\" is not configured in pgweir");
                Some(cluster_of(name).ok_or_else(missing)?)
            }
            None if matches!(change.what, What::Add(_)) && state.running.len() > 1 => {
                return Err(format!(
                    "there are several clusters: say DATABASE name, one of those that {address} belongs to"
                ));
            }
            None => None,
        };
        let mut changed = false;
        for entry in &mut config.databases {
            let Some(own) = cluster_of(&entry.name) else { continue };
            // Databases of one cluster have the same servers.
            if cluster.is_none_or(|cluster| Arc::ptr_eq(cluster, own)) {
                changed |= change_one(entry, own, change)?;
            }
        }
        if !changed {
            return Err(format!("no database has a server {address}"));
        }
        check(&state, &config)?;
        self.put(&mut state, config);
        Ok(())
    }
}

/// Whether a database is on that cluster.
fn is_of(state: &State, entry: &config::Database, cluster: &Arc<Cluster>) -> bool {
    state.groups.get(&entry.name).is_some_and(|group| Arc::ptr_eq(&group.cluster, cluster))
}

/// Changes a server of a database; who names a host means all of its addresses. False: it is none of its.
fn change_one(entry: &mut config::Database, cluster: &Cluster, change: &Change) -> Result<bool, String> {
    let address = &change.address;
    if let What::Add(orders) = &change.what {
        let orders = Orders { origin: Origin::Console, ..orders.clone() };
        // What its host name stood for when it was removed does not count any more.
        entry.servers.retain(|server| server.is_member() || !server.address.is_one_of(address));
        match entry.servers.iter_mut().find(|server| server.address == *address) {
            Some(server) if server.is_member() => return Err(format!("{address} is there already")),
            Some(server) => server.orders = orders,
            None => entry.servers.push(config::Server { address: address.clone(), orders }),
        }
        return Ok(true);
    }
    let meant = |server: &config::Server| {
        let there = server.is_member() || change.what == What::Enable;
        there && (server.address == *address || server.address.is_one_of(address))
    };
    if change.what == What::Remove {
        let primary = cluster.view().primary();
        let is_primary =
            |server: &config::Server| primary.is_some() && cluster.node(&server.address) == primary;
        if entry.members().any(|server| meant(server) && is_primary(server)) {
            return Err(format!(
                "{address} is the primary: writes would have nowhere to go; switch over to another server first"
            ));
        }
        if entry.members().any(meant) && entry.members().all(meant) {
            return Err(format!("{address} is the only server of database \"{}\"", entry.name));
        }
    }
    let mut changed = false;
    for server in entry.servers.iter_mut().filter(|server| meant(server)) {
        match &change.what {
            What::Remove => server.orders.duty = Duty::Removed,
            What::Drain => server.orders.duty = Duty::Draining,
            What::Enable => server.orders.duty = Duty::Serving,
            What::Weigh(weight) => server.orders.weight = *weight,
            What::Add(_) => {}
        }
        changed = true;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn what_is_said_of_a_name_is_said_of_its_addresses() {
        let text = "[databases.a]\nservers = ['h:1', 'i:2']\ndiscover = 'dns'";
        let mut config = config::parse(text, "test").unwrap();
        let entry = &mut config.databases[0];
        let orders = Orders { origin: Origin::Dns, ..Orders::default() };
        for ip in ["10.0.0.1", "10.0.0.2"] {
            let address = entry.servers[0].address.at(ip.parse().unwrap());
            entry.servers.push(config::Server { address, orders: orders.clone() });
        }
        let cluster = Cluster::new(Vec::new(), &Metrics::new());
        let are = |expected: &str| Ok(Some(expected.to_owned()));
        let mut say = |what: What, address: &str| {
            let change = Change { what, address: address.parse().unwrap(), database: None };
            let outcome = change_one(entry, &cluster, &change);
            let one = |server: &config::Server| {
                format!("{} {} {}", server.address, server.orders.duty, server.orders.weight)
            };
            outcome.map(|changed| changed.then(|| entry.members().map(one).collect::<Vec<_>>().join(", ")))
        };
        assert_eq!(
            say(What::Weigh(3), "h:1"),
            are("i:2 serving 1, 10.0.0.1:1 serving 3, 10.0.0.2:1 serving 3")
        );
        assert_eq!(
            say(What::Drain, "10.0.0.2:1"),
            are("i:2 serving 1, 10.0.0.1:1 serving 3, 10.0.0.2:1 draining 3")
        );
        assert_eq!(
            say(What::Enable, "h:1"),
            are("i:2 serving 1, 10.0.0.1:1 serving 3, 10.0.0.2:1 serving 3")
        );
        assert_eq!(say(What::Remove, "10.0.0.2:1"), are("i:2 serving 1, 10.0.0.1:1 serving 3"));
        assert_eq!(say(What::Remove, "h:1"), are("i:2 serving 1"));
        // Taken out, it is none; and the last one stays.
        assert_eq!(say(What::Drain, "10.0.0.1:1"), Ok(None));
        assert!(say(What::Remove, "i:2").is_err_and(|why| why.contains("the only server")));
        assert_eq!(say(What::Enable, "10.0.0.1:1"), are("i:2 serving 1, 10.0.0.1:1 serving 3"));
        assert_eq!(say(What::Remove, "10.0.0.1:1"), are("i:2 serving 1"));
        // Added anew, a name begins anew.
        assert_eq!(say(What::Add(Orders::default()), "h:1"), are("h:1 serving 1, i:2 serving 1"));
    }
}
