//! Two independent witnesses of where statements went: pgweir's own metrics, scraped over HTTP as Prometheus would, and
//! each server's own counters, read over a direct connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::Client;

use super::cluster::{Cluster, Postgres};
use super::load::DATABASE;
use crate::clock;

/// Longest that one look may take: the screen is drawn each second.
const PATIENCE: Duration = Duration::from_millis(700);

/// What is known of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) address: String,
    /// By pgweir; `None` without metrics.
    pub(super) up: Option<bool>,
    /// By pgweir; empty without metrics.
    pub(super) role: String,
    /// Units that pgweir says it sent there.
    pub(super) units: u64,
    /// By the server: committed transactions in the site's database.
    pub(super) commits: u64,
    /// By the server: rows updated or inserted there.
    pub(super) rows_written: u64,
}

/// What pgweir says it has merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Merged {
    /// Votes in statements that were committed.
    pub(super) votes: u64,
    /// Row updates in these.
    pub(super) rows: u64,
    /// How many statements that were.
    pub(super) flushes: u64,
    /// Votes whose row such a statement did not find.
    pub(super) unmatched: u64,
}

/// One look at everything. All counts are since the demo's load began.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    pub(super) servers: Vec<Server>,
    /// Units by target and reason, by pgweir.
    pub(super) routes: BTreeMap<(String, String), u64>,
    pub(super) merged: Merged,
    /// Whether pgweir's metrics could be read.
    pub(super) metrics: bool,
}

/// Looks, and remembers what was counted before the load began.
#[derive(Debug)]
pub(super) struct Watch {
    metrics: Option<SocketAddr>,
    connections: Vec<Option<Client>>,
    start: Look,
    last: Look,
}

impl Watch {
    /// Begins to count from now on.
    pub(super) async fn start(cluster: &Cluster, metrics: Option<SocketAddr>) -> Self {
        let connections = cluster.all().iter().map(|_| None).collect();
        let servers = cluster
            .all()
            .iter()
            .map(|server| Server {
                name: server.name().to_owned(),
                address: server.address(),
                ..Server::default()
            })
            .collect();
        let nothing = Look { servers, ..Look::default() };
        let mut watch = Self { metrics, connections, start: nothing.clone(), last: nothing };
        watch.look_at(cluster).await;
        watch.start = watch.last.clone();
        watch
    }

    /// Looks at everything; what cannot be reached keeps its last numbers.
    pub(super) async fn look(&mut self, cluster: &Cluster) -> Look {
        self.look_at(cluster).await;
        self.last.since(&self.start)
    }

    /// Looks until pgweir's metrics could be read, but not for ever.
    pub(super) async fn look_well(&mut self, cluster: &Cluster) -> Look {
        const TIMES: u32 = 5;
        let mut look = self.look(cluster).await;
        for _ in 1..TIMES {
            if look.metrics || self.metrics.is_none() {
                break;
            }
            look = self.look(cluster).await;
        }
        look
    }

    /// Waits, not for ever, until pgweir knows all servers. (If it does not, the report will show it.)
    pub(super) async fn wait_known(&mut self, cluster: &Cluster) {
        const WITHIN: Duration = Duration::from_secs(5);
        const PAUSE: Duration = Duration::from_millis(50);
        let deadline = clock::now() + WITHIN;
        while self.metrics.is_some() && clock::now() < deadline && !self.look(cluster).await.all_known() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn look_at(&mut self, cluster: &Cluster) {
        for ((postgres, connection), server) in
            cluster.all().iter().zip(&mut self.connections).zip(&mut self.last.servers)
        {
            let asked = tokio::time::timeout(PATIENCE, own_counters(postgres, connection)).await;
            if let Ok(Ok((commits, rows_written))) = asked {
                (server.commits, server.rows_written) = (commits, rows_written);
            } else {
                *connection = None;
            }
        }
        let scraped = match self.metrics {
            Some(address) => tokio::time::timeout(PATIENCE, scrape(address)).await.ok().and_then(Result::ok),
            None => None,
        };
        self.last.metrics = scraped.is_some();
        if let Some(text) = scraped {
            self.last.read_metrics(&text);
        }
    }
}

impl Merged {
    /// What came after `then`.
    pub(super) fn since(self, then: Self) -> Self {
        Self {
            votes: self.votes.saturating_sub(then.votes),
            rows: self.rows.saturating_sub(then.rows),
            flushes: self.flushes.saturating_sub(then.flushes),
            unmatched: self.unmatched.saturating_sub(then.unmatched),
        }
    }
}

impl Look {
    /// Takes over what pgweir's metrics say.
    fn read_metrics(&mut self, text: &str) {
        self.routes.clear();
        self.merged = Merged::default();
        for sample in text.lines().filter_map(Sample::parse) {
            let server = sample.labels.get("server");
            let server = self.servers.iter_mut().find(|known| Some(&known.address) == server);
            match (sample.name, server) {
                ("pgweir_units_total", _) => {
                    let label = |name| sample.labels.get(name).cloned().unwrap_or_default();
                    *self.routes.entry((label("target"), label("reason"))).or_default() += sample.count();
                }
                ("pgweir_counter_increments_total", _) => self.merged.votes += sample.count(),
                ("pgweir_counter_rows_total", _) => self.merged.rows += sample.count(),
                ("pgweir_counter_flushes_total", _) => self.merged.flushes += sample.count(),
                ("pgweir_counter_unmatched_total", _) => self.merged.unmatched += sample.count(),
                ("pgweir_server_units_total", Some(server)) => server.units = sample.count(),
                ("pgweir_server_up", Some(server)) => server.up = Some(sample.value > 0.0),
                ("pgweir_server_role", Some(server)) if sample.value > 0.0 => {
                    server.role = sample.labels.get("role").cloned().unwrap_or_default();
                }
                _ => {}
            }
        }
    }

    fn since(&self, start: &Self) -> Self {
        let mut look = self.clone();
        for (now, then) in look.servers.iter_mut().zip(&start.servers) {
            now.units = now.units.saturating_sub(then.units);
            now.commits = now.commits.saturating_sub(then.commits);
            now.rows_written = now.rows_written.saturating_sub(then.rows_written);
        }
        for (route, count) in &mut look.routes {
            *count = count.saturating_sub(start.routes.get(route).copied().unwrap_or(0));
        }
        look.routes.retain(|_, count| *count > 0);
        look.merged = self.merged.since(start.merged);
        look
    }

    /// Whether pgweir has seen every server up, and one primary among them.
    pub(super) fn all_known(&self) -> bool {
        self.servers.iter().all(|server| server.up == Some(true))
            && self.servers.iter().any(|server| server.role == "primary")
    }
}

/// A server's own counters. The connection is to another database, so that looking does not count.
async fn own_counters(server: &Postgres, connection: &mut Option<Client>) -> anyhow::Result<(u64, u64)> {
    let client = match connection.take() {
        Some(client) if !client.is_closed() => client,
        _ => server.connect("postgres").await?,
    };
    let text = "SELECT xact_commit, tup_updated + tup_inserted FROM pg_stat_database WHERE datname = $1";
    let row = client.query_one(text, &[&DATABASE]).await?;
    let counter = |column| row.try_get::<_, i64>(column).map(i64::unsigned_abs);
    let counters = (counter(0)?, counter(1)?);
    *connection = Some(client);
    Ok(counters)
}

/// GET /metrics, without more HTTP than that needs.
async fn scrape(address: SocketAddr) -> anyhow::Result<String> {
    const LONGEST: u64 = 4 << 20;
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    anyhow::ensure!(head.split(' ').nth(1) == Some("200"), "{}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}

/// One line of Prometheus' text format.
struct Sample<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, String>,
    value: f64,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let Some((name, mut rest)) = line.split_once('{') else {
            let (name, value) = line.split_once(' ')?;
            return Some(Self { name, labels: BTreeMap::new(), value: value.trim().parse().ok()? });
        };
        let mut labels = BTreeMap::new();
        while let Some((label, after)) = rest.split_once("=\"") {
            // pgweir's label values hold no quotation marks.
            let (value, after) = after.split_once('"')?;
            labels.insert(label, value.to_owned());
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        Some(Self { name, labels, value: rest.strip_prefix('}')?.trim().parse().ok()? })
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter")]
    fn count(&self) -> u64 {
        self.value as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let server = Server { address: "127.0.0.1:5432".to_owned(), ..Server::default() };
        let mut look = Look { servers: vec![server], ..Look::default() };
        look.read_metrics(
            "# TYPE pgweir_units_total counter\n\
             pgweir_client_connections_total 4\n\
             pgweir_units_total{database=\"photos\",target=\"replica\",reason=\"read\"} 3\n\
             pgweir_units_total{database=\"other\",target=\"replica\",reason=\"read\"} 4\n\
             pgweir_counter_increments_total{database=\"photos\",table=\"photos\"} 50\n\
             pgweir_counter_rows_total{database=\"photos\",table=\"photos\"} 9\n\
             pgweir_counter_flushes_total{database=\"photos\",table=\"photos\"} 5\n\
             pgweir_server_units_total{server=\"127.0.0.1:5432\"} 7\n\
             pgweir_server_units_total{server=\"127.0.0.1:9\"} 8\n\
             pgweir_server_up{server=\"127.0.0.1:5432\"} 1\n\
             pgweir_server_role{server=\"127.0.0.1:5432\",role=\"replica\"} 0\n\
             pgweir_server_role{server=\"127.0.0.1:5432\",role=\"primary\"} 1\n",
        );
        assert_eq!(look.routes, BTreeMap::from([(("replica".to_owned(), "read".to_owned()), 7)]));
        assert_eq!((look.servers[0].units, look.servers[0].role.as_str()), (7, "primary"));
        assert!(look.all_known());
        assert_eq!(look.merged, Merged { votes: 50, rows: 9, flushes: 5, unmatched: 0 });
    }
}
