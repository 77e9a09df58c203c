//! Every account of increments that are acknowledged before they are committed. They outlive configurations: one that is loaded
//! again finds those of before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::account::{Account, Means, Pace};
use super::definition::Definition;
use super::journal::Journal;
use crate::clock::Duration;
use crate::metrics::CounterMetrics;

/// Most of them: kinds of statements, for each role.
const MOST: usize = 1_000;

/// An account as it is now.
#[derive(Clone, Debug)]
pub struct Kept {
    /// `journal` or `memory`.
    pub durability: &'static str,
    /// The database that its clients asked for.
    pub database: String,
    /// Their user.
    pub user: String,
    /// The table.
    pub table: String,
    /// Increments that are not committed yet.
    pub waiting: u64,
    /// How long the first of these has waited.
    pub age: Option<Duration>,
    /// Why they cannot be kept, or were not committed when it was tried last.
    pub refused: Option<String>,
    /// They are not kept.
    pub stuck: bool,
    /// The counters, and how they are added to.
    pub what: String,
}

/// The accounts of one pgweir.
#[derive(Debug)]
pub struct Books {
    journal: Option<Arc<Journal>>,
    /// The name in ledgers of what is only in memory.
    own: String,
    accounts: Mutex<HashMap<(String, bool), Arc<Account>>>,
}

impl Books {
    /// With that journal.
    #[must_use]
    pub fn new(journal: Option<Arc<Journal>>) -> Self {
        Self { journal, own: format!("memory-{:032x}", rand::random::<u128>()), accounts: Mutex::default() }
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<(String, bool), Arc<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That account, made if it is not there. None: there are too many, or there is no journal.
    pub(super) fn account(
        &self,
        definition: Definition,
        journaled: bool,
        pace: Pace,
        means: impl FnOnce() -> Arc<dyn Means>,
        metrics: &Arc<CounterMetrics>,
    ) -> Option<Arc<Account>> {
        let key = (definition.name(), journaled);
        let mut accounts = self.accounts();
        if let Some(account) = accounts.get(&key) {
            account.set_pace(pace);
            account.start();
            return Some(account.clone());
        }
        let journal = self.journal.clone().filter(|_| journaled);
        if accounts.len() >= MOST || journaled && journal.is_none() {
            return None;
        }
        let account = Account::new(definition, journal, &self.own, means(), metrics.clone(), pace);
        let account = Arc::new(account);
        accounts.insert(key, account.clone());
        drop(accounts);
        account.start();
        Some(account)
    }

    /// Begins to carry out what the journal has from before. `means` says where, and what counts for it.
    pub fn resume(&self, means: impl Fn(&Definition) -> (Arc<dyn Means>, Arc<CounterMetrics>)) {
        let Some(journal) = &self.journal else { return };
        for definition in journal.accounts() {
            let (means, metrics) = means(&definition);
            let pace = Pace { every: Duration::from_secs(1), rows: 10_000, most: 100_000 };
            if self.account(definition, true, pace, || means, &metrics).is_none() {
                tracing::error!("the journal has more accounts than can be carried out");
            }
        }
    }

    /// Those of a database; none: of all.
    #[must_use]
    pub fn of(&self, database: Option<&str>) -> Vec<Arc<Account>> {
        let accounts = self.accounts();
        let meant =
            |account: &&Arc<Account>| database.is_none_or(|name| *name == account.definition.database);
        accounts.values().filter(meant).cloned().collect()
    }

    /// Whether what the journal had from before is all committed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.of(None).iter().all(|account| {
            let inner = account.inner();
            inner.ready && inner.pending.is_empty() && inner.flushing == 0
        })
    }

    /// Flushes all of these. Ready when all is committed that they have now.
    ///
    /// # Errors
    /// The first that the server refuses something of: its table, and why.
    pub async fn flush(accounts: Vec<Arc<Account>>) -> Result<(), (String, String)> {
        for account in &accounts {
            // All at the same time: each is only waited for.
            account.want();
        }
        for account in accounts {
            account.flush(account.last()).await.map_err(|why| (account.table(), why))?;
        }
        Ok(())
    }

    /// How many increments are not committed, and in no journal.
    #[must_use]
    pub fn only_here(&self) -> u64 {
        let all = self.of(None);
        all.iter().filter(|account| account.journal.is_none()).map(|account| account.waiting()).sum()
    }

    /// Sets the gauges.
    pub fn observe(&self) {
        let mut sums: HashMap<*const CounterMetrics, (Arc<CounterMetrics>, u64, Duration)> = HashMap::new();
        for account in self.of(None) {
            let (waiting, age) = (account.waiting(), account.age());
            let place = sums
                .entry(Arc::as_ptr(&account.metrics))
                .or_insert_with(|| (account.metrics.clone(), 0, Duration::ZERO));
            (place.1, place.2) = (place.1 + waiting, place.2.max(age));
        }
        for (metrics, waiting, age) in sums.into_values() {
            metrics.waits(waiting, age);
        }
    }

    /// All, for the operator.
    #[must_use]
    pub fn all(&self) -> Vec<Kept> {
        let mut all: Vec<Kept> = self.of(None).iter().map(|account| account.kept()).collect();
        all.sort_by(|one, other| {
            (&one.database, &one.table, &one.user).cmp(&(&other.database, &other.table, &other.user))
        });
        all
    }
}
