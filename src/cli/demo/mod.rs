//! `pgweir demo`: a real cluster, a small site's load, and a screen that shows where every statement went.

pub mod cluster;
