//! Floor 4: the backplane, by which the nodes of a fleet are one server. One thread of its own, with tokio; it is started only where Redis is
//! configured.
//!
//! ```text
//!  shards --- Errands ---> journal: queues of tenants, in turn ---> command, share: pipelines ---> Redis: scripts (lua/), streams
//!     ^                                                                                                |
//!     +---- outlet, lane <---- settle: answers; tenants: who hears what, and from where <---- inlet: channels
//!                                     neighbour, seat: requests of other nodes' sessions <----'
//! ```
//!
//! Beside it, with connections of its own: [`foreign`], for plain channels, emitters and the servers of other makes.
//!
//! Redis away: what gets a place waits in the journal, what is ephemeral is dropped and counted, reads and claims are answered in time. Back:
//! channels first, then where each tenant's stream stands, then the journal.
//!
//! Invariants: no shard ever waits for this thread; whatever waits here is bounded, by the journal, the inlet, the outlets and what a tenant may
//! hold; what Redis or a stranger on it says never panics. The guarantees of [`relay`](crate::shard::relay) hold: a batch whose outcome nobody
//! knows is sent again before anything else, and each append in it is recognised by its number.

mod command;
mod count;
pub mod foreign;
mod hold;
mod inlet;
mod journal;
mod key;
mod link;
pub mod memory;
mod neighbour;
mod outlet;
mod run;
mod script;
mod seat;
mod settle;
mod share;
mod tenant;

pub use count::names;
pub use link::{Login, Server, Servers};

use crate::base::{
    id::{NodeId, ShardId},
    time::{Clock, Duration, Instant},
};
use crate::bridge::{Errands, Load};
use crate::shard::relay::{Relay, Report};
use crate::wire::{adapter::streams::tag, envelope::Origin};
use foreign::{Begin, Foreign, Tray};
use link::Refusal;
use std::{
    fmt, io,
    sync::{Arc, mpsc},
    thread,
};
use tokio::{runtime, sync::oneshot};

/// Threads that look up names, at most: the system's resolver blocks.
const RESOLVERS_MAX: usize = 4;
/// How long the start waits for Redis. Without it the server starts all the same, and says that it is degraded.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Settings {
    pub servers: Servers,
    /// At Redis itself.
    pub login: Login,
    /// Of no meaning in a Cluster.
    pub db: u16,
    /// TLS.
    pub is_secure: bool,
    /// Before every name; has no brace. Nodes with the same prefix are one fleet.
    pub prefix: Box<str>,
    /// Bytes of durable events that may wait for Redis.
    pub journal_bytes: usize,
    /// This process, the same that its shards say in what they publish.
    pub origin: Origin,
    /// The number it would like to have among the nodes.
    pub node: NodeId,
    /// Who else there is in Redis; `None`: nobody.
    pub fleet: Option<foreign::Fleet>,
}

impl Settings {
    fn keys(&self) -> key::Keys {
        let stream = self.fleet.as_ref().filter(|fleet| fleet.recovers()).map(|fleet| &*fleet.stream);
        match (&self.servers, stream) {
            (Servers::Cluster(_), Some(stream)) => key::Keys::in_slot(&self.prefix, tag(stream), self.origin),
            _ => key::Keys::new(&self.prefix, self.origin),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("servers", &self.servers).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("redis: {0}")]
    Refused(Box<str>),
    #[error("the backplane cannot run: {0}")]
    Thread(io::Error),
}

/// Takes reports to a shard, or gives them back when its lane is full.
pub type Deliver = dyn Fn(ShardId, Vec<Report>, Load) -> Result<(), Vec<Report>> + Send + Sync;

/// What the thread needs to start.
pub struct Start {
    pub errands: Arc<Errands<Relay>>,
    pub clock: Arc<dyn Clock + Send + Sync>,
    pub deliver: Arc<Deliver>,
    pub shards: u8,
    /// All the chance it will have.
    pub seed: [u8; 32],
}

/// A running backplane.
pub struct Handle {
    thread: thread::JoinHandle<()>,
    end: oneshot::Sender<Instant>,
    node: NodeId,
}

/// Starts the thread. Redis may be away; one that is there and will not do is an error.
pub fn start(settings: Settings, start: Start) -> Result<Handle, Error> {
    if settings.is_secure {
        link::choose_cryptography();
    }
    // Until it is known that Redis is there.
    start.errands.set_up(false);
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(RESOLVERS_MAX)
        .build()
        .map_err(Error::Thread)?;
    let node = settings.node;
    let fleet = settings.fleet.clone().filter(|fleet| !fleet.is_silent());
    let tray = fleet.as_ref().map(|fleet| Arc::new(Tray::new(fleet.is_outward())));
    let foreign = fleet.zip(tray.clone()).map(|(fleet, tray)| {
        let mut seed = start.seed;
        seed[0] ^= 0x5a;
        let begin = Begin {
            errands: start.errands.clone(),
            clock: start.clock.clone(),
            deliver: start.deliver.clone(),
            shards: start.shards,
            seed,
            tray,
        };
        Foreign::new(settings.clone(), fleet, begin)
    });
    let (end, ended) = oneshot::channel();
    let (first, first_result) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("backplane".into())
        .spawn(move || {
            runtime.block_on(foreign::beside(run::run(settings, start, tray, first, ended), foreign));
            // A name that is being looked up is nobody's any more.
            runtime.shutdown_background();
        })
        .map_err(Error::Thread)?;
    match first_result.recv_timeout(FIRST_PATIENCE) {
        Ok(Err(refusal @ (Refusal::Old(_) | Refusal::Denied(_) | Refusal::Split))) => {
            Err(Error::Refused(refusal.to_string().into()))
        }
        Ok(Ok(node)) => Ok(Handle { thread, end, node }),
        // It goes on trying, and has said so.
        Ok(Err(_)) | Err(_) => Ok(Handle { thread, end, node }),
    }
}

impl Handle {
    /// The number this node has among the nodes. Where another process has it the shards are told of another one.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Ends when everything asked for is done, or at `until`. To be called when no shard asks any more.
    pub fn finish(self, until: Instant) {
        // A thread that has panicked hears nothing and is joined.
        let _ = self.end.send(until);
        if self.thread.join().is_err() {
            tracing::error!("the backplane has panicked");
        }
    }
}

#[cfg(test)]
mod tests;
