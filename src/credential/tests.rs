#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::values::Token;

fn header(name: &str, scheme: Option<&str>) -> RawSource {
    RawSource::Header {
        name: name.parse().unwrap(),
        scheme: scheme.and_then(Token::parse),
    }
}

fn cookie(name: &str) -> RawSource {
    RawSource::Cookie(Token::parse(name).unwrap())
}

fn query(name: &str) -> RawSource {
    RawSource::Query(name.parse().unwrap())
}

fn compile(raw: &[RawSource]) -> (Sources, Problems) {
    let mut problems = Problems::new(Path::new("gateway.toml"), &" ".repeat(100));
    let raw: Vec<_> = raw
        .iter()
        .enumerate()
        .map(|(at, value)| Spanned {
            value: value.clone(),
            span: at * 10..at * 10 + 5,
        })
        .collect();
    let sources = Sources::compile(Some(&raw), &mut problems);
    (sources, problems)
}

fn sources(raw: &[RawSource]) -> Sources {
    let (sources, problems) = compile(raw);
    assert!(problems.errors().is_empty(), "{:?}", problems.errors());
    sources
}

fn all() -> Sources {
    sources(&[
        header("authorization", Some("Bearer")),
        header("x-token", None),
        cookie("s"),
        query("access_token"),
    ])
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    headers
}

type Summary = Result<Option<(Kind, String)>, Refusal>;

fn find(sources: &Sources, lines: &[(&str, &str)], query: Option<&str>) -> Summary {
    let headers = headers(lines);
    let found = sources.find(&headers, query)?;
    Ok(found.map(|credential| (credential.kind, credential.token.into_owned())))
}

fn token(kind: Kind, token: &str) -> Summary {
    Ok(Some((kind, token.to_owned())))
}

#[test]
fn the_default_is_authorization_with_bearer() {
    let mut problems = Problems::new(Path::new("gateway.toml"), "");
    let sources = Sources::compile(None, &mut problems);
    assert_eq!(sources.as_slice(), Sources::default().as_slice());
    assert_eq!(
        find(&sources, &[("authorization", "Bearer a.b.c")], None),
        token(Kind::Header, "a.b.c")
    );
    assert_eq!(
        find(&sources, &[("cookie", "s=1")], Some("access_token=1")),
        Ok(None)
    );
}

#[test]
fn a_scheme_is_compared_without_case_and_as_a_whole_word() {
    for (line, wanted) in [
        ("Bearer abc", token(Kind::Header, "abc")),
        ("bearer abc", token(Kind::Header, "abc")),
        ("BEARER abc", token(Kind::Header, "abc")),
        ("Bearer   abc", token(Kind::Header, "abc")),
        (" Bearer abc ", token(Kind::Header, "abc")),
        ("\tBearer abc\t", token(Kind::Header, "abc")),
        ("Bearer a=b,c", token(Kind::Header, "a=b,c")),
        // Another scheme: not ours to judge.
        ("Basic dTpw", Ok(None)),
        ("Bearerabc", Ok(None)),
        ("Bearer,abc", Ok(None)),
        ("Bearer=abc", Ok(None)),
        ("Bearers abc", Ok(None)),
        ("Beare", Ok(None)),
        ("\"Bearer abc\"", Ok(None)),
        ("", Ok(None)),
        // Ours, and no good: never as if there were none.
        ("Bearer", Err(Refusal::CredentialMalformed)),
        ("Bearer ", Err(Refusal::CredentialMalformed)),
        ("Bearer\tabc", Err(Refusal::CredentialMalformed)),
        ("Bearer \tabc", Err(Refusal::CredentialMalformed)),
        ("Bearer a b", Err(Refusal::CredentialMalformed)),
        ("Bearer a, Bearer b", Err(Refusal::CredentialMalformed)),
        ("Bearer a\tb", Err(Refusal::CredentialMalformed)),
        ("Bearer é", Err(Refusal::CredentialMalformed)),
        ("Bearer a\u{a0}", Err(Refusal::CredentialMalformed)),
    ] {
        assert_eq!(
            find(&Sources::default(), &[("authorization", line)], None),
            wanted,
            "{line:?}"
        );
    }
}

#[test]
fn two_lines_of_a_configured_header_are_refused_whatever_they_hold() {
    for lines in [
        &[("authorization", "Bearer a"), ("authorization", "Bearer a")][..],
        &[("authorization", "Bearer a"), ("Authorization", "Basic b")],
        &[("authorization", "Basic a"), ("authorization", "Digest b")],
        &[("authorization", ""), ("authorization", "")],
        &[("x-token", "a"), ("x-token", "a")],
        // Also behind a source that holds a good one, and behind one that holds a bad one.
        &[("authorization", "Bearer a"), ("x-token", "a"), ("x-token", "b")],
        &[("authorization", "Bearer"), ("x-token", "a"), ("x-token", "b")],
    ] {
        assert_eq!(
            find(&all(), lines, None),
            Err(Refusal::CredentialRepeated),
            "{lines:?}"
        );
    }
    let last = sources(&[header("x-token", None), header("authorization", Some("Bearer"))]);
    let lines = [
        ("x-token", "a"),
        ("authorization", "Bearer a"),
        ("authorization", "Basic b"),
    ];
    assert_eq!(find(&last, &lines, None), Err(Refusal::CredentialRepeated));
}

#[test]
fn a_plain_header_holds_nothing_but_the_token() {
    let sources = sources(&[header("x-token", None)]);
    for (line, wanted) in [
        ("abc", token(Kind::Header, "abc")),
        (" abc ", token(Kind::Header, "abc")),
        ("Bearer abc", Err(Refusal::CredentialMalformed)),
        ("", Err(Refusal::CredentialMalformed)),
        ("  ", Err(Refusal::CredentialMalformed)),
        ("é", Err(Refusal::CredentialMalformed)),
    ] {
        assert_eq!(find(&sources, &[("x-token", line)], None), wanted, "{line:?}");
    }
    assert_eq!(
        find(
            &sources,
            &[("x_token", "abc"), ("authorization", "Bearer x")],
            None
        ),
        Ok(None)
    );
}

#[test]
fn a_cookie_that_is_no_single_token_counts_as_none() {
    let sources = sources(&[cookie("s")]);
    for (lines, wanted) in [
        (&["s=abc"][..], token(Kind::Cookie, "abc")),
        (&["a=1; s=abc; b=2"], token(Kind::Cookie, "abc")),
        (&["s=abc; s=abc"], token(Kind::Cookie, "abc")),
        (&["s=abc", "a=1; s=abc"], token(Kind::Cookie, "abc")),
        (&["s=\"abc\""], token(Kind::Cookie, "\"abc\"")),
        (&["s=abc; s=abd"], Ok(None)),
        (&["s=abc", "s=abd"], Ok(None)),
        (&["s=abc; s="], Ok(None)),
        (&["s="], Ok(None)),
        (&["s=a b"], Ok(None)),
        (&["s=é"], Ok(None)),
        (&["S=abc"], Ok(None)),
        (&["s"], Ok(None)),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
        assert_eq!(find(&sources, &lines, None), wanted, "{lines:?}");
    }
}

#[test]
fn a_query_parameter_is_found_in_every_encoding_of_its_name() {
    let sources = sources(&[query("access_token")]);
    for (sent, wanted) in [
        (Some("access_token=abc"), token(Kind::Query, "abc")),
        (Some("a=1&access_token=abc&b=2"), token(Kind::Query, "abc")),
        (Some("access%5Ftoken=abc"), token(Kind::Query, "abc")),
        (Some("%61%63cess_token=abc"), token(Kind::Query, "abc")),
        (Some("access_token=a%2Eb%2ec"), token(Kind::Query, "a.b.c")),
        (Some("access_token=a=b"), token(Kind::Query, "a=b")),
        (Some("access_token=a+b"), token(Kind::Query, "a+b")),
        (Some("access_token=a%252E"), token(Kind::Query, "a%2E")),
        (Some("access_token"), Err(Refusal::CredentialMalformed)),
        (Some("access_token="), Err(Refusal::CredentialMalformed)),
        (Some("access_token=%"), Err(Refusal::CredentialMalformed)),
        (Some("access_token=a%2"), Err(Refusal::CredentialMalformed)),
        (Some("access_token=a%zz"), Err(Refusal::CredentialMalformed)),
        (Some("access_token=a%00"), Err(Refusal::CredentialMalformed)),
        (Some("access_token=a%20b"), Err(Refusal::CredentialMalformed)),
        (Some("access_token=%c3%a9"), Err(Refusal::CredentialMalformed)),
        (
            Some("access_token=a&access_token=a"),
            Err(Refusal::CredentialRepeated),
        ),
        (
            Some("access_token=a&access%5ftoken=b"),
            Err(Refusal::CredentialRepeated),
        ),
        (
            Some("access_token&access_token"),
            Err(Refusal::CredentialRepeated),
        ),
        (Some("ACCESS_TOKEN=a"), Ok(None)),
        (Some("xaccess_token=a&access_tokenx=a"), Ok(None)),
        (Some("a=access_token=b"), Ok(None)),
        (Some("access%255ftoken=a"), Ok(None)),
        (Some(""), Ok(None)),
        (None, Ok(None)),
    ] {
        assert_eq!(find(&sources, &[], sent), wanted, "{sent:?}");
    }
}

#[test]
fn the_first_source_that_holds_anything_decides() {
    let bearer = ("authorization", "Bearer h");
    for (lines, query, wanted) in [
        (
            &[bearer, ("x-token", "x"), ("cookie", "s=c")][..],
            Some("access_token=q"),
            token(Kind::Header, "h"),
        ),
        (
            &[("authorization", "Basic h"), ("x-token", "x"), ("cookie", "s=c")],
            None,
            token(Kind::Header, "x"),
        ),
        (
            &[("cookie", "s=c")],
            Some("access_token=q"),
            token(Kind::Cookie, "c"),
        ),
        (
            &[("cookie", "s=c; s=d")],
            Some("access_token=q"),
            token(Kind::Query, "q"),
        ),
        (&[], Some("access_token=q"), token(Kind::Query, "q")),
        (
            &[("authorization", "Bearer"), ("cookie", "s=c")],
            None,
            Err(Refusal::CredentialMalformed),
        ),
        (&[bearer, ("x-token", "")], None, token(Kind::Header, "h")),
        (&[], None, Ok(None)),
    ] {
        assert_eq!(find(&all(), lines, query), wanted, "{lines:?} {query:?}");
    }
}

#[test]
fn every_source_tells_what_it_held() {
    let all = all();
    let headers = headers(&[("authorization", "Basic x"), ("x-token", ""), ("cookie", "s=c")]);
    let told: Vec<_> = all
        .each(&headers, None)
        .map(|(source, found)| format!("{source}: {found:?}"))
        .collect();
    assert_eq!(
        told,
        [
            "header `authorization` with scheme `Bearer`: Absent(\"the header has another scheme\")",
            "header `x-token`: Refused(CredentialMalformed)",
            "cookie `s`: Token(…)",
            "query parameter `access_token`: Absent(\"there is no such parameter\")",
        ]
    );
}

#[test]
fn no_token_stands_in_debug_output() {
    let sources = Sources::default();
    let headers = headers(&[("authorization", "Bearer sesame")]);
    let shown = format!(
        "{:?} {:?}",
        sources.find(&headers, None),
        sources.each(&headers, None).collect::<Vec<_>>()
    );
    assert!(!shown.contains("sesame"), "{shown}");
}

#[test]
fn strip_takes_credentials_and_leaves_what_is_for_the_app() {
    for (sent, left) in [
        (
            &[
                ("authorization", "Bearer a"),
                ("x-token", "b"),
                ("cookie", "s=1; a=2"),
            ][..],
            &[("cookie", "a=2")][..],
        ),
        (
            &[("authorization", "Basic a"), ("cookie", "a=2")],
            &[("authorization", "Basic a"), ("cookie", "a=2")],
        ),
        (&[("authorization", "bearer\ta")], &[]),
        (&[("authorization", "Bearer")], &[]),
        (
            &[("authorization", "Basic a"), ("authorization", "Bearer b")],
            &[],
        ),
        (&[("x-token", "a"), ("x-token", "b")], &[]),
        (&[("cookie", "s=1"), ("cookie", "s=2")], &[]),
        (&[("accept", "*/*")], &[("accept", "*/*")]),
    ] {
        let mut map = headers(sent);
        all().strip(&mut map, None);
        assert_eq!(map, headers(left), "{sent:?}");
    }
    let mut untouched = headers(&[("x-token", "a"), ("cookie", "s=1")]);
    Sources::default().strip(&mut untouched, None);
    assert_eq!(untouched.len(), 2);
}

#[test]
fn the_query_loses_named_parameters_and_no_other_byte() {
    let sources = sources(&[query("access_token"), query("t")]);
    for (sent, left) in [
        (None, None),
        (Some(""), None),
        (Some("a=1&b=%zz&&c"), None),
        (Some("access_token=x"), Some(None)),
        (Some("access_token=x&t=y"), Some(None)),
        (Some("a=1&access_token=x&b=%2f;/?"), Some(Some("a=1&b=%2f;/?"))),
        (Some("access_token=x&a"), Some(Some("a"))),
        (Some("a=&t&b"), Some(Some("a=&b"))),
        (Some("&access%5ftoken=x&"), Some(Some("&"))),
        (Some("%74=1&a=t"), Some(Some("a=t"))),
        (Some("t%=1"), None),
    ] {
        let left = left.map(|left: Option<&str>| left.map(str::to_owned));
        assert_eq!(sources.strip_query(sent, None), left, "{sent:?}");
    }
    assert_eq!(Sources::default().strip_query(Some("access_token=x"), None), None);
}

#[test]
fn mistakes_in_the_list_are_told_with_their_place() {
    for (source, message) in [
        (
            "header = \"x token\"",
            "`header` must be the name of a header, found `x token`",
        ),
        ("header = \"\"", "`header` is empty"),
        (
            "header = \"cookie\"",
            "`header` must be the name of a header, found `cookie`",
        ),
        (
            "header = \"host\"",
            "`header` must be the name of a header, found `host`",
        ),
        ("header = \"authorization\", scheme = \"\"", "`scheme` is empty"),
        (
            "header = \"authorization\", scheme = \"Bearer \"",
            "`scheme` must be one word, found `Bearer `",
        ),
        (
            "cookie = \"a b\"",
            "`cookie` must be the name of a cookie, found `a b`",
        ),
        ("cookie = \"\"", "`cookie` is empty"),
        ("query = \"\"", "`query` is empty"),
        (
            "query = \"a%20b\"",
            "`query` must be the name of a query parameter, found `a%20b`",
        ),
        (
            "websocket_protocol = \"two words\"",
            "`websocket_protocol` must be the name of a protocol, found `two words`",
        ),
    ] {
        let text = format!("[credentials]\nsources = [\n{{ cookie = \"ok\" }},\n{{ {source} }},\n]\n");
        let mut problems = Problems::new(Path::new("gateway.toml"), &text);
        crate::config::read(&mut problems);
        let [problem] = problems.errors() else {
            panic!("{message}: {:?}", problems.errors())
        };
        assert_eq!(
            (problem.message.as_str(), problems.place(&problem.span).line),
            (message, 4)
        );
        assert!(problem.hint.is_some());
    }
}

#[test]
fn a_source_that_stands_twice_is_an_error_that_names_both() {
    for (first, second) in [
        (
            header("authorization", Some("Bearer")),
            header("Authorization", Some("bearer")),
        ),
        (header("x-token", None), header("x-token", None)),
        (cookie("s"), cookie("s")),
        (query("t"), query("t")),
    ] {
        let (_, problems) = compile(&[first, second]);
        let [problem] = problems.errors() else {
            panic!("{:?}", problems.errors())
        };
        assert!(problem.message.ends_with("appears twice"), "{}", problem.message);
        assert_eq!(
            (
                problem.span.start,
                problem.also.as_ref().map(|(span, _)| span.start)
            ),
            (10, Some(0))
        );
    }
    sources(&[
        header("authorization", Some("Bearer")),
        header("authorization", Some("Token")),
        cookie("s"),
        query("s"),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_found_token_is_visible_ascii_and_nothing_of_it_is_left_after_strip(
        authorization in prop::option::of("(Bearer|bearer|Basic|)[ \t]{0,2}[a-c .,é]{0,6}"),
        cookies in prop::collection::vec("[st=; a\"é]{0,12}", 0..3),
        query in prop::option::of("[act=&%2eé]{0,12}|(access_token=[a%2e]{0,4}&?){0,3}"),
    ) {
        let mut map = HeaderMap::new();
        if let Some(line) = authorization {
            map.append(AUTHORIZATION, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        for line in cookies {
            map.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let all = all();
        match all.find(&map, query.as_deref()) {
            Ok(Some(found)) => prop_assert!(!found.token.is_empty() && found.token.bytes().all(|byte| byte.is_ascii_graphic())),
            Ok(None) => {}
            Err(refusal) => prop_assert!(
                matches!(refusal, Refusal::CredentialMalformed | Refusal::CredentialRepeated)
            ),
        }
        all.strip(&mut map, None);
        let query = match all.strip_query(query.as_deref(), None) {
            None => query,
            Some(query) => query,
        };
        prop_assert!(matches!(all.find(&map, query.as_deref()), Ok(None)));
        prop_assert_eq!(all.strip_query(query.as_deref(), None), None);
    }
}

fn protocol(name: &str) -> RawSource {
    RawSource::WebSocketProtocol(Token::parse(name).unwrap())
}

#[test]
fn a_token_behind_the_name_of_a_protocol_is_found_in_any_case_and_over_lines() {
    const LIST: &str = "sec-websocket-protocol";
    let sources = sources(&[protocol("bearer")]);
    let cases: [(&[&str], Summary, &[&str]); 14] = [
        (&[], Ok(None), &[]),
        (&["chat, v2"], Ok(None), &["chat, v2"]),
        (&["bearer, a.b.c"], token(Kind::WebSocketProtocol, "a.b.c"), &[]),
        (&["Bearer,a.b.c"], token(Kind::WebSocketProtocol, "a.b.c"), &[]),
        (
            &["chat, BEARER ,\ta.b.c , v2"],
            token(Kind::WebSocketProtocol, "a.b.c"),
            &["chat, v2"],
        ),
        (&["bearer", "a.b.c"], token(Kind::WebSocketProtocol, "a.b.c"), &[]),
        (
            &["chat, bearer", "a.b.c, v2", "v3"],
            token(Kind::WebSocketProtocol, "a.b.c"),
            &["chat, v2, v3"],
        ),
        (&["bearer,, a.b.c"], token(Kind::WebSocketProtocol, "a.b.c"), &[]),
        (&["bearer"], Err(Refusal::CredentialMalformed), &[]),
        (&["chat, bearer"], Err(Refusal::CredentialMalformed), &["chat"]),
        (&["bearer, a b"], Err(Refusal::CredentialMalformed), &[]),
        (
            &["bearer, a.b.c, bearer, d.e.f"],
            Err(Refusal::CredentialRepeated),
            &[],
        ),
        (
            &["bearer, a.b.c", "Bearer, a.b.c, chat"],
            Err(Refusal::CredentialRepeated),
            &["chat"],
        ),
        (&["bearer, bearer"], Err(Refusal::CredentialRepeated), &[]),
    ];
    for (lines, expected, left) in cases {
        let lines: Vec<_> = lines.iter().map(|line| (LIST, *line)).collect();
        assert_eq!(find(&sources, &lines, None), expected, "{lines:?}");
        let mut headers = headers(&lines);
        sources.strip(&mut headers, None);
        let found: Vec<_> = headers
            .get_all(LIST)
            .iter()
            .map(|line| line.to_str().unwrap())
            .collect();
        assert_eq!(found, left, "{lines:?}");
    }
    // An app that folds names must not find a token in another spelling.
    let mut lookalike = headers(&[
        ("sec_websocket_protocol", "bearer, a.b.c"),
        (LIST, "bearer, a.b.c"),
    ]);
    sources.strip_lookalikes(&mut lookalike);
    assert_eq!(lookalike.len(), 1);
    let offered = |line: &str| sources.websocket_protocol(&headers(&[(LIST, line)]));
    assert_eq!(offered("chat, BeareR, a.b.c").unwrap(), "BeareR");
    assert_eq!(offered("chat"), None);
    assert!(
        compile(&[protocol("bearer"), protocol("Bearer")])
            .1
            .errors()
            .len()
            == 1,
        "twice"
    );
}
