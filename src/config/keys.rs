//! Every setting, one row each. Checks, documentation and the example file are made from these or compared with them.

use super::counter_keys;
use super::databases::OF_DATABASES;
use super::key::{HOUR, MINUTE, MONTH, SECOND, count, millis, millis_or_off, row};
pub use super::key::{Key, find, inside, is_table};
pub use super::kind::Kind;
use crate::route::MAX_SHAPES;

pub(super) const PASSWORD_FILE: &str =
    "A file with that text, relative to the folder of the configuration; newlines at its end do not count.";
pub(super) const PASSWORD_ENV: &str = "A variable of the environment with that text.";

/// The settings, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Key> + Clone {
    OF_ALL.iter().chain(OF_DATABASES).chain(counter_keys::KEYS)
}

/// Those that are of no database.
static OF_ALL: &[Key] = &[
    row(
        "listen",
        Kind::Listen,
        "\"127.0.0.1:6432\"",
        "Where clients connect: `host:port`, `[::1]:port`, the folder of a Unix socket, or an array of \
         these; the port is 6432 where none is given, and any free one for 0.",
    ),
    row(
        "workers",
        count(0, 1024),
        "0",
        "Threads that serve clients; 0 takes half of the machine's cores, at least one.",
    ),
    row(
        "max_client_conn",
        count(1, 1_000_000),
        "10000",
        "Most clients at once; the next one is refused with SQLSTATE 53300.",
    ),
    row(
        "shutdown_timeout",
        millis_or_off(1, HOUR),
        "\"20s\"",
        "After SIGTERM or SIGINT, how long transactions and statements that are under way may take to end; `\"0s\"` is not at all.",
    ),
    row(
        "client_login_timeout",
        millis(100, HOUR),
        "\"60s\"",
        "Longest that a client may take from connecting to being logged in.",
    ),
    row(
        "client_idle_timeout",
        millis_or_off(SECOND, MONTH),
        "\"0s\"",
        "A client that sends nothing for this long outside a transaction is closed; `\"0s\"` is never.",
    ),
    row(
        "idle_in_transaction_timeout",
        millis_or_off(10, MONTH),
        "\"0s\"",
        "A transaction in which the client sends nothing for this long is rolled back, and the client's next statement gets SQLSTATE \
         25P03; a client whose connection is pinned is closed with it. `\"0s\"` is never.",
    ),
    row(
        "auth_type",
        Kind::Choice(&["scram-sha-256", "md5", "trust"]),
        "`scram-sha-256` when there are `[users]`; without any, `trust` if only this machine can reach \
         `listen`",
        "How clients prove who they are; with `trust` nobody is asked for a password.",
    )
    .example("\"scram-sha-256\""),
    row(
        "admin_users",
        Kind::Users,
        "nobody; but everybody where `stats_users` names nobody either, `auth_type` is `trust` and only this machine can reach \
         `listen`",
        "Users that may do everything in the console, the database `pgweir`.",
    )
    .example("[\"postgres\"]"),
    row("stats_users", Kind::Users, "[]", "Users that may look at everything in the console."),
    row(
        "pool_mode",
        Kind::Choice(&["transaction", "session", "statement"]),
        "\"transaction\"",
        "When a server connection goes back to the pool: at the end of the transaction, of the client's \
         session, or of the statement.",
    )
    .per_database(),
    row(
        "pool_size",
        count(1, 10_000),
        "20",
        "Most connections to one server for one pair of database and user.",
    )
    .per_database(),
    row(
        "min_pool_size",
        count(0, 10_000),
        "0",
        "Connections that a pool keeps open once it has been used; at most `pool_size`.",
    )
    .per_database(),
    row(
        "query_wait_timeout",
        millis_or_off(10, MONTH),
        "\"120s\"",
        "Longest that a client waits for a server connection before it gets an error; `\"0s\"` is no \
         limit.",
    )
    .per_database(),
    row(
        "max_waiting_clients",
        count(0, 1_000_000),
        "10000",
        "Most clients that may wait for one pool at once; the next one gets an error immediately.",
    )
    .per_database(),
    row(
        "failover_wait",
        millis(0, HOUR),
        "\"30s\"",
        "Longest that a unit for the primary waits while there is none, before it gets an error; it was not sent then.",
    )
    .per_database(),
    row(
        "failover_max_waiting",
        count(0, 1_000_000),
        "10000",
        "Most units that may wait for a primary at once; the next one gets an error immediately.",
    )
    .per_database(),
    row(
        "failover_max_bytes",
        count(65_536, 1 << 40),
        "67108864",
        "Most bytes that those units may have together.",
    )
    .per_database(),
    row(
        "server_idle_timeout",
        millis_or_off(SECOND, MONTH),
        "\"10m\"",
        "A server connection unused for this long is closed, down to `min_pool_size`; `\"0s\"` is never.",
    )
    .per_database(),
    row(
        "server_lifetime",
        millis_or_off(SECOND, MONTH),
        "\"1h\"",
        "A server connection older than this is closed when it is free; `\"0s\"` is never.",
    )
    .per_database(),
    row(
        "max_prepared_statements",
        count(1, 100_000),
        "200",
        "Most prepared statements on one server connection; the least recently used make room.",
    )
    .per_database(),
    row(
        "max_shared_reads",
        count(1, 1_000),
        "32",
        "Most short reads of several clients that are under way at once on a server connection that they share; 1: none share.",
    )
    .per_database(),
    row(
        "server_connect_timeout",
        millis(10, 10 * MINUTE),
        "\"5s\"",
        "Longest that connecting and logging in to a server may take.",
    )
    .per_database(),
    row(
        "server_login_retry",
        millis(10, HOUR),
        "\"100ms\"",
        "First pause after a failed login to a server; it doubles up to `server_login_retry_max`.",
    )
    .per_database(),
    row(
        "server_login_retry_max",
        millis(10, HOUR),
        "\"5s\"",
        "Longest pause between failed logins to a server; at least `server_login_retry`.",
    )
    .per_database(),
    row(
        "server_login_rate",
        count(0, 100_000),
        "200",
        "Most logins to one server in a second, over all pools; a quarter of them may come at once. 0: as many as come.",
    )
    .per_database(),
    row(
        "freshness_wait",
        millis_or_off(1, MINUTE),
        "\"5ms\"",
        "Longest that a read waits for a replica to replay what it has to see, where that has kept up lately, before it goes to \
         the primary; `\"0s\"` is not at all.",
    )
    .per_database(),
    row(
        "log.format",
        Kind::Choice(&["text", "json"]),
        "\"text\"",
        "The form of a line in the log: for people, or one JSON object a line.",
    ),
    row(
        "log.level",
        Kind::Level,
        "\"info\"",
        "What is logged: `error`, `warn`, `info`, `debug`, `trace` or `off`, or by module as in \
         `info,pgweir::route=debug`.",
    ),
    row(
        "metrics.listen",
        Kind::Metrics,
        "\"127.0.0.1:9432\"",
        "Where Prometheus scrapes: an IP address and a port, or `\"off\"`.",
    ),
    row(
        "users.NAME.password",
        Kind::Secret,
        "required, or one of the next two",
        "The user's password, or its SCRAM-SHA-256 verifier or md5 hash as `pg_authid` has it.",
    )
    .example("\"app\""),
    row("users.NAME.password_file", Kind::Text, "none", PASSWORD_FILE).example("\"/run/secrets/app\""),
    row("users.NAME.password_env", Kind::Text, "none", PASSWORD_ENV).example("\"APP_PASSWORD\""),
    row(
        "monitor.user",
        Kind::Text,
        "the first of `[users]` whose password can log in to a server, else `PGUSER` of the \
         environment, else `postgres`",
        "The role that probes the servers; it needs no rights but to log in, and for `discover = \"replication\"` those of `pg_monitor`.",
    )
    .example("\"postgres\""),
    row(
        "monitor.password",
        Kind::Secret,
        "that of the same name in `[users]`, else `PGPASSWORD` of the environment, else none",
        "Its password, or its md5 hash.",
    )
    .example("\"monitor\""),
    row("monitor.password_file", Kind::Text, "none", PASSWORD_FILE).example("\"/run/secrets/monitor\""),
    row("monitor.password_env", Kind::Text, "none", PASSWORD_ENV).example("\"MONITOR_PASSWORD\""),
    row(
        "monitor.database",
        Kind::Text,
        "\"postgres\"",
        "The database that probes connect to; any one that exists on every server will do.",
    ),
    row("monitor.interval", millis(50, HOUR), "\"500ms\"", "Pause between probes of a server that is up."),
    row(
        "monitor.timeout",
        millis(50, 5 * MINUTE),
        "\"2s\"",
        "Longest that a probe, connecting included, may take before the server counts as down.",
    ),
    row(
        "catalog.enabled",
        Kind::Flag,
        "true",
        "Whether the catalogs of databases are read, to know what their own functions and views do; without them, functions \
         of the database's own are not known, and views are taken for tables.",
    ),
    row(
        "catalog.check_interval",
        millis(50, HOUR),
        "\"5s\"",
        "Pause between looks for changes of definitions that did not come through this pgweir; others are seen at once.",
    ),
    row(
        "catalog.ttl",
        millis(1_000, 24 * HOUR),
        "\"10m\"",
        "A catalog older than this is read again, whether or not a change was seen.",
    ),
    row(
        "catalog.max_databases",
        count(1, 10_000),
        "100",
        "Most databases of one entry (as under `\"*\"`) whose catalogs are kept; reads in others go to the primary.",
    ),
    row(
        "routing.second_opinion",
        Kind::Flag,
        "true",
        "Whether a full parser also looks at what the scan calls a read; it can only send it to the \
         primary.",
    ),
    row(
        "routing.cache_entries",
        count(0, 10_000_000),
        "10000",
        "Most statements whose verdict is remembered.",
    ),
    row(
        "routing.route_shapes",
        count(0, MAX_SHAPES as u64),
        "1000",
        "Most shapes of statements that SHOW ROUTES counts apart; the rest is counted together.",
    ),
    row(
        "routing.read_only_functions",
        Kind::Functions,
        "[]",
        "Functions of yours that do not write, though PostgreSQL's catalog calls them volatile.",
    ),
    row(
        "routing.write_functions",
        Kind::Functions,
        "[]",
        "Functions whose callers go to the primary, whatever the catalog says.",
    ),
    row(
        "routing.learned_entries",
        count(0, 100_000),
        "1000",
        "Most statements, as shapes, that are remembered because a replica refused them, and as many \
         functions; 0 remembers none.",
    ),
    row(
        "routing.learned_ttl",
        millis(SECOND, MONTH),
        "\"1h\"",
        "How long such a statement goes to the primary before a replica is tried again.",
    ),
    row(
        "max_client_prepared_statements",
        count(0, 1_000_000),
        "5000",
        "Prepared statements of one client that run on any server connection; one more keeps one.",
    ),
    row(
        "client_prepared_memory",
        count(0, 1_073_741_824),
        "1048576",
        "Most bytes of the texts of these for one client.",
    ),
    row(
        "max_client_settings",
        count(0, 10_000),
        "64",
        "Settings of one client's session that follow it to any server connection; one more keeps one.",
    ),
    row(
        "client_settings_memory",
        count(0, 1 << 20),
        "16384",
        "Most bytes of the names and values of these for one client.",
    ),
    row(
        "max_notifications",
        count(1, 10_000_000),
        "10000",
        "Notifications that are kept for a client that listens and does not read them; one more ends its session.",
    ),
    row(
        "notification_memory",
        count(16_384, 1 << 30),
        "1048576",
        "Most bytes of these for one client.",
    ),
    row(
        "retry.budget",
        count(0, 100),
        "2",
        "Of a hundred reads, how many may run again because a replica cancelled or lost them.",
    ),
    row(
        "retry.floor",
        count(0, 1_000_000),
        "10",
        "How many a second may do so in any case; up to a hundred times as many at once.",
    ),
    row(
        "retry.buffer",
        count(1024, 65_536),
        "65536",
        "Most bytes of unanswered reads that are kept for each client to run them again; a longer read \
         goes to the primary.",
    ),
];
