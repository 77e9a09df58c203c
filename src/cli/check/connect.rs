//! `pgweir check --connect`: what the servers say to a configuration.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock;
use crate::cluster::{Event, ProbeResult, Role, Standing, View};
use crate::config::{Config, Database};
use crate::counter::{self, check};
use crate::ids::Node;
use crate::monitor::{self, LinkError, Visit};
use crate::net::Address;
use crate::position::Lsn;
use crate::wire::write::quote_literal;

/// Longest that the questions about one database may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found, a line each.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// For whoever wants to know.
    pub(super) said: Vec<String>,
    /// What would not work.
    pub(super) wrong: Vec<String>,
}

/// Asks the servers of every database.
pub(super) async fn look(config: &Config) -> Findings {
    let mut findings = Findings::default();
    let mut lost = Names::of(config);
    let mut left: Vec<&Database> = config.databases.iter().collect();
    // Databases with the same servers, asked in the same way, are of one cluster.
    while let Some(first) = left.first().copied() {
        let alike = |other: &&Database| other.servers == first.servers && other.monitor == first.monitor;
        let (group, others): (Vec<_>, Vec<_>) = left.into_iter().partition(alike);
        left = others;
        let source = findings.servers(first, &group).await;
        for database in group {
            let Some(source) = &source else { continue };
            let asked = timeout(PATIENCE, findings.database(database, source, &mut lost)).await;
            let failed = match asked {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(_) => LinkError::TimedOut(PATIENCE),
            };
            let (name, user) = (on_server(database), &database.monitor.login.user);
            findings.wrong.push(format!(
                "databases.{}: the role {user} cannot ask in the database {name}: {failed}; reads of tables would stay on the primary",
                database.name
            ));
        }
    }
    findings.said.extend(lost.missing());
    findings
}

/// The database on the servers that stands for an entry: `*` has many.
fn on_server(database: &Database) -> &str {
    match (&database.server_database, database.name.as_str()) {
        (Some(name), _) => name,
        (None, "*") => &database.monitor.database,
        (None, name) => name,
    }
}

impl Findings {
    /// The servers of a group of databases. Returned is one that knows their definitions.
    async fn servers(&mut self, first: &Database, group: &[&Database]) -> Option<Address> {
        let names: Vec<_> = group.iter().map(|database| database.name.as_str()).collect();
        let names = names.join(", ");
        self.said.push(format!("servers of {names}:"));
        let answers = probe(first).await;
        let view = view(first, &answers);
        let primary = view.primary();
        let position = |node: Node| answers.get(node.index())?.as_ref().ok()?.reached.position;
        let reached = primary.and_then(position);
        for (nth, (server, answer)) in first.servers.iter().zip(&answers).enumerate() {
            let address = &server.address;
            match answer {
                Ok(result) => {
                    self.said.push(format!("  {address}: {}", described(result, reached)));
                    let standing = view.servers.get(nth).map_or(Standing::Unproven, |server| server.standing);
                    if let Some(why) = outcast(standing) {
                        self.wrong.push(format!("databases.{names}: {address} {why}"));
                    }
                }
                Err(error) => {
                    self.wrong.push(format!("databases.{names}: {address} cannot be asked: {error}"))
                }
            }
        }
        if primary.is_none() && (first.discover.replication || first.discover.dns) {
            self.said.push("  no primary among these: `discover` looks for it when pgweir runs".to_owned());
        } else if primary.is_none() {
            self.wrong.push(format!("databases.{names}: none of the servers is a primary that may be used"));
        }
        let source = primary.or_else(|| view.replicas().next())?;
        Some(first.servers.get(source.index())?.address.clone())
    }

    /// What a database's own definitions say to its counters, rules and functions.
    async fn database(
        &mut self,
        database: &Database,
        source: &Address,
        lost: &mut Names,
    ) -> Result<(), LinkError> {
        let (name, within) = (&database.name, on_server(database));
        let mut visit = Visit::as_monitor(source, &database.monitor, within).await?;
        self.said.push(format!("database {name}:"));
        if name == "*" {
            self.said
                .push(format!("  it stands for every name: asked in {within}, the database of [monitor]"));
        }
        for rule in &database.counters {
            self.counter(name, rule, &mut visit).await?;
        }
        lost.look_for(database, &mut visit).await
    }

    async fn counter(
        &mut self,
        database: &str,
        rule: &counter::Rule,
        visit: &mut Visit,
    ) -> Result<(), LinkError> {
        let schema = rule.schema.as_ref().map(|schema| format!("{schema}.")).unwrap_or_default();
        let what = format!("{schema}{} ({})", rule.table, rule.key.join(", "));
        let rows = visit.rows(&check::question(rule)).await?;
        match check::refusal(rule, &rows) {
            None => self.said.push(format!("  counters of {what}: merged")),
            // The table may be in another of its databases.
            Some(_) if rows.is_empty() && database == "*" => {
                self.said.push(format!("  counters of {what}: there is no such table here"));
            }
            Some(why) => {
                self.said.push(format!("  counters of {what}: not merged"));
                self.wrong.push(format!("databases.{database}.counters: {what} would not be merged: {why}"));
            }
        }
        Ok(())
    }
}

/// Asks all servers of a database at once, as its probes do. In the order of the configuration.
async fn probe(database: &Database) -> Vec<Result<ProbeResult, LinkError>> {
    let mut asked = JoinSet::new();
    for (nth, server) in database.servers.iter().enumerate() {
        let (address, options) = (server.address.clone(), database.monitor.clone());
        asked.spawn(async move { (nth, monitor::probe_once(&address, &options).await) });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(nth, _)| *nth);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// What the proxy would make of the answers.
fn view(database: &Database, answers: &[Result<ProbeResult, LinkError>]) -> View {
    let nodes = (0..).map(Node);
    let ordered = database.servers.iter().zip(nodes.clone()).fold(View::default(), |view, (server, node)| {
        view.order(node, &server.address.to_string(), server.orders.clone())
    });
    answers.iter().zip(nodes).fold(ordered, |view, (answer, node)| {
        let event = match answer {
            Ok(result) => Event::Probed(result.clone()),
            Err(error) => Event::ProbeFailed(error.to_string()),
        };
        view.apply(node, event, clock::now())
    })
}

/// What a server is, in words.
fn described(result: &ProbeResult, reached: Option<Lsn>) -> String {
    let role = if result.in_recovery { Role::Replica } else { Role::Primary };
    let (major, minor) = (result.version / 10_000, result.version % 10_000);
    let mut said = format!("{role}, PostgreSQL {major}.{minor}, timeline {}", result.timeline);
    if let (true, Some(reached), Some(position)) = (result.in_recovery, reached, result.reached.position) {
        said += &format!(", {} bytes behind", position.behind(reached));
    }
    said + &match result.system_identifier {
        Some(system) => format!(", system {system}"),
        None => ", its system identifier may not be read by this role".to_owned(),
    }
}

/// Why a server would not be used, though it answers.
fn outcast(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Foreign => Some("is a copy of another system than most: it would not be used"),
        Standing::Fenced => {
            Some("claims to be primary beside another, or is of an old timeline: it would be fenced")
        }
        Standing::Behind => Some("has not followed the primary to its timeline: it would get no reads"),
        Standing::Unproven | Standing::Member => None,
    }
}

/// Names in the configuration that no database knew so far: a function may be in one of several.
struct Names {
    /// Functions, each with its setting.
    functions: Vec<(&'static str, String)>,
    /// What was found.
    said: Vec<String>,
}

impl Names {
    fn of(config: &Config) -> Self {
        let lists = [
            ("routing.read_only_functions", &config.judge.read_only_functions),
            ("routing.write_functions", &config.judge.write_functions),
        ];
        let named = |(setting, names): (_, &Vec<String>)| {
            names.iter().map(|name| (setting, name.clone())).collect::<Vec<_>>()
        };
        Self { functions: lists.into_iter().flat_map(named).collect(), said: Vec::new() }
    }

    async fn look_for(&mut self, database: &Database, visit: &mut Visit) -> Result<(), LinkError> {
        let functions: Vec<_> = self.functions.iter().map(|(_, name)| name.clone()).collect();
        let unknown = absent(visit, &functions, "pg_proc", "proname", "pronamespace").await?;
        self.functions.retain(|(_, name)| unknown.contains(name));
        if database.name == "*" {
            return Ok(());
        }
        let rules = (0..u8::MAX).map_while(|place| database.rules.get(place));
        for rule in rules {
            let tables = [rule.when.tables.clone(), rule.when.only_tables.clone()].concat();
            for table in absent(visit, &tables, "pg_class", "relname", "relnamespace").await? {
                self.said.push(format!(
                    "note: databases.{}.rules {:?}: there is no table {table}",
                    database.name, rule.name
                ));
            }
        }
        Ok(())
    }

    fn missing(self) -> impl Iterator<Item = String> {
        let functions = self.functions.into_iter();
        let functions =
            functions.map(|(setting, name)| format!("note: {setting}: there is no function {name}"));
        self.said.into_iter().chain(functions)
    }
}

/// Those of the names (`name`, `schema.name` or `schema.*`) that mean nothing in that catalog.
async fn absent(
    visit: &mut Visit,
    names: &[String],
    catalog: &str,
    name: &str,
    schema: &str,
) -> Result<Vec<String>, LinkError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<_> = names.iter().map(|name| quote_literal(name)).collect();
    let question = format!(
        "SELECT n FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) n WHERE NOT EXISTS (SELECT FROM pg_catalog.{catalog} o \
         JOIN pg_catalog.pg_namespace s ON s.oid = o.{schema} \
         WHERE n IN (o.{name}::pg_catalog.text, pg_catalog.concat(s.nspname, '.', o.{name}), pg_catalog.concat(s.nspname, '.*')))",
        list.join(",")
    );
    let rows = visit.rows(&question).await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}
