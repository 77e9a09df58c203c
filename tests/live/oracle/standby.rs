//! One session on a real hot standby: what it says to a statement, and what the statement leaves behind without a word.

use pgweir::cli::demo::cluster::{Cluster, Postgres};
use tokio::time::{Duration, Instant, sleep};

use crate::programs::SOON;
use crate::raw::{Answer, Raw, query};
use crate::speaker::{Reply, Speaker};

/// What a statement may leave behind where nobody complains: session locks, settings, statements, cursors, channels, another
/// user; and what it may do to the server: counters set to zero, slots made, a restart of replay.
const TRACES: &str = "SELECT pg_catalog.concat_ws('|', \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'advisory'), \
    (SELECT pg_catalog.string_agg(name OPERATOR(pg_catalog.||) '=' OPERATOR(pg_catalog.||) setting, ',' ORDER BY name) \
       FROM pg_catalog.pg_settings WHERE source = 'session'), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_cursors), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_listening_channels()), \
    current_user, session_user, \
    (SELECT pg_catalog.count(stats_reset) FROM pg_catalog.pg_stat_database), \
    (SELECT pg_catalog.max(extract(epoch FROM stats_reset)) FROM pg_catalog.pg_stat_database), \
    (SELECT extract(epoch FROM stats_reset) FROM pg_catalog.pg_stat_bgwriter), \
    (SELECT pg_catalog.max(extract(epoch FROM stats_reset)) FROM pg_catalog.pg_stat_slru), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots), \
    (SELECT pg_catalog.pg_get_wal_replay_pause_state()))";

/// How a statement went on the standby.
#[derive(Debug)]
#[allow(dead_code, reason = "they are shown as they are")]
pub(super) enum Outcome {
    /// It ran.
    Ran,
    /// It failed as it would anywhere, with that SQLSTATE.
    Failed(String),
    /// The standby refused it because it is one.
    Refused(String),
    /// It was accepted, and left something behind.
    Silent { before: String, after: String },
}

/// A session on the standby.
pub(super) struct Standby {
    port: u16,
    database: String,
    speaker: Speaker,
    traces: String,
}

impl Standby {
    pub(super) async fn new(server: &Postgres, database: &str) -> Self {
        let speaker = Speaker::connect(server.port(), database).await.unwrap();
        let mut standby =
            Self { port: server.port(), database: database.to_owned(), speaker, traces: String::new() };
        standby.traces = standby.traces().await.unwrap();
        standby
    }

    /// A fresh session.
    pub(super) async fn renew(&mut self) {
        // Replay may be in the way of a login, too, and of the first statement behind it.
        let deadline = Instant::now() + SOON;
        loop {
            if let Ok(speaker) = Speaker::connect(self.port, &self.database).await {
                self.speaker = speaker;
                if let Some(traces) = self.traces().await {
                    self.traces = traces;
                    return;
                }
            }
            assert!(Instant::now() < deadline, "the standby lets nobody in");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// None in a session that cannot ask any more: its role may be gone.
    async fn traces(&mut self) -> Option<String> {
        let reply = self.speaker.simple(TRACES).await;
        reply.rows.into_iter().next()?.into_iter().next().filter(|_| reply.errors.is_empty())
    }

    /// Changes the session as the one on the primary was changed.
    pub(super) async fn follow(&mut self, setting: &str) {
        self.speaker.simple(setting).await;
        match self.traces().await {
            Some(traces) => self.traces = traces,
            None => self.renew().await,
        }
    }

    /// Runs a statement as a transaction of its own, and looks what it left. Parameters are NULL.
    pub(super) async fn run(&mut self, text: &str) -> Outcome {
        let parameters = parameters(text);
        let reply = if parameters > 0 {
            self.speaker.extended(text, parameters).await
        } else {
            self.speaker.simple(text).await
        };
        if reply.closed {
            // As any server does to a session that is told to end.
            self.renew().await;
            return Outcome::Failed("closed".to_owned());
        }
        // What opens a transaction that only reads; and a transaction that has failed.
        self.speaker.simple("ROLLBACK").await;
        let refused = refusal(&reply);
        let after = self.traces().await;
        if let Some(refused) = refused {
            return Outcome::Refused(refused);
        }
        let Some(after) = after else {
            self.renew().await;
            return Outcome::Failed("the session is lost".to_owned());
        };
        if after != self.traces {
            let before = std::mem::take(&mut self.traces);
            self.renew().await;
            return Outcome::Silent { before, after };
        }
        match reply.codes().first() {
            Some(&code) => Outcome::Failed(code.to_owned()),
            None => Outcome::Ran,
        }
    }
}

/// The highest `$n` in a text.
fn parameters(text: &str) -> u16 {
    let numbers = text.split('$').skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().unwrap_or(0)
    });
    numbers.filter(|&number| number < 100).max().unwrap_or(0)
}

/// What only a standby says. 55000 and 0A000 are said by all servers, so the message counts.
fn refusal(reply: &Reply) -> Option<String> {
    let found = reply.errors.iter().find(|(_, code, message)| {
        code == "25006"
            || ["0A000", "55000", "XX000"].contains(&code.as_str())
                && (message.contains("recovery")
                    || message.contains("unlogged")
                    || message.contains("hot standby"))
            || code == "55000" && message.contains("is not yet defined in this session")
    });
    found.map(|(_, code, message)| format!("{code} {message}"))
}

/// A session on the primary that obeys everything, COPY too.
pub(super) struct Writer {
    raw: Raw,
    address: std::net::SocketAddr,
}

/// Nothing that the scripts do takes longer when it can be done at all.
const LIMITS: (&str, &str) = ("options", "-c lock_timeout=2s -c synchronous_commit=on");

impl Writer {
    pub(super) async fn new(server: &Postgres) -> Self {
        let address = ([127, 0, 0, 1], server.port()).into();
        Self { raw: Raw::login(address, &[LIMITS]).await.unwrap(), address }
    }

    /// Runs it, whatever comes of it; gives the data to a COPY.
    pub(super) async fn run(&mut self, text: &str, data: Option<&str>) -> Option<Answer> {
        let answer = match self.raw.query(text).await {
            Ok(answer) if answer.tags.ends_with('G') => {
                let mut out = crate::raw::copy_data(data.unwrap_or_default().as_bytes());
                out.unsplit(crate::raw::copy_done());
                self.raw.send(&out).await.unwrap();
                self.raw.answer().await
            }
            other => other,
        };
        if let Ok(answer) = answer {
            return Some(answer);
        }
        self.raw = Raw::login(self.address, &[LIMITS]).await.unwrap();
        None
    }
}

/// Waits until the standby has all that the primary has done; over connections of its own.
pub(super) struct Replay {
    primary: Raw,
    standby: Raw,
}

impl Replay {
    pub(super) async fn new(cluster: &Cluster) -> Self {
        let login = |server: &Postgres| Raw::login(([127, 0, 0, 1], server.port()).into(), &[]);
        let (primary, standby) = tokio::join!(login(cluster.primary()), login(cluster.replica(0)));
        Self { primary: primary.unwrap(), standby: standby.unwrap() }
    }

    pub(super) async fn wait(&mut self, before: &str) {
        let position = self.primary.value("SELECT pg_current_wal_flush_lsn()").await;
        let asked = query(&format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"));
        let deadline = Instant::now() + SOON;
        let mut push = Instant::now() + Duration::from_millis(500);
        loop {
            self.standby.send(&asked).await.unwrap();
            if self.standby.answer().await.unwrap().value() == "t" {
                return;
            }
            if Instant::now() > push {
                // Whole pages are flushed by themselves: the end of a record may be in memory still, until somebody commits.
                self.primary.ok("SELECT pg_logical_emit_message(true, '', '')").await;
                push = deadline;
            }
            assert!(Instant::now() < deadline, "replay has not come to {position} before {before}");
            sleep(Duration::from_millis(1)).await;
        }
    }
}
