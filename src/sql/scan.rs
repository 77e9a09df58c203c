//! The judge of read or write: one pass over the tokens, without a tree and without allocating.
//!
//! It stands on this: whatever changes data, makes a table or locks a row has one of a few words *without quotes*
//! somewhere (INSERT, UPDATE, DELETE, MERGE, INTO, FOR UPDATE, FOR SHARE and their kin), and whatever else it does, it does by calling
//! a function, which is a name before a parenthesis. Where a word could be either, it counts as the dangerous one: the
//! price is a needless trip to the primary. In the same pass the shape is hashed.

mod calls;

use std::hash::{BuildHasher, Hasher};

use ahash::{AHasher, RandomState};

use super::folded::Folded;
use super::lex::{Kind, Lexer, Token};
use super::opening::{Opening, Seen};
use super::outline::{Effect, Mark, Name, Names, Outline, Set, Shape, Statement, Verb};
use super::tables::{Tables, bit};
use super::words::{Keyword, is_reserved, is_sequence_name, is_server_view, keyword};

/// The longest text that is scanned: 16 MB take some 30 ms of a worker's time.
pub const SCAN_LIMIT: usize = 16 << 20;

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
    /// It stands where only a table or view can, unless it is called.
    table: bool,
}

/// A call of `set_config` that is open, to see whether its third argument is `true` and nothing else.
#[derive(Clone, Copy, Debug)]
struct Config {
    depth: usize,
    commas: usize,
    local: Option<bool>,
    /// The first argument is a string or a parameter, and nothing else.
    named: Option<bool>,
}

/// The scan of one statement.
// Independent axes, each read alone.
#[allow(clippy::struct_excessive_bools)]
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
    asked: Option<calls::Asked>,
    sequence: Sequence,
    /// Depths (as bits) that are in a WITH clause before its query, in a GROUP BY list, or outside a parenthesis that
    /// a call may follow. Below depth 63 nothing is remembered, which only costs needless trips.
    with: u64,
    group: u64,
    call_follows: u64,
    tables: Tables,
    /// Names mean something wherever they stand.
    watches: bool,
    /// Nobody knows what names mean.
    unknown: bool,
}

/// The two halves of a look at a sequence's state, which a replica has ahead of the primary (sequences log 32 values
/// in advance): its columns, and a name as SERIAL makes it. One alone is too common a name.
#[derive(Clone, Copy, Default)]
struct Sequence {
    column: bool,
    name: bool,
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
                let then = match token.kind {
                    // It says what the statement does.
                    Kind::String if scan.asks_role(token) => b'!',
                    Kind::String => b'\'',
                    _ => b'0',
                };
                hash.part(text.get(from..token.start), then);
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
            asked: None,
            sequence: Sequence::default(),
            with: 0,
            group: 0,
            call_follows: 0,
            tables: Tables::default(),
            watches: names.watches_words(),
            unknown: !names.is_known(),
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
        if self.config.is_some() || self.asked.is_some() {
            self.watch_arguments(token, word);
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
            Kind::Operator => {
                if self.watches {
                    let run = self.text.get(token.start..token.end).unwrap_or_default();
                    self.watch(self.names.operator(run));
                }
                if self.unknown {
                    self.effects.insert(Effect::Loading);
                }
                Before::Other
            }
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
            Kind::Space | Kind::Comment => Before::Other,
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
            (Before::Dot, None) => Path {
                before: self.before,
                schema: None,
                deep: true,
                last: token,
                keyword: None,
                table: false,
            },
            (before, _) => {
                self.leave_path();
                let table = self.is_table(token, before, keyword);
                self.defines_cte(token, before);
                Path { before, schema: None, deep: false, last: token, keyword, table }
            }
        };
        self.path = Some(path);
        if self.unknown && keyword.is_none() {
            self.effects.insert(Effect::Loading);
        }
        if self.watches {
            let name = Folded::new(self.text, token);
            self.watch(self.names.word(name.as_bytes()));
        }
    }

    fn watch(&mut self, effect: Effect) {
        if effect != Effect::Safe {
            self.effects.insert(effect);
        }
    }

    /// Whether a table or view may stand here, behind `before`.
    fn may_be_table(&self, before: Before) -> bool {
        match before {
            Before::Keyword(Keyword::Table) => true,
            Before::Keyword(Keyword::From | Keyword::Join | Keyword::Lateral)
            | Before::Comma
            | Before::Open => self.tables.is_list(self.depth),
            // COPY name TO: nothing was named yet.
            Before::Keyword(Keyword::Copy) => {
                matches!(self.opening.verb(), Verb::CopyIn | Verb::CopyOut | Verb::CopyServer)
            }
            _ => false,
        }
    }

    /// Whether this name is that of a table or view, or else of a function in its place.
    fn is_table(&self, token: Token, before: Before, keyword: Option<Keyword>) -> bool {
        let name = || self.text.get(token.start..token.end).unwrap_or_default();
        let reserved = match keyword {
            Some(Keyword::Table | Keyword::With | Keyword::From | Keyword::Lateral | Keyword::Not) => true,
            // VALUES is the beginning of a query only in parentheses.
            Some(Keyword::Query) => before == Before::Open || !name().eq_ignore_ascii_case(b"values"),
            Some(Keyword::Syntax) => is_reserved(Folded::new(self.text, token).as_bytes()),
            _ => false,
        };
        !reserved && self.may_be_table(before)
    }

    /// A name that a WITH clause defines.
    fn defines_cte(&mut self, token: Token, before: Before) {
        if self.with & bit(self.depth) == 0 {
            return;
        }
        match before {
            Before::Keyword(Keyword::With | Keyword::Recursive) | Before::Comma => {
                self.tables.cte(token, self.depth);
            }
            _ => {}
        }
    }

    /// What reading the table or view of that name may do, unless a CTE hides it.
    fn table(&mut self, path: Path) {
        let last = Folded::new(self.text, path.last);
        let schema = path.schema.map(|token| Folded::new(self.text, token));
        let hidden = schema.is_none() && self.tables.ctes().any(|cte| Folded::new(self.text, cte) == last);
        if hidden {
            return;
        }
        let name = Name { schema: schema.as_ref().map(Folded::as_bytes), last: last.as_bytes() };
        let unreadable = path.deep || last.as_bytes().is_empty();
        self.watch(if unreadable { Effect::NoRelation } else { self.names.relation(name) });
    }

    /// Whether DISTINCT here is that of IS [NOT] DISTINCT FROM. It may be the name of a column of the result as well: the
    /// FROM behind that begins a list.
    fn compares(&self) -> bool {
        let is = || {
            self.path.filter(|path| path.schema.is_none() && !path.deep).is_some_and(|path| {
                self.text
                    .get(path.last.start..path.last.end)
                    .is_some_and(|word| word.eq_ignore_ascii_case(b"is"))
            })
        };
        match self.before {
            Before::Keyword(Keyword::Not) => true,
            Before::Name => is(),
            _ => false,
        }
    }

    /// A FROM list has no VALUES but in parentheses: `FROM t AS values, v`.
    fn is_name_values(&self, part: Option<Keyword>, word: &[u8]) -> bool {
        part == Some(Keyword::Query)
            && self.before != Before::Open
            && self.tables.is_list(self.depth)
            && word == b"values"
    }

    /// `ROWS FROM (f(), ..)`: ROWS is no table.
    fn leave_rows(&mut self, part: Option<Keyword>) {
        if part == Some(Keyword::From)
            && let Some(path) = self.path.as_mut().filter(|path| path.schema.is_none())
            && self
                .text
                .get(path.last.start..path.last.end)
                .is_some_and(|rows| rows.eq_ignore_ascii_case(b"rows"))
        {
            path.table = false;
        }
    }

    /// A word without quotes: its part, if it has one, and its marks.
    fn word(&mut self, token: Token, word: &[u8], first: bool) -> Before {
        // After a dot every word is a name.
        let part = if self.before == Before::Dot { None } else { keyword(word) };
        let compares = part == Some(Keyword::Distinct) && self.compares();
        if self.is_name_values(part, word) {
            self.name(token, None);
            self.locking = false;
            return Before::Name;
        }
        if word.starts_with(b"pg_temp") {
            self.marks.insert(Mark::Temporary);
        }
        self.leave_rows(part);
        self.name(token, part);
        let Some(part) = part else {
            self.locking = false;
            if self.before == Before::Close && self.with & bit(self.depth) != 0 {
                self.tables.odd(self.depth);
            }
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
            (Keyword::With, before) if first || before == Before::Open => {
                self.with |= here;
                self.tables.clause(self.depth);
            }
            (Keyword::Query | Keyword::Table, _) if !self.path.is_some_and(|path| path.table) => {
                self.with &= !here;
                self.group &= !here;
                self.tables.query(self.depth);
            }
            (Keyword::Recursive, Before::Keyword(Keyword::With)) => self.tables.recursive(self.depth),
            (Keyword::From, before)
                if before == Before::Keyword(Keyword::IsDistinct) || !self.tables.from(self.depth) =>
            {
                return Before::Keyword(Keyword::FromValue);
            }
            (Keyword::Distinct, _) if compares => return Before::Keyword(Keyword::IsDistinct),
            (Keyword::Clause | Keyword::Order | Keyword::Group | Keyword::For, _) => {
                self.group &= !here;
                self.tables.clause(self.depth);
            }
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
        if path.table {
            self.table(path);
        }
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
        // ONLY (table) and a join in parentheses; `path` is the word before, which is a name only if it is called.
        let joined = self.may_be_table(self.before);
        let grouped = self.group & here != 0 && self.before == Before::Keyword(Keyword::Sets);
        if let Some(path) = path {
            if path.before == Before::Keyword(Keyword::Copy) && path.table {
                // COPY name (columns)
                self.table(path);
            }
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
            self.tables.define(self.depth);
        }
        self.depth += 1;
        self.tables.open(self.depth, joined);
        if grouped {
            self.group |= bit(self.depth);
        }
        Before::Open
    }

    fn close_parenthesis(&mut self) -> Before {
        // Before the CTEs inside are forgotten.
        self.leave_path();
        if self.config.is_some_and(|config| config.depth == self.depth)
            && let Some(config) = self.config.take()
        {
            self.effects.insert(config.effect());
        }
        let inside = bit(self.depth);
        self.tables.close(self.depth);
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
}

impl Config {
    fn effect(self) -> Effect {
        match (self.commas, self.local) {
            (2, Some(true)) => Effect::ConfigLocal,
            _ if self.named == Some(true) => Effect::Config,
            _ => Effect::ConfigHidden,
        }
    }
}

#[cfg(test)]
mod tests;
