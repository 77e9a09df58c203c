--- What Ecto, GORM, sqlx, Diesel, Laravel's Eloquent, Doctrine, pgx, asyncpg, Npgsql (Entity Framework) and job queues send.
--- reads
SELECT u0."id", u0."email", u0."name", u0."inserted_at" FROM "users" AS u0 WHERE (u0."id" = $1)
SELECT p0."id", p0."title", p0."user_id", p0."user_id" FROM "posts" AS p0 WHERE (p0."user_id" = ANY($1)) ORDER BY p0."user_id"
SELECT count('*') FROM "users" AS u0
SELECT count(*) FROM "users" AS u0 WHERE (u0."active" = TRUE)
SELECT TRUE FROM "users" AS u0 WHERE (u0."email" = $1) LIMIT 1
SELECT u0."id", p1."title" FROM "users" AS u0 INNER JOIN "posts" AS p1 ON p1."user_id" = u0."id" WHERE (p1."published_at" > $1::timestamp + (-7::numeric * interval '1 day'))
SELECT u0."id", ss0."n" FROM "users" AS u0 INNER JOIN LATERAL (SELECT count(sp0."id") AS "n" FROM "posts" AS sp0 WHERE (sp0."user_id" = u0."id")) AS ss0 ON TRUE
SELECT s0."version"::bigint FROM "schema_migrations" AS s0
SELECT u0."meta"#>'{"a","b"}', u0."email" ILIKE $1, fragment FROM "users" AS u0, (SELECT 1 AS fragment) AS f
WITH RECURSIVE "tree" AS (SELECT sc0."id" AS "id", sc0."parent_id" AS "parent_id" FROM "categories" AS sc0 WHERE (sc0."parent_id" IS NULL) UNION ALL (SELECT sc0."id", sc0."parent_id" FROM "categories" AS sc0 INNER JOIN "tree" AS st1 ON st1."id" = sc0."parent_id")) SELECT t0."id" FROM "tree" AS t0
SELECT t.oid, t.typname, t.typsend, t.typreceive, t.typoutput, t.typinput, coalesce(d.typelem, t.typelem), coalesce(r.rngsubtype, 0), ARRAY (SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) FROM pg_type AS t LEFT JOIN pg_type AS d ON t.typbasetype = d.oid LEFT JOIN pg_range AS r ON r.rngtypid = t.oid OR r.rngmultitypid = t.oid OR (t.typbasetype <> 0 AND r.rngtypid = t.typbasetype) WHERE (t.typrelid = 0) AND (t.typelem = 0 OR NOT EXISTS (SELECT 1 FROM pg_catalog.pg_type s WHERE s.typrelid != 0 AND s.oid = t.typelem))
SELECT * FROM "users" WHERE "users"."id" = 10 AND "users"."deleted_at" IS NULL ORDER BY "users"."id" LIMIT 1
SELECT * FROM "users" WHERE name <> 'jinzhu' AND age IN (20,22) AND "users"."deleted_at" IS NULL
SELECT "users"."id","users"."email","Org"."id" AS "Org__id","Org"."name" AS "Org__name" FROM "users" LEFT JOIN "organizations" "Org" ON "users"."org_id" = "Org"."id" WHERE "users"."deleted_at" IS NULL
SELECT count(*) FROM "users" WHERE role = 'admin' AND "users"."deleted_at" IS NULL
SELECT name, sum(age) as total FROM "users" GROUP BY "name" HAVING sum(age) > 10
SELECT "posts"."id" FROM "posts" WHERE "posts"."user_id" IN (1,2,3) AND "posts"."deleted_at" IS NULL
SELECT CURRENT_DATABASE()
SELECT count(*) FROM information_schema.tables WHERE table_schema = CURRENT_SCHEMA() AND table_name = 'users' AND table_type = 'BASE TABLE'
SELECT c.column_name, c.is_nullable = 'YES', c.udt_name, c.character_maximum_length, c.numeric_precision, c.numeric_precision_radix, c.numeric_scale, c.datetime_precision, 8 * typlen, c.column_default, pd.description, c.identity_increment FROM information_schema.columns AS c JOIN pg_type AS pgt ON c.udt_name = pgt.typname LEFT JOIN pg_catalog.pg_description as pd ON pd.objsubid = c.ordinal_position AND pd.objoid = (SELECT oid FROM pg_catalog.pg_class WHERE relname = c.table_name AND relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = c.table_schema)) where table_catalog = 'postgres' AND table_schema = CURRENT_SCHEMA() AND table_name = 'users'
SELECT a.attname as column_name, format_type(a.atttypid, a.atttypmod) AS data_type FROM pg_attribute a JOIN pg_class b ON a.attrelid = b.oid AND relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = CURRENT_SCHEMA()) WHERE a.attnum > 0 AND b.relname = 'users'
SELECT id, email, name FROM users WHERE id = $1
SELECT id, email as "email!", created_at as "created_at: _" FROM users ORDER BY id
SELECT typname, typtype::text as typtype, typcategory::text, typrelid, typelem, typbasetype FROM pg_catalog.pg_type WHERE oid = $1
SELECT attname, atttypid FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND NOT attisdropped AND attnum > 0 ORDER BY attnum
SELECT to_regclass('_sqlx_migrations') IS NOT NULL
SELECT "users"."id", "users"."name" FROM "users" WHERE ("users"."id" = $1) LIMIT $2
SELECT "users"."id", "posts"."id" FROM ("users" LEFT OUTER JOIN "posts" ON ("posts"."user_id" = "users"."id")) WHERE ("users"."name" LIKE $1) ORDER BY "users"."id" DESC
SELECT "pg_type"."oid", "pg_type"."typarray" FROM "pg_type" WHERE (("pg_type"."typname" = $1) AND ("pg_type"."typnamespace" = $2)) LIMIT $3
select * from "users" where "users"."id" = 1 limit 1
select * from "users" where "email" = $1 and "users"."deleted_at" is null limit 1
select count(*) as aggregate from "posts" where "state" = $1
select * from "posts" where exists (select * from "comments" where "posts"."id" = "comments"."post_id" and "approved" = $1) order by "id" desc limit 15 offset 0
select "posts".*, (select count(*) from "comments" where "posts"."id" = "comments"."post_id") as "comments_count" from "posts"
select "roles".*, "link"."user_id" as "pivot_user_id" from "tags" as "roles" inner join "comments" as "link" on "roles"."id" = "link"."post_id" where "link"."user_id" in (1, 2)
select * from "users" where "created_at"::date = $1 and ("preferences"->>'lang') = $2
select * from "users" where ("meta")::jsonb @> $1
select exists(select * from "users" where "email" = $1) as "exists"
select "migration" from "migrations" order by "batch" asc, "migration" asc
select c.relname as name, n.nspname as schema, pg_total_relation_size(c.oid) as size, obj_description(c.oid, 'pg_class') as comment from pg_class c, pg_namespace n where c.relkind in ('r', 'p') and n.oid = c.relnamespace and n.nspname not in ('pg_catalog', 'information_schema') order by n.nspname, c.relname
select * from "sessions" where "id" = $1 limit 1
SELECT t0.id AS id_1, t0.email AS email_2, t0.name AS name_3 FROM users t0 WHERE t0.id = $1
SELECT u0_.id AS id_0, u0_.name AS name_1, p1_.id AS id_2 FROM users u0_ LEFT JOIN posts p1_ ON u0_.id = p1_.user_id WHERE u0_.email = $1 ORDER BY u0_.id ASC
SELECT DISTINCT id_0 FROM (SELECT DISTINCT id_0, name_1 FROM (SELECT u0_.id AS id_0, u0_.name AS name_1 FROM users u0_) dctrn_result_inner ORDER BY name_1 ASC) dctrn_result LIMIT 10
SELECT COUNT(u0_.id) AS sclr_0 FROM users u0_
SELECT quote_ident(table_name) AS table_name, table_schema AS schema_name FROM information_schema.tables WHERE table_schema NOT LIKE 'pg\_%' AND table_schema != 'information_schema' AND table_type != 'VIEW'
SELECT t.oid AS oid, ns.nspname AS ns, t.typname AS name, t.typtype AS kind, (CASE WHEN t.typtype = 'd' THEN (WITH RECURSIVE typebases(oid, depth) AS (SELECT t2.typbasetype AS oid, 0 AS depth FROM pg_type t2 WHERE t2.oid = t.oid UNION ALL SELECT t2.typbasetype AS oid, tb.depth + 1 AS depth FROM pg_type t2, typebases tb WHERE tb.oid = t2.oid AND t2.typbasetype != 0) SELECT oid FROM typebases ORDER BY depth DESC LIMIT 1) ELSE NULL END) AS basetype, t.typelem AS elemtype, pg_catalog.format_type(t.typelem, NULL) AS elemtype_name, t.typdelim AS elemdelim FROM pg_catalog.pg_type AS t INNER JOIN pg_catalog.pg_namespace ns ON (ns.oid = t.typnamespace) WHERE t.oid = any($1::oid[])
SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM (SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typnotnull, CASE WHEN proc.proname='array_recv' THEN typ.typelem WHEN typ.typtype='r' THEN rngsubtype WHEN typ.typtype='d' THEN typ.typbasetype END AS elemtypoid FROM pg_type AS typ LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)) AS t JOIN pg_namespace AS ns ON (ns.oid = typnamespace) WHERE t.typtype IN ('b', 'r', 'm', 'e', 'd') ORDER BY CASE WHEN t.typtype IN ('b', 'e', 'p') THEN 0 WHEN t.typtype = 'r' THEN 1 ELSE 7 END
SELECT c."id", c."name", (SELECT COUNT(*)::int FROM "orders" AS o WHERE c."id" = o."customer_id") AS "Count" FROM "customer" AS c WHERE c."country" = $1 OR c."name" LIKE $2 ESCAPE '' ORDER BY c."id" LIMIT $3 OFFSET $4
SELECT o."id", date_part('month', o."placed_at" AT TIME ZONE 'UTC')::int AS "Month", floor(o."amount")::int, o."amount"::double precision FROM "orders" AS o WHERE o."customer_id" = ANY ($1) AND o."status" = ANY ('{paid,sent}') AND NOT (o."amount" > 1 AND o."amount" IS NOT NULL)
SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid=c.relnamespace WHERE n.nspname='public' AND c.relname='__EFMigrationsHistory')
select oid::text, typname from pg_type where typtype = 'e'
select t.oid, case when nsp.nspname in ('pg_catalog', 'public') then t.typname else nsp.nspname||'.'||t.typname end from pg_type t left join pg_type base_type on t.typelem=base_type.oid left join pg_namespace nsp on t.typnamespace=nsp.oid where (t.typtype in('b', 'p', 'r', 'e') and (base_type.oid is null or base_type.typtype in('b', 'p', 'r')))
SELECT 1;
;SELECT 1 -- keepalive
VALUES (1)
SELECT pg_is_in_recovery()
SELECT now(), clock_timestamp(), gen_random_uuid()
SELECT o0."state", count(o0."id") FROM "jobs" AS o0 GROUP BY o0."state"
--- writes
INSERT INTO "users" ("email","inserted_at","updated_at") VALUES ($1,$2,$3) RETURNING "id"
UPDATE "users" AS u0 SET "age" = u0."age" + $1 WHERE (u0."id" = $2)
DELETE FROM "posts" WHERE "id" = $1
LOCK TABLE "schema_migrations" IN SHARE UPDATE EXCLUSIVE MODE
SELECT u0."id" FROM "users" AS u0 WHERE (u0."id" = $1) FOR UPDATE
WITH "subset" AS MATERIALIZED (SELECT sj0."id" AS "id" FROM "jobs" AS sj0 WHERE (sj0."state" = 'available') ORDER BY sj0."priority", sj0."scheduled_at" LIMIT $1 FOR UPDATE SKIP LOCKED) UPDATE "jobs" AS j0 SET "state" = $2, "attempt" = j0."attempt" + 1 FROM "subset" AS s1 WHERE (j0."id" = s1."id") RETURNING j0."id"
SELECT pg_try_advisory_xact_lock($1)
SELECT pg_notify($1, payload) FROM json_array_elements_text($2::json) AS payload
INSERT INTO "users" ("created_at","name") VALUES ('2024-01-01','x') ON CONFLICT ("id") DO UPDATE SET "name"="excluded"."name" RETURNING "id"
UPDATE "users" SET "deleted_at"='2024-01-01 00:00:00' WHERE "users"."id" = 10 AND "users"."deleted_at" IS NULL
SELECT * FROM "users" WHERE "users"."deleted_at" IS NULL FOR SHARE OF "users"
SAVEPOINT sp0x1
INSERT INTO _sqlx_migrations (version, description) VALUES ($1, $2)
SELECT pg_advisory_unlock($1)
select * from "jobs" where "queue" = $1 and (("reserved_at" is null and "available_at" <= $2) or ("reserved_at" <= $3)) order by "id" asc limit 1 FOR UPDATE SKIP LOCKED
update "jobs" set "reserved_at" = $1, "attempts" = $2 where "id" = $3
insert into "users" ("email") values ($1) returning "id"
delete from "sessions" where "last_activity" <= $1
select * from "users" where "id" = $1 limit 1 for update
SET NAMES 'UTF8'
set time zone 'UTC'
SELECT CURRVAL('users_id_seq')
SELECT LASTVAL()
SELECT NEXTVAL('users_id_seq')
INSERT INTO users (email) SELECT * FROM unnest($1::text[])
SELECT pg_advisory_lock_shared(1)
select set_config('search_path', 'tenant_1', true)
SELECT set_config('app.user_id', $1, true)
UPDATE "customer" SET "name" = @p0 WHERE "id" = 1 RETURNING 1
COPY "users" ("id", "email") FROM STDIN (FORMAT BINARY)
DISCARD TEMP
RESET ALL
UNLISTEN *
DEALLOCATE ALL
CREATE INDEX idx ON users USING gin (meta jsonb_path_ops)
VACUUM (ANALYZE) users
REFRESH MATERIALIZED VIEW CONCURRENTLY tally
