//! A client that has logged in: what it holds, and the loop that moves it.
//!
//! ```text
//!            piece cut            lease granted           last reply shown
//!   idle ───────────────▶ placed ──────────────▶ active ──────────────────▶ idle      (pool_mode transaction, no pin)
//!    ▲                      │ no server                │ transaction open, or messages without Sync
//!    └──── error shown ◀────┘                          └──▶ active, waiting for the client
//! ```
//! Invariants: at most one server connection owes replies at a time, so replies come in the order of the units; an idle
//! client holds no window; a lease ends only when its server connection is free, and is closed where that is in doubt.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::time::Sleep;

use super::begin::Begun;
use super::cancel::Registration;
use super::desk::Desk;
use super::drain::Presence;
use super::ears::Ears;
use super::fail::Failure;
use super::fallback::Permit;
use super::fresh::Freshness;
use super::named::Grown;
pub(super) use super::next::Next;
use super::prepared::{NOBODY, Statements};
use super::recall::Recall;
use super::retry::Net;
use super::roster::Card;
use super::running::Running;
use super::settings::{Change, Custom, Under};
use super::share::Sharing;
use super::shared::{Database, Seat, Shared};
use super::unit::{Gather, Piece, Residue};
use crate::clock::{self, Instant};
use crate::ids::Node;
use crate::metrics::Origin;
use crate::monitor::{Hearer, Hub, Live};
use crate::net::{Stream, Window};
use crate::pool::{Lease, Pool, PoolMode};
use crate::route::{Catalog, Known, Own, Reason, Scope, SearchPath, Target};
use crate::server::Wants;
use crate::server::owed::Show;
use crate::server::settings::Settings;
use crate::sql::NamedStatement;
use crate::wire::write::Severity;

/// Who a client is.
pub(super) struct Identity {
    pub(super) database: Arc<Database>,
    /// The database that the client asked for.
    pub(super) name: Arc<str>,
    pub(super) user: Arc<str>,
    pub(super) wants: Wants,
    pub(super) text_safe: bool,
    /// Its transactions are SERIALIZABLE unless they say otherwise: a replica refuses them.
    pub(super) strict: bool,
    /// The catalog of its database.
    pub(super) catalog: Arc<Live>,
    /// The last that was known of it.
    pub(super) last_known: Option<Arc<Catalog>>,
    /// [`Live::version`] of what `scope` was made from; 0: it is still to be made.
    pub(super) known: u64,
    /// The search path of its server connections.
    pub(super) search_path: Option<Arc<str>>,
    /// What names mean to it.
    pub(super) scope: Scope,
    /// Whom it has become with SET ROLE or SET SESSION AUTHORIZATION.
    pub(super) acts_as: Option<Arc<str>>,
    /// The rules that it can be matched by.
    pub(super) rules: u64,
    /// pgweir's own settings that it connected with.
    pub(super) own: Own,
    pub(super) cancel: Registration,
    #[expect(dead_code, reason = "held for its drop: it gives the place up")]
    pub(super) seat: Seat,
}

impl Identity {
    /// Looks at the catalog anew if it has changed.
    #[inline]
    pub(super) fn refresh(&mut self) {
        if self.catalog.version() != self.known {
            self.look_up();
        }
    }

    #[cold]
    fn look_up(&mut self) {
        self.known = self.catalog.version();
        // `$user` is whom the server knows.
        let login = self.database.login.as_ref().map_or(&*self.user, |login| &login.user);
        let user = self.acts_as.as_deref().unwrap_or(login);
        let path = self.search_path.as_deref().and_then(|path| SearchPath::parse(path, user));
        let known = self.catalog.known();
        if let Known::Loaded(catalog) = &known {
            self.last_known = Some(catalog.clone());
        }
        self.scope = Scope::new(known, path, self.database.rules.clone());
    }
}

/// Why a client is no longer served.
#[derive(Debug)]
pub(super) enum Leave {
    /// It said goodbye, or closed.
    Gone,
    /// It is told why, and closed.
    Told(Failure),
}

impl From<io::Error> for Leave {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A server connection that the client leases.
// Independent axes, each read alone.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Held {
    pub(super) lease: Lease,
    pub(super) node: Node,
    pub(super) running: Running,
    /// What the client leaves behind on it.
    pub(super) residue: Residue,
    /// The same, session state aside.
    pub(super) floor: Residue,
    /// Whether what was sent may have changed it.
    pub(super) doubt: Change,
    /// How often the server was asked about that in vain.
    pub(super) vain: u8,
    /// What was sent surely changes it, and not only perhaps.
    pub(super) changed: bool,
    /// What was sent may have left what no server can be asked for.
    pub(super) unseen: bool,
    /// What of pgweir's own about settings is under way.
    pub(super) under: Under,
    /// The names of what SQL has prepared on it, and any server can have: this one is going to drop it.
    pub(super) made: Vec<String>,
    /// That session state keeps it has been counted.
    pub(super) pin_counted: bool,
    /// That prepared statements keep it has been counted.
    pub(super) counted: bool,
    /// A transaction may be open on it, as far as what was sent tells.
    pub(super) transaction: bool,
    /// What was sent and is not answered may have changed something, for all that can be known if the connection breaks.
    pub(super) uncertain: bool,
    /// The open transaction would run on a replica if its database were not only observed.
    pub(super) observed: bool,
    /// An error of the unit that is being answered has been shown.
    pub(super) error_shown: bool,
    /// A BEGIN of pgweir's own goes before the unit that is being answered.
    pub(super) begins: bool,
    /// It may listen for the client.
    pub(super) hearer: Option<Box<Hearer>>,
}

impl Held {
    /// Something else than session state is left behind.
    pub(super) fn leaves(&mut self, residue: Residue) {
        self.floor = self.floor.max(residue);
        self.residue = self.residue.max(residue);
    }

    /// Whether session state lives on it.
    pub(super) fn has_state(&self) -> bool {
        self.residue == Residue::State
    }

    /// Whether it alone has some of the client's prepared statements.
    fn has_statements(&self) -> bool {
        self.lease.prepared.values().any(|id| *id != NOBODY)
    }

    /// Whether something of the client's ties it to the client.
    pub(super) fn is_pinned(&self) -> bool {
        self.has_state() || self.has_statements()
    }

    /// Whether the client keeps it when its transaction ends: it is pinned, or the pool's mode says so.
    pub(super) fn is_kept(&self) -> bool {
        self.is_pinned() || self.lease.pool().options().mode == PoolMode::Session
    }
}

/// What goes to the server.
#[derive(Default)]
pub(super) struct Forth {
    /// pgweir's own messages, which come before the client's.
    pub(super) own: BytesMut,
    /// Bytes at the front of the client's window that may go now.
    pub(super) run: usize,
    /// Bytes of the last of these messages that are still to come from the client.
    pub(super) rest: usize,
}

impl Forth {
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.run == 0 && self.rest == 0
    }
}

/// What goes to the client.
pub(super) struct Back {
    /// Bytes at the front of the server's window that may go now.
    pub(super) run: usize,
    /// Bytes behind these that were judged and may go only once it is certain that their unit does not run again.
    pub(super) hold: usize,
    /// Bytes of the last message that are still to come from the server.
    pub(super) rest: usize,
    /// Who sees them.
    pub(super) rest_show: Show,
    /// pgweir's own messages, which come after these.
    pub(super) own: BytesMut,
}

/// What is thrown away of what the client sends, after an error of pgweir's own.
#[derive(Default)]
pub(super) struct Discard {
    /// The rest of a message.
    pub(super) rest: usize,
    /// All up to the next Sync, which is answered.
    pub(super) until_sync: bool,
    /// A ReadyForQuery is due after the rest.
    pub(super) then_ready: bool,
}

impl Discard {
    /// Whether nothing is to be thrown away.
    pub(super) fn is_nothing(&self) -> bool {
        self.rest == 0 && !self.until_sync && !self.then_ready
    }
}

/// One client.
pub(super) struct Session {
    pub(super) stream: Stream,
    pub(super) window: Option<Window>,
    pub(super) shared: Arc<Shared>,
    pub(super) identity: Identity,
    /// The pools used so far, by node.
    pub(super) pools: Vec<Option<Arc<Pool>>>,
    pub(super) statements: Statements,
    pub(super) gather: Gather,
    /// Cut, and not yet given to a server; and how much of it has been looked through for the server.
    pub(super) piece: Option<Piece>,
    pub(super) held: [Option<Held>; 2],
    /// Which of `held` works.
    pub(super) active: Option<Target>,
    pub(super) forth: Forth,
    pub(super) back: Back,
    pub(super) net: Net,
    /// What it has written and seen.
    pub(super) fresh: Freshness,
    /// What it has on connections that others use, too.
    pub(super) sharing: Sharing,
    pub(super) discard: Discard,
    /// The FATAL error of a server that is about to close the active connection.
    pub(super) last_words: Option<Bytes>,
    /// Its settings, as a server has last told; none: those of its login.
    pub(super) settings: Option<Arc<Settings>>,
    /// Names of settings that it may have made up.
    pub(super) custom: Custom,
    /// The `application_name` that it connected with.
    pub(super) application_name: Arc<str>,
    /// Why a server did not do what goes before a unit.
    pub(super) refused: Option<Bytes>,
    /// Session state lives on the connection to the primary.
    pub(super) pinned: bool,
    /// What it has drawn from sequences.
    pub(super) recall: Recall,
    /// What was sent since the last end of a transaction may change what names mean.
    pub(super) defines: bool,
    /// Where it has notified in its transaction, and since when.
    pub(super) said: Option<(Arc<Hub>, Instant)>,
    /// A transaction that no server knows of.
    pub(super) begun: Option<Begun>,
    /// A unit that began on a replica goes on on the primary, once the replica has answered.
    pub(super) moving: bool,
    pub(super) next: Option<Next>,
    /// For the piece that is being placed: it may go to the primary for want of a replica.
    pub(super) permit: Option<Permit>,
    /// How long that waits for one.
    pub(super) fallback_until: Option<Instant>,
    /// The state of the cluster that it has looked at.
    pub(super) epoch: u64,
    /// The version of the databases that it goes by.
    pub(super) databases: u64,
    /// pgweir's own settings, as the client has set them.
    pub(super) own: Own,
    /// The statements that texts under way make or drop by SQL, in order.
    pub(super) names: VecDeque<NamedStatement>,
    /// The last of those under way in which a name is longer than the client knows.
    pub(super) grown: Option<Grown>,
    /// A unit about them that has not ended.
    pub(super) desk: Option<Box<Desk>>,
    /// The channels that another connection listens on for it, and what it waits for to be heard.
    pub(super) ears: Option<Box<Ears>>,
    #[expect(dead_code, reason = "held for its drop: it is not there any more")]
    pub(super) presence: Presence,
    /// While units run that a rule limits.
    pub(super) timer: Option<Pin<Box<Sleep>>>,
}

impl Session {
    pub(super) fn new(stream: Stream, window: Window, shared: Arc<Shared>, identity: Identity) -> Self {
        identity.database.metrics.clients().increment(1.0);
        let statements = shared.options.statements;
        let presence = Presence::new(&shared);
        identity.cancel.introduce(Card {
            user: identity.user.clone(),
            database: identity.name.clone(),
            application_name: identity.wants.application_name.clone(),
            address: stream.peer_address(),
            since: clock::now(),
        });
        let identity_name = identity.wants.application_name.clone();
        Self {
            own: identity.own,
            stream,
            window: Some(window),
            pools: Vec::new(),
            shared,
            identity,
            statements: Statements::new(statements),
            gather: Gather::default(),
            piece: None,
            held: [None, None],
            active: None,
            forth: Forth::default(),
            back: Back { run: 0, hold: 0, rest: 0, rest_show: Show::Forward, own: BytesMut::new() },
            net: Net::default(),
            fresh: Freshness::default(),
            sharing: Sharing::default(),
            discard: Discard::default(),
            last_words: None,
            settings: None,
            custom: Custom::default(),
            application_name: identity_name,
            refused: None,
            pinned: false,
            recall: Recall::default(),
            defines: false,
            said: None,
            begun: None,
            moving: false,
            next: None,
            names: VecDeque::new(),
            grown: None,
            permit: None,
            fallback_until: None,
            epoch: u64::MAX,
            // Whether that is the one that its database comes from is seen at the first look.
            databases: u64::MAX,
            desk: None,
            ears: None,
            presence,
            timer: None,
        }
    }

    /// The server connection that works.
    pub(super) fn held(&mut self) -> Option<&mut Held> {
        self.held.get_mut(self.active?.index())?.as_mut()
    }

    /// Serves the client until it leaves.
    pub(super) async fn run(&mut self) -> Leave {
        loop {
            let next = match self.next_or_idle().await {
                Ok(next) => next,
                Err(failure) => return Leave::Told(failure),
            };
            let waited = match next {
                Next::Leave(leave) => return leave,
                Next::Nothing => Ok(()),
                Next::Signalled(client) => Box::pin(self.signalled(client)).await,
                Next::Listen => Box::pin(self.wait_listen()).await,
                Next::Commit => Box::pin(self.wait_commit()).await,
                Next::Acquire(route, node) => Box::pin(self.acquire(route, node)).await,
                Next::Freshen(route) => Box::pin(self.wait_fresh(route)).await,
                Next::Replica(route) => Box::pin(self.wait_replica(route)).await,
                Next::Shown(ahead) => Box::pin(self.wait_shown(ahead)).await,
                Next::Position => Box::pin(self.find_position()).await,
                Next::Reset(held) => {
                    Box::pin(super::clean::clean(*held, 0, &self.shared.buffers)).await;
                    Ok(())
                }
            };
            if let Err(leave) = waited {
                return leave;
            }
        }
    }

    /// Moves bytes both ways until nothing moves. Each direction is tried again only after the other has moved.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.identity.cancel.is_ended() {
            return Poll::Ready(Next::Leave(Leave::Told(Failure::Terminated)));
        }
        // Before it looks at what has come meanwhile.
        if let Err(leave) = self.keep_up() {
            return Poll::Ready(Next::Leave(leave));
        }
        if self.epoch != self.identity.database.cluster.epoch()
            && let Err(leave) = self.look_around(cx)
        {
            return Poll::Ready(Next::Leave(leave));
        }
        loop {
            if let Err(leave) = self.move_both(cx) {
                return Poll::Ready(Next::Leave(leave));
            }
            if let Some(next) = self.next.take() {
                return Poll::Ready(next);
            }
            if self.timer.is_some() {
                self.watch_limit(cx);
            }
            if self.ears.is_some() {
                match self.tell_heard(cx) {
                    Err(leave) => return Poll::Ready(Next::Leave(leave)),
                    Ok(true) => continue,
                    Ok(false) => {}
                }
            }
            match self.keep_up() {
                Err(leave) => return Poll::Ready(Next::Leave(leave)),
                Ok(true) => continue,
                Ok(false) => {}
            }
            if self.has_to_go() {
                return Poll::Ready(Next::Leave(Leave::Told(Failure::Ending)));
            }
            self.give_windows_back();
            self.heed();
            return Poll::Pending;
        }
    }

    fn move_both(&mut self, cx: &mut Context<'_>) -> Result<(), Leave> {
        let mut first = true;
        loop {
            let back = self.replies(cx)?;
            let forth = (back || first) && self.requests(cx)?;
            first = false;
            if self.next.is_some() || !forth && !self.wake_held(cx)? {
                return Ok(());
            }
        }
    }

    /// A connection that is held and not working may have something to say: a notification, or that it is gone.
    fn wake_held(&mut self, cx: &mut Context<'_>) -> Result<bool, Leave> {
        if self.active.is_some() {
            return Ok(false);
        }
        for target in [Target::Primary, Target::Replica] {
            let Some(Some(held)) = self.held.get(target.index()) else { continue };
            if held.lease.stream.poll_readable(cx).is_ready() {
                self.activate(target);
                return self.overhear(cx);
            }
        }
        Ok(false)
    }

    /// Lets one of the held connections work.
    pub(super) fn activate(&mut self, target: Target) {
        self.active = Some(target);
        if let Some(Some(held)) = self.held.get(target.index()) {
            self.identity.cancel.aim(held.node, held.lease.key.clone());
        }
    }

    /// Windows with nothing in them are worth more to others.
    pub(super) fn give_windows_back(&mut self) {
        let buffers = &self.shared.buffers;
        if let Some(window) = self.window.take_if(|window| window.is_empty()) {
            buffers.give(window);
        }
        // Those that a pin keeps while they do not work, too.
        for held in self.held.iter_mut().flatten().filter(|held| held.lease.owed.is_empty()) {
            if let Some(window) = held.lease.window.take_if(|window| window.is_empty()) {
                buffers.give(window);
            }
        }
    }

    /// Ends the work of the active connection: what is not pinned goes back to its pool.
    pub(super) fn settle(&mut self) {
        let Some(target) = self.active else { return };
        let Some(slot) = self.held.get_mut(target.index()) else { return };
        let Some(held) = slot else { return };
        held.transaction = false;
        if !held.counted && !held.has_state() && held.has_statements() {
            held.counted = true;
            self.identity.database.metrics.pin(Reason::Prepare.index(), Reason::Prepare.code());
            self.identity.cancel.pins(Some(Reason::Prepare));
        }
        let keep = held.is_kept() || self.statements.needs(&held.lease);
        self.active = None;
        self.release_other(target);
        let Some(slot) = self.held.get_mut(target.index()) else { return };
        let in_doubt = self.identity.cancel.rest();
        if keep && !in_doubt {
            return;
        }
        let Some(held) = slot.take() else { return };
        if held.counted || held.pin_counted {
            self.identity.cancel.pins(None);
        }
        if !in_doubt && held.residue > Residue::None {
            self.next = Some(Next::Reset(Box::new(held)));
        } else if !in_doubt {
            held.lease.put_back(held.running.since);
        } else if held.is_pinned() {
            // A cancel request is still on its way to it: it can only hit this client, whose own it stays.
            *slot = Some(held);
        } else {
            held.lease.close("cancel");
        }
    }

    /// Gives back the connection that did not work, if it was held for the unnamed statement alone and that is gone.
    fn release_other(&mut self, active: Target) {
        let Some(slot) = self.held.get_mut(1 - active.index()) else { return };
        let statements = &self.statements;
        let idle = |held: &mut Held| {
            !held.is_kept() && held.residue == Residue::None && !statements.needs(&held.lease)
        };
        if let Some(held) = slot.take_if(idle) {
            held.lease.put_back(held.running.since);
        }
    }

    /// Tells the client of an error in place of the piece, which is thrown away, up to the end of its unit.
    pub(super) fn refuse(&mut self, piece: Piece, failure: &Failure) {
        if let Some(begun) = &mut self.begun {
            *begun = Begun::Failed;
        }
        self.say_error(failure);
        if let Some(window) = &mut self.window {
            window.consume(piece.size);
        }
        self.statements.forget_read();
        self.discard.rest = piece.rest;
        if !piece.ends {
            self.discard.until_sync = true;
        } else if piece.rest > 0 {
            self.discard.then_ready = true;
        } else {
            let status = self.status();
            self.tell_ready(status);
            self.identity.cancel.settle();
        }
    }

    /// Says goodbye, and leaves the server connections as they were found.
    pub(super) async fn leave(mut self: Box<Self>, leave: Leave) {
        self.identity.database.metrics.clients().decrement(1.0);
        if let Leave::Told(failure) = &leave {
            self.identity.database.metrics.error(&failure.code(), Origin::Pgweir);
            let mut out = BytesMut::new();
            failure.write(&mut out, Severity::Fatal);
            // Behind half a message nothing can be said.
            if self.back.rest == 0 || self.back.rest_show == Show::Swallow {
                let mut own = self.back.own.split();
                own.unsplit(out);
                let limit = clock::Duration::from_secs(1);
                let _ = tokio::time::timeout(limit, self.stream.write_all(&own)).await;
            }
        }
        drop(self.stream);
        if let Some(window) = self.window.take() {
            self.shared.buffers.give(window);
        }
        let cut = !self.forth.is_empty();
        let in_doubt = self.identity.cancel.rest();
        for (at, held) in self.held.into_iter().enumerate() {
            let Some(mut held) = held else { continue };
            let active = self.active.is_some_and(|target| target.index() == at);
            if active && let Some(window) = &mut held.lease.window {
                // Judged already, and not shown.
                window.consume(self.back.run + self.back.hold);
            }
            if active && (cut || in_doubt) {
                super::clean::abandon(held).await;
            } else {
                super::clean::clean(held, self.back.rest * usize::from(active), &self.shared.buffers).await;
            }
        }
    }
}
