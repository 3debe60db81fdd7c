//! Listening sockets: opened once by the main thread, then shared by all workers.
//!
//! Input: addresses of the configuration. Output: bound sockets that listen, and their real addresses (port 0 becomes a real
//! port). All workers accept from the same socket, so that an idle worker takes the next connection, and a second process on
//! the same port is an error instead of a silent half of the traffic.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps for us until a worker takes them.
const BACKLOG: i32 = 1024;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// A unix socket at an absolute path, or one relative to the working directory.
    Unix(PathBuf),
    /// Sockets that systemd handed over (`LISTEN_FDS`): those of this name, or all.
    Systemd(Option<Box<str>>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(None) => f.write_str("systemd"),
            Self::Systemd(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Listener {
    /// TCP, non-blocking.
    Tcp(std::net::TcpListener),
    /// A unix stream socket, non-blocking. The path is removed when the process ends, where we made it.
    Unix(std::os::unix::net::UnixListener, Option<PathBuf>),
}

impl Listener {
    /// The address as it came out.
    #[must_use]
    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(Address::Systemd(None), Address::Tcp),
            Self::Unix(listener, made) => Address::Unix(
                made.clone()
                    .or_else(|| listener.local_addr().ok()?.as_pathname().map(Path::to_owned))
                    .unwrap_or_default(),
            ),
        }
    }

    /// The socket file that we made, which is removed at the end.
    #[must_use]
    pub(crate) fn made(&self) -> Option<PathBuf> {
        match self {
            Self::Unix(_, made) => made.clone(),
            Self::Tcp(_) => None,
        }
    }

    /// A second handle on the same socket, for another worker.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub(crate) fn share(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener, _) => listener.try_clone().map(|listener| Self::Unix(listener, None)),
        }
    }
}

/// Opens the sockets of `address`.
///
/// # Errors
/// What the system said, with the address and what to do in the text.
pub(crate) fn open(address: &Address) -> io::Result<Vec<Listener>> {
    match address {
        Address::Tcp(address) => open_tcp(*address).map(|listener| vec![listener]),
        Address::Unix(path) => open_unix(path).map(|listener| vec![listener]),
        Address::Systemd(name) => handed(name.as_deref()),
    }
}

fn open_tcp(address: SocketAddr) -> io::Result<Listener> {
    let explain = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; another process listens there (`ss -ltnp` shows which)",
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need CAP_NET_BIND_SERVICE or socket activation (`listen = \"systemd\"`)"
            }
            io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
    };
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).map_err(explain)?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(explain)?; // `[::]` and `0.0.0.0` may then both be listed
    }
    socket.set_reuse_address(true).map_err(explain)?; // connections of the last run may still be in TIME_WAIT
    socket.bind(&address.into()).map_err(explain)?;
    socket.listen(BACKLOG).map_err(explain)?;
    socket.set_nonblocking(true).map_err(explain)?;
    Ok(Listener::Tcp(socket.into()))
}

fn open_unix(path: &Path) -> io::Result<Listener> {
    let explain = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot listen on unix:{}: {error}", path.display()),
        )
    };
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            // A socket file left behind by a killed process: no process accepts on it.
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(explain(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another process listens there",
                )));
            }
            std::fs::remove_file(path).map_err(explain)?;
        }
        Ok(_) => {
            return Err(explain(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file, and it is no socket",
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(explain(error)),
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(explain)?;
    // The permissions of the directory decide which users may connect; a proxy in front usually runs as another user of the group.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(explain)?;
    listener.set_nonblocking(true).map_err(explain)?;
    Ok(Listener::Unix(listener, Some(path.to_owned())))
}

/// The sockets that systemd handed over, with their names. They are taken once: later the same numbers may be other files. They
/// stay open, so that a reload can leave one out and take it again.
static HANDED: LazyLock<Vec<(Box<str>, Listener)>> = LazyLock::new(|| {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..handed.len() {
        let name = names.next().unwrap_or_default();
        let listener = if let Ok(Some(listener)) = handed.take_tcp_listener(index) {
            listener.set_nonblocking(true).map(|()| Listener::Tcp(listener))
        } else if let Ok(Some(listener)) = handed.take_unix_listener(index) {
            listener
                .set_nonblocking(true)
                .map(|()| Listener::Unix(listener, None))
        } else {
            continue;
        };
        listeners.extend(listener.ok().map(|listener| (name.into(), listener)));
    }
    listeners
});

fn handed(name: Option<&str>) -> io::Result<Vec<Listener>> {
    let is_meant = |(its, _): &&(Box<str>, Listener)| name.is_none_or(|name| **its == *name);
    let meant = HANDED.iter().filter(is_meant);
    let listeners: Vec<Listener> = meant
        .map(|(_, listener)| listener.share())
        .collect::<io::Result<_>>()?;
    if !listeners.is_empty() {
        return Ok(listeners);
    }
    let known: Vec<String> = HANDED.iter().map(|(name, _)| format!("`{name}`")).collect();
    let text = match name {
        Some(name) if !known.is_empty() => format!(
            "`listen = \"systemd:{name}\"`, but the stream sockets that systemd handed over are called {}; the name is that of the \
             socket's unit, or its `FileDescriptorName=`",
            known.join(", ")
        ),
        _ => "`listen = \"systemd\"`, but systemd handed no stream socket over; is `passgate.socket` enabled and started?".to_owned(),
    };
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_port_in_use_is_an_error_that_names_it() {
        let first = open(&Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let Address::Tcp(taken) = first[0].address() else {
            panic!("a TCP address")
        };
        let error = open(&Address::Tcp(taken)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&taken.to_string()), "{error}");
    }

    #[test]
    fn a_socket_file_that_nobody_answers_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("s"));
        drop(open(&address).unwrap());
        let live = open(&address).unwrap();
        assert_eq!(open(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(live);
        let file = directory.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        assert_eq!(
            open(&Address::Unix(file.clone())).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read(file).unwrap(), b"kept");
    }
}
