//! The end of a pgweir that is asked to stop: clients with nothing under way are told at once, the others when what they do is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::session::Session;
use super::shared::Shared;

/// Whether it ends, and who is still there.
#[derive(Debug, Default)]
pub struct Drain {
    ends: AtomicBool,
    sessions: AtomicUsize,
    left: Notify,
}

/// A session that is there; it is not any more when dropped.
pub(super) struct Presence(Arc<Shared>);

impl Presence {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.drain.sessions.fetch_add(1, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.0.drain.sessions.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.drain.left.notify_waiters();
        }
    }
}

impl Shared {
    /// From now on clients are told to go. Ready when the last one has gone.
    pub async fn drain(&self) {
        self.drain.ends.store(true, Ordering::Release);
        self.cancels.wake_all();
        loop {
            let left = self.drain.left.notified();
            if self.sessions() == 0 {
                return;
            }
            left.await;
        }
    }

    /// Clients that are logged in, those of the console aside.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.drain.sessions.load(Ordering::Acquire)
    }
}

impl Session {
    /// Whether pgweir ends and the client has nothing under way.
    #[inline]
    pub(super) fn has_to_go(&self) -> bool {
        self.shared.drain.ends.load(Ordering::Relaxed) && self.is_idle()
    }

    /// Outside a transaction, with nothing asked and nothing to be told.
    pub(super) fn is_idle(&self) -> bool {
        (self.active.is_none() || self.is_lingering())
            && self.begun.is_none()
            && self.piece.is_none()
            && self.sharing.ride.is_none()
            && self.back.own.is_empty()
            && self.desk.is_none()
            && self.discard.is_nothing()
            && !self.holds_ready()
    }
}
