//! A server connection on which short reads of several clients travel as one pipeline, each with a Sync of its own.
//!
//! What clients hand in during one turn of their worker goes out in one write. So sharing begins where it saves something, on
//! a busy worker, and a client that comes alone has its connection to itself.
//!
//! A lane gives out whole answers only. A unit that fails, answers too much, takes too long, or loses its connection is not
//! answered at all: nothing of it was shown and it only reads, so it runs again on a connection of its client's own, and what the
//! server still says of it here reaches nobody. That keeps everything else out of here: errors, cancels, failover.
//!
//! Invariants: units are answered in the order in which they came; a lane without a unit holds no connection; what
//! is under way is bounded by `max_shared_reads`, an answer by `MOST_ANSWER`.

mod board;
mod seat;
mod yard;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::time::{Sleep, sleep_until, timeout};

pub use board::Board;
pub use seat::{Again, Fate, Seat};
pub use yard::Outfit;
pub(super) use yard::Yards;

use super::Lease;
use crate::clock::{self, Duration, Instant};
use crate::net::{Buffers, WINDOW};
use crate::server::described::{self, Columns, Description, Fit};
use crate::server::owed::{Event, Show};
use crate::server::{self, Prepared, Server};
use crate::wire::TransactionStatus;
use crate::wire::frame::{self, HEADER, Side};

/// Longest answer that is given out.
const MOST_ANSWER: usize = 32 * 1024;

/// Longest that a unit may take while others wait behind it. What is known to be short takes a hundredth of it; more is a
/// lock, a hiccup or another plan, and those behind it have nothing to do with that.
const LATE: Duration = Duration::from_millis(30);

/// Longest that a lane waits for the answers to units that run elsewhere by now, before it cancels them.
const DRAIN: Duration = Duration::from_secs(1);

/// Pause between these cancels: each ends one unit.
const NEXT: Duration = Duration::from_millis(100);

/// Longest that passing on that cancel may take.
const CANCEL: Duration = Duration::from_secs(10);

/// Why a connection was closed that broke.
const LOST: &str = "lost";

/// Why one was closed that had to be cancelled.
const LATE_CLOSE: &str = "late";

/// A unit under way: whose, and with which ticket. None: it runs elsewhere by now.
type Rider = Option<(Arc<Seat>, u64)>;

/// A Parse or a Close of pgweir's own before the unit with that number.
#[derive(Debug)]
struct Move {
    unit: u64,
    prepared: Arc<Prepared>,
    makes: bool,
}

/// A Describe of pgweir's own before the unit with that number, of a statement that its client was told of.
#[derive(Debug)]
struct Check {
    unit: u64,
    number: u32,
    prepared: Arc<Prepared>,
    told: Arc<Description>,
    parameters: Option<Arc<[u32]>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// None while nothing is under way.
    lease: Option<Lease>,
    /// What is to be sent.
    out: BytesMut,
    /// Units that came since something was sent.
    joined: usize,
    riders: VecDeque<Rider>,
    /// How many units have ended: the number of the first of `riders`.
    ended: u64,
    moves: VecDeque<Move>,
    checks: VecDeque<Check>,
    /// What came so far of the answer to the first unit.
    answer: Vec<u8>,
    /// Why the first unit has to run again.
    spoilt: Option<Again>,
    /// Bytes of a message that are still to come, and are for nobody.
    skip: usize,
    /// Since when the server works on the first unit.
    since: Option<Instant>,
    /// Nobody may join until it has come to rest.
    closing: bool,
    /// Some have been told that they can come.
    expects: bool,
    /// How often the server was told to stop.
    cancels: usize,
    /// Nobody drives it any more.
    abandoned: bool,
    waker: Option<Waker>,
}

/// What a look at the connection came to.
enum Turn {
    Moved,
    Waits,
    /// Nothing is under way any more.
    Rests,
    /// The connection is of no use any more, for a reason that is counted.
    Broken(&'static str),
}

/// A lane.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its place in its yard.
    place: usize,
    inner: Mutex<Inner>,
}

/// Whatever ends the task of a lane, nobody waits for it after that.
struct Driver(Arc<Lane>);

impl Drop for Driver {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        inner.abandoned = true;
        inner.all_again(Again::Lost);
        let lease = inner.lease.take();
        drop(inner);
        drop(lease);
    }
}

impl Lane {
    fn new(place: usize) -> Self {
        Self { place, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who was told to come is here, or will not come.
    fn expects_no_more(&self) {
        let mut inner = self.inner();
        inner.expects = false;
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }

    /// Its pool is gone.
    fn end(&self) {
        let mut inner = self.inner();
        inner.abandoned = true;
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// Moves what there is to move, until its pool is gone.
    async fn drive(self: Arc<Self>, buffers: Arc<Buffers>) {
        let driver = Driver(self);
        let mut late = pin!(sleep_until(clock::now()));
        poll_fn(|cx| driver.0.poll(cx, late.as_mut(), &buffers)).await;
    }

    fn poll(&self, cx: &mut Context<'_>, mut late: Pin<&mut Sleep>, buffers: &Buffers) -> Poll<()> {
        loop {
            let mut inner = self.inner();
            if inner.abandoned {
                return Poll::Ready(());
            }
            if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                inner.waker = Some(cx.waker().clone());
            }
            match inner.turn(cx, buffers) {
                Turn::Moved => {}
                Turn::Waits if !inner.is_late(cx, late.as_mut()) => return Poll::Pending,
                Turn::Waits if inner.may_drain() => {}
                Turn::Waits if inner.may_cancel() => {}
                Turn::Waits => self.park(inner, |lease| lease.close(LATE_CLOSE)),
                // A cancel may still be on its way to it.
                Turn::Rests if inner.cancels > 0 => self.park(inner, |lease| lease.close(LATE_CLOSE)),
                Turn::Rests => self.park(inner, |lease| lease.put_back(clock::now())),
                Turn::Broken(why) => {
                    inner.all_again(if why == LOST { Again::Lost } else { Again::Behind });
                    self.park(inner, |lease| lease.close(why));
                }
            }
        }
    }

    /// Lets go of the connection, and is there for the next who comes.
    fn park(&self, mut inner: MutexGuard<'_, Inner>, let_go: impl FnOnce(Lease)) {
        let lease = inner.rest();
        drop(inner);
        let Some(lease) = lease else { return };
        let pool = lease.pool().clone();
        let_go(lease);
        pool.yards.parked(self.place);
    }
}

impl Inner {
    /// Sends and receives, as far as that goes without waiting.
    fn turn(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Turn {
        let Some(lease) = &mut self.lease else { return Turn::Waits };
        if self.joined > 0 {
            self.joined = 0;
            self.closing |= lease.pool().counts().waiting > 0;
        }
        while !self.out.is_empty() {
            match lease.stream.poll_write(cx, &self.out) {
                Poll::Ready(Ok(written)) if written == self.out.len() => self.out.clear(),
                Poll::Ready(Ok(written)) => self.out.advance(written),
                Poll::Ready(Err(_)) => return Turn::Broken(LOST),
                Poll::Pending => break,
            }
        }
        let Server { stream, window, owed, .. } = &mut **lease;
        let empty = window.as_ref().is_none_or(|window| window.is_empty());
        if self.riders.is_empty() && !self.expects && self.out.is_empty() && empty && owed.is_free() {
            return Turn::Rests;
        }
        let window = window.get_or_insert_with(|| buffers.take());
        match window.poll_fill(cx, stream) {
            Poll::Ready(Ok(0) | Err(_)) => Turn::Broken(LOST),
            Poll::Ready(Ok(_)) => self.hear(),
            Poll::Pending => Turn::Waits,
        }
    }

    /// Looks through what the server has said.
    fn hear(&mut self) -> Turn {
        let Some(lease) = &mut self.lease else { return Turn::Waits };
        if lease.pool().is_over(lease) {
            // What a server says that is not what it was is nobody's.
            return Turn::Broken("role_changed");
        }
        let Some(mut window) = lease.window.take() else { return Turn::Waits };
        let skipped = self.skip.min(window.len());
        self.skip -= skipped;
        window.consume(skipped);
        let heard = self.judge(window.bytes());
        let Some(lease) = &mut self.lease else { return Turn::Waits };
        let turn = match heard {
            Ok(judged) => {
                window.consume(judged);
                Turn::Moved
            }
            Err(why) => Turn::Broken(why),
        };
        lease.window = Some(window);
        turn
    }

    /// Judges each message that is there. Returns how many bytes that were; an error: why the connection is of no use.
    fn judge(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        // What stands between `from` and `at` belongs to the answer.
        let (mut from, mut at) = (0, 0);
        while self.skip == 0 {
            let message = bytes.get(at..).unwrap_or_default();
            let Some(head) = frame::header(message, Side::Backend).map_err(|_| "protocol")? else { break };
            let there = head.size.min(message.len());
            if there < head.size && head.size <= WINDOW {
                break;
            }
            let Some(lease) = &mut self.lease else { break };
            let body = message.get(HEADER..there).unwrap_or_default();
            let verdict = lease.owed.reply(head.tag, body).map_err(|_| "protocol")?;
            match head.tag {
                // It has not taken the settings of its clients.
                b'E' if verdict.show == Show::Swallow => return Err("settings"),
                b'E' => self.spoilt = Some(Again::Error),
                // A setting has changed beneath its clients. What is put on for them is told as well.
                b'S' if verdict.show == Show::Forward => return Err("parameters"),
                _ if there < head.size => self.spoilt = Some(Again::Large),
                _ => {}
            }
            let shown = verdict.show == Show::Forward && !self.riders.is_empty();
            if !shown {
                self.answer.extend_from_slice(bytes.get(from..at).unwrap_or_default());
                from = at + there;
            }
            at += there;
            self.skip = head.size - there;
            match verdict.event {
                Event::Parsed | Event::Closed if !shown => self.has_moved(),
                Event::Described { number } if !shown && self.skip == 0 => {
                    self.has_described(number, head.tag, body);
                }
                Event::Ready { status, .. } if status != TransactionStatus::Idle => return Err("in_doubt"),
                Event::Ready { .. } if shown => {
                    self.answer.extend_from_slice(bytes.get(from..at).unwrap_or_default());
                    from = at;
                    self.arrive();
                }
                _ => {}
            }
        }
        self.answer.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        if self.answer.len() > MOST_ANSWER && self.spoilt.is_none() {
            self.spoilt = Some(Again::Large);
        }
        if self.spoilt.is_some() {
            self.answer = Vec::new();
        }
        Ok(at)
    }

    /// The server has carried out the next Parse or Close of pgweir's own.
    fn has_moved(&mut self) {
        if let (Some(lease), Some(own)) = (&mut self.lease, self.moves.pop_front()) {
            if own.makes {
                lease.shared.insert(own.prepared);
            } else {
                lease.shared.remove(own.prepared.id());
            }
        }
    }

    /// The server has said what it has, or a part of that. What its client does not know so is for the client's own connection.
    #[cold]
    fn has_described(&mut self, number: u32, tag: u8, body: &[u8]) {
        let (Some(lease), Some(check)) = (&mut self.lease, self.checks.front_mut()) else { return };
        if check.number != number {
            return;
        }
        if tag == b't' {
            check.parameters = Some(described::parameters(body));
            return;
        }
        let mut columns = Columns::default();
        columns.feed(body);
        let parameters = check.parameters.take();
        let description = check.prepared.described(Description { parameters, columns: columns.hash() });
        if check.told.fit(Some(&description), true) != Fit::Same {
            self.spoilt = Some(Again::Error);
        }
        lease.shared.describe(check.prepared.id(), description);
        self.checks.pop_front();
    }

    /// The answer to the first unit is complete.
    fn arrive(&mut self) {
        let large = (self.answer.len() > MOST_ANSWER).then_some(Again::Large);
        let why = self.spoilt.take().or(large);
        match (self.riders.pop_front().flatten(), why) {
            (Some((seat, ticket)), None) => seat.answered(ticket, &mut self.answer),
            (Some((seat, ticket)), Some(why)) => seat.again(ticket, why),
            (None, _) => {}
        }
        self.answer.clear();
        // What was to be prepared for it and was not will not be.
        while self.moves.front().is_some_and(|own| own.unit <= self.ended) {
            self.moves.pop_front();
        }
        while self.checks.front().is_some_and(|check| check.unit <= self.ended) {
            self.checks.pop_front();
        }
        self.ended += 1;
        self.since = Some(clock::now());
    }

    /// Whether the first unit takes too long. Else the task is woken when it would.
    fn is_late(&mut self, cx: &mut Context<'_>, mut late: Pin<&mut Sleep>) -> bool {
        let (Some(since), false) = (self.since, self.riders.is_empty()) else { return false };
        let limit = match self.cancels {
            _ if self.riders.iter().any(Option::is_some) => LATE,
            0 => DRAIN,
            _ => NEXT,
        };
        if late.deadline() <= since {
            late.as_mut().reset(since + limit);
        }
        while late.as_mut().poll(cx).is_ready() {
            if clock::now() >= since + limit {
                return true;
            }
            late.as_mut().reset(since + limit);
        }
        false
    }

    /// The first unit takes too long: it and all behind it run elsewhere, and their answers here are waited for. False: they
    /// did so before.
    fn may_drain(&mut self) -> bool {
        self.closing = true;
        let mut why = Again::Slow;
        let mut any = false;
        for rider in &mut self.riders {
            if let Some((seat, ticket)) = rider.take() {
                any = true;
                seat.again(ticket, why);
            }
            why = Again::Behind;
        }
        any
    }

    /// It works for nobody, and is told to stop. False: it was told as often as it has units, and more.
    fn may_cancel(&mut self) -> bool {
        let Some(lease) = self.lease.as_ref().filter(|_| self.cancels < 2 * self.riders.len() + 10) else {
            return false;
        };
        self.cancels += 1;
        self.since = Some(clock::now());
        let (address, key) = (lease.address.clone(), lease.key.clone());
        tokio::runtime::Handle::current().spawn(async move {
            if timeout(CANCEL, server::cancel(&address, &key)).await.is_err() {
                tracing::warn!(%address, "a cancel request was not taken in time");
            }
        });
        true
    }

    fn all_again(&mut self, why: Again) {
        for (seat, ticket) in self.riders.drain(..).flatten() {
            seat.again(ticket, why);
        }
    }

    /// Forgets all that was about the connection, and gives it out.
    fn rest(&mut self) -> Option<Lease> {
        let lease = self.lease.take();
        let (out, answer) = (std::mem::take(&mut self.out), std::mem::take(&mut self.answer));
        let waker = self.waker.take();
        *self = Self { out, answer, waker, ..Self::default() };
        self.out.clear();
        self.answer.clear();
        lease
    }
}
