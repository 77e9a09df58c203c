//! What the operator chooses about authentication.

use std::collections::HashMap;
use std::sync::Arc;

/// How clients prove who they are. The names are PgBouncer's and `pg_hba.conf`'s.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AuthType {
    /// Nobody is asked anything. The user need not be listed.
    Trust,
    /// MD5 challenge (PostgreSQL docs, chapter 53.2). A user whose secret is a SCRAM verifier is asked for SCRAM instead.
    Md5,
    /// SCRAM-SHA-256 (RFC 5802, RFC 7677).
    #[default]
    ScramSha256,
}

/// What is known of a user's password.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The password itself: serves clients by any method, and logs in to servers by any method.
    Plain(String),
    /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as in `pg_authid`: serves clients by SCRAM only.
    Scram(String),
    /// `md5` and 32 hex digits, as in `pg_authid`: serves clients by MD5, and logs in to servers that ask for MD5.
    Md5(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain(..)",
            Self::Scram(_) => "Scram(..)",
            Self::Md5(_) => "Md5(..)",
        })
    }
}

/// Who may come in, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The method.
    pub auth_type: AuthType,
    /// The users and what is known of their passwords. With `trust` the passwords serve only to log in to servers.
    pub users: HashMap<Arc<str>, Secret>,
}
