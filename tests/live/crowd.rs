//! Many who listen, and much that is said: all of it is heard once and in order, on one server connection, and what is lost when
//! the primary is replaced is said.
//!
//! `PGWEIR_LISTENERS`, `PGWEIR_NOTIFIES` (a second) and `PGWEIR_SECONDS` make the test at length another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pgweir::cli::demo::cluster::eventually;
use pgweir::clock;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::memory::Process;
use crate::proxy::{SOON, Watch, cluster};
use crate::raw::{Raw, refusal};

/// So much is said in one statement.
const BATCHES: usize = 50;

#[derive(Clone, Copy)]
struct Crowd {
    listeners: usize,
    /// Notifications a second.
    notifies: usize,
    seconds: usize,
}

/// What one listener has heard of its channel, in order from 0, and the SQLSTATE of the error that ended it.
struct Heard {
    notifications: usize,
    code: String,
}

async fn listen(mut client: Raw, channel: String, all: Arc<AtomicUsize>) -> Heard {
    let mut notifications = 0;
    loop {
        let (tag, body) = client.message().await.unwrap();
        if tag == b'E' {
            return Heard { notifications, code: refusal(&body).code };
        }
        assert_eq!(tag, b'A');
        let expected = format!("{channel}\0{notifications}\0");
        assert_eq!(body[4..].escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
        notifications += 1;
        all.fetch_add(1, Relaxed);
    }
}

impl Crowd {
    /// Says so many more to all in turn, from that number on. False: nobody knows what became of it.
    async fn say(&self, teller: &mut Raw, from: usize, count: usize) -> bool {
        let text = format!(
            "SELECT count(pg_notify('c' || n % {}, (n / {})::text)) FROM generate_series({from}, {}) n",
            self.listeners,
            self.listeners,
            from + count - 1
        );
        teller.query(&text).await.is_ok_and(|answer| answer.errors.is_empty())
    }

    async fn run(self) {
        let cluster = cluster().replicas(1).start().await.unwrap();
        let pgweir = Process::with(&cluster, "max_client_conn = 10000\nfailover_wait = \"60s\"").await;
        let watch = Watch::new(cluster.primary()).await;
        let empty = pgweir.status("VmRSS:");
        let mut clients = Vec::new();
        for number in 0..self.listeners {
            let mut client = pgweir.client().await;
            client.ok(&format!("LISTEN c{number}")).await;
            clients.push((client, format!("c{number}")));
        }
        let idle = pgweir.status("VmRSS:");
        let (all, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for (client, channel) in clients {
            tasks.spawn(listen(client, channel, all.clone()));
        }
        let mut teller = pgweir.client().await;
        let (start, mut said) = (clock::now(), 0);
        for batch in 0..u32::try_from(BATCHES * self.seconds).unwrap() {
            // A rate is the point.
            sleep_until(start + Duration::from_secs(1) * batch / u32::try_from(BATCHES).unwrap()).await;
            assert!(self.say(&mut teller, said, self.notifies / BATCHES).await);
            said += self.notifies / BATCHES;
        }
        let took = start.elapsed();
        eventually(SOON, || async { all.load(Relaxed) == said }).await.unwrap();
        let late = start.elapsed() - took;
        let hubs =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%LISTEN%' AND pid <> pg_backend_pid()";
        assert_eq!(watch.column(hubs).await, ["1"]);
        let busy = pgweir.status("VmHWM:");
        println!(
            "{} listeners, {said} notifications in {took:?}, the last heard {late:?} after it was said; \
            {} KiB for each listener, {} MiB at most",
            self.listeners,
            idle.saturating_sub(empty) / 1024 / self.listeners,
            busy / 1024 / 1024
        );

        // The primary dies while something is said all the time, and another takes over.
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let spoken = tokio::spawn(async move {
            while !ends.load(Relaxed) && self.say(&mut teller, said, self.notifies / BATCHES).await {
                said += self.notifies / BATCHES;
            }
            said
        });
        eventually(SOON, || async { all.load(Relaxed) > said }).await.unwrap();
        cluster.primary().kill().await.unwrap();
        cluster.replica(0).promote().await.unwrap();
        over.store(true, Relaxed);
        let said = spoken.await.unwrap();
        let mut heard = 0;
        while let Some(ended) = tasks.join_next().await {
            let Heard { notifications, code } = ended.unwrap();
            assert_eq!(code, "08006", "somebody was not told");
            heard += notifications;
        }
        println!(
            "{heard} of {said} were heard; all {} listeners were told that some were not",
            self.listeners
        );
        let mut again = pgweir.client().await;
        again.ok("LISTEN c0").await;
        let mut teller = pgweir.client().await;
        teller.ok("NOTIFY c0, '0'").await;
        assert_eq!(again.message().await.unwrap().0, b'A');
    }
}

#[tokio::test]
async fn all_is_heard_once_and_in_order_and_what_is_lost_is_said() {
    Crowd { listeners: 300, notifies: 2_000, seconds: 2 }.run().await;
}

#[tokio::test]
#[ignore = "takes minutes, and two free cores"]
async fn a_crowd_at_length() {
    let number =
        |name: &str, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let crowd = Crowd {
        listeners: number("PGWEIR_LISTENERS", 5_000),
        notifies: number("PGWEIR_NOTIFIES", 10_000),
        seconds: number("PGWEIR_SECONDS", 10),
    };
    crowd.run().await;
}

/// Who does not read costs no more than it may, and hears of that when it reads again; who reads is not held up.
#[tokio::test]
async fn who_does_not_read_costs_no_more_than_it_may() {
    const SLOW: usize = 20;
    let cluster = cluster().start().await.unwrap();
    let pgweir = Process::with(&cluster, "max_notifications = 100000\nnotification_memory = 1048576").await;
    let mut quick = pgweir.client().await;
    quick.ok("LISTEN loud").await;
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let mut client = pgweir.client().await;
        client.reads_little();
        // Each has a channel of its own: nothing that is kept for one is another's, too.
        client.ok(&format!("LISTEN loud{number}")).await;
        slow.push(client);
    }
    let before = pgweir.status("VmRSS:");
    let mut teller = pgweir.client().await;
    // 16 MB for each.
    for round in 0..40 {
        for number in 0..SLOW {
            let text = format!(
                "SELECT count(pg_notify('loud{number}', n || repeat('x', 7000))) FROM generate_series(1, 60) n"
            );
            teller.ok(&text).await;
        }
        teller.ok(&format!("NOTIFY loud, '{round}'")).await;
        assert_eq!(quick.message().await.unwrap().0, b'A');
    }
    let grown = pgweir.status("VmRSS:").saturating_sub(before) / 1024;
    println!("{} KiB more for each who does not read", grown / SLOW);
    // What is kept, a window, and what the allocator has not given back.
    assert!(grown < SLOW * 3 * 1024, "{grown} KiB for {SLOW}");
    for mut client in slow {
        let mut notifications = 0;
        let code = loop {
            match client.message().await.unwrap() {
                (b'A', _) => notifications += 1,
                (tag, body) => {
                    assert_eq!(tag, b'E');
                    break refusal(&body).code;
                }
            }
        };
        assert_eq!(code, "54000");
        assert!((100..2_400).contains(&notifications), "{notifications}");
    }
}
