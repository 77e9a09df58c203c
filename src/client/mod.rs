//! One client's life, from handshake to goodbye.

mod options;

pub use options::Options;
