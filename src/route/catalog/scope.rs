//! What names mean to one session: the catalog of its database and its search path.

use std::sync::Arc;

use super::Catalog;
use super::rows::{FIRST_OWN, Oid};
use crate::route::{Reason, Rules};

/// The schemas in which a name without one is looked for, in order, as `search_path` has them: folded or unquoted, `$user`
/// filled in. `pg_catalog` is in it where PostgreSQL would look there, even if the setting does not name it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct SearchPath(Vec<Box<[u8]>>);

impl SearchPath {
    /// The schemas, in order.
    pub fn schemas(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|schema| &**schema)
    }

    /// Whether that schema is one of them.
    #[must_use]
    pub fn has(&self, schema: &[u8]) -> bool {
        self.schemas().any(|name| name == schema)
    }

    /// From the setting as a server shows it, for that user. None: it cannot be read.
    #[must_use]
    pub fn parse(setting: &str, user: &str) -> Option<SearchPath> {
        let mut schemas: Vec<Box<[u8]>> = Vec::new();
        let mut rest = setting.trim();
        while !rest.is_empty() {
            let schema = if let Some(quoted) = rest.strip_prefix('"') {
                let mut name = String::new();
                let mut left = quoted;
                loop {
                    let (part, after) = left.split_once('"')?;
                    name.push_str(part);
                    left = after;
                    match left.strip_prefix('"') {
                        Some(more) => left = more,
                        None => break,
                    }
                    name.push('"');
                }
                rest = left.trim_start();
                name
            } else {
                let (name, _) = rest.split_once(',').unwrap_or((rest, ""));
                rest = rest.get(name.len()..)?;
                name.trim().to_ascii_lowercase()
            };
            schemas.push(if schema == "$user" { user.as_bytes().into() } else { schema.as_bytes().into() });
            rest = match rest.strip_prefix(',') {
                Some(more) => more.trim_start(),
                None if rest.is_empty() => rest,
                None => return None,
            };
        }
        if !schemas.iter().any(|schema| **schema == *b"pg_catalog") {
            schemas.insert(0, b"pg_catalog"[..].into());
        }
        Some(SearchPath(schemas))
    }
}

/// What is known of a database's own names.
#[derive(Clone, Debug)]
pub enum Known {
    /// No catalog is asked: what is named like a table is taken for one, and functions of the database's own are not known.
    Unused,
    /// It is being loaded, or cannot be.
    Loading,
    /// It is known.
    Loaded(Arc<Catalog>),
}

/// What names mean to one session.
#[derive(Clone, Debug)]
pub struct Scope {
    rules: Arc<Rules>,
    known: Known,
    path: Option<SearchPath>,
    key: u64,
}

impl Scope {
    /// Of a session with that search path; none: not known, so that every schema counts. Its statements are looked at with
    /// those rules.
    #[must_use]
    pub fn new(known: Known, path: Option<SearchPath>, rules: Arc<Rules>) -> Scope {
        use std::hash::{Hash as _, Hasher as _};
        // Not a secret: the judge's keys are, and this is mixed into them.
        let mut hasher = std::hash::DefaultHasher::new();
        match &known {
            Known::Unused => 0u64.hash(&mut hasher),
            Known::Loading => 1u64.hash(&mut hasher),
            Known::Loaded(catalog) => (2u64, catalog.version()).hash(&mut hasher),
        }
        path.hash(&mut hasher);
        rules.key().hash(&mut hasher);
        Scope { rules, known, path, key: hasher.finish() }
    }

    /// Without a catalog, and without rules.
    #[must_use]
    pub fn without_catalog() -> Scope {
        Scope::new(Known::Unused, None, Arc::default())
    }

    /// The rules of its database.
    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// What is known.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// The search path.
    #[must_use]
    pub fn path(&self) -> Option<&SearchPath> {
        self.path.as_ref()
    }

    /// Why a parameter of that type keeps a statement on the primary; none: it need not.
    #[must_use]
    pub fn parameter(&self, of: Oid) -> Option<Reason> {
        match &self.known {
            _ if of < FIRST_OWN => None,
            Known::Unused => None,
            Known::Loading => Some(Reason::CatalogLoading),
            Known::Loaded(catalog) => (!catalog.takes(of)).then_some(Reason::VolatileOperator),
        }
    }

    /// The same for scopes in which every text means the same; most likely different for others.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_is_read_as_postgresql_does() {
        let path = |setting| {
            let path = SearchPath::parse(setting, "Ann")?;
            Some(
                path.0
                    .iter()
                    .map(|name| String::from_utf8(name.to_vec()).unwrap())
                    .collect::<Vec<_>>()
                    .join("|"),
            )
        };
        assert_eq!(path("\"$user\", public").unwrap(), "pg_catalog|Ann|public");
        assert_eq!(path("App, \"My \"\"x\"\"\",pg_catalog").unwrap(), "app|My \"x\"|pg_catalog");
        assert_eq!(path("").unwrap(), "pg_catalog");
        assert_eq!(path("\"open"), None);
        assert_eq!(path("\"a\" b"), None);
    }
}
