//! What the operator chooses about clients.

use std::time::Duration;

use crate::monitor::InboxLimits;
use crate::net::WINDOW;

/// Limits for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most clients at once; the next one gets 53300.
    pub max_connections: usize,
    /// Longest from connecting to being logged in.
    pub login_timeout: Duration,
    /// A client that sends nothing for this long outside a transaction is closed; zero: never.
    pub idle_timeout: Duration,
    /// A client that sends nothing for this long within a transaction is closed; zero: never.
    pub idle_in_transaction_timeout: Duration,
    /// When reads are run again.
    pub retry: Retry,
    /// What is kept of a client's prepared statements.
    pub statements: StatementLimits,
    /// What is kept of a client's settings.
    pub settings: SettingLimits,
    /// What is kept of the notifications that a client has not read.
    pub inbox: InboxLimits,
}

/// Most that is kept of one client's prepared statements. One beyond it is used on the primary alone, on a connection that
/// the client keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementLimits {
    /// Statements with a name.
    pub count: usize,
    /// Bytes of their texts, with the types of their parameters.
    pub bytes: usize,
}

/// Most that is kept of one client's settings, and of names that may be those of its own settings. Beyond it the client keeps
/// its connection to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingLimits {
    /// Settings.
    pub count: usize,
    /// Bytes of their names and values.
    pub bytes: usize,
}

/// How often reads are run again that a replica cancelled or lost, and what is kept for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Of a hundred reads, how many may.
    pub percent: u8,
    /// How many a second may in any case.
    pub floor: u32,
    /// Most bytes of a client's unanswered reads that are kept; a longer one goes to the primary.
    pub buffer: usize,
}

/// What becomes of reads while no replica may take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplicaDown {
    /// They go to the primary.
    #[default]
    Primary,
    /// They wait for a replica.
    Wait,
    /// They fail.
    Error,
}

/// The same, with its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackOptions {
    /// What becomes of them.
    pub mode: ReplicaDown,
    /// Most that run on the primary at once; the others wait. 0: all.
    pub most: usize,
    /// Longest that one waits.
    pub wait: Duration,
}

impl Default for FallbackOptions {
    fn default() -> Self {
        Self { mode: ReplicaDown::Primary, most: 0, wait: Duration::from_secs(10) }
    }
}

/// Who may wait for a primary while there is none, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverOptions {
    /// Longest that a unit waits.
    pub wait: Duration,
    /// Most units that wait.
    pub waiting: usize,
    /// Most bytes that these may have together.
    pub bytes: usize,
}

impl Default for FailoverOptions {
    fn default() -> Self {
        Self { wait: Duration::from_secs(30), waiting: 10_000, bytes: 64 * 1024 * 1024 }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            login_timeout: Duration::from_secs(60),
            idle_timeout: Duration::ZERO,
            idle_in_transaction_timeout: Duration::ZERO,
            retry: Retry::default(),
            statements: StatementLimits::default(),
            settings: SettingLimits::default(),
            inbox: InboxLimits { count: 10_000, bytes: 1024 * 1024 },
        }
    }
}

impl Default for StatementLimits {
    fn default() -> Self {
        Self { count: 5_000, bytes: 1024 * 1024 }
    }
}

impl Default for SettingLimits {
    fn default() -> Self {
        Self { count: 64, bytes: 16 * 1024 }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { percent: 2, floor: 10, buffer: WINDOW }
    }
}
