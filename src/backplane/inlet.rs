//! What the store's channels carry, on its way from the connection's task to the backplane's.
//!
//! Invariant: bounded by [`HEARD_BYTES_MAX`]: the connection must not wait, and what does not fit is dropped, with its channel's name kept, so
//! that what was missed is read back.

use crate::base::limit::HEARD_BYTES_MAX;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Frame {
        channel: Box<[u8]>,
        frame: Box<[u8]>,
    },
    /// Frames of this channel were dropped.
    Dropped {
        channel: Box<[u8]>,
    },
    /// A subscription has ended: we asked for it, or the channel's slot has gone to another node.
    Ended {
        channel: Box<[u8]>,
    },
    /// The connection is gone.
    Broken,
}

/// Shared with the connection's task, which may run anywhere, hence the lock; both run on one thread, so nobody ever waits for it.
#[derive(Default)]
pub struct Inlet {
    queue: Mutex<Queue>,
    notify: Notify,
}

#[derive(Default)]
struct Queue {
    heard: VecDeque<Heard>,
    bytes: usize,
    dropped: BTreeSet<Box<[u8]>>,
    /// Whose connection is heard: what an earlier one still has to say is nobody's.
    generation: u64,
}

impl Inlet {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on only this connection is heard.
    pub fn begin(&self, generation: u64) {
        *self.queue() = Queue { generation, ..Queue::default() };
    }

    pub fn frame(&self, generation: u64, channel: Vec<u8>, frame: Vec<u8>) {
        let mut queue = self.queue();
        if queue.generation != generation {
            return;
        }
        let bytes = channel.len() + frame.len() + size_of::<Heard>();
        if queue.bytes + bytes > HEARD_BYTES_MAX {
            queue.dropped.insert(channel.into());
        } else {
            queue.bytes += bytes;
            queue.heard.push_back(Heard::Frame { channel: channel.into(), frame: frame.into() });
        }
        self.notify.notify_one();
    }

    pub fn ended(&self, generation: u64, channel: Vec<u8>) {
        let mut queue = self.queue();
        if queue.generation == generation {
            queue.heard.push_back(Heard::Ended { channel: channel.into() });
            self.notify.notify_one();
        }
    }

    pub fn broken(&self, generation: u64) {
        let mut queue = self.queue();
        if queue.generation == generation {
            queue.heard.push_back(Heard::Broken);
            self.notify.notify_one();
        }
    }

    /// Everything that came.
    pub fn take(&self) -> Vec<Heard> {
        let mut queue = self.queue();
        queue.bytes = 0;
        let heard = std::mem::take(&mut queue.heard);
        let dropped = std::mem::take(&mut queue.dropped);
        heard.into_iter().chain(dropped.into_iter().map(|channel| Heard::Dropped { channel })).collect()
    }

    /// Returns when something may have come.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_by_name_and_an_earlier_connection_is_not_heard() {
        let inlet = Inlet::default();
        inlet.begin(2);
        inlet.frame(1, b"a".to_vec(), b"old".to_vec());
        inlet.broken(1);
        inlet.frame(2, b"a".to_vec(), b"x".to_vec());
        inlet.frame(2, b"b".to_vec(), vec![0; HEARD_BYTES_MAX]);
        inlet.frame(2, b"a".to_vec(), b"y".to_vec());
        inlet.broken(2);
        let frame = |text: &[u8]| Heard::Frame { channel: (*b"a").into(), frame: text.into() };
        let dropped = Heard::Dropped { channel: (*b"b").into() };
        assert_eq!(inlet.take(), [frame(b"x"), frame(b"y"), Heard::Broken, dropped]);
        assert_eq!(inlet.take(), []);
    }
}
