//! What is meant: from the values of a [`Sheet`] to a [`Config`]. Complains of values that contradict each other.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::complaint::{Log, Wrong};
use super::raw::{Name, Sheet};
use super::{Config, Database, LogFormat, LogOptions, Surroundings, value};
use crate::auth::{self, AuthType, Secret};
use crate::cluster::{Balance, Spread};
use crate::net::{Address, Resolver};
use crate::pool::{self, PoolMode};
use crate::route::JudgeOptions;
use crate::server::Login;
use crate::{admin, client, monitor};

/// What `"0s"` means for the limits of a pool: a time that does not come. Added to now it is still an `Instant`.
pub(super) const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Builds the configuration. `None` only if something was complained about.
pub(super) fn config(sheet: &Sheet, around: &Surroundings<'_>, log: &mut Log<'_>) -> Option<Config> {
    let mut check = Check { sheet, around, log };
    let listen = check.listen();
    let auth = check.auth(&listen);
    let console = check.admin(&listen, auth.as_ref());
    let monitor = check.monitor(auth.as_ref());
    let judge = check.judge();
    let catalog = check.catalog(&judge);
    let pool = check.pool(&pool::Options::default(), None);
    let databases = check.databases(auth.as_ref(), monitor.as_ref(), &pool);
    let journal = check.journal();
    Some(Config {
        listen,
        workers: sheet.count("workers", None).unwrap_or(0),
        client: client_options(sheet),
        auth: auth?,
        shutdown_timeout: sheet.duration("shutdown_timeout", None).unwrap_or(Duration::from_secs(20)),
        metrics_listen: sheet.metrics("metrics.listen").unwrap_or(Some(([127, 0, 0, 1], 9432).into())),
        log: log_options(sheet),
        admin: console,
        judge,
        catalog,
        journal,
        databases: databases?,
        file: None,
        resolver: Resolver::default(),
        fixed: super::Fixed(sheet.fixed()),
    })
}

pub(super) fn set<T>(place: &mut T, typed: Option<T>) {
    if let Some(typed) = typed {
        *place = typed;
    }
}

fn client_options(sheet: &Sheet) -> client::Options {
    let mut options = client::Options::default();
    set(&mut options.max_connections, sheet.count("max_client_conn", None));
    set(&mut options.login_timeout, sheet.duration("client_login_timeout", None));
    set(&mut options.idle_timeout, sheet.duration("client_idle_timeout", None));
    set(&mut options.idle_in_transaction_timeout, sheet.duration("idle_in_transaction_timeout", None));
    let number = |path| sheet.count(path, None);
    set(&mut options.statements.count, number("max_client_prepared_statements"));
    set(&mut options.statements.bytes, number("client_prepared_memory"));
    set(&mut options.inbox.count, number("max_notifications"));
    set(&mut options.inbox.bytes, number("notification_memory"));
    set(&mut options.settings.count, number("max_client_settings"));
    set(&mut options.settings.bytes, number("client_settings_memory"));
    set(&mut options.retry.percent, number("retry.budget").and_then(|count| count.try_into().ok()));
    set(&mut options.retry.floor, number("retry.floor").and_then(|count| count.try_into().ok()));
    set(&mut options.retry.buffer, number("retry.buffer"));
    options
}

fn log_options(sheet: &Sheet) -> LogOptions {
    let mut options = LogOptions::default();
    set(&mut options.level, sheet.text("log.level", None).map(str::to_owned));
    if sheet.choice("log.format", None) == Some("json") {
        options.format = LogFormat::Json;
    }
    options
}

/// A secret that was asked for.
enum Asked {
    /// None of the three keys is there.
    Nothing,
    /// One is there and was complained about.
    Wrong,
    /// It is this, and was typed at this byte.
    Is(Secret, usize),
}

pub(super) struct Check<'c, 'a> {
    pub(super) sheet: &'c Sheet,
    pub(super) around: &'c Surroundings<'c>,
    pub(super) log: &'c mut Log<'a>,
}

impl Check<'_, '_> {
    fn listen(&self) -> Vec<Address> {
        let default = || vec![Address::tcp("127.0.0.1", 6432)];
        self.sheet.addresses("listen", None).map_or_else(default, <[Address]>::to_vec)
    }

    fn judge(&mut self) -> JudgeOptions {
        let mut options = JudgeOptions::default();
        let names = |path| self.sheet.texts(path, None).map(<[String]>::to_vec);
        set(&mut options.second_opinion, self.sheet.flag("routing.second_opinion", None));
        set(&mut options.cache_entries, self.sheet.count("routing.cache_entries", None));
        set(&mut options.learned_entries, self.sheet.count("routing.learned_entries", None));
        set(&mut options.learned_ttl, self.sheet.duration("routing.learned_ttl", None));
        set(&mut options.route_shapes, self.sheet.count("routing.route_shapes", None));
        set(&mut options.read_only_functions, names("routing.read_only_functions"));
        set(&mut options.write_functions, names("routing.write_functions"));
        for both in options.read_only_functions.iter().filter(|name| options.write_functions.contains(name)) {
            if let Some(entry) = self.sheet.entry("routing.read_only_functions", None) {
                let wrong = Wrong::new(format!("`{both}` is in write_functions too"));
                self.log.add(entry.at, &entry.shown, wrong);
            }
        }
        options
    }

    fn catalog(&self, judge: &JudgeOptions) -> monitor::CatalogOptions {
        let sheet = self.sheet;
        monitor::CatalogOptions {
            enabled: sheet.flag("catalog.enabled", None).unwrap_or(true),
            check_interval: sheet.duration("catalog.check_interval", None).unwrap_or(Duration::from_secs(5)),
            ttl: sheet.duration("catalog.ttl", None).unwrap_or(Duration::from_secs(600)),
            max_databases: sheet.count("catalog.max_databases", None).unwrap_or(100),
            read_only_functions: judge.read_only_functions.clone(),
            write_functions: judge.write_functions.clone(),
        }
    }

    /// Who may use the console. Nobody named, no password and nobody from elsewhere: everybody.
    fn admin(&self, listen: &[Address], auth: Option<&auth::Options>) -> admin::Options {
        let users = |path| self.sheet.texts(path, None).map(<[String]>::to_vec).unwrap_or_default();
        let (admin_users, stats_users) = (users("admin_users"), users("stats_users"));
        let nobody = admin_users.is_empty() && stats_users.is_empty();
        let trust = auth.is_some_and(|auth| auth.auth_type == AuthType::Trust);
        let everybody = nobody && trust && listen.iter().all(Address::is_local);
        admin::Options { admin_users, stats_users, everybody }
    }

    fn auth(&mut self, listen: &[Address]) -> Option<auth::Options> {
        let auth_type = self.auth_type(listen);
        let mut users = HashMap::new();
        let mut whole = true;
        for user in &self.sheet.users {
            match self.secret(Keys::USER, Some(&user.name)) {
                Asked::Nothing => {
                    let wrong = Wrong::new("has no password");
                    let hint = "add `password`, `password_file` or `password_env`";
                    self.log.add(user.at, &user.shown, wrong.hint(hint));
                }
                Asked::Is(Secret::Md5(_), at) if auth_type == Some(AuthType::ScramSha256) => {
                    let wrong = Wrong::new("is an md5 hash, which cannot serve auth_type \"scram-sha-256\"");
                    let hint = "give the password or a SCRAM verifier, or set auth_type = \"md5\"";
                    let key =
                        self.first_of(Keys::USER, Some(&user.name)).map_or_else(String::new, |(_, key)| key);
                    self.log.add(at, &key, wrong.hint(hint));
                }
                Asked::Is(secret, _) => {
                    users.insert(Arc::from(user.name.as_str()), secret);
                    continue;
                }
                Asked::Wrong => {}
            }
            whole = false;
        }
        let auth_type = auth_type?;
        if auth_type == AuthType::Trust && self.sheet.users.is_empty() {
            users.extend(self.of_the_environment());
        }
        whole.then_some(auth::Options { auth_type, users })
    }

    /// The role and the password that libpq would take from the environment.
    fn of_the_environment(&self) -> Option<(Arc<str>, Secret)> {
        let user = (self.around.variable)("PGUSER")?;
        let password = (self.around.variable)("PGPASSWORD")?;
        Some((user.into(), Secret::Plain(password)))
    }

    fn auth_type(&mut self, listen: &[Address]) -> Option<AuthType> {
        let nobody = self.sheet.users.is_empty();
        let Some(typed) = self.sheet.entry("auth_type", None) else {
            if nobody && !listen.iter().all(Address::is_local) {
                let entry = self.sheet.entry("listen", None)?;
                let wrong = Wrong::new("other machines can reach this, and there are no users");
                let hint =
                    "add [users.NAME] with a password, or set auth_type = \"trust\" to let everybody in";
                self.log.add(entry.at, &entry.shown, wrong.hint(hint));
                return None;
            }
            return Some(if nobody { AuthType::Trust } else { AuthType::ScramSha256 });
        };
        let auth_type = match self.sheet.choice("auth_type", None)? {
            "trust" => AuthType::Trust,
            "md5" => AuthType::Md5,
            _ => AuthType::ScramSha256,
        };
        if nobody && auth_type != AuthType::Trust {
            let wrong = Wrong::new("nobody could log in: there are no users");
            self.log.add(typed.at, &typed.shown, wrong.hint("add [users.NAME] with a password"));
            return None;
        }
        Some(auth_type)
    }

    fn monitor(&mut self, auth: Option<&auth::Options>) -> Option<monitor::Options> {
        let variable = |name| (self.around.variable)(name);
        let known = |name: &str| auth.and_then(|auth| auth.users.get(name)).filter(|s| serves_servers(s));
        let first = self.sheet.users.iter().map(|user| user.name.as_str()).find(|name| known(name).is_some());
        let user = match self.sheet.text("monitor.user", None).or(first) {
            Some(user) => user.to_owned(),
            None => variable("PGUSER").unwrap_or_else(|| "postgres".to_owned()),
        };
        let default = || known(&user).cloned().or_else(|| variable("PGPASSWORD").map(Secret::Plain));
        let secret = match self.server_secret(Keys::MONITOR, None) {
            Asked::Nothing => default(),
            Asked::Is(secret, _) => Some(secret),
            Asked::Wrong => return None,
        };
        let sheet = self.sheet;
        Some(monitor::Options {
            login: Login { user: user.into(), secret },
            database: sheet.text("monitor.database", None).unwrap_or("postgres").to_owned(),
            interval: sheet.duration("monitor.interval", None).unwrap_or(Duration::from_millis(500)),
            timeout: sheet.duration("monitor.timeout", None).unwrap_or(Duration::from_secs(2)),
        })
    }

    fn databases(
        &mut self,
        auth: Option<&auth::Options>,
        monitor: Option<&monitor::Options>,
        pool: &pool::Options,
    ) -> Option<Vec<Database>> {
        if self.sheet.databases.is_empty() {
            let hint = "add [databases.NAME] with `servers`, or [databases.\"*\"] for every name";
            if !self.log.is_about("databases") {
                self.log.add(0, "databases", Wrong::new("there are none").hint(hint));
            }
            return None;
        }
        let all = self.sheet.databases.iter().map(|name| self.database(name, auth, monitor, pool));
        // Every one is looked at before the first that is wrong makes it none.
        let all: Vec<_> = all.collect();
        all.into_iter().collect()
    }

    fn database(
        &mut self,
        name: &Name,
        auth: Option<&auth::Options>,
        monitor: Option<&monitor::Options>,
        pool: &pool::Options,
    ) -> Option<Database> {
        let (sheet, within) = (self.sheet, Some(name.name.as_str()));
        if name.name == client::CONSOLE {
            let wrong = Wrong::new("the name is reserved: it is pgweir's console");
            self.log.add(
                name.at,
                &name.shown,
                wrong.hint("take another, and say `dbname` for its name on the servers"),
            );
        }
        if sheet.entry("databases.NAME.servers", within).is_none() {
            let hint = "add servers = [\"host:port\", ...]";
            self.log.add(name.at, &name.shown, Wrong::new("has no `servers`").hint(hint));
        }
        let pool = self.pool(pool, within);
        let login = self.login(within, auth);
        let balance = match sheet.choice("databases.NAME.reads.balance", within) {
            Some("round_robin") => Balance::RoundRobin,
            Some("random") => Balance::Random,
            Some("least_latency") => Balance::LeastLatency,
            _ => Balance::LeastLoaded,
        };
        let spread = Spread {
            balance,
            sticky: sheet.flag("databases.NAME.reads.sticky", within).unwrap_or(false),
            strictly_monotonic: sheet
                .flag("databases.NAME.reads.strictly_monotonic", within)
                .unwrap_or(false),
            zone: sheet.text("databases.NAME.reads.zone", within).map(Into::into),
            slow_start: sheet.duration("databases.NAME.reads.slow_start", within).unwrap_or(Duration::ZERO),
        };
        let servers = sheet.servers("databases.NAME.servers", within);
        let counters = self.counters(name);
        let rules = servers.and_then(|servers| self.rules(name, servers));
        let (failover, fallback) = (self.failover(within), self.fallback(within));
        let discover = servers.map(|servers| self.discover(name, servers));
        Some(Database {
            name: name.name.clone(),
            server_database: sheet.text("databases.NAME.dbname", within).map(str::to_owned),
            counters: counters?,
            rules: Arc::new(rules?),
            servers: servers?.to_vec(),
            spread,
            pool,
            failover,
            fallback,
            discover: discover?,
            login: login?,
            monitor: monitor?.clone(),
        })
    }

    /// The role that servers are logged in to as. The outer `None`: it was complained about.
    fn login(&mut self, within: Option<&str>, auth: Option<&auth::Options>) -> Option<Option<Login>> {
        let secret = self.server_secret(Keys::DATABASE, within);
        let Some(typed) = self.sheet.entry("databases.NAME.user", within) else {
            if let Some((at, shown)) = self.first_of(Keys::DATABASE, within) {
                let wrong = Wrong::new("is a password without a `user`");
                self.log.add(at, &shown, wrong.hint("add `user`, or put the password in [users.NAME]"));
                return None;
            }
            return Some(None);
        };
        let user = self.sheet.text("databases.NAME.user", within)?;
        let known = auth.and_then(|auth| auth.users.get(user));
        let secret = match (secret, known) {
            (Asked::Is(secret, _), _) => Some(secret),
            (Asked::Wrong, _) => return None,
            (Asked::Nothing, Some(known)) if !serves_servers(known) => {
                let wrong =
                    Wrong::new("the SCRAM verifier of this user in [users] cannot log in to a server");
                self.log.add(typed.at, &typed.shown, wrong.hint("add the password itself here"));
                return None;
            }
            (Asked::Nothing, known) => known.cloned(),
        };
        Some(Some(Login { user: user.into(), secret }))
    }

    /// What becomes of reads while no replica may take them.
    fn fallback(&self, within: Option<&str>) -> client::FallbackOptions {
        let mut options = client::FallbackOptions::default();
        options.mode = match self.sheet.choice("databases.NAME.reads.replica_down", within) {
            Some("wait") => client::ReplicaDown::Wait,
            Some("error") => client::ReplicaDown::Error,
            _ => options.mode,
        };
        set(&mut options.most, self.sheet.count("databases.NAME.reads.replica_down_max", within));
        set(&mut options.wait, self.sheet.duration("databases.NAME.reads.replica_down_wait", within));
        options
    }

    /// Who waits for a primary: as the database says, else as the file does.
    fn failover(&self, within: Option<&str>) -> client::FailoverOptions {
        let mut options = client::FailoverOptions::default();
        for within in [None, within] {
            set(&mut options.wait, self.sheet.duration("failover_wait", within));
            set(&mut options.waiting, self.sheet.count("failover_max_waiting", within));
            set(&mut options.bytes, self.sheet.count("failover_max_bytes", within));
        }
        options
    }

    fn pool(&mut self, base: &pool::Options, within: Option<&str>) -> pool::Options {
        let sheet = self.sheet;
        let limit = |path| match sheet.duration(path, within) {
            Some(Duration::ZERO) => Some(NEVER),
            typed => typed,
        };
        let mut options = base.clone();
        match sheet.choice("pool_mode", within) {
            Some("session") => options.mode = PoolMode::Session,
            Some("statement") => options.mode = PoolMode::Statement,
            Some(_) => options.mode = PoolMode::Transaction,
            None => {}
        }
        set(&mut options.size, sheet.count("pool_size", within));
        set(&mut options.min_size, sheet.count("min_pool_size", within));
        set(&mut options.query_wait_timeout, limit("query_wait_timeout"));
        set(&mut options.max_waiting, sheet.count("max_waiting_clients", within));
        set(&mut options.server_idle_timeout, limit("server_idle_timeout"));
        set(&mut options.server_lifetime, limit("server_lifetime"));
        set(&mut options.max_prepared_statements, sheet.count("max_prepared_statements", within));
        set(&mut options.max_shared_reads, sheet.count("max_shared_reads", within));
        set(&mut options.server_connect_timeout, limit("server_connect_timeout"));
        set(&mut options.freshness_wait, sheet.duration("freshness_wait", within));
        set(&mut options.login_retry, limit("server_login_retry"));
        set(&mut options.login_retry_max, limit("server_login_retry_max"));
        set(
            &mut options.login_rate,
            sheet.count("server_login_rate", within).map(|rate| u32::try_from(rate).unwrap_or(u32::MAX)),
        );
        if options.min_size > options.size {
            let (least, most) = (options.min_size.to_string(), options.size.to_string());
            self.more_than(("min_pool_size", least), ("pool_size", most), within);
        }
        if options.login_retry > options.login_retry_max {
            let [first, most] = [options.login_retry, options.login_retry_max].map(value::written);
            self.more_than(("server_login_retry", first), ("server_login_retry_max", most), within);
        }
        options
    }

    /// Complains of a value that is more than its most, at whichever was typed in this table. Neither: the complaint is
    /// with the table above.
    fn more_than(
        &mut self,
        less: (&'static str, String),
        most: (&'static str, String),
        within: Option<&str>,
    ) {
        if let Some(entry) = self.sheet.entry(less.0, within) {
            let wrong = Wrong::new(format!("{} is more than {} {}", less.1, most.0, most.1));
            self.log.add(entry.at, &entry.shown, wrong);
        } else if let Some(entry) = self.sheet.entry(most.0, within) {
            let wrong = Wrong::new(format!("{} is less than {} {}", most.1, less.0, less.1));
            self.log.add(entry.at, &entry.shown, wrong);
        }
    }

    fn first_of(&self, keys: Keys, within: Option<&str>) -> Option<(usize, String)> {
        let entry = keys.0.iter().find_map(|path| self.sheet.entry(path, within))?;
        Some((entry.at, entry.shown.clone()))
    }

    /// A secret for logging in to servers.
    fn server_secret(&mut self, keys: Keys, within: Option<&str>) -> Asked {
        match self.secret(keys, within) {
            Asked::Is(secret, at) if !serves_servers(&secret) => {
                let shown = self.first_of(keys, within).map_or_else(String::new, |(_, shown)| shown);
                let wrong = Wrong::new("is a SCRAM verifier, which cannot log in to a server");
                self.log.add(at, &shown, wrong.hint("give the password itself"));
                Asked::Wrong
            }
            asked => asked,
        }
    }

    /// A secret that is typed, in a file, or in the environment.
    fn secret(&mut self, keys: Keys, within: Option<&str>) -> Asked {
        let sheet = self.sheet;
        let mut typed = keys.0.iter().filter_map(|path| Some((*path, sheet.entry(path, within)?)));
        let Some((path, entry)) = typed.next() else { return Asked::Nothing };
        if let Some((_, second)) = typed.next() {
            let wrong = Wrong::new("the password is given twice");
            let hint = "keep one of `password`, `password_file` and `password_env`";
            self.log.add(second.at, &second.shown, wrong.hint(hint));
            return Asked::Wrong;
        }
        let Some(text) = sheet.text(path, within) else { return Asked::Wrong };
        match self.text_of_secret(path, text).and_then(value::secret) {
            Ok(secret) => Asked::Is(secret, entry.at),
            Err(wrong) => {
                self.log.add(entry.at, &entry.shown, wrong);
                Asked::Wrong
            }
        }
    }

    /// What stands behind a file's or a variable's name. The name is not repeated: it may be a misplaced password.
    fn text_of_secret(&self, path: &str, text: &str) -> Result<String, Wrong> {
        if path.ends_with("password_file") {
            let read = (self.around.read)(&self.around.folder.join(Path::new(text)));
            let read = read.map_err(|error| Wrong::new(format!("the file cannot be read: {error}")))?;
            return Ok(read.trim_end_matches(['\n', '\r']).to_owned());
        }
        if path.ends_with("password_env") {
            let missing = || Wrong::new("the environment has no such variable, or it is empty");
            return (self.around.variable)(text).ok_or_else(missing);
        }
        Ok(text.to_owned())
    }
}

/// The three keys that may give a secret.
#[derive(Clone, Copy)]
struct Keys([&'static str; 3]);

impl Keys {
    const USER: Self = Self(["users.NAME.password", "users.NAME.password_file", "users.NAME.password_env"]);
    const MONITOR: Self = Self(["monitor.password", "monitor.password_file", "monitor.password_env"]);
    const DATABASE: Self =
        Self(["databases.NAME.password", "databases.NAME.password_file", "databases.NAME.password_env"]);
}

/// Whether a secret can log in to a server: a verifier only checks, it does not prove.
fn serves_servers(secret: &Secret) -> bool {
    match secret {
        Secret::Plain(_) | Secret::Md5(_) => true,
        Secret::Scram(_) => false,
    }
}
