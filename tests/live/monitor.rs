//! The monitor against real servers: it finds the primary, and sees at once what happens to any of them.

use std::sync::Arc;
use std::time::Duration;

use pgweir::auth::Secret;
use pgweir::cli::demo::cluster::{Builder, Cluster};
use pgweir::clock;
use pgweir::cluster::{Health, Spread, Standing, View};
use pgweir::ids::Node;
use pgweir::metrics::Metrics;
use pgweir::monitor;
use pgweir::server::Login;
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(10);

fn cluster() -> Builder {
    Cluster::builder().cache(env!("CARGO_TARGET_TMPDIR"))
}

/// A monitored cluster; the probes end with it.
struct Watched {
    cluster: Arc<monitor::Cluster>,
    metrics: Arc<Metrics>,
    _probes: JoinSet<()>,
}

impl Watched {
    fn new(servers: &[String], user: &str) -> Self {
        Self::as_login(servers, &Login { user: user.into(), secret: None })
    }

    fn as_login(servers: &[String], login: &Login) -> Self {
        let metrics = Metrics::new();
        let addresses = servers.iter().map(|server| server.parse().unwrap()).collect();
        let cluster = monitor::Cluster::new(addresses, &metrics);
        let mut probes = JoinSet::new();
        for node in cluster.nodes() {
            let options = monitor::Options {
                login: login.clone(),
                database: "postgres".into(),
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
            };
            probes.spawn(Arc::clone(&cluster).probe(node, options));
        }
        Self { cluster, metrics, _probes: probes }
    }

    /// Waits for a primary and replicas; says how long that took.
    async fn becomes(&self, primary: Option<u16>, replicas: &[u16]) -> Duration {
        self.is(&format!("{primary:?} and {replicas:?}"), |view| {
            let found: Vec<u16> = view.replicas().map(|node| node.0).collect();
            view.primary().map(|node| node.0) == primary && found == replicas
        })
        .await
    }

    async fn is(&self, what: &str, pred: impl Fn(&View) -> bool) -> Duration {
        let start = clock::now();
        let found = self.cluster.wait_for(start + SOON, pred).await;
        assert!(found, "not {what}: {:#?}", self.cluster.view());
        println!("{what}: after {:?}", start.elapsed());
        start.elapsed()
    }
}

#[tokio::test]
async fn roles_are_found_and_followed() {
    let servers = cluster().replicas(2).start().await.unwrap();
    let watched = Watched::new(&servers.servers(), servers.superuser());
    watched.becomes(Some(0), &[1, 2]).await;
    let view = watched.cluster.view().clone();
    assert!(view.system_identifier.is_some(), "{view:#?}");
    assert!(view.servers.iter().all(|server| server.timeline == 1 && server.version > 130_000), "{view:#?}");

    // A replica dies: its broken connection tells, before any probe is due.
    servers.replica(1).kill().await.unwrap();
    let noticed = watched.becomes(Some(0), &[1]).await;
    assert!(noticed < Duration::from_millis(500), "{noticed:?}");
    servers.replica(1).start().await.unwrap();
    let noticed = watched.becomes(Some(0), &[1, 2]).await;
    assert!(noticed < Duration::from_millis(1500), "{noticed:?}");

    // The primary dies, the backup takes over; the other replica is of no use until it follows.
    servers.primary().kill().await.unwrap();
    watched.becomes(None, &[1, 2]).await;
    servers.replica(0).promote().await.unwrap();
    let noticed = watched.becomes(Some(1), &[]).await;
    assert!(noticed < Duration::from_millis(1500), "{noticed:?}");
    let standing = |view: &View, node: u16| view.server(Node(node)).unwrap().standing;
    assert_eq!(standing(&watched.cluster.view(), 2), Standing::Behind);
    servers.replica(1).follow(servers.replica(0)).await.unwrap();
    watched.becomes(Some(1), &[2]).await;
    let view = watched.cluster.view().clone();
    assert!(view.servers[1..].iter().all(|server| server.timeline == 2), "{view:#?}");

    // The old primary comes back, not knowing.
    servers.primary().start().await.unwrap();
    let fenced = |view: &View| view.servers[0].health == Health::Up && standing(view, 0) == Standing::Fenced;
    let noticed = watched.is("the old primary is up and fenced", fenced).await;
    assert!(noticed < Duration::from_millis(1500), "{noticed:?}");
    watched.becomes(Some(1), &[2]).await;

    watched.metrics.upkeep();
    let text = watched.metrics.render();
    let up = format!("pgweir_server_up{{server=\"{}\"}} 1\n", servers.replica(0).address());
    assert!(text.contains(&up), "{text}");
    let role =
        format!("pgweir_server_role{{server=\"{}\",role=\"primary\"}} 1\n", servers.replica(0).address());
    assert!(text.contains(&role), "{text}");
}

#[tokio::test]
async fn a_frozen_server_is_down_and_a_thawed_one_up() {
    let servers = cluster().replicas(1).start().await.unwrap();
    let watched = Watched::new(&servers.servers(), servers.superuser());
    watched.becomes(Some(0), &[1]).await;
    servers.replica(0).sigstop().await.unwrap();
    let noticed = watched.becomes(Some(0), &[]).await;
    assert!(noticed < Duration::from_millis(2500), "{noticed:?}");
    servers.replica(0).sigcont().unwrap();
    let noticed = watched.becomes(Some(0), &[1]).await;
    assert!(noticed < Duration::from_millis(2500), "{noticed:?}");
}

#[tokio::test]
async fn one_broken_connection_is_asked_about_and_forgiven() {
    let servers = cluster().replicas(1).start().await.unwrap();
    let watched = Watched::new(&servers.servers(), servers.superuser());
    watched.becomes(Some(0), &[1]).await;
    watched.cluster.lost(Node(1), "reset by peer");
    assert_eq!(watched.cluster.pick_replica(&Spread::default(), None, None, None), None);
    let noticed = watched.becomes(Some(0), &[1]).await;
    assert!(noticed < Duration::from_millis(500), "{noticed:?}");
    watched.cluster.connect_failed(Node(0), "refused");
    assert_eq!(watched.cluster.view().primary(), Some(Node(0)));
    // An administrator ends the monitor's own connection.
    let end =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgweir monitor'";
    servers.replica(0).sql(end).await.unwrap();
    watched.is("suspect or up again", |view| view.servers[1].health != Health::Down).await;
    watched.becomes(Some(0), &[1]).await;
}

#[tokio::test]
async fn a_copy_of_another_system_is_not_used() {
    let ours = cluster().replicas(1).start().await.unwrap();
    // Clusters out of one cache are copies of one system.
    let cache = tempfile::tempdir().unwrap();
    let other = Cluster::builder().cache(cache.path()).start().await.unwrap();
    let servers = [other.servers(), ours.servers()].concat();
    let watched = Watched::new(&servers, ours.superuser());
    // Two of three agree before the third was asked: what it is may be known a moment later.
    let foreign =
        |view: &View| view.server(Node(0)).is_some_and(|server| server.standing == Standing::Foreign);
    watched.is("foreign", foreign).await;
    watched.becomes(Some(1), &[2]).await;
}

#[tokio::test]
async fn an_ordinary_role_is_enough() {
    let servers = cluster().replicas(1).start().await.unwrap();
    servers.primary().sql("CREATE ROLE plain LOGIN").await.unwrap();
    let revoke = "REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() FROM PUBLIC";
    let watched = Watched::new(&servers.servers(), "plain");
    watched.becomes(Some(0), &[1]).await;
    println!("{:#?}", watched.cluster.view());
    servers.primary().sql(revoke).await.unwrap();
    servers.wait_replayed(SOON).await.unwrap();
    let watched = Watched::new(&servers.servers(), "plain");
    watched.becomes(Some(0), &[1]).await;
    let view = watched.cluster.view();
    assert_eq!(view.system_identifier, None);
    assert_eq!(view.server(Node(0)).unwrap().timeline, 1);

    // It is not shown what a replica follows: the control file must do.
    servers.primary().kill().await.unwrap();
    servers.replica(0).promote().await.unwrap();
    watched.becomes(Some(1), &[]).await;
}

#[tokio::test]
async fn an_ordinary_role_sees_a_replica_follow() {
    let servers = cluster().replicas(2).start().await.unwrap();
    servers.primary().sql("CREATE ROLE plain LOGIN; CREATE TABLE photos (id int)").await.unwrap();
    servers.wait_replayed(SOON).await.unwrap();
    let watched = Watched::new(&servers.servers(), "plain");
    watched.becomes(Some(0), &[1, 2]).await;
    servers.primary().kill().await.unwrap();
    servers.replica(0).promote().await.unwrap();
    servers.replica(1).follow(servers.replica(0)).await.unwrap();
    // What a replica follows reaches its control file with the first page that it writes; here a checkpoint asks for it.
    servers.replica(0).sql("INSERT INTO photos SELECT generate_series(1, 1000)").await.unwrap();
    servers.replica(0).sql("CHECKPOINT").await.unwrap();
    servers.replica(1).sql("CHECKPOINT").await.unwrap();
    watched.becomes(Some(1), &[2]).await;
}

#[tokio::test]
async fn a_password_a_name_and_a_socket() {
    let servers = cluster().hba("host all asked all scram-sha-256").start().await.unwrap();
    let primary = servers.primary();
    primary.sql("CREATE ROLE asked LOGIN PASSWORD 'secret'").await.unwrap();
    let name = format!("localhost:{}", primary.port());
    let login = |password: &str| Login { user: "asked".into(), secret: Some(Secret::Plain(password.into())) };
    Watched::as_login(std::slice::from_ref(&name), &login("secret")).becomes(Some(0), &[]).await;
    let wrong = Watched::as_login(&[name], &login("wrong"));
    wrong.is("down", |view| view.servers[0].health == Health::Down).await;
    let why = wrong.cluster.view().servers[0].why.clone();
    assert!(why.contains("28P01"), "{why}");
    let socket = format!("{}:{}", primary.socket_folder().display(), primary.port());
    Watched::new(&[socket], servers.superuser()).becomes(Some(0), &[]).await;
}
