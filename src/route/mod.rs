//! Where a unit goes, and why: a pure function of what it says, the session it comes from, and the servers there are.

mod builtins;
pub mod catalog;
mod culprits;
mod facts;
mod hint;
mod judge;
mod learned;
mod memo;
mod own;
mod reach;
mod reason;
pub mod rules;
mod shapes;

pub use catalog::{Catalog, Known, Scope, SearchPath, Sets};
pub use facts::{Class, Facts};
pub use hint::Wish;
pub use judge::{Judge, JudgeOptions};
pub use learned::{Learned, Refusal};
pub use memo::Memo;
pub use own::{Own, OwnCommand, OwnError, OwnText, Setting, own_text, resets_all};
pub use reason::Reason;
pub use rules::{Mode, Rules};
pub use shapes::{MAX_SHAPES, ShapeId, ShapeRow, Shapes};

use crate::clock::Duration;
use crate::cluster::View;
use crate::fresh::Level;
use crate::ids::Node;

#[cfg(test)]
mod tests;

/// The role of the server that a unit goes to.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// The server that accepts writes.
    Primary,
    /// Any replica that may take reads.
    Replica,
}

impl Target {
    /// The name in metrics, logs and the console.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Target::Primary => "primary",
            Target::Replica => "replica",
        }
    }

    /// 0 for the primary, 1 for replicas: for arrays of counters.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What earlier units of the same client oblige this one to, and who it is.
// Independent axes, each read alone.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// Where an open transaction lives.
    pub transaction: Option<Target>,
    /// The open transaction lives on the primary only because its database is being observed.
    pub observed: bool,
    /// Session state lives on a connection to the primary.
    pub pinned: bool,
    /// `standard_conforming_strings` is on, and the encoding never has a backslash as the second byte of a character.
    pub text_safe: bool,
    /// Where it wishes its reads to go.
    pub wish: Option<Wish>,
    /// What it wishes its reads to see.
    pub level: Option<Level>,
    /// The rules that it can be matched by: [`Rules::session`].
    pub rules: u64,
}

impl Session {
    /// One that obliges to nothing.
    pub const FREE: Session = Session {
        transaction: None,
        observed: false,
        pinned: false,
        text_safe: true,
        wish: None,
        level: None,
        rules: 0,
    };
}

/// Which servers could take the unit now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topology {
    /// There is a primary.
    pub primary: bool,
    /// How many replicas are eligible.
    pub replicas: u16,
    /// The eligible replicas, a bit for each node; those from the 65th on have none.
    pub nodes: u64,
}

impl Topology {
    /// Of a cluster as it is now.
    #[must_use]
    pub fn of(view: &View) -> Topology {
        let (mut replicas, mut nodes) = (0, 0);
        for node in view.replicas() {
            replicas += 1;
            nodes |= node.bit();
        }
        Topology { primary: view.primary().is_some(), replicas, nodes }
    }
}

/// Where a unit goes, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The role of the server.
    pub target: Target,
    /// Why.
    pub reason: Reason,
    /// The replicas that it may go to, a bit for each node; none: any.
    pub servers: Option<u64>,
    /// The rule that decided, by its place.
    pub rule: Option<u8>,
    /// The rule that says how long it may run.
    pub limit: Option<u8>,
    /// What it must see there.
    pub level: Level,
    /// How old at most what it sees may be.
    pub max_lag: Option<Duration>,
    /// Why it would have gone to a replica, where the database is only being observed.
    pub would: Option<Reason>,
}

impl Route {
    /// Whether it may go to that replica, as far as the servers that it names go.
    #[inline]
    #[must_use]
    pub fn takes(&self, node: Node) -> bool {
        self.servers.is_none_or(|servers| servers & node.bit() != 0)
    }

    /// To any server of that role, with nothing more to say.
    #[must_use]
    pub fn to(target: Target, reason: Reason) -> Route {
        Route {
            target,
            reason,
            servers: None,
            rule: None,
            limit: None,
            would: None,
            level: Level::Eventual,
            max_lag: None,
        }
    }
}

/// Decides where a unit goes. The steps stand in order of weight: a rule that refuses it (the end of a transaction never is), an open transaction, state left
/// on a connection, a text that cannot be trusted, and only then what the unit says. A read goes to the primary for want of
/// replicas, or because somebody wishes so: a comment first, then the session, then the rules, then the mode. Everything
/// that is not a read goes there whether or not it is up, so that it waits for the next one; no wish and no rule is asked
/// where it goes. How long it may run, a rule may say of any unit.
#[must_use]
pub fn decide(facts: Facts, session: Session, topology: Topology, rules: &Rules) -> Route {
    let rule = rules.first(session.rules, facts.any, facts.all);
    let does = !matches!(facts.class, Class::End | Class::Own | Class::Empty);
    let limit = rule.filter(|(_, rule)| does && rule.timeout.is_some()).map(|(place, _)| place);
    Route { limit, ..decide_target(facts, session, topology, rules, rule) }
}

fn decide_target(
    facts: Facts,
    session: Session,
    topology: Topology,
    rules: &Rules,
    rule: Option<(u8, &rules::Rule)>,
) -> Route {
    let primary = |reason| Route::to(Target::Primary, reason);
    let rejectable = !matches!(facts.class, Class::End | Class::Own | Class::Empty);
    if rejectable && let Some((place, rules::Rule { then: rules::Action::Reject(_), .. })) = rule {
        return Route { rule: Some(place), ..primary(Reason::Rejected) };
    }
    match session.transaction {
        Some(Target::Primary) => {
            let would = session.observed.then_some(Reason::InReadOnlyTransaction);
            return Route { would, ..primary(Reason::InTransaction) };
        }
        Some(Target::Replica) => return Route::to(Target::Replica, Reason::InReadOnlyTransaction),
        None => {}
    }
    if session.pinned {
        return primary(Reason::SessionState);
    }
    if !session.text_safe {
        return primary(Reason::UnsafeText);
    }
    match facts.class {
        Class::Read | Class::BeginReadOnly => read(facts, session, topology, rules, rule),
        Class::Empty
        | Class::InTransaction
        | Class::End
        | Class::Begin
        | Class::Session
        | Class::Write
        | Class::Own => primary(facts.reason),
    }
}

/// Where a unit goes that only reads.
fn read(
    facts: Facts,
    session: Session,
    topology: Topology,
    rules: &Rules,
    rule: Option<(u8, &rules::Rule)>,
) -> Route {
    use rules::Action;
    let mode = rules.mode;
    let wish = facts.hint.or(session.wish);
    // A wish outweighs the rules about going to replicas; which of them is still a matter of the rules.
    let (place, action) = rule.map_or((None, None), |(place, rule)| (Some(place), Some(&rule.then)));
    match (wish, action) {
        (Some(Wish::Primary), _) => return Route::to(Target::Primary, Reason::Hint),
        (None, Some(Action::Primary)) => {
            return Route { rule: place, ..Route::to(Target::Primary, Reason::Rule) };
        }
        _ => {}
    }
    let ruled = rule.and_then(|(_, rule)| rule.level);
    let level = facts.level.or(session.level).or(ruled).unwrap_or(rules.level);
    if level == Level::Primary {
        let place = place.filter(|_| ruled.is_some() && facts.level.or(session.level).is_none());
        return Route { rule: place, ..Route::to(Target::Primary, Reason::Consistency) };
    }
    let max_lag = rule.and_then(|(_, rule)| rule.max_lag).or(rules.max_lag);
    let decided = rule.is_some_and(|(_, rule)| rule.level.is_some() || rule.max_lag.is_some());
    let servers = match action {
        Some(Action::Servers(servers)) => Some(*servers),
        _ => None,
    };
    let opted_in = wish.is_some() || matches!(action, Some(Action::Replica | Action::Servers(_)));
    if mode == Mode::OptIn && !opted_in {
        return Route::to(Target::Primary, Reason::NotOptedIn);
    }
    let eligible = servers.map_or(topology.replicas > 0, |servers| servers & topology.nodes != 0);
    let place = place.filter(|_| servers.is_some() || decided || mode == Mode::OptIn && wish.is_none());
    if !eligible {
        return Route { rule: place, ..Route::to(Target::Primary, Reason::NoReplica) };
    }
    if mode == Mode::Observe {
        return Route {
            rule: place,
            would: Some(facts.reason),
            ..Route::to(Target::Primary, Reason::Observe)
        };
    }
    Route { servers, rule: place, level, max_lag, ..Route::to(Target::Replica, facts.reason) }
}
