//! What all clients of one pgweir share. Built once by `app`; there is nothing global beside it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::{Budget, Cancels, Console, Drain, Failover, Fallback, Options};
use crate::auth::Directory;
use crate::cluster::Spread;
use crate::counter::{Books, Counters, Definition, Means};
use crate::ids::Node;
use crate::metrics::{DatabaseMetrics, Metrics};
use crate::monitor::{Catalogs, Cluster, Hubs};
use crate::net::Buffers;
use crate::pool::{self, Pool, PoolKey, PoolSet};
use crate::route::{Judge, Rules};
use crate::server::{Login, Parameters, Registry};

/// Most greetings remembered for one database; beyond it all are forgotten and learned again.
const MAX_GREETINGS: usize = 1_000;

/// An entry of the configuration: a name that clients connect to, and the cluster behind it.
pub struct Database {
    /// The name; `*` for the entry that serves every other name.
    pub name: Arc<str>,
    /// The name on the servers, where it is not the client's.
    pub server_database: Option<Arc<str>>,
    /// The servers.
    pub cluster: Arc<Cluster>,
    /// What the operator says of its statements.
    pub rules: Arc<Rules>,
    /// Whose increments are merged.
    pub counters: Arc<Counters>,
    /// Who listens for its clients.
    pub hubs: Arc<Hubs>,
    /// What the names in its databases mean.
    pub catalogs: Arc<Catalogs>,
    /// How its reads are spread over them.
    pub spread: Spread,
    /// Limits of its pools.
    pub pool: pool::Options,
    /// As whom servers are logged in to, where it is not the client's user.
    pub login: Option<Login>,
    /// What is counted.
    pub metrics: Arc<DatabaseMetrics>,
    /// How many more reads may run again.
    pub retries: Arc<Budget>,
    /// Those who wait for a primary.
    pub failover: Arc<Failover>,
    /// What becomes of reads while no replica may take them.
    pub fallback: Arc<Fallback>,
    /// What a client hears of the server's settings after its login, by who asks with which parameters.
    pub greetings: Arc<Greetings>,
}

/// Who asks: database, user, parameters.
type Asker = (Arc<str>, Arc<str>, Arc<Parameters>);

/// See [`Database::greetings`].
#[derive(Default)]
pub struct Greetings(Mutex<HashMap<Asker, Greeting>>);

/// The ParameterStatus messages that a server sends to a client with certain parameters.
#[derive(Clone)]
pub struct Greeting {
    /// The messages.
    pub messages: Bytes,
    /// Whether texts of such a client can be judged: see [`crate::route::Session::text_safe`].
    pub text_safe: bool,
    /// The `search_path` of such a client; none: not known.
    pub search_path: Option<Arc<str>>,
    /// These parameters, in one place for all clients that have them: comparing them is comparing two addresses then.
    pub parameters: Arc<Parameters>,
}

impl Greetings {
    /// What was learned for that database, user and parameters.
    #[must_use]
    pub fn known(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        parameters: &Arc<Parameters>,
    ) -> Option<Greeting> {
        let key = (database.clone(), user.clone(), parameters.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// The search path of connections of that user to that database, if one was opened with any parameters.
    #[must_use]
    pub fn search_path(&self, database: &str, user: &str) -> Option<Arc<str>> {
        let greetings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of_both =
            greetings.iter().filter(|((name, asker, _), _)| **name == *database && **asker == *user);
        of_both.find_map(|(_, greeting)| greeting.search_path.clone())
    }

    /// Remembers it.
    pub fn learn(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        parameters: &Arc<Parameters>,
        greeting: Greeting,
    ) {
        let mut greetings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if greetings.len() >= MAX_GREETINGS {
            greetings.clear();
        }
        greetings.insert((database.clone(), user.clone(), parameters.clone()), greeting);
    }
}

/// The databases by name.
#[derive(Clone, Default)]
pub struct Named {
    /// By name.
    pub named: HashMap<Arc<str>, Arc<Database>>,
    /// The one that serves every other name, if there is one.
    pub any: Option<Arc<Database>>,
}

impl Named {
    /// The one that is called that in the configuration.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Arc<Database>> {
        if name == "*" { self.any.as_ref() } else { self.named.get(name) }
    }
}

/// The databases, as they are now.
#[derive(Default)]
pub struct Databases {
    now: ArcSwap<Named>,
    version: AtomicU64,
}

impl Database {
    /// The name on the servers of what a client asks for by that name.
    pub(super) fn on_servers<'a>(&'a self, name: &'a Arc<str>) -> &'a Arc<str> {
        self.server_database.as_ref().unwrap_or(name)
    }
}

impl Databases {
    /// The entry that serves that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Database>> {
        let now = self.now.load();
        now.named.get(name).or(now.any.as_ref()).cloned()
    }

    /// The one that is called that in the configuration.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<Arc<Database>> {
        self.now.load().entry(name).cloned()
    }

    /// All, in the order of their names; the one for all others last.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Database>> {
        let now = self.now.load();
        let mut all: Vec<_> = now.named.values().cloned().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all.extend(now.any.clone());
        all
    }

    /// Puts others in their place. Clients look at them anew when they are polled.
    pub fn replace(&self, databases: Named) {
        self.now.store(Arc::new(databases));
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Another number for each time that they were replaced.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

/// What all clients share.
pub struct Shared {
    /// The databases.
    pub databases: Databases,
    /// The users.
    pub directory: ArcSwap<Directory>,
    /// Who judges statements.
    pub judge: Judge,
    /// What clients have prepared.
    pub prepared: Arc<Registry>,
    /// The server connections.
    pub pools: Arc<PoolSet>,
    /// Increments that are answered before they are committed.
    pub books: Arc<Books>,
    /// Whom a cancel request means.
    pub cancels: Arc<Cancels>,
    /// Windows nobody uses.
    pub buffers: Arc<Buffers>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What answers in the console.
    pub console: Arc<dyn Console>,
    /// Limits.
    pub options: Options,
    /// Whether it ends.
    pub drain: Drain,
    /// Clients that are connected, logged in or not.
    pub clients: AtomicUsize,
}

/// A place among `max_client_conn`; given up when dropped.
pub(super) struct Seat(Arc<Shared>);

impl Shared {
    /// A place for one more client; none when all are taken.
    pub(super) fn seat(self: &Arc<Self>) -> Option<Seat> {
        let seat = Seat(self.clone());
        (self.clients.fetch_add(1, Ordering::Relaxed) < self.options.max_connections).then_some(seat)
    }

    /// The pool of one user, database and server.
    #[must_use]
    pub fn pool(
        &self,
        entry: &Database,
        database: &Arc<str>,
        user: &Arc<str>,
        node: Node,
    ) -> Option<Arc<Pool>> {
        let address = entry.cluster.address(node)?.clone();
        let key = PoolKey { entry: entry.name.clone(), database: database.clone(), user: user.clone(), node };
        Some(self.pools.pool(&key, || {
            // The client may not have looked at the newest configuration yet.
            let newest = self.databases.entry(&entry.name);
            let entry =
                newest.as_deref().filter(|now| Arc::ptr_eq(&now.cluster, &entry.cluster)).unwrap_or(entry);
            let login = entry.login.clone().unwrap_or_else(|| Login {
                user: user.clone(),
                secret: self.directory.load().secret(user).cloned(),
            });
            let name = entry.on_servers(database);
            let metrics = self.metrics.pool(&entry.name, user, &address.to_string());
            let (options, common) = (entry.pool.clone(), entry.cluster.common(node));
            Pool::new(address, login, name.to_string(), options, common, self.buffers.clone(), metrics)
        }))
    }
}

/// How an account of increments finds its servers, whatever configuration holds.
pub struct Reach {
    shared: Weak<Shared>,
    entry: Box<str>,
    database: Arc<str>,
    user: Arc<str>,
}

impl Reach {
    /// For that account.
    #[must_use]
    pub fn of(shared: &Arc<Shared>, definition: &Definition) -> Arc<dyn Means> {
        let (entry, database, user) = (&*definition.entry, &*definition.database, &*definition.user);
        Self::to(shared, entry, database.into(), user.into())
    }

    /// For increments of that user of that database, which that entry serves.
    pub(super) fn to(
        shared: &Arc<Shared>,
        entry: &str,
        database: Arc<str>,
        user: Arc<str>,
    ) -> Arc<dyn Means> {
        Arc::new(Self { shared: Arc::downgrade(shared), entry: entry.into(), database, user })
    }
}

impl Means for Reach {
    fn cluster(&self) -> Option<Arc<Cluster>> {
        Some(self.shared.upgrade()?.databases.entry(&self.entry)?.cluster.clone())
    }

    fn pool(&self, node: Node) -> Option<Arc<Pool>> {
        let shared = self.shared.upgrade()?;
        let entry = shared.databases.entry(&self.entry)?;
        shared.pool(&entry, &self.database, &self.user, node)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
