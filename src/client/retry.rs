//! What it takes to run reads again that a replica refused or lost: a copy of what was sent to it, what its errors mean,
//! and how often that may be done. No sockets here; `rerun` acts.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::failover::Doubt;
use super::options::Retry;
use super::prepared::Statements;
use super::unit::{Kind, Piece};
use crate::clock::Instant;
use crate::ids::Node;
use crate::metrics::RerunCause;
use crate::route::{Class, Target};
use crate::sql::lone_execute;
use crate::wire::backend::Fields;
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::frontend::{self, Named};

/// Most that a unit is run again.
pub(super) const MOST_TRIES: u8 = 2;

/// A buffer larger than this is not kept when there is nothing in it.
const KEEP_CAPACITY: usize = 4 * 1024;

/// How many seconds' worth of [`Retry::floor`] may be spent at once: a server that dies fails all its reads together.
const BURST: f64 = 100.0;

/// No server.
pub(super) const NOWHERE: Node = Node(u16::MAX);

/// Whether an error says that a prepared statement cannot run as it was prepared ("cached plan must not change result
/// type", in any language; `RevalidateCachedQuery` in backend/utils/cache/plancache.c).
pub(super) fn is_outlived(fields: &Fields<'_>) -> bool {
    fields.code == b"0A000" && fields.routine == b"RevalidateCachedQuery"
}

/// Whether units tell the columns of all that they run.
pub(super) fn tells_columns(mut units: &[u8]) -> bool {
    let (mut binds, mut tells) = (0, 0);
    while let Some(head) = frame::header(units, Side::Frontend).ok().flatten() {
        binds += usize::from(head.tag == b'B');
        tells += usize::from(head.tag == b'D');
        units = units.get(head.size..).unwrap_or_default();
    }
    tells >= binds
}

/// Where units run again, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rerun {
    pub(super) cause: RerunCause,
    pub(super) target: Target,
    /// Not on this server.
    pub(super) avoid: Node,
    /// How often they will have run in vain.
    pub(super) tries: u8,
    /// Where it goes is decided anew.
    pub(super) anew: bool,
}

/// What a unit does that was sent to the primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AtPrimary {
    Reads,
    Writes,
}

/// A unit that was sent to a server.
#[derive(Debug)]
struct Unit {
    size: usize,
    tries: u8,
}

/// The net under one client's reads.
///
/// Units that may run again are kept as the client sent them until they are answered. Of the first of them the client is
/// shown nothing until it is certain that it need not run again: it is *released* then.
#[derive(Debug, Default)]
pub(super) struct Net {
    bytes: Vec<u8>,
    /// How many of `bytes` belong to units that were answered.
    done: usize,
    units: VecDeque<Unit>,
    /// The client was shown something of the first unit.
    released: bool,
    /// A result of the first unit is held: it goes with whatever else has come.
    pub(super) has_result: bool,
    /// Answers to a Parse or a Close of the first unit that count only once it is released.
    pub(super) unconfirmed: usize,
    /// The first unit runs again, and all behind it: what the replica still says is not for the client.
    pub(super) failed: Option<Rerun>,
    /// The one unit that is kept went to the primary.
    pub(super) at_primary: Option<AtPrimary>,
    /// What runs again was refused by what should have been the primary.
    pub(super) doubt: Option<Doubt>,
    /// A primary over whose connection something of the session was lost.
    pub(super) lost: Option<Node>,
    /// So many units at the front of the client's window are to run again, and how.
    again: Option<(Rerun, usize)>,
}

impl Net {
    /// Whether that unit may run again.
    pub(super) fn fits(piece: &Piece) -> bool {
        Self::is_whole(piece) && matches!(piece.facts.class, Class::Read | Class::Empty)
    }

    /// Whether the copy of a unit would be all of it, and its answer all that comes of it.
    pub(super) fn is_whole(piece: &Piece) -> bool {
        piece.kind == Kind::Unit
            && piece.ends
            && piece.rest == 0
            && !piece.flush
            && !piece.facts.copy
            && !piece.facts.transaction
    }

    /// Whether that unit may be sent behind those that are kept, if any are: all behind a unit run again with it.
    pub(super) fn has_room(&self, piece: &Piece, most: usize) -> bool {
        self.units.is_empty() || Self::fits(piece) && self.bytes.len() - self.done + piece.size <= most
    }

    /// Keeps a unit that goes to a replica.
    pub(super) fn keep(&mut self, unit: &[u8], tries: u8) {
        if self.done > 0 && self.done >= self.bytes.len() / 2 {
            self.bytes.drain(..self.done);
            self.done = 0;
        }
        self.bytes.extend_from_slice(unit);
        self.units.push_back(Unit { size: unit.len(), tries });
    }

    /// Whether anything is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Whether the unit that is being answered may still run again.
    pub(super) fn holds(&self) -> bool {
        !self.released && !self.units.is_empty()
    }

    /// The first unit is the client's to see from here on, if there is one: what is kept later is not meant.
    pub(super) fn release(&mut self) {
        self.released = !self.units.is_empty();
        self.has_result = false;
    }

    /// The first unit was answered to its end.
    pub(super) fn answered(&mut self) {
        let Some(unit) = self.units.pop_front() else { return };
        self.done += unit.size;
        self.released = false;
        self.has_result = false;
        if self.units.is_empty() {
            self.clear();
        }
    }

    /// Nothing that was sent runs again.
    pub(super) fn clear(&mut self) {
        self.units.clear();
        self.bytes.clear();
        self.done = 0;
        self.released = false;
        self.has_result = false;
        self.unconfirmed = 0;
        self.at_primary = None;
        if self.bytes.capacity() > KEEP_CAPACITY {
            self.bytes = Vec::new();
        }
    }

    /// All that is kept.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.done..).unwrap_or_default()
    }

    /// The first unit.
    pub(super) fn first(&self) -> &[u8] {
        let size = self.units.front().map_or(0, |unit| unit.size);
        self.bytes().get(..size).unwrap_or_default()
    }

    /// How often what is kept has run in vain before.
    pub(super) fn tries(&self) -> u8 {
        self.units.iter().map(|unit| unit.tries).max().unwrap_or(0)
    }

    /// What is kept is in the client's window again.
    pub(super) fn start_over(&mut self, rerun: Rerun) {
        self.again = Some((rerun, self.units.len()));
        self.failed = None;
        self.clear();
    }

    /// How the next unit runs, if it runs again.
    pub(super) fn again(&self) -> Option<Rerun> {
        self.again.map(|(rerun, _)| rerun)
    }

    /// The next unit has its server, or will have none.
    pub(super) fn placed(&mut self) -> Option<Rerun> {
        let (rerun, left) = self.again.as_mut()?;
        let rerun = *rerun;
        *left -= 1;
        if *left == 0 {
            self.again = None;
        }
        Some(rerun)
    }
}

/// Why an error of a replica, outside a transaction, is not the last word; none: it is.
pub(super) fn cause(fields: &Fields<'_>) -> Option<RerunCause> {
    let says = |word: &[u8]| memchr::memmem::find(fields.message, word).is_some();
    // SERIALIZABLE, as `default_transaction_isolation` may have it, is not there on a replica.
    let recovery = || says(b"recovery") || says(b"hot standby");
    match fields.code {
        b"25006" => Some(RerunCause::Refused),
        b"0A000" | b"55000" | b"XX000" if recovery() => Some(RerunCause::Refused),
        // Most likely the same, in another language than English: the primary knows.
        b"0A000" | b"55000" => Some(RerunCause::Behind),
        // Tables, functions, columns, schemas, types that are missing, and a right that may have been granted since.
        b"42P01" | b"42883" | b"42703" | b"3F000" | b"42704" | b"42501" => Some(RerunCause::Behind),
        // There is nothing else on a replica that a single read could be in conflict with.
        b"40001" | b"40P01" => Some(RerunCause::Cancelled),
        _ => None,
    }
}

/// The statement that an error is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Culprit<'a> {
    pub(super) text: &'a [u8],
    /// The name that it was prepared under; none in a Query.
    pub(super) name: Option<&'a [u8]>,
}

/// Of the messages of a unit, `left` are not answered, and the first of these was refused.
pub(super) fn culprit<'a>(unit: &'a [u8], left: usize, statements: &'a Statements) -> Option<Culprit<'a>> {
    let mut messages = Vec::new();
    let mut rest = unit;
    while let Some(head) = frame::header(rest, Side::Frontend).ok().flatten() {
        messages.push((head.tag, rest.get(HEADER..head.size)?));
        rest = rest.get(head.size..)?;
    }
    let at = messages.len().checked_sub(left)?;
    let (tag, body) = *messages.get(at)?;
    let before = messages.get(..at)?;
    let portal = |portal: &[u8]| {
        before.iter().rev().filter(|(tag, _)| *tag == b'B').find_map(|(_, body)| {
            let (opened, statement) = frontend::bind(body)?;
            (opened == portal).then_some(statement)
        })
    };
    let name = match tag {
        b'Q' => {
            let text = frontend::query(body)?;
            let Some(one) = lone_execute(text).and_then(|one| statements.known_name(&one.name)) else {
                return Some(Culprit { text, name: None });
            };
            one
        }
        b'P' => frontend::parse_name(body)?,
        b'B' => frontend::bind(body)?.1,
        b'D' => match frontend::named(body)? {
            Named::Statement(name) => name,
            Named::Portal(name) => portal(name)?,
        },
        b'E' => portal(frontend::cstr(body)?.0)?,
        _ => return None,
    };
    let own = messages.get(..=at)?.iter().rev().filter(|(tag, _)| *tag == b'P');
    let own = own.filter_map(|(_, body)| frontend::parse(body)).find(|(own, _)| *own == name);
    let text = match own {
        Some((_, text)) => text,
        None => frontend::parse(statements.known(name)?.parse.as_deref()?.get(HEADER..)?)?.1,
    };
    Some(Culprit { text, name: Some(name) })
}

/// How often reads may run again because a replica cancelled or lost them: a share of all reads, and some in any case. A
/// replica in constant conflict must not double the load of the others.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    floor: f64,
    purse: Mutex<Option<Purse>>,
}

#[derive(Clone, Copy, Debug)]
struct Purse {
    tokens: f64,
    reads: u64,
    at: Instant,
}

impl Budget {
    /// A full one.
    #[must_use]
    pub fn new(options: &Retry) -> Self {
        Self {
            share: f64::from(options.percent) / 100.0,
            floor: f64::from(options.floor),
            purse: Mutex::new(None),
        }
    }

    /// Whether one more read may run again, when `reads` have been sent to replicas in all. What has come in since the last
    /// time is worked out only now: reads themselves do not know of it.
    pub fn take(&self, reads: u64, now: Instant) -> bool {
        let most = (self.floor * BURST).max(self.share * 1_000.0);
        let mut purse = self.purse.lock().unwrap_or_else(PoisonError::into_inner);
        let Purse { mut tokens, reads: before, at } = purse.unwrap_or(Purse { tokens: most, reads, at: now });
        tokens += reads.saturating_sub(before) as f64 * self.share;
        tokens += now.saturating_duration_since(at).as_secs_f64() * self.floor;
        tokens = tokens.min(most);
        let enough = tokens >= 1.0;
        if enough {
            tokens -= 1.0;
        }
        *purse = Some(Purse { tokens, reads, at: now });
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{self, Duration};
    use crate::route::Facts;
    use crate::wire::backend;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
    }

    #[test]
    fn units_are_kept_in_order_and_within_the_bound() {
        let piece = |size| Piece {
            kind: Kind::Unit,
            size,
            rest: 0,
            facts: Facts { class: Class::Read, ..Facts::EMPTY },
            ends: true,
            flush: false,
            executes: true,
            residue: crate::client::unit::Residue::None,
            waits: false,
            flushed: false,
            called: false,
        };
        let mut net = Net::default();
        assert!(!net.holds() && net.has_room(&piece(100), 10), "the first may be of any size");
        net.keep(b"one", 0);
        net.keep(b"second", 1);
        assert!(net.holds() && net.has_room(&piece(1), 10) && !net.has_room(&piece(2), 10));
        assert!(!net.has_room(&Piece { ends: false, ..piece(1) }, 10));
        assert_eq!((net.first(), net.bytes(), net.tries()), (&b"one"[..], &b"onesecond"[..], 1));
        net.release();
        assert!(!net.holds());
        net.answered();
        assert!(net.holds(), "the next one is not released");
        net.keep(b"third", 0);
        assert_eq!((net.first(), net.bytes()), (&b"second"[..], &b"secondthird"[..]));
        let (cause, target, avoid) = (RerunCause::Lost, Target::Replica, Node(1));
        net.start_over(Rerun { cause, target, avoid, tries: 2, anew: false });
        assert!(net.is_empty() && net.bytes().is_empty());
        assert_eq!([(); 3].map(|()| net.placed().map(|rerun| rerun.tries)), [Some(2), Some(2), None]);
        net.keep(&[b'x'; 10 * KEEP_CAPACITY], 0);
        net.answered();
        assert!(net.bytes.capacity() <= KEEP_CAPACITY);
    }

    #[test]
    fn the_statement_to_blame_is_found() {
        let unit = [
            message(b'P', b"a\0SELECT f()\0\0\0"),
            message(b'P', b"\0SELECT 2\0\0\0"),
            message(b'B', b"first\0\0\0\0\0\0\0\0"),
            message(b'B', b"second\0a\0\0\0\0\0\0\0"),
            message(b'D', b"Sa\0"),
            message(b'E', b"first\0\0\0\0\0"),
            message(b'E', b"second\0\0\0\0\0"),
            message(b'S', b""),
        ]
        .concat();
        let statements = Statements::default();
        let text = |left| culprit(&unit, left, &statements).map(|culprit| culprit.text);
        let (f, two) = (Some(&b"SELECT f()"[..]), Some(&b"SELECT 2"[..]));
        let expected = [None, None, f, two, f, f, two, two, f, None];
        for (left, expected) in expected.into_iter().enumerate() {
            assert_eq!(text(left), expected, "{left} left");
        }
        let query = message(b'Q', b"SELECT f()\0");
        assert_eq!(culprit(&query, 1, &statements), Some(Culprit { text: b"SELECT f()", name: None }));
        let elsewhere = [message(b'B', b"\0unknown\0\0\0\0\0\0\0"), message(b'S', b"")].concat();
        assert_eq!(culprit(&elsewhere, 2, &statements), None);
    }

    #[test]
    fn errors_and_what_they_mean() {
        let cause = |fields: &[u8]| cause(&backend::fields(fields));
        assert_eq!(cause(b"C25006\0Mx\0"), Some(RerunCause::Refused));
        assert_eq!(cause(b"C55000\0Mrecovery is in progress\0"), Some(RerunCause::Refused));
        let serializable = b"C0A000\0Mcannot use serializable mode in a hot standby\0";
        assert_eq!(cause(serializable), Some(RerunCause::Refused));
        for code in ["55000", "0A000"] {
            assert_eq!(cause(format!("C{code}\0Mx\0").as_bytes()), Some(RerunCause::Behind), "{code}");
        }
        for code in ["XX000", "57014", "57P01", "23505", "22012", "42601"] {
            assert_eq!(cause(format!("C{code}\0Mx\0").as_bytes()), None, "{code}");
        }
        assert_eq!(cause(b"C42P01\0Mx\0"), Some(RerunCause::Behind));
        assert_eq!(cause(b"C40001\0Mx\0"), Some(RerunCause::Cancelled));
    }

    #[test]
    fn a_budget_is_a_share_and_a_floor() {
        let start = clock::now();
        let spend = |budget: &Budget, reads, now| (0..10_000).take_while(|_| budget.take(reads, now)).count();
        let budget = Budget::new(&Retry { percent: 2, floor: 1, buffer: 0 });
        assert_eq!(spend(&budget, 0, start), 100);
        assert_eq!(spend(&budget, 1_000, start), 20);
        assert_eq!(spend(&budget, 1_000, start + Duration::from_secs(5)), 5);
        assert_eq!(spend(&budget, 1_000, start + Duration::from_secs(10_000)), 100, "no more is saved up");
        let none = Budget::new(&Retry { percent: 0, floor: 0, buffer: 0 });
        assert_eq!(spend(&none, 1_000_000, start + Duration::from_secs(5)), 0);
    }
}
