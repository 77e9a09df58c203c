//! Increments of counters, merged: `UPDATE photos SET votes = votes + 1 WHERE id = 7` of many clients is one statement on the primary.
//!
//! Group commit: what comes while a statement runs is merged, and is the next one; nobody waits for a timer, and each client is answered
//! after the commit that has its increment. A statement that fails changes nothing: all in it run again, each by itself, as they
//! were sent. If its connection breaks nobody knows whether it was carried out: all in it are told so, and none runs again.
//!
//! Invariants: an increment is in one statement; one that is answered is committed; rows are locked in the order of their keys.

pub mod check;
mod merge;

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::runtime::Handle;

pub use merge::{Given, Value};

use crate::clock::{self, Duration, Instant};
use crate::ids::Node;
use crate::metrics::CounterMetrics;
use crate::monitor::Cluster;
use crate::pool::lane::{Again, Seat};
use crate::pool::{Lease, Pool};
use crate::server::settings;
use crate::server::{Server, Wants};
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::{TransactionStatus, answer, backend, write};
use merge::{Names, batch};

/// A table is looked at again after this long, whether or not a change of definitions was seen.
const RECHECK: Duration = Duration::from_secs(1);

/// The same, of one whose increments are not merged.
const RETRY: Duration = Duration::from_secs(1);

/// Longest answer to a statement of its own.
const MOST_ANSWER: usize = 8 * 1024 * 1024;

/// What the operator says of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its schema, if it is said.
    pub schema: Option<Box<str>>,
    /// Its name.
    pub table: Box<str>,
    /// The columns of a unique index.
    pub key: Vec<Box<str>>,
    /// The counters.
    pub columns: Vec<Box<str>>,
    /// Most increments that wait; more go by themselves.
    pub most: usize,
}

impl Rule {
    /// The table's name as SQL has it.
    #[must_use]
    pub fn quoted(&self) -> String {
        let schema =
            self.schema.as_ref().map(|schema| write::quote_identifier(schema) + ".").unwrap_or_default();
        schema + &write::quote_identifier(&self.table)
    }
}

/// How a unit is answered: the tags of its messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form(pub Box<[u8]>);

impl Form {
    fn write(&self, found: bool, out: &mut BytesMut) {
        for tag in &self.0 {
            match tag {
                b'P' => answer::parse_complete(out),
                b'B' => answer::bind_complete(out),
                b'D' => answer::no_data(out),
                b'E' | b'Q' => answer::command_complete(out, if found { "UPDATE 1" } else { "UPDATE 0" }),
                _ => {}
            }
        }
        write::ready_for_query(out, TransactionStatus::Idle);
    }
}

#[derive(Debug)]
struct Waiting {
    given: Given,
    form: Form,
    seat: Arc<Seat>,
    ticket: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Whoever was told something has another ticket, or no longer waits.
        self.seat.unknown(self.ticket);
    }
}

/// Where a group's statements run.
#[derive(Clone)]
pub struct Place {
    /// The servers.
    pub cluster: Arc<Cluster>,
    /// The primary.
    pub node: Node,
    /// Its pool.
    pub pool: Arc<Pool>,
    /// What its connections are opened with.
    pub wants: Wants,
    /// Changes when definitions may have.
    pub version: u64,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("node", &self.node).field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Place {
    /// Whether the server is still the primary that it was when that connection was opened.
    fn holds(&self, lease: &Lease) -> bool {
        self.cluster.view().primary() == Some(self.node) && !self.pool.is_over(lease)
    }
}

#[derive(Debug, Default)]
struct Inner {
    waiting: Vec<Waiting>,
    place: Option<Place>,
    running: bool,
    /// Why they are not merged, at which version, since when.
    refused: Option<(u64, Instant)>,
    /// What statements are made of, at which version, since when.
    names: Option<(u64, Instant, Arc<Names>)>,
    /// That it is refused was said.
    warned: Option<String>,
}

/// The increments of one table by one role.
#[derive(Debug)]
pub struct Group {
    rule: Rule,
    metrics: Arc<CounterMetrics>,
    inner: Mutex<Inner>,
}

/// Who: database and user.
type Who = (Arc<str>, Arc<str>, usize);

/// All groups of one entry of the configuration.
#[derive(Debug)]
pub struct Counters {
    rules: Vec<Rule>,
    metrics: Vec<Arc<CounterMetrics>>,
    groups: Mutex<HashMap<Who, Arc<Group>>>,
}

/// Most groups: roles and databases times rules.
const MOST_GROUPS: usize = 10_000;

impl Counters {
    /// Of those rules, each with what counts for it.
    #[must_use]
    pub fn new(rules: Vec<(Rule, Arc<CounterMetrics>)>) -> Self {
        let (rules, metrics) = rules.into_iter().unzip();
        Self { rules, metrics, groups: Mutex::default() }
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The group of that rule, by its place. None: there are too many.
    #[must_use]
    pub fn group(&self, database: &Arc<str>, user: &Arc<str>, rule: usize) -> Option<Arc<Group>> {
        let key = (database.clone(), user.clone(), rule);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.get(&key) {
            return Some(group.clone());
        }
        if groups.len() >= MOST_GROUPS {
            return None;
        }
        let (rule, metrics) = (self.rules.get(rule)?.clone(), self.metrics.get(rule)?.clone());
        let group = Arc::new(Group { rule, metrics, inner: Mutex::default() });
        groups.insert(key, group.clone());
        Some(group)
    }
}

/// A group as it is now.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The database that its clients asked for.
    pub database: Arc<str>,
    /// Their user.
    pub user: Arc<str>,
    /// The table as the rule names it.
    pub table: String,
    /// Increments that wait.
    pub waiting: usize,
    /// Why they are not merged; none: they are, or none has come yet.
    pub refused: Option<String>,
}

impl Counters {
    /// Every group that has had an increment.
    #[must_use]
    pub fn all(&self) -> Vec<Shown> {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = groups.iter().map(|((database, user, _), group)| {
            let inner = group.inner();
            let schema = group.rule.schema.as_ref().map(|schema| format!("{schema}.")).unwrap_or_default();
            Shown {
                database: database.clone(),
                user: user.clone(),
                table: format!("{schema}{}", group.rule.table),
                waiting: inner.waiting.len(),
                refused: inner.refused.and(inner.warned.clone()),
            }
        });
        let mut all: Vec<_> = shown.collect();
        all.sort_by(|one, other| {
            (&one.database, &one.table, &one.user).cmp(&(&other.database, &other.table, &other.user))
        });
        all
    }
}

/// Why a statement of its own was not carried out.
enum Failed {
    /// The server said no: nothing has changed.
    Refused,
    /// Nobody knows.
    Lost,
}

impl Group {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an increment. False: it goes by itself.
    pub fn add(self: &Arc<Self>, place: Place, given: Given, form: Form, seat: &Arc<Seat>) -> bool {
        let mut inner = self.inner();
        let refused =
            inner.refused.is_some_and(|(version, since)| version == place.version && since.elapsed() < RETRY);
        if refused || inner.waiting.len() >= self.rule.most {
            self.metrics.passed();
            return false;
        }
        let ticket = seat.take_for_good();
        inner.waiting.push(Waiting { given, form, seat: seat.clone(), ticket });
        inner.place = Some(place);
        if !std::mem::replace(&mut inner.running, true) {
            Handle::current().spawn(Runner { group: self.clone(), over: false }.run());
        }
        true
    }

    fn again(&self, waiting: Vec<Waiting>) {
        for one in waiting {
            one.seat.again(one.ticket, Again::Behind);
        }
    }
}

/// Whatever ends the task of a group, nobody waits for it after that.
struct Runner {
    group: Arc<Group>,
    /// It has ended as it should.
    over: bool,
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut inner = self.group.inner();
        inner.running = false;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        self.group.again(waiting);
    }
}

impl Runner {
    /// Carries out what waits, until nothing does.
    async fn run(mut self) {
        loop {
            // Those who are at hand in this turn of the worker come along.
            tokio::task::yield_now().await;
            let place = {
                let mut inner = self.group.inner();
                if inner.waiting.is_empty() {
                    inner.running = false;
                    self.over = true;
                    return;
                }
                inner.place.clone()
            };
            let leased = match &place {
                Some(place) => place.pool.lease(&place.wants).await.ok(),
                None => None,
            };
            let (Some(place), Some(mut lease)) = (place, leased) else {
                let waiting = std::mem::take(&mut self.group.inner().waiting);
                self.group.again(waiting);
                continue;
            };
            match self.names(&place, &mut lease).await {
                Ok(Some(names)) => self.flush(&names, &place, lease).await,
                Ok(None) => {
                    lease.put_back(clock::now());
                    let waiting = std::mem::take(&mut self.group.inner().waiting);
                    self.group.again(waiting);
                }
                Err(_) => {
                    lease.close("lost");
                    let waiting = std::mem::take(&mut self.group.inner().waiting);
                    self.group.again(waiting);
                }
            }
        }
    }

    /// What statements on the table are made of; none: its increments are not merged.
    async fn names(&self, place: &Place, lease: &mut Lease) -> Result<Option<Arc<Names>>, Failed> {
        let known = self.group.inner().names.clone();
        if let Some((version, since, names)) = known
            && version == place.version
            && since.elapsed() < RECHECK
        {
            return Ok(Some(names));
        }
        if lease.settings.is_some() {
            let sql = settings::difference(lease.settings.as_deref(), None, None);
            ask(lease, &sql).await?;
            lease.settings = None;
        }
        let rows = ask(lease, &check::question(&self.group.rule)).await?;
        let mut inner = self.group.inner();
        let now = clock::now();
        match check::verdict(&self.group.rule, &rows) {
            Ok(names) => {
                let names = Arc::new(names);
                inner.names = Some((place.version, now, names.clone()));
                (inner.refused, inner.warned) = (None, None);
                self.group.metrics.refused(false);
                Ok(Some(names))
            }
            Err(why) => {
                (inner.names, inner.refused) = (None, Some((place.version, now)));
                if inner.warned.as_ref() != Some(&why) {
                    tracing::warn!(table = %self.group.rule.table, %why, "its increments are not merged: they go by themselves");
                }
                inner.warned = Some(why);
                self.group.metrics.refused(true);
                Ok(None)
            }
        }
    }

    /// Carries out all that waits now.
    async fn flush(&self, names: &Names, place: &Place, mut lease: Lease) {
        let all = std::mem::take(&mut self.group.inner().waiting);
        let (mut waiting, mut additions, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for one in all {
            match one.given.fit(names) {
                Some(addition) => {
                    additions.push(addition);
                    waiting.push(one);
                }
                None => others.push(one),
            }
        }
        self.group.again(others);
        if lease.settings.is_some() {
            let sql = settings::difference(lease.settings.as_deref(), None, None);
            if ask(&mut lease, &sql).await.is_err() {
                lease.close("in_doubt");
                return self.group.again(waiting);
            }
            lease.settings = None;
        }
        while !waiting.is_empty() {
            if !place.holds(&lease) {
                // Whoever is the primary now, each finds it.
                lease.close("role_changed");
                return self.group.again(waiting);
            }
            let merged = batch(names, &additions);
            let start = clock::now();
            let outcome = ask(&mut lease, &merged.text).await;
            let rest = waiting.split_off(merged.taken.clamp(1, waiting.len()));
            match outcome {
                // What a server answers that is the primary no more may be lost with it.
                Ok(_) if !place.holds(&lease) => {
                    waiting.iter().for_each(|one| one.seat.unknown(one.ticket));
                    lease.close("role_changed");
                    return self.group.again(rest);
                }
                Ok(rows) => {
                    self.group.metrics.flushed(waiting.len(), merged.rows.len(), start.elapsed());
                    let missed = answer(waiting, &merged.rows, &rows, &self.group.metrics);
                    self.group.again(missed);
                }
                Err(Failed::Refused) => {
                    self.group.metrics.failed();
                    self.group.again(waiting);
                }
                Err(Failed::Lost) => {
                    self.group.metrics.failed();
                    for one in waiting {
                        one.seat.unknown(one.ticket);
                    }
                    lease.close("lost");
                    return self.group.again(rest);
                }
            }
            additions.drain(..merged.taken.clamp(1, additions.len()));
            waiting = rest;
        }
        if lease.owed.is_free() {
            lease.put_back(clock::now());
        } else {
            lease.close("in_doubt");
        }
    }
}

/// Tells each of its row. Returned are those whose row a statement about several rows did not find: a row may be missed that
/// somebody else changes at that moment (PostgreSQL 18.0 does so, 15 and 18.4 do not), so each asks by itself.
fn answer(
    waiting: Vec<Waiting>,
    rows: &[Vec<usize>],
    found: &[Vec<Option<String>>],
    metrics: &CounterMetrics,
) -> Vec<Waiting> {
    let mut there = vec![false; waiting.len()];
    let found = found.iter().filter_map(|row| row.first()?.as_deref()?.parse::<usize>().ok()?.checked_sub(1));
    for place in found.filter_map(|row| rows.get(row)).flatten() {
        if let Some(there) = there.get_mut(*place) {
            *there = true;
        }
    }
    let (mut out, mut missed) = (BytesMut::new(), Vec::new());
    for (one, there) in waiting.into_iter().zip(there) {
        if !there {
            metrics.unmatched();
            if rows.len() > 1 {
                missed.push(one);
                continue;
            }
        }
        out.clear();
        one.form.write(there, &mut out);
        one.seat.answered(one.ticket, &mut out.to_vec());
    }
    missed
}

/// One simple query: the rows of its result.
async fn ask(lease: &mut Lease, text: &str) -> Result<Vec<Vec<Option<String>>>, Failed> {
    let mut out = BytesMut::new();
    lease.query(&mut out, text);
    let buffers = lease.pool().buffers();
    let Server { stream, window, owed, .. } = &mut **lease;
    stream.write_all(&out).await.map_err(|_| Failed::Lost)?;
    let window = window.get_or_insert_with(|| buffers.take());
    let (mut rows, mut refused, mut size) = (Vec::new(), false, 0);
    loop {
        while let Some(head) = frame::header(window.bytes(), Side::Backend).map_err(|_| Failed::Lost)? {
            let Some(message) = window.bytes().get(..head.size) else { break };
            let body = message.get(HEADER..).unwrap_or_default();
            owed.reply(head.tag, body).map_err(|_| Failed::Lost)?;
            size += head.size;
            match head.tag {
                b'D' => rows.push(backend::row(body)),
                b'E' => refused = true,
                b'Z' => {
                    window.consume(head.size);
                    return if refused { Err(Failed::Refused) } else { Ok(rows) };
                }
                _ => {}
            }
            window.consume(head.size);
        }
        if window.is_full() || size > MOST_ANSWER {
            return Err(Failed::Lost);
        }
        match poll_fn(|cx| window.poll_fill(cx, stream)).await {
            Ok(0) | Err(_) => return Err(Failed::Lost),
            Ok(_) => {}
        }
    }
}
