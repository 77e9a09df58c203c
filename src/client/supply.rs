//! What a server connection lacks for a message that names a prepared statement, and how it gets it on the message's way;
//! the names that servers know in place of the client's.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;

use super::named::Grown;
use super::prepared::{NOBODY, Sent, Statement, Statements, There};
use super::session::{Held, Session};
use super::unit::Residue;
use crate::metrics::{DatabaseMetrics, PreparedWhat};
use crate::net::Window;
use crate::route::Class;
use crate::server::owed::Show;
use crate::server::{Prepared, Registry, Server};
use crate::sql::NamedStatement;
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::frontend::{self, Named};
use crate::wire::{Header, TransactionStatus, write};

/// The name of a statement that no server has for long, and then it is empty.
pub(super) const NOTHING: &[u8] = b"pgweir";

/// As much of pgweir's own and of what it has rewritten is collected before it is sent.
const ENOUGH: usize = 32 * 1024;

impl Session {
    /// The number of the definitions that the client's next statement is prepared under. Those that its transaction is changing are
    /// nobody else's.
    pub(super) fn definitions(&self) -> u64 {
        if self.defines { self.shared.prepared.own_epoch() } else { self.identity.catalog.version() }
    }

    /// Looks through the piece for its server: notes what each message owes, puts before a message what the server lacks
    /// for it, and the names that the server knows into it. Stops where enough is collected: the rest comes after that.
    pub(super) fn forward(&mut self) {
        let Some(mut piece) = self.piece.take() else { return };
        let Some(target) = self.active else { return };
        let epoch = self.definitions();
        let Some(Some(held)) = self.held.get_mut(target.index()) else { return };
        let Some(window) = &mut self.window else { return };
        let most = held.lease.pool().options().max_prepared_statements;
        let path = self.identity.search_path.as_ref();
        let mut way = Way {
            named: piece.facts.names,
            names: &mut self.names,
            grown: &mut self.grown,
            statements: &mut self.statements,
            held,
            own: &mut self.forth.own,
            registry: &self.shared.prepared,
            path,
            epoch,
            most,
            metrics: &self.identity.database.metrics,
        };
        let mut at = 0;
        let mut any = false;
        while at < piece.size {
            if any && way.own.len() > ENOUGH {
                self.forth.run = at;
                piece.size -= at;
                self.piece = Some(piece);
                return;
            }
            any = true;
            let message = window.bytes().get(at..piece.size).unwrap_or_default();
            // Every header was read when the piece was cut.
            let Ok(Some(head)) = frame::header(message, Side::Frontend) else { break };
            let needs = way.needs(head, message);
            if let Needs::Nothing = needs {
                let number = way.held.lease.owed.sent(head.tag, Show::Forward);
                if matches!(head.tag, b'P' | b'C' | b'Q' | b'S' | b'F') {
                    way.statements.send(number, Sent::Whole(message.get(..head.size).unwrap_or_default()));
                }
                at += head.size.min(message.len());
                continue;
            }
            // What stands before it goes before it.
            way.own.extend_from_slice(window.bytes().get(..at).unwrap_or_default());
            window.consume(at);
            piece.size -= at;
            let size = head.size.min(piece.size);
            let taken = way.supply(needs, head, window, size);
            window.consume(taken);
            piece.size -= taken;
            at = size - taken;
        }
        self.forth.run = piece.size;
        self.forth.rest = piece.rest;
    }
}

/// The statement that a message needs, or makes.
fn names(tag: u8, body: &[u8]) -> Option<&[u8]> {
    match tag {
        b'B' => Some(frontend::bind(body)?.1),
        b'P' => frontend::parse_name(body),
        b'D' => match frontend::named(body)? {
            Named::Statement(name) => Some(name),
            Named::Portal(_) => None,
        },
        _ => None,
    }
}

/// What has to be done about a message before it can go.
#[derive(Debug)]
enum Needs {
    /// Nothing.
    Nothing,
    /// The server has another statement under its name, which the client does not know.
    Close,
    /// The server has not the client's unnamed statement.
    Unnamed,
    /// It names a statement that clients share.
    Name(Arc<Prepared>),
    /// It makes one.
    Make(Arc<Prepared>),
    /// It makes one under a name that the client has given to another: the server is to refuse that.
    Taken,
    /// Its text names some.
    Text,
}

/// What messages pass on their way to a server.
pub(super) struct Way<'a> {
    pub(super) statements: &'a mut Statements,
    pub(super) held: &'a mut Held,
    pub(super) own: &'a mut BytesMut,
    /// Texts of the piece name prepared statements.
    named: bool,
    /// Those that they make or drop.
    pub(super) names: &'a mut VecDeque<NamedStatement>,
    pub(super) grown: &'a mut Option<Grown>,
    registry: &'a Registry,
    /// The client's search path.
    path: Option<&'a Arc<str>>,
    /// The number of the definitions that it sees.
    epoch: u64,
    /// Most shared statements on the server connection.
    most: usize,
    metrics: &'a DatabaseMetrics,
}

impl Way<'_> {
    fn needs(&mut self, head: Header, message: &[u8]) -> Needs {
        let body = message.get(HEADER..head.size.min(message.len())).unwrap_or_default();
        if self.named && (head.tag == b'Q' || head.tag == b'P' && body.first() == Some(&0)) {
            return if head.size <= message.len() { Needs::Text } else { Needs::Nothing };
        }
        let Some(name) = names(head.tag, body) else { return Needs::Nothing };
        if head.tag == b'P' {
            return self.makes(name, body);
        }
        let server: &Server = &self.held.lease;
        let wanted = self.statements.find(name);
        if let Some(prepared) = wanted.and_then(|statement| statement.shared()) {
            return Needs::Name(prepared.clone());
        }
        match (wanted, self.statements.on_server(server, name)) {
            (Some(statement), Some(id)) if id == statement.id => Needs::Nothing,
            (Some(statement), _) if name.is_empty() && statement.parse.is_some() => Needs::Unnamed,
            // Its unnamed statement may be another client's.
            (_, _) if name.is_empty() => Needs::Close,
            (_, Some(_)) => Needs::Close,
            (_, None) => Needs::Nothing,
        }
    }

    fn makes(&self, name: &[u8], body: &[u8]) -> Needs {
        if name.is_empty() {
            return Needs::Nothing;
        }
        match self.statements.find(name) {
            Some(statement) if statement.shared().is_some() => Needs::Taken,
            // Under the client's own name: its server knows that it is taken.
            Some(_) => Needs::Nothing,
            None if self.statements.shares() => {
                let tail = body.get(name.len() + 1..).unwrap_or_default();
                Needs::Make(self.registry.statement(tail, self.path, self.epoch))
            }
            None if self.statements.on_server(&self.held.lease, name).is_some() => Needs::Close,
            None => Needs::Nothing,
        }
    }

    /// Writes what goes before the message at the front of the window, and as much of the message as is not left as it is.
    /// Returns how much of it that is, of the `size` bytes that are there.
    fn supply(&mut self, needs: Needs, head: Header, window: &Window, size: usize) -> usize {
        let message = window.bytes().get(..size).unwrap_or_default();
        let body = message.get(HEADER..).unwrap_or_default();
        if let Needs::Name(prepared) = needs {
            return self.name(&prepared, head, body);
        }
        let name = names(head.tag, body).unwrap_or_default();
        match needs {
            Needs::Nothing | Needs::Name(_) => {}
            Needs::Close => self.close(name),
            Needs::Unnamed => self.supply_unnamed(name),
            Needs::Taken => self.supply_taken(name),
            Needs::Make(prepared) => return self.make(prepared, message),
            Needs::Text => return self.rewrite(head.tag, message),
        }
        let number = self.held.lease.owed.sent(head.tag, Show::Forward);
        if head.tag == b'P' {
            self.statements.send(number, Sent::Whole(message));
        }
        0
    }

    /// Writes the front of a Bind or a Describe with the name that the server knows. Returns how much of it that was.
    fn name(&mut self, prepared: &Arc<Prepared>, head: Header, body: &[u8]) -> usize {
        let refused = head.tag == b'B' && self.is_refused(body, prepared);
        let name = if refused {
            // By Bind, in its own words, and not by a Parse that the client has not sent.
            self.supply_nothing(NOTHING, frontend::bind_values(body).unwrap_or(0));
            NOTHING
        } else {
            self.share(prepared);
            prepared.name()
        };
        match self.held.lease.owed.sent(head.tag, Show::Forward) {
            Some(_) => rename(self.own, head, body, name),
            None => 0,
        }
    }

    /// Drops what the server has under that name.
    pub(super) fn close(&mut self, name: &[u8]) {
        // What the server is going to ignore, it must not be sent: it would not be answered.
        if self.held.lease.owed.sent(b'C', Show::Swallow).is_some() {
            write::close_statement(self.own, name);
            self.statements.send_own_close(name);
        }
    }

    fn supply_unnamed(&mut self, name: &[u8]) {
        if let Some(statement) = self.statements.find(name)
            && self.held.lease.owed.sent(b'P', Show::Swallow).is_some()
        {
            let id = statement.id;
            self.own.extend_from_slice(statement.parse.as_deref().unwrap_or_default());
            self.statements.send_own(name, id);
        }
    }

    /// Whether the server will refuse a Bind of that statement, which it lacks, because its transaction has failed.
    fn is_refused(&mut self, bind: &[u8], prepared: &Prepared) -> bool {
        // ROLLBACK TO is among those that belong to the open transaction.
        let ends = |statement: &Statement| matches!(statement.facts.class, Class::End | Class::InTransaction);
        self.held.lease.owed.status() == TransactionStatus::Failed
            && !names(b'B', bind).and_then(|name| self.statements.find(name)).is_some_and(ends)
            && self.statements.there(&mut self.held.lease, prepared.id()) != There::Yes
    }

    /// Gives the server a statement of that name that is nothing, and takes so many parameters.
    pub(super) fn supply_nothing(&mut self, name: &[u8], parameters: u16) {
        self.close(name);
        if self.held.lease.owed.sent(b'P', Show::Swallow).is_some() {
            write::parse_nothing(self.own, name, parameters);
            self.statements.send_own_close(name);
        }
    }

    /// Lets the server know the client's own name, so that it refuses it in its own words.
    pub(super) fn supply_taken(&mut self, name: &[u8]) {
        if self.held.lease.owed.sent(b'P', Show::Swallow).is_some() {
            write::parse_nothing(self.own, name, 0);
            self.statements.send_own(name, NOBODY);
            self.held.leaves(Residue::Unseen);
        }
    }

    /// A Parse of what clients share goes under the name that servers know, or not at all. In a transaction that has failed the
    /// server is to refuse it, unless it is one of the few that end that state: only the server tells which.
    fn make(&mut self, prepared: Arc<Prepared>, message: &[u8]) -> usize {
        let failed = self.held.lease.owed.status() == TransactionStatus::Failed;
        let there = self.statements.there(&mut self.held.lease, prepared.id());
        let (number, how) = if there == There::Yes && !failed {
            let number = self.held.lease.owed.sent_known();
            if number.is_some() {
                self.metrics.prepared(PreparedWhat::Shared);
                write::close_statement(self.own, NOTHING);
            }
            (number, Sent::Known(prepared))
        } else {
            self.make_room_for(&prepared, there);
            (self.send_parse(&prepared), Sent::Shared(prepared))
        };
        self.statements.send(number, how);
        if number.is_some() { message.len() } else { 0 }
    }

    fn send_parse(&mut self, prepared: &Prepared) -> Option<u32> {
        let number = self.held.lease.owed.sent(b'P', Show::Forward);
        if number.is_some() {
            self.own.extend_from_slice(prepared.message());
        }
        number
    }

    /// Sees to it that the server has it.
    pub(super) fn share(&mut self, prepared: &Arc<Prepared>) {
        let there = self.statements.there(&mut self.held.lease, prepared.id());
        if there == There::Yes {
            return;
        }
        self.make_room_for(prepared, there);
        if self.held.lease.owed.sent(b'P', Show::Swallow).is_some() {
            self.metrics.prepared(PreparedWhat::Supplied);
            self.own.extend_from_slice(prepared.message());
            self.statements.send_share(prepared.clone());
        }
    }

    fn unshare(&mut self, prepared: &Arc<Prepared>) {
        if self.held.lease.owed.sent(b'C', Show::Swallow).is_some() {
            write::close_statement(self.own, prepared.name());
            self.statements.send_unshare(prepared.clone());
        }
    }

    /// It is going to be prepared: what may have its name goes, and if there are too many the one that was not used for
    /// longest.
    fn make_room_for(&mut self, prepared: &Arc<Prepared>, there: There) {
        if there != There::No {
            self.unshare(prepared);
        } else if let Some(surplus) = self.held.lease.shared.surplus(self.most).cloned() {
            self.metrics.prepared(PreparedWhat::Evicted);
            self.unshare(&surplus);
        }
    }
}

/// Writes the front of a Bind or a Describe up to its statement, which gets another name. Returns where that ends.
pub(super) fn rename(own: &mut BytesMut, head: Header, body: &[u8], name: &[u8]) -> usize {
    let (before, old) = match head.tag {
        b'B' => frontend::bind(body).map(|(portal, old)| (portal.len() + 1, old.len())),
        _ => frontend::named(body).map(|_| (1, body.len().saturating_sub(2))),
    }
    .unwrap_or_default();
    let length = head.size - 1 - old + name.len();
    own.extend_from_slice(&[head.tag]);
    own.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    own.extend_from_slice(body.get(..before).unwrap_or_default());
    own.extend_from_slice(name);
    own.extend_from_slice(b"\0");
    HEADER + before + old + 1
}
