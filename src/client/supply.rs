//! What a server connection lacks for a message that names a prepared statement, and how it gets it.

use bytes::BytesMut;

use super::prepared::Statements;
use crate::server::Server;
use crate::server::owed::Show;
use crate::wire::frontend::{self, Named};
use crate::wire::write;

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
