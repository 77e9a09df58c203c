//! How many logins a second a server is given, over all pools.

use tokio::sync::Mutex;
use tokio::time::sleep_until;

use crate::clock::{self, Duration, Instant};

/// The gate that all logins of clients' connections to one server pass.
#[derive(Debug, Default)]
pub struct Logins {
    /// When the next one is due, by an even pace. Held by the first of those who wait for it; the others stand in line.
    due: Mutex<Option<Instant>>,
}

impl Logins {
    /// Waits until one more login is allowed: in no second are there more than `most`. A quarter of these may come at once, after
    /// a pause; the others come at an even pace, with jitter so that several pgweirs do not knock in step. Dropped before it
    /// ends, it has taken nobody's place. Returns whether there was a wait; 0 is no limit.
    pub async fn enter(&self, most: u32) -> bool {
        if most == 0 {
            return false;
        }
        let burst = (most / 4).max(1);
        // Of one alone in a second there is no rest.
        let step = Duration::from_secs(1) / (most - burst).max(1);
        let mut due = self.due.lock().await;
        let start = clock::now();
        let free = due.unwrap_or(start);
        if free > start {
            sleep_until(free + step.mul_f64(rand::random_range(0.0..0.5))).await;
        }
        let saved = step * (burst - 1);
        let now = clock::now();
        *due = Some(free.max(now.checked_sub(saved).unwrap_or(now)) + step);
        free > start
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    /// The most in any second.
    fn densest(times: &[Instant]) -> usize {
        let within =
            |at: Instant| times.iter().filter(|one| (at..at + Duration::from_secs(1)).contains(*one)).count();
        times.iter().map(|at| within(*at)).max().unwrap_or(0)
    }

    #[tokio::test]
    async fn no_second_has_more_than_the_limit() {
        let mut all = JoinSet::new();
        for most in [1, 3, 8, 100] {
            all.spawn(async move {
                let (logins, mut clients) = (Arc::new(Logins::default()), JoinSet::new());
                for nth in 0..most * 2 {
                    let logins = logins.clone();
                    clients.spawn(async move {
                        // Some come while others wait.
                        tokio::time::sleep(Duration::from_millis(u64::from(nth % 3) * 300)).await;
                        logins.enter(most).await;
                        clock::now()
                    });
                }
                let mut times = Vec::new();
                while let Some(time) = clients.join_next().await {
                    times.push(time.unwrap());
                }
                times.sort_unstable();
                let took = times.last().unwrap().duration_since(*times.first().unwrap());
                (most, densest(&times), took)
            });
        }
        while let Some(ended) = all.join_next().await {
            let (most, densest, took) = ended.unwrap();
            assert!(densest <= usize::try_from(most).unwrap(), "{densest} of {most}");
            assert!(took > Duration::from_millis(700) && took < Duration::from_secs(5), "{most}: {took:?}");
        }
    }

    #[tokio::test]
    async fn who_gives_up_costs_nobody_anything() {
        let logins = Logins::default();
        assert!(!logins.enter(4).await && !logins.enter(0).await);
        let start = clock::now();
        for _ in 0..100 {
            assert!(timeout(Duration::ZERO, logins.enter(4)).await.is_err());
        }
        assert!(logins.enter(4).await);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
