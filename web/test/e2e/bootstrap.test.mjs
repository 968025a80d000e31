/** The first owner, on a control plane that has just been started. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { findings, openPage, settled, startBrowser, startControlPlane } from "./stack.mjs";

let product;
let browser;

before(async () => {
  product = await startControlPlane();
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await product?.stop();
});

test("whoever has the printed token becomes the owner, once", async () => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const { page } = await openPage(context);
  const origin = new URL(product.bootstrap).origin;

  await page.goto(`${origin}/sign-in`);
  await page.getByRole("heading", { name: "Create the first owner" }).waitFor();
  await page.getByLabel("Bootstrap token").fill("lgb_mistyped");
  await page.getByLabel("Email").fill("owner@example.com");
  await page.getByLabel("Password").fill("a long enough password");
  await page.getByRole("button", { name: "Create owner" }).click();
  await page.getByRole("alert").first().waitFor();

  await page.goto("about:blank");
  await page.goto(product.bootstrap);
  await page.getByLabel("Email").fill("owner@example.com");
  assert.match(await page.getByLabel("Bootstrap token").inputValue(), /^lgb_/);
  assert.equal(new URL(page.url()).hash, "", "the token has left the address");
  await page.getByLabel("Password").fill("short");
  await page.getByRole("button", { name: "Create owner" }).click();
  await page.getByText(/at least 12 characters, at most/).waitFor();
  await settled(page);
  assert.deepEqual(await findings(page), []);
  await page.getByLabel("Password").fill("a long enough password");
  await page.getByRole("button", { name: "Create owner" }).click();
  await page.getByRole("heading", { name: "Connect an LLM provider" }).waitFor();

  // Nothing is connected: deploying says so instead of pretending.
  await page.getByRole("link", { name: /^OpenAI\b(?!-)/ }).click();
  await page.getByLabel("Vendor API key").fill("sk-vendor-key");
  await page.getByRole("button", { name: "Create and deploy" }).click();
  await page.getByText("No node of the gateway default is connected.").waitFor();
  await page.getByRole("link", { name: "Open the gateway" }).click();
  await page.getByText("Never connected").waitFor();

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.goto(product.bootstrap);
  await page.getByText("This installation already has an owner.").waitFor();
  await page.goto(`${origin}/sign-in`);
  await page.getByLabel("Email").fill("owner@example.com");
  await page.getByLabel("Password").fill("a long enough password");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Home" }).waitFor();
  await context.close();
});
