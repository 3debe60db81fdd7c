//! The process: `[server]`, `[admin]`, `[state]`, `[log]`, and the file as a whole.

use super::key::{Key, Kind, SECRET, Table, key};

const ADDRESSES: Kind = Kind::OneOrMore(&Kind::Text);
const PEM: Kind = Kind::Either(&[Kind::Path, SECRET]);

pub(super) const FILE: Table = Table {
    path: "",
    doc: "The tables of the file. A key that is not listed here is an error.",
    keys: &[
        key("server", Kind::Table("server"), "", "Listeners, limits and TLS."),
        key("admin", Kind::Table("admin"), "", "Health and metrics."),
        key(
            "state",
            Kind::Table("state"),
            "",
            "Where accounts, sessions and keys are kept.",
        ),
        key(
            "issuers",
            Kind::Named("issuers.*"),
            "",
            "Issuers whose tokens are accepted.",
        ),
        key(
            "credentials",
            Kind::Table("credentials"),
            "",
            "Where a token can be in a request.",
        ),
        key("upstreams", Kind::Named("upstreams.*"), "", "The apps."),
        key(
            "routes",
            Kind::Tables("routes"),
            "",
            "Which requests reach which app, and for which callers.",
        ),
        key(
            "identity",
            Kind::Table("identity"),
            "",
            "How an app is told about the caller.",
        ),
        key(
            "session",
            Kind::Table("session"),
            "",
            "Sessions of signed-in users.",
        ),
        key(
            "signing",
            Kind::Table("signing"),
            "",
            "The key that signs the gateway's own tokens.",
        ),
        key("password", Kind::Table("password"), "", "Local accounts."),
        key(
            "providers",
            Kind::Named("providers.*"),
            "",
            "Providers that users sign in with.",
        ),
        key("pages", Kind::Table("pages"), "", "Sign-in and error pages."),
        key(
            "forward_auth",
            Kind::Table("forward_auth"),
            "",
            "How the gateway answers other proxies that ask about requests.",
        ),
        key("log", Kind::Table("log"), "", "The access log and diagnostics."),
        key("audit", Kind::Table("audit"), "", "The audit log."),
        key("tests", Kind::Tables("tests"), "", "Tests of the rules."),
    ],
    synonyms: &[
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
};

pub(super) const SERVER: Table = Table {
    path: "server",
    doc: "Listeners, limits and TLS.",
    keys: &[
        key("listen", ADDRESSES, "\"127.0.0.1:8080\"", "An address or a list of them: IP and port, `unix:/run/passgate.sock`, or `systemd` for the sockets that systemd hands over, `systemd:NAME` for those of one name."),
        key("public_url", Kind::Text, "", "The origin of the site as browsers see it: scheme, host and port. Redirects, cookies and the issuer of the gateway's own tokens use it. Without it: the first address of `listen`. Sign-in from other machines requires `https://`.").example("\"http://127.0.0.1:8080\""),
        key("workers", Kind::Integer(0, 1024), "0", "Worker threads; 0 is one for each core.").restart(),
        key("trusted_proxies", Kind::List(&Kind::Text), "[]", "Proxies in front of the gateway whose `X-Forwarded-*` fields are accepted: networks, like `10.0.0.0/8`, and `unix` for the peers on unix sockets."),
        key("trusted_headers", Kind::List(&Kind::Text), "[]", "Further header fields that pass from `trusted_proxies`, like `X-Real-IP` or `Forwarded`. For, Proto, Host, Port and X-Request-Id pass without an entry."),
        key("proxy_protocol", Kind::Boolean, "false", "`true`: each connection from `trusted_proxies` begins with a header of the PROXY protocol, version 2, which names the client (HAProxy: `send-proxy-v2`). A connection without it is closed. From other peers no header is read."),
        key("max_header_bytes", Kind::Size, "\"32KiB\"", "The largest request head, from 8KiB to 1MiB. A larger one is answered with 431.").restart(),
        key("max_token_bytes", Kind::Size, "\"16KiB\"", "The largest token, from 1KiB to 1MiB and at most `max_header_bytes`. A larger one is refused with 401."),
        key("egress_proxy", Kind::Either(&[Kind::Text, Kind::Table("server.egress_proxy")]), "", "The proxy (CONNECT) for key sets and discovery documents. Without it: `HTTPS_PROXY` and `NO_PROXY` of the environment; `none` ignores them.").example("{ url = \"http://user@proxy:3128\", password = { file = \"proxy.password\" } }"),
        key("max_body_bytes", Kind::Either(&[Kind::Size, Kind::Word(&["unlimited"])]), "\"unlimited\"", "The largest request body. A larger one is answered with 413."),
        key("max_connections", Kind::Integer(1, 10_000_000), "10000", "Connections from clients, all workers together. When all are taken, the client with the most connections loses the one that is idle longest.").restart(),
        key("max_connections_per_client", Kind::Either(&[Kind::Integer(1, 10_000_000), Kind::Text]), "\"25%\"", "The share of one client when all connections are taken, of clients' connections and of those to a server of an app: a percentage or a number. Connections from `trusted_proxies` are not counted.").restart(),
        key("header_timeout", Kind::Duration, "\"10s\"", "The longest wait for a whole request head, for a TLS handshake and for the start of HTTP/2.").restart(),
        key("idle_timeout", Kind::Duration, "\"75s\"", "The longest wait on a connection for its next request, for more of a body, and for a client that reads nothing of a response.").restart(),
        key("min_rate", Kind::Either(&[Kind::Size, Kind::Integer(0, 0)]), "\"1KiB\"", "Bytes a second, over 20 seconds, at which a client must read a response or send a body; 0 is off.").restart(),
        key("drain_timeout", Kind::Duration, "\"30s\"", "On SIGTERM, how long requests under way may go on.").restart(),
        key("redirect_http", Kind::Text, "", "A further address for clients without TLS: each request is redirected (308) to `public_url`.").example("\"0.0.0.0:80\""),
        key("security_headers", Kind::Boolean, "false", "`true`: every route has `security_headers = true` that does not say otherwise."),
        key("own_prefix", Kind::Text, "\"/auth\"", "The path of the gateway's own endpoints. Change it where an app uses this path itself."),
        key("tls", Kind::Table("server.tls"), "", "HTTPS; without this table the gateway serves HTTP.").restart(),
    ],
    synonyms: &[
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
};

pub(super) const EGRESS_PROXY: Table = Table {
    path: "server.egress_proxy",
    doc: "A proxy with a password.",
    keys: &[
        key("url", Kind::Text, "", "The proxy, with the user before `@`.")
            .example("\"http://user@proxy:3128\""),
        key("password", SECRET, "", "The user's password.").example("{ file = \"proxy.password\" }"),
    ],
    synonyms: &[],
};

const CERTIFICATE: Key = key(
    "certificate",
    PEM,
    "",
    "A PEM file of the certificate chain, leaf first.",
)
.example("\"fullchain.pem\"");
const PRIVATE_KEY: Key =
    key("private_key", PEM, "", "The PEM file of its private key.").example("\"privkey.pem\"");

pub(super) const TLS: Table = Table {
    path: "server.tls",
    doc: "HTTPS. The gateway reads the files again when they change.",
    keys: &[
        CERTIFICATE,
        PRIVATE_KEY,
        key(
            "more",
            Kind::Tables("server.tls.more"),
            "",
            "Further certificates, selected by the server name of the client (SNI).",
        )
        .example("[{ certificate = \"other.pem\", private_key = \"other-key.pem\" }]"),
    ],
    synonyms: &[
        ("cert", "certificate"),
        ("cert_file", "certificate"),
        ("key", "private_key"),
        ("key_file", "private_key"),
    ],
};

pub(super) const MORE: Table = Table {
    path: "server.tls.more",
    doc: "A further certificate.",
    keys: &[CERTIFICATE, PRIVATE_KEY],
    synonyms: &[],
};

pub(super) const ADMIN: Table = Table {
    path: "admin",
    doc: "The operator's page, health and metrics, on a port that is not the public one. Without this table there is no such port. Nothing on it changes anything.",
    keys: &[
        key(
            "listen",
            Kind::Text,
            "",
            "The address of the operator's page, `/health`, `/ready` and `/metrics`: IP and port, or `unix:/run/passgate/admin.sock`, whose file has mode 0600.",
        )
        .example("\"127.0.0.1:8081\"")
        .restart(),
        key(
            "hosts",
            Kind::List(&Kind::Text),
            "[]",
            "Names by which monitoring reaches the port, on any port number, besides IP addresses, `localhost` and the host of `public_url`. A request for another name is answered with 421.",
        ),
        key(
            "token",
            SECRET,
            "",
            "The token, at least 16 visible ASCII characters, with which clients on other machines, and those behind a proxy, see remembered decisions and the callers on the operator's page: `Authorization: Bearer …`. Clients on this machine need none.",
        )
        .example("{ file = \"admin.token\" }"),
    ],
    synonyms: &[("address", "listen"), ("bind", "listen"), ("port", "listen")],
};

pub(super) const STATE: Table = Table {
    path: "state",
    doc: "Accounts, sessions, revocations and the gateway's own keys.",
    keys: &[key("url", Kind::Text, "\"sqlite:passgate.db\"", "The SQLite file. Without this key, under systemd, the file is in the state directory of the service (`$STATE_DIRECTORY`).").restart(),
        key("encryption_key", SECRET, "", "The secret by which tokens of providers are encrypted in the state (AES-256-GCM), at least 32 bytes. Without it: a file beside the state file, `passgate.db.key`, which the gateway makes where it needs one. Gateways that share a state need the same key. With another key, sessions with tokens of a provider end.").example("{ file = \"encryption.key\" }").restart(),
    ],
    synonyms: &[("path", "url"), ("file", "url"), ("database", "url"), ("dsn", "url")],
};

pub(super) const LOG: Table = Table {
    path: "log",
    doc: "The access log, one line for each request, and diagnostics, which go to standard error.",
    keys: &[
        key("format", Kind::Word(&["json", "text"]), "\"json\"", "The format of the access log."),
        key("level", Kind::Word(&["error", "warn", "info", "debug", "trace"]), "\"info\"", "The least severe diagnostics that are logged. `$PASSGATE_LOG` overrides it."),
        key("access", Kind::Boolean, "true", "`false`: no access log."),
        key("email", Kind::Boolean, "true", "`false`: the access log names callers by their id alone."),
        key("file", Kind::Path, "", "The file of the access log, with mode 600, opened again on SIGUSR1 and at a reload. Without it: standard output.").example("\"access.log\""),
    ],
    synonyms: &[],
};

pub(super) const AUDIT: Table = Table {
    path: "audit",
    doc: "The audit log: one JSON line for each sign-in, refused sign-in, ended session, and change of accounts, keys and configuration. `docs/audit-log.md` lists the events.",
    keys: &[
        key("file", Kind::Path, "", "The file, made with mode 600 and only appended to. A line is on the disk before its act is answered; an act whose line cannot be written is answered with 503. Opened again on SIGUSR1. Commands like `passgate user` write to it too.").example("\"audit.log\"").restart(),
    ],
    synonyms: &[("path", "file"), ("log", "file")],
};

pub(super) const SECRET_TABLE: Table = Table {
    path: "secret",
    doc: "The place of a secret: exactly one of these keys. A secret is never in the file itself.",
    keys: &[
        key(
            "file",
            Kind::Path,
            "",
            "A file with mode 600; line ends at its end are not part of the secret.",
        )
        .example("\"legacy.secret\""),
        key("env", Kind::Text, "", "An environment variable.").example("\"LEGACY_SECRET\""),
        key(
            "credential",
            Kind::Text,
            "",
            "A credential of systemd (`LoadCredential=`).",
        )
        .example("\"legacy\""),
    ],
    synonyms: &[],
};
