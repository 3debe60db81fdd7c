// A single-page app in Chromium: node single_page.mjs, and a line of JSON on standard input with {gateway, port, other, email,
// password}. The page is on `port` of localhost, whose origin the gateway lists; the same page on `other`, which it does not.
//
// Prints one line of JSON with what the page got at each step.

import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";

const { gateway, port, other, email, password } = JSON.parse(await text(process.stdin));

const servers = [port, other].map((port) => {
  const server = createServer((_, answer) => {
    answer.setHeader("content-type", "text/html").end("<!doctype html><title>Single page</title>");
  });
  return server.listen(port, "127.0.0.1");
});
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
const context = await browser.newContext();
context.setDefaultTimeout(10_000);

// A request by the page's own script: its status and body, or the name of the error where the page may not read it.
async function call(page, method, path, { token, body } = {}) {
  const headers = { ...(token && { authorization: `Bearer ${token}` }), ...(body && { "content-type": "application/json" }) };
  const options = { method, headers, credentials: "include", body: body && JSON.stringify(body) };
  const sent = ([url, options]) =>
    fetch(url, options).then(
      async (answer) => ({ status: answer.status, id: answer.headers.get("x-request-id"), body: await answer.json() }),
      (error) => ({ error: error.name }),
    );
  return page.evaluate(sent, [`${gateway}${path}`, options]);
}

async function open(port) {
  const page = await context.newPage();
  await page.goto(`http://localhost:${port}/`);
  return page;
}

const page = await open(port);
const steps = {};
steps.wrong = await call(page, "POST", "/auth/login", { body: { email, password: "wrong" } });
steps.anonymous = await call(page, "POST", "/auth/refresh");
steps.login = await call(page, "POST", "/auth/login", { body: { email, password } });
steps.script = await page.evaluate(() => document.cookie);
// The access token is lost with the page.
await page.reload();
steps.refresh = await call(page, "POST", "/auth/refresh");
steps.me = await call(page, "GET", "/auth/me", { token: steps.refresh.body?.accessToken });
const stranger = await open(other);
steps.strangers = [
  await call(stranger, "POST", "/auth/refresh"),
  await call(stranger, "POST", "/auth/login", { body: { email, password } }),
  await call(stranger, "GET", "/auth/me", { token: steps.refresh.body?.accessToken }),
];
// A route of the app: by token, then by the session cookie of a sign-in on the gateway's own page.
async function ask(page, method, path, { token } = {}) {
  const headers = { "x-custom": "1", accept: "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const sent = ([url, options]) =>
    fetch(url, options).then(
      async (answer) => ({ status: answer.status, id: answer.headers.get("x-request-id"), text: await answer.text() }),
      (error) => ({ error: error.name }),
    );
  return page.evaluate(sent, [`${gateway}${path}`, { method, headers, credentials: "include" }]);
}
const token = steps.refresh.body?.accessToken;
steps.api = await ask(page, "PUT", "/api/x", { token });
steps.bad = await ask(page, "PUT", "/api/x", { token: "nonsense" });
steps.down = await page.evaluate((url) => fetch(url).then((answer) => ({ status: answer.status })), `${gateway}/api/down`);
steps.without_cors = [await ask(page, "PUT", "/x", { token }), await ask(page, "GET", "/x", { token })];
const form = await context.newPage();
await form.goto(`${gateway}/auth/login?return_to=/x`);
await form.fill("input[name=email]", email);
await form.fill("input[name=password]", password);
await Promise.all([form.waitForURL(`${gateway}/x`), form.click("button[type=submit]")]);
steps.by_cookie = await ask(page, "POST", "/api/x");
steps.unlisted = [await ask(stranger, "POST", "/api/x"), await ask(stranger, "GET", "/api/x", { token })];
await context.clearCookies({ name: "passgate-session" });
steps.again = await call(page, "POST", "/auth/refresh");
steps.cookies = (await context.cookies(`${gateway}/auth/refresh`)).map(({ name, path, httpOnly, sameSite }) => [name, path, httpOnly, sameSite]);
steps.logout = await call(page, "POST", "/auth/logout", { token: steps.again.body?.accessToken });
steps.after = await call(page, "POST", "/auth/refresh");
steps.left = (await context.cookies(`${gateway}/auth/refresh`)).length;
await browser.close();
servers.forEach((server) => server.close());
console.log(JSON.stringify(steps));
