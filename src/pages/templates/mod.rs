//! The templates: built in or of the operator, and how one becomes a page.
//!
//! Input: `pages.templates` and values. Output: HTML. Invariants: every value is escaped, also if a template asks for the
//! opposite; only [`Value::from_safe_string`], used for texts of the gateway itself, is not. No panic, no half page, no page
//! without end. Each template is rendered with samples at the start, so that a broken one is found before a visitor sees it;
//! one that fails later is replaced by the built-in one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, HtmlEscape, UndefinedBehavior};

use crate::config::{Problems, nearest};

use super::custom::Custom;
use super::page::{LAYOUT, LONGEST_PAGE, Page, STYLE, innermost};

/// Instructions of a template; a hundred sessions need a tenth of it.
const FUEL: u64 = 100_000;

/// The built-in templates and their style sheet: file name and text. A file of the same name in `pages.templates` takes the
/// place of one.
pub(crate) const BUILT_IN: [(&str, &str); Page::ALL.len() + 2] = {
    let mut files = [("", ""); Page::ALL.len() + 2];
    files[0] = (LAYOUT, include_str!("layout.html"));
    files[1] = (STYLE, include_str!("style.css"));
    let mut at = 0;
    while at < Page::ALL.len() {
        files[at + 2] = Page::ALL[at].template();
        at += 1;
    }
    files
};

/// All templates, ready.
pub(super) struct Templates {
    built_in: Environment<'static>,
    /// The built-in ones with the operator's in their places; `None` without any of the operator's.
    custom: Option<Environment<'static>>,
    /// Pages whose custom template has failed; logged once for each.
    failed: [AtomicBool; Page::ALL.len()],
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates")
            .field("has_custom", &self.custom.is_some())
            .finish_non_exhaustive()
    }
}

impl Templates {
    /// Parses all templates and renders the operator's with each of `samples` (two for a page: with few and with all values). `style`: the
    /// content of the `<style>` element of each page.
    pub(super) fn compile(
        custom: &Custom,
        samples: &[(Page, Value)],
        style: &str,
        problems: &mut Problems,
    ) -> Self {
        let built_in = built_in();
        let failed = Default::default();
        let Some(directory) = custom.directory.as_ref().filter(|_| !custom.templates.is_empty()) else {
            return Self {
                built_in,
                custom: None,
                failed,
            };
        };
        let mut environment = built_in.clone();
        // An undefined variable is named.
        environment.set_debug(true);
        let mut found: Vec<(String, String)> = Vec::new();
        let mut describe = |error: &Error, file| {
            let known = variables(samples);
            let near = undefined(error).and_then(|typed| nearest(typed, known.iter().map(String::as_str)));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "compare it with the built-in template, which `passgate pages export DIR` writes; `docs/pages.md` has \
                         all variables there are"
                    .to_owned(),
            };
            let described = (custom.describe(error, file), hint);
            if !found.contains(&described) {
                found.push(described);
            }
        };
        for (file, text) in &custom.templates {
            if let Err(error) = environment.add_template_owned(*file, text.clone()) {
                describe(&error, file);
            }
        }
        let mut pages: BTreeMap<&'static str, String> = BTreeMap::new();
        for (page, sample) in samples {
            match render(&environment, *page, sample) {
                Ok(html) => *pages.entry(page.file()).or_default() += &html,
                Err(error) => describe(&error, page.file()),
            }
        }
        for (message, hint) in found {
            problems.error(&directory.span, message).hint(hint);
        }
        custom.check(&pages, style, problems);
        Self {
            built_in,
            custom: Some(environment),
            failed,
        }
    }

    /// The variables that the built-in template of a page, or [`LAYOUT`], uses.
    #[cfg(test)]
    pub(super) fn undeclared(&self, file: &str) -> Vec<String> {
        let template = self.built_in.get_template(file).expect("it is built in");
        template.undeclared_variables(true).into_iter().collect()
    }

    /// The page. Where even a built-in template fails, a plain one.
    pub(super) fn render(&self, page: Page, values: &Value) -> String {
        if let Some(custom) = &self.custom {
            match render(custom, page, values) {
                Ok(html) => return html,
                Err(error) => {
                    if !self.failed[page as usize].swap(true, Ordering::Relaxed) {
                        let error = innermost(&error);
                        // Without the detail, which may hold a value that a client typed.
                        tracing::error!(
                            template = error.name().unwrap_or(page.file()),
                            line = error.line().unwrap_or(0),
                            kind = %error.kind(),
                            "a template of `pages.templates` failed; the built-in one is shown from now on where it fails"
                        );
                    }
                }
            }
        }
        render(&self.built_in, page, values).unwrap_or_else(|_| {
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Error</title><main><h1>Error</h1>\
             <p>This page cannot be shown.</p></main></html>"
                .to_owned()
        })
    }
}

/// Text with what means something in HTML escaped. The slash means nothing there, and stays as it is: paths can be read,
/// and taken out of a form, as they are.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, part) in self.0.split('/').enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { "/" }, HtmlEscape(part))?;
        }
        Ok(())
    }
}

/// An environment without templates, in which every value is escaped.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // What fails here has no template, and the plain page instead; a test holds us to it.
    if let Ok(syntax) = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
    {
        environment.set_syntax(syntax);
    }
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.remove_filter("safe");
    environment.set_formatter(|output, _, value| {
        match value.as_str() {
            // What `{% autoescape false %}` says is not asked for.
            Some(text) if value.is_safe() => output.write_str(text),
            Some(text) => write!(output, "{}", Escaped(text)),
            None if value.is_none() => Ok(()),
            None => write!(output, "{}", Escaped(&value.to_string())),
        }
        .map_err(Error::from)
    });
    environment
}

fn built_in() -> Environment<'static> {
    let mut environment = environment();
    let files = Page::ALL.map(Page::template);
    for (name, text) in files.into_iter().chain([(LAYOUT, include_str!("layout.html"))]) {
        if let Err(error) = environment.add_template(name, text) {
            tracing::error!(%error, "a built-in template is broken");
        }
    }
    environment
}

fn render(environment: &Environment<'_>, page: Page, values: &Value) -> Result<String, Error> {
    let mut html = Bounded(Vec::with_capacity(16 * 1024));
    environment
        .get_template(page.file())?
        .render_captured_to(values, &mut html)?;
    String::from_utf8(html.0).map_err(|_| ErrorKind::WriteFailure.into())
}

/// Takes no more than [`LONGEST_PAGE`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST_PAGE {
            return Err(std::io::Error::other("the page is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The variable that `error` is about, where it is about one that is not defined.
pub(super) fn undefined(error: &Error) -> Option<&str> {
    let error = innermost(error);
    let detail = error
        .detail()
        .filter(|_| error.kind() == ErrorKind::UndefinedError)?;
    detail.strip_prefix('`')?.split('`').next()
}

/// The names of all variables in `samples`, `person.email` for one in another. Those of the elements of a list are named
/// with `[]`.
pub(super) fn variables(samples: &[(Page, Value)]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, sample) in samples {
        collect(sample, "", &mut names);
    }
    // An absent `person` is a name of its own beside the names inside of a present one.
    let parents: Vec<String> = names
        .iter()
        .filter_map(|name| Some(name.rsplit_once('.')?.0.to_owned()))
        .collect();
    names.retain(|name| {
        !parents
            .iter()
            .any(|parent| parent == name || parent.strip_suffix("[]") == Some(name))
    });
    names
}

fn collect(value: &Value, name: &str, names: &mut BTreeSet<String>) {
    let entries = value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Map => {
            for key in entries {
                let path = if name.is_empty() {
                    key.to_string()
                } else {
                    format!("{name}.{key}")
                };
                collect(&value.get_item(&key).unwrap_or_default(), &path, names);
            }
        }
        ValueKind::Seq => {
            names.insert(name.to_owned());
            entries.for_each(|element| collect(&element, &format!("{name}[]"), names));
        }
        _ => drop(names.insert(name.to_owned())),
    }
}
