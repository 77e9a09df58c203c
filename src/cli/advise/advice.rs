//! What is made of a database's statements: which would move, which would not and why, and which are counters. Pure.

use std::borrow::Cow;

use serde::Serialize;

use super::counters::{Counter, almost, with_zeros};
use super::shapes::with_parameters;
use super::source::{By, Counted, Place, Source, Sum};
use super::text;
use crate::cli::court::Court;
use crate::counter::is_own;
use crate::route::{Class, Reason, Target};
use crate::sql::{fingerprint, increment};

/// What makes a counter worth a rule.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Worth {
    pub(super) calls: u64,
    /// Of the time of all statements.
    pub(super) percent: f64,
}

/// Statements of one shape.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) statement: String,
    /// Its shape, as rules name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<String>,
    #[serde(flatten)]
    pub(super) sum: Sum,
    /// What is in the way: names, or what is not a counter's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) because: Vec<String>,
}

/// Statements with one reason.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub(super) reason: &'static str,
    pub(super) sentence: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) help: Option<&'static str>,
    #[serde(flatten)]
    pub(super) sum: Sum,
    pub(super) lines: Vec<Line>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Advice {
    pub(super) source: By,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) is_replica: bool,
    pub(super) since: Option<String>,
    pub(super) forgotten: u64,
    pub(super) all: Sum,
    pub(super) hidden: Sum,
    pub(super) others: Sum,
    /// Transactions that were begun, and may write.
    pub(super) begun: u64,
    pub(super) worth: Worth,
    /// Worth merging.
    pub(super) counters: Vec<Counter>,
    /// The configuration has their rules.
    pub(super) present: Vec<Counter>,
    /// They could be merged, but seldom come.
    pub(super) seldom: Vec<Counter>,
    /// They cannot.
    pub(super) refused: Vec<Counter>,
    /// They add to a column, and are more than counters.
    pub(super) almost: Vec<Line>,
    pub(super) merges: Sum,
    pub(super) moves: Sum,
    pub(super) moving: Vec<Line>,
    pub(super) stays: Sum,
    pub(super) staying: Vec<Group>,
    pub(super) writes: Sum,
    /// What pgweir sends to carry out increments.
    pub(super) own: Sum,
    pub(super) rest: Vec<Group>,
}

/// What becomes of a statement.
enum Fate {
    /// A read, to a replica.
    Moves,
    /// A read, to the primary.
    Stays(Reason),
    Writes,
    /// It is pgweir's own: it would not come without a rule.
    Own,
    Rest(Reason),
}

fn fate(counted: &Counted, court: &Court) -> Fate {
    // As in the proxy: a unit that is not looked at as a whole.
    if let Some((target, reason)) = counted.judged {
        return match (target, reason) {
            (Target::Replica, Reason::Read) => Fate::Moves,
            (_, reason) => not_a_read(reason),
        };
    }
    let Some(text) = &counted.text else { return Fate::Rest(Reason::UnitTooLong) };
    if is_own(text) {
        return Fate::Own;
    }
    let (facts, route) = court.judge(text);
    match (facts.class, route.reason) {
        (_, Reason::Rejected) => Fate::Rest(Reason::Rejected),
        (Class::Read, _) if route.target == Target::Replica || route.would.is_some() => Fate::Moves,
        (Class::Read, reason) => Fate::Stays(reason),
        (_, reason) => not_a_read(reason),
    }
}

fn not_a_read(reason: Reason) -> Fate {
    match reason {
        Reason::Write | Reason::Into | Reason::Ddl | Reason::Maintenance | Reason::CopyIn => Fate::Writes,
        reason if is_of_a_read(reason) => Fate::Stays(reason),
        reason => Fate::Rest(reason),
    }
}

/// Whether that keeps statements on the primary that read, or at least have the form of it.
fn is_of_a_read(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Lock
            | Reason::VolatileFunction
            | Reason::PrimaryFunction
            | Reason::AdvisoryLock
            | Reason::QueryText
            | Reason::UnknownFunction
            | Reason::ListedFunction
            | Reason::Learned
            | Reason::UserFunction
            | Reason::View
            | Reason::Unlogged
            | Reason::ForeignTable
            | Reason::UnknownRelation
            | Reason::VolatileOperator
            | Reason::ServerState
            | Reason::Cursor
            | Reason::UnicodeName
            | Reason::SecondOpinion
    )
}

/// What would help, if anything does.
fn help(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::UserFunction => {
            "where such a function only reads, declare it so: ALTER FUNCTION ... STABLE; or name it in [routing] read_only_functions"
        }
        Reason::UnknownFunction => {
            "where such a function only reads, name it in [routing] read_only_functions"
        }
        Reason::View => "where what the view calls only reads, declare that so: ALTER FUNCTION ... STABLE",
        Reason::VolatileOperator => {
            "where the function behind it only reads, declare it so: ALTER FUNCTION ... STABLE"
        }
        Reason::Unlogged => {
            "ALTER TABLE ... SET LOGGED, where replicas are worth more than what that costs its writes"
        }
        Reason::UnknownRelation => {
            "say the schema in --connect (options=-csearch_path=...): names are looked up as for its role"
        }
        Reason::Lock => "leave out FOR UPDATE or FOR SHARE where nothing is written after it",
        Reason::Cursor => "declare it in a transaction READ ONLY: all of that runs on one replica",
        Reason::ListedFunction => "[routing] write_functions lists it",
        Reason::Hint => "a comment in the statement says so",
        Reason::Rule => "a rule of the configuration says so",
        Reason::Consistency => "a level of consistency below \"primary\"",
        Reason::NotOptedIn => "a rule with to = \"replica\", or mode = \"auto\"",
        Reason::UnicodeName => "write the name without Unicode escapes",
        Reason::SecondOpinion => "a report to pgweir's authors",
        _ => return None,
    })
}

/// By reason, in the order of the first.
#[derive(Default)]
struct Groups(Vec<Group>);

impl Groups {
    fn add(&mut self, reason: Reason, counted: &Counted, line: Option<Line>) {
        let known = self.0.iter().position(|group| group.reason == reason.code());
        let place = known.unwrap_or_else(|| {
            let (reason, sentence, help) = (reason.code(), reason.sentence(), help(reason));
            self.0.push(Group { reason, sentence, help, sum: Sum::default(), lines: Vec::new() });
            self.0.len() - 1
        });
        if let Some(group) = self.0.get_mut(place) {
            group.sum.add(counted);
            group.lines.extend(line);
        }
    }

    fn sorted(mut self) -> Vec<Group> {
        self.0.sort_by(|one, other| other.sum.time.total_cmp(&one.sum.time));
        self.0
    }
}

/// The text as it can be looked at: whole, and with parameters for its constants.
fn whole(counted: &Counted) -> Option<Cow<'_, str>> {
    let text = counted.text.as_deref()?;
    match counted.judged {
        Some(_) => with_parameters(text).map(Cow::Owned),
        None => Some(Cow::Borrowed(text)),
    }
}

/// A statement, and what is in its way.
fn line(counted: &Counted, because: Vec<String>) -> Line {
    let mut sum = Sum::default();
    sum.add(counted);
    let of_text = || Some(format!("{:016x}", fingerprint(counted.text.as_ref()?.as_bytes())));
    Line {
        statement: text::statement(counted.text.as_deref()),
        shape: counted.shape.clone().or_else(of_text),
        sum,
        because,
    }
}

impl Advice {
    /// Of all statements, and those of them that may be counters: the server has to be asked about these.
    pub(super) fn new(source: Source, court: &Court, worth: Worth, top: usize) -> (Self, Vec<Counter>) {
        let Source { place, all, hidden, others, statements } = source;
        let Place { by, database, user, is_replica, since, forgotten } = place;
        let mut advice = Self {
            source: by,
            database,
            user,
            is_replica,
            since,
            forgotten,
            all,
            hidden,
            others,
            begun: 0,
            worth,
            counters: Vec::new(),
            present: Vec::new(),
            seldom: Vec::new(),
            refused: Vec::new(),
            almost: Vec::new(),
            merges: Sum::default(),
            moves: Sum::default(),
            moving: Vec::new(),
            stays: Sum::default(),
            staying: Vec::new(),
            writes: Sum::default(),
            own: Sum::default(),
            rest: Vec::new(),
        };
        let (mut staying, mut rest, mut found) = (Groups::default(), Groups::default(), Vec::new());
        for counted in &statements {
            match fate(counted, court) {
                Fate::Moves => {
                    advice.moves.add(counted);
                    advice.moving.push(line(counted, Vec::new()));
                }
                Fate::Stays(reason) => {
                    advice.stays.add(counted);
                    let names = whole(counted).map(|text| court.culprits(&text)).unwrap_or_default();
                    let names = names.iter().map(|name| text::printable(name, 64)).collect();
                    staying.add(reason, counted, Some(line(counted, names)));
                }
                Fate::Own => advice.own.add(counted),
                Fate::Writes => {
                    advice.writes.add(counted);
                    found.extend(advice.addition(counted, court));
                }
                Fate::Rest(reason) => {
                    if reason == Reason::Begin {
                        advice.begun += counted.calls;
                    }
                    rest.add(reason, counted, None);
                }
            }
        }
        (advice.staying, advice.rest) = (staying.sorted(), rest.sorted());
        advice.moving.truncate(top);
        advice.almost.truncate(top);
        advice.staying.iter_mut().for_each(|group| group.lines.truncate(top));
        (advice, found)
    }

    /// The counter that a write adds to, if it does nothing else.
    fn addition(&mut self, counted: &Counted, court: &Court) -> Option<Counter> {
        let (shown, text) = (counted.text.as_deref()?, whole(counted)?);
        let text = &*text;
        if let Some(increment) = increment(with_zeros(text).as_bytes()) {
            let mut counter = Counter::of(increment, counted, text::statement(Some(shown)));
            if court.judge(text).1.limit.is_some() {
                counter.why = Some("a rule of the configuration limits how long it may run".to_owned());
            }
            return Some(counter);
        }
        if let Some(why) = almost(text) {
            self.almost.push(line(counted, vec![why.to_owned()]));
        }
        None
    }

    /// Takes in what the server says of them.
    pub(super) fn take(&mut self, judged: Vec<Counter>, database: &str, top: usize) {
        for mut counter in judged {
            counter.statements.truncate(top);
            let percent = text::percent(counter.sum.time, self.all.time);
            if counter.why.is_some() {
                self.refused.push(counter);
            } else if counter.present {
                self.merges.join(counter.sum);
                self.present.push(counter);
            } else if counter.sum.calls < self.worth.calls || percent < self.worth.percent {
                self.seldom.push(counter);
            } else {
                counter.rule = Some(counter.text(database));
                self.merges.join(counter.sum);
                self.counters.push(counter);
            }
        }
        self.counters.truncate(top);
        self.present.truncate(top);
        self.seldom.truncate(top);
        self.refused.truncate(top);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts as the server writes them, of versions 13 to 18, and texts that nobody should have sent: what becomes of each.
    #[test]
    fn whatever_the_server_has_counted_is_judged() {
        let court = Court::new(None, None, &crate::route::rules::Who::default(), None);
        let moves = [
            "SELECT $1",
            "SELECT a FROM t WHERE id IN ($1 /*, ... */)",
            "SELECT a FROM t WHERE b > now() - INTERVAL $1 LIMIT $2",
            "SELECT $1::date, CAST($2 AS int), EXTRACT($3 FROM a), ARRAY[$4 /*, ... */], DATE $5 FROM t",
            "WITH x AS (SELECT $1) SELECT * FROM x ORDER BY $2",
            "SHOW work_mem",
        ];
        let stays = ["SELECT a FROM t FOR UPDATE", "SELECT nextval($1)", "SELECT mine($1)", "SHOW all"];
        let writes =
            ["UPDATE t SET a = $1", "INSERT INTO t VALUES ($1 /*, ... */)", "VACUUM t", "CREATE TABLE t ()"];
        let rest = [
            "SET x = $1",
            "SET TIME ZONE $1",
            "DEALLOCATE $1",
            "BEGIN",
            "EXECUTE x",
            "CALL p($1)",
            "",
            ";",
            "SELECT 'open",
            "\u{0}\u{1b}[2J",
            "(((((",
        ];
        for (texts, code) in [(&moves[..], 'm'), (&stays, 's'), (&writes, 'w'), (&rest, 'r')] {
            for text in texts {
                let counted = Counted { text: Some((*text).to_owned()), calls: 1, ..Counted::default() };
                let fate = match fate(&counted, &court) {
                    Fate::Moves => 'm',
                    Fate::Stays(_) => 's',
                    Fate::Writes | Fate::Own => 'w',
                    Fate::Rest(_) => 'r',
                };
                assert_eq!(fate, code, "{text:?}");
            }
        }
        assert!(matches!(fate(&Counted::default(), &court), Fate::Rest(Reason::UnitTooLong)));
    }

    #[test]
    fn a_counter_is_worth_a_rule_by_calls_and_time() {
        let court = Court::new(None, None, &crate::route::rules::Who::default(), None);
        let text = |table: &str| Some(format!("UPDATE {table} SET n = n + $1 WHERE id = $2"));
        let counted = |table, calls, time| Counted { text: text(table), calls, time, ..Counted::default() };
        let statements =
            vec![counted("hot", 1_000, 50.0), counted("rare", 999, 40.0), counted("quick", 5_000, 0.9)];
        let source = Source { all: Sum { time: 100.0, ..Sum::default() }, statements, ..Source::default() };
        let worth = Worth { calls: 1_000, percent: 1.0 };
        let (mut advice, found) = Advice::new(source, &court, worth, 10);
        advice.take(found, "app", 10);
        let names = |counters: &[Counter]| counters.iter().map(Counter::name).collect::<Vec<_>>();
        assert_eq!(names(&advice.counters), ["hot"]);
        assert_eq!(names(&advice.seldom), ["rare", "quick"]);
        let shown = advice.to_string();
        assert!(shown.contains("merging counters affects 50.0 %"), "{shown}");
        // Nothing at all.
        let (advice, _) = Advice::new(Source::default(), &court, worth, 10);
        assert!(advice.to_string().contains("IN ALL: 0.0 %"));
    }
}
