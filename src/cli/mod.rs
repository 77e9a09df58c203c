//! The command line: arguments (clap), exit codes. A stub, to be dropped in the merge: it knows the demo alone.

use clap::Parser as _;

pub mod demo;

#[derive(clap::Parser)]
enum Cli {
    /// Show pgweir at work on a cluster of its own
    Demo(demo::Args),
}

/// Runs the command line.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let Cli::Demo(args) = Cli::parse();
    demo::run(&args).unwrap_or_else(|error| {
        eprintln!("pgweir: {error:#}");
        std::process::ExitCode::FAILURE
    })
}
