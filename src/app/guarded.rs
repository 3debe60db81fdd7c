//! Reads the TOML file by one handle, and only where it is safe from other users.
//!
//! A user who can write the file, or put another one in its place, decides who may do what; a file or directory that every
//! user can write is refused, at the start and at a reload.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;

use super::{Failure, Unreadable};

const WRITABLE_BY_ALL: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// The bytes of `file`.
///
/// # Errors
/// [`Failure::Unreadable`] where it cannot be read, or where every user could change it.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "name it with `-c FILE` or `$PASSGATE_CONFIG`; `passgate example > gateway.toml` writes a first one, \
                 `passgate example --minimal` a short one"
            }
            _ => "name it with `-c FILE` or `$PASSGATE_CONFIG`",
        };
        refused(
            file,
            format!("cannot read the configuration `{}`: {error}", file.display()),
            hint.to_owned(),
        )
    };
    let mut handle = File::open(file).map_err(unreadable)?;
    inspect(file, &handle.metadata().map_err(unreadable)?)?;
    let mut bytes = Vec::new();
    handle.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn refused(file: &Path, message: String, hint: String) -> Failure {
    Failure::Unreadable(Unreadable {
        file: file.display().to_string(),
        line: None,
        message,
        hint,
    })
}

fn inspect(file: &Path, data: &Metadata) -> Result<(), Failure> {
    // A pipe from another process, or a terminal.
    if !data.is_file() {
        return Ok(());
    }
    let shown = file.display();
    if data.mode() & WRITABLE_BY_ALL != 0 && !is_read_only(file) {
        let mode = data.mode() & 0o7777;
        return Err(refused(
            file,
            format!("every user can write `{shown}` (mode {mode:04o}), and so decide who may do what"),
            format!("look at what stands in it, then run `chmod o-w {shown}`"),
        ));
    }
    inspect_around(file, file)?;
    // Where the name is a link, both places count: that of the link and that of what it leads to.
    match fs::canonicalize(file) {
        Ok(real) if real != file => inspect_around(file, &real),
        _ => Ok(()),
    }
}

/// Whether the entry at `path`, which is `file` or what it leads to, can be replaced by every user.
fn inspect_around(file: &Path, path: &Path) -> Result<(), Failure> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let (Ok(around), Ok(entry)) = (fs::metadata(directory), fs::symlink_metadata(path)) else {
        return Ok(());
    };
    // In a sticky directory (/tmp) an entry is replaced by its owner alone.
    let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&entry.uid());
    let is_kept = around.mode() & STICKY != 0 && is_ours;
    if around.mode() & WRITABLE_BY_ALL == 0 || is_kept || is_read_only(directory) {
        return Ok(());
    }
    let (directory, mode) = (directory.display(), around.mode() & 0o7777);
    Err(refused(
        file,
        format!(
            "every user can write the directory `{directory}` (mode {mode:04o}), and so replace `{}`",
            file.display()
        ),
        format!("run `chmod o-w {directory}`, or move the file to a directory of its own"),
    ))
}

/// Whether `path` lies on a mount that nothing can be written to, whatever the modes say: configuration that Kubernetes
/// mounts has directories of mode 0777.
fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|of| of.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn refusal(file: &Path) -> Option<String> {
        read(file).err().map(|failure| failure.text())
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_every_user_can_write_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("conf");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("gateway.toml");
        fs::write(&file, "").unwrap();
        for (directory_mode, file_mode, refused) in [
            (0o755, 0o644, None),
            (0o770, 0o660, None),
            (0o755, 0o646, Some("chmod o-w")),
            (0o755, 0o666, Some("(mode 0666)")),
            (0o757, 0o600, Some("(mode 0757)")),
            (0o777, 0o600, Some("and so replace")),
            // The file is this user's own.
            (0o1777, 0o600, None),
            (0o1777, 0o602, Some("(mode 0602)")),
        ] {
            set_mode(&directory, directory_mode);
            set_mode(&file, file_mode);
            let said = refusal(&file);
            match refused {
                None => assert_eq!(said, None, "{directory_mode:o} {file_mode:o}"),
                Some(text) => assert!(said.as_ref().is_some_and(|said| said.contains(text)), "{said:?}"),
            }
        }
    }

    #[test]
    fn a_link_is_as_safe_as_both_its_ends() {
        let home = tempfile::tempdir().unwrap();
        let [here, there] = ["here", "there"].map(|name| home.path().join(name));
        for directory in [&here, &there] {
            fs::create_dir(directory).unwrap();
        }
        let (link, file) = (here.join("gateway.toml"), there.join("gateway.toml"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(refusal(&link), None);
        for directory in [&here, &there] {
            set_mode(directory, 0o777);
            let said = refusal(&link).unwrap();
            assert!(said.contains(&format!("`{}`", directory.display())), "{said}");
            set_mode(directory, 0o755);
        }
        set_mode(&file, 0o666);
        assert!(refusal(&link).is_some());
    }

    #[test]
    fn a_file_of_another_user_in_a_sticky_directory_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("tmp");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("gateway.toml");
        fs::write(&file, "").unwrap();
        set_mode(&directory, 0o1777);
        // Only root can give a file away; another user's test ends here.
        if std::os::unix::fs::chown(&file, Some(54_321), None).is_ok() {
            assert!(refusal(&file).unwrap().contains("and so replace"));
        }
        fs::remove_file(&file).unwrap();
        fs::write(&file, "").unwrap();
        assert_eq!(refusal(&file), None);
    }

    #[test]
    fn a_pipe_is_read_whatever_lies_around_it() {
        assert_eq!(read(Path::new("/dev/null")).unwrap(), b"");
    }
}
