//! What is counted per pool: its server connections by state, who waits, what was opened and closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::metrics::{Counter, Gauge};

use super::{Registry, table};

/// How many connections a pool has in each state, and who waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Occupancy {
    /// Connections that wait for a client.
    pub idle: usize,
    /// Connections that are leased.
    pub active: usize,
    /// Connections that are being opened.
    pub connecting: usize,
    /// Clients that wait for a connection.
    pub waiting: usize,
}

/// The handles of one pool. Dropped, they take the pool's part of the gauges back.
pub struct PoolMetrics {
    registry: Arc<Registry>,
    labels: [Box<str>; 3],
    idle: Part,
    active: Part,
    connecting: Part,
    waiting: Part,
    connects: Counter,
    connect_failures: Counter,
    login_waits: Counter,
}

impl PoolMetrics {
    pub(super) fn new(registry: Arc<Registry>, labels: [&str; 3]) -> Self {
        let [database, user, server] = labels;
        let servers =
            |state| Part::of(registry.gauge(&table::POOL_SERVERS, &[database, user, server, state]));
        Self {
            idle: servers("idle"),
            active: servers("active"),
            connecting: servers("connecting"),
            waiting: Part::of(registry.gauge(&table::POOL_WAITING, &labels)),
            connects: registry.counter(&table::POOL_CONNECTS, &labels),
            connect_failures: registry.counter(&table::POOL_CONNECT_FAILURES, &labels),
            login_waits: registry.counter(&table::POOL_LOGIN_WAITS, &labels),
            labels: labels.map(Into::into),
            registry,
        }
    }

    /// How the pool stands. What is as it was costs one atomic swap each.
    pub fn occupancy(&self, now: Occupancy) {
        self.idle.set(now.idle);
        self.active.set(now.active);
        self.connecting.set(now.connecting);
        self.waiting.set(now.waiting);
    }

    /// A server connection was opened.
    pub fn connected(&self) {
        self.connects.increment(1);
    }

    /// An attempt to open one failed.
    pub fn connect_failed(&self) {
        self.connect_failures.increment(1);
    }

    /// A login had to wait for its turn.
    pub fn login_waited(&self) {
        self.login_waits.increment(1);
    }

    /// A server connection was closed. `why` is a short constant, such as `idle`, `lifetime` or `lost`. Takes a lock.
    pub fn closed(&self, why: &'static str) {
        let [database, user, server] = &self.labels;
        self.registry.counter(&table::POOL_CLOSED, &[database, user, server, why]).increment(1);
    }
}

/// One pool's part of a gauge. Pools beyond the limit share the label `other`: each adds and takes only its own part.
struct Part {
    ours: AtomicUsize,
    gauge: Gauge,
}

impl Part {
    fn of(gauge: Gauge) -> Self {
        // A gauge that was never touched is not rendered.
        gauge.increment(0.0);
        Self { ours: AtomicUsize::new(0), gauge }
    }

    fn set(&self, now: usize) {
        let before = self.ours.swap(now, Ordering::Relaxed);
        // Counts of connections are exact in f64.
        #[allow(clippy::cast_precision_loss)]
        if now > before {
            self.gauge.increment((now - before) as f64);
        } else if now < before {
            self.gauge.decrement((before - now) as f64);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
    }
}
