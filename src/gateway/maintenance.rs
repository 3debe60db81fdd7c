//! `maintenance` of a route: what is answered in place of the app.
//!
//! Input: the key, and the file that it names. Output: the words or the page of the 503. Invariant: the file is read when
//! the configuration is loaded, and never for a request.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, Response};

use crate::authorize::RuleName;
use crate::config::raw::RawMaintenance;
use crate::config::schema::or_default;
use crate::config::{Problems, Spanned};

/// The most bytes of a page.
const MOST_BYTES: u64 = 1024 * 1024;

/// `maintenance` of a route.
#[derive(Debug)]
pub(crate) struct Maintenance {
    /// What the answer says, where that is not the usual.
    pub(crate) text: Option<String>,
    page: Option<Bytes>,
    /// Seconds.
    pub(crate) retry_after: u64,
    /// The key as a rule, for the log.
    pub(crate) rule: Arc<RuleName>,
}

impl Maintenance {
    pub(crate) fn compile(raw: &Spanned<RawMaintenance>, problems: &mut Problems) -> Option<Self> {
        let page = match &raw.file {
            None => None,
            Some(file) => {
                let path = problems.resolve(&file.value);
                let mut page = Vec::new();
                let read = std::fs::File::open(&path)
                    .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut page));
                let failed = match read {
                    Err(error) => Some(format!("cannot read `{}`: {error}", path.display())),
                    Ok(_) if page.len() as u64 > MOST_BYTES => {
                        Some(format!("`{}` is larger than 1 MiB", path.display()))
                    }
                    Ok(_) if std::str::from_utf8(&page).is_err() => {
                        Some(format!("`{}` is not UTF-8 text", path.display()))
                    }
                    Ok(_) => None,
                };
                if let Some(message) = failed {
                    problems
                        .error(&file.span, message)
                        .hint("an HTML page whose styles and images are inside of it; a relative path starts at the directory of this file");
                    return None;
                }
                Some(Bytes::from(page))
            }
        };
        let retry_after: std::time::Duration =
            or_default(raw.retry_after.as_ref(), "routes.maintenance", "retry_after");
        Some(Self {
            text: raw.text.as_ref().map(|text| text.value.clone()),
            page,
            retry_after: retry_after.as_secs().max(1),
            rule: Arc::new(RuleName {
                text: "maintenance".into(),
                place: problems.place(&raw.span),
            }),
        })
    }

    /// Puts the page of the file in place of the gateway's, for a browser.
    pub(crate) fn show(&self, response: &mut Response<Bytes>) {
        let Some(page) = &self.page else { return };
        *response.body_mut() = page.clone();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("frame-ancestors 'self'"),
        );
    }
}
