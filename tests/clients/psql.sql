SET client_min_messages = error;
DROP TABLE IF EXISTS :table;
CREATE TABLE :table (id int PRIMARY KEY, name text);
INSERT INTO :table SELECT n, 'n' || n FROM generate_series(1, 300) n;
SELECT count(*) AS many, max(id) AS most FROM :table \gset
\echo :many :most
\if :{?many}
SELECT name FROM :table WHERE id = :most;
\else
SELECT 'not here';
\endif
SELECT $1::int + $2 AS bound \bind 3 4 \g
SELECT name FROM :table WHERE id = $1 \bind 7 \g
SELECT 1 / $1::int \bind 0 \g
SELECT id FROM :table WHERE id < 4 ORDER BY id \gdesc
SELECT 'SELECT ' || id FROM :table WHERE id < 4 ORDER BY id \gexec
CREATE TEMP TABLE copied AS TABLE :table;
\copy copied to 'out'
\copy copied from 'out'
SELECT count(*), count(DISTINCT id) FROM copied;
DROP TABLE copied;
\set FETCH_COUNT 50
SELECT sum(id) FROM :table;
SELECT id FROM :table ORDER BY id;
SELECT 1 / (120 - id) FROM :table ORDER BY id;
\unset FETCH_COUNT
\set AUTOCOMMIT off
UPDATE :table SET name = 'lost' WHERE id = 1;
ROLLBACK;
\set ON_ERROR_ROLLBACK on
UPDATE :table SET name = 'kept' WHERE id = 2;
INSERT INTO :table VALUES (2, 'again');
SELECT 1 / 0;
SELECT name FROM :table WHERE id < 3 ORDER BY id;
COMMIT;
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT on
SELECT name FROM :table WHERE id < 3 ORDER BY id;
\d :table
SELECT 'round' AS watched \watch c=3 i=0.01
SELECT 1 AS one \; SELECT 2 AS two \; SELECT 3 AS three;
\set SHOW_ALL_RESULTS off
SELECT 1 AS one \; SELECT 2 AS two;
\set SHOW_ALL_RESULTS on
SELECT 'what is imported' \g large
\lo_import large 'comment'
SELECT :LASTOID > 0 AS imported;
\lo_export :LASTOID exported
\lo_unlink :LASTOID
\! cmp large exported && echo the same
SELECT name FROM :table WHERE id = $1 \parse by_id
\bind_named by_id 8 \g
\bind_named by_id 9 \g
\close_prepared by_id
\bind_named by_id 10 \g
\startpipeline
SELECT $1::int AS first \bind 1 \sendpipeline
INSERT INTO :table VALUES ($1, 'sent') RETURNING id \bind 1000 \sendpipeline
\syncpipeline
INSERT INTO :table VALUES ($1, 'gone') \bind 1001 \sendpipeline
SELECT 1 / $1::int \bind 0 \sendpipeline
SELECT 'never' \bind \sendpipeline
\syncpipeline
SELECT name FROM :table WHERE id = $1 \parse named
\bind_named named 1000 \sendpipeline
\flushrequest
\getresults
\close_prepared named
SELECT count(*) FROM :table \bind \sendpipeline
\endpipeline
\echo :PIPELINE_SYNC_COUNT
BEGIN;
\startpipeline
INSERT INTO :table VALUES ($1, 'kept') \bind 1002 \sendpipeline
\endpipeline
COMMIT;
SELECT name FROM :table WHERE id >= 1000 ORDER BY id;
DROP TABLE :table;
