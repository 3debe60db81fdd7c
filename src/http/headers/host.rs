//! The host of a request: `Host` and `:authority`, read as strictly as RFC 9112 section 3.2 allows.

use std::net::Ipv6Addr;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Version};

use crate::refusal::Refusal;

/// The longest name that DNS knows, in bytes (RFC 1035 section 2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// The host and port that a request is for. Cheap to clone; shares the bytes of the request.
#[derive(Clone, Debug)]
pub struct Host {
    sent: Sent,
    name: Name,
    port: Option<u16>,
}

#[derive(Clone, Debug)]
enum Sent {
    Field(HeaderValue),
    Authority(Authority),
}

#[derive(Clone, Debug)]
enum Name {
    /// The first so many bytes of what was sent.
    AsSent(usize),
    Normalised(Box<str>),
}

impl Host {
    /// Reads `uri-host [ ":" port ]` (RFC 9112 section 3.2).
    ///
    /// # Errors
    /// `HostInvalid`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        Self::from_field(&HeaderValue::from_str(text).map_err(|_| Refusal::HostInvalid)?)
    }

    fn from_field(value: &HeaderValue) -> Result<Self, Refusal> {
        let (name, port) = read(value.to_str().map_err(|_| Refusal::HostInvalid)?)?;
        Ok(Self {
            sent: Sent::Field(value.clone()),
            name,
            port,
        })
    }

    fn from_authority(authority: &Authority) -> Result<Self, Refusal> {
        let (name, port) = read(authority.as_str())?;
        Ok(Self {
            sent: Sent::Authority(authority.clone()),
            name,
            port,
        })
    }

    /// The name in its one spelling: lower case, no dot at the end, an IPv6 address in brackets and as RFC 5952 writes it.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.name {
            Name::AsSent(length) => self.as_sent().get(..*length).unwrap_or_default(),
            Name::Normalised(name) => name,
        }
    }

    /// The port, where one was sent.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Name and port as the client spelled them.
    #[must_use]
    pub fn as_sent(&self) -> &str {
        match &self.sent {
            Sent::Field(value) => value.to_str().unwrap_or_default(),
            Sent::Authority(authority) => authority.as_str(),
        }
    }

    /// Name and port as the client spelled them, as a field value for the app. Allocates only for HTTP/2.
    #[must_use]
    pub fn as_value(&self) -> HeaderValue {
        match &self.sent {
            Sent::Field(value) => value.clone(),
            // `read` let only visible ASCII through.
            Sent::Authority(authority) => {
                HeaderValue::from_str(authority.as_str()).unwrap_or_else(|_| HeaderValue::from_static(""))
            }
        }
    }
}

impl PartialEq for Host {
    /// Equal names and equal ports, in whatever spelling.
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.port == other.port
    }
}

impl Eq for Host {}

/// The host that `parts` is for.
///
/// Up to HTTP/1.1 that is its one `Host`, also for HTTP/1.0, and the target has to be in origin form. In HTTP/2 it is
/// `:authority`, or `Host` where there is none; where both are sent they have to be equal but for the case of letters.
///
/// # Errors
/// `TargetForm`, `HostMissing`, `HostRepeated`, `HostInvalid`, `HostMismatch`.
pub fn request_host(parts: &Parts) -> Result<Host, Refusal> {
    let authority = parts.uri.authority();
    if parts.version < Version::HTTP_2 && (authority.is_some() || parts.uri.scheme().is_some()) {
        return Err(Refusal::TargetForm);
    }
    let mut fields = parts.headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Refusal::HostRepeated);
    }
    match (authority, field) {
        (None, None) => Err(Refusal::HostMissing),
        (None, Some(field)) => Host::from_field(field),
        (Some(authority), None) => Host::from_authority(authority),
        (Some(authority), Some(field)) => {
            if !authority
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(field.as_bytes())
            {
                return Err(Refusal::HostMismatch);
            }
            Host::from_authority(authority)
        }
    }
}

/// Names hold letters, digits, `-`, `_` and `.` only. RFC 3986 section 3.2.2 allows more (`%`, `!`, `,` …), which no
/// resolver takes, but at which another parser might cut off a host.
fn read(text: &str) -> Result<(Name, Option<u16>), Refusal> {
    let end = if text.starts_with('[') {
        text.find(']').ok_or(Refusal::HostInvalid)? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (name, rest) = text.split_at(end);
    let port = match rest.strip_prefix(':') {
        Some(digits) => Some(read_port(digits)?),
        None if rest.is_empty() => None,
        None => return Err(Refusal::HostInvalid),
    };
    Ok((read_name(name)?, port))
}

fn read_port(digits: &str) -> Result<u16, Refusal> {
    if digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::HostInvalid);
    }
    digits
        .parse()
        .ok()
        .filter(|&port| port != 0)
        .ok_or(Refusal::HostInvalid)
}

fn read_name(name: &str) -> Result<Name, Refusal> {
    if let Some(address) = name.strip_prefix('[') {
        let address = address
            .strip_suffix(']')
            .and_then(|address| address.parse::<Ipv6Addr>().ok());
        let normalised = format!("[{}]", address.ok_or(Refusal::HostInvalid)?);
        return Ok(if normalised == name {
            Name::AsSent(name.len())
        } else {
            Name::Normalised(normalised.into())
        });
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.is_empty() || bare.len() > MAX_NAME_BYTES {
        return Err(Refusal::HostInvalid);
    }
    let mut upper = false;
    let mut before = b'.';
    for byte in bare.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'A'..=b'Z' => upper = true,
            b'.' if before != b'.' => {}
            _ => return Err(Refusal::HostInvalid),
        }
        before = byte;
    }
    if before == b'.' {
        return Err(Refusal::HostInvalid);
    }
    Ok(if upper {
        Name::Normalised(bare.to_ascii_lowercase().into())
    } else {
        Name::AsSent(bare.len())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn host(version: Version, uri: &str, fields: &[&str]) -> Result<Host, Refusal> {
        let mut request = Request::builder().version(version).uri(uri);
        for field in fields {
            request = request.header(HOST, *field);
        }
        request_host(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_host_has_one_spelling_and_its_port_apart() {
        for (sent, name, port) in [
            ("example.com", "example.com", None),
            ("example.com:8080", "example.com", Some(8080)),
            ("EXAMPLE.Com:443", "example.com", Some(443)),
            ("example.com.", "example.com", None),
            ("Example.com.:80", "example.com", Some(80)),
            ("localhost:1", "localhost", Some(1)),
            ("my_app-1.internal", "my_app-1.internal", None),
            ("127.0.0.1:65535", "127.0.0.1", Some(65535)),
            ("[::1]", "[::1]", None),
            ("[::1]:8080", "[::1]", Some(8080)),
            ("[2001:DB8:0:0::1]:80", "[2001:db8::1]", Some(80)),
            ("[0:0:0:0:0:0:0:1]", "[::1]", None),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        ] {
            let host =
                host(Version::HTTP_11, "/", &[sent]).unwrap_or_else(|refusal| panic!("{sent}: {refusal}"));
            assert_eq!((host.name(), host.port(), host.as_sent()), (name, port, sent));
            assert_eq!(host.as_value(), sent);
        }
    }

    #[test]
    fn what_is_no_host_and_port_is_refused() {
        let long = "a".repeat(254);
        for sent in [
            "",
            ".",
            "..",
            ".example.com",
            "example..com",
            "example.com..",
            ":80",
            "example.com:",
            "example.com:0",
            "example.com:65536",
            "example.com:999999",
            "example.com:80a",
            "example.com:+80",
            "example.com:-1",
            "example.com: 80",
            "example.com:80:80",
            "user@example.com",
            "user:pass@example.com",
            "@example.com",
            "example.com/",
            "example.com/path",
            "example.com?x",
            "example.com#x",
            "exam ple.com",
            "example.com,evil.com",
            "example.com\\evil.com",
            "example%2ecom",
            "a\tb",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "[::1]:",
            "[::1]:x",
            "[::1%25eth0]",
            "[::1%eth0]",
            "[v1.a]",
            "[127.0.0.1]",
            "[[::1]]",
            "a[::1]",
            "http://example.com",
            "*",
            "*.example.com",
            "a!b",
            "a'b",
            "a\"b",
            "a;b",
            "a=b",
            "a&b",
            "a(b)",
            "{a}",
            "<a>",
            "a|b",
            "^",
            "`",
            "~a",
            "$",
            "example.com:８０",
            "exämple.com",
            &long,
        ] {
            assert_eq!(Host::parse(sent).err(), Some(Refusal::HostInvalid), "{sent}");
        }
        let latin = HeaderValue::from_bytes(b"ex\xe4mple.com").unwrap();
        assert_eq!(Host::from_field(&latin).err(), Some(Refusal::HostInvalid));
    }

    #[test]
    fn http_1_needs_one_host_and_the_origin_form() {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(host(version, "/", &[]).err(), Some(Refusal::HostMissing));
            assert_eq!(host(version, "/", &["a", "a"]).err(), Some(Refusal::HostRepeated));
            assert_eq!(
                host(version, "http://a/", &["a"]).err(),
                Some(Refusal::TargetForm)
            );
            assert_eq!(host(version, "http://a/", &[]).err(), Some(Refusal::TargetForm));
            assert_eq!(
                host(version, "a:443", &["a:443"]).err(),
                Some(Refusal::TargetForm)
            );
            assert!(host(version, "/", &["a"]).is_ok());
        }
    }

    #[test]
    fn http_2_takes_the_authority_and_no_other_host_beside_it() {
        let of = |uri, fields: &[&str]| host(Version::HTTP_2, uri, fields).map(|host| host.name().to_owned());
        assert_eq!(of("https://A.example/", &[]).as_deref(), Ok("a.example"));
        assert_eq!(
            of("https://a.example/", &["A.example"]).as_deref(),
            Ok("a.example")
        );
        assert_eq!(
            of("https://a.example:8443/", &["a.example:8443"]).as_deref(),
            Ok("a.example")
        );
        assert_eq!(of("/", &["a.example"]).as_deref(), Ok("a.example"));
        assert_eq!(of("/", &[]), Err(Refusal::HostMissing));
        assert_eq!(
            of("https://a.example/", &["b.example"]),
            Err(Refusal::HostMismatch)
        );
        assert_eq!(
            of("https://a.example/", &["a.example:443"]),
            Err(Refusal::HostMismatch)
        );
        assert_eq!(
            of("https://a.example/", &["a.example."]),
            Err(Refusal::HostMismatch)
        );
        assert_eq!(of("https://a.example/", &[""]), Err(Refusal::HostMismatch));
        assert_eq!(
            of("https://a.example/", &["a.example", "a.example"]),
            Err(Refusal::HostRepeated)
        );
        assert_eq!(of("https://u@a.example/", &[]), Err(Refusal::HostInvalid));
        assert_eq!(
            of("https://u@a.example/", &["u@a.example"]),
            Err(Refusal::HostInvalid)
        );
        let of_authority = host(Version::HTTP_2, "https://A.example:1/", &[]).unwrap();
        assert_eq!(of_authority.as_value(), "A.example:1");
        assert_eq!(of_authority, Host::parse("a.example.:1").unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_accepted_host_is_clean_and_stable(text in "[a-zA-Z0-9.:@/\\[\\]_%, -]{0,24}") {
            let Ok(host) = Host::parse(&text) else { return Ok(()) };
            let name = host.name();
            prop_assert!(!name.is_empty() && !name.ends_with('.') && !name.starts_with('.'));
            prop_assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase() || b"@/%, ".contains(&byte)));
            let again = Host::parse(name).unwrap();
            prop_assert_eq!(again.name(), name);
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,32}") {
            let _ = Host::parse(&text);
        }
    }
}
