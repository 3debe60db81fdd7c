//! The app's side of the gateway: a request goes out, its response comes back, both as streams.
//!
//! Input: an allowed request (the [`Permit`] proves it) whose fields are final except for those that concern one connection.
//! Output: the app's response without the app's hop-by-hop fields, or the [`Refusal`] that says why there is none.
//!
//! Invariants: a request that an app may have processed is never sent twice, however harmless its method; the bytes of one
//! client never get into the exchange of another; no wait, queue or buffer is without a bound.

mod balance;
mod body;
mod config;
mod connect;
mod head;
mod health_check;
mod http1;
mod http2;
mod pool;
mod response;
mod server;
mod upstream;
mod waker;
mod websocket;
mod websocket_close;
mod whoami;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use tokio::time::Instant;

pub use body::{BodyFailure, BodyRules, Progress, RequestBody, is_grpc};
pub use head::Hop;
pub use health_check::watch_health;
pub use pool::Pool;
pub use response::ResponseBody;
pub use server::Address;
pub use upstream::Upstream;
pub use websocket::{Traffic, Upgrade, splice};

use crate::authorize::Permit;
use crate::http::client::Holder;
use crate::refusal::Refusal;
use connect::{ConnectError, connect};
use http1::{Failure, Http1};
use http2::Http2;
use pool::{Checkout, PooledConnection, ServerPool, ServerPools};
use response::Uploading;
use server::{Protocol, Server};
use upstream::Builtin;

/// How often a request is tried in all, where it is certain that the tries before did not reach an app.
const TRIES: usize = 3;

/// What came back from an app.
#[derive(Debug)]
pub struct Forwarded {
    /// The response, ready for the client.
    pub response: Response<ResponseBody>,
    /// The server that answered, for the log.
    pub server: Arc<str>,
    /// With status 101, the app's side of the connection for [`splice`]; else `None`.
    pub upgrade: Option<Upgrade>,
}

/// Sends `request` to `upstream` and returns as soon as the head of the response is there.
///
/// `holder` is the client, as the limits on connections to apps count it. `route` is how log lines name the route.
///
/// `request` is in origin form, without hop-by-hop fields; `hop` has what they said. Dropping the future, or the
/// response's body before its end, cancels the exchange with the app.
///
/// # Errors
/// 502, 503 and 504 as the app fails, and what is wrong with the client's body, as long as the app has not answered.
pub async fn forward(
    _permit: &Permit,
    upstream: &Arc<Upstream>,
    pool: &Pool,
    holder: &Holder,
    route: &str,
    mut request: Request<RequestBody>,
    hop: Hop,
) -> Result<Forwarded, Refusal> {
    if let Some(Builtin::Whoami) = upstream.builtin {
        let response = Box::pin(whoami::answer(upstream, request, hop)).await?;
        return Ok(Forwarded {
            response,
            server: upstream.name.clone(),
            upgrade: None,
        });
    }
    if request.method() == Method::CONNECT {
        // To hyper a tunnel. No route can name it; here nothing depends on that.
        return Err(Refusal::MethodUnsupported);
    }
    let lanes = pool.lanes(upstream);
    let host = upstream.host.as_ref().unwrap_or(&hop.host);
    let mut unreachable = Vec::new();
    let mut refusal = Refusal::UpstreamDown;
    for _ in 0..TRIES {
        let Some((index, lease)) = lease(&lanes, &unreachable, holder).await? else {
            break;
        };
        let connection = match ready(&lanes, index, lease).await {
            Ok(connection) => connection,
            Err(error) => {
                upstream.leave_out(index, &error, route, &request);
                unreachable.push(index);
                refusal = error.refusal();
                continue;
            }
        };
        let server = &upstream.servers[index];
        let lane = lanes.lane(index);
        head::address(&mut request, host, &hop, server.protocol, !lane.is_reusable())?;
        let exchanged = match connection {
            Connection::Http1(lease) => over_http1(upstream, server, lease, request, &hop).await,
            Connection::Http2(connection, lease) => {
                over_http2(upstream, server, lane, connection, lease, request).await
            }
        };
        match exchanged {
            Ok(forwarded) => return Ok(forwarded),
            Err(Failure {
                unsent: Some(unsent),
                refusal: reason,
            }) => {
                // The app closed the connection or spoke on it. Others that it has may be no better.
                lane.prune();
                request = *unsent;
                refusal = reason;
            }
            Err(failure) => return Err(failure.refusal),
        }
    }
    Err(refusal)
}

/// A place at the server whose turn it is, or at another that has room at once, or the first that becomes free. `None`:
/// no server is left.
async fn lease(
    lanes: &ServerPools,
    unreachable: &[usize],
    holder: &Holder,
) -> Result<Option<(usize, PooledConnection)>, Refusal> {
    let upstream = &lanes.upstream;
    let Some(first) = upstream.choose(&lanes.turn, unreachable) else {
        return Ok(None);
    };
    if let Checkout::Granted(lease) = lanes.lane(first).claim(holder) {
        return Ok(Some((first, lease)));
    }
    let mut full = [unreachable, &[first]].concat();
    while let Some(next) = upstream.choose(&lanes.turn, &full) {
        match lanes.lane(next).claim(holder) {
            Checkout::Granted(lease) => return Ok(Some((next, lease))),
            Checkout::Full => full.push(next),
        }
    }
    match lanes.lane(first).wait(holder, upstream.connect_timeout).await {
        Some(lease) => Ok(Some((first, lease))),
        None => Err(Refusal::UpstreamBusy),
    }
}

/// A connection that takes a request.
#[derive(Debug)]
enum Connection {
    Http1(PooledConnection),
    Http2(Http2, PooledConnection),
}

/// The connection for a lease: the one that came with it, or a new one.
async fn ready(
    lanes: &ServerPools,
    index: usize,
    mut lease: PooledConnection,
) -> Result<Connection, ConnectError> {
    let lane = lanes.lane(index);
    match lanes.upstream.servers[index].protocol {
        Protocol::Http1 if lease.connection().is_some() => Ok(Connection::Http1(lease)),
        Protocol::Http1 => {
            // On the heap: connecting is rare, and every request would carry the room for it.
            let connection = Box::pin(dial_http1(lanes, index, lane)).await?;
            lease.connect(connection);
            Ok(Connection::Http1(lease))
        }
        Protocol::Http2 => match lane.shared() {
            Some(connection) => Ok(Connection::Http2(connection, lease)),
            None => Ok(Connection::Http2(
                Box::pin(dial_http2(lanes, index, lane)).await?,
                lease,
            )),
        },
    }
}

async fn dial_http1(lanes: &ServerPools, index: usize, lane: &ServerPool) -> Result<Http1, ConnectError> {
    let deadline = Instant::now() + lanes.upstream.connect_timeout;
    let link = connect(&lanes.upstream.servers[index], &lane.addresses, deadline).await?;
    lanes.upstream.reached(index);
    Http1::new(link, lane.app.clone())
        .await
        .map_err(ConnectError::Protocol)
}

async fn dial_http2(lanes: &ServerPools, index: usize, lane: &ServerPool) -> Result<Http2, ConnectError> {
    let deadline = Instant::now() + lanes.upstream.connect_timeout;
    let made = tokio::time::timeout_at(deadline, async {
        let _alone = lane.dialling.lock().await;
        if let Some(connection) = lane.shared() {
            return Ok(connection);
        }
        let link = connect(&lanes.upstream.servers[index], &lane.addresses, deadline).await?;
        let connection = Http2::new(link).await.map_err(ConnectError::Protocol)?;
        lane.share(connection.clone());
        lanes.upstream.reached(index);
        Ok(connection)
    });
    made.await.unwrap_or(Err(ConnectError::TimedOut))
}

async fn over_http1(
    upstream: &Upstream,
    server: &Server,
    mut lease: PooledConnection,
    request: Request<RequestBody>,
    hop: &Hop,
) -> Result<Forwarded, Failure> {
    let Some(connection) = lease.connection() else {
        return Err(Refusal::Internal.into());
    };
    let uploaded = request.body().progress();
    let mut response = connection.exchange(request, upstream.response_timeout).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !(hop.websocket && head::switches_to_websocket(response.headers())) {
            return Err(Refusal::UpstreamProtocol.into());
        }
        if let Some(driver) = connection.take_driver() {
            tokio::spawn(driver);
        }
        let upgrade = Upgrade {
            upgraded: hyper::upgrade::on(&mut response),
            slot: lease.into_slot(),
        };
        head::clean(&mut response);
        head::switch(response.headers_mut());
        let response = response.map(|_none| ResponseBody::empty());
        return Ok(Forwarded {
            response,
            server: server.label.clone(),
            upgrade: Some(upgrade),
        });
    }
    head::clean(&mut response);
    let driver = if connection.was_sent_whole() {
        None
    } else {
        connection.take_driver()
    };
    let response = match driver {
        None => response.map(|incoming| ResponseBody::driven(incoming, lease)),
        Some(driver) => {
            let socket = connection.socket();
            let uploading = Uploading {
                task: tokio::spawn(driver),
                socket,
                uploaded,
                _slot: lease.into_slot(),
            };
            response.map(|incoming| ResponseBody::uploading(incoming, uploading))
        }
    };
    Ok(Forwarded {
        response,
        server: server.label.clone(),
        upgrade: None,
    })
}

async fn over_http2(
    upstream: &Upstream,
    server: &Server,
    lane: &ServerPool,
    mut connection: Http2,
    lease: PooledConnection,
    request: Request<RequestBody>,
) -> Result<Forwarded, Failure> {
    let uploaded = request.body().progress();
    let exchanged = connection.exchange(request, upstream.response_timeout).await;
    if exchanged.is_err() && !connection.is_open() {
        lane.unshare();
    }
    let mut response = exchanged?;
    if response.status().is_informational() {
        // HTTP/2 has no 101 (RFC 9113 section 8.6); passed on, it would switch the client's connection.
        return Err(Refusal::UpstreamProtocol.into());
    }
    head::clean(&mut response);
    let slot = lease.into_slot();
    let response = response.map(|incoming| ResponseBody::stream(incoming, slot, uploaded));
    Ok(Forwarded {
        response,
        server: server.label.clone(),
        upgrade: None,
    })
}
