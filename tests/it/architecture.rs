//! The layers of the house (see `src/lib.rs`): a file imports only from layers below its own; files of one room may
//! import each other.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every room and its layer; as in the table of `src/lib.rs`.
const LAYERS: [(&str, u8); 28] = [
    ("main", 12),
    ("cli", 11),
    ("app", 10),
    ("server", 9),
    ("gateway", 8),
    ("login", 7),
    ("session", 6),
    ("account", 6),
    ("pages", 6),
    ("observe", 6),
    ("forward", 5),
    ("identity_headers", 5),
    ("signing", 5),
    ("verify", 4),
    ("credential", 4),
    ("authorize", 4),
    ("route", 4),
    ("state", 4),
    ("config", 3),
    ("values", 2),
    ("http", 1),
    ("net", 1),
    ("identity", 1),
    ("revocation", 1),
    ("blocking", 1),
    ("refusal", 0),
    ("clock", 0),
    ("lib", 13),
];

fn layer(room: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, layer)| *layer)
}

/// The room of a file: the first part of its path below `src`.
fn room(path: &Path) -> String {
    let first = path
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The code without comments, text and characters, so that only paths that the compiler sees are found.
fn code(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &source[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if let Some(length) = raw_text(rest) {
            code.push_str("\"\"");
            at += length;
        } else if bytes[at] == b'"' {
            code.push_str("\"\"");
            at += text(rest);
        } else if let Some(length) = character(rest) {
            at += length;
        } else {
            let letter = rest.chars().next().unwrap();
            code.push(letter);
            at += letter.len_utf8();
        }
    }
    code
}

/// The length of the raw string literal that `rest` begins with.
fn raw_text(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - after.len() + hashes + 1;
    Some(
        rest[start..]
            .find(&end)
            .map_or(rest.len(), |found| start + found + end.len()),
    )
}

/// The length of the string literal that `rest` begins with.
fn text(rest: &str) -> usize {
    let mut escaped = false;
    for (index, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the character literal that `rest` begins with; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let mut letters = inner.char_indices();
    let (_, first) = letters.next()?;
    if first == '\\' {
        return inner[2..].find('\'').map(|end| end + 4);
    }
    let (index, second) = letters.next()?;
    (second == '\'').then_some(index + 2)
}

/// The first parts of all `crate::…` paths (and, in `main.rs`, of all `passgate::…` paths).
fn imports(source: &str) -> BTreeSet<String> {
    let code: String = code(source)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(":: ", "::")
        .replace(" ::", "::");
    let mut rooms = BTreeSet::new();
    for root in ["crate::", "passgate::"] {
        for (index, _) in code.match_indices(root) {
            let whole_word =
                !code[..index].ends_with(|before: char| before.is_alphanumeric() || before == '_');
            if whole_word {
                rooms.extend(first_names(&code[index + root.len()..]));
            }
        }
    }
    rooms
}

/// `verify::Token` gives `verify`; `{verify::{a, b}, state}` gives `verify` and `state`.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect()
    };
    let Some(group) = path.trim_start().strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut names = vec![name(group)];
    let mut depth = 0;
    for (index, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&group[index + 1..])),
            _ => {}
        }
    }
    names
}

/// What is wrong with the imports of the file at `path`, below `src`.
fn upward(path: &Path, source: &str) -> Vec<String> {
    let room = room(path);
    let Some(own) = layer(&room) else {
        return vec![format!(
            "{}: `{room}` has no layer in tests/it/architecture.rs and src/lib.rs",
            path.display()
        )];
    };
    imports(source)
        .into_iter()
        .filter(|import| !import.is_empty() && *import != room && *import != "self")
        .filter_map(|import| match layer(&import) {
            // A macro or a name that the root itself exports.
            None => Some(format!("{}: `{import}` is no room", path.display())),
            Some(theirs) if theirs >= own => Some(format!(
                "{}: layer {own} imports `{import}` of layer {theirs}",
                path.display()
            )),
            Some(_) => None,
        })
        .collect()
}

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(&root).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)).unwrap()
}

#[test]
fn no_file_imports_from_its_own_layer_or_above() {
    let files = sources();
    assert!(files.len() > 10, "{files:?}");
    let wrong: Vec<String> = files
        .iter()
        .filter(|path| path.as_path() != Path::new("lib.rs"))
        .flat_map(|path| upward(path, &read(path)))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_table_of_the_library_says_the_same() {
    let documented: Vec<(String, u8)> = read(Path::new("lib.rs"))
        .lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.split_once(" | "))
        .filter_map(|(layer, rooms)| Some((layer.trim().parse::<u8>().ok()?, rooms.to_owned())))
        .flat_map(|(layer, rooms)| {
            let names: Vec<String> = rooms
                .split(',')
                .map(|name| {
                    name.chars()
                        .filter(|letter| letter.is_alphanumeric() || *letter == '_')
                        .collect()
                })
                .collect();
            names.into_iter().map(move |name| (name, layer))
        })
        .collect();
    assert!(documented.len() > 10, "{documented:?}");
    for (name, documented) in &documented {
        assert_eq!(layer(name), Some(*documented), "`{name}`");
    }
    for (name, _) in LAYERS.iter().filter(|(name, _)| *name != "lib") {
        assert!(
            documented.iter().any(|(documented, _)| documented == name),
            "`{name}` is not in src/lib.rs"
        );
    }
}

#[test]
fn every_room_is_declared_and_has_a_layer() {
    let rooms: BTreeSet<String> = sources().iter().map(|path| room(path)).collect();
    for room in &rooms {
        assert!(layer(room).is_some(), "src/{room} has no layer");
    }
    let library = code(&read(Path::new("lib.rs")));
    for room in rooms
        .iter()
        .filter(|room| !matches!(room.as_str(), "lib" | "main"))
    {
        assert!(
            library.contains(&format!("mod {room};")),
            "src/lib.rs does not declare `{room}`"
        );
    }
}

#[test]
fn an_upward_import_is_found_however_it_is_written() {
    let wrong = |path: &str, source: &str| upward(Path::new(path), source).len();
    assert_eq!(
        wrong("refusal.rs", "use crate::clock::UnixSeconds;"),
        1,
        "the same layer"
    );
    assert_eq!(wrong("config/raw.rs", "use crate::verify::Verifier;"), 1);
    assert_eq!(wrong("config/raw.rs", "use crate :: verify\n:: Verifier;"), 1);
    assert_eq!(
        wrong("config/raw.rs", "fn f() { let x = crate::gateway::walk(); }"),
        1
    );
    assert_eq!(
        wrong(
            "config/raw.rs",
            "use crate::{clock::{self, Clock}, state, verify::{a, b}};"
        ),
        2
    );
    assert_eq!(
        wrong("config/raw.rs", "pub(crate) use crate::{\n    app::App,\n};"),
        1
    );
    assert_eq!(wrong("state/sqlite.rs", "use crate::route::Routes;"), 1);
    assert_eq!(wrong("gateway.rs", "use crate::server::Server;"), 1);
    assert_eq!(
        wrong(
            "gateway.rs",
            "fn f<'a>(x: &'a str, c: char) { if c == '\"' { crate::server::run() } }"
        ),
        1
    );
    assert_eq!(wrong("gateway.rs", "const A: char = '\\''; use crate::cli;"), 1);
    assert_eq!(wrong("lobby.rs", ""), 1, "a room without a layer");
    assert_eq!(wrong("gateway.rs", "use crate::lobby::X;"), 1);
}

#[test]
fn a_downward_import_and_talk_of_one_are_no_error() {
    let wrong = |path: &str, source: &str| upward(Path::new(path), source);
    let none: [String; 0] = [];
    assert_eq!(
        wrong(
            "verify/jwt.rs",
            "use crate::config::At; use crate::verify::keys::Key; use super::cache;"
        ),
        none
    );
    assert_eq!(
        wrong(
            "refusal.rs",
            "//! See crate::gateway.\n/// crate::server\nfn f() {} /* crate::cli */"
        ),
        none
    );
    assert_eq!(
        wrong(
            "refusal.rs",
            "const A: &str = \"crate::gateway\"; const B: &str = r#\"use \"crate::cli\"\"#;"
        ),
        none
    );
    assert_eq!(wrong("refusal.rs", "use other_crate::gateway;"), none);
    assert_eq!(wrong("main.rs", "fn main() { passgate::cli::main() }"), none);
}
