//! ID tokens: what signs a user in was signed by the provider, for this gateway and this sign-in, and is not over.
//!
//! Input: the claims of an ID token that is signed here; and, as it is, an ID token.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use libfuzzer_sys::fuzz_target;
use passgate::internals::login::Trial;
use passgate::internals::refusal::Refusal;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

const NOW: i64 = 1_800_000_000;
/// Of clocks, in seconds.
const LEEWAY: i64 = 30;

static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes"));

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    static TRIAL: Trial = {
        let x = BASE64URL.encode(KEY.public_key());
        let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k" }] });
        let control = RUNTIME.with(|runtime| runtime.handle().clone());
        let trial = Trial::new(keys.to_string().as_bytes(), control).expect("a provider");
        let right = json!({
            "iss": Trial::ISSUER, "aud": Trial::CLIENT_ID, "sub": "ann", "nonce": Trial::NONCE,
            "iat": NOW, "exp": NOW + 60,
        });
        let signed = RUNTIME.with(|runtime| runtime.block_on(trial.sign_in(&sign(right.to_string().as_bytes()), NOW)));
        assert_eq!(signed.map(|user| user.subject), Ok("ann".to_owned()), "a right token is refused");
        trial
    };
}

fuzz_target!(|input: &[u8]| {
    if let Ok(token) = std::str::from_utf8(input) {
        assert!(sign_in(token).is_err(), "nothing else has the key");
    }
    let token = sign(input);
    let Ok(subject) = sign_in(&token) else { return };
    let claims: Value = serde_json::from_slice(input).expect("claims that others read");
    let text = |name: &str| claims[name].as_str();
    assert_eq!(text("iss"), Some(Trial::ISSUER));
    assert_eq!(text("nonce"), Some(Trial::NONCE));
    assert_eq!(text("sub"), Some(&*subject));
    assert!(!subject.is_empty() && subject.len() <= 255 && !subject.chars().any(char::is_control));
    let audiences = match &claims["aud"] {
        Value::Array(audiences) => audiences.clone(),
        one => vec![one.clone()],
    };
    assert!(audiences.contains(&json!(Trial::CLIENT_ID)));
    let azp = claims.get("azp").map(|azp| azp == Trial::CLIENT_ID);
    assert!(azp.unwrap_or(audiences.len() == 1));
    let number = |name: &str| claims[name].as_f64().expect("a number");
    let now = NOW as f64;
    assert!(number("exp") > now - LEEWAY as f64 - 1.0);
    assert!(number("iat") <= now + LEEWAY as f64 + 1.0);
    if claims.get("nbf").is_some() {
        assert!(number("nbf") <= now + LEEWAY as f64 + 1.0);
    }
    if let Some(hash) = claims.get("at_hash") {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, Trial::ACCESS_TOKEN.as_bytes());
        assert_eq!(hash.as_str(), Some(&*BASE64URL.encode(&digest.as_ref()[..32])));
    }
    // The same claims by another key, or by none, sign no user in.
    let (signing_input, _) = token.rsplit_once('.').expect("three parts");
    let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).expect("32 bytes");
    let forged = BASE64URL.encode(other.sign(signing_input.as_bytes()));
    assert!(sign_in(&format!("{signing_input}.{forged}")).is_err());
    let none = format!(
        "{}.{}.",
        BASE64URL.encode(r#"{"alg":"none"}"#),
        BASE64URL.encode(input)
    );
    assert!(sign_in(&none).is_err());
});

fn sign_in(token: &str) -> Result<String, Refusal> {
    TRIAL.with(|trial| {
        let user = RUNTIME.with(|runtime| runtime.block_on(trial.sign_in(token, NOW)));
        user.map(|user| user.subject)
    })
}

fn sign(claims: &[u8]) -> String {
    let header = BASE64URL.encode(r#"{"alg":"EdDSA","kid":"k"}"#);
    let signing_input = format!("{header}.{}", BASE64URL.encode(claims));
    let signature = KEY.sign(signing_input.as_bytes());
    format!("{signing_input}.{}", BASE64URL.encode(signature))
}
