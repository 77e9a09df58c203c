//! The admin console as a client meets it: the database `pgweir`. What it answers is somebody else's ([`Console`]); no server
//! is needed for it.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::timeout;

use super::desk::{Answers, Desk, Refusal, Table};
use super::fail::Failure;
use super::session::Leave;
use super::shared::{Seat, Shared};
use crate::clock::Duration;
use crate::counter::{Account, Books};
use crate::net::{Stream, Window};
use crate::wire::frame::{HEADER, Side};
use crate::wire::write::{self, Severity};
use crate::wire::{ProtocolError, SqlState, TransactionStatus, frame};

/// The name of the database that is the console.
pub const CONSOLE: &str = "pgweir";

/// Where clients of the console say that they are, for drivers that ask for the least version that they know.
const SERVER_VERSION: &str = concat!("15.0 (pgweir ", env!("CARGO_PKG_VERSION"), ")");

/// Longest that a client of the console may take to read what it asked for.
const READS: Duration = Duration::from_secs(60);

/// Longest that FLUSH COUNTERS takes.
const FLUSHES: Duration = Duration::from_secs(30);

/// What somebody may do in the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Look.
    Stats,
    /// Everything.
    Admin,
}

/// What answers in the console.
pub trait Console: Send + Sync {
    /// What that user, who has proven to be that, may do; none: nothing.
    fn role(&self, user: &str) -> Option<Role>;

    /// Answers a command. With `run` off, only the columns of the answer count, and nothing may happen.
    ///
    /// # Errors
    /// A command that there is not, or that this role may not give.
    fn answer(&self, shared: &Shared, role: Role, command: &str, run: bool) -> Result<Table, Refusal>;

    /// What has to be committed before its client hears the answer to a command.
    fn flushes(&self, shared: &Shared, command: &str) -> Vec<Arc<Account>>;
}

/// A client of the console that has said who it is.
pub(super) struct Visitor {
    pub(super) user: Arc<str>,
    pub(super) role: Role,
    #[expect(dead_code, reason = "held for its drop: it gives the place up")]
    pub(super) seat: Seat,
}

struct Commands<'a> {
    shared: &'a Shared,
    role: Role,
    /// What is to be flushed before the answer is sent.
    flushes: Vec<Arc<Account>>,
}

impl Answers for Commands<'_> {
    fn answer(&mut self, text: &str, run: bool) -> Result<Table, Refusal> {
        let table = self.shared.console.answer(self.shared, self.role, text, run)?;
        if run {
            self.flushes.extend(self.shared.console.flushes(self.shared, text));
        }
        Ok(table)
    }
}

/// What ends a login to the console.
pub(super) fn greet(out: &mut BytesMut) {
    write::authentication_ok(out);
    for (name, value) in [
        ("server_version", SERVER_VERSION),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("integer_datetimes", "on"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
    ] {
        write::parameter_status(out, name, value);
    }
    write::ready_for_query(out, TransactionStatus::Idle);
}

/// Serves a client of the console until it leaves.
pub(super) async fn serve(mut stream: Stream, mut window: Window, shared: &Shared, visitor: Visitor) {
    tracing::info!(user = %visitor.user, "a client of the console");
    let mut out = BytesMut::new();
    let leave = talk(&mut stream, &mut window, shared, visitor.role, &mut out).await;
    if let Err(Leave::Told(failure)) = leave {
        failure.write(&mut out, Severity::Fatal);
        let _ = timeout(Duration::from_secs(1), stream.write_all(&out)).await;
    }
    shared.buffers.give(window);
}

async fn talk(
    stream: &mut Stream,
    window: &mut Window,
    shared: &Shared,
    role: Role,
    out: &mut BytesMut,
) -> Result<(), Leave> {
    let told = |error| Leave::Told(Failure::Protocol(error));
    let mut desk = Desk::default();
    let mut commands = Commands { shared, role, flushes: Vec::new() };
    loop {
        while let Some(head) = frame::header(window.bytes(), Side::Frontend).map_err(told)? {
            if head.tag == b'X' {
                return Ok(());
            }
            if window.is_full() && head.size > window.len() {
                return Err(told(ProtocolError::Body(head.tag)));
            }
            let Some(message) = window.bytes().get(..head.size) else { break };
            let body = message.get(HEADER..).unwrap_or_default();
            let at = (head.tag, out.len());
            desk.take(head.tag, body, TransactionStatus::Idle, &mut commands, out).map_err(told)?;
            window.consume(head.size);
            if let Err(refusal) = carry_out(std::mem::take(&mut commands.flushes)).await {
                desk.refuse_after_all(at, TransactionStatus::Idle, &refusal, out);
            }
            if out.len() >= crate::net::WINDOW {
                flush(stream, out).await?;
            }
        }
        flush(stream, out).await?;
        let limit = shared.options.idle_timeout;
        let fill = poll_fn(|cx| window.poll_fill(cx, stream));
        let read = if limit.is_zero() {
            fill.await?
        } else {
            timeout(limit, fill).await.map_err(|_| Leave::Told(Failure::IdleTimeout))??
        };
        if read == 0 {
            return Err(Leave::Gone);
        }
    }
}

/// Commits what is kept, before the client hears that it is.
async fn carry_out(flushes: Vec<Arc<Account>>) -> Result<(), Refusal> {
    let first = flushes.first().map(|account| account.table()).unwrap_or_default();
    let (table, why) = match timeout(FLUSHES, Books::flush(flushes)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err((table, why))) => (table, format!("the server refuses them: {why}")),
        Err(_) => (first, format!("they are not committed after {FLUSHES:?}")),
    };
    let message = format!("increments of {table} could not be committed: {why}");
    let hint = "They are kept, and tried again. SHOW COUNTERS says how many wait; DISCARD COUNTERS throws them away.";
    Err(Refusal::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message, hint))
}

async fn flush(stream: &mut Stream, out: &mut BytesMut) -> Result<(), Leave> {
    if !out.is_empty() {
        timeout(READS, stream.write_all(out)).await.map_err(|_| Leave::Gone)??;
        out.clear();
    }
    Ok(())
}
