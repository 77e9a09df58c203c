//! An open connection to a PostgreSQL server.

mod connect;
pub mod described;
mod options;
pub mod owed;
mod parameters;
mod prepared;
pub mod settings;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;

pub use connect::{ConnectError, Refusal, cancel, connect};
pub use options::Login;
pub use parameters::{Parameters, Wants};
pub use prepared::{Prepared, Registry, Shelf, names_unknown};

use crate::clock::Instant;
use crate::ids::CancelKey;
use crate::net::{Address, Stream, Window};
use crate::wire::write;
use owed::{Owed, Show};
use settings::Settings;

/// A connection that has logged in. It is in one place at a time: idle in a pool, or leased to one client.
#[derive(Debug)]
pub struct Server {
    /// The socket.
    pub stream: Stream,
    /// Where it is read into; none while the connection is idle.
    pub window: Option<Window>,
    /// The replies it owes.
    pub owed: Owed,
    /// Where it is connected to, for a cancel request.
    pub address: Arc<Address>,
    /// What a cancel request has to name.
    pub key: CancelKey,
    /// The startup parameters it was opened with: only clients with the same ones may use it.
    pub parameters: Arc<Parameters>,
    /// The `application_name` that is in force on it; none: not known.
    pub application_name: Option<Arc<str>>,
    /// What it said of its settings when it was opened (ParameterStatus), in order.
    pub reported: Vec<(String, String)>,
    /// The `search_path` that was in force when it was opened; none: not known.
    pub search_path: Option<Arc<str>>,
    /// The settings in force on it that differ from those it was opened with; none: there are none.
    pub settings: Option<Arc<Settings>>,
    /// The statements that clients share which it has.
    pub shared: Shelf,
    /// The prepared statements that it has under a name of the present client's, each with the client's number for it.
    pub prepared: HashMap<Box<[u8]>, u64, ahash::RandomState>,
    /// The number of the client's unnamed statement that it has; zero: none, or somebody else's.
    pub unnamed: u64,
    /// What its pool counted as the server's term when it was opened: in another one it must not be used.
    pub term: u64,
    /// Who may have drawn from a sequence on it last, and in which turn of the client's; zero: nobody.
    pub drawn: u64,
    /// Nobody else has drawn on it before, or what it knew of that is discarded.
    pub drawn_alone: bool,
    /// When it was opened.
    pub since: Instant,
    /// When it was last put back.
    pub idle_since: Instant,
}

impl Server {
    /// Forgets what it knew of the client that leaves it.
    pub fn forget_client(&mut self) {
        self.prepared.clear();
        self.unnamed = 0;
    }

    /// Writes a simple query of pgweir's own to `out`, whose answer the client does not see. Like every simple query it ends the
    /// unnamed statement (PostgreSQL's documentation, 55.2.3).
    pub fn query(&mut self, out: &mut BytesMut, sql: &str) {
        write::query(out, sql);
        self.owed.sent(b'Q', Show::Swallow);
        self.unnamed = 0;
    }

    /// Writes a statement of pgweir's own that goes before a unit of the client's, and without which that must not be carried out:
    /// see [`Owed::sent_preface`].
    pub fn preface(&mut self, out: &mut BytesMut, text: &[u8]) {
        write::parse_typed(out, b"", text, &[]);
        write::bind_nothing(out, b"", b"");
        write::execute(out, "");
        self.owed.sent_preface();
        self.unnamed = 0;
    }

    /// The same for a transaction, as that of [`settings::difference`]. The BEGIN takes all with it if it fails. The rest is a Query: what
    /// it changes is told at its end (ParameterStatus), and not at that of the client's unit.
    pub fn preface_transaction(&mut self, out: &mut BytesMut, texts: &[impl AsRef<str>]) {
        let Some((begin, rest)) = texts.split_first() else { return };
        self.preface(out, begin.as_ref().as_bytes());
        let rest: Vec<_> = rest.iter().map(AsRef::as_ref).collect();
        write::query(out, &rest.join(";"));
        self.owed.sent_preface_query();
    }

    /// In that turn a client may draw from a sequence on it.
    pub fn draws(&mut self, turn: u64) {
        self.drawn_alone &= self.drawn == turn || self.drawn == 0;
        self.drawn = turn;
    }

    /// Somebody may draw from a sequence on it who never asks.
    pub fn draws_unasked(&mut self) {
        (self.drawn, self.drawn_alone) = (0, false);
    }

    /// It carried out DISCARD ALL: what was set on it and prepared is gone.
    pub fn was_reset(&mut self) {
        self.forget_client();
        self.shared.clear();
        // It falls back to what the connection was opened with, which may have been another client's.
        self.application_name = None;
        self.settings = None;
    }
}
