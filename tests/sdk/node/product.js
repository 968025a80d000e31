// The product and the scripted vendors as processes, and an admin's REST calls.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

/** The scripted vendors: one process, commands on its input, answers on its output (see vendors.rs). */
export class Vendors {
  static async start() {
    const vendors = new Vendors();
    vendors.process = spawn(process.env.LOCKGATE_VENDORS_BIN, { stdio: ["pipe", "pipe", "inherit"] });
    vendors.lines = createInterface({ input: vendors.process.stdout })[Symbol.asyncIterator]();
    vendors.turn = Promise.resolve();
    vendors.table = await vendors.line();
    return vendors;
  }

  async line() {
    const { value, done } = await this.lines.next();
    if (done) throw new Error("the scripted vendors have died");
    return JSON.parse(value);
  }

  /** One command at a time: an answer belongs to the command before it. */
  async tell(command) {
    const turn = this.turn.then(() => {
      this.process.stdin.write(JSON.stringify(command) + "\n");
      return this.line();
    });
    this.turn = turn.catch(() => {});
    return turn;
  }

  fail = (vendor, status, message, headers = {}) =>
    this.tell({ do: "always", vendor, error: status, message, headers });
  refuseCredential = (vendor) => this.tell({ do: "always", vendor, bad_credential: true });
  holdAfter = (vendor, events) => this.tell({ do: "always", vendor, hold_after: events });
  asUsual = (vendor) => this.tell({ do: "usual", vendor });
  /** Every request since this was asked last; one that is still open comes again. */
  seen = (vendor) => this.tell({ do: "seen", vendor });
  breaches = () => this.tell({ do: "breaches" });

  async stop() {
    this.process.stdin.end();
    await once(this.process, "exit");
  }
}

/** `lockgate dev` in a folder of its own, on free ports. */
export class Product {
  static async start() {
    const product = new Product();
    const folder = (product.folder = mkdtempSync(join(tmpdir(), "lockgate-node-sdk.")));
    const [ready, log] = [join(folder, "ready.json"), join(folder, "lockgate.log")];
    const output = openSync(log, "w");
    const free = ["--api-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"];
    const command = ["dev", "--ready-file", ready, "--data-dir", join(folder, "data"), ...free];
    product.process = spawn(process.env.LOCKGATE_BIN, command, { cwd: folder, stdio: ["ignore", output, output] });
    product.log = () => readFileSync(log, "utf8");
    await within(60, "lockgate dev to be ready", () => {
      if (product.process.exitCode !== null) throw new Error(`lockgate dev has ended:\n${product.log()}`);
      return existsSync(ready);
    });
    product.ready = JSON.parse(readFileSync(ready, "utf8"));
    return product;
  }

  async rest(method, path, body) {
    const headers = { Authorization: `Bearer ${this.ready.token}`, "Content-Type": "application/json" };
    const answer = await fetch(`${this.ready.api}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }

  async deploy(endpoint) {
    const deployment = await this.rest("POST", "/deployments?wait=10s", { endpoint, gateway: "default" });
    if (deployment.status !== "deployed") throw new Error(JSON.stringify(deployment));
  }

  /** Waits until every node has applied everything. */
  settle() {
    return within(10, "every node to apply everything", async () => (await this.rest("GET", "/gateways/default/sync")).applied);
  }

  async stop() {
    const ended = once(this.process, "exit");
    this.process.kill("SIGINT");
    const [code] = await ended;
    if (code !== 0) throw new Error(`lockgate dev ended with ${code} after Ctrl-C:\n${this.log().slice(-4000)}`);
    rmSync(this.folder, { recursive: true });
  }
}

/** Asks again until it is so. */
export async function within(seconds, what, isSo) {
  const deadline = Date.now() + 1000 * seconds;
  for (;;) {
    const found = await isSo();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await pause(10);
  }
}
