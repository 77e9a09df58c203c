//! An open connection to a PostgreSQL server.

mod options;

pub use options::Login;
