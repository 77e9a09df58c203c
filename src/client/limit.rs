//! Units that a rule gives so long to run: pgweir cancels them then, as their client could.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tokio::time::{Sleep, sleep_until};

use super::session::Session;
use crate::clock::{self, Duration};
use crate::route::Route;
use crate::wire::{SqlState, write};

/// How long a unit may take, and which rule says so.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    time: Duration,
    rule: u8,
}

impl Limit {
    /// One that is set when the unit is being answered.
    pub(super) fn timer(self) -> Pin<Box<Sleep>> {
        Box::pin(sleep_until(clock::now() + self.time))
    }
}

impl Session {
    /// How long a unit with that route may take.
    pub(super) fn limit(&self, route: Route) -> Option<Limit> {
        let rule = route.limit?;
        let time = self.identity.database.rules.get(rule)?.timeout?;
        Some(Limit { time, rule })
    }

    /// Cancels the unit that is being answered if it takes too long; else the task is woken when it does.
    #[cold]
    pub(super) fn watch_limit(&mut self, cx: &mut Context<'_>) {
        if self.identity.cancel.insists() {
            return self.insist(cx);
        }
        let at = self.active.map_or(usize::MAX, crate::route::Target::index);
        let Some(Some(held)) = self.held.get_mut(at) else {
            self.timer = None;
            return;
        };
        // The next one may have a limit, although this one has none.
        let Some(Limit { time, rule }) = *held.running.limit() else { return };
        let deadline = held.running.since + time;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return;
        }
        *held.running.limit() = None;
        self.identity.cancel.cancel(&self.identity.database.cluster);
        let name = self.identity.database.rules.get(rule).map_or("", |rule| &rule.name);
        self.identity.database.metrics.timed_out(name);
        if self.back.rest == 0 {
            let what = format!("pgweir: cancelled after {time:?}, as the rule \"{name}\" says");
            write::notice(&mut self.back.own, SqlState::SUCCESSFUL_COMPLETION, &what, "");
            cx.waker().wake_by_ref();
        }
    }
}
