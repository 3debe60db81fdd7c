//! Password hashes: made in one way, verified in several.
//!
//! Input: a password and, to verify, a hash in PHC string format (argon2, RFC 9106) or in modular crypt format (bcrypt).
//! Output: a hash, or whether they match. Invariants: no hash is verified that would take gigabytes or minutes, wherever it
//! comes from; the time of a comparison does not tell how much matched; no error has a hash or a password.

use argon2::{Algorithm, Argon2, AssociatedData, Params, ParamsBuilder, Version};
use base64::alphabet;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::error::{AccountError, HashError};
use super::limits::MAX_PASSWORD_BYTES;

/// All that stands before the salt of a hash of ours: argon2id with 19 MiB, two passes, one lane (OWASP Password Storage
/// Cheat Sheet). Any other hash is replaced when its password is next seen.
pub(super) const OWN: &str = "$argon2id$v=19$m=19456,t=2,p=1$";
/// As in [`OWN`].
const OWN_COST: (u32, u32, u32) = (19_456, 2, 1);
/// Bytes of a salt of ours (RFC 9106 section 3.1).
const SALT: usize = 16;
/// Bytes of a tag of ours.
const TAG: usize = 32;

/// The dearest argon2 that is verified: KiB of memory, passes, lanes.
const MOST_COST: (u32, u32, u32) = (256 * 1024, 16, 16);
/// The most KiB that all passes together go through: every attempt to sign in pays for the dearest hash that is there, so
/// that the time does not tell which accounts exist (`AccountStore::imported_hash`). Common presets stay far below it.
const MOST_WORK: u32 = 4 * 256 * 1024;
/// The dearest bcrypt that is verified: the logarithm of its rounds. 14 takes a second or two.
const MOST_ROUNDS: u32 = 14;
/// The cheapest that there is.
const LEAST_ROUNDS: u32 = 4;
/// No hash that is read here is longer.
const MOST_BYTES: usize = 256;
/// What of a password takes part in bcrypt.
const BCRYPT_BYTES: usize = 72;

/// bcrypt's own alphabet. The last character of salt and tag has bits to spare, and not every writer leaves them zero.
const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::BCRYPT,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// The hash of a new password, with a salt of its own. Computes for tens of milliseconds.
///
/// # Errors
/// [`AccountError::PasswordTooLong`], and [`AccountError::HashingFailed`].
pub fn hash(password: &str) -> Result<String, AccountError> {
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(AccountError::PasswordTooLong);
    }
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(|_| AccountError::HashingFailed)?;
    let mut tag = [0; TAG];
    own_argon2(TAG)
        .and_then(|argon2| argon2.hash_password_into(password.as_bytes(), &salt, &mut tag))
        .map_err(|_| AccountError::HashingFailed)?;
    Ok(format!(
        "{OWN}{}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(tag)
    ))
}

/// Whether passwords can be verified against `text`, without computing anything.
///
/// # Errors
/// Why not.
pub(crate) fn check_hash(text: &str) -> Result<(), HashError> {
    Stored::parse(text).map(|_| ())
}

fn own_argon2(tag: usize) -> argon2::Result<Argon2<'static>> {
    let (memory, passes, lanes) = OWN_COST;
    Ok(Argon2::new(
        Algorithm::Argon2id,
        Version::V0x13,
        Params::new(memory, passes, lanes, Some(tag))?,
    ))
}

/// A hash that can be verified, taken apart.
pub(super) struct Stored {
    how: How,
    tag: Vec<u8>,
    is_own: bool,
}

enum How {
    Argon2 { argon2: Argon2<'static>, salt: Vec<u8> },
    Bcrypt { rounds: u32, salt: [u8; 16] },
}

impl Stored {
    /// A hash of ours that no password has: it costs what one of ours does.
    pub(super) fn of_no_password() -> argon2::Result<Self> {
        Ok(Self {
            how: How::Argon2 {
                argon2: own_argon2(TAG)?,
                salt: vec![0; SALT],
            },
            tag: vec![0; TAG],
            is_own: true,
        })
    }

    pub(super) fn parse(text: &str) -> Result<Self, HashError> {
        if text.len() > MOST_BYTES || !text.is_ascii() {
            return Err(HashError::Unknown);
        }
        let (name, rest) = text
            .strip_prefix('$')
            .and_then(|text| text.split_once('$'))
            .ok_or(HashError::Unknown)?;
        match name {
            "argon2id" => Self::argon2(Algorithm::Argon2id, rest, text.starts_with(OWN)),
            "argon2i" => Self::argon2(Algorithm::Argon2i, rest, false),
            "argon2d" => Self::argon2(Algorithm::Argon2d, rest, false),
            // All the same for us. What `2a` and `2x` once got wrong (passwords of 255 bytes and more, letters outside
            // ASCII) cannot be told from the hash, and who had such a password needs a new one.
            "2a" | "2b" | "2x" | "2y" => Self::bcrypt(rest),
            _ => Err(HashError::Unknown),
        }
    }

    /// What follows `$argon2id$`: `[v=19$]m=…,t=…,p=…$SALT$TAG`, the parameters in any order.
    fn argon2(algorithm: Algorithm, text: &str, is_own: bool) -> Result<Self, HashError> {
        let damaged = |part| HashError::Damaged {
            kind: "an argon2 hash",
            part,
        };
        // Hashes from before version 1.3 say nothing.
        let (version, text) = match text.strip_prefix("v=").map(|rest| rest.split_once('$')) {
            None => (Version::V0x10, text),
            Some(Some(("16", rest))) => (Version::V0x10, rest),
            Some(Some(("19", rest))) => (Version::V0x13, rest),
            Some(_) => return Err(damaged("version")),
        };
        let mut parts = text.split('$');
        let (Some(parameters), Some(salt), Some(tag), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(damaged("end"));
        };
        // PHC string format, "Argon2 encoding".
        let salt = STANDARD_NO_PAD
            .decode(salt)
            .ok()
            .filter(|salt| (8..=48).contains(&salt.len()));
        let tag = STANDARD_NO_PAD
            .decode(tag)
            .ok()
            .filter(|tag| (12..=64).contains(&tag.len()));
        let (salt, tag) = (
            salt.ok_or_else(|| damaged("salt"))?,
            tag.ok_or_else(|| damaged("hash value"))?,
        );
        let mut params = parameters_of(parameters)?.ok_or_else(|| damaged("list of parameters"))?;
        let params = params
            .output_len(tag.len())
            .build()
            .map_err(|_| damaged("list of parameters"))?;
        Ok(Self {
            how: How::Argon2 {
                argon2: Argon2::new(algorithm, version, params),
                salt,
            },
            tag,
            is_own,
        })
    }

    /// What follows `$2b$`: two digits, `$`, 22 characters of salt, 31 of the hash value.
    fn bcrypt(text: &str) -> Result<Self, HashError> {
        let damaged = |part| HashError::Damaged {
            kind: "a bcrypt hash",
            part,
        };
        let (rounds, rest) = text.split_once('$').ok_or_else(|| damaged("cost"))?;
        let rounds = number(rounds).filter(|value| rounds.len() == 2 && *value >= LEAST_ROUNDS);
        let rounds = within("cost", rounds.ok_or_else(|| damaged("cost"))?, MOST_ROUNDS)?;
        let (salt, tag) = rest
            .split_at_checked(22)
            .filter(|(_, tag)| tag.len() == 31)
            .ok_or_else(|| damaged("end"))?;
        let salt = BCRYPT_BASE64
            .decode(salt)
            .ok()
            .and_then(|salt| salt.try_into().ok());
        let tag = BCRYPT_BASE64.decode(tag).map_err(|_| damaged("hash value"))?;
        Ok(Self {
            how: How::Bcrypt {
                rounds,
                salt: salt.ok_or_else(|| damaged("salt"))?,
            },
            tag,
            is_own: false,
        })
    }

    /// Whether it is one that [`hash`] could have made, of the same cost.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Computes for as long as the hash wants.
    pub(super) fn verify(&self, password: &str) -> bool {
        match &self.how {
            How::Argon2 { argon2, salt } => {
                let mut tag = Zeroizing::new(vec![0; self.tag.len()]);
                let done = argon2.hash_password_into(password.as_bytes(), salt, &mut tag);
                // Without the memory to verify it, the password is not proven.
                done.is_ok() && tag.ct_eq(&self.tag).into()
            }
            How::Bcrypt { rounds, salt } => {
                // The first 72 bytes of the password and the NUL that ended it in C. A NUL inside it is a byte like any
                // other, as in node's bcrypt since 5.0.
                let mut key = Zeroizing::new([0; BCRYPT_BYTES]);
                let length = password.len().min(BCRYPT_BYTES);
                key[..length].copy_from_slice(&password.as_bytes()[..length]);
                let tag = Zeroizing::new(bcrypt::bcrypt(
                    *rounds,
                    *salt,
                    &key[..(length + 1).min(BCRYPT_BYTES)],
                ));
                // The last of its 24 bytes has never been part of the hash.
                tag[..23].ct_eq(&self.tag).into()
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_bcrypt(&self) -> bool {
        matches!(self.how, How::Bcrypt { .. })
    }

    #[cfg(test)]
    pub(super) fn tag(&self) -> &[u8] {
        &self.tag
    }
}

/// `m=65536,t=3,p=4` and, from a few writers, `data=`; each once. `None` where that is not what it says.
fn parameters_of(text: &str) -> Result<Option<ParamsBuilder>, HashError> {
    let (mut memory, mut passes, mut lanes, mut data) = (None, None, None, None);
    for parameter in text.split(',') {
        let Some((name, value)) = parameter.split_once('=') else {
            return Ok(None);
        };
        let known = match name {
            "m" => number(value).and_then(|value| memory.replace(value).is_none().then_some(())),
            "t" => number(value).and_then(|value| passes.replace(value).is_none().then_some(())),
            "p" => number(value).and_then(|value| lanes.replace(value).is_none().then_some(())),
            "data" => {
                let value = STANDARD_NO_PAD
                    .decode(value)
                    .ok()
                    .and_then(|value| AssociatedData::new(&value).ok());
                value.and_then(|value| data.replace(value).is_none().then_some(()))
            }
            _ => None,
        };
        if known.is_none() {
            return Ok(None);
        }
    }
    let (Some(memory), Some(passes), Some(lanes)) = (memory, passes, lanes) else {
        return Ok(None);
    };
    let mut params = ParamsBuilder::new();
    params
        .m_cost(within("m", memory, MOST_COST.0)?)
        .t_cost(within("t", passes, MOST_COST.1)?)
        .p_cost(within("p", lanes, MOST_COST.2)?);
    within("m × t", memory.saturating_mul(passes), MOST_WORK)?;
    if let Some(data) = data {
        params.data(data);
    }
    Ok(Some(params))
}

/// Digits alone: no sign.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

fn within(parameter: &'static str, value: u32, most: u32) -> Result<u32, HashError> {
    if value > most {
        Err(HashError::TooCostly {
            parameter,
            value,
            most,
        })
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn verify(hash: &str, password: &str) -> bool {
        Stored::parse(hash).unwrap().verify(password)
    }

    #[test]
    fn a_new_hash_has_our_parameters_its_own_salt_and_is_of_one_password() {
        let one = hash("correct horse").unwrap();
        assert!(one.starts_with(OWN), "{one}");
        assert_eq!(one.len(), OWN.len() + 22 + 1 + 43);
        let stored = Stored::parse(&one).unwrap();
        assert!(stored.is_own());
        assert!(stored.verify("correct horse"));
        assert!(!stored.verify("correct horse "));
        assert_ne!(hash("correct horse").unwrap(), one);
    }

    #[test]
    fn our_hash_is_the_one_that_the_reference_implementation_makes() {
        // By npm's argon2 0.44, whose parameters stand in another order.
        let theirs = "$argon2id$v=19$m=19456,p=1,t=2$MDEyMzQ1Njc4OWFiY2RlZg$rk2Mi3E4dgRMg0fHaYaptWVZRKqs//6b6k3/nntqGJk";
        let stored = Stored::parse(theirs).unwrap();
        assert!(!stored.is_own(), "it will be spelled our way");
        assert!(stored.verify("correct horse"));
    }

    #[test]
    fn nothing_of_a_long_password_is_cut_off() {
        let long = "y".repeat(MAX_PASSWORD_BYTES);
        let stored = Stored::parse(&hash(&long).unwrap()).unwrap();
        assert!(stored.verify(&long));
        assert!(!stored.verify(&long[1..]));
        assert_eq!(
            hash(&"y".repeat(MAX_PASSWORD_BYTES + 1)),
            Err(AccountError::PasswordTooLong)
        );
    }

    #[test]
    fn argon2_hashes_of_every_kind_are_verified() {
        // By npm's argon2 0.44, the third from last with parameters as it and others used to order them.
        for hash in [
            "$argon2id$v=19$m=64,p=2,t=2$MDEyMzQ1Njc4OWFiY2RlZg$ehqGRlXhNY90u1mXokuaGpor9OaG4WSZVb4jCfev4ys",
            "$argon2i$v=19$m=64,p=2,t=2$MDEyMzQ1Njc4OWFiY2RlZg$JJ/ZDykYOnhMabOK2tGFjoWMyIA2jiyUS51az8rbHG4",
            "$argon2d$v=19$m=64,p=2,t=2$MDEyMzQ1Njc4OWFiY2RlZg$dOi7cZl2dlo4eu/sTQ2j9syppP/ZDNFzsjFGgjz/J0M",
            "$argon2id$v=19$m=64,t=2,p=2$MDEyMzQ1Njc4OWFiY2RlZg$ehqGRlXhNY90u1mXokuaGpor9OaG4WSZVb4jCfev4ys",
            "$argon2id$v=16$m=64,p=1,t=3$MDEyMzQ1Njc4OWFiY2RlZg$pZJz8pOA01UdXsdWyCEweg",
            "$argon2id$m=64,t=3,p=1$MDEyMzQ1Njc4OWFiY2RlZg$pZJz8pOA01UdXsdWyCEweg",
            "$argon2id$v=19$m=64,p=1,t=3,data=YXBw$MDEyMzQ1Njc4OWFiY2RlZg$ECpaVExV9tkYL6ApM6KDNQ",
        ] {
            assert!(verify(hash, "correct horse"), "{hash}");
            assert!(!verify(hash, "correct horsf"), "{hash}");
            assert!(!verify(hash, ""), "{hash}");
        }
    }

    #[test]
    fn bcrypt_hashes_are_verified_as_node_does() {
        let (x72, long) = ("y".repeat(72), "zb".to_owned() + &"c".repeat(253));
        // By npm's bcrypt 6.0, cost 4, salt `abcdefghijklmnopqrstuu`.
        for (password, tag) in [
            ("", "byCG3zY1GIXMyxfivm.ClDiInHzxjiq"),
            ("correct horse", "jydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
            ("pässwörd€🔑", "Zb0Rpanq9FxChgJuu5Tf2v1XxiaIivy"),
            ("a\0bcdefgh", "B3Qnmk1eEzEITNVzyErLEqq//lu9X0W"),
            ("a", "MFdJu9yVgmagVAIC24fOZkaFqd3s9JC"),
            (&*"x".repeat(71), ".gc7UY/21CSNJGJg21jJzx9QiOpJ9bO"),
            (&*x72, "wurWIdVVT4m5pTArtqnFNM69nySdHj."),
            (&*format!("{x72}y"), "wurWIdVVT4m5pTArtqnFNM69nySdHj."),
            (
                &*format!("{x72}different tail"),
                "wurWIdVVT4m5pTArtqnFNM69nySdHj.",
            ),
            // As `2b`; under `2a` node takes this one for 72 times its first letter.
            (&*long, "JLiOkWxp0whueSe4f2..Z/12pGrUjBC"),
        ] {
            for version in ["2a", "2b", "2x", "2y"] {
                let hash = format!("${version}$04$abcdefghijklmnopqrstuu{tag}");
                assert!(verify(&hash, password), "{password:?} {hash}");
                assert!(!verify(&hash, &format!("!{password}")), "{password:?} {hash}");
            }
        }
        let short = "$2b$04$abcdefghijklmnopqrstuuMFdJu9yVgmagVAIC24fOZkaFqd3s9JC";
        assert!(!verify(short, "a\0"), "the NUL at the end is one");
        assert!(!verify(short, "a\0bcdefgh"), "nothing ends at a NUL");
        assert!(!verify(&short.replace("uuM", "uuN"), "a"));
    }

    #[test]
    fn spare_bits_in_the_salt_of_a_bcrypt_hash_do_not_matter() {
        assert!(verify(
            "$2b$04$abcdefghijklmnopqrstuvjydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
            "correct horse"
        ));
    }

    #[test]
    fn a_hash_that_would_take_gigabytes_or_minutes_is_refused_unverified() {
        let salt_and_tag = "MDEyMzQ1Njc4OWFiY2RlZg$pZJz8pOA01UdXsdWyCEweg";
        let argon2 = |parameters: &str| check_hash(&format!("$argon2id$v=19${parameters}${salt_and_tag}"));
        for good in ["m=262144,t=4,p=16", "m=65536,t=16,p=1", "m=65536,t=3,p=4"] {
            assert_eq!(argon2(good), Ok(()), "{good}");
        }
        for (parameters, parameter, value, most) in [
            ("m=262145,t=1,p=1", "m", 262_145, 262_144),
            ("m=4294967295,t=1,p=1", "m", u32::MAX, 262_144),
            ("m=64,t=17,p=1", "t", 17, 16),
            ("m=4096,t=1,p=17", "p", 17, 16),
            ("m=262144,t=5,p=1", "m × t", 1_310_720, 1_048_576),
            ("m=65537,t=16,p=1", "m × t", 1_048_592, 1_048_576),
        ] {
            assert_eq!(
                argon2(parameters),
                Err(HashError::TooCostly {
                    parameter,
                    value,
                    most
                })
            );
        }
        let bcrypt = |cost: &str| {
            check_hash(&format!(
                "$2b${cost}$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
            ))
        };
        assert_eq!(bcrypt("14"), Ok(()));
        assert_eq!(
            bcrypt("15"),
            Err(HashError::TooCostly {
                parameter: "cost",
                value: 15,
                most: 14
            })
        );
        for wrong in ["03", "4", "004", "+4", "", "1e", "99999999999"] {
            assert!(
                matches!(bcrypt(wrong), Err(HashError::Damaged { part: "cost", .. })),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_repeated() {
        let argon2 =
            "$argon2id$v=19$m=64,t=2,p=2$MDEyMzQ1Njc4OWFiY2RlZg$ehqGRlXhNY90u1mXokuaGpor9OaG4WSZVb4jCfev4ys";
        assert_eq!(check_hash(argon2), Ok(()));
        let bcrypt = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
        let wrong = [
            "",
            "$",
            "$$",
            "hunter2hunter2",
            "$2$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
            "$2b$",
            "$argon2id$",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "$1$salt$hash",
            "pbkdf2_sha256$1000$a$b",
            "$2b$04$ümlaut",
            "$argon2id$v=19",
            &bcrypt[..59],
            &format!("{bcrypt}e"),
            &format!(" {bcrypt}"),
            &bcrypt.replace("abc", "ab$"),
            &bcrypt.replace("abc", "ab="),
            &argon2.replace("v=19", "v=18"),
            &argon2.replace("m=64,", ""),
            &argon2.replace("m=64,", "m=64,m=64,"),
            &argon2.replace("p=2", "p=2,x=1"),
            &argon2.replace("p=2", "p=0"),
            &argon2.replace("t=2", "t=0"),
            &argon2.replace("t=2", "t=+2"),
            &argon2.replace("m=64", "m=15"),
            &argon2.replace("m=64", "m=64 "),
            &argon2.replace("m=64", "m=99999999999"),
            &argon2.replace("MDEyMzQ1Njc4OWFiY2RlZg", "MDEy"),
            &argon2.replace("ehqGRlXhNY90u1mXokuaGpor9OaG4WSZVb4jCfev4ys", "ehqG"),
            &format!("{argon2}="),
            &format!("{argon2}$"),
            &argon2.replace("argon2id", "argon2"),
            &argon2.replace("64", &"0".repeat(300)),
        ];
        for text in wrong {
            let fault = check_hash(text).unwrap_err().to_string();
            assert!(
                text.len() < 5 || !fault.contains(&text[text.len() - 5..]),
                "{text:?}: {fault}"
            );
        }
    }
}
