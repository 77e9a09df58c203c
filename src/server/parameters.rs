//! The startup parameters of a client, as far as they must be those of its server connections too.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Startup parameters but `user`, `database` and `application_name`: in name order, each once. Two clients whose
/// parameters are equal may use the same server connection one after the other.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    list: Vec<(String, String)>,
    hash: u64,
}

impl Parameters {
    /// From what a client sent; of a parameter that was given twice the last counts, as in PostgreSQL.
    #[must_use]
    pub fn new(sent: &[(String, String)]) -> Self {
        let apart = ["user", "database", "application_name", "replication"];
        let mut list: Vec<(String, String)> = Vec::new();
        for (name, value) in sent.iter().filter(|(name, _)| !apart.contains(&name.as_str())) {
            match list.iter_mut().find(|(known, _)| known == name) {
                Some(known) => known.1.clone_from(value),
                None => list.push((name.clone(), value.clone())),
            }
        }
        list.sort();
        let mut hasher = DefaultHasher::new();
        list.hash(&mut hasher);
        Self { list, hash: hasher.finish() }
    }

    /// The parameters in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl PartialEq for Parameters {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.list == other.list
    }
}

impl Eq for Parameters {}

impl Hash for Parameters {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(list: &[(&str, &str)]) -> Parameters {
        let list: Vec<_> = list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Parameters::new(&list)
    }

    #[test]
    fn order_and_names_apart_do_not_matter() {
        let a = parameters(&[("user", "x"), ("options", "-c a=b"), ("client_encoding", "UTF8")]);
        let b = parameters(&[("client_encoding", "UTF8"), ("options", "-c a=b"), ("application_name", "y")]);
        assert_eq!(a, b);
        assert_ne!(a, parameters(&[("client_encoding", "LATIN1"), ("options", "-c a=b")]));
        assert_eq!(parameters(&[("a", "1"), ("a", "2")]), parameters(&[("a", "2")]));
    }
}
