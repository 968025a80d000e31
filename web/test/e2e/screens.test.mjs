/** Every screen, light and dark, wide and narrow: nothing for axe to find, nothing in the console, nothing cut off. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { api, eventually, findings, openPage, settled, startBrowser, startProduct, startVendor } from "./stack.mjs";

let product;
let vendor;
let browser;
let state;
let keyId;

before(async () => {
  vendor = await startVendor();
  product = await startProduct();
  browser = await startBrowser();
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(product.console);
  await page.getByRole("heading", { name: "Home" }).waitFor();
  await settled(page);
  // Before anything exists: the empty states.
  for (const path of ["/", "/llm-providers", "/llm-proxies", "/api-keys", "/requests", "/usage", "/deployments"]) {
    await page.goto(product.api + path);
    await settled(page);
    assert.deepEqual(await findings(page), [], `empty ${path}`);
  }
  state = await context.storageState();
  await context.close();

  const call = api(product);
  await call("POST", "/llm-providers", {
    name: "openai",
    template: "openai",
    context: "/openai",
    upstream: { url: vendor.url, credential: { value: "sk-vendor" } },
  });
  await call("POST", "/llm-proxies", { name: "assistant", context: "/assistant", provider: "openai" });
  for (const endpoint of ["openai", "assistant"]) {
    await call("POST", "/deployments?wait=5s", { endpoint, gateway: "default" });
  }
  const key = await call("POST", "/api-keys", { name: "ci", endpoints: ["openai", "assistant"], expiresIn: "90d" });
  keyId = key.id;
  const body = JSON.stringify({ model: "gpt-4o", messages: [{ role: "user", content: "hello" }] });
  for (const endpoint of ["openai", "assistant"]) {
    const address = `${product.gateway.url}/${endpoint}/v1/chat/completions`;
    const headers = { "x-api-key": key.key, "content-type": "application/json" };
    // The key is on its way to the node while the answer to its creation is read.
    await eventually(`${endpoint} takes the key`, async () => {
      const answer = await fetch(address, { method: "POST", headers, body });
      await answer.text();
      return answer.status === 200;
    });
  }
});
after(async () => {
  await browser?.close();
  await product?.stop();
  await vendor?.close();
});

const SCREENS = [
  "/",
  "/llm-providers",
  "/llm-providers/new",
  "/llm-providers/new?template=azure-openai",
  "/llm-providers/openai",
  "/llm-providers/openai?tab=connection",
  "/llm-providers/openai?tab=security",
  "/llm-providers/openai?tab=keys",
  "/llm-providers/openai?tab=deployments",
  "/llm-providers/openai?tab=api",
  "/llm-providers/openai?generate=true",
  "/llm-proxies",
  "/llm-proxies/new",
  "/llm-proxies/assistant",
  "/llm-proxies/assistant?tab=connection",
  "/api-keys",
  "/requests",
  "/usage",
  "/usage?by=model&range=7d",
  "/gateways",
  "/gateways/default",
  "/gateways/default?tab=tokens",
  "/gateways/default?tab=settings",
  "/gateways/default?tab=api",
  "/deployments",
  "/no-such-page",
];

for (const width of [1280, 360]) {
  test(`every screen is sound at ${width} px, light and dark`, async () => {
    const viewport = { width, height: 800 };
    const context = await browser.newContext({ storageState: state, reducedMotion: "reduce", viewport });
    const { page, complaints } = await openPage(context);
    const wrong = [];
    for (const path of [...SCREENS, `/api-keys/${keyId}`, `/api-keys/${keyId}?tab=api`]) {
      await page.emulateMedia({ colorScheme: "light" });
      await page.goto(product.api + path);
      await settled(page);
      for (const finding of await findings(page)) wrong.push(`${path} ${finding}`);
      await photograph(page, path, "light", width);
      await page.emulateMedia({ colorScheme: "dark" });
      for (const finding of await findings(page, ["color-contrast"])) wrong.push(`${path} dark ${finding}`);
      await photograph(page, path, "dark", width);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (over > 0) wrong.push(`${path} is ${over} px too wide`);
    }
    assert.deepEqual(wrong, []);
    assert.deepEqual(complaints, []);
    await context.close();
  });
}

/** Pictures for people to look at, when SCREENSHOTS names a folder. */
async function photograph(page, path, colorScheme, width) {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  const name = path.replace(/[^a-z0-9]+/gi, "_");
  await page.screenshot({ path: `${folder}/${name}-${colorScheme}-${width}.png`, fullPage: true });
}

test("every screen fits 320 px without scrolling sideways", async () => {
  const context = await browser.newContext({ storageState: state, viewport: { width: 320, height: 700 } });
  const { page } = await openPage(context);
  const wide = [];
  for (const path of SCREENS) {
    await page.goto(product.api + path);
    await settled(page);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (over > 0) wide.push(`${path}: ${over} px`);
  }
  assert.deepEqual(wide, []);
  await context.close();
});

test("the pages before signing in are sound in light and dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ colorScheme, viewport: { width: 360, height: 800 } });
    const { page } = await openPage(context);
    for (const path of ["/sign-in", "/bootstrap"]) {
      await page.goto(product.api + path);
      await settled(page);
      assert.deepEqual(await findings(page), [], `${path} ${colorScheme}`);
    }
    await page.goto(`${product.api}/usage?range=7d`);
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    assert.equal(new URL(page.url()).searchParams.get("next"), "/usage?range=7d", "one comes back to where one wanted");
    await context.close();
  }
});
