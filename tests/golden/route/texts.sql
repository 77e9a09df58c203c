--- Texts that hold no statement, or are cut off.

;
--> primary empty
;;;
--> primary empty
-- nothing
--> primary empty
/* nothing */
--> primary empty
SELECT 'abc
--> primary unterminated
SELECT "abc
--> primary unterminated
SELECT E'abc\'
--> primary unterminated
SELECT $a$ abc $b$
--> primary unterminated
SELECT 1 /* abc
--> primary unterminated
SELECT 1 /* /* */
--> primary unterminated
SELECT U&'abc
--> primary unterminated
SELECT U&"abc
--> primary unterminated
SELECT B'01
--> primary unterminated
SELECT 1; SELECT 'abc
--> primary multi_statement_write
SELECT (1
--> primary unterminated
SELECT 1)
--> primary unterminated
SELECT 1 (; DROP TABLE t
--> primary unterminated
SELECT $
--> primary stray_character
SELECT {}
--> primary stray_character
SELECT 1 \gset
--> primary stray_character
SELECT (1; DROP TABLE t)
--> primary unterminated
SELECT 1; SELECT (2
--> primary multi_statement_write
SELECT (1)); SELECT 2
--> primary multi_statement_write

--- To PostgreSQL 13 and 14 these are a number, an alias that ends in dollars, and a call.
SELECT 1_000$$, nextval('s'), 1_0$$
--> primary unterminated
SELECT 0x1F$$, pg_advisory_lock(1), 0$$
--> primary unterminated
SELECT 0b1E'\', nextval('s'), '
--> primary unterminated
