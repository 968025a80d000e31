/** The real product for a test: one `lockgate dev` of its own, a vendor that answers as OpenAI does, and a browser. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const BROWSER = process.env.CHROMIUM ?? "/usr/bin/chromium";
const START_WITHIN = 60_000;
const STOP_WITHIN = 15_000;

/** Awaits until `probe` answers with something; fails with `what` after `within` milliseconds. */
export async function eventually(what, probe, within = 10_000) {
  const end = Date.now() + within;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${within} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** A vendor in OpenAI's shape. Remembers the headers it was sent. */
export async function startVendor() {
  const seen = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    seen.push({ method: request.method, url: request.url, headers: request.headers });
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({
        id: "chatcmpl-1",
        object: "chat.completion",
        model: "gpt-4o-2024-11-20",
        choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content: "Water, held back." } }],
        usage: { prompt_tokens: 11, completion_tokens: 5, total_tokens: 16 },
      }),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    seen,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

async function ended(child, within) {
  if (child.exitCode !== null || child.signalCode !== null) return true;
  const signal = AbortSignal.timeout(within);
  return once(child, "exit", { signal }).then(
    () => true,
    () => false,
  );
}

function binaryPath() {
  const binary = process.env.LOCKGATE_BIN;
  if (!binary) throw new Error("LOCKGATE_BIN names no binary: build it and set the variable");
  if (!existsSync(BROWSER)) throw new Error(`${BROWSER} is missing: apt-get install chromium, or set CHROMIUM`);
  return binary;
}

/** Runs the binary in an empty folder until `ready` finds in the folder or the output what it waits for. */
async function launch(arguments_, environment, ready) {
  const binary = binaryPath();
  const folder = await mkdtemp(join(tmpdir(), "lockgate-console-"));
  const env = { PATH: process.env.PATH, HOME: folder, ...environment(folder) };
  const child = spawn(binary, arguments_(folder), { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (text) => (output = (output + text).slice(-20_000)));
  }
  const stop = async () => {
    child.kill("SIGTERM");
    if (!(await ended(child, STOP_WITHIN))) child.kill("SIGKILL");
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  const signal = (name) => () => process.kill(child.pid, name);
  try {
    const found = await eventually(
      "the product is ready",
      () => {
        if (child.exitCode !== null) throw new Error(`lockgate ended with ${child.exitCode}`);
        return ready(folder, output);
      },
      START_WITHIN,
    );
    return { ...found, stop, pause: signal("SIGSTOP"), resume: signal("SIGCONT"), kill: signal("SIGKILL") };
  } catch (error) {
    await stop();
    throw new Error(`${error.message}\n${output}`, { cause: error });
  }
}

/** Starts the product from an empty data directory; answers with what its ready file says. */
export const startProduct = () =>
  launch(
    (folder) => [
      ...["dev", "--no-sample", "--ready-file", join(folder, "ready.json"), "--data-dir", join(folder, "data")],
      ...["--api-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"],
    ],
    () => ({}),
    async (folder) => {
      const text = await readFile(join(folder, "ready.json"), "utf8").catch(() => "");
      return text.trim().endsWith("}") && JSON.parse(text);
    },
  );

/** Starts a control plane alone that has no owner yet; answers with the address it prints for the first one. */
export const startControlPlane = () =>
  launch(
    () => ["control-plane"],
    (folder) => ({
      LOCKGATE_STORE__DATA_DIR: join(folder, "data"),
      LOCKGATE_SERVER__LISTEN: "127.0.0.1:0",
      LOCKGATE_LINK__LISTEN: "127.0.0.1:0",
    }),
    (_, output) => {
      const address = /http:\S+#token=lgb_\S+/.exec(output)?.[0];
      return address !== undefined && output.includes("the API and the console are at") && { bootstrap: address };
    },
  );

/** The REST API with the token of the ready file. */
export const api =
  ({ api: address, token }) =>
  async (method, path, body, headers = {}) => {
    const response = await fetch(`${address}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === "" ? undefined : JSON.parse(text);
  };

export async function startBrowser() {
  return chromium.launch({
    executablePath: BROWSER,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A page that keeps what the console complains about, for a test to find empty at the end. */
export async function openPage(context) {
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(`${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
  page.setDefaultTimeout(15_000);
  return { page, complaints };
}

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe finds wrong on a page, one line each; by all its rules or by those named. */
export async function findings(page, rules) {
  await page.evaluate(axe);
  const options = rules === undefined ? {} : { runOnly: { type: "rule", values: rules } };
  const { violations } = await page.evaluate((chosen) => globalThis.axe.run(chosen), options);
  return violations.flatMap((violation) =>
    violation.nodes.map((node) => `${violation.id}: ${node.target.join(" ")} (${node.failureSummary})`),
  );
}

/** Waits until nothing on the page is on its way any more. */
export async function settled(page) {
  await page.waitForFunction(
    () => document.querySelector("h1") !== null && document.querySelector('[aria-busy="true"]') === null,
  );
  await page.evaluate(() => document.fonts.ready.then(() => undefined));
}

/** Signs in by password as a new member; the one-time link opens only once. */
export async function signIn(page, product, role = "admin") {
  const email = `admin-${crypto.randomUUID()}@example.com`;
  const password = "a long enough password";
  await api(product)("POST", "/users", { email, password, role, displayName: "Somebody" });
  await page.goto(`${product.api}/sign-in`);
  await page.getByLabel("Email").fill(email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Home" }).waitFor();
}
