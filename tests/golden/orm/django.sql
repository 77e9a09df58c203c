--- What Django's ORM, its admin and its introspection send.
--- reads
SELECT "auth_user"."id", "auth_user"."password", "auth_user"."last_login", "auth_user"."is_superuser", "auth_user"."username", "auth_user"."first_name", "auth_user"."last_name", "auth_user"."email", "auth_user"."is_staff", "auth_user"."is_active", "auth_user"."date_joined" FROM "auth_user" WHERE "auth_user"."id" = 1 LIMIT 21
SELECT "auth_user"."id", "auth_user"."username" FROM "auth_user" WHERE UPPER("auth_user"."email"::text) = UPPER('ann@example.org') LIMIT 21
SELECT "auth_user"."id" FROM "auth_user" WHERE "auth_user"."username"::text LIKE '%into%' ORDER BY "auth_user"."id" ASC LIMIT 10 OFFSET 20
SELECT COUNT(*) AS "__count" FROM "auth_user"
SELECT COUNT(*) FROM (SELECT DISTINCT "auth_user"."id" AS "col1" FROM "auth_user" INNER JOIN "auth_user_groups" ON ("auth_user"."id" = "auth_user_groups"."user_id") WHERE "auth_user_groups"."group_id" IN (1, 2)) subquery
SELECT 1 AS "a" FROM "auth_user" WHERE "auth_user"."username" = 'ann' LIMIT 1
SELECT (1) AS "a" FROM "auth_user" WHERE ("auth_user"."username" = 'ann' AND NOT ("auth_user"."id" = 7)) LIMIT 1
SELECT "django_session"."session_key", "django_session"."session_data", "django_session"."expire_date" FROM "django_session" WHERE ("django_session"."expire_date" > '2024-05-01 10:00:00+00:00'::timestamptz AND "django_session"."session_key" = 'abc') LIMIT 21
SELECT "django_content_type"."app_label", "auth_permission"."codename" FROM "auth_permission" INNER JOIN "auth_group_permissions" ON ("auth_permission"."id" = "auth_group_permissions"."permission_id") INNER JOIN "auth_group" ON ("auth_group_permissions"."group_id" = "auth_group"."id") INNER JOIN "auth_user_groups" ON ("auth_group"."id" = "auth_user_groups"."group_id") INNER JOIN "django_content_type" ON ("auth_permission"."content_type_id" = "django_content_type"."id") WHERE "auth_user_groups"."user_id" = 1
SELECT "django_migrations"."id", "django_migrations"."app", "django_migrations"."name", "django_migrations"."applied" FROM "django_migrations"
SELECT "blog_entry"."id", "blog_entry"."headline", "blog_blog"."id", "blog_blog"."name" FROM "blog_entry" LEFT OUTER JOIN "blog_blog" ON ("blog_entry"."blog_id" = "blog_blog"."id") WHERE EXTRACT(YEAR FROM "blog_entry"."pub_date") = 2024 ORDER BY "blog_entry"."pub_date" DESC
SELECT "blog_entry"."id" FROM "blog_entry" WHERE "blog_entry"."pub_date" BETWEEN '2024-01-01'::date AND '2024-12-31'::date
SELECT DISTINCT DATE_TRUNC('month', "blog_entry"."pub_date") AS "datefield" FROM "blog_entry" WHERE "blog_entry"."pub_date" IS NOT NULL ORDER BY 1 DESC
SELECT "blog_blog"."id", COUNT("blog_entry"."id") AS "n", COUNT("blog_entry"."id") FILTER (WHERE "blog_entry"."rating" > 3) AS "good" FROM "blog_blog" LEFT OUTER JOIN "blog_entry" ON ("blog_blog"."id" = "blog_entry"."blog_id") GROUP BY "blog_blog"."id" HAVING COUNT("blog_entry"."id") > 2
SELECT AVG("blog_entry"."rating") AS "rating__avg", MAX("blog_entry"."number_of_comments") AS "m", STDDEV_POP("blog_entry"."rating") AS "s" FROM "blog_entry"
SELECT "blog_entry"."id", CASE WHEN "blog_entry"."rating" > 4.0 THEN 'great' WHEN "blog_entry"."rating" > 2.0 THEN 'fine' ELSE NULL END AS "grade" FROM "blog_entry"
SELECT "blog_entry"."id" FROM "blog_entry" WHERE ("blog_entry"."data" -> 'owner') = '"ann"'::jsonb
SELECT "blog_entry"."id" FROM "blog_entry" WHERE "blog_entry"."data" @> '{"a": {"b": 1}}'::jsonb AND "blog_entry"."data" ? 'key' AND ("blog_entry"."data" #>> '{a,b}') = '1'
SELECT "blog_entry"."id" FROM "blog_entry" WHERE "blog_entry"."labels" @> ARRAY['a']::varchar(20)[] AND "blog_entry"."labels" && (ARRAY['b','c'])::varchar(20)[]
SELECT "blog_entry"."id" FROM "blog_entry" WHERE "blog_entry"."period" && '[2024-01-01,2024-02-01)'::tstzrange
SELECT "blog_entry"."id", ts_rank(to_tsvector('english'::regconfig, COALESCE("blog_entry"."headline", '')), plainto_tsquery('english'::regconfig, 'update')) AS "rank" FROM "blog_entry" WHERE to_tsvector('english'::regconfig, COALESCE("blog_entry"."headline", '')) @@ (plainto_tsquery('english'::regconfig, 'update')) ORDER BY "rank" DESC
SELECT "blog_entry"."id", ROW_NUMBER() OVER (PARTITION BY "blog_entry"."blog_id" ORDER BY "blog_entry"."pub_date" DESC) AS "rn", LAG("blog_entry"."rating", 1) OVER (ORDER BY "blog_entry"."id") AS "prev" FROM "blog_entry"
SELECT "blog_blog"."id", (SELECT U0."headline" FROM "blog_entry" U0 WHERE U0."blog_id" = ("blog_blog"."id") ORDER BY U0."pub_date" DESC LIMIT 1) AS "newest" FROM "blog_blog"
SELECT "blog_blog"."id" FROM "blog_blog" WHERE EXISTS(SELECT 1 AS "a" FROM "blog_entry" U0 WHERE (U0."blog_id" = ("blog_blog"."id") AND U0."rating" IS NULL) LIMIT 1)
SELECT "blog_blog"."id" FROM "blog_blog" WHERE NOT ("blog_blog"."id" IN (SELECT U0."blog_id" FROM "blog_entry" U0 WHERE U0."rating" > 3))
(SELECT "blog_entry"."id" AS "col1" FROM "blog_entry" WHERE "blog_entry"."rating" > 4) UNION (SELECT "blog_entry"."id" AS "col1" FROM "blog_entry" WHERE "blog_entry"."rating" < 1) ORDER BY "col1" ASC LIMIT 5
SELECT DISTINCT ON ("blog_entry"."blog_id") "blog_entry"."id", "blog_entry"."blog_id" FROM "blog_entry" ORDER BY "blog_entry"."blog_id" ASC, "blog_entry"."pub_date" DESC
SELECT ARRAY_AGG("blog_entry"."headline" ORDER BY "blog_entry"."headline") AS "a", STRING_AGG("blog_entry"."headline", ', ') AS "s", BOOL_AND("blog_entry"."rating" > 1) AS "b" FROM "blog_entry"
SELECT "auth_user"."id", CONCAT("auth_user"."first_name", CONCAT(' ', "auth_user"."last_name")) AS "full" FROM "auth_user" ORDER BY LOWER("auth_user"."last_name") ASC NULLS LAST
SELECT "blog_entry"."id" FROM "blog_entry" WHERE "blog_entry"."headline"::text ~* '^(delete|insert)' AND "blog_entry"."mod_date" >= (STATEMENT_TIMESTAMP() - '7 days'::interval)
SELECT "auth_user"."id" FROM "auth_user" WHERE ("auth_user"."date_joined" AT TIME ZONE 'UTC')::date = '2024-05-01'::date
SELECT c.relname, CASE WHEN c.relispartition THEN 'p' WHEN c.relkind IN ('m', 'v') THEN 'v' ELSE 't' END, obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid)
SELECT a.attname AS column_name, NOT (a.attnotnull OR (t.typtype = 'd' AND t.typnotnull)) AS is_nullable, pg_get_expr(ad.adbin, ad.adrelid) AS column_default, CASE WHEN collname = 'default' THEN NULL ELSE collname END AS collation, a.attidentity != '' AS is_autofield, col_description(a.attrelid, a.attnum) AS column_comment FROM pg_attribute a LEFT JOIN pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum LEFT JOIN pg_collation co ON a.attcollation = co.oid JOIN pg_type t ON a.atttypid = t.oid JOIN pg_class c ON a.attrelid = c.oid JOIN pg_namespace n ON c.relnamespace = n.oid WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND c.relname = 'auth_user' AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid)
SELECT c.conname, array(SELECT attname FROM unnest(c.conkey) WITH ORDINALITY cols(colid, arridx) JOIN pg_attribute AS ca ON cols.colid = ca.attnum WHERE ca.attrelid = c.conrelid ORDER BY cols.arridx), c.contype, (SELECT fkc.relname || '.' || fka.attname FROM pg_attribute AS fka JOIN pg_class AS fkc ON fka.attrelid = fkc.oid WHERE fka.attrelid = c.confrelid AND fka.attnum = c.confkey[1]), cl.reloptions FROM pg_constraint AS c JOIN pg_class AS cl ON c.conrelid = cl.oid WHERE cl.relname = 'auth_user' AND pg_catalog.pg_table_is_visible(cl.oid)
SELECT indexname, array_agg(attname ORDER BY arridx), indisunique, indisprimary, array_agg(ordering ORDER BY arridx), amname, exprdef FROM (SELECT c2.relname as indexname, idx.*, attr.attname, am.amname, CASE WHEN idx.indexprs IS NOT NULL THEN pg_get_indexdef(idx.indexrelid) END AS exprdef, CASE am.amname WHEN 'btree' THEN CASE (option & 1) WHEN 1 THEN 'DESC' ELSE 'ASC' END END as ordering FROM (SELECT * FROM pg_index i, unnest(i.indkey, i.indoption) WITH ORDINALITY koi(key, option, arridx)) idx LEFT JOIN pg_class c ON idx.indrelid = c.oid LEFT JOIN pg_class c2 ON idx.indexrelid = c2.oid LEFT JOIN pg_am am ON c2.relam = am.oid LEFT JOIN pg_attribute attr ON attr.attrelid = c.oid AND attr.attnum = idx.key WHERE c.relname = 'auth_user' AND pg_catalog.pg_table_is_visible(c.oid)) s2 GROUP BY indexname, indisunique, indisprimary, amname, exprdef
SHOW server_version
SELECT current_setting('TimeZone')
EXPLAIN SELECT "auth_user"."id" FROM "auth_user" WHERE "auth_user"."id" = 1
EXPLAIN (FORMAT JSON, ANALYZE TRUE) SELECT COUNT(*) AS "__count" FROM "auth_user"
--- writes
INSERT INTO "auth_user" ("password", "last_login", "username") VALUES ('x', NULL, 'ann') RETURNING "auth_user"."id"
INSERT INTO "blog_entry" ("headline") SELECT 'a' UNION ALL SELECT 'b'
INSERT INTO "auth_group" ("name") VALUES ('a'), ('b') ON CONFLICT DO NOTHING
UPDATE "auth_user" SET "last_login" = '2024-05-01 10:00:00+00:00'::timestamptz WHERE "auth_user"."id" = 1
UPDATE "blog_entry" SET "number_of_comments" = ("blog_entry"."number_of_comments" + 1) WHERE "blog_entry"."id" IN (1, 2)
DELETE FROM "django_session" WHERE "django_session"."expire_date" < '2024-05-01 10:00:00+00:00'::timestamptz
DELETE FROM "auth_user_groups" WHERE "auth_user_groups"."user_id" IN (SELECT U0."id" FROM "auth_user" U0)
SELECT "auth_user"."id" FROM "auth_user" WHERE "auth_user"."id" = 1 LIMIT 21 FOR UPDATE
SELECT "auth_user"."id" FROM "auth_user" WHERE "auth_user"."id" = 1 LIMIT 21 FOR NO KEY UPDATE SKIP LOCKED
SELECT "blog_entry"."id" FROM "blog_entry" INNER JOIN "blog_blog" ON ("blog_entry"."blog_id" = "blog_blog"."id") FOR UPDATE OF "blog_entry" NOWAIT
SELECT "blog_entry"."id" FROM "blog_entry" ORDER BY "blog_entry"."id" ASC LIMIT 1 FOR KEY SHARE
SAVEPOINT "s140_x1"
RELEASE SAVEPOINT "s140_x1"
ROLLBACK TO SAVEPOINT "s140_x1"
SET CONSTRAINTS ALL IMMEDIATE
SET CONSTRAINTS ALL DEFERRED
SELECT set_config('TimeZone', 'UTC', false)
ALTER TABLE "blog_entry" ADD COLUMN "x" integer DEFAULT 0 NOT NULL
CREATE INDEX CONCURRENTLY "blog_entry_x" ON "blog_entry" ("headline")
SELECT setval(pg_get_serial_sequence('"auth_user"','id'), coalesce(max("id"), 1), max("id") IS NOT null) FROM "auth_user"
TRUNCATE "blog_entry", "blog_blog" RESTART IDENTITY
DECLARE "_django_curs_1" NO SCROLL CURSOR WITH HOLD FOR SELECT "auth_user"."id" FROM "auth_user"
FETCH FORWARD 2000 FROM "_django_curs_1"
CLOSE "_django_curs_1"
EXPLAIN ANALYZE UPDATE "auth_user" SET "is_active" = true
