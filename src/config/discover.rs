//! How servers of a database are found: `discover` and the keys beside it.

use super::Server;
use super::check::{Check, set};
use super::complaint::Wrong;
use super::raw::Name;
use crate::monitor::Discover;

impl Check<'_, '_> {
    pub(super) fn discover(&mut self, name: &Name, servers: &[Server]) -> Discover {
        let (sheet, within) = (self.sheet, Some(name.name.as_str()));
        let words = sheet.texts("databases.NAME.discover", within).unwrap_or_default();
        let has = |word: &str| words.iter().any(|typed| typed == word);
        let mut options = Discover::default();
        (options.replication, options.dns) = (has("replication"), has("dns"));
        set(&mut options.every, sheet.duration("databases.NAME.discover_every", within));
        set(&mut options.most, sheet.count("databases.NAME.discover_max", within));
        set(&mut options.ports, sheet.ports("databases.NAME.discover_port", within).map(<[u16]>::to_vec));
        let complained = |key| self.log.is_about(&format!("databases.{}.{key}", name.name));
        let complained = complained("discover") || complained("discover_port");
        let silent = sheet.entry("databases.NAME.discover", within).is_none() && !complained;
        if let Some(entry) = sheet.entry("databases.NAME.discover_port", within).filter(|_| silent) {
            let wrong = Wrong::new("means nothing without `discover`");
            let hint = "say discover = \"replication\" or \"dns\", or leave it out";
            self.log.add(entry.at, &entry.shown, wrong.hint(hint));
        }
        let named = servers.iter().any(|server| server.address.host_name().is_some());
        if let Some(entry) = sheet.entry("databases.NAME.discover", within).filter(|_| options.dns && !named)
        {
            let wrong = Wrong::new("\"dns\" has nothing to ask for: no server has a host name");
            self.log.add(
                entry.at,
                &entry.shown,
                wrong.hint("name one in `servers`, as in \"db.internal:5432\""),
            );
        }
        options
    }
}
