//! What is wrong with a configuration, and where. A complaint never holds a secret.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The file, as it was named to us.
    pub file: String,
    /// The line, from 1; 0 when the mistake is not at a place in the file.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The dotted path of the key; empty when the mistake is about no key.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Complaint {
    /// A complaint about a file as a whole.
    pub(crate) fn of_file(file: &str, message: String) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, key: String::new(), message, hint: None }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// Every mistake in a file, in its order. Printed one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaints(pub Vec<Complaint>);

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, complaint) in self.0.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            write!(f, "{end}{complaint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Complaints {}

/// What is wrong with a value, before it is known where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Gathers complaints and turns offsets into lines and columns.
pub(super) struct Log<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<(usize, Complaint)>,
}

impl<'a> Log<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, found: Vec::new() }
    }

    /// Notes that `key`, at byte `at` of the text, is wrong.
    pub(super) fn add(&mut self, at: usize, key: &str, wrong: Wrong) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let Wrong { message, hint } = wrong;
        let complaint =
            Complaint { file: self.file.to_owned(), line, column, key: key.to_owned(), message, hint };
        self.found.push((at, complaint));
    }

    /// What was found, in the order of the file; `None` if nothing was.
    pub(super) fn finish(mut self) -> Option<Complaints> {
        self.found.sort_by_key(|(at, _)| *at);
        let found: Vec<_> = self.found.into_iter().map(|(_, complaint)| complaint).collect();
        (!found.is_empty()).then_some(Complaints(found))
    }
}
