//! `[issuers.*]` and `[credentials]`: the tokens that are accepted, and where they can be.

use super::key::{Kind, SECRET, Table, key};

/// The algorithms of RFC 7518 section 3.1, RFC 8037 section 3.1 and RFC 9864 section 2.2 that the gateway verifies.
const ALGORITHMS: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "ES512", "EdDSA", "Ed25519",
];

const TEXTS: Kind = Kind::OneOrMore(&Kind::Text);

pub(super) const ISSUERS: Table = Table {
    path: "issuers.*",
    doc: "An issuer whose tokens are accepted. Exactly one of `jwks_url`, `jwks_file`, `public_key_file`, `secret` and `discovery` names its keys. Tokens of `passgate token mint` need no table.",
    keys: &[
        key("issuer", Kind::Text, "", "The exact `iss` of its tokens; `{tid}` stands for the tenant.").example("\"https://id.example.com/realms/main\""),
        key("tenants", Kind::Either(&[Kind::List(&Kind::Text), Kind::Word(&["any"])]), "", "The tenants whose tokens are accepted, where `issuer` holds `{tid}`. With more than one, `subject_claim` is `sub` or `oid`, and an email address counts only where `xms_edov` marks it as verified.").example("[\"72f988bf-86f1-41af-91ab-2d7cd011db47\"]"),
        key("audiences", TEXTS, "", "A token is accepted if its `aud` has one of these. Required, unless `missing_claims` has `aud`.").example("[\"api\"]"),
        key("audience_claim", Kind::Text, "\"aud\"", "The claim that holds the audience. For Cognito access tokens: `client_id`."),
        key("algorithms", Kind::List(&Kind::Word(ALGORITHMS)), "", "The signature algorithms that the issuer uses; a token with another one is refused. Required.").example("[\"RS256\", \"ES256\"]"),
        key("jwks_url", Kind::Text, "", "The URL of its key set.").example("\"https://id.example.com/realms/main/protocol/openid-connect/certs\""),
        key("jwks_file", Kind::Path, "", "A file with its key set.").example("\"ci.jwks.json\""),
        key("public_key_file", Kind::Path, "", "A PEM file with its public key.").example("\"partner.pem\""),
        key("secret", SECRET, "", "Its shared secret, for `HS256`, `HS384` and `HS512`.").example("{ file = \"legacy.secret\" }"),
        key("discovery", Kind::Boolean, "false", "`true`: the gateway finds the keys by OpenID Connect Discovery.").example("true"),
        key("jwks_token", SECRET, "", "A bearer token for the server of the keys. It is read again for each request and sent to this server alone, over HTTPS.").example("{ file = \"/var/run/secrets/kubernetes.io/serviceaccount/token\" }"),
        key("ca_file", Kind::Path, "", "The certificate authorities for `jwks_url` and discovery. Without it: those of the system.").example("\"ca.pem\""),
        key("allow_http", Kind::Boolean, "false", "`true`: keys are fetched over plain HTTP from another machine."),
        key("refresh_interval", Kind::Duration, "\"5m\"", "The time between two fetches of the keys."),
        key("refresh_cooldown", Kind::Duration, "\"10s\"", "The shortest time between two fetches that unknown key ids cause."),
        key("roles_claims", TEXTS, "[\"roles\", \"role\"]", "Claims that hold roles, as paths. A name with a dot is quoted; the names of an object are roles too.").example("[\"realm_access.roles\", 'resource_access.\"my.client\".roles']"),
        key("leeway", Kind::Duration, "\"30s\"", "The tolerance for clocks that differ."),
        key("max_age", Kind::Duration, "", "The greatest age of a token, from its `iat`. Without it: any age, until `exp`.").example("\"24h\""),
        key("subject_claim", TEXTS, "\"sub\"", "The claim that names the subject, or a list of claims of which the first that is present counts. The value of another than the first is written as `client_id:…`.").example("[\"sub\", \"client_id\"]"),
        key("missing_claims", Kind::OneOrMore(&Kind::Word(&["iss", "aud"])), "", "The claims of `iss` and `aud` that a token may lack, with keys that are kept on this machine. At most one issuer takes tokens without `iss`.").example("[\"iss\", \"aud\"]"),
    ],
    synonyms: &[
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
};

pub(super) const CREDENTIALS: Table = Table {
    path: "credentials",
    doc: "Where a token can be in a request. The first source that has one counts.",
    keys: &[key(
        "sources",
        Kind::Tables("credentials.sources"),
        "[{ header = \"authorization\", scheme = \"Bearer\" }]",
        "The sources, in order.",
    )],
    synonyms: &[],
};

pub(super) const SOURCES: Table = Table {
    path: "credentials.sources",
    doc: "A source of tokens: one of `header`, `cookie`, `query` and `websocket_protocol`.",
    keys: &[
        key("header", Kind::Text, "", "A header field.").example("\"x-token\""),
        key("scheme", Kind::Text, "", "The scheme in front of the token in the header field. Without it the field holds the token alone.").example("\"Bearer\""),
        key("cookie", Kind::Text, "", "A cookie.").example("\"__session\""),
        key("query", Kind::Text, "", "A query parameter. The gateway removes it before it logs or forwards the request.").example("\"access_token\""),
        key("websocket_protocol", Kind::Text, "", "A WebSocket protocol that the token follows: `new WebSocket(url, [\"bearer\", token])`. The gateway removes both from the list of protocols.").example("\"bearer\""),
    ],
    synonyms: &[],
};
