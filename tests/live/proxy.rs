//! What the tests of the proxy share: a pgweir before a cluster, its metrics, and a look at the servers' backends.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use pgweir::app::Pgweir;
use pgweir::cli::demo::cluster::{Builder, Cluster, Postgres, eventually};
use pgweir::config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::raw::Raw;

/// Generous: nothing takes this long when all is well.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The longest that anything of a client that has gone may stay on a server. The promise is a second; the machine may be
/// busy with other tests.
pub(crate) const A_MOMENT: Duration = Duration::from_secs(3);

pub(crate) fn cluster() -> Builder {
    Cluster::builder().cache(env!("CARGO_TARGET_TMPDIR"))
}

/// A pgweir in this process. Dropped, it stops.
pub(crate) struct Proxy {
    pgweir: Pgweir,
}

impl Proxy {
    /// Starts it before `servers`; `settings` are lines for the table of its one database, `postgres`.
    pub(crate) fn before(servers: &[String], settings: &str) -> Self {
        Self::with(&configuration(servers, settings, ""))
    }

    /// Starts it with that configuration.
    pub(crate) fn with(text: &str) -> Self {
        Self::of(config::parse(text, "test").unwrap())
    }

    /// Starts it with that configuration, which was read already.
    pub(crate) fn of(config: config::Config) -> Self {
        Self { pgweir: Pgweir::start(config).unwrap() }
    }

    /// Starts it with the configuration in a file.
    pub(crate) fn of_file(path: &Path) -> Self {
        Self { pgweir: Pgweir::start(config::load(path).unwrap()).unwrap() }
    }

    /// A connection to its console.
    pub(crate) async fn console(&self) -> Raw {
        Raw::login(self.address(), &[("database", "pgweir")]).await.unwrap()
    }

    /// Starts it before all servers of the cluster, and waits until it knows them.
    pub(crate) async fn start(cluster: &Cluster, settings: &str) -> Self {
        let proxy = Self::before(&cluster.servers(), settings);
        proxy.knows(cluster.servers().len()).await;
        proxy.reads_catalog("postgres").await;
        proxy
    }

    /// Has a client use that database, and waits until its catalog is known.
    pub(crate) async fn reads_catalog(&self, database: &str) {
        drop(Raw::login(self.address(), &[("database", database)]).await.unwrap());
        let label = format!("dbname=\"{database}\"");
        eventually(SOON, || async { self.sum("pgweir_catalog_objects", &[&label]).await > 0.0 })
            .await
            .unwrap();
    }

    /// Waits until so many servers are up.
    pub(crate) async fn knows(&self, servers: usize) {
        eventually(SOON, || async { self.sum("pgweir_server_up", &[]).await as usize == servers })
            .await
            .unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.pgweir.addresses()[0]
    }

    pub(crate) async fn client(&self) -> Raw {
        Raw::login(self.address(), &[]).await.unwrap()
    }

    /// Everything that it counts, as Prometheus reads it.
    pub(crate) async fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.pgweir.metrics_address().unwrap()).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// The sum over all series of that name that have all these labels (written `label="value"`).
    pub(crate) async fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.metrics().await, name, labels)
    }

    /// Waits until that sum is what is expected: gauges are set once a second.
    pub(crate) async fn becomes(&self, name: &str, labels: &[&str], expected: f64) {
        let outcome =
            eventually(SOON, || async { (self.sum(name, labels).await - expected).abs() < 0.5 }).await;
        assert!(outcome.is_ok(), "{name}{labels:?} is not {expected}:\n{}", self.metrics().await);
    }
}

pub(crate) fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// A configuration for those servers: quick probes, patience with replicas on a busy machine, trusted clients, metrics on any port.
pub(crate) fn configuration(servers: &[String], settings: &str, more: &str) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\nworkers = 2\nauth_type = \"trust\"\nfreshness_wait = \"1s\"\n\
         [metrics]\nlisten = \"127.0.0.1:0\"\n\
         [monitor]\nuser = \"postgres\"\ninterval = \"200ms\"\ntimeout = \"1s\"\n\
         [catalog]\ncheck_interval = \"100ms\"\n\
         {more}\n[databases.postgres]\nservers = {servers:?}\n{settings}\n"
    )
}

/// What a server's backends are doing, seen over one connection that stays open.
pub(crate) struct Watch {
    client: tokio_postgres::Client,
}

/// The backends that work for clients of pgweir. One that is only starting (seen from PostgreSQL 18 on) has not said yet whose it is.
const OURS: &str = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'starting' \
                    AND application_name NOT IN ('pgweir-fixture', 'pgweir monitor')";

impl Watch {
    pub(crate) async fn new(server: &Postgres) -> Self {
        Self { client: server.connect("postgres").await.unwrap() }
    }

    /// The first column of all rows.
    pub(crate) async fn column(&self, text: &str) -> Vec<String> {
        let messages = self.client.simple_query(text).await.unwrap();
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        rows.collect()
    }

    pub(crate) async fn count(&self, condition: &str) -> usize {
        self.column(&format!("SELECT count(*) {OURS} AND {condition}")).await[0].parse().unwrap()
    }

    /// The process ids of the backends, in order.
    pub(crate) async fn pids(&self) -> Vec<String> {
        self.column(&format!("SELECT pid {OURS} ORDER BY pid")).await
    }

    /// Waits until as many backends as expected fulfil a condition.
    pub(crate) async fn becomes(&self, condition: &str, expected: usize, within: Duration) {
        let outcome = eventually(within, || async { self.count(condition).await == expected }).await;
        if outcome.is_err() {
            let text = format!("SELECT concat_ws(' | ', pid, state, wait_event, query) {OURS}");
            panic!("{condition}: not {expected} within {within:?}: {:#?}", self.column(&text).await);
        }
    }

    /// Waits until nothing of clients that have gone is left: every backend is idle, and nobody holds a lock.
    pub(crate) async fn calms_down(&self) {
        self.becomes("state <> 'idle'", 0, A_MOMENT).await;
        let locks = "SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid() AND locktype IN \
                     ('relation', 'advisory', 'transactionid', 'tuple') AND pid IN \
                     (SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' \
                      AND application_name NOT IN ('pgweir-fixture', 'pgweir monitor'))";
        assert_eq!(self.column(locks).await, ["0"]);
    }
}
