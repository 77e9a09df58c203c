//! One client's life, from handshake to goodbye.
//!
//! [`serve`] is the table of contents. A `Session` is one client that has logged in; its states and
//! what moves it between them stand in `session`, what it says is cut into pieces by `unit`, each piece is given a server
//! by `plan`, and `relay` moves the bytes both ways.

mod begin;
mod cancel;
mod clean;
mod console;
mod counting;
mod desk;
mod drain;
mod ears;
mod echo;
mod fail;
mod failover;
mod fallback;
mod fresh;
mod handshake;
mod idle;
mod kept;
mod limit;
mod named;
mod next;
mod options;
mod own;
mod plan;
mod preface;
mod prepared;
mod recall;
mod relay;
mod renew;
mod rerun;
mod retry;
mod roll;
mod roster;
mod running;
mod search;
mod session;
mod settings;
mod share;
mod shared;
mod signal;
mod supply;
mod told;
mod unit;
mod unwanted;
mod way;

use std::sync::Arc;

pub use cancel::Cancels;
pub use console::{CONSOLE, Console, Role};
pub use desk::{Refusal, Table};
pub use drain::Drain;
pub use failover::{Failover, watch};
pub use fallback::Fallback;
pub use options::{
    FailoverOptions, FallbackOptions, Options, ReplicaDown, Retry, SettingLimits, StatementLimits,
};
pub use retry::Budget;
pub use roster::{Card, Connected, Pin};
pub use shared::{Database, Databases, Greetings, Named, Reach, Shared};

use crate::net::Stream;

/// Serves one client until it leaves.
pub async fn serve(stream: Stream, shared: Arc<Shared>) {
    // The handshake's own state is large and short-lived: boxed, it does not weigh on an idle client.
    let Some(mut session) = Box::pin(handshake::handshake(stream, shared)).await else { return };
    let leave = session.run().await;
    Box::pin(session.leave(leave)).await;
}
