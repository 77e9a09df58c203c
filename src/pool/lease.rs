//! One client's use of a server connection.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::Pool;
use crate::clock::Instant;
use crate::server::Server;

/// A server connection that belongs to its holder until it is given back. Dropped without [`Lease::put_back`], the
/// connection is closed: its state is in doubt.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    server: Option<Box<Server>>,
}

/// What a lease derefs to is there from [`Lease::new`] until it is consumed.
const HELD: &str = "a lease holds its server until it is consumed";

impl Lease {
    pub(super) fn new(pool: Arc<Pool>, server: Box<Server>) -> Self {
        Self { pool, server: Some(server) }
    }

    /// The pool it comes from.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Gives the connection back at `now`. One that is not free is closed instead: the ledger of replies owed has the last word.
    pub fn put_back(mut self, now: Instant) {
        let Some(mut server) = self.server.take() else { return };
        let pool = self.pool.clone();
        if !server.owed.is_free() || server.window.as_ref().is_some_and(|window| !window.is_empty()) {
            return pool.close(server, "in_doubt");
        }
        if let Some(window) = server.window.take() {
            pool.buffers.give(window);
        }
        pool.put_back(server, now);
    }

    /// Closes the connection, for a reason that is counted.
    pub fn close(mut self, why: &'static str) {
        if let Some(server) = self.server.take() {
            self.pool.close(server, why);
        }
    }
}

impl Deref for Lease {
    type Target = Server;

    #[expect(clippy::expect_used, reason = "the field is taken only by methods that consume the lease")]
    fn deref(&self) -> &Server {
        self.server.as_deref().expect(HELD)
    }
}

impl DerefMut for Lease {
    #[expect(clippy::expect_used, reason = "the field is taken only by methods that consume the lease")]
    fn deref_mut(&mut self) -> &mut Server {
        self.server.as_deref_mut().expect(HELD)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.pool.close(server, "in_doubt");
        }
    }
}
