//! Server connections, shared: who holds which, who waits.

mod options;

pub use options::{Options, PoolMode};
