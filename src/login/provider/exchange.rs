//! A code becomes claims: the token endpoint, the ID token, and userinfo.
//!
//! Input: the code that a browser came back with, and the secrets of its attempt. Output: [`Profile`], or a refusal with a
//! line in the log. Invariants: signature, `iss`, `aud` and times are judged by [`Verifier`], as those of bearer tokens are;
//! nonce, `azp` and `at_hash` are judged here; userinfo of another subject is no claim; no log has a code or a token.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::attempt::Secrets;
use super::config::{ClientAuthentication, ProviderPlan};
use super::metadata::{Metadata, Source, shown};
use crate::clock::UnixSeconds;
use crate::http::url::Url;
use crate::net::client;
use crate::refusal::Refusal;
use crate::verify::{Issuer, Verified, Verifier, parse_object, read_unverified, roles_of};

/// The longest answer of the token endpoint and of userinfo, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// The longest subject, in bytes (OpenID Connect Core 1.0 section 2).
const MAX_SUBJECT: usize = 255;

/// All but the unreserved characters (RFC 3986 section 2.3).
const IN_FORM: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `text` as a value of `application/x-www-form-urlencoded`.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, &IN_FORM).to_string()
}

/// What a provider says about who signs in.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) subject: String,
    /// Whether it is verified is in `email_verified`.
    pub(super) email: Option<String>,
    pub(super) email_verified: bool,
    pub(super) name: Option<String>,
    /// The values of `roles_claims`.
    pub(super) groups: Vec<String>,
}

/// What an exchange needs of its provider.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) plan: &'a ProviderPlan,
    pub(super) source: &'a Source,
    pub(super) issuer: &'a Issuer,
    pub(super) verifier: &'a Verifier,
    pub(super) metadata: &'a Metadata,
    pub(super) now: UnixSeconds,
}

/// The answer of the token endpoint.
struct Tokens {
    id_token: Zeroizing<String>,
    access_token: Option<Zeroizing<String>>,
}

impl Exchange<'_> {
    /// # Errors
    /// `ProviderUnavailable`, `ProviderRefused`, `IdTokenRefused`.
    pub(super) async fn run(
        &self,
        code: &str,
        secrets: &Secrets,
        redirect_uri: &str,
    ) -> Result<Profile, Refusal> {
        let tokens = self.redeem(code, secrets, redirect_uri).await?;
        let verified = self.verify(&tokens.id_token).await?;
        let identity = &verified.caller.identity;
        let access_token = tokens.access_token.as_deref().map(String::as_str);
        self.check(&identity.claims, &tokens.id_token, access_token, &secrets.nonce)
            .map_err(|reason| self.refuse_token(reason))?;
        let subject = identity.subject.clone();
        if subject.len() > MAX_SUBJECT || subject.chars().any(char::is_control) {
            return Err(self.refuse_token("`sub` is longer than 255 bytes or has control characters"));
        }
        let mut claims = identity.claims.clone();
        if let Some(token) = access_token.filter(|_| self.lacks(&claims)) {
            self.add_userinfo(&mut claims, &subject, token).await?;
        }
        Ok(self.profile(subject, &claims))
    }

    fn refuse_token(&self, reason: &str) -> Refusal {
        tracing::warn!(
            provider = self.plan.name,
            reason,
            "the ID token of a provider is refused"
        );
        Refusal::IdTokenRefused
    }

    async fn send(&self, url: &Url, request: Request<Bytes>) -> Result<Response<Bytes>, Refusal> {
        let answer = self.plan.client.send(url, request, MAX_BODY_BYTES).await;
        answer.map_err(|error| {
            tracing::warn!(provider = self.plan.name, %error, "a provider does not answer");
            Refusal::ProviderUnavailable
        })
    }

    async fn redeem(&self, code: &str, secrets: &Secrets, redirect_uri: &str) -> Result<Tokens, Refusal> {
        let (plan, url) = (self.plan, &self.metadata.token);
        let mut form = Zeroizing::new(format!(
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={}",
            encode(code),
            encode(redirect_uri),
            encode(&secrets.verifier)
        ));
        let mut request = Request::post("/");
        match &plan.authentication {
            ClientAuthentication::Basic(secret) => {
                request = request.header(header::AUTHORIZATION, basic(&plan.client_id, secret)?);
            }
            ClientAuthentication::Post(secret) => {
                form.push_str("&client_id=");
                form.push_str(&encode(&plan.client_id));
                form.push_str("&client_secret=");
                form.push_str(&encode(secret));
            }
            ClientAuthentication::None => {
                form.push_str("&client_id=");
                form.push_str(&encode(&plan.client_id));
            }
        }
        let request = request
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(Bytes::from(form.as_bytes().to_vec()))
            .map_err(|_| Refusal::Internal)?;
        let answer = self.send(url, request).await?;
        let status = answer.status();
        let document = parse_object(answer.body()).ok();
        if status != StatusCode::OK {
            let said = |name: &str| {
                let text = document.as_ref()?.get(name)?.as_str()?;
                Some(shown(text))
            };
            let (error, description) = (said("error"), said("error_description"));
            tracing::warn!(
                provider = plan.name, %status, error, description,
                "the token endpoint of a provider refused a code"
            );
            return Err(if status.is_server_error() {
                Refusal::ProviderUnavailable
            } else {
                Refusal::ProviderRefused
            });
        }
        let refused = |reason: &str| {
            tracing::warn!(
                provider = plan.name,
                reason,
                "the answer of a token endpoint cannot be used"
            );
            Refusal::ProviderRefused
        };
        let document = document.ok_or_else(|| refused("it is not a JSON object"))?;
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        if !text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err(refused("`token_type` is not `Bearer`"));
        }
        let id_token = text("id_token").ok_or_else(|| refused("it has no `id_token`"))?;
        Ok(Tokens {
            id_token: Zeroizing::new(id_token.to_owned()),
            access_token: text("access_token").map(|token| Zeroizing::new(token.to_owned())),
        })
    }

    /// A key that is not known yet is looked for once.
    async fn verify(&self, id_token: &str) -> Result<Arc<Verified>, Refusal> {
        let (plan, source) = (self.plan, self.source);
        source.freshen_keys(plan, self.metadata, self.issuer).await;
        let examine = || self.verifier.examine(id_token, self.now, &mut |_| {});
        let outcome = match examine() {
            Err(Refusal::KeyUnknown | Refusal::KeysUnavailable) => {
                source.find_key(plan, self.metadata, self.issuer).await;
                examine()
            }
            outcome => outcome,
        };
        outcome.map_err(|refusal| match refusal {
            Refusal::KeysUnavailable => Refusal::ProviderUnavailable,
            Refusal::StateUnavailable | Refusal::Internal => refusal,
            refusal => self.refuse_token(refusal.reason()),
        })
    }

    /// What an ID token has beside what every token has (OpenID Connect Core 1.0 section 3.1.3.7).
    fn check(
        &self,
        claims: &Map<String, Value>,
        id_token: &str,
        access_token: Option<&str>,
        nonce: &str,
    ) -> Result<(), &'static str> {
        let own = claims.get("nonce").and_then(Value::as_str).unwrap_or_default();
        if !bool::from(own.as_bytes().ct_eq(nonce.as_bytes())) {
            return Err("`nonce` is not that of the sign-in");
        }
        if !claims.contains_key("iat") {
            return Err("`iat` is missing");
        }
        let is_for_several = claims
            .get("aud")
            .and_then(Value::as_array)
            .is_some_and(|aud| aud.len() > 1);
        match claims.get("azp") {
            Some(Value::String(azp)) if *azp == self.plan.client_id => {}
            None if !is_for_several => {}
            None => return Err("`aud` has several values and `azp` is missing"),
            Some(_) => return Err("`azp` is another client"),
        }
        match (claims.get("at_hash"), access_token) {
            (None, _) => Ok(()),
            (Some(Value::String(hash)), Some(token))
                if at_hash(id_token, token).is_some_and(|expected| expected == *hash) =>
            {
                Ok(())
            }
            (Some(_), _) => Err("`at_hash` is not that of the access token"),
        }
    }

    /// Whether userinfo may have more.
    fn lacks(&self, claims: &Map<String, Value>) -> bool {
        let asks_for = |scope: &str| self.plan.scope.split(' ').any(|asked| asked == scope);
        let lacks = |name: &str| !claims.contains_key(name);
        (asks_for("email") && (lacks("email") || lacks("email_verified")))
            || (asks_for("profile") && lacks("name"))
            || self
                .plan
                .roles_claims
                .iter()
                .any(|path| path.find(claims).is_none())
    }

    /// Adds the claims of userinfo that are missing (OpenID Connect Core 1.0 section 5.3).
    async fn add_userinfo(
        &self,
        claims: &mut Map<String, Value>,
        subject: &str,
        access_token: &str,
    ) -> Result<(), Refusal> {
        let Some(url) = &self.metadata.userinfo else {
            return Ok(());
        };
        let plan = self.plan;
        let refused = |reason: &str| {
            tracing::warn!(
                provider = plan.name,
                reason,
                "userinfo of a provider cannot be used"
            );
            Refusal::ProviderRefused
        };
        let bearer = client::bearer(access_token.as_bytes())
            .map_err(|_| refused("the access token has other characters than visible ASCII ones"))?;
        let request = Request::get("/")
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, "application/json")
            .body(Bytes::new())
            .map_err(|_| Refusal::Internal)?;
        let answer = self.send(url, request).await?;
        if answer.status() != StatusCode::OK {
            return Err(refused("its status is not 200"));
        }
        let found = parse_object(answer.body()).map_err(|_| refused("it is not a JSON object"))?;
        if found.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(refused("`sub` is another subject than that of the ID token"));
        }
        merge(claims, found);
        Ok(())
    }

    fn profile(&self, subject: String, claims: &Map<String, Value>) -> Profile {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let email = text("email").filter(|email| crate::account::is_email(email));
        // Some providers write it as a string. What is missing is not verified.
        let email_verified = match claims.get("email_verified") {
            Some(Value::Bool(verified)) => *verified,
            Some(Value::String(verified)) => verified == "true",
            _ => false,
        };
        let name = text("name").and_then(|name| crate::account::parse_name(name).ok().flatten());
        Profile {
            subject,
            email_verified: email_verified && email.is_some(),
            email: email.map(str::to_owned),
            name,
            groups: roles_of(claims, self.issuer),
        }
    }
}

/// Whether an address is verified is said about that address alone.
fn merge(claims: &mut Map<String, Value>, mut found: Map<String, Value>) {
    let is_same_address = !claims.contains_key("email") || claims.get("email") == found.get("email");
    if !is_same_address {
        found.remove("email_verified");
    }
    // A verdict about an address that the ID token does not name is about none.
    if !claims.contains_key("email") {
        claims.remove("email_verified");
    }
    for (name, value) in found {
        claims.entry(name).or_insert(value);
    }
}

/// `Basic` with both parts form-encoded first (RFC 6749 section 2.3.1).
fn basic(client_id: &str, secret: &str) -> Result<HeaderValue, Refusal> {
    let pair = Zeroizing::new(format!("{}:{}", encode(client_id), encode(secret)));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::try_from(text.as_str()).map_err(|_| Refusal::Internal)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The left half of the hash of the access token, by the hash of the ID token's algorithm (OpenID Connect Core 1.0
/// section 3.1.3.6).
fn at_hash(id_token: &str, access_token: &str) -> Option<String> {
    let header = read_unverified(id_token).ok()?.header;
    let algorithm = match header.get("alg")?.as_str()? {
        "RS256" | "PS256" | "ES256" => &digest::SHA256,
        "RS384" | "PS384" | "ES384" => &digest::SHA384,
        "RS512" | "PS512" | "ES512" | "EdDSA" | "Ed25519" => &digest::SHA512,
        _ => return None,
    };
    let hash = digest::digest(algorithm, access_token.as_bytes());
    let hash = hash.as_ref();
    Some(URL_SAFE_NO_PAD.encode(&hash[..hash.len() / 2]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn basic_is_form_encoded_first() {
        let value = basic("a:b", "p ss%/ä").expect("a header value");
        assert!(value.is_sensitive());
        let text = value
            .to_str()
            .expect("ASCII")
            .strip_prefix("Basic ")
            .expect("Basic");
        let pair = STANDARD.decode(text).expect("base64");
        assert_eq!(String::from_utf8_lossy(&pair), "a%3Ab:p%20ss%25%2F%C3%A4");
    }

    #[test]
    fn whether_an_address_is_verified_stays_with_the_address() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let merged = |own: Value, found: Value| {
            let mut claims = object(own);
            merge(&mut claims, object(found));
            Value::Object(claims)
        };
        assert_eq!(
            merged(
                json!({"email": "a@b"}),
                json!({"email": "c@d", "email_verified": true})
            ),
            json!({"email": "a@b"})
        );
        assert_eq!(
            merged(
                json!({"email": "a@b"}),
                json!({"email": "a@b", "email_verified": true})
            ),
            json!({"email": "a@b", "email_verified": true})
        );
        assert_eq!(
            merged(json!({"email_verified": true}), json!({"email": "c@d"})),
            json!({"email": "c@d"})
        );
        assert_eq!(
            merged(
                json!({"iss": "i", "name": "n"}),
                json!({"iss": "j", "name": "m", "x": 1})
            ),
            json!({"iss": "i", "name": "n", "x": 1})
        );
    }
}
