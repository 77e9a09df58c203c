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
use super::journal_error::JournalError;
use super::merge::Key;
use super::record::{self, HEADER, Header, Record};
use super::reply::Waiter;
use crate::clock::{self, Duration, Instant};
use crate::metrics::JournalMetrics;

/// A segment that is longer is closed.
const SEGMENT: u64 = 64 << 20;

/// Most bytes that wait for a sync.
const MOST_WAITING: usize = 64 << 20;

/// The file that says which is the first segment and which is the last.
const HEAD: &str = "head";

/// How often segments are looked at, and a disk that failed.
const ROUND: Duration = Duration::from_secs(1);

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
struct Segment {
    number: u64,
    path: PathBuf,
    /// As many bytes count.
    size: u64,
    /// The last number of each account in it.
    highest: HashMap<u32, u64>,
    /// When it was written last.
    last: SystemTime,
}

#[derive(Default)]
struct State {
    /// What is to be written next.
    buffer: Vec<u8>,
    /// The last number of each account in that.
    highest: HashMap<u32, u64>,
    /// Who waits for that.
    waiters: Vec<Waiter>,
    /// By name.
    numbers: HashMap<String, u32>,
    accounts: Vec<Definition>,
    /// The last number of each account in the journal, and that up to which it is committed.
    marks: Vec<(u64, u64)>,
    /// All; the last one is being written.
    segments: Vec<Segment>,
    /// That is not to wait for the next round.
    urgent: bool,
    /// The disk has failed: nothing is taken.
    failing: bool,
    over: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    folder: PathBuf,
    keep: Duration,
    id: [u8; 16],
    metrics: JournalMetrics,
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
fn path_of(folder: &Path, number: u64) -> PathBuf {
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
        let mut writer = Writer { shared: shared.clone(), file: None, began: clock::now() };
        writer.roll().map_err(system(folder))?;
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
        state.waiters.extend(waiter);
        state.urgent = true;
        drop(state);
        self.shared.work.notify_one();
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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    fn write_head(&self, folder: &Path, first: u64) -> io::Result<()> {
        let last = self.segments.last().map_or(first, |segment| segment.number);
        let (path, new) = (folder.join(HEAD), folder.join("head.new"));
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(format!("{first} {last}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()
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
    fn preamble(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (definition, (_, applied))) in (0..).zip(self.accounts.iter().zip(&self.marks)) {
            Record::Account(number, definition.clone()).write(&mut out);
            Record::Applied(number, *applied).write(&mut out);
        }
        out
    }
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    /// The last segment, as long as it can be written.
    file: Option<File>,
    began: Instant,
}

impl Writer {
    fn run(mut self) {
        loop {
            let (bytes, highest, waiters, over) = self.next();
            if self.file.is_none()
                && let Err(error) = self.roll()
            {
                tracing::warn!(%error, "the journal's disk still fails");
            }
            if !bytes.is_empty() {
                self.put(&bytes, highest, waiters);
            }
            self.delete();
            if over {
                return;
            }
        }
    }

    /// Waits for something to write, or for the next round.
    fn next(&self) -> (Vec<u8>, HashMap<u32, u64>, Vec<Waiter>, bool) {
        let mut state = self.shared.state();
        if !state.urgent && !state.over {
            let waited =
                self.shared.work.wait_timeout_while(state, ROUND, |state| !state.urgent && !state.over);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.urgent = false;
        let (bytes, highest) = (std::mem::take(&mut state.buffer), std::mem::take(&mut state.highest));
        (bytes, highest, std::mem::take(&mut state.waiters), state.over)
    }

    /// Writes and syncs, and tells who waits for it.
    fn put(&mut self, bytes: &[u8], highest: HashMap<u32, u64>, waiters: Vec<Waiter>) {
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
                self.shared.metrics.synced(bytes.len(), start.elapsed());
                waiters.into_iter().for_each(Waiter::written);
                if (full || self.began.elapsed() > self.shared.keep / 4)
                    && let Err(error) = self.roll()
                {
                    self.fail(&error);
                }
            }
            Err(error) => {
                drop(state);
                self.fail(&error);
                waiters.into_iter().for_each(Waiter::unwritten);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("there is no file to write to"))?;
        let mut out = Vec::with_capacity(record::SYNCED + bytes.len());
        Record::Synced.write(&mut out);
        out.extend_from_slice(bytes);
        file.write_all(&out)?;
        file.sync_data()
    }

    /// What was not synced may or may not be there: the next segment says that it does not count.
    fn fail(&mut self, error: &io::Error) {
        tracing::error!(%error, "the journal could not be written: increments are answered after their commit until it can");
        self.shared.metrics.failed();
        self.shared.state().failing = true;
        self.file = None;
    }

    /// Begins a new segment.
    fn roll(&mut self) -> io::Result<()> {
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
        let file = begin()?;
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
        (self.file, self.began) = (Some(file), clock::now());
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
