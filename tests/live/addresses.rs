//! Where pgweir listens and where servers are: IPv4, IPv6, Unix sockets, host names.

use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use nix::sys::signal::Signal;
use pgweir::cli::demo::cluster::{Cluster, eventually};
use tokio::process::Child;

use crate::programs::{self, Program, SOON, cluster, configured, port, psql, signal, wait_for_replica};

fn has_ipv6() -> bool {
    let has = std::net::TcpListener::bind(("::1", 0)).is_ok();
    if !has {
        println!("SKIPPED: THIS MACHINE HAS NO IPv6 (::1 cannot be bound): nothing was tested of it");
    }
    has
}

async fn ask_at(host: &str, port: u16) -> String {
    let script = ["-h", host, "-Atc", "SELECT 'read'", "-c", "CREATE TEMP TABLE mine AS SELECT 1"];
    psql(port, "postgres", &script).run().await.ok()
}

#[tokio::test]
async fn clients_come_by_ipv4_ipv6_and_unix_socket_at_once() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().to_str().unwrap();
    let six = has_ipv6();
    let third = if six { ", \"[::1]:0\"" } else { "" };
    let top = format!("listen = [\"127.0.0.1:0\", \"{socket}:7432\"{third}]");
    let pgweir = configured(&cluster, &top, "").await;
    assert_eq!(pgweir.addresses().len(), 1 + usize::from(six));
    for address in pgweir.addresses() {
        assert_eq!(ask_at(&address.ip().to_string(), address.port()).await, "read\nSELECT 1\n");
    }
    assert_eq!(ask_at(socket, 7432).await, "read\nSELECT 1\n");
    let file = folder.path().join(".s.PGSQL.7432");
    assert!(file.metadata().unwrap().file_type().is_socket());
    drop(pgweir);
    assert!(!file.exists(), "the socket file is left");
}

/// Reads, writes, and a cancel request by way of `servers`.
async fn serve(cluster: &Cluster, servers: &[String]) {
    let rest = format!("[databases.\"*\"]\nservers = {servers:?}\n");
    let pgweir = configured(cluster, "auth_type = \"trust\"", &rest).await;
    wait_for_replica(port(&pgweir), "postgres").await;
    assert_eq!(ask_at("127.0.0.1", port(&pgweir)).await, "read\nSELECT 1\n");
    let child = psql(port(&pgweir), "postgres", &["-c", "SELECT pg_sleep(60)"]).spawn();
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()";
    cluster.replica(0).wait_value(sleeps, "1", SOON).await.unwrap();
    signal(&child, Signal::SIGINT);
    let ended = tokio::time::timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(err.contains("canceling statement due to user request"), "{err}");
}

#[tokio::test]
async fn servers_are_found_by_name_and_by_unix_socket() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let names: Vec<_> = cluster.all().iter().map(|server| format!("localhost:{}", server.port())).collect();
    serve(&cluster, &names).await;
    let folder = |server: &pgweir::cli::demo::cluster::Postgres| {
        format!("{}:{}", server.socket_folder().display(), server.port())
    };
    serve(&cluster, &cluster.all().iter().map(folder).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn servers_are_found_by_ipv6() {
    if !has_ipv6() {
        return;
    }
    let cluster = cluster().setting("listen_addresses", "127.0.0.1,::1").hba("host all all ::1/128 trust");
    let cluster = cluster.replicas(1).start().await.unwrap();
    serve(
        &cluster,
        &cluster.all().iter().map(|server| format!("[::1]:{}", server.port())).collect::<Vec<_>>(),
    )
    .await;
}

/// Starts the binary, which listens in `folder`, and waits until it does.
async fn run_binary(folder: &Path, config: &Path) -> Child {
    let child = Program::pgweir().args(["run", "--config"]).args([config]).spawn();
    let socket = folder.join(".s.PGSQL.7432");
    eventually(SOON, || async { tokio::net::UnixStream::connect(&socket).await.is_ok() }).await.unwrap();
    child
}

#[tokio::test]
async fn a_socket_file_is_replaced_when_stale_and_removed_at_the_end() {
    let cluster = cluster().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("pgweir.toml");
    let top = format!("listen = \"{}:7432\"", folder.path().display());
    std::fs::write(&config, programs::text(&cluster, &top, "")).unwrap();
    let socket = folder.path().join(".s.PGSQL.7432");

    let mut killed = run_binary(folder.path(), &config).await;
    // A second one on the same socket is refused, and leaves the first one's file alone.
    let second = Program::pgweir().args(["run", "--config"]).args([&config]).run().await;
    assert!(
        second.code == Some(1) && second.err.contains("could not listen on") && second.err.contains(":7432"),
        "{second:?}"
    );
    assert_eq!(ask_at(folder.path().to_str().unwrap(), 7432).await, "read\nSELECT 1\n");
    killed.kill().await.unwrap();
    assert!(socket.exists(), "SIGKILL leaves it");

    let mut ended = run_binary(folder.path(), &config).await;
    assert_eq!(ask_at(folder.path().to_str().unwrap(), 7432).await, "read\nSELECT 1\n");
    signal(&ended, Signal::SIGTERM);
    let status = tokio::time::timeout(SOON, ended.wait()).await.unwrap().unwrap();
    assert!(status.success() && !socket.exists(), "{status}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let cluster = cluster().start().await.unwrap();
    let pgweir = programs::before(&cluster).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("pgweir.toml");
    let taken = pgweir.addresses()[0];
    std::fs::write(&config, programs::text(&cluster, &format!("listen = \"{taken}\""), "")).unwrap();
    let told = Program::pgweir().args(["run", "--config"]).args([&config]).run().await;
    assert!(
        told.code == Some(1)
            && told.err.contains(&format!("could not listen on {taken}: Address already in use")),
        "{told:?}"
    );
    // The metrics' address likewise.
    let text = programs::text(&cluster, "", "").replace("\"off\"", &format!("\"{taken}\""));
    std::fs::write(&config, text).unwrap();
    let told = Program::pgweir().args(["run", "--config"]).args([&config]).run().await;
    assert!(
        told.code == Some(1) && told.err.contains(&format!("could not listen on {taken} for metrics")),
        "{told:?}"
    );
}
