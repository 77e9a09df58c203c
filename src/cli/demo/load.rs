//! The load: a small photo-voting site, as its web servers would use it. Pages are looked at, votes are cast, now and then
//! somebody comments; gently, for the point is where statements go, not how many fit. Once a second a photo is shown on
//! television, and everybody votes for it at once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, Statement};

use super::cluster::{Postgres, eventually_ok};
use super::latency::Latency;
use crate::clock::{self, Instant};

/// The site's database.
pub(super) const DATABASE: &str = "photos";

/// The rule by which its votes are merged, for pgweir's configuration.
pub(super) const COUNTERS: &str =
    "[[databases.photos.counters]]\ntable = \"photos\"\nkey = [\"id\"]\ncolumns = [\"votes\"]\n";

const PHOTOS: i32 = 500;

/// Rows that seeding inserts: owners, photos, comments.
const SEEDED: u64 = 50 + 500 + 2000;

const SCHEMA: &str = "
CREATE TABLE owners (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE photos (
    id int PRIMARY KEY, owner int NOT NULL REFERENCES owners, title text NOT NULL,
    taken timestamptz NOT NULL, votes bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE TABLE comments (
    id bigserial PRIMARY KEY, photo int NOT NULL REFERENCES photos,
    body text NOT NULL, written timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON photos (owner);
CREATE INDEX ON comments (photo, id);
INSERT INTO owners SELECT n, 'owner ' || n FROM generate_series(1, 50) n;
INSERT INTO photos SELECT n, 1 + n % 50, 'photo ' || n, now() - n * interval '1 hour' FROM generate_series(1, 500) n;
INSERT INTO comments (photo, body) SELECT 1 + n % 500, 'comment ' || n FROM generate_series(1, 2000) n;
ANALYZE;
";

const PHOTO: &str =
    "SELECT p.id, p.title, p.votes, o.name FROM photos p JOIN owners o ON o.id = p.owner WHERE p.id = $1";
const COMMENTS: &str = "SELECT body, written FROM comments WHERE photo = $1 ORDER BY id DESC LIMIT 10";
const BY_OWNER: &str = "SELECT id, title, votes FROM photos WHERE owner = $1 ORDER BY taken DESC LIMIT 12";
const POPULAR: &str = "SELECT id, title, votes FROM photos ORDER BY votes DESC, id LIMIT 20";
const TALKED_ABOUT: &str = "SELECT p.id, p.title, count(*) FROM photos p JOIN comments c ON c.photo = p.id \
     WHERE p.owner = $1 GROUP BY p.id ORDER BY count(*) DESC LIMIT 5";
const VOTE: &str = "UPDATE photos SET votes = votes + 1 WHERE id = $1";
/// The photo that is shown on television.
const FAMOUS: i32 = 1;

/// How often that is, and the share of all statements that are votes for it.
const RUSH_EACH: Duration = Duration::from_secs(1);
const RUSH_SHARE: f64 = 0.1;

const COMMENT: &str = "INSERT INTO comments (photo, body) VALUES ($1, 'what a photo')";

/// Makes the site's database on the primary, and waits until the server's own counters have it, so that what comes later
/// can be told from it.
pub(super) async fn seed(primary: &Postgres) -> anyhow::Result<()> {
    primary.sql(&format!("CREATE DATABASE {DATABASE}")).await?;
    primary.sql_in(DATABASE, SCHEMA).await?;
    let text = format!("SELECT tup_inserted >= {SEEDED} FROM pg_stat_database WHERE datname = '{DATABASE}'");
    primary.wait_value(&text, "t", Duration::from_secs(10)).await
}

/// How hard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) clients: usize,
    /// Statements a second, of all clients together.
    pub(super) rate: f64,
}

/// What the clients have done and seen so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    views: AtomicU64,
    reports: AtomicU64,
    votes: AtomicU64,
    comments: AtomicU64,
    statements: AtomicU64,
    errors: AtomicU64,
    last_error: Mutex<Option<String>>,
    pub(super) view_time: Latency,
    pub(super) vote_time: Latency,
}

/// A reading of a [`Tally`].
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    /// Page views: several SELECTs each.
    pub(super) views: u64,
    /// Read-only transactions.
    pub(super) reports: u64,
    /// Votes that were acknowledged.
    pub(super) votes: u64,
    /// Comments that were acknowledged.
    pub(super) comments: u64,
    /// All statements, BEGIN and COMMIT too.
    pub(super) statements: u64,
    /// Statements and connections that failed.
    pub(super) errors: u64,
    /// What the last of them said.
    pub(super) last_error: Option<String>,
}

impl Tally {
    pub(super) fn done(&self) -> Done {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Done {
            views: read(&self.views),
            reports: read(&self.reports),
            votes: read(&self.votes),
            comments: read(&self.comments),
            statements: read(&self.statements),
            errors: read(&self.errors),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn failed(&self, error: &anyhow::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error:#}"));
    }
}

/// The site's clients at work.
#[derive(Debug)]
pub(super) struct Load {
    tally: Arc<Tally>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

impl Load {
    /// Sends the clients to `address`.
    pub(super) fn start(address: SocketAddr, pace: Pace) -> Self {
        let tally = Arc::new(Tally::default());
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        let begun = clock::now();
        for _ in 0..pace.clients {
            clients.spawn(visit(address, Visitor { pace, begun }, Arc::clone(&tally), stopped.clone()));
        }
        Self { tally, stop, clients }
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Lets each client finish what it is at, and gives the final tally.
    pub(super) async fn stop(mut self) -> Arc<Tally> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let _ = self.stop.send(true);
        let all_home = async { while self.clients.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, all_home).await.is_err() {
            self.tally
                .failed(&anyhow::anyhow!("a client still waited for an answer {PATIENCE:?} after the end"));
            self.clients.shutdown().await;
        }
        self.tally
    }
}

/// One client's life: connect, work, and connect again if the connection is lost.
async fn visit(address: SocketAddr, visitor: Visitor, tally: Arc<Tally>, stopped: watch::Receiver<bool>) {
    const BEFORE_NEXT: Duration = Duration::from_millis(200);
    while !*stopped.borrow() {
        if let Err(error) = work(address, visitor, &tally, &stopped).await {
            tally.failed(&error);
            tokio::time::sleep(BEFORE_NEXT).await;
        }
    }
}

/// Works on one connection until told to stop, or until something fails.
async fn work(
    address: SocketAddr,
    visitor: Visitor,
    tally: &Tally,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut login = tokio_postgres::Config::new();
    login.host(address.ip().to_string()).port(address.port());
    login.user("postgres").dbname(DATABASE).application_name("photos");
    let (mut client, connection) = login.connect(NoTls).await.context("connecting")?;
    let visiting = async {
        // In one unit with the question what it returns, as for the reads, a vote would go by itself.
        let ballot = client.prepare_typed(VOTE, &[Type::INT4]).await.context("preparing a vote")?;
        let gap = visitor.gap();
        let mut due = clock::now() + gap.mul_f64(rand::random_range(0.0..3.0));
        let mut rush = visitor.next_rush();
        while !*stopped.borrow() {
            tokio::time::sleep_until(due.min(rush)).await;
            let statements = if clock::now() >= rush {
                rush = visitor.next_rush();
                vote_for_the_famous(&client, &ballot, visitor.votes(), tally).await?
            } else {
                act(&mut client, &ballot, tally).await?
            };
            tally.statements.fetch_add(u64::from(statements), Ordering::Relaxed);
            due = (due + gap * statements).max(clock::now());
        }
        Ok(())
    };
    tokio::select! {
        outcome = visiting => outcome,
        ended = connection => {
            ended.context("the connection was lost")?;
            anyhow::bail!("the connection was closed")
        }
    }
}

/// One client: how hard it works, and when the site's television programme began.
#[derive(Clone, Copy, Debug)]
struct Visitor {
    pace: Pace,
    begun: Instant,
}

impl Visitor {
    /// Time for each of its statements.
    #[expect(clippy::cast_precision_loss, reason = "a handful of clients")]
    fn gap(&self) -> Duration {
        Duration::from_secs_f64(self.pace.clients as f64 / self.pace.rate)
    }

    /// The same moment for all.
    fn next_rush(&self) -> Instant {
        let gone = self.begun.elapsed();
        self.begun + RUSH_EACH * (u32::try_from(gone.as_secs()).unwrap_or(u32::MAX) + 1)
    }

    /// How many votes it has when everybody votes: its share, on average.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
    fn votes(&self) -> u32 {
        let share = RUSH_SHARE * RUSH_EACH.as_secs_f64() / self.gap().as_secs_f64();
        (share + rand::random_range(0.0..1.0)) as u32
    }
}

async fn vote_for_the_famous(
    client: &Client,
    ballot: &Statement,
    votes: u32,
    tally: &Tally,
) -> anyhow::Result<u32> {
    for _ in 0..votes {
        vote(client, ballot, FAMOUS, tally).await?;
    }
    Ok(votes)
}

async fn vote(client: &Client, ballot: &Statement, photo: i32, tally: &Tally) -> anyhow::Result<()> {
    let began = clock::now();
    let rows = client.execute(ballot, &[&photo]).await.context("a vote")?;
    ensure!(rows == 1, "a vote changed {rows} rows");
    tally.vote_time.record(began.elapsed());
    tally.votes.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Does one thing that a visitor does; says how many statements it took.
async fn act(client: &mut Client, ballot: &Statement, tally: &Tally) -> anyhow::Result<u32> {
    let photo = popular_photo();
    match rand::random_range(0..100) {
        0..78 => {
            let began = clock::now();
            let statements = view(client, photo).await.context("a page view")?;
            tally.view_time.record(began.elapsed());
            tally.views.fetch_add(1, Ordering::Relaxed);
            Ok(statements)
        }
        78..84 => {
            let statements = report(client, photo).await.context("a read-only transaction")?;
            tally.reports.fetch_add(1, Ordering::Relaxed);
            Ok(statements)
        }
        84..87 => {
            let rows = client.execute_typed(COMMENT, &[(&photo, Type::INT4)]).await.context("a comment")?;
            ensure!(rows == 1, "a comment inserted {rows} rows");
            tally.comments.fetch_add(1, Ordering::Relaxed);
            Ok(1)
        }
        _ => {
            vote(client, ballot, photo, tally).await?;
            Ok(1)
        }
    }
}

/// One page: the front page, an owner's page or a photo's. Unnamed statements; the front page as a simple
/// query, as many drivers send it.
async fn view(client: &Client, photo: i32) -> anyhow::Result<u32> {
    let owner = 1 + photo % 50;
    match photo % 5 {
        0 => {
            client.simple_query(POPULAR).await?;
            Ok(1)
        }
        1 => {
            client.query_typed(BY_OWNER, &[(&owner, Type::INT4)]).await?;
            client.query_typed(TALKED_ABOUT, &[(&owner, Type::INT4)]).await?;
            Ok(2)
        }
        _ => {
            let rows = client.query_typed(PHOTO, &[(&photo, Type::INT4)]).await?;
            ensure!(rows.len() == 1, "photo {photo} was found {} times", rows.len());
            client.query_typed(COMMENTS, &[(&photo, Type::INT4)]).await?;
            Ok(2)
        }
    }
}

/// A read-only transaction of two statements that must agree with each other.
async fn report(client: &mut Client, photo: i32) -> anyhow::Result<u32> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    transaction.query_typed(PHOTO, &[(&photo, Type::INT4)]).await?;
    transaction.query_typed(COMMENTS, &[(&photo, Type::INT4)]).await?;
    transaction.commit().await?;
    Ok(REPORT_STATEMENTS)
}

/// Statements of a read-only transaction, BEGIN and COMMIT counted.
const REPORT_STATEMENTS: u32 = 4;

/// What a server gets of it: BEGIN comes with the first statement.
pub(super) const REPORT_UNITS: u64 = 3;

/// Half of the visitors look at the same twenty photos.
fn popular_photo() -> i32 {
    let mut random = rand::rng();
    if random.random_bool(0.5) { random.random_range(1..=20) } else { random.random_range(1..=PHOTOS) }
}

/// The votes in the table.
pub(super) async fn votes_counted(primary: &Postgres) -> anyhow::Result<u64> {
    eventually_ok(Duration::from_secs(5), || async {
        let rows = primary.sql_in(DATABASE, "SELECT sum(votes) FROM photos").await?;
        let sum = rows.into_iter().flatten().flatten().next().context("no sum")?;
        Ok(sum.parse()?)
    })
    .await
}
