//! `pgweir route`: where a statement would go, and why. The same judge and the same function as the proxy's.

use std::io::{self, BufRead as _, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::court::{self, Court};
use super::fail;
use crate::counter::Rule;
use crate::monitor::Seen;
use crate::route::Reason;
use crate::route::rules::Who;
use crate::sql::{asks_own_process, fingerprint};
use crate::{config, monitor};

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// The statement, or several as one simple Query
    // It may begin with a comment.
    #[arg(required_unless_present = "batch", allow_hyphen_values = true)]
    sql: Option<String>,
    /// A configuration, for its lists of functions
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A database whose catalog tells what its own functions and views do: a URL, or key=value pairs as libpq takes them
    #[arg(long, value_name = "URL")]
    connect: Option<String>,
    /// Whose rules and mode count: the first database of the configuration if none is named
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// The client's user, for rules
    #[arg(long, value_name = "NAME", default_value = "")]
    user: String,
    /// The client's application_name, for rules
    #[arg(long, value_name = "NAME", default_value = "")]
    application_name: String,
    /// The client's address, for rules
    #[arg(long, value_name = "ADDRESS")]
    client_address: Option<IpAddr>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Read one JSON object a line from standard input, {"sql": ...}, and answer each with one line of JSON
    #[arg(long, conflicts_with = "sql")]
    batch: bool,
}

/// One line of `--batch`.
#[derive(Debug, Deserialize)]
struct Line {
    sql: String,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    target: &'static str,
    reason: &'static str,
    /// Whether a catalog was asked what names mean.
    catalog: bool,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    /// Why it would go to a replica, if the database were not only observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    would: Option<&'static str>,
    /// The table whose counter's rule it goes by, outside a transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    counter: Option<String>,
    /// pgweir answers it itself outside transactions.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    own: bool,
    /// Its shape, as rules name it.
    shape: String,
    sentence: &'static str,
    sql: &'a str,
}

/// Answers.
pub(super) fn run(question: &Question) -> ExitCode {
    let answers = match answers(question) {
        Ok(answers) => answers,
        Err(error) => return fail(&error.to_string()),
    };
    let outcome = match &question.sql {
        Some(sql) => answers.one(sql, question.json),
        None => answers.batch(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format!("pgweir route: {error}")),
    }
}

fn answers(question: &Question) -> anyhow::Result<Answers> {
    let config = question.config.as_ref().map(|file| config::load(file)).transpose()?;
    let wanted = question.database.as_deref();
    let entry = config.as_ref().map(|config| court::entry(config, wanted)).transpose();
    let entry = entry.map_err(|error| anyhow::anyhow!("pgweir route: {error}"))?.flatten();
    let seen = question.connect.as_deref().map(seen).transpose();
    let seen =
        seen.map_err(|error| anyhow::anyhow!("pgweir route: the catalog could not be read: {error}"))?;
    let who = Who {
        user: &question.user,
        database: wanted.or(entry.map(|database| database.name.as_str())).unwrap_or_default(),
        application_name: &question.application_name,
        address: question.client_address,
    };
    let counters = entry.map(|database| database.counters.clone()).unwrap_or_default();
    Ok(Answers { court: Court::new(config.as_ref(), entry, &who, seen.as_ref()), counters })
}

/// The catalog that a login sees, read once.
fn seen(connection: &str) -> anyhow::Result<Seen> {
    Ok(super::runtime()?.block_on(monitor::read_once(connection))?)
}

/// What is answered.
struct Answers {
    court: Court,
    /// The counters of the database.
    counters: Vec<Rule>,
}

impl Answers {
    fn answer<'a>(&'a self, sql: &'a str) -> Answer<'a> {
        let (_, route) = self.court.judge(sql);
        let reason = route.reason;
        Answer {
            target: if reason == Reason::Rejected { "none" } else { route.target.code() },
            reason: reason.code(),
            catalog: self.court.has_catalog(),
            rule: route.rule.and_then(|place| self.court.rules().get(place)).map(|rule| rule.name.as_str()),
            would: route.would.map(Reason::code),
            counter: Rule::for_text(&self.counters, sql.as_bytes()).map(Rule::quoted),
            own: reason == Reason::ServerState && asks_own_process(sql.as_bytes()).is_some(),
            shape: format!("{:016x}", fingerprint(sql.as_bytes())),
            sentence: reason.sentence(),
            sql,
        }
    }

    fn one(&self, sql: &str, json: bool) -> io::Result<ExitCode> {
        let answer = self.answer(sql);
        let mut out = io::stdout().lock();
        if json {
            writeln!(out, "{}", serde_json::to_string(&answer)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        writeln!(out, "{}  {}\n{}", answer.target, answer.reason, answer.sentence)?;
        if let Some(rule) = answer.rule {
            writeln!(out, "By the rule {rule:?}.")?;
        }
        if let Some(table) = &answer.counter {
            writeln!(
                out,
                "It is merged with others by the rule for the counters of {table}, outside a transaction and unless the table \
                 forbids it (pgweir check --connect)."
            )?;
        }
        if answer.own {
            writeln!(
                out,
                "Outside transactions, and unless pool_mode is session, pgweir answers it itself: with the number that the \
                 client was told at its login."
            )?;
        }
        if let Some(would) = answer.would {
            writeln!(out, "It would go to a replica ({would}) if the database were not only observed.")?;
        }
        if !answer.catalog {
            writeln!(
                out,
                "No catalog was asked (--connect): functions of your own are not known, and views are taken for tables."
            )?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn batch(&self) -> io::Result<ExitCode> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut code = ExitCode::SUCCESS;
        for line in io::stdin().lock().lines() {
            let line = line?;
            match serde_json::from_str::<Line>(&line) {
                Ok(Line { sql }) => writeln!(out, "{}", serde_json::to_string(&self.answer(&sql))?)?,
                Err(error) => {
                    // One answer a line, so that whoever asked can count.
                    writeln!(out, "{}", serde_json::json!({ "error": error.to_string() }))?;
                    code = ExitCode::FAILURE;
                }
            }
            out.flush()?;
        }
        Ok(code)
    }
}
