//! Increments that are acknowledged before they are committed: what waits of one kind, and the task that flushes it.
//!
//! Each increment has a number. A flush is one transaction: the merged statement, and the ledger moved on from the number before the
//! first to the last. So it is applied once, whoever dies when: whether it was, the ledger says, and a primary that has lost it says
//! so, too. What it has lost stands in the journal, and comes again.
//!
//! Invariants: numbers are given in the order of the journal; one flush of an account is under way; what was acknowledged is given up
//! only when the server refuses it by itself, and that is counted and logged.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::books::Kept;
use super::definition::Definition;
use super::group::Form;
use super::journal::Journal;
use super::ledger::Line;
use super::merge::{Addition, Key, Shape};
use super::reply::{Held, Load, Outcome, Reply, Trial, Waiter};
use super::statement::Names;
use super::sums::Sums;
use super::task::{Due, Flusher};
use crate::clock::{self, Duration, Instant};
use crate::fresh::Tables;
use crate::ids::Node;
use crate::metrics::CounterMetrics;
use crate::monitor::Cluster;
use crate::pool::Pool;
use crate::pool::lane::Seat;
use crate::server::{Parameters, Wants};

/// After this long, what the server has refused may be all right.
const RETRY: Duration = Duration::from_secs(2);

/// Its table is looked at again after this long.
const RECHECK: Duration = Duration::from_secs(1);

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

// Independent axes, each read alone.
#[allow(clippy::struct_excessive_bools)]
#[derive(Default)]
pub(super) struct Inner {
    /// The ledger was asked: numbers can be given.
    pub(super) ready: bool,
    /// Why there is no ledger.
    pub(super) refused: Option<String>,
    pub(super) running: bool,
    /// What the next flush takes.
    pub(super) pending: Sums,
    /// As many are in the flush that is under way.
    pub(super) flushing: u64,
    /// When the first of all these came.
    pub(super) since: Option<Instant>,
    /// Up to that number they are to be flushed at once.
    pub(super) wanted: u64,
    /// Up to that number they are committed.
    pub(super) applied: u64,
    pub(super) held: Vec<Held>,
    trials: Vec<Trial>,
    /// Why the last try to flush has failed,
    pub(super) trouble: Option<String>,
    /// and when, if the server has refused it: others are not kept waiting for that, and nothing more is kept.
    pub(super) stuck: Option<Instant>,
    /// What statements on its table are made of, and when that was seen.
    pub(super) names: Option<(Instant, Arc<Names>)>,
    /// What cannot be flushed is to be thrown away.
    pub(super) discard: bool,
    /// It takes nothing any more.
    broken: bool,
}

impl Inner {
    /// How many are not committed.
    fn waiting(&self) -> u64 {
        self.pending.count() + self.flushing
    }

    /// Whether the server has refused what there is. With nothing left to try, it may be tried anew after a while.
    fn is_stuck(&self) -> bool {
        let waits = !self.pending.is_empty() || self.flushing > 0;
        self.stuck.is_some_and(|since| waits || since.elapsed() < RETRY)
    }
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

    fn has_room(&self, inner: &Inner) -> bool {
        let most = u64::try_from(self.pace().most).unwrap_or(u64::MAX);
        let waiting = inner.waiting() + inner.trials.len() as u64;
        inner.ready && !inner.is_stuck() && !inner.broken && waiting < most
    }

    /// Takes an increment, and answers as soon as it is safe. Returns its number; none: it does not take it.
    pub(super) fn put(
        self: &Arc<Self>,
        key: &[Key],
        amounts: &[i64],
        form: &Form,
        seat: &Arc<Seat>,
    ) -> Option<u64> {
        if self.journal.as_ref().is_some_and(|(journal, _)| !journal.takes()) {
            return None;
        }
        let most_rows = self.pace().rows;
        let mut inner = self.inner();
        if !self.has_room(&inner) || !inner.pending.add(key, amounts) {
            return None;
        }
        let number = inner.pending.to;
        inner.since.get_or_insert_with(clock::now);
        if inner.pending.rows() >= most_rows {
            inner.wanted = number;
        }
        let wakes = inner.pending.count() == 1 || inner.wanted == number;
        let reply = Reply { form: form.clone(), seat: seat.clone(), ticket: seat.take_for_good() };
        match &self.journal {
            Some((journal, id)) => {
                // Under the lock: the journal has them in the order of their numbers.
                let waiter = Waiter { account: self.clone(), number, reply };
                journal.append(*id, number, key, amounts, Some(waiter));
                drop(inner);
            }
            None => {
                drop(inner);
                reply.tell(self.shape.upsert, true);
            }
        }
        if wakes {
            self.work.notify_one();
        }
        self.metrics.accepted();
        Some(number)
    }

    /// Takes an increment that is answered when it is committed, and by whether its row is there. False: it does not take it.
    pub(super) fn try_out(&self, addition: &Addition, form: &Form, seat: &Arc<Seat>) -> bool {
        let mut inner = self.inner();
        if !self.has_room(&inner) {
            return false;
        }
        let reply = Reply { form: form.clone(), seat: seat.clone(), ticket: seat.take_for_good() };
        let (key, amounts) = (addition.key.clone(), addition.amounts.clone());
        inner.trials.push(Trial { key, amounts, reply });
        drop(inner);
        self.work.notify_one();
        true
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

    /// Flushes up to that number at once. Ready when that is committed, or not there any more; never, if no primary comes.
    ///
    /// # Errors
    /// Why the server refuses it.
    pub async fn flush(&self, number: u64) -> Result<(), String> {
        let mut tried = false;
        loop {
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            {
                let mut inner = self.inner();
                if inner.applied >= number || inner.pending.is_empty() && inner.flushing == 0 {
                    return Ok(());
                }
                if inner.is_stuck() && !inner.discard && std::mem::replace(&mut tried, true) {
                    return Err(inner.trouble.clone().unwrap_or_default());
                }
                inner.wanted = inner.wanted.max(number);
            }
            self.work.notify_one();
            moved.await;
        }
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
        self.inner().waiting()
    }

    /// Whether others are to wait for what it has.
    pub(super) fn is_waited_for(&self) -> bool {
        let inner = self.inner();
        !inner.is_stuck() && inner.waiting() > 0
    }

    /// Throws away what the server refuses.
    pub fn discard(&self) {
        let mut inner = self.inner();
        inner.discard = true;
        inner.wanted = inner.pending.to;
        drop(inner);
        self.work.notify_one();
    }

    /// A try to flush has failed; `stuck`: the server has refused it. Who waits for the next one goes by itself.
    pub(super) fn failed(&self, why: &str, stuck: bool) {
        let mut inner = self.inner();
        let trials = std::mem::take(&mut inner.trials);
        inner.trouble = Some(why.to_owned());
        inner.stuck = stuck.then(clock::now);
        drop(inner);
        trials.into_iter().for_each(Trial::again);
        // Who waits for it may have waited for nothing.
        self.moved.notify_waiters();
    }

    /// What statements on its table are made of, if that was seen a moment ago.
    pub(super) fn names(&self) -> Option<Arc<Names>> {
        let inner = self.inner();
        inner.names.as_ref().filter(|(since, _)| since.elapsed() < RECHECK).map(|(_, names)| names.clone())
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
            table: self.table(),
            waiting: inner.waiting(),
            age: inner.since.map(|since| since.elapsed()),
            refused: inner.refused.clone().or_else(|| inner.trouble.clone()),
            stuck: inner.is_stuck() || inner.refused.is_some(),
            what: self.definition.what(),
        }
    }

    /// Committed up to that number. Those who were not told before are told now.
    pub(super) fn moved(self: &Arc<Self>, number: u64, outcome: &Outcome, trials: Vec<(u64, Trial)>) {
        let mut inner = self.inner();
        inner.applied = inner.applied.max(number);
        (inner.flushing, inner.trouble, inner.stuck, inner.discard) = (0, None, None, false);
        inner.since = (!inner.pending.is_empty()).then(clock::now);
        let told: Vec<_> = inner.held.extract_if(.., |held| held.number <= number).collect();
        self.applied.store(inner.applied, Ordering::Release);
        drop(inner);
        if let Some((journal, id)) = &self.journal {
            journal.applied(*id, number);
        }
        told.into_iter().for_each(|held| held.reply.tell(self.shape.upsert, true));
        trials.into_iter().for_each(|(number, trial)| self.tried(number, trial, outcome));
        self.moved.notify_waiters();
    }

    /// A flush with that increment is committed.
    fn tried(self: &Arc<Self>, number: u64, trial: Trial, outcome: &Outcome) {
        if outcome.refused.contains_key(&trial.key) || outcome.missing.contains_key(&trial.key) {
            self.void(number - 1, number);
            if outcome.missing.contains_key(&trial.key) {
                trial.reply.tell(self.shape.upsert, false);
            } else {
                trial.again();
            }
            return;
        }
        let Trial { key, amounts, reply } = trial;
        // What is not told is not known.
        let reply = Some(reply).filter(|_| !outcome.unknown);
        if !outcome.unknown {
            self.known.insert(key.clone(), self.applied());
        }
        match &self.journal {
            // A primary that takes over may not have it.
            Some((journal, id)) => {
                let waiter = reply.map(|reply| Waiter { account: self.clone(), number, reply });
                journal.append(*id, number, &key, &amounts, waiter);
            }
            None => {
                if let Some(reply) = reply {
                    reply.tell(self.shape.upsert, true);
                }
            }
        }
    }

    /// Nobody knows what has become of it: if it is not committed yet, it will be.
    pub(super) fn keep(&self, number: u64, trial: &Trial) {
        if let Some((journal, id)) = &self.journal {
            journal.append(*id, number, &trial.key, &trial.amounts, None);
        }
    }

    /// Somebody else moves its ledger on: nothing can be promised any more.
    pub(super) fn breaks(&self, why: &str) {
        let mut inner = self.inner();
        inner.broken = true;
        inner.refused = Some(why.to_owned());
        let (count, to) = (inner.pending.count(), inner.pending.to);
        inner.pending = Sums::after(to);
        let trials = std::mem::take(&mut inner.trials);
        drop(inner);
        self.metrics.lost(count);
        trials.into_iter().for_each(Trial::again);
    }

    /// Takes out of a load those whose clients wait: they go by themselves.
    pub(super) fn lets_go(&self, load: &mut Load) {
        if let Some(base) = load.base.take() {
            self.void(base.to, load.sums.to);
            load.sums = base.up_to(load.sums.to);
            load.trials.drain(..).for_each(|(_, trial)| trial.again());
        }
    }

    /// These numbers are nobody's.
    pub(super) fn void(&self, from: u64, to: u64) {
        if let Some((journal, id)) = &self.journal {
            journal.void(*id, from, to);
        }
    }

    /// Whether what was taken is to be thrown away; it is counted then.
    pub(super) fn throws_away(&self, sums: &Sums) -> bool {
        let mut inner = self.inner();
        if !std::mem::take(&mut inner.discard) {
            return false;
        }
        (inner.trouble, inner.stuck) = (None, None);
        drop(inner);
        let (table, count) = (self.table(), sums.count());
        tracing::error!(%table, count, "increments that could not be flushed were discarded by an operator");
        self.metrics.lost(count);
        self.void(sums.from, sums.to);
        self.put_back(Sums::after(sums.from).up_to(sums.to));
        true
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
    pub(super) fn take(&self) -> Load {
        let mut inner = self.inner();
        let trials = std::mem::take(&mut inner.trials);
        let mut sums = std::mem::take(&mut inner.pending);
        let base = (!trials.is_empty()).then(|| sums.clone());
        let mut numbered = Vec::with_capacity(trials.len());
        for trial in trials {
            if sums.add(&trial.key, &trial.amounts) {
                numbered.push((sums.to, trial));
            } else {
                trial.again();
            }
        }
        inner.pending = Sums::after(sums.to);
        inner.flushing = sums.count();
        Load { sums, base, trials: numbered }
    }

    /// Puts back what was taken and is not committed. What has come since stands behind it.
    pub(super) fn put_back(&self, mut sums: Sums) {
        let to = sums.to;
        let mut inner = self.inner();
        let more = sums.from < inner.applied;
        inner.flushing = 0;
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
        drop(inner);
        self.moved.notify_waiters();
    }

    pub(super) fn due(&self) -> Due {
        let every = self.pace().every;
        let inner = self.inner();
        if !inner.ready {
            return Due::Open;
        }
        if !inner.trials.is_empty() {
            return Due::Flush;
        }
        if inner.broken {
            return Due::Nothing;
        }
        match inner.since.filter(|_| !inner.pending.is_empty()) {
            None => Due::Nothing,
            Some(_) if inner.wanted > inner.pending.from => Due::Flush,
            Some(since) if since.elapsed() >= every => Due::Flush,
            Some(since) => Due::At(since + every),
        }
    }
}
