//! `pg_terminate_backend` and `pg_cancel_backend` of the number that a client was told at its login: no server has such a process, and
//! it is the client's session here that is meant.
//!
//! Outside transactions `pg_backend_pid()`, alone in its SELECT, is that number.
//!
//! So it is for clients of the same user, as PostgreSQL lets a role signal its own sessions; of any other number the server is asked.

use bytes::BytesMut;

use super::cancel::Signalled;
use super::counting::{DESCRIBED, Run};
use super::fail::Failure;
use super::next::Next;
use super::plan::Place;
use super::session::{Leave, Session};
use super::unit::Piece;
use crate::metrics::TargetLabel;
use crate::pool::PoolMode;
use crate::route::Reason;
use crate::sql::{Operand, Signal, asks_own_process, lone_signal};
use crate::wire::answer::INT4;
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::{TransactionStatus, answer, frontend};

/// A unit that gives a signal.
struct Asked {
    signal: Signal,
    /// Whom.
    process: u32,
    /// That is a parameter.
    bound: bool,
    /// See [`Run::form`].
    form: Vec<u8>,
}

/// The one value that a unit is answered with.
enum Value {
    True,
    Number(u32),
}

impl Value {
    fn describe(&self, out: &mut BytesMut, column: &str, binary: bool) {
        match self {
            Self::True => answer::truth_description(out, column, binary),
            Self::Number(_) => answer::number_description(out, column, binary),
        }
    }

    fn write(&self, out: &mut BytesMut, binary: bool) {
        match self {
            Self::True => answer::truth(out, binary),
            Self::Number(number) => answer::number(out, number.cast_signed(), binary),
        }
        answer::command_complete(out, "SELECT 1");
    }
}

impl Session {
    /// Answers a piece that asks for a signal to a client. None: the server does. Nothing is owed.
    #[cold]
    pub(super) fn answer_signal(&mut self, piece: &Piece) -> Option<Result<Place, Leave>> {
        let failed = self.status() == TransactionStatus::Failed;
        // Who acts as another role may be less.
        let itself = self.identity.text_safe && self.identity.acts_as.is_none();
        if failed || !piece.ends || piece.rest > 0 || piece.flush || !itself {
            return None;
        }
        if !self.identity.database.rules.is_empty() && self.decide(piece).reason == Reason::Rejected {
            return None;
        }
        if let Some((column, form)) = self.asks_own_number(piece) {
            self.answer_value(
                *piece,
                &column,
                &Value::Number(self.identity.cancel.key.process),
                false,
                &form,
            );
            return Some(Ok(Place::Done));
        }
        let Asked { signal, process, .. } = self.signal_of(piece)?;
        let own = process == self.identity.cancel.key.process;
        if own && signal == Signal::Terminate {
            return Some(Err(Leave::Told(Failure::Terminated)));
        }
        if own {
            self.piece = None;
            self.refuse(*piece, &Failure::Cancelled);
            return Some(Ok(Place::Done));
        }
        self.next =
            Some(Next::Signalled(self.shared.cancels.signal(process, &self.identity.user, signal)?));
        Some(Ok(Place::Wait))
    }

    /// Whether a piece asks which process works for the client: what the column is called, and [`Run::form`]. Outside transactions
    /// that is another one each time; the number by which the client is meant stays.
    fn asks_own_number(&mut self, piece: &Piece) -> Option<(Box<str>, Vec<u8>)> {
        let lent = self.status() == TransactionStatus::Idle && self.begun.is_none() && !self.pinned;
        if !lent || self.identity.database.pool.mode == PoolMode::Session {
            return None;
        }
        let unit = self.window.as_ref()?.bytes().get(..piece.size)?;
        let run = self.run_of(unit, false)?;
        let column = asks_own_process(run.text)?;
        run.types.is_empty().then_some((column, run.form))
    }

    fn signal_of(&self, piece: &Piece) -> Option<Asked> {
        let unit = self.window.as_ref()?.bytes().get(..piece.size)?;
        let run = self.run_of(unit, false)?;
        let (signal, operand) = lone_signal(run.text)?;
        let process = match &operand {
            Some(operand) => u32::try_from(run.number_of(operand)?).ok()?,
            None => self.identity.cancel.key.process,
        };
        let bound = matches!(operand, Some(Operand::Param(_)));
        has_parameters(&run, operand.as_ref()).then_some(Asked { signal, process, bound, form: run.form })
    }

    /// Answers the piece once the client that it means has heard of it.
    pub(super) async fn signalled(&mut self, client: Signalled) -> Result<(), Leave> {
        client.heard().await;
        let Some(piece) = self.piece.take() else { return Ok(()) };
        let Some(asked) = self.signal_of(&piece) else { return Ok(()) };
        self.answer_value(piece, asked.signal.name(), &Value::True, asked.bound, &asked.form);
        Ok(())
    }

    /// Answers a whole unit with one value.
    fn answer_value(&mut self, piece: Piece, column: &str, value: &Value, bound: bool, form: &[u8]) {
        self.piece = None;
        let reason = piece.facts.reason;
        self.identity.database.metrics.unit(TargetLabel::None, reason.index(), reason.code());
        let status = self.status();
        self.say_value(piece.size, column, value, bound, form);
        self.tell_ready(status);
        self.identity.cancel.settle();
    }

    /// Answers the messages of the unit, but for its end.
    fn say_value(&mut self, size: usize, column: &str, value: &Value, bound: bool, form: &[u8]) {
        let Some(window) = self.window.as_mut() else { return };
        let (out, mut binary) = (&mut self.back.own, false);
        let mut rest = window.bytes().get(..size).unwrap_or_default();
        for tag in form {
            let Ok(Some(head)) = frame::header(rest, Side::Frontend) else { break };
            let Some((message, after)) = rest.split_at_checked(head.size) else { break };
            rest = after;
            match *tag {
                b'P' => answer::parse_complete(out),
                b'B' => {
                    binary = message.get(HEADER..).is_some_and(frontend::binds_binary);
                    answer::bind_complete(out);
                }
                b'D' => value.describe(out, column, binary),
                DESCRIBED => {
                    let mut types = Vec::new();
                    answer::parameter_description(if bound { &[INT4] } else { &[] }, &mut types);
                    out.extend_from_slice(&types);
                    value.describe(out, column, false);
                }
                b'Q' => {
                    value.describe(out, column, false);
                    value.write(out, false);
                }
                b'E' => value.write(out, binary),
                _ => {}
            }
            if matches!(*tag, b'P' | b'Q' | b'S') {
                self.statements.answered(Some(message));
            }
        }
        window.consume(size);
    }
}

/// Whether the parameters are those that the function has: the server says what is wrong with others.
fn has_parameters(run: &Run<'_>, operand: Option<&Operand>) -> bool {
    let count = usize::from(matches!(operand, Some(Operand::Param(_))));
    let first = !matches!(operand, Some(Operand::Param(number)) if *number != 1);
    first && run.types.len() <= count && run.types.iter().all(|of| matches!(*of, 0 | INT4))
}
