//! Rust's clients: many at once, each with a transcript of its own, which must all be alike. The argument says which client.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex};

mod diesel_;
mod diesel_async_;
mod sqlx_;
mod tokio_postgres_;

pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// The lines of one client. `number` tells it apart from the others; its lines must not show it.
pub struct Transcript {
    pub number: usize,
    lines: Mutex<Vec<String>>,
}

impl Transcript {
    fn new(number: usize) -> Arc<Self> {
        Arc::new(Self { number, lines: Mutex::default() })
    }

    pub fn say(&self, what: &str, value: impl Debug) {
        self.lines.lock().unwrap().push(format!("{what}: {value:?}"));
    }

    fn ends(&self, outcome: Outcome) {
        if let Err(error) = outcome {
            self.say("FAILED", error);
        }
    }
}

pub fn url() -> String {
    std::env::var("DATABASE_URL").expect("DATABASE_URL")
}

pub fn workers() -> usize {
    std::env::var("WORKERS").map_or(50, |number| number.parse().expect("WORKERS"))
}

/// The folder of a client's migrations.
pub fn migrations(client: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(client)
}

/// Runs the exercise as tasks, which need not be `Send`.
pub async fn tasks<F>(exercise: impl Fn(Arc<Transcript>) -> F)
where
    F: Future<Output = Outcome> + 'static,
{
    let transcripts: Vec<_> = (0..workers()).map(Transcript::new).collect();
    let everybody = async {
        let running: Vec<_> = transcripts.iter().map(|t| tokio::task::spawn_local(exercise(t.clone()))).collect();
        for (transcript, task) in transcripts.iter().zip(running) {
            transcript.ends(task.await.unwrap_or_else(|error| Err(error.into())));
        }
    };
    tokio::task::LocalSet::new().run_until(everybody).await;
    report(&transcripts);
}

/// Runs the exercise in threads.
pub fn threads(exercise: impl Fn(&Transcript) -> Outcome + Sync) {
    let transcripts: Vec<_> = (0..workers()).map(Transcript::new).collect();
    std::thread::scope(|scope| {
        for transcript in &transcripts {
            scope.spawn(|| transcript.ends(exercise(transcript)));
        }
    });
    report(&transcripts);
}

/// Prints the transcript that most clients have, and each that is another.
fn report(transcripts: &[Arc<Transcript>]) {
    let mut texts = BTreeMap::new();
    for transcript in transcripts {
        *texts.entry(transcript.lines.lock().unwrap().join("\n")).or_insert(0) += 1;
    }
    let mut kinds: Vec<_> = texts.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (text, count) in kinds {
        println!("{text}\n{count} of {} clients alike", transcripts.len());
    }
}

#[tokio::main]
async fn main() -> Outcome {
    match std::env::args().nth(1).as_deref() {
        Some("sqlx") => sqlx_::main().await,
        Some("diesel") => tokio::task::spawn_blocking(diesel_::main).await?,
        Some("diesel_async") => diesel_async_::main().await,
        Some("tokio_postgres") => tokio_postgres_::main().await,
        other => Err(format!("no such client: {other:?}").into()),
    }
}
