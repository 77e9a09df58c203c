//! Which connections are idle, leased or being opened, and who waits: the only mover between these places. Pure: it
//! opens, closes and waits for nothing itself.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::server::Parameters;

/// Something that serves only clients with certain parameters.
pub(super) trait Suits {
    fn suits(&self, wants: &Arc<Parameters>) -> bool;

    /// Whether a client was the last to draw from a sequence on it, in that turn.
    fn is_of(&self, turn: u64) -> bool;
}

/// What somebody who asked gets.
#[derive(Debug)]
pub(super) enum Grant<T> {
    /// A connection, counted as leased.
    Server(T),
    /// The right to open one, counted as opening.
    Open,
}

/// Somebody in the queue.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    pub(super) wants: Arc<Parameters>,
    pub(super) sender: oneshot::Sender<Grant<T>>,
}

/// How many connections are where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Free.
    pub idle: usize,
    /// In use by a client.
    pub leased: usize,
    /// Being opened.
    pub opening: usize,
    /// Clients in the queue.
    pub waiting: usize,
}

#[derive(Debug)]
pub(super) struct Ledger<T> {
    /// Last in, first out: what was used last is warm, and what is not needed grows old at the front.
    idle: Vec<T>,
    leased: usize,
    opening: usize,
    waiting: VecDeque<Waiter<T>>,
    size: usize,
    max_waiting: usize,
}

impl<T: Suits> Ledger<T> {
    pub(super) fn new(size: usize, max_waiting: usize) -> Self {
        Self { idle: Vec::new(), leased: 0, opening: 0, waiting: VecDeque::new(), size, max_waiting }
    }

    fn total(&self) -> usize {
        self.idle.len() + self.leased + self.opening
    }

    fn check(&self) {
        debug_assert!(self.total() <= self.size, "{:?}", self.counts());
    }

    pub(super) fn counts(&self) -> Counts {
        let waiting = self.waiting.iter().filter(|waiter| !waiter.sender.is_closed()).count();
        Counts { idle: self.idle.len(), leased: self.leased, opening: self.opening, waiting }
    }

    /// The idle connection that was used last among those that suit, or the one of that turn if there is one; it counts as
    /// leased from here on. Nobody jumps the queue.
    pub(super) fn take_idle(&mut self, wants: &Arc<Parameters>, turn: Option<u64>) -> Option<T> {
        if self.waiting.iter().any(|waiter| !waiter.sender.is_closed()) {
            return None;
        }
        let of = turn
            .and_then(|turn| self.idle.iter().rposition(|server| server.is_of(turn) && server.suits(wants)));
        let at = of.or_else(|| self.idle.iter().rposition(|server| server.suits(wants)))?;
        self.leased += 1;
        Some(self.idle.remove(at))
    }

    /// What can be granted at once, and an idle connection that has to be closed to make room for it.
    pub(super) fn ask(&mut self, wants: &Arc<Parameters>) -> Option<(Grant<T>, Option<T>)> {
        self.waiting.retain(|waiter| !waiter.sender.is_closed());
        if !self.waiting.is_empty() {
            return None;
        }
        if let Some(server) = self.take_idle(wants, None) {
            return Some((Grant::Server(server), None));
        }
        let evicted = if self.total() >= self.size {
            if self.idle.is_empty() {
                return None;
            }
            Some(self.idle.remove(0))
        } else {
            None
        };
        self.opening += 1;
        self.check();
        Some((Grant::Open, evicted))
    }

    /// Takes a place at the end of the queue.
    pub(super) fn wait(&mut self, waiter: Waiter<T>) -> Result<(), usize> {
        if self.waiting.len() >= self.max_waiting {
            return Err(self.waiting.len());
        }
        self.waiting.push_back(waiter);
        Ok(())
    }

    /// A leased connection comes back: to the first in the queue, else it is idle. One that does not suit the first is
    /// given out to be closed, and the first may open another.
    pub(super) fn put_back(&mut self, mut server: T) -> Option<T> {
        while let Some(waiter) = self.waiting.pop_front() {
            if server.suits(&waiter.wants) {
                match waiter.sender.send(Grant::Server(server)) {
                    Ok(()) => return None,
                    Err(Grant::Server(back)) => server = back,
                    Err(Grant::Open) => return None,
                }
            } else if waiter.sender.send(Grant::Open).is_ok() {
                self.leased -= 1;
                self.opening += 1;
                return Some(server);
            }
        }
        self.leased -= 1;
        self.idle.push(server);
        self.check();
        None
    }

    /// A leased connection was closed.
    pub(super) fn retire(&mut self) {
        self.leased -= 1;
        self.grant_opening();
    }

    /// A connection that was being opened is open, and leased.
    pub(super) fn opened(&mut self) {
        self.opening -= 1;
        self.leased += 1;
        self.check();
    }

    /// A connection could not be opened.
    pub(super) fn not_opened(&mut self) {
        self.opening -= 1;
        self.grant_opening();
    }

    /// There is room for one more connection: the first in the queue may open it.
    fn grant_opening(&mut self) {
        while self.total() < self.size {
            let Some(waiter) = self.waiting.pop_front() else { break };
            if waiter.sender.send(Grant::Open).is_ok() {
                self.opening += 1;
                break;
            }
        }
        self.check();
    }

    /// Takes out the idle connections that `is_due` picks, from the oldest on; `is_due` is told how many would be left.
    pub(super) fn take_due(&mut self, mut is_due: impl FnMut(&T, usize) -> bool) -> Vec<T> {
        let mut left = self.total();
        let (due, keep) = std::mem::take(&mut self.idle).into_iter().partition(|server| {
            let due = is_due(server, left);
            left -= usize::from(due);
            due
        });
        self.idle = keep;
        due
    }

    /// The right to open one connection for stock, if there are fewer than `wanted` and nobody waits.
    pub(super) fn stock(&mut self, wanted: usize) -> bool {
        let short = self.total() < wanted.min(self.size) && self.waiting.is_empty();
        self.opening += usize::from(short);
        short
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Suits for u8 {
        fn suits(&self, wants: &Arc<Parameters>) -> bool {
            wants.iter().next().is_none_or(|(_, value)| value == self.to_string())
        }

        fn is_of(&self, turn: u64) -> bool {
            turn == u64::from(*self)
        }
    }

    fn wants(kind: u8) -> Arc<Parameters> {
        Arc::new(Parameters::new(&[("kind".to_owned(), kind.to_string())]))
    }

    #[test]
    fn first_come_first_served() {
        let mut ledger: Ledger<u8> = Ledger::new(1, 2);
        assert!(matches!(ledger.ask(&wants(1)), Some((Grant::Open, None))));
        ledger.opened();
        let mut queue = Vec::new();
        for _ in 0..2 {
            assert!(ledger.ask(&wants(1)).is_none());
            let (sender, receiver) = oneshot::channel();
            ledger.wait(Waiter { wants: wants(1), sender }).unwrap();
            queue.push(receiver);
        }
        let (sender, _receiver) = oneshot::channel();
        assert_eq!(ledger.wait(Waiter { wants: wants(1), sender }), Err(2));
        assert!(ledger.put_back(1).is_none());
        assert!(matches!(queue[0].try_recv(), Ok(Grant::Server(1))));
        assert!(queue[1].try_recv().is_err());
        ledger.retire();
        assert!(matches!(queue[1].try_recv(), Ok(Grant::Open)));
        assert_eq!(ledger.counts(), Counts { opening: 1, ..Counts::default() });
    }

    #[test]
    fn what_does_not_suit_makes_room() {
        let mut ledger: Ledger<u8> = Ledger::new(1, 2);
        assert!(ledger.ask(&wants(1)).is_some());
        ledger.opened();
        assert!(ledger.put_back(1).is_none());
        assert!(ledger.take_idle(&wants(2), None).is_none());
        assert!(matches!(ledger.ask(&wants(2)), Some((Grant::Open, Some(1)))));
    }

    proptest! {
        #[test]
        fn counts_hold_whatever_happens(steps in prop::collection::vec((0u8..7, 0u8..2), 0..200)) {
            let mut ledger: Ledger<u8> = Ledger::new(3, 4);
            let (mut leased, mut opening, mut queue) = (Vec::new(), 0usize, VecDeque::new());
            for (step, kind) in steps {
                match step {
                    0 | 1 => match ledger.ask(&wants(kind)) {
                        Some((Grant::Server(server), _)) => leased.push(server),
                        Some((Grant::Open, _)) => opening += 1,
                        None => {
                            let (sender, receiver) = oneshot::channel();
                            if ledger.wait(Waiter { wants: wants(kind), sender }).is_ok() {
                                queue.push_back(receiver);
                            }
                        }
                    },
                    2 if opening > 0 => { opening -= 1; ledger.opened(); leased.push(kind); }
                    3 if opening > 0 => { opening -= 1; ledger.not_opened(); }
                    4 => if let Some(server) = leased.pop() { ledger.put_back(server); },
                    5 if leased.pop().is_some() => ledger.retire(),
                    6 => if let Some(mut receiver) = queue.pop_front() {
                        receiver.close();
                        match receiver.try_recv() {
                            Ok(Grant::Server(server)) => { ledger.put_back(server); }
                            Ok(Grant::Open) => ledger.not_opened(),
                            Err(_) => {}
                        }
                    },
                    _ => {}
                }
                queue.retain_mut(|receiver| match receiver.try_recv() {
                    Ok(Grant::Server(server)) => { leased.push(server); false }
                    Ok(Grant::Open) => { opening += 1; false }
                    Err(_) => true,
                });
                let counts = ledger.counts();
                prop_assert_eq!((counts.leased, counts.opening), (leased.len(), opening));
                prop_assert!(counts.idle + counts.leased + counts.opening <= 3);
                // Nobody waits while something is free.
                prop_assert!(counts.waiting == 0 || counts.idle + counts.leased + counts.opening == 3);
            }
        }
    }
}
