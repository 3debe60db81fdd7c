// An independent OpenID provider: npm's oauth2-mock-server, controlled by lines of JSON on standard input.
//
// {"do": "generate", "alg": "RS256", "kid": "a"}            a further key in the published set
// {"do": "token", "kid": "a", "header": {…}, "claims": {…}}  -> {"token": "…"}, signed by that key; claims override the defaults
// {"do": "stop"} / {"do": "start"}                          the port is closed / open again (same port, same keys)
// {"do": "forget"}                                          every key is gone, as after a compromise
// {"do": "fetches"}                                         -> {"discovery": n, "jwks": n}, requests so far

import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { OAuth2Issuer, OAuth2Service } from "oauth2-mock-server";

let issuer;
let service;
let server;
let port = 0;
const fetches = { discovery: 0, jwks: 0 };

function renew() {
  issuer = new OAuth2Issuer();
  issuer.url = `http://127.0.0.1:${port}`;
  service = new OAuth2Service(issuer);
}

function start() {
  return new Promise((resolve, reject) => {
    server = createServer((request, response) => {
      if (request.url.startsWith("/.well-known/")) fetches.discovery += 1;
      if (request.url.startsWith("/jwks")) fetches.jwks += 1;
      service.requestHandler(request, response);
    });
    server.on("error", reject);
    server.listen(port, "127.0.0.1", () => {
      port = server.address().port;
      issuer.url = `http://127.0.0.1:${port}`;
      resolve();
    });
  });
}

function stop() {
  return new Promise((resolve) => {
    server.close(resolve);
    server.closeAllConnections();
  });
}

const deeds = {
  async generate({ alg, kid }) {
    await issuer.keys.generate(alg, { kid });
    return {};
  },
  async token({ kid, header = {}, claims = {}, expiresIn = 600 }) {
    const scopesOrTransform = (itsHeader, payload) => {
      Object.assign(itsHeader, header);
      Object.assign(payload, claims);
    };
    return { token: await issuer.buildToken({ kid, expiresIn, scopesOrTransform }) };
  },
  async stop() {
    await stop();
    return {};
  },
  async start() {
    await start();
    return {};
  },
  async forget() {
    renew();
    return {};
  },
  async fetches() {
    return fetches;
  },
};

renew();
await start();
console.log(JSON.stringify({ port, issuer: issuer.url }));
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    console.log(JSON.stringify(await deeds[order.do](order)));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
process.exit(0);
