//! What pools need without a client: old connections closed, a minimum kept open, gauges set.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::{Pool, PoolSet};
use crate::clock::{self, Duration, Instant};
use crate::metrics::Occupancy;
use crate::server::Wants;

/// How often the pools are looked at.
const ROUND: Duration = Duration::from_secs(1);

/// Most connections that are opened for stock at the same time, over all pools.
const OPENING: usize = 8;

/// A pool that no client has is known to its set and to the keeper.
const KNOWN: usize = 2;

/// Looks after the pools of a set.
#[derive(Debug)]
pub struct Keeper {
    pools: Arc<PoolSet>,
}

impl Keeper {
    /// A keeper for that set.
    #[must_use]
    pub fn new(pools: Arc<PoolSet>) -> Self {
        Self { pools }
    }

    /// Looks after the pools until it is dropped.
    pub async fn run(self) {
        let mut round = interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut opening = JoinSet::new();
        loop {
            round.tick().await;
            while opening.try_join_next().is_some() {}
            let now = clock::now();
            for (_, pool) in self.pools.all() {
                pool.close_due(now);
                if pool.is_unwanted() && Arc::strong_count(&pool) == KNOWN {
                    pool.close_idle();
                }
                while opening.len() < OPENING && pool.wants_stock() {
                    opening.spawn(stock(pool.clone()));
                }
                pool.observe();
            }
            self.pools.sweep();
        }
    }
}

/// Opens one connection for stock; the ledger has already counted it as opening.
async fn stock(pool: Arc<Pool>) {
    let deadline = clock::now() + pool.options.query_wait_timeout;
    if let Ok(lease) = pool.open(&Wants::default(), deadline).await {
        lease.put_back(clock::now());
    }
}

impl Pool {
    /// Closes what is dead, too old, or idle for too long.
    fn close_due(&self, now: Instant) {
        let options = &self.options;
        let due = self.ledger().take_due(|server, left| {
            server.stream.is_disturbed()
                || self.is_over(server)
                || now.duration_since(server.since) > options.server_lifetime
                || (left > options.min_size
                    && now.duration_since(server.idle_since) > options.server_idle_timeout)
        });
        for server in due {
            self.closed(server, "due");
        }
    }

    /// Closes what nobody uses.
    pub(super) fn close_idle(&self) {
        let due = self.ledger().take_due(|_, _| true);
        for server in due {
            self.closed(server, "due");
        }
    }

    /// Whether what nobody uses is to be closed in this round.
    fn is_unwanted(&self) -> bool {
        let left = self.unwanted.load(Ordering::Relaxed);
        left > 0
            && self.unwanted.compare_exchange(left, left - 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn wants_stock(&self) -> bool {
        self.options.min_size > 0 && self.ledger().stock(self.options.min_size)
    }

    /// Sets the gauges.
    pub fn observe(&self) {
        let counts = self.counts();
        self.metrics.occupancy(Occupancy {
            idle: counts.idle,
            active: counts.leased,
            connecting: counts.opening,
            waiting: counts.waiting,
        });
    }
}
