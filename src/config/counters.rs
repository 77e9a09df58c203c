//! The tables whose increments are merged: `[[databases.NAME.counters]]`.

use super::check::Check;
use super::complaint::Wrong;
use super::raw::Name;
use super::rules::Typed;
use crate::clock::Duration;
use crate::counter::{Durability, Guard, JournalOptions, Rule, Verify};

/// Most of one database.
const MOST: usize = 64;

impl Check<'_, '_> {
    /// Those of a database. None: something was complained about.
    pub(super) fn counters(&mut self, name: &Name) -> Option<Vec<Rule>> {
        let typed: Vec<&Typed> =
            self.sheet.counters.iter().filter(|rule| rule.database == name.name).collect();
        if let Some(extra) = typed.get(MOST) {
            let wrong = Wrong::new(format!("is one too many: a database has at most {MOST}"));
            self.log.add(extra.at, &extra.shown, wrong);
        }
        let rules: Vec<Option<Rule>> = typed.into_iter().map(|typed| self.counter(typed)).collect();
        rules.into_iter().collect()
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
        let (schema, table) = match table.split_once('.') {
            Some((schema, table)) => (Some(schema.into()), table),
            None => (None, table),
        };
        let most = sheet.count("databases.NAME.counters.max_waiting", within).unwrap_or(100_000);
        let durability = self.durability(typed)?;
        let sheet = self.sheet;
        let verify = match sheet.choice("databases.NAME.counters.verify", within) {
            Some("always") => Verify::Always,
            Some("never") => Verify::Never,
            _ => Verify::First,
        };
        let ledger = sheet.text("databases.NAME.counters.ledger", within).unwrap_or("pgweir_ledger");
        let ledger = match ledger.split_once('.') {
            Some((schema, name)) => (Some(schema.into()), name.into()),
            None => (None, ledger.into()),
        };
        let every = sheet.duration("databases.NAME.counters.flush_every", within);
        Some(Rule {
            schema,
            table: table.into(),
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

    /// The journal, if there is one. It is where the configuration is, if its folder is not said whole.
    pub(super) fn journal(&self) -> Option<JournalOptions> {
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
