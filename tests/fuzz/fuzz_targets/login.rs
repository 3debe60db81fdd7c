//! What somebody signs in with: a body has one meaning, in whatever pieces and in whichever of the two types it comes.
//!
//! Input: the first byte says how the rest is cut, the rest is the body.
#![no_main]

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use hyper::body::{Body, Bytes, Frame};
use libfuzzer_sys::fuzz_target;
use passgate::internals::login::read_credentials;
use passgate::internals::refusal::Refusal;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
/// Above this a body is refused.
const MAX_BYTES: usize = 16 * 1024;

type Credentials = [Option<String>; 2];

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, body)) = input.split_first() else {
        return;
    };
    for kind in [JSON, FORM] {
        let whole = read(kind, body, body.len().max(1));
        assert_eq!(read(kind, body, usize::from(cut) + 1), whole, "{kind}, in pieces");
        let Ok(credentials) = whole else { continue };
        assert!(body.len() <= MAX_BYTES);
        for text in credentials.iter().flatten() {
            assert!(!text.is_empty());
        }
        if kind == JSON && !body.is_empty() {
            is_what_others_read(body, &credentials);
        }

        // Said anew, in either type, it is the same.
        let [email, password] = &credentials;
        let json = json!({ "email": email, "password": password }).to_string();
        let form = format!(
            "email={}&password={}",
            encode(email.as_deref()),
            encode(password.as_deref())
        );
        for (kind, body) in [(JSON, json), (FORM, form)] {
            if body.len() <= MAX_BYTES {
                assert_eq!(
                    read(kind, body.as_bytes(), MAX_BYTES),
                    Ok(credentials.clone()),
                    "{body}"
                );
            }
        }
    }
});

fn read(kind: &str, body: &[u8], piece: usize) -> Result<Credentials, Refusal> {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().expect("a type"))]);
    let frames = body
        .chunks(piece)
        .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))));
    let body = Pieces(frames.collect::<Vec<_>>().into_iter());
    let read = RUNTIME.with(|runtime| runtime.block_on(async { read_credentials(&headers, body).await }));
    read.map(|fields| fields.map(|field| field.map(|text| text.to_string())))
}

/// Another reader of the same object finds the same in it. Where it gives up (it is nested too deep), it says nothing.
fn is_what_others_read(body: &[u8], credentials: &Credentials) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let object = value.as_object().expect("an object");
    for (name, ours) in ["email", "password"].into_iter().zip(credentials) {
        let theirs = object
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty());
        assert_eq!(ours.as_deref(), theirs, "{name}");
    }
}

fn encode(text: Option<&str>) -> String {
    text.unwrap_or_default()
        .bytes()
        .map(|byte| format!("%{byte:02x}"))
        .collect()
}

/// Frames that are all there.
struct Pieces(std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next())
    }
}
