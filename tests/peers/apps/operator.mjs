// The operator's page in Chromium, driven by npm's playwright-core: node operator.mjs, and a line of JSON on standard input with
// {admin, when, screenshots}: the address of the admin port; `load` or `reload` for what happened before; and a directory for
// pictures or null. Prints one line of JSON for each story: {story, error}, where `error` is null if it succeeded.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";

const { admin, when, screenshots } = JSON.parse(await text(process.stdin));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const WIDE = { viewport: { width: 1280, height: 900 } };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const LOOKS = {
  light: { colorScheme: "light", ...WIDE },
  dark: { colorScheme: "dark", ...WIDE },
  phone: { colorScheme: "light", ...PHONE },
};

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
const complaints = [];

async function open(options = {}) {
  const context = await browser.newContext({ javaScriptEnabled: false, ...options });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(`${page.url()}: ${message.text()}`);
  });
  return page;
}

// JavaScript is on and the policy is off for the accessibility checker alone, which is a script in the page.
async function inspect(look, path, name, prepare = async () => {}) {
  const page = await open({ ...LOOKS[look], javaScriptEnabled: true, bypassCSP: true });
  await page.goto(`${admin}${path}`);
  await prepare(page);
  if (screenshots) await page.screenshot({ path: `${screenshots}/operator-${name}-${look}.png`, fullPage: true });
  const [wide, room] = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    return [scrollWidth, clientWidth];
  });
  assert.ok(wide <= room, `${name} in ${look}: ${wide} px wide on a screen of ${room}`);
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => window.axe.run(document));
  assert.ok(passes.length > 10, "the checker has looked");
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map(({ html }) => html).join("\n  ")}`);
  assert.deepEqual(told, [], `${name} in ${look}`);
  await page.context().close();
}

const stories = {
  async "the overview is good for screen readers and fits every screen"() {
    for (const look of Object.keys(LOOKS)) await inspect(look, "/?refresh=off", when);
  },

  async "the page of a decision is too"() {
    for (const look of Object.keys(LOOKS)) {
      await inspect(look, "/?refresh=off", `${when}-decision`, async (page) => {
        await page.getByRole("link", { name: /^why/i }).first().click();
        await page.getByText(/^refused: /).waitFor();
      });
    }
  },

  async "the page tells what happened"() {
    const page = await open(LOOKS.light);
    await page.goto(`${admin}/?refresh=off`);
    const body = await page.locator("body").innerText();
    for (const words of ["role-refused", "expired", "route-missing", "old-app", "down", "healthy", "far", "never", "expires"]) {
      assert.ok(body.includes(words), `${words} is not in ${body}`);
    }
    assert.equal(body.includes("The last reload failed."), when === "reload", body);
    assert.ok(body.includes("<img src=x onerror=alert(1)>"), "text of a client is text");
    assert.equal(await page.locator("script, img, link, iframe").count(), 0);
    const line = await page.locator("figure path.line").first().getAttribute("d");
    assert.ok(line.startsWith("M"), line);
    await page.context().close();
  },

  async "it is loaded again by itself until that is stopped"() {
    const page = await open(LOOKS.light);
    await page.goto(admin);
    const [again] = await Promise.all([
      page.waitForResponse((response) => response.url() === `${admin}/`, { timeout: 15_000 }),
    ]);
    assert.equal(again.status(), 200);
    await page.getByRole("link", { name: /stop refreshing/i }).click();
    await page.getByRole("link", { name: /refresh every 10 seconds/i }).waitFor();
    await page.context().close();
  },

  async "no page broke its policy or had an error"() {
    assert.deepEqual(complaints, []);
  },
};

for (const [story, live] of Object.entries(stories)) {
  let error = null;
  try {
    await live();
  } catch (failure) {
    error = String(failure.stack ?? failure);
  }
  console.log(JSON.stringify({ story, error }));
}
await browser.close();
