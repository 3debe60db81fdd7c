// Chromium, driven by npm's playwright-core: node browser.mjs, and a line of JSON on standard input with
// {base, setup, kept, trusted, screenshots}: the gateway; its first-run link; another gateway, over HTTPS, with the account
// Anna, open registration, whose tokens live for two seconds, and whose app lets browsers keep its pages for ten
// minutes and has a WebSocket at /ws and events at /events; the digest of its key; and a directory for pictures or null.
//
// Runs the stories below, one after another, as a user would: without JavaScript unless a story says otherwise, by labels and names
// of buttons. On the first gateway there is the account of Bob, who is no administrator.
// Prints one line of JSON for each: {story, error, seconds}, where `error` is null if it succeeded.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";

const { base, setup, kept, trusted, screenshots } = JSON.parse(await text(process.stdin));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const bob = { email: "bob@example.com", password: "Bob's long password" };
const anna = { email: "anna@example.com", name: "Anna Ångström", password: "Anna's long password" };
const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const LOOKS = {
  light: { colorScheme: "light" },
  dark: { colorScheme: "dark" },
  phone: { colorScheme: "light", ...PHONE },
  "phone-dark": { colorScheme: "dark", ...PHONE },
};

// With the cache for the back button, which Playwright switches off by default: the stories test it.
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [`--ignore-certificate-errors-spki-list=${trusted}`],
  ignoreDefaultArgs: ["--disable-back-forward-cache"],
});
const complaints = [];

async function person(options = {}) {
  const context = await browser.newContext({ javaScriptEnabled: false, ...options });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  page.on("console", (message) => {
    // A refusal is expected; every other error is a defect of a page, including a violation of its policy.
    const isRefusal = /^Failed to load resource: the server responded with a status of 4\d\d/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !isRefusal) complaints.push(`${page.url()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error}`));
  return page;
}

// --- the content of pages -----------------------------------------------------------------------------------------------

const field = {
  email: (page) => page.getByLabel(/^email/i),
  name: (page) => page.getByLabel(/name/i),
  password: (page) => page.getByLabel(/^password/i),
  current: (page) => page.getByLabel(/current password/i),
  replacement: (page) => page.getByLabel(/new password/i),
};
const button = (page, name) => page.getByRole("button", { name });

async function signIn(page, { email, password }) {
  await field.email(page).fill(email);
  await field.password(page).fill(password);
  await button(page, /^sign in$/i).click();
}

const path = (page) => page.url().slice(base.length);
const whole = (page) => page.locator("body").innerText();

// The identity that `whoami` got, or undefined where this is not its answer.
async function seen(page) {
  const found = [...(await whole(page)).matchAll(/^(X-Auth-\w+): (.*)$/gim)];
  return found.length ? Object.fromEntries(found.map(([, name, value]) => [name.toLowerCase(), value.trim()])) : undefined;
}

async function isSignedIn(page, who = anna) {
  await page.goto(`${base}/hello`);
  assert.equal((await seen(page))?.["x-auth-email"], who.email, `${path(page)}\n${await whole(page)}`);
}

async function isSignedOut(page) {
  await page.goto(`${base}/hello`);
  assert.equal(decodeURIComponent(path(page)), "/auth/login?return_to=/hello");
  assert.equal(await seen(page), undefined);
}

async function sessionCookie(page) {
  const cookies = await page.context().cookies();
  const found = cookies.filter(({ value }) => value.split(".").length === 3);
  assert.equal(found.length, 1, JSON.stringify(cookies.map(({ name }) => name)));
  return found[0];
}

const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

// A request with this cookie by a client that is not a browser.
function replay(cookie, to) {
  return fetch(to, { headers: { cookie: `${cookie.name}=${cookie.value}` }, redirect: "manual" });
}

// The accessibility checker. Only here JavaScript is on and the policy is off: the checker is a script in the page.
async function inspector(look, options) {
  const page = await person({ ...options, javaScriptEnabled: true, bypassCSP: true });
  return Object.assign(page, { look });
}

async function inspect(name, page) {
  await page.waitForLoadState();
  if (screenshots) await page.screenshot({ path: `${screenshots}/${name}-${page.look}.png`, fullPage: true });
  const [wide, room] = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    return [scrollWidth, clientWidth];
  });
  assert.ok(wide <= room, `${name} in ${page.look}: ${wide} px wide on a screen of ${room}`);
  if (page.look === "phone-dark") return; // the colours are those of `dark`, and the rest that of `phone`
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => window.axe.run(document));
  assert.ok(passes.length > 10, "the checker has looked");
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map(({ html }) => html).join("\n  ")}`);
  assert.deepEqual(told, [], `${name} in ${page.look}`);
}

// --- the stories, in order ----------------------------------------------------------------------------------------------

let home; // Anna's own browser

const stories = {
  async "the page behind the printed link is good for screen readers and fits a phone"() {
    for (const [look, options] of Object.entries(LOOKS)) {
      const page = await inspector(look, options);
      await page.goto(setup);
      await inspect("first-run", page);
      await page.context().close();
    }
  },

  async "an error of the setup marks the field that is wrong, and its address stays good"() {
    for (const javaScriptEnabled of [false, true]) {
      const page = await person({ javaScriptEnabled });
      const focused = () => page.evaluate(() => document.activeElement?.getAttribute("name"));
      await page.goto(setup);
      assert.equal(await focused(), "email");
      await field.email(page).fill(anna.email);
      await field.password(page).fill("aaaaaaaaaaaa");
      await button(page, /create/i).click();
      assert.match(await page.getByRole("alert").innerText(), /password/i);
      assert.equal(await focused(), "password");
      assert.equal(await page.locator("[aria-invalid=true]").getAttribute("name"), "password");
      const describing = await page.locator("[aria-invalid=true]").getAttribute("aria-describedby");
      assert.ok(describing.split(" ").includes(await page.getByRole("alert").getAttribute("id")));
      assert.equal(await field.email(page).inputValue(), anna.email);
      // The address of the page is the link.
      const answer = await page.goto(page.url());
      assert.deepEqual([answer.status(), page.url()], [200, setup]);
      assert.equal(await button(page, /create/i).count(), 1);
      await page.context().close();
    }
  },

  async "the printed link makes the first account and lands signed in"() {
    home = await person();
    await home.goto(setup);
    assert.doesNotMatch(await home.title(), /^\s*$/);
    await field.email(home).fill(anna.email);
    if (await field.name(home).count()) await field.name(home).fill(anna.name);
    await field.password(home).fill(anna.password);
    await button(home, /create|register|sign up/i).click();
    const identity = await seen(home);
    assert.ok(identity, `${path(home)}\n${await whole(home)}`);
    assert.equal(path(home), "/");
    assert.equal(identity["x-auth-email"], anna.email);
    assert.equal(identity["x-auth-roles"], "admin");
    assert.match(identity["x-auth-user"], /^[0-9a-f-]{36}$/);
    assert.equal(identity["x-auth-issuer"], "session");
    await isSignedIn(home);
    await home.goto(`${base}/admin/users`);
    assert.ok(await seen(home), "the first account is an administrator");
  },

  async "the printed link does nothing any more"() {
    const page = await person();
    const answer = await page.goto(setup);
    assert.equal(await button(page, /create|register|sign up/i).count(), 0, await whole(page));
    assert.equal(answer.status(), 404);
    assert.match(await whole(page), /not valid any more/i);
    await page.getByRole("link", { name: /^sign in$/i }).click();
    await page.waitForURL(`${base}/auth/login`);
  },

  async "the cookie is out of reach of scripts and other sites, and small"() {
    const cookie = await sessionCookie(home);
    assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, "Lax", "/"]);
    assert.ok(cookie.value.length < 2048, `${cookie.value.length} bytes`);
    assert.ok(cookie.expires > Date.now() / 1000 + 3600, "it outlives the browser");
  },

  async "the pages allow no script but their own and no frame, and are kept nowhere"() {
    const page = await person();
    for (const to of ["/auth/login", "/auth/login?return_to=%2Fhello", "/auth/nothing"]) {
      const answer = await page.goto(base + to);
      const fields = answer.headers();
      const policy = fields["content-security-policy"] ?? "";
      assert.match(policy, /default-src 'none'/, to);
      assert.doesNotMatch(policy, /unsafe|script-src (?!'sha256-[\w+/=]+';)/, to);
      assert.match(policy, /frame-ancestors 'none'/, to);
      assert.match(fields["cache-control"] ?? "", /no-store/, to);
      assert.match(await page.locator("html").getAttribute("lang"), /^en/);
    }
  },

  async "who is signed out is sent to sign in, with the keyboard alone, and then back"() {
    const page = await person();
    await isSignedOut(page);
    const focused = () => page.evaluate(() => document.activeElement?.getAttribute("name"));
    for (let turn = 0; turn < 10 && (await focused()) !== "email"; turn += 1) await page.keyboard.press("Tab");
    assert.equal(await focused(), "email");
    const outline = await page.evaluate(() => {
      const style = getComputedStyle(document.activeElement);
      return [style.outlineStyle, style.outlineWidth, style.boxShadow];
    });
    assert.ok((outline[0] !== "none" && outline[1] !== "0px") || outline[2] !== "none", `no focus to be seen: ${outline}`);
    await page.keyboard.type(anna.email);
    for (let turn = 0; turn < 5 && (await focused()) !== "password"; turn += 1) await page.keyboard.press("Tab");
    assert.equal(await focused(), "password");
    await page.keyboard.type(anna.password);
    await page.keyboard.press("Enter");
    await page.waitForURL(`${base}/hello`);
    assert.equal((await seen(page))["x-auth-email"], anna.email);
    await page.context().close();
  },

  async "a wrong password says so and keeps the address"() {
    const page = await person();
    await isSignedOut(page);
    await signIn(page, { ...anna, password: "not Anna's password" });
    assert.match(await page.getByRole("alert").innerText(), /password/i);
    assert.equal(await field.email(page).inputValue(), anna.email);
    assert.equal(await field.password(page).inputValue(), "");
    assert.equal((await page.context().cookies()).length, 0);
    // The return address is kept as well.
    await field.password(page).fill(anna.password);
    await button(page, /^sign in$/i).click();
    await page.waitForURL(`${base}/hello`);
    await page.context().close();
  },

  async "the list of sessions has this device, and ends another one at its next request"() {
    const other = await person();
    await other.goto(`${base}/auth/login`);
    await signIn(other, anna);
    await isSignedIn(other);
    await home.goto(`${base}/auth/sessions`);
    const before = await whole(home);
    assert.match(before, /this (device|browser)/i);
    assert.match(before, /linux/i);
    assert.match(before, /chrom/i);
    assert.match(before, /127\.0\.0\.1/);
    // The sessions of other stories end one by one; the current one ends by another button.
    const each = home.locator("li:not(.current)").getByRole("button", { name: /^sign out/i });
    for (let turn = 0; turn < 10 && (await each.count()) > 0; turn += 1) {
      await each.first().click();
      await home.waitForURL(/\/auth\/sessions/);
    }
    await isSignedOut(other);
    await isSignedIn(home);
    await other.context().close();
  },

  async "who has no access is told by which account, and comes back with another one"() {
    for (const javaScriptEnabled of [false, true]) {
      const page = await person({ javaScriptEnabled });
      await page.goto(`${base}/hello`);
      await signIn(page, bob);
      await page.waitForURL(`${base}/hello`);
      const answer = await page.goto(`${base}/admin/users?page=2`);
      assert.equal(answer.status(), 403);
      assert.match(await whole(page), /signed in as bob@example\.com\. this account does not have access/i);
      assert.doesNotMatch(await page.locator("main").innerText(), /admin/i, "the role stays unnamed");
      await page.getByRole("link", { name: /^back$/i }).click();
      // Not the end of loading: a page that the browser has kept whole does not load.
      await page.waitForURL(javaScriptEnabled ? `${base}/hello` : `${base}/`, { waitUntil: "commit" });
      await page.goto(`${base}/admin/users?page=2`);
      await page.getByRole("link", { name: /another account/i }).click();
      assert.match(await whole(page), /you are signed in as bob@example\.com/i);
      await signIn(page, anna);
      await page.waitForURL(`${base}/admin/users?page=2`);
      assert.equal((await seen(page))["x-auth-email"], anna.email);
      await page.context().close();
    }
  },

  async "a form that comes after the session has ended leads back to its page"() {
    const page = await person({ javaScriptEnabled: true });
    await page.goto(`${base}/hello?note=7`);
    await signIn(page, bob);
    await page.waitForURL(`${base}/hello?note=7`);
    const write = () =>
      page.evaluate(() => {
        document.body.innerHTML = '<form method="post" action="/maybe-not"><textarea name="t">Dear all</textarea><button>Send</button></form>';
        document.forms[0].action = "/hello/save";
      });
    await write();
    await page.context().clearCookies();
    const [answer] = await Promise.all([page.waitForNavigation(), button(page, "Send").click()]);
    assert.equal(answer.status(), 401);
    assert.match(await whole(page), /your session has ended/i);
    assert.match(await whole(page), /copy your text/i);
    await page.getByRole("link", { name: /^sign in$/i }).click();
    assert.equal(decodeURIComponent(path(page)), "/auth/login?return_to=/hello?note=7");
    await signIn(page, bob);
    await page.waitForURL(`${base}/hello?note=7`);
    assert.equal((await seen(page))["x-auth-email"], bob.email);
    await page.context().close();
  },

  async "a link to sign out asks, says who is signed in, and signs out"() {
    const page = await person();
    await page.goto(`${base}/auth/logout`);
    assert.match(await whole(page), /you are signed out/i);
    await page.goto(`${base}/hello`);
    await signIn(page, bob);
    await page.waitForURL(`${base}/hello`);
    await page.goto(`${base}/auth/login`);
    assert.match(await whole(page), /you are signed in as bob@example\.com/i);
    await page.getByRole("link", { name: /^continue$/i }).click();
    await page.waitForURL(`${base}/`);
    for (const account of ["/auth", "/auth/"]) {
      await page.goto(base + account);
      assert.equal(path(page), "/auth/sessions");
    }
    await page.goto(`${base}/auth/logout`);
    assert.match(await whole(page), /sign out\?/i);
    assert.match(await whole(page), /bob@example\.com/);
    await isSignedIn(page, bob); // to look at the page ends nothing
    await page.goto(`${base}/auth/logout`);
    await button(page, /^sign out$/i).click();
    await page.waitForURL(`${base}/auth/login?done=signed-out`);
    assert.match(await page.getByRole("status").innerText(), /you are signed out/i);
    await isSignedOut(page);
    await page.context().close();
  },

  async "with script a password can be shown, and the fragment of an address survives"() {
    const page = await person({ javaScriptEnabled: true });
    await page.goto(`${base}/hello?x=1#part-2`);
    const type = () => page.locator("#password").getAttribute("type");
    await field.email(page).fill(bob.email);
    await page.locator("#password").fill("wrong");
    await button(page, /show password/i).click();
    assert.equal(await type(), "text");
    await button(page, /hide password/i).click();
    assert.equal(await type(), "password");
    await button(page, /show password/i).click();
    await page.keyboard.press("Tab");
    await button(page, /^sign in$/i).click();
    assert.ok(await page.getByRole("alert").count());
    assert.equal(await type(), "password", "the next page hides it again");
    // Also over an error.
    await page.locator("#password").fill(bob.password);
    await button(page, /^sign in$/i).click();
    await page.waitForURL(`${base}/hello?x=1#part-2`);
    await page.context().clearCookies();
    await page.goto(`${base}/#start`);
    await field.email(page).fill(bob.email);
    await page.locator("#password").fill(bob.password);
    await page.keyboard.press("Enter");
    await page.waitForURL(`${base}/#start`);
    await page.context().close();
    const plain = await person();
    await plain.goto(`${base}/auth/login`);
    assert.equal(await button(plain, /show password/i).count(), 0, "without script there is no dead button");
    await plain.context().close();
  },

  async "the header bar of the documentation says who is signed in, and leads to the account and out"() {
    const guide = readFileSync(new URL("../../../docs/apps.md", import.meta.url), "utf8");
    const bars = [...guide.matchAll(/```html\n([^]*?)```/g)].map(([, html]) => html);
    const body = bars.find((html) => html.includes("/auth/me"));
    const page = await person({ javaScriptEnabled: true });
    // The app's page; all else goes to the gateway.
    await page.route(`${base}/bar`, (route) => route.fulfill({ contentType: "text/html", body: `<!doctype html><title>Bar</title>${body}` }));
    const bar = page.getByRole("navigation", { name: "Account" });
    await page.goto(`${base}/bar`);
    await bar.getByRole("link", { name: "Sign in" }).click();
    await signIn(page, bob);
    await page.waitForURL(`${base}/`);
    await page.goto(`${base}/bar`);
    await bar.getByText(bob.email).waitFor();
    await bar.getByRole("link", { name: "Account" }).click();
    await page.waitForURL(`${base}/auth/sessions`);
    await page.goto(`${base}/bar`);
    await bar.getByRole("link", { name: "Sign out" }).click();
    await button(page, /^sign out$/i).click();
    await page.waitForURL(`${base}/auth/login?done=signed-out`);
    // The bar of a page that the app renders has a form.
    const rendered = bars.find((html) => html.includes("<form"));
    await page.route(`${base}/rendered`, (route) => route.fulfill({ contentType: "text/html", body: `<!doctype html><title>Bar</title>${rendered}` }));
    await signIn(page, bob);
    await page.goto(`${base}/rendered`);
    await button(page, "Sign out").click();
    await page.waitForURL(`${base}/auth/login?done=signed-out`);
    await isSignedOut(page);
    await page.context().close();
  },

  async "every page has an icon"() {
    const page = await person();
    await page.goto(`${base}/auth/nothing`);
    const icon = await page.locator("link[rel=icon]").getAttribute("href");
    const answer = await fetch(base + icon);
    assert.deepEqual([answer.status, answer.headers.get("content-type")], [200, "image/svg+xml"]);
    await page.context().close();
  },

  async "a page that is sent from another site ends nothing"() {
    const answer = await fetch(`${base}/auth/logout`, {
      method: "POST",
      headers: { cookie: await sessionCookie(home).then(({ name, value }) => `${name}=${value}`), origin: "https://evil.example" },
    });
    assert.equal(answer.status, 403);
    await isSignedIn(home);
  },

  async "a new password signs the other browser out and keeps this one"() {
    const other = await person();
    await other.goto(`${base}/auth/login`);
    await signIn(other, anna);
    await isSignedIn(other);
    await home.goto(`${base}/auth/password`);
    await field.current(home).fill("not Anna's password");
    for (const one of await field.replacement(home).all()) await one.fill("Anna's newer password");
    await button(home, /change|save/i).click();
    assert.ok(await home.getByRole("alert").count(), await whole(home));
    await field.current(home).fill(anna.password);
    for (const one of await field.replacement(home).all()) await one.fill("Anna's newer password");
    await button(home, /change|save/i).click();
    assert.match(await whole(home), /password changed|password has been changed/i);
    await isSignedOut(other);
    await isSignedIn(home);
    await other.goto(`${base}/auth/login`);
    await signIn(other, anna);
    assert.ok(await other.getByRole("alert").count(), "the old password is no good");
    anna.password = "Anna's newer password";
    await signIn(other, anna);
    await isSignedIn(other);
    await other.context().close();
  },

  async "signed out is signed out: the back button and the old cookie show nothing"() {
    for (const [site, who] of [
      [base, anna],
      [kept, { email: anna.email, password: "Anna's first password" }],
    ]) {
      const page = await person();
      // Not the end of loading: a page that the browser has kept whole does not load.
      const back = async () => {
        await page.goBack({ waitUntil: "commit" });
        return whole(page);
      };
      await page.goto(`${site}/page?1`);
      await signIn(page, who);
      await page.waitForURL(`${site}/page?1`);
      await page.goto(`${site}/page?2`);
      assert.match(await whole(page), new RegExp(anna.email));
      const cookie = await sessionCookie(page);
      assert.equal((await replay(cookie, `${site}/page`)).status, 200);
      await page.goto(`${site}/auth/sessions`);
      assert.match(await back(), new RegExp(anna.email), "while signed in, it does show the page");

      await page.goto(`${site}/auth/sessions`);
      await page.locator("li.current").getByRole("button", { name: /^sign out/i }).click();
      await page.waitForURL(`${site}/auth/login?done=signed-out`);
      assert.match(await page.getByRole("status").innerText(), /you are signed out/i);
      assert.equal((await page.context().cookies()).length, 0, "the cookie is gone");
      for (const was of ["/auth/sessions", "/page?2", "/page?1"]) {
        assert.doesNotMatch(await back(), new RegExp(anna.email), was);
        assert.equal(decodeURIComponent(page.url()), `${site}/auth/login?return_to=${was}`);
      }
      const replayed = await replay(cookie, `${site}/page`);
      assert.equal(replayed.status, 401);
      assert.doesNotMatch(await replayed.text(), new RegExp(anna.email));
      assert.equal((await replay(cookie, `${site}/auth/me`)).status, 401);
      await page.context().close();
    }
    await isSignedIn(home); // a separate session, which has not ended
  },

  async "what a page has open outlives its token and ends with its session"() {
    const who = { email: anna.email, password: "Anna's first password" };
    const page = await person({ javaScriptEnabled: true });
    await page.goto(`${kept}/page`);
    await signIn(page, who);
    await page.waitForURL(`${kept}/page`);
    await page.evaluate(async () => {
      window.socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
      window.events = new EventSource("/events");
      socket.onclose = ({ code }) => (window.code = code);
      await Promise.all([socket, events].map((one) => new Promise((open) => (one.onopen = open))));
    });
    const cookie = await sessionCookie(page);
    assert.deepEqual([cookie.name, cookie.secure, cookie.path], ["__Host-session", true, "/"]);
    const first = claims(cookie.value);
    await new Promise((over) => setTimeout(over, (first.exp + 1) * 1000 - Date.now()));
    assert.deepEqual(await page.evaluate(() => [socket.readyState, events.readyState]), [1, 1], "open");

    // Twenty requests at once, all with the token that has expired: the session goes on, with one cookie.
    const statuses = await page.evaluate(() =>
      Promise.all(Array.from({ length: 20 }, (_, turn) => fetch(`/page?${turn}`).then(({ status }) => status))),
    );
    assert.deepEqual(new Set(statuses), new Set([200]));
    const protocols = await page.evaluate(() => performance.getEntriesByType("resource").map((one) => one.nextHopProtocol));
    assert.ok(protocols.includes("h2"), `${protocols}`);
    const next = claims((await sessionCookie(page)).value);
    assert.ok(next.exp > first.exp && next.sid === first.sid, "a new token of the same session");

    const other = await person();
    await other.goto(`${kept}/auth/login`);
    await signIn(other, who);
    await other.goto(`${kept}/auth/sessions`);
    await other.locator(`form[action*="${first.sid}"]`).getByRole("button").click();
    await page.waitForFunction(() => window.code !== undefined);
    assert.equal(await page.evaluate(() => code), 1008);
    // A browser tries again to get its events, and gives up for good when that is refused.
    await page.waitForFunction(() => events.readyState === EventSource.CLOSED);
    await page.goto(`${kept}/page?later`);
    assert.equal(decodeURIComponent(page.url()), `${kept}/auth/login?return_to=/page?later`);
    for (const one of [page, other]) await one.context().close();
  },

  async "a return address leads nowhere else"() {
    for (const to of ["https://evil.example/", "//evil.example/", "/\\evil.example", "/auth/logout"]) {
      const page = await person();
      await page.goto(`${base}/auth/login?return_to=${encodeURIComponent(to)}`);
      await signIn(page, anna);
      await page.waitForURL(`${base}/`);
      assert.ok(await seen(page), to);
      await page.context().close();
    }
  },

  async "the pages are good for screen readers, in light and dark, and fit a phone"() {
    const state = await home.context().storageState();
    for (const [look, options] of Object.entries(LOOKS)) {
      const guest = await inspector(look, options);
      await guest.goto(`${base}/auth/login?return_to=%2Fhello`);
      await inspect("sign-in", guest);
      await signIn(guest, { ...anna, password: "wrong" });
      await inspect("sign-in-wrong", guest);
      await guest.goto(`${kept}/auth/register`);
      await inspect("register", guest);
      await guest.goto(`${base}/auth/nothing`);
      await inspect("not-found", guest);
      await guest.goto(setup);
      await inspect("setup-over", guest);
      await guest.goto(`${base}/auth/logout`);
      await inspect("signed-out", guest);
      await guest.goto(`${base}/auth/login`);
      await guest.evaluate(() => {
        document.forms[0].action = "/hello/save";
        document.forms[0].noValidate = true;
        document.forms[0].submit();
      });
      await guest.waitForURL(`${base}/hello/save`);
      await inspect("session-ended", guest);
      await guest.goto(`${base}/auth/login?return_to=%2Fadmin%2Fusers`);
      await signIn(guest, bob);
      await guest.waitForURL(`${base}/admin/users`);
      await inspect("no-access", guest);
      await guest.goto(`${base}/auth/login`);
      await inspect("sign-in-again", guest);
      await guest.context().close();
      const member = await inspector(look, { ...options, storageState: state });
      await member.goto(`${base}/auth/sessions`);
      await inspect("sessions", member);
      await member.goto(`${base}/auth/password`);
      await inspect("password", member);
      await field.current(member).fill("x");
      await field.replacement(member).fill("aaaaaaaaaa");
      await button(member, /change|save/i).click();
      await inspect("password-wrong", member);
      await member.goto(`${base}/auth/logout`);
      await inspect("sign-out", member);
      await member.context().close();
    }
  },

  async "no page broke its policy or had an error"() {
    assert.deepEqual(complaints, []);
  },
};

for (const [story, live] of Object.entries(stories)) {
  let error = null;
  const began = performance.now();
  try {
    await live();
  } catch (failure) {
    error = String(failure.stack ?? failure);
  }
  console.log(JSON.stringify({ story, error, seconds: (performance.now() - began) / 1000 }));
}
await browser.close();
