//! A primary and its replicas: the snapshot of who is up, who is primary, and who may not be used. Pure.
//!
//! Invariants, each with a test:
//! - `primary()` is a server that claims to be one, was not found down, and is neither fenced nor foreign; if it was down
//!   before, or is asked for the first time, the others were asked since.
//! - `replicas()` are up, in recovery, of the cluster's own system, not on an older timeline than the primary, and neither
//!   drained nor removed.

mod balance;
mod health;
mod role;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::clock::Instant;
use crate::ids::Node;
use crate::position::Reached;

pub use balance::{Balance, Candidate, Load, Spread, latency_after, latency_since};
pub use health::Health;
pub use role::{Role, Standing};

/// What a passing probe says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeResult {
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// The number that `initdb` gave the system; none where the role may not read it.
    pub system_identifier: Option<u64>,
    /// The timeline written or received; 0 where it is not known.
    pub timeline: u32,
    /// `server_version_num`.
    pub version: u32,
    /// How far it has come.
    pub reached: Reached,
    /// Its commits wait for replicas: `synchronous_standby_names` of a primary.
    pub synchronous: bool,
}

/// Something that was learned about a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A probe passed.
    Probed(ProbeResult),
    /// A probe failed or took too long.
    ProbeFailed(String),
    /// A connection for clients could not be opened.
    ConnectFailed(String),
    /// An open connection broke.
    Lost(String),
    /// It refused a write, or ended connections: it may be primary no more.
    Doubted(String),
}

/// Whether the operator wants a server to be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Duty {
    /// Yes.
    #[default]
    Serving,
    /// It gets no new reads. As primary it goes on taking the writes: they have nowhere else to go.
    Draining,
    /// It is not part of the cluster any more.
    Removed,
}

impl std::fmt::Display for Duty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Removed => "removed",
        })
    }
}

/// Who named a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    /// The configuration.
    #[default]
    File,
    /// The operator, in the console.
    Console,
    /// It is one address of a host name.
    Dns,
    /// Another server that it replicates from, or that replicates from it.
    Replication,
}

impl Origin {
    /// Whether nobody named it: it was found.
    #[must_use]
    pub fn is_found(self) -> bool {
        matches!(self, Self::Dns | Self::Replication)
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Console => "console",
            Self::Dns => "dns",
            Self::Replication => "replication",
        }
    }
}

/// What the operator says of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Orders {
    /// Who named it.
    pub origin: Origin,
    /// Whether it is to be used.
    pub duty: Duty,
    /// Its share of the reads beside the others'.
    pub weight: u32,
    /// Where it stands; none: nobody said.
    pub zone: Option<Arc<str>>,
}

impl Orders {
    /// The most that a server weighs.
    pub const MOST_WEIGHT: u32 = 1_000;
}

impl Default for Orders {
    fn default() -> Self {
        Self { origin: Origin::File, duty: Duty::Serving, weight: 1, zone: None }
    }
}

/// What is known of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerView {
    /// Which server.
    pub node: Node,
    /// Its address, as printed.
    pub address: String,
    /// Whether it answers.
    pub health: Health,
    /// What it was when it was last asked.
    pub role: Role,
    /// Whether it may be used at all.
    pub standing: Standing,
    /// The system that it is a copy of, if known.
    pub system_identifier: Option<u64>,
    /// Its timeline when it was last asked; 0: not known.
    pub timeline: u32,
    /// Its version as a number (`150006`); 0: not known.
    pub version: u32,
    /// A bit for each server that is still to be asked before this one, which was down and came back as primary, or is one when
    /// it is asked for the first time, is believed: the cluster may have moved on meanwhile.
    pub unconfirmed: u64,
    /// The last failure, empty when it is up.
    pub why: String,
    /// Since when its health is what it is; none before the first event.
    pub since: Option<Instant>,
    /// When it was first seen up since it was new or down; a connection that broke in between does not make it a cold one.
    pub back: Option<Instant>,
    /// What the operator says of it.
    pub orders: Orders,
}

impl ServerView {
    /// A server of which nothing is known yet.
    #[must_use]
    pub fn new(node: Node, address: String) -> Self {
        Self {
            node,
            address,
            health: Health::Unknown,
            role: Role::Unknown,
            standing: Standing::Unproven,
            system_identifier: None,
            timeline: 0,
            version: 0,
            unconfirmed: 0,
            why: String::new(),
            since: None,
            back: None,
            orders: Orders::default(),
        }
    }

    /// Is it part of the cluster?
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.orders.duty != Duty::Removed
    }

    /// May writes go there?
    fn is_usable_primary(&self) -> bool {
        self.is_member()
            && self.role == Role::Primary
            && self.health.keeps_primary()
            && self.standing == Standing::Member
            && self.unconfirmed == 0
    }

    /// May reads go there?
    fn is_usable_replica(&self) -> bool {
        self.orders.duty == Duty::Serving
            && self.role == Role::Replica
            && self.health == Health::Up
            && self.standing == Standing::Member
    }
}

/// The snapshot of a cluster: made anew for each event, never changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// The servers, each at its node's index. One that was removed keeps its place.
    pub servers: Vec<ServerView>,
    /// The system that the cluster is, once that is settled.
    pub system_identifier: Option<u64>,
    /// That has been settled once: servers that come later do not put it in doubt.
    pub settled: bool,
}

impl View {
    /// The server that takes the writes. One that lost a connection stays primary until a probe fails.
    #[must_use]
    pub fn primary(&self) -> Option<Node> {
        self.servers.iter().find(|server| server.is_usable_primary()).map(|server| server.node)
    }

    /// The servers that may take reads, beside the primary.
    pub fn replicas(&self) -> impl Iterator<Item = Node> + Clone {
        self.servers.iter().filter(|server| server.is_usable_replica()).map(|server| server.node)
    }

    /// Whether a server has lost or refused a connection, and was not asked since.
    #[must_use]
    pub fn is_suspect(&self, node: Node) -> bool {
        self.server(node).is_some_and(|server| server.health == Health::Suspect)
    }

    /// Whether a server that is no replica now may know more than these: it says that it is primary and is not confirmed yet, or its
    /// probe is on its way.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.members().any(|server| {
            let shut = matches!(server.standing, Standing::Fenced | Standing::Foreign);
            let claims = server.role == Role::Primary && server.health != Health::Down;
            !shut && (claims || server.health == Health::Suspect)
        })
    }

    /// One server.
    #[must_use]
    pub fn server(&self, node: Node) -> Option<&ServerView> {
        self.servers.get(node.index())
    }

    /// Whether what `now` says of a server makes connections useless that were opened while it was what `self` says: a
    /// write over one of them might go to a server that is primary no more. What a replica does keeps its connections.
    #[must_use]
    pub fn is_over(&self, now: &Self, node: Node) -> bool {
        let (Some(was), Some(is)) = (self.server(node), now.server(node)) else { return false };
        let shut = |server: &ServerView| matches!(server.standing, Standing::Fenced | Standing::Foreign);
        let other_role = was.role != is.role && was.role != Role::Unknown;
        let other_timeline = is.role == Role::Primary && was.timeline != is.timeline && was.timeline != 0;
        other_role || other_timeline || shut(is) && !shut(was)
    }

    /// The servers that are part of the cluster.
    pub fn members(&self) -> impl Iterator<Item = &ServerView> + Clone {
        self.servers.iter().filter(|server| server.is_member())
    }

    /// The snapshot in which the operator says that of `node`, which stands there under that address; it may be new, or come
    /// back: then nothing is known of it. A node after the next free one is ignored.
    #[must_use]
    pub fn order(&self, node: Node, address: &str, orders: Orders) -> Self {
        let mut view = self.clone();
        let incumbent = self.primary();
        if view.servers.len() == node.index() {
            view.servers.push(ServerView::new(node, address.to_owned()));
        }
        let Some(server) = view.servers.get_mut(node.index()) else { return view };
        if !server.is_member() && orders.duty != Duty::Removed || server.address != address {
            *server = ServerView::new(node, address.to_owned());
        }
        server.orders = orders;
        if !server.is_member() {
            view.servers.iter_mut().for_each(|server| server.unconfirmed &= !node.bit());
        }
        role::settle(&mut view, incumbent);
        view
    }

    /// The snapshot after `event` happened to `node`.
    #[must_use]
    pub fn apply(&self, node: Node, event: Event, now: Instant) -> Self {
        let mut view = self.clone();
        let incumbent = self.primary();
        if matches!(event, Event::Probed(_) | Event::ProbeFailed(_)) {
            view.servers.iter_mut().for_each(|server| server.unconfirmed &= !node.bit());
        }
        let Some(was) = self.server(node).map(|server| server.health) else { return view };
        let may_have_taken_over = |other: &&ServerView| match was {
            Health::Down => other.health.keeps_primary(),
            Health::Unknown => other.health == Health::Unknown,
            Health::Up | Health::Suspect => false,
        };
        let others = view.members().filter(|other| other.node != node).filter(may_have_taken_over);
        let others = others.fold(0, |bits, other| bits | other.node.bit());
        let Some(server) = view.servers.get_mut(node.index()) else { return view };
        let health = server.health.after(&event);
        if health != server.health || server.since.is_none() {
            server.since = Some(now);
        }
        if health == Health::Up && (server.back.is_none() || was == Health::Down) {
            server.back = Some(now);
        }
        server.health = health;
        match event {
            Event::Probed(result) => {
                server.role = if result.in_recovery { Role::Replica } else { Role::Primary };
                // A role that lost the right to read the identifier does not make the server another one.
                server.system_identifier = result.system_identifier.or(server.system_identifier);
                server.timeline = result.timeline;
                server.version = result.version;
                server.why.clear();
                if result.in_recovery {
                    server.unconfirmed = 0;
                } else if matches!(was, Health::Down | Health::Unknown) {
                    server.unconfirmed = others;
                }
            }
            Event::ProbeFailed(why) | Event::ConnectFailed(why) | Event::Lost(why) | Event::Doubted(why) => {
                server.why = why
            }
        }
        role::settle(&mut view, incumbent);
        view
    }
}
