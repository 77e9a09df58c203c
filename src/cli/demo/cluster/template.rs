//! Fresh data folders: one initdb, many copies (so that primary and replicas have the same system identifier).
//!
//! With a cache, the first run leaves its folder there and later runs only copy it. Copies are made by us, not by the
//! account that runs PostgreSQL: the cache may lie where that account cannot look.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};

use super::account::{Account, Programs};
use super::guard::Sweeper;

/// Part of a template's name: raise it when what [`initialise`] makes changes.
const LAYOUT: u32 = 1;

/// A fresh data folder that copies are taken from.
#[derive(Debug)]
pub(super) struct Template {
    data: PathBuf,
}

impl Template {
    /// Finds it in `cache`, or makes it: in the cache, or without one in the cluster's own `folder`. Blocks.
    pub(super) fn prepare(
        programs: &Programs,
        account: &Account,
        sweeper: &Sweeper,
        cache: Option<&Path>,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let made = folder.join("template");
        let Some(cache) = cache else {
            initialise(programs, account, sweeper, &made)?;
            return Ok(Self { data: made });
        };
        std::fs::create_dir_all(cache)?;
        let name = format!("postgres-{}-uid{}-layout{LAYOUT}", programs.version(), account.uid());
        let _lock = lock(&cache.join(format!("{name}.lock")))?;
        let data = cache.join(&name);
        if !data.exists() {
            initialise(programs, account, sweeper, &made)?;
            let new = cache.join(format!("{name}.new"));
            if new.exists() {
                std::fs::remove_dir_all(&new)?;
            }
            copy(&made, &new, sweeper)?;
            std::fs::rename(&new, &data)?;
            std::fs::remove_dir_all(&made)?;
        }
        Ok(Self { data })
    }

    /// Copies it to `target`, which must not exist. Blocks.
    pub(super) fn copy_to(&self, target: &Path, sweeper: &Sweeper) -> anyhow::Result<()> {
        copy(&self.data, target, sweeper)
    }

    /// Copies it to all of `targets`; a template that no cache keeps becomes the last of them. Blocks.
    pub(super) fn spread(self, targets: &[PathBuf], cached: bool, sweeper: &Sweeper) -> anyhow::Result<()> {
        let Some((last, others)) = targets.split_last() else { return Ok(()) };
        for target in others {
            self.copy_to(target, sweeper)?;
        }
        if cached { self.copy_to(last, sweeper) } else { Ok(std::fs::rename(&self.data, last)?) }
    }
}

/// Waits for the lock file at `path`; the lock ends with the value, or with the process.
fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let file = File::create(path)?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| anyhow::Error::from(error))
        .with_context(|| format!("cannot lock {}", path.display()))
}

/// initdb, and one moment in single-user mode that lowers the limits noted in the control file: a replica must not have
/// lower limits than were last in force on the primary, and a test may want few connections on every server.
/// Segments of 1 MB keep the copies small.
fn initialise(programs: &Programs, account: &Account, sweeper: &Sweeper, data: &Path) -> anyhow::Result<()> {
    let home = data.parent().context("a data folder has a parent")?;
    let mut initdb = Command::new(programs.path("initdb"));
    initdb.args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "--wal-segsize=1",
    ]);
    initdb.arg("-D").arg(data);
    run(initdb, account, sweeper, home)?;
    let mut single = Command::new(programs.path("postgres"));
    single.arg("--single").arg("-D").arg(data);
    for limit in [
        "max_connections=5",
        "max_wal_senders=1",
        "max_worker_processes=1",
        "max_locks_per_transaction=10",
        "max_prepared_transactions=0",
        "superuser_reserved_connections=1",
        "fsync=off",
    ] {
        single.arg("-c").arg(limit);
    }
    single.arg("template1");
    run(single, account, sweeper, home)
}

/// Runs `command` under the account; its standard output holds the folder, so that the sweeper waits for it.
fn run(mut command: Command, account: &Account, sweeper: &Sweeper, home: &Path) -> anyhow::Result<()> {
    account.apply(&mut command);
    command.current_dir(home).stdin(Stdio::null()).stdout(sweeper.hold()?).stderr(Stdio::piped());
    finish(command)
}

/// `cp -Rp`: keeps owner and mode, and shares blocks where the file system can.
fn copy(source: &Path, target: &Path, sweeper: &Sweeper) -> anyhow::Result<()> {
    let mut command = Command::new("cp");
    command.arg("-Rp").arg(source).arg(target);
    command.stdin(Stdio::null()).stdout(sweeper.hold()?).stderr(Stdio::piped());
    finish(command)
}

/// Runs to the end; a failure carries what the program said.
fn finish(mut command: Command) -> anyhow::Result<()> {
    let name = command.get_program().to_owned();
    let child = command.spawn().with_context(|| format!("cannot run {}", name.display()))?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{}: {}\n{}", name.display(), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
