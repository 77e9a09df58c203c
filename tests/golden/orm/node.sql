--- What Prisma, TypeORM, Sequelize, Knex, Drizzle and node-postgres send.
--- reads
SELECT "public"."User"."id", "public"."User"."email", "public"."User"."name", "public"."User"."role"::text FROM "public"."User" WHERE ("public"."User"."id" = $1 AND 1=1) LIMIT $2 OFFSET $3
SELECT "public"."Post"."id", "public"."Post"."title", "public"."Post"."authorId" FROM "public"."Post" WHERE "public"."Post"."authorId" IN ($1,$2,$3) OFFSET $4
SELECT COUNT(*) FROM (SELECT "public"."User"."id" FROM "public"."User" WHERE 1=1 OFFSET $1) AS "sub"
SELECT COUNT(*), SUM("public"."Post"."viewCount"), AVG("public"."Post"."viewCount") FROM "public"."Post" WHERE "public"."Post"."published" = $1
SELECT "t1"."id", "t1"."title" FROM "public"."Post" AS "t1" LEFT JOIN "public"."User" AS "j1" ON ("j1"."id") = ("t1"."authorId") WHERE ("j1"."email" = $1 AND ("j1"."id" IS NOT NULL)) ORDER BY "t1"."createdAt" DESC LIMIT $2 OFFSET $3
SELECT "t0"."id", "t0"."email", "User_posts"."__prisma_data__" AS "posts" FROM "public"."User" AS "t0" LEFT JOIN LATERAL (SELECT COALESCE(JSONB_AGG("__prisma_data__"), '[]') AS "__prisma_data__" FROM (SELECT "t3"."__prisma_data__" FROM (SELECT JSONB_BUILD_OBJECT('id', "t2"."id", 'title', "t2"."title") AS "__prisma_data__" FROM (SELECT "t1".* FROM "public"."Post" AS "t1" WHERE "t0"."id" = "t1"."authorId") AS "t2") AS "t3") AS "t4") AS "User_posts" ON TRUE
SELECT "public"."_PostToTag"."A", "public"."_PostToTag"."B" FROM "public"."_PostToTag" WHERE "public"."_PostToTag"."A" IN ($1)
SELECT "public"."User"."id" FROM "public"."User" WHERE ("public"."User"."id") IN (SELECT "t1"."authorId" FROM "public"."Post" AS "t1" WHERE ("t1"."published" = $1 AND "t1"."authorId" IS NOT NULL)) ORDER BY "public"."User"."id" ASC LIMIT $2
SELECT "public"."User"."role"::text, COUNT(*) FROM "public"."User" GROUP BY "public"."User"."role" HAVING COUNT(*) > $1
SELECT "id", "checksum", "finished_at", "migration_name", "logs", "rolled_back_at", "started_at", "applied_steps_count" FROM "_prisma_migrations" ORDER BY "started_at" ASC
SELECT version()
SELECT EXISTS(SELECT 1 FROM pg_namespace WHERE nspname = $1), version(), current_setting('server_version_num')::integer as numeric_version
SELECT namespace.nspname as namespace, tbl.relname as table_name FROM pg_class AS tbl INNER JOIN pg_namespace AS namespace ON namespace.oid = tbl.relnamespace WHERE tbl.relkind = 'r' AND namespace.nspname = ANY ( $1 )
SELECT "User"."id" AS "User_id", "User"."firstName" AS "User_firstName" FROM "user" "User" WHERE "User"."id" = $1 LIMIT 1
SELECT "user"."id" AS "user_id", "photo"."id" AS "photo_id", "photo"."name" AS "photo_name" FROM "user" "user" LEFT JOIN "photo" "photo" ON "photo"."userId"="user"."id" WHERE "user"."isActive" = $1 AND "user"."deletedAt" IS NULL ORDER BY "user"."id" DESC
SELECT DISTINCT "distinctAlias"."User_id" AS "ids_User_id", "distinctAlias"."User_id" FROM (SELECT "User"."id" AS "User_id", "User__photos"."id" AS "User__photos_id" FROM "user" "User" LEFT JOIN "photo" "User__photos" ON "User__photos"."userId"="User"."id") "distinctAlias" ORDER BY "User_id" ASC LIMIT 10
SELECT COUNT(DISTINCT("User"."id")) AS "cnt" FROM "user" "User"
SELECT COUNT(1) AS "cnt" FROM "user" "User" WHERE ("User"."firstName" ILIKE $1)
SELECT SUM("photo"."views") AS "sum", "photo"."userId" FROM "photo" "photo" GROUP BY "photo"."userId"
SELECT 1 AS "row_exists" FROM (SELECT 1 AS dummy_column) "dummy_table" WHERE EXISTS (SELECT 1 FROM "user" "User" WHERE (("User"."id" = $1))) LIMIT 1
SELECT * FROM "information_schema"."tables" WHERE "table_schema" = 'public' AND "table_name" = 'migrations'
SELECT * FROM "migrations" "migrations" ORDER BY "id" DESC
SELECT * FROM current_schema()
SELECT * FROM current_database()
SHOW server_version;
SELECT "ns"."nspname" AS "table_schema", "t"."relname" AS "table_name", "cnst"."conname" AS "constraint_name", pg_get_constraintdef("cnst"."oid") AS "expression", CASE "cnst"."contype" WHEN 'p' THEN 'PRIMARY' WHEN 'u' THEN 'UNIQUE' WHEN 'c' THEN 'CHECK' WHEN 'x' THEN 'EXCLUDE' END AS "constraint_type", "a"."attname" AS "column_name" FROM "pg_constraint" "cnst" INNER JOIN "pg_class" "t" ON "t"."oid" = "cnst"."conrelid" INNER JOIN "pg_namespace" "ns" ON "ns"."oid" = "cnst"."connamespace" LEFT JOIN "pg_attribute" "a" ON "a"."attrelid" = "cnst"."conrelid" AND "a"."attnum" = ANY ("cnst"."conkey") WHERE "t"."relkind" IN ('r', 'p')
SELECT columns.*, pg_catalog.col_description(('"' || table_catalog || '"."' || table_schema || '"."' || table_name || '"')::regclass::oid, ordinal_position) AS description, ('"' || "udt_schema" || '"."' || "udt_name" || '"')::"regtype" AS "regtype", pg_catalog.format_type("col_attr"."atttypid", "col_attr"."atttypmod") AS "format_type" FROM "information_schema"."columns" LEFT JOIN "pg_catalog"."pg_attribute" AS "col_attr" ON "col_attr"."attname" = "columns"."column_name" AND "col_attr"."attrelid" = (SELECT "cls"."oid" FROM "pg_catalog"."pg_class" AS "cls" LEFT JOIN "pg_catalog"."pg_namespace" AS "ns" ON "ns"."oid" = "cls"."relnamespace" WHERE "cls"."relname" = "columns"."table_name" AND "ns"."nspname" = "columns"."table_schema") WHERE ("table_schema" = 'public' AND "table_name" = 'users')
SELECT "id", "username", "email", "createdAt", "updatedAt" FROM "Users" AS "User" WHERE ("User"."deletedAt" IS NULL AND "User"."id" = 1);
SELECT "User"."id", "Projects"."id" AS "Projects.id", "Projects"."title" AS "Projects.title" FROM "Users" AS "User" LEFT OUTER JOIN "Projects" AS "Projects" ON "User"."id" = "Projects"."UserId" WHERE "User"."username" LIKE 'a%' ORDER BY "User"."createdAt" DESC;
SELECT count(*) AS "count" FROM "Users" AS "User" WHERE "User"."email" IN ('a', 'b');
SELECT sum("budget") AS "sum" FROM "Projects" AS "Project";
SELECT "id", "title" FROM "Projects" AS "Project" WHERE ("Project"."budget" > 100 OR "Project"."budget" IS NULL) ORDER BY "Project"."title" ASC LIMIT 10 OFFSET 5;
SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type LIKE '%TABLE' AND table_name != 'spatial_ref_sys';
SELECT i.relname AS name, ix.indisprimary AS primary, ix.indisunique AS unique, ix.indkey AS indkey, array_agg(a.attnum) as column_indexes, array_agg(a.attname) AS column_names, pg_get_indexdef(ix.indexrelid) AS definition FROM pg_class t, pg_class i, pg_index ix, pg_attribute a WHERE t.oid = ix.indrelid AND i.oid = ix.indexrelid AND a.attrelid = t.oid AND t.relkind = 'r' and t.relname = 'Users' GROUP BY i.relname, ix.indexrelid, ix.indisprimary, ix.indisunique, ix.indkey ORDER BY i.relname;
WITH ranges AS (SELECT pg_range.rngtypid, pg_type.typname AS rngtypname, pg_type.typarray AS rngtyparray, pg_range.rngsubtype FROM pg_range LEFT OUTER JOIN pg_type ON pg_type.oid = pg_range.rngtypid) SELECT pg_type.typname, pg_type.typtype, pg_type.oid, pg_type.typarray, ranges.rngtypname, ranges.rngtypid, ranges.rngtyparray FROM pg_type LEFT OUTER JOIN ranges ON pg_type.oid = ranges.rngsubtype WHERE (pg_type.typtype IN('b', 'e'))
select * from "users" where "id" = $1 limit $2
select "users"."id", "posts"."title" from "users" inner join "posts" on "users"."id" = "posts"."user_id" where "posts"."published" = $1 order by "posts"."created_at" desc limit $2 offset $3
select count(*) as "total" from "orders" where "status" in ($1, $2) and "amount" between $3 and $4
select distinct "region" from "orders" where not "region" is null
select * from "knex_migrations" order by "id" asc
select "name" from "knex_migrations" order by "id" asc
select * from "knex_migrations_lock"
select * from information_schema.tables where table_name = $1 and table_schema = current_schema()
with "recent" as (select * from "orders" where "created_at" > $1) select "region", sum("amount") as "s" from "recent" group by "region"
select "id", "email" from "users" where ("users"."active" = $1 and "users"."role" = $2) order by "users"."created_at" desc limit $3
select "users"."id", "users_posts"."data" as "posts" from "users" "users" left join lateral (select coalesce(json_agg(json_build_array("users_posts"."id", "users_posts"."title")), '[]'::json) as "data" from "posts" "users_posts" where "users_posts"."user_id" = "users"."id") "users_posts" on true
SELECT $1::text AS message
SELECT NOW()
SELECT * FROM users WHERE id = ANY($1::int[])
SELECT id, name FROM products WHERE attributes->>'color' = $1 ORDER BY price ASC LIMIT 20
SELECT json_build_object('users', (SELECT json_agg(u) FROM users u), 'n', (SELECT count(*) FROM posts)) AS result
--- writes
BEGIN
BEGIN ISOLATION LEVEL READ COMMITTED
COMMIT
INSERT INTO "public"."User" ("email","name","role") VALUES ($1,$2,$3) RETURNING "public"."User"."id"
UPDATE "public"."User" SET "name" = $1 WHERE ("public"."User"."id" = $2 AND 1=1)
UPDATE "public"."Post" SET "viewCount" = ("public"."Post"."viewCount" + $1) WHERE "public"."Post"."id" IN ($2) RETURNING "id"
DELETE FROM "public"."Post" WHERE ("public"."Post"."id" IN ($1,$2) AND 1=1)
INSERT INTO "public"."_PostToTag" ("A","B") VALUES ($1,$2) ON CONFLICT DO NOTHING
SELECT pg_advisory_lock(72707369)
INSERT INTO "user"("firstName", "lastName", "isActive") VALUES ($1, $2, DEFAULT) RETURNING "id", "isActive"
UPDATE "user" SET "deletedAt" = CURRENT_TIMESTAMP WHERE "id" IN ($1)
START TRANSACTION
SELECT "User"."id" AS "User_id" FROM "user" "User" WHERE "User"."id" = $1 LIMIT 1 FOR UPDATE
SELECT "User"."id" AS "User_id" FROM "user" "User" LIMIT 1 FOR SHARE
CREATE TABLE "migrations2" ("id" SERIAL NOT NULL, "timestamp" bigint NOT NULL, CONSTRAINT "PK_8" PRIMARY KEY ("id"))
ALTER TABLE "photo" ADD CONSTRAINT "FK_4494" FOREIGN KEY ("userId") REFERENCES "user"("id") ON DELETE CASCADE ON UPDATE NO ACTION
INSERT INTO "Users" ("id","username","createdAt","updatedAt") VALUES (DEFAULT,$1,$2,$3) RETURNING "id","username";
UPDATE "Users" SET "username"=$1,"updatedAt"=$2 WHERE "id" = $3
DELETE FROM "Projects" WHERE "id" IN (SELECT "id" FROM "Projects" WHERE "UserId" = 1 LIMIT 1)
CREATE TABLE IF NOT EXISTS "Tags" ("id" SERIAL, "createdAt" TIMESTAMP WITH TIME ZONE NOT NULL, PRIMARY KEY ("id"));
SELECT "id" FROM "Projects" AS "Project" WHERE "Project"."id" = 1 FOR UPDATE SKIP LOCKED;
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
insert into "users" ("email") values ($1) on conflict ("id") do update set "email" = excluded."email" returning *
update "knex_migrations_lock" set "is_locked" = $1 where "is_locked" = $2
select * from "users" where "id" = $1 for update
select * from "jobs" where "queue" = $1 order by "priority" limit $2 for update skip locked
with "moved" as (delete from "posts" where "id" = $1 returning *) select * from "moved"
truncate "users" restart identity cascade
LISTEN jobs_insert
DISCARD ALL
