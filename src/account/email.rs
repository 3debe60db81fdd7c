//! Email addresses: which text is one, and which two are the same.
//!
//! Enters: what somebody typed. Leaves: a verdict, and the key by which accounts are found. Never here: a look at whether
//! mail would arrive; nobody is trusted for an address that they only typed.

/// The longest address, in bytes (RFC 5321 section 4.5.3.1.3 less the angle brackets).
pub(super) const MAX_BYTES: usize = 254;

/// Whether `text`, without the white space around it, can be the address of an account: one `@` with something on both
/// sides, at most 254 bytes, and no character that cannot be seen. Whatever else mail servers agree on is theirs.
#[must_use]
pub fn is_valid(text: &str) -> bool {
    let address = text.trim();
    let sides = address.split_once('@');
    address.len() <= MAX_BYTES
        && sides.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
        && !address.chars().any(|letter| letter.is_whitespace() || letter.is_control() || is_unseen(letter))
}

/// The address as it is compared: without the white space around it, and in letters without case.
///
/// Up and down again, because some letters meet only above (`ſ` and `s`) and others only below (`K`, the unit, and `k`).
/// Two addresses that fold alike count as one person's, so folding too much refuses a second account, and folding too
/// little would let somebody register what looks like another's address.
#[must_use]
pub fn fold(text: &str) -> String {
    text.trim().to_lowercase().to_uppercase().to_lowercase()
}

/// Characters without any shape of their own, with which two different addresses would look alike: soft hyphen,
/// zero-width and direction marks, tags (Unicode general category Cf, as far as text in use has it).
fn is_unseen(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_something_on_both_sides_of_one_at_sign() {
        for good in ["a@b", "ann@example.com", "  ann@example.com\n", "o'brien+x@ex-ample.org", "müller@bücher.example"]
        {
            assert!(is_valid(good), "{good:?}");
        }
        for wrong in
            ["", "@", "a@", "@b", "ann", "a@b@c", "a@@b", "a b@c", "a@b c", "a\u{0}@b", "a@b\u{7f}", "a\u{a0}@b"]
        {
            assert!(!is_valid(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn an_address_with_a_character_that_nobody_sees_is_none() {
        for wrong in ["ann\u{200b}@example.com", "\u{202e}ann@example.com", "ann@exam\u{ad}ple.com", "\u{feff}ann@b"] {
            assert!(!is_valid(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn an_address_has_at_most_254_bytes() {
        let of = |bytes: usize| format!("{}@b", "a".repeat(bytes - 2));
        assert!(is_valid(&of(254)));
        assert!(!is_valid(&of(255)));
        assert!(!is_valid(&format!("{}@b", "ü".repeat(127))), "bytes, not characters");
    }

    #[test]
    fn addresses_that_differ_in_case_alone_fold_alike() {
        for (one, other) in [
            ("Ann@Example.COM", "ann@example.com"),
            (" ann@example.com ", "ann@example.com"),
            ("ΟΔΟΣ@example.com", "οδοσ@example.com"),
            ("οδος@example.com", "οδοσ@example.com"),
            ("STRASSE@b", "straße@b"),
            ("\u{212a}ai@b", "kai@b"),
            ("\u{17f}am@b", "SAM@b"),
            ("İpek@b", "i\u{307}pek@b"),
            ("ıpek@b", "ipek@b"),
        ] {
            assert_eq!(fold(one), fold(other), "{one} {other}");
        }
        assert_ne!(fold("ann@example.com"), fold("anna@example.com"));
    }

    #[test]
    fn a_folded_address_folds_to_itself() {
        for letter in '\0'..=char::MAX {
            let once = fold(&format!("a{letter}b"));
            assert_eq!(fold(&once), once, "{letter:?}");
        }
    }
}
