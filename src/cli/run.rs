//! `pgweir run`: the proxy, until SIGINT or SIGTERM.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{Source, fail};
use crate::app::{self, Bound, Ending, log};
use crate::config;
use crate::net::Address;

/// Loads the configuration, runs the proxy on this thread, and waits for a signal.
pub(super) fn run(source: &Source) -> ExitCode {
    let loaded = match &source.config {
        Some(file) => config::load(file),
        None => config::zero(&source.server),
    };
    let config = match loaded {
        Ok(config) => config,
        Err(complaints) => return fail(&complaints.to_string()),
    };
    log::start(&config.log);
    let listen = config.listen.clone();
    match app::run(config, |bound| announce(bound, &listen), stopped) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("pgweir: {error}")),
    }
}

/// Says where it listens.
fn announce(bound: &Bound, listen: &[Address]) {
    for address in &bound.clients {
        tracing::info!(%address, "listening");
    }
    for path in listen.iter().filter_map(Address::socket_path) {
        tracing::info!(path = %path.display(), "listening");
    }
    if let Some(address) = bound.metrics {
        tracing::info!("metrics at http://{address}/metrics");
    }
}

/// Ready when SIGINT or SIGTERM comes; a second one means now. The handlers stand before the listeners do: no signal is lost.
fn stopped() -> impl Future<Output = Ending> {
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    async {
        match signals {
            [Ok(mut terminate), Ok(mut interrupt)] => {
                let mut signal = async move || {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                };
                signal().await;
                tracing::info!("stopping: open transactions may end; another signal stops at once");
                Ending::Gently(Box::pin(async move { signal().await }))
            }
            [Err(error), _] | [_, Err(error)] => {
                tracing::error!(%error, "signals cannot be listened to: pgweir ends only by force");
                std::future::pending().await
            }
        }
    }
}
