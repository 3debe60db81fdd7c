//! The input of an endpoint: a JSON object or a form, and the parameters of a query.
//!
//! Input: the head and the body of a request. Output: the few known fields, each a text, or a refusal. Invariants: an endless
//! or slow body blocks nothing; no field has two meanings; the type is never guessed, so that a page of another site cannot
//! send JSON as `text/plain` without a preflight (Fetch standard, "CORS-safelisted request-header"); a password is wiped
//! after its use.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body::Body;
use http_body_util::BodyExt as _;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::response::EndpointError;
use crate::http::percent::escape_at;
use crate::refusal::Refusal;

/// The longest body, in bytes.
pub(super) const MAX_BYTES: usize = 16 * 1024;

/// How long a body may take to arrive. We hold nothing but this for it, and ten seconds are enough for one packet.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// In which way the fields came, and so the answer is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
    /// No body and no type.
    Empty,
}

/// The fields that some endpoint of ours reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Email,
    Password,
    Name,
    SetupToken,
    ReturnTo,
    Attempt,
    RefreshToken,
    CurrentPassword,
    NewPassword,
    State,
    Code,
    Issuer,
    Error,
    ErrorDescription,
    User,
    GrantType,
    CodeVerifier,
    RedirectUri,
    LogoutToken,
}

impl Field {
    const COUNT: usize = 19;

    /// JSON has the one spelling and forms the other; each is accepted in both.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "email" => Self::Email,
            "password" => Self::Password,
            "name" => Self::Name,
            "setup" => Self::SetupToken,
            "return_to" | "returnTo" => Self::ReturnTo,
            "attempt" => Self::Attempt,
            "refresh_token" | "refreshToken" => Self::RefreshToken,
            "current_password" | "currentPassword" => Self::CurrentPassword,
            "new_password" | "newPassword" => Self::NewPassword,
            "logout_token" => Self::LogoutToken,
            "state" => Self::State,
            "code" => Self::Code,
            "iss" => Self::Issuer,
            "error" => Self::Error,
            "error_description" => Self::ErrorDescription,
            "user" => Self::User,
            "grant_type" | "grantType" => Self::GrantType,
            "code_verifier" | "codeVerifier" => Self::CodeVerifier,
            "redirect_uri" | "redirectUri" => Self::RedirectUri,
            _ => return None,
        })
    }

    /// The name that a body of this kind has for it.
    pub(super) const fn name(self, kind: Kind) -> &'static str {
        let is_form = matches!(kind, Kind::Form);
        match self {
            Self::Email => "email",
            Self::Password => "password",
            Self::Name => "name",
            Self::SetupToken => "setup",
            Self::Attempt => "attempt",
            Self::ReturnTo if is_form => "return_to",
            Self::ReturnTo => "returnTo",
            Self::RefreshToken if is_form => "refresh_token",
            Self::RefreshToken => "refreshToken",
            Self::CurrentPassword if is_form => "current_password",
            Self::CurrentPassword => "currentPassword",
            Self::NewPassword if is_form => "new_password",
            Self::NewPassword => "newPassword",
            Self::LogoutToken => "logout_token",
            Self::State => "state",
            Self::Code => "code",
            Self::Issuer => "iss",
            Self::Error => "error",
            Self::ErrorDescription => "error_description",
            Self::User => "user",
            Self::GrantType if is_form => "grant_type",
            Self::GrantType => "grantType",
            Self::CodeVerifier if is_form => "code_verifier",
            Self::CodeVerifier => "codeVerifier",
            Self::RedirectUri if is_form => "redirect_uri",
            Self::RedirectUri => "redirectUri",
        }
    }
}

/// What was sent. Any of it may be a secret, so that all of it is wiped.
pub(super) struct Fields {
    kind: Kind,
    texts: [Option<Zeroizing<String>>; Field::COUNT],
    /// Fields that came, also as `null`.
    seen: [bool; Field::COUNT],
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields")
            .field("kind", &self.kind)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Fields {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            texts: [const { None }; Field::COUNT],
            seen: [false; Field::COUNT],
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether no field that we know came.
    pub(super) fn is_nothing(&self) -> bool {
        !self.seen.contains(&true)
    }

    /// Takes a field out. An empty one is none: that is what a form sends for a box that was left empty.
    pub(super) fn take(&mut self, field: Field) -> Option<Zeroizing<String>> {
        self.texts[field as usize].take().filter(|text| !text.is_empty())
    }

    /// The same where it cannot go without.
    ///
    /// # Errors
    /// `FormMalformed`, with its name.
    pub(super) fn require(&mut self, field: Field) -> Result<Zeroizing<String>, Box<EndpointError>> {
        self.take(field).ok_or_else(|| missing(self.kind, &[field]))
    }

    /// Whether all of these came, before the first one is taken.
    ///
    /// # Errors
    /// `FormMalformed`, with the names of those that did not.
    pub(super) fn require_all(&self, fields: &[Field]) -> Result<(), Box<EndpointError>> {
        let absent = |field: &Field| self.peek(*field).is_empty();
        let absent: Vec<Field> = fields.iter().copied().filter(absent).collect();
        if absent.is_empty() {
            Ok(())
        } else {
            Err(missing(self.kind, &absent))
        }
    }

    /// A field that stays, or nothing.
    pub(super) fn peek(&self, field: Field) -> &str {
        self.texts[field as usize].as_ref().map_or("", |text| text)
    }

    /// Says whether it is the first of its name.
    fn put(&mut self, field: Field, text: Option<Zeroizing<String>>) -> bool {
        let is_first = !std::mem::replace(&mut self.seen[field as usize], true);
        self.texts[field as usize] = text;
        is_first
    }
}

/// The refusal of a body without these fields, which it names.
fn missing(kind: Kind, fields: &[Field]) -> Box<EndpointError> {
    let names: Vec<String> = fields
        .iter()
        .map(|field| format!("`{}`", field.name(kind)))
        .collect();
    let mut failure: Box<EndpointError> = Refusal::FormMalformed.into();
    failure.field = fields.first().map(|field| field.name(kind));
    failure.detail = Some(match names.as_slice() {
        [name] => format!("The field {name} is missing."),
        names => format!("The fields {} are missing.", names.join(" and ")),
    });
    failure
}

/// Reads the body of a request.
///
/// # Errors
/// `FormTypeRefused`, `BodyTooLarge`, `ClientTimeout`, `FormMalformed`.
pub(super) async fn read<B: Body<Data = Bytes>>(headers: &HeaderMap, body: B) -> Result<Fields, Refusal> {
    read_within(headers, body, PATIENCE).await
}

async fn read_within<B: Body<Data = Bytes>>(
    headers: &HeaderMap,
    body: B,
    patience: Duration,
) -> Result<Fields, Refusal> {
    let kind = kind(headers)?;
    let body = tokio::time::timeout(patience, collect(body))
        .await
        .map_err(|_| Refusal::ClientTimeout)??;
    if body.is_empty() {
        return Ok(Fields::new(kind));
    }
    let fields = match kind {
        Kind::Empty => return Err(Refusal::FormTypeRefused),
        Kind::Json => read_json(&body),
        Kind::Form => read_form(&body),
    };
    fields.ok_or(Refusal::FormMalformed)
}

/// What `Content-Type` says. Anything that it says besides the two types, but for their one encoding, is refused.
fn kind(headers: &HeaderMap) -> Result<Kind, Refusal> {
    // What is packed would have to be unpacked to be seen, and would not be held to the limit.
    if headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Refusal::FormTypeRefused);
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let Some(first) = types.next() else {
        return Ok(Kind::Empty);
    };
    let text = first
        .to_str()
        .ok()
        .filter(|_| types.next().is_none())
        .ok_or(Refusal::FormTypeRefused)?;
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let is_utf8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    if !parameters.split(';').all(is_utf8) {
        return Err(Refusal::FormTypeRefused);
    }
    match essence.trim() {
        json if json.eq_ignore_ascii_case("application/json") => Ok(Kind::Json),
        form if form.eq_ignore_ascii_case("application/x-www-form-urlencoded") => Ok(Kind::Form),
        _ => Err(Refusal::FormTypeRefused),
    }
}

async fn collect<B: Body<Data = Bytes>>(body: B) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let hint = body.size_hint();
    if hint.lower() > MAX_BYTES as u64 {
        return Err(Refusal::BodyTooLarge);
    }
    // As large as it may get, so that it does not move and leave a copy behind.
    let room = hint
        .upper()
        .and_then(|most| usize::try_from(most).ok())
        .map_or(MAX_BYTES, |most| most.min(MAX_BYTES));
    let mut whole = Zeroizing::new(Vec::with_capacity(room));
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::FormMalformed)?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.remaining() > MAX_BYTES {
            return Err(Refusal::BodyTooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

/// A JSON object (RFC 8259): of the fields that we know each at most once, and a string, or `null` for none.
fn read_json(body: &[u8]) -> Option<Fields> {
    struct Object;

    impl<'de> Visitor<'de> for Object {
        type Value = Fields;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
            let mut fields = Fields::new(Kind::Json);
            while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                let Some(field) = Field::named(&name) else {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                };
                if !fields.put(field, map.next_value::<Option<String>>()?.map(Zeroizing::new)) {
                    return Err(A::Error::custom("a name stands twice"));
                }
            }
            Ok(fields)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let fields = deserializer.deserialize_map(Object).ok()?;
    deserializer.end().ok()?;
    Some(fields)
}

/// A form (URL standard, section 5.1), but that what browsers never send is refused instead of guessed at: a `%` without
/// two digits, bytes that are not UTF-8, a known name twice.
fn read_form(body: &[u8]) -> Option<Fields> {
    let mut fields = Fields::new(Kind::Form);
    for pair in body.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        let equals = memchr::memchr(b'=', pair);
        let (name, value) = equals.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
        let (name, value) = (decode(name)?, decode(value)?);
        let Some(field) = Field::named(&name) else {
            continue;
        };
        if !fields.put(field, Some(value)) {
            return None;
        }
    }
    Some(fields)
}

/// The value of a parameter of a query; `None` too where it stands twice or is not text.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<Zeroizing<String>> {
    let mut values = query?.split('&').filter_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        decode(found.as_bytes())
            .is_some_and(|found| *found == name)
            .then_some(value)
    });
    let value = values.next()?;
    values.next().is_none().then(|| decode(value.as_bytes()))?
}

/// The values of several parameters, none of which may stand twice, in whatever spelling; `None` where one does, or where one
/// cannot be decoded.
pub(super) fn parameters<const N: usize>(
    query: Option<&str>,
    names: [&str; N],
) -> Option<[Option<Zeroizing<String>>; N]> {
    let mut values = [const { None }; N];
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name.as_bytes())?;
        let Some(at) = names.iter().position(|wanted| *name == *wanted) else {
            continue;
        };
        if values[at].replace(decode(value.as_bytes())?).is_some() {
            return None;
        }
    }
    Some(values)
}

fn decode(encoded: &[u8]) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(encoded.len()));
    let mut at = 0;
    while let Some(&byte) = encoded.get(at) {
        let (decoded, length) = match byte {
            b'+' => (b' ', 1),
            b'%' => (escape_at(encoded, at)?, 3),
            byte => (byte, 1),
        };
        bytes.push(decoded);
        at += length;
    }
    Some(Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned()))
}
