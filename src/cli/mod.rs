//! The command line: arguments (clap), exit codes.

mod advise;
mod check;
mod court;
pub mod demo;
mod route;
mod run;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// A read/write-splitting proxy for PostgreSQL: reads on the replicas, writes on the primary, and a reason for every
/// statement.
#[derive(Debug, Parser)]
#[command(name = "pgweir", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy until SIGINT or SIGTERM
    Run(Source),
    /// Check a configuration: every mistake at once, each with its line, its key and the nearest valid key
    Check {
        /// The configuration file
        file: PathBuf,
        /// Ask the servers, too: whether each can be reached, what it is, and whether counters would be merged there
        #[arg(long)]
        connect: bool,
    },
    /// Say where a statement would go, and why
    Route(route::Question),
    /// Say what pgweir would do for a database, by the statements that its server (pg_stat_statements) or a pgweir has counted: counters worth
    /// merging, with their rules, reads that would move to replicas, and reads that would not, and why
    Advise(advise::Question),
    /// Start a primary and replicas in a temporary folder, put pgweir before them, and watch a small site's load
    Demo(demo::Args),
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A server, instead of a file: all defaults, every database name; give it once for each server
    #[arg(short, long, value_name = "HOST:PORT")]
    server: Vec<String>,
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(source) => run::run(&source),
        Command::Check { file, connect } => check::run(&file, connect),
        Command::Route(question) => route::run(&question),
        Command::Advise(question) => advise::run(&question),
        Command::Demo(args) => {
            demo::run(&args).unwrap_or_else(|error| fail(&format!("pgweir demo: {error:#}")))
        }
    }
}

/// Says what went wrong.
fn fail(text: &str) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}

/// A runtime for one question to a server.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
