// Knex: schema builder, transactions, its migrations table with a lock row.
import { clients, code, load, URL } from "./matrix.mjs";

const knex = load("knex");

await clients(async (say, number) => {
  const table = `knex_${number}`;
  const db = knex({ client: "pg", connection: URL, pool: { min: 0, max: 2 } });
  const migrations = {
    tableName: `${table}_migrations`,
    migrationSource: {
      getMigrations: async () => ["one", "two"],
      getMigrationName: (name) => name,
      getMigration: async (name) => ({
        up: (db) =>
          name === "one"
            ? db.schema.createTable(table, (t) => {
                t.increments("id");
                t.string("name").unique();
                t.jsonb("data");
              })
            : db.schema.alterTable(table, (t) => t.integer("votes").defaultTo(0)),
        down: (db) => (name === "one" ? db.schema.dropTable(table) : db.schema.alterTable(table, (t) => t.dropColumn("votes"))),
      }),
    },
  };
  say("migrated", (await db.migrate.latest(migrations))[1]);
  const rows = Array.from({ length: 20 }, (_, i) => ({ name: `n${i}`, data: { i } }));
  say("returning", await db(table).insert(rows).returning("id"));
  for (let i = 1; i < 6; i++) say("row", await db(table).where({ id: i }).first());
  say("increment", await db(table).where("id", "<", 4).increment("votes", 2), await db(table).sum("votes"));
  say("error", await code(db(table).insert({ name: "n1" })));
  const lost = db.transaction(async (trx) => {
    await trx(table).del();
    say("inner", await code(trx.transaction((inner) => inner(table).insert([{ name: "x" }, { name: "x" }]))));
    say("inside", await trx(table).count());
    throw new Error("lost");
  });
  say("outer", await code(lost), await db(table).count());
  await db.transaction((trx) => trx(table).where({ id: 1 }).forUpdate().update({ name: "kept" }));
  say("kept", await db(table).where({ id: 1 }).pluck("name"));
  let streamed = 0;
  for await (const row of db.select(db.raw("generate_series(1, 500) AS n")).stream()) streamed += row.n;
  say("stream", streamed);
  say("rolled back", (await db.migrate.rollback(migrations, true))[1]);
  await db.schema.dropTable(migrations.tableName);
  await db.schema.dropTable(`${migrations.tableName}_lock`);
  await db.destroy();
});
