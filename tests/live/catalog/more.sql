CREATE FUNCTION sql_operator() RETURNS boolean LANGUAGE sql STABLE AS 'SELECT 1 === 2';
CREATE FUNCTION sql_domain() RETURNS text LANGUAGE sql STABLE AS $$SELECT 'x'::guarded$$;
CREATE FUNCTION sql_attribute() RETURNS int LANGUAGE sql STABLE AS 'SELECT t.of_a_row FROM t';
CREATE OPERATOR ==== (LEFTARG = int, RIGHTARG = int, FUNCTION = equals_and_writes);
CREATE FUNCTION by_operator(int, int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT $1 ==== $2';
CREATE OPERATOR @!@ (LEFTARG = int, RIGHTARG = int, FUNCTION = by_operator);

CREATE FUNCTION defaults(a int DEFAULT writes(1)) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN a; END';
CREATE FUNCTION sql_defaults() RETURNS int LANGUAGE sql STABLE AS 'SELECT defaults()';
CREATE FUNCTION good_default(a int DEFAULT 1, b text DEFAULT current_user) RETURNS int LANGUAGE sql STABLE AS 'SELECT a';

CREATE VIEW activity AS SELECT pid FROM pg_stat_activity;
CREATE VIEW tables_there AS SELECT relname FROM pg_class;

CREATE FUNCTION row_and_more(t, int DEFAULT 1) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM writes(1); RETURN 1; END';
CREATE FUNCTION of_any_row(anyelement) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM writes(1); RETURN 1; END';

CREATE FUNCTION point_like(point, point) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM writes(1); RETURN true; END';
CREATE OPERATOR ~~ (LEFTARG = point, RIGHTARG = point, FUNCTION = point_like);
CREATE OPERATOR >= (LEFTARG = point, RIGHTARG = point, FUNCTION = point_like);
CREATE OPERATOR <= (LEFTARG = point, RIGHTARG = point, FUNCTION = point_like);
CREATE FUNCTION json_equals(json, json) RETURNS boolean LANGUAGE sql AS 'SELECT $1::text = $2::text';
CREATE OPERATOR = (LEFTARG = json, RIGHTARG = json, FUNCTION = json_equals);

CREATE TABLE parents (id int);
CREATE TABLE children () INHERITS (parents);
