//! pgbench through pgweir: no transaction fails in any of its modes, and the sums agree in the end.

use pgweir::cli::demo::cluster::Cluster;

use crate::programs::{self, Program, SOON, before, cluster, port};

/// libpq's pipeline mode: several statements in flight, a write among them, and a read of what it wrote.
const PIPELINE: &str = "\
\\set aid random(1, 100000)
\\set delta random(-5000, 5000)
\\startpipeline
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SELECT bbalance FROM pgbench_branches WHERE bid = 1;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = 1;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);
\\endpipeline
\\startpipeline
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SELECT count(*) FROM pgbench_branches;
\\endpipeline
";

/// Explicit transactions and what lies between them: `BEGIN READ ONLY` on a replica, then a write.
const MIXED: &str = "\
\\set aid random(1, 100000)
BEGIN TRANSACTION READ ONLY;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SELECT count(*) FROM pgbench_tellers;
COMMIT;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid \\gset
BEGIN;
UPDATE pgbench_accounts SET filler = 'x' WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid \\gset after_
COMMIT;
";

/// Runs pgbench and holds it to what it was told to do.
async fn bench(port: u16, mode: &str, transactions: u32, args: &[&str]) {
    let count = transactions.to_string();
    let common = ["-n", "-c", "8", "-j", "2", "--max-tries", "1", "-M", mode, "-t", &count];
    let told = Program::postgres("pgbench", port).args(common).args(args).args(["bench"]).run().await;
    let done = transactions * 8;
    assert!(
        told.code == Some(0)
            && told.out.contains(&format!("number of transactions actually processed: {done}/{done}\n"))
            && told.out.contains("number of failed transactions: 0 (0.000%)\n")
            && !told.err.contains("ERROR"),
        "{mode} {args:?}: {told:?}"
    );
}

async fn start() -> (Cluster, pgweir::app::Pgweir) {
    let cluster = cluster().replicas(2).start().await.unwrap();
    cluster.primary().sql("CREATE DATABASE bench").await.unwrap();
    cluster.wait_replayed(SOON).await.unwrap();
    let pgweir = before(&cluster).await;
    programs::wait_for_replica(port(&pgweir), "bench").await;
    let told = Program::postgres("pgbench", port(&pgweir)).args(["-i", "-q", "-s", "1", "bench"]).run().await;
    assert!(told.code == Some(0) && told.err.contains("done in"), "{told:?}");
    cluster.wait_replayed(SOON).await.unwrap();
    (cluster, pgweir)
}

async fn assert_balanced(cluster: &Cluster) {
    let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches), \
        (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)";
    let rows = cluster.primary().sql_in("bench", sums).await.unwrap();
    assert!(rows[0].iter().all(|sum| *sum == rows[0][0]), "{rows:?}");
}

async fn history(cluster: &Cluster) -> u32 {
    let rows = cluster.primary().sql_in("bench", "SELECT count(*) FROM pgbench_history").await.unwrap();
    rows[0][0].as_deref().unwrap().parse().unwrap()
}

#[tokio::test]
async fn every_mode_and_script_runs_without_a_failure() {
    let (cluster, pgweir) = start().await;
    let port = port(&pgweir);
    for mode in ["simple", "extended", "prepared"] {
        bench(port, mode, 500, &["-S"]).await;
        bench(port, mode, 60, &["-b", "tpcb-like"]).await;
        assert_balanced(&cluster).await;
    }
    assert_eq!(history(&cluster).await, 3 * 8 * 60);
    for mode in ["simple", "extended", "prepared"] {
        // simple-update leaves tellers and branches alone: the accounts alone agree with the history.
        bench(port, mode, 60, &["-N"]).await;
    }
    let rows =
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)";
    assert_eq!(cluster.primary().sql_in("bench", rows).await.unwrap()[0][0].as_deref(), Some("t"));
    assert_eq!(history(&cluster).await, 6 * 8 * 60);
}

#[tokio::test]
async fn pipelines_and_mixed_transactions_run_without_a_failure() {
    let (cluster, pgweir) = start().await;
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (pipeline, mixed) = (script("pipeline", PIPELINE), script("mixed", MIXED));
    for mode in ["extended", "prepared"] {
        bench(port(&pgweir), mode, 100, &["-f", &pipeline]).await;
        assert_balanced(&cluster).await;
    }
    assert_eq!(history(&cluster).await, 2 * 8 * 100);
    for mode in ["simple", "extended", "prepared"] {
        bench(port(&pgweir), mode, 60, &["-f", &mixed]).await;
        // A new connection for each transaction.
        bench(port(&pgweir), mode, 20, &["-C", "-S"]).await;
        // Several scripts at once.
        bench(port(&pgweir), mode, 60, &["-f", &mixed, "-b", "select-only", "-b", "tpcb-like"]).await;
    }
    assert_balanced(&cluster).await;
}
