//! The settings as documentation: `config/pgweir.toml` and the tables of `docs/configuration.md` are made from the
//! rows, and these tests hold the files to them. `UPDATE_GOLDEN=1` writes them.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::keys::{Key, all};
use super::tests::{compare, parse_here};

/// The tables of the file in its order, each with the header that stands in the example, and whether it is live there.
const TABLES: [(&str, &str, &str); 15] = [
    ("", "", "Everything"),
    ("log", "[log]", "The log"),
    ("metrics", "[metrics]", "Metrics"),
    ("users.NAME", "#[users.app]", "Users"),
    ("monitor", "[monitor]", "Probes"),
    ("catalog", "[catalog]", "Catalogs"),
    ("routing", "[routing]", "Judgement of statements"),
    ("retry", "[retry]", "Reads that run again"),
    ("journal", "[journal]", "The journal"),
    ("databases.NAME", "[databases.\"*\"]", "Databases"),
    ("databases.NAME.reads", "[databases.\"*\".reads]", "Reads of a database"),
    (
        "databases.NAME.rules",
        "#[[databases.\"*\".rules]]",
        "Rules of a database, the first that matches counts",
    ),
    ("databases.NAME.rules.match", "#[databases.\"*\".rules.match]", "What a rule asks for"),
    ("databases.NAME.rules.route", "#[databases.\"*\".rules.route]", "What a rule does"),
    ("databases.NAME.counters", "#[[databases.\"*\".counters]]", "Tables whose increments are merged"),
];

fn rows_of(table: &str) -> impl Iterator<Item = &'static Key> {
    all().filter(move |key| key.path.rsplit_once('.').map_or("", |(table, _)| table) == table)
}

fn last(key: &Key) -> &'static str {
    key.path.rsplit('.').next().unwrap()
}

/// A comment of at most 110 columns a line.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        if lines.last().unwrap().chars().count() + word.chars().count() + 1 > 110 {
            lines.push(String::from("#"));
        }
        let line = lines.last_mut().unwrap();
        line.push(' ');
        line.push_str(word);
    }
    lines.join("\n") + "\n"
}

fn example_row(key: &Key) -> String {
    let name = last(key);
    let mut text = comment(key.doc);
    if key.example.is_empty() {
        writeln!(text, "#{name} = {}", key.default).unwrap();
        return text;
    }
    if key.default != "none" && !key.default.starts_with("required") {
        text.push_str(&comment(&format!("Default: {}.", key.default)));
    }
    match name {
        // Only one of the three may be there.
        "password_file" | "password_env" => {
            writeln!(text, "# In place of password: {name} = {}", key.example).unwrap();
        }
        "reject" => writeln!(text, "# In place of to and servers: {name} = {}", key.example).unwrap(),
        // Nothing works without it.
        "servers" if key.path == "databases.NAME.servers" => {
            writeln!(text, "{name} = {}", key.example).unwrap()
        }
        _ => writeln!(text, "#{name} = {}", key.example).unwrap(),
    }
    text
}

fn example_file() -> String {
    let mut text = comment(
        "Every setting of pgweir. A key behind a `#` is shown with its default, or with an example where the default \
         is told in words. Durations are \"250ms\", \"1s\", \"5m\", \"1h\". See docs/configuration.md, and check a \
         file with `pgweir check FILE`.",
    );
    for (table, header, _) in TABLES {
        if !header.is_empty() {
            writeln!(text, "\n{header}").unwrap();
        }
        for key in rows_of(table) {
            write!(text, "\n{}", example_row(key)).unwrap();
        }
        if table == "databases.NAME" {
            let inherited: Vec<_> = all().filter(|key| key.per_database).map(|key| key.path).collect();
            write!(text, "\n{}", comment(&format!("For this database alone: {}.", inherited.join(", "))))
                .unwrap();
        }
    }
    text
}

fn tables() -> String {
    let mut text = String::new();
    for (table, _, title) in TABLES {
        let header = if table.is_empty() { String::new() } else { format!(": `[{table}]`") };
        writeln!(text, "\n## {title}{header}\n").unwrap();
        writeln!(text, "| key | what it does | value | default | reload |\n| --- | --- | --- | --- | --- |")
            .unwrap();
        for key in rows_of(table) {
            let default =
                if key.example.is_empty() { format!("`{}`", key.default) } else { key.default.to_owned() };
            let reload = if key.reloadable { "yes" } else { "no" };
            let also = if key.per_database { " \\*" } else { "" };
            writeln!(text, "| `{}`{also} | {} | {} | {default} | {reload} |", last(key), key.doc, key.kind)
                .unwrap();
        }
        if rows_of(table).any(|key| key.per_database) {
            writeln!(text, "\n\\* also in `[databases.NAME]`, for that database alone.").unwrap();
        }
    }
    text
}

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The example with every key live.
pub(super) fn uncommented() -> String {
    let live = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    example_file().lines().map(live).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_tables_are_all_there() {
    for key in all() {
        assert!(
            TABLES.iter().any(|(table, ..)| rows_of(table).any(|row| row.path == key.path)),
            "{}",
            key.path
        );
        assert!(key.doc.ends_with('.') && !key.doc.contains(['|', '\n']), "{}: one sentence", key.path);
    }
}

#[test]
fn the_example_file_is_made_from_the_keys() {
    compare(&root("config/pgweir.toml"), &example_file());
}

#[test]
fn the_documentation_is_made_from_the_keys() {
    let path = root("docs/configuration.md");
    let marker = "cargo test --lib config -->\n";
    let text = std::fs::read_to_string(&path).unwrap();
    let (prose, _) = text.split_once(marker).unwrap();
    compare(&path, &format!("{prose}{marker}{}", tables()));
}

#[test]
fn the_example_parses_with_every_key_live() {
    let text = uncommented();
    let config = parse_here(&text, "pgweir.toml").unwrap_or_else(|complaints| panic!("{complaints}"));
    assert_eq!(config.databases.len(), 1);
    for key in all().filter(|key| !matches!(last(key), "password_file" | "password_env" | "reject")) {
        assert!(text.lines().any(|line| line.starts_with(&format!("{} = ", last(key)))), "{}", key.path);
    }
}

/// Where `default` is a value, to write it changes nothing: at the top, and in a database.
#[test]
fn a_default_is_the_default() {
    let database = "[databases.app]\nservers = [\"h:1\"]\n";
    let silent = format!("{:?}", parse_here(database, "x").unwrap());
    for key in all().filter(|key| key.example.is_empty()) {
        let line = format!("{} = {}\n", last(key), key.default);
        let text = match key.path.rsplit_once('.') {
            None => format!("{line}{database}"),
            Some(("databases.NAME", _)) => format!("{database}{line}"),
            Some((table, _)) => format!("{database}[{}]\n{line}", table.replace("NAME", "app")),
        };
        assert_eq!(format!("{:?}", parse_here(&text, "x").unwrap()), silent, "{}", key.path);
        if key.per_database {
            let spoken = parse_here(&format!("{database}{line}"), "x").unwrap();
            assert_eq!(format!("{spoken:?}"), silent, "{} in a database", key.path);
        }
    }
}

/// The words of every choice are taken, and so are the ends of every range.
#[test]
fn what_a_row_promises_is_taken() {
    use super::keys::Kind;
    for key in all().filter(|key| !key.path.contains("NAME")) {
        let values: Vec<String> = match key.kind {
            Kind::Choice(words) => words.iter().map(|word| format!("{word:?}")).collect(),
            Kind::Count { least, most } => vec![least.to_string(), most.to_string()],
            Kind::Duration { least, most, off } => {
                let ends = [least, most].map(|end| format!("{:?}", super::value::written(end)));
                ends.into_iter().chain(off.then(|| "\"0s\"".to_owned())).collect()
            }
            _ => continue,
        };
        for value in values {
            let line = format!("{} = {value}\n", key.path);
            // Nothing is kept without a folder.
            let folder = if key.path == "journal.keep" { "journal.folder = \"j\"\n" } else { "" };
            let text = format!("{line}{folder}users.a.password = \"a\"\ndatabases.app.servers = [\"h:1\"]\n");
            let said =
                parse_here(&text, "x").map_or_else(|complaints| complaints.to_string(), |_| String::new());
            assert!(
                said.is_empty() || said.contains(" is more than ") || said.contains(" is less than "),
                "{line}{said}"
            );
        }
    }
}
