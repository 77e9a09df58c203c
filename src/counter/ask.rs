//! A statement of pgweir's own on a connection that it has leased.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::BytesMut;

use crate::pool::Lease;
use crate::server::owed::Show;
use crate::server::{Prepared, Server, settings};
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::{backend, write};

/// Longest answer to a statement of its own.
const MOST_ANSWER: usize = 8 * 1024 * 1024;

/// Why a statement of its own was not carried out.
pub(super) enum Failed {
    /// The server said no: nothing has changed.
    Refused(Refusal),
    /// Nobody knows.
    Lost,
}

/// What the server said.
pub(super) struct Refusal {
    /// The SQLSTATE.
    pub(super) code: [u8; 5],
    /// In words.
    pub(super) message: String,
}

/// Takes back the settings of the client before.
pub(super) async fn plain(lease: &mut Lease) -> Result<(), Failed> {
    if lease.settings.is_some() {
        let texts = settings::difference(lease.settings.as_deref(), None, None);
        ask(lease, &texts.join(";")).await?;
        lease.settings = None;
    }
    Ok(())
}

/// One simple query: the rows of its results.
pub(super) async fn ask(lease: &mut Lease, text: &str) -> Result<Vec<Vec<Option<String>>>, Failed> {
    let mut out = BytesMut::new();
    lease.query(&mut out, text);
    let mut rows = Vec::new();
    let seen = |_: &mut Server, tag, body: &[u8]| {
        if tag == b'D' {
            rows.push(backend::row(body));
        }
    };
    talk(lease, &out, seen).await?;
    Ok(rows)
}

/// One statement, so many times in one unit, and so in one transaction: `bind` writes the Bind of each time. Tells of each whether it
/// was about a row.
pub(super) async fn each(
    lease: &mut Lease,
    statement: &Arc<Prepared>,
    times: usize,
    mut bind: impl FnMut(&mut BytesMut, usize),
) -> Result<Vec<bool>, Failed> {
    let mut out = BytesMut::new();
    prepare(lease, statement, &mut out);
    for time in 0..times {
        bind(&mut out, time);
        write::execute(&mut out, "");
        lease.owed.sent(b'B', Show::Swallow);
        lease.owed.sent(b'E', Show::Swallow);
    }
    write::sync(&mut out);
    lease.owed.sent(b'S', Show::Swallow);
    let mut found = Vec::with_capacity(times);
    let seen = |server: &mut Server, tag, body: &[u8]| match tag {
        b'1' => server.shared.insert(statement.clone()),
        b'C' => found.push(!body.ends_with(b" 0\0")),
        _ => {}
    };
    talk(lease, &out, seen).await?;
    Ok(found)
}

/// Sees to it that the server has that statement; where there are too many, the one that was not used for longest goes.
fn prepare(lease: &mut Lease, statement: &Arc<Prepared>, out: &mut BytesMut) {
    if lease.shared.has(statement.id()) {
        return;
    }
    let most = lease.pool().options().max_prepared_statements;
    let stale = lease.shared.has_any(statement.id()).then(|| statement.clone());
    if let Some(goes) = stale.or_else(|| lease.shared.surplus(most).cloned()) {
        write::close_statement(out, goes.name());
        lease.owed.sent(b'C', Show::Swallow);
        lease.shared.remove(goes.id());
    }
    out.extend_from_slice(statement.message());
    lease.owed.sent(b'P', Show::Swallow);
}

/// Sends that, and shows each reply up to the end of the unit.
async fn talk(
    lease: &mut Lease,
    out: &[u8],
    mut seen: impl FnMut(&mut Server, u8, &[u8]),
) -> Result<(), Failed> {
    let buffers = lease.pool().buffers();
    let server: &mut Server = lease;
    server.stream.write_all(out).await.map_err(|_| Failed::Lost)?;
    let mut window = server.window.take().unwrap_or_else(|| buffers.take());
    let (mut refused, mut size) = (None, 0);
    loop {
        while let Some(head) = frame::header(window.bytes(), Side::Backend).map_err(|_| Failed::Lost)? {
            let Some(message) = window.bytes().get(..head.size) else { break };
            let body = message.get(HEADER..).unwrap_or_default();
            server.owed.reply(head.tag, body).map_err(|_| Failed::Lost)?;
            size += head.size;
            match head.tag {
                b'E' => {
                    let fields = backend::fields(body);
                    refused = Some(Refusal {
                        code: fields.code.first_chunk().copied().unwrap_or(*b"XX000"),
                        message: String::from_utf8_lossy(fields.message).into_owned(),
                    });
                }
                b'Z' => {
                    window.consume(head.size);
                    server.window = Some(window);
                    return refused.map_or(Ok(()), |refusal| Err(Failed::Refused(refusal)));
                }
                tag => seen(server, tag, body),
            }
            window.consume(head.size);
        }
        if window.is_full() || size > MOST_ANSWER {
            return Err(Failed::Lost);
        }
        match poll_fn(|cx| window.poll_fill(cx, &mut server.stream)).await {
            Ok(0) | Err(_) => return Err(Failed::Lost),
            Ok(_) => {}
        }
    }
}
