//! One PostgreSQL server of a [`Cluster`](super::Cluster): started, queried, hurt and healed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use rand::RngExt as _;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::account::Account;
use super::eventually::{eventually, eventually_ok};
use super::guard::{Guard, Sweeper};
use super::process;

/// The one superuser, who needs no password over the Unix socket.
pub(super) const SUPERUSER: &str = "postgres";

/// How long a server may take to start, stop or obey. Generous: the machine may be busy, and nothing waits this long
/// when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

/// Below the kernel's range for outgoing connections (from 32768): a client that keeps dialling the port of a stopped
/// server could otherwise be given that very port, connect to itself, and keep the server from coming back.
const PORTS: std::ops::Range<u16> = 15_000..30_000;

/// Rows of text; `None` is NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// What all servers of a cluster share. Its sweeper goes last.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) program: PathBuf,
    pub(super) account: Account,
    /// Lines of postgresql.conf.
    pub(super) settings: String,
    /// Lines of pg_hba.conf.
    pub(super) hba: String,
    pub(super) sweeper: Sweeper,
}

#[derive(Debug)]
struct Running {
    guard: Guard,
    /// Stopped by SIGSTOP.
    frozen: bool,
}

/// One server. Dropped: stopped at once.
#[derive(Debug)]
pub struct Postgres {
    name: String,
    folder: PathBuf,
    port: AtomicU16,
    running: Mutex<Option<Running>>,
    common: Arc<Common>,
}

/// Facts about it.
impl Postgres {
    /// A server that does not run yet; its data folder must be there.
    pub(super) fn new(name: String, folder: PathBuf, common: Arc<Common>) -> Self {
        Self { name, folder, port: AtomicU16::new(0), running: Mutex::new(None), common }
    }

    /// Its name, `primary` or `replica0` and so on: a replica's application_name in pg_stat_replication.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its TCP port on 127.0.0.1, the same across restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The folder of its Unix socket.
    #[must_use]
    pub fn socket_folder(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Its data folder.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(self.folder.join("log")).map_or_else(|_| String::new(), |log| lossy(&log))
    }

    /// Whether it was started and neither stopped nor killed since.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// The postmaster's process id, while it runs.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> anyhow::Result<i32> {
        let text = std::fs::read_to_string(self.folder.join("pid"))
            .with_context(|| format!("{} does not run", self.name))?;
        Ok(text.trim().parse()?)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asking it.
impl Postgres {
    /// A connection as superuser, over the Unix socket. It ends when the client is dropped.
    ///
    /// # Errors
    /// The server does not take it.
    pub async fn connect(&self, database: &str) -> anyhow::Result<Client> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.socket_folder()).port(self.port());
        config.user(SUPERUSER).dbname(database).application_name("pgweir-fixture");
        let (client, connection) = config.connect(NoTls).await?;
        #[expect(clippy::disallowed_methods, reason = "the fixture is not part of the proxy's task set")]
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs statements in the database `postgres`, on a connection of their own.
    ///
    /// # Errors
    /// As the server says.
    pub async fn sql(&self, text: &str) -> anyhow::Result<Rows> {
        self.sql_in("postgres", text).await
    }

    /// Runs statements in a database, on a connection of their own.
    ///
    /// # Errors
    /// As the server says.
    pub async fn sql_in(&self, database: &str, text: &str) -> anyhow::Result<Rows> {
        let client = self.connect(database).await?;
        let messages = client.simple_query(text).await.with_context(|| format!("{}: {text}", self.name))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The first column of the first row.
    ///
    /// # Errors
    /// As the server says, or there is no row, or it is NULL.
    pub async fn value(&self, text: &str) -> anyhow::Result<String> {
        let rows = self.sql(text).await?;
        let first = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
        first.with_context(|| format!("{}: no value from {text}", self.name))
    }

    /// Waits until the server answers `expected` to `text` (as [`value`](Self::value) does).
    ///
    /// # Errors
    /// It has not within `within`: what it answered last.
    pub async fn wait_value(&self, text: &str, expected: &str, within: Duration) -> anyhow::Result<()> {
        eventually_ok(within, || async {
            let found = self.value(text).await?;
            if found == expected {
                return Ok(());
            }
            bail!("{}: {text} gives {found:?}, not {expected:?}", self.name)
        })
        .await
    }

    /// Waits until this replica has replayed the WAL up to `position` (an LSN such as `0/3000060`).
    ///
    /// # Errors
    /// It has not within `within`.
    pub async fn wait_replayed_to(&self, position: &str, within: Duration) -> anyhow::Result<()> {
        let text = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
        self.wait_value(&text, "t", within).await
    }
}

/// Starting and stopping it.
impl Postgres {
    /// Starts it where it stopped, on the same port, and waits until it takes connections.
    ///
    /// # Errors
    /// It runs already, or it does not start: the end of its log.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.launch()?;
        self.wait_ready().await
    }

    /// Stops it as `pg_ctl stop -m fast` does, and waits until it has. Nothing to do if it does not run.
    ///
    /// # Errors
    /// It does not stop.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.sigcont()?;
        if let Some(running) = self.running().as_mut() {
            running.guard.order("INT");
        }
        self.wait_gone().await
    }

    /// Kills the whole process tree with SIGKILL, as when the machine dies; the data folder stays. Nothing to do if it
    /// does not run.
    ///
    /// # Errors
    /// It does not die.
    pub async fn kill(&self) -> anyhow::Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        let (pid, children) = self.halt().await?;
        process::signal(pid, Signal::SIGKILL);
        children.iter().for_each(|&child| process::signal(child, Signal::SIGKILL));
        if let Some(running) = self.running().as_mut() {
            running.guard.order("KILL");
        }
        eventually(PATIENCE, || async { children.iter().all(|&child| process::is_dead(child)) }).await?;
        self.wait_gone().await
    }

    /// [`stop`](Self::stop), then [`start`](Self::start).
    ///
    /// # Errors
    /// As these.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// The first start: on a port that is free, replicating from `upstream` if it is a replica.
    pub(super) fn first_launch(&self, upstream: Option<&Self>) -> anyhow::Result<()> {
        self.port.store(free_port()?, Ordering::Relaxed);
        self.configure(upstream)?;
        self.launch()
    }

    /// Waits for the first start; goes on to another port when somebody took the one that was free.
    pub(super) async fn first_ready(&self, upstream: Option<&Self>) -> anyhow::Result<()> {
        const ATTEMPTS: usize = 20;
        for _ in 1..ATTEMPTS {
            match self.wait_ready().await {
                Err(_) if self.log().contains("could not create any TCP/IP sockets") => {
                    let _ = std::fs::remove_file(self.folder.join("log"));
                    self.first_launch(upstream)?;
                }
                outcome => return outcome,
            }
        }
        self.wait_ready().await
    }

    /// Starts the postmaster and does not wait. What a killed one left behind is cleared away: its pid may belong to
    /// somebody else by now, and PostgreSQL would take that one for itself.
    fn launch(&self) -> anyhow::Result<()> {
        let mut running = self.running();
        if running.is_some() {
            bail!("{} runs already", self.name);
        }
        let socket = self.socket_folder();
        let _ = std::fs::remove_file(self.data_folder().join("postmaster.pid"));
        let _ = std::fs::remove_dir_all(&socket);
        std::fs::create_dir(&socket)?;
        self.common.account.own(&socket)?;
        let common = &self.common;
        let guard = Guard::start(&common.program, &self.folder, &common.account, &common.sweeper)?;
        *running = Some(Running { guard, frozen: false });
        Ok(())
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let ended = || self.pid().is_ok_and(process::is_dead);
        let ready = eventually_ok(PATIENCE, || async {
            if ended() { Ok(false) } else { self.connect("postgres").await.map(|_| true) }
        });
        match ready.await {
            Ok(true) => Ok(()),
            outcome => {
                *self.running() = None;
                let error = outcome.err().unwrap_or_else(|| anyhow::anyhow!("it ended"));
                Err(error.context(format!("{} did not start:\n{}", self.name, tail(&self.log(), 15))))
            }
        }
    }

    async fn wait_gone(&self) -> anyhow::Result<()> {
        let gone = || self.running().as_mut().is_none_or(|running| running.guard.is_gone());
        eventually(PATIENCE, || async { gone() })
            .await
            .with_context(|| format!("{} does not stop", self.name))?;
        *self.running() = None;
        let _ = std::fs::remove_file(self.folder.join("pid"));
        Ok(())
    }

    fn configure(&self, upstream: Option<&Self>) -> anyhow::Result<()> {
        let data = self.data_folder();
        let mut settings = format!(
            "port = {}\nunix_socket_directories = '{}'\n{}",
            self.port(),
            self.socket_folder().display(),
            self.common.settings
        );
        if let Some(upstream) = upstream {
            settings.push_str(&format!("primary_conninfo = '{}'\n", self.conninfo(upstream)));
            let signal = data.join("standby.signal");
            std::fs::write(&signal, "")?;
            self.common.account.own(&signal)?;
            self.forget("primary_conninfo")?;
        }
        std::fs::write(data.join("postgresql.conf"), settings)?;
        std::fs::write(data.join("pg_hba.conf"), &self.common.hba)?;
        Ok(())
    }

    /// Takes a setting of ALTER SYSTEM away: it would outweigh that of the configuration.
    fn forget(&self, setting: &str) -> anyhow::Result<()> {
        let path = self.data_folder().join("postgresql.auto.conf");
        let text = std::fs::read_to_string(&path)?;
        let rest = text.lines().filter(|line| !line.starts_with(setting));
        Ok(std::fs::write(&path, rest.fold(String::new(), |all, line| all + line + "\n"))?)
    }

    fn conninfo(&self, upstream: &Self) -> String {
        let (port, name) = (upstream.port(), &self.name);
        format!("host=127.0.0.1 port={port} user={SUPERUSER} application_name={name} connect_timeout=2")
    }
}

/// Hurting it.
impl Postgres {
    /// Makes this replica a primary, and waits until it is.
    ///
    /// # Errors
    /// As the server says.
    pub async fn promote(&self) -> anyhow::Result<()> {
        self.sql("SELECT pg_promote(true, 30)").await?;
        self.wait_value("SELECT pg_is_in_recovery()", "f", PATIENCE).await
    }

    /// Makes this replica replicate from `upstream` from now on, and waits until it streams. To turn a stopped primary
    /// into a replica, see [`become_replica_of`](Self::become_replica_of).
    ///
    /// # Errors
    /// As the server says.
    pub async fn follow(&self, upstream: &Self) -> anyhow::Result<()> {
        self.alter("primary_conninfo", &self.conninfo(upstream)).await?;
        self.wait_streaming(upstream).await
    }

    /// Starts this stopped server as a replica of `upstream`. It must not have WAL that `upstream` has not (a primary
    /// that was stopped, not killed, while its replicas streamed).
    ///
    /// # Errors
    /// It runs, or it does not start.
    pub async fn become_replica_of(&self, upstream: &Self) -> anyhow::Result<()> {
        self.require_stopped()?;
        self.configure(Some(upstream))?;
        self.start().await?;
        self.wait_streaming(upstream).await
    }

    /// Replaces the data of this stopped server by a fresh copy of `source`, as `pg_basebackup` makes it; what was set
    /// there with ALTER SYSTEM is not copied. Then [`become_replica_of`](Self::become_replica_of), or
    /// [`become_primary`](Self::become_primary).
    ///
    /// # Errors
    /// It runs, or it cannot be copied.
    pub async fn copy_from(&self, source: &Self) -> anyhow::Result<()> {
        self.require_stopped()?;
        let data = self.data_folder();
        std::fs::remove_dir_all(&data)?;
        make_folder(&data, &self.common.account)?;
        std::fs::set_permissions(&data, Permissions::from_mode(0o700))?;
        let conninfo = self.conninfo(source);
        let mut command = tokio::process::Command::from(self.tool("pg_basebackup"));
        command.arg("-D").arg(&data).args(["-c", "fast", "-X", "stream", "-d", &conninfo]);
        finish(command).await?;
        Ok(std::fs::write(data.join("postgresql.auto.conf"), "")?)
    }

    /// Takes back what this stopped server has written and `source` has not, with `pg_rewind`. The servers need
    /// `full_page_writes` and `wal_log_hints` for that.
    ///
    /// # Errors
    /// It runs, or as `pg_rewind` says.
    pub async fn rewind_to(&self, source: &Self) -> anyhow::Result<()> {
        self.require_stopped()?;
        let conninfo = format!("{} dbname=postgres", self.conninfo(source));
        let mut command = tokio::process::Command::from(self.tool("pg_rewind"));
        command.arg("-D").arg(self.data_folder()).args(["--source-server", &conninfo]);
        finish(command).await
    }

    /// Starts this stopped server as a primary, whatever it was.
    ///
    /// # Errors
    /// It runs, or it does not start.
    pub async fn become_primary(&self) -> anyhow::Result<()> {
        self.require_stopped()?;
        let _ = std::fs::remove_file(self.data_folder().join("standby.signal"));
        self.configure(None)?;
        self.start().await
    }

    fn require_stopped(&self) -> anyhow::Result<()> {
        if self.is_running() {
            bail!("{} runs", self.name);
        }
        Ok(())
    }

    /// A program beside the server's, under its account; the sweeper waits for it.
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.common.program.with_file_name(name));
        self.common.account.apply(&mut command);
        command.current_dir(&self.folder);
        command
    }

    /// Waits until this replica streams from `upstream`.
    ///
    /// # Errors
    /// It does not.
    pub async fn wait_streaming(&self, upstream: &Self) -> anyhow::Result<()> {
        let name = &self.name;
        let text = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'"
        );
        upstream.wait_value(&text, "1", PATIENCE).await
    }

    /// Stops replay on this replica: it goes on receiving WAL, and its data stands still.
    ///
    /// # Errors
    /// As the server says.
    pub async fn pause_replay(&self) -> anyhow::Result<()> {
        self.sql("SELECT pg_wal_replay_pause()").await?;
        let version: u32 = self.value("SHOW server_version_num").await?.parse()?;
        if version < 140_000 {
            return self.wait_value("SELECT pg_is_wal_replay_paused()", "t", PATIENCE).await;
        }
        self.wait_value("SELECT pg_get_wal_replay_pause_state()", "paused", PATIENCE).await
    }

    /// Lets replay go on.
    ///
    /// # Errors
    /// As the server says.
    pub async fn resume_replay(&self) -> anyhow::Result<()> {
        self.sql("SELECT pg_wal_replay_resume()").await.map(drop)
    }

    /// Makes this replica show each commit only `delay` after it happened on the primary. Zero ends it.
    ///
    /// # Errors
    /// As the server says.
    pub async fn delay_replay(&self, delay: Duration) -> anyhow::Result<()> {
        self.alter("recovery_min_apply_delay", &delay.as_millis().to_string()).await
    }

    /// ALTER SYSTEM SET, reload, and wait until new connections see it. A replica may do this too.
    ///
    /// # Errors
    /// As the server says.
    pub async fn alter(&self, setting: &str, value: &str) -> anyhow::Result<()> {
        let quoted = value.replace('\'', "''");
        self.sql(&format!("ALTER SYSTEM SET {setting} = '{quoted}'")).await?;
        self.sql("SELECT pg_reload_conf()").await?;
        let text = format!("SELECT setting FROM pg_settings WHERE name = '{setting}'");
        self.wait_value(&text, value, PATIENCE).await
    }

    /// Freezes all its processes (SIGSTOP): the port takes connections and nobody answers.
    ///
    /// # Errors
    /// It does not run.
    pub async fn sigstop(&self) -> anyhow::Result<()> {
        let (_, children) = self.halt().await?;
        children.iter().for_each(|&child| process::signal(child, Signal::SIGSTOP));
        eventually(PATIENCE, || async { children.iter().all(|&child| process::is_stopped(child)) }).await
    }

    /// Ends what [`sigstop`](Self::sigstop) began; nothing to do if it did not.
    ///
    /// # Errors
    /// Its process cannot be found.
    pub fn sigcont(&self) -> anyhow::Result<()> {
        let mut running = self.running();
        let Some(running) = running.as_mut().filter(|running| running.frozen) else { return Ok(()) };
        let pid = self.pid()?;
        process::children(pid).iter().for_each(|&child| process::signal(child, Signal::SIGCONT));
        process::signal(pid, Signal::SIGCONT);
        running.frozen = false;
        Ok(())
    }

    /// Stops the postmaster, so that it forks no more, and names it and its children.
    async fn halt(&self) -> anyhow::Result<(i32, Vec<i32>)> {
        let pid = self.pid()?;
        if let Some(running) = self.running().as_mut() {
            running.frozen = true;
        }
        process::signal(pid, Signal::SIGSTOP);
        eventually(PATIENCE, || async { process::is_stopped(pid) }).await?;
        Ok((pid, process::children(pid)))
    }

    /// Has it stopped at once, and does not wait. For the cluster's end.
    pub(super) fn let_go(&self) {
        let _ = self.sigcont();
        if let Some(running) = self.running().as_mut() {
            running.guard.let_go();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> anyhow::Result<u16> {
    const ATTEMPTS: usize = 100;
    let mut random = rand::rng();
    for _ in 0..ATTEMPTS {
        let port = random.random_range(PORTS);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port found between {} and {}", PORTS.start, PORTS.end)
}

/// Makes the folder of one server, with its account as owner.
pub(super) fn make_folder(path: &Path, account: &Account) -> anyhow::Result<()> {
    std::fs::create_dir(path)?;
    account.own(path)
}

/// Runs to the end; a failure carries what the program said.
async fn finish(mut command: tokio::process::Command) -> anyhow::Result<()> {
    let output = command.kill_on_drop(true).stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        bail!("{}: {}", output.status, lossy(&output.stderr).trim());
    }
    Ok(())
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
