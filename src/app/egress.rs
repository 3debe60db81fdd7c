//! Which proxy the control runtime uses on its way out.
//!
//! Input: `[server] egress_proxy` and the environment. Output: an [`Egress`]. Invariant: no problem shows a password.

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::config::raw::RawEgressProxy;
use crate::config::{Problems, Spanned, load_secret, values};
use crate::net::egress::Egress;

/// What the file says; where it says nothing, what `HTTPS_PROXY` and `NO_PROXY` in `environment` say.
pub(super) fn compile(
    raw: Option<&Spanned<RawEgressProxy>>,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Egress {
    match raw.map(|raw| &raw.value) {
        Some(RawEgressProxy::None) => Egress::default(),
        Some(RawEgressProxy::Proxy { url, password }) => {
            let password = password
                .as_ref()
                .map(|secret| (secret, load_secret(secret, problems)));
            match password {
                None => Egress::through(url.value.clone(), b"", ""),
                Some((_, Ok(password))) => Egress::through(url.value.clone(), password.expose(), ""),
                Some((secret, Err(fault))) => {
                    problems
                        .error(&secret.span, format!("the password cannot be used: {fault}"))
                        .hint("a file, `{ file = \"…\" }`, or an environment variable, `{ env = \"…\" }`");
                    Egress::default()
                }
            }
        }
        None => from_environment(environment, problems),
    }
}

fn from_environment(environment: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) -> Egress {
    let first = |names: [&'static str; 2]| {
        names
            .into_iter()
            .find_map(|name| Some((name, environment(name).filter(|value| !value.is_empty())?)))
    };
    let Some((name, url)) = first(["HTTPS_PROXY", "https_proxy"]) else {
        return Egress::default();
    };
    // There a password stands in the URL, if there is one: the environment is as secret as that of any program.
    let (bare, password) = without_password(&url);
    let Ok(proxy) = values::egress_proxy(&bare) else {
        problems
            .warning(
                &(0..0),
                format!("the environment variable `{name}` is not the URL of a proxy, and is not used"),
            )
            .hint("it is like `http://proxy:3128`; `egress_proxy = \"none\"` in `[server]` ignores it");
        return Egress::default();
    };
    let no_proxy = first(["NO_PROXY", "no_proxy"]).map_or_else(String::new, |(_, list)| list);
    Egress::through(proxy, &password, &no_proxy)
}

/// `http://user:password@host` as `http://user@host` and the password, which a URL spells in its own way (RFC 3986 section
/// 2.1).
fn without_password(url: &str) -> (String, Zeroizing<Vec<u8>>) {
    let found = || {
        let (scheme, rest) = url.split_once("://")?;
        let (userinfo, host) = rest.rsplit_once('@')?;
        let (user, password) = userinfo.split_once(':')?;
        let password = percent_decode_str(password).collect::<Vec<_>>();
        Some((format!("{scheme}://{user}@{host}"), password.into()))
    };
    found().unwrap_or_else(|| (url.to_owned(), Zeroizing::default()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn egress(raw: Option<RawEgressProxy>, environment: &[(&str, &str)]) -> (Egress, Vec<String>) {
        let mut problems = Problems::new(Path::new("gateway.toml"), "\n");
        let raw = raw.map(|value| Spanned { value, span: 0..1 });
        let look = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let egress = compile(raw.as_ref(), &look, &mut problems);
        (
            egress,
            problems
                .warnings()
                .iter()
                .map(|problem| problem.message.clone())
                .collect(),
        )
    }

    fn proxy(url: &str) -> RawEgressProxy {
        RawEgressProxy::Proxy {
            url: Spanned {
                value: url.parse().unwrap(),
                span: 0..1,
            },
            password: None,
        }
    }

    fn through(egress: &Egress, host: &str) -> Option<String> {
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let url = format!("https://{host}").parse().unwrap();
        egress.proxy_for(&url).map(|proxy| proxy.name())
    }

    #[test]
    fn the_file_wins_over_the_environment() {
        let environment = [("HTTPS_PROXY", "http://env:1"), ("NO_PROXY", "*")];
        assert_eq!(
            through(
                &egress(Some(proxy("http://file:2")), &environment).0,
                "id.example.com"
            )
            .unwrap(),
            "file:2"
        );
        assert_eq!(
            through(
                &egress(Some(RawEgressProxy::None), &environment[..1]).0,
                "id.example.com"
            ),
            None
        );
        assert_eq!(
            through(&egress(None, &environment[..1]).0, "id.example.com").unwrap(),
            "env:1"
        );
        assert_eq!(
            through(
                &egress(None, &[("https_proxy", "http://low:3/")]).0,
                "id.example.com"
            )
            .unwrap(),
            "low:3"
        );
        for none in [
            &[][..],
            &[("HTTPS_PROXY", "")],
            &[("HTTP_PROXY", "http://env:1")],
            &environment,
        ] {
            assert_eq!(through(&egress(None, none).0, "id.example.com"), None);
        }
        for odd in ["socks5://env:1", "https://env:1", "env:1", "http://env:1/path"] {
            let (egress, warnings) = egress(None, &[("HTTPS_PROXY", odd)]);
            assert_eq!(
                (through(&egress, "id.example.com"), warnings.len()),
                (None, 1),
                "{odd}"
            );
            assert!(!warnings[0].contains("env:1"), "{warnings:?}");
        }
    }

    #[test]
    fn this_machine_is_never_asked_through_it() {
        let (egress, _) = egress(Some(proxy("http://p:1")), &[]);
        for host in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(through(&egress, host), None, "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1", "id.example.com"] {
            assert!(through(&egress, host).is_some(), "{host}");
        }
    }

    #[test]
    fn no_proxy_names_hosts_and_what_is_below_them_addresses_and_networks() {
        let list = " example.com, .corp.example ,10.0.0.0/8,192.0.2.7,[2001:db8::1],other.example:8443,*.wild.example,";
        let (egress, _) = egress(None, &[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", list)]);
        for host in [
            "example.com",
            "id.EXAMPLE.com",
            "example.com.",
            "corp.example",
            "a.corp.example",
            "10.1.2.3",
            "192.0.2.7",
            "2001:db8::1",
            "x.wild.example",
        ] {
            assert_eq!(through(&egress, host), None, "{host}");
        }
        for host in [
            "badexample.com",
            "example.org",
            "11.0.0.1",
            "192.0.2.8",
            "2001:db8::2",
            "other.example",
        ] {
            assert!(through(&egress, host).is_some(), "{host}");
        }
        assert!(
            egress
                .proxy_for(&"https://other.example:8443".parse().unwrap())
                .is_none()
        );
    }

    #[test]
    fn a_user_and_a_password_become_basic_authentication() {
        let basic = |egress: &Egress| {
            let proxy = egress
                .proxy_for(&"https://id.example.com".parse().unwrap())
                .unwrap();
            let value = proxy.authorization()?;
            assert!(value.is_sensitive());
            Some(value.to_str().unwrap().to_owned())
        };
        assert_eq!(basic(&egress(Some(proxy("http://p:1")), &[]).0), None);
        let (environment, warnings) = egress(None, &[("HTTPS_PROXY", "http://ann:p%40ss:w@p:1")]);
        assert_eq!(
            basic(&environment).unwrap(),
            format!("Basic {}", STANDARD.encode("ann:p@ss:w"))
        );
        assert!(warnings.is_empty());
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("password"), "s3cret\r\n").unwrap();
        let mut problems = Problems::new(&home.path().join("gateway.toml"), "\n");
        let at = |value| Spanned { value, span: 0..1 };
        let raw = RawEgressProxy::Proxy {
            url: Spanned {
                value: "http://ann@p:1".parse().unwrap(),
                span: 0..1,
            },
            password: Some(at(crate::config::raw::RawSecret::File("password".into()))),
        };
        let raw = Spanned {
            value: raw,
            span: 0..1,
        };
        let egress = compile(Some(&raw), &|_| None, &mut problems);
        assert_eq!(
            basic(&egress).unwrap(),
            format!("Basic {}", STANDARD.encode("ann:s3cret"))
        );
        assert!(!format!("{egress:?}").contains("p:1"));
    }
}
