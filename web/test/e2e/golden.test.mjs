/** From the one-time link to the first request, as a new admin goes: in a real browser, on the real product. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { api, openPage, signIn, startBrowser, startProduct, startVendor } from "./stack.mjs";

const VENDOR_KEY = "sk-vendor-canary-7Qf2";

let product;
let vendor;
let browser;

before(async () => {
  vendor = await startVendor();
  product = await startProduct();
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await product?.stop();
  await vendor?.close();
});

test("an admin gets from the sign-in link to the first request and sees it arrive", async (t) => {
  const start = Date.now();
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: product.api });
  const { page, complaints } = await openPage(context);

  await page.goto(product.console);
  await page.getByRole("heading", { name: "Connect an LLM provider" }).waitFor();
  assert.equal(new URL(page.url()).pathname, "/");
  assert.equal(new URL(page.url()).hash, "", "the token has left the address");

  await page.getByRole("link", { name: /^OpenAI\b(?!-)/ }).click();
  assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "openai", "the name is prefilled");
  await page.getByLabel("Vendor API key").fill(VENDOR_KEY);
  await page.getByText("More settings").click();
  await page.getByLabel("Upstream URL").fill(vendor.url);
  const sent = Date.now();
  await page.getByRole("button", { name: "Create and deploy" }).click();

  const steps = page.getByRole("list", { name: "Deployment progress" });
  await steps.getByText("Saved").waitFor();
  await steps.getByText(/^Sent r\d+$/).waitFor();
  await steps.getByText(/^Acked r\d+$/).waitFor();
  t.diagnostic(`from the click to Acked: ${Date.now() - sent} ms`);
  const invokeUrl = await page.getByLabel("Invoke URL on default").inputValue();
  assert.equal(invokeUrl, `${product.gateway.url}/openai`);
  await page.getByText("Waiting for your first request").waitFor();

  await page.getByRole("button", { name: "Generate key" }).click();
  const dialog = page.getByRole("dialog");
  assert.equal(await dialog.getByLabel("Name", { exact: true }).inputValue(), "openai-key");
  assert.equal(await dialog.getByLabel("Expires").inputValue(), "90d");
  await dialog.getByRole("button", { name: "Generate", exact: true }).click();

  await page.getByRole("heading", { name: "Copy your API key now" }).waitFor();
  const key = await dialog.getByLabel("API key", { exact: true }).inputValue();
  assert.match(key, /^lgk_[0-9A-Za-z]+_[0-9A-Za-z]+$/);
  assert.match(await dialog.getByRole("region", { name: "curl" }).innerText(), new RegExp(key));

  await page.keyboard.press("Escape");
  assert.ok(await dialog.isVisible(), "the key cannot be lost by Escape");
  await dialog.getByRole("button", { name: "Done" }).click({ force: true });
  assert.ok(await dialog.isVisible(), "nor by the button, which says why");
  await dialog.getByText("Copy the key, download it, or confirm that you have stored it.").waitFor();
  await dialog.getByRole("button", { name: "Copy", exact: true }).first().click();
  await dialog.getByText("Copied").first().waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), key);
  await dialog.getByRole("button", { name: "Done" }).click();
  await dialog.waitFor({ state: "detached" });

  const answer = await fetch(`${invokeUrl}/v1/chat/completions`, {
    method: "POST",
    headers: { "x-api-key": key, "content-type": "application/json" },
    body: JSON.stringify({ model: "gpt-4o", messages: [{ role: "user", content: "What is a lock gate?" }] }),
  });
  assert.equal(answer.status, 200, await answer.clone().text());
  const answered = Date.now();
  assert.equal((await answer.json()).choices[0].message.content, "Water, held back.");
  assert.equal(vendor.seen[0].headers.authorization, `Bearer ${VENDOR_KEY}`);
  assert.ok(!JSON.stringify(vendor.seen).includes(key), "the gateway's key never reaches the vendor");

  const row = page.getByRole("row").filter({ hasText: "200 Answered" });
  await row.waitFor();
  t.diagnostic(`from the answer to its row: ${Date.now() - answered} ms`);
  t.diagnostic(`from the link to the first row: ${Date.now() - start} ms`);
  assert.match(await row.innerText(), /gpt-4o-2024-11-20/);
  assert.match(await row.innerText(), /11 \/ 5/);
  assert.equal(await page.getByText("Waiting for your first request").count(), 0);

  await page.getByRole("link", { name: "Home" }).click();
  await page.getByText("The last 24 hours.").waitFor();
  await page.getByRole("link", { name: "Gateways" }).first().click();
  await page.getByText("1 of 1 connected").waitFor();

  const shown = await page.evaluate(() => document.documentElement.outerHTML);
  assert.ok(!shown.includes(VENDOR_KEY) && !shown.includes(key), "no secret stays on the page");
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a change by somebody else is noticed: reload or overwrite", async () => {
  const call = api(product);
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const { page, complaints } = await openPage(context);
  await signIn(page, product);
  await page.goto(`${product.api}/llm-providers/openai?tab=connection`);

  await page.getByLabel("Description").fill("Mine");
  const read = await call("GET", "/llm-providers/openai");
  await call("PUT", "/llm-providers/openai", { ...read, description: "Theirs" }, { "if-match": `"${read.revision}"` });
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Changed by somebody else").waitFor();
  assert.equal((await call("GET", "/llm-providers/openai")).description, "Theirs");

  await page.getByRole("button", { name: "Overwrite" }).click();
  await page.getByText(/^Saved as revision \d+/).waitFor();
  assert.equal((await call("GET", "/llm-providers/openai")).description, "Mine");
  await page.getByText("Changes not deployed").waitFor();
  assert.deepEqual(
    complaints.filter((line) => !line.includes("412")),
    [],
  );
  await context.close();
});

test("a refusal is shown beside the field it is about", async () => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const { page } = await openPage(context);
  await signIn(page, product);
  await page.goto(`${product.api}/llm-providers/new?template=openai`);
  await page.getByLabel("Name", { exact: true }).fill("openai");
  await page.getByLabel("Vendor API key").fill(VENDOR_KEY);
  await page.getByRole("button", { name: "Create only" }).click();
  await page.getByText("name_taken").waitFor();
  await context.close();
});

test("the keyboard alone gets from a card to a key", async () => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const { page, complaints } = await openPage(context);
  await signIn(page, product);
  await page.goto(`${product.api}/llm-providers/new`);
  await page.getByRole("link", { name: /^Anthropic/ }).waitFor();

  await tabTo(page, /Anthropic/);
  await page.keyboard.press("Enter");
  await page.getByLabel("Vendor API key").waitFor();
  assert.equal(await page.getByLabel("Vendor API key").evaluate((field) => field === document.activeElement), true);
  await page.keyboard.type(VENDOR_KEY);
  await page.keyboard.press("Enter");
  await page.getByText(/^Acked r\d+$/).waitFor();

  await tabTo(page, /^Generate key$/);
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name", { exact: true }).waitFor();
  await tabTo(page, /^Generate$/);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Copy your API key now" }).waitFor();
  const field = dialog.getByLabel("API key", { exact: true });
  assert.equal(await field.evaluate((input) => input === document.activeElement), true, "the key is at hand");
  const selected = await field.evaluate((input) => input.value.slice(input.selectionStart, input.selectionEnd));
  assert.equal(selected, await field.inputValue(), "and selected");
  await tabTo(page, /^I have stored the key/);
  await page.keyboard.press("Space");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.deepEqual(complaints, []);
  await context.close();
});

/** Presses Tab until what has the focus is called so. */
async function tabTo(page, name) {
  for (let presses = 0; presses < 80; presses += 1) {
    await page.keyboard.press("Tab");
    const called = await page.evaluate(() => {
      const element = document.activeElement;
      return element?.getAttribute("aria-label") ?? element?.labels?.[0]?.textContent ?? element?.textContent ?? "";
    });
    if (name.test(called.trim())) return;
  }
  throw new Error(`Tab never came to ${name}`);
}
