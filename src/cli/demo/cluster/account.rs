//! Which programs, and as whom: PostgreSQL's binaries on this machine, and the account that runs them (PostgreSQL refuses
//! to run as root).

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::unistd::{Gid, Uid, User};

/// The account that PostgreSQL runs under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    uid: Uid,
    /// Set when we must change to it; `None` when it is our own.
    gid: Option<Gid>,
}

impl Account {
    /// Ourselves, or the user `postgres` when we are root.
    pub(super) fn find() -> anyhow::Result<Self> {
        let uid = Uid::effective();
        if !uid.is_root() {
            return Ok(Self { uid, gid: None });
        }
        let user = User::from_name("postgres")?
            .context("PostgreSQL does not run as root, and there is no user postgres: create one, or run as another user")?;
        Ok(Self { uid: user.uid, gid: Some(user.gid) })
    }

    /// Its number: part of a template's name.
    pub(super) fn uid(&self) -> Uid {
        self.uid
    }

    /// Makes `command` run under this account, in a bare environment (no PGHOST, PGDATA or locale from outside).
    pub(super) fn apply(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        command.env_clear().env("PATH", path).env("LC_ALL", "C");
        if let Some(gid) = self.gid {
            command.uid(self.uid.as_raw()).gid(gid.as_raw());
        }
    }

    /// Gives `path` to this account.
    pub(super) fn own(&self, path: &Path) -> anyhow::Result<()> {
        match self.gid {
            None => Ok(()),
            Some(gid) => nix::unistd::chown(path, Some(self.uid), Some(gid))
                .with_context(|| format!("cannot give {} to user postgres", path.display())),
        }
    }

    /// A folder for temporary folders that this account can reach, short enough for a socket's name (107 bytes). With
    /// `fleeting`, in memory where there is plenty: on a disk, copying data folders takes most of a test's time.
    pub(super) fn temporary_base(&self, fleeting: bool) -> PathBuf {
        /// Three servers with all the WAL that they may keep.
        const PLENTY: u64 = 4 << 30;
        let memory = Path::new("/dev/shm");
        if fleeting && std::env::var_os("TMPDIR").is_none() && free_space(memory) >= PLENTY {
            return memory.to_owned();
        }
        let base = std::env::temp_dir();
        let open =
            |folder: &Path| folder.metadata().is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
        let reachable = self.gid.is_none() || base.ancestors().all(open);
        let short = base.as_os_str().len() <= 50;
        if base.is_absolute() && reachable && short { base } else { PathBuf::from("/tmp") }
    }
}

/// Bytes that are free in a folder where everybody may make folders; 0 if it is no such folder.
fn free_space(folder: &Path) -> u64 {
    let shared = folder.metadata().is_ok_and(|found| found.permissions().mode() & 0o777 == 0o777);
    match nix::sys::statvfs::statvfs(folder) {
        Ok(found) if shared => found.blocks_available().saturating_mul(found.fragment_size()),
        _ => 0,
    }
}

/// PostgreSQL's programs.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    folder: PathBuf,
    version: String,
}

impl Programs {
    /// `PGWEIR_PG_BIN`, else the newest under /usr/lib/postgresql, else where `pg_config` says.
    pub(super) fn find() -> anyhow::Result<Self> {
        let folder = match std::env::var_os("PGWEIR_PG_BIN") {
            Some(folder) => PathBuf::from(folder),
            None => newest().or_else(configured).context(
                "no PostgreSQL server found: install the package `postgresql`, or set PGWEIR_PG_BIN to the folder of initdb and postgres",
            )?,
        };
        let output = Command::new(folder.join("postgres"))
            .arg("--version")
            .output()
            .with_context(|| format!("cannot run {}/postgres", folder.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let Some(version) = text.split_whitespace().nth(2) else {
            bail!("{}/postgres --version said {text:?}", folder.display());
        };
        Ok(Self { version: version.to_owned(), folder })
    }

    /// The path of one program.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The version, such as `15.18`.
    pub(super) fn version(&self) -> &str {
        &self.version
    }
}

/// The newest folder of Debian's layout that holds a server.
fn newest() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    folders
        .filter_map(|folder| {
            let folder = folder.ok()?;
            let major: u32 = folder.file_name().to_str()?.parse().ok()?;
            let bin = folder.path().join("bin");
            (bin.join("initdb").exists() && bin.join("postgres").exists()).then_some((major, bin))
        })
        .max()
        .map(|(_, bin)| bin)
}

/// Where pg_config says the programs are, if a server is among them (a client-only machine has pg_config too).
fn configured() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let bin = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    (bin.join("initdb").exists() && bin.join("postgres").exists()).then_some(bin)
}
