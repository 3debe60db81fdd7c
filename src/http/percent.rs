//! Percent-encoding of single bytes (RFC 3986 section 2.1).
//!
//! Encoding is that of the crate `percent-encoding`. The one strict decoder is ours: the crate's passes a broken escape
//! through, which two parsers would then read differently.

/// The byte that the escape at `at` stands for; `None` where there is no `%` and two hexadecimal digits.
#[must_use]
pub(crate) fn escape_at(bytes: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = *bytes.get(at..at.checked_add(3)?)? else {
        return None;
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// Appends the escape of a byte, with upper-case digits (RFC 3986 section 6.2.2.1).
pub(crate) fn push_escape(out: &mut String, byte: u8) {
    out.push_str(percent_encoding::percent_encode_byte(byte));
}

/// The value of a hexadecimal digit.
#[must_use]
pub(crate) fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_its_escape_in_either_case() {
        for byte in 0..=u8::MAX {
            let mut text = String::from("x");
            push_escape(&mut text, byte);
            assert_eq!(text.len(), 4);
            assert_eq!(escape_at(text.as_bytes(), 1), Some(byte));
            assert_eq!(escape_at(text.to_lowercase().as_bytes(), 1), Some(byte));
        }
    }

    #[test]
    fn broken_escape_is_none() {
        for broken in ["", "%", "%2", "%2g", "%g2", "%%2", "x20", "%+2", "% 2"] {
            assert_eq!(escape_at(broken.as_bytes(), 0), None, "{broken}");
        }
        assert_eq!(escape_at(b"%20", usize::MAX), None);
    }
}
