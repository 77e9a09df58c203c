//! What a row of the settings says, and how rows are found.

use std::time::Duration;

use super::keys::all;
use super::kind::Kind;

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted path in the file; `NAME` stands for a name that the operator chooses.
    pub path: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What holds without it: a value as TOML has it, or words if there is no fixed one.
    pub default: &'static str,
    /// A value for the documentation where `default` is words; else empty.
    pub example: &'static str,
    /// Whether `[databases.NAME]` may have it too, for that database alone.
    pub per_database: bool,
    /// Whether a reload applies it; else it needs a restart.
    pub reloadable: bool,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

impl Key {
    pub(super) const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    pub(super) const fn per_database(mut self) -> Self {
        self.per_database = true;
        self.reloadable = true;
        self
    }
}

pub(super) const fn row(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    let reloadable = begins(path, "databases.") || begins(path, "users.") || begins(path, "auth");
    Key { path, kind, default, example: "", per_database: false, reloadable, doc }
}

const fn begins(text: &str, with: &str) -> bool {
    let (mut text, mut with) = (text.as_bytes(), with.as_bytes());
    while let [one, rest @ ..] = with {
        match text {
            [other, more @ ..] if *one == *other => (text, with) = (more, rest),
            _ => return false,
        }
    }
    true
}

pub(super) const fn count(least: u64, most: u64) -> Kind {
    Kind::Count { least, most }
}

pub(super) const fn millis(least: u64, most: u64) -> Kind {
    Kind::Duration { least: Duration::from_millis(least), most: Duration::from_millis(most), off: false }
}

/// Like [`millis`], and `"0s"` means: no limit.
pub(super) const fn millis_or_off(least: u64, most: u64) -> Kind {
    Kind::Duration { least: Duration::from_millis(least), most: Duration::from_millis(most), off: true }
}

pub(super) const SECOND: u64 = 1000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
/// The longest span that is a limit and not a slip of the pen: 30 days.
pub(super) const MONTH: u64 = 30 * 24 * HOUR;

/// The row for a path that has `NAME` in place of names.
#[must_use]
pub fn find(path: &str) -> Option<&'static Key> {
    let of_all = path.strip_prefix("databases.NAME.");
    all().find(|key| key.path == path || (key.per_database && of_all == Some(key.path)))
}

/// Whether a path is a table: whether some key is below it.
#[must_use]
pub fn is_table(path: &str) -> bool {
    all().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The keys and tables that may stand directly in the table at `path` (empty: the file itself), each once.
#[must_use]
pub fn inside(path: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in all() {
        let own = match path {
            "" => Some(key.path),
            _ => key.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('.')),
        };
        let inherited = (path == "databases.NAME" && key.per_database).then_some(key.path);
        for below in own.into_iter().chain(inherited) {
            let name = below.split('.').next().unwrap_or(below);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}
