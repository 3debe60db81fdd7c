//! Problems as text: message, place, the source line with the words in question underlined, and a hint.
//!
//! Enters: any [`Problems`], with any spans. Leaves: text of bounded width. What must never happen: a panic, a line of
//! a megabyte, or text that [`Problems::hide`] was told.

use std::fmt::Write;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};

use super::problems::{Problem, Problems};

/// The longest part of a source line that is shown, in bytes.
const MAX_SHOWN: usize = 160;
/// What stands in front of the underlined words when a line is cut, in bytes.
const MAX_BEFORE: usize = 40;
/// What stands in place of a secret.
const HIDDEN: &str = "<hidden>";

impl Problems {
    /// All problems for a person to read, errors first, each kind in the order of the file, and how many there are.
    /// Empty if there are none. Colours are ANSI escapes.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        }
        .term_width(MAX_SHOWN + 40);
        let mut hidden = self.hidden().to_vec();
        hidden.sort_unstable_by_key(|span| span.start);
        let mut out = String::new();
        let (errors, warnings) = self.shown();
        let mut counts = Vec::new();
        for (level, name, problems) in [
            (Level::ERROR, "error", errors),
            (Level::WARNING, "warning", warnings),
        ] {
            for problem in &problems {
                out.push_str(&self.one(&renderer, level.clone(), problem, &hidden));
                out.push_str("\n\n");
            }
            match problems.len() {
                0 => {}
                1 => counts.push(format!("1 {name}")),
                many => counts.push(format!("{many} {name}s")),
            }
        }
        if !counts.is_empty() {
            writeln!(out, "{} in {}", counts.join(", "), self.file()).expect("a string takes everything");
        }
        out
    }

    fn one(
        &self,
        renderer: &Renderer,
        level: Level<'_>,
        problem: &Problem,
        hidden: &[Range<usize>],
    ) -> String {
        let first = Shown::of(self, &problem.span, hidden);
        let second = problem
            .also
            .as_ref()
            .map(|(span, label)| (Shown::of(self, span, hidden), span, label));
        let mut snippet = first.snippet(self).annotation(first.annotation(
            AnnotationKind::Primary,
            &problem.span,
            &problem.label,
        ));
        let mut apart = None;
        match &second {
            Some((shown, span, label)) if shown.line != first.line => {
                apart = Some(shown.snippet(self).annotation(shown.annotation(
                    AnnotationKind::Context,
                    span,
                    label,
                )));
            }
            Some((_, span, label)) if first.window.contains(&span.start) => {
                snippet = snippet.annotation(first.annotation(AnnotationKind::Context, span, label));
            }
            _ => {}
        }
        let mut group = level
            .primary_title(problem.message.as_str())
            .element(snippet)
            .elements(apart);
        if let Some(hint) = &problem.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        let mut text = renderer.render(&[group]);
        // The renderer counts columns in the text that it was given.
        for (shown, span) in [
            Some((&first, &problem.span)),
            second.as_ref().map(|(shown, span, _)| (shown, *span)),
        ]
        .into_iter()
        .flatten()
        {
            let given = shown.text[..shown.position(span.start)].chars().count() + 1;
            if given != shown.column {
                let place = format!("{}:{}:", self.file(), shown.line);
                text = text.replacen(&format!("{place}{given}"), &format!("{place}{}", shown.column), 1);
            }
        }
        text
    }
}

/// The part of one source line that is printed for a span.
struct Shown {
    line: usize,
    /// In characters, from 1, in the whole line.
    column: usize,
    text: String,
    /// The bytes of the source that `text` stands for.
    window: Range<usize>,
    /// For each piece of the window: where it ends in the source, where it begins and ends in `text`, and whether it
    /// stands there as it is.
    pieces: Vec<(Range<usize>, Range<usize>, bool)>,
}

impl Shown {
    fn of(problems: &Problems, span: &Range<usize>, hidden: &[Range<usize>]) -> Self {
        let source = problems.source();
        let start = floor(source, span.start);
        let line = problems.line(start);
        let whole = problems.line_span(line);
        let start = start.min(whole.end);
        let window = if whole.len() <= MAX_SHOWN {
            whole.clone()
        } else {
            let from = floor(source, start.saturating_sub(MAX_BEFORE).max(whole.start));
            from..floor(source, (from + MAX_SHOWN).min(whole.end))
        };

        let mut shown = Self {
            line,
            column: source[whole.start..start].chars().count() + 1,
            text: String::new(),
            window: window.clone(),
            pieces: Vec::new(),
        };
        if window.start > whole.start {
            shown.text.push('…');
        }
        let mut at = window.start;
        for span in hidden {
            let (from, to) = (
                floor(source, span.start).max(at),
                ceiling(source, span.end).min(window.end),
            );
            if from >= to {
                continue;
            }
            shown.push(at..from, &source[at..from], true);
            shown.push(from..to, HIDDEN, false);
            at = to;
        }
        shown.push(at..window.end, &source[at..window.end], true);
        if window.end < whole.end {
            shown.text.push('…');
        }
        shown
    }

    fn push(&mut self, span: Range<usize>, text: &str, as_is: bool) {
        let start = self.text.len();
        self.text.push_str(text);
        self.pieces.push((span, start..self.text.len(), as_is));
    }

    /// Where the byte at `offset` of the source stands in `text`; the nearest place if it is not there.
    fn position(&self, offset: usize) -> usize {
        for (span, shown, as_is) in &self.pieces {
            if offset < span.end {
                let inside = offset.saturating_sub(span.start);
                return if *as_is {
                    floor(&self.text, shown.start + inside)
                } else {
                    shown.start
                };
            }
            if offset == span.end {
                return shown.end;
            }
        }
        self.pieces.last().map_or(0, |(_, shown, _)| shown.end)
    }

    fn snippet<'a>(&'a self, problems: &'a Problems) -> Snippet<'a, Annotation<'a>> {
        Snippet::source(self.text.as_str())
            .path(&**problems.file())
            .line_start(self.line)
    }

    fn annotation<'a>(&self, kind: AnnotationKind, span: &Range<usize>, label: &'a str) -> Annotation<'a> {
        let start = self.position(span.start);
        kind.span(start..self.position(span.end).max(start))
            .label(Some(label).filter(|label| !label.is_empty()))
    }
}

/// `offset`, or the nearest place before it where a character begins.
fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// `offset`, or the nearest place after it where a character begins.
fn ceiling(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset += 1;
    }
    offset
}
