//! An operator's directory of templates: read, and checked by the pages that come out of it.
//!
//! Input: `pages.templates`. Output: the texts of the known files, and problems with file and line. Invariants: no file in
//! the directory is ignored silently, and no page that cannot work is accepted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::{Error, ErrorKind};

use crate::config::raw::Spanned;
use crate::config::{Problems, nearest};

use super::logo::read;
use super::page::{LAYOUT, LONGEST_PAGE, Page, STYLE, innermost};

/// The largest file that is taken, in bytes.
const LARGEST_FILE: u64 = 256 * 1024;
/// How many files of the directory are looked at.
const MOST_FILES: usize = 256;

/// What an operator's directory holds.
#[derive(Debug, Default)]
pub(super) struct Custom {
    /// The directory as the TOML file names it.
    pub(super) directory: Option<Spanned<PathBuf>>,
    style: Option<String>,
    /// File name and text.
    pub(super) templates: BTreeMap<&'static str, String>,
}

impl Custom {
    /// Reads the directory, if there is one.
    pub(super) fn read(raw: Option<&Spanned<PathBuf>>, problems: &mut Problems) -> Self {
        let Some(raw) = raw else { return Self::default() };
        let mut custom = Self {
            directory: Some(raw.clone()),
            ..Self::default()
        };
        let directory = problems.resolve(raw);
        let mut names: Vec<String> = match std::fs::read_dir(&directory) {
            // What begins with a dot is an editor's or a version control's.
            Ok(entries) => entries
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .filter(|name| !name.starts_with('.'))
                // More than there are templates, so that some of them are errors already.
                .take(MOST_FILES)
                .collect(),
            Err(error) => {
                problems
                    .error(
                        &raw.span,
                        format!("cannot read the directory `{}`: {error}", directory.display()),
                    )
                    .hint("the path is relative to this file");
                return custom;
            }
        };
        names.sort_unstable();
        let known: Vec<&'static str> = Page::ALL
            .into_iter()
            .map(Page::file)
            .chain([LAYOUT, STYLE])
            .collect();
        for name in names {
            let Some(file) = known.iter().find(|known| **known == name) else {
                let problem = problems.error(&raw.span, format!("`{}` is no template", custom.path(&name)));
                problem.hint(match nearest(&name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known are `{}`", known.join("`, `")),
                });
                continue;
            };
            match text(&directory.join(&name)) {
                Ok(text) => custom.take(file, text, problems),
                Err(why) => {
                    problems.error(&raw.span, format!("cannot read `{}`: {why}", custom.path(&name)));
                }
            }
        }
        custom
    }

    fn take(&mut self, file: &'static str, text: String, problems: &mut Problems) {
        let Some(span) = self.directory.as_ref().map(|directory| directory.span.clone()) else {
            return;
        };
        if file == STYLE {
            if let Some(line) = line_of(&text, |line| line.contains("</")) {
                problems
                    .error(
                        &span,
                        format!(
                            "`{}` has `</` in it, which ends a style sheet",
                            self.path_line(file, line)
                        ),
                    )
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
                    .hint("the Content-Security-Policy of the pages allows nothing but `style.css` and `<script>{{ script }}</script>`");
            }
        }
        self.templates.insert(file, text);
    }

    /// The style sheet: the operator's, else ours.
    pub(super) fn style(&self) -> &str {
        self.style
            .as_deref()
            .unwrap_or(include_str!("templates/style.css"))
    }

    fn path(&self, file: &str) -> String {
        let directory = self
            .directory
            .as_ref()
            .map_or(Path::new(""), |directory| directory.value.as_path());
        directory.join(file).display().to_string()
    }

    fn path_line(&self, file: &str, line: usize) -> String {
        format!("{}:{line}", self.path(file))
    }

    /// `templates/error.html:3`, and what is wrong there. `file`: the one that was asked for.
    pub(super) fn describe(&self, error: &Error, file: &str) -> String {
        let error = innermost(error);
        let name = error
            .name()
            .filter(|name| self.templates.contains_key(name))
            .unwrap_or(file);
        let what = match error.detail() {
            Some(detail) if error.kind() == ErrorKind::UndefinedError => detail.to_owned(),
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
    pub(super) fn check(&self, pages: &BTreeMap<&'static str, String>, style: &str, problems: &mut Problems) {
        let Some(span) = self.directory.as_ref().map(|directory| directory.span.clone()) else {
            return;
        };
        // Byte for byte, because the policy names its hash.
        let style = ["<style>", style, "</style>"].concat();
        for page in Page::ALL {
            let Some(html) = pages.get(page.file()) else {
                continue;
            };
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
                        .warning(
                            &span,
                            format!("the page of `{}` has no field `{field}`", self.path(page.file())),
                        )
                        .hint(format!("the form needs an input with `name=\"{field}\"`"));
                }
            }
        }
    }
}

type InLine = fn(&str) -> bool;

/// What the policy stops.
const BLOCKED: [(&str, InLine); 3] = [
    // Ours is the one that the policy names.
    ("`<script`", |line| {
        line.replace("<script>{{ script }}</script>", "")
            .contains("<script")
    }),
    ("an event handler (`on…=`)", has_event_handler),
    ("a `style=` attribute", |line| {
        attribute(line, |name| name == "style")
    }),
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
        start.is_some_and(|start| {
            is_meant(before[start..].trim_start_matches(|letter: char| !letter.is_alphanumeric()))
        })
    })
}

/// The number, from 1, of the first line that is meant, in lower case.
fn line_of(text: &str, is_meant: impl Fn(&str) -> bool) -> Option<usize> {
    text.lines()
        .position(|line| is_meant(&line.to_ascii_lowercase()))
        .map(|index| index + 1)
}

fn text(path: &Path) -> Result<String, String> {
    let text = String::from_utf8(read(path, LARGEST_FILE)?).map_err(|_| "it is not UTF-8".to_owned())?;
    // As a browser reads it (HTML section 13.2.3.5), since the hash of the style sheet is over what was read.
    let text = text
        .strip_prefix('\u{feff}')
        .unwrap_or(&text)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    if text.contains('\0') {
        Err("it has a NUL byte in it".to_owned())
    } else {
        Ok(text)
    }
}
