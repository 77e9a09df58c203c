//! The names in a text that keep it from a replica, for people who want to change that.

use std::cell::RefCell;

use crate::sql::{Effect, Name, Names, scan};

use super::builtins::View;
use super::catalog::Scope;
use super::judge::Judge;

/// Asks another, and writes down what is not safe.
struct Notes<'a> {
    names: View<'a>,
    found: RefCell<Vec<(String, Effect)>>,
}

impl Notes<'_> {
    fn note(&self, name: Name<'_>, effect: Effect) -> Effect {
        if effect != Effect::Safe {
            let schema = name.schema.map(|schema| String::from_utf8_lossy(schema) + ".");
            let whole = schema.unwrap_or_default() + String::from_utf8_lossy(name.last);
            let mut found = self.found.borrow_mut();
            if !found.iter().any(|(known, of)| *known == whole && *of == effect) {
                found.push((whole.into_owned(), effect));
            }
        }
        effect
    }
}

impl Names for Notes<'_> {
    fn function(&self, name: Name<'_>) -> Effect {
        self.note(name, self.names.function(name))
    }

    fn relation(&self, name: Name<'_>) -> Effect {
        self.note(name, self.names.relation(name))
    }

    fn is_known(&self) -> bool {
        self.names.is_known()
    }

    fn watches_words(&self) -> bool {
        self.names.watches_words()
    }

    fn word(&self, name: &[u8]) -> Effect {
        self.note(Name { schema: None, last: name }, self.names.word(name))
    }

    fn operator(&self, run: &[u8]) -> Effect {
        self.note(Name { schema: None, last: run }, self.names.operator(run))
    }
}

impl Judge {
    /// The functions, relations, types and operators that keep a text from a replica, each with what it may do there: what the
    /// token scan stumbles over.
    #[must_use]
    pub fn culprits(&self, text: &[u8], scope: &Scope) -> Vec<(String, Effect)> {
        let notes = Notes { names: self.names(scope), found: RefCell::default() };
        let _ = scan(text, &notes, self.seeds(), |_| {});
        notes.found.into_inner()
    }
}
