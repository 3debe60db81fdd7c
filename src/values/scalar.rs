//! Values that are written as text in the TOML file: durations, sizes, addresses, networks, URLs, header fields.
//!
//! Enters: the text of one string. Leaves: the value, or what to write instead, as a sentence for a hint. Nothing is
//! looked up: a name is never resolved and a file never opened here.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::suggest::echo;

use crate::http::client::Share;
use crate::http::url::Url;

/// One entry of `server.listen` or `admin.listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An IP address and a port; port 0 lets the system choose.
    Tcp(std::net::SocketAddr),
    /// A unix socket at this path (not yet resolved against the file's directory).
    Unix(PathBuf),
    /// Sockets handed over by systemd: those of this name (`FileDescriptorName=`), or all of them.
    Systemd(Option<Box<str>>),
}

/// One entry of `server.trusted_proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// The peers of a network.
    Network(IpNet),
    /// The peers on unix sockets.
    Unix,
}

/// The longest duration that the file can name: ten years. Longer ones are mistakes, and overflow timers.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(3650 * 86_400);

pub(super) const DURATION_FORM: &str = "a duration is a number with a unit, like `\"250ms\"`, `\"30s\"`, `\"5m\"`, `\"24h\"`, `\"7d\"` or `\"1h30m\"`";
pub(super) const SIZE_FORM: &str =
    "a size is a whole number with a unit: `B`, `KiB`, `MiB`, `GiB` or `KB`, `MB`, `GB`";

/// A duration: `"30s"`, or several units from large to small, `"1h30m"`. At most [`MAX_DURATION`].
///
/// # Errors
/// What a duration looks like.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    exact_duration(text).map_err(|form| match mended_duration(text) {
        Some(mended) => format!("write `\"{mended}\"`"),
        None => form,
    })
}

/// What `text` says in the form that a duration has, where it is clear what is meant: `1h` for `1 hour`.
fn mended_duration(text: &str) -> Option<String> {
    const WORDS: [(&str, &[&str]); 5] = [
        ("d", &["d", "day", "days"]),
        ("h", &["h", "hr", "hrs", "hour", "hours"]),
        ("m", &["m", "min", "mins", "minute", "minutes"]),
        ("s", &["", "s", "sec", "secs", "second", "seconds"]),
        (
            "ms",
            &["ms", "msec", "msecs", "millis", "millisecond", "milliseconds"],
        ),
    ];
    let mut mended = String::new();
    for (number, word) in quantities(text)? {
        let unit = WORDS
            .iter()
            .find(|(_, words)| words.contains(&word.as_str()))
            .map(|(unit, _)| *unit);
        match (unit, word.as_str()) {
            (Some(unit), _) => mended.push_str(&format!("{number}{unit}")),
            (None, "w" | "week" | "weeks") => mended.push_str(&format!("{}d", number.checked_mul(7)?)),
            (None, _) => return None,
        }
    }
    exact_duration(&mended).is_ok().then_some(mended)
}

/// `1 hour, 30 Min` as numbers with their words in lower case; `None` where it is something else.
fn quantities(text: &str) -> Option<Vec<(u64, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() && found.len() < 5 {
        let (digits, after) = split(rest, |byte| byte.is_ascii_digit());
        let (word, after) = split(after.trim_start(), |byte| byte.is_ascii_alphabetic());
        found.push((digits.parse().ok()?, word.to_ascii_lowercase()));
        rest = after.trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest).trim_start();
    }
    (!found.is_empty() && rest.is_empty()).then_some(found)
}

fn exact_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let too_long = || {
        format!(
            "the longest duration is `\"{}d\"`",
            MAX_DURATION.as_secs() / 86_400
        )
    };
    let mut rest = text;
    let mut allowed = &UNITS[..];
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (digits, after) = split(rest, |byte| byte.is_ascii_digit());
        let (unit, after) = split(after, |byte| byte.is_ascii_alphabetic());
        let place = allowed
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or(DURATION_FORM)?;
        if digits.is_empty() {
            return Err(DURATION_FORM.to_owned());
        }
        let number: u64 = digits.parse().map_err(|_| too_long())?;
        let milliseconds = number.checked_mul(allowed[place].1).ok_or_else(too_long)?;
        total = total.checked_add(milliseconds).ok_or_else(too_long)?;
        allowed = &allowed[place + 1..];
        rest = after;
    }
    if text.is_empty() {
        return Err(DURATION_FORM.to_owned());
    }
    let total = Duration::from_millis(total);
    if total > MAX_DURATION {
        Err(too_long())
    } else {
        Ok(total)
    }
}

/// A number of bytes: `"512B"`, `"32KiB"` (1024), `"1MB"` (1000 × 1000).
///
/// # Errors
/// What a size looks like, or that it is too large.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    const WORDS: [(&str, &str); 12] = [
        ("", "B"),
        ("byte", "B"),
        ("bytes", "B"),
        ("kilobyte", "KB"),
        ("kilobytes", "KB"),
        ("megabyte", "MB"),
        ("megabytes", "MB"),
        ("gigabyte", "GB"),
        ("gigabytes", "GB"),
        ("kibibytes", "KiB"),
        ("mebibytes", "MiB"),
        ("gibibytes", "GiB"),
    ];
    let mended = || match quantities(text)?.as_slice() {
        [(number, word)] => {
            let known = UNITS
                .iter()
                .map(|(unit, _)| *unit)
                .find(|unit| unit.eq_ignore_ascii_case(word));
            let named = WORDS.iter().find(|(name, _)| name == word).map(|(_, unit)| *unit);
            match (known.or(named), word.as_str()) {
                (Some(unit), _) => Some(format!("write `\"{number}{unit}\"`")),
                (None, "k" | "m" | "g" | "t") => {
                    let prefix = word.to_ascii_uppercase();
                    Some(format!(
                        "write `\"{number}{prefix}iB\"` (units of 1024) or `\"{number}{prefix}B\"` (of 1000)"
                    ))
                }
                _ => None,
            }
        }
        _ => None,
    };
    let (digits, unit) = split(text, |byte| byte.is_ascii_digit());
    let unit = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .filter(|_| !digits.is_empty());
    let Some((_, bytes)) = unit else {
        return Err(mended().unwrap_or_else(|| SIZE_FORM.to_owned()));
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*bytes))
        .ok_or_else(|| "it is larger than 64 bits can count".to_owned())
}

/// A part of something that all clients share: `"25%"`.
///
/// # Errors
/// What a percentage looks like.
pub(crate) fn share(text: &str) -> Result<Share, String> {
    let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
    match percent.filter(|percent| (1..=100).contains(percent) && !text.starts_with('+')) {
        Some(percent) => Ok(Share::Percent(percent)),
        None => Err("write a percentage from `\"1%\"` to `\"100%\"`, or a number without quotes".to_owned()),
    }
}

/// Where to listen: `127.0.0.1:8080`, `[::1]:8080`, `unix:/path`, `systemd`, `systemd:NAME`.
///
/// # Errors
/// What an address looks like. Names are not resolved: which address one stands for can change between two starts.
pub(crate) fn listen(text: &str) -> Result<Listen, String> {
    if text == "systemd" {
        return Ok(Listen::Systemd(None));
    }
    if let Some(name) = text.strip_prefix("systemd:") {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b':';
        return match !name.is_empty() && name.len() < 256 && name.bytes().all(is_plain) {
            true => Ok(Listen::Systemd(Some(name.into()))),
            false => Err("write the name of a socket of systemd: `systemd:passgate.socket`".to_owned()),
        };
    }
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() || path.ends_with('/') || path.starts_with("//") {
            return Err("write the path of the socket: `unix:/run/passgate.sock`".to_owned());
        }
        return Ok(Listen::Unix(PathBuf::from(path)));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Listen::Tcp(address));
    }
    if text.starts_with('/') {
        return Err(format!("a unix socket is written `\"unix:{}\"`", echo(text)));
    }
    // Without brackets, the last part of an IPv6 address and a port look the same: with a port it is no longer than one.
    if let Some((host, port)) = text.rsplit_once(':')
        && let (Ok(host), Ok(port)) = (host.parse::<Ipv6Addr>(), port.parse::<u16>())
    {
        return Err(format!(
            "an IPv6 address stands in brackets: `\"{}\"`",
            SocketAddr::from((host, port))
        ));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Err(format!(
            "the port is missing: `\"{}\"`",
            SocketAddr::new(address, 8080)
        ));
    }
    if let Some((_, rest)) = text.split_once("://") {
        // Without a user or a password, which may stand in front of it.
        let address = rest.rsplit('@').next().unwrap_or(rest).trim_end_matches('/');
        return Err(format!("an address has no scheme: `\"{}\"`", echo(address)));
    }
    match text.rsplit_once(':') {
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => Err(format!(
            "name the address: `\"127.0.0.1:{port}\"` for this machine, `\"0.0.0.0:{port}\"` or `\"[::]:{port}\"` for all"
        )),
        Some(("localhost", port)) if port.parse::<u16>().is_ok() => Err(format!(
            "names are not looked up: write `\"127.0.0.1:{port}\"` or `\"[::1]:{port}\"`"
        )),
        _ if text.parse::<u16>().is_ok() => Err(format!(
            "write `\"127.0.0.1:{text}\"` for this machine, `\"0.0.0.0:{text}\"` or `\"[::]:{text}\"` for all"
        )),
        _ => Err(
            "an address is `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/passgate.sock` or `systemd`".to_owned(),
        ),
    }
}

/// A network in CIDR notation; a bare address is that one host.
///
/// # Errors
/// What a network looks like. Bits behind the prefix are refused: `10.1.2.3/8` is a host to one reader and sixteen
/// million of them to another.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = text
        .parse()
        .map_err(|_| "a network is `10.0.0.0/8` or `fd00::/8`, a single host `10.1.2.3`".to_owned())?;
    if network.trunc() != network {
        return Err(format!(
            "write `{}` for the network, or `{}` for the one host",
            network.trunc(),
            network.addr()
        ));
    }
    // Clients are compared by their own family, so that such a network would have none.
    if let IpNet::V6(mapped) = network
        && let Some(address) = mapped.addr().to_ipv4_mapped()
    {
        let prefix = mapped.prefix_len().saturating_sub(96);
        return Err(format!("write `{address}/{prefix}` for IPv4 addresses"));
    }
    Ok(network)
}

/// An entry of `trusted_proxies`: a network, or `unix` for the peers on unix sockets.
///
/// # Errors
/// As of [`network`].
pub(crate) fn proxy(text: &str) -> Result<TrustedProxy, String> {
    if text == "unix" {
        Ok(TrustedProxy::Unix)
    } else {
        network(text).map(TrustedProxy::Network)
    }
}

/// A proxy that is asked with CONNECT: `http://proxy:3128`, with a user before `@` where it wants one.
///
/// # Errors
/// What to write instead.
pub(crate) fn egress_proxy(text: &str) -> Result<Url, String> {
    const FORM: &str = "it is like `http://proxy:3128`";
    let url: Url = text.parse().map_err(|reason| format!("{reason}; {FORM}"))?;
    if url.scheme() != "http" {
        return Err(format!(
            "the proxy itself is spoken to in plain HTTP, and TLS goes through it: {FORM}"
        ));
    }
    if !matches!(url.rest(), "" | "/") {
        return Err(format!("leave the path out: {FORM}"));
    }
    match url.userinfo() {
        Some(user) if user.contains(':') => {
            Err("the password does not belong here: `{ url = \"http://user@proxy:3128\", password = { file = \"…\" } }`".to_owned())
        }
        Some(user) if user.is_empty() || user.contains('%') => {
            Err("the user in front of `@` is written without `%`".to_owned())
        }
        _ => Ok(url),
    }
}

/// Why `null` is no origin to list.
pub(crate) const NULL_ORIGIN: &str =
    "every sandboxed page and every local file has the origin `null`: list the origin that serves the page";

/// An origin as a browser writes it in `Origin` (RFC 6454 section 6.2): `https://host` or `https://host:port`.
///
/// # Errors
/// What to write instead.
pub(crate) fn origin(text: &str) -> Result<Url, String> {
    const FORM: &str = "it is the origin that browsers see, like `https://app.example.com`";
    let url: Url = text.parse().map_err(|reason| format!("{reason}; {FORM}"))?;
    let default = match url.scheme() {
        "https" => 443,
        "http" => 80,
        _ => return Err(format!("it begins with `https://` or `http://`; {FORM}")),
    };
    if url.userinfo().is_some() {
        return Err(FORM.to_owned());
    }
    if !url.rest().is_empty() {
        let bare = &text[..text.len() - url.rest().len()];
        return Err(format!("leave the path out: `\"{bare}\"`"));
    }
    if url.port() == Some(default) {
        let bare = text.rsplit_once(':').map_or(text, |(bare, _)| bare);
        return Err(format!("browsers leave the default port out: `\"{bare}\"`"));
    }
    let lower = text.to_ascii_lowercase();
    if lower != text {
        return Err(format!("browsers write hosts in lower case: `\"{lower}\"`"));
    }
    Ok(url)
}

/// A prefix of paths, like `/auth`: one or more plain segments, so that it needs no decoding to be compared.
///
/// # Errors
/// What to write instead.
pub(crate) fn prefix(text: &str) -> Result<String, String> {
    const FORM: &str = "it looks like `/auth`: letters, digits, `-`, `_` and `.` after each `/`";
    let Some(segments) = text.strip_prefix('/') else {
        return Err(format!("it begins with `/`; {FORM}"));
    };
    if !segments.is_empty() && text.ends_with('/') {
        return Err(format!(
            "leave the last `/` out: `\"{}\"`",
            echo(text.trim_end_matches('/'))
        ));
    }
    let plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
    };
    if segments.split('/').all(plain) {
        Ok(text.to_owned())
    } else {
        Err(FORM.to_owned())
    }
}

/// Whether `text` is a token (RFC 9110 section 5.6.2), as field names, methods, schemes and cookie names are.
#[must_use]
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Parameters of an authorization request that are the gateway's own, or that would put others in their place.
const OWN_PARAMETERS: [&str; 17] = [
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "dpop_jkt",
    "id_token_hint",
    "nonce",
    "redirect_uri",
    "registration",
    "request",
    "request_uri",
    "response_type",
    "scope",
    "state",
];

/// The name of a further parameter of an authorization request.
///
/// # Errors
/// Why it cannot be one.
pub(crate) fn authorize_parameter(name: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
        return Err("a name is made of letters, digits, `-`, `_`, `.` and `:`, 64 at most".to_owned());
    }
    if name.eq_ignore_ascii_case("response_mode") {
        return Err("write it as a key of its own: `response_mode = \"form_post\"`".to_owned());
    }
    if OWN_PARAMETERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        return Err("the gateway sets this parameter itself".to_owned());
    }
    Ok(name.to_owned())
}

/// What a cookie's name may begin with, so that browsers keep it for HTTPS only (RFC 6265bis section 4.1.3).
const COOKIE_PREFIXES: [&str; 2] = ["__Host-", "__Secure-"];

/// The name of the session cookie.
///
/// # Errors
/// What to write instead. Browsers read the prefixes in any case, and servers that compare them do not.
pub(crate) fn cookie_name(text: &str) -> Result<String, String> {
    if !is_token(text) {
        return Err(
            "letters, digits and most signs, without spaces or `=` (RFC 6265 section 4.1.1)".to_owned(),
        );
    }
    if text.len() > 64 {
        return Err("at most 64 letters: it comes with every request".to_owned());
    }
    for prefix in COOKIE_PREFIXES {
        match text.get(..prefix.len()) {
            Some(start) if start == prefix && text.len() == prefix.len() => {
                return Err(format!("a name follows `{prefix}`: `{prefix}session`"));
            }
            Some(start) if start != prefix && start.eq_ignore_ascii_case(prefix) => {
                return Err(format!("it is spelled `{prefix}{}`", &text[prefix.len()..]));
            }
            _ => {}
        }
    }
    Ok(text.to_owned())
}

/// The cookie with a refresh token.
pub(crate) const REFRESH_COOKIE: &str = "__Secure-passgate-refresh";

/// The same on plain HTTP.
pub(crate) const REFRESH_COOKIE_ON_HTTP: &str = "passgate-refresh";

/// The default name of the session cookie.
pub(crate) const COOKIE: &str = "__Host-session";

/// The same on plain HTTP. Not `session`, which is what Flask, Starlette and Express call theirs.
const COOKIE_ON_HTTP: &str = "passgate-session";

/// What the cookie `name` is called on plain HTTP, where browsers take none with such a prefix, in whatever case of
/// letters.
#[must_use]
pub(crate) fn cookie_on_http(name: &str) -> &str {
    if name == COOKIE {
        return COOKIE_ON_HTTP;
    }
    let without = |name: &str, prefix: &str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            .then_some(prefix.len())
    };
    let mut name = name;
    while let Some(end) = COOKIE_PREFIXES.iter().find_map(|prefix| without(name, prefix)) {
        name = &name[end..];
    }
    if name.is_empty() { COOKIE_ON_HTTP } else { name }
}

/// `text` up to the first byte that does not satisfy `belongs`, and the rest.
fn split(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !belongs(byte)).unwrap_or(text.len()))
}
