"""psycopg 3: prepared statements by itself, pipelines, server-side cursors, COPY, notifications, and cancels in each version of the protocol."""

import threading

import psycopg
from psycopg import sql

from matrix import URL, threads

# So many clients at once open a second connection.
few = threading.Semaphore(5)


def cancel(t, version):
    """What libpq asks for is negotiated, and a cancel finds its statement, by the keys of each version of the protocol."""
    with psycopg.connect(URL, max_protocol_version=version, autocommit=True) as conn:
        done = threading.Event()

        def until_done():
            while not done.wait(0.05):
                conn.cancel_safe()

        canceller = threading.Thread(target=until_done)
        canceller.start()
        try:
            conn.execute("SELECT pg_sleep(30)")
        except psycopg.errors.QueryCanceled as error:
            t.say("cancelled", version, error.sqlstate)
        done.set()
        canceller.join()
        t.say("after it", conn.execute("SELECT 1").fetchone())


def exercise(t):
    table = sql.Identifier(f"psycopg3_{t.number}")
    with psycopg.connect(URL) as conn:
        conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        conn.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, name text, score numeric)").format(table))
        conn.commit()
        insert = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s) RETURNING id").format(table)
        t.say("returning", [conn.execute(insert, [i, f"n{i}", i / 4]).fetchone()[0] for i in range(20)])
        conn.commit()
        select = sql.SQL("SELECT name, score FROM {} WHERE id = %s").format(table)
        t.say("prepared", [conn.execute(select, [i]).fetchone() for i in range(20)])
        conn.commit()
        t.say("binary", conn.cursor(binary=True).execute(select, [3], prepare=True).fetchone())
        conn.rollback()
        conn.cursor().executemany(sql.SQL("UPDATE {} SET name = %s WHERE id = %s").format(table), [("x", 1), ("y", 2)])
        conn.rollback()
        t.say("rolled back", conn.execute(select, [1]).fetchone())
        with conn.transaction():
            conn.execute(sql.SQL("UPDATE {} SET name = 'kept' WHERE id = 1").format(table))
            try:
                with conn.transaction():
                    conn.execute(sql.SQL("UPDATE {} SET name = 'lost' WHERE id = 2").format(table))
                    conn.execute(insert, [1, "again", 0])
            except psycopg.errors.UniqueViolation as error:
                t.say("error", error.sqlstate)
        conn.commit()
        t.say("savepoint", conn.execute(select, [1]).fetchone(), conn.execute(select, [2]).fetchone())
        try:
            conn.execute("SELECT 1 / %s", [0])
        except psycopg.Error as error:
            t.say("error", error.sqlstate)
        try:
            conn.execute("SELECT 1")
        except psycopg.Error as error:
            t.say("error", error.sqlstate)
        conn.rollback()
        with conn.pipeline():
            cursors = [conn.execute(select, [i]) for i in range(10)]
            t.say("pipeline", [cursor.fetchone()[0] for cursor in cursors])
        conn.commit()
        try:
            with conn.pipeline() as pipeline:
                conn.execute(insert, [100, "gone", 0])
                conn.execute(insert, [1, "again", 0])
                conn.execute(insert, [101, "never", 0])
                pipeline.sync()
        except psycopg.Error as error:
            t.say("pipeline error", error.sqlstate)
        conn.rollback()
        t.say("nothing of it", conn.execute(select, [100]).fetchone())
        with conn.cursor(name="server") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT generate_series(1, %s)", [1000])
            t.say("cursor", sum(row[0] for row in cursor))
        conn.commit()
        with conn.cursor(name="scroll", scrollable=True, withhold=True) as cursor:
            cursor.execute(sql.SQL("SELECT id FROM {} ORDER BY id").format(table))
            conn.commit()
            cursor.scroll(5)
            t.say("held cursor", cursor.fetchone(), cursor.fetchmany(2))
        conn.commit()
        t.say("stream", sum(row[0] for row in conn.cursor().stream("SELECT generate_series(1, 500)")))
        with conn.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
            for i in range(200, 300):
                copy.write_row((i, "copied", i))
        with conn.cursor().copy(sql.SQL("COPY {} (id) TO STDOUT").format(table)) as copy:
            t.say("copy", sum(int(row[0]) for row in copy.rows()))
        conn.commit()
        try:
            with conn.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
                copy.write(b"not a number\n")
        except psycopg.Error as error:
            t.say("copy error", error.sqlstate)
        conn.rollback()
        conn.execute("CREATE TEMP TABLE scratch (n int) ON COMMIT PRESERVE ROWS")
        conn.commit()
        conn.execute("INSERT INTO scratch SELECT generate_series(1, 10)")
        conn.commit()
        t.say("temporary", conn.execute("SELECT sum(n) FROM scratch").fetchone())
        conn.execute("DROP TABLE scratch")
        conn.commit()
        conn.execute("SET timezone TO 'Asia/Tokyo'")
        conn.commit()
        t.say("timezone", conn.execute("SELECT '2020-01-01 00:00+00'::timestamptz::text").fetchone(), conn.info.timezone)
        conn.execute("SET LOCAL search_path TO pg_catalog")
        t.say("search_path", conn.execute("SHOW search_path").fetchone())
        conn.rollback()
        t.say("search_path", conn.execute("SHOW search_path").fetchone())
        conn.commit()
        conn.autocommit = True
        conn.execute("SELECT pg_advisory_lock(3001)")
        t.say("locked", conn.execute("SELECT pg_advisory_unlock(3001)").fetchone())
        channel = f"psycopg3_{t.number}"
        conn.execute(f"LISTEN {channel}")
        conn.execute("SELECT pg_notify(%s, 'hello')", [channel])
        t.say("notified", [n.payload for n in conn.notifies(timeout=20, stop_after=1)])
        conn.execute("UNLISTEN *")
        with few:
            for version in ["3.0", "3.2", "latest"]:
                cancel(t, version)
        conn.execute(sql.SQL("DROP TABLE {}").format(table))


threads(exercise)
