//! `[server]`, `[admin]`, `[state]`, `[log]`.

use std::time::Duration;

use toml::de::DeValue;

use super::Reader;
use super::fields::{Empty, word};
use super::section::{Item, Section};
use crate::config::raw::{
    RawAdmin, RawAudit, RawCertificate, RawEgressProxy, RawForwardAuth, RawLog, RawPem, RawServer,
    RawServerTls, RawState, Spanned,
};
use crate::config::{schema, values};
use crate::http::client::Share;
use crate::http::url::Url;
use crate::values::{Listen, TrustedProxy};

/// The longest time for which a proxy may keep an answer.
const LONGEST_CACHE: Duration = Duration::from_secs(60);

impl Reader<'_> {
    pub(super) fn server(&mut self, section: &mut Section<'_>) -> Option<RawServer> {
        let proxy_protocol = section.span_of("proxy_protocol");
        let server = RawServer {
            scalars: self.scalars(section),
            listen: self.all(
                section,
                "listen",
                Empty::Refused("name an address, like `127.0.0.1:8080`"),
                |reader, item| reader.parse(item, "an address", values::listen),
            ),
            public_url: self.parsed(section, "public_url", "an origin", values::origin),
            trusted_proxies: self.all(section, "trusted_proxies", Empty::Taken, Self::trusted_proxy),
            trusted_headers: self.header_names(section, "trusted_headers"),
            max_header_bytes: self.size(section, "max_header_bytes", 8192..=1 << 20, "from 8KiB to 1MiB"),
            max_token_bytes: self.size(section, "max_token_bytes", 1024..=1 << 20, "from 1KiB to 1MiB"),
            egress_proxy: section
                .take("egress_proxy")
                .and_then(|item| self.egress_proxy(item)),
            max_body_bytes: self.body_limit(section),
            max_connections_per_client: self.share(section, "max_connections_per_client"),
            min_rate: self.min_rate(section),
            redirect_http: self.redirect_http(section),
            own_prefix: self.parsed(section, "own_prefix", "a prefix of paths", values::prefix),
            tls: self.table(section, "tls", "[server.tls]", Self::tls),
        };
        if server.trusted_proxies.is_empty() && server.scalars.get("server", "proxy_protocol") {
            self.warning(
                &proxy_protocol,
                "`proxy_protocol` has no effect: `trusted_proxies` is empty",
            )
            .hint("list the proxy that sends the header: `trusted_proxies = [\"10.0.0.5\"]`");
        }
        // 16 KiB fit into the smallest `max_header_bytes` but one: what is not written is no mistake of the writer's.
        let most = server
            .max_header_bytes
            .as_ref()
            .map_or(32 * 1024, |most| most.value);
        if let Some(token) = server.max_token_bytes.as_ref().filter(|token| token.value > most) {
            self.error(
                &token.span,
                format!("`max_token_bytes` is more than a request head may have ({most} bytes)"),
            )
            .hint("a token is a part of the head: make `max_header_bytes` larger as well");
        }
        Some(server)
    }

    fn trusted_proxy(&mut self, item: &Item<'_>) -> Option<Spanned<TrustedProxy>> {
        let proxy = self.parse(item, "a network", values::proxy)?;
        if let TrustedProxy::Network(network) = proxy.value
            && network.prefix_len() == 0
        {
            let message = format!("`{network}` trusts the `X-Forwarded-*` of every client");
            self.warning(&proxy.span, message)
                .hint("name the networks of the proxies in front of this gateway");
        }
        Some(proxy)
    }

    /// A percentage, or a number.
    fn share(&mut self, section: &mut Section<'_>, key: &str) -> Option<Spanned<Share>> {
        let item = section.take(key)?;
        if let DeValue::Integer(number) = &item.value {
            let number = u64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .filter(|number| *number > 0);
            let Some(number) = number.and_then(|number| usize::try_from(number).ok()) else {
                self.error(&item.span, format!("`{key}` must be at least 1"))
                    .hint("leave the key out for `\"25%\"`");
                return None;
            };
            return Some(Spanned::new(Share::Count(number), item.span));
        }
        self.parse(&item, "a percentage or a number", values::share)
    }

    /// A size, or 0.
    fn min_rate(&mut self, section: &mut Section<'_>) -> Option<Spanned<u64>> {
        const MOST: u64 = 1 << 20;
        let item = section.take("min_rate")?;
        if let DeValue::Integer(number) = &item.value
            && u64::from_str_radix(number.as_str(), number.radix()) == Ok(0)
        {
            return Some(Spanned::new(0, item.span));
        }
        let rate = self.parse(&item, "a size, or 0", values::size)?;
        if *rate > MOST {
            self.error(&rate.span, "`min_rate` must be at most 1MiB")
                .hint("leave the key out for `\"1KiB\"`; 0 is off");
            return None;
        }
        Some(rate)
    }

    fn redirect_http(&mut self, section: &mut Section<'_>) -> Option<Spanned<Listen>> {
        let listen = self.parsed(section, "redirect_http", "an address", values::listen)?;
        if listen.value == Listen::Systemd(None) {
            // Without names, nothing says which of the sockets are not for HTTPS.
            self.error(&listen.span, "`redirect_http` cannot be all sockets of systemd")
                .hint("name one of them, like `systemd:http`, or write an address, like `0.0.0.0:80`");
            return None;
        }
        Some(listen)
    }

    fn egress_proxy(&mut self, item: Item<'_>) -> Option<Spanned<RawEgressProxy>> {
        const FORM: &str = "egress_proxy = { url = \"http://user@proxy:3128\", password = { file = \"…\" } }";
        let span = item.span.clone();
        if item.value.as_str() == Some("none") {
            return Some(Spanned::new(RawEgressProxy::None, span));
        }
        if !item.is_table() {
            let (url, password) = (self.proxy_url(&item)?, None);
            return Some(Spanned::new(RawEgressProxy::Proxy { url, password }, span));
        }
        self.section(item, "server.egress_proxy", FORM, |reader, section| {
            reader.require(section, &[("url", "write `url = \"http://proxy:3128\"`")]);
            let url = section.take("url");
            let has_password = section.has("password");
            let password = section.take("password").and_then(|item| reader.secret(item));
            let url = url.and_then(|url| reader.proxy_url(&url))?;
            if has_password && url.userinfo().is_none() {
                reader
                    .error(&section.span, "`password` goes with a user, and `url` names none")
                    .hint(format!("write it before `@`: `{FORM}`"));
                return None;
            }
            Some(RawEgressProxy::Proxy { url, password })
        })
    }

    fn proxy_url(&mut self, item: &Item<'_>) -> Option<Spanned<Url>> {
        let text = self.text(item)?;
        match values::egress_proxy(&text) {
            Ok(url) => Some(Spanned::new(url, text.span)),
            Err(reason) => {
                if text.contains('@') {
                    self.problems.hide(&item.span);
                }
                self.error(&item.span, format!("`{}` must be the URL of a proxy", item.key))
                    .hint(reason);
                None
            }
        }
    }

    /// `"unlimited"` is `None`.
    fn body_limit(&mut self, section: &mut Section<'_>) -> Option<Spanned<Option<u64>>> {
        self.parsed(
            section,
            "max_body_bytes",
            "a size or `\"unlimited\"`",
            |text| match text {
                "unlimited" => Ok(None),
                _ => values::size(text).map(Some),
            },
        )
    }

    fn tls(&mut self, section: &mut Section<'_>) -> Option<RawServerTls> {
        self.require(
            section,
            &[
                ("certificate", "the PEM file of the certificate chain, leaf first"),
                ("private_key", "the PEM file of the key"),
            ],
        );
        Some(RawServerTls {
            certificate: self.pem(section, "certificate"),
            private_key: self.pem(section, "private_key"),
            more: self
                .tables(
                    section,
                    "more",
                    "more = [{ certificate = \"…\", private_key = \"…\" }]",
                    Empty::Taken,
                    Self::certificate,
                )
                .unwrap_or_default(),
        })
    }

    fn certificate(&mut self, section: &mut Section<'_>) -> Option<RawCertificate> {
        let hint = "each entry is `{ certificate = \"…\", private_key = \"…\" }`";
        self.require(section, &[("certificate", hint), ("private_key", hint)]);
        let certificate = self.pem(section, "certificate");
        let private_key = self.pem(section, "private_key");
        Some(RawCertificate {
            certificate: certificate?,
            private_key: private_key?,
        })
    }

    /// The path of a PEM file, or the table of a secret.
    fn pem(&mut self, section: &mut Section<'_>, key: &str) -> Option<Spanned<RawPem>> {
        let item = section.take(key)?;
        if item.is_table() {
            let secret = self.secret(item)?;
            return Some(Spanned::new(RawPem::Secret(secret.value), secret.span));
        }
        if !item.value.is_str() {
            self.expected(&item, "a path or a place of a secret")
                .hint(format!(
                    "write `\"{key}.pem\"`, or `{{ credential = \"…\" }}` for a credential of systemd"
                ));
            return None;
        }
        let path = self.text(&item)?;
        Some(Spanned::new(RawPem::Path(path.value.into()), path.span))
    }

    /// The same for a file that is read again, with the whole configuration, when it changes.
    pub(super) fn watched_pem(&mut self, section: &mut Section<'_>, key: &str) -> Option<Spanned<RawPem>> {
        let pem = self.pem(section, key)?;
        if let RawPem::Path(path) = &pem.value {
            self.problems.depends_on(path);
        }
        Some(pem)
    }

    pub(super) fn forward_auth(&mut self, section: &mut Section<'_>) -> Option<RawForwardAuth> {
        let cache = self.duration_or_zero(section, "cache").filter(|cache| {
            let is_short = cache.value <= LONGEST_CACHE;
            if !is_short {
                self.error(&cache.span, "`cache` must be at most 60s")
                    .hint("a session that ends is let through for as long as a proxy keeps the answer");
            }
            is_short
        });
        let products = schema::words(section.kind, "aliases");
        let aliases = self.all(section, "aliases", Empty::Taken, |reader, item| {
            reader.parse(item, "a list of products", |text| word(text, products))
        });
        Some(RawForwardAuth {
            aliases,
            grpc: self.flag(section, "grpc"),
            cache,
        })
    }

    pub(super) fn log(&mut self, section: &mut Section<'_>) -> Option<RawLog> {
        let log = RawLog {
            format: self.choice(section, "format"),
            level: self.choice(section, "level"),
            access: self.flag(section, "access"),
            email: self.flag(section, "email"),
            file: self.output_path(section, "file"),
        };
        if let (Some(access), Some(file)) = (&log.access, &log.file)
            && !access.value
        {
            self.warning(&file.span, "`file` has no effect: there is no access log")
                .also(access.span.clone(), "switched off here")
                .hint("remove one of the two");
        }
        Some(log)
    }

    pub(super) fn audit(&mut self, section: &mut Section<'_>) -> Option<RawAudit> {
        self.require(section, &[("file", "name a file, like `file = \"audit.log\"`")]);
        Some(RawAudit {
            file: self.output_path(section, "file"),
        })
    }

    pub(super) fn admin(&mut self, section: &mut Section<'_>) -> Option<RawAdmin> {
        self.require(section, &[("listen", "name an address, like `127.0.0.1:8081`")]);
        let mut listen = self.parsed(section, "listen", "an address", values::listen);
        if let Some(systemd) = listen.take_if(|listen| listen.value == Listen::Systemd(None)) {
            // Without names, nothing says which of the sockets are not for the public.
            self.error(&systemd.span, "the admin port cannot be all sockets of systemd")
                .hint("name one of them, like `systemd:admin`, or write an address, like `127.0.0.1:8081` or `unix:/run/passgate/admin.sock`");
        }
        let hosts = self.all(section, "hosts", Empty::Taken, |reader, item| {
            reader.parse(item, "the name of a host", |text| {
                let name = text.strip_suffix('.').unwrap_or(text);
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
                match !name.is_empty() && name.bytes().all(is_plain) {
                    true => Ok(name.to_ascii_lowercase()),
                    false => {
                        Err("a name alone, like `passgate.internal`: it is taken with every port".to_owned())
                    }
                }
            })
        });
        let token = section.take("token").and_then(|item| self.secret(item));
        Some(RawAdmin {
            listen: listen?,
            hosts,
            token,
        })
    }

    pub(super) fn state(&mut self, section: &mut Section<'_>) -> Option<RawState> {
        Some(RawState {
            url: section.take("url").and_then(|item| self.value(&item)),
            encryption_key: section.take("encryption_key").and_then(|item| self.secret(item)),
        })
    }
}
