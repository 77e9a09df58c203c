//! What a replica shows and the primary does not yet: a commit is seen on a replica as soon as that has replayed it, and on the primary
//! a little after it is on disk; with synchronous replication, only when replicas have confirmed it.
//!
//! Positions do not tell. But the primary says which transactions it shows, and a replica says which of the others are committed, as it
//! sees them. Both are asked over the connections of their probes; one round answers everybody who waited for it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};

use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::Cluster;
use crate::clock::{self, Duration, Instant};
use crate::cluster::{Health, Role};
use crate::ids::Node;

/// What the primary shows: all below the second number but for those between commas (PostgreSQL's documentation, "Transaction ID and
/// Snapshot Information Functions"). These names are known to all versions.
const SNAPSHOT: &str = "SELECT txid_current_snapshot()";

/// Between the first two rounds of one who waits; it doubles.
const PAUSE: Duration = Duration::from_millis(1);

/// Between two rounds at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// An older snapshot lacks so much that a replica is asked only once there is another.
const RECENT: Duration = Duration::from_millis(100);

/// Longest that a replica is waited for: one that is lost holds nobody up for as long as it takes to find that out.
const ANSWER: Duration = Duration::from_millis(200);

/// So many transactions a replica tells at once.
const MOST: usize = 1_000;

/// So often a replica that is up is asked for somebody, if it does not answer.
const TRIES: u8 = 3;

/// So long after a connection to the primary was lost what ran on it may still be committed there, unknown to anybody here.
const LINGERS: Duration = Duration::from_secs(60);

/// What the servers have said last.
#[derive(Debug, Default)]
pub(super) struct Shown {
    round: Mutex<Round>,
    /// All that a replica showed before then the primary shows.
    until: StdMutex<Vec<(Node, Instant)>>,
    /// Transactions of pgweir's own that may commit now.
    own: AtomicU32,
    /// Until when what was lost may commit, in the cluster's microseconds; 0: nothing was lost.
    lost: AtomicU64,
}

impl Shown {
    fn until(&self) -> MutexGuard<'_, Vec<(Node, Instant)>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, replica: Node, seen: Instant) {
        let mut until = self.until();
        match until.iter_mut().find(|(node, _)| *node == replica) {
            Some((_, known)) => *known = seen.max(*known),
            None => until.push((replica, seen)),
        }
    }
}

#[derive(Debug, Default)]
struct Round {
    /// Counts snapshots.
    number: u64,
    /// When the primary was asked.
    began: Option<Instant>,
    /// What it shows.
    snapshot: Snapshot,
    /// What was committed on a replica when it was asked, and not shown by the primary a moment before.
    committed: Vec<Seen>,
}

/// What a replica has said.
#[derive(Debug, Clone)]
struct Seen {
    replica: Node,
    /// When it was asked.
    asked: Instant,
    /// The transactions that the primary is to show.
    waits: Vec<u64>,
    /// These are all.
    whole: bool,
}

impl Seen {
    fn is_shown_by(&mut self, snapshot: &Snapshot) -> bool {
        self.waits.retain(|number| !snapshot.shows(*number));
        self.waits.is_empty()
    }
}

/// The transactions whose effects are seen, if they are committed.
#[derive(Debug, Default)]
struct Snapshot {
    /// Those from here on are not seen.
    end: u64,
    /// Nor are these.
    running: Vec<u64>,
}

impl Snapshot {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':').skip(1);
        let end = parts.next()?.parse().ok()?;
        let running = parts.next()?.split(',').filter_map(|number| number.parse().ok()).collect();
        Some(Self { end, running })
    }

    fn shows(&self, number: u64) -> bool {
        number < self.end && !self.running.contains(&number)
    }
}

/// A transaction of pgweir's own that may commit on the primary; over when dropped.
pub struct Committing(Arc<Cluster>);

impl Drop for Committing {
    fn drop(&mut self) {
        self.0.shown().own.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Cluster {
    /// A transaction of pgweir's own begins on the primary.
    #[must_use]
    pub fn commits(self: &Arc<Self>) -> Committing {
        self.shown().own.fetch_add(1, Ordering::SeqCst);
        Committing(self.clone())
    }

    /// What was sent to a server and not answered will not be heard of any more: it may end as it likes.
    pub fn note_lost(&self, node: Node) {
        if self.view().server(node).is_some_and(|server| server.role == Role::Replica) {
            return;
        }
        self.shown().lost.store(self.micros(clock::now() + LINGERS), Ordering::SeqCst);
    }

    /// Whether anything that was sent through this pgweir may be committed on the primary and not be shown there yet: it was not
    /// answered.
    #[must_use]
    pub fn may_commit(&self) -> bool {
        let shown = self.shown();
        let lost = shown.lost.load(Ordering::SeqCst);
        self.view().primary().is_some_and(|primary| self.load(primary) > 0)
            || shown.own.load(Ordering::SeqCst) > 0
            || lost > 0 && self.micros(clock::now()) < lost
    }

    /// Whether the primary is known to show all that a replica showed at that time.
    #[must_use]
    pub fn has_shown(&self, replica: Node, seen: Instant) -> bool {
        self.shown().until().iter().any(|(node, until)| *node == replica && *until >= seen)
    }

    /// Waits until the primary shows all that a replica showed at that time. A replica that does not answer has shown what waits
    /// for confirmation on the primary. False: there is no primary to show anything.
    pub async fn shows_all_of(&self, replica: Node, seen: Instant) -> bool {
        let (mut left, mut looked, mut pause, mut tries) = (None::<Seen>, 0, PAUSE, TRIES);
        loop {
            let mut round = self.shown().round.lock().await;
            if left.is_none() {
                if self.has_shown(replica, seen) {
                    return true;
                }
                left = round.of(replica, seen);
            }
            if left.is_none() {
                tries = tries.saturating_sub(1);
                self.look(&mut round, replica, tries == 0).await;
                left = round.of(replica, seen);
            } else if round.number <= looked {
                let asked = clock::now();
                if let Some(snapshot) = self.snapshot().await {
                    round.shows(asked, snapshot);
                }
            }
            looked = round.number;
            if let Some(known) = left.as_mut()
                && known.is_shown_by(&round.snapshot)
            {
                if known.whole {
                    self.shown().note(replica, known.asked);
                    return true;
                }
                // There is more.
                round.forget(replica);
                (left, tries) = (None, TRIES);
                continue;
            }
            drop(round);
            if self.view().primary().is_none() {
                return false;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks both servers; `last`: a replica that does not answer this time, either, is given up.
    async fn look(&self, round: &mut Round, replica: Node, last: bool) {
        let asked = clock::now();
        let is_up = self.view().server(replica).is_some_and(|server| server.health == Health::Up);
        let is_recent = round.began.is_some_and(|began| asked.saturating_duration_since(began) < RECENT);
        let (snapshot, mut waits) = if is_up && is_recent {
            // What is not shown yet was not shown a moment ago, either: there is no need to wait for the one to ask the other.
            tokio::join!(self.snapshot(), self.committed(replica, &round.snapshot))
        } else {
            (self.snapshot().await, None)
        };
        let Some(snapshot) = snapshot else { return };
        round.shows(asked, snapshot);
        if is_up && !is_recent {
            waits = self.committed(replica, &round.snapshot).await;
        }
        if waits.is_none() && (last || !is_up) {
            waits = self.unconfirmed(&round.snapshot).await;
        }
        if let Some(waits) = waits {
            let whole = waits.len() < MOST;
            round.forget(replica);
            round.committed.push(Seen { replica, asked, waits, whole });
        }
    }

    /// What the primary shows. None: it does not answer. One that answers something else cannot be asked: all, then.
    async fn snapshot(&self) -> Option<Snapshot> {
        let rows = self.column(self.view().primary()?, SNAPSHOT.to_owned()).await?;
        let all = Snapshot { end: i64::MAX.unsigned_abs(), running: Vec::new() };
        Some(rows.first().and_then(|text| Snapshot::parse(text)).unwrap_or(all))
    }

    /// The transactions that are not in a snapshot and that a replica shows; of [`MOST`] or more, the first. A transaction has a lower
    /// number than the parts that it is made of. None: it does not answer.
    async fn committed(&self, replica: Node, snapshot: &Snapshot) -> Option<Vec<u64>> {
        let running: Vec<_> = snapshot.running.iter().map(u64::to_string).collect();
        // Of a transaction that a replica has not heard of it must not be asked.
        let asked = format!(
            "SELECT x FROM (SELECT txid_snapshot_xmax(txid_current_snapshot())) AS e(e), LATERAL \
             (SELECT unnest('{{{}}}'::int8[]) UNION ALL SELECT generate_series({}, e - 1)) AS t(x) \
             WHERE CASE WHEN x < e THEN txid_status(x) = 'committed' END LIMIT {MOST}",
            running.join(","),
            snapshot.end
        );
        let rows = timeout(ANSWER, self.column(replica, asked)).await.ok()??;
        Some(rows.iter().filter_map(|number| number.parse().ok()).collect())
    }

    /// The transactions that wait for a confirmation on the primary.
    async fn unconfirmed(&self, snapshot: &Snapshot) -> Option<Vec<u64>> {
        // Who commits what was prepared has no number of its own there.
        let waiting = "WITH w AS (SELECT backend_xid FROM pg_stat_activity WHERE wait_event = 'SyncRep') \
            SELECT backend_xid FROM w WHERE backend_xid IS NOT NULL UNION ALL \
            SELECT transaction FROM pg_prepared_xacts WHERE EXISTS (SELECT FROM w WHERE backend_xid IS NULL)";
        let rows = self.column(self.view().primary()?, waiting.to_owned()).await?;
        // These are told without their epoch.
        let epoch = snapshot.end & !u64::from(u32::MAX);
        Some(rows.iter().filter_map(|number| Some(epoch | u64::from(number.parse::<u32>().ok()?))).collect())
    }
}

impl Round {
    fn shows(&mut self, asked: Instant, snapshot: Snapshot) {
        (self.number, self.began, self.snapshot) = (self.number + 1, Some(asked), snapshot);
    }

    fn forget(&mut self, replica: Node) {
        self.committed.retain(|known| known.replica != replica);
    }

    /// What a replica had committed at that time or later.
    fn of(&self, replica: Node, seen: Instant) -> Option<Seen> {
        self.committed.iter().find(|known| known.replica == replica && known.asked >= seen).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_what_ended_before_it() {
        let snapshot = Snapshot::parse("725:730:725,727").unwrap();
        let shown = (724..732).filter(|number| snapshot.shows(*number)).collect::<Vec<_>>();
        assert_eq!(shown, [724, 726, 728, 729]);
        assert!(Snapshot::parse("725:725:").unwrap().shows(724));
        assert!(Snapshot::parse("nonsense").is_none());
    }
}
