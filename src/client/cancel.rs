//! Whom a cancel request means (PostgreSQL docs, chapter 53.2.9).
//!
//! A client is given a key of pgweir's own. A request that names it is turned into one for the server connection that
//! the client leases at that moment, under the lock that the end of the lease takes too. The server closes a cancel
//! connection only after it has sent the signal, and a backend that is idle ignores the signal: so a request that has been
//! answered can hit nobody else, and a server connection with one still on its way is closed at the end of the lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use subtle::ConstantTimeEq;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::roster::{Card, Connected, Pin};
use crate::clock::{self, Duration};
use crate::ids::{CancelKey, Node};
use crate::monitor::Cluster;
use crate::pool::lane::Seat;
use crate::route::Reason;
use crate::server;

/// Longest that a server may take to note a cancel request.
const LONGEST: Duration = Duration::from_secs(10);

/// What a client's key stands for now.
#[derive(Debug, Default)]
struct Slot {
    /// The server connection that works for the client.
    aim: Option<(Node, CancelKey)>,
    /// Requests on their way to it.
    under_way: u32,
    /// All that there have been.
    requests: u32,
    /// Who waits for its answers.
    waker: Option<Waker>,
    /// Its place on connections that others use, too.
    seat: Option<Arc<Seat>>,
    /// Who waits for a connection.
    waits: Option<Waker>,
    /// The statement that waits is not to be sent.
    cancelled: bool,
    /// Who it is; none before its login is over.
    card: Option<Arc<Card>>,
    /// What it has left on a connection.
    pin: Option<Pin>,
}

impl Slot {
    /// Where a request goes; none: nowhere, or there is nothing to cancel.
    fn take_aim(&mut self) -> Option<(Node, CancelKey)> {
        if self.aim.is_none() {
            self.cancel();
        }
        self.under_way += u32::from(self.aim.is_some());
        self.requests = self.requests.wrapping_add(1);
        self.aim.clone()
    }

    /// The client has no connection of its own: its statement is under way together with others', or waits for one.
    fn cancel(&mut self) {
        if let Some(seat) = &self.seat {
            seat.cancel();
        }
        if let Some(waker) = self.waits.take() {
            self.cancelled = true;
            waker.wake();
        }
    }
}

/// A client's secret, its slot, and its servers.
#[derive(Clone)]
struct Entry {
    secret: Arc<[u8]>,
    slot: Arc<Mutex<Slot>>,
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
    slot: Arc<Mutex<Slot>>,
    /// What the client was told.
    pub(super) key: CancelKey,
}

impl Default for Cancels {
    fn default() -> Self {
        Self { instance: rand::random(), clients: Mutex::default() }
    }
}

impl Cancels {
    fn clients(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key that no other client has, for one with these servers. A long secret is for who speaks
    /// protocol 3.2: the instance and 24 random bytes; a short one is 4 random bytes.
    pub(super) fn register(self: &Arc<Self>, cluster: &Arc<Cluster>, long: bool) -> Registration {
        let slot = Arc::new(Mutex::new(Slot::default()));
        let mut clients = self.clients();
        let secret: Arc<[u8]> = if long {
            self.instance.into_iter().chain(rand::random::<[u8; 24]>()).collect()
        } else {
            Arc::new(rand::random::<[u8; 4]>())
        };
        loop {
            // Drivers hold the process number in a signed integer.
            let process = rand::random_range(1..=i32::MAX.cast_unsigned());
            if let std::collections::hash_map::Entry::Vacant(entry) = clients.entry(process) {
                entry.insert(Entry { secret: secret.clone(), slot: slot.clone(), cluster: cluster.clone() });
                drop(clients);
                return Registration { cancels: self.clone(), slot, key: CancelKey { process, secret } };
            }
        }
    }

    /// Has every client that a server connection works for look at it.
    pub(super) fn wake(&self) {
        let slots: Vec<_> = self.clients().values().map(|entry| entry.slot.clone()).collect();
        for slot in slots {
            let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
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
            let slot = lock(&entry.slot);
            let (state, node) = match &slot.aim {
                Some((node, _)) => ("active", Some(*node)),
                None if slot.waits.is_some() => ("waiting", None),
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
            if let Some(waker) = &lock(&entry.slot).waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Passes a request on, if its key is right and the client has a statement running. As in PostgreSQL, whoever asks
    /// learns nothing of what came of it.
    pub(super) async fn forward(&self, key: CancelKey) {
        let Some(Entry { secret, slot, cluster }) = self.clients().get(&key.process).cloned() else {
            return;
        };
        if !bool::from(secret.ct_eq(&key.secret)) {
            return;
        }
        let aim = lock(&slot).take_aim();
        if let Some(aim) = aim {
            carry_out(slot, cluster, aim).await;
        }
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the server.
async fn carry_out(slot: Arc<Mutex<Slot>>, cluster: Arc<Cluster>, (node, key): (Node, CancelKey)) {
    let Some(address) = cluster.address(node) else { return };
    match timeout(LONGEST, server::cancel(address, &key)).await {
        Ok(Ok(())) => {
            let mut slot = lock(&slot);
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
        lock(&self.slot)
    }

    /// Cancels what runs, as a request with the client's key would.
    pub(super) fn cancel(&self, cluster: &Arc<Cluster>) {
        if let Some(aim) = self.slot().take_aim() {
            Handle::current().spawn(carry_out(self.slot.clone(), cluster.clone(), aim));
        }
    }

    /// Another number after each request.
    pub(super) fn requests(&self) -> u32 {
        self.slot().requests
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

    /// Whether a request came for the statement that waits for a connection; if not, the task is woken when one does.
    pub(super) fn is_cancelled(&self, cx: &Context<'_>) -> bool {
        let mut slot = self.slot();
        slot.waits = Some(cx.waker().clone());
        std::mem::take(&mut slot.cancelled)
    }

    /// The statement waits no more.
    pub(super) fn goes_on(&self) {
        let mut slot = self.slot();
        slot.waits = None;
        slot.cancelled = false;
    }

    /// Who is woken by [`Cancels::wake`].
    pub(super) fn wake_by(&self, waker: &Waker) {
        self.slot().waker = Some(waker.clone());
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.cancels.clients().remove(&self.key.process);
    }
}
