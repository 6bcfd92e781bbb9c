//! Whom a fleet's audience reaches, shard by shard.
//!
//! Invariants: a tenant's share goes to its home and to no other; who is named by id alone is looked for everywhere.

use crate::base::id::{ShardId, TenantId};
use crate::shard::foreign::{Share, Whom};
use crate::wire::adapter::{self, Audience, Reach};
use std::{borrow::Cow, collections::BTreeMap};

/// The parts of an audience; empty: nobody is reached.
pub fn shares(to: &Audience<'_>, nsp: &str, single: Option<&TenantId>, shards: u8) -> Vec<(ShardId, Whom)> {
    let reach = Reach::of(to, single);
    if reach.is_empty() {
        return Vec::new();
    }
    let mut parts: BTreeMap<ShardId, Whom> = BTreeMap::new();
    if !reach.sockets.is_empty() {
        for shard in 0..shards {
            parts.entry(ShardId(shard)).or_default().sockets = reach.sockets.clone();
        }
    }
    let own = |list: &[&str]| list.iter().map(|name| Box::from(*name)).collect();
    for (tenant, part) in &reach.tenants {
        let share = Share { rooms: own(&part.rooms), all: part.all, except: own(&part.except) };
        parts.entry(tenant.home(shards)).or_default().tenants.push((tenant.clone(), share));
    }
    for whom in parts.values_mut() {
        whom.namespace = nsp.into();
        whom.except = reach.except.clone();
    }
    parts.into_iter().collect()
}

/// Rooms that sockets are to join or leave, each with its tenant; what names none is nobody's.
pub fn rooms(rooms: &[Cow<'_, str>], single: Option<&TenantId>) -> Vec<(TenantId, Box<str>)> {
    let named = rooms.iter().filter_map(|room| adapter::address(room, single));
    named.map(|(tenant, name)| (tenant, name.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        chance::Chance,
        id::{NodeId, Sid},
    };

    fn shown(rooms: &[&str], except: &[&str], single: Option<&str>) -> Vec<String> {
        let list = |list: &[&str]| list.iter().map(|room| Cow::Owned((*room).to_owned())).collect::<Vec<_>>();
        let to = Audience { rooms: list(rooms), except: list(except), ..Audience::default() };
        let single = single.and_then(TenantId::parse);
        let mut out: Vec<String> = Vec::new();
        for (shard, whom) in shares(&to, "/", single.as_ref(), 2) {
            assert_eq!(&*whom.namespace, "/");
            for (tenant, share) in &whom.tenants {
                assert_eq!(tenant.home(2), shard, "a tenant's share goes to its home");
                let rooms = if share.all { "all".into() } else { share.rooms.join("+") };
                out.push(format!("{tenant}: {rooms} not {}", share.except.join("+")));
            }
            if !whom.sockets.is_empty() {
                out.push(format!("{}: {} by id", shard.0, whom.sockets.len()));
            }
        }
        out.sort();
        out
    }

    #[test]
    fn each_tenant_at_its_home_and_ids_everywhere() {
        let sid = Sid::new(NodeId(1), ShardId(0), &mut Chance::new([2; 32])).to_string();
        for (rooms, except, single, want) in [
            (&["acme/a", "beta/b"][..], &["acme/c"][..], None, vec!["acme: a not c", "beta: b not "]),
            (&["a"], &[], None, vec![]),
            (&[], &[], None, vec![]),
            (&[], &["x"], Some("main"), vec!["main: all not x"]),
            (&[&*sid], &[], None, vec!["0: 1 by id", "1: 1 by id"]),
        ] {
            assert_eq!(shown(rooms, except, single), want, "{rooms:?}");
        }
    }
}
