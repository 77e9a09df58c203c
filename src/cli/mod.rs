//! The command line: arguments (clap), exit codes.

pub mod demo;

/// Runs the command line.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
