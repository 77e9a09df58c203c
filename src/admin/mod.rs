//! What operators see: metrics and health over HTTP.

pub mod http;
