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
mod name_watch;
mod names;
mod pool;
mod probe;
mod response;
mod server;
mod server_states;
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

pub(crate) use body::{BodyRules, Progress, RequestBody, is_grpc};
pub(crate) use head::Outgoing;
pub(crate) use health_check::watch_health;
pub(crate) use name_watch::watch_names;
pub use pool::Pool;
pub(crate) use probe::{Probed, probe};
pub(crate) use response::ResponseBody;
pub(crate) use server::Address;
pub(crate) use server_states::ServerState;
pub(crate) use upstream::Upstream;
pub(crate) use websocket::{Upgrade, tunnel};

use crate::authorize::Permit;
use crate::http::client::Holder;
use crate::refusal::Refusal;
use crate::values::Builtin;
use connect::{ConnectError, Purpose, connect};
use http1::{ExchangeError, Http1};
use http2::Http2;
use pool::{Checkout, PooledConnection, ServerPool, UpstreamPool};
use response::Uploading;
use server::{Protocol, Server, Speaks};

/// How often a request is tried in all, where it is certain that the tries before did not reach an app.
const TRIES: usize = 3;

/// What came back from an app.
#[derive(Debug)]
pub(crate) struct Forwarded {
    /// The response, ready for the client.
    pub response: Response<ResponseBody>,
    /// The server that answered, for the log.
    pub server: Arc<str>,
    /// With status 101, the app's side of the connection for [`tunnel`]; else `None`.
    pub upgrade: Option<Upgrade>,
}

/// Sends `outgoing` to `upstream` and returns as soon as the head of the response is there.
///
/// `holder` is the client, as the limits on connections to apps count it. `route` is how log lines name the route.
///
/// Dropping the future, or the response's body before its end, cancels the exchange with the app.
///
/// # Errors
/// 502, 503 and 504 as the app fails, and what is wrong with the client's body, as long as the app has not answered.
pub(crate) async fn forward(
    _permit: &Permit,
    upstream: &Arc<Upstream>,
    pool: &Pool,
    holder: &Holder,
    route: &str,
    outgoing: Outgoing,
) -> Result<Forwarded, Refusal> {
    match upstream.builtin {
        Some(Builtin::Whoami) => {
            let response = Box::pin(whoami::answer(upstream, outgoing)).await?;
            return Ok(Forwarded {
                response,
                server: upstream.name.clone(),
                upgrade: None,
            });
        }
        Some(Builtin::ForwardAuth) => return Err(Refusal::RouteMissing),
        None => {}
    }
    let Outgoing {
        mut request,
        host,
        hop,
        client,
    } = outgoing;
    if request.method() == Method::CONNECT {
        // To hyper a tunnel. No route can name it; here nothing depends on that.
        return Err(Refusal::MethodUnsupported);
    }
    let pools = pool.upstream(upstream);
    let host = upstream.host.as_ref().unwrap_or(&host);
    let mut unreachable = Vec::new();
    let mut refusal = Refusal::UpstreamDown;
    for _ in 0..TRIES {
        let Some((index, pooled)) = checkout(&pools, &unreachable, holder).await? else {
            break;
        };
        let purpose = Purpose::request_of(client, hop.websocket);
        let connection = match ready(&pools, index, pooled, purpose).await {
            Ok(connection) => connection,
            Err(error) => {
                upstream.leave_out(index, &error, route, &request);
                unreachable.push(index);
                refusal = error.refusal();
                continue;
            }
        };
        let server = &upstream.servers[index];
        let server_pool = pools.server(index);
        head::address(
            &mut request,
            host,
            hop,
            (server, connection.protocol()),
            !server_pool.is_reusable(),
        )?;
        let exchanged = match connection {
            Connection::Http1(pooled) => over_http1(upstream, server, pooled, request, hop.websocket).await,
            Connection::Http2(connection, pooled) => {
                over_http2(upstream, server, server_pool, connection, pooled, request).await
            }
        };
        match exchanged {
            Ok(forwarded) => return Ok(forwarded),
            Err(ExchangeError {
                unsent: Some(unsent),
                refusal: reason,
            }) => {
                // The app closed the connection or spoke on it. Others that it has may be no better.
                server_pool.prune();
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
async fn checkout(
    pools: &UpstreamPool,
    unreachable: &[usize],
    holder: &Holder,
) -> Result<Option<(usize, PooledConnection)>, Refusal> {
    let upstream = &pools.upstream;
    let Some(first) = upstream.choose(&pools.round_robin, unreachable) else {
        return Ok(None);
    };
    if let Checkout::Granted(pooled) = pools.server(first).checkout(holder) {
        return Ok(Some((first, pooled)));
    }
    let mut full = [unreachable, &[first]].concat();
    while let Some(next) = upstream.choose(&pools.round_robin, &full) {
        match pools.server(next).checkout(holder) {
            Checkout::Granted(pooled) => return Ok(Some((next, pooled))),
            Checkout::Full => full.push(next),
        }
    }
    match pools.server(first).wait(holder, upstream.connect_timeout).await {
        Some(pooled) => Ok(Some((first, pooled))),
        None => Err(Refusal::UpstreamBusy),
    }
}

/// A connection that takes a request.
#[derive(Debug)]
enum Connection {
    Http1(PooledConnection),
    Http2(Http2, PooledConnection),
}

impl Connection {
    fn protocol(&self) -> Protocol {
        match self {
            Self::Http1(_) => Protocol::Http1,
            Self::Http2(..) => Protocol::Http2,
        }
    }
}

/// The connection of `pooled`: the one that came with it, the one that all requests share, or a new one.
async fn ready(
    pools: &UpstreamPool,
    index: usize,
    mut pooled: PooledConnection,
    purpose: Purpose,
) -> Result<Connection, ConnectError> {
    if pooled.connection().is_some() {
        return Ok(Connection::Http1(pooled));
    }
    let server_pool = pools.server(index);
    let may_share = match pools.upstream.servers[index].speaks {
        Speaks::Http1 => false,
        Speaks::Http2 => true,
        Speaks::Either => !purpose.is_http1_only,
    };
    if may_share && let Some(connection) = server_pool.shared() {
        return Ok(Connection::Http2(connection, pooled));
    }
    // On the heap: connecting is rare, and every request would carry the room for it.
    match Box::pin(dial(pools, index, may_share, purpose)).await? {
        Dialled::Http1(connection) => {
            pooled.connect(connection);
            Ok(Connection::Http1(pooled))
        }
        Dialled::Http2(connection) => Ok(Connection::Http2(connection, pooled)),
    }
}

/// A connection that was made, or that another request has made meanwhile.
enum Dialled {
    Http1(Http1),
    Http2(Http2),
}

async fn dial(
    pools: &UpstreamPool,
    index: usize,
    may_share: bool,
    purpose: Purpose,
) -> Result<Dialled, ConnectError> {
    let (server, server_pool) = (&pools.upstream.servers[index], pools.server(index));
    let deadline = Instant::now() + pools.upstream.connect_timeout;
    let made = tokio::time::timeout_at(deadline, async {
        // One connection is for all requests that wait, unless the server is known to have chosen HTTP/1.1.
        let mut alone = None;
        if may_share && !server_pool.chose_http1() {
            alone = Some(server_pool.dialling.lock().await);
            if let Some(connection) = server_pool.shared() {
                return Ok(Dialled::Http2(connection));
            }
        }
        if server_pool.chose_http1() {
            alone = None;
        }
        let link = connect(server, purpose, deadline).await?;
        pools.upstream.reached(index);
        let protocol = link.protocol(server.speaks);
        if server.speaks == Speaks::Either && may_share {
            server_pool.note_choice(protocol);
        }
        let made = match protocol {
            Protocol::Http1 => {
                drop(alone);
                let connection = Http1::new(link, server_pool.app.clone()).await;
                connection.map(Dialled::Http1)
            }
            Protocol::Http2 => {
                let connection = Http2::new(link).await;
                connection.map(|connection| {
                    server_pool.share(connection.clone());
                    Dialled::Http2(connection)
                })
            }
        };
        made.map_err(ConnectError::Protocol)
    });
    made.await.unwrap_or(Err(ConnectError::TimedOut))
}

async fn over_http1(
    upstream: &Upstream,
    server: &Server,
    mut pooled: PooledConnection,
    request: Request<RequestBody>,
    is_websocket: bool,
) -> Result<Forwarded, ExchangeError> {
    let Some(connection) = pooled.connection() else {
        return Err(Refusal::Internal.into());
    };
    let uploaded = request.body().progress();
    let mut response = connection.exchange(request, upstream.response_timeout).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !(is_websocket && head::switches_to_websocket(response.headers())) {
            return Err(Refusal::UpstreamProtocol.into());
        }
        if let Some(driver) = connection.take_driver() {
            tokio::spawn(driver);
        }
        let upgrade = Upgrade {
            upgraded: hyper::upgrade::on(&mut response),
            permit: pooled.into_permit(),
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
        None => response.map(|incoming| ResponseBody::driven(incoming, pooled)),
        Some(driver) => {
            let socket = connection.socket();
            let uploading = Uploading {
                task: tokio::spawn(driver),
                socket,
                uploaded,
                _permit: pooled.into_permit(),
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
    server_pool: &ServerPool,
    mut connection: Http2,
    pooled: PooledConnection,
    request: Request<RequestBody>,
) -> Result<Forwarded, ExchangeError> {
    let uploaded = request.body().progress();
    let exchanged = connection.exchange(request, upstream.response_timeout).await;
    if exchanged.is_err() && !connection.is_open() {
        server_pool.unshare();
    }
    let mut response = exchanged?;
    if response.status().is_informational() {
        // HTTP/2 has no 101 (RFC 9113 section 8.6); passed on, it would switch the client's connection.
        return Err(Refusal::UpstreamProtocol.into());
    }
    head::clean(&mut response);
    let permit = pooled.into_permit();
    let response = response.map(|incoming| ResponseBody::stream(incoming, permit, uploaded));
    Ok(Forwarded {
        response,
        server: server.label.clone(),
        upgrade: None,
    })
}
