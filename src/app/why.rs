//! `passgate why`: the decision about a request that was made, as the running gateway remembers it.
//!
//! Input: a request id. Output: the decision as text and as JSON. Invariant: an id that no request can have is not sent.

use std::path::Path;

use serde_json::Value;

use super::{Failure, admin_client, decisions};
use crate::http::percent::push_escape;

/// The longest id.
const MAX_ID: usize = 128;

/// A decision that was made.
#[derive(Debug)]
pub(crate) struct Why {
    /// Whether the request was allowed.
    pub(crate) allowed: bool,
    /// For people.
    pub(crate) text: String,
    /// For programs.
    pub(crate) json: Value,
}

/// Asks the gateway that runs with `file`.
///
/// # Errors
/// The id or the file cannot be used, no gateway runs, or it does not remember the request.
pub(crate) fn why(file: &Path, request_id: &str) -> Result<Why, Failure> {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:=+/@".contains(&byte);
    if request_id.is_empty() || request_id.len() > MAX_ID || !request_id.bytes().all(is_id) {
        return Err(Failure::Config(
            "error: this is no request id\nhint: it is in `X-Request-Id` of the answer, on the error page, and in the access log\n"
                .to_owned(),
        ));
    }
    let mut path = "/decisions/".to_owned();
    for byte in request_id.bytes() {
        match byte {
            b'/' | b':' | b'=' | b'+' | b'@' => push_escape(&mut path, byte),
            byte => path.push(char::from(byte)),
        }
    }
    let json = admin_client::ask(file, &path)?.ok_or_else(|| {
        Failure::Refused(format!(
            "error: the gateway does not remember the request `{request_id}`\n\
             hint: it remembers the last requests since its start, about 2000 that were refused and 2000 that were allowed; \
             the access log has a line of each\n"
        ))
    })?;
    Ok(Why {
        allowed: json["decision"] == "allow",
        text: decisions::text(&json),
        json,
    })
}
