//! The places that repeat the schema agree with it: the example file, the reference page, the JSON schema, the defaults.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use toml::Value;

use super::key::Key;
use super::{TABLES, Table, json_schema, parsed, reference, same, table};
use crate::config::{Problems, read};

const EXAMPLE: &str = include_str!("../../../gateway.example.toml");

/// The example with every assignment and header that is commented out switched on, a text for each table header.
fn shown() -> BTreeMap<String, Vec<Value>> {
    let mut shown: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let (mut path, mut block) = (String::new(), String::new());
    let lines = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line));
    for line in lines.chain(["[end]"]) {
        if line.starts_with('[') {
            if let Ok(table) = toml::from_str::<toml::Table>(&block) {
                collect(&path, &Value::Table(table), &mut shown);
            }
            block.clear();
            let name = line.split(']').next().unwrap().trim_start_matches('[');
            path = match name.split_once('.') {
                Some((kind @ ("issuers" | "upstreams" | "providers"), _)) => format!("{kind}.*"),
                _ => name.to_owned(),
            };
        } else {
            // A line of prose is left out.
            let with = format!("{block}{line}\n");
            if toml::from_str::<toml::Table>(&with).is_ok() {
                block = with;
            }
        }
    }
    shown
}

fn collect(path: &str, value: &Value, shown: &mut BTreeMap<String, Vec<Value>>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let name = format!("{path}.{key}");
                shown.entry(name.clone()).or_default().push(value.clone());
                collect(&name, value, shown);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(path, value, shown)),
        _ => {}
    }
}

fn all_keys() -> impl Iterator<Item = (&'static Table, &'static Key)> {
    TABLES
        .iter()
        .flat_map(|table| table.keys.iter().map(move |key| (table, key)))
}

/// `UPDATE=1` adds the keys that are not there.
#[test]
fn the_example_shows_each_default_and_each_example() {
    let shown = shown();
    let mut example = EXAMPLE.to_owned();
    let mut wrong: Vec<String> = Vec::new();
    let is_apart = |path: &str| {
        let apart = [
            "",
            "secret",
            "server.tls.more",
            "credentials",
            "credentials.sources",
            "upstreams.*.servers",
        ];
        apart.contains(&path)
    };
    for (table, key) in all_keys().filter(|(table, _)| !is_apart(table.path)) {
        let name = format!("{}.{}", table.path, key.name);
        let text = if key.example.is_empty() {
            key.default
        } else {
            key.example
        };
        let Some(expected) = parsed(text).map(|value| same(key.kind, value)) else {
            continue;
        };
        let found = shown.get(&name).map(Vec::as_slice).unwrap_or_default();
        if found
            .iter()
            .any(|value| same(key.kind, value.clone()) == expected)
        {
            continue;
        }
        wrong.push(format!("{name} = {text}, the example has {found:?}"));
        let header = format!("\n[{}]\n", table.path);
        if let (true, Some(at)) = (found.is_empty(), example.find(&header)) {
            let entry = format!("# {}\n{} = {text}\n", key.doc, key.name);
            example.insert_str(at + header.len(), &entry);
        }
    }
    if std::env::var_os("UPDATE").is_some() && example != EXAMPLE {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.example.toml");
        std::fs::write(file, &example).unwrap();
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// `UPDATE=1` writes the page.
#[test]
fn the_reference_page_is_generated_from_the_schema() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = reference::markdown();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&page, &text).unwrap();
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        written == text,
        "docs/configuration.md is old: run `UPDATE=1 cargo test --lib schema`"
    );
}

#[test]
fn each_default_and_example_is_a_value_that_its_key_takes() {
    for (table, key) in all_keys() {
        for text in [key.default, key.example]
            .into_iter()
            .filter(|text| !text.is_empty())
        {
            assert!(
                parsed(text).is_some(),
                "`{text}` of `{}.{}` is no TOML",
                table.path,
                key.name
            );
        }
        assert!(
            key.doc.ends_with('.') || key.doc.ends_with("`."),
            "`{}` of `{}`",
            key.name,
            table.path
        );
        assert!(
            !key.default.is_empty() || !key.example.is_empty() || table.path.is_empty() || has_table(key),
            "`{}.{}` has neither a default nor an example",
            table.path,
            key.name
        );
    }
}

fn has_table(key: &Key) -> bool {
    matches!(key.kind, super::Kind::Table(path) if table(path).is_some())
}

#[test]
fn a_default_that_is_written_needs_no_restart() {
    let values = |text: &str| {
        let mut problems = Problems::new(Path::new("gateway.toml"), text);
        let raw = read(&mut problems);
        assert!(problems.errors().is_empty(), "{}", problems.render(false));
        raw.restart
    };
    let mut written = String::new();
    for name in ["server", "state"] {
        written.push_str(&format!("[{name}]\n"));
        for key in table(name)
            .unwrap()
            .keys
            .iter()
            .filter(|key| key.restart && !key.default.is_empty())
        {
            written.push_str(&format!("{} = {}\n", key.name, key.default));
        }
    }
    assert_eq!(values(""), values(&written));
    let other = values("[server]\nidle_timeout = \"1m\"\nlisten = [\"127.0.0.1:8080\"]\n");
    let changed: Vec<String> = values("")
        .into_iter()
        .zip(other)
        .filter(|(now, next)| now != next)
        .map(|((name, _), _)| name)
        .collect();
    assert_eq!(changed, ["server.idle_timeout"]);
}

/// Whether `value` has the keys that `schema` allows.
fn fits(schema: &serde_json::Value, value: &serde_json::Value) -> bool {
    if let Some(any) = schema.get("anyOf") {
        return any.as_array().unwrap().iter().any(|schema| fits(schema, value));
    }
    match (schema["type"].as_str().unwrap(), value) {
        ("string", serde_json::Value::String(text)) => schema
            .get("enum")
            .is_none_or(|words| words.as_array().unwrap().iter().any(|word| word == text)),
        ("boolean", value) => value.is_boolean(),
        ("integer", value) => value.as_i64().is_some_and(|number| {
            schema
                .get("minimum")
                .is_none_or(|least| number >= least.as_i64().unwrap())
                && schema
                    .get("maximum")
                    .is_none_or(|most| number <= most.as_i64().unwrap())
        }),
        ("array", serde_json::Value::Array(values)) => {
            values.iter().all(|value| fits(&schema["items"], value))
        }
        ("object", serde_json::Value::Object(table)) => table.iter().all(|(key, value)| {
            let other = &schema["additionalProperties"];
            match schema.get("properties").and_then(|known| known.get(key)) {
                Some(schema) => fits(schema, value),
                None => other.is_object() && fits(other, value),
            }
        }),
        _ => false,
    }
}

#[test]
fn the_json_schema_takes_the_example_and_no_unknown_key() {
    let schema = json_schema();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let json = |text: &str| serde_json::to_value(toml::from_str::<Value>(text).unwrap()).unwrap();
    assert!(fits(&schema, &json(EXAMPLE)));
    for wrong in [
        "[servers]",
        "[server]\nlistn = \"a\"",
        "[server]\nworkers = -1",
        "[log]\nformat = \"xml\"",
        "[[routes]]\nauth = true",
        "[issuers.a]\nsecret = \"a\"",
    ] {
        assert!(!fits(&schema, &json(wrong)), "{wrong}");
    }
}

#[test]
fn presets_of_the_schema_are_those_of_the_embedded_file() {
    let file: toml::Table =
        toml::from_str(include_str!("../../identity_headers/presets.toml")).expect("it is TOML");
    let mut words = super::words("identity", "preset").to_vec();
    words.sort_unstable();
    assert_eq!(words, file.keys().collect::<Vec<_>>());
}
