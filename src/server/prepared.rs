//! Prepared statements by what they are, not by what a client calls them: two clients that prepare the same share one on
//! each server connection, under a name of pgweir's own.
//!
//! Invariants: two statements of one [`Registry`] differ in text, parameter types, search path or epoch, and have different
//! names; a statement whose last holder is gone is forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use ahash::RandomState;
use bytes::BytesMut;
use memchr::memchr2_iter;

use super::described::Description;
use crate::wire::frame::HEADER;
use crate::wire::frontend::cstr;
use crate::wire::write;

/// The registry looks for forgotten statements when it has grown to twice what it held after the last time, and this.
const LEAST_SWEEP: usize = 1024;

/// The version of what has none any more.
const OVER: u64 = u64::MAX;

/// A statement that servers are asked to prepare.
#[derive(Debug)]
pub struct Prepared {
    id: u64,
    /// The whole Parse message, under pgweir's own name.
    message: Box<[u8]>,
    /// How long that name is.
    name: usize,
    /// See [`Self::is_untyped`].
    untyped: bool,
    /// Where its names were looked up.
    search_path: Option<Arc<str>>,
    /// Which definitions it was prepared under, as its first holder knew them: who prepares it under newer ones must see what those
    /// say, and who has it from before the error about them, as without pgweir.
    epoch: u64,
    /// Grows when what it means has changed: connections that have it have it no longer as it would be now.
    version: AtomicU64,
    /// What a server has first said of it: most say the same, and keep it once.
    described: OnceLock<Arc<Description>>,
}

impl Prepared {
    /// Its number in its registry.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name on servers.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.message.get(HEADER..HEADER + self.name).unwrap_or_default()
    }

    /// The Parse message that makes it.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Writes the Parse message that makes it, with these types of all its parameters in place of those that it leaves to the server,
    /// where it can be prepared with them.
    pub fn write(&self, out: &mut BytesMut, parameters: Option<&[u32]>) {
        match (parameters, cstr(self.tail()).filter(|_| !self.untyped)) {
            (Some(parameters), Some((text, _))) => write::parse_typed(out, self.name(), text, parameters),
            _ => out.extend_from_slice(&self.message),
        }
    }

    /// Whether it gets the types of its parameters anew wherever it is prepared: see [`names_unknown`].
    #[must_use]
    pub fn is_untyped(&self) -> bool {
        self.untyped
    }

    /// What a server has said of it, as one of those who keep it.
    #[must_use]
    pub fn described(&self, description: Description) -> Arc<Description> {
        match self.described.get() {
            Some(first) if **first == description => first.clone(),
            Some(_) => Arc::new(description),
            None => {
                let first = Arc::new(description);
                let _ = self.described.set(first.clone());
                first
            }
        }
    }

    /// A server has refused to run it as it was prepared: tables have other columns now. It is prepared anew on each connection.
    pub fn outlived(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// What follows the name in that message: text and parameter types.
    fn tail(&self) -> &[u8] {
        self.message.get(HEADER + self.name + 1..).unwrap_or_default()
    }
}

/// Whether a text may cast a parameter to the pseudo-type `unknown`. PostgreSQL tells such a parameter's type (`text`), and does not
/// take it: what it casts must have no type.
#[must_use]
pub fn names_unknown(text: &[u8]) -> bool {
    const UNKNOWN: &[u8] = b"unknown";
    memchr2_iter(b'u', b'U', text)
        .filter_map(|at| text.get(at..at + UNKNOWN.len()))
        .any(|word| word.eq_ignore_ascii_case(UNKNOWN))
}

/// Every statement that somebody holds.
#[derive(Debug)]
pub struct Registry {
    /// What all names begin with. By chance, so that no client has a statement of that name, or can guess another's.
    prefix: String,
    hasher: RandomState,
    own_epochs: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_hash: HashMap<u64, Vec<Weak<Prepared>>, RandomState>,
    last: u64,
    sweep_at: usize,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            prefix: format!("pgweir_{:08x}_", rand::random::<u32>()),
            hasher: RandomState::new(),
            own_epochs: AtomicU64::new(u64::MAX),
            inner: Mutex::default(),
        }
    }
}

impl Registry {
    /// A number of definitions that nobody else sees. Numbers of definitions that all see grow from zero, and never get there.
    #[must_use]
    pub fn own_epoch(&self) -> u64 {
        self.own_epochs.fetch_sub(1, Ordering::Relaxed)
    }

    /// What the names of all statements begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The statement with that text and those parameter types: `tail` is what follows the name in a Parse message. `epoch` is a
    /// number of the definitions that it is prepared under.
    #[must_use]
    pub fn statement(&self, tail: &[u8], search_path: Option<&Arc<str>>, epoch: u64) -> Arc<Prepared> {
        let hash = self.hasher.hash_one((tail, search_path, epoch));
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &Arc<Prepared>| {
            known.epoch == epoch && known.tail() == tail && known.search_path.as_ref() == search_path
        };
        let known = inner.by_hash.get(&hash);
        if let Some(known) = known.and_then(|list| list.iter().filter_map(Weak::upgrade).find(same)) {
            return known;
        }
        inner.sweep();
        inner.last += 1;
        let new = Arc::new(self.make(inner.last, tail, search_path.cloned(), epoch));
        inner.by_hash.entry(hash).or_default().push(Arc::downgrade(&new));
        new
    }

    fn make(&self, id: u64, tail: &[u8], search_path: Option<Arc<str>>, epoch: u64) -> Prepared {
        let name = format!("{}{id:x}", self.prefix);
        let length = u32::try_from(HEADER - 1 + name.len() + 1 + tail.len()).unwrap_or(u32::MAX);
        let length = length.to_be_bytes();
        let message = [b"P".as_slice(), length.as_slice(), name.as_bytes(), b"\0", tail].concat();
        Prepared {
            id,
            message: message.into(),
            name: name.len(),
            untyped: cstr(tail).is_some_and(|(text, _)| names_unknown(text)),
            search_path,
            epoch,
            version: AtomicU64::new(0),
            described: OnceLock::new(),
        }
    }

    /// How many statements somebody holds.
    #[must_use]
    pub fn len(&self) -> usize {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_hash.values().flatten().filter(|known| known.strong_count() > 0).count()
    }

    /// Whether nobody holds any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    /// Forgets what nobody holds any more, once in a while.
    fn sweep(&mut self) {
        if self.by_hash.len() < self.sweep_at.max(LEAST_SWEEP) {
            return;
        }
        self.by_hash.retain(|_, list| {
            list.retain(|known| known.strong_count() > 0);
            !list.is_empty()
        });
        self.sweep_at = self.by_hash.len() * 2;
    }
}

/// The shared statements that one server connection has.
#[derive(Debug, Default)]
pub struct Shelf {
    by_id: HashMap<u64, Slot, RandomState>,
    now: u64,
}

#[derive(Debug)]
struct Slot {
    prepared: Arc<Prepared>,
    /// When it was used last, by a count of uses.
    used: u64,
    /// Which version of it.
    version: u64,
    /// What the server has said of it.
    described: Option<Arc<Description>>,
}

impl Shelf {
    /// Whether it has that one as it would be prepared now. It is used now.
    pub fn has(&mut self, id: u64) -> bool {
        self.now += 1;
        match self.by_id.get_mut(&id) {
            Some(slot) => {
                slot.used = self.now;
                slot.version == slot.prepared.version()
            }
            None => false,
        }
    }

    /// Whether it has one of that name, as it was prepared at some time.
    #[must_use]
    pub fn has_any(&self, id: u64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The server has confirmed that it has it.
    pub fn insert(&mut self, prepared: Arc<Prepared>) {
        self.now += 1;
        let version = prepared.version();
        self.by_id.insert(prepared.id, Slot { prepared, used: self.now, version, described: None });
    }

    /// What the server has said of it.
    #[must_use]
    pub fn described(&self, id: u64) -> Option<&Arc<Description>> {
        self.by_id.get(&id)?.described.as_ref()
    }

    /// It is prepared anew: what the server has said of it holds no longer.
    pub fn undescribe(&mut self, id: u64) {
        if let Some(slot) = self.by_id.get_mut(&id) {
            slot.described = None;
        }
    }

    /// The server has said this of it.
    pub fn describe(&mut self, id: u64, mut description: Arc<Description>) {
        let Some(slot) = self.by_id.get_mut(&id) else { return };
        let known = slot.described.as_ref().filter(|_| description.parameters.is_none());
        if let Some(parameters) = known.and_then(|known| known.parameters.clone()) {
            let both = Description { parameters: Some(parameters), columns: description.columns };
            description = slot.prepared.described(both);
        }
        slot.described = Some(description);
    }

    /// The server has dropped some, and nobody knows which: each is prepared anew.
    pub fn doubt(&mut self) {
        self.by_id.values_mut().for_each(|slot| slot.version = OVER);
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Prepared>> {
        self.by_id.values().map(|slot| &slot.prepared)
    }

    /// The server has confirmed that it has it no longer.
    pub fn remove(&mut self, id: u64) {
        self.by_id.remove(&id);
    }

    /// What has to go before one more is prepared, if there may be `most`: the one that was not used for longest.
    #[must_use]
    pub fn surplus(&self, most: usize) -> Option<&Arc<Prepared>> {
        if self.by_id.len() < most.max(1) {
            return None;
        }
        self.by_id.values().min_by_key(|slot| slot.used).map(|slot| &slot.prepared)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The server has dropped them all.
    pub fn clear(&mut self) {
        self.by_id.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{self, Side};
    use crate::wire::frontend;

    #[test]
    fn what_is_the_same_is_shared_as_long_as_somebody_holds_it() {
        let registry = Registry::default();
        let one = registry.statement(b"SELECT 1\0\0\0", None, 0);
        let same = registry.statement(b"SELECT 1\0\0\0", None, 0);
        assert!(Arc::ptr_eq(&one, &same));
        let path: Arc<str> = "other".into();
        let others = [
            registry.statement(b"SELECT 1\0\0\x01\0\0\0\x17", None, 0),
            registry.statement(b"SELECT 2\0\0\0", None, 0),
            registry.statement(b"SELECT 1\0\0\0", Some(&path), 0),
            registry.statement(b"SELECT 1\0\0\0", None, 1),
        ];
        assert!(others.iter().all(|other| other.name() != one.name()));
        assert_eq!(registry.len(), 5);
        drop(others);
        assert_eq!(registry.len(), 1);
        let head = frame::header(one.message(), Side::Frontend).unwrap().unwrap();
        assert_eq!(head.size, one.message().len());
        let (name, text) = frontend::parse(&one.message()[HEADER..]).unwrap();
        assert_eq!((name, text), (one.name(), &b"SELECT 1"[..]));
    }

    #[test]
    fn it_is_prepared_with_the_parameters_that_were_told() {
        let registry = Registry::default();
        let one = registry.statement(b"SELECT $1, $2\0\0\x01\0\0\0\0", None, 0);
        let mut out = BytesMut::new();
        one.write(&mut out, None);
        assert_eq!(out, one.message());
        out.clear();
        one.write(&mut out, Some(&[23, 25]));
        let head = frame::header(&out, Side::Frontend).unwrap().unwrap();
        assert_eq!(head.size, out.len());
        assert_eq!(frontend::parse(&out[HEADER..]), Some((one.name(), &b"SELECT $1, $2"[..])));
        assert_eq!(frontend::parameter_types(&out[HEADER..]).collect::<Vec<_>>(), [23, 25]);
    }

    #[test]
    fn what_was_said_is_kept_once_and_as_long_as_it_holds() {
        let registry = Registry::default();
        let one = registry.statement(b"SELECT 1\0\0\0", None, 0);
        let of = |parameters: Option<&[u32]>| {
            one.described(Description { parameters: parameters.map(Into::into), columns: 1 })
        };
        let first = of(Some(&[23]));
        assert!(Arc::ptr_eq(&first, &of(Some(&[23]))) && !Arc::ptr_eq(&first, &of(None)));
        let mut shelf = Shelf::default();
        shelf.describe(one.id(), first.clone());
        assert!(shelf.described(one.id()).is_none(), "it is not there");
        shelf.insert(one.clone());
        shelf.describe(one.id(), first.clone());
        // Of its columns alone: the parameters stay known.
        shelf.describe(one.id(), of(None));
        assert!(Arc::ptr_eq(shelf.described(one.id()).unwrap(), &first));
        shelf.undescribe(one.id());
        assert!(shelf.has(one.id()) && shelf.described(one.id()).is_none());
    }

    #[test]
    fn the_registry_does_not_grow_with_what_is_gone() {
        let registry = Registry::default();
        for number in 0..10 * LEAST_SWEEP {
            drop(registry.statement(format!("SELECT {number}\0\0\0").as_bytes(), None, 0));
        }
        assert!(registry.inner.lock().unwrap().by_hash.len() <= LEAST_SWEEP);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let registry = Registry::default();
        let statements: Vec<_> =
            (0..3).map(|n| registry.statement(format!("SELECT {n}\0\0\0").as_bytes(), None, 0)).collect();
        let mut shelf = Shelf::default();
        for statement in &statements {
            shelf.insert(statement.clone());
        }
        assert!(shelf.has(statements[0].id()) && shelf.surplus(4).is_none());
        assert_eq!(shelf.surplus(3).map(|gone| gone.id()), Some(statements[1].id()));
        statements[0].outlived();
        let id = statements[0].id();
        assert_eq!((shelf.has(id), shelf.has_any(id)), (false, true));
        shelf.insert(statements[0].clone());
        assert!(shelf.has(id));
        shelf.remove(statements[1].id());
        assert_eq!((shelf.len(), shelf.has(statements[1].id())), (2, false));
        assert!(shelf.surplus(3).is_none());
        shelf.doubt();
        assert!(shelf.has_any(id) && !shelf.has(id));
        shelf.insert(statements[0].clone());
        assert!(shelf.has(id));
    }
}
