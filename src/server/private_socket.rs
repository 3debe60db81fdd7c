//! A unix socket that only the user of the process can connect to.
//!
//! Input: its path. Output: a listening socket whose file has mode 0600. Invariants: no client can connect before the file has
//! that mode; a file that is no socket stays; only the socket's own file is removed at the end.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::listen::Listener;

/// Connections that wait.
const BACKLOG: i32 = 64;

/// What becomes of another process that listens at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Other {
    /// It stays, and this is an error.
    Stays,
    /// This takes its path; it goes on without one.
    GivesWay,
}

/// The file of the socket.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

/// A socket, its file, and whether another process listened there.
#[derive(Debug)]
pub(crate) struct PrivateSocket {
    pub(crate) listener: Listener,
    pub(crate) file: SocketFile,
    pub(crate) replaced: bool,
}

/// Opens the socket at `path`. The file of a process that has ended is replaced.
///
/// # Errors
/// What the system said, with the path; a file there that is no socket; `AddrInUse` where another process [`Other::Stays`].
pub(crate) fn open(path: &Path, other: Other) -> io::Result<PrivateSocket> {
    let explain = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot listen on unix:{}: {error}", path.display()),
        )
    };
    let mut replaced = false;
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            replaced = UnixStream::connect(path).is_ok();
            if replaced && other == Other::Stays {
                let text = "another process listens there";
                return Err(explain(io::Error::new(io::ErrorKind::AddrInUse, text)));
            }
        }
        Ok(_) => {
            let text = "there is a file, and it is no socket";
            return Err(explain(io::Error::new(io::ErrorKind::AlreadyExists, text)));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(explain(error)),
    }
    // Under another name, which is then moved: at every moment there is a socket at the path, or none.
    let made = path.with_file_name(format!(".{}.sock", std::process::id()));
    let opened = bind(&made).and_then(|socket| {
        let found = std::fs::symlink_metadata(&made)?;
        std::fs::rename(&made, path)?;
        Ok((socket, (found.dev(), found.ino())))
    });
    let (socket, inode) = opened
        .inspect_err(|_| drop(std::fs::remove_file(&made)))
        .map_err(explain)?;
    let path = path.to_owned();
    Ok(PrivateSocket {
        listener: Listener::Unix(socket.into(), Some(path.clone())),
        file: SocketFile { path, inode },
        replaced,
    })
}

fn bind(path: &Path) -> io::Result<Socket> {
    let _ = std::fs::remove_file(path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    // Until here the system refuses every client.
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl SocketFile {
    /// Removes the file, unless another process has taken the path.
    pub(crate) fn remove(&self) {
        let found = std::fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn file_is_for_its_owner_and_is_removed_by_its_own_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = open(&path, Other::Stays).unwrap();
        assert!(!first.replaced);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(
            open(&path, Other::Stays).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );

        let second = open(&path, Other::GivesWay).unwrap();
        assert!(second.replaced);
        first.file.remove();
        assert!(path.exists(), "the path belongs to the second process");
        drop(second.listener);
        // Left behind by a process that was killed.
        let third = open(&path, Other::Stays).unwrap();
        assert!(!third.replaced);
        third.file.remove();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn file_that_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        std::fs::write(&path, "kept").unwrap();
        assert!(open(&path, Other::GivesWay).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"kept");
        assert!(open(&directory.path().join("missing/s"), Other::GivesWay).is_err());
    }
}
