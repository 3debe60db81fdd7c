// A client written for the usual Express setup: node client.mjs BASE_URL, and a line of JSON on standard input with
// {admin: {email, password}, newcomer: {email, password, name}, expired: "a token that has expired"}.
//
// It knows nothing of passgate. It runs against the app alone and against the app behind passgate, and prints the same:
// each step, with what a client goes by (status, `message`, the names and types of what comes back). Whatever differs is
// an exception here, and fails. What differs on purpose is marked TOLERATED below.

import assert from "node:assert/strict";
import { text } from "node:stream/consumers";

const [base] = process.argv.slice(2);
const { admin, newcomer, expired } = JSON.parse(await text(process.stdin));

// --- what such a client has: a function that calls, and a store of tokens -----------------------------------------------

async function call(method, path, { token, body, raw } = {}) {
  const headers = {};
  if (token) headers.authorization = `Bearer ${token}`;
  if (body || raw) headers["content-type"] = "application/json";
  const response = await fetch(base + path, { method, headers, body: raw ?? (body && JSON.stringify(body)), redirect: "manual" });
  // TOLERATED (2.6): an error is `application/problem+json`, with more members than `message`; no client looks.
  assert.match(response.headers.get("content-type"), /^application\/(problem\+)?json\b/, `${method} ${path}`);
  return { status: response.status, body: await response.json() };
}

const login = (who) => call("POST", "/auth/login", { body: { email: who.email, password: who.password } });
const refresh = (refreshToken) => call("POST", "/auth/refresh", { body: { refreshToken } });
const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

// A character in the middle of the signature: still three parts, still base64url, no longer a valid signature.
function garble(token) {
  const place = token.length - 20;
  return token.slice(0, place) + (token[place] === "A" ? "B" : "A") + token.slice(place + 1);
}

// --- how it is told ---------------------------------------------------------------------------------------------------

function step(what, ...said) {
  console.log([what, ...said].join(" | "));
}

function is(what, answer, status, message) {
  assert.equal(answer.status, status, `${what}: ${JSON.stringify(answer.body)}`);
  if (status >= 400) assert.equal(typeof answer.body.message, "string", what);
  if (message) assert.equal(answer.body.message, message, what);
  step(what, status, message ?? "");
  return answer.body;
}

function isTokens(what, answer) {
  const body = is(what, answer, 200);
  assert.equal(typeof body.accessToken, "string");
  assert.equal(typeof body.refreshToken, "string");
  assert.equal(body.tokenType, "Bearer");
  assert.equal(body.expiresIn, 900);
  // A page decodes its access token to know when to refresh it and what to show.
  // TOLERATED (2.7): more claims, and the account's id is in `sub` where it was in `id`.
  const { exp, iat, email, roles } = claims(body.accessToken);
  assert.equal(exp - iat, 900, "good for 15 minutes");
  // TOLERATED: roles are a set, in whatever order.
  step("  its token", email === newcomer.email ? "newcomer" : email, [...roles].sort().join(","));
  return body;
}

// --- the story --------------------------------------------------------------------------------------------------------

const { email, password, name } = newcomer;

const registered = is("register", await call("POST", "/auth/register", { body: { email, password, name } }), 201);
assert.deepEqual(Object.keys(registered).sort(), ["email", "id"]);
assert.equal(registered.email, email);
is("register the same again", await call("POST", "/auth/register", { body: { email, password, name } }), 409);
const shouted = { email: email.toUpperCase(), password };
is("register the same in capitals", await call("POST", "/auth/register", { body: shouted }), 409);
const short = { email: `short-${email}`, password: "2short" };
is("register with a short password", await call("POST", "/auth/register", { body: short }), 400);
is("register with no address", await call("POST", "/auth/register", { body: { email: "nowhere", password } }), 400);

const first = isTokens("sign in", await login(newcomer));
isTokens("sign in with the address in capitals", await login(shouted));
is("wrong password", await login({ email, password: `${password}?` }), 401, "Invalid credentials");
is("unknown account", await login({ email: `nobody-${email}`, password }), 401, "Invalid credentials");
is("what is no JSON", await call("POST", "/auth/login", { raw: '{"email": ' }), 400);

const me = is("me", await call("GET", "/auth/me", { token: first.accessToken }), 200);
assert.deepEqual(me, { id: registered.id, email, name, roles: ["user"] });
is("me, signed out", await call("GET", "/auth/me"), 401, "Unauthorized");

const { profile } = is("profile", await call("GET", "/api/profile", { token: first.accessToken }), 200);
assert.deepEqual(profile, { id: registered.id, email, name, roles: ["user"] });
is("profile, signed out", await call("GET", "/api/profile"), 401, "Unauthorized");
is("profile with a garbled token", await call("GET", "/api/profile", { token: garble(first.accessToken) }), 401, "Invalid token");
is("profile with rubbish", await call("GET", "/api/profile", { token: "rubbish" }), 401, "Invalid token");
is("profile with a token that has expired", await call("GET", "/api/profile", { token: expired }), 401, "Invalid token");
is("profile with a refresh token", await call("GET", "/api/profile", { token: first.refreshToken }), 401, "Invalid token");
is("nothing there", await call("GET", "/api/nothing", { token: first.accessToken }), 404, "Not found");

is("admin as a user", await call("GET", "/api/admin", { token: first.accessToken }), 403, "Forbidden");
is("admin, signed out", await call("GET", "/api/admin"), 401, "Unauthorized");
const boss = isTokens("sign in as admin", await login(admin));
assert.deepEqual(is("admin", await call("GET", "/api/admin", { token: boss.accessToken }), 200), {
  users: "all of them",
  for: admin.email,
});

const guest = is("feed, signed out", await call("GET", "/api/feed"), 200);
assert.equal(guest.greeting, "Hello, guest");
const known = is("feed", await call("GET", "/api/feed", { token: first.accessToken }), 200);
assert.equal(known.greeting, `Hello, ${email}`);
// TOLERATED (2.4): a bad token means no caller to optional auth in Express, and 401 here, where it never becomes a guest.
const doubtful = await call("GET", "/api/feed", { token: garble(first.accessToken) });
assert.ok(doubtful.status === 401 || doubtful.body.greeting === "Hello, guest", JSON.stringify(doubtful));
step("feed with a garbled token", "a guest, or 401");

const second = isTokens("refresh", await refresh(first.refreshToken));
assert.notEqual(second.refreshToken, first.refreshToken);
is("profile with the new token", await call("GET", "/api/profile", { token: second.accessToken }), 200);
const third = isTokens("refresh again", await refresh(second.refreshToken));
is("the first refresh token once more", await refresh(first.refreshToken), 401, "Invalid token");
is("by which the last one is spent too", await refresh(third.refreshToken), 401, "Invalid token");
is("a refresh token that is none", await refresh("rubbish"), 401, "Invalid token");
is("an access token for a refresh token", await refresh(boss.accessToken), 401, "Invalid token");

const last = isTokens("sign in anew", await login(newcomer));
const { accessToken: token, refreshToken } = last;
is("sign out", await call("POST", "/auth/logout", { token, body: { refreshToken } }), 200, "Signed out");
is("refresh after that", await refresh(refreshToken), 401, "Invalid token");
// TOLERATED (2.7): an access token of the usual setup lives on until it expires; here signing out ends it at once.
const late = await call("GET", "/api/profile", { token });
assert.ok(late.status === 200 || (late.status === 401 && late.body.message === "Invalid token"), JSON.stringify(late));
step("profile after that", "as before until the token expires, or 401");
is("sign out, signed out", await call("POST", "/auth/logout"), 401, "Unauthorized");
const still = await call("GET", "/api/profile", { token: boss.accessToken });
is("the others stay signed in", still, 200);
