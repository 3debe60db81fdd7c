//! `[[routes]]` and `[identity]`: what is let through to whom, and what the app is told.

use http::Method;

use super::Reader;
use super::fields::{Empty, One, claim_path, word};
use super::section::{Item, Section};
use crate::config::raw::{At, RawIdentity, RawRoles, RawRoute};
use crate::config::values::echo;
use crate::config::{nearest, schema};
use crate::http::target::PathLeniency;
use crate::values::FieldValue;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

const NO_ROLES: &str =
    "an empty list is ambiguous: name one role at least, or leave the key out to let every caller in";

impl Reader<'_> {
    pub(super) fn route(&mut self, mut section: Section<'_>) -> RawRoute {
        self.require(
            &section,
            &[
                ("path", "the paths that it covers, like `path = \"/*\"`"),
                ("upstream", "the name of an upstream, like `upstream = \"app\"`"),
            ],
        );
        let route = RawRoute {
            host: self.string(&mut section, "host"),
            path: self.string(&mut section, "path"),
            methods: self.list(
                &mut section,
                "methods",
                One::Refused,
                Empty::Refused("leave it out for all methods"),
                Self::method,
            ),
            auth: self.choice(&mut section, "auth"),
            roles: self.roles(&mut section),
            claims: self.claims(
                &mut section,
                Empty::Refused("leave it out if no claim is asked for"),
            ),
            scopes: self
                .list(
                    &mut section,
                    "scopes",
                    One::Refused,
                    Empty::Refused("leave it out if no scope is asked for"),
                    |reader, item| reader.parse(item, "a list of scopes", str::parse),
                )
                .map(|scopes| scopes.value)
                .unwrap_or_default(),
            upstream: self.string(&mut section, "upstream"),
            strip_prefix: self.string(&mut section, "strip_prefix"),
            rewrite_responses: self.flag(&mut section, "rewrite_responses"),
            headers: self.headers(&mut section, "a header value", str::parse::<FieldValue>),
            forward_credential: self.flag(&mut section, "forward_credential"),
            accept: self.accept(&mut section),
            keep_headers: self.header_names(&mut section, "keep_headers"),
        };
        self.finish(section);
        route
    }

    fn accept(&mut self, section: &mut Section<'_>) -> PathLeniency {
        let names = schema::words(section.kind, "accept");
        let read = |reader: &mut Self, item: &Item<'_>| {
            reader.parse(item, "one of the words it knows", |text| {
                word::<String>(text, names)
            })
        };
        let accepted = self.list(section, "accept", One::Refused, Empty::Taken, read);
        let accepted = accepted.map(|accepted| accepted.value).unwrap_or_default();
        accepted.iter().fold(PathLeniency::default(), |accept, name| {
            accept.with_name(name).unwrap_or(accept)
        })
    }

    /// Methods are case-sensitive (RFC 9110 section 9.1), so that `get` is another method, which no client sends.
    fn method(&mut self, item: &Item<'_>) -> Option<At<Method>> {
        let name = self.text(item)?;
        let upper = name.to_ascii_uppercase();
        if matches!(upper.as_str(), "CONNECT" | "TRACE") {
            self.error(&name.span, format!("`{upper}` is never forwarded"))
                .hint("remove it");
            return None;
        }
        let Ok(method) = Method::try_from(name.as_str()) else {
            self.error(&name.span, format!("`{}` is no method", echo(&name)))
                .hint("a method is a word like `GET`");
            return None;
        };
        if upper != name.value {
            self.error(
                &name.span,
                format!("`{}` is not a method that clients send", echo(&name)),
            )
            .hint(format!("methods are case-sensitive: `\"{}\"`", echo(&upper)));
            return None;
        }
        if !METHODS.contains(&name.as_str())
            && let Some(near) = nearest(&name, METHODS)
        {
            self.warning(&name.span, format!("`{}` is an unusual method", echo(&name)))
                .hint(format!("did you mean `{near}`?"));
        }
        Some(At::new(method, name.span))
    }

    fn roles(&mut self, route: &mut Section<'_>) -> Option<At<RawRoles>> {
        let item = route.take("roles")?;
        let span = item.span.clone();
        if !item.is_table() {
            // The array is read as `any` of a table, so that both forms have the same rules.
            let any = self.role_list(item)?;
            return Some(At {
                value: RawRoles {
                    any: Some(any),
                    ..RawRoles::default()
                },
                span,
            });
        }
        let mut section = item.into_section("routes.roles", "roles".to_owned())?;
        let written = ["any", "all", "none"].iter().any(|key| section.has(key));
        let mut list =
            |section: &mut Section<'_>, key: &str| section.take(key).and_then(|item| self.role_list(item));
        let roles = RawRoles {
            any: list(&mut section, "any"),
            all: list(&mut section, "all"),
            none: list(&mut section, "none"),
        };
        self.finish(section);
        if !written {
            self.error(&span, "`roles` names no roles").hint(NO_ROLES);
        }
        Some(At::new(roles, span))
    }

    fn role_list(&mut self, item: Item<'_>) -> Option<Vec<At<String>>> {
        let quoted = item.value.as_str().map(echo);
        let (span, key) = (item.span.clone(), item.key.clone());
        match item.into_elements() {
            Ok(items) if items.is_empty() => {
                self.error(&span, format!("`{key}` names no roles"))
                    .hint(NO_ROLES);
                None
            }
            Ok(items) => Some(items.iter().filter_map(|item| self.text(item)).collect()),
            Err(item) => {
                let hint = match quoted {
                    Some(quoted) => format!("put it in brackets: `[\"{quoted}\"]`"),
                    None => "any of some roles is `[\"a\", \"b\"]`, each of them `{ all = [\"a\", \"b\"] }`"
                        .to_owned(),
                };
                self.expected(&item, "an array of roles").hint(hint);
                None
            }
        }
    }

    pub(super) fn identity(&mut self, mut section: Section<'_>) -> RawIdentity {
        let identity = RawIdentity {
            preset: self.choice(&mut section, "preset"),
            headers: self.headers(&mut section, "the path of a claim", claim_path),
            assertion: self.flag(&mut section, "assertion"),
            encoding: self.choice(&mut section, "encoding"),
            unverified_email: self.flag(&mut section, "unverified_email"),
        };
        self.finish(section);
        identity
    }
}
