//! The journal: increments that were acknowledged before they were committed, on disk.
//!
//! One thread appends. What comes while it syncs goes together with the next sync; its clients are answered when that is done. A
//! record that could not be synced is none: its increment is still carried out, and its client is answered after that.
//!
//! Invariants: a folder belongs to one running pgweir (a lock); a segment is never written again after an error, and the next one
//! says how much of it counts; a segment is deleted when all in it is committed, and `keep` has passed since.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

use super::definition::Definition;
use super::desk::{Desk, Waiters};
use super::journal_error::JournalError;
use super::merge::Key;
use super::record::{self, HEADER, Header, Record};
use super::reply::Waiter;
use super::segment;
use super::writer::Writer;
use crate::clock::Duration;
use crate::metrics::JournalMetrics;

/// Most bytes that wait for a sync.
const MOST_WAITING: usize = 64 << 20;

/// The file that says which is the first segment and which is the last.
const HEAD: &str = "head";

/// Its size but for its end of line: two numbers and a space.
const HEAD_SIZE: usize = 41;

/// What the operator says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalOptions {
    /// Where it is.
    pub folder: PathBuf,
    /// How long what is committed is kept: a primary that takes over may have lost it.
    pub keep: Duration,
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// As many bytes count.
    pub(super) size: u64,
    /// The last number of each account in it.
    pub(super) highest: HashMap<u32, u64>,
    /// When it was written last.
    pub(super) last: SystemTime,
}

#[derive(Default)]
pub(super) struct State {
    /// What is to be written next.
    pub(super) buffer: Vec<u8>,
    /// The last number of each account in that.
    pub(super) highest: HashMap<u32, u64>,
    /// Who waits for that.
    pub(super) waiters: Waiters,
    /// By name.
    pub(super) numbers: HashMap<String, u32>,
    pub(super) accounts: Vec<Definition>,
    /// The last number of each account in the journal, and that up to which it is committed.
    pub(super) marks: Vec<(u64, u64)>,
    /// All; the last one is being written.
    pub(super) segments: Vec<Segment>,
    /// That is not to wait for the next round.
    pub(super) urgent: bool,
    /// How many wait for that.
    pub(super) waiting: usize,
    /// So many the writer lets come; 0: it does not wait for more.
    pub(super) expected: usize,
    /// The disk has failed: nothing is taken.
    pub(super) failing: bool,
    pub(super) over: bool,
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) work: Condvar,
    pub(super) folder: PathBuf,
    pub(super) keep: Duration,
    pub(super) id: [u8; 16],
    pub(super) metrics: JournalMetrics,
}

/// An open journal.
pub struct Journal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Held for its drop: the folder is free then.
    _lock: Flock<File>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

/// The file of that number.
pub(super) fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}.journal"))
}

fn system(path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    |source| JournalError::System { path, source }
}

impl Journal {
    /// Opens that folder, and makes it if there is none.
    ///
    /// # Errors
    /// [`JournalError`]
    pub fn open(options: &JournalOptions, metrics: JournalMetrics) -> Result<Arc<Self>, JournalError> {
        let folder = &options.folder;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(system(folder))?;
        let path = folder.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = Flock::lock(file.map_err(system(&path))?, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|_| JournalError::Taken(folder.clone()))?;
        let mut state = State::default();
        let id = state.load(folder)?.unwrap_or_else(rand::random);
        state.is_whole(folder)?;
        let shared = Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            folder: folder.clone(),
            keep: options.keep,
            id,
            metrics,
        };
        let shared = Arc::new(shared);
        let mut writer = Writer::new(shared.clone());
        if let Err(error) = writer.roll() {
            // A disk that is full is no reason to do without the database: increments wait for their commits.
            if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                return Err(system(folder)(error));
            }
            writer.fail(&error);
        }
        let thread = std::thread::Builder::new().name("pgweir-journal".to_owned());
        let thread = thread.spawn(move || writer.run()).map_err(system(folder))?;
        Ok(Arc::new(Self { shared, thread: Some(thread), _lock: lock }))
    }

    /// Its name in ledgers.
    pub(super) fn id(&self) -> String {
        self.shared.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The number of an account.
    pub(super) fn register(&self, definition: &Definition) -> u32 {
        let mut state = self.shared.state();
        let name = definition.name();
        if let Some(number) = state.numbers.get(&name) {
            return *number;
        }
        let number = u32::try_from(state.accounts.len()).unwrap_or(u32::MAX);
        state.numbers.insert(name, number);
        state.accounts.push(definition.clone());
        state.marks.push((0, 0));
        Record::Account(number, definition.clone()).write(&mut state.buffer);
        number
    }

    /// Every account that it has increments of, committed or not.
    pub(super) fn accounts(&self) -> Vec<Definition> {
        let state = self.shared.state();
        let all = state.accounts.iter().zip(&state.marks);
        all.filter(|(_, (highest, _))| *highest > 0).map(|(account, _)| account.clone()).collect()
    }

    /// The number of the last increment of an account in it.
    pub(super) fn highest(&self, account: u32) -> u64 {
        self.shared.state().marks.get(account as usize).map_or(0, |mark| mark.0)
    }

    /// Whether it takes anything now.
    pub(super) fn takes(&self) -> bool {
        let state = self.shared.state();
        !state.failing && state.buffer.len() < MOST_WAITING
    }

    /// Writes an increment down. Who waits for it is told.
    pub(super) fn append(
        &self,
        account: u32,
        number: u64,
        key: &[Key],
        amounts: &[i64],
        waiter: Option<Waiter>,
    ) {
        let mut state = self.shared.state();
        record::increment(&mut state.buffer, account, number, key, amounts);
        let highest = state.highest.entry(account).or_default();
        *highest = number.max(*highest);
        if let Some(mark) = state.marks.get_mut(account as usize) {
            mark.0 = mark.0.max(number);
        }
        if let Some(waiter) = waiter {
            Desk::line_up(&mut state.waiters, waiter);
            state.waiting += 1;
        }
        let all = state.expected > 0 && state.waiting >= state.expected;
        if all {
            state.expected = 0;
        }
        let urgent = std::mem::replace(&mut state.urgent, true);
        drop(state);
        if !urgent || all {
            self.shared.work.notify_one();
        }
    }

    /// The numbers of an account above the one, up to the other, are nobody's: whoever reads it back does not miss them.
    pub(super) fn void(&self, account: u32, from: u64, to: u64) {
        let mut state = self.shared.state();
        Record::Void(account, from, to).write(&mut state.buffer);
        let highest = state.highest.entry(account).or_default();
        *highest = to.max(*highest);
    }

    /// Up to that number an account is committed.
    pub(super) fn applied(&self, account: u32, number: u64) {
        let mut state = self.shared.state();
        if let Some(mark) = state.marks.get_mut(account as usize) {
            mark.1 = number;
        }
        // It goes along with what comes next: to lose it costs a look at the ledger.
        Record::Applied(account, number).write(&mut state.buffer);
    }

    /// The increments of an account with numbers above `from`, up to `to`, as far as they are there: each with its row and what that
    /// gets. It reads files: not for a task that others wait for.
    pub(super) fn read_back(&self, account: u32, from: u64, to: u64) -> io::Result<Back> {
        let segments = self.shared.state().segments.clone();
        let (mut found, mut void) = (Vec::new(), Vec::new());
        for segment in segments {
            if segment.highest.get(&account).is_none_or(|highest| *highest <= from) {
                continue;
            }
            let bytes = fs::read(&segment.path)?;
            let size = usize::try_from(segment.size).unwrap_or(usize::MAX);
            let mut rest = bytes.get(HEADER..size.min(bytes.len())).unwrap_or_default();
            while let Ok(Some((record, size))) = Record::read(rest) {
                rest = rest.get(size..).unwrap_or_default();
                match record {
                    Record::Increment(of, number, key, amounts)
                        if of == account && number > from && number <= to =>
                    {
                        found.push((number, key, amounts));
                    }
                    Record::Void(of, after, last) if of == account => void.push((after, last)),
                    _ => {}
                }
            }
        }
        found.retain(|(number, ..)| !void.iter().any(|(after, last)| number > after && number <= last));
        let nobodys = void.iter().map(|(after, last)| (*last).min(to).saturating_sub((*after).max(from)));
        let missing = (to - from).saturating_sub(nobodys.sum::<u64>() + found.len() as u64);
        Ok(Back { rows: found.into_iter().map(|(_, key, amounts)| (key, amounts)).collect(), missing })
    }
}

/// What a journal still has of an account.
#[derive(Default)]
pub(super) struct Back {
    /// Of each increment its row, and what that gets.
    pub(super) rows: Vec<(Vec<Key>, Vec<i64>)>,
    /// How many are not there any more.
    pub(super) missing: u64,
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.shared.work.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal's thread panicked");
        }
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a small file in the place where it is, if it is there.
fn write_over(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl State {
    /// Reads what is there. Returns which journal it is.
    fn load(&mut self, folder: &Path) -> Result<Option<[u8; 16]>, JournalError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(system(folder))? {
            let path = entry.map_err(system(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "journal") {
                let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
                files.push((number.ok_or_else(|| JournalError::Foreign(path.clone()))?, path));
            }
        }
        files.sort();
        let mut read: Vec<(u64, PathBuf, Header)> = Vec::new();
        let last = files.len().saturating_sub(1);
        for (place, (number, path)) in files.into_iter().enumerate() {
            let mut front = Vec::with_capacity(HEADER);
            let file = File::open(&path).map_err(system(&path))?;
            file.take(HEADER as u64).read_to_end(&mut front).map_err(system(&path))?;
            let Some(header) = Header::read(&front).filter(|header| header.number == number) else {
                // The last one may have been begun when the power went.
                if place == last && front.len() < HEADER {
                    fs::remove_file(&path).map_err(system(&path))?;
                    continue;
                }
                return Err(JournalError::Foreign(path));
            };
            if read.last().is_some_and(|(before, ..)| before + 1 != number) {
                return Err(JournalError::Missing(path));
            }
            if read.first().is_some_and(|(_, _, first)| first.journal != header.journal) {
                return Err(JournalError::Foreign(path));
            }
            read.push((number, path, header));
        }
        let sizes: Vec<Option<u64>> =
            read.iter().skip(1).map(|(_, _, next)| Some(next.before)).chain([None]).collect();
        let id = read.first().map(|(_, _, header)| header.journal);
        for ((number, path, _), size) in read.into_iter().zip(sizes) {
            let bytes = fs::read(&path).map_err(system(&path))?;
            self.take_in(number, path, &bytes, size)?;
        }
        Ok(id)
    }

    /// Whether the first and the last file are there that there were.
    fn is_whole(&self, folder: &Path) -> Result<(), JournalError> {
        let path = folder.join(HEAD);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // There is none before the first file, nor after an operator has taken it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(system(&path)(error)),
        };
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [first, last] = numbers.as_slice() else { return Err(JournalError::Foreign(path)) };
        let there = |number: u64| self.segments.iter().any(|segment| segment.number == number);
        match [*first, *last].into_iter().find(|number| !there(*number)) {
            Some(number) => Err(JournalError::Gone(path_of(folder, number))),
            None => Ok(()),
        }
    }

    /// Says which files there are. Before one is deleted, and after one is made.
    pub(super) fn write_head(&self, folder: &Path, first: u64) -> io::Result<()> {
        let last = self.segments.last().map_or(first, |segment| segment.number);
        let (path, new) = (folder.join(HEAD), folder.join("head.new"));
        // Over what the last call has written: on a full disk there is room for this, or nothing could be deleted.
        let numbers = format!("{first} {last}");
        write_over(&new, &format!("{numbers:HEAD_SIZE$}\n"))?;
        fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()?;
        // The next call says it if there is no room.
        let _ = write_over(&new, &format!("{:HEAD_SIZE$}\n", ""));
        Ok(())
    }

    /// Takes in a segment. `size`: as many bytes of it count; none: it is the last one, and ends where it is whole.
    fn take_in(
        &mut self,
        number: u64,
        path: PathBuf,
        bytes: &[u8],
        size: Option<u64>,
    ) -> Result<(), JournalError> {
        let whole = size.map_or(bytes.len(), |size| usize::try_from(size).unwrap_or(usize::MAX));
        let counts =
            bytes.get(..whole).ok_or(JournalError::Damaged { path: path.clone(), at: bytes.len() })?;
        let mut at = HEADER;
        let mut highest = HashMap::new();
        loop {
            match Record::read(counts.get(at..).unwrap_or_default()) {
                Ok(None) => break,
                Ok(Some((record, size))) => {
                    self.learn(record, &mut highest);
                    at += size;
                }
                Err(_) if size.is_none() && segment::is_room(counts.get(at..).unwrap_or_default()) => break,
                Err(_) if size.is_none() && !record::is_synced_behind(counts, at) => {
                    let lost = counts.len() - at;
                    tracing::warn!(file = %path.display(), at, lost, "the journal ends in the middle of a record, which nobody was told of");
                    break;
                }
                Err(_) => return Err(JournalError::Damaged { path, at }),
            }
        }
        let last = fs::metadata(&path).and_then(|data| data.modified()).map_err(system(&path))?;
        self.segments.push(Segment { number, path, size: at as u64, highest, last });
        Ok(())
    }

    fn learn(&mut self, record: Record, highest: &mut HashMap<u32, u64>) {
        match record {
            Record::Account(number, definition) => {
                // Each segment says it again.
                if self.accounts.len() == number as usize {
                    self.numbers.insert(definition.name(), number);
                    self.accounts.push(definition);
                    self.marks.push((0, 0));
                }
            }
            Record::Void(account, _, to) => {
                let known = highest.entry(account).or_default();
                *known = to.max(*known);
            }
            Record::Increment(account, number, ..) => {
                let known = highest.entry(account).or_default();
                *known = number.max(*known);
                if let Some(mark) = self.marks.get_mut(account as usize) {
                    mark.0 = mark.0.max(number);
                }
            }
            Record::Applied(account, number) => {
                if let Some(mark) = self.marks.get_mut(account as usize) {
                    mark.1 = number;
                }
            }
            Record::Synced => {}
        }
    }

    /// What every segment begins with: what its numbers mean does not depend on those before it.
    pub(super) fn preamble(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (definition, (_, applied))) in (0..).zip(self.accounts.iter().zip(&self.marks)) {
            Record::Account(number, definition.clone()).write(&mut out);
            Record::Applied(number, *applied).write(&mut out);
        }
        out
    }
}
