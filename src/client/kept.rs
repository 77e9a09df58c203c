//! Increments of a session that were answered before they were committed: what it does next may have to see them.
//!
//! What it reads of their table waits until they are committed, unless their rule says `reads = "stale"`; what changes the table, by
//! whoever, waits until all are that are kept for it. So does the first statement of a transaction, and for all that the session has counted, whatever it reads later.
//! Later statements of a transaction wait for nothing: a flush could wait for a row that the transaction has locked, in a circle that no
//! server sees; and where its snapshot is taken already, a flush would make its writes fail that would not have failed.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use tokio::time::sleep_until;

use super::fail::Failure;
use super::plan::Place;
use super::session::{Leave, Next, Session};
use super::unit::Piece;
use crate::clock::{self, Duration};
use crate::counter::{Account, Books};
use crate::fresh::Tables;
use crate::route::{Class, Reason};
use crate::wire::TransactionStatus;

/// Longest that a statement waits for increments to be committed.
const LONGEST: Duration = Duration::from_secs(5);

/// What a session has counted that may not be committed yet: the last number in each account.
#[derive(Default)]
pub(super) struct Kept {
    own: Vec<(Arc<Account>, u64)>,
    /// The piece that is being placed has waited in vain.
    late: Option<String>,
}

impl Session {
    /// An increment was answered.
    pub(super) fn keeps(&mut self, account: Arc<Account>, number: u64) {
        match self.sharing.kept.own.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &account)) {
            Some((_, last)) => *last = number,
            None => self.sharing.kept.own.push((account, number)),
        }
    }

    /// The accounts that have to be committed before the piece is carried out.
    #[cold]
    fn before(&mut self, piece: &Piece) -> Vec<Arc<Account>> {
        let (facts, begins) = (&piece.facts, self.begun.is_some());
        let in_transaction = self
            .held()
            .is_some_and(|held| held.transaction || held.lease.owed.status() != TransactionStatus::Idle);
        if piece.flushed || in_transaction || facts.class == Class::Own {
            return Vec::new();
        }
        let tables = if begins { Tables::ALL } else { facts.tables };
        let own = &mut self.sharing.kept.own;
        let before = own.len();
        own.retain(|(account, number)| account.applied() < *number);
        if own.len() < before {
            // They are in the WAL by now: what it reads must have them.
            self.fresh.counted(&self.identity.database.cluster);
        }
        let meets = |account: &Arc<Account>| account.tables().meets(tables);
        let mut accounts: Vec<_> = self.sharing.kept.own.iter().map(|(account, _)| account.clone()).collect();
        accounts.retain(|account| meets(account));
        if facts.class == Class::Write {
            // The first statement of a transaction that no server knows of yet: it has locked nothing.
            for account in self.identity.database.counters.uncommitted(&self.identity.name, facts.tables) {
                if !accounts.iter().any(|known| Arc::ptr_eq(known, &account)) {
                    accounts.push(account);
                }
            }
        }
        accounts
    }

    /// Whether the piece has to wait for a commit.
    pub(super) fn lacks_commit(&mut self, piece: &Piece) -> bool {
        !self.before(piece).is_empty()
    }

    /// Has the piece wait for a commit, if it must. None: it need not.
    pub(super) fn place_behind_commit(&mut self, piece: &Piece, primary: bool) -> Option<Place> {
        if let Some(table) = self.sharing.kept.late.take() {
            self.give_up_unit(*piece, Reason::Unflushed, &Failure::Unflushed(table));
            return Some(Place::Done);
        }
        // While there is no primary, what needs one waits where all do.
        let waits_anyway = primary && self.identity.database.cluster.view().primary().is_none();
        if waits_anyway || !self.lacks_commit(piece) {
            return None;
        }
        if !self.pinned {
            // The flush may need the connection.
            self.settle();
        }
        self.next = Some(Next::Commit);
        Some(Place::Wait)
    }

    /// Waits until what the piece needs is committed.
    pub(super) async fn wait_commit(&mut self) -> Result<(), Leave> {
        let Some(piece) = self.piece else { return Ok(()) };
        let accounts = self.before(&piece);
        let table = accounts.first().map(|account| account.table()).unwrap_or_default();
        let mut flushed = pin!(Books::flush(accounts));
        let mut late = pin!(sleep_until(clock::now() + LONGEST));
        let flushed = poll_fn(|cx| self.poll_wait(cx, &mut flushed, &mut late)).await?;
        if matches!(flushed, Some(Ok(()))) {
            self.fresh.counted(&self.identity.database.cluster);
        } else if self.is_unwanted(&piece) {
            return Ok(());
        } else {
            self.sharing.kept.late = Some(table);
        }
        if let Some(piece) = &mut self.piece {
            piece.flushed = true;
        }
        Ok(())
    }
}
