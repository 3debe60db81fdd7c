// Sign-in with a certified OpenID provider in Chromium: node providers.mjs, and a line of JSON on standard input with
// {gateway, ports, secret, anna, screenshots}: a gateway with the providers `main` and `other` on `ports` of 127.0.0.1, which do
// not run yet, with local accounts, an app at /* that answers with what it got, a route /staff/* for the role `staff`,
// and a WebSocket at /ws; the password of the local account anna@example.com; and a directory for pictures or null.
//
// Prints one line of JSON for each story: {story, error, seconds}, where `error` is null if it succeeded. JavaScript is off unless a
// story says otherwise.

import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";
import { OpenId } from "./openid.mjs";

const { gateway, ports, secret, password, screenshots } = JSON.parse(await text(process.stdin));

const claims = {
  ann: { email: "ann@example.com", email_verified: true, name: "Ann Ångström", groups: ["staff", "everyone"] },
  bob: { email: "bob@example.com", email_verified: true, name: "Bob", groups: ["everyone"] },
};
const [main, other] = ["main", "other"].map((name, at) => {
  const redirectUri = `${gateway}/auth/login/${name}/return`;
  const logoutUri = `${gateway}/auth/backchannel-logout`;
  return new OpenId({ name, port: ports[at], secret, redirectUri, logoutUri, afterLogout: `${gateway}/auth/logout`, claims });
});

// Every other name is not found: the pages of the provider ask for a font on the Internet.
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"],
});
const complaints = [];

async function person(options = {}) {
  const context = await browser.newContext({ javaScriptEnabled: false, ...options });
  context.setDefaultTimeout(10_000);
  return tab(context);
}

async function tab(context) {
  const page = await context.newPage();
  page.on("console", (message) => {
    const isRefusal = /^Failed to load resource: the server responded with a status of [45]\d\d/.test(message.text());
    const isOurs = message.location().url.startsWith(gateway);
    if (isOurs && ["error", "warning"].includes(message.type()) && !isRefusal) complaints.push(`${page.url()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => page.url().startsWith(gateway) && complaints.push(`${page.url()}: ${error}`));
  return page;
}

const whole = (page) => page.locator("body").innerText();
const button = (page, name) => page.getByRole("button", { name });
const link = (page, name) => page.getByRole("link", { name });

// The identity that the app got, or undefined where this is not its answer.
async function seen(page) {
  const found = [...(await whole(page)).matchAll(/^(X-Auth-\w+): (.*)$/gim)];
  return found.length ? Object.fromEntries(found.map(([, name, value]) => [name.toLowerCase(), value.trim()])) : undefined;
}

// From the sign-in page to the first page of the provider.
async function go(page, path = "/hello", provider = main) {
  await page.goto(gateway + path);
  await choose(page, provider);
}

async function choose(page, provider = main) {
  assert.ok(page.url().startsWith(`${gateway}/auth/login`), `${page.url()}\n${await whole(page)}`);
  await link(page, provider === main ? /with Example/ : /with Ö/).click();
  await page.waitForURL(`${provider.issuer}/**`);
}

// At the provider: the login, and the agreement where it is asked for.
async function signIn(page, account = "ann") {
  await page.getByPlaceholder(/login/i).fill(account);
  await page.getByPlaceholder(/password/i).fill("any");
  await button(page, /sign-in/i).click();
  await agree(page);
}

async function agree(page) {
  await page.waitForURL((url) => url.href.startsWith(gateway) || url.pathname.startsWith("/interaction/"));
  if (!page.url().startsWith(gateway)) await button(page, /continue/i).click();
}

async function isKnown(page, path, email = claims.ann.email) {
  await page.waitForURL(gateway + path);
  assert.equal((await seen(page))?.["x-auth-email"], email, `${page.url()}\n${await whole(page)}`);
}

// A WebSocket through the gateway, opened by the page; its end is what `closed` waits for.
async function openSocket(page) {
  await page.evaluate(
    (url) =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(url);
        window.socketEnd = new Promise((end) => (socket.onclose = () => end(true)));
        socket.onopen = resolve;
        socket.onerror = reject;
      }),
    `${gateway.replace("http", "ws")}/ws`,
  );
  return {
    closed() {
      const patience = new Promise((_, reject) => setTimeout(reject, 10_000, new Error("the WebSocket is still open")));
      return Promise.race([page.evaluate(() => window.socketEnd), patience]);
    },
  };
}

async function until(what, condition, patience = 15_000) {
  const deadline = Date.now() + patience;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `waited in vain: ${what}`);
    await new Promise((next) => setTimeout(next, 100));
  }
}

const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const LOOKS = { light: { colorScheme: "light" }, dark: { colorScheme: "dark" }, phone: { colorScheme: "light", ...PHONE } };

// What `visit` leads to fits each screen, and is kept as a picture.
async function look(name, visit) {
  for (const [look, options] of Object.entries(LOOKS)) {
    const page = await person({ ...options, javaScriptEnabled: true });
    await visit(page);
    const [wide, room] = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      return [scrollWidth, clientWidth];
    });
    if (screenshots) await page.screenshot({ path: `${screenshots}/provider-${name}-${look}.png`, fullPage: true });
    assert.ok(wide <= room, `${name} in ${look}: ${wide} px wide on a screen of ${room}`);
    await page.context().close();
  }
}

const stories = {
  async "a provider that is down gets a page soon, and is used when it is back"() {
    const page = await person();
    await page.goto(`${gateway}/hello`);
    const began = Date.now();
    await link(page, /with Example/).click();
    await page.waitForURL(`${gateway}/auth/login/main**`);
    assert.ok(Date.now() - began < 5000, `${Date.now() - began} ms`);
    assert.match(await whole(page), /provider does not answer[^]*Error 503/);
    await link(page, /sign in again/i).click();
    assert.equal(decodeURIComponent(page.url()), `${gateway}/auth/login?return_to=/hello`);
    await look("down", (page) => page.goto(`${gateway}/auth/login/main`));
    await main.start();
    await other.start();
    await until("the provider is used", async () => {
      await page.goto(`${gateway}/auth/login?return_to=/hello`);
      await link(page, /with Example/).click();
      return page.url().startsWith(main.issuer);
    });
    await signIn(page);
    await isKnown(page, "/hello");
    await page.context().close();
  },

  async "who signs in gets back to the page and its query, with roles from groups"() {
    const page = await person();
    await go(page, "/staff/list?year=2026&q=a%20b");
    await signIn(page);
    await isKnown(page, "/staff/list?year=2026&q=a%20b");
    const identity = await seen(page);
    assert.equal(identity["x-auth-roles"], "everyone,staff");
    assert.equal(identity["x-auth-name"], "Ann Ångström".replace("Å", "%C3%85").replace("ö", "%C3%B6"));
    const cookies = await page.context().cookies(gateway);
    assert.deepEqual(cookies.map(({ name }) => name), ["passgate-session"], "no cookie of the attempt is left");
    // The provider knows the browser: the second time it asks nothing.
    await page.context().clearCookies({ name: "passgate-session" });
    await page.goto(`${gateway}/hello?again`);
    await link(page, /with Example/).click();
    await isKnown(page, "/hello?again");
    await page.context().close();
  },

  async "who lacks the group is told so"() {
    const page = await person();
    await go(page, "/staff/list");
    await signIn(page, "bob");
    await page.waitForURL(`${gateway}/staff/list`);
    assert.match(await whole(page), /signed in as bob@example\.com\. this account does not have access/i);
    await page.context().close();
  },

  async "two tabs sign in, the later one first"() {
    const first = await person();
    const second = await tab(first.context());
    await go(first, "/first?a=1");
    await go(second, "/second?b=2");
    await signIn(second);
    await isKnown(second, "/second?b=2");
    await signIn(first);
    await isKnown(first, "/first?a=1");
    await first.context().close();
  },

  async "a refused agreement is a page that leads to the next try, which succeeds"() {
    const page = await person();
    await go(page, "/hello?kept=1");
    await link(page, /cancel/i).click();
    await page.waitForURL(`${gateway}/auth/login/main/return**`);
    assert.match(await whole(page), /cancelled at the provider/i);
    await link(page, /sign in again/i).click();
    await choose(page);
    await signIn(page);
    await isKnown(page, "/hello?kept=1");
    await page.context().close();
  },

  async "the page of a refused sign-in fits every screen"() {
    await look("cancelled", async (page) => {
      await go(page);
      await link(page, /cancel/i).click();
      await page.waitForURL(`${gateway}/auth/login/main/return**`);
    });
    await look("attempt", (page) => page.goto(`${gateway}/auth/login/main/return?code=a&state=b`));
  },

  async "the return address is good once"() {
    const page = await person();
    const returns = [];
    page.on("request", (request) => request.url().includes("/return?") && returns.push(request.url()));
    await go(page);
    await signIn(page);
    await isKnown(page, "/hello");
    const thief = await person();
    for (const one of [page, thief]) {
      assert.equal((await one.goto(returns[0])).status(), 400);
      assert.match(await whole(one), /cannot be completed/);
    }
    assert.deepEqual(await thief.context().cookies(gateway), []);
    await page.goto(`${gateway}/hello`);
    await isKnown(page, "/hello");
    for (const one of [page, thief]) await one.context().close();
  },

  async "new keys of the provider are found without a restart"() {
    await main.rotate();
    const page = await person();
    await go(page);
    await signIn(page);
    await isKnown(page, "/hello");
    await page.context().close();
  },

  async "a provider that was restarted is used again"() {
    await main.stop();
    await main.start();
    const page = await person();
    await go(page);
    await signIn(page);
    await isKnown(page, "/hello");
    await page.context().close();
  },

  async "two providers and local accounts are on one page, and one subject at both is two accounts"() {
    const ids = [];
    for (const provider of [main, other]) {
      const page = await person();
      await go(page, "/hello", provider);
      await signIn(page);
      await isKnown(page, "/hello");
      ids.push((await seen(page))["x-auth-user"]);
      await page.context().close();
    }
    assert.notEqual(ids[0], ids[1]);
    const page = await person();
    await page.goto(`${gateway}/hello`);
    await page.getByLabel(/^email/i).fill("anna@example.com");
    await page.getByLabel(/^password/i).fill(password);
    await button(page, /^sign in$/i).click();
    await isKnown(page, "/hello", "anna@example.com");
    await page.context().close();
    await look("choice", (page) => page.goto(`${gateway}/auth/login?return_to=/hello`));
  },

  async "a session is on the page of sessions, and can be ended there, with its WebSocket"() {
    const one = await person();
    const two = await person({ javaScriptEnabled: true });
    for (const page of [one, two]) {
      await go(page, "/hello", other);
      await signIn(page, "bob");
      await isKnown(page, "/hello", claims.bob.email);
    }
    const socket = await openSocket(two);
    await one.goto(`${gateway}/auth/sessions`);
    assert.match(await whole(one), /this (device|browser)/i);
    const each = one.locator("li:not(.current)").getByRole("button", { name: /^sign out/i });
    assert.equal(await each.count(), 1);
    await each.first().click();
    await one.waitForURL(/\/auth\/sessions/);
    await socket.closed();
    await two.goto(`${gateway}/hello`);
    assert.ok(two.url().startsWith(`${gateway}/auth/login?`), two.url());
    await one.goto(`${gateway}/hello`);
    await isKnown(one, "/hello", claims.bob.email);
    for (const page of [one, two]) await page.context().close();
  },

  async "a session that ends at the provider ends here, with its WebSocket"() {
    const page = await person({ javaScriptEnabled: true });
    await go(page);
    await signIn(page);
    await isKnown(page, "/hello");
    const socket = await openSocket(page);
    const elsewhere = await tab(page.context());
    await elsewhere.goto(`${main.issuer}/session/end`);
    await button(elsewhere, /sign me out/i).click();
    await socket.closed();
    await page.goto(`${gateway}/hello`);
    assert.ok(page.url().startsWith(`${gateway}/auth/login?`), page.url());
    await page.context().close();
  },

  async "signing out here signs out at the provider"() {
    const page = await person();
    await go(page);
    await signIn(page);
    await isKnown(page, "/hello");
    await page.goto(`${gateway}/auth/logout`);
    await button(page, /^sign out/i).first().click();
    await page.waitForURL(`${main.issuer}/session/end?**`);
    await button(page, /sign me out/i).click();
    await page.waitForURL(`${gateway}/auth/logout**`);
    await go(page);
    await page.getByPlaceholder(/login/i).waitFor();
    await page.context().close();
  },

  async "with JavaScript on it is the same"() {
    const page = await person({ javaScriptEnabled: true });
    await go(page, "/staff/list?x=1#part");
    await signIn(page);
    await page.waitForURL((url) => url.href.startsWith(`${gateway}/staff/list?x=1`));
    assert.equal((await seen(page))["x-auth-roles"], "everyone,staff");
    await page.context().close();
  },

  async "no page broke its policy, and no provider had an error"() {
    assert.deepEqual(complaints, []);
    const expected = /access_denied/;
    assert.deepEqual([...main.errors, ...other.errors].filter((error) => !expected.test(error)), []);
  },
};

for (const [story, live] of Object.entries(stories)) {
  let error = null;
  const began = Date.now();
  try {
    await live();
  } catch (failure) {
    error = String(failure.stack ?? failure);
  }
  console.log(JSON.stringify({ story, error, seconds: (Date.now() - began) / 1000 }));
}
await browser.close();
process.exit(0);
