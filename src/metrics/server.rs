//! What is counted per server: whether it is up, its role, its units, its probes.

use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram};

use super::{Registry, Tally, table};

/// A server's role, as a label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleLabel {
    /// Accepts writes.
    Primary,
    /// A hot standby.
    Replica,
    /// Not probed yet.
    Unknown,
}

/// The handles of one server.
pub struct ServerMetrics {
    up: Gauge,
    fenced: Gauge,
    role_changes: Counter,
    outages: Counter,
    roles: [(RoleLabel, Gauge); 3],
    units: Tally,
    running: Tally,
    probe_time: Histogram,
    probe_failures: Counter,
    lag: Gauge,
    lag_bytes: Gauge,
}

impl ServerMetrics {
    pub(super) fn new(registry: &Registry, server: &str) -> Self {
        let role = |label, name| (label, registry.gauge(&table::SERVER_ROLE, &[server, name]));
        let metrics = Self {
            up: registry.gauge(&table::SERVER_UP, &[server]),
            fenced: registry.gauge(&table::SERVER_FENCED, &[server]),
            role_changes: registry.counter(&table::SERVER_ROLE_CHANGES, &[server]),
            outages: registry.counter(&table::SERVER_OUTAGES, &[server]),
            roles: [
                role(RoleLabel::Primary, "primary"),
                role(RoleLabel::Replica, "replica"),
                role(RoleLabel::Unknown, "unknown"),
            ],
            units: registry.tally(&table::SERVER_UNITS, &[server]),
            running: registry.level(&table::SERVER_RUNNING, &[server]),
            probe_time: registry.histogram(&table::PROBE_TIME, &[server]),
            probe_failures: registry.counter(&table::PROBE_FAILURES, &[server]),
            lag: registry.gauge(&table::SERVER_LAG, &[server]),
            lag_bytes: registry.gauge(&table::SERVER_LAG_BYTES, &[server]),
        };
        metrics.up(Some(false));
        metrics.fenced(false);
        metrics.role(RoleLabel::Unknown);
        metrics.lag(None, None);
        metrics
    }

    /// Whether the server is up; none: it was removed, so that nobody is told any more that it is not.
    pub fn up(&self, up: Option<bool>) {
        self.up.set(up.map_or(f64::NAN, |up| f64::from(u8::from(up))));
    }

    /// Whether it calls itself primary, and the cluster has moved on.
    pub fn fenced(&self, fenced: bool) {
        self.fenced.set(f64::from(u8::from(fenced)));
    }

    /// It was up, and is not any more.
    pub fn went_out(&self) {
        self.outages.increment(1);
    }

    /// It is something else than it was.
    pub fn role_changed(&self) {
        self.role_changes.increment(1);
    }

    /// The server's role.
    pub fn role(&self, role: RoleLabel) {
        for (label, gauge) in &self.roles {
            gauge.set(f64::from(u8::from(*label == role)));
        }
    }

    /// A unit starts on the server.
    pub fn unit_began(&self) {
        self.units.add(1);
        self.running.add(1);
    }

    /// A unit has ended, well or not.
    pub fn unit_ended(&self) {
        self.running.take(1);
    }

    /// How far the server is behind the primary; none: not known, or it is the primary.
    pub fn lag(&self, time: Option<Duration>, bytes: Option<u64>) {
        self.lag.set(time.map_or(f64::NAN, |time| time.as_secs_f64()));
        self.lag_bytes.set(bytes.map_or(f64::NAN, |bytes| bytes as f64));
    }

    /// A probe passed in this time.
    pub fn probe_passed(&self, time: Duration) {
        self.probe_time.record(time);
    }

    /// A probe failed.
    pub fn probe_failed(&self) {
        self.probe_failures.increment(1);
    }
}
