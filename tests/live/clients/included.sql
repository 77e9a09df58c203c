BEGIN;
CREATE TABLE included (id int PRIMARY KEY, t text);
INSERT INTO included VALUES (1, 'a'), (2, 'b');
SAVEPOINT here;
INSERT INTO included VALUES (1, 'again');
ROLLBACK TO here;
SELECT * FROM included ORDER BY id;
COPY included FROM stdin;
3	c
4	\N
\.
COPY included TO stdout;
RELEASE here;
COMMIT;
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT 'read only' AS t;
COMMIT;
DROP TABLE included;
