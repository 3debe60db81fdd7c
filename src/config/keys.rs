//! Every key that the TOML file can have. The reader takes a key only if it stands here, and calls every other unknown;
//! the test on `gateway.example.toml` asks for each of them.

use super::nearest;

/// The keys of each table. A table is named by its path: `*` is a name that the operator chooses, and the empty path
/// is the file itself. Tables whose keys are all free (`routes.headers`, `routes.claims`) are not listed.
pub const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "server",
            "admin",
            "state",
            "issuers",
            "credentials",
            "upstreams",
            "routes",
            "identity",
            "session",
            "password",
            "pages",
            "log",
            "tests",
        ],
    ),
    (
        "server",
        &[
            "listen",
            "public_url",
            "workers",
            "trusted_proxies",
            "trusted_headers",
            "max_header_bytes",
            "max_token_bytes",
            "egress_proxy",
            "max_body_bytes",
            "max_connections",
            "max_connections_per_client",
            "header_timeout",
            "idle_timeout",
            "min_rate",
            "drain_timeout",
            "redirect_http",
            "own_prefix",
            "tls",
        ],
    ),
    ("server.egress_proxy", &["url", "password"]),
    ("server.egress_proxy.password", &["file", "env", "credential"]),
    ("server.tls", &["certificate", "private_key", "more"]),
    ("server.tls.more", &["certificate", "private_key"]),
    ("server.tls.private_key", &["file", "env", "credential"]),
    ("admin", &["listen", "hosts"]),
    ("state", &["url"]),
    (
        "issuers.*",
        &[
            "issuer",
            "tenants",
            "audiences",
            "audience_claim",
            "algorithms",
            "jwks_url",
            "jwks_file",
            "public_key_file",
            "secret",
            "discovery",
            "jwks_token",
            "ca_file",
            "allow_http",
            "refresh_interval",
            "refresh_cooldown",
            "roles_claims",
            "leeway",
            "max_age",
            "subject_claim",
            "missing_claims",
        ],
    ),
    ("issuers.*.secret", &["file", "env", "credential"]),
    ("issuers.*.jwks_token", &["file", "env", "credential"]),
    ("credentials", &["sources"]),
    (
        "credentials.sources",
        &["header", "scheme", "cookie", "query", "websocket_protocol"],
    ),
    (
        "upstreams.*",
        &[
            "servers",
            "builtin",
            "host",
            "connect_timeout",
            "response_timeout",
            "idle_timeout",
            "max_connections",
            "ca_file",
            "health_check",
        ],
    ),
    ("upstreams.*.health_check", &["path", "interval"]),
    (
        "routes",
        &[
            "host",
            "path",
            "methods",
            "auth",
            "roles",
            "claims",
            "scopes",
            "upstream",
            "strip_prefix",
            "rewrite_responses",
            "headers",
            "forward_credential",
            "accept",
            "keep_headers",
        ],
    ),
    ("routes.roles", &["any", "all", "none"]),
    (
        "identity",
        &["preset", "headers", "assertion", "encoding", "unverified_email"],
    ),
    (
        "session",
        &["cookie", "token_lifetime", "idle_timeout", "lifetime"],
    ),
    (
        "password",
        &[
            "registration",
            "default_roles",
            "min_length",
            "admin_role",
            "trust_unconfirmed_email",
        ],
    ),
    ("pages", &["name", "logo", "colors", "templates", "help"]),
    (
        "pages.colors",
        &["accent", "accent_dark", "background", "background_dark"],
    ),
    ("log", &["format", "level", "access", "email", "file"]),
    ("tests", &["request", "as", "expect"]),
    ("tests.as", &["subject", "issuer", "roles", "scopes", "claims"]),
];

/// Keys that the documentation of a later release has, by table: refused by name, so that nobody believes them on.
pub(super) const UNAVAILABLE: &[(&str, &[&str])] =
    &[("", &["providers"]), ("routes", &["cors", "rate_limit"])];

/// Words that other programs use for keys of ours, by table.
const SYNONYMS: &[(&str, &[(&str, &str)])] = &[
    (
        "",
        &[
            ("apps", "upstreams"),
            ("backends", "upstreams"),
            ("services", "upstreams"),
            ("rules", "routes"),
            ("locations", "routes"),
            ("database", "state"),
            ("storage", "state"),
            ("metrics", "admin"),
            ("cookie", "session"),
        ],
    ),
    (
        "server",
        &[
            ("address", "listen"),
            ("bind", "listen"),
            ("port", "listen"),
            ("http_address", "listen"),
            ("url", "public_url"),
            ("base_url", "public_url"),
            ("external_url", "public_url"),
            ("origin", "public_url"),
            ("threads", "workers"),
            ("real_ip_from", "trusted_proxies"),
            ("client_max_body_size", "max_body_bytes"),
            ("prefix", "own_prefix"),
        ],
    ),
    (
        "server.tls",
        &[
            ("cert", "certificate"),
            ("cert_file", "certificate"),
            ("key", "private_key"),
            ("key_file", "private_key"),
        ],
    ),
    (
        "admin",
        &[("address", "listen"), ("bind", "listen"), ("port", "listen")],
    ),
    (
        "state",
        &[
            ("path", "url"),
            ("file", "url"),
            ("database", "url"),
            ("dsn", "url"),
        ],
    ),
    (
        "issuers.*",
        &[
            ("iss", "issuer"),
            ("aud", "audiences"),
            ("alg", "algorithms"),
            ("algs", "algorithms"),
            ("jwks", "jwks_url"),
            ("jwks_uri", "jwks_url"),
            ("public_key", "public_key_file"),
            ("key_file", "public_key_file"),
            ("roles", "roles_claims"),
            ("clock_skew", "leeway"),
        ],
    ),
    (
        "upstreams.*",
        &[
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
    ),
    (
        "routes",
        &[
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
        ],
    ),
    (
        "session",
        &[
            ("name", "cookie"),
            ("cookie_name", "cookie"),
            ("ttl", "lifetime"),
            ("max_age", "lifetime"),
        ],
    ),
];

/// The key of `table` that was most likely meant by `typed`, which is none of them.
pub(super) fn suggestion(table: &str, typed: &str) -> Option<&'static str> {
    let synonym = of(SYNONYMS, table)
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(typed))
        .map(|(_, key)| *key);
    synonym.or_else(|| nearest(typed, of(KEYS, table).iter().copied()))
}

/// The keys of `table` in `list`; none where it is not there.
pub(super) fn of<T>(list: &'static [(&str, &[T])], table: &str) -> &'static [T] {
    list.iter()
        .find(|(name, _)| *name == table)
        .map_or(&[], |(_, keys)| keys)
}
