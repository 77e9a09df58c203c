//! Where the primary was at which time by pgweir's own clock: what turns the distance of a replica into time.

use std::collections::VecDeque;

use crate::clock::{Duration, Instant};
use crate::position::Lsn;

/// Most samples that are kept.
const KEPT: usize = 4096;

/// Samples closer together than this are not worth their place.
const APART: Duration = Duration::from_millis(20);

/// Samples of the primary's position, the oldest first.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<(Instant, Lsn)>,
    last: Option<Lsn>,
}

impl History {
    /// The primary was there at `asked` or later.
    pub fn add(&mut self, asked: Instant, position: Lsn) {
        if self.last.is_some_and(|last| last > position) {
            // Another primary, which did not get everything.
            self.samples.clear();
        }
        self.last = Some(position);
        if self.samples.back().is_some_and(|(before, _)| asked.duration_since(*before) < APART) {
            return;
        }
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back((asked, position));
    }

    /// How old the data of a replica is that had replayed so far by `now`: it has all that the primary had written by the last
    /// sample that it is not behind. None: the primary's position is not known. Nothing, if it is not behind the last one, however
    /// long ago that was: an idle primary has no newer data.
    #[must_use]
    pub fn lag(&self, replayed: Lsn, now: Instant) -> Option<Duration> {
        if replayed >= self.last? {
            return Some(Duration::ZERO);
        }
        let reached = self.samples.iter().rev().find(|(_, position)| *position <= replayed);
        // Older than all that is remembered: at least that old.
        let (time, _) = reached.or(self.samples.front())?;
        Some(now.duration_since(*time))
    }

    /// How long the replica has surely been behind: since the first sample that it has not come to. Between samples far apart
    /// [`History::lag`] says much more of one that is only just behind.
    #[must_use]
    pub fn late(&self, replayed: Lsn, now: Instant) -> Option<Duration> {
        if replayed >= self.last? {
            return Some(Duration::ZERO);
        }
        let missed = self.samples.iter().rev().take_while(|(_, position)| *position > replayed).last();
        Some(missed.map_or(Duration::ZERO, |(time, _)| now.duration_since(*time)))
    }
}
