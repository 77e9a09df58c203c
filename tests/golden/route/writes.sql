--- Statements that write, lock, define, or cannot be seen through. None may go to a replica.

INSERT INTO t VALUES (1)
--> primary write
insert into t default values returning id
--> primary write
UPDATE photos SET votes = votes + 1 WHERE id = 7
--> primary write
DELETE FROM t WHERE false
--> primary write
MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET a = 1
--> primary write
TRUNCATE t
--> primary write
WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x
--> primary write
WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x
--> primary write
WITH x AS (DELETE FROM t RETURNING *) SELECT count(*) FROM x
--> primary write
WITH x AS (MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE RETURNING *) TABLE x
--> primary write
WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x
--> primary write
WITH x AS (SELECT 1) UPDATE t SET a = 1
--> primary write
WITH x AS (SELECT 1) DELETE FROM t
--> primary write
SELECT * FROM (WITH d AS (DELETE FROM t RETURNING 1) SELECT 1) s
--> primary write
WITH a AS (WITH b AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT * FROM b) SELECT * FROM a
--> primary write
SELECT 1 WHERE EXISTS (WITH x AS (/**/UpDaTe t SET a=1 RETURNING 1) SELECT 1 FROM x)
--> primary write
SELECT 1UPDATE
--> primary write
SELECT * INTO newt FROM t
--> primary into
SELECT INTO newt FROM t
--> primary into
SELECT a INTO TABLE newt FROM t
--> primary into
SELECT a INTO UNLOGGED newt FROM t
--> primary into
SELECT 1INTO newt
--> primary into
WITH x AS (SELECT 1) SELECT * INTO newt FROM x
--> primary into
SELECT * FROM t FOR UPDATE
--> primary lock
SELECT * FROM t FOR NO KEY UPDATE
--> primary lock
SELECT * FROM t FOR SHARE
--> primary lock
SELECT * FROM t FOR KEY SHARE
--> primary lock
SELECT * FROM t FOR UPDATE OF t NOWAIT
--> primary lock
SELECT * FROM t for/**/update SKIP LOCKED
--> primary lock
SELECT * FROM t FOR
NO -- x
KEY UPDATE SKIP LOCKED
--> primary lock
SELECT * FROM (SELECT * FROM t FOR SHARE) s
--> primary lock
WITH x AS (SELECT * FROM t FOR UPDATE) SELECT * FROM x
--> primary lock
(SELECT * FROM t) FOR UPDATE
--> primary lock
SELECT 1 FOR UPDATE
--> primary lock
SELECT * FROM t WHERE id = 1 LIMIT 1 FOR UPDATE
--> primary lock
TABLE t FOR SHARE
--> primary lock
SELECT * FROM t WHERE id IN (SELECT id FROM u FOR KEY SHARE)
--> primary lock
SELECT "id" FROM "jobs" WHERE "done" = false ORDER BY "id" LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
--> primary lock
CREATE TABLE t (id int)
--> primary ddl
CREATE TABLE t AS SELECT 1
--> primary ddl
CREATE UNLOGGED TABLE t (id int)
--> primary ddl
CREATE TABLE temp (id int)
--> primary ddl
CREATE INDEX CONCURRENTLY i ON t (a)
--> primary ddl
CREATE VIEW v AS SELECT 1
--> primary ddl
CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; DELETE FROM t $$
--> primary ddl
CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END
--> primary ddl
CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM u; DELETE FROM w)
--> primary ddl
CREATE EXTENSION hstore
--> primary ddl
ALTER TABLE t ADD COLUMN a int
--> primary ddl
ALTER SYSTEM SET work_mem = '1MB'
--> primary maintenance silent
ALTER ROLE a SET work_mem = '1MB'
--> primary ddl
DROP TABLE t
--> primary ddl
GRANT SELECT ON t TO a
--> primary ddl
REVOKE ALL ON t FROM a
--> primary ddl
COMMENT ON TABLE t IS 'x'
--> primary ddl
SECURITY LABEL ON TABLE t IS 'x'
--> primary ddl
REASSIGN OWNED BY a TO b
--> primary ddl
IMPORT FOREIGN SCHEMA s FROM SERVER f INTO p
--> primary ddl
VACUUM
--> primary maintenance
VACUUM (ANALYZE) t
--> primary maintenance
ANALYZE t
--> primary maintenance
ANALYSE
--> primary maintenance
REINDEX TABLE t
--> primary maintenance
CLUSTER t
--> primary maintenance
REFRESH MATERIALIZED VIEW m
--> primary maintenance
CHECKPOINT
--> primary maintenance silent
LOCK TABLE t IN ACCESS SHARE MODE
--> primary lock silent
LOCK t
--> primary lock silent
DO $$ BEGIN END $$
--> primary do pins silent
DO LANGUAGE plpgsql 'BEGIN INSERT INTO t VALUES (1); END'
--> primary do pins silent
CALL p(1)
--> primary call pins silent
NOTIFY c, 'x'
--> primary notify
EXECUTE p(1)
--> primary execute pins
COPY t FROM STDIN
--> primary copy_in copy
COPY t (a, b) FROM STDIN WITH (FORMAT csv)
--> primary copy_in copy
COPY t FROM '/tmp/x'
--> primary copy_in copy
COPY t FROM PROGRAM 'ls'
--> primary copy_in copy
COPY t TO '/tmp/x'
--> primary copy_server silent copy
COPY t TO PROGRAM 'cat'
--> primary copy_server silent copy
COPY (SELECT 1) TO PROGRAM 'sh'
--> primary copy_server silent copy
COPY (SELECT 1) TO '/tmp/x' WITH (FORMAT csv)
--> primary copy_server silent copy
COPY (INSERT INTO t VALUES (1) RETURNING *) TO STDOUT
--> primary write copy
COPY (DELETE FROM t RETURNING *) TO STDOUT
--> primary write copy
COPY (SELECT nextval('s')) TO STDOUT
--> primary primary_function copy
COPY (SELECT * FROM t FOR UPDATE) TO STDOUT
--> primary lock copy
COPY "to" FROM STDIN
--> primary copy_in copy
EXPLAIN ANALYZE INSERT INTO t VALUES (1)
--> primary write
EXPLAIN (ANALYZE) DELETE FROM t
--> primary write
EXPLAIN (ANALYZE false, ANALYZE true) UPDATE t SET a = 1
--> primary write
EXPLAIN (ANALYZE, BUFFERS) WITH x AS (DELETE FROM t RETURNING 1) SELECT * FROM x
--> primary write
EXPLAIN ANALYZE SELECT nextval('s')
--> primary primary_function
EXPLAIN ANALYZE SELECT * FROM t FOR UPDATE
--> primary lock
EXPLAIN EXECUTE p
--> primary execute
EXPLAIN ANALYZE EXECUTE p(1)
--> primary execute pins
EXPLAIN DECLARE c CURSOR FOR SELECT 1
--> primary unknown_statement
EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1
--> primary unknown_statement silent
EXPLAIN (ANALYZE) REFRESH MATERIALIZED VIEW m
--> primary unknown_statement silent
EXPLAIN BEGIN READ ONLY
--> primary unknown_statement
EXPLAIN EXPLAIN SELECT 1
--> primary unknown_statement
EXPLAIN SHOW work_mem
--> primary unknown_statement
EXPLAIN ANALYZE SELECT * INTO newt FROM t
--> primary into
--- Several statements.
SELECT 1; INSERT INTO t VALUES (1)
--> primary multi_statement_write
INSERT INTO t VALUES (1); SELECT 1
--> primary multi_statement_write
SELECT 1; SELECT nextval('s')
--> primary multi_statement_write
SELECT 1;; DROP TABLE t;
--> primary multi_statement_write
SELECT $1; SELECT 2; LOCK t
--> primary multi_statement_write silent
SELECT 1; nonsense
--> primary multi_statement_write silent
--- Nonsense.
nonsense
--> primary unknown_statement silent
SELECTED 1
--> primary unknown_statement silent
42
--> primary unknown_statement silent
'SELECT 1'
--> primary unknown_statement silent
"SELECT" 1
--> primary unknown_statement silent
(INSERT INTO t VALUES (1))
--> primary unknown_statement silent
(SHOW work_mem)
--> primary unknown_statement silent
(BEGIN READ ONLY)
--> primary unknown_statement silent
( )
--> primary unknown_statement silent
WITH x AS (SELECT 1) nonsense; TRUNCATE t
--> primary multi_statement_write
START REPLICATION SLOT s LOGICAL 0/0
--> primary unknown_statement silent
IDENTIFY_SYSTEM
--> primary unknown_statement silent
