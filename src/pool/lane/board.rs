//! How a unit gets onto a lane: message by message, and before them what the connection lacks.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Inner, Move};
use crate::server::owed::Show;
use crate::server::{Prepared, Server};
use crate::wire::write;

/// A lane that a unit is put on.
#[derive(Debug)]
pub struct Board<'a> {
    inner: &'a mut Inner,
    /// Prepared statements of pgweir's own that were sent with it.
    supplied: usize,
}

impl<'a> Board<'a> {
    pub(super) fn new(inner: &'a mut Inner) -> Self {
        Self { inner, supplied: 0 }
    }

    /// What is to be sent, for the client's next message.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.inner.out
    }

    /// A message with that tag was put there.
    pub fn sent(&mut self, tag: u8) {
        if let Some(lease) = &mut self.inner.lease {
            lease.owed.sent(tag, Show::Forward);
        }
    }

    /// The next message names that statement: the server gets it, unless it has it.
    pub fn need(&mut self, prepared: &Arc<Prepared>) {
        let Inner { lease: Some(lease), moves, riders, ended, out, .. } = &mut *self.inner else { return };
        let most = lease.pool().options().max_prepared_statements;
        let Server { shared, owed, .. } = &mut **lease;
        let coming = moves.iter().rev().find(|own| own.prepared.id() == prepared.id());
        if coming.map_or_else(|| shared.has(prepared.id()), |own| own.makes) {
            return;
        }
        let unit = *ended + riders.len() as u64;
        if coming.is_none() && shared.has_any(prepared.id()) {
            owed.sent(b'C', Show::Swallow);
            write::close_statement(out, prepared.name());
            moves.push_back(Move { unit, prepared: prepared.clone(), makes: false });
        }
        // What leaves already makes room, what comes takes it.
        let leaving = moves.iter().filter(|own| !own.makes).count();
        let more = moves.len() - leaving;
        let known = |id| moves.iter().any(|own| own.prepared.id() == id);
        if shared.len() + more >= most.max(1) + leaving
            && let Some(surplus) = shared.surplus(1).filter(|surplus| !known(surplus.id())).cloned()
        {
            owed.sent(b'C', Show::Swallow);
            write::close_statement(out, surplus.name());
            moves.push_back(Move { unit, prepared: surplus, makes: false });
        }
        owed.sent(b'P', Show::Swallow);
        out.extend_from_slice(prepared.message());
        moves.push_back(Move { unit, prepared: prepared.clone(), makes: true });
        self.supplied += 1;
    }

    pub(super) fn supplied(&self) -> usize {
        self.supplied
    }
}
