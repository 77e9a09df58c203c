//! Every metric: name, kind, unit, labels, help. `docs/metrics.md` says the same, and a test compares the two.

use ::metrics::Unit;

/// What a metric does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl Kind {
    /// The word that Prometheus uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in Prometheus.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// What its numbers count.
    pub unit: Unit,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// One sentence for the operator.
    pub help: &'static str,
}

macro_rules! table {
    ($($konst:ident $kind:ident $unit:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $konst: Row = Row {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            help: $help,
        };)*
        /// Every metric, in the order of the document.
        pub const ALL: &[Row] = &[$($konst),*];
    };
}

table! {
    BUILD_INFO Gauge Count "pgweir_build_info" ["version"]
        "Always 1; the label says which pgweir this is.";
    CLIENT_CONNECTIONS Counter Count "pgweir_client_connections_total" []
        "Client connections accepted.";
    CLIENT_REJECTED Counter Count "pgweir_client_rejected_total" ["why"]
        "Client connections turned away before they could ask anything, by why.";
    RELOADS Counter Count "pgweir_reloads_total" ["outcome"]
        "Times that the configuration was read again: ok, or failed, and then the old one holds.";
    JUDGE_DISAGREEMENTS Counter Count "pgweir_judge_disagreements_total" []
        "Statements that the token scan called a read and the second opinion did not: they went to the primary.";
    CLIENTS Gauge Count "pgweir_clients" ["database"]
        "Clients logged in.";
    LISTENERS Gauge Count "pgweir_listening_clients" ["database"]
        "Clients that listen on channels over the connection that listens for all.";
    UNITS Counter Count "pgweir_units_total" ["database", "target", "reason"]
        "Units (messages up to a Sync, or one simple Query) by where they went and why.";
    WOULD_MOVE Counter Count "pgweir_would_move_total" ["database", "reason"]
        "Units that ran on the primary only because their database is being observed, by the reason that they would have had on a replica.";
    RULE_HITS Counter Count "pgweir_rule_hits_total" ["database", "rule"]
        "Units that a rule of the configuration decided about.";
    QUERY_TIME Histogram Seconds "pgweir_query_seconds" ["database", "target"]
        "From the last byte of a unit until its answer is complete, waiting for a connection included.";
    WAIT_TIME Histogram Seconds "pgweir_wait_seconds" ["database"]
        "How long units waited for a server connection.";
    FRESH_WAIT Histogram Seconds "pgweir_fresh_wait_seconds" ["database"]
        "How long reads waited for a replica to replay what they had to see, whether or not it did.";
    READ_AGE Histogram Seconds "pgweir_read_age_seconds" ["database"]
        "How old the data was that replicas answered units with, as far as it is known.";
    BYTES Counter Bytes "pgweir_bytes_total" ["database", "direction"]
        "Bytes received from (in) and sent to (out) clients and servers.";
    ERRORS Counter Count "pgweir_errors_total" ["database", "origin", "class"]
        "Errors sent to clients, by who raised them and by the class (first two characters) of the SQLSTATE.";
    RERUNS Counter Count "pgweir_reruns_total" ["database", "cause", "target"]
        "Units that a server refused or lost and that ran again, unseen by the client: reads, writes that what was taken for the primary refused, and prepared statements that had outlived a change of their tables; target none: the retry budget was spent.";
    PREPARES Counter Count "pgweir_prepared_statements_total" ["database", "what"]
        "Prepared statements of clients that pgweir itself prepared on a server connection that lacked them (supplied), that were there already when a client prepared them (shared), that had to make room (evicted), and of which a server was asked whether it has them as their client was told (asked).";
    TIMED_OUT Counter Count "pgweir_rule_timeouts_total" ["database", "rule"]
        "Units that were cancelled because they ran for longer than a rule allows.";
    COUNTER_INCREMENTS Counter Count "pgweir_counter_increments_total" ["database", "table"]
        "Increments that were merged and committed.";
    COUNTER_ROWS Counter Count "pgweir_counter_rows_total" ["database", "table"]
        "Row updates that these became.";
    COUNTER_FLUSHES Counter Count "pgweir_counter_flushes_total" ["database", "table"]
        "Statements that carried these out.";
    COUNTER_FLUSH_TIME Histogram Seconds "pgweir_counter_flush_seconds" ["database", "table"]
        "How long these statements took.";
    COUNTER_PASSED Counter Count "pgweir_counter_passed_total" ["database", "table"]
        "Increments that went by themselves: too many wait, or the table's cannot be merged.";
    COUNTER_FAILURES Counter Count "pgweir_counter_failures_total" ["database", "table"]
        "Statements of merged increments that failed: their increments ran again one by one, or got 08007 where the connection broke.";
    COUNTER_UNMATCHED Counter Count "pgweir_counter_unmatched_total" ["database", "table"]
        "Increments whose row a flush did not find: alone in it, the client was told UPDATE 0; else the statement went by itself.";
    COUNTER_REFUSED Gauge Count "pgweir_counter_refused" ["database", "table"]
        "1 where the table's increments cannot be merged; the log says why.";
    COUNTER_ACCEPTED Counter Count "pgweir_counter_accepted_total" ["database", "table"]
        "Increments that were answered before they were committed: durability journal or memory.";
    COUNTER_LOST Counter Count "pgweir_counter_lost_total" ["database", "table"]
        "Of these, those that are lost: the server refuses them, or a primary that took over has not got them and no journal has; the log says which.";
    COUNTER_WAITING Gauge Count "pgweir_counter_waiting" ["database", "table"]
        "Of these, those that are not committed yet.";
    COUNTER_AGE Gauge Seconds "pgweir_counter_oldest" ["database", "table"]
        "How long the first of these has waited.";
    JOURNAL_BYTES Gauge Bytes "pgweir_journal_bytes" []
        "How large the journal is.";
    JOURNAL_WRITTEN Counter Bytes "pgweir_journal_written_bytes_total" []
        "Bytes that were written to it and synced.";
    JOURNAL_SYNC Histogram Seconds "pgweir_journal_sync_seconds" []
        "How long it takes to write and sync what came meanwhile.";
    JOURNAL_FAILURES Counter Count "pgweir_journal_failures_total" []
        "Times that it could not be written; until it can, increments are answered after their commit.";
    SHARED_READS Counter Count "pgweir_shared_reads_total" ["database", "outcome"]
        "Short reads that went on a server connection together with others': answered, cancelled by their client, or run again alone because the server refused them (error), their answer was long (large), they took long (slow), one before them did (behind), or the connection broke (lost).";
    LEARNED Counter Count "pgweir_learned_total" ["database"]
        "Statements that a replica refused although they were taken for reads: statements like them go to the primary for a while.";
    FAILOVER_WAITING Gauge Count "pgweir_failover_waiting" ["database"]
        "Units that wait for a primary.";
    FAILOVER_WAITING_BYTES Gauge Bytes "pgweir_failover_waiting_bytes" ["database"]
        "Bytes of the units that wait for a primary.";
    FAILOVER_WAITS Counter Count "pgweir_failover_waits_total" ["database", "outcome"]
        "Units that had to wait for a primary, by what came of it: served, timeout, full (the queue was) or gone (the client was).";
    FALLBACK_READS Gauge Count "pgweir_fallback_reads" ["database"]
        "Reads that run on the primary for want of a replica, where replica_down_max limits them.";
    FALLBACK_WAITING Gauge Count "pgweir_fallback_waiting" ["database"]
        "Reads that wait for a replica, or for room on the primary.";
    FALLBACK_WAITS Counter Count "pgweir_fallback_waits_total" ["database", "outcome"]
        "Reads that replica_down has kept off the primary, by what came of it: served, timeout, refused, full (as many waited as may) or gone (the client was).";
    PINS Counter Count "pgweir_pins_total" ["database", "reason"]
        "Server connections that were tied to one client beyond its transaction, by the state that needed it.";
    POOL_SERVERS Gauge Count "pgweir_pool_servers" ["database", "user", "server", "state"]
        "Server connections of a pool: idle, active or connecting.";
    POOL_WAITING Gauge Count "pgweir_pool_waiting_clients" ["database", "user", "server"]
        "Clients that wait for a server connection of this pool.";
    POOL_CONNECTS Counter Count "pgweir_pool_connects_total" ["database", "user", "server"]
        "Server connections opened.";
    POOL_CONNECT_FAILURES Counter Count "pgweir_pool_connect_failures_total" ["database", "user", "server"]
        "Attempts to open a server connection that failed.";
    POOL_LOGIN_WAITS Counter Count "pgweir_pool_login_waits_total" ["database", "user", "server"]
        "Logins that waited because of `server_login_rate`.";
    POOL_CLOSED Counter Count "pgweir_pool_closed_total" ["database", "user", "server", "why"]
        "Server connections closed, by why.";
    CATALOG_OBJECTS Gauge Count "pgweir_catalog_objects" ["database", "dbname"]
        "Functions and relations in the catalog of a database, by its name on the servers; 0: it is not known.";
    CATALOG_BYTES Gauge Bytes "pgweir_catalog_bytes" ["database", "dbname"]
        "About how much memory the catalog of a database takes.";
    CATALOG_READ_TIME Histogram Seconds "pgweir_catalog_read_seconds" ["database"]
        "How long it took to read a catalog.";
    CATALOG_FAILURES Counter Count "pgweir_catalog_failures_total" ["database"]
        "Attempts to read a catalog that failed.";
    SERVER_UP Gauge Count "pgweir_server_up" ["server"]
        "1 when the last probe of the server passed and no connection to it was lost since, else 0.";
    SERVER_ROLE Gauge Count "pgweir_server_role" ["server", "role"]
        "1 for the server's role as probed (primary, replica or unknown), 0 for the other two.";
    SERVER_ROLE_CHANGES Counter Count "pgweir_server_role_changes_total" ["server"]
        "How often the server was found to be something else than before: a promotion or a demotion.";
    SERVER_OUTAGES Counter Count "pgweir_server_outages_total" ["server"]
        "How often the server was up and then was not: a connection that broke or was refused, or a probe that failed.";
    SERVER_FENCED Gauge Count "pgweir_server_fenced" ["server"]
        "1 while the server calls itself primary although the cluster has moved on to another: it gets nothing. An alarm.";
    SERVER_UNITS Counter Count "pgweir_server_units_total" ["server"]
        "Units sent to the server.";
    SERVER_RUNNING Gauge Count "pgweir_server_running" ["server"]
        "Units running on the server through this pgweir.";
    SERVER_LAG Gauge Seconds "pgweir_server_lag" ["server"]
        "How old the data of the replica was when it was asked last, by pgweir's own history of the primary's positions; NaN: not known, or not a replica.";
    SERVER_LAG_BYTES Gauge Bytes "pgweir_server_lag_bytes" ["server"]
        "How many bytes of WAL the replica had still to replay when it was asked last; NaN: not known, or not a replica.";
    DISCOVERED Gauge Count "pgweir_discovered_servers" ["database", "origin"]
        "Servers of the database that were found by dns or by replication.";
    DISCOVERY_FAILURES Counter Count "pgweir_discovery_failures_total" ["database", "why"]
        "What the search for servers ran into: a name that could not be resolved (dns), a monitor that may not see who replicates (denied), nobody where a standby was reported (unreachable), a server of another system or that would not tell its own (foreign), more than there may be (full).";
    PROBE_TIME Histogram Seconds "pgweir_probe_seconds" ["server"]
        "How long a passing probe of the server took, connecting included.";
    PROBE_FAILURES Counter Count "pgweir_probe_failures_total" ["server"]
        "Probes of the server that failed or took too long.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of the table in the document, rendered from ours.
    fn line(row: &Row) -> String {
        let labels: Vec<String> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = match row.unit {
            Unit::Seconds => "seconds",
            Unit::Bytes => "bytes",
            _ => "",
        };
        format!("| `{}` | {} | {unit} | {} | {} |", row.name, row.kind.as_str(), labels.join(", "), row.help)
    }

    #[test]
    fn the_document_has_these_rows_and_no_other() {
        let document = include_str!("../../docs/metrics.md");
        let theirs: Vec<&str> = document.lines().filter(|line| line.starts_with("| `pgweir_")).collect();
        let ours: Vec<String> = ALL.iter().map(line).collect();
        assert_eq!(theirs, ours, "docs/metrics.md must have exactly:\n{}", ours.join("\n"));
    }

    #[test]
    fn every_metric_on_the_dashboard_exists() {
        let dashboard = include_str!("../../config/grafana/dashboards/pgweir.json");
        let mut seen = 0;
        for (at, _) in dashboard.match_indices("pgweir_") {
            let rest = &dashboard[at..];
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
            let name = &rest[..end];
            let exists = ALL.iter().any(|row| {
                let series = match row.kind {
                    Kind::Histogram => &["_bucket", "_sum", "_count"][..],
                    Kind::Counter | Kind::Gauge => &[""][..],
                };
                series.iter().any(|suffix| name.strip_prefix(row.name) == Some(suffix))
            });
            assert!(exists, "the dashboard asks for `{name}`, which is in no row of the table");
            seen += 1;
        }
        assert!(seen > 10, "the dashboard shows only {seen} metrics");
    }

    #[test]
    fn names_say_kind_and_unit() {
        for (n, row) in ALL.iter().enumerate() {
            assert_eq!(row.name.ends_with("_total"), row.kind == Kind::Counter, "{}", row.name);
            assert_eq!(row.name.ends_with("_seconds"), row.kind == Kind::Histogram, "{}", row.name);
            assert!(!ALL[..n].iter().any(|earlier| earlier.name == row.name), "{} twice", row.name);
        }
    }
}
