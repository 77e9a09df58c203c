//! What a server says of those around it: who replicates from it, and whom it replicates from. Asked for now and then, over the
//! connection of its probe.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tokio_postgres::SimpleQueryRow;

use super::ask::Session;
use super::link::LinkError;
use super::{Cluster, Options};
use crate::clock::Duration;
use crate::cluster::ProbeResult;
use crate::ids::Node;
use crate::net::Address;

/// What a server says of itself and its neighbours.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// It replays what another server writes.
    pub in_recovery: bool,
    /// When it was started, to the microsecond: two addresses that say the same are one server.
    pub started: Box<str>,
    /// Whether the monitor's role may see the rest: a member of `pg_monitor`, or of `pg_read_all_stats`, may.
    pub allowed: bool,
    /// It receives the log from another server.
    pub receives: bool,
    /// Which that is, if it was reached over TCP.
    pub upstream: Option<Address>,
    /// Where those are that stream the log from it, one for each.
    pub standbys: Vec<IpAddr>,
}

impl Report {
    /// What it says of itself only.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { in_recovery: true, started: self.started, allowed: true, ..Self::default() }
    }
}

/// One row for each standby, or one row. Subscribers are left out: they stream, too, and are no copies. More than a cluster may
/// have are of no use.
pub(super) const REPORT: &str = "SELECT pg_is_in_recovery(), extract(epoch FROM pg_postmaster_start_time()), \
    pg_has_role('pg_read_all_stats', 'USAGE'), receiver.pid IS NOT NULL, receiver.sender_host, receiver.sender_port, \
    host(standby.client_addr) \
    FROM (SELECT) AS one LEFT JOIN pg_stat_wal_receiver AS receiver ON true \
    LEFT JOIN pg_stat_replication AS standby ON standby.state = 'streaming' AND NOT EXISTS \
    (SELECT FROM pg_replication_slots AS slot WHERE slot.active_pid = standby.pid AND slot.slot_type = 'logical') \
    LIMIT 256";

/// What the rows say. None: nothing that makes sense.
pub(super) fn read(rows: &[SimpleQueryRow]) -> Option<Report> {
    let column = |row: &SimpleQueryRow, place: usize| row.try_get(place).ok().flatten().map(str::to_owned);
    let first = rows.first()?;
    let is = |place| column(first, place).as_deref() == Some("t");
    let port = column(first, 5).and_then(|port| port.parse().ok());
    // A host that begins with a slash is the folder of a socket.
    let host = column(first, 4).filter(|host| !host.is_empty() && !host.starts_with(['/', '@']));
    Some(Report {
        in_recovery: is(0),
        started: column(first, 1)?.into(),
        allowed: is(2),
        receives: is(3),
        upstream: host.zip(port).map(|(host, port)| Address::tcp(&host, port)),
        standbys: rows.iter().filter_map(|row| column(row, 6)?.parse().ok()).collect(),
    })
}

/// Asks whoever is at an address who it is.
///
/// # Errors
/// Nobody is there, or nobody who answers as PostgreSQL does.
pub async fn examine(address: &Address, options: &Options) -> Result<(ProbeResult, Report), LinkError> {
    let asked = timeout(options.timeout, async {
        let mut session = Session::open(address, options).await?;
        let result = session.ask(address, &mut true).await?;
        Ok((result, session.report().await?))
    });
    asked.await.unwrap_or(Err(LinkError::TimedOut(options.timeout)))
}

/// Longest that a column is waited for.
const COLUMN_WAIT: Duration = Duration::from_secs(1);

/// What a server is asked now and then, and who waits for the answer.
#[derive(Debug)]
pub(super) enum Order {
    /// A report.
    Report(oneshot::Sender<Report>),
    /// The first column of a query.
    Column(String, oneshot::Sender<Vec<String>>),
}

/// The way from who wants something to know to the probe that has the connection. The last who asks is answered.
#[derive(Debug, Default)]
pub(super) struct Errand {
    asked: Notify,
    order: Mutex<Option<Order>>,
}

impl Errand {
    fn send(&self, order: Order) {
        *self.order() = Some(order);
        self.asked.notify_one();
    }

    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// What to ask, and whom to answer.
    pub(super) fn take(&self) -> Option<Order> {
        self.order().take()
    }

    fn order(&self) -> MutexGuard<'_, Option<Order>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// Asks a server for a report. None: it did not answer in time.
    pub async fn report(&self, node: Node, options: &Options) -> Option<Report> {
        let (back, answer) = oneshot::channel();
        self.errand(node)?.send(Order::Report(back));
        timeout(options.timeout, answer).await.ok()?.ok()
    }

    /// Asks a server a query. None: it did not answer, or not in time.
    pub(super) async fn column(&self, node: Node, text: String) -> Option<Vec<String>> {
        let (back, answer) = oneshot::channel();
        self.errand(node)?.send(Order::Column(text, back));
        timeout(COLUMN_WAIT, answer).await.ok()?.ok()
    }
}
