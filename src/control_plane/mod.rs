//! Floor 4: the control plane, where what is slow is done: webhooks, and questions to the application's backend. One thread of its own, with
//! tokio; it is started only where the settings need it.
//!
//! ```text
//!  shards --- Errands ---> run: a task for each ask ---> webhook | backend ---> the application
//!     ^                                                             |
//!     +--------------------------- deliver -------------------------+
//! ```
//!
//! Invariants: no shard ever waits for this thread, and what this thread holds is bounded: in bytes by the errands, in number by each hook's
//! line and the backend's. A task's panic ends that task, and gives back what it held.

mod backend;
mod count;
mod post;
mod webhook;

pub use backend::BackendSettings;
pub use count::names;
pub use post::{BadEndpoint, Secret};
pub use webhook::HookSettings;

use crate::base::{
    chance::Chance,
    id::ShardId,
    time::{Clock, Duration, Instant},
};
use crate::bridge::Errands;
use crate::shard::io::{Answer, Ask, TicketKey};
use backend::Backend;
use count::Count;
use hyper::body::Bytes;
use post::Client;
use std::{future::poll_fn, io, sync::Arc, thread};
use tokio::{runtime, sync::oneshot, task::JoinSet};
use webhook::Hook;

/// Threads that look up names, at most: the system's resolver blocks.
const RESOLVERS_MAX: usize = 4;
/// How soon an answer that found a shard's lane full is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(5);
/// How often: then the shard has given up.
const RETRIES_MAX: u32 = 200;

/// Whom the control plane calls.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// A listener names one by its place.
    pub hooks: Vec<HookSettings>,
    pub backend: Option<BackendSettings>,
}

impl Settings {
    /// Nobody: there is no need for a control plane.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty() && self.backend.is_none()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("webhook `{name}`: {reason}")]
    Hook { name: Box<str>, reason: BadEndpoint },
    #[error("backend: {0}")]
    Backend(BadEndpoint),
    #[error("no certificates to check https with: {0}")]
    Certificates(io::Error),
    #[error("the control plane cannot run: {0}")]
    Thread(io::Error),
}

/// Takes an answer to a shard; false when its lane is full.
pub type Deliver = dyn Fn(ShardId, TicketKey, Answer) -> bool + Send + Sync;

/// What the thread needs to start.
pub struct Start {
    pub errands: Arc<Errands<Ask>>,
    pub clock: Arc<dyn Clock + Send + Sync>,
    pub deliver: Box<Deliver>,
    /// All the chance it will have.
    pub seed: [u8; 32],
}

/// A running control plane.
pub struct Handle {
    thread: thread::JoinHandle<()>,
    end: oneshot::Sender<Instant>,
}

/// Starts the thread.
pub fn start(settings: Settings, start: Start) -> Result<Handle, Error> {
    let hooks: Result<Vec<Arc<Hook>>, Error> = settings
        .hooks
        .into_iter()
        .map(|hook| {
            let name = hook.name.clone();
            Hook::new(hook).map(Arc::new).map_err(|reason| Error::Hook { name, reason })
        })
        .collect();
    let hooks = hooks?;
    let backend = settings.backend.map(Backend::new).transpose().map_err(Error::Backend)?;
    let secure = hooks.iter().any(|hook| hook.is_secure()) || backend.as_ref().is_some_and(Backend::is_secure);
    let client = Client::new(secure).map_err(Error::Certificates)?;
    let Start { errands, clock, deliver, seed } = start;
    let plane = Arc::new(Plane { errands, clock, deliver, client, hooks, backend });
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(RESOLVERS_MAX)
        .build()
        .map_err(Error::Thread)?;
    let (end, ended) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            runtime.block_on(run(plane, Chance::new(seed), ended));
            // A name that is being looked up is nobody's any more.
            runtime.shutdown_background();
        })
        .map_err(Error::Thread)?;
    Ok(Handle { thread, end })
}

impl Handle {
    /// Ends when everything asked for is done, or at `until`. To be called when no shard asks any more.
    pub fn finish(self, until: Instant) {
        // A thread that has panicked hears nothing and is joined.
        let _ = self.end.send(until);
        if self.thread.join().is_err() {
            tracing::error!("the control plane has panicked");
        }
    }
}

/// What every task knows.
struct Plane {
    errands: Arc<Errands<Ask>>,
    clock: Arc<dyn Clock + Send + Sync>,
    deliver: Box<Deliver>,
    client: Client,
    hooks: Vec<Arc<Hook>>,
    backend: Option<Backend>,
}

impl Plane {
    fn count(&self, count: Count) {
        self.errands.count(count as usize);
    }
}

/// The bytes of an ask, given back to the errands when it is dropped.
struct Load {
    errands: Arc<Errands<Ask>>,
    bytes: usize,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.errands.done(self.bytes);
    }
}

async fn run(plane: Arc<Plane>, mut chance: Chance, mut end: oneshot::Receiver<Instant>) {
    let mut tasks = JoinSet::new();
    let until = loop {
        tokio::select! {
            // What was asked before the end is begun before it.
            biased;
            (from, ask) = poll_fn(|context| plane.errands.poll_next(context)) => {
                let load = Load { errands: plane.errands.clone(), bytes: ask.bytes() };
                begin(&plane, &mut tasks, from, ask, load, chance.u64());
            }
            Some(ended) = tasks.join_next() => note(ended),
            // Nobody holds the other end any more: as if it was now.
            until = &mut end => break until.unwrap_or_default(),
        }
    };
    let left = until.since(plane.clock.now().at);
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(left, rest).await.is_err() {
        let count = tasks.len();
        (0..count).for_each(|_| plane.count(Count::WebhooksDropped));
        tracing::warn!(count, "the server ends before these were delivered to their webhooks");
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    // The panic itself has been printed.
    if ended.is_err() {
        tracing::error!("a task of the control plane has panicked");
    }
}

fn begin(plane: &Arc<Plane>, tasks: &mut JoinSet<()>, from: ShardId, ask: Ask, load: Load, dice: u64) {
    match ask {
        Ask::Notify { hook, id, body } => {
            // A place that is none is a mistake of who made the settings, found at start.
            let Some(hook) = plane.hooks.get(usize::from(hook)) else { return };
            let Some(place) = hook.admit() else {
                plane.count(Count::WebhooksDropped);
                return tracing::debug!(hook = %hook.name(), "a webhook's line is full: an event is dropped");
            };
            let plane = plane.clone();
            tasks.spawn(async move {
                let _load = load;
                webhook::deliver(&plane, place, &id, bytes(body), dice).await;
            });
        }
        Ask::Authorize { ticket, question } => {
            let plane = plane.clone();
            tasks.spawn(async move {
                let _load = load;
                let answer = match &plane.backend {
                    Some(backend) => backend.ask(&plane, bytes(question)).await,
                    None => Answer::Unavailable,
                };
                for _ in 0..RETRIES_MAX {
                    if (plane.deliver)(from, ticket, answer) {
                        return;
                    }
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                plane.count(Count::BackendLate);
            });
        }
    }
}

fn bytes(text: Box<str>) -> Bytes {
    Bytes::from(String::from(text))
}
