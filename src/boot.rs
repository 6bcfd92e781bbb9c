//! Floor 5: start and end. Knows every floor, decides nothing in between.
//!
//! ```text
//!  configuration -> addresses bound -> one pinned thread a shard -> all of them accept -> `tenantcast ready on ADDRESS`
//!  SIGTERM, SIGINT -> every shard drains: no new connections, sessions told to come back, what is owed is written; then the backplane and
//!                     the control plane have what is left of the drain's time -> 0
//!  once more       -> the process ends at once: 128 + the signal
//! ```
//!
//! Panic policy: a panic on a shard's thread ends the process. What the shard knows is suspect then; the supervisor starts it again and
//! clients recover by offset.
//!
//! A program that embeds the server uses [`Server`]:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use tenantcast::{boot::Server, config::{Config, Env, Sources}};
//! let config = Config::load(&Sources { file: None, flags: Vec::new(), env: Env::new([]) })?;
//! let server = Server::new(config).spawn()?;
//! println!("{}", server.addr());
//! server.drain();
//! server.wait()?;
//! # Ok(()) }
//! ```

mod backplane;
mod clock;
mod control;
mod machine;
mod panic;
mod settings;

pub use clock::{SystemClock, unix_now};
pub use machine::refuse_huge_pages;

use crate::base::{
    chance::Map,
    id::ShardId,
    time::{Clock, Duration, Instant},
};
use crate::bridge::{Addresses, Bridge, Sender};
use crate::config::{self, Config};
use crate::control_plane;
use crate::data_plane::{self, Control, Ended, MeshMessage, Start, count};
use crate::demo::{self, DemoToken};
use crate::shard::{self, Shard, app::App, count::Counts, io::Announcement, listener::ListenerSettings};
use crate::wire::{
    auth::{Mint, mint},
    envelope::Origin,
    http::cors::BadOrigin,
    json,
};
use control::{Calls, calls, check_webhooks, start_control};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use machine::{cpus, entropy, listen, raise_open_files};
use panic::{abort_on_shard_panic, is_shard};
use settings::{plane_settings, shard_settings};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    sync::{Arc, OnceLock, mpsc},
    thread,
};

/// Memory an executor registers for files, which this server does not have: the default of 10 MiB a shard would only be charged.
const IO_MEMORY_BYTES: usize = 65_536;
/// Submissions an executor collects before a system call.
const RING_DEPTH: usize = 1024;
/// How long a token printed in development mode counts.
const DEVELOPMENT_TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long main tries to get a message into a shard's lane.
const CONTROL_PATIENCE: Duration = Duration::from_secs(1);

/// Why the server does not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address} ({key}): {error}")]
    Listen { address: SocketAddr, key: &'static str, error: io::Error },
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("server.frontend_url: {0}")]
    Origin(#[from] BadOrigin),
    #[error("no entropy: {0}")]
    Entropy(String),
    #[error("cannot ask which processors may be used: {0}")]
    Affinity(io::Error),
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Control(#[from] control_plane::Error),
    #[error(transparent)]
    Backplane(#[from] crate::backplane::Error),
    #[error("listener `{listener}` calls webhook {hook}, and there is none")]
    NoWebhook { listener: Box<str>, hook: u16 },
    #[error("shard {shard} cannot run: {reason}")]
    Shard { shard: u8, reason: String },
}

/// A server that is to be started.
pub struct Server {
    config: Config,
    app: Arc<dyn Fn() -> App + Send + Sync>,
    open: bool,
    demo: Option<Box<[u8]>>,
    calls: Calls,
}

impl Server {
    /// The server of the configured profile.
    pub fn new(config: Config) -> Server {
        let (names, profile) = (config.socket_io.namespaces.clone(), config.profile.clone());
        let calls = calls(&profile, |name| std::env::var(name).ok());
        calls.missing.iter().for_each(|line| tracing::warn!("{line}"));
        let app = move || shard::profile_app(profile.clone(), names.iter().map(|name| &**name));
        Server { config, app: Arc::new(app), open: false, demo: None, calls }
    }

    /// What the server does with events, in place of the profile. Called once on each shard's thread.
    pub fn app(mut self, app: impl Fn() -> App + Send + Sync + 'static) -> Server {
        self.app = Arc::new(app);
        self
    }

    /// Asks nobody for a token: everyone is of one tenant, `default`, under a name of their own. For examples and test suites.
    pub fn open_to_all(mut self) -> Server {
        self.open = true;
        self
    }

    /// The page at `/` and `/demo`.
    pub fn demo(mut self, html: impl Into<Box<[u8]>>) -> Server {
        self.demo = Some(html.into());
        self
    }

    /// The webhooks that listeners call, and the backend that decides who may join, in place of the profile's; a client event of the profile
    /// that tells a webhook has none to tell then.
    pub fn control(mut self, settings: control_plane::Settings) -> Server {
        self.calls.control = settings;
        self.calls.webhooks = Box::default();
        self
    }

    /// What is done when an event is published.
    pub fn listeners(mut self, listeners: impl Into<Box<[ListenerSettings]>>) -> Server {
        self.calls.listeners = listeners.into();
        self
    }

    /// Starts the server and returns when every shard accepts.
    ///
    /// A panic on a shard's thread ends the process: this installs a panic hook, once.
    pub fn spawn(self) -> Result<Handle, Error> {
        raise_open_files();
        abort_on_shard_panic();
        let config = self.config;
        check_webhooks(&self.calls.listeners, self.calls.control.hooks.len())?;
        let shards = config.server.shards;
        let takeover = config.server.takeover;
        let mut public = listen(config.server.address, "server.host, server.port", shards, takeover)?;
        let mut admin = listen(config.server.admin_address, "server.admin_host, server.admin_port", 1, takeover)?;
        // Just made, so they have one.
        let address_of = |listeners: &[TcpListener], asked| {
            listeners.first().and_then(|listener| listener.local_addr().ok()).unwrap_or(asked)
        };
        let addr = address_of(&public, config.server.address);
        let admin_addr = address_of(&admin, config.server.admin_address);

        let keys = config.keys()?;
        let settings = Arc::new(plane_settings(&config, keys.clone(), &(self.app)(), self.demo)?);
        let mut shard_settings = shard_settings(&config, keys)?;
        if self.open {
            shard_settings.auth = None;
        }
        shard_settings.verdicts = self.calls.control.backend.as_ref().map(control_plane::BackendSettings::verdicts);
        shard_settings.listeners = self.calls.listeners;
        // Drawn at start: a process is told from its own earlier lives too.
        let origin = Origin(u64::from_be_bytes(entropy()?));
        shard_settings.fleet = backplane::fleet_settings(&config, origin);
        shard_settings.webhooks = self.calls.webhooks;
        let limits = &config.limits;
        let seed = entropy::<32>()?;
        let hasher = Map::<(), ()>::default().hasher().clone();
        let addresses =
            Addresses::new(limits.connections_per_address, limits.handshakes_per_second_per_address, hasher);
        let mut bridge = Bridge::new(shards, count::ROW, addresses);
        bridge.control = (!self.calls.control.is_empty()).then(control::errands);
        bridge.backplane = config.redis.as_ref().map(|_| backplane::errands());
        let bridge = Arc::new(bridge);
        let clock: Arc<dyn Clock + Send + Sync> = Arc::new(SystemClock::new());
        let control = match bridge.control.clone() {
            Some(errands) => Some(start_control(self.calls.control, errands, &bridge, clock.clone())?),
            None => None,
        };
        let backplane = match (bridge.backplane.clone(), &config.redis) {
            (Some(errands), Some(redis)) => {
                let settings = backplane::settings(&config, redis, origin, shard_settings.node);
                Some(backplane::start(settings, errands, &bridge, clock.clone())?)
            }
            _ => None,
        };
        if let Some(backplane) = &backplane {
            shard_settings.node = backplane.node();
        }

        let cpus = cpus()?;
        let (ready, all_ready) = mpsc::channel();
        let mut handle = Handle {
            addr,
            admin_addr,
            drain: config.drain,
            bridge,
            clock: clock.clone(),
            drain_until: Arc::default(),
            threads: Vec::new(),
            control,
            backplane,
        };
        for index in 0..shards {
            let (settings, bridge, clock) = (settings.clone(), handle.bridge.clone(), clock.clone());
            let shard_settings = shard::Settings { shard: ShardId(index), ..shard_settings.clone() };
            // Each shard its own stream, from one draw: a simulator replays a node from one seed too.
            let mut seed = seed;
            seed[31] ^= index;
            let app = self.app.clone();
            let ready = ready.clone();
            let public = public.pop();
            let admin = admin.pop();
            let cpu = cpus[usize::from(index) % cpus.len()];
            let started = LocalExecutorBuilder::new(Placement::Fixed(cpu))
                .name(&format!("shard-{index}"))
                .io_memory(IO_MEMORY_BYTES)
                .ring_depth(RING_DEPTH)
                .spawn(move || async move {
                    is_shard();
                    // One listener was made for each shard.
                    let Some(public) = public else { return Ended::Stopped };
                    let shard = Shard::new(shard_settings, app(), seed);
                    let start = Start { id: ShardId(index), shard, settings, bridge, clock, public, admin };
                    data_plane::run(start, move |accepts| {
                        // Nobody listens any more when another shard has failed.
                        let _ = ready.send(accepts);
                    })
                });
            match started {
                Ok(thread) => handle.threads.push(thread),
                Err(error) => {
                    handle.stop();
                    return Err(Error::Shard { shard: index, reason: error.to_string() });
                }
            }
        }
        drop(ready);
        for _ in 0..shards {
            // An executor that cannot get its memory ends without a word; its error is in the join.
            let reason = match all_ready.recv() {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => format!("io_uring: {error}"),
                Err(_) => "it ended before it accepted".into(),
            };
            handle.stop();
            handle.wait()?;
            return Err(Error::Shard { shard: 0, reason });
        }
        Ok(handle)
    }

    /// Runs the server until a signal ends it. Prints the ready line.
    pub fn run(self) -> Result<(), Error> {
        // Before any thread, so that none is interrupted in its place.
        let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(Error::Signals)?;
        let config = self.config.clone();
        let has_demo = self.demo.is_some();
        let server = self.spawn()?;
        announce_ready(&server, &config, has_demo)?;
        let end = server.remote();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut asked = false;
                for signal in signals.forever() {
                    if std::mem::replace(&mut asked, true) {
                        std::process::exit(128 + signal);
                    }
                    tracing::info!(signal, "draining; the same signal again ends at once");
                    end.drain();
                }
            })
            .map_err(Error::Signals)?;
        let ended = server.wait()?;
        tracing::info!(?ended, "ended");
        Ok(())
    }
}

/// A running server. Dropped, it runs on.
pub struct Handle {
    addr: SocketAddr,
    admin_addr: SocketAddr,
    drain: config::Drain,
    bridge: Arc<Bridge<MeshMessage>>,
    clock: Arc<dyn Clock + Send + Sync>,
    /// When the drain ends, once it has begun.
    drain_until: Arc<OnceLock<Instant>>,
    threads: Vec<ExecutorJoinHandle<Ended>>,
    control: Option<control_plane::Handle>,
    backplane: Option<crate::backplane::Handle>,
}

/// A shard's lane stays full: it is not keeping up, or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard {0} takes no messages")]
pub struct LaneFull(pub u8);

/// An announcement that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    #[error("the data is not JSON")]
    NotJson,
    #[error(transparent)]
    LaneFull(#[from] LaneFull),
}

impl Handle {
    /// Where the public port is.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Sends an ephemeral event to every session of every tenant. `data` is JSON.
    pub fn announce(&self, event: &str, data: &str) -> Result<(), AnnounceError> {
        if !json::validate(data) {
            return Err(AnnounceError::NotJson);
        }
        let announcement = Announcement { event: event.into(), data: data.into() };
        Ok(self.tell_all(&Control::Announce(announcement))?)
    }

    /// Begins to drain: nobody new, and everyone who is here is told to come back, to another node or to the next process.
    pub fn drain(&self) {
        let timeout = self.drain.timeout;
        let spread = self.drain.spread(self.bridge.gauges.sum(Counts::SESSIONS));
        self.drain_until.get_or_init(|| self.clock.now().at + timeout);
        if let Err(error) = self.tell_all(&Control::Drain { spread, timeout }) {
            tracing::error!(%error, "cannot drain");
        }
    }

    /// Ends at once, without a word to anybody.
    pub fn stop(&self) {
        if let Err(error) = self.tell_all(&Control::Stop) {
            tracing::error!(%error, "cannot stop");
        }
    }

    /// Waits until every shard has ended: the worst of their ends.
    pub fn wait(self) -> Result<Ended, Error> {
        let mut worst = Ended::Drained;
        let mut failed = None;
        for (index, thread) in self.threads.into_iter().enumerate() {
            match thread.join() {
                Ok(ended) => worst = worst.max(ended),
                Err(error) => {
                    let mut reason = error.to_string();
                    if reason.to_ascii_lowercase().contains("memlock") {
                        reason.push_str(" (raise it: `ulimit -l 8192`, or LimitMEMLOCK=8M in the unit)");
                    }
                    failed.get_or_insert(Error::Shard { shard: index as u8, reason });
                }
            }
        }
        // Without a drain nothing is waited for.
        let until = self.drain_until.get().copied().unwrap_or_default();
        if let Some(backplane) = self.backplane {
            backplane.finish(backplane::end_at(self.drain_until.get(), self.clock.now().at));
        }
        if let Some(control) = self.control {
            control.finish(until);
        }
        failed.map_or(Ok(worst), Err)
    }

    fn tell_all(&self, control: &Control) -> Result<(), LaneFull> {
        // All are told, also where one does not listen.
        let told = (0..self.bridge.shards()).map(|shard| self.tell(ShardId(shard), control.clone()));
        told.filter_map(Result::err).reduce(|first, _| first).map_or(Ok(()), Err)
    }

    fn tell(&self, shard: ShardId, control: Control) -> Result<(), LaneFull> {
        let mut message = MeshMessage::Control(control);
        let mut waited = Duration::ZERO;
        loop {
            match self.bridge.try_send(Sender::Main, shard, message) {
                Ok(()) => {
                    self.bridge.wake(shard);
                    return Ok(());
                }
                Err(back) if waited < CONTROL_PATIENCE => message = back,
                Err(_) => return Err(LaneFull(shard.0)),
            }
            let step = Duration::from_millis(1);
            thread::park_timeout(step);
            waited += step;
        }
    }

    /// A second hold on the same server, which nobody can wait with.
    fn remote(&self) -> Handle {
        Handle {
            addr: self.addr,
            admin_addr: self.admin_addr,
            drain: self.drain,
            bridge: self.bridge.clone(),
            clock: self.clock.clone(),
            drain_until: self.drain_until.clone(),
            threads: Vec::new(),
            control: None,
            backplane: None,
        }
    }
}

/// What `tenantcast serve` does with its configuration.
pub fn serve(config: Config) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.server.log_level).unwrap_or_default();
    // An embedding program may have its own.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false).try_init();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let demo = config.is_development().then(|| demo_page(&config));
    let mut server = Server::new(config);
    server.demo = demo.flatten();
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tenantcast: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The page that shows two tenants side by side, with a token for each of its users.
fn demo_page(config: &Config) -> Option<Box<[u8]>> {
    let keys = config.keys().ok()?;
    let token = |(tenant, user): (&str, &str)| {
        let claims = Mint {
            tenant,
            user,
            roles: &[],
            permissions: &["publish".into()],
            rooms: &[],
            scope: &[],
            ttl: Some(DEVELOPMENT_TOKEN_TTL),
        };
        let token = mint(&claims, &keys, &config.auth.policy, unix_now()).ok()?;
        Some(DemoToken { tenant: tenant.into(), user: user.into(), token })
    };
    let tokens: Option<Vec<DemoToken>> = demo::USERS.into_iter().map(token).collect();
    Some(demo::page(&tokens?).into())
}

/// The ready line, and in development mode what a person needs for a first try.
fn announce_ready(server: &Handle, config: &Config, has_demo: bool) -> Result<(), Error> {
    let mut text = format!("tenantcast ready on {}\n", server.addr());
    if config.is_development() {
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        let base = format!("http://{}", server.addr());
        let lives =
            if config.redis.is_some() { "what is published lives in Redis" } else { "everything lives in memory" };
        line(format!("development mode: {lives}, the key is this machine's own"));
        line(format!("address  {base}"));
        line(format!("admin    http://{}", server.admin_addr()));
        let claims = Mint {
            tenant: "demo",
            user: "demo",
            roles: &[],
            permissions: &["publish".into()],
            rooms: &[],
            scope: &["publish".into(), "read".into()],
            ttl: Some(DEVELOPMENT_TOKEN_TTL),
        };
        match mint(&claims, &config.keys()?, &config.auth.policy, unix_now()) {
            Ok(token) => line(format!("token    {token}")),
            Err(error) => tracing::warn!(%error, "no token for a first try"),
        }
        if has_demo {
            line(format!("demo     {base}/demo"));
        }
    }
    text.push_str(&backplane::said(config));
    let waiting = config.profile.waiting();
    if !waiting.is_empty() {
        text.push_str(&format!("profile  {}: not served yet: {}\n", config.profile.name, waiting.join(", ")));
    }
    // Who started us may not read it: no reason to end.
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}

#[cfg(test)]
#[path = "boot_tests.rs"]
mod tests;
