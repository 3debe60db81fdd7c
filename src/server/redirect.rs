//! The listener for clients without TLS: every request is redirected to `public_url`, and nothing else happens.
//!
//! Input: a connection. Output: 308 with the canonical path and the query of the request below `public_url`, which no part of
//! the request can change; then the end of the connection. The whole head must arrive within `header_timeout`.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONNECTION, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;

use super::connection::{Accepted, linger, write_answer};
use super::context::Context;
use super::framing::Scanner;
use super::meter::Metered;
use crate::http::reply;
use crate::http::target::{PathLeniency, Target};
use crate::refusal::Refusal;

/// Answers the first request of a connection.
pub(super) async fn serve<I>(context: Arc<Context>, io: I, accepted: Accepted, public_url: Arc<str>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.limits;
    let pace = limits.pace(accepted.step);
    let mut io = Metered::new(
        io,
        pace,
        Arc::clone(&accepted.activity),
        Arc::clone(&accepted.exit),
    );
    let client = Arc::new(accepted.client_without_tls(&context));
    let worker = context.worker.load_full();
    let read = timeout(limits.header_timeout, read_head(&mut io, limits.max_header_bytes));
    let answer = match read.await.unwrap_or(Err(Some(Refusal::ClientTimeout))) {
        Ok((method, target)) => {
            worker.note_redirected(&client, method, &target);
            to_https(&public_url, &target)
        }
        Err(Some(refusal)) => worker.refuse_connection(&client, refusal, &Method::GET, false),
        Err(None) => return,
    };
    if write_answer(&mut io, &answer).await.is_ok() {
        linger(&mut io).await;
    }
}

/// What is asked for, once the whole head is there. `Err(None)`: the client went away.
async fn read_head<I>(io: &mut I, max_bytes: usize) -> Result<(Method, PathAndQuery), Option<Refusal>>
where
    I: AsyncRead + Unpin,
{
    let mut scanner = Scanner::new(max_bytes);
    let mut head = BytesMut::with_capacity(2048);
    loop {
        let seen = head.len();
        let read = io
            .read_buf(&mut (&mut head).limit(16 * 1024))
            .await
            .map_err(|_| None)?;
        if read == 0 {
            return Err(None);
        }
        scanner.feed(&head[seen..])?;
        if scanner.has_passed_head() {
            return request_line(&head).ok_or(Some(Refusal::MalformedHead));
        }
    }
}

/// Method and target, in canonical spelling; a path that apps could read in two ways is that of the front page.
fn request_line(head: &[u8]) -> Option<(Method, PathAndQuery)> {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let method = Method::from_bytes(method).ok()?;
    let target = http::Uri::try_from(target)
        .ok()
        .and_then(|uri| Target::parse(&uri).ok());
    let plain = target.filter(|target| {
        target
            .oddities()
            .refusal_unless(PathLeniency::default())
            .is_none()
    });
    let target = plain.map_or_else(
        || PathAndQuery::from_static("/"),
        |target| target.path_and_query(),
    );
    Some((method, target))
}

fn to_https(public_url: &str, target: &PathAndQuery) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let headers = answer.headers_mut();
    if let Ok(location) = HeaderValue::try_from(format!("{public_url}{target}")) {
        headers.insert(LOCATION, location);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let (mut head, body) = answer.into_parts();
    let body = reply::finish(&Method::GET, &mut head, body);
    Response::from_parts(head, body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_path_is_kept_where_it_is_canonical_and_the_host_never_counts() {
        let location = |line: &str| {
            let head = format!("{line} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
            let (_, target) = request_line(head.as_bytes()).unwrap();
            to_https("https://app.example.com", &target).headers()[LOCATION]
                .to_str()
                .unwrap()
                .to_owned()
        };
        for (line, expected) in [
            ("GET /", "/"),
            ("GET /a/b?c=d%20e", "/a/b?c=d%20e"),
            ("POST /%61", "/a"),
            ("GET //evil.example/", "/"),
            ("GET /\\evil.example", "/"),
            ("GET /a/../b", "/"),
            ("GET /a%2fb", "/"),
            ("GET @evil.example/", "/"),
            ("GET .evil.example", "/"),
            ("OPTIONS *", "/"),
            ("GET http://evil.example/a", "/a"),
            ("CONNECT evil.example:443", "/"),
        ] {
            assert_eq!(
                location(line),
                format!("https://app.example.com{expected}"),
                "{line}"
            );
        }
    }
}
