//! The text of `docs/configuration.md`. A test compares it with the file, and writes the file with `UPDATE=1`.
//!
//! Input: the tables. Output: text.

use super::key::{Key, Kind, Table};
use super::{TABLES, header};

const INTRODUCTION: &str = "\
# Configuration reference

Every key of `gateway.toml`. This page is generated from the schema in `src/config/schema`; `passgate schema` prints the
same as a JSON schema for editors (taplo, Even Better TOML), and `passgate example` prints a file with every key.

Durations are written `\"250ms\"`, `\"30s\"`, `\"5m\"`, `\"24h\"`, `\"7d\"` or `\"1h30m\"`, sizes `\"512B\"`, `\"32KiB\"`, `\"1MiB\"` (1024) or
`\"1MB\"` (1000). Relative paths start from the directory of the file. SIGHUP reloads the file; a change of a key marked
\"restart\" takes effect at the next start.
";

/// `docs/configuration.md`.
#[must_use]
pub(crate) fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for table in TABLES {
        text.push_str(&format!("\n## {}\n\n{}\n\n", heading(table), table.doc));
        text.push_str("| key | type | default | restart | description |\n|---|---|---|---|---|\n");
        for key in table.keys {
            let cells = [
                format!("`{}`", key.name),
                type_of(key.kind),
                if key.default.is_empty() {
                    "–".to_owned()
                } else {
                    format!("`{}`", key.default)
                },
                if key.restart {
                    "yes".to_owned()
                } else {
                    "no".to_owned()
                },
                description(key),
            ];
            text.push_str(&format!(
                "| {} |\n",
                cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
            ));
        }
    }
    text
}

fn heading(table: &Table) -> String {
    match table.path {
        "" => "The file".to_owned(),
        "secret" => "Secrets".to_owned(),
        path => format!("`{}`", header(path)),
    }
}

fn description(key: &Key) -> String {
    if key.example.is_empty() {
        return key.doc.to_owned();
    }
    format!("{} Example: `{}`", key.doc, key.example)
}

/// A kind of value, for people.
fn type_of(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Boolean => "boolean".to_owned(),
        Kind::Integer(0, 0) => "0".to_owned(),
        Kind::Integer(..) => "integer".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::Size => "size".to_owned(),
        Kind::Word(words) => words
            .iter()
            .map(|word| format!("`\"{word}\"`"))
            .collect::<Vec<_>>()
            .join(", "),
        Kind::List(of) => format!("list of {}", type_of(*of)),
        Kind::OneOrMore(of) => format!("{0}, or a list of {0}", type_of(*of)),
        Kind::Either(kinds) => kinds
            .iter()
            .map(|kind| type_of(*kind))
            .collect::<Vec<_>>()
            .join(" or "),
        Kind::Table("secret") => "secret".to_owned(),
        Kind::Table(_) => "table".to_owned(),
        Kind::Tables(_) => "array of tables".to_owned(),
        Kind::Named(_) => "named tables".to_owned(),
        Kind::Map(_) => "table of free names".to_owned(),
    }
}
