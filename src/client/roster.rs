//! Who is connected, and what keeps a server connection to itself, for the console.

use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Instant;
use crate::net::Address;
use crate::route::Reason;

/// A client that has logged in.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its user.
    pub user: Arc<str>,
    /// The database that it asked for.
    pub database: Arc<str>,
    /// The `application_name` that it connected with.
    pub application_name: Arc<str>,
    /// Where it comes from; none: a Unix socket.
    pub address: Option<IpAddr>,
    /// Since when it is there.
    pub since: Instant,
}

/// Why a client keeps a server connection beyond its transactions, and since when.
#[derive(Clone, Copy, Debug)]
pub struct Pin {
    /// What was left there.
    pub reason: Reason,
    /// Since when.
    pub since: Instant,
}

/// A client as it is now.
#[derive(Clone, Debug)]
pub struct Connected {
    /// Who it is.
    pub card: Arc<Card>,
    /// `active`: a server works for it, or is its own in an open transaction; `shared`: together with others; `waiting`: for a server
    /// connection; `idle`.
    pub state: &'static str,
    /// The server that works for it.
    pub server: Option<Arc<Address>>,
    /// What it has left on a server connection to the primary.
    pub pin: Option<Pin>,
}
