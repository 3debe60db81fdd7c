//! The logo: one small picture file of the operator's.
//!
//! Input: `pages.logo`. Output: an answer for `{prefix}/logo`. Invariants: a file is served only if its content is the
//! picture that its name says, and an SVG, which is a document, runs nothing when it is opened by itself. SVG stays
//! allowed because most logos are SVG files; the policy of the answer makes it harmless.

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response};

use crate::config::Problems;
use crate::config::raw::Spanned;
use crate::values::Color;

/// The largest file that is taken, in bytes.
const LARGEST: u64 = 256 * 1024;

/// A format of pictures: the ends of its file names, its media type, and whether bytes are of it.
struct PictureFormat {
    extensions: &'static [&'static str],
    media_type: &'static str,
    fits: fn(&[u8]) -> bool,
}

const FORMATS: [PictureFormat; 4] = [
    PictureFormat {
        extensions: &["svg"],
        media_type: "image/svg+xml",
        fits: is_svg,
    },
    PictureFormat {
        extensions: &["png"],
        media_type: "image/png",
        fits: |bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
    },
    PictureFormat {
        extensions: &["jpeg", "jpg"],
        media_type: "image/jpeg",
        fits: |bytes| bytes.starts_with(b"\xff\xd8\xff"),
    },
    PictureFormat {
        extensions: &["webp"],
        media_type: "image/webp",
        fits: |bytes| bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
    },
];

/// A logo that has been read.
#[derive(Clone, Debug)]
pub(super) struct Logo {
    media_type: &'static str,
    bytes: Bytes,
}

impl Logo {
    /// Reads the file; what is wrong with it is an error there.
    pub(super) fn compile(raw: &Spanned<std::path::PathBuf>, problems: &mut Problems) -> Option<Self> {
        let path = problems.resolve(raw);
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default()
            .to_lowercase();
        let Some(kind) = FORMATS
            .iter()
            .find(|kind| kind.extensions.contains(&extension.as_str()))
        else {
            problems
                .error(&raw.span, "`logo` is not a kind of picture that is known here")
                .hint("use a file that ends in `.svg`, `.png`, `.jpeg` or `.webp`");
            return None;
        };
        match read(&path, LARGEST) {
            Err(why) => {
                problems
                    .error(
                        &raw.span,
                        format!("cannot read the logo `{}`: {why}", path.display()),
                    )
                    .hint("the path is relative to this file");
                None
            }
            Ok(bytes) if (kind.fits)(&bytes) => Some(Self {
                media_type: kind.media_type,
                bytes: bytes.into(),
            }),
            Ok(_) => {
                problems
                    .error(
                        &raw.span,
                        format!("the content of `{}` is not {}", path.display(), kind.media_type),
                    )
                    .hint("save the picture again, in the format that its name says");
                None
            }
        }
    }

    /// The icon of a site without a logo: a gate in the colour of buttons.
    pub(super) fn icon(accent: Option<Color>) -> Self {
        let accent = accent.map_or_else(|| "#3456c4".to_owned(), |color| color.to_string());
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 32 32\"><rect width=\"32\" height=\"32\" rx=\"7\" \
             fill=\"{accent}\"/><path d=\"M9 25V14a7 7 0 0 1 14 0v11M16 7.5V25M9 18h14\" fill=\"none\" stroke=\"#fff\" \
             stroke-width=\"2.4\" stroke-linecap=\"round\"/></svg>"
        );
        Self {
            media_type: "image/svg+xml",
            bytes: svg.into(),
        }
    }

    /// The answer for `{prefix}/logo`.
    pub(super) fn answer(&self) -> Response<Bytes> {
        let mut response = Response::new(self.bytes.clone());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
        );
        headers.insert(
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        );
        response
    }
}

/// The content of the ordinary file at `path`, or why there is none.
///
/// # Errors
/// A reason in plain words: it cannot be read, is no ordinary file, or has more than `largest` bytes.
pub(super) fn read(path: &Path, largest: u64) -> Result<Vec<u8>, String> {
    let plain = |error: std::io::Error| error.to_string();
    // Before opening: to open a pipe would block until it has a writer.
    if !std::fs::metadata(path).map_err(plain)?.is_file() {
        return Err("it is not an ordinary file".to_owned());
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(plain)?
        .take(largest + 1)
        .read_to_end(&mut bytes)
        .map_err(plain)?;
    if bytes.len() as u64 > largest {
        return Err(format!("it is larger than {} KiB", largest / 1024));
    }
    Ok(bytes)
}

/// Whether the document element, after an XML declaration, comments and a document type, is `svg`.
fn is_svg(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    loop {
        let end = match rest {
            _ if rest.starts_with("<!--") => "-->",
            _ if rest.starts_with("<?") => "?>",
            _ if rest.starts_with("<!DOCTYPE svg") => ">",
            _ => break,
        };
        let Some((_, after)) = rest.split_once(end) else {
            return false;
        };
        rest = after.trim_start();
    }
    rest.strip_prefix("<svg")
        .is_some_and(|after| after.starts_with(|next: char| next == '>' || next.is_whitespace()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(name: &str, content: &[u8]) -> (Option<Logo>, Problems) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(name), content).unwrap();
        let mut problems = Problems::new(&directory.path().join("gateway.toml"), "[pages]\n");
        let logo = Logo::compile(
            &Spanned {
                value: name.into(),
                span: 0..7,
            },
            &mut problems,
        );
        (logo, problems)
    }

    #[test]
    fn a_picture_is_served_with_its_type_and_cannot_run_anything() {
        let svg =
            b"\xef\xbb\xbf<?xml version=\"1.0\"?>\n<!-- us --><svg xmlns=\"http://www.w3.org/2000/svg\"/>";
        for (name, content, media_type) in [
            ("logo.svg", &svg[..], "image/svg+xml"),
            ("logo.PNG", b"\x89PNG\r\n\x1a\n....", "image/png"),
            ("logo.jpg", b"\xff\xd8\xff\xe0..", "image/jpeg"),
            ("logo.jpeg", b"\xff\xd8\xff\xe0..", "image/jpeg"),
            ("logo.webp", b"RIFF....WEBPVP8 ", "image/webp"),
        ] {
            let (logo, problems) = compile(name, content);
            assert!(problems.errors().is_empty(), "{name}: {:?}", problems.errors());
            let answer = logo.unwrap().answer();
            assert_eq!(answer.body(), content);
            assert_eq!(answer.headers()["content-type"], media_type);
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
            assert_eq!(answer.headers()["cache-control"], "public, max-age=300");
            let policy = answer.headers()["content-security-policy"].to_str().unwrap();
            assert_eq!(policy, "default-src 'none'; style-src 'unsafe-inline'; sandbox");
        }
    }

    #[test]
    fn a_file_that_is_not_what_its_name_says_is_an_error() {
        for (name, content) in [
            ("logo.png", &b"GIF89a"[..]),
            ("logo.svg", b"<html><svg></svg></html>"),
            ("logo.svg", b"<svgx>"),
            ("logo.svg", b"<!-- <svg>"),
            ("logo.svg", b"\xff<svg>"),
            ("logo.jpg", b"\x89PNG\r\n\x1a\n"),
            ("logo.webp", b"RIFF"),
            ("logo.webp", b"RIFF....AVI "),
            ("logo.png", b""),
        ] {
            let (logo, problems) = compile(name, content);
            assert!(logo.is_none(), "{name}");
            assert!(
                problems.errors()[0].message.contains("is not image/"),
                "{:?}",
                problems.errors()
            );
        }
        for name in ["logo.gif", "logo", "logo.html", "secret.toml"] {
            let (logo, problems) = compile(name, b"\x89PNG\r\n\x1a\n");
            assert!(logo.is_none(), "{name}");
            assert!(
                problems.errors()[0].hint.as_ref().unwrap().contains("`.svg`"),
                "{:?}",
                problems.errors()
            );
        }
    }

    #[test]
    fn a_file_that_is_missing_too_large_or_no_file_is_an_error() {
        let png = |size: u64| {
            let mut content = b"\x89PNG\r\n\x1a\n".to_vec();
            content.resize(usize::try_from(size).unwrap(), 0);
            compile("logo.png", &content)
        };
        assert!(png(LARGEST).0.is_some());
        let (logo, problems) = png(LARGEST + 1);
        assert!(logo.is_none());
        assert!(
            problems.errors()[0]
                .message
                .ends_with("it is larger than 256 KiB"),
            "{:?}",
            problems.errors()
        );

        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("directory.png")).unwrap();
        let mut problems = Problems::new(&directory.path().join("gateway.toml"), "[pages]\n");
        for name in ["missing.png", "directory.png"] {
            assert!(
                Logo::compile(
                    &Spanned {
                        value: name.into(),
                        span: 0..7
                    },
                    &mut problems
                )
                .is_none()
            );
        }
        assert_eq!(problems.errors().len(), 2);
        assert!(
            problems.errors()[1]
                .message
                .ends_with("it is not an ordinary file"),
            "{:?}",
            problems.errors()
        );
    }
}
