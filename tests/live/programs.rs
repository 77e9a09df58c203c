//! Running pgweir before a cluster, and PostgreSQL's programs before pgweir. What is started ends with its value.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pgweir::app::Pgweir;
use pgweir::cli::demo::cluster::{Builder, Cluster, eventually_ok};
use pgweir::config;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// Longest that replay, a probe or a signal may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Longest that one program may take; nothing takes this long when all is well.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn cluster() -> Builder {
    Cluster::builder().cache(env!("CARGO_TARGET_TMPDIR"))
}

/// The configuration of a pgweir on free ports of 127.0.0.1; `rest` follows the tables that every test needs.
pub(crate) fn text(cluster: &Cluster, top: &str, rest: &str) -> String {
    let servers = cluster.servers();
    let monitor = if rest.contains("[monitor]") { "" } else { "[monitor]\nuser = \"postgres\"\n" };
    let any = if rest.contains("[databases") { "" } else { "[databases.\"*\"]\nservers = SERVERS\n" };
    let listen = if top.contains("listen") { "" } else { "listen = \"127.0.0.1:0\"\n" };
    // The machine may be busy with other tests.
    format!("{listen}freshness_wait = \"1s\"\n{top}\n[metrics]\nlisten = \"off\"\n{monitor}{any}{rest}\n")
        .replace("SERVERS", &format!("{servers:?}"))
}

/// A pgweir before `cluster`: every database, nobody is asked for a password.
pub(crate) async fn before(cluster: &Cluster) -> Pgweir {
    configured(cluster, "auth_type = \"trust\"", "").await
}

/// A pgweir with a configuration of its own, ready to serve reads by every replica.
pub(crate) async fn configured(cluster: &Cluster, top: &str, rest: &str) -> Pgweir {
    let text = text(cluster, top, rest);
    let parsed = config::parse(&text, "test").unwrap_or_else(|found| panic!("{found}\n{text}"));
    Pgweir::start(parsed).unwrap()
}

/// The TCP port that a pgweir listens on.
pub(crate) fn port(pgweir: &Pgweir) -> u16 {
    pgweir.addresses()[0].port()
}

/// Waits until reads go to a replica: the first ones may come before the first probes, or before the catalog is known. What
/// a read on the primary has cleaned up reaches a replica only with the next commit, or with what a primary logs every 15 s.
pub(crate) async fn wait_for_replica(port: u16, database: &str) {
    let asked = || async {
        let out =
            psql(port, database, &["-Atc", "SELECT pg_is_in_recovery() FROM pg_class LIMIT 1"]).run().await;
        anyhow::ensure!(out.out.trim() == "t", "{out:?}");
        Ok(())
    };
    eventually_ok(3 * SOON, asked).await.unwrap();
}

/// The folder of PostgreSQL's programs: as the fixture's, so that servers and clients are of one version.
fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("PGWEIR_PG_BIN") {
        return folder.into();
    }
    let folders = std::fs::read_dir("/usr/lib/postgresql").unwrap();
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = folders.map(|entry| entry.unwrap().path()).max_by_key(version).unwrap();
    newest.join("bin")
}

/// A program to be run.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    input: Vec<u8>,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Output {
    /// What it said, if it ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self.out
    }
}

impl Program {
    /// One of PostgreSQL's programs, as a client of `port` on 127.0.0.1, in a bare environment.
    pub(crate) fn postgres(name: &str, port: u16) -> Self {
        // A package may have the server alone.
        let own = folder().join(name);
        let mut command = Command::new(if own.exists() { own } else { name.into() });
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("HOME", "/nonexistent");
        command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string()).env("PGUSER", "postgres");
        command.env("PGCONNECT_TIMEOUT", "20").env("PGTZ", "UTC").env("PSQL_HISTORY", "/dev/null");
        Self { command, input: Vec::new() }
    }

    /// pgweir itself.
    pub(crate) fn pgweir() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgweir"));
        for name in ["PGUSER", "PGPASSWORD", "RUST_LOG", "COLUMNS"] {
            command.env_remove(name);
        }
        Self { command, input: Vec::new() }
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads from its standard input.
    pub(crate) fn input(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.input = text.into();
        self
    }

    /// Starts it; it is killed when the value is dropped. Its input stays open, its output is piped.
    pub(crate) fn spawn(mut self) -> Child {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        self.command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command.as_std()))
    }

    /// Runs it to its end.
    pub(crate) async fn run(mut self) -> Output {
        let input = std::mem::take(&mut self.input);
        let shown = format!("{:?}", self.command.as_std());
        let mut child = self.spawn();
        let mut stdin = child.stdin.take().unwrap();
        let ended = tokio::time::timeout(PATIENCE, async {
            // A program that does not read its input to the end is no error here.
            let feed = async move { drop((stdin.write_all(&input).await, stdin)) };
            tokio::join!(feed, child.wait_with_output()).1.unwrap()
        });
        let ended = ended.await.unwrap_or_else(|_| panic!("{shown} does not end"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Output { code: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) }
    }
}

/// psql as a client of `port`, without anybody's settings.
pub(crate) fn psql(port: u16, database: &str, args: &[&str]) -> Program {
    Program::postgres("psql", port).args(["-X", "-w", "-d", database]).args(args)
}

/// Sends a signal to a child that has not been waited for.
pub(crate) fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}
