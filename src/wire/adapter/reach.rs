//! Whom a fleet's audience reaches of ours: what it says, tenant by tenant.
//!
//! Invariant: a tenant is reached by rooms that name it, and by nothing else; what is excepted in one tenant changes nothing in another. What
//! names nobody of ours is left out, and where nothing is left nobody is reached, never everybody.

use super::{Audience, address, socket};
use crate::base::id::{Sid, TenantId};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Whom an audience reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach<'a> {
    pub tenants: BTreeMap<TenantId, Part<'a>>,
    /// Sockets named by their ids alone; whose tenant each is, its shard knows. They are reached unless they are in a room their tenant's part
    /// excepts, or in [`except`](Self::except).
    pub sockets: Vec<Sid>,
    /// Sockets that are not reached, of whatever tenant.
    pub except: Vec<Sid>,
    /// Rooms that reach nobody: without a tenant, and no socket's id. To be counted: on a Node server they were rooms.
    pub unknown: usize,
}

/// One tenant's part: who is in any of the rooms, or all of the tenant, and in none of `except`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part<'a> {
    pub rooms: Vec<&'a str>,
    /// Everybody: only where the server has one tenant.
    pub all: bool,
    pub except: Vec<&'a str>,
}

impl Part<'_> {
    /// Whether it is there for what it excepts of the sockets named by their ids alone.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty() && !self.all
    }
}

impl<'a> Reach<'a> {
    pub fn of(audience: &'a Audience<'_>, single_tenant: Option<&TenantId>) -> Reach<'a> {
        let mut reach = Reach::default();
        if audience.is_everybody()
            && let Some(single) = single_tenant
        {
            reach.tenants.entry(single.clone()).or_default().all = true;
        }
        for room in &audience.rooms {
            let (named, sid) = (address(room, single_tenant), bare(room));
            reach.unknown += usize::from(named.is_none() && sid.is_none());
            reach.sockets.extend(sid);
            if let Some((tenant, name)) = named {
                reach.tenants.entry(tenant).or_default().rooms.push(name);
            }
        }
        for room in &audience.except {
            reach.except.extend(bare(room));
            let Some((tenant, name)) = address(room, single_tenant) else { continue };
            if !reach.sockets.is_empty() {
                // It may be the tenant of one of them.
                reach.tenants.entry(tenant).or_default().except.push(name);
            } else if let Some(part) = reach.tenants.get_mut(&tenant) {
                part.except.push(name);
            }
        }
        reach
    }

    /// Whether nobody is reached.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.tenants.values().all(Part::is_empty)
    }
}

/// The rooms of a list that are this tenant's: what its sockets may be made to join or leave.
pub fn rooms_of<'a>(rooms: &'a [Cow<'_, str>], tenant: &TenantId, single_tenant: Option<&TenantId>) -> Vec<&'a str> {
    let own = |room: &'a Cow<'_, str>| address(room, single_tenant).filter(|(of, _)| of == tenant);
    rooms.iter().filter_map(own).map(|(_, name)| name).collect()
}

/// A name that is a socket's id and nothing more; behind a tenant it is a name of that tenant's, for its shard to look up.
fn bare(room: &str) -> Option<Sid> {
    socket(room).filter(|_| !room.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chance::Chance;
    use crate::base::id::{NodeId, ShardId};

    /// `tenant: rooms not except`, then sockets, then what is unknown.
    fn shown(rooms: &[&str], except: &[&str], single: Option<&str>) -> String {
        let list = |list: &[&str]| list.iter().map(|room| Cow::Owned((*room).to_owned())).collect::<Vec<_>>();
        let audience = Audience { rooms: list(rooms), except: list(except), ..Audience::default() };
        let single = single.and_then(TenantId::parse);
        let reach = Reach::of(&audience, single.as_ref());
        let part = |(tenant, part): (&TenantId, &Part<'_>)| {
            let rooms = if part.all { "all".into() } else { part.rooms.join("+") };
            let except = if part.except.is_empty() { String::new() } else { format!(" not {}", part.except.join("+")) };
            format!("{tenant}: {rooms}{except}")
        };
        let mut out: Vec<String> = reach.tenants.iter().map(part).collect();
        out.push(format!("{} {} {}", reach.sockets.len(), reach.except.len(), reach.unknown));
        assert_eq!(reach.is_empty(), reach.sockets.is_empty() && reach.tenants.values().all(Part::is_empty));
        out.join("; ")
    }

    #[test]
    fn nothing_crosses_a_tenant() {
        let sid = Sid::new(NodeId(1), ShardId(0), &mut Chance::new([2; 32])).to_string();
        let of_acme = format!("acme/{sid}");
        type Row<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a str>, String);
        let table: [Row<'_>; 12] = [
            (&["acme/a", "acme/b"], &["acme/c"], None, "acme: a+b not c; 0 0 0".into()),
            (&["acme/a", "beta/a"], &["beta/c"], None, "acme: a; beta: a not c; 0 0 0".into()),
            (&["acme/a"], &["beta/c", "c"], None, "acme: a; 0 0 0".into()),
            (&["a", "acme/"], &[], None, "0 0 2".into()),
            (&[], &[], None, "0 0 0".into()),
            (&[], &["acme/a"], None, "0 0 0".into()),
            (&[&sid], &["acme/a"], None, "acme:  not a; 1 0 0".into()),
            (&[&of_acme], &[&sid], None, format!("acme: {sid}; 0 1 0")),
            (&[], &["a"], Some("main"), "main: all not a; 0 0 0".into()),
            (&["a", "main/b", "acme/c"], &["main/d"], Some("main"), "main: a+b+acme/c not d; 0 0 0".into()),
            (&[&sid], &[], Some("main"), format!("main: {sid}; 1 0 0")),
            (&[""], &[], Some("main"), "0 0 1".into()),
        ];
        for (rooms, except, single, want) in table {
            assert_eq!(shown(rooms, except, single), want, "{rooms:?} {except:?} {single:?}");
        }
    }

    #[test]
    fn sockets_are_put_into_rooms_of_their_tenant_alone() {
        let list: Vec<Cow<'_, str>> = ["acme/a", "beta/b", "c", "acme/d"].map(Cow::Borrowed).into();
        let acme = TenantId::parse("acme").unwrap();
        assert_eq!(rooms_of(&list, &acme, None), ["a", "d"]);
        assert_eq!(rooms_of(&list, &acme, Some(&acme)), ["a", "beta/b", "c", "d"]);
        let main = TenantId::parse("main");
        assert!(rooms_of(&list, &acme, main.as_ref()).is_empty());
    }
}
