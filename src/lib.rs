//! pgweir: a read/write-splitting proxy for PostgreSQL.
//!
//! The list of modules below is the architecture: **a module may import only modules declared above it**, and a test
//! (`tests/offline/tidy.rs`) holds it to that. `docs/architecture.md` has the picture and the invariants by name.

// Words: values that every floor uses.
pub mod clock;

pub mod ids;

pub mod position;

pub mod metrics;

// What the bytes and the text say. Pure: no socket, no clock, no global.
pub mod wire;

pub mod sql;

// Judgement. Pure: values in, values and reasons out.
pub mod cluster;

pub mod fresh;

pub mod route;

// Sockets.
pub mod net;

pub mod auth;

pub mod server;

pub mod pool;

pub mod monitor;

pub mod counter;

// One client's life.
pub mod client;

// Operators.
pub mod admin;

// Assembly.
pub mod config;

pub mod app;

pub mod cli;
