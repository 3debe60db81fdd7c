// A WebSocket client (npm's ws) that stays connected: node ws_wait.mjs URL [NAME: VALUE]…
//
// Prints {"open": true} when the app's first message is there, and one more line when it has ended: {"code": …, "reason": …},
// or {"status": …} where there was no WebSocket.

import WebSocket from "ws";

const [url, ...fields] = process.argv.slice(2);
const headers = Object.fromEntries(fields.map((field) => /^([^:]+):\s*(.*)$/.exec(field).slice(1)));

function over(what) {
  console.log(JSON.stringify(what));
  process.exit(0);
}

const socket = new WebSocket(url, { headers });
socket.on("unexpected-response", (_, response) => over({ status: response.statusCode }));
socket.on("error", (error) => over({ error: String(error) }));
socket.once("message", () => console.log(JSON.stringify({ open: true })));
socket.on("close", (code, reason) => over({ code, reason: reason.toString() }));
