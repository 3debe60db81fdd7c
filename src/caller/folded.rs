//! Header names in any spelling that an app could take for them.
//!
//! CGI, WSGI, Rack and PHP turn every character of a field name that is not a letter or digit into `_` and all letters
//! into capitals, so `x_auth.user` and `X-Auth-User` are one name there.

use http::{HeaderMap, HeaderName};

/// A set of names, compared without case and with every character that is not a letter or digit taken for a hyphen.
#[derive(Clone, Debug, Default)]
pub(super) struct FoldedNames {
    /// Folded names by their length, which is that of every spelling.
    by_length: Vec<Vec<Box<[u8]>>>,
}

impl FoldedNames {
    /// The set of `names`; the spelling in which one is given does not matter.
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut by_length: Vec<Vec<Box<[u8]>>> = Vec::new();
        for name in names {
            let folded: Box<[u8]> = name.bytes().map(fold).collect();
            if by_length.len() <= folded.len() {
                by_length.resize(folded.len() + 1, Vec::new());
            }
            let same_length = &mut by_length[folded.len()];
            if !same_length.contains(&folded) {
                same_length.push(folded);
            }
        }
        Self { by_length }
    }

    /// Whether `name` is a spelling of a name of the set.
    pub(super) fn matches(&self, name: &HeaderName) -> bool {
        self.matches_text(name.as_str())
    }

    /// As [`FoldedNames::matches`], for a name as configured.
    pub(super) fn matches_text(&self, name: &str) -> bool {
        self.by_length.get(name.len()).is_some_and(|same_length| {
            same_length.iter().any(|folded| name.bytes().map(fold).eq(folded.iter().copied()))
        })
    }
}

/// One byte of a name in its folded spelling.
pub(super) fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// Removes every field whose name `is_meant` holds for.
pub(super) fn remove_if(headers: &mut HeaderMap, is_meant: impl Fn(&HeaderName) -> bool) {
    // Allocates only when there is something to remove.
    let meant: Vec<HeaderName> = headers.keys().filter(|name| is_meant(name)).cloned().collect();
    for name in meant {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_folds_to_a_name_matches_and_no_other_name_does() {
        let names = FoldedNames::new(["X-Auth-User", "remote_user"]);
        for spelling in ["x-auth-user", "x_auth_user", "x.auth~user", "x-auth!user", "remote-user", "remote|user"] {
            assert!(names.matches(&HeaderName::from_static(spelling)), "{spelling}");
        }
        for other in ["x-auth-users", "xauthuser", "x-auth-use", "x--auth-user", "a", "remote-use1"] {
            assert!(!names.matches(&HeaderName::from_static(other)), "{other}");
        }
        assert!(names.matches_text("X_AUTH-User"));
        assert!(!FoldedNames::default().matches(&HeaderName::from_static("x")));
    }
}
