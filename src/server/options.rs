//! As whom pgweir logs in to servers.

use std::sync::Arc;

use crate::auth::Secret;

/// A name and what is known of its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The role.
    pub user: Arc<str>,
    /// Its password, if the server asks for one.
    pub secret: Option<Secret>,
}
