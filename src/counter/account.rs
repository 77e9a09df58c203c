//! Increments that are acknowledged before they are committed: what waits of one kind, and the task that flushes it.
//!
//! Each increment has a number. A flush is one transaction: the merged statement, and the ledger moved on from the number before the
//! first to the last. So it is applied once, whoever dies when: whether it was, the ledger says, and a primary that has lost it says
//! so, too. What it has lost stands in the journal, and comes again.
//!
//! Invariants: numbers are given in the order of the journal; one flush of an account is under way; what was acknowledged is given up
//! only when the server refuses it by itself, and that is counted and logged.

use std::collections::HashSet;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::BytesMut;
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::books::Kept;
use super::definition::Definition;
use super::group::Form;
use super::journal::Journal;
use super::ledger::Line;
use super::merge::{Key, Shape};
use super::sums::Sums;
use crate::clock::{self, Duration, Instant};
use crate::fresh::Tables;
use crate::ids::Node;
use crate::metrics::CounterMetrics;
use crate::monitor::Cluster;
use crate::pool::Pool;
use crate::pool::lane::{Again, Seat};
use crate::server::{Parameters, Wants};

/// Where an account's flushes go: it outlives clients, and configurations.
pub trait Means: Send + Sync {
    /// The servers; none: the configuration has them no more.
    fn cluster(&self) -> Option<Arc<Cluster>>;
    /// The pool of one of them.
    fn pool(&self, node: Node) -> Option<Arc<Pool>>;
}

/// When an account is flushed, and how much of it may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pace {
    pub(super) every: Duration,
    pub(super) rows: usize,
    pub(super) most: usize,
}

/// Who is to be told of an increment.
pub(super) struct Waiter {
    pub(super) account: Arc<Account>,
    pub(super) number: u64,
    pub(super) reply: Reply,
}

/// How.
pub(super) struct Reply {
    pub(super) form: Form,
    pub(super) seat: Arc<Seat>,
    pub(super) ticket: u64,
}

impl Drop for Reply {
    fn drop(&mut self) {
        // Whoever was told something no longer waits.
        self.seat.unknown(self.ticket);
    }
}

impl Reply {
    fn tell(self, upsert: bool, found: bool) {
        let mut out = BytesMut::new();
        self.form.write(upsert, found, &mut out);
        self.seat.answered(self.ticket, &mut out.to_vec());
    }
}

impl Waiter {
    /// Its increment is on disk.
    pub(super) fn written(self) {
        let upsert = self.account.shape.upsert;
        self.reply.tell(upsert, true);
    }

    /// It is not: it is told when its increment is committed.
    pub(super) fn unwritten(self) {
        let Self { account, number, reply } = self;
        let mut inner = account.inner();
        if inner.applied >= number {
            drop(inner);
            return reply.tell(account.shape.upsert, true);
        }
        inner.held.push(Held { number, key: None, reply });
        inner.wanted = inner.wanted.max(number);
        drop(inner);
        account.work.notify_one();
    }
}

/// One who is told after the commit.
struct Held {
    number: u64,
    /// The row, if it is to be heard whether that is there.
    key: Option<Vec<Key>>,
    reply: Reply,
}

/// What a flush has found.
#[derive(Default)]
pub(super) struct Outcome {
    /// The connection broke: it is committed, and nothing else is known.
    pub(super) unknown: bool,
    /// Rows that are not there.
    pub(super) missing: HashSet<Vec<Key>>,
    /// Rows that the server refuses.
    pub(super) refused: HashSet<Vec<Key>>,
}

#[derive(Default)]
pub(super) struct Inner {
    /// The ledger was asked: numbers can be given.
    pub(super) ready: bool,
    /// Why there is no ledger.
    pub(super) refused: Option<String>,
    running: bool,
    /// What the next flush takes.
    pub(super) pending: Sums,
    /// As many are in the flush that is under way.
    pub(super) flushing: u64,
    /// When the first of all these came.
    pub(super) since: Option<Instant>,
    /// Up to that number they are to be flushed at once.
    wanted: u64,
    /// Up to that number they are committed.
    pub(super) applied: u64,
    held: Vec<Held>,
}

/// The increments of one kind: of one table and shape, by one role.
pub struct Account {
    pub(super) definition: Definition,
    pub(super) shape: Arc<Shape>,
    pub(super) tables: Tables,
    pub(super) line: Line,
    pub(super) journal: Option<(Arc<Journal>, u32)>,
    pub(super) wants: Wants,
    pub(super) means: Arc<dyn Means>,
    pub(super) metrics: Arc<CounterMetrics>,
    pace: Mutex<Pace>,
    inner: Mutex<Inner>,
    /// Rows that are known to be there, and up to which number it was committed when they were found.
    known: Cache<Vec<Key>, u64>,
    /// The same as in there, for those who only look.
    applied: AtomicU64,
    /// For the task.
    pub(super) work: Notify,
    /// For those who wait for a flush.
    moved: Notify,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// What the task of an account does next.
enum Due {
    Open,
    Flush,
    At(Instant),
    Nothing,
}

impl Account {
    pub(super) fn new(
        definition: Definition,
        journal: Option<Arc<Journal>>,
        own: &str,
        means: Arc<dyn Means>,
        metrics: Arc<CounterMetrics>,
        pace: Pace,
    ) -> Self {
        let journal = journal.map(|journal| {
            let number = journal.register(&definition);
            (journal, number)
        });
        let id = journal.as_ref().map_or_else(|| own.to_owned(), |(journal, _)| journal.id());
        let parameters = Arc::new(Parameters::new(&definition.parameters));
        Self {
            shape: Arc::new(definition.shape()),
            tables: Tables::named(definition.table.as_bytes()),
            line: Line { ledger: definition.ledger.clone(), journal: id, account: definition.name() },
            journal,
            wants: Wants { parameters, application_name: Arc::from("pgweir") },
            means,
            metrics,
            known: Cache::new(pace.most),
            pace: Mutex::new(pace),
            inner: Mutex::default(),
            applied: AtomicU64::new(0),
            work: Notify::new(),
            moved: Notify::new(),
            definition,
        }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the configuration says now.
    pub(super) fn set_pace(&self, pace: Pace) {
        *self.pace() = pace;
    }

    /// Has somebody look after it.
    pub(super) fn start(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.inner().running, true) {
            Handle::current().spawn(Flusher { account: self.clone() }.run());
        }
    }

    /// Whether a row is known to be there; `anew`: since the last flush.
    pub(super) fn knows(&self, key: &Vec<Key>, anew: bool) -> bool {
        self.known.get(key).is_some_and(|number| !anew || number == self.applied())
    }

    /// Waits until it gives numbers. False: it does not, for now.
    pub(super) async fn is_open(&self) -> bool {
        loop {
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            {
                let inner = self.inner();
                if inner.ready || inner.refused.is_some() {
                    return inner.ready;
                }
            }
            moved.await;
        }
    }

    /// It cannot give numbers, for now.
    pub(super) fn refuses(&self, why: String) {
        self.inner().refused = Some(why);
        self.moved.notify_waiters();
    }

    /// Takes an increment, and answers as soon as it is safe; `check`: when it is committed, and by whether its row is there.
    /// Returns its number; none: it does not take it.
    pub(super) fn put(
        self: &Arc<Self>,
        key: &[Key],
        amounts: &[i64],
        form: &Form,
        seat: &Arc<Seat>,
        check: bool,
    ) -> Option<u64> {
        if self.journal.as_ref().is_some_and(|(journal, _)| !journal.takes()) {
            return None;
        }
        let pace = *self.pace();
        let mut inner = self.inner();
        let most = u64::try_from(pace.most).unwrap_or(u64::MAX);
        let takes = inner.ready && inner.pending.count() + inner.flushing < most;
        if !takes || !inner.pending.add(key, amounts) {
            return None;
        }
        let number = inner.pending.to;
        inner.since.get_or_insert_with(clock::now);
        if inner.pending.rows() >= pace.rows {
            inner.wanted = number;
        }
        let first = inner.pending.count() == 1 || inner.wanted == number;
        let reply = Reply { form: form.clone(), seat: seat.clone(), ticket: seat.take_for_good() };
        let reply = if check {
            inner.held.push(Held { number, key: Some(key.to_vec()), reply });
            inner.wanted = number;
            None
        } else {
            Some(reply)
        };
        match &self.journal {
            Some((journal, id)) => {
                // Under the lock: the journal has them in the order of their numbers.
                let waiter = reply.map(|reply| Waiter { account: self.clone(), number, reply });
                journal.append(*id, number, key, amounts, waiter);
                drop(inner);
            }
            None => {
                drop(inner);
                if let Some(reply) = reply {
                    reply.tell(self.shape.upsert, true);
                }
            }
        }
        if first || check {
            self.work.notify_one();
        }
        if !check {
            self.metrics.accepted();
        }
        Some(number)
    }

    /// Up to that number everything is committed.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// The number of the last increment that it has taken.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.inner().pending.to
    }

    /// Its table, as one of a set.
    #[must_use]
    pub fn tables(&self) -> Tables {
        self.tables
    }

    /// Its table, for a message.
    #[must_use]
    pub fn table(&self) -> String {
        format!("{}.{}", self.definition.schema, self.definition.table)
    }

    /// Flushes up to that number at once. Ready when that is committed; never, if it cannot be.
    pub async fn flush(&self, number: u64) {
        loop {
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            {
                let mut inner = self.inner();
                if inner.applied >= number {
                    return;
                }
                inner.wanted = inner.wanted.max(number);
            }
            self.work.notify_one();
            moved.await;
        }
    }

    /// How many increments of that row nobody was told of yet, up to that number.
    pub(super) fn held(&self, key: &Vec<Key>, to: u64) -> u64 {
        let inner = self.inner();
        let held = inner.held.iter().filter(|held| held.number <= to && held.key.as_ref() == Some(key));
        held.count() as u64
    }

    /// Flushes what there is now at once.
    pub(super) fn want(&self) {
        let mut inner = self.inner();
        inner.wanted = inner.pending.to;
        drop(inner);
        self.work.notify_one();
    }

    /// How many are not committed.
    pub(super) fn waiting(&self) -> u64 {
        let inner = self.inner();
        inner.pending.count() + inner.flushing
    }

    /// How long the first of these has waited.
    pub(super) fn age(&self) -> Duration {
        self.inner().since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// For the operator.
    pub(super) fn kept(&self) -> Kept {
        let inner = self.inner();
        Kept {
            durability: if self.journal.is_some() { "journal" } else { "memory" },
            database: self.definition.database.clone(),
            user: self.definition.user.clone(),
            table: format!("{}.{}", self.definition.schema, self.definition.table),
            waiting: inner.pending.count() + inner.flushing,
            age: inner.since.map(|since| since.elapsed()),
            refused: inner.refused.clone(),
        }
    }

    /// Committed up to that number. Those who were not told before are told now.
    pub(super) fn moved(&self, number: u64, outcome: &Outcome) {
        let mut inner = self.inner();
        inner.applied = inner.applied.max(number);
        inner.flushing = 0;
        inner.since = (!inner.pending.is_empty()).then(clock::now);
        let told: Vec<_> = inner.held.extract_if(.., |held| held.number <= number).collect();
        self.applied.store(inner.applied, Ordering::Release);
        drop(inner);
        if let Some((journal, id)) = &self.journal {
            journal.applied(*id, number);
        }
        for Held { key, reply, .. } in told {
            let missing = key.as_ref().is_some_and(|key| outcome.missing.contains(key));
            match key {
                // What is not told is not known.
                Some(_) if outcome.unknown => drop(reply),
                Some(key) if outcome.refused.contains(&key) => reply.seat.again(reply.ticket, Again::Behind),
                Some(key) if !missing => {
                    self.known.insert(key, number);
                    reply.tell(self.shape.upsert, true);
                }
                _ => reply.tell(self.shape.upsert, !missing),
            }
        }
        self.moved.notify_waiters();
    }

    /// Gives numbers from now on, behind what is there of before.
    pub(super) fn opened(&self, applied: u64, left: Sums) {
        let mut inner = self.inner();
        inner.wanted = if left.is_empty() { 0 } else { left.to };
        inner.since = (!left.is_empty()).then(clock::now);
        (inner.ready, inner.refused) = (true, None);
        inner.pending = left;
        inner.applied = applied;
        self.applied.store(applied, Ordering::Release);
        drop(inner);
        self.moved.notify_waiters();
    }

    /// Takes what a flush is to carry out.
    pub(super) fn take(&self) -> Sums {
        let mut inner = self.inner();
        let to = inner.pending.to;
        let batch = std::mem::replace(&mut inner.pending, Sums::after(to));
        inner.flushing = batch.count();
        batch
    }

    /// Puts back what was taken; `done`: it is committed already. What has come since stands behind it.
    pub(super) fn put_back(&self, mut sums: Sums, done: bool) {
        let to = sums.to;
        let mut inner = self.inner();
        let more = sums.from < inner.applied;
        inner.flushing = 0;
        if !done {
            let later = std::mem::take(&mut inner.pending);
            sums.join(later);
            if !sums.is_empty() {
                inner.since.get_or_insert_with(clock::now);
            }
            if more {
                inner.wanted = inner.wanted.max(to);
            }
            inner.applied = inner.applied.min(sums.from);
            self.applied.store(inner.applied, Ordering::Release);
            inner.pending = sums;
        }
        drop(inner);
        if done {
            self.moved(to, &Outcome { unknown: true, ..Outcome::default() });
        }
    }

    fn due(&self) -> Due {
        let every = self.pace().every;
        let inner = self.inner();
        if !inner.ready {
            return Due::Open;
        }
        match inner.since.filter(|_| !inner.pending.is_empty()) {
            None => Due::Nothing,
            Some(_) if inner.wanted > inner.pending.from => Due::Flush,
            Some(since) if since.elapsed() >= every => Due::Flush,
            Some(since) => Due::At(since + every),
        }
    }
}

/// The primary as it was seen last.
#[derive(Default)]
struct Seen {
    node: Option<Node>,
    /// There was none since.
    gone: bool,
}

impl Seen {
    /// Whether that is another one than before, or the same in another life.
    fn is_another(&mut self, primary: Option<Node>) -> bool {
        let Some(now) = primary else {
            self.gone = true;
            return false;
        };
        let before = self.node.replace(now);
        let gone = std::mem::take(&mut self.gone);
        before.is_some_and(|before| gone || before != now)
    }
}

/// The task of an account.
pub(super) struct Flusher {
    pub(super) account: Arc<Account>,
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.account.inner().running = false;
    }
}

impl Flusher {
    async fn run(self) {
        let mut seen = Seen::default();
        loop {
            match self.account.due() {
                Due::Open => self.open().await,
                Due::Flush => self.flush().await,
                Due::At(due) => self.wait(Some(due), &mut seen).await,
                Due::Nothing => self.wait(None, &mut seen).await,
            }
        }
    }

    /// Waits for work. A primary that has taken over, or has begun anew, may have lost what its journal still has: it is asked.
    async fn wait(&self, due: Option<Instant>, seen: &mut Seen) {
        let Some(cluster) = self.account.means.cluster() else { return self.account.work.notified().await };
        let epoch = cluster.epoch();
        if seen.is_another(cluster.view().primary()) {
            return self.compare().await;
        }
        let mut work = pin!(self.account.work.notified());
        let mut changed = pin!(cluster.changed(epoch));
        let mut late = pin!(sleep_until(due.unwrap_or_else(clock::now)));
        poll_fn(|cx| {
            let late = due.is_some() && late.as_mut().poll(cx).is_ready();
            let other = work.as_mut().poll(cx).is_ready() || changed.as_mut().poll(cx).is_ready();
            if late || other { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
