CREATE TABLE photos (
    id serial PRIMARY KEY, title text DEFAULT 'x', owner text DEFAULT 'ann', votes int DEFAULT 0,
    taken_at timestamptz DEFAULT now(), doc jsonb DEFAULT '{"a": {"b": 1}}', tags text[] DEFAULT '{a}'
);
INSERT INTO photos (title, votes) SELECT 'photo ' || n, n % 7 FROM generate_series(1, 100) n;
CREATE TABLE votes (id serial PRIMARY KEY, photo_id int);
INSERT INTO votes (photo_id) SELECT n FROM generate_series(1, 50) n;
CREATE VIEW hot AS SELECT * FROM photos WHERE votes > 3;
CREATE MATERIALIZED VIEW tally AS SELECT owner, count(*) FROM photos GROUP BY owner;
CREATE TABLE t (id int, a int, b int, c int, x int, y int, name text);
INSERT INTO t SELECT n, n, n, n, n, n, 'n' FROM generate_series(1, 3) n;
CREATE SEQUENCE s;
CREATE FUNCTION my_read(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT n';
SELECT lo_from_bytea(1, 'x') WHERE NOT EXISTS (SELECT FROM pg_largeobject_metadata WHERE oid = 1);
