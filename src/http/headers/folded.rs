//! Header names as apps fold them: CGI and WSGI make `HTTP_X_AUTH_USER` of `X-Auth-User` and of `X_Auth_User`, and some
//! servers do the same with a dot and with every other character that a variable's name cannot hold.
//!
//! Names are compared after folding: letters in lower case, digits as they are, every other character as `-`.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};

/// The names that an entry of a [`FoldedTable`] matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// This name.
    Name(&'a str),
    /// Every name that begins so.
    Prefix(&'a str),
    /// Every name that ends so.
    Suffix(&'a str),
}

impl<'a> Entry<'a> {
    /// The entry that `text` writes: a `*` at its end or at its start stands for any characters, or none.
    #[must_use]
    pub fn pattern(text: &'a str) -> Self {
        match (text.strip_suffix('*'), text.strip_prefix('*')) {
            (Some(prefix), _) => Self::Prefix(prefix),
            (None, Some(suffix)) => Self::Suffix(suffix),
            (None, None) => Self::Name(text),
        }
    }
}

/// Kinds of header names, all of which are found by one look at a name: it has the bits of every entry that it matches.
///
/// The entries are a tree of characters. Nearly every header of a request is told apart by its first characters.
#[derive(Clone, Debug)]
pub(crate) struct FoldedTable {
    /// The root is the first.
    nodes: Vec<Node>,
    suffixes: Vec<(Box<[u8]>, u8)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// A bit for each character with which an entry goes on, see [`CHARACTERS`].
    next: u64,
    /// The node of the first of them; those of the others follow in order.
    first: u32,
    /// Of entries that end here.
    exact: u8,
    /// Of entries whose beginning ends here.
    prefix: u8,
}

/// The place of each folded character among the bits of a node.
const CHARACTERS: [u8; 256] = {
    let mut characters = [36; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation)] // below 256
        let lower = (byte as u8).to_ascii_lowercase();
        if lower.is_ascii_lowercase() {
            characters[byte] = lower - b'a';
        } else if lower.is_ascii_digit() {
            characters[byte] = 26 + lower - b'0';
        }
        byte += 1;
    }
    characters
};

/// A node while the tree grows.
#[derive(Default)]
struct Growing {
    next: BTreeMap<u8, Growing>,
    exact: u8,
    prefix: u8,
}

impl FoldedTable {
    /// The table of `entries`, each with its bits; empty ones are left out.
    #[must_use]
    pub(crate) fn new<'a>(entries: impl IntoIterator<Item = (Entry<'a>, u8)>) -> Self {
        let mut root = Growing::default();
        let mut suffixes = Vec::new();
        for (entry, bits) in entries {
            match entry {
                Entry::Name("") | Entry::Prefix("") | Entry::Suffix("") => {}
                Entry::Name(name) => root.grow(name).exact |= bits,
                Entry::Prefix(prefix) => root.grow(prefix).prefix |= bits,
                Entry::Suffix(suffix) => suffixes.push((folded(suffix), bits)),
            }
        }
        let mut table = Self {
            nodes: vec![Node::default()],
            suffixes,
        };
        table.place(0, root);
        table
    }

    fn place(&mut self, at: usize, grown: Growing) {
        let first = self.nodes.len();
        let next = grown.next.keys().fold(0, |next, character| next | 1 << character);
        self.nodes[at] = Node {
            next,
            first: u32::try_from(first).expect("a table is shorter than its file"),
            exact: grown.exact,
            prefix: grown.prefix,
        };
        self.nodes.resize(first + grown.next.len(), Node::default());
        for (place, child) in grown.next.into_values().enumerate() {
            self.place(first + place, child);
        }
    }

    /// The bits of `name`; 0 where it matches no entry.
    #[must_use]
    pub(crate) fn bits(&self, name: &str) -> u8 {
        let name = name.as_bytes();
        let mut bits = 0;
        for (suffix, of_suffix) in &self.suffixes {
            if ends_folded(name, suffix) {
                bits |= of_suffix;
            }
        }
        let mut node = &self.nodes[0];
        for &byte in name {
            let character = 1_u64 << CHARACTERS[usize::from(byte)];
            if node.next & character == 0 {
                return bits;
            }
            node = &self.nodes[node.first as usize + (node.next & (character - 1)).count_ones() as usize];
            bits |= node.prefix;
        }
        bits | node.exact
    }
}

impl Growing {
    fn grow(&mut self, name: &str) -> &mut Self {
        name.bytes().fold(self, |node, byte| {
            node.next.entry(CHARACTERS[usize::from(byte)]).or_default()
        })
    }
}

/// A set of header names and of beginnings of header names.
#[derive(Clone, Debug)]
pub struct FoldedNames(FoldedTable);

impl FoldedNames {
    /// The set of `names`; empty ones are left out.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of(names.into_iter().map(Entry::Name))
    }

    /// The set of all names that `entries` match; empty entries are left out.
    #[must_use]
    pub fn of<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        Self(FoldedTable::new(entries.into_iter().map(|entry| (entry, 1))))
    }

    /// Whether `name` is a member in some spelling.
    #[must_use]
    pub fn matches(&self, name: &HeaderName) -> bool {
        self.matches_text(name.as_str())
    }

    /// As [`FoldedNames::matches`], for a name as configured.
    #[must_use]
    pub fn matches_text(&self, name: &str) -> bool {
        self.0.bits(name) != 0
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
    if byte.is_ascii_alphanumeric() {
        byte.to_ascii_lowercase()
    } else {
        b'-'
    }
}

fn ends_folded(name: &[u8], suffix: &[u8]) -> bool {
    name.len() >= suffix.len()
        && name
            .iter()
            .rev()
            .zip(suffix.iter().rev())
            .all(|(&byte, &wanted)| fold(byte) == wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn identity() -> FoldedNames {
        let names = ["X-Auth-User", "x-auth-roles", "Forwarded", "Remote-User"].map(Entry::Name);
        FoldedNames::of(names.into_iter().chain([Entry::Prefix("x-forwarded-")]))
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
            assert!(
                !identity().matches(&name(other)) && !identity().matches_text(other),
                "{other}"
            );
        }
        assert!(!identity().matches_text(""));
        assert!(!FoldedNames::new([]).matches(&name("x")));
        assert!(!FoldedNames::of(["", "*"].map(Entry::pattern)).matches(&name("x")));
    }

    #[test]
    fn a_star_stands_for_any_characters_at_either_end() {
        let table = FoldedTable::new(
            [
                ("X-SSL-*", 1),
                ("*-Proxy-Client-IP", 2),
                ("Client-Cert*", 4),
                ("Proxy", 8),
                ("X-SSL-Id", 8),
            ]
            .map(|(text, bits)| (Entry::pattern(text), bits)),
        );
        for (name, bits) in [
            ("x-ssl-client", 1),
            ("X_SSL_", 1),
            ("x.ssl.id", 9),
            ("x-ssl", 0),
            ("wl-proxy-client-ip", 2),
            ("WL_Proxy_Client_IP", 2),
            ("proxy-client-ip", 0),
            ("client-cert", 4),
            ("client_certificate", 4),
            ("client-cer", 0),
            ("proxy", 8),
            ("proxy-x", 0),
            ("", 0),
        ] {
            assert_eq!(table.bits(name), bits, "{name}");
        }
    }

    #[test]
    fn removal_takes_every_spelling_and_every_line_and_leaves_the_rest() {
        let mut headers = HeaderMap::new();
        for text in [
            "host",
            "X_Auth_User",
            "x-auth-user",
            "x.auth.user",
            "cookie",
            "x-forwarded-for",
            "x_forwarded_for",
        ] {
            headers.append(name(text), HeaderValue::from_static("1"));
            headers.append(name(text), HeaderValue::from_static("2"));
        }
        remove_if(&mut headers, |name| identity().matches(name));
        let mut left: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("cookie", &b"1"[..]),
                ("cookie", b"2"),
                ("host", b"1"),
                ("host", b"2")
            ]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_tree_finds_what_comparing_with_each_entry_finds(
            // Few characters, so that entries share beginnings, and are each other's.
            members in prop::collection::vec("[aA1_.!-]{1,5}|[A-Za-z0-9_.-]{1,70}", 0..4),
            prefixes in prop::collection::vec("[aAb1_-]{1,4}", 0..3),
            suffixes in prop::collection::vec("[aAb1_-]{1,4}", 0..2),
            other in "[aAb1_.!~-]{1,8}|[A-Za-z0-9_.!~-]{1,70}",
        ) {
            let table = FoldedTable::new(
                members.iter().map(|text| (Entry::Name(text), 1))
                    .chain(prefixes.iter().map(|text| (Entry::Prefix(text), 2)))
                    .chain(suffixes.iter().map(|text| (Entry::Suffix(text), 4))),
            );
            let prefixed = prefixes.iter().map(|prefix| format!("{prefix}x"));
            let suffixed = suffixes.iter().map(|suffix| format!("x{suffix}"));
            for text in members.iter().chain(&prefixes).chain(&suffixes).cloned().chain(prefixed).chain(suffixed).chain([other]) {
                let plain = folded(&text);
                let wanted = u8::from(members.iter().any(|member| folded(member) == plain))
                    | u8::from(prefixes.iter().any(|prefix| plain.starts_with(&folded(prefix)))) << 1
                    | u8::from(suffixes.iter().any(|suffix| plain.ends_with(&folded(suffix)))) << 2;
                prop_assert_eq!(table.bits(&text), wanted, "{}", text);
                prop_assert_eq!(table.bits(&text.replace('-', "_").to_uppercase()), wanted, "{}", text);
            }
        }
    }
}
