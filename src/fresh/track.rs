//! The positions of one server, or of whoever is primary, in the order of the questions for them. Read without a lock.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::clock::Duration;
use crate::position::{Flushed, Lsn};

/// Most answers that are kept. What is older is answered with the oldest of them, which is further than it had to be.
const KEPT: usize = 1024;

/// A moment among the questions: how many had been asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub(super) u64);

/// Questions for a position, numbered, and their answers.
///
/// The answer to a question that was asked after a moment is an upper bound of all that had been written, or replayed, at
/// that moment: a question before it says nothing, even if its answer comes later.
#[derive(Debug)]
pub struct Track {
    asked: AtomicU64,
    /// The last question that is answered: all before it count as answered with it.
    answered: AtomicU64,
    /// The answers, by number.
    answers: Box<[AtomicU64]>,
    /// Since when these positions are known, in nanoseconds since some moment, from 1; 0: it is not known.
    since: Box<[AtomicU64]>,
    /// What was on disk by the last answer that said so,
    flushed: AtomicU64,
    /// in how many nanoseconds what was acknowledged is there,
    within: AtomicU64,
    /// and when it was asked for, as in `since`.
    flushed_sent: AtomicU64,
}

impl Default for Track {
    fn default() -> Self {
        Self {
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            answers: (0..KEPT).map(|_| AtomicU64::new(0)).collect(),
            since: (0..KEPT).map(|_| AtomicU64::new(0)).collect(),
            flushed: AtomicU64::new(0),
            within: AtomicU64::new(0),
            flushed_sent: AtomicU64::new(0),
        }
    }
}

impl Track {
    /// This moment.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Ticket {
        Ticket(self.asked.load(SeqCst))
    }

    /// A question is about to be sent. Returns its number.
    pub fn ask(&self) -> u64 {
        self.asked.fetch_add(1, SeqCst) + 1
    }

    /// Its answer. Not to be called by two at once. One that was overtaken says nothing new.
    pub fn answer(&self, number: u64, position: Lsn) {
        self.fill(number, position, 0);
    }

    /// The same, of a question that was sent and answered at these times, with what is on disk: a primary may have written what nobody
    /// waits for, and which is not on disk, and on no replica, for many seconds.
    pub fn answer_flushed(&self, number: u64, position: Lsn, times: [Duration; 2], flushed: Flushed) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4);
        let [sent, heard] = times.map(|time| nanoseconds(time) + 1);
        let answered = self.answered.load(SeqCst);
        let before = self.since(answered).filter(|_| self.last() == Some(position));
        // As long as nothing is written, nothing is committed.
        let since = before.map(|since| since.load(SeqCst)).filter(|since| *since > 0).unwrap_or(heard);
        // In this order: who sees the time sees at least what belongs to it.
        self.within.store(nanoseconds(flushed.within), SeqCst);
        self.flushed.store(flushed.lsn.0, SeqCst);
        self.flushed_sent.store(sent, SeqCst);
        self.fill(number, position, since);
    }

    fn fill(&self, number: u64, position: Lsn, since: u64) {
        let before = self.answered.load(SeqCst);
        if number <= before {
            return;
        }
        let first = (before + 1).max(number.saturating_sub(KEPT as u64 - 1));
        for number in first..=number {
            if let (Some(slot), Some(known)) = (self.slot(number), self.since(number)) {
                known.store(since, SeqCst);
                slot.store(position.0, SeqCst);
            }
        }
        self.answered.store(number, SeqCst);
    }

    /// An upper bound of what had been acknowledged by that moment: the position by the first answer to a question asked after it, and
    /// later, if that is less, what was on disk when all that had been acknowledged was. None: there is no answer yet.
    #[must_use]
    pub fn after(&self, moment: Ticket) -> Option<Lsn> {
        self.bound(moment).map(|(bound, _)| bound)
    }

    /// The same; and whether it will not be less later.
    #[must_use]
    pub fn bound(&self, moment: Ticket) -> Option<(Lsn, bool)> {
        let answered = self.answered.load(SeqCst);
        let number = (moment.0 + 1).max((answered + 1).saturating_sub(KEPT as u64));
        if number > answered {
            return None;
        }
        // One that is written over at this moment is further.
        let position = Lsn(self.slot(number)?.load(SeqCst));
        let since = self.since(number)?.load(SeqCst);
        if since == 0 {
            return Some((position, true));
        }
        let last = self.flushed_sent.load(SeqCst);
        let over = last >= since.saturating_add(self.within.load(SeqCst));
        let flushed = Lsn(self.flushed.load(SeqCst));
        Some(if over { (position.min(flushed), true) } else { (position, false) })
    }

    /// The last answer.
    #[must_use]
    pub fn last(&self) -> Option<Lsn> {
        let answered = self.answered.load(SeqCst);
        (answered > 0).then(|| self.slot(answered)).flatten().map(|slot| Lsn(slot.load(SeqCst)))
    }

    fn since(&self, number: u64) -> Option<&AtomicU64> {
        self.since.get(usize::try_from(number % KEPT as u64).ok()?)
    }

    fn slot(&self, number: u64) -> Option<&AtomicU64> {
        self.answers.get(usize::try_from(number % KEPT as u64).ok()?)
    }
}
