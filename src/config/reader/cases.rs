//! `[[tests]]`: what `check` tries.

use toml::de::DeValue;

use super::Reader;
use super::fields::{Empty, One, word};
use super::section::{Item, Section};
use crate::config::raw::{At, RawExpect, RawTest, RawTestCaller};
use crate::config::{schema, values};

impl Reader<'_> {
    pub(super) fn case(&mut self, mut section: Section<'_>) -> Option<RawTest> {
        self.require(
            &section,
            &[
                ("request", "a method and a path, like `request = \"GET /\"`"),
                (
                    "expect",
                    "`\"allow\"`, `\"login\"` or the status of the refusal, like `expect = 403`",
                ),
            ],
        );
        let request = self.parsed(&mut section, "request", "a method and a path", request_line);
        let caller = self.test_caller(&mut section);
        let expect = section.take("expect").and_then(|item| self.expect(&item));
        self.finish(section);
        Some(RawTest {
            request: request?,
            caller,
            expect: expect?,
        })
    }

    fn test_caller(&mut self, case: &mut Section<'_>) -> Option<At<RawTestCaller>> {
        let mut section = self.table(case, "as", "tests.as", "as = { roles = [\"…\"] }")?;
        let caller = RawTestCaller {
            subject: self.string(&mut section, "subject"),
            issuer: self.string(&mut section, "issuer"),
            roles: self
                .strings(&mut section, "roles", One::Refused, Empty::Taken)
                .map(|roles| roles.value)
                .unwrap_or_default(),
            scopes: self
                .list(
                    &mut section,
                    "scopes",
                    One::Refused,
                    Empty::Taken,
                    |reader, item| reader.parse(item, "a list of scopes", str::parse),
                )
                .map(|scopes| scopes.value)
                .unwrap_or_default(),
            claims: self.claims(&mut section, Empty::Taken),
        };
        let span = section.span.clone();
        self.finish(section);
        Some(At::new(caller, span))
    }

    fn expect(&mut self, item: &Item<'_>) -> Option<At<RawExpect>> {
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
        Some(At::new(value, item.span.clone()))
    }
}

/// `GET /path` or `GET http://host/path`.
fn request_line(text: &str) -> Result<String, String> {
    const FORM: &str = "write `GET /path` or `GET http://host/path`";
    let (method, target) = text.split_once(' ').ok_or(FORM)?;
    let begins_well =
        target.starts_with('/') || target.starts_with("http://") || target.starts_with("https://");
    if !values::is_token(method) || !begins_well || target.contains(' ') {
        return Err(FORM.to_owned());
    }
    Ok(text.to_owned())
}
