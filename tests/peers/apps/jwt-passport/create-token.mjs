// What goes into the cookie, as in the README of jwt-passport: who it is and a number to revoke it by.

import { randomUUID } from "node:crypto";

export function createToken(req) {
  return { sub: req.user.id, jti: randomUUID() };
}
