CREATE ROLE app LOGIN;
CREATE SCHEMA app AUTHORIZATION app;
ALTER ROLE app SET search_path = app, public;
GRANT ALL ON SCHEMA public TO app;
CREATE TABLE t (id int, name text);
INSERT INTO t VALUES (1, 'one');
CREATE TABLE log (id int);
CREATE SEQUENCE numbers;
CREATE UNLOGGED TABLE quick (id int);
CREATE TABLE parts (id int) PARTITION BY LIST (id);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
CREATE UNLOGGED TABLE part_2 PARTITION OF parts FOR VALUES IN (2);

CREATE FUNCTION reads(int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1; END';
CREATE FUNCTION writes(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log VALUES ($1); RETURN $1; END';
CREATE FUNCTION overloaded(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION overloaded(text) RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log VALUES (1); RETURN 1; END';
CREATE FUNCTION public.by_path() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION app.by_path() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log VALUES (1); RETURN 1; END';
CREATE FUNCTION sql_reads() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.t';
CREATE FUNCTION sql_lies() RETURNS int LANGUAGE sql STABLE AS 'SELECT writes(1)';
CREATE FUNCTION atomic_lies() RETURNS int LANGUAGE sql STABLE BEGIN ATOMIC SELECT writes(1); END;

CREATE VIEW plain_view AS SELECT id FROM t WHERE name ~ 'o' ORDER BY id;
CREATE VIEW writing_view AS SELECT id, writes(id) FROM t;
CREATE VIEW view_of_view AS SELECT * FROM writing_view;
CREATE VIEW sequence_view AS SELECT nextval('numbers');
CREATE VIEW lock_view AS SELECT pg_try_advisory_xact_lock(7), id FROM t;

CREATE FUNCTION adds(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE FUNCTION adds_and_writes(a int, b int) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM writes(b); RETURN a + b; END';
CREATE AGGREGATE good_agg(int) (SFUNC = adds, STYPE = int, INITCOND = '0');
CREATE AGGREGATE bad_agg(int) (SFUNC = adds_and_writes, STYPE = int, INITCOND = '0');

CREATE FUNCTION equals_and_writes(int, int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM writes(1); RETURN $1 = $2; END';
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = equals_and_writes);
CREATE FUNCTION checks_and_writes(text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM writes(1); RETURN true; END';
CREATE DOMAIN guarded AS text CHECK (checks_and_writes(VALUE));
CREATE DOMAIN plain_domain AS text CHECK (length(VALUE) > 0);
CREATE TABLE with_guarded (id int, name guarded);

CREATE FUNCTION of_a_row(t) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM writes(1); RETURN 1; END';
CREATE FUNCTION stable_of_a_row(t) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';

CREATE TABLE secret (id int, tenant text);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY counts ON secret USING (checks_and_writes(tenant));
CREATE TABLE open_secret (id int, tenant text);
ALTER TABLE open_secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants ON open_secret USING (tenant = current_user);

GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
