//! Which names the scan takes for those of tables.

use std::cell::RefCell;

use super::*;

/// Notes what it is asked.
#[derive(Default)]
struct Asked {
    relations: RefCell<Vec<String>>,
    words: RefCell<Vec<String>>,
    operators: RefCell<Vec<String>>,
}

impl Names for Asked {
    fn function(&self, _name: Name<'_>) -> Effect {
        Effect::Safe
    }

    fn relation(&self, name: Name<'_>) -> Effect {
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        let name = match name.schema {
            Some(schema) => format!("{}.{}", text(schema), text(name.last)),
            None => text(name.last),
        };
        self.relations.borrow_mut().push(name);
        Effect::Safe
    }

    fn watches_words(&self) -> bool {
        true
    }

    fn word(&self, name: &[u8]) -> Effect {
        self.words.borrow_mut().push(String::from_utf8(name.to_vec()).unwrap());
        Effect::Safe
    }

    fn operator(&self, run: &[u8]) -> Effect {
        self.operators.borrow_mut().push(String::from_utf8(run.to_vec()).unwrap());
        Effect::Safe
    }
}

fn asked(text: &str) -> Asked {
    let asked = Asked::default();
    let seeds = Seeds { high: RandomState::with_seed(1), low: RandomState::with_seed(2) };
    scan(text.as_bytes(), &asked, &seeds, |_| {});
    asked
}

#[track_caller]
fn tables(text: &str, expected: &str) {
    assert_eq!(asked(text).relations.borrow().join(" "), expected, "{text}");
}

#[test]
fn names_behind_from_and_join_are_tables() {
    tables("SELECT a, b FROM t", "t");
    tables("SELECT a FROM s.t AS x, \"T u\" y WHERE a = b, c", "s.t T u");
    tables("SELECT * FROM a JOIN b ON a.x = b.x LEFT JOIN c USING (x, y) CROSS JOIN d", "a b c d");
    tables(
        "SELECT * FROM (a JOIN (b JOIN c ON true) ON true), ONLY d, ONLY (e), LATERAL f(1), g",
        "a b c d e g",
    );
    tables("SELECT * FROM (SELECT x, y FROM t, u) s, v", "t u v");
    tables(
        "SELECT (SELECT max(x) FROM t), y FROM u WHERE z IN (SELECT q FROM v, w) ORDER BY 1, 2",
        "t u v w",
    );
    tables("SELECT a FROM t UNION ALL SELECT b, c FROM u, v", "t u v");
    tables("TABLE t", "t");
    tables("TABLE t UNION TABLE s.u ORDER BY 1", "t s.u");
    tables("COPY s.t (a, b) TO STDOUT", "s.t");
    tables("COPY (SELECT a FROM t) TO STDOUT", "t");
    tables("EXPLAIN (ANALYZE, VERBOSE) SELECT 1 FROM t", "t");
    tables("SELECT * FROM values, key, position p", "values key position");
    tables("SELECT 1 FROM t;SELECT 2 FROM u", "t u");
    tables("SELECT DISTINCT ON (a, b) a, b FROM t, u", "t u");
    tables("SELECT DISTINCT FROM t", "t");
    tables("SELECT * FROM db.s.t", "");
}

#[test]
fn other_names_are_not() {
    tables("SELECT EXTRACT(year FROM a), substring(b FROM c FOR d), trim(both e FROM f) FROM t", "t");
    tables("SELECT a IS DISTINCT FROM b, c IS NOT DISTINCT FROM d FROM t WHERE e IS DISTINCT FROM f", "t");
    tables("SELECT * FROM f(a, b), ROWS FROM (g(c), h(d) AS (x int, y int)) AS r (k, l), t", "t");
    tables("SELECT * FROM (VALUES (1, a), (2, b)) AS v (x, y), t", "t");
    tables("SELECT * FROM unnest(a, b) WITH ORDINALITY AS u (x, y), t TABLESAMPLE system (1)", "t");
    tables("SELECT * FROM json_table(a, '$' COLUMNS (b int, c int)) j, t", "t");
    tables("SELECT count(*) FILTER (WHERE a) OVER (PARTITION BY b, c ORDER BY d) FROM t GROUP BY e, f", "t");
    tables("SELECT $1, a FROM t ORDER BY b, c LIMIT d OFFSET e", "t");
    tables("SELECT mode() WITHIN GROUP (ORDER BY a), b FROM t WINDOW w AS (PARTITION BY c)", "t");
}

#[test]
fn names_of_ctes_hide_tables() {
    tables(
        "WITH a AS (SELECT 1 FROM t), b (x, y) AS MATERIALIZED (SELECT 2 FROM a, u) SELECT * FROM a, b, c",
        "t u c",
    );
    tables("WITH a AS (SELECT 1) SELECT * FROM s.a, A, \"A\"", "s.a A");
    // Not in itself, unless it is recursive.
    tables("WITH v AS (SELECT * FROM v) SELECT * FROM v", "v");
    tables("WITH RECURSIVE v AS (SELECT 1 UNION SELECT 2 FROM v) SELECT * FROM v, w", "w");
    // Not outside its parentheses, and not in the next statement.
    tables("SELECT * FROM (WITH v AS (SELECT 1), u AS (SELECT 2) SELECT * FROM v, u) x, v", "v");
    tables("WITH v AS (SELECT 1) SELECT 1 FROM v; SELECT 1 FROM v", "v");
    tables("WITH a AS (WITH b AS (SELECT 1 FROM t) SELECT * FROM b, a) SELECT * FROM a, b", "t a b");
    tables("WITH a AS (SELECT 1) (SELECT * FROM a, b)", "b");
    // What SEARCH names is no CTE.
    tables(
        "WITH RECURSIVE a AS (SELECT 1) SEARCH DEPTH FIRST BY x, y SET z, b AS (SELECT 1) SELECT * FROM a, y, b",
        "y b",
    );
}

#[test]
fn words_and_operators_are_watched_wherever_they_stand() {
    let found = asked("SELECT t.Name, x::\"My Type\", a === b FROM t");
    assert_eq!(found.words.borrow().join("|"), "select|t|name|x|My Type|a|b|from|t");
    assert_eq!(found.operators.borrow().join("|"), "===");
}

#[test]
fn values_and_distinct_as_names_do_not_end_a_list() {
    tables("SELECT * FROM t AS values, v", "t v");
    tables("SELECT * FROM t values, v", "t v");
    tables("SELECT * FROM (SELECT 1) AS values(a), v", "v");
    tables("SELECT * FROM t JOIN u USING (a) AS values, v", "t u v");
    tables("SELECT * FROM (t AS values CROSS JOIN v)", "t v");
    tables("SELECT * FROM (VALUES (1)) x, v", "v");
    tables("WITH t AS (SELECT 1) VALUES (1)", "");
    tables("SELECT 1 AS distinct FROM v", "v");
    tables("SELECT a distinct FROM v", "v");
    tables("SELECT t.is distinct FROM v", "v");
    tables("SELECT a IS DISTINCT FROM b, a IS NOT DISTINCT FROM c FROM v", "v");
}
