//! The schema of the TOML file: one entry for each key, with its type, default, documentation and an example.
//!
//! Input: none, the tables are constant. Output: the known keys for the reader, the default of a key, the keys that need a
//! restart, and the texts of `reference` and `json`. Invariants: the reader takes no key that is not here; a test
//! compares `gateway.example.toml` and `docs/configuration.md` with these tables.

mod json;
mod key;
mod people;
mod providers;
#[cfg(test)]
mod reference;
mod routing;
mod server;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use serde::de::{DeserializeOwned, IntoDeserializer as _};
use toml::Value;
use toml::de::{DeTable, DeValue};

use super::nearest;
use super::spanned::Spanned;
use super::values;

pub(crate) use json::json_schema;
pub(crate) use key::{Key, Kind, Table};

/// All tables, in the order of the reference.
pub(crate) const TABLES: &[Table] = &[
    server::FILE,
    server::SERVER,
    server::EGRESS_PROXY,
    server::TLS,
    server::MORE,
    server::ADMIN,
    server::STATE,
    tokens::ISSUERS,
    tokens::CREDENTIALS,
    tokens::SOURCES,
    routing::UPSTREAMS,
    routing::UPSTREAM_SERVERS,
    routing::HEALTH_CHECK,
    routing::ROUTES,
    routing::ROLES,
    routing::ANY,
    routing::RATE_LIMIT,
    routing::CORS,
    routing::MAINTENANCE,
    routing::IDENTITY,
    people::SESSION,
    people::SIGNING,
    people::PASSWORD,
    providers::PROVIDERS,
    providers::CLAIMS,
    providers::GRANTS,
    providers::ALLOW,
    routing::FORWARD_AUTH,
    people::PAGES,
    people::COLORS,
    server::LOG,
    server::AUDIT,
    routing::TESTS,
    routing::CALLER,
    server::SECRET_TABLE,
];

/// The keys of the table at `path`; none where its keys are free.
pub(super) fn keys(path: &str) -> &'static [Key] {
    table(path).map_or(&[], |table| table.keys)
}

fn table(path: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.path == path)
}

/// The key `name` of the table at `path`.
pub(super) fn find(path: &str, name: &str) -> Option<&'static Key> {
    keys(path).iter().find(|key| key.name == name)
}

/// The words that the key `name` takes; none where it takes other values.
pub(super) fn words(path: &str, name: &str) -> &'static [&'static str] {
    let mut kind = find(path, name).map(|key| key.kind);
    loop {
        kind = match kind {
            Some(Kind::Word(words)) => return words,
            Some(Kind::List(of) | Kind::OneOrMore(of)) => Some(*of),
            Some(Kind::Either(kinds)) => kinds.iter().copied().find(|kind| matches!(kind, Kind::Word(_))),
            _ => return &[],
        };
    }
}

/// The path of the tables that the key `name` holds; the name itself where their keys are free.
pub(super) fn path_of(path: &str, name: &'static str) -> &'static str {
    match find(path, name).map(|key| key.kind) {
        Some(Kind::Table(path) | Kind::Tables(path) | Kind::Named(path)) => path,
        _ => name,
    }
}

/// The numbers that the key `name` takes.
pub(super) fn range(path: &str, name: &str) -> RangeInclusive<u64> {
    match find(path, name).map(|key| key.kind) {
        Some(Kind::Integer(least, most)) => least..=most,
        _ => 0..=u64::MAX,
    }
}

/// The key of the table at `path` that was most likely meant by `typed`, which is none of them.
pub(super) fn suggestion(path: &str, typed: &str) -> Option<&'static str> {
    let table = table(path)?;
    let synonym = table
        .synonyms
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(typed))
        .map(|(_, key)| *key);
    synonym.or_else(|| nearest(typed, table.keys.iter().map(|key| key.name)))
}

/// A value that a key can hold, read from TOML.
pub trait FromValue: Sized {
    /// `value`; `None` where it is of another kind.
    fn read(value: &Value) -> Option<Self>;
}

impl FromValue for u64 {
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => values::size(text).ok(),
            number => number.as_integer().and_then(|number| Self::try_from(number).ok()),
        }
    }
}

impl FromValue for bool {
    fn read(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl FromValue for String {
    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl FromValue for Vec<String> {
    fn read(value: &Value) -> Option<Self> {
        let texts = value.as_array()?.iter();
        texts.map(|text| text.as_str().map(str::to_owned)).collect()
    }
}

impl FromValue for std::time::Duration {
    fn read(value: &Value) -> Option<Self> {
        values::duration(value.as_str()?).ok()
    }
}

impl FromValue for crate::http::client::Share {
    fn read(value: &Value) -> Option<Self> {
        values::share(value.as_str()?).ok()
    }
}

/// `written`, or the default of the key `name` in the table at `path`.
///
/// # Panics
/// Where the schema has no such default, which a test of every place of use shows.
#[must_use]
pub(crate) fn or_default<T: FromValue + Clone>(written: Option<&Spanned<T>>, path: &str, name: &str) -> T {
    written.map_or_else(
        || {
            find(path, name)
                .and_then(|key| parsed(key.default))
                .and_then(|value| T::read(&value))
                .expect("the schema has the default of every key that is used with one")
        },
        |written| written.value.clone(),
    )
}

/// The values of a table whose keys need nothing but their entry in the schema: durations, numbers, flags.
#[derive(Clone, Debug, Default)]
pub struct Scalars(BTreeMap<&'static str, Value>);

impl Scalars {
    /// The value of the key `name` in the table at `path`, or its default.
    ///
    /// # Panics
    /// As [`or_default`].
    #[must_use]
    pub fn get<T: FromValue + Clone>(&self, path: &str, name: &str) -> T {
        self.0
            .get(name)
            .and_then(T::read)
            .unwrap_or_else(|| or_default(None, path, name))
    }

    /// Adds a value that fits the kind of its key.
    pub(super) fn insert(&mut self, key: &Key, value: &DeValue<'_>) {
        self.0.extend(plain(value).map(|value| (key.name, value)));
    }
}

/// `text` as a TOML value.
fn parsed(text: &str) -> Option<Value> {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()?
        .remove("value")
}

/// The values in effect of the keys that only a restart changes, by their full names.
pub(crate) type RestartValues = Vec<(String, Option<Value>)>;

/// The values that `root` gives to the keys that only a restart changes. A default that is written is the default.
pub(super) fn restart_values(root: &DeTable<'_>) -> RestartValues {
    let mut found = Vec::new();
    for table in TABLES.iter().filter(|table| !table.path.contains('*')) {
        for key in table.keys.iter().filter(|key| key.restart) {
            let written = root
                .get(table.path)
                .and_then(|value| value.get_ref().as_table()?.get(key.name))
                .and_then(|value| plain(value.get_ref()));
            let value = written.or_else(|| parsed(key.default));
            found.push((
                format!("{}.{}", table.path, key.name),
                value.map(|value| same(key.kind, value)),
            ));
        }
    }
    found
}

/// What a file says about the issuers and about each upstream: a reload that changes nothing of it goes on with the connections and
/// the verified tokens of before.
pub(crate) type Written = BTreeMap<String, Value>;

/// The tables of `root`, which was read from `source`. Issuers with their lines, which messages name, and with the keys
/// of other tables that say how their tokens are verified.
pub(super) fn written(root: &DeTable<'_>, source: &str) -> Written {
    let line = |at: usize| {
        let before = source.as_bytes().get(..at).unwrap_or_default();
        memchr::memchr_iter(b'\n', before).count()
    };
    let tables = |name: &str| {
        let tables = root.get(name).and_then(|table| table.get_ref().as_table());
        tables.into_iter().flatten()
    };
    let mut issuers: Vec<Value> = tables("issuers")
        .flat_map(|(name, table)| {
            let place = i64::try_from(line(name.span().start)).ok().map(Value::Integer);
            [
                Some(Value::String(name.get_ref().to_string())),
                place,
                plain(table.get_ref()),
            ]
        })
        .flatten()
        .collect();
    let server = root.get("server").and_then(|server| server.get_ref().as_table());
    for key in ["public_url", "egress_proxy", "max_token_bytes"] {
        let value = server.and_then(|server| plain(server.get(key)?.get_ref()));
        issuers.push(value.unwrap_or(Value::Boolean(false)));
    }
    let upstreams = tables("upstreams")
        .filter_map(|(name, table)| Some((format!("upstreams.{}", name.get_ref()), plain(table.get_ref())?)));
    upstreams
        .chain([("issuers".to_owned(), Value::Array(issuers))])
        .collect()
}

/// `value`, read by serde into what a key holds; `None` where it is of another kind.
pub(super) fn leaf<T: DeserializeOwned>(value: &DeValue<'_>, span: Range<usize>) -> Option<T> {
    T::deserialize(toml::Spanned::new(span, value.clone()).into_deserializer()).ok()
}

/// A value without its places in the file.
fn plain(value: &DeValue<'_>) -> Option<Value> {
    leaf(value, 0..0)
}

/// `value` in one form, so that `"60s"` and `"1m"`, and `"a"` and `["a"]`, are equal.
fn same(kind: Kind, value: Value) -> Value {
    let number = |number: u128| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    match (kind, &value) {
        (Kind::Duration, Value::String(text)) => {
            values::duration(text).map_or_else(|_| value.clone(), |length| number(length.as_millis()))
        }
        (Kind::Size, Value::String(text)) => {
            values::size(text).map_or_else(|_| value.clone(), |bytes| number(bytes.into()))
        }
        (Kind::OneOrMore(_), Value::String(_)) => Value::Array(vec![value]),
        (Kind::Either(kinds), _) => kinds.iter().fold(value, |value, kind| same(*kind, value)),
        _ => value,
    }
}

/// A table as it is written: `[issuers.NAME]`.
#[must_use]
pub(crate) fn header(path: &str) -> String {
    let name = path.replace('*', "NAME");
    let is_array = matches!(path, "routes" | "tests");
    if is_array {
        format!("[[{name}]]")
    } else {
        format!("[{name}]")
    }
}
