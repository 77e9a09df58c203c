//! The judge: text in, facts out, remembering what it has judged before.

use std::sync::atomic::{AtomicU64, Ordering};

use super::facts::{Class, Facts};
use super::reason::Reason;

/// How the judge judges.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeOptions {
    /// Let the full parser look at what the token scan takes for a read; it may only turn a read to the primary.
    pub second_opinion: bool,
    /// How many texts, and how many shapes, are remembered.
    pub cache_entries: usize,
    /// Functions of yours that only read: `name` or `schema.name`, in lower case unless created otherwise.
    pub read_only_functions: Vec<String>,
    /// Functions that must run on the primary, whatever else is known of them.
    pub write_functions: Vec<String>,
}

impl Default for JudgeOptions {
    fn default() -> Self {
        JudgeOptions {
            second_opinion: true,
            cache_entries: 10_000,
            read_only_functions: Vec::new(),
            write_functions: Vec::new(),
        }
    }
}

/// Judges texts. One is shared by all clients.
#[derive(Debug)]
pub struct Judge {
    disagreements: AtomicU64,
}

impl Judge {
    /// A judge with empty memory.
    #[must_use]
    pub fn new(options: JudgeOptions) -> Judge {
        let _ = options;
        Judge { disagreements: AtomicU64::new(0) }
    }

    /// What a text says.
    #[must_use]
    pub fn facts(&self, text: &[u8]) -> Facts {
        if text.trim_ascii().is_empty() {
            return Facts::EMPTY;
        }
        Facts { class: Class::Write, reason: Reason::UnknownStatement, ..Facts::EMPTY }
    }

    /// How often the full parser has overruled the scan. Each is a hole in the scan worth a report.
    #[must_use]
    pub fn disagreements(&self) -> u64 {
        self.disagreements.load(Ordering::Relaxed)
    }
}
