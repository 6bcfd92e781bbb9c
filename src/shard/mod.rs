//! Floor 2: the shard, a pure state machine that owns tenants, sessions and rooms.

pub mod app;
pub mod count;
pub mod io;
pub mod transit;

use crate::base::{id::ConnKey, time::{Instant, Now}};
use io::{Input, Output};

pub struct Shard {}

impl Shard {
    /// One shard of a node. `seed` is all the chance it will ever have.
    pub fn new(_settings: Settings, _app: app::App, _seed: [u8; 32]) -> Shard {
        todo!()
    }

    /// Takes one input; appends what follows from it.
    pub fn handle(&mut self, _now: Now, _input: Input<'_>, _outputs: &mut Vec<Output>) {
        todo!()
    }

    /// Ends the turn: answers waiting long-polling requests, moves sessions on.
    pub fn end_turn(&mut self, _now: Now, _outputs: &mut Vec<Output>) {
        todo!()
    }

    /// A connection that has bytes to write, each once a turn.
    pub fn next_dirty(&mut self) -> Option<ConnKey> {
        todo!()
    }

    /// The bytes waiting for `conn`, ready for its socket; empty when there are none.
    pub fn pending(&mut self, _conn: ConnKey) -> &[u8] {
        todo!()
    }

    /// The socket took `bytes` of what [`pending`](Self::pending) gave. Less than all: the connection is full, and the shard waits for
    /// [`Input::Writable`].
    pub fn wrote(&mut self, _now: Now, _conn: ConnKey, _bytes: usize, _outputs: &mut Vec<Output>) {
        todo!()
    }

    /// When to send [`Input::Tick`] if nothing else comes.
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }

    pub fn counts(&self) -> &count::Counts {
        todo!()
    }
}

/// What a shard is told at start.
#[derive(Clone)]
pub struct Settings {}
