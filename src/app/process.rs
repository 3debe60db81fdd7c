//! The running gateway: everything opened, joined and started in order, reloaded, and ended in order.

use std::cell::OnceCell;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::build::{Current, assemble};
use super::config::{Plan, load};
use super::config_tests::Asked;
use super::login_services::Services;
use super::offline::open_state;
use super::settings::{LogSettings, Settings};
use super::state_sync::{StateSnapshot, StateWatcher};
use super::status::Report;
use super::{Failure, config_tests, key_store};
use crate::clock::Clock;
use crate::forward::{Pool, watch_health};
use crate::gateway::WorkerContext;
use crate::identity::Caller;
use crate::observe::{self, AccessLog, Diagnostics, LevelSwitch, Metrics, WorkerTelemetry};
use crate::refusal::Refusal;
use crate::server::admin::{self, Report as _};
use crate::server::context::Context;
use crate::server::listen::{self, Address, Listener};
use crate::server::roster::Roster;
use crate::server::worker::{Pulse, Worker};
use crate::session::Sessions;
use crate::state::State;
use crate::verify::{LocalCache, OWN_NAME, keep_fresh};

/// The longest wait at the end for whoever reads what is printed.
const READER_PATIENCE: Duration = Duration::from_secs(1);
/// The longest wait at the end for blocking work that is under way.
const WORK_PATIENCE: Duration = Duration::from_millis(500);

/// Serves with the configuration in `file` until the process is told to end. Returns the exit code; what went wrong has
/// been said, because a reader that has stopped must not keep the process from ending.
#[must_use]
pub fn run(file: &Path) -> u8 {
    let diagnostics = match Diagnostics::start() {
        Ok(diagnostics) => diagnostics,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "error: cannot start the thread that prints diagnostics: {error}"
            );
            return 1;
        }
    };
    let voice = Voice {
        level: diagnostics.install(super::has_color()),
        diagnostics,
        until: OnceCell::new(),
    };
    let ended = open_and_serve(file, &voice);
    if let Err(failure) = &ended {
        voice.diagnostics.say(&failure.text());
    }
    // One reader may have both streams: what is waited for is waited for once.
    let until = *voice.until.get_or_init(|| Instant::now() + READER_PATIENCE);
    voice
        .diagnostics
        .flush(until.saturating_duration_since(Instant::now()));
    ended.map_or_else(|failure| failure.exit_code(), |()| 0)
}

/// Standard error, for diagnostics; standard output is the access log.
struct Voice {
    diagnostics: Diagnostics,
    level: LevelSwitch,
    /// When a reader is waited for no longer, once the end has begun.
    until: OnceCell<Instant>,
}

fn open_and_serve(file: &Path, voice: &Voice) -> Result<(), Failure> {
    // A second call would be the only way to fail.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let metrics = Arc::new(Metrics::new());
    let plan = load_tested(file, &metrics, &voice.diagnostics)?;
    voice.level.set(plan.settings.log.level);
    let state = open_state(&plan.settings.state_url, file)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_name("control")
        .build()
        .context("cannot start the control runtime")?;
    let served = runtime.block_on(serve(file, plan, state, metrics, voice));
    runtime.shutdown_timeout(WORK_PATIENCE);
    served
}

/// Reads the file and runs its tests; warnings are said.
fn load_tested(file: &Path, metrics: &Metrics, diagnostics: &Diagnostics) -> Result<Plan, Failure> {
    let (plan, mut problems) = load(file, metrics)?;
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
fn log_output(log: &LogSettings) -> std::io::Result<Box<dyn Write + Send>> {
    match &log.file {
        Some(path) => observe::open_file(path).map(|file| Box::new(file) as Box<dyn Write + Send>),
        // A handle of its own: `std::io::Stdout` would hold what is written at the end of the process.
        None => Ok(Box::new(std::fs::File::from(
            std::io::stdout().as_fd().try_clone_to_owned()?,
        ))),
    }
}

/// One worker as the rest of the process sees it.
struct WorkerHandle {
    lane: Arc<ArcSwap<WorkerContext>>,
    /// For access tokens and others', and for what session cookies hold.
    caches: [Arc<Mutex<LocalCache>>; 2],
    desk: Arc<WorkerTelemetry>,
}

impl WorkerHandle {
    fn lane(
        current: &Current,
        [cache, session_cache]: &[Arc<Mutex<LocalCache>>; 2],
        desk: &Arc<WorkerTelemetry>,
    ) -> Arc<WorkerContext> {
        Arc::new(WorkerContext {
            gateway: Arc::clone(&current.gateway),
            pool: Pool::new(current.share),
            cache: Arc::clone(cache),
            session_cache: Arc::clone(session_cache),
            desk: Arc::clone(desk),
        })
    }

    fn new(current: &Current, desk: WorkerTelemetry) -> Self {
        let caches = [(); 2].map(|()| Arc::new(Mutex::new(LocalCache::new())));
        let desk = Arc::new(desk);
        Self {
            lane: Arc::new(ArcSwap::new(Self::lane(current, &caches, &desk))),
            caches,
            desk,
        }
    }

    fn change(&self, current: &Current) {
        self.lane.store(Self::lane(current, &self.caches, &self.desk));
    }
}

/// How often sessions that are over by their limits are deleted.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Ends sessions that are over by their limits, now and then. Not on the thread that watches the state: it writes, and so
/// waits for whoever else does, and meanwhile that thread could not say that what is known is fresh.
async fn sweep(sessions: Arc<Sessions>) {
    loop {
        let swept = Arc::clone(&sessions);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || swept.sweep()).await {
            tracing::warn!(%error, "sessions that are over were not deleted; they are refused all the same");
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

/// Tells systemd's watchdog that the gateway works, for as long as it does.
async fn pet_watchdog(every: Duration, report: Arc<Report>) {
    let mut turns = tokio::time::interval(every);
    loop {
        turns.tick().await;
        if report.health().is_ok() {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}

/// Tells systemd that the file is being read again (sd_notify(3): also for `Type=notify-reload`).
fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => drop(sd_notify::notify(&[NotifyState::Reloading, now])),
        Err(_) => drop(sd_notify::notify(&[NotifyState::Reloading])),
    }
}

async fn serve(
    file: &Path,
    plan: Plan,
    state: Arc<dyn State>,
    metrics: Arc<Metrics>,
    voice: &Voice,
) -> Result<(), Failure> {
    let diagnostics = &voice.diagnostics;
    let mirror = Arc::new(StateSnapshot::open(state, Clock::system()).context("cannot read the state")?);
    let settings = Arc::clone(&plan.settings);
    let is_demo = is_demo(&plan);
    let mut services = Services::start(&mirror, tokio::runtime::Handle::current())?;
    let first_link = services.first_link(plan.sign_in.as_ref(), &settings.own_prefix)?;
    let current = Arc::new(ArcSwap::from_pointee(assemble(
        plan,
        &mirror,
        &metrics,
        Some(&services),
    )?));

    let listeners = open_listeners(&settings.listen)?;
    let redirects = open_listeners(settings.redirect_http.as_slice())?;
    let admin = match &settings.admin {
        Some(address) => open_listeners(std::slice::from_ref(address))?.into_iter().next(),
        None => None,
    };

    let output = log_output(&settings.log).map_err(anyhow::Error::from)?;
    let log = AccessLog::start(settings.workers, output).context("cannot start the access log")?;
    log.set_form(settings.log.form);
    let seats = (0..settings.workers)
        .map(|number| {
            WorkerTelemetry::new(log.worker(number), metrics.worker())
                .map(|desk| WorkerHandle::new(&current.load(), desk))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow!("the system has no random numbers: {error}"))?;
    let log = Arc::new(log);
    let draining = watch::Sender::new(false);
    let pulses: Vec<Arc<Pulse>> = seats.iter().map(|_| Arc::default()).collect();
    let mut workers = start_workers(&settings, &seats, &pulses, &listeners, &redirects, &draining)?;

    let keyed = Arc::clone(&current);
    let clock = mirror.clock.clone();
    let _watch = StateWatcher::start(Arc::clone(&mirror), settings.tls.clone(), move |keys| {
        keyed.load().take_own_keys(keys, clock.now());
    })
    .context("cannot start the thread that watches the state")?;
    let mut tasks = start_tasks(&current.load(), &mirror);

    let report = Arc::new(Report {
        current: Arc::clone(&current),
        metrics: Arc::clone(&metrics),
        log: Arc::clone(&log),
        diagnostics: diagnostics.clone(),
        pulses,
        caches: seats
            .iter()
            .flat_map(|seat| seat.caches.iter().map(|cache| Report::counters(cache)))
            .collect(),
        mirror: Arc::clone(&mirror),
        loaded_at: AtomicI64::new(mirror.clock.now()),
        reload_failed: AtomicBool::new(false),
        draining: draining.subscribe(),
    });
    // Before anybody hears that there is somebody to be told.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut rotated = signal(SignalKind::user_defined1()).context("cannot listen for SIGUSR1")?;
    for listener in &listeners {
        diagnostics.say(&format!(
            "listening on {}\n",
            shown(&listener.address(), settings.tls.is_some())
        ));
    }
    for redirect in &redirects {
        diagnostics.say(&format!(
            "redirecting {} to {}\n",
            shown(&redirect.address(), false),
            settings.public_url
        ));
    }
    if let Some(admin) = admin {
        diagnostics.say(&format!("admin on {}\n", shown(&admin.address(), false)));
        let report: Arc<dyn admin::Report> = Arc::<Report>::clone(&report);
        tokio::spawn(admin::serve(admin, report));
    }
    if is_demo {
        diagnostics.say(&introduction(file, &settings, listeners.first()));
    }
    if let Some(link) = first_link {
        diagnostics.say(&link);
    }
    if let Some(period) = sd_notify::watchdog_enabled() {
        tokio::spawn(pet_watchdog(period / 2, Arc::clone(&report)));
    }
    let _ = sd_notify::notify(&[NotifyState::Ready]);

    let mut ended = Ok(());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                notify_reloading();
                let next = reload(file, &settings, &mirror, &current, &metrics, &mut services, diagnostics).await;
                report.reloaded(next.is_some());
                let mut status = "the last reload was refused, the configuration before it is in use";
                if let Some((next, output)) = next {
                    status = "";
                    log.redirect(output);
                    log.set_form(next.settings.log.form);
                    voice.level.set(next.settings.log.level);
                    let before = current.load_full();
                    next.upstreams.iter().for_each(|upstream| upstream.remember(&before.upstreams));
                    current.store(Arc::new(next));
                    seats.iter().for_each(|seat| seat.change(&current.load()));
                    tasks = start_tasks(&current.load(), &mirror);
                }
                let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]);
            }
            _ = rotated.recv() => {
                let settings = current.load().settings.log.clone();
                match tokio::task::spawn_blocking(move || log_output(&settings)).await {
                    Ok(Ok(output)) => {
                        log.redirect(output);
                        tracing::info!("the access log was opened again");
                    }
                    Ok(Err(error)) => tracing::error!(%error, "the access log goes on where it was"),
                    Err(error) => tracing::error!(%error, "the access log was not opened again"),
                }
            }
            finished = workers.recv() => {
                ended = Err(Failure::Runtime(match finished {
                    Some(Err(error)) => error.context("a worker thread failed"),
                    _ => anyhow!("a worker thread ended by itself"),
                }));
                break;
            }
        }
    }

    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    tracing::info!(
        "ending: no new connections; requests under way have {:?}",
        settings.drain_timeout
    );
    let paths: Vec<PathBuf> = listeners
        .iter()
        .chain(&redirects)
        .filter_map(Listener::made)
        .collect();
    drop((listeners, redirects)); // ours; each worker drops its own, and then the system refuses new connections
    draining.send_replace(true);
    drop(tasks);
    tokio::select! {
        () = async { while workers.recv().await.is_some() {} } => {}
        _ = terminate.recv() => tracing::warn!("told to end twice: requests under way are cut off"),
        _ = interrupt.recv() => tracing::warn!("told to end twice: requests under way are cut off"),
    }
    voice.until.get_or_init(|| Instant::now() + READER_PATIENCE);
    log.flush_and_stop(READER_PATIENCE);
    for path in paths {
        let _ = std::fs::remove_file(path);
    }
    ended
}

fn open_listeners(addresses: &[Address]) -> Result<Vec<Listener>, Failure> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.extend(listen::open(address).map_err(|error| Failure::Runtime(error.into()))?);
    }
    Ok(listeners)
}

fn shown(address: &Address, tls: bool) -> String {
    match address {
        Address::Tcp(address) => format!("{}://{address}", if tls { "https" } else { "http" }),
        other => other.to_string(),
    }
}

fn share_all(listeners: &[Listener]) -> anyhow::Result<Vec<Listener>> {
    listeners
        .iter()
        .map(Listener::share)
        .collect::<Result<_, _>>()
        .context("cannot share a listening socket")
}

/// Starts one thread a worker. The receiver hears of each that ends, and of the end of all of them.
fn start_workers(
    settings: &Settings,
    seats: &[WorkerHandle],
    pulses: &[Arc<Pulse>],
    listeners: &[Listener],
    redirects: &[Listener],
    draining: &watch::Sender<bool>,
) -> Result<mpsc::Receiver<anyhow::Result<()>>, Failure> {
    let (finished, workers) = mpsc::channel(seats.len().max(1));
    let roster = Roster::new(settings.max_connections, settings.max_connections_per_client);
    let tls = settings
        .tls
        .as_ref()
        .map(crate::server::tls::Certificates::server_config);
    for (index, (seat, pulse)) in seats.iter().zip(pulses).enumerate() {
        let worker = Worker {
            pulse: Arc::clone(pulse),
            listeners: share_all(listeners)?,
            context: Arc::new(Context {
                lane: Arc::clone(&seat.lane),
                tls: tls.clone(),
                limits: settings.limits.clone(),
                draining: draining.subscribe(),
            }),
            redirects: share_all(redirects)?,
            public_url: settings.public_url.as_str().into(),
            roster: Arc::clone(&roster),
            drain_timeout: settings.drain_timeout,
        };
        let finished = finished.clone();
        std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let ended = worker.run().map_err(anyhow::Error::from);
                // There is room for each of them; nobody listens any more when the process is told to end twice.
                let _ = finished.try_send(ended);
            })
            .context("cannot start a worker thread")?;
    }
    Ok(workers)
}

/// Key sets, health checks and the sweep of one version of the configuration; they end when the set is dropped.
fn start_tasks(current: &Current, mirror: &Arc<StateSnapshot>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let store = key_store::shared(mirror);
    for issuer in current.gateway.verifier.issuers().iter() {
        tasks.spawn(keep_fresh(
            Arc::clone(issuer),
            Arc::clone(&store),
            std::future::pending(),
        ));
    }
    for upstream in &current.upstreams {
        tasks.spawn(watch_health(Arc::clone(upstream), std::future::pending()));
    }
    if let Some(sessions) = &current.sessions {
        tasks.spawn(sweep(Arc::clone(sessions)));
    }
    tasks
}

/// Reads the file again. What is wrong with it is said, and the configuration in use stays.
async fn reload(
    file: &Path,
    settings: &Settings,
    mirror: &Arc<StateSnapshot>,
    current: &Arc<ArcSwap<Current>>,
    metrics: &Arc<Metrics>,
    services: &mut Services,
    diagnostics: &Diagnostics,
) -> Option<(Current, Box<dyn Write + Send>)> {
    let path: PathBuf = file.to_owned();
    let (labels, said) = (Arc::clone(metrics), diagnostics.clone());
    let loaded = tokio::task::spawn_blocking(move || {
        let plan = load_tested(&path, &labels, &said)?;
        let output = log_output(&plan.settings.log).map_err(|error| Failure::Runtime(error.into()))?;
        Ok((plan, output))
    })
    .await;
    let next = loaded
        .map_err(|error| Failure::Runtime(error.into()))
        .flatten()
        .and_then(|(plan, output)| {
            for key in settings.differs(&plan.settings) {
                tracing::warn!("`{key}` has changed, which takes a restart; the rest of the file is taken");
            }
            let link = services.first_link(plan.sign_in.as_ref(), &plan.settings.own_prefix)?;
            let next = assemble(plan, mirror, metrics, Some(services))?;
            if let Some(link) = link {
                diagnostics.say(&link);
            }
            next.gateway
                .verifier
                .issuers()
                .inherit(current.load().gateway.verifier.issuers());
            Ok((next, output))
        });
    match next {
        Ok(next) => {
            tracing::info!("configuration read again from `{}`", file.display());
            Some(next)
        }
        Err(Failure::Runtime(error)) => {
            tracing::error!(
                "`{}` was not taken: {}; the configuration in use stays",
                file.display(),
                super::chain_text(&error)
            );
            None
        }
        Err(failure) => {
            diagnostics.say(&failure.text());
            tracing::error!(
                "`{}` was not taken; the configuration in use stays",
                file.display()
            );
            None
        }
    }
}

/// Whether what [`introduction`] says is true of this configuration.
fn is_demo(plan: &Plan) -> bool {
    let alice = config_tests::identity(
        OWN_NAME,
        "alice",
        vec!["user".to_owned()],
        Vec::new(),
        serde_json::Map::new(),
    );
    let alice = Arc::new(Caller::new(alice));
    let refusal = |path, caller| {
        let asked = Asked::parse("GET", path, &plan.settings.public_url).ok()?;
        Some(config_tests::decide(plan, &asked, caller).refusal)
    };
    plan.upstreams.iter().any(|upstream| upstream.is_builtin())
        && refusal("/hello", None) == Some(Some(Refusal::CredentialMissing))
        && refusal("/hello", Some(Arc::clone(&alice))) == Some(None)
        && refusal("/admin/users", Some(alice)) == Some(Some(Refusal::RoleRefused))
}

/// The first commands for somebody who tries it out.
fn introduction(file: &Path, settings: &Settings, listener: Option<&Listener>) -> String {
    let program = std::env::current_exe().ok();
    let here = std::env::current_dir().ok();
    let program = match (&program, &here) {
        (Some(program), Some(here)) => program
            .strip_prefix(here)
            .unwrap_or(program)
            .display()
            .to_string(),
        _ => "passgate".to_owned(),
    };
    let url = match listener.map(Listener::address) {
        Some(Address::Tcp(address)) => shown(&Address::Tcp(address), settings.tls.is_some()),
        _ => settings.public_url.clone(),
    };
    let file = file.display();
    format!(
        "
try it, in another terminal in the same directory:

  TOKEN=$({program} token mint -c {file} --subject alice --role user)
  curl -H \"Authorization: Bearer $TOKEN\" {url}/hello                 # the app sees who you are
  curl -i {url}/hello                                                # 401: nobody
  curl -i -H \"Authorization: Bearer $TOKEN\" {url}/admin/users        # 403: alice is no admin
  {program} explain -c {file} GET {url}/admin/users --as alice --role user

"
    )
}
