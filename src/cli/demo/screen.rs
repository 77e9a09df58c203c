//! What the demo shows while it runs: a screen that is drawn anew each second, or a line a second.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use super::latency::Reading;
use super::load::{Done, Tally};
use super::watch::Look;

/// The state of things at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub(super) look: Look,
    pub(super) done: Done,
    pub(super) view_time: Reading,
    pub(super) vote_time: Reading,
}

impl Frame {
    pub(super) fn new(look: Look, tally: &Tally) -> Self {
        let (view_time, vote_time) = (tally.view_time.reading(), tally.vote_time.reading());
        Self { look, done: tally.done(), view_time, vote_time }
    }
}

/// How to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    /// The terminal's whole window, drawn anew.
    Window,
    /// A line a second on standard output.
    Lines,
    /// A line a second on standard error: standard output is for the report.
    Aside,
}

/// Where frames are shown.
#[derive(Debug)]
pub(super) struct Screen {
    style: Style,
    /// What stays on top: where to connect.
    header: String,
    last: Frame,
}

impl Screen {
    /// Shows the header, and a window if standard output is a terminal.
    pub(super) fn new(plain: bool, json: bool, header: String) -> Self {
        let style = match (json, plain || !std::io::stdout().is_terminal()) {
            (true, _) => Style::Aside,
            (false, true) => Style::Lines,
            (false, false) => Style::Window,
        };
        let screen = Self { style, header, last: Frame::default() };
        if style != Style::Window {
            screen.put(&screen.header);
        }
        screen
    }

    /// Shows one frame, `elapsed` after the last and `since_start` after the first.
    pub(super) fn show(&mut self, frame: Frame, elapsed: Duration, since_start: Duration) {
        let seconds = elapsed.as_secs_f64().max(0.001);
        if self.style == Style::Window {
            // Hide the cursor, go home; and at the end of each line wipe what the last frame left there.
            let text = window(&self.header, &self.last, &frame, seconds, since_start);
            self.put(&format!("\x1b[?25l\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")));
        } else {
            self.put(&line(&self.last, &frame, seconds, since_start));
        }
        self.last = frame;
    }

    /// Writes; a closed pipe is no reason to leave servers behind.
    fn put(&self, text: &str) {
        if self.style == Style::Aside {
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        } else {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.style == Style::Window {
            self.put("\x1b[?25h\n");
        }
    }
}

/// What happened per second between two readings of a counter.
#[expect(clippy::cast_precision_loss, reason = "counts of a demo")]
fn rate(now: u64, then: u64, seconds: f64) -> f64 {
    now.saturating_sub(then) as f64 / seconds
}

fn line(last: &Frame, now: &Frame, seconds: f64, since_start: Duration) -> String {
    let mut text = format!(
        "{:4.0} s  {:6.0} stmt/s ",
        since_start.as_secs_f64(),
        rate(now.done.statements, last.done.statements, seconds)
    );
    for (index, server) in now.look.servers.iter().enumerate() {
        let before = last.look.servers.get(index).cloned().unwrap_or_default();
        let (units, commits) =
            (rate(server.units, before.units, seconds), rate(server.commits, before.commits, seconds));
        let _ = write!(text, " {} {units:.0}/{commits:.0}", server.name);
        if server.up == Some(false) {
            text.push_str(" DOWN");
        }
    }
    let merged = now.look.merged.since(last.look.merged);
    let views = now.view_time.since(&last.view_time);
    let _ = writeln!(
        text,
        "  votes {} in {} rows  views p50 {} p99 {}  errors {}",
        merged.votes,
        merged.rows,
        millis(&views, 0.5),
        millis(&views, 0.99),
        now.done.errors
    );
    text
}

fn window(header: &str, last: &Frame, now: &Frame, seconds: f64, since_start: Duration) -> String {
    let mut text = format!("{header}\n");
    let _ = writeln!(
        text,
        "{:.0} s, {:.0} statements/s, {} page views, {} votes, {} comments, {} read-only transactions\n",
        since_start.as_secs_f64(),
        rate(now.done.statements, last.done.statements, seconds),
        now.done.views,
        now.done.votes,
        now.done.comments,
        now.done.reports
    );
    servers(&mut text, last, now, seconds);
    votes(&mut text, last, now);
    routes(&mut text, last, now, seconds);
    let _ = writeln!(text, "{:<12}{:>10}{:>10}   (the last second)", "latency", "p50", "p99");
    let times = [
        ("page views", now.view_time.since(&last.view_time)),
        ("votes", now.vote_time.since(&last.vote_time)),
    ];
    for (name, times) in times {
        let _ = writeln!(text, "{name:<12}{:>10}{:>10}", millis(&times, 0.5), millis(&times, 0.99));
    }
    let _ = write!(text, "\nerrors seen by clients: {}", now.done.errors);
    if let Some(error) = &now.done.last_error {
        let _ = write!(text, "   the last: {error}");
    }
    text.push_str("\nCtrl-C ends the demo and removes everything.\n");
    text
}

fn servers(text: &mut String, last: &Frame, now: &Frame, seconds: f64) {
    let _ = writeln!(
        text,
        "{:<10}{:<17}{:<9}{:<6}{:>14}{:>18}{:>16}",
        "server", "address", "role", "up", "pgweir sent/s", "server commits/s", "rows written/s"
    );
    for (index, server) in now.look.servers.iter().enumerate() {
        let before = last.look.servers.get(index).cloned().unwrap_or_default();
        let up = match server.up {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "?",
        };
        let _ = writeln!(
            text,
            "{:<10}{:<17}{:<9}{:<6}{:>14.0}{:>18.0}{:>16.0}",
            server.name,
            server.address,
            if server.role.is_empty() { "?" } else { &server.role },
            up,
            rate(server.units, before.units, seconds),
            rate(server.commits, before.commits, seconds),
            rate(server.rows_written, before.rows_written, seconds)
        );
    }
    text.push('\n');
}

fn votes(text: &mut String, last: &Frame, now: &Frame) {
    let (all, second) = (now.look.merged, now.look.merged.since(last.look.merged));
    let _ = writeln!(
        text,
        "votes merged: {} into {} row updates; since the last look {} into {}, in {} statements\n",
        all.votes, all.rows, second.votes, second.rows, second.flushes
    );
}

fn routes(text: &mut String, last: &Frame, now: &Frame, seconds: f64) {
    let _ = writeln!(text, "{:<10}{:<28}{:>10}{:>12}", "target", "reason", "count", "per second");
    if !now.look.metrics {
        text.push_str("(pgweir's metrics cannot be read)\n");
    }
    for (route @ (target, reason), &count) in &now.look.routes {
        let before = last.look.routes.get(route).copied().unwrap_or(0);
        let _ = writeln!(text, "{target:<10}{reason:<28}{count:>10}{:>12.0}", rate(count, before, seconds));
    }
    text.push('\n');
}

/// A percentile, as text.
pub(super) fn millis(times: &Reading, share: f64) -> String {
    times.percentile_ms(share).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"))
}
