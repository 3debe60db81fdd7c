//! What kind of token it is: `typ` (RFC 7515 section 4.1.9, RFC 8725 section 3.11).
//!
//! Enters: the header of a token and the rule of its issuer. Leaves: nothing, or [`Refusal::TokenType`]. A token that an
//! issuer made for another purpose, and signed with the same key, must not name a caller.

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// Kinds that an issuer signs for purposes other than calling an app. Ours stand first; the rest are the media types
/// with `+jwt` in the IANA registry and in drafts in use that are not access tokens or ID tokens.
const OTHER_KINDS: &[&str] = &[
    "session+jwt",
    "assertion+jwt",
    "client-authentication+jwt",
    "dpop+jwt",
    "entity-statement+jwt",
    "explicit-registration-response+jwt",
    "jwk-set+jwt",
    "kb+jwt",
    "key-attestation+jwt",
    "logout+jwt",
    "oauth-authz-req+jwt",
    "oauth-client-attestation+jwt",
    "oauth-client-attestation-pop+jwt",
    "openid4vci-proof+jwt",
    "provider-configuration+jwt",
    "refresh+jwt",
    "resolve-response+jwt",
    "rt+jwt",
    "secevent+jwt",
    "statuslist+jwt",
    "token-introspection+jwt",
    "trust-mark+jwt",
    "trust-mark-delegation+jwt",
    "trust-mark-status-response+jwt",
    "txntoken+jwt",
    "wit+jwt",
    "wpt+jwt",
    "dc+sd-jwt",
    "vc+sd-jwt",
    "vc+jwt",
    "vp+jwt",
];

/// Which `typ` an issuer's tokens may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeRule {
    /// None at all, or any that is not known to be of another kind: issuers differ (`JWT`, `at+jwt`, their own).
    NotAnotherKind,
    /// The same without access tokens (RFC 9068): for ID tokens.
    IdToken,
    /// This one. For our own tokens, whose kinds we know.
    Exactly(&'static str),
}

impl TypeRule {
    /// Whether a token with this header may be used.
    pub(super) fn check(self, header: &Map<String, Value>) -> Result<(), Refusal> {
        let kind = match header.get("typ") {
            None => None,
            Some(Value::String(typ)) => Some(short_name(typ)),
            Some(_) => return Err(Refusal::TokenType),
        };
        let is_accepted = match (self, kind) {
            (Self::NotAnotherKind | Self::IdToken, None) => true,
            (Self::IdToken, Some(kind)) if kind.eq_ignore_ascii_case("at+jwt") => false,
            (Self::NotAnotherKind | Self::IdToken, Some(kind)) => {
                !OTHER_KINDS.iter().any(|known| known.eq_ignore_ascii_case(kind))
            }
            (Self::Exactly(_), None) => false,
            (Self::Exactly(wanted), Some(kind)) => wanted.eq_ignore_ascii_case(kind),
        };
        if is_accepted {
            Ok(())
        } else {
            Err(Refusal::TokenType)
        }
    }
}

/// A media type as `typ` should write it, without `application/` (RFC 7515 section 4.1.9).
fn short_name(typ: &str) -> &str {
    const PREFIX: &str = "application/";
    match typ.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &typ[PREFIX.len()..],
        _ => typ,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(rule: TypeRule, typ: &Value) -> bool {
        let header = json!({"typ": typ});
        rule.check(header.as_object().expect("an object")).is_ok()
    }

    #[test]
    fn a_token_of_another_kind_is_refused_however_its_name_is_written() {
        let rule = TypeRule::NotAnotherKind;
        for typ in [
            "JWT",
            "jwt",
            "at+jwt",
            "application/at+jwt",
            "",
            "example",
            "application/",
        ] {
            assert!(check(rule, &json!(typ)), "{typ}");
        }
        for typ in [
            "session+jwt",
            "Session+JWT",
            "application/session+jwt",
            "APPLICATION/assertion+jwt",
            "logout+jwt",
            "dpop+jwt",
            "application/secevent+jwt",
        ] {
            assert!(!check(rule, &json!(typ)), "{typ}");
        }
        for typ in [json!(null), json!(1), json!(["JWT"]), json!({})] {
            assert!(!check(rule, &typ), "{typ}");
        }
        assert!(rule.check(&Map::new()).is_ok());
    }

    #[test]
    fn our_own_tokens_are_of_exactly_their_kind() {
        let rule = TypeRule::Exactly("at+jwt");
        assert!(check(rule, &json!("at+jwt")) && check(rule, &json!("application/AT+JWT")));
        for typ in ["JWT", "session+jwt", "assertion+jwt", ""] {
            assert!(!check(rule, &json!(typ)), "{typ}");
        }
        assert_eq!(rule.check(&Map::new()), Err(Refusal::TokenType));
    }
}
