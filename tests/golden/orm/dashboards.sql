--- What Metabase, Grafana, Superset, DBeaver, pgAdmin, psql's backslash commands and pg_dump's first steps send.
--- reads
SELECT "public"."orders"."id" AS "id", "public"."orders"."total" AS "total", "Products"."name" AS "Products__name" FROM "public"."orders" LEFT JOIN "public"."products" AS "Products" ON "public"."orders"."product_id" = "Products"."id" LIMIT 2000
SELECT CAST(DATE_TRUNC('month', "public"."orders"."created_at") AS DATE) AS "created_at", COUNT(*) AS "count" FROM "public"."orders" GROUP BY CAST(DATE_TRUNC('month', "public"."orders"."created_at") AS DATE) ORDER BY CAST(DATE_TRUNC('month', "public"."orders"."created_at") AS DATE) ASC
SELECT "source"."region" AS "region", SUM("source"."amount") AS "sum" FROM (SELECT "public"."orders"."region" AS "region", "public"."orders"."amount" AS "amount" FROM "public"."orders" WHERE "public"."orders"."created_at" >= DATE_TRUNC('week', (NOW() + (INTERVAL '-4 week')))) AS "source" GROUP BY "source"."region" ORDER BY "sum" DESC
SELECT FLOOR(("public"."orders"."total" / 20)) * 20 AS "total", COUNT(*) AS "count" FROM "public"."orders" GROUP BY FLOOR(("public"."orders"."total" / 20)) * 20
SELECT floor(extract(epoch from time)/60)*60 AS "time", avg(value) AS "value", host AS metric FROM metrics WHERE time BETWEEN '2024-01-01T00:00:00Z' AND '2034-01-01T01:00:00Z' GROUP BY 1, host ORDER BY 1
SELECT time AS "time", value FROM metrics WHERE time >= now() - interval '1 hour' AND name = 'cpu' ORDER BY 1
SELECT date_bin('5 minutes', time, '2000-01-01') AS bucket, max(value), min(value), percentile_disc(0.99) WITHIN GROUP (ORDER BY value) FROM metrics GROUP BY bucket ORDER BY bucket
SELECT quote_ident(table_name) FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', '_timescaledb_cache') AND table_type = 'BASE TABLE'
SELECT DISTINCT host FROM metrics ORDER BY host
SELECT DATE_TRUNC('day', placed_at) AS __timestamp, region AS region, COUNT(DISTINCT customer_id) AS "COUNT_DISTINCT(customer_id)" FROM public.orders JOIN (SELECT region AS region__, count(*) AS mme_inner__ FROM public.orders GROUP BY region ORDER BY mme_inner__ DESC LIMIT 10) AS series_limit ON region = region__ GROUP BY DATE_TRUNC('day', placed_at), region LIMIT 50000
SELECT region, status, sum(amount) FROM orders GROUP BY CUBE (region, status) ORDER BY 1, 2
SELECT region, status, GROUPING(region, status), sum(amount) FROM orders GROUP BY GROUPING SETS ((region), (status), ())
SELECT d::date AS day, count(o.id) FROM generate_series(now() - interval '30 days', now(), interval '1 day') AS d LEFT JOIN orders o ON o.order_date = d::date GROUP BY 1
SELECT width_bucket(amount, 0, 100, 10) AS bucket, count(*) FROM orders GROUP BY 1
SELECT ntile(4) OVER (ORDER BY amount), first_value(amount) OVER w, last_value(amount) OVER w, nth_value(amount, 2) OVER w, cume_dist() OVER w FROM orders WINDOW w AS (PARTITION BY region ORDER BY id)
SELECT corr(amount, quantity), regr_slope(amount, quantity), variance(amount), mode() WITHIN GROUP (ORDER BY status) FROM orders
SELECT regexp_replace(email, '.*@', ''), split_part(email, '@', 2), count(*) FROM users GROUP BY 1, 2 ORDER BY 3 DESC
SELECT payload->'user'->>'id', jsonb_path_query_array(payload, '$.items[*] ? (@.price > 10)'), jsonb_pretty(payload) FROM events
SELECT kind, array_agg(DISTINCT user_id), json_object_agg(kind, id) FROM events GROUP BY kind
SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass ORDER BY nspname
SELECT c.oid, c.*, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr, pg_catalog.pg_get_partkeydef(c.oid) as partition_key FROM pg_catalog.pg_class c LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_class'::regclass WHERE c.relnamespace=2200 AND c.relkind not in ('i','I','c')
SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datname='postgres'
SELECT version()
SELECT current_schema(),session_user
SELECT typcategory FROM pg_catalog.pg_type WHERE 1<>1 LIMIT 1
SELECT e.enumlabel FROM pg_catalog.pg_enum e WHERE e.enumtypid=16384 ORDER BY e.enumsortorder
SELECT c.oid,c.*,t.relname as tabrelname,rt.relnamespace as refnamespace,d.description, case when c.contype='c' then "substring"(pg_get_constraintdef(c.oid), 7) else null end consrc_copy FROM pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid=c.conrelid LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid=c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_constraint'::regclass WHERE c.conrelid=1259 ORDER BY c.oid
SELECT x.* FROM public.users x
SELECT t.oid,t.*,c.relkind,format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name, d.description FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid=t.typelem LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid=d.objoid WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C')
SELECT roles.oid as id, roles.rolname as name, roles.rolsuper as is_superuser, CASE WHEN roles.rolsuper THEN true ELSE roles.rolcreaterole END as can_create_role, CASE WHEN roles.rolsuper THEN true ELSE roles.rolcreatedb END as can_create_db FROM pg_catalog.pg_roles as roles WHERE rolname = current_user
SELECT db.oid as did, db.datname, db.datallowconn, pg_encoding_to_char(db.encoding) AS serverencoding, has_database_privilege(db.oid, 'CREATE') as cancreate, datistemplate FROM pg_catalog.pg_database db WHERE db.datname = current_database()
SELECT nsp.oid, nsp.nspname as name, has_schema_privilege(nsp.oid, 'CREATE') as can_create, has_schema_privilege(nsp.oid, 'USAGE') as has_usage FROM pg_catalog.pg_namespace nsp WHERE nspname NOT LIKE E'pg\\_%' AND NOT ((nsp.nspname = 'pg_catalog' AND EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'pg_class' AND relnamespace = nsp.oid LIMIT 1))) ORDER BY nspname
SELECT rel.oid, rel.relname AS name, (SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid=rel.oid AND tgisinternal = FALSE) AS triggercount FROM pg_catalog.pg_class rel WHERE rel.relkind IN ('r','s','t','p') AND rel.relnamespace = 2200::oid ORDER BY rel.relname
SELECT n.nspname as "Schema", c.relname as "Name", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' END as "Type", pg_catalog.pg_get_userbyid(c.relowner) as "Owner" FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam WHERE c.relkind IN ('r','p','v','m','S','f','') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2;
SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relname OPERATOR(pg_catalog.~) '^(users)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3;
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull FROM pg_catalog.pg_attribute a WHERE a.attrelid = '1259' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;
SELECT d.datname as "Name", pg_catalog.pg_get_userbyid(d.datdba) as "Owner", pg_catalog.array_to_string(d.datacl, E'\n') AS "Access privileges" FROM pg_catalog.pg_database d ORDER BY 1;
SELECT r.rolname, r.rolsuper, ARRAY(SELECT b.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles b ON (m.roleid = b.oid) WHERE m.member = r.oid) as memberof FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' ORDER BY 1;
SELECT pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND substring(pg_catalog.quote_ident(c.relname),1,2)='us' AND pg_catalog.pg_table_is_visible(c.oid) LIMIT 1000
SELECT pg_size_pretty(pg_database_size(current_database())), pg_size_pretty(pg_total_relation_size('users'))
SELECT relname, pg_relation_size(oid) FROM pg_class ORDER BY 2 DESC LIMIT 10
SELECT extname, extversion FROM pg_extension
SELECT p.proname, pg_get_function_identity_arguments(p.oid), pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.prokind = 'f' AND p.proname = 'lower'
SELECT pg_get_viewdef('pg_catalog.pg_tables'::regclass, true)
SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f'
SELECT current_setting('server_version_num')::int, current_setting('is_superuser')
SHOW max_connections
EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT count(*) FROM orders
EXPLAIN (COSTS OFF, VERBOSE) SELECT * FROM users WHERE id = 1
--- kept server_state: each server answers for itself, and a dashboard means the primary
SELECT set.name, set.setting, set.unit FROM pg_catalog.pg_settings set WHERE set.name IN ('bytea_output', 'max_index_keys')
SELECT name, setting, short_desc FROM pg_settings ORDER BY name
SHOW ALL
SELECT pid, usename, state, query FROM pg_stat_activity WHERE state <> 'idle'
SELECT relname, n_live_tup, last_autovacuum FROM pg_stat_user_tables
SELECT * FROM pg_locks WHERE NOT granted
SELECT client_addr, state, replay_lsn FROM pg_stat_replication
SELECT pg_backend_pid()
--- writes
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ
SET TRANSACTION READ ONLY
SET statement_timeout = 0
SET extra_float_digits = 3
SELECT pg_catalog.set_config('search_path', '', false)
SET DateStyle=ISO; SET client_min_messages=notice; SELECT set_config('bytea_output','hex',false) FROM pg_settings WHERE name = 'bytea_output'; SET client_encoding='utf-8';
SELECT pg_cancel_backend(12345)
SELECT pg_terminate_backend(12345)
SELECT pg_stat_reset()
SELECT pg_export_snapshot()
SELECT pg_reload_conf()
CREATE TABLE report AS SELECT region, sum(amount) FROM orders GROUP BY region
EXPLAIN (ANALYZE) DELETE FROM orders
ANALYZE orders
COMMENT ON TABLE users IS 'people'
GRANT SELECT ON users TO public
