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

/// The servers that the file names.
fn named(entry: &Database) -> impl Iterator<Item = &Address> {
    entry.servers.iter().filter(|server| server.orders.origin == Origin::File).map(|server| &server.address)
}

/// What is said of the host name that a server is one address of.
fn orders_of<'a>(server: &Server, named: &'a [Server]) -> Option<&'a Orders> {
    named.iter().find(|named| server.address.is_one_of(&named.address)).map(|named| &named.orders)
}

/// Takes those over that were found before into a configuration that is read again, as far as it has them looked for.
pub(super) fn carry_over(before: &Config, after: &mut Config) {
    for entry in &mut after.databases {
        // One that is new goes on with what is known of the same servers.
        let alike = |before: &&Database| {
            before.discover == entry.discover
                && before.monitor == entry.monitor
                && named(before).eq(named(entry))
        };
        let mut all = before.databases.iter();
        let same = all.clone().find(|before| before.name == entry.name).or_else(|| all.find(alike));
        let Some(before) = same else { continue };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn parsed(more: &str) -> Config {
        let text =
            format!("[databases.a]\nservers = ['h:1', 'i:2']\ndiscover = ['dns', 'replication']\n{more}");
        config::parse(&text, "test").unwrap()
    }

    fn found(address: &str, named: Option<&str>) -> Server {
        let origin = if named.is_some() { Origin::Dns } else { Origin::Replication };
        let plain: Address = address.parse().unwrap();
        let address =
            named.map_or(plain, |named| named.parse::<Address>().unwrap().at(address.parse().unwrap()));
        Server { address, orders: Orders { origin, ..Orders::default() } }
    }

    fn members(config: &Config) -> Vec<Vec<String>> {
        let of = |entry: &Database| entry.members().map(|server| server.address.to_string()).collect();
        config.databases.iter().map(of).collect()
    }

    #[test]
    fn a_name_that_is_several_is_none_itself() {
        let mut config = parsed("discover_max = 3");
        let entry = &mut config.databases[0];
        let new = [found("10.0.0.1", Some("h:1")), found("10.0.0.2", Some("h:1")), found("10.0.0.3:7", None)];
        assert_eq!(add(entry, &new, 9, |_| false), (true, false));
        assert_eq!(add(entry, &new, 9, |_| false), (false, false));
        assert_eq!(members(&config), [["i:2", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:7"]]);
        // More than there may be; and more than the cluster has room for.
        assert_eq!(add(&mut config.databases[0], &[found("10.0.0.4:7", None)], 9, |_| false), (false, true));
        let mut other = parsed("");
        assert_eq!(add(&mut other.databases[0], &new, 1, |_| false), (true, true));
        assert_eq!(members(&other), [["i:2", "10.0.0.1:1"]]);
        // What is not looked for any more is not taken in.
        let mut off = parsed("discover_max = 3");
        off.databases[0].discover = crate::monitor::Discover::default();
        assert_eq!(add(&mut off.databases[0], &new, 9, |_| false), (false, false));
    }

    #[test]
    fn only_what_was_found_is_forgotten() {
        let mut config = parsed("");
        let entry = &mut config.databases[0];
        let new = [found("10.0.0.1:7", None), found("10.0.0.2:7", None)];
        add(entry, &new, 9, |_| false);
        entry.servers[2].orders.duty = Duty::Draining;
        let gone: Vec<Address> = entry.servers.iter().map(|server| server.address.clone()).collect();
        assert!(forget(entry, &gone) && !forget(entry, &gone));
        // The one that was drained does not come back by itself.
        assert_eq!(add(entry, &new, 9, |_| true), (true, false));
        assert_eq!(members(&config), [["h:1", "i:2", "10.0.0.2:7"]]);
    }

    #[test]
    fn what_was_found_outlives_a_reload_that_still_wants_it() {
        let mut before = parsed("");
        let new = [found("10.0.0.1", Some("h:1")), found("10.0.0.3:7", None), found("10.0.0.4:7", None)];
        add(&mut before.databases[0], &new, 9, |_| false);
        before.databases[0].servers[4].orders.duty = Duty::Removed;
        let after = |mut config: Config| {
            carry_over(&before, &mut config);
            members(&config)
        };
        let both = ["i:2", "10.0.0.1:1", "10.0.0.3:7"];
        let twice = "[databases.b]\nservers = ['h:1', 'i:2']\ndiscover = ['dns', 'replication']";
        assert_eq!(after(parsed("")), [both]);
        assert_eq!(after(parsed(twice)), [both, both]);
        let parse = |text: &str| config::parse(&format!("[databases.a]\n{text}"), "test").unwrap();
        assert_eq!(after(parse("servers = ['h:1']")), [["h:1"]]);
        assert_eq!(after(parse("servers = ['h:1']\ndiscover = 'dns'")), [["10.0.0.1:1"]]);
        assert_eq!(after(parse("servers = ['i:2']\ndiscover = 'replication'")), [["i:2", "10.0.0.3:7"]]);
        // Named now, it is not one that was found.
        let named = parse("servers = ['i:2', '10.0.0.3:7']\ndiscover = 'replication'");
        assert_eq!(after(named), [["i:2", "10.0.0.3:7"]]);
    }
}
