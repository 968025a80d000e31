/** What a screen shows while its data is on the way, and when it never comes. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { api, findings, openPage, signIn, startBrowser, startProduct } from "./stack.mjs";

let product;
let browser;

before(async () => {
  product = await startProduct();
  browser = await startBrowser();
  await api(product)("POST", "/llm-providers", {
    name: "openai",
    template: "openai",
    context: "/openai",
    upstream: { credential: { value: "sk-vendor" } },
  });
});
after(async () => {
  await browser?.close();
  await product?.stop();
});

test("a wrong password is refused with the server's reason, and a spent link says that it is spent", async () => {
  const context = await browser.newContext();
  const { page } = await openPage(context);
  await page.goto(`${product.api}/sign-in`);
  await page.getByLabel("Email").fill("nobody@example.com");
  await page.getByLabel("Password").fill("not the password");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").getByText("unauthenticated").waitFor();
  await page.goto(`${product.api}/sign-in#token=spent`);
  await page.reload();
  await page.getByText("This sign-in link no longer works").waitFor();
  await context.close();
});

test("a viewer sees why a button cannot be pressed", async () => {
  const context = await browser.newContext();
  const { page } = await openPage(context);
  await signIn(page, product, "viewer");
  await page.goto(`${product.api}/llm-providers/openai`);
  const deploy = page.getByRole("button", { name: "Deploy" });
  await deploy.focus();
  await page.getByText("Your role (viewer) does not have the permission deployments:write.").waitFor();
  assert.equal(await deploy.getAttribute("aria-disabled"), "true");
  await context.close();
});

test("a slow server shows the shape of the page, one that is gone shows a problem and the way to try again", async () => {
  const context = await browser.newContext();
  const { page } = await openPage(context);
  await signIn(page, product);
  await page.goto(`${product.api}/llm-providers/openai`);
  // The heading stands in the skeleton too; the tabs come with the provider.
  await page.getByRole("tab", { name: "Deployments" }).waitFor();

  product.pause();
  await page.getByRole("tab", { name: "Deployments" }).click();
  await page.locator('[aria-busy="true"] .skeleton').first().waitFor();
  assert.deepEqual(await findings(page), [], "while loading");
  product.resume();
  await page.getByText("This endpoint has never been deployed.").waitFor();

  product.kill();
  await page.getByRole("link", { name: "Home" }).click();
  await page.getByText("Reconnecting").waitFor();
  await page.getByRole("alert").first().waitFor();
  assert.ok(await page.getByRole("button", { name: "Retry" }).first().isVisible());
  assert.deepEqual(await findings(page), [], "after a failure");
  await context.close();
});
