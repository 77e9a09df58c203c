--- What applications, frameworks and monitoring send. As in tests/golden/route, but what is expected is what `pgweir route`
--- says; here the line only ends the statement.
SELECT p.id, p.title, count(v.id) AS n FROM photos p LEFT JOIN votes v ON v.photo_id = p.id GROUP BY p.id, p.title ORDER BY n DESC LIMIT 10
--> replica
SELECT "photos".* FROM "photos" WHERE "photos"."id" = $1 LIMIT $2
--> replica
SELECT 1 AS one FROM "photos" WHERE "photos"."title" = 'x' LIMIT 1
--> replica
SELECT photos.id AS photos_id FROM photos WHERE photos.id IN (1, 2, 3) ORDER BY photos.id
--> replica
SELECT "t0"."id", "t0"."title" FROM "public"."photos" AS "t0" WHERE ("t0"."votes" > $1 AND 1=1) ORDER BY "t0"."id" ASC OFFSET $2
--> replica
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 10) SELECT sum(n) FROM r
--> replica
SELECT row_number() OVER (PARTITION BY owner ORDER BY votes DESC), rank() OVER w FROM photos WINDOW w AS (ORDER BY votes)
--> replica
SELECT jsonb_agg(to_jsonb(p)) FROM photos p
--> replica
SELECT p.doc->>'a', p.doc #> '{a,b}', p.doc @> '{"a": 1}' FROM photos p WHERE p.doc ? 'a'
--> replica
SELECT * FROM photos TABLESAMPLE SYSTEM (10) REPEATABLE (1)
--> replica
SELECT * FROM photos, LATERAL (SELECT count(*) FROM votes v WHERE v.photo_id = photos.id) c
--> replica
SELECT owner, sum(votes) FROM photos GROUP BY GROUPING SETS ((owner), ())
--> replica
SELECT owner, sum(votes) FROM photos GROUP BY ROLLUP (owner)
--> replica
SELECT title FROM photos WHERE title ILIKE '%PHOTO%' AND title ~* 'p' AND NOT title SIMILAR TO 'x%'
--> replica
SELECT to_tsvector('english', title) @@ to_tsquery('photo & 1'), ts_headline(title, to_tsquery('photo')) FROM photos
--> replica
SELECT date_trunc('day', taken_at), extract(epoch FROM taken_at), age(taken_at) FROM photos
--> replica
SELECT generate_series('2024-01-01'::timestamp, '2024-01-03', '1 day')
--> replica
SELECT CASE WHEN votes > 3 THEN 'hot' ELSE 'cold' END, coalesce(owner, 'x'), nullif(votes, 0), greatest(1, votes) FROM photos
--> replica
SELECT array_agg(id ORDER BY id), string_agg(title, ', '), bool_and(votes > 0), percentile_cont(0.5) WITHIN GROUP (ORDER BY votes) FROM photos
--> replica
SELECT encode(sha256('x'), 'hex'), md5('x'), gen_random_uuid(), random(), now(), clock_timestamp()
--> replica
(SELECT id FROM photos EXCEPT SELECT photo_id FROM votes) INTERSECT SELECT 2 ORDER BY 1
--> replica
SELECT * FROM hot
--> replica
SELECT count(*) FROM tally
--> replica
EXPLAIN SELECT * FROM photos
--> replica
EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT * FROM photos WHERE id = 7
--> replica
COPY photos TO STDOUT
--> replica
COPY (SELECT id, title FROM photos) TO STDOUT WITH (FORMAT csv, HEADER)
--> replica
SELECT c.relname, c.relkind, pg_get_userbyid(c.relowner), pg_table_is_visible(c.oid) FROM pg_catalog.pg_class c LIMIT 3
--> replica
SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum) FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attrelid = 'photos'::regclass AND a.attnum > 0
--> replica
SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'
--> replica
SELECT tc.constraint_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage k USING (constraint_name) WHERE tc.table_name = 'photos'
--> replica
SELECT t.oid, typname, typelem, typdelim, typinput, r.rngsubtype, typtype, typbasetype FROM pg_type t LEFT JOIN pg_range r ON t.oid = r.rngtypid WHERE t.typname IN ('int2', 'int4') OR t.typtype IN ('r', 'e', 'd')
--> replica
SELECT current_schema(), current_schemas(true), current_database(), session_user, version(), pg_backend_pid() > 0
--> replica
SHOW server_version
--> replica
SHOW transaction_read_only
--> replica
SHOW search_path
--> replica
SELECT pg_is_in_recovery()
--> replica
SELECT pg_last_wal_replay_lsn(), pg_last_xact_replay_timestamp()
--> replica
SELECT pg_current_wal_lsn()
--> primary
SELECT txid_current()
--> primary
SELECT pg_current_xact_id_if_assigned(), txid_current_if_assigned()
--> primary
SELECT pg_export_snapshot()
--> primary
SELECT pg_snapshot_xmin(pg_current_snapshot())
--> replica
SELECT pg_relation_size('photos'), pg_size_pretty(pg_total_relation_size('photos'))
--> replica
SELECT * FROM pg_stat_activity
--> primary
SELECT * FROM pg_stat_user_tables WHERE relname = 'photos'
--> primary
SELECT * FROM pg_locks LIMIT 1
--> primary
SELECT * FROM pg_stat_replication
--> primary
SELECT * FROM pg_sequences
--> primary
SELECT last_value FROM photos_id_seq
--> primary
SELECT obj_description('photos'::regclass), has_table_privilege('photos', 'select'), to_regclass('nothing')
--> replica
SELECT xmlelement(name a, 1), xmlforest(1 AS a)
--> replica
SELECT lo_get(1)
--> replica
SELECT lo_create(0)
--> primary
SELECT set_config('work_mem', '8MB', false)
--> primary
SELECT count(*) FROM photos FOR UPDATE
--> primary
SELECT * FROM photos WHERE id = 1 FOR NO KEY UPDATE SKIP LOCKED
--> primary
SELECT my_read(1)
--> primary
SELECT pg_try_advisory_xact_lock(1)
--> primary
SELECT dblink_exec('x')
--> primary
SELECT query_to_xml('SELECT 1', true, false, '')
--> primary
SELECT ts_stat('SELECT to_tsvector(title) FROM photos')
--> primary
INSERT INTO votes (photo_id) VALUES (1) ON CONFLICT DO NOTHING RETURNING id
--> primary
UPDATE photos SET votes = votes + 1 WHERE id = 7
--> primary
WITH moved AS (DELETE FROM votes WHERE id < 0 RETURNING *) SELECT count(*) FROM moved
--> primary
SELECT * FROM photos; UPDATE photos SET votes = 0 WHERE id < 0
--> primary
BEGIN; SELECT 1; COMMIT
--> primary
SELECT 1; SELECT count(*) FROM photos
--> replica
BEGIN READ ONLY
--> replica
START TRANSACTION READ ONLY
--> replica
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY
--> replica
BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE
--> primary
PREPARE TRANSACTION 'x'
--> primary
PREPARE p AS SELECT 1
--> primary
DECLARE c CURSOR WITH HOLD FOR SELECT 1
--> primary
COPY votes FROM STDIN
--> primary
CREATE TEMP TABLE tmp AS SELECT 1
--> primary
DO $$ BEGIN PERFORM 1; END $$
--> primary
NOTIFY channel, 'x'
--> primary
DISCARD ALL
--> primary
SET work_mem = '8MB'
--> primary
RESET ALL
--> primary
ANALYZE photos
--> primary
VACUUM photos
--> primary
EXPLAIN ANALYZE UPDATE photos SET votes = 0 WHERE id < 0
--> primary
SELECT nextval('photos_id_seq')
--> primary
