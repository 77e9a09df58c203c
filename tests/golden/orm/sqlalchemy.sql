--- What SQLAlchemy, Alembic and psycopg send.
--- reads
select pg_catalog.version()
select current_schema()
show transaction isolation level
SELECT users.id AS users_id, users.email AS users_email FROM users WHERE users.id = 1
SELECT users.id, users.email, users.name FROM users WHERE users.email = $1::VARCHAR
SELECT users.id, users.email FROM users WHERE users.id IN (1, 2, 3) ORDER BY users.created_at DESC
SELECT anon_1.users_id AS anon_1_users_id, posts_1.id AS posts_1_id FROM (SELECT users.id AS users_id FROM users ORDER BY users.id LIMIT 10 OFFSET 0) AS anon_1 LEFT OUTER JOIN posts AS posts_1 ON anon_1.users_id = posts_1.user_id
SELECT posts.user_id AS posts_user_id, posts.id AS posts_id FROM posts WHERE posts.user_id IN (1, 2, 3)
SELECT count(*) AS count_1 FROM (SELECT users.id AS users_id FROM users WHERE users.active IS true) AS anon_1
SELECT count(users.id) AS count_1, users.role FROM users GROUP BY users.role HAVING count(users.id) > 1
SELECT EXISTS (SELECT 1 FROM users WHERE users.email = 'x') AS anon_1
SELECT coalesce(max(posts.position), 0) AS coalesce_1 FROM posts
SELECT users.id, lower(users.email) AS lower_1, CAST(users.age AS VARCHAR) AS age FROM users WHERE users.name ILIKE '%ann%' AND users.deleted_at IS NULL
SELECT users.id, sum(orders.total) OVER (PARTITION BY users.id ORDER BY orders.created_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS running FROM users JOIN orders ON users.id = orders.user_id
WITH anon_1 AS (SELECT orders.region AS region, sum(orders.amount) AS total FROM orders GROUP BY orders.region) SELECT anon_1.region FROM anon_1 WHERE anon_1.total > (SELECT sum(anon_1.total) / 10 AS anon_2 FROM anon_1)
WITH RECURSIVE parts(id, parent_id) AS (SELECT categories.id AS id, categories.parent_id AS parent_id FROM categories WHERE categories.id = 1 UNION SELECT categories.id, categories.parent_id FROM categories, parts WHERE categories.parent_id = parts.id) SELECT parts.id FROM parts
WITH w AS MATERIALIZED (SELECT id FROM users) SELECT * FROM w
SELECT users.meta ->> 'a' AS anon_1, users.meta #> '{a,b}' AS anon_2, jsonb_array_length(users.meta -> 'list') AS n FROM users WHERE users.meta @> '{"a": 1}'
SELECT users.id FROM users WHERE users.tags @> ARRAY['a']::TEXT[] OR 'x' = ANY (users.tags)
SELECT unnest(ARRAY[1, 2, 3]) AS unnest_1
SELECT anon_1.value FROM jsonb_array_elements('[1, 2]'::jsonb) AS anon_1
SELECT jsonb_each_text.key, jsonb_each_text.value FROM users, jsonb_each_text(users.meta)
SELECT users.id FROM users JOIN LATERAL (SELECT posts.id AS id FROM posts WHERE posts.user_id = users.id ORDER BY posts.id DESC LIMIT 1) AS latest ON true
SELECT users.id FROM users TABLESAMPLE bernoulli(5) REPEATABLE (42)
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY orders.amount) AS median FROM orders
SELECT users.id, users.email FROM users UNION ALL SELECT customer.id, customer.email FROM customer ORDER BY 1 LIMIT 5
SELECT users.id FROM users EXCEPT SELECT posts.user_id FROM posts
SELECT orders.id FROM orders WHERE (orders.region, orders.status) IN (('eu', 'paid'), ('us', 'sent'))
SELECT date_part('epoch', users.created_at) AS date_part_1, EXTRACT(dow FROM users.created_at) AS anon_1, now() - users.created_at AS age, users.created_at AT TIME ZONE 'utc' AS t FROM users
SELECT users.id AS "into", users.name AS "update" FROM users
SELECT 'update users set x = 1; delete from users' AS txt, E'it\'s -- not a comment' AS t2
SELECT alembic_version.version_num FROM alembic_version
SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relname = 'users'::VARCHAR AND pg_catalog.pg_class.relkind = ANY (ARRAY['r'::VARCHAR, 'p'::VARCHAR, 'f'::VARCHAR, 'v'::VARCHAR, 'm'::VARCHAR]) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog'::VARCHAR
SELECT pg_catalog.pg_attribute.attname AS name, pg_catalog.format_type(pg_catalog.pg_attribute.atttypid, pg_catalog.pg_attribute.atttypmod) AS format_type, (SELECT pg_catalog.pg_get_expr(pg_catalog.pg_attrdef.adbin, pg_catalog.pg_attrdef.adrelid) AS pg_get_expr_1 FROM pg_catalog.pg_attrdef WHERE pg_catalog.pg_attrdef.adrelid = pg_catalog.pg_attribute.attrelid AND pg_catalog.pg_attrdef.adnum = pg_catalog.pg_attribute.attnum AND pg_catalog.pg_attribute.atthasdef) AS "default", pg_catalog.pg_attribute.attnotnull AS not_null FROM pg_catalog.pg_attribute WHERE pg_catalog.pg_attribute.attnum > 0 AND NOT pg_catalog.pg_attribute.attisdropped
SELECT pg_catalog.json_build_object('always', a.attidentity = 'a', 'start', s.seqstart) FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_attribute a ON a.attrelid = s.seqrelid
SELECT t.oid, typarray FROM pg_type t JOIN pg_namespace ns ON typnamespace = ns.oid WHERE typname = 'hstore'
SELECT typname AS name, oid, typarray AS array_oid, oid::regtype::text AS regtype, typdelim AS delimiter FROM pg_type t WHERE t.oid = to_regtype('int4') ORDER BY t.oid
COPY (SELECT id, email FROM users ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER true)
COPY users TO STDOUT
COPY users (id, email) TO STDOUT (FORMAT binary)
--- writes
BEGIN (implicit)
INSERT INTO users (email, name) VALUES ('x', 'y') RETURNING users.id
INSERT INTO users (email, name) SELECT p0::VARCHAR, p1::VARCHAR FROM (VALUES ('a', 'b', 0), ('c', 'd', 1)) AS imp_sen(p0, p1, sen_counter) ORDER BY sen_counter RETURNING users.id
INSERT INTO users (id, email) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET email = excluded.email
UPDATE users SET name='x', updated_at=now() WHERE users.id = 1
UPDATE posts SET views=(posts.views + 1) FROM users WHERE posts.user_id = users.id
DELETE FROM posts USING users WHERE posts.user_id = users.id
WITH upd AS (UPDATE users SET age = age + 1 RETURNING users.id) SELECT upd.id FROM upd
WITH gone AS (DELETE FROM posts WHERE posts.id < 0 RETURNING posts.id) SELECT count(*) FROM gone
SELECT users.id FROM users WHERE users.id = 1 FOR UPDATE
SELECT users.id FROM users WHERE users.id = 1 FOR SHARE OF users
SELECT users.id FROM users FOR UPDATE NOWAIT
SELECT nextval('users_id_seq')
SELECT pg_advisory_xact_lock(42)
SELECT pg_notify('channel', 'payload')
LISTEN channel
COPY users (id, email) FROM STDIN WITH (FORMAT csv)
SELECT * INTO users_copy FROM users
CREATE TABLE alembic_version2 (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))
UPDATE alembic_version SET version_num='1975ea83b712' WHERE alembic_version.version_num = 'ae1027a6acf'
CREATE TEMPORARY TABLE staging (LIKE users INCLUDING ALL) ON COMMIT DROP
LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE
BEGIN ISOLATION LEVEL REPEATABLE READ
PREPARE TRANSACTION '_sa_1'
COMMIT PREPARED '_sa_1'
