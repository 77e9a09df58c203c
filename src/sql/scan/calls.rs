//! Which names before a parenthesis are calls, and of what.

use super::super::folded::Folded;
use super::super::lex::{Kind, Token};
use super::super::outline::{Effect, Mark, Name, Names};
use super::super::tables::bit;
use super::super::words::{Keyword, is_server_setting};
use super::{Before, Config, Path, Scan};

/// A call of `current_setting` whose first argument is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// The parenthesis was the token before.
    Open,
    /// A setting was named that every server has from the session.
    Named,
}

impl<F: Names> Scan<'_, F> {
    /// A name stands before a parenthesis: a construct of the grammar, a type, an alias with its columns, or a call.
    pub(super) fn call(&mut self, path: Path) {
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
        let effect =
            if path.deep || last.as_bytes().is_empty() { Effect::Unknown } else { self.names.function(name) };
        match effect {
            Effect::Safe if name.last == b"current_setting" => self.asked = Some(Asked::Open),
            Effect::Safe => {}
            Effect::Loading => {
                self.effects.insert(Effect::Loading);
                self.effects.insert(Effect::LoadingCall);
            }
            Effect::Unknown if path.schema.is_none() && !path.deep && self.is_alias(path.before) => {}
            Effect::Volatile
                if path.before == Before::Keyword(Keyword::Tablesample)
                    && matches!(name.last, b"bernoulli" | b"system") => {}
            Effect::Config if self.config.is_none() => {
                self.config = Some(Config { depth: self.depth + 1, commas: 0, local: None, named: None });
            }
            Effect::Config => self.effects.insert(Effect::ConfigHidden),
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
            | Keyword::Table
            | Keyword::From
            | Keyword::FromValue
            | Keyword::Lateral
            | Keyword::IsDistinct
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
            Keyword::Infix | Keyword::Join => {
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
            | Keyword::Copy
            | Keyword::Drop
            | Keyword::Begin
            | Keyword::Atomic => false,
        }
    }

    /// Follows the arguments of an open `set_config`, and of `current_setting`.
    pub(super) fn watch_arguments(&mut self, token: Token, word: Option<&[u8]>) {
        if let Some(asked) = self.asked.take() {
            self.watch_asked(asked, token);
        }
        self.watch_config(token, word);
    }

    fn watch_config(&mut self, token: Token, word: Option<&[u8]>) {
        let Some(config) = self.config.as_mut() else { return };
        match token.kind {
            Kind::Comma if self.depth == config.depth => config.commas += 1,
            Kind::Close if self.depth == config.depth => {}
            _ if config.commas == 0 => {
                // In any notation: what it says must not make a difference here. One with escapes is minded where it is sent.
                let plain = matches!(token.kind, Kind::Param | Kind::String);
                config.named = match config.named {
                    None => Some(plain),
                    // A cast.
                    Some(named) => Some(named && matches!(token.kind, Kind::Cast | Kind::Word)),
                };
            }
            _ if config.commas >= 2 => {
                let local = config.local.is_none() && word == Some(b"true") && config.commas == 2;
                config.local = Some(local);
            }
            _ => {}
        }
    }

    /// The first argument of `current_setting`: only a plain string says that the role of the server is not asked for.
    fn watch_asked(&mut self, asked: Asked, token: Token) {
        match (asked, token.kind) {
            (Asked::Open, Kind::String) if self.is_plain_setting(token) => self.asked = Some(Asked::Named),
            (Asked::Named, Kind::Comma | Kind::Close | Kind::Cast) => {}
            (Asked::Open | Asked::Named, _) => self.marks.insert(Mark::Server),
        }
    }

    /// Whether that string is the argument of a `current_setting` that may ask for the role of the server.
    pub(super) fn asks_role(&self, token: Token) -> bool {
        matches!(self.asked, Some(Asked::Open)) && !self.is_plain_setting(token)
    }

    fn is_plain_setting(&self, token: Token) -> bool {
        self.text
            .get(token.start..token.end)
            .and_then(|text| text.strip_prefix(b"'")?.strip_suffix(b"'"))
            // A quote inside: the string goes on in another line.
            .is_some_and(|name| !name.contains(&b'\'') && !is_server_setting(name))
    }
}
