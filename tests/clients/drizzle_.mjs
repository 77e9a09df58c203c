// Drizzle over node-postgres: prepared statements, transactions within transactions, upserts.
import { clients, code, load, URL } from "./matrix.mjs";

const pg = load("pg");
const { drizzle } = load("drizzle-orm/node-postgres");
const { integer, pgTable, serial, text } = load("drizzle-orm/pg-core");
const { eq, sql } = load("drizzle-orm");

await clients(async (say, number) => {
  const name = `drizzle_${number}`;
  const photos = pgTable(name, { id: serial("id").primaryKey(), name: text("name").unique(), votes: integer("votes") });
  const pool = new pg.Pool({ connectionString: URL, max: 2 });
  const db = drizzle(pool);
  await db.execute(sql.raw(`DROP TABLE IF EXISTS ${name}`));
  await db.execute(sql.raw(`CREATE TABLE ${name} (id serial PRIMARY KEY, name text UNIQUE, votes int)`));
  const rows = Array.from({ length: 20 }, (_, i) => ({ name: `n${i}`, votes: i }));
  say("returning", await db.insert(photos).values(rows).returning({ id: photos.id }));
  const byId = db.select().from(photos).where(eq(photos.id, sql.placeholder("id"))).prepare("by_id");
  for (let id = 1; id <= 20; id++) say("prepared", await byId.execute({ id }));
  const upsert = db.insert(photos).values({ name: "n1", votes: 9 });
  say("upsert", await upsert.onConflictDoUpdate({ target: photos.name, set: { votes: 99 } }).returning());
  say("error", await code(db.insert(photos).values({ name: "n1" })));
  const lost = db.transaction(async (tx) => {
    await tx.delete(photos);
    say("inner", await code(tx.transaction((tx) => tx.insert(photos).values([{ name: "x" }, { name: "x" }]))));
    say("inside", await tx.$count(photos));
    tx.rollback();
  });
  say("outer", (await code(lost)) !== "no error", await db.$count(photos));
  await db.transaction((tx) => tx.update(photos).set({ votes: sql`votes + 1` }), { isolationLevel: "serializable" });
  const reading = { accessMode: "read only", isolationLevel: "repeatable read" };
  say("read only", await db.transaction((tx) => tx.select({ sum: sql`sum(votes)` }).from(photos), reading));
  await db.execute(sql.raw(`DROP TABLE ${name}`));
  await pool.end();
});
