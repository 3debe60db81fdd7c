//! The templates: those built in, those that an operator put in their places, and how one becomes a page.
//!
//! Enters: `pages.templates` and values. Leaves: HTML. Whatever a template prints is escaped, also where it asks for
//! the opposite; only [`Value::from_safe_string`], of our own words, is not. What must never happen: a panic, half a page, a
//! page without end, or a broken template that is found out by a visitor: each one is rendered with samples at the
//! start, and one that fails all the same gives way to the built-in one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, HtmlEscape, UndefinedBehavior};

use crate::config::{Problems, nearest};

use super::custom::Own;

/// The longest page, in bytes; the longest of ours, a hundred sessions, has a fifth of it.
pub(super) const LONGEST_PAGE: usize = 512 * 1024;
/// Instructions of a template; a hundred sessions need a tenth of it.
const FUEL: u64 = 100_000;

pub(super) const LAYOUT: &str = "layout.html";
pub(super) const STYLE: &str = "style.css";

/// The built-in templates and their style sheet: file name and text. A file of the same name in `pages.templates` takes the
/// place of one.
pub const BUILT_IN: [(&str, &str); Page::ALL.len() + 2] = {
    let mut files = [("", ""); Page::ALL.len() + 2];
    files[0] = (LAYOUT, include_str!("layout.html"));
    files[1] = (STYLE, include_str!("style.css"));
    let mut at = 0;
    while at < Page::ALL.len() {
        files[at + 2] = (Page::ALL[at].file(), Page::ALL[at].built_in());
        at += 1;
    }
    files
};

/// A page that there is a template for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    SignIn,
    Register,
    Password,
    Sessions,
    Elsewhere,
    SignOut,
    SetupOver,
    Forbidden,
    SessionEnded,
    Error,
}

impl Page {
    pub(super) const ALL: [Self; 10] = [
        Self::SignIn,
        Self::Register,
        Self::Password,
        Self::Sessions,
        Self::Elsewhere,
        Self::SignOut,
        Self::SetupOver,
        Self::Forbidden,
        Self::SessionEnded,
        Self::Error,
    ];

    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in.html",
            Self::Register => "register.html",
            Self::Password => "password.html",
            Self::Sessions => "sessions.html",
            Self::Elsewhere => "elsewhere.html",
            Self::SignOut => "sign_out.html",
            Self::SetupOver => "setup_over.html",
            Self::Forbidden => "forbidden.html",
            Self::SessionEnded => "session_ended.html",
            Self::Error => "error.html",
        }
    }

    const fn built_in(self) -> &'static str {
        match self {
            Self::SignIn => include_str!("sign_in.html"),
            Self::Register => include_str!("register.html"),
            Self::Password => include_str!("password.html"),
            Self::Sessions => include_str!("sessions.html"),
            Self::Elsewhere => include_str!("elsewhere.html"),
            Self::SignOut => include_str!("sign_out.html"),
            Self::SetupOver => include_str!("setup_over.html"),
            Self::Forbidden => include_str!("forbidden.html"),
            Self::SessionEnded => include_str!("session_ended.html"),
            Self::Error => include_str!("error.html"),
        }
    }

    /// Whether its form leads on to an app, which may redirect to any origin. Chromium holds `form-action` against the whole
    /// chain of redirects, and drops the form without a word.
    pub(super) const fn leads_on(self) -> bool {
        matches!(self, Self::SignIn | Self::Register)
    }

    /// What the page must send for the form to work: the fields of our endpoint.
    pub(super) const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::SignIn => &["email", "password", "return_to"],
            Self::Register => &["email", "password", "setup"],
            Self::Password => &["current_password", "new_password"],
            Self::Sessions
            | Self::Elsewhere
            | Self::SignOut
            | Self::SetupOver
            | Self::Forbidden
            | Self::SessionEnded
            | Self::Error => &[],
        }
    }
}

/// All templates, ready.
pub(super) struct Templates {
    built_in: Environment<'static>,
    /// The built-in ones with the operator's in their places; `None` where there are none of these.
    own: Option<Environment<'static>>,
    /// Pages whose own template has failed; it is said once for each.
    failed: [AtomicBool; Page::ALL.len()],
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates")
            .field("has_own", &self.own.is_some())
            .finish_non_exhaustive()
    }
}

impl Templates {
    /// Parses all and renders the own ones with each of `samples` (two for a page: with little and with all). `style`:
    /// what stands in the `<style>` of each page.
    pub(super) fn compile(
        own: &Own,
        samples: &[(Page, Value)],
        style: &str,
        problems: &mut Problems,
    ) -> Self {
        let built_in = built_in();
        let failed = Default::default();
        let Some(directory) = own.directory.as_ref().filter(|_| !own.templates.is_empty()) else {
            return Self {
                built_in,
                own: None,
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
            let described = (own.describe(error, file), hint);
            if !found.contains(&described) {
                found.push(described);
            }
        };
        for (file, text) in &own.templates {
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
        own.judge(&pages, style, problems);
        Self {
            built_in,
            own: Some(environment),
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
        if let Some(own) = &self.own {
            match render(own, page, values) {
                Ok(html) => return html,
                Err(error) => {
                    if !self.failed[page as usize].swap(true, Ordering::Relaxed) {
                        let error = innermost(&error);
                        // Without the detail, which may hold what somebody typed.
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

fn built_in() -> Environment<'static> {
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
    let files = Page::ALL.map(|page| (page.file(), page.built_in()));
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
    // A person who is not there has no name of its own beside those of one who is.
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

/// The error that all began with: one in a layout comes wrapped in one of the page.
pub(super) fn innermost(error: &Error) -> &Error {
    let mut innermost = error;
    while let Some(inner) =
        std::error::Error::source(innermost).and_then(|inner| inner.downcast_ref::<Error>())
    {
        innermost = inner;
    }
    innermost
}
