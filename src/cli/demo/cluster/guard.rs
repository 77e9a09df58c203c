//! Guards: tiny shells between us and what must not outlive us.
//!
//! Each postmaster has a guard, a `sh` whose standard input is a pipe that only we hold. A word on the pipe stops the
//! server with that signal; the pipe's end, which the kernel brings about however we die (SIGKILL too), stops it with
//! SIGQUIT. Each cluster has one sweeper, which removes the folder when *its* pipe ends, and every guard holds that pipe
//! as its standard output. So: folder removed => all guards gone => all postmasters gone.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context as _;

use super::account::Account;

/// `$1` the postgres binary, `$2` the server's folder. The trap comes after the start, so that the server does not
/// inherit it; SIGCONT comes last, because a stopped process keeps its other signals waiting.
const GUARD: &str = r#"
"$1" -D "$2/data" </dev/null >>"$2/log" 2>&1 &
server=$!
trap '' HUP INT TERM
echo "$server" >"$2/pid.new" && mv "$2/pid.new" "$2/pid"
read -r how || how=QUIT
kill -s "$how" "$server"
kill -s CONT "$server"
wait "$server"
"#;

/// `$1` the cluster's folder. `cat` ends when the last holder of the pipe is gone. A second try covers a file that an
/// orphan wrote while the first was at work.
const SWEEPER: &str = r#"
trap '' HUP INT TERM
cat >/dev/null
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// One running postmaster's guard.
#[derive(Debug)]
pub(super) struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts the server whose data lies in `folder`/data, under a guard.
    pub(super) fn start(
        postgres: &Path,
        folder: &Path,
        account: &Account,
        sweeper: &Sweeper,
    ) -> anyhow::Result<Self> {
        let _ = std::fs::remove_file(folder.join("pid"));
        let mut command = Command::new("sh");
        command.arg("-c").arg(GUARD).arg("pgweir-guard").arg(postgres).arg(folder);
        account.apply(&mut command);
        command.process_group(0).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(sweeper.hold()?).stderr(Stdio::null());
        let mut shell = command.spawn().context("cannot start sh, the server's guard")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// Asks the guard to stop the server with `signal` (a name that kill(1) knows) and to end.
    pub(super) fn order(&mut self, signal: &str) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(format!("{signal}\n").as_bytes());
        }
    }

    /// Lets go of the pipe: the server is stopped at once. Does not wait.
    pub(super) fn let_go(&mut self) {
        self.pipe = None;
    }

    /// Whether the guard has ended, and so its server.
    pub(super) fn is_gone(&mut self) -> bool {
        !matches!(self.shell.try_wait(), Ok(None))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.let_go();
        let _ = self.shell.wait();
    }
}

/// The cluster folder's guard.
#[derive(Debug)]
pub(super) struct Sweeper {
    shell: Child,
    pipe: Option<File>,
}

impl Sweeper {
    /// Sets a sweeper on `folder`.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(SWEEPER).arg("pgweir-sweeper").arg(folder);
        command.process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.spawn().context("cannot start sh, the folder's sweeper")?;
        let pipe = shell.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        Ok(Self { shell, pipe })
    }

    /// A hold on the folder: as a child's standard output, it keeps the folder as long as the child lives.
    pub(super) fn hold(&self) -> anyhow::Result<Stdio> {
        let pipe = self.pipe.as_ref().context("the sweeper is already at work")?;
        Ok(pipe.try_clone()?.into())
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.shell.wait();
    }
}
