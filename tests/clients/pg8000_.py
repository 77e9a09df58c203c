"""pg8000: pure Python, unnamed and named statements, COPY."""

import io
from urllib.parse import urlsplit

import pg8000.dbapi
import pg8000.native

from matrix import URL, threads


def exercise(t):
    table = f"pg8000_{t.number}"
    url = urlsplit(URL)
    where = dict(user=url.username, host=url.hostname, port=url.port, database=url.path[1:])
    conn = pg8000.native.Connection(**where)
    conn.run(f"DROP TABLE IF EXISTS {table}")
    conn.run(f"CREATE TABLE {table} (id int PRIMARY KEY, name text)")
    t.say("returning", [conn.run(f"INSERT INTO {table} VALUES (:i, :n) RETURNING id", i=i, n=f"n{i}")[0][0] for i in range(20)])
    statement = conn.prepare(f"SELECT name FROM {table} WHERE id = :i")
    t.say("prepared", [statement.run(i=i)[0][0] for i in range(20)])
    statement.close()
    conn.run("START TRANSACTION")
    conn.run(f"DELETE FROM {table}")
    conn.run("SAVEPOINT one")
    try:
        conn.run("SELECT 1 / :n", n=0)
    except pg8000.native.DatabaseError as error:
        t.say("error", error.args[0]["C"])
    conn.run("ROLLBACK TO one")
    t.say("inside", conn.run(f"SELECT count(*) FROM {table}"))
    conn.run("ROLLBACK")
    t.say("rolled back", conn.run(f"SELECT count(*) FROM {table}"))
    try:
        conn.run(f"INSERT INTO {table} VALUES (1, 'again')")
    except pg8000.native.DatabaseError as error:
        t.say("error", error.args[0]["C"])
    conn.run(f"COPY {table} FROM STDIN", stream=io.StringIO("".join(f"{i}\tc\n" for i in range(200, 300))))
    out = io.BytesIO()
    conn.run(f"COPY (SELECT id FROM {table} WHERE name = 'c' ORDER BY id) TO STDOUT", stream=out)
    t.say("copy", len(out.getvalue()))
    conn.run("CREATE TEMP TABLE scratch AS SELECT 3 AS n")
    t.say("temporary", conn.run("SELECT n FROM scratch"))
    conn.run("DROP TABLE scratch")
    conn.run("SET timezone TO 'Asia/Tokyo'")
    t.say("set", conn.run("SELECT '2020-01-01 00:00+00'::timestamptz::text"))
    conn.run("SELECT pg_advisory_lock(8001)")
    t.say("unlocked", conn.run("SELECT pg_advisory_unlock(8001)"))
    conn.run(f"LISTEN {table}")
    conn.run(f"NOTIFY {table}, 'hello'")
    for _ in range(100):
        if conn.notifications:
            break
        conn.run("SELECT 1")
    t.say("notified", [note[2] for note in conn.notifications])
    conn.run("UNLISTEN *")
    conn.close()
    with pg8000.dbapi.connect(**where) as conn:
        cursor = conn.cursor()
        cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s)", [(i, "m") for i in range(400, 410)])
        conn.rollback()
        cursor.execute(f"SELECT count(*) FROM {table}")
        t.say("dbapi", cursor.fetchall())
        conn.commit()
        cursor.execute(f"DROP TABLE {table}")
        conn.commit()


threads(exercise)
