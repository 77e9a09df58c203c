//! One task per server asks it who it is and how it is; the [`Cluster`] holds what they and the clients found out.

mod ask;
mod cluster;
mod options;
mod probe;
#[cfg(test)]
mod tests;

pub use cluster::Cluster;
pub use options::Options;
