//! Everything that is wrong with a configuration, each problem with its place in the file and a hint.
//!
//! Input: the text of the file, and the problems that rooms find in it. Output: all of them in one text, by
//! [`Problems::render`]. Invariants: no span causes a panic, and no secret is printed.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in the file, as log lines and `explain` name it: `gateway.toml:12`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named on the command line.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One problem.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Bytes of the source that it is about.
    pub span: Range<usize>,
    /// What is wrong, lower case, names in backticks, no full stop.
    pub message: String,
    /// What is said at the underlined text; empty for nothing.
    pub label: String,
    /// A second place that belongs to it (the other of two routes), with its label.
    pub also: Option<(Range<usize>, String)>,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    pub(super) fn new(span: &Range<usize>, message: impl Into<String>) -> Self {
        Self {
            span: span.clone(),
            message: message.into(),
            label: String::new(),
            also: None,
            hint: None,
        }
    }

    /// Says what to do about it.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says a word at the underlined text.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    /// Names a second place.
    pub fn also(&mut self, span: Range<usize>, label: impl Into<String>) -> &mut Self {
        self.also = Some((span, label.into()));
        self
    }
}

/// One problem as `check --format json` prints it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Listed<'a> {
    /// `error` or `warning`.
    pub level: &'static str,
    /// The file as it was named on the command line.
    pub file: &'a str,
    /// Line, from 1; `None` where the file cannot be read.
    pub line: Option<usize>,
    /// Column, in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: &'a str,
    /// What to do.
    pub hint: Option<&'a str>,
}

/// The source text and all problems found in it so far.
#[derive(Clone, Debug)]
pub struct Problems {
    file: Arc<str>,
    directory: PathBuf,
    source: Arc<str>,
    /// Where each line begins.
    line_starts: Vec<usize>,
    /// What no output may show, in the order found.
    hidden: Vec<Range<usize>>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Files that the configuration depends on.
    files: Vec<PathBuf>,
}

impl Problems {
    /// No problems yet with `source`, which was read from `file`.
    #[must_use]
    pub fn new(file: &Path, source: &str) -> Self {
        Self {
            file: file.display().to_string().into(),
            directory: file
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or(Path::new("."))
                .to_owned(),
            source: source.into(),
            line_starts: std::iter::once(0)
                .chain(memchr::memchr_iter(b'\n', source.as_bytes()).map(|newline| newline + 1))
                .collect(),
            hidden: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Notes that the configuration depends on a file or directory at `path`.
    pub(crate) fn depends_on(&mut self, path: &Path) {
        let path = self.resolve(path);
        self.files.push(path);
    }

    /// What it depends on besides the file itself, as far as it was read.
    #[must_use]
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Adds an error: the configuration cannot be used.
    pub fn error(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Problem {
        self.errors.push(Problem::new(span, message));
        self.errors.last_mut().expect("one was just pushed")
    }

    /// Adds a warning: the configuration works, and the operator should know this.
    pub fn warning(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Problem {
        self.warnings.push(Problem::new(span, message));
        self.warnings.last_mut().expect("one was just pushed")
    }

    /// All errors so far.
    #[must_use]
    pub fn errors(&self) -> &[Problem] {
        &self.errors
    }

    /// All warnings so far.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The file as it was named on the command line.
    #[must_use]
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// The text that was read.
    #[must_use]
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// Keeps the text at `span` out of everything that is printed: it is a secret that should not stand in the file.
    pub fn hide(&mut self, span: &Range<usize>) {
        self.hidden.push(span.clone());
    }

    /// The errors and the warnings, each in the order of the file.
    pub(super) fn shown(&self) -> (Vec<&Problem>, Vec<&Problem>) {
        (in_order(&self.errors), in_order(&self.warnings))
    }

    /// What is shown of all problems, for programs: errors first, each kind in the order of the file.
    #[must_use]
    pub fn list(&self) -> Vec<Listed<'_>> {
        let (errors, warnings) = self.shown();
        let errors = errors.into_iter().map(|problem| self.listed("error", problem));
        let warnings = warnings
            .into_iter()
            .map(|problem| self.listed("warning", problem));
        errors.chain(warnings).collect()
    }

    fn listed<'a>(&'a self, level: &'static str, problem: &'a Problem) -> Listed<'a> {
        let line = self.line(problem.span.start);
        let Range { start, end } = self.line_span(line);
        let before = self
            .source
            .get(start..problem.span.start.min(end))
            .unwrap_or_default();
        Listed {
            level,
            file: &self.file,
            line: Some(line),
            column: Some(before.chars().count() + 1),
            message: &problem.message,
            hint: problem.hint.as_deref(),
        }
    }

    /// What [`Problems::hide`] was told.
    pub(super) fn hidden(&self) -> &[Range<usize>] {
        &self.hidden
    }

    /// The directory that relative paths in the file start from.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `path` as seen from the directory of the file.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    /// The line that `span` starts on.
    #[must_use]
    pub fn place(&self, span: &Range<usize>) -> Place {
        Place {
            file: self.file.clone(),
            line: self.line(span.start),
        }
    }

    /// The line that the byte at `offset` is on, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// The bytes of `line` (from 1), without its line break.
    pub(super) fn line_span(&self, line: usize) -> Range<usize> {
        let start = self.line_starts[line - 1];
        let end = self
            .line_starts
            .get(line)
            .map_or(self.source.len(), |next| next - 1);
        let text = &self.source.as_bytes()[start..end];
        start..end - usize::from(text.last() == Some(&b'\r'))
    }
}

/// `problems` in the order of the file.
fn in_order(problems: &[Problem]) -> Vec<&Problem> {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| (problem.span.start, problem.span.end));
    sorted
}
