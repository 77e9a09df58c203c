//! The life of one server's probe: ask, tell, pause; after a failure sooner than otherwise.

use std::time::Duration;

use tokio::time::{sleep, sleep_until, timeout};

use crate::clock;
use crate::cluster::Event;
use crate::ids::Node;

use super::ask::Session;
use super::link::LinkError;
use super::{Cluster, Options};

/// The first pause after a failed probe; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// The longest pause after a failed probe: a server that returns is seen within about a second.
const LAST_RETRY: Duration = Duration::from_secs(1);

/// The longest pause while there is no primary: any server may be promoted at any moment, and writes wait for it.
const NO_PRIMARY: Duration = Duration::from_millis(200);

/// Probes start at least this far apart, whatever the clients run into.
const LEAST_DISTANCE: Duration = Duration::from_millis(50);

/// Probes `node` until dropped.
pub(super) async fn run(cluster: &Cluster, node: Node, options: &Options) {
    let Some(address) = cluster.address(node) else { return };
    let mut session: Option<Session> = None;
    let mut retry = FIRST_RETRY;
    // Said once per server, not once per connection.
    let mut denied = false;
    loop {
        let start = clock::now();
        let asked = timeout(options.timeout, async {
            let mut open = match session.take() {
                Some(open) => open,
                None => Session::open(address, options).await?,
            };
            let result = open.ask(address, &mut denied).await?;
            Ok::<_, LinkError>((open, result))
        });
        let pause = match asked.await.unwrap_or(Err(LinkError::TimedOut(options.timeout))) {
            Ok((open, result)) => {
                if let Some(metrics) = cluster.metrics(node) {
                    metrics.probe_passed(start.elapsed());
                }
                cluster.apply(node, Event::Probed(result));
                session = Some(open);
                retry = FIRST_RETRY;
                let none = cluster.view().primary().is_none();
                if none { options.interval.min(NO_PRIMARY) } else { options.interval }
            }
            Err(failure) => {
                if let Some(metrics) = cluster.metrics(node) {
                    metrics.probe_failed();
                }
                cluster.apply(node, Event::ProbeFailed(failure.to_string()));
                let pause = retry;
                retry = (retry * 2).min(LAST_RETRY).min(options.interval.max(FIRST_RETRY));
                pause
            }
        };
        rest(cluster, node, &mut session, pause).await;
        sleep_until(start + LEAST_DISTANCE).await;
    }
}

/// Pauses, until the time is over, the connection breaks, or somebody else ran into trouble with the server. After
/// trouble the next probe opens a connection anew: that the old one answers does not show that the server accepts others.
async fn rest(cluster: &Cluster, node: Node, session: &mut Option<Session>, pause: Duration) {
    let broken = async {
        match session.as_mut() {
            Some(open) => open.broken().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = sleep(pause) => return,
        () = cluster.woken(node) => {}
        failure = broken => cluster.apply(node, Event::Lost(failure.to_string())),
    }
    *session = None;
}
