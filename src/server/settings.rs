//! The settings of a session that are not those of its login: what one server connection has, and what takes it from one
//! list to another. Pure.
//!
//! A list is what the server itself has said (the answer to [`question`]), so that commit, rollback and savepoints need no
//! rules here. Names in order, each once; the role and the session's user are settings like the others.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::sql::{LONGEST_PREPARE, lone_prepare};
use crate::wire::write::{quote_identifier, quote_literal};

/// The user that the session acts for: SET SESSION AUTHORIZATION.
const USER: &str = "session_authorization";

/// The limit on the time of a statement.
const LIMIT: &str = "statement_timeout";

/// The role that it has taken: SET ROLE.
const ROLE: &str = "role";

/// A limit of so many milliseconds is not reached by statements that only set something.
const LONG: u64 = 5_000;

/// Settings that differ from those of the login.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    list: Vec<(Box<str>, Box<str>)>,
}

impl Settings {
    /// In any order, with each name once.
    #[must_use]
    pub fn new(mut list: Vec<(Box<str>, Box<str>)>) -> Self {
        list.sort();
        list.dedup_by(|one, other| one.0 == other.0);
        Self { list }
    }

    /// The value of a setting.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let at = self.list.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.list.get(at).map(|(_, value)| &**value)
    }

    /// Whom the session acts as.
    #[must_use]
    pub fn acts_as(&self) -> Option<&str> {
        self.value(ROLE).filter(|role| *role != "none").or_else(|| self.value(USER))
    }

    /// Whether they limit statements to so short a time that one of pgweir's own could be cancelled.
    #[must_use]
    pub fn hurry(&self) -> bool {
        let is_short =
            |name| self.value(name).map(milliseconds).is_some_and(|limit| (1..LONG).contains(&limit));
        is_short(LIMIT) || is_short("transaction_timeout")
    }

    /// The names of settings that extensions and applications make up.
    pub fn custom(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|(name, _)| &**name).filter(|name| name.contains('.'))
    }
}

/// A limit as the server shows it, which takes the largest unit that fits; zero: there is no limit.
fn milliseconds(value: &str) -> u64 {
    let digits = value.find(|char: char| !char.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at_checked(digits).unwrap_or_default();
    let factor = match unit {
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 1,
    };
    count.parse().unwrap_or(0u64).saturating_mul(factor)
}

/// Whether two lists say the same; none: nothing differs from the login.
#[inline]
#[must_use]
pub fn are_same(one: Option<&Arc<Settings>>, other: Option<&Arc<Settings>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        _ => false,
    }
}

/// Whether what replaces the settings `from` by the settings `to` could be cancelled by their limits.
#[must_use]
pub fn is_hurried(from: Option<&Arc<Settings>>, to: Option<&Arc<Settings>>) -> bool {
    from.is_some_and(|from| from.hurry()) && !are_same(from, to)
}

/// The statements that make a connection with the settings `from` one with the settings `to`, and with that `application_name` if
/// there is one. They are one transaction.
///
/// Settings come while the login acts for itself, since it may set all that it has set before; then its user, then its role.
#[must_use]
pub fn difference(from: Option<&Settings>, to: Option<&Settings>, name: Option<&str>) -> Vec<String> {
    let nothing = Settings::default();
    let (from, to) = (from.unwrap_or(&nothing), to.unwrap_or(&nothing));
    let mut texts = vec!["BEGIN".to_owned()];
    texts.extend(name.map(|name| format!("SET application_name = {}", quote_literal(name))));
    if from.value(ROLE) != to.value(ROLE) || from.value(USER) != to.value(USER) || to.acts_as().is_some() {
        texts.extend(["RESET SESSION AUTHORIZATION", "RESET ROLE"].map(str::to_owned));
    }
    let acts = |name: &str| name == USER || name == ROLE;
    let goes = from.list.iter().filter(|(name, _)| !acts(name) && to.value(name).is_none());
    texts.extend(goes.map(|(name, _)| format!("RESET {}", identifiers(name))));
    let comes = to.list.iter().filter(|(name, value)| !acts(name) && from.value(name) != Some(&**value));
    let calls: Vec<_> = comes
        .map(|(name, value)| {
            format!("pg_catalog.set_config({},{},false)", quote_literal(name), quote_literal(value))
        })
        .collect();
    if !calls.is_empty() {
        texts.push(format!("SELECT {}", calls.join(",")));
    }
    let user = to.value(USER);
    texts.extend(user.map(|user| format!("SET SESSION AUTHORIZATION {}", quote_literal(user))));
    texts.extend(to.value(ROLE).map(|role| match role {
        "none" => "SET ROLE NONE".to_owned(),
        role => format!("SET ROLE {}", quote_literal(role)),
    }));
    texts.push("COMMIT".to_owned());
    texts
}

/// A name with dots, each part quoted.
fn identifiers(name: &str) -> String {
    let parts: Vec<_> = name.split('.').map(quote_identifier).collect();
    parts.join(".")
}

/// What a question for settings makes of a `statement_timeout` that is shorter than it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Haste {
    /// It holds.
    Heeded,
    /// It holds for the question whether the session has set it, and for no more.
    Exempt,
    /// That takes too long, too: it counts as set.
    ExemptAtOnce,
}

/// Asks a server what is in force: settings of the session, those of `custom` names that exist, and what else it holds for
/// the session; of the statements that SQL has prepared, the last. Three columns: a letter, a name, a value. With `shared`,
/// what the names of statements that clients share begin with, it counts those. `haste`: what is made of the session's
/// `statement_timeout`, if that is short.
#[must_use]
pub fn question<'a>(custom: impl Iterator<Item = &'a str>, shared: Option<&str>, haste: Haste) -> String {
    let mut sql = String::new();
    match haste {
        Haste::Heeded => {}
        Haste::Exempt => sql.push_str(
            "SELECT 's', name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
             WHERE name OPERATOR(pg_catalog.=) 'statement_timeout' AND source OPERATOR(pg_catalog.=) 'session';",
        ),
        Haste::ExemptAtOnce => sql
            .push_str("SELECT 's', 'statement_timeout', pg_catalog.current_setting('statement_timeout');"),
    }
    if haste != Haste::Heeded {
        sql.push_str("SET LOCAL statement_timeout = 0;");
    }
    let but = if haste == Haste::Heeded { "" } else { "|statement_timeout" };
    let _ = write!(
        sql,
        "SELECT 's', name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
         WHERE source OPERATOR(pg_catalog.=) 'session' AND NOT name OPERATOR(pg_catalog.~) \
         '^(transaction_isolation|transaction_read_only|transaction_deferrable|application_name{but})$' \
         UNION ALL SELECT 'v', n, pg_catalog.current_setting(n) FROM pg_catalog.unnest(ARRAY['application_name',\
         'search_path','standard_conforming_strings','client_encoding','role','session_authorization']) n \
         UNION ALL SELECT 'a', source, NULL FROM pg_catalog.pg_settings \
         WHERE name OPERATOR(pg_catalog.=) 'application_name' \
         UNION ALL SELECT 'l', 't', NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_depend \
         WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass \
         AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
         UNION ALL SELECT 'l', 'a', NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_locks \
         WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) \
         UNION ALL SELECT 'l', 'c', NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) \
         UNION ALL SELECT 'n', c, NULL FROM pg_catalog.pg_listening_channels() c \
         UNION ALL SELECT * FROM (SELECT 'p', name, CASE WHEN pg_catalog.octet_length(statement) \
         OPERATOR(pg_catalog.<=) {LONGEST_PREPARE} THEN parameter_types::pg_catalog.oid[]::pg_catalog.text \
         OPERATOR(pg_catalog.||) statement END FROM pg_catalog.pg_prepared_statements WHERE from_sql \
         ORDER BY prepare_time DESC LIMIT 1) p",
    );
    if let Some(prefix) = shared {
        let _ = write!(
            sql,
            " UNION ALL SELECT 'k', pg_catalog.count(*)::pg_catalog.text, NULL FROM pg_catalog.pg_prepared_statements \
             WHERE pg_catalog.starts_with(name, {})",
            quote_literal(prefix)
        );
    }
    let mut word =
        " UNION ALL SELECT 's', n, pg_catalog.current_setting(n, true) FROM pg_catalog.unnest(ARRAY[";
    for name in custom {
        sql.push_str(word);
        sql.push_str(&quote_literal(name));
        word = ",";
    }
    if word == "," {
        sql.push_str(
            "]) n WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_settings \
             WHERE pg_catalog.lower(name) OPERATOR(pg_catalog.=) n)",
        );
    }
    sql
}

/// The answer to [`question`], row by row.
#[derive(Debug, Default)]
pub struct Answer {
    list: Vec<(Box<str>, Box<str>)>,
    bytes: usize,
    /// A row could not be read.
    pub failed: bool,
    /// What else there is, a letter each: temporary objects, advisory locks, cursors, listening, prepared statements.
    pub left: String,
    /// The channels that it listens on.
    pub channels: Vec<String>,
    /// The statement that SQL has prepared last, if that was its whole text, and a short one.
    pub prepared: Option<SqlPrepared>,
    /// How many statements that clients share there are.
    pub shared: Option<usize>,
    /// `application_name`, and whether the session has set it.
    pub application_name: (String, bool),
    /// `search_path`
    pub search_path: String,
    /// `standard_conforming_strings`
    pub strings: String,
    /// `client_encoding`
    pub encoding: String,
}

/// A statement that PREPARE has made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SqlPrepared {
    /// Its name.
    pub name: String,
    /// What a Parse message with another name would have behind that, to make the same.
    pub tail: Vec<u8>,
    /// The PREPARE.
    pub text: String,
}

impl SqlPrepared {
    /// From its name and a text of the types of its parameters, `{23,25}`, and behind it the PREPARE.
    fn new(name: &str, value: &str) -> Option<Self> {
        let (types, text) = value.strip_prefix('{')?.split_once('}')?;
        // Where it stood, a backslash may have been an escape.
        let (made, statement) = lone_prepare(text.as_bytes()).filter(|_| !text.contains('\\'))?;
        let types: Result<Vec<u32>, _> =
            types.split(',').filter(|one| !one.is_empty()).map(str::parse).collect();
        let types = types.ok().filter(|_| *made == *name.as_bytes())?;
        let mut tail =
            [statement, b"\0".as_slice(), &u16::try_from(types.len()).ok()?.to_be_bytes()].concat();
        types.iter().for_each(|of| tail.extend_from_slice(&of.to_be_bytes()));
        Some(Self { name: name.to_owned(), tail, text: text.to_owned() })
    }
}

/// How a session's settings are to be told from those of its login.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// Its user.
    pub user: &'a str,
    /// The role may have been given at the login: that there is none says something then.
    pub role: bool,
}

impl Answer {
    /// Takes a row. One that is longer than `whole` says is not all there.
    pub fn row(&mut self, columns: [Option<&[u8]>; 3], login: Login<'_>) {
        let text = |column: Option<&[u8]>| column.map(|bytes| str::from_utf8(bytes).map(str::to_owned));
        let [kind, name, value] = columns;
        if kind == Some(b"p") {
            self.left.push('p');
            let both = text(name).and_then(Result::ok).zip(text(value).and_then(Result::ok));
            self.prepared = both.and_then(|(name, value)| SqlPrepared::new(&name, &value));
            return;
        }
        if kind == Some(b"n") {
            self.left.push('n');
            self.channels.extend(text(name).and_then(Result::ok));
            return;
        }
        let (Some(Ok(name)), value) = (text(name), text(value).transpose()) else {
            self.failed = true;
            return;
        };
        let Ok(value) = value else {
            self.failed = true;
            return;
        };
        match (kind, name.as_str(), value) {
            (Some(b"a"), source, _) => self.application_name.1 = source == "session",
            (Some(b"k"), count, _) => self.shared = count.parse().ok(),
            (Some(b"l"), letter, _) => self.left.push_str(letter),
            (Some(b"s"), _, Some(value)) => self.add(name, value),
            (Some(b"s"), _, None) => {}
            (Some(b"v"), "application_name", Some(value)) => self.application_name.0 = value,
            (Some(b"v"), "search_path", Some(value)) => self.search_path = value,
            (Some(b"v"), "standard_conforming_strings", Some(value)) => self.strings = value,
            (Some(b"v"), "client_encoding", Some(value)) => self.encoding = value,
            (Some(b"v"), ROLE, Some(value)) if value != "none" || login.role => self.add(name, value),
            (Some(b"v"), USER, Some(value)) if value != login.user => self.add(name, value),
            (Some(b"v"), ROLE | USER, _) => {}
            _ => self.failed = true,
        }
    }

    fn add(&mut self, name: String, value: String) {
        self.bytes += name.len() + value.len();
        self.list.push((name.into(), value.into()));
    }

    /// The settings, if they are no more than that.
    #[must_use]
    pub fn settings(&mut self, count: usize, bytes: usize) -> Option<Settings> {
        (self.list.len() <= count && self.bytes <= bytes)
            .then(|| Settings::new(std::mem::take(&mut self.list)))
    }
}

/// Names in a message that may be those of custom settings: words with dots between them, lower case. `"` is no end of one.
pub fn dotted(message: &[u8], mut found: impl FnMut(&str)) {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.' | b'"' | 0x80..);
    let mut at = 0;
    while let Some(from) = message.get(at..).and_then(|rest| rest.iter().position(|byte| word(*byte))) {
        let start = at + from;
        let run = message.get(start..).unwrap_or_default();
        let run =
            run.get(..run.iter().position(|byte| !word(*byte)).unwrap_or(run.len())).unwrap_or_default();
        at = start + run.len();
        if !run.contains(&b'.') {
            continue;
        }
        // The last byte of the length of a parameter may look like a letter.
        let after_length = start >= 3 && message.get(start - 3..start) == Some(&[0, 0, 0]);
        for run in [Some(run), run.get(1..).filter(|_| after_length)].into_iter().flatten() {
            let name: Vec<u8> =
                run.iter().filter(|byte| **byte != b'"').map(u8::to_ascii_lowercase).collect();
            if let Ok(name) = str::from_utf8(&name)
                && is_custom(name)
            {
                found(name);
            }
        }
    }
}

fn is_custom(name: &str) -> bool {
    let begins = |part: &str| part.bytes().next().is_some_and(|byte| !byte.is_ascii_digit() && byte != b'$');
    name.contains('.') && name.split('.').all(begins) && !name.starts_with("pg_catalog.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(list: &[(&str, &str)]) -> Settings {
        Settings::new(list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn a_difference_sets_resets_and_then_takes_the_role() {
        let (from, to) = (
            settings(&[("a.b", "1"), ("work_mem", "4MB")]),
            settings(&[("role", "r"), ("work_mem", "4MB"), ("x", "it's")]),
        );
        assert_eq!(
            difference(Some(&from), Some(&to), None).join(";"),
            "BEGIN;RESET SESSION AUTHORIZATION;RESET ROLE;RESET \"a\".\"b\";\
             SELECT pg_catalog.set_config('x','it''s',false);SET ROLE 'r';COMMIT"
        );
        assert_eq!(
            difference(Some(&to), None, None).join(";"),
            "BEGIN;RESET SESSION AUTHORIZATION;RESET ROLE;RESET \"work_mem\";RESET \"x\";COMMIT"
        );
    }

    #[test]
    fn short_limits_hurry() {
        for (name, value, hurries) in [
            ("statement_timeout", "20ms", true),
            ("statement_timeout", "4999ms", true),
            ("transaction_timeout", "4s", true),
            ("statement_timeout", "5s", false),
            ("statement_timeout", "1min", false),
            ("statement_timeout", "0", false),
            ("lock_timeout", "1ms", false),
        ] {
            assert_eq!(settings(&[(name, value)]).hurry(), hurries, "{name} {value}");
        }
    }

    #[test]
    fn what_sql_has_prepared_becomes_a_parse() {
        let prepared = |value: &str| SqlPrepared::new("s", value);
        let made = prepared("{23,1043}PREPARE S (int, varchar) AS SELECT $1, '}' ;").unwrap();
        assert_eq!(made.tail, b"SELECT $1, '}'\0\0\x02\0\0\0\x17\0\0\x04\x13");
        assert_eq!(prepared("{}PREPARE s AS SELECT 1").unwrap().tail, b"SELECT 1\0\0\0");
        for other in [
            "",
            "{23}",
            "{x}PREPARE s AS SELECT 1",
            "{}PREPARE t AS SELECT 1",
            "{}PREPARE s AS SELECT 1; SELECT 2",
        ] {
            assert_eq!(prepared(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_custom_settings_are_found_in_texts_and_parameters() {
        let names = |message: &[u8]| {
            let mut names = Vec::new();
            dotted(message, |name| names.push(name.to_owned()));
            names
        };
        assert_eq!(
            names(b"SET \"My\".app = 1, SELECT pg_catalog.set_config('A.b', '1.5')"),
            ["my.app", "a.b"]
        );
        assert_eq!(names(b"\0\0\0Aapp.x\0\0\0\x01v"), ["aapp.x", "app.x"]);
        assert_eq!(names(b"1.5 .a b. 'c..d'"), Vec::<String>::new());
    }
}
