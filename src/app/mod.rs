//! Builds everything from a configuration, runs it, and stops it.
//!
//! Each worker is a thread with a runtime of its own; a client lives on one of them from its first byte to its last. The
//! first worker also accepts, probes, keeps the pools and answers Prometheus. Two pgweirs can live in one process.

mod build;
pub mod log;
mod serve;

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

use crate::config::Config;
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
}

/// Where a running pgweir listens.
#[derive(Debug, Clone, Default)]
struct Bound {
    clients: Vec<SocketAddr>,
    metrics: Option<SocketAddr>,
}

/// A running pgweir. Dropped, it stops.
#[derive(Debug)]
pub struct Pgweir {
    bound: Bound,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
}

impl Pgweir {
    /// Starts it; it listens when this returns. The servers are probed from then on: none has to be up.
    ///
    /// # Errors
    /// An address that cannot be listened on, or the system's refusal of threads.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let workers = config.worker_threads().max(1);
        let runtimes = (0..workers)
            .map(|_| Builder::new_current_thread().enable_all().build().map_err(StartError::Worker))
            .collect::<Result<Vec<_>, _>>()?;
        let handles: Vec<Handle> = runtimes.iter().map(|runtime| runtime.handle().clone()).collect();
        let (stop, stopped) = watch::channel(false);
        let (report, outcome) = mpsc::channel();

        let mut first = Some((config, handles, report));
        let mut threads = Vec::new();
        for (at, runtime) in runtimes.into_iter().enumerate() {
            let (first, stopped) = (first.take(), stopped.clone());
            let thread = std::thread::Builder::new().name(format!("pgweir-{at}"));
            let work = move || match first {
                Some((config, handles, report)) => lead(&runtime, config, handles, &report, stopped),
                None => runtime.block_on(until(stopped)),
            };
            threads.push(thread.spawn(work).map_err(StartError::Worker)?);
        }
        let mut pgweir = Self { bound: Bound::default(), stop, workers: threads };
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
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// Waits for the end.
async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the end too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The first worker's life: build, listen, report, serve.
fn lead(
    runtime: &Runtime,
    config: Config,
    handles: Vec<Handle>,
    report: &mpsc::Sender<Result<Bound, StartError>>,
    stopped: watch::Receiver<bool>,
) {
    runtime.block_on(async move {
        match serve::Service::new(config, handles).await {
            Ok(service) => {
                let _ = report.send(Ok(service.bound()));
                service.run(until(stopped)).await;
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
    });
}
