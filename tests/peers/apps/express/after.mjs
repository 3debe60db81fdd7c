// The same app behind passgate. What is gone: six packages' worth of strategies, tokens, password hashes, the secret, the users'
// file, /auth/*. What is left is the app. PORT or 0; says where it listens.

import express from "express";
import { identity } from "./identity.mjs";

const { PORT = 0 } = process.env;
const publicUser = ({ id, email, name, roles }) => ({ id, email, name, roles });

const app = express();
app.enable("case sensitive routing"); // /API/ADMIN is not /api/admin for passgate, so it must not be for the app
app.set("trust proxy", "loopback");
app.use(express.json());
app.use(identity);

app.get("/api/profile", (req, res) => {
  res.json({ profile: publicUser(req.user) });
});

app.get("/api/admin", (req, res) => {
  res.json({ users: "all of them", for: req.user.email });
});

app.get("/api/feed", (req, res) => {
  res.json({ greeting: `Hello, ${req.user ? req.user.email : "guest"}` });
});

app.use((_req, res) => {
  res.status(404).json({ message: "Not found" });
});

const server = app.listen(Number(PORT), "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
