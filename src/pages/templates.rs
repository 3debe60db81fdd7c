//! The templates: those built in, those that an operator put in their places, and how one becomes a page.
//!
//! Enters: `pages.templates` and values. Leaves: HTML. Whatever a template prints is escaped, also where it asks for
//! the opposite; only [`Value::from_safe_string`], of our own words, is not. What must never happen: a panic, half a page, a
//! page without end, or a broken template that is found out by a visitor: each one is rendered with samples at the
//! start, and one that fails all the same gives way to the built-in one.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, HtmlEscape, UndefinedBehavior};

use crate::config::raw::At;
use crate::config::{Problems, nearest};

use super::logo::read;

/// The longest page, in bytes; the longest of ours, a hundred sessions, has a fifth of it.
const LONGEST_PAGE: usize = 512 * 1024;
/// The largest file that is taken for a template or a style sheet, in bytes.
const LARGEST_FILE: u64 = 256 * 1024;
/// Instructions of a template; a hundred sessions need a tenth of it.
const FUEL: u64 = 100_000;

const LAYOUT: &str = "layout.html";
const STYLE: &str = "style.css";

/// What the layout needs around the style sheet, byte for byte, because the policy names its hash.
const STYLE_OPEN: &str = "<style>";
const STYLE_CLOSE: &str = "</style>";

/// A page that there is a template for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    SignIn,
    Register,
    Password,
    Sessions,
    Error,
}

impl Page {
    pub(super) const ALL: [Self; 5] = [Self::SignIn, Self::Register, Self::Password, Self::Sessions, Self::Error];

    const fn file(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in.html",
            Self::Register => "register.html",
            Self::Password => "password.html",
            Self::Sessions => "sessions.html",
            Self::Error => "error.html",
        }
    }

    const fn built_in(self) -> &'static str {
        match self {
            Self::SignIn => include_str!("templates/sign_in.html"),
            Self::Register => include_str!("templates/register.html"),
            Self::Password => include_str!("templates/password.html"),
            Self::Sessions => include_str!("templates/sessions.html"),
            Self::Error => include_str!("templates/error.html"),
        }
    }

    /// What the page must send for the form to work: the fields of our endpoint.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::SignIn => &["email", "password", "return_to"],
            Self::Register => &["email", "password", "setup"],
            Self::Password => &["current_password", "new_password"],
            Self::Sessions | Self::Error => &[],
        }
    }
}

/// What an operator's directory holds.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// The directory as it stands in the TOML file, with where.
    directory: Option<At<std::path::PathBuf>>,
    style: Option<String>,
    /// File name and text.
    templates: BTreeMap<&'static str, String>,
}

impl Own {
    /// Reads the directory, if there is one.
    pub(super) fn read(raw: Option<&At<std::path::PathBuf>>, problems: &mut Problems) -> Self {
        let Some(raw) = raw else { return Self::default() };
        let mut own = Self { directory: Some(raw.clone()), ..Self::default() };
        let directory = problems.resolve(raw);
        let mut names: Vec<String> = match std::fs::read_dir(&directory) {
            // What begins with a dot is an editor's or a version control's.
            Ok(entries) => entries
                .take(256)
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .filter(|name| !name.starts_with('.'))
                .collect(),
            Err(error) => {
                problems
                    .error(&raw.span, format!("cannot read the directory `{}`: {error}", directory.display()))
                    .hint("the path is relative to this file");
                return own;
            }
        };
        names.sort_unstable();
        let known: Vec<&'static str> = Page::ALL.into_iter().map(Page::file).chain([LAYOUT, STYLE]).collect();
        for name in names {
            let Some(file) = known.iter().find(|known| **known == name) else {
                let problem = problems.error(&raw.span, format!("`{}` is no template", own.path(&name)));
                problem.hint(match nearest(&name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known are `{}`", known.join("`, `")),
                });
                continue;
            };
            match text(&directory.join(&name)) {
                Ok(text) => own.take(file, text, problems),
                Err(why) => {
                    problems.error(&raw.span, format!("cannot read `{}`: {why}", own.path(&name)));
                }
            }
        }
        own
    }

    fn take(&mut self, file: &'static str, text: String, problems: &mut Problems) {
        let Some(span) = self.directory.as_ref().map(|directory| directory.span.clone()) else { return };
        if file == STYLE {
            if let Some(line) = line_of(&text, |line| line.contains("</")) {
                problems
                    .error(&span, format!("`{}` has `</` in it, which ends a style sheet", self.path_line(file, line)))
                    .hint("write `<\\/` inside of text");
                return;
            }
            self.style = Some(text);
            return;
        }
        for (what, is_there) in BLOCKED {
            if let Some(line) = line_of(&text, is_there) {
                problems
                    .warning(&span, format!("`{}` has {what}, which browsers will ignore", self.path_line(file, line)))
                    .hint("the Content-Security-Policy of the pages allows nothing but `style.css`");
            }
        }
        self.templates.insert(file, text);
    }

    /// The style sheet: the operator's, else ours.
    pub(super) fn style(&self) -> &str {
        self.style.as_deref().unwrap_or(include_str!("templates/style.css"))
    }

    fn path(&self, file: &str) -> String {
        let directory = self.directory.as_ref().map_or(Path::new(""), |directory| directory.value.as_path());
        directory.join(file).display().to_string()
    }

    fn path_line(&self, file: &str, line: usize) -> String {
        format!("{}:{line}", self.path(file))
    }
}

type InLine = fn(&str) -> bool;

/// What the policy stops.
const BLOCKED: [(&str, InLine); 3] = [
    ("`<script`", |line| line.contains("<script")),
    ("an event handler (`on…=`)", has_event_handler),
    ("a `style=` attribute", |line| attribute(line, |name| name == "style")),
];

fn has_event_handler(line: &str) -> bool {
    attribute(line, |name| {
        name.len() > 4 && name.starts_with("on") && name.bytes().all(|byte| byte.is_ascii_lowercase())
    })
}

/// Whether a word right before a `=`, and after a space or a quote, is one that `is_meant`.
fn attribute(line: &str, is_meant: impl Fn(&str) -> bool) -> bool {
    line.match_indices('=').any(|(at, _)| {
        let before = line[..at].trim_end();
        let start = before.rfind(|letter: char| letter.is_whitespace() || "\"'/<>".contains(letter));
        start
            .is_some_and(|start| is_meant(before[start..].trim_start_matches(|letter: char| !letter.is_alphanumeric())))
    })
}

/// The number, from 1, of the first line that is meant, in lower case.
fn line_of(text: &str, is_meant: impl Fn(&str) -> bool) -> Option<usize> {
    text.lines().position(|line| is_meant(&line.to_ascii_lowercase())).map(|index| index + 1)
}

fn text(path: &Path) -> Result<String, String> {
    let text = String::from_utf8(read(path, LARGEST_FILE)?).map_err(|_| "it is not UTF-8".to_owned())?;
    // As a browser reads it (HTML section 13.2.3.5), since the hash of the style sheet is over what was read.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
    if text.contains('\0') { Err("it has a NUL byte in it".to_owned()) } else { Ok(text) }
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
        f.debug_struct("Templates").field("has_own", &self.own.is_some()).finish_non_exhaustive()
    }
}

impl Templates {
    /// Parses all and renders the own ones with each of `samples` (two for a page: with little and with all). `style`:
    /// what stands in the `<style>` of each page.
    pub(super) fn compile(own: &Own, samples: &[(Page, Value)], style: &str, problems: &mut Problems) -> Self {
        let built_in = built_in();
        let failed = Default::default();
        let Some(directory) = own.directory.as_ref().filter(|_| !own.templates.is_empty()) else {
            return Self { built_in, own: None, failed };
        };
        let mut environment = built_in.clone();
        let mut found: Vec<String> = Vec::new();
        for (file, text) in &own.templates {
            if let Err(error) = environment.add_template_owned(*file, text.clone()) {
                found.push(own.describe(&error, file));
            }
        }
        let mut pages: BTreeMap<&'static str, String> = BTreeMap::new();
        for (page, sample) in samples {
            match render(&environment, *page, sample) {
                Ok(html) => *pages.entry(page.file()).or_default() += &html,
                Err(error) => found.push(own.describe(&error, page.file())),
            }
        }
        found.dedup();
        for message in found {
            problems
                .error(&directory.span, message)
                .hint("compare it with the built-in template of that name, which has all the variables there are");
        }
        own.judge(&pages, style, problems);
        Self { built_in, own: Some(environment), failed }
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

impl Own {
    /// `templates/error.html:3`, and what is wrong there. `file`: the one that was asked for.
    fn describe(&self, error: &Error, file: &str) -> String {
        let error = innermost(error);
        let name = error.name().filter(|name| self.templates.contains_key(name)).unwrap_or(file);
        let what = match error.detail() {
            _ if error.kind() == ErrorKind::WriteFailure => {
                format!("the page gets longer than {} KiB", LONGEST_PAGE / 1024)
            }
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        match error.line().filter(|_| error.name() == Some(name)) {
            Some(line) => format!("`{}` is broken: {what}", self.path_line(name, line)),
            None => format!("`{}` is broken: {what}", self.path(name)),
        }
    }

    /// Whether the pages that came out can work: they have our style sheet, and the fields that our endpoints need.
    fn judge(&self, pages: &BTreeMap<&'static str, String>, style: &str, problems: &mut Problems) {
        let Some(span) = self.directory.as_ref().map(|directory| directory.span.clone()) else { return };
        let style = [STYLE_OPEN, style, STYLE_CLOSE].concat();
        for page in Page::ALL {
            let Some(html) = pages.get(page.file()) else { continue };
            let of = |file| self.templates.contains_key(file);
            if (of(page.file()) || of(LAYOUT)) && !html.contains(&style) {
                let file = if of(page.file()) { page.file() } else { LAYOUT };
                problems
                    .warning(&span, format!("the page of `{}` has no style", self.path(file)))
                    .hint("write `<style>{{ style }}</style>`, without a space in between");
            }
            for field in page.fields().iter().filter(|_| of(page.file()) || of(LAYOUT)) {
                if !html.contains(&format!("name=\"{field}\"")) {
                    problems
                        .warning(&span, format!("the page of `{}` has no field `{field}`", self.path(page.file())))
                        .hint(format!("the form needs an input with `name=\"{field}\"`"));
                }
            }
        }
    }
}

fn built_in() -> Environment<'static> {
    let mut environment = Environment::new();
    // What fails here has no template, and the plain page instead; a test holds us to it.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.remove_filter("safe");
    environment.set_formatter(|output, _, value| {
        match value.as_str() {
            // What `{% autoescape false %}` says is not asked for.
            Some(text) if value.is_safe() => output.write_str(text),
            Some(text) => write!(output, "{}", HtmlEscape(text)),
            None if value.is_none() => Ok(()),
            None => write!(output, "{}", HtmlEscape(&value.to_string())),
        }
        .map_err(Error::from)
    });
    let files = Page::ALL.map(|page| (page.file(), page.built_in()));
    for (name, text) in files.into_iter().chain([(LAYOUT, include_str!("templates/layout.html"))]) {
        if let Err(error) = environment.add_template(name, text) {
            tracing::error!(%error, "a built-in template is broken");
        }
    }
    environment
}

fn render(environment: &Environment<'_>, page: Page, values: &Value) -> Result<String, Error> {
    let mut html = Bounded(Vec::with_capacity(16 * 1024));
    environment.get_template(page.file())?.render_captured_to(values, &mut html)?;
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

/// The error that all began with: one in a layout comes wrapped in one of the page.
fn innermost(error: &Error) -> &Error {
    let mut innermost = error;
    while let Some(inner) = std::error::Error::source(innermost).and_then(|inner| inner.downcast_ref::<Error>()) {
        innermost = inner;
    }
    innermost
}
