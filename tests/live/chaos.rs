//! Somebody cancels statements at random, pgweir's own among them: each client is told the truth about each of its own, and
//! nothing of it happens as somebody else.
//!
//! `PGWEIR_LONG` has it go on for minutes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::proxy::{Proxy, SOON, cluster};
use crate::raw::{Answer, Raw};
use crate::wire::{bind, execute, parse, query, run, sync};

const CLIENTS: u64 = 12;

/// Who a row is by is written by the server.
const TABLE: &str = "CREATE TABLE t (client int, number int, role text DEFAULT current_user, tag text DEFAULT current_setting('app.tag', true));
    CREATE FUNCTION slow(int) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT $1 FROM pg_sleep(0.001)'";

/// What became of each of its rows, as the client was told: the tag that it has; none: it is not there.
type Told = BTreeMap<u32, Option<String>>;

struct Client {
    raw: Raw,
    id: u64,
    last: u32,
    told: Told,
    tag: String,
    prepared: bool,
    state: u64,
    cancelled: usize,
}

impl Client {
    fn below(&mut self, n: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % n
    }

    /// The text that makes its next row, and the row's number.
    fn row(&mut self) -> (String, u32) {
        self.last += 1;
        let value = if self.below(3) == 0 { "slow" } else { "abs" };
        (format!("INSERT INTO t VALUES ({}, {value}({}))", self.id, self.last), self.last)
    }

    fn notes(&mut self, number: u32, there: bool) {
        self.told.insert(number, there.then(|| self.tag.clone()));
    }

    async fn answer(&mut self) -> Answer {
        let answer = self.raw.answer().await.unwrap();
        assert!(matches!(answer.code(), "" | "57014" | "25P02"), "client {}: {answer:?}", self.id);
        self.cancelled += usize::from(answer.code() == "57014");
        answer
    }

    async fn ask(&mut self, messages: &[u8]) -> Answer {
        self.raw.send(messages).await.unwrap();
        self.answer().await
    }

    /// Until it succeeds.
    async fn insist(&mut self, text: &str) {
        while self.ask(&query(text)).await.code() != "" {}
    }

    /// One row by itself.
    async fn alone(&mut self) {
        let (text, number) = self.row();
        let messages = match self.below(4) {
            0 => query(&text),
            1 => [run(&text, &[]), sync()].concat(),
            2 => query(&format!("SET LOCAL work_mem = '1MB'; {text}")),
            _ => query(&format!("{text}; SELECT 1")),
        };
        let answer = self.ask(&messages).await;
        self.notes(number, answer.code().is_empty());
        assert_eq!(answer.status, 'I', "{answer:?}");
    }

    /// Units that are all sent before any is answered; perhaps behind one that ends no transaction.
    async fn pipeline(&mut self) {
        let (ends, extended) = (self.below(2) == 0, self.below(2) == 0);
        let mut sent = if ends { query("ROLLBACK") } else { Vec::new() };
        let mut numbers = Vec::new();
        for _ in 0..3 {
            let (text, number) = self.row();
            sent.extend(if extended { [run(&text, &[]), sync()].concat() } else { query(&text) });
            numbers.push(number);
        }
        self.raw.send(&sent).await.unwrap();
        if ends {
            self.answer().await;
        }
        for number in numbers {
            let answer = self.answer().await;
            self.notes(number, answer.code().is_empty());
            assert_eq!(answer.status, 'I', "{answer:?}");
        }
    }

    /// Two rows in a transaction, sent at once or one after the other.
    async fn transaction(&mut self) {
        let ((one, first), (two, second)) = (self.row(), self.row());
        let begin = ["BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL REPEATABLE READ"];
        let begin = begin[self.below(3) as usize];
        let texts = [begin, &one, &two, "COMMIT"];
        let extended = self.below(2) == 0;
        let units = texts.map(|text| if extended { [run(text, &[]), sync()].concat() } else { query(text) });
        let mut answers = Vec::new();
        if self.below(2) == 0 {
            self.raw.send(&units.concat()).await.unwrap();
            for _ in &units {
                answers.push(self.answer().await);
            }
        } else {
            for unit in &units {
                answers.push(self.ask(unit).await);
            }
        }
        let failed: Vec<_> = answers.iter().map(|answer| !answer.code().is_empty()).collect();
        if failed[0] {
            // What came behind it was no transaction.
            self.notes(first, !failed[1]);
            self.notes(second, !failed[2]);
        } else {
            let all = !failed.contains(&true);
            self.notes(first, all);
            self.notes(second, all);
            assert!(!failed[1] || failed[2], "{answers:?}");
        }
        self.ends(&answers[3]).await;
    }

    /// A COMMIT can be cancelled before it does anything: the transaction has failed, and goes on.
    async fn ends(&mut self, commit: &Answer) {
        if commit.status != 'I' {
            assert_eq!((commit.code(), commit.status), ("57014", 'E'));
            self.insist("ROLLBACK").await;
        }
    }

    /// One row by a statement that it has prepared.
    async fn prepared(&mut self) {
        if !self.prepared {
            let text = format!("INSERT INTO t VALUES ({}, $1::int)", self.id);
            self.prepared = self.ask(&[parse("p", &text), sync()].concat()).await.code().is_empty();
            return;
        }
        self.last += 1;
        let number = self.last;
        let unit = [bind("", "p", &[&number.to_string()]), execute("", 0), sync()].concat();
        let answer = self.ask(&unit).await;
        self.notes(number, answer.code().is_empty());
    }

    /// The same by SQL: its name goes with the text of its PREPARE.
    async fn by_sql(&mut self) {
        let name = format!("s{}", self.last);
        // A text that no server has yet.
        let insert = format!("INSERT INTO t VALUES ({}, $1 + 0 * {})", self.id, self.last);
        let prepare = format!("PREPARE {name} (int) AS {insert}");
        if !self.ask(&query(&prepare)).await.code().is_empty() {
            return;
        }
        self.last += 1;
        let number = self.last;
        let text = format!("EXECUTE {name} ({number})");
        let done = if self.below(2) == 0 {
            self.ask(&query(&text)).await.code().is_empty()
        } else {
            let begun = self.ask(&query("BEGIN")).await.code().is_empty();
            let ran = self.ask(&query(&text)).await.code().is_empty();
            let commit = self.ask(&query("COMMIT")).await;
            self.ends(&commit).await;
            // Without its BEGIN it was no transaction.
            ran && (!begun || commit.code().is_empty())
        };
        self.notes(number, done);
        self.insist(&format!("DEALLOCATE {name}")).await;
    }

    /// Another tag, for good or for one transaction.
    async fn tags(&mut self) {
        let (id, version) = (self.id, self.below(1_000));
        let tag = format!("c{id}v{version}");
        let text = match self.below(4) {
            0 => format!("SET app.tag = '{tag}'"),
            1 => format!("SELECT set_config('app.tag', '{tag}', false)"),
            2 => format!("SET app.tag = 'c'; SET app.tag = '{tag}'"),
            _ => {
                let begin = format!("BEGIN; SET LOCAL app.tag = '{tag}'");
                self.ask(&query(&begin)).await;
                return self.insist("ROLLBACK").await;
            }
        };
        if self.ask(&query(&text)).await.code().is_empty() {
            self.tag = tag;
        }
    }

    /// What it reads, anywhere, it reads as itself.
    async fn reads(&mut self) {
        let text = "SELECT current_user || ' ' || current_setting('app.tag')";
        let unit = if self.below(2) == 0 { query(text) } else { [run(text, &[]), sync()].concat() };
        let answer = self.ask(&unit).await;
        if answer.code().is_empty() {
            assert_eq!(answer.value(), format!("r{} {}", self.id, self.tag));
        }
        let own = format!("SELECT number FROM t WHERE client = {} ORDER BY number", self.id);
        let answer = self.ask(&query(&own)).await;
        if answer.code().is_empty() {
            let seen: Vec<_> = answer.rows.iter().map(|row| row[0].clone().unwrap()).collect();
            assert_eq!(seen, rows(&self.told), "client {}", self.id);
        }
    }

    async fn run(mut self, stop: &AtomicBool) -> Self {
        self.insist(&format!("SET ROLE r{}", self.id)).await;
        self.insist(&format!("SET app.tag = '{}'", self.tag)).await;
        let limit = ["0", "2ms", "20ms", "10s"][(self.id % 4) as usize];
        self.insist(&format!("SET statement_timeout = '{limit}'")).await;
        while !stop.load(Relaxed) {
            match self.below(12) {
                0 | 1 => self.alone().await,
                2 => self.pipeline().await,
                3 | 4 => self.transaction().await,
                5 => self.prepared().await,
                6..9 => self.by_sql().await,
                9 | 10 => self.tags().await,
                _ => self.reads().await,
            }
        }
        self
    }
}

/// The numbers of the rows that there are.
fn rows(told: &Told) -> Vec<String> {
    told.iter().filter(|(_, tag)| tag.is_some()).map(|(number, _)| number.to_string()).collect()
}

#[tokio::test]
async fn nobody_is_somebody_else_whatever_is_cancelled() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let primary = cluster.primary();
    primary.sql(TABLE).await.unwrap();
    for id in 0..CLIENTS {
        primary.sql(&format!("CREATE ROLE r{id}; GRANT SELECT, INSERT ON t TO r{id}")).await.unwrap();
    }
    cluster.wait_replayed(SOON).await.unwrap();
    let proxy = Proxy::start(&cluster, "pool_size = 3").await;
    let stop = Arc::<AtomicBool>::default();
    let mut clients = JoinSet::new();
    for id in 0..CLIENTS {
        let (raw, stop) = (proxy.client().await, stop.clone());
        let state = 0x9E37_79B9_7F4A_7C15 ^ ((id + 1) * 0x1234_5678_9ABC);
        let (told, tag) = (Told::new(), format!("c{id}"));
        let client = Client { raw, id, last: 0, told, tag, prepared: false, state, cancelled: 0 };
        clients.spawn(async move { client.run(&stop).await });
    }
    let cancels = Arc::<AtomicUsize>::default();
    let mut chaos = JoinSet::new();
    for server in std::iter::once(primary).chain(cluster.replicas()) {
        let (admin, stop, cancels) =
            (server.connect("postgres").await.unwrap(), stop.clone(), cancels.clone());
        chaos.spawn(async move {
            // Whatever works for pgweir or its clients, probes too.
            let one = "SELECT count(pg_cancel_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE usename = 'postgres' \
                AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> 'pgweir-fixture' ORDER BY random() LIMIT 1) a";
            while !stop.load(Relaxed) {
                let count: i64 = admin.query_one(one, &[]).await.unwrap().get(0);
                cancels.fetch_add(count as usize, Relaxed);
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        });
    }
    let long = std::env::var_os("PGWEIR_LONG").is_some();
    tokio::time::sleep(Duration::from_secs(if long { 120 } else { 6 })).await;
    stop.store(true, Relaxed);
    chaos.join_all().await;
    let (mut there, mut refused, mut cancelled) = (0, 0, 0);
    while let Some(ended) = clients.join_next().await {
        let client = ended.unwrap();
        let by_it = format!(
            "SELECT coalesce(string_agg(number || ' ' || tag, ',' ORDER BY number), '') FROM t WHERE client = {}",
            client.id
        );
        let tags = client.told.iter().filter_map(|(number, tag)| Some(format!("{number} {}", tag.as_ref()?)));
        let told = tags.collect::<Vec<_>>().join(",");
        assert_eq!(primary.value(&by_it).await.unwrap(), told, "client {}", client.id);
        there += rows(&client.told).len();
        refused += client.told.len() - rows(&client.told).len();
        cancelled += client.cancelled;
    }
    let others = "SELECT count(*) FROM t WHERE role <> 'r' || client";
    assert_eq!(primary.value(others).await.unwrap(), "0", "rows were written as somebody else");
    let cancels = cancels.load(Relaxed);
    println!("{there} rows, {refused} refused; {cancels} cancels, of which clients heard {cancelled}");
    assert!(there > 50 && refused > 10 && cancels > 100);
    assert_eq!(proxy.sum("pgweir_server_outages_total", &[]).await as usize, 0);
}
