//! The app's side of the gateway: a request goes out, its response comes back, both as streams.
//!
//! Input: an allowed request (the [`Permit`] proves it) whose fields are final except for those that concern one connection.
//! Output: the app's response without the app's hop-by-hop fields, or the [`Refusal`] that says why there is none.
//!
//! Invariants: a request that an app may have processed is sent a second time only where its method is idempotent
//! (RFC 9110 section 9.2.2), it has no body, and the connection ended before a byte of the answer; never a third time. The
//! bytes of one client never get into the exchange of another; no wait, queue or buffer is without a bound.

mod affinity;
mod balance;
mod body;
mod config;
mod connect;
mod draw;
mod ejection;
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
use std::sync::atomic::Ordering;

use http::{Method, Request, Response, StatusCode};
use tokio::time::Instant;

pub(crate) use affinity::{Affinity, COOKIE_PREFIX, client_hash, subject_hash};
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
use balance::Chosen;
use connect::{ConnectError, Purpose, connect};
use ejection::Failure;
use http1::{ExchangeError, Fate, Http1};
use http2::Http2;
use pool::{Checkout, PooledConnection, ServerPool, UpstreamPool};
use response::Uploading;
use server::{Protocol, Server, Speaks};

/// How often a server is looked for, for one request.
const ATTEMPTS: usize = 6;
/// How often a request is given to a connection.
const SENDS: usize = 3;

/// What came back from an app.
#[derive(Debug)]
pub(crate) struct Forwarded {
    /// The response, ready for the client.
    pub response: Response<ResponseBody>,
    /// The server that answered, for the log.
    pub server: Arc<str>,
    /// With status 101, the app's side of the connection for [`tunnel`]; else `None`.
    pub upgrade: Option<Upgrade>,
    /// What the cookie of the upstream is to say from now on.
    pub server_cookie: Option<String>,
}

/// Sends `outgoing` to `upstream` and returns as soon as the head of the response is there.
///
/// `holder` is the client, as the limits on connections to apps count it, and `affinity` the server that it is kept to. `route` is how log lines name the route.
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
    affinity: Affinity,
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
                server_cookie: None,
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
    let has_body = request.body().progress().is_some();
    // A handshake opens something at the app: it is for the client to make another one.
    let mut may_repeat = !has_body && request.method().is_idempotent() && !hop.websocket;
    let mut tried = Tried::default();
    let (mut dialling, mut since) = (None, None);
    let mut refusal = Refusal::UpstreamDown;
    for _ in 0..ATTEMPTS {
        let Some((chosen, pooled)) = checkout(&pools, affinity, &tried, holder).await? else {
            break;
        };
        let index = chosen.index;
        let purpose = Purpose::request_of(client, hop.websocket);
        let connection = match ready(&pools, &tried, chosen, pooled, &mut dialling, purpose).await {
            Ok(connection) => connection,
            Err(error) => {
                let request_id = request.headers().get("x-request-id");
                upstream.failed(chosen, Failure::Connect, &error, route, request_id);
                tried.unreachable.push(index);
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
        // Over HTTP/2 a request does not come back once it has a stream, and the app may say that it did nothing with it.
        let is_kept = may_repeat || (!has_body && connection.protocol() == Protocol::Http2);
        let kept = is_kept.then(|| head::copy(&request));
        // All of them together have the time of one.
        let since = *since.get_or_insert_with(Instant::now);
        let exchanged = match connection {
            Connection::Http1(pooled) => {
                over_http1(upstream, server, pooled, request, since, hop.websocket).await
            }
            Connection::Http2(connection, pooled) => {
                over_http2(upstream, server, server_pool, connection, pooled, request, since).await
            }
        };
        let failure = match exchanged {
            Ok(mut forwarded) => {
                upstream.answered(chosen);
                forwarded.server_cookie = upstream.new_cookie(affinity, index).map(str::to_owned);
                return Ok(forwarded);
            }
            Err(failure) => failure,
        };
        refusal = failure.refusal;
        if failure.fate == Fate::Reset {
            let request_id = kept.as_ref().and_then(|kept| kept.headers().get("x-request-id"));
            upstream.failed(chosen, Failure::Reset, &refusal, route, request_id);
        }
        if failure.fate != Fate::Unknown {
            // The app closed the connection or spoke on it. Others that it has may be no better.
            server_pool.prune();
        }
        tried.failed.push(index);
        let again = failure.unsent.map(|unsent| *unsent).or(kept);
        request = match (failure.fate, again) {
            _ if tried.failed.len() == SENDS => return Err(refusal),
            (Fate::Unprocessed, Some(again)) => again,
            (Fate::Reset, Some(again)) if may_repeat => {
                may_repeat = false;
                again
            }
            _ => return Err(refusal),
        };
        server.health.retries.fetch_add(1, Ordering::Relaxed);
    }
    Err(refusal)
}

/// Where a request was sent in vain.
#[derive(Debug, Default)]
struct Tried {
    /// The servers that could not be connected to. They are not tried again.
    unreachable: Vec<usize>,
    /// The servers that took the connection, and not the request. They are tried again where there is no other.
    failed: Vec<usize>,
}

impl Tried {
    fn all(&self) -> Vec<usize> {
        [&*self.unreachable, &*self.failed].concat()
    }
}

/// A place at the server whose turn it is, or at another that has room at once, or the first that becomes free. `None`:
/// no server is left.
async fn checkout(
    pools: &UpstreamPool,
    affinity: Affinity,
    tried: &Tried,
    holder: &Holder,
) -> Result<Option<(Chosen, PooledConnection)>, Refusal> {
    let upstream = &pools.upstream;
    let is_kept = matches!(affinity, Affinity::Cookie(Some(_)) | Affinity::Hash(_));
    // A client that is kept to a server leaves it only where it cannot be connected to.
    let mut left_out = if is_kept {
        tried.unreachable.clone()
    } else {
        tried.all()
    };
    let first = pools.choose(affinity, &left_out).or_else(|| {
        left_out.clone_from(&tried.unreachable);
        pools.choose(affinity, &left_out)
    });
    let Some(first) = first else {
        return Ok(None);
    };
    if let Checkout::Granted(pooled) = pools.server(first.index).checkout(holder) {
        return Ok(Some((first, pooled)));
    }
    left_out.push(first.index);
    let stays = match affinity {
        Affinity::None => false,
        Affinity::Cookie(server) => server == Some(first.index),
        Affinity::Hash(_) => true,
    };
    while !stays && let Some(next) = pools.choose(affinity, &left_out) {
        match pools.server(next.index).checkout(holder) {
            Checkout::Granted(pooled) => return Ok(Some((next, pooled))),
            Checkout::Full => left_out.push(next.index),
        }
    }
    let pooled = pools.server(first.index).wait(holder, upstream.connect_timeout);
    Ok(Some((first, pooled.await?)))
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
/// `dialling` is the time until which one is made, for all servers that are tried: where another one is left, half of the
/// rest is for that one.
async fn ready(
    pools: &UpstreamPool,
    tried: &Tried,
    chosen: Chosen,
    mut pooled: PooledConnection,
    dialling: &mut Option<Instant>,
    purpose: Purpose,
) -> Result<Connection, ConnectError> {
    if pooled.connection().is_some() {
        return Ok(Connection::Http1(pooled));
    }
    let (upstream, index) = (&pools.upstream, chosen.index);
    let server_pool = pools.server(index);
    let may_share = match upstream.servers[index].speaks {
        Speaks::Http1 => false,
        Speaks::Http2 => true,
        Speaks::Either => !purpose.is_http1_only,
    };
    if may_share && let Some(connection) = server_pool.shared() {
        return Ok(Connection::Http2(connection, pooled));
    }
    let now = Instant::now();
    let end = *dialling.get_or_insert_with(|| now + upstream.connect_timeout);
    let deadline = if upstream.has_another(&tried.unreachable, chosen) {
        now + end.saturating_duration_since(now) / 2
    } else {
        end
    };
    // On the heap: connecting is rare, and every request would carry the room for it.
    match Box::pin(dial(pools, index, may_share, purpose, deadline)).await? {
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
    deadline: Instant,
) -> Result<Dialled, ConnectError> {
    let (server, server_pool) = (&pools.upstream.servers[index], pools.server(index));
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
    since: Instant,
    is_websocket: bool,
) -> Result<Forwarded, ExchangeError> {
    let Some(connection) = pooled.connection() else {
        return Err(Refusal::Internal.into());
    };
    let uploaded = request.body().progress();
    let mut response = connection
        .exchange(request, since, upstream.response_timeout)
        .await?;
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
            server_cookie: None,
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
        server_cookie: None,
    })
}

async fn over_http2(
    upstream: &Upstream,
    server: &Server,
    server_pool: &ServerPool,
    mut connection: Http2,
    pooled: PooledConnection,
    request: Request<RequestBody>,
    since: Instant,
) -> Result<Forwarded, ExchangeError> {
    let uploaded = request.body().progress();
    let exchanged = connection
        .exchange(request, since, upstream.response_timeout)
        .await;
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
        server_cookie: None,
    })
}
