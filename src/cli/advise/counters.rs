//! Which statements add to counters, the rules that would merge them, and what is in the way.

use serde::Serialize;

use super::source::{Counted, Sum};
use super::text::{key, quoted};
use crate::config;
use crate::counter::{Rule, check};
use crate::monitor::{LinkError, Visit};
use crate::sql::{Increment, Kind, Lexer, Token};

/// Statements that add to the same columns of a table's rows, found by the same key.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Counter {
    /// The table's schema, if statements say it.
    pub(super) schema: Option<Box<str>>,
    pub(super) table: Box<str>,
    pub(super) key: Vec<Box<str>>,
    pub(super) columns: Vec<Box<str>>,
    /// Those that are set to the time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) touch: Vec<Box<str>>,
    #[serde(flatten)]
    pub(super) sum: Sum,
    /// The fastest call, in milliseconds: about what one costs that nobody is in the way of.
    #[serde(rename = "least_ms")]
    pub(super) least: f64,
    /// Their texts.
    #[serde(rename = "texts")]
    pub(super) statements: Vec<String>,
    /// The rule, as a configuration has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
    /// The configuration has such a rule.
    pub(super) present: bool,
    /// Why they are not merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

impl Counter {
    /// Of one statement.
    pub(super) fn of(increment: Increment, counted: &Counted, statement: String) -> Self {
        let mut columns: Vec<_> = increment.adds.into_iter().map(|add| add.column).collect();
        columns.sort();
        let mut touch = increment.touches;
        touch.sort();
        let mut sum = Sum::default();
        sum.add(counted);
        Self {
            schema: increment.schema,
            table: increment.table,
            key: increment.keys.into_iter().map(|(column, _)| column).collect(),
            columns,
            touch,
            sum,
            least: counted.least,
            statements: vec![statement],
            rule: None,
            present: false,
            why: None,
        }
    }

    /// Its name as a rule has it.
    pub(super) fn name(&self) -> String {
        let schema = self.schema.as_ref().map(|schema| format!("{schema}.")).unwrap_or_default();
        schema + &self.table
    }

    /// Whether both are about the rows of one table, found by the same columns.
    fn is_like(&self, other: &Self) -> bool {
        self.schema == other.schema
            && self.table == other.table
            && self.key.len() == other.key.len()
            && self.key.iter().all(|column| other.key.contains(column))
    }

    fn join(&mut self, other: Self) {
        for (columns, more) in [(&mut self.columns, other.columns), (&mut self.touch, other.touch)] {
            let new: Vec<_> = more.into_iter().filter(|column| !columns.contains(column)).collect();
            columns.extend(new);
        }
        self.sum.join(other.sum);
        self.least = self.least.min(other.least);
        self.statements.extend(other.statements);
        self.present &= other.present;
    }

    /// The rule in a configuration whose entry has that name.
    pub(super) fn text(&self, database: &str) -> String {
        let list = |names: &[Box<str>]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let touch = list(&self.touch);
        let touch = if touch.is_empty() { touch } else { format!("touch = [{touch}]\n") };
        format!(
            "[[databases.{}.counters]]\ntable = {}\nkey = [{}]\ncolumns = [{}]\n{touch}",
            key(database),
            quoted(&self.name()),
            list(&self.key),
            list(&self.columns)
        )
    }

    /// What a configuration makes of the rule: so what is printed is what `pgweir check` accepts.
    fn parsed(&self) -> Result<Rule, String> {
        let text = format!("[databases.app]\nservers = [\"localhost\"]\n{}", self.text("app"));
        let parsed = config::parse(&text, "rule").map_err(|_| "no rule can say its names")?;
        let rule = parsed.databases.into_iter().flat_map(|database| database.counters).next();
        rule.filter(|rule| rule.schema == self.schema && rule.table == self.table)
            .ok_or_else(|| "no rule can name it: there is a dot in its name".to_owned())
    }

    /// Whether one of these rules is about it.
    fn is_in(&self, rules: &[Rule]) -> bool {
        rules.iter().any(|rule| {
            rule.schema == self.schema
                && rule.table == self.table
                && rule.key.len() == self.key.len()
                && self.key.iter().all(|column| rule.key.contains(column))
                && self.columns.iter().all(|column| rule.columns.contains(column))
                && self.touch.iter().all(|column| rule.touch.contains(column))
        })
    }
}

/// Asks the server about each, and joins what goes into one rule, or has the same in its way. Those that took most time come first.
pub(super) async fn judge(
    visit: &mut Visit,
    found: Vec<Counter>,
    known: &[Rule],
) -> Result<Vec<Counter>, LinkError> {
    let mut asked: Vec<Counter> = Vec::new();
    for mut one in found {
        one.present = one.is_in(known);
        // Statements that differ in spelling are asked about once.
        let known_why = one.why.is_some();
        let same = |other: &&mut Counter| {
            !known_why && other.is_like(&one) && (&other.columns, &other.touch) == (&one.columns, &one.touch)
        };
        if let Some(same) = asked.iter_mut().find(same) {
            same.join(one);
            continue;
        }
        if one.why.is_none() {
            one.why = match one.parsed() {
                Ok(rule) => check::refusal(&rule, &visit.rows(&check::question(&rule)).await?),
                Err(why) => Some(why),
            };
        }
        asked.push(one);
    }
    let mut joined: Vec<Counter> = Vec::new();
    for one in asked {
        match joined.iter_mut().find(|other| other.is_like(&one) && other.why == one.why) {
            Some(other) => other.join(one),
            None => joined.push(one),
        }
    }
    joined.sort_by(|one, other| other.sum.time.total_cmp(&one.sum.time));
    Ok(joined)
}

/// The text with the zero in `coalesce(votes, 0)` that the server has left out of it, as it leaves out every constant.
pub(super) fn with_zeros(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before: Vec<(Kind, String)> = Vec::new();
    for token in Lexer::new(text.as_bytes()) {
        let raw = text.get(token.start..token.end).unwrap_or_default();
        let is_zero = token.kind == Kind::Param && is_first_of_coalesce(&before);
        out.push_str(if is_zero { "0" } else { raw });
        if !matches!(token.kind, Kind::Space | Kind::Comment) {
            before.push((token.kind, folded(text, token)));
        }
    }
    out
}

/// Whether the tokens end with `coalesce(votes,` or `coalesce(photos.votes,`.
fn is_first_of_coalesce(tokens: &[(Kind, String)]) -> bool {
    let [before @ .., (Kind::Comma, _)] = tokens else { return false };
    let [before @ .., (Kind::Word | Kind::Quoted, _)] = before else { return false };
    let before = match before {
        [before @ .., (Kind::Word | Kind::Quoted, _), (Kind::Dot, _)] => before,
        before => before,
    };
    matches!(before, [.., (Kind::Word, called), (Kind::Open, _)] if called == "coalesce")
}

/// Why a statement is not merged that adds to a column as a counter does; none: it does not.
pub(super) fn almost(text: &str) -> Option<&'static str> {
    let tokens: Vec<(Kind, String)> = Lexer::new(text.as_bytes())
        .filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment))
        .map(|token| (token.kind, folded(text, token)))
        .collect();
    let is_name = |kind: Kind| matches!(kind, Kind::Word | Kind::Quoted);
    let adds = (0..tokens.len()).any(|from| {
        let [(kind, column), (_, equals), rest @ ..] = tokens.get(from..).unwrap_or_default() else {
            return false;
        };
        let (rest, coalesced) = match rest {
            [(_, called), (Kind::Open, _), rest @ ..] if called == "coalesce" => (rest, true),
            rest => (rest, false),
        };
        let rest = match rest {
            [(_, prefix), (Kind::Dot, _), rest @ ..] if !prefix.is_empty() => rest,
            rest => rest,
        };
        let (same, operator) = match rest {
            [(_, same), (Kind::Comma, _), _, (Kind::Close, _), (_, operator), ..] if coalesced => {
                (same, operator)
            }
            [(_, same), (Kind::Operator, operator), ..] if !coalesced => (same, operator),
            _ => return false,
        };
        is_name(*kind) && equals == "=" && same == column && matches!(operator.as_str(), "+" | "-")
    });
    let has = |word: &str| tokens.iter().any(|(kind, text)| *kind == Kind::Word && text == word);
    match tokens.first() {
        Some((Kind::Word, first)) if first == "update" && adds => {}
        Some((Kind::Word, first)) if first == "insert" && adds && has("conflict") => {
            return Some(
                "it is an INSERT in a form that is not merged, as far as can be seen without its constants",
            );
        }
        _ => return None,
    }
    Some(if has("returning") {
        "it has RETURNING: each client wants to see its own value"
    } else {
        "its condition, an assignment or an amount is more than a counter's"
    })
}

fn folded(text: &str, token: Token) -> String {
    let raw = text.get(token.start..token.end).unwrap_or_default();
    match token.kind {
        Kind::Word => raw.to_ascii_lowercase(),
        Kind::Quoted => raw.trim_matches('"').to_owned(),
        _ => raw.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::increment;

    fn counter(text: &str) -> Counter {
        let counted = Counted { calls: 10, time: 5.0, least: 0.1, ..Counted::default() };
        Counter::of(increment(text.as_bytes()).unwrap(), &counted, text.to_owned())
    }

    #[test]
    fn a_rule_is_what_a_configuration_accepts() {
        let votes = counter("UPDATE photos SET votes = votes + $1 WHERE id = $2");
        let expected =
            "[[databases.app.counters]]\ntable = \"photos\"\nkey = [\"id\"]\ncolumns = [\"votes\"]\n";
        assert_eq!(votes.text("app"), expected);
        assert!(votes.text("my db").starts_with("[[databases.\"my db\".counters]]\n"));
        let rule = votes.parsed().unwrap();
        assert!(votes.is_in(std::slice::from_ref(&rule)));

        let odd =
            counter("UPDATE \"S\".\"My \"\"x\"\"\" SET \"N\u{9b}\" = \"N\u{9b}\" + $1 WHERE \"É\" = $2");
        let rule = odd.parsed().unwrap();
        assert_eq!((rule.schema.as_deref(), &*rule.table), (Some("S"), "My \"x\""));
        assert_eq!((&*rule.key[0], &*rule.columns[0]), ("É", "N\u{9b}"));
        assert!(!votes.is_in(&[rule]));
        assert!(counter("UPDATE \"a.b\" SET n = n + $1 WHERE id = $2").parsed().is_err());
    }

    #[test]
    fn statements_about_the_same_rows_go_into_one_rule() {
        let mut one = counter("UPDATE t SET b = b + $1 WHERE x = $2 AND y = $3");
        let other = counter("UPDATE t SET c = c - $1, b = b + $2 WHERE y = $3 AND x = $4");
        assert!(one.is_like(&other));
        assert!(!one.is_like(&counter("UPDATE s.t SET b = b + $1 WHERE x = $2 AND y = $3")));
        assert!(!one.is_like(&counter("UPDATE t SET b = b + $1 WHERE x = $2")));
        one.join(other);
        assert!(one.text("a").contains("key = [\"x\", \"y\"]\ncolumns = [\"b\", \"c\"]\n"), "{one:?}");
        one.join(counter("UPDATE t SET c = c + $1, seen = now() WHERE x = $2 AND y = $3"));
        assert!(one.text("a").ends_with("columns = [\"b\", \"c\"]\ntouch = [\"seen\"]\n"), "{one:?}");
        assert_eq!((one.sum.statements, one.sum.calls), (3, 30));
    }

    #[test]
    fn a_constant_in_coalesce_is_taken_for_zero() {
        for (text, expected) in [
            ("SET n = coalesce(n, $1) + $2", "SET n = coalesce(n, 0) + $2"),
            ("SET n = COALESCE( t . \"n\" , $12 ) + $2", "SET n = COALESCE( t . \"n\" , 0 ) + $2"),
            ("SET n = greatest(n, $1), coalesce($2, $3)", "SET n = greatest(n, $1), coalesce($2, $3)"),
            ("$1", "$1"),
            ("", ""),
        ] {
            assert_eq!(with_zeros(text), expected);
        }
    }

    #[test]
    fn what_is_almost_a_counter() {
        for (text, is) in [
            ("UPDATE t SET n = n + $1 WHERE id = $2 RETURNING n", true),
            ("UPDATE t SET n = t.n - $1 WHERE id = $2 AND n > $3", true),
            ("UPDATE t SET a = $1, \"N\" = \"N\" + $2 WHERE id = $3", true),
            ("INSERT INTO t VALUES ($1) ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n", true),
            ("UPDATE t SET n = coalesce(t.n, $1) + $2 WHERE id = $3 AND m > $4", true),
            ("UPDATE t SET n = coalesce(m, $1) + $2 WHERE id = $3", false),
            ("UPDATE t SET n = coalesce(n, $1) WHERE id = $2", false),
            ("UPDATE t SET n = m + $1 WHERE id = $2", false),
            ("UPDATE t SET n = $1 WHERE id = $2", false),
            ("SELECT n FROM t WHERE n = n + $1 AND id = $2", false),
            ("", false),
        ] {
            assert_eq!(almost(text).is_some(), is, "{text}");
        }
    }
}
