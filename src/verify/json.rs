//! JSON without two meanings.
//!
//! Enters: bytes from outside. Leaves: an object in which every name stands once, at every depth. Parsers differ
//! in which of two equal names they believe (RFC 8259 section 4), so a document with two has no meaning here.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a text is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not JSON, or not an object.
    Malformed,
    /// A name stands twice in one object.
    DuplicateName,
}

/// The object that `text` is, whole; nothing may follow it but white space.
pub(crate) fn parse_object(text: &[u8]) -> Result<Map<String, Value>, Fault> {
    let duplicate = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Strict {
        duplicate: &duplicate,
        stops: true,
    }
    .deserialize(&mut deserializer)
    .and_then(|value| deserializer.end().map(|()| value));
    match value {
        Ok(Value::Object(members)) => Ok(members),
        Err(_) if duplicate.get() => Err(Fault::DuplicateName),
        Ok(_) | Err(_) => Err(Fault::Malformed),
    }
}

/// One entry of [`parse_entries`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// An object in which every name stands once.
    Object(Map<String, Value>),
    /// Anything else that is JSON.
    NotAnObject,
    /// A name stands twice in it, at whatever depth.
    DuplicateName,
}

/// The entries of the array `name` in the object that `text` is, each judged on its own; `None` where there is no such
/// array. A name that stands twice outside of them is a fault of the whole.
pub(super) fn parse_entries(text: &[u8], name: &str) -> Result<Option<Vec<Entry>>, Fault> {
    let duplicate = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let found = deserializer
        .deserialize_map(Document {
            duplicate: &duplicate,
            name,
        })
        .and_then(|found| deserializer.end().map(|()| found));
    found.map_err(|_| {
        if duplicate.get() {
            Fault::DuplicateName
        } else {
            Fault::Malformed
        }
    })
}

/// The object around the entries.
struct Document<'a> {
    duplicate: &'a Cell<bool>,
    name: &'a str,
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Option<Vec<Entry>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut seen = HashSet::new();
        let mut found = None;
        while let Some(name) = access.next_key::<String>()? {
            if name == self.name && !seen.contains(&name) {
                found = access.next_value_seed(Entries)?;
            } else if seen.contains(&name) {
                self.duplicate.set(true);
                return Err(A::Error::custom("a name stands twice"));
            } else {
                access.next_value_seed(Strict {
                    duplicate: self.duplicate,
                    stops: true,
                })?;
            }
            seen.insert(name);
        }
        Ok(found)
    }
}

/// The entries, where the value is an array.
struct Entries;

impl<'de> DeserializeSeed<'de> for Entries {
    type Value = Option<Vec<Entry>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = Option<Vec<Entry>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        loop {
            let duplicate = Cell::new(false);
            let Some(value) = access.next_element_seed(Strict {
                duplicate: &duplicate,
                stops: false,
            })?
            else {
                return Ok(Some(entries));
            };
            entries.push(match value {
                _ if duplicate.get() => Entry::DuplicateName,
                Value::Object(members) => Entry::Object(members),
                _ => Entry::NotAnObject,
            });
        }
    }
}

/// Builds a value, and notes in the cell that a name stood twice; stops there, or goes on with the first of the two.
#[derive(Clone, Copy)]
struct Strict<'a> {
    duplicate: &'a Cell<bool>,
    stops: bool,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.contains_key(&name) {
                self.duplicate.set(true);
                if self.stops {
                    return Err(A::Error::custom("a name stands twice"));
                }
                access.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = access.next_value_seed(self)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_serde_json_reads_it() {
        let text = br#" {"a": [1, -2, 3.5, "x\u00e9", null, true, {"b": {}}], "c": 18446744073709551615} "#;
        let expected: Value = serde_json::from_slice(text).expect("valid");
        assert_eq!(parse_object(text).map(Value::Object), Ok(expected));
    }

    #[test]
    fn a_name_that_stands_twice_is_found_at_every_depth_and_in_every_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"c":2,"b":3}}"#,
            r#"{"a":[[{"b":1},{"b":1,"b":2}]]}"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            assert_eq!(parse_object(text.as_bytes()), Err(Fault::DuplicateName), "{text}");
        }
    }

    #[test]
    fn each_entry_is_judged_on_its_own() {
        let entries = |text: &str| parse_entries(text.as_bytes(), "keys");
        let object = |text: &str| Entry::Object(parse_object(text.as_bytes()).expect("an object"));
        let text = r#"{"keys": [{"a": 1}, 7, null, "x", [], {"a": 1, "a": 1}, {"a": {"b": [{"c": 1, "c": 2}]}}, {"a": 1}]}"#;
        let expected = vec![
            object(r#"{"a": 1}"#),
            Entry::NotAnObject,
            Entry::NotAnObject,
            Entry::NotAnObject,
            Entry::NotAnObject,
            Entry::DuplicateName,
            Entry::DuplicateName,
            object(r#"{"a": 1}"#),
        ];
        assert_eq!(entries(text), Ok(Some(expected)));
        assert_eq!(entries(r#"{"x": {"y": 1}, "keys": []}"#), Ok(Some(vec![])));
        for text in [
            "{}",
            r#"{"keys": {}}"#,
            r#"{"keys": 1}"#,
            r#"{"keys": "x"}"#,
            r#"{"keys": null}"#,
            r#"{"keys": -1.5}"#,
        ] {
            assert_eq!(entries(text), Ok(None), "{text}");
        }
        for text in [
            r#"{"keys": [], "keys": []}"#,
            r#"{"x": 1, "x": 2, "keys": []}"#,
            r#"{"x": {"y": 1, "y": 1}, "keys": []}"#,
        ] {
            assert_eq!(entries(text), Err(Fault::DuplicateName), "{text}");
        }
        for text in [
            "",
            "[]",
            "1",
            "null",
            r#"{"keys": [}"#,
            r#"{"keys": []}x"#,
            r#"{"keys": [{"a":1e400}]}"#,
        ] {
            assert_eq!(entries(text), Err(Fault::Malformed), "{text}");
        }
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        let deep = format!("{}{}", r#"{"a":"#.repeat(200), "}".repeat(200));
        for text in [
            "",
            "[]",
            "1",
            "\"a\"",
            "null",
            "{",
            "{}{}",
            "{},",
            "{}x",
            "{\"a\":1e400}",
            "{\"a\":NaN}",
            &deep,
        ] {
            assert_eq!(parse_object(text.as_bytes()), Err(Fault::Malformed), "{text}");
        }
        assert_eq!(parse_object(b"\xef\xbb\xbf{}"), Err(Fault::Malformed));
        assert_eq!(parse_object(b"{\"a\":\"\xff\"}"), Err(Fault::Malformed));
        assert_eq!(parse_object(br#"{"a":"\ud800"}"#), Err(Fault::Malformed));
        assert!(parse_object(b"{}").is_ok_and(|members| members.is_empty()));
    }
}
