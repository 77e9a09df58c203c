//! One TOML file in, one [`Config`] out, or every mistake in it at once.
//!
//! [`keys`] has one row per setting; `raw` turns what was typed into values, row by row, each with its place; `check`
//! turns values into what is meant: the `Options` of the modules below. Nothing below knows that a file exists.

mod check;
mod complaint;
mod counter_keys;
mod counters;
mod databases;
mod discover;
mod key;
pub mod keys;
mod kind;
mod raw;
mod rules;
mod value;

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::{admin, auth, client, cluster, counter, monitor, net, pool, route, server};

pub use complaint::{Complaint, Complaints};

use complaint::Log;

/// What the operator wants, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: Vec<net::Address>,
    /// Threads that serve clients; 0: see [`Config::worker_threads`].
    pub workers: usize,
    /// How long what is under way may take to end when pgweir does.
    pub shutdown_timeout: Duration,
    /// Limits for clients.
    pub client: client::Options,
    /// Who may come in, and how.
    pub auth: auth::Options,
    /// Who may use the console.
    pub admin: admin::Options,
    /// Where Prometheus scrapes; nowhere if `None`.
    pub metrics_listen: Option<SocketAddr>,
    /// What is logged, and how.
    pub log: LogOptions,
    /// How statements are judged.
    pub judge: route::JudgeOptions,
    /// What is known of the databases' own names.
    pub catalog: monitor::CatalogOptions,
    /// Where increments are written down that are answered before they are committed.
    pub journal: Option<counter::JournalOptions>,
    /// The databases, in the order of the file.
    pub databases: Vec<Database>,
    /// Where it was read from.
    pub file: Option<PathBuf>,
    /// Who knows the addresses of host names that are asked for all of them.
    pub resolver: net::Resolver,
    fixed: Fixed,
}

/// What was typed for settings that a reload does not apply, as hashes. Two files may mean the same and differ in it.
#[derive(Clone, Default)]
struct Fixed(BTreeMap<String, u64>);

impl fmt::Debug for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixed").finish_non_exhaustive()
    }
}

impl Config {
    /// The settings that a reload does not apply, and that are not as they were `before`.
    #[must_use]
    pub fn differs(&self, before: &Config) -> Vec<String> {
        let (Fixed(now), Fixed(before)) = (&self.fixed, &before.fixed);
        let names = now.keys().chain(before.keys());
        let mut differ: Vec<_> = names.filter(|name| now.get(*name) != before.get(*name)).cloned().collect();
        differ.sort();
        differ.dedup();
        differ
    }

    /// How many threads to serve clients with: `workers`, or half of the machine's cores (the other half is for
    /// PostgreSQL or the web server beside it), at least one.
    #[must_use]
    pub fn worker_threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
            chosen => chosen,
        }
    }
}

/// A server of a database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Where it is.
    pub address: net::Address,
    /// What else is said of it.
    pub orders: cluster::Orders,
}

/// A name that clients connect to, and the servers behind it.
#[derive(Clone, Debug)]
pub struct Database {
    /// The name; `*` serves every name that has no entry of its own.
    pub name: String,
    /// The database's name on the servers; `None`: the name the client asked for.
    pub server_database: Option<String>,
    /// The servers. Which one is the primary is found out.
    pub servers: Vec<Server>,
    /// How reads are spread over replicas.
    pub spread: cluster::Spread,
    /// Limits of each of its pools.
    pub pool: pool::Options,
    /// Who waits for a primary.
    pub failover: client::FailoverOptions,
    /// What becomes of reads while no replica may take them.
    pub fallback: client::FallbackOptions,
    /// As whom servers are logged in to, whatever the client's user is; `None`: as the client's user.
    pub login: Option<server::Login>,
    /// How its servers are probed.
    pub monitor: monitor::Options,
    /// How more of them are found.
    pub discover: monitor::Discover,
    /// Whose increments are merged.
    pub counters: Vec<counter::Rule>,
    /// What is said of its statements.
    pub rules: Arc<route::Rules>,
}

impl Database {
    /// The servers of its cluster: those that were not taken out, but for a name that is known to be several these.
    pub fn members(&self) -> impl Iterator<Item = &Server> {
        let is_several = |server: &Server| self.addresses_of(server).next().is_some();
        self.servers.iter().filter(move |server| server.is_member() && !is_several(server))
    }

    /// Those that are one address of a server's host name, taken out or not.
    pub fn addresses_of<'a>(&'a self, named: &'a Server) -> impl Iterator<Item = &'a Server> {
        self.servers.iter().filter(|server| server.address.is_one_of(&named.address))
    }
}

impl Server {
    /// Whether it was not taken out. One that was keeps its place, for rules go by that, and is not found again.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.orders.duty != cluster::Duty::Removed
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The form of a line.
    pub format: LogFormat,
    /// A level, or several as `tracing` reads them: `info,pgweir::route=debug`.
    pub level: String,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// The form of a line in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads a configuration. `file` names it in complaints, and its folder is where relative paths in it start.
///
/// # Errors
/// Every mistake that was found, in the order of the file.
pub fn parse(text: &str, file: &str) -> Result<Config, Complaints> {
    let folder = Path::new(file).parent().unwrap_or(Path::new("")).to_path_buf();
    parse_in(text, file, &Surroundings::of_this_process(folder))
}

/// Reads the configuration in a file.
///
/// # Errors
/// Every mistake that was found, or why the file cannot be read.
pub fn load(path: &Path) -> Result<Config, Complaints> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &file).map(|config| Config { file: Some(path.to_owned()), ..config }),
        Err(error) => Err(Complaints(vec![Complaint::of_file(&file, format!("cannot be read: {error}"))])),
    }
}

/// The configuration without a file: one database `*` on these servers, and every default.
///
/// # Errors
/// What is wrong with the servers.
pub fn zero(servers: &[String]) -> Result<Config, Complaints> {
    zero_in(servers, &Surroundings::of_this_process(PathBuf::new()))
}

fn zero_in(servers: &[String], around: &Surroundings<'_>) -> Result<Config, Complaints> {
    // Each on a line of its own, from the second on: the line of a complaint then says which it is about.
    // A JSON string is a TOML string but for DEL, which TOML wants escaped.
    let quote = |text: &String| serde_json::Value::from(text.as_str()).to_string().replace('\x7f', "\\u007f");
    let quoted: Vec<String> = servers.iter().map(quote).collect();
    let text = format!("databases.\"*\".servers = [\n{}\n]\n", quoted.join(",\n"));
    parse_in(&text, "command line", around).map_err(|Complaints(found)| {
        let of_the_line = |complaint: Complaint| {
            let key = match complaint.line.saturating_sub(1) {
                nth @ 1.. if servers.len() > 1 => format!("--server number {nth}"),
                _ => "--server".to_owned(),
            };
            Complaint { line: 0, column: 0, key, ..complaint }
        };
        Complaints(found.into_iter().map(of_the_line).collect())
    })
}

/// What a configuration may ask of the world around it. Tests give another one.
struct Surroundings<'a> {
    /// A variable of the environment; empty counts as unset, as it does for libpq.
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file.
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Where relative paths start.
    folder: PathBuf,
}

impl Surroundings<'_> {
    fn of_this_process(folder: PathBuf) -> Self {
        Self {
            variable: &|name| std::env::var(name).ok().filter(|value| !value.is_empty()),
            read: &|path| std::fs::read_to_string(path),
            folder,
        }
    }
}

fn parse_in(text: &str, file: &str, around: &Surroundings<'_>) -> Result<Config, Complaints> {
    let mut log = Log::new(file, text);
    let sheet = raw::read(text, &mut log);
    let config = sheet.and_then(|sheet| check::config(&sheet, around, &mut log));
    match (config, log.finish()) {
        (Some(config), None) => Ok(config),
        (_, Some(complaints)) => Err(complaints),
        (None, None) => Err(Complaints(vec![Complaint::of_file(file, "cannot be understood".to_owned())])),
    }
}
