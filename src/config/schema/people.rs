//! `[session]`, `[signing]`, `[password]` and `[pages]`: sign-in.

use super::key::{Kind, Table, key};
use crate::values::SigningAlgorithm;

pub(super) const SESSION: Table = Table {
    path: "session",
    doc: "Sessions of signed-in users.",
    keys: &[
        key(
            "cookie",
            Kind::Text,
            "\"__Host-session\"",
            "The session cookie. With `__Host-`, browsers send it to this host and over HTTPS only. On plain HTTP the default is `passgate-session`, and another name loses the prefix.",
        ),
        key(
            "token_lifetime",
            Kind::Duration,
            "\"15m\"",
            "The lifetime of the token in the cookie and of access tokens, from 1s to 24h. The gateway renews it without a redirect; a session that ended is refused at the next request.",
        ),
        key(
            "idle_timeout",
            Kind::Duration,
            "\"24h\"",
            "A browser's session that is unused for longer ends. A refresh token of an API client is valid for `lifetime`.",
        ),
        key(
            "lifetime",
            Kind::Duration,
            "\"7d\"",
            "The time after which every session ends.",
        ),
        key(
            "origins",
            Kind::List(&Kind::Text),
            "[]",
            "Other origins whose pages may use `/auth/login`, `/auth/register`, `/auth/refresh`, `/auth/logout`, `/auth/token` and `/auth/me` with credentials (CORS).",
        )
        .example("[\"https://spa.example.com\"]"),
        key(
            "redirect_uris",
            Kind::List(&Kind::Text),
            "[]",
            "Addresses of native clients and single-page apps to which `/auth/login/NAME?mode=token` may return with a one-time code: a scheme of the app with a dot, `https://`, or `http://127.0.0.1` and `http://[::1]` on any port. Each is compared exactly.",
        )
        .example("[\"com.example.app:/signed-in\", \"http://127.0.0.1/cb\"]"),
        key(
            "same_site",
            Kind::Word(&["lax", "none"]),
            "\"lax\"",
            "`none`: browsers send the session cookie also for pages of other sites. Only requests of listed `origins` and navigations count with it then.",
        ),
        key(
            "refresh_cookie",
            Kind::Boolean,
            "false",
            "`true`: a sign-in by JSON gets its refresh token as a cookie that scripts cannot read, and `/auth/refresh` reads it from there.",
        ),
    ],
    synonyms: &[
        ("name", "cookie"),
        ("cookie_name", "cookie"),
        ("ttl", "lifetime"),
        ("max_age", "lifetime"),
    ],
};

pub(super) const SIGNING: Table = Table {
    path: "signing",
    doc: "The key that signs the gateway's own tokens: the session cookie, access tokens and X-Auth-Assertion.",
    keys: &[key(
        "algorithm",
        Kind::Word(SigningAlgorithm::NAMES),
        "\"ES256\"",
        "The algorithm of a new key: of the first one of a state, and of each that `passgate key rotate` makes. The key that a state has stays in use. `jsonwebtoken` of npm, Java and .NET cannot verify `EdDSA`. A signature by `RS256` takes far longer than one by `ES256`.",
    )],
    synonyms: &[("alg", "algorithm")],
};

pub(super) const PASSWORD: Table = Table {
    path: "password",
    doc: "Local accounts, which sign in at `/auth/login`. `passgate user add` makes one; the first one is made with the link that `passgate run` prints.",
    keys: &[
        key(
            "registration",
            Kind::Boolean,
            "false",
            "`true`: `/auth/register` is open to everyone.",
        ),
        key(
            "default_roles",
            Kind::List(&Kind::Text),
            "[]",
            "The roles of an account that was registered.",
        )
        .example("[\"user\"]"),
        key(
            "min_length",
            Kind::Integer(8, 256),
            "8",
            "The fewest characters of a new password, from 8 to 256. Passwords in common use are refused at any length.",
        ),
        key(
            "admin_role",
            Kind::Text,
            "\"admin\"",
            "The role of administrators. While no enabled account has it, each start prints a link that makes one.",
        ),
        key(
            "trust_unconfirmed_email",
            Kind::Boolean,
            "false",
            "`true`: an app also gets the address of a registered account that `passgate user confirm` has not confirmed.",
        ),
    ],
    synonyms: &[],
};

pub(super) const PAGES: Table = Table {
    path: "pages",
    doc: "Sign-in and error pages.",
    keys: &[
        key(
            "name",
            Kind::Text,
            "",
            "The name of the site. Without it: the host of `public_url`.",
        )
        .example("\"Example\""),
        key(
            "logo",
            Kind::Path,
            "",
            "A picture beside the name: .svg, .png, .jpg or .webp.",
        )
        .example("\"logo.svg\""),
        key(
            "colors",
            Kind::Table("pages.colors"),
            "",
            "Colours, `#rgb` or `#rrggbb`; those with `_dark` are for browsers that ask for dark pages.",
        ),
        key(
            "templates",
            Kind::Path,
            "",
            "A directory of templates, each in place of the built-in one of the same name.",
        )
        .example("\"templates\""),
        key(
            "help",
            Kind::Text,
            "",
            "A sentence on the sign-in page for users who cannot sign in.",
        )
        .example("\"Forgot your password? Call the help desk, extension 4711.\""),
    ],
    synonyms: &[],
};

pub(super) const COLORS: Table = Table {
    path: "pages.colors",
    doc: "The colours of the pages. Without an entry: the built-in colour.",
    keys: &[
        key("accent", Kind::Text, "", "Buttons and links.").example("\"#2f6f4f\""),
        key("accent_dark", Kind::Text, "", "Buttons and links on dark pages.").example("\"#7fc8a0\""),
        key("background", Kind::Text, "", "The background.").example("\"#f6f6f3\""),
        key("background_dark", Kind::Text, "", "The background of dark pages.").example("\"#16181a\""),
    ],
    synonyms: &[],
};
