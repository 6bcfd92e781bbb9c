//! A connection on its way to another shard.
//!
//! The descriptor is copied (`F_DUPFD_CLOEXEC`) and the old one closed by its task: glommio's stream does not give its own away. Reads on
//! it were waits for readiness, so no byte was taken by the shard it leaves.
//!
//! Invariant: bytes keep their order. What was read and not decoded travels in [`Conn`] and is decoded there before anything new is read;
//! what was decoded has been handled by the shard before it decided the move.

use super::conn::Conn;
use std::{
    io,
    os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd},
};

/// A connection between two shards: dropped, it closes.
pub struct Moved {
    fd: OwnedFd,
    conn: Box<Conn>,
}

impl Moved {
    /// Packs a connection that was removed from its shard's table.
    pub fn pack(mut conn: Conn) -> io::Result<Moved> {
        // SAFETY: F_DUPFD_CLOEXEC takes a descriptor and a number; the connection's task keeps its descriptor open until it has seen that
        // the entry is gone, and it cannot have run since.
        let fd = unsafe { libc::fcntl(conn.fd, libc::F_DUPFD_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // The task it would wake is not one of the other shard's.
        conn.waker = None;
        // SAFETY: the system has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Moved { fd, conn: Box::new(conn) })
    }

    /// The connection with its new descriptor, which is the caller's to own.
    pub fn unpack(self) -> (RawFd, Conn) {
        let mut conn = self.conn;
        let fd = self.fd.into_raw_fd();
        conn.land(fd);
        (fd, *conn)
    }
}
