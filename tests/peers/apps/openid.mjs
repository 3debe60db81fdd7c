// A certified OpenID provider, npm's oidc-provider, in the process that imports this: on a port of 127.0.0.1, with its own
// pages to sign in and to agree, accounts and clients in memory, and keys that can be changed.

import { createServer } from "node:http";
import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";

export class OpenId {
  // `redirectUri`: the return address of the gateway; `logoutUri`: where it hears of ended sessions; `afterLogout`: where the browser goes
  // after signing out at the provider.
  // `claims`: for each account its claims besides `sub`.
  constructor({ name, port, secret, redirectUri, logoutUri, afterLogout, claims }) {
    Object.assign(this, { name, port, secret, redirectUri, logoutUri, afterLogout, claims, rotations: 0, errors: [] });
    this.issuer = `http://127.0.0.1:${port}`;
  }

  // New keys alone: those of before are not published any more.
  async rotate() {
    this.rotations += 1;
    const { privateKey } = await generateKeyPair("RS256", { extractable: true });
    const key = { ...(await exportJWK(privateKey)), kid: `${this.name}-${this.rotations}`, alg: "RS256", use: "sig" };
    this.provider = new Provider(this.issuer, {
      clients: [
        {
          client_id: "passgate",
          client_secret: this.secret,
          redirect_uris: [this.redirectUri],
          post_logout_redirect_uris: [this.afterLogout],
          backchannel_logout_uri: this.logoutUri,
          backchannel_logout_session_required: true,
        },
      ],
      findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...this.claims[id] }) }),
      claims: { email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
      features: { backchannelLogout: { enabled: true } },
      // By itself it asks no address of this machine, and the gateway has one.
      fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
      jwks: { keys: [key] },
      // A cookie is sent to every port of a host: two providers need names of their own.
      cookies: {
        keys: [`cookies of ${this.name}`],
        names: Object.fromEntries(["session", "interaction", "resume"].map((kind) => [kind, `${this.name}_${kind}`])),
      },
    });
    for (const event of ["server_error", "authorization.error", "grant.error", "backchannel.error"]) {
      this.provider.on(event, (...about) => {
        const error = about.find((one) => one instanceof Error);
        this.errors.push(`${event}: ${error}${error?.cause ? ` (${error.cause})` : ""}`);
      });
    }
    this.answer = this.provider.callback();
  }

  async start() {
    if (!this.provider) await this.rotate();
    this.server = createServer((request, response) => this.answer(request, response));
    await new Promise((resolve, reject) => this.server.on("error", reject).listen(this.port, "127.0.0.1", resolve));
  }

  async stop() {
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.server.closeAllConnections();
    await closed;
  }
}
