//! `pgweir route`: where a statement would go, and why. The same judge and the same function as the proxy's.

use std::io::{self, BufRead as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::fail;
use crate::route::{self, Catalog, Judge, JudgeOptions, Known, Scope, SearchPath, Session, Topology};
use crate::{config, monitor};

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// The statement, or several as one simple Query
    #[arg(required_unless_present = "batch")]
    sql: Option<String>,
    /// A configuration, for its lists of functions
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A database whose catalog tells what its own functions and views do: a URL, or key=value pairs as libpq takes them
    #[arg(long, value_name = "URL")]
    connect: Option<String>,
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
    let scope = match &question.connect {
        None => Scope::without_catalog(),
        Some(connection) => match scope(connection, &options) {
            Ok(scope) => scope,
            Err(error) => return fail(&format!("pgweir: the catalog could not be read: {error}")),
        },
    };
    let court = Court { judge: Judge::new(options), scope };
    let outcome = match &question.sql {
        Some(sql) => court.one(sql, question.json),
        None => court.batch(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format!("pgweir: {error}")),
    }
}

/// The catalog that a login sees, read once.
fn scope(connection: &str, options: &JudgeOptions) -> anyhow::Result<Scope> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = runtime.block_on(monitor::read_once(connection))?;
    let catalog = Catalog::build(&seen.rows, &options.read_only_functions, &options.write_functions);
    Ok(Scope::new(Known::Loaded(Arc::new(catalog)), SearchPath::parse(&seen.search_path, &seen.user)))
}

/// Who judges, and what names mean there.
struct Court {
    judge: Judge,
    scope: Scope,
}

impl Court {
    /// Outside a transaction, on a fresh session, with a primary and replicas up.
    fn answer<'a>(&self, sql: &'a str) -> Answer<'a> {
        let session = Session { transaction: None, pinned: false, text_safe: true };
        let topology = Topology { primary: true, replicas: 1 };
        let route = route::decide(self.judge.facts(sql.as_bytes(), &self.scope), session, topology);
        let reason = route.reason;
        let catalog = matches!(self.scope.known(), Known::Loaded(_));
        Answer {
            target: route.target.code(),
            reason: reason.code(),
            catalog,
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
