"""asyncpg: named prepared statements for everything, its reset query, cursors, COPY, notifications."""

import asyncio

import asyncpg

from matrix import URL, tasks


async def exercise(t):
    table = f"asyncpg_{t.number}"
    conn = await asyncpg.connect(URL)
    await conn.execute(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id int PRIMARY KEY, name text, day date)")
    insert = f"INSERT INTO {table} VALUES ($1, $2) RETURNING id"
    t.say("returning", [await conn.fetchval(insert, i, f"n{i}") for i in range(20)])
    select = f"SELECT name FROM {table} WHERE id = $1"
    t.say("prepared", [await conn.fetchval(select, i) for i in range(20)])
    await conn.executemany(f"INSERT INTO {table} VALUES ($1, $2)", [(i, "many") for i in range(50, 90)])
    statement = await conn.prepare(f"SELECT count(*), min(id) FROM {table} WHERE name = $1")
    t.say("many", tuple(await statement.fetchrow("many")), statement.get_attributes()[0].name)
    try:
        async with conn.transaction():
            await conn.execute(f"DELETE FROM {table}")
            try:
                async with conn.transaction():
                    await conn.fetchval(insert, 1, "inner")
                    await conn.fetchval(insert, 1, "inner")
            except asyncpg.UniqueViolationError as error:
                t.say("error", error.sqlstate)
            t.say("inside", await conn.fetchval(f"SELECT count(*) FROM {table}"))
            raise KeyError
    except KeyError:
        t.say("rolled back", await conn.fetchval(f"SELECT count(*) FROM {table}"))
    for text in ["SELECT 1 / 0", "SELEC 1", f"SELECT nothing FROM {table}"]:
        try:
            await conn.fetch(text)
        except asyncpg.PostgresError as error:
            t.say("error", error.sqlstate)
    try:
        await conn.fetchval(insert, 1, "again")
    except asyncpg.PostgresError as error:
        t.say("error", error.sqlstate)
    async with conn.transaction(readonly=True):
        t.say("cursor", sum([row[0] async for row in conn.cursor("SELECT generate_series(1, $1::int)", 1000, prefetch=100)]))
    async with conn.transaction():
        cursor = await conn.cursor("SELECT generate_series(1, 10)")
        await cursor.forward(3)
        t.say("cursor", await cursor.fetch(2))
    await conn.copy_records_to_table(table, records=[(i, "copied", None) for i in range(200, 300)])
    lines = []

    async def keep(data):
        lines.append(data)

    await conn.copy_from_query(f"SELECT id FROM {table} WHERE id >= $1 ORDER BY id", 200, output=keep)
    t.say("copy", len(b"".join(lines)))
    await conn.execute("CREATE TEMP TABLE scratch (n int)")
    await conn.execute("INSERT INTO scratch VALUES ($1)", 4)
    t.say("temporary", await conn.fetchval("SELECT n FROM scratch"))
    await conn.execute("DROP TABLE scratch")
    await conn.execute("SET timezone TO 'Asia/Tokyo'")
    t.say("set", await conn.fetchval("SELECT '2020-01-01 00:00+00'::timestamptz::text"))
    await conn.fetchval("SELECT pg_advisory_lock($1)", 1001)
    t.say("unlocked", await conn.fetchval("SELECT pg_advisory_unlock($1)", 1001))
    heard = asyncio.get_running_loop().create_future()
    await conn.add_listener(table, lambda _c, _p, _n, payload: heard.done() or heard.set_result(payload))
    await conn.execute(f"NOTIFY {table}, 'hello'")
    t.say("notified", await asyncio.wait_for(heard, 20))
    await conn.execute("UNLISTEN *")
    await conn.reset(timeout=20)
    t.say("reset", await conn.fetchval("SHOW timezone"))
    try:
        await conn.fetchval("SELECT pg_sleep(20)", timeout=0.2)
    except asyncio.TimeoutError:
        t.say("timeout", await conn.fetchval("SELECT 1"))
    await conn.execute(f"DROP TABLE {table}")
    await conn.close()


tasks(exercise)
