//! A real PostgreSQL primary and its streaming replicas, in a temporary folder, on free ports: what `pgweir demo` runs
//! against, and what the live tests run against.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use pgweir::cli::demo::cluster::Cluster;
//!
//! let cluster = Cluster::builder().replicas(2).setting("max_connections", "50").start().await?;
//! cluster.primary().sql("CREATE TABLE photos (id int PRIMARY KEY, votes int)").await?;
//! cluster.wait_replayed(Duration::from_secs(5)).await?;
//! cluster.replica(0).pause_replay().await?;
//! cluster.replica(1).kill().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: nothing is left running and no folder is left lying about, however this process ends (see `guard.rs`).

mod account;
mod eventually;
mod guard;
mod postgres;
mod process;
mod template;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use account::{Account, Programs};
use guard::Sweeper;
use postgres::{Common, SUPERUSER, make_folder};
use template::Template;

pub use eventually::{eventually, eventually_ok};
pub use postgres::{Postgres, Rows};

/// What every server gets, before the builder's own settings. Timeouts are short so that a replica notices within seconds
/// that its primary is gone; WAL is kept so that a replica that slept can still catch up.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
max_connections = 200
max_wal_senders = 20
shared_buffers = '32MB'
wal_level = replica
wal_keep_size = '512MB'
max_wal_size = '512MB'
hot_standby = on
wal_receiver_status_interval = '1s'
wal_receiver_timeout = '5s'
wal_sender_timeout = '5s'
wal_retrieve_retry_interval = '100ms'
recovery_target_timeline = 'latest'
log_line_prefix = '%m [%p] %a '
";

/// Without fsync: a test's data need not survive a power cut. (They survive SIGKILL, which is what tests do to a server.)
const FAST: &str = "fsync = off\nfull_page_writes = off\n";

/// What a cluster is to be like.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    replicas: usize,
    cache: Option<PathBuf>,
    durable: bool,
    settings: String,
    hba: String,
}

impl Builder {
    /// How many replicas: none unless said.
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Where a fresh data folder may be kept from run to run. Tests say `env!("CARGO_TARGET_TMPDIR")`. Such clusters live
    /// in memory (/dev/shm) where there is plenty, unless TMPDIR says where to.
    pub fn cache(mut self, folder: impl AsRef<Path>) -> Self {
        self.cache = Some(folder.as_ref().to_owned());
        self
    }

    /// With fsync, as in real life. Off unless asked for.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// One line of postgresql.conf, on every server; it wins over the defaults.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        self
    }

    /// One line of pg_hba.conf, on every server; it goes before the lines that trust everybody on 127.0.0.1.
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push_str(line);
        self.hba.push('\n');
        self
    }

    /// Starts the servers, and waits until all replicas stream.
    ///
    /// # Errors
    /// PostgreSQL is missing, or a server does not start: the end of its log.
    pub async fn start(self) -> anyhow::Result<Cluster> {
        let cluster = tokio::task::spawn_blocking(move || self.prepare()).await??;
        let primary = cluster.primary();
        primary.first_launch(None)?;
        primary.first_ready(None).await?;
        for replica in cluster.replicas() {
            replica.first_launch(Some(primary))?;
        }
        for replica in cluster.replicas() {
            replica.first_ready(Some(primary)).await?;
        }
        for replica in cluster.replicas() {
            replica.wait_streaming(primary).await?;
        }
        Ok(cluster)
    }

    /// Folders and fresh data, nothing running yet. Blocks.
    fn prepare(self) -> anyhow::Result<Cluster> {
        let programs = Programs::find()?;
        let account = Account::find()?;
        let base = account.temporary_base(self.cache.is_some() && !self.durable);
        let temporary = tempfile::Builder::new().prefix("pgweir-").tempdir_in(base)?;
        std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755))?;
        account.own(temporary.path())?;
        let sweeper = Sweeper::start(temporary.path())?;
        let folder = temporary.keep();

        let template = Template::prepare(&programs, &account, &sweeper, self.cache.as_deref(), &folder)?;
        let names: Vec<String> = std::iter::once("primary".to_owned())
            .chain((0..self.replicas).map(|index| format!("replica{index}")))
            .collect();
        for name in &names {
            make_folder(&folder.join(name), &account)?;
        }
        let targets: Vec<PathBuf> = names.iter().map(|name| folder.join(name).join("data")).collect();
        template.spread(&targets, self.cache.is_some(), &sweeper)?;

        let common = Arc::new(Common {
            program: programs.path("postgres"),
            account,
            settings: format!("{SETTINGS}{}{}", if self.durable { "" } else { FAST }, self.settings),
            hba: format!(
                "local all {SUPERUSER} trust\n{}local all all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n",
                self.hba
            ),
            sweeper,
        });
        let servers = names
            .into_iter()
            .map(|name| {
                let home = folder.join(&name);
                Postgres::new(name, home, Arc::clone(&common))
            })
            .collect();
        Ok(Cluster { servers, folder, _common: common })
    }
}

/// A primary and its replicas. Dropped: stopped at once, and their folder removed.
#[derive(Debug)]
pub struct Cluster {
    /// The primary first. Never empty.
    servers: Vec<Postgres>,
    folder: PathBuf,
    /// Last, for its sweeper waits until the servers are gone.
    _common: Arc<Common>,
}

impl Cluster {
    /// Begins to say what a cluster is to be like.
    pub fn builder() -> Builder {
        Builder { replicas: 0, cache: None, durable: false, settings: String::new(), hba: String::new() }
    }

    /// The server that was started as primary.
    #[must_use]
    pub fn primary(&self) -> &Postgres {
        &self.servers[0]
    }

    /// The replica of this number, counted from 0.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn replica(&self, index: usize) -> &Postgres {
        &self.replicas()[index]
    }

    /// All that were started as replicas.
    #[must_use]
    pub fn replicas(&self) -> &[Postgres] {
        self.servers.get(1..).unwrap_or_default()
    }

    /// All servers, the primary first.
    #[must_use]
    pub fn all(&self) -> &[Postgres] {
        &self.servers
    }

    /// The addresses of all, `127.0.0.1:port`, the primary first.
    #[must_use]
    pub fn servers(&self) -> Vec<String> {
        self.servers.iter().map(Postgres::address).collect()
    }

    /// The superuser's name. No password is needed unless a line of [`Builder::hba`] asks for one.
    #[must_use]
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// The folder that holds everything, and that goes with this value.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until all replicas that run have replayed what the primary has written by now.
    ///
    /// # Errors
    /// One has not within `within`.
    pub async fn wait_replayed(&self, within: Duration) -> anyhow::Result<()> {
        let position = self.primary().value("SELECT pg_current_wal_lsn()").await?;
        for replica in self.replicas().iter().filter(|replica| replica.is_running()) {
            replica.wait_replayed_to(&position, within).await?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.servers.iter().for_each(Postgres::let_go);
    }
}
