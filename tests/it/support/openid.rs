//! A fake OpenID Connect provider that people sign in with: discovery, keys, token endpoint, userinfo, and faults. And a
//! browser, which keeps cookies.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::app::Recorded;
use super::people::{form, navigate, post_form};
use super::tokens::{Key, base64url, jwks, now};
use super::{Answer, App, Exchange, Gate, Gateway, Request, Response, values};

/// The id and the secret of the gateway; the secret shows whether both are encoded for `Basic`.
pub const CLIENT_ID: &str = "pass:gate";
pub const CLIENT_SECRET: &str = "s%cret +/";

/// What is wrong with an endpoint.
#[derive(Clone)]
pub enum Trouble {
    /// These bytes instead of the answer.
    Bytes(String),
    /// A body that never ends.
    Endless,
    /// No answer before the gate opens.
    Silent(Arc<Gate>),
    /// The connection is closed.
    Closed,
}

impl Trouble {
    /// A whole answer.
    pub fn answer(status: &str, fields: &str, body: &str) -> Self {
        Self::Bytes(format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n{body}",
            body.len()
        ))
    }
}

type Change = Arc<dyn Fn(&mut Value) + Send + Sync>;
type Sign = Arc<dyn Fn(&Key, &Value) -> String + Send + Sync>;
type Authenticate = Arc<dyn Fn(&Recorded, &HashMap<String, String>) -> bool + Send + Sync>;

struct Grant {
    nonce: String,
    /// `None`: PKCE is not asked for.
    challenge: Option<String>,
    redirect_uri: String,
}

struct Situation {
    keys: Vec<Arc<Key>>,
    user: Value,
    grants: HashMap<String, Grant>,
    discovery: Change,
    claims: Change,
    tokens: Change,
    userinfo: Option<Value>,
    /// The refresh token that is good, and the access token that came with it, by number; `None`: none are given.
    refresh: Option<u32>,
    /// Whether a refresh grant gives an ID token.
    refreshes_id_token: bool,
    sign: Sign,
    authenticate: Authenticate,
    scope: String,
    /// Whether PKCE is demanded; if not, it is refused.
    pkce: bool,
    trouble: BTreeMap<String, Trouble>,
}

/// The provider.
pub struct OpenId {
    app: App,
    situation: Arc<Mutex<Situation>>,
}

impl OpenId {
    /// A provider with one key and the user `ann`.
    pub fn start() -> Self {
        let nothing: Change = Arc::new(|_| {});
        let situation = Arc::new(Mutex::new(Situation {
            keys: vec![Arc::new(Key::new("ES256", "k1"))],
            user: json!({
                "sub": "ann-1", "email": "ann@example.com", "email_verified": true, "name": "Ann",
                "groups": ["sre"],
            }),
            grants: HashMap::new(),
            discovery: nothing.clone(),
            claims: nothing.clone(),
            tokens: nothing,
            userinfo: None,
            refresh: None,
            refreshes_id_token: false,
            sign: Arc::new(Key::token),
            authenticate: Arc::new(|request, _| is_basic(request)),
            scope: "openid email profile".to_owned(),
            pkce: true,
            trouble: BTreeMap::new(),
        }));
        let shared = situation.clone();
        let app = App::with(move |exchange| answer(exchange, &shared));
        Self { app, situation }
    }

    /// Its `iss`.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.app.address)
    }

    /// The table `[providers.sso]` with further keys.
    pub fn table(&self, more: &str) -> String {
        format!(
            "[providers.sso]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = {{ file = \"sso.secret\" }}\n{more}\n",
            self.issuer()
        )
    }

    /// The table of a provider of this name, with further keys.
    pub fn table_of(&self, name: &str, more: &str) -> String {
        self.table(more)
            .replace("[providers.sso]", &format!("[providers.{name}]"))
    }

    fn change(&self, change: impl FnOnce(&mut Situation)) {
        change(&mut self.situation.lock().unwrap());
    }

    /// Signs in this user from now on.
    pub fn user(&self, user: Value) {
        self.change(|situation| situation.user = user);
    }

    /// Puts another key in place of those that are published.
    pub fn rotate(&self, key: Key) {
        self.change(|situation| situation.keys = vec![Arc::new(key)]);
    }

    /// Changes the discovery document.
    pub fn discovery(&self, change: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.change(|situation| situation.discovery = Arc::new(change));
    }

    /// Changes the claims of ID tokens.
    pub fn claims(&self, change: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.change(|situation| situation.claims = Arc::new(change));
    }

    /// Changes the answer of the token endpoint.
    pub fn tokens(&self, change: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.change(|situation| situation.tokens = Arc::new(change));
    }

    /// Signs ID tokens otherwise.
    pub fn sign(&self, sign: impl Fn(&Key, &Value) -> String + Send + Sync + 'static) {
        self.change(|situation| situation.sign = Arc::new(sign));
    }

    /// Judges how the gateway authenticates, by the request and its form.
    pub fn authenticate(
        &self,
        authenticate: impl Fn(&Recorded, &HashMap<String, String>) -> bool + Send + Sync + 'static,
    ) {
        self.change(|situation| situation.authenticate = Arc::new(authenticate));
    }

    /// The scope that has to be asked for.
    pub fn scope(&self, scope: &str) {
        self.change(|situation| situation.scope = scope.to_owned());
    }

    /// Refuses PKCE from now on, as some do for a client with a secret.
    pub fn without_pkce(&self) {
        self.change(|situation| situation.pkce = false);
    }

    /// What userinfo says.
    pub fn userinfo(&self, userinfo: Value) {
        self.change(|situation| situation.userinfo = Some(userinfo));
    }

    /// Gives refresh tokens from now on; each is good once. With an ID token each time, or by userinfo alone.
    pub fn give_refresh_tokens(&self, with_id_token: bool) {
        self.change(|situation| {
            situation.refresh = Some(1);
            situation.refreshes_id_token = with_id_token;
        });
    }

    /// Takes back all refresh tokens.
    pub fn withdraw(&self) {
        self.change(|situation| situation.refresh = Some(1_000_000));
    }

    /// The number of the refresh token that is good.
    pub fn refreshed(&self) -> u32 {
        self.situation.lock().unwrap().refresh.unwrap()
    }

    /// Breaks the endpoint at `path`; `None` mends it.
    pub fn trouble(&self, path: &str, trouble: Option<Trouble>) {
        self.change(|situation| match trouble {
            Some(trouble) => drop(situation.trouble.insert(path.to_owned(), trouble)),
            None => drop(situation.trouble.remove(path)),
        });
    }

    /// How often `path` was asked for.
    pub fn count(&self, path: &str) -> usize {
        let requests = self.app.requests();
        requests.iter().filter(|request| request.target() == path).count()
    }

    /// A logout token of no session and no user, with these changes of its header and its claims.
    pub fn logout_token(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let situation = self.situation.lock().unwrap();
        let key = &situation.keys[0];
        let mut header = key.header();
        header["typ"] = json!("logout+jwt");
        let mut claims = json!({
            "iss": format!("http://{}", self.app.address), "aud": CLIENT_ID, "iat": now(), "exp": now() + 120,
            "jti": format!("logout-{number}"),
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        change(&mut header, &mut claims);
        key.sign(&header.to_string(), &claims.to_string())
    }

    /// Agrees to what the gateway asks for at `location`; the parameters that the browser goes back with.
    #[track_caller]
    pub fn agree(&self, location: &str) -> Vec<(String, String)> {
        let (endpoint, query) = location.split_once('?').unwrap();
        assert_eq!(endpoint, format!("{}/authorize", self.issuer()));
        let asked = parse(query);
        let value = |name: &str| asked[name].clone();
        assert_eq!(
            (value("response_type"), value("client_id")),
            ("code".to_owned(), CLIENT_ID.to_owned())
        );
        let challenge = asked.get("code_challenge").cloned();
        let is_pkce = self.situation.lock().unwrap().pkce;
        assert_eq!(
            asked.get("code_challenge_method").map(String::as_str),
            is_pkce.then_some("S256")
        );
        assert_eq!(challenge.as_ref().map(String::len), is_pkce.then_some(43));
        assert_eq!(value("scope"), self.situation.lock().unwrap().scope);
        for random in ["state", "nonce"] {
            assert_eq!(value(random).len(), 43, "{random}");
        }
        self.change(|situation| {
            let code = format!("code {}", situation.grants.len() + 1);
            let code = format!("{code}-{}", &value("state")[..8]);
            let grant = Grant {
                nonce: value("nonce"),
                challenge: challenge.clone(),
                redirect_uri: value("redirect_uri"),
            };
            situation.grants.insert(code, grant);
        });
        let situation = self.situation.lock().unwrap();
        let nonce = value("nonce");
        let code = situation
            .grants
            .iter()
            .find(|(_, grant)| grant.nonce == nonce)
            .unwrap()
            .0;
        vec![
            ("code".to_owned(), code.clone()),
            ("state".to_owned(), value("state")),
        ]
    }
}

/// The parameters of a query or a form.
pub fn parse(text: &str) -> HashMap<String, String> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text)
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// The S256 code challenge of a verifier.
pub fn base64url_sha256(verifier: &str) -> String {
    base64url(sha256(verifier))
}

fn sha256(text: &str) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes())
        .as_ref()
        .to_vec()
}

fn answer(exchange: &mut Exchange<'_>, situation: &Mutex<Situation>) -> Answer {
    exchange.read_body();
    let request = exchange.request();
    let target = request.target().split('?').next().unwrap_or_default().to_owned();
    let trouble = situation.lock().unwrap().trouble.get(&target).cloned();
    match trouble {
        Some(Trouble::Bytes(bytes)) => {
            exchange.send(bytes);
            return Answer::Close;
        }
        Some(Trouble::Endless) => {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while exchange.send(format!("10000\r\n{}\r\n", " ".repeat(0x10000))) {}
            return Answer::Close;
        }
        Some(Trouble::Silent(gate)) => {
            gate.pass();
            return Answer::Close;
        }
        Some(Trouble::Closed) => return Answer::Close,
        None => {}
    }
    let issuer = format!("http://{}", request.header("host").unwrap_or_default());
    let mut situation = situation.lock().unwrap();
    const DISCOVERY: &str = "/.well-known/openid-configuration";
    // That of a tenant has a path before it.
    let known = if target.ends_with(DISCOVERY) {
        DISCOVERY
    } else {
        target.as_str()
    };
    let (status, document) = match known {
        "/.well-known/openid-configuration" => {
            let mut document = json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "userinfo_endpoint": format!("{issuer}/userinfo"),
                "jwks_uri": format!("{issuer}/jwks"),
            });
            (situation.discovery)(&mut document);
            ("200 OK", document.to_string())
        }
        "/jwks" => ("200 OK", jwks(situation.keys.iter().map(AsRef::as_ref))),
        "/token" => match token(&mut situation, &request, &issuer) {
            Some(tokens) => ("200 OK", tokens.to_string()),
            None => (
                "400 Bad Request",
                json!({ "error": "invalid_grant", "error_description": "<b>no</b>\n" }).to_string(),
            ),
        },
        "/userinfo"
            if request.header("authorization")
                == Some(&*format!("Bearer access-{}", situation.refresh.unwrap_or(1))) =>
        {
            match &situation.userinfo {
                Some(userinfo) => ("200 OK", userinfo.to_string()),
                None => ("200 OK", situation.user.to_string()),
            }
        }
        _ => ("404 Not Found", "{}".to_owned()),
    };
    drop(situation);
    let sent = exchange.send(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{document}",
        document.len()
    ));
    if sent { Answer::Keep } else { Answer::Close }
}

fn is_basic(request: &Recorded) -> bool {
    let credentials = || {
        let credentials = request.header("authorization")?.strip_prefix("Basic ")?;
        let credentials = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
        let (id, secret) = credentials.split_once(':')?;
        Some(parse(&format!("id={id}&secret={secret}")))
    };
    credentials().is_some_and(|pair| pair["id"] == CLIENT_ID && pair["secret"] == CLIENT_SECRET)
}

/// As strict as a provider may be.
fn token(situation: &mut Situation, request: &Recorded, issuer: &str) -> Option<Value> {
    let asked = parse(std::str::from_utf8(&request.body).ok()?);
    if !(situation.authenticate)(request, &asked) || request.method() != "POST" {
        return None;
    }
    if asked.get("grant_type")? == "refresh_token" {
        return refresh(situation, asked.get("refresh_token")?, issuer);
    }
    let grant = situation.grants.remove(asked.get("code")?)?;
    let is_right = asked.get("grant_type")? == "authorization_code"
        && *asked.get("redirect_uri")? == grant.redirect_uri
        && asked
            .get("code_verifier")
            .map(|verifier| base64url(sha256(verifier)))
            == grant.challenge;
    if !is_right {
        return None;
    }
    let mut claims = situation.user.clone();
    for (name, value) in [
        ("iss", json!(issuer)),
        ("aud", json!(CLIENT_ID)),
        ("iat", json!(now())),
        ("exp", json!(now() + 300)),
        ("nonce", json!(grant.nonce)),
        ("at_hash", json!(base64url(&sha256("access-1")[..16]))),
    ] {
        claims[name] = value;
    }
    (situation.claims)(&mut claims);
    let id_token = (situation.sign)(&situation.keys[0], &claims);
    let mut tokens = json!({ "token_type": "Bearer", "access_token": "access-1", "id_token": id_token });
    if situation.refresh.is_some() {
        situation.refresh = Some(1);
        tokens["refresh_token"] = json!("refresh-1");
        tokens["expires_in"] = json!(3600);
    }
    (situation.tokens)(&mut tokens);
    Some(tokens)
}

/// A refresh token that was spent takes all others with it.
fn refresh(situation: &mut Situation, token: &str, issuer: &str) -> Option<Value> {
    let number = situation.refresh?;
    if token != format!("refresh-{number}") {
        situation.refresh = Some(1_000_000);
        return None;
    }
    let next = number + 1;
    situation.refresh = Some(next);
    let mut tokens = json!({
        "token_type": "Bearer", "access_token": format!("access-{next}"), "refresh_token": format!("refresh-{next}"),
        "expires_in": 3600,
    });
    if situation.refreshes_id_token {
        let mut claims = situation.user.clone();
        for (name, value) in [
            ("iss", json!(issuer)),
            ("aud", json!(CLIENT_ID)),
            ("iat", json!(now())),
            ("exp", json!(now() + 300)),
        ] {
            claims[name] = value;
        }
        (situation.claims)(&mut claims);
        tokens["id_token"] = json!((situation.sign)(&situation.keys[0], &claims));
    }
    (situation.tokens)(&mut tokens);
    Some(tokens)
}

/// A browser, with its cookies for one gateway.
#[derive(Clone, Default)]
pub struct Browser {
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    /// A navigation.
    #[track_caller]
    pub fn visit(&mut self, gateway: &Gateway, target: &str) -> Response {
        let response = gateway.send(&self.request(target));
        self.take(&response);
        response
    }

    /// The navigation, not sent.
    pub fn request(&self, target: &str) -> Request {
        self.with_cookies(navigate(target))
    }

    /// A request with the cookies.
    pub fn with_cookies(&self, request: Request) -> Request {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if cookies.is_empty() {
            return request;
        }
        request.header("Cookie", &cookies.join("; "))
    }

    /// Keeps what an answer sets.
    pub fn take(&mut self, response: &Response) {
        for field in values(&response.fields, "set-cookie") {
            let (name, value) = field.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// The cookies of attempts.
    pub fn attempts(&self) -> Vec<&String> {
        self.cookies
            .keys()
            .filter(|name| name.contains("-nonce-provider-"))
            .collect()
    }

    /// Whether it has a session cookie.
    pub fn has_session(&self) -> bool {
        self.cookies.contains_key("passgate-session")
    }

    /// Goes to the provider and agrees; where the browser is led back to.
    #[track_caller]
    pub fn go(&mut self, gateway: &Gateway, provider: &OpenId, return_to: &str) -> String {
        let begin = format!("/auth/login/sso?{}", form(&[("return_to", return_to)]));
        let answer = self.visit(gateway, &begin).expect(302);
        let back = provider.agree(answer.header("location").unwrap());
        back_with(&back)
    }

    /// As [`Browser::go`], by the provider of this name.
    #[track_caller]
    pub fn go_by(&mut self, gateway: &Gateway, (name, provider): (&str, &OpenId), return_to: &str) -> String {
        let begin = format!("/auth/login/{name}?{}", form(&[("return_to", return_to)]));
        let answer = self.visit(gateway, &begin).expect(302);
        let back = provider.agree(answer.header("location").unwrap());
        back_with(&back).replace("/login/sso/", &format!("/login/{name}/"))
    }

    /// Links the provider of this name, up to the way back.
    #[track_caller]
    pub fn link(&mut self, gateway: &Gateway, (name, provider): (&str, &OpenId)) -> String {
        let answer = self
            .post(gateway, &format!("/auth/links/{name}"), &[])
            .expect(303);
        let back = provider.agree(answer.header("location").unwrap());
        back_with(&back).replace("/login/sso/", &format!("/login/{name}/"))
    }

    /// Sends a form of our own page.
    #[track_caller]
    pub fn post(&mut self, gateway: &Gateway, target: &str, fields: &[(&str, &str)]) -> Response {
        let response = gateway.send(&self.with_cookies(post_form(target, fields)));
        self.take(&response);
        response
    }

    /// Signs in by the provider of this name.
    #[track_caller]
    pub fn sign_in_by(&mut self, gateway: &Gateway, of: (&str, &OpenId)) -> Response {
        let back = self.go_by(gateway, of, "/hello?a=b");
        self.visit(gateway, &back)
    }

    /// Signs in.
    #[track_caller]
    pub fn sign_in(&mut self, gateway: &Gateway, provider: &OpenId) -> Response {
        let back = self.go(gateway, provider, "/hello?a=b");
        self.visit(gateway, &back)
    }
}

/// The address of the way back with these parameters.
pub fn back_with(parameters: &[(String, String)]) -> String {
    let fields: Vec<(&str, &str)> = parameters
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    format!("/auth/login/sso/return?{}", form(&fields))
}
