// An app that believes nothing but `X-Auth-Assertion`, by the middleware of docs/migrating-from-express.md. PORT or 0; says where it
// listens.

import express from "express";
import { assertion } from "./assertion.mjs";

const app = express();
app.use(assertion);
app.get("/whoami", (req, res) => {
  res.json(req.user);
});

const server = app.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
