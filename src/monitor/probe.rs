//! The life of one server's probe: ask, tell, pause; after a failure sooner than otherwise.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, sleep_until, timeout};
use tracing::debug;

use crate::clock;
use crate::cluster::Event;
use crate::ids::Node;
use crate::position::Reached;

use super::ask::Session;
use super::link::LinkError;
use super::positions::Question;
use super::{Cluster, Options};

/// The first pause after a failed probe; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// The longest pause after a failed probe: a server that returns is seen within about a second.
const LAST_RETRY: Duration = Duration::from_secs(1);

/// The longest pause while there is no primary: any server may be promoted at any moment, and writes wait for it.
const NO_PRIMARY: Duration = Duration::from_millis(200);

/// The longest that the first probe of a server may take: until each was asked once, none is believed to be the primary.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);

/// Probes start at least this far apart, whatever the clients run into.
const LEAST_DISTANCE: Duration = Duration::from_millis(50);

/// Probes `node` until dropped.
pub(super) async fn run(cluster: &Cluster, node: Node, options: &Options) {
    let Some(address) = cluster.address(node) else { return };
    let mut session: Option<Session> = None;
    let mut retry = FIRST_RETRY;
    // Said once per server, not once per connection.
    let mut denied = false;
    let mut limit = options.timeout.min(FIRST_TIMEOUT);
    loop {
        let start = clock::now();
        let asked = timeout(limit, async {
            let mut open = match session.take() {
                Some(open) => open,
                None => Session::open(address, options).await?,
            };
            let question = ask_position(cluster, node);
            let result = open.ask(address, &mut denied).await?;
            Ok::<_, LinkError>((open, result, question))
        });
        let asked = asked.await.unwrap_or(Err(LinkError::TimedOut(limit)));
        limit = options.timeout;
        let pause = match asked {
            Ok((open, result, question)) => {
                if let Some(metrics) = cluster.metrics(node) {
                    metrics.probe_passed(start.elapsed());
                }
                let answer = (result.in_recovery, result.reached);
                cluster.apply(node, Event::Probed(result));
                tell(cluster, node, question.as_ref(), answer);
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
        rest(cluster, node, &mut session, pause, options.timeout).await;
        sleep_until(start + LEAST_DISTANCE).await;
    }
}

/// Pauses, until the time is over, the connection breaks, or somebody else ran into trouble with the server. After
/// trouble the next probe opens a connection anew: that the old one answers does not show that the server accepts others.
/// Meanwhile it asks for the server's position whenever somebody wants to know that.
async fn rest(
    cluster: &Cluster,
    node: Node,
    session: &mut Option<Session>,
    pause: Duration,
    limit: Duration,
) {
    let mut over = pin!(sleep(pause));
    let Some(errand) = cluster.errand(node) else { return };
    loop {
        let broken = async {
            match session.as_mut() {
                Some(open) => open.broken().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut over => return,
            () = cluster.woken(node) => break,
            failure = broken => {
                cluster.apply(node, Event::Lost(failure.to_string()));
                break;
            }
            () = cluster.positions().asked(node) => {}
            () = errand.asked() => {
                let Some(order) = errand.take() else { continue };
                let Some(open) = session.as_mut() else { continue };
                match timeout(limit, open.run(order)).await.unwrap_or(Err(LinkError::TimedOut(limit))) {
                    Ok(()) => {}
                    Err(refusal) if refusal.is_refusal() => {
                        debug!(node = node.0, %refusal, "the server does not say");
                    }
                    Err(failure) => {
                        cluster.apply(node, unanswered(&failure));
                        break;
                    }
                }
                continue;
            }
        }
        let Some(open) = session.as_mut() else { continue };
        let question = ask_position(cluster, node);
        match timeout(limit, open.position()).await.unwrap_or(Err(LinkError::TimedOut(limit))) {
            Ok(answer) => tell(cluster, node, question.as_ref(), answer),
            Err(failure) => {
                cluster.apply(node, unanswered(&failure));
                break;
            }
        }
    }
    *session = None;
}

/// A question without an answer: a server that is silent has failed a probe, whatever it was asked; one whose connection broke is
/// asked over another.
fn unanswered(failure: &LinkError) -> Event {
    match failure {
        LinkError::TimedOut(_) => Event::ProbeFailed(failure.to_string()),
        _ => Event::Lost(failure.to_string()),
    }
}

fn is_primary(cluster: &Cluster, node: Node) -> bool {
    cluster.view().primary() == Some(node)
}

fn ask_position(cluster: &Cluster, node: Node) -> Option<Question> {
    cluster.positions().question(node, is_primary(cluster, node))
}

/// What a server said of its role and position, to all who want to know.
fn tell(cluster: &Cluster, node: Node, question: Option<&Question>, (in_recovery, reached): (bool, Reached)) {
    let Some(question) = question else { return };
    let positions = cluster.positions();
    positions.answer(question, is_primary(cluster, node), in_recovery, reached);
    if let Some(metrics) = cluster.metrics(node) {
        let (lag, bytes) =
            if in_recovery { (positions.lag(node), positions.lag_bytes(node)) } else { (None, None) };
        metrics.lag(lag, bytes);
    }
}
