//! Increments of counters: which units are such, and what they add.
//!
//! `crate::counter` merges and carries them out. A unit that is on its way there stays in the client's window, as one on a shared connection
//! does (`share`), until its answer is there; if it is to go by itself, it is placed once more.

use std::sync::Arc;

use super::plan::Place;
use super::retry::Net;
use super::session::{Identity, Session};
use super::shared::Reach;
use super::unit::{Piece, Residue};
use crate::counter::{self, Form, Given, Rule, Taken, Value};
use crate::pool::PoolMode;
use crate::route::{Class, Reason, Route, Target};
use crate::sql::{Increment, Operand, increment};
use crate::wire::answer;
use crate::wire::frame::{self, HEADER, Side};
use crate::wire::frontend::{self, Named};

/// Longest unit that is looked at.
const MOST_UNIT: usize = 4 * 1024;

/// A unit that runs one statement: its text, the types that its parameters are said to have, and their values.
pub(super) struct Run<'a> {
    pub(super) text: &'a [u8],
    pub(super) types: Vec<u32>,
    values: Vec<frontend::Bound<'a>>,
    /// The statement is described, of that name.
    described: Option<&'a [u8]>,
    pub(super) form: Vec<u8>,
}

impl Run<'_> {
    /// A number that is in the statement, or bound to a parameter of it.
    pub(super) fn number_of(&self, operand: &Operand) -> Option<i64> {
        match value(operand, self)? {
            Value::Number(number) => Some(number),
            Value::Text(text) | Value::Loose(text) => text.parse().ok(),
            Value::Binary(bytes) => Some(i32::from_be_bytes(bytes.as_ref().try_into().ok()?).into()),
        }
    }

    /// A text that is in the statement, or bound to a parameter of it.
    pub(super) fn text_of(&self, operand: &Operand) -> Option<Box<str>> {
        match value(operand, self)? {
            Value::Text(text) | Value::Loose(text) => Some(text),
            Value::Binary(bytes) => Some(str::from_utf8(&bytes).ok()?.into()),
            Value::Number(_) => None,
        }
    }
}

impl Session {
    /// What becomes of a piece in a database that has counters, if they are why.
    pub(super) fn place_counting(&mut self, piece: &Piece, route: Route) -> Option<Place> {
        if let Some(place) = self.count(piece, route) {
            return Some(place);
        }
        if !self.identity.database.counters.keeps() || self.is_increment(piece) {
            return None;
        }
        self.place_behind_commit(piece, route.target == Target::Primary)
    }

    /// Whether the piece only adds to a counter: then it is all the same what comes first.
    fn is_increment(&self, piece: &Piece) -> bool {
        let unit = self.window.as_ref().and_then(|window| window.bytes().get(..piece.size));
        let looks = piece.facts.class == Class::Write && piece.size <= MOST_UNIT;
        let run = unit.filter(|_| looks).and_then(|unit| self.run_of(unit, false));
        run.and_then(|run| increment(run.text)).is_some_and(|increment| {
            self.identity.database.counters.rules().iter().any(|rule| rule.is_about(&increment))
        })
    }

    /// Gives a piece to those who merge increments, if it is one of a table that they have a rule for.
    #[cold]
    fn count(&mut self, piece: &Piece, route: Route) -> Option<Place> {
        let facts = &piece.facts;
        let fits = facts.class == Class::Write
            && facts.reason == Reason::Write
            && route.target == Target::Primary
            && route.reason != Reason::Rejected
            && route.limit.is_none()
            && self.identity.database.pool.mode == PoolMode::Transaction
            && Net::is_whole(piece)
            && piece.size <= MOST_UNIT
            && piece.residue == Residue::None
            && !(facts.pins || facts.unseen || facts.resets || facts.names || facts.defines)
            && !(self.sharing.alone || piece.waits || self.own.explain || self.pinned)
            && self.identity.text_safe
            && self.settings.is_none()
            && self.active.is_none()
            && self.held.iter().all(Option::is_none)
            && self.begun.is_none()
            && self.net.again().is_none()
            && self.net.doubt.is_none()
            && self.statements.is_quiet();
        if !fits {
            return None;
        }
        let cluster = self.identity.database.cluster.clone();
        let node = self.pick(route);
        let somewhere = node.or_else(|| cluster.nodes().next())?;
        match node {
            Some(node) => self.pool(node).map(drop)?,
            // What can be kept needs no primary for now.
            None if !self.identity.database.counters.keeps() || cluster.view().primary().is_some() => {
                return None;
            }
            None => {}
        }
        let unit = self.window.as_ref()?.bytes().get(..piece.size)?;
        let run = self.run_of(unit, false)?;
        let increment = increment(run.text)?;
        let counters = self.identity.database.counters.clone();
        let rule = Rule::for_increment(counters.rules(), &increment)?;
        let given = given(counters.rules().get(rule)?, &increment, &run)?;
        let form = self.form_of(&run, &increment)?;
        let group = self.counter_group(rule)?;
        let place = match node {
            Some(node) => Some(counter::Place {
                cluster,
                node,
                pool: self.pools.get(node.index())?.clone()?,
                wants: self.identity.wants.clone(),
                version: self.identity.catalog.version(),
                prepared: self.shared.prepared.clone(),
            }),
            None => None,
        };
        let (version, seat) = (self.identity.catalog.version(), self.seat());
        let Identity { database, name, user, .. } = &self.identity;
        let means = || Reach::to(&self.shared, &database.name, name.clone(), user.clone());
        let taken = match place {
            Some(place) => group.take(place, given, form, &seat, means)?,
            None => group.take_without(version, &given, &form, &seat)?,
        };
        match taken {
            Taken::Waits => self.rides(piece, route, somewhere, true),
            Taken::Kept(account, number) => {
                self.rides_kept(piece, route, somewhere);
                if counters.rules().get(rule).is_some_and(|rule| !rule.stale) {
                    self.keeps(account, number);
                }
            }
        }
        Some(Place::Done)
    }

    fn counter_group(&self, rule: usize) -> Option<Arc<counter::Group>> {
        let identity = &self.identity;
        identity.database.counters.group(&identity.name, &identity.user, &identity.wants.parameters, rule)
    }

    /// The statement that a unit runs, if it runs one and asks for nothing else but what that is; `makes`: it may give it a name.
    pub(super) fn run_of<'a>(&'a self, unit: &'a [u8], makes: bool) -> Option<Run<'a>> {
        let (mut parsed, mut run, mut form) = (None, None, Vec::new());
        let (mut executed, mut described, mut bound) = (0, None, (&b""[..], &b""[..]));
        let mut rest = unit;
        while let Ok(Some(head)) = frame::header(rest, Side::Frontend) {
            let (message, after) = rest.split_at_checked(head.size)?;
            let body = message.get(HEADER..)?;
            let mut tag = head.tag;
            match head.tag {
                b'Q' => {
                    executed += 1;
                    run = Some((frontend::query(body)?, Vec::new(), Vec::new()));
                }
                b'P' => {
                    let (name, text) = frontend::parse(body)?;
                    let free = parsed.is_none() && run.is_none() && described.is_none();
                    if !free || !(makes || name.is_empty()) {
                        return None;
                    }
                    parsed = Some((name, text, frontend::parameter_types(body).collect()));
                }
                b'B' => {
                    let (portal, name) = frontend::bind(body)?;
                    if run.is_some() || described.is_some_and(|described| described != name) {
                        return None;
                    }
                    let (text, types) = match parsed.take().filter(|(made, ..)| *made == name) {
                        Some((_, text, types)) => (text, types),
                        None => {
                            let body = self.statements.find(name)?.parse.as_ref()?.get(HEADER..)?;
                            (frontend::parse(body)?.1, frontend::parameter_types(body).collect())
                        }
                    };
                    bound = (portal, name);
                    run = Some((text, types, frontend::bind_parameters(body)?));
                }
                b'D' => match frontend::named(body)? {
                    Named::Portal(portal) if run.is_some() && portal == bound.0 => {}
                    Named::Statement(name) if run.is_none() || name == bound.1 => {
                        described = Some(name);
                        tag = DESCRIBED;
                    }
                    _ => return None,
                },
                b'E' if run.is_some() && frontend::execute(body)?.0 == bound.0 => executed += 1,
                b'S' => {}
                _ => return None,
            }
            form.push(tag);
            rest = after;
        }
        let (text, types, values) = run.filter(|_| executed == 1)?;
        Some(Run { text, types, values, described, form })
    }

    /// How a unit is answered, if all of that is known: what it asks of its statement, too. `increment`: what that does.
    fn form_of(&self, run: &Run<'_>, increment: &Increment) -> Option<Form> {
        let operands = increment.keys.iter().map(|(_, operand)| operand);
        let mut used = 0_u64;
        for operand in operands.chain(increment.adds.iter().map(|add| &add.amount)) {
            if let Operand::Param(number) = operand {
                used |= 1_u64.checked_shl(u32::from(*number).checked_sub(1)?)?;
            }
        }
        let count = run.types.len().max(used.checked_ilog2().map_or(0, |last| last as usize + 1));
        // What nothing is known of has no type, and a Bind gives each a value: the server says what is wrong.
        let known = |nth: usize| used >> nth & 1 == 1 || run.types.get(nth).is_some_and(|of| *of != 0);
        let simple = run.form.first() == Some(&b'Q');
        if count > 63 || !(0..count).all(known) || !simple && run.values.len() != count {
            return None;
        }
        let Some(name) = run.described else { return Some(Form(run.form.as_slice().into())) };
        let given = (run.types.len() == count && !run.types.contains(&0)).then_some(&*run.types);
        let told = || {
            let told = self.statements.find(name).filter(|_| !run.form.contains(&b'P'))?.told.as_ref()?;
            told.parameters.as_deref().filter(|types| types.len() == count)
        };
        let types = given.or_else(told)?;
        let mut form = Vec::with_capacity(run.form.len() + 8 + 4 * count);
        for tag in &run.form {
            if *tag == DESCRIBED {
                answer::parameter_description(types, &mut form);
                form.push(b'D');
            } else {
                form.push(*tag);
            }
        }
        Some(Form(form.into()))
    }
}

/// Stands in a form for a Describe of the statement.
pub(super) const DESCRIBED: u8 = b't';

fn given(rule: &Rule, increment: &Increment, run: &Run<'_>) -> Option<Given> {
    let mut key = Vec::with_capacity(rule.key.len());
    for name in &rule.key {
        let (_, operand) = increment.keys.iter().find(|(known, _)| known == name)?;
        key.push(value(operand, run)?);
    }
    let mut adds = Vec::with_capacity(increment.adds.len());
    for add in &increment.adds {
        let column = rule.columns.iter().position(|column| *column == add.column)?;
        let amount = value(&add.amount, run)?;
        adds.push(counter::Add { column, zero: add.zero, minus: add.minus, amount });
    }
    let touches = increment.touches.iter().map(|name| rule.touch.iter().position(|known| known == name));
    let touches = touches.collect::<Option<_>>()?;
    let schema = increment.schema.clone().filter(|_| rule.schema.is_none());
    let bare = increment.schema.is_none() && rule.schema.is_some();
    Some(Given { upsert: increment.upsert, schema, bare, key, adds, touches })
}

/// A constant, or what is bound to a parameter. None: null, or of a type that says something else.
fn value(operand: &Operand, run: &Run<'_>) -> Option<Value> {
    /// `int8`, `int2`, `int4`; `text`, `varchar` (their numbers in `pg_type`).
    const INTEGERS: [(u32, usize); 3] = [(20, 8), (21, 2), (23, 4)];
    const TEXTS: [u32; 2] = [25, 1043];
    let number = match operand {
        Operand::Number(number) => return Some(Value::Number(*number)),
        Operand::Text(text) => return Some(Value::Loose(text.clone())),
        Operand::Param(number) => usize::from(*number).checked_sub(1)?,
    };
    let of = run.types.get(number).copied().unwrap_or(0);
    let (binary, bytes) = *run.values.get(number)?;
    let bytes = bytes?;
    let integer = INTEGERS.into_iter().find(|(known, _)| *known == of);
    if of != 0 && integer.is_none() && !TEXTS.contains(&of) {
        return None;
    }
    match (integer, binary) {
        (Some((_, size)), true) => {
            let sign = bytes.first().filter(|_| bytes.len() == size)? >> 7;
            let mut all = [if sign == 1 { 0xff } else { 0 }; 8];
            all.get_mut(8 - size..)?.copy_from_slice(bytes);
            Some(Value::Number(i64::from_be_bytes(all)))
        }
        (Some(_), false) => Some(Value::Number(str::from_utf8(bytes).ok()?.parse().ok()?)),
        (None, true) if of == 0 => Some(Value::Binary(bytes.into())),
        (None, _) => {
            let text = str::from_utf8(bytes).ok()?;
            Some(if of == 0 { Value::Loose(text.into()) } else { Value::Text(text.into()) })
        }
    }
}
