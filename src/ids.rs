//! Names that must not be swapped: nodes, clients, cancel keys.

use std::fmt;
use std::sync::Arc;

/// Most servers that a cluster has, those that were removed a moment ago counted: a set of them is a number with a bit for each.
pub const MOST_NODES: usize = 64;

/// A server of a cluster: its place in the order in which servers came. Stable as long as the server is part of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Node(pub u16);

impl Node {
    /// The place in the list, for indexing.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its bit in a set of nodes; none for those from the 65th on.
    #[must_use]
    pub fn bit(self) -> u64 {
        if self.0 < 64 { 1 << self.0 } else { 0 }
    }
}

/// A client connection, numbered from 1 in the order of arrival.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ClientId(pub u64);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a cancel request names (PostgreSQL docs, "BackendKeyData" in chapter 53.7): a process number and a secret.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct CancelKey {
    /// The process number, which also stands in clear text in the server's logs.
    pub process: u32,
    /// The secret, of 4 bytes or, from protocol 3.2 on, of 4 to 256; compared in constant time, never printed.
    pub secret: Arc<[u8]>,
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey({})", self.process)
    }
}
