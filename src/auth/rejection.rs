//! Why a client was not let in: for the log. The client is told no more than its SQLSTATE says.

/// The reason a login ended without success.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// No such user is listed. The exchange went on to its end, as for a listed one.
    #[error("no such user")]
    UnknownUser,
    /// The proof or the hash is not the one the secret gives.
    #[error("wrong password")]
    WrongPassword,
    /// The client sent an empty password. PostgreSQL refuses that too, whatever the secret.
    #[error("the client sent an empty password")]
    EmptyPassword,
    /// The user's secret is an MD5 hash, which cannot serve SCRAM.
    #[error("the secret is an MD5 hash, and SCRAM-SHA-256 is asked for")]
    SecretIsMd5,
    /// The user's secret is empty, or not a hash or verifier as PostgreSQL writes it.
    #[error("the secret is empty or malformed")]
    SecretUnusable,
    /// What the client sent is not a message of the exchange.
    #[error("protocol violation: {0}")]
    Violation(#[from] Violation),
}

impl Rejection {
    /// Whether the client broke the protocol (SQLSTATE 08P01), rather than failed to prove who it is (28P01).
    #[must_use]
    pub fn is_violation(self) -> bool {
        matches!(self, Self::Violation(_))
    }
}

/// How a client's authentication message broke the protocol. The cases are those of PostgreSQL's `auth-scram.c`
/// and `auth-sasl.c`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// A message where none was due: before the request, or after the end.
    #[error("an authentication message out of turn")]
    OutOfTurn,
    /// Longer than any honest message of its kind.
    #[error("the authentication message is too long")]
    TooLong,
    /// A PasswordMessage that is not one zero-terminated string.
    #[error("malformed password message")]
    MalformedPassword,
    /// A SASLInitialResponse whose parts do not fit its length.
    #[error("malformed SASL initial response")]
    MalformedInitialResponse,
    /// A SASL mechanism that was not offered.
    #[error("the client selected a SASL mechanism that was not offered")]
    Mechanism,
    /// A SCRAM message that does not follow the grammar of RFC 5802, section 7.
    #[error("malformed SCRAM message")]
    MalformedScram,
    /// An authorization identity (`a=`), which PostgreSQL does not support either.
    #[error("the client asked for an authorization identity")]
    AuthorizationIdentity,
    /// A mandatory extension (`m=`): by RFC 5802 one that is not known must end the exchange.
    #[error("the client requires an unknown SCRAM extension")]
    MandatoryExtension,
    /// Channel binding without SCRAM-SHA-256-PLUS, or binding data other than the first message's.
    #[error("SCRAM channel binding that was not agreed on")]
    ChannelBinding,
    /// The nonce of the second message is not the one of the exchange.
    #[error("the SCRAM nonce does not match")]
    Nonce,
}
