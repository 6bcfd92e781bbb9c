//! A shard's way to the backplane, and what waits when its lane is full.
//!
//! Invariant: what a shard asks keeps its order: once something waits, nothing passes it. What waits is bounded by what the shard holds
//! anyway: the backplane's thread empties the lane whether the store is there or not, so a lane stays full for moments, and in such a moment a
//! tenant is opened or closed, or a socket kept or forgotten, a few times at most.

use crate::base::id::ShardId;
use crate::bridge::Bridge;
use crate::shard::{
    neighbour::{self, Errand, News},
    relay::{Relay, Report, Unavailable},
};
use std::collections::VecDeque;

#[derive(Default)]
pub struct Spill {
    waiting: VecDeque<Relay>,
}

/// What became of something that the lane had no room for and that does not wait.
#[derive(Debug)]
pub enum Full {
    /// For the shard, at once.
    Answer(Report),
    Dropped,
}

impl Spill {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn send<T>(&mut self, from: ShardId, bridge: &Bridge<T>, relay: Relay) -> Result<(), Full> {
        let lane = bridge.backplane.as_ref().filter(|_| self.is_empty());
        let refused = match lane {
            Some(lane) => lane.try_send(from, relay).err(),
            None => Some(relay),
        };
        let Some(refused) = refused else { return Ok(()) };
        match refused {
            Relay::Append { ticket, .. } => Err(Full::Answer(Report::Appended { ticket, result: Err(Unavailable) })),
            Relay::Read { ticket, .. } => Err(Full::Answer(Report::Read { ticket, result: Err(Unavailable) })),
            Relay::Claim { ticket, .. } => Err(Full::Answer(Report::Claimed { ticket, result: Err(Unavailable) })),
            Relay::Missed { ticket, .. } => Err(Full::Answer(Report::Missed { ticket, result: Err(Unavailable) })),
            Relay::Neighbour(errand) => match *errand {
                Errand::Ask { to, .. } => {
                    let response = Box::new(neighbour::unavailable());
                    Err(Full::Answer(Report::Neighbour(Box::new(News::Answered { to, response }))))
                }
                // The other node notices by itself.
                Errand::Answer { .. } => Err(Full::Dropped),
                Errand::Left { .. } | Errand::Release => self.put_off(bridge, Relay::Neighbour(errand)),
            },
            Relay::Share { ticket: Some(ticket), .. } => {
                Err(Full::Answer(Report::Shared { ticket, result: Err(Unavailable) }))
            }
            Relay::Tell { .. } | Relay::Answer { .. } => Err(Full::Dropped),
            Relay::Open { .. }
            | Relay::Close { .. }
            | Relay::Save { .. }
            | Relay::Refresh { .. }
            | Relay::Room { .. }
            | Relay::Forget { .. }
            | Relay::Share { ticket: None, .. } => self.put_off(bridge, refused),
        }
    }

    fn put_off<T>(&mut self, bridge: &Bridge<T>, relay: Relay) -> Result<(), Full> {
        // Without a backplane nothing waits for one.
        if bridge.backplane.is_some() {
            self.waiting.push_back(relay);
        }
        Ok(())
    }

    /// Moves what waits into the lane, as far as it has room. Once a turn.
    pub fn retry<T>(&mut self, from: ShardId, bridge: &Bridge<T>) {
        let Some(lane) = &bridge.backplane else { return };
        while let Some(relay) = self.waiting.pop_front() {
            if let Err(relay) = lane.try_send(from, relay) {
                self.waiting.push_front(relay);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{id::TenantId, time::Duration};
    use crate::bridge::{Addresses, Bounds, Errands};
    use crate::shard::relay::{Append, Ticket};
    use std::sync::Arc;

    fn tenant() -> TenantId {
        TenantId::parse("t").unwrap()
    }

    fn append(ticket: u64) -> Relay {
        let append = Append {
            room: "r".into(),
            body: Box::default(),
            id: None,
            id_ttl: Duration::ZERO,
            keep: 1,
            linger: Duration::ZERO,
            wait: None,
            track: None,
        };
        Relay::Append { tenant: tenant(), ticket: Ticket(ticket), append: Box::new(append) }
    }

    #[test]
    fn a_full_lane_refuses_what_is_answered_and_keeps_the_rest_in_order() {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let lane = Arc::new(Errands::new(&[], Bounds { count: 2, bytes: 1 << 20 }));
        let mut bridge: Bridge<()> = Bridge::new(1, 1, Addresses::new(0, 0, hasher));
        bridge.backplane = Some(lane.clone());
        let mut spill = Spill::default();
        let send = |spill: &mut Spill, relay| spill.send(ShardId(0), &bridge, relay);
        for n in 0..2 {
            assert!(send(&mut spill, append(n)).is_ok());
        }
        assert!(matches!(
            send(&mut spill, append(2)),
            Err(Full::Answer(Report::Appended { ticket: Ticket(2), result: Err(Unavailable) }))
        ));
        assert!(matches!(
            send(&mut spill, Relay::Tell { tenant: tenant(), body: Box::default(), in_row: false }),
            Err(Full::Dropped)
        ));
        assert!(send(&mut spill, Relay::Open { tenant: tenant() }).is_ok());
        assert!(send(&mut spill, Relay::Close { tenant: tenant() }).is_ok());
        assert!(lane.try_next().is_some());
        assert!(send(&mut spill, append(3)).is_err(), "nothing passes what waits");
        spill.retry(ShardId(0), &bridge);
        assert!(!spill.is_empty(), "there was room for one");
        assert!(matches!(lane.try_next(), Some((_, Relay::Append { .. }))));
        spill.retry(ShardId(0), &bridge);
        assert!(spill.is_empty());
        assert!(matches!(lane.try_next(), Some((_, Relay::Open { .. }))));
        assert!(matches!(lane.try_next(), Some((_, Relay::Close { .. }))));
    }
}
