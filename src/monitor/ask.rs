//! What a server is asked, over a connection of tokio-postgres that is driven in the same task.

use std::pin::pin;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, NoTls, SimpleQueryMessage, SimpleQueryRow, Socket};
use tracing::warn;

use crate::auth::Secret;
use crate::cluster::ProbeResult;
use crate::net::Address;

use super::Options;

/// Who are you? The timeline: a primary's last checkpoint may be of the timeline before its promotion, but the name of
/// the WAL file that it writes begins with the present one. A replica's WAL receiver knows what it follows; a role that
/// may not see that (it takes pg_monitor) sees what the control file knows, which is minutes late at worst.
const FULL: &str = "SELECT pg_is_in_recovery(), current_setting('server_version_num'), \
    (SELECT system_identifier FROM pg_control_system()), \
    CASE WHEN pg_is_in_recovery() \
    THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), \
                  greatest((SELECT timeline_id FROM pg_control_checkpoint()), \
                           (SELECT min_recovery_end_timeline FROM pg_control_recovery())))::text \
    ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";

/// The same for a role that may not read the control file.
const PLAIN: &str = "SELECT pg_is_in_recovery(), current_setting('server_version_num'), NULL, \
    CASE WHEN pg_is_in_recovery() THEN (SELECT received_tli FROM pg_stat_wal_receiver)::text \
    ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";

/// Why a probe did not pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// PostgreSQL or the network said no.
    #[error("{}", innermost(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// Neither said anything.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection was closed without a word.
    #[error("the server closed the connection")]
    Closed,
    /// The answer has another form than asked for.
    #[error("the server's answer makes no sense")]
    Nonsense,
}

/// tokio-postgres says "error connecting to server" and keeps the interesting part as the source.
pub(super) fn innermost(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// An open connection and the future that moves its bytes.
pub(super) struct Session {
    client: Client,
    connection: Connection<Socket, NoTlsStream>,
    statement: &'static str,
}

impl Session {
    /// Connects and logs in. A host name is resolved anew.
    pub(super) async fn open(address: &Address, options: &Options) -> Result<Self, Failure> {
        let mut config = Config::new();
        config.user(&*options.login.user).dbname(&options.database).application_name("pgweir monitor");
        match address {
            Address::Tcp { host, port } => config.host(host).port(*port),
            Address::Unix { folder, port } => config.host_path(folder).port(*port),
        };
        // A verifier cannot prove anything to a server that asks; one that trusts us does not ask.
        if let Some(Secret::Plain(password)) = &options.login.secret {
            config.password(password);
        }
        let (client, connection) = config.connect(NoTls).await?;
        Ok(Self { client, connection, statement: FULL })
    }

    /// One round trip. `denied` remembers that it was said that the role may not read everything.
    pub(super) async fn ask(&mut self, server: &Address, denied: &mut bool) -> Result<ProbeResult, Failure> {
        let first = self.run().await;
        let rows = match first {
            Err(Failure::Postgres(error)) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                if !std::mem::replace(denied, true) {
                    warn!(
                        %server,
                        why = innermost(&error),
                        "the monitor's role may not execute pg_control_system and its like: a server of another system \
                         would not be recognised"
                    );
                }
                self.statement = PLAIN;
                self.run().await?
            }
            other => other?,
        };
        let row = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        row.and_then(read).ok_or(Failure::Nonsense)
    }

    /// Ends when the connection does: at once when the server goes away, and it need not be asked for that.
    pub(super) async fn broken(&mut self) -> Failure {
        match (&mut self.connection).await {
            Err(error) => error.into(),
            Ok(()) => Failure::Closed,
        }
    }

    async fn run(&mut self) -> Result<Vec<SimpleQueryMessage>, Failure> {
        let Self { client, connection, statement } = self;
        let answer = pin!(client.simple_query(statement));
        tokio::select! {
            biased;
            rows = answer => Ok(rows?),
            end = connection => Err(end.map_or_else(Failure::from, |()| Failure::Closed)),
        }
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
    })
}
