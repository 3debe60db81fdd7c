//! The built-in upstream `whoami`: answers with the request as an app would have got it.
//!
//! For trying out a configuration. It shows a caller only what was made of the caller's own request. The body is read
//! and counted, never kept.

use std::fmt::Write;

use http::header::{self, HeaderMap};
use http::{HeaderName, HeaderValue, Response, Version};
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};

use super::body::{BodyFailure, RequestBody};
use super::head::Outgoing;
use super::response::ResponseBody;
use super::upstream::Upstream;
use crate::http::reply;
use crate::refusal::Refusal;

/// # Errors
/// What was wrong with the request's body.
pub(super) async fn answer(
    upstream: &Upstream,
    outgoing: Outgoing,
) -> Result<Response<ResponseBody>, Refusal> {
    let (mut head, body) = outgoing.request.into_parts();
    head.headers
        .insert(header::HOST, upstream.host.clone().unwrap_or(outgoing.host));
    let length = count(body).await.map_err(BodyFailure::refusal)?;
    let (text, kind) = if wants_json(&head.headers) {
        let answer = json!({
            "method": head.method.as_str(),
            "path": head.uri.path(),
            "query": head.uri.query(),
            "version": version(head.version),
            "headers": object(&head.headers),
            "body_bytes": length,
        });
        (format!("{answer:#}\n"), "application/json")
    } else {
        let mut text = format!("{} {} {}\n", head.method, head.uri, version(head.version));
        for (name, value) in &head.headers {
            let _ = writeln!(
                text,
                "{}: {}",
                title_case(name),
                String::from_utf8_lossy(value.as_bytes())
            );
        }
        let _ = writeln!(text, "\n{length} bytes of body");
        (text, "text/plain; charset=utf-8")
    };
    let (mut answer, ()) = Response::new(()).into_parts();
    answer
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
        .headers
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let text = reply::finish(&head.method, &mut answer, text.into());
    Ok(Response::from_parts(answer, ResponseBody::whole(text)))
}

async fn count(mut body: RequestBody) -> Result<u64, BodyFailure> {
    let mut length = 0;
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        length += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(length)
}

/// Whether `Accept` names JSON itself; most clients send `*/*`.
fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// A string for each field, an array of them for one that came more than once.
fn object(headers: &HeaderMap) -> Map<String, Value> {
    let text = |value: &HeaderValue| Value::from(String::from_utf8_lossy(value.as_bytes()));
    headers
        .keys()
        .map(|name| {
            let mut values: Vec<Value> = headers.get_all(name).iter().map(text).collect();
            let value = if values.len() == 1 {
                values.swap_remove(0)
            } else {
                Value::Array(values)
            };
            (name.as_str().to_owned(), value)
        })
        .collect()
}

/// `x-auth-user` as it is usually written: `X-Auth-User`.
fn title_case(name: &HeaderName) -> String {
    let mut start = true;
    name.as_str()
        .chars()
        .map(|letter| {
            let upper = std::mem::replace(&mut start, letter == '-');
            if upper {
                letter.to_ascii_uppercase()
            } else {
                letter
            }
        })
        .collect()
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
