//! The names of everything a tenant has in the store.
//!
//! ```text
//! tc:n:<number>           a node's channel; and string: the process that has the number
//! tc:{acme}               channel
//! tc:{acme}:m             hash: e epoch, s sequence, c birth mark of rooms that never had events, b sequence up to which rooms were lost,
//!                         n:<origin> number and time of a process' newest append, p when it was last said how long all this is kept
//! tc:{acme}:z             sorted set: rooms that ever had events, by the sequence of their newest
//! tc:{acme}:h:<room>      stream: `<sequence>-<offset>`, e room's epoch, b body, t Unix ms
//! tc:{acme}:r:<origin>    hash: number -> "sequence room-epoch offset" of the appends of a process' newest batch
//! tc:{acme}:i:<id>        string: "sequence room-epoch offset origin:number" of an event whose publisher chose its id
//! tc:{acme}:p:<pid>       string: a saved socket
//! tc:{acme}:c:<origin>:<number>   string: a socket that was claimed, for as long as the claim may be repeated
//! tc:{acme}:qb            hash: what waits for users who are away, by sequence, and what that counts: see lua/queue.lua
//! tc:{acme}:qu            sorted set: users and sequences of it
//! tc:{acme}:qa            sorted set: the sequences by the time until which they wait
//! tc:{acme}:qr            hash: events whose senders are told who has got them, by id: see lua/receipt.lua
//! tc:{acme}:qt            sorted set: these ids by the time until which that is so
//! tc:{acme}:d:<document>  string: a document
//! tc:{acme}:dz            sorted set: the documents, by the time in Unix ms when they end
//! tc:{acme}:dw            hash: document -> bytes, and "" -> bytes of all of them
//!
//! tc:{acme}:n             sorted set: processes that have users, by when their lease is over (`lua/presence.lua` has the layouts)
//! tc:{acme}:n:<origin>    hash: user -> what this process has of it: sessions, last sign of life, rooms
//! tc:{acme}:u             hash: user -> sessions and processes it is on, how it is; has a field exactly while the user is somewhere
//! tc:{acme}:w             sorted set by name: room, user, sockets, process
//! tc:{acme}:c             hash: room -> sockets in it; the nameless one: sessions of the tenant
//! tc:{acme}:l             sorted set: users who have gone, by their last sign of life
//! tc:{acme}:a             hash: user -> how it was when it went
//! tc:a:{10.0.0.1}         hash: `<origin>:<shard>` -> "count time" of the connections of an address, and until when in Unix ms they count
//! ```
//!
//! Invariants: a tenant is in one slot of a Cluster, whatever its name; no name of one tenant is a name of another, whatever a client calls
//! its rooms: `}` and `%` of a tenant are escaped, so that it ends where its brace does.
//!
//! In a Cluster, where a script gives events rows of a stream that all tenants share, all of this is in that stream's slot: `tc:{socket.io}:`
//! instead of `tc:`.

use crate::base::id::{NodeId, Sid, TenantId};
use crate::wire::envelope::Origin;
use std::fmt::Write;

/// How long a tenant that nobody publishes to is remembered: longer than any of its rooms.
pub const TENANT_TTL_MS: u64 = 7 * 24 * 3600 * 1000;
/// How long a batch may be repeated and still learn its places.
pub const BATCH_TTL_MS: u64 = 3_600_000;
/// How long a claim may be repeated.
pub const CLAIM_TTL_MS: u64 = 60_000;

#[derive(Clone, Debug)]
pub struct Keys {
    prefix: Box<str>,
    origin: Origin,
}

impl Keys {
    /// `prefix` has no brace.
    pub fn new(prefix: &str, origin: Origin) -> Keys {
        Keys { prefix: prefix.into(), origin }
    }

    /// All of them in the slot of a key with this tag, which has no brace.
    pub fn in_slot(prefix: &str, tag: &str, origin: Origin) -> Keys {
        Keys { prefix: format!("{prefix}:{{{tag}}}").into(), origin }
    }

    pub fn channel(&self, tenant: &TenantId) -> String {
        let mut name = format!("{}:{{", self.prefix);
        for c in tenant.as_str().chars() {
            match c {
                '}' => name.push_str("%7D"),
                '%' => name.push_str("%25"),
                c => name.push(c),
            }
        }
        name.push('}');
        name
    }

    /// No tenant's: those begin with a brace.
    pub fn node(&self, node: NodeId) -> String {
        format!("{}:n:{}", self.prefix, node.0)
    }

    pub fn hash(&self, tenant: &TenantId) -> String {
        self.channel(tenant) + ":m"
    }

    pub fn rooms(&self, tenant: &TenantId) -> String {
        self.channel(tenant) + ":z"
    }

    pub fn stream(&self, tenant: &TenantId, room: &str) -> String {
        self.channel(tenant) + ":h:" + room
    }

    pub fn batch(&self, tenant: &TenantId) -> String {
        let mut name = self.channel(tenant);
        let _ = write!(name, ":r:{}", self.origin());
        name
    }

    pub fn receipt(&self, tenant: &TenantId, id: &str) -> String {
        self.channel(tenant) + ":i:" + id
    }

    pub fn socket(&self, tenant: &TenantId, pid: Sid) -> String {
        let mut name = self.channel(tenant);
        let _ = write!(name, ":p:{pid}");
        name
    }

    pub fn claim(&self, tenant: &TenantId, number: u64) -> String {
        let mut name = self.channel(tenant);
        let _ = write!(name, ":c:{}:{number}", self.origin());
        name
    }

    /// Bodies, users and ages of what waits for users who are away.
    pub fn waiting(&self, tenant: &TenantId) -> [String; 3] {
        ["qb", "qu", "qa"].map(|name| self.channel(tenant) + ":" + name)
    }

    /// Events whose senders are told who has got them, and their order.
    pub fn tracked(&self, tenant: &TenantId) -> [String; 2] {
        ["qr", "qt"].map(|name| self.channel(tenant) + ":" + name)
    }

    /// In the slot of a tenant that were called as the address is.
    pub fn address(&self, address: &TenantId) -> String {
        format!("{}:a:{{{}}}", self.prefix, address.as_str())
    }

    pub fn document(&self, tenant: &TenantId, document: &str) -> String {
        self.channel(tenant) + ":d:" + document
    }

    pub fn document_ends(&self, tenant: &TenantId) -> String {
        self.channel(tenant) + ":dz"
    }

    pub fn document_weights(&self, tenant: &TenantId) -> String {
        self.channel(tenant) + ":dw"
    }

    /// This process in hexadecimal, as the store knows it.
    pub fn origin(&self) -> String {
        format!("{:x}", self.origin.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::adapter::streams::tag;

    #[test]
    fn all_can_be_in_the_slot_of_one_key() {
        let (keys, acme) = (Keys::in_slot("tc", tag("socket.io"), Origin(255)), TenantId::parse("a}b").unwrap());
        assert_eq!(keys.hash(&acme), "tc:{socket.io}:{a%7Db}:m");
        for key in [keys.channel(&acme), keys.node(NodeId(7)), keys.address(&TenantId::parse("10.0.0.1").unwrap())] {
            assert_eq!(tag(&key), "socket.io", "{key}");
        }
    }

    #[test]
    fn a_tenant_is_one_hash_tag_and_no_name_is_anothers() {
        let keys = Keys::new("tc", Origin(255));
        let tenant = |text: &str| TenantId::parse(text).unwrap();
        for (name, channel) in [
            ("acme", "tc:{acme}"),
            ("a b", "tc:{a b}"),
            ("a}b", "tc:{a%7Db}"),
            ("a%7Db", "tc:{a%257Db}"),
            ("}", "tc:{%7D}"),
            ("{x", "tc:{{x}"),
        ] {
            assert_eq!(keys.channel(&tenant(name)), channel, "{name}");
        }
        // Without the escape these would be one key.
        assert_ne!(keys.hash(&tenant("x}:h:r")), keys.stream(&tenant("x"), "r}:m"));
        assert_eq!(keys.stream(&tenant("x"), "}:m{}"), "tc:{x}:h:}:m{}");
        assert_eq!(keys.claim(&tenant("x"), 7), "tc:{x}:c:ff:7");
    }
}
