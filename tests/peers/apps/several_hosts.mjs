// Chromium, driven by npm's playwright-core: node several_hosts.mjs, and a line of JSON on standard input with
// {port, trusted, elsewhere}: the port of a gateway over HTTPS with sign-in at login.test and routes for reports.test, shop.example
// and the app at away.test, which redirects to the origin `elsewhere`; and the digest of its key.
//
// Prints one line of JSON for each story: {story, error}, where `error` is null if it succeeded. JavaScript is off.

import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";

const { port, trusted, elsewhere } = JSON.parse(await text(process.stdin));
const anna = { email: "anna@example.com", password: "Anna's long password" };
const at = (host, path = "/") => `https://${host}:${port}${path}`;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--host-resolver-rules=MAP * 127.0.0.1", `--ignore-certificate-errors-spki-list=${trusted}`],
  ignoreDefaultArgs: ["--disable-back-forward-cache"],
});
const complaints = [];

async function person() {
  const context = await browser.newContext({ javaScriptEnabled: false });
  context.setDefaultTimeout(10_000);
  return tab(context);
}

async function tab(context) {
  const page = await context.newPage();
  page.on("console", (message) => {
    const isRefusal = /^Failed to load resource: the server responded with a status of 4\d\d/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !isRefusal) complaints.push(`${page.url()}: ${message.text()}`);
  });
  page.visited = [];
  page.on("request", (request) => request.isNavigationRequest() && page.visited.push(request.url()));
  return page;
}

const whole = (page) => page.locator("body").innerText();
const isForm = (page) => page.getByLabel(/^password/i).count().then((count) => count === 1);

async function signIn(page) {
  assert.ok(await isForm(page), `${page.url()}\n${await whole(page)}`);
  assert.ok(page.url().startsWith(at("login.test", "/auth/login?return_to=")), page.url());
  await page.getByLabel(/^email/i).fill(anna.email);
  await page.getByLabel(/^password/i).fill(anna.password);
  await page.getByRole("button", { name: /^sign in$/i }).click();
}

async function isKnown(page, url) {
  await page.waitForURL(url);
  assert.match(await whole(page), new RegExp(`x-auth-email: ${anna.email}`, "i"), page.url());
}

async function isAskedToSignIn(page, url) {
  await page.goto(url);
  assert.ok(page.url().startsWith(at("login.test", "/auth/login")), page.url());
  assert.ok(await isForm(page));
}

const cookiesOf = (page, host) => page.context().cookies(at(host));

let home; // Anna's own browser, through several stories

const stories = {
  async "who signs in once is known on every host"() {
    home = await person();
    await home.goto(at("reports.test", "/q1?year=2026&q=a%20b"));
    await signIn(home);
    await isKnown(home, at("reports.test", "/q1?year=2026&q=a%20b"));
    for (const host of ["shop.example", "login.test", "reports.test"]) {
      await home.goto(at(host, "/x"));
      await isKnown(home, at(host, "/x"));
      const cookies = await cookiesOf(home, host);
      assert.deepEqual(cookies.map(({ name }) => name), ["__Host-session"], "and no nonce is left");
      assert.deepEqual(cookies.map((one) => [one.secure, one.httpOnly, one.sameSite, one.domain]), [[true, true, "Lax", host]]);
    }
    const tokens = await Promise.all(["login.test", "shop.example"].map((host) => cookiesOf(home, host)));
    const [one, other] = tokens.map(([{ value }]) => JSON.parse(Buffer.from(value.split(".")[1], "base64url")));
    assert.equal(one.sid, other.sid);
    assert.deepEqual([one.host, other.host], ["login.test", "shop.example"]);
  },

  async "the address with the code is in no history"() {
    const seen = home.visited.filter((url) => url.includes("/auth/continue?code="));
    assert.ok(seen.length >= 2, `${home.visited}`);
    for (let turn = 0; turn < 8; turn += 1) {
      const answer = await home.goBack({ waitUntil: "commit" }).catch(() => null);
      assert.ok(!home.url().includes("/auth/continue"), home.url());
      if (!answer || home.url() === "about:blank") break;
    }
    await home.goto(at("reports.test", "/x"));
    await isKnown(home, at("reports.test", "/x"));
  },

  async "a code is nothing to another browser and nothing twice"() {
    const seen = home.visited.filter((url) => url.includes("/auth/continue?code="));
    const thief = await person();
    for (const url of seen) {
      assert.equal((await thief.goto(url)).status(), 400);
      assert.equal((await thief.context().cookies()).length, 0);
      assert.equal((await home.goto(url)).status(), 400);
    }
    assert.match(await whole(home), /cannot be completed/);
    await home.goto(at("reports.test", "/x"));
    await isKnown(home, at("reports.test", "/x"));
    // An unused code, intercepted.
    const victim = await person();
    await victim.route(/auth\/continue/, (route) => route.abort());
    await victim.goto(at("reports.test", "/x"));
    await signIn(victim);
    const deadline = Date.now() + 10_000;
    const caught = () => victim.visited.find((url) => url.includes("/auth/continue?code="));
    while (!caught() && Date.now() < deadline) await new Promise((next) => setTimeout(next, 20));
    await thief.goto(at("reports.test", "/x"));
    assert.equal((await thief.goto(caught())).status(), 400);
    assert.deepEqual((await cookiesOf(thief, "reports.test")).filter(({ name }) => name === "__Host-session"), []);
    for (const one of [thief, victim]) await one.context().close();
  },

  async "two tabs sign in in the other order"() {
    const first = await person();
    const second = await tab(first.context());
    await first.goto(at("reports.test", "/first"));
    await second.goto(at("reports.test", "/second"));
    await signIn(second);
    await isKnown(second, at("reports.test", "/second"));
    await signIn(first);
    await isKnown(first, at("reports.test", "/first"));
    await first.context().close();
  },

  async "signed out on one host is signed out on all, and the back button shows nothing"() {
    await home.goto(at("shop.example", "/page"));
    await isKnown(home, at("shop.example", "/page"));
    await home.goto(at("shop.example", "/auth/sessions"));
    // This form redirects from one host to another.
    await home.locator("li.current").getByRole("button", { name: /^sign out/i }).click();
    await home.waitForURL(at("login.test", "/auth/login?return_to=**"));
    assert.ok(await isForm(home));
    for (let turn = 0; turn < 2; turn += 1) {
      await home.goBack({ waitUntil: "commit" });
      await home.waitForLoadState();
      assert.doesNotMatch(await whole(home), new RegExp(anna.email), home.url());
    }
    for (const host of ["reports.test", "login.test", "shop.example"]) {
      await isAskedToSignIn(home, at(host, "/x"));
      const names = (await cookiesOf(home, host)).map(({ name }) => name);
      assert.ok(!names.includes("__Host-session"), `${host}: ${names}`);
    }
    // Signing in again returns to the last requested page.
    await signIn(home);
    await isKnown(home, at("shop.example", "/x"));
  },

  async "the form arrives where the page behind it redirects to another origin"() {
    for (const to of [at("away.test", "/away"), at("login.test", "/away")]) {
      const page = await person();
      await page.goto(to);
      await signIn(page);
      await page.waitForURL(`${elsewhere}/landed`);
      assert.match(await whole(page), /landed elsewhere/i);
      await page.context().close();
    }
  },

  async "under another name there is a page with a link and no form"() {
    const page = await person();
    await page.goto(at("wrong.test", "/x?y=1"));
    assert.ok(!(await isForm(page)), await whole(page));
    assert.match(await whole(page), new RegExp(`Sign in at\\s+https://login.test:${port}`));
    await page.getByRole("link", { name: /login\.test/ }).click();
    assert.equal(decodeURIComponent(page.url()), at("login.test", "/auth/login?return_to=/x?y=1"));
    await signIn(page);
    await isKnown(page, at("login.test", "/x?y=1"));
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
