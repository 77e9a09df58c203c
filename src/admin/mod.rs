//! What operators see: metrics and health over HTTP, and the console that answers in the database `pgweir`.

mod command;
pub mod http;
mod show;

use std::sync::{Arc, OnceLock, Weak};

use crate::client::{Console, Refusal, Role, Shared, Table};
use crate::cluster::Orders;
use crate::counter::Account;
use crate::net::Address;
use crate::wire::SqlState;

use command::Command;

/// Who may use the console.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// Users that may do everything.
    pub admin_users: Vec<String>,
    /// Users that may look.
    pub stats_users: Vec<String>,
    /// Every user may do everything: nobody is named, nobody is asked for a password, and only this machine can come in.
    pub everybody: bool,
}

/// What an operator has changed while pgweir runs.
pub trait Means: Send + Sync {
    /// Reads the configuration again. Returns the settings that have changed and need a restart.
    ///
    /// # Errors
    /// What is wrong with it; nothing has changed then.
    fn reload(&self) -> Result<Vec<String>, String>;

    /// Changes one server, until the configuration is read again.
    ///
    /// # Errors
    /// Why that cannot be; nothing has changed then.
    fn change(&self, change: &Change) -> Result<(), String>;
}

/// A change of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// What becomes of it.
    pub what: What,
    /// Which.
    pub address: Address,
    /// Of that database, and those that share its servers; none: of all that have it.
    pub database: Option<String>,
}

/// What becomes of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// It is one from now on.
    Add(Orders),
    /// It is none any more.
    Remove,
    /// It gets no new reads.
    Drain,
    /// It gets reads again.
    Enable,
    /// Its share of the reads.
    Weigh(u32),
}

/// The console.
pub struct Desk {
    options: Options,
    means: OnceLock<Weak<dyn Means>>,
}

impl Desk {
    /// A console for those users.
    #[must_use]
    pub fn new(options: Options) -> Desk {
        Desk { options, means: OnceLock::new() }
    }

    /// From now on commands that change something are carried out by that.
    pub fn employ(&self, means: Weak<dyn Means>) {
        // The first stays.
        let _ = self.means.set(means);
    }

    /// Carries a command out that changes something: what it has to tell is a row each.
    fn carry_out(&self, command: &Command) -> Result<Table, Refusal> {
        let means = self.means.get().and_then(Weak::upgrade).ok_or("pgweir is starting or ending".to_owned());
        let told = means.and_then(|means| match command {
            Command::Change(change) => means.change(change).map(|()| Vec::new()),
            _ => means.reload(),
        });
        let told =
            told.map_err(|why| Refusal::new(SqlState::INVALID_PARAMETER_VALUE, why, "Nothing was changed."))?;
        let columns = if told.is_empty() { Vec::new() } else { vec!["needs_a_restart"] };
        let rows = told.into_iter().map(|setting| vec![Some(setting)]).collect();
        Ok(Table { columns, rows, tag: command.tag() })
    }
}

impl Console for Desk {
    fn role(&self, user: &str) -> Option<Role> {
        let named = |users: &[String]| users.iter().any(|known| known == user);
        if self.options.everybody || named(&self.options.admin_users) {
            Some(Role::Admin)
        } else {
            named(&self.options.stats_users).then_some(Role::Stats)
        }
    }

    fn answer(&self, shared: &Shared, role: Role, text: &str, run: bool) -> Result<Table, Refusal> {
        let command = Command::parse(text)
            .map_err(|unknown| Refusal::new(SqlState::SYNTAX_ERROR, unknown.message, unknown.hint))?;
        match &command {
            Command::Reload | Command::Change(_) | Command::Flush(_) | Command::Discard(_)
                if role != Role::Admin =>
            {
                Err(Refusal::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    "only users in `admin_users` may change anything",
                    "Those in `stats_users` may look: SHOW HELP lists how.",
                ))
            }
            Command::Reload | Command::Change(_) if run => self.carry_out(&command),
            Command::Flush(Some(table)) | Command::Discard(table) if run => {
                let accounts = accounts(shared, Some(table));
                let rules = shared.databases.all();
                let known = rules.iter().flat_map(|database| database.counters.rules());
                if accounts.is_empty() && !known.into_iter().any(|rule| names(table, &rule.table)) {
                    return Err(Refusal::new(
                        SqlState::UNDEFINED_OBJECT,
                        format!("no counters are kept for a table \"{table}\""),
                        "SHOW COUNTERS lists those that are.",
                    ));
                }
                if matches!(command, Command::Discard(_)) {
                    accounts.iter().for_each(|account| account.discard());
                }
                show::table(&command, shared, run)
            }
            _ => show::table(&command, shared, run),
        }
    }

    fn flushes(&self, shared: &Shared, text: &str) -> Vec<Arc<Account>> {
        match Command::parse(text) {
            Ok(Command::Flush(table)) => accounts(shared, table.as_deref()),
            Ok(Command::Discard(table)) => accounts(shared, Some(&table)),
            _ => Vec::new(),
        }
    }
}

/// Whether a name, with or without its schema, is that of a table.
fn names(name: &str, table: &str) -> bool {
    name == table || name.split_once('.').is_some_and(|(_, name)| name == table)
}

/// What is kept for that table, or for all.
fn accounts(shared: &Shared, table: Option<&str>) -> Vec<Arc<Account>> {
    let mut accounts = shared.books.of(None);
    accounts.retain(|account| {
        let whole = account.table();
        let own = whole.split_once('.').map_or("", |(_, name)| name);
        table.is_none_or(|table| whole == table || own == table)
    });
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_do_what() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let desk = Desk::new(Options {
            admin_users: names(&["ann"]),
            stats_users: names(&["bob", "ann"]),
            everybody: false,
        });
        let roles = ["ann", "bob", "eve", ""].map(|user| desk.role(user));
        assert_eq!(roles, [Some(Role::Admin), Some(Role::Stats), None, None]);
        assert_eq!(
            Desk::new(Options { everybody: true, ..Options::default() }).role("eve"),
            Some(Role::Admin)
        );
        assert_eq!(Desk::new(Options::default()).role("postgres"), None);
    }
}
