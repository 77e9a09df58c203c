//! The rules of a database, from what was typed to what is meant.

use regex::bytes::RegexBuilder;

use super::Server;
use super::check::Check;
use super::complaint::Wrong;
use super::raw::Name;
use crate::fresh::Level;
use crate::net::Address;
use crate::route::rules::{Action, MAX_RULES, Match, Mode, Network, Rule, Rules};

/// Largest that a compiled regular expression may be, in bytes.
const REGEX_LIMIT: usize = 1 << 20;

/// The words that a statement of PostgreSQL 13 to 18 begins with: `kind` with another one would never match.
const KINDS: &[&str] = &[
    "abort",
    "alter",
    "analyse",
    "analyze",
    "begin",
    "call",
    "checkpoint",
    "close",
    "cluster",
    "comment",
    "commit",
    "copy",
    "create",
    "deallocate",
    "declare",
    "delete",
    "discard",
    "do",
    "drop",
    "end",
    "execute",
    "explain",
    "fetch",
    "grant",
    "import",
    "insert",
    "listen",
    "load",
    "lock",
    "merge",
    "move",
    "notify",
    "prepare",
    "reassign",
    "refresh",
    "reindex",
    "release",
    "reset",
    "revoke",
    "rollback",
    "savepoint",
    "security",
    "select",
    "set",
    "show",
    "start",
    "table",
    "truncate",
    "unlisten",
    "update",
    "vacuum",
    "values",
    "with",
];

/// A rule as it was typed: the database, and how many stand before it there.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) database: String,
    /// Under this name its keys stand in the sheet.
    pub(super) within: String,
    pub(super) at: usize,
    pub(super) shown: String,
}

impl Check<'_, '_> {
    /// The mode and rules of a database. None: something was complained about.
    pub(super) fn rules(&mut self, name: &Name, servers: &[Server]) -> Option<Rules> {
        let level = self.level("databases.NAME.reads.consistency", &name.name);
        let max_lag = self.sheet.duration("databases.NAME.reads.max_lag", Some(&name.name));
        let mode = match self.sheet.choice("databases.NAME.reads.mode", Some(&name.name)) {
            Some("observe") => Mode::Observe,
            Some("opt_in") => Mode::OptIn,
            _ => Mode::Auto,
        };
        let typed: Vec<&Typed> = self.sheet.rules.iter().filter(|rule| rule.database == name.name).collect();
        if let Some(extra) = typed.get(MAX_RULES) {
            let wrong = Wrong::new(format!("is one rule too many: a database has at most {MAX_RULES}"));
            self.log.add(extra.at, &extra.shown, wrong);
        }
        for (place, rule) in typed.iter().enumerate() {
            let named = self.rule_name(rule);
            if typed.iter().take(place).any(|earlier| self.rule_name(earlier) == named) {
                let wrong = Wrong::new(format!("{named:?} is the name of an earlier rule of the database"));
                self.log.add(rule.at, &rule.shown, wrong.hint("metrics could not tell them apart"));
            }
        }
        let rules: Vec<Option<Rule>> = typed.into_iter().map(|typed| self.rule(typed, servers)).collect();
        let mut rules = Rules::new(mode, rules.into_iter().collect::<Option<_>>()?);
        rules.level = level.unwrap_or_default();
        rules.max_lag = max_lag.filter(|most| !most.is_zero());
        Some(rules)
    }

    fn level(&self, path: &'static str, within: &str) -> Option<Level> {
        Level::parse(self.sheet.choice(path, Some(within))?)
    }

    fn rule(&mut self, typed: &Typed, servers: &[Server]) -> Option<Rule> {
        let (sheet, within) = (self.sheet, Some(typed.within.as_str()));
        let list = |path| sheet.texts(path, within).map(<[String]>::to_vec).unwrap_or_default();
        let (addresses, shapes, query) = (self.networks(typed), self.shapes(typed), self.query(typed));
        let kinds = self.kinds(typed);
        let when = Match {
            users: list("databases.NAME.rules.match.user"),
            databases: list("databases.NAME.rules.match.database"),
            application_names: list("databases.NAME.rules.match.application_name"),
            tables: list("databases.NAME.rules.match.tables"),
            only_tables: list("databases.NAME.rules.match.only_tables"),
            functions: list("databases.NAME.rules.match.functions"),
            kinds: kinds?,
            addresses: addresses?,
            shapes: shapes?,
            query: query?,
        };
        let name = self.rule_name(typed).to_owned();
        let level = self.level("databases.NAME.rules.route.consistency", &typed.within);
        let max_lag = sheet.duration("databases.NAME.rules.route.max_lag", within);
        let timeout = sheet.duration("databases.NAME.rules.route.timeout", within);
        Some(Rule { name, when, then: self.action(typed, servers)?, level, max_lag, timeout })
    }

    fn rule_name<'t>(&'t self, typed: &'t Typed) -> &'t str {
        self.sheet.text("databases.NAME.rules.name", Some(&typed.within)).unwrap_or(&typed.shown)
    }

    fn action(&mut self, typed: &Typed, servers: &[Server]) -> Option<Action> {
        let (sheet, within) = (self.sheet, Some(typed.within.as_str()));
        let to = sheet.choice("databases.NAME.rules.route.to", within);
        let reject = sheet.text("databases.NAME.rules.route.reject", within);
        let wanted = sheet.addresses("databases.NAME.rules.route.servers", within);
        match (to, wanted, reject) {
            (Some("primary"), None, None) => Some(Action::Primary),
            (Some(_), None, None) => Some(Action::Replica),
            (None | Some("replica"), Some(wanted), None) => self.servers(typed, wanted, servers),
            (None, None, Some(message)) => Some(Action::Reject(message.to_owned())),
            (None, None, None) if self.says_more(typed) => Some(Action::Stay),
            (None, None, None) => {
                let hint = "add route = { to = \"primary\" }, { to = \"replica\" }, { servers = [...] }, { consistency = \"...\" }, { timeout = \"...\" } or { reject = \"...\" }";
                self.complain(typed, Wrong::new("does nothing").hint(hint));
                None
            }
            _ => {
                self.complain(typed, Wrong::new("has a route that says more than one thing"));
                None
            }
        }
    }

    /// Whether it says what reads must see, or how long units may run.
    fn says_more(&self, typed: &Typed) -> bool {
        let paths = [
            "databases.NAME.rules.route.consistency",
            "databases.NAME.rules.route.max_lag",
            "databases.NAME.rules.route.timeout",
        ];
        paths.iter().any(|path| self.sheet.entry(path, Some(&typed.within)).is_some())
    }

    fn servers(&mut self, typed: &Typed, wanted: &[Address], servers: &[Server]) -> Option<Action> {
        let mut nodes = 0u64;
        for address in wanted {
            match servers.iter().position(|server| server.address == *address).filter(|place| *place < 64) {
                Some(place) => nodes |= 1 << place,
                None => {
                    let entry =
                        self.sheet.entry("databases.NAME.rules.route.servers", Some(&typed.within))?;
                    let wrong =
                        Wrong::new(format!("{address} is none of the first 64 `servers` of the database"));
                    self.log.add(entry.at, &entry.shown, wrong);
                    return None;
                }
            }
        }
        Some(Action::Servers(nodes))
    }

    fn complain(&mut self, typed: &Typed, wrong: Wrong) {
        self.log.add(typed.at, &typed.shown, wrong);
    }

    /// Reads each text of a list; the first that cannot be read is complained about.
    fn read<T>(
        &mut self,
        path: &'static str,
        typed: &Typed,
        read: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Option<Vec<T>> {
        let Some(entry) = self.sheet.entry(path, Some(&typed.within)) else { return Some(Vec::new()) };
        let mut found = Vec::new();
        for text in self.sheet.texts(path, Some(&typed.within))? {
            match read(text) {
                Some(one) => found.push(one),
                None => {
                    self.log.add(entry.at, &entry.shown, Wrong::new(format!("`{text}` is not {expected}")));
                    return None;
                }
            }
        }
        Some(found)
    }

    fn networks(&mut self, typed: &Typed) -> Option<Vec<Network>> {
        let path = "databases.NAME.rules.match.client_address";
        self.read(path, typed, Network::parse, "an address or a network such as 10.0.0.0/8")
    }

    fn kinds(&mut self, typed: &Typed) -> Option<Vec<String>> {
        let kind = |text: &str| Some(text.to_lowercase()).filter(|kind| KINDS.contains(&kind.as_str()));
        self.read("databases.NAME.rules.match.kind", typed, kind, "a word that a statement begins with")
    }

    fn shapes(&mut self, typed: &Typed) -> Option<Vec<u64>> {
        let shape = |text: &str| u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
        self.read("databases.NAME.rules.match.shape", typed, shape, "a shape: 16 hexadecimal digits")
    }

    fn query(&mut self, typed: &Typed) -> Option<Option<regex::bytes::Regex>> {
        let path = "databases.NAME.rules.match.query";
        let Some(entry) = self.sheet.entry(path, Some(&typed.within)) else { return Some(None) };
        let text = self.sheet.text(path, Some(&typed.within))?;
        match RegexBuilder::new(text).size_limit(REGEX_LIMIT).build() {
            Ok(regex) => Some(Some(regex)),
            Err(error) => {
                let why = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
                self.log.add(entry.at, &entry.shown, Wrong::new(format!("is no regular expression: {why}")));
                None
            }
        }
    }
}
