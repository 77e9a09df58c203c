//! How a unit gets onto a lane: message by message, and before them what the connection lacks.

use std::sync::Arc;

use bytes::BytesMut;

use super::yard::Boarded;
use super::{Check, Inner, Move};
use crate::server::described::{Description, Fit};
use crate::server::owed::Show;
use crate::server::{Prepared, Server};
use crate::wire::write;

/// A lane that a unit is put on.
#[derive(Debug)]
pub struct Board<'a> {
    inner: &'a mut Inner,
    /// Prepared statements of pgweir's own that were sent with it.
    supplied: usize,
    /// What the server was asked before it.
    asked: usize,
}

impl<'a> Board<'a> {
    pub(super) fn new(inner: &'a mut Inner) -> Self {
        Self { inner, supplied: 0, asked: 0 }
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

    /// The next message names that statement, of which its client was told that: the server gets it, unless it has it, and is
    /// asked whether it has it so.
    pub fn need(&mut self, prepared: &Arc<Prepared>, told: Option<&Arc<Description>>) {
        self.supply(prepared, told);
        let Some(told) = told else { return };
        let Inner { lease: Some(lease), moves, riders, ended, out, checks, .. } = &mut *self.inner else {
            return;
        };
        let known = lease.shared.described(prepared.id());
        let same =
            known.is_some_and(|known| Arc::ptr_eq(known, told) || told.fit(Some(known), true) == Fit::Same);
        if same && !moves.iter().any(|own| own.prepared.id() == prepared.id()) {
            return;
        }
        let Some(number) = lease.owed.sent(b'D', Show::Swallow) else { return };
        write::describe_statement(out, prepared.name());
        let unit = *ended + riders.len() as u64;
        let (prepared, told) = (prepared.clone(), told.clone());
        self.asked += 1;
        checks.push_back(Check { unit, number, prepared, told, parameters: None });
    }

    fn supply(&mut self, prepared: &Arc<Prepared>, told: Option<&Arc<Description>>) {
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
        prepared.write(out, told.and_then(|told| told.parameters.as_deref()));
        moves.push_back(Move { unit, prepared: prepared.clone(), makes: true });
        self.supplied += 1;
    }

    pub(super) fn done(&self) -> Boarded {
        Boarded { supplied: self.supplied, asked: self.asked }
    }
}
