//! What keeps a journal from being used.

use std::io;
use std::path::PathBuf;

/// Why a journal cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system says no.
    #[error("the journal cannot be used: {path}: {source}")]
    System {
        /// Of what.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// Another pgweir has it.
    #[error("the journal {0} belongs to another pgweir that is running")]
    Taken(PathBuf),
    /// Not one of this journal's files.
    #[error("{0} is no file of this journal: look where it comes from, and move it away")]
    Foreign(PathBuf),
    /// Acknowledged increments cannot be read.
    #[error(
        "{path} is damaged at byte {at}, and what stands behind it was acknowledged: restore the file, or move it away and lose that"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: usize,
    },
    /// A file is missing that was there.
    #[error(
        "{0} is missing: increments in it may have been acknowledged; restore it, or remove the file \"head\" beside it and lose them"
    )]
    Gone(PathBuf),
    /// A file is missing between others.
    #[error("the file before {0} is missing: increments in it may have been acknowledged")]
    Missing(PathBuf),
}
