// A Node app with streams that proxies often break: WebSockets (npm's ws) and Server-Sent Events.
//
// GET /ws        WebSocket; the first message tells the handshake's headers, then everything is echoed;
//                "close 4001 why" closes with that code and reason
// GET /events    an event stream: one event at once, each further one only after a POST /next, so that a client which
//                sees an event before it asks for the next one proves that nothing held it back
// POST /next     lets one event go; 200 {"streams": n} with the number of open streams
// GET /headers   the fields of the request as JSON
// POST /upload   {"bytes": n}, the length of the body as it arrived
// GET /state     {"streams": n, "upgrades": n, "requests": n}

import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const state = { streams: 0, upgrades: 0, requests: 0 };
const open = new Set();
let sent = 0;

function emit(response) {
  sent += 1;
  response.write(`id: ${sent}\ndata: event ${sent}\n\n`);
}

const server = createServer((request, response) => {
  const path = request.url.split("?")[0];
  if (path === "/state") {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(state));
    return;
  }
  state.requests += 1;
  if (path === "/events") {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    open.add(response);
    state.streams = open.size;
    response.on("close", () => {
      open.delete(response);
      state.streams = open.size;
    });
    emit(response);
    return;
  }
  if (path === "/next") {
    for (const stream of open) emit(stream);
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ streams: open.size }));
    return;
  }
  if (path === "/headers") {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(request.headers));
    return;
  }
  if (path === "/upload") {
    let bytes = 0;
    request.on("data", (part) => {
      bytes += part.length;
    });
    request.on("end", () => {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ bytes }));
    });
    return;
  }
  response.statusCode = 404;
  response.end();
});

const sockets = new WebSocketServer({ server, path: "/ws" });
sockets.on("connection", (socket, request) => {
  state.upgrades += 1;
  socket.send(JSON.stringify(request.headers));
  socket.on("message", (data, isBinary) => {
    const order = isBinary ? null : /^close (\d+) (.*)$/.exec(data.toString());
    if (order) socket.close(Number(order[1]), order[2]);
    else socket.send(data, { binary: isBinary });
  });
});

server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
