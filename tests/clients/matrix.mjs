// What the JavaScript exercises share: many clients at once, each with a transcript of its own, which must all be alike.
import { createRequire } from "node:module";

export const URL = process.env.DATABASE_URL;
const WORKERS = Number(process.env.WORKERS ?? 50);

// The packages are not installed beside the scripts.
export const load = createRequire(`${process.env.NODE_MODULES}/`);

function text(value) {
  if (value instanceof Error) return `${value.code ?? value.name} ${value.message}`;
  return typeof value === "string" ? value : JSON.stringify(value);
}

export async function clients(exercise) {
  const one = async (number) => {
    const lines = [];
    const say = (what, ...values) => lines.push(`${what}: ${values.map(text).join(" ")}`);
    try {
      await exercise(say, number);
    } catch (error) {
      say("FAILED", error, error.cause ?? "");
    }
    return lines.join("\n");
  };
  const texts = await Promise.all(Array.from({ length: WORKERS }, (_, number) => one(number)));
  const kinds = [...new Set(texts)].sort();
  const count = (kind) => texts.filter((text) => text === kind).length;
  const usual = kinds.reduce((best, kind) => (count(kind) > count(best) ? kind : best), kinds[0]);
  console.log(`${usual}\n${count(usual)} of ${texts.length} clients alike`);
  for (const kind of kinds) if (kind !== usual) console.log(`---- ${count(kind)} other:\n${kind}`);
}

// The SQLSTATE of what must fail.
export async function code(promise) {
  try {
    await promise;
    return "no error";
  } catch (error) {
    return error.code ?? error.cause?.code ?? error.message;
  }
}
