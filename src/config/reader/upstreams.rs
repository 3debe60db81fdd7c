//! `[upstreams.*]`: the apps.

use http::HeaderValue;
use http::uri::PathAndQuery;
use toml::de::DeValue;

use super::Reader;
use super::fields::{Empty, One, word};
use super::section::{Item, Section};
use crate::config::raw::{At, RawHealthCheck, RawUpstream};
use crate::config::schema;
use crate::config::values::{ServerAddress, echo};
use crate::http::url::Url;

impl Reader<'_> {
    pub(super) fn upstream(&mut self, mut section: Section<'_>) -> RawUpstream {
        match (section.has("servers"), section.has("builtin")) {
            (true, true) => {
                self.error(
                    &section.span,
                    format!("`{}` has both `servers` and `builtin`", section.title),
                )
                .hint("keep one of them");
            }
            (false, false) => self.require(
                &section,
                &[("servers", "`servers = [\"http://127.0.0.1:3000\"]`")],
            ),
            _ => {}
        }
        let servers = self.list(
            &mut section,
            "servers",
            One::Refused,
            Empty::Refused("name one at least, like `http://127.0.0.1:3000`"),
            Self::server_address,
        );
        let upstream = RawUpstream {
            servers: servers.map(|servers| servers.value).unwrap_or_default(),
            builtin: self.parsed(&mut section, "builtin", "`whoami`", |text| {
                word(text, schema::words("upstreams.*", "builtin"))
            }),
            host: self.parsed(&mut section, "host", "a host", |text| {
                match format!("http://{text}").parse::<Url>() {
                    Ok(url) if url.rest().is_empty() && url.userinfo().is_none() => {
                        HeaderValue::try_from(text)
                            .map_err(|_| "a host is a name or address, and a port if there is one".to_owned())
                    }
                    Ok(_) => Err("a host is a name or address, and a port if there is one".to_owned()),
                    Err(reason) => Err(reason),
                }
            }),
            connect_timeout: self.duration(&mut section, "connect_timeout"),
            response_timeout: self.duration(&mut section, "response_timeout"),
            idle_timeout: self.duration(&mut section, "idle_timeout"),
            max_connections: self.number(&mut section, "max_connections"),
            ca_file: self.path(&mut section, "ca_file"),
            health_check: self.health_check(&mut section),
        };
        if let (Some(check), Some(_)) = (&upstream.health_check, &upstream.builtin) {
            self.error(&check.span, "something built in has no health to check")
                .hint("remove `health_check`");
        }
        self.finish(section);
        upstream
    }

    fn server_address(&mut self, item: &Item<'_>) -> Option<At<ServerAddress>> {
        if let DeValue::Integer(port) = &item.value {
            let hint = format!("write `\"http://127.0.0.1:{}\"`", echo(&port.to_string()));
            self.expected(item, "the address of a server").hint(hint);
            return None;
        }
        let text = self.text(item)?;
        match ServerAddress::parse(&text) {
            Ok(value) => Some(At::new(value, text.span)),
            Err(bad) => {
                if bad.is_secret {
                    self.problems.hide(&item.span);
                }
                self.error(&item.span, bad.message).hint(bad.hint);
                None
            }
        }
    }

    fn health_check(&mut self, upstream: &mut Section<'_>) -> Option<At<RawHealthCheck>> {
        let form = "health_check = { path = \"/healthz\" }";
        let mut section = self.table(upstream, "health_check", "upstreams.*.health_check", form)?;
        self.require(
            &section,
            &[("path", "what to ask for, like `path = \"/healthz\"`")],
        );
        let path = self.parsed(&mut section, "path", "a path", |text| {
            let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
            match text.parse::<PathAndQuery>() {
                Ok(path) if text.starts_with('/') && plain => Ok(path),
                _ => Err("it begins with `/`".to_owned()),
            }
        });
        let interval = self.duration(&mut section, "interval");
        let span = section.span.clone();
        self.finish(section);
        Some(At {
            value: RawHealthCheck {
                path: path?,
                interval,
            },
            span,
        })
    }
}
