//! A connection on its way to another shard.
//!
//! Its descriptor goes with it. The shard it leaves only ever polled it, so no byte was taken that the other does not get.
//!
//! Invariant: bytes keep their order. What was read and not decoded travels in [`Conn`] and is decoded there before anything new is read;
//! what was decoded has been handled by the shard before it decided the move.

use super::conn::Conn;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// A connection between two shards: dropped, it closes.
pub struct Moved {
    fd: OwnedFd,
    conn: Box<Conn>,
}

impl Moved {
    /// Packs a connection that was released from its shard's table.
    pub fn pack(conn: Conn) -> Moved {
        // SAFETY: the entry owned the descriptor and is gone from the table.
        let fd = unsafe { OwnedFd::from_raw_fd(conn.fd) };
        Moved { fd, conn: Box::new(conn) }
    }

    /// The connection, which owns its descriptor again.
    pub fn unpack(self) -> Conn {
        let mut conn = self.conn;
        conn.land(self.fd.into_raw_fd());
        *conn
    }
}
