//! The commands of the console: text in, [`Command`] out.

use std::borrow::Cow;

use super::{Change, What};
use crate::cluster::Orders;
use crate::sql::{Kind, Lexer};

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Help,
    Version,
    /// The most frequent shapes, so many.
    Routes(usize),
    Route(Question),
    Databases,
    Servers,
    Pools,
    /// `SHOW CLIENTS`
    Clients,
    /// `SHOW PINS`
    Pins,
    /// `SHOW COUNTERS`
    Counters,
    /// `FLUSH COUNTERS`, of that table or of all.
    Flush(Option<String>),
    /// `DISCARD COUNTERS`, of that table.
    Discard(String),
    Catalogs,
    Learned,
    Reasons,
    Reload,
    Change(Change),
}

/// What SHOW ROUTE FOR asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Question {
    pub(super) sql: String,
    /// None: the only one that is configured.
    pub(super) database: Option<String>,
    /// None: `postgres`.
    pub(super) user: Option<String>,
}

/// What is no command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Unknown {
    pub(super) message: String,
    /// What would be right.
    pub(super) hint: String,
}

/// Rows of SHOW ROUTES unless a LIMIT is given.
const ROUTES: usize = 50;

/// Longest command that is looked at.
const LONGEST: usize = 64 * 1024;

/// Every command as SHOW HELP has it, and what it does.
pub(super) const COMMANDS: &[(&str, &str)] = &[
    ("SHOW HELP", "These commands."),
    ("SHOW VERSION", "The version of pgweir."),
    (
        "SHOW ROUTES",
        "The most frequent shapes of statements: where they go, why, how often, how long; LIMIT n: so many (50).",
    ),
    (
        "SHOW ROUTE FOR",
        "Where a statement in quotes would go now, and why; DATABASE name and USER name may follow.",
    ),
    ("SHOW DATABASES", "The databases of the configuration, and how the search for servers goes."),
    ("SHOW SERVERS", "The servers: role, health, standing, who named them, timeline, units that run."),
    ("SHOW POOLS", "The server connections of each pool: in use, free, being opened, and clients that wait."),
    ("SHOW CLIENTS", "The clients: who they are, what they do, on which server, since when."),
    ("SHOW PINS", "The clients that keep a server connection to themselves: why, and since when."),
    (
        "SHOW COUNTERS",
        "The tables whose increments are merged, by database and user: how many wait, or why they are not.",
    ),
    (
        "FLUSH COUNTERS",
        "FLUSH COUNTERS [table]: commits what was counted and is only in the journal or in memory; answered when it is committed.",
    ),
    (
        "DISCARD COUNTERS",
        "DISCARD COUNTERS table: throws away what was counted for it and the server refuses to commit; what it does not refuse is committed.",
    ),
    ("SHOW CATALOGS", "The databases whose definitions are known."),
    ("SHOW LEARNED", "What replicas have refused, and goes to the primary since."),
    ("SHOW REASONS", "Every reason for a route, in plain words."),
    (
        "RELOAD",
        "Reads the configuration file again: databases, servers, rules, users. What needs a restart is listed.",
    ),
    (
        "ADD SERVER",
        "ADD SERVER 'host:port' [WEIGHT n] [ZONE 'z'] [DATABASE name]: a server more, until the next RELOAD.",
    ),
    ("REMOVE SERVER", "REMOVE SERVER 'host:port' [DATABASE name]: a server less, until the next RELOAD."),
    (
        "DRAIN SERVER",
        "DRAIN SERVER 'host:port' [DATABASE name]: it gets no new reads, until the next RELOAD.",
    ),
    (
        "ENABLE SERVER",
        "ENABLE SERVER 'host:port' [DATABASE name]: it gets reads again, drained or removed, until the next RELOAD.",
    ),
    (
        "WEIGH SERVER",
        "WEIGH SERVER 'host:port' n [DATABASE name]: its share of the reads beside others', until the next RELOAD.",
    ),
];

/// A word, a name in double quotes, or a text in single quotes.
struct Part<'a> {
    kind: Kind,
    raw: &'a str,
}

impl Part<'_> {
    fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.raw.eq_ignore_ascii_case(word)
    }

    /// What it names: a string or quoted name without its quotes, a word in lower case.
    fn value(&self) -> Option<Cow<'_, str>> {
        let inside = |quote: &str| {
            let inside = self.raw.strip_prefix(quote)?.strip_suffix(quote)?;
            Some(Cow::Owned(inside.replace(&quote.repeat(2), quote)))
        };
        match self.kind {
            Kind::Word => Some(Cow::Owned(self.raw.to_ascii_lowercase())),
            Kind::Number => Some(Cow::Borrowed(self.raw)),
            Kind::Quoted => inside("\""),
            Kind::String if self.raw.starts_with('$') => {
                let tag = self.raw.get(..self.raw.get(1..)?.find('$')? + 2)?;
                Some(Cow::Borrowed(self.raw.strip_prefix(tag)?.strip_suffix(tag)?))
            }
            Kind::String => inside("'"),
            _ => None,
        }
    }
}

impl Command {
    /// What CommandComplete says.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Command::Reload => "RELOAD",
            Command::Flush(_) => "FLUSH COUNTERS",
            Command::Discard(_) => "DISCARD COUNTERS",
            Command::Change(change) => match change.what {
                What::Add(_) => "ADD SERVER",
                What::Remove => "REMOVE SERVER",
                What::Drain => "DRAIN SERVER",
                What::Enable => "ENABLE SERVER",
                What::Weigh(_) => "WEIGH SERVER",
            },
            _ => "SHOW",
        }
    }

    /// Reads a command.
    ///
    /// # Errors
    /// What is none, with the command that looks most like it.
    pub(super) fn parse(text: &str) -> Result<Command, Unknown> {
        if text.len() > LONGEST {
            return Err(Unknown { message: "the command is too long".to_owned(), hint: String::new() });
        }
        let tokens = Lexer::new(text.as_bytes());
        let tokens =
            tokens.filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment | Kind::Semicolon));
        let parts: Vec<Part<'_>> = tokens
            .map(|token| Part { kind: token.kind, raw: text.get(token.start..token.end).unwrap_or_default() })
            .collect();
        let command = match parts.as_slice() {
            [show, rest @ ..] if show.is("show") => shown(rest),
            [reload] if reload.is("reload") => Some(Command::Reload),
            [verb, counters, rest @ ..] if counters.is("counters") => flushed(verb, rest),
            [verb, server, address, rest @ ..] if server.is("server") => {
                changed(verb, address, rest).map(Command::Change)
            }
            _ => None,
        };
        command.ok_or_else(|| unknown(text))
    }
}

fn shown(parts: &[Part<'_>]) -> Option<Command> {
    let (what, rest) = parts.split_first()?;
    if what.is("route") {
        return route(rest).map(Command::Route);
    }
    if what.is("routes") {
        return match rest {
            [] => Some(Command::Routes(ROUTES)),
            [limit, count] if limit.is("limit") => count.raw.parse().ok().map(Command::Routes),
            _ => None,
        };
    }
    let plain = [
        ("help", Command::Help),
        ("version", Command::Version),
        ("databases", Command::Databases),
        ("servers", Command::Servers),
        ("pools", Command::Pools),
        ("clients", Command::Clients),
        ("pins", Command::Pins),
        ("counters", Command::Counters),
        ("catalogs", Command::Catalogs),
        ("learned", Command::Learned),
        ("reasons", Command::Reasons),
    ];
    plain.into_iter().find(|(name, _)| rest.is_empty() && what.is(name)).map(|(_, command)| command)
}

/// FLUSH or DISCARD COUNTERS: of all, of a table, or of one with its schema.
fn flushed(verb: &Part<'_>, parts: &[Part<'_>]) -> Option<Command> {
    let table = match parts {
        [] => None,
        [table] => Some(table.value()?.into_owned()),
        [schema, dot, table] if dot.kind == Kind::Dot => {
            Some(format!("{}.{}", schema.value()?, table.value()?))
        }
        _ => return None,
    };
    if verb.is("flush") {
        return Some(Command::Flush(table));
    }
    table.filter(|_| verb.is("discard")).map(Command::Discard)
}

/// ADD, REMOVE, DRAIN, ENABLE or WEIGH SERVER.
fn changed(verb: &Part<'_>, address: &Part<'_>, mut rest: &[Part<'_>]) -> Option<Change> {
    let address = Some(address).filter(|part| part.kind == Kind::String)?.value()?.parse().ok()?;
    let weight =
        |part: &Part<'_>| part.raw.parse().ok().filter(|weight| (1..=Orders::MOST_WEIGHT).contains(weight));
    let mut what = match verb.raw.to_ascii_lowercase().as_str() {
        "add" => What::Add(Orders::default()),
        "remove" => What::Remove,
        "drain" => What::Drain,
        "enable" => What::Enable,
        "weigh" => {
            let (number, more) = rest.split_first()?;
            rest = more;
            What::Weigh(weight(number)?)
        }
        _ => return None,
    };
    let mut database = None;
    while let [keyword, value, more @ ..] = rest {
        match (&mut what, keyword) {
            (_, keyword) if keyword.is("database") && database.is_none() => {
                database = Some(value.value()?.into_owned());
            }
            (What::Add(orders), keyword) if keyword.is("weight") => orders.weight = weight(value)?,
            (What::Add(orders), keyword) if keyword.is("zone") => orders.zone = Some(value.value()?.into()),
            _ => return None,
        }
        rest = more;
    }
    rest.is_empty().then_some(Change { what, address, database })
}

fn route(parts: &[Part<'_>]) -> Option<Question> {
    let [keyword, sql, rest @ ..] = parts else { return None };
    if !keyword.is("for") || sql.kind != Kind::String {
        return None;
    }
    let mut question = Question { sql: sql.value()?.into_owned(), ..Question::default() };
    let mut rest = rest;
    while let [keyword, value, more @ ..] = rest {
        let place = if keyword.is("database") {
            &mut question.database
        } else if keyword.is("user") {
            &mut question.user
        } else {
            return None;
        };
        if place.replace(value.value()?.into_owned()).is_some() {
            return None;
        }
        rest = more;
    }
    rest.is_empty().then_some(question)
}

/// What is said of a text that is no command.
fn unknown(text: &str) -> Unknown {
    /// Less alike is no slip.
    const ALIKE: f64 = 0.5;
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    let typed: String = words.join(" ").trim_end_matches(';').to_ascii_uppercase().chars().take(40).collect();
    let likeness = |command: &str| strsim::normalized_damerau_levenshtein(&typed, command);
    let nearest = COMMANDS
        .iter()
        .map(|known| (if typed.starts_with(known.0) { 1.0 } else { likeness(known.0) }, *known))
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .map(|(_, known)| known);
    let no_command = || format!("this is pgweir's console, which has no command \"{typed}\"");
    let (message, hint) = match nearest {
        Some((command, what)) if typed.starts_with(command) => {
            (format!("{command} is not used like this"), format!("{what} "))
        }
        Some((command, _)) => (no_command(), format!("Perhaps you meant {command}. ")),
        None => (no_command(), String::new()),
    };
    Unknown { message, hint: hint + "SHOW HELP lists all commands." }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_read() {
        let good = |text: &str| Command::parse(text).unwrap_or_else(|unknown| panic!("{text}: {unknown:?}"));
        assert_eq!(good("show routes;"), Command::Routes(ROUTES));
        assert_eq!(good("SHOW  ROUTES /* so */ LIMIT 7"), Command::Routes(7));
        let question = |sql: &str, database: Option<&str>, user: Option<&str>| {
            let own = |name: Option<&str>| name.map(str::to_owned);
            Command::Route(Question { sql: sql.to_owned(), database: own(database), user: own(user) })
        };
        assert_eq!(good("SHOW ROUTE FOR 'SELECT ''x'''"), question("SELECT 'x'", None, None));
        assert_eq!(good("SHOW ROUTE FOR $$SELECT 'x'$$"), question("SELECT 'x'", None, None));
        assert_eq!(
            good("show route for 'SELECT 1' user Ann database \"My app\""),
            question("SELECT 1", Some("My app"), Some("ann"))
        );
        let more = ["SHOW ROUTE FOR", "DISCARD COUNTERS"];
        let bare = |name: &str| !more.contains(&name) && !name.ends_with(" SERVER");
        for (name, _) in COMMANDS.iter().filter(|(name, _)| bare(name)) {
            good(name);
        }
        let change = |what, database: Option<&str>| {
            let address = "10.0.0.2:5432".parse().unwrap();
            Command::Change(Change { what, address, database: database.map(str::to_owned) })
        };
        assert_eq!(good("add server '10.0.0.2'"), change(What::Add(Orders::default()), None));
        let orders = Orders { weight: 3, zone: Some("a".into()), ..Orders::default() };
        assert_eq!(
            good("ADD SERVER '10.0.0.2:5432' DATABASE app ZONE 'a' WEIGHT 3;"),
            change(What::Add(orders), Some("app"))
        );
        assert_eq!(good("REMOVE SERVER '10.0.0.2'"), change(What::Remove, None));
        assert_eq!(good("DRAIN SERVER '10.0.0.2' DATABASE \"My app\""), change(What::Drain, Some("My app")));
        assert_eq!(good("ENABLE SERVER '10.0.0.2'"), change(What::Enable, None));
        assert_eq!(good("WEIGH SERVER '10.0.0.2' 5"), change(What::Weigh(5), None));
        assert_eq!(good("FLUSH COUNTERS"), Command::Flush(None));
        assert_eq!(
            good("flush counters public.\"Photos\";"),
            Command::Flush(Some("public.Photos".to_owned()))
        );
        assert_eq!(good("DISCARD COUNTERS Photos"), Command::Discard("photos".to_owned()));
    }

    #[test]
    fn what_is_no_command_hears_of_the_nearest() {
        let bad = |text: &str| Command::parse(text).unwrap_err();
        assert_eq!(bad("SHOW ROUTS").hint, "Perhaps you meant SHOW ROUTES. SHOW HELP lists all commands.");
        let hint = bad("ADD SERVER").hint;
        assert!(hint.starts_with("ADD SERVER 'host:port' [WEIGHT n]"), "{hint}");
        assert_eq!(bad("SHOW ROUTES LIMIT x").message, "SHOW ROUTES is not used like this");
        assert_eq!(bad("SHOW ROUTE FOR SELECT 1").message, "SHOW ROUTE FOR is not used like this");
        assert_eq!(bad("SELECT 1").hint, "SHOW HELP lists all commands.");
        assert_eq!(bad("WEIGH SERVER 'a' 0").message, "WEIGH SERVER is not used like this");
        for text in [
            "SHOW",
            "SHOW ROUTE FOR 'x' DATABASE",
            "SHOW ROUTE FOR 'x' USER a USER b",
            "SHOW POOLS 1",
            "RELOAD 1",
            "ADD SERVER",
            "ADD SERVER a",
            "ADD SERVER 'a:0'",
            "REMOVE SERVER 'a' WEIGHT 2",
            "WEIGH SERVER 'a'",
            "DRAIN SERVER 'a' DATABASE x DATABASE y",
        ] {
            bad(text);
        }
    }

    proptest! {
        #[test]
        fn any_text(text: String) {
            let _ = Command::parse(&text);
            let _ = Command::parse(&format!("SHOW ROUTE FOR {text}"));
        }
    }
}
