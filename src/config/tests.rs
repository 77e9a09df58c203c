//! Tests of the whole: good files, bad files with their exact complaints, and any file at all.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::check::NEVER;
use super::*;
use crate::auth::{AuthType, Secret};
use crate::pool::PoolMode;

/// A world of its own: these variables, these files, and nothing of the machine that runs the test.
fn world<'a>(variable: &'a dyn Fn(&str) -> Option<String>) -> Surroundings<'a> {
    Surroundings {
        variable,
        read: &|path| match path.to_str() {
            Some("/etc/pgweir/there") => Ok("from a file\n".to_owned()),
            Some("/etc/pgweir/empty") => Ok("\n".to_owned()),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "not found")),
        },
        folder: PathBuf::from("/etc/pgweir"),
    }
}

fn some_variables(name: &str) -> Option<String> {
    match name {
        "APP_PASSWORD" | "POOL_PASSWORD" => Some("from the environment".to_owned()),
        "AN_MD5_HASH" => Some("md50123456789abcdef0123456789abcdef".to_owned()),
        _ => None,
    }
}

fn libpq_variables(name: &str) -> Option<String> {
    match name {
        "PGUSER" => Some("dev".to_owned()),
        "PGPASSWORD" => Some("md5 is a fine beginning".to_owned()),
        _ => None,
    }
}

/// Parses in a world with [`some_variables`].
pub(super) fn parse_here(text: &str, file: &str) -> Result<Config, Complaints> {
    parse_in(text, file, &world(&some_variables))
}

fn good(text: &str) -> Config {
    parse_here(text, "good.toml").unwrap_or_else(|complaints| panic!("{complaints}"))
}

/// Holds a file to what it should be, or makes it so if `UPDATE_GOLDEN` is set.
pub(super) fn compare(path: &Path, expected: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, expected, "{}: set UPDATE_GOLDEN=1 to rewrite it", path.display());
}

fn toml_files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

#[test]
fn bad_files_get_their_complaints() {
    let files = toml_files("tests/golden/config");
    assert!(files.len() >= 25);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let file = path.file_name().unwrap().to_str().unwrap();
        let Err(complaints) = parse_here(&text, file) else { panic!("{file} is fine") };
        let said = format!("{complaints}\n");
        compare(&path.with_extension("txt"), &said);
        assert!(!said.contains("hunter2"), "{file}: a secret is printed");
        assert!(complaints.0.iter().all(|c| c.line >= 1 && c.column >= 1), "{file}");
        assert!(complaints.0.is_sorted_by_key(|c| (c.line, c.column)), "{file}");
    }
}

#[test]
fn files_that_are_shipped_are_fine() {
    for path in toml_files("config") {
        let text = std::fs::read_to_string(&path).unwrap();
        good(&text);
    }
}

#[test]
fn the_least_file() {
    let config = good("[databases.app]\nservers = [\"a\"]");
    assert_eq!(config.listen, ["127.0.0.1:6432".parse().unwrap()]);
    assert_eq!(config.metrics_listen, Some(([127, 0, 0, 1], 9432).into()));
    assert_eq!(config.auth.auth_type, AuthType::Trust);
    assert!(config.auth.users.is_empty() && config.worker_threads() >= 1);
    let [app] = &config.databases[..] else { panic!() };
    assert_eq!((app.name.as_str(), &app.server_database, &app.login), ("app", &None, &None));
    assert_eq!(app.pool, pool::Options::default());
    assert_eq!((&*app.monitor.login.user, &app.monitor.login.secret), ("postgres", &None));
}

#[test]
fn a_database_inherits_and_overrides() {
    let config = good(
        "pool_mode = 'session'\npool_size = 7\nquery_wait_timeout = '0s'\nclient_idle_timeout = '0s'\n\
         databases.z.servers = ['h']\n\
         [databases.a]\nservers = ['h', '/tmp']\npool_mode = 'transaction'\nquery_wait_timeout = '1s'\n\
         dbname = 'b'\nreads.balance = 'random'",
    );
    let [z, a] = &config.databases[..] else { panic!("in the order of the file") };
    assert_eq!((z.pool.mode, z.pool.size, z.pool.query_wait_timeout), (PoolMode::Session, 7, NEVER));
    assert_eq!((a.pool.mode, a.pool.size), (PoolMode::Transaction, 7));
    assert_eq!(a.pool.query_wait_timeout, Duration::from_secs(1));
    assert_eq!((a.server_database.as_deref(), a.spread.balance), (Some("b"), cluster::Balance::Random));
    assert_eq!(config.client.idle_timeout, Duration::ZERO);
}

#[test]
fn a_server_may_have_more_to_it() {
    let config = good(
        "[databases.a]\nservers = ['h', { address = 'i:7', weight = 3, zone = 'x' }, { address = 'j', drain = true }]\n\
         reads = { sticky = true, zone = 'x', slow_start = '5s', balance = 'least_latency' }",
    );
    let [a] = &config.databases[..] else { panic!() };
    let of = |place: usize| (a.servers[place].address.to_string(), a.servers[place].orders.clone());
    let orders = cluster::Orders::default;
    assert_eq!(of(0), ("h:5432".into(), orders()));
    assert_eq!(of(1), ("i:7".into(), cluster::Orders { weight: 3, zone: Some("x".into()), ..orders() }));
    assert_eq!(of(2), ("j:5432".into(), cluster::Orders { duty: cluster::Duty::Draining, ..orders() }));
    let spread = cluster::Spread {
        balance: cluster::Balance::LeastLatency,
        sticky: true,
        strictly_monotonic: false,
        zone: Some("x".into()),
        slow_start: Duration::from_secs(5),
    };
    assert_eq!(a.spread, spread);
}

#[test]
fn what_only_a_restart_changes_is_told() {
    let base = "databases.a.servers = ['h']\n";
    let differs = |text: &str| good(text).differs(&good(base));
    assert_eq!(differs(base), [""; 0]);
    assert_eq!(differs("databases.b.servers = ['i']\npool_size = 3\nusers.x.password = 'y'"), [""; 0]);
    assert_eq!(
        differs(&format!("workers = 3\nmonitor.interval = '1s'\n{base}")),
        ["monitor.interval", "workers"]
    );
}

#[test]
fn everybody_is_an_operator_only_on_this_machine_and_unnamed() {
    let everybody = |top: &str| good(&format!("{top}\ndatabases.a.servers = ['h']")).admin.everybody;
    assert!(everybody("") && everybody("stats_users = []"));
    assert!(!everybody("admin_users = ['ann']") && !everybody("stats_users = ['ann']"));
    assert!(!everybody("listen = '0.0.0.0:6432'\nauth_type = 'trust'"));
    assert!(!everybody("users.ann.password = 'x'"));
}

#[test]
fn numbers_as_toml_writes_them() {
    let config = good(
        "pool_size = 1_000\r\nworkers = 0x10\r\nmax_client_conn = +5\r\ndatabases.a.servers = ['h']\r\n",
    );
    assert_eq!(
        (config.databases[0].pool.size, config.worker_threads(), config.client.max_connections),
        (1000, 16, 5)
    );
}

#[test]
fn never_can_be_added_to_now() {
    assert!(crate::clock::now().checked_add(NEVER).is_some());
}

#[test]
fn secrets_come_from_three_places() {
    let config = good(
        "[users.a]\npassword = 'typed'\n[users.b]\npassword_file = 'there'\n[users.c]\npassword_env = 'APP_PASSWORD'\n\
         [databases.one]\nservers = ['h']\nuser = 'b'\n[databases.two]\nservers = ['h']\nuser = 'x'\npassword = 'y'",
    );
    let plain = |text: &str| Secret::Plain(text.to_owned());
    assert_eq!(config.auth.auth_type, AuthType::ScramSha256);
    assert_eq!(config.auth.users["a"], plain("typed"));
    assert_eq!(config.auth.users["b"], plain("from a file"));
    assert_eq!(config.auth.users["c"], plain("from the environment"));
    let login = |at: usize| config.databases[at].login.clone().unwrap();
    assert_eq!(login(0), server::Login { user: "b".into(), secret: Some(plain("from a file")) });
    assert_eq!(login(1), server::Login { user: "x".into(), secret: Some(plain("y")) });
}

#[test]
fn the_monitor_is_the_first_user_that_can_log_in() {
    let verifier = format!("SCRAM-SHA-256$1:YQ==${0}:{0}", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let users =
        format!("[users.z]\npassword = '{verifier}'\n[users.y]\npassword = 'y'\n[users.a]\npassword = 'a'\n");
    let database = "[databases.app]\nservers = ['h']\n";
    let login = |text: String| good(&text).databases[0].monitor.login.clone();
    assert_eq!(login(format!("{users}{database}")).user.as_ref(), "y");
    let chosen = login(format!("{users}[monitor]\nuser = 'a'\n{database}"));
    assert_eq!((chosen.user.as_ref(), chosen.secret), ("a", Some(Secret::Plain("a".to_owned()))));
}

#[test]
fn without_users_the_environment_counts() {
    let database = "[databases.app]\nservers = ['h']\n";
    let config = parse_in(database, "x", &world(&libpq_variables)).unwrap();
    let secret = Secret::Plain("md5 is a fine beginning".to_owned());
    assert_eq!(config.auth.users["dev"], secret);
    let monitor = &config.databases[0].monitor.login;
    assert_eq!((monitor.user.as_ref(), monitor.secret.as_ref()), ("dev", Some(&secret)));

    let users = format!("[users.a]\npassword = 'a'\n{database}");
    let config = parse_in(&users, "x", &world(&libpq_variables)).unwrap();
    assert_eq!(config.auth.users.len(), 1);
    assert_eq!(config.databases[0].monitor.login.user.as_ref(), "a");
}

#[test]
fn trust_for_all_must_be_written() {
    let open = "listen = '0.0.0.0'\n[databases.app]\nservers = ['h']\n";
    assert!(parse_here(open, "x").is_err());
    assert_eq!(good(&format!("auth_type = 'trust'\n{open}")).auth.auth_type, AuthType::Trust);
}

#[test]
fn no_file_at_all() {
    let servers = ["10.0.0.1".to_owned(), "/tmp:5433".to_owned()];
    let config = zero_in(&servers, &world(&some_variables)).unwrap();
    assert_eq!(config.databases[0].name, "*");
    let found: Vec<_> = config.databases[0].servers.iter().map(|server| server.address.clone()).collect();
    assert_eq!(found, servers.map(|server| server.parse().unwrap()));
    let not_an_address = "is not an address: the port is not a number from 1 to 65535";
    for (servers, said) in [
        (&[][..], "--server: is empty".to_owned()),
        (&["b:\"\n\u{7f}\\c"], format!("--server: {not_an_address}")),
        (&["a", "b\nc", "c:x"], "--server number 2: is not an address: the host is".to_owned()),
        (&["a", "b", "c:x"], format!("--server number 3: {not_an_address}")),
        (&["a", "b", "a:5432"], "--server number 3: a:5432 is in the list twice".to_owned()),
    ] {
        let servers: Vec<String> = servers.iter().map(|server| (*server).to_owned()).collect();
        let found = zero_in(&servers, &world(&some_variables)).unwrap_err().to_string();
        assert!(found.starts_with(&format!("command line: {said}")), "{found}");
    }
}

#[test]
fn a_complaint_is_one_line() {
    let text = "\"a\\nb\\u001b\" = 1\npool_mode = \"\\u0007\"\ndatabases.a.servers = ['h']";
    let said = parse_here(text, "x\ny").unwrap_err().to_string();
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(!said.contains(['\u{1b}', '\u{7}']), "{said:?}");
}

#[test]
fn a_file_that_is_not_there() {
    let said = load(Path::new("/not/there.toml")).unwrap_err().to_string();
    assert!(said.starts_with("/not/there.toml: cannot be read: "), "{said}");
}

/// Texts that look like a configuration: lines of the example, cut, swapped and bent.
fn bent_examples() -> impl Strategy<Value = String> {
    let text = docs::uncommented();
    let lines: Vec<String> = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let values = [
        "1",
        "-1",
        "\"\"",
        "\"0s\"",
        "[]",
        "{}",
        "[[1]]",
        "nan",
        "1979-05-27",
        "\"ü:1\"",
        "{a.b=1}",
        "\"",
        "=",
    ];
    let bent = (0..lines.len(), prop::sample::select(values.to_vec()), any::<bool>());
    prop::collection::vec(bent, 0..8).prop_map(move |bends| {
        let mut lines = lines.clone();
        for (at, value, remove) in bends {
            let key = lines[at].split('=').next().unwrap().to_owned();
            lines[at] = if remove { String::new() } else { format!("{key}= {value}") };
        }
        lines.join("\n")
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_complained_about(text in ".{0,200}|(\\PC|[\\[\\]=\"'.\\n#{},\\\\])*") {
        holds(&text);
    }

    #[test]
    fn any_bent_example_is_read_or_complained_about(text in bent_examples()) {
        holds(&text);
    }
}

fn holds(text: &str) {
    let lines = text.split('\n').count();
    match parse_here(text, "any.toml") {
        Ok(config) => assert!(config.databases.iter().all(|database| !database.servers.is_empty())),
        Err(Complaints(found)) => {
            assert!(
                !found.is_empty() && found.iter().all(|c| c.line >= 1 && c.line <= lines && c.column >= 1)
            );
        }
    }
}

#[test]
fn a_rule_that_could_not_match_or_be_told_apart_is_a_mistake() {
    let text = "[databases.a]\nservers = [\"h\"]\n\
        [[databases.a.rules]]\nname = \"x\"\nmatch = { kind = [\"SELECT\", \"selct\"] }\nroute = { to = \"primary\" }\n\
        [[databases.a.rules]]\nname = \"x\"\nroute = { to = \"primary\" }\n";
    let wrong = parse_in(text, "f", &world(&|_| None)).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "f:5:18: databases.a.rules[0].match.kind: `selct` is not a word that a statement begins with\n\
         f:7:1: databases.a.rules[1]: \"x\" is the name of an earlier rule of the database; metrics could not tell \
         them apart"
    );
}
