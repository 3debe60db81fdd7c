//! `[upstreams.*]`: the apps.

use toml::de::DeValue;

use super::Reader;
use super::fields::{Empty, One, choose};
use super::section::{Item, Section};
use crate::config::nearest;
use crate::config::raw::{At, RawHealthCheck, RawUpstream};
use crate::config::values::{self, echo};

const SERVER_FORM: &str =
    "a server is `http://127.0.0.1:3000`, `https://host`, `h2c://host:port` or `unix:/run/app.sock`";

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
                choose(text, &["whoami"])
            }),
            host: self.parsed(&mut section, "host", "a host", |text| {
                match values::url(&format!("http://{text}")) {
                    Ok(url) if url.rest.is_empty() && !url.has_userinfo => Ok(text.to_owned()),
                    Ok(_) => Err("a host is a name or address, and a port if there is one".to_owned()),
                    Err(reason) => Err(reason),
                }
            }),
            connect_timeout: self.duration(&mut section, "connect_timeout"),
            response_timeout: self.duration(&mut section, "response_timeout"),
            idle_timeout: self.duration(&mut section, "idle_timeout"),
            max_connections: self.number(&mut section, "max_connections", 1..=1_000_000),
            ca_file: self.path(&mut section, "ca_file"),
            health_check: self.health_check(&mut section),
        };
        self.finish(section);
        upstream
    }

    fn server_address(&mut self, item: &Item<'_>) -> Option<At<String>> {
        if let DeValue::Integer(port) = &item.value {
            let hint = format!("write `\"http://127.0.0.1:{}\"`", echo(&port.to_string()));
            self.expected(item, "the address of a server").hint(hint);
            return None;
        }
        let text = self.text(item)?;
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.ends_with('/') || path.starts_with("//") {
                self.error(&item.span, "a unix server needs the path of its socket")
                    .hint(SERVER_FORM);
                return None;
            }
            return Some(text);
        }
        if !text.contains("://") && text.contains('@') {
            // A password may stand in front of it.
            self.error(&item.span, "the address of a server holds a user or a password")
                .hint(SERVER_FORM);
            self.problems.hide(&item.span);
            return None;
        }
        let url = match values::url(&text) {
            Ok(url) => url,
            Err(reason) => {
                let hint = match text.strip_prefix('/') {
                    Some(_) => format!("a unix socket is written `\"unix:{}\"`", echo(&text)),
                    // A name or address and a port, as `listen` has it.
                    None if !text.contains("://") && values::url(&format!("http://{}", *text)).is_ok() => {
                        format!("the scheme is missing: `\"http://{}\"`", echo(&text))
                    }
                    None => format!("{reason}; {SERVER_FORM}"),
                };
                self.error(&item.span, format!("`{}` is no address of a server", echo(&text)))
                    .hint(hint);
                return None;
            }
        };
        if !["http", "https", "h2c"].contains(&url.scheme) {
            let hint = match nearest(url.scheme, ["http", "https", "h2c"]) {
                Some(near) => format!("did you mean `{near}://`?"),
                None => SERVER_FORM.to_owned(),
            };
            self.error(
                &item.span,
                format!("a server cannot be reached by `{}://`", echo(url.scheme)),
            )
            .hint(hint);
            return None;
        }
        if url.has_userinfo {
            self.error(&item.span, "the address of a server holds a user or a password")
                .hint("leave out what stands in front of `@`");
            return None;
        }
        if let Some(end) = url.rest.find(['?', '#']) {
            let bare = &text[..text.len() - (url.rest.len() - end)];
            self.error(&item.span, "the address of a server has a query or a fragment")
                .hint(format!("write `\"{}\"`", echo(bare)));
            return None;
        }
        Some(text)
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
            if text.starts_with('/') && plain {
                Ok(text.to_owned())
            } else {
                Err("it begins with `/`".to_owned())
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
