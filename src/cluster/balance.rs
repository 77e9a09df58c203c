//! Which of several replicas gets a read.

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
