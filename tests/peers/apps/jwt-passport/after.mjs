// The same app behind passgate. PORT or 0; says where it listens. `identity.mjs` stands in docs/migrating-from-express.md.

import express from "express";
import { identity } from "./identity.mjs";

const { PORT = 0 } = process.env;

const app = express();
app.enable("case sensitive routing"); // /STAFF is not /staff for passgate, so it must not be for the app
app.set("trust proxy", "loopback");
app.use(express.urlencoded());
app.use(identity);

app.get("/", (req, res) => {
  res.send(`Welcome, ${req.user ? req.user.name : "guest"}!`);
});

app.get("/account", (req, res) => {
  res.send(`${req.user.id} ${req.user.email}`);
});

app.get("/staff", (_req, res) => {
  res.send("Staff only");
});

const server = app.listen(Number(PORT), "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
