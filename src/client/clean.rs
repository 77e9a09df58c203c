//! Leaves a server connection as it was found: what runs is cancelled, what is open is undone, what was set is reset.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::relay::told;
use super::session::{Held, Leave};
use super::unit::Residue;
use crate::clock::{self, Duration};
use crate::net::{Buffers, WINDOW};
use crate::pool::Lease;
use crate::server::owed::Show;
use crate::server::settings::{self, Settings};
use crate::server::{self, Server, Wants};
use crate::wire::frame::{HEADER, Side};
use crate::wire::{TransactionStatus, frame, write};

/// Longest that a connection whose client has left may take to become free again.
const CLEAN: Duration = Duration::from_secs(10);

/// Pause between cancel requests for what a client has left behind: each ends one statement, and it may have sent many.
const CANCEL_AGAIN: Duration = Duration::from_millis(200);

/// Closes a server connection in the middle of a message. A backend at work would not notice: what runs is cancelled.
pub(super) async fn abandon(held: Held) {
    if !held.lease.owed.is_empty() {
        let _ = timeout(CLEAN, server::cancel(&held.lease.address, &held.lease.key)).await;
    }
    held.lease.close("client_gone");
}

/// Leaves a server connection whose client has left as it was found, and gives it back; else closes it. `rest` bytes of
/// a message are still to come.
pub(super) async fn clean(mut held: Held, rest: usize, buffers: &Buffers) {
    // What is not answered yet may leave statements behind.
    let owes = !held.lease.owed.is_settled();
    let reset = owes || held.residue > Residue::None || held.is_kept();
    match timeout(CLEAN, cleaned(&mut held, rest, reset, buffers)).await {
        Ok(Ok(())) => held.lease.put_back(clock::now()),
        Ok(Err(_)) | Err(_) => held.lease.close("client_gone"),
    }
}

async fn cleaned(held: &mut Held, rest: usize, reset: bool, buffers: &Buffers) -> Result<(), Leave> {
    let server = &mut *held.lease;
    if server.window.is_none() {
        server.window = Some(buffers.take());
    }
    let mut out = BytesMut::new();
    if server.owed.is_copy_in() {
        write::copy_fail(&mut out, "the client has gone");
        server.owed.sent(b'f', Show::Swallow);
    }
    let open = server.owed.is_open();
    if open {
        // A bare Sync would commit what came without one. There is no such portal: the error undoes it.
        write::execute(&mut out, "pgweir: the client has gone");
        server.owed.sent(b'E', Show::Swallow);
    }
    if open || server.owed.is_prefaced() {
        write::sync(&mut out);
        server.owed.sent(b'S', Show::Swallow);
    }
    server.stream.write_all(&out).await?;
    let mut rest = rest;
    loop {
        if !server.owed.is_empty() {
            server::cancel(&server.address, &server.key).await?;
        }
        if let Ok(drained) = timeout(CANCEL_AGAIN, drain(server, &mut rest)).await {
            drained?;
            if !server.owed.is_copy_in() {
                break;
            }
            // It has begun only now, and waits for data: that cannot be cancelled.
            out.clear();
            write::copy_fail(&mut out, "the client has gone");
            server.owed.sent(b'f', Show::Swallow);
            server.stream.write_all(&out).await?;
        }
    }
    let mut texts = Vec::new();
    if server.owed.status() != TransactionStatus::Idle {
        texts.push("ROLLBACK");
    }
    if reset {
        texts.push("DISCARD ALL");
        server.was_reset();
    }
    for text in texts {
        out.clear();
        server.query(&mut out, text);
        server.stream.write_all(&out).await?;
        if drain(server, &mut 0).await?.is_some() {
            return Err(Leave::Gone);
        }
    }
    Ok(())
}

/// Makes the settings in force on a connection those of the client that gets it. None: the connection broke, or is silent for as long as a new one
/// may take; an error: what the server said against it.
pub(super) async fn dress(
    lease: &mut Lease,
    wants: &Wants,
    settings: Option<&Arc<Settings>>,
    buffers: &Buffers,
) -> Option<Result<(), Bytes>> {
    let texts = settings::difference(
        lease.settings.as_deref(),
        settings.map(|to| &**to),
        Some(&wants.application_name),
    );
    let limit = lease.pool().options().server_connect_timeout;
    let server: &mut Server = lease;
    server.window.get_or_insert_with(|| buffers.take());
    let mut out = BytesMut::new();
    server.query(&mut out, &texts.join(";"));
    let dressed = async {
        server.stream.write_all(&out).await?;
        drain(server, &mut 0).await
    };
    match timeout(limit, dressed).await {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(words))) => return Some(Err(words)),
        Ok(Err(_)) | Err(_) => return None,
    }
    lease.settings = settings.cloned();
    lease.application_name = Some(wants.application_name.clone());
    Some(Ok(()))
}

/// Reads and drops replies until nothing is owed or the server waits for data of a COPY; first the `rest` of a message. Nothing is
/// lost if it is dropped. Returns the last error among them.
async fn drain(server: &mut Server, rest: &mut usize) -> Result<Option<Bytes>, Leave> {
    let mut words = None;
    loop {
        let Server { stream, window: Some(window), owed, .. } = server else { return Err(Leave::Gone) };
        let part = window.len().min(*rest);
        window.consume(part);
        *rest -= part;
        while *rest == 0
            && let Some(head) = frame::header(window.bytes(), Side::Backend).map_err(told)?
        {
            let there = head.size.min(window.len());
            if there < head.size && head.size <= WINDOW {
                break;
            }
            let body = window.bytes().get(HEADER..there).unwrap_or_default();
            owed.reply(head.tag, body).map_err(told)?;
            if head.tag == b'E' {
                words = window.bytes().get(..there).map(Bytes::copy_from_slice);
            }
            window.consume(there);
            *rest = head.size - there;
        }
        if *rest == 0 && (owed.is_settled() || owed.is_copy_in()) && window.is_empty() {
            return Ok(words);
        }
        if poll_fn(|cx| window.poll_fill(cx, stream)).await? == 0 {
            return Err(Leave::Gone);
        }
    }
}
