//! Every key that the TOML file can have. The reader takes a key only if it stands here, and calls every other unknown;
//! the test on `gateway.example.toml` asks for each of them.

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
            "max_header_bytes",
            "max_body_bytes",
            "max_connections",
            "header_timeout",
            "idle_timeout",
            "drain_timeout",
            "own_prefix",
            "tls",
        ],
    ),
    ("server.tls", &["certificate", "private_key", "more"]),
    ("server.tls.more", &["certificate", "private_key"]),
    ("admin", &["listen"]),
    ("state", &["url"]),
    (
        "issuers.*",
        &[
            "issuer",
            "audiences",
            "audience_claim",
            "algorithms",
            "jwks_url",
            "jwks_file",
            "public_key_file",
            "secret",
            "discovery",
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
    ("credentials", &["sources"]),
    ("credentials.sources", &["header", "scheme", "cookie", "query"]),
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
            "headers",
            "forward_credential",
            "accept",
        ],
    ),
    ("routes.roles", &["any", "all", "none"]),
    ("identity", &["preset", "headers", "assertion"]),
    ("session", &["cookie", "token_lifetime", "idle_timeout", "lifetime"]),
    ("password", &["registration", "default_roles", "min_length"]),
    ("pages", &["name", "logo", "colors", "templates"]),
    ("pages.colors", &["accent", "accent_dark", "background", "background_dark"]),
    ("tests", &["request", "as", "expect"]),
    ("tests.as", &["subject", "issuer", "roles", "scopes", "claims"]),
];

/// Keys that the documentation of a later release has, by table: refused by name, so that nobody believes them on.
pub(super) const UNAVAILABLE: &[(&str, &[&str])] = &[("", &["providers"]), ("routes", &["cors", "rate_limit"])];

/// The keys of `table` in `list`; none where it is not there.
pub(super) fn of(list: &'static [(&str, &[&str])], table: &str) -> &'static [&'static str] {
    list.iter().find(|(name, _)| *name == table).map_or(&[], |(_, keys)| keys)
}
