//! Which of several replicas gets a read.

use crate::ids::Node;

/// How a replica is picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Balance {
    /// The one with the fewest units running through this pgweir; ties are broken in turn.
    #[default]
    LeastLoaded,
    /// Each in turn.
    RoundRobin,
    /// By chance.
    Random,
}

impl Balance {
    /// One of `candidates`, or none if there is none. `turn` is a counter, or a random number for [`Balance::Random`].
    /// `load` may change between two calls for the same node: then the pick is merely not the best.
    #[must_use]
    pub fn pick(
        self,
        candidates: impl Iterator<Item = Node> + Clone,
        load: impl Fn(Node) -> u32,
        turn: u64,
    ) -> Option<Node> {
        match self {
            Self::LeastLoaded => {
                let least = candidates.clone().map(&load).min()?;
                let idlest = candidates.clone().filter(|node| load(*node) <= least);
                // `load` is asked three times: were all of them given more meanwhile, anyone will do.
                in_turn(idlest, turn).or_else(|| in_turn(candidates, turn))
            }
            Self::RoundRobin | Self::Random => in_turn(candidates, turn),
        }
    }
}

fn in_turn(mut candidates: impl Iterator<Item = Node> + Clone, turn: u64) -> Option<Node> {
    let place = turn.checked_rem(candidates.clone().count() as u64)?;
    candidates.nth(usize::try_from(place).ok()?)
}
