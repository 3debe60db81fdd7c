//! The layers of the library (see `src/lib.rs`): a file imports only from layers below its own. Files of one module may import each
//! other, but never in a circle.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, Macro, UseTree, Visibility};

/// Every module and its layer; as in the table of `src/lib.rs`.
const LAYERS: [(&str, u8); 30] = [
    ("lib", 13),
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
    ("rate_limit", 5),
    ("audit", 5),
    ("verify", 4),
    ("credential", 4),
    ("authorize", 4),
    ("route", 4),
    ("state", 4),
    ("config", 3),
    ("values", 2),
    ("http", 1),
    ("net", 2),
    ("identity", 1),
    ("revocation", 1),
    ("blocking", 1),
    ("refusal", 0),
    ("clock", 0),
];

/// A path in code: `["crate", "verify", "Verifier"]`.
type Segments = Vec<String>;

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

/// The module of a file: the first part of its path below `src`.
fn room(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The path of a file's module: `["forward", "pool"]` for `forward/pool/mod.rs`, `["forward"]` for `forward/mod.rs`.
fn module_path(path: &Path) -> Segments {
    let text = path.with_extension("").to_string_lossy().into_owned();
    let mut segments: Segments = text.split('/').map(str::to_owned).collect();
    if matches!(segments.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        segments.pop();
    }
    segments
}

/// The paths that a file names: those of its `use` items, and those in code, also in the arguments of macros.
#[derive(Default)]
struct Paths {
    found: Vec<Segments>,
    /// Names that the file hands on: `pub use pool::Pool` is `("Pool", ["pool", "Pool"])`.
    exported: Vec<(String, Segments)>,
    without_tests: bool,
}

impl Paths {
    fn of(source: &str, without_tests: bool) -> Self {
        let mut paths = Self {
            without_tests,
            ..Self::default()
        };
        paths.visit_file(&syn::parse_file(source).expect("the compiler takes it as well"));
        paths
    }

    fn tree(&mut self, tree: &UseTree, before: &[String], exported: bool) {
        let extended = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&path.tree, &extended(&path.ident), exported),
            UseTree::Group(group) => {
                for item in &group.items {
                    self.tree(item, before, exported);
                }
            }
            UseTree::Name(name) => self.leaf(&name.ident.to_string(), extended(&name.ident), exported),
            UseTree::Rename(rename) => {
                self.leaf(&rename.rename.to_string(), extended(&rename.ident), exported);
            }
            UseTree::Glob(_) => self.found.push(before.to_vec()),
        }
    }

    fn leaf(&mut self, name: &str, mut path: Segments, exported: bool) {
        if path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if exported {
            self.exported.push((name.to_owned(), path.clone()));
        }
        self.found.push(path);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !(self.without_tests && is_test(attributes)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let exported = !matches!(item.vis, Visibility::Inherited);
        self.tree(&item.tree, &[], exported);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.found.push(
            path.segments
                .iter()
                .map(|segment| segment.ident.to_string())
                .collect(),
        );
        visit::visit_path(self, path);
    }

    /// The arguments of a macro are no code to the parser: paths are found in their text.
    fn visit_macro(&mut self, called: &'ast Macro) {
        visit::visit_path(self, &called.path);
        self.found.extend(paths_in(&called.tokens.to_string()));
    }
}

/// Paths that begin with `crate`, `super` or `self` in the text of tokens, in which spaces stand between tokens.
fn paths_in(tokens: &str) -> Vec<Segments> {
    let mut found = Vec::new();
    let words: Vec<&str> = tokens.split_whitespace().collect();
    let joined = words
        .join(" ")
        .replace(" :: ", "::")
        .replace(":: ", "::")
        .replace(" ::", "::");
    for word in joined.split(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == ':')) {
        let segments: Segments = word.split("::").map(str::to_owned).collect();
        if segments.len() > 1 && matches!(segments[0].as_str(), "crate" | "super" | "self") {
            found.push(segments);
        }
    }
    found
}

/// A path from the root of the crate, for a path that a file of the module `module` names; `None` for those of other crates.
fn absolute(module: &[String], path: &[String], modules: &BTreeSet<Segments>) -> Option<Segments> {
    let first = path.first()?.as_str();
    match first {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => {
            let above = module.split_last()?.1;
            if path.get(1).is_some_and(|next| next == "super") {
                return absolute(above, &path[1..], modules);
            }
            Some([above, &path[1..]].concat())
        }
        child => {
            let inside = [module, &[child.to_owned()]].concat();
            modules.contains(&inside).then(|| [module, path].concat())
        }
    }
}

/// The imports of the library, file by file.
struct Graph {
    files: HashMap<Segments, PathBuf>,
    exports: HashMap<Segments, Segments>,
    edges: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl Graph {
    fn of(sources: &[(PathBuf, String)]) -> Self {
        let files: HashMap<Segments, PathBuf> = sources
            .iter()
            .map(|(path, _)| (module_path(path), path.clone()))
            .collect();
        let modules: BTreeSet<Segments> = files.keys().cloned().collect();
        let parsed: Vec<(&PathBuf, Segments, Paths)> = sources
            .iter()
            .map(|(path, source)| (path, module_path(path), Paths::of(source, true)))
            .collect();
        let mut exports = HashMap::new();
        for (_, module, paths) in &parsed {
            for (name, path) in &paths.exported {
                if let Some(target) = absolute(module, path, &modules) {
                    exports.insert([module.as_slice(), std::slice::from_ref(name)].concat(), target);
                }
            }
        }
        let mut graph = Self {
            files,
            exports,
            edges: BTreeMap::new(),
        };
        for (path, module, paths) in &parsed {
            for named in &paths.found {
                let Some(target) = absolute(module, named, &modules) else {
                    continue;
                };
                let Some((owner, file)) = graph.file_of(&target, 8) else {
                    continue;
                };
                // A folder is one module: what its files take from their own `mod.rs` is no import from another file.
                let is_inside_owner = module.starts_with(&owner);
                if file != **path && !is_inside_owner {
                    graph.edges.entry((*path).clone()).or_default().insert(file);
                }
            }
        }
        graph
    }

    /// The file that defines what a path names, through `pub use` in other files.
    fn file_of(&self, target: &[String], steps: u8) -> Option<(Segments, PathBuf)> {
        for end in (1..=target.len()).rev() {
            if let (Some(elsewhere), true) = (self.exports.get(&target[..end]), steps > 0) {
                let further = [elsewhere, &target[end..]].concat();
                if further != target {
                    return self.file_of(&further, steps - 1);
                }
            }
            if let Some(file) = self.files.get(&target[..end]) {
                return Some((target[..end].to_vec(), file.clone()));
            }
        }
        None
    }

    /// Groups of files of which each imports, directly or not, every other.
    fn circles(&self) -> Vec<Vec<PathBuf>> {
        let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = self
            .edges
            .keys()
            .map(|from| (from, self.reachable(from)))
            .collect();
        let mut circles = BTreeSet::new();
        for (file, targets) in &reached {
            let circle: Vec<PathBuf> = targets
                .iter()
                .filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)))
                .map(|other| (*other).clone())
                .collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    fn reachable<'a>(&'a self, from: &'a PathBuf) -> BTreeSet<&'a PathBuf> {
        let mut found = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            for next in self.edges.get(file).into_iter().flatten() {
                if found.insert(next) {
                    open.push(next);
                }
            }
        }
        found
    }
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
    let imported: BTreeSet<String> = Paths::of(source, false)
        .found
        .into_iter()
        .filter(|segments| segments[0] == "crate" && segments.len() > 1)
        .map(|mut segments| segments.swap_remove(1))
        .filter(|import| *import != room)
        .collect();
    imported
        .into_iter()
        .filter_map(|import| match layer(&import) {
            // A macro or a name that the root itself exports.
            None => Some(format!("{}: `{import}` is no module", path.display())),
            Some(theirs) if theirs >= own => Some(format!(
                "{}: layer {own} imports `{import}` of layer {theirs}",
                path.display()
            )),
            Some(_) => None,
        })
        .collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&root).unwrap().to_owned(), source));
            }
        }
    }
    files.sort();
    files
}

/// The files that are compiled without `cfg(test)`; not the root, whose only import from others is the door for tests.
fn product() -> Vec<(PathBuf, String)> {
    let is_test = |path: &Path| {
        path.components().any(|part| {
            matches!(
                part.as_os_str().to_str(),
                Some("tests" | "tests.rs" | "contract" | "testing.rs")
            )
        })
    };
    sources()
        .into_iter()
        .filter(|(path, _)| !is_test(path) && path != Path::new("lib.rs"))
        .collect()
}

fn library() -> String {
    let (_, source) = sources()
        .into_iter()
        .find(|(path, _)| path == Path::new("lib.rs"))
        .unwrap();
    source
}

#[test]
fn file_imports_only_from_layers_below() {
    let files = sources();
    assert!(files.len() > 10);
    let wrong: Vec<String> = files
        .iter()
        .filter(|(path, _)| path != Path::new("lib.rs"))
        .flat_map(|(path, source)| upward(path, source))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let graph = Graph::of(&product());
    let edges: usize = graph.edges.values().map(BTreeSet::len).sum();
    assert!(edges > 500, "only {edges} imports found");
    let circles = graph.circles();
    assert!(circles.is_empty(), "\n{circles:#?}");
}

#[test]
fn circle_is_found_through_reexports_and_macros() {
    let circles = |files: &[(&str, &str)]| {
        let files: Vec<_> = files
            .iter()
            .map(|(path, source)| (PathBuf::from(path), (*source).to_owned()))
            .collect();
        Graph::of(&files).circles().len()
    };
    let parent = (
        "a/mod.rs",
        "mod one; mod two; pub use one::One; pub use two::Two;",
    );
    assert_eq!(
        circles(&[
            parent,
            ("a/one.rs", "use super::two::Two; pub struct One;"),
            ("a/two.rs", "pub struct Two; fn f() { super::One; }"),
        ]),
        1,
        "through the parent's re-export"
    );
    assert_eq!(
        circles(&[
            parent,
            ("a/one.rs", "use super::two::Two; pub struct One;"),
            (
                "a/two.rs",
                "pub struct Two; fn f() { debug!(\"{}\", crate::a::one::X) }"
            ),
        ]),
        1,
        "in a macro"
    );
    assert_eq!(
        circles(&[
            parent,
            (
                "a/one.rs",
                "use super::two::Two; use super::Shared; pub struct One;"
            ),
            (
                "a/two.rs",
                "pub struct Two; #[cfg(test)] mod tests { use super::super::one::One; }"
            ),
        ]),
        0,
        "only in tests"
    );
    assert_eq!(
        circles(&[
            ("a.rs", "use crate::b::{self, B};"),
            ("b.rs", "use crate::c::*;"),
            ("c.rs", "use crate::a::A;"),
        ]),
        1,
        "of three"
    );
}

#[test]
fn layer_table_of_the_library_agrees() {
    let documented: Vec<(String, u8)> = library()
        .lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.split_once(" | "))
        .filter_map(|(layer, modules)| Some((layer.trim().parse::<u8>().ok()?, modules.to_owned())))
        .flat_map(|(layer, modules)| {
            let names: Vec<String> = modules
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
fn every_module_is_declared_and_has_a_layer() {
    let modules: BTreeSet<String> = sources().iter().map(|(path, _)| room(path)).collect();
    let library = library();
    for module in &modules {
        assert!(layer(module).is_some(), "src/{module} has no layer");
        assert!(
            matches!(module.as_str(), "lib" | "main") || library.contains(&format!("mod {module};")),
            "src/lib.rs does not declare `{module}`"
        );
    }
}

#[test]
fn upward_import_is_found_in_every_spelling() {
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
            "fn f() { debug!(\"{}\", crate::gateway::walk()) }"
        ),
        1,
        "in a macro"
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
    assert_eq!(wrong("lobby.rs", ""), 1, "a module without a layer");
    assert_eq!(wrong("gateway.rs", "use crate::lobby::X;"), 1);
}

#[test]
fn downward_import_and_text_about_one_are_allowed() {
    let wrong = |path: &str, source: &str| upward(Path::new(path), source);
    let none: [String; 0] = [];
    assert_eq!(
        wrong(
            "verify/jwt.rs",
            "use crate::config::Spanned; use crate::verify::keys::Key; use super::cache;"
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
    assert_eq!(wrong("main.rs", "fn main() { passgate::main() }"), none);
}
