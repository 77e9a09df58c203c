//! What a server connection lacks for a message that names a prepared statement, and how it gets it on the message's way.

use bytes::BytesMut;

use super::prepared::Statements;
use super::session::Session;
use crate::server::Server;
use crate::server::owed::Show;
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::frontend::{self, Named};
use crate::wire::write;

impl Session {
    /// Looks through the piece for its server: notes what each message owes, and puts before a message what the server
    /// lacks for it. Stops before a message that needs something put before it while others still have to go first.
    pub(super) fn forward(&mut self) {
        let Some(mut piece) = self.piece.take() else { return };
        let Some(target) = self.active else { return };
        let Some(Some(held)) = self.held.get_mut(target.index()) else { return };
        let Some(window) = &self.window else { return };
        let server = &mut *held.lease;
        let mut at = 0;
        while at < piece.size {
            let message = window.bytes().get(at..piece.size).unwrap_or_default();
            // Every header was read when the piece was cut.
            let Ok(Some(head)) = frame::header(message, Side::Frontend) else { break };
            let body = message.get(HEADER..head.size.min(message.len())).unwrap_or_default();
            let lacks = lacks(&self.statements, server, head.tag, body);
            if lacks != Lacks::Nothing {
                if at > 0 {
                    self.forth.run = at;
                    piece.size -= at;
                    self.piece = Some(piece);
                    return;
                }
                supply(&mut self.statements, server, &mut self.forth.own, lacks, body, head.tag);
            }
            let number = server.owed.sent(head.tag, Show::Forward);
            if matches!(head.tag, b'P' | b'C' | b'Q' | b'S' | b'F') {
                self.statements.send(number, message.get(..head.size).unwrap_or_default());
            }
            at += head.size.min(message.len());
        }
        self.forth.run = piece.size;
        self.forth.rest = piece.rest;
    }
}

/// What a server connection lacks for a message that names a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lacks {
    Nothing,
    /// It has another statement under that name, which the client does not know.
    Closed,
    /// It does not have the statement.
    Parsed,
    /// Both.
    ClosedAndParsed,
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

pub(super) fn lacks(statements: &Statements, server: &Server, tag: u8, body: &[u8]) -> Lacks {
    let Some(name) = names(tag, body) else { return Lacks::Nothing };
    if tag == b'P' && name.is_empty() {
        return Lacks::Nothing;
    }
    let (wanted, has) = (statements.find(name), statements.on_server(server, name));
    match (wanted, has) {
        (Some(statement), Some(id)) if id == statement.id => Lacks::Nothing,
        // Its unnamed statement may be another client's.
        (Some(statement), _) if name.is_empty() && statement.parse.is_some() => Lacks::Parsed,
        (_, _) if name.is_empty() => Lacks::Closed,
        (Some(statement), Some(_)) if statement.parse.is_some() => Lacks::ClosedAndParsed,
        (Some(statement), None) if statement.parse.is_some() => Lacks::Parsed,
        (_, Some(_)) => Lacks::Closed,
        (_, None) => Lacks::Nothing,
    }
}

/// Puts before a message what the server lacks for it; the replies are pgweir's own.
pub(super) fn supply(
    statements: &mut Statements,
    server: &mut Server,
    own: &mut BytesMut,
    lacks: Lacks,
    body: &[u8],
    tag: u8,
) {
    let name = names(tag, body).unwrap_or_default();
    // What the server is going to ignore, it must not be sent: it would not be answered.
    if matches!(lacks, Lacks::Closed | Lacks::ClosedAndParsed)
        && server.owed.sent(b'C', Show::Swallow).is_some()
    {
        write::close_statement(own, name);
        statements.send_own_close(name);
    }
    if matches!(lacks, Lacks::Parsed | Lacks::ClosedAndParsed)
        && let Some(statement) = statements.find(name)
        && server.owed.sent(b'P', Show::Swallow).is_some()
    {
        let id = statement.id;
        own.extend_from_slice(statement.parse.as_deref().unwrap_or_default());
        statements.send_own(name, id);
    }
}
