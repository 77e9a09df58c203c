//! The units that run on a server connection: since when, and what is kept of each.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fallback::Permit;
use super::limit::Limit;
use super::shared::Database;
use crate::clock::{self, Instant};
use crate::cluster::Balance;
use crate::ids::Node;
use crate::monitor::Cluster;
use crate::route::ShapeId;

/// Units that run on a server: takes its part of the cluster's count back when dropped.
pub(super) struct Running {
    cluster: Arc<Cluster>,
    node: Node,
    units: u32,
    /// When the unit that is being answered began; after the last one, when it was answered.
    pub(super) since: Instant,
    /// Where the unit that is being answered is counted, and those behind it.
    first: Started,
    /// [`Positions::life`](crate::monitor::Positions::life) of the server when those that run began.
    pub(super) life: u32,
    /// How long units take there is worth knowing.
    measures: bool,
    /// The right of those that run to read on the primary for want of a replica.
    pub(super) permit: Option<Permit>,
    behind: VecDeque<Started>,
}

/// What is kept of a unit that runs.
#[derive(Clone, Copy, Default)]
struct Started {
    shape: ShapeId,
    limit: Option<Limit>,
}

impl Running {
    pub(super) fn new(database: &Database, node: Node, since: Instant) -> Self {
        Self {
            cluster: database.cluster.clone(),
            node,
            units: 0,
            since,
            first: Started::default(),
            life: 0,
            measures: database.spread.balance == Balance::LeastLatency,
            permit: None,
            behind: VecDeque::new(),
        }
    }

    /// Whether one runs, and no other.
    pub(super) fn is_one(&self) -> bool {
        self.units == 1
    }

    /// How long the unit that is being answered may take.
    pub(super) fn limit(&mut self) -> &mut Option<Limit> {
        &mut self.first.limit
    }

    /// A unit was sent, which is counted there, and may take so long.
    pub(super) fn begin(&mut self, shape: ShapeId, limit: Option<Limit>) {
        let started = Started { shape, limit };
        if self.units == 0 {
            self.since = clock::now();
            self.life = self.cluster.positions().life(self.node);
            self.first = started;
        } else {
            self.behind.push_back(started);
        }
        self.units += 1;
        self.cluster.begin(self.node);
    }

    /// A unit was answered. Returns where it is counted, and how long it took.
    pub(super) fn end(&mut self) -> (ShapeId, clock::Duration) {
        let now = clock::now();
        let time = now.duration_since(self.since);
        self.since = now;
        let shape = self.first.shape;
        self.first.limit = None;
        if self.units > 0 {
            self.units -= 1;
            self.cluster.end(self.node);
            if self.measures {
                self.cluster.took(self.node, time, now);
            }
        }
        if self.units == 0 {
            self.permit = None;
        }
        if let Some(next) = self.behind.pop_front() {
            self.first = next;
        }
        (shape, time)
    }

    /// The unit that was sent last goes on elsewhere.
    pub(super) fn give_up(&mut self) {
        self.behind.pop_back();
        if self.units > 0 {
            self.units -= 1;
            self.cluster.end(self.node);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for _ in 0..self.units {
            self.cluster.end(self.node);
        }
        if self.units > 0 {
            self.cluster.note_lost(self.node);
        }
    }
}
