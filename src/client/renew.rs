//! Another configuration while clients are connected: each takes it over when it has nothing under way.

use std::sync::Arc;

use super::fail::Failure;
use super::session::{Leave, Session};
use super::shared::Database;
use crate::route::rules::Who;

impl Session {
    /// Goes by the configuration that holds now, if that is another and nothing is under way. True: it does so from now on.
    #[inline]
    pub(super) fn keep_up(&mut self) -> Result<bool, Leave> {
        let due = self.databases != self.shared.databases.version() && self.is_idle();
        if due {
            self.renew()?;
        }
        Ok(due)
    }

    /// Goes by the configuration that holds now, with nothing under way. What the client has on its connections stays there. A
    /// client whose database is gone, or is on other servers, or is logged in to as somebody else, has to connect anew.
    #[cold]
    fn renew(&mut self) -> Result<(), Leave> {
        self.databases = self.shared.databases.version();
        let before = self.identity.database.clone();
        let Some(now) = self.shared.databases.find(&self.identity.name) else {
            return Err(Leave::Told(Failure::DatabaseGone));
        };
        if Arc::ptr_eq(&before, &now) {
            return Ok(());
        }
        if !goes_on(&before, &now) {
            return Err(Leave::Told(Failure::DatabaseMoved));
        }
        before.metrics.clients().decrement(1.0);
        now.metrics.clients().increment(1.0);
        self.identity.rules = now.rules.session(&Who {
            user: &self.identity.user,
            database: &self.identity.name,
            application_name: &self.application_name,
            address: self.stream.peer_address(),
        });
        self.identity.database = now;
        // Names mean the same, but other rules look at texts.
        self.identity.known = 0;
        self.gather.forget_memo();
        self.pools.clear();
        Ok(())
    }
}

/// Whether a client of the one can go on with the other.
fn goes_on(before: &Database, now: &Database) -> bool {
    Arc::ptr_eq(&before.cluster, &now.cluster)
        && Arc::ptr_eq(&before.catalogs, &now.catalogs)
        && before.server_database == now.server_database
        && before.login == now.login
}
