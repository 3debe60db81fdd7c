// A WebSocket client (npm's ws): node ws_client.mjs URL TOKEN COUNT, or with "-" for no token.
//
// Sends COUNT texts, one message of a megabyte and a ping, checks every echo, and asks the app to close. Prints one line
// of JSON: what the app saw of the handshake, what came back, how it ended.

import { randomBytes } from "node:crypto";
import WebSocket from "ws";

const [url, token, count, ...fields] = process.argv.slice(2);
const headers = Object.fromEntries(fields.map((field) => /^([^:]+):\s*(.*)$/.exec(field).slice(1)));
if (token !== "-") headers.authorization = `Bearer ${token}`;
// As in a page: new WebSocket(url, protocols). The library refuses an answer that chooses another one, or none.
const protocols = (headers["Sec-WebSocket-Protocol"] ?? "").split(", ").filter(Boolean);
delete headers["Sec-WebSocket-Protocol"];
const large = randomBytes(1 << 20);
const result = { texts: 0, binary: false, pong: false };

function done(extra) {
  console.log(JSON.stringify({ ...result, ...extra }));
  process.exit(0);
}

const socket = new WebSocket(url, protocols, { headers, rejectUnauthorized: true });
socket.on("unexpected-response", (_, response) => done({ status: response.statusCode }));
socket.on("error", (error) => done({ error: String(error) }));
socket.on("pong", () => {
  result.pong = true;
});
socket.on("close", (code, reason) => done({ code, reason: reason.toString(), protocol: socket.protocol }));
socket.on("message", (data, isBinary) => {
  if (!result.headers) {
    result.headers = JSON.parse(data.toString());
    // All at once: the echoes must return in order, even when several texts were written together.
    for (let number = 0; number < Number(count); number += 1) socket.send(`text ${number}`);
    socket.ping();
    socket.send(large);
  } else if (isBinary) {
    result.binary = large.equals(data);
    socket.send("close 4001 enough");
  } else {
    if (data.toString() !== `text ${result.texts}`) done({ error: `${data} in place ${result.texts}` });
    result.texts += 1;
  }
});
