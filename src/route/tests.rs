#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn methods(text: &str) -> Option<Vec<Method>> {
    (text != "any").then(|| text.split(' ').map(|method| method.parse().unwrap()).collect())
}

/// Lines of `host path methods`, `-` for no host; the value is the line's number.
fn builder(lines: &[&str]) -> Builder<usize> {
    let mut builder = Builder::new();
    for (number, line) in lines.iter().enumerate() {
        let mut words = line.splitn(3, ' ');
        let host = words
            .next()
            .filter(|host| *host != "-")
            .map(|host| HostPattern::parse(host).unwrap());
        let path = pattern(words.next().unwrap());
        assert_eq!(
            builder.add(host, path, methods(words.next().unwrap_or("any")), number),
            number
        );
    }
    builder
}

fn table(lines: &[&str]) -> Table<usize> {
    builder(lines)
        .build()
        .unwrap_or_else(|conflicts| panic!("{conflicts:?}"))
}

fn found(table: &Table<usize>, host: &str, path: &str) -> Option<usize> {
    match table.find(host, path, &Method::GET) {
        Lookup::Found(&index) => Some(index),
        Lookup::Missing => None,
        Lookup::MethodRefused { .. } => panic!("a method is refused"),
    }
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let mut lines = vec![
        "- /*",
        "- /admin/*",
        "- /admin/users",
        "- /admin/{page}",
        "- /admin/{page}/edit",
        "- /admin/users/edit",
        "- /admin/",
        "- /",
        "- /users/{id}/*",
    ];
    for _ in 0..lines.len() {
        let table = table(&lines);
        for (path, wanted) in [
            ("/", "- /"),
            ("/x", "- /*"),
            ("/x/y/z", "- /*"),
            ("/admin", "- /admin/*"),
            ("/admin/", "- /admin/"),
            ("/admin/users", "- /admin/users"),
            ("/admin/users/", "- /admin/*"),
            ("/admin/other", "- /admin/{page}"),
            ("/admin/other/edit", "- /admin/{page}/edit"),
            ("/admin/users/edit", "- /admin/users/edit"),
            ("/admin/users/delete", "- /admin/*"),
            ("/admin/a/b/c", "- /admin/*"),
            ("/administrator", "- /*"),
            ("/Admin/users", "- /*"),
            ("/users", "- /*"),
            ("/users/1", "- /users/{id}/*"),
            ("/users/1/a/b", "- /users/{id}/*"),
        ] {
            assert_eq!(
                found(&table, "h", path).map(|index| lines[index]),
                Some(wanted),
                "{path}"
            );
        }
        lines.rotate_left(1);
    }
}

#[test]
fn a_more_specific_prefix_that_leads_nowhere_falls_back_to_a_wider_path() {
    let table = table(&["- /{a}/{b}/c", "- /x/{b}/d", "- /x/y/e", "- /*"]);
    for (path, wanted) in [
        ("/x/y/e", 2),
        ("/x/y/d", 1),
        ("/x/y/c", 0),
        ("/x/y/f", 3),
        ("/x/z/d", 1),
        ("/q/y/d", 3),
        ("/x", 3),
    ] {
        assert_eq!(found(&table, "", path), Some(wanted), "{path}");
    }
}

#[test]
fn the_first_segment_from_the_left_that_differs_decides() {
    for (stronger, weaker, path) in [
        ("/a/b/*", "/a/{x}/c", "/a/b/c"),
        ("/c/*", "/{x}/b", "/c/b"),
        ("/a/{b}", "/{a}/b", "/a/b"),
        ("/a/*", "/{x}", "/a"),
        ("/a/*", "/{x}/b/c", "/a/b/c"),
        ("/a/{x}/*", "/{x}/b/*", "/a/b"),
        ("/a/{x}/c/d", "/{y}/b/*", "/a/b/c/d"),
        ("/{x}/b/*", "/{x}/{y}/c", "/1/b/c"),
        ("/{x}/b", "/{x}/*", "/1/b"),
        ("/a", "/a/*", "/a"),
        ("/", "/*", "/"),
        ("/a/", "/a/*", "/a/"),
        ("/a/", "/{x}/", "/a/"),
    ] {
        let lines = [format!("- {stronger}"), format!("- {weaker}")];
        let table_of = |first: usize, second: usize| table(&[&lines[first], &lines[second]]);
        assert_eq!(found(&table_of(0, 1), "h", path), Some(0), "{stronger} {weaker}");
        assert_eq!(found(&table_of(1, 0), "h", path), Some(1), "{stronger} {weaker}");
        let listed: Vec<usize> = table_of(1, 0).in_order().copied().collect();
        assert_eq!(listed, [1, 0], "{stronger} {weaker}");
    }
}

#[test]
fn a_search_that_finds_nothing_below_a_literal_goes_back_as_far_as_it_takes() {
    let table = table(&[
        "- /a/b/c/d",
        "- /a/{x}/c/e",
        "- /{x}/b/c/f",
        "- /{x}/{y}/{z}/g",
        "- /{x}/*",
    ]);
    for (path, wanted) in [
        ("/a/b/c/d", 0),
        ("/a/b/c/e", 1),
        ("/a/b/c/f", 2),
        ("/a/b/c/g", 3),
        ("/a/b/c/h", 4),
    ] {
        assert_eq!(found(&table, "h", path), Some(wanted), "{path}");
    }
    assert_eq!(found(&table, "h", "//b"), None);
}

#[test]
fn a_path_without_a_route_is_missing() {
    let table = table(&["- /a/*", "- /b"]);
    for path in ["/", "/b/", "/b/c", "/ab", "/A", "", "a", "b", "*"] {
        assert_eq!(table.find("h", path, &Method::GET), Lookup::Missing, "{path}");
    }
    assert_eq!(
        Builder::<()>::default()
            .build()
            .unwrap()
            .find("h", "/", &Method::GET),
        Lookup::Missing
    );
}

#[test]
fn the_most_specific_host_is_asked_first_and_a_less_specific_one_for_paths_it_lacks() {
    let table = table(&[
        "- /*",
        "*.example.com /a/*",
        "*.b.example.com /a/*",
        "x.b.example.com /a/b",
        "x.b.example.com /c POST",
        "*.example.com /c",
    ]);
    for (host, path, wanted) in [
        ("x.b.example.com", "/a/b", 3),
        ("x.b.example.com", "/a/c", 2),
        ("x.b.example.com", "/z", 0),
        ("y.b.example.com", "/a/b", 2),
        ("z.y.b.example.com", "/a/b", 2),
        ("b.example.com", "/a/b", 1),
        ("example.com", "/a/b", 0),
        ("evilexample.com", "/a/b", 0),
        (".example.com", "/a/b", 0),
        ("a.example.com.evil", "/a/b", 0),
        ("[::1]", "/a/b", 0),
        ("", "/a/b", 0),
        ("y.b.example.com", "/c", 5),
    ] {
        assert_eq!(found(&table, host, path), Some(wanted), "{host} {path}");
    }
    // Not the less specific host's route for GET.
    assert!(matches!(
        table.find("x.b.example.com", "/c", &Method::GET),
        Lookup::MethodRefused { some: 4, .. }
    ));
}

#[test]
fn a_method_is_looked_for_among_the_routes_of_the_one_pattern_only() {
    let table = table(&[
        "- /a GET POST",
        "- /a PUT",
        "- /a/*",
        "- /b/{x} DELETE",
        "- /b/* GET",
    ]);
    let find = |path, method: &str| table.find("h", path, &method.parse().unwrap());
    assert_eq!(find("/a", "GET"), Lookup::Found(&0));
    assert_eq!(find("/a", "POST"), Lookup::Found(&0));
    assert_eq!(find("/a", "PUT"), Lookup::Found(&1));
    assert_eq!(find("/a/", "DELETE"), Lookup::Found(&2));
    for method in ["HEAD", "get", "OPTIONS", "GETT", "DELETE"] {
        let allow = HeaderValue::from_static("GET, POST, PUT");
        assert_eq!(
            find("/a", method),
            Lookup::MethodRefused {
                allow: &allow,
                some: &0
            },
            "{method}"
        );
    }
    let allow = HeaderValue::from_static("DELETE");
    assert_eq!(
        find("/b/1", "GET"),
        Lookup::MethodRefused {
            allow: &allow,
            some: &3
        }
    );
    let mut none = Builder::new();
    none.add(None, pattern("/"), Some(Vec::new()), ());
    assert!(matches!(
        none.build().unwrap().find("h", "/", &Method::GET),
        Lookup::MethodRefused { .. }
    ));
}

#[test]
fn routes_that_tie_are_conflicts_with_an_example() {
    for (lines, first, second, example) in [
        (&["- /a", "- /a"][..], 0, 1, "/a"),
        (&["- /a GET", "- /b", "- /a GET POST"], 0, 2, "/a"),
        (&["- /a GET", "- /a", "- /a PUT", "- /a"], 1, 3, "/a"),
        (&["- /a", "- /a GET", "- /a POST GET"], 1, 2, "/a"),
        (&["- /{x}", "- /{y}"], 0, 1, "/x"),
        (&["- /*", "- /*"], 0, 1, "/"),
        (&["- /ä", "- /%c3%a4"], 0, 1, "/%C3%A4"),
        (&["- /@a", "- /%40a"], 0, 1, "/@a"),
        (&["- /a/{x}/*", "- /*", "- /a/{y}/*"], 0, 2, "/a/x"),
        (
            &["- /a/{x}/ GET POST", "- /a/{y}/ PUT", "- /a/{z}/ DELETE PUT"],
            1,
            2,
            "/a/x/",
        ),
        (&["h.example /a", "H.EXAMPLE. /a"], 0, 1, "/a"),
        (&["*.h.example /a/{x}", "*.H.example /a/{y}"], 0, 1, "/a/x"),
    ] {
        let conflicts = builder(lines).build().err();
        assert_eq!(
            conflicts,
            Some(vec![Conflict {
                first,
                second,
                example: example.to_owned()
            }]),
            "{lines:?}"
        );
    }
}

#[test]
fn routes_that_cannot_tie_are_no_conflict() {
    table(&[
        "- /a GET",
        "- /a POST",
        "- /a/",
        "- /{x}/",
        "- /*",
        "h.example /a",
        "*.h.example /a",
    ]);
    table(&[
        "- /a/{x}",
        "- /{y}/b/c",
        "- /a/b",
        "- /{y}/{z}",
        "- /{y}/b",
        "- /a/*",
    ]);
    // The path decides before the method.
    let table = table(&["- /a/{x} GET", "- /{x}/b POST"]);
    assert!(matches!(
        table.find("h", "/a/b", &Method::POST),
        Lookup::MethodRefused { some: 0, .. }
    ));
}

#[test]
fn a_route_that_names_the_method_comes_before_the_one_for_all_methods_whatever_the_order() {
    for lines in [["- /cors OPTIONS", "- /cors"], ["- /cors", "- /cors OPTIONS"]] {
        let table = table(&lines);
        let found = |method| match table.find("h", "/cors", &method) {
            Lookup::Found(&index) => lines[index],
            other => panic!("{other:?}"),
        };
        assert_eq!(found(Method::OPTIONS), "- /cors OPTIONS");
        for method in [Method::GET, Method::POST, "PURGE".parse().unwrap()] {
            assert_eq!(found(method), "- /cors");
        }
        let listed: Vec<_> = table.in_order().map(|&index| lines[index]).collect();
        assert_eq!(listed, ["- /cors OPTIONS", "- /cors"]);
    }
}

#[test]
fn all_conflicts_are_reported_up_to_a_bound() {
    let conflicts = builder(&["- /a/{x}", "- /d", "- /a/{y}", "- /d", "- /a/{z}", "- /e"])
        .build()
        .err()
        .unwrap();
    let pairs: Vec<_> = conflicts
        .iter()
        .map(|conflict| (conflict.first, conflict.second))
        .collect();
    assert_eq!(pairs, [(0, 2), (1, 3), (0, 4), (2, 4)]);
    let mut many = Builder::new();
    for _ in 0..1000 {
        many.add(None, pattern("/a"), None, ());
    }
    assert_eq!(many.build().err().unwrap().len(), MOST_CONFLICTS);
}

#[test]
fn the_listing_is_in_match_order() {
    let lines = [
        "- /*",
        "- /b",
        "*.example.com /*",
        "a.example.com /z",
        "*.a.example.com /*",
        "- /a/*",
        "- /a/{x}",
        "- /a GET",
        "- /a/b/c",
        "- /a POST",
        "- /{x}/*",
        "- /",
    ];
    let lines: Vec<&str> = table(&lines).in_order().map(|&index| lines[index]).collect();
    assert_eq!(
        lines,
        [
            "a.example.com /z",
            "*.a.example.com /*",
            "*.example.com /*",
            "- /",
            "- /a GET",
            "- /a POST",
            "- /a/b/c",
            "- /a/{x}",
            "- /a/*",
            "- /b",
            "- /{x}/*",
            "- /*",
        ]
    );
}

#[test]
fn ten_thousand_routes_below_one_parent_and_with_parameters_are_found() {
    let mut builder = Builder::new();
    for number in 0..10_000 {
        builder.add(None, pattern(&format!("/api/r{number}")), None, number);
        builder.add(
            None,
            pattern(&format!("/t{number}/{{id}}/x")),
            None,
            number + 10_000,
        );
    }
    builder.add(None, pattern("/{tenant}/{id}/x"), None, 20_000);
    builder.add(None, pattern("/{tenant}/{id}/*"), None, 20_001);
    let table = builder.build().unwrap();
    assert_eq!(found(&table, "h", "/api/r9999"), Some(9_999));
    assert_eq!(found(&table, "h", "/t42/7/x"), Some(10_042));
    assert_eq!(found(&table, "h", "/u42/7/x"), Some(20_000));
    assert_eq!(found(&table, "h", "/t42/7/y"), Some(20_001));
    assert_eq!(found(&table, "h", "/api/r10000"), Some(20_001));
    assert_eq!(found(&table, "h", "/api"), None);
    assert_eq!(table.in_order().count(), 20_002);
}

#[test]
fn a_table_that_forks_at_every_segment_is_searched_to_the_end() {
    const DEPTH: u32 = 12;
    let prefix = |choices: u32| -> String {
        (0..DEPTH)
            .map(|at| {
                if choices >> at & 1 == 0 {
                    "/a".to_owned()
                } else {
                    format!("/{{p{at}}}")
                }
            })
            .collect()
    };
    let mut builder = Builder::new();
    for choices in 0..1 << DEPTH {
        builder.add(
            None,
            pattern(&format!("{}/r{choices}", prefix(choices))),
            None,
            choices,
        );
    }
    let last = (1 << DEPTH) - 1;
    builder.add(None, pattern("/*"), None, last + 1);
    let table = builder.build().unwrap();
    let path = "/a".repeat(DEPTH as usize);
    let find = |path: &str| match table.find("h", path, &Method::GET) {
        Lookup::Found(&choices) => choices,
        other => panic!("{other:?}"),
    };
    for choices in [0, 1, 2048, last] {
        assert_eq!(find(&format!("{path}/r{choices}")), choices);
    }
    assert_eq!(find(&format!("{path}/none")), last + 1);
}

#[test]
fn a_long_path_is_read_no_deeper_than_the_deepest_pattern() {
    let table = table(&["- /a/{x}/{y}/*", "- /{x}/{y}/{z}/*", "- /b"]);
    assert_eq!(found(&table, "h", &"/a".repeat(4096)), Some(0));
    assert_eq!(found(&table, "h", &"/b".repeat(4096)), Some(1));
    assert_eq!(found(&table, "h", &"/".repeat(4096)), None);
}

/// Parameters are called by their place, and literals have one spelling: equal patterns are equal texts.
fn some_pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "c", "{}", "{}"]);
    (
        prop::collection::vec(segment, 0..4),
        prop::sample::select(vec!["", "", "/", "/*"]),
    )
        .prop_map(|(segments, end)| {
            let mut text = String::new();
            for (number, segment) in segments.into_iter().enumerate() {
                text.push('/');
                text.push_str(&segment.replace("{}", &format!("{{p{number}}}")));
            }
            text.push_str(if text.is_empty() && end.is_empty() {
                "/"
            } else {
                end
            });
            text
        })
}

fn some_methods() -> impl Strategy<Value = Option<Vec<Method>>> {
    prop::sample::select(vec!["any", "any", "GET", "POST", "GET POST"]).prop_map(methods)
}

fn share(one: Option<&Vec<Method>>, other: Option<&Vec<Method>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.iter().any(|method| other.contains(method)),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Of patterns that cover one path the smallest is the most specific.
fn specificity(pattern: &Pattern) -> Vec<u8> {
    let rank = |segment: &str| match segment.bytes().next() {
        Some(b'*') => 2,
        Some(b'{') => 1,
        _ => 0,
    };
    // An end comes before a `*`, because what is a beginning of something else is the smaller one.
    pattern.as_str()[1..].split('/').map(rank).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_finds_what_sorting_all_patterns_finds(
        routes in prop::collection::vec((some_pattern(), some_methods()), 1..16),
        paths in prop::collection::vec("(/[abcd]){0,4}/?", 8),
    ) {
        // Leaves out whatever ties with a route before it.
        let mut kept: Vec<(Pattern, Option<Vec<Method>>)> = Vec::new();
        for (text, methods) in routes {
            let pattern = pattern(&text);
            let ties = |(other, theirs): &(Pattern, Option<Vec<Method>>)| {
                other.as_str() == pattern.as_str() && share(methods.as_ref(), theirs.as_ref())
            };
            if !kept.iter().any(ties) {
                kept.push((pattern, methods));
            }
        }
        let mut builder = Builder::new();
        for (index, (pattern, methods)) in kept.iter().enumerate() {
            builder.add(None, pattern.clone(), methods.clone(), index);
        }
        let table = builder.build().unwrap();
        let listed: Vec<usize> = table.in_order().copied().collect();
        prop_assert_eq!(listed.len(), kept.len());
        for path in paths {
            let covering = |index: &usize| kept[*index].0.matches(&path);
            let best = (0..kept.len()).filter(covering).map(|index| &kept[index].0).min_by_key(|best| specificity(best));
            for method in [Method::GET, Method::POST, Method::PUT] {
                let wanted = best.and_then(|best| {
                    let of_best = |wanted: &dyn Fn(Option<&Vec<Method>>) -> bool| {
                        kept.iter().position(|(pattern, methods)| {
                            pattern.as_str() == best.as_str() && wanted(methods.as_ref())
                        })
                    };
                    of_best(&|methods| methods.is_some_and(|methods| methods.contains(&method)))
                        .or_else(|| of_best(&|methods| methods.is_none()))
                });
                match table.find("h", &path, &method) {
                    Lookup::Found(&index) => prop_assert_eq!(Some(index), wanted, "{} {}", method, path),
                    Lookup::MethodRefused { some: &some, .. } => {
                        prop_assert!(wanted.is_none(), "{} {}", method, path);
                        prop_assert_eq!(Some(kept[some].0.as_str()), best.map(Pattern::as_str), "{} {}", method, path);
                    }
                    Lookup::Missing => prop_assert!(best.is_none(), "{} {}", method, path),
                }
            }
            // The listing puts no pattern behind one that it beats.
            let order = listed.iter().filter(|index| covering(index)).map(|&index| specificity(&kept[index].0));
            prop_assert!(order.is_sorted(), "{}", path);
        }
    }

    #[test]
    fn conflicts_are_those_that_comparing_all_pairs_finds(
        routes in prop::collection::vec((some_pattern(), some_methods()), 1..12),
    ) {
        let patterns: Vec<_> = routes.iter().map(|(text, _)| pattern(text)).collect();
        let mut builder = Builder::new();
        for (pattern, (_, methods)) in patterns.iter().zip(&routes) {
            builder.add(None, pattern.clone(), methods.clone(), ());
        }
        let mut found = Vec::new();
        for conflict in builder.build().err().unwrap_or_default() {
            prop_assert!(patterns[conflict.first].matches(&conflict.example));
            prop_assert!(patterns[conflict.second].matches(&conflict.example));
            found.push((conflict.first, conflict.second));
        }
        let pairs = (0..routes.len()).flat_map(|second| (0..second).map(move |first| (first, second)));
        let wanted: Vec<_> = pairs
            .filter(|&(first, second)| {
                patterns[first].as_str() == patterns[second].as_str()
                    && share(routes[first].1.as_ref(), routes[second].1.as_ref())
            })
            .collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn nothing_panics(pattern in "[/a*{}.%:é]{0,12}", host in "\\PC{0,12}", path in "\\PC{0,24}") {
        let _ = HostPattern::parse(&host);
        if let Ok(pattern) = Pattern::parse(&pattern) {
            let mut builder = Builder::new();
            builder.add(None, pattern.clone(), None, ());
            let table = builder.build().unwrap();
            let found = table.find(&host, &path, &Method::GET) != Lookup::Missing;
            prop_assert_eq!(found, pattern.matches(&path));
        }
    }
}
