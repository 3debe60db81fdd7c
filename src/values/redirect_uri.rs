//! The address of a native client to which a sign-in returns (RFC 8252 section 7).

use std::str::FromStr;

use crate::http::url;

/// The longest one, in bytes.
const MAX_BYTES: usize = 512;

/// One of `session.redirect_uris`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUri {
    text: String,
    /// Of an `http://` address of this machine: what stands before the port and after it.
    loopback: Option<(String, String)>,
}

impl RedirectUri {
    /// Whether `asked` is this address, character for character; at a loopback address on any port (RFC 8252 section 7.3).
    #[must_use]
    pub fn covers(&self, asked: &str) -> bool {
        let Some((before, after)) = &self.loopback else {
            return self.text == asked;
        };
        let Some(rest) = asked.strip_prefix(before.as_str()) else {
            return false;
        };
        let Some(port) = rest.strip_prefix(':') else {
            return rest == after;
        };
        let end = port.find(|letter: char| !letter.is_ascii_digit());
        let (port, rest) = port.split_at(end.unwrap_or(port.len()));
        rest == after && is_port(port)
    }
}

fn is_port(text: &str) -> bool {
    !text.starts_with('0') && text.parse::<u16>().is_ok()
}

impl FromStr for RedirectUri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |reason: &str| Err(reason.to_owned());
        if text.len() > MAX_BYTES {
            return Err(format!("at most {MAX_BYTES} bytes"));
        }
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte))
        {
            return refused("visible ASCII characters of a URL: percent-encode others");
        }
        if text.contains('#') {
            return refused("no fragment (RFC 6749 section 3.1.2)");
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return refused(
                "an absolute URI, like `com.example.app:/signed-in` or `http://127.0.0.1/signed-in`",
            );
        };
        let is_scheme = scheme.starts_with(|letter: char| letter.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
        if !is_scheme {
            return refused("a scheme in lower-case letters");
        }
        let mut loopback = None;
        match scheme {
            "https" | "http" => {
                let Some((_, authority, path)) = url::split(text) else {
                    return refused("`//` and a host after the scheme");
                };
                if authority.is_empty() || authority.contains('@') {
                    return refused("a host, without a user");
                }
                if scheme == "http" {
                    let host = ["127.0.0.1", "[::1]"].into_iter().find(|host| {
                        authority.strip_prefix(host).is_some_and(|rest| {
                            rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)
                        })
                    });
                    let Some(host) = host else {
                        return refused(
                            "`http://` only with `127.0.0.1` or `[::1]`: from other hosts the code would cross the network \
                             unencrypted, and `localhost` may be another address",
                        );
                    };
                    loopback = Some((format!("http://{host}"), path.to_owned()));
                } else if crate::http::url::Url::from_str(text).is_err() {
                    return refused("a host and, where there is one, a port");
                }
            }
            _ if !scheme.contains('.') => {
                return refused(
                    "`https`, or a scheme of the app with a dot, made of a domain of its own: `com.example.app` (RFC 8252 section 7.1)",
                );
            }
            _ if rest.is_empty() => return refused("a path after the scheme: `com.example.app:/signed-in`"),
            _ => {}
        }
        Ok(Self {
            text: text.to_owned(),
            loopback,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_redirect_uri() {
        for good in [
            "com.example.app:/signed-in",
            "com.example.app://signed-in",
            "https://app.example.com/cb?a=b",
            "http://127.0.0.1/cb",
            "http://127.0.0.1:8123/cb",
            "http://[::1]/cb",
        ] {
            assert!(good.parse::<RedirectUri>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/cb",
            "app:/cb",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "com.example.app:",
            "com.example.app:/a#b",
            "com.example.app:/a b",
            "com.example.app:/a\u{e4}",
            "com.example.app:/a\r\nx",
            "http://localhost/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://127.0.0.1@evil.example/cb",
            "http://127.0.0.2/cb",
            "http://example.com/cb",
            "http://[::1]:0/cb",
            "https:/app.example.com/cb",
            "https:///cb",
            "https://a@app.example.com/cb",
            "https://app.example.com:x/cb",
        ] {
            assert!(bad.parse::<RedirectUri>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_asked_for_is_compared_exactly_but_for_the_port_of_a_loopback_address() {
        let covers = |listed: &str, asked: &str| {
            let listed: RedirectUri = listed.parse().expect("a redirect URI");
            listed.covers(asked)
        };
        for (listed, asked, expected) in [
            ("com.example.app:/a", "com.example.app:/a", true),
            ("com.example.app:/a", "com.example.app:/a/", false),
            ("com.example.app:/a", "com.example.app:/a?x", false),
            ("com.example.app:/a", "COM.example.app:/a", false),
            ("https://a.example/cb", "https://a.example/cb", true),
            ("https://a.example/cb", "https://a.example:443/cb", false),
            ("https://a.example/cb", "https://a.example/cb/../x", false),
            ("https://a.example/cb", "https://a.example/cb#x", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1/cb", true),
            ("http://127.0.0.1/cb", "http://127.0.0.1:1/cb", true),
            ("http://127.0.0.1/cb", "http://127.0.0.1:65535/cb", true),
            ("http://127.0.0.1:9/cb", "http://127.0.0.1:1234/cb", true),
            ("http://[::1]/cb", "http://[::1]:1234/cb", true),
            ("http://127.0.0.1/cb", "http://127.0.0.1:65536/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:01/cb", false),
            (
                "http://127.0.0.1/cb",
                "http://127.0.0.1:80@evil.example/cb",
                false,
            ),
            ("http://127.0.0.1/cb", "http://127.0.0.1.evil.example/cb", false),
            (
                "http://127.0.0.1/cb",
                "http://127.0.0.1:80.evil.example/cb",
                false,
            ),
            ("http://127.0.0.1/cb", "http://[::1]/cb", false),
            ("http://127.0.0.1/cb", "http://localhost/cb", false),
            ("http://127.0.0.1/cb", "https://127.0.0.1/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:80/cb?x", false),
        ] {
            assert_eq!(covers(listed, asked), expected, "{listed} {asked}");
        }
    }
}
