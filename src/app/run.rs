//! `passgate run`: opens everything in order, serves until a signal, ends in order.
//!
//! Input: the path of the TOML file. Output: the exit code. Invariants: addresses are announced only after signal handlers
//! are installed; at the end no new connection is accepted, and requests under way get `drain_timeout`.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arc_swap::{ArcSwap, ArcSwapOption};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::admin_client;
use super::build::assemble;
use super::config::Plan;
use super::console::{Console, READER_PATIENCE, introduction, is_demo};
use super::file_watch::{Contents, FileWatch, contents_of};
use super::login_services::Services;
use super::offline::open_state;
use super::reload::{Running, load_tested, log_output, start_tasks};
use super::settings::Settings;
use super::sockets::Sockets;
use super::state_sync::{StateSnapshot, StateWatcher};
use super::status::Status;
use super::worker::{WorkerHandle, start_workers};
use super::{Failure, failed};
use crate::audit::{self, Audit, Event, Origin, Outside, RecordedState};
use crate::clock::Clock;
use crate::observe::{AccessLog, Decisions, History, Metrics, WorkerTelemetry};
use crate::rate_limit::RateLimits;
use crate::server::admin::{self, Report as _};
use crate::server::listen::{self, Address, Listener};
use crate::server::private_socket::{self, Other, SocketFile};
use crate::state::State;

/// The longest wait at the end for blocking work under way.
const WORK_PATIENCE: Duration = Duration::from_millis(500);

/// Serves with the configuration in `file` until the process gets SIGTERM or SIGINT. Returns the exit code. Errors are
/// printed here and not by the caller: a reader that has stopped must not keep the process from ending.
#[must_use]
pub(crate) fn run(file: &Path) -> u8 {
    let console = match Console::start() {
        Ok(console) => console,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "error: cannot start the thread that prints diagnostics: {error}"
            );
            return 1;
        }
    };
    let ended = open_and_serve(file, &console);
    if let Err(failure) = &ended {
        console.say(&failure.text());
    }
    console.flush();
    ended.map_or_else(|failure| failure.exit_code(), |()| 0)
}

fn open_and_serve(file: &Path, console: &Console) -> Result<(), Failure> {
    // Each fails only if a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = crate::verify::PROVIDER.install_default();
    let metrics = Arc::new(Metrics::new());
    // From before the file is read: a change from now on is read later.
    let mut seen = contents_of([file.to_owned()]);
    let mut plan = load_tested(file, &console.diagnostics)?;
    seen.extend(contents_of(std::mem::take(&mut plan.files)));
    console.level.set(plan.settings.log.level);
    let audit = Audit::at(plan.settings.audit.clone());
    audit
        .make_ready()
        .map_err(|error| Failure::Config(format!("error: {error}\n")))?;
    let mut state = open_state(&plan.settings.state_url, file)?;
    if audit.is_on() {
        state = Arc::new(RecordedState::new(state, audit.clone(), Outside::Gateway));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_name("control")
        .build()
        .context("cannot start the control runtime")?;
    let served = runtime.block_on(serve(file, plan, seen, (state, audit), metrics, console));
    runtime.shutdown_timeout(WORK_PATIENCE);
    served
}

async fn serve(
    file: &Path,
    plan: Plan,
    seen: Contents,
    (state, audit): (Arc<dyn State>, Audit),
    metrics: Arc<Metrics>,
    console: &Console,
) -> Result<(), Failure> {
    let settings = Arc::clone(&plan.settings);
    let state = StateSnapshot::open(state, settings.signing_algorithm, Clock::system());
    let state = Arc::new(state.context("cannot read the state")?);
    let is_demo = is_demo(&plan);
    let mut services = Services::start(&state, tokio::runtime::Handle::current(), audit.clone())?;
    let started = Event::Started {
        file: audit::text(&file.display().to_string()),
        sha256: Some(plan.sha256.clone()),
    };
    let first_link = services.first_link(plan.sign_in.as_ref(), &settings.own_prefix)?;
    let current = assemble(plan, &state, &metrics, Some(&services), None)?;
    let current = Arc::new(ArcSwap::from_pointee(current));

    let sockets = Sockets::open(&settings)?;
    let (admin, mut private) = open_admin(&settings)?;
    let beside = open_beside_state(&settings, file);

    let output = log_output(&settings.log).map_err(anyhow::Error::from)?;
    let log = AccessLog::start(settings.workers, output).context("cannot start the access log")?;
    log.set_form(settings.log.form);
    audit
        .record(&Origin::gateway(), &[started])
        .map_err(anyhow::Error::from)?;
    let decisions = Arc::new(Decisions::new(settings.workers));
    let handles = (0..settings.workers)
        .map(|number| {
            WorkerTelemetry::new(log.worker(number), metrics.worker(), decisions.worker(number))
                .map(|telemetry| WorkerHandle::new(&current.load(), telemetry))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow!("the system has no random numbers: {error}"))?;
    let log = Arc::new(log);
    let draining = watch::Sender::new(false);
    let mut workers = start_workers(&settings, &handles, sockets.told(), &draining)?;

    let keyed = Arc::clone(&current);
    let clock = state.clock.clone();
    let _watcher = StateWatcher::start(Arc::clone(&state), settings.tls.clone(), move |keys| {
        keyed.load().take_own_keys(keys, clock.now());
    })
    .context("cannot start the thread that watches the state")?;
    let tasks = start_tasks(&current.load(), &state);

    let report = Arc::new(Status {
        current: Arc::clone(&current),
        metrics: Arc::clone(&metrics),
        log: Arc::clone(&log),
        diagnostics: console.diagnostics.clone(),
        pulses: handles.iter().map(|worker| Arc::clone(&worker.pulse)).collect(),
        caches: handles
            .iter()
            .flat_map(|worker| worker.caches.iter().map(|cache| Status::counters(cache)))
            .collect(),
        state: Arc::clone(&state),
        loaded_at: AtomicI64::new(state.clock.now()),
        reload_failure: ArcSwapOption::empty(),
        draining: draining.subscribe(),
        decisions,
        history: History::start(&metrics),
        started_at: state.clock.now(),
        file: file.display().to_string(),
        wrong_tokens: RateLimits::default(),
    });
    let mut running = Running {
        file: file.to_owned(),
        settings: Arc::clone(&settings),
        state,
        services,
        metrics,
        console,
        log: Arc::clone(&log),
        workers: handles,
        report: Arc::clone(&report),
        current,
        tasks,
        in_use: seen.clone(),
        sockets,
    };

    // Install signal handlers before announcing readiness.
    let mut signals = Signals::install()?;
    let opened = running.sockets.all();
    console.say_addresses(&settings, &opened, admin.as_ref());
    tokio::spawn(Arc::clone(&report).keep_history());
    let (beside, file_beside) = beside.unzip();
    private.extend(file_beside);
    for listener in admin.into_iter().chain(beside) {
        let report: Arc<dyn admin::Report> = Arc::<Status>::clone(&report);
        tokio::spawn(admin::serve(listener, report));
    }
    if is_demo {
        console.say(&introduction(
            file,
            &settings,
            opened.first().map(|socket| &socket.listener),
        ));
    }
    drop(opened);
    if let Some(link) = first_link {
        console.say(&link);
    }
    if let Some(period) = sd_notify::watchdog_enabled() {
        tokio::spawn(notify_watchdog(period / 2, report));
    }
    let _ = sd_notify::notify(&[NotifyState::Ready]);

    let mut watch = FileWatch::start(seen);
    let ended = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break Ok(()),
            _ = signals.interrupt.recv() => break Ok(()),
            _ = signals.hang_up.recv() => running.reload(&mut watch).await,
            () = watch.changed() => {
                tracing::info!("`{}` or a file that it names has changed", file.display());
                running.reload(&mut watch).await;
            }
            _ = signals.rotated.recv() => running.reopen_logs().await,
            finished = workers.recv() => break Err(Failure::Runtime(match finished {
                Some(Err(error)) => error.context("a worker thread failed"),
                _ => anyhow!("a worker thread ended by itself"),
            })),
        }
    };

    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    tracing::info!(
        "shutting down: no longer accepting connections; in-flight requests have {:?} to finish",
        settings.drain_timeout
    );
    let paths = running.sockets.files();
    // The handles of this thread. Each worker drops its own; then the system refuses new connections.
    running.sockets.replace(Vec::new());
    draining.send_replace(true);
    running.tasks.abort_all();
    tokio::select! {
        () = async { while workers.recv().await.is_some() {} } => {}
        _ = signals.terminate.recv() => tracing::warn!("second signal to end: in-flight requests are cut off"),
        _ = signals.interrupt.recv() => tracing::warn!("second signal to end: in-flight requests are cut off"),
    }
    console.begin_end();
    log.flush_and_stop(READER_PATIENCE);
    for path in paths {
        let _ = std::fs::remove_file(path);
    }
    for file in private {
        file.remove();
    }
    ended
}

/// The admin port of the file, and the file of its socket, where it is one.
fn open_admin(settings: &Settings) -> Result<(Option<Listener>, Vec<SocketFile>), Failure> {
    Ok(match &settings.admin {
        None => (None, Vec::new()),
        Some(Address::Unix(path)) => {
            let opened = private_socket::open(path, Other::Stays).map_err(failed)?;
            (Some(opened.listener), vec![opened.file])
        }
        Some(address) => (Some(open_only(address)?), Vec::new()),
    })
}

/// The one socket of `address`. Decisions are for the user of the gateway, so that a unix socket of systemd has to be as well.
fn open_only(address: &Address) -> Result<Listener, Failure> {
    let mut opened = listen::open(address).map_err(failed)?.into_iter();
    let (Some(listener), None) = (opened.next(), opened.next()) else {
        return Err(failed(std::io::Error::other(format!(
            "`{address}` is several sockets, and the admin port is one"
        ))));
    };
    if let Listener::Unix(..) = &listener
        && let Address::Unix(path) = listener.address()
        && std::fs::metadata(&path).is_ok_and(|file| file.mode() & 0o077 != 0)
    {
        return Err(failed(std::io::Error::other(format!(
            "other users may connect to the admin port `{}`; write `SocketMode=0600` into its socket unit",
            path.display()
        ))));
    }
    Ok(listener)
}

/// The socket beside the state for `why` and `diff`. The gateway serves without it as well.
fn open_beside_state(settings: &Settings, file: &Path) -> Option<(Listener, SocketFile)> {
    let path = admin_client::socket(&settings.state_url, file)?;
    match private_socket::open(&path, Other::GivesWay) {
        Ok(opened) => {
            if opened.replaced {
                tracing::info!(
                    "another gateway has the same state: `passgate why` and `passgate diff` ask this one from now on, at `{}`",
                    path.display()
                );
            }
            Some((opened.listener, opened.file))
        }
        Err(error) => {
            tracing::warn!(
                "{error}; `passgate why` and `passgate diff` have to ask `[admin] listen`. hint: a socket needs a directory that the \
                 gateway may write to, and a path of at most 107 bytes"
            );
            None
        }
    }
}

/// The signals that the gateway handles.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// SIGHUP: reload.
    hang_up: Signal,
    /// SIGUSR1: the logs were rotated.
    rotated: Signal,
}

impl Signals {
    fn install() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot handle SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot handle SIGINT")?,
            hang_up: signal(SignalKind::hangup()).context("cannot handle SIGHUP")?,
            rotated: signal(SignalKind::user_defined1()).context("cannot handle SIGUSR1")?,
        })
    }
}

/// Tells systemd's watchdog that the gateway works, as long as the health check passes.
async fn notify_watchdog(every: Duration, report: Arc<Status>) {
    let mut turns = tokio::time::interval(every);
    loop {
        turns.tick().await;
        if report.health().is_ok() {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}
