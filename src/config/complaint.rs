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
        plain(f, &self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            f.write_str(": ")?;
            plain(f, &self.key)?;
        }
        f.write_str(": ")?;
        plain(f, &self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| {
            f.write_str("; ")?;
            plain(f, hint)
        })
    }
}

/// Writes a text on one line, and nothing that a terminal would obey.
fn plain(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write as _;
    for c in text.chars() {
        if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
    }
    Ok(())
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
    found: Vec<(usize, String, Wrong)>,
}

impl<'a> Log<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, found: Vec::new() }
    }

    /// Notes that `key`, at byte `at` of the text, is wrong.
    pub(super) fn add(&mut self, at: usize, key: &str, wrong: Wrong) {
        self.found.push((at, key.to_owned(), wrong));
    }

    /// Whether a complaint so far is about the table at `path`, or takes something else for it.
    pub(super) fn is_about(&self, path: &str) -> bool {
        let quoted = format!("`{path}`");
        let of_path =
            |key: &str| key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let meant = |wrong: &Wrong| wrong.hint.as_ref().is_some_and(|hint| hint.contains(&quoted));
        self.found.iter().any(|(_, key, wrong)| of_path(key) || meant(wrong))
    }

    /// What was found, in the order of the file; `None` if nothing was.
    pub(super) fn finish(mut self) -> Option<Complaints> {
        self.found.sort_by_key(|(at, ..)| *at);
        // One walk through the text for all of them.
        let (mut line, mut column, mut read) = (1, 1, 0);
        let mut complaints = Vec::with_capacity(self.found.len());
        for (at, key, Wrong { message, hint }) in self.found {
            for c in self.text.get(read..at).unwrap_or_default().chars() {
                (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            read = at.max(read);
            complaints.push(Complaint { file: self.file.to_owned(), line, column, key, message, hint });
        }
        (!complaints.is_empty()).then_some(Complaints(complaints))
    }
}
