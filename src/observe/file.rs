//! The file of the access log: opened at the start, and again when it was rotated.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens `path` to append to it. A file that does not exist is made for its owner alone (mode 0600).
///
/// # Errors
/// What the system said, naming the file; also where there is something else than a file: a pipe would block the thread that
/// opens it until it has a reader.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let explain = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot write the access log `{}`: {error}", path.display()),
        )
    };
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            return Err(explain(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a file; leave `file` out of `[log]` for standard output, and write `access = false` for no log",
            )));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(explain(error)),
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(explain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_made_for_its_owner_and_one_that_exists_is_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        open(&path).unwrap().write_all(b"a\n").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        open(&path).unwrap().write_all(b"b\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"a\nb\n");
    }

    #[test]
    fn what_is_no_file_is_refused_and_named() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path(), Path::new("/dev/null")] {
            let error = open(path).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{}`", path.display())) && error.contains("is not a file"),
                "{error}"
            );
        }
        assert!(
            open(&directory.path().join("gone/access.log"))
                .unwrap_err()
                .to_string()
                .contains("gone/access.log")
        );
    }
}
