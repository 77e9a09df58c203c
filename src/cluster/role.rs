//! Who is primary, and who may not be used: of the servers that claim to be primary the highest timeline wins, and a
//! server of another system is never used.
//!
//! Both are judged by what each server said last, whether or not it is up: an old primary that comes back while the new
//! one is away must not be written to.

use crate::ids::Node;

use super::{Health, Origin, ServerView, View};

/// What a server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Not asked yet.
    #[default]
    Unknown,
    /// Accepts writes.
    Primary,
    /// A hot standby.
    Replica,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Primary => "primary",
            Self::Replica => "replica",
        })
    }
}

/// Whether a server may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// Not yet: too few servers were asked to know which system the cluster is.
    #[default]
    Unproven,
    /// Yes.
    Member,
    /// No: it claims to be primary, and the cluster has moved on to a higher timeline or to another primary.
    Fenced,
    /// No: it is a copy of another system.
    Foreign,
    /// Not yet: a replica that has not followed the primary to its timeline. It may never do so, if it follows an old
    /// primary. While there is no primary it may be used: old answers are better than none.
    Behind,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unproven => "unproven",
            Self::Member => "member",
            Self::Fenced => "fenced",
            Self::Foreign => "foreign",
            Self::Behind => "behind",
        })
    }
}

/// Gives each server its standing. `incumbent` was the primary until now.
pub(super) fn settle(view: &mut View, incumbent: Option<Node>) {
    view.system_identifier = system_identifier(view);
    let Some(system) = settled_system(view) else {
        view.servers.iter_mut().for_each(|server| server.standing = Standing::Unproven);
        return;
    };
    view.settled = true;
    let foreign = |server: &ServerView| match (server.system_identifier, system) {
        (Some(theirs), Some(ours)) => theirs != ours,
        _ => false,
    };
    let winner = winner(view.members().filter(|server| !foreign(server)), incumbent);
    let reached = winner.filter(|winner| winner.health.keeps_primary()).map_or(0, |winner| winner.timeline);
    let winner = winner.map(|winner| winner.node);
    for server in &mut view.servers {
        // What runs on one that was removed ends there, unless the cluster moves on: it may be the same server under another address.
        let moved_on = server.is_member() || server.timeline < reached;
        server.standing = if foreign(server) {
            Standing::Foreign
        } else if server.role == Role::Primary && Some(server.node) != winner && moved_on {
            Standing::Fenced
        } else if server.role == Role::Replica && server.timeline != 0 && server.timeline < reached {
            Standing::Behind
        } else {
            Standing::Member
        };
    }
}

/// Once settled, what it was, as long as a server that answers is a copy of that: whoever is put in the place of others, a
/// primary too, changes nothing. Else the system that most servers are copies of; of two with equally many the one with a primary, then the
/// one that it was until now, then that of the first server in the list. One that another server has led to has no say in that.
fn system_identifier(view: &View) -> Option<u64> {
    let own = view.system_identifier.filter(|_| view.settled);
    let lives = |server: &ServerView| server.health.keeps_primary() && server.system_identifier == own;
    if own.is_some() && view.members().any(lives) {
        return own;
    }
    let voters = || view.members().filter(|server| server.orders.origin != Origin::Replication);
    let rank = |system: u64| {
        let copies = || voters().filter(move |server| server.system_identifier == Some(system));
        let has_primary = copies().any(|server| server.role == Role::Primary);
        (copies().count(), has_primary, view.system_identifier == Some(system))
    };
    // `max_by_key` takes the last of equals, hence `rev`.
    let voters: Vec<_> = voters().collect();
    voters
        .iter()
        .rev()
        .filter_map(|server| server.system_identifier)
        .max_by_key(|system| rank(*system))
        .or(view.system_identifier)
}

/// The cluster's system, when it can be trusted: every server was asked, or more than half of all agree, now or before.
/// Inner none: no server would tell.
fn settled_system(view: &View) -> Option<Option<u64>> {
    let agreeing = view
        .members()
        .filter(|server| server.health != Health::Unknown)
        .filter(|server| {
            server.system_identifier.is_none() || server.system_identifier == view.system_identifier
        })
        .count();
    let all_asked = view.members().all(|server| server.health != Health::Unknown);
    (view.settled || all_asked || agreeing * 2 > view.members().count()).then_some(view.system_identifier)
}

/// Of the servers that claim to be primary, the one to write to: none of them if the cluster has reached a higher
/// timeline than theirs. One that would not tell its timeline (0) is used only where no other claims to be primary.
fn winner<'a>(
    members: impl Iterator<Item = &'a ServerView> + Clone,
    incumbent: Option<Node>,
) -> Option<&'a ServerView> {
    let reached = members.clone().map(|server| server.timeline).max()?;
    let claimants = members.filter(|server| server.role == Role::Primary);
    let known = claimants.clone().any(|server| server.timeline != 0);
    claimants
        .filter(|server| server.timeline == reached || !known)
        .min_by_key(|server| (!server.health.keeps_primary(), Some(server.node) != incumbent, server.node))
}
