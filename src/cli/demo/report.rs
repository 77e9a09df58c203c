//! What the demo says at its end: what went where by both witnesses, whether they agree, and whether all was well.

use std::fmt;

use serde_json::{Value, json};

use super::load::{Done, REPORT_UNITS};
use super::screen::{Frame, millis};
use super::watch::{Look, Merged, Server};

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

    fn merged(&self) -> Merged {
        self.look().merged
    }

    /// Row updates that acknowledged votes are: those that pgweir says it has merged them into, and one for each that went
    /// by itself.
    fn vote_rows(&self) -> u64 {
        self.merged().rows + self.done().votes.saturating_sub(self.merged().votes)
    }

    /// Each acknowledged vote is in the table, and nothing else. A vote that failed may be there all the same.
    fn votes_agree(&self) -> bool {
        let (there, acknowledged) = (self.votes_counted, self.done().votes);
        if self.done().errors == 0 { there == acknowledged } else { there >= acknowledged }
    }

    /// The primary has written the rows that pgweir says, and one for each comment. Where a merged statement has missed rows,
    /// its count is too high by these and too low by the votes that ran again.
    fn rows_agree(&self) -> bool {
        let (there, told) = (self.primary().rows_written, self.vote_rows() + self.done().comments);
        if self.done().errors == 0 {
            there.abs_diff(told) <= self.merged().unmatched
        } else {
            there + self.merged().unmatched >= told
        }
    }

    fn writes_agree(&self) -> bool {
        self.votes_agree() && self.rows_agree()
    }

    /// What pgweir counted and what the replicas committed. A read-only transaction is several units and one commit.
    fn replica_reads(&self) -> (u64, u64) {
        let units: u64 = self.replicas().iter().map(|replica| replica.units).sum();
        let commits: u64 = self.replicas().iter().map(|replica| replica.commits).sum();
        let begun = ("replica".to_owned(), "begin_read_only".to_owned());
        let reports = self.look().routes.get(&begun).copied().unwrap_or(0);
        (units, commits + reports * (REPORT_UNITS - 1))
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a demo")]
    fn reads_agree(&self) -> bool {
        let (units, statements) = self.replica_reads();
        units.abs_diff(statements) as f64 <= 10.0 + TOLERANCE * units.max(statements) as f64
    }

    /// The rule holds: votes go where they are merged, whether or not two came at once.
    fn votes_merged(&self) -> bool {
        self.merged().votes > 0 || self.done().votes == 0
    }

    /// Whether everything was as promised.
    pub(super) fn is_good(&self) -> bool {
        self.every_replica_read()
            && self.primary_wrote()
            && self.votes_merged()
            && self.done().errors == 0
            && self.writes_agree()
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
            "merged": {
                "votes": self.merged().votes, "row_updates": self.merged().rows, "statements": self.merged().flushes,
            },
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
            "  votes acknowledged: {}, in the table: {}: {}",
            done.votes,
            self.votes_counted,
            agree(self.votes_agree())
        )?;
        let merged = self.merged();
        writeln!(
            out,
            "  of these pgweir merged {} into {} row updates, in {} statements",
            merged.votes, merged.rows, merged.flushes
        )?;
        writeln!(
            out,
            "  rows written: {} by pgweir ({} for votes, {} for comments), {} by the primary: {}",
            self.vote_rows() + done.comments,
            self.vote_rows(),
            done.comments,
            self.primary().rows_written,
            agree(self.rows_agree())
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
        if !self.votes_merged() {
            writeln!(out, "  NOT GOOD: pgweir has merged no vote")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve votes, ten of them merged into three rows, and four comments.
    fn report(votes_counted: u64, rows_written: u64, unmatched: u64, errors: u64) -> Report {
        let done = Done { votes: 12, comments: 4, errors, ..Done::default() };
        let merged = Merged { votes: 10, rows: 3, flushes: 2, unmatched };
        let server = Server { rows_written, ..Server::default() };
        let look = Look { servers: vec![server], merged, ..Look::default() };
        Report::new(Frame { look, done, ..Frame::default() }, votes_counted)
    }

    #[test]
    fn every_vote_and_every_row_counts() {
        for (votes, rows, unmatched, errors, agree) in [
            (12, 9, 0, 0, true),
            (11, 9, 0, 0, false),
            (13, 9, 0, 0, false),
            (12, 8, 0, 0, false),
            (12, 10, 0, 0, false),
            (12, 10, 1, 0, true),
            (13, 10, 0, 1, true),
            (11, 10, 0, 1, false),
            (13, 8, 0, 1, false),
        ] {
            let report = report(votes, rows, unmatched, errors);
            assert_eq!(report.writes_agree(), agree, "{votes} {rows} {unmatched} {errors}");
            assert_eq!(report.to_string().contains("DISAGREE"), !agree);
        }
        assert!(report(12, 9, 0, 0).votes_merged());
    }
}
