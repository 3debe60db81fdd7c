//! A colour of the pages.

use std::fmt;
use std::str::FromStr;

/// A colour in sRGB, written `#rgb` or `#rrggbb` (CSS Color 4, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub [u8; 3]);

impl FromStr for Color {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "a colour is `#rgb` or `#rrggbb`, in hexadecimal digits: `\"#2f6f4f\"`".to_owned();
        let digits = text.strip_prefix('#').ok_or_else(form)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(form());
        }
        let channel = |at: usize| match digits.len() {
            3 => u8::from_str_radix(&digits[at..=at], 16).map(|digit| digit * 17),
            _ => u8::from_str_radix(&digits[2 * at..2 * at + 2], 16),
        };
        match digits.len() {
            3 | 6 => match (channel(0), channel(1), channel(2)) {
                (Ok(red), Ok(green), Ok(blue)) => Ok(Self([red, green, blue])),
                _ => Err(form()),
            },
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_hexadecimal_colour_is_an_error() {
        assert_eq!("#ABC".parse(), Ok(Color([0xaa, 0xbb, 0xcc])));
        assert_eq!("#2f6f4f".parse(), Ok(Color([0x2f, 0x6f, 0x4f])));
        for wrong in [
            "red",
            "",
            "#",
            "#12",
            "#1234",
            "#12345678",
            "#ggg",
            "2f6f4f",
            "#fff;}*{color:red",
            "#ééé",
            "#+1+1+1",
            "#fff;",
            "#fff}",
            "#ffffff ",
            "rgb(0,0,0)",
        ] {
            assert!(
                wrong.parse::<Color>().is_err_and(|hint| hint.contains("#rrggbb")),
                "{wrong}"
            );
        }
    }
}
