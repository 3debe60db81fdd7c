#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn scan(bytes: &[u8]) -> Result<bool, Refusal> {
    let mut scanner = Scanner::new(4096);
    scanner.feed(bytes)?;
    Ok(scanner.is_between_requests())
}

#[test]
fn whole_requests_are_followed_to_their_ends() {
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-length:0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked \r\n\r\n5;a=b\r\nhel\r\n\r\n0;x\r\nA: b\r\nC: d\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        // Some clients end a body with an empty line more; that does not begin a request.
        "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\na\r\n",
    ] {
        assert_eq!(scan(request.as_bytes()), Ok(true), "{request}");
    }
    assert_eq!(
        scan(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell"),
        Ok(false)
    );
}

#[test]
fn whatever_two_parties_could_read_differently_is_refused() {
    for (request, refusal) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Refusal::AmbiguousFraming),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Refusal::AmbiguousFraming),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Refusal::AmbiguousFraming),
        ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Refusal::AmbiguousFraming),
        (
            "GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: ,chunked\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::AmbiguousFraming,
        ),
        ("GET  / HTTP/1.1\r\n\r\n", Refusal::MalformedHead),
        ("GET / HTTP/1.1 \r\n\r\n", Refusal::MalformedHead),
        ("GET / HTTP/2.0\r\n\r\n", Refusal::MalformedHead),
        ("GET /a b HTTP/1.1\r\n\r\n", Refusal::MalformedHead),
        ("GET /a#b HTTP/1.1\r\n\r\n", Refusal::TargetByte),
        ("GET /\u{e9} HTTP/1.1\r\n\r\n", Refusal::TargetByte),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", Refusal::MalformedHead),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Refusal::MalformedHead),
    ] {
        assert_eq!(scan(request.as_bytes()), Err(refusal), "{request:?}");
    }
}

#[test]
fn chunks_are_held_to_the_letter() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nhello",
        "0\r\n folded: x\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\na: b\n\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(
            scan(request.as_bytes()),
            Err(Refusal::AmbiguousFraming),
            "{body:?}"
        );
    }
}

#[test]
fn heads_targets_and_trailers_have_limits_also_before_their_line_ends() {
    let long = "a".repeat(5000);
    assert_eq!(
        scan(format!("GET / HTTP/1.1\r\nA: {long}").as_bytes()),
        Err(Refusal::HeadersTooLarge)
    );
    let many = "A: b\r\n".repeat(1000);
    assert_eq!(
        scan(format!("GET / HTTP/1.1\r\n{many}").as_bytes()),
        Err(Refusal::HeadersTooLarge)
    );
    let mut wide = Scanner::new(1 << 20);
    assert_eq!(
        wide.feed(format!("GET /{}", "a".repeat(9000)).as_bytes()),
        Err(Refusal::TargetTooLong)
    );
    let trailers = "A: b\r\n".repeat(2000);
    let request = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailers}");
    assert_eq!(scan(request.as_bytes()), Err(Refusal::HeadersTooLarge));
}

proptest! {
    #[test]
    fn how_the_bytes_arrive_makes_no_difference(cuts in proptest::collection::vec(1_usize..20, 1..40)) {
        let all = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\n\
            POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /c HTTP/1.1\r\nHost: c\r\n\r\n";
        let mut scanner = Scanner::new(4096);
        let mut rest = &all[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            prop_assert_eq!(scanner.feed(now), Ok(()));
            rest = later;
            if rest.is_empty() { break; }
        }
        prop_assert!(scanner.is_between_requests());
    }

    #[test]
    fn no_input_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut scanner = Scanner::new(128);
        let _ = scanner.feed(&bytes);
    }
}
