// A small Express app with the cookie of jwt-passport, set up as its README says: a JWT in `__session`, kept by save, found by
// find, revoked by delete. Users and live tokens are JSON files in the working directory. Wants JWT_SECRET; PORT or 0; says
// where it listens.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import bcrypt from "bcryptjs";
import express from "express";
import jwt from "jwt-passport";
import passport from "passport";
import { Strategy as LocalStrategy } from "passport-local";
import { createToken } from "./create-token.mjs";

const { JWT_SECRET, PORT = 0 } = process.env;
const users = readJson("users.json");
const userTokens = readJson("user-tokens.json"); // [{ user_id, token_id }]

function readJson(file) {
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : [];
}

function save() {
  writeFileSync("user-tokens.json", JSON.stringify(userTokens));
}

passport.framework(
  jwt({
    name: "__session",
    secret: JWT_SECRET,
    audience: "shop",
    issuer: "https://shop.example",
    createToken,

    saveToken(token) {
      userTokens.push({ user_id: token.sub, token_id: token.jti });
      save();
    },

    deleteToken(token) {
      const place = userTokens.findIndex(({ token_id }) => token_id === token.jti);
      if (place >= 0) userTokens.splice(place, 1);
      save();
    },

    findUser(token) {
      const known = userTokens.find(({ token_id }) => token_id === token.jti);
      return known && users.find(({ id }) => id === known.user_id);
    },
  }),
);

passport.use(
  new LocalStrategy({ usernameField: "email" }, async (email, password, done) => {
    const user = users.find((one) => one.email.toLowerCase() === email.trim().toLowerCase());
    const matches = user && (await bcrypt.compare(password, user.passwordHash));
    done(null, matches && user.active ? user : false);
  }),
);

const app = express();
app.use(express.urlencoded());
app.use(passport.initialize());
app.use(passport.session());

const requireAuth = (req, res, next) => (req.user ? next() : res.redirect("/auth/login"));

const requireRole = (role) => (req, res, next) =>
  req.user.roles.includes(role) ? next() : res.status(403).send("Forbidden");

app.get("/auth/login", (_req, res) => {
  res.send('<form method="post"><input name="email"><input name="password" type="password"><button>Sign in</button></form>');
});

app.post("/auth/login", passport.authenticate("local", { successRedirect: "/", failureRedirect: "/auth/login" }));

app.post("/auth/logout", async (req, res) => {
  await req.logOut();
  res.redirect("/auth/login");
});

app.get("/", (req, res) => {
  res.send(`Welcome, ${req.user ? req.user.name : "guest"}!`);
});

app.get("/account", requireAuth, (req, res) => {
  res.send(`${req.user.id} ${req.user.email}`);
});

app.get("/staff", requireAuth, requireRole("admin"), (_req, res) => {
  res.send("Staff only");
});

const server = app.listen(Number(PORT), "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
