// A browser without a screen, for the cookie of jwt-passport: node client.mjs BASE_URL, and a line of JSON on standard input
// with {admin: {id, email, password, name}, user: {…}}.
//
// It knows nothing of passgate: it keeps whatever cookies it is given and sends the forms that the app has had all along. It
// runs against the app alone and against the app behind passgate, and prints the same. What may differ is marked TOLERATED.

import assert from "node:assert/strict";
import { request } from "node:http";
import { text } from "node:stream/consumers";

const [base] = process.argv.slice(2);
const { admin, user } = JSON.parse(await text(process.stdin));

class Browser {
  cookies = new Map();

  // `cookies` of an earlier time in place of its own, as of a thief.
  async go(method, path, { form, cookies = this.cookies } = {}) {
    const headers = {
      accept: "text/html,application/xhtml+xml,*/*;q=0.8",
      "sec-fetch-mode": "navigate",
      "sec-fetch-dest": "document",
      "sec-fetch-site": method === "GET" ? "none" : "same-origin",
    };
    if (method !== "GET") headers.origin = base;
    if (form) headers["content-type"] = "application/x-www-form-urlencoded";
    if (cookies.size) headers.cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await new Promise((resolve, reject) => {
      const sent = request(base + path, { method, headers }, resolve);
      sent.on("error", reject);
      sent.end(form && new URLSearchParams(form).toString());
    });
    for (const line of response.headers["set-cookie"] ?? []) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      const isOver = /expires=Thu, 01 Jan 1970|max-age=0(;|$)/i.test(line);
      if (isOver) this.cookies.delete(name);
      else this.cookies.set(name, value);
      if (!isOver) assert.match(line, /; HttpOnly/i);
    }
    return { status: response.statusCode, location: response.headers.location, body: await text(response) };
  }
}

const pick = ({ email, password }) => ({ email, password });

function step(what, ...said) {
  console.log([what, ...said].join(" | "));
}

function isSentToSignIn(what, answer) {
  // TOLERATED (2.6): it says where to come back to.
  assert.deepEqual([answer.status, answer.location?.split("?")[0]], [302, "/auth/login"], `${what}: ${answer.body}`);
  step(what, "sent to sign in");
}

function isDone(what, answer, location) {
  // TOLERATED (2.7): 303 (See Other), where Express's `redirect` is 302 (Found); browsers make a GET of both.
  assert.ok([302, 303].includes(answer.status), `${what}: ${answer.status} ${answer.body}`);
  // TOLERATED: where signing out leads to.
  if (location) assert.equal(answer.location, location, what);
  step(what, "done");
}

function is(what, answer, status, body) {
  assert.equal(answer.status, status, `${what}: ${answer.body}`);
  if (body) assert.equal(answer.body, body, what);
  step(what, status, body ?? "");
}

const browser = new Browser();
is("home, signed out", await browser.go("GET", "/"), 200, "Welcome, guest!");
isSentToSignIn("account, signed out", await browser.go("GET", "/account"));
is("the page to sign in", await browser.go("GET", "/auth/login"), 200);

// TOLERATED (2.7): passgate shows the form again with 401; this app sends the browser back to it.
const wrong = await browser.go("POST", "/auth/login", { form: { email: user.email, password: "wrong" } });
assert.ok(wrong.status === 401 || (wrong.status === 302 && wrong.location === "/auth/login"), `${wrong.status}`);
assert.equal(browser.cookies.size, 0, "no cookie for a wrong password");
isSentToSignIn("account after a wrong password", await browser.go("GET", "/account"));

isDone("sign in", await browser.go("POST", "/auth/login", { form: pick(user) }), "/");
is("home", await browser.go("GET", "/"), 200, `Welcome, ${user.name}!`);
is("account", await browser.go("GET", "/account"), 200, `${user.id} ${user.email}`);
is("staff as a user", await browser.go("GET", "/staff"), 403);
const first = new Map(browser.cookies);

isDone("sign out", await browser.go("POST", "/auth/logout"));
isSentToSignIn("account after that", await browser.go("GET", "/account"));
isSentToSignIn("account with the cookie of before", await new Browser().go("GET", "/account", { cookies: first }));
is("home after that", await browser.go("GET", "/"), 200, "Welcome, guest!");

isDone("sign in anew", await browser.go("POST", "/auth/login", { form: pick(user) }), "/");
assert.notDeepEqual(browser.cookies, first, "each signing in is a session of its own");
const other = new Browser();
isDone("sign in as admin", await other.go("POST", "/auth/login", { form: pick(admin) }), "/");
is("staff", await other.go("GET", "/staff"), 200, "Staff only");
isDone("sign out as admin", await other.go("POST", "/auth/logout"));
is("the other one stays signed in", await browser.go("GET", "/account"), 200, `${user.id} ${user.email}`);
