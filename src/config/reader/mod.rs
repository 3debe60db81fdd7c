//! Reads the TOML text into [`RawConfig`], by hand and not by derive: a derived reader stops at its first problem.
//!
//! Input: the text that [`Problems`] was made from. Output: every value that is well-formed; each other one is a problem
//! and is left out. Invariants: a key that is accepted has an effect, and no message holds a secret.

mod cases;
mod fields;
mod issuers;
mod providers;
mod routes;
mod section;
mod server;
mod session;
mod syntax;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use self::fields::Empty;
use self::section::{Item, Section};
use super::problems::{Problem, Problems};
use super::raw::{Failed, Named, RawConfig, Spanned};
use super::values::echo;
use super::{check, redact, schema};
use crate::identity::SESSION_ISSUER;

/// Reads the text that `problems` was made from. What comes back is to be used only if `problems` holds no error.
pub fn read(problems: &mut Problems) -> RawConfig {
    let source = problems.source().clone();
    let (text, errors) = syntax::find(&source);
    let (root, _) = DeTable::parse_recoverable(&text);
    let restart = schema::restart_values(root.get_ref());
    let written = schema::written(root.get_ref(), &source);
    let mut secrets = redact::in_values(root.get_ref(), &source);
    if !errors.is_empty() {
        secrets.extend(redact::in_text(&source));
    }
    for span in &secrets {
        problems.hide(span);
    }
    if !errors.is_empty() && syntax::report_format(&source, problems) {
        return unread();
    }
    let broken = syntax::report(&errors, problems);
    let parses = broken.is_empty();

    let mut reader = Reader {
        problems,
        broken,
        discarded: Problem::new(&(0..0), ""),
        failed: Failed::default(),
        wrong: BTreeSet::new(),
    };
    let mut section = Section::new("", "", root.span(), root.into_inner(), 0);
    let mut raw = reader.file(&mut section);
    reader.finish(section);
    if !parses {
        // Rules about the whole would miss what a syntax error swallowed.
        return unread();
    }
    let wrong = reader.wrong;
    raw.failed = reader.failed;
    raw.restart = restart;
    raw.written = written;
    check(&raw, problems);
    // A table with an error is not compiled: it would be half of what the writer meant.
    let (issuers, routes, providers) = (raw.issuers.len(), raw.routes.len(), raw.providers.len());
    raw.issuers.retain(|(name, _)| !wrong.contains(&name.span.start));
    raw.providers
        .retain(|(name, _)| !wrong.contains(&name.span.start));
    raw.routes.retain(|route| !wrong.contains(&route.span.start));
    if raw.issuers.len() < issuers {
        raw.failed.insert("", "issuers");
    }
    if raw.providers.len() < providers {
        raw.failed.insert("", "providers");
    }
    if raw.routes.len() < routes {
        raw.failed.insert("", "routes");
    }
    raw
}

/// A file of which nothing is known.
fn unread() -> RawConfig {
    RawConfig {
        failed: Failed::everything(),
        ..RawConfig::default()
    }
}

/// Walks the parsed file and collects what is wrong with it.
struct Reader<'p> {
    problems: &'p mut Problems,
    /// Lines that do not parse. What the parser made up in their place is not judged.
    broken: Vec<Range<usize>>,
    /// Takes the problems that are not reported.
    discarded: Problem,
    /// Keys whose values are unknown.
    failed: Failed,
    /// Where the issuers and routes begin that have an error.
    wrong: BTreeSet<usize>,
}

impl Reader<'_> {
    fn file(&mut self, root: &mut Section<'_>) -> RawConfig {
        let has_sign_in = root.has("password") || root.has("providers");
        RawConfig {
            failed: Failed::default(),
            restart: Vec::new(),
            written: BTreeMap::new(),
            server: self.top(root, "server", Self::server).unwrap_or_default(),
            admin: self.top(root, "admin", Self::admin),
            state: self.top(root, "state", Self::state).unwrap_or_default(),
            issuers: self.named(root, "issuers", Self::issuer),
            sources: self.top(root, "credentials", Self::credentials),
            upstreams: self.named(root, "upstreams", Self::upstream),
            routes: self
                .tables(root, "routes", "[[routes]]", Empty::Taken, Self::route)
                .unwrap_or_default(),
            identity: self.top(root, "identity", Self::identity).unwrap_or_default(),
            session: self
                .top(root, "session", |reader, section| {
                    reader.sign_in_needed(section, has_sign_in);
                    reader.session(section)
                })
                .unwrap_or_default(),
            signing: self.top(root, "signing", Self::signing).unwrap_or_default(),
            password: self.table(root, "password", "[password]", Self::password),
            providers: self.named(root, "providers", Self::provider),
            pages: self
                .top(root, "pages", |reader, section| {
                    reader.sign_in_needed(section, has_sign_in);
                    reader.pages(section)
                })
                .unwrap_or_default(),
            forward_auth: self
                .top(root, "forward_auth", Self::forward_auth)
                .unwrap_or_default(),
            log: self.top(root, "log", Self::log).unwrap_or_default(),
            audit: self.top(root, "audit", Self::audit).unwrap_or_default(),
            tests: self
                .tables(root, "tests", "[[tests]]", Empty::Taken, Self::case)
                .unwrap_or_default(),
        }
    }

    /// The table `[key]`.
    fn top<'i, T>(
        &mut self,
        root: &mut Section<'i>,
        key: &'static str,
        read: impl FnOnce(&mut Self, &mut Section<'i>) -> Option<T>,
    ) -> Option<T> {
        self.table(root, key, &format!("[{key}]"), read)
            .map(|table| table.value)
    }

    fn error(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Problem {
        if self.is_broken(span) {
            self.discarded = Problem::new(span, "");
            return &mut self.discarded;
        }
        self.problems.error(span, message)
    }

    fn warning(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Problem {
        self.problems.warning(span, message)
    }

    /// Whether a syntax error stands on a line of `span`.
    fn is_broken(&self, span: &Range<usize>) -> bool {
        let first = self.broken.partition_point(|line| line.end < span.start);
        // The parser puts what it made up at the very beginning.
        !self.broken.is_empty()
            && (*span == (0..0) || self.broken.get(first).is_some_and(|line| line.start <= span.end))
    }

    /// `section` is about people who sign in, which takes a way to do so.
    fn sign_in_needed(&mut self, section: &Section<'_>, has_sign_in: bool) {
        // A table that a syntax error swallowed is not missing.
        if !has_sign_in && self.broken.is_empty() {
            let message = format!(
                "`{}` has no effect: no way to sign in is configured",
                section.title
            );
            self.warning(&section.span, message)
                .hint("add `[password]` for local accounts or `[providers.NAME]`, or remove the table");
        }
    }

    /// Reports each of `keys` that `section` lacks, at its header.
    fn require(&mut self, section: &Section<'_>, keys: &[(&str, &str)]) {
        // A key that a syntax error swallowed is not missing.
        if !self.broken.is_empty() {
            return;
        }
        for (key, hint) in keys.iter().filter(|(key, _)| !section.has(key)) {
            if let Some(known) = schema::find(section.kind, key) {
                self.failed.insert(section.kind, known.name);
            }
            // It is there under another name, which is a problem by itself.
            if self.is_misspelt(section, key) {
                continue;
            }
            let message = format!("`{key}` is missing in `{}`", section.title);
            self.error(&section.span, message).hint(*hint);
        }
    }

    /// Whether `section` has a key that was likely meant to be `key`.
    fn is_misspelt(&self, section: &Section<'_>, key: &str) -> bool {
        section
            .unknown()
            .any(|typed| schema::suggestion(section.kind, typed) == Some(key))
    }

    /// The sub-table `key` of `section`, by `read`: `form` is how it is written.
    fn table<'i, T>(
        &mut self,
        section: &mut Section<'i>,
        key: &'static str,
        form: &str,
        read: impl FnOnce(&mut Self, &mut Section<'i>) -> Option<T>,
    ) -> Option<Spanned<T>> {
        let item = section.take(key)?;
        self.section(item, schema::path_of(section.kind, key), form, read)
    }

    /// `item` as a table of the kind `kind`, by `read`: keys that it leaves are unknown.
    fn section<'i, T>(
        &mut self,
        item: Item<'i>,
        kind: &'static str,
        form: &str,
        read: impl FnOnce(&mut Self, &mut Section<'i>) -> Option<T>,
    ) -> Option<Spanned<T>> {
        let DeValue::Table(table) = item.value else {
            self.expected(&item, "a table")
                .hint(format!("write it as `{form}`"));
            return None;
        };
        // An inline table is named by its key alone.
        let title = if form.starts_with('[') { form } else { &item.key };
        let span = item.span;
        let errors = self.problems.errors().len();
        let mut section = Section::new(kind, title, span.clone(), table, errors);
        let value = read(self, &mut section);
        self.finish(section);
        Some(Spanned::new(value?, span))
    }

    /// Tables under names of the operator's choice, `[issuers.corp]`, in the order of the file.
    fn named<'i, T>(
        &mut self,
        root: &mut Section<'i>,
        key: &'static str,
        read: fn(&mut Self, &mut Section<'i>) -> Option<T>,
    ) -> Vec<Named<T>> {
        let kind = schema::path_of(root.kind, key);
        let Some(item) = root.take(key) else {
            return Vec::new();
        };
        let DeValue::Table(table) = item.value else {
            let form = if item.is_tables() {
                "single brackets and a name"
            } else {
                "a name"
            };
            self.expected(&item, "a table of names")
                .hint(format!("give it {form}: `[{key}.main]`"));
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in Section::new(kind, "", item.span, table, 0).items() {
            let name = Spanned::new(item.key.clone().into_owned(), item.key_span.clone());
            if !item.is_table() && schema::find(kind, &name).is_some() {
                self.error(
                    &item.key_span,
                    format!("`{}` stands in `[{key}]` itself", name.value),
                )
                .hint(format!("give the table a name: `[{key}.main]`"));
                continue;
            }
            let errors = self.problems.errors().len();
            self.name(&name, key);
            match self.section(item, kind, &format!("[{key}.{}]", echo(&name)), read) {
                Some(table) => {
                    if self.problems.errors().len() > errors {
                        self.wrong.insert(name.span.start);
                    }
                    found.push((name, table.value));
                }
                // Names in it may be meant elsewhere in the file.
                None => self.failed.insert("", key),
            }
        }
        found
    }

    /// A name becomes a header value, an audience and a label of metrics, so it is plain.
    fn name(&mut self, name: &Spanned<String>, key: &str) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.value.is_empty() || name.value.len() > 64 || !name.value.bytes().all(plain) {
            self.error(
                &name.span,
                format!("a name in `{key}` is made of letters, digits, `-`, `_` and `.`"),
            )
            .hint("at most 64 of them, at least one");
        } else if ["issuers", "providers"].contains(&key) && name.value == SESSION_ISSUER {
            self.error(&name.span, "`session` is the name of the gateway's own tokens")
                .hint("choose another name");
        }
    }

    /// An array of tables, each with the span of its header.
    fn tables<'i, T>(
        &mut self,
        section: &mut Section<'i>,
        key: &'static str,
        form: &str,
        empty: Empty,
        read: fn(&mut Self, &mut Section<'i>) -> Option<T>,
    ) -> Option<Vec<Spanned<T>>> {
        let kind = schema::path_of(section.kind, key);
        let item = section.take(key)?;
        let span = item.span.clone();
        let items = match item.into_elements() {
            Ok(items) => items,
            Err(item) => {
                self.expected(&item, "an array of tables")
                    .hint(format!("write it as `{form}`"));
                return None;
            }
        };
        if let (true, Empty::Refused(hint)) = (items.is_empty(), empty) {
            self.error(&span, format!("`{key}` is empty")).hint(hint);
        }
        let mut found = Vec::new();
        for item in items {
            let start = item.span.start;
            let errors = self.problems.errors().len();
            found.extend(self.section(item, kind, form, read));
            if self.problems.errors().len() > errors {
                self.wrong.insert(start);
            }
        }
        Some(found)
    }

    /// Ends the reading of `section`: what is left in it is unknown.
    fn finish(&mut self, mut section: Section<'_>) {
        let kind = section.kind;
        let found = &self.problems.errors()[section.errors..];
        for (key, span) in &section.taken {
            if found
                .iter()
                .any(|problem| span.start <= problem.span.start && problem.span.end <= span.end)
            {
                self.failed.insert(kind, key);
            }
        }
        let known: Vec<&str> = schema::keys(kind).iter().map(|key| key.name).collect();
        for item in section.rest() {
            let what = if item.is_table() || item.is_tables() {
                "table"
            } else {
                "key"
            };
            let shown = if kind.is_empty() && what == "table" {
                format!("[{}]", echo(&item.key))
            } else {
                echo(&item.key)
            };
            let message = if kind.is_empty() {
                format!("unknown {what} `{shown}`")
            } else {
                format!("unknown {what} `{shown}` in `{}`", section.title)
            };
            let hint = match schema::suggestion(kind, &item.key) {
                Some(near) => {
                    self.failed.insert(kind, near);
                    format!("did you mean `{near}`?")
                }
                None if kind.is_empty() => format!("the tables are `{}`", known.join("`, `")),
                None => format!("`{}` has `{}`", section.title, known.join("`, `")),
            };
            // An unknown key of an issuer may hold its secret.
            if (kind.starts_with("issuers") || kind.starts_with("providers")) && hint.starts_with('`') {
                self.problems.hide(&item.span);
            }
            self.error(&item.key_span, message).hint(hint);
        }
    }
}
