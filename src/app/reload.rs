//! The running gateway as signals change it: a new configuration, an access log that is opened again.
//!
//! Input: a signal, and the file as it is now. Output: every worker serves with the new configuration, or the old one stays
//! and the log says why. Invariant: a file with an error never replaces a configuration that works.

use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tokio::task::JoinSet;

use super::build::{Current, assemble};
use super::config::{Plan, load};
use super::console::Console;
use super::file_watch::{Contents, FileWatch};
use super::login_services::Services;
use super::settings::{LogSettings, Settings};
use super::sockets::Sockets;
use super::state_sync::StateSnapshot;
use super::status::Status;
use super::worker::WorkerHandle;
use super::{Failure, config_tests, failed, key_store};
use crate::audit::{self, Event, Origin};
use crate::forward::{watch_health, watch_names};
use crate::observe::{self, AccessLog, Diagnostics, Metrics};
use crate::server::worker::OpenSocket;
use crate::session::Sessions;
use crate::verify::keep_fresh;

/// How often expired sessions are deleted.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// What a reload reads and replaces.
pub(super) struct Running<'a> {
    pub(super) file: PathBuf,
    /// Of the start: what of them has changed needs a restart.
    pub(super) settings: Arc<Settings>,
    pub(super) state: Arc<StateSnapshot>,
    pub(super) services: Services,
    pub(super) metrics: Arc<Metrics>,
    pub(super) console: &'a Console,
    pub(super) log: Arc<AccessLog>,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) report: Arc<Status>,
    pub(super) current: Arc<ArcSwap<Current>>,
    /// Of the current configuration.
    pub(super) tasks: JoinSet<()>,
    /// The files that it was read from.
    pub(super) in_use: Contents,
    pub(super) sockets: Sockets,
}

/// What a file was read into.
struct Next {
    current: Current,
    output: Box<dyn Write + Send>,
    sockets: Vec<Arc<OpenSocket>>,
    sha256: String,
    /// The files that it names.
    files: Vec<PathBuf>,
}

impl Running<'_> {
    /// Reads the file again and serves with it. With an error in it, the configuration in use stays. From here on `watch`
    /// watches the files that the new one names.
    pub(super) async fn reload(&mut self, watch: &mut FileWatch) {
        notify_reloading();
        let before = watch.contents().await;
        let mut next = self.read(&before).await;
        if let Err(error) = self.note(&next).await {
            // What cannot be recorded is not done.
            next = next.and(Err(Failure::Runtime(error)));
        }
        let file = self.file.display().to_string();
        let status = match next {
            Ok(mut next) => {
                let files = self.watched(std::mem::take(&mut next.files));
                watch.follow(files, before).await;
                self.in_use.clone_from(watch.seen());
                self.replace(next);
                self.report.reloaded(None);
                tracing::info!("configuration read again from `{file}`");
                String::new()
            }
            Err(failure) => {
                // A file that is missing is read once it is there.
                let mut files: Vec<PathBuf> = before.keys().cloned().collect();
                files.extend(failure.files().iter().cloned());
                watch.follow(files, before).await;
                let summary = failure.summary();
                let status =
                    format!("the last reload failed, and the previous configuration is in use: {summary}");
                self.report.reloaded(Some(summary));
                match failure {
                    Failure::Runtime(error) => tracing::error!(
                        "`{file}` was not applied: {}; the previous configuration stays in use",
                        super::chain_text(&error)
                    ),
                    failure => {
                        self.console.say(&failure.text());
                        tracing::error!("`{file}` was not applied; the previous configuration stays in use");
                    }
                }
                status
            }
        };
        let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// Writes to the audit log what becomes of the file.
    async fn note(&self, next: &Result<Next, Failure>) -> anyhow::Result<()> {
        let file = audit::text(&self.file.display().to_string());
        let event = match next {
            Ok(next) => Event::Reloaded {
                file,
                sha256: Some(next.sha256.clone()),
            },
            Err(failure) => Event::ReloadRefused {
                file,
                sha256: failure.sha256(),
                reason: audit::text(&failure.summary()),
            },
        };
        let audit = self.services.audit.clone();
        let write = move || audit.record(&Origin::gateway(), &[event]);
        Ok(tokio::task::spawn_blocking(write).await??)
    }

    /// The configuration file and those that it names.
    pub(super) fn watched(&self, mut files: Vec<PathBuf>) -> Vec<PathBuf> {
        files.push(self.file.clone());
        files
    }

    /// Whether the files of the configuration in use, itself apart, have the contents that they had when it was read.
    fn has_same_files(&self, now: &Contents) -> bool {
        let mut others = self.in_use.iter().filter(|(file, _)| **file != self.file);
        others.all(|(file, contents)| now.get(file) == Some(contents))
    }

    async fn read(&mut self, contents: &Contents) -> Result<Next, Failure> {
        let file = self.file.clone();
        let diagnostics = self.console.diagnostics.clone();
        let read = tokio::task::spawn_blocking(move || {
            let plan = load_tested(&file, &diagnostics)?;
            let output = log_output(&plan.settings.log).map_err(failed)?;
            Ok((plan, output))
        });
        let (mut plan, output) = read.await.map_err(failed).flatten()?;
        let files = std::mem::take(&mut plan.files);
        let sha256 = std::mem::take(&mut plan.sha256);
        for key in self.settings.differs(&plan.settings) {
            tracing::warn!("`{key}` changed but requires a restart; other changes were applied");
        }
        let link = self
            .services
            .first_link(plan.sign_in.as_ref(), &plan.settings.own_prefix)?;
        let sockets = self.sockets.next(&plan.settings)?;
        let known = self.current.load();
        let warm = self.has_same_files(contents).then_some(&**known);
        let next = assemble(plan, &self.state, &self.metrics, Some(&self.services), warm)?;
        if let Some(link) = link {
            self.console.say(&link);
        }
        // Keys that were fetched already: the new configuration must not wait for the first fetch.
        next.gateway
            .verifier
            .issuers()
            .inherit(known.gateway.verifier.issuers());
        Ok(Next {
            current: next,
            output,
            sockets,
            sha256,
            files,
        })
    }

    fn replace(&mut self, next: Next) {
        let added = self.sockets.added(&next.sockets);
        self.console.say_addresses(&next.current.settings, &added, None);
        self.sockets.replace(next.sockets);
        self.log.redirect(next.output);
        let next = next.current;
        self.log.set_form(next.settings.log.form);
        self.console.level.set(next.settings.log.level);
        let before = self.current.load_full();
        for upstream in &next.upstreams {
            upstream.remember(&before.upstreams);
        }
        self.current.store(Arc::new(next));
        let current = self.current.load();
        for worker in &self.workers {
            worker.replace(&current);
        }
        self.tasks = start_tasks(&current, &self.state);
    }

    /// Opens the files of the logs again, after log rotation.
    pub(super) async fn reopen_logs(&self) {
        let audit = self.services.audit.clone();
        let is_on = audit.is_on();
        match tokio::task::spawn_blocking(move || audit.reopen()).await {
            Ok(Ok(())) if is_on => tracing::info!("the audit log was opened again"),
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot open the audit log again; the old file stays in use");
            }
            Err(error) => tracing::error!(%error, "cannot open the audit log again"),
        }
        let settings = self.current.load().settings.log.clone();
        let opened = tokio::task::spawn_blocking(move || log_output(&settings)).await;
        match opened.map_err(anyhow::Error::from).and_then(|output| Ok(output?)) {
            Ok(output) => {
                self.log.redirect(output);
                tracing::info!("the access log was opened again");
            }
            Err(error) => {
                tracing::error!(%error, "cannot open the access log again; the old file stays in use")
            }
        }
    }
}

/// Reads the file and runs its tests; prints warnings.
pub(super) fn load_tested(file: &Path, diagnostics: &Diagnostics) -> Result<Plan, Failure> {
    let (plan, mut problems) = load(file)?;
    config_tests::run_tests(&plan, &mut problems);
    if !problems.errors().is_empty() {
        return Err(Failure::problems(problems));
    }
    if !problems.warnings().is_empty() {
        diagnostics.say(&problems.render(super::has_color()));
    }
    Ok(plan)
}

/// Where lines of the access log go.
pub(super) fn log_output(log: &LogSettings) -> std::io::Result<Box<dyn Write + Send>> {
    match &log.file {
        Some(path) => observe::open_file(path).map(|file| Box::new(file) as Box<dyn Write + Send>),
        // A handle of its own: `std::io::Stdout` buffers, and the end of the process would lose the last lines.
        None => Ok(Box::new(std::fs::File::from(
            std::io::stdout().as_fd().try_clone_to_owned()?,
        ))),
    }
}

/// Deletes expired sessions at an interval. Not on the thread that watches the state: a delete may wait for another
/// writer, and that thread would be late to confirm that the state is fresh.
async fn sweep(sessions: Arc<Sessions>) {
    loop {
        let swept = Arc::clone(&sessions);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || swept.sweep()).await {
            tracing::warn!(%error, "cannot delete expired sessions; they are refused nevertheless");
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

/// Tells systemd that the file is being read again (sd_notify(3): also for `Type=notify-reload`).
fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => drop(sd_notify::notify(&[NotifyState::Reloading, now])),
        Err(_) => drop(sd_notify::notify(&[NotifyState::Reloading])),
    }
}

/// The background tasks of one version of the configuration: key sets, names and health of servers, expired sessions. They end when
/// the set is dropped.
pub(super) fn start_tasks(current: &Current, state: &Arc<StateSnapshot>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let store = key_store::shared(state);
    for issuer in current.gateway.verifier.issuers().iter() {
        tasks.spawn(keep_fresh(
            Arc::clone(issuer),
            Arc::clone(&store),
            std::future::pending(),
        ));
    }
    for upstream in &current.upstreams {
        tasks.spawn(watch_names(Arc::clone(upstream), std::future::pending()));
        tasks.spawn(watch_health(Arc::clone(upstream), std::future::pending()));
    }
    if let Some(grants) = &current.gateway.grants {
        tasks.spawn(Arc::clone(grants).keep_fresh());
    }
    if let Some(sessions) = &current.sessions {
        tasks.spawn(sweep(Arc::clone(sessions)));
    }
    tasks
}
