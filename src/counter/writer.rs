//! The thread that writes the journal: what it appends, when it syncs, and which files it begins and deletes.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use super::desk::{Desk, Waiters};
use super::journal::{Segment, Shared, path_of};
use super::record::{self, Header, Record};
use super::segment::Open;
use crate::clock::{self, Duration, Instant};

/// A segment that is longer is closed.
const SEGMENT: u64 = 64 << 20;

/// Longest that a sync is held back for more who come.
const LINGER: Duration = Duration::from_millis(5);

/// How often segments are looked at, and a disk that failed.
const ROUND: Duration = Duration::from_secs(1);

/// Longest that a disk is not tried again that fails each time.
const LONGEST_ROUND: Duration = Duration::from_secs(30);

/// The thread that writes.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The last segment, as long as it can be written.
    file: Option<Open>,
    began: Instant,
    /// So long the next sync is held back,
    linger: Duration,
    /// or until so many wait for it.
    expected: usize,
    /// When the disk that has failed is tried again, and how long that was put off.
    again: Instant,
    pause: Duration,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            file: None,
            began: clock::now(),
            linger: Duration::ZERO,
            expected: 0,
            again: clock::now(),
            pause: Duration::ZERO,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let (bytes, highest, waiters, over) = self.next();
            if self.file.is_none()
                && clock::now() >= self.again
                && let Err(error) = self.roll()
            {
                self.put_off();
                tracing::warn!(%error, "the journal's disk still fails");
            }
            if self.file.is_none() {
                Desk::tell_all(waiters, false);
            } else if !bytes.is_empty() {
                self.put(&bytes, highest, waiters);
            }
            self.delete();
            if over {
                return;
            }
        }
    }

    /// Waits for something to write, or for the next round.
    fn next(&self) -> (Vec<u8>, HashMap<u32, u64>, Waiters, bool) {
        let mut state = self.shared.state();
        if !state.urgent && !state.over {
            let waited =
                self.shared.work.wait_timeout_while(state, ROUND, |state| !state.urgent && !state.over);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if !self.linger.is_zero() && state.waiting < self.expected {
            state.expected = self.expected;
            let waited = self
                .shared
                .work
                .wait_timeout_while(state, self.linger, |state| !state.over && state.expected > 0);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        (state.urgent, state.waiting, state.expected) = (false, 0, 0);
        let (bytes, highest) = (std::mem::take(&mut state.buffer), std::mem::take(&mut state.highest));
        (bytes, highest, std::mem::take(&mut state.waiters), state.over)
    }

    /// Writes and syncs, and tells who waits for it.
    fn put(&mut self, bytes: &[u8], highest: HashMap<u32, u64>, waiters: Waiters) {
        let start = clock::now();
        let outcome = self.write(bytes);
        let mut state = self.shared.state();
        match outcome {
            Ok(()) => {
                if let Some(segment) = state.segments.last_mut() {
                    segment.size += (record::SYNCED + bytes.len()) as u64;
                    segment.highest.extend(highest);
                    segment.last = SystemTime::now();
                }
                let full = state.segments.last().is_some_and(|segment| segment.size > SEGMENT);
                drop(state);
                let took = start.elapsed();
                // Who has just been answered comes again at once, as the one that comes first does not know: all go together, if they
                // take no longer than a sync. Who is alone waits for nobody.
                let told = waiters.iter().map(|(_, line)| line.len()).sum::<usize>();
                self.expected = told.max(self.expected * 7 / 8);
                self.linger = if told > 1 { took.min(LINGER) } else { Duration::ZERO };
                self.pause = Duration::ZERO;
                self.shared.metrics.synced(bytes.len(), took);
                Desk::tell_all(waiters, true);
                if (full || self.began.elapsed() > self.shared.keep / 4)
                    && let Err(error) = self.roll()
                {
                    self.fail(&error);
                }
            }
            Err(error) => {
                drop(state);
                self.fail(&error);
                Desk::tell_all(waiters, false);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::Error::other("there is no file to write to")) };
        let mut out = Vec::with_capacity(record::SYNCED + bytes.len());
        Record::Synced.write(&mut out);
        out.extend_from_slice(bytes);
        file.write(&out)
    }

    /// What was not synced may or may not be there: the next segment says that it does not count.
    pub(super) fn fail(&mut self, error: &io::Error) {
        tracing::error!(%error, "the journal could not be written: increments are answered after their commit until it can");
        self.shared.metrics.failed();
        self.shared.state().failing = true;
        self.file = None;
        self.put_off();
    }

    fn put_off(&mut self) {
        self.pause = (self.pause * 2).clamp(ROUND, LONGEST_ROUND);
        self.again = clock::now() + self.pause;
    }

    /// Begins a new segment.
    pub(super) fn roll(&mut self) -> io::Result<()> {
        let (number, before, preamble) = {
            let state = self.shared.state();
            let last = state.segments.last();
            (last.map_or(1, |last| last.number + 1), last.map_or(0, |last| last.size), state.preamble())
        };
        let path = path_of(&self.shared.folder, number);
        let mut bytes = Header { journal: self.shared.id, number, before }.write();
        bytes.extend_from_slice(&preamble);
        let begin = || {
            // What a failed attempt has left.
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            File::open(&self.shared.folder)?.sync_all()?;
            Ok::<_, io::Error>(file)
        };
        let file = begin().inspect_err(|_| drop(fs::remove_file(&path)))?;
        let mut state = self.shared.state();
        let segment = Segment {
            number,
            path,
            size: bytes.len() as u64,
            highest: HashMap::new(),
            last: SystemTime::now(),
        };
        state.segments.push(segment);
        let first = state.segments.first().map_or(number, |first| first.number);
        if let Err(error) = state.write_head(&self.shared.folder, first) {
            state.segments.pop();
            return Err(error);
        }
        if std::mem::take(&mut state.failing) {
            tracing::info!("the journal can be written again");
        }
        (self.file, self.began) = (Some(Open::new(file, bytes.len() as u64)), clock::now());
        Ok(())
    }

    /// Deletes what nobody needs any more.
    fn delete(&self) {
        let mut state = self.shared.state();
        while let [first, _, ..] = state.segments.as_slice() {
            let needed = first.highest.iter().any(|(account, highest)| {
                state.marks.get(*account as usize).is_none_or(|(_, applied)| applied < highest)
            });
            let young = first.last.elapsed().map_or(true, |age| age < self.shared.keep);
            if needed || young {
                break;
            }
            let next = state.segments.get(1).map_or(0, |next| next.number);
            if let Err(error) = state.write_head(&self.shared.folder, next) {
                tracing::warn!(%error, "no segment of the journal can be deleted");
                break;
            }
            let segment = state.segments.remove(0);
            if let Err(error) = fs::remove_file(&segment.path) {
                tracing::warn!(file = %segment.path.display(), %error, "a segment of the journal could not be deleted");
            }
        }
        self.shared.metrics.size(state.segments.iter().map(|segment| segment.size).sum());
    }
}
