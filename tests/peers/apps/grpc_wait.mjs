// A gRPC client (npm's @grpc/grpc-js) with a stream that stays open: node grpc_wait.mjs ADDRESS [NAME: VALUE]…
//
// Prints {"open": true} when its first message has come back, and {"status": code, "details": …} when the stream has ended.

import grpc from "@grpc/grpc-js";
import { echo } from "./grpc.mjs";

const [address, ...fields] = process.argv.slice(2);
const Client = grpc.makeGenericClientConstructor(echo, "Echo");
const client = new Client(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
for (const field of fields) metadata.set(...field.split(/:\s*/, 2));

const talk = client.Talk(metadata, { deadline: Date.now() + 60_000 });
talk.once("data", () => console.log(JSON.stringify({ open: true })));
talk.on("error", () => undefined);
talk.on("status", ({ code, details }) => {
  console.log(JSON.stringify({ status: code, details }));
  setImmediate(() => process.exit(0));
});
talk.write({ hello: "world" });
