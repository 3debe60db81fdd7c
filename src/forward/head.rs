//! The heads of requests and responses, as far as they concern one connection only.
//!
//! Enters: a request whose hop-by-hop fields, identity and target are settled already. Leaves: the same request in the
//! form that this server's protocol needs, with one Host and one framing that agrees with the body we hold, whatever
//! fields the client sent. On the way back: a response without what was meant for our connection to the app.

use std::net::IpAddr;

use http::header::{self, HeaderMap};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body;

use super::body::RequestBody;
use super::server::{Protocol, Server};
use crate::http::headers::{HopByHop, drop_hop_by_hop, is_hop_by_hop};
use crate::refusal::Refusal;

/// A request as the app is to get it, but for the fields that concern one connection.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// In origin form, without hop-by-hop fields.
    pub request: Request<RequestBody>,
    /// The Host, or the `:authority`, that the client asked for.
    pub host: HeaderValue,
    /// What the client said of its own connection.
    pub hop: HopByHop,
    /// The client's address, for an upstream that is told it in front of its connections; `None`: it is not known.
    pub client: Option<IpAddr>,
}

/// Makes `request` ready for a connection to `server` that speaks `protocol`. May be called again for another server.
///
/// With `is_last`, the connection is not used again after this request, and says so. That goes also for a body with a
/// method for which an app may not expect one: it would read the body as the next request (RFC 9110 section 9.3.1), and
/// what it says then would be the client's word in place of ours.
///
/// # Errors
/// [`Refusal::HostInvalid`] where the host cannot be an `:authority`; [`Refusal::UpstreamProtocol`] for an upgrade to a
/// server that does not speak HTTP/1.1.
pub(super) fn address(
    request: &mut Request<RequestBody>,
    host: &HeaderValue,
    hop: HopByHop,
    (server, protocol): (&Server, Protocol),
    is_last: bool,
) -> Result<(), Refusal> {
    let is_last = is_last || (!request.body().is_end_stream() && !expects_body(request.method()));
    frame(request, protocol);
    match protocol {
        Protocol::Http1 => {
            *request.version_mut() = Version::HTTP_11;
            if request.uri().authority().is_some() {
                let target = target(request.uri())?;
                *request.uri_mut() = Uri::from(target);
            }
            let headers = request.headers_mut();
            headers.insert(header::HOST, host.clone());
            if hop.websocket {
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                return Ok(());
            }
            if hop.te_trailers {
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
            }
            let options = match (is_last, hop.te_trailers) {
                (true, true) => "close, te",
                (true, false) => "close",
                (false, true) => "te",
                (false, false) => return Ok(()),
            };
            headers.insert(header::CONNECTION, HeaderValue::from_static(options));
        }
        Protocol::Http2 => {
            if hop.websocket {
                return Err(Refusal::UpstreamProtocol);
            }
            let authority = Authority::try_from(host.as_bytes()).map_err(|_| Refusal::HostInvalid)?;
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(match server.tls {
                Some(_) => Scheme::HTTPS,
                None => Scheme::HTTP,
            });
            parts.authority = Some(authority);
            parts.path_and_query = Some(target(request.uri())?);
            *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Refusal::HostInvalid)?;
            *request.version_mut() = Version::HTTP_2;
            let headers = request.headers_mut();
            headers.remove(header::HOST);
            headers.remove(header::CONNECTION);
            if hop.te_trailers {
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
            }
        }
    }
    Ok(())
}

/// A second one of `request`, which has no body, for the case that the first one is lost.
pub(super) fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn target(uri: &Uri) -> Result<PathAndQuery, Refusal> {
    uri.path_and_query().cloned().ok_or(Refusal::TargetForm)
}

/// Whether every app expects a body with this method.
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Sets the fields that say how long the body is, by the body and not by what the client wrote (RFC 9112 section 6).
fn frame(request: &mut Request<RequestBody>, protocol: Protocol) {
    let (ended, exact) = (request.body().is_end_stream(), request.body().size_hint().exact());
    let expects_body = expects_body(request.method());
    let headers = request.headers_mut();
    if ended {
        headers.remove(header::TRANSFER_ENCODING);
        if headers.remove(header::CONTENT_LENGTH).is_some() || expects_body {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        return;
    }
    // The client has been told to go on already, or will be when its body is read.
    headers.remove(header::EXPECT);
    match (exact, protocol) {
        (Some(length), _) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            headers.remove(header::TRANSFER_ENCODING);
        }
        (None, Protocol::Http1) => {
            headers.remove(header::CONTENT_LENGTH);
            // Said here for all methods: hyper would send no body with a GET of unknown length.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        (None, Protocol::Http2) => {
            headers.remove(header::CONTENT_LENGTH);
            headers.remove(header::TRANSFER_ENCODING);
        }
    }
}

/// Takes out of a response what was meant for our connection to the app (RFC 9110 section 7.6.1), and leaves at most one
/// Content-Length, which then is the body's.
pub(super) fn clean<B: Body>(response: &mut Response<B>) {
    *response.version_mut() = Version::HTTP_11;
    let exact = response.body().size_hint().exact();
    let headers = response.headers_mut();
    let (mut hop_by_hop, mut lengths) = (false, 0);
    // One pass over the names; most responses have none of these.
    for (name, value) in headers.iter() {
        if name == header::CONTENT_LENGTH {
            lengths += if value.as_bytes().iter().all(u8::is_ascii_digit) {
                1
            } else {
                2
            };
        } else {
            hop_by_hop |= is_hop_by_hop(name);
        }
    }
    let mut unsure = lengths > 1;
    if hop_by_hop {
        unsure |= headers.contains_key(header::TRANSFER_ENCODING);
        // hyper sends a trailer over HTTP/1 only where a `Trailer` line names it.
        let trailer: Vec<HeaderValue> = headers.get_all(header::TRAILER).iter().cloned().collect();
        drop_hop_by_hop(headers, &[]);
        for line in trailer {
            headers.append(header::TRAILER, line);
        }
    }
    if unsure {
        headers.remove(header::CONTENT_LENGTH);
        if let Some(length) = exact.filter(|length| *length > 0) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
}

/// Whether a 101 switches to `websocket` and nothing else.
pub(super) fn switches_to_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    protocols
        .next()
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && protocols.next().is_none()
}

/// Says in a 101 what our own connection to the client switches to.
pub(super) fn switch(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}
