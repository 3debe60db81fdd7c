// Verifies an access token by `jose`, with the key set that discovery names: ISSUER, and the token on standard input. Prints the
// protected header and the claims.

import { readFileSync } from "node:fs";
import { createRemoteJWKSet, jwtVerify } from "jose";

const issuer = process.env.ISSUER;
const found = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
if (found.issuer !== issuer) throw new Error(`${found.issuer} is not ${issuer}`);
const { payload, protectedHeader } = await jwtVerify(
  readFileSync(0, "utf8").trim(),
  createRemoteJWKSet(new URL(found.jwks_uri)),
  { issuer, audience: issuer, typ: "at+jwt", algorithms: found.id_token_signing_alg_values_supported },
);
console.log(JSON.stringify({ header: protectedHeader, claims: payload }));
