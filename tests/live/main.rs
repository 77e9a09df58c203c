//! Tests against real PostgreSQL servers, one module per promise. Each test starts its own cluster.

mod fixture;
