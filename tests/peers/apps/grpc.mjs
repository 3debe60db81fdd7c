// A gRPC app (npm's @grpc/grpc-js) without generated code: messages are bytes of JSON.
//
// /peers.Echo/Unary   answers {"got": …, "metadata": {…}} and a trailer `x-end: unary`
// /peers.Echo/Count   server stream: {"number": 0} … up to `count`, trailer `x-end: count`
// /peers.Echo/Talk    both ways: each message comes straight back
// /peers.Echo/Fail    ends with FAILED_PRECONDITION "not today" and a trailer `x-end: fail`

import grpc from "@grpc/grpc-js";

const json = { requestSerialize: pack, requestDeserialize: unpack, responseSerialize: pack, responseDeserialize: unpack };

function pack(value) {
  return Buffer.from(JSON.stringify(value));
}

function unpack(bytes) {
  return JSON.parse(bytes.toString());
}

function method(name, requestStream, responseStream) {
  return { path: `/peers.Echo/${name}`, requestStream, responseStream, ...json };
}

export const echo = {
  Unary: method("Unary", false, false),
  Count: method("Count", false, true),
  Talk: method("Talk", true, true),
  Fail: method("Fail", false, false),
};

export function trailer(value) {
  const metadata = new grpc.Metadata();
  metadata.set("x-end", value);
  return metadata;
}

function serve() {
  const server = new grpc.Server();
  server.addService(echo, {
    Unary(call, callback) {
      callback(null, { got: call.request, metadata: call.metadata.getMap() }, trailer("unary"));
    },
    Count(call) {
      for (let number = 0; number < call.request.count; number += 1) call.write({ number });
      call.end(trailer("count"));
    },
    Talk(call) {
      call.on("data", (message) => call.write(message));
      call.on("end", () => call.end(trailer("talk")));
    },
    Fail(_, callback) {
      callback({ code: grpc.status.FAILED_PRECONDITION, details: "not today", metadata: trailer("fail") });
    },
  });
  server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    console.log(JSON.stringify({ port }));
  });
}

if (process.argv[2] === "serve") serve();
