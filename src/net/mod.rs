//! Sockets: addresses, streams, windows, listeners.

mod address;
mod listen;
mod resolve;
mod stream;
mod window;

pub use address::{Address, AddressError};
pub use listen::Listener;
pub use resolve::{Answer, Resolver};
pub use stream::{Detached, Stream};
pub use window::{Buffers, WINDOW, Window};
