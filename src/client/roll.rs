//! `pg_prepared_statements`: it shows what its server connection has, and is asked for what the client has.
//!
//! So a connection that is asked gets the client's statements first, in order and under the client's names, and loses for that
//! those that clients share. They stay there as names that are in the way, and go when the connection is cleaned for the next client.

use std::future::Future;
use std::sync::Arc;
use std::task::Context;

use tokio::time::sleep;

use super::named::RUNS;
use super::prepared::{Called, NOBODY};
use super::session::Session;
use super::supply::{NOTHING, Way};
use super::unit::{Piece, Residue};
use crate::clock::{self, Duration};
use crate::server::Prepared;
use crate::server::owed::Show;
use crate::wire::frame::HEADER;
use crate::wire::{Header, TransactionStatus, backend, frontend, write};

/// The statement and the portal by which SQL's own are made again.
const MAKES: &str = "pgweir prepare";

/// How soon what was cancelled in vain is cancelled again.
const AGAIN: Duration = Duration::from_millis(20);

/// Whether texts of a piece ask for the client's prepared statements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Roll {
    /// None does.
    Nobody,
    /// One is prepared or bound.
    Asks,
    /// One may be carried out as well.
    Runs,
    /// The server has got them all.
    Called,
}

impl Roll {
    pub(super) fn of(piece: &Piece) -> Self {
        match piece.facts.roll {
            false => Self::Nobody,
            true if piece.called => Self::Called,
            true if piece.executes => Self::Runs,
            true => Self::Asks,
        }
    }
}

impl Session {
    /// Something of pgweir's own has failed: if that was for a request to cancel what comes behind it, that is still to be cancelled.
    #[cold]
    pub(super) fn own_failed(&mut self, parse: bool, at: usize, head: Header) {
        self.parse_refused(parse);
        let cancelled = backend::fields(self.reply_body(at, head)).code == b"57014";
        if cancelled && self.identity.cancel.is_asked() {
            self.identity.cancel.insist();
            self.timer = Some(Box::pin(sleep(Duration::ZERO)));
        }
    }

    /// Cancels again and again what is being answered: the server ignores a request that comes between two statements.
    #[cold]
    pub(super) fn insist(&mut self, cx: &mut Context<'_>) {
        let Some(timer) = &mut self.timer else { return };
        while timer.as_mut().poll(cx).is_ready() {
            self.identity.cancel.cancel(&self.identity.database.cluster);
            timer.as_mut().reset(clock::now() + AGAIN);
        }
    }
}

impl Way<'_> {
    /// Whether the server gets the client's statements before that message. None: it does not, and the message goes the way of all
    /// others; else as it is.
    pub(super) fn rolls(&self, head: Header, body: &[u8]) -> Option<bool> {
        let owed = &self.held.lease.owed;
        if owed.status() == TransactionStatus::Failed {
            return None;
        }
        match head.tag {
            b'Q' => Some(true),
            // As early as can be: see `call_roll`.
            b'P' if self.roll == Roll::Runs && !owed.is_open() && body.first() == Some(&0) => {
                self.statements.makes_asking().then_some(true)
            }
            b'B' => {
                let (_, name) = frontend::bind(body)?;
                self.statements.find(name).filter(|statement| statement.facts.roll)?;
                let there = || self.statements.on_server(&self.held.lease, name) == Some(NOBODY);
                match self.roll {
                    Roll::Called if name.is_empty() => None,
                    roll => Some(!(roll == Roll::Called && there())),
                }
            }
            _ => None,
        }
    }

    /// The server gets all of the client's statements under the client's names, and no others. True: each in a unit of its own, which
    /// may fail; within a unit or a transaction of the client's, that fails with one that cannot be prepared any more.
    #[cold]
    pub(super) fn call_roll(&mut self) -> bool {
        let held = &*self.held;
        let apart = !held.lease.owed.is_open() && !held.transaction && !held.begins;
        let shared = self.shared_on();
        let in_the_way = self.statements.in_the_way(&self.held.lease);
        shared.iter().for_each(|prepared| self.unshare(prepared));
        in_the_way.iter().for_each(|name| self.close(name));
        [NOTHING, RUNS].iter().for_each(|name| self.close(name));
        let mut trial = None;
        let roll = self.statements.roll();
        for called in &roll {
            let first = match &called.sql {
                Some(text) => self.make_by_sql(&called.name, text),
                None => self.make_by_protocol(called),
            };
            let last = if apart { self.end_unit() } else { None };
            if let Some((first, last)) = first.zip(last) {
                trial = Some((trial.map_or(first, |(first, _)| first), last));
            }
        }
        if let Some((first, last)) = trial {
            self.held.lease.owed.may_fail(first, last);
        }
        if roll.iter().any(|called| called.sql.is_some()) {
            self.close(MAKES.as_bytes());
        }
        if apart {
            self.end_unit();
        }
        self.roll = Roll::Called;
        self.held.leaves(Residue::Unseen);
        apart
    }

    /// Returns the number of what is owed for it.
    fn end_unit(&mut self) -> Option<u32> {
        let number = self.held.lease.owed.sent(b'S', Show::Swallow)?;
        write::sync(self.own);
        self.statements.send_own_end(number);
        Some(number)
    }

    /// The shared statements that the server will have when the next message reaches it.
    fn shared_on(&self) -> Vec<Arc<Prepared>> {
        let mut there: Vec<_> = self.held.lease.shared.all().cloned().collect();
        self.statements.shared_under_way(|prepared, comes| {
            there.retain(|known| known.id() != prepared.id());
            there.extend(comes.then(|| prepared.clone()));
        });
        there
    }

    /// Returns the number of the first that is owed for it.
    fn make_by_protocol(&mut self, called: &Called) -> Option<u32> {
        let body = called.prepared.message().get(HEADER..)?;
        let (text, types) = (frontend::parse(body)?.1, frontend::parse_tail(body)?);
        let number = self.held.lease.owed.sent(b'P', Show::Swallow)?;
        write::parse_bytes(self.own, &called.name, text, types);
        self.statements.send_own(&called.name, NOBODY);
        Some(number)
    }

    /// Returns the number of the first that is owed for it.
    fn make_by_sql(&mut self, name: &[u8], text: &str) -> Option<u32> {
        // One that has failed has left it.
        self.close(MAKES.as_bytes());
        let owed = &mut self.held.lease.owed;
        let first = owed.sent(b'P', Show::Swallow)?;
        for tag in [b'B', b'E', b'C'] {
            owed.sent(tag, Show::Swallow);
        }
        let makes = MAKES.as_bytes();
        write::parse_bytes(self.own, makes, text.as_bytes(), &[0, 0]);
        self.statements.send_own(makes, NOBODY);
        write::bind_nothing(self.own, makes, makes);
        write::execute(self.own, MAKES);
        write::close_portal(self.own, makes);
        // What answers the Close says that it was made.
        self.statements.send_own(name, NOBODY);
        self.held.made.extend(str::from_utf8(name).map(str::to_owned));
        Some(first)
    }
}
