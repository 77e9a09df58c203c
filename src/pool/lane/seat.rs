//! A client's place on a lane: where its answer is put, and who is told of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// A buffer larger than this is not kept for the next answer.
const KEEP_CAPACITY: usize = 1024;

/// Why a unit has to run again, on a server connection of its client's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// The server refused it: the error is the client's to see, in the words and the order that it would see alone.
    Error,
    /// Its answer is too long to be kept.
    Large,
    /// It took too long.
    Slow,
    /// One before it took too long, or the connection was given up.
    Behind,
    /// It was not sent, for want of room; now there is some.
    Room,
    /// The connection broke, or its server is not what it was.
    Lost,
}

/// What has become of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is under way.
    Waits,
    /// Its answer is there.
    Answered,
    /// It has to run again.
    Again(Again),
    /// The client does not want it any more.
    Cancelled,
    /// Nobody knows whether it was carried out: the connection broke.
    Unknown,
}

#[derive(Debug)]
struct State {
    /// Which of the client's units it is about.
    ticket: u64,
    fate: Fate,
    /// It changes something: that its client does not wait for it any more does not undo it.
    changes: bool,
    answer: Vec<u8>,
    waker: Option<Waker>,
}

/// One client's place, on whatever lane its units travel.
#[derive(Debug)]
pub struct Seat(Mutex<State>);

impl Default for Seat {
    fn default() -> Self {
        Self(Mutex::new(State {
            ticket: 0,
            fate: Fate::Answered,
            changes: false,
            answer: Vec::new(),
            waker: None,
        }))
    }
}

impl Seat {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A unit sets out. Returns its ticket: what comes with another is about an earlier one, and counts no more.
    pub(super) fn take(&self) -> u64 {
        let mut state = self.state();
        state.ticket += 1;
        state.fate = Fate::Waits;
        state.changes = false;
        state.ticket
    }

    /// The same, of a unit that changes something: it cannot be cancelled.
    pub fn take_for_good(&self) -> u64 {
        let ticket = self.take();
        self.state().changes = true;
        ticket
    }

    /// Nobody knows whether the unit with that ticket was carried out.
    pub fn unknown(&self, ticket: u64) {
        let mut state = self.state();
        if state.ticket == ticket && state.fate == Fate::Waits {
            state.end(Fate::Unknown);
        }
    }

    /// The unit with that ticket was answered; `answer` gets an empty buffer in exchange.
    pub fn answered(&self, ticket: u64, answer: &mut Vec<u8>) {
        let mut state = self.state();
        if state.ticket == ticket && state.fate == Fate::Waits {
            std::mem::swap(&mut state.answer, answer);
            state.end(Fate::Answered);
        }
        answer.clear();
    }

    /// The unit with that ticket has to run again.
    pub fn again(&self, ticket: u64, why: Again) {
        let mut state = self.state();
        if state.ticket == ticket && state.fate == Fate::Waits {
            state.end(Fate::Again(why));
        }
    }

    /// Whether the unit with that ticket is still wanted.
    pub(super) fn waits(&self, ticket: u64) -> bool {
        let state = self.state();
        state.ticket == ticket && state.fate == Fate::Waits
    }

    /// Whether a unit is under way.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.state().fate == Fate::Waits
    }

    /// The client wants its statement cancelled. It only reads, so it is enough that nobody waits for it any more; what
    /// the server still makes of it reaches nobody.
    pub fn cancel(&self) {
        let mut state = self.state();
        if state.fate == Fate::Waits && !state.changes {
            state.end(Fate::Cancelled);
        }
    }

    /// What has become of the unit; if it is still under way, the task is woken when that changes.
    pub fn look(&self, cx: &mut Context<'_>, answer: &mut Vec<u8>) -> Fate {
        let mut state = self.state();
        match state.fate {
            Fate::Waits if state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) => {}
            Fate::Waits => state.waker = Some(cx.waker().clone()),
            Fate::Answered => std::mem::swap(&mut state.answer, answer),
            Fate::Again(_) | Fate::Cancelled | Fate::Unknown => {}
        }
        state.fate
    }

    /// The answer has been read: its buffer is kept for the next, unless it is large.
    pub fn give_back(&self, mut answer: Vec<u8>) {
        if answer.capacity() <= KEEP_CAPACITY {
            answer.clear();
            self.state().answer = answer;
        }
    }
}

impl State {
    fn end(&mut self, fate: Fate) {
        self.fate = fate;
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_an_earlier_unit_does_not_count() {
        let seat = Seat::default();
        let mut cx = Context::from_waker(Waker::noop());
        let (mut answer, mut heard) = (b"late".to_vec(), Vec::new());
        let first = seat.take();
        seat.cancel();
        assert_eq!(seat.look(&mut cx, &mut heard), Fate::Cancelled);
        seat.answered(first, &mut answer);
        let second = seat.take();
        assert!(seat.waits(second) && !seat.waits(first));
        answer.extend_from_slice(b"of the first");
        seat.answered(first, &mut answer);
        seat.again(first, Again::Slow);
        assert_eq!((seat.look(&mut cx, &mut heard), &heard[..]), (Fate::Waits, &b""[..]));
        answer.extend_from_slice(b"right");
        seat.answered(second, &mut answer);
        assert_eq!((seat.look(&mut cx, &mut heard), &heard[..]), (Fate::Answered, &b"right"[..]));
        assert!(answer.is_empty(), "the lane goes on with an empty buffer");
        // A cancel that comes too late has no effect.
        seat.cancel();
        assert_eq!(seat.look(&mut cx, &mut Vec::new()), Fate::Answered);
    }
}
