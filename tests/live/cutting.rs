//! Flushes whose connection breaks, at every byte of the server's replies: what was acknowledged counts once.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pgweir::cli::demo::cluster::{Cluster, eventually};

use crate::counters::told;
use crate::kept::{rounds, until_kept};
use crate::proxy::{Proxy, SOON, cluster, configuration};
use crate::raw::query;
use crate::relay::{CUT, Relay};

/// A server with a table whose name has its connections cut off, and a pgweir before it that counts there.
struct Stage {
    cluster: Cluster,
    relay: Relay,
    proxy: Proxy,
    /// Of the journal.
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn set(durability: &str, rows: usize) -> Self {
        let cluster = cluster().start().await.unwrap();
        let table = format!(
            "CREATE TABLE {CUT:?} (id int PRIMARY KEY, n int DEFAULT 0); \
             INSERT INTO {CUT:?} SELECT generate_series(1, {rows})"
        );
        cluster.primary().sql(&table).await.unwrap();
        let relay = Relay::before(&cluster.primary().address()).await;
        relay.cuts_at_binds();
        let folder = tempfile::tempdir().unwrap();
        let kept = if durability == "commit" { "" } else { "flush_every = \"1h\"\nverify = \"never\"\n" };
        let rule = format!(
            "server_login_retry = \"10ms\"\n[[databases.postgres.counters]]\ntable = {CUT:?}\nkey = [\"id\"]\ncolumns = [\"n\"]\n\
             durability = {durability:?}\n{kept}"
        );
        let path = folder.path().join("pgweir.toml");
        let journal = "[journal]\nfolder = \"journal\"\n";
        std::fs::write(&path, configuration(&[relay.address()], &rule, journal)).unwrap();
        let proxy = Proxy::of_file(&path);
        proxy.knows(1).await;
        // What comes before the catalog is known passes by, and is not merged.
        proxy.reads_catalog("postgres").await;
        Self { cluster, relay, proxy, _folder: folder }
    }

    /// What is in all rows.
    async fn there(&self) -> usize {
        let there = self.cluster.primary().value(&format!("SELECT sum(n) FROM {CUT:?}")).await;
        there.unwrap().parse().unwrap()
    }

    async fn failures(&self) -> usize {
        self.proxy.sum("pgweir_counter_failures_total", &[]).await as usize
    }
}

fn vote(id: usize) -> String {
    format!("UPDATE {CUT:?} SET n = n + 1 WHERE id = {id}")
}

/// The connection of a flush breaks within the server's replies, at every byte in the long form: what is acknowledged counts once, what is not at most once.
#[tokio::test]
async fn a_flush_that_is_cut_off() {
    for durability in ["journal", "memory", "commit"] {
        let stage = Stage::set(durability, 1).await;
        let (proxy, relay) = (&stage.proxy, &stage.relay);
        let (mut client, mut console) = (proxy.client().await, proxy.console().await);
        let text = vote(1);
        let vote = query(&text);
        assert_eq!(told(&mut client, &vote).await, "UPDATE 1");
        let (mut sure, mut unsure, mut whole) = (1, 0, 0);
        // The long form cuts at each byte.
        let step = if rounds(0) > 0 || durability == "commit" { 1 } else { 13 };
        for cut in (0..).step_by(step) {
            // Nothing else is asked about the table then.
            if durability == "commit" {
                assert_eq!(told(&mut client, &vote).await, "UPDATE 1");
                sure += 1;
            } else {
                sure += until_kept(proxy, &mut client, &text, 1).await;
                console.ok("FLUSH COUNTERS").await;
            }
            let before = stage.failures().await;
            relay.cut_after(cut);
            let answered = AtomicBool::new(false);
            let (told, ()) = tokio::join!(
                async {
                    let told = told(&mut client, &vote).await;
                    console.ok("FLUSH COUNTERS").await;
                    answered.store(true, Relaxed);
                    told
                },
                async {
                    let seen = || async { answered.load(Relaxed) || stage.failures().await > before };
                    eventually(SOON, seen).await.unwrap();
                    relay.cut_after(usize::MAX);
                }
            );
            match told.as_str() {
                "UPDATE 1" => sure += 1,
                "08007" => unsure += 1,
                other => panic!("{durability} after {cut} bytes: {other}"),
            }
            whole = if stage.failures().await == before { whole + 1 } else { 0 };
            let there = stage.there().await;
            assert!(
                sure <= there && there <= sure + unsure,
                "{durability} after {cut} bytes: {sure} <= {there} <= {}",
                sure + unsure
            );
            // What was unknown is known now.
            unsure -= there - sure;
            sure = there;
            if whole == 8 {
                println!("{durability}: up to {cut} bytes were cut off");
                assert!(cut > 20, "{durability}: nothing was cut after {cut} bytes");
                break;
            }
        }
    }
}

/// A statement misses a row: somebody deletes it and makes it anew while the statement waits for it. It is asked for once more before the
/// flush is committed, wherever the connection breaks.
#[tokio::test]
async fn a_row_that_is_missed_is_in_the_same_flush() {
    // One row by itself, or several in one statement.
    for (durability, rows) in [("journal", 6), ("memory", 1)] {
        let stage = Stage::set(durability, rows).await;
        let other = stage.cluster.primary().connect("postgres").await.unwrap();
        let (mut client, mut console) = (stage.proxy.client().await, stage.proxy.console().await);
        let (mut sure, mut whole, mut missed) = (0, 0, 0);
        let step = if rounds(0) > 0 { 1 } else { 11 };
        for cut in (0..).step_by(step) {
            // The table has just been looked at: the flush asks nothing else about it.
            sure += until_kept(&stage.proxy, &mut client, &vote(rows), 1).await;
            console.ok("FLUSH COUNTERS").await;
            for id in 1..=rows {
                assert_eq!(told(&mut client, &query(&vote(id))).await, "UPDATE 1");
                sure += 1;
            }
            let before = stage.failures().await;
            let again = format!(
                "BEGIN; DELETE FROM {CUT:?} WHERE id = {rows}; INSERT INTO {CUT:?} VALUES ({rows}, {})",
                stage
                    .cluster
                    .primary()
                    .value(&format!("SELECT n FROM {CUT:?} WHERE id = {rows}"))
                    .await
                    .unwrap()
            );
            other.batch_execute(&again).await.unwrap();
            stage.relay.cut_after(cut);
            let answered = AtomicBool::new(false);
            let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
            tokio::join!(
                async {
                    console.ok("FLUSH COUNTERS").await;
                    answered.store(true, Relaxed);
                },
                async {
                    let fails = async || stage.failures().await > before;
                    let waits = async || stage.cluster.primary().value(waits).await.unwrap() != "0";
                    let seen = || async { waits().await || fails().await || answered.load(Relaxed) };
                    eventually(SOON, seen).await.unwrap();
                    missed += usize::from(waits().await);
                    other.batch_execute("COMMIT").await.unwrap();
                    let seen = || async { answered.load(Relaxed) || fails().await };
                    eventually(SOON, seen).await.unwrap();
                    stage.relay.cut_after(usize::MAX);
                }
            );
            whole = if stage.failures().await == before { whole + 1 } else { 0 };
            assert_eq!(stage.there().await, sure, "{durability} after {cut} bytes");
            if whole == 8 {
                println!("{durability}: up to {cut} bytes were cut off, {missed} flushes waited");
                assert!(cut > 120 && missed > 12, "{durability}: after {cut} bytes, {missed} flushes waited");
                break;
            }
        }
        assert_eq!(stage.proxy.sum("pgweir_counter_unmatched_total", &[]).await as usize, 0);
        assert_eq!(stage.proxy.sum("pgweir_counter_lost_total", &[]).await as usize, 0);
    }
}
