//! Sockets: addresses, streams, windows, listeners.

mod address;

pub use address::{Address, AddressError};
