--- Transactions and the session.

BEGIN
--> primary begin transaction
BEGIN;
--> primary begin transaction
begin work
--> primary begin transaction
START TRANSACTION
--> primary begin transaction
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY
--> primary begin transaction
BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE
--> primary begin transaction
BEGIN READ ONLY DEFERRABLE
--> primary begin transaction
BEGIN READ ONLY READ WRITE
--> primary begin transaction
BEGIN READ ONLY, ISOLATION LEVEL SERIALIZABLE
--> primary begin transaction
BEGIN READ WRITE, READ ONLY
--> primary begin transaction
START TRANSACTION READ WRITE
--> primary begin transaction
BEGIN READ ONLY nonsense
--> primary begin transaction
BEGIN; SELECT 1
--> primary begin transaction
BEGIN READ ONLY; SELECT 1
--> primary begin transaction
BEGIN READ ONLY; BEGIN READ ONLY
--> primary begin transaction
SELECT 1; BEGIN READ ONLY
--> primary begin transaction
BEGIN; INSERT INTO t VALUES (1); COMMIT
--> primary multi_statement_write transaction
COMMIT
--> primary end transaction
END
--> primary end transaction
COMMIT AND CHAIN
--> primary end transaction
ROLLBACK
--> primary end transaction
ABORT
--> primary end transaction
ROLLBACK WORK AND NO CHAIN
--> primary end transaction
SELECT 1; COMMIT
--> primary end transaction
SAVEPOINT a
--> primary transaction_control transaction
RELEASE SAVEPOINT a
--> primary transaction_control transaction
RELEASE a
--> primary transaction_control transaction
ROLLBACK TO a
--> primary transaction_control transaction
ROLLBACK TRANSACTION TO SAVEPOINT a
--> primary transaction_control transaction
PREPARE TRANSACTION 'x'
--> primary two_phase transaction
COMMIT PREPARED 'x'
--> primary two_phase transaction
ROLLBACK PREPARED 'x'
--> primary two_phase transaction
SET TRANSACTION READ ONLY
--> primary transaction_control
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE
--> primary transaction_control
SET SESSION TRANSACTION READ ONLY
--> primary transaction_control
SET LOCAL work_mem = '1MB'
--> primary transaction_control
SET CONSTRAINTS ALL DEFERRED
--> primary transaction_control
SET work_mem = '1MB'
--> primary session pins silent
SET SESSION work_mem TO DEFAULT
--> primary session pins silent
SET search_path TO a, b
--> primary session pins silent
SET TIME ZONE 'utc'
--> primary session pins silent
SET ROLE admin
--> primary session pins silent
SET SESSION AUTHORIZATION bob
--> primary session pins silent
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
--> primary session pins silent
SET default_transaction_read_only = off
--> primary session pins silent
SET standard_conforming_strings = off
--> primary session pins silent
RESET ALL
--> primary session pins silent
RESET ROLE
--> primary session pins silent
DISCARD ALL
--> primary session pins silent
DISCARD TEMP
--> primary session pins silent
DISCARD PLANS
--> primary session pins silent
LOAD 'auto_explain'
--> primary session pins silent
LISTEN c
--> primary listen pins silent
UNLISTEN *
--> primary listen pins silent
PREPARE p AS SELECT 1
--> primary prepare pins silent
PREPARE p (int) AS INSERT INTO t VALUES ($1)
--> primary prepare pins silent
PREPARE transaction AS SELECT 1
--> primary prepare pins silent
DEALLOCATE p
--> primary prepare silent
DEALLOCATE PREPARE ALL
--> primary prepare silent
DECLARE c CURSOR FOR SELECT * FROM t
--> primary cursor
DECLARE c NO SCROLL CURSOR WITHOUT HOLD FOR SELECT * FROM t
--> primary cursor
DECLARE c CURSOR WITH HOLD FOR SELECT * FROM t
--> primary cursor pins silent
DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE
--> primary lock
DECLARE c CURSOR FOR SELECT pg_advisory_lock(1)
--> primary cursor pins silent
DECLARE c CURSOR FOR SELECT my_write(1)
--> primary unknown_function
FETCH ALL FROM c
--> primary cursor
FETCH c
--> primary cursor
MOVE FORWARD 10 IN c
--> primary cursor
CLOSE c
--> primary cursor
CLOSE ALL
--> primary cursor
CREATE TEMP TABLE t (id int)
--> primary temporary pins
CREATE TEMPORARY TABLE t AS SELECT 1
--> primary temporary pins
CREATE LOCAL TEMP TABLE t (id int)
--> primary temporary pins
CREATE OR REPLACE TEMP VIEW v AS SELECT 1
--> primary temporary pins
CREATE TEMP SEQUENCE s
--> primary temporary pins
CREATE TEMP TABLE t (id int) ON COMMIT DROP
--> primary temporary
CREATE TEMP TABLE t ON COMMIT DELETE ROWS AS SELECT 1
--> primary temporary pins
CREATE TEMP TABLE x AS WITH i AS (INSERT INTO t VALUES (1) RETURNING *) TABLE i
--> primary temporary pins
CREATE TABLE pg_temp.t (id int)
--> primary temporary pins
SELECT * INTO TEMP t FROM u
--> primary temporary pins
SELECT * INTO LOCAL TEMPORARY TABLE t FROM u
--> primary temporary pins
INSERT INTO temp VALUES (1)
--> primary write
INSERT INTO t SELECT set_config('a', 'b', false)
--> primary write pins silent
SELECT * FROM pg_temp.t
--> primary temporary
EXPLAIN SELECT set_config('a', 'b', false)
--> primary session
EXPLAIN ANALYZE SELECT set_config('a', 'b', false)
--> primary session pins silent
EXPLAIN SELECT pg_advisory_lock(1)
--> primary advisory_lock
EXPLAIN (ANALYZE 0) SELECT pg_advisory_lock(1)
--> primary advisory_lock
EXPLAIN (ANALYZE 'off', VERBOSE) SELECT pg_advisory_lock(1)
--> primary advisory_lock
EXPLAIN (ANALYZE off, ANALYZE) SELECT pg_advisory_lock(1)
--> primary advisory_lock pins silent
EXPLAIN ("analyze" true) SELECT pg_advisory_lock(1)
--> primary advisory_lock pins silent
SET work_mem = '1MB'; SELECT 1
--> primary session pins silent
SELECT 1; SET LOCAL work_mem = '1MB'
--> primary transaction_control
