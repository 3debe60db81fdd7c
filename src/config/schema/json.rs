//! The JSON schema of the TOML file (draft 7), for editors: taplo, Even Better TOML.
//!
//! Input: the tables. Output: the schema as JSON. Invariants: a table takes no key that the reader refuses.

use serde_json::{Map, Value, json};

use super::key::{Key, Kind};
use super::{keys, parsed, table};

/// The schema of the whole file.
#[must_use]
pub(crate) fn json_schema() -> Value {
    let mut schema = object("");
    let root = schema.as_object_mut().expect("a table is an object");
    root.insert(
        "$schema".to_owned(),
        "http://json-schema.org/draft-07/schema#".into(),
    );
    root.insert("title".to_owned(), "passgate".into());
    schema
}

fn object(path: &str) -> Value {
    let properties: Map<String, Value> = keys(path)
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    json!({
        "type": "object",
        "description": table(path).map_or("", |table| table.doc),
        "additionalProperties": false,
        "properties": properties,
    })
}

fn property(key: &Key) -> Value {
    let mut value = value(key.kind);
    if let Some(object) = value.as_object_mut() {
        object.insert("description".to_owned(), key.doc.into());
        let as_json = |text: &str| parsed(text).and_then(|value| serde_json::to_value(value).ok());
        if let Some(default) = as_json(key.default) {
            object.insert("default".to_owned(), default);
        }
        if let Some(example) = as_json(key.example) {
            object.insert("examples".to_owned(), json!([example]));
        }
    }
    value
}

fn value(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Path => json!({ "type": "string" }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer(0, u64::MAX) => json!({ "type": "integer" }),
        Kind::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Duration => json!({ "type": "string", "pattern": "^([0-9]+(d|h|m|s|ms))+$" }),
        Kind::Size => json!({ "type": "string", "pattern": "^[0-9]+ ?([KMG]i?)?B$" }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::List(of) => json!({ "type": "array", "items": value(*of) }),
        Kind::OneOrMore(of) => json!({ "anyOf": [value(*of), { "type": "array", "items": value(*of) }] }),
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(|kind| value(*kind)).collect::<Vec<_>>() }),
        Kind::Table(path) => object(path),
        Kind::Tables(path) => json!({ "type": "array", "items": object(path) }),
        Kind::Named(path) => json!({ "type": "object", "additionalProperties": object(path) }),
        Kind::Map(of) => json!({ "type": "object", "additionalProperties": value(*of) }),
    }
}
