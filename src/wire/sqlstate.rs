//! The SQLSTATEs that pgweir itself raises (PostgreSQL docs, appendix A), one row each.

use std::fmt;

/// Five characters that say what kind of error it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(&'static str);

impl SqlState {
    /// `connection_exception`: the server could not be reached.
    pub const CONNECTION_EXCEPTION: Self = Self("08000");
    /// `connection_failure`: an established server connection broke.
    pub const CONNECTION_FAILURE: Self = Self("08006");
    /// `transaction_resolution_unknown`: it broke, and nobody can know what became of what was sent.
    pub const TRANSACTION_RESOLUTION_UNKNOWN: Self = Self("08007");
    /// `protocol_violation`.
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    /// `feature_not_supported`.
    pub const FEATURE_NOT_SUPPORTED: Self = Self("0A000");
    /// `invalid_authorization_specification`.
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    /// `invalid_password`.
    pub const INVALID_PASSWORD: Self = Self("28P01");
    /// `invalid_catalog_name`: a database that pgweir does not serve.
    pub const INVALID_CATALOG_NAME: Self = Self("3D000");
    /// `invalid_parameter_value`: a setting of pgweir's own cannot have that value.
    pub const INVALID_PARAMETER_VALUE: Self = Self("22023");
    /// `in_failed_sql_transaction`.
    pub const IN_FAILED_SQL_TRANSACTION: Self = Self("25P02");
    /// `idle_in_transaction_session_timeout`.
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Self = Self("25P03");
    /// `invalid_sql_statement_name`: a prepared statement that was not prepared.
    pub const INVALID_STATEMENT_NAME: Self = Self("26000");
    /// `invalid_cursor_name`: a portal that was not bound.
    pub const INVALID_CURSOR_NAME: Self = Self("34000");
    /// `insufficient_privilege`.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    /// `syntax_error`: a command that the console does not know.
    pub const SYNTAX_ERROR: Self = Self("42601");
    /// `undefined_object`: a setting of pgweir's own that there is not.
    pub const UNDEFINED_OBJECT: Self = Self("42704");
    /// `too_many_connections`: of clients, or a pool's wait that took too long.
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    /// `program_limit_exceeded`.
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self("54000");
    /// `object_not_in_prerequisite_state`: what would have to come first is refused, or what sequences gave is not known here.
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: Self = Self("55000");
    /// `lock_not_available`: what has to come first did not come in time.
    pub const LOCK_NOT_AVAILABLE: Self = Self("55P03");
    /// `admin_shutdown`.
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    /// `query_canceled`.
    pub const QUERY_CANCELED: Self = Self("57014");
    /// `cannot_connect_now`: no server for it at this moment.
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");
    /// `idle_session_timeout`.
    pub const IDLE_SESSION_TIMEOUT: Self = Self("57P05");
    /// `successful_completion`.
    pub const SUCCESSFUL_COMPLETION: Self = Self("00000");
    /// `name_too_long`.
    pub const NAME_TOO_LONG: Self = Self("42622");
    /// `internal_error`.
    pub const INTERNAL_ERROR: Self = Self("XX000");

    /// Every one of them.
    pub const ALL: &'static [Self] = &[
        Self::CONNECTION_EXCEPTION,
        Self::CONNECTION_FAILURE,
        Self::TRANSACTION_RESOLUTION_UNKNOWN,
        Self::PROTOCOL_VIOLATION,
        Self::FEATURE_NOT_SUPPORTED,
        Self::INVALID_AUTHORIZATION,
        Self::INVALID_PASSWORD,
        Self::INVALID_CATALOG_NAME,
        Self::INVALID_PARAMETER_VALUE,
        Self::IN_FAILED_SQL_TRANSACTION,
        Self::IDLE_IN_TRANSACTION_TIMEOUT,
        Self::INVALID_STATEMENT_NAME,
        Self::INVALID_CURSOR_NAME,
        Self::INSUFFICIENT_PRIVILEGE,
        Self::SYNTAX_ERROR,
        Self::UNDEFINED_OBJECT,
        Self::TOO_MANY_CONNECTIONS,
        Self::PROGRAM_LIMIT_EXCEEDED,
        Self::OBJECT_NOT_IN_PREREQUISITE_STATE,
        Self::LOCK_NOT_AVAILABLE,
        Self::ADMIN_SHUTDOWN,
        Self::QUERY_CANCELED,
        Self::CANNOT_CONNECT_NOW,
        Self::IDLE_SESSION_TIMEOUT,
        Self::SUCCESSFUL_COMPLETION,
        Self::NAME_TOO_LONG,
        Self::INTERNAL_ERROR,
    ];

    /// The five characters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_is_five_characters_and_there_once() {
        let all: HashSet<_> = SqlState::ALL.iter().map(|state| state.as_str()).collect();
        assert_eq!(all.len(), SqlState::ALL.len());
        assert!(all.iter().all(|code| code.len() == 5));
    }
}
