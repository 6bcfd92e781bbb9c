//! How the executor sleeps until the shard's own ring has something.
//!
//! A ring's descriptor is readable when it has completions, but glommio 0.9 lets nobody wait for a descriptor; it only waits for its own
//! streams. A stream made of a descriptor polls it at once, though, before it has read anything, and that poll is all that is wanted here:
//! the read that follows fails (`ENOTSOCK`) without having taken anything, and the next wait is a new stream.

use futures_io::AsyncRead;
use glommio::net::TcpStream;
use std::{
    mem::ManuallyDrop,
    os::fd::{FromRawFd, RawFd},
    pin::Pin,
    task::{Context, Poll},
};

/// A wait for one descriptor, which outlives it.
pub struct Wait {
    fd: RawFd,
    /// Never dropped, because that would close the descriptor. One that is over holds nothing but a weak count of the reactor.
    stream: Option<ManuallyDrop<TcpStream>>,
}

impl Wait {
    pub fn new(fd: RawFd) -> Wait {
        Wait { fd, stream: None }
    }

    /// Ready once the descriptor is readable; asked again, it waits again.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the descriptor is open as long as the pump, which owns this, and the stream never closes it.
        let stream = self.stream.get_or_insert_with(|| ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(self.fd) }));
        let ready = Pin::new(&mut **stream).poll_read(cx, &mut [0]);
        if ready.is_ready() {
            self.stream = None;
        }
        ready.map(drop)
    }
}
