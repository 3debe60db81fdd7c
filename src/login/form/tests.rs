//! What is read of a body, and what is refused.
#![allow(clippy::unwrap_used)]
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;
use http_body_util::Full;

use super::*;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn typed(kind: &str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())])
}

fn now<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

fn sent(kind: &str, body: &str) -> Result<Fields, Refusal> {
    now(read(
        &typed(kind),
        Full::new(Bytes::copy_from_slice(body.as_bytes())),
    ))
}

fn password(kind: &str, body: &str) -> Result<String, Refusal> {
    sent(kind, body)?
        .require(Field::Password)
        .map(|text| text.to_string())
        .map_err(|failure| failure.refusal)
}

#[test]
fn the_same_fields_come_as_json_and_as_a_form() {
    let mut json = sent(
        JSON,
        r#"{"email":"a@b","password":"p\u00e4ss \"1\"","name":null,"more":[1,{"a":2}]}"#,
    )
    .unwrap();
    let mut form = sent(FORM, "email=a%40b&password=p%C3%A4ss+%221%22&name=&more=x&&").unwrap();
    for fields in [&mut json, &mut form] {
        assert_eq!(fields.peek(Field::Email), "a@b");
        assert_eq!(fields.take(Field::Email).unwrap().as_str(), "a@b");
        assert_eq!(fields.take(Field::Password).unwrap().as_str(), "päss \"1\"");
        assert!(fields.take(Field::Name).is_none());
        assert_eq!(
            fields.require(Field::SetupToken).unwrap_err().refusal,
            Refusal::FormMalformed
        );
    }
    assert_eq!((json.kind(), form.kind()), (Kind::Json, Kind::Form));
    assert_eq!(
        sent(JSON, r#"{"refreshToken":"r"}"#)
            .unwrap()
            .peek(Field::RefreshToken),
        "r"
    );
    assert_eq!(
        sent(FORM, "current_password=c")
            .unwrap()
            .peek(Field::CurrentPassword),
        "c"
    );
}

#[test]
fn the_fields_that_are_missing_are_named_as_they_are_written() {
    let wanted = [Field::Email, Field::CurrentPassword];
    for (kind, body, detail) in [
        (
            JSON,
            r#"{"username":"a"}"#,
            Some("The fields `email` and `currentPassword` are missing."),
        ),
        (
            JSON,
            r#"{"email":"a"}"#,
            Some("The field `currentPassword` is missing."),
        ),
        (
            JSON,
            r#"{"email":"","currentPassword":"x"}"#,
            Some("The field `email` is missing."),
        ),
        (
            JSON,
            r#"{"email":null,"current_password":"x"}"#,
            Some("The field `email` is missing."),
        ),
        (FORM, "email=a", Some("The field `current_password` is missing.")),
        (
            FORM,
            "",
            Some("The fields `email` and `current_password` are missing."),
        ),
        (FORM, "email=a&current_password=b", None),
    ] {
        let found = sent(kind, body).unwrap().require_all(&wanted);
        assert_eq!(
            found.map_err(|failure| failure.detail.unwrap()).err().as_deref(),
            detail,
            "{body}"
        );
    }
}

#[test]
fn every_byte_of_a_password_arrives() {
    assert_eq!(
        password(FORM, "password=%2B+%25%26%3D%00%0D%0A%F0%9F%94%91=&").unwrap(),
        "+ %&=\0\r\n🔑="
    );
    assert_eq!(
        password(JSON, r#"{"password":"+%41 \u0000\ud83d\udd11"}"#).unwrap(),
        "+%41 \0🔑"
    );
    assert_eq!(
        password(FORM, "password=  x  ").unwrap(),
        "  x  ",
        "nothing is trimmed"
    );
}

#[test]
fn what_has_no_single_meaning_is_refused() {
    for body in [
        "password=a&password=a",
        "password=a&%70assword=b",
        "new_password=a&newPassword=b",
        "password=100%",
        "password=%4",
        "password=%+1",
        "password=%zz",
        "password=%ff",
        "%ff=a",
    ] {
        assert_eq!(sent(FORM, body).unwrap_err(), Refusal::FormMalformed, "{body}");
    }
    for body in [
        r#"{"password":"a","password":"a"}"#,
        r#"{"password":null,"password":"a"}"#,
        r#"{"password":"a","\u0070assword":"b"}"#,
        r#"{"password":1}"#,
        r#"{"password":["a"]}"#,
        r#"{"password":{"$ne":""}}"#,
        r#"{"password":true}"#,
        r#"{"password":"a"} x"#,
        r#"{"password":"a"}{}"#,
        r#"{"password":"a",}"#,
        r#"{"password":"\ud800"}"#,
        r#"["password","a"]"#,
        r#""password""#,
        "null",
        "{",
        "password=a",
        "\u{feff}{}",
    ] {
        assert_eq!(sent(JSON, body).unwrap_err(), Refusal::FormMalformed, "{body}");
    }
    let deep = |name: &str| format!(r#"{{"{name}":{}{}}}"#, "[".repeat(8000), "]".repeat(8000));
    assert_eq!(sent(JSON, &deep("password")).unwrap_err(), Refusal::FormMalformed);
    assert!(
        sent(JSON, &deep("more")).is_ok(),
        "what is not read is passed over, however deep"
    );
}

#[test]
fn no_type_is_guessed() {
    let body = || Full::new(Bytes::from_static(br#"{"password":"a"}"#));
    for kind in [
        "text/plain",
        "text/plain; application/json",
        "text/json",
        "application/jsonx",
        "application/problem+json",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json, text/plain",
        "",
    ] {
        assert_eq!(
            now(read(&typed(kind), body())).unwrap_err(),
            Refusal::FormTypeRefused,
            "{kind}"
        );
    }
    assert_eq!(
        now(read(&HeaderMap::new(), body())).unwrap_err(),
        Refusal::FormTypeRefused
    );
    let mut two = typed(JSON);
    two.append(CONTENT_TYPE, "text/plain".parse().unwrap());
    assert_eq!(now(read(&two, body())).unwrap_err(), Refusal::FormTypeRefused);
    let mut packed = typed(JSON);
    packed.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
    assert_eq!(now(read(&packed, body())).unwrap_err(), Refusal::FormTypeRefused);
    for kind in [
        "Application/JSON",
        "application/json ; charset=UTF-8",
        "application/json;charset=\"utf-8\"",
    ] {
        assert_eq!(
            now(read(&typed(kind), body())).unwrap().kind(),
            Kind::Json,
            "{kind}"
        );
    }
}

#[test]
fn no_body_is_no_fields() {
    let empty = now(read(&HeaderMap::new(), Full::new(Bytes::new()))).unwrap();
    assert_eq!(empty.kind(), Kind::Empty);
    assert_eq!(sent(JSON, "").unwrap().kind(), Kind::Json);
    assert_eq!(sent(FORM, "").unwrap().kind(), Kind::Form);
}

#[test]
fn a_body_is_limited_in_length_whether_it_says_so_or_not() {
    let longest = format!("password={}", "a".repeat(MAX_BYTES - 9));
    assert_eq!(password(FORM, &longest).unwrap().len(), MAX_BYTES - 9);
    assert_eq!(
        sent(FORM, &format!("{longest}a")).unwrap_err(),
        Refusal::BodyTooLarge
    );
    let mut taken = 0_usize;
    assert_eq!(
        now(read(&typed(FORM), Endless(&mut taken))).unwrap_err(),
        Refusal::BodyTooLarge
    );
    assert_eq!(taken, MAX_BYTES + 1024);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let read = async { read_within(&typed(FORM), Waiting, Duration::from_millis(1)).await };
    assert_eq!(now(read).unwrap_err(), Refusal::ClientTimeout);
}

#[test]
fn a_parameter_of_the_query_is_decoded_and_stands_once() {
    let value = |query: &str| parameter(Some(query), "all").map(|value| value.to_string());
    assert_eq!(value("all=true").as_deref(), Some("true"));
    assert_eq!(value("x=1&%61ll=a%2Fb+c").as_deref(), Some("a/b c"));
    assert_eq!(value("all"), Some(String::new()));
    assert_eq!(value("all=true&all=true"), None);
    assert_eq!(value("all=%"), None);
    assert_eq!(value("All=true"), None);
    assert_eq!(parameter(None, "all"), None);
}

#[test]
fn debug_output_holds_no_text() {
    assert!(!format!("{:?}", sent(FORM, "password=hunter2").unwrap()).contains("hunter2"));
}

/// A body without an end, which counts what was taken of it.
struct Endless<'a>(&'a mut usize);

impl Body for Endless<'_> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        *self.0 += 1024;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'a'; 1024])))))
    }
}

/// A body of which nothing arrives.
struct Waiting;

impl Body for Waiting {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}
