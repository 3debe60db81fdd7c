//! `[providers.*]`: sign-in with a provider.

use super::key::{Key, Kind, SECRET, Table, key};

const TEXTS: Kind = Kind::OneOrMore(&Kind::Text);

pub(super) const PROVIDERS: Table = Table {
    path: "providers.*",
    doc: "A provider that users sign in with, by OpenID Connect (`issuer`), by OAuth2 (`authorize_url`, `token_url`, `userinfo_url`), or as `preset` says. The name is in its addresses, `/auth/login/NAME` and `/auth/login/NAME/return`, and belongs to the accounts that it makes: another name makes other accounts. At the provider, the redirect URI is `public_url` with `/auth/login/NAME/return`.",
    keys: &[
        key("preset", Kind::Text, "", "The provider or product whose values are used for the keys that the table does not have; [providers](providers.md) lists them.").example("\"google\""),
        key("issuer", Kind::Text, "", "The issuer, exactly as its discovery document and its ID tokens have it. The gateway reads endpoints and keys from `/.well-known/openid-configuration` below it. `{tid}` in its path stands for a tenant. Required, but for OAuth2 and presets that have one.").example("\"https://id.example.com/realms/main\""),
        key("tenants", Kind::Either(&[Kind::List(&Kind::Text), Kind::Word(&["any", "organizations"])]), "", "The tenants whose users can sign in, by their ids (UUIDs), where `issuer` holds `{tid}`; `any`: every one, personal accounts too; `organizations`: every one but that of personal accounts.").example("[\"72f988bf-86f1-41af-91ab-2d7cd011db47\"]"),
        key("authorize_url", Kind::Text, "", "OAuth2: where the browser is sent to. Not beside `issuer`.").example("\"https://git.example.com/login/oauth/authorize\""),
        key("token_url", Kind::Text, "", "OAuth2: where the code is exchanged.").example("\"https://git.example.com/login/oauth/access_token\""),
        key("userinfo_url", Kind::Text, "", "OAuth2: where the gateway reads who the user is.").example("\"https://git.example.com/api/v3/user\""),
        key("claims", Kind::Table("providers.*.claims"), "", "Where the values are in the claims of the provider.").example("{ subject = \"id\", email = \"email\", email_verified = \"email_verified\", name = \"name\" }"),
        key("client_id", Kind::Text, "", "The id of the gateway at the provider. Required.").example("\"passgate\""),
        key("client_secret", SECRET, "", "The secret of the gateway at the provider. Without it and without `private_key`, the gateway is a public client.").example("{ file = \"provider.secret\" }"),
        key("private_key", SECRET, "", "The private key by which the gateway authenticates (PEM, PKCS#8: P-256, RSA or Ed25519).").example("{ file = \"provider.key\" }"),
        key("key_id", Kind::Text, "", "The id that the provider knows `private_key` by.").example("\"2026-11\""),
        key("team_id", Kind::Text, "", "The team, for the preset `apple`.").example("\"ABCDE12345\""),
        key("client_authentication", Kind::Word(&["basic", "post", "private_key_jwt", "none"]), "", "How the gateway authenticates at the token endpoint: with the secret in `Authorization` or in the form, or with a JWT that `private_key` signs. Without it: that of the preset, else `basic` with a secret, `private_key_jwt` with a key, and `none` without both.").example("\"basic\""),
        key("scopes", Kind::List(&Kind::Text), "[\"openid\", \"email\", \"profile\"]", "The scopes that are asked for."),
        key("authorize_parameters", Kind::Map(&Kind::Text), "", "Further parameters for the provider's sign-in page, such as `prompt`, `login_hint` and `domain_hint`. They restrict nothing.").example("{ prompt = \"select_account\", hd = \"example.com\" }"),
        key("response_mode", Kind::Word(&["query", "form_post"]), "", "How the provider's answer comes back: in the address, or as a form, which needs an `https://` `public_url`. Without it: that of the preset, else `query`.").example("\"form_post\""),
        key("name", Kind::Text, "", "The text of its button on the sign-in page. Without it: that of the preset, else the name of the table.").example("\"Example account\""),
        key("roles_claims", TEXTS, "", "Claims whose values are groups of the user for `roles` and `allow`, and roles themselves. Without it: those of the preset, else none.").example("[\"groups\"]"),
        key("roles", Kind::Tables("providers.*.roles"), "", "Roles that a sign-in gives, beside those that the account has of its own.").example("[{ role = \"admin\", email = \"alice@example.com\" }, { role = \"user\", domain = \"example.com\" }, { role = \"ops\", group = \"sre\" }]"),
        key("allow", Kind::Either(&[Kind::Tables("providers.*.allow"), Kind::Word(&["anyone"])]), "", "The users who can sign in: one of the entries applies to them. With `anyone`, or without it: every account of the provider. Required at providers where the public can have accounts.").example("[{ domain = \"example.com\" }, { email = \"bob@partner.example\" }, { group = \"guests\" }]"),
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
        ("authorization_url", "authorize_url"),
        ("authorization_endpoint", "authorize_url"),
        ("token_endpoint", "token_url"),
        ("userinfo_endpoint", "userinfo_url"),
        ("type", "preset"),
        ("tenant", "tenants"),
        ("login_hint", "authorize_parameters"),
        ("prompt", "authorize_parameters"),
        ("domain_hint", "authorize_parameters"),
    ],
};

pub(super) const CLAIMS: Table = Table {
    path: "providers.*.claims",
    doc: "Claim paths into the ID token and userinfo of the provider.",
    keys: &[
        key("subject", Kind::Text, "", "OAuth2: what tells users apart for ever, text or a whole number. Never a name that can change hands. Without it: `id`, else `sub`. With OpenID Connect it is always `sub`.").example("\"id\""),
        key("email", Kind::Text, "\"email\"", "The address."),
        key("email_verified", Kind::Text, "\"email_verified\"", "Whether the address is verified: it is where this is `true` or `\"true\"`."),
        key("name", Kind::Text, "\"name\"", "The name that is shown."),
    ],
    synonyms: &[("sub", "subject"), ("id", "subject"), ("username", "name")],
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
    doc: "A role, and the users who get it: one of `email`, `domain` and `group`. Only addresses that the provider marks as verified count.",
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
