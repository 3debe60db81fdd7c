//! Whether a stream is written in colour: what was typed, then what the environment says, then what the stream is.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;

use clap::{ColorChoice, ValueEnum};

/// `--color`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal; NO_COLOR, CLICOLOR_FORCE and TERM=dumb decide before that
    #[default]
    Auto,
    /// Also in pipes and files
    Always,
    /// Nowhere
    Never,
}

impl Color {
    /// Whether `stream` is to be written in colour.
    pub(super) fn of(self, stream: &impl IsTerminal) -> bool {
        self.decide(stream.is_terminal(), |name| std::env::var_os(name))
    }

    fn decide(self, is_terminal: bool, environment: impl Fn(&str) -> Option<OsString>) -> bool {
        let set = |name| environment(name).filter(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            // https://no-color.org
            Self::Auto if set("NO_COLOR").is_some() => false,
            // https://bixense.com/clicolors
            Self::Auto if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
            Self::Auto => {
                is_terminal
                    && environment("TERM").is_none_or(|term| term != "dumb")
                    && set("CLICOLOR").is_none_or(|value| value != "0")
            }
        }
    }

    /// For the usage and the help, which are printed before `--color` has been read: what it says among `words`.
    pub(super) fn typed(words: &[OsString]) -> ColorChoice {
        let value = |word: &OsStr| Self::from_str(word.to_str()?, true).ok();
        let typed =
            words
                .iter()
                .enumerate()
                .find_map(|(at, word)| match word.to_str()?.strip_prefix("--color")? {
                    "" => value(words.get(at + 1)?),
                    rest => value(OsStr::new(rest.strip_prefix('=')?)),
                });
        match typed {
            Some(Self::Always) => ColorChoice::Always,
            Some(Self::Never) => ColorChoice::Never,
            Some(Self::Auto) | None => ColorChoice::Auto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_goes_before_the_environment_and_that_before_the_stream() {
        for (color, environment, on_a_terminal, in_a_pipe) in [
            (Color::Auto, &[][..], true, false),
            (Color::Auto, &[("NO_COLOR", "1")], false, false),
            (Color::Auto, &[("NO_COLOR", "")], true, false),
            (Color::Auto, &[("CLICOLOR_FORCE", "1")], true, true),
            (Color::Auto, &[("CLICOLOR_FORCE", "0")], true, false),
            (
                Color::Auto,
                &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")],
                false,
                false,
            ),
            (Color::Auto, &[("TERM", "dumb")], false, false),
            (
                Color::Auto,
                &[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")],
                true,
                true,
            ),
            (Color::Auto, &[("TERM", "xterm-256color")], true, false),
            (Color::Auto, &[("CLICOLOR", "0")], false, false),
            (Color::Always, &[("NO_COLOR", "1"), ("TERM", "dumb")], true, true),
            (Color::Never, &[("CLICOLOR_FORCE", "1")], false, false),
        ] {
            let of = |name: &str| {
                environment
                    .iter()
                    .find(|(set, _)| *set == name)
                    .map(|(_, value)| value.into())
            };
            for (is_terminal, expected) in [(true, on_a_terminal), (false, in_a_pipe)] {
                assert_eq!(
                    color.decide(is_terminal, of),
                    expected,
                    "{color:?} {environment:?} {is_terminal}"
                );
            }
        }
    }

    #[test]
    fn the_usage_is_in_the_colour_that_was_typed_with_it() {
        let typed = |words: &[&str]| Color::typed(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(
            typed(&["check", "--color", "never", "--oops"]),
            ColorChoice::Never
        );
        assert_eq!(typed(&["--color=always"]), ColorChoice::Always);
        for words in [
            &["check"][..],
            &["--color"],
            &["--color", "pink"],
            &["--colors=always"],
            &["--color=auto"],
        ] {
            assert_eq!(typed(words), ColorChoice::Auto, "{words:?}");
        }
    }
}
