//! What is counted per database: units, times, bytes, errors, clients, pins.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::metrics::{Gauge, Histogram};

use super::{Registry, Spread, Tally, table};

/// Where a unit went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetLabel {
    /// The primary.
    Primary,
    /// A replica.
    Replica,
    /// Nowhere: pgweir answered itself, or refused.
    None,
}

impl TargetLabel {
    /// Its place in arrays, and its name.
    fn slot(self) -> (usize, &'static str) {
        match self {
            Self::Primary => (0, "primary"),
            Self::Replica => (1, "replica"),
            Self::None => (2, "none"),
        }
    }
}

/// What became of a prepared statement on a server connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PreparedWhat {
    /// pgweir prepared it where it was lacking.
    Supplied,
    /// A client prepared what was there.
    Shared,
    /// It made room for another.
    Evicted,
    /// A server was asked whether it has it as its client was told.
    Asked,
}

/// What became of a read that went on a connection together with others'.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SharedRead {
    /// It was answered.
    Answered,
    /// Its client cancelled it.
    Cancelled,
    /// It ran again alone: the server refused it.
    Error,
    /// The same: its answer was long.
    Large,
    /// The same: it took long.
    Slow,
    /// The same: one before it took long, or the connection was given up.
    Behind,
    /// The same: the connection broke.
    Lost,
}

impl SharedRead {
    /// Its place in arrays, and its name.
    fn slot(self) -> (usize, &'static str) {
        match self {
            Self::Answered => (0, "answered"),
            Self::Cancelled => (1, "cancelled"),
            Self::Error => (2, "error"),
            Self::Large => (3, "large"),
            Self::Slow => (4, "slow"),
            Self::Behind => (5, "behind"),
            Self::Lost => (6, "lost"),
        }
    }
}

/// Why a read is run again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RerunCause {
    /// The replica refused it: it is no read.
    Refused,
    /// The replica did not know an object in it: it may be behind a change of definitions.
    Behind,
    /// The replica cancelled it for the sake of its replay.
    Cancelled,
    /// The connection broke.
    Lost,
    /// What was taken for the primary refused to write.
    Demoted,
    /// A prepared statement had outlived a change of its tables.
    Outlived,
}

impl RerunCause {
    /// Its name.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Behind => "behind",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::Demoted => "demoted",
            Self::Outlived => "outlived",
        }
    }
}

/// Which way bytes went, seen from pgweir.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Received from a client.
    ClientIn,
    /// Sent to a client.
    ClientOut,
    /// Received from a server.
    ServerIn,
    /// Sent to a server.
    ServerOut,
}

/// Who raised an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// PostgreSQL; pgweir passed it on.
    Server,
    /// pgweir itself.
    Pgweir,
}

/// Most reason codes there can be. Codes beyond it are not counted; a debug build panics.
const REASONS: usize = 128;

/// The classes of SQLSTATE (PostgreSQL docs, appendix A), and what everything else is called.
const CLASSES: [&str; 46] = [
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23",
    "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44",
    "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX", "PW", "other",
];

/// A counter that appears in the output once something was counted.
type Lazy = OnceLock<Tally>;

/// The handles of one database. Every method is an atomic add or two; the first use of a label registers it.
pub struct DatabaseMetrics {
    registry: Arc<Registry>,
    name: Box<str>,
    units: [Box<[Lazy]>; 3],
    query_time: [OnceLock<Arc<Spread>>; 3],
    wait_time: Histogram,
    fresh_wait: Histogram,
    read_age: Arc<Spread>,
    bytes: [Tally; 4],
    errors: [Box<[Lazy]>; 2],
    clients: Gauge,
    listeners: Gauge,
    pins: Box<[Lazy]>,
    would_move: Box<[Lazy]>,
    rules: Box<[Lazy]>,
    shared_reads: [Lazy; 7],
}

impl DatabaseMetrics {
    pub(super) fn new(registry: Arc<Registry>, name: &str) -> Self {
        let slots = |count: usize| -> Box<[Lazy]> { (0..count).map(|_| Lazy::new()).collect() };
        let bytes = |direction: &str| registry.tally(&table::BYTES, &[name, direction]);
        Self {
            name: name.into(),
            units: [slots(REASONS), slots(REASONS), slots(REASONS)],
            query_time: Default::default(),
            wait_time: registry.histogram(&table::WAIT_TIME, &[name]),
            fresh_wait: registry.histogram(&table::FRESH_WAIT, &[name]),
            read_age: registry.spread(&table::READ_AGE, &[name]),
            bytes: [bytes("client_in"), bytes("client_out"), bytes("server_in"), bytes("server_out")],
            errors: [slots(CLASSES.len()), slots(CLASSES.len())],
            clients: registry.gauge(&table::CLIENTS, &[name]),
            listeners: registry.gauge(&table::LISTENERS, &[name]),
            pins: slots(REASONS),
            would_move: slots(REASONS),
            rules: slots(64),
            shared_reads: Default::default(),
            registry,
        }
    }

    /// A unit went to `target` for the reason of that index (its place among the reasons) and code.
    pub fn unit(&self, target: TargetLabel, reason_index: usize, reason_code: &'static str) {
        let (place, target) = target.slot();
        let labels = [&self.name, target, reason_code];
        self.count(self.units[place].get(reason_index), &table::UNITS, &labels);
    }

    /// A unit runs again on `target`; on none, it would have if more reruns were allowed.
    pub fn rerun(&self, cause: RerunCause, target: TargetLabel) {
        let labels = [&self.name, cause.code(), target.slot().1];
        self.registry.counter(&table::RERUNS, &labels).increment(1);
    }

    /// So many units of so many bytes wait for a primary.
    pub fn failover_waiting(&self, units: usize, bytes: usize) {
        self.registry.gauge(&table::FAILOVER_WAITING, &[&self.name]).set(units as f64);
        self.registry.gauge(&table::FAILOVER_WAITING_BYTES, &[&self.name]).set(bytes as f64);
    }

    /// A unit waits for a primary no more.
    pub fn failover_waited(&self, outcome: &'static str) {
        self.registry.counter(&table::FAILOVER_WAITS, &[&self.name, outcome]).increment(1);
    }

    /// So many reads more run on the primary for want of a replica, or fewer.
    pub fn fallback_runs(&self, more: f64) {
        self.registry.gauge(&table::FALLBACK_READS, &[&self.name]).increment(more);
    }

    /// So many more wait, or fewer.
    pub fn fallback_waits(&self, more: f64) {
        self.registry.gauge(&table::FALLBACK_WAITING, &[&self.name]).increment(more);
    }

    /// A read waits for a replica no more, or was not let wait.
    pub fn fallback_ended(&self, outcome: &'static str) {
        self.registry.counter(&table::FALLBACK_WAITS, &[&self.name, outcome]).increment(1);
    }

    /// A replica refused what was taken for a read.
    pub fn learned(&self) {
        self.registry.counter(&table::LEARNED, &[&self.name]).increment(1);
    }

    /// A unit ran for longer than that rule allows.
    pub fn timed_out(&self, rule: &str) {
        self.registry.counter(&table::TIMED_OUT, &[&self.name, rule]).increment(1);
    }

    /// A read that went on a connection together with others' was answered, or was not.
    pub fn shared_read(&self, outcome: SharedRead) {
        let (place, outcome) = outcome.slot();
        self.count(self.shared_reads.get(place), &table::SHARED_READS, &[&self.name, outcome]);
    }

    /// A prepared statement was supplied to a server connection, found there, or evicted from it.
    pub fn prepared(&self, what: PreparedWhat) {
        let what = match what {
            PreparedWhat::Supplied => "supplied",
            PreparedWhat::Shared => "shared",
            PreparedWhat::Evicted => "evicted",
            PreparedWhat::Asked => "asked",
        };
        self.registry.counter(&table::PREPARES, &[&self.name, what]).increment(1);
    }

    /// How many units went to `target` so far. For what happens seldom: it adds up as many numbers as there are reasons.
    #[must_use]
    pub fn units(&self, target: TargetLabel) -> u64 {
        let (place, _) = target.slot();
        self.units[place].iter().filter_map(OnceLock::get).map(Tally::total).sum()
    }

    /// The answer to a unit is complete.
    pub fn query_time(&self, target: TargetLabel, time: Duration) {
        let (place, target) = target.slot();
        let register = || self.registry.spread(&table::QUERY_TIME, &[&self.name, target]);
        self.query_time[place].get_or_init(register).record(time);
    }

    /// A unit that had to wait got its server connection, or gave up.
    pub fn wait_time(&self, time: Duration) {
        self.wait_time.record(time);
    }

    /// A read waited so long for a replica to become fresh enough.
    pub fn fresh_wait(&self, time: Duration) {
        self.fresh_wait.record(time);
    }

    /// A replica answered a unit with data of that age.
    pub fn read_age(&self, age: Duration) {
        self.read_age.record(age);
    }

    /// Bytes were moved.
    pub fn bytes(&self, direction: Direction, count: u64) {
        let place = match direction {
            Direction::ClientIn => 0,
            Direction::ClientOut => 1,
            Direction::ServerIn => 2,
            Direction::ServerOut => 3,
        };
        self.bytes[place].add(count);
    }

    /// A client was sent an error.
    pub fn error(&self, sqlstate: &[u8; 5], origin: Origin) {
        let (place, origin) = match origin {
            Origin::Server => (0, "server"),
            Origin::Pgweir => (1, "pgweir"),
        };
        let known = CLASSES.iter().position(|class| class.as_bytes() == &sqlstate[..2]);
        let index = known.unwrap_or(CLASSES.len() - 1);
        self.count(self.errors[place].get(index), &table::ERRORS, &[&self.name, origin, CLASSES[index]]);
    }

    /// Clients logged in: one up at login, one down at goodbye.
    pub fn clients(&self) -> &Gauge {
        &self.clients
    }

    /// Clients that listen without a pin: one up and one down as they begin and end.
    pub fn listeners(&self) -> &Gauge {
        &self.listeners
    }

    /// A server connection was pinned by a statement with that reason.
    pub fn pin(&self, reason_index: usize, reason_code: &'static str) {
        self.count(self.pins.get(reason_index), &table::PINS, &[&self.name, reason_code]);
    }

    /// A unit ran on the primary only because the database is being observed; the reason is what it would have had.
    pub fn would_move(&self, reason_index: usize, reason_code: &'static str) {
        self.count(self.would_move.get(reason_index), &table::WOULD_MOVE, &[&self.name, reason_code]);
    }

    /// The rule at that place, with that name, decided.
    pub fn rule_hit(&self, place: u8, name: &str) {
        self.count(self.rules.get(usize::from(place)), &table::RULE_HITS, &[&self.name, name]);
    }

    fn count(&self, slot: Option<&Lazy>, row: &table::Row, labels: &[&str]) {
        debug_assert!(slot.is_some(), "more reasons than slots for {}", row.name);
        if let Some(slot) = slot {
            slot.get_or_init(|| self.registry.tally(row, labels)).add(1);
        }
    }
}
