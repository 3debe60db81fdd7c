//! `[server]`, `[admin]`, `[state]`, `[log]`.

use toml::de::DeValue;

use super::Reader;
use super::fields::{Empty, One};
use super::section::{Item, Section};
use crate::config::raw::{
    At, RawAdmin, RawCertificate, RawEgressProxy, RawLog, RawPem, RawServer, RawServerTls, RawState,
};
use crate::config::values;
use crate::http::client::Share;
use crate::http::url::Url;
use crate::values::{Listen, TrustedProxy};

impl Reader<'_> {
    pub(super) fn server(&mut self, mut section: Section<'_>) -> RawServer {
        let listen = self.list(
            &mut section,
            "listen",
            One::Taken,
            Empty::Refused("name an address, like `127.0.0.1:8080`"),
            |reader, item| reader.parse(item, "an address", values::listen),
        );
        let trusted_proxies = self.list(
            &mut section,
            "trusted_proxies",
            One::Refused,
            Empty::Taken,
            |reader, item| {
                let proxy = reader.parse(item, "a network", values::proxy)?;
                if let TrustedProxy::Network(network) = proxy.value
                    && network.prefix_len() == 0
                {
                    reader
                        .warning(
                            &proxy.span,
                            format!("`{network}` trusts the `X-Forwarded-*` of every client"),
                        )
                        .hint("name the networks of the proxies in front of this gateway");
                }
                Some(proxy)
            },
        );
        let server = RawServer {
            scalars: self.scalars(&mut section),
            listen: listen.map(|listen| listen.value).unwrap_or_default(),
            public_url: self.parsed(&mut section, "public_url", "an origin", values::origin),
            trusted_proxies: trusted_proxies.map(|networks| networks.value).unwrap_or_default(),
            trusted_headers: self.header_names(&mut section, "trusted_headers"),
            max_header_bytes: self.size(
                &mut section,
                "max_header_bytes",
                8192..=1 << 20,
                "from 8KiB to 1MiB",
            ),
            max_token_bytes: self.size(
                &mut section,
                "max_token_bytes",
                1024..=1 << 20,
                "from 1KiB to 1MiB",
            ),
            egress_proxy: self.egress_proxy(&mut section),
            max_body_bytes: self.body_limit(&mut section),
            max_connections_per_client: self.share(&mut section, "max_connections_per_client"),
            min_rate: self.min_rate(&mut section),
            redirect_http: self.redirect_http(&mut section),
            own_prefix: self.parsed(&mut section, "own_prefix", "a prefix of paths", values::prefix),
            tls: self.tls(&mut section),
        };
        self.finish(section);
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
        server
    }

    /// A percentage, or a number.
    fn share(&mut self, section: &mut Section<'_>, key: &str) -> Option<At<Share>> {
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
            return Some(At::new(Share::Count(number), item.span));
        }
        self.parse(&item, "a percentage or a number", values::share)
    }

    /// A size, or 0.
    fn min_rate(&mut self, section: &mut Section<'_>) -> Option<At<u64>> {
        const MOST: u64 = 1 << 20;
        let item = section.take("min_rate")?;
        if let DeValue::Integer(number) = &item.value
            && u64::from_str_radix(number.as_str(), number.radix()) == Ok(0)
        {
            return Some(At::new(0, item.span));
        }
        let rate = self.parse(&item, "a size, or 0", values::size)?;
        if *rate > MOST {
            self.error(&rate.span, "`min_rate` must be at most 1MiB")
                .hint("leave the key out for `\"1KiB\"`; 0 is off");
            return None;
        }
        Some(rate)
    }

    fn redirect_http(&mut self, section: &mut Section<'_>) -> Option<At<Listen>> {
        let listen = self.parsed(section, "redirect_http", "an address", values::listen)?;
        if listen.value == Listen::Systemd {
            // All sockets of systemd are one list, and nothing in it says which are not for HTTPS.
            self.error(&listen.span, "`redirect_http` cannot be a socket of systemd")
                .hint("write an address, like `0.0.0.0:80`");
            return None;
        }
        Some(listen)
    }

    fn egress_proxy(&mut self, server: &mut Section<'_>) -> Option<At<RawEgressProxy>> {
        const FORM: &str = "egress_proxy = { url = \"http://user@proxy:3128\", password = { file = \"…\" } }";
        let item = server.take("egress_proxy")?;
        let span = item.span.clone();
        if item.value.as_str() == Some("none") {
            return Some(At::new(RawEgressProxy::None, span));
        }
        let (url, password) = if item.is_table() {
            let mut section = self.section(item, "server.egress_proxy", FORM)?;
            self.require(&section, &[("url", "write `url = \"http://proxy:3128\"`")]);
            let url = section.take("url");
            let has_password = section.has("password");
            let password = section.take("password").and_then(|item| self.secret(item));
            let title = section.span.clone();
            self.finish(section);
            let url = url.and_then(|url| self.proxy_url(&url))?;
            if has_password && url.userinfo().is_none() {
                self.error(&title, "`password` goes with a user, and `url` names none")
                    .hint(format!("write it before `@`: `{FORM}`"));
                return None;
            }
            (url, password)
        } else {
            (self.proxy_url(&item)?, None)
        };
        Some(At {
            value: RawEgressProxy::Proxy { url, password },
            span,
        })
    }

    fn proxy_url(&mut self, item: &Item<'_>) -> Option<At<Url>> {
        let text = self.text(item)?;
        match values::egress_proxy(&text) {
            Ok(url) => Some(At::new(url, text.span)),
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
    fn body_limit(&mut self, section: &mut Section<'_>) -> Option<At<Option<u64>>> {
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

    fn tls(&mut self, server: &mut Section<'_>) -> Option<At<RawServerTls>> {
        let mut section = self.table(server, "tls", "server.tls", "[server.tls]")?;
        self.require(
            &section,
            &[
                ("certificate", "the PEM file of the certificate chain, leaf first"),
                ("private_key", "the PEM file of the key"),
            ],
        );
        let certificate = self.pem(&mut section, "certificate");
        let private_key = self.pem(&mut section, "private_key");
        let more = self.tables(
            &mut section,
            "more",
            "server.tls.more",
            "more = [{ certificate = \"…\", private_key = \"…\" }]",
            Empty::Taken,
            |reader, mut section| {
                let hint = "each entry is `{ certificate = \"…\", private_key = \"…\" }`";
                reader.require(&section, &[("certificate", hint), ("private_key", hint)]);
                let certificate = reader.pem(&mut section, "certificate");
                let private_key = reader.pem(&mut section, "private_key");
                reader.finish(section);
                Some(RawCertificate {
                    certificate: certificate?,
                    private_key: private_key?,
                })
            },
        );
        let span = section.span.clone();
        self.finish(section);
        Some(At {
            value: RawServerTls {
                certificate,
                private_key,
                more: more.unwrap_or_default(),
            },
            span,
        })
    }

    /// The path of a PEM file, or the table of a secret.
    fn pem(&mut self, section: &mut Section<'_>, key: &str) -> Option<At<RawPem>> {
        let item = section.take(key)?;
        if item.is_table() {
            let secret = self.secret(item)?;
            return Some(At::new(RawPem::Secret(secret.value), secret.span));
        }
        if !item.value.is_str() {
            self.expected(&item, "a path or a place of a secret")
                .hint(format!(
                    "write `\"{key}.pem\"`, or `{{ credential = \"…\" }}` for a credential of systemd"
                ));
            return None;
        }
        let path = self.text(&item)?;
        Some(At::new(RawPem::Path(path.value.into()), path.span))
    }

    pub(super) fn log(&mut self, mut section: Section<'_>) -> RawLog {
        let log = RawLog {
            format: self.choice(&mut section, "format"),
            level: self.choice(&mut section, "level"),
            access: self.flag(&mut section, "access"),
            email: self.flag(&mut section, "email"),
            file: self.path(&mut section, "file"),
        };
        if let (Some(access), Some(file)) = (&log.access, &log.file)
            && !access.value
        {
            self.warning(&file.span, "`file` has no effect: there is no access log")
                .also(access.span.clone(), "switched off here")
                .hint("remove one of the two");
        }
        self.finish(section);
        log
    }

    pub(super) fn admin(&mut self, mut section: Section<'_>) -> Option<RawAdmin> {
        self.require(&section, &[("listen", "name an address, like `127.0.0.1:8081`")]);
        let mut listen = self.parsed(&mut section, "listen", "an address", values::listen);
        if let Some(systemd) = listen.take_if(|listen| listen.value == Listen::Systemd) {
            // All sockets of systemd are one list, and nothing in it says which are not for the public.
            self.error(&systemd.span, "the admin port cannot be a socket of systemd")
                .hint("write an address, like `127.0.0.1:8081` or `unix:/run/passgate/admin.sock`");
        }
        let hosts = self.list(
            &mut section,
            "hosts",
            One::Refused,
            Empty::Taken,
            |reader, item| {
                reader.parse(item, "the name of a host", |text| {
                    let name = text.strip_suffix('.').unwrap_or(text);
                    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
                    match !name.is_empty() && name.bytes().all(is_plain) {
                        true => Ok(name.to_ascii_lowercase()),
                        false => Err(
                            "a name alone, like `passgate.internal`: it is taken with every port".to_owned(),
                        ),
                    }
                })
            },
        );
        self.finish(section);
        Some(RawAdmin {
            listen: listen?,
            hosts: hosts.map(|hosts| hosts.value).unwrap_or_default(),
        })
    }

    pub(super) fn state(&mut self, mut section: Section<'_>) -> RawState {
        let url = section.take("url").and_then(|item| self.state_url(&item));
        self.finish(section);
        RawState { url }
    }

    fn state_url(&mut self, item: &Item<'_>) -> Option<At<String>> {
        const HINT: &str = "write `\"sqlite:passgate.db\"`";
        let mut url = self.text(item)?;
        // With three slashes, as other programs write an absolute path in such a URL.
        if let Some(path) = url
            .strip_prefix("sqlite:///")
            .filter(|path| !path.is_empty() && !path.starts_with('/'))
        {
            url.value = format!("sqlite:/{path}");
        }
        match url.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() && !path.starts_with("//") && path != ":memory:" => {
                Some(url)
            }
            Some(("sqlite", ":memory:")) => {
                self.error(&url.span, "a state in memory forgets revocations")
                    .hint(HINT);
                None
            }
            Some(("sqlite", path)) => {
                let path = path.trim_start_matches('/');
                let hint = if path.is_empty() {
                    HINT.to_owned()
                } else {
                    format!(
                        "a path follows the colon: `\"sqlite:{0}\"` beside this file, or `\"sqlite:/{0}\"`",
                        values::echo(path)
                    )
                };
                self.error(&url.span, "`url` names no file").hint(hint);
                None
            }
            Some(("postgres" | "postgresql", _)) => {
                self.error(&url.span, "`postgres://` is not available in this version")
                    .hint(HINT);
                None
            }
            _ => {
                self.error(
                    &url.span,
                    format!(
                        "`url` must be `sqlite:` and a path, found `{}`",
                        values::echo(&url)
                    ),
                )
                .hint(HINT);
                None
            }
        }
    }
}
