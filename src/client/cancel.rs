//! Whom a cancel request means (PostgreSQL docs, chapter 53.2.9).
//!
//! A client is given a key of pgweir's own. A request that names it is turned into one for the server connection that
//! the client leases at that moment, under the lock that the end of the lease takes too. The server closes a cancel
//! connection only after it has sent the signal, and a backend that is idle ignores the signal: so a request that has been
//! answered can hit nobody else, and a server connection with one still on its way is closed at the end of the lease.
//!
//! A server that has not got the statement yet ignores it, too. So requests are numbered, and the session knows which it has seen
//! (`client/unwanted.rs`): one that came while a unit was under way here is carried out on what of that unit has not been sent.
//! Whoever asks is answered when the session has looked at the request: what the client sends after that is another matter.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use subtle::ConstantTimeEq;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::roster::{Card, Connected, Pin};
use crate::clock::{self, Duration};
use crate::ids::{CancelKey, Node};
use crate::monitor::Cluster;
use crate::pool::lane::Seat;
use crate::route::Reason;
use crate::server;
use crate::sql::Signal;

/// Longest that a server may take to note a cancel request, and a session.
const LONGEST: Duration = Duration::from_secs(10);

/// What a client's key stands for now.
#[derive(Debug, Default)]
struct Slot {
    /// The server connection that works for the client.
    aim: Option<(Node, CancelKey)>,
    /// Requests on their way to it.
    under_way: u32,
    /// Who waits for its answers.
    waker: Option<Waker>,
    /// Its place on connections that others use, too.
    seat: Option<Arc<Seat>>,
    /// It waits for a connection.
    waits: bool,
    /// Who it is; none before its login is over.
    card: Option<Arc<Card>>,
    /// What it has left on a connection.
    pin: Option<Pin>,
}

/// A slot, and the requests that have come.
#[derive(Debug, Default)]
struct Link {
    slot: Mutex<Slot>,
    /// How many there have been.
    requests: AtomicU32,
    /// How many of them the session has looked at.
    looked: AtomicU32,
    /// Somebody wants the session to end.
    ended: AtomicBool,
    /// It has looked at some.
    noted: Notify,
}

impl Link {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more has come. Returns its number, and where it goes; none: the session alone can tell.
    fn request(&self) -> (u32, Option<(Node, CancelKey)>) {
        let mut slot = self.slot();
        let number = self.requests.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        slot.under_way += u32::from(slot.aim.is_some());
        if slot.aim.is_none()
            && let Some(seat) = &slot.seat
        {
            // Its statement may be under way together with others'.
            seat.cancel();
        }
        if let Some(waker) = &slot.waker {
            waker.wake_by_ref();
        }
        (number, slot.aim.clone())
    }

    /// Waits until the session has looked at that one.
    async fn looked(&self, number: u32) {
        loop {
            let mut noted = pin!(self.noted.notified());
            noted.as_mut().enable();
            // Numbers begin anew at their end.
            if self.looked.load(Ordering::Acquire).wrapping_sub(number) < u32::MAX / 2 {
                return;
            }
            noted.await;
        }
    }
}

/// A client's user, its secret, its slot, and its servers.
#[derive(Clone)]
struct Entry {
    user: Arc<str>,
    secret: Arc<[u8]>,
    link: Arc<Link>,
    cluster: Arc<Cluster>,
}

/// Every client's key.
pub struct Cancels {
    /// The same in each long secret: which pgweir, of many behind one address, gave the key out.
    instance: [u8; 8],
    clients: Mutex<HashMap<u32, Entry>>,
}

/// One client's entry; removed when dropped.
pub(super) struct Registration {
    cancels: Arc<Cancels>,
    link: Arc<Link>,
    /// What the client was told.
    pub(super) key: CancelKey,
    /// The last request that is settled: it was for a unit that is over, or for none.
    seen: u32,
    /// The server fails for the sake of one.
    refuses: bool,
    /// One has hit something else than the client's unit, and is repeated until that is over.
    insists: bool,
}

impl Default for Cancels {
    fn default() -> Self {
        Self { instance: rand::random(), clients: Mutex::default() }
    }
}

/// The process numbers that clients are told: no process has one, since Linux stays below 2^22, so that a `pg_terminate_backend` of
/// one hits nobody; and drivers hold it in a signed integer.
const PROCESSES: RangeInclusive<u32> = 1 << 22..=i32::MAX.cast_unsigned();

impl Cancels {
    fn clients(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key that no other client has, for one with these servers. A long secret is for who speaks
    /// protocol 3.2: the instance and 24 random bytes; a short one is 4 random bytes.
    pub(super) fn register(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        user: &Arc<str>,
        long: bool,
    ) -> Registration {
        let link = Arc::new(Link::default());
        let mut clients = self.clients();
        let secret: Arc<[u8]> = if long {
            self.instance.into_iter().chain(rand::random::<[u8; 24]>()).collect()
        } else {
            Arc::new(rand::random::<[u8; 4]>())
        };
        loop {
            let process = rand::random_range(PROCESSES);
            if let std::collections::hash_map::Entry::Vacant(entry) = clients.entry(process) {
                entry.insert(Entry {
                    user: user.clone(),
                    secret: secret.clone(),
                    link: link.clone(),
                    cluster: cluster.clone(),
                });
                drop(clients);
                let key = CancelKey { process, secret };
                return Registration {
                    cancels: self.clone(),
                    link,
                    key,
                    seen: 0,
                    refuses: false,
                    insists: false,
                };
            }
        }
    }

    /// Has every client that a server connection works for look at it.
    pub(super) fn wake(&self) {
        let links: Vec<_> = self.clients().values().map(|entry| entry.link.clone()).collect();
        for link in links {
            let slot = link.slot();
            if let (Some(_), Some(waker)) = (slot.aim.as_ref(), &slot.waker) {
                waker.wake_by_ref();
            }
        }
    }

    /// Every client that has logged in, as it is now.
    #[must_use]
    pub fn connected(&self) -> Vec<Connected> {
        let entries: Vec<Entry> = self.clients().values().cloned().collect();
        let shown = |entry: Entry| {
            let slot = entry.link.slot();
            let (state, node) = match &slot.aim {
                Some((node, _)) => ("active", Some(*node)),
                None if slot.waits => ("waiting", None),
                None if slot.seat.as_ref().is_some_and(|seat| seat.is_taken()) => ("shared", None),
                None => ("idle", None),
            };
            let server = node.and_then(|node| entry.cluster.address(node).cloned());
            Some(Connected { card: slot.card.clone()?, state, server, pin: slot.pin })
        };
        let mut connected: Vec<_> = entries.into_iter().filter_map(shown).collect();
        connected.sort_by_key(|client| client.card.since);
        connected
    }

    /// Has every client look around.
    pub fn wake_all(&self) {
        for entry in self.clients().values() {
            if let Some(waker) = &entry.link.slot().waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Gives the client of that number a signal, if it has logged in as that user. None: there is no such.
    pub(super) fn signal(&self, process: u32, user: &str, signal: Signal) -> Option<Signalled> {
        let known = self.clients().get(&process).cloned();
        let Entry { link, cluster, .. } = known.filter(|entry| *entry.user == *user)?;
        Some(match signal {
            Signal::Cancel => {
                let number = cancel(&link, &cluster);
                Signalled { link, number: Some(number) }
            }
            Signal::Terminate => {
                link.ended.store(true, Ordering::Release);
                if let Some(waker) = &link.slot().waker {
                    waker.wake_by_ref();
                }
                Signalled { link, number: None }
            }
        })
    }

    /// Passes a request on, if its key is right and the client has a statement running. As in PostgreSQL, whoever asks
    /// learns nothing of what came of it.
    pub(super) async fn forward(&self, key: CancelKey) {
        let Some(Entry { secret, link, cluster, .. }) = self.clients().get(&key.process).cloned() else {
            return;
        };
        if !bool::from(secret.ct_eq(&key.secret)) {
            return;
        }
        let (number, aim) = link.request();
        if let Some(aim) = aim {
            carry_out(&link, &cluster, aim).await;
        }
        let _ = timeout(LONGEST, link.looked(number)).await;
    }
}

/// As a request with the client's key would. Returns the number of that.
fn cancel(link: &Arc<Link>, cluster: &Arc<Cluster>) -> u32 {
    let (number, aim) = link.request();
    if let Some(aim) = aim {
        let (link, cluster) = (link.clone(), cluster.clone());
        Handle::current().spawn(async move { carry_out(&link, &cluster, aim).await });
    }
    number
}

/// A client that was given a signal.
pub(super) struct Signalled {
    link: Arc<Link>,
    /// The request to cancel that it is.
    number: Option<u32>,
}

impl Signalled {
    /// Waits until its session has heard of it: what it does after that is another matter.
    pub(super) async fn heard(&self) {
        if let Some(number) = self.number {
            let _ = timeout(LONGEST, self.link.looked(number)).await;
        }
    }
}

/// Tells the server.
async fn carry_out(link: &Link, cluster: &Cluster, (node, key): (Node, CancelKey)) {
    let Some(address) = cluster.address(node) else { return };
    match timeout(LONGEST, server::cancel(address, &key)).await {
        Ok(Ok(())) => {
            let mut slot = link.slot();
            // The lease may have ended in between: then the count began anew, and the connection was closed.
            if slot.aim.as_ref().is_some_and(|(_, aim)| *aim == key) {
                slot.under_way = slot.under_way.saturating_sub(1);
            }
        }
        Ok(Err(error)) => tracing::warn!(%address, %error, "a cancel request could not be passed on"),
        Err(_) => tracing::warn!(%address, "a cancel request was not taken in time"),
    }
}

impl Registration {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.link.slot()
    }

    /// Cancels what runs, as a request with the client's key would.
    pub(super) fn cancel(&self, cluster: &Arc<Cluster>) {
        let _ = cancel(&self.link, cluster);
    }

    /// Whether somebody wants the session to end.
    #[inline]
    pub(super) fn is_ended(&self) -> bool {
        self.link.ended.load(Ordering::Acquire)
    }

    /// Whether a request has come that is not settled.
    pub(super) fn is_asked(&self) -> bool {
        self.link.requests.load(Ordering::Acquire) != self.seen
    }

    /// What has come is settled.
    pub(super) fn settle(&mut self) {
        self.seen = self.link.requests.load(Ordering::Acquire);
        (self.refuses, self.insists) = (false, false);
    }

    /// What has come is repeated until it is settled.
    pub(super) fn insist(&mut self) {
        self.insists = true;
    }

    /// Whether it is.
    #[inline]
    pub(super) fn insists(&self) -> bool {
        self.insists
    }

    /// Whether the session has looked at all that have come.
    pub(super) fn is_looked_at(&self) -> bool {
        self.link.looked.load(Ordering::Relaxed) == self.link.requests.load(Ordering::Acquire)
    }

    /// The session looks at what has come: if no unit is under way, it is settled.
    #[cold]
    pub(super) fn look(&mut self, has_unit: bool) {
        let requests = self.link.requests.load(Ordering::Acquire);
        if !has_unit {
            self.seen = requests;
        }
        self.link.looked.store(requests, Ordering::Release);
        self.link.noted.notify_waiters();
    }

    /// The server is made to fail for the sake of a request.
    pub(super) fn refuses(&mut self) {
        self.refuses = true;
    }

    /// Whether that is why it has failed.
    pub(super) fn has_refused(&mut self) -> bool {
        std::mem::take(&mut self.refuses)
    }

    /// From now on the key stands for that server connection.
    pub(super) fn aim(&self, node: Node, key: CancelKey) {
        let mut slot = self.slot();
        slot.aim = Some((node, key));
        slot.under_way = 0;
    }

    /// From now on the key stands for nothing. Returns whether a request is on its way to the connection that it stood
    /// for.
    pub(super) fn rest(&self) -> bool {
        let mut slot = self.slot();
        slot.aim = None;
        std::mem::take(&mut slot.under_way) > 0
    }

    /// Its login is over.
    pub(super) fn introduce(&self, card: Card) {
        self.slot().card = Some(Arc::new(card));
    }

    /// It keeps a connection for that reason; none: it does no more.
    #[cold]
    pub(super) fn pins(&self, reason: Option<Reason>) {
        self.slot().pin = reason.map(|reason| Pin { reason, since: clock::now() });
    }

    /// With no connection of its own the client has its statements there.
    pub(super) fn sits_on(&self, seat: &Arc<Seat>) {
        self.slot().seat = Some(seat.clone());
    }

    /// Whether it waits for a connection.
    pub(super) fn waits(&self, waits: bool) {
        self.slot().waits = waits;
    }

    /// Who is woken by [`Cancels::wake`], and by requests.
    pub(super) fn wake_by(&self, waker: &Waker) {
        self.slot().waker = Some(waker.clone());
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.cancels.clients().remove(&self.key.process);
        self.look(false);
    }
}
