// A small Express app with the usual setup: passport-local to sign in, passport-jwt for every request after that, access
// tokens for 15 minutes, refresh tokens for 7 days that rotate, `requireRole`, optional auth. Users and refresh tokens are
// JSON files in the working directory. Wants JWT_SECRET; PORT or 0; says where it listens.

import { randomUUID } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import bcrypt from "bcryptjs";
import express from "express";
import jwt from "jsonwebtoken";
import passport from "passport";
import { ExtractJwt, Strategy as JwtStrategy } from "passport-jwt";
import { Strategy as LocalStrategy } from "passport-local";

const { JWT_SECRET, PORT = 0 } = process.env;
const users = readJson("users.json");
const families = readJson("refresh-tokens.json"); // [{ family, userId, current }]

function readJson(file) {
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : [];
}

function save() {
  writeFileSync("users.json", JSON.stringify(users, null, 2));
  writeFileSync("refresh-tokens.json", JSON.stringify(families, null, 2));
}

const fold = (email) => email.trim().toLowerCase();
const findByEmail = (email) => users.find((user) => fold(user.email) === fold(email));
const publicUser = ({ id, email, name, roles }) => ({ id, email, name, roles });

// --- strategies -----------------------------------------------------------------------------------------------------

passport.use(
  new LocalStrategy({ usernameField: "email", session: false }, async (email, password, done) => {
    const user = findByEmail(email);
    const matches = user && (await bcrypt.compare(password, user.passwordHash));
    done(null, matches && user.active ? user : false);
  }),
);

const fromHeader = { jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(), secretOrKey: JWT_SECRET, algorithms: ["HS256"] };
passport.use(
  new JwtStrategy(fromHeader, (payload, done) => {
    // Every token that is signed with this secret would come through here, so a refresh token has to be told apart.
    const user = payload.type ? undefined : users.find(({ id }) => id === payload.id);
    done(null, user?.active ? user : false);
  }),
);

function authenticate(strategy, failed) {
  return (req, res, next) =>
    passport.authenticate(strategy, { session: false }, (error, user, info) => {
      if (error) return next(error);
      if (!user) return failed(req, res, next, info);
      req.user = user;
      next();
    })(req, res, next);
}

const requireAuth = authenticate("jwt", (req, res) =>
  res.status(401).json({ message: req.headers.authorization ? "Invalid token" : "Unauthorized" }),
);
const optionalAuth = authenticate("jwt", (_req, _res, next) => next());
const requirePassword = authenticate("local", (_req, res) => res.status(401).json({ message: "Invalid credentials" }));

const requireRole =
  (...roles) =>
  (req, res, next) =>
    roles.some((role) => req.user.roles.includes(role)) ? next() : res.status(403).json({ message: "Forbidden" });

// --- tokens ---------------------------------------------------------------------------------------------------------

function tokens(user, family) {
  const { id, email, roles } = user;
  const accessToken = jwt.sign({ id, email, roles }, JWT_SECRET, { expiresIn: "15m" });
  const refreshToken = jwt.sign({ id, type: "refresh", family, jti: randomUUID() }, JWT_SECRET, { expiresIn: "7d" });
  const known = families.find((one) => one.family === family);
  if (known) known.current = jwt.decode(refreshToken).jti;
  else families.push({ family, userId: id, current: jwt.decode(refreshToken).jti });
  save();
  return { accessToken, refreshToken, tokenType: "Bearer", expiresIn: 900 };
}

function end(family) {
  const place = families.findIndex((one) => one.family === family);
  if (place >= 0) families.splice(place, 1);
  save();
}

function verifyRefreshToken(token) {
  try {
    const payload = jwt.verify(token, JWT_SECRET, { algorithms: ["HS256"] });
    return payload.type === "refresh" ? payload : undefined;
  } catch {
    return undefined;
  }
}

// --- routes ---------------------------------------------------------------------------------------------------------

const app = express();
app.use(express.json());
app.use(passport.initialize());

app.post("/auth/register", async (req, res) => {
  const { email = "", password = "", name } = req.body ?? {};
  if (!/^[^@\s]+@[^@\s]+$/.test(email)) return res.status(400).json({ message: "Invalid email address" });
  if (password.length < 8) return res.status(400).json({ message: "Password too short" });
  if (findByEmail(email)) return res.status(409).json({ message: "Email address already registered" });
  const user = { id: randomUUID(), email, name, roles: ["user"], active: true, passwordHash: await bcrypt.hash(password, 10) };
  users.push(user);
  save();
  res.status(201).json({ id: user.id, email: user.email });
});

app.post("/auth/login", requirePassword, (req, res) => {
  res.json(tokens(req.user, randomUUID()));
});

app.post("/auth/refresh", (req, res) => {
  const payload = verifyRefreshToken(req.body?.refreshToken);
  const known = families.find(({ family }) => family === payload?.family);
  if (!known) return res.status(401).json({ message: "Invalid token" });
  if (known.current !== payload.jti) {
    end(known.family);
    return res.status(401).json({ message: "Invalid token" });
  }
  const user = users.find(({ id }) => id === known.userId);
  res.json(tokens(user, known.family));
});

app.post("/auth/logout", requireAuth, (req, res) => {
  const payload = verifyRefreshToken(req.body?.refreshToken);
  if (payload?.id === req.user.id) end(payload.family);
  res.json({ message: "Signed out" });
});

app.get("/auth/me", requireAuth, (req, res) => {
  res.json(publicUser(req.user));
});

app.get("/api/profile", requireAuth, (req, res) => {
  res.json({ profile: publicUser(req.user) });
});

app.get("/api/admin", requireAuth, requireRole("admin"), (req, res) => {
  res.json({ users: "all of them", for: req.user.email });
});

app.get("/api/feed", optionalAuth, (req, res) => {
  res.json({ greeting: `Hello, ${req.user ? req.user.email : "guest"}` });
});

app.use((_req, res) => {
  res.status(404).json({ message: "Not found" });
});

app.use((error, _req, res, _next) => {
  const status = error.status ?? 500;
  res.status(status).json({ message: status < 500 ? "Bad request" : "Internal server error" });
});

const server = app.listen(Number(PORT), "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
