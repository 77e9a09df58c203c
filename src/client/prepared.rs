//! The client's prepared statements: what each name stands for, what is under way, and what a server connection lacks.
//!
//! A name is the client's own; on a server connection that the client holds it is the same name. A statement that such a
//! connection lacks is prepared there before the first message that names it, and its reply is swallowed. What a Parse or
//! a Close changes takes effect when the server confirms it: an error undoes what was not confirmed.

use std::collections::{HashMap, VecDeque};

use crate::route::Facts;

/// Most bytes of Parse messages kept for one client. What does not fit stays usable on the primary alone.
const KEEP: usize = 64 * 1024;

/// Longest unnamed Parse message that is kept for a later unit.
const KEEP_UNNAMED: usize = 8 * 1024;

/// A prepared statement.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// The client's number for it, from 1: a name that is used again gets another.
    pub(super) id: u64,
    /// What it does.
    pub(super) facts: Facts,
    /// The whole Parse message, if it was kept.
    pub(super) parse: Option<Box<[u8]>>,
}

#[derive(Debug, Default)]
struct Entry {
    current: Option<Statement>,
    staged: Option<Statement>,
    closing: bool,
}

/// Something that was sent and not answered yet, in order.
#[derive(Debug)]
enum Pending {
    /// A Parse of the client's.
    Parse { name: Box<[u8]>, id: u64 },
    /// A Parse of pgweir's own: the server lacked the statement.
    Own { name: Box<[u8]> },
    /// A Parse without a name.
    Unnamed,
    /// A Close of a statement, or of something else that needs no note.
    Close(Option<Box<[u8]>>),
    /// The end of a unit.
    End,
}

/// What became of a Parse that was answered or skipped, for the list that the server connection keeps.
pub(super) enum Undone {
    /// The server does not have that name.
    Name(Box<[u8]>),
    /// The server has no unnamed statement of ours.
    Unnamed,
}

/// The client's statements.
#[derive(Debug, Default)]
pub(super) struct Statements {
    named: HashMap<Box<[u8]>, Entry>,
    unnamed: Option<(u64, Facts)>,
    /// The Parse message of the unnamed statement; empty: too long to be kept.
    unnamed_parse: Vec<u8>,
    pending: VecDeque<Pending>,
    kept: usize,
    last: u64,
}

impl Statements {
    /// A Parse was read. `message` is whole, or `None` when it is longer than a window. False: the statement has a name
    /// and was not kept, so that it can be used only on the connection that it goes to.
    pub(super) fn parse(&mut self, name: &[u8], facts: Facts, message: Option<&[u8]>) -> bool {
        self.last += 1;
        let id = self.last;
        if name.is_empty() {
            self.unnamed = Some((id, facts));
            self.unnamed_parse.clear();
            self.unnamed_parse
                .extend(message.filter(|message| message.len() <= KEEP_UNNAMED).unwrap_or_default());
            return true;
        }
        let parse = message.filter(|message| self.kept + message.len() <= KEEP).map(Box::from);
        let entry = self.named.entry(name.into()).or_default();
        let kept = parse.is_some();
        // A name that is taken: the server will say so, and the old statement stays.
        if entry.current.is_none() || entry.closing {
            self.kept += parse.as_deref().map_or(0, <[u8]>::len);
            let before = entry.staged.replace(Statement { id, facts, parse });
            self.kept -= before.and_then(|before| before.parse).map_or(0, |parse| parse.len());
        }
        kept
    }

    /// The facts of a statement just read turn out to be others: it cannot be moved.
    pub(super) fn amend(&mut self, name: &[u8], facts: Facts) {
        if let Some(staged) = self.named.get_mut(name).and_then(|entry| entry.staged.as_mut()) {
            staged.facts = facts;
        }
    }

    /// A Close of a statement was read.
    pub(super) fn close(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = None;
        } else if let Some(entry) = self.named.get_mut(name) {
            entry.closing = true;
        }
    }

    /// A simple Query was read: it ends the unnamed statement.
    pub(super) fn query(&mut self) {
        self.unnamed = None;
    }

    /// The facts of the statement with that name; none if the client has no such statement.
    pub(super) fn facts(&self, name: &[u8]) -> Option<Facts> {
        if name.is_empty() {
            return self.unnamed.map(|(_, facts)| facts);
        }
        self.find(name).map(|statement| statement.facts)
    }

    /// The number of the statement with that name, from 1.
    pub(super) fn id(&self, name: &[u8]) -> Option<u64> {
        if name.is_empty() {
            return self.unnamed.map(|(id, _)| id);
        }
        self.find(name).map(|statement| statement.id)
    }

    /// The statement with that name.
    pub(super) fn find(&self, name: &[u8]) -> Option<&Statement> {
        let entry = self.named.get(name)?;
        entry.staged.as_ref().or(entry.current.as_ref().filter(|_| !entry.closing))
    }

    /// The statement that a Parse of that name will collide with.
    pub(super) fn taken(&self, name: &[u8]) -> Option<&Statement> {
        self.named.get(name).filter(|entry| !entry.closing && entry.staged.is_none())?.current.as_ref()
    }

    /// Number and Parse message of the unnamed statement; the message is empty if it was not kept.
    pub(super) fn unnamed(&self) -> Option<(u64, &[u8])> {
        self.unnamed.map(|(id, _)| (id, self.unnamed_parse.as_slice()))
    }

    /// A Parse of the client's goes to a server.
    pub(super) fn sent_parse(&mut self, name: &[u8]) {
        let staged = self.named.get(name).and_then(|entry| Some(entry.staged.as_ref()?.id));
        self.pending.push_back(match staged {
            Some(id) => Pending::Parse { name: name.into(), id },
            None if name.is_empty() => Pending::Unnamed,
            // The name is taken: the server will refuse, and nothing changes.
            None => Pending::Close(None),
        });
    }

    /// A Parse of pgweir's own goes to a server.
    pub(super) fn sent_own(&mut self, name: &[u8]) {
        self.pending.push_back(Pending::Own { name: name.into() });
    }

    /// A Close goes to a server; `name` is that of a statement of the client's.
    pub(super) fn sent_close(&mut self, name: Option<&[u8]>) {
        self.pending.push_back(Pending::Close(name.filter(|name| !name.is_empty()).map(Box::from)));
    }

    /// The end of a unit goes to a server.
    pub(super) fn sent_end(&mut self) {
        self.pending.push_back(Pending::End);
    }

    /// A server confirmed the next Parse.
    pub(super) fn parsed(&mut self) {
        let Some(Pending::Parse { name, id }) = self.next() else { return };
        if let Some(entry) = self.named.get_mut(&name)
            && entry.staged.as_ref().is_some_and(|staged| staged.id == id)
        {
            entry.current = entry.staged.take();
            entry.closing = false;
        }
    }

    /// A server confirmed the next Close.
    pub(super) fn closed(&mut self) {
        let Some(Pending::Close(Some(name))) = self.next() else { return };
        if let Some(entry) = self.named.get_mut(&name)
            && entry.closing
        {
            let gone = entry.current.take();
            entry.closing = false;
            self.kept -= gone.and_then(|gone| gone.parse).map_or(0, |parse| parse.len());
            self.tidy(&name);
        }
    }

    fn next(&mut self) -> Option<Pending> {
        match self.pending.front() {
            None | Some(Pending::End) => None,
            Some(_) => self.pending.pop_front(),
        }
    }

    fn tidy(&mut self, name: &[u8]) {
        if self.named.get(name).is_some_and(|entry| entry.current.is_none() && entry.staged.is_none()) {
            self.named.remove(name);
        }
    }

    /// A unit was answered to its end. What it did not confirm did not happen: `undone` hears of each.
    pub(super) fn ended(&mut self, mut undone: impl FnMut(Undone)) {
        while let Some(pending) = self.pending.pop_front() {
            match pending {
                Pending::End => return,
                Pending::Unnamed => {
                    self.unnamed = None;
                    undone(Undone::Unnamed);
                }
                Pending::Own { name } => undone(Undone::Name(name)),
                Pending::Close(name) => {
                    if let Some(entry) = name.as_deref().and_then(|name| self.named.get_mut(name)) {
                        entry.closing = false;
                    }
                }
                Pending::Parse { name, id } => {
                    self.drop_staged(&name, id);
                    undone(Undone::Name(name));
                }
            }
        }
    }

    fn drop_staged(&mut self, name: &[u8], id: u64) {
        if let Some(entry) = self.named.get_mut(name)
            && entry.staged.as_ref().is_some_and(|staged| staged.id == id)
        {
            let gone = entry.staged.take();
            self.kept -= gone.and_then(|gone| gone.parse).map_or(0, |parse| parse.len());
            self.tidy(name);
        }
    }

    /// The server connection is gone, or pgweir refused the unit: nothing that was read or sent and not confirmed happened.
    pub(super) fn abandon(&mut self) {
        self.pending.clear();
        self.unnamed = None;
        self.named.retain(|_, entry| {
            entry.staged = None;
            entry.closing = false;
            entry.current.is_some()
        });
        self.kept = self
            .named
            .values()
            .filter_map(|entry| entry.current.as_ref()?.parse.as_deref())
            .map(<[u8]>::len)
            .sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_kept_is_counted() {
        let message = [b'P'; 1000];
        let mut statements = Statements::default();
        for round in 0..200 {
            assert!(statements.parse(b"a", Facts::EMPTY, Some(&message)), "round {round}");
            // The first succeeds; the name of the others is taken.
            statements.sent_parse(b"a");
            statements.sent_end();
            if round == 0 {
                statements.parsed();
            }
            statements.ended(|_| {});
        }
        assert_eq!(statements.kept, 1000);
        for _ in 0..2 {
            // Twice in one unit, before any answer.
            assert!(statements.parse(b"b", Facts::EMPTY, Some(&message)));
        }
        assert_eq!(statements.kept, 2000);
    }
}
