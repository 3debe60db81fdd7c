//! Header names as apps fold them: CGI and WSGI make `HTTP_X_AUTH_USER` of `X-Auth-User` and of `X_Auth_User`, and some
//! servers do the same with a dot and with every other character that a variable's name cannot hold.

use http::{HeaderMap, HeaderName};

/// Lengths from this one on share a place in the table of first letters.
const LENGTHS: usize = 64;

/// A set of header names and of beginnings of header names, compared after folding: letters in lower case, digits as
/// they are, every other character as `-`.
#[derive(Clone, Debug)]
pub struct FoldedNames {
    names: Vec<Box<[u8]>>,
    prefixes: Vec<Box<[u8]>>,
    /// For each length the first letters that a member of that length has, one bit a letter: most headers of a request
    /// are told apart by this alone.
    first_letters: [u32; LENGTHS],
}

impl FoldedNames {
    /// The set of `names`; empty ones are left out.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self { names: Vec::new(), prefixes: Vec::new(), first_letters: [0; LENGTHS] };
        for name in names {
            let name = folded(name);
            let Some(&first) = name.first() else { continue };
            set.first_letters[name.len().min(LENGTHS - 1)] |= letter(first);
            if !set.names.contains(&name) {
                set.names.push(name);
            }
        }
        set
    }

    /// This set and every name that begins with one of `prefixes`, such as `x-forwarded-`; empty ones are left out.
    #[must_use]
    pub fn and_prefixes<'a>(mut self, prefixes: impl IntoIterator<Item = &'a str>) -> Self {
        for prefix in prefixes {
            let prefix = folded(prefix);
            let Some(&first) = prefix.first() else { continue };
            for letters in &mut self.first_letters[prefix.len().min(LENGTHS - 1)..] {
                *letters |= letter(first);
            }
            if !self.prefixes.contains(&prefix) {
                self.prefixes.push(prefix);
            }
        }
        self
    }

    /// Whether `name` is a member in some spelling.
    #[must_use]
    pub fn matches(&self, name: &HeaderName) -> bool {
        self.matches_text(name.as_str())
    }

    /// As [`FoldedNames::matches`], for a name as configured.
    #[must_use]
    pub fn matches_text(&self, name: &str) -> bool {
        let name = name.as_bytes();
        let Some(&first) = name.first() else { return false };
        if self.first_letters[name.len().min(LENGTHS - 1)] & letter(fold(first)) == 0 {
            return false;
        }
        self.names.iter().any(|member| member.len() == name.len() && begins_folded(name, member))
            || self.prefixes.iter().any(|prefix| begins_folded(name, prefix))
    }
}

/// Removes every field whose name `is_meant` holds for, however often it came. Allocates only where there is something to
/// remove.
pub fn remove_if(headers: &mut HeaderMap, is_meant: impl Fn(&HeaderName) -> bool) {
    let meant: Vec<HeaderName> = headers.keys().filter(|name| is_meant(name)).cloned().collect();
    for name in meant {
        headers.remove(name);
    }
}

fn folded(name: &str) -> Box<[u8]> {
    name.bytes().map(fold).collect()
}

fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

fn begins_folded(name: &[u8], member: &[u8]) -> bool {
    name.len() >= member.len() && name.iter().zip(member).all(|(&byte, &wanted)| fold(byte) == wanted)
}

/// The bit of a folded first character.
fn letter(byte: u8) -> u32 {
    match byte {
        b'a'..=b'z' => 1 << (byte - b'a'),
        b'0'..=b'9' => 1 << 26,
        _ => 1 << 27,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn identity() -> FoldedNames {
        FoldedNames::new(["X-Auth-User", "x-auth-roles", "Forwarded", "Remote-User"]).and_prefixes(["x-forwarded-"])
    }

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_spelling_that_an_app_could_fold_to_a_member_matches() {
        for spelling in [
            "x-auth-user",
            "X-Auth-User",
            "X_Auth_User",
            "x.auth.user",
            "X-AUTH-USER",
            "x~auth~user",
            "x-auth_user",
            "x!auth#user",
            "x$auth%user",
            "x&auth'user",
            "x*auth+user",
            "x^auth`user",
            "x|auth|user",
            "x.auth~user",
            "remote|user",
            "x_AUTH.USER",
            "x_auth_roles",
            "forwarded",
            "FORWARDED",
            "remote_user",
            "Remote.User",
            "x-forwarded-for",
            "X_Forwarded_For",
            "x.forwarded.anything",
            "x-forwarded-",
            "x_forwarded_proto_and_a_name_that_is_much_longer_than_sixty_four_bytes_is",
        ] {
            assert!(identity().matches(&name(spelling)), "{spelling}");
            assert!(
                identity().matches_text(spelling) && identity().matches_text(&spelling.to_uppercase()),
                "{spelling}"
            );
        }
    }

    #[test]
    fn other_names_do_not_match() {
        for other in [
            "host",
            "x-auth",
            "x-auth-use",
            "x-auth-users",
            "x-authuser",
            "xauth-user",
            "x--auth-user",
            "-x-auth-user",
            "x-auth-user-",
            "x-forwarded",
            "xforwardedfor",
            "forwarded-x",
            "accept",
            "authorization",
            "x",
            "_",
            "1",
            "x-request-id",
            "remote-users",
            "remote-use1",
            "x-auth-rolez",
            "1-auth-user",
        ] {
            assert!(!identity().matches(&name(other)) && !identity().matches_text(other), "{other}");
        }
        assert!(!identity().matches_text(""));
        assert!(!FoldedNames::new([]).matches(&name("x")));
        assert!(!FoldedNames::new([""]).and_prefixes([""]).matches(&name("x")));
    }

    #[test]
    fn removal_takes_every_spelling_and_every_line_and_leaves_the_rest() {
        let mut headers = HeaderMap::new();
        for text in
            ["host", "X_Auth_User", "x-auth-user", "x.auth.user", "cookie", "x-forwarded-for", "x_forwarded_for"]
        {
            headers.append(name(text), HeaderValue::from_static("1"));
            headers.append(name(text), HeaderValue::from_static("2"));
        }
        remove_if(&mut headers, |name| identity().matches(name));
        let mut left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        left.sort_unstable();
        assert_eq!(left, [("cookie", &b"1"[..]), ("cookie", b"2"), ("host", b"1"), ("host", b"2")]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_quick_rejection_rejects_no_member(
            members in prop::collection::vec("[A-Za-z0-9_.!-]{1,70}", 0..4),
            prefixes in prop::collection::vec("[A-Za-z0-9_.-]{1,70}", 0..2),
            other in "[A-Za-z0-9_.!~-]{1,70}",
        ) {
            let set = FoldedNames::new(members.iter().map(String::as_str))
                .and_prefixes(prefixes.iter().map(String::as_str));
            let names = members.iter().cloned().chain(prefixes.iter().map(|prefix| format!("{prefix}x")));
            for text in names.chain([other]) {
                let plain: String = text
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
                    .collect();
                let wanted = members.iter().any(|member| *folded(member) == *plain.as_bytes())
                    || prefixes.iter().any(|prefix| plain.as_bytes().starts_with(&folded(prefix)));
                prop_assert_eq!(set.matches(&name(&text)), wanted, "{}", text);
                prop_assert_eq!(set.matches(&name(&text.replace('-', "_"))), wanted);
            }
        }
    }
}
