//! Names and values of header fields that an operator sets or names.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use http::{HeaderName, HeaderValue};

/// The name of a header field, which prints as it was written (RFC 9110 section 5.1).
#[derive(Clone, Debug)]
pub struct FieldName {
    name: HeaderName,
    written: Box<str>,
}

impl FromStr for FieldName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match HeaderName::try_from(text) {
            Ok(name) => Ok(Self {
                name,
                written: text.into(),
            }),
            Err(_) => Err("letters, digits and hyphens, like `X-Real-IP`".to_owned()),
        }
    }
}

impl Deref for FieldName {
    type Target = HeaderName;
    fn deref(&self) -> &HeaderName {
        &self.name
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl FieldName {
    /// The name, where the gateway does not write this field itself (RFC 9110 section 7.6.1).
    ///
    /// # Errors
    /// The name is no token, or the field belongs to the connection or the message.
    pub fn settable(text: &str) -> Result<Self, String> {
        const OURS: [&str; 9] = [
            "connection",
            "content-length",
            "host",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
        ];
        let name: Self = text
            .parse()
            .map_err(|_| "a header name is made of letters, digits and `-`")?;
        // An app may read `_` as `-` (CGI does), so the name is checked as such an app would read it.
        let folded = name.as_str().replace('_', "-");
        if folded == "host" {
            return Err("the Host header of an app is `host = \"…\"` in its upstream".to_owned());
        }
        if OURS.contains(&folded.as_str()) || folded.starts_with("proxy-") {
            return Err("this field belongs to the connection, and the gateway writes it itself".to_owned());
        }
        Ok(name)
    }
}

/// The value of a header field: visible ASCII, with spaces inside; it may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValue(pub HeaderValue);

impl FromStr for FieldValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text != text.trim() {
            return Err("spaces at either end do not arrive; leave them out".to_owned());
        }
        if let Some(char) = text.chars().find(|char| !char.is_ascii_graphic() && *char != ' ') {
            return Err(format!(
                "a header value is visible ASCII; `{}` is not",
                char.escape_default()
            ));
        }
        HeaderValue::try_from(text)
            .map(Self)
            .map_err(|_| "a header value is visible ASCII".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_connection_cannot_be_named_in_any_spelling() {
        assert_eq!(
            FieldName::settable("X-Env").map(|name| name.as_str().to_owned()),
            Ok("x-env".to_owned())
        );
        for text in [
            "",
            "X Env",
            "X:",
            "Ä",
            "Connection",
            "Transfer_Encoding",
            "HOST",
            "Proxy-Authorization",
            "te",
        ] {
            assert!(FieldName::settable(text).is_err(), "{text}");
        }
        assert!("a b".parse::<FieldValue>().is_ok() && "".parse::<FieldValue>().is_ok());
        for text in ["a\r\nb", "ä", " a", "a\t"] {
            assert!(text.parse::<FieldValue>().is_err(), "{text:?}");
        }
    }
}
