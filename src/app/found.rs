//! What servers that were found mean for a configuration. Pure.

use crate::cluster::{Duty, Orders, Origin};
use crate::config::{Config, Database, Server};
use crate::net::Address;

/// Takes in those that are new to a database, as long as there is room: for so many that it has never had, and up to its own limit.
/// What it returns: whether it has changed, and whether there was not room for all.
pub(super) fn add(
    entry: &mut Database,
    new: &[Server],
    mut room: usize,
    was_there: impl Fn(&Address) -> bool,
) -> (bool, bool) {
    let (mut changed, mut full) = (false, false);
    for server in new {
        let wanted = match server.orders.origin {
            Origin::Dns => entry.discover.dns,
            Origin::Replication => entry.discover.replication,
            Origin::File | Origin::Console => false,
        };
        // The file may have been read again since.
        if !wanted || entry.servers.iter().any(|known| known.address == server.address) {
            continue;
        }
        let found = entry.members().filter(|known| known.orders.origin.is_found()).count();
        let fresh = !was_there(&server.address);
        if found >= entry.discover.most || fresh && room == 0 {
            full = true;
            continue;
        }
        room -= usize::from(fresh);
        entry.servers.push(server.clone());
        changed = true;
    }
    (changed, full)
}

/// Takes out those that have gone, if they were found. One that the operator drained is remembered: it does not come back by itself.
pub(super) fn forget(entry: &mut Database, gone: &[Address]) -> bool {
    let named: Vec<Server> =
        entry.servers.iter().filter(|server| !server.orders.origin.is_found()).cloned().collect();
    let mut changed = false;
    entry.servers.retain_mut(|server| {
        if !server.orders.origin.is_found() || !server.is_member() || !gone.contains(&server.address) {
            return true;
        }
        changed = true;
        let drained = server.orders.duty == Duty::Draining
            && orders_of(server, &named).is_none_or(|orders| orders.duty != Duty::Draining);
        server.orders.duty = Duty::Removed;
        drained
    });
    changed
}

/// What is said of the host name that a server is one address of.
fn orders_of<'a>(server: &Server, named: &'a [Server]) -> Option<&'a Orders> {
    named.iter().find(|named| server.address.is_one_of(&named.address)).map(|named| &named.orders)
}

/// Takes those over that were found before into a configuration that is read again, as far as it has them looked for.
pub(super) fn carry_over(before: &Config, after: &mut Config) {
    for entry in &mut after.databases {
        let Some(before) = before.databases.iter().find(|before| before.name == entry.name) else { continue };
        let named = entry.servers.clone();
        let found = before.servers.iter().filter(|server| server.is_member()).filter_map(|server| {
            let orders = match server.orders.origin {
                Origin::Dns if entry.discover.dns => orders_of(server, &named)?.clone(),
                Origin::Replication if entry.discover.replication => Orders::default(),
                Origin::File | Origin::Console | Origin::Dns | Origin::Replication => return None,
            };
            let orders = Orders { origin: server.orders.origin, ..orders };
            Some(Server { address: server.address.clone(), orders })
        });
        let found: Vec<_> = found.collect();
        add(entry, &found, usize::MAX, |_| true);
    }
}
