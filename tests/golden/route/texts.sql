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
