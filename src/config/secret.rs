//! Secrets: where one is kept (a file, the environment, a credential of systemd), and its bytes once it was read.
//!
//! What must never happen: that the bytes are printed, or stay in memory after the last use.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::problems::Problems;
use super::raw::{RawSecret, Spanned};

/// The largest secret that is read: 64 KiB.
const MAX_BYTES: usize = 64 * 1024;
/// Bytes of line ends behind the largest secret.
const LINE_ENDS: usize = 64;

/// The bytes of a secret, wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// What stands at an end of the secret, where its writer hardly meant it to: white space, or the mark of an encoding.
    fn oddity(&self) -> Option<&'static str> {
        const MARK: char = '\u{feff}';
        let bytes = self.expose();
        let (first, last) = match std::str::from_utf8(bytes) {
            Ok(text) => (text.chars().next(), text.chars().next_back()),
            Err(_) if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") => (Some(MARK), None),
            // Bytes of a generator: an end of them that looks like a space means nothing.
            Err(_) => (None, None),
        };
        let is_space =
            |char: Option<char>| char.is_some_and(|char| char.is_whitespace() || char == '\u{200b}');
        match (first, last) {
            (Some(MARK), _) => Some("begins with a byte order mark"),
            (_, Some(MARK)) => Some("ends with a byte order mark"),
            (first, last) if is_space(first) && is_space(last) => Some("begins and ends with white space"),
            (first, _) if is_space(first) => Some("begins with white space"),
            (_, last) if is_space(last) => Some("ends with white space"),
            _ => None,
        }
    }
}

/// Reads a secret of the configuration, and warns of a file that others can read, and of white space that is taken for a
/// part of the secret.
///
/// # Errors
/// As [`RawSecret::load`]; for the caller to report, who knows what it is for.
pub(crate) fn load_secret(secret: &Spanned<RawSecret>, problems: &mut Problems) -> Result<Secret, String> {
    if let Some(exposure) = secret.exposure(problems.directory()) {
        problems
            .warning(&secret.span, exposure)
            .hint("a process that reads it can act as this gateway");
    }
    let loaded = secret.load(problems.directory())?;
    if let Some(oddity) = loaded.oddity() {
        problems
            .warning(
                &secret.span,
                format!("the secret {oddity}, which counts as a part of it"),
            )
            .hint(
                "write it anew without, for example with `printf %s`; only line ends at its end do not count",
            );
    }
    Ok(loaded)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl RawSecret {
    /// Reads the secret; a relative `file` starts from `directory`. This opens files: never call it on a worker.
    ///
    /// # Errors
    /// What is missing or unsafe, and what to do; never a byte of the secret.
    pub fn load(&self, directory: &Path) -> Result<Secret, String> {
        match self {
            Self::File(path) => {
                let path = directory.join(path);
                let bytes = read(&path, Access::File)?;
                finish(bytes, &format!("file `{}`", path.display()))
            }
            Self::Env(name) => {
                let value = std::env::var_os(name)
                    .ok_or_else(|| format!("environment variable `{name}` is not set"))?;
                let bytes = Zeroizing::new(value.into_vec());
                finish(bytes, &format!("environment variable `{name}`"))
            }
            Self::Credential(name) => {
                let held = std::env::var_os("CREDENTIALS_DIRECTORY");
                credential(name, held.as_deref().map(Path::new))
            }
        }
    }

    /// What to warn about: a file that others can read. It is used all the same, because containers mount secrets so.
    #[must_use]
    pub fn exposure(&self, directory: &Path) -> Option<String> {
        let Self::File(path) = self else { return None };
        let path = directory.join(path);
        let mode = std::fs::metadata(&path).ok()?.permissions().mode();
        let shown = path.display();
        (mode & 0o077 != 0).then(|| {
            format!(
                "`{shown}` can be read by others (mode {:03o}); run `chmod 600 {shown}`",
                mode & 0o777
            )
        })
    }
}

/// Where systemd has put a credential; `None` where it has put none.
pub(super) fn credential_path(name: &str) -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name))
}

/// A credential that systemd has put into `held` (systemd.exec(5), `LoadCredential=`).
fn credential(name: &str, held: Option<&Path>) -> Result<Secret, String> {
    let held = held.ok_or_else(|| {
        format!("`$CREDENTIALS_DIRECTORY` is not set; add `LoadCredential={name}:/path` to the service")
    })?;
    if name.contains('/') || matches!(name, "" | "." | "..") {
        return Err("a credential is a file name without `/`".to_owned());
    }
    // systemd lets the service's user in by an access list, which shows as group bits: they say nothing here.
    let bytes = read(&held.join(name), Access::Credential)
        .map_err(|reason| format!("{reason}; is `LoadCredential={name}:/path` in the service?"))?;
    finish(bytes, &format!("credential `{name}`"))
}

/// Whose permissions count.
#[derive(PartialEq)]
enum Access {
    File,
    Credential,
}

fn read(path: &Path, access: Access) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    // Asked before it is opened: opening a FIFO would wait for its writer for ever.
    let unreadable = |error: std::io::Error| format!("cannot read `{shown}`: {error}");
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(format!("`{shown}` is not a file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if access == Access::File && mode & 0o002 != 0 {
        return Err(format!(
            "`{shown}` is writable by every user (mode {:03o}), so any of them can set the secret; create a new one and run \
             `chmod 600 {shown}`",
            mode & 0o777
        ));
    }
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + LINE_ENDS + 64));
    let limit = u64::try_from(MAX_BYTES + LINE_ENDS + 1).expect("64 KiB fit into 64 bits");
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Line ends behind a secret were put there by an editor or by `echo`, on whatever system, and are no part of it.
fn finish(mut bytes: Zeroizing<Vec<u8>>, what: &str) -> Result<Secret, String> {
    if bytes.len() > MAX_BYTES + LINE_ENDS {
        return Err(format!("{what} is larger than 64 KiB"));
    }
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    match bytes.len() {
        0 => Err(format!("{what} is empty")),
        length if length > MAX_BYTES => Err(format!("{what} is larger than 64 KiB")),
        _ => Ok(Secret(bytes)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(directory: &Path, name: &str, bytes: &[u8], mode: u32) {
        let path = directory.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn file(name: &str) -> RawSecret {
        RawSecret::File(name.into())
    }

    #[test]
    fn a_file_loses_the_line_ends_behind_it_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        for (bytes, secret) in [
            (&b"key"[..], &b"key"[..]),
            (b"key\n", b"key"),
            (b"key\r\n", b"key"),
            (b"key\r\n\r\n", b"key"),
            (b"key\n\n\n", b"key"),
            (b"key\r", b"key"),
            (b" key \n\n", b" key "),
            (b"\nkey\n", b"\nkey"),
            (b"one\ntwo\n", b"one\ntwo"),
            (b"\xef\xbb\xbfkey\n", b"\xef\xbb\xbfkey"),
            (b"\0", b"\0"),
        ] {
            write(home.path(), "s", bytes, 0o600);
            assert_eq!(file("s").load(home.path()).unwrap().expose(), secret);
        }
    }

    #[test]
    fn white_space_that_is_taken_for_a_part_of_a_secret_is_warned_of() {
        let home = tempfile::tempdir().unwrap();
        for (bytes, warning) in [
            (&b"key\r\n\n"[..], None),
            (b"one two", None),
            (b"key \n", Some("ends with white space")),
            (b"key\t", Some("ends with white space")),
            (b"key\xc2\xa0\n", Some("ends with white space")),
            (b"key\xe2\x80\x8b\n", Some("ends with white space")),
            (b" key", Some("begins with white space")),
            (b"\nkey", Some("begins with white space")),
            (b" key ", Some("begins and ends with white space")),
            (b"\xef\xbb\xbfkey\n", Some("begins with a byte order mark")),
            (b"key\xef\xbb\xbf\n", Some("ends with a byte order mark")),
            (b"\xff\xfek\0e\0y\0", Some("begins with a byte order mark")),
            (b" \xff\xf0\x80 ", None),
        ] {
            write(home.path(), "s", bytes, 0o600);
            let mut problems = Problems::new(&home.path().join("gateway.toml"), "\n");
            let secret = Spanned::new(file("s"), 0..1);
            assert!(load_secret(&secret, &mut problems).is_ok());
            let found: Vec<_> = problems
                .warnings()
                .iter()
                .map(|problem| problem.message.clone())
                .collect();
            let expected =
                warning.map(|warning| format!("the secret {warning}, which counts as a part of it"));
            assert_eq!(found, Vec::from_iter(expected), "{bytes:?}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_warned_about_and_one_that_everybody_can_write_is_refused() {
        let home = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o640, 0o604] {
            write(home.path(), "s", b"key", mode);
            let warning = file("s").exposure(home.path()).unwrap();
            assert!(
                warning.contains("chmod 600") && !warning.contains("key`"),
                "{warning}"
            );
            assert!(file("s").load(home.path()).is_ok());
        }
        write(home.path(), "s", b"key", 0o400);
        assert_eq!(file("s").exposure(home.path()), None);
        assert!(file("s").load(home.path()).is_ok());
        write(home.path(), "s", b"key", 0o606);
        assert!(file("s").load(home.path()).unwrap_err().contains("chmod 600"));
    }

    #[test]
    fn empty_huge_missing_and_special_files_are_refused() {
        let home = tempfile::tempdir().unwrap();
        write(home.path(), "empty", b"\n", 0o600);
        write(home.path(), "full", &vec![b'x'; MAX_BYTES], 0o600);
        write(home.path(), "huge", &vec![b'x'; MAX_BYTES + 1], 0o600);
        assert!(file("empty").load(home.path()).unwrap_err().contains("is empty"));
        assert!(file("full").load(home.path()).is_ok());
        assert!(file("huge").load(home.path()).unwrap_err().contains("64 KiB"));
        assert!(file("gone").load(home.path()).is_err());
        assert!(file(".").load(home.path()).unwrap_err().contains("is not a file"));
    }

    #[test]
    fn the_environment_and_systemd_are_asked_by_name() {
        let held = tempfile::tempdir().unwrap();
        write(held.path(), "hmac", b"key\n", 0o440);
        assert_eq!(credential("hmac", Some(held.path())).unwrap().expose(), b"key");
        assert!(
            credential("hmac", None)
                .unwrap_err()
                .contains("LoadCredential=hmac:")
        );
        assert!(credential("../hmac", Some(held.path())).is_err());
        assert!(
            credential("gone", Some(held.path()))
                .unwrap_err()
                .contains("LoadCredential=gone:")
        );
        // PATH is the one variable that every test process has.
        assert!(
            !RawSecret::Env("PATH".to_owned())
                .load(held.path())
                .unwrap()
                .expose()
                .is_empty()
        );
        let gone = RawSecret::Env("PASSGATE_NO_SUCH_VARIABLE".to_owned());
        assert_eq!(
            gone.load(held.path()).unwrap_err(),
            "environment variable `PASSGATE_NO_SUCH_VARIABLE` is not set"
        );
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        assert_eq!(
            format!("{:?}", Secret(Zeroizing::new(b"key".to_vec()))),
            "Secret(…)"
        );
    }
}
