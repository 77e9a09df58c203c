//! The live handle, without servers.

use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use crate::clock;
use crate::cluster::{Duty, Event, Health, Orders, ProbeResult, Spread};
use crate::ids::Node;
use crate::metrics::Metrics;
use crate::position::Reached;

fn probed(in_recovery: bool) -> Event {
    Event::Probed(ProbeResult {
        in_recovery,
        system_identifier: Some(1),
        timeline: 1,
        version: 150_000,
        reached: Reached::default(),
        synchronous: false,
    })
}

/// A primary and two replicas.
fn cluster(metrics: &Metrics) -> Arc<Cluster> {
    let addresses = ["a:1", "b:2", "c:3"].map(|address| address.parse().unwrap());
    let cluster = Cluster::new(addresses.to_vec(), metrics);
    for node in cluster.nodes() {
        cluster.apply(node, probed(node != Node(0)));
    }
    cluster
}

/// Where the next read goes.
fn pick(cluster: &Cluster) -> Option<Node> {
    cluster.pick_replica(&Spread::default(), None, None, None)
}

#[test]
fn reads_go_where_the_least_is_running() {
    let metrics = Metrics::new();
    let cluster = cluster(&metrics);
    cluster.begin(Node(1));
    assert_eq!((pick(&cluster), pick(&cluster)), (Some(Node(2)), Some(Node(2))));
    cluster.begin(Node(2));
    assert_ne!(pick(&cluster), pick(&cluster), "not in turn");
    cluster.end(Node(1));
    assert_eq!(pick(&cluster), Some(Node(1)));
    assert_eq!((cluster.load(Node(1)), cluster.load(Node(2)), cluster.load(Node(9))), (0, 1, 0));
    let text = metrics.render();
    assert!(text.contains("pgweir_server_running{server=\"c:3\"} 1\n"), "{text}");
    assert!(text.contains("pgweir_server_units_total{server=\"b:2\"} 1\n"), "{text}");
    assert!(text.contains("pgweir_server_role{server=\"a:1\",role=\"primary\"} 1\n"), "{text}");
}

#[test]
fn what_clients_run_into_counts_at_once() {
    let metrics = Metrics::new();
    let cluster = cluster(&metrics);
    cluster.lost(Node(1), "reset");
    cluster.connect_failed(Node(2), "refused");
    cluster.lost(Node(0), "reset");
    assert_eq!((cluster.view().primary(), pick(&cluster)), (Some(Node(0)), None));
    assert!(metrics.render().contains("pgweir_server_up{server=\"b:2\"} 0\n"));
}

#[tokio::test]
async fn waits_for_a_view_but_not_for_ever() {
    let cluster = cluster(&Metrics::new());
    let deadline = clock::now() + Duration::from_millis(200);
    assert!(cluster.wait_for(deadline, |view| view.primary().is_some()).await);
    cluster.apply(Node(0), Event::ProbeFailed("gone".into()));
    assert!(!cluster.wait_for(deadline, |view| view.primary().is_some()).await);
    assert!(clock::now() >= deadline);
    let returns = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        cluster.apply(Node(0), probed(false));
        // It was down: the others have to be asked whether they have taken over.
        for node in cluster.nodes().skip(1) {
            cluster.apply(node, probed(true));
        }
    };
    let deadline = clock::now() + Duration::from_millis(200);
    let (found, ()) = tokio::join!(cluster.wait_for(deadline, |view| view.primary().is_some()), returns);
    assert!(found && clock::now() < deadline);
}

#[tokio::test]
async fn only_the_first_bad_news_wakes_the_probe() {
    let cluster = cluster(&Metrics::new());
    let woken = || tokio::time::timeout(Duration::from_millis(20), cluster.woken(Node(1)));
    assert!(woken().await.is_err());
    cluster.lost(Node(1), "reset");
    assert!(woken().await.is_ok());
    cluster.connect_failed(Node(1), "refused");
    assert!(woken().await.is_err());
    assert_eq!(cluster.view().server(Node(1)).unwrap().health, Health::Suspect);
}

/// A server that comes when all places are taken gets that of the one that has been gone longest, after a while.
#[test]
fn an_empty_place_is_given_to_another_in_the_end() {
    let metrics = Metrics::new();
    let (cluster, start) = (Cluster::new(Vec::new(), &metrics), clock::now());
    let address = |number: usize| format!("h{number}:1").parse::<crate::net::Address>().unwrap();
    let order = |at: u64, number: usize, duty: Duty| {
        let orders = Orders { duty, ..Orders::default() };
        cluster.order_at(start + Duration::from_secs(at), &address(number), orders, &metrics)
    };
    for number in 0..64 {
        assert_eq!(order(0, number, Duty::Serving), Some(Node(number as u16)));
        cluster.apply(Node(number as u16), probed(number > 0));
    }
    assert_eq!(order(0, 64, Duty::Serving), None);
    let term = cluster.term(Node(7));
    order(1, 7, Duty::Removed);
    order(2, 5, Duty::Removed);
    order(3, 7, Duty::Removed);
    assert_eq!(order(60, 64, Duty::Serving), None);
    cluster.begin(Node(7));
    assert_eq!(order(61, 64, Duty::Serving), None, "something runs there");
    cluster.end(Node(7));
    assert_eq!(order(61, 64, Duty::Serving), Some(Node(7)));
    assert_eq!((cluster.node(&address(7)), cluster.node(&address(64))), (None, Some(Node(7))));
    assert_eq!(cluster.address(Node(7)).map(|address| address.to_string()).as_deref(), Some("h64:1"));
    assert!(!Arc::ptr_eq(&term, &cluster.term(Node(7))));
    {
        let view = cluster.view();
        let server = view.server(Node(7)).unwrap();
        assert_eq!((server.address.as_str(), server.health), ("h64:1", Health::Unknown));
    }
    // The one that stood there before is a new one, and gets the other place.
    assert_eq!(order(62, 7, Duty::Serving), Some(Node(5)));
    // Not for ever: each place has had enough in the end.
    let mut came = 0;
    for number in 100..2000 {
        order(100 * number as u64, 64 + came, Duty::Removed);
        came += usize::from(order(100 * number as u64 + 61, 64 + came + 1, Duty::Serving).is_some());
    }
    assert_eq!(came, 14);
}
