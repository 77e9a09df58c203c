//! The positions of one server, or of whoever is primary, in the order of the questions for them. Read without a lock.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::position::Lsn;

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
}

impl Default for Track {
    fn default() -> Self {
        Self {
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            answers: (0..KEPT).map(|_| AtomicU64::new(0)).collect(),
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
        let before = self.answered.load(SeqCst);
        if number <= before {
            return;
        }
        let first = (before + 1).max(number.saturating_sub(KEPT as u64 - 1));
        for number in first..=number {
            if let Some(slot) = self.slot(number) {
                slot.store(position.0, SeqCst);
            }
        }
        self.answered.store(number, SeqCst);
    }

    /// The position by the first answer to a question asked after that moment; none: there is none yet.
    #[must_use]
    pub fn after(&self, moment: Ticket) -> Option<Lsn> {
        let answered = self.answered.load(SeqCst);
        let number = (moment.0 + 1).max((answered + 1).saturating_sub(KEPT as u64));
        // One that is written over at this moment is further.
        (number <= answered).then(|| self.slot(number)).flatten().map(|slot| Lsn(slot.load(SeqCst)))
    }

    /// The last answer.
    #[must_use]
    pub fn last(&self) -> Option<Lsn> {
        let answered = self.answered.load(SeqCst);
        (answered > 0).then(|| self.slot(answered)).flatten().map(|slot| Lsn(slot.load(SeqCst)))
    }

    fn slot(&self, number: u64) -> Option<&AtomicU64> {
        self.answers.get(usize::try_from(number % KEPT as u64).ok()?)
    }
}
