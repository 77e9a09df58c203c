//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), message by message, as PostgreSQL's `auth-scram.c` has it.
//!
//! Names in messages are ignored: PostgreSQL takes the user from the startup packet, and libpq sends an empty one.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::rejection::Violation;
use super::verifier::{Verifier, decode_key};

/// The state before the client's first message.
pub(super) struct First {
    verifier: Arc<Verifier>,
    nonce: String,
}

/// The state before the client's final message.
pub(super) struct Final {
    verifier: Arc<Verifier>,
    /// What `c=` has to be: the GS2 header of the first message, in base64. With channel binding, its data would follow.
    binding: String,
    /// The client's nonce followed by ours.
    nonce: String,
    /// `client-first-message-bare "," server-first-message`.
    said: String,
}

/// How a well-formed exchange ended.
pub(super) enum Outcome {
    /// The proof is right; the text is the server-final-message.
    Proven(String),
    /// The proof is wrong.
    Unproven,
}

impl First {
    /// An exchange over this verifier, with a nonce that was never used before.
    pub(super) fn new(verifier: Arc<Verifier>, nonce: String) -> Self {
        Self { verifier, nonce }
    }

    /// Takes the client-first-message; gives the server-first-message and the next state.
    pub(super) fn read(self, message: &[u8]) -> Result<(String, Final), Violation> {
        let message = text(message)?;
        let bare = skip_gs2_header(message)?;
        if bare.starts_with("m=") {
            return Err(Violation::MandatoryExtension);
        }
        let mut attributes = Attributes(Some(bare));
        attributes.next_as('n')?;
        let client_nonce = attributes.next_as('r')?;
        if client_nonce.is_empty() || !client_nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Violation::MalformedScram);
        }
        attributes.skip_rest()?;
        let nonce = format!("{client_nonce}{}", self.nonce);
        let reply = format!("r={nonce},s={},i={}", self.verifier.salt, self.verifier.iterations);
        let header = message.strip_suffix(bare).unwrap_or_default();
        let binding = STANDARD.encode(header);
        let said = format!("{bare},{reply}");
        Ok((reply, Final { verifier: self.verifier, binding, nonce, said }))
    }
}

impl Final {
    /// Takes the client-final-message.
    pub(super) fn read(self, message: &[u8]) -> Result<Outcome, Violation> {
        let message = text(message)?;
        // The proof is the last attribute, and no value holds a comma.
        let (unproven, proof) = message.rsplit_once(",p=").ok_or(Violation::MalformedScram)?;
        let proof = decode_key(proof.as_bytes()).ok_or(Violation::MalformedScram)?;
        let mut attributes = Attributes(Some(unproven));
        if attributes.next_as('c')? != self.binding {
            return Err(Violation::ChannelBinding);
        }
        if attributes.next_as('r')? != self.nonce {
            return Err(Violation::Nonce);
        }
        attributes.skip_rest()?;
        let message = format!("{},{unproven}", self.said);
        if !self.verifier.proves(message.as_bytes(), &proof) {
            return Ok(Outcome::Unproven);
        }
        let signature = STANDARD.encode(self.verifier.signature(message.as_bytes()));
        Ok(Outcome::Proven(format!("v={signature}")))
    }
}

/// A SCRAM message is UTF-8 without a zero, and not empty.
fn text(message: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(message)
        .ok()
        .filter(|text| !text.is_empty() && !text.contains('\0'))
        .ok_or(Violation::MalformedScram)
}

/// Checks the GS2 header and gives what follows it, the client-first-message-bare.
///
/// `n` says that the client cannot bind channels, `y` that it can but was not offered to: both true here, where
/// SCRAM-SHA-256-PLUS is never offered. When it will be, `y` becomes a violation and `p=` the honest answer.
fn skip_gs2_header(message: &str) -> Result<&str, Violation> {
    let (flag, rest) = message.split_once(',').ok_or(Violation::MalformedScram)?;
    match flag {
        "n" | "y" => {}
        _ if flag.starts_with("p=") => return Err(Violation::ChannelBinding),
        _ => return Err(Violation::MalformedScram),
    }
    let (identity, bare) = rest.split_once(',').ok_or(Violation::MalformedScram)?;
    match identity {
        "" => Ok(bare),
        _ if identity.starts_with("a=") => Err(Violation::AuthorizationIdentity),
        _ => Err(Violation::MalformedScram),
    }
}

/// `name=value` pairs between commas; `None` past the last.
struct Attributes<'a>(Option<&'a str>);

impl<'a> Attributes<'a> {
    fn next_as(&mut self, wanted: char) -> Result<&'a str, Violation> {
        match self.take()? {
            Some((name, value)) if name == wanted => Ok(value),
            Some(_) | None => Err(Violation::MalformedScram),
        }
    }

    /// Optional extensions may follow; they are well formed and ignored.
    fn skip_rest(&mut self) -> Result<(), Violation> {
        while self.take()?.is_some() {}
        Ok(())
    }

    fn take(&mut self) -> Result<Option<(char, &'a str)>, Violation> {
        let Some(rest) = self.0.take() else { return Ok(None) };
        let pair = match rest.split_once(',') {
            Some((pair, rest)) => {
                self.0 = Some(rest);
                pair
            }
            None => rest,
        };
        let (name, value) = pair.split_once('=').ok_or(Violation::MalformedScram)?;
        match name.as_bytes() {
            [letter] if letter.is_ascii_alphabetic() => Ok(Some((char::from(*letter), value))),
            _ => Err(Violation::MalformedScram),
        }
    }
}
