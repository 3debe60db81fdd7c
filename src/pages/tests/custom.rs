//! A directory of templates that an operator wrote, right and wrong.

use std::sync::{Arc, Mutex};

use super::*;

/// The page of a 404 with this title.
fn titled(title: &str) -> ErrorPage<'_> {
    ErrorPage {
        title,
        ..error_page(StatusCode::NOT_FOUND, "", None)
    }
}

/// An operator's directory with these files, and what came of it.
fn own(files: &[(&str, &str)]) -> (Pages, Problems) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("pages")).unwrap();
    for (name, content) in files {
        std::fs::write(directory.path().join("pages").join(name), content).unwrap();
    }
    let mut problems = Problems::new(&directory.path().join("gateway.toml"), "[pages]\n");
    let raw = RawPages {
        templates: at("pages".into()),
        ..RawPages::default()
    };
    let pages = Pages::compile(&raw, "/auth", "app.example.com", true, &mut problems);
    (pages, problems)
}

/// What is said about a directory with one file.
fn said(name: &str, content: &str) -> (Vec<String>, Vec<String>) {
    let (_, problems) = own(&[(name, content)]);
    let messages =
        |all: &[crate::config::problems::Problem]| all.iter().map(|one| one.message.clone()).collect();
    (messages(problems.errors()), messages(problems.warnings()))
}

#[test]
fn a_template_of_the_operator_takes_the_place_of_ours_and_may_build_on_our_layout() {
    let (pages, problems) = own(&[
        (
            "error.html",
            "{% extends \"layout.html\" %}{% block main %}<h1>Oh, {{ title }}</h1>{% endblock %}",
        ),
        ("style.css", "\u{feff}body { color: teal }\r\n"),
        (".swap", "{% if %}"),
    ]);
    assert!(
        problems.errors().is_empty() && problems.warnings().is_empty(),
        "{problems:?}"
    );
    let html = String::from_utf8(pages.error(&titled("<no>")).to_vec()).unwrap();
    assert!(html.contains("<h1>Oh, &lt;no&gt;</h1>"));
    // Line breaks as a browser hashes them, after the colours.
    assert!(
        html.contains("\nbody { color: teal }\n</style>")
            && html.contains("<style>:root{color-scheme:light dark;")
    );
    assert!(
        text(&pages.sign_in(StatusCode::OK, SignInForm::default(), None)).contains("<h1>Sign in</h1>"),
        "ours"
    );
}

#[test]
fn a_layout_of_the_operator_holds_for_our_pages() {
    let layout =
        "<!doctype html><style>{{ style }}</style><body>{% block main %}{% endblock %}<p>Ours</p></body>";
    let (pages, problems) = own(&[("layout.html", layout)]);
    assert!(
        problems.errors().is_empty() && problems.warnings().is_empty(),
        "{problems:?}"
    );
    let html = text(&pages.sign_in(StatusCode::OK, SignInForm::default(), None));
    assert!(html.contains("<h1>Sign in</h1>") && html.contains("<p>Ours</p>"));
}

#[test]
fn a_broken_template_is_an_error_with_its_file_and_line() {
    for (name, content, expected) in [
        (
            "error.html",
            "<p>\n{% if %}\n",
            "`pages/error.html:2` is broken: syntax error: ",
        ),
        (
            "error.html",
            "<p>\n\n{{ titel }}",
            "`pages/error.html:3` is broken: `titel` is undefined",
        ),
        (
            "error.html",
            "{% if titel %}{% endif %}",
            "`pages/error.html:1` is broken: `titel` is undefined",
        ),
        (
            "error.html",
            "{{ person.email }}",
            "`pages/error.html:1` is broken: `person.email` is undefined",
        ),
        (
            "error.html",
            "\n{{ urls.hom }}",
            "`pages/error.html:2` is broken: `urls.hom` is undefined",
        ),
        (
            "sign_in.html",
            "{% include \"other.html\" %}",
            "`pages/sign_in.html:1` is broken: template not found",
        ),
        (
            "error.html",
            "\n{{ title|safe }}",
            "`pages/error.html:2` is broken: unknown filter: ",
        ),
        (
            "layout.html",
            "<p>\n{{ nothing }}",
            "`pages/layout.html:2` is broken: `nothing` is undefined",
        ),
        (
            "error.html",
            "{% for a in range(90000) %}{% for b in range(90000) %}x{% endfor %}{% endfor %}",
            "`pages/error.html:1` is broken: engine ran out of fuel",
        ),
        (
            "error.html",
            "{{ range(100000)|join(\"0123456789\") }}",
            "`pages/error.html` is broken: the page gets longer than 512 KiB",
        ),
        ("error.html", "{% extends \"error.html\" %}", "`pages/error.html"),
    ] {
        let (errors, _) = said(name, content);
        assert_eq!(errors.len(), 1, "{content}: {errors:?}");
        assert!(errors[0].starts_with(expected), "{content}: {errors:?}");
    }
}

#[test]
fn an_undefined_variable_suggests_the_nearest_of_those_there_are() {
    for (content, hint) in [
        ("{{ titel }}", "did you mean `title`?"),
        ("{{ urls.hom }}", "did you mean `urls.home`?"),
        (
            "{{ something_else }}",
            "compare it with the built-in template, which `passgate pages export DIR` writes",
        ),
    ] {
        let (_, problems) = own(&[("error.html", content)]);
        let said = problems.errors()[0].hint.clone().unwrap();
        assert!(said.starts_with(hint), "{content}: {said}");
    }
}

#[test]
fn a_file_that_is_no_template_is_an_error_that_names_the_nearest() {
    let (_, problems) = own(&[("signin.html", "x"), ("partial.html", "y")]);
    let errors = problems.errors();
    assert_eq!(errors[0].message, "`pages/partial.html` is no template");
    assert!(
        errors[0]
            .hint
            .as_ref()
            .unwrap()
            .starts_with("known are `sign_in.html`, "),
        "{errors:?}"
    );
    assert_eq!(errors[1].hint.as_deref(), Some("did you mean `sign_in.html`?"));
    let (_, problems) = compile(&RawPages {
        templates: at("/nowhere/at/all".into()),
        ..RawPages::default()
    });
    assert!(
        problems.errors()[0]
            .message
            .starts_with("cannot read the directory `/nowhere/at/all`")
    );
    assert_eq!(
        said("error.html", "a\0b").0,
        ["cannot read `pages/error.html`: it has a NUL byte in it"]
    );
    let large = "x".repeat(256 * 1024 + 1);
    assert_eq!(
        said("error.html", &large).0,
        ["cannot read `pages/error.html`: it is larger than 256 KiB"]
    );
    assert_eq!(
        said("style.css", "a {}\n</STYLE>").0,
        ["`pages/style.css:2` has `</` in it, which ends a style sheet"]
    );
}

#[test]
fn what_a_browser_will_not_run_is_a_warning() {
    let warnings = |content: &str| {
        let (errors, warnings) = said(
            "error.html",
            &format!("<style>{{{{ style }}}}</style>\n{content}"),
        );
        assert!(errors.is_empty(), "{errors:?}");
        warnings
    };
    let script = "`pages/error.html:2` has `<script`, which browsers will ignore";
    let handler = "`pages/error.html:2` has an event handler (`on…=`), which browsers will ignore";
    assert_eq!(warnings("<SCRIPT>x</SCRIPT>"), [script]);
    assert_eq!(warnings("<b onClick = \"x()\">"), [handler]);
    assert_eq!(warnings("<b class=\"a\"onload=x>"), [handler]);
    assert_eq!(
        warnings("<b style=\"color: red\">"),
        ["`pages/error.html:2` has a `style=` attribute, which browsers will ignore"]
    );
    for harmless in [
        "<script>{{ script }}</script>",
        "{% set one = 1 %}",
        "<a href=\"/?on=1&button=2\">",
        "<b data-style=\"x\">",
        "on = off",
        "= = =",
    ] {
        assert_eq!(warnings(harmless), [""; 0], "{harmless}");
    }
}

#[test]
fn a_page_that_cannot_work_is_a_warning() {
    let (errors, warnings) = said(
        "sign_in.html",
        "<form><input name=\"email\"><input name=\"return_to\"></form>",
    );
    assert!(errors.is_empty());
    assert_eq!(
        warnings,
        [
            "the page of `pages/sign_in.html` has no style",
            "the page of `pages/sign_in.html` has no field `password`"
        ]
    );
    let spaced = "<style> {{ style }} </style>{% block main %}{% endblock %}";
    let (_, warnings) = said("layout.html", spaced);
    assert!(
        warnings
            .iter()
            .all(|warning| warning == "the page of `pages/layout.html` has no style"),
        "{warnings:?}"
    );
    assert!(!warnings.is_empty());
}

#[test]
fn a_template_cannot_switch_the_escaping_off() {
    let unescaped =
        "{% autoescape false %}{{ title }}{% set copy %}{{ title }}{% endset %}{{ copy }}{% endautoescape %}";
    let (pages, _) = own(&[("error.html", unescaped)]);
    let html = String::from_utf8(pages.error(&titled("<b>")).to_vec()).unwrap();
    assert!(!html.contains("<b>") && html.starts_with("&lt;b&gt;"), "{html}");
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_template_that_fails_later_gives_way_to_ours_and_is_logged_once_without_what_was_typed() {
    let (pages, problems) = own(&[(
        "sign_in.html",
        "<style>{{ style }}</style>half\n{% if email == \"eve\" %}{{ email|int }}{% endif %}\
         <input name=\"email\"><input name=\"password\"><input name=\"return_to\">",
    )]);
    assert!(
        problems.errors().is_empty() && problems.warnings().is_empty(),
        "{problems:?}"
    );
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..3 {
            let html = text(&pages.sign_in(
                StatusCode::OK,
                SignInForm {
                    email: "eve",
                    ..SignInForm::default()
                },
                None,
            ));
            assert!(html.contains("<h1>Sign in</h1>") && !html.contains("half"));
        }
        assert!(
            text(&pages.sign_in(
                StatusCode::OK,
                SignInForm {
                    email: "bob",
                    ..SignInForm::default()
                },
                None
            ))
            .contains("half"),
            "where it works, it is used"
        );
    });
    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    assert!(
        log.contains("template=\"sign_in.html\" line=2") && !log.contains("eve"),
        "{log}"
    );
}
