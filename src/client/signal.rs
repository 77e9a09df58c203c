//! `pg_terminate_backend` and `pg_cancel_backend` of the number that a client was told at its login: no server has such a process, and
//! it is the client's session here that is meant.
//!
//! So it is for clients of the same user, as PostgreSQL lets a role signal its own sessions; of any other number the server is asked.

use super::cancel::Signalled;
use super::counting::{DESCRIBED, Run};
use super::fail::Failure;
use super::next::Next;
use super::plan::Place;
use super::session::{Leave, Session};
use super::unit::Piece;
use crate::metrics::TargetLabel;
use crate::route::Reason;
use crate::sql::{Operand, Signal, lone_signal};
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::{TransactionStatus, answer, frontend};

/// The number of the type `int4`.
const INT4: u32 = 23;

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
        let reason = piece.facts.reason;
        self.identity.database.metrics.unit(TargetLabel::None, reason.index(), reason.code());
        let status = self.status();
        self.say_signalled(piece.size, &asked);
        self.tell_ready(status);
        self.identity.cancel.settle();
        Ok(())
    }

    /// Answers the messages of the unit, but for its end.
    fn say_signalled(&mut self, size: usize, asked: &Asked) {
        let Some(window) = self.window.as_mut() else { return };
        let (out, name, mut binary) = (&mut self.back.own, asked.signal.name(), false);
        let mut rest = window.bytes().get(..size).unwrap_or_default();
        for tag in &asked.form {
            let Ok(Some(head)) = frame::header(rest, Side::Frontend) else { break };
            let Some((message, after)) = rest.split_at_checked(head.size) else { break };
            rest = after;
            match *tag {
                b'P' => answer::parse_complete(out),
                b'B' => {
                    binary = message.get(HEADER..).is_some_and(frontend::binds_binary);
                    answer::bind_complete(out);
                }
                b'D' => answer::truth_description(out, name, binary),
                DESCRIBED => {
                    let mut types = Vec::new();
                    answer::parameter_description(if asked.bound { &[INT4] } else { &[] }, &mut types);
                    out.extend_from_slice(&types);
                    answer::truth_description(out, name, false);
                }
                b'Q' => {
                    answer::truth_description(out, name, false);
                    answer::truth(out, false);
                    answer::command_complete(out, "SELECT 1");
                }
                b'E' => {
                    answer::truth(out, binary);
                    answer::command_complete(out, "SELECT 1");
                }
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
