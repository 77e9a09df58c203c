//! Any error to an ErrorResponse: SQLSTATE, message, detail, hint, and whether the session goes on. The one place where
//! that is decided.

use bytes::{Bytes, BytesMut};

use super::desk::Refusal;
use crate::monitor::Missed;
use crate::pool::LeaseError;
use crate::route::rules::{Action, Rule};
use crate::server::ConnectError;
use crate::wire::frame::HEADER;
use crate::wire::write::{self, Severity};
use crate::wire::{ProtocolError, SqlState, backend};

/// What a client is told.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The client's bytes are not the protocol.
    Protocol(ProtocolError),
    /// No server connection.
    Lease(LeaseError),
    /// Nobody accepts writes at the moment.
    NoPrimary,
    /// No replica can take a read, and it may not go to the primary, or not now.
    NoReplica,
    /// No server at all.
    NoServer,
    /// The server closed the connection, and said why.
    ServerSaid(Bytes),
    /// The server connection broke while the unit ran.
    ServerLost,
    /// The server connection broke, and with it a transaction or session state.
    SessionLost,
    /// The server connection broke while something ran that may have changed something.
    ///
    /// With what the server said of it, if anything: 57P01 can come behind a commit that waited for a replica.
    OutcomeUnknown(String),
    /// Increments of that table, which it must see, could not be committed in time.
    Unflushed(String),
    /// The same, and the session cannot go on.
    SessionUnknown(String),
    /// So many units wait for a primary already.
    FailoverFull(usize),
    /// The server broke the protocol.
    ServerProtocol(ProtocolError),
    /// BEGIN in `pool_mode = "statement"`.
    StatementMode,
    /// The transaction has failed before any server knew of it.
    InFailedTransaction,
    /// A server refused a BEGIN that the client was told had succeeded.
    BeginRefused,
    /// The client has cancelled it.
    Cancelled,
    /// Only the primary can do it, and the read-only transaction runs on a replica.
    ReplicaTransaction,
    /// Who draws from sequences on that connection is somebody else.
    Recall,
    /// A rule refuses it: its name, and what it says.
    Rejected { rule: String, message: String },
    /// A setting of pgweir's own beside other statements.
    OwnMixed,
    /// pgweir's own refusal of a statement or a login.
    Refused(Refusal),
    /// A replication connection.
    Replication,
    /// That user may not use the console.
    NoConsole(String),
    /// No user in the startup packet.
    NoUser,
    /// The database is not configured.
    UnknownDatabase(String),
    /// Wrong password, unknown user.
    Password(String),
    /// Too many clients.
    TooManyClients(usize),
    /// The login took too long.
    LoginTimeout,
    /// The client was idle too long.
    IdleTimeout,
    /// pgweir ends.
    Ending,
    /// Another client has ended the session.
    Terminated,
    /// The configuration that holds now has its database no more.
    DatabaseGone,
    /// The configuration that holds now has its database on other servers, or logs in to them as somebody else.
    DatabaseMoved,
    /// It listens, and has missed notifications.
    Missed(Missed),
    /// The client sent nothing within a transaction for longer than `idle_in_transaction_timeout`, and its server connection is
    /// its own.
    IdleInTransaction,
    /// The same: the transaction has been rolled back, and the session goes on.
    TransactionTimedOut,
}

/// What is wrong with a statement that a replica would accept without its effect.
pub(super) const REPLICA_TRANSACTION: &str =
    "this statement needs the primary, and this read-only transaction runs on a replica";
/// What to do about it.
pub(super) const REPLICA_TRANSACTION_HINT: &str =
    "Run it outside the transaction, or begin without READ ONLY.";

struct Told<'a> {
    code: SqlState,
    message: String,
    detail: String,
    hint: &'a str,
}

fn told(code: SqlState, message: impl Into<String>, hint: &str) -> Told<'_> {
    Told { code, message: message.into(), detail: String::new(), hint }
}

/// The session ends because somebody wants it to.
fn closing(hint: &str) -> Told<'_> {
    told(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command", hint)
}

impl Failure {
    /// The ErrorResponse. A server's own refusal is passed on as the server worded it.
    pub(super) fn write(&self, out: &mut BytesMut, severity: Severity) {
        if let Some(response) = self.servers_words() {
            let body = response.get(HEADER..).unwrap_or_default();
            return write::error_repeated(out, severity, body);
        }
        let told = self.told();
        write::error_response(out, severity, told.code, &told.message, &told.detail, told.hint);
    }

    /// What a rule says that refuses.
    pub(super) fn rejected(rule: Option<&Rule>) -> Self {
        match rule {
            Some(Rule { name, then: Action::Reject(message), .. }) => {
                Self::Rejected { rule: name.clone(), message: message.clone() }
            }
            _ => Self::Rejected { rule: String::new(), message: "refused".to_owned() },
        }
    }

    /// What a server said, for people.
    pub(super) fn said(response: &[u8]) -> String {
        let fields = backend::fields(response.get(HEADER..).unwrap_or_default());
        let [code, message] = [fields.code, fields.message].map(String::from_utf8_lossy);
        format!("{message} ({code})")
    }

    /// A statement that makes a server raise it.
    pub(super) fn raised(&self) -> String {
        let told = self.told();
        let quoted = |text: &str| write::quote_literal(text);
        let body = format!(
            "BEGIN RAISE EXCEPTION USING ERRCODE = {}, MESSAGE = {}, DETAIL = {}, HINT = {}; END",
            quoted(told.code.as_str()),
            quoted(&told.message),
            quoted(&told.detail),
            quoted(told.hint)
        );
        format!("DO {}", quoted(&body))
    }

    /// The five characters, for counting.
    pub(super) fn code(&self) -> [u8; 5] {
        let code = match self {
            Self::Lease(LeaseError::Connect(ConnectError::Refused { refusal, .. })) => refusal.code.clone(),
            Self::ServerSaid(response) => {
                let fields = backend::fields(response.get(HEADER..).unwrap_or_default());
                String::from_utf8_lossy(fields.code).into_owned()
            }
            _ => self.told().code.as_str().to_owned(),
        };
        code.as_bytes().first_chunk().copied().unwrap_or(*b"XX000")
    }

    fn servers_words(&self) -> Option<&Bytes> {
        match self {
            Self::Lease(LeaseError::Connect(ConnectError::Refused { refusal, .. })) => {
                Some(&refusal.response)
            }
            Self::ServerSaid(response) => Some(response),
            _ => None,
        }
    }

    fn told(&self) -> Told<'_> {
        match self {
            Self::Lease(error) => lease(error),
            Self::Protocol(error @ ProtocolError::Version { .. }) => {
                told(SqlState::FEATURE_NOT_SUPPORTED, error.to_string(), "")
            }
            Self::Protocol(error) => told(SqlState::PROTOCOL_VIOLATION, error.to_string(), ""),
            Self::NoPrimary
            | Self::NoReplica
            | Self::NoServer
            | Self::ServerLost
            | Self::SessionLost
            | Self::OutcomeUnknown(_)
            | Self::Unflushed(_)
            | Self::SessionUnknown(_)
            | Self::FailoverFull(_)
            | Self::ServerProtocol(_) => self.server_side(),
            Self::StatementMode => told(
                SqlState::FEATURE_NOT_SUPPORTED,
                "transaction blocks are not allowed in statement pooling mode",
                "Set pool_mode = \"transaction\" for this database.",
            ),
            Self::InFailedTransaction => told(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
                "Roll the transaction back.",
            ),
            Self::Cancelled => told(SqlState::QUERY_CANCELED, "canceling statement due to user request", ""),
            Self::BeginRefused => told(
                SqlState::CONNECTION_FAILURE,
                "the server did not open the transaction",
                "Connect again; what an unanswered statement did is not known.",
            ),
            Self::ReplicaTransaction => {
                told(SqlState::FEATURE_NOT_SUPPORTED, REPLICA_TRANSACTION, REPLICA_TRANSACTION_HINT)
            }
            Self::Recall => told(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "this server connection does not know what this session has drawn from sequences",
                "Use RETURNING, call lastval or currval in the transaction that draws, or set pool_mode to session.",
            ),
            Self::Rejected { rule, message } => Told {
                detail: format!("The rule \"{rule}\" of pgweir's configuration refuses it."),
                ..told(SqlState::INSUFFICIENT_PRIVILEGE, message, "")
            },
            Self::OwnMixed => told(
                SqlState::FEATURE_NOT_SUPPORTED,
                "a setting of pgweir's own cannot stand beside other statements",
                "Send SET, RESET or SHOW of it alone, for the whole session.",
            ),
            Self::Refused(refusal) => told(refusal.code, &*refusal.message, &refusal.hint),
            Self::IdleTimeout
            | Self::Ending
            | Self::Terminated
            | Self::DatabaseGone
            | Self::DatabaseMoved
            | Self::Missed(_)
            | Self::TransactionTimedOut
            | Self::IdleInTransaction => self.leaving(),
            _ => self.login(),
        }
    }

    /// What the client did not do, or has to.
    fn leaving(&self) -> Told<'_> {
        match self {
            Self::IdleTimeout => told(
                SqlState::IDLE_SESSION_TIMEOUT,
                "terminating connection due to idle-session timeout",
                "pgweir's client_idle_timeout has passed.",
            ),
            Self::Terminated => {
                closing("Its process number was given to pg_terminate_backend. Connect again.")
            }
            Self::Ending => closing("This pgweir ends. Connect again."),
            Self::DatabaseGone => closing("Its database was taken out of pgweir's configuration."),
            Self::DatabaseMoved => {
                closing("pgweir's configuration of its database has changed. Connect again.")
            }
            Self::Missed(Missed::Lost) => told(
                SqlState::CONNECTION_FAILURE,
                "the server connection that listens was lost: notifications may have been missed",
                "Connect and LISTEN again, and look for what has changed since.",
            ),
            Self::Missed(Missed::Full) => told(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "too many notifications were not read",
                "Read them sooner, or raise max_notifications and notification_memory; then connect and LISTEN again.",
            ),
            Self::TransactionTimedOut => told(
                SqlState::IDLE_IN_TRANSACTION_TIMEOUT,
                "the transaction was rolled back: nothing came from the client for too long",
                "pgweir's idle_in_transaction_timeout has passed. Begin the transaction again.",
            ),
            Self::IdleInTransaction => told(
                SqlState::IDLE_IN_TRANSACTION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
                "pgweir's idle_in_transaction_timeout has passed; the transaction was rolled back.",
            ),
            _ => self.login(),
        }
    }

    fn server_side(&self) -> Told<'_> {
        match self {
            Self::NoReplica => told(
                SqlState::CANNOT_CONNECT_NOW,
                "no replica can take this read now",
                "pgweir's configuration (replica_down) keeps such reads off the primary. Try again, or read in a transaction that is not READ ONLY.",
            ),
            Self::NoPrimary => told(
                SqlState::CANNOT_CONNECT_NOW,
                "no server of this database accepts writes at the moment",
                "It was not sent anywhere. pgweir keeps looking for the primary; try again, or raise failover_wait.",
            ),
            Self::FailoverFull(units) => told(
                SqlState::TOO_MANY_CONNECTIONS,
                format!(
                    "no server of this database accepts writes at the moment, and {units} units wait for one already"
                ),
                "It was not sent anywhere. Raise failover_max_waiting or failover_max_bytes.",
            ),
            Self::NoServer => told(
                SqlState::CANNOT_CONNECT_NOW,
                "no server of this database can be reached at the moment",
                "pgweir keeps looking; try again.",
            ),
            Self::Unflushed(table) => told(
                SqlState::LOCK_NOT_AVAILABLE,
                format!("increments of {table} that this statement must see could not be committed in time"),
                "Look at SHOW COUNTERS and pgweir's log, or set reads = \"stale\" for the table's counters.",
            ),
            Self::OutcomeUnknown(said) => unknown(
                "the server connection was lost while the statement ran: its outcome is unknown",
                said,
                "It may have been carried out or not, and pgweir does not send it again. Look before you do; the session can \
                 go on.",
            ),
            Self::SessionUnknown(said) => unknown(
                "the server connection was lost, and with it the session's transaction or settings: the outcome of the \
                 unanswered statement is unknown",
                said,
                "It may have been carried out or committed, or not, and pgweir does not send it again. Look before you do; \
                 connect again.",
            ),
            Self::ServerProtocol(error) => Told {
                detail: error.to_string(),
                ..told(SqlState::CONNECTION_FAILURE, "the server broke the protocol", "")
            },
            Self::SessionLost => told(
                SqlState::CONNECTION_FAILURE,
                "the server connection was lost, and with it the session's transaction or settings",
                "Connect again; what was not committed has had no effect.",
            ),
            _ => told(
                SqlState::CONNECTION_FAILURE,
                "the server connection was lost while the statement ran",
                "It changed nothing; the session can go on.",
            ),
        }
    }

    fn login(&self) -> Told<'_> {
        match self {
            Self::Replication => told(
                SqlState::FEATURE_NOT_SUPPORTED,
                "pgweir does not forward replication connections",
                "Connect to the server itself.",
            ),
            Self::NoConsole(user) => told(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("user \"{user}\" may not use the console"),
                "Name the user in admin_users or stats_users.",
            ),
            Self::NoUser => told(
                SqlState::INVALID_AUTHORIZATION,
                "no PostgreSQL user name specified in startup packet",
                "",
            ),
            Self::UnknownDatabase(name) => told(
                SqlState::INVALID_CATALOG_NAME,
                format!("database \"{name}\" is not configured in pgweir"),
                "Add [databases.NAME] to its configuration, or [databases.\"*\"] for all.",
            ),
            Self::Password(user) => told(
                SqlState::INVALID_PASSWORD,
                format!("password authentication failed for user \"{user}\""),
                "",
            ),
            Self::TooManyClients(limit) => told(
                SqlState::TOO_MANY_CONNECTIONS,
                format!("sorry, too many clients already: max_client_conn is {limit}"),
                "",
            ),
            Self::LoginTimeout => {
                told(SqlState::PROTOCOL_VIOLATION, "the login took longer than client_login_timeout", "")
            }
            _ => told(SqlState::INTERNAL_ERROR, "unexpected failure in pgweir", "Please report it."),
        }
    }
}

fn unknown<'a>(message: &str, said: &str, hint: &'a str) -> Told<'a> {
    let detail = if said.is_empty() { String::new() } else { format!("The server said: {said}") };
    Told { detail, ..told(SqlState::TRANSACTION_RESOLUTION_UNKNOWN, message, hint) }
}

fn lease(error: &LeaseError) -> Told<'_> {
    let message = error.to_string();
    match error {
        LeaseError::Connect(ConnectError::Auth { .. }) => told(
            SqlState::INVALID_AUTHORIZATION,
            message,
            "Give pgweir the user's password: [users.NAME] password, or user and password of the database.",
        ),
        LeaseError::Connect(_) => {
            told(SqlState::CONNECTION_EXCEPTION, message, "pgweir keeps trying; try again.")
        }
        LeaseError::Timeout { leased, size, .. } => Told {
            detail: format!("{leased} of {size} server connections are in use."),
            ..told(
                SqlState::TOO_MANY_CONNECTIONS,
                message,
                "Raise pool_size, or look for clients that hold a transaction open.",
            )
        },
        LeaseError::Queue { .. } => {
            told(SqlState::TOO_MANY_CONNECTIONS, message, "Raise pool_size or max_waiting_clients.")
        }
    }
}

#[cfg(test)]
mod tests;
