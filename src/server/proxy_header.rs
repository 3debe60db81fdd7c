//! The header of the PROXY protocol at the beginning of a connection from a trusted proxy.
//!
//! Input: a connection that was accepted. Output: the client that it is for; the next byte of the connection is the client's
//! own. Invariant: no byte after the header is read.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::identity_headers::PeerAddress;
use crate::net::proxy_protocol::{Announced, FIXED, Fixed, HeaderFault};

/// How often the log says that a header is missing or wrong.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Reads the header. `None`: the peer closed the connection without sending a byte, as some health checks do.
pub(super) async fn read<I>(io: &mut I) -> Result<Option<Announced>, HeaderFault>
where
    I: AsyncRead + Unpin,
{
    let mut first = [0; FIXED];
    let mut read = 0;
    while read < FIXED {
        match io.read(&mut first[read..]).await {
            Ok(0) | Err(_) if read == 0 => return Ok(None),
            Ok(0) | Err(_) => return Err(HeaderFault::CutOff),
            Ok(more) => read += more,
        }
        // At once: a client of HTTP would wait for an answer.
        Fixed::check_beginning(&first[..read])?;
    }
    let fixed = Fixed::parse(first)?;
    let mut rest = vec![0; fixed.rest()];
    io.read_exact(&mut rest).await.map_err(|_| HeaderFault::CutOff)?;
    fixed.announced(&rest).map(Some)
}

/// Where a connection is from that `proxy` has announced in this way.
pub(super) fn origin(announced: Announced, proxy: PeerAddress) -> PeerAddress {
    match announced {
        Announced::Client(ip) => PeerAddress::Announced { ip, is_known: true },
        // Not the proxy itself: what this client writes into X-Forwarded-For must not be taken for the proxy's word.
        Announced::Unknown => PeerAddress::Announced {
            ip: proxy.ip(),
            is_known: false,
        },
        Announced::Proxy => proxy,
    }
}

/// Says that a connection of `peer` was closed for `fault`; once a minute at most.
pub(super) fn warn(peer: PeerAddress, fault: HeaderFault) {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    {
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some_and(|said| said.elapsed() < SAY_AGAIN) {
            return;
        }
        *said = Some(Instant::now());
    }
    tracing::warn!(
        %peer,
        "connection from a trusted proxy closed: {fault}. With `proxy_protocol = true` in `[server]`, each connection from \
         `trusted_proxies` begins with a header of the PROXY protocol, version 2 (HAProxy: `send-proxy-v2`)"
    );
}
