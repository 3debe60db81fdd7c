//! `[[tests]]`: what `check` tries.

use toml::de::DeValue;

use super::Reader;
use super::fields::{Empty, scalar, word};
use super::section::{Item, Section};
use crate::config::raw::{RawExpect, RawTest, RawTestCaller, Spanned};
use crate::config::{schema, values};
use crate::values::RequestLine;

impl Reader<'_> {
    pub(super) fn case(&mut self, section: &mut Section<'_>) -> Option<RawTest> {
        self.require(
            section,
            &[
                ("request", "a method and a path, like `request = \"GET /\"`"),
                (
                    "expect",
                    "`\"allow\"`, `\"login\"` or the status of the refusal, like `expect = 403`",
                ),
            ],
        );
        let request = section.take("request").and_then(|item| self.request(&item));
        let caller = self.table(section, "as", "as = { roles = [\"…\"] }", Self::test_caller);
        let origin = self.parsed(section, "origin", "the origin of a page", values::origin);
        let expect = section.take("expect").and_then(|item| self.expect(&item));
        Some(RawTest {
            request: request?,
            caller,
            origin,
            expect: expect?,
        })
    }

    fn request(&mut self, item: &Item<'_>) -> Option<Spanned<RequestLine>> {
        if scalar(&item.value).is_some() {
            self.expected(item, "a method and a path")
                .hint("write `GET /path` or `GET http://host/path`");
            return None;
        }
        self.value(item)
    }

    fn test_caller(&mut self, section: &mut Section<'_>) -> Option<RawTestCaller> {
        let keys = [
            "subject",
            "issuer",
            "roles",
            "scopes",
            "acr",
            "signed_in",
            "provider",
            "claims",
        ];
        Some(RawTestCaller {
            is_caller: !section.has("from") || keys.iter().any(|key| section.has(key)),
            subject: self.string(section, "subject"),
            issuer: self.string(section, "issuer"),
            roles: self.all(section, "roles", Empty::Taken, Self::text),
            scopes: self.all(section, "scopes", Empty::Taken, Self::scope),
            acr: section.take("acr").and_then(|item| self.acr(&item)),
            signed_in: self.duration_or_zero(section, "signed_in"),
            provider: self.string(section, "provider"),
            claims: self.claims(section, Empty::Taken),
            from: self.parsed(section, "from", "the address of a client", |text| {
                text.parse()
                    .map_err(|_| "an address is `10.1.2.3` or `2001:db8::1`".to_owned())
            }),
        })
    }

    fn expect(&mut self, item: &Item<'_>) -> Option<Spanned<RawExpect>> {
        let value = match &item.value {
            DeValue::Integer(number) => {
                let status = u16::from_str_radix(number.as_str(), number.radix()).unwrap_or(0);
                if !(400..=599).contains(&status) {
                    self.error(&item.span, "`expect` must be the status of a refusal, from 400 to 599").hint(
                        "a request that reaches the app is `\"allow\"`, one that is sent to sign in is `\"login\"`",
                    );
                    return None;
                }
                RawExpect::Status(status)
            }
            DeValue::String(text) => match word(text, schema::words("tests", "expect")) {
                Ok(expect) => expect,
                Err(hint) => {
                    let status = text.parse::<u16>().is_ok();
                    let hint = if status {
                        format!("a status has no quotes: `expect = {text}`")
                    } else {
                        hint
                    };
                    self.error(
                        &item.span,
                        "`expect` must be `\"allow\"`, `\"login\"` or a status",
                    )
                    .hint(hint);
                    return None;
                }
            },
            _ => {
                self.expected(item, "`\"allow\"`, `\"login\"` or a status");
                return None;
            }
        };
        Some(Spanned::new(value, item.span.clone()))
    }
}
