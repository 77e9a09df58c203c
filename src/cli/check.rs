//! `pgweir check`: reads a configuration and says whether it is fine, by itself and, if asked, to its servers.

mod connect;

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::fail;
use crate::config::{self, Config};

/// Prints every complaint and fails, or says in one line what the file holds; and then, if asked, what the servers say.
pub(crate) fn run(file: &Path, connect: bool) -> ExitCode {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(complaints) => return fail(&complaints.to_string()),
    };
    // Nobody is left to tell when standard output is closed.
    let _ = writeln!(io::stdout(), "{}: ok: {}", file.display(), summary(&config));
    if !connect {
        return ExitCode::SUCCESS;
    }
    let found = match super::runtime() {
        Ok(runtime) => runtime.block_on(connect::look(&config)),
        Err(error) => return fail(&format!("pgweir check: {error}")),
    };
    for line in found.said {
        let _ = writeln!(io::stdout(), "{line}");
    }
    if found.wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    let wrong = found.wrong.iter().map(|wrong| format!("{}: {wrong}", file.display()));
    fail(&wrong.collect::<Vec<_>>().join("\n"))
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
        assert_eq!(run(Path::new("/not/there.toml"), false), ExitCode::FAILURE);
    }
}
