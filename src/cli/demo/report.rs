//! What the demo says at its end: what went where by both witnesses, whether they agree, and whether all was well.

use std::fmt;

use serde_json::{Value, json};

use super::load::{Done, REPORT_STATEMENTS};
use super::screen::{Frame, millis};
use super::watch::{Look, Server};

/// How far the witnesses' counts of reads may lie apart: pgweir may look at a catalog or run a check of its own.
const TOLERANCE: f64 = 0.05;

/// The end's findings.
#[derive(Debug)]
pub(super) struct Report {
    frame: Frame,
    /// Votes in the table.
    votes_counted: u64,
}

impl Report {
    pub(super) fn new(frame: Frame, votes_counted: u64) -> Self {
        Self { frame, votes_counted }
    }

    fn done(&self) -> &Done {
        &self.frame.done
    }

    fn look(&self) -> &Look {
        &self.frame.look
    }

    fn primary(&self) -> Server {
        self.look().servers.first().cloned().unwrap_or_default()
    }

    fn replicas(&self) -> &[Server] {
        self.look().servers.get(1..).unwrap_or_default()
    }

    /// Reads were answered by every replica, as both witnesses say.
    fn every_replica_read(&self) -> bool {
        self.replicas().iter().all(|replica| replica.commits > 0 && replica.units > 0)
    }

    fn primary_wrote(&self) -> bool {
        self.primary().rows_written > 0 && self.primary().units > 0
    }

    /// Rows that acknowledged votes and comments wrote.
    fn rows_acknowledged(&self) -> u64 {
        self.done().votes + self.done().comments
    }

    /// Exact, for as long as no statement failed: each acknowledged write changed one row of the primary. A statement
    /// that failed may have been carried out all the same.
    fn writes_agree(&self) -> bool {
        let (votes, rows) = (self.votes_counted, self.primary().rows_written);
        if self.done().errors == 0 {
            votes == self.done().votes && rows == self.rows_acknowledged()
        } else {
            votes >= self.done().votes && rows >= self.rows_acknowledged()
        }
    }

    /// What pgweir counted and what the replicas committed. A read-only transaction is several units and one commit.
    fn replica_reads(&self) -> (u64, u64) {
        let units: u64 = self.replicas().iter().map(|replica| replica.units).sum();
        let commits: u64 = self.replicas().iter().map(|replica| replica.commits).sum();
        (units, commits + self.done().reports * u64::from(REPORT_STATEMENTS - 1))
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a demo")]
    fn reads_agree(&self) -> bool {
        let (units, statements) = self.replica_reads();
        units.abs_diff(statements) as f64 <= 10.0 + TOLERANCE * units.max(statements) as f64
    }

    /// Whether everything was as promised.
    pub(super) fn is_good(&self) -> bool {
        self.every_replica_read() && self.primary_wrote() && self.done().errors == 0 && self.writes_agree()
    }

    /// For machines.
    pub(super) fn to_json(&self) -> Value {
        let servers: Vec<Value> = self
            .look()
            .servers
            .iter()
            .map(|server| {
                json!({
                    "name": server.name, "address": server.address, "role": server.role,
                    "pgweir_units": server.units, "server_commits": server.commits,
                    "server_rows_written": server.rows_written,
                })
            })
            .collect();
        let routes: Vec<Value> = self
            .look()
            .routes
            .iter()
            .map(|((target, reason), count)| json!({"target": target, "reason": reason, "count": count}))
            .collect();
        let times = |times: &super::latency::Reading| json!({"p50_ms": times.percentile_ms(0.5), "p99_ms": times.percentile_ms(0.99)});
        let done = self.done();
        json!({
            "good": self.is_good(),
            "servers": servers,
            "routes": routes,
            "load": {
                "statements": done.statements, "views": done.views, "votes": done.votes,
                "comments": done.comments, "read_only_transactions": done.reports,
                "errors": done.errors, "last_error": done.last_error,
            },
            "latency": {"views": times(&self.frame.view_time), "votes": times(&self.frame.vote_time)},
            "votes_in_table": self.votes_counted,
            "reads_agree": self.reads_agree(),
            "writes_agree": self.writes_agree(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.done();
        writeln!(
            out,
            "\nIn the end: {} statements, {} errors seen by clients",
            done.statements, done.errors
        )?;
        if let Some(error) = &done.last_error {
            writeln!(out, "  the last error: {error}")?;
        }
        writeln!(out, "  {:<10}{:>12}{:>16}{:>14}", "", "pgweir sent", "server commits", "rows written")?;
        for server in &self.look().servers {
            writeln!(
                out,
                "  {:<10}{:>12}{:>16}{:>14}",
                server.name, server.units, server.commits, server.rows_written
            )?;
        }
        for ((target, reason), count) in &self.look().routes {
            writeln!(out, "  to {target}, because {reason}: {count}")?;
        }
        let (units, statements) = self.replica_reads();
        let agree = |agreed| if agreed { "they agree" } else { "THEY DISAGREE" };
        writeln!(
            out,
            "  reads on replicas: {units} by pgweir, {statements} by the servers: {}",
            agree(self.reads_agree())
        )?;
        writeln!(
            out,
            "  writes acknowledged: {} ({} votes), in the database: {} rows ({} votes): {}",
            self.rows_acknowledged(),
            done.votes,
            self.primary().rows_written,
            self.votes_counted,
            agree(self.writes_agree())
        )?;
        for (name, times) in [("page views", &self.frame.view_time), ("votes", &self.frame.vote_time)] {
            writeln!(out, "  {name}: p50 {}, p99 {}", millis(times, 0.5), millis(times, 0.99))?;
        }
        if !self.every_replica_read() {
            writeln!(out, "  NOT GOOD: a replica has seen no read")?;
        }
        if !self.primary_wrote() {
            writeln!(out, "  NOT GOOD: the primary has seen no write")?;
        }
        Ok(())
    }
}
