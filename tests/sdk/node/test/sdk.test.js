// The same calls as in the documentation and the same failures as in the Python suite, by the vendors' Node SDKs: one
// product and one set of scripted vendors for all of them.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import OpenAI from "openai";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket";
import { Product, Vendors, within } from "../product.js";
import { VENDORS, read, sdk } from "../sdks.js";

const KINDS = ["provider", "proxy"];
const endpoints = {};
let product, vendors;

before(async () => {
  vendors = await Vendors.start();
  product = await Product.start();
  const names = [];
  for (const vendor of VENDORS) {
    const { url, credential } = vendors.table[vendor];
    const [provider, proxy] = [`scripted-${vendor}`, `app-${vendor}`];
    const upstream = { url, credential: { value: credential } };
    const spec = { name: provider, template: vendor, context: `/scripted/${vendor}`, upstream };
    await product.rest("POST", "/llm-providers", spec);
    await product.deploy(provider);
    await product.rest("POST", "/llm-proxies", { name: proxy, context: `/app/${vendor}`, provider });
    await product.deploy(proxy);
    names.push(provider, proxy);
  }
  const { key } = await product.rest("POST", "/api-keys", { name: "node-sdk-tests", endpoints: names });
  await product.settle();
  for (const vendor of VENDORS) {
    const { model, text } = vendors.table[vendor];
    for (const [kind, noun, name] of [
      ["provider", "llm-providers", `scripted-${vendor}`],
      ["proxy", "llm-proxies", `app-${vendor}`],
    ]) {
      const { invokeUrls } = await product.rest("GET", `/${noun}/${name}`);
      endpoints[`${vendor} ${kind}`] = { vendor, name, invokeUrl: invokeUrls[0].url, key, model, text };
    }
  }
});

after(async () => {
  await product?.stop();
  await vendors?.stop();
});

// After every test: no gateway key has reached a vendor, and each got the credential that was stored for it.
afterEach(async () => {
  for (const vendor of VENDORS) {
    await vendors.asUsual(vendor);
    await vendors.seen(vendor);
  }
  assert.deepEqual(await vendors.breaches(), []);
});

async function collect(texts) {
  const pieces = [];
  for await (const text of texts) pieces.push(text);
  return pieces;
}

describe("the ten calls of the documentation", () => {
  for (const vendor of VENDORS) {
    for (const kind of KINDS) {
      test(`${vendor}, ${kind}, basic`, async () => {
        const endpoint = endpoints[`${vendor} ${kind}`];
        assert.equal(await sdk(endpoint).ask(), endpoint.text);
        const seen = await vendors.seen(vendor);
        assert.deepEqual(seen.map((request) => request.end), ["answered"]);
      });
      test(`${vendor}, ${kind}, streaming`, async () => {
        const endpoint = endpoints[`${vendor} ${kind}`];
        const pieces = await collect(sdk(endpoint).texts());
        assert.equal(pieces.join(""), endpoint.text);
        assert.ok(pieces.length >= 3, `in pieces: ${pieces}`);
        const seen = await vendors.seen(vendor);
        assert.deepEqual(seen.map((request) => request.end), ["answered"]);
      });
      test(`${vendor}, ${kind}, from the sample upstream`, async () => {
        const { key, ...offers } = product.ready.sample;
        const offer = offers[kind === "provider" ? "providers" : "proxies"][vendor];
        const client = sdk({ vendor, ...offer, key });
        assert.ok(await client.ask());
        assert.ok((await collect(client.texts())).length > 1);
      });
    }
  }
});

describe("what goes wrong is the SDK's own exception, with the message of whoever made the error", () => {
  async function raised(vendor, status, { key, streaming = false } = {}) {
    const client = sdk(endpoints[`${vendor} provider`], key);
    const call = streaming ? collect(client.texts()) : client.ask();
    const error = await call.then(() => assert.fail("it must fail"), (error) => error);
    assert.ok(error instanceof client.errors[status], `${error.constructor.name}: ${error.message}`);
    const said = read(client, error);
    assert.equal(said.status, status);
    return said;
  }
  const wrongly = (key) => key.slice(0, -1) + (key.endsWith("x") ? "y" : "x");
  const untimed = (text) => text.replaceAll(/req_\w+/g, "");

  for (const vendor of VENDORS) {
    for (const streaming of [false, true]) {
      const how = streaming ? "streaming" : "basic";
      test(`${vendor}, ${how}, without a key`, async () => {
        assert.match((await raised(vendor, 401, { key: null, streaming })).text, /key/i);
        assert.deepEqual(await vendors.seen(vendor), []);
      });
      test(`${vendor}, ${how}, with a wrong key`, async () => {
        const key = wrongly(endpoints[`${vendor} provider`].key);
        const said = await raised(vendor, 401, { key, streaming });
        assert.match(said.text, /key/i);
        assert.ok(!said.text.includes(key));
        assert.deepEqual(await vendors.seen(vendor), []);
      });
      for (const status of [400, 404, 429, 500]) {
        test(`${vendor}, ${how}, the vendor's own ${status}`, async () => {
          const message = `so said the vendor, with ${status}`;
          await vendors.fail(vendor, status, message, status === 429 ? { "retry-after": "7" } : {});
          const said = await raised(vendor, status, { streaming });
          assert.ok(said.text.includes(message), said.text);
          // Google's SDK shows no headers.
          if (status === 429 && vendor !== "gemini") assert.equal(said.header("retry-after"), "7");
          assert.equal((await vendors.seen(vendor)).length, 1);
        });
      }
    }
    test(`${vendor}, with a revoked key, which tells nobody that it once was one`, async () => {
      const name = `short-node-${vendor}`;
      const made = await product.rest("POST", "/api-keys", { name, endpoints: [`scripted-${vendor}`] });
      await product.settle();
      await sdk(endpoints[`${vendor} provider`], made.key).ask();
      await vendors.seen(vendor);
      await product.rest("POST", `/api-keys/${made.id}/revoke`);
      await product.settle();
      const revoked = await raised(vendor, 401, { key: made.key });
      const unknown = await raised(vendor, 401, { key: wrongly(endpoints[`${vendor} provider`].key) });
      assert.equal(untimed(revoked.text), untimed(unknown.text));
      assert.deepEqual(await vendors.seen(vendor), []);
    });
    test(`${vendor}, a refused credential is not the caller's fault`, async () => {
      await vendors.refuseCredential(vendor);
      const said = await raised(vendor, 502);
      assert.ok(!said.text.includes("vendor who said so"), said.text);
      assert.equal((await vendors.seen(vendor)).length, 1);
    });
  }
});

describe("a client that leaves in mid-stream cancels at the vendor", () => {
  for (const vendor of VENDORS) {
    for (const kind of KINDS) {
      test(`${vendor}, ${kind}`, async () => {
        // Enough for a first piece of text: Anthropic opens with three events that carry none, Azure with one.
        await vendors.holdAfter(vendor, { anthropic: 4, "azure-openai": 2 }[vendor] ?? 1);
        const leaving = new AbortController();
        const texts = sdk(endpoints[`${vendor} ${kind}`]).texts(leaving.signal);
        assert.equal((await texts.next()).value, "one");
        const [open] = await vendors.seen(vendor);
        assert.equal(open.end, "open");
        const left = Date.now() / 1000;
        leaving.abort();
        const request = await within(5, "the vendor to be told", async () => {
          const [request] = await vendors.seen(vendor);
          return request.end !== "open" && request;
        });
        assert.equal(request.end, "gone");
        assert.ok(request.gone_at - left < 0.1, `the vendor must know within 100 ms, not ${request.gone_at - left} s`);
        // An SDK may end the stream or raise; both are its own affair.
        await texts.next().catch(() => {});
      });
    }
  }
});

describe("realtime, over WebSocket", () => {
  /** Asks once and gives what was said. */
  function conversation(socket, vendor) {
    return new Promise((resolve, reject) => {
      let text = "";
      socket.on("error", reject);
      socket.on("session.created", () => socket.send({ type: "session.update", session: { instructions: vendor } }));
      socket.on("session.updated", ({ session }) => {
        assert.equal(session.instructions, vendor);
        socket.send({ type: "response.create" });
      });
      socket.on("response.output_text.delta", ({ delta }) => (text += delta));
      socket.on("response.done", () => resolve(text));
    });
  }

  /** One upgrade, and the farewell of both sides. */
  async function parted(vendor) {
    const [request] = await within(5, "the conversation to end", async () => {
      const seen = await vendors.seen(vendor);
      return seen.length > 0 && seen[0].end !== "open" && seen;
    });
    assert.equal(request.end, "answered");
    return request;
  }

  for (const vendor of ["openai", "azure-openai"]) {
    for (const kind of KINDS) {
      test(`${vendor}, ${kind}, through the SDK's socket`, async () => {
        const endpoint = endpoints[`${vendor} ${kind}`];
        const socket = await sdk(endpoint).realtime();
        assert.equal(await conversation(socket, vendor), endpoint.text);
        socket.close();
        const request = await parted(vendor);
        assert.match(request.target, vendor === "openai" ? /^\/v1\/realtime\?model=/ : /^\/openai\/realtime\?/);
      });
    }
  }

  test("openai, as a browser does it: the key in a subprotocol", async (context) => {
    const endpoint = endpoints["openai provider"];
    const options = { apiKey: endpoint.key, baseURL: `${endpoint.invokeUrl}/v1`, dangerouslyAllowBrowser: true };
    const props = { model: endpoint.model, dangerouslyAllowBrowser: true };
    // As above: this SDK would have TLS.
    const { WebSocket } = globalThis;
    globalThis.WebSocket = class extends WebSocket {
      constructor(url, protocols) {
        super(url.replace(/^wss:/, "ws:"), protocols);
      }
    };
    context.after(() => (globalThis.WebSocket = WebSocket));
    const socket = await OpenAIRealtimeWebSocket.create(new OpenAI(options), props);
    assert.equal(await conversation(socket, "browser"), endpoint.text);
    socket.close();
    const offered = (await parted("openai")).headers.filter(([name]) => name.toLowerCase() === "sec-websocket-protocol");
    assert.deepEqual(offered.map(([, value]) => value), ["realtime"]);
  });

  test("gemini, the Live API", async () => {
    const endpoint = endpoints["gemini provider"];
    const texts = [];
    const whole = new Promise((resolve, reject) => {
      const onmessage = ({ serverContent }) => {
        for (const part of serverContent?.modelTurn?.parts ?? []) texts.push(part.text);
        if (serverContent?.turnComplete) resolve(texts.join(""));
      };
      const callbacks = { onmessage, onerror: reject };
      sdk(endpoint).client.live.connect({ model: endpoint.model, callbacks }).then((session) => {
        session.sendClientContent({ turns: "Count from 1 to 3." });
        whole.then(() => session.close(), () => {});
      }, reject);
    });
    assert.equal(await whole, endpoint.text);
    await parted("gemini");
  });

  test("a wrong key opens nothing", async () => {
    const endpoint = endpoints["openai provider"];
    const socket = await sdk(endpoint, "lgk_wrong").realtime();
    const error = await new Promise((resolve) => socket.on("error", resolve));
    assert.match(error.message, /401/);
    assert.deepEqual(await vendors.seen("openai"), []);
  });
});
