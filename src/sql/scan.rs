//! The judge of read or write: one pass over the tokens, without a tree and without allocating.
//!
//! It stands on this: whatever changes data, makes a table or locks a row has one of a few words *without quotes*
//! somewhere (INSERT, UPDATE, DELETE, MERGE, INTO, FOR UPDATE, FOR SHARE and their kin), and whatever else it does, it does by calling
//! a function, which is a name before a parenthesis. Where a word could be either, it counts as the dangerous one: the
//! price is a needless trip to the primary. In the same pass the shape is hashed.

use std::hash::{BuildHasher, Hasher};

use ahash::{AHasher, RandomState};

use super::lex::{Kind, Lexer, Token};
use super::opening::{Opening, Seen};
use super::outline::{Effect, Mark, Name, Names, Outline, Set, Shape, Statement, Verb};
use super::words::{Keyword, is_server_view, keyword};

/// The longest text that is scanned: 16 MB take some 30 ms of a worker's time.
pub const SCAN_LIMIT: usize = 16 << 20;

/// The longest name that PostgreSQL keeps whole (NAMEDATALEN - 1).
const NAME_LIMIT: usize = 63;

/// The secrets of the two hashes: without them nobody can make two texts of one shape.
#[derive(Clone, Debug)]
pub struct Seeds {
    /// For the first half.
    pub high: RandomState,
    /// For the second half.
    pub low: RandomState,
}

/// What stands before a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Start,
    Keyword(Keyword),
    Name,
    Literal,
    Open,
    Close,
    /// A closing parenthesis that a call may follow: of DISTINCT ON (..) and OPERATOR(..).
    CloseThenCall,
    Comma,
    Dot,
    Cast,
    Other,
}

/// A name, perhaps with a schema, whose last part was the token before.
#[derive(Clone, Copy, Debug)]
struct Path {
    before: Before,
    schema: Option<Token>,
    /// More than one dot, or a dot after something that is no name.
    deep: bool,
    last: Token,
    keyword: Option<Keyword>,
}

/// A call of `set_config` that is open, to see whether its third argument is `true` and nothing else.
#[derive(Clone, Copy, Debug)]
struct Config {
    depth: usize,
    commas: usize,
    local: Option<bool>,
}

/// The scan of one statement.
struct Scan<'a, F> {
    text: &'a [u8],
    names: &'a F,
    opening: Opening,
    marks: Set<Mark>,
    effects: Set<Effect>,
    before: Before,
    path: Option<Path>,
    depth: usize,
    /// FOR was seen, and since then only NO and KEY.
    locking: bool,
    /// BEGIN ATOMIC: the body of a function, whose semicolons do not end the statement.
    atomic: bool,
    config: Option<Config>,
    sequence: Sequence,
    /// Depths (as bits) that are in a WITH clause before its query, in a GROUP BY list, or outside a parenthesis that
    /// a call may follow. Below depth 63 nothing is remembered, which only costs needless trips.
    with: u64,
    group: u64,
    call_follows: u64,
}

/// The two halves of a look at a sequence's state, which a replica has ahead of the primary (sequences log 32 values
/// in advance): its columns, and a name as SERIAL makes it. One alone is too common a name.
#[derive(Clone, Copy, Default)]
struct Sequence {
    column: bool,
    name: bool,
}

/// `.._seq`, as SERIAL names its sequences; what is left of the closing quote may follow.
fn is_sequence_name(name: &[u8]) -> bool {
    let name = name.strip_suffix(b"\"").unwrap_or(name);
    name.len()
        .checked_sub(4)
        .and_then(|at| name.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(b"_seq"))
}

/// A depth as a bit of a mask; none for depths that a mask cannot hold.
fn bit(depth: usize) -> u64 {
    if depth < 63 { 1 << depth } else { 0 }
}

/// Scans a text; hands over its statements one by one.
pub fn scan<F: Names>(
    text: &[u8],
    names: &F,
    seeds: &Seeds,
    mut statement: impl FnMut(Statement),
) -> Outline {
    let mut hash = ShapeHash { high: seeds.high.build_hasher(), low: seeds.low.build_hasher() };
    let mut scan = Scan::new(text, names);
    let mut outline =
        Outline { shape: Shape { high: 0, low: 0 }, statements: 0, literals: false, explain: false };
    let mut from = 0;
    for token in Lexer::new(text) {
        match token.kind {
            Kind::Space => continue,
            Kind::Comment => {
                hash.part(text.get(from..token.start), b' ');
                from = token.end;
                continue;
            }
            Kind::String | Kind::Number => {
                hash.part(text.get(from..token.start), if token.kind == Kind::String { b'\'' } else { b'0' });
                from = token.end;
                outline.literals = true;
            }
            Kind::Semicolon if scan.depth == 0 && !scan.atomic => {
                scan.finish(&mut outline, &mut statement);
                continue;
            }
            _ => {}
        }
        scan.token(token);
    }
    scan.finish(&mut outline, &mut statement);
    hash.part(text.get(from..), b';');
    outline.shape = Shape { high: hash.high.finish(), low: hash.low.finish() };
    outline
}

struct ShapeHash {
    high: AHasher,
    low: AHasher,
}

impl ShapeHash {
    /// A run of text without literals or comments, and what came after it.
    #[inline]
    fn part(&mut self, run: Option<&[u8]>, then: u8) {
        let run = run.unwrap_or_default();
        self.high.write(run);
        self.high.write_u8(then);
        self.low.write(run);
        self.low.write_u8(then);
    }
}

/// A name folded to lower case, or taken out of its quotes, in a buffer on the stack.
struct Folded {
    bytes: [u8; NAME_LIMIT],
    length: usize,
}

impl Folded {
    /// Empty for what is longer than any name PostgreSQL keeps.
    fn new(text: &[u8], token: Token) -> Folded {
        let mut folded = Folded { bytes: [0; NAME_LIMIT], length: 0 };
        let raw = text.get(token.start..token.end).unwrap_or_default();
        match token.kind {
            Kind::Word => {
                if let Some(place) = folded.bytes.get_mut(..raw.len()) {
                    place.copy_from_slice(raw);
                    place.make_ascii_lowercase();
                    folded.length = raw.len();
                }
            }
            Kind::Quoted => {
                let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                let mut quote = false;
                for &byte in inside {
                    quote = byte == b'"' && !quote;
                    if quote {
                        continue;
                    }
                    let Some(place) = folded.bytes.get_mut(folded.length) else {
                        folded.length = 0;
                        break;
                    };
                    *place = byte;
                    folded.length += 1;
                }
            }
            _ => {}
        }
        folded
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl<'a, F: Names> Scan<'a, F> {
    fn new(text: &'a [u8], names: &'a F) -> Scan<'a, F> {
        Scan {
            text,
            names,
            opening: Opening::NEW,
            marks: Set::EMPTY,
            effects: Set::EMPTY,
            before: Before::Start,
            path: None,
            depth: 0,
            locking: false,
            atomic: false,
            config: None,
            sequence: Sequence::default(),
            with: 0,
            group: 0,
            call_follows: 0,
        }
    }

    /// The statement is over: hand it over, unless it had no token.
    fn finish(&mut self, outline: &mut Outline, statement: &mut impl FnMut(Statement)) {
        self.leave_path();
        if let Some(config) = self.config.take() {
            self.effects.insert(config.effect());
        }
        if self.depth > 0 {
            self.marks.insert(Mark::Unterminated);
        }
        if self.sequence.column && self.sequence.name {
            self.marks.insert(Mark::Server);
        }
        if !self.opening.is_new() || self.before != Before::Start {
            outline.statements += 1;
            outline.explain |= self.opening.is_explain();
            statement(Statement { verb: self.opening.verb(), marks: self.marks, effects: self.effects });
        }
        *self = Scan::new(self.text, self.names);
    }

    #[inline]
    fn token(&mut self, token: Token) {
        let folded;
        let mut word = None;
        if token.kind == Kind::Word {
            folded = Folded::new(self.text, token);
            word = Some(folded.as_bytes());
        }
        let mut first = false;
        if !self.opening.is_done() {
            self.open(token, word);
            first = self.opening.is_done();
        }
        if self.config.is_some() {
            self.watch_config(token, word);
        }
        self.before = match token.kind {
            Kind::Word => {
                let word = word.unwrap_or_default();
                self.word(token, word, first)
            }
            Kind::Quoted => {
                if self.text.get(token.start..token.end).is_some_and(|name| name.starts_with(b"\"pg_temp")) {
                    self.marks.insert(Mark::Temporary);
                }
                self.name(token, None);
                Before::Name
            }
            Kind::UnicodeQuoted => {
                self.marks.insert(Mark::Unicode);
                self.name(token, None);
                Before::Name
            }
            Kind::Open => self.open_parenthesis(),
            Kind::Close => self.close_parenthesis(),
            Kind::Dot => Before::Dot,
            Kind::String | Kind::Number | Kind::Param => Before::Literal,
            Kind::Comma => Before::Comma,
            Kind::Cast => Before::Cast,
            Kind::Unterminated => {
                self.marks.insert(Mark::Unterminated);
                Before::Other
            }
            Kind::Semicolon => {
                // In parentheses, or in a function's body.
                if self.opening.verb() != Verb::Define {
                    self.marks.insert(Mark::Unterminated);
                }
                Before::Other
            }
            Kind::Other => {
                if !matches!(self.text.get(token.start), Some(b'[' | b']' | b':')) {
                    self.marks.insert(Mark::Stray);
                }
                Before::Other
            }
            Kind::Operator | Kind::Space | Kind::Comment => Before::Other,
        };
        if !matches!(token.kind, Kind::Word | Kind::Quoted | Kind::UnicodeQuoted | Kind::Dot) {
            self.leave_path();
            self.locking = false;
        }
    }

    /// The first words of the statement.
    fn open(&mut self, token: Token, word: Option<&[u8]>) {
        let quoted;
        let text = match (word, token.kind) {
            (Some(word), _) => word,
            (None, Kind::Quoted) => {
                quoted = Folded::new(self.text, token);
                quoted.as_bytes()
            }
            (None, _) => self.text.get(token.start..token.end).unwrap_or_default(),
        };
        self.opening.step(Seen { kind: token.kind, text, depth: self.depth }, &mut self.marks);
    }

    /// A name or a part of one.
    fn name(&mut self, token: Token, keyword: Option<Keyword>) {
        let path = match (self.before, self.path) {
            (Before::Dot, Some(path)) => Path {
                schema: Some(path.last),
                deep: path.deep || path.schema.is_some(),
                last: token,
                keyword: None,
                ..path
            },
            (Before::Dot, None) => {
                Path { before: self.before, schema: None, deep: true, last: token, keyword: None }
            }
            (before, _) => {
                self.leave_path();
                Path { before, schema: None, deep: false, last: token, keyword }
            }
        };
        self.path = Some(path);
    }

    /// A word without quotes: its part, if it has one, and its marks.
    fn word(&mut self, token: Token, word: &[u8], first: bool) -> Before {
        // After a dot every word is a name.
        let part = if self.before == Before::Dot { None } else { keyword(word) };
        if word.starts_with(b"pg_temp") {
            self.marks.insert(Mark::Temporary);
        }
        self.name(token, part);
        let Some(part) = part else {
            self.locking = false;
            return Before::Name;
        };
        let locking = self.locking;
        self.locking = part == Keyword::For || (locking && matches!(part, Keyword::No | Keyword::Key));
        let here = bit(self.depth);
        match (part, self.before) {
            (Keyword::Update | Keyword::Share, _) if locking => self.marks.insert(Mark::Lock),
            (Keyword::Insert | Keyword::Update | Keyword::Delete | Keyword::Merge, _) => {
                self.marks.insert(Mark::Write);
            }
            (Keyword::Into, Before::Keyword(Keyword::Insert | Keyword::Merge)) => {
                return Before::Keyword(Keyword::Insert);
            }
            (Keyword::Into, _) => self.marks.insert(Mark::Into),
            (Keyword::Local, Before::Keyword(Keyword::Into)) => return self.before,
            (Keyword::Temporary, Before::Keyword(Keyword::Into)) => self.marks.insert(Mark::IntoTemporary),
            // Elsewhere WITH belongs to a type, to ORDINALITY, to options.
            (Keyword::With, before) if first || before == Before::Open => self.with |= here,
            (Keyword::Query, _) => {
                self.with &= !here;
                self.group &= !here;
            }
            (Keyword::Clause | Keyword::Order, _) => self.group &= !here,
            (Keyword::By, Before::Keyword(Keyword::Group)) => self.group |= here,
            (Keyword::On, Before::Keyword(Keyword::Distinct)) => {
                return Before::Keyword(Keyword::DistinctOn);
            }
            (Keyword::Hold, Before::Keyword(Keyword::With)) => self.marks.insert(Mark::Hold),
            (Keyword::Drop, Before::Keyword(Keyword::Commit)) => self.marks.insert(Mark::DropOnCommit),
            (Keyword::Atomic, Before::Keyword(Keyword::Begin)) => self.atomic = true,
            _ => {}
        }
        Before::Keyword(part)
    }

    /// The name before is over, and was not called: perhaps it is a view that each server answers for itself.
    fn leave_path(&mut self) {
        let Some(path) = self.path.take() else { return };
        let raw = self.text.get(path.last.start..path.last.end).unwrap_or_default();
        let bare = raw.strip_prefix(b"\"").unwrap_or(raw);
        if raw.eq_ignore_ascii_case(b"last_value") || raw.eq_ignore_ascii_case(b"is_called") {
            self.sequence.column = true;
        } else if is_sequence_name(bare) {
            self.sequence.name = true;
        } else if bare.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"pg_")) {
            let name = Folded::new(self.text, path.last);
            if is_server_view(name.as_bytes()) {
                self.marks.insert(Mark::Server);
            }
        }
    }

    fn open_parenthesis(&mut self) -> Before {
        let here = bit(self.depth);
        let path = self.path.take();
        let grouped = self.group & here != 0 && self.before == Before::Keyword(Keyword::Sets);
        if let Some(path) = path {
            self.call(path);
            if path.keyword == Some(Keyword::Operator) {
                self.call_follows |= here;
            }
        }
        if self.before == Before::Keyword(Keyword::DistinctOn) {
            self.call_follows |= here;
        }
        // In a WITH clause only a list of columns and AS (..) are in parentheses.
        if self.before == Before::Close {
            self.with &= !here;
        }
        self.depth += 1;
        if grouped {
            self.group |= bit(self.depth);
        }
        Before::Open
    }

    fn close_parenthesis(&mut self) -> Before {
        if self.config.is_some_and(|config| config.depth == self.depth)
            && let Some(config) = self.config.take()
        {
            self.effects.insert(config.effect());
        }
        let inside = bit(self.depth);
        self.with &= !inside;
        self.group &= !inside;
        match self.depth.checked_sub(1) {
            Some(depth) => self.depth = depth,
            None => self.marks.insert(Mark::Unterminated),
        }
        let here = bit(self.depth);
        if here == 0 || self.call_follows & here != 0 {
            self.call_follows &= !here;
            return Before::CloseThenCall;
        }
        Before::Close
    }

    /// A name stands before a parenthesis: a construct of the grammar, a type, an alias with its columns, or a call.
    fn call(&mut self, path: Path) {
        if path.schema.is_none() && path.keyword.is_some_and(|part| self.is_construct(part, path.before)) {
            return;
        }
        // What follows `::` is a type with its modifiers; options and lists of columns are no calls.
        if path.before == Before::Cast || !self.opening.has_calls(self.depth) {
            return;
        }
        let last = Folded::new(self.text, path.last);
        let schema = path.schema.map(|token| Folded::new(self.text, token));
        let name = Name { schema: schema.as_ref().map(Folded::as_bytes), last: last.as_bytes() };
        let effect = if path.deep || last.length == 0 { Effect::Unknown } else { self.names.function(name) };
        match effect {
            Effect::Safe => {}
            Effect::Unknown if path.schema.is_none() && !path.deep && self.is_alias(path.before) => {}
            Effect::Volatile
                if path.before == Before::Keyword(Keyword::Tablesample)
                    && matches!(name.last, b"bernoulli" | b"system") => {}
            Effect::Config if self.config.is_none() => {
                self.config = Some(Config { depth: self.depth + 1, commas: 0, local: None });
            }
            _ => self.effects.insert(effect),
        }
    }

    /// Whether a name here is an alias with its columns, a CTE with its columns, or a type in CAST: no call can stand
    /// there. Only unknown names profit; a name known to be dangerous counts wherever it stands.
    fn is_alias(&self, before: Before) -> bool {
        match before {
            Before::Close | Before::Keyword(Keyword::As | Keyword::Ordinality | Keyword::Recursive) => true,
            Before::Keyword(Keyword::With) | Before::Comma => self.with & bit(self.depth) != 0,
            _ => false,
        }
    }

    /// Whether this word, before a parenthesis, belongs to the grammar. Words that could name a function as well must
    /// stand where a call cannot.
    fn is_construct(&self, part: Keyword, before: Before) -> bool {
        match part {
            Keyword::Syntax
            | Keyword::Query
            | Keyword::With
            | Keyword::As
            | Keyword::Distinct
            | Keyword::On
            | Keyword::DistinctOn
            | Keyword::Group
            | Keyword::Order
            | Keyword::Grouping
            | Keyword::Not
            | Keyword::For
            | Keyword::Into
            | Keyword::Clause
            | Keyword::Time
            | Keyword::Character => true,
            Keyword::Over => matches!(before, Before::Close | Before::CloseThenCall),
            Keyword::Infix => {
                matches!(
                    before,
                    Before::Name
                        | Before::Literal
                        | Before::Close
                        | Before::CloseThenCall
                        | Before::Keyword(Keyword::Not)
                )
            }
            Keyword::Operator => matches!(before, Before::Name | Before::Literal | Before::Close),
            Keyword::By => {
                matches!(before, Before::Keyword(Keyword::Group | Keyword::Order | Keyword::Partition))
            }
            Keyword::Sets => before == Before::Keyword(Keyword::Grouping),
            Keyword::Rollup => self.group & bit(self.depth) != 0,
            Keyword::Materialized => matches!(before, Before::Keyword(Keyword::As | Keyword::Not)),
            Keyword::Zone => before == Before::Keyword(Keyword::Time),
            Keyword::Varying => before == Before::Keyword(Keyword::Character),
            Keyword::Insert
            | Keyword::Update
            | Keyword::Delete
            | Keyword::Merge
            | Keyword::Local
            | Keyword::Temporary
            | Keyword::No
            | Keyword::Key
            | Keyword::Share
            | Keyword::Recursive
            | Keyword::Partition
            | Keyword::Tablesample
            | Keyword::Ordinality
            | Keyword::True
            | Keyword::Hold
            | Keyword::Commit
            | Keyword::Drop
            | Keyword::Begin
            | Keyword::Atomic => false,
        }
    }

    /// Follows the arguments of an open `set_config`.
    fn watch_config(&mut self, token: Token, word: Option<&[u8]>) {
        let Some(config) = self.config.as_mut() else { return };
        match token.kind {
            Kind::Comma if self.depth == config.depth => config.commas += 1,
            Kind::Close if self.depth == config.depth => {}
            _ if config.commas >= 2 => {
                let local = config.local.is_none() && word == Some(b"true") && config.commas == 2;
                config.local = Some(local);
            }
            _ => {}
        }
    }
}

impl Config {
    fn effect(self) -> Effect {
        match (self.commas, self.local) {
            (2, Some(true)) => Effect::ConfigLocal,
            _ => Effect::Config,
        }
    }
}
