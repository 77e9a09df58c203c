//! Memory of a `pgweir run` of its own: big results and slow readers cost a window, idle clients next to nothing.

use std::net::SocketAddr;
use std::process::Stdio;

use pgweir::cli::demo::cluster::{Cluster, eventually};
use tokio::process::{Child, Command};

use crate::proxy::{SOON, Watch, cluster, configuration};
use crate::raw::{Raw, copy_data, copy_done, query};

const MIB: usize = 1024 * 1024;

/// A pgweir in a process of its own.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Process {
    async fn start(cluster: &Cluster) -> Self {
        Self::with(cluster, "").await
    }

    /// With these settings of the whole pgweir.
    pub(crate) async fn with(cluster: &Cluster, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = configuration(&cluster.servers(), "pool_size = 4", "");
        let text = text.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1);
        let text = format!("{settings}\n{text}");
        let file = folder.path().join("pgweir.toml");
        std::fs::write(&file, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pgweir"))
            .arg("run")
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually(SOON, || async { Raw::login(address, &[]).await.is_ok() }).await.unwrap();
        Self { child, address, _folder: folder }
    }

    pub(crate) async fn client(&self) -> Raw {
        Raw::login(self.address, &[]).await.unwrap()
    }

    /// A line of /proc/PID/status, in bytes.
    pub(crate) fn status(&self, name: &str) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<usize>().unwrap() * 1024
    }
}

/// Copies so many chunks of 200 kB in.
async fn copy_in(process: &Process, chunks: usize) {
    let mut client = process.client().await;
    client.ok("TRUNCATE big").await;
    assert_eq!(client.query("COPY big FROM STDIN").await.unwrap().tags, "G");
    let chunk = copy_data(&[&[b'y'; 999][..], b"\n"].concat().repeat(200));
    for _ in 0..chunks {
        client.send(&chunk).await.unwrap();
    }
    client.send(&copy_done()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().tags, "CZ");
    assert_eq!(client.value("SELECT count(*) FROM big").await, (chunks * 200).to_string());
}

#[tokio::test]
async fn big_results_and_slow_readers() {
    let cluster = cluster().start().await.unwrap();
    cluster.primary().sql("CREATE UNLOGGED TABLE big (x text)").await.unwrap();
    let process = Process::start(&cluster).await;
    let watch = Watch::new(cluster.primary()).await;
    // What this needs of the program is in memory before it counts.
    for _ in 0..2 {
        process.client().await.ok("SELECT repeat('x', 200000) FROM generate_series(1, 20)").await;
        process.client().await.query("COPY (SELECT repeat('x', 200000)) TO STDOUT").await.unwrap();
        copy_in(&process, 1).await;
    }
    let before = process.status("VmRSS:");

    // A row of 100 MB, and 64 MB in rows, to readers that let them wait.
    for (text, row) in [
        ("SELECT repeat('x', 100000000)", 100_000_000),
        ("SELECT repeat('x', 1000) FROM generate_series(1, 65536)", 1000),
        ("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 65536)) TO STDOUT", 1001),
    ] {
        let mut client = process.client().await;
        client.reads_little();
        client.send(&query(text)).await.unwrap();
        watch.becomes("wait_event = 'ClientWrite'", 1, SOON).await;
        let mut sum = 0;
        loop {
            let (tag, body) = client.message().await.unwrap();
            match tag {
                b'D' => sum += body.len() - 6,
                b'd' => sum += body.len(),
                b'Z' => break,
                _ => {}
            }
        }
        assert!(sum == row || sum == row * 65536, "{text}: {sum}");
    }
    // 64 MB in.
    copy_in(&process, 320).await;
    let (now, peak) = (process.status("VmRSS:"), process.status("VmHWM:"));
    println!("{} KiB before, {} KiB after, {} KiB at most", before / 1024, now / 1024, peak / 1024);
    // Worker threads take memory of their own when they come to work first.
    assert!(peak < before + 16 * MIB);
}

#[tokio::test]
async fn idle_clients_are_cheap() {
    const CLIENTS: usize = 500;
    let cluster = cluster().start().await.unwrap();
    let process = Process::start(&cluster).await;
    let crowd = async |count: usize| {
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = process.client().await;
            client.ok("SELECT 1").await;
            clients.push(client);
        }
        clients
    };
    drop(crowd(20).await);
    let before = process.status("VmRSS:");
    let clients = crowd(CLIENTS).await;
    let each = process.status("VmRSS:").saturating_sub(before) / CLIENTS;
    println!("{each} bytes for each idle client");
    assert!(each < 8 * 1024, "{each} bytes for each");
    drop(clients);
}
