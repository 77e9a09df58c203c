//! `pgweir advise`: what it says of a workload on a real server is what the proxy then does; and `pgweir check --connect`.

use pgweir::cli::demo::cluster::{Builder, Cluster};
use serde_json::Value;

use crate::programs::{Output, Program, cluster};
use crate::proxy::{Proxy, configuration};
use crate::raw::Raw;

const SCHEMA: &str = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
    CREATE TABLE photos (id int PRIMARY KEY, votes int NOT NULL DEFAULT 0, score bigint NOT NULL DEFAULT 0, title text);
    INSERT INTO photos SELECT n FROM generate_series(1, 100) n;
    CREATE SCHEMA \"Shop\";
    CREATE TABLE \"Shop\".\"Item's\" (\"Id\" text PRIMARY KEY, \"Sold\" bigint NOT NULL DEFAULT 0);
    INSERT INTO \"Shop\".\"Item's\" VALUES ('a'), ('b');
    CREATE TABLE audited (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
    INSERT INTO audited VALUES (1);
    CREATE TABLE measured (id int PRIMARY KEY, f float8 NOT NULL DEFAULT 0);
    INSERT INTO measured VALUES (1);
    CREATE TABLE keyless (id int, n int NOT NULL DEFAULT 0);
    INSERT INTO keyless VALUES (1);
    CREATE TABLE seldom (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
    INSERT INTO seldom VALUES (1);
    CREATE UNLOGGED TABLE quick (id int);
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER audit BEFORE UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION audit();
    CREATE FUNCTION visit(int) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION nested() RETURNS bigint STABLE LANGUAGE plpgsql AS
        'BEGIN RETURN (SELECT count(*) AS only_inside FROM photos); END';";

/// Statements, and how often each is called. The hot ones first.
const WORKLOAD: &[(&str, usize)] = &[
    ("UPDATE photos SET votes = votes + 1 WHERE id = 7", 1200),
    ("UPDATE photos AS p SET score = p.score - 5 WHERE 7 = p.id", 300),
    ("UPDATE \"Shop\".\"Item's\" SET \"Sold\" = \"Sold\" + 2 WHERE \"Id\" = 'a'", 1100),
    ("SELECT title FROM photos WHERE id = 7", 500),
    ("SELECT visit(7)", 50),
    ("SELECT title, visit(id) FROM photos WHERE id = 7", 50),
    ("SELECT * FROM quick", 5),
    ("SELECT votes FROM photos WHERE id = 7 FOR UPDATE", 5),
    ("SELECT title FROM photos WHERE id IN (1, 2, 3)", 5),
    ("SELECT now() - INTERVAL '1 day'", 5),
    ("SELECT nested()", 5),
    ("UPDATE audited SET n = n + 1 WHERE id = 1", 20),
    ("UPDATE measured SET f = f + 1 WHERE id = 1", 20),
    ("UPDATE keyless SET n = n + 1 WHERE id = 1", 20),
    ("UPDATE seldom SET n = n + 1 WHERE id = 1", 3),
    ("UPDATE photos SET votes = votes + 1 WHERE id = 7 RETURNING votes", 20),
    ("UPDATE photos SET title = 'x' WHERE id = 8", 20),
    ("SET statement_timeout = 0", 1),
    ("BEGIN", 1),
    ("SELECT count(*) FROM photos", 1),
    ("COMMIT", 1),
    ("PREPARE p AS SELECT 1", 1),
    ("EXECUTE p", 1),
    ("DEALLOCATE p", 1),
    ("SELECT \"votes\" AS \"\u{1b}[31mred\u{202e}\" FROM photos", 5),
];

fn counting() -> Builder {
    cluster()
        .setting("shared_preload_libraries", "pg_stat_statements")
        .setting("pg_stat_statements.track", "all")
}

async fn worked() -> Cluster {
    let cluster = counting().start().await.unwrap();
    cluster.primary().sql(SCHEMA).await.unwrap();
    cluster.primary().sql("SELECT pg_stat_statements_reset()").await.unwrap();
    let client = cluster.primary().connect("postgres").await.unwrap();
    for (text, times) in WORKLOAD {
        // Each by itself: a text of several statements is a transaction.
        for _ in 0..*times {
            client.batch_execute(text).await.unwrap();
        }
    }
    let long = format!("SELECT 1 -- {}", "x".repeat(100_000));
    client.batch_execute(&format!("{long}\n, 2")).await.unwrap();
    cluster
}

fn url(cluster: &Cluster, user: &str) -> String {
    format!("postgres://{user}@127.0.0.1:{}/postgres", cluster.primary().port())
}

async fn advise(args: &[&str]) -> Output {
    Program::pgweir().args(["advise"]).args(args).run().await
}

/// The rules in a text, ready to paste: paragraphs that begin as one does.
fn rules(text: &str) -> String {
    text.split("\n\n").filter(|part| part.starts_with("[[databases.")).collect::<Vec<_>>().join("\n")
}

/// What is printed is judged as in the proxy; the rules are accepted, and the proxy merges by them what was advised.
#[tokio::test]
async fn a_workload_is_judged_and_its_rules_are_merged_by() {
    let cluster = worked().await;
    let url = url(&cluster, "postgres");
    let text = advise(&["--connect", &url]).await.ok();
    println!("{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    for said in [
        "photos (id): votes, score\n    1500 calls",
        "table = \"photos\"\nkey = [\"id\"]\ncolumns = [\"votes\", \"score\"]\n",
        "table = \"Shop.Item's\"\nkey = [\"Id\"]\ncolumns = [\"Sold\"]\n",
        "it has triggers",
        "    the counter f is ",
        "no unique index of just these columns",
        "because of: it has RETURNING",
        "  user_function: Calls a function of the database's own that is VOLATILE",
        "because of: visit\n",
        "ALTER FUNCTION ... STABLE",
        "unit_too_long",
    ] {
        assert!(text.contains(said), "{said:?} is missing");
    }
    // What functions ran was not sent by a client; version 13 does not tell.
    let version: u32 = cluster.primary().value("SHOW server_version_num").await.unwrap().parse().unwrap();
    assert!(!text.contains("only_inside") || version < 140_000, "{text}");

    its_json_says_the_same(&url).await;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgweir.toml");
    let pasted = rules(&text);
    std::fs::write(&path, configuration(&cluster.servers(), "", "") + &pasted).unwrap();
    let file = path.to_str().unwrap();
    Program::pgweir().args(["check", file]).run().await.ok();
    let told = Program::pgweir().args(["check", "--connect", file]).run().await.ok();
    assert!(told.contains("counters of photos (id): merged"), "{told}");
    assert!(told.contains("counters of Shop.Item's (Id): merged"), "{told}");
    let again = advise(&["--connect", &url, "--config", file]).await.ok();
    assert!(rules(&again).is_empty() && again.contains("COUNTERS THAT HAVE A RULE"), "{again}");

    let proxy = Proxy::of_file(&path);
    proxy.knows(1).await;
    proxy.reads_catalog("postgres").await;
    let mut client = proxy.client().await;
    for (nth, (text, _)) in WORKLOAD.iter().take(3).enumerate() {
        assert_eq!(client.ok(text).await.tags, "CZ");
        let merged = proxy.sum("pgweir_counter_increments_total", &[]).await;
        assert_eq!(merged as usize, nth + 1, "{text} was not merged");
    }
    // What carried them out is no candidate.
    let told = advise(&["--connect", &url, "--json", "--top", "100"]).await.ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["own"]["calls"].as_u64(), Some(3), "{}", told["own"]);
    assert!(!told["almost"].to_string().contains(" AS t SET"), "{}", told["almost"]);
    let text = advise(&["--connect", &url]).await.ok();
    assert!(text.contains("pgweir's own: what carries out increments"), "{text}");
}

async fn its_json_says_the_same(url: &str) {
    let told = advise(&["--connect", url, "--json", "--top", "100"]).await.ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    let names = |list: &str| -> Vec<String> {
        let list = told[list].as_array().unwrap();
        list.iter().map(|one| one["table"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("counters"), ["photos", "Item's"]);
    assert_eq!(names("seldom"), ["seldom"]);
    let mut refused = names("refused");
    refused.sort();
    assert_eq!(refused, ["audited", "keyless", "measured"]);
    let of = |lines: &Value| -> Vec<(String, u64)> {
        let line =
            |line: &Value| (line["statement"].as_str().unwrap().to_owned(), line["calls"].as_u64().unwrap());
        lines.as_array().unwrap().iter().map(line).collect()
    };
    let moving = of(&told["moving"]);
    for (statement, calls) in [
        ("SELECT title FROM photos WHERE id = $1", 500),
        ("SELECT now() - INTERVAL $1", 5),
        ("SELECT nested()", 5),
        // Version 18 shortens the list.
        ("SELECT title FROM photos WHERE id IN ($1", 5),
    ] {
        let found = moving.iter().any(|(text, of)| text.starts_with(statement) && *of == calls);
        assert!(found, "{statement}: {moving:?}");
    }
    let staying = |reason: &str| {
        let groups = told["staying"].as_array().unwrap();
        groups.iter().find(|group| group["reason"] == reason).map(|group| of(&group["lines"])).unwrap()
    };
    assert!(staying("user_function").contains(&("SELECT visit($1)".to_owned(), 50)));
    assert_eq!(staying("unlogged"), [("SELECT * FROM quick".to_owned(), 5)]);
    assert_eq!(staying("lock").len(), 1);
}

/// Without the extension, without the library, without rights, without a server: it says what to do.
#[tokio::test]
async fn what_is_missing_is_said_with_a_hint() {
    let cluster = cluster().start().await.unwrap();
    let url = url(&cluster, "postgres");
    let fails = async |args: &[&str], said: &[&str]| {
        let told = advise(args).await;
        assert!(told.code == Some(1) && told.out.is_empty(), "{args:?}: {told:?}");
        for said in said {
            assert!(told.err.contains(said), "{args:?} does not say {said:?}: {}", told.err);
        }
    };
    fails(
        &["--connect", &url],
        &["no extension pg_stat_statements", "shared_preload_libraries", "CREATE EXTENSION"],
    )
    .await;
    cluster.primary().sql("CREATE EXTENSION pg_stat_statements").await.unwrap();
    fails(&["--connect", &url], &["pg_stat_statements is not loaded", "shared_preload_libraries"]).await;
    fails(&["--connect", &url.replace("/postgres", "/nowhere")], &["\"nowhere\" does not exist"]).await;
    fails(&["--connect", "nonsense"], &["pgweir advise: "]).await;
    fails(&["--connect", "postgres://postgres@127.0.0.1:1/x"], &["refused"]).await;
    fails(&["--connect", &url, "--config", "/not/there.toml"], &["/not/there.toml: cannot be read"]).await;
    assert_eq!(advise(&[]).await.code, Some(2));
    let none = advise(&["--connect", &url, "--top", "0"]).await;
    assert!(none.code == Some(2) && none.err.contains("--top"), "{none:?}");
}

/// A role that may not see the texts of others is told how much it does not see.
#[tokio::test]
async fn what_others_sent_is_counted_though_not_seen() {
    let cluster = counting().start().await.unwrap();
    let primary = cluster.primary();
    primary
        .sql("CREATE EXTENSION pg_stat_statements; CREATE ROLE plain LOGIN; CREATE TABLE secret (id int)")
        .await
        .unwrap();
    primary.sql("SELECT * FROM secret").await.unwrap();
    let told = advise(&["--connect", "nonsense"]).await;
    assert!(
        told.code == Some(1) && told.err.contains("this is no connection string (unexpected EOF): say a URL"),
        "{told:?}"
    );
    let text = advise(&["--connect", &url(&cluster, "plain")]).await.ok();
    assert!(text.contains("NOT SEEN: ") && text.contains("GRANT pg_read_all_stats TO plain"), "{text}");
    assert!(!text.contains("secret") && text.contains("IN ALL: "), "{text}");
    primary.sql("GRANT pg_read_all_stats TO plain").await.unwrap();
    let text = advise(&["--connect", &url(&cluster, "plain")]).await.ok();
    assert!(!text.contains("NOT SEEN") && text.contains("SELECT * FROM secret"), "{text}");
}

/// The servers' word on a configuration: what they are, and which counters would be merged.
#[tokio::test]
async fn check_asks_the_servers() {
    let cluster = cluster().replicas(1).start().await.unwrap();
    let tables = "CREATE TABLE photos (id int PRIMARY KEY, votes int); CREATE TABLE measured (id int PRIMARY KEY, f float8)";
    cluster.primary().sql(tables).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgweir.toml");
    let file = path.to_str().unwrap();
    let counter = |table: &str, column: &str| {
        format!(
            "[[databases.postgres.counters]]\ntable = \"{table}\"\nkey = [\"id\"]\ncolumns = [\"{column}\"]\n"
        )
    };
    let check = async |servers: &[String], more: &str, rest: &str| {
        std::fs::write(&path, configuration(servers, rest, more)).unwrap();
        Program::pgweir().args(["check", "--connect", file]).run().await
    };
    let mut servers = cluster.servers();
    let good = counter("photos", "votes");
    let told = check(&servers, "", &good).await;
    assert_eq!((told.code, &*told.err), (Some(0), ""), "{told:?}");
    let (primary, replica) =
        (format!("  {}: primary, PostgreSQL ", servers[0]), format!("  {}: replica, ", servers[1]));
    for said in [&*primary, &replica, " bytes behind", ", system ", "counters of photos (id): merged"] {
        assert!(told.out.contains(said), "{said}: {}", told.out);
    }

    let wrong = counter("measured", "f") + &counter("nowhere", "n");
    let functions = "[routing]\nread_only_functions = [\"lower\", \"gone\"]\n";
    let told = check(&servers, functions, &(good.clone() + &wrong)).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.out.contains("counters of photos (id): merged"), "{told:?}");
    assert!(told.out.contains("read_only_functions: there is no function gone"), "{told:?}");
    assert!(!told.out.contains("lower"), "{told:?}");
    assert!(told.err.contains("measured (id) would not be merged: the counter f is"), "{told:?}");
    assert!(told.err.contains("nowhere (id) would not be merged: there is no such table"), "{told:?}");

    // Nobody listens at port 1; what can be asked is asked all the same.
    servers.push("127.0.0.1:1".to_owned());
    let told = check(&servers, "", &good).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.err.contains("127.0.0.1:1 cannot be asked: ") && told.out.contains(": merged"), "{told:?}");
    assert_eq!(told.err.lines().count(), 1, "{told:?}");

    // One that claims to be primary beside the other (with a copy of the same data folder), and one of another system.
    let twin = crate::programs::cluster().start().await.unwrap();
    let stranger = Cluster::builder().start().await.unwrap();
    servers[2] = twin.primary().address();
    servers.push(stranger.primary().address());
    let told = check(&servers, "", "").await;
    assert_eq!((told.code, told.err.lines().count()), (Some(1), 2), "{told:?}");
    assert!(told.err.contains(&format!("{} claims to be primary beside another", servers[2])), "{told:?}");
    assert!(told.err.contains(&format!("{} is a copy of another system", servers[3])), "{told:?}");

    // The monitor's role need not be let into the schema of a counter.
    let primary = cluster.primary();
    let schema = "CREATE SCHEMA shop; CREATE TABLE shop.photos (id int PRIMARY KEY, votes int); CREATE ROLE watcher LOGIN";
    primary.sql(schema).await.unwrap();
    let text = configuration(&cluster.servers(), &counter("shop.photos", "votes"), "");
    std::fs::write(&path, text.replace("user = \"postgres\"", "user = \"watcher\"")).unwrap();
    let told = Program::pgweir().args(["check", "--connect", file]).run().await;
    assert!(told.out.contains("counters of shop.photos (id): merged"), "{told:?}");

    // Without a primary nothing can be promised.
    let told = check(&servers[1..2], "", &good).await;
    assert!(told.code == Some(1) && told.err.contains("none of the servers is a primary"), "{told:?}");

    // `*` is no database: that of the monitor stands for it.
    let text = configuration(&cluster.servers(), "", "").replace("[databases.postgres]", "[databases.\"*\"]");
    std::fs::write(&path, text + &wrong.replace("postgres.counters", "\"*\".counters")).unwrap();
    let told = Program::pgweir().args(["check", "--connect", file]).run().await;
    assert!(told.out.contains("it stands for every name: asked in postgres"), "{told:?}");
    assert!(told.out.contains("nowhere (id): there is no such table here"), "{told:?}");
    assert!(told.code == Some(1) && !told.err.contains("nowhere"), "{told:?}");
    // Without --connect nobody is asked.
    Program::pgweir().args(["check", file]).run().await.ok();
}

/// A pgweir has counted what went through it: its advice is that of the server's own counting, through it and from its console.
#[tokio::test]
async fn a_pgweir_is_asked_for_its_shapes() {
    let cluster = worked().await;
    let proxy = Proxy::before(&cluster.servers(), "");
    proxy.knows(1).await;
    proxy.reads_catalog("postgres").await;
    let mut client = proxy.client().await;
    for (text, times) in WORKLOAD {
        for _ in 0..*times {
            client.query(text).await.unwrap();
        }
    }
    let through = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.address().port());
    let console = format!("host=127.0.0.1 port={} user=postgres dbname=pgweir", proxy.address().port());
    for url in [&through, &console] {
        let text = advise(&["--connect", url]).await.ok();
        println!("{text}");
        for said in [
            "Database postgres, as the role postgres sees it: what went through this pgweir",
            "photos (id): votes, score\n    1500 calls",
            "UPDATE photos SET votes = votes + ? WHERE id = ?",
            "table = \"photos\"\nkey = [\"id\"]\ncolumns = [\"votes\", \"score\"]\n",
            "table = \"Shop.Item's\"\nkey = [\"Id\"]\ncolumns = [\"Sold\"]\n",
            "it has triggers",
            "because of: it has RETURNING",
            "  user_function: Calls a function of the database's own that is VOLATILE",
            "because of: visit\n",
        ] {
            assert!(text.contains(said), "{said:?} is missing");
        }
        assert!(!text.contains(" at least\n") && !text.contains("\u{1b}"), "{text}");
        let told = advise(&["--connect", url, "--json", "--top", "100"]).await.ok();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["source"], "pgweir");
        let moving = told["moving"].as_array().unwrap();
        let read = moving.iter().find(|line| line["statement"] == "SELECT title FROM photos WHERE id = ?");
        let read = read.unwrap_or_else(|| panic!("{moving:?}"));
        assert_eq!(read["calls"].as_u64(), Some(500), "{read}");
        // The shape as rules name it.
        let mut routes = proxy.console().await;
        let routes = routes.ok("SHOW ROUTES LIMIT 1000").await.rows;
        let row = routes.iter().find(|row| row[9].as_deref() == read["statement"].as_str()).unwrap();
        assert_eq!(row[8].as_deref(), read["shape"].as_str());
        assert_eq!(told["all"]["calls"].as_u64().unwrap(), {
            let calls = |list: &str| told[list]["calls"].as_u64().unwrap();
            let rest: u64 =
                told["rest"].as_array().unwrap().iter().map(|one| one["calls"].as_u64().unwrap()).sum();
            calls("moves") + calls("stays") + calls("writes") + calls("own") + calls("others") + rest
        });
    }
    let rules = async |url: &str| {
        let told = rules(&advise(&["--connect", url]).await.ok());
        // The order is that of times.
        let mut all: Vec<_> = told.split("[[").map(|rule| rule.trim().to_owned()).collect();
        all.sort();
        all
    };
    assert_eq!(rules(&through).await, rules(&url(&cluster, "postgres")).await);
}

/// A pgweir whose console is not for everybody, and one of several databases.
#[tokio::test]
async fn a_pgweir_that_says_nothing_says_why() {
    let cluster = cluster().start().await.unwrap();
    cluster.primary().sql("CREATE ROLE web LOGIN").await.unwrap();
    let text = "stats_users = [\"postgres\"]\n".to_owned() + &configuration(&cluster.servers(), "", "");
    let other = format!("[databases.other]\nservers = {:?}\ndbname = \"postgres\"\n", cluster.servers());
    let proxy = Proxy::with(&(text + &other));
    for database in ["postgres", "other"] {
        let mut client = Raw::login(proxy.address(), &[("database", database)]).await.unwrap();
        assert_eq!(client.value("SELECT 1").await, "1");
    }
    let url = |user: &str, database: &str| format!("postgres://{user}@{}/{database}", proxy.address());
    for database in ["postgres", "pgweir"] {
        let told = advise(&["--connect", &url("web", database)]).await;
        assert!(told.code == Some(1) && told.err.contains("its console lets web not in"), "{told:?}");
        assert!(told.err.contains("hint: name that user in stats_users"), "{told:?}");
    }
    let told = advise(&["--connect", &url("postgres", "pgweir")]).await;
    assert!(told.code == Some(1) && told.err.contains("say which with --database"), "{told:?}");
    let said = advise(&["--connect", &url("postgres", "pgweir"), "--database", "other"]).await.ok();
    assert!(said.contains("Database other, as the role postgres sees it"), "{said}");
}
