//! Users of the swarm who come and go, and are told of what waits: each by one client that begins anew each time, has got all that was written to
//! it, and acknowledges when it likes.
//!
//! Checked: in one connection events come in order; what came live or was acknowledged does not come again, unless the connection was let in
//! while the store was away and its node could not know how far others had come; in the end it has got everything that was published to it, but
//! for what the store has lost.

use super::swarm::{Swarm, tenant_token};
use crate::base::id::ConnKey;
use crate::shard::{
    io::{Hangup, Input, Wire},
    tests::field,
};
use std::collections::BTreeSet;

/// A place in a user's own room.
type Place = (String, u64);

#[derive(Default)]
pub struct Absent {
    pub user: String,
    pub at: Option<(usize, ConnKey)>,
    connected: bool,
    /// Its node did not reach the store when it let it in.
    blind: bool,
    /// The newest of this connection.
    last: Option<Place>,
    got: BTreeSet<Place>,
    /// Those that are never to come again.
    done: BTreeSet<Place>,
    unacknowledged: Vec<(String, Place)>,
    /// What was published to it since the store last lost anything, by what its publisher was told.
    expected: BTreeSet<Place>,
    pub queued: u64,
}

impl Absent {
    pub fn new(user: String) -> Absent {
        Absent { user, ..Absent::default() }
    }

    pub fn expect(&mut self, answer: &str) {
        self.expected.insert((field(answer, "epoch").to_owned(), field(answer, "offset").parse().unwrap()));
    }

    pub fn store_lost(&mut self) {
        self.expected.clear();
    }

    pub fn packet(&mut self, packet: &str, is_cut_off: bool) {
        if packet.starts_with("40{") {
            self.connected = true;
            self.blind = is_cut_off;
        }
        let Some(rest) = packet.strip_prefix("42[\"w\",") else { return };
        let place: Place = (field(rest, "epoch").to_owned(), field(rest, "offset").parse().unwrap());
        let is_queued = rest.contains("\"queued\":true");
        let may_come_again = self.blind && !is_queued;
        assert!(
            may_come_again || !self.done.contains(&place),
            "{}: {place:?} comes again, queued {is_queued}",
            self.user
        );
        if let Some((epoch, offset)) = &self.last
            && *epoch == place.0
        {
            assert!(place.1 > *offset, "{}: {place:?} after {offset}, queued {is_queued}", self.user);
        }
        self.last = Some(place.clone());
        self.got.insert(place.clone());
        if is_queued {
            self.queued += 1;
            self.unacknowledged.push((field(rest, "id").to_owned(), place));
        } else {
            self.done.insert(place);
        }
    }

    pub fn is_whole(&self) {
        let missing: Vec<&Place> = self.expected.difference(&self.got).collect();
        assert!(missing.is_empty(), "{}: {missing:?} never came", self.user);
    }
}

impl Swarm {
    /// It comes, acknowledges, goes, or does nothing.
    pub fn absent_acts(&mut self, nth: usize) {
        let Some((node, conn)) = self.absent[nth].at else { return self.absent_comes(nth) };
        match self.chance.below(10) {
            0..4 if self.absent[nth].connected => self.absent_acknowledges(nth),
            4..8 => {
                self.read();
                self.absent[nth].at = None;
                self.rigs[node].input(Input::Hangup { conn, cause: Hangup::Closed });
            }
            _ => {}
        }
    }

    pub fn absent_comes(&mut self, nth: usize) {
        let node = self.chance.below(self.rigs.len() as u64) as usize;
        let absent = &mut self.absent[nth];
        let rig = &mut self.rigs[node];
        let conn = rig.open(Wire::WebSocket, None);
        let token = tenant_token(rig, &absent.user);
        (absent.connected, absent.last) = (false, None);
        absent.unacknowledged.clear();
        absent.at = Some((node, conn));
        rig.say(conn, &format!("40{{\"token\":\"{token}\"}}"));
        self.read();
    }

    pub fn absent_acknowledges(&mut self, nth: usize) {
        self.read();
        let absent = &mut self.absent[nth];
        let Some((node, conn)) = absent.at else { return };
        let given = std::mem::take(&mut absent.unacknowledged);
        let ids: Vec<&String> = given.iter().map(|(id, _)| id).collect();
        self.rigs[node].say(conn, &format!("427[\"received\",{{\"ids\":{ids:?}}}]"));
        absent.done.extend(given.into_iter().map(|(_, place)| place));
    }
}
