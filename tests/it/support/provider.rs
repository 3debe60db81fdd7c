//! A fake identity provider: discovery and a key set that can rotate and go wrong.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::tls::Certificate;
use super::tokens::{Key, jwks};
use super::{Answer, App, Exchange, Gate};

/// What is wrong with the provider.
#[derive(Clone, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// 500 with the right body.
    Error,
    /// 302 to a place where the right key set is.
    Redirect,
    /// 200 and no JSON.
    Garbage,
    /// 200 and a JSON document without `keys`.
    WrongDocument,
    /// The right key set with 64 MiB of spaces in front.
    Oversized,
    /// No answer before the gate opens.
    Hang(Arc<Gate>),
    /// The connection is closed.
    Closed,
    /// Discovery names another issuer.
    WrongIssuer,
}

#[derive(Clone, Default)]
struct Situation {
    keys: String,
    fault: Fault,
    /// What `Authorization` must be, where it must be there.
    authorization: Option<String>,
    /// What discovery names instead of this server.
    jwks_uri: Option<String>,
}

/// The provider.
pub struct Provider {
    app: App,
    situation: Arc<Mutex<Situation>>,
}

impl Provider {
    /// Publishes these keys.
    pub fn start<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Self {
        let situation = Arc::new(Mutex::new(Situation {
            keys: jwks(keys),
            ..Situation::default()
        }));
        let shared = situation.clone();
        let app = App::with(move |exchange| {
            let situation = shared.lock().unwrap().clone();
            answer(exchange, &situation)
        });
        Self { app, situation }
    }

    /// The same over TLS with this certificate.
    pub fn start_tls<'a>(certificate: &Certificate, keys: impl IntoIterator<Item = &'a Key>) -> Self {
        let situation = Arc::new(Mutex::new(Situation {
            keys: jwks(keys),
            ..Situation::default()
        }));
        let shared = situation.clone();
        let app = App::with_tls(certificate, move |exchange| {
            let situation = shared.lock().unwrap().clone();
            answer(exchange, &situation)
        });
        Self { app, situation }
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.app.address
    }

    /// Answers 401 from now on, unless this is the token of the request.
    pub fn require_token(&self, token: &str) {
        self.situation.lock().unwrap().authorization = Some(format!("Bearer {token}"));
    }

    /// Names this place of its keys in discovery.
    pub fn move_keys(&self, jwks_uri: &str) {
        self.situation.lock().unwrap().jwks_uri = Some(jwks_uri.to_owned());
    }

    /// What was asked, in order.
    pub fn requests(&self) -> Vec<super::app::Recorded> {
        self.app.requests()
    }

    /// Its `iss`, and the address that discovery starts from.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.app.address)
    }

    /// Where its key set is.
    pub fn jwks_url(&self) -> String {
        format!("{}/jwks", self.issuer())
    }

    /// Publishes these keys instead.
    pub fn publish<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        self.situation.lock().unwrap().keys = jwks(keys);
    }

    /// Publishes this text instead of a key set.
    pub fn publish_text(&self, text: &str) {
        self.situation.lock().unwrap().keys = text.to_owned();
    }

    /// Breaks, or mends with [`Fault::None`].
    pub fn fail(&self, fault: Fault) {
        self.situation.lock().unwrap().fault = fault;
    }

    /// How often the key set was asked for.
    pub fn fetches(&self) -> usize {
        self.fetches_of("/jwks")
    }

    /// How often this path was asked for.
    pub fn fetches_of(&self, path: &str) -> usize {
        self.app
            .requests()
            .iter()
            .filter(|request| request.target() == path)
            .count()
    }
}

fn answer(exchange: &mut Exchange<'_>, situation: &Situation) -> Answer {
    let Situation {
        keys,
        fault,
        authorization,
        jwks_uri,
    } = situation;
    exchange.read_body();
    if authorization.is_some() && exchange.request().header("authorization") != authorization.as_deref() {
        exchange.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
        return Answer::Keep;
    }
    let target = exchange.request().target().to_owned();
    let origin = format!("http://{}", exchange.request().header("host").unwrap_or_default());
    let issuer = if matches!(fault, Fault::WrongIssuer) {
        "http://evil.example"
    } else {
        origin.as_str()
    };
    let document = match target.as_str() {
        "/jwks" | "/moved" => keys.clone(),
        // Of many tenants, as Microsoft Entra answers.
        "/organizations/v2.0/.well-known/openid-configuration" => json!({
            "issuer": format!("{issuer}/{{tenantid}}/v2.0"),
            "jwks_uri": format!("{origin}/jwks"),
        })
        .to_string(),
        "/.well-known/openid-configuration" => json!({
            "issuer": issuer,
            "jwks_uri": jwks_uri.clone().unwrap_or_else(|| format!("{origin}/jwks")),
            "authorization_endpoint": format!("{origin}/authorize"),
            "token_endpoint": format!("{origin}/token"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        })
        .to_string(),
        _ => {
            exchange.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            return Answer::Keep;
        }
    };
    let json = |status: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let sent = match fault {
        Fault::Error => exchange.send(json("500 Internal Server Error", &document)),
        Fault::Redirect if target != "/moved" => {
            exchange.send("HTTP/1.1 302 Found\r\nLocation: /moved\r\nContent-Length: 0\r\n\r\n")
        }
        Fault::Garbage => exchange.send(json("200 OK", "<html>welcome</html>")),
        Fault::WrongDocument => exchange.send(json("200 OK", "{\"kees\": []}")),
        Fault::Oversized => exchange.send(json("200 OK", &format!("{}{document}", " ".repeat(64 << 20)))),
        Fault::Hang(gate) => {
            gate.pass();
            false
        }
        Fault::Closed => false,
        Fault::None | Fault::WrongIssuer | Fault::Redirect => exchange.send(json("200 OK", &document)),
    };
    if sent { Answer::Keep } else { Answer::Close }
}
