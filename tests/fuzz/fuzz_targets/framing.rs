//! Where a request ends: our scanner and hyper's parser are never of two minds.
//!
//! Input: the bytes of a connection; the last one says where they are cut. What the scanner lets pass goes to hyper as
//! well, and each request that hyper sees has to begin where the scanner saw one begin.
#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use passgate::internals::server::framing::Scanner;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const MAX_HEADER_BYTES: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let Some((&cut, bytes)) = input.split_last() else {
        return;
    };
    let (verdict, begins) = one_by_one(bytes);

    // However the bytes arrive, the verdict is the same.
    let mut pieces = Scanner::new(MAX_HEADER_BYTES);
    let piecewise = bytes
        .chunks(usize::from(cut) + 1)
        .try_for_each(|piece| pieces.feed(piece));
    assert_eq!(piecewise, verdict);

    // What hyper is given is what the scanner let pass: all of it, or what came before the byte that it refused.
    let passed = if verdict.is_ok() {
        bytes
    } else {
        &bytes[..begins.refused_at]
    };
    let seen = hyper_sees(passed);
    for (number, request) in seen.iter().enumerate() {
        let Some(&at) = begins.requests.get(number) else {
            panic!("hyper saw a request more than the scanner: {request:?}");
        };
        let line = &bytes[at..];
        let line = &line[..line.iter().position(|&byte| byte == b'\r').unwrap_or(line.len())];
        assert!(
            line.starts_with(request.as_bytes()),
            "{request:?} for {:?}",
            String::from_utf8_lossy(line)
        );
    }
});

/// Where requests begin, and where the scanner had enough.
struct Begins {
    requests: Vec<usize>,
    refused_at: usize,
}

fn one_by_one(bytes: &[u8]) -> (Result<(), passgate::internals::refusal::Refusal>, Begins) {
    let mut scanner = Scanner::new(MAX_HEADER_BYTES);
    let mut begins = Begins {
        requests: Vec::new(),
        refused_at: bytes.len(),
    };
    let mut wants_start = true;
    for (at, byte) in bytes.iter().enumerate() {
        // Empty lines in front of a request are not yet the request.
        if wants_start && !matches!(byte, b'\r' | b'\n') {
            begins.requests.push(at);
            wants_start = false;
        }
        if let Err(refusal) = scanner.feed(std::slice::from_ref(byte)) {
            begins.refused_at = at;
            return (Err(refusal), begins);
        }
        wants_start |= scanner.is_between_requests();
    }
    (Ok(()), begins)
}

/// Method and target of each request that hyper's server makes of `bytes`, bodies read to their ends.
fn hyper_sees(bytes: &[u8]) -> Vec<String> {
    let seen = RefCell::new(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let service = service_fn(|request: Request<Incoming>| {
            let seen = &seen;
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                // A request whose body does not end is none that an app would answer.
                if request.into_body().collect().await.is_ok() {
                    seen.borrow_mut().push(line);
                }
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        client.write_all(bytes).await.expect("room");
        client.shutdown().await.expect("a pipe");
        let connection = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service);
        let _ = connection.await;
        let mut answers = Vec::new();
        let _ = client.read_to_end(&mut answers).await;
    });
    seen.into_inner()
}
