//! `pgweir run`: the proxy, until SIGINT or SIGTERM.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{Source, fail};
use crate::app::{Pgweir, log};
use crate::config;

/// Loads the configuration, starts, and waits for a signal.
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
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("pgweir: {error}")),
    };
    // The handlers stand before the listeners: a signal is never lost.
    let signals = runtime.block_on(async {
        Ok::<_, std::io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    });
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("pgweir: {error}")),
    };
    let unix: Vec<_> = config.listen.iter().filter_map(crate::net::Address::socket_path).collect();
    let pgweir = match Pgweir::start(config) {
        Ok(pgweir) => pgweir,
        Err(error) => return fail(&format!("pgweir: {error}")),
    };
    for address in pgweir.addresses() {
        tracing::info!(%address, "listening");
    }
    for path in unix {
        tracing::info!(path = %path.display(), "listening");
    }
    if let Some(address) = pgweir.metrics_address() {
        tracing::info!("metrics at http://{address}/metrics");
    }
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    tracing::info!("stopping");
    pgweir.stop();
    ExitCode::SUCCESS
}
