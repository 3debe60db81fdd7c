//! Single values: each method takes one key out of a section and returns it well-formed, or reports why it is not.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use super::Reader;
use super::section::{Item, Section};
use crate::config::problems::Problem;
use crate::config::raw::{RawClaim, Spanned};
use crate::config::redact::names_a_secret;
use crate::config::schema;
use crate::config::schema::{Kind, Scalars};
use crate::config::values::{self, BadValue, FieldName, Scope, did_you_mean, echo};
use crate::identity::ClaimPath;

/// What an empty list means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    Taken,
    /// An error with this hint.
    Refused(&'static str),
}

impl Reader<'_> {
    /// Reports that `item` should have been `what`; the caller may replace the hint.
    pub(super) fn expected(&mut self, item: &Item<'_>, what: &str) -> &mut Problem {
        self.error(
            &item.span,
            format!("`{}` must be {what}, found {}", item.key, item.found()),
        )
        .hint(match what {
            "an integer" => "write digits, without quotes",
            "`true` or `false`" => "write the word without quotes",
            "a string" => "text stands in quotes: `\"…\"`",
            "an array" => "a list stands in brackets: `[\"…\", \"…\"]`",
            "a string or an array of them" => "write `\"…\"`, or several as `[\"…\", \"…\"]`",
            _ => "see `gateway.example.toml` for how it is written",
        })
    }

    /// A string that is not empty and holds no control character.
    pub(super) fn text(&mut self, item: &Item<'_>) -> Option<Spanned<String>> {
        let Some(text) = item.read::<String>() else {
            let hint = scalar(&item.value).filter(|_| !names_a_secret(&item.key));
            let problem = self.expected(item, "a string");
            if let Some(hint) = hint {
                problem.hint(format!("put it in quotes: `\"{hint}\"`"));
            }
            return None;
        };
        if text.is_empty() {
            self.error(&item.span, format!("`{}` is empty", item.key))
                .hint("write a value, or leave the key out");
            return None;
        }
        if let Some(char) = text.chars().find(|char| char.is_control()) {
            self.error(
                &item.span,
                format!(
                    "`{}` holds the control character `{}`",
                    item.key,
                    char.escape_default()
                ),
            )
            .hint("values are one line of text");
            return None;
        }
        Some(Spanned::new(text, item.span.clone()))
    }

    pub(super) fn string(&mut self, section: &mut Section<'_>, key: &str) -> Option<Spanned<String>> {
        let item = section.take(key)?;
        self.text(&item)
    }

    /// The path of a file or directory that is read.
    pub(super) fn path(&mut self, section: &mut Section<'_>, key: &str) -> Option<Spanned<PathBuf>> {
        let path = self.output_path(section, key)?;
        self.problems.depends_on(&path.value);
        Some(path)
    }

    /// The path of a file that is written.
    pub(super) fn output_path(&mut self, section: &mut Section<'_>, key: &str) -> Option<Spanned<PathBuf>> {
        self.string(section, key)
            .map(|path| Spanned::new(PathBuf::from(path.value), path.span))
    }

    pub(super) fn flag(&mut self, section: &mut Section<'_>, key: &str) -> Option<Spanned<bool>> {
        let item = section.take(key)?;
        if let Some(value) = item.read::<bool>() {
            return Some(Spanned::new(value, item.span));
        }
        let unquoted = item
            .value
            .as_str()
            .filter(|text| matches!(*text, "true" | "false"))
            .map(str::to_owned);
        let problem = self.expected(&item, "`true` or `false`");
        if let Some(unquoted) = unquoted {
            problem.hint(format!("leave the quotes out: `{unquoted}`"));
        }
        None
    }

    pub(super) fn number(&mut self, section: &mut Section<'_>, key: &str) -> Option<Spanned<u64>> {
        let item = section.take(key)?;
        self.number_of(section.kind, &item)
    }

    /// The value of a key of the table `kind`, as a number in the range that the schema has for it.
    pub(super) fn number_of(&mut self, kind: &str, item: &Item<'_>) -> Option<Spanned<u64>> {
        let key = &*item.key;
        let range = schema::range(kind, key);
        let DeValue::Integer(number) = &item.value else {
            let unquoted = item.value.as_str().and_then(|text| text.parse::<u64>().ok());
            let problem = self.expected(item, "an integer");
            if let Some(unquoted) = unquoted {
                problem.hint(format!("leave the quotes out: `{unquoted}`"));
            }
            return None;
        };
        match item.read::<u64>() {
            Some(value) if range.contains(&value) => Some(Spanned::new(value, item.span.clone())),
            _ => {
                let found = echo(&number.to_string());
                self.error(
                    &item.span,
                    format!(
                        "`{key}` must be from {} to {}, found {found}",
                        range.start(),
                        range.end()
                    ),
                )
                .hint("leave the key out for the default");
                None
            }
        }
    }

    /// The values of all keys of the table that need nothing but their entry in the schema.
    pub(super) fn scalars(&mut self, section: &mut Section<'_>) -> Scalars {
        let mut scalars = Scalars::default();
        for key in schema::keys(section.kind) {
            let value = section.peek(key.name);
            let fits = match key.kind {
                Kind::Duration => self.duration(section, key.name).is_some(),
                Kind::Boolean => self.flag(section, key.name).is_some(),
                Kind::Integer(..) => self.number(section, key.name).is_some(),
                _ => false,
            };
            if let Some(value) = value.filter(|_| fits) {
                scalars.insert(key, &value);
            }
        }
        scalars
    }

    /// A string that `parse` reads; `what` is what it is, with its article.
    pub(super) fn parse<T>(
        &mut self,
        item: &Item<'_>,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        if let Some(written) = scalar(&item.value).filter(|_| !names_a_secret(&item.key)) {
            let hint = match parse(&written) {
                Ok(_) => format!("put it in quotes: `\"{written}\"`"),
                Err(reason) => reason,
            };
            self.expected(item, what).hint(hint);
            return None;
        }
        let text = self.text(item)?;
        match parse(&text) {
            Ok(value) => Some(Spanned::new(value, text.span)),
            Err(reason) => {
                let found = if names_a_secret(&item.key) {
                    "something else".to_owned()
                } else {
                    format!("`{}`", echo(&text))
                };
                self.error(
                    &item.span,
                    format!("`{}` must be {what}, found {found}", item.key),
                )
                .hint(reason);
                None
            }
        }
    }

    /// A string that is a `T`, whose error is a problem with its hint.
    pub(super) fn value<T: FromStr<Err: Into<BadValue>>>(&mut self, item: &Item<'_>) -> Option<Spanned<T>> {
        let text = self.text(item)?;
        match text.parse() {
            Ok(value) => Some(Spanned::new(value, text.span)),
            Err(bad) => {
                let bad: BadValue = bad.into();
                if bad.is_secret {
                    self.problems.hide(&item.span);
                }
                self.error(&item.span, bad.message).hint(bad.hint);
                None
            }
        }
    }

    pub(super) fn parsed<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        let item = section.take(key)?;
        self.parse(&item, what, parse)
    }

    /// A duration above zero.
    pub(super) fn duration(&mut self, section: &mut Section<'_>, key: &str) -> Option<Spanned<Duration>> {
        let found = self.duration_or_zero(section, key)?;
        if found.is_zero() {
            self.error(&found.span, format!("`{key}` must be longer than zero"))
                .hint("leave the key out for the default");
            return None;
        }
        Some(found)
    }

    pub(super) fn duration_or_zero(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
    ) -> Option<Spanned<Duration>> {
        self.parsed(section, key, "a duration", values::duration)
    }

    pub(super) fn size(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        range: RangeInclusive<u64>,
        bounds: &str,
    ) -> Option<Spanned<u64>> {
        let found = self.parsed(section, key, "a size", values::size)?;
        if !range.contains(&found) {
            self.error(&found.span, format!("`{key}` must be {bounds}"))
                .hint("leave the key out for the default");
            return None;
        }
        Some(found)
    }

    /// One of the words that the schema lists for `key`.
    pub(super) fn choice<T: serde::de::DeserializeOwned>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
    ) -> Option<Spanned<T>> {
        self.word(section, key, "one of the words it knows")
    }

    /// The same, where a message calls it `what`.
    pub(super) fn word<T: serde::de::DeserializeOwned>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        what: &str,
    ) -> Option<Spanned<T>> {
        let words = schema::words(section.kind, key);
        self.parsed(section, key, what, |text| word(text, words))
    }

    /// A list of strings, each read by `parse`.
    pub(super) fn list<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        empty: Empty,
        mut parse: impl FnMut(&mut Self, &Item<'_>) -> Option<Spanned<T>>,
    ) -> Option<Spanned<Vec<Spanned<T>>>> {
        let one = matches!(schema::find(section.kind, key)?.kind, Kind::OneOrMore(_));
        let item = section.take(key)?;
        let span = item.span.clone();
        if one && (item.value.is_str() || scalar(&item.value).is_some()) {
            return Some(Spanned::new(parse(self, &item).into_iter().collect(), span));
        }
        let quoted = item.value.as_str().map(echo);
        let items = match item.into_elements() {
            Ok(items) => items,
            Err(item) => {
                let problem = self.expected(
                    &item,
                    if one {
                        "a string or an array of them"
                    } else {
                        "an array"
                    },
                );
                if let Some(quoted) = quoted {
                    problem.hint(format!("put it in brackets: `[\"{quoted}\"]`"));
                }
                return None;
            }
        };
        if let (true, Empty::Refused(hint)) = (items.is_empty(), empty) {
            self.error(&span, format!("`{key}` is empty")).hint(hint);
            return None;
        }
        Some(Spanned::new(
            items.iter().filter_map(|item| parse(self, item)).collect(),
            span,
        ))
    }

    /// The elements of such a list; none where it is not there.
    pub(super) fn all<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        empty: Empty,
        parse: impl FnMut(&mut Self, &Item<'_>) -> Option<Spanned<T>>,
    ) -> Vec<Spanned<T>> {
        self.list(section, key, empty, parse)
            .map(|found| found.value)
            .unwrap_or_default()
    }

    pub(super) fn scope(&mut self, item: &Item<'_>) -> Option<Spanned<Scope>> {
        self.parse(item, "a list of scopes", str::parse)
    }

    /// The characters of a scope: the value goes into a challenge, and with others into one parameter.
    pub(super) fn acr(&mut self, item: &Item<'_>) -> Option<Spanned<Scope>> {
        self.parse(item, "the name of an authentication context class", |text| {
            text.parse()
                .map_err(|_| "it has a space, a quote or a backslash, or is not ASCII".to_owned())
        })
    }

    pub(super) fn claim_path(&mut self, item: &Item<'_>) -> Option<Spanned<ClaimPath>> {
        self.parse(item, "the path of a claim", claim_path)
    }

    /// A list of header names, none of them twice in any case (RFC 9110 section 5.1).
    pub(super) fn header_names(&mut self, section: &mut Section<'_>, key: &str) -> Vec<Spanned<FieldName>> {
        let names = self.all(section, key, Empty::Taken, |reader, item| {
            reader.parse(item, "the name of a header", str::parse::<FieldName>)
        });
        let mut found: Vec<Spanned<FieldName>> = Vec::with_capacity(names.len());
        for name in names {
            if !self.is_twice(found.iter(), &name, "remove one of them") {
                found.push(name);
            }
        }
        found
    }

    /// Reports that `name` is among `earlier` ones.
    fn is_twice<'a>(
        &mut self,
        mut earlier: impl Iterator<Item = &'a Spanned<FieldName>>,
        name: &Spanned<FieldName>,
        hint: &str,
    ) -> bool {
        let Some(first) = earlier.find(|first| first.as_str() == name.as_str()) else {
            return false;
        };
        self.error(
            &name.span,
            format!("header `{}` appears a second time", name.value),
        )
        .also(first.span.clone(), "first here")
        .hint(hint);
        true
    }

    /// A table from header names to `what`, whose values `parse` reads. No name twice in any case (RFC 9110 section 5.1).
    pub(super) fn headers<T>(
        &mut self,
        section: &mut Section<'_>,
        what: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Vec<(Spanned<FieldName>, Spanned<T>)> {
        let form = "headers = { \"X-Name\" = \"…\" }";
        self.table(section, "headers", form, |reader, table| {
            Some(reader.header_table(table, what, parse))
        })
        .map(|headers| headers.value)
        .unwrap_or_default()
    }

    fn header_table<T>(
        &mut self,
        table: &mut Section<'_>,
        what: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Vec<(Spanned<FieldName>, Spanned<T>)> {
        let mut found: Vec<(Spanned<FieldName>, Spanned<T>)> = Vec::new();
        for item in table.items() {
            let span = item.key_span.clone();
            let name = match FieldName::settable(&item.key) {
                Ok(value) => Spanned::new(value, span),
                Err(reason) => {
                    self.error(&span, format!("`{}` is no header to set", echo(&item.key)))
                        .hint(reason);
                    continue;
                }
            };
            let hint = "upper and lower case are the same in header names";
            if self.is_twice(found.iter().map(|(name, _)| name), &name, hint) {
                continue;
            }
            // An empty value is a value here, and no other string may be empty.
            let value = match &item.value {
                DeValue::String(text) if text.is_empty() && what == "a header value" => {
                    parse("").ok().map(|value| Spanned::new(value, item.span.clone()))
                }
                _ => self.parse(&item, what, parse),
            };
            found.extend(value.map(|value| (name, value)));
        }
        found
    }

    /// A table from claim paths to the values that they must hold.
    pub(super) fn claims(
        &mut self,
        section: &mut Section<'_>,
        empty: Empty,
    ) -> Vec<(Spanned<ClaimPath>, Spanned<RawClaim>)> {
        self.table(
            section,
            "claims",
            "claims = { name = \"…\" }",
            |reader, table| Some(reader.claim_table(table, empty)),
        )
        .map(|claims| claims.value)
        .unwrap_or_default()
    }

    fn claim_table(
        &mut self,
        table: &mut Section<'_>,
        empty: Empty,
    ) -> Vec<(Spanned<ClaimPath>, Spanned<RawClaim>)> {
        let mut found = Vec::new();
        let mut seen = false;
        for item in table.items() {
            seen = true;
            let span = item.key_span.clone();
            let name = match claim_path(&item.key) {
                Ok(value) => Spanned::new(value, span),
                Err(reason) => {
                    self.error(&span, format!("`{}` is no path of a claim", echo(&item.key)))
                        .hint(reason);
                    continue;
                }
            };
            let value = match &item.value {
                DeValue::String(text) => Some(RawClaim::Text(text.clone().into_owned())),
                DeValue::Boolean(value) => Some(RawClaim::Boolean(*value)),
                DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                    .ok()
                    .map(RawClaim::Integer),
                _ => None,
            };
            match value {
                Some(value) => found.push((name, Spanned::new(value, item.span))),
                None => {
                    self.expected(&item, "a string, an integer of 64 bits or a boolean")
                        .hint("a claim that holds an array passes if one of its elements is this value");
                }
            }
        }
        if let (false, Empty::Refused(hint)) = (seen, empty) {
            self.error(&table.span, "`claims` is empty").hint(hint);
        }
        found
    }
}

/// A number or a boolean, as it would stand in quotes.
pub(super) fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(number) => Some(echo(&number.to_string())),
        DeValue::Float(number) => Some(echo(&number.to_string())),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

/// The value that is called `text`, which is one of `choices`.
pub(super) fn word<T: serde::de::DeserializeOwned>(text: &str, choices: &[&str]) -> Result<T, String> {
    use serde::de::IntoDeserializer as _;
    use serde::de::value::{Error, StrDeserializer};
    if choices.contains(&text)
        && let Ok(value) = T::deserialize::<StrDeserializer<'_, Error>>(text.into_deserializer())
    {
        return Ok(value);
    }
    Err(did_you_mean(text, choices.iter().copied())
        .unwrap_or_else(|| format!("write one of `\"{}\"`", choices.join("\"`, `\""))))
}

/// `text` if it is a path into the claims of a token.
pub(super) fn claim_path(text: &str) -> Result<ClaimPath, String> {
    match ClaimPath::parse(text) {
        Some(path) if !text.chars().any(char::is_control) => Ok(path),
        _ if text.contains(['"', '\'']) => Err(
            "a name with a dot in it is quoted as in TOML: `'resource_access.\"my.client\".roles'`"
                .to_owned(),
        ),
        _ => Err("a path is names of claims with dots between, like `realm_access.roles`".to_owned()),
    }
}
