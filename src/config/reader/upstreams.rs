//! `[upstreams.*]`: the apps.

use http::HeaderValue;
use http::uri::PathAndQuery;
use rustls_pki_types::ServerName;
use toml::de::DeValue;

use super::Reader;
use super::fields::Empty;
use super::section::{Item, Section};
use crate::config::raw::{RawHealthCheck, RawUpstream, RawUpstreamServer, Spanned};
use crate::config::values::{ServerAddress, echo};
use crate::http::url::Url;

/// The table of one server in the schema.
const SERVER: &str = "upstreams.*.servers";

impl Reader<'_> {
    pub(super) fn upstream(&mut self, section: &mut Section<'_>) -> Option<RawUpstream> {
        match (section.has("servers"), section.has("builtin")) {
            (true, true) => {
                self.error(
                    &section.span,
                    format!("`{}` has both `servers` and `builtin`", section.title),
                )
                .hint("keep one of them");
            }
            (false, false) => {
                self.require(section, &[("servers", "`servers = [\"http://127.0.0.1:3000\"]`")])
            }
            _ => {}
        }
        let upstream = RawUpstream {
            servers: self.all(
                section,
                "servers",
                Empty::Refused("name one at least, like `http://127.0.0.1:3000`"),
                Self::upstream_server,
            ),
            builtin: self.word(section, "builtin", "`whoami` or `forward-auth`"),
            host: self.parsed(section, "host", "a host", |text| {
                match format!("http://{text}").parse::<Url>() {
                    Ok(url) if url.rest().is_empty() && url.userinfo().is_none() => {
                        HeaderValue::try_from(text)
                            .map_err(|_| "a host is a name or address, and a port if there is one".to_owned())
                    }
                    Ok(_) => Err("a host is a name or address, and a port if there is one".to_owned()),
                    Err(reason) => Err(reason),
                }
            }),
            connect_timeout: self.duration(section, "connect_timeout"),
            response_timeout: self.duration(section, "response_timeout"),
            idle_timeout: self.duration(section, "idle_timeout"),
            max_connections: self.number(section, "max_connections"),
            max_pending: self.number(section, "max_pending"),
            sticky: self.choice(section, "sticky"),
            ca_file: self.path(section, "ca_file"),
            server_name: self.parsed(section, "server_name", "a name", |text| {
                ServerName::try_from(text.to_owned())
                    .map_err(|_| "the name or address that the app's certificate is made out to".to_owned())
            }),
            client_certificate: self.path(section, "client_certificate"),
            client_key: self.watched_pem(section, "client_key"),
            http2: self.flag(section, "http2"),
            proxy_protocol: self.flag(section, "proxy_protocol"),
            health_check: self.table(
                section,
                "health_check",
                "health_check = { path = \"/healthz\" }",
                Self::health_check,
            ),
        };
        let halves = ["client_certificate", "client_key"];
        for (written, missing) in [(halves[0], halves[1]), (halves[1], halves[0])] {
            if section.took(written) && !section.took(missing) {
                self.error(
                    &section.span,
                    format!("`{}` has `{written}` without `{missing}`", section.title),
                )
                .hint("a certificate goes with its key");
            }
        }
        if let (Some(check), Some(_)) = (&upstream.health_check, &upstream.builtin) {
            self.error(&check.span, "something built in has no health to check")
                .hint("remove `health_check`");
        }
        if let (Some(sticky), Some(_)) = (&upstream.sticky, &upstream.builtin) {
            self.error(&sticky.span, "something built in has no servers to keep to")
                .hint("remove `sticky`");
        }
        Some(upstream)
    }

    /// An address, or a table with an address and a weight.
    fn upstream_server(&mut self, item: &Item<'_>) -> Option<Spanned<RawUpstreamServer>> {
        if !item.is_table() {
            let url = self.server_address(item)?;
            let weight = None;
            return Some(Spanned::new(
                RawUpstreamServer {
                    url: url.value,
                    weight,
                },
                url.span,
            ));
        }
        let form = "{ url = \"http://127.0.0.1:3000\", weight = 2 }";
        let server = self.section(item.clone(), SERVER, form, |reader, section| {
            reader.require(
                section,
                &[(
                    "url",
                    "the address of the server, like `url = \"http://127.0.0.1:3000\"`",
                )],
            );
            let weight = reader.weight(section);
            let url = section
                .take("url")
                .and_then(|item| reader.server_address(&item))?;
            Some(Spanned::new(
                RawUpstreamServer {
                    url: url.value,
                    weight,
                },
                url.span,
            ))
        });
        server.map(|server| server.value)
    }

    fn weight(&mut self, section: &mut Section<'_>) -> Option<Spanned<u64>> {
        let item = section.take("weight")?;
        if item.read::<u64>() == Some(0) {
            self.error(&item.span, "a server with `weight = 0` would get no requests")
                .hint("remove the server from `servers`, or write a weight from 1 to 100");
            return None;
        }
        self.number_of(section.kind, &item)
    }

    fn server_address(&mut self, item: &Item<'_>) -> Option<Spanned<ServerAddress>> {
        if let DeValue::Integer(port) = &item.value {
            let hint = format!("write `\"http://127.0.0.1:{}\"`", echo(&port.to_string()));
            self.expected(item, "the address of a server").hint(hint);
            return None;
        }
        self.value(item)
    }

    fn health_check(&mut self, section: &mut Section<'_>) -> Option<RawHealthCheck> {
        self.require(
            section,
            &[("path", "what to ask for, like `path = \"/healthz\"`")],
        );
        let path = self.parsed(section, "path", "a path", |text| {
            let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
            match text.parse::<PathAndQuery>() {
                Ok(path) if text.starts_with('/') && plain => Ok(path),
                _ => Err("it begins with `/`".to_owned()),
            }
        });
        let interval = self.duration(section, "interval");
        Some(RawHealthCheck {
            path: path?,
            interval,
        })
    }
}
