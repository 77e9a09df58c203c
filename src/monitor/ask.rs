//! What a server is asked, to know who it is and how it is.

use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;
use tracing::warn;

use crate::clock::Duration;
use crate::cluster::ProbeResult;
use crate::net::Address;
use crate::position::{Flushed, Lsn, Reached};

use super::Options;
use super::link::{Link, LinkError, innermost};
use super::report::{self, Order, Report};

/// What [`reached`] reads.
macro_rules! reached {
    () => {
        "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END, \
    pg_size_bytes(current_setting('wal_segment_size')), \
    CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END, current_setting('wal_writer_delay'), \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END"
    };
}

/// Whether commits wait for replicas.
macro_rules! synchronous {
    () => {
        ", current_setting('synchronous_standby_names') <> ''"
    };
}

/// Who are you? The timeline: a primary's last checkpoint may be of the timeline before its promotion, but the name of
/// the WAL file that it writes begins with the present one. A replica's WAL receiver knows what it follows; a role that
/// may not see that (it takes pg_monitor) sees what the control file knows, which is minutes late at worst.
const FULL: &str = concat!(
    "SELECT pg_is_in_recovery(), current_setting('server_version_num'), \
    (SELECT system_identifier FROM pg_control_system()), \
    CASE WHEN pg_is_in_recovery() \
    THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), \
                  greatest((SELECT timeline_id FROM pg_control_checkpoint()), \
                           (SELECT min_recovery_end_timeline FROM pg_control_recovery())))::text \
    ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, ",
    reached!(),
    synchronous!()
);

/// The same for a role that may not read the control file.
const PLAIN: &str = concat!(
    "SELECT pg_is_in_recovery(), current_setting('server_version_num'), NULL, \
    CASE WHEN pg_is_in_recovery() THEN (SELECT received_tli FROM pg_stat_wal_receiver)::text \
    ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, ",
    reached!(),
    synchronous!()
);

/// How far have you come? What is inserted may not be flushed yet; but with `synchronous_commit = off` commits are
/// acknowledged before they are.
const POSITION: &str = concat!("SELECT pg_is_in_recovery(), ", reached!());

/// An open connection, and what is asked over it.
pub(super) struct Session {
    link: Link,
    statement: &'static str,
}

/// How often a question is asked that is cancelled each time.
const MOST_TRIES: u32 = 5;

impl Session {
    /// Connects and logs in. A host name is resolved anew.
    pub(super) async fn open(address: &Address, options: &Options) -> Result<Self, LinkError> {
        let link = Link::open(address, &options.login, &options.database).await?;
        Ok(Self { link, statement: FULL })
    }

    /// One round trip. `denied` remembers that it was said that the role may not read everything.
    pub(super) async fn ask(
        &mut self,
        server: &Address,
        denied: &mut bool,
    ) -> Result<ProbeResult, LinkError> {
        let first = self.insist(self.statement).await;
        let rows = match first {
            Err(LinkError::Postgres(error)) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                if !std::mem::replace(denied, true) {
                    warn!(
                        %server,
                        why = innermost(&error),
                        "the monitor's role may not execute pg_control_system and its like: a server of another system \
                         would not be recognised"
                    );
                }
                self.statement = PLAIN;
                self.insist(self.statement).await?
            }
            other => other?,
        };
        rows.first().and_then(read).ok_or(LinkError::Nonsense)
    }

    /// Whether it is in recovery, and how far it has come.
    pub(super) async fn position(&mut self) -> Result<(bool, Reached), LinkError> {
        let rows = self.insist(POSITION).await?;
        let row = rows.first().ok_or(LinkError::Nonsense)?;
        let in_recovery = row.try_get(0).ok().flatten() == Some("t");
        Ok((in_recovery, reached(in_recovery, row, 1)))
    }

    /// Asks again what somebody has cancelled: that says nothing about the server.
    async fn insist(&mut self, text: &str) -> Result<Vec<SimpleQueryRow>, LinkError> {
        for _ in 1..MOST_TRIES {
            match self.link.query(text).await {
                Err(failure) if failure.is_cancelled() => {}
                answer => return answer,
            }
        }
        self.link.query(text).await
    }

    /// Runs an errand. Nobody may wait for its answer any more.
    pub(super) async fn run(&mut self, order: Order) -> Result<(), LinkError> {
        match order {
            Order::Report(back) => drop(back.send(self.report().await?)),
            Order::Column(text, back) => {
                let rows = self.insist(&text).await?;
                let first = |row: &SimpleQueryRow| row.try_get(0).ok().flatten().map(str::to_owned);
                drop(back.send(rows.iter().filter_map(first).collect()));
            }
        }
        Ok(())
    }

    /// Who replicates from it, and whom it replicates from.
    pub(super) async fn report(&mut self) -> Result<Report, LinkError> {
        let rows = self.link.query(report::REPORT).await?;
        report::read(&rows).ok_or(LinkError::Nonsense)
    }

    /// Ends when the connection does: at once when the server goes away, and it need not be asked for that.
    pub(super) async fn broken(&mut self) -> LinkError {
        self.link.broken().await
    }
}

fn read(row: &SimpleQueryRow) -> Option<ProbeResult> {
    let column = |place: usize| row.try_get(place).ok().flatten();
    let in_recovery = match column(0)? {
        "t" => true,
        "f" => false,
        _ => return None,
    };
    // `pg_walfile_name` writes hexadecimal digits, `received_tli` decimal ones.
    let radix = if in_recovery { 10 } else { 16 };
    Some(ProbeResult {
        in_recovery,
        version: column(1)?.parse().ok()?,
        // PostgreSQL shows the unsigned number as a signed one.
        system_identifier: column(2).and_then(|text| text.parse::<i64>().ok()).map(i64::cast_unsigned),
        timeline: column(3).and_then(|text| u32::from_str_radix(text, radix).ok()).unwrap_or(0),
        reached: reached(in_recovery, row, 4),
        synchronous: !in_recovery && column(9) == Some("t"),
    })
}

/// The columns from `first` on: position, size of a segment, what is on disk and when, what has been received.
fn reached(in_recovery: bool, row: &SimpleQueryRow, first: usize) -> Reached {
    let column = |place: usize| row.try_get(first + place).ok().flatten();
    Reached {
        position: position(in_recovery, column(0), column(1)),
        flushed: flushed(column(2), column(3)),
        received: column(4).and_then(|text: &str| text.parse().ok()),
    }
}

/// What is on disk; `delay` is a span of time as PostgreSQL shows it.
fn flushed(lsn: Option<&str>, delay: Option<&str>) -> Option<Flushed> {
    /// Added to what PostgreSQL promises, for a busy machine.
    const MORE: Duration = Duration::from_millis(100);
    let delay = delay?;
    let digits = delay.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(delay.len());
    let (count, unit) = delay.split_at_checked(digits)?;
    let count: u64 = count.parse().ok()?;
    let delay = match unit {
        "ms" | "" => Duration::from_millis(count),
        "s" => Duration::from_secs(count),
        "min" => Duration::from_secs(count * 60),
        _ => return None,
    };
    Some(Flushed { lsn: lsn?.parse().ok()?, within: delay * 3 + MORE })
}

/// What a replica has replayed, or a primary written: its insert position, and the size of a segment of the log.
fn position(in_recovery: bool, position: Option<&str>, segment: Option<&str>) -> Option<Lsn> {
    let position: Lsn = position?.parse().ok()?;
    let segment = segment.and_then(|text| text.parse().ok()).unwrap_or(0);
    Some(if in_recovery { position } else { position.end_of_written(segment) })
}
