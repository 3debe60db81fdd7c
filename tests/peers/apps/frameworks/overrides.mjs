// An Express app that takes the method of a POST from a header, from the query and from a form field.
import express from "express";
import methodOverride from "method-override";

const app = express();
app.use(express.urlencoded({ extended: false }));
app.use(methodOverride("X-HTTP-Method-Override"));
app.use(methodOverride("X-HTTP-Method"));
app.use(methodOverride("X-Method-Override"));
app.use(methodOverride("_method"));
app.use(methodOverride((req) => req.body?._method));
app.all("/items/1", (req, res) => res.send(`ran ${req.method}`));
app.get("/", (req, res) => res.send("ready"));
app.listen(process.env.PORT, "127.0.0.1");
