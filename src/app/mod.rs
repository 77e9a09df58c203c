//! Builds everything from a configuration, runs it, and stops it.
//!
//! Each worker is a thread with a runtime of its own; a client lives on one of them from its first byte to its last. The
//! first worker also accepts, probes, keeps the pools and answers Prometheus. Two pgweirs can live in one process.

mod build;
mod discovery;
mod found;
pub mod log;
mod operator;
mod serve;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::config::Config;
use crate::counter::JournalError;
use crate::net::Address;

/// Why pgweir could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A runtime or a thread could not be made.
    #[error("could not start a worker: {0}")]
    Worker(io::Error),
    /// An address could not be listened on.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// Which.
        address: Address,
        /// What the system says.
        source: io::Error,
    },
    /// The metrics address could not be listened on.
    #[error("could not listen on {address} for metrics: {source}")]
    Metrics {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Where a running pgweir listens.
#[derive(Debug, Clone, Default)]
pub struct Bound {
    /// The TCP addresses that clients connect to.
    pub clients: Vec<SocketAddr>,
    /// Where Prometheus scrapes.
    pub metrics: Option<SocketAddr>,
}

/// A running pgweir. Dropped, it stops.
#[derive(Debug)]
pub struct Pgweir {
    bound: Bound,
    stop: watch::Sender<bool>,
    first: Option<JoinHandle<()>>,
}

impl Pgweir {
    /// Starts it on threads of its own; it listens when this returns. The servers are probed from then on: none has to be
    /// up.
    ///
    /// # Errors
    /// An address that cannot be listened on, or the system's refusal of threads.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let (stop, stopped) = watch::channel(false);
        let (report, outcome) = mpsc::channel();
        let first = std::thread::Builder::new().name("pgweir-0".to_owned());
        let work = move || {
            let ready = report.clone();
            if let Err(error) = run(config, |bound| drop(ready.send(Ok(bound.clone()))), || until(stopped)) {
                // Nobody listens any more: the start was given up.
                let _ = report.send(Err(error));
            }
        };
        let first = first.spawn(work).map_err(StartError::Worker)?;
        let mut pgweir = Self { bound: Bound::default(), stop, first: Some(first) };
        let gone = || StartError::Worker(io::Error::other("the first worker ended"));
        pgweir.bound = outcome.recv().map_err(|_| gone())??;
        Ok(pgweir)
    }

    /// The TCP addresses that clients connect to, with the real ports where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.clients.clone()
    }

    /// Where Prometheus scrapes.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.bound.metrics
    }

    /// Stops: no more clients, open connections are closed. Returns when all is gone.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Pgweir {
    fn drop(&mut self) {
        // Nobody listens any more: the workers have ended already.
        let _ = self.stop.send(true);
        if self.first.take().is_some_and(|first| first.join().is_err()) {
            tracing::error!("a worker panicked");
        }
    }
}

/// How a pgweir ends.
pub enum Ending {
    /// All at once.
    Now,
    /// Clients with nothing under way are told at once, the others when what they do is over; until `shutdown_timeout`, or until this is
    /// ready.
    Gently(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// Waits for the end.
async fn until(mut stopped: watch::Receiver<bool>) -> Ending {
    // An error means that the sender is gone, which is the end too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
    Ending::Now
}

/// Runs pgweir on this thread, and on more of its own if there are several workers. `ready` hears where it listens; it
/// stops when what `stop` makes, inside the first worker's runtime, is ready.
///
/// With one worker there is one thread: the C library then leaves out what it does for the sake of others.
///
/// # Errors
/// An address that cannot be listened on, or the system's refusal of threads.
pub fn run<S: Future<Output = Ending>>(
    config: Config,
    ready: impl FnOnce(&Bound),
    stop: impl FnOnce() -> S,
) -> Result<(), StartError> {
    let make = || Builder::new_current_thread().enable_all().build().map_err(StartError::Worker);
    let first = make()?;
    let (ended, end) = watch::channel(false);
    let mut handles = vec![first.handle().clone()];
    let mut threads = Vec::new();
    for at in 1..config.worker_threads() {
        let runtime = make()?;
        handles.push(runtime.handle().clone());
        let (thread, end) = (std::thread::Builder::new().name(format!("pgweir-{at}")), end.clone());
        threads.push(thread.spawn(move || drop(runtime.block_on(until(end)))).map_err(StartError::Worker)?);
    }
    let outcome = first.block_on(async {
        let stop = stop();
        let service = serve::Service::new(config, handles).await?;
        ready(&service.bound());
        service.run(stop).await;
        Ok(())
    });
    drop(ended);
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
    outcome
}
