//! What shards of one process send each other, and what waits when a lane is full.
//!
//! Invariant: for each pair of shards messages keep their order: once something waits in the spill, everything after it waits behind it.
//! The spill is bounded by [`MESH_SPILL_MAX`]; beyond it a message comes back to its sender, who answers 503 where someone waits and closes
//! what was on the move.

use super::{freight::Freight, handoff::Moved, inbox::Inbox};
use crate::base::{
    id::{ConnKey, ShardId},
    limit::MESH_SPILL_MAX,
    time::Duration,
};
use crate::bridge::{Bridge, Load, Sender};
use crate::shard::{
    io::{Announcement, Answer, Parcel, TicketKey},
    relay::Report,
    transit::Transit,
};
use crate::wire::http::Response;
use smallvec::SmallVec;
use std::{collections::VecDeque, sync::Arc};

/// A message from one shard, or from main, to another shard.
pub enum MeshMessage {
    /// A session moves, with its connections.
    Handoff {
        transit: Box<Transit>,
        conns: Box<SmallVec<[Moved; 2]>>,
    },
    Parcel(Parcel),
    /// The answer to a request whose connection is there.
    Reply {
        conn: ConnKey,
        response: Box<Response>,
    },
    /// What connections that are lent to the receiver have heard and taken.
    Heard(Box<Heard>),
    /// What `from` wants of the connections the receiver lends it.
    Freight {
        from: ShardId,
        freight: Box<Freight>,
        /// Dropped with the message: see [`loan`](super::loan).
        under_way: Arc<()>,
    },
    Control(Control),
    /// From the control plane: what the application's backend says.
    Answered {
        ticket: TicketKey,
        answer: Answer,
    },
    /// From the backplane, in order.
    Reports {
        reports: Vec<Report>,
        /// Their bytes, dropped with the message.
        load: Load,
    },
}

/// What a lender has for a home, under the home's keys.
pub struct Heard {
    pub inbox: Inbox,
    /// Bytes that a connection's socket has taken.
    pub acknowledged: Vec<(ConnKey, u32)>,
    /// Dropped with the message: see [`loan`](super::loan).
    pub under_way: Arc<()>,
}

const _: () = assert!(size_of::<MeshMessage>() <= 64, "a lane holds thousands of these");

/// What main tells a shard.
#[derive(Clone, Debug)]
pub enum Control {
    Announce(Announcement),
    /// Stop accepting, close every session within `spread`, and end when they are gone or after `timeout`.
    Drain {
        spread: Duration,
        timeout: Duration,
    },
    /// End now.
    Stop,
}

/// One shard's way to the others.
pub struct Mesh {
    shard: ShardId,
    /// By receiver; what did not fit into its lane.
    spill: Box<[VecDeque<MeshMessage>]>,
    /// By receiver: something was put into its lane in this turn.
    touched: Box<[bool]>,
    spilled: usize,
}

impl Mesh {
    pub fn new(shard: ShardId, shards: u8) -> Mesh {
        let shards = usize::from(shards);
        Mesh {
            shard,
            spill: (0..shards).map(|_| VecDeque::new()).collect(),
            touched: vec![false; shards].into(),
            spilled: 0,
        }
    }

    /// Sends, or keeps for later, or gives the message back when too much is kept already. Receivers wake at [`wake`](Self::wake).
    pub fn send(&mut self, bridge: &Bridge<MeshMessage>, to: ShardId, message: MeshMessage) -> Result<(), MeshMessage> {
        let spill = &mut self.spill[to.index()];
        let message = if spill.is_empty() {
            match bridge.try_send(Sender::Shard(self.shard), to, message) {
                Ok(()) => {
                    self.touched[to.index()] = true;
                    return Ok(());
                }
                Err(message) => message,
            }
        } else {
            message
        };
        // What nobody waits for cannot be refused to anybody: it may use as much room again.
        let waits = !matches!(&message, MeshMessage::Parcel(parcel) if parcel.waits().is_none());
        if spill.len() >= if waits { MESH_SPILL_MAX } else { 2 * MESH_SPILL_MAX } {
            return Err(message);
        }
        spill.push_back(message);
        self.spilled += 1;
        Ok(())
    }

    /// Moves what waits into lanes that have room again. Once a turn.
    pub fn retry(&mut self, bridge: &Bridge<MeshMessage>) {
        if self.spilled == 0 {
            return;
        }
        for (index, spill) in self.spill.iter_mut().enumerate() {
            while let Some(message) = spill.pop_front() {
                match bridge.try_send(Sender::Shard(self.shard), ShardId(index as u8), message) {
                    Ok(()) => {
                        self.spilled -= 1;
                        self.touched[index] = true;
                    }
                    Err(message) => {
                        spill.push_front(message);
                        break;
                    }
                }
            }
            if spill.is_empty() {
                spill.shrink_to(64);
            }
        }
    }

    /// Messages that wait for room.
    pub fn spilled(&self) -> usize {
        self.spilled
    }

    /// Wakes every receiver of this turn, once.
    pub fn wake(&mut self, bridge: &Bridge<MeshMessage>) {
        for (index, touched) in self.touched.iter_mut().enumerate() {
            if std::mem::take(touched) {
                bridge.wake(ShardId(index as u8));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        chance::Chance,
        id::{NodeId, Sid},
        limit::MESH_LANE_MAX,
    };
    use crate::bridge::Addresses;

    #[test]
    fn a_full_lane_spills_in_order_and_then_refuses() {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let bridge = Bridge::new(2, 1, Addresses::new(0, 0, hasher));
        let mut mesh = Mesh::new(ShardId(0), 2);
        let mut chance = Chance::new([1; 32]);
        let sids: Vec<Sid> =
            (0..MESH_LANE_MAX + 2 * MESH_SPILL_MAX).map(|_| Sid::new(NodeId(0), ShardId(0), &mut chance)).collect();
        let forget = |sid| MeshMessage::Parcel(Parcel::Forget { sid });
        for &sid in &sids {
            assert!(mesh.send(&bridge, ShardId(1), forget(sid)).is_ok());
        }
        assert!(mesh.send(&bridge, ShardId(1), forget(sids[0])).is_err(), "the bound");
        assert_eq!(mesh.spilled(), 2 * MESH_SPILL_MAX);
        assert!(mesh.send(&bridge, ShardId(0), forget(sids[0])).is_ok(), "another receiver is not affected");
        let mut got = Vec::new();
        while got.len() < sids.len() {
            bridge.drain_into(ShardId(1), |message| match message {
                MeshMessage::Parcel(Parcel::Forget { sid }) => got.push(sid),
                _ => unreachable!("only these were sent"),
            });
            mesh.retry(&bridge);
        }
        assert_eq!((got, mesh.spilled()), (sids, 0));
    }
}
