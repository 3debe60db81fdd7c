//! Forward-auth by gRPC: the question and the answer as messages of Envoy's external authorization.
//!
//! Input: a call of `Check` by a peer in `trusted_proxies`. Output: a [`Question`] with the fields of the client's request; the
//! answer as a message. Invariants: a message that cannot be read leads to no decision; every name that the client sent and
//! that the gateway removes when it forwards is removed by the proxy; what the gateway says takes the place of what the
//! client said.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Limited};
use prost::Message as _;

use super::super::Gateway;
use super::super::decide::Allowed;
use super::super::head::RequestHead;
use super::super::rejection::{Asked, Form, GrpcFault, Rejection};
use super::super::response::{Content, GrpcContent};
use super::super::rewrite::take_away;
use super::answer::{X_ACCEL_EXPIRES, X_AUTH_STATUS, X_REQUEST_ID};
use super::conditions::Conditions;
use super::envoy::{
    APPEND, AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderLine, HeaderOption,
    HttpRequest, HttpResponse, HttpStatus, OVERWRITE, OkHttpResponse, RpcStatus,
};
use super::question::{Question, host, method, target};
use crate::http::incoming::ClientBody;
use crate::http::reply;
use crate::identity_headers::forwarded::client_ip;
use crate::login::Asking;
use crate::refusal::Refusal;

/// The longest message, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;
/// A byte for compression, and four for the length.
const PREFIX: usize = 5;
/// How long a message may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// `UNAUTHENTICATED` and `PERMISSION_DENIED` of `google.rpc.Code`.
const UNAUTHENTICATED: i32 = 16;
const PERMISSION_DENIED: i32 = 7;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A call that could be read.
#[derive(Debug)]
pub(in crate::gateway) struct Call(CheckRequest);

/// A call that cannot be read: no decision is made.
fn fault<'g>(fault: GrpcFault) -> Box<Rejection<'g>> {
    let mut rejection = Box::new(Rejection::new(Refusal::OriginalInvalid));
    rejection.asked = Some(asked(Form::GrpcFault(fault)));
    rejection
}

fn asked(form: Form) -> Asked {
    Asked {
        is_strict: false,
        redirects: true,
        form,
    }
}

impl Call {
    /// Reads the message of a call.
    ///
    /// # Errors
    /// 415 for what is no gRPC; a status of gRPC for a message that is too long, compressed, not whole or no `CheckRequest`.
    pub(in crate::gateway) async fn read<'g>(
        head: &RequestHead<'_>,
        body: &mut ClientBody,
    ) -> Result<Self, Box<Rejection<'g>>> {
        let kind = head.parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_grpc = matches!(kind, Some(b"application/grpc" | b"application/grpc+proto"));
        if head.parts.version != Version::HTTP_2 || !is_grpc {
            return Err(Refusal::FormTypeRefused.into());
        }
        let read = tokio::time::timeout(PATIENCE, Limited::new(body, PREFIX + MAX_MESSAGE).collect());
        let bytes = match read.await {
            Ok(Ok(read)) => read.to_bytes(),
            Ok(Err(_)) => return Err(fault(GrpcFault::Invalid)),
            Err(_) => return Err(Refusal::ClientTimeout.into()),
        };
        Self::parse(bytes).map_err(fault)
    }

    fn parse(mut bytes: Bytes) -> Result<Self, GrpcFault> {
        if bytes.len() < PREFIX {
            return Err(GrpcFault::Invalid);
        }
        match bytes.get_u8() {
            0 => {}
            1 => return Err(GrpcFault::Compressed),
            _ => return Err(GrpcFault::Invalid),
        }
        if bytes.get_u32() as usize != bytes.len() {
            return Err(GrpcFault::Invalid);
        }
        CheckRequest::decode(bytes)
            .map(Self)
            .map_err(|_| GrpcFault::Invalid)
    }

    /// The question, and the head of the call with the fields of the client's request in place of its own.
    ///
    /// # Errors
    /// 400 where the description is not complete, or has a field that no request has.
    pub(in crate::gateway) fn question<'g, 'c>(
        self,
        gateway: &Gateway,
        mut head: RequestHead<'c>,
    ) -> Result<(Question, RequestHead<'c>), Box<Rejection<'g>>> {
        let AttributeContext { source, request } = self.0.attributes.unwrap_or_default();
        let http = request.and_then(|request| request.http).unwrap_or_default();
        let mut form = Form::Grpc { is_browser: false };
        let read = (|| {
            let mut fields = fields_of(&http)?;
            form = Form::Grpc {
                is_browser: reply::wants_page(&fields),
            };
            let source = source.and_then(|peer| peer.address?.socket_address);
            if let Some(source) = source {
                add_hop(&mut fields, &source.address)?;
            }
            head.client_ip = client_ip(&fields, &head.peer, &gateway.trusted_proxies);
            head.parts.headers = fields;
            if http.method.is_empty() || http.path.is_empty() || http.host.is_empty() {
                return Err(Refusal::OriginalMissing);
            }
            if !http.fragment.is_empty() || !http.query.is_empty() && http.path.contains('?') {
                return Err(Refusal::OriginalInvalid);
            }
            let path = match http.query.as_str() {
                "" => http.path,
                query => format!("{}?{query}", http.path),
            };
            Ok(Question {
                method: method(&http.method)?,
                host: host(&http.host)?,
                target: target(&path)?,
                asking: Asking::Grpc,
                conditions: Conditions::default(),
                asked: asked(form),
            })
        })();
        match read {
            Ok(question) => Ok((question, head)),
            Err(refusal) => Err(Box::new(Rejection {
                asked: Some(asked(form)),
                ..Rejection::new(refusal)
            })),
        }
    }
}

/// The fields of the request. Pseudo-fields and `Host` are in the description itself.
fn fields_of(http: &HttpRequest) -> Result<HeaderMap, Refusal> {
    let mut fields = HeaderMap::new();
    let mut add = |name: &str, value: &[u8]| {
        if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
            return Ok::<(), Refusal>(());
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal::OriginalInvalid)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| Refusal::OriginalInvalid)?;
        fields
            .try_append(name, value)
            .map_err(|_| Refusal::HeadersTooLarge)?;
        Ok(())
    };
    for (name, value) in &http.headers {
        add(name, value.as_bytes())?;
    }
    for line in http.header_map.iter().flat_map(|lines| &lines.headers) {
        let is_raw = !line.raw_value.is_empty();
        add(
            &line.key,
            if is_raw {
                &line.raw_value
            } else {
                line.value.as_bytes()
            },
        )?;
    }
    Ok(fields)
}

/// Adds the other end of the proxy's connection to the way that the request has come.
fn add_hop(fields: &mut HeaderMap, address: &str) -> Result<(), Refusal> {
    let address = address
        .parse::<std::net::IpAddr>()
        .map_err(|_| Refusal::OriginalInvalid)?;
    let value = HeaderValue::try_from(address.to_string()).map_err(|_| Refusal::Internal)?;
    // The last line counts as the last hop.
    fields.append(X_FORWARDED_FOR, value);
    Ok(())
}

/// What the proxy has to do to the client's fields so that the app gets them as if the gateway had forwarded the request.
#[derive(Debug)]
pub(in crate::gateway) struct Changes {
    set: Vec<(HeaderName, HeaderValue)>,
    removed: Vec<HeaderName>,
    removed_parameters: Vec<String>,
}

impl Changes {
    pub(super) fn of(gateway: &Gateway, allowed: &Allowed<'_>, head: &RequestHead<'_>) -> Self {
        let (before, query) = (&head.parts.headers, head.target.query());
        let mut after = before.clone();
        let stripped = take_away(gateway, allowed, head.peer.trusted, query, &mut after);
        let mut changes = Self {
            set: Vec::new(),
            removed: Vec::new(),
            removed_parameters: Vec::new(),
        };
        for name in before.keys() {
            let mut values = after.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => changes.removed.push(name.clone()),
                (Some(only), None) if before.get_all(name).iter().ne([only]) => {
                    changes.set.push((name.clone(), only.clone()));
                }
                // Several lines are those that the client sent.
                _ => {}
            }
        }
        if let Some(stripped) = stripped {
            let stripped = stripped.unwrap_or_default();
            let kept: Vec<&str> = stripped.split('&').collect();
            let pairs = query.unwrap_or_default().split('&');
            let gone = pairs.filter(|pair| !kept.contains(pair));
            let name = |pair: &str| pair.split_once('=').map_or(pair, |(name, _)| name).to_owned();
            changes.removed_parameters = gone.map(name).collect();
        }
        changes
    }
}

fn line(name: &HeaderName, value: &HeaderValue) -> HeaderLine {
    HeaderLine {
        key: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        raw_value: Vec::new(),
    }
}

fn option(name: &HeaderName, value: &HeaderValue, is_added: bool) -> HeaderOption {
    HeaderOption {
        header: Some(line(name, value)),
        append: Some(is_added),
        append_action: if is_added { APPEND } else { OVERWRITE },
    }
}

/// The message for a request that may pass; `answered` is the answer by HTTP.
pub(in crate::gateway) fn allowed(answered: &Response<Bytes>, changes: Option<Changes>) -> Response<Content> {
    let mut ok = OkHttpResponse::default();
    let (mut set, mut removed) = (HeaderMap::new(), Vec::new());
    if let Some(changes) = changes {
        set.extend(changes.set.into_iter().map(|(name, value)| (Some(name), value)));
        removed = changes.removed;
        ok.query_parameters_to_remove = changes.removed_parameters;
    }
    for (name, value) in answered.headers() {
        // For the client, or about the answer.
        if [CACHE_CONTROL, VARY, X_ACCEL_EXPIRES, X_REQUEST_ID].contains(name) {
            continue;
        }
        if name == SET_COOKIE {
            ok.response_headers_to_add.push(option(name, value, true));
        } else if value.is_empty() {
            removed.push(name.clone());
        } else {
            set.insert(name, value.clone());
        }
    }
    // The proxy removes after it has set.
    removed.retain(|name| !set.contains_key(name));
    removed.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    removed.dedup();
    ok.headers_to_remove = removed.iter().map(|name| name.as_str().to_owned()).collect();
    ok.headers = set
        .iter()
        .map(|(name, value)| option(name, value, false))
        .collect();
    respond(
        &CheckResponse {
            status: Some(RpcStatus { code: 0 }),
            http_response: Some(HttpResponse::Ok(ok)),
        },
        StatusCode::OK,
    )
}

/// The message for a request that may not; `refused` is what its client gets.
pub(in crate::gateway) fn denied(refused: Response<Bytes>) -> Response<Content> {
    let (parts, body) = refused.into_parts();
    let code = match parts.status {
        StatusCode::UNAUTHORIZED => UNAUTHENTICATED,
        _ => PERMISSION_DENIED,
    };
    let is_for_client = |name: &HeaderName| ![CONTENT_LENGTH, X_AUTH_STATUS].contains(name);
    let fields = parts.headers.iter().filter(|(name, _)| is_for_client(name));
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus {
            code: parts.status.as_u16().into(),
        }),
        headers: fields
            .map(|(name, value)| option(name, value, *name == SET_COOKIE))
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    respond(
        &CheckResponse {
            status: Some(RpcStatus { code }),
            http_response: Some(HttpResponse::Denied(denied)),
        },
        parts.status,
    )
}

/// The answer to a call that cannot be read.
pub(in crate::gateway) fn faulty(fault: GrpcFault) -> Response<Content> {
    answer(Bytes::new(), fault.status(), StatusCode::BAD_REQUEST)
}

fn respond(message: &CheckResponse, meant: StatusCode) -> Response<Content> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    match message.encode(&mut frame) {
        Ok(()) => answer(frame.freeze(), HeaderValue::from_static("0"), meant),
        // A buffer that grows has room.
        Err(_) => answer(
            Bytes::new(),
            HeaderValue::from_static("13"),
            StatusCode::INTERNAL_SERVER_ERROR,
        ),
    }
}

fn answer(message: Bytes, status: HeaderValue, meant: StatusCode) -> Response<Content> {
    let mut response = Response::new(Content::Grpc(GrpcContent {
        message,
        status,
        meant,
    }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.remove(CONTENT_ENCODING);
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn frame(flag: u8, length: u32, message: &[u8]) -> Bytes {
        [&[flag][..], &length.to_be_bytes(), message].concat().into()
    }

    #[test]
    fn frame_is_one_whole_message_without_compression() {
        let message = CheckRequest::default().encode_to_vec();
        assert!(Call::parse(frame(0, 0, &message)).is_ok());
        for (bytes, fault) in [
            (Bytes::new(), GrpcFault::Invalid),
            (Bytes::from_static(&[0, 0, 0, 0]), GrpcFault::Invalid),
            (frame(0, 1, b""), GrpcFault::Invalid),
            (frame(0, 0, b"\x0a"), GrpcFault::Invalid),
            (frame(0, u32::MAX, b""), GrpcFault::Invalid),
            (frame(1, 0, b""), GrpcFault::Compressed),
            (frame(2, 0, b""), GrpcFault::Invalid),
            // A length that goes beyond the message, and text that is not UTF-8.
            (frame(0, 2, b"\x0a\x05"), GrpcFault::Invalid),
            (
                frame(0, 9, b"\x0a\x07\x22\x05\x12\x03\x12\x01\xff"),
                GrpcFault::Invalid,
            ),
        ] {
            assert_eq!(Call::parse(bytes.clone()).unwrap_err(), fault, "{bytes:?}");
        }
    }

    #[test]
    fn fields_are_those_of_a_request_or_none() {
        let http = |name: &str, value: &str| HttpRequest {
            headers: [(name.to_owned(), value.to_owned())].into(),
            ..HttpRequest::default()
        };
        for name in [":authority", ":path", "host", "Host"] {
            assert!(
                fields_of(&http(name, "evil.example")).unwrap().is_empty(),
                "{name}"
            );
        }
        for (name, value) in [("a b", "x"), ("", "x"), ("x", "a\nb"), ("x", "a\u{0}b")] {
            assert_eq!(
                fields_of(&http(name, value)).unwrap_err(),
                Refusal::OriginalInvalid
            );
        }
        let raw = HttpRequest {
            header_map: Some(super::super::envoy::HeaderLines {
                headers: [("X-A", "", &b"1"[..]), ("x-a", "2", b"")]
                    .map(|(key, value, raw)| HeaderLine {
                        key: key.to_owned(),
                        value: value.to_owned(),
                        raw_value: raw.to_vec(),
                    })
                    .to_vec(),
            }),
            ..http("x-b", "3")
        };
        let fields = fields_of(&raw).unwrap();
        assert_eq!(fields.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(fields["x-b"], "3");
    }
}
