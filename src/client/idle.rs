//! Clients that send nothing for too long, outside a transaction and within one, and those that are gone.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use super::fail::Failure;
use super::session::{Leave, Next, Session};
use crate::clock::{self, Instant};
use crate::metrics::Direction;
use crate::net::{Stream, Window};
use crate::wire::TransactionStatus;

impl Session {
    /// As `poll_next`, but gives up when the client is idle for too long.
    pub(super) async fn next_or_idle(&mut self) -> Result<Next, Failure> {
        let options = &self.shared.options;
        let (outside, within) = (options.idle_timeout, options.idle_in_transaction_timeout);
        if outside.is_zero() && within.is_zero() {
            return Ok(poll_fn(|cx| self.poll_next(cx)).await);
        }
        let (mut idle_since, mut begun_since) = (clock::now(), None);
        let mut timer = pin!(tokio::time::sleep(outside.max(within)));
        poll_fn(|cx| {
            if let Poll::Ready(next) = self.poll_next(cx) {
                return Poll::Ready(Ok(next));
            }
            if self.begun.is_none() {
                begun_since = None;
            }
            let (deadline, failure) = match self.waits_in_transaction() {
                Some(since) if !within.is_zero() => (since + within, Failure::IdleInTransaction),
                // Its BEGIN is held back.
                None if self.active.is_none() && self.begun.is_some() && !within.is_zero() => {
                    (*begun_since.get_or_insert_with(clock::now) + within, Failure::IdleInTransaction)
                }
                None if self.active.is_none()
                    && self.begun.is_none()
                    && self.sharing.ride.is_none()
                    && !outside.is_zero() =>
                {
                    (idle_since + outside, Failure::IdleTimeout)
                }
                _ => {
                    idle_since = clock::now();
                    return Poll::Pending;
                }
            };
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            timer.as_mut().poll(cx).map(|()| {
                let rolled_back =
                    matches!(failure, Failure::IdleInTransaction).then(|| self.roll_back_idle());
                rolled_back.flatten().ok_or(failure)
            })
        })
        .await
    }

    /// Since when an open transaction waits for the client: all was answered and shown, and nothing else has come.
    fn waits_in_transaction(&self) -> Option<Instant> {
        let held = self.held.get(self.active?.index())?.as_ref()?;
        let owed = &held.lease.owed;
        let waits = owed.status() != TransactionStatus::Idle
            && owed.is_settled()
            && self.piece.is_none()
            && self.forth.is_empty()
            && self.back.run == 0
            && self.back.own.is_empty();
        waits.then_some(held.running.since)
    }

    /// Why the client is no longer waited with: it was ended, or has closed, as far as its window has room to tell.
    pub(super) fn leaves(&mut self, cx: &mut Context<'_>) -> Option<Leave> {
        if self.identity.cancel.is_ended() {
            return Some(Leave::Told(Failure::Terminated));
        }
        let window = self.window.as_mut()?;
        let before = window.len();
        let gone = is_gone(window, &mut self.stream, cx);
        let read = window.len() - before;
        self.identity.database.metrics.bytes(Direction::ClientIn, read as u64);
        gone.then_some(Leave::Gone)
    }
}

/// Whether a client that is made to wait has closed; what it sends meanwhile goes into its window.
pub(super) fn is_gone(window: &mut Window, stream: &mut Stream, cx: &mut Context<'_>) -> bool {
    while !window.is_full() {
        match window.poll_fill(cx, stream) {
            Poll::Ready(Ok(0) | Err(_)) => return true,
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => return false,
        }
    }
    false
}
