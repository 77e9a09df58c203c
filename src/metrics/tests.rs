//! Metrics as Prometheus sees them.

use std::time::Duration;

use super::*;

#[test]
fn two_live_in_one_process_and_share_nothing() {
    let (one, two) = (Metrics::new(), Metrics::new());
    one.client_connected();
    assert!(one.render().contains("pgweir_client_connections_total 1\n"));
    assert!(two.render().contains("pgweir_client_connections_total 0\n"));
}

#[test]
fn shows_what_happened_and_nothing_else() {
    let metrics = Metrics::new();
    let app = metrics.database("app");
    app.unit(TargetLabel::Replica, 3, "read");
    app.unit(TargetLabel::Replica, 3, "read");
    app.error(b"42P01", Origin::Server);
    app.error(b"ZZ\"\n1", Origin::Pgweir);
    app.bytes(Direction::ServerIn, 7);
    app.pin(2, "listen");
    app.clients().increment(1.0);
    app.query_time(TargetLabel::Replica, Duration::from_millis(2));
    app.wait_time(Duration::from_micros(3));
    let text = metrics.render();
    for line in [
        "pgweir_units_total{database=\"app\",target=\"replica\",reason=\"read\"} 2",
        "pgweir_errors_total{database=\"app\",origin=\"server\",class=\"42\"} 1",
        "pgweir_errors_total{database=\"app\",origin=\"pgweir\",class=\"other\"} 1",
        "pgweir_bytes_total{database=\"app\",direction=\"server_in\"} 7",
        "pgweir_pins_total{database=\"app\",reason=\"listen\"} 1",
        "pgweir_clients{database=\"app\"} 1",
        "pgweir_query_seconds_bucket{database=\"app\",target=\"replica\",le=\"0.001\"} 0",
        "pgweir_query_seconds_bucket{database=\"app\",target=\"replica\",le=\"0.0025\"} 1",
        "pgweir_wait_seconds_count{database=\"app\"} 1",
        "# TYPE pgweir_units_total counter",
    ] {
        assert!(text.lines().any(|found| found == line), "no line `{line}` in\n{text}");
    }
    assert!(!text.contains("target=\"primary\""), "{text}");
    assert!(text.contains(&format!("pgweir_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_retired_pool_leaves_zeros() {
    let metrics = Metrics::new();
    let (old, new) = (metrics.pool("app", "ann", "a:1"), metrics.pool("app", "ann", "a:1"));
    old.occupancy(Occupancy { idle: 3, active: 2, connecting: 1, waiting: 4 });
    new.occupancy(Occupancy { idle: 1, ..Occupancy::default() });
    old.connected();
    old.closed("idle");
    assert!(metrics.render().contains("state=\"idle\"} 4\n"));
    drop(old);
    let text = metrics.render();
    assert!(text.contains("state=\"idle\"} 1\n"), "{text}");
    assert!(text.contains("state=\"active\"} 0\n"), "{text}");
    assert!(
        text.contains("pgweir_pool_waiting_clients{database=\"app\",user=\"ann\",server=\"a:1\"} 0\n"),
        "{text}"
    );
    let closed = "pgweir_pool_closed_total{database=\"app\",user=\"ann\",server=\"a:1\",why=\"idle\"} 1\n";
    assert!(text.contains(closed), "{text}");
}

#[test]
fn a_server_has_one_role() {
    let metrics = Metrics::new();
    let server = metrics.server("a:1");
    server.up(Some(true));
    server.role(RoleLabel::Primary);
    server.role(RoleLabel::Replica);
    server.unit_began();
    let text = metrics.render();
    assert!(text.contains("pgweir_server_up{server=\"a:1\"} 1\n"));
    assert!(text.contains("pgweir_server_role{server=\"a:1\",role=\"replica\"} 1\n"));
    assert!(text.contains("pgweir_server_role{server=\"a:1\",role=\"primary\"} 0\n"));
    assert!(text.contains("pgweir_server_running{server=\"a:1\"} 1\n"));
}

#[test]
fn names_that_clients_choose_are_bounded() {
    let metrics = Metrics::new();
    for n in 0..MAX_POOLS + 10 {
        metrics.database(&format!("db{n}")).clients().increment(1.0);
        let pool = metrics.pool(&format!("db{n}"), "ann", "a:1");
        pool.connected();
    }
    let text = metrics.render();
    assert_eq!(text.matches("\npgweir_clients{").count(), MAX_DATABASES + 1);
    assert!(
        text.contains("pgweir_pool_connects_total{database=\"other\",user=\"other\",server=\"a:1\"} 10\n")
    );
}

/// What counting costs, printed: `cargo test --release --lib metrics::tests::cost -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost() {
    const ROUNDS: u32 = 2_000_000;
    let metrics = Metrics::new();
    let app = metrics.database("app");
    let server = metrics.server("a:1");
    let measure = |what: &str, f: &mut dyn FnMut(u32)| {
        let start = crate::clock::now();
        (0..ROUNDS).for_each(f);
        println!("{what}: {:?} each", start.elapsed() / ROUNDS);
    };
    measure("unit", &mut |_| app.unit(TargetLabel::Replica, 3, "read"));
    measure("bytes", &mut |n| app.bytes(Direction::ClientIn, u64::from(n)));
    measure("error", &mut |_| app.error(b"57P01", Origin::Server));
    measure("begin and end", &mut |_| {
        server.unit_began();
        server.unit_ended();
    });
    measure("query_time", &mut |n| app.query_time(TargetLabel::Replica, Duration::from_nanos(u64::from(n))));
    measure("upkeep of that, per observation", &mut |n| {
        if n == 0 {
            metrics.upkeep();
        }
    });
}
