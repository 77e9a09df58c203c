//! Our own login to a server: what to send when it asks.

use std::fmt;
use std::mem;

use bytes::BytesMut;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::md5;
use super::message::{self, SCRAM_SHA_256, code};
use super::options::Secret;

/// Whether the server is satisfied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Done {
    /// What was written, if anything, goes to the server; more `R` messages follow.
    More,
    /// The server sent AuthenticationOk, and has proven itself where the method has it do so.
    Ok,
}

/// What a server may ask for (docs, chapter "Message Formats").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// The password in clear text.
    Cleartext,
    /// An MD5 challenge.
    Md5,
    /// SCRAM-SHA-256 by SASL.
    ScramSha256,
    /// Kerberos V5, gone from PostgreSQL since 9.4.
    KerberosV5,
    /// Credentials over a Unix socket, gone from PostgreSQL since 9.1.
    Scm,
    /// GSSAPI.
    Gss,
    /// SSPI, on Windows.
    Sspi,
    /// A code that the documentation does not list.
    Unknown(u32),
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cleartext => "a clear-text password",
            Self::Md5 => "MD5",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::KerberosV5 => "Kerberos V5",
            Self::Scm => "SCM credentials",
            Self::Gss => "GSSAPI",
            Self::Sspi => "SSPI",
            Self::Unknown(code) => return write!(f, "authentication method {code}"),
        })
    }
}

/// Why pgweir cannot log in to a server, or does not believe it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerError {
    /// The bytes are not a message of authentication.
    #[error("the server sent a malformed authentication message")]
    Malformed,
    /// A message of authentication that does not belong here.
    #[error("the server sent authentication message {0} out of turn")]
    OutOfTurn(u32),
    /// A method that pgweir does not have.
    #[error("the server asks for {0}, which pgweir does not support")]
    Unsupported(Method),
    /// SASL without SCRAM-SHA-256. The text lists what there was.
    #[error("the server offers no SASL mechanism that pgweir supports, only: {0}")]
    Mechanisms(String),
    /// Nothing is known of the password.
    #[error("the server asks for {0}, and no password is configured for this user")]
    NoSecret(Method),
    /// What is known of the password is an MD5 hash, which answers only MD5.
    #[error("the server asks for {0}, and of this user's password only the MD5 hash is configured")]
    SecretIsMd5(Method),
    /// What is known of the password is a SCRAM verifier, which checks a login but cannot make one.
    #[error(
        "the server asks for {0}, and of this user's password only the SCRAM verifier is configured, which cannot log in"
    )]
    SecretIsScram(Method),
    /// A password with a zero in it, or something that is not an MD5 hash.
    #[error("the configured password cannot be sent to a server")]
    SecretUnusable,
    /// The SCRAM exchange failed on the server's side: its message, its nonce, or its signature. The text says which.
    #[error("the SCRAM exchange with the server failed: {0}")]
    Scram(String),
    /// AuthenticationOk before the server has shown that it knows the password.
    #[error("the server skipped the proof that it knows the password")]
    ServerUnproven,
}

/// The client's side of one authentication. It owns what it needs; after an error or [`Done::Ok`] it answers no more.
pub struct Answer {
    user: String,
    secret: Option<Secret>,
    state: State,
}

enum State {
    /// Nothing was asked yet.
    Start,
    /// A password or its hash was sent.
    Sent,
    /// The client-first-message was sent.
    ScramFirst(ScramSha256),
    /// The client-final-message was sent; the server still has to prove itself.
    ScramFinal(ScramSha256),
    /// The server has proven itself.
    Proven,
    /// It ended, well or not.
    Over,
}

impl Answer {
    /// A login as this user.
    #[must_use]
    pub fn new(user: &str, secret: Option<&Secret>) -> Self {
        Self { user: user.to_owned(), secret: secret.cloned(), state: State::Start }
    }

    /// Takes the body of the server's `R` message, without tag and length, and appends a `p` message if one is due.
    pub fn reply(&mut self, body: &[u8], out: &mut BytesMut) -> Result<Done, AnswerError> {
        let state = mem::replace(&mut self.state, State::Over);
        let (code, data) = body.split_first_chunk::<4>().ok_or(AnswerError::Malformed)?;
        let code = u32::from_be_bytes(*code);
        self.state = match (state, code) {
            (State::Start | State::Sent | State::Proven, code::OK) if data.is_empty() => return Ok(Done::Ok),
            (State::ScramFirst(_) | State::ScramFinal(_), code::OK) => {
                return Err(AnswerError::ServerUnproven);
            }
            (State::Start, _) => self.first(code, data, out)?,
            (State::ScramFirst(mut scram), code::SASL_CONTINUE) => {
                scram.update(data).map_err(|error| AnswerError::Scram(error.to_string()))?;
                message::answer(out, &[scram.message()]);
                State::ScramFinal(scram)
            }
            (State::ScramFinal(mut scram), code::SASL_FINAL) => {
                scram.finish(data).map_err(|error| AnswerError::Scram(error.to_string()))?;
                State::Proven
            }
            (State::Sent | State::ScramFirst(_) | State::ScramFinal(_) | State::Proven | State::Over, _) => {
                return Err(AnswerError::OutOfTurn(code));
            }
        };
        Ok(Done::More)
    }

    fn first(&self, code: u32, data: &[u8], out: &mut BytesMut) -> Result<State, AnswerError> {
        match code {
            code::CLEARTEXT if data.is_empty() => {
                let password = self.password(Method::Cleartext)?;
                message::answer(out, &[password.as_bytes(), b"\0"]);
                Ok(State::Sent)
            }
            code::MD5 => {
                let salt = data.try_into().map_err(|_| AnswerError::Malformed)?;
                let response = md5::response(&self.md5()?, salt);
                message::answer(out, &[response.as_bytes(), b"\0"]);
                Ok(State::Sent)
            }
            code::SASL => self.sasl(data, out),
            code::OK | code::CLEARTEXT => Err(AnswerError::Malformed),
            code::SASL_CONTINUE | code::SASL_FINAL | code::GSS_CONTINUE => Err(AnswerError::OutOfTurn(code)),
            code::KERBEROS_V5 => Err(AnswerError::Unsupported(Method::KerberosV5)),
            code::SCM => Err(AnswerError::Unsupported(Method::Scm)),
            code::GSS => Err(AnswerError::Unsupported(Method::Gss)),
            code::SSPI => Err(AnswerError::Unsupported(Method::Sspi)),
            _ => Err(AnswerError::Unsupported(Method::Unknown(code))),
        }
    }

    /// Picks SCRAM-SHA-256 from the list. SCRAM-SHA-256-PLUS is passed over, with the flag `n`: pgweir cannot bind
    /// channels yet, and `y` would claim that the server did not offer it.
    fn sasl(&self, list: &[u8], out: &mut BytesMut) -> Result<State, AnswerError> {
        let list = list.strip_suffix(b"\0\0").ok_or(AnswerError::Malformed)?;
        if !list.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) {
            let offered = String::from_utf8_lossy(list).replace('\0', ", ");
            return Err(AnswerError::Mechanisms(
                offered.chars().filter(|c| !c.is_control()).take(200).collect(),
            ));
        }
        let password = self.password(Method::ScramSha256)?;
        let scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        message::initial_response(out, SCRAM_SHA_256, scram.message());
        Ok(State::ScramFirst(scram))
    }

    fn password(&self, method: Method) -> Result<&str, AnswerError> {
        match &self.secret {
            Some(Secret::Plain(password)) if password.contains('\0') => Err(AnswerError::SecretUnusable),
            Some(Secret::Plain(password)) => Ok(password),
            Some(Secret::Md5(_)) => Err(AnswerError::SecretIsMd5(method)),
            Some(Secret::Scram(_)) => Err(AnswerError::SecretIsScram(method)),
            None => Err(AnswerError::NoSecret(method)),
        }
    }

    fn md5(&self) -> Result<String, AnswerError> {
        match &self.secret {
            Some(Secret::Plain(password)) => Ok(md5::stored(&self.user, password)),
            Some(Secret::Md5(stored)) if md5::is_stored(stored) => Ok(stored.clone()),
            Some(Secret::Md5(_)) => Err(AnswerError::SecretUnusable),
            Some(Secret::Scram(_)) => Err(AnswerError::SecretIsScram(Method::Md5)),
            None => Err(AnswerError::NoSecret(Method::Md5)),
        }
    }
}
