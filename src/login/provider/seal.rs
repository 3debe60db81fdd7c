//! Encryption of what the state keeps of providers (AES-256-GCM, NIST SP 800-38D).
//!
//! Input: a key from the configuration, or the file beside the state; text and what it belongs to. Output: sealed bytes, and
//! the text again. Invariants: what was sealed for one session opens for no other; what was changed, or sealed by another
//! key, does not open; a key file is made readable by its owner only, and one that others can read is not used.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::config::raw::RawState;
use crate::config::{Problems, load_secret};
use crate::state;

/// The shortest secret that a key is made of, in bytes: 256 bits, however they are written.
const SHORTEST_SECRET: usize = 32;
/// The longest key file, in bytes.
const LONGEST_FILE: u64 = 4096;
const CONTEXT: &str = "passgate 2026-11 encryption of provider tokens";
/// The first byte of what was sealed in this way.
const VERSION: u8 = 1;

/// Where the key is.
#[derive(Clone, Debug)]
pub(crate) enum Sealing {
    /// `[state] encryption_key`
    Key(Arc<SealingKey>),
    /// In a file, which is made where there is none.
    File(PathBuf),
}

impl Sealing {
    pub(crate) fn compile(raw: &RawState, state_url: &str, problems: &mut Problems) -> Self {
        if let Some(secret) = &raw.encryption_key {
            let key = load_secret(secret, problems).and_then(|secret| SealingKey::new(secret.expose()));
            match key {
                Ok(key) => return Self::Key(Arc::new(key)),
                Err(fault) => {
                    problems.error(&secret.span, format!("`encryption_key` cannot be used: {fault}"));
                }
            }
        }
        Self::File(state::key_file(state_url, problems.directory()))
    }

    /// # Errors
    /// As [`SealingKey::load_or_create`].
    pub(crate) fn open(&self) -> Result<Arc<SealingKey>, String> {
        match self {
            Self::Key(key) => Ok(Arc::clone(key)),
            Self::File(path) => SealingKey::load_or_create(path).map(Arc::new),
        }
    }
}

/// A key.
pub(crate) struct SealingKey(RandomizedNonceKey);

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey")
    }
}

impl SealingKey {
    /// # Errors
    /// The secret is too short.
    pub(crate) fn new(secret: &[u8]) -> Result<Self, String> {
        if secret.len() < SHORTEST_SECRET {
            return Err(format!(
                "it has {} bytes, and a key needs at least {SHORTEST_SECRET}: make one with `openssl rand -base64 32`",
                secret.len()
            ));
        }
        let key = Zeroizing::new(blake3::derive_key(CONTEXT, secret));
        RandomizedNonceKey::new(&AES_256_GCM, &key[..])
            .map(Self)
            .map_err(|_| "the key cannot be used".to_owned())
    }

    /// The key in the file at `path`; a new one where there is none.
    ///
    /// # Errors
    /// The file cannot be made or read, others can read it, or its secret is too short.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, String> {
        let failed =
            |action: &str, error: &std::io::Error| format!("cannot {action} `{}`: {error}", path.display());
        let mut random = Zeroizing::new([0; SHORTEST_SECRET]);
        getrandom::fill(&mut random[..]).map_err(|error| format!("no random numbers: {error}"))?;
        let candidate = Zeroizing::new(STANDARD.encode(&random[..]));
        // Whole from the start: of two processes that begin at once, the other one must not read half of it.
        let mark = getrandom::u64().map_err(|error| format!("no random numbers: {error}"))?;
        let draft = path.with_extension(format!("key-{mark:016x}"));
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| {
                writeln!(file, "{}", &*candidate)?;
                file.sync_all()?;
                std::fs::hard_link(&draft, path)
            });
        let _ = std::fs::remove_file(&draft);
        match made {
            Ok(()) => {}
            Err(_) if path.exists() => {}
            Err(error) => return Err(failed("make the key file", &error)),
        }
        let file = File::open(path).map_err(|error| failed("open the key file", &error))?;
        let data = file.metadata().map_err(|error| failed("look at", &error))?;
        if !data.is_file() || data.mode() & 0o077 != 0 {
            return Err(format!(
                "other users can read the key file `{}` (mode {:04o}); run `chmod 600 {}`",
                path.display(),
                data.mode() & 0o7777,
                path.display()
            ));
        }
        let mut secret = Zeroizing::new(Vec::with_capacity(64));
        file.take(LONGEST_FILE)
            .read_to_end(&mut secret)
            .map_err(|error| failed("read the key file", &error))?;
        let end = secret
            .iter()
            .rposition(|byte| !b"\r\n".contains(byte))
            .map_or(0, |last| last + 1);
        Self::new(&secret[..end]).map_err(|fault| format!("the key file `{}`: {fault}", path.display()))
    }

    /// Seals `text` for `owner`, the only one for which it opens.
    ///
    /// # Errors
    /// The library fails.
    pub(super) fn seal(&self, owner: &str, text: &[u8]) -> Result<Vec<u8>, ()> {
        let mut content = Zeroizing::new(text.to_vec());
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(owner), &mut *content)
            .map_err(|_| ())?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + content.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&content);
        Ok(sealed)
    }

    /// What was sealed for `owner`, by this key.
    pub(super) fn open(&self, owner: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let content = sealed.strip_prefix(&[VERSION])?;
        let (nonce, content) = content.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut content = Zeroizing::new(content.to_vec());
        let length = self
            .0
            .open_in_place(nonce, Aad::from(owner), &mut content)
            .ok()?
            .len();
        content.truncate(length);
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_sealed_opens_for_its_owner_by_its_key_alone() {
        let key = SealingKey::new(&[1; 32]).unwrap();
        let sealed = key.seal("s1", b"token").unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"token"));
        assert_eq!(&key.open("s1", &sealed).unwrap()[..], b"token");
        assert_ne!(
            key.seal("s1", b"token").unwrap(),
            sealed,
            "another nonce each time"
        );
        assert!(key.open("s2", &sealed).is_none());
        assert!(SealingKey::new(&[2; 32]).unwrap().open("s1", &sealed).is_none());
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open("s1", &changed).is_none(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(key.open("s1", &sealed[..length]).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(SealingKey::new(&[1; 31]).unwrap_err().contains("openssl rand"));
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passgate.db.key");
        let sealed: Vec<_> = std::thread::scope(|scope| {
            let make = || {
                SealingKey::load_or_create(&path)
                    .unwrap()
                    .seal("s", b"x")
                    .unwrap()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let key = SealingKey::load_or_create(&path).unwrap();
        assert!(sealed.iter().all(|sealed| key.open("s", sealed).is_some()));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = SealingKey::load_or_create(&path).unwrap_err();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short\n").unwrap();
        assert!(SealingKey::load_or_create(&path).is_err());
        let missing = directory.path().join("missing/key");
        assert!(SealingKey::load_or_create(&missing).unwrap_err().contains("make"));
    }
}
