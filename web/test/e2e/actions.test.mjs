/** What is done with things after they were made: keys, deployments, proxies, gateway tokens. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { api, eventually, openPage, signIn, startBrowser, startProduct, startVendor } from "./stack.mjs";

let product;
let vendor;
let browser;
let call;
let context;
let page;
let complaints;

before(async () => {
  vendor = await startVendor();
  product = await startProduct();
  browser = await startBrowser();
  call = api(product);
  await call("POST", "/llm-providers", {
    name: "openai",
    template: "openai",
    context: "/openai",
    upstream: { url: vendor.url, credential: { value: "sk-vendor-key" } },
  });
  await call("POST", "/deployments?wait=5s", { endpoint: "openai", gateway: "default" });
  context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true });
  ({ page, complaints } = await openPage(context));
  await signIn(page, product, "owner");
});
after(async () => {
  await browser?.close();
  await product?.stop();
  await vendor?.close();
});

/** The status that a call with this key gets. */
async function status(key, endpoint = "openai") {
  const answer = await fetch(`${product.gateway.url}/${endpoint}/v1/chat/completions`, {
    method: "POST",
    headers: { "x-api-key": key, "content-type": "application/json" },
    body: JSON.stringify({ model: "gpt-4o", messages: [] }),
  });
  await answer.text();
  return answer.status;
}

const menu = async (name, item) => {
  await page.getByRole("button", { name: `Actions for ${name}`, exact: true }).click();
  await page.getByRole("menuitem", { name: item }).click();
};

test("a key is made, downloaded, switched off and on, rotated and revoked", async () => {
  await page.goto(`${product.api}/api-keys`);
  await page.getByRole("button", { name: "Generate key" }).first().click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name", { exact: true }).fill("batch");
  await dialog.getByLabel("Expires").selectOption("30d");
  await dialog.getByRole("button", { name: "Generate", exact: true }).click();
  const first = await dialog.getByLabel("API key", { exact: true }).inputValue();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    dialog.getByRole("button", { name: "Download .env" }).click(),
  ]);
  assert.equal(download.suggestedFilename(), "batch.env");
  const written = await readFile(await download.path(), "utf8");
  assert.match(written, new RegExp(`^LOCKGATE_API_KEY=${first}$`, "m"));
  assert.match(written, new RegExp(`^OPENAI_BASE_URL=${product.gateway.url}/openai/v1$`, "m"));
  await dialog.getByRole("button", { name: "Done" }).click();
  await eventually("the key opens its endpoint", async () => (await status(first)) === 200);

  const row = page.getByRole("row").filter({ hasText: "batch" });
  await row.getByText("in 30 days").waitFor();
  await menu("batch", "Disable");
  await row.getByText("Disabled").waitFor();
  await eventually("a key that is switched off is refused", async () => (await status(first)) === 401);
  await menu("batch", "Enable");
  await row.getByText("Active").waitFor();
  await eventually("and taken again", async () => (await status(first)) === 200);

  await menu("batch", "Rotate");
  await dialog.getByLabel("The old key works for").selectOption("0s");
  await dialog.getByRole("button", { name: "Rotate" }).click();
  await page.getByRole("heading", { name: "Copy your API key now" }).waitFor();
  const second = await dialog.getByLabel("API key", { exact: true }).inputValue();
  assert.notEqual(second, first);
  await dialog.getByText("I have stored the key in a safe place").click();
  await dialog.getByRole("button", { name: "Done" }).click();
  await eventually("the new key is taken", async () => (await status(second)) === 200);
  await eventually("the old one no longer", async () => (await status(first)) === 401);

  await page.getByRole("link", { name: "batch" }).click();
  await page.getByRole("heading", { name: "batch" }).waitFor();
  await menu("batch", "Revoke");
  await dialog.getByRole("button", { name: "Revoke" }).click();
  await page.getByText("Revoked").waitFor();
  await eventually("a revoked key is refused", async () => (await status(second)) === 401);
  await menu("batch", "Delete");
  await dialog.getByRole("button", { name: "Delete" }).click();
  await page.getByText("No API key yet.", { exact: false }).waitFor();
});

test("a proxy is made over a provider, undeployed, restored and deleted", async () => {
  await page.goto(`${product.api}/llm-proxies/new`);
  await page.getByLabel("Name", { exact: true }).fill("agent");
  assert.equal(await page.getByLabel("Context").inputValue(), "/agent", "the context follows the name");
  await page.getByRole("button", { name: "Create and deploy" }).click();
  await page.getByText(/^Acked r\d+$/).waitFor();
  assert.equal(await page.getByLabel("Invoke URL on default").inputValue(), `${product.gateway.url}/agent`);
  const { key } = await call("POST", "/api-keys", { name: "agent-key", endpoints: ["agent"] });
  await eventually("the proxy answers", async () => (await status(key, "agent")) === 200);

  await page.getByRole("tab", { name: "Deployments" }).click();
  await menu("agent v1", "Undeploy");
  await page.getByRole("dialog").getByRole("button", { name: "Undeploy" }).click();
  await page.getByRole("cell", { name: "Undeployed" }).waitFor();
  await eventually("it is gone from the gateway", async () => (await status(key, "agent")) === 404);
  await menu("agent v1", "Restore this version");
  await page.getByRole("cell", { name: "Deployed", exact: true }).waitFor();
  await eventually("it is back", async () => (await status(key, "agent")) === 200);

  await page.getByRole("tab", { name: "Security" }).click();
  await page.getByRole("button", { name: "Only X-API-Key" }).click();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText(/^Saved as revision \d+/).waitFor();
  const { security } = await call("GET", "/llm-proxies/agent");
  assert.deepEqual(
    security.apiKey.locations.map((location) => location.name),
    ["X-API-Key"],
  );
  await page.getByRole("button", { name: "Deploy changes" }).click();
  await page.getByText(/^Acked r\d+$/).waitFor();
  await page.getByText("Live v3").waitFor();

  await menu("agent", "Delete");
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Delete" }).hover();
  await dialog.getByText("It is deployed on default. Undeploy it first.").waitFor();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("tab", { name: "Deployments" }).click();
  await menu("agent v3", "Undeploy");
  await dialog.getByRole("button", { name: "Undeploy" }).click();
  await page.getByText("Not deployed").waitFor();
  await call("DELETE", "/api-keys/agent-key", undefined, { "if-match": "*" });
  await menu("agent", "Delete");
  await dialog.getByRole("button", { name: "Delete" }).click();
  await page.getByText("No proxy yet.", { exact: false }).waitFor();
});

test("what the server normalises is said and shown", async () => {
  await page.goto(`${product.api}/llm-providers/openai?tab=connection`);
  await page.getByLabel("Upstream URL").fill(`${vendor.url}/v1`);
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText(/^Saved as revision \d+/).waitFor();
  assert.equal(await page.getByLabel("Upstream URL").inputValue(), vendor.url);
  await page.getByText("`/v1` was taken").waitFor();

  await page.getByLabel("Upstream URL").fill("https://other.example");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("The host has changed, so the vendor's key must be entered again.").waitFor();
});

test("a gateway token is made, shown once and revoked", async () => {
  await page.goto(`${product.api}/gateways/default?tab=tokens`);
  await page.getByRole("button", { name: "New token" }).click();
  const dialog = page.getByRole("dialog");
  assert.match(await dialog.getByLabel("Gateway token").inputValue(), /^lge_/);
  await page.keyboard.press("Escape");
  assert.ok(await dialog.isVisible(), "the token cannot be lost by Escape");
  await dialog.getByText("I have stored the token in a safe place").click();
  await dialog.getByRole("button", { name: "Done" }).click();
  await page.getByRole("button", { name: "New token" }).hover();
  await page.getByText("Two tokens are active already. Revoke one first.").waitFor();
  await page.getByRole("button", { name: "Revoke" }).last().click();
  await dialog.getByRole("button", { name: "Revoke" }).click();
  await eventually("one token is left", async () => (await page.getByRole("button", { name: "Revoke" }).count()) === 1);
  assert.deepEqual(complaints, []);
});
