//! Claims and userinfo: a user has the address, the name and the groups that the provider says, and an address counts only where
//! the document that has it marks it as verified.
//!
//! Input: the claims of an ID token, a line break, and userinfo.
#![no_main]

use libfuzzer_sys::fuzz_target;
use passgate::internals::login::Trial;
use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};

const KEYS: &[u8] =
    br#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime");
    static TRIAL: Trial =
        Trial::new(KEYS, RUNTIME.with(|runtime| runtime.handle().clone())).expect("a provider");
}

fuzz_target!(|input: &[u8]| {
    let cut = input
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(input.len());
    let (claims, userinfo) = (&input[..cut], input.get(cut + 1..).unwrap_or_default());
    let Some(user) = TRIAL.with(|trial| trial.user(claims, userinfo)) else {
        return;
    };
    let read = |bytes| serde_json::from_slice::<Map<String, Value>>(bytes).expect("an object");
    let documents = [read(claims), read(userinfo)];
    let says =
        |document: &Map<String, Value>, email: &str| document.get("email").is_some_and(|own| own == email);
    match &user.email {
        None => assert!(!user.email_verified),
        Some(email) => {
            assert!(email.contains('@') && email.len() <= 254 && !email.chars().any(char::is_control));
            assert!(documents.iter().any(|document| says(document, email)));
            let verifies = |document: &Map<String, Value>| {
                let verified = document.get("email_verified");
                says(document, email)
                    && verified.is_some_and(|verified| verified == true || verified == "true")
            };
            assert_eq!(user.email_verified, is_verified(&documents, verifies), "{email}");
        }
    }
    if let Some(name) = &user.name {
        assert!(!name.is_empty() && !name.chars().any(char::is_control));
    }
});

/// The verdict of the ID token comes before that of userinfo.
fn is_verified(documents: &[Map<String, Value>; 2], verifies: impl Fn(&Map<String, Value>) -> bool) -> bool {
    let [claims, userinfo] = documents;
    match claims.get("email") {
        Some(_) if claims.contains_key("email_verified") => verifies(claims),
        _ => verifies(userinfo),
    }
}
