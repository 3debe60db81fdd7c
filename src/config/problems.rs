//! Everything that is wrong with a configuration, each problem with its place in the file and a hint.

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

/// The source text and all problems found in it so far.
#[derive(Clone, Debug)]
pub struct Problems {
    file: Arc<str>,
    directory: PathBuf,
    source: Arc<str>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
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
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Adds an error: the configuration cannot be used.
    pub fn error(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Problem {
        self.errors.push(Problem {
            span: span.clone(),
            message: message.into(),
            label: String::new(),
            also: None,
            hint: None,
        });
        self.errors.last_mut().expect("one was just pushed")
    }

    /// Adds a warning: the configuration works, and the operator should know this.
    pub fn warning(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Problem {
        self.warnings.push(Problem {
            span: span.clone(),
            message: message.into(),
            label: String::new(),
            also: None,
            hint: None,
        });
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
        let before = &self.source.as_bytes()[..span.start.min(self.source.len())];
        Place { file: self.file.clone(), line: memchr::memchr_iter(b'\n', before).count() + 1 }
    }
}
