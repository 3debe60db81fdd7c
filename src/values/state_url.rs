//! Where the state is.

use std::ops::Deref;
use std::str::FromStr;

use super::bad_value::BadValue;
use super::suggest::echo;

/// `sqlite:` and the path of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateUrl(String);

impl FromStr for StateUrl {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        const HINT: &str = "write `\"sqlite:passgate.db\"`";
        // With three slashes, as other programs write an absolute path in such a URL.
        if let Some(path) = text
            .strip_prefix("sqlite:///")
            .filter(|path| !path.is_empty() && !path.starts_with('/'))
        {
            return Ok(Self(format!("sqlite:/{path}")));
        }
        Err(match text.split_once(':') {
            Some(("sqlite", ":memory:")) => BadValue::new("a state in memory forgets revocations", HINT),
            Some(("sqlite", path)) if !path.is_empty() && !path.starts_with("//") => {
                return Ok(Self(text.to_owned()));
            }
            Some(("sqlite", path)) => {
                let hint = match path.trim_start_matches('/') {
                    "" => HINT.to_owned(),
                    path => format!(
                        "a path follows the colon: `\"sqlite:{0}\"` beside this file, or `\"sqlite:/{0}\"`",
                        echo(path)
                    ),
                };
                BadValue::new("`url` names no file", hint)
            }
            Some(("postgres" | "postgresql", _)) => {
                BadValue::new("`postgres://` is not available in this version", HINT)
            }
            _ => {
                let message = format!("`url` must be `sqlite:` and a path, found `{}`", echo(text));
                BadValue::new(message, HINT)
            }
        })
    }
}

impl Deref for StateUrl {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}
