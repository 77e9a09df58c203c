//! What operators see: metrics and health over HTTP, and the console that answers in the database `pgweir`.

mod command;
pub mod http;
mod show;

use crate::client::{Console, Refusal, Role, Shared, Table};
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

/// The console.
#[derive(Debug)]
pub struct Desk {
    options: Options,
}

impl Desk {
    /// A console for those users.
    #[must_use]
    pub fn new(options: Options) -> Desk {
        Desk { options }
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

    fn answer(&self, shared: &Shared, _: Role, text: &str, run: bool) -> Result<Table, Refusal> {
        let command = Command::parse(text).map_err(|unknown| {
            let hint = match unknown.nearest {
                Some(nearest) => format!("Perhaps you meant {nearest}. SHOW HELP lists all commands."),
                None => "SHOW HELP lists all commands.".to_owned(),
            };
            Refusal::new(SqlState::SYNTAX_ERROR, unknown.message, hint)
        })?;
        show::table(&command, shared, run)
    }
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
