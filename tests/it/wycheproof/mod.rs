//! Known signatures, good and bad, through the entry that the verifier itself uses.
//!
//! With `PASSGATE_WYCHEPROOF` naming the directory of project Wycheproof's vectors, all of its JWS, JWK and mixed vectors
//! run; without it, a smaller set of our own in the same form, which was signed by another library (`tests/wycheproof/`).

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

use std::path::Path;

use passgate::internals::verify::{Algorithm, KeySet, Origin, verify_signature};
use serde_json::{Value, json};

/// Vectors of a file about which we say the opposite, each with the reason.
type Exceptions = &'static [(u64, &'static str)];

const OF_SIGNATURES: Exceptions = &[
    (367, "calls invalid what 357 calls valid, byte for byte"),
    (370, "calls invalid what 357 calls valid, byte for byte"),
    (346, "a PS384 signature by a key that is bound to PS256"),
    (350, "a PS384 signature by a key that is bound to PS256"),
    (372, "a character outside base64url"),
    (373, "a character outside base64url"),
];

/// Valid vectors that passed, invalid ones that were refused, and exceptions met.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    valid: usize,
    invalid: usize,
    exceptions: usize,
}

fn run(text: &str, exceptions: Exceptions) -> Counts {
    let file: Value = serde_json::from_str(text).unwrap();
    let mut counts = Counts::default();
    let mut wrong = Vec::new();
    for group in file["testGroups"].as_array().unwrap() {
        // A shared secret stands under `private` alone.
        let keys = group.get("public").unwrap_or(&group["private"]);
        let set = if keys.get("keys").is_some() {
            keys.clone()
        } else {
            json!({ "keys": [keys] })
        };
        let set = KeySet::from_jwks(set.to_string().as_bytes(), Origin::File);
        for test in group["tests"].as_array().unwrap() {
            let Some(jws) = test.get("jws") else { continue };
            let token = jws.as_str().map_or_else(|| jws.to_string(), str::to_owned);
            let is_accepted = set
                .as_ref()
                .is_ok_and(|(keys, _)| verify_signature(&token, keys, Algorithm::ALL).is_ok());
            let is_valid = test["result"] == "valid";
            let id = test["tcId"].as_u64().unwrap();
            let is_exception = exceptions.iter().any(|(exception, _)| *exception == id);
            match (is_accepted == is_valid, is_exception) {
                (true, false) if is_valid => counts.valid += 1,
                (true, false) => counts.invalid += 1,
                (false, true) => counts.exceptions += 1,
                _ => wrong.push(format!(
                    "{id} ({}, {}): accepted {is_accepted}",
                    group["comment"], test["comment"]
                )),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} vectors went wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    counts
}

#[test]
fn signatures_made_by_another_library() {
    let counts = run(include_str!("own.json"), &[]);
    println!("own vectors: {counts:?}");
    assert_eq!(
        counts,
        Counts {
            valid: 13,
            invalid: 72,
            exceptions: 0
        }
    );
}

#[test]
fn project_wycheproof() {
    let Some(directory) = std::env::var_os("PASSGATE_WYCHEPROOF") else {
        println!("PASSGATE_WYCHEPROOF is not set: only our own vectors run");
        return;
    };
    for (name, exceptions, expected) in [
        (
            "json_web_signature_test.json",
            OF_SIGNATURES,
            Counts {
                valid: 42,
                invalid: 353,
                exceptions: 6,
            },
        ),
        (
            "json_web_key_test.json",
            &[],
            Counts {
                valid: 5,
                invalid: 21,
                exceptions: 0,
            },
        ),
        (
            "json_web_crypto_test.json",
            &[],
            Counts {
                valid: 4,
                invalid: 45,
                exceptions: 0,
            },
        ),
    ] {
        let text = std::fs::read_to_string(Path::new(&directory).join(name)).unwrap();
        let counts = run(&text, exceptions);
        println!("{name}: {counts:?}");
        assert_eq!(counts, expected, "{name}");
    }
}
