// A Koa app with one page, with the settings of its router as they come.
import Router from "@koa/router";
import Koa from "koa";

const app = new Koa();
const router = new Router();
router.get("/", (context) => (context.body = { id: context.get("X-Auth-User") }));
router.get("/admin/secret", (context) => (context.body = "the secret"));
app.use(router.routes());
app.listen(process.env.PORT, "127.0.0.1");
