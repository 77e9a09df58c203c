//! Which replicas are fresh enough for a read: a pure function of what the read needs and where the replicas are.
//!
//! A write has a [`Ticket`]: how many questions for the primary's position had been asked when it was acknowledged. The answer to
//! any later question is a position at or past that of the write, and that is what a replica must have replayed. What is not
//! known makes a read stricter, never looser.

mod history;
mod tables;
#[cfg(test)]
mod tests;
mod track;

use std::fmt;

use crate::clock::{Duration, Instant};
use crate::ids::Node;
use crate::position::Lsn;

pub use history::History;
pub use tables::{Tables, Writes};
pub use track::{Ticket, Track};

/// What a read must see. The order is that of strictness.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Level {
    /// Nothing in particular, but nothing older than what its session has read.
    Eventual,
    /// What its session has written.
    Session,
    /// What anybody has written through this pgweir, as far as it is about the same tables.
    #[default]
    Database,
    /// Everything: it goes to the primary.
    Primary,
}

impl Level {
    /// Every one of them, by name.
    pub const NAMES: &'static [&'static str] = &["eventual", "session", "database", "primary"];

    /// From its name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Level> {
        [Level::Eventual, Level::Session, Level::Database, Level::Primary]
            .into_iter()
            .find(|level| level.code().eq_ignore_ascii_case(name))
    }

    /// Its name.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Level::Eventual => "eventual",
            Level::Session => "session",
            Level::Database => "database",
            Level::Primary => "primary",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What a read asks of the replica that runs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// It has replayed this.
    pub least: Lsn,
    /// And more, which is not known yet: the primary is still to be asked.
    pub pending: bool,
    /// The replica that the session read from last, and at most how far that had come; none: not known yet.
    pub last: Option<(Node, Option<Lsn>)>,
    /// It is at most that old.
    pub max_lag: Option<Duration>,
}

impl Need {
    /// Whether any replica will do.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Need::default()
    }
}

/// How far a replica has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Which one.
    pub node: Node,
    /// What it has replayed, at least; none: not known.
    pub replayed: Option<Lsn>,
    /// What it has received, at least; none: not known.
    pub received: Option<Lsn>,
    /// When it was asked for that; none: it has not said.
    pub asked: Option<Instant>,
    /// How far it was behind the primary when it was asked last; none: not known.
    pub lag: Option<Duration>,
    /// For how long it had surely been behind then; none: not known.
    pub late: Option<Duration>,
}

/// Who may serve a read.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// These replicas, a bit for each.
    Among(u64),
    /// None yet, but one of them may soon.
    Wait,
    /// None, and none will in time.
    Primary,
}

/// Who serves a read while there is no primary: old answers are better than none. Those that have all that is known to be
/// needed, if any has; where it is not known, those that have come furthest. 0: none.
#[must_use]
pub fn best(replicas: impl Iterator<Item = Progress> + Clone, need: &Need) -> u64 {
    let known = Need { pending: false, max_lag: None, ..*need };
    let all = replicas.clone().fold(0, |all, replica| all | replica.node.bit());
    let fit = match choose(replicas.clone(), &known, Duration::ZERO) {
        Choice::Among(nodes) if !need.pending => return nodes,
        Choice::Among(nodes) => nodes,
        Choice::Wait | Choice::Primary => all,
    };
    let fit = replicas.filter(|replica| fit & replica.node.bit() != 0);
    let furthest = fit.clone().map(|replica| replica.replayed).max();
    let fit = fit.filter(|replica| Some(replica.replayed) == furthest);
    fit.fold(0, |nodes, replica| nodes | replica.node.bit())
}

/// Who has replayed all that any of them has received, by what each was asked after `since`: where a primary that is gone had
/// replicated synchronously, that is all that it had acknowledged. 0: nobody yet, or not all have said.
#[must_use]
pub fn complete(replicas: impl Iterator<Item = Progress> + Clone, since: Instant) -> u64 {
    if replicas.clone().any(|replica| replica.asked.is_none_or(|asked| asked < since)) {
        return 0;
    }
    // One that has received nothing since its start has its own log only, and replays that first.
    let all = replicas.clone().map(|replica| replica.received.max(replica.replayed)).max();
    let there = replicas.filter(|replica| Some(replica.replayed) == all);
    there.fold(0, |nodes, replica| nodes | replica.node.bit())
}

/// Who may serve a read with that need, if it is ready to wait for so long.
pub fn choose(replicas: impl Iterator<Item = Progress>, need: &Need, patience: Duration) -> Choice {
    let (mut fresh, mut soon) = (0, false);
    for replica in replicas {
        let young = need.max_lag.is_none_or(|most| replica.lag.is_some_and(|lag| lag <= most));
        if !young {
            continue;
        }
        let there = !need.pending && (need.least == Lsn(0) || replica.replayed >= Some(need.least));
        let forward = match need.last {
            None => true,
            Some((node, _)) if node == replica.node => true,
            Some((_, known)) => known.is_some_and(|most| replica.replayed >= Some(most)),
        };
        if there && forward {
            fresh |= replica.node.bit();
        }
        soon |= replica.node.bit() != 0 && replica.late.is_none_or(|late| late <= patience);
    }
    match (fresh, soon) {
        (0, true) => Choice::Wait,
        (0, false) => Choice::Primary,
        (fresh, _) => Choice::Among(fresh),
    }
}
