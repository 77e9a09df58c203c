//! Increments of one group on their way to the server.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::runtime::Handle;

use super::ask::{Failed, ask, each, plain};
use super::group::{Group, Place, Runner, Waiting};
use super::merge::{Addition, Key, Shape};
use super::statement::{Batch, MOST_BYTES, Names, gather, single};
use crate::clock;
use crate::metrics::CounterMetrics;
use crate::pool::Lease;
use crate::server::{Prepared, Registry};
use crate::wire::SqlState;

/// Most statements about one row that a group has prepared: others' rows go by a statement about all of them.
const MOST_SINGLES: usize = 32;

/// Increments on their way: one statement after the other on one connection. Their rows are in no other flight.
pub(super) struct Flight {
    group: Arc<Group>,
    names: Arc<Names>,
    waiting: Vec<Waiting>,
    additions: Vec<Addition>,
    keys: Vec<Vec<Key>>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut inner = self.group.inner();
        inner.busy.flights -= 1;
        for key in &self.keys {
            inner.busy.keys.remove(key);
        }
        let goes_on = !inner.waiting.is_empty() && !inner.running;
        if goes_on && Handle::try_current().is_ok() {
            inner.running = true;
            Runner::start(&self.group);
        }
        let waiting = std::mem::take(&mut self.waiting);
        drop(inner);
        self.group.again(waiting);
    }
}

impl Flight {
    /// Takes what waits for rows that are in no flight. None: there is nothing.
    pub(super) fn of(group: &Arc<Group>, names: &Arc<Names>) -> Option<Self> {
        let mut inner = group.inner();
        let (mut waiting, mut additions, mut others, mut stays) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for mut one in std::mem::take(&mut inner.waiting) {
            let known = one.addition.take().filter(|(of, _)| Arc::ptr_eq(of, names));
            match known.map(|(_, addition)| addition).or_else(|| one.given.fit(names)) {
                Some(addition) if inner.busy.keys.contains(&addition.key) => {
                    one.addition = Some((names.clone(), addition));
                    stays.push(one);
                }
                Some(addition) => {
                    additions.push(addition);
                    waiting.push(one);
                }
                None => others.push(one),
            }
        }
        inner.waiting = stays;
        let keys: Vec<_> = additions.iter().map(|addition| addition.key.clone()).collect();
        let flies = !waiting.is_empty();
        if flies {
            inner.busy.flights += 1;
            inner.busy.keys.extend(keys.iter().cloned());
        }
        drop(inner);
        group.again(others);
        flies.then(|| Self { group: group.clone(), names: names.clone(), waiting, additions, keys })
    }

    /// Sends what it has, and answers those who wait for it.
    pub(super) async fn run(mut self, place: Place, mut lease: Lease) {
        if plain(&mut lease).await.is_err() {
            return lease.close("in_doubt");
        }
        let _commits = place.cluster.commits();
        while !self.waiting.is_empty() {
            if !place.holds(&lease) {
                // Whoever is the primary now, each finds it.
                return lease.close("role_changed");
            }
            let merged = gather(&self.additions, MOST_BYTES);
            let start = clock::now();
            let outcome = self.send(&merged, &place, &mut lease).await;
            let rest = self.waiting.split_off(merged.taken.clamp(1, self.waiting.len()));
            let sent = std::mem::replace(&mut self.waiting, rest);
            let metrics = &self.group.metrics;
            match outcome {
                // What a server answers that is the primary no more may be lost with it.
                Ok(_) if !place.holds(&lease) => {
                    sent.iter().for_each(|one| one.seat.unknown(one.ticket));
                    return lease.close("role_changed");
                }
                Ok(found) => {
                    metrics.flushed(sent.len(), merged.rows.len(), start.elapsed());
                    let missed = answer(sent, &merged.rows, &found, metrics);
                    self.group.again(missed);
                }
                Err(Failed::Refused(_)) => {
                    metrics.failed();
                    self.group.again(sent);
                }
                Err(Failed::Lost) => {
                    metrics.failed();
                    place.is_lost().await;
                    sent.iter().for_each(|one| one.seat.unknown(one.ticket));
                    return lease.close("lost");
                }
            }
            self.additions.drain(..merged.taken.clamp(1, self.additions.len()));
        }
        put_back(lease);
    }

    /// The statement about one row of that shape. None: there are too many.
    fn single(&self, registry: &Registry, shape: &Arc<Shape>) -> Option<Arc<Prepared>> {
        let mut inner = self.group.inner();
        if let Some((_, known)) = inner.singles.iter().find(|(known, _)| known == shape) {
            return Some(known.clone());
        }
        let current = inner.names.as_ref().is_some_and(|(.., known)| Arc::ptr_eq(known, &self.names));
        if inner.singles.len() >= MOST_SINGLES || !current {
            return None;
        }
        let tail = [single(&self.names, shape).as_bytes(), b"\0\0\0"].concat();
        let made = registry.statement(&tail, None, 0);
        inner.singles.push((shape.clone(), made.clone()));
        Some(made)
    }

    /// Sends them. Tells of each row whether it was there; none: that is not sure.
    async fn send(
        &self,
        merged: &Batch,
        place: &Place,
        lease: &mut Lease,
    ) -> Result<Vec<Option<bool>>, Failed> {
        let names = &self.names;
        let small = merged.is_small();
        let statement = small.then(|| self.single(&place.prepared, &merged.shape)).flatten();
        let Some(statement) = statement else {
            let found = merged.found(&ask(lease, &merged.text(names)).await?);
            // PostgreSQL 18.0 misses rows that others change at that moment (15 and 18.4 do not), if a statement is about several.
            let sure = found.len() == 1;
            return Ok(found.into_iter().map(|there| (there || sure).then_some(there)).collect());
        };
        let order = merged.order();
        let bind = |out: &mut BytesMut, nth: usize| {
            let row = order.get(nth).copied().unwrap_or(0);
            merged.bind(row, names, statement.name(), out);
        };
        let told = match each(lease, &statement, order.len(), bind).await {
            // Dropped by what a client ran there, and nothing was changed: once more.
            Err(Failed::Refused(refusal))
                if refusal.code == SqlState::INVALID_STATEMENT_NAME.as_str().as_bytes() =>
            {
                lease.shared.remove(statement.id());
                each(lease, &statement, order.len(), bind).await?
            }
            told => told?,
        };
        let mut found = vec![None; order.len()];
        for (row, there) in order.iter().zip(told) {
            if let Some(found) = found.get_mut(*row) {
                *found = Some(there);
            }
        }
        Ok(found)
    }
}

pub(super) fn put_back(lease: Lease) {
    if lease.owed.is_free() {
        lease.put_back(clock::now());
    } else {
        lease.close("in_doubt");
    }
}

/// Tells each of its row. Returned are those whose row was perhaps there: each asks by itself.
fn answer(
    waiting: Vec<Waiting>,
    rows: &[Vec<usize>],
    found: &[Option<bool>],
    metrics: &CounterMetrics,
) -> Vec<Waiting> {
    let mut there = vec![None; waiting.len()];
    for (row, found) in rows.iter().zip(found) {
        for place in row {
            if let Some(there) = there.get_mut(*place) {
                *there = *found;
            }
        }
    }
    let (mut out, mut missed) = (BytesMut::new(), Vec::new());
    for (one, there) in waiting.into_iter().zip(there) {
        if there != Some(true) {
            metrics.unmatched();
        }
        let Some(there) = there else {
            missed.push(one);
            continue;
        };
        out.clear();
        one.form.write(one.given.upsert, there, &mut out);
        one.seat.answered(one.ticket, &mut out.to_vec());
    }
    missed
}
