//! Short reads of several clients on one server connection: which units go that way, and what becomes of them.
//!
//! `crate::pool::lane` has the connections. Here a unit is put on one, message by message, and stays in the client's window until
//! its answer is there, whole. If there is to be none, the unit is placed once more, and goes alone, as any other does.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::cancel::Registration;
use super::ears::READY;
use super::fail::Failure;
use super::kept::Kept;
use super::plan::label;
use super::retry::Net;
use super::running::Running;
use super::session::{Leave, Session};
use super::supply::rename;
use super::unit::{Piece, Residue};
use crate::clock;
use crate::ids::Node;
use crate::metrics::{Direction, PreparedWhat, SharedRead};
use crate::pool::PoolMode;
use crate::pool::lane::{Again, Board, Fate, Outfit, Seat};
use crate::route::{Class, Route, Target};
use crate::server::Prepared;
use crate::server::described::Description;
use crate::wire::TransactionStatus;
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::frontend::{self, Named};

/// Longest unit that is copied onto a shared connection.
const MOST_UNIT: usize = 8 * 1024;

/// A unit of the client's is on a shared connection, or its answer is being shown.
pub(super) struct Ride {
    route: Route,
    node: Node,
    running: Running,
    /// It is an increment.
    counts: bool,
    /// It is not committed when it is answered.
    kept: bool,
    /// The answer, and how much of it was shown; none yet: the unit is under way.
    answer: Vec<u8>,
    shown: usize,
}

/// The places that a client has on shared connections: one at a time.
#[derive(Default)]
pub(super) struct Sharing {
    /// None before the first time.
    seat: Option<Arc<Seat>>,
    pub(super) ride: Option<Ride>,
    /// The piece that is being placed goes alone.
    pub(super) alone: bool,
    /// Where it has waited for room.
    room: Option<Node>,
    /// What it has counted.
    pub(super) kept: Kept,
}

fn new_seat(cancel: &Registration) -> Arc<Seat> {
    let seat = Arc::new(Seat::default());
    cancel.sits_on(&seat);
    seat
}

impl Drop for Sharing {
    fn drop(&mut self) {
        // Nobody keeps room for a client that has gone.
        if let Some(seat) = &self.seat {
            seat.cancel();
        }
    }
}

impl Session {
    /// Whether a unit may go on a shared connection: a short read by itself, with nothing of the client's before it, and
    /// made of messages that can go anywhere.
    pub(super) fn shares(&self, piece: &Piece) -> bool {
        let pool = &self.identity.database.pool;
        let facts = &piece.facts;
        facts.class == Class::Read
            && !self.sharing.alone
            && pool.max_shared_reads > 1
            && pool.mode == PoolMode::Transaction
            && self.shared.judge.shapes().is_short(facts.shape)
            && Net::is_whole(piece)
            && piece.size <= MOST_UNIT
            // A pipeline of the client's own goes faster on its own.
            && self.window.as_ref().is_some_and(|window| window.len() == piece.size)
            && piece.residue == Residue::None
            && !(facts.pins || facts.unseen || facts.resets || facts.names || facts.silent || facts.defines)
            && !(piece.waits || self.own.explain)
            && self.active.is_none()
            && self.held.iter().all(Option::is_none)
            && self.begun.is_none()
            && self.net.again().is_none()
            && !self.is_wary()
            && self.statements.is_quiet()
            && self.is_portable(piece)
    }

    /// Whether each message of the piece means the same on any connection that has what it names.
    fn is_portable(&self, piece: &Piece) -> bool {
        let bytes = self.window.as_ref().and_then(|window| window.bytes().get(..piece.size));
        let mut rest = bytes.unwrap_or_default();
        let mut parsed = false;
        let shared = |name: &[u8]| self.statements.find(name).filter(|known| known.shared().is_some());
        // What the client is told for the first time is noted where it goes alone.
        let mut tells = true;
        while let Ok(Some(head)) = frame::header(rest, Side::Frontend) {
            let Some((message, after)) = rest.split_at_checked(head.size) else { return false };
            let body = message.get(HEADER..).unwrap_or_default();
            let fits = match head.tag {
                b'Q' | b'E' | b'S' => true,
                b'P' => {
                    parsed = true;
                    frontend::parse_name(body).is_some_and(<[u8]>::is_empty)
                }
                b'B' => match frontend::bind(body) {
                    Some((_, b"")) => {
                        tells = true;
                        parsed
                    }
                    Some((_, name)) => {
                        let known = shared(name);
                        tells = known.is_some_and(|known| known.told.is_some());
                        known.is_some()
                    }
                    None => false,
                },
                b'D' => match frontend::named(body) {
                    Some(Named::Statement(name)) => shared(name)
                        .and_then(|known| known.told.as_ref())
                        .is_some_and(|told| told.parameters.is_some()),
                    Some(Named::Portal(_)) => tells,
                    None => false,
                },
                _ => false,
            };
            if !fits {
                return false;
            }
            rest = after;
        }
        rest.is_empty()
    }

    /// The server for a read that has waited for room there, if it will still do.
    pub(super) fn has_room(&mut self, route: Route) -> Option<Node> {
        let node = self.sharing.room.take()?;
        let view = self.identity.database.cluster.view();
        let fits = match route.target {
            Target::Primary => view.primary() == Some(node),
            Target::Replica => route.takes(node) && view.replicas().any(|replica| replica == node),
        };
        fits.then_some(node)
    }

    /// Puts the piece on a shared connection to that node, if there is one for it.
    pub(super) fn board(&mut self, piece: &Piece, route: Route, node: Node) -> bool {
        if self.pool(node).is_none() {
            return false;
        }
        let Some(Some(pool)) = self.pools.get(node.index()) else { return false };
        let own_path = self.settings.as_ref().is_some_and(|settings| settings.value("search_path").is_some());
        let outfit = Outfit {
            wants: &self.identity.wants,
            settings: self.settings.as_ref(),
            search_path: self.identity.search_path.as_ref().filter(|_| !own_path),
        };
        let seat = self.sharing.seat.get_or_insert_with(|| new_seat(&self.identity.cancel));
        let bytes = self.window.as_ref().and_then(|window| window.bytes().get(..piece.size));
        let unit = bytes.unwrap_or_default();
        let shared = |name: &[u8]| {
            self.statements.find(name).and_then(|known| Some((known.shared()?, known.told.as_ref())))
        };
        let Some(boarded) = pool.board(&outfit, seat, |board| load(board, unit, shared)) else {
            return false;
        };
        for _ in 0..boarded.supplied {
            self.identity.database.metrics.prepared(PreparedWhat::Supplied);
        }
        for _ in 0..boarded.asked {
            self.identity.database.metrics.prepared(PreparedWhat::Asked);
        }
        self.rides(piece, route, node, false);
        if self.is_unwanted(piece) {
            // The request may have come before the unit had its place.
            self.seat().cancel();
        }
        true
    }

    /// The client's place for units that others answer.
    pub(super) fn seat(&mut self) -> Arc<Seat> {
        self.sharing.seat.get_or_insert_with(|| new_seat(&self.identity.cancel)).clone()
    }

    /// The piece is on its way.
    pub(super) fn rides(&mut self, piece: &Piece, route: Route, node: Node, counts: bool) {
        let mut running = Running::new(&self.identity.database, node, clock::now());
        running.begin(piece.facts.shape, None);
        running.permit = self.permit.take();
        self.sharing.ride =
            Some(Ride { route, node, running, counts, kept: false, answer: Vec::new(), shown: 0 });
    }

    /// The same of an increment that is answered before it is committed.
    pub(super) fn rides_kept(&mut self, piece: &Piece, route: Route, node: Node) {
        self.rides(piece, route, node, true);
        if let Some(ride) = &mut self.sharing.ride {
            ride.kept = true;
        }
    }

    /// Looks after a unit that is on a shared connection. Returns whether anything moved.
    pub(super) fn ride(&mut self, cx: &mut Context<'_>) -> Result<bool, Leave> {
        let Some(ride) = &mut self.sharing.ride else { return Ok(false) };
        let Some(seat) = &self.sharing.seat else { return Ok(false) };
        if ride.answer.is_empty() {
            match seat.look(cx, &mut ride.answer) {
                Fate::Waits => return Ok(false),
                Fate::Answered => self.arrive(),
                Fate::Again(why) => self.go_alone(why),
                Fate::Cancelled => self.give_up_ride(&Failure::Cancelled),
                Fate::Unknown => self.give_up_ride(&Failure::OutcomeUnknown(String::new())),
            }
            return Ok(true);
        }
        let bytes = ride.answer.get(ride.shown..).unwrap_or_default();
        match self.stream.poll_write(cx, bytes) {
            Poll::Ready(written) => {
                let written = written?;
                ride.shown += written;
                self.identity.database.metrics.bytes(Direction::ClientOut, written as u64);
                if ride.shown == ride.answer.len() {
                    seat.give_back(std::mem::take(&mut ride.answer));
                    self.sharing.ride = None;
                }
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    /// The answer is there: the unit is over, as if its client had had the connection to itself.
    fn arrive(&mut self) {
        let Some(Ride { route, node, ref mut running, ref answer, counts, kept, .. }) = self.sharing.ride
        else {
            return;
        };
        let life = running.life;
        let (shape, time) = running.end();
        let answered = answer.len() as u64;
        let Some(piece) = self.piece.take() else { return };
        self.identity.cancel.settle();
        let metrics = &self.identity.database.metrics;
        metrics.unit(label(Some(route.target)), route.reason.index(), route.reason.code());
        metrics.query_time(label(Some(route.target)), time);
        if !counts {
            metrics.bytes(Direction::ServerOut, piece.size as u64);
            metrics.bytes(Direction::ServerIn, answered);
            metrics.shared_read(SharedRead::Answered);
        }
        self.shared.judge.shapes().goes(shape, route);
        self.shared.judge.shapes().answered(shape, time);
        self.count_more(route);
        if route.target == Target::Primary && !kept {
            self.fresh.sends(&piece.facts);
        }
        self.note_answer(route.target, node, life, TransactionStatus::Idle, shape);
        self.over(piece.size);
        if let Some(window) = &mut self.window {
            window.consume(piece.size);
        }
        if let Some((ears, ride)) = self.ears.as_mut().zip(self.sharing.ride.as_mut())
            && let Some(before @ 1..) = ride.answer.strip_suffix(READY).map(<[u8]>::len)
            && ears.keeps(TransactionStatus::Idle)
        {
            ride.answer.truncate(before);
        }
    }

    /// What the piece says of the client's statements counts.
    fn over(&mut self, size: usize) {
        let bytes = self.window.as_ref().and_then(|window| window.bytes().get(..size));
        let mut rest = bytes.unwrap_or_default();
        while let Ok(Some(head)) = frame::header(rest, Side::Frontend) {
            let Some((message, after)) = rest.split_at_checked(head.size) else { return };
            if matches!(head.tag, b'P' | b'Q' | b'S') {
                self.statements.rode(message);
            }
            rest = after;
        }
    }

    /// The unit is to be placed again, for itself.
    #[cold]
    fn go_alone(&mut self, why: Again) {
        let Some(ride) = self.sharing.ride.take() else { return };
        if why == Again::Room {
            self.sharing.room = Some(ride.node);
            self.identity.database.metrics.wait_time(ride.running.since.elapsed());
            return;
        }
        self.sharing.alone = true;
        if ride.counts {
            return;
        }
        self.identity.database.metrics.shared_read(match why {
            Again::Error => SharedRead::Error,
            Again::Large => SharedRead::Large,
            Again::Slow => SharedRead::Slow,
            Again::Behind | Again::Room => SharedRead::Behind,
            Again::Lost => SharedRead::Lost,
        });
        match why {
            Again::Slow | Again::Large => {
                if let Some(piece) = &self.piece {
                    self.shared.judge.shapes().is_long(piece.facts.shape);
                }
            }
            Again::Lost => self.identity.database.cluster.lost(ride.node, "a connection in use was lost"),
            Again::Error | Again::Behind | Again::Room => {}
        }
    }

    /// The client has cancelled it, or nobody knows what became of it.
    #[cold]
    fn give_up_ride(&mut self, failure: &Failure) {
        let Some(ride) = self.sharing.ride.take() else { return };
        let Some(piece) = self.piece.take() else { return };
        if ride.counts {
            // It may have been carried out.
            self.fresh.sends(&piece.facts);
            self.note_primary(true);
        } else {
            self.identity.database.metrics.shared_read(SharedRead::Cancelled);
        }
        self.over(piece.size);
        self.refuse(piece, failure);
    }
}

/// A statement that clients share, and what the client was told of it.
type Known<'s> = (&'s Arc<Prepared>, Option<&'s Arc<Description>>);

/// Writes the messages of a unit, each with the name that servers know.
fn load<'s>(board: &mut Board<'_>, unit: &[u8], shared: impl Fn(&[u8]) -> Option<Known<'s>>) {
    let mut rest = unit;
    while let Ok(Some(head)) = frame::header(rest, Side::Frontend) {
        let Some((message, after)) = rest.split_at_checked(head.size) else { return };
        let body = message.get(HEADER..).unwrap_or_default();
        let name = match head.tag {
            b'B' => frontend::bind(body).map(|(_, name)| name),
            b'D' => match frontend::named(body) {
                Some(Named::Statement(name)) => Some(name),
                Some(Named::Portal(_)) | None => None,
            },
            _ => None,
        };
        let mut kept = 0;
        if let Some((prepared, told)) = name.filter(|name| !name.is_empty()).and_then(&shared) {
            board.need(prepared, told);
            kept = rename(board.out(), head, body, prepared.name());
        }
        board.out().extend_from_slice(message.get(kept..).unwrap_or_default());
        board.sent(head.tag);
        rest = after;
    }
}
