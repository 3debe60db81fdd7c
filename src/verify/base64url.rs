//! Base64url as JOSE writes it: one spelling for each value.
//!
//! No padding, no white space, no `+` or `/`, and the bits that the last character does not need are zero
//! (RFC 7515 section 2, RFC 4648 section 3.5). A laxer decoder would let one signature have many spellings.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The bytes that `text` spells; `None` where it is not the one spelling of anything.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_spelling_of_a_value_is_read() {
        assert_eq!(decode("Zm9v").as_deref(), Some(&b"foo"[..]));
        assert_eq!(decode("").as_deref(), Some(&b""[..]));
        assert_eq!(decode("_-8").as_deref(), Some(&[0xff, 0xef][..]));
        for wrong in [
            "Zg==", "Zg=", "Zh", "Zm9v\n", " Zm9v", "Zm 9v", "+_8", "/_8", "A", "Zm9vA", "Zm9ü",
        ] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }
}
