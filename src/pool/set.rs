//! The pools of one pgweir, by key.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use super::Pool;
use crate::ids::Node;

/// How many rounds of the keeper connections are unwanted after somebody has asked for them to go.
const UNWANTED: u8 = 5;

/// What makes a pool: its configuration entry and its name on the servers, the role, and the server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PoolKey {
    /// The entry's name in the configuration.
    pub entry: Arc<str>,
    /// The database as clients ask for it.
    pub database: Arc<str>,
    /// The client's user.
    pub user: Arc<str>,
    /// The server.
    pub node: Node,
}

/// Every pool there is.
#[derive(Debug, Default)]
pub struct PoolSet {
    pools: RwLock<HashMap<PoolKey, Arc<Pool>>>,
}

impl PoolSet {
    /// The pool with that key, made by `make` when it is wanted for the first time.
    pub fn pool(&self, key: &PoolKey, make: impl FnOnce() -> Pool) -> Arc<Pool> {
        if let Some(pool) = self.pools.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return pool.clone();
        }
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        pools.entry(key.clone()).or_insert_with(|| Arc::new(make())).clone()
    }

    /// All of them, as they are now.
    #[must_use]
    pub fn all(&self) -> Vec<(PoolKey, Arc<Pool>)> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.iter().map(|(key, pool)| (key.clone(), pool.clone())).collect()
    }

    /// Closes the idle connections to the databases that `is_meant` picks, where no client that is connected has used
    /// them, and for some seconds those whose client is just about to leave: PostgreSQL refuses to drop, rename or copy a
    /// database that others are connected to, and such connections are nobody's. (It waits five seconds for them to be gone.)
    pub fn let_go(&self, is_meant: impl Fn(&str) -> bool) {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        for pool in pools.values().filter(|pool| is_meant(&pool.database)) {
            pool.unwanted.store(UNWANTED, Ordering::Relaxed);
            if Arc::strong_count(pool) == 1 {
                pool.close_idle();
            }
        }
    }

    /// Takes out the pools that `is_meant` picks: who asks for one from now on gets a new one. Their connections are closed as
    /// they become free.
    pub fn retire(&self, is_meant: impl Fn(&PoolKey) -> bool) {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|key, pool| {
            let meant = is_meant(key);
            if meant {
                pool.retire();
                pool.observe();
            }
            !meant
        });
    }

    /// Forgets the pools that hold nothing and that no client knows: a client that tries names leaves nothing behind.
    pub(super) fn sweep(&self) {
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|_, pool| Arc::strong_count(pool) > 1 || pool.counts() != super::Counts::default());
    }
}
