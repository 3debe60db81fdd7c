//! The room as its users see it, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // what a test sends is bounded by the test

mod bodies;
mod connections;
mod http2;
mod names;
mod retries;
mod reuse;
mod servers;
mod websocket;

use super::testing::{App, Gateway, Wire, at, compile, raw, rules};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET /x?y=%20z HTTP/1.1\r\nhost: shop.example\r\n\r\n";

fn status(answer: &(String, String)) -> &str {
    answer.0.split(' ').nth(1).unwrap()
}
