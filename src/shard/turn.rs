//! What one socket asks about its rooms, in the order it asked: a leave waits for the joins before it, which may wait for the store or for the
//! application's backend, and whatever comes after it waits for that leave. Joins alone do not wait for each other.
//!
//! Without it a client that subscribes and unsubscribes in one breath, as a page does that is left before it was shown, would stay in the room.
//!
//! Invariants: what waits is bounded, and what is too much is refused; when nothing is under way nothing waits.

use super::app::{Context, Task};
use super::refusal::Refusal;
use crate::base::limit::ROOM_TURNS_MAX;
use std::collections::VecDeque;

#[derive(Default)]
pub struct Turns {
    /// Joins under way.
    joining: u32,
    waiting: VecDeque<Turn>,
}

struct Turn {
    leaves: bool,
    ack: Option<u64>,
    task: Task,
}

impl Turns {
    fn must_wait(&self, leaves: bool) -> bool {
        !self.waiting.is_empty() || leaves && self.joining > 0
    }
}

impl Context<'_> {
    fn turns(&mut self) -> Option<&mut Turns> {
        self.shard.sockets.get_mut(self.socket)?.extras.as_mut()?.turns.as_deref_mut()
    }

    /// Whether a join, or a leave, has to wait for what this socket asked before.
    pub(super) fn waits_for_turn(&mut self, leaves: bool) -> bool {
        self.turns().is_some_and(|turns| turns.must_wait(leaves))
    }

    /// Does something about this socket's rooms when it is its turn, if the socket is still there; it owes the acknowledgement that this
    /// context owed.
    pub(super) fn in_turn(&mut self, leaves: bool, task: impl FnOnce(&mut Context<'_>) + 'static) {
        let ack = self.ack.take();
        match self.turns() {
            Some(turns) if turns.waiting.len() < ROOM_TURNS_MAX => {
                turns.waiting.push_back(Turn { leaves, ack, task: Box::new(task) });
            }
            _ => {
                self.ack = ack;
                self.refuse(&Refusal::TooManyItems);
            }
        }
    }

    /// A join is under way, until [`end_join`](Self::end_join).
    pub(super) fn begin_join(&mut self) {
        if let Some(socket) = self.shard.sockets.get_mut(self.socket) {
            socket.extras.get_or_insert_default().turns.get_or_insert_default().joining += 1;
        }
    }

    pub(super) fn end_join(&mut self) {
        if let Some(turns) = self.turns() {
            turns.joining -= 1;
        }
        while let Some(turn) = next(self) {
            // Its own acknowledgement: this context may still owe another.
            (turn.task)(&mut Context::new(self.shard, self.socket, turn.ack));
        }
        let is_over = |turns: &mut Turns| turns.joining == 0 && turns.waiting.is_empty();
        if self.turns().is_some_and(is_over)
            && let Some(extras) = &mut self.shard.sockets[self.socket].extras
        {
            extras.turns = None;
        }
    }
}

/// What is next, if it need not wait any longer.
fn next(socket: &mut Context<'_>) -> Option<Turn> {
    let turns = socket.turns()?;
    let waits = turns.waiting.front().is_some_and(|turn| turn.leaves) && turns.joining > 0;
    if waits { None } else { turns.waiting.pop_front() }
}
