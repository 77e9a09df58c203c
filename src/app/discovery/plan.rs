//! What to make of reports: where servers may be that nobody has named, who is one, and who has gone. Pure.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::clock::Duration;
use crate::cluster::{Origin, ProbeResult};
use crate::monitor::Report;
use crate::net::Address;

/// Most addresses that are tried in one round: whoever may replicate decides what is tried.
const MOST_TRIES: usize = 16;

/// One that was refused is not tried in the next round, then not in the next two, four and so on, up to so many.
const LONGEST_PAUSE: u64 = 10;

/// A server of the cluster, and what it has said in this round.
pub(super) struct Seen {
    pub(super) address: Address,
    pub(super) origin: Origin,
    pub(super) is_primary: bool,
    /// How long it has been down; none: it is not.
    pub(super) down: Option<Duration>,
    /// None: it was not asked, or did not answer.
    pub(super) report: Option<Report>,
}

/// Where a server may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tip {
    pub(super) address: Address,
    /// It is said to be a standby; else it is what one replicates from.
    pub(super) standby: bool,
}

/// Where servers may be according to reports: a standby at any of these ports, unless as many are known there as were reported.
pub(super) fn tips(seen: &[Seen], ports: &[u16]) -> Vec<Tip> {
    let mut tips = Vec::new();
    let mut tip = |address: Address, standby| {
        if !tips.iter().any(|tip: &Tip| tip.address == address) {
            tips.push(Tip { address, standby });
        }
    };
    for one in seen {
        if let Some(Address::Tcp { host, port, .. }) =
            one.report.as_ref().and_then(|report| report.upstream.as_ref())
        {
            tip(Address::tcp(&near(host, &one.address), *port), false);
        }
    }
    for (host, count) in standbys(seen) {
        if count > known_at(&host, seen) {
            ports.iter().for_each(|port| tip(Address::tcp(&host, *port), true));
        }
    }
    tips
}

/// How many standbys were reported at each host.
fn standbys(seen: &[Seen]) -> Vec<(String, usize)> {
    let mut hosts: HashMap<String, usize> = HashMap::new();
    for one in seen {
        for ip in one.report.iter().flat_map(|report| &report.standbys) {
            *hosts.entry(near(&ip.to_string(), &one.address)).or_default() += 1;
        }
    }
    let mut hosts: Vec<_> = hosts.into_iter().collect();
    hosts.sort();
    hosts
}

/// How many that receive the log are known there and have answered.
fn known_at(host: &str, seen: &[Seen]) -> usize {
    let there = |one: &&Seen| matches!(&one.address, Address::Tcp { host: own, .. } if own == host);
    seen.iter().filter(there).filter(|one| one.report.as_ref().is_some_and(|report| report.receives)).count()
}

/// A host as it is called from here: what is on the same machine as the server that speaks of it is where that is.
pub(super) fn near(host: &str, speaker: &Address) -> String {
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match speaker {
        Address::Tcp { host: own, .. } if loopback && !speaker.is_local() => own.clone(),
        Address::Tcp { .. } | Address::Unix { .. } => host.to_owned(),
    }
}

/// Why an address that answered is not a server of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum No {
    /// It is of another system.
    Foreign,
    /// It does not say of which system it is.
    Silent,
    /// It is one that is known under another address.
    Known,
    /// It is no standby, or does not receive anything.
    Idle,
    /// It follows a server that is not known: it may be a copy of a copy that has gone its own way.
    Stray,
}

impl No {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Foreign => "it belongs to another database system",
            Self::Silent => "it does not tell its system identifier",
            Self::Known => "it is known under another address",
            Self::Idle => "it is no standby that streams",
            Self::Stray => "it follows a server that is not known",
        }
    }

    /// Whether it may never be used.
    pub(super) fn is_alarming(self) -> bool {
        match self {
            Self::Foreign | Self::Silent | Self::Stray => true,
            Self::Known | Self::Idle => false,
        }
    }
}

/// Whether who has answered at a tip is a server of the cluster that is `system`; `started` has those that are known. `leads` is
/// whom it follows, where that could be asked.
pub(super) fn judge(
    tip: &Tip,
    result: &ProbeResult,
    report: &Report,
    leads: Option<&str>,
    (system, started): (u64, &HashSet<Box<str>>),
) -> Result<(), No> {
    match result.system_identifier {
        None => Err(No::Silent),
        Some(theirs) if theirs != system => Err(No::Foreign),
        Some(_) if started.contains(&report.started) => Err(No::Known),
        Some(_) if tip.standby && !(result.in_recovery && report.receives) => Err(No::Idle),
        Some(_) if tip.standby && leads.is_some_and(|leads| !started.contains(leads)) => Err(No::Stray),
        Some(_) => Ok(()),
    }
}

/// Those that were found by replication and have gone: nobody reports them, and they were down for long enough; or they are
/// another one that is known. Who was `removed` may still be reported.
pub(super) fn gone(seen: &[Seen], removed: &[Address], patience: Duration) -> Vec<Address> {
    // While no primary answers, nobody knows.
    let primary = |report: &Report| report.allowed && !report.in_recovery;
    let known = seen.iter().any(|one| one.report.as_ref().is_some_and(primary));
    let standbys = standbys(seen);
    let reported = |address: &Address| {
        let Address::Tcp { host, .. } = address else { return false };
        let count = standbys.iter().find(|(at, _)| at == host).map_or(0, |(_, count)| *count);
        let there = |one: &&Address| matches!(one, Address::Tcp { host: own, .. } if own == host);
        count > known_at(host, seen) + removed.iter().filter(there).count()
            || tips(seen, &[]).iter().any(|tip| tip.address == *address)
    };
    let lost = |one: &Seen| known && one.down.is_some_and(|down| down >= patience) && !reported(&one.address);
    let twin = |at: usize, one: &Seen| {
        let started = |one: &Seen| one.report.as_ref().map(|report| report.started.clone());
        let before = |(other, seen): (usize, &Seen)| {
            started(seen) == started(one) && other != at && (seen.origin != Origin::Replication || other < at)
        };
        started(one).is_some() && seen.iter().enumerate().any(before)
    };
    let found = seen.iter().enumerate().filter(|(_, one)| one.origin == Origin::Replication);
    found
        .filter(|(at, one)| twin(*at, one) || lost(one) && !one.is_primary)
        .map(|(_, one)| one.address.clone())
        .collect()
}

/// What is remembered of addresses that were refused, from round to round.
#[derive(Default)]
pub(super) struct Memory {
    round: u64,
    /// How often in a row, and the round in which it is tried again.
    refused: HashMap<Address, (u32, u64)>,
}

impl Memory {
    /// Those to be tried in this round: of all that are due, or just of all when something `has_happened`, those refused least often.
    pub(super) fn pick(&mut self, tips: Vec<Tip>, has_happened: bool) -> Vec<Tip> {
        self.round += 1;
        self.refused.retain(|address, _| tips.iter().any(|tip| tip.address == *address));
        let mut due: Vec<_> = tips
            .into_iter()
            .map(|tip| (self.refused.get(&tip.address).copied().unwrap_or_default(), tip))
            .filter(|((_, again), _)| has_happened || *again <= self.round)
            .collect();
        due.sort_by_key(|(refused, _)| *refused);
        due.into_iter().take(MOST_TRIES).map(|(_, tip)| tip).collect()
    }

    /// One was refused. True: for the first time.
    pub(super) fn refuse(&mut self, address: Address) -> bool {
        let (times, again) = self.refused.entry(address).or_default();
        *again = self.round + 1 + (1 << (*times).min(16)).min(LONGEST_PAUSE);
        *times += 1;
        *times == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Reached;

    const PATIENCE: Duration = Duration::from_secs(3);

    fn seen(address: &str, origin: Origin) -> Seen {
        let address: Address = address.parse().unwrap();
        let started = address.to_string().into();
        let report =
            Report { in_recovery: true, receives: true, allowed: true, started, ..Report::default() };
        Seen { address, origin, is_primary: false, down: None, report: Some(report) }
    }

    fn primary(address: &str, standbys: &[&str]) -> Seen {
        let mut one = seen(address, Origin::File);
        let report = one.report.as_mut().unwrap();
        (report.in_recovery, report.receives) = (false, false);
        report.standbys = standbys.iter().map(|ip| ip.parse().unwrap()).collect();
        Seen { is_primary: true, ..one }
    }

    fn down(one: Seen, seconds: u64) -> Seen {
        Seen { down: Some(Duration::from_secs(seconds)), report: None, ..one }
    }

    fn addresses(tips: &[Tip]) -> Vec<String> {
        tips.iter().map(|tip| tip.address.to_string()).collect()
    }

    #[test]
    fn standbys_are_looked_for_where_they_are_reported_and_not_known() {
        let all = [
            primary("10.0.0.1:5432", &["10.0.0.2", "10.0.0.3", "127.0.0.1"]),
            seen("10.0.0.2:5432", Origin::File),
        ];
        // What replicates over loopback is on the primary's machine, not on ours.
        let expected = ["10.0.0.1:5432", "10.0.0.1:5433", "10.0.0.3:5432", "10.0.0.3:5433"];
        assert_eq!(addresses(&tips(&all, &[5432, 5433])), expected);
        let mut replica = seen("10.0.0.2:5432", Origin::File);
        replica.report.as_mut().unwrap().upstream = Some("localhost:7".parse().unwrap());
        let found = tips(&[replica], &[5432]);
        assert_eq!((addresses(&found), found[0].standby), (vec!["10.0.0.2:7".to_owned()], false));
        // On this machine all have one address: they are counted.
        let here = |count| primary("127.0.0.1:1", &vec!["127.0.0.1"; count]);
        assert_eq!(tips(&[here(1), seen("127.0.0.1:2", Origin::File)], &[1, 2]).len(), 0);
        assert_eq!(tips(&[here(2), seen("127.0.0.1:2", Origin::File)], &[1, 2]).len(), 2);
    }

    #[test]
    fn only_a_copy_that_is_not_known_is_taken() {
        let tip = |standby| Tip { address: "10.0.0.2:5432".parse().unwrap(), standby };
        let result = |system_identifier, in_recovery| ProbeResult {
            in_recovery,
            system_identifier,
            timeline: 1,
            version: 150_000,
            reached: Reached::default(),
            synchronous: false,
        };
        let report = |receives| Report { started: "2".into(), receives, ..Report::default() };
        let known = HashSet::from(["1".into()]);
        let say = |standby, system, in_recovery, receives| {
            judge(&tip(standby), &result(system, in_recovery), &report(receives), None, (7, &known))
        };
        assert_eq!(say(true, Some(7), true, true), Ok(()));
        assert_eq!(say(false, Some(7), false, false), Ok(()));
        assert_eq!(say(true, Some(8), true, true), Err(No::Foreign));
        assert_eq!(say(true, None, true, true), Err(No::Silent));
        assert_eq!(say(true, Some(7), false, true), Err(No::Idle));
        assert_eq!(say(true, Some(7), true, false), Err(No::Idle));
        let same = Report { started: "1".into(), receives: true, ..Report::default() };
        assert_eq!(judge(&tip(true), &result(Some(7), true), &same, None, (7, &known)), Err(No::Known));
        let led = |leads| judge(&tip(true), &result(Some(7), true), &report(true), Some(leads), (7, &known));
        assert_eq!((led("1"), led("3")), (Ok(()), Err(No::Stray)));
    }

    #[test]
    fn only_who_was_found_and_is_missed_by_nobody_goes() {
        let found = |seconds| down(seen("10.0.0.3:5432", Origin::Replication), seconds);
        let lone = || primary("10.0.0.1:5432", &[]);
        assert_eq!(gone(&[lone(), found(3)], &[], PATIENCE), ["10.0.0.3:5432".parse().unwrap()]);
        assert_eq!(gone(&[lone(), found(2)], &[], PATIENCE), []);
        assert_eq!(gone(&[primary("10.0.0.1:5432", &["10.0.0.3"]), found(9)], &[], PATIENCE), []);
        let removed = ["10.0.0.3:5433".parse().unwrap()];
        assert_eq!(gone(&[primary("10.0.0.1:5432", &["10.0.0.3"]), found(9)], &removed, PATIENCE).len(), 1);
        // No primary has spoken: nobody knows.
        assert_eq!(gone(&[down(lone(), 9), found(9)], &[], PATIENCE), []);
        for origin in [Origin::File, Origin::Console, Origin::Dns] {
            assert_eq!(gone(&[lone(), down(seen("10.0.0.3:5432", origin), 9)], &[], PATIENCE), []);
        }
        // Two addresses of one server: the one that was named stays, else the first.
        let twin = |address: &str, origin| {
            let mut one = seen(address, origin);
            one.report.as_mut().unwrap().started = "x".into();
            one
        };
        let both = [twin("10.0.0.9:1", Origin::Replication), twin("db:1", Origin::File)];
        assert_eq!(gone(&both, &[], PATIENCE), ["10.0.0.9:1".parse().unwrap()]);
        let both = [twin("10.0.0.8:1", Origin::Replication), twin("10.0.0.9:1", Origin::Replication)];
        assert_eq!(gone(&both, &[], PATIENCE), ["10.0.0.9:1".parse().unwrap()]);
    }

    #[test]
    fn who_was_refused_is_tried_less_and_less_often() {
        let tips = || vec![Tip { address: "10.0.0.2:5432".parse().unwrap(), standby: true }];
        let mut memory = Memory::default();
        let mut tried = Vec::new();
        for round in 0..40 {
            if let [tip] = &memory.pick(tips(), false)[..] {
                tried.push(round);
                assert_eq!(memory.refuse(tip.address.clone()), round == 0);
            }
        }
        assert_eq!(tried, [0, 2, 5, 10, 19, 30]);
        // But when a server has come or gone.
        assert_eq!((memory.pick(tips(), false).len(), memory.pick(tips(), true).len()), (0, 1));
        // Forgotten with the report of it.
        assert!(memory.pick(Vec::new(), false).is_empty() && memory.pick(tips(), false).len() == 1);
        let many = (1..100).map(|port| Tip { address: Address::tcp("10.0.0.2", port), standby: true });
        assert_eq!(memory.pick(many.collect(), false).len(), MOST_TRIES);
    }
}
