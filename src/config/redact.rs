//! Secrets that are in the file although none belongs there: found, so that no message prints them.
//!
//! Input: the parsed file, or its text where it does not parse. Output: the spans to hide. It is better to hide too
//! much: what is hidden by mistake can be looked up in the file, what is shown by mistake is in a log for ever.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::schema;

/// Parts of key names that say that the value is a secret.
const SECRET_WORDS: [&str; 8] = [
    "secret",
    "passw",
    "passphrase",
    "token",
    "api_key",
    "api-key",
    "apikey",
    "authorization",
];

/// Keys of ours that have such a part, and whose values are no secrets.
const NO_SECRETS: [&str; 3] = ["token_lifetime", "max_token_bytes", "forward_provider_token"];

/// Keys that say where a secret is kept, so that their values are none.
const KEPT_IN: [&str; 3] = ["file", "env", "credential"];

/// The values in a parsed file that look like secrets.
pub(super) fn in_values(root: &DeTable<'_>, source: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    // A stack and no recursion: dotted keys inside inline tables nest deeper than calls should.
    let mut open: Vec<(&Spanned<DeValue<'_>>, bool)> = Vec::new();
    for (key, value) in root {
        let key: &str = key.get_ref();
        match value.get_ref() {
            // `[password]` is a table of ours, and what it has of ours is no secret.
            DeValue::Table(table) if key == "password" => {
                open.extend(
                    table
                        .iter()
                        .map(|(key, value)| (value, schema::find("password", key.get_ref()).is_none())),
                );
            }
            _ => open.push((value, names_a_secret(key))),
        }
    }
    while let Some((value, secret)) = open.pop() {
        match value.get_ref() {
            DeValue::Table(table) => open.extend(table.iter().map(|(key, value)| {
                let key: &str = key.get_ref();
                (
                    value,
                    if secret {
                        !KEPT_IN.contains(&key)
                    } else {
                        names_a_secret(key)
                    },
                )
            })),
            DeValue::Array(array) => open.extend(array.iter().map(|value| (value, secret))),
            _ if secret => hidden.push(value.span()),
            DeValue::String(text) if text.contains("PRIVATE KEY") => hidden.push(value.span()),
            DeValue::String(text) if text.contains("://") => {
                hidden.extend(
                    source
                        .get(value.span())
                        .and_then(user)
                        .map(|user| shift(&user, value.span().start)),
                );
            }
            _ => {}
        }
    }
    hidden
}

/// The rests of lines that speak of secrets, in a text that does not parse: the values there are unknown.
pub(super) fn in_text(source: &str) -> Vec<Range<usize>> {
    let mut hidden: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let end = start + line.len();
        let covered = hidden.last().is_some_and(|last| last.end > start);
        if !covered && let Some(value) = secret_on(line) {
            let from = start + value;
            hidden.push(from..value_end(source, from, start + line.trim_end().len()));
        } else if let Some(user) = user(line) {
            hidden.push(shift(&user, start));
        }
        start = end;
    }
    hidden
}

/// Where on `line` a secret begins.
fn secret_on(line: &str) -> Option<usize> {
    if line.contains("PRIVATE KEY") {
        return Some(0);
    }
    if line.trim_start().starts_with('[') && !line.contains('=') {
        return None;
    }
    let mut lower = line.to_ascii_lowercase();
    for key in NO_SECRETS {
        lower = lower.replace(key, &"_".repeat(key.len()));
    }
    let first_word = line.trim_start();
    let first_word = &first_word[..first_word
        .find(|char: char| !is_bare(char))
        .unwrap_or(first_word.len())];
    // `secret` and `password` are taken for keys wherever they stand, other words only in front of `=` or `:`.
    let is_key = |word: &str, end: usize| {
        let rest = line[end..].trim_start_matches(|char| is_bare(char) || "\"' ".contains(char));
        word == "secret" || word == "passw" || rest.starts_with(['=', ':'])
    };
    let end = SECRET_WORDS
        .iter()
        .filter_map(|word| {
            lower
                .match_indices(word)
                .map(|(at, _)| at + word.len())
                .find(|end| is_key(word, *end))
        })
        .min()
        .or_else(|| {
            names_a_secret(first_word).then(|| line.len() - line.trim_start().len() + first_word.len())
        })?;
    // To the end of the word: `secret` may have been the beginning of `secret_key`.
    let end = end
        + line[end..]
            .find(|char: char| !is_bare(char))
            .unwrap_or(line.len() - end);
    let value = line[end..].trim_start_matches(|char: char| char.is_whitespace() || "\"'=:".contains(char));
    let place = value.strip_prefix('{').map(str::trim_start);
    let is_kept = place.is_some_and(|place| {
        KEPT_IN.iter().any(|key| {
            place
                .strip_prefix(key)
                .is_some_and(|rest| rest.trim_start().starts_with('='))
        })
    });
    (!is_kept).then_some(end)
}

/// The end of a value that begins at `from` and may go on over lines.
fn value_end(source: &str, from: usize, end_of_line: usize) -> usize {
    let rest = &source[from..];
    let value = rest.trim_start_matches(|char: char| char.is_whitespace() || "=:".contains(char));
    let inside = source.len() - value.len();
    for (open, close) in [("\"\"\"", "\"\"\""), ("'''", "'''"), ("[", "]"), ("{", "}")] {
        if let Some(after) = value.strip_prefix(open) {
            let end = after
                .find(close)
                .map_or(source.len(), |at| inside + open.len() + at + close.len());
            return end.max(end_of_line);
        }
    }
    end_of_line.max(from)
}

/// User and password of the first URL in `text` that has any.
fn user(text: &str) -> Option<Range<usize>> {
    let start = text.find("://")? + 3;
    let authority = &text[start..];
    let authority = &authority[..authority
        .find(|char: char| "/?#\"' ".contains(char))
        .unwrap_or(authority.len())];
    authority.rfind('@').map(|at| start..start + at)
}

/// Whether the value of `key` is likely a secret.
pub(super) fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    if NO_SECRETS.contains(&key.as_str()) {
        return false;
    }
    SECRET_WORDS.iter().any(|word| key.contains(word))
        || ((5..=8).contains(&key.len()) && strsim::damerau_levenshtein(&key, "secret") <= 2)
}

fn is_bare(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == '-'
}

fn shift(span: &Range<usize>, by: usize) -> Range<usize> {
    span.start + by..span.end + by
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(source: &str, hidden: &[Range<usize>]) -> String {
        let hides = |at: usize| hidden.iter().any(|span| span.contains(&at));
        source
            .char_indices()
            .filter(|(at, _)| !hides(*at))
            .map(|(_, char)| char)
            .collect()
    }

    #[test]
    fn inline_secrets_are_found_by_the_name_of_their_key() {
        let source = concat!(
            "[issuers.a]\nsecret = \"S3KRIT\"\nsecert = 'S3KRIT'\nclient_secret = [\"S3KRIT\"]\n",
            "password = { value = \"S3KRIT\", file = \"kept\" }\nother.db_passwd = \"S3KRIT\"\n",
            "token_lifetime = \"kept\"\n",
            "url = \"postgres://S3KRIT:S3KRIT@host/x\"\npem = \"PRIVATE KEY S3KRIT\"\nsite = \"https://kept/a@b\"\n",
            "[password]\nregistration = \"kept\"\ndefault_roles = [\"kept\"]\nvalue = \"S3KRIT\"\nmin_length.x = \"kept\"\n",
        );
        let (root, errors) = DeTable::parse_recoverable(source);
        assert!(errors.is_empty(), "{errors:?}");
        let shown = shown(source, &in_values(root.get_ref(), source));
        assert!(!shown.contains("S3KRIT"), "{shown}");
        assert_eq!(shown.matches("kept").count(), 6);
    }

    #[test]
    fn in_a_text_that_does_not_parse_whole_rests_of_lines_go() {
        let source = concat!(
            "secret = \"S3KRIT\nsecret: S3KRIT\nsecret S3KRIT\n  secert=S3KRIT\nsecret = { value = S3KRIT }\n",
            "a = { secret = \"S3KRIT\" }\nsecret = \"\"\"\nS3KRIT\nS3KRIT\"\"\"\nsecret = { file = \"kept\" }\n[secret.kept]\n",
            "url = postgres://S3KRIT@host\nkept = 1\ntoken_lifetime = \"kept\nrefresh_token = S3KRIT\nsecret = [\n\"S3KRIT\"\n]\nsecret = '''\nS3KRIT\n",
        );
        let shown = shown(source, &in_text(source));
        assert!(!shown.contains("S3KRIT"), "{shown}");
        assert_eq!(shown.matches("kept").count(), 4, "{shown}");
    }
}
