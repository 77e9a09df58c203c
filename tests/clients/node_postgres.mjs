// node-postgres (pg): unnamed and named statements, cursors, COPY streams, notifications.
import { once } from "node:events";
import { clients, code, load, URL } from "./matrix.mjs";

const pg = load("pg");
const Cursor = load("pg-cursor");
const { from, to } = load("pg-copy-streams");

await clients(async (say, number) => {
  const table = `node_postgres_${number}`;
  const pool = new pg.Pool({ connectionString: URL, max: 1 });
  await pool.query(`DROP TABLE IF EXISTS ${table}; CREATE TABLE ${table} (id int PRIMARY KEY, name text, data jsonb)`);
  const client = await pool.connect();
  const ids = [];
  for (let i = 0; i < 20; i++) {
    const insert = `INSERT INTO ${table} VALUES ($1, $2, $3) RETURNING id`;
    ids.push((await client.query(insert, [i, `n${i}`, { i }])).rows[0].id);
  }
  say("returning", ids);
  const named = { name: "by id", text: `SELECT name, data FROM ${table} WHERE id = $1` };
  const names = [];
  for (let i = 0; i < 20; i++) names.push((await client.query({ ...named, values: [i] })).rows[0].name);
  say("named", names);
  say("error", await code(client.query(`INSERT INTO ${table} VALUES ($1)`, [1])));
  say("error", await code(client.query("SELECT 1 / $1::int", [0])));
  say("error", await code(client.query({ name: "bad", text: "SELEC 1" })));
  say("good", (await client.query({ name: "bad", text: "SELECT 1 AS one" })).rows);
  await client.query("BEGIN");
  await client.query(`DELETE FROM ${table}`);
  await client.query("SAVEPOINT one");
  say("error", await code(client.query(`INSERT INTO ${table} VALUES ('x')`)));
  say("error", await code(client.query("SELECT 1")));
  await client.query("ROLLBACK TO one");
  say("inside", (await client.query(`SELECT count(*) FROM ${table}`)).rows);
  await client.query("ROLLBACK");
  say("rolled back", (await client.query(`SELECT count(*) FROM ${table}`)).rows);
  await client.query("BEGIN");
  await client.query(`UPDATE ${table} SET name = 'kept' WHERE id = 1`);
  await client.query("COMMIT");
  say("kept", (await client.query({ ...named, values: [1] })).rows);
  const cursor = client.query(new Cursor("SELECT generate_series(1, $1::int) AS n", [250]));
  const sizes = [];
  for (let rows; (rows = await cursor.read(100)).length > 0; ) sizes.push(rows.length);
  await cursor.close();
  say("cursor", sizes);
  const sink = client.query(from(`COPY ${table} (id, name) FROM STDIN`));
  for (let i = 200; i < 300; i++) sink.write(`${i}\tcopied\n`);
  sink.end();
  await once(sink, "finish");
  let copied = "";
  const source = client.query(to(`COPY (SELECT id FROM ${table} WHERE name = 'copied' ORDER BY id) TO STDOUT`));
  for await (const chunk of source) copied += chunk;
  say("copy", copied.length);
  await client.query("CREATE TEMP TABLE scratch AS SELECT 5 AS n");
  say("temporary", (await client.query("SELECT n FROM scratch")).rows);
  await client.query("DROP TABLE scratch");
  await client.query("SET timezone TO 'Asia/Tokyo'");
  say("set", (await client.query("SELECT '2020-01-01 00:00+00'::timestamptz::text AS t")).rows);
  await client.query("SELECT pg_advisory_lock(6001)");
  say("unlocked", (await client.query("SELECT pg_advisory_unlock(6001)")).rows);
  const heard = once(client, "notification");
  await client.query(`LISTEN ${table}`);
  await client.query("SELECT pg_notify($1, 'hello')", [table]);
  say("notified", (await heard)[0].payload);
  await client.query("UNLISTEN *");
  client.release();
  await pool.query(`DROP TABLE ${table}`);
  await pool.end();
});
