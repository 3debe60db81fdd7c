// A gRPC client (npm's @grpc/grpc-js): node grpc_client.mjs ADDRESS TOKEN [CA.pem], with "-" for no token.
//
// Makes one call of each kind and prints one line of JSON with what came back, trailers and status included.

import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import { echo } from "./grpc.mjs";

const [address, token, authority] = process.argv.slice(2);
const credentials = authority ? grpc.credentials.createSsl(readFileSync(authority)) : grpc.credentials.createInsecure();
const Client = grpc.makeGenericClientConstructor(echo, "Echo");
const client = new Client(address, credentials);
const until = () => ({ deadline: Date.now() + 20_000 });

function metadata() {
  const fields = new grpc.Metadata();
  fields.set("x-auth-user", "mallory");
  fields.set("x-own", "kept");
  if (token !== "-") fields.set("authorization", `Bearer ${token}`);
  return fields;
}

function unary(name, message) {
  return new Promise((resolve) => {
    const result = {};
    const call = client[name](message, metadata(), until(), (error, answer) => {
      result.answer = answer;
      result.error = error && { code: error.code, details: error.details };
    });
    call.on("status", (status) => {
      result.status = status.code;
      result.end = status.metadata.get("x-end")[0];
      setImmediate(() => resolve(result));
    });
  });
}

function stream(call, onMessage) {
  return new Promise((resolve) => {
    const result = { messages: 0 };
    call.on("data", (message) => {
      onMessage(message, result.messages);
      result.messages += 1;
    });
    call.on("error", (error) => {
      result.error = { code: error.code, details: error.details };
    });
    call.on("status", (status) => {
      result.status = status.code;
      result.end = status.metadata.get("x-end")[0];
      setImmediate(() => resolve(result));
    });
  });
}

const result = {};
result.unary = await unary("Unary", { hello: "world" });
if (result.unary.status === grpc.status.OK) {
  result.fail = await unary("Fail", {});
  let inOrder = true;
  result.count = await stream(client.Count({ count: 1000 }, metadata(), until()), (message, place) => {
    inOrder &&= message.number === place;
  });
  result.count.inOrder = inOrder;
  // Ping-pong: the next message leaves only when the last one is back, so nothing may wait for the end of the stream.
  const talk = client.Talk(metadata(), until());
  talk.write({ turn: 0 });
  result.talk = await stream(talk, (message) => {
    if (message.turn < 99) talk.write({ turn: message.turn + 1 });
    else talk.end();
  });
}
console.log(JSON.stringify(result));
client.close();
