//! Behaviour of the whole room, on a state in memory.
#![allow(clippy::unwrap_used, clippy::panic)]

mod hostile;
mod own;
mod registering;
mod signing_in;
mod signing_out;

use std::net::IpAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value};
use tokio::runtime::Handle;

use super::provider::registry::Providers;
use super::*;
use crate::account::{Accounts, Hasher, NewAccount, Policy, hash};
use crate::authorize::StepUp;
use crate::blocking::Blocking;
use crate::clock::UnixSeconds;
use crate::config::Problems;
use crate::config::raw::RawPages;
use crate::http::headers::Host;
use crate::http::origin::Unforged;
use crate::http::target::Target;
use crate::identity::{Caller, Identity, SESSION_ISSUER};
use crate::identity_headers::scheme::Scheme;
use crate::route::{HostPattern, NamedHosts};
use crate::session::{Device, Sessions, Settings};
use crate::state::sqlite::Sqlite;
use crate::state::{AccountChange, AccountRow, Authentication, EndSessions, State};
use crate::verify::Revocations;

/// No route asks anything of a sign-in.
#[derive(Debug)]
struct NoRules;

impl SignInRules for NoRules {
    fn step_up(&self, _: &str, _: &str) -> Option<&StepUp> {
        None
    }
}

const NOW: UnixSeconds = 1_800_000_000;
const URL: &str = "https://app.example.com";
const HOST: &str = "app.example.com";
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const PASSWORD: &str = "correct horse battery";

/// Of [`PASSWORD`]; hashed once, because that takes as long as it should.
static HASH: LazyLock<String> = LazyLock::new(|| hash(PASSWORD).unwrap());

/// Our own endpoints with all around them, and the account `ann`.
struct House {
    endpoints: Endpoints,
    state: Arc<dyn State>,
    revocations: Arc<Revocations>,
    clock: Clock,
    login: Login,
    ann: AccountRow,
}

impl House {
    fn new() -> Self {
        let mut house = Self::empty(SetupToken::none());
        house.ann = house.add("ann@example.com", Some(&HASH));
        house
    }

    /// Without an account.
    fn empty(setup: SetupToken) -> Self {
        let clock = Clock::fixed(NOW);
        let state: Arc<dyn State> = Arc::new(Sqlite::in_memory().unwrap());
        let keys =
            SigningKeys::load_or_create(&*state, crate::values::SigningAlgorithm::default(), NOW).unwrap();
        let keys = Arc::new(ArcSwap::from_pointee(keys));
        let revocations = Arc::new(Revocations::new());
        let settings = Settings {
            cookie: "__Host-session".to_owned(),
            secure: true,
            token_lifetime: 900,
            idle_timeout: 86_400,
            lifetime: 7 * 86_400,
            public_url: URL.to_owned(),
            trust_unconfirmed_email: false,
            authorities: Default::default(),
            same_site_none: false,
        };
        let sessions = Sessions::new(
            settings,
            state.clone(),
            keys.clone(),
            revocations.clone(),
            clock.clone(),
        );
        let patterns = ["reports.example.com", "*.example.net"].map(|text| HostPattern::parse(text).unwrap());
        let policy = Policy {
            min_length: 10,
            default_roles: vec!["user".to_owned()],
        };
        let mut problems = Problems::new(Path::new("gateway.toml"), "");
        let pages = Pages::compile(
            &RawPages::default(),
            "/auth",
            "app.example.com",
            true,
            &mut problems,
        );
        assert_eq!(problems.render(false), "");
        let sites = Arc::new(Sites::new(&URL.parse().unwrap(), NamedHosts::new(&patterns)));
        let providers = Providers::new(&[], &*state, &revocations, &sites, Handle::current());
        let login = Login {
            grants: None,
            audit: Default::default(),
            providers: Arc::new(providers.unwrap()),
            redirect_uris: std::iter::empty().collect(),
            password: true,
            other_cookies: std::iter::empty().collect(),
            accounts: Arc::new(Accounts::new(state.clone(), clock.clone(), policy)),
            sessions: Arc::new(sessions.unwrap()),
            hasher: Arc::new(Hasher::start(1).unwrap()),
            blocking: Arc::new(Blocking::new(Handle::current(), 64, Duration::from_secs(60))),
            sites,
            pages: Arc::new(pages),
            throttle: Arc::new(Throttle::fixed()),
            bounces: Arc::default(),
            setup: Arc::new(setup),
            refresh_cookie: None,
            registration: true,
            admin_role: "admin".to_owned(),
        };
        let ann = AccountRow {
            id: String::new(),
            email: String::new(),
            email_key: String::new(),
            name: None,
            roles: Vec::new(),
            password_hash: None,
            disabled: false,
            confirmed: true,
            created_at: NOW,
            granted_roles: Vec::new(),
            password_version: 0,
            revision: 0,
        };
        let endpoints = Endpoints::new(
            "/auth",
            IssuerAddress {
                issuer: URL.to_owned(),
                jwks_uri: format!("{URL}{JWKS_PATH}"),
            },
            keys,
            login.pages.clone(),
            clock.clone(),
            Some(login.clone()),
        );
        Self {
            endpoints,
            state,
            revocations,
            clock,
            login,
            ann,
        }
    }

    /// The same, but for what `change` does about signing in.
    fn with(mut self, change: impl FnOnce(&mut Login)) -> Self {
        change(&mut self.login);
        self.endpoints.login = Some(self.login.clone());
        self
    }

    fn add(&self, email: &str, hash: Option<&str>) -> AccountRow {
        let new = NewAccount {
            id: None,
            email: email.to_owned(),
            name: Some("Ann <b>".to_owned()),
            roles: vec!["user".to_owned()],
            password_hash: hash.map(str::to_owned),
            disabled: false,
            confirmed: true,
        };
        self.login.accounts.add(new, None).unwrap()
    }

    fn change(&self, account: &AccountRow, change: AccountChange) -> AccountRow {
        let end = EndSessions {
            cause: crate::state::EndCause::Command,
            now: NOW,
            revoked_until: NOW + 90_000,
            keep: None,
        };
        self.state
            .change_account(&account.id, &change, &end)
            .unwrap()
            .unwrap()
    }

    /// A session in a browser, and its caller.
    fn browser(&self, account: &AccountRow) -> Arc<Caller> {
        let device = Device {
            user_agent: "Firefox".to_owned(),
            address: HERE,
        };
        let cookie = self
            .login
            .sessions
            .open_browser(account, Authentication::default(), &device, HOST)
            .unwrap();
        caller_of(account, cookie.session_id)
    }

    /// A session of an API client, its caller and its refresh token.
    fn client(&self, account: &AccountRow) -> (Arc<Caller>, String) {
        let device = Device {
            user_agent: "curl/8".to_owned(),
            address: HERE,
        };
        let tokens = self
            .login
            .sessions
            .open_client(account, Authentication::default(), &device)
            .unwrap();
        (
            caller_of(account, tokens.session_id.clone()),
            tokens.refresh_token.to_string(),
        )
    }

    /// The sessions that are there.
    fn ids(&self) -> Vec<String> {
        self.state
            .sessions(None)
            .unwrap()
            .into_iter()
            .map(|session| session.id)
            .collect()
    }

    /// Whether requests of this caller are refused in this process by now.
    fn is_revoked(&self, caller: &Caller) -> bool {
        self.revocations
            .check(SESSION_ISSUER, &caller.identity, Instant::now())
            == Err(Refusal::Revoked)
    }

    async fn ask(&self, ask: Ask) -> Seen {
        let uri: http::Uri = ask.path.parse().unwrap();
        let target = Target::parse(&uri).unwrap();
        let found = find(
            &ask.method,
            &target,
            "/auth",
            crate::values::Aliases::default(),
            self.endpoints.login.is_some(),
        )
        .unwrap();
        let endpoint = match found {
            Ok(endpoint) => endpoint,
            Err((refusal, _)) => return Seen::refused(refusal),
        };
        let host = Host::parse(&ask.host).unwrap();
        // The decision about the request makes the same check.
        let Some(unforged) = Unforged::check(&ask.method, &ask.headers, host.as_sent(), None, None) else {
            return Seen::refused(Refusal::CrossSite);
        };
        let asked = EndpointRequest {
            method: &ask.method,
            query: target.query(),
            headers: &ask.headers,
            unforged,
            is_of_known_origin: false,
            host: &host,
            scheme: ask.scheme,
            https: None,
            client: HERE,
            may_be_proxy: false,
            browser: ask.browser,
            request_id: "0197",
            caller: ask.caller,
            by_cookie: ask.by_cookie,
            rules: &NoRules,
        };
        match self
            .endpoints
            .answer(&endpoint, asked, Full::new(Bytes::from(ask.body)))
            .await
        {
            Ok(answered) => Seen::response(None, None, answered.response, answered.caller),
            Err(failure) => {
                let EndpointError {
                    refusal,
                    page,
                    retry_after,
                    ..
                } = *failure;
                match page {
                    None => Seen {
                        retry_after,
                        ..Seen::refused(refusal)
                    },
                    Some(page) => Seen::response(Some(refusal), retry_after, page, None),
                }
            }
        }
    }
}

/// A caller by a good token of this session.
fn caller_of(account: &AccountRow, session_id: String) -> Arc<Caller> {
    let caller = context::caller(account.clone(), session_id, NOW);
    let identity = Identity {
        expires_at: NOW + 900,
        ..caller.identity
    };
    Arc::new(Caller::new(identity))
}

/// A caller without a session of ours.
fn stranger(issuer: &str, subject: &str) -> Arc<Caller> {
    Arc::new(Caller::new(Identity {
        issuer: issuer.into(),
        subject: subject.to_owned(),
        email: None,
        name: None,
        roles: vec!["ops".to_owned()],
        scopes: Vec::new(),
        token_id: None,
        session_id: None,
        issued_at: Some(NOW),
        expires_at: NOW + 900,
        claims: Map::new(),
    }))
}

/// A request to an endpoint.
#[derive(Clone)]
struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: String,
    caller: Option<Arc<Caller>>,
    by_cookie: bool,
    browser: bool,
    host: String,
    scheme: Scheme,
}

impl Ask {
    fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: String::new(),
            caller: None,
            by_cookie: false,
            browser: false,
            host: HOST.to_owned(),
            scheme: Scheme::Https,
        }
    }

    fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    fn post(path: &str) -> Self {
        Self::new(Method::POST, path)
    }

    fn delete(path: &str) -> Self {
        Self::new(Method::DELETE, path)
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string();
        self.header("content-type", "application/json")
    }

    /// A form as a browser sends it.
    fn form(mut self, fields: &[(&str, &str)]) -> Self {
        let encode = |text: &str| {
            text.bytes()
                .map(|byte| format!("%{byte:02x}"))
                .collect::<String>()
        };
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        self.body = pairs.join("&");
        self.browser()
            .header("content-type", "application/x-www-form-urlencoded")
    }

    /// By a browser that asks for pages.
    fn browser(mut self) -> Self {
        self.browser = true;
        self.header("sec-fetch-site", "same-origin")
    }

    fn bearer(mut self, caller: &Arc<Caller>) -> Self {
        self.caller = Some(Arc::clone(caller));
        self
    }

    fn cookie(mut self, caller: &Arc<Caller>) -> Self {
        self.by_cookie = true;
        self.bearer(caller).header("cookie", "__Host-session=…")
    }
}

/// What came of it.
#[derive(Debug)]
struct Seen {
    status: StatusCode,
    refusal: Option<Refusal>,
    retry_after: Option<u64>,
    headers: HeaderMap,
    text: String,
    caller: Option<Arc<Caller>>,
}

impl Seen {
    fn refused(refusal: Refusal) -> Self {
        Self {
            status: refusal.status(),
            refusal: Some(refusal),
            retry_after: None,
            headers: HeaderMap::new(),
            text: String::new(),
            caller: None,
        }
    }

    fn response(
        refusal: Option<Refusal>,
        retry_after: Option<u64>,
        response: Response<Bytes>,
        caller: Option<Arc<Caller>>,
    ) -> Self {
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Self {
            status: parts.status,
            refusal,
            retry_after,
            headers: parts.headers,
            text,
            caller,
        }
    }

    fn json(&self) -> Value {
        assert_eq!(self.headers[CONTENT_TYPE], "application/json");
        serde_json::from_str(&self.text).unwrap()
    }

    fn location(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{self:?}");
        self.headers[LOCATION].to_str().unwrap()
    }

    fn cookie(&self) -> Option<&str> {
        self.headers
            .get(SET_COOKIE)
            .map(|cookie| cookie.to_str().unwrap())
    }

    fn is_cookie_cleared(&self) -> bool {
        self.cookie()
            .is_some_and(|cookie| cookie.starts_with("__Host-session=;") && cookie.contains("Max-Age=0"))
    }
}
