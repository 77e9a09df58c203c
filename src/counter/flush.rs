//! How an account's increments are carried out: the conversation with the primary and its ledger.

use std::sync::Arc;

use super::ask::{Failed, Refusal, ask, plain};
use super::check;
use super::journal::Back;
use super::ledger;
use super::merge::{Addition, Key};
use super::reply::{Load, Outcome, Trial};
use super::statement::{FEW, Names, gather};
use super::sums::Sums;
use super::task::Flusher;
use crate::clock::{self, Duration};
use crate::ids::Node;
use crate::monitor::Cluster;
use crate::pool::Lease;
use crate::wire::TransactionStatus;

/// Pauses between tries that fail: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Each statement of a flush sees what was committed before it, whatever the role has set: a row that others have changed is no error.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// What the ledger answers with where a number is not that which was expected.
const NOT_THERE: &[u8; 5] = b"22012";

/// Why a flush was not carried out.
enum Not {
    /// The connection, or its server, is not what it was: the ledger knows.
    Known,
    /// The server refuses the whole statement.
    Later(String),
    /// There is no way to a primary.
    NoWay(String),
    /// Some of its rows are refused.
    Rows(Refusal),
}

impl From<Failed> for Not {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Lost => Self::Known,
            Failed::Refused(refusal) if refusal.code == *NOT_THERE => Self::Known,
            // The values: data exceptions and constraints. All else is about the whole statement.
            Failed::Refused(refusal) if matches!(refusal.code.first_chunk(), Some(b"22" | b"23")) => {
                Self::Rows(refusal)
            }
            Failed::Refused(refusal) => Self::Later(refusal.message),
        }
    }
}

/// A connection to what was the primary when it was taken.
struct Way {
    cluster: Arc<Cluster>,
    node: Node,
    lease: Lease,
}

impl Way {
    /// What it answers counts only as long as that holds: what another primary has not got may be lost.
    fn holds(&self) -> bool {
        self.cluster.view().primary() == Some(self.node) && !self.lease.pool().is_over(&self.lease)
    }

    async fn ask(&mut self, text: &str) -> Result<Vec<Vec<Option<String>>>, Failed> {
        if !self.holds() {
            return Err(Failed::Lost);
        }
        let rows = ask(&mut self.lease, text).await?;
        if self.holds() { Ok(rows) } else { Err(Failed::Lost) }
    }

    /// Ends a transaction that the server has refused something in.
    async fn roll_back(&mut self) {
        if self.lease.owed.status() != TransactionStatus::Idle {
            // A connection that is lost is not given back.
            let _ = self.ask("ROLLBACK").await;
        }
    }

    fn give_back(self) {
        if self.lease.owed.is_free() && self.holds() {
            self.lease.put_back(clock::now());
        } else {
            self.lease.close("in_doubt");
        }
    }
}

/// A pause that grows.
struct Patience {
    pause: Duration,
    said: String,
}

impl Patience {
    fn new() -> Self {
        Self { pause: PAUSE, said: String::new() }
    }

    /// Waits; an operator hears of each reason once.
    async fn wait(&mut self, flusher: &Flusher, why: &str) {
        flusher.account.metrics.failed();
        if self.said != why && flusher.account.waiting() == 0 {
            tracing::debug!(table = %flusher.account.table(), %why, "the ledger cannot be asked yet");
        } else if self.said != why {
            let table = flusher.account.table();
            tracing::warn!(%table, %why, "increments that were acknowledged could not be flushed: it is tried again");
            why.clone_into(&mut self.said);
        }
        let cluster = flusher.account.means.cluster();
        let changed = async {
            match &cluster {
                Some(cluster) => cluster.changed(cluster.epoch()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(self.pause) => {}
            () = changed => {}
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

impl Flusher {
    async fn way(&self) -> Result<Way, String> {
        let means = &self.account.means;
        let cluster = means.cluster().ok_or("the configuration has its database no more")?;
        let node = cluster.view().primary().ok_or("there is no primary")?;
        let pool = means.pool(node).ok_or("the primary is not known")?;
        let mut lease = pool.lease(&self.account.wants).await.map_err(|error| error.to_string())?;
        lease.draws_unasked();
        let mut way = Way { cluster, node, lease };
        match plain(&mut way.lease).await {
            Ok(()) => Ok(way),
            Err(_) => {
                way.lease.close("lost");
                Err("the connection broke".to_owned())
            }
        }
    }

    /// Finds out where the ledger is, and what of before is still to be carried out.
    pub(super) async fn open(&self) {
        let mut patience = Patience::new();
        loop {
            let why = match self.way().await {
                Ok(mut way) => {
                    let outcome = self.open_by(&mut way).await;
                    way.give_back();
                    match outcome {
                        Ok(applied) => return self.begin(applied).await,
                        Err(Failed::Lost) => "the connection broke".to_owned(),
                        Err(Failed::Refused(refusal)) => {
                            let grants = ledger::grants(
                                &self.account.definition.ledger,
                                &self.account.definition.user,
                            );
                            format!(
                                "its ledger: {}; an owner of the schema can make it: {grants}",
                                refusal.message
                            )
                        }
                    }
                }
                Err(why) => why,
            };
            self.account.metrics.refused(true);
            self.account.refuses(why.clone());
            patience.wait(self, &why).await;
        }
    }

    /// The number in the ledger, which is made if it is not there.
    async fn open_by(&self, way: &mut Way) -> Result<u64, Failed> {
        let line = &self.account.line;
        let there = way.ask(&ledger::is_there(&line.ledger)).await?;
        if there.first().and_then(|row| row.first()?.as_deref()) != Some("t") {
            way.ask(&ledger::create(&line.ledger)).await?;
        }
        if let Some(applied) = number(&way.ask(&line.read()).await?) {
            return Ok(applied);
        }
        let about = format!("{} {}", self.account.definition.user, self.account.table());
        way.ask(&line.open(&about)).await?;
        Ok(number(&way.ask(&line.read()).await?).unwrap_or(0))
    }

    /// The ledger is at `applied`: what the journal has beyond that comes first.
    async fn begin(&self, applied: u64) {
        let left = match &self.account.journal {
            Some((journal, id)) => {
                let highest = journal.highest(*id);
                if highest > applied { self.older(applied, highest).await } else { Sums::after(applied) }
            }
            None => Sums::after(applied),
        };
        self.account.metrics.refused(false);
        self.account.opened(applied, left);
    }

    /// What the journal has from one number to another. What is missing is counted and said.
    async fn older(&self, from: u64, to: u64) -> Sums {
        let back = match self.account.journal.clone() {
            Some((journal, id)) => {
                let read = tokio::task::spawn_blocking(move || journal.read_back(id, from, to)).await;
                read.unwrap_or_else(|error| Err(std::io::Error::other(error)))
            }
            None => Ok(Back { rows: Vec::new(), missing: to - from }),
        };
        let back = back.unwrap_or_else(|error| {
            tracing::error!(%error, "the journal cannot be read");
            Back { rows: Vec::new(), missing: to - from }
        });
        let mut sums = Sums::after(from);
        for (key, amounts) in back.rows {
            sums.add(&key, &amounts);
        }
        let table = self.account.table();
        if back.missing > 0 {
            let missing = back.missing;
            tracing::error!(%table, missing, "increments are lost that a primary had committed: the one that took over has not got them");
            self.account.metrics.lost(missing);
        }
        if !sums.is_empty() {
            let count = sums.count();
            tracing::warn!(%table, count, "increments from the journal are carried out: the ledger has not got them");
        }
        sums.to = to;
        sums
    }

    /// Carries out all that waits.
    pub(super) async fn flush(&self) {
        let mut load = self.account.take();
        let mut patience = Patience::new();
        let start = clock::now();
        loop {
            let (why, stuck) = match self.try_once(&load.sums).await {
                Ok(found) => {
                    let Load { sums, trials, .. } = load;
                    let count = usize::try_from(sums.count()).unwrap_or(usize::MAX);
                    self.account.metrics.flushed(count, sums.rows(), start.elapsed());
                    self.count_lost(&found, &trials);
                    return self.account.moved(sums.to, &found, trials);
                }
                Err(Not::Later(why)) => (why, true),
                Err(Not::Rows(refusal)) => (refusal.message, true),
                Err(Not::NoWay(why)) => (why, false),
                Err(Not::Known) => {
                    let known = self.look(&mut load.sums).await;
                    if matches!(known, Ok(true)) {
                        let found = Outcome { unknown: true, ..Outcome::default() };
                        return self.account.moved(load.sums.to, &found, load.trials);
                    }
                    // They are on their way for good, and their clients hear that nobody knows.
                    load.base = None;
                    for (number, trial) in load.trials.drain(..) {
                        self.account.keep(number, &trial);
                    }
                    let unknown = || "whether they were committed was not known".to_owned();
                    (known.err().unwrap_or_else(unknown), false)
                }
            };
            // What nobody was told of is not carried out at all: each client hears its own error.
            self.account.lets_go(&mut load);
            self.account.failed(&why, stuck);
            if load.sums.is_empty() {
                return self.account.put_back(load.sums);
            }
            if self.account.throws_away(&load.sums) {
                return;
            }
            patience.wait(self, &why).await;
        }
    }

    /// What the server has refused by itself is lost, and so is what was for rows that are not there, but for those whose clients hear of it.
    fn count_lost(&self, found: &Outcome, trials: &[(u64, Trial)]) {
        let table = self.account.table();
        let acknowledged = |key: &Vec<Key>, count: u64| {
            count.saturating_sub(trials.iter().filter(|(_, trial)| trial.key == *key).count() as u64)
        };
        for (key, (count, why)) in &found.refused {
            let count = acknowledged(key, *count);
            if count > 0 {
                tracing::error!(%table, ?key, count, %why, "increments are lost that were acknowledged: the server refuses them");
                self.account.metrics.lost(count);
            }
        }
        for (key, count) in &found.missing {
            (0..*count).for_each(|_| self.account.metrics.unmatched());
            let count = acknowledged(key, *count);
            if count > 0 {
                tracing::warn!(%table, ?key, count, "there is no row for increments that were acknowledged");
            }
        }
    }

    async fn try_once(&self, sums: &Sums) -> Result<Outcome, Not> {
        let mut way = self.way().await.map_err(Not::NoWay)?;
        let _commits = way.cluster.commits();
        let mut outcome = self.carry_out(&mut way, sums).await;
        if matches!(outcome, Err(Not::Rows(_) | Not::Later(_))) {
            // The table may be another one than it was a moment ago.
            self.account.inner().names = None;
            way.roll_back().await;
        }
        if let Err(Not::Rows(refusal)) = &outcome {
            outcome = self.apart(&mut way, sums, refusal).await;
        }
        if outcome.is_ok() {
            let cluster = &way.cluster;
            cluster.writes().note(self.account.tables, cluster.positions().primary().now());
        } else if matches!(outcome, Err(Not::Known)) {
            way.cluster.note_lost(way.node);
        }
        way.give_back();
        outcome
    }

    /// A primary has taken over: what it has lost comes again.
    pub(super) async fn compare(&self) {
        let mut load = self.account.take();
        self.account.lets_go(&mut load);
        let mut sums = load.sums;
        let mut patience = Patience::new();
        loop {
            match self.look(&mut sums).await {
                Ok(true) => return self.account.moved(sums.to, &Outcome::default(), Vec::new()),
                Ok(false) => return self.account.put_back(sums),
                Err(why) => {
                    self.account.failed(&why, false);
                    patience.wait(self, &why).await;
                }
            }
        }
    }

    /// Asks the ledger. True: these are committed. False: they are not, and what stands before them in the journal and is not
    /// either has joined them.
    async fn look(&self, sums: &mut Sums) -> Result<bool, String> {
        let mut way = self.way().await?;
        let outcome = self.open_by(&mut way).await;
        let cluster = way.cluster.clone();
        way.give_back();
        let applied = match outcome {
            Ok(applied) => applied,
            Err(Failed::Lost) => return Err("the connection broke".to_owned()),
            Err(Failed::Refused(refusal)) => return Err(refusal.message),
        };
        if applied < sums.from {
            let mut all = self.older(applied, sums.from).await;
            all.join(std::mem::take(sums));
            *sums = all;
        } else if applied > sums.to || applied > sums.from && applied < sums.to {
            let table = self.account.table();
            tracing::error!(%table, applied, from = sums.from, to = sums.to, "the ledger is where it cannot be: is the journal a copy of another's? these increments are given up, and no more are kept");
            self.account.metrics.lost(sums.count());
            self.account
                .breaks("its ledger is moved on by somebody else: is the journal a copy of another's?");
            return Ok(true);
        }
        let committed = applied == sums.to && sums.to > sums.from;
        if committed {
            cluster.writes().note(self.account.tables, cluster.positions().primary().now());
        }
        Ok(committed)
    }

    /// What the statement is made of. What was seen a moment ago is good enough.
    async fn names(&self, way: &mut Way) -> Result<Arc<Names>, Not> {
        if let Some(names) = self.account.names() {
            return Ok(names);
        }
        let rule = self.account.definition.rule();
        let rows = way.ask(&check::question(&rule)).await?;
        let names = Arc::new(check::verdict(&rule, &rows).map_err(Not::Later)?);
        self.account.inner().names = Some((clock::now(), names.clone()));
        Ok(names)
    }

    /// All of these and the ledger, in one transaction.
    async fn carry_out(&self, way: &mut Way, sums: &Sums) -> Result<Outcome, Not> {
        let names = self.names(way).await?;
        let all = sums.additions(&self.account.shape);
        let begin = format!("{BEGIN}; {}; ", self.account.line.advance(sums.from, sums.to));
        let missing = add(way, &names, &begin, &all).await?.into_iter().collect();
        way.ask("COMMIT").await?;
        Ok(Outcome { missing, ..Outcome::default() })
    }

    /// Some rows are refused: each that is not is carried out, in one transaction with the ledger.
    async fn apart(&self, way: &mut Way, sums: &Sums, refusal: &Refusal) -> Result<Outcome, Not> {
        self.account.metrics.failed();
        let names = self.names(way).await?;
        way.ask(&format!("{BEGIN}; {}", self.account.line.advance(sums.from, sums.to))).await?;
        let all = sums.additions(&self.account.shape);
        let mut outcome = Outcome::default();
        let mut parts = vec![(0, all.len())];
        while let Some((from, to)) = parts.pop() {
            let part = all.get(from..to).unwrap_or_default();
            let Some((first, count)) = part.first() else { continue };
            match add(way, &names, "SAVEPOINT part; ", part).await {
                Ok(missing) => {
                    outcome.missing.extend(missing);
                    way.ask("RELEASE SAVEPOINT part").await?;
                }
                Err(Failed::Lost) => return Err(Not::Known),
                Err(Failed::Refused(why)) => {
                    way.ask("ROLLBACK TO SAVEPOINT part").await?;
                    if to - from > 1 {
                        let middle = usize::midpoint(from, to);
                        parts.extend([(middle, to), (from, middle)]);
                        continue;
                    }
                    outcome.refused.insert(first.key.clone(), (*count, why.message));
                }
            }
        }
        way.ask("COMMIT").await?;
        tracing::debug!(first = %refusal.message, "a flush was taken apart");
        Ok(outcome)
    }
}

/// Adds all of these, in the transaction that `lead` begins or goes on with. Returns which rows are not there, and of how many
/// increments each is.
///
/// Rows that the statement has missed are asked for by themselves before the transaction ends: PostgreSQL 18.0 misses rows that others
/// change at that moment, and every version misses one that others have deleted and made anew.
async fn add(
    way: &mut Way,
    names: &Names,
    lead: &str,
    all: &[(Addition, u64)],
) -> Result<Vec<(Vec<Key>, u64)>, Failed> {
    let additions: Vec<_> = all.iter().map(|(addition, _)| addition.clone()).collect();
    let merged = gather(&additions, usize::MAX);
    let found = merged.found(&way.ask(&format!("{lead}{}", merged.text(names))).await?);
    let missed = all.iter().zip(found).filter(|(_, found)| !found).map(|(one, _)| one.clone());
    let (missed, counts): (Vec<_>, Vec<_>) = missed.unzip();
    let mut missing = Vec::new();
    for (part, counts) in missed.chunks(FEW).zip(counts.chunks(FEW)) {
        let again = gather(part, usize::MAX);
        let found = again.found(&way.ask(&again.text(names)).await?);
        let gone = part.iter().zip(counts).zip(found).filter(|(_, found)| !found);
        missing.extend(gone.map(|((addition, count), _)| (addition.key.clone(), *count)));
    }
    Ok(missing)
}

fn number(rows: &[Vec<Option<String>>]) -> Option<u64> {
    rows.first()?.first()?.as_deref()?.parse().ok()
}
