//! The golden table, and what must hold for every text.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::{env, fs, path::PathBuf};

use proptest::prelude::*;

use crate::fresh::Level;
use crate::sql::{Kind, Lexer, Name, Names as _};

use super::builtins::{Builtins, View};
use super::*;

const FREE: Session = Session::FREE;
const WHOLE: Topology = Topology { primary: true, replicas: 1, nodes: 2 };

fn route(judge: &Judge, text: &str) -> String {
    let facts = judge.facts(text.as_bytes(), &Scope::without_catalog());
    let route = decide(facts, FREE, WHOLE, &Rules::default());
    let mut line = format!("{} {}", route.target.code(), route.reason.code());
    for (flag, name) in [
        (facts.pins, "pins"),
        (facts.silent, "silent"),
        (facts.copy, "copy"),
        (facts.transaction, "transaction"),
    ] {
        if flag {
            let _ = write!(line, " {name}");
        }
    }
    line
}

/// The stanzas of a golden file: the lines before the statement's, the statement, what is expected.
fn stanzas(file: &str) -> Vec<(String, String, String)> {
    let mut stanzas = Vec::new();
    let (mut remarks, mut statement) = (String::new(), String::new());
    for line in file.lines() {
        if let Some(expected) = line.strip_prefix("--> ") {
            let statement = std::mem::take(&mut statement);
            stanzas.push((std::mem::take(&mut remarks), statement, expected.to_owned()));
        } else if statement.is_empty() && (line.starts_with("--- ") || line.is_empty()) {
            remarks.push_str(line);
            remarks.push('\n');
        } else {
            if !statement.is_empty() {
                statement.push('\n');
            }
            statement.push_str(line);
        }
    }
    stanzas
}

fn golden_files() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/route");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn golden() {
    let judge = Judge::new(JudgeOptions::default());
    let mut wrong = String::new();
    let mut count = 0;
    for path in golden_files() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut rewritten = String::new();
        for (remarks, statement, expected) in stanzas(&fs::read_to_string(&path).unwrap()) {
            count += 1;
            // Twice: from the text, and from memory.
            let first = route(&judge, &statement);
            let found = route(&judge, &statement);
            assert_eq!(first, found, "{name}: {statement}");
            if (name == "reads.sql") != found.starts_with("replica") {
                let _ = writeln!(wrong, "{name}: {statement}\n    must not be: {found}");
            }
            if found != expected {
                let _ = writeln!(wrong, "{name}: {statement}\n    expected {expected}\n    found    {found}");
            }
            let _ = write!(rewritten, "{remarks}{statement}\n--> {found}\n");
        }
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, rewritten).unwrap();
        }
    }
    assert!(count >= 250, "{count}");
    assert_eq!(judge.disagreements(), 0, "the second opinion overruled the scan: a hole");
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn facts(text: &str) -> Facts {
    Judge::new(JudgeOptions::default()).facts(text.as_bytes(), &Scope::without_catalog())
}

#[test]
fn decide_weighs_the_session_before_the_statement() {
    let read = facts("SELECT 1");
    let write = facts("DELETE FROM t");
    let none = Topology { primary: true, replicas: 0, nodes: 0 };
    let in_transaction =
        |target| Session { transaction: Some(target), pinned: true, text_safe: false, ..FREE };
    let cases = [
        (read, FREE, WHOLE, Target::Replica, Reason::Read),
        (read, FREE, none, Target::Primary, Reason::NoReplica),
        (read, FREE, Topology { primary: false, replicas: 1, nodes: 2 }, Target::Replica, Reason::Read),
        (write, FREE, WHOLE, Target::Primary, Reason::Write),
        (read, in_transaction(Target::Primary), WHOLE, Target::Primary, Reason::InTransaction),
        (write, in_transaction(Target::Replica), none, Target::Replica, Reason::InReadOnlyTransaction),
        (read, Session { pinned: true, ..FREE }, WHOLE, Target::Primary, Reason::SessionState),
        (read, Session { text_safe: false, ..FREE }, WHOLE, Target::Primary, Reason::UnsafeText),
        (facts("BEGIN READ ONLY"), FREE, WHOLE, Target::Replica, Reason::BeginReadOnly),
        (facts("BEGIN READ ONLY"), FREE, none, Target::Primary, Reason::NoReplica),
        (Facts::EMPTY, FREE, WHOLE, Target::Primary, Reason::Empty),
    ];
    for (facts, session, topology, target, reason) in cases {
        let route = decide(facts, session, topology, &Rules::default());
        assert_eq!(Route { level: Level::Eventual, ..route }, Route::to(target, reason));
    }
}

#[test]
fn and_keeps_the_stronger() {
    let texts =
        ["SELECT 1", "DELETE FROM t", "SET a = 1", "BEGIN", "BEGIN READ ONLY", "COMMIT", "SAVEPOINT a"];
    for a in texts.map(facts) {
        assert_eq!(a.and(Facts::EMPTY), a);
        assert_eq!(Facts::EMPTY.and(a), a);
        for b in texts.map(facts) {
            let both = a.and(b);
            assert_eq!(both.class, b.and(a).class);
            let reads = a.class == Class::Read && b.class == Class::Read;
            assert_eq!(
                decide(both, FREE, WHOLE, &Rules::default()).target == Target::Replica,
                reads,
                "{a:?} {b:?}"
            );
            assert!(both.class >= a.class && both.class >= b.class);
        }
    }
}

#[test]
fn reasons_are_told_apart_and_documented() {
    let document = include_str!("../../docs/routing.md");
    let mut table = String::new();
    for (index, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(reason.index(), index);
        assert_eq!(Reason::ALL.iter().filter(|other| other.code() == reason.code()).count(), 1);
        let _ = writeln!(table, "| `{}` | {} |", reason.code(), reason.sentence());
    }
    assert!(document.contains(&table), "docs/routing.md must have this table:\n{table}");
}

#[test]
fn lists_of_the_operator() {
    let judge = Judge::new(JudgeOptions {
        read_only_functions: ["f", "app.g", "nextval", "pg_backend_pid", "mixed"].map(String::from).to_vec(),
        write_functions: ["lower", "app.h", "mixed"].map(String::from).to_vec(),
        ..JudgeOptions::default()
    });
    for (text, expected) in [
        ("SELECT f(1), any_schema.f(2), F(3)", "replica read"),
        ("SELECT app.g(1)", "replica read"),
        ("SELECT g(1)", "primary unknown_function"),
        ("SELECT other.g(1)", "primary unknown_function"),
        ("SELECT nextval('s')", "primary primary_function"),
        ("SELECT pg_backend_pid()", "replica read"),
        ("SELECT lower('A')", "primary listed_function silent"),
        ("SELECT app.h(1)", "primary listed_function silent"),
        ("SELECT mixed()", "primary listed_function silent"),
    ] {
        assert_eq!(route(&judge, text), expected, "{text}");
    }
}

#[test]
fn builtins_are_within_bounds() {
    let builtins = Builtins::new(&[], &[]);
    let scope = Scope::without_catalog();
    let view = View { builtins: &builtins, scope: &scope, lessons: None, calls: None };
    let mut count: HashMap<&str, usize> = HashMap::new();
    for line in include_str!("builtins.tsv").lines().filter(|line| !line.starts_with('#')) {
        let (name, effect) = line.split_once('\t').unwrap();
        *count.entry(effect).or_default() += 1;
        // Every row is read.
        let found = view.function(Name { schema: None, last: name.as_bytes() });
        assert_ne!(found, crate::sql::Effect::Unknown, "{line}");
    }
    for (effect, least, most) in [
        ("safe", 2_300, 2_700),
        ("volatile", 120, 220),
        ("primary", 25, 60),
        ("server", 140, 250),
        ("text", 14, 30),
        ("session", 5, 20),
        ("config", 1, 1),
        ("advisory", 5, 20),
        ("advisory_session", 4, 4),
    ] {
        let found = count.remove(effect).unwrap_or_default();
        assert!((least..=most).contains(&found), "{effect}: {found}");
    }
    assert!(count.is_empty(), "{count:?}");
    let unsafe_names = "nextval setval currval lastval set_config setseed pg_notify txid_current pg_current_xact_id \
        pg_advisory_lock pg_advisory_unlock pg_try_advisory_xact_lock pg_export_snapshot pg_current_wal_lsn lo_create \
        lo_open lo_unlink lo_import lo_export lo_from_bytea lo_put loread lowrite pg_switch_wal pg_reload_conf \
        pg_stat_reset pg_create_physical_replication_slot pg_logical_emit_message pg_terminate_backend pg_promote \
        pg_read_file pg_ls_dir query_to_xml cursor_to_xml table_to_xml schema_to_xml database_to_xml ts_stat \
        ts_rewrite pg_stat_get_numscans pg_backend_pid pg_replication_origin_session_setup pg_wal_replay_pause \
        pg_stop_backup pg_backup_stop brin_summarize_new_values gin_clean_pending_list unique_key_recheck";
    let safe_names = "lower count now random gen_random_uuid pg_sleep version pg_is_in_recovery generate_series \
        jsonb_build_object to_tsvector date_trunc md5 pg_relation_size current_setting unnest row_number uuidv7";
    for (names, safe) in [(unsafe_names, false), (safe_names, true)] {
        for name in names.split_whitespace() {
            let effect = view.function(Name { schema: None, last: name.as_bytes() });
            assert_eq!(effect == crate::sql::Effect::Safe, safe, "{name}: {effect:?}");
        }
    }
}

#[test]
fn what_asks_for_what_was_drawn() {
    let judge = Judge::new(JudgeOptions::default());
    let recalls = |text: &str| judge.facts(text.as_bytes(), &Scope::without_catalog()).recalls;
    for text in [
        "SELECT lastval()",
        "SELECT currval('s'), pg_backend_pid()",
        "SELECT encoded(lastval())",
        "SELECT pg_notify('new', lastval()::text)",
    ] {
        assert!(recalls(text), "{text}");
    }
    for text in ["SELECT nextval('s'), lastval()", "INSERT INTO t VALUES (currval('s'))", "SELECT encoded(1)"]
    {
        assert!(!recalls(text), "{text}");
    }
}

#[test]
fn killers_are_survived() {
    let judge = Judge::new(JudgeOptions::default());
    let chains = [
        ("SELECT 1", "+1"),
        ("SELECT a", " AND a"),
        ("SELECT 1", "::int"),
        ("SELECT 1", " UNION ALL SELECT 1"),
    ];
    for (head, link) in chains {
        for size in [16_000, 500_000] {
            let text = format!("{head}{}", link.repeat((size - head.len()) / link.len()));
            assert_eq!(
                judge.facts(text.as_bytes(), &Scope::without_catalog()).class,
                Class::Read,
                "{link} {size}"
            );
        }
    }
    for open in ["(", "/*", "CASE WHEN ", "ARRAY[", "NOT ", "lower(", "(SELECT ", "$a$ ", "'", "\"", "E'\\"] {
        let text = format!("SELECT {}", open.repeat(200_000 / open.len()));
        let _ = judge.facts(text.as_bytes(), &Scope::without_catalog());
    }
    assert_eq!(
        judge.facts(&vec![b' '; crate::sql::SCAN_LIMIT + 1], &Scope::without_catalog()).reason,
        Reason::ParseBudget
    );
}

#[test]
fn literals_do_not_fill_the_memory() {
    let judge = Judge::new(JudgeOptions { cache_entries: 100, ..JudgeOptions::default() });
    for id in 0..1_000 {
        assert_eq!(
            judge
                .facts(format!("SELECT * FROM t WHERE id = {id}").as_bytes(), &Scope::without_catalog())
                .class,
            Class::Read
        );
    }
    assert!(format!("{judge:?}").contains("texts: 0, shapes: 1"), "{judge:?}");
}

/// Pieces of SQL that make hostile texts likelier than random bytes do.
fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "SELECT ",
        "INSERT ",
        "UPDATE ",
        "DELETE ",
        "MERGE ",
        "INTO ",
        "FOR ",
        "SHARE ",
        "NO ",
        "KEY ",
        "WITH ",
        "AS ",
        "x",
        "nextval",
        "lower",
        "t.",
        "\"",
        "\"\"",
        "'",
        "''",
        "E'",
        "U&'",
        "U&\"",
        "B'",
        "$$",
        "$a$",
        "$1",
        "(",
        ")",
        ";",
        ",",
        "::",
        "--",
        "\n",
        "/*",
        "*/",
        "\\",
        " ",
        "1",
        "1e",
        "0x",
        ".",
        "..",
        "+",
        "[",
        "]",
        "é",
        "\0",
        "EXPLAIN ",
        "ANALYZE ",
        "COPY ",
        "TO ",
        "STDOUT ",
        "BEGIN ",
        "READ ",
        "ONLY ",
        "set_config",
        "true",
        "DISTINCT ",
        "ON ",
        "GROUP ",
        "BY ",
        "ROLLUP",
    ];
    prop_oneof![prop::sample::select(pieces.to_vec()).prop_map(String::from), "[a-zA-Z0-9_ ]{1,6}"]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat().into_bytes()),
        prop::collection::vec(piece(), 0..40)
            .prop_map(|pieces| format!("SELECT {}", pieces.concat()).into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tokens_tile_the_text(text in text()) {
        let mut at = 0;
        for token in Lexer::new(&text) {
            prop_assert_eq!(token.start, at);
            prop_assert!(token.end > token.start);
            at = token.end;
            prop_assert!(token.kind != Kind::Unterminated || at == text.len());
        }
        prop_assert_eq!(at, text.len());
    }

    #[test]
    fn no_read_has_a_word_that_writes(text in text()) {
        let judge = Judge::new(JudgeOptions { cache_entries: 16, ..JudgeOptions::default() });
        let facts = judge.facts(&text, &Scope::without_catalog());
        prop_assert_eq!(facts, judge.facts(&text, &Scope::without_catalog()));
        if facts.class == Class::Read {
            prop_assert!(!facts.pins && !facts.silent && !facts.transaction);
            let mut dot = false;
            for token in Lexer::new(&text) {
                let word = text[token.start..token.end].to_ascii_lowercase();
                let writes = matches!(word.as_slice(), b"insert" | b"update" | b"delete" | b"merge" | b"into");
                prop_assert!(token.kind != Kind::Unterminated);
                prop_assert!(token.kind != Kind::Word || !writes || dot, "{:?}", text);
                if !matches!(token.kind, Kind::Space | Kind::Comment) {
                    dot = token.kind == Kind::Dot;
                }
            }
        }
    }

    #[test]
    fn shape_ignores_literals_and_comments(a in "[0-9]{1,8}", b in "[a-z ]{0,20}", c in "[a-z;()' ]{0,20}") {
        let judge = Judge::new(JudgeOptions { cache_entries: 16, ..JudgeOptions::default() });
        let one = format!("SELECT x FROM t WHERE a = {a} AND b = '{b}' /*{c}*/ AND c = $tag${c}$tag$");
        let two = "SELECT x FROM t WHERE a = 1 AND b = '' /**/ AND c = 'x'";
        let three = "SELECT x FROM t WHERE a = 1 AND b = '' /**/ AND d = 'x'";
        let builtins = Builtins::new(&[], &[]);
    let scope = Scope::without_catalog();
    let view = View { builtins: &builtins, scope: &scope, lessons: None, calls: None };
        let seeds = judge.seeds();
        let shape = |text: &str| crate::sql::scan(text.as_bytes(), &view, seeds, |_| {}).shape;
        prop_assert_eq!(shape(&one), shape(two));
        prop_assert_ne!(shape(&one), shape(three));
    }
}

/// Every answer that rules, hints, wishes and modes can give.
fn anything() -> impl Strategy<Value = (Mode, Vec<rules::Rule>, u64, Option<Wish>, Option<Wish>)> {
    use rules::{Action, Match, Rule};
    let action = prop_oneof![
        Just(Action::Primary),
        Just(Action::Replica),
        any::<u64>().prop_map(Action::Servers),
        Just(Action::Reject("no".to_owned())),
    ];
    let rule = action.prop_map(|then| Rule {
        name: "r".to_owned(),
        when: Match::default(),
        then,
        level: None,
        max_lag: None,
        timeout: None,
    });
    let wish = || prop::option::of(prop_oneof![Just(Wish::Primary), Just(Wish::Replica)]);
    let mode = prop_oneof![Just(Mode::Observe), Just(Mode::OptIn), Just(Mode::Auto)];
    (mode, prop::collection::vec(rule, 0..4), any::<u64>(), wish(), wish())
}

proptest! {
    /// No rule, hint or mode sends what is not proven to read to a replica, and where it reads, they only narrow.
    #[test]
    fn what_people_say_only_narrows(
        (mode, list, matched, hint, wish) in anything(),
        text in prop::sample::select(vec![
            "SELECT 1", "INSERT INTO t VALUES (1)", "SELECT nextval('s')", "SELECT f()", "BEGIN READ ONLY", "BEGIN", "SET a = 1",
            "", "SELECT 1 FOR UPDATE", "COPY t FROM STDIN", "nonsense", "SELECT 1; DELETE FROM t", "SELECT 1; SELECT 2",
        ]),
        transaction in prop::option::of(prop_oneof![Just(Target::Primary), Just(Target::Replica)]),
        nodes in any::<u64>(),
    ) {
        let judge = Judge::new(JudgeOptions::default());
        let judged = judge.facts(text.as_bytes(), &Scope::without_catalog());
        let facts = Facts { any: matched, all: matched, hint, ..judged };
        let session = Session { transaction, wish, rules: u64::MAX, ..FREE };
        let replicas = u16::try_from(nodes.count_ones()).unwrap();
        let topology = Topology { primary: true, replicas, nodes };
        let rules = Rules::new(mode, list);
        let route = decide(facts, session, topology, &rules);
        let plain = decide(judged, Session { transaction, ..FREE }, topology, &Rules::default());
        if route.target == Target::Replica {
            prop_assert_eq!(plain.target, Target::Replica);
            let in_transaction = transaction == Some(Target::Replica);
            prop_assert!(in_transaction || matches!(facts.class, Class::Read | Class::BeginReadOnly));
            prop_assert!(in_transaction || mode != Mode::Observe);
            prop_assert!(route.servers.is_none_or(|servers| servers & nodes != 0));
        }
        if route.would.is_some() {
            prop_assert_eq!((route.target, mode), (Target::Primary, Mode::Observe));
            let auto = decide(facts, session, topology, &Rules::new(Mode::Auto, Vec::new()));
            prop_assert_eq!(auto.target, Target::Replica);
        }
    }
}

/// Until the catalog is there, only what has no name in it may leave the primary.
#[test]
fn while_nothing_is_known_names_are_for_the_primary() {
    let judge = Judge::new(JudgeOptions::default());
    let loading = Scope::new(Known::Loading, None, std::sync::Arc::default());
    for (text, reads) in [
        ("SELECT 1", true),
        ("SELECT 'a', $1, NULL", false),
        ("SELECT 1 + 2", false),
        ("SELECT '1'::mine", false),
        ("SELECT lower('A')", false),
        ("SELECT a FROM t", false),
        ("VALUES (1), (2)", true),
    ] {
        let facts = judge.facts(text.as_bytes(), &loading);
        assert_eq!(facts.class == Class::Read, reads, "{text}: {facts:?}");
        assert!(reads || facts.reason == Reason::CatalogLoading, "{text}: {facts:?}");
    }
}
