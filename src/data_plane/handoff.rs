//! A connection on its way to another shard.
//!
//! Its descriptor goes with it, or stays and is [lent](super::loan). The shard it leaves only ever polled it, so no byte was taken that
//! the other does not get.
//!
//! Invariant: bytes keep their order. What was read and not decoded travels in [`Conn`] and is decoded there before anything new is read;
//! what was decoded has been handled by the shard before it decided the move.

use super::conn::Conn;
use crate::base::id::{ConnKey, ShardId};
use std::{
    net::IpAddr,
    os::fd::{FromRawFd, IntoRawFd, OwnedFd},
};

/// A connection between two shards.
pub enum Moved {
    Whole(Whole),
    Lent(Reference),
}

/// With its socket: dropped, it closes.
pub struct Whole {
    fd: OwnedFd,
    conn: Box<Conn>,
}

/// Where its socket is.
pub struct Reference {
    pub lender: ShardId,
    pub conn: ConnKey,
    pub address: IpAddr,
}

impl Moved {
    /// Packs a connection that was released from its shard's table.
    pub fn pack(conn: Conn) -> Moved {
        // SAFETY: the entry owned the descriptor and is gone from the table.
        let fd = unsafe { OwnedFd::from_raw_fd(conn.fd) };
        Moved::Whole(Whole { fd, conn: Box::new(conn) })
    }
}

impl Whole {
    /// The connection, which owns its descriptor again.
    pub fn unpack(self) -> Conn {
        let mut conn = self.conn;
        conn.land(self.fd.into_raw_fd());
        *conn
    }
}
