//! `[upstreams.*]`, `[[routes]]`, `[identity]` and `[[tests]]`: who reaches which app, and what the app is told.

use super::key::{Kind, SECRET, Table, key};

const TEXTS: Kind = Kind::List(&Kind::Text);
const CLAIMS: Kind = Kind::Map(&Kind::Either(&[
    Kind::Text,
    Kind::Integer(0, u64::MAX),
    Kind::Boolean,
]));

pub(super) const UPSTREAMS: Table = Table {
    path: "upstreams.*",
    doc: "An app: either `servers` or `builtin`.",
    keys: &[
        key("servers", Kind::List(&Kind::Either(&[Kind::Text, Kind::Table("upstreams.*.servers")])), "", "The servers of the app: `http://`, `https://`, `h2c://` or `unix:`, each as text or as a table with its weight. A server may have a path below which the app is; all servers of an upstream have the same one (see `upstreams.md`).").example("[\"http://127.0.0.1:3000\", { url = \"http://127.0.0.1:3001\", weight = 2 }]"),
        key("builtin", Kind::Word(&["whoami", "forward-auth"]), "", "`whoami`: the gateway itself answers with the request as an app would get it. `forward-auth`: another proxy serves the route and asks `/auth/verify` about each request; a request that comes to the gateway itself gets 404.").example("\"whoami\""),
        key("host", Kind::Text, "", "The Host header for the app. Without it: that of the client.").example("\"app.internal\""),
        key("connect_timeout", Kind::Duration, "\"2s\"", "The longest wait for a connection, TLS included, of all servers that a request tries together."),
        key("response_timeout", Kind::Duration, "\"30s\"", "The longest wait from the request to the head of the response. It does not cut streams."),
        key("idle_timeout", Kind::Duration, "\"60s\"", "How long an unused connection is kept."),
        key("max_connections", Kind::Integer(1, 1_000_000), "1024", "Connections to each server, all workers together."),
        key("max_pending", Kind::Integer(0, 1_000_000), "1024", "Requests that wait for a connection to each server, all workers together; further ones are answered with 503 at once. A request waits for `connect_timeout` at most."),
        key("sticky", Kind::Word(&["cookie", "subject"]), "", "How requests keep to one server while it takes requests. `cookie`: by a cookie of the gateway, which the app does not see. `subject`: by the caller, or the client address of a request without one. Without it they do not (see `upstreams.md`).").example("\"cookie\""),
        key("ca_file", Kind::Path, "", "The certificate authorities for `https://` servers. Without it: those of the system.").example("\"ca.pem\""),
        key("server_name", Kind::Text, "", "The name that is asked for in TLS (SNI) and that the certificate of `https://` servers must have. Without it: the host of the URL.").example("\"app.internal\""),
        key("client_certificate", Kind::Path, "", "The PEM file of the certificate by which the gateway shows itself to `https://` servers, then those of its issuers.").example("\"gateway.pem\""),
        key("client_key", Kind::Either(&[Kind::Path, SECRET]), "", "The key of `client_certificate`: a PEM file, or a place of a secret.").example("{ file = \"gateway.key\" }"),
        key("http2", Kind::Boolean, "true", "Whether `https://` servers are offered HTTP/2. `false`: HTTP/1.1 alone."),
        key("proxy_protocol", Kind::Boolean, "false", "`true`: each connection begins with a header of the PROXY protocol, version 2, with the client's address, and carries one request."),
        key("health_check", Kind::Table("upstreams.*.health_check"), "", "A request that shows whether a server is healthy. Without it there is no check.").example("{ path = \"/healthz\", interval = \"5s\" }"),
    ],
    synonyms: &[
        ("url", "servers"),
        ("urls", "servers"),
        ("address", "servers"),
        ("addresses", "servers"),
        ("target", "servers"),
        ("targets", "servers"),
        ("backend", "servers"),
        ("upstream", "servers"),
        ("proxy_pass", "servers"),
        ("timeout", "response_timeout"),
    ],
};

pub(super) const UPSTREAM_SERVERS: Table = Table {
    path: "upstreams.*.servers",
    doc: "A server of an upstream. Text alone is `url`.",
    keys: &[
        key("url", Kind::Text, "", "The address of the server. Required.")
            .example("\"http://127.0.0.1:3001\""),
        key(
            "weight",
            Kind::Integer(1, 100),
            "1",
            "The share of the server in the requests, in proportion to those of the others.",
        ),
    ],
    synonyms: &[
        ("address", "url"),
        ("server", "url"),
        ("target", "url"),
        ("host", "url"),
    ],
};

pub(super) const HEALTH_CHECK: Table = Table {
    path: "upstreams.*.health_check",
    doc: "A health check. Status 200 to 399 is healthy.",
    keys: &[
        key("path", Kind::Text, "", "The path of the request. Required.").example("\"/healthz\""),
        key(
            "interval",
            Kind::Duration,
            "\"5s\"",
            "The time between two checks.",
        ),
    ],
    synonyms: &[],
};

pub(super) const ROUTES: Table = Table {
    path: "routes",
    doc: "A route. The most specific one wins, whatever the order in the file: the host first, then the path, then the method.",
    keys: &[
        key("host", Kind::Text, "", "The host: exact, or `*.example.com`. Without it: any host. A session is known on the hosts that routes name (see `several-hosts.md`).").example("\"reports.example.com\""),
        key("path", Kind::Text, "", "The paths: `{name}` is one segment, a last `*` is a subtree and its root. Required.").example("\"/reports/{year}/*\""),
        key("methods", TEXTS, "", "The methods; another one is answered with 405. Without it: all methods.").example("[\"GET\", \"POST\"]"),
        key("auth", Kind::Word(&["none", "optional", "required"]), "\"required\"", "`none`: no credential is read. `optional`: a credential that is present is verified. `required`: the route needs a caller."),
        key("roles", Kind::Either(&[TEXTS, Kind::Table("routes.roles")]), "", "The roles, one of which the caller has.").example("{ any = [\"admin\", \"auditor\"], all = [\"staff\"], none = [\"suspended\"] }"),
        key("claims", CLAIMS, "", "Claims that equal or contain these values, by their paths.").example("{ tenant = \"acme\", \"address.country\" = \"IS\" }"),
        key("scopes", TEXTS, "", "Scopes, all of which the token has in `scope` or `scp`.").example("[\"reports:read\"]"),
        key("acr", TEXTS, "", "Authentication context classes, one of which the sign-in has (the claim `acr`). A browser is sent to sign in again, an API client gets 401 (see `step-up.md`).").example("[\"urn:example:mfa\"]"),
        key("max_age", Kind::Duration, "", "How long ago the sign-in may be (the claim `auth_time`), 10 seconds at least.").example("\"10m\""),
        key("provider", Kind::Text, "", "The provider that the sign-in was with, by the name of its table.").example("\"main\""),
        key("from", TEXTS, "", "Networks, one of which the client is in; other clients get 403, with or without a credential. Behind `trusted_proxies` the client is the one that they name (see `routing.md`).").example("[\"10.0.0.0/8\"]"),
        key("none_from", TEXTS, "", "Networks whose clients get 403.").example("[\"192.0.2.0/24\"]"),
        key("any", Kind::Tables("routes.any"), "", "Alternatives to each other: a request has to meet one of them, beside the other rules. Let in by `from` alone, it needs no credential and has no caller.").example("[{ role = \"staff\" }, { scope = \"reports:read\", claims = { tenant = \"acme\" } }, { from = \"10.0.0.0/8\" }]"),
        key("when", Kind::Text, "", "A condition in the Common Expression Language (CEL) on the caller and the request, beside the other rules (see `routing.md`). What has no answer, because a claim is missing, is refused.").example("\"claims.tenant == path.tenant\""),
        key("enforce", Kind::Word(&["log"]), "", "`log`: `roles`, `claims`, `scopes`, `any` and `when` are applied, logged and counted, and refuse no caller (see `routing.md`). Without it, they are enforced.").example("\"log\""),
        key("upstream", Kind::Text, "", "The name of the upstream. Required.").example("\"app\""),
        key("strip_prefix", Kind::Text, "", "Leading segments of the path that the app does not see. The app reads them in X-Forwarded-Prefix.").example("\"/reports\""),
        key("rewrite_responses", Kind::Boolean, "true", "`false`: Location, Content-Location, Refresh and cookie paths stay as the app sends them."),
        key("headers", Kind::Map(&Kind::Text), "", "Header fields that are set on the request to the app.").example("{ \"X-Env\" = \"prod\" }"),
        key("forward_credential", Kind::Boolean, "false", "`true`: the app gets the token as well."),
        key("forward_provider_token", Kind::Boolean, "false", "`true`: the app gets the access token of the provider that the user signed in with, in `X-Auth-Access-Token`, for as long as it is good."),
        key("accept", Kind::List(&Kind::Word(&["encoded-slash", "empty-segment", "path-parameter", "not-utf8", "double-encoding"])), "[]", "Oddities of a path that are accepted here and otherwise answered with 400.").example("[\"encoded-slash\", \"empty-segment\", \"path-parameter\", \"not-utf8\", \"double-encoding\"]"),
        key("keep_headers", TEXTS, "[]", "Identity headers of other products that pass from the client.").example("[\"X-HTTP-Method-Override\"]"),
        key("cors", Kind::Table("routes.cors"), "", "Pages of other origins that may use the route (CORS, see `browsers.md`). Without it the app's own CORS fields pass.").example("{ origins = [\"https://spa.example.com\"], credentials = true }"),
        key("security_headers", Kind::Boolean, "", "`true`: answers of the app get Strict-Transport-Security (on HTTPS), X-Content-Type-Options, Referrer-Policy and Content-Security-Policy with `frame-ancestors 'self'`, each where the app does not send it (see `browsers.md`). Without it: `security_headers` in `[server]`.").example("true"),
        key("maintenance", Kind::Either(&[Kind::Text, Kind::Table("routes.maintenance")]), "", "Every request of the route is answered with 503 and this text. The app sees nothing of it.").example("\"back at noon\""),
        key("rate_limit", Kind::Table("routes.rate_limit"), "", "A limit on requests; more are answered with 429 (see `limits.md`). Without it there is none.").example("{ requests = 100, per = \"1s\", by = \"subject\" }"),
    ],
    synonyms: &[
        ("url", "path"),
        ("uri", "path"),
        ("prefix", "path"),
        ("match", "path"),
        ("location", "path"),
        ("domain", "host"),
        ("backend", "upstream"),
        ("service", "upstream"),
        ("target", "upstream"),
        ("proxy_pass", "upstream"),
        ("authentication", "auth"),
        ("groups", "roles"),
        ("ratelimit", "rate_limit"),
        ("limit", "rate_limit"),
        ("limit_req", "rate_limit"),
    ],
};

pub(super) const ROLES: Table = Table {
    path: "routes.roles",
    doc: "A rule on roles. A list of roles alone is `any`.",
    keys: &[
        key("any", TEXTS, "", "The caller has one of these.").example("[\"admin\", \"auditor\"]"),
        key("all", TEXTS, "", "The caller has all of these.").example("[\"staff\"]"),
        key("none", TEXTS, "", "The caller has none of these.").example("[\"suspended\"]"),
    ],
    synonyms: &[],
};

pub(super) const CORS: Table = Table {
    path: "routes.cors",
    doc: "Pages of other origins that may use the route. The gateway answers their preflights, and adds the CORS fields to answers of the app, in place of its own, and to refusals.",
    keys: &[
        key(
            "origins",
            TEXTS,
            "",
            "The origins, each as browsers write it; or `[\"*\"]`, without `credentials`. Required.",
        )
        .example("[\"https://spa.example.com\"]"),
        key(
            "credentials",
            Kind::Boolean,
            "false",
            "`true`: a page may have the browser send cookies, and requests with the session cookie pass the check for other origins.",
        ),
        key(
            "methods",
            TEXTS,
            "",
            "The methods that a page may use. Without it: those of the route.",
        )
        .example("[\"GET\", \"POST\"]"),
        key(
            "headers",
            TEXTS,
            "[]",
            "The header fields that a page may send. Without it: every one that it asks for.",
        )
        .example("[\"Authorization\", \"Content-Type\"]"),
        key(
            "expose",
            TEXTS,
            "[\"X-Request-Id\", \"Retry-After\", \"RateLimit\", \"RateLimit-Policy\"]",
            "The header fields of an answer that a page may read, beside those that every page may.",
        ),
        key(
            "max_age",
            Kind::Duration,
            "\"10m\"",
            "How long a browser keeps the answer to a preflight.",
        ),
    ],
    synonyms: &[
        ("origin", "origins"),
        ("allow_origins", "origins"),
        ("allowed_origins", "origins"),
        ("allow_credentials", "credentials"),
        ("allow_methods", "methods"),
        ("allowed_methods", "methods"),
        ("allow_headers", "headers"),
        ("allowed_headers", "headers"),
        ("expose_headers", "expose"),
        ("exposed_headers", "expose"),
    ],
};

pub(super) const MAINTENANCE: Table = Table {
    path: "routes.maintenance",
    doc: "What a route answers in place of its app. A text alone is `text`.",
    keys: &[
        key(
            "text",
            Kind::Text,
            "",
            "One or two sentences, on the page and in `detail` of the JSON.",
        )
        .example("\"back at noon\""),
        key(
            "file",
            Kind::Path,
            "",
            "An HTML page for browsers, in place of `text`. It is read when the file is loaded.",
        )
        .example("\"maintenance.html\""),
        key(
            "retry_after",
            Kind::Duration,
            "\"5m\"",
            "When a client may ask again (`Retry-After`).",
        ),
    ],
    synonyms: &[("message", "text"), ("page", "file")],
};

pub(super) const ANY: Table = Table {
    path: "routes.any",
    doc: "One alternative. All keys that it has need to be met.",
    keys: &[
        key("role", Kind::Text, "", "The caller has this role.").example("\"staff\""),
        key("scope", Kind::Text, "", "The token has this scope.").example("\"reports:read\""),
        key("claims", CLAIMS, "", "Claims that equal or contain these values.")
            .example("{ tenant = \"acme\" }"),
        key(
            "from",
            Kind::OneOrMore(&Kind::Text),
            "",
            "Networks, one of which the client is in.",
        )
        .example("\"10.0.0.0/8\""),
    ],
    synonyms: &[("roles", "role"), ("scopes", "scope"), ("claim", "claims")],
};

pub(super) const RATE_LIMIT: Table = Table {
    path: "routes.rate_limit",
    doc: "A limit on the requests of a route.",
    keys: &[
        key(
            "requests",
            Kind::Integer(1, 1_000_000_000),
            "",
            "The requests that pass in the time `per`, also all at once. Required.",
        )
        .example("100"),
        key(
            "per",
            Kind::Duration,
            "",
            "The time in which the whole quota comes back, evenly, from `\"1s\"` to `\"24h\"`. Required.",
        )
        .example("\"1s\""),
        key(
            "by",
            Kind::Word(&["subject", "ip", "route"]),
            "\"subject\"",
            "What has a quota of its own: `subject`, each caller, and for requests without one each client address; `ip`, each client address (IPv6: each /64), counted before the credential is verified; `route`, all requests of the route together.",
        ),
    ],
    synonyms: &[
        ("rate", "requests"),
        ("max", "requests"),
        ("burst", "requests"),
        ("window", "per"),
        ("period", "per"),
        ("interval", "per"),
        ("key", "by"),
    ],
};

pub(super) const IDENTITY: Table = Table {
    path: "identity",
    doc: "How an app is told about the caller.",
    keys: &[
        key("preset", Kind::Word(&PRESETS), "\"passgate\"", "The names of the identity headers."),
        key("headers", Kind::Map(&Kind::Text), "", "Further header fields, each from a claim by its path.").example("{ \"X-Auth-Tenant\" = \"tenant\" }"),
        key("assertion", Kind::Boolean, "false", "`true`: the app gets X-Auth-Assertion, a signed token of 60 seconds whose keys are at `/.well-known/jwks.json`.").example("true"),
        key("encoding", Kind::Word(&["percent", "utf-8"]), "", "The encoding of names and roles outside ASCII. Without it: `percent`, and `utf-8` under the presets `oauth2-proxy` and `authelia`.").example("\"percent\""),
        key("unverified_email", Kind::Boolean, "false", "`true`: the app gets an email address whose token has `email_verified: false`."),
    ],
    synonyms: &[],
};

pub(super) const TESTS: Table = Table {
    path: "tests",
    doc: "A test of the rules. `passgate check` runs it, and so does a reload before it takes effect.",
    keys: &[
        key("request", Kind::Text, "", "A method and a path or URL. Required.").example("\"GET https://reports.example.com/reports/2026/q1\""),
        key("as", Kind::Table("tests.as"), "", "The caller. Without it: none.").example("{ subject = \"alice\" }"),
        key("origin", Kind::Text, "", "The origin of a page that makes the request, with the caller signed in by cookie. Without it: no page.").example("\"https://spa.example.com\""),
        key("expect", Kind::Either(&[Kind::Word(&["allow", "login"]), Kind::Integer(400, 599)]), "", "`allow`, `login` (a browser is redirected to sign in) or the status that an API client gets. Required.").example("\"allow\""),
    ],
    synonyms: &[],
};

pub(super) const CALLER: Table = Table {
    path: "tests.as",
    doc: "The caller of a test.",
    keys: &[
        key("subject", Kind::Text, "\"test\"", "The subject.").example("\"bob\""),
        key(
            "issuer",
            Kind::Text,
            "",
            "The name of the issuer. Without it: any.",
        )
        .example("\"corp\""),
        key("roles", TEXTS, "[]", "The roles.").example("[\"auditor\", \"staff\"]"),
        key("scopes", TEXTS, "[]", "The scopes.").example("[\"reports:read\"]"),
        key(
            "acr",
            Kind::Text,
            "",
            "The authentication context class of the sign-in.",
        )
        .example("\"urn:example:mfa\""),
        key(
            "signed_in",
            Kind::Duration,
            "",
            "How long ago the sign-in was. Without it: unknown.",
        )
        .example("\"5m\""),
        key("provider", Kind::Text, "", "The provider of the sign-in.").example("\"main\""),
        key("from", Kind::Text, "", "The address of the client. Alone, the request has no caller. Without it: unknown, so that no `from` of a route lets it in.").example("\"10.1.2.3\""),
        key("claims", CLAIMS, "", "Further claims.")
            .example("{ tenant = \"acme\", \"address.country\" = \"IS\" }"),
    ],
    synonyms: &[],
};

pub(super) const FORWARD_AUTH: Table = Table {
    path: "forward_auth",
    doc: "Answers to other proxies, which ask `/auth/verify` about the requests that they get. Only `trusted_proxies` may ask.",
    keys: &[
        key(
            "aliases",
            Kind::List(&Kind::Word(&["oauth2-proxy", "authelia"])),
            "[]",
            "Other products at whose addresses the gateway answers as well: `oauth2-proxy` at `/oauth2/…`, `authelia` at `/api/authz/…`. No app gets requests for these paths then.",
        )
        .example("[\"oauth2-proxy\", \"authelia\"]"),
        key(
        "cache",
        Kind::Duration,
        "\"0s\"",
        "How long a proxy may keep the answer that a request may pass, at most 60s and never longer than the token is valid. A revocation is late by this time. Not for routes with `max_age`, `acr`, `provider` or `rate_limit`.",
    )
    .example("\"5s\"")
    ],
    synonyms: &[],
};

/// The identity presets: a new one is a table of its own in this file, and nothing else.
const PRESETS_FILE: &str = include_str!("../../identity_headers/presets.toml");
const PRESETS: [&str; count_tables(PRESETS_FILE)] = table_names(PRESETS_FILE);

/// Whether a `[table]` begins at this byte.
const fn is_table(toml: &[u8], at: usize) -> bool {
    toml[at] == b'[' && (at == 0 || toml[at - 1] == b'\n')
}

const fn count_tables(toml: &str) -> usize {
    let (toml, mut at, mut count) = (toml.as_bytes(), 0, 0);
    while at < toml.len() {
        count += is_table(toml, at) as usize;
        at += 1;
    }
    count
}

/// The names of the tables, in their order.
const fn table_names<const N: usize>(toml: &'static str) -> [&'static str; N] {
    let (bytes, mut names, mut at, mut count) = (toml.as_bytes(), [""; N], 0, 0);
    while at < bytes.len() {
        if is_table(bytes, at) {
            let mut end = at;
            while bytes[end] != b']' {
                end += 1;
            }
            names[count] = toml.split_at(end).0.split_at(at + 1).1;
            count += 1;
        }
        at += 1;
    }
    names
}
