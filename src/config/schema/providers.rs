//! `[providers.*]`: sign-in with a provider.

use super::key::{Key, Kind, SECRET, Table, key};

const TEXTS: Kind = Kind::OneOrMore(&Kind::Text);

pub(super) const PROVIDERS: Table = Table {
    path: "providers.*",
    doc: "An OpenID Connect provider that users sign in with. The name is in its addresses, `/auth/login/NAME` and `/auth/login/NAME/return`, and belongs to the accounts that it makes: another name makes other accounts. At the provider, the redirect URI is `public_url` with `/auth/login/NAME/return`.",
    keys: &[
        key("issuer", Kind::Text, "", "The issuer, exactly as its discovery document and its ID tokens have it. The gateway reads endpoints and keys from `/.well-known/openid-configuration` below it. Required.").example("\"https://id.example.com/realms/main\""),
        key("client_id", Kind::Text, "", "The id of the gateway at the provider. Required.").example("\"passgate\""),
        key("client_secret", SECRET, "", "The secret of the gateway at the provider. Without it the gateway is a public client.").example("{ file = \"provider.secret\" }"),
        key("client_authentication", Kind::Word(&["basic", "post", "none"]), "", "How the secret is sent to the token endpoint: in `Authorization` or in the form. Without it: `basic` with a secret, else `none`.").example("\"basic\""),
        key("scopes", Kind::List(&Kind::Text), "[\"openid\", \"email\", \"profile\"]", "The scopes that are asked for."),
        key("name", Kind::Text, "", "The text of its button on the sign-in page. Without it: the name of the table.").example("\"Example account\""),
        key("roles_claims", TEXTS, "", "Claims whose values are groups of the user for `roles` and `allow`, and roles themselves. Without it: none.").example("[\"groups\"]"),
        key("roles", Kind::Tables("providers.*.roles"), "", "Roles that a sign-in gives, beside those that the account has of its own.").example("[{ role = \"admin\", email = \"alice@example.com\" }, { role = \"user\", domain = \"example.com\" }, { role = \"ops\", group = \"sre\" }]"),
        key("allow", Kind::Either(&[Kind::Tables("providers.*.allow"), Kind::Word(&["anyone"])]), "", "The users who can sign in: one of the entries applies to them. Without it, or with `anyone`: every account of the provider.").example("[{ domain = \"example.com\" }, { email = \"bob@partner.example\" }, { group = \"guests\" }]"),
        key("refresh", Kind::Boolean, "false", "`true`: the gateway keeps the provider's refresh token, encrypted, and reads claims and roles afresh once in `session.token_lifetime` while a session is in use. A session whose grant the provider has withdrawn ends. With `scopes` not written, `offline_access` is asked for where the provider knows it."),
        key("authoritative_domains", Kind::List(&Kind::Text), "", "Domains whose addresses this provider assigns. A verified address of such a domain signs in to the confirmed local account that has it; from elsewhere, addresses of the domain count as unverified. Subdomains are domains of their own. Without it: none.").example("[\"example.com\"]"),
        key("ca_file", Kind::Path, "", "The certificate authorities for the provider. Without it: those of the system.").example("\"ca.pem\""),
    ],
    synonyms: &[
        ("issuer_url", "issuer"),
        ("oidc_issuer_url", "issuer"),
        ("secret", "client_secret"),
        ("scope", "scopes"),
        ("label", "name"),
        ("groups_claim", "roles_claims"),
        ("token_endpoint_auth_method", "client_authentication"),
        ("allowed", "allow"),
    ],
};

/// Of `roles` and of `allow`.
const DOMAIN: Key = key(
    "domain",
    Kind::Text,
    "",
    "Users with a verified address of this domain.",
)
.example("\"example.com\"");

pub(super) const GRANTS: Table = Table {
    path: "providers.*.roles",
    doc: "A role, and the users who get it: one of `email`, `domain` and `group`. Only addresses that the provider marks as verified (`email_verified`) count.",
    keys: &[
        key("role", Kind::Text, "", "The role. Required.").example("\"admin\""),
        key("email", Kind::Text, "", "The user with this verified address.").example("\"alice@example.com\""),
        DOMAIN,
        key(
            "group",
            Kind::Text,
            "",
            "Users with this value in `roles_claims`.",
        )
        .example("\"sre\""),
    ],
    synonyms: &[],
};

pub(super) const ALLOW: Table = Table {
    path: "providers.*.allow",
    doc: "Users who can sign in: one of `email`, `domain` and `group`.",
    keys: &[
        key("email", Kind::Text, "", "The user with this verified address.")
            .example("\"bob@partner.example\""),
        DOMAIN,
        key(
            "group",
            Kind::Text,
            "",
            "Users with this value in `roles_claims`.",
        )
        .example("\"guests\""),
    ],
    synonyms: &[],
};
