#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn parse(target: &str) -> Result<Target, Refusal> {
    Target::parse(
        &target
            .parse::<Uri>()
            .unwrap_or_else(|_| panic!("http::Uri refuses {target:?}")),
    )
}

fn parsed(target: &str) -> Target {
    parse(target).unwrap_or_else(|refusal| panic!("{target:?} is refused: {refusal}"))
}

fn all() -> PathLeniency {
    PathLeniency {
        encoded_slash: true,
        empty_segment: true,
        path_parameter: true,
        not_utf8: true,
        double_encoding: true,
    }
}

#[test]
fn a_canonical_target_passes_unchanged_and_shares_its_bytes() {
    for target in [
        "/",
        "/?",
        "/?a=b",
        "/a",
        "/a/",
        "/a/b.c/d-e_f~g",
        "/.well-known/jwks.json",
        "/...",
        "/.../a",
        "/..a/b..",
        "/.a",
        "/a./b",
        "/a%20b",
        "/caf%C3%A9",
        "/%25",
        "/100%25",
        "/100%25%20sure",
        "/a%25bc",
        "/%2525",
        "/%255c",
        "/%252f",
        "/%3B",
        "/%E2%82%AC",
        "/%F0%9F%98%80",
        "/@scope/pkg:1!$&'()*+,=",
        "/a?x=%2e%2e/../%zz;\\//{}|",
        "/a?b?c",
    ] {
        let uri: Uri = target.parse().unwrap();
        let parsed = Target::parse(&uri).unwrap_or_else(|refusal| panic!("{target}: {refusal}"));
        assert_eq!(parsed.path_and_query().as_str(), target);
        assert_eq!(
            parsed.path_and_query().as_str().as_ptr(),
            uri.path_and_query().unwrap().as_str().as_ptr()
        );
        assert!(parsed.oddities().is_none(), "{target}");
        assert_eq!(parsed.path(), uri.path());
        assert_eq!(parsed.query(), uri.query());
    }
}

#[test]
fn equal_paths_get_one_spelling() {
    for (sent, path, matching) in [
        ("/%61dmin", "/admin", "/admin"),
        ("/%41%5A%7a%30%2D%5f%7E", "/AZz0-_~", "/AZz0-_~"),
        ("/%2Ewell-known", "/.well-known", "/.well-known"),
        ("/%2e%2e%2e", "/...", "/..."),
        ("/a%c3%a9", "/a%C3%A9", "/a%C3%A9"),
        ("/a%3fb%23", "/a%3Fb%23", "/a%3Fb%23"),
        // Not decoded twice: `%25` stays, and what follows it is text.
        ("/%25%32%66", "/%252f", "/%252f"),
        // Only for the match: RFC 3986 section 2.2 lets an app tell these apart.
        ("/%40scope", "/%40scope", "/@scope"),
        ("/users%3adelete", "/users%3Adelete", "/users:delete"),
        (
            "/%21%24%26%27%28%29%2A%2B%2C%3D",
            "/%21%24%26%27%28%29%2A%2B%2C%3D",
            "/!$&'()*+,=",
        ),
        // ASCII that a path may not hold raw.
        (
            "/[id]|{x}^\"",
            "/%5Bid%5D%7C%7Bx%7D%5E%22",
            "/%5Bid%5D%7C%7Bx%7D%5E%22",
        ),
        (
            "/%5bid%5d%7c%7bx%7d%5e%22",
            "/%5Bid%5D%7C%7Bx%7D%5E%22",
            "/%5Bid%5D%7C%7Bx%7D%5E%22",
        ),
    ] {
        let target = parsed(sent);
        assert_eq!((target.path(), target.matching()), (path, matching), "{sent}");
        assert!(target.oddities().is_none(), "{sent}");
    }
}

#[test]
fn the_query_stays_byte_for_byte_when_the_path_is_rewritten() {
    assert_eq!(
        parsed("/%61?%61=%2e%2e&b=/../;x").path_and_query(),
        "/a?%61=%2e%2e&b=/../;x"
    );
    assert_eq!(parsed("/%61?").path_and_query(), "/a?");
    assert_eq!(parsed("/%61").query(), None);
}

#[test]
fn dot_segments_are_refused_in_every_spelling() {
    for path in [
        "/.",
        "/..",
        "/./",
        "/../",
        "/a/.",
        "/a/..",
        "/a/./b",
        "/a/../b",
        "/%2e",
        "/%2E",
        "/%2e%2e",
        "/%2E%2E",
        "/.%2e",
        "/%2e.",
        "/a/%2e%2E/b",
        "/..;x",
        "/..;",
        "/.;x=1/b",
        "/%2e%2e;a/b",
        "/a/..;a=b;c=d/b",
        // Between encoded slashes, whether or not a route accepts those.
        "/a%2f..%2fb",
        "/a%2F%2e%2e%2Fb",
        "/%2e%2e%2fetc",
        "/..%2f",
        "/.%2f",
        "/a%2f..",
        "/a%2f.",
        "/a%2f.;x",
        "/a%2f..;x",
        "/a/..%2Fb",
        "/a%2f../b",
        // For an app that decodes before it cuts off parameters or a query.
        "/..%3b",
        "/..%3Bx/b",
        "/.%3b",
        "/%2e%2e%3bx",
        "/..%3f",
        "/..%23x",
        // With other oddities before them.
        "/a//..",
        "/a/;x/..",
        "/a;x/../b",
        "/a;x/..;y/b",
        "/a/;/..",
        "/a//./b",
    ] {
        assert_eq!(parse(path).err(), Some(Refusal::PathDotSegment), "{path}");
        assert_eq!(
            parse(&format!("{path}?q=1")).err(),
            Some(Refusal::PathDotSegment),
            "{path}"
        );
    }
}

#[test]
fn what_only_looks_like_a_dot_segment_passes() {
    for path in [
        "/...",
        "/.a",
        "/a.",
        "/a..",
        "/..a",
        "/.%20",
        "/a;..",
        "/a;x=../b",
        "/%252e%252e",
        "/.%252e",
        "/%25..",
    ] {
        // What shows once it is decoded again is another oddity.
        parsed(path);
    }
}

#[test]
fn spellings_that_apps_read_differently_are_refused() {
    for (path, refusal) in [
        ("/a\\b", Refusal::PathBackslash),
        ("/..\\", Refusal::PathBackslash),
        ("/\\..\\b", Refusal::PathBackslash),
        ("/a%5cb", Refusal::PathBackslash),
        ("/a%5Cb", Refusal::PathBackslash),
        ("/..%5c..", Refusal::PathBackslash),
        ("/a;x\\", Refusal::PathBackslash),
        ("/a;%5c", Refusal::PathBackslash),
        ("/%00", Refusal::PathEncodedControl),
        ("/a%00.txt", Refusal::PathEncodedControl),
        ("/a;x%00", Refusal::PathEncodedControl),
        ("/%0d%0aX:y", Refusal::PathEncodedControl),
        ("/%09", Refusal::PathEncodedControl),
        ("/%1f", Refusal::PathEncodedControl),
        ("/%7F", Refusal::PathEncodedControl),
        ("/%", Refusal::PathBadEncoding),
        ("/%2", Refusal::PathBadEncoding),
        ("/%g0", Refusal::PathBadEncoding),
        ("/%0g", Refusal::PathBadEncoding),
        ("/%%32%65", Refusal::PathBadEncoding),
        ("/%u002e", Refusal::PathBadEncoding),
        ("/%+2", Refusal::PathBadEncoding),
        ("/%-1", Refusal::PathBadEncoding),
        ("/a%2?e", Refusal::PathBadEncoding),
        ("/a;%2", Refusal::PathBadEncoding),
        // Overlong UTF-8: other spellings of `.`, `/` and `\`.
        ("/%c0%ae%c0%ae/", Refusal::PathBadEncoding),
        ("/%C0%AF", Refusal::PathBadEncoding),
        ("/%c1%9c", Refusal::PathBadEncoding),
        ("/%e0%80%ae", Refusal::PathBadEncoding),
        ("/%f0%80%80%ae", Refusal::PathBadEncoding),
        ("/é", Refusal::TargetByte),
        ("/a/€", Refusal::TargetByte),
        ("/a;é", Refusal::TargetByte),
        // A slash in a parameter: where the parameter ends depends on what an app does first.
        ("/a;x%2fb", Refusal::PathEncodedSlash),
        ("/a;%2f..%2fb", Refusal::PathEncodedSlash),
    ] {
        assert_eq!(parse(path).err(), Some(refusal), "{path}");
    }
    assert_eq!(
        Target::parse(&Uri::from_static("*")).err(),
        Some(Refusal::TargetForm)
    );
    assert_eq!(
        Target::parse(&Uri::from_static("example.com:443")).err(),
        Some(Refusal::TargetForm)
    );
    let of_h2 = |path: &'static str| {
        let uri = Uri::builder().scheme("https").authority("a.example");
        Target::parse(
            &uri.path_and_query(PathAndQuery::from_static(path))
                .build()
                .unwrap(),
        )
    };
    assert_eq!(of_h2("?x").err(), Some(Refusal::TargetForm));
    assert_eq!(of_h2("*").err(), Some(Refusal::TargetForm));
    assert_eq!(of_h2("/x?y").unwrap().path_and_query(), "/x?y");
    assert_eq!(of_h2("/").unwrap().path_and_query(), "/");
    for cut in ["#", "#/admin"] {
        let uri = Uri::builder()
            .scheme("https")
            .authority("a.example")
            .path_and_query(cut)
            .build()
            .unwrap();
        assert_eq!(Target::parse(&uri).err(), Some(Refusal::TargetForm), "{cut}");
    }
}

#[test]
fn the_length_limit_counts_path_and_query() {
    let longest = format!("/{}?{}", "a".repeat(4000), "b".repeat(MAX_TARGET_BYTES - 4002));
    assert!(parse(&longest).is_ok());
    assert_eq!(parse(&format!("{longest}b")).err(), Some(Refusal::TargetTooLong));
    // As it is forwarded: `|` becomes `%7C`.
    let escaped = |count: usize| format!("/{}", "|".repeat(count));
    assert!(parse(&escaped((MAX_TARGET_BYTES - 1) / 3)).is_ok());
    assert_eq!(
        parse(&escaped(MAX_TARGET_BYTES / 3 + 1)).err(),
        Some(Refusal::TargetTooLong)
    );
}

#[test]
fn oddities_are_named_and_left_out_of_the_match() {
    let slash = PathLeniency {
        encoded_slash: true,
        ..PathLeniency::default()
    };
    let empty = PathLeniency {
        empty_segment: true,
        ..PathLeniency::default()
    };
    let parameter = PathLeniency {
        path_parameter: true,
        ..PathLeniency::default()
    };
    let foreign = PathLeniency {
        not_utf8: true,
        ..PathLeniency::default()
    };
    let double = PathLeniency {
        double_encoding: true,
        ..PathLeniency::default()
    };
    for (sent, path, matching, oddities) in [
        ("/a%2fb", "/a%2Fb", "/a%2Fb", slash),
        ("/a%2f", "/a%2F", "/a%2F", slash),
        ("/a//", "/a//", "/a/", empty),
        ("/a///b", "/a///b", "/a/b", empty),
        ("/a;x", "/a;x", "/a", parameter),
        ("/a;x=1;y/b;z/", "/a;x=1;y/b;z/", "/a/b/", parameter),
        ("/a;", "/a;", "/a", parameter),
        ("/%61;%61%3a", "/a;a%3A", "/a", parameter),
        ("/a;[x]", "/a;%5Bx%5D", "/a", parameter),
        (
            "/;x",
            "/;x",
            "/",
            PathLeniency {
                empty_segment: true,
                ..parameter
            },
        ),
        (
            "/a/;x",
            "/a/;x",
            "/a/",
            PathLeniency {
                empty_segment: true,
                ..parameter
            },
        ),
        (
            "/a/;x/b",
            "/a/;x/b",
            "/a/b",
            PathLeniency {
                empty_segment: true,
                ..parameter
            },
        ),
        (
            "/a//b;x%20",
            "/a//b;x%20",
            "/a/b",
            PathLeniency {
                empty_segment: true,
                ..parameter
            },
        ),
        // Empty once `%2F` is decoded.
        (
            "/a/%2fb",
            "/a/%2Fb",
            "/a/%2Fb",
            PathLeniency {
                empty_segment: true,
                ..slash
            },
        ),
        (
            "/a%2f%2fb",
            "/a%2F%2Fb",
            "/a%2F%2Fb",
            PathLeniency {
                empty_segment: true,
                ..slash
            },
        ),
        (
            "/a%2f/b",
            "/a%2F/b",
            "/a%2F/b",
            PathLeniency {
                empty_segment: true,
                ..slash
            },
        ),
        (
            "/a%2f;x",
            "/a%2F;x",
            "/a%2F",
            PathLeniency {
                empty_segment: true,
                path_parameter: true,
                ..slash
            },
        ),
        (
            "/a%2fb;x/c",
            "/a%2Fb;x/c",
            "/a%2Fb/c",
            PathLeniency {
                path_parameter: true,
                ..slash
            },
        ),
        // Not UTF-8 (RFC 3629): alone, cut short, in the wrong order, a surrogate, past the last character.
        ("/adm%ffin", "/adm%FFin", "/adm%FFin", foreign),
        ("/latin-%E9", "/latin-%E9", "/latin-%E9", foreign),
        ("/%80", "/%80", "/%80", foreign),
        ("/%e2%82", "/%E2%82", "/%E2%82", foreign),
        ("/%e2%82x", "/%E2%82x", "/%E2%82x", foreign),
        ("/%e2%82/%ac", "/%E2%82/%AC", "/%E2%82/%AC", foreign),
        ("/%a9%c3", "/%A9%C3", "/%A9%C3", foreign),
        ("/%c3%a9%a9", "/%C3%A9%A9", "/%C3%A9%A9", foreign),
        ("/%ed%a0%80", "/%ED%A0%80", "/%ED%A0%80", foreign),
        ("/%f4%90%80%80", "/%F4%90%80%80", "/%F4%90%80%80", foreign),
        ("/%fe%fe%ff%ff", "/%FE%FE%FF%FF", "/%FE%FE%FF%FF", foreign),
        (
            "/a;%ff",
            "/a;%FF",
            "/a",
            PathLeniency {
                not_utf8: true,
                ..parameter
            },
        ),
        // An unreserved character that shows when the path is decoded again, and again.
        ("/%2561dmin", "/%2561dmin", "/%2561dmin", double),
        ("/%252e%252E/", "/%252e%252E/", "/%252e%252E/", double),
        ("/%25%36%31", "/%2561", "/%2561", double),
        ("/%25%361", "/%2561", "/%2561", double),
        ("/%252561", "/%252561", "/%252561", double),
        ("/%25252561", "/%25252561", "/%25252561", double),
        ("/%25%32%35%36%31", "/%252561", "/%252561", double),
        ("/a%257e", "/a%257e", "/a%257e", double),
        (
            "/a;%2561",
            "/a;%2561",
            "/a",
            PathLeniency {
                double_encoding: true,
                ..parameter
            },
        ),
    ] {
        let target = parsed(sent);
        assert_eq!(
            (target.path(), target.matching(), target.oddities()),
            (path, matching, oddities),
            "{sent}"
        );
        assert_eq!(oddities.refusal_unless(all()), None);
        assert_eq!(oddities.refusal_unless(oddities), None);
        assert!(oddities.refusal_unless(PathLeniency::default()).is_some());
    }
    assert_eq!(slash.refusal_unless(empty), Some(Refusal::PathEncodedSlash));
    assert_eq!(empty.refusal_unless(parameter), Some(Refusal::PathEmptySegment));
    assert_eq!(parameter.refusal_unless(slash), Some(Refusal::PathParameter));
    assert_eq!(foreign.refusal_unless(double), Some(Refusal::PathNotUtf8));
    assert_eq!(double.refusal_unless(foreign), Some(Refusal::PathDoubleEncoding));
    assert_eq!(
        PathLeniency::default().refusal_unless(PathLeniency::default()),
        None
    );
}

#[test]
fn a_path_that_begins_with_an_empty_segment_is_refused_in_every_spelling() {
    for path in [
        "//",
        "//admin",
        "///",
        "//a//b",
        "/%2f",
        "/%2F",
        "/%2fadmin",
        "/%2F/admin",
        "/;/admin",
        "/;x/admin",
        "/;x=1;y//a",
    ] {
        assert_eq!(parse(path).err(), Some(Refusal::PathEmptySegment), "{path}");
    }
    let rest = |path: &str| {
        parsed(path)
            .rewritten(Some("/public"), "", QueryEdit::Keep)
            .map(|rest| rest.to_string())
    };
    for path in ["/public/%2Fadmin", "/public/;x/admin", "/public//%2Fadmin"] {
        assert_eq!(rest(path).err(), Some(Refusal::PathEmptySegment), "{path}");
    }
    for (path, expected) in [
        ("/public//admin", "/admin"),
        ("/public/;x", "/;x"),
        ("/public/a%2Fb", "/a%2Fb"),
    ] {
        assert_eq!(rest(path).as_deref(), Ok(expected));
    }
}

#[test]
fn an_odd_path_is_read_in_every_way_that_apps_have() {
    let readings = |path: &str| parsed(path).other_readings().collect::<Vec<_>>();
    let ok = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| Ok((*path).to_owned()))
            .collect::<Vec<_>>()
    };
    for plain in ["/", "/a/b", "/a;x/b", "/a//b", "/caf%C3%A9", "/100%25"] {
        assert_eq!(readings(plain), [], "{plain}");
    }
    assert_eq!(readings("/admin%2Fx"), ok(&["/admin/x"]));
    assert_eq!(readings("/adm%FFin/%c3%a9%E9"), ok(&["/admin/%C3%A9"]));
    assert_eq!(readings("/%2561dmin/%25/%25zz"), ok(&["/admin/%25/%25zz"]));
    assert_eq!(readings("/%25252561dmin"), ok(&["/admin"]));
    assert_eq!(readings("/%2561dmin%252Fx"), ok(&["/admin/x"]));
    assert_eq!(
        readings("/a%2Fdm%FFin"),
        ok(&["/a%2Fdmin", "/a/dm%FFin", "/a/dmin"])
    );
    // A way that shows what is refused.
    assert_eq!(readings("/a/%252e%252e/b"), [Err(Refusal::PathDotSegment)]);
    assert_eq!(readings("/a/.%FF./b"), [Err(Refusal::PathDotSegment)]);
    assert_eq!(readings("/%2561%2500"), [Err(Refusal::PathEncodedControl)]);
}

#[test]
fn oddities_have_the_names_of_the_file() {
    let named = PathLeniency::NAMES
        .iter()
        .try_fold(PathLeniency::default(), |oddities, name| oddities.with_name(name));
    assert_eq!(named, Some(all()));
    assert_eq!(PathLeniency::default().with_name("encoded_slash"), None);
}

#[test]
fn a_prefix_is_cut_off_by_whole_segments() {
    for (sent, prefix, forwarded) in [
        ("/admin/users?q=1", "/admin", "/users?q=1"),
        ("/admin", "/admin", "/"),
        ("/admin?q", "/admin", "/?q"),
        ("/admin/", "/admin", "/"),
        ("/admin/users/", "/admin/", "/users/"),
        ("/administrator", "/admin", "/administrator"),
        ("/other", "/admin", "/other"),
        ("/a/b/c", "/a/b", "/c"),
        ("/a/bc", "/a/b", "/a/bc"),
        ("/a", "/a/b", "/a"),
        ("/x", "/", "/x"),
        ("/%61dmin/x", "/admin", "/x"),
        ("/admin/x", "/%61dmin", "/x"),
        ("/%40me/x", "/@me", "/x"),
        ("/@me/%40x", "/%40me", "/%40x"),
        ("/caf%c3%a9/x", "/café", "/x"),
        // Parameters and empty segments, where a route accepts them.
        ("/admin;v=1/users;w=2", "/admin", "/users;w=2"),
        ("/admin;v=1", "/admin", "/"),
        ("/admin//evil.example/x", "/admin", "/evil.example/x"),
        ("/a//b/c", "/a/b", "/c"),
        ("/admin%2Fx", "/admin", "/admin%2Fx"),
        ("/;x", "/admin", "/;x"),
    ] {
        let prefix = canonical_prefix(prefix).unwrap();
        assert_eq!(
            parsed(sent)
                .rewritten(Some(&prefix), "", QueryEdit::Keep)
                .unwrap(),
            forwarded,
            "{sent} - {prefix}"
        );
    }
    assert_eq!(canonical_prefix("admin"), Err(Refusal::TargetForm));
    assert_eq!(canonical_prefix("/a/../b"), Err(Refusal::PathDotSegment));
    assert_eq!(canonical_prefix("/a//b"), Err(Refusal::PathEmptySegment));
}

#[test]
fn a_query_is_replaced_or_taken_away() {
    let target = parsed("/a/b?token=x&y=1");
    assert_eq!(
        target.rewritten(None, "", QueryEdit::Keep).unwrap(),
        "/a/b?token=x&y=1"
    );
    assert_eq!(
        target.rewritten(None, "/base", QueryEdit::Keep).unwrap(),
        "/base/a/b?token=x&y=1"
    );
    assert_eq!(
        target.rewritten(Some("/a"), "/base", QueryEdit::Keep).unwrap(),
        "/base/b?token=x&y=1"
    );
    assert_eq!(
        target
            .rewritten(Some("/a/b"), "/base", QueryEdit::Replace(None))
            .unwrap(),
        "/base/"
    );
    assert_eq!(
        target
            .rewritten(None, "", QueryEdit::Replace(Some("y=1")))
            .unwrap(),
        "/a/b?y=1"
    );
    assert_eq!(
        target
            .rewritten(Some("/a"), "", QueryEdit::Replace(None))
            .unwrap(),
        "/b"
    );
}

#[test]
fn pattern_segments_are_spelled_as_paths_are() {
    for (segment, spelled) in [
        ("admin", "admin"),
        ("%61dmin", "admin"),
        ("a.b", "a.b"),
        ("@me", "@me"),
        ("%40me", "@me"),
        ("café", "caf%C3%A9"),
        ("caf%c3%a9", "caf%C3%A9"),
        ("a b", "a%20b"),
        ("[x]", "%5Bx%5D"),
        ("a%2fb", "a%2Fb"),
        ("%3B", "%3B"),
        ("100%25", "100%25"),
    ] {
        assert_eq!(
            canonical_pattern_segment(segment).as_deref(),
            Ok(spelled),
            "{segment}"
        );
    }
    for (segment, refusal) in [
        ("", Refusal::PathEmptySegment),
        (".", Refusal::PathDotSegment),
        ("%2e%2e", Refusal::PathDotSegment),
        ("a;b", Refusal::PathParameter),
        ("a\\b", Refusal::PathBackslash),
        ("a%", Refusal::PathBadEncoding),
        ("a%00", Refusal::PathEncodedControl),
        ("a?b", Refusal::TargetByte),
        ("a#b", Refusal::TargetByte),
        ("a/b", Refusal::TargetByte),
        ("a\tb", Refusal::TargetByte),
        ("%2F", Refusal::PathEmptySegment),
    ] {
        assert_eq!(
            canonical_pattern_segment(segment).err(),
            Some(refusal),
            "{segment}"
        );
    }
}

/// Paths made of the pieces that attacks are made of.
fn hostile_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", "a", "admin", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", ";", ";x=1", "%3b",
        "%25", "2e", "2f", "%00", "%61", "%7e", "%40", "@", "%", "%2", "|", "[", "%c3%a9", "%C0%AE", "%20",
        "é", ":", "+",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// What an app may make of a path: `%XX` decoded once, parameters dropped before or after that, `\` taken for `/`.
fn readings(path: &str) -> Vec<String> {
    let decode = |text: &str| {
        let bytes = text.as_bytes();
        let (mut out, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            match text
                .get(at + 1..at + 3)
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            {
                Some(value) if bytes[at] == b'%' => {
                    out.push(value);
                    at += 3;
                }
                _ => {
                    out.push(bytes[at]);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let drop = |text: &str| {
        text.split('/')
            .map(|segment| segment.split(';').next().unwrap_or(""))
            .collect::<Vec<_>>()
            .join("/")
    };
    [
        path.to_owned(),
        decode(path),
        drop(path),
        decode(&drop(path)),
        drop(&decode(path)),
    ]
    .into_iter()
    .map(|reading| reading.replace('\\', "/"))
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_reading_of_an_accepted_path_has_a_dot_segment(path in hostile_path()) {
        let Ok(target) = parse(&path) else { return Ok(()) };
        for sent in [target.path(), target.matching()] {
            for reading in readings(sent) {
                let dots = reading.split('/').any(|segment| segment == "." || segment == "..");
                prop_assert!(!dots, "{path} -> {sent} -> {reading}");
                prop_assert!(!reading.bytes().any(|byte| byte.is_ascii_control()), "{path} -> {reading:?}");
            }
        }
    }

    #[test]
    fn a_path_without_oddities_reads_the_same_to_every_app(path in hostile_path()) {
        let Ok(target) = parse(&path) else { return Ok(()) };
        if target.oddities().is_none() && !target.path().contains("%3B") {
            let [_, decoded, _, dropped_first, decoded_first] = readings(target.path()).try_into().unwrap();
            prop_assert_eq!(&decoded, &dropped_first);
            prop_assert_eq!(&decoded, &decoded_first);
            prop_assert!(!target.matching().contains("//"));
        }
    }

    #[test]
    fn the_canonical_spelling_is_stable(path in hostile_path()) {
        let Ok(once) = parse(&path) else { return Ok(()) };
        let twice = parsed(once.path());
        prop_assert_eq!(once.path(), twice.path());
        prop_assert_eq!(once.matching(), twice.matching());
        prop_assert_eq!(once.oddities(), twice.oddities());
        let of_matching = parsed(once.matching());
        prop_assert_eq!(of_matching.matching(), once.matching());
        prop_assert!(!of_matching.oddities().path_parameter);
    }

    #[test]
    fn patterns_and_paths_spell_a_segment_alike(segment in "[ -~é]{1,12}") {
        let Ok(spelled) = canonical_pattern_segment(&segment) else { return Ok(()) };
        prop_assert_eq!(canonical_pattern_segment(&spelled).unwrap(), spelled.clone());
        if let Ok(uri) = format!("/{segment}").parse::<Uri>() && let Ok(target) = Target::parse(&uri) {
            prop_assert_eq!(target.matching(), format!("/{spelled}"));
        }
    }

    #[test]
    fn rewriting_always_gives_a_target_that_parses_again(path in hostile_path(), query in "[a-z=&%;/]{0,8}") {
        let Ok(target) = parse(&format!("{path}?{query}")) else { return Ok(()) };
        let rewritten = match target.rewritten(Some("/a"), "", QueryEdit::Keep) {
            Ok(rewritten) => rewritten,
            Err(refusal) => {
                prop_assert!(refusal == Refusal::PathEmptySegment && target.oddities().empty_segment);
                return Ok(());
            }
        };
        prop_assert!(rewritten.as_str().starts_with('/'));
        prop_assert_eq!(rewritten.query(), Some(query.as_str()));
        prop_assert!(parse(rewritten.as_str()).is_ok());
    }

    #[test]
    fn nothing_panics(target in "\\PC{0,64}") {
        if let Ok(uri) = target.parse::<Uri>() {
            let _ = Target::parse(&uri);
        }
        let _ = canonical_pattern_segment(&target);
        let _ = canonical_prefix(&target);
    }
}
