//! Discovery documents: what is used is of this very issuer, and leads no request and no browser to a place where a network can
//! answer for the provider.
//!
//! Input: a discovery document.
#![no_main]

use libfuzzer_sys::fuzz_target;
use passgate::internals::login::Trial;
use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};
use url::{Host, Url};

const ENDPOINTS: [&str; 4] = [
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
];
/// A P-256 key, which no token is verified by here.
const KEYS: &[u8] =
    br#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime");
    static TRIAL: Trial =
        Trial::new(KEYS, RUNTIME.with(|runtime| runtime.handle().clone())).expect("a provider");
}

fuzz_target!(|document: &[u8]| {
    let Some(endpoints) = TRIAL.with(|trial| trial.endpoints(document)) else {
        return;
    };
    let read: Map<String, Value> = serde_json::from_slice(document).expect("an object that others read");
    assert_eq!(read["issuer"], Trial::ISSUER);
    let written: Vec<&Value> = ENDPOINTS.iter().filter_map(|name| read.get(*name)).collect();
    assert_eq!(written.len(), endpoints.len());
    for (endpoint, written) in endpoints.iter().zip(written) {
        let written = written.as_str().expect("text");
        // A host that is no name by IDNA (`xn--a`) leads a browser nowhere.
        let (Ok(ours), Ok(theirs)) = (Url::parse(endpoint), Url::parse(written)) else {
            assert!(written.to_ascii_lowercase().contains("xn--"), "{endpoint}");
            continue;
        };
        assert_eq!(
            (ours.scheme(), ours.host(), ours.port_or_known_default()),
            (theirs.scheme(), theirs.host(), theirs.port_or_known_default()),
            "{endpoint}"
        );
        let is_here = match ours.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        assert!(
            ours.scheme() == "https" || (ours.scheme() == "http" && is_here),
            "{endpoint}"
        );
        assert!(ours.username().is_empty() && ours.password().is_none() && ours.fragment().is_none());
    }
});
