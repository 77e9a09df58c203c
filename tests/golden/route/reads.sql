--- Every statement here must go to a replica. A statement ends at its line `--> target reason [flags]`; lines that start with
--- three dashes and a blank are remarks. `UPDATE_GOLDEN=1 cargo test --lib route` rewrites the expectations.

--- Plain.
SELECT 1
--> replica read
select
--> replica read
SELECT;
--> replica read
SELECT 1;
--> replica read
;SELECT 1;;
--> replica read
  /* a comment */ SELECT 1 -- and another
--> replica read
SELECT * FROM photos WHERE id = 7
--> replica read
SELECT * FROM photos WHERE id = $1 AND owner = $2 ORDER BY taken_at DESC LIMIT 20 OFFSET $3
--> replica read
TABLE photos
--> replica read
VALUES (1, 'a'), (2, 'b')
--> replica read
(SELECT 1) UNION ALL (SELECT 2)
--> replica read
((SELECT 1))
--> replica read
SELECT 1; SELECT 2
--> replica read
SELECT 1; VALUES (2); TABLE photos; SHOW work_mem
--> replica read
SELECT a, count(*) FROM t GROUP BY a HAVING count(*) > 1
--> replica read
SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b
--> replica read
SELECT DISTINCT ON (a, lower(b)) max(c) FROM t GROUP BY a, b
--> replica read
SELECT now(), current_timestamp, current_timestamp(3), localtime(0), current_user, version()
--> replica read
SELECT pg_catalog.now(), "now"(), pg_catalog."lower"('A')
--> replica read
SELECT clock_timestamp(), random(), gen_random_uuid(), timeofday()
--> replica read
SELECT pg_sleep(0.1)
--> replica read
SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn(), pg_last_xact_replay_timestamp()
--> replica read
SELECT pg_size_pretty(pg_total_relation_size('photos')), pg_database_size(current_database())
--> replica read
SELECT coalesce(a, b), nullif(a, b), greatest(1, 2), least(1, 2) FROM t
--> replica read
SELECT CASE WHEN (a) THEN (b) ELSE (c) END FROM t
--> replica read
SELECT extract(epoch FROM now()), substring(a FROM 1 FOR 3), trim(both ' ' from a), overlay(a placing 'x' from 2 for 1), position('a' in b) FROM t
--> replica read
SELECT cast(a AS numeric(10,2)), b::varchar(10), c::numeric(10, 2), d::character varying(5), e::bit varying(3), f::timestamp(3) with time zone FROM t
--> replica read
SELECT interval '1 day', interval(3) '1 second', date '2020-01-01', timestamp with time zone '2020-01-01'
--> replica read
SELECT ARRAY[1,2], ARRAY(SELECT 1), ROW(1, 2), (1, 2)
--> replica read
SELECT a[1], a[1:2], (t).b, (t.c).d FROM t
--> replica read
SELECT * FROM a JOIN b USING (id) LEFT JOIN c ON (c.id = b.id) NATURAL JOIN d CROSS JOIN e
--> replica read
SELECT * FROM a JOIN (SELECT 1 AS id) b ON (true) INNER JOIN (b JOIN c ON true) ON true
--> replica read
SELECT * FROM t WHERE a IN (1, 2) AND b = ANY ($1) AND NOT (c) AND d BETWEEN (1) AND (2) AND e LIKE ('%a') AND f ILIKE ('b') AND g NOT ILIKE ('c')
--> replica read
SELECT * FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id) OR a > ALL (SELECT 1) OR b = SOME (ARRAY[1])
--> replica read
SELECT * FROM t WHERE (a, b) OVERLAPS (c, d) OR x IS DISTINCT FROM (y) OR a SIMILAR TO ('x')
--> replica read
SELECT * FROM generate_series(1, 10) g(i), unnest(ARRAY[1,2]) WITH ORDINALITY u(a, b)
--> replica read
SELECT * FROM (VALUES (1, 2)) v(a, b), (SELECT 1) AS s(x), LATERAL (SELECT v.a) l(y)
--> replica read
SELECT * FROM ROWS FROM (generate_series(1,2), generate_series(1,3)) AS r(a, b)
--> replica read
SELECT * FROM json_to_record('{"a":1}') AS x(a int, b numeric(10,2))
--> replica read
SELECT x::geometry(Point, 4326), x::public.vector(3) FROM t
--> replica read
SELECT * FROM t TABLESAMPLE bernoulli (10) REPEATABLE (7)
--> replica read
SELECT * FROM t TABLESAMPLE SYSTEM (1)
--> replica read
SELECT row_number() OVER (PARTITION BY (a) ORDER BY (b)), sum(x) OVER w FROM t WINDOW w AS (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
--> replica read
SELECT count(*) FILTER (WHERE a > 1) OVER (PARTITION BY b), percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM t
--> replica read
SELECT last_value(x) OVER (ORDER BY y), first_value(x) OVER () FROM t
--> replica read
SELECT last_value, updated_at FROM sensors
--> replica read
SELECT a, b, sum(c) FROM t GROUP BY GROUPING SETS ((a, b), (a), ROLLUP (a, b), ()) HAVING grouping(a) = 0
--> replica read
SELECT a, b, sum(c) FROM t GROUP BY a, CUBE (a, b)
--> replica read
SELECT a FROM t GROUP BY ROLLUP (a) ORDER BY (a)
--> replica read
SELECT a OPERATOR(pg_catalog.+) b FROM t ORDER BY a USING <
--> replica read
SELECT a AT TIME ZONE ('utc'), timezone('utc', a) FROM t
--> replica read
SELECT a COLLATE "C", collation for (a) FROM t
--> replica read
SELECT a ? 'b', a ?| array['b'], a @> '{}', a #>> '{a,b}', a || b, |/ 25, @ -5, a <-> b FROM t
--> replica read
SELECT xmlelement(name a, xmlattributes(b AS c), 'd'), xmlforest(a, b), xmlconcat(a, b), xmlagg(x) FROM t
--> replica read
SELECT * FROM xmltable('/a' PASSING x COLUMNS id int PATH '@id', n numeric(10,2) PATH 'n')
--> replica read
SELECT * FROM json_table('[]'::jsonb, '$[*]' COLUMNS (id int PATH '$.id', NESTED PATH '$.x[*]' COLUMNS (y varchar(10) PATH '$.y')))
--> replica read
SELECT json_value(a, '$.b' RETURNING int), json_query(a, '$.c' WITH WRAPPER), json_exists(a, '$.d') FROM t
--> replica read
SELECT current_setting('search_path'), current_schema(), current_schemas(true), to_regclass('t')
--> replica read
SELECT current_setting('work_mem'::text, true), current_setting('app.user')
--> replica read
SELECT has_table_privilege('t', 'update'), has_table_privilege('t', 'INSERT')
--> replica read
SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'
--> replica read
SELECT attname FROM pg_attribute WHERE attrelid = 'photos'::regclass AND attnum > 0
--> replica read
SELECT t.typname, format_type(t.oid, NULL), pg_get_expr(d.adbin, d.adrelid), obj_description(c.oid) FROM pg_type t, pg_attrdef d, pg_class c
--> replica read
SELECT most_common_vals FROM pg_stats WHERE tablename = 't'
--> replica read
--- WITH.
WITH x AS (SELECT 1) SELECT * FROM x
--> replica read
WITH x AS MATERIALIZED (SELECT 1), y AS NOT MATERIALIZED (SELECT 2) SELECT * FROM x, y
--> replica read
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 100) SELECT sum(n) FROM t
--> replica read
WITH a(x, y) AS (SELECT 1, 2), b(z) AS (SELECT 3) SELECT * FROM a, b
--> replica read
WITH RECURSIVE s(a) AS (SELECT 1 UNION ALL SELECT a FROM s) SEARCH DEPTH FIRST BY a SET o CYCLE a SET c USING p SELECT * FROM s
--> replica read
SELECT * FROM (WITH q(v) AS (SELECT 1) SELECT v FROM q) s
--> replica read
WITH x AS (TABLE t) (SELECT * FROM x)
--> replica read
--- Words that write, where they are not words.
SELECT 'INSERT INTO t VALUES (1)'
--> replica read
SELECT "update", "delete", "INSERT", "into" FROM "for update"
--> replica read
SELECT t.update, t.delete FROM t
--> replica read
SELECT 1 /* ; DELETE FROM t */
--> replica read
SELECT 1 -- ; DROP TABLE t
--> replica read
SELECT $$; DELETE FROM t$$
--> replica read
SELECT $a$ $b$ nextval('s') $b$ $a$, $b$x$b$
--> replica read
SELECT E'\'; DELETE FROM t; --'
--> replica read
SELECT U&'\0041; DELETE'
--> replica read
SELECT 'a''; DELETE FROM t; --'
--> replica read
SELECT /* nested /* comments */ nextval('s') */ 1
--> replica read
SELECT E'a'
'\'; DELETE FROM t; --'
--> replica read
SELECT "a""(" FROM t
--> replica read
SELECT 'nextval(''s'')'
--> replica read
SELECT 1_000, 0x1F, 0b101, 0o17, 1e5, .5, 5., 1.5e-3
--> replica read
SELECT updated_at, deleted, inserted_by, share_count FROM t
--> replica read
--- Case and blanks.
sElEcT LOWER ( 'A' ), Count /* x */ ( * ) FrOm T
--> replica read
SELECT
		lower
('A')
--> replica read
SELECT größe, naïve FROM tést
--> replica read
--- SHOW, COPY TO STDOUT, EXPLAIN.
SHOW server_version
--> replica read
SHOW TRANSACTION ISOLATION LEVEL
--> replica read
SHOW search_path
--> replica read
COPY photos TO STDOUT
--> replica read copy
COPY public.photos (id, votes) TO STDOUT WITH (FORMAT csv, HEADER true, FORCE_QUOTE (id))
--> replica read copy
COPY (SELECT id, lower(name) FROM photos) TO STDOUT
--> replica read copy
COPY (WITH x(a) AS (SELECT 1) TABLE x) TO STDOUT (FORMAT binary)
--> replica read copy
COPY BINARY photos TO STDOUT
--> replica read copy
EXPLAIN SELECT * FROM photos
--> replica read
EXPLAIN ANALYZE SELECT * FROM photos WHERE id = 7
--> replica read
EXPLAIN ANALYZE VERBOSE SELECT count(*) FROM photos
--> replica read
EXPLAIN VERBOSE (SELECT 1)
--> replica read
EXPLAIN ANALYZE (SELECT 1)
--> replica read
EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT 1
--> replica read
EXPLAIN (ANALYZE off) TABLE photos
--> replica read
EXPLAIN (SELECT 1)
--> replica read
EXPLAIN ((SELECT 1) UNION (SELECT 2))
--> replica read
EXPLAIN (COSTS false) WITH x AS (SELECT 1) SELECT * FROM x
--> replica read
--- Syntax that sqlparser does not know: the scan's word stands.
SELECT FROM t
--> replica read
SELECT (f).* FROM (SELECT ROW(1, 2) AS f) s
--> replica read
SELECT max(VARIADIC ARRAY[1])
--> replica read
SELECT concat(VARIADIC ARRAY['a','b'])
--> replica read
SELECT sum(x) OVER (ORDER BY y GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE TIES) FROM t
--> replica read
SELECT a *< b, a === b, a <% b FROM t
--> replica read
SELECT * FROM t* WHERE a ISNULL
--> replica read
SELECT a::text COLLATE "C" FROM t
--> replica read
SELECT * FROM a JOIN b USING (id) AS j
--> replica read
SELECT a BETWEEN SYMMETRIC 1 AND 2 FROM t
--> replica read
SELECT * FROM ONLY (t)
--> replica read
SELECT 'a' 'b', xid8 '12'
--> replica read
--- Frameworks.
SELECT "django_session"."session_key", "django_session"."expire_date" FROM "django_session" WHERE ("django_session"."expire_date" > '2024-01-01T00:00:00+00:00'::timestamptz AND "django_session"."session_key" = 'abc') LIMIT 21
--> replica read
SELECT "users".* FROM "users" WHERE "users"."id" = $1 LIMIT $2 /*application:Shop,controller:users*/
--> replica read
SELECT COUNT(*) AS count_all, DATE_TRUNC('day', "o"."created_at") FROM "orders" "o" GROUP BY DATE_TRUNC('day', "o"."created_at")
--> replica read
SELECT t0."Id", t0."Name", EXISTS (SELECT 1 FROM "Blogs" AS b WHERE b."Id" = t0."Id") FROM "Posts" AS t0 WHERE t0."Name" = @p
--> replica read
SELECT json_agg(row_to_json(t)), jsonb_build_object('a', 1), array_agg(x ORDER BY y), string_agg(a, ',') FROM t
--> replica read
SELECT ts_rank(v, q), ts_headline(d, q) FROM docs, to_tsquery('a & b') q WHERE v @@ q
--> replica read
BEGIN READ ONLY
--> replica begin_read_only transaction
BEGIN TRANSACTION READ ONLY
--> replica begin_read_only transaction
START TRANSACTION READ ONLY
--> replica begin_read_only transaction
START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY
--> replica begin_read_only transaction
BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY NOT DEFERRABLE
--> replica begin_read_only transaction
BEGIN WORK READ ONLY;
--> replica begin_read_only transaction

--- SQL's functions without parentheses.
SELECT current_date, current_time, current_timestamp(0), localtime, localtimestamp
--> replica read
SELECT * FROM t WHERE a >= current_date AND b = current_user AND c = session_user OR user = current_role
--> replica read
SELECT current_catalog, current_schema
--> replica read
WITH RECURSIVE n(n) AS (SELECT (VALUES(1)) UNION ALL SELECT n + 1 FROM n WHERE n < 5) SELECT * FROM n
--> replica read

--- What could be taken for a write.
SELECT 'FOR UPDATE', "update", $$DELETE$$, E'\'; DELETE' AS x FROM (SELECT 1 AS "update") s
--> replica read
SELECT a /* FOR UPDATE */ FROM t -- INTO x
--> replica read
SELECT $tag$ nextval('s'); DELETE FROM t; $tag$
--> replica read
SELECT 'a'
 'b; nextval(1)'
--> replica read
SELECT t.a AS "into" FROM t
--> replica read
EXPLAIN (ANALYZE) SELECT * FROM t
--> replica read
EXPLAIN (ANALYZE off) SELECT * FROM t
--> replica read
EXPLAIN (VERBOSE) (SELECT 1)
--> replica read
COPY (SELECT 'INSERT INTO t', * FROM t) TO STDOUT (FORMAT csv)
--> replica read copy
COPY (TABLE t) TO STDOUT
--> replica read copy
WITH x AS (SELECT 1 AS a), y AS NOT MATERIALIZED (SELECT 2 AS b) SELECT * FROM x, y
--> replica read
SELECT 1; SHOW work_mem; VALUES (2); TABLE t
--> replica read
SELECT U&'d\0061t\+000061'
--> replica read
SELECT substring('abc' FROM 1 FOR 2), overlay('abc' placing 'x' from 1 for 1)
--> replica read
