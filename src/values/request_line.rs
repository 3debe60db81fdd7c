//! A request that is only described: in `[[tests]]`, or to `explain`.

use std::fmt;
use std::str::FromStr;

use http::{Method, Uri};

use super::bad_value::BadValue;
use super::scalar::is_token;
use super::suggest::echo;
use crate::http::headers::Host;
use crate::http::url;

/// A method and the path on some host, or the whole URL.
#[derive(Clone, Debug)]
pub struct RequestLine {
    /// The method.
    pub method: Method,
    /// That of the URL; `None` where only a path was written.
    pub host: Option<Host>,
    /// The path and the query.
    pub uri: Uri,
    /// Whether it is an `https://` URL.
    pub is_https: bool,
    text: Box<str>,
}

impl RequestLine {
    /// `url` is a path, or `http://host/path`; a fragment is left out.
    ///
    /// # Errors
    /// What is wrong with one of the two.
    pub fn parse(method: &str, url: &str) -> Result<Self, String> {
        let text = format!("{method} {url}").into();
        let method = Method::try_from(method).map_err(|_| format!("`{method}` is not a method"))?;
        let url = url.split_once('#').map_or(url, |(url, _)| url);
        // Not as strict as a `Url`: what the gateway says of an odd target is to be seen.
        let (authority, target) = match url::split(url) {
            Some((_, authority, "")) => (Some(authority), "/"),
            Some((_, authority, rest)) => (Some(authority), rest),
            None => (None, url),
        };
        let slash = if target.starts_with('?') { "/" } else { "" };
        let target = format!("{slash}{target}");
        if !target.starts_with('/') {
            return Err(format!(
                "`{url}` is neither a path that starts with `/` nor a URL"
            ));
        }
        let uri =
            Uri::try_from(target).map_err(|error| format!("`{url}` is no target of a request: {error}"))?;
        let host = authority
            .map(|authority| Host::parse(authority).map_err(|_| format!("`{authority}` is not a host")));
        Ok(Self {
            method,
            host: host.transpose()?,
            uri,
            is_https: url.starts_with("https://"),
            text,
        })
    }
}

impl FromStr for RequestLine {
    type Err = BadValue;

    /// `GET /path` or `GET http://host/path`.
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let (method, url) = text.split_once(' ').unwrap_or_default();
        let begins_well = ["/", "http://", "https://"]
            .iter()
            .any(|start| url.starts_with(start));
        if !is_token(method) || !begins_well || url.contains(' ') {
            let message = format!("`request` must be a method and a path, found `{}`", echo(text));
            return Err(BadValue::new(
                message,
                "write `GET /path` or `GET http://host/path`",
            ));
        }
        Self::parse(method, url)
            .map_err(|error| BadValue::new(error, "write it like `GET /path` or `POST https://host/path`"))
    }
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
