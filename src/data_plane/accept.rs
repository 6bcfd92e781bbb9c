//! Listeners, and what a shard does when somebody wants to connect.
//!
//! Every shard listens on the same address by `SO_REUSEPORT` and the kernel spreads connections over them. They are built with socket2:
//! glommio's own have a backlog of 1024, which a wave of reconnecting clients overflows (the kernel then makes them wait a second).
//!
//! Invariant: an accept that fails (no descriptors left) never spins: the listener rests 10 ms, doubling up to a second.

use super::{Plane, State, conn::Conn, count::Count};
use crate::base::time::{Duration, Instant, Now};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, IntoRawFd},
};

/// Connections that wait to be accepted, each shard; the kernel's `somaxconn` caps it.
const BACKLOG: i32 = 4096;
/// Connections accepted before others get their turn.
const ACCEPTS_AT_ONCE: usize = 64;
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Fails when somebody else listens on the address. [`listen`] would not: with `SO_REUSEPORT` two servers started by mistake would share
/// its connections.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// `count` listeners on one address. Port 0: the first gets a port from the system, the others the same.
pub fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let mut address = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        // Inherited by accepted sockets, so no connection needs a system call for it.
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = std::net::TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Drops what asks for a new connection: it is asked again a second later (RFC 6298), and then somebody else listens. A listener that is
/// just closed resets connections that are half made.
fn put_off(socket: &Socket) -> io::Result<()> {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    // A filter of a TCP socket sees the segment from its header on; byte 13 has the flags: SYN without ACK is dropped, all else is let in.
    let mut program = [
        op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 13),
        op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x12),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 0x02),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which outlives the call, as long as its length says; the length is the struct's.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One listening socket of a shard.
pub struct Listener {
    socket: Socket,
    admin: bool,
    /// Connections may be waiting.
    ready: bool,
    /// After a failure: not before this.
    rests_until: Option<Instant>,
    backoff: Duration,
    logged: Option<Instant>,
}

impl Listener {
    pub fn new(socket: std::net::TcpListener, admin: bool) -> Listener {
        Listener { socket: socket.into(), admin, ready: true, rests_until: None, backoff: BACKOFF_MIN, logged: None }
    }

    /// When to look again although the listener says nothing; at once if it is in the middle of its work.
    pub fn deadline(&self) -> Option<Instant> {
        if self.ready { Some(self.rests_until.unwrap_or_default()) } else { None }
    }
}

impl State {
    pub fn listen(&mut self, listener: Listener) {
        let index = self.listeners.len() as u32;
        self.ring.poll_listener(index, listener.socket.as_raw_fd());
        self.listeners.push(Some(listener));
    }

    /// Somebody may be waiting at this listener.
    pub fn knocked(&mut self, index: u32, rearm: bool) {
        let Some(Some(listener)) = self.listeners.get_mut(index as usize) else { return };
        listener.ready = true;
        if rearm {
            self.ring.poll_listener(index, listener.socket.as_raw_fd());
        }
    }

    /// Takes in those who wait, some of them at a time.
    pub fn accept(&mut self, plane: &Plane, now: Now) {
        for index in 0..self.listeners.len() {
            self.accept_from(plane, now, index, ACCEPTS_AT_ONCE);
        }
    }

    /// Has new connections wait for who listens here next; those that are being made are still taken in.
    pub fn put_off(&self) {
        for listener in self.listeners.iter().flatten() {
            if let Err(error) = put_off(&listener.socket) {
                tracing::debug!(%error, "a few new connections may be reset");
            }
        }
    }

    /// Closes the public port, once everybody whom the kernel has queued there is taken in: a close resets them. `all`: the admin port too.
    pub fn close_ports(&mut self, plane: &Plane, now: Now, all: bool) {
        for index in 0..self.listeners.len() {
            if self.listeners[index].as_ref().is_some_and(|listener| all || !listener.admin) {
                self.accept_from(plane, now, index, usize::MAX);
                self.close_listener(index);
            }
        }
    }

    pub fn close_listener(&mut self, index: usize) {
        if let Some(listener) = self.listeners[index].take() {
            self.ring.forget_listener(index as u32);
            self.ring.close(listener.socket.into_raw_fd());
        }
    }

    fn accept_from(&mut self, plane: &Plane, now: Now, index: usize, at_most: usize) {
        for _ in 0..at_most {
            let Some(listener) = &mut self.listeners[index] else { return };
            if listener.deadline().is_none_or(|at| at > now.at) {
                return;
            }
            match listener.socket.accept() {
                Ok((socket, peer)) => {
                    (listener.rests_until, listener.backoff) = (None, BACKOFF_MIN);
                    let admin = listener.admin;
                    self.admit(plane, now, socket, &peer, admin);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                // The peer has gone before it was accepted: nothing is wrong here.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                }
                Err(error) => {
                    self.counts.up(Count::AcceptErrors);
                    if listener.logged.is_none_or(|at| now.at.since(at) >= Duration::from_secs(1)) {
                        tracing::warn!(%error, shard = plane.id.0, "cannot accept");
                        listener.logged = Some(now.at);
                    }
                    listener.rests_until = Some(now.at + listener.backoff);
                    listener.backoff = (listener.backoff * 2).min(BACKOFF_MAX);
                    return;
                }
            }
        }
    }

    /// Takes a connection in, or closes it at once when its address makes too many.
    fn admit(&mut self, plane: &Plane, now: Now, socket: Socket, peer: &SockAddr, admin: bool) {
        let Some(peer) = peer.as_socket() else { return };
        self.counts.up(Count::Accepted);
        if !admin && !plane.bridge.addresses.try_connect(peer.ip(), now.at) {
            self.counts.up(Count::RefusedRate);
            tracing::debug!(address = %peer.ip(), "refused: too many new connections from this address");
            return;
        }
        let fd = socket.into_raw_fd();
        let mut conn = Conn::new(fd, peer.ip(), admin);
        conn.deadline = plane.settings.handshake_deadline(now.at);
        // Its request is often there already.
        conn.readable = true;
        let key = self.conns.insert(conn);
        self.arm(key);
        self.ring.poll(key, fd);
        self.ready.push(key);
    }
}
