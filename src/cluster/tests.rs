//! Views as tables of events.

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::position::Reached;

const P: Role = Role::Primary;
const R: Role = Role::Replica;

fn probed(role: Role, system: u64, timeline: u32) -> Event {
    Event::Probed(ProbeResult {
        in_recovery: role == R,
        system_identifier: (system != 0).then_some(system),
        timeline,
        version: 150_006,
        reached: Reached::default(),
        synchronous: false,
    })
}

fn refused() -> Event {
    Event::ConnectFailed("refused".into())
}

fn lost() -> Event {
    Event::Lost("reset".into())
}

fn doubted() -> Event {
    Event::Doubted("25006".into())
}

fn failed() -> Event {
    Event::ProbeFailed("no answer".into())
}

fn view(servers: u16, events: &[(u16, Event)]) -> View {
    let start = (0..servers).fold(View::default(), |view, node| {
        view.order(Node(node), &format!("s{node}:5432"), Orders::default())
    });
    events.iter().fold(start, |view, (node, event)| view.apply(Node(*node), event.clone(), clock::now()))
}

/// The primary and the replicas as numbers.
fn usable(view: &View) -> (Option<u16>, Vec<u16>) {
    (view.primary().map(|node| node.0), view.replicas().map(|node| node.0).collect())
}

#[track_caller]
fn check(what: &str, servers: u16, events: &[(u16, Event)], primary: Option<u16>, replicas: &[u16]) -> View {
    let view = view(servers, events);
    assert_eq!(usable(&view), (primary, replicas.to_vec()), "{what}: {view:#?}");
    view
}

#[test]
fn who_may_know_more_than_the_replicas() {
    let start = || vec![(0, probed(P, 1, 1)), (1, probed(R, 1, 1)), (2, probed(R, 1, 1))];
    let after = |more: &[(u16, Event)]| view(3, &[start(), more.to_vec()].concat());
    let dead = after(&[(0, failed())]);
    assert!(dead.primary().is_none() && !dead.is_unsettled(), "{dead:#?}");
    assert!(after(&[(0, failed()), (1, lost())]).is_unsettled(), "a replica is being asked");
    assert!(!after(&[(0, failed()), (1, failed())]).is_unsettled(), "it is gone");
    assert!(after(&[(0, failed()), (1, probed(P, 1, 2))]).is_unsettled(), "it takes over");
    // The old one comes back, and is shut out.
    let replaced = after(&[(0, failed()), (1, probed(P, 1, 2)), (1, failed()), (0, probed(P, 1, 1))]);
    assert!(replaced.primary().is_none() && !replaced.is_unsettled(), "{replaced:#?}");
}

#[test]
fn health() {
    let start = || vec![(0, probed(P, 1, 1)), (1, probed(R, 1, 1)), (2, probed(R, 1, 1))];
    let with = |more: &[(u16, Event)]| [start(), more.to_vec()].concat();
    check("all up", 3, &with(&[]), Some(0), &[1, 2]);
    check("a replica was lost", 3, &with(&[(1, lost())]), Some(0), &[2]);
    check("a replica refused", 3, &with(&[(1, refused())]), Some(0), &[2]);
    check(
        "it comes back by a probe only",
        3,
        &with(&[(1, refused()), (1, probed(R, 1, 1))]),
        Some(0),
        &[1, 2],
    );
    check("a replica is down", 3, &with(&[(1, failed())]), Some(0), &[2]);
    let view =
        check("bad news of a server that is down", 3, &with(&[(1, failed()), (1, lost())]), Some(0), &[2]);
    assert_eq!((view.servers[1].health, view.servers[1].why.as_str()), (Health::Down, "reset"));
    check("a primary lost one connection", 3, &with(&[(0, lost()), (0, refused())]), Some(0), &[1, 2]);
    check("its probe failed", 3, &with(&[(0, lost()), (0, failed())]), None, &[1, 2]);
    let again = [(0, lost()), (0, failed()), (0, probed(P, 1, 1))];
    check("and passed again: may another have taken over?", 3, &with(&again), None, &[1, 2]);
    let one = [again.to_vec(), vec![(1, probed(R, 1, 1)), (0, probed(P, 1, 1))]].concat();
    check("not the first", 3, &with(&one), None, &[1, 2]);
    check("nor the second", 3, &with(&[one.clone(), vec![(2, failed())]].concat()), Some(0), &[1]);
    let other = [one, vec![(2, probed(P, 1, 2))]].concat();
    check("the second has", 3, &with(&other), Some(2), &[]);
    check("a stranger's news", 3, &with(&[(9, failed())]), Some(0), &[1, 2]);
}

#[test]
fn since_is_when_health_changed() {
    let (early, late) = (clock::now(), clock::now() + clock::Duration::from_secs(1));
    let view = View::default().order(Node(0), "a", Orders::default()).apply(Node(0), probed(P, 1, 1), early);
    assert_eq!(view.apply(Node(0), probed(P, 1, 1), late).servers[0].since, Some(early));
    assert_eq!(view.apply(Node(0), lost(), late).servers[0].since, Some(late));
}

#[test]
fn failover() {
    let start = || vec![(0, probed(P, 1, 1)), (1, probed(R, 1, 1)), (2, probed(R, 1, 1))];
    let with = |more: &[(u16, Event)]| [start(), more.to_vec()].concat();
    check("the backup takes over", 3, &with(&[(0, failed()), (1, probed(P, 1, 2))]), Some(1), &[]);
    let followed = [(0, failed()), (1, probed(P, 1, 2)), (2, probed(R, 1, 2))];
    check("and the other replica follows", 3, &with(&followed), Some(1), &[2]);
    let unknown = [(0, failed()), (1, probed(P, 1, 2)), (2, probed(R, 1, 0))];
    check("or does not tell", 3, &with(&unknown), Some(1), &[2]);
    let view = check("both say they are primary", 3, &with(&[(1, probed(P, 1, 2))]), Some(1), &[]);
    assert_eq!(view.servers[0].standing, Standing::Fenced);
    assert_eq!(view.servers[2].standing, Standing::Behind);
    check("heard of by another replica first", 3, &with(&[(2, probed(R, 1, 2))]), None, &[1, 2]);
    let back = [(0, failed()), (1, probed(P, 1, 2)), (1, failed()), (0, probed(P, 1, 1))];
    check("the old one returns while the new one is away", 3, &with(&back), None, &[2]);
    let rebuilt = [(0, failed()), (1, probed(P, 1, 2)), (0, probed(R, 1, 2))];
    check("the old one returns as a replica", 3, &with(&rebuilt), Some(1), &[0]);
    check("two on one timeline: the incumbent stays", 3, &with(&[(1, probed(P, 1, 1))]), Some(0), &[2]);
    check("until it goes", 3, &with(&[(1, probed(P, 1, 1)), (0, lost()), (0, failed())]), Some(1), &[2]);
    check("one that is doubted stays until it is asked", 3, &with(&[(0, doubted())]), Some(0), &[1, 2]);
}

/// What must not be used for writes any more.
#[test]
fn connections_that_are_over() {
    let start = || vec![(0, probed(P, 1, 1)), (1, probed(R, 1, 1)), (2, probed(R, 1, 1))];
    let over = |more: &[(u16, Event)]| -> Vec<u16> {
        let (was, is) = (view(3, &start()), view(3, &[start(), more.to_vec()].concat()));
        (0..3).filter(|node| was.is_over(&is, Node(*node))).collect()
    };
    assert!(over(&[(0, lost()), (1, failed()), (0, probed(P, 1, 1)), (1, probed(R, 1, 1))]).is_empty());
    assert_eq!(
        over(&[(1, probed(R, 1, 2))]),
        [0],
        "the primary is over, the replica that follows another is not"
    );
    assert_eq!(over(&[(0, probed(P, 1, 2))]), [0], "another timeline");
    assert_eq!(over(&[(0, probed(R, 1, 1))]), [0], "demoted");
    assert_eq!(over(&[(1, probed(P, 1, 2))]), [0, 1], "fenced, and promoted");
    assert_eq!(over(&[(2, probed(R, 7, 1))]), [2], "foreign");
    assert!(!view(3, &[]).is_over(&view(3, &start()), Node(0)), "known for the first time");
}

#[test]
fn foreign() {
    check("nobody before a majority was asked", 3, &[(0, probed(P, 1, 1))], None, &[]);
    let majority = [(0, probed(P, 1, 1)), (1, probed(R, 1, 1))];
    check("a majority agrees, but the third may have taken over", 3, &majority, None, &[1]);
    let took = [majority.to_vec(), vec![(2, probed(P, 1, 2))]].concat();
    check("and it has", 3, &took, Some(2), &[]);
    for third in [failed(), probed(R, 1, 1)] {
        let all = [majority.to_vec(), vec![(2, third.clone())]].concat();
        let replicas: &[u16] = if third == failed() { &[1] } else { &[1, 2] };
        check("and it has not", 3, &all, Some(0), replicas);
    }
    check("the others do not answer", 3, &[(0, probed(P, 1, 1)), (1, failed()), (2, failed())], Some(0), &[]);
    check("one server", 1, &[(0, probed(P, 1, 1))], Some(0), &[]);
    let odd = [(0, probed(P, 9, 7)), (1, probed(P, 1, 1)), (2, probed(R, 1, 1))];
    let view = check("the majority wins over a higher timeline", 3, &odd, Some(1), &[2]);
    assert_eq!((view.servers[0].standing, view.system_identifier), (Standing::Foreign, Some(1)));
    check("of two the one with the primary", 2, &[(0, probed(R, 9, 1)), (1, probed(P, 1, 1))], Some(1), &[]);
    let late = [(0, probed(P, 1, 1)), (1, failed()), (1, probed(P, 9, 5))];
    check("of two primaries the incumbent", 2, &late, Some(0), &[]);
    let instead = [late.to_vec(), vec![(0, failed())]].concat();
    check("and not the other even when it is down", 2, &instead, None, &[]);
    check("nobody may read the identifier", 2, &[(0, probed(P, 0, 1)), (1, probed(R, 0, 0))], Some(0), &[1]);
    check("some may not", 2, &[(0, probed(P, 0, 1)), (1, probed(R, 3, 1))], Some(0), &[1]);
    let replaced = [(0, probed(P, 1, 1)), (1, probed(R, 1, 1)), (0, failed()), (0, probed(P, 9, 7))];
    check("another system in the place of the primary of two", 2, &replaced, None, &[1]);
    let upgraded =
        [(0, probed(P, 1, 1)), (1, probed(R, 1, 1)), (1, failed()), (0, failed()), (0, probed(P, 2, 1))];
    check("pg_upgrade of the primary of two", 2, &upgraded, Some(0), &[]);
}

#[test]
fn balance() {
    let loads = [3, 1, 1, 2];
    let nodes =
        |numbers: &'static [u16]| numbers.iter().map(|node| Candidate { node: Node(*node), weight: 1 });
    let picks = |balance: Balance, numbers: &'static [u16]| -> Vec<u16> {
        let load = |node: Node| Load { running: loads[node.index()], latency: 1 };
        (0..6).filter_map(|turn| balance.pick(nodes(numbers), load, turn)).map(|node| node.0).collect()
    };
    assert_eq!(picks(Balance::LeastLoaded, &[0, 1, 2, 3]), [1, 2, 1, 2, 1, 2]);
    assert_eq!(picks(Balance::LeastLoaded, &[0, 3]), [3; 6]);
    assert_eq!(picks(Balance::RoundRobin, &[0, 1, 3]), [0, 1, 3, 0, 1, 3]);
    assert_eq!(picks(Balance::Random, &[0, 1]), [0, 1, 0, 1, 0, 1]);
    for balance in [Balance::LeastLoaded, Balance::LeastLatency, Balance::RoundRobin, Balance::Random] {
        assert!(picks(balance, &[]).is_empty());
        assert_eq!(balance.pick(nodes(&[2]), |_| Load::default(), u64::MAX), Some(Node(2)));
    }
    // A load that grows each time it is asked for.
    let asked = std::cell::Cell::new(0);
    let load = |_| Load { running: asked.replace(asked.get() + 1), latency: 0 };
    assert!(Balance::LeastLoaded.pick(nodes(&[0, 1]), load, 1).is_some());
}

/// Of 1,000 reads, those that a replica gets which is back since a part of `slow_start`, beside three others that are as busy.
fn cold_share(balance: Balance, up: f64, running: [u32; 2]) -> usize {
    const WARM_UP: clock::Duration = clock::Duration::from_secs(10);
    let start = clock::now();
    let late = start + 10 * WARM_UP;
    let events = [(0, probed(P, 1, 1)), (1, probed(R, 1, 1)), (2, probed(R, 1, 1)), (3, probed(R, 1, 1))];
    let all = view(5, &events).apply(Node(4), probed(R, 1, 1), late);
    let spread = Spread { balance, slow_start: WARM_UP, ..Spread::default() };
    let load = |node: Node| Load { running: running[usize::from(node == Node(4))], latency: 1_000 };
    let now = || late + WARM_UP.mul_f64(up);
    let turn =
        |turn: u64| if balance.is_by_chance() { turn.wrapping_mul(0xd134_2543_de82_ef95) } else { turn };
    let picks = (0..1_000).filter_map(|at| all.pick(&spread, (None, None, None), load, turn(at), now));
    picks.filter(|node| *node == Node(4)).count()
}

#[test]
fn one_that_is_back_gets_its_part_and_no_more() {
    for balance in [Balance::LeastLoaded, Balance::LeastLatency, Balance::RoundRobin, Balance::Random] {
        // Also if nobody else is idle: it would be for ever, with next to nothing to do.
        let running = if balance.is_by_chance() { [2, 1] } else { [4, 0] };
        for (up, share) in [(0.0, 25), (0.5, 125), (0.9, 225)] {
            let got = cold_share(balance, up, running);
            assert!(got.abs_diff(share) < 30, "{balance:?} after {up}: {got}");
        }
        assert!(cold_share(balance, 1.0, [1, 1]).abs_diff(250) < 30, "{balance:?}");
    }
    assert_eq!(cold_share(Balance::LeastLoaded, 0.5, [1, 2]), 0, "it cannot keep up");
    // A connection that broke is no absence, and neither is an order.
    let early = clock::now();
    let late = early + clock::Duration::from_secs(1);
    let up = view(1, &[]).apply(Node(0), probed(R, 1, 1), early);
    let back = |view: &View| view.servers.first().and_then(|server| server.back);
    let again = |view: &View| view.apply(Node(0), probed(R, 1, 1), late);
    assert_eq!(back(&again(&up.apply(Node(0), lost(), early))), Some(early));
    assert_eq!(back(&again(&up.apply(Node(0), failed(), early))), Some(late));
}

/// What the operator says, between events.
fn orders() -> impl Strategy<Value = Vec<(u16, Duty)>> {
    let duty = prop_oneof![Just(Duty::Serving), Just(Duty::Draining), Just(Duty::Removed)];
    proptest::collection::vec((0..6_u16, duty), 0..6)
}

/// Events and orders in turn, and what is said last of each server.
fn ordered(servers: u16, events: &[(u16, Event)], orders: &[(u16, Duty)]) -> View {
    let mut view = view(servers, &[]);
    let mut orders = orders.iter();
    for (nth, (node, event)) in events.iter().enumerate() {
        view = view.apply(Node(*node), event.clone(), clock::now());
        if nth % 3 == 0
            && let Some((node, duty)) = orders.next()
        {
            view = view.order(
                Node(*node),
                &format!("s{node}:5432"),
                Orders { duty: *duty, ..Orders::default() },
            );
        }
    }
    view
}

#[test]
fn servers_come_and_go() {
    let order = |view: &View, node: u16, duty| {
        view.order(Node(node), &format!("s{node}:5432"), Orders { duty, ..Orders::default() })
    };
    let start = view(1, &[(0, probed(P, 1, 1))]);
    // One that is not known yet puts nothing in doubt.
    let two = order(&start, 1, Duty::Serving);
    assert_eq!(usable(&two), (Some(0), vec![]));
    assert_eq!(usable(&order(&start, 2, Duty::Serving)), (Some(0), vec![]), "a gap");
    let two = two.apply(Node(1), probed(R, 1, 1), clock::now());
    assert_eq!(usable(&two), (Some(0), vec![1]));
    let foreign = order(&two, 2, Duty::Serving).apply(Node(2), probed(R, 9, 1), clock::now());
    assert_eq!((usable(&foreign), foreign.servers[2].standing), ((Some(0), vec![1]), Standing::Foreign));
    assert_eq!(usable(&order(&two, 1, Duty::Draining)), (Some(0), vec![]));
    assert_eq!(usable(&order(&two, 0, Duty::Draining)), (Some(0), vec![1]), "writes have nowhere else to go");
    let gone = order(&two, 1, Duty::Removed);
    assert_eq!(usable(&gone), (Some(0), vec![]));
    assert_eq!(gone.servers[1].health, Health::Up);
    // Back, nothing is known of it.
    let back = order(&gone, 1, Duty::Serving);
    assert_eq!((back.servers[1].health, usable(&back)), (Health::Unknown, (Some(0), vec![])));
    // One that has come further and is removed fences nobody.
    let ahead = two.apply(Node(1), probed(P, 1, 2), clock::now());
    assert_eq!(usable(&ahead).0, Some(1));
    let without = order(&ahead, 1, Duty::Removed);
    assert_eq!(usable(&without).0, Some(0));
    // The primary comes back under another address: what runs there ends there, until somebody takes over.
    let moved = order(&order(&two, 2, Duty::Serving), 0, Duty::Removed);
    assert!(!two.is_over(&moved, Node(0)));
    let known = moved.apply(Node(2), probed(P, 1, 1), clock::now());
    assert_eq!((usable(&known).0, two.is_over(&known, Node(0))), (Some(2), false));
    let over = known.apply(Node(1), probed(P, 1, 2), clock::now());
    assert_eq!((usable(&over).0, two.is_over(&over, Node(0))), (Some(1), true));
    // Those that were found are many, and do not say which system the cluster is.
    let found = |view: &View, node: u16| {
        let orders = Orders { origin: Origin::Replication, ..Orders::default() };
        let view = view.order(Node(node), &format!("s{node}:5432"), orders);
        view.apply(Node(node), probed(R, 9, 1), clock::now())
    };
    let many = (2..6).fold(two.clone(), |view, node| found(&view, node));
    assert_eq!((many.system_identifier, usable(&many)), (Some(1), (Some(0), vec![1])));
    // One that is waited for is removed.
    let down = two.apply(Node(0), failed(), clock::now()).apply(Node(0), probed(P, 1, 1), clock::now());
    assert_eq!(usable(&down).0, None);
    assert_eq!(usable(&order(&down, 1, Duty::Removed)).0, Some(0));
}

fn events() -> impl Strategy<Value = Vec<(u16, Event)>> {
    let role = prop_oneof![Just(P), Just(R)];
    let event = prop_oneof![
        4 => (role, 0..3_u64, 0..4_u32).prop_map(|(role, system, timeline)| probed(role, system, timeline)),
        1 => Just(failed()),
        1 => Just(refused()),
        1 => Just(lost()),
        1 => Just(doubted()),
    ];
    proptest::collection::vec((0..5_u16, event), 0..40)
}

proptest! {
    #[test]
    fn nobody_is_used_who_should_not_be(servers in 1..5_u16, events in events(), orders in orders()) {
        let view = ordered(servers, &events, &orders);
        let ours = |server: &&ServerView| {
            server.is_member()
                && (server.system_identifier.is_none() || server.system_identifier == view.system_identifier)
        };
        if let Some(node) = view.primary() {
            let primary = &view.servers[node.index()];
            prop_assert_eq!(primary.role, P);
            prop_assert_eq!((primary.standing, primary.unconfirmed), (Standing::Member, 0));
            prop_assert!(matches!(primary.health, Health::Up | Health::Suspect));
            prop_assert!(ours(&primary), "foreign");
            let rivals = view.servers.iter().filter(ours).filter(|server| server.role == P);
            for rival in rivals {
                prop_assert!(rival.timeline <= primary.timeline, "not the highest timeline");
                prop_assert!(rival.node == node || rival.standing == Standing::Fenced, "two primaries");
            }
        }
        for node in view.replicas() {
            let replica = &view.servers[node.index()];
            prop_assert_eq!((replica.role, replica.health), (R, Health::Up));
            prop_assert_eq!(replica.orders.duty, Duty::Serving);
            prop_assert!(ours(&replica), "foreign");
            let reached = view.primary().map_or(0, |primary| view.servers[primary.index()].timeline);
            prop_assert!(replica.timeline == 0 || replica.timeline >= reached, "behind the primary");
        }
    }

    #[test]
    fn a_pick_is_a_candidate_with_the_least_load(loads in proptest::collection::vec(0..4_u32, 0..8), turn: u64) {
        let nodes = (0..).map(|node| Candidate { node: Node(node), weight: 1 }).take(loads.len());
        let load = |node: Node| Load { running: loads[node.index()], latency: 0 };
        let pick = Balance::LeastLoaded.pick(nodes, load, turn);
        prop_assert_eq!(pick.map(|node| loads[node.index()]), loads.iter().copied().min());
    }
}
