//! Who waits for an increment that is kept, and for what.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;

use super::account::Account;
use super::group::Form;
use super::merge::Key;
use super::sums::Sums;
use crate::pool::lane::{Again, Seat};

/// Who is to be told of an increment.
pub(super) struct Waiter {
    pub(super) account: Arc<Account>,
    pub(super) number: u64,
    pub(super) reply: Reply,
}

/// How.
pub(super) struct Reply {
    pub(super) form: Form,
    pub(super) seat: Arc<Seat>,
    pub(super) ticket: u64,
}

impl Drop for Reply {
    fn drop(&mut self) {
        // Whoever was told something no longer waits.
        self.seat.unknown(self.ticket);
    }
}

impl Reply {
    pub(super) fn tell(self, upsert: bool, found: bool) {
        let mut out = BytesMut::new();
        self.form.write(upsert, found, &mut out);
        self.seat.answered(self.ticket, &mut out.to_vec());
    }
}

impl Waiter {
    /// Its increment is on disk.
    pub(super) fn written(self) {
        let upsert = self.account.shape.upsert;
        self.reply.tell(upsert, true);
    }

    /// It is not: it is told when its increment is committed.
    pub(super) fn unwritten(self) {
        let Self { account, number, reply } = self;
        let mut inner = account.inner();
        if inner.applied >= number {
            drop(inner);
            return reply.tell(account.shape.upsert, true);
        }
        inner.held.push(Held { number, reply });
        inner.wanted = inner.wanted.max(number);
        drop(inner);
        account.work.notify_one();
    }
}

/// One who is told after the commit, although that was not meant: the journal's disk has failed.
pub(super) struct Held {
    pub(super) number: u64,
    pub(super) reply: Reply,
}

/// An increment whose client waits for its commit. It is in no journal before that, and if it fails its client hears why.
pub(super) struct Trial {
    pub(super) key: Vec<Key>,
    pub(super) amounts: Vec<i64>,
    pub(super) reply: Reply,
}

impl Trial {
    /// It was not carried out: it goes by itself.
    pub(super) fn again(self) {
        self.reply.seat.again(self.reply.ticket, Again::Behind);
    }
}

/// What one flush is to carry out.
pub(super) struct Load {
    /// All of it.
    pub(super) sums: Sums,
    /// Without those that follow; none: there are no such.
    pub(super) base: Option<Sums>,
    /// Those whose clients wait, each with its number.
    pub(super) trials: Vec<(u64, Trial)>,
}

/// What a flush has found.
#[derive(Default)]
pub(super) struct Outcome {
    /// The connection broke: it is committed, and nothing else is known.
    pub(super) unknown: bool,
    /// Rows that are not there: of how many increments.
    pub(super) missing: HashMap<Vec<Key>, u64>,
    /// Rows that the server refuses: of how many increments, and why.
    pub(super) refused: HashMap<Vec<Key>, (u64, String)>,
}
