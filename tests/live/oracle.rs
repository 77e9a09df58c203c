//! The oracle: whatever we send to a replica, a real hot standby runs; it is not refused there, and it leaves nothing behind.
//!
//! Always: our own statements (`tests/golden/route`, `tests/golden/orm`, `tests/live/routes`). When asked for: PostgreSQL's
//! regression statements, which `tests/oracle/fetch.sh` brings (see `docs/routing.md`, "How it is tested").

mod script;
mod standby;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use pgweir::cli::demo::cluster::Cluster;
use pgweir::monitor;
use pgweir::route::{
    self, Catalog, Judge, JudgeOptions, Known, Reason, Route, Rules, Scope, SearchPath, Session, Target,
    Topology,
};

use crate::programs::{SOON, cluster};
use script::{Piece, pieces};
use standby::{Outcome, Replay, Standby, Writer};

/// Judges as the proxy does on a fresh session.
struct Router {
    judge: Judge,
    scope: Scope,
    /// `standard_conforming_strings` is on, as far as the script shows.
    text_safe: bool,
    /// The script has set `search_path`.
    own_path: bool,
}

impl Router {
    fn new() -> Self {
        let judge = Judge::new(JudgeOptions::default());
        Self { judge, scope: Scope::without_catalog(), text_safe: true, own_path: false }
    }

    /// Judges from now on with the catalog as it is.
    async fn look_up(&mut self, cluster: &Cluster) {
        let port = cluster.primary().port();
        let connection = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        let seen = monitor::read_once(&connection).await.unwrap();
        let catalog = Catalog::build(&seen.rows, &[], &[]);
        let path = SearchPath::parse(&seen.search_path, &seen.user).filter(|_| !self.own_path);
        self.scope = Scope::new(Known::Loaded(Arc::new(catalog)), path, Arc::default());
    }

    fn route(&self, text: &str) -> Route {
        let session = Session { text_safe: self.text_safe, ..Session::FREE };
        let facts = self.judge.facts(text.as_bytes(), &self.scope);
        route::decide(facts, session, Topology { primary: true, replicas: 1, nodes: 2 }, &Rules::default())
    }

    /// Follows the settings that change what a text means.
    fn follow(&mut self, text: &str) {
        let text = text.to_ascii_lowercase();
        if text.contains("standard_conforming_strings") || text.contains("client_encoding") {
            self.text_safe = text.contains(" on") || text.contains("utf8") || text.starts_with("reset");
        }
        self.own_path |= text.contains("search_path");
    }
}

/// What was found.
#[derive(Default)]
struct Findings {
    statements: usize,
    sent: usize,
    ran: usize,
    /// Sent to a replica, and not to be.
    wrong: String,
    /// Kept on the primary, and the standby would have run it: by reason.
    needless: BTreeMap<&'static str, Vec<String>>,
}

impl Findings {
    fn judge(&mut self, place: &str, text: &str, route: Route, outcome: &Outcome) {
        match (route.target, outcome) {
            (Target::Replica, Outcome::Ran) => self.ran += 1,
            (Target::Replica, Outcome::Refused(_) | Outcome::Silent { .. }) => {
                writeln!(
                    self.wrong,
                    "{place}: {text}\n    expected: the primary\n    got: a replica, {outcome:?}"
                )
                .unwrap();
            }
            (Target::Primary, Outcome::Ran) => {
                let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
                self.needless.entry(route.reason.code()).or_default().push(format!("{place}: {line}"));
            }
            _ => {}
        }
    }
}

/// Starts with a word that a read can start with.
fn looks_like_a_read(text: &str) -> bool {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '(').to_ascii_lowercase();
    ["select", "with", "values", "table", "explain", "show"].iter().any(|word| text.starts_with(word))
}

/// Reasons for which a statement stays on the primary although a replica would not refuse it: it would answer otherwise, or
/// not at all to a purpose. Those are no needless trips.
fn is_never_needless(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ServerState
            | Reason::VolatileFunction
            | Reason::PrimaryFunction
            | Reason::Lock
            | Reason::UnsafeText
    ) || matches!(reason, Reason::AdvisoryLock | Reason::Session | Reason::TransactionControl)
}

/// Runs a script on the primary; after each statement, what would go to a replica runs there too.
async fn run_script(
    name: &str,
    script: &[Piece],
    cluster: &Cluster,
    replay: &mut Replay,
    findings: &mut Findings,
) {
    let mut router = Router::new();
    let mut writer = Writer::new(cluster.primary()).await;
    let mut standby = Standby::new(cluster.replica(0), "postgres").await;
    let (mut behind, mut changed) = (true, true);
    for Piece { text, data } in script {
        if harms_the_test(text) {
            continue;
        }
        findings.statements += 1;
        if looks_like_a_read(text) && std::mem::take(&mut changed) {
            router.look_up(cluster).await;
        }
        let route = router.route(text);
        // What certainly changes no definition need not be followed by a look at all of them.
        changed |= route.target == Target::Primary
            && !matches!(
                route.reason,
                Reason::Write | Reason::Lock | Reason::Session | Reason::Begin | Reason::End
            );
        let _ = writer.run(text, data.as_deref()).await;
        if route.reason == Reason::Session && is_setting(text) {
            router.follow(text);
            standby.follow(text).await;
            continue;
        }
        let sent = route.target == Target::Replica;
        if !sent && (is_never_needless(route.reason) || !looks_like_a_read(text)) {
            behind = true;
            continue;
        }
        if std::mem::take(&mut behind) {
            replay.wait(&format!("{name}: {text}")).await;
        }
        findings.sent += usize::from(sent);
        let outcome = standby.run(text).await;
        findings.judge(name, text, route, &outcome);
        behind = !sent;
    }
}

/// SET and RESET of a setting: what they do to the session on the primary, they must do to the one on the standby.
fn is_setting(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    (text.starts_with("set ") || text.starts_with("reset ")) && !text.contains(';')
}

/// Statements that would break the cluster and not the rule: a tablespace has one folder for both servers.
fn harms_the_test(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["tablespace", "alter system", "pg_promote", "pg_wal_replay", "statement_timeout"]
        .iter()
        .any(|word| text.contains(word))
}

/// Statements, each up to its line `--> ..`, or one a line in `tests/golden/orm`; remarks begin with three dashes.
fn ours(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> =
        fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        if name == "schema.sql" || !name.ends_with(".sql") {
            continue;
        }
        let mut statement = String::new();
        for line in text.lines().filter(|line| !line.starts_with("--- ")) {
            if line.starts_with("--> ") {
                all.push((name.clone(), std::mem::take(&mut statement)));
            } else if folder.ends_with("orm") && !line.is_empty() {
                all.push((name.clone(), line.to_owned()));
            } else if !line.is_empty() || !statement.is_empty() {
                let separator = if statement.is_empty() { "" } else { "\n" };
                write!(statement, "{separator}{line}").unwrap();
            }
        }
    }
    all
}

async fn start() -> Cluster {
    cluster()
        .setting("max_prepared_transactions", "5")
        // A statement that runs for minutes shows no more than one that is cut off, and replay waits for none.
        .setting("statement_timeout", "5s")
        .setting("max_standby_streaming_delay", "1s")
        .replicas(1)
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_standby_runs_what_we_send_it() {
    let cluster = start().await;
    for schema in [include_str!("routes/schema.sql"), include_str!("../golden/orm/schema.sql")] {
        cluster.primary().sql(schema).await.unwrap();
    }
    cluster.wait_replayed(SOON).await.unwrap();
    let router = Router::new();
    let mut standby = Standby::new(cluster.replica(0), "postgres").await;
    let mut findings = Findings::default();
    let mut failed = String::new();
    for folder in ["tests/golden/route", "tests/golden/orm", "tests/live/routes"] {
        for (name, text) in ours(folder) {
            findings.statements += 1;
            let route = router.route(&text);
            // Those would run for minutes.
            if route.target == Target::Primary || text.contains("pg_type t, pg_attrdef d") {
                continue;
            }
            findings.sent += 1;
            let outcome = standby.run(&text).await;
            if folder.ends_with("orm")
                && let Outcome::Failed(code) = &outcome
            {
                writeln!(failed, "{name}: {code}: {text}").unwrap();
            }
            findings.judge(&name, &text, route, &outcome);
        }
    }
    let Findings { statements, sent, ran, wrong, .. } = findings;
    println!("{statements} statements, {sent} sent to the standby, {ran} ran without an error");
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(failed.is_empty(), "the corpus and its schema do not fit each other:\n{failed}");
    assert!(statements >= 1_000 && ran >= 430, "too few of them show anything");
}

/// What a standby refuses, and what it takes without a word, is noticed.
#[tokio::test]
async fn the_standby_tells_on_what_must_not_come() {
    let cluster = start().await;
    cluster
        .primary()
        .sql("CREATE TABLE t (a int); CREATE UNLOGGED TABLE u (a int); CREATE SEQUENCE s")
        .await
        .unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let mut standby = Standby::new(cluster.replica(0), "postgres").await;
    let refused = "INSERT INTO t VALUES (1);SELECT nextval('s');SELECT currval('s');SELECT * FROM t FOR UPDATE;SELECT a INTO x FROM t;\
        WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x;CREATE TEMP TABLE x ();SELECT lo_create(0);LISTEN x;SELECT pg_notify('x', '');\
        SELECT txid_current();SELECT * FROM u;SELECT pg_current_wal_lsn();BEGIN READ WRITE;BEGIN ISOLATION LEVEL SERIALIZABLE;VACUUM t;\
        EXPLAIN ANALYZE UPDATE t SET a = 1";
    for text in refused.split(';') {
        let outcome = standby.run(text).await;
        assert!(matches!(outcome, Outcome::Refused(_)), "{text}: {outcome:?}");
    }
    let silent = "SELECT pg_advisory_lock(1);SELECT pg_try_advisory_lock_shared(1, 2);SET work_mem = '1MB';PREPARE p AS DELETE FROM t;\
        DECLARE c CURSOR WITH HOLD FOR SELECT 1;SELECT set_config('work_mem', '2MB', false);SELECT pg_stat_reset();\
        SELECT pg_create_physical_replication_slot('x');SELECT pg_wal_replay_pause();SET ROLE pg_monitor";
    for text in silent.split(';') {
        let outcome = standby.run(text).await;
        assert!(matches!(outcome, Outcome::Silent { .. }), "{text}: {outcome:?}");
    }
    let harmless =
        "SELECT a FROM t;BEGIN READ ONLY;SHOW work_mem;COPY t TO STDOUT;EXPLAIN ANALYZE SELECT a FROM t";
    for text in harmless.split(';') {
        let outcome = standby.run(text).await;
        assert!(matches!(outcome, Outcome::Ran), "{text}: {outcome:?}");
    }
    let Outcome::Failed(code) = standby.run("SELECT nothing").await else { panic!("it ran") };
    assert_eq!(code, "42703");
}

/// The folder of the regression statements, or why there is none.
fn regression() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/fetch.sh");
    let told = std::process::Command::new(script).output().map_err(|error| error.to_string())?;
    let out = String::from_utf8_lossy(&told.stdout);
    match told.status.success() {
        true => Ok(PathBuf::from(out.lines().last().unwrap_or_default())),
        false => Err(String::from_utf8_lossy(&told.stderr).into_owned()),
    }
}

/// The scripts in the order of the schedule, then those that it does not have, then those of contrib.
fn scripts(folder: &Path) -> Vec<PathBuf> {
    let schedule = fs::read_to_string(folder.join("../parallel_schedule")).unwrap_or_default();
    let tests = schedule.lines().filter_map(|line| line.strip_prefix("test:"));
    let mut all: Vec<PathBuf> =
        tests.flat_map(str::split_whitespace).map(|name| folder.join(name).with_extension("sql")).collect();
    all.retain(|path| path.exists());
    let mut rest: Vec<PathBuf> = Vec::new();
    let root = folder.join("../../../..");
    let mut folders = vec![folder.to_owned(), root.join("src/pl/plpgsql/src/sql")];
    let contrib = fs::read_dir(root.join("contrib")).into_iter().flatten();
    folders.extend(contrib.map(|entry| entry.unwrap().path().join("sql")));
    for folder in folders {
        let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        rest.extend(files.filter(|file| file.extension().is_some_and(|end| end == "sql")));
    }
    rest.sort();
    rest.retain(|path| !all.contains(path));
    all.extend(rest);
    all
}

/// Reads that stay on the primary: how many by reason, and one of each. They may only become fewer.
fn compare_needless(findings: &Findings) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("tests/golden/oracle/needless.txt");
    let known = fs::read_to_string(&golden).unwrap_or_default();
    let (mut list, mut table) = (String::new(), String::new());
    table += "# Reads of PostgreSQL's regression statements that stay on the primary although a standby runs them, by reason: how\n\
              # many, and one of them. The numbers may only shrink; UPDATE_GOLDEN=1 writes them anew.\n\
              #     cargo nextest run --test live --run-ignored only oracle\n";
    let mut more = String::new();
    for (&code, statements) in &findings.needless {
        let reason = Reason::ALL.iter().find(|reason| reason.code() == code).unwrap();
        let shortest = statements.iter().min_by_key(|text| text.len()).unwrap();
        writeln!(table, "{code} {}\n    {}\n    {shortest}", statements.len(), reason.sentence()).unwrap();
        for statement in statements {
            writeln!(list, "{code}\t{statement}").unwrap();
        }
        let line = known.lines().find_map(|line| line.strip_prefix(code)?.strip_prefix(' '));
        let most: usize = line.map_or(0, |number| number.parse().unwrap());
        // A busy machine lets some statements run out of time.
        if statements.len() > most + most / 50 + 3 {
            writeln!(more, "{code}: expected at most {most}, got {}", statements.len()).unwrap();
        }
    }
    let written = root.join("target/oracle/needless.txt");
    fs::write(&written, list).unwrap();
    println!("all of them: {}", written.display());
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(golden, table).unwrap();
    } else {
        assert!(
            more.is_empty(),
            "more reads than before stay on the primary (all: {}):\n{more}",
            written.display()
        );
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL's regression statements, and some minutes"]
async fn a_standby_runs_what_we_send_it_of_postgresqls_own_statements() {
    let folder = match regression() {
        Ok(folder) => folder,
        Err(why) => return println!("SKIPPED: {why}"),
    };
    let cluster = start().await;
    let mut replay = Replay::new(&cluster).await;
    let mut findings = Findings::default();
    let only = env::var("PGWEIR_ORACLE").ok();
    for path in scripts(&folder) {
        let Ok(script) = fs::read(&path) else { continue };
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if only.as_ref().is_some_and(|only| name != "test_setup" && !only.split(',').any(|word| word == name))
        {
            continue;
        }
        let begun = std::time::Instant::now();
        let pieces = pieces(&String::from_utf8_lossy(&script), folder.parent().unwrap());
        run_script(&name, &pieces, &cluster, &mut replay, &mut findings).await;
        println!("{name}: {} statements, {:?}", pieces.len(), begun.elapsed());
    }
    println!(
        "{} statements, {} sent to the standby, {} ran without an error",
        findings.statements, findings.sent, findings.ran
    );
    assert!(findings.wrong.is_empty(), "\n{}", findings.wrong);
    if only.is_none() {
        assert!(findings.statements >= 20_000 && findings.ran >= 5_000, "too few of them show anything");
        compare_needless(&findings);
    }
}
