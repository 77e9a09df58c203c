//! pg_dump, pg_restore and the small programs that people run, all through pgweir.

use std::path::Path;

use pgweir::app::Pgweir;
use pgweir::cli::demo::cluster::Cluster;

use crate::programs::{self, Output, Program, SOON, before, cluster, port, psql};

const SCHEMA: &str = include_str!("clients/schema.sql");

async fn start() -> (Cluster, Pgweir) {
    let cluster = cluster().replicas(2).start().await.unwrap();
    cluster.primary().sql("CREATE DATABASE shop").await.unwrap();
    let fill = format!(
        "{SCHEMA}\nCREATE TABLE wide AS SELECT n, repeat(md5(n::text), 300) AS t FROM generate_series(1, 300) n;"
    );
    psql(cluster.primary().port(), "shop", &["-q", "-v", "ON_ERROR_STOP=1"]).input(fill).run().await.ok();
    cluster.wait_replayed(SOON).await.unwrap();
    let pgweir = before(&cluster).await;
    programs::wait_for_replica(port(&pgweir), "shop").await;
    (cluster, pgweir)
}

async fn run(port: u16, name: &str, args: &[&str]) -> Output {
    Program::postgres(name, port).args(["-w"]).args(args).run().await
}

/// The text of a whole database, as a direct dump has it.
async fn direct_dump(cluster: &Cluster, database: &str) -> String {
    let text = run(cluster.primary().port(), "pg_dump", &["--no-comments", database]).await.ok();
    assert!(text.contains("COPY public.photos"), "{text}");
    text
}

/// Line by line, but for comments (which name versions and archives) and the random key of `\\restrict`.
#[track_caller]
fn assert_same(here: &str, there: &str) {
    let lines = |text: &str| -> Vec<String> {
        let kept =
            |line: &&str| !["--", "\\restrict ", "\\unrestrict "].iter().any(|start| line.starts_with(start));
        text.lines().filter(kept).map(str::to_owned).collect()
    };
    for (here, there) in lines(here).iter().zip(lines(there)) {
        assert_eq!(*here, there);
    }
    assert_eq!(lines(here).len(), lines(there).len());
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_dump_is_the_same_in_every_format() {
    let (cluster, pgweir) = start().await;
    let folder = tempfile::tempdir().unwrap();
    let direct = run(cluster.primary().port(), "pg_dump", &["shop"]).await.ok();
    let port = port(&pgweir);
    assert_same(&direct, &run(port, "pg_dump", &["shop"]).await.ok());
    for (name, args) in [("custom", &["-Fc"][..]), ("folder", &["-Fd", "-j2"]), ("tar", &["-Ft"])] {
        let file = path(folder.path(), name);
        run(port, "pg_dump", &[args, &["-f", &file, "shop"]].concat()).await.ok();
        let text = Program::postgres("pg_restore", port).args(["-f", "-", &file]).run().await.ok();
        assert_same(&direct, &text);
    }
    for args in [
        &["--inserts", "--rows-per-insert=50"][..],
        &["--schema-only"],
        &["--data-only", "--serializable-deferrable"],
    ] {
        let args = [args, &["shop"]].concat();
        let direct = run(cluster.primary().port(), "pg_dump", &args).await.ok();
        assert_same(&direct, &run(port, "pg_dump", &args).await.ok());
    }
    let direct = run(cluster.primary().port(), "pg_dumpall", &[]).await.ok();
    assert_same(&direct, &run(port, "pg_dumpall", &[]).await.ok());
}

#[tokio::test]
async fn a_restore_gives_the_same() {
    let (cluster, pgweir) = start().await;
    let folder = tempfile::tempdir().unwrap();
    let port = port(&pgweir);
    let file = path(folder.path(), "custom");
    run(port, "pg_dump", &["-Fc", "-f", &file, "shop"]).await.ok();
    let expected = direct_dump(&cluster, "shop").await;
    run(port, "createdb", &["again"]).await.ok();
    run(port, "pg_restore", &["-j2", "-e", "-d", "again", &file]).await.ok();
    assert_same(&expected, &direct_dump(&cluster, "again").await);
    run(port, "pg_restore", &["-j2", "--clean", "-e", "-d", "again", &file]).await.ok();
    assert_same(&expected, &direct_dump(&cluster, "again").await);
    run(port, "pg_restore", &["--clean", "--if-exists", "-1", "-d", "again", &file]).await.ok();
    assert_same(&expected, &direct_dump(&cluster, "again").await);

    run(port, "createdb", &["text"]).await.ok();
    let text = run(port, "pg_dump", &["shop"]).await.ok();
    psql(port, "text", &["-q", "-v", "ON_ERROR_STOP=1"]).input(text).run().await.ok();
    assert_same(&expected, &direct_dump(&cluster, "text").await);
}

#[tokio::test]
async fn the_small_programs_work() {
    let (cluster, pgweir) = start().await;
    let port = port(&pgweir);
    let ready = Program::postgres("pg_isready", port).run().await.ok();
    assert_eq!(ready, format!("127.0.0.1:{port} - accepting connections\n"));
    run(port, "vacuumdb", &["-z", "shop"]).await.ok();
    run(port, "vacuumdb", &["-a", "-Z", "-j2"]).await.ok();
    run(port, "reindexdb", &["-j2", "shop"]).await.ok();
    run(port, "reindexdb", &["--concurrently", "-t", "photos", "shop"]).await.ok();
    run(port, "clusterdb", &["shop"]).await.ok();
    run(port, "createuser", &["newcomer"]).await.ok();
    run(port, "dropuser", &["newcomer"]).await.ok();
    for _ in 0..3 {
        run(port, "createdb", &["brief", "a short life"]).await.ok();
        let used = psql(
            port,
            "brief",
            &["-At", "-v", "ON_ERROR_STOP=1", "-c", "CREATE TABLE t (id int)", "-c", "SELECT 'used'"],
        );
        assert_eq!(used.run().await.ok(), "CREATE TABLE\nused\n");
        // The pool's own idle connections are in nobody's way.
        run(port, "createdb", &["-T", "brief", "copied"]).await.ok();
        run(port, "dropdb", &["copied"]).await.ok();
        run(port, "dropdb", &["brief"]).await.ok();
        let gone = psql(port, "brief", &["-c", "SELECT 1"]).run().await;
        assert!(gone.code != Some(0) && gone.err.contains("database \"brief\" does not exist"), "{gone:?}");
    }
    assert_eq!(
        cluster.primary().value("SELECT count(*) FROM pg_database WHERE datname = 'brief'").await.unwrap(),
        "0"
    );
}
