//! The task of an account: when what it has is flushed.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::sleep_until;

use super::account::Account;
use crate::clock::{self, Instant};
use crate::ids::Node;

/// What the task of an account does next.
pub(super) enum Due {
    Open,
    Flush,
    At(Instant),
    Nothing,
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
    pub(super) async fn run(self) {
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
