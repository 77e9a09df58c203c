//! What the operator says of statements: which are matched, and where those that read may go.
//!
//! A rule has two halves. What it asks of the text is settled when the text is judged, and kept with its facts as a bit; what it
//! asks of the session is settled once for each client. A unit then costs no more than an AND. No rule can move what is not
//! proven to read.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use regex::bytes::Regex;

use crate::clock::Duration;
use crate::fresh::Level;
use crate::sql::{Kind as Token, Lexer, fingerprint, tables};

/// Most rules of one database: each is a bit.
pub const MAX_RULES: usize = 64;

/// Where the reads of a database go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// All to the primary; what would have gone to a replica is counted.
    Observe,
    /// To the primary, but for those that a rule or a hint sends to a replica.
    OptIn,
    /// To the replicas, but for those that a rule or a hint sends to the primary.
    #[default]
    Auto,
}

/// A range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// From `10.0.0.0/8`, `::1/128`, or an address alone.
    #[must_use]
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        (bits <= all).then_some(Network { address, bits })
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let shifted = |address: u128, all: u32| address.checked_shr(all - u32::from(self.bits)).unwrap_or(0);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                shifted(u32::from(ours).into(), 32) == shifted(u32::from(theirs).into(), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                shifted(ours.into(), 128) == shifted(theirs.into(), 128)
            }
            _ => false,
        }
    }
}

/// What a rule asks for: all that is not empty must hold; of a list, one.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// Names of users.
    pub users: Vec<String>,
    /// Names of databases, as clients ask for them.
    pub databases: Vec<String>,
    /// `application_name`s, as given at login.
    pub application_names: Vec<String>,
    /// Where clients come from; a Unix socket is nowhere.
    pub addresses: Vec<Network>,
    /// The statement names one of these tables: `name`, `schema.name` or `schema.*`.
    pub tables: Vec<String>,
    /// The statement names only these tables, and at least one.
    pub only_tables: Vec<String>,
    /// The statement calls one of these functions: `name` or `schema.name`.
    pub functions: Vec<String>,
    /// The statement begins with one of these words, in lower case.
    pub kinds: Vec<String>,
    /// The statement has one of these fingerprints.
    pub shapes: Vec<u64>,
    /// The statement's text matches.
    pub query: Option<Regex>,
}

impl Match {
    /// Whether it asks for nothing of the text.
    fn is_textless(&self) -> bool {
        let lists = [&self.tables, &self.only_tables, &self.functions, &self.kinds];
        lists.iter().all(|list| list.is_empty()) && self.shapes.is_empty() && self.query.is_none()
    }
}

/// What a rule does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// To the primary.
    Primary,
    /// To any replica, if it only reads.
    Replica,
    /// To one of these replicas, if it only reads: a bit for each node.
    Servers(u64),
    /// Wherever they go without it.
    Stay,
    /// To nowhere: the client is told this.
    Reject(String),
}

impl Action {
    /// Whether it sends to replicas, which every statement of a unit must agree to.
    fn widens(&self) -> bool {
        matches!(self, Action::Replica | Action::Servers(_))
    }
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, for people.
    pub name: String,
    /// What it asks for.
    pub when: Match,
    /// What it does.
    pub then: Action,
    /// What the reads must see; none: it does not say.
    pub level: Option<Level>,
    /// How old what they see may be at most; none: it does not say.
    pub max_lag: Option<Duration>,
    /// How long a unit may run before it is cancelled; none: it does not say.
    pub timeout: Option<Duration>,
}

impl Rule {
    /// Whether every statement of a unit must agree to it: it sends to replicas, or says what may be seen there.
    fn widens(&self) -> bool {
        self.then.widens() || self.level.is_some() || self.max_lag.is_some()
    }
}

/// Who sends a statement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// The user that it logged in as.
    pub user: &'a str,
    /// The database that it asked for.
    pub database: &'a str,
    /// Its `application_name`.
    pub application_name: &'a str,
    /// Where it comes from; none: not over TCP.
    pub address: Option<IpAddr>,
}

/// The rules of one database, in order: the first that matches counts.
#[derive(Debug, Default)]
pub struct Rules {
    /// Where reads go that no rule speaks of.
    pub mode: Mode,
    /// What reads must see that no rule speaks of.
    pub level: Level,
    /// How old at most what they see may be.
    pub max_lag: Option<Duration>,
    list: Vec<Rule>,
    widening: u64,
    /// Those that ask for nothing of the text.
    textless: u64,
    /// Some rule asks for more of a text than its shape.
    minds_literals: bool,
    key: u64,
}

impl Rules {
    /// The same, of servers at other places: `bits` turns a set of places into one of nodes.
    #[must_use]
    pub fn on(&self, bits: impl Fn(u64) -> u64) -> Rules {
        let mut list = self.list.clone();
        for rule in &mut list {
            if let Action::Servers(places) = &mut rule.then {
                *places = bits(*places);
            }
        }
        Rules { level: self.level, max_lag: self.max_lag, ..Rules::new(self.mode, list) }
    }

    /// Of rules in order; those beyond [`MAX_RULES`] are left out.
    #[must_use]
    pub fn new(mode: Mode, mut list: Vec<Rule>) -> Rules {
        list.truncate(MAX_RULES);
        let widening = bits(list.iter().map(Rule::widens));
        let textless = bits(list.iter().map(|rule| rule.when.is_textless()));
        let minds_literals = list.iter().any(|rule| rule.when.query.is_some());
        let mut hasher = DefaultHasher::new();
        format!("{list:?}").hash(&mut hasher);
        let key = if list.is_empty() { 0 } else { hasher.finish() };
        Rules { mode, level: Level::default(), max_lag: None, list, widening, textless, minds_literals, key }
    }

    /// Whether two texts that differ in their literals alone may be matched by different rules.
    #[must_use]
    pub fn minds_literals(&self) -> bool {
        self.minds_literals
    }

    /// Equal for rules that say the same of every text.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// A rule by its place.
    #[must_use]
    pub fn get(&self, place: u8) -> Option<&Rule> {
        self.list.get(usize::from(place))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Which rules a session can be matched by.
    #[must_use]
    pub fn session(&self, who: &Who<'_>) -> u64 {
        let one_of = |list: &[String], value: &str| list.is_empty() || list.iter().any(|one| one == value);
        bits(self.list.iter().map(|Rule { when, .. }| {
            one_of(&when.users, who.user)
                && one_of(&when.databases, who.database)
                && one_of(&when.application_names, who.application_name)
                && (when.addresses.is_empty()
                    || who.address.is_some_and(|address| when.addresses.iter().any(|net| net.has(address))))
        }))
    }

    /// Which rules a text can be matched by.
    #[must_use]
    pub fn text(&self, text: &[u8]) -> u64 {
        if self.list.is_empty() {
            return 0;
        }
        let mut whole = Text::new(text);
        let mut parts: Vec<Text<'_>> = if self.widening == 0 { Vec::new() } else { statements(text) };
        bits(self.list.iter().map(|rule| {
            whole.matches(&rule.when)
                && (!rule.widens() || parts.iter_mut().all(|part| part.matches_part(&rule.when)))
        }))
    }

    /// The first rule that matches a session and a unit; see [`super::Facts::any`] and [`super::Facts::all`].
    #[must_use]
    pub fn first(&self, session: u64, any: u64, all: u64) -> Option<(u8, &Rule)> {
        // What could not be looked at is matched by rules that do not look.
        let (any, all) = (any | self.textless, all | self.textless);
        let matching = session & ((any & !self.widening) | (any & all & self.widening));
        let place = u8::try_from(matching.trailing_zeros()).ok()?;
        Some((place, self.get(place)?))
    }
}

/// Bits for a list of answers.
fn bits(answers: impl Iterator<Item = bool>) -> u64 {
    answers.zip(0u32..).filter(|(yes, _)| *yes).fold(0, |bits, (_, place)| bits | 1 << place)
}

/// A text, and what of it was looked up so far.
struct Text<'a> {
    text: &'a [u8],
    tables: Option<Option<Vec<Vec<String>>>>,
}

impl<'a> Text<'a> {
    fn new(text: &'a [u8]) -> Text<'a> {
        Text { text, tables: None }
    }

    fn matches(&mut self, when: &Match) -> bool {
        (when.kinds.is_empty() || self.begins_with(&when.kinds))
            && (when.shapes.is_empty() || when.shapes.contains(&fingerprint(self.text)))
            && when.query.as_ref().is_none_or(|query| query.is_match(self.text))
            && (when.functions.is_empty() || self.calls(&when.functions))
            && (when.tables.is_empty() || self.names(&when.tables))
            && (when.only_tables.is_empty() || self.names_only(&when.only_tables))
    }

    /// The same for one statement of several: what asks for the text as a whole was asked of that.
    fn matches_part(&mut self, when: &Match) -> bool {
        (when.kinds.is_empty() || self.begins_with(&when.kinds))
            && (when.functions.is_empty() || self.calls(&when.functions))
            && (when.tables.is_empty() || self.names(&when.tables))
            && (when.only_tables.is_empty() || self.names_only(&when.only_tables))
    }

    /// Whether a statement of it begins with one of the words.
    fn begins_with(&self, words: &[String]) -> bool {
        let (mut depth, mut first) = (0usize, true);
        for token in Lexer::new(self.text) {
            let raw = self.text.get(token.start..token.end).unwrap_or_default();
            match token.kind {
                Token::Space | Token::Comment => continue,
                Token::Open if first => continue,
                Token::Open => depth += 1,
                Token::Close => depth = depth.saturating_sub(1),
                Token::Semicolon if depth == 0 => {
                    first = true;
                    continue;
                }
                Token::Word
                    if first && words.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(raw)) =>
                {
                    return true;
                }
                _ => {}
            }
            first = false;
        }
        false
    }

    /// Whether one of the functions is called: a name before a parenthesis.
    fn calls(&self, functions: &[String]) -> bool {
        let names = identifiers(self.text);
        names.iter().any(|(name, called)| *called && functions.iter().any(|pattern| fits(pattern, name)))
    }

    fn tables(&mut self) -> Option<&[Vec<String>]> {
        self.tables.get_or_insert_with(|| tables(self.text)).as_deref()
    }

    /// Whether one of the tables is named. Where the parser does not know the syntax, any name counts.
    fn names(&mut self, patterns: &[String]) -> bool {
        let fits = |name: &Vec<String>| patterns.iter().any(|pattern| fits(pattern, name));
        match self.tables() {
            Some(tables) => tables.iter().any(fits),
            None => identifiers(self.text).iter().any(|(name, _)| fits(name)),
        }
    }

    /// Whether only these tables are named. Where the parser does not know the syntax, nobody can tell.
    fn names_only(&mut self, patterns: &[String]) -> bool {
        let fits = |name: &Vec<String>| patterns.iter().any(|pattern| fits(pattern, name));
        self.tables().is_some_and(|tables| !tables.is_empty() && tables.iter().all(fits))
    }
}

/// The statements of a text, if it has several.
fn statements(text: &[u8]) -> Vec<Text<'_>> {
    let (mut found, mut start, mut depth, mut is_empty) = (Vec::new(), 0, 0usize, true);
    for token in Lexer::new(text) {
        match token.kind {
            Token::Space | Token::Comment => continue,
            Token::Semicolon if depth == 0 => {
                if !is_empty {
                    found.push(Text::new(text.get(start..token.start).unwrap_or_default()));
                }
                (start, is_empty) = (token.end, true);
                continue;
            }
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_empty = false;
    }
    if !is_empty {
        found.push(Text::new(text.get(start..).unwrap_or_default()));
    }
    if found.len() < 2 { Vec::new() } else { found }
}

/// Whether a name is meant by a pattern: `name`, `schema.name`, `schema.*` or `*`. A name without a schema is meant by one
/// with any.
fn fits(pattern: &str, name: &[String]) -> bool {
    let Some(last) = name.last() else { return false };
    let schema = name.len().checked_sub(2).and_then(|place| name.get(place));
    let (wanted_schema, wanted) = match pattern.rsplit_once('.') {
        Some((schema, wanted)) => (Some(schema), wanted),
        None => (None, pattern),
    };
    let schema_fits = match (wanted_schema, schema) {
        (Some(wanted), Some(schema)) => wanted == schema,
        (Some(_), None) => wanted != "*",
        (None, _) => true,
    };
    schema_fits && (wanted == "*" || wanted == last)
}

/// The names in a text, folded unless quoted, and whether a parenthesis follows.
fn identifiers(text: &[u8]) -> Vec<(Vec<String>, bool)> {
    let mut names: Vec<(Vec<String>, bool)> = Vec::new();
    let (mut dot, mut open) = (false, false);
    for token in Lexer::new(text) {
        let raw = text.get(token.start..token.end).unwrap_or_default();
        let name = match token.kind {
            Token::Space | Token::Comment => continue,
            Token::Word => Some(String::from_utf8_lossy(raw).to_ascii_lowercase()),
            Token::Quoted => {
                let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                Some(String::from_utf8_lossy(inside).replace("\"\"", "\""))
            }
            _ => None,
        };
        match (name, token.kind) {
            (Some(name), _) => {
                match names.last_mut() {
                    Some((parts, _)) if dot => parts.push(name),
                    _ => names.push((vec![name], false)),
                }
                open = true;
            }
            (None, Token::Dot) if open => {
                dot = true;
                continue;
            }
            (None, Token::Open) if open => {
                if let Some((_, called)) = names.last_mut() {
                    *called = true;
                }
                open = false;
            }
            (None, _) => open = false,
        }
        dot = false;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, when: Match, then: Action) -> Rule {
        Rule { name: name.into(), when, then, level: None, max_lag: None, timeout: None }
    }

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[track_caller]
    fn text(when: Match, text: &str, expected: bool) {
        let rules = Rules::new(Mode::Auto, vec![rule("r", when, Action::Primary)]);
        assert_eq!(rules.text(text.as_bytes()) == 1, expected, "{text}");
    }

    #[test]
    fn networks_hold_addresses() {
        for (network, address, holds) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("fd00::/8", "fd12::1", true),
            ("::/0", "10.0.0.1", false),
        ] {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.has(address.parse().unwrap()), holds, "{network:?} {address}");
        }
        for bad in ["", "10.0.0.0/33", "x/8", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn texts_are_matched() {
        let kinds = |words| Match { kinds: list(words), ..Match::default() };
        text(kinds(&["copy"]), "/* x */ COPY t TO STDOUT", true);
        text(kinds(&["select"]), "((SELECT 1))", true);
        text(kinds(&["delete"]), "SELECT 1; DELETE FROM t", true);
        text(kinds(&["delete"]), "SELECT f(';', delete)", false);
        let tables = |names| Match { tables: list(names), ..Match::default() };
        text(tables(&["photos"]), "SELECT * FROM public.photos p JOIN users u USING (id)", true);
        text(tables(&["public.photos"]), "SELECT * FROM photos", true);
        text(tables(&["app.photos"]), "SELECT * FROM public.photos", false);
        text(tables(&["audit.*"]), "SELECT * FROM audit.log", true);
        text(tables(&["audit.*"]), "SELECT * FROM log", false);
        text(tables(&["photos"]), "SELECT photos FROM t", false);
        text(tables(&["photos"]), "SELECT xmlelement(name photos, 1), * FROM ONLY (photos) a", true);
        for named in [
            "COPY photos TO STDOUT",
            "COPY public.photos (id) FROM STDIN",
            "DROP TABLE IF EXISTS a, photos CASCADE",
            "GRANT SELECT ON photos TO public",
            "REVOKE ALL ON TABLE photos FROM public",
            "COMMENT ON TABLE photos IS 'x'",
            "VACUUM photos",
            "VACUUM (ANALYZE) photos",
            "SELECT * FROM ONLY photos",
            "SELECT * FROM a JOIN ONLY public.photos p ON true",
            "UPDATE ONLY photos SET a = 1",
            "DELETE FROM ONLY photos",
        ] {
            text(tables(&["photos"]), named, true);
        }
        text(tables(&["photos"]), "COPY a (photos) TO STDOUT", false);
        text(tables(&["photos"]), "DROP SCHEMA photos", false);
        let only = |names| Match { only_tables: list(names), ..Match::default() };
        text(only(&["a", "b"]), "SELECT * FROM a, b", true);
        text(only(&["a", "b"]), "SELECT * FROM a, c", false);
        text(only(&["a"]), "SELECT 1", false);
        text(only(&["a"]), "COPY a TO STDOUT", true);
        text(only(&["a"]), "SELECT * FROM a, ONLY b", false);
        let functions = |names| Match { functions: list(names), ..Match::default() };
        text(functions(&["report"]), "SELECT * FROM public.Report (1)", true);
        text(functions(&["report"]), "SELECT report FROM t", false);
        let query = Match { query: Some(Regex::new("(?i)from +t\\b").unwrap()), ..Match::default() };
        text(query, "select 1 FROM t", true);
        let shapes = Match { shapes: vec![fingerprint(b"SELECT 1")], ..Match::default() };
        text(shapes.clone(), "select 2", true);
        text(shapes, "select a", false);
    }

    #[test]
    fn rules_that_send_to_replicas_must_match_every_statement_of_a_text() {
        let when = [
            Match { tables: list(&["photos"]), ..Match::default() },
            Match { only_tables: list(&["photos"]), ..Match::default() },
            Match { kinds: list(&["select"]), ..Match::default() },
            Match { functions: list(&["report"]), ..Match::default() },
        ];
        let matched = |then: &Action, text: &str| {
            let each = when.iter().map(|when| rule("r", when.clone(), then.clone()));
            Rules::new(Mode::OptIn, each.collect()).text(text.as_bytes())
        };
        for (text, replica, primary) in [
            ("SELECT report() FROM photos; SELECT report() FROM photos", 0b1111, 0b1111),
            ("SELECT report() FROM photos; ; -- x", 0b1111, 0b1111),
            ("SELECT report() FROM photos; SELECT 1", 0b0100, 0b1111),
            ("SHOW work_mem; SELECT report() FROM photos", 0b0000, 0b1111),
            ("SELECT ';' FROM photos; SELECT 1 FROM other", 0b0100, 0b0101),
        ] {
            assert_eq!(matched(&Action::Replica, text), replica, "{text}");
            assert_eq!(matched(&Action::Servers(1), text), replica, "{text}");
            assert_eq!(matched(&Action::Primary, text), primary, "{text}");
        }
    }

    #[test]
    fn the_first_rule_counts_and_replicas_need_all_statements() {
        let rules = Rules::new(
            Mode::Auto,
            vec![
                rule("a", Match { users: list(&["ann"]), ..Match::default() }, Action::Servers(2)),
                rule("b", Match::default(), Action::Primary),
            ],
        );
        let ann = rules.session(&Who { user: "ann", ..Who::default() });
        let bob = rules.session(&Who { user: "bob", ..Who::default() });
        assert_eq!((ann, bob), (3, 2));
        let first = |session, any, all| rules.first(session, any, all).map(|(place, _)| place);
        assert_eq!(first(ann, 3, 3), Some(0));
        assert_eq!(first(bob, 3, 3), Some(1));
        assert_eq!(first(ann, 0, 0), Some(0), "neither asks for anything of the text");
        let copies = Match { kinds: list(&["copy"]), ..Match::default() };
        let rules = Rules::new(Mode::Auto, vec![rule("c", copies, Action::Replica)]);
        assert_eq!((rules.first(1, 1, 0).is_some(), rules.first(1, 1, 1).is_some()), (false, true));
    }
}
