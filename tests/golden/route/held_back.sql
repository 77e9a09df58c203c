--- Reads that go to the primary needlessly, known and accepted: a word could be the dangerous one.

SELECT a AS update FROM t
--> primary write
SELECT delete(h, 'a') FROM t
--> primary write
SELECT insert FROM t
--> primary write
SELECT merge FROM t
--> primary write
EXPLAIN (ANALYZE false) DELETE FROM t
--> primary write
EXPLAIN INSERT INTO t VALUES (1)
--> primary write
SELECT my_read_only_function(1)
--> primary unknown_function
SELECT public.lower('A')
--> primary unknown_function
SELECT similarity(a, b), word_similarity(a, b) FROM t
--> primary unknown_function
SELECT ST_Distance(a, b) FROM t
--> primary unknown_function
SELECT a FROM t x(a)
--> primary unknown_function
SELECT first(a) FROM t
--> primary unknown_function
SELECT "LOWER"('A')
--> primary unknown_function
SELECT cube(a, b) FROM t
--> primary unknown_function
SELECT U&"a\0062" FROM t
--> primary unicode_name silent
SELECT pg_stat_of_mine FROM t
--> primary server_state
SELECT by(1)
--> primary unknown_function
SELECT public.join(1)
--> primary unknown_function
SELECT count(*) FROM pg_temp.mine
--> primary temporary
SELECT * FROM json_to_recordset('[]') AS x(a int, g geometry(Point, 4326))
--> primary unknown_function
