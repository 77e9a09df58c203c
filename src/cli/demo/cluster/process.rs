//! Looking at processes and sending them signals. PostgreSQL's children are session leaders of their own, so a process
//! group does not reach them: they are found by their parent, in /proc (elsewhere than on Linux nothing is found, and the
//! children notice their postmaster's death by themselves).

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What /proc says of a process: its state's letter and its parent.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether the process is gone, or only waits to be collected by its parent.
pub(super) fn is_dead(pid: i32) -> bool {
    if Path::new("/proc/self/stat").exists() {
        stat(pid).is_none_or(|(state, _)| matches!(state, 'Z' | 'X'))
    } else {
        kill(Pid::from_raw(pid), None).is_err()
    }
}

/// Whether the process is stopped (or dead), as after SIGSTOP.
pub(super) fn is_stopped(pid: i32) -> bool {
    stat(pid).is_none_or(|(state, _)| matches!(state, 'T' | 't' | 'Z' | 'X'))
}

/// The children of a process.
pub(super) fn children(parent: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| stat(pid).is_some_and(|(_, its_parent)| its_parent == parent))
        .collect()
}

/// Sends a signal; that the process may be gone already is no error.
pub(super) fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}
