//! Header values from what a token says: always one line of visible ASCII, and never two ways to read it.
//!
//! Percent-encoded (upper-case hexadecimal, by byte of the UTF-8) are `%`, control characters, bytes outside ASCII and a
//! space at either end, which HTTP would drop; in a list also a comma inside an element. An app that percent-decodes
//! gets the exact text back. Lists are joined by `,` and then split before they are decoded.

use std::fmt::Write;

use serde_json::Value;

/// A single text: `sub`, `email`, `name`, the issuer's name. `None` where it is empty.
pub(super) fn text(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    encode(&mut out, value, false);
    (!out.is_empty()).then_some(out)
}

/// A list of texts, `None` where no element has any.
pub(super) fn list<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut out = String::new();
    for value in values.into_iter().filter(|value| !value.is_empty()) {
        if !out.is_empty() {
            out.push(',');
        }
        encode(&mut out, value, true);
    }
    (!out.is_empty()).then_some(out)
}

/// A claim: a string, number or boolean, or an array of those as a list. Anything else has no text and gives `None`, an
/// array with such an element too: half a list would say something that the token does not.
///
/// A comma in a single string is encoded as in a list, because the app cannot know which of the two the token had.
pub(super) fn claim(value: &Value) -> Option<String> {
    let elements = match value {
        Value::Array(elements) => elements.as_slice(),
        single => std::slice::from_ref(single),
    };
    let texts = elements.iter().map(scalar).collect::<Option<Vec<_>>>()?;
    list(texts.iter().map(String::as_str))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(boolean) => Some(boolean.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn encode(out: &mut String, text: &str, in_list: bool) {
    let last = text.len().saturating_sub(1);
    for (place, byte) in text.bytes().enumerate() {
        let is_plain = match byte {
            b'%' => false,
            b',' => !in_list,
            b' ' => place != 0 && place != last,
            _ => byte.is_ascii_graphic(),
        };
        if is_plain {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes any text");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decode(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                let digits = std::str::from_utf8(&digits).expect("ASCII");
                bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn a_text_is_visible_ascii_with_inner_spaces() {
        assert_eq!(text("Alice Smith").as_deref(), Some("Alice Smith"));
        assert_eq!(text("Smith, Alice").as_deref(), Some("Smith, Alice"));
        assert_eq!(text(" é%\r\nX-Admin: 1\0\t\u{7f} ").as_deref(), Some("%20%C3%A9%25%0D%0AX-Admin: 1%00%09%7F%20"));
        assert_eq!(text(" ").as_deref(), Some("%20"));
        assert_eq!(text(""), None);
    }

    #[test]
    fn a_list_cannot_be_given_more_elements_by_one_of_them() {
        assert_eq!(list(["user", "a,admin", "", "b c", " d"]).as_deref(), Some("user,a%2Cadmin,b c,%20d"));
        assert_eq!(list(["", ""]), None);
        assert_eq!(list([]), None);
    }

    #[test]
    fn a_claim_is_a_scalar_or_a_list_of_scalars() {
        assert_eq!(claim(&json!("acme")).as_deref(), Some("acme"));
        assert_eq!(claim(&json!("a,b")).as_deref(), Some("a%2Cb"));
        assert_eq!(claim(&json!(42)).as_deref(), Some("42"));
        assert_eq!(claim(&json!(false)).as_deref(), Some("false"));
        assert_eq!(claim(&json!(["a", 1, true, "b,c"])).as_deref(), Some("a,1,true,b%2Cc"));
        for nothing in [json!(null), json!({"a": 1}), json!([]), json!(""), json!(["a", {}]), json!(["a", ["b"]])] {
            assert_eq!(claim(&nothing), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_is_a_header_value(value in any::<String>()) {
            let encoded = text(&value).unwrap_or_default();
            prop_assert_eq!(decode(&encoded), value);
            let header = http::HeaderValue::try_from(&encoded).expect("a header value");
            prop_assert_eq!(header.to_str().expect("visible ASCII").trim(), encoded);
        }

        #[test]
        fn any_list_comes_back(values in prop::collection::vec("\\PC{1,8}|[, %\r\n]{1,4}", 0..6)) {
            let encoded = list(values.iter().map(String::as_str)).unwrap_or_default();
            let back: Vec<_> = encoded.split(',').filter(|part| !part.is_empty()).map(decode).collect();
            prop_assert_eq!(back, values);
        }
    }
}
