//! How another thread wakes a shard that sleeps in its ring: an eventfd that the ring polls.
//!
//! The counter is never read: every ring of the bell is an event of its own, and 2^64 of them do not come.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::Arc,
    task::{Wake, Waker},
};

/// Shared with the threads that wake this shard, hence the `Arc`.
pub struct Bell(OwnedFd);

impl Bell {
    pub fn new() -> io::Result<Arc<Bell>> {
        // SAFETY: a system call without pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the system has just made this descriptor for us.
        Ok(Arc::new(Bell(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    pub fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub fn waker(self: &Arc<Bell>) -> Waker {
        Waker::from(self.clone())
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the pointer and the length are an array's, which is only read. It cannot fail but when the counter is full, and then the
        // sleeper has been woken often enough.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}
