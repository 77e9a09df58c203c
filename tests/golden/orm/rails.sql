--- What Rails' ActiveRecord sends, its schema queries and Sidekiq-like neighbours included.
--- reads
SELECT "users".* FROM "users" WHERE "users"."id" = $1 LIMIT $2
SELECT "users".* FROM "users" WHERE "users"."email" = $1 ORDER BY "users"."id" ASC LIMIT $2 /*application='Shop',controller='users',action='update'*/
SELECT 1 AS one FROM "users" WHERE "users"."email" = $1 AND "users"."id" != $2 LIMIT $3
SELECT COUNT(*) FROM "posts" WHERE "posts"."user_id" = $1
SELECT COUNT("posts"."id") AS "count_id", "posts"."user_id" AS "posts_user_id" FROM "posts" GROUP BY "posts"."user_id"
SELECT "posts"."id" FROM "posts" WHERE "posts"."published" = TRUE AND "posts"."deleted_at" IS NULL
SELECT "posts".* FROM "posts" INNER JOIN "users" ON "users"."id" = "posts"."user_id" WHERE "users"."active" = $1 ORDER BY "posts"."created_at" DESC LIMIT $2 OFFSET $3
SELECT DISTINCT "posts"."id", posts.created_at AS alias_0 FROM "posts" LEFT OUTER JOIN "comments" ON "comments"."post_id" = "posts"."id" WHERE (comments.body ILIKE '%update%') ORDER BY posts.created_at DESC LIMIT 25
SELECT "posts"."id" AS t0_r0, "posts"."title" AS t0_r1, "comments"."id" AS t1_r0, "comments"."body" AS t1_r1 FROM "posts" LEFT OUTER JOIN "comments" ON "comments"."post_id" = "posts"."id" WHERE "posts"."id" IN ($1, $2, $3)
SELECT "comments".* FROM "comments" WHERE "comments"."commentable_type" = $1 AND "comments"."commentable_id" IN ($2, $3)
SELECT "tags".* FROM "tags" INNER JOIN "taggings" ON "tags"."id" = "taggings"."tag_id" WHERE "taggings"."taggable_id" = $1 AND "taggings"."taggable_type" = $2
SELECT "users".* FROM "users" WHERE "users"."created_at" >= $1 AND "users"."created_at" < $2 AND (preferences ->> 'theme' = 'dark')
SELECT "users".* FROM "users" WHERE ("users"."role" = 'admin' OR "users"."role" = 'owner') AND NOT ("users"."deleted_at" IS NOT NULL)
SELECT SUM("orders"."total") FROM "orders" WHERE "orders"."status" = $1
SELECT AVG("orders"."amount"), MIN("orders"."created_at"), MAX("orders"."created_at") FROM "orders"
SELECT date_trunc('week', created_at) AS week, count(*) AS n FROM "orders" GROUP BY date_trunc('week', created_at) ORDER BY week
SELECT "posts".* FROM "posts" ORDER BY RANDOM() LIMIT 5
SELECT "users"."id", "users"."email" FROM "users" WHERE "users"."id" > 1000 ORDER BY "users"."id" ASC LIMIT 1000
WITH RECURSIVE tree AS (SELECT id, parent_id, 1 AS depth FROM categories WHERE parent_id IS NULL UNION ALL SELECT c.id, c.parent_id, t.depth + 1 FROM categories c JOIN tree t ON c.parent_id = t.id) SELECT * FROM tree ORDER BY depth
WITH "ranked" AS (SELECT posts.*, rank() OVER (PARTITION BY user_id ORDER BY views DESC) AS r FROM posts) SELECT "ranked".* FROM "ranked" WHERE r <= 3
SELECT "posts".* FROM "posts" WHERE to_tsvector('simple', coalesce("posts"."title"::text, '')) @@ (to_tsquery('simple', ''' ' || 'rails' || ' ''' || ':*'))
SELECT "schema_migrations"."version" FROM "schema_migrations" ORDER BY "schema_migrations"."version" ASC
SELECT "ar_internal_metadata".* FROM "ar_internal_metadata" WHERE "ar_internal_metadata"."key" = 'environment' ORDER BY "ar_internal_metadata"."key" ASC LIMIT 1
SELECT "posts".* FROM "posts" WHERE "posts"."user_id" IN (SELECT "users"."id" FROM "users" WHERE "users"."admin" = TRUE)
SELECT "users".* FROM "users" WHERE ("users"."id", "users"."email") IN ((1, 'a'), (2, 'b'))
SELECT "users".* FROM "users" WHERE 'red' = ANY("users"."tags")
SELECT "users"."status" FROM "users" WHERE (updated_at BETWEEN NOW() - INTERVAL '1 day' AND NOW())
SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, attidentity AS identity, attgenerated as attgenerated FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation WHERE a.attrelid = '"users"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
SELECT t.oid, t.typname FROM pg_type as t WHERE t.typname IN ('int2', 'int4', 'int8', 'oid', 'float4', 'float8', 'numeric', 'bool', 'timestamp', 'timestamptz')
SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('money', 'bytea', 'point') OR t.typtype IN ('r', 'e', 'd') OR t.typinput = 'array_in(cstring,oid,integer)'::regprocedure OR t.typelem != 0
SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false)) AND c.relkind IN ('r','p')
SELECT a.attname FROM (SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx FROM pg_index WHERE indrelid = '"users"'::regclass AND indisprimary) i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[i.idx] ORDER BY i.idx
SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), t.oid, pg_catalog.obj_description(i.oid, 'pg_class') AS comment, d.indisvalid FROM pg_class t INNER JOIN pg_index d ON t.oid = d.indrelid INNER JOIN pg_class i ON d.indexrelid = i.oid LEFT JOIN pg_namespace n ON n.oid = t.relnamespace WHERE i.relkind IN ('i', 'I') AND d.indisprimary = 'f' AND t.relname = 'users' AND n.nspname = ANY (current_schemas(false)) ORDER BY i.relname
SELECT t2.oid::regclass::text AS to_table, a1.attname AS column, a2.attname AS primary_key, c.conname AS name, c.confupdtype AS on_update, c.confdeltype AS on_delete, c.convalidated AS valid, c.condeferrable AS deferrable, c.condeferred AS deferred FROM pg_constraint c JOIN pg_class t1 ON c.conrelid = t1.oid JOIN pg_class t2 ON c.confrelid = t2.oid JOIN pg_attribute a1 ON a1.attnum = c.conkey[1] AND a1.attrelid = t1.oid JOIN pg_attribute a2 ON a2.attnum = c.confkey[1] AND a2.attrelid = t2.oid JOIN pg_namespace t3 ON c.connamespace = t3.oid WHERE c.contype = 'f' AND t1.relname = 'posts' AND t3.nspname = ANY (current_schemas(false)) ORDER BY c.conname
SELECT type.typname AS name, type.OID AS oid, n.nspname AS schema, string_agg(enum.enumlabel, ',' ORDER BY enum.enumsortorder) AS value FROM pg_enum AS enum JOIN pg_type AS type ON (type.oid = enum.enumtypid) JOIN pg_namespace n ON type.typnamespace = n.oid WHERE n.nspname = ANY (current_schemas(false)) GROUP BY type.OID, n.nspname, type.typname
SELECT attr.attname, nsp.nspname, seq.relname FROM pg_class seq, pg_attribute attr, pg_depend dep, pg_constraint cons, pg_namespace nsp WHERE seq.oid = dep.objid AND seq.relkind = 'S' AND attr.attrelid = dep.refobjid AND attr.attnum = dep.refobjsubid AND attr.attrelid = cons.conrelid AND attr.attnum = cons.conkey[1] AND seq.relnamespace = nsp.oid AND cons.contype = 'p' AND dep.classid = 'pg_class'::regclass AND dep.refobjid = '"users"'::regclass
SHOW max_identifier_length
SHOW search_path
SHOW client_min_messages
SELECT name, installed_version IS NOT NULL AS installed FROM pg_available_extensions WHERE name = 'hstore'
SELECT pg_get_constraintdef(c.oid, true) AS constraintdef FROM pg_constraint c WHERE c.contype = 'c'
EXPLAIN SELECT "users".* FROM "users" WHERE "users"."id" = $1
--- kept unknown_function: pg_trgm's functions are an extension's; with the catalog of the database they are known
SELECT "posts".* FROM "posts" ORDER BY similarity("posts"."title", 'x') DESC
--- writes
BEGIN
COMMIT
ROLLBACK
SAVEPOINT active_record_1
RELEASE SAVEPOINT active_record_1
ROLLBACK TO SAVEPOINT active_record_1
INSERT INTO "users" ("email", "created_at", "updated_at") VALUES ($1, $2, $3) RETURNING "id"
INSERT INTO "posts" ("title") VALUES ('a'), ('b') ON CONFLICT ("id") DO UPDATE SET updated_at=(CASE WHEN ("posts"."title" IS NOT DISTINCT FROM excluded."title") THEN "posts".updated_at ELSE CURRENT_TIMESTAMP END),"title"=excluded."title" RETURNING "id"
UPDATE "users" SET "sign_in_count" = COALESCE("sign_in_count", 0) + $1 WHERE "users"."id" = $2
UPDATE "posts" SET "position" = position + 1 WHERE 1=1 AND (posts.position >= 1)
UPDATE "users" SET "name" = $1, "lock_version" = $2 WHERE "users"."id" = $3 AND "users"."lock_version" = $4
DELETE FROM "posts" WHERE "posts"."id" = $1
DELETE FROM "posts_tags" WHERE "posts_tags"."post_id" = $1 AND "posts_tags"."tag_id" IN ($2, $3)
SELECT "users".* FROM "users" WHERE "users"."id" = $1 LIMIT $2 FOR UPDATE
SELECT "jobs".* FROM "jobs" WHERE "jobs"."state" = $1 ORDER BY "jobs"."priority" ASC LIMIT $2 FOR UPDATE SKIP LOCKED
SELECT pg_try_advisory_lock(4854968321046375455)
SELECT pg_advisory_unlock(4854968321046375455)
SET client_min_messages TO 'warning'
SET standard_conforming_strings = on
SET SESSION timezone TO 'UTC'
SET statement_timeout TO 15000
CREATE TABLE "widgets" ("id" bigserial primary key, "name" character varying, "created_at" timestamp(6) NOT NULL)
ALTER TABLE "posts" ADD CONSTRAINT "fk_rails_1" FOREIGN KEY ("user_id") REFERENCES "users" ("id")
CREATE UNIQUE INDEX "index_users_on_email" ON "users" ("email") WHERE deleted_at IS NULL
SELECT nextval('users_id_seq')
ALTER SEQUENCE "users_id_seq" RESTART WITH 1
CREATE EXTENSION IF NOT EXISTS "hstore" SCHEMA public
WITH job AS (SELECT id FROM jobs WHERE state = 'ready' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) UPDATE jobs SET locked_at = now() FROM job WHERE jobs.id = job.id RETURNING jobs.*
