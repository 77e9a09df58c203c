//! `pgweir advise`: what pgweir would do for a database, by the statements that its server has counted.
//!
//! They are judged as the proxy judges them, with the catalog of the database; counters are asked about as a counter's rule is.

mod advice;
mod counters;
mod shapes;
mod show;
mod source;
mod text;

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::court::{self, Court};
use super::fail;
use crate::config::{self, Config};
use crate::monitor::Visit;
use crate::route::rules::Who;
use advice::{Advice, Worth};

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// The database, on its primary, or through a pgweir that stands before it, or the console of that (database pgweir): a URL, or
    /// key=value pairs as libpq takes them. Names without a schema are looked up as for its role
    #[arg(long, value_name = "URL")]
    connect: String,
    /// A configuration, for its lists of functions, its rules and its counters
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database's name in the configuration, if it is another one there
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Statements that are shown of each kind
    #[arg(long, value_name = "N", default_value = "20")]
    top: NonZeroUsize,
    /// Calls that make a counter worth a rule
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    min_calls: u64,
    /// Percent of the time of all statements that make a counter worth a rule
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    min_share: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Asks, judges and prints.
pub(super) fn run(question: &Question) -> ExitCode {
    let config = match question.config.as_ref().map(|file| config::load(file)).transpose() {
        Ok(config) => config,
        Err(complaints) => return fail(&complaints.to_string()),
    };
    let advice = super::runtime()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(advise(question, config.as_ref())));
    match advice.and_then(|advice| Ok(print(question, &advice)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("pgweir advise: {error}")),
    }
}

async fn advise(question: &Question, config: Option<&Config>) -> anyhow::Result<Advice> {
    let behind = shapes::behind(&question.connect, question.database.as_deref()).await?;
    let mut visit = Visit::begin(&question.connect, behind.as_deref(), "pgweir advise").await?;
    let source = match behind {
        Some(database) => shapes::read(&question.connect, database, &mut visit).await?,
        None => source::read(&mut visit).await?,
    };
    let seen = visit.catalog().await?;
    let name = question.database.clone().unwrap_or_else(|| source.place.database.clone());
    let entry = config.map(|config| court::entry(config, Some(&name))).transpose()?.flatten();
    let who = Who { database: &name, ..Who::default() };
    let court = Court::new(config, entry, &who, Some(&seen));
    let top = question.top.get();
    let worth = Worth { calls: question.min_calls, percent: question.min_share };
    let (mut advice, found) = Advice::new(source, &court, worth, top);
    let known = entry.map(|entry| entry.counters.as_slice()).unwrap_or_default();
    let judged = counters::judge(&mut visit, found, known).await?;
    let name = entry.map_or(name, |entry| entry.name.clone());
    advice.take(judged, &name, top);
    Ok(advice)
}

fn print(question: &Question, advice: &Advice) -> io::Result<()> {
    let shown = match question.json {
        true => text::json(&serde_json::to_string(advice)?) + "\n",
        false => advice.to_string(),
    };
    match io::stdout().lock().write_all(shown.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
