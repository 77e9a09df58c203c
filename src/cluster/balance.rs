//! Which of several replicas gets a read.

use std::sync::Arc;

use super::{ServerView, View};
use crate::clock::{Duration, Instant};
use crate::ids::Node;

/// How a replica is picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Balance {
    /// The one with the fewest units running through this pgweir for its weight; ties are broken in turn.
    #[default]
    LeastLoaded,
    /// Of two taken by chance the one that has answered faster lately, for what it has to do and its weight.
    LeastLatency,
    /// Each in turn, as often as its weight says.
    RoundRobin,
    /// By chance, as often as its weight says.
    Random,
}

/// A replica that may get a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which.
    pub node: Node,
    /// Its share beside the others'; 0 counts as 1.
    pub weight: u32,
}

/// How the reads of a database are spread over replicas.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Spread {
    /// How one is picked.
    pub balance: Balance,
    /// A session keeps the one that it has read from, as long as that will do.
    pub sticky: bool,
    /// What a session sends to the primary after a read waits until that shows what the replica did, also where commits wait for nobody
    /// and none that came through this pgweir is under way.
    pub strictly_monotonic: bool,
    /// Where this pgweir stands: replicas there are picked as long as there is one; none: all are alike.
    pub zone: Option<Arc<str>>,
    /// How long one that is new or back takes until it gets all of its share; zero: no time.
    pub slow_start: Duration,
}

impl Spread {
    /// What a replica may get now: in a thousandth of its weight, from a tenth on.
    fn share(&self, server: &ServerView, now: Instant) -> u32 {
        let up = server.back.map_or(Duration::ZERO, |back| now.saturating_duration_since(back));
        let ready = (up.as_secs_f64() / self.slow_start.as_secs_f64()).clamp(0.1, 1.0);
        // At most a thousand times a thousand.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let share = (ready * FULL) as u32;
        share.saturating_mul(server.orders.weight.max(1))
    }

    /// Of several replicas, some of which are new or back: these get their part of all reads, however idle they are meanwhile,
    /// and less if others have less to do.
    fn pick_slowly<'a>(
        &self,
        fit: impl Iterator<Item = &'a ServerView> + Clone,
        load: impl Fn(Node) -> Load,
        turn: u64,
        now: Instant,
    ) -> Option<Node> {
        let of = |server: &ServerView, weight| Candidate { node: server.node, weight };
        let whole = |server: &ServerView| u64::from(server.orders.weight.max(1)) * FULL as u64;
        let is_cold = |server: &&ServerView| u64::from(self.share(server, now)) < whole(server);
        let warm =
            fit.clone().filter(|server| !is_cold(server)).map(|server| of(server, server.orders.weight));
        if warm.clone().next().is_none() {
            let all = fit.map(|server| of(server, self.share(server, now)));
            return self.balance.pick(all, load, turn);
        }
        let all = fit.clone().map(whole).sum();
        let mut place = part(turn, COLD, all);
        for server in fit.filter(is_cold) {
            match place.checked_sub(u64::from(self.share(server, now))) {
                Some(left) => place = left,
                None => {
                    let does = |one: Candidate| (u64::from(load(one.node).running) << 20) / weight(&one);
                    let most = warm.clone().map(does).min().filter(|_| self.balance.is_by_load());
                    let cold = of(server, server.orders.weight);
                    if most.is_none_or(|most| does(cold) <= most) {
                        return Some(cold.node);
                    }
                    break;
                }
            }
        }
        self.balance.pick(warm, load, turn)
    }
}

/// All of a share.
const FULL: f64 = 1_000.0;

impl View {
    /// The replica that the next read should go to: any, or one `among` these, a bit for each, and not the one to `avoid`;
    /// the one that the session `prefers`, if that is one of them and the spread says so.
    #[must_use]
    pub fn pick(
        &self,
        spread: &Spread,
        (among, avoid, prefers): (Option<u64>, Option<Node>, Option<Node>),
        load: impl Fn(Node) -> Load,
        turn: u64,
        now: impl FnOnce() -> Instant,
    ) -> Option<Node> {
        let fits = |node: Node| among.is_none_or(|nodes| nodes & node.bit() != 0) && Some(node) != avoid;
        let fit = || self.servers.iter().filter(|server| server.is_usable_replica() && fits(server.node));
        if spread.sticky && fit().any(|server| Some(server.node) == prefers) {
            return prefers;
        }
        let here = |server: &&ServerView| server.orders.zone == spread.zone;
        let zone = spread.zone.is_some() && fit().any(|server| here(&server));
        let fit = fit().filter(|server| !zone || here(server));
        if !spread.slow_start.is_zero() {
            return spread.pick_slowly(fit, load, turn, now());
        }
        let candidates = fit.map(|server| Candidate { node: server.node, weight: server.orders.weight });
        spread.balance.pick(candidates, load, turn)
    }
}

/// What this pgweir knows of how busy a server is.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Load {
    /// Units that run on it.
    pub running: u32,
    /// How long its units have taken lately, in nanoseconds; 0: not known.
    pub latency: u64,
}

impl Balance {
    /// Whether [`Balance::pick`] wants a random number rather than a count.
    #[must_use]
    pub fn is_by_chance(self) -> bool {
        matches!(self, Self::LeastLatency | Self::Random)
    }

    /// Whether it looks at what servers have to do.
    fn is_by_load(self) -> bool {
        matches!(self, Self::LeastLoaded | Self::LeastLatency)
    }

    /// One of `candidates`, or none if there is none. `turn` is a counter, or a random number ([`Balance::is_by_chance`]).
    /// `load` may change between two calls for the same node: then the pick is merely not the best.
    #[must_use]
    pub fn pick(
        self,
        candidates: impl Iterator<Item = Candidate> + Clone,
        load: impl Fn(Node) -> Load,
        turn: u64,
    ) -> Option<Node> {
        match self {
            Self::LeastLoaded => {
                let cost = |one: &Candidate| (u64::from(load(one.node).running) << 20) / weight(one);
                let least = candidates.clone().map(|one| cost(&one)).min()?;
                let idlest = candidates.clone().filter(|one| cost(one) <= least);
                // `load` is asked three times: were all of them given more meanwhile, anyone will do.
                in_turn(idlest, turn).or_else(|| in_turn(candidates, turn))
            }
            Self::LeastLatency => {
                let count = candidates.clone().count() as u64;
                let first = turn.checked_rem(count)?;
                let other =
                    (turn >> 32).checked_rem(count - 1).map(|other| other + u64::from(other >= first));
                let nth = |place: u64| candidates.clone().nth(usize::try_from(place).ok()?);
                let (first, other) = (nth(first)?, other.and_then(nth));
                let better = other.filter(|other| is_faster(other, &first, &load));
                Some(better.unwrap_or(first).node)
            }
            Self::RoundRobin | Self::Random => in_turn(candidates, turn),
        }
    }
}

/// Whether an answer of `one` is to be had sooner than one of `other`.
fn is_faster(one: &Candidate, other: &Candidate, load: impl Fn(Node) -> Load) -> bool {
    let (its, others) = (load(one.node), load(other.node));
    // One that was never asked is tried, and is taken for an ordinary one until it has answered.
    let latency = |own: Load, rival: Load| match own.latency {
        0 if own.running > 0 => rival.latency.max(1),
        latency => latency,
    };
    let cost = |own: Load, rival: Load, weighs: u64| {
        u128::from(latency(own, rival)) * u128::from(own.running + 1) * 1_000 / u128::from(weighs)
    };
    cost(its, others, weight(one)) < cost(others, its, weight(other))
}

fn weight(candidate: &Candidate) -> u64 {
    u64::from(candidate.weight.max(1))
}

/// Each in turn, and one with more weight more often, well spread.
fn in_turn(candidates: impl Iterator<Item = Candidate> + Clone, turn: u64) -> Option<Node> {
    let first = weight(&candidates.clone().next()?);
    let (count, all) =
        candidates.clone().fold((0u64, 0u64), |(count, all), one| (count + 1, all + weight(&one)));
    if all == first * count {
        let place = usize::try_from(turn.checked_rem(count)?).ok()?;
        return candidates.map(|one| one.node).nth(place);
    }
    let mut place = part(turn, GOLDEN, all);
    for one in candidates {
        match place.checked_sub(weight(&one)) {
            Some(left) => place = left,
            None => return Some(one.node),
        }
    }
    None
}

/// Multiples of the golden ratio fall evenly into any parts of a whole; those of the root of two do so beside them.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const COLD: u64 = 0x6a09_e667_f3bc_c909;

/// A place below `all`.
fn part(turn: u64, step: u64, all: u64) -> u64 {
    let part = u128::from(turn.wrapping_mul(step)) * u128::from(all);
    // Less than `all`.
    u64::try_from(part >> 64).unwrap_or(0)
}

/// How long the units of a server take, lately: what is slower than before counts at once, what is faster little by little
/// (the peak-sensitive moving average of Finagle).
#[must_use]
pub fn latency_after(before: u64, took: u64, since: Duration) -> u64 {
    if took >= before {
        return took;
    }
    let keeps = (-since.as_secs_f64() / MEMORY).exp();
    // Between the two, so it fits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let now = (before as f64 * keeps + took as f64 * (1.0 - keeps)) as u64;
    now.clamp(took, before)
}

/// What is believed of that so long after: one peak does not keep a server without reads for ever, which alone could show that
/// it is over.
#[must_use]
pub fn latency_since(known: u64, since: Duration) -> u64 {
    if known == 0 { 0 } else { latency_after(known, 1, since) }
}

/// What is left of an old latency after so many seconds is 1/e of it.
const MEMORY: f64 = 5.0;

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: [Candidate; 2] =
        [Candidate { node: Node(1), weight: 1 }, Candidate { node: Node(2), weight: 3 }];

    fn shares(balance: Balance, load: impl Fn(Node) -> Load) -> [usize; 2] {
        let mut count = [0; 2];
        for turn in 0..400u64 {
            // Any number will do as one by chance.
            let turn = if balance.is_by_chance() { turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { turn };
            let node = balance.pick(TWO.iter().copied(), &load, turn).unwrap();
            count[usize::from(node.0) - 1] += 1;
        }
        count
    }

    #[test]
    fn weights_are_shares() {
        let idle = |_| Load::default();
        for (balance, slack) in [(Balance::RoundRobin, 3), (Balance::LeastLoaded, 3), (Balance::Random, 30)] {
            let [light, heavy] = shares(balance, idle);
            assert!(light.abs_diff(100) <= slack && light + heavy == 400, "{balance:?}: {light}");
        }
        // Spread, not in blocks.
        let light = |turn| Balance::RoundRobin.pick(TWO.iter().copied(), idle, turn) == Some(Node(1));
        assert!((0..50).all(|turn| (turn..turn + 7).any(light)));
        // What runs counts for its weight.
        let running = |one, other| {
            move |node: Node| Load { running: if node == Node(1) { one } else { other }, latency: 0 }
        };
        assert_eq!(shares(Balance::LeastLoaded, running(1, 2)), [0, 400]);
        assert_eq!(shares(Balance::LeastLoaded, running(1, 4)), [400, 0]);
        assert!(shares(Balance::LeastLoaded, running(1, 3)).iter().all(|count| *count > 90));
        assert_eq!(Balance::LeastLoaded.pick(std::iter::empty(), idle, 7), None);
        assert_eq!(Balance::LeastLatency.pick(std::iter::empty(), idle, 7), None);
    }

    #[test]
    fn the_faster_one_gets_it() {
        let load = |one, other| move |node: Node| if node == Node(1) { one } else { other };
        let of = |running, latency| Load { running, latency };
        assert_eq!(shares(Balance::LeastLatency, load(of(0, 1_000), of(0, 4_000))), [400, 0]);
        assert_eq!(shares(Balance::LeastLatency, load(of(0, 1_000), of(0, 2_900))), [0, 400]);
        assert_eq!(shares(Balance::LeastLatency, load(of(4, 1_000), of(0, 4_000))), [0, 400]);
        // One that was never asked is tried, and not by all at once.
        assert_eq!(shares(Balance::LeastLatency, load(of(0, 1_000), of(0, 0))), [0, 400]);
        assert_eq!(shares(Balance::LeastLatency, load(of(0, 1_000), of(3, 0))), [400, 0]);
        let three = (1..4).map(|node| Candidate { node: Node(node), weight: 1 });
        for turn in 0..1000 {
            let worst = |node: Node| of(0, u64::from(node.0) * 1_000);
            let turn = (turn << 32) | (turn * 7);
            assert_ne!(Balance::LeastLatency.pick(three.clone(), worst, turn), Some(Node(3)));
        }
    }

    #[test]
    fn what_is_slower_counts_at_once() {
        let second = Duration::from_secs(1);
        assert_eq!(latency_after(0, 500, second), 500);
        assert_eq!(latency_after(500, 9_000, second), 9_000);
        assert_eq!(latency_after(9_000, 500, Duration::ZERO), 9_000);
        let later = latency_after(9_000, 500, 5 * second);
        assert!((3_600..3_700).contains(&later), "{later}");
        assert_eq!(latency_after(9_000, 500, 1_000 * second), 500);
        // Without a read to show it, too.
        assert_eq!((latency_since(0, 5 * second), latency_since(9_000, Duration::ZERO)), (0, 9_000));
        let later = latency_since(9_000, 20 * second);
        assert!((160..170).contains(&later), "{later}");
    }
}
