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
        let mut args = format!("{{\"reason\":\"{}\"", gap.code()).into_bytes();
        match room {
            Some(room) => {
                let state = &self.rooms[room];
                args.extend_from_slice(b",\"room\":");
                crate::wire::json::write_string(&mut args, &state.name);
                args.extend_from_slice(
                    format!(",\"epoch\":\"{}\",\"offset\":{}}}", state.epoch, state.top()).as_bytes(),
                );
            }
            None => args.extend_from_slice(format!(",\"epoch\":\"{}\"}}", self.tenants[key].epoch).as_bytes()),
        }
        let args = String::from_utf8(args).unwrap_or_default();
        self.send_to(to, &Outgoing { name: "gap", args: &args, ..Outgoing::default() }, false, None);
    }
}
