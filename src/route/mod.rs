//! Where a unit goes, and why: a pure function.

/// What the operator chooses about judging statements.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeOptions {
    /// Whether a parser looks at what the scan calls a read, and may send it to the primary.
    pub second_opinion: bool,
    /// Most statements whose facts are remembered.
    pub cache_entries: usize,
    /// Functions that are reads, whatever the catalog says.
    pub read_only_functions: Vec<String>,
    /// Functions that are writes, whatever the catalog says.
    pub write_functions: Vec<String>,
}

impl Default for JudgeOptions {
    fn default() -> Self {
        Self {
            second_opinion: true,
            cache_entries: 10_000,
            read_only_functions: Vec::new(),
            write_functions: Vec::new(),
        }
    }
}
