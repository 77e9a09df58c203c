//! The law of the house, read out of the source: modules import only what is declared above them in `src/lib.rs`, the
//! pure ones stay pure, and files stay small enough to be seen over. Each failure says what to do.

use std::fmt::Write as _;
use std::path::Path;

use crate::{read, root};

/// Files over [`MOST_LINES`] without their tests, each with what it may have at most: the numbers may only go down.
const LONG_FILES: &[(&str, usize)] = &[];
const MOST_LINES: usize = 600;

/// Pure: values in, values out. What stands behind a name is allowed there all the same.
const PURE: &[(&str, &[&str])] = &[
    ("src/wire/", &[]),
    ("src/sql/", &[]),
    ("src/cluster/", &[]),
    ("src/fresh/", &[]),
    ("src/position.rs", &[]),
    // An address as a value: where a client comes from.
    ("src/route/", &["std::net::IpAddr"]),
    ("src/client/unit.rs", &[]),
    ("src/client/prepared.rs", &[]),
    ("src/server/owed.rs", &[]),
    ("src/server/described.rs", &[]),
    ("src/server/prepared.rs", &[]),
    // The sending half of a place in the queue: it never waits.
    ("src/pool/ledger.rs", &["tokio::sync::oneshot"]),
];
const IMPURE: &[&str] = &["tokio", "std::net", "std::fs", "Instant::now", "SystemTime"];

/// Crates that only some files may name.
const RESERVED: &[(&str, &[&str])] =
    &[("sqlparser", &["src/sql/parse.rs"]), ("tokio_postgres", &["src/monitor/", "src/cli/demo/"])];

/// Where bytes of peers are handled: nothing there may panic for what they are.
const FACING_PEERS: &[&str] =
    &["src/wire/", "src/sql/", "src/auth/", "src/net/", "src/server/", "src/client/"];

/// Indexing there that cannot fail, each with its reason. A line that is no longer in its file is reported.
const INDEXED: &[(&str, &str, &str)] = &[
    ("src/client/relay.rs", "&forth.own[..]", "all of it"),
    ("src/sql/lex.rs", "table[index]", "at compile time"),
    ("src/sql/lex.rs", "BYTES[usize::from(byte)]", "256 places, a byte as index"),
    ("src/sql/opening.rs", "&[][..]", "all of nothing"),
];

/// A file of `src`: its path from the crate's folder, and its text in full and without comments and texts.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    /// Its lines up to its tests, numbered from 1, without comments and texts.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.lines().position(|line| line == "#[cfg(test)]" || line == "    #[cfg(test)]");
        let end = if self.is_test() { 0 } else { tests.unwrap_or(usize::MAX) };
        // A module of tests stands at the end of its file; a `mod tests;` in the middle ends nothing.
        let inline = self.text.lines().any(|line| line == "mod tests {");
        let end = if inline || self.is_test() { end } else { usize::MAX };
        self.code.lines().enumerate().take(end).map(|(at, line)| (at + 1, line))
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/") || self.path == "src/config/docs.rs"
    }

    fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root().join("src"), &mut |path| {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push(Source { path, code: without_comments_and_texts(&text), text });
        }
    });
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 80, "src was not read");
    found
}

fn walk(folder: &Path, found: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found(&path) }
    }
}

/// The text with comments, strings and character literals blanked; its lines stay where they are.
fn without_comments_and_texts(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let size = literal(rest, out.chars().next_back()).unwrap_or(0);
        if size == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(rest[..size].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[size..];
        }
    }
    out
}

/// The size of the comment or literal at the start of `rest`.
fn literal(rest: &str, before: Option<char>) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if let Some(raw) =
        rest.strip_prefix('r').filter(|_| before.is_none_or(|c| !c.is_alphanumeric() || c == 'b'))
    {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = 1 + hashes + 1;
            return Some(body + rest[body..].find(&close).unwrap() + close.len());
        }
    }
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    if quote == '\'' {
        // A lifetime is no literal.
        let after: Vec<char> = rest.chars().skip(1).take(2).collect();
        if after.first() != Some(&'\\') && after.get(1) != Some(&'\'') {
            return None;
        }
    }
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    Some(end.map_or(rest.len(), |(at, _)| at + 1))
}

/// The names that follow `prefix` in a line.
fn names_after<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(prefix).map(move |(at, _)| {
        let name = &line[at + prefix.len()..];
        &name[..name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())]
    })
}

fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

fn complain(complaints: &str, what_to_do: &str) {
    assert!(complaints.is_empty(), "{what_to_do}\n{complaints}");
}

#[test]
fn imports_point_up_the_list_only() {
    let order: Vec<String> = read("src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned))
        .collect();
    assert!(order.len() > 10, "src/lib.rs was not understood: {order:?}");
    let place = |module: &str| order.iter().position(|known| known == module);
    let mut complaints = String::new();
    let mut seen = 0;
    for source in sources() {
        let own = source.path.trim_start_matches("src/").split(['/', '.']).next().unwrap().to_owned();
        let Some(floor) = place(&own) else { continue };
        // Tests look around as they need; what is built does not.
        for (number, line) in source.lines() {
            let grouped = line.contains("crate::{").then(|| line.split_once("crate::{").unwrap().1);
            let listed = grouped.into_iter().flat_map(|list| list.split([',', '}', ';'])).map(|item| {
                let item = item.trim();
                &item[..item.find(':').unwrap_or(item.len())]
            });
            for named in names_after(line, "crate::").chain(listed).filter(|named| !named.is_empty()) {
                seen += 1;
                if place(named).is_some_and(|place| place > floor) {
                    writeln!(complaints, "{}:{number}: `{own}` imports `{named}`", source.path).unwrap();
                }
            }
        }
    }
    assert!(seen > 150, "only {seen} imports were seen");
    complain(
        &complaints,
        "a module may import only modules declared above it in src/lib.rs: hand the value down, or move the code",
    );
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    let silent: String = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .fold(String::new(), |all, source| all + &source.path + "\n");
    complain(&silent, "a file begins with `//!` and one line that says its job");
}

#[test]
fn no_file_is_too_long_to_see_over() {
    let mut complaints = String::new();
    for source in sources() {
        let lines = source.lines().count();
        let most = LONG_FILES.iter().find(|(path, _)| *path == source.path).map(|(_, most)| *most);
        match most {
            Some(most) if lines > most => {
                writeln!(
                    complaints,
                    "{}: {lines} lines, {most} allowed so far: take something out",
                    source.path
                )
            }
            Some(_) if lines <= MOST_LINES => {
                writeln!(complaints, "{}: {lines} lines: remove it from LONG_FILES", source.path)
            }
            None if lines > MOST_LINES => {
                writeln!(complaints, "{}: {lines} lines, tests apart: cut it in two", source.path)
            }
            _ => Ok(()),
        }
        .unwrap();
    }
    for (path, _) in LONG_FILES {
        assert!(root().join(path).exists(), "{path} is gone: remove it from LONG_FILES");
    }
    complain(&complaints, "a file has at most 600 lines");
}

/// Clippy counts the lines of functions (70, clippy.toml); here it is only seen to that nobody switches it off, and that
/// no other lint of the house is switched off without a reason.
#[test]
fn lints_are_not_switched_off() {
    let mut complaints = String::new();
    for source in sources() {
        for (number, line) in source.lines() {
            for lint in ["too_many_lines", "unwrap_used", "unsafe_code", "await_holding_lock"] {
                if line.contains("allow(") && has_word(line, lint) {
                    writeln!(complaints, "{}:{number}: allows {lint}", source.path).unwrap();
                }
            }
        }
    }
    complain(&complaints, "cut the function in two, or handle the case");
}

#[test]
fn pure_modules_are_pure() {
    let mut complaints = String::new();
    for (place, but) in PURE {
        assert!(root().join(place).exists(), "{place} is gone: correct PURE");
        for source in sources().iter().filter(|source| source.is_under(&[place])) {
            for (number, line) in source.lines() {
                let rest = but.iter().fold(line.to_owned(), |line, allowed| line.replace(allowed, ""));
                for word in IMPURE.iter().filter(|word| has_word(&rest, word)) {
                    writeln!(complaints, "{}:{number}: `{word}`", source.path).unwrap();
                }
            }
        }
    }
    complain(&complaints, "pure modules get time, bytes and answers as values: do it a floor higher");
}

#[test]
fn some_crates_have_one_place() {
    let mut complaints = String::new();
    for (name, places) in RESERVED {
        for source in sources().iter().filter(|source| !source.is_under(places)) {
            for (number, _) in source.lines().filter(|(_, line)| has_word(line, name)) {
                writeln!(complaints, "{}:{number}: `{name}` belongs in {places:?}", source.path).unwrap();
            }
        }
    }
    complain(&complaints, "a crate that is named in one place can be replaced in one place");
}

#[test]
fn nothing_panics_for_what_a_peer_sends() {
    let mut complaints = String::new();
    let mut used = vec![false; INDEXED.len()];
    for source in sources().iter().filter(|source| source.is_under(FACING_PEERS)) {
        for (number, line) in source.lines() {
            if line.contains(".unwrap()") || line.contains(".expect(") {
                writeln!(complaints, "{}:{number}: {}", source.path, line.trim()).unwrap();
            }
            if !is_indexed(line) {
                continue;
            }
            let known =
                INDEXED.iter().position(|(path, part, _)| *path == source.path && line.contains(part));
            match known {
                Some(at) => used[at] = true,
                None => writeln!(complaints, "{}:{number}: {}", source.path, line.trim()).unwrap(),
            }
        }
    }
    for ((path, part, _), used) in INDEXED.iter().zip(used) {
        if !used {
            writeln!(complaints, "{path}: `{part}` is gone: remove it from INDEXED").unwrap();
        }
    }
    complain(
        &complaints,
        "use get(..) and a named error; an index that cannot fail goes to INDEXED with its reason",
    );
}

/// Whether something is indexed or sliced: a `[` right behind a value.
fn is_indexed(line: &str) -> bool {
    let bytes = line.as_bytes();
    bytes
        .windows(2)
        .any(|pair| pair[1] == b'[' && (pair[0].is_ascii_alphanumeric() || b"_)]?".contains(&pair[0])))
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut complaints = String::new();
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        let folder = root().join(&document).parent().unwrap().to_owned();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            seen += 1;
            if !folder.join(path).exists() {
                writeln!(complaints, "{document}: {target}").unwrap();
            }
        }
    }
    assert!(seen > 5, "only {seen} links were seen");
    complain(&complaints, "links that lead nowhere");
}

/// `src/…`, `tests/…`, `docs/…` and `config/…` in backticks are paths: they are there, too.
#[test]
fn paths_in_documents_exist() {
    let mut complaints = String::new();
    for document in documents().iter().filter(|document| *document != "CHANGELOG.md") {
        let text = read(document);
        for word in text.split('`').skip(1).step_by(2) {
            let is_path =
                ["src/", "tests/", "docs/", "config/", "benches/"].iter().any(|top| word.starts_with(top));
            if is_path && !word.contains(['*', ' ', '{']) && !root().join(word).exists() {
                writeln!(complaints, "{document}: `{word}`").unwrap();
            }
        }
    }
    complain(&complaints, "files that documents name and that are not there");
}

#[test]
fn every_example_configuration_is_in_a_document() {
    let texts: String = documents().iter().map(read).collect();
    for entry in std::fs::read_dir(root().join("config")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".toml") {
            assert!(texts.contains(&format!("config/{name}")), "no document mentions config/{name}");
        }
    }
}

fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned(), "benches/README.md".to_owned()];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            found.push(format!("docs/{name}"));
        }
    }
    found
}
