//! The running gateway: everything opened, joined and started in order, reloaded, and ended in order.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::assemble::{Current, assemble};
use super::control::{Mirror, Watch};
use super::open::open_state;
use super::plan::{Plan, load};
use super::report::Report;
use super::services::Services;
use super::settings::Settings;
use super::trial::Asked;
use super::{Failure, key_store, trial};
use crate::clock::Clock;
use crate::forward::{Pool, watch_health};
use crate::gateway::Lane;
use crate::identity::Caller;
use crate::observe::{AccessLog, Desk, Metrics};
use crate::refusal::Refusal;
use crate::server::admin;
use crate::server::connection::Context;
use crate::server::listen::{self, Address, Listener};
use crate::server::worker::Worker;
use crate::session::Sessions;
use crate::state::State;
use crate::verify::{LocalCache, OWN_NAME, keep_fresh};

/// The longest wait for the log to be written at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Serves with the configuration in `file` until the process is told to end.
///
/// # Errors
/// [`Failure::Problems`] and others where the file cannot be used, [`Failure::Runtime`] where something else failed.
pub fn run(file: &Path) -> Result<(), Failure> {
    start_diagnostics();
    // A second call would be the only way to fail.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let metrics = Arc::new(Metrics::new());
    let plan = load_tested(file, &metrics)?;
    let state = open_state(&plan.settings.state_url, file)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_name("control")
        .build()
        .context("cannot start the control runtime")?;
    runtime.block_on(serve(file, plan, state, metrics))
}

/// Reads the file and runs its tests; warnings are said.
fn load_tested(file: &Path, metrics: &Metrics) -> Result<Plan, Failure> {
    let (plan, mut problems) = load(file, metrics)?;
    trial::run_tests(&plan, &mut problems);
    if !problems.errors().is_empty() {
        return Err(Failure::problems(problems));
    }
    if !problems.warnings().is_empty() {
        say(&problems.render(super::has_color()));
    }
    Ok(plan)
}

/// Diagnostics go to standard error; standard output is the access log.
fn start_diagnostics() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PASSGATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(super::has_color())
        .with_target(false)
        .try_init();
}

fn say(text: &str) {
    let _ = write!(std::io::stderr(), "{text}");
}

/// One worker as the rest of the process sees it.
struct Seat {
    lane: Arc<ArcSwap<Lane>>,
    /// For access tokens and others', and for what session cookies hold.
    caches: [Arc<Mutex<LocalCache>>; 2],
    desk: Arc<Desk>,
}

impl Seat {
    fn lane(current: &Current, [cache, session_cache]: &[Arc<Mutex<LocalCache>>; 2], desk: &Arc<Desk>) -> Arc<Lane> {
        Arc::new(Lane {
            gateway: Arc::clone(&current.gateway),
            pool: Pool::new(),
            cache: Arc::clone(cache),
            session_cache: Arc::clone(session_cache),
            desk: Arc::clone(desk),
        })
    }

    fn new(current: &Current, desk: Desk) -> Self {
        let caches = [(); 2].map(|()| Arc::new(Mutex::new(LocalCache::new())));
        let desk = Arc::new(desk);
        Self { lane: Arc::new(ArcSwap::new(Self::lane(current, &caches, &desk))), caches, desk }
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

async fn serve(file: &Path, plan: Plan, state: Arc<dyn State>, metrics: Arc<Metrics>) -> Result<(), Failure> {
    let mirror = Arc::new(Mirror::open(state, Clock::system()).context("cannot read the state")?);
    let settings = Arc::clone(&plan.settings);
    let is_demo = is_demo(&plan);
    let mut services = Services::start(&mirror, tokio::runtime::Handle::current())?;
    let first_link = services.first_link(plan.sign_in.as_ref(), &settings.own_prefix)?;
    let current = Arc::new(ArcSwap::from_pointee(assemble(plan, &mirror, &metrics, Some(&services))?));

    let listeners = open_listeners(&settings.listen)?;
    let admin = match &settings.admin {
        Some(address) => open_listeners(std::slice::from_ref(address))?.into_iter().next(),
        None => None,
    };

    let log = AccessLog::start(settings.workers, Box::new(std::io::stdout())).context("cannot start the access log")?;
    let seats = (0..settings.workers)
        .map(|number| Desk::new(log.worker(number), metrics.worker()).map(|desk| Seat::new(&current.load(), desk)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow!("the system has no random numbers: {error}"))?;
    let log = Arc::new(log);
    let draining = watch::Sender::new(false);
    let mut workers = start_workers(&settings, &seats, &listeners, &draining)?;

    let keyed = Arc::clone(&current);
    let clock = mirror.clock.clone();
    let _watch = Watch::start(Arc::clone(&mirror), settings.tls.clone(), move |keys| {
        keyed.load().take_own_keys(keys, clock.now());
    })
    .context("cannot start the thread that watches the state")?;
    let mut tasks = start_tasks(&current.load(), &mirror);

    let report = Arc::new(Report {
        current: Arc::clone(&current),
        metrics: Arc::clone(&metrics),
        log: Arc::clone(&log),
        caches: seats.iter().flat_map(|seat| seat.caches.iter().map(|cache| Report::counters(cache))).collect(),
        mirror: Arc::clone(&mirror),
        loaded_at: AtomicI64::new(mirror.clock.now()),
        reload_failed: AtomicBool::new(false),
        draining: draining.subscribe(),
    });
    // Before anybody hears that there is somebody to be told.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    for listener in &listeners {
        say(&format!("listening on {}\n", shown(&listener.address(), settings.tls.is_some())));
    }
    if let Some(admin) = admin {
        say(&format!("admin on {}\n", shown(&admin.address(), false)));
        let report: Arc<dyn admin::Report> = Arc::<Report>::clone(&report);
        tokio::spawn(admin::serve(admin, report));
    }
    if is_demo {
        say(&introduction(file, &settings, listeners.first()));
    }
    if let Some(link) = first_link {
        say(&link);
    }
    let _ = sd_notify::notify(&[NotifyState::Ready]);

    let mut ended = Ok(());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                let _ = sd_notify::notify(&[NotifyState::Reloading]);
                let next = reload(file, &settings, &mirror, &current, &metrics, &mut services).await;
                report.reloaded(next.is_some());
                if let Some(next) = next {
                    let before = current.load_full();
                    next.upstreams.iter().for_each(|upstream| upstream.remember(&before.upstreams));
                    current.store(Arc::new(next));
                    seats.iter().for_each(|seat| seat.change(&current.load()));
                    tasks = start_tasks(&current.load(), &mirror);
                }
                let _ = sd_notify::notify(&[NotifyState::Ready]);
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
    tracing::info!("ending: no new connections; requests under way have {:?}", settings.drain_timeout);
    let paths: Vec<PathBuf> = listeners.iter().filter_map(Listener::made).collect();
    drop(listeners); // ours; each worker drops its own, and then the system refuses new connections
    draining.send_replace(true);
    drop(tasks);
    tokio::select! {
        () = async { while workers.recv().await.is_some() {} } => {}
        _ = terminate.recv() => tracing::warn!("told to end twice: requests under way are cut off"),
        _ = interrupt.recv() => tracing::warn!("told to end twice: requests under way are cut off"),
    }
    log.flush_and_stop(LOG_PATIENCE);
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

/// Starts one thread a worker. The receiver hears of each that ends, and of the end of all of them.
fn start_workers(
    settings: &Settings,
    seats: &[Seat],
    listeners: &[Listener],
    draining: &watch::Sender<bool>,
) -> Result<mpsc::Receiver<anyhow::Result<()>>, Failure> {
    let (finished, workers) = mpsc::channel(seats.len().max(1));
    let connections = Arc::new(Semaphore::new(settings.max_connections));
    let tls = settings.tls.as_ref().map(crate::server::tls::Certificates::server_config);
    for (index, seat) in seats.iter().enumerate() {
        let worker = Worker {
            listeners: listeners
                .iter()
                .map(Listener::share)
                .collect::<Result<_, _>>()
                .context("cannot share a listening socket")?,
            context: Arc::new(Context {
                lane: Arc::clone(&seat.lane),
                tls: tls.clone(),
                limits: settings.limits.clone(),
                draining: draining.subscribe(),
            }),
            connections: Arc::clone(&connections),
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
fn start_tasks(current: &Current, mirror: &Arc<Mirror>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let store = key_store::shared(mirror);
    for issuer in current.gateway.verifier.issuers().iter() {
        tasks.spawn(keep_fresh(Arc::clone(issuer), Arc::clone(&store), std::future::pending()));
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
    mirror: &Arc<Mirror>,
    current: &Arc<ArcSwap<Current>>,
    metrics: &Arc<Metrics>,
    services: &mut Services,
) -> Option<Current> {
    let path: PathBuf = file.to_owned();
    let labels = Arc::clone(metrics);
    let loaded = tokio::task::spawn_blocking(move || load_tested(&path, &labels)).await;
    let next = loaded.map_err(|error| Failure::Runtime(error.into())).flatten().and_then(|plan| {
        for key in settings.differs(&plan.settings) {
            tracing::warn!("`{key}` has changed, which takes a restart; the rest of the file is taken");
        }
        let link = services.first_link(plan.sign_in.as_ref(), &plan.settings.own_prefix)?;
        let next = assemble(plan, mirror, metrics, Some(services))?;
        if let Some(link) = link {
            say(&link);
        }
        next.gateway.verifier.issuers().inherit(current.load().gateway.verifier.issuers());
        Ok(next)
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
            say(&failure.text());
            tracing::error!("`{}` was not taken; the configuration in use stays", file.display());
            None
        }
    }
}

/// Whether what [`introduction`] says is true of this configuration.
fn is_demo(plan: &Plan) -> bool {
    let alice = trial::identity(OWN_NAME, "alice", vec!["user".to_owned()], Vec::new(), serde_json::Map::new());
    let alice = Arc::new(Caller::new(alice));
    let refusal = |path, caller| {
        let asked = Asked::parse("GET", path, &plan.settings.public_url).ok()?;
        Some(trial::decide(plan, &asked, caller).refusal)
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
        (Some(program), Some(here)) => program.strip_prefix(here).unwrap_or(program).display().to_string(),
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
