//! Names of things. Parsed once at the edge; below it nobody checks again.

use super::chance::Chance;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;

/// A core-owned slice of the node, 0 to `SHARDS` - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u8);

impl ShardId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One process of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(pub u16);

/// The isolation unit, as its token names it: 1 to [`TENANT_BYTES_MAX`](super::limit::TENANT_BYTES_MAX) bytes, no control characters, no `/`
/// (a room is addressed from outside as `<tenant>/<room>`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Box<str>);

impl TenantId {
    pub fn parse(text: &str) -> Option<TenantId> {
        let ok = !text.is_empty()
            && text.len() <= super::limit::TENANT_BYTES_MAX
            && !text.chars().any(|c| c.is_control() || c == '/');
        ok.then(|| TenantId(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shard this tenant lives on, of `count`. FNV-1a: stable over builds and machines, and a tenant's name is the operator's
    /// choice, not a peer's.
    pub fn home(&self, count: u8) -> ShardId {
        let hash = self
            .0
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        // FNV's low bits are its weak ones: fold before the remainder.
        ShardId(((hash ^ (hash >> 32)) % u64::from(count.max(1))) as u8)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A session's, socket's or recovery id: 15 bytes, written as exactly 20 characters of base64url, as the Node server's are (its sharded
/// Redis adapter tells a socket's room by that length).
///
/// ```text
/// bytes  0..2   node    big endian
///        2      shard
///        3..15  96 random bits
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sid([u8; 15]);

impl Sid {
    pub fn new(node: NodeId, shard: ShardId, chance: &mut Chance) -> Sid {
        let mut bytes = [0; 15];
        bytes[..2].copy_from_slice(&node.0.to_be_bytes());
        bytes[2] = shard.0;
        chance.fill(&mut bytes[3..]);
        Sid(bytes)
    }

    /// An id that also says in which slot of its shard's slab to look for what it names: 64 random bits are left.
    pub fn at_slot(node: NodeId, shard: ShardId, slot: u32, chance: &mut Chance) -> Sid {
        let mut sid = Sid::new(node, shard, chance);
        sid.0[3..7].copy_from_slice(&slot.to_be_bytes());
        sid
    }

    /// The slot that [`at_slot`](Self::at_slot) wrote. Of any other id, and of one a peer made up, it is some number.
    pub fn slot(&self) -> u32 {
        u32::from_be_bytes([self.0[3], self.0[4], self.0[5], self.0[6]])
    }

    pub fn parse(text: &str) -> Option<Sid> {
        let mut bytes = [0; 15];
        (text.len() == 20 && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()? == 15).then_some(Sid(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 15] {
        &self.0
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Sid> {
        bytes.try_into().ok().map(Sid)
    }

    pub fn node(&self) -> NodeId {
        NodeId(u16::from_be_bytes([self.0[0], self.0[1]]))
    }

    pub fn shard(&self) -> ShardId {
        ShardId(self.0[2])
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 20];
        URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

crate::key!(
    /// One socket (TCP connection) of this shard's data plane.
    ConnKey
);

/// Where the answer to a request goes: a connection, on the shard whose data plane holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplyTo {
    pub shard: ShardId,
    pub conn: ConnKey,
}

impl ReplyTo {
    /// Of no shard: there are at most [`SHARDS_MAX`](super::limit::SHARDS_MAX).
    const ELSEWHERE: ShardId = ShardId(255);

    /// A request that came to another node; the key is the backplane's.
    pub fn elsewhere(request: ConnKey) -> ReplyTo {
        ReplyTo { shard: ReplyTo::ELSEWHERE, conn: request }
    }

    pub fn is_elsewhere(&self) -> bool {
        self.shard == ReplyTo::ELSEWHERE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sid_is_twenty_characters_and_names_its_shard() {
        let mut chance = Chance::new([7; 32]);
        for shard in [0, 1, 255] {
            let sid = Sid::new(NodeId(513), ShardId(shard), &mut chance);
            let text = sid.to_string();
            assert_eq!(text.len(), 20);
            assert_eq!(Sid::parse(&text), Some(sid));
            assert_eq!((sid.node(), sid.shard()), (NodeId(513), ShardId(shard)));
        }
        for bad in ["", "short", "01234567890123456789x", "0123456789012345678=", "0123456789 123456789"] {
            assert_eq!(Sid::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn tenants_spread_over_shards() {
        for shards in [2u8, 3, 8] {
            let mut counts = vec![0; usize::from(shards)];
            for n in 0..3000 {
                counts[TenantId::parse(&format!("tenant-{n}")).unwrap().home(shards).index()] += 1;
            }
            let fair = 3000 / usize::from(shards);
            assert!(counts.iter().all(|&count| count > fair * 8 / 10 && count < fair * 12 / 10), "{counts:?}");
        }
    }

    #[test]
    fn a_tenant_name_is_plain() {
        for bad in ["", "a/b", "a\nb", "\u{7f}", &"x".repeat(257)] {
            assert!(TenantId::parse(bad).is_none(), "{bad:?}");
        }
        assert!(TenantId::parse("Köln 7").is_some());
    }
}
