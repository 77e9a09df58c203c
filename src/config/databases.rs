//! The rows of `[databases.NAME]` and the tables below it; those that it shares with the top of the file are in [`keys`](super::keys).

use super::key::{HOUR, Key, MONTH, count, millis, millis_or_off, row};
use super::keys::{PASSWORD_ENV, PASSWORD_FILE};
use super::kind::Kind;
use crate::fresh::Level;
use crate::ids::MOST_NODES;

/// In the order of the documentation.
pub(super) const OF_DATABASES: &[Key] = &[
    row(
        "databases.NAME.servers",
        Kind::Members,
        "required",
        "The primary and its replicas, in any order: `host:port`, `[::1]:port`, or the folder of a Unix \
         socket; which is the primary is found out. More is said of one in a table: `{ address = \"10.0.0.2:5432\", weight = 3, \
         zone = \"a\", drain = true }`.",
    )
    .example("[\"127.0.0.1:5432\", \"127.0.0.1:5433\"]"),
    row(
        "databases.NAME.discover",
        Kind::Words(&["replication", "dns"]),
        "[]",
        "How servers are found beside these: by asking them who replicates from whom, and by asking for all addresses of host names in `servers`.",
    ),
    row(
        "databases.NAME.discover_every",
        millis(100, HOUR),
        "\"30s\"",
        "Pause between looks; there is one at once when a server comes, goes or changes its role. One found by `replication` that nobody \
         reports any more is given up when it has been down for three pauses.",
    ),
    row(
        "databases.NAME.discover_port",
        Kind::Ports,
        "none",
        "Ports where standbys are looked for, beside those of the servers that are known: PostgreSQL tells a standby's address and not its port.",
    )
    .example("[5432, 5433]"),
    row(
        "databases.NAME.discover_max",
        count(1, MOST_NODES as u64),
        "16",
        "Most servers that are found beside those in `servers`.",
    ),
    row(
        "databases.NAME.dbname",
        Kind::Text,
        "the name that the client asked for",
        "The database's name on the servers.",
    )
    .example("\"app\""),
    row(
        "databases.NAME.user",
        Kind::Text,
        "the client's user",
        "The role that pgweir logs in to the servers as, whoever the client is.",
    )
    .example("\"app\""),
    row(
        "databases.NAME.password",
        Kind::Secret,
        "that of the same name in `[users]`, else none",
        "The password of `user`, or its md5 hash.",
    )
    .example("\"app\""),
    row("databases.NAME.password_file", Kind::Text, "none", PASSWORD_FILE).example("\"/run/secrets/app\""),
    row("databases.NAME.password_env", Kind::Text, "none", PASSWORD_ENV).example("\"APP_PASSWORD\""),
    row(
        "databases.NAME.reads.balance",
        Kind::Choice(&["least_loaded", "least_latency", "round_robin", "random"]),
        "\"least_loaded\"",
        "Which of several replicas gets a read, as its `weight` says: the one with the fewest running, the faster of two, each in turn, or any.",
    ),
    row(
        "databases.NAME.reads.sticky",
        Kind::Flag,
        "false",
        "Whether a client keeps the replica that it has read from, as long as that is up and fresh enough.",
    ),
    row(
        "databases.NAME.reads.strictly_monotonic",
        Kind::Flag,
        "false",
        "Whether what a client sends to the primary after a read on a replica waits until that shows all that the replica did, also \
         what others than this pgweir have written; with synchronous replication it always does.",
    ),
    row(
        "databases.NAME.reads.zone",
        Kind::Text,
        "none",
        "Where this pgweir stands: reads go to replicas of the same `zone` as long as there is one.",
    )
    .example("\"eu-west-1a\""),
    row(
        "databases.NAME.reads.slow_start",
        millis_or_off(1, HOUR),
        "\"0s\"",
        "How long a replica that is new or back takes to get all of its share of the reads, from a tenth on; `\"0s\"` is no time.",
    ),
    row(
        "databases.NAME.reads.replica_down",
        Kind::Choice(&["primary", "wait", "error"]),
        "\"primary\"",
        "What becomes of reads while no replica may take them: they go to the primary, wait for a replica, or fail with SQLSTATE 57P03.",
    ),
    row(
        "databases.NAME.reads.replica_down_max",
        count(0, 1_000_000),
        "0",
        "Most reads that run on the primary at once for want of a replica; the others wait for one, or for room; 0 is all of them.",
    ),
    row(
        "databases.NAME.reads.replica_down_wait",
        millis(1, HOUR),
        "\"10s\"",
        "Longest that a read waits so; then it fails with SQLSTATE 57P03.",
    ),
    row(
        "databases.NAME.reads.mode",
        Kind::Choice(&["observe", "opt_in", "auto"]),
        "\"auto\"",
        "Where reads go: all to the primary while what would have moved is counted, only those to replicas that a rule or a \
         hint sends there, or all that are proven.",
    ),
    row(
        "databases.NAME.reads.consistency",
        Kind::Choice(Level::NAMES),
        "\"database\"",
        "What reads on replicas see: nothing in particular, what their session wrote, what anybody wrote through this pgweir to \
         the same tables; or they go to the primary.",
    ),
    row(
        "databases.NAME.reads.max_lag",
        millis_or_off(1, MONTH),
        "\"0s\"",
        "A replica whose data is older than this, or not known to be younger, gets no reads; `\"0s\"` is no limit.",
    ),
    row(
        "databases.NAME.rules.name",
        Kind::Text,
        "its place in the file",
        "What the rule is called in metrics, logs and errors; no two of a database may share it.",
    )
    .example("\"reports go to the report server\""),
    row(
        "databases.NAME.rules.match.user",
        Kind::Texts,
        "none",
        "The client logged in as one of these users; of all that `match` has, everything must hold.",
    )
    .example("\"reports\""),
    row("databases.NAME.rules.match.database", Kind::Texts, "none", "The client asked for one of these databases.")
        .example("\"app\""),
    row(
        "databases.NAME.rules.match.application_name",
        Kind::Texts,
        "none",
        "The client gave one of these as its application_name when it logged in.",
    )
    .example("[\"metabase\", \"grafana\"]"),
    row(
        "databases.NAME.rules.match.client_address",
        Kind::Texts,
        "none",
        "The client comes from one of these addresses or networks.",
    )
    .example("\"10.0.7.0/24\""),
    row(
        "databases.NAME.rules.match.tables",
        Kind::Texts,
        "none",
        "The statement names one of these tables or views: `name`, `schema.name` or `schema.*`.",
    )
    .example("[\"orders\", \"audit.*\"]"),
    row(
        "databases.NAME.rules.match.only_tables",
        Kind::Texts,
        "none",
        "The statement names at least one table, and none but these.",
    )
    .example("[\"photos\", \"users\"]"),
    row(
        "databases.NAME.rules.match.functions",
        Kind::Texts,
        "none",
        "The statement calls one of these functions: `name` or `schema.name`.",
    )
    .example("\"monthly_report\""),
    row(
        "databases.NAME.rules.match.kind",
        Kind::Texts,
        "none",
        "The statement begins with one of these words.",
    )
    .example("[\"select\", \"copy\"]"),
    row(
        "databases.NAME.rules.match.shape",
        Kind::Texts,
        "none",
        "The statement has one of these shapes, as `pgweir route` and the console print them.",
    )
    .example("\"6beb5f1ac7f479e8\""),
    row(
        "databases.NAME.rules.match.query",
        Kind::Text,
        "none",
        "The statement's text has a match of this regular expression (syntax of the Rust crate regex).",
    )
    .example("\"(?i)from +big_report\""),
    row(
        "databases.NAME.rules.route.to",
        Kind::Choice(&["primary", "replica"]),
        "none",
        "To the primary; or to any replica, which counts where `mode` is `opt_in`; what is not proven to read stays on the \
         primary all the same.",
    )
    .example("\"replica\""),
    row(
        "databases.NAME.rules.route.servers",
        Kind::Servers,
        "none",
        "To one of these replicas, of those in the database's `servers`; to the primary when none of them is up.",
    )
    .example("[\"127.0.0.1:5433\"]"),
    row(
        "databases.NAME.rules.route.consistency",
        Kind::Choice(Level::NAMES),
        "that of the database",
        "What such reads see.",
    )
    .example("\"eventual\""),
    row(
        "databases.NAME.rules.route.max_lag",
        millis(1, MONTH),
        "that of the database",
        "How old what such reads see may be at most.",
    )
    .example("\"200ms\""),
    row(
        "databases.NAME.rules.route.timeout",
        millis(1, MONTH),
        "none",
        "How long such units may run on a server before pgweir cancels them: the client gets the server's error 57014, and before it a \
         notice that names the rule.",
    )
    .example("\"5s\""),
    row(
        "databases.NAME.rules.route.reject",
        Kind::Text,
        "none",
        "To nowhere: the client gets an error 42501 with this text.",
    )
    .example("\"reports may not read this table\""),
];
