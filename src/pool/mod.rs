//! Server connections, shared: who holds which, who waits. One [`Pool`] for each (database, user, server).
//!
//! Invariants: a server connection is idle here or in exactly one [`Lease`]; `idle + leased + opening <= size`; whoever
//! came first is served first; a connection whose state is in doubt is closed, never put back.

mod keeper;
pub mod lane;
mod lease;
mod ledger;
mod logins;
mod options;
mod set;

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{timeout, timeout_at};

pub use keeper::Keeper;
pub use lease::Lease;
pub use ledger::Counts;
pub use logins::Logins;
pub use options::{Options, PoolMode};
pub use set::{PoolKey, PoolSet};

use crate::clock::{self, Duration, Instant};
use crate::metrics::PoolMetrics;
use crate::net::{Address, Buffers};
use crate::server::{self, ConnectError, Login, Parameters, Server, Wants};
use ledger::{Grant, Ledger, Suits, Waiter};

/// Why there is no server connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseError {
    /// A new one could not be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// None became free within `query_wait_timeout`.
    #[error("no server connection became free within {waited:?}")]
    Timeout {
        /// How long the client waited.
        waited: Duration,
        /// How many are in use.
        leased: usize,
        /// How many there may be.
        size: usize,
    },
    /// As many clients wait as may.
    #[error("{waiting} clients are already waiting for a server connection")]
    Queue {
        /// How many wait.
        waiting: usize,
    },
}

impl Suits for Box<Server> {
    fn suits(&self, wants: &Arc<Parameters>) -> bool {
        // Most often the very same: see `Greetings`.
        self.parameters == *wants
    }

    fn is_of(&self, turn: u64) -> bool {
        self.drawn == turn
    }
}

/// The pause after failed logins.
#[derive(Debug, Default)]
struct BackOff {
    pause: Duration,
    /// When the next login may be tried; none: nothing is wrong.
    until: Option<Instant>,
    /// The last failure, and when it was.
    failure: Option<(Instant, ConnectError)>,
}

/// What all pools of one server have in common.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// Grows when connections that are open must not be used any more: the server is not what it was.
    pub term: Arc<AtomicU64>,
    /// How often it is logged in to.
    pub logins: Arc<Logins>,
    /// Whether it was found down.
    pub down: Arc<watch::Sender<bool>>,
}

/// The server connections of one (database, user, server).
pub struct Pool {
    address: Arc<Address>,
    login: Login,
    database: String,
    options: Options,
    common: Common,
    buffers: Arc<Buffers>,
    metrics: Arc<PoolMetrics>,
    ledger: Mutex<Ledger<Box<Server>>>,
    back_off: Mutex<BackOff>,
    /// Tells those who wait for the end of the pause that it is another now.
    settled: Notify,
    /// Connections that several clients share.
    yards: lane::Yards,
    /// Nobody gets it any more: its connections are closed when they come back.
    retired: AtomicBool,
    /// For so many rounds of the keeper more, what no client uses is closed.
    unwanted: AtomicU8,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("address", &self.address)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(
        address: Arc<Address>,
        login: Login,
        database: String,
        options: Options,
        common: Common,
        buffers: Arc<Buffers>,
        metrics: Arc<PoolMetrics>,
    ) -> Self {
        let ledger = Mutex::new(Ledger::new(options.size, options.max_waiting));
        Self {
            address,
            login,
            database,
            options,
            common,
            buffers,
            metrics,
            ledger,
            back_off: Mutex::default(),
            settled: Notify::new(),
            yards: lane::Yards::default(),
            retired: AtomicBool::new(false),
            unwanted: AtomicU8::new(0),
        }
    }

    /// The database's name on the server.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Where windows come from.
    #[must_use]
    pub fn buffers(&self) -> Arc<Buffers> {
        self.buffers.clone()
    }

    /// What the operator chose.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How many connections are where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.ledger().counts()
    }

    fn back_off(&self) -> MutexGuard<'_, BackOff> {
        self.back_off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<Box<Server>>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free connection, if there is one and nobody waits for it.
    #[must_use]
    pub fn try_lease(self: &Arc<Self>, wants: &Arc<Parameters>) -> Option<Lease> {
        self.try_lease_of(wants, None)
    }

    /// The same; rather the one on which a client was the last to draw from a sequence, in that turn.
    #[must_use]
    pub fn try_lease_of(self: &Arc<Self>, wants: &Arc<Parameters>, turn: Option<u64>) -> Option<Lease> {
        loop {
            let server = self.ledger().take_idle(wants, turn)?;
            if self.is_over(&server) {
                self.close(server, "role_changed");
                continue;
            }
            // What speaks or closes while it is idle is not to be trusted: a notice of shutdown, most likely.
            if server.stream.is_disturbed() {
                self.close(server, "server_gone");
                continue;
            }
            return Some(Lease::new(self.clone(), server));
        }
    }

    /// Whether a login has failed just now, so that the next one would wait.
    #[must_use]
    pub fn backs_off(&self) -> bool {
        self.back_off().until.is_some_and(|until| clock::now() < until)
    }

    /// A connection: a free one, a new one, or the next that is given back.
    ///
    /// # Errors
    /// [`LeaseError`]; the wait is bounded by `query_wait_timeout`.
    pub async fn lease(self: &Arc<Self>, wants: &Wants) -> Result<Lease, LeaseError> {
        if let Some(lease) = self.try_lease(&wants.parameters) {
            return Ok(lease);
        }
        let start = clock::now();
        let deadline = start + self.options.query_wait_timeout;
        let grant = match self.ask(&wants.parameters)? {
            Ok(grant) => grant,
            Err(waiting) => timeout_at(deadline, waiting.granted()).await.map_err(|_| {
                let counts = self.counts();
                LeaseError::Timeout {
                    waited: start.elapsed(),
                    leased: counts.leased,
                    size: self.options.size,
                }
            })?,
        };
        match grant {
            Grant::Server(server) => Ok(Lease::new(self.clone(), server)),
            Grant::Open => self.open(wants, deadline).await,
        }
    }

    /// The same, unless the server is found down meanwhile; none then.
    async fn lease_while_up(self: &Arc<Self>, wants: &Wants) -> Option<Result<Lease, LeaseError>> {
        let mut down = self.common.down.subscribe();
        tokio::select! {
            biased;
            lease = self.lease(wants) => Some(lease),
            Ok(_) = down.wait_for(|down| *down) => None,
        }
    }

    /// Whether another takes its place.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Closes its connections as they become free. Those who hold one, or wait for one, go on.
    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.close_idle();
    }

    /// Whether the server is no longer what it was when that connection was opened.
    #[must_use]
    pub fn is_over(&self, server: &Server) -> bool {
        server.term != self.common.term.load(Ordering::Acquire)
    }

    /// What the ledger grants at once, or a place in the queue.
    fn ask(
        self: &Arc<Self>,
        wants: &Arc<Parameters>,
    ) -> Result<Result<Grant<Box<Server>>, Waiting>, LeaseError> {
        let mut ledger = self.ledger();
        if let Some((grant, evicted)) = ledger.ask(wants) {
            drop(ledger);
            if let Some(server) = evicted {
                self.closed(server, "parameters");
            }
            return Ok(Ok(grant));
        }
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter { wants: wants.clone(), sender };
        ledger.wait(waiter).map_err(|waiting| LeaseError::Queue { waiting })?;
        Ok(Err(Waiting { pool: self.clone(), receiver }))
    }

    /// Opens a connection; the ledger has already counted it as opening.
    async fn open(self: &Arc<Self>, wants: &Wants, deadline: Instant) -> Result<Lease, LeaseError> {
        let mut permit = Permit { pool: self, used: false };
        self.turn(deadline).await?;
        let asked = clock::now();
        match timeout_at(deadline, self.common.logins.enter(self.options.login_rate)).await {
            Ok(waited) if waited => self.metrics.login_waited(),
            Ok(_) => {}
            Err(_) => {
                let (waited, leased) = (asked.elapsed(), self.counts().leased);
                return Err(LeaseError::Timeout { waited, leased, size: self.options.size });
            }
        }
        let start = clock::now();
        let term = self.common.term.load(Ordering::Acquire);
        let opening =
            server::connect(self.address.clone(), &self.login, &self.database, wants, &self.buffers);
        let opened = timeout(self.options.server_connect_timeout, opening).await;
        match opened.unwrap_or_else(|_| Err(ConnectError::Timeout(self.address.clone()))) {
            Ok(mut server) => {
                server.term = term;
                permit.used = true;
                *self.back_off() = BackOff::default();
                self.settled.notify_waiters();
                self.metrics.connected();
                self.ledger().opened();
                Ok(Lease::new(self.clone(), Box::new(server)))
            }
            Err(error) => {
                self.failed(start, &error);
                Err(error.into())
            }
        }
    }

    /// Waits until a login may be tried: at once when nothing is wrong, else one at a time, after the pause.
    ///
    /// # Errors
    /// The last failure, if the pause is not over by `deadline`.
    async fn turn(&self, deadline: Instant) -> Result<(), ConnectError> {
        loop {
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            let until = {
                let mut back_off = self.back_off();
                let Some(until) = back_off.until else { return Ok(()) };
                let now = clock::now();
                if now >= until {
                    // Whoever comes next waits to see what comes of this one.
                    back_off.until = Some(now + back_off.pause);
                    return Ok(());
                }
                if now >= deadline
                    && let Some((_, failure)) = &back_off.failure
                {
                    return Err(failure.clone());
                }
                until
            };
            let _ = timeout_at(until.min(deadline), settled).await;
        }
    }

    /// Doubles the pause before the next login, with jitter so that many pools do not knock in step. Logins that failed
    /// together count as one.
    fn failed(&self, start: Instant, error: &ConnectError) {
        self.metrics.connect_failed();
        let now = clock::now();
        let mut back_off = self.back_off();
        if back_off.failure.as_ref().is_none_or(|(last, _)| *last <= start) {
            back_off.pause =
                (back_off.pause * 2).clamp(self.options.login_retry, self.options.login_retry_max);
            back_off.until = Some(now + back_off.pause.mul_f64(rand::random_range(0.5..1.0)));
            back_off.failure = Some((now, error.clone()));
        }
        drop(back_off);
        self.settled.notify_waiters();
    }

    /// Takes back a connection that is free and clean.
    fn put_back(&self, mut server: Box<Server>, now: Instant) {
        server.forget_client();
        server.idle_since = now;
        if now.duration_since(server.since) > self.options.server_lifetime {
            return self.close(server, "lifetime");
        }
        if self.is_over(&server) {
            return self.close(server, "role_changed");
        }
        if self.is_retired() {
            return self.close(server, "retired");
        }
        let evicted = self.ledger().put_back(server);
        if let Some(server) = evicted {
            self.closed(server, "parameters");
        }
    }

    /// Closes a leased connection and lets the next in the queue open another.
    fn close(&self, server: Box<Server>, why: &'static str) {
        self.ledger().retire();
        self.closed(server, why);
    }

    /// Says goodbye, as far as that goes without waiting, and drops the connection.
    fn closed(&self, mut server: Box<Server>, why: &'static str) {
        if let Some(window) = server.window.take() {
            self.buffers.give(window);
        }
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = server.stream.poll_write(&mut cx, b"X\0\0\0\x04");
        self.metrics.closed(why);
    }
}

/// The right to open a connection, counted as opening; given back if it comes to nothing, also when the client is gone.
struct Permit<'a> {
    pool: &'a Arc<Pool>,
    used: bool,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.used {
            self.pool.ledger().not_opened();
        }
    }
}

/// A place in the queue. Dropped with a grant inside, it gives the grant back.
struct Waiting {
    pool: Arc<Pool>,
    receiver: oneshot::Receiver<Grant<Box<Server>>>,
}

impl Waiting {
    async fn granted(mut self) -> Grant<Box<Server>> {
        // The ledger drops a sender only with the pool, which this place in the queue keeps alive.
        match (&mut self.receiver).await {
            Ok(grant) => grant,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.receiver.close();
        match self.receiver.try_recv() {
            Ok(Grant::Server(server)) => self.pool.put_back(server, clock::now()),
            Ok(Grant::Open) => self.pool.ledger().not_opened(),
            Err(_) => {}
        }
    }
}
