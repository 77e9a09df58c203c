//! The command line: arguments (clap), exit codes.

// The arguments that reach it come with clap.
#[cfg_attr(not(test), allow(dead_code))]
mod check;

/// Runs the command line.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
