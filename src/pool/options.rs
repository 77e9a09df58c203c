//! What the operator chooses about a pool.

use std::time::Duration;

/// When a server connection goes back to the pool. PgBouncer's words and meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// When the transaction ends.
    #[default]
    Transaction,
    /// After each statement; transactions of more than one statement are refused.
    Statement,
}

/// Limits of one pool: one (database, user, server).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// When a server connection goes back.
    pub mode: PoolMode,
    /// Most server connections at once.
    pub size: usize,
    /// Server connections that are kept open once the pool has been used.
    pub min_size: usize,
    /// Longest that a client waits for a server connection before it gets an error.
    pub query_wait_timeout: Duration,
    /// Most clients that may wait at once; the next one gets an error immediately.
    pub max_waiting: usize,
    /// A server connection unused for this long is closed (not below `min_size`).
    pub server_idle_timeout: Duration,
    /// A server connection older than this is closed when it is free.
    pub server_lifetime: Duration,
    /// Most prepared statements of clients on one server connection; the one that was not used for longest makes room.
    pub max_prepared_statements: usize,
    /// Most short reads of several clients that are under way at once on a server connection that they share; 1: none share.
    pub max_shared_reads: usize,
    /// Longest that a read waits for a replica to replay what it has to see; zero: not at all.
    pub freshness_wait: Duration,
    /// Longest that connecting and logging in to a server may take.
    pub server_connect_timeout: Duration,
    /// First pause after a failed login; it doubles, with jitter, up to `login_retry_max`.
    pub login_retry: Duration,
    /// Longest pause between failed logins.
    pub login_retry_max: Duration,
    /// Most logins to the server in a second, over all pools; 0: as many as come.
    pub login_rate: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: PoolMode::Transaction,
            size: 20,
            min_size: 0,
            query_wait_timeout: Duration::from_secs(120),
            max_waiting: 10_000,
            server_idle_timeout: Duration::from_secs(600),
            server_lifetime: Duration::from_secs(3600),
            max_prepared_statements: 200,
            max_shared_reads: 32,
            freshness_wait: Duration::from_millis(5),
            server_connect_timeout: Duration::from_secs(5),
            login_retry: Duration::from_millis(100),
            login_retry_max: Duration::from_secs(5),
            login_rate: 200,
        }
    }
}
