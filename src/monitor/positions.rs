//! How far each server of a cluster has come, as it said itself when it was asked last. Clients read it without a lock.
//!
//! Servers are asked over the connections of their probes: with each probe, and between these whenever somebody wants to
//! know. One question answers all who wanted to know before it was sent.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::clock::{self, Duration, Instant};
use crate::fresh::{History, Progress, Ticket, Track};
use crate::ids::Node;
use crate::position::{Flushed, Lsn, Reached};

/// What stands for a lag that is not known.
const UNKNOWN: u64 = u64::MAX;

/// For those who do not wait a server is asked at most this often, in microseconds.
const AGAIN: u64 = 10_000;

fn nanoseconds(time: Option<Duration>) -> u64 {
    time.map_or(UNKNOWN, |time| u64::try_from(time.as_nanos()).unwrap_or(UNKNOWN - 1))
}

fn known(nanoseconds: &AtomicU64) -> Option<Duration> {
    let nanoseconds = nanoseconds.load(SeqCst);
    (nanoseconds != UNKNOWN).then(|| Duration::from_nanos(nanoseconds))
}

/// The positions of a cluster.
#[derive(Debug)]
pub struct Positions {
    /// Of whoever is primary.
    primary: Track,
    history: Mutex<History>,
    places: Vec<Place>,
    changed: Notify,
    base: Instant,
}

/// The position of one server.
#[derive(Debug)]
struct Place {
    track: Track,
    /// What it has replayed, as a replica; 0: not known.
    replayed: AtomicU64,
    /// What it has received, as a replica; 0: not known.
    received: AtomicU64,
    /// When the question was sent that it has answered last, as a replica, in microseconds since `base`; 0: none.
    asked: AtomicU64,
    /// In nanoseconds, or [`UNKNOWN`].
    lag: AtomicU64,
    /// See [`History::late`]; the same.
    late: AtomicU64,
    /// When it was asked last, in microseconds since `base`.
    sent: AtomicU64,
    /// Counts the times that it became unknown what it has replayed: a server that starts again may have less.
    life: AtomicU32,
    ask: Notify,
}

/// A question for a server's position that is about to be sent.
#[derive(Debug)]
pub(super) struct Question {
    node: Node,
    number: u64,
    /// Its number among those for the primary's; none: the server was not primary then.
    of_primary: Option<u64>,
    sent: Instant,
}

/// A moment at which a session read from a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The replica.
    pub node: Node,
    ticket: Ticket,
    life: u32,
}

impl Positions {
    pub(super) fn new(servers: usize) -> Self {
        let place = |_| Place {
            track: Track::default(),
            replayed: AtomicU64::new(0),
            received: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            lag: AtomicU64::new(UNKNOWN),
            late: AtomicU64::new(UNKNOWN),
            sent: AtomicU64::new(0),
            life: AtomicU32::new(0),
            ask: Notify::new(),
        };
        Self {
            primary: Track::default(),
            history: Mutex::default(),
            places: (0..servers).map(place).collect(),
            changed: Notify::new(),
            base: clock::now(),
        }
    }

    /// The positions of the primary, whoever that is.
    #[must_use]
    pub fn primary(&self) -> &Track {
        &self.primary
    }

    /// How far a replica has come.
    #[must_use]
    pub fn progress(&self, node: Node) -> Progress {
        let place = self.place(node);
        let asked = place.map_or(0, |place| place.asked.load(SeqCst));
        let lsn = |of: fn(&Place) -> &AtomicU64| {
            place.map(|place| Lsn(of(place).load(SeqCst))).filter(|lsn| lsn.0 > 0)
        };
        Progress {
            node,
            asked: (asked > 0).then(|| self.base + Duration::from_micros(asked)),
            received: lsn(|place| &place.received),
            replayed: lsn(|place| &place.replayed),
            lag: self.lag(node),
            late: place.and_then(|place| known(&place.late)),
        }
    }

    /// How old a replica's data was when it was asked last; none: not known.
    #[must_use]
    pub fn lag(&self, node: Node) -> Option<Duration> {
        known(&self.place(node)?.lag)
    }

    /// How many bytes of the log a replica is behind the primary; none: not known.
    #[must_use]
    pub fn lag_bytes(&self, node: Node) -> Option<u64> {
        Some(self.progress(node).replayed?.behind(self.primary.last()?))
    }

    /// A session reads from a replica, which it asked in that [`life`](Self::life), and has got its answer.
    #[must_use]
    pub fn reading(&self, node: Node, life: u32) -> Option<Reading> {
        Some(Reading { node, ticket: self.place(node)?.track.now(), life })
    }

    /// Another number after each time that the server may have started again.
    #[must_use]
    pub fn life(&self, node: Node) -> u32 {
        self.place(node).map_or(0, |place| place.life.load(SeqCst))
    }

    /// What the replica had replayed at most when it was read from. Outer none: nobody will know any more. Inner none: it is
    /// still to be asked.
    #[must_use]
    pub fn most(&self, reading: Reading) -> Option<Option<Lsn>> {
        let place = self.place(reading.node)?;
        (place.life.load(SeqCst) == reading.life).then(|| place.track.after(reading.ticket))
    }

    /// Has a server asked at once. Where PostgreSQL has `WAIT FOR LSN`, a replica could be told to answer when it is there;
    /// until then it is asked again.
    pub fn ask(&self, node: Node) {
        if let Some(place) = self.place(node) {
            place.ask.notify_one();
        }
    }

    /// The same for somebody who does not wait: unless it was asked a moment ago.
    pub fn ask_again(&self, node: Node) {
        let Some(place) = self.place(node) else { return };
        if self.since(clock::now()).saturating_sub(place.sent.load(SeqCst)) >= AGAIN {
            self.ask(node);
        }
    }

    /// In microseconds since `base`.
    fn since(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.base).as_micros()).unwrap_or(u64::MAX)
    }

    /// Ends with the next answer of any server. To be made before looking.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Ends when somebody wants to know a server's position.
    pub(super) async fn asked(&self, node: Node) {
        match self.place(node) {
            Some(place) => place.ask.notified().await,
            None => std::future::pending().await,
        }
    }

    /// A question is about to be sent.
    pub(super) fn question(&self, node: Node, is_primary: bool) -> Option<Question> {
        let place = self.place(node)?;
        let sent = clock::now();
        place.sent.store(self.since(sent), SeqCst);
        let number = place.track.ask();
        let of_primary = is_primary.then(|| self.primary.ask());
        Some(Question { node, number, of_primary, sent })
    }

    /// Its answer. `is_primary` as the cluster sees it now; `in_recovery` as the server itself.
    pub(super) fn answer(&self, question: &Question, is_primary: bool, in_recovery: bool, reached: Reached) {
        let Some(place) = self.place(question.node) else { return };
        match (in_recovery, reached.position) {
            (true, Some(position)) => {
                place.track.answer(question.number, position);
                place.replayed.store(position.0, SeqCst);
                let late = self.history().late(position, clock::now());
                place.late.store(nanoseconds(late), SeqCst);
                let lag = self.history().lag(position, clock::now());
                place.lag.store(nanoseconds(lag), SeqCst);
                place.received.store(reached.received.map_or(0, |lsn| lsn.0), SeqCst);
                // Last: who sees this sees the rest, or what is newer.
                place.asked.store(self.since(question.sent), SeqCst);
            }
            (false, Some(position)) if is_primary => {
                self.forget(question.node);
                if let Some(number) = question.of_primary {
                    self.add(number, question.sent, position, reached.flushed);
                } else {
                    // It has just become the primary: now it can be asked as such.
                    place.ask.notify_one();
                }
            }
            _ => self.forget(question.node),
        }
        self.changed.notify_waiters();
    }

    fn add(&self, number: u64, sent: Instant, position: Lsn, flushed: Option<Flushed>) {
        let mut history = self.history();
        let first = self.primary.last().is_none();
        history.add(sent, position);
        match flushed {
            Some(flushed) => {
                let times = [sent, clock::now()].map(|time| time.saturating_duration_since(self.base));
                self.primary.answer_flushed(number, position, times, flushed);
            }
            None => self.primary.answer(number, position),
        }
        drop(history);
        if first {
            // Only now can it be said how far they are behind.
            self.places.iter().for_each(|place| place.ask.notify_one());
        }
    }

    /// It is not known any more how far a server has come.
    pub(super) fn forget(&self, node: Node) {
        let Some(place) = self.place(node) else { return };
        place.asked.store(0, SeqCst);
        place.replayed.store(0, SeqCst);
        place.received.store(0, SeqCst);
        place.life.fetch_add(1, SeqCst);
        place.lag.store(UNKNOWN, SeqCst);
        place.late.store(UNKNOWN, SeqCst);
    }

    fn place(&self, node: Node) -> Option<&Place> {
        self.places.get(node.index())
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(positions: &Positions, node: u16, primary: bool, position: u64) {
        let question = positions.question(Node(node), primary).unwrap();
        let reached = Reached { position: Some(Lsn(position)), ..Reached::default() };
        positions.answer(&question, primary, !primary, reached);
    }

    #[test]
    fn lag_needs_both_sides() {
        let positions = Positions::new(2);
        tell(&positions, 1, false, 90);
        assert_eq!((positions.lag(Node(1)), positions.lag_bytes(Node(1))), (None, None));
        tell(&positions, 0, true, 100);
        tell(&positions, 1, false, 90);
        assert!(positions.lag(Node(1)).is_some());
        assert_eq!(positions.lag_bytes(Node(1)), Some(10));
        tell(&positions, 1, false, 100);
        assert_eq!((positions.lag(Node(1)), positions.lag_bytes(Node(1))), (Some(Duration::ZERO), Some(0)));
        positions.forget(Node(1));
        assert_eq!((positions.lag(Node(1)), positions.lag_bytes(Node(1))), (None, None));
    }

    #[test]
    fn who_started_again_may_have_less() {
        let positions = Positions::new(2);
        tell(&positions, 1, false, 90);
        let reading = positions.reading(Node(1), positions.life(Node(1))).unwrap();
        assert_eq!(positions.most(reading), Some(None));
        tell(&positions, 1, false, 95);
        assert_eq!(positions.most(reading), Some(Some(Lsn(95))));
        positions.forget(Node(1));
        assert_eq!(positions.most(reading), None);
    }
}
