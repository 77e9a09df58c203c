//! Waiting for a condition, with a deadline, instead of sleeping and hoping.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::clock;

/// Between two looks. Short beside what is waited for (a fork, a reconnect), long beside the look itself.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks `probe` again and again until it says true; fails when it has not within `within`.
///
/// # Errors
/// The deadline has passed.
pub async fn eventually<F, Fut>(within: Duration, mut probe: F) -> anyhow::Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let deadline = clock::now() + within;
    while !probe().await {
        if clock::now() >= deadline {
            bail!("not so within {within:?}");
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Tries `attempt` again and again until it succeeds, and returns what it returned.
///
/// # Errors
/// The deadline has passed: the last attempt's error.
pub async fn eventually_ok<T, F, Fut>(within: Duration, mut attempt: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let deadline = clock::now() + within;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if clock::now() >= deadline => {
                return Err(error).with_context(|| format!("still failing after {within:?}"));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
