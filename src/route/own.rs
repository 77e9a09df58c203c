//! pgweir's own settings, `pgweir.NAME`: SET, RESET and SHOW of them are answered by pgweir and never reach a server. Pure.

use std::borrow::Cow;

use super::hint::Wish;
use crate::fresh::Level;
use crate::position::Position;
use crate::sql::{Kind, Lexer};

/// What one session has set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Own {
    /// Where its reads should go; none: as without it.
    pub route: Option<Wish>,
    /// Each result comes with a notice that says where it is from, and why.
    pub explain: bool,
    /// What its reads must see; none: as without it.
    pub consistency: Option<Level>,
    /// Its reads must see all up to there.
    pub min_position: Option<Position>,
    /// What SHOW says of the position; filled in by whoever knows.
    pub position: Option<Position>,
}

/// The name of a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// `pgweir.route`
    Route,
    /// `pgweir.explain`
    Explain,
    /// `pgweir.consistency`
    Consistency,
    /// `pgweir.min_position`
    MinPosition,
    /// `pgweir.position`, which is only shown.
    Position,
}

/// What is asked about a setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OwnCommand {
    /// `SET pgweir.NAME = value`; without a value: DEFAULT.
    Set(String, Option<String>),
    /// `RESET pgweir.NAME`
    Reset(String),
    /// `SHOW pgweir.NAME`
    Show(String),
    /// It cannot be had in this form: SET LOCAL, several values.
    Not(&'static str),
}

/// Why a setting is not set.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OwnError {
    /// There is no such setting.
    #[error("unrecognized configuration parameter \"pgweir.{name}\"")]
    Name {
        /// What was said.
        name: String,
        /// What may have been meant.
        nearest: &'static str,
    },
    /// It is only shown.
    #[error("parameter \"pgweir.{name}\" cannot be changed")]
    ReadOnly {
        /// The setting.
        name: &'static str,
    },
    /// It cannot have that value.
    #[error("invalid value for parameter \"pgweir.{name}\": \"{value}\"")]
    Value {
        /// The setting.
        name: &'static str,
        /// What was said.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

/// What a text has to do with pgweir's own settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OwnText {
    /// Nothing.
    None,
    /// It is about one, and nothing else.
    Command(OwnCommand),
    /// It is about one, among other statements.
    Mixed,
}

impl Setting {
    /// Every one of them.
    pub const ALL: &'static [Setting] =
        &[Setting::Route, Setting::Explain, Setting::Consistency, Setting::MinPosition, Setting::Position];

    /// The name behind `pgweir.`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Setting::Route => "route",
            Setting::Explain => "explain",
            Setting::Consistency => "consistency",
            Setting::MinPosition => "min_position",
            Setting::Position => "position",
        }
    }

    /// From its name, in lower case.
    ///
    /// # Errors
    /// There is no such setting.
    pub fn find(name: &str) -> Result<Setting, OwnError> {
        let known = Setting::ALL.iter().copied();
        known.clone().find(|setting| setting.name() == name).ok_or_else(|| {
            let likeness = |setting: &Setting| strsim::normalized_damerau_levenshtein(name, setting.name());
            let nearest = known.max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
            OwnError::Name {
                name: name.chars().take(63).collect(),
                nearest: nearest.map_or("", Setting::name),
            }
        })
    }
}

impl Own {
    /// Sets a setting; without a value: to its default.
    ///
    /// # Errors
    /// It cannot have that value.
    pub fn set(&mut self, setting: Setting, value: Option<&str>) -> Result<(), OwnError> {
        let word = value.unwrap_or("default").to_ascii_lowercase();
        let wrong = |allowed| OwnError::Value {
            name: setting.name(),
            value: value.unwrap_or_default().chars().take(63).collect(),
            allowed,
        };
        match setting {
            Setting::Route => {
                self.route = match word.as_str() {
                    "auto" | "default" => None,
                    word => Some(Wish::parse(word).ok_or_else(|| wrong("auto, primary, replica"))?),
                }
            }
            Setting::Explain => {
                self.explain = match word.as_str() {
                    "on" | "true" | "yes" | "1" => true,
                    "off" | "false" | "no" | "0" | "default" => false,
                    _ => return Err(wrong("on, off")),
                }
            }
            Setting::Consistency => {
                self.consistency = match word.as_str() {
                    "auto" | "default" => None,
                    word => {
                        let allowed = "auto, eventual, session, database, primary";
                        Some(Level::parse(word).ok_or_else(|| wrong(allowed))?)
                    }
                }
            }
            Setting::MinPosition => {
                self.min_position = match word.as_str() {
                    "" | "default" => None,
                    word => Some(
                        word.parse().map_err(|_| wrong("what SHOW pgweir.position says, as 1:0/3000060"))?,
                    ),
                }
            }
            Setting::Position => return Err(OwnError::ReadOnly { name: setting.name() }),
        }
        Ok(())
    }

    /// The value of a setting, as SHOW has it.
    #[must_use]
    pub fn value(&self, setting: Setting) -> Cow<'static, str> {
        let position = |position: Option<Position>| position.map_or_else(String::new, |at| at.to_string());
        let word = match (setting, self.route, self.explain) {
            (Setting::Route, None, _) => "auto",
            (Setting::Route, Some(Wish::Primary), _) => "primary",
            (Setting::Route, Some(Wish::Replica), _) => "replica",
            (Setting::Explain, _, true) => "on",
            (Setting::Explain, _, false) => "off",
            (Setting::Consistency, ..) => self.consistency.map_or("auto", Level::code),
            (Setting::MinPosition, ..) => return position(self.min_position).into(),
            (Setting::Position, ..) => return position(self.position).into(),
        };
        word.into()
    }
}

/// A token as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Word {
    /// A name or keyword, folded; or a quoted name as it is.
    Name(String),
    /// A string, without its quotes, or a number.
    Value(String),
    Equals,
    Dot,
    Comma,
    Other,
}

/// What a text has to do with pgweir's own settings.
#[must_use]
pub fn own_text(text: &[u8]) -> OwnText {
    let mut statements: Vec<Vec<Word>> = vec![Vec::new()];
    for token in Lexer::new(text) {
        let raw = text.get(token.start..token.end).unwrap_or_default();
        let word = match token.kind {
            Kind::Space | Kind::Comment => continue,
            Kind::Semicolon => {
                statements.push(Vec::new());
                continue;
            }
            Kind::Word => Word::Name(String::from_utf8_lossy(raw).to_ascii_lowercase()),
            Kind::Quoted => Word::Name(String::from_utf8_lossy(inside(raw)).replace("\"\"", "\"")),
            Kind::String if raw.starts_with(b"'") => {
                Word::Value(String::from_utf8_lossy(inside(raw)).replace("''", "'"))
            }
            Kind::Number => Word::Value(String::from_utf8_lossy(raw).into_owned()),
            Kind::Operator if raw == b"=" => Word::Equals,
            Kind::Dot => Word::Dot,
            Kind::Comma => Word::Comma,
            _ => Word::Other,
        };
        if let Some(statement) = statements.last_mut() {
            statement.push(word);
        }
    }
    statements.retain(|statement| !statement.is_empty());
    let mut commands = statements.iter().filter_map(|statement| command(statement));
    match (commands.next(), statements.len()) {
        (None, _) => OwnText::None,
        (Some(command), 1) => OwnText::Command(command),
        (Some(_), _) => OwnText::Mixed,
    }
}

/// Without the first and the last byte: the quotes.
fn inside(raw: &[u8]) -> &[u8] {
    raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default()
}

/// What one statement asks; none: it is not about a setting of pgweir's.
fn command(statement: &[Word]) -> Option<OwnCommand> {
    let (Word::Name(verb), rest) = statement.split_first()? else { return None };
    let (local, rest) = match rest.split_first() {
        Some((Word::Name(word), [Word::Name(name), Word::Dot, ..])) if verb == "set" && name == "pgweir" => {
            match word.as_str() {
                "session" => (false, rest.get(1..)?),
                "local" => (true, rest.get(1..)?),
                _ => return None,
            }
        }
        _ => (false, rest),
    };
    let [Word::Name(prefix), Word::Dot, Word::Name(name), values @ ..] = rest else { return None };
    if prefix != "pgweir" {
        return None;
    }
    let name = name.clone();
    Some(match (verb.as_str(), values) {
        ("set", _) if local => OwnCommand::Not("SET LOCAL of a setting of pgweir's own is not supported"),
        ("set", [sign, values @ ..]) if *sign == Word::Equals || *sign == Word::Name("to".to_owned()) => {
            match values {
                [Word::Name(word)] if word == "default" => OwnCommand::Set(name, None),
                [Word::Name(value) | Word::Value(value)] => OwnCommand::Set(name, Some(value.clone())),
                _ => OwnCommand::Not("a setting of pgweir's own has one value: a word, a string or a number"),
            }
        }
        ("reset", []) => OwnCommand::Reset(name),
        ("show", []) => OwnCommand::Show(name),
        ("set" | "reset" | "show", _) => {
            OwnCommand::Not("a setting of pgweir's own cannot be used in this way")
        }
        _ => return None,
    })
}

/// Whether a text resets the whole session: RESET ALL or DISCARD ALL is among its statements.
#[must_use]
pub fn resets_all(text: &[u8]) -> bool {
    let mut tokens = Lexer::new(text).filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment));
    let raw = |token: crate::sql::Token| text.get(token.start..token.end).unwrap_or_default();
    let mut first = true;
    while let Some(token) = tokens.next() {
        let verb = raw(token);
        let resets = verb.eq_ignore_ascii_case(b"reset") || verb.eq_ignore_ascii_case(b"discard");
        if first && resets && tokens.next().is_some_and(|token| raw(token).eq_ignore_ascii_case(b"all")) {
            return true;
        }
        first = token.kind == Kind::Semicolon;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> OwnText {
        own_text(text.as_bytes())
    }

    fn set(name: &str, value: Option<&str>) -> OwnText {
        OwnText::Command(OwnCommand::Set(name.to_owned(), value.map(str::to_owned)))
    }

    #[test]
    fn what_is_about_a_setting_of_ours() {
        for text in [
            "SET pgweir.route = primary",
            "set session PGWEIR . Route to 'primary' ;",
            "/* x */ SET \"pgweir\".route TO primary -- y",
        ] {
            assert_eq!(of(text), set("route", Some("primary")), "{text}");
        }
        assert_eq!(of("SET pgweir.explain = 1"), set("explain", Some("1")));
        assert_eq!(of("SET pgweir.route TO DEFAULT"), set("route", None));
        assert_eq!(of("RESET pgweir.route"), OwnText::Command(OwnCommand::Reset("route".to_owned())));
        assert_eq!(of("show pgweir.explain;"), OwnText::Command(OwnCommand::Show("explain".to_owned())));
        for text in [
            "SET LOCAL pgweir.route = primary",
            "SET pgweir.route = a, b",
            "SET pgweir.route",
            "SHOW pgweir.route x",
            "SET pgweir.route = $1",
        ] {
            assert!(matches!(of(text), OwnText::Command(OwnCommand::Not(_))), "{text}");
        }
        for text in ["SELECT 1; SET pgweir.route = primary", "SHOW pgweir.route; SHOW pgweir.explain"] {
            assert_eq!(of(text), OwnText::Mixed, "{text}");
        }
        for text in [
            "SET search_path = pgweir.route",
            "SET pgweird.route = a",
            "SHOW pgweir",
            "SELECT pgweir.route",
            "SET TIME ZONE 'pgweir.route'",
            "SET session.pgweir = 1",
            "",
        ] {
            assert_eq!(of(text), OwnText::None, "{text}");
        }
    }

    #[test]
    fn values_are_set_and_shown() {
        let mut own = Own::default();
        assert_eq!(own.set(Setting::Route, Some("REPLICA")), Ok(()));
        assert_eq!((own.route, own.value(Setting::Route)), (Some(Wish::Replica), "replica".into()));
        assert_eq!(own.set(Setting::Route, None), Ok(()));
        assert_eq!(own.set(Setting::Explain, Some("on")), Ok(()));
        assert_eq!((own.value(Setting::Route), own.value(Setting::Explain)), ("auto".into(), "on".into()));
        assert!(own.set(Setting::Explain, Some("perhaps")).is_err());
        let Err(OwnError::Name { nearest, .. }) = Setting::find("rout") else { panic!() };
        assert_eq!(nearest, "route");
    }

    #[test]
    fn what_resets_all() {
        for text in ["RESET ALL", "select 1; discard /* x */ all", "DISCARD ALL;"] {
            assert!(resets_all(text.as_bytes()), "{text}");
        }
        for text in ["RESET role", "DISCARD PLANS", "SELECT reset all", ""] {
            assert!(!resets_all(text.as_bytes()), "{text}");
        }
    }
}
