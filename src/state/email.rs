//! Email addresses as they are compared: which two are the same, and which two look alike.
//!
//! Input: an address as it was typed. Output: its key, by which accounts are found, and its skeleton, by which lookalikes are
//! found. Both are kept in the state: never change either without a step that brings the rows along.

use unicode_normalization::UnicodeNormalization as _;
use unicode_security::skeleton;

/// The address without the white space around it, in normalisation form NFKC (UAX 15): composed letters, no full-width
/// ones.
#[must_use]
pub(crate) fn normal(text: &str) -> String {
    text.trim().nfkc().collect()
}

/// The address as it is compared: [`normal`], and in letters without case.
///
/// Up and down again, because some letters meet only above (`ſ` and `s`) and others only below (`K`, the unit, and `k`);
/// and normalised again, because a change of case can take a composed letter apart. Two addresses that fold alike count as
/// one person's, so folding too much refuses a second account, and folding too little would let an attacker register what
/// looks like another's address.
#[must_use]
pub(crate) fn key(text: &str) -> String {
    let folded = normal(text).to_lowercase().to_uppercase().to_lowercase();
    // A full stop of Chinese or Japanese is a dot in a domain (UTS 46 section 2.3).
    folded
        .nfkc()
        .map(|letter| if letter == '\u{3002}' { '.' } else { letter })
        .collect()
}

/// What a [`key`] looks like (UTS 39 section 4).
#[must_use]
pub(crate) fn look(key: &str) -> String {
    skeleton(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the engines search for lookalikes: in ASCII alone `rn` and `m`, `1` and `l` are different people; a letter of
    /// another script beside it is there to look like one.
    fn are_lookalikes(one: &str, other: &str) -> bool {
        one != other && !(one.is_ascii() && other.is_ascii()) && look(one) == look(other)
    }

    #[test]
    fn addresses_that_differ_in_case_or_composition_alone_fold_alike() {
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
            // Composed and decomposed, full-width, ligatures, and dots of other scripts.
            ("jose\u{301}@b", "jos\u{e9}@b"),
            ("JOSE\u{301}@b", "jos\u{e9}@b"),
            ("\u{ff41}nn@example.com", "ann@example.com"),
            ("ann\u{ff20}example\u{ff0e}com", "ann@example.com"),
            ("ann@example\u{3002}com", "ann@example.com"),
            ("ann@example\u{ff61}com", "ann@example.com"),
            ("\u{fb01}n@b", "fin@b"),
            ("\u{1d41a}nn@b", "ann@b"),
        ] {
            assert_eq!(key(one), key(other), "{one} {other}");
        }
        assert_ne!(key("ann@example.com"), key("anna@example.com"));
    }

    #[test]
    fn a_folded_address_folds_to_itself() {
        for letter in '\0'..=char::MAX {
            let once = key(&format!("a{letter}b"));
            assert_eq!(key(&once), once, "{letter:?}");
        }
    }

    #[test]
    fn lookalikes_are_found_where_one_of_two_is_not_ascii() {
        for (one, other) in [
            ("ann@example.com", "\u{430}nn@example.com"),
            ("paypal@example.com", "p\u{430}yp\u{430}l@example.com"),
            (
                "scope@example.com",
                "\u{455}\u{441}\u{43e}\u{440}\u{435}@example.com",
            ),
            ("ann@example.com", "ann@ex\u{430}mple.com"),
        ] {
            assert!(are_lookalikes(&key(one), &key(other)), "{one} {other}");
            assert!(are_lookalikes(&key(other), &key(one)), "{other} {one}");
        }
        for (one, other) in [
            ("ann@example.com", "ann@example.com"),
            ("burn@example.com", "bum@example.com"),
            ("a1@example.com", "al@example.com"),
            ("o0@example.com", "oo@example.com"),
            ("m\u{fc}ller@example.com", "muller@example.com"),
            ("jos\u{e9}@example.com", "jose@example.com"),
            ("\u{430}\u{43d}\u{43d}\u{430}@example.com", "anna@example.com"),
        ] {
            assert!(!are_lookalikes(&key(one), &key(other)), "{one} {other}");
        }
    }
}
