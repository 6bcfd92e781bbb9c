//! Listeners and the tasks that accept.
//!
//! Every shard listens on the same address by `SO_REUSEPORT` and the kernel spreads connections over them. They are built with socket2:
//! glommio's own have a backlog of 1024, which a wave of reconnecting clients overflows (the kernel then makes them wait a second).
//!
//! Invariant: an accept that fails (no descriptors left) never spins: the task waits 10 ms, doubling up to a second.

use super::{Plane, conn::Conn, count::Count, socket};
use crate::base::time::{Duration, Instant};
use glommio::{
    net::{AcceptedTcpStream, TcpListener, TcpStream},
    timer::Timer,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, IntoRawFd},
    pin::pin,
    rc::Rc,
    task::Poll,
};

/// Connections that wait to be accepted, each shard; the kernel's `somaxconn` caps it.
const BACKLOG: i32 = 4096;
/// Connections accepted before other tasks get their turn.
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
        // Left blocking: on a non-blocking listener io_uring's accept answers EAGAIN instead of waiting.
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = std::net::TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Accepts until the drained node has nobody left who might come for a last answer; the admin port until it ends.
pub fn spawn(plane: Rc<Plane>, listener: std::net::TcpListener, admin: bool) {
    glommio::spawn_local(accept_all(plane, listener, admin)).detach();
}

async fn accept_all(plane: Rc<Plane>, listener: std::net::TcpListener, admin: bool) {
    // SAFETY: the descriptor is an owned, listening socket and is given away here.
    let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
    let mut backoff = BACKOFF_MIN;
    let mut logged: Option<Instant> = None;
    let mut at_once = 0;
    while let Some(result) = next(&plane, &listener, admin).await {
        match result {
            Ok(stream) => {
                backoff = BACKOFF_MIN;
                admit(&plane, stream, admin);
                at_once += 1;
                if at_once == ACCEPTS_AT_ONCE {
                    at_once = 0;
                    yield_once().await;
                }
            }
            // The peer has gone before it was accepted: nothing is wrong here.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                let now = plane.now().at;
                plane.state.borrow_mut().counts.up(Count::AcceptErrors);
                if logged.is_none_or(|at| now.since(at) >= Duration::from_secs(1)) {
                    tracing::warn!(%error, shard = plane.id.0, "cannot accept");
                    logged = Some(now);
                }
                Timer::new(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Waits for a connection; none when its port is closed.
async fn next(plane: &Plane, listener: &TcpListener, admin: bool) -> Option<io::Result<TcpStream>> {
    let mut accept = pin!(listener.shared_accept());
    poll_fn(|cx| {
        if let Poll::Ready(result) = accept.as_mut().poll(cx) {
            return Poll::Ready(Some(result.map(AcceptedTcpStream::bind_to_executor).map_err(io::Error::from)));
        }
        let mut state = plane.state.borrow_mut();
        // What the kernel has queued is taken before the listener closes and resets it.
        if state.ending || state.closed && !admin {
            return Poll::Ready(None);
        }
        if !state.acceptors.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.acceptors.push(cx.waker().clone());
        }
        Poll::Pending
    })
    .await
}

/// Takes a connection in, or closes it at once when its address makes too many.
fn admit(plane: &Rc<Plane>, stream: TcpStream, admin: bool) {
    // Gone already: nobody to tell.
    let Ok(peer) = stream.peer_addr() else { return };
    let now = plane.now().at;
    let mut state = plane.state.borrow_mut();
    state.counts.up(Count::Accepted);
    if !admin && !plane.bridge.addresses.try_connect(peer.ip(), now) {
        state.counts.up(Count::RefusedRate);
        tracing::debug!(address = %peer.ip(), "refused: too many new connections from this address");
        return;
    }
    let mut conn = Conn::new(stream.as_raw_fd(), peer.ip(), admin);
    conn.deadline = plane.settings.handshake_deadline(now);
    let key = state.conns.insert(conn);
    state.arm(key);
    // A new task runs at once: it must find the state free.
    drop(state);
    socket::spawn(plane.clone(), stream, key);
}

/// Lets other tasks run once.
pub async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
