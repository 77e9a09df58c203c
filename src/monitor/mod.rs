//! One task per server asks it who it is and how it is.

mod options;

pub use options::Options;
