//! Watches the configuration file and the files that it names.
//!
//! Input: paths. Output: a wake-up once their contents are others, and stay so for a moment. Directories are watched
//! (inotify(7)) and not files: an editor, certbot and Kubernetes put a new file, or a link to one, in the place of the old.
//! Contents are compared, because a time stamp says nothing about them. Invariants: what a reload has read does not wake it
//! again; contents are kept as digests, in memory alone; where a directory cannot be watched, its files are looked at now
//! and then.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

/// How long files must have been left alone before they are read: a copy or an editor writes in several steps.
const SETTLED: Duration = Duration::from_millis(250);
/// The longest wait for that.
const IMPATIENT: Duration = Duration::from_secs(5);
/// How often files are looked at without an event: network file systems have none, and a queue of events can overflow.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The most of one file that is compared, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The most files of one directory that are compared.
const MAX_FILES: usize = 1000;
/// The most links that one path is followed through, as in Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What changes a directory in a way that matters. A file that stays open, as a log or the state, is no configuration.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);

/// The contents of files. `None`: it cannot be read.
pub(super) type Contents = BTreeMap<PathBuf, Option<blake3::Hash>>;

/// The files in use, and what was in them when they were read.
#[derive(Debug)]
pub(super) struct FileWatch {
    inotify: Option<Arc<OwnedFd>>,
    /// Told of each event.
    events: Arc<Notify>,
    /// Whether there was an event since contents were last compared, or could have been one before directories were watched.
    is_due: bool,
    watched: BTreeSet<PathBuf>,
    seen: Contents,
}

impl FileWatch {
    /// Watches files that had these contents.
    pub(super) fn start(seen: Contents) -> Self {
        let events = Arc::new(Notify::new());
        let inotify = listen(&events)
            .inspect_err(|error| {
                tracing::warn!(%error, "cannot watch files; they are looked at every {LOOK_AGAIN:?}, and SIGHUP reads them at once");
            })
            .ok();
        let mut watch = Self {
            inotify,
            events,
            is_due: true,
            watched: BTreeSet::new(),
            seen,
        };
        watch.watch_directories();
        watch
    }

    /// The contents as they are now of the files that are watched.
    pub(super) async fn contents(&self) -> Contents {
        contents(self.seen.keys().cloned().collect()).await
    }

    /// What was in the files when they were read.
    pub(super) fn seen(&self) -> &Contents {
        &self.seen
    }

    /// Goes on with `files`. What is known of their contents is `before`, from before they were read: what changed since
    /// then was not read.
    pub(super) async fn follow(&mut self, files: Vec<PathBuf>, before: Contents) {
        let unknown = files.iter().filter(|file| !before.contains_key(*file));
        let mut seen = contents(unknown.cloned().collect()).await;
        let known = before.into_iter().filter(|(file, _)| files.contains(file));
        seen.extend(known);
        self.seen = seen;
        self.watched.clear();
        self.watch_directories();
        self.is_due = true;
    }

    /// Waits for other contents, until [`FileWatch::follow`] is told of them. It may be dropped at any time: the next call goes
    /// on.
    pub(super) async fn changed(&mut self) {
        loop {
            // Without an event in time, the files are looked at all the same.
            self.is_due = self.is_due || timeout(LOOK_AGAIN, self.events.notified()).await.is_ok();
            if self.is_due {
                let latest = Instant::now() + IMPATIENT;
                while timeout_at(latest.min(Instant::now() + SETTLED), self.events.notified())
                    .await
                    .is_ok()
                {}
            }
            // A link may lead to another directory now.
            self.watch_directories();
            let now = self.contents().await;
            self.is_due = false;
            if now != self.seen {
                return;
            }
        }
    }

    fn watch_directories(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        for directory in self.seen.keys().flat_map(|file| directories(file)) {
            // Again and again, because the path may be that of another directory now; for the same one it changes nothing.
            let watched = inotify::add_watch(&**inotify, &directory, EVENTS);
            let is_new = self.watched.insert(directory.clone());
            if let (Err(error), true) = (watched, is_new) {
                tracing::debug!(
                    directory = %directory.display(),
                    %error,
                    "cannot watch a directory; its files are looked at every {LOOK_AGAIN:?}"
                );
            }
        }
    }
}

/// An instance of inotify, whose events a thread takes as they come: a read of it blocks. The thread ends with the first event
/// that nothing waits for any more.
fn listen(events: &Arc<Notify>) -> std::io::Result<Arc<OwnedFd>> {
    let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
    let (read, told) = (Arc::clone(&inotify), Arc::downgrade(events));
    std::thread::Builder::new()
        .name("file-watch".to_owned())
        .spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(&*read, &mut buffer);
            loop {
                match reader.next() {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => {
                        tracing::warn!(%error, "cannot read events of files; files are looked at every {LOOK_AGAIN:?}");
                        return;
                    }
                }
                let Some(events) = told.upgrade() else { return };
                events.notify_one();
            }
        })?;
    Ok(inotify)
}

/// Contents of files, and of the files in directories.
pub(super) fn contents_of(files: impl IntoIterator<Item = PathBuf>) -> Contents {
    let with_hash = |file: PathBuf| {
        let hash = hash_of(&file).ok();
        (file, hash)
    };
    files.into_iter().map(with_hash).collect()
}

/// The same on a thread for blocking work.
async fn contents(files: Vec<PathBuf>) -> Contents {
    tokio::task::spawn_blocking(move || contents_of(files))
        .await
        .unwrap_or_default()
}

fn hash_of(path: &Path) -> std::io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        let mut names: Vec<PathBuf> = fs::read_dir(path)?
            .take(MAX_FILES)
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        names.sort();
        for name in names.iter().filter(|name| name.is_file()) {
            hasher.update(name.as_os_str().as_encoded_bytes());
            hasher.update(hash_of(name)?.as_bytes());
        }
    } else if metadata.is_file() {
        // Also the mode: a file that every user can write is refused, and taken once that has changed.
        hasher.update(&metadata.permissions().mode().to_le_bytes());
        hasher.update_reader(fs::File::open(path)?.take(MAX_BYTES))?;
    }
    Ok(hasher.finalize())
}

/// The directories in which an entry would have to change for `path` to lead to other contents: its own, and that of each
/// link on the way.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut links = 0;
    let mut rest: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = rest.pop() {
        let mut place = PathBuf::new();
        for part in path.components() {
            if part == Component::CurDir {
                continue;
            }
            let directory = place.clone();
            place.push(part);
            let Ok(target) = fs::read_link(&place) else {
                continue;
            };
            found.insert(or_here(&directory));
            links += 1;
            if links <= MAX_LINKS {
                rest.push(directory.join(target));
            }
        }
        if path.is_dir() {
            found.insert(path.clone());
        }
        found.insert(or_here(path.parent().unwrap_or(&path)));
    }
    found
}

/// A relative path of no part is the working directory.
fn or_here(directory: &Path) -> PathBuf {
    match directory.as_os_str() {
        empty if empty == OsStr::new("") => PathBuf::from("."),
        _ => directory.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    /// Long enough for a change to be seen; a change that is not seen takes this long.
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn watch(files: &[&Path]) -> FileWatch {
        FileWatch::start(contents(files.iter().map(|file| (*file).to_owned()).collect()).await)
    }

    /// Whether it wakes, and as after a reload goes on.
    async fn wakes(watch: &mut FileWatch) -> bool {
        let has_woken = timeout(PATIENCE, watch.changed()).await.is_ok();
        let now = watch.contents().await;
        watch.follow(now.keys().cloned().collect(), now).await;
        has_woken
    }

    #[tokio::test]
    async fn new_contents_wake_however_they_come() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let file = at("gateway.toml");
        fs::write(&file, "a").unwrap();
        let mut watch = watch(&[&file]).await;
        let steps: [&dyn Fn(); 5] = [
            &|| fs::write(&file, "b").unwrap(),
            // As an editor does it: another file of the same length takes the place.
            &|| {
                fs::write(at("new"), "c").unwrap();
                fs::rename(at("new"), &file).unwrap();
            },
            &|| fs::remove_file(&file).unwrap(),
            &|| fs::write(&file, "d").unwrap(),
            &|| {
                fs::write(at("e"), "e").unwrap();
                symlink("e", at("link")).unwrap();
                fs::rename(at("link"), &file).unwrap();
            },
        ];
        for (number, step) in steps.into_iter().enumerate() {
            step();
            assert!(wakes(&mut watch).await, "step {number}");
        }
    }

    /// Kubernetes: the file is a link through `..data`, which is a link to a directory that is replaced.
    #[tokio::test]
    async fn a_link_on_the_way_that_leads_elsewhere_wakes() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for (directory, text) in [("..1", "a"), ("..2", "b"), ("..3", "c")] {
            fs::create_dir(at(directory)).unwrap();
            fs::write(at(directory).join("gateway.toml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/gateway.toml", at("gateway.toml")).unwrap();
        let mut watch = watch(&[&at("gateway.toml")]).await;
        for next in ["..2", "..3"] {
            symlink(next, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            assert!(wakes(&mut watch).await, "{next}");
        }
        // The directory that it leads to now is watched as well.
        fs::write(at("..3").join("gateway.toml"), "d").unwrap();
        assert!(wakes(&mut watch).await);
    }

    #[tokio::test]
    async fn what_was_read_and_other_files_do_not_wake() {
        let home = tempfile::tempdir().unwrap();
        let [file, other, added] = ["a", "b", "c"].map(|name| home.path().join(name));
        fs::write(&file, "1").unwrap();
        let mut watch = watch(&[&file]).await;
        // As a reload on SIGHUP does it.
        let before = watch.contents().await;
        fs::write(&added, "1").unwrap();
        watch.follow(vec![file.clone(), added.clone()], before).await;
        fs::write(&other, "1").unwrap();
        fs::write(&file, "1").unwrap();
        assert_eq!(watch.contents().await, watch.seen);
        fs::write(&added, "2").unwrap();
        assert!(wakes(&mut watch).await);
        // Written after it was compared and before the rest of the file was read.
        let before = watch.contents().await;
        fs::write(&file, "2").unwrap();
        watch.follow(vec![file.clone(), added], before).await;
        assert!(wakes(&mut watch).await);
    }

    #[tokio::test]
    async fn a_change_before_the_directory_was_watched_wakes() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("gateway.toml");
        fs::write(&file, "a").unwrap();
        let before = contents(vec![file.clone()]).await;
        fs::write(&file, "b").unwrap();
        let mut watch = FileWatch::start(before);
        assert!(timeout(PATIENCE, watch.changed()).await.is_ok());
        // The same for files that only the next configuration names.
        let before = watch.contents().await;
        fs::write(&file, "c").unwrap();
        watch.follow(vec![file.clone()], before).await;
        assert!(timeout(PATIENCE, watch.changed()).await.is_ok());
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_loses_no_change() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("gateway.toml");
        fs::write(&file, "a").unwrap();
        let mut watch = watch(&[&file]).await;
        watch.is_due = false;
        fs::write(&file, "b").unwrap();
        // Dropped while it waits for the files to be left alone.
        let events = Arc::clone(&watch.events);
        timeout(PATIENCE, events.notified()).await.unwrap();
        events.notify_one();
        assert!(timeout(SETTLED / 5, watch.changed()).await.is_err());
        assert!(wakes(&mut watch).await);
    }

    #[test]
    fn templates_are_compared_file_by_file() {
        let home = tempfile::tempdir().unwrap();
        let before = hash_of(home.path()).unwrap();
        fs::write(home.path().join("sign-in.html"), "a").unwrap();
        let with_file = hash_of(home.path()).unwrap();
        fs::write(home.path().join("sign-in.html"), "b").unwrap();
        let changed = hash_of(home.path()).unwrap();
        assert!(before != with_file && with_file != changed);
        assert!(hash_of(&home.path().join("gone")).is_err());
    }
}
