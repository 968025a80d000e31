/** Weighs what a first visit loads: the scripts and styles that index.html names, and what those import at once. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

const AIM = 160;
const LIMIT = 200;

const dist = new URL("../dist/", import.meta.url);
if (!existsSync(dist)) {
  console.error("There is no web/dist: run npm run build first");
  process.exit(1);
}

const seen = new Map();

async function weigh(name) {
  if (seen.has(name)) return;
  const text = await readFile(new URL(name, dist), "utf8");
  seen.set(name, gzipSync(text, { level: 9 }).length);
  if (!name.endsWith(".js")) return;
  // Static imports only: `import("...")` is fetched when a page is opened.
  for (const [, path] of text.matchAll(
    /(?:^|[;}\s])(?:import|export)\s*(?:[\w$*{},\s]+from)?\s*["']\.\/([^"']+\.js)["']/g,
  )) {
    await weigh(`assets/${path}`);
  }
}

const page = await readFile(new URL("index.html", dist), "utf8");
for (const [, path] of page.matchAll(/(?:src|href)="\/(assets\/[^"]+\.(?:js|css))"/g)) await weigh(path);

const kib = (bytes) => (bytes / 1024).toFixed(1);
const total = [...seen.values()].reduce((sum, bytes) => sum + bytes, 0);
for (const [name, bytes] of seen) console.log(`${kib(bytes).padStart(7)} KiB  ${name}`);
console.log(`${kib(total).padStart(7)} KiB  gzip in all (aim ${AIM}, limit ${LIMIT})`);
if (total > LIMIT * 1024) process.exit(1);
if (total > AIM * 1024) console.warn(`over the aim of ${AIM} KiB`);
