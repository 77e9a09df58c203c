//! The PostgreSQL wire protocol 3.0 (docs, chapter 53): bytes to headers and views, and the messages pgweir itself
//! speaks. Pure.
//!
//! Nothing here copies or allocates for a message that is only passed on: a [`Header`] is found in a window, a view
//! borrows from it, and the bytes go out as they came in.

pub mod answer;
pub mod backend;
mod error;
pub mod frame;
pub mod frontend;
pub mod sqlstate;
pub mod startup;
pub mod write;

pub use error::ProtocolError;
pub use frame::Header;
pub use sqlstate::SqlState;

/// The state of the transaction that a `ReadyForQuery` announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionStatus {
    /// `I`: no transaction.
    Idle,
    /// `T`: in a transaction block.
    Open,
    /// `E`: in a failed transaction block; all but its end is refused.
    Failed,
}

impl TransactionStatus {
    /// The status byte of `ReadyForQuery`.
    #[must_use]
    pub fn as_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }

    /// From the status byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::Open),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }
}
