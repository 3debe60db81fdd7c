//! Header values from the claims of a token: always one line, and never two ways to read it.
//!
//! Percent-encoded (upper-case hexadecimal, by byte of the UTF-8) are control characters and a space at either end, which
//! HTTP would drop; in a list also a comma inside an element. The rest depends on the [`Encoding`]. An app that
//! percent-decodes gets the exact text back. Lists are joined by `,` and then split before they are decoded.

use serde_json::Value;

use crate::http::percent::push_escape;

/// What is percent-encoded besides that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    /// `%` and bytes outside ASCII: a value is visible ASCII.
    #[default]
    Percent,
    /// A `%` in front of two hexadecimal digits, which would read as an escape. Bytes outside ASCII are sent as they are.
    Utf8,
}

impl Encoding {
    /// The encoding of this name in the file.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "percent" => Some(Self::Percent),
            "utf-8" => Some(Self::Utf8),
            _ => None,
        }
    }

    /// A single text: `sub`, `email`, `name`, the issuer's name. `None` where it is empty.
    pub(super) fn text(self, value: &str) -> Option<String> {
        let mut out = String::with_capacity(value.len());
        self.encode(&mut out, value, false);
        (!out.is_empty()).then_some(out)
    }

    /// A list of texts, `None` where no element has any.
    pub(super) fn list<'a>(self, values: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let mut out = String::new();
        for value in values.into_iter().filter(|value| !value.is_empty()) {
            if !out.is_empty() {
                out.push(',');
            }
            self.encode(&mut out, value, true);
        }
        (!out.is_empty()).then_some(out)
    }

    /// A claim: a string, number or boolean, or an array of those as a list. Anything else has no text and gives `None`,
    /// an array with such an element too: half a list would say something that the token does not.
    ///
    /// A comma in a single string is encoded as in a list, because the app cannot know which of the two the token had.
    pub(super) fn claim(self, value: &Value) -> Option<String> {
        let elements = match value {
            Value::Array(elements) => elements.as_slice(),
            single => std::slice::from_ref(single),
        };
        let texts = elements.iter().map(scalar).collect::<Option<Vec<_>>>()?;
        self.list(texts.iter().map(String::as_str))
    }

    fn encode(self, out: &mut String, text: &str, in_list: bool) {
        let last = text.len().saturating_sub(1);
        for (place, character) in text.char_indices() {
            let is_plain = match character {
                '%' => self == Self::Utf8 && !begins_escape(&text[place..]),
                ',' => !in_list,
                ' ' => place != 0 && place != last,
                _ if character.is_ascii() => character.is_ascii_graphic(),
                // U+0080 to U+009F among them.
                _ => self == Self::Utf8 && !character.is_control(),
            };
            if is_plain {
                out.push(character);
            } else {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    push_escape(out, byte);
                }
            }
        }
    }
}

fn begins_escape(text: &str) -> bool {
    matches!(text.as_bytes(), [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(boolean) => Some(boolean.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ALL: [Encoding; 2] = [Encoding::Percent, Encoding::Utf8];

    fn text(value: &str) -> Option<String> {
        Encoding::Percent.text(value)
    }

    fn list<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<String> {
        Encoding::Percent.list(values)
    }

    fn claim(value: &Value) -> Option<String> {
        Encoding::Percent.claim(value)
    }

    /// As apps decode: a `%` that begins no escape is a plain `%`.
    fn decode(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut at = 0;
        while let Some(&byte) = text.as_bytes().get(at) {
            if text.is_char_boundary(at) && begins_escape(&text[at..]) {
                bytes.push(u8::from_str_radix(&text[at + 1..at + 3], 16).expect("hexadecimal"));
                at += 3;
            } else {
                bytes.push(byte);
                at += 1;
            }
        }
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn utf_8_is_sent_as_it_is_and_nothing_else_is_read_in_two_ways() {
        let utf8 = Encoding::Utf8;
        assert_eq!(
            utf8.text("José Müller-Łódź 🙂").as_deref(),
            Some("José Müller-Łódź 🙂")
        );
        assert_eq!(
            utf8.text(" é\r\nX-Admin: 1\0\t\u{7f}\u{85} ").as_deref(),
            Some("%20é%0D%0AX-Admin: 1%00%09%7F%C2%85%20")
        );
        assert_eq!(utf8.text("100% %zz %4").as_deref(), Some("100% %zz %4"));
        assert_eq!(utf8.text("%2C%é%2c").as_deref(), Some("%252C%é%252c"));
        assert_eq!(
            utf8.list(["a,b", "a%2Cb", "é", ""]).as_deref(),
            Some("a%2Cb,a%252Cb,é")
        );
        assert_eq!(utf8.claim(&json!(["é", 1, "a,b"])).as_deref(), Some("é,1,a%2Cb"));
    }

    #[test]
    fn encodings_have_the_names_of_the_file() {
        assert_eq!(Encoding::named("percent"), Some(Encoding::Percent));
        assert_eq!(Encoding::named("utf-8"), Some(Encoding::Utf8));
        assert_eq!(Encoding::named("utf8"), None);
    }

    #[test]
    fn a_text_is_visible_ascii_with_inner_spaces() {
        assert_eq!(text("Alice Smith").as_deref(), Some("Alice Smith"));
        assert_eq!(text("Smith, Alice").as_deref(), Some("Smith, Alice"));
        assert_eq!(
            text(" é%\r\nX-Admin: 1\0\t\u{7f} ").as_deref(),
            Some("%20%C3%A9%25%0D%0AX-Admin: 1%00%09%7F%20")
        );
        assert_eq!(text(" ").as_deref(), Some("%20"));
        assert_eq!(text(""), None);
    }

    #[test]
    fn a_list_cannot_be_given_more_elements_by_one_of_them() {
        assert_eq!(
            list(["user", "a,admin", "", "b c", " d"]).as_deref(),
            Some("user,a%2Cadmin,b c,%20d")
        );
        assert_eq!(list(["", ""]), None);
        assert_eq!(list([]), None);
    }

    #[test]
    fn a_claim_is_a_scalar_or_a_list_of_scalars() {
        assert_eq!(claim(&json!("acme")).as_deref(), Some("acme"));
        assert_eq!(claim(&json!("a,b")).as_deref(), Some("a%2Cb"));
        assert_eq!(claim(&json!(42)).as_deref(), Some("42"));
        assert_eq!(claim(&json!(false)).as_deref(), Some("false"));
        assert_eq!(
            claim(&json!(["a", 1, true, "b,c"])).as_deref(),
            Some("a,1,true,b%2Cc")
        );
        for nothing in [
            json!(null),
            json!({"a": 1}),
            json!([]),
            json!(""),
            json!(["a", {}]),
            json!(["a", ["b"]]),
        ] {
            assert_eq!(claim(&nothing), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_is_a_header_value(value in any::<String>()) {
            let encoded = text(&value).unwrap_or_default();
            prop_assert_eq!(&decode(&encoded), &value);
            let header = http::HeaderValue::try_from(&encoded).expect("a header value");
            prop_assert_eq!(header.to_str().expect("visible ASCII").trim(), encoded);
            let encoded = Encoding::Utf8.text(&value).unwrap_or_default();
            prop_assert_eq!(decode(&encoded), value);
            prop_assert!(http::HeaderValue::try_from(&encoded).is_ok());
            prop_assert_eq!(encoded.trim_matches([' ', '\t']), encoded.as_str());
        }

        #[test]
        fn any_list_comes_back(values in prop::collection::vec("\\PC{1,8}|[, %\r\n]{1,4}", 0..6)) {
            for encoding in ALL {
                let encoded = encoding.list(values.iter().map(String::as_str)).unwrap_or_default();
                let back: Vec<_> = encoded.split(',').filter(|part| !part.is_empty()).map(decode).collect();
                prop_assert_eq!(&back, &values);
            }
        }
    }
}
