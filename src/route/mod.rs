//! Where a unit goes, and why: a pure function of what it says, the session it comes from, and the servers there are.

mod builtins;
pub mod catalog;
mod facts;
mod hint;
mod judge;
mod memo;
mod own;
mod reason;
mod shapes;

pub use catalog::{Catalog, Known, Scope, SearchPath};
pub use facts::{Class, Facts};
pub use hint::Wish;
pub use judge::{Judge, JudgeOptions};
pub use memo::Memo;
pub use own::{Own, OwnCommand, OwnError, OwnText, Setting, own_text, resets_all};
pub use reason::Reason;
pub use shapes::{MAX_SHAPES, ShapeId, ShapeRow, Shapes};

#[cfg(test)]
mod tests;

/// The role of the server that a unit goes to.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// The server that accepts writes.
    Primary,
    /// Any replica that may take reads.
    Replica,
}

impl Target {
    /// The name in metrics, logs and the console.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Target::Primary => "primary",
            Target::Replica => "replica",
        }
    }

    /// 0 for the primary, 1 for replicas: for arrays of counters.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What earlier units of the same client oblige this one to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// Where an open transaction lives.
    pub transaction: Option<Target>,
    /// Session state lives on a connection to the primary.
    pub pinned: bool,
    /// `standard_conforming_strings` is on, and the encoding never has a backslash as the second byte of a character.
    pub text_safe: bool,
}

/// Which servers could take the unit now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topology {
    /// There is a primary.
    pub primary: bool,
    /// How many replicas are eligible.
    pub replicas: u16,
}

/// Where a unit goes, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The role of the server.
    pub target: Target,
    /// Why.
    pub reason: Reason,
}

/// Decides where a unit goes. The steps stand in order of weight: an open transaction, state left on a connection, a
/// text that cannot be trusted, and only then what the unit says. A read goes to the primary only for want of replicas;
/// everything that is not a read goes there whether or not it is up, so that it waits for the next one.
#[must_use]
pub fn decide(facts: Facts, session: Session, topology: Topology) -> Route {
    let primary = |reason| Route { target: Target::Primary, reason };
    let replica = |reason| Route { target: Target::Replica, reason };
    match session.transaction {
        Some(Target::Primary) => return primary(Reason::InTransaction),
        Some(Target::Replica) => return replica(Reason::InReadOnlyTransaction),
        None => {}
    }
    if session.pinned {
        return primary(Reason::SessionState);
    }
    if !session.text_safe {
        return primary(Reason::UnsafeText);
    }
    match facts.class {
        Class::Read | Class::BeginReadOnly if topology.replicas > 0 => replica(facts.reason),
        Class::Read | Class::BeginReadOnly => primary(Reason::NoReplica),
        Class::Empty
        | Class::InTransaction
        | Class::End
        | Class::Begin
        | Class::Session
        | Class::Write
        | Class::Own => primary(facts.reason),
    }
}
