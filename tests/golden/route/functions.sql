--- Calls. None may go to a replica: those functions write, lock, answer for one server, run SQL given as text, or are unknown.

SELECT nextval('s')
--> primary primary_function
SELECT NEXTVAL('s')
--> primary primary_function
SELECT pg_catalog.nextval('s')
--> primary primary_function
SELECT "nextval"('s')
--> primary primary_function
SELECT "pg_catalog"."nextval"('s')
--> primary primary_function
SELECT nextval /* x */ -- y
 ('s')
--> primary primary_function
SELECT U&"next\0076al"('s')
--> primary unicode_name silent
SELECT setval('s', 1)
--> primary primary_function
SELECT currval('s')
--> primary primary_function
SELECT lastval()
--> primary primary_function
SELECT * FROM nextval('s')
--> primary primary_function
SELECT * FROM t, LATERAL nextval('s') n
--> primary primary_function
SELECT * FROM ROWS FROM (nextval('s')) AS r(a)
--> primary primary_function
SELECT * FROM t WHERE id = nextval('s')
--> primary primary_function
SELECT * FROM t ORDER BY nextval('s')
--> primary primary_function
SELECT * FROM t GROUP BY nextval('s')
--> primary primary_function
SELECT count(*) FILTER (WHERE nextval('s') > 1) FROM t
--> primary primary_function
SELECT sum(x) OVER (ORDER BY nextval('s')) FROM t
--> primary primary_function
SELECT * FROM t LIMIT nextval('s')
--> primary primary_function
SELECT CASE WHEN true THEN nextval('s') END
--> primary primary_function
SELECT ARRAY[nextval('s')], ROW(nextval('s'))
--> primary primary_function
SELECT coalesce(nextval('s'), 1)
--> primary primary_function
VALUES (nextval('s'))
--> primary primary_function
SELECT * FROM (VALUES (nextval('s'))) v(a)
--> primary primary_function
WITH x AS (SELECT nextval('s')) SELECT * FROM x
--> primary primary_function
SELECT DISTINCT ON (a) nextval('s') FROM t
--> primary primary_function
SELECT DISTINCT ON (a) my_write(b) FROM t
--> primary unknown_function
SELECT DISTINCT ON ((a)) my_write(b) FROM t
--> primary unknown_function
SELECT a OPERATOR(pg_catalog.+) my_write(b) FROM t
--> primary unknown_function
SELECT 1 FROM (SELECT 1) my_alias(a) WHERE my_write(a)
--> primary unknown_function
SELECT x::timestamp with time zone, my_write(y) FROM t
--> primary unknown_function
WITH a AS (SELECT 1) (SELECT 1) ORDER BY 1, my_write(2)
--> primary unknown_function
WITH a AS (SELECT my_write(1)) SELECT 1
--> primary unknown_function
WITH a AS (SELECT 1, my_write(1)) SELECT 1
--> primary unknown_function
WITH a AS (SELECT 1) SELECT 1, my_write(1)
--> primary unknown_function
WITH a AS (VALUES (1, my_write(1))) SELECT 1
--> primary unknown_function
SELECT * FROM a, my_function(1) AS (x int)
--> primary unknown_function
SELECT E'a'
'b\'' , nextval('s')
--> primary primary_function
SELECT 'a\', nextval('s'), 'b'
--> primary primary_function
SELECT $1$2, nextval('s')
--> primary primary_function
SELECT a$b$, nextval('s'), c$b$ FROM t
--> primary primary_function
SELECT 1e'', nextval('s')
--> primary primary_function
SELECT 'a' -- '
 , nextval('s')
--> primary primary_function
SELECT /* /* */ nextval('s') */ 1, setval('s', 1)
--> primary primary_function
SELECT 1+/* x */nextval('s')
--> primary primary_function
SELECT 1 +--x
nextval('s')
--> primary primary_function
SELECT pg_advisory_lock(1)
--> primary advisory_lock pins silent
SELECT pg_advisory_lock_shared(1, 2)
--> primary advisory_lock pins silent
SELECT pg_try_advisory_lock(1)
--> primary advisory_lock pins silent
SELECT pg_advisory_unlock(1)
--> primary advisory_lock silent
SELECT pg_advisory_unlock_all()
--> primary advisory_lock silent
SELECT pg_advisory_xact_lock(1)
--> primary advisory_lock silent
SELECT pg_try_advisory_xact_lock(hashtext('a'))
--> primary advisory_lock silent
SELECT set_config('search_path', '', false)
--> primary session pins silent
SELECT pg_catalog.set_config('search_path', '', false)
--> primary session pins silent
SELECT set_config('a.b', 'c', true)
--> primary transaction_control
SELECT set_config('a.b', lower('C'), TRUE)
--> primary transaction_control
SELECT set_config('a.b', $1, $2)
--> primary session pins silent
SELECT set_config('a.b', $1, true)
--> primary transaction_control
SELECT set_config('a.b', $1, not true)
--> primary session pins silent
SELECT set_config('a.b', $1, is_local => true)
--> primary session pins silent
SELECT set_config('a.b', $1, (true))
--> primary session pins silent
SELECT set_config('a', set_config('b', 'c', true), true)
--> primary session pins silent
SELECT set_config('a', 'b', true), set_config('c', 'd', false)
--> primary session pins silent
SELECT set_config(setting_name => 'a', new_value => 'b', is_local => false)
--> primary session pins silent
SELECT setseed(0.5), random()
--> primary session pins silent
SELECT pg_notify('c', 'x')
--> primary primary_function
SELECT txid_current()
--> primary primary_function
SELECT pg_current_xact_id()
--> primary primary_function
SELECT txid_current_snapshot()
--> primary primary_function
SELECT pg_current_snapshot()
--> primary primary_function
SELECT pg_export_snapshot()
--> primary volatile_function silent
SELECT pg_current_wal_lsn()
--> primary primary_function
SELECT pg_walfile_name('0/1')
--> primary primary_function
SELECT lo_create(0)
--> primary volatile_function silent
SELECT lo_creat(-1)
--> primary volatile_function silent
SELECT lo_open(1, 131072)
--> primary volatile_function silent
SELECT lo_unlink(1)
--> primary volatile_function silent
SELECT lo_import('/etc/passwd')
--> primary volatile_function silent
SELECT lo_put(1, 0, 'x')
--> primary volatile_function silent
SELECT lo_get(1)
--> primary primary_function
SELECT loread(0, 1), lowrite(0, 'x')
--> primary volatile_function silent
SELECT pg_logical_emit_message(true, 'a', 'b')
--> primary volatile_function silent
SELECT * FROM pg_logical_slot_get_changes('s', NULL, NULL)
--> primary volatile_function silent
SELECT pg_create_physical_replication_slot('s')
--> primary volatile_function silent
SELECT pg_create_logical_replication_slot('s', 'pgoutput')
--> primary volatile_function silent
SELECT pg_drop_replication_slot('s')
--> primary volatile_function silent
SELECT pg_replication_origin_create('o')
--> primary volatile_function silent
SELECT pg_replication_origin_session_setup('o')
--> primary session pins silent
SELECT pg_switch_wal()
--> primary volatile_function silent
SELECT pg_create_restore_point('x')
--> primary volatile_function silent
SELECT pg_reload_conf()
--> primary volatile_function silent
SELECT pg_rotate_logfile()
--> primary volatile_function silent
SELECT pg_promote()
--> primary volatile_function silent
SELECT pg_stat_reset()
--> primary volatile_function silent
SELECT pg_stat_get_numscans(1)
--> primary server_state
SELECT pg_cancel_backend(1), pg_terminate_backend(2)
--> primary volatile_function silent
SELECT pg_backend_pid()
--> primary server_state
SELECT pg_listening_channels()
--> primary server_state
SELECT inet_server_addr(), inet_server_port()
--> primary server_state
SELECT pg_postmaster_start_time()
--> primary server_state
SELECT pg_blocking_pids(1)
--> primary server_state
SELECT pg_read_file('postgresql.conf')
--> primary volatile_function silent
SELECT pg_ls_dir('.')
--> primary volatile_function silent
SELECT pg_stat_file('x')
--> primary server_state
SELECT pg_sequence_last_value('s'::regclass)
--> primary primary_function
SELECT brin_summarize_new_values('i'::regclass)
--> primary volatile_function silent
SELECT query_to_xml('DELETE FROM t RETURNING 1', true, true, '')
--> primary query_text
SELECT query_to_xmlschema('SELECT 1', true, true, '')
--> primary query_text
SELECT table_to_xml('t', true, true, '')
--> primary query_text
SELECT schema_to_xml('public', true, true, ''), database_to_xml(true, true, '')
--> primary query_text
SELECT cursor_to_xml('c', 1, true, true, '')
--> primary query_text
SELECT * FROM ts_stat('SELECT v FROM t')
--> primary query_text
SELECT ts_rewrite('a'::tsquery, 'SELECT t, s FROM aliases')
--> primary query_text
SELECT dblink_exec('DELETE FROM t')
--> primary unknown_function
SELECT * FROM dblink('c', 'DELETE FROM t RETURNING 1') AS x(a int)
--> primary unknown_function
SELECT public.f()
--> primary unknown_function
SELECT my_schema."My Func"(1)
--> primary unknown_function
SELECT a.b.c(1)
--> primary unknown_function
SELECT pg_catalog.my_write(1)
--> primary unknown_function
SELECT public.count(*) FROM t
--> primary unknown_function
SELECT "coalesce"(1, 2)
--> primary unknown_function
SELECT public.coalesce(1, 2)
--> primary unknown_function
SELECT pg_temp.f(1)
--> primary temporary
SELECT (t).f(1) FROM t
--> primary unknown_function
SELECT f (1) FROM t
--> primary unknown_function
SELECT over(1), filter(2)
--> primary unknown_function
SELECT join(1)
--> primary unknown_function
SELECT ilike(1, 2)
--> primary unknown_function
SELECT rollup(1)
--> primary unknown_function
SELECT a FROM t GROUP BY a ORDER BY b, rollup(c)
--> primary unknown_function
SELECT materialized(1), sets(2), zone(3), varying(4), operator(5)
--> primary unknown_function
SELECT columns(1)
--> primary unknown_function
SELECT bernoulli(1)
--> primary volatile_function silent
SELECT größe(1)
--> primary unknown_function
SELECT aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa(1)
--> primary unknown_function
--- Views and settings that each server answers for itself.
SELECT * FROM pg_stat_activity
--> primary server_state
SELECT * FROM pg_catalog.pg_stat_replication
--> primary server_state
SELECT * FROM "pg_stat_database"
--> primary server_state
SELECT * FROM pg_statio_user_tables
--> primary server_state
SELECT * FROM pg_locks
--> primary server_state
SELECT * FROM pg_replication_slots
--> primary server_state
SELECT * FROM pg_prepared_statements
--> primary server_state
SELECT * FROM pg_cursors
--> primary server_state
SELECT * FROM pg_sequences
--> primary server_state
SELECT last_value FROM users_id_seq
--> primary server_state
SELECT s.last_value, s.is_called FROM public."users_id_seq" s
--> primary server_state
SHOW transaction_read_only
--> primary server_state
SHOW in_hot_standby
--> primary server_state
SHOW "Transaction_Read_Only"
--> primary server_state
SHOW ALL
--> primary server_state
SELECT current_setting('transaction_read_only')
--> primary server_state
SELECT pg_catalog.current_setting('In_Hot_Standby', true)
--> primary server_state
SELECT current_setting('transaction_read_only'::text), current_setting('work_mem')
--> primary server_state
SELECT current_setting($1)
--> primary server_state
SELECT current_setting('transaction_' || 'read_only')
--> primary server_state
SELECT current_setting('transaction_'
'read_only')
--> primary server_state
SELECT current_setting(E'transaction\\137read_only')
--> primary server_state
SELECT current_setting(n) FROM unnest(ARRAY['work_mem']) n
--> primary server_state
SELECT name, setting FROM pg_settings WHERE name = 'work_mem'
--> primary server_state
SELECT * FROM pg_show_all_settings()
--> primary server_state
