//! `pgweir route`: where a statement would go, and why. The same judge and the same function as the proxy's.

use std::io::{self, BufRead as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::fail;
use crate::config;
use crate::route::{self, Judge, JudgeOptions, Scope, Session, Topology};

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// The statement, or several as one simple Query
    #[arg(required_unless_present = "batch")]
    sql: Option<String>,
    /// A configuration, for its lists of functions
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    sentence: &'static str,
    sql: &'a str,
}

/// Answers.
pub(super) fn run(question: &Question) -> ExitCode {
    let options = match &question.config {
        None => JudgeOptions::default(),
        Some(file) => match config::load(file) {
            Ok(config) => config.judge,
            Err(complaints) => return fail(&complaints.to_string()),
        },
    };
    let judge = Judge::new(options);
    let outcome = match &question.sql {
        Some(sql) => one(&judge, sql, question.json),
        None => batch(&judge),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format!("pgweir: {error}")),
    }
}

/// Outside a transaction, on a fresh session, with a primary and replicas up.
fn answer<'a>(judge: &Judge, sql: &'a str) -> Answer<'a> {
    let session = Session { transaction: None, pinned: false, text_safe: true };
    let topology = Topology { primary: true, replicas: 1 };
    let route = route::decide(judge.facts(sql.as_bytes(), &Scope::without_catalog()), session, topology);
    let reason = route.reason;
    Answer { target: route.target.code(), reason: reason.code(), sentence: reason.sentence(), sql }
}

fn one(judge: &Judge, sql: &str, json: bool) -> io::Result<ExitCode> {
    let answer = answer(judge, sql);
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
    } else {
        writeln!(out, "{}  {}\n{}", answer.target, answer.reason, answer.sentence)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn batch(judge: &Judge) -> io::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut code = ExitCode::SUCCESS;
    for line in io::stdin().lock().lines() {
        let line = line?;
        match serde_json::from_str::<Line>(&line) {
            Ok(Line { sql }) => writeln!(out, "{}", serde_json::to_string(&answer(judge, &sql))?)?,
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
