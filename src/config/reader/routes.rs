//! `[[routes]]` and `[identity]`: what is let through to whom, and what the app is told.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;

use super::Reader;
use super::fields::{Empty, claim_path, word};
use super::section::{Item, Section};
use crate::config::raw::{
    RawAlternative, RawCors, RawCorsOrigin, RawIdentity, RawMaintenance, RawRateLimit, RawRoles, RawRoute,
    Spanned,
};
use crate::config::values::{self, echo};
use crate::config::{nearest, schema};
use crate::http::target::PathLeniency;
use crate::values::FieldValue;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Of `max_age`: a shorter one could be over before the browser is back.
const SHORTEST_AGE: Duration = Duration::from_secs(10);

const ALTERNATIVE: &str = "write `any = [{ role = \"staff\" }, { from = \"10.0.0.0/8\" }]`: one entry is enough, of which all is needed";

/// Of `rate_limit.per`.
const LIMIT_PERIODS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// From one request to the next, at the full rate of a limit.
const LEAST_INTERVAL: Duration = Duration::from_micros(10);

const NO_ROLES: &str =
    "an empty list is ambiguous: name one role at least, or leave the key out to let every caller in";

/// An origin whose pages may read the answers of a route.
fn cors_origin(text: &str) -> Result<RawCorsOrigin, String> {
    match text {
        "*" => Ok(RawCorsOrigin::Any),
        "null" => Err(values::NULL_ORIGIN.to_owned()),
        _ => values::origin(text).map(RawCorsOrigin::Listed),
    }
}

impl Reader<'_> {
    pub(super) fn route(&mut self, section: &mut Section<'_>) -> Option<RawRoute> {
        self.require(
            section,
            &[
                ("path", "the paths that it covers, like `path = \"/*\"`"),
                ("upstream", "the name of an upstream, like `upstream = \"app\"`"),
            ],
        );
        Some(RawRoute {
            host: section.take("host").and_then(|item| self.value(&item)),
            path: section.take("path").and_then(|item| self.value(&item)),
            methods: self.list(
                section,
                "methods",
                Empty::Refused("leave it out for all methods"),
                Self::method,
            ),
            auth: self.choice(section, "auth"),
            roles: self.roles(section),
            claims: self.claims(section, Empty::Refused("leave it out if no claim is asked for")),
            scopes: self.all(
                section,
                "scopes",
                Empty::Refused("leave it out if no scope is asked for"),
                Self::scope,
            ),
            acr: self.all(
                section,
                "acr",
                Empty::Refused("leave it out if any sign-in will do"),
                Self::acr,
            ),
            max_age: self.max_age(section),
            provider: self.string(section, "provider"),
            from: self.networks(section, "from", "leave it out for clients of every network"),
            none_from: self.networks(section, "none_from", "leave it out if no network is refused"),
            any: self.alternatives(section),
            when: section.take("when").and_then(|item| self.value(&item)),
            enforce: self.choice(section, "enforce"),
            upstream: self.string(section, "upstream"),
            strip_prefix: self.string(section, "strip_prefix"),
            rewrite_responses: self.flag(section, "rewrite_responses"),
            headers: self.headers(section, "a header value", str::parse::<FieldValue>),
            forward_credential: self.flag(section, "forward_credential"),
            forward_provider_token: self.flag(section, "forward_provider_token"),
            accept: self.accept(section),
            keep_headers: self.header_names(section, "keep_headers"),
            cors: self.table(
                section,
                "cors",
                "cors = { origins = [\"https://spa.example.com\"] }",
                Self::cors,
            ),
            security_headers: self.flag(section, "security_headers"),
            maintenance: self.maintenance(section),
            rate_limit: self.table(
                section,
                "rate_limit",
                "rate_limit = { requests = 100, per = \"1s\" }",
                Self::rate_limit,
            ),
        })
    }

    fn cors(&mut self, section: &mut Section<'_>) -> Option<RawCors> {
        self.require(
            section,
            &[(
                "origins",
                "the origins of the pages, like `origins = [\"https://spa.example.com\"]`",
            )],
        );
        let empty = Empty::Refused("name the origin of a page, or leave `cors` out");
        let origins = self.all(section, "origins", empty, |reader, item| {
            reader.parse(item, "a list of origins", cors_origin)
        });
        let credentials = self.flag(section, "credentials");
        if let Some(any) = origins.iter().find(|origin| origin.value == RawCorsOrigin::Any) {
            if let Some(credentials) = credentials.as_ref().filter(|credentials| credentials.value) {
                self.error(&any.span, "`*` cannot stand beside `credentials = true`")
                    .label("pages of every site could do what a signed-in user can")
                    .also(credentials.span.clone(), "credentials are allowed here")
                    .hint("list each origin, or leave `credentials` out");
            } else if origins.len() > 1 {
                self.error(
                    &any.span,
                    "`*` stands for every origin, and others are listed beside it",
                )
                .hint("keep `\"*\"` alone, or list origins only");
            }
        }
        let expose = section.has("expose");
        Some(RawCors {
            origins,
            credentials,
            methods: self.list(
                section,
                "methods",
                Empty::Refused("leave it out for the methods of the route"),
                Self::method,
            ),
            headers: self.header_names(section, "headers"),
            expose: expose.then(|| self.header_names(section, "expose")).or_else(|| {
                section.take("expose");
                None
            }),
            max_age: self.duration_or_zero(section, "max_age"),
        })
    }

    fn maintenance(&mut self, route: &mut Section<'_>) -> Option<Spanned<RawMaintenance>> {
        let item = route.take("maintenance")?;
        if item.is_table() {
            return self.section(item, "routes.maintenance", "maintenance", |reader, section| {
                if section.has("text") == section.has("file") {
                    reader
                        .error(&section.span, "`maintenance` has either `text` or `file`")
                        .hint("write `{ text = \"back at noon\" }` or `{ file = \"maintenance.html\" }`");
                }
                Some(RawMaintenance {
                    text: reader.string(section, "text"),
                    file: reader.path(section, "file"),
                    retry_after: reader.duration(section, "retry_after"),
                })
            });
        }
        let text = self.text(&item)?;
        let span = text.span.clone();
        Some(Spanned::new(
            RawMaintenance {
                text: Some(text),
                ..RawMaintenance::default()
            },
            span,
        ))
    }

    fn networks(&mut self, section: &mut Section<'_>, key: &str, empty: &'static str) -> Vec<Spanned<IpNet>> {
        self.all(section, key, Empty::Refused(empty), |reader, item| {
            let network = reader.parse(item, "a network", values::network)?;
            if network.value.prefix_len() == 0 {
                let family = if network.value.addr().is_ipv4() {
                    "IPv4"
                } else {
                    "IPv6"
                };
                reader
                    .warning(
                        &network.span,
                        format!("`{}` is every {family} address", network.value),
                    )
                    .hint("name the networks of the clients");
            }
            Some(network)
        })
    }

    fn alternatives(&mut self, section: &mut Section<'_>) -> Option<Spanned<Vec<Spanned<RawAlternative>>>> {
        let item = section.take("any")?;
        let span = item.span.clone();
        let Ok(items) = item.into_elements() else {
            self.error(&span, "`any` must be an array of tables")
                .hint(ALTERNATIVE);
            return None;
        };
        if items.is_empty() {
            self.error(&span, "`any` is empty: no request could pass")
                .hint(ALTERNATIVE);
            return None;
        }
        let read = |item| self.section(item, "routes.any", "{ role = \"staff\" }", Self::alternative);
        let all: Vec<_> = items.into_iter().filter_map(read).collect();
        (!all.is_empty()).then(|| Spanned::new(all, span))
    }

    fn alternative(&mut self, section: &mut Section<'_>) -> Option<RawAlternative> {
        let keys = ["role", "scope", "claims", "from"];
        let is_empty = !keys.iter().any(|key| section.has(key));
        let alternative = RawAlternative {
            role: self.parsed(section, "role", "the name of a role", values::role),
            scope: section.take("scope").and_then(|item| self.scope(&item)),
            claims: self.claims(section, Empty::Refused("leave it out if no claim is asked for")),
            from: self.networks(section, "from", "leave it out for clients of every network"),
        };
        if is_empty {
            self.error(&section.span, "an entry of `any` asks for nothing")
                .hint(ALTERNATIVE);
            return None;
        }
        Some(alternative)
    }

    fn rate_limit(&mut self, section: &mut Section<'_>) -> Option<RawRateLimit> {
        self.require(
            section,
            &[
                (
                    "requests",
                    "how many requests pass in the time `per`, like `requests = 100`",
                ),
                ("per", "the time for these requests, like `per = \"1s\"`"),
            ],
        );
        let limit = RawRateLimit {
            requests: self.number(section, "requests"),
            per: self.duration(section, "per"),
            by: self.choice(section, "by"),
        };
        let (requests, per) = (limit.requests.as_ref()?, limit.per.as_ref()?);
        if !LIMIT_PERIODS.contains(&per.value) {
            self.error(&per.span, "`per` must be from 1 second to 24 hours")
                .hint("5 requests in 100 ms are 50 in `\"1s\"`");
        } else if per.as_nanos() / u128::from(requests.value) < LEAST_INTERVAL.as_nanos() {
            self.error(&requests.span, "more than 100000 requests a second are no limit")
                .hint("write a smaller number, or leave `rate_limit` out");
        }
        Some(limit)
    }

    fn max_age(&mut self, section: &mut Section<'_>) -> Option<Spanned<Duration>> {
        let max_age = self.duration(section, "max_age")?;
        if max_age.value < SHORTEST_AGE {
            self.error(&max_age.span, "`max_age` is shorter than 10 seconds")
                .hint("the way back from the sign-in takes time: write `\"10s\"` or more");
        }
        Some(max_age)
    }

    fn accept(&mut self, section: &mut Section<'_>) -> PathLeniency {
        let names = schema::words(section.kind, "accept");
        let accepted = self.all(section, "accept", Empty::Taken, |reader, item| {
            reader.parse(item, "one of the words it knows", |text| {
                word::<String>(text, names)
            })
        });
        accepted.iter().fold(PathLeniency::default(), |accept, name| {
            accept.with_name(name).unwrap_or(accept)
        })
    }

    /// Methods are case-sensitive (RFC 9110 section 9.1), so that `get` is another method, which no client sends.
    fn method(&mut self, item: &Item<'_>) -> Option<Spanned<Method>> {
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
        Some(Spanned::new(method, name.span))
    }

    fn roles(&mut self, route: &mut Section<'_>) -> Option<Spanned<RawRoles>> {
        let item = route.take("roles")?;
        if item.is_table() {
            return self.section(item, "routes.roles", "roles", Self::role_table);
        }
        // The array is read as `any` of a table, so that both forms have the same rules.
        let span = item.span.clone();
        let any = Some(self.role_list(item)?);
        Some(Spanned::new(
            RawRoles {
                any,
                ..RawRoles::default()
            },
            span,
        ))
    }

    fn role_table(&mut self, section: &mut Section<'_>) -> Option<RawRoles> {
        if !["any", "all", "none"].iter().any(|key| section.has(key)) {
            self.error(&section.span, "`roles` names no roles").hint(NO_ROLES);
        }
        let mut list = |key: &str| section.take(key).and_then(|item| self.role_list(item));
        Some(RawRoles {
            any: list("any"),
            all: list("all"),
            none: list("none"),
        })
    }

    fn role_list(&mut self, item: Item<'_>) -> Option<Vec<Spanned<String>>> {
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

    pub(super) fn identity(&mut self, section: &mut Section<'_>) -> Option<RawIdentity> {
        Some(RawIdentity {
            preset: self.choice(section, "preset"),
            headers: self.headers(section, "the path of a claim", claim_path),
            assertion: self.flag(section, "assertion"),
            encoding: self.choice(section, "encoding"),
            unverified_email: self.flag(section, "unverified_email"),
        })
    }
}
