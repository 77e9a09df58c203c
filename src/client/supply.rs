//! What a server connection lacks for a message that names a prepared statement, and how it gets it on the message's way;
//! the names that servers know in place of the client's.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;

use super::named::Grown;
use super::prepared::{NOBODY, Sent, Statement, Statements, There};
use super::roll::Roll;
use super::session::{Held, Session};
use super::told::Bound;
use super::unit::Residue;
use crate::metrics::{DatabaseMetrics, PreparedWhat};
use crate::route::Class;
use crate::server::described::Description;
use crate::server::owed::Show;
use crate::server::{Prepared, Registry, Server, names_unknown};
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
    /// for it, and the names that the server knows into it. Stops where enough is collected, and where the server is asked for
    /// something: the rest comes after that.
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
            roll: Roll::of(&piece),
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
            piece.called |= matches!(needs, Needs::Roll);
            if let Needs::Nothing = needs {
                let number = way.held.lease.owed.sent(head.tag, Show::Forward);
                if head.tag == b'D'
                    && let Some(number) = number
                {
                    way.describes(number, message.get(HEADER..head.size).unwrap_or_default());
                }
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
            let Some(taken) = way.supply(needs, head, window.bytes(), (size, piece.size)) else {
                self.forth.run = 0;
                self.piece = Some(piece);
                return;
            };
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
    /// The server has it by now, and has said what it is.
    Checked,
    /// It names a statement that clients share, of which the client was told that.
    Name(Arc<Prepared>, Option<Arc<Description>>),
    /// It makes one.
    Make(Arc<Prepared>),
    /// It makes one under a name that the client has given to another: the server is to refuse that.
    Taken,
    /// Its text names some.
    Text,
    /// It makes one whose text names others.
    MakeNaming(Arc<Prepared>),
    /// It asks which there are.
    Roll,
    /// It names one whose text, in the Parse of these bytes, names others.
    Naming(Vec<u8>),
}

/// What messages pass on their way to a server.
pub(super) struct Way<'a> {
    pub(super) statements: &'a mut Statements,
    pub(super) held: &'a mut Held,
    pub(super) own: &'a mut BytesMut,
    /// Texts of the piece name prepared statements.
    named: bool,
    pub(super) roll: Roll,
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
    pub(super) metrics: &'a DatabaseMetrics,
}

impl Way<'_> {
    fn needs(&mut self, head: Header, message: &[u8]) -> Needs {
        let body = message.get(HEADER..head.size.min(message.len())).unwrap_or_default();
        if self.roll != Roll::Nobody {
            match self.rolls(head, body) {
                Some(true) => return Needs::Roll,
                Some(false) => return Needs::Nothing,
                None => {}
            }
        }
        self.needs_alone(head, message, body)
    }

    fn needs_alone(&mut self, head: Header, message: &[u8], body: &[u8]) -> Needs {
        let names_some =
            self.named && (head.tag == b'Q' || head.tag == b'P' && self.statements.makes_naming());
        if names_some && (head.tag == b'Q' || body.first() == Some(&0)) {
            return if head.size <= message.len() { Needs::Text } else { Needs::Nothing };
        }
        let Some(name) = names(head.tag, body) else { return Needs::Nothing };
        if head.tag == b'P' {
            return match self.makes(name, body) {
                Needs::Make(prepared) if names_some => Needs::MakeNaming(prepared),
                needs => needs,
            };
        }
        let server: &Server = &self.held.lease;
        let wanted = self.statements.find(name);
        if self.named
            && let Some(parse) =
                wanted.filter(|known| known.facts.names).and_then(|known| known.parse.as_deref())
        {
            return Needs::Naming(parse.to_vec());
        }
        if let Some(statement) = wanted
            && let Some(prepared) = statement.shared()
        {
            return Needs::Name(prepared.clone(), statement.told.clone());
        }
        match (wanted, self.statements.on_server(server, name)) {
            (Some(statement), Some(id)) if id == statement.id => {
                let checks = name.is_empty() && head.tag == b'B' && self.statements.told.checks_unnamed();
                if checks { Needs::Checked } else { Needs::Nothing }
            }
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
    /// Returns how much of it that is; none: it waits for what the server is asked. Of `bytes`, `size` are the message, and `piece`
    /// the piece.
    fn supply(
        &mut self,
        needs: Needs,
        head: Header,
        bytes: &[u8],
        (size, piece): (usize, usize),
    ) -> Option<usize> {
        let message = bytes.get(..size).unwrap_or_default();
        let body = message.get(HEADER..).unwrap_or_default();
        let rest = bytes.get(size..piece).unwrap_or_default();
        let name = names(head.tag, body).unwrap_or_default();
        let bound = match needs {
            Needs::Name(prepared, told) if head.tag == b'B' => {
                return self.name(&prepared, told.as_ref(), head, body, rest);
            }
            Needs::Name(prepared, told) => return Some(self.tell(&prepared, told.as_ref(), head, body)),
            Needs::Make(prepared) => return Some(self.make(prepared, message)),
            Needs::Text => return Some(self.rewrite(head.tag, message, false)),
            Needs::Roll if head.tag == b'Q' => return Some(self.rewrite(head.tag, message, true)),
            Needs::Roll => {
                self.call_roll();
                if name.is_empty() || head.tag == b'P' {
                    let needs = self.needs_alone(head, message, body);
                    return self.supply(needs, head, bytes, (size, piece));
                }
                // The server has it under that name by now.
                Bound::Goes
            }
            Needs::MakeNaming(prepared) => return Some(self.make_naming(prepared, message)),
            Needs::Naming(parse) => return Some(self.run_naming(&parse, head, body)),
            Needs::Unnamed => self.fit_unnamed(head, body, rest),
            Needs::Checked => self.checked_unnamed(),
            Needs::Close => {
                self.close(name);
                Bound::Goes
            }
            Needs::Taken => {
                self.supply_taken(name);
                Bound::Goes
            }
            Needs::Nothing => Bound::Goes,
        };
        match bound {
            Bound::Waits => return None,
            Bound::Refused => self.refuse(),
            Bound::Goes => {}
        }
        let number = self.held.lease.owed.sent(head.tag, Show::Forward);
        match (head.tag, number) {
            (b'P', _) => self.statements.send(number, Sent::Whole(message)),
            (b'D', Some(number)) => self.describes(number, body),
            _ => {}
        }
        Some(0)
    }

    /// Writes the front of a Bind with the name that the server knows. Returns how much of it that was; none: it waits.
    fn name(
        &mut self,
        prepared: &Arc<Prepared>,
        told: Option<&Arc<Description>>,
        head: Header,
        body: &[u8],
        rest: &[u8],
    ) -> Option<usize> {
        let name = if self.is_refused(body, prepared) {
            // By Bind, in its own words, and not by a Parse that the client has not sent.
            self.supply_nothing(NOTHING, frontend::bind_values(body).unwrap_or(0));
            NOTHING
        } else {
            match self.fit(prepared, told, body, rest) {
                Bound::Waits => return None,
                Bound::Refused => {
                    self.refuse();
                    prepared.name()
                }
                Bound::Goes => prepared.name(),
            }
        };
        Some(match self.held.lease.owed.sent(head.tag, Show::Forward) {
            Some(_) => rename(self.own, head, body, name),
            None => 0,
        })
    }

    /// Writes a Describe with the name that the server knows. Returns how long it was.
    fn tell(
        &mut self,
        prepared: &Arc<Prepared>,
        told: Option<&Arc<Description>>,
        head: Header,
        body: &[u8],
    ) -> usize {
        self.share(prepared, told);
        let Some(number) = self.held.lease.owed.sent(head.tag, Show::Forward) else { return 0 };
        if let Some(name) = names(head.tag, body) {
            self.tells(prepared, name, number);
        }
        rename(self.own, head, body, prepared.name())
    }

    /// Drops what the server has under that name.
    pub(super) fn close(&mut self, name: &[u8]) {
        // What the server is going to ignore, it must not be sent: it would not be answered.
        if self.held.lease.owed.sent(b'C', Show::Swallow).is_some() {
            write::close_statement(self.own, name);
            self.statements.send_own_close(name);
        }
    }

    /// Gives the server the client's unnamed statement. Returns what the client was told of it, and whether it was prepared so.
    pub(super) fn supply_unnamed(&mut self) -> Option<(Arc<Description>, bool)> {
        let statement = self.statements.find(b"")?;
        self.held.lease.owed.sent(b'P', Show::Swallow)?;
        let (id, told) = (statement.id, statement.told.clone());
        let parse = statement.parse.as_deref().unwrap_or_default();
        let types = told.as_ref().and_then(|told| told.parameters.as_ref());
        let text = frontend::parse(parse.get(HEADER..).unwrap_or_default());
        let text = text.map(|(_, text)| text).filter(|text| !names_unknown(text));
        match (types, text) {
            (Some(types), Some(text)) => write::parse_typed(self.own, b"", text, types),
            _ => self.own.extend_from_slice(parse),
        }
        let told = told.map(|told| (told, text.is_some()));
        self.statements.send_own(b"", id);
        told
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

    /// Sees to it that the server has it; if it lacks it, with the parameters that the client was told of.
    pub(super) fn share(&mut self, prepared: &Arc<Prepared>, told: Option<&Arc<Description>>) {
        let there = self.statements.there(&mut self.held.lease, prepared.id());
        if there != There::Yes {
            self.prepare(prepared, told, there);
        }
    }

    /// The server gets it, with these types of its parameters.
    pub(super) fn supply_shared(
        &mut self,
        prepared: &Arc<Prepared>,
        parameters: Option<&[u32]>,
        there: There,
    ) {
        self.make_room_for(prepared, there);
        if self.held.lease.owed.sent(b'P', Show::Swallow).is_some() {
            self.metrics.prepared(PreparedWhat::Supplied);
            prepared.write(self.own, parameters);
            self.statements.send_share(prepared.clone());
        }
    }

    pub(super) fn unshare(&mut self, prepared: &Arc<Prepared>) {
        self.statements.told.drops(prepared.id());
        self.held.lease.shared.undescribe(prepared.id());
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
