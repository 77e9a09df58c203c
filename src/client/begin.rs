//! A BEGIN that is held back: pgweir answers it and sends it with the statement that follows, so that a transaction in which
//! nothing has happened yet holds no server connection, and opening one costs no round trip.
//!
//! Only a text that PostgreSQL cannot refuse is held back, alone in a simple Query. Should it fail all the same, for it can be
//! cancelled, the server skips what came with it (`preface`), and the client's transaction has failed.

use super::fail::Failure;
use super::plan::{Place, label};
use super::session::{Next, Session};
use super::unit::{Kind, Piece};
use crate::metrics::TargetLabel;
use crate::pool::PoolMode;
use crate::route::{self, Class, Facts, Reason, Route, Topology};
use crate::sql::{lone_begin, lone_end};
use crate::wire::frame::HEADER;
use crate::wire::{TransactionStatus, answer, frontend};

/// Longest BEGIN that is held back, as a message.
const MOST: usize = 256;

/// A transaction that is open for the client, and for no server.
#[derive(Debug)]
pub(super) enum Begun {
    /// Nothing has happened in it.
    Held {
        /// The Query that opens it.
        message: Box<[u8]>,
        /// What that does.
        facts: Facts,
    },
    /// Its first statement had an error, before any server had seen it.
    Failed,
    /// It was rolled back because its client was idle in it, and has not heard of that.
    TimedOut,
}

impl Begun {
    /// What a ReadyForQuery in it says.
    pub(super) fn status(&self) -> TransactionStatus {
        match self {
            Self::Held { .. } => TransactionStatus::Open,
            Self::Failed | Self::TimedOut => TransactionStatus::Failed,
        }
    }
}

impl Session {
    /// What becomes of a piece that opens a transaction, or is the first in one that no server knows of; none: it goes on
    /// its way.
    pub(super) fn place_begun(&mut self, piece: Piece) -> Option<Place> {
        match &self.begun {
            None if matches!(piece.facts.class, Class::Begin | Class::BeginReadOnly) => {
                self.hold_begin(piece)
            }
            None => None,
            Some(Begun::TimedOut) => self.place_in_timed_out(piece),
            Some(begun) => {
                let failed = matches!(begun, Begun::Failed);
                self.place_in_begun(piece, failed)
            }
        }
    }

    /// The text of a piece that is one whole simple Query.
    fn lone_query(&self, piece: &Piece) -> Option<&[u8]> {
        let whole = piece.kind == Kind::Unit && piece.ends && piece.rest == 0;
        let message = self.window.as_ref()?.bytes().get(..piece.size)?;
        let text = frontend::query(message.get(HEADER..)?)?;
        (whole && message.first() == Some(&b'Q')).then_some(text)
    }

    /// Whether the client wants its session to end where it is idle in a transaction: the server sees to that.
    fn limits_transactions(&self) -> bool {
        const LIMIT: &str = "idle_in_transaction_session_timeout";
        let own = self.settings.as_ref().and_then(|settings| settings.value(LIMIT));
        let mut login = self.identity.wants.parameters.iter();
        own.is_some_and(|limit| limit != "0")
            || login.any(|(name, value)| name == LIMIT || name == "options" && value.contains(LIMIT))
    }

    fn hold_begin(&mut self, piece: Piece) -> Option<Place> {
        let free = self.active.is_none() && self.held.iter().all(Option::is_none);
        let mode = self.identity.database.pool.mode;
        if !free || self.pinned || mode != PoolMode::Transaction || piece.size > MOST {
            return None;
        }
        let listens = self.settings.as_ref().and_then(|settings| settings.value("client_min_messages"));
        if listens.is_some_and(|least| least.starts_with("debug")) || self.limits_transactions() {
            // The server has something to say about a BEGIN, or about what does not follow.
            return None;
        }
        let tag = lone_begin(self.lone_query(&piece)?)?;
        if self.decide(&piece).reason == Reason::Rejected {
            return None;
        }
        let message = self.window.as_ref()?.bytes().get(..piece.size)?.into();
        self.begun = Some(Begun::Held { message, facts: piece.facts });
        self.answer_itself(piece, tag);
        Some(Place::Done)
    }

    fn place_in_begun(&mut self, piece: Piece, failed: bool) -> Option<Place> {
        if piece.kind == Kind::Unit && piece.facts.class == Class::End {
            if let Some(tag) = self.lone_query(&piece).and_then(lone_end) {
                let reason = piece.facts.reason;
                self.identity.database.metrics.unit(TargetLabel::None, reason.index(), reason.code());
                self.begun = None;
                self.answer_itself(piece, if failed { "ROLLBACK" } else { tag });
                return Some(Place::Done);
            }
            if failed {
                // There is nothing to undo: outside a transaction it does no harm.
                self.begun = None;
            }
        } else if failed && piece.kind == Kind::Unit {
            self.piece = None;
            self.refuse(piece, &Failure::InFailedTransaction);
            return Some(Place::Done);
        }
        None
    }

    /// The first statement after the transaction was rolled back is told so. Only a ROLLBACK has nothing to hear.
    #[cold]
    fn place_in_timed_out(&mut self, piece: Piece) -> Option<Place> {
        if piece.kind != Kind::Unit {
            return None;
        }
        let ends = piece.facts.class == Class::End;
        if ends && self.lone_query(&piece).and_then(lone_end) == Some("ROLLBACK") {
            self.begun = None;
            self.answer_itself(piece, "ROLLBACK");
            return Some(Place::Done);
        }
        if ends {
            self.begun = None;
        }
        self.piece = None;
        self.refuse(piece, &Failure::TransactionTimedOut);
        Some(Place::Done)
    }

    /// The client was idle for too long in a transaction: it is rolled back, and the server connection is free for others.
    /// The client hears of it with its next statement, and nothing of that transaction runs. None: the connection holds
    /// what cannot be had elsewhere.
    #[cold]
    pub(super) fn roll_back_idle(&mut self) -> Option<Next> {
        let next = match self.active {
            None => None,
            Some(target) => {
                let held = self.held.get_mut(target.index())?.take_if(|held| !held.is_kept())?;
                self.active = None;
                if self.identity.cancel.rest() {
                    held.lease.close("cancel");
                    None
                } else {
                    Some(Next::Reset(Box::new(held)))
                }
            }
        };
        self.defines = false;
        self.begun = Some(Begun::TimedOut);
        next.or(Some(Next::Nothing))
    }

    /// CommandComplete and ReadyForQuery, in place of a server.
    fn answer_itself(&mut self, piece: Piece, tag: &str) {
        self.statements.answered(None);
        if let Some(window) = &mut self.window {
            window.consume(piece.size);
        }
        self.piece = None;
        let status = self.status();
        answer::command_complete(&mut self.back.own, tag);
        self.tell_ready(status);
        self.identity.cancel.settle();
    }

    /// Where a piece goes that is the first in a transaction that no server knows of.
    pub(super) fn decide_begun(&self, piece: &Piece, session: route::Session) -> Option<Route> {
        let Some(Begun::Held { facts, .. }) = &self.begun else { return None };
        let database = &self.identity.database;
        let topology = Topology::of(&database.cluster.view());
        let begin = route::decide(*facts, session, topology, &database.rules);
        let inside =
            route::Session { transaction: Some(begin.target), observed: begin.would.is_some(), ..session };
        let route = route::decide(piece.facts, inside, topology, &database.rules);
        Some(Route {
            reason: if begin.reason == Reason::NoReplica { begin.reason } else { route.reason },
            target: begin.target,
            servers: begin.servers,
            level: begin.level,
            max_lag: begin.max_lag,
            ..route
        })
    }

    /// The transaction's first statement has its server, by that route: the BEGIN goes before it.
    pub(super) fn send_begin(&mut self, route: Route) {
        let held = |begun: &mut Begun| matches!(begun, Begun::Held { .. });
        let Some(Begun::Held { message, facts }) = self.begun.take_if(held) else { return };
        let reason = facts.reason;
        let metrics = &self.identity.database.metrics;
        metrics.unit(label(self.active), reason.index(), reason.code());
        let would = route.would.map(|_| reason);
        if let Some(would) = would {
            metrics.would_move(would.index(), would.code());
        }
        if let Some(target) = self.active {
            let route = Route { would, ..Route::to(target, reason) };
            self.shared.judge.shapes().goes(facts.shape, route);
        }
        let Some(Some(held)) = self.active.and_then(|target| self.held.get_mut(target.index())) else {
            return;
        };
        if let Some(text) = message.get(HEADER..).and_then(frontend::query) {
            held.lease.preface(&mut self.forth.own, text);
        }
        held.transaction = true;
        held.begins = true;
    }
}
