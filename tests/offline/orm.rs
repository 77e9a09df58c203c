//! What frameworks, drivers and dashboards really send (`tests/golden/orm`): their reads go to a replica, their writes never.
//!
//! One statement a line, under a heading: `--- reads`, `--- writes`, or `--- kept REASON: why` for reads that stay on the
//! primary for that reason.

use std::fmt::Write as _;

use pgweir::route::{Judge, JudgeOptions, Route, Rules, Scope, Session, Target, Topology, decide};

use crate::{read, root};

#[derive(Clone, PartialEq)]
enum Heading {
    Reads,
    Writes,
    Kept(String),
}

fn heading(line: &str) -> Option<Heading> {
    match line.strip_prefix("--- ")? {
        "reads" => Some(Heading::Reads),
        "writes" => Some(Heading::Writes),
        rest => {
            let (reason, why) = rest.strip_prefix("kept ")?.split_once(": ")?;
            assert!(!why.is_empty(), "{line}: it must say why");
            Some(Heading::Kept(reason.to_owned()))
        }
    }
}

fn route(judge: &Judge, text: &str) -> Route {
    let facts = judge.facts(text.as_bytes(), &Scope::without_catalog());
    decide(facts, Session::FREE, Topology { primary: true, replicas: 1, nodes: 2 }, &Rules::default())
}

#[test]
fn reads_of_frameworks_go_to_a_replica_and_no_write_does() {
    let judge = Judge::new(JudgeOptions::default());
    let (mut reads, mut writes, mut kept) = (0, 0, 0);
    let mut wrong = String::new();
    let mut files: Vec<_> = std::fs::read_dir(root().join("tests/golden/orm")).unwrap().collect();
    files.sort_by_key(|entry| entry.as_ref().unwrap().path());
    for entry in files {
        let path = entry.unwrap().path();
        if path.ends_with("schema.sql") {
            continue;
        }
        let mut under = None;
        for line in read(&path).lines().filter(|line| !line.is_empty()) {
            if line.starts_with("--- ") {
                under = heading(line).or(under);
                continue;
            }
            let found = route(&judge, line);
            let fine = match under.as_ref().unwrap_or_else(|| panic!("{line}: under no heading")) {
                Heading::Reads => {
                    reads += 1;
                    found.target == Target::Replica
                }
                Heading::Writes => {
                    writes += 1;
                    found.target == Target::Primary
                }
                Heading::Kept(reason) => {
                    kept += 1;
                    found.target == Target::Primary && found.reason.code() == reason
                }
            };
            if !fine {
                let (target, reason) = (found.target.code(), found.reason.code());
                writeln!(wrong, "{}: {line}\n    got {target} {reason}", path.display()).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(reads + kept >= 300 && writes >= 130, "{reads} reads, {kept} kept, {writes} writes");
    // Those kept for `server_state` are no plain reads; the few others are.
    assert!(kept * 50 <= reads + 5 * 50, "{kept} of {} reads stay on the primary", reads + kept);
}
