--- What could be taken for a read. None may go to a replica.

SELECT pg_advisory_lock_shared(1)
--> primary advisory_lock pins silent
SELECT pg_try_advisory_lock(1, 2)
--> primary advisory_lock pins silent
SELECT pg_try_advisory_lock_shared(1)
--> primary advisory_lock pins silent
SELECT pg_advisory_xact_lock_shared(1)
--> primary advisory_lock silent
SELECT pg_try_advisory_xact_lock(1)
--> primary advisory_lock silent
SELECT pg_advisory_unlock_shared(1)
--> primary advisory_lock silent
SELECT id FROM t WHERE pg_try_advisory_lock(id)
--> primary advisory_lock pins silent
SELECT CASE WHEN false THEN pg_advisory_lock(1) END
--> primary advisory_lock pins silent
SELECT (SELECT id FROM t LIMIT 1 FOR UPDATE)
--> primary lock
SELECT * FROM (SELECT * FROM t FOR SHARE) s
--> primary lock
WITH x AS (SELECT * FROM t FOR NO KEY UPDATE) SELECT * FROM x
--> primary lock
WITH RECURSIVE x AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM x WHERE a < 3) SELECT * FROM t, x FOR UPDATE OF t
--> primary lock
(SELECT * FROM t FOR KEY SHARE) UNION ALL (SELECT * FROM t)
--> primary lock
SELECT * FROM t WHERE id IN (SELECT id FROM t FOR UPDATE SKIP LOCKED)
--> primary lock
SELECT * FROM t FOR/* */UPDATE
--> primary lock
SELECT * FROM t FOR -- x
 SHARE
--> primary lock
SELECT * FROM t fOr NO kEy uPdAtE
--> primary lock
SELECT 'it''s' FROM t FOR UPDATE
--> primary lock
SELECT $tag$ ' $tag$, $$ " $$ FROM t FOR UPDATE
--> primary lock
SELECT E'\\' FROM t FOR UPDATE -- '
--> primary lock
SELECT E'\'', nextval('s') -- '
--> primary primary_function
SELECT 'a\', nextval('s')
--> primary primary_function
SELECT U&'d\0061t' FROM t FOR UPDATE
--> primary lock
SELECT U&"d!0061t" UESCAPE '!' FROM t
--> primary unicode_name silent
SELECT U&"nextv!0061l" UESCAPE '!' ('s')
--> primary unicode_name silent
SELECT "a""b", nextval('s')
--> primary primary_function
SELECT /* /* nested */ */ nextval('s')
--> primary primary_function
SELECT $a$ $b$ $a$, setval('s', 1) -- $b$
--> primary primary_function
SELECT 'a' -- '
 'b', setval('s', 1)
--> primary primary_function
SELECT B'1', X'1F', N'x', nextval('s')
--> primary primary_function
SELECT 1, nextval ( 's' )
--> primary primary_function
SELECT pg_catalog . nextval('s')
--> primary primary_function
SELECT "pg_catalog" . "setval" ('s', 1)
--> primary primary_function
SELECT 1_000$$, nextval('s'), 1_0$$
--> primary unterminated
SELECT * INTO TEMP x FROM t
--> primary temporary pins
SELECT * INTO TEMPORARY TABLE x FROM t
--> primary temporary pins
SELECT * INTO UNLOGGED x FROM t
--> primary into
SELECT INTO x FROM t
--> primary into
WITH x AS (SELECT 1) SELECT * INTO y FROM x
--> primary into
(SELECT 1 INTO x)
--> primary into
EXPLAIN (ANALYZE) SELECT * INTO x FROM t
--> primary into
EXPLAIN ANALYZE VERBOSE DELETE FROM t
--> primary write
EXPLAIN (VERBOSE, ANALYZE true) INSERT INTO t VALUES (1)
--> primary write
EXPLAIN (ANALYZE off, ANALYZE on) UPDATE t SET a = 1
--> primary write
EXPLAIN (ANALYZE, COSTS off) CREATE TABLE x AS SELECT 1
--> primary unknown_statement silent
EXPLAIN ANALYZE EXECUTE p(1)
--> primary execute pins
EXPLAIN ANALYZE SELECT nextval('s')
--> primary primary_function
EXPLAIN (FORMAT json, ANALYZE 1) WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x
--> primary write
EXPLAIN ANALYZE DECLARE c CURSOR FOR SELECT 1
--> primary unknown_statement silent
EXPLAIN ANALYZE SELECT * FROM t FOR UPDATE
--> primary lock
COPY (DELETE FROM t RETURNING *) TO STDOUT
--> primary write copy
COPY (SELECT nextval('s')) TO STDOUT
--> primary primary_function copy
COPY (SELECT * FROM t FOR UPDATE) TO STDOUT
--> primary lock copy
COPY (WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x) TO STDOUT WITH (FORMAT csv)
--> primary write copy
COPY BINARY t FROM STDIN
--> primary copy_in copy
COPY t (a, b) FROM STDIN WITH (FORMAT text)
--> primary copy_in copy
PREPARE p (int) AS SELECT * FROM t WHERE id = $1
--> primary prepare pins silent
PREPARE p AS WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x
--> primary prepare pins silent
DECLARE c CURSOR FOR SELECT * FROM t
--> primary cursor
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT * FROM t FOR UPDATE
--> primary cursor pins silent
DECLARE c CURSOR FOR SELECT nextval('s')
--> primary primary_function
SELECT 1; SELECT nextval('s')
--> primary multi_statement_write
SELECT 1; ; SELECT 2 FOR UPDATE
--> primary multi_statement_write
SELECT 1; SET work_mem = '1MB'; SELECT 2
--> primary session pins silent
SELECT 1; BEGIN; SELECT 2; COMMIT
--> primary begin transaction
BEGIN READ ONLY; SELECT nextval('s'); COMMIT
--> primary multi_statement_write transaction
SHOW work_mem; RESET work_mem
--> primary session pins silent
SELECT * FROM pg_temp.x
--> primary temporary
SELECT set_config('work_mem', '1MB', true)
--> primary transaction_control
SELECT set_config('work_mem', '1MB', false)
--> primary session pins silent
SELECT t.a, currval(pg_get_serial_sequence('t', 'id')) FROM t
--> primary primary_function
SELECT lo_get(1), lo_put(1, 0, 'x')
--> primary volatile_function silent
SELECT dblink_exec('x', 'DELETE FROM t'), dblink('x', 'SELECT 1')
--> primary unknown_function
SELECT query_to_xml('DELETE FROM t', true, true, '')
--> primary query_text
SELECT pg_export_snapshot(), 1
--> primary volatile_function silent
VALUES (nextval('s'))
--> primary primary_function
TABLE t FOR UPDATE
--> primary lock
SELECT * FROM t LIMIT 1 OFFSET (SELECT nextval('s'))
--> primary primary_function
SELECT sum(a) FILTER (WHERE nextval('s') > 0) FROM t
--> primary primary_function
SELECT sum(a) OVER (ORDER BY nextval('s')) FROM t
--> primary primary_function
SELECT * FROM t ORDER BY nextval('s')
--> primary primary_function
SELECT * FROM t GROUP BY a, nextval('s')
--> primary primary_function
SELECT ARRAY(SELECT nextval('s'))
--> primary primary_function
SELECT ROW(nextval('s')), (1, setval('s', 1))
--> primary primary_function
SELECT ARRAY[nextval('s')]::int[]
--> primary primary_function
SELECT (nextval('s'))::text
--> primary primary_function
SELECT CAST(nextval('s') AS text)
--> primary primary_function
SELECT DISTINCT ON (nextval('s')) a FROM t
--> primary primary_function
SELECT 1 OPERATOR(pg_catalog.+) nextval('s')
--> primary primary_function
SELECT * FROM generate_series(1, nextval('s'))
--> primary primary_function
SELECT * FROM t JOIN t u ON t.id = nextval('s')
--> primary primary_function
SELECT * FROM t TABLESAMPLE SYSTEM (nextval('s'))
--> primary primary_function
SELECT COALESCE(NULL, nextval('s')), GREATEST(1, nextval('s'))
--> primary primary_function
MERGE INTO t USING (SELECT 1 AS a) u ON t.a = u.a WHEN NOT MATCHED THEN DO NOTHING
--> primary write
WITH x AS MATERIALIZED (SELECT 1) MERGE INTO t USING x ON true WHEN MATCHED THEN DO NOTHING
--> primary write
NOTIFY x, 'SELECT 1'
--> primary notify
UNLISTEN *
--> primary listen pins silent
DISCARD PLANS
--> primary session pins silent
LOCK t IN ACCESS SHARE MODE
--> primary lock silent
ROLLBACK PREPARED 'x'
--> primary two_phase transaction
CREATE LOCAL TEMP TABLE x (a int)
--> primary temporary pins
CREATE OR REPLACE TEMP VIEW x AS SELECT 1
--> primary temporary pins
CREATE VIEW pg_temp.x AS SELECT 1
--> primary temporary pins
ALTER TABLE t ADD COLUMN z int
--> primary ddl
