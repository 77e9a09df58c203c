//! `pgweir demo`: a real cluster, a small site's load, and a screen that shows where every statement went, and how many
//! votes became how many row updates.
//!
//! Everything runs in this process but the PostgreSQL servers, whose fixture ([`cluster`]) leaves nothing behind.

pub mod cluster;

mod latency;
mod load;
mod report;
mod screen;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use cluster::Cluster;
use load::{Load, Pace};
use report::Report;
use screen::{Frame, Screen};
use watch::Watch;

use crate::app::Pgweir;
use crate::clock;
use crate::config;

/// Shows pgweir at work: starts a PostgreSQL primary and replicas in a temporary folder, pgweir in front, and a small
/// site's load; shows where every statement goes, and how votes are merged; and removes everything at the end.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// End after this many seconds (default: at Ctrl-C)
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// How many replicas
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    replicas: u8,
    /// How many clients the site has
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// Statements a second that all clients together send at most
    #[arg(long, value_name = "N", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// A line a second instead of a live screen
    #[arg(long)]
    plain: bool,
    /// The final report as JSON on standard output, all else on standard error
    #[arg(long)]
    json: bool,
}

/// Runs the demo to its end. Success: every replica answered reads, the primary wrote, no client saw an error, and no
/// acknowledged write is missing or there twice.
///
/// # Errors
/// The cluster or pgweir does not start.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = Stop::listen()?;
        let site = tokio::select! {
            site = Site::start(args) => site?,
            () = stop.wait() => return Ok(ExitCode::FAILURE),
        };
        let report = site.run(args, &mut stop).await?;
        let text = if args.json { format!("{:#}\n", report.to_json()) } else { report.to_string() };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// The cluster with its data, and pgweir before it.
struct Site {
    /// Dropped before the cluster.
    pgweir: Pgweir,
    cluster: Cluster,
}

impl Site {
    async fn start(args: &Args) -> anyhow::Result<Self> {
        let _ = writeln!(
            std::io::stderr(),
            "Starting a PostgreSQL primary and {} replica(s) in a temporary folder ...",
            args.replicas
        );
        let max_connections = (u32::from(args.clients) + 50).max(200).to_string();
        let cluster = Cluster::builder()
            .replicas(usize::from(args.replicas))
            .setting("max_connections", &max_connections)
            // Its ANALYZE writes rows of its own, which count among those that pgweir is to have sent.
            .setting("autovacuum", "off")
            .start()
            .await?;
        load::seed(cluster.primary()).await?;
        cluster.wait_replayed(Duration::from_secs(30)).await?;
        let config = config::parse(&configuration(&cluster.servers()), "demo")
            .map_err(|complaints| anyhow::anyhow!("the demo's own configuration: {complaints}"))?;
        let pgweir = Pgweir::start(config).context("pgweir does not start")?;
        Ok(Self { pgweir, cluster })
    }

    /// Load and screen until the time is over; then everything is stopped, and the counts are taken.
    async fn run(self, args: &Args, stop: &mut Stop) -> anyhow::Result<Report> {
        let Self { pgweir, cluster } = self;
        let address = *pgweir.addresses().first().context("pgweir listens nowhere")?;
        let metrics = pgweir.metrics_address();
        let mut watch = Watch::start(&cluster, metrics).await;
        watch.wait_known(&cluster).await;

        let url = format!("postgres://{}@{address}/{}", cluster.superuser(), load::DATABASE);
        let metrics = metrics.map_or_else(|| "off".to_owned(), |address| format!("http://{address}/metrics"));
        let header = format!("pgweir demo\n  psql {url}\n  metrics {metrics}\n");
        let mut screen = Screen::new(args.plain, args.json, header);

        let load =
            Load::start(address, Pace { clients: usize::from(args.clients), rate: f64::from(args.rate) });
        show_until_end(args, stop, &mut screen, &mut watch, &cluster, &load).await;
        drop(screen);

        let tally = load.stop().await;
        let mut frame = Frame::new(watch.look_well(&cluster).await, &tally);
        pgweir.stop();
        // pgweir's metrics are gone with it; the servers' counters are complete only now, for a backend reports its
        // last ones when it ends.
        let votes_counted = load::votes_counted(cluster.primary()).await?;
        settle(&mut watch, &cluster, &mut frame).await;
        Ok(Report::new(frame, votes_counted))
    }
}

async fn show_until_end(
    args: &Args,
    stop: &mut Stop,
    screen: &mut Screen,
    watch: &mut Watch,
    cluster: &Cluster,
    load: &Load,
) {
    const EACH: Duration = Duration::from_secs(1);
    let start = clock::now();
    let mut last = start;
    let mut ticks = tokio::time::interval_at(start + EACH, EACH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = args.seconds.map(|seconds| start + Duration::from_secs(seconds));
    loop {
        let over = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.wait() => return,
            _ = ticks.tick() => {}
            () = over => return,
        }
        let frame = Frame::new(watch.look(cluster).await, load.tally());
        let now = clock::now();
        screen.show(frame, now - last, now - start);
        last = now;
    }
}

/// Waits until the servers' own counters stand still, and takes them over.
async fn settle(watch: &mut Watch, cluster: &Cluster, frame: &mut Frame) {
    const PATIENCE: Duration = Duration::from_secs(5);
    const STILL: Duration = Duration::from_millis(300);
    let deadline = clock::now() + PATIENCE;
    let mut stood_since = clock::now();
    while stood_since.elapsed() < STILL && clock::now() < deadline {
        tokio::time::sleep(STILL / 6).await;
        let look = watch.look(cluster).await;
        for (server, found) in frame.look.servers.iter_mut().zip(look.servers) {
            if (server.commits, server.rows_written) != (found.commits, found.rows_written) {
                (server.commits, server.rows_written) = (found.commits, found.rows_written);
                stood_since = clock::now();
            }
        }
    }
}

/// pgweir's configuration for these servers.
fn configuration(servers: &[String]) -> String {
    let quoted: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!(
        "listen = \"127.0.0.1:0\"\n\
         auth_type = \"trust\"\n\
         [metrics]\nlisten = \"127.0.0.1:0\"\n\
         [monitor]\nuser = \"postgres\"\n\
         [databases.{}]\nservers = [{}]\n{}",
        load::DATABASE,
        quoted.join(", "),
        load::COUNTERS
    )
}

/// The signals that end the demo.
struct Stop([Signal; 3]);

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
