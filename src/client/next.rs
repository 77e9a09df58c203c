//! What a session waits for beside its sockets.

use super::cancel::Signalled;
use super::fresh::Ahead;
use super::session::{Held, Leave};
use crate::ids::Node;
use crate::route::Route;

/// What the loop cannot do without waiting for something else than the sockets.
pub(super) enum Next {
    /// A server connection for the piece that was cut, on that server if it can be.
    Acquire(Route, Option<Node>),
    /// A replica that is fresh enough for the piece that was cut, which has that route.
    Freshen(Route),
    /// A replica, or room on the primary, for the piece that was cut, which has that route.
    Replica(Route),
    /// The primary to show what the session has read, before the piece that was cut.
    Shown(Ahead),
    /// The position of the session, which the piece that was cut asks for.
    Position,
    /// Channels to be listened on, which the piece that was cut asks for.
    Listen,
    /// Increments to be committed, which the piece that was cut must see.
    Commit,
    /// Another client to hear of a signal, which the piece that was cut gives it.
    Signalled(Signalled),
    /// Nothing: look again.
    Nothing,
    /// A server connection that has to be reset before it goes back.
    Reset(Box<Held>),
    /// The end.
    Leave(Leave),
}
