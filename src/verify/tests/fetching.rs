//! `keep_fresh` against a server on this machine. Nothing here waits for a time to pass: tests wait for rounds to end.

use super::*;
use crate::http::url::Url;
use crate::net::client::{self, Client};
use crate::verify::key_source::{KeySource, KeyStatus, Location};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(5);

/// A server that answers each path with the bytes it was told, and counts.
struct Idp {
    origin: String,
    answers: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    asked: Arc<AtomicUsize>,
    /// One permit lets one request through.
    gate: Arc<Semaphore>,
}

impl Idp {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idp = Self {
            origin: format!("http://{}", listener.local_addr().unwrap()),
            answers: Arc::default(),
            asked: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        };
        let (answers, asked, gate) = (idp.answers.clone(), idp.asked.clone(), idp.gate.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answers, asked, gate) = (answers.clone(), asked.clone(), gate.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap_or(b'\n'));
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap_or_default();
                    let answer = answers.lock().unwrap().get(path).cloned().unwrap_or_default();
                    let _ = stream.write_all(&answer).await;
                });
            }
        });
        idp
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn answer_raw(&self, path: &str, answer: impl Into<Vec<u8>>) {
        self.answers
            .lock()
            .unwrap()
            .insert(path.to_owned(), answer.into());
    }

    fn answer(&self, path: &str, body: &Value) {
        let body = body.to_string();
        self.answer_raw(
            path,
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        );
    }

    fn publish(&self, signers: &[(&str, &Signer)]) {
        let keys: Vec<_> = signers.iter().map(|(kid, signer)| signer.jwk(kid)).collect();
        self.answer("/keys", &json!({"keys": keys}));
    }

    fn url(&self, path: &str) -> Url {
        client::url(&format!("{}{path}", self.origin), false).unwrap()
    }
}

/// A store in memory.
#[derive(Default)]
struct Store(Mutex<HashMap<(String, String), Vec<u8>>>);

impl KeyStore for Store {
    fn load_jwks(&self, issuer: &str, url: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self
            .0
            .lock()
            .unwrap()
            .get(&(issuer.to_owned(), url.to_owned()))
            .cloned())
    }

    fn save_jwks(&self, issuer: &str, url: &str, text: &[u8]) -> Result<(), String> {
        self.0
            .lock()
            .unwrap()
            .insert((issuer.to_owned(), url.to_owned()), text.to_vec());
        Ok(())
    }
}

/// A gateway that fetches the keys of one issuer.
struct Fetching {
    verifier: Arc<Verifier>,
    store: Arc<Store>,
    rounds: tokio::sync::watch::Receiver<u64>,
    _stop: oneshot::Sender<()>,
}

impl Fetching {
    fn start(location: Location, interval: Duration, cooldown: Duration, store: Arc<Store>) -> Self {
        Self::with_patience(NEVER, location, interval, cooldown, store)
    }

    fn with_patience(
        patience: Duration,
        location: Location,
        interval: Duration,
        cooldown: Duration,
        store: Arc<Store>,
    ) -> Self {
        let mut issuer = Issuer::new("corp", ISS.to_owned(), None);
        issuer.audiences = vec!["api".to_owned()];
        issuer.algorithms = vec![Algorithm::ES256];
        let mut source = KeySource::new(location, Client::new(None, false).unwrap(), interval, cooldown);
        source.hurry(SOON, patience);
        let rounds = source.rounds();
        issuer.source = Some(source);
        let verifier = Arc::new(verifier(vec![issuer]));
        let (stop, stopped) = oneshot::channel::<()>();
        let issuer = verifier.issuers().by_name("corp").unwrap().clone();
        tokio::spawn(keep_fresh(issuer, store.clone(), async move {
            let _ = stopped.await;
        }));
        Self {
            verifier,
            store,
            rounds,
            _stop: stop,
        }
    }

    async fn from(idp: &Idp, interval: Duration, cooldown: Duration) -> Self {
        let mut fetching = Self::start(
            Location::Jwks(idp.url("/keys")),
            interval,
            cooldown,
            Arc::default(),
        );
        fetching.round().await;
        fetching
    }

    async fn round(&mut self) {
        self.rounds.changed().await.unwrap();
    }

    /// Waits for a round that began after this call.
    async fn whole_round(&mut self) {
        self.rounds.borrow_and_update();
        self.round().await;
        self.round().await;
    }

    fn issuer(&self) -> &Arc<Issuer> {
        self.verifier.issuers().by_name("corp").unwrap()
    }

    fn status(&self) -> KeyStatus {
        self.issuer().source.as_ref().unwrap().status()
    }

    fn verify(&self, token: &str) -> Result<(), Refusal> {
        self.verifier
            .verify(&mut LocalCache::new(), token, NOW)
            .map(|_| ())
    }

    /// As the walk does it.
    async fn verify_or_refetch(&self, token: &str) -> Result<(), Refusal> {
        match self
            .verifier
            .try_verify(&mut LocalCache::new(), token, NOW, || Ok(()))
        {
            Err(refused) if refused.refetch().await => self.verify(token),
            outcome => Ok(outcome.map(|_| ())?),
        }
    }
}

/// Whether keys came that may help against the refusal of `token`.
async fn refetch(verifier: &Verifier, token: &str) -> bool {
    let refused = verifier
        .try_verify(&mut LocalCache::new(), token, NOW, || Ok(()))
        .unwrap_err();
    refused.refetch().await
}

fn token(signer: &Signer, kid: &str) -> String {
    signer.sign(&json!({"alg": "ES256", "kid": kid}), &good_claims())
}

#[tokio::test]
async fn a_request_waits_for_the_first_keys_and_gets_them() {
    let (idp, signer) = (Idp::start().await, Signer::p256());
    idp.publish(&[("1", &signer)]);
    let fetching = Fetching::start(Location::Jwks(idp.url("/keys")), NEVER, NEVER, Arc::default());
    assert_eq!(
        fetching.verify(&token(&signer, "1")),
        Err(Refusal::KeysUnavailable),
        "the start does not wait"
    );
    assert_eq!(fetching.verify_or_refetch(&token(&signer, "1")).await, Ok(()));
    assert_eq!(idp.asked(), 1);
    let status = fetching.status();
    assert_eq!(
        (status.keys, status.fetched, status.failed, status.last_error),
        (1, 1, 0, None)
    );
    assert!(status.last_success.is_some());
}

#[tokio::test]
async fn while_no_keys_were_ever_had_everybody_is_refused_within_a_bounded_time() {
    let idp = Idp::start().await;
    idp.answer_raw("/keys", "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n");
    let fetching = Fetching::from(&idp, NEVER, NEVER).await;
    let token = token(&Signer::p256(), "1");
    for _ in 0..3 {
        assert_eq!(
            fetching.verify_or_refetch(&token).await,
            Err(Refusal::KeysUnavailable)
        );
    }
    assert!(fetching.status().last_error.unwrap().contains("500"));
}

#[tokio::test]
async fn a_request_does_not_wait_longer_than_its_patience_for_a_server_that_hangs() {
    let idp = Idp::start().await;
    idp.gate.forget_permits(Semaphore::MAX_PERMITS);
    let location = Location::Jwks(idp.url("/keys"));
    let fetching = Fetching::with_patience(SOON, location, NEVER, NEVER, Arc::default());
    let token = token(&Signer::p256(), "1");
    assert_eq!(
        fetching.verify_or_refetch(&token).await,
        Err(Refusal::KeysUnavailable)
    );
}

#[tokio::test]
async fn a_rotation_is_followed_at_the_first_token_of_the_new_key() {
    let (idp, old, new) = (Idp::start().await, Signer::p256(), Signer::p256());
    idp.publish(&[("old", &old)]);
    let fetching = Fetching::from(&idp, NEVER, NEVER).await;
    assert_eq!(fetching.verify(&token(&old, "old")), Ok(()));
    idp.publish(&[("old", &old), ("new", &new)]);
    assert_eq!(fetching.verify(&token(&new, "new")), Err(Refusal::KeyUnknown));
    assert_eq!(
        fetching.verify_or_refetch(&token(&new, "new")).await,
        Ok(()),
        "the start-up fetch has no cooldown"
    );
    assert_eq!(fetching.verify(&token(&old, "old")), Ok(()));
    assert_eq!(idp.asked(), 2);
    assert_eq!(fetching.issuer().keys.generation(), 2);
}

#[tokio::test]
async fn a_hundred_unknown_kids_at_once_cause_one_fetch_and_then_none_in_the_cooldown() {
    let (idp, known, new, thief) = (Idp::start().await, Signer::p256(), Signer::p256(), Signer::p256());
    idp.publish(&[("1", &known)]);
    let fetching = Arc::new(Fetching::from(&idp, NEVER, NEVER).await);
    idp.publish(&[("1", &known), ("2", &new)]);
    idp.gate.forget_permits(Semaphore::MAX_PERMITS);
    let requests: Vec<_> = (0..100)
        .map(|n| {
            let fetching = fetching.clone();
            let token = if n % 2 == 0 {
                token(&new, "2")
            } else {
                token(&thief, &format!("made-up-{n}"))
            };
            tokio::spawn(async move { fetching.verify_or_refetch(&token).await })
        })
        .collect();
    while idp.asked() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        fetching.verify_or_refetch(&token(&known, "1")).await,
        Ok(()),
        "who is known does not wait"
    );
    idp.gate.add_permits(1);
    for (n, request) in requests.into_iter().enumerate() {
        let expected = if n % 2 == 0 {
            Ok(())
        } else {
            Err(Refusal::KeyUnknown)
        };
        assert_eq!(request.await.unwrap(), expected, "{n}");
    }
    for n in 0..100 {
        let token = token(&thief, &format!("another-{n}"));
        assert_eq!(fetching.verify_or_refetch(&token).await, Err(Refusal::KeyUnknown));
    }
    assert_eq!(idp.asked(), 2);
}

#[tokio::test]
async fn refusals_that_keys_cannot_help_do_not_fetch() {
    let (idp, signer) = (Idp::start().await, Signer::p256());
    idp.publish(&[("1", &signer)]);
    let fetching = Fetching::from(&idp, NEVER, SOON).await;
    assert_eq!(
        fetching.verify_or_refetch(&token(&Signer::p256(), "1")).await,
        Err(Refusal::SignatureInvalid)
    );
    let elsewhere = signer.sign(
        &json!({"alg": "ES256", "kid": "2"}),
        &claims_with(&json!({"iss": "https://nobody.example/"})),
    );
    assert_eq!(
        fetching.verify_or_refetch(&elsewhere).await,
        Err(Refusal::IssuerUnknown)
    );
    assert!(!refetch(&fetching.verifier, "nonsense").await);
    assert!(!refetch(&fetching.verifier, &elsewhere).await);
    assert_eq!(idp.asked(), 1);
}

#[tokio::test]
async fn an_outage_lets_nobody_in_and_shuts_out_nobody_whose_key_is_known() {
    let (idp, signer) = (Idp::start().await, Signer::p256());
    idp.publish(&[("1", &signer)]);
    let mut fetching = Fetching::from(&idp, SOON, SOON).await;
    let long = format!(r#"{{"keys":[],"pad":"{}"}}"#, "x".repeat(600 * 1024));
    let oct = json!({"keys": [Signer::secret().jwk("1")]}).to_string();
    for (answer, expected) in [
        (String::new(), "does not answer in HTTP"),
        ("HTTP/1.1 503 Down\r\ncontent-length: 0\r\n\r\n".to_owned(), "503"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\noops".to_owned(),
            "not a JSON object",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"keys\":[]}".to_owned(),
            "broke off",
        ),
        (
            "HTTP/1.1 201 OK\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}".to_owned(),
            "201",
        ),
        (
            "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}".to_owned(),
            "302",
        ),
        (
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{long}", long.len()),
            "longer than",
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
                long.len()
            ),
            "longer than",
        ),
    ] {
        idp.answer_raw(
            "/other",
            "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}",
        );
        idp.answer_raw("/keys", answer);
        fetching.whole_round().await;
        assert!(
            fetching
                .status()
                .last_error
                .unwrap_or_default()
                .contains(expected),
            "{expected}: {:?}",
            fetching.status()
        );
        assert_eq!(fetching.verify(&token(&signer, "1")), Ok(()), "{expected}");
        assert_eq!(
            fetching.verify(&token(&Signer::p256(), "2")),
            Err(Refusal::KeyUnknown),
            "{expected}"
        );
    }
    assert_eq!(fetching.issuer().keys.generation(), 1);
    // A set that is read is taken as it is, also where nothing in it can be used.
    idp.answer_raw(
        "/keys",
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{oct}", oct.len()),
    );
    fetching.whole_round().await;
    assert_eq!(fetching.verify(&token(&signer, "1")), Err(Refusal::KeyUnknown));
    let status = fetching.status();
    assert_eq!((status.keys, status.last_error), (0, None));
    assert!(status.skipped[0].contains("shared secret"));
}

#[tokio::test]
async fn an_unchanged_set_changes_nothing() {
    let (idp, signer) = (Idp::start().await, Signer::p256());
    idp.publish(&[("1", &signer)]);
    let mut fetching = Fetching::from(&idp, SOON, NEVER).await;
    for _ in 0..3 {
        fetching.round().await;
    }
    assert!(idp.asked() >= 4);
    assert_eq!(fetching.issuer().keys.generation(), 1);
}

#[tokio::test]
async fn the_last_good_set_outlives_a_restart_while_the_issuer_is_down() {
    let (idp, signer) = (Idp::start().await, Signer::p256());
    idp.publish(&[("1", &signer)]);
    let mut before = Fetching::from(&idp, SOON, NEVER).await;
    before.round().await;
    let store = before.store.clone();
    assert_eq!(store.0.lock().unwrap().len(), 1);
    drop(before);
    idp.answer_raw("/keys", "");
    let mut after = Fetching::start(Location::Jwks(idp.url("/keys")), NEVER, NEVER, store.clone());
    after.round().await;
    assert_eq!(after.verify(&token(&signer, "1")), Ok(()));
    drop(after);
    // Another place is another set, and a saved text is read no less strictly than one that comes.
    let mut moved = Fetching::start(Location::Jwks(idp.url("/moved")), NEVER, NEVER, store.clone());
    moved.round().await;
    assert_eq!(moved.verify(&token(&signer, "1")), Err(Refusal::KeysUnavailable));
    let secret = json!({"keys": [Signer::secret().jwk("1")]}).to_string();
    store
        .save_jwks(ISS, idp.url("/keys").as_str(), secret.as_bytes())
        .unwrap();
    let mut tampered = Fetching::start(Location::Jwks(idp.url("/keys")), NEVER, NEVER, store);
    tampered.round().await;
    assert_eq!(tampered.status().keys, 0);
}

#[tokio::test]
async fn discovery_finds_the_keys_of_this_very_issuer() {
    let (idp, signer) = (Idp::start().await, Signer::p256());
    idp.publish(&[("1", &signer)]);
    let keys = format!("{}/keys", idp.origin);
    for (document, expected) in [
        (json!({"issuer": ISS, "jwks_uri": keys}), None),
        (
            json!({"issuer": ISS.trim_end_matches('/'), "jwks_uri": keys}),
            Some("is of the issuer"),
        ),
        (json!({"jwks_uri": keys}), Some("no `issuer`")),
        (json!({"issuer": [ISS], "jwks_uri": keys}), Some("no `issuer`")),
        (json!({"issuer": ISS}), Some("no `jwks_uri`")),
        (
            json!({"issuer": ISS, "jwks_uri": "http://192.0.2.1/keys"}),
            Some("`http://` URL to another machine"),
        ),
        (
            json!({"issuer": ISS, "jwks_uri": "file:///etc/passwd"}),
            Some("`jwks_uri` of the"),
        ),
    ] {
        idp.answer("/d", &document);
        let mut fetching = Fetching::start(Location::Discovery(idp.url("/d")), NEVER, NEVER, Arc::default());
        fetching.round().await;
        match expected {
            None => assert_eq!(fetching.verify(&token(&signer, "1")), Ok(())),
            Some(expected) => {
                assert!(
                    fetching.status().last_error.unwrap().contains(expected),
                    "{document}"
                );
                assert_eq!(
                    fetching.verify(&token(&signer, "1")),
                    Err(Refusal::KeysUnavailable)
                );
            }
        }
    }
    let at =
        |issuer: &str| Location::discovery(issuer, false).map(|location| location.url().as_str().to_owned());
    let expected = "https://id.example.com/a/.well-known/openid-configuration";
    assert_eq!(at("https://id.example.com/a").as_deref(), Ok(expected));
    assert_eq!(at("https://id.example.com/a/").as_deref(), Ok(expected));
    assert!(
        at("https://id.example.com/a?b").is_err()
            && at("http://id.example.com").is_err()
            && at("corp").is_err()
    );
}

#[tokio::test]
async fn keys_survive_a_reload() {
    let (idp, signer) = (Idp::start().await, Signer::p256());
    idp.publish(&[("1", &signer)]);
    let before = Fetching::from(&idp, NEVER, NEVER).await;
    idp.gate.forget_permits(Semaphore::MAX_PERMITS);
    let after = Fetching::start(Location::Jwks(idp.url("/keys")), NEVER, NEVER, Arc::default());
    after.verifier.issuers().inherit(before.verifier.issuers());
    assert_eq!(after.verify(&token(&signer, "1")), Ok(()));
    let moved = Fetching::start(Location::Jwks(idp.url("/moved")), NEVER, NEVER, Arc::default());
    moved.verifier.issuers().inherit(before.verifier.issuers());
    assert_eq!(moved.verify(&token(&signer, "1")), Err(Refusal::KeysUnavailable));
}

#[tokio::test]
async fn nobody_waits_for_a_task_that_is_over() {
    let idp = Idp::start().await;
    idp.gate.forget_permits(Semaphore::MAX_PERMITS);
    let Fetching {
        verifier,
        mut rounds,
        _stop,
        ..
    } = Fetching::start(Location::Jwks(idp.url("/keys")), NEVER, NEVER, Arc::default());
    let text = token(&Signer::p256(), "1");
    let waiting = tokio::spawn({
        let (verifier, text) = (verifier.clone(), text.clone());
        async move { refetch(&verifier, &text).await }
    });
    drop(_stop);
    rounds.changed().await.unwrap();
    assert!(!waiting.await.unwrap());
    assert!(!refetch(&verifier, &text).await);
}

#[tokio::test]
async fn a_certificate_must_be_by_the_authority_that_was_named() {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = parameters.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::from_params(&parameters, &authority);
    let server = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&server, &issuer)
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (good, other) = (
        directory.path().join("ca.pem"),
        directory.path().join("other.pem"),
    );
    std::fs::write(&good, ca.pem()).unwrap();
    let stranger = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&other, parameters.self_signed(&stranger).unwrap().pem()).unwrap();

    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                rustls_pki_types::PrivateKeyDer::try_from(server.serialize_der()).unwrap(),
            )
            .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                .await;
            let _ = stream.shutdown().await;
        }
    });
    let get = async |ca: &std::path::Path, host: &str| {
        let url = client::url(&format!("https://{host}:{port}/"), false).unwrap();
        Client::new(Some(ca), false)
            .unwrap()
            .get(&url, 64)
            .await
            .map_err(|error| error.to_string())
    };
    assert_eq!(get(&good, "localhost").await.as_deref(), Ok(&b"{}"[..]));
    assert!(
        get(&good, "127.0.0.1")
            .await
            .unwrap_err()
            .starts_with("no TLS with"),
        "another name"
    );
    assert!(
        get(&other, "localhost")
            .await
            .unwrap_err()
            .starts_with("no TLS with"),
        "another authority"
    );
}
