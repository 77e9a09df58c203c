"""psycopg2: simple queries, BEGIN by itself, named cursors, COPY, notifications."""

import io
import select

import psycopg2
import psycopg2.extras

from matrix import URL, threads


def exercise(t):
    table = f"psycopg2_{t.number}"
    conn = psycopg2.connect(URL)
    cur = conn.cursor()

    def ask(text, args=None):
        cur.execute(text, args)
        return cur.fetchall() if cur.description else cur.rowcount

    ask(f"DROP TABLE IF EXISTS {table}")
    ask(f"CREATE TABLE {table} (id serial PRIMARY KEY, name text UNIQUE, tags text[])")
    conn.commit()
    t.say("returning", [ask(f"INSERT INTO {table} (name) VALUES (%s) RETURNING id", [f"n{i}"])[0][0] for i in range(20)])
    conn.commit()
    t.say("select", [ask(f"SELECT name FROM {table} WHERE id = %s", [i])[0][0] for i in range(1, 20)])
    conn.commit()
    psycopg2.extras.execute_values(cur, f"INSERT INTO {table} (name, tags) VALUES %s", [(f"v{i}", ["a", "b'"]) for i in range(50)])
    t.say("values", ask(f"SELECT count(*), max(tags) FROM {table}"))
    conn.rollback()
    t.say("rolled back", ask(f"SELECT count(*) FROM {table}"))
    ask("SAVEPOINT one")
    try:
        ask(f"INSERT INTO {table} (name) VALUES ('n1')")
    except psycopg2.Error as error:
        t.say("error", error.pgcode)
    try:
        ask("SELECT 1")
    except psycopg2.Error as error:
        t.say("error", error.pgcode)
    ask("ROLLBACK TO SAVEPOINT one")
    t.say("updated", ask(f"UPDATE {table} SET name = name || '!' WHERE id < 5"))
    conn.commit()
    with conn.cursor(name="server") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT generate_series(1, 1000)")
        t.say("cursor", sum(row[0] for row in cursor))
    conn.commit()
    cur.copy_from(io.StringIO("".join(f"c{i}\n" for i in range(100))), table, columns=["name"])
    out = io.StringIO()
    cur.copy_expert(f"COPY (SELECT name FROM {table} WHERE name LIKE 'c%' ORDER BY id) TO STDOUT", out)
    t.say("copy", len(out.getvalue()), out.getvalue()[:12].split())
    conn.commit()
    ask("CREATE TEMP TABLE scratch ON COMMIT DROP AS SELECT 7 AS n")
    t.say("temporary", ask("SELECT n FROM scratch"))
    conn.commit()
    ask("SET search_path TO pg_catalog; SET timezone TO 'Asia/Tokyo'")
    conn.commit()
    t.say("set", ask("SHOW search_path"), ask("SELECT '2020-01-01 00:00+00'::timestamptz::text"))
    conn.commit()
    ask("RESET search_path")
    conn.commit()
    conn.set_session(readonly=True)
    try:
        ask(f"DELETE FROM {table}")
    except psycopg2.Error as error:
        t.say("error", error.pgcode)
    conn.rollback()
    conn.set_session(readonly=False, autocommit=True)
    ask("SELECT pg_advisory_lock(2001)")
    t.say("unlocked", ask("SELECT pg_advisory_unlock(2001)"))
    ask(f"LISTEN {table}")
    ask(f"NOTIFY {table}, 'hello'")
    conn.poll()
    while not conn.notifies:
        if not select.select([conn], [], [], 20)[0]:
            break
        conn.poll()
    t.say("notified", [notice.payload for notice in conn.notifies])
    ask("UNLISTEN *")
    ask(f"DROP TABLE {table}")
    conn.close()


threads(exercise)
