//! Behaviour of the whole room, on a state in memory and on files.

#![allow(clippy::unwrap_used, clippy::panic)]

mod browsers;
mod clients;
mod codes;
mod ends;
mod hooked;

use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::state::sqlite::Sqlite;
use crate::state::{AccountChange, Added};
use crate::verify::{
    Algorithm, Issuers, KeySet, LocalCache, Origin, Verifier, read_unverified, verify_signature,
};

/// The moment at which all tests start.
const NOW: UnixSeconds = 1_800_000_000;
const URL: &str = "https://app.example.com";
const HOST: &str = "app.example.com";
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 2));

fn settings() -> Settings {
    Settings {
        cookie: "__Host-session".to_owned(),
        secure: true,
        token_lifetime: 900,
        idle_timeout: 86_400,
        lifetime: 7 * 86_400,
        public_url: URL.to_owned(),
        trust_unconfirmed_email: false,
        authorities: Default::default(),
        same_site_none: false,
    }
}

fn account(id: &str) -> AccountRow {
    AccountRow {
        id: id.to_owned(),
        email: format!("{id}@example.com"),
        email_key: format!("{id}@example.com"),
        name: Some("Ann".to_owned()),
        roles: vec!["user".to_owned()],
        password_hash: Some("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA".to_owned()),
        disabled: false,
        confirmed: true,
        created_at: NOW - 1000,
        granted_roles: Vec::new(),
        password_version: 1,
        revision: 0,
    }
}

fn device() -> Device {
    Device {
        user_agent: "Firefox".to_owned(),
        address: HERE,
    }
}

const END: EndSessions<'static> = EndSessions {
    cause: crate::state::EndCause::Command,
    now: NOW,
    revoked_until: NOW + 90_000,
    keep: None,
};

/// Sessions with all around them, and the account `ann`.
struct House {
    state: Arc<dyn State>,
    sessions: Sessions,
    revocations: Arc<Revocations>,
    clock: Clock,
    keys: KeySet,
    verifier: Verifier,
    ann: AccountRow,
}

impl House {
    fn new() -> Self {
        Self::with(settings(), Arc::new(Sqlite::in_memory().unwrap()))
    }

    fn with(settings: Settings, state: Arc<dyn State>) -> Self {
        let clock = Clock::fixed(NOW);
        let signing =
            SigningKeys::load_or_create(&*state, crate::values::SigningAlgorithm::default(), NOW).unwrap();
        let jwks = signing.jwks(NOW).to_string();
        let keys = || KeySet::from_jwks(jwks.as_bytes(), Origin::File).unwrap().0;
        let url = settings.public_url.clone();
        let mut issuers = Issuers::default();
        issuers.add_own(SESSION_ISSUER, &url, &url, keys()).unwrap();
        let revocations = Arc::new(Revocations::new());
        let verifier = Verifier::new(issuers, Arc::clone(&revocations));
        let signing = Arc::new(ArcSwap::from_pointee(signing));
        let sessions = Sessions::new(
            settings,
            Arc::clone(&state),
            signing,
            Arc::clone(&revocations),
            clock.clone(),
        )
        .unwrap();
        let house = Self {
            state,
            sessions,
            revocations,
            clock,
            keys: keys(),
            verifier,
            ann: account("ann"),
        };
        house.add(&house.ann);
        house
    }

    fn add(&self, account: &AccountRow) {
        assert_eq!(self.state.add_account(account, None).unwrap(), Added::Done);
    }

    fn change(&self, change: &AccountChange) -> AccountRow {
        self.state
            .change_account(&self.ann.id, change, &END)
            .unwrap()
            .unwrap()
    }

    fn browser(&self) -> Cookie {
        self.sessions
            .open_browser(&self.ann, Authentication::default(), &device(), HOST)
            .unwrap()
    }

    fn client(&self) -> Tokens {
        self.sessions
            .open_client(&self.ann, Authentication::default(), &device())
            .unwrap()
    }

    fn renew(&self, cookie: &Cookie) -> Option<Cookie> {
        self.sessions
            .renew(&cookie.session_id, &self.ann.id, HOST, THERE)
            .unwrap()
    }

    fn refresh(&self, tokens: &Tokens) -> Result<Tokens, SessionError> {
        self.sessions.refresh(&tokens.refresh_token, THERE)
    }

    fn row(&self, id: &str) -> Option<SessionRow> {
        self.state.session(id).unwrap().map(|(session, _)| session)
    }

    /// The verdict on an access token now.
    fn verify(&self, token: &str) -> Result<(), Refusal> {
        self.verifier
            .verify(&mut LocalCache::new(), token, self.clock.now())
            .map(|_| ())
    }

    /// What the token in a cookie says, if it is one of ours and of that kind.
    fn cookie_claims(&self, cookie: &Cookie) -> Value {
        assert_eq!(
            self.verify(&cookie.token),
            Err(Refusal::TokenType),
            "a cookie is no access token"
        );
        assert_eq!(
            read_unverified(&cookie.token).unwrap().header["typ"],
            "session+jwt"
        );
        let claims = verify_signature(&cookie.token, &self.keys, &[Algorithm::ES256]).unwrap();
        serde_json::from_slice(&claims).unwrap()
    }

    /// The verdict on a cookie's session now, as the walk asks for it.
    fn check(&self, cookie: &Cookie) -> Result<(), Refusal> {
        let claims = self.cookie_claims(cookie);
        let text = |name: &str| claims[name].as_str().unwrap().to_owned();
        let identity = Identity {
            issuer: SESSION_ISSUER.into(),
            subject: text("sub"),
            email: None,
            name: None,
            roles: Vec::new(),
            scopes: Vec::new(),
            token_id: Some(text("jti")),
            session_id: Some(text("sid")),
            issued_at: claims["iat"].as_i64(),
            expires_at: claims["exp"].as_i64().unwrap(),
            claims: serde_json::Map::new(),
        };
        self.revocations.check(SESSION_ISSUER, &identity, Instant::now())
    }
}

/// Two errors are the same where they say the same.
impl PartialEq for SessionError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

fn roles(roles: &[&str]) -> AccountChange {
    AccountChange {
        roles: Some(roles.iter().map(|&role| role.to_owned()).collect()),
        ..AccountChange::default()
    }
}

fn disabled(disabled: bool) -> AccountChange {
    AccountChange {
        disabled: Some(disabled),
        ..AccountChange::default()
    }
}

fn password() -> AccountChange {
    AccountChange {
        password_hash: Some("$another".to_owned()),
        ..AccountChange::default()
    }
}
