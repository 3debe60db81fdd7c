//! Email addresses: which text is one. `state::email` decides which two are the same, and which look alike.
//!
//! Input: typed text. Output: a verdict. Invariants: no check whether mail arrives; a typed address proves nothing about
//! its owner.

use crate::state::email::normal;

/// The longest address, in bytes (RFC 5321 section 4.5.3.1.3 less the angle brackets).
pub(super) const MAX_BYTES: usize = 254;

/// Whether `text`, without the white space around it, can be the address of an account: one `@` with something on both
/// sides, a domain without an empty label (so none ends with a dot), at most 254 bytes, and no character that cannot be
/// seen; also once it is normalised, which turns a full-width `@` into one.
#[must_use]
pub(crate) fn is_valid(text: &str) -> bool {
    let typed = text.trim();
    if typed.len() > MAX_BYTES || typed.chars().any(is_unseen) {
        return false;
    }
    let address = normal(typed);
    let sides = address.split_once('@');
    address.len() <= MAX_BYTES
        && sides.is_some_and(|(local, domain)| {
            let is_label = |label: &str| !label.is_empty() && !label.contains('@');
            !local.is_empty() && domain.split(['.', '\u{3002}']).all(is_label)
        })
        && !address
            .chars()
            .any(|letter| letter.is_whitespace() || letter.is_control() || is_unseen(letter))
}

/// Whether `text`, an address that another system has verified, has one spelling only: no white space around it, NFKC, and
/// `.` between the labels of its domain. Another spelling may be the address of another mailbox (`ſam@`, `ａnn@`).
#[must_use]
pub(crate) fn is_canonical(text: &str) -> bool {
    is_valid(text) && normal(text) == text && !text.contains('\u{3002}')
}

/// Characters without any shape of their own, with which two different addresses would look alike: those that Unicode lets
/// a renderer leave out (`Default_Ignorable_Code_Point`), line separators, annotation marks, and the empty Braille pattern.
fn is_unseen(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_something_on_both_sides_of_one_at_sign() {
        for good in [
            "a@b",
            "ann@example.com",
            "  ann@example.com\n",
            "o'brien+x@ex-ample.org",
            "müller@bücher.example",
        ] {
            assert!(is_valid(good), "{good:?}");
        }
        for wrong in [
            "",
            "@",
            "a@",
            "@b",
            "ann",
            "a@b@c",
            "a@@b",
            "a b@c",
            "a@b c",
            "a\u{0}@b",
            "a@b\u{7f}",
            "a\u{a0}@b",
        ] {
            assert!(!is_valid(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_canonical_address_has_one_spelling() {
        for canonical in [
            "ann@example.com",
            "Ann@EXAMPLE.com",
            "m\u{fc}ller@b\u{fc}cher.example",
        ] {
            assert!(is_canonical(canonical), "{canonical:?}");
        }
        for other in [
            " ann@example.com",
            "ann@example.com\n",
            "ann\u{ff20}example.com",
            "\u{ff41}nn@example.com",
            "\u{17f}am@example.com",
            "jose\u{301}@example.com",
            "ann@example\u{3002}com",
            "ann@example\u{ff61}com",
            "ann",
        ] {
            assert!(!is_canonical(other), "{other:?}");
        }
    }

    #[test]
    fn an_address_with_a_character_that_nobody_sees_is_none() {
        for unseen in [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180b}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200f}',
            '\u{202e}',
            '\u{2060}',
            '\u{2064}',
            '\u{2800}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e0100}',
        ] {
            for wrong in [
                format!("ann{unseen}@example.com"),
                format!("{unseen}ann@example.com"),
                format!("ann@exam{unseen}ple.com"),
                format!("ann@example.com{unseen}"),
            ] {
                assert!(!is_valid(&wrong), "{wrong:?}");
            }
        }
    }

    #[test]
    fn what_an_address_becomes_once_normalised_counts() {
        for good in [
            "ann\u{ff20}example.com",
            "\u{ff41}nn@example.com",
            "ann@b\u{fc}cher.example",
            "jose\u{301}@b",
        ] {
            assert!(is_valid(good), "{good:?}");
        }
        for wrong in [
            "ann@b\u{ff20}c",
            "ann@example.com.",
            "ann@example.com\u{ff0e}",
            "ann@example.com\u{3002}",
            "ann@example.com\u{ff61}",
            "ann@.example.com",
            "ann@example..com",
            "ann\u{3000}b@c",
            "ann@b\u{2024}",
        ] {
            assert!(!is_valid(wrong), "{wrong:?}");
        }
        assert!(
            !is_valid(&format!("{}@b", "\u{fdfa}".repeat(20))),
            "254 bytes hold for the long form as well"
        );
    }

    #[test]
    fn an_address_has_at_most_254_bytes() {
        let of = |bytes: usize| format!("{}@b", "a".repeat(bytes - 2));
        assert!(is_valid(&of(254)));
        assert!(!is_valid(&of(255)));
        assert!(
            !is_valid(&format!("{}@b", "ü".repeat(127))),
            "bytes, not characters"
        );
    }
}
