//! The advice as people read it.

use std::fmt::{self, Display, Formatter};

use super::advice::{Advice, Group, Line};
use super::counters::Counter;
use super::source::{By, MOST, Sum};
use super::text::{mean, percent, printable, time};

impl Display for Advice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.merging(f)?;
        self.moving(f)?;
        self.staying(f)?;
        self.others(f)?;
        self.sum(f)
    }
}

impl Advice {
    fn head(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Sum { statements, calls, time: all, .. } = self.all;
        let (database, user) = (printable(&self.database, 64), printable(&self.user, 64));
        let since = self.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
        let source = match self.source {
            By::Server => "pg_stat_statements",
            By::Pgweir => "what went through this pgweir, for all of its databases, since it was started",
        };
        writeln!(f, "Database {database}, as the role {user} sees it: {source}{since}")?;
        writeln!(f, "{statements} statements, {calls} calls, {}", time(all))?;
        if self.hidden.statements > 0 {
            let (calls, part) = (self.hidden.calls, percent(self.hidden.time, all));
            writeln!(
                f,
                "NOT SEEN: {calls} calls of other roles, {part:.1} % of the time. hint: GRANT pg_read_all_stats TO {user}"
            )?;
        }
        if self.is_replica {
            writeln!(
                f,
                "This server is a replica: it has counted what ran here, not what ran on the primary."
            )?;
        }
        if self.forgotten > 0 {
            let times = self.forgotten;
            writeln!(f, "What was seldom called was forgotten {times} times: raise pg_stat_statements.max")?;
        }
        if self.all.statements > MOST as u64 {
            writeln!(f, "Only the {MOST} statements that took most time were looked at.")?;
        }
        Ok(())
    }

    fn merging(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (calls, part) = (self.worth.calls, self.worth.percent);
        writeln!(f, "\nCOUNTERS WORTH MERGING: at least {calls} calls and {part} % of the time")?;
        if self.counters.is_empty() {
            writeln!(f, "  none{}", if self.present.is_empty() { "" } else { " that has no rule yet" })?;
        }
        for (nth, counter) in self.counters.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            self.counter(f, counter)?;
            write!(f, "\n{}", counter.rule.as_deref().unwrap_or_default())?;
        }
        if !self.present.is_empty() {
            writeln!(f, "\nCOUNTERS THAT HAVE A RULE: the configuration merges them already")?;
        }
        for counter in &self.present {
            self.counter(f, counter)?;
        }
        if !self.seldom.is_empty() {
            writeln!(f, "\nCOUNTERS THAT SELDOM COME: a rule would do, and gain little")?;
        }
        for counter in &self.seldom {
            self.counter(f, counter)?;
        }
        if !self.refused.is_empty() || !self.almost.is_empty() {
            writeln!(f, "\nADDITIONS THAT CANNOT BE MERGED")?;
        }
        for counter in &self.refused {
            self.counter(f, counter)?;
            writeln!(f, "    {}", printable(counter.why.as_deref().unwrap_or_default(), 300))?;
        }
        self.lines(f, &self.almost)
    }

    fn counter(&self, f: &mut Formatter<'_>, counter: &Counter) -> fmt::Result {
        let list = |names: &[Box<str>]| printable(&names.join(", "), 200);
        let (table, key) = (printable(&counter.name(), 130), list(&counter.key));
        writeln!(f, "  {table} ({key}): {}", list(&counter.columns))?;
        let Sum { calls, time: taken, .. } = counter.sum;
        let part = percent(taken, self.all.time);
        let mean = time(mean(taken, calls));
        let least = match self.source {
            By::Server => format!(", {} at least", time(counter.least)),
            By::Pgweir => String::new(),
        };
        writeln!(f, "    {calls} calls, {}, {part:.1} % of the time; {mean} on average{least}", time(taken))?;
        counter.statements.iter().try_for_each(|statement| writeln!(f, "    {statement}"))
    }

    fn moving(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Sum { statements, calls, time: taken, .. } = self.moves;
        let part = percent(taken, self.all.time);
        writeln!(
            f,
            "\nREADS THAT WOULD MOVE TO REPLICAS: {statements} statements, {calls} calls, {part:.1} % of the time"
        )?;
        if self.begun > 0 {
            let begun = self.begun;
            writeln!(
                f,
                "  {begun} transactions were begun, not READ ONLY: what ran in them stays on the primary, though it is counted here."
            )?;
        }
        self.lines(f, &self.moving)
    }

    fn staying(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Sum { statements, calls, time: taken, .. } = self.stays;
        let part = percent(taken, self.all.time);
        writeln!(
            f,
            "\nREADS THAT WOULD NOT: {statements} statements, {calls} calls, {part:.1} % of the time"
        )?;
        for group in &self.staying {
            writeln!(f, "  {}: {}", group.reason, group.sentence)?;
            if let Some(help) = group.help {
                writeln!(f, "  What helps: {help}.")?;
            }
            self.lines(f, &group.lines)?;
        }
        Ok(())
    }

    fn lines(&self, f: &mut Formatter<'_>, lines: &[Line]) -> fmt::Result {
        for line in lines {
            self.row(f, line.sum, &line.statement)?;
            if !line.because.is_empty() {
                writeln!(f, "{:36}because of: {}", "", line.because.join(", "))?;
            }
        }
        Ok(())
    }

    /// One line of a table: calls, time, share.
    fn row(&self, f: &mut Formatter<'_>, sum: Sum, what: &str) -> fmt::Result {
        let part = percent(sum.time, self.all.time);
        writeln!(f, "  {:>12} {:>11} {part:>5.1} %  {what}", sum.calls, time(sum.time))
    }

    fn others(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nEVERYTHING ELSE: writes, and what sessions and transactions are made of")?;
        self.row(f, self.writes, "writes")?;
        if self.own.statements > 0 {
            self.row(f, self.own, "pgweir's own: what carries out increments")?;
        }
        for Group { reason, sum, .. } in &self.rest {
            self.row(f, *sum, reason)?;
        }
        if self.hidden.statements > 0 {
            self.row(f, self.hidden, "not seen")?;
        }
        if self.others.statements > 0 {
            self.row(f, self.others, "not told apart: raise [routing] route_shapes")?;
        }
        Ok(())
    }

    fn sum(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let part = |sum: Sum| percent(sum.time, self.all.time);
        let (moves, stays, merges) = (part(self.moves), part(self.stays), part(self.merges));
        writeln!(
            f,
            "\nIN ALL: {moves:.1} % of the time moves to replicas, {stays:.1} % is reads that do not; merging counters affects {merges:.1} %."
        )
    }
}
