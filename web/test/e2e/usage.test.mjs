/** What a request was and what it cost: from the call to the log, the drawer that explains it, the sums and the file. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import {
  api,
  eventually,
  findings,
  openPage,
  settled,
  signIn,
  startBrowser,
  startProduct,
  startVendor,
} from "./stack.mjs";

let product;
let vendor;
let browser;
let key;

const chat = (model) =>
  fetch(`${product.gateway.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "x-api-key": key, "content-type": "application/json" },
    body: JSON.stringify({ model, messages: [{ role: "user", content: "What is a lock gate?" }] }),
  });

before(async () => {
  vendor = await startVendor();
  product = await startProduct();
  browser = await startBrowser();
  const call = api(product);
  await call("POST", "/llm-providers", {
    name: "openai",
    template: "openai",
    context: "/openai",
    upstream: { url: vendor.url, credential: { value: "sk-vendor" } },
  });
  await call("POST", "/deployments?wait=10s", { endpoint: "openai", gateway: "default" });
  const limits = [{ name: "twice", metric: "requests", limit: 2, window: "24h" }];
  ({ key } = await call("POST", "/api-keys", { name: "team", endpoints: ["openai"], limits }));
});
after(async () => {
  await browser?.close();
  await product?.stop();
  await vendor?.close();
});

test("a request is found in the log, explained, summed with its cost and downloaded", async () => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const { page, complaints } = await openPage(context);
  await signIn(page, product);
  await page.goto(`${product.api}/requests`);
  await page.getByText("No request has been made yet.").waitFor();

  // They come in by themselves.
  await eventually("the key to be served", async () => (await chat("gpt-4o")).status === 200);
  assert.equal((await chat("gpt-4o")).status, 200);
  const refused = await chat("gpt-4o-mini");
  assert.equal(refused.status, 429);
  const answered = page.getByRole("row").filter({ hasText: "200 Answered" });
  await answered.nth(1).waitFor();
  // 11 tokens at 2.50 and 5 at 10.00 dollars a million.
  assert.match(await answered.first().innerText(), /\$0\.000078|\$0\.0000775/);
  await page.getByRole("row").filter({ hasText: "429 Refused" }).waitFor();

  await page.getByLabel("Outcome").selectOption("refused");
  await answered.first().waitFor({ state: "detached" });
  assert.match(page.url(), /outcome=refused/);
  await page.getByRole("row").filter({ hasText: "429 Refused" }).getByRole("link").click();
  const drawer = page.getByRole("dialog");
  await drawer.getByText(/^Refused by .*twice/).waitFor();
  await drawer.getByText("2 against 2 allowed per 86400s", { exact: true }).waitFor();
  await drawer.getByText("Free again").waitFor();
  const id = refused.headers.get("x-lockgate-request-id");
  assert.match(page.url(), new RegExp(`request=${id}`), "the drawer has an address");
  assert.deepEqual(await findings(page), []);
  await page.keyboard.press("Escape");
  await page.getByLabel("Outcome").selectOption("");
  await page.getByLabel("Model").selectOption("gpt-4o-2024-11-20");
  await answered.nth(1).waitFor();
  assert.equal(await page.getByRole("row").filter({ hasText: "429 Refused" }).count(), 0);

  await page.goto(`${product.api}/usage`);
  await page.getByRole("heading", { name: "Requests over time" }).waitFor();
  await page.getByText("Cost", { exact: true }).first().click();
  await page.getByRole("heading", { name: "Cost over time" }).waitFor();
  await page.getByText("By outcome").click();
  assert.match(page.url(), /measure=cost/);
  const row = page.getByRole("row").filter({ hasText: "Answered" });
  await row.waitFor();
  assert.match(await row.innerText(), /\$0\.000155/);
  await settled(page);
  assert.deepEqual(await findings(page), []);

  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download CSV" }).click(),
  ]);
  const lines = (await readFile(await download.path(), "utf8")).trim().split("\r\n");
  assert.match(lines[0], /^outcome,requests,/);
  assert.ok(
    lines.some((line) => line.startsWith("answered,2,")),
    lines.join("\n"),
  );
  assert.deepEqual(complaints, []);
  await context.close();
});
