//! The tables whose increments are merged: `[[databases.NAME.counters]]`.

use super::check::Check;
use super::complaint::Wrong;
use super::raw::Name;
use super::rules::Typed;
use crate::clock::Duration;
use crate::counter::{Durability, Guard, JournalOptions, Rule, Verify};

/// Most of one database.
const MOST: usize = 64;

/// What is only about increments that are answered before their commit.
const ONLY_FOR_KEPT: [&str; 5] = [
    "databases.NAME.counters.flush_every",
    "databases.NAME.counters.flush_rows",
    "databases.NAME.counters.reads",
    "databases.NAME.counters.verify",
    "databases.NAME.counters.ledger",
];

/// Whether every statement that the rule is about goes by the one before it.
fn covers(before: &Rule, rule: &Rule) -> bool {
    let all = |these: &[Box<str>], of: &[Box<str>]| these.iter().all(|name| of.contains(name));
    (&before.schema, &before.table) == (&rule.schema, &rule.table)
        && before.key.len() == rule.key.len()
        && all(&rule.key, &before.key)
        && all(&rule.columns, &before.columns)
        && all(&rule.touch, &before.touch)
}

/// Whether the ledger of one is the table that the other counts in, as far as their names tell.
fn is_ledger(rule: &Rule, other: &Rule) -> bool {
    let (schema, name) = &rule.ledger;
    let schema = schema.as_ref().or(rule.schema.as_ref()).zip(other.schema.as_ref());
    *name == other.table && schema.is_none_or(|(one, other)| one == other)
}

impl Check<'_, '_> {
    /// Those of a database. None: something was complained about.
    pub(super) fn counters(&mut self, name: &Name) -> Option<Vec<Rule>> {
        let typed: Vec<&Typed> =
            self.sheet.counters.iter().filter(|rule| rule.database == name.name).collect();
        if let Some(extra) = typed.get(MOST) {
            let wrong = Wrong::new(format!("is one too many: a database has at most {MOST}"));
            self.log.add(extra.at, &extra.shown, wrong);
        }
        let rules: Vec<Option<Rule>> = typed.iter().map(|typed| self.counter(typed)).collect();
        let rules: Vec<Rule> = rules.into_iter().collect::<Option<_>>()?;
        self.beside_each_other(&typed, &rules);
        Some(rules)
    }

    /// Complains of rules that are each right, and not together.
    fn beside_each_other(&mut self, typed: &[&Typed], rules: &[Rule]) {
        for (nth, (typed, rule)) in typed.iter().zip(rules).enumerate() {
            if rules.iter().take(nth).any(|before| covers(before, rule)) {
                let wrong = Wrong::new("never applies: one before it has its table, key and columns");
                self.log.add(typed.at, &typed.shown, wrong.hint("leave one of them out"));
            }
            if rule.durability != Durability::Commit && rules.iter().any(|other| is_ledger(rule, other)) {
                let wrong = Wrong::new(format!(
                    "has {:?} for its ledger, where increments are counted",
                    rule.ledger.1
                ));
                let hint = "the ledger is a table of its own, which pgweir makes: leave `ledger` out, or give it another name";
                self.log.add(typed.at, &typed.shown, wrong.hint(hint));
            }
        }
    }

    /// Whether a name is written as the catalog has it.
    fn is_bare(&mut self, typed: &Typed, path: &'static str, name: &str) -> bool {
        let bare =
            |part: &str| part.strip_prefix('"').and_then(|part| part.strip_suffix('"')).map(str::to_owned);
        let parts: Vec<_> =
            name.split('.').map(|part| bare(part).unwrap_or_else(|| part.to_owned())).collect();
        let bare = parts.join(".");
        if bare == name {
            return true;
        }
        let entry = self.sheet.entry(path, Some(&typed.within));
        let (at, shown) = entry.map_or((typed.at, &typed.shown), |entry| (entry.at, &entry.shown));
        let wrong = Wrong::new(format!("{name:?} is in quotes"));
        let hint =
            format!("names are written here as the catalog has them, which tells capitals apart: {bare:?}");
        self.log.add(at, shown, wrong.hint(hint));
        false
    }

    /// A table with or without its schema. None: it is neither.
    fn table(
        &mut self,
        typed: &Typed,
        path: &'static str,
        name: &str,
    ) -> Option<(Option<Box<str>>, Box<str>)> {
        if !self.is_bare(typed, path, name) {
            return None;
        }
        let parts: Vec<&str> = name.split('.').collect();
        match parts.as_slice() {
            [table] if !table.is_empty() => Some((None, (*table).into())),
            [schema, table] if !schema.is_empty() && !table.is_empty() => {
                Some((Some((*schema).into()), (*table).into()))
            }
            _ => {
                let entry = self.sheet.entry(path, Some(&typed.within));
                let (at, shown) = entry.map_or((typed.at, &typed.shown), |entry| (entry.at, &entry.shown));
                let wrong = Wrong::new(format!("{name:?} is no table"));
                let hint = "say \"photos\", or with its schema \"shop.photos\"; no name has a dot in it here";
                self.log.add(at, shown, wrong.hint(hint));
                None
            }
        }
    }

    fn counter(&mut self, typed: &Typed) -> Option<Rule> {
        let (sheet, within) = (self.sheet, Some(typed.within.as_str()));
        let list = |path| -> Vec<Box<str>> {
            sheet.texts(path, within).unwrap_or_default().iter().map(|name| name.as_str().into()).collect()
        };
        let table = sheet.text("databases.NAME.counters.table", within).unwrap_or_default();
        let (key, columns) = (list("databases.NAME.counters.key"), list("databases.NAME.counters.columns"));
        let missing = [("table", table.is_empty()), ("key", key.is_empty()), ("columns", columns.is_empty())];
        if let Some((what, _)) = missing.into_iter().find(|(_, missing)| *missing) {
            let wrong = Wrong::new(format!("has no `{what}`"));
            let hint = "say table = \"photos\", key = [\"id\"] and columns = [\"votes\"]";
            self.log.add(typed.at, &typed.shown, wrong.hint(hint));
            return None;
        }
        let touch = list("databases.NAME.counters.touch");
        for (path, names) in [
            ("databases.NAME.counters.key", &key),
            ("databases.NAME.counters.columns", &columns),
            ("databases.NAME.counters.touch", &touch),
        ] {
            if !names.iter().all(|name| self.is_bare(typed, path, name)) {
                return None;
            }
        }
        let names: Vec<_> = key.iter().chain(&columns).chain(&touch).collect();
        if let Some((_, twice)) =
            names.iter().enumerate().find(|(nth, name)| names.iter().take(*nth).any(|known| known == *name))
        {
            let wrong = Wrong::new(format!("names the column {twice:?} twice"));
            self.log.add(
                typed.at,
                &typed.shown,
                wrong.hint("a column is part of the key, a counter, or touched"),
            );
            return None;
        }
        let (schema, table) = self.table(typed, "databases.NAME.counters.table", table)?;
        let most = sheet.count("databases.NAME.counters.max_waiting", within).unwrap_or(100_000);
        let durability = self.durability(typed)?;
        if durability == Durability::Commit {
            self.only_for_kept(typed);
        }
        let verify = match sheet.choice("databases.NAME.counters.verify", within) {
            Some("always") => Verify::Always,
            Some("never") => Verify::Never,
            _ => Verify::First,
        };
        let ledger = sheet.text("databases.NAME.counters.ledger", within).unwrap_or("pgweir_ledger");
        let ledger = self.table(typed, "databases.NAME.counters.ledger", ledger)?;
        let every = sheet.duration("databases.NAME.counters.flush_every", within);
        Some(Rule {
            schema,
            table,
            key,
            columns,
            touch,
            allow: self.allowed(typed)?,
            most,
            durability,
            every: every.unwrap_or(Duration::from_secs(1)),
            rows: sheet.count("databases.NAME.counters.flush_rows", within).unwrap_or(10_000),
            stale: sheet.choice("databases.NAME.counters.reads", within) == Some("stale"),
            verify,
            ledger,
        })
    }

    /// When clients are answered. None: there is no journal.
    fn durability(&mut self, typed: &Typed) -> Option<Durability> {
        match self.sheet.choice("databases.NAME.counters.durability", Some(&typed.within)) {
            Some("memory") => Some(Durability::Memory),
            Some("journal") if self.sheet.entry("journal.folder", None).is_none() => {
                let wrong = Wrong::new("has durability = \"journal\", and there is no journal");
                let hint = "say where it is: [journal] folder = \"/var/lib/pgweir\"";
                self.log.add(typed.at, &typed.shown, wrong.hint(hint));
                None
            }
            Some("journal") => Some(Durability::Journal),
            _ => Some(Durability::Commit),
        }
    }

    /// Complains of what says nothing about increments that are answered after their commit.
    fn only_for_kept(&mut self, typed: &Typed) {
        for path in ONLY_FOR_KEPT {
            if let Some(entry) = self.sheet.entry(path, Some(&typed.within)) {
                let wrong = Wrong::new("means nothing where clients are answered after the commit");
                let hint = "say durability = \"journal\" or \"memory\", or leave it out";
                self.log.add(entry.at, &entry.shown, wrong.hint(hint));
            }
        }
    }

    /// The journal, if there is one. It is where the configuration is, if its folder is not said whole.
    pub(super) fn journal(&mut self) -> Option<JournalOptions> {
        let entry = self.sheet.entry("journal.keep", None);
        if let Some(entry) = entry.filter(|_| self.sheet.entry("journal.folder", None).is_none()) {
            let wrong = Wrong::new("is about no journal: there is no `folder`");
            let hint = "say where it is: folder = \"/var/lib/pgweir\"";
            self.log.add(entry.at, &entry.shown, wrong.hint(hint));
        }
        let folder = self.sheet.text("journal.folder", None)?;
        let keep = self.sheet.duration("journal.keep", None).unwrap_or(Duration::from_secs(3600));
        Some(JournalOptions { folder: self.around.folder.join(folder), keep })
    }

    /// What stands in `allow`. None: something was complained about.
    fn allowed(&mut self, typed: &Typed) -> Option<Vec<Guard>> {
        let path = "databases.NAME.counters.allow";
        let words = self.sheet.texts(path, Some(&typed.within)).unwrap_or_default();
        let known =
            |word: &String| Guard::ALL.into_iter().find(|(_, known)| known == word).map(|(guard, _)| guard);
        let found: Option<Vec<Guard>> = words.iter().map(known).collect();
        if found.is_none() {
            let unknown = words.iter().find(|word| known(word).is_none()).map_or("", String::as_str);
            let all: Vec<_> = Guard::ALL.iter().map(|(_, word)| *word).collect();
            let wrong = Wrong::new(format!("allows {unknown:?}, which is no reason against merging"));
            self.log.add(typed.at, &typed.shown, wrong.hint(format!("one of: {}", all.join(", "))));
        }
        found
    }
}
