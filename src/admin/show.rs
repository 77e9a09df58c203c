//! The tables of the console: one function each, columns and rows side by side.

use std::sync::Arc;
use std::time::Duration;

use super::command::{COMMANDS, Command, Question};
use crate::client::{Card, Connected, Database, Refusal, Shared, Table};
use crate::cluster::Role;
use crate::counter::Rule;
use crate::route::rules::Who;
use crate::route::{self, Known, Reason, Scope, SearchPath, Session, Topology};
use crate::wire::SqlState;

/// Where a user's names are looked for when nobody has connected as that user yet: PostgreSQL's default.
const SEARCH_PATH: &str = "\"$user\", public";

type Row = Vec<Option<String>>;

fn some(text: impl ToString) -> Option<String> {
    Some(text.to_string())
}

/// A table; the rows are made only if they are wanted.
fn made(columns: &[&'static str], run: bool, rows: impl FnOnce() -> Vec<Row>) -> Table {
    Table { columns: columns.to_vec(), rows: if run { rows() } else { Vec::new() }, tag: "SHOW" }
}

/// The answer to a command.
pub(super) fn table(command: &Command, shared: &Shared, run: bool) -> Result<Table, Refusal> {
    Ok(match command {
        Command::Help => made(&["command", "what it shows"], run, || {
            COMMANDS.iter().map(|(command, what)| vec![some(command), some(what)]).collect()
        }),
        Command::Version => {
            made(&["version"], run, || vec![vec![some(concat!("pgweir ", env!("CARGO_PKG_VERSION")))]])
        }
        Command::Routes(most) => made(ROUTES, run, || routes(shared, *most)),
        Command::Route(question) => {
            let rows = if run { vec![route(shared, question)?] } else { Vec::new() };
            made(ROUTE, run, || rows)
        }
        Command::Databases => made(DATABASES, run, || databases(shared)),
        Command::Servers => made(SERVERS, run, || servers(shared)),
        Command::Pools => made(POOLS, run, || pools(shared)),
        Command::Clients => made(CLIENTS, run, || clients(shared)),
        Command::Counters => made(COUNTERS, run, || counters(shared)),
        Command::Pins => made(PINS, run, || pins(shared)),
        Command::Catalogs => made(CATALOGS, run, || catalogs(shared)),
        Command::Learned => made(LEARNED, run, || learned(shared)),
        Command::Reasons => made(&["reason", "meaning"], run, || {
            Reason::ALL.iter().map(|reason| vec![some(reason.code()), some(reason.sentence())]).collect()
        }),
        // Before the desk has carried it out, nobody knows whether there is anything to tell.
        Command::Reload | Command::Change(_) | Command::Flush(_) | Command::Discard(_) => {
            Table { tag: command.tag(), ..Table::default() }
        }
    })
}

const ROUTES: &[&str] = &[
    "count",
    "primary",
    "replica",
    "mean_ms",
    "target",
    "reason",
    "last_reason",
    "lag_ms",
    "shape",
    "statement",
];

fn routes(shared: &Shared, most: usize) -> Vec<Row> {
    let row = |row: route::ShapeRow| {
        let [primary, replica] = row.units;
        vec![
            some(row.total()),
            some(primary),
            some(replica),
            row.mean().map(millis),
            row.target().map(|target| target.code().to_owned()),
            row.reason.map(|reason| reason.code().to_owned()),
            some(row.last.code()),
            row.age.map(millis),
            row.text.as_ref().map(|_| format!("{:016x}", row.fingerprint)),
            some(row.text.as_deref().unwrap_or("(all others)")),
        ]
    };
    shared.judge.shapes().rows(most).into_iter().map(row).collect()
}

const CLIENTS: &[&str] =
    &["user", "database", "application_name", "addr", "state", "server", "pin", "connected_s"];

fn clients(shared: &Shared) -> Vec<Row> {
    let row = |client: Connected| {
        let Card { user, database, application_name, address, since } = &*client.card;
        vec![
            some(user),
            some(database),
            some(application_name),
            Some(address.map_or("unix".to_owned(), |address| address.to_string())),
            some(client.state),
            client.server.map(|server| server.to_string()),
            client.pin.map(|pin| pin.reason.code().to_owned()),
            some(since.elapsed().as_secs()),
        ]
    };
    shared.cancels.connected().into_iter().map(row).collect()
}

const PINS: &[&str] = &["user", "database", "application_name", "addr", "reason", "meaning", "age_s"];

fn pins(shared: &Shared) -> Vec<Row> {
    let row = |client: Connected| {
        let Card { user, database, application_name, address, .. } = &*client.card;
        let pin = client.pin?;
        Some(vec![
            some(user),
            some(database),
            some(application_name),
            Some(address.map_or("unix".to_owned(), |address| address.to_string())),
            some(pin.reason.code()),
            some(pin.reason.sentence()),
            some(pin.since.elapsed().as_secs()),
        ])
    };
    shared.cancels.connected().into_iter().filter_map(row).collect()
}

const COUNTERS: &[&str] = &["database", "table", "user", "state", "waiting", "why", "age_ms", "what"];

fn counters(shared: &Shared) -> Vec<Row> {
    let databases = shared.databases.all();
    let row = |group: crate::counter::Shown| {
        vec![
            some(group.database),
            some(group.table),
            some(group.user),
            some(if group.refused.is_some() { "refused" } else { "merged" }),
            some(group.waiting),
            group.refused,
            None,
            None,
        ]
    };
    let kept = |one: crate::counter::Kept| {
        vec![
            some(one.database),
            some(one.table),
            some(one.user),
            some(if one.stuck { "refused" } else { one.durability }),
            some(one.waiting),
            one.refused,
            one.age.map(|age| age.as_millis().to_string()),
            some(one.what),
        ]
    };
    let merged = databases.into_iter().flat_map(|database| database.counters.all()).map(row);
    merged.chain(shared.books.all().into_iter().map(kept)).collect()
}

const LEARNED: &[&str] = &["statement", "sqlstate", "times", "age_s"];

fn learned(shared: &Shared) -> Vec<Row> {
    let row = |one: route::Learned| {
        let age = one.since.elapsed().as_secs();
        let text = crate::sql::normalise(one.text.as_bytes());
        vec![some(text), some(one.code), some(one.count), some(age)]
    };
    shared.judge.learned().into_iter().map(row).collect()
}

fn millis(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1000.0)
}

const ROUTE: &[&str] = &["target", "reason", "rule", "would", "meaning", "database", "statement", "counter"];

/// Judged and decided as the proxy does it, for a session that has done nothing yet.
fn route(shared: &Shared, question: &Question) -> Result<Row, Refusal> {
    let (database, name) = asked(shared, question.database.as_deref())?;
    let user = question.user.as_deref().unwrap_or("postgres");
    let live = database.catalogs.get(database.server_database.as_deref().unwrap_or(&name));
    let path = database.greetings.search_path(&name, user);
    let path = SearchPath::parse(path.as_deref().unwrap_or(SEARCH_PATH), user);
    let rules = &database.rules;
    let scope = Scope::new(live.known(), path, rules.clone());
    let who = Who { user, database: &name, ..Who::default() };
    let session = Session { rules: rules.session(&who), ..Session::FREE };
    let topology = Topology::of(&database.cluster.view());
    let facts = shared.judge.facts(question.sql.as_bytes(), &scope);
    let route = route::decide(facts, session, topology, rules);
    let reason = route.reason;
    let target = if reason == Reason::Rejected { "none" } else { route.target.code() };
    let rule = route.rule.and_then(|place| rules.get(place)).map(|rule| rule.name.clone());
    let would = route.would.map(|would| would.code().to_owned());
    let statement = crate::sql::normalise(question.sql.as_bytes());
    let (meaning, reason) = (some(reason.sentence()), some(reason.code()));
    let counter = Rule::for_text(database.counters.rules(), question.sql.as_bytes()).map(Rule::quoted);
    Ok(vec![some(target), reason, rule, would, meaning, some(name), some(statement), counter])
}

/// The database that a question is about, and its name.
fn asked(shared: &Shared, name: Option<&str>) -> Result<(Arc<Database>, String), Refusal> {
    let databases = &shared.databases;
    if let Some(name) = name {
        let found = databases.find(name).map(|database| (database, name.to_owned()));
        return found.ok_or_else(|| {
            let message = format!("database \"{name}\" is not configured in pgweir");
            Refusal::new(SqlState::INVALID_CATALOG_NAME, message, "SHOW DATABASES lists those that are.")
        });
    }
    match databases.all().as_slice() {
        [only] if &*only.name != "*" => Ok((only.clone(), only.name.to_string())),
        [any] => Ok((any.clone(), "postgres".to_owned())),
        _ => Err(Refusal::new(
            SqlState::SYNTAX_ERROR,
            "there are several databases",
            "Say which: SHOW ROUTE FOR '...' DATABASE name.",
        )),
    }
}

const DATABASES: &[&str] =
    &["name", "server_database", "user", "pool_mode", "pool_size", "primary", "replicas", "discovery"];

fn databases(shared: &Shared) -> Vec<Row> {
    let row = |database: &Arc<Database>| {
        let view = database.cluster.view();
        let primary = view.primary().and_then(|node| view.server(node));
        vec![
            some(&database.name),
            database.server_database.as_deref().map(str::to_owned),
            database.login.as_ref().map(|login| login.user.to_string()),
            some(format!("{:?}", database.pool.mode).to_ascii_lowercase()),
            some(database.pool.size),
            primary.map(|server| server.address.clone()),
            some(view.replicas().count()),
            database.cluster.discovery(),
        ]
    };
    shared.databases.all().iter().map(row).collect()
}

const SERVERS: &[&str] = &[
    "database",
    "address",
    "role",
    "health",
    "standing",
    "duty",
    "weight",
    "zone",
    "origin",
    "timeline",
    "version",
    "running",
    "position",
    "lag_ms",
    "lag_bytes",
    "why",
];

fn servers(shared: &Shared) -> Vec<Row> {
    let of_one = |database: &Arc<Database>| {
        let (view, positions) = (database.cluster.view(), database.cluster.positions());
        let row = |server: &crate::cluster::ServerView| {
            vec![
                some(&database.name),
                some(&server.address),
                some(server.role),
                some(format!("{:?}", server.health).to_ascii_lowercase()),
                some(server.standing),
                some(server.orders.duty),
                some(server.orders.weight),
                server.orders.zone.as_deref().map(str::to_owned),
                some(server.orders.origin.as_str()),
                (server.timeline > 0).then(|| server.timeline.to_string()),
                (server.version > 0).then(|| server.version.to_string()),
                some(database.cluster.load(server.node)),
                match server.role {
                    Role::Primary => positions.primary().last(),
                    Role::Replica | Role::Unknown => positions.progress(server.node).replayed,
                }
                .map(|position| position.to_string()),
                positions.lag(server.node).map(millis),
                positions.lag_bytes(server.node).map(|bytes| bytes.to_string()),
                Some(server.why.clone()).filter(|why| !why.is_empty()),
            ]
        };
        view.members().map(row).collect::<Vec<_>>()
    };
    shared.databases.all().iter().flat_map(of_one).collect()
}

const POOLS: &[&str] =
    &["database", "server_database", "user", "address", "leased", "idle", "opening", "waiting", "size"];

fn pools(shared: &Shared) -> Vec<Row> {
    let mut pools = shared.pools.all();
    pools.sort_by(|(one, _), (other, _)| {
        (&one.entry, &one.database, &one.user, one.node).cmp(&(
            &other.entry,
            &other.database,
            &other.user,
            other.node,
        ))
    });
    let row = |(key, pool): (crate::pool::PoolKey, Arc<crate::pool::Pool>)| {
        let counts = pool.counts();
        let entry = shared.databases.all().into_iter().find(|database| database.name == key.entry);
        let address = entry.and_then(|database| database.cluster.address(key.node).cloned());
        vec![
            some(&key.entry),
            some(pool.database()),
            some(&key.user),
            address.map(|address| address.to_string()),
            some(counts.leased),
            some(counts.idle),
            some(counts.opening),
            some(counts.waiting),
            some(pool.options().size),
        ]
    };
    pools.into_iter().map(row).collect()
}

const CATALOGS: &[&str] = &["database", "server_database", "state", "objects", "bytes"];

fn catalogs(shared: &Shared) -> Vec<Row> {
    let of_one = |database: &Arc<Database>| {
        let row = |(name, known): (String, Known)| {
            let (state, catalog) = match &known {
                Known::Unused => ("unused", None),
                Known::Loading => ("loading", None),
                Known::Loaded(catalog) => ("loaded", Some(catalog)),
            };
            vec![
                some(&database.name),
                some(name),
                some(state),
                catalog.map(|catalog| catalog.objects().to_string()),
                catalog.map(|catalog| catalog.bytes().to_string()),
            ]
        };
        database.catalogs.all().into_iter().map(row).collect::<Vec<_>>()
    };
    shared.databases.all().iter().flat_map(of_one).collect()
}
