//! A `User-Agent` in words: "Firefox on Linux".
//!
//! Input: the field as a client sent it. Output: words from the tables below. Invariant: nothing of the field itself is
//! returned, so that a client cannot write on the page of sessions. The words help a person to recognise a device; nothing
//! is decided by them. By hand, because the crates that parse the field are unmaintained and bring megabytes of patterns.

/// The kind of device, for the icon beside the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Computer,
    Phone,
    Tablet,
    Program,
}

impl Form {
    /// As templates know it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Computer => "computer",
            Self::Phone => "phone",
            Self::Tablet => "tablet",
            Self::Program => "program",
        }
    }
}

/// The bytes of the field that are read; the fields of browsers are shorter.
const LONGEST: usize = 512;

/// The order matters: nearly every browser also names Chrome, and Chrome names Safari.
const BROWSERS: [(&str, &str); 14] = [
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Vivaldi/", "Vivaldi"),
    ("YaBrowser/", "Yandex Browser"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Epiphany/", "GNOME Web"),
    ("Safari/", "Safari"),
    ("Trident/", "Internet Explorer"),
];

/// The order matters: Android names Linux, and an iPhone names Mac OS X.
const SYSTEMS: [(&str, &str, Form); 9] = [
    ("iPhone", "iPhone", Form::Phone),
    ("iPad", "iPad", Form::Tablet),
    ("Android", "Android", Form::Phone),
    ("CrOS", "ChromeOS", Form::Computer),
    ("Windows", "Windows", Form::Computer),
    ("Mac OS X", "macOS", Form::Computer),
    ("FreeBSD", "FreeBSD", Form::Computer),
    ("OpenBSD", "OpenBSD", Form::Computer),
    ("Linux", "Linux", Form::Computer),
];

/// At the beginning of the field.
const PROGRAMS: [(&str, &str); 13] = [
    ("curl/", "curl"),
    ("Wget/", "Wget"),
    ("HTTPie/", "HTTPie"),
    ("PostmanRuntime/", "Postman"),
    ("insomnia/", "Insomnia"),
    ("python", "Python"),
    ("Python", "Python"),
    ("Go-http-client/", "Go"),
    ("okhttp/", "OkHttp"),
    ("axios/", "Node.js"),
    ("node", "Node.js"),
    ("undici", "Node.js"),
    ("Java", "Java"),
];

/// The words for a browser and for a program that are in none of the tables.
pub(super) const UNKNOWN: [&str; 2] = ["Unknown device", "API client"];

/// The device in words. `is_client`: it signed in by JSON, as programs do.
pub(super) fn describe(user_agent: &str, is_client: bool) -> (String, Form) {
    let text = super::cut(user_agent, LONGEST);
    if let Some((_, name)) = PROGRAMS.iter().find(|(mark, _)| text.starts_with(mark)) {
        return ((*name).to_owned(), Form::Program);
    }
    let browser = BROWSERS
        .iter()
        .find(|(mark, _)| text.contains(mark))
        .map(|(_, name)| *name);
    let system = SYSTEMS
        .iter()
        .find(|(mark, ..)| text.contains(mark))
        .map(|(_, name, form)| (*name, *form));
    let form = match system {
        Some(("Android", _)) if !text.contains("Mobile") => Form::Tablet,
        Some((_, form)) => form,
        None if is_client && browser.is_none() => Form::Program,
        None => Form::Computer,
    };
    let words = match (browser, system) {
        (Some(browser), Some((system, _))) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, Some((system, _))) if is_client => format!("API client on {system}"),
        (None, Some((system, _))) => format!("Browser on {system}"),
        (None, None) => UNKNOWN[usize::from(is_client)].to_owned(),
    };
    (words, form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_browsers_are_told_apart_though_each_names_the_others() {
        let webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
        let iphone =
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)";
        for (user_agent, words, form) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
                "Firefox on Linux",
                Form::Computer,
            ),
            (
                &format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/130.0.0.0 Safari/537.36"),
                "Chrome on Windows",
                Form::Computer,
            ),
            (
                &format!(
                    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/130.0.0.0 Safari/537.36 Edg/130.0"
                ),
                "Edge on Windows",
                Form::Computer,
            ),
            (
                &format!(
                    "Mozilla/5.0 (X11; Linux x86_64) {webkit} Chrome/129.0.0.0 Safari/537.36 OPR/115.0.0.0"
                ),
                "Opera on Linux",
                Form::Computer,
            ),
            (
                &format!("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {webkit} Chrome/130.0.0.0 Safari/537.36"),
                "Chrome on ChromeOS",
                Form::Computer,
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
                "Safari on macOS",
                Form::Computer,
            ),
            (
                &format!("{iphone} Version/18.1 Mobile/15E148 Safari/604.1"),
                "Safari on iPhone",
                Form::Phone,
            ),
            (
                &format!("{iphone} CriOS/130.0 Mobile/15E148 Safari/604.1"),
                "Chrome on iPhone",
                Form::Phone,
            ),
            (
                &format!("{iphone} FxiOS/132.0 Mobile/15E148 Safari/605.1.15"),
                "Firefox on iPhone",
                Form::Phone,
            ),
            (
                &format!("Mozilla/5.0 (Linux; Android 10; K) {webkit} Chrome/130.0.0.0 Mobile Safari/537.36"),
                "Chrome on Android",
                Form::Phone,
            ),
            (
                &format!(
                    "Mozilla/5.0 (Linux; Android 14; SM-X710) {webkit} SamsungBrowser/26.0 Chrome/122.0 Safari/537.36"
                ),
                "Samsung Internet on Android",
                Form::Tablet,
            ),
            (
                "Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko",
                "Internet Explorer on Windows",
                Form::Computer,
            ),
        ] {
            assert_eq!(
                describe(user_agent, false),
                (words.to_owned(), form),
                "{user_agent}"
            );
        }
    }

    #[test]
    fn programs_are_named_and_what_nobody_knows_is_said_to_be_unknown() {
        let words = |user_agent, is_client| describe(user_agent, is_client).0;
        assert_eq!(describe("curl/8.5.0", true), ("curl".to_owned(), Form::Program));
        assert_eq!(words("node", true), "Node.js");
        assert_eq!(words("MyApp/1.0", true), "API client");
        assert_eq!(words("MyApp/1.0 (Linux)", true), "API client on Linux");
        assert_eq!(
            words("Mozilla/5.0 (Windows NT 10.0)", false),
            "Browser on Windows"
        );
        assert_eq!(words("", false), "Unknown device");
        assert_eq!(
            words("my curl/8.5.0", false),
            "Unknown device",
            "only at the beginning"
        );
    }

    #[test]
    fn nothing_that_was_sent_is_repeated_and_only_the_beginning_is_read() {
        for hostile in [
            "\"><script>alert(1)</script>",
            "{{7*7}}",
            "\u{202e}xofeRif",
            "é\u{0}",
        ] {
            assert_eq!(
                describe(hostile, false),
                ("Unknown device".to_owned(), Form::Computer)
            );
        }
        let late = format!("{}Firefox/132.0", "é".repeat(5_000));
        assert_eq!(describe(&late, false).0, "Unknown device");
        assert_eq!(describe("Firefox/1 <b>Linux</b>", false).0, "Firefox on Linux");
    }
}
