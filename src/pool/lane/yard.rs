//! The lanes of one pool: which of them a unit may join, and which are at rest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use tokio::runtime::Handle;
use tokio::task::yield_now;

use super::{Again, Board, Inner, Lane, Seat};
use crate::clock;
use crate::pool::{Lease, Pool};
use crate::server::Wants;
use crate::server::settings::{self, Settings};

/// Most units that one write takes along: with more of them another connection saves nothing worth its wait.
const MOST_JOINED: usize = 8;

/// What a client expects of its connection: only clients that expect the same share one.
#[derive(Clone, Copy, Debug)]
pub struct Outfit<'a> {
    /// What it connected with.
    pub wants: &'a Wants,
    /// Its settings.
    pub settings: Option<&'a Arc<Settings>>,
    /// Its search path; none: `settings` has one.
    pub search_path: Option<&'a Arc<str>>,
}

impl Outfit<'_> {
    /// Whether it is in force on that connection, or what was sent there puts it in force.
    fn is_worn_by(&self, lease: &Lease) -> bool {
        lease.parameters == self.wants.parameters
            && lease.application_name.as_ref() == Some(&self.wants.application_name)
            && settings::are_same(lease.settings.as_ref(), self.settings)
            && self.fits(lease)
    }

    fn fits(&self, lease: &Lease) -> bool {
        (self.search_path.is_none() || lease.search_path.as_ref() == self.search_path)
            // What would take such settings back could be cancelled, and units would follow it.
            && !settings::is_hurried(lease.settings.as_ref(), self.settings)
    }
}

/// The lanes of one worker: a connection is driven by one thread.
#[derive(Debug)]
struct Yard {
    thread: ThreadId,
    lanes: Vec<Arc<Lane>>,
    /// The one that was joined last.
    last: usize,
    /// Those at rest.
    idle: Vec<usize>,
    /// Units for which there is no room, first come, first served.
    standing: VecDeque<Standing>,
    /// A connection is being waited for on their behalf.
    asks: bool,
}

/// A unit that waits for room, of a client with that outfit.
#[derive(Debug)]
struct Standing {
    seat: Arc<Seat>,
    ticket: u64,
    wants: Wants,
    settings: Option<Arc<Settings>>,
    search_path: Option<Arc<str>>,
}

impl Standing {
    fn outfit(&self) -> Outfit<'_> {
        Outfit {
            wants: &self.wants,
            settings: self.settings.as_ref(),
            search_path: self.search_path.as_ref(),
        }
    }
}

impl Yard {
    fn new(thread: ThreadId) -> Self {
        Self { thread, lanes: Vec::new(), last: 0, idle: Vec::new(), standing: VecDeque::new(), asks: false }
    }

    /// A lane at rest, which is the next to be joined.
    fn lane(&mut self, pool: &Pool) -> Option<Arc<Lane>> {
        let place = self.idle.pop().unwrap_or_else(|| {
            let lane = Arc::new(Lane::new(self.lanes.len()));
            Handle::current().spawn(lane.clone().drive(pool.buffers.clone()));
            self.lanes.push(lane);
            self.lanes.len() - 1
        });
        self.last = place;
        self.lanes.get(place).cloned()
    }
}

/// The lanes of one pool.
#[derive(Debug, Default)]
pub(in crate::pool) struct Yards(Mutex<Vec<Yard>>);

impl Drop for Yards {
    fn drop(&mut self) {
        for yard in self.yards().iter() {
            yard.lanes.iter().for_each(|lane| lane.end());
        }
    }
}

impl Yards {
    fn yards(&self) -> MutexGuard<'_, Vec<Yard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane in that place, of this thread, has come to rest.
    pub(super) fn parked(&self, place: usize) {
        let thread = thread::current().id();
        if let Some(yard) = self.yards().iter_mut().find(|yard| yard.thread == thread) {
            yard.idle.push(place);
        }
    }
}

impl Inner {
    /// Whether one more unit may be put there, with at most so many before it.
    fn takes(&self, outfit: &Outfit<'_>, most: usize) -> bool {
        !self.closing
            && !self.abandoned
            && self.riders.len() < most
            && self.lease.as_ref().is_some_and(|lease| outfit.is_worn_by(lease))
    }

    /// Gets a connection, on which the outfit is put if it has another.
    fn set_out(&mut self, mut lease: Lease, outfit: &Outfit<'_>) {
        let wanted = &outfit.wants.application_name;
        let named = lease.application_name.as_ref() == Some(wanted);
        if !named || !settings::are_same(lease.settings.as_ref(), outfit.settings) {
            let name = (!named).then_some(&**wanted);
            let settings = outfit.settings.map(|settings| &**settings);
            let texts = settings::difference(lease.settings.as_deref(), settings, name);
            lease.query(&mut self.out, &texts.join(";"));
            lease.settings = outfit.settings.cloned();
            lease.application_name = Some(wanted.clone());
        }
        self.lease = Some(lease);
    }

    fn board(&mut self, seat: &Arc<Seat>, load: impl FnOnce(&mut Board<'_>)) -> Boarded {
        let mut board = Board::new(self);
        load(&mut board);
        let boarded = board.done();
        let ticket = seat.take();
        if self.riders.is_empty() {
            self.since = Some(clock::now());
        }
        self.riders.push_back(Some((seat.clone(), ticket)));
        self.joined += 1;
        if self.joined == 1
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
        boarded
    }
}

/// A unit is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Boarded {
    /// Prepared statements that the connection lacked.
    pub supplied: usize,
    /// Those of which its server was asked.
    pub asked: usize,
}

impl Pool {
    /// Puts a unit on a lane: one that is about to be flushed, else a connection that is free, else one on which others
    /// are under way; else it waits until there is room. None: as many wait as may, or none of these will do for that client.
    ///
    /// `load` writes the unit's messages, and must not fail. If there is no room, it is not called, and the seat says
    /// [`Again::Room`] when there is.
    pub fn board(
        self: &Arc<Self>,
        outfit: &Outfit<'_>,
        seat: &Arc<Seat>,
        load: impl FnOnce(&mut Board<'_>),
    ) -> Option<Boarded> {
        let most = self.options().max_shared_reads;
        let thread = thread::current().id();
        let mut yards = self.yards.yards();
        let at = yards.iter().position(|yard| yard.thread == thread).unwrap_or_else(|| {
            yards.push(Yard::new(thread));
            yards.len() - 1
        });
        let yard = yards.get_mut(at)?;
        if let Some(last) = yard.lanes.get(yard.last) {
            let mut inner = last.inner();
            if (1..MOST_JOINED).contains(&inner.joined) && inner.takes(outfit, most) {
                return Some(inner.board(seat, load));
            }
        }
        if let Some(lease) = self.try_lease(&outfit.wants.parameters) {
            if !outfit.fits(&lease) {
                lease.put_back(clock::now());
                return None;
            }
            let lane = yard.lane(self)?;
            let mut inner = lane.inner();
            if inner.abandoned {
                return None;
            }
            inner.set_out(lease, outfit);
            return Some(inner.board(seat, load));
        }
        // Rather a connection more than a long queue, while there may be more.
        let counts = self.counts();
        let grows = counts.leased + counts.opening + counts.idle < self.options().size;
        let most = if grows { most.min(MOST_JOINED) } else { most };
        let free = yard.lanes.iter().enumerate().filter_map(|(place, lane)| {
            let inner = lane.inner();
            inner.takes(outfit, most).then_some((inner.riders.len(), place))
        });
        if let Some((_, place)) = free.min() {
            yard.last = place;
            return Some(yard.lanes.get(place)?.inner().board(seat, load));
        }
        if yard.standing.len() >= self.options().max_waiting {
            return None;
        }
        yard.standing.push_back(Standing {
            seat: seat.clone(),
            ticket: seat.take(),
            wants: outfit.wants.clone(),
            settings: outfit.settings.cloned(),
            search_path: outfit.search_path.cloned(),
        });
        if !std::mem::replace(&mut yard.asks, true) {
            Handle::current().spawn(ask(self.clone(), thread));
        }
        Some(Boarded { supplied: 0, asked: 0 })
    }

    /// Lets those who stand come aboard a lane with that connection.
    fn let_in(&self, thread: ThreadId, lease: Lease) -> Option<Arc<Lane>> {
        let mut yards = self.yards.yards();
        let yard = yards.iter_mut().find(|yard| yard.thread == thread)?;
        let first = yard.standing.front()?;
        if !first.outfit().fits(&lease) {
            first.seat.again(first.ticket, Again::Behind);
            yard.standing.pop_front();
            lease.put_back(clock::now());
            return None;
        }
        let lane = yard.lane(self)?;
        let mut inner = lane.inner();
        if inner.abandoned {
            return None;
        }
        let most = self.options().max_shared_reads.min(yard.standing.len());
        if let Some(first) = yard.standing.front() {
            inner.set_out(lease, &first.outfit());
        }
        inner.expects = true;
        for Standing { seat, ticket, .. } in yard.standing.drain(..most) {
            seat.again(ticket, Again::Room);
        }
        drop(inner);
        Some(lane)
    }
}

/// Waits for connections as any client does, for all who stand.
async fn ask(pool: Arc<Pool>, thread: ThreadId) {
    loop {
        let wants = {
            let mut yards = pool.yards.yards();
            let Some(yard) = yards.iter_mut().find(|yard| yard.thread == thread) else { return };
            while yard.standing.front().is_some_and(|first| !first.seat.waits(first.ticket)) {
                yard.standing.pop_front();
            }
            match yard.standing.front() {
                Some(first) => first.wants.clone(),
                None => {
                    yard.asks = false;
                    return;
                }
            }
        };
        match pool.lease_while_up(&wants).await {
            Some(Ok(lease)) => {
                if let Some(lane) = pool.let_in(thread, lease) {
                    // All who were told are here before this goes on.
                    yield_now().await;
                    lane.expects_no_more();
                }
            }
            Some(Err(_)) | None => {
                let mut yards = pool.yards.yards();
                let Some(yard) = yards.iter_mut().find(|yard| yard.thread == thread) else { return };
                // Each hears of it for itself.
                for Standing { seat, ticket, .. } in yard.standing.drain(..) {
                    seat.again(ticket, Again::Behind);
                }
            }
        }
    }
}
