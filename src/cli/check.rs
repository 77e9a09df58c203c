//! `pgweir check`: reads a configuration and says whether it is fine.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Config};

/// Prints every complaint and fails, or says in one line what the file holds.
pub(crate) fn run(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(config) => {
            // Nobody is left to tell when standard output is closed.
            let _ = writeln!(std::io::stdout(), "{}: ok: {}", file.display(), summary(&config));
            ExitCode::SUCCESS
        }
        Err(complaints) => {
            let _ = writeln!(std::io::stderr(), "{complaints}");
            ExitCode::FAILURE
        }
    }
}

fn summary(config: &Config) -> String {
    let servers = config.databases.iter().flat_map(|database| &database.servers);
    let servers: HashSet<_> = servers.map(|server| &server.address).collect();
    format!("{}, {}", counted(config.databases.len(), "database"), counted(servers.len(), "server"))
}

fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_server_once() {
        let text = "databases.a.servers = ['h', 'i']\ndatabases.b.servers = ['h:5432']";
        assert_eq!(summary(&config::parse(text, "x").unwrap()), "2 databases, 2 servers");
    }

    #[test]
    fn fails_where_there_is_no_file() {
        assert_eq!(run(Path::new("/not/there.toml")), ExitCode::FAILURE);
    }
}
