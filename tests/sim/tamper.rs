//! Deliberate faults between shard and client: proof that the checker can fail.

use crate::act::TYPES;
use crate::parse::Packet;
use crate::world::World;

#[derive(Clone, Debug)]
pub enum Tamper {
    Drop,
    Duplicate,
    Swap,
    OtherTenant,
    BeforeToken,
    StrangeAck,
    Attachment,
    Announcement,
    Document,
    /// Somebody's going, at rest.
    Farewell,
    /// Presence, told in another tenant too.
    Roster,
    /// Of a swap: the event that waits to come second.
    Swapping(usize, Packet),
}

pub enum Verdict {
    Pass(Vec<(usize, Packet)>),
    Swallow,
}

impl World {
    pub fn tampered(&mut self, c: usize, packet: Packet) -> Verdict {
        let pass = |packet| Verdict::Pass(vec![(c, packet)]);
        let Some(tamper) = self.tamper.clone() else { return pass(packet) };
        if let (Tamper::BeforeToken, Packet::Open(_)) = (&tamper, &packet) {
            let event = Packet::Event { nsp: self.clients[c].nsp.into(), name: "user:online".into(), args: Vec::new() };
            self.tamper = None;
            return Verdict::Pass(vec![(c, event), (c, packet)]);
        }
        match (&tamper, &packet) {
            (Tamper::Attachment, Packet::Attachment(bytes)) => {
                self.tamper = None;
                return pass(Packet::Attachment([&bytes[..], b"x"].concat()));
            }
            (Tamper::Announcement, Packet::Event { name, .. }) if name == "announced" => {
                self.tamper = None;
                return Verdict::Pass(vec![(c, packet.clone()), (c, packet)]);
            }
            (Tamper::Document, Packet::Event { name, args, .. }) if name == "document:updated" => {
                let id = args.first().and_then(|data| data["document"].as_str()).unwrap_or("");
                if self.clients[c].documents.get(id).is_some_and(|copy| copy.open) {
                    self.tamper = None;
                    return Verdict::Swallow;
                }
                return pass(packet);
            }
            (Tamper::Farewell, Packet::Event { name, args, .. }) if self.clients.iter().any(|client| client.gone) => {
                let goes = name == "user:offline" || args.first().is_some_and(|data| data["offline"].is_array());
                if goes {
                    self.tamper = None;
                    return Verdict::Swallow;
                }
                return pass(packet);
            }
            (Tamper::Roster, Packet::Event { name, args, .. })
                if name == "user:online" || name == "presence:changes" =>
            {
                let tenant = self.clients[c].tenant;
                let other = self.clients.iter().position(|client| client.live && client.tenant != tenant);
                let Some(other) = other else { return pass(packet) };
                self.tamper = None;
                let nsp = self.clients[other].nsp.into();
                let stray = Packet::Event { nsp, name: name.clone(), args: args.clone() };
                return Verdict::Pass(vec![(c, packet), (other, stray)]);
            }
            (Tamper::Attachment | Tamper::Announcement | Tamper::Document | Tamper::Farewell | Tamper::Roster, _) => {
                return pass(packet);
            }
            _ => {}
        }
        let room = |packet: &Packet| match packet {
            Packet::Event { name, args, .. } if TYPES.contains(&name.as_str()) => {
                args.get(1).map(|meta| meta["room"].clone())
            }
            _ => None,
        };
        // Only what the client already holds a place for can be missed.
        let known = room(&packet).and_then(|room| room.as_str().map(str::to_owned)).is_some_and(|room| {
            room != "aud"
                && room != "f0"
                && self.clients[c].rooms.get(&room).is_some_and(|seat| seat.certain && seat.at.is_some())
        });
        if !known || !self.clients[c].live {
            return pass(packet);
        }
        match tamper {
            Tamper::Swapping(other, first) if other == c && room(&first) == room(&packet) => {
                self.tamper = None;
                return Verdict::Pass(vec![(c, packet), (c, first)]);
            }
            Tamper::Swapping(..) | Tamper::BeforeToken => return pass(packet),
            _ => self.tamper = None,
        }
        match tamper {
            Tamper::Drop => Verdict::Swallow,
            Tamper::Duplicate => Verdict::Pass(vec![(c, packet.clone()), (c, packet)]),
            Tamper::Swap => {
                self.tamper = Some(Tamper::Swapping(c, packet));
                Verdict::Swallow
            }
            Tamper::StrangeAck => {
                let ack = Packet::Ack { nsp: self.clients[c].nsp.into(), id: 1 << 40, args: Vec::new() };
                Verdict::Pass(vec![(c, packet), (c, ack)])
            }
            _ => {
                let tenant = self.clients[c].tenant;
                let other = self.clients.iter().position(|client| client.live && client.tenant != tenant);
                let Some(other) = other else {
                    self.tamper = Some(Tamper::OtherTenant);
                    return pass(packet);
                };
                let stray = match packet.clone() {
                    Packet::Event { name, args, .. } => {
                        Packet::Event { nsp: self.clients[other].nsp.into(), name, args }
                    }
                    packet => packet,
                };
                Verdict::Pass(vec![(c, packet), (other, stray)])
            }
        }
    }
}
