//! Whatever a client sends, it hears from pgweir what PostgreSQL itself would say, byte for byte.
//!
//! A [`Script`] is played against the primary and through pgweir, and the two records are compared. Masked are only the
//! key for cancelling, the order of ParameterStatus messages next to each other, and process ids.

mod cuts;
mod extended;
mod large;
mod login;
mod pipelines;
mod simple;
mod unruly;

use std::time::Duration;

use pgweir::app::Pgweir;
use pgweir::cli::demo::cluster::Cluster;

use crate::wire::{Message, Until, Wire, query, startup, terminate};

const SOON: Duration = Duration::from_secs(10);

/// Bytes to send, and what to wait for then.
type Step = (Vec<u8>, Until);

/// What one client says after its login.
#[derive(Clone, Debug)]
struct Script {
    name: &'static str,
    steps: Vec<Step>,
    /// Of errors only the code counts: pgweir words them itself.
    codes_only: bool,
    /// It says nothing to servers from that version on.
    before_version: u32,
    /// It leaves nothing behind between its steps and writes nothing: two clients can take turns.
    alternates: bool,
}

/// A script of steps that each end with so many ReadyForQuery.
fn script(name: &'static str, steps: &[(usize, Vec<u8>)]) -> Script {
    let steps = steps.iter().map(|(readies, bytes)| (bytes.clone(), Until::Tags(b'Z', *readies))).collect();
    Script { name, steps, codes_only: false, before_version: u32::MAX, alternates: false }
}

/// A script of steps that each wait for what they say.
fn steps(name: &'static str, steps: Vec<Step>) -> Script {
    Script { name, steps, codes_only: false, before_version: u32::MAX, alternates: false }
}

/// A script of simple queries, one at a time.
fn queries(name: &'static str, texts: &[&str]) -> Script {
    let steps: Vec<_> = texts.iter().map(|text| (1, query(text))).collect();
    script(name, &steps)
}

impl Script {
    fn codes_only(mut self) -> Self {
        self.codes_only = true;
        self
    }

    fn before_version(mut self, version: u32) -> Self {
        self.before_version = version;
        self
    }

    fn alternates(mut self) -> Self {
        self.alternates = true;
        self
    }
}

/// Tables that no script writes, one that each script finds empty, and functions.
const TABLES: &str = "
    CREATE TABLE items (id int PRIMARY KEY, name text, price numeric, tags text[]);
    INSERT INTO items VALUES (1, 'one', 1.5, '{a,b}'), (2, 'two', NULL, NULL), (3, NULL, 3, '{}');
    CREATE TABLE scratch (id serial PRIMARY KEY, name text NOT NULL);
    CREATE FUNCTION loud(what text) RETURNS int LANGUAGE plpgsql AS
        $$ BEGIN RAISE NOTICE 'heard %', what; RETURN length(what); END $$;
";

/// Servers, and two pgweirs before them.
struct Stage {
    cluster: Cluster,
    wide: Pgweir,
    /// With one connection to each server.
    narrow: Pgweir,
}

impl Stage {
    async fn start() -> Self {
        let cache = env!("CARGO_TARGET_TMPDIR");
        let cluster = Cluster::builder().cache(cache).replicas(1).start().await.unwrap();
        cluster.primary().sql(TABLES).await.unwrap();
        cluster.wait_replayed(SOON).await.unwrap();
        let (wide, narrow) = (pgweir(&cluster, 20), pgweir(&cluster, 1));
        let stage = Self { cluster, wide, narrow };
        // A login waits for the first probes; the replica may take a little longer to be known.
        for pgweir in [&stage.wide, &stage.narrow] {
            stage.uses_replica(pgweir).await;
        }
        stage
    }

    /// Waits until reads go to the replica.
    async fn uses_replica(&self, pgweir: &Pgweir) {
        let (mut wire, _) = log_in(&address(pgweir), &[]).await;
        let asks = query("SELECT pg_is_in_recovery()");
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let heard = wire.exchange(&[&asks], Until::Tags(b'Z', 1)).await;
            if heard.iter().any(|message| message.tag == b'D' && message.body.ends_with(b"t")) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "no read went to the replica: {heard:?}");
        }
    }

    /// The address of the primary itself.
    fn direct(&self) -> String {
        self.cluster.primary().address()
    }

    /// Back to what every script expects to find.
    async fn reset(&self) {
        self.cluster.primary().sql("TRUNCATE scratch RESTART IDENTITY").await.unwrap();
        self.cluster.wait_replayed(SOON).await.unwrap();
    }

    /// Plays the script against the primary, through pgweir, and through a pgweir with one connection for two clients.
    async fn compare(&self, script: &Script, differences: &mut Vec<String>) {
        self.reset().await;
        let direct = play(&self.direct(), script).await;
        self.reset().await;
        note(differences, script, "pgweir", &direct, &play(&address(&self.wide), script).await);
        let narrow = address(&self.narrow);
        if script.alternates {
            for (who, heard) in ["first", "second"].iter().zip(play_in_turns(&narrow, script).await) {
                note(differences, script, &format!("pool_size 1, {who} client"), &direct, &heard);
            }
            return;
        }
        for who in ["first", "second"] {
            self.reset().await;
            let heard = play(&narrow, script).await;
            note(differences, script, &format!("pool_size 1, {who} client"), &direct, &heard);
        }
    }

    /// Plays all of them, and shows what differs.
    async fn compare_all(&self, scripts: &[Script]) {
        let mut differences = Vec::new();
        let version: u32 =
            self.cluster.primary().value("SHOW server_version_num").await.unwrap().parse().unwrap();
        let only = std::env::var("SCRIPT").ok();
        let wanted = |script: &&Script| only.as_ref().is_none_or(|only| script.name == only);
        for script in scripts.iter().filter(wanted).filter(|script| version < script.before_version) {
            self.compare(script, &mut differences).await;
        }
        assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
    }
}

fn address(pgweir: &Pgweir) -> String {
    pgweir.addresses()[0].to_string()
}

fn pgweir(cluster: &Cluster, pool_size: usize) -> Pgweir {
    let text = format!(
        "listen = \"127.0.0.1:0\"\nauth_type = \"trust\"\nworkers = 1\n[metrics]\nlisten = \"127.0.0.1:0\"\n[monitor]\nuser = \"postgres\"\n\
         [databases.\"*\"]\nservers = {:?}\npool_size = {pool_size}\n",
        cluster.servers()
    );
    Pgweir::start(pgweir::config::parse(&text, "test").unwrap()).unwrap()
}

/// Logs in with these parameters beside user and database.
async fn log_in(address: &str, parameters: &[(&str, &str)]) -> (Wire, Vec<Message>) {
    let names = [("user", "postgres"), ("database", "postgres")];
    let parameters: Vec<_> = names.iter().chain(parameters).copied().collect();
    let mut wire = Wire::connect(address).await;
    let heard = wire.exchange(&[&startup(0x0003_0000, &parameters)], Until::Tags(b'Z', 1)).await;
    assert_eq!(heard.last().unwrap().tag, b'Z', "{heard:?}");
    (wire, heard)
}

/// Plays a script on a connection of its own, which it closes; what comes until the end belongs to the record.
async fn play(address: &str, script: &Script) -> Vec<Message> {
    let (mut wire, _) = log_in(address, &[]).await;
    let mut heard = Vec::new();
    for (bytes, until) in &script.steps {
        heard.extend(wire.exchange(&[bytes], *until).await);
        if heard.last().is_some_and(Message::is_end) {
            return masked(heard, script);
        }
    }
    heard.extend(wire.exchange(&[&terminate()], Until::Closed).await);
    masked(heard, script)
}

/// Two clients take turns, step by step.
async fn play_in_turns(address: &str, script: &Script) -> [Vec<Message>; 2] {
    let mut wires = [log_in(address, &[]).await.0, log_in(address, &[]).await.0];
    let mut heard = [Vec::new(), Vec::new()];
    for (bytes, until) in script.steps.iter().cloned().chain([(terminate(), Until::Closed)]) {
        for (wire, heard) in wires.iter_mut().zip(&mut heard) {
            heard.extend(wire.exchange(&[&bytes], until).await);
        }
    }
    heard.map(|heard| masked(heard, script))
}

/// Without what cannot be the same.
fn masked(mut heard: Vec<Message>, script: &Script) -> Vec<Message> {
    for message in &mut heard {
        match message.tag {
            // The process id of who notifies.
            b'A' => message.body[..4].fill(0),
            b'E' if script.codes_only => {
                let code = message.field(b'C').unwrap_or_default();
                message.body = code.into_bytes();
            }
            _ => {}
        }
    }
    // RESET ALL tells of several settings in an order that differs between versions.
    for run in heard.chunk_by_mut(|one, next| one.tag == b'S' && next.tag == b'S') {
        run.sort_by(|one, next| one.body.cmp(&next.body));
    }
    if script.codes_only {
        heard.dedup_by(|next, message| next.tag == b'E' && next == message);
    }
    heard
}

/// Notes the first message that is another one.
fn note(differences: &mut Vec<String>, script: &Script, whose: &str, direct: &[Message], heard: &[Message]) {
    if direct == heard {
        return;
    }
    let at = direct.iter().zip(heard).take_while(|(a, b)| a == b).count();
    let near = |list: &[Message]| {
        format!("{:?}", &list[at.saturating_sub(1).min(list.len())..list.len().min(at + 3)])
    };
    differences.push(format!(
        "== {}, {whose}: message {at} differs (direct {} messages, pgweir {})\n  direct {}\n  pgweir {}",
        script.name,
        direct.len(),
        heard.len(),
        near(direct),
        near(heard)
    ));
}
