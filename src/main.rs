//! The binary: hands the arguments to [`pgweir::cli`] and turns the outcome into an exit code.

fn main() -> std::process::ExitCode {
    pgweir::cli::main()
}
