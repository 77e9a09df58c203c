//! What is known of a statement, or of a unit of several: its class, the reason for it, and what it leaves behind.

use super::reason::Reason;

/// What a statement does, as far as routing cares. The order is that of strength: see [`Facts::and`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// No statement at all.
    Empty,
    /// Proven to read only: a replica may run it.
    Read,
    /// Opens a transaction that a replica can run whole.
    BeginReadOnly,
    /// Belongs to the open transaction: SAVEPOINT, RELEASE, ROLLBACK TO, SET LOCAL, SET TRANSACTION, cursors.
    InTransaction,
    /// Ends the whole transaction: COMMIT, ROLLBACK, PREPARE TRANSACTION.
    End,
    /// Opens a transaction for the primary.
    Begin,
    /// Changes the session: SET, LISTEN, PREPARE, DISCARD, temporary objects, session locks.
    Session,
    /// Writes, locks, changes definitions, or cannot be seen through.
    Write,
}

/// What the text of a statement, or of a unit of several statements, says.
// Four independent axes that callers read one at a time; an enum each would only spell "yes" and "no" differently.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// What it does.
    pub class: Class,
    /// Why it goes to the primary, or [`Reason::Read`] if it need not.
    pub reason: Reason,
    /// It leaves state on the server connection that no other client may meet.
    pub pins: bool,
    /// A replica would accept it without an error although it must not run there.
    pub silent: bool,
    /// It has a COPY.
    pub copy: bool,
    /// It has transaction control.
    pub transaction: bool,
}

impl Facts {
    /// No statement.
    pub const EMPTY: Facts = Facts {
        class: Class::Empty,
        reason: Reason::Empty,
        pins: false,
        silent: false,
        copy: false,
        transaction: false,
    };

    /// The facts of a unit that holds both: the stronger class with its reason, and the effects of both. Only reads
    /// joined with reads stay a read; a transaction opened READ ONLY beside anything else becomes one for the primary.
    #[must_use]
    pub fn and(self, other: Facts) -> Facts {
        let (weak, strong) = if other.class > self.class { (self, other) } else { (other, self) };
        let opens = weak.class == Class::BeginReadOnly || strong.class == Class::BeginReadOnly;
        let (class, reason) = if opens && weak.class != Class::Empty && strong.class < Class::Begin {
            (Class::Begin, Reason::Begin)
        } else {
            (strong.class, strong.reason)
        };
        Facts {
            class,
            reason,
            pins: self.pins || other.pins,
            silent: self.silent || other.silent,
            copy: self.copy || other.copy,
            transaction: self.transaction || other.transaction,
        }
    }
}
