//! What is said beside a tenant's stream: by other nodes to this one, and to clients where the stream has a hole.

use crate::shard::Shard;
use crate::shard::count::Count;
use crate::shard::encode::Outgoing;
use crate::shard::history::Gap;
use crate::shard::room::RoomKey;
use crate::shard::tenant::TenantKey;
use crate::wire::envelope::Body;

impl Shard {
    /// What another node tells.
    pub(super) fn told(&mut self, key: TenantKey, body: &[u8]) {
        let Ok((origin, body)) = Body::decode(body) else { return self.counts.up(Count::EnvelopesBroken) };
        if let Body::Edition(edition) = &body {
            return self.edition(key, origin, edition);
        }
        if origin == self.origin() {
            return;
        }
        match body {
            Body::Post(post) => {
                if let Some(room) = self.tenants[key].rooms.get(post.room).copied() {
                    let event = super::append::event_of(&post, None);
                    self.deliver(room, &event, None, true, None, None);
                }
            }
            Body::Emit { room, event, args, ephemeral, except: _ } => {
                if let Some(room) = self.tenants[key].rooms.get(room).copied() {
                    self.send_to(room, &Outgoing { name: event, args, ..Outgoing::default() }, ephemeral, None);
                }
            }
            Body::Replaced { pid, generation } => self.replaced_by(key, pid, generation),
            Body::Kick { user } => {
                self.kick(key, user);
            }
            Body::Receivers { id, waiting, missing } => {
                self.hear_receivers(key, origin, id, &waiting, &missing);
            }
            Body::Acked { id, users } => self.hear_acked(key, id, &users),
            Body::Edition(_) => {}
        }
    }

    /// `gap {reason, epoch, room?, offset?}`, to all sockets of a tenant or of one room: something was lost that they would have got.
    pub(super) fn tell_gap(&mut self, key: TenantKey, room: Option<RoomKey>, gap: Gap) {
        let Some(to) = room.or_else(|| self.tenant_room(key)) else { return };
        self.counts.up(Count::Gaps);
        let args = match room {
            Some(room) => self.gap_of_room(room, gap),
            None => format!("{{\"reason\":\"{}\",\"epoch\":\"{}\"}}", gap.code(), self.tenants[key].epoch),
        };
        self.send_to(to, &Outgoing { name: "gap", args: &args, ..Outgoing::default() }, false, None);
    }

    /// What is told of a gap in one room.
    pub(in crate::shard) fn gap_of_room(&self, room: RoomKey, gap: Gap) -> String {
        let state = &self.rooms[room];
        let name = crate::profile::template::quoted(&state.name);
        let (reason, epoch, offset) = (gap.code(), state.epoch, state.top());
        format!("{{\"reason\":\"{reason}\",\"room\":{name},\"epoch\":\"{epoch}\",\"offset\":{offset}}}")
    }
}
