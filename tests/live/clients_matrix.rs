//! Other people's drivers and frameworks with their defaults, many clients at once, directly and through pgweir: what they
//! print must be the same. The exercises are in `tests/clients`, one for each; `setup` there installs what they need.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use pgweir::clock;
use tokio::process::Command;

use crate::proxy::{Proxy, cluster};

/// Server connections of a pool.
const POOL_SIZE: usize = 2;

/// Clients at once of each exercise.
const CLIENTS: usize = 50;

/// Longest that one exercise may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// An exercise: its name and its command, as `setup` says them.
struct Exercise {
    words: Vec<String>,
}

impl Exercise {
    fn name(&self) -> &str {
        &self.words[0]
    }

    /// What it prints as a client of that port.
    async fn run(&self, port: u16, clients: usize) -> Result<String, String> {
        let mut command = Command::new(&self.words[1]);
        command.args(&self.words[2..]).env("WORKERS", clients.to_string()).env("TZ", "UTC");
        command.env("DATABASE_URL", format!("postgresql://postgres@127.0.0.1:{port}/postgres"));
        command.env("JDBC_URL", format!("jdbc:postgresql://127.0.0.1:{port}/postgres?user=postgres"));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let Ok(ended) = tokio::time::timeout(PATIENCE, command.output()).await else {
            return Err(format!("not done after {PATIENCE:?}"));
        };
        let ended = ended.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ended.status.success() {
            Ok(text(&ended.stdout))
        } else {
            Err(format!("{}\n{}{}", ended.status, text(&ended.stdout), text(&ended.stderr)))
        }
    }
}

/// The exercises that can be run on this machine.
async fn exercises() -> Vec<Exercise> {
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/setup");
    let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    let ran = Command::new(setup).arg(into).stdin(Stdio::null()).output().await.unwrap();
    print!("{}", String::from_utf8_lossy(&ran.stderr));
    let lines = String::from_utf8(ran.stdout).unwrap();
    let words = lines.lines().map(|line| line.split('\t').map(str::to_owned).collect());
    words.map(|words| Exercise { words }).collect()
}

/// The lines that differ, beside each other.
fn difference(direct: &str, through: &str) -> String {
    let (mut left, mut right) = (direct.lines(), through.lines());
    let mut out = String::new();
    loop {
        match (left.next(), right.next()) {
            (None, None) => return out,
            (one, two) if one == two => {}
            (one, two) => out += &format!("- {}\n+ {}\n", one.unwrap_or_default(), two.unwrap_or_default()),
        }
    }
}

/// `PGWEIR_CLIENTS` names one exercise to be run alone, `PGWEIR_CLIENTS_POOL` another pool size.
#[tokio::test(flavor = "multi_thread")]
async fn each_does_through_pgweir_what_it_does_directly() {
    let only = std::env::var("PGWEIR_CLIENTS").ok();
    let pool_size = std::env::var("PGWEIR_CLIENTS_POOL").map_or(POOL_SIZE, |size| size.parse().unwrap());
    let exercises = exercises().await;
    assert!(!exercises.is_empty(), "no client can be had at all");
    let cluster = cluster().replicas(2).start().await.unwrap();
    let proxy = Proxy::start(&cluster, &format!("pool_size = {pool_size}")).await;
    let mut failures = String::new();
    let wanted: Vec<_> = (exercises.iter())
        .filter(|exercise| only.as_deref().is_none_or(|only| only == exercise.name()))
        .collect();
    assert!(!wanted.is_empty(), "{only:?} is none of the clients");
    for exercise in wanted {
        let name = exercise.name();
        let start = clock::now();
        let direct = match exercise.run(cluster.primary().port(), CLIENTS).await {
            Ok(direct)
                if direct.contains(&format!("{CLIENTS} of {CLIENTS} clients alike"))
                    && !direct.contains("FAILED") =>
            {
                direct
            }
            other => {
                let failure = format!("==== {name}, directly: {}\n", other.unwrap_or_else(|error| error));
                println!("{failure}");
                failures += &failure;
                continue;
            }
        };
        let between = clock::now();
        let through = exercise.run(proxy.address().port(), CLIENTS).await;
        let (took, takes) = (between.duration_since(start), between.elapsed());
        let failure = match through {
            Ok(through) if through == direct => {
                println!("{name}: alike; directly {took:.1?}, through {takes:.1?}");
                continue;
            }
            Ok(through) => format!("==== {name}\n{}", difference(&direct, &through)),
            Err(error) => format!("==== {name}: {error}\n"),
        };
        println!("{failure}");
        failures += &failure;
    }
    assert!(failures.is_empty(), "{failures}");
}
