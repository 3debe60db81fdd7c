//! The machine that the gateway runs on: its state, its disks, and the name that browsers know it by.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Checks, Finding};
use crate::app::config::Plan;
use crate::app::offline::directory;
use crate::session;
use crate::state;

/// The least free space, in bytes, below which writes may soon fail: 64 MiB.
const LEAST_SPACE: u64 = 64 * 1024 * 1024;

pub(super) fn add(checks: &mut Checks, plan: &Plan, file: &Path) {
    let settings = &plan.settings;
    let (url, base) = (settings.state_url.clone(), directory(file).to_owned());
    checks.add_blocking("state", format!("the state `{url}`"), move || {
        examine_state(&url, &base)
    });
    let state_file = state::file(&settings.state_url, directory(file));
    let mut places: Vec<PathBuf> = [state_file, settings.log.file.clone()]
        .into_iter()
        .flatten()
        .map(|file| directory(&file).to_owned())
        .collect();
    places.dedup();
    for place in places {
        checks.add_blocking("disk", format!("`{}`", place.display()), move || {
            vec![examine_disk(&place)]
        });
    }
    if settings.public_https.is_some() {
        let host = settings.public_host();
        checks.add("public_url", format!("`{host}`"), async move {
            vec![examine_host(&host).await]
        });
    }
    // Of one that is not `Secure`, `check` warns.
    if let Some(sign_in) = plan.sign_in.as_ref().filter(|sign_in| sign_in.session.secure) {
        let finding = examine_cookie(&sign_in.session);
        checks.add("cookie", "the session cookie", async move { vec![finding] });
    }
}

/// A state that is not there is not made.
fn examine_state(url: &str, base: &Path) -> Vec<Finding> {
    const CHECK: &str = "state";
    let file = state::file(url, base);
    if let Some(file) = file.as_ref().filter(|file| !file.exists()) {
        return vec![examine_place(file)];
    }
    let tried = state::open(url, base).and_then(|state| state.try_write());
    let mut findings = vec![match tried {
        Ok(()) => Finding::ok(CHECK, format!("the state `{url}` can be written")),
        Err(error) => Finding::problem(
            CHECK,
            error.to_string(),
            "run this command as the user of the service; without its state the gateway signs no user in",
        ),
    }];
    findings.extend(file.and_then(|file| examine_mode(&file, "the state file", "private keys")));
    // Without it there, no token of a provider is kept.
    let key_file = state::key_file(url, base);
    findings.extend(examine_mode(
        &key_file,
        "the key file",
        "the key of the providers' tokens",
    ));
    findings
}

/// A file that others can read.
fn examine_mode(file: &Path, what: &str, holds: &str) -> Option<Finding> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o7777;
    let shown = file.display();
    let text = || format!("{what} `{shown}` can be read by others (mode {mode:04o}), and holds {holds}");
    (mode & 0o077 != 0).then(|| Finding::warning("state", text(), format!("run `chmod 600 {shown}`")))
}

fn examine_place(file: &Path) -> Finding {
    const CHECK: &str = "state";
    let place = directory(file);
    let (shown, around) = (file.display(), place.display());
    let usable = rustix::fs::access(place, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    match usable.map_err(std::io::Error::from) {
        Ok(()) => Finding::ok(
            CHECK,
            format!("the state file `{shown}` is not there yet; `passgate run` makes it"),
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => Finding::problem(
            CHECK,
            format!("the directory `{around}` of the state file does not exist"),
            "make it, owned by the user of the service, or name another file in `[state] url`",
        ),
        Err(error) => Finding::problem(
            CHECK,
            format!("the state file cannot be made in `{around}`: {error}"),
            "run this command as the user of the service, and give this user the directory",
        ),
    }
}

fn examine_disk(place: &Path) -> Finding {
    const CHECK: &str = "disk";
    let shown = place.display();
    match rustix::fs::statvfs(place) {
        Err(error) => Finding::unknown(
            CHECK,
            format!(
                "the free space of `{shown}` cannot be read: {}",
                std::io::Error::from(error)
            ),
            "`df` shows it",
        ),
        Ok(disk) => judge_space(
            place,
            disk.f_bavail.saturating_mul(disk.f_frsize),
            disk.f_favail,
            disk.f_files,
        ),
    }
}

/// A file system that counts no files has room for any number.
fn judge_space(place: &Path, bytes: u64, free_files: u64, files: u64) -> Finding {
    const CHECK: &str = "disk";
    let shown = place.display();
    let text = format!("`{shown}` has {} MiB free", bytes / (1024 * 1024));
    if files > 0 && free_files == 0 {
        let text = format!("the file system of `{shown}` has no room for another file");
        return Finding::problem(CHECK, text, "delete files; `df -i` shows the inodes");
    }
    if bytes < LEAST_SPACE {
        return Finding::problem(
            CHECK,
            text,
            "make room: where the state cannot be written, no user can sign in or out",
        );
    }
    Finding::ok(CHECK, text)
}

async fn examine_host(host: &str) -> Finding {
    const CHECK: &str = "public_url";
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Finding::ok(CHECK, format!("`{host}` is an address"));
    }
    let hint = "add the name to the DNS, or correct `public_url`: browsers are redirected there to sign in";
    match tokio::net::lookup_host((host, 0)).await {
        Ok(addresses) => {
            let mut addresses: Vec<String> = addresses.map(|address| address.ip().to_string()).collect();
            addresses.dedup();
            match addresses.as_slice() {
                [] => Finding::problem(CHECK, format!("`{host}` has no address"), hint),
                addresses => Finding::ok(CHECK, format!("`{host}` is {}", addresses.join(", "))),
            }
        }
        Err(error) => Finding::problem(CHECK, format!("`{host}` cannot be resolved: {error}"), hint),
    }
}

/// Whether browsers keep the cookie (RFC 6265bis section 4.1.3).
fn examine_cookie(session: &session::Settings) -> Finding {
    const CHECK: &str = "cookie";
    let name = &session.cookie;
    if name.starts_with("__Host-") {
        return Finding::ok(CHECK, format!("`{name}` is `Secure` and bound to its host"));
    }
    Finding::warning(
        CHECK,
        format!("`{name}` is `Secure`, and other hosts of the domain can set a cookie of this name"),
        format!(
            "`cookie = \"__Host-{name}\"` in `[session]` binds it to its host; users sign in again after the change"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn little_space_is_a_problem() {
        let level = |bytes, free_files, files| judge_space(Path::new("/"), bytes, free_files, files).level;
        assert_eq!(level(LEAST_SPACE, 1, 1), Level::Ok);
        assert_eq!(level(LEAST_SPACE - 1, 1, 1), Level::Problem);
        assert_eq!(level(u64::MAX, 0, 10), Level::Problem);
        assert_eq!(level(u64::MAX, 0, 0), Level::Ok);
    }
}
