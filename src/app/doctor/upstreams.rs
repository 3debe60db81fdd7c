//! Upstreams: whether the gateway reaches them, and whether others do without it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::{Checks, DoctorRequest, Finding};
use crate::app::config::Plan;
use crate::clock::Clock;
use crate::forward::{Address, Probed, probe};

/// The longest wait for a connection that should not come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

pub(super) fn add(checks: &mut Checks, plan: &Plan, request: &DoctorRequest) {
    for upstream in &plan.upstreams {
        for number in 0..upstream.addresses().count() {
            let upstream = Arc::clone(upstream);
            checks.add("upstream", format!("upstream `{}`", upstream.name), async move {
                let probed = probe(&upstream, number).await;
                probed
                    .map(|probed| judge(&upstream.name, &probed))
                    .into_iter()
                    .collect()
            });
        }
    }
    let from = request.from;
    for address in &request.around {
        let address = address.clone();
        checks.add("around", format!("`{address}`"), async move {
            vec![named(&address, from).await]
        });
    }
    if request.around.is_empty() {
        for upstream in &plan.upstreams {
            for address in upstream.addresses() {
                let (name, address) = (Arc::clone(&upstream.name), address.clone());
                checks.add("around", format!("upstream `{name}`"), async move {
                    around(&name, &address, from).await.into_iter().collect()
                });
            }
        }
    }
}

fn judge(name: &str, probed: &Probed) -> Finding {
    const CHECK: &str = "upstream";
    let server = &probed.server;
    let now = Clock::system().now();
    match &probed.outcome {
        Err(fault) => Finding::problem(
            CHECK,
            format!("upstream `{name}`: `{server}` cannot be reached: {fault}"),
            "start the app, or correct `servers`; requests of its routes are answered with an error",
        ),
        Ok(Some(validity)) if validity.ends_soon(now) => Finding::warning(
            CHECK,
            format!(
                "upstream `{name}`: the certificate of `{server}` {}",
                validity.expiry(now)
            ),
            "renew it at the app",
        ),
        Ok(Some(validity)) => Finding::ok(
            CHECK,
            format!(
                "upstream `{name}`: `{server}` answers; its certificate {}",
                validity.expiry(now)
            ),
        ),
        Ok(None) => Finding::ok(CHECK, format!("upstream `{name}`: `{server}` answers")),
    }
}

/// An address of the command line: no connection may come about.
async fn named(address: &str, from: Option<IpAddr>) -> Finding {
    const CHECK: &str = "around";
    let found = match tokio::net::lookup_host(address).await {
        Ok(found) => found,
        Err(error) => {
            return Finding::problem(
                CHECK,
                format!("`{address}` cannot be tried: {error}"),
                "write a host and a port: `--around 192.0.2.1:3000`",
            );
        }
    };
    for address in found {
        match connect(address, from).await {
            Outcome::Connected => {
                return Finding::problem(
                    CHECK,
                    format!(
                        "`{address}` accepts connections from here, around the gateway{}",
                        by(from)
                    ),
                    "let the app listen on a loopback address or a unix socket, or let a firewall admit the gateway alone",
                );
            }
            Outcome::NotTried(reason) => return not_tried(&address.to_string(), &reason),
            Outcome::Refused => {}
        }
    }
    Finding::ok(
        CHECK,
        format!("`{address}` accepts no connection from here{}", by(from)),
    )
}

fn by(from: Option<IpAddr>) -> String {
    from.map_or_else(String::new, |from| format!(" (from `{from}`)"))
}

fn not_tried(address: &str, reason: &str) -> Finding {
    Finding::unknown(
        "around",
        format!("whether `{address}` can be reached around the gateway cannot be told: {reason}"),
        "`--from` names an address of this machine of the same family",
    )
}

/// A server of an upstream: on a loopback address, whether it listens on others as well; else whether it can be reached.
async fn around(name: &str, address: &Address, from: Option<IpAddr>) -> Option<Finding> {
    const CHECK: &str = "around";
    let addresses: Vec<SocketAddr> = match address {
        Address::Unix(_) => return None,
        Address::Ip(address) => vec![*address],
        // A name that has no address is a problem of the upstream.
        Address::Name { host, port } => tokio::net::lookup_host((&**host, *port)).await.ok()?.collect(),
    };
    let port = addresses.first()?.port();
    if addresses.iter().all(|address| address.ip().is_loopback()) {
        let elsewhere = SocketAddr::new(own_address()?, port);
        return Some(match connect(elsewhere, from).await {
            Outcome::Connected => Finding::warning(
                CHECK,
                format!(
                    "upstream `{name}`: the app also listens on `{elsewhere}`, where it can be reached around the gateway"
                ),
                "let it listen on 127.0.0.1 alone, or on a unix socket",
            ),
            Outcome::Refused => Finding::ok(
                CHECK,
                format!("upstream `{name}`: nothing listens on `{elsewhere}`"),
            ),
            Outcome::NotTried(reason) => not_tried(&elsewhere.to_string(), &reason),
        });
    }
    let address = addresses
        .into_iter()
        .find(|address| !address.ip().is_loopback())?;
    Some(match connect(address, from).await {
        Outcome::Connected => Finding::warning(
            CHECK,
            format!(
                "upstream `{name}`: `{address}` accepts connections that do not come through the gateway{}",
                by(from)
            ),
            format!(
                "let a firewall admit the gateway alone; `passgate doctor --around {address}` on a machine of the clients' network tries it"
            ),
        ),
        Outcome::Refused => Finding::ok(
            CHECK,
            format!("upstream `{name}`: `{address}` accepts no connection{}", by(from)),
        ),
        Outcome::NotTried(reason) => not_tried(&address.to_string(), &reason),
    })
}

enum Outcome {
    Connected,
    /// Or no answer.
    Refused,
    NotTried(String),
}

async fn connect(address: SocketAddr, from: Option<IpAddr>) -> Outcome {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let bound = socket.and_then(|socket| {
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        Ok(socket)
    });
    let socket = match (bound, from) {
        (Ok(socket), _) => socket,
        (Err(error), Some(from)) => {
            return Outcome::NotTried(format!("no connection can be made from `{from}`: {error}"));
        }
        (Err(error), None) => return Outcome::NotTried(error.to_string()),
    };
    match timeout(CONNECT_LIMIT, socket.connect(address)).await {
        Ok(Ok(_)) => Outcome::Connected,
        Ok(Err(_)) | Err(_) => Outcome::Refused,
    }
}

/// The address of this machine towards the Internet, where it has one; nothing is sent. The destination is one of
/// documentation (RFC 5737).
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
