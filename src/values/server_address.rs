//! The address of a server of an app.
//!
//! Input: the text of the file. Output: an address whose parts are checked, or a problem with its hint. Invariants: no
//! user, query or fragment; the base path is canonical.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use http::HeaderValue;

use super::bad_value::BadValue;
use super::suggest::{echo, nearest};
use crate::http::target::canonical_prefix;
use crate::http::url::Url;
use crate::refusal::Refusal;

const FORM: &str =
    "a server is `http://127.0.0.1:3000`, `https://host`, `h2c://host:port` or `unix:/run/app.sock`";

/// Where a server is, and how the gateway connects to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// The path of a unix socket, as it was written.
    Unix(PathBuf),
    /// A host and a port.
    Tcp {
        /// The protocol.
        scheme: ServerScheme,
        /// An address, or a name that is resolved for each connection.
        host: ServerHost,
        /// That of the scheme where none was written.
        port: u16,
        /// Host and port as they were written, for `Host`.
        authority: HeaderValue,
        /// The path that the app is below; empty for the root.
        base: String,
    },
}

/// The protocol of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerScheme {
    /// HTTP/1.1 without TLS.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 without TLS.
    H2c,
}

/// The host of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerHost {
    /// An IP address.
    Ip(IpAddr),
    /// A name.
    Name(Box<str>),
}

impl ServerAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// The first problem of it.
    pub fn parse(text: &str) -> Result<Self, BadValue> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.ends_with('/') || path.starts_with("//") {
                return Err(BadValue::new("a unix server needs the path of its socket", FORM));
            }
            return Ok(Self::Unix(path.into()));
        }
        if !text.contains("://") && text.contains('@') {
            return Err(BadValue {
                is_secret: true,
                ..BadValue::new("the address of a server holds a user or a password", FORM)
            });
        }
        let url: Url = text
            .parse()
            .map_err(|reason: String| not_an_address(text, &reason))?;
        let (scheme, default_port) = match url.scheme() {
            "http" => (ServerScheme::Http, 80),
            "https" => (ServerScheme::Https, 443),
            "h2c" => (ServerScheme::H2c, 80),
            other => {
                let hint = match nearest(other, ["http", "https", "h2c"]) {
                    Some(near) => format!("did you mean `{near}://`?"),
                    None => FORM.to_owned(),
                };
                let message = format!("a server cannot be reached by `{}://`", echo(other));
                return Err(BadValue::new(message, hint));
            }
        };
        if url.userinfo().is_some() {
            let message = "the address of a server holds a user or a password";
            return Err(BadValue::new(message, "leave out what stands in front of `@`"));
        }
        if let Some(end) = url.rest().find(['?', '#']) {
            let bare = &text[..text.len() - (url.rest().len() - end)];
            let message = "the address of a server has a query or a fragment";
            return Err(BadValue::new(message, format!("write `\"{}\"`", echo(bare))));
        }
        let authority = url.authority();
        Ok(Self::Tcp {
            scheme,
            host: match url.host().parse() {
                Ok(address) => ServerHost::Ip(address),
                Err(_) => ServerHost::Name(url.host().into()),
            },
            port: url.port().unwrap_or(default_port),
            authority: HeaderValue::try_from(authority)
                .ok()
                .filter(|_| authority.parse::<http::uri::Authority>().is_ok())
                .ok_or_else(|| not_an_address(text, "the host is no name or address"))?,
            base: base(url.rest())?,
        })
    }

    /// Whether the gateway connects to it with TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(
            self,
            Self::Tcp {
                scheme: ServerScheme::Https,
                ..
            }
        )
    }
}

impl FromStr for ServerAddress {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        Self::parse(text)
    }
}

fn not_an_address(text: &str, reason: &str) -> BadValue {
    let hint = match text.strip_prefix('/') {
        Some(_) => format!("a unix socket is written `\"unix:{}\"`", echo(text)),
        // A name or address and a port, as `listen` has it.
        None if !text.contains("://") && format!("http://{text}").parse::<Url>().is_ok() => {
            format!("the scheme is missing: `\"http://{}\"`", echo(text))
        }
        None => format!("{reason}; {FORM}"),
    };
    BadValue::new(format!("`{}` is no address of a server", echo(text)), hint)
}

/// The path, in the spelling that requests are matched in, without a `/` at its end.
fn base(path: &str) -> Result<String, BadValue> {
    if path.is_empty() {
        return Ok(String::new());
    }
    match canonical_prefix(path) {
        Ok(base) if !base.contains("%2F") => Ok(base),
        refused => {
            let refusal = refused.err().unwrap_or(Refusal::PathEncodedSlash);
            Err(BadValue::new(
                format!("no request can have the path `{}`: {refusal}", echo(path)),
                "a path of a server is plain segments, such as `/base`",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_not_the_address_of_a_server_is_an_error() {
        for (written, part) in [
            (
                "127.0.0.1:3000",
                "the scheme is missing: `\"http://127.0.0.1:3000\"`",
            ),
            ("ftp://a", "a server is `http://"),
            ("http://a/api?x", "write `\"http://a/api\"`"),
            ("http://a?x", "has a query or a fragment"),
            ("http://a/base#x", "has a query or a fragment"),
            ("http://a//base", "such as `/base`"),
            ("http://a/x/../base", "such as `/base`"),
            ("http://a/x;y", "such as `/base`"),
            ("http://a/%2e%2e", "such as `/base`"),
            ("http://a/b%2fc", "such as `/base`"),
            ("http://user:secret@a/base", "holds a user or a password"),
            ("http://user:secret@a", "holds a user or a password"),
            ("user:secret@a", "holds a user or a password"),
            ("http://", "the host is missing"),
            ("http://:80", "the host is missing"),
            ("http://a:0", "the port is a number"),
            ("http://a:99999", "the port is a number"),
            ("http://a b", "cannot hold a space"),
            ("http://[::1", "`]` of an IPv6 address"),
            ("http://[zz]:1", "not an IPv6 address"),
            ("unix:", "needs the path of its socket"),
            ("unix://host/path", "needs the path of its socket"),
            ("", "a server is `http://"),
        ] {
            let error = ServerAddress::parse(written).err();
            let text = error.map_or_else(String::new, |error| format!("{} | {}", error.message, error.hint));
            assert!(
                text.contains(part) && !text.contains("secret"),
                "{written}: {text}"
            );
        }
    }
}
