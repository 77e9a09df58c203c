//! Who judges on the command line: the proxy's judge, names and rules, for a fresh session with a primary and replicas up.

use std::sync::Arc;

use crate::config::{Config, Database};
use crate::monitor::Seen;
use crate::route::rules::Who;
use crate::route::{self, Catalog, Facts, Judge, Known, Route, Rules, Scope, SearchPath, Session, Topology};

/// Who judges, what names mean there, and who asks.
pub(super) struct Court {
    judge: Judge,
    scope: Scope,
    session: Session,
}

/// The entry of the configuration that serves that name, or else the first.
pub(super) fn entry<'a>(config: &'a Config, name: Option<&str>) -> anyhow::Result<Option<&'a Database>> {
    let Some(wanted) = name else { return Ok(config.databases.first()) };
    let named = |name: &str| config.databases.iter().find(|database| database.name == name);
    // As in the proxy: `*` serves the names that have no entry of their own, wherever it stands in the file.
    match named(wanted).or_else(|| named("*")) {
        None => anyhow::bail!("the configuration has no database {wanted:?}"),
        found => Ok(found),
    }
}

impl Court {
    /// Of a configuration and its entry for the database that `who` asks for, and of what a server's catalog says.
    pub(super) fn new(
        config: Option<&Config>,
        entry: Option<&Database>,
        who: &Who<'_>,
        seen: Option<&Seen>,
    ) -> Self {
        let options = config.map(|config| config.judge.clone()).unwrap_or_default();
        let rules: Arc<Rules> = entry.map(|database| database.rules.clone()).unwrap_or_default();
        let session = Session { rules: rules.session(who), ..Session::FREE };
        let scope = match seen {
            None => Scope::new(Known::Unused, None, rules),
            Some(seen) => {
                let catalog =
                    Catalog::build(&seen.rows, &options.read_only_functions, &options.write_functions);
                let path = SearchPath::parse(&seen.search_path, &seen.user);
                Scope::new(Known::Loaded(Arc::new(catalog)), path, rules)
            }
        };
        Self { judge: Judge::new(options), scope, session }
    }

    /// What a text does, and where it goes.
    pub(super) fn judge(&self, sql: &str) -> (Facts, Route) {
        let topology = Topology { primary: true, replicas: 1, nodes: u64::MAX };
        let facts = self.judge.facts(sql.as_bytes(), &self.scope);
        (facts, route::decide(facts, self.session, topology, self.rules()))
    }

    /// The names that keep a text from a replica.
    pub(super) fn culprits(&self, sql: &str) -> Vec<String> {
        self.judge.culprits(sql.as_bytes(), &self.scope).into_iter().map(|(name, _)| name).collect()
    }

    /// The rules that count.
    pub(super) fn rules(&self) -> &Rules {
        self.scope.rules()
    }

    /// Whether a catalog was asked what names mean.
    pub(super) fn has_catalog(&self) -> bool {
        matches!(self.scope.known(), Known::Loaded(_))
    }
}
