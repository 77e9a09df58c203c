//! Looks for servers that nobody has named, and takes those out again that have gone. One task for each cluster.
//!
//! It changes the configuration that holds as the console does: see [`Operator::found`]. Only a server that has answered and is a
//! copy of the cluster is added by what another server said; what the operator has named or taken out stays so.

mod plan;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{debug, warn};

use self::plan::{Memory, Seen, Tip};
use super::operator::Operator;
use crate::clock::{self, Duration};
use crate::cluster::{Health, Orders, Origin, ProbeResult, Role, Standing};
use crate::config::Server;
use crate::ids::Node;
use crate::metrics::{DiscoveryMetrics, Undiscovered};
use crate::monitor::{self, Cluster, Discover};
use crate::net::{Address, Resolver};

/// Looks are at least this far apart, whatever happens to the servers.
const LEAST_DISTANCE: Duration = Duration::from_secs(1);

/// An address of a name is given up when it was missing so often in a row: an answer may be cut short.
const MISSED: u32 = 2;

/// What is found in one look.
#[derive(Default)]
pub(super) struct Found {
    pub(super) new: Vec<Server>,
    pub(super) gone: Vec<Address>,
}

/// The search for servers of one cluster.
pub(super) struct Discovery {
    pub(super) operator: Weak<Operator>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) options: Discover,
    pub(super) monitor: monitor::Options,
    pub(super) resolver: Resolver,
    /// Of each database that the cluster has.
    pub(super) metrics: Vec<DiscoveryMetrics>,
}

/// What is remembered from look to look.
#[derive(Default)]
struct State {
    memory: Memory,
    /// How often in a row an address was missing in what its name was resolved to.
    missed: HashMap<Address, u32>,
    /// A server has come or gone, or is something else than before.
    has_happened: bool,
    /// What there is to complain about now.
    troubles: Vec<String>,
}

impl Discovery {
    /// Looks again and again, until dropped.
    pub(super) async fn run(self) {
        let mut state = State::default();
        loop {
            let start = clock::now();
            let before = self.standing();
            if self.look(&mut state).await.is_none() {
                return;
            }
            state.has_happened = tokio::select! {
                () = sleep(self.options.every) => false,
                () = self.changed(&before) => true,
            };
            sleep_until(start + LEAST_DISTANCE.min(self.options.every)).await;
        }
    }

    /// Which servers are up, and as what.
    fn standing(&self) -> Vec<(Node, bool, Role)> {
        let view = self.cluster.view();
        view.members().map(|server| (server.node, server.health == Health::Up, server.role)).collect()
    }

    async fn changed(&self, before: &[(Node, bool, Role)]) {
        loop {
            let epoch = self.cluster.epoch();
            if self.standing() != before {
                return;
            }
            self.cluster.changed(epoch).await;
        }
    }

    /// One look. None: pgweir is ending.
    async fn look(&self, state: &mut State) -> Option<()> {
        let servers = self.operator.upgrade()?.servers(&self.cluster);
        state.troubles.clear();
        let mut found = Found::default();
        if self.options.dns {
            self.ask_names(&servers, state, &mut found).await;
        }
        if self.options.replication {
            self.ask_servers(&servers, state, &mut found).await;
        }
        if self.operator.upgrade()?.found(&self.cluster, &found) {
            self.failed(Undiscovered::Full);
            state
                .troubles
                .push("there are more servers than there may be (discover_max, or 64 in all)".to_owned());
        }
        let note = if state.troubles.is_empty() { "ok".to_owned() } else { state.troubles.join("; ") };
        if self.cluster.note_discovery(Some(note.clone())) && !state.troubles.is_empty() {
            warn!(trouble = note, "the search for servers is not complete");
        }
        Some(())
    }

    fn failed(&self, why: Undiscovered) {
        self.metrics.iter().for_each(|metrics| metrics.failed(why));
    }

    fn is_primary(&self, address: &Address) -> bool {
        let node = self.cluster.node(address);
        node.is_some() && self.cluster.view().primary() == node
    }

    /// What host names stand for now. One that cannot be resolved changes nothing.
    async fn ask_names(&self, servers: &[Server], state: &mut State, found: &mut Found) {
        let named = |server: &&Server| !server.orders.origin.is_found() && server.is_member();
        for server in servers.iter().filter(named) {
            let Some(name) = server.address.host_name() else { continue };
            let asked = timeout(self.monitor.timeout, self.resolver.addresses(name)).await;
            let answer = match asked.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                Ok(answer) => answer,
                Err(error) => {
                    self.failed(Undiscovered::Dns);
                    state.troubles.push(format!("{name} could not be resolved: {error}"));
                    continue;
                }
            };
            let now: Vec<Address> = answer.into_iter().map(|ip| server.address.at(ip)).collect();
            let own: Vec<&Address> =
                servers.iter().map(|one| &one.address).filter(|one| one.is_one_of(&server.address)).collect();
            // A name with one address may stay what it is, and is then resolved for each connection.
            if now.len() > 1 || !own.is_empty() {
                let orders = Orders { origin: Origin::Dns, ..server.orders.clone() };
                let new =
                    now.iter().map(|address| Server { address: address.clone(), orders: orders.clone() });
                found.new.extend(new);
            }
            for address in own {
                if now.contains(address) {
                    state.missed.remove(address);
                    continue;
                }
                let missed = state.missed.entry(address.clone()).or_default();
                *missed += 1;
                if *missed >= MISSED && !self.is_primary(address) {
                    state.missed.remove(address);
                    found.gone.push(address.clone());
                }
            }
        }
    }

    /// Who replicates from whom, and who of these is not known yet.
    async fn ask_servers(&self, servers: &[Server], state: &mut State, found: &mut Found) {
        let Some((seen, asked)) = self.reports().await else { return };
        let answered: Vec<_> = seen.iter().filter_map(|one| one.report.as_ref()).collect();
        if answered.iter().any(|report| !report.allowed) {
            self.failed(Undiscovered::Denied);
            let role = &self.monitor.login.user;
            state
                .troubles
                .push(format!("the role \"{role}\" may not see who replicates: GRANT pg_monitor TO it"));
        }
        let removed: Vec<_> = servers
            .iter()
            .filter(|server| !server.is_member())
            .map(|server| server.address.clone())
            .collect();
        found.gone.extend(plan::gone(&seen, &removed, self.options.patience()));
        let (system, settled) = {
            let view = self.cluster.view();
            (view.system_identifier, view.settled)
        };
        let Some(system) = system.filter(|_| settled) else {
            if settled && !answered.is_empty() {
                state.troubles.push("no server tells its system identifier".to_owned());
            }
            return;
        };
        // Who has not answered might be the one that is found.
        if answered.len() < asked {
            return;
        }
        let mut started: HashSet<_> = answered.iter().map(|report| report.started.clone()).collect();
        let mut tips = plan::tips(&seen, &self.ports(servers));
        tips.retain(|tip| !servers.iter().any(|server| server.address == tip.address));
        let known: Arc<[Address]> = seen.iter().map(|one| one.address.clone()).collect();
        for (tip, answer) in self.examined(state.memory.pick(tips, state.has_happened), &known).await {
            let (why, failure, told) = match answer {
                // Where several ports are tried, at most of them is nobody.
                Err(error) => (error.to_string(), Some(Undiscovered::Unreachable), error.is_refusal()),
                Ok((result, report, leads)) => {
                    match plan::judge(&tip, &result, &report, leads.as_deref(), (system, &started)) {
                        Ok(()) => {
                            started.insert(report.started);
                            let orders = Orders { origin: Origin::Replication, ..Orders::default() };
                            found.new.push(Server { address: tip.address, orders });
                            continue;
                        }
                        Err(no) => {
                            let alarming = no.is_alarming();
                            (no.as_str().to_owned(), alarming.then_some(Undiscovered::Foreign), alarming)
                        }
                    }
                }
            };
            failure.into_iter().for_each(|failure| self.failed(failure));
            let (server, first) = (tip.address.to_string(), state.memory.refuse(tip.address));
            if first && told {
                warn!(server, why, "a server was found that is not taken for one of this cluster");
            } else {
                debug!(server, why, "no server of this cluster was found here");
            }
        }
    }

    /// The servers and what they say, and how many were asked. None: none is there to ask.
    async fn reports(&self) -> Option<(Vec<Seen>, usize)> {
        let view = self.cluster.view().clone();
        let mut asked = JoinSet::new();
        for server in view.members().filter(|server| server.health == Health::Up) {
            let (cluster, node, options) = (self.cluster.clone(), server.node, self.monitor.clone());
            asked.spawn(async move { (node, cluster.report(node, &options).await) });
        }
        let count = asked.len();
        let mut reports: HashMap<Node, Option<monitor::Report>> =
            asked.join_all().await.into_iter().collect();
        let seen = view.members().filter_map(|server| {
            let report = reports.remove(&server.node).flatten();
            Some(Seen {
                address: Address::clone(self.cluster.address(server.node)?),
                origin: server.orders.origin,
                is_primary: view.primary() == Some(server.node),
                down: server.since.filter(|_| server.health == Health::Down).map(|since| since.elapsed()),
                // What one that may not be used says of others does not count.
                report: report.map(|report| match server.standing {
                    Standing::Foreign | Standing::Fenced => report.alone(),
                    Standing::Unproven | Standing::Behind | Standing::Member => report,
                }),
            })
        });
        (count > 0).then(|| (seen.collect(), count))
    }

    /// The ports of the servers that are known, and those that the operator has given.
    fn ports(&self, servers: &[Server]) -> Vec<u16> {
        let known = servers.iter().map(|server| match &server.address {
            Address::Tcp { port, .. } | Address::Unix { port, .. } => *port,
        });
        let mut ports: Vec<u16> = self.options.ports.iter().copied().chain(known).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Asks all of them at once who they are, and of a standby whom it follows, if that is not one that is known.
    async fn examined(&self, tips: Vec<Tip>, known: &Arc<[Address]>) -> Vec<(Tip, Examined)> {
        let mut asked = JoinSet::new();
        for tip in tips {
            let (options, known) = (self.monitor.clone(), known.clone());
            asked.spawn(async move {
                let answer = examine(&tip.address, &known, &options).await;
                (tip, answer)
            });
        }
        let mut all = asked.join_all().await;
        // By address, so that of two that are one server the same is taken every time.
        all.sort_by_key(|(tip, _)| tip.address.to_string());
        all
    }
}

/// What it says of itself, and when that was started which it follows.
type Examined = Result<(ProbeResult, monitor::Report, Option<Box<str>>), monitor::LinkError>;

async fn examine(address: &Address, known: &[Address], options: &monitor::Options) -> Examined {
    let (result, report) = monitor::examine(address, options).await?;
    let upstream = match &report.upstream {
        Some(Address::Tcp { host, port, .. }) => Some(Address::tcp(&plan::near(host, address), *port)),
        Some(Address::Unix { .. }) | None => None,
    };
    let leads = match upstream.filter(|upstream| !known.contains(upstream)) {
        // It may be called something there that it is not called here.
        Some(upstream) => monitor::examine(&upstream, options).await.ok().map(|(_, report)| report.started),
        None => None,
    };
    Ok((result, report, leads))
}
