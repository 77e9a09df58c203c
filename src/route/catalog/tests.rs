//! The catalog from made-up rows.

use super::rows::{Body, CastRow, FunctionRow, OperatorRow, RelationRow, TreeRow, TypeRow};
use super::*;

const PG_CATALOG: u32 = 11;
const PUBLIC: u32 = 2200;
const APP: u32 = 20_000;

fn function(oid: u32, name: &str, schema: u32, volatility: u8) -> FunctionRow {
    FunctionRow { oid, name: name.into(), schema, volatility, kind: b'f', ..FunctionRow::default() }
}

fn relation(oid: u32, name: &str, kind: u8) -> RelationRow {
    RelationRow { oid, name: name.into(), schema: PUBLIC, kind, persistence: b'p', ..RelationRow::default() }
}

fn tree(owner: u32, tree: &str) -> TreeRow {
    TreeRow { owner, tree: format!("({{QUERY :commandType 1 {tree} :rowMarks <>}})") }
}

fn rows() -> Rows {
    let schemas = [(PG_CATALOG, "pg_catalog"), (PUBLIC, "public"), (APP, "app")];
    Rows {
        schemas: schemas.map(|(oid, name)| (oid, name.to_owned())).to_vec(),
        functions: vec![
            function(1574, "nextval", PG_CATALOG, b'v'),
            function(870, "lower", PG_CATALOG, b'i'),
            function(20_001, "reads", PUBLIC, b's'),
            function(20_002, "writes", PUBLIC, b'v'),
            function(20_003, "twice", PUBLIC, b's'),
            function(20_004, "twice", APP, b'v'),
        ],
        relations: vec![relation(30_001, "t", b'r')],
        ..Rows::default()
    }
}

fn name(text: &str) -> Name<'_> {
    match text.split_once('.') {
        Some((schema, last)) => Name { schema: Some(schema.as_bytes()), last: last.as_bytes() },
        None => Name { schema: None, last: text.as_bytes() },
    }
}

fn path(text: &str) -> SearchPath {
    SearchPath::parse(text, "me").unwrap()
}

fn build(rows: &Rows) -> Catalog {
    Catalog::build(rows, &[], &[])
}

#[test]
fn a_call_means_every_overload_that_it_could() {
    let catalog = build(&rows());
    let (public, both) = (path("public"), path("public, app"));
    let effect = |text, path: Option<&SearchPath>| catalog.function(name(text), path);
    assert_eq!(effect("reads", Some(&public)), Some(Effect::Safe));
    assert_eq!(effect("writes", Some(&public)), Some(Effect::User));
    assert_eq!(effect("twice", Some(&public)), Some(Effect::Safe));
    assert_eq!(effect("twice", Some(&both)), Some(Effect::User));
    assert_eq!(effect("twice", None), Some(Effect::User));
    assert_eq!(effect("public.twice", None), Some(Effect::Safe));
    assert_eq!(effect("app.twice", Some(&public)), Some(Effect::User));
    assert_eq!(effect("app.reads", Some(&both)), None);
    assert_eq!(effect("nothing", None), None);
    // PostgreSQL's own are not its business.
    assert_eq!(effect("lower", None), None);
}

#[test]
fn lists_outweigh_what_a_function_says() {
    let catalog = Catalog::build(&rows(), &["writes".to_owned()], &["public.reads".to_owned()]);
    assert_eq!(catalog.function(name("writes"), None), Some(Effect::Safe));
    assert_eq!(catalog.function(name("reads"), None), Some(Effect::Listed));
}

#[test]
fn aggregates_and_sql_functions_come_down_to_what_they_call() {
    let mut rows = rows();
    let sql = |oid, name: &str, text: &str| FunctionRow {
        body: Body::Text(text.to_owned()),
        ..function(oid, name, PUBLIC, b's')
    };
    rows.functions.extend([
        FunctionRow { kind: b'a', ..function(20_010, "good_agg", PUBLIC, b'i') },
        FunctionRow { kind: b'a', ..function(20_011, "bad_agg", PUBLIC, b'i') },
        FunctionRow { kind: b'p', ..function(20_012, "procedure", PUBLIC, b'i') },
        sql(20_020, "sql_reads", "SELECT lower(a) FROM t; SELECT reads()"),
        sql(20_021, "sql_writes", "WITH x AS (SELECT 1) SELECT sql_calls_it() FROM x"),
        sql(20_022, "sql_calls_it", "SELECT nextval('s')"),
        sql(20_023, "sql_locks", "SELECT 1 FROM t FOR UPDATE"),
        sql(20_024, "sql_reads_unknown", "SELECT 1 FROM not_there"),
        sql(20_025, "sql_itself", "SELECT sql_itself()"),
        FunctionRow {
            body: Body::Tree("{QUERY :commandType 1 :x {FUNCEXPR :funcid 20002 } :rowMarks <>}".to_owned()),
            ..function(20_026, "atomic", PUBLIC, b's')
        },
        FunctionRow { path: Some("public".to_owned()), ..sql(20_027, "with_path", "SELECT twice()") },
        sql(20_028, "without_path", "SELECT twice()"),
    ]);
    rows.aggregates = vec![(20_010, vec![20_001, 870]), (20_011, vec![20_001, 20_002])];
    let catalog = build(&rows);
    for (text, safe) in [
        ("good_agg", true),
        ("bad_agg", false),
        ("procedure", false),
        ("sql_reads", true),
        ("sql_writes", false),
        ("sql_calls_it", false),
        ("sql_locks", false),
        ("sql_reads_unknown", false),
        ("sql_itself", false),
        ("atomic", false),
        ("with_path", true),
        ("without_path", false),
    ] {
        assert_eq!(catalog.function(name(text), None) == Some(Effect::Safe), safe, "{text}");
    }
}

#[test]
fn relations_come_down_to_what_reading_them_does() {
    let mut rows = rows();
    rows.relations.extend([
        RelationRow { persistence: b'u', ..relation(30_002, "unlogged", b'r') },
        relation(30_003, "partitioned", b'p'),
        relation(30_004, "foreign", b'f'),
        relation(30_005, "sequence", b'S'),
        relation(30_010, "plain_view", b'v'),
        relation(30_011, "nextval_view", b'v'),
        relation(30_012, "view_of_view", b'v'),
        relation(30_013, "locking_view", b'v'),
        relation(30_014, "ruleless_view", b'v'),
        relation(30_015, "matview", b'm'),
        RelationRow { row_security: true, ..relation(30_020, "guarded", b'r') },
        RelationRow { row_security: true, ..relation(30_021, "badly_guarded", b'r') },
    ]);
    rows.children = vec![(30_001, 30_003), (30_002, 30_003)];
    rows.views = vec![
        tree(30_010, ":relid 30001 {OPEXPR :opno 96 :opfuncid 870} :relid 30010"),
        tree(30_011, ":relid 30001 {FUNCEXPR :funcid 1574 :args"),
        tree(30_012, ":relid 30011 "),
        TreeRow { owner: 30_013, tree: "{QUERY :commandType 1 :rowMarks ({ROWMARKCLAUSE :rti 1})}".into() },
    ];
    rows.policies = vec![
        TreeRow { owner: 30_020, tree: "{FUNCEXPR :funcid 20001 }".into() },
        TreeRow { owner: 30_021, tree: "{FUNCEXPR :funcid 20002 }".into() },
    ];
    let catalog = build(&rows);
    let public = path("public");
    for (text, effect) in [
        ("t", Effect::Safe),
        ("unlogged", Effect::Unlogged),
        ("partitioned", Effect::Unlogged),
        ("foreign", Effect::Foreign),
        ("sequence", Effect::Server),
        ("plain_view", Effect::Safe),
        ("nextval_view", Effect::View),
        ("view_of_view", Effect::View),
        ("locking_view", Effect::View),
        ("ruleless_view", Effect::View),
        ("matview", Effect::Safe),
        ("guarded", Effect::Safe),
        ("badly_guarded", Effect::View),
        ("app.t", Effect::NoRelation),
        ("nothing.t", Effect::NoRelation),
        ("not_there", Effect::NoRelation),
    ] {
        assert_eq!(catalog.relation(name(text), Some(&public)), effect, "{text}");
        let unknown = if text == "unlogged" { Effect::Unlogged } else { effect };
        assert_eq!(catalog.relation(name(text), None), unknown, "{text}, no path");
    }
    assert_eq!(catalog.relation(name("t"), Some(&path("app"))), Effect::NoRelation);
    let reads = |text| {
        catalog.get(catalog.lookup(name(text), Some(&public)).unwrap()).unwrap().reads.clone().unwrap()
    };
    assert_eq!(reads("view_of_view"), reads("t"));
    assert_eq!(reads("partitioned").len(), 3);
}

#[test]
fn operators_casts_and_types_taint_what_has_to_do_with_them() {
    let mut rows = rows();
    let own_type = |oid, name: &str| TypeRow { oid, name: name.into(), ..TypeRow::default() };
    rows.types = vec![
        own_type(40_001, "mine"),
        TypeRow { parts: [40_001, 0, 0], ..own_type(40_002, "over_mine") },
        TypeRow { relation: 30_002, ..own_type(40_003, "with_mine") },
        own_type(40_004, "other"),
        own_type(40_005, "checked"),
        TypeRow { relation: 30_001, ..own_type(40_006, "t") },
    ];
    rows.relations.push(relation(30_002, "with_mine", b'r'));
    rows.columns = vec![(30_002, 40_001), (30_001, 40_004)];
    rows.checks = vec![TreeRow { owner: 40_005, tree: "{FUNCEXPR :funcid 20002 }".into() }];
    let operator =
        |oid, name: &str, function, operands| OperatorRow { oid, name: name.into(), function, operands };
    rows.operators = vec![
        operator(50_001, "=", 20_002, [40_001, 40_001]),
        operator(50_002, "===", 20_002, [25, 25]),
        operator(50_003, "~~~", 20_001, [25, 25]),
    ];
    rows.functions
        .push(FunctionRow { results: vec![40_001], ..function(20_010, "makes_mine", PUBLIC, b'i') });
    rows.functions
        .push(FunctionRow { arguments: vec![40_006], ..function(20_011, "of_a_row", PUBLIC, b'v') });
    let catalog = build(&rows);
    for (word, safe) in [
        ("mine", false),
        ("over_mine", false),
        ("with_mine", false),
        ("checked", false),
        ("of_a_row", false),
        ("other", true),
        ("t", true),
        ("writes", true),
    ] {
        assert_eq!(catalog.word(word.as_bytes()) == Effect::Safe, safe, "{word}");
    }
    let refused = (23..50_000).filter(|oid| !catalog.takes(*oid)).collect::<Vec<u32>>();
    assert_eq!(refused, [40_001, 40_002, 40_003, 40_005], "types of parameters");
    let scope = |known: Known| Scope::new(known, None, std::sync::Arc::default());
    let reason = |known, of: u32| scope(known).parameter(of).map(crate::route::Reason::code);
    assert_eq!(reason(Known::Loading, 40_004), Some("catalog_loading"));
    assert_eq!((reason(Known::Loading, 23), reason(Known::Unused, 40_005)), (None, None));
    assert_eq!(catalog.operator(b"+==="), Effect::Operator);
    assert_eq!((catalog.operator(b"="), catalog.operator(b"~~~")), (Effect::Safe, Effect::Safe));
    assert_eq!(catalog.relation(name("with_mine"), None), Effect::Operator);
    assert_eq!(catalog.relation(name("t"), None), Effect::Safe);
    assert_eq!(catalog.function(name("makes_mine"), None), Some(Effect::Operator));

    rows.casts = vec![CastRow { types: [25, 23], function: 20_002 }];
    assert_eq!(build(&rows).relation(name("t"), None), Effect::Operator);
}

#[test]
fn taint_goes_through_texts_defaults_and_operators() {
    let mut rows = rows();
    let sql = |oid, name: &str, text: &str| FunctionRow {
        body: Body::Text(text.to_owned()),
        ..function(oid, name, PUBLIC, b's')
    };
    let calls_writes = || Some("({FUNCEXPR :funcid 20002 })".to_owned());
    rows.types = vec![TypeRow { relation: 30_001, oid: 40_001, name: "t".into(), ..TypeRow::default() }];
    rows.functions.extend([
        sql(20_010, "first", "SELECT 1 @@@ 2"),
        sql(20_011, "second", "SELECT 1 !!! 2"),
        sql(20_012, "innocent", "SELECT 1 + 2"),
        sql(20_013, "spoken", "SELECT 'a' LIKE 'b'"),
        FunctionRow { defaults: calls_writes(), optional: 1, ..function(20_014, "defaults", PUBLIC, b's') },
        FunctionRow {
            arguments: vec![40_001, 23],
            optional: 1,
            ..function(20_015, "row_and_default", PUBLIC, b'v')
        },
        FunctionRow { arguments: vec![40_001, 23], ..function(20_016, "row_and_more", PUBLIC, b'v') },
        FunctionRow { kind: b'a', ..function(20_017, "without_parts", PUBLIC, b'i') },
    ]);
    let operator =
        |oid, name: &str, function| OperatorRow { oid, name: name.into(), function, operands: [25, 25] };
    // One operator's function uses the next: found in as many rounds.
    rows.operators = vec![
        operator(50_001, "###", 20_011),
        operator(50_002, "!!!", 20_010),
        operator(50_003, "@@@", 20_002),
        operator(50_004, "~~", 20_002),
    ];
    let catalog = build(&rows);
    for text in ["first", "second", "spoken", "defaults", "without_parts"] {
        assert_eq!(catalog.function(name(text), None), Some(Effect::User), "{text}");
    }
    assert_eq!(catalog.function(name("innocent"), None), Some(Effect::Safe));
    for run in [&b"###"[..], b"!!!", b"@@@", b"~~"] {
        assert_eq!(catalog.operator(run), Effect::Operator);
    }
    assert_eq!(catalog.operator(b"+"), Effect::Safe);
    for (word, safe) in [("like", false), ("row_and_default", false), ("in", true), ("row_and_more", true)] {
        assert_eq!(catalog.word(word.as_bytes()) == Effect::Safe, safe, "{word}");
    }
}

#[test]
fn views_over_what_each_server_answers_for_itself_are_not_safe() {
    let mut rows = rows();
    let own = |oid, name: &str| RelationRow { schema: PG_CATALOG, ..relation(oid, name, b'v') };
    rows.relations.extend([
        own(12_000, "pg_stat_activity"),
        own(12_001, "pg_indexes"),
        relation(30_002, "activity", b'v'),
        relation(30_003, "indexes", b'v'),
    ]);
    rows.views = vec![tree(30_002, ":relid 12000 "), tree(30_003, ":relid 12001 ")];
    let catalog = build(&rows);
    assert_eq!(catalog.relation(name("activity"), None), Effect::View);
    assert_eq!(catalog.relation(name("indexes"), None), Effect::Safe);
}

#[test]
fn versions_are_equal_where_the_content_is() {
    let (mut one, two) = (rows(), rows());
    assert_eq!(build(&one).version(), build(&two).version());
    one.functions.reverse();
    assert_eq!(build(&one).version(), build(&two).version());
    one.functions[0].volatility = b's';
    assert_ne!(build(&one).version(), build(&two).version());
}

#[test]
fn ten_thousand_tables_and_functions_are_small() {
    let mut rows = rows();
    for n in 0..10_000 {
        rows.functions.push(function(100_000 + n, &format!("some_function_number_{n}"), PUBLIC, b's'));
        rows.relations.push(relation(200_000 + n, &format!("some_table_number_{n}"), b'r'));
    }
    for n in 0..500 {
        rows.relations.push(relation(300_000 + n, &format!("some_view_number_{n}"), b'v'));
        rows.views.push(tree(300_000 + n, &format!(":relid {} :relid {}", 200_000 + n, 200_001 + n)));
    }
    let catalog = build(&rows);
    assert!(catalog.objects() > 20_000);
    assert!(catalog.bytes() < 20 << 20, "{}", catalog.bytes());
    assert_eq!(catalog.relation(name("some_view_number_499"), None), Effect::Safe);
}
