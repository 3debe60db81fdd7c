//! What an account may consist of: its name, its roles, its password.
//!
//! Input: typed text. Output: the tidied value, or an [`AccountError`]. Invariants: a password is in no error, is not changed
//! or cut off, and is not copied anywhere that outlives the call.

use std::cmp::Ordering;

use zeroize::Zeroizing;

use super::error::AccountError;
use super::limits::{MAX_ID_BYTES, MAX_NAME, MAX_PASSWORD_BYTES, MAX_ROLE_BYTES, MAX_ROLES, MAX_ROLES_BYTES};
use crate::state::email;
use crate::values::text::breaks_line;

/// Passwords that everybody tries first; sorted by their bytes, after a head that ends with an empty line.
const COMMON: &str = include_str!("common-passwords.txt");

/// What the configuration says about accounts.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The fewest characters of a new password.
    pub min_length: usize,
    /// The roles of who registers.
    pub default_roles: Vec<String>,
}

impl Policy {
    /// Whether `password` may be the new one of the account with the address `email`.
    ///
    /// # Errors
    /// [`AccountError::PasswordTooLong`], [`AccountError::PasswordTooShort`], [`AccountError::PasswordCommon`].
    pub fn check_password(&self, email: &str, password: &str) -> Result<(), AccountError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(AccountError::PasswordTooLong);
        }
        if password.chars().count() < self.min_length {
            return Err(AccountError::PasswordTooShort {
                least: self.min_length,
            });
        }
        let address = email::key(email);
        // Each copy is wiped.
        let lower = Zeroizing::new(password.trim().to_lowercase());
        let upper = Zeroizing::new(lower.to_uppercase());
        let guess = Zeroizing::new(upper.to_lowercase());
        let is_own = *guess == address || address.split_once('@').is_some_and(|(local, _)| *guess == local);
        // Also where nothing but white space is left.
        let mut letters = guess.chars();
        let is_one_letter = letters
            .next()
            .is_none_or(|first| letters.all(|letter| letter == first));
        if is_own || is_one_letter || is_common(&guess) {
            Err(AccountError::PasswordCommon)
        } else {
            Ok(())
        }
    }
}

/// A display name without white space around it; `None` where nothing is left.
///
/// # Errors
/// [`AccountError::NameInvalid`].
pub(crate) fn parse_name(text: &str) -> Result<Option<String>, AccountError> {
    let name = text.trim();
    if name.chars().count() > MAX_NAME || name.chars().any(breaks_line) {
        return Err(AccountError::NameInvalid);
    }
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

/// Whether `id` can be the `sub` of tokens, and so the id of an account.
///
/// # Errors
/// [`AccountError::IdInvalid`].
pub(crate) fn check_id(id: &str) -> Result<(), AccountError> {
    if is_visible(id, MAX_ID_BYTES) {
        Ok(())
    } else {
        Err(AccountError::IdInvalid)
    }
}

/// The roles that `text` names with commas between them, sorted, each once. Nothing between two commas is no role.
///
/// # Errors
/// As [`check_roles`].
pub(crate) fn parse_roles(text: &str) -> Result<Vec<String>, AccountError> {
    let roles = text
        .split(',')
        .map(str::trim)
        .filter(|role| !role.is_empty())
        .map(str::to_owned)
        .collect();
    tidy_roles(roles)
}

/// `roles` sorted, each once, if they are good.
///
/// # Errors
/// As [`check_roles`].
pub(crate) fn tidy_roles(mut roles: Vec<String>) -> Result<Vec<String>, AccountError> {
    roles.sort_unstable();
    roles.dedup();
    check_roles(&roles)?;
    Ok(roles)
}

/// Whether `roles` may be those of an account.
///
/// # Errors
/// [`AccountError::RoleInvalid`], [`AccountError::RolesTooMany`], [`AccountError::RolesTooLong`].
pub(crate) fn check_roles(roles: &[String]) -> Result<(), AccountError> {
    if let Some(role) = roles.iter().find(|role| !is_visible(role, MAX_ROLE_BYTES)) {
        return Err(AccountError::RoleInvalid {
            role: role
                .chars()
                .take(MAX_ROLE_BYTES)
                .flat_map(char::escape_debug)
                .collect(),
        });
    }
    if roles.len() > MAX_ROLES {
        return Err(AccountError::RolesTooMany);
    }
    let escaped = |role: &str| role.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    let bytes = roles
        .iter()
        .map(|role| role.len() + escaped(role) + 1)
        .sum::<usize>()
        .saturating_sub(1);
    if bytes > MAX_ROLES_BYTES {
        Err(AccountError::RolesTooLong)
    } else {
        Ok(())
    }
}

/// Whether `text` is 1 to `most` bytes of one visible line that looks the same when white space around it is gone.
fn is_visible(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.trim() == text && !text.chars().any(breaks_line)
}

/// Whether a folded password stands on the list. Looked up where it stands: no copy of the list, none of the password.
fn is_common(guess: &str) -> bool {
    let mut rest = common().as_bytes();
    while !rest.is_empty() {
        let middle = rest.len() / 2;
        let start = rest[..middle]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let end = rest[middle..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(rest.len(), |length| middle + length);
        match rest[start..end].cmp(guess.as_bytes()) {
            Ordering::Equal => return true,
            Ordering::Less => rest = rest.get(end + 1..).unwrap_or_default(),
            Ordering::Greater => rest = &rest[..start],
        }
    }
    false
}

/// The list without its head.
fn common() -> &'static str {
    COMMON.split_once("\n\n").map_or("", |(_, list)| list)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        min_length: 8,
        default_roles: Vec::new(),
    };

    fn password(text: &str) -> Result<(), AccountError> {
        POLICY.check_password("Margarethe@Example.com", text)
    }

    #[test]
    fn a_password_is_measured_in_characters_and_limited_in_bytes() {
        let short = Err(AccountError::PasswordTooShort { least: 8 });
        assert_eq!(password(""), short);
        assert_eq!(password("xk3öü9v"), short);
        assert_eq!(password("xk3öü9vä"), Ok(()));
        assert_eq!(password("🔑🦀🌲🌊"), short, "16 bytes are 4 characters");
        assert_eq!(password("a quiet field of barley "), Ok(()));
        assert_eq!(password(&"yx".repeat(2048)), Ok(()), "4096 bytes, none cut off");
        assert_eq!(password(&"yxz".repeat(1366)), Err(AccountError::PasswordTooLong));
        assert_eq!(
            Policy {
                min_length: 12,
                ..POLICY
            }
            .check_password("a@b", "xk3öü9väqp"),
            { Err(AccountError::PasswordTooShort { least: 12 }) }
        );
    }

    #[test]
    fn a_password_that_is_tried_first_is_refused_in_any_case() {
        for common in [
            "password",
            "PassWord",
            "12345678",
            "qwertyuiop",
            "Password1",
            "trustno1",
            "p@ssw0rd",
            " baseball ",
        ] {
            assert_eq!(password(common), Err(AccountError::PasswordCommon), "{common}");
        }
        for rare in [
            "password-of-hers",
            "12345678901234567890123456789",
            "\nx\n\n\n\n\n\n\nx",
            "password\npassword1",
        ] {
            assert_eq!(password(rare), Ok(()), "{rare}");
        }
    }

    #[test]
    fn one_repeated_character_is_no_password_whatever_its_length() {
        for letter in ["a", "A", "0", "!", "\n", " ", "ü", "🔑"] {
            for length in [8, 9, 30, 1000] {
                let repeated = letter.repeat(length);
                assert_eq!(
                    password(&repeated),
                    Err(AccountError::PasswordCommon),
                    "{letter:?} {length}"
                );
                assert_eq!(
                    password(&format!(" {repeated}\n")),
                    Err(AccountError::PasswordCommon),
                    "{letter:?} {length}"
                );
            }
        }
        assert_eq!(password("aAaAaAaAaAaAaAaAa"), Err(AccountError::PasswordCommon));
        for other in ["aaaaaaaaaaaaaaaaaaaaaaaab", "abababababababababababab"] {
            assert_eq!(password(other), Ok(()), "{other}");
        }
    }

    #[test]
    fn the_address_and_what_stands_before_its_at_sign_are_no_passwords() {
        for own in [
            "margarethe@example.com",
            "Margarethe",
            "MARGARETHE@EXAMPLE.COM",
            " margarethe ",
        ] {
            assert_eq!(password(own), Err(AccountError::PasswordCommon), "{own}");
        }
        assert_eq!(password("margarethe!"), Ok(()));
    }

    #[test]
    fn every_line_of_the_list_is_found_and_nothing_of_its_head() {
        let lines: Vec<&str> = common().lines().collect();
        assert!(lines.len() > 10_000, "{}", lines.len());
        assert!(lines.is_sorted_by(|one, other| one < other), "sorted, each once");
        for line in &lines {
            assert!(is_common(line), "{line}");
            assert!(line.len() >= 8 && *line == email::key(line), "{line}");
        }
        for missing in [
            "",
            "\n",
            "zzzzzzzzzzzzzzzzzzzz~",
            "!",
            "Redistribution",
            "# MIT License",
        ] {
            assert!(!is_common(missing), "{missing:?}");
        }
        let head = COMMON.lines().take_while(|line| !line.is_empty());
        assert!(head.clone().count() > 10 && head.clone().all(|line| line.starts_with('#')));
    }

    #[test]
    fn a_name_is_one_line_of_at_most_128_characters() {
        assert_eq!(parse_name("  Ann O'Brien "), Ok(Some("Ann O'Brien".to_owned())));
        assert_eq!(parse_name("علي"), Ok(Some("علي".to_owned())));
        assert_eq!(parse_name(" \t "), Ok(None));
        assert_eq!(parse_name(&"ü".repeat(128)), Ok(Some("ü".repeat(128))));
        for wrong in [
            &*"u".repeat(129),
            "a\nb",
            "a\0b",
            "a\u{7f}b",
            "a\u{85}b",
            "a\u{2028}b",
            "a\u{202e}b",
        ] {
            assert_eq!(parse_name(wrong), Err(AccountError::NameInvalid), "{wrong:?}");
        }
    }

    #[test]
    fn roles_are_sorted_and_each_once() {
        assert_eq!(parse_roles(" ops,admin ,, ops,").unwrap(), ["admin", "ops"]);
        assert_eq!(parse_roles("").unwrap(), [""; 0]);
        assert_eq!(
            tidy_roles(vec!["b c".into(), "a,b".into(), "b c".into()]).unwrap(),
            ["a,b", "b c"]
        );
    }

    #[test]
    fn roles_that_would_not_fit_into_a_header_or_a_cookie_are_refused() {
        for wrong in [
            "",
            " a",
            "a ",
            "a\nb",
            "\u{2028}",
            &"r".repeat(65),
            &"ü".repeat(33),
        ] {
            let fault = check_roles(&["good".into(), wrong.into()]).unwrap_err();
            assert!(
                matches!(fault, AccountError::RoleInvalid { .. }),
                "{wrong:?} {fault}"
            );
            assert!(!fault.to_string().contains('\n'), "{fault}");
        }
        let of = |count: usize, bytes: usize| -> Vec<String> {
            (0..count).map(|n| format!("{n:0bytes$}")).collect()
        };
        assert_eq!(check_roles(&of(64, 15)), Ok(()), "1023 bytes");
        assert_eq!(check_roles(&of(65, 3)), Err(AccountError::RolesTooMany));
        assert_eq!(
            check_roles(&of(16, 64)),
            Err(AccountError::RolesTooLong),
            "1039 bytes"
        );
        for quoted in ['"', '\\'] {
            let quoted = |count| {
                of(count, 60)
                    .iter()
                    .map(|role| role.replace('0', &quoted.to_string()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(check_roles(&quoted(8)), Ok(()), "962 bytes of JSON");
            assert_eq!(
                check_roles(&quoted(9)),
                Err(AccountError::RolesTooLong),
                "they take two bytes each in a token"
            );
        }
        assert_eq!(
            parse_roles(&"a,".repeat(65)).unwrap(),
            ["a"],
            "counted once tidied"
        );
    }

    #[test]
    fn an_id_is_one_visible_line() {
        for good in [
            "507f1f77bcf86cd799439011",
            "42",
            "auth0|5f7c",
            "a b",
            &"i".repeat(128),
        ] {
            assert_eq!(check_id(good), Ok(()), "{good}");
        }
        for wrong in ["", " ", "a\n", &"i".repeat(129)] {
            assert_eq!(check_id(wrong), Err(AccountError::IdInvalid), "{wrong:?}");
        }
    }
}
