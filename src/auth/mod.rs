//! Who a client is, and how pgweir says who it is to a server: machines of messages, without a socket.
//!
//! [`Directory`] knows the users. It hands out one [`Challenge`] per client login, which speaks the server's side of
//! PostgreSQL's authentication (docs, chapter "Message Flow", section "Start-up"); [`Answer`] speaks the client's side when
//! pgweir itself logs in to a server.

mod answer;
mod challenge;
mod directory;
mod md5;
mod message;
mod options;
mod rejection;
mod scram;
mod verifier;

#[cfg(test)]
mod tests;

pub use answer::{Answer, AnswerError, Done, Method};
pub use challenge::{Challenge, Progress};
pub use directory::Directory;
pub use options::{AuthType, Options, Secret};
pub use rejection::{Rejection, Violation};
