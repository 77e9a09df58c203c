//! Moves bytes both ways: the only place where verdicts become reads and writes.
//!
//! Each direction looks at headers in its window, and writes the longest run that may pass, in place. A direction that
//! cannot write does not read: that is all the backpressure there is.

use std::task::{Context, Poll};

use super::ears;
use super::fail::Failure;
use super::failover;
use super::handshake::is_text_safe;
use super::plan::{Place, label};
use super::prepared::Statements;
use super::retry;
use super::session::{Leave, Session};
use super::unit::{Gather, Judging, Kind, Piece};
use crate::metrics::{Direction, Origin};
use crate::net::{WINDOW, Window};
use crate::route::Target;
use crate::server::Server;
use crate::server::owed::{Event, PARSE_COMPLETE, Show, Verdict};
use crate::sql::Use;
use crate::wire::frame::{HEADER, Side};
use crate::wire::write::Severity;
use crate::wire::{Header, ProtocolError, TransactionStatus, backend, frame};

/// Own messages and a run of the client's up to this size go out in one write: copying costs less than a system call.
const JOIN: usize = 16 * 1024;

impl Session {
    /// From the server to the client, as far as it goes. Returns whether anything moved.
    pub(super) fn replies(&mut self, cx: &mut Context<'_>) -> Result<bool, Leave> {
        let mut moved = false;
        loop {
            if self.back.run > 0 {
                if !self.show_run(cx)? {
                    return Ok(moved);
                }
                moved = true;
                continue;
            }
            if !self.back.own.is_empty() {
                match self.stream.poll_write(cx, &self.back.own) {
                    Poll::Ready(written) => {
                        let written = written?;
                        self.identity.database.metrics.bytes(Direction::ClientOut, written as u64);
                        drop(self.back.own.split_to(written));
                    }
                    Poll::Pending => return Ok(moved),
                }
                moved = true;
                continue;
            }
            if self.sharing.ride.is_some() {
                if !self.ride(cx)? {
                    return Ok(moved);
                }
                moved = true;
                continue;
            }
            if self.active.is_none() || self.holds_ready() {
                return Ok(moved);
            }
            if self.refused.is_some() && self.refuse_prefaced()? {
                moved = true;
                continue;
            }
            match self.scan() {
                Ok(true) => {
                    moved = true;
                    continue;
                }
                Ok(false) => {}
                Err(error) => {
                    self.server_lost(Failure::ServerProtocol(error))?;
                    continue;
                }
            }
            if self.is_settled() {
                if self.asks() {
                    return Ok(true);
                }
                let again = self.run_failed_again();
                if again || !self.lingers(cx) {
                    self.settle();
                    return Ok(moved || again);
                }
            }
            match self.hear(cx) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(failure)) => {
                    self.server_lost(failure)?;
                    moved = true;
                }
                Poll::Pending => return Ok(moved),
            }
        }
    }

    /// Writes some of the run that the client may see. False: it does not read.
    fn show_run(&mut self, cx: &mut Context<'_>) -> Result<bool, Leave> {
        let run = self.back.run;
        let Some(target) = self.active else { return Ok(false) };
        let Some(Some(held)) = self.held.get_mut(target.index()) else { return Ok(false) };
        let Some(window) = held.lease.window.as_mut() else { return Ok(false) };
        let bytes = window.bytes().get(..run).unwrap_or_default();
        match self.stream.poll_write(cx, bytes) {
            Poll::Ready(written) => {
                let written = written?;
                window.consume(written);
                self.back.run -= written;
                self.identity.database.metrics.bytes(Direction::ClientOut, written as u64);
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    /// One read from the server.
    fn hear(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(target) = self.active else { return Poll::Pending };
        let Some(Some(held)) = self.held.get_mut(target.index()) else { return Poll::Pending };
        let Server { stream, window, .. } = &mut *held.lease;
        if window.is_none() {
            match stream.poll_readable(cx) {
                Poll::Ready(Ok(())) => *window = Some(self.shared.buffers.take()),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::ServerLost)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let Some(window) = window else { return Poll::Pending };
        if window.is_full() {
            // Whole messages were taken out, and longer ones are streamed: only a header that cannot be is left.
            return Poll::Ready(Err(Failure::ServerProtocol(ProtocolError::Body(0))));
        }
        match window.poll_fill(cx, stream) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(Failure::ServerLost)),
            Poll::Ready(Ok(n)) => {
                self.identity.database.metrics.bytes(Direction::ServerIn, n as u64);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// One read from a connection that was idle: with something in its window it is not taken for settled. True: look again.
    pub(super) fn overhear(&mut self, cx: &mut Context<'_>) -> Result<bool, Leave> {
        match self.hear(cx) {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(failure)) => self.server_lost(failure).map(|()| true),
            Poll::Pending => {
                self.give_windows_back();
                self.settle();
                Ok(true)
            }
        }
    }

    /// Judges the replies in the server's window. True: there is something to show, or something was taken out.
    fn scan(&mut self) -> Result<bool, ProtocolError> {
        if self.back.rest > 0 {
            return Ok(self.scan_rest());
        }
        // What was held stands at the front; `shown` bytes before `at` may go.
        let (mut at, mut shown, process) = (self.back.hold, 0, self.identity.cancel.key.process);
        loop {
            let failed = self.net.failed.is_some();
            let keeps = !self.net.is_empty();
            let Some(held) = self.held() else { return Ok(false) };
            let Server { window: Some(window), owed, key, .. } = &mut *held.lease else { return Ok(false) };
            let message = window.bytes().get(at..).unwrap_or_default();
            let Some(head) = frame::header(message, Side::Backend)? else { break };
            let there = head.size.min(message.len());
            if there < head.size && head.size <= WINDOW {
                break;
            }
            let body = message.get(HEADER..there).unwrap_or_default();
            let fatal = head.tag == b'E' && matches!(backend::fields(body).severity, b"FATAL" | b"PANIC");
            let may_vanish = failed || keeps && head.tag == b'E' || owed.next_show() == Show::Swallow;
            if (may_vanish || fatal) && shown > 0 {
                // What follows may still take back what is held behind these.
                return Ok(self.show_and_hold(shown, at));
            }
            if fatal {
                self.hear_last_words(at, there);
                return Ok(true);
            }
            let left = if keeps && head.tag == b'E' { owed.left_in_unit() } else { 0 };
            let Verdict { mut show, event } = owed.reply(head.tag, body)?;
            match event {
                Event::Refused => return Ok(self.say_refused(at, there)),
                Event::Known => window.replace(at, PARSE_COMPLETE),
                _ => {}
            }
            if head.tag == b'A' {
                ears::sign(window, (at, there), key.process, process, held.hearer.as_deref_mut());
            }
            if left > 0 && show == Show::Forward && self.catch(at, head, left) {
                at = 0;
            }
            if self.net.failed.is_some() && !matches!(head.tag, b'S' | b'A') {
                show = Show::Swallow;
            }
            if show == Show::Forward && self.net.holds() {
                self.hold_or_release(head.tag, there == head.size);
            }
            let holds = self.net.holds();
            self.event(event, show, at, head);
            if matches!(event, Event::Ready { .. }) && self.holds_ready() {
                return Ok(self.keep_ready(at, there));
            }
            if there < head.size {
                self.back.rest = head.size - there;
                self.back.rest_show = show;
            }
            if show == Show::Swallow {
                self.swallow(at, there, head);
                return Ok(true);
            }
            at += there;
            if !holds {
                shown = at;
            }
            if there < head.size {
                break;
            }
        }
        if self.net.has_result && self.last_words.is_none() {
            // No error came with it: to wait for one would hold up the client for nothing.
            self.release();
            shown = at;
        }
        Ok(self.show_and_hold(shown, at))
    }

    /// More of a message that is longer than the window.
    fn scan_rest(&mut self) -> bool {
        let (rest, show) = (self.back.rest, self.back.rest_show);
        let Some(window) = self.held().and_then(|held| held.lease.window.as_mut()) else { return false };
        let part = rest.min(window.len());
        self.heard_more(part, rest - part);
        match show {
            Show::Forward => self.back.run = part,
            Show::Swallow => self.drop_front(part),
        }
        self.back.rest -= part;
        part > 0
    }

    /// What a reply means beyond its bytes, which stand in the server's window at `at`.
    fn event(&mut self, event: Event, show: Show, at: usize, head: Header) {
        if let (Event::Ready { number, .. }, Some((statements, server))) =
            (event, self.statements_on_server())
        {
            statements.settle_told(number, server);
        }
        match event {
            Event::None | Event::Refused | Event::Said | Event::Prefaced => {}
            Event::Described { number } => self.heard_description(number, at, head),
            Event::Parsed | Event::Known | Event::Closed if self.net.holds() => self.net.unconfirmed += 1,
            Event::Parsed | Event::Known | Event::Closed => {
                if let Some((statements, server)) = self.statements_on_server() {
                    statements.confirmed(server);
                }
            }
            Event::Forgotten => {
                if let Some((statements, server)) = self.statements_on_server() {
                    statements.forgotten(server);
                }
            }
            Event::Prepared if show == Show::Swallow => {}
            Event::Prepared => self.saw_name(Use::Prepare),
            Event::Deallocated => self.saw_name(Use::Deallocate),
            Event::RolledBack => self.takes_back(),
            Event::Error { parse } if show == Show::Swallow => {
                if !self.heard_error(at, head) {
                    self.own_failed(parse, at, head);
                }
            }
            Event::Error { parse } => self.saw_error(parse, at, head),
            Event::Ready { number, .. } if self.net.failed.is_some() => self.saw_void_ready(number),
            Event::Ready { number, .. } if show == Show::Swallow => self.heard_ready(number),
            Event::Ready { status, number } => self.saw_ready(status, number),
            Event::Parameter if show == Show::Swallow => {}
            Event::Parameter => {
                let body = self.reply_body(at, head);
                if let Ok((name, value)) = backend::parameter_status(body)
                    && let (Ok(name), Ok(value)) = (str::from_utf8(name), str::from_utf8(value))
                    && !is_text_safe(name, value)
                {
                    self.identity.text_safe = false;
                }
            }
        }
    }

    pub(super) fn reply_body(&mut self, at: usize, head: Header) -> &[u8] {
        let window = self.held().and_then(|held| held.lease.window.as_ref());
        let message = window.and_then(|window| window.bytes().get(at..)).unwrap_or_default();
        message.get(HEADER..head.size.min(message.len())).unwrap_or_default()
    }

    /// The replica's part of a unit that moves to the primary is over. If it failed, the rest is skipped.
    pub(super) fn moved(&mut self) {
        let failed = self.held().is_some_and(|held| held.error_shown);
        if std::mem::take(&mut self.moving) && failed {
            self.skip_unit();
        }
    }

    /// What the client sends up to its next Sync is thrown away, also what was cut of it.
    pub(super) fn skip_unit(&mut self) {
        self.discard.until_sync = true;
        self.piece = None;
        self.gather = Gather::default();
        self.statements.forget_read();
    }

    pub(super) fn statements_on_server(&mut self) -> Option<(&mut Statements, &mut Server)> {
        let held = self.held.get_mut(self.active?.index())?.as_mut()?;
        Some((&mut self.statements, &mut held.lease))
    }

    pub(super) fn parse_refused(&mut self, parse: bool) {
        if parse && let Some((statements, server)) = self.statements_on_server() {
            statements.refused(server);
        }
    }

    fn saw_error(&mut self, parse: bool, at: usize, head: Header) {
        self.parse_refused(parse);
        if self.grown.is_some() {
            self.place_error(at, head);
        }
        let fields = backend::fields(self.reply_body(at, head));
        let code: [u8; 5] = fields.code.first_chunk().copied().unwrap_or(*b"XX000");
        if retry::is_outlived(&fields) {
            self.statements.outlived();
        }
        self.identity.database.metrics.error(&code, Origin::Server);
        self.identity.cancel.settle();
        self.recall.failed = true;
        if self.active == Some(Target::Primary) && failover::is_doubt(&code) {
            self.doubt_primary();
        }
        if let Some(held) = self.held() {
            held.error_shown = true;
        }
    }

    fn saw_ready(&mut self, status: TransactionStatus, number: u32) {
        let Some(target) = self.active else { return };
        let Some(Some(held)) = self.held.get_mut(target.index()) else { return };
        let failed = std::mem::take(&mut held.error_shown);
        // A failed unit without transaction control is undone as a whole.
        let undone = failed && !held.transaction && held.lease.owed.is_empty();
        held.transaction = status != TransactionStatus::Idle;
        held.begins = false;
        held.uncertain &= !held.lease.owed.is_empty();
        if self.defines && !held.transaction {
            // Before the client hears of it: its next read, and everybody's after that, must not go by the old definitions.
            self.defines = false;
            if !undone {
                self.identity.catalog.changed();
            }
        }
        self.net.answered();
        self.identity.cancel.settle();
        self.names.clear();
        self.grown = None;
        let life = held.running.life;
        let (shape, time) = held.running.end();
        self.shared.judge.shapes().answered(shape, time);
        self.shared.judge.shapes().took(shape, time);
        self.identity.database.metrics.query_time(label(Some(target)), time);
        self.statements.ended(number, &mut held.lease);
        let node = held.node;
        self.note_answer(target, node, life, status, shape);
        self.awaits_own(status, failed);
    }

    /// Whether the active connection has nothing more to do: all was sent, answered and shown, no transaction is open.
    fn is_settled(&mut self) -> bool {
        let quiet = self.back.run == 0 && self.back.rest == 0 && self.last_words.is_none();
        let nothing = self.forth.is_empty() && quiet;
        nothing
            && self.held().is_some_and(|held| {
                held.lease.owed.is_free() && held.lease.window.as_ref().is_none_or(Window::is_empty)
            })
    }

    pub(super) fn say_error(&mut self, failure: &Failure) {
        self.identity.database.metrics.error(&failure.code(), Origin::Pgweir);
        failure.write(&mut self.back.own, Severity::Error);
    }

    /// Forgets what was meant for a server that is gone.
    pub(super) fn drop_forth(&mut self) {
        self.forth.own.clear();
        let run = std::mem::take(&mut self.forth.run);
        self.discard.rest = std::mem::take(&mut self.forth.rest);
        if let Some(window) = &mut self.window {
            window.consume(run);
        }
    }

    /// From the client to the server, as far as it goes. Returns whether anything moved.
    pub(super) fn requests(&mut self, cx: &mut Context<'_>) -> Result<bool, Leave> {
        let mut moved = false;
        loop {
            if self.next.is_some() {
                return Ok(moved);
            }
            match self.send(cx) {
                Poll::Ready(Ok(sent)) => moved |= sent,
                Poll::Ready(Err(())) => {
                    // What the server said before is still to be read, and after it that the connection is gone.
                    self.drop_forth();
                    return Ok(true);
                }
                Poll::Pending => return Ok(moved),
            }
            if self.throw_away()? || self.stream_rest() {
                moved = true;
                continue;
            }
            let throws = self.discard.rest > 0 || self.discard.until_sync;
            let busy = self.forth.rest > 0 || throws || self.holds_ready();
            if !busy && self.step()? {
                moved = true;
                continue;
            }
            match self.listen(cx) {
                Poll::Ready(Ok(true)) => moved = true,
                Poll::Ready(Ok(false)) => return Ok(moved),
                Poll::Ready(Err(leave)) => return Err(leave),
                Poll::Pending => return Ok(moved),
            }
        }
    }

    /// Writes to the server what may go. Ready(true): something went; Ready(false): there is nothing to go.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ()>> {
        let mut sent = false;
        loop {
            let Some(target) = self.active else { return Poll::Ready(Ok(sent)) };
            let Some(Some(held)) = self.held.get_mut(target.index()) else { return Poll::Ready(Ok(sent)) };
            let stream = &mut held.lease.stream;
            let forth = &mut self.forth;
            let run =
                self.window.as_ref().and_then(|window| window.bytes().get(..forth.run)).unwrap_or_default();
            if !forth.own.is_empty() && !run.is_empty() && forth.own.len() + run.len() <= JOIN {
                forth.own.extend_from_slice(run);
                if let Some(window) = &mut self.window {
                    window.consume(forth.run);
                }
                forth.run = 0;
                continue;
            }
            let bytes = if forth.own.is_empty() { run } else { &forth.own[..] };
            if bytes.is_empty() {
                return Poll::Ready(Ok(sent));
            }
            let written = match stream.poll_write(cx, bytes) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Pending => return Poll::Pending,
            };
            if forth.own.is_empty() {
                forth.run -= written;
                if let Some(window) = &mut self.window {
                    window.consume(written);
                }
            } else {
                drop(forth.own.split_to(written));
            }
            self.identity.database.metrics.bytes(Direction::ServerOut, written as u64);
            sent = true;
        }
    }

    /// More of a message that is longer than the window. True: there is some to send.
    fn stream_rest(&mut self) -> bool {
        let there = self.window.as_ref().map_or(0, Window::len);
        let part = self.forth.rest.min(there);
        self.forth.rest -= part;
        self.forth.run += part;
        part > 0
    }

    /// Throws away what follows an error of pgweir's own. True: something went.
    fn throw_away(&mut self) -> Result<bool, Leave> {
        let status = self.status();
        let Some(window) = &mut self.window else { return Ok(false) };
        let mut moved = false;
        if self.discard.rest > 0 {
            let part = self.discard.rest.min(window.len());
            window.consume(part);
            self.discard.rest -= part;
            moved = part > 0;
            if self.discard.rest > 0 {
                return Ok(moved);
            }
        }
        if std::mem::take(&mut self.discard.then_ready) {
            self.tell_ready(status);
            self.identity.cancel.settle();
            moved = true;
        }
        while self.discard.until_sync && self.discard.rest == 0 {
            let Some(window) = &mut self.window else { break };
            let Some(head) = frame::header(window.bytes(), Side::Frontend).map_err(told)? else { break };
            if head.tag == b'X' {
                return Err(Leave::Gone);
            }
            let part = head.size.min(window.len());
            window.consume(part);
            self.discard.rest = head.size - part;
            moved = true;
            if head.tag == b'S' {
                self.discard.until_sync = false;
                self.tell_ready(status);
                self.identity.cancel.settle();
            }
        }
        Ok(moved)
    }

    /// Cuts the next piece and gives it to its server. True: something happened.
    fn step(&mut self) -> Result<bool, Leave> {
        if self.sharing.ride.is_some() {
            return Ok(false);
        }
        if let Some(goes_on) = self.awaits_description() {
            return Ok(goes_on);
        }
        let piece = match self.piece {
            Some(piece) => piece,
            None => match self.cut() {
                Ok(Some(piece)) => {
                    self.sharing.alone = false;
                    piece
                }
                Ok(None) => return Ok(false),
                // What came before the bytes that are wrong is answered first.
                Err(_) if self.held().is_some_and(|held| held.lease.owed.readies() > 0) => return Ok(false),
                Err(leave) => return Err(leave),
            },
        };
        self.piece = Some(piece);
        match self.place(piece)? {
            Place::Forward => {
                self.forward();
                Ok(true)
            }
            Place::Done => Ok(true),
            Place::Wait => Ok(false),
        }
    }

    /// The next piece in the client's window.
    fn cut(&mut self) -> Result<Option<Piece>, Leave> {
        let eager = self.held().is_some_and(|held| held.lease.owed.is_open() || held.lease.owed.is_copy_in());
        self.identity.refresh();
        let Some(window) = &self.window else { return Ok(None) };
        let judge = Judging { judge: &self.shared.judge, scope: &self.identity.scope };
        self.gather.next(window.bytes(), eager, &mut self.statements, judge).map_err(told)
    }

    /// One read from the client. Ready(false): there is no room.
    fn listen(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Leave>> {
        if self.window.is_none() {
            match self.stream.poll_readable(cx) {
                Poll::Ready(Ok(())) => self.window = Some(self.shared.buffers.take()),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Leave::Gone)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let Some(window) = &mut self.window else { return Poll::Pending };
        if window.is_full() {
            return Poll::Ready(Ok(false));
        }
        match window.poll_fill(cx, &mut self.stream) {
            // It said goodbye before it closed: what it sent before that is carried out.
            Poll::Ready(Ok(0)) if self.piece.is_some_and(|piece| piece.kind == Kind::Terminate) => {
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(Leave::Gone)),
            Poll::Ready(Ok(n)) => {
                self.identity.database.metrics.bytes(Direction::ClientIn, n as u64);
                Poll::Ready(Ok(true))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

pub(super) fn told(error: ProtocolError) -> Leave {
    Leave::Told(Failure::Protocol(error))
}
