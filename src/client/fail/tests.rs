//! Every failure as a client sees it, in `tests/golden/errors.txt`. `UPDATE_GOLDEN=1` writes it.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::auth::{AnswerError, Method};
use crate::net::Address;
use crate::server::Refusal;
use crate::wire::frame::HEADER;

/// Everything that can be told. [`visit`] has no `_`: a new variant does not compile until somebody has been here.
#[allow(clippy::too_many_lines)]
fn all() -> Vec<Failure> {
    let address: Arc<Address> = Arc::new("10.0.0.1:5432".parse().unwrap());
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    let mut response = BytesMut::new();
    write::error_response(
        &mut response,
        Severity::Fatal,
        SqlState::INVALID_CATALOG_NAME,
        "database \"shop\" does not exist",
        "",
        "",
    );
    let refusal = Refusal {
        code: "3D000".to_owned(),
        message: "database \"shop\" does not exist".to_owned(),
        response: response.freeze(),
    };
    let connect = |error| Failure::Lease(LeaseError::Connect(error));
    let all = vec![
        Failure::Protocol(ProtocolError::Length { tag: b'Q', length: 3 }),
        Failure::Protocol(ProtocolError::TooLong { tag: b'S', length: 20_000, limit: 10_000 }),
        Failure::Protocol(ProtocolError::Tag(b'!')),
        Failure::Protocol(ProtocolError::Body(b'B')),
        Failure::Protocol(ProtocolError::Unexpected(b'p')),
        Failure::Protocol(ProtocolError::Startup("it is cut short")),
        Failure::Protocol(ProtocolError::Version { major: 2, minor: 0 }),
        connect(ConnectError::Io { address: address.clone(), source: Arc::new(refused) }),
        connect(ConnectError::Timeout(address.clone())),
        connect(ConnectError::Refused { address: address.clone(), refusal: refusal.clone() }),
        connect(ConnectError::Auth {
            address: address.clone(),
            source: AnswerError::NoSecret(Method::ScramSha256),
        }),
        connect(ConnectError::Protocol { address, source: ProtocolError::Unexpected(b'?') }),
        Failure::Lease(LeaseError::Timeout { waited: Duration::from_secs(120), leased: 20, size: 20 }),
        Failure::Lease(LeaseError::Queue { waiting: 10_000 }),
        Failure::NoPrimary,
        Failure::NoReplica,
        Failure::NoServer,
        Failure::ServerSaid(refusal.response.clone()),
        Failure::ServerLost,
        Failure::SessionLost,
        Failure::OutcomeUnknown(String::new()),
        Failure::SessionUnknown("terminating connection due to administrator command (57P01)".to_owned()),
        Failure::FailoverFull(10_000),
        Failure::ServerProtocol(ProtocolError::Unexpected(b'1')),
        Failure::StatementMode,
        Failure::InFailedTransaction,
        Failure::Cancelled,
        Failure::BeginRefused,
        Failure::ReplicaTransaction,
        Failure::Recall,
        Failure::Rejected { rule: "no reports".to_owned(), message: "ask the report server".to_owned() },
        Failure::OwnMixed,
        Failure::NoConsole("ann".to_owned()),
        Failure::Refused(crate::client::Refusal::new(SqlState::SYNTAX_ERROR, "no", "yes")),
        Failure::Replication,
        Failure::NoUser,
        Failure::UnknownDatabase("shop".to_owned()),
        Failure::Password("ann".to_owned()),
        Failure::TooManyClients(10_000),
        Failure::LoginTimeout,
        Failure::IdleTimeout,
        Failure::Ending,
        Failure::Terminated,
        Failure::DatabaseGone,
        Failure::DatabaseMoved,
        Failure::Missed(Missed::Lost),
        Failure::Missed(Missed::Full),
        Failure::IdleInTransaction,
        Failure::TransactionTimedOut,
    ];
    all.iter().for_each(visit);
    all
}

/// Every variant by name.
fn visit(failure: &Failure) {
    match failure {
        Failure::Protocol(_)
        | Failure::Lease(_)
        | Failure::NoPrimary
        | Failure::NoReplica
        | Failure::NoServer
        | Failure::ServerSaid(_)
        | Failure::ServerLost
        | Failure::SessionLost
        | Failure::OutcomeUnknown(_)
        | Failure::Unflushed(_)
        | Failure::SessionUnknown(_)
        | Failure::FailoverFull(_)
        | Failure::ServerProtocol(_)
        | Failure::OwnMixed
        | Failure::NoConsole(_)
        | Failure::Refused(_)
        | Failure::StatementMode
        | Failure::Rejected { .. }
        | Failure::InFailedTransaction
        | Failure::BeginRefused
        | Failure::Cancelled
        | Failure::ReplicaTransaction
        | Failure::Recall
        | Failure::Replication
        | Failure::NoUser
        | Failure::UnknownDatabase(_)
        | Failure::Password(_)
        | Failure::TooManyClients(_)
        | Failure::LoginTimeout
        | Failure::IdleTimeout
        | Failure::IdleInTransaction
        | Failure::Ending
        | Failure::Terminated
        | Failure::DatabaseGone
        | Failure::DatabaseMoved
        | Failure::Missed(_)
        | Failure::TransactionTimedOut => {}
    }
}

/// The fields of the ErrorResponse, those that are there.
fn rendered(failure: &Failure) -> String {
    let mut out = BytesMut::new();
    failure.write(&mut out, Severity::Error);
    let mut text = String::new();
    for field in out[HEADER..].split(|byte| *byte == 0).filter(|field| !field.is_empty()) {
        let value = str::from_utf8(&field[1..]).unwrap();
        match field[0] {
            b'C' => text.push_str(value),
            b'M' => writeln!(text, "  {value}").unwrap(),
            b'D' => writeln!(text, "       detail: {value}").unwrap(),
            b'H' => writeln!(text, "       hint: {value}").unwrap(),
            _ => {}
        }
    }
    text
}

#[test]
fn every_failure_reads_well() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/errors.txt");
    let expected: String = all().iter().map(rendered).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{}: set UPDATE_GOLDEN=1 to rewrite it", path.display());
}

#[test]
fn what_is_counted_is_what_is_told() {
    for failure in all() {
        let code = failure.code();
        assert!(rendered(&failure).as_bytes().starts_with(&code), "{failure:?}");
        assert_ne!(&code, b"XX000", "{failure:?} has no words of its own");
    }
}
