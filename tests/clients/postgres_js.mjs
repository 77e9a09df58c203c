// postgres.js: pipelines named prepared statements by itself; cursors, COPY, notifications, begin and savepoint.
import { clients, code, load, URL } from "./matrix.mjs";

const postgres = load("postgres");

await clients(async (say, number) => {
  const name = `postgres_js_${number}`;
  const sql = postgres(URL, { max: 1, onnotice: () => {} });
  const table = sql(name);
  await sql`DROP TABLE IF EXISTS ${table}`;
  await sql`CREATE TABLE ${table} (id int PRIMARY KEY, name text)`;
  const rows = Array.from({ length: 20 }, (_, id) => ({ id, name: `n${id}` }));
  say("returning", await sql`INSERT INTO ${table} ${sql(rows)} RETURNING id`);
  const all = await Promise.all(rows.map(({ id }) => sql`SELECT name FROM ${table} WHERE id = ${id}`));
  say("pipelined", all.map((row) => row[0].name));
  const codes = [1, 0, 2, 0].map((n) => code(sql`SELECT 1 / ${n}::int`));
  say("pipelined errors", await Promise.all(codes));
  say("error", await code(sql`INSERT INTO ${table} VALUES (1)`));
  const lost = sql.begin(async (sql) => {
    await sql`DELETE FROM ${table}`;
    await sql.savepoint((sql) => sql`INSERT INTO ${table} VALUES (7), (7)`).catch((error) => say("inner", error.code));
    say("inside", await sql`SELECT count(*) FROM ${table}`);
    await sql`SELECT 1 / 0`;
  });
  say("outer", await code(lost));
  say("rolled back", await sql`SELECT count(*) FROM ${table}`);
  say("kept", await sql.begin((sql) => [
    sql`UPDATE ${table} SET name = 'kept' WHERE id = 1`,
    sql`SELECT name FROM ${table} WHERE id = 1`,
  ]));
  let sum = 0;
  await sql`SELECT generate_series(1, 1000) AS n`.cursor(100, (rows) => rows.forEach(({ n }) => (sum += n)));
  say("cursor", sum);
  const sink = await sql`COPY ${table} FROM STDIN`.writable();
  for (let i = 200; i < 300; i++) sink.write(`${i}\tcopied\n`);
  await new Promise((done, fail) => sink.on("error", fail).end(done));
  say("copied", await sql`SELECT count(*) FROM ${table} WHERE name = 'copied'`);
  let copied = "";
  for await (const chunk of await sql`COPY (SELECT generate_series(1, 100)) TO STDOUT`.readable()) copied += chunk;
  say("copy", copied.length);
  say("simple", await sql`SELECT 1 AS a; SELECT 2 AS b`.simple());
  await sql`SET timezone TO 'Asia/Tokyo'`;
  say("set", await sql`SELECT '2020-01-01 00:00+00'::timestamptz::text AS t`);
  let tell;
  const heard = new Promise((done) => (tell = done));
  const { unlisten } = await sql.listen(name, tell);
  await sql.notify(name, "hello");
  say("notified", await heard);
  await unlisten();
  await sql`DROP TABLE ${table}`;
  await sql.end();
});
