//! The increments of one table by one role: what waits, and the task that carries it out.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::BytesMut;
use tokio::runtime::Handle;

use super::account::{Account, Means, Pace};
use super::ask::{Failed, ask, plain};
use super::books::Books;
use super::definition::{Definition, Whose};
use super::flight::{Flight, put_back};
use super::merge::{Addition, Given, Key, Shape};
use super::statement::Names;
use super::{Durability, Rule, Verify, check};
use crate::clock::{self, Duration, Instant};
use crate::ids::Node;
use crate::metrics::CounterMetrics;
use crate::monitor::Cluster;
use crate::pool::lane::{Again, Seat};
use crate::pool::{Lease, Pool};
use crate::server::{Prepared, Registry, Wants};
use crate::wire::{TransactionStatus, answer, write};

/// A table is looked at again after this long, whether or not a change of definitions was seen.
const RECHECK: Duration = Duration::from_secs(1);

/// The same, of one whose increments are not merged.
const RETRY: Duration = Duration::from_secs(1);

/// Most statements of one group that run at the same time, each about other rows. More only wait for each other: what comes meanwhile
/// is merged.
const MOST_FLIGHTS: usize = 8;

/// How a unit is answered: the tags of its messages; where its statement is described, the ParameterDescription stands before that tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form(pub Box<[u8]>);

impl Form {
    pub(super) fn write(&self, upsert: bool, found: bool, out: &mut BytesMut) {
        let mut rest = &*self.0;
        while let Some((tag, after)) = rest.split_first() {
            rest = after;
            match tag {
                b't' => {
                    let size = after.first_chunk().map_or(0, |size| u32::from_be_bytes(*size) as usize);
                    let (body, after) = after.split_at_checked(size).unwrap_or((after, &[]));
                    out.extend_from_slice(b"t");
                    out.extend_from_slice(body);
                    rest = after;
                }
                b'P' => answer::parse_complete(out),
                b'B' => answer::bind_complete(out),
                b'D' => answer::no_data(out),
                b'E' | b'Q' => {
                    let (inserts, count) = (if upsert { "INSERT 0" } else { "UPDATE" }, u8::from(found));
                    answer::command_complete(out, &format!("{inserts} {count}"));
                }
                _ => {}
            }
        }
        write::ready_for_query(out, TransactionStatus::Idle);
    }
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) given: Given,
    /// The same, by those names.
    pub(super) addition: Option<(Arc<Names>, Addition)>,
    pub(super) form: Form,
    pub(super) seat: Arc<Seat>,
    pub(super) ticket: u64,
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
    /// What is prepared on servers.
    pub prepared: Arc<Registry>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("node", &self.node).field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Place {
    /// Whether the server is still the primary that it was when that connection was opened.
    pub(super) fn holds(&self, lease: &Lease) -> bool {
        self.cluster.view().primary() == Some(self.node) && !self.pool.is_over(lease)
    }

    /// A connection on which increments were sent was lost. Who is told so comes again at once, and is not to run into the same:
    /// waits until the server was asked.
    pub(super) async fn is_lost(&self) {
        const LONGEST: Duration = Duration::from_secs(1);
        self.cluster.note_lost(self.node);
        self.cluster.lost(self.node, "a connection that carried increments was lost");
        self.cluster.asked(self.node, clock::now() + LONGEST).await;
    }
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Busy {
    pub(super) flights: usize,
    /// The rows of all of these.
    pub(super) keys: HashSet<Vec<Key>>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) waiting: Vec<Waiting>,
    place: Option<Place>,
    /// Somebody sends off what waits.
    pub(super) running: bool,
    pub(super) busy: Busy,
    /// Why they are not merged, at which version, since when.
    pub(super) refused: Option<(u64, Instant)>,
    /// What statements are made of, at which version, since when.
    pub(super) names: Option<(u64, Instant, Arc<Names>)>,
    /// The statements about one row of these shapes.
    pub(super) singles: Vec<(Arc<Shape>, Arc<Prepared>)>,
    /// That it is refused was said.
    pub(super) warned: Option<String>,
    /// What keeps those that are answered before they are committed, by their shapes.
    accounts: Vec<(Arc<Shape>, Arc<Account>)>,
}

impl Inner {
    /// What statements are made of, if that is known and cannot have changed.
    fn names(&self, version: u64) -> Option<Arc<Names>> {
        let (at, since, names) = self.names.as_ref()?;
        (*at == version && since.elapsed() < RECHECK).then(|| names.clone())
    }
}

/// The increments of one table by one role.
pub struct Group {
    pub(super) rule: Rule,
    pub(super) metrics: Arc<CounterMetrics>,
    books: Arc<Books>,
    whose: Whose,
    /// The way to the servers of what keeps increments.
    means: OnceLock<Arc<dyn Means>>,
    inner: Mutex<Inner>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("rule", &self.rule).field("whose", &self.whose).finish_non_exhaustive()
    }
}

/// What has become of an increment that was given to a group.
#[derive(Debug)]
pub enum Taken {
    /// It waits for its commit.
    Waits,
    /// It is answered before that: what has it, and under which number.
    Kept(Arc<Account>, u64),
}

impl Group {
    pub(super) fn new(rule: Rule, metrics: Arc<CounterMetrics>, books: Arc<Books>, whose: Whose) -> Self {
        Self { rule, metrics, books, whose, means: OnceLock::new(), inner: Mutex::default() }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an increment. None: it goes by itself.
    pub fn take(
        self: &Arc<Self>,
        place: Place,
        given: Given,
        form: Form,
        seat: &Arc<Seat>,
        means: impl FnOnce() -> Arc<dyn Means>,
    ) -> Option<Taken> {
        if self.rule.durability != Durability::Commit {
            self.means.get_or_init(means);
            let names = self.inner().names(place.version);
            if let Some((account, number)) = self.keep(names, &given, &form, seat) {
                return Some(Taken::Kept(account, number));
            }
        }
        self.add(place, given, form, seat).then_some(Taken::Waits)
    }

    /// The same while there is no primary, of what can be answered before it is committed. The table is taken for what it was.
    pub fn take_without(&self, version: u64, given: &Given, form: &Form, seat: &Arc<Seat>) -> Option<Taken> {
        let names = self.inner().names.clone().filter(|(at, ..)| *at == version).map(|(.., names)| names);
        self.keep(names, given, form, seat).map(|(account, number)| Taken::Kept(account, number))
    }

    /// Takes one that can be answered before it is committed. None: that has to go through first, or there is no room.
    fn keep(
        &self,
        names: Option<Arc<Names>>,
        given: &Given,
        form: &Form,
        seat: &Arc<Seat>,
    ) -> Option<(Arc<Account>, u64)> {
        let names = names?;
        let addition = given.fit(&names)?;
        let account = self.account(&names, &addition)?;
        if self.rule.verify != Verify::Never
            && !account.knows(&addition.key, self.rule.verify == Verify::Always)
        {
            return None;
        }
        let number = account.put(&addition.key, &addition.amounts, form, seat)?;
        Some((account, number))
    }

    /// What keeps additions of that shape.
    fn account(&self, names: &Arc<Names>, addition: &Addition) -> Option<Arc<Account>> {
        let means = self.means.get()?;
        if let Some((_, account)) = self
            .inner()
            .accounts
            .iter()
            .find(|(of, account)| *of == addition.shape && account.definition.schema == *names.schema)
        {
            return Some(account.clone());
        }
        let definition = Definition::new(&self.whose, &self.rule, names, &addition.shape);
        let pace = Pace { every: self.rule.every, rows: self.rule.rows, most: self.rule.most };
        let journaled = self.rule.durability == Durability::Journal;
        let account = self.books.account(definition, journaled, pace, || means.clone(), &self.metrics)?;
        self.inner().accounts.push((addition.shape.clone(), account.clone()));
        Some(account)
    }

    /// Gives an increment to what keeps its kind; it is answered when that is committed. False: it cannot be given there.
    async fn hand_over(&self, names: &Arc<Names>, addition: &Addition, one: &Waiting) -> bool {
        let Some(account) = self.account(names, addition) else { return false };
        account.is_open().await && account.try_out(addition, &one.form, &one.seat)
    }

    /// Takes an increment that is answered when it is committed. False: it goes by itself.
    fn add(self: &Arc<Self>, place: Place, given: Given, form: Form, seat: &Arc<Seat>) -> bool {
        let mut inner = self.inner();
        let refused =
            inner.refused.is_some_and(|(version, since)| version == place.version && since.elapsed() < RETRY);
        if refused || inner.waiting.len() >= self.rule.most {
            self.metrics.passed();
            return false;
        }
        let ticket = seat.take_for_good();
        let names = inner.names(place.version);
        let addition = names.and_then(|names| Some((names.clone(), given.fit(&names)?)));
        let waits = addition.as_ref().is_some_and(|(_, addition)| inner.busy.keys.contains(&addition.key));
        inner.waiting.push(Waiting { given, addition, form, seat: seat.clone(), ticket });
        inner.place = Some(place);
        if !waits && inner.busy.flights < MOST_FLIGHTS && !std::mem::replace(&mut inner.running, true) {
            Runner::start(self);
        }
        true
    }

    /// Asks what statements on the table are made of; none: its increments are not merged.
    async fn look(&self, place: &Place, lease: &mut Lease) -> Result<Option<Arc<Names>>, Failed> {
        plain(lease).await?;
        let rows = ask(lease, &check::question(&self.rule)).await?;
        let mut inner = self.inner();
        let now = clock::now();
        match check::verdict(&self.rule, &rows) {
            Ok(names) => {
                let names = match &inner.names {
                    Some((.., known)) if **known == names => known.clone(),
                    _ => {
                        inner.singles.clear();
                        Arc::new(names)
                    }
                };
                inner.names = Some((place.version, now, names.clone()));
                (inner.refused, inner.warned) = (None, None);
                self.metrics.refused(false);
                Ok(Some(names))
            }
            Err(why) => {
                (inner.names, inner.refused) = (None, Some((place.version, now)));
                if inner.warned.as_ref() != Some(&why) {
                    tracing::warn!(table = %self.rule.table, %why, "its increments are not merged: they go by themselves");
                }
                inner.warned = Some(why);
                self.metrics.refused(true);
                Ok(None)
            }
        }
    }

    pub(super) fn again(&self, waiting: Vec<Waiting>) {
        for one in waiting {
            one.seat.again(one.ticket, Again::Behind);
        }
    }
}

/// Whatever ends the task that sends a group's increments off, nobody waits for it after that.
pub(super) struct Runner {
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
    /// There is none yet.
    pub(super) fn start(group: &Arc<Group>) {
        Handle::current().spawn(Self { group: group.clone(), over: false }.run());
    }

    /// Sends off what waits, until nothing does that can go.
    async fn run(mut self) {
        loop {
            // Those who are at hand in this turn of the worker come along.
            tokio::task::yield_now().await;
            let (place, names) = {
                let mut inner = self.group.inner();
                if inner.waiting.is_empty() || inner.busy.flights >= MOST_FLIGHTS {
                    // The end of a flight sees to what waits.
                    inner.running = false;
                    self.over = true;
                    return;
                }
                let place = inner.place.clone();
                let names = place.as_ref().and_then(|place| inner.names(place.version));
                (place, names)
            };
            let Some(place) = place else { return };
            let Some(mut lease) = place.pool.lease(&place.wants).await.ok() else {
                self.send_back();
                continue;
            };
            // A row that is new may draw its other columns from sequences.
            lease.draws_unasked();
            let names = match names {
                Some(names) => Ok(Some(names)),
                None => self.group.look(&place, &mut lease).await,
            };
            match names {
                Ok(Some(names)) => {
                    if self.group.rule.durability != Durability::Commit {
                        match self.hand_over(&names, &place, lease).await {
                            Some(another) => lease = another,
                            None => continue,
                        }
                    }
                    match Flight::of(&self.group, &names) {
                        Some(flight) => drop(Handle::current().spawn(flight.run(place, lease))),
                        None => {
                            put_back(lease);
                            let mut inner = self.group.inner();
                            if inner.busy.flights > 0 || inner.waiting.is_empty() {
                                // All of these wait for a flight: its end sees to them.
                                inner.running = false;
                                self.over = true;
                                return;
                            }
                        }
                    }
                }
                Ok(None) => {
                    put_back(lease);
                    self.send_back();
                }
                Err(_) => {
                    lease.close("lost");
                    self.send_back();
                }
            }
        }
    }

    /// What waits goes by itself.
    fn send_back(&self) {
        let waiting = std::mem::take(&mut self.group.inner().waiting);
        self.group.again(waiting);
    }

    /// Gives what waits to those who keep it, as far as they take it. The connection that it was looked at by goes back first: they may
    /// need it.
    async fn hand_over(&self, names: &Arc<Names>, place: &Place, lease: Lease) -> Option<Lease> {
        put_back(lease);
        let all = std::mem::take(&mut self.group.inner().waiting);
        let mut left = Vec::new();
        for one in all {
            let taken = match one.given.fit(names) {
                Some(addition) => self.group.hand_over(names, &addition, &one).await,
                None => false,
            };
            if !taken {
                left.push(one);
            }
        }
        if left.is_empty() {
            return None;
        }
        match place.pool.lease(&place.wants).await {
            Ok(mut lease) => {
                lease.draws_unasked();
                let mut inner = self.group.inner();
                left.append(&mut inner.waiting);
                inner.waiting = left;
                Some(lease)
            }
            Err(_) => {
                self.group.again(left);
                None
            }
        }
    }
}
