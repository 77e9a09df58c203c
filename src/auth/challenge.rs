//! One login of a client, from the request to the verdict.

use std::mem;
use std::sync::Arc;

use bytes::BytesMut;

use super::md5;
use super::message::{self, LONGEST_ANSWER, SCRAM_SHA_256, code};
use super::rejection::{Rejection, Violation};
use super::scram::{Final, First, Outcome};
use super::verifier::Verifier;

/// Where a login stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// What was written goes to the client, and its next `p` message to [`Challenge::answer`].
    Continue,
    /// The client is who it says. What was written, then AuthenticationOk, go to the client.
    Accepted,
    /// The client is not let in.
    Rejected(Rejection),
}

impl From<Violation> for Progress {
    fn from(violation: Violation) -> Self {
        Self::Rejected(violation.into())
    }
}

/// The server's side of one client's authentication. It owns what it needs, and ends with one verdict.
pub struct Challenge {
    state: State,
}

/// A login that cannot succeed goes through its exchange to the end, and only then says so: to an onlooker it is a wrong
/// password. `doom` is that verdict.
type Doom = Option<Rejection>;

enum State {
    /// Nobody is asked anything.
    Trust,
    /// To be asked for MD5.
    Md5Start(Md5),
    /// Asked for MD5.
    Md5Asked(Md5),
    /// To be asked for SCRAM.
    ScramStart(First, Doom),
    /// Asked for SCRAM: a SASLInitialResponse is due.
    ScramAsked(First, Doom),
    /// The client chose SCRAM and said nothing yet: a SASLResponse with its first message is due.
    ScramChosen(First, Doom),
    /// The final message is due.
    ScramContinued(Final, Doom),
    /// There was a verdict.
    Over,
}

struct Md5 {
    stored: String,
    salt: [u8; 4],
    doom: Doom,
}

impl Challenge {
    /// Lets everybody in.
    pub(super) fn trust() -> Self {
        Self { state: State::Trust }
    }

    /// Asks for the MD5 of a stored hash and the salt.
    pub(super) fn md5(stored: String, salt: [u8; 4], doom: Doom) -> Self {
        Self { state: State::Md5Start(Md5 { stored, salt, doom }) }
    }

    /// Asks for SCRAM-SHA-256 over the verifier.
    pub(super) fn scram(verifier: Arc<Verifier>, nonce: String, doom: Doom) -> Self {
        Self { state: State::ScramStart(First::new(verifier, nonce), doom) }
    }

    /// Appends the request for authentication, or accepts at once and appends nothing.
    pub fn start(&mut self, out: &mut BytesMut) -> Progress {
        match mem::replace(&mut self.state, State::Over) {
            State::Trust => Progress::Accepted,
            State::Md5Start(md5) => {
                message::request(out, code::MD5, &md5.salt);
                self.go(State::Md5Asked(md5))
            }
            State::ScramStart(first, doom) => {
                // The list of mechanisms. SCRAM-SHA-256-PLUS goes before it, once channels can be bound.
                message::request(out, code::SASL, format!("{SCRAM_SHA_256}\0\0").as_bytes());
                self.go(State::ScramAsked(first, doom))
            }
            State::Md5Asked(_)
            | State::ScramAsked(..)
            | State::ScramChosen(..)
            | State::ScramContinued(..)
            | State::Over => Violation::OutOfTurn.into(),
        }
    }

    /// Takes the body of the client's `p` message, without tag and length, and appends the reply if one is due.
    pub fn answer(&mut self, body: &[u8], out: &mut BytesMut) -> Progress {
        let state = mem::replace(&mut self.state, State::Over);
        if body.len() > LONGEST_ANSWER {
            return Violation::TooLong.into();
        }
        match state {
            State::Md5Asked(md5) => md5.judge(body),
            State::ScramAsked(first, doom) => match message::split_initial_response(body) {
                None => Violation::MalformedInitialResponse.into(),
                Some((mechanism, _)) if mechanism != SCRAM_SHA_256.as_bytes() => Violation::Mechanism.into(),
                Some((_, Some(data))) => self.scram_first(first, doom, data, out),
                Some((_, None)) => {
                    message::request(out, code::SASL_CONTINUE, b"");
                    self.go(State::ScramChosen(first, doom))
                }
            },
            State::ScramChosen(first, doom) => self.scram_first(first, doom, body, out),
            State::ScramContinued(last, doom) => scram_final(last, doom, body, out),
            State::Trust | State::Md5Start(_) | State::ScramStart(..) | State::Over => {
                Violation::OutOfTurn.into()
            }
        }
    }

    fn scram_first(&mut self, first: First, doom: Doom, data: &[u8], out: &mut BytesMut) -> Progress {
        match first.read(data) {
            Ok((reply, last)) => {
                message::request(out, code::SASL_CONTINUE, reply.as_bytes());
                self.go(State::ScramContinued(last, doom))
            }
            Err(violation) => violation.into(),
        }
    }

    fn go(&mut self, state: State) -> Progress {
        self.state = state;
        Progress::Continue
    }
}

fn scram_final(last: Final, doom: Doom, data: &[u8], out: &mut BytesMut) -> Progress {
    match (last.read(data), doom) {
        (Err(violation), _) => violation.into(),
        (Ok(_), Some(doom)) => Progress::Rejected(doom),
        (Ok(Outcome::Unproven), None) => Progress::Rejected(Rejection::WrongPassword),
        (Ok(Outcome::Proven(reply)), None) => {
            message::request(out, code::SASL_FINAL, reply.as_bytes());
            Progress::Accepted
        }
    }
}

impl Md5 {
    fn judge(&self, body: &[u8]) -> Progress {
        let Some(answer) = message::only_string(body) else { return Violation::MalformedPassword.into() };
        let right = md5::answers(&self.stored, self.salt, answer);
        match self.doom {
            _ if answer.is_empty() => Progress::Rejected(Rejection::EmptyPassword),
            Some(doom) => Progress::Rejected(doom),
            None if right => Progress::Accepted,
            None => Progress::Rejected(Rejection::WrongPassword),
        }
    }
}
