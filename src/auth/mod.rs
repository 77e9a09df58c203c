//! Who a client is, and how pgweir says who it is to a server.

mod options;

pub use options::{AuthType, Options, Secret};
