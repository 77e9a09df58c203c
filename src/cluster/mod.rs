//! A primary and its replicas: the snapshot of who is up, who is primary, and how busy each is. Pure.

mod balance;

pub use balance::Balance;
