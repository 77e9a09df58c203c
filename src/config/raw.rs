//! What was typed: every value of the file beside its row of [`keys`], with its place. Unknown keys and values that
//! their row does not allow are complained about here; what values mean together is for `check`.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Server;
use super::complaint::{Log, Wrong};
use super::keys::{self, Kind};
use super::rules::Typed;
use super::value;
use crate::cluster::{Duty, Orders};
use crate::ids::MOST_NODES;
use crate::net::Address;

/// A value that its row allows, and where it stands.
#[derive(Debug)]
pub(super) struct Entry {
    /// Byte in the file.
    pub(super) at: usize,
    /// The key's path as it is shown, names filled in.
    pub(super) shown: String,
    /// `None`: it was complained about.
    pub(super) value: Option<Value>,
}

/// A value, by the kind of its row.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Count(usize),
    Duration(Duration),
    Choice(&'static str),
    Addresses(Vec<Address>),
    Members(Vec<Server>),
    Metrics(Option<SocketAddr>),
    /// Names of functions, or other texts.
    Texts(Vec<String>),
    Ports(Vec<u16>),
}

/// A name that the operator chose: a user or a database.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) name: String,
    pub(super) at: usize,
    /// Its path as it is shown.
    pub(super) shown: String,
}

/// Everything that was typed.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    entries: BTreeMap<(&'static str, Option<String>), Entry>,
    /// In the order of the file.
    pub(super) users: Vec<Name>,
    /// In the order of the file.
    pub(super) databases: Vec<Name>,
    /// In the order of the file.
    pub(super) rules: Vec<Typed>,
    /// The same, of tables whose increments are merged.
    pub(super) counters: Vec<Typed>,
}

impl Sheet {
    /// What was typed for the row at `path`, for the user or database `name` if the row is below one.
    pub(super) fn entry(&self, path: &'static str, name: Option<&str>) -> Option<&Entry> {
        self.entries.get(&(path, name.map(str::to_owned)))
    }

    /// What was typed for settings that a reload does not apply, as a hash: there are secrets among them.
    pub(super) fn fixed(&self) -> BTreeMap<String, u64> {
        let fixed =
            self.entries.iter().filter(|((path, _), _)| keys::find(path).is_some_and(|key| !key.reloadable));
        let hash = |entry: &Entry| {
            let mut hasher = DefaultHasher::new();
            format!("{:?}", entry.value).hash(&mut hasher);
            hasher.finish()
        };
        fixed.map(|(_, entry)| (entry.shown.clone(), hash(entry))).collect()
    }

    fn value(&self, path: &'static str, name: Option<&str>) -> Option<&Value> {
        self.entry(path, name)?.value.as_ref()
    }

    pub(super) fn text(&self, path: &'static str, name: Option<&str>) -> Option<&str> {
        match self.value(path, name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn flag(&self, path: &'static str, name: Option<&str>) -> Option<bool> {
        match self.value(path, name)? {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    pub(super) fn count(&self, path: &'static str, name: Option<&str>) -> Option<usize> {
        match self.value(path, name)? {
            Value::Count(count) => Some(*count),
            _ => None,
        }
    }

    pub(super) fn duration(&self, path: &'static str, name: Option<&str>) -> Option<Duration> {
        match self.value(path, name)? {
            Value::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    pub(super) fn choice(&self, path: &'static str, name: Option<&str>) -> Option<&'static str> {
        match self.value(path, name)? {
            Value::Choice(choice) => Some(choice),
            _ => None,
        }
    }

    pub(super) fn addresses(&self, path: &'static str, name: Option<&str>) -> Option<&[Address]> {
        match self.value(path, name)? {
            Value::Addresses(addresses) => Some(addresses),
            _ => None,
        }
    }

    pub(super) fn servers(&self, path: &'static str, name: Option<&str>) -> Option<&[Server]> {
        match self.value(path, name)? {
            Value::Members(servers) => Some(servers),
            _ => None,
        }
    }

    pub(super) fn metrics(&self, path: &'static str) -> Option<Option<SocketAddr>> {
        match self.value(path, None)? {
            Value::Metrics(metrics) => Some(*metrics),
            _ => None,
        }
    }

    pub(super) fn texts(&self, path: &'static str, name: Option<&str>) -> Option<&[String]> {
        match self.value(path, name)? {
            Value::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    pub(super) fn ports(&self, path: &'static str, name: Option<&str>) -> Option<&[u16]> {
        match self.value(path, name)? {
            Value::Ports(ports) => Some(ports),
            _ => None,
        }
    }
}

/// Reads the text. `None` if it is not TOML: what its keys mean is then anybody's guess, and nothing is said of it.
pub(super) fn read(text: &str, log: &mut Log<'_>) -> Option<Sheet> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut last_line = None;
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        // What follows on the same line is mostly an echo.
        let line = text.get(..at).unwrap_or(text).matches('\n').count();
        if last_line.replace(line) == Some(line) {
            continue;
        }
        log.add(at, "", Wrong::new(format!("is not TOML: {}", error.message().replace('\n', ", "))));
    }
    if !errors.is_empty() {
        return None;
    }
    let mut reader = Reader { log, sheet: Sheet::default() };
    reader.table(table.get_ref(), &Place::default());
    let mut sheet = reader.sheet;
    sheet.users.sort_by_key(|name| name.at);
    sheet.databases.sort_by_key(|name| name.at);
    Some(sheet)
}

/// Where a database's rules are.
const RULES: &str = "databases.NAME.rules";

/// Where its counters are.
const COUNTERS: &str = "databases.NAME.counters";

/// Where a table is.
#[derive(Default)]
struct Place {
    /// Its path with `NAME` for names.
    path: String,
    /// Its path as it is shown.
    shown: String,
    /// The user or database it is below.
    name: Option<String>,
}

struct Reader<'l, 'a> {
    log: &'l mut Log<'a>,
    sheet: Sheet,
}

impl Reader<'_, '_> {
    fn table(&mut self, table: &DeTable<'_>, place: &Place) {
        for (key, value) in table {
            let typed = key.get_ref().as_ref();
            let shown = joined(&place.shown, &quoted(typed));
            let named = matches!(place.path.as_str(), "users" | "databases");
            let path = joined(&place.path, if named { "NAME" } else { typed });
            if path == RULES || path == COUNTERS {
                self.array(value, place, &shown, &path);
            } else if keys::is_table(&path) {
                let DeValue::Table(inner) = value.get_ref() else {
                    let wrong = Wrong::new(format!("is {}, not a table", a_type(value.get_ref())));
                    let name = if matches!(path.as_str(), "users" | "databases") { ".NAME" } else { "" };
                    self.log.add(value.span().start, &shown, wrong.hint(format!("write [{shown}{name}]")));
                    continue;
                };
                let name = if named { Some(typed.to_owned()) } else { place.name.clone() };
                if named {
                    self.name(typed, key.span().start, &path, &shown);
                }
                self.table(inner, &Place { path, shown, name });
            } else if let Some(row) = keys::find(&path) {
                let at = value.span().start;
                let value = match read_value(row.kind, value) {
                    Ok(value) => Some(value),
                    Err(wrongs) => {
                        wrongs.into_iter().for_each(|(at, wrong)| self.log.add(at.start, &shown, wrong));
                        None
                    }
                };
                self.sheet.entries.insert((row.path, place.name.clone()), Entry { at, shown, value });
            } else {
                self.log.add(key.span().start, &shown, unknown(typed, place));
            }
        }
    }

    /// An array of tables, each read as one. Their keys stand in the sheet under a name that no database has.
    fn array(&mut self, value: &Spanned<DeValue<'_>>, place: &Place, shown: &str, path: &str) {
        let database = place.name.clone().unwrap_or_default();
        let DeValue::Array(array) = value.get_ref() else {
            let wrong = Wrong::new(format!("is {}, not an array of tables", a_type(value.get_ref())));
            return self.log.add(value.span().start, shown, wrong.hint(format!("write [[{shown}]]")));
        };
        for (nth, item) in array.iter().enumerate() {
            let (at, shown) = (item.span().start, format!("{shown}[{nth}]"));
            let DeValue::Table(table) = item.get_ref() else {
                let wrong = Wrong::new(format!("is {}, not a table", a_type(item.get_ref())));
                self.log.add(at, &shown, wrong);
                continue;
            };
            let within = format!("{database}\0{path}\0{nth}");
            let (database, within_rule) = (database.clone(), within.clone());
            let typed = Typed { database, within: within_rule, at, shown: shown.clone() };
            if path == RULES {
                self.sheet.rules.push(typed)
            } else {
                self.sheet.counters.push(typed)
            }
            self.table(table, &Place { path: path.to_owned(), shown, name: Some(within) });
        }
    }

    fn name(&mut self, name: &str, at: usize, path: &str, shown: &str) {
        if name.is_empty() {
            self.log.add(at, shown, Wrong::new("is an empty name"));
        }
        let names = if path.starts_with("users") { &mut self.sheet.users } else { &mut self.sheet.databases };
        names.push(Name { name: name.to_owned(), at, shown: shown.to_owned() });
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A key as TOML would have it: in quotes unless it is bare.
fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { format!("{key:?}") }
}

/// What an unknown key may have been meant to be: PgBouncer's name for it, a key of the same table that looks like it,
/// or one that belongs elsewhere.
fn unknown(typed: &str, place: &Place) -> Wrong {
    /// As `database` is to `databases`: surely a slip.
    const NEARLY_THE_SAME: f64 = 0.8;
    const ALIKE: f64 = 0.6;
    let wrong = Wrong::new("unknown key");
    if let Some((_, ours)) = FROM_PGBOUNCER.iter().find(|(theirs, _)| *theirs == typed) {
        return wrong.hint(format!("PgBouncer's `{typed}` is {ours} here"));
    }
    let nearest = keys::inside(&place.path)
        .into_iter()
        .map(|key| (strsim::normalized_damerau_levenshtein(typed, key), key))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let homes = homes(typed, place);
    match nearest {
        Some((likeness, key)) if likeness >= NEARLY_THE_SAME => wrong.hint(format!("did you mean `{key}`?")),
        _ if !homes.is_empty() => wrong.hint(format!("`{typed}` belongs {}", homes.join(", or "))),
        Some((likeness, key)) if likeness >= ALIKE => wrong.hint(format!("did you mean `{key}`?")),
        _ => wrong,
    }
}

/// The tables that a key of this name may stand in. Those below the table at hand, if there are any.
fn homes(typed: &str, place: &Place) -> Vec<String> {
    let mut below = Vec::new();
    let mut anywhere = Vec::new();
    for key in keys::all() {
        match key.path.rsplit_once('.') {
            Some((table, last)) if last == typed => match table.strip_prefix(&place.path) {
                Some(rest) if !place.path.is_empty() => below.push(format!("in [{}{rest}]", place.shown)),
                _ => anywhere.push(format!("in [{table}]")),
            },
            None if key.path == typed => {
                anywhere.push("at the top of the file, before the first [table]".to_owned());
            }
            _ => {}
        }
    }
    if below.is_empty() { anywhere } else { below }
}

/// PgBouncer's settings that have another name here.
const FROM_PGBOUNCER: [(&str, &str); 8] = [
    ("listen_addr", "`listen`"),
    ("listen_port", "`listen`"),
    ("unix_socket_dir", "`listen`"),
    ("default_pool_size", "`pool_size`"),
    ("auth_file", "[users]"),
    ("host", "`servers`"),
    ("port", "`servers`"),
    ("so_reuseport", "`workers`"),
];

/// What is wrong with a value, and where: an array may have several.
type Wrongs = Vec<(Range<usize>, Wrong)>;

fn read_value(kind: Kind, value: &Spanned<DeValue<'_>>) -> Result<Value, Wrongs> {
    let one = |wrong| vec![(value.span(), wrong)];
    let typed = value.get_ref();
    match kind {
        Kind::Text | Kind::Secret => text(typed).map(|text| Value::Text(text.to_owned())).map_err(one),
        Kind::Flag => typed.as_bool().map(Value::Flag).ok_or_else(|| one(is_not(typed, "true or false"))),
        Kind::Count { least, most } => count(typed, least, most).map(Value::Count).map_err(one),
        Kind::Duration { least, most, off } => {
            duration(typed, least, most, off).map(Value::Duration).map_err(one)
        }
        Kind::Choice(words) => choice(typed, words).map(Value::Choice).map_err(one),
        Kind::Level => {
            text(typed).and_then(|t| value::level(t).map(|()| Value::Text(t.to_owned()))).map_err(one)
        }
        Kind::Metrics => text(typed).and_then(value::metrics).map(Value::Metrics).map_err(one),
        Kind::Listen if typed.is_str() => {
            text(typed).and_then(value::listen).map(|address| Value::Addresses(vec![address])).map_err(one)
        }
        Kind::Listen if !typed.is_array() => Err(one(is_not(typed, "an address or an array of addresses"))),
        Kind::Listen => addresses(value, value::listen, MOST_LISTENERS).map(Value::Addresses),
        Kind::Servers => addresses(value, value::server, MOST_NODES).map(Value::Addresses),
        Kind::Members => members(value).map(Value::Members),
        Kind::Texts if typed.is_str() => {
            text(typed).map(|text| Value::Texts(vec![text.to_owned()])).map_err(one)
        }
        Kind::Texts => each(value, |text| Ok(text.to_owned())).map(Value::Texts),
        Kind::Words(words) if typed.is_str() => {
            choice(typed, words).map(|word| Value::Texts(vec![word.to_owned()])).map_err(one)
        }
        Kind::Words(words) => {
            items(value, "an array of strings", |item| choice(item, words).map(str::to_owned))
                .map(Value::Texts)
        }
        Kind::Ports if typed.is_integer() => port(typed).map(|port| Value::Ports(vec![port])).map_err(one),
        Kind::Ports => items(value, "a port or an array of ports", port).map(Value::Ports),
        Kind::Functions => {
            each(value, |text| value::function(text).map(|()| text.to_owned())).map(Value::Texts)
        }
        Kind::Users => each(value, |text| Ok(text.to_owned())).map(Value::Texts),
    }
}

/// More are a slip: each has a socket of its own.
const MOST_LISTENERS: usize = 64;
fn is_not(typed: &DeValue<'_>, expected: &str) -> Wrong {
    Wrong::new(format!("is {}, not {expected}", a_type(typed)))
}

fn a_type(typed: &DeValue<'_>) -> &'static str {
    match typed {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn text<'v>(typed: &'v DeValue<'_>) -> Result<&'v str, Wrong> {
    let text = typed.as_str().ok_or_else(|| is_not(typed, "a string in quotes"))?;
    if text.is_empty() { Err(Wrong::new("is empty")) } else { Ok(text) }
}

fn count(typed: &DeValue<'_>, least: u64, most: u64) -> Result<usize, Wrong> {
    let integer = typed.as_integer().ok_or_else(|| is_not(typed, "a whole number"))?;
    let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
    let fits = number.filter(|number| (least..=most).contains(number));
    fits.and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| Wrong::new(format!("is out of range: {least} to {most}")))
}

fn duration(typed: &DeValue<'_>, least: Duration, most: Duration, off: bool) -> Result<Duration, Wrong> {
    if let DeValue::Integer(number) = typed {
        let number = number.as_str();
        let hint = format!("write \"{number}s\" for seconds or \"{number}ms\" for milliseconds");
        return Err(Wrong::new("is a number without a unit").hint(hint));
    }
    if !typed.is_str() {
        return Err(is_not(typed, "a duration such as \"10s\""));
    }
    let found = value::duration(text(typed)?)?;
    if (off && found.is_zero()) || (least..=most).contains(&found) {
        return Ok(found);
    }
    let or_off = if off { ", or \"0s\" for no limit" } else { "" };
    let (least, most) = (value::written(least), value::written(most));
    Err(Wrong::new(format!("is out of range: \"{least}\" to \"{most}\"{or_off}")))
}

fn choice(typed: &DeValue<'_>, words: &'static [&'static str]) -> Result<&'static str, Wrong> {
    let text = text(typed)?;
    words.iter().find(|word| **word == text).copied().ok_or_else(|| {
        let list = words.join(", ");
        Wrong::new(format!("`{text}` is not one of: {list}"))
    })
}

fn addresses(
    value: &Spanned<DeValue<'_>>,
    read: impl Fn(&str) -> Result<Address, Wrong>,
    most: usize,
) -> Result<Vec<Address>, Wrongs> {
    let mut seen = Vec::new();
    let found = each(value, |text| {
        let address = read(text)?;
        if seen.contains(&address) {
            return Err(Wrong::new(format!("{address} is in the list twice")));
        }
        seen.push(address.clone());
        Ok(address)
    })?;
    match found.len() {
        0 => Err(vec![(value.span(), Wrong::new("is empty"))]),
        n if n > most => {
            Err(vec![(value.span(), Wrong::new(format!("has {n} addresses, more than {most}")))])
        }
        _ => Ok(found),
    }
}

/// The keys of a table in an array of servers.
const MEMBER_KEYS: [&str; 4] = ["address", "weight", "zone", "drain"];

/// An array of servers: addresses, or tables with one and what else is said of it.
fn members(value: &Spanned<DeValue<'_>>) -> Result<Vec<Server>, Wrongs> {
    let typed = value.get_ref();
    let Some(array) = typed.as_array() else {
        return Err(vec![(value.span(), is_not(typed, "an array of addresses"))]);
    };
    let mut wrongs = Vec::new();
    let mut found: Vec<Server> = Vec::new();
    for item in array.iter() {
        let one = match item.get_ref() {
            DeValue::Table(table) => member(item, table),
            address => text(address)
                .and_then(value::server)
                .map(|address| Server { address, orders: Orders::default() })
                .map_err(|wrong| vec![(item.span(), wrong)]),
        };
        match one {
            Ok(one) if found.iter().any(|known| known.address == one.address) => {
                wrongs.push((item.span(), Wrong::new(format!("{} is in the list twice", one.address))));
            }
            Ok(one) => found.push(one),
            Err(more) => wrongs.extend(more),
        }
    }
    if !wrongs.is_empty() {
        return Err(wrongs);
    }
    match found.len() {
        0 => Err(vec![(value.span(), Wrong::new("is empty"))]),
        n if n > MOST_NODES => {
            Err(vec![(value.span(), Wrong::new(format!("has {n} addresses, more than {MOST_NODES}")))])
        }
        _ => Ok(found),
    }
}

fn member(item: &Spanned<DeValue<'_>>, table: &DeTable<'_>) -> Result<Server, Wrongs> {
    let mut wrongs = Vec::new();
    let (mut address, mut orders) = (None, Orders::default());
    for (key, value) in table.iter() {
        let (key, typed) = (key.get_ref().as_ref(), value.get_ref());
        let read = match key {
            "address" => text(typed).and_then(value::server).map(|found| address = Some(found)),
            "weight" => count(typed, 1, Orders::MOST_WEIGHT.into())
                .map(|weight| orders.weight = u32::try_from(weight).unwrap_or(u32::MAX)),
            "zone" => text(typed).map(|zone| orders.zone = Some(zone.into())),
            "drain" => typed
                .as_bool()
                .map(|drain| orders.duty = if drain { Duty::Draining } else { Duty::Serving })
                .ok_or_else(|| is_not(typed, "true or false")),
            _ => {
                let wrong = Wrong::new(format!("`{key}` is no key of a server"));
                Err(wrong.hint(format!("a server has: {}", MEMBER_KEYS.join(", "))))
            }
        };
        if let Err(wrong) = read {
            wrongs.push((value.span(), wrong));
        }
    }
    match address {
        Some(address) if wrongs.is_empty() => Ok(Server { address, orders }),
        None if wrongs.is_empty() => {
            Err(vec![(item.span(), Wrong::new("has no `address`").hint("add address = \"host:port\""))])
        }
        _ => Err(wrongs),
    }
}

fn port(typed: &DeValue<'_>) -> Result<u16, Wrong> {
    count(typed, 1, u16::MAX.into()).map(|port| u16::try_from(port).unwrap_or(u16::MAX))
}

/// Reads each text of an array.
fn each<T>(
    value: &Spanned<DeValue<'_>>,
    mut read: impl FnMut(&str) -> Result<T, Wrong>,
) -> Result<Vec<T>, Wrongs> {
    items(value, "an array of strings", |item| text(item).and_then(&mut read))
}

/// Reads each item of an array.
fn items<T>(
    value: &Spanned<DeValue<'_>>,
    expected: &str,
    mut read: impl FnMut(&DeValue<'_>) -> Result<T, Wrong>,
) -> Result<Vec<T>, Wrongs> {
    let typed = value.get_ref();
    let Some(array) = typed.as_array() else {
        return Err(vec![(value.span(), is_not(typed, expected))]);
    };
    let mut wrongs = Vec::new();
    let mut found = Vec::new();
    for item in array.iter() {
        match read(item.get_ref()) {
            Ok(one) => found.push(one),
            Err(wrong) => wrongs.push((item.span(), wrong)),
        }
    }
    if wrongs.is_empty() { Ok(found) } else { Err(wrongs) }
}
