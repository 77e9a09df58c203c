//! Sockets: addresses, streams, windows, listeners.

mod address;
mod listen;
mod stream;
mod window;

pub use address::{Address, AddressError};
pub use listen::Listener;
pub use stream::{Detached, Stream};
pub use window::{Buffers, WINDOW, Window};
