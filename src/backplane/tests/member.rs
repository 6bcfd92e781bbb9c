//! Clients of the swarm that behave as the official one does: they come back with their private id and the last position they were given.
//!
//! Checked: each gets each event of its rooms once and in order; what it did not get was announced, by `gap` or by `recovered: false`.

use super::{delivery, swarm::Swarm};
use crate::base::id::ConnKey;
use crate::shard::tests::field;
use std::collections::{BTreeMap, BTreeSet};

/// Room, epoch and offset.
type Place = (String, String, u64);

/// What one of them knows.
#[derive(Default)]
pub struct Member {
    pub user: String,
    pub at: Option<(usize, ConnKey)>,
    pub connected: bool,
    pub pid: Option<String>,
    pub position: Option<String>,
    /// By room: the place of the next event; none where it cannot know.
    pub rooms: BTreeMap<String, Option<(String, u64)>>,
    /// What it has asked for and was not answered, by the number of the acknowledgement.
    pub asked: BTreeMap<u64, Asked>,
    /// Events that came without a position, because they were to be acknowledged: they may come again to who comes back.
    unplaced: BTreeSet<Place>,
    pub acks: u64,
    pub received: u64,
    pub gaps: u64,
}

pub enum Asked {
    Join(String),
    Leave(String),
    Publish,
    /// To a user who comes and goes; how often the store had lost all by then.
    Tell(usize, u64),
}

impl Member {
    pub fn new(user: String) -> Member {
        Member { user, ..Member::default() }
    }
}

impl Swarm {
    pub fn packet(&mut self, c: usize, packet: &str) {
        if std::env::var_os("SWARM_TRACE").is_some() {
            eprintln!("{c} {:?} <- {packet}", self.clients[c].at);
        }
        let (request, packet) = delivery::request(packet);
        let packet = &*packet;
        let client = &mut self.clients[c];
        if packet.starts_with("40{") {
            client.connected = true;
            let (pid, before) = (field(packet, "pid").to_owned(), client.pid.take());
            if before.as_ref() == Some(&pid) {
                self.recovered += 1;
            } else {
                // A new socket: it is in no room but its own.
                client.rooms.clear();
                client.position = None;
            }
            client.pid = Some(pid);
        } else if let Some(rest) = packet.strip_prefix("42[\"e\",") {
            self.event(c, request, rest);
        } else if packet.starts_with("42[\"gap\"") {
            client.gaps += 1;
            if packet.contains("\"room\":") {
                client.rooms.insert(field(packet, "room").to_owned(), None);
            } else {
                client.rooms.values_mut().for_each(|next| *next = None);
            }
        } else if let Some(rest) = packet.strip_prefix("43") {
            let (number, answer) = rest.split_once('[').unwrap();
            let Some(asked) = client.asked.remove(&number.parse().unwrap()) else { return };
            match asked {
                Asked::Join(room) if answer.contains("\"ok\":true") && answer.contains("\"epoch\"") => {
                    let place =
                        (field(answer, "epoch").to_owned(), field(answer, "offset").parse::<u64>().unwrap() + 1);
                    let next = client.rooms.entry(room.clone()).or_default();
                    // Where it has had events before the answer, those say it.
                    if let Some((epoch, next)) = next
                        && *epoch == place.0
                    {
                        assert_eq!(*next, place.1, "{}: {room}: the answer is of now", client.user);
                    }
                    *next = Some(place);
                }
                Asked::Publish if answer.contains("\"acked\":[") => {
                    self.tallied += delivery::check_told(answer, &self.acknowledged);
                }
                Asked::Tell(absent, losses) if answer.contains("\"ok\":true") && losses == self.losses => {
                    self.absent[absent].expect(answer);
                }
                Asked::Join(room) if answer.contains("\"denied\":[{") => {
                    client.rooms.remove(&room);
                }
                // It may have waited for a join before it; till now its events came.
                Asked::Leave(room) => drop(client.rooms.remove(&room)),
                Asked::Join(_) | Asked::Publish | Asked::Tell(..) => {}
            }
        }
    }

    fn event(&mut self, c: usize, request: Option<u64>, rest: &str) {
        let client = &mut self.clients[c];
        if let Some((request, (node, conn))) = request.zip(client.at)
            && self.chance.below(3) > 0
        {
            self.acknowledged.insert((client.user.clone(), field(rest, "id").to_owned()));
            self.rigs[node].say(conn, &format!("43{request}[]"));
        }
        if rest.contains("\"attempt\":") {
            return;
        }
        let (room, epoch) = (field(rest, "room").to_owned(), field(rest, "epoch").to_owned());
        let offset: u64 = field(rest, "offset").parse().unwrap();
        let data: u64 = rest.split(',').next().unwrap().parse().unwrap();
        client.received += 1;
        let place = (room.clone(), epoch.clone(), offset);
        assert_eq!(*self.places.entry(place.clone()).or_insert(data), data, "a place has one event");
        let is_known = match request {
            Some(_) => !client.unplaced.insert(place),
            None => {
                client.position = Some(rest[rest.rfind(",\"").unwrap() + 2..].trim_end_matches("\"]").to_owned());
                client.unplaced.remove(&place)
            }
        };
        // A join that is not answered yet has no place to begin at.
        let next = client.rooms.entry(room.clone()).or_default();
        if is_known && next.as_ref().is_some_and(|(known, next)| *known == epoch && offset < *next) {
            return;
        }
        if let Some((known, next)) = next
            && *known == epoch
        {
            assert_eq!(offset, *next, "{}: {room} {epoch}: once and in order", client.user);
        } else if next.is_some() {
            assert_eq!(
                offset, 1,
                "{}: {room}: a new epoch that was not announced begins at its beginning",
                client.user
            );
        }
        *next = Some((epoch, offset + 1));
    }
}
