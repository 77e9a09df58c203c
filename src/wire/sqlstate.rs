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
    /// `insufficient_privilege`: a rule refuses a statement.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    /// `too_many_connections`: of clients, or a pool's wait that took too long.
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    /// `cannot_connect_now`: no server for it at this moment.
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");
    /// `idle_session_timeout`.
    pub const IDLE_SESSION_TIMEOUT: Self = Self("57P05");
    /// `internal_error`.
    pub const INTERNAL_ERROR: Self = Self("XX000");

    /// Every one of them.
    pub const ALL: &'static [Self] = &[
        Self::CONNECTION_EXCEPTION,
        Self::CONNECTION_FAILURE,
        Self::PROTOCOL_VIOLATION,
        Self::FEATURE_NOT_SUPPORTED,
        Self::INVALID_AUTHORIZATION,
        Self::INVALID_PASSWORD,
        Self::INSUFFICIENT_PRIVILEGE,
        Self::INVALID_CATALOG_NAME,
        Self::TOO_MANY_CONNECTIONS,
        Self::CANNOT_CONNECT_NOW,
        Self::IDLE_SESSION_TIMEOUT,
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
