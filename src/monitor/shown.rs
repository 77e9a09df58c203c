//! What a replica shows and the primary does not yet: with synchronous replication a commit is seen on a replica as soon as that
//! has replayed it, and on the primary only when replicas have confirmed it.
//!
//! Positions do not tell. But the primary says which transactions it shows, and a replica says which of the others are committed, as it
//! sees them. Both are asked over the connections of their probes; one round answers everybody who waited for it.

use tokio::sync::Mutex;
use tokio::time::sleep;

use super::Cluster;
use crate::clock::{self, Duration, Instant};
use crate::cluster::Health;
use crate::ids::Node;

/// What the primary shows: all below the second number but for those between commas (PostgreSQL's documentation, "Transaction ID and
/// Snapshot Information Functions"). These names are known to all versions.
const SNAPSHOT: &str = "SELECT txid_current_snapshot()";

/// Between the first two rounds of one who waits; it doubles.
const PAUSE: Duration = Duration::from_millis(1);

/// Between two rounds at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// What the servers have said last.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Round>);

#[derive(Debug, Default)]
struct Round {
    /// When the primary was asked.
    began: Option<Instant>,
    /// What it shows.
    snapshot: Snapshot,
    /// What it does not show, and is committed on a replica, as far as these were asked.
    committed: Vec<(Node, Vec<u64>)>,
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

impl Cluster {
    /// Waits until the primary shows all that a replica shows now. A replica that does not answer has shown what waits for
    /// confirmation on the primary. Without a primary there is nothing to wait for.
    pub async fn shows_all_of(&self, replica: Node) {
        let mut from = clock::now();
        let (mut waits, mut pause): (Option<Vec<u64>>, _) = (None, PAUSE);
        loop {
            let mut round = self.shown().0.lock().await;
            if round.began.is_none_or(|began| began < from) {
                let began = Some(clock::now());
                match self.snapshot().await {
                    Some(snapshot) => *round = Round { began, snapshot, committed: Vec::new() },
                    None if self.view().primary().is_none() => return,
                    None => {
                        drop(round);
                        sleep(LONGEST_PAUSE).await;
                        continue;
                    }
                }
            }
            let known = round.committed.iter().find(|(node, _)| *node == replica);
            let mut left = match (waits, known) {
                (Some(waits), _) => waits,
                (None, Some((_, known))) => known.clone(),
                (None, None) => {
                    let Some(known) = self.committed(replica, &round.snapshot).await else { return };
                    round.committed.push((replica, known.clone()));
                    known
                }
            };
            left.retain(|number| !round.snapshot.shows(*number));
            drop(round);
            if left.is_empty() {
                return;
            }
            waits = Some(left);
            sleep(pause).await;
            from = clock::now();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn snapshot(&self) -> Option<Snapshot> {
        let rows = self.column(self.view().primary()?, SNAPSHOT.to_owned()).await?;
        Snapshot::parse(rows.first()?)
    }

    /// The transactions that the primary does not show and a replica does, or, if that does not say, those that wait for confirmation.
    async fn committed(&self, replica: Node, snapshot: &Snapshot) -> Option<Vec<u64>> {
        let running: Vec<_> = snapshot.running.iter().map(u64::to_string).collect();
        // Of a transaction that a replica has not heard of it must not be asked.
        let asked = format!(
            "SELECT x FROM (SELECT txid_snapshot_xmax(txid_current_snapshot())) AS e(e), LATERAL \
             (SELECT unnest('{{{}}}'::int8[]) UNION ALL SELECT generate_series({}, e - 1)) AS t(x) \
             WHERE CASE WHEN x < e THEN txid_status(x) = 'committed' END",
            running.join(","),
            snapshot.end
        );
        let answers = self.view().server(replica).is_some_and(|server| server.health == Health::Up);
        if answers && let Some(rows) = self.column(replica, asked).await {
            return Some(rows.iter().filter_map(|number| number.parse().ok()).collect());
        }
        let waiting = "SELECT backend_xid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_xid IS NOT NULL";
        let rows = self.column(self.view().primary()?, waiting.to_owned()).await?;
        // These are told without their epoch.
        let epoch = snapshot.end & !u64::from(u32::MAX);
        Some(rows.iter().filter_map(|number| Some(epoch | u64::from(number.parse::<u32>().ok()?))).collect())
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
