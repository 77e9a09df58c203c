\timing off
\set name 'photo 7'
\set least 5
SELECT id, title FROM photos WHERE title = :'name' AND votes > :least;
SELECT :'least' AS :"name";
SELECT count(*) AS many, min(id) AS least_id FROM photos \gset got_
\echo :got_many :got_least_id
SELECT format('SELECT %s AS n, count(*) FROM photos WHERE votes = %s', n, n) FROM generate_series(1, 4) n \gexec
SELECT format('CREATE TABLE made_%s (id int)', n) FROM generate_series(1, 3) n \gexec
SELECT format('INSERT INTO made_%s VALUES (%s)', n, n) FROM generate_series(1, 3) n \gexec
SELECT format('DROP TABLE made_%s', n) FROM generate_series(1, 3) n \gexec
\if :{?got_many}
    SELECT 'yes' AS conditional;
\else
    SELECT 'no' AS conditional;
\endif
\i INCLUDED
SELECT 1 AS a \; SELECT 2 AS b \; SELECT 3 AS c;
SELECT 1 AS one \g
SELECT 1/0;
\echo :SQLSTATE :ERROR :LAST_ERROR_MESSAGE
SELECT nothing_like_this();
\echo :SQLSTATE
SELEC 1;
\echo :SQLSTATE
BEGIN;
SELECT 1/0;
SELECT 1;
COMMIT;
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO notes VALUES (50, 'kept');
SELECT 1/0;
SELECT count(*) FROM notes WHERE id = 50;
ROLLBACK;
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT off
INSERT INTO notes VALUES (51, 'dropped');
ROLLBACK;
SELECT count(*) FROM notes WHERE id = 51;
COMMIT;
\set AUTOCOMMIT on
\set FETCH_COUNT 7
SELECT id, votes FROM photos ORDER BY id LIMIT 20;
\unset FETCH_COUNT
PREPARE find (int) AS SELECT title FROM photos WHERE id = $1;
EXECUTE find (7);
EXECUTE find (8);
DEALLOCATE find;
SET work_mem = '9MB';
SHOW work_mem;
RESET work_mem;
SET search_path = other, public;
\dt
RESET search_path;
CREATE TEMP TABLE mine AS SELECT 1 AS id;
TABLE mine;
DROP TABLE mine;
DECLARE c CURSOR WITH HOLD FOR SELECT id FROM photos ORDER BY id LIMIT 3;
FETCH 2 FROM c;
FETCH ALL FROM c;
CLOSE c;
LISTEN channel;
UNLISTEN *;
SET ROLE reader;
SELECT current_user, session_user;
SELECT * FROM notes;
RESET ROLE;
SELECT current_user;
INSERT INTO notes VALUES (60, 'sixty') RETURNING *;
UPDATE notes SET note = 'changed' WHERE id = 60 RETURNING note;
DELETE FROM notes WHERE id = 60;
DO $$ BEGIN RAISE NOTICE 'noticed'; END $$;
CALL tidy(5);
EXPLAIN (COSTS OFF) SELECT * FROM photos WHERE id = 1;
SELECT E'a\tb' AS "tab", repeat('x', 200000) = repeat('x', 200000) AS same;
\pset format unaligned
\pset null (null)
SELECT NULL AS nothing, ARRAY[1,2,NULL] AS some, ROW(1,'x') AS rec, '{"a": 1}'::jsonb AS j;
\g
\encoding LATIN1
SELECT 'abc' AS latin;
\encoding UTF8
VACUUM notes;
ANALYZE notes;
\lo_list
\x auto
SELECT 1 AS x;
\q
