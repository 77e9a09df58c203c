//! Who said what, for clients whose own connections listen: a server tells them of its process, and not of the client that this one
//! worked for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{Duration, Instant};

/// What was said by whom is remembered for so many notifications,
pub(super) const MOST: usize = 1_000;

/// and for so long.
pub(super) const LONGEST_WAY: Duration = Duration::from_secs(10);

/// A notification that a client has sent.
#[derive(Debug)]
struct Said {
    /// Its place in the order in which they were sent, from 1 on.
    number: u64,
    /// The server's process that carries it out.
    server: u32,
    channel: Box<str>,
    payload: Box<str>,
    client: u32,
    /// It may have been rolled back.
    void: bool,
    since: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    hearers: usize,
    last: u64,
    said: VecDeque<Said>,
}

/// What was said last in one database, as long as there is anybody to hear it.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Inner>);

impl Log {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client is about to say that on that channel, by that process of the server.
    pub(super) fn note(&self, client: u32, server: u32, channel: &str, payload: &str, since: Instant) {
        let mut inner = self.inner();
        if inner.hearers == 0 {
            return;
        }
        while inner.said.len() >= MOST || inner.said.front().is_some_and(|said| said.is_late(since)) {
            inner.said.pop_front();
        }
        inner.last += 1;
        let (number, channel, payload) = (inner.last, channel.into(), payload.into());
        inner.said.push_back(Said { number, server, channel, payload, client, void: false, since });
    }

    /// What a client has said since then was rolled back, or part of it was.
    pub(super) fn doubt(&self, client: u32, since: Instant) {
        let mut inner = self.inner();
        for said in inner.said.iter_mut().filter(|said| said.client == client && said.since >= since) {
            said.void = true;
        }
    }
}

impl Said {
    fn is_late(&self, now: Instant) -> bool {
        now.duration_since(self.since) > LONGEST_WAY
    }
}

/// A client that listens on its own connection, and how far it has heard what was said by each process of the server: from one
/// process all comes in the order in which it was said there.
#[derive(Debug)]
pub struct Hearer {
    log: Arc<Log>,
    client: u32,
    heard: HashMap<u32, u64>,
}

impl Hearer {
    pub(super) fn new(log: Arc<Log>, client: u32) -> Self {
        log.inner().hearers += 1;
        Self { log, client, heard: HashMap::new() }
    }

    /// The number of the client that has said that by that process of the server, if that is known. Each counts once.
    pub fn author(&mut self, server: u32, channel: &[u8], payload: &[u8], now: Instant) -> Option<u32> {
        let inner = self.log.inner();
        let before = self.heard.get(&server).copied().unwrap_or(0);
        let is = |said: &&Said| {
            said.number > before
                && said.server == server
                // What it says itself, its own connection says.
                && said.client != self.client
                && said.channel.as_bytes() == channel
                && said.payload.as_bytes() == payload
                && !said.is_late(now)
        };
        let certain = inner.said.iter().find(|said| is(said) && !said.void);
        let said = certain.or_else(|| inner.said.iter().find(is))?;
        if self.heard.len() >= MOST {
            let oldest = inner.said.front().map_or(0, |said| said.number);
            self.heard.retain(|_, heard| *heard >= oldest);
        }
        self.heard.insert(server, said.number);
        Some(said.client)
    }
}

impl Drop for Hearer {
    fn drop(&mut self) {
        let mut inner = self.log.inner();
        inner.hearers -= 1;
        if inner.hearers == 0 {
            inner.said.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counts_once_for_each_hearer_and_not_for_long() {
        let (log, now) = (Arc::new(Log::default()), crate::clock::now());
        log.note(9, 1, "ch", "before anybody hears", now);
        let [mut one, mut other] = [5, 6].map(|client| Hearer::new(log.clone(), client));
        let author = |hearer: &mut Hearer, server, payload: &str| {
            hearer.author(server, b"ch", payload.as_bytes(), now)
        };
        assert_eq!(author(&mut one, 1, "before anybody hears"), None);
        for (client, server, payload) in [(7, 1, "a"), (8, 1, "a"), (7, 2, "b"), (6, 1, "c"), (7, 1, "d")] {
            log.note(client, server, "ch", payload, now);
        }
        assert_eq!((author(&mut one, 2, "a"), author(&mut one, 1, "b")), (None, None));
        assert_eq!((author(&mut one, 2, "b"), author(&mut one, 1, "a")), (Some(7), Some(7)));
        assert_eq!((author(&mut one, 1, "a"), author(&mut one, 1, "a")), (Some(8), None));
        assert_eq!((author(&mut other, 1, "c"), author(&mut other, 1, "d")), (None, Some(7)));
        log.note(7, 3, "ch", "e", now);
        log.doubt(7, now);
        log.note(8, 3, "ch", "e", now);
        assert_eq!((author(&mut other, 3, "e"), author(&mut other, 3, "e")), (Some(8), None));
        assert_eq!(author(&mut one, 3, "e"), Some(8));
        // What was not heard before that was rolled back.
        assert_eq!(author(&mut other, 1, "a"), None);
        let later = now + LONGEST_WAY + Duration::from_secs(1);
        assert_eq!((one.author(1, b"ch", b"d", later), author(&mut one, 1, "d")), (None, Some(7)));
        drop((one, other));
        assert!(log.inner().said.is_empty());
    }
}
