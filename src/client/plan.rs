//! Which server gets a piece, and the way to a connection to it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::fail::Failure;
use super::preface::is_apart;
use super::retry::Net;
use super::running::Running;
use super::search::Search;
use super::session::{Held, Leave, Next, Session};
use super::settings::{Change, Under};
use super::shared::Database;
use super::unit::{Kind, Piece, Residue};
use crate::clock;
use crate::ids::Node;
use crate::metrics::TargetLabel;
use crate::net::Window;
use crate::pool::{Lease, LeaseError, Pool, PoolMode};
use crate::route::{self, Class, Own, Reason, Route, Target, Topology};
use crate::server::owed::{MAX_OWED, Show};
use crate::wire::{ProtocolError, TransactionStatus, write};

/// What becomes of a piece.
pub(super) enum Place {
    /// Its server works already.
    Forward,
    /// Replies have to come first.
    Wait,
    /// It is done with.
    Done,
}

/// The name in metrics of where a unit goes; none: nowhere.
pub(super) fn label(target: Option<Target>) -> TargetLabel {
    match target {
        Some(Target::Primary) => TargetLabel::Primary,
        Some(Target::Replica) => TargetLabel::Replica,
        None => TargetLabel::None,
    }
}

/// Tells the cluster when a failed lease is the server's fault. Returns whether it was.
pub(super) fn note_outage(database: &Database, node: Node, error: &LeaseError) -> bool {
    let LeaseError::Connect(error) = error else { return false };
    if error.is_outage() {
        database.cluster.connect_failed(node, error.to_string());
    }
    error.is_outage()
}

impl Session {
    /// Finds the piece's server. What needs no waiting is done at once; else `next` says what to wait for.
    pub(super) fn place(&mut self, piece: Piece) -> Result<Place, Leave> {
        let (active, failed, explain) = (self.active, self.net.failed.is_some(), self.own.explain);
        let naming = !self.names.is_empty();
        let Some(held) = self.held() else { return self.place_anew(piece) };
        let owed = &held.lease.owed;
        if failed && !owed.is_open() {
            // What was sent before comes again, before this.
            return Ok(Place::Wait);
        }
        if piece.kind == Kind::Terminate {
            // Units that were sent whole are carried out; one without its end, or a COPY without its data, never ends.
            let done = owed.readies() == 0 || owed.is_copy_in();
            return if done { Err(Leave::Gone) } else { Ok(Place::Wait) };
        }
        if held.is_asked() && !owed.is_open() {
            // What it means depends on the answer.
            return Ok(Place::Wait);
        }
        if owed.len() > MAX_OWED {
            return Ok(Place::Wait);
        }
        if owed.is_dressing() && piece.kind == Kind::Unit && is_apart(&piece, true) {
            // It could end the transaction of settings that are refused.
            return Ok(Place::Wait);
        }
        if piece.kind == Kind::Copy || owed.is_open() || owed.is_copy_in() {
            return self.continue_unit(piece);
        }
        if owed.is_prefaced() {
            // Its Sync would end what the server skips if what was sent before does not go well.
            return Ok(Place::Wait);
        }
        if !owed.is_empty() && (explain || piece.facts.class == Class::Own) {
            // What pgweir says itself, it says in its place.
            return Ok(Place::Wait);
        }
        if !owed.is_empty() && (piece.waits || piece.facts.roll || naming) {
            // What it means by a name is not certain before that, nor which there are.
            return Ok(Place::Wait);
        }
        if !owed.is_empty() && self.identity.database.counters.keeps() && self.lacks_commit(&piece) {
            return Ok(Place::Wait);
        }
        let Some(held) = self.held() else { return self.place_anew(piece) };
        let owed = &held.lease.owed;
        if !owed.is_empty() {
            let on_primary = active == Some(Target::Primary);
            // A unit behind others that are not answered yet: on the primary nothing can be wrong; on a replica, a read.
            let reads = matches!(piece.facts.class, Class::Read | Class::Empty) && piece.ends;
            let follows = on_primary || reads && self.net.has_room(&piece, self.shared.options.retry.buffer);
            if follows && self.agrees(&piece) && self.may_follow(&piece) {
                let would = self.held().is_some_and(|held| held.observed).then_some(Reason::Pipelined);
                let target = active.unwrap_or(Target::Primary);
                let limit = self.follows_rule(&piece);
                let route = Route { would, limit, ..Route::to(target, Reason::Pipelined) };
                return self.start_unit(piece, route);
            }
            return Ok(Place::Wait);
        }
        if !owed.is_settled() || !held.lease.window.as_ref().is_none_or(Window::is_empty) {
            return Ok(Place::Wait);
        }
        self.place_anew(piece)
    }

    /// The rule that says how long a piece may run that follows others.
    fn follows_rule(&mut self, piece: &Piece) -> Option<u8> {
        if self.identity.database.rules.is_empty() { None } else { self.decide(piece).limit }
    }

    /// Whether rules and hints let a piece follow the units before it on their server.
    fn agrees(&mut self, piece: &Piece) -> bool {
        let on_replica = self.active == Some(Target::Replica);
        if !on_replica && self.identity.database.rules.is_empty() && piece.facts.hint.is_none() {
            return true;
        }
        let route = self.decide(piece);
        route.reason != Reason::Rejected && (!on_replica || self.is_fresh_here(&piece.facts, route))
    }

    /// More of a unit that has its server.
    fn continue_unit(&mut self, piece: Piece) -> Result<Place, Leave> {
        if piece.facts.class == Class::Own {
            // Others of the unit are on their way to the server, or it waits for data.
            return Err(Leave::Told(Failure::OwnMixed));
        }
        if piece.kind == Kind::Unit && self.held().is_some_and(|held| held.lease.owed.is_copy_in()) {
            // PostgreSQL gives the connection up over it, and other clients may need that one.
            let tag =
                self.window.as_ref().and_then(|window| window.bytes().first()).copied().unwrap_or_default();
            if !matches!(tag, b'S' | b'H') {
                return Err(Leave::Told(Failure::Protocol(ProtocolError::Unexpected(tag))));
            }
        }
        if self.moves(piece) {
            // All that the replica has done so far is to prepare a read. The rest is a unit for the primary.
            self.moving = true;
            write::sync(&mut self.forth.own);
            if let Some(held) = self.held() {
                held.running.give_up();
                held.under = held.lease.owed.sent(b'S', Show::Swallow).map_or(Under::Nothing, Under::Moves);
            }
            return Ok(Place::Done);
        }
        if self.is_refused_on_replica(&piece) {
            // The unit began on a replica, before a Flush, and cannot go on there.
            return Err(Leave::Told(Failure::ReplicaTransaction));
        }
        self.heed_within(&piece);
        self.note(&piece);
        Ok(Place::Forward)
    }

    /// Whether a unit that began on a replica, before a Flush, turns out to be for the primary.
    fn moves(&mut self, piece: Piece) -> bool {
        let reads = matches!(piece.facts.class, Class::Read | Class::Empty) && !self.is_stale(&piece);
        if reads || self.active != Some(Target::Replica) {
            return false;
        }
        self.held()
            .is_some_and(|held| held.lease.owed.status() == TransactionStatus::Idle && !held.transaction)
    }

    /// Whether a unit that only prepared on a replica, before a Flush, is about to read there what others have overtaken since.
    fn is_stale(&mut self, piece: &Piece) -> bool {
        let first = self.window.as_ref().and_then(|window| window.bytes().first());
        let begins = piece.executes && matches!(first, Some(b'P' | b'B'));
        let status = self.held().map(|held| held.lease.owed.status());
        if !begins || self.active != Some(Target::Replica) || status != Some(TransactionStatus::Idle) {
            return false;
        }
        let route = self.decide(piece);
        route.target == Target::Replica && !self.is_fresh_here(&piece.facts, route)
    }

    fn is_refused_on_replica(&self, piece: &Piece) -> bool {
        self.active == Some(Target::Replica) && piece.facts.silent
    }

    /// A unit for the connection that works.
    pub(super) fn start_unit(&mut self, piece: Piece, route: Route) -> Result<Place, Leave> {
        if self.send_preface(&piece, route) {
            self.piece = Some(piece);
            return Ok(Place::Done);
        }
        let refused = self.is_refused_on_replica(&piece);
        let reason = if refused { Reason::ReplicaTransactionRefused } else { route.reason };
        let again = self.net.placed();
        match again {
            // It was counted when it ran first.
            Some(rerun) => self.count_rerun(rerun),
            None => {
                self.identity.database.metrics.unit(label(self.active), reason.index(), reason.code());
                if let Some(target) = self.active {
                    let route = Route { target, reason, ..route };
                    self.shared.judge.shapes().goes(piece.facts.shape, route);
                }
                self.count_more(route);
            }
        }
        if let Some(held) = self.held() {
            held.observed = route.would.is_some();
        }
        let limit = self.limit(route);
        if let Some(limit) = limit {
            self.timer.get_or_insert_with(|| limit.timer());
        }
        let permit = self.permit.take();
        if let Some(held) = self.held() {
            held.running.begin(piece.facts.shape, limit);
            held.running.permit = permit;
        }
        if self.own.explain {
            self.explain(&piece, reason);
        }
        if refused && (!piece.ends || piece.rest > 0) {
            return Err(Leave::Told(Failure::ReplicaTransaction));
        }
        if refused {
            self.raise(piece, &Failure::ReplicaTransaction);
            return Ok(Place::Done);
        }
        self.note(&piece);
        self.keep_unit(&piece, again.map_or(0, |rerun| rerun.tries));
        Ok(Place::Forward)
    }

    /// Lets the server itself raise the error, so that its transaction fails as it would for any other.
    pub(super) fn raise(&mut self, piece: Piece, failure: &Failure) {
        write::query(&mut self.forth.own, &failure.raised());
        if let Some(window) = &mut self.window {
            window.consume(piece.size);
        }
        self.statements.forget_read();
        if let Some(number) = self.held().and_then(|held| held.lease.owed.sent(b'Q', Show::Forward)) {
            self.statements.send_query(number);
        }
        self.piece = None;
    }

    /// What a rule refuses: the error is pgweir's own or, where a transaction is open, the server's.
    fn reject(&mut self, piece: Piece, route: Route) -> Result<Place, Leave> {
        let reason = route.reason;
        self.identity.database.metrics.unit(TargetLabel::None, reason.index(), reason.code());
        self.count_more(route);
        let failure = Failure::rejected(route.rule.and_then(|place| self.identity.database.rules.get(place)));
        if self.active.is_none() {
            self.piece = None;
            self.refuse(piece, &failure);
            return Ok(Place::Done);
        }
        if !piece.ends || piece.rest > 0 {
            return Err(Leave::Told(failure));
        }
        if let Some(held) = self.held() {
            held.running.begin(piece.facts.shape, None);
        }
        self.raise(piece, &failure);
        Ok(Place::Done)
    }

    /// What a route says beside target and reason.
    pub(super) fn count_more(&self, route: Route) {
        let metrics = &self.identity.database.metrics;
        if let Some(would) = route.would {
            metrics.would_move(would.index(), would.code());
        }
        if let Some(rule) = route.rule.and_then(|place| self.identity.database.rules.get(place)) {
            metrics.rule_hit(route.rule.unwrap_or(0), &rule.name);
        }
    }

    /// A kept connection to a replica that is none of those that the route names is given up. True: wait for that.
    fn lets_go(&mut self, route: Route) -> bool {
        let Some(slot) = self.held.get_mut(Target::Replica.index()) else { return false };
        let Some(held) = slot.take_if(|held| !route.takes(held.node)) else { return false };
        if self.active == Some(Target::Replica) {
            self.active = None;
            if self.identity.cancel.rest() {
                held.lease.close("cancel");
                return true;
            }
        }
        self.next = Some(Next::Reset(Box::new(held)));
        true
    }

    /// What the piece leaves behind on its server connection.
    fn note(&mut self, piece: &Piece) {
        self.note_state(piece);
        self.defines |= piece.facts.defines;
        if piece.facts.resets {
            self.own = Own::default();
        }
        if self.active == Some(Target::Primary) {
            self.fresh.sends(&piece.facts);
            self.note_drawn(piece);
            if matches!(piece.facts.reason, Reason::Notify | Reason::PrimaryFunction) {
                self.says(piece);
            }
        }
        let Some(held) = self.held() else { return };
        held.uncertain |= if held.transaction || held.lease.owed.status() != TransactionStatus::Idle {
            // Without its COMMIT nothing of it stays.
            piece.facts.transaction
        } else {
            !matches!(piece.facts.class, Class::Empty | Class::Read | Class::BeginReadOnly | Class::Begin)
        };
        held.transaction |= piece.facts.transaction;
        held.leaves(piece.residue);
    }

    /// A piece with nothing before it: the route is decided anew.
    fn place_anew(&mut self, piece: Piece) -> Result<Place, Leave> {
        if self.lingers_no_more(&piece) {
            return Ok(Place::Wait);
        }
        if self.is_unwanted(&piece) {
            return Ok(self.refuse_unwanted(piece));
        }
        if self.is_own(&piece) && piece.kind == Kind::Unit {
            return self.answer_own(piece);
        }
        match piece.kind {
            Kind::Terminate => Err(Leave::Gone),
            Kind::Copy => {
                // Data that nobody asked for is ignored, as PostgreSQL does after a COPY that failed.
                if let Some(window) = &mut self.window {
                    window.consume(piece.size);
                }
                self.discard.rest = piece.rest;
                self.piece = None;
                Ok(Place::Done)
            }
            Kind::Unit => self.place_unit(piece),
        }
    }

    fn place_unit(&mut self, piece: Piece) -> Result<Place, Leave> {
        if let Some(wants) = self.is_about_channels(&piece) {
            return self.answer_listen(piece, &wants);
        }
        if piece.facts.signals
            && let Some(answered) = self.answer_signal(&piece)
        {
            return answered;
        }
        if let Some(place) = self.place_begun(piece) {
            return Ok(place);
        }
        if piece.facts.reason == Reason::Ddl {
            self.make_way(&piece);
        }
        let route = match self.route_again(&piece) {
            Some(again) => {
                let Route { servers, limit, .. } = self.decide(&piece);
                Route { servers, limit, ..again }
            }
            None => self.decide(&piece),
        };
        if self.identity.database.pool.mode == PoolMode::Statement
            && matches!(piece.facts.class, Class::Begin | Class::BeginReadOnly)
        {
            self.give_up_unit(piece, route.reason, &Failure::StatementMode);
            return Ok(Place::Done);
        }
        if route.reason == Reason::Rejected {
            return self.reject(piece, route);
        }
        if let Some(next) = self.lacks_shown(route.target) {
            self.next = Some(next);
            return Ok(Place::Wait);
        }
        if !self.identity.database.counters.rules().is_empty()
            && let Some(place) = self.place_counting(&piece, route)
        {
            return Ok(place);
        }
        let Some(route) = self.freshen(&piece.facts, route) else {
            self.next = Some(Next::Freshen(route));
            return Ok(Place::Wait);
        };
        if let Some(place) = self.falls_back(&piece, route) {
            return Ok(place);
        }
        if let Some(next) = self.lacks_shown(route.target) {
            self.next = Some(next);
            return Ok(Place::Wait);
        }
        if self.lets_go(route) {
            return Ok(Place::Wait);
        }
        if self.active != Some(route.target) {
            self.settle();
            let shares = self.shares(&piece) && self.limit(route).is_none();
            let node = self.has_room(route).or_else(|| self.pick(route));
            if shares && node.is_some_and(|node| self.board(&piece, route, node)) {
                return Ok(Place::Done);
            }
            if let Err(node) = self.try_acquire(&piece, route, node) {
                self.next = Some(Next::Acquire(route, node));
                return Ok(Place::Wait);
            }
        }
        self.begin_unit(piece, route)
    }

    /// A unit is not carried out, and has no server.
    pub(super) fn give_up_unit(&mut self, piece: Piece, reason: Reason, failure: &Failure) {
        (self.permit, self.fallback_until, self.piece) = (None, None, None);
        self.fresh.ends_wait();
        if self.net.placed().is_none() {
            self.identity.database.metrics.unit(TargetLabel::None, reason.index(), reason.code());
        }
        self.refuse(piece, failure);
    }

    /// Asks the pure function, with what it cannot know: what the protocol shows beyond the statements.
    pub(super) fn decide(&mut self, piece: &Piece) -> Route {
        let in_transaction =
            self.held().is_some_and(|held| held.lease.owed.status() != TransactionStatus::Idle);
        let transaction = self.active.filter(|_| in_transaction);
        let observed = self.held().is_some_and(|held| held.observed);
        let session = route::Session {
            transaction,
            observed,
            pinned: self.pinned || self.identity.strict,
            text_safe: self.identity.text_safe,
            wish: self.own.route,
            level: self.own.consistency,
            rules: self.identity.rules,
        };
        if let Some(route) = self.decide_begun(piece, session) {
            return route;
        }
        let topology = Topology::of(&self.identity.database.cluster.view());
        let route = route::decide(piece.facts, session, topology, &self.identity.database.rules);
        if route.target == Target::Primary || transaction.is_some() {
            return route;
        }
        if piece.ends && !piece.flush {
            let fits = piece.size <= self.shared.options.retry.buffer || !Net::fits(piece);
            return if fits {
                route
            } else {
                Route { target: Target::Primary, reason: Reason::UnitTooLong, ..route }
            };
        }
        // A read that is only begun: what follows may be anything, unless all it asks for so far is a description.
        if piece.flush && !piece.ends && !piece.executes {
            return route;
        }
        let reason = if piece.flush { Reason::Flush } else { Reason::UnitTooLong };
        Route { target: Target::Primary, reason, ..route }
    }

    /// The pool of a node, remembered.
    pub(super) fn pool(&mut self, node: Node) -> Option<&Arc<Pool>> {
        if self.pools.len() <= node.index() {
            self.pools.resize(node.index() + 1, None);
        }
        let slot = self.pools.get_mut(node.index())?;
        if slot.as_ref().is_none_or(|pool| pool.is_retired()) {
            let identity = &self.identity;
            *slot = self.shared.pool(&identity.database, &identity.name, &identity.user, node);
        }
        slot.as_ref()
    }

    /// The server for that route, if the client holds no connection for it.
    pub(super) fn pick(&self, route: Route) -> Option<Node> {
        if self.held.get(route.target.index()).is_some_and(Option::is_some) {
            return None;
        }
        let cluster = &self.identity.database.cluster;
        match route.target {
            // Nobody overtakes those who have waited for it.
            Target::Primary if self.identity.database.failover.is_busy() || self.is_wary() => None,
            Target::Primary => cluster.view().primary(),
            Target::Replica => {
                let avoid = self.net.again().map(|rerun| rerun.avoid);
                cluster.pick_replica(
                    &self.identity.database.spread,
                    route.servers,
                    avoid,
                    self.fresh.last_read(),
                )
            }
        }
    }

    /// Takes a fresh lease into use.
    pub(super) fn hold(&mut self, target: Target, node: Node, lease: Lease) {
        self.follow_path(&lease);
        let running = Running::new(&self.identity.database, node, lease.idle_since);
        let held = Held {
            lease,
            node,
            running,
            residue: Residue::None,
            floor: Residue::None,
            doubt: Change::None,
            vain: 0,
            changed: false,
            unseen: false,
            under: Under::Nothing,
            made: Vec::new(),
            pin_counted: false,
            counted: false,
            transaction: false,
            uncertain: false,
            observed: false,
            error_shown: false,
            begins: false,
            hearer: None,
        };
        if let Some(slot) = self.held.get_mut(target.index()) {
            *slot = Some(held);
        }
        self.activate(target);
    }

    /// Waits for a connection for the piece that was cut. A client that leaves meanwhile loses its place in the queue.
    pub(super) async fn acquire(&mut self, route: Route, picked: Option<Node>) -> Result<(), Leave> {
        let start = clock::now();
        let outcome = {
            let search = Search {
                shared: self.shared.clone(),
                database: self.identity.database.clone(),
                name: self.identity.name.clone(),
                user: self.identity.user.clone(),
                wants: self.identity.wants.clone(),
                avoid: self.net.again().map(|rerun| rerun.avoid),
                bytes: self.window.as_ref().map_or(0, Window::len),
                doubt: self.net.doubt.take(),
                lost: self.net.lost.take(),
                catalog: self.identity.catalog.clone(),
                settings: self.settings.clone(),
                apart: self.piece.is_some_and(|piece| is_apart(&piece, true)),
            };
            let mut search = pin!(search.run_dressed(route, picked));
            self.identity.cancel.waits(true);
            poll_fn(|cx| match search.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
                Poll::Pending => match self.leaves(cx) {
                    Some(leave) => Poll::Ready(Err(leave)),
                    None if self.identity.cancel.is_asked() => Poll::Ready(Ok(Err(Failure::Cancelled))),
                    None => Poll::Pending,
                },
            })
            .await?
        };
        self.identity.cancel.waits(false);
        self.identity.database.metrics.wait_time(start.elapsed());
        let Some(piece) = self.piece.take() else { return Ok(()) };
        match outcome {
            Ok(None) if route.reason == Reason::CatalogLoading => self.judge_again(),
            Ok(None) => self.piece = Some(piece),
            Ok(Some((target, node, lease))) => {
                if let Some(next) = self.lacks_shown(target) {
                    lease.put_back(clock::now());
                    (self.next, self.piece) = (Some(next), Some(piece));
                    return Ok(());
                }
                self.hold(target, node, lease);
                let reason = match target {
                    _ if target == route.target => route.reason,
                    Target::Primary => Reason::NoReplica,
                    Target::Replica => Reason::Read,
                };
                if matches!(self.begin_unit(piece, Route { target, reason, ..route })?, Place::Forward) {
                    self.piece = Some(piece);
                    self.forward();
                }
            }
            Err(failure) => self.give_up_unit(piece, route.reason, &failure),
        }
        Ok(())
    }
}
