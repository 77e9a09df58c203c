//! Tests against real PostgreSQL servers, one module per promise. Each test starts its own cluster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "these are tests, their helper functions too"
)]

mod accidents;
mod addresses;
mod advise;
mod auth;
mod balance;
mod baseline;
mod begin;
mod cancel;
mod catalog;
mod chaos;
mod cli;
mod clients;
mod clients_matrix;
mod console;
mod counters;
mod counting;
mod crowd;
mod cutting;
mod databases;
mod discovery;
mod dump;
mod failover;
mod failures;
mod fixture;
mod fresh;
mod hearing;
mod history;
mod kept;
mod leaving;
mod listening;
mod memory;
mod monitor;
mod nodes;
mod oracle;
mod pgbench;
mod pooling;
mod prepared;
mod programs;
mod protocol;
mod proxy;
mod raw;
mod relay;
mod retries;
mod roll;
mod rotation;
mod routes;
mod rules;
mod servers;
mod settings;
mod sharing;
mod signals;
mod speaker;
mod storms;
mod told;
mod wire;
